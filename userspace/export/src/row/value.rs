//! What a column can hold, and how each value shows itself to the formats.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Days, NaiveDate};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    U8,
    U16,
    U32,
    /// A count or nanoseconds: below 2^63, so that differences and sums stay signed.
    Integer,
    /// All 64 bits are used: an address, an identifier.
    Word,
    Time,
    Date,
}

impl Kind {
    /// As documents name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Bool => "true or false",
            Self::U8 => "8 bits",
            Self::U16 => "16 bits",
            Self::U32 => "32 bits",
            Self::Integer => "integer",
            Self::Word => "64 bits",
            Self::Time => "time, UTC",
            Self::Date => "date, UTC",
        }
    }
}

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Null is "not observed", or "not of this kind of row".
    pub nullable: bool,
    pub doc: &'static str,
}

/// A value of a row, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    Null,
    Text(&'a str),
    Bool(bool),
    /// Of [`Kind::U8`], [`Kind::U16`] and [`Kind::U32`].
    Small(u32),
    Integer(u64),
    Word(u64),
    Time(Time),
    Date(Date),
}

/// A type that a column may have.
pub trait Value {
    const KIND: Kind;
    const NULLABLE: bool = false;
    fn cell(&self) -> Cell<'_>;
}

impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;
    fn cell(&self) -> Cell<'_> {
        self.as_ref().map_or(Cell::Null, Value::cell)
    }
}

macro_rules! values {
    ($($type:ty, $kind:ident, $cell:ident, $of:expr;)*) => {$(
        impl Value for $type {
            const KIND: Kind = Kind::$kind;
            fn cell(&self) -> Cell<'_> {
                let of: fn(&Self) -> _ = $of;
                Cell::$cell(of(self))
            }
        }
    )*};
}

values! {
    bool, Bool, Bool, |value| *value;
    u8, U8, Small, |value| u32::from(*value);
    u16, U16, Small, |value| u32::from(*value);
    u32, U32, Small, |value| *value;
    u64, Integer, Integer, |value| *value;
    Word, Word, Word, |value| value.0;
    Time, Time, Time, |value| *value;
    Date, Date, Date, |value| *value;
}

impl Value for &str {
    const KIND: Kind = Kind::Text;
    fn cell(&self) -> Cell<'_> {
        Cell::Text(self)
    }
}

impl Value for Cow<'_, str> {
    const KIND: Kind = Kind::Text;
    fn cell(&self) -> Cell<'_> {
        Cell::Text(self)
    }
}

/// 64 bits that are no count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Word(pub u64);

/// Nanoseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", extend("format" = "date-time"))]
pub struct Time(pub i64);

/// Days since 1970-01-01, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String", extend("format" = "date"))]
pub struct Date(pub i32);

const NS_PER_S: i64 = 1_000_000_000;
const S_PER_DAY: i64 = 86_400;

impl Time {
    #[must_use]
    pub fn date(self) -> Date {
        let days = self.0.div_euclid(NS_PER_S * S_PER_DAY);
        // An i64 of nanoseconds is 292 years.
        Date(i32::try_from(days).unwrap_or_default())
    }

    /// `2026-11-26T13:37:10.123456789Z`: RFC 3339 with all nine digits, in place.
    #[must_use]
    pub fn text(self) -> Ascii<30> {
        let ns = self.0.rem_euclid(NS_PER_S * S_PER_DAY);
        let (seconds, fraction) = (ns / NS_PER_S, ns % NS_PER_S);
        let mut text = Ascii(*b"0000-00-00T00:00:00.000000000Z");
        text.0[..10].copy_from_slice(&self.date().text().0);
        text.digits(11..13, seconds / 3600);
        text.digits(14..16, seconds / 60 % 60);
        text.digits(17..19, seconds % 60);
        text.digits(20..29, fraction);
        text
    }
}

impl Date {
    /// `2026-11-26`
    #[must_use]
    pub fn text(self) -> Ascii<10> {
        let epoch = DateTime::UNIX_EPOCH.date_naive();
        let away = Days::new(u64::from(self.0.unsigned_abs()));
        let date = if self.0 < 0 { epoch.checked_sub_days(away) } else { epoch.checked_add_days(away) };
        let date = date.unwrap_or(NaiveDate::MAX);
        let mut text = Ascii(*b"0000-00-00");
        text.digits(0..4, i64::from(date.year()));
        text.digits(5..7, i64::from(date.month()));
        text.digits(8..10, i64::from(date.day()));
        text
    }
}

/// A short text of fixed length without a place on the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ascii<const N: usize>([u8; N]);

impl<const N: usize> Ascii<N> {
    fn digits(&mut self, place: std::ops::Range<usize>, mut value: i64) {
        for digit in self.0[place].iter_mut().rev() {
            *digit = b'0' + u8::try_from(value.rem_euclid(10)).unwrap_or_default();
            value /= 10;
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.text().as_str())
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.text().as_str())
    }
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_read_as_chrono_writes_them(ns in any::<i64>()) {
            let theirs = DateTime::from_timestamp_nanos(ns);
            let (ours, day) = (Time(ns).text(), Time(ns).date().text());
            prop_assert_eq!(ours.as_str(), theirs.to_rfc3339_opts(SecondsFormat::Nanos, true));
            prop_assert_eq!(day.as_str(), theirs.date_naive().to_string());
        }
    }
}
