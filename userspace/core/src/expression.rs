//! Small conditions that people type: `faults/s > 1000 for 2s`, `copy.p99 > 1.2x`. Words, a comparison, a quantity; errors point at the place.
//!
//! Owns: the lexer and quantities. Refuses: what the words mean; each user has its own ([`crate::trigger`]).

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
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        })
    }
}

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
#[derive(Debug)]
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
        let at = self.text[..self.last].chars().count();
        ConditionError { text: self.text.into(), at, what: what.into() }
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
        self.begin();
        for (sign, comparison) in [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            (">", Comparison::Above),
            ("<", Comparison::Below),
        ] {
            if self.rest.starts_with(sign) {
                self.take(sign.len());
                return Ok(comparison);
            }
        }
        Err(self.error("expected one of > >= < <="))
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
            "ns" => Quantity::Nanoseconds(number),
            "us" | "µs" => Quantity::Nanoseconds(number * 1e3),
            "ms" => Quantity::Nanoseconds(number * 1e6),
            "s" => Quantity::Nanoseconds(number * 1e9),
            "m" | "min" => Quantity::Nanoseconds(number * 60e9),
            "h" => Quantity::Nanoseconds(number * 3600e9),
            unit => return Err(self.error(format!("the unit {unit} is none of % x ns us ms s m h"))),
        })
    }

    /// # Errors
    /// There is more.
    pub fn end(&mut self) -> Result<(), ConditionError> {
        self.begin();
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("nothing more was expected")) }
    }
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

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text: String) {
            let mut reader = Reader::new(&text);
            let _ = reader.word();
            let _ = reader.comparison().map_err(|error| error.to_string());
            let _ = reader.quantity().map_err(|error| error.to_string());
            let _ = reader.end().map_err(|error| error.to_string());
        }
    }
}
