//! The filter language: `process == "redis" and status == CRA_XLAT and copy > 50us`, said of one fault. docs/filter.md is its description.
//!
//! A comparison with what was not observed does not hold, whatever the comparison; `is unknown` asks for it. So `!=` takes faults of which
//! something else was observed, and `not` everything else. Pure, and without an allocation for each fault.
//! Owns: the language, the catalogue of fields, completion. Refuses: what is done with what does not fit ([`Sieve`] counts it).

mod complete;
mod constant;
mod field;
mod parse;
mod pattern;
mod sieve;

use std::fmt::{self, Write};
use std::str::FromStr;

pub use complete::{Completion, completions};
pub use constant::{Constant, Vocabulary};
pub use field::{Entry, Field, Kind, Value};
pub use pattern::Pattern;
pub use sieve::{Filtering, Sieve};

use crate::event::Fault;
use crate::expression::{Comparison, ConditionError, TIME};
use crate::model::{Model, Process};
use field::{Facts, Short};

/// A longer text is refused.
pub const MOST_CHARS: usize = 4096;
/// Parentheses and `not` within each other.
pub const MOST_DEPTH: usize = 64;

/// A filter that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    root: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// Two or more.
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    Test(Field, Check),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Check {
    Known(bool),
    Bool(bool),
    Ordered(Comparison, u64),
    /// Is, or where negated is not, one of these.
    Numbers {
        negated: bool,
        any: Box<[u64]>,
    },
    Texts {
        negated: bool,
        any: Box<[Box<str>]>,
    },
    Constants {
        negated: bool,
        any: Box<[Constant]>,
    },
    Like {
        negated: bool,
        pattern: Pattern,
    },
}

impl Filter {
    /// Whether it holds of a fault that the model has taken in, or is about to.
    #[must_use]
    pub fn matches(&self, fault: &Fault, model: &Model) -> bool {
        self.root.holds(&Facts { context: &fault.context, fault: Some(fault), model }) == Some(true)
    }

    /// Whether it holds of every fault of an open file, or of none; `None`: that depends on the fault.
    #[must_use]
    pub fn matches_all_of(&self, process: &Process, model: &Model) -> Option<bool> {
        self.root.holds(&Facts { context: &process.context, fault: None, model })
    }
}

impl Node {
    fn holds(&self, facts: &Facts<'_>) -> Option<bool> {
        match self {
            Self::All(nodes) => decided(nodes, facts, false),
            Self::Any(nodes) => decided(nodes, facts, true),
            Self::Not(node) => node.holds(facts).map(|holds| !holds),
            Self::Test(field, check) => {
                let mut short = Short::default();
                let value = facts.get(*field, &mut short)?;
                Some(check.holds(*field, value))
            }
        }
    }
}

/// One that is `decisive` decides for all; else, one that depends on the fault leaves it open.
fn decided(nodes: &[Node], facts: &Facts<'_>, decisive: bool) -> Option<bool> {
    let mut all = Some(!decisive);
    for node in nodes {
        match node.holds(facts) {
            Some(holds) if holds == decisive => return Some(decisive),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}

impl Check {
    fn holds(&self, field: Field, value: Option<Value<'_>>) -> bool {
        let Some(value) = value else { return *self == Self::Known(false) };
        match (self, value) {
            (Self::Known(known), _) => *known,
            (Self::Bool(wanted), Value::Bool(found)) => *wanted == found,
            (Self::Ordered(comparison, bound), Value::Number(number)) => comparison.holds(number, *bound),
            (Self::Numbers { negated, any }, Value::Number(number)) => any.contains(&number) != *negated,
            (Self::Texts { negated, any }, Value::Text(text)) => {
                any.iter().any(|one| **one == *text) != *negated
            }
            (Self::Constants { negated, any }, Value::Code(kind, code)) => {
                let code = vocabulary(field).map_or(code, |vocabulary| vocabulary.masked(code));
                any.iter().any(|one| one.is(kind, code)) != *negated
            }
            (Self::Like { negated, pattern }, Value::Text(text)) => pattern.matches(text) != *negated,
            (Self::Like { negated, pattern }, Value::Code(kind, code)) => {
                let name = vocabulary(field).and_then(|vocabulary| vocabulary.name_of(kind, code));
                name.is_some_and(|name| pattern.matches(name) != *negated)
            }
            // The parser makes no check that a field's type does not have.
            _ => false,
        }
    }
}

const fn vocabulary(field: Field) -> Option<Vocabulary> {
    match field.kind() {
        Kind::Constant(vocabulary) => Some(vocabulary),
        _ => None,
    }
}

impl FromStr for Filter {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        parse::parse(text).map_err(|(error, _)| error)
    }
}

/// Text that reads back as the same filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |f: &mut fmt::Formatter<'_>, node: &Self, bare: bool| {
            if bare { write!(f, "{node}") } else { write!(f, "({node})") }
        };
        match self {
            Self::All(nodes) | Self::Any(nodes) => {
                let all = matches!(self, Self::All(_));
                for (at, node) in nodes.iter().enumerate() {
                    if at > 0 {
                        f.write_str(if all { " and " } else { " or " })?;
                    }
                    within(
                        f,
                        node,
                        matches!(node, Self::Not(_) | Self::Test(..))
                            || (!all && matches!(node, Self::All(_))),
                    )?;
                }
                Ok(())
            }
            Self::Not(node) => {
                f.write_str("not ")?;
                within(f, node, matches!(**node, Self::Not(_) | Self::Test(..)))
            }
            Self::Test(field, check) => {
                f.write_str(field.name())?;
                check.write(*field, f)
            }
        }
    }
}

impl Check {
    fn write(&self, field: Field, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(true) => f.write_str(" is known"),
            Self::Known(false) => f.write_str(" is unknown"),
            Self::Bool(true) => Ok(()),
            Self::Bool(false) => f.write_str(" == false"),
            Self::Ordered(comparison, bound) => {
                write!(f, " {comparison} ")?;
                write_number(field, *bound, f)
            }
            Self::Numbers { negated, any } => {
                list(f, *negated, any, |number, f| write_number(field, *number, f))
            }
            Self::Texts { negated, any } => list(f, *negated, any, |text, f| write_text(text, f)),
            Self::Constants { negated, any } => {
                list(f, *negated, any, |constant, f| match vocabulary(field) {
                    Some(vocabulary) => constant.write(vocabulary, f),
                    None => write!(f, "{:#04x}", constant.code),
                })
            }
            Self::Like { negated, pattern } => {
                f.write_str(if *negated { " !~ " } else { " ~ " })?;
                write_text(pattern.text(), f)
            }
        }
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    negated: bool,
    any: &[T],
    mut write: impl FnMut(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if let [one] = any {
        f.write_str(if negated { " != " } else { " == " })?;
        return write(one, f);
    }
    f.write_str(if negated { " not in (" } else { " in (" })?;
    for (at, one) in any.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write(one, f)?;
    }
    f.write_char(')')
}

fn write_number(field: Field, number: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match field.kind() {
        Kind::Address => write!(f, "{number:#x}"),
        Kind::Duration | Kind::Time => {
            // The largest unit that it is a whole number of.
            let fits = TIME.iter().rev().filter(|(_, scale)| number > 0 && number.is_multiple_of(*scale));
            let (unit, scale) = fits.copied().next().unwrap_or(("ns", 1));
            write!(f, "{}{unit}", number / scale)
        }
        _ => write!(f, "{number}"),
    }
}

fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests;
