//! What people type: `faults/s > 1000 for 2s`, `copy.p99 > 1.2x`, `process == "redis" and copy > 50us`. Words, signs, quantities; errors point at
//! the place.
//!
//! Owns: the lexer, quantities, and which known name an unknown word may have meant. Refuses: what the words mean; each user has its own
//! ([`crate::trigger`], [`crate::filter`]).

use std::fmt;

/// What is wrong with a condition, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    pub text: String,
    /// In characters.
    pub at: usize,
    pub what: String,
}

impl fmt::Display for ConditionError {
    /// Three lines: the text, a mark below the place, what is wrong there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "{text}\n{}^ {}", " ".repeat(self.at), self.what)
    }
}

impl std::error::Error for ConditionError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Comparison {
    #[must_use]
    pub fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
        }
    }

    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sign())
    }
}

/// Units and how many of the smallest each is. One without a name is that of a bare number.
pub type Units = [(&'static str, u64)];

/// In nanoseconds.
pub const TIME: &Units = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
pub const BYTES: &Units =
    &[("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
pub const COUNT: &Units = &[("", 1)];

/// A number with what it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    Number(f64),
    /// `10%` is 10.
    Percent(f64),
    /// `1.2x`.
    Times(f64),
    Nanoseconds(f64),
}

/// A condition being read from left to right.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    /// Where the last thing that was read began.
    last: usize,
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, rest: text, last: 0 }
    }

    /// The error that something is wrong with what was read last.
    #[must_use]
    pub fn error(&self, what: impl Into<String>) -> ConditionError {
        self.error_at(self.last, what)
    }

    /// Where what was read last began.
    #[must_use]
    pub const fn place(&self) -> usize {
        self.last
    }

    /// The error that something is wrong at a [`Self::place`].
    #[must_use]
    pub fn error_at(&self, place: usize, what: impl Into<String>) -> ConditionError {
        let at = self.text.char_indices().take_while(|(at, _)| *at < place).count();
        ConditionError { text: self.text.into(), at, what: what.into() }
    }

    /// What comes next, not taken; `None` at the end.
    pub fn peek(&mut self) -> Option<char> {
        self.begin();
        self.rest.chars().next()
    }

    /// What follows without a space between, not taken.
    #[must_use]
    pub fn adjoins(&self) -> Option<char> {
        self.rest.chars().next().filter(|c| !c.is_whitespace())
    }

    /// The first of `signs` that comes next, taken.
    pub fn sign(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        self.begin();
        let sign = signs.iter().find(|sign| self.rest.starts_with(**sign))?;
        self.take(sign.len());
        Some(sign)
    }

    /// Text in double or single quotes, taken, if it comes next. A backslash takes the character behind it as it is.
    ///
    /// # Errors
    /// It has no end.
    pub fn quoted(&mut self) -> Result<Option<String>, ConditionError> {
        let Some(quote) = self.peek().filter(|c| matches!(c, '"' | '\'')) else { return Ok(None) };
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.take(at + quote.len_utf8());
                    return Ok(Some(text));
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        Err(self.error(format!("the text has no closing {quote}")))
    }

    /// A number with one of `units` behind it, exactly, in the smallest of them; hexadecimal where a number may stand bare.
    ///
    /// # Errors
    /// There is none, it has another unit, or it is no whole number of 64 bits. `like`: what was expected.
    pub fn whole(&mut self, units: &Units, like: &str) -> Result<u64, ConditionError> {
        self.begin();
        let expected = |reader: &Self| reader.error(format!("expected {like}"));
        if let Some(hexadecimal) =
            self.rest.strip_prefix("0x").filter(|_| units.iter().any(|unit| unit.0.is_empty()))
        {
            let end = hexadecimal.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(hexadecimal.len());
            let number = u64::from_str_radix(&hexadecimal[..end], 16).map_err(|_| expected(self))?;
            self.take(2 + end);
            return Ok(number);
        }
        let number = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest.len());
        let behind = &self.rest[number..];
        let unit =
            &behind[..behind.find(|c: char| !(c.is_alphanumeric() || c == '%')).unwrap_or(behind.len())];
        let (_, scale) =
            *units.iter().find(|(name, _)| number > 0 && *name == unit).ok_or_else(|| expected(self))?;
        let whole = scaled(&self.rest[..number], scale).ok_or_else(|| expected(self))?;
        self.take(number + unit.len());
        Ok(whole)
    }

    fn begin(&mut self) {
        self.rest = self.rest.trim_start();
        self.last = self.text.len() - self.rest.len();
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    /// Letters, digits and `/ - _ .`; empty at the end and before anything else.
    pub fn word(&mut self) -> &'a str {
        self.begin();
        let end = |c: char| !(c.is_ascii_alphanumeric() || "/-_.".contains(c));
        self.take(self.rest.find(end).unwrap_or(self.rest.len()))
    }

    /// # Errors
    /// There is none.
    pub fn comparison(&mut self) -> Result<Comparison, ConditionError> {
        let Some(sign) = self.sign(&[">=", "<=", ">", "<"]) else {
            return Err(self.error("expected one of > >= < <="));
        };
        Ok(match sign {
            ">=" => Comparison::AtLeast,
            "<=" => Comparison::AtMost,
            ">" => Comparison::Above,
            _ => Comparison::Below,
        })
    }

    /// A number, with `%`, `x`, or a unit of time behind it.
    ///
    /// # Errors
    /// There is no number, or its unit is unknown.
    pub fn quantity(&mut self) -> Result<Quantity, ConditionError> {
        self.begin();
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(self.rest.len());
        let number = self.take(end).parse::<f64>().map_err(|_| self.error("expected a number"))?;
        let unit = self.rest.find(|c: char| !(c.is_alphabetic() || c == '%')).unwrap_or(self.rest.len());
        Ok(match self.take(unit) {
            "" => Quantity::Number(number),
            "%" => Quantity::Percent(number),
            "x" => Quantity::Times(number),
            unit => match TIME.iter().find(|(name, _)| *name == unit) {
                Some((_, scale)) => Quantity::Nanoseconds(number * *scale as f64),
                None => return Err(self.error(format!("the unit {unit} is none of % x ns us ms s m h"))),
            },
        })
    }

    /// # Errors
    /// There is more.
    pub fn end(&mut self) -> Result<(), ConditionError> {
        self.begin();
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("nothing more was expected")) }
    }
}

/// `number` times `unit` without rounding; `None` when that is no whole number of 64 bits.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let parts = u128::from(digits(fraction)?) * u128::from(unit);
    let of = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let sum = u128::from(digits(whole)?) * u128::from(unit) + parts / of;
    if parts % of == 0 { u64::try_from(sum).ok() } else { None }
}

/// The one of `names` that `word` is nearest to, when it is near enough to have been meant.
#[must_use]
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect::<String>().to_ascii_lowercase();
    let distances =
        names.into_iter().map(|name| (strsim::osa_distance(&word, &name.to_ascii_lowercase()), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    // One slip for each three letters: less would make a word of any other.
    (distance <= (word.chars().count() / 3).clamp(1, 3)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities() {
        for (text, quantity) in [
            ("1000", Quantity::Number(1000.0)),
            ("1.5 ", Quantity::Number(1.5)),
            ("10%", Quantity::Percent(10.0)),
            ("1.2x", Quantity::Times(1.2)),
            ("50us", Quantity::Nanoseconds(50_000.0)),
            ("2s", Quantity::Nanoseconds(2e9)),
        ] {
            assert_eq!(Reader::new(text).quantity(), Ok(quantity), "{text}");
        }
        for text in ["", "x", "1..2", "3 s", "5days", "-1"] {
            let mut reader = Reader::new(text);
            assert!(reader.quantity().and_then(|_| reader.end()).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_place() {
        let mut reader = Reader::new("copy ~ 3");
        assert_eq!(reader.word(), "copy");
        let error = reader.comparison().unwrap_err();
        assert_eq!(error.to_string(), "copy ~ 3\n     ^ expected one of > >= < <=");
    }

    #[test]
    fn whole_numbers_are_exact() {
        for (text, units, number) in [
            ("18446744073709551615", COUNT, u64::MAX),
            ("0x7fff00001000", COUNT, 0x7fff_0000_1000),
            ("1.5ms", TIME, 1_500_000),
            ("9007199254740993ns", TIME, 9_007_199_254_740_993),
            ("64KiB", BYTES, 65536),
            ("32", BYTES, 32),
        ] {
            let mut reader = Reader::new(text);
            assert_eq!(reader.whole(units, "a number"), Ok(number), "{text}");
            assert_eq!(reader.end(), Ok(()));
        }
        for (text, units) in [
            ("18446744073709551616", COUNT),
            ("0x10000000000000000", COUNT),
            ("0x", COUNT),
            ("0xg", COUNT),
            ("1.5ns", TIME),
            ("50", TIME),
            ("0x10", TIME),
            ("1.", COUNT),
            (".5", COUNT),
            ("1.2.3", COUNT),
            ("-1", COUNT),
            ("5MB", BYTES),
            ("", COUNT),
            ("ms", TIME),
        ] {
            let error = Reader::new(text).whole(units, "this").expect_err(text);
            assert_eq!((error.at, error.what.as_str()), (0, "expected this"), "{text}");
        }
    }

    #[test]
    fn quoted_text() {
        let mut reader = Reader::new(r#" "a \"b\" \\" 'c"' x "#);
        assert_eq!(reader.quoted(), Ok(Some(r#"a "b" \"#.into())));
        assert_eq!(reader.quoted(), Ok(Some("c\"".into())));
        assert_eq!(reader.quoted(), Ok(None));
        assert_eq!(reader.word(), "x");
        assert_eq!(Reader::new("é \"ab\\").quoted(), Ok(None));
        let mut open = Reader::new("é \"ab\\");
        open.sign(&["é"]);
        assert_eq!(open.quoted().unwrap_err().to_string(), "é \"ab\\\n  ^ the text has no closing \"");
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["process", "status", "copy", "cgroup_path"];
        for (word, name) in [
            ("proces", "process"),
            ("Process", "process"),
            ("porcess", "process"),
            ("cpoy", "copy"),
            ("cgrouppath", "cgroup_path"),
        ] {
            assert_eq!(nearest(word, names), Some(name), "{word}");
        }
        for word in ["", "x", "redis", "staircase"] {
            assert_eq!(nearest(word, names), None, "{word}");
        }
        assert_eq!(nearest("x", []), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text: String) {
            let mut reader = Reader::new(&text);
            let _ = reader.word();
            let _ = reader.comparison().map_err(|error| error.to_string());
            let _ = reader.quantity().map_err(|error| error.to_string());
            let _ = reader.quoted().map_err(|error| error.to_string());
            let _ = reader.whole(TIME, "a time").map_err(|error| error.to_string());
            let _ = reader.sign(&["é", "("]);
            let _ = reader.end().map_err(|error| error.to_string());
        }
    }
}
