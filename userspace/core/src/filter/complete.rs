//! Completion: what can stand where the cursor is, by the parser's own account of what it expected there.

use std::ops::Range;

use super::parse::{Expected, parse};
use super::{Field, Kind};

/// Something that fits at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Bytes of the text that it stands in place of.
    pub replaces: Range<usize>,
    pub text: String,
    /// What it means, in one sentence.
    pub meaning: String,
}

/// What can stand at `cursor` (in bytes), in the catalogue's order. Nothing within quotes, or where what is before is wrong.
#[must_use]
pub fn completions(text: &str, cursor: usize) -> Vec<Completion> {
    let end = (0..=cursor.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let before = &text[..end];
    let start = before
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || "/-_.".contains(c)))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let (before, begun) = before.split_at(start);
    let expected = match parse(before) {
        Ok(_) => Expected::Connective { open: false },
        Err((_, expected)) => expected,
    };
    let fits = |word: &str| {
        word.len() > begun.len()
            && word.get(..begun.len()).is_some_and(|start| start.eq_ignore_ascii_case(begun))
    };
    let offers = offers(expected).into_iter().filter(|(word, _)| fits(word));
    offers.map(|(text, meaning)| Completion { replaces: start..end, text, meaning }).collect()
}

type Offer = (String, String);

fn offer(word: &str, meaning: impl Into<String>) -> Offer {
    (word.into(), meaning.into())
}

fn offers(expected: Expected) -> Vec<Offer> {
    match expected {
        Expected::Term => {
            let fields = Field::ALL.iter().map(|field| offer(field.name(), field.entry().meaning));
            let more = [
                offer("not", "Faults of which the next does not hold."),
                offer("(", "What belongs together."),
            ];
            fields.chain(more).collect()
        }
        Expected::Operator(field) => operators(field.kind()),
        Expected::Presence => {
            vec![offer("known", "It was observed."), offer("unknown", "It was not observed.")]
        }
        Expected::Value(field) => values(field.kind()),
        Expected::List => vec![offer("(", "The values, with commas between.")],
        Expected::ListGoesOn => vec![offer(",", "One more value."), offer(")", "The end of the list.")],
        Expected::Connective { open } => {
            let close = open.then(|| offer(")", "The end of what was opened last."));
            let words = [offer("and", "Both hold."), offer("or", "At least one holds.")];
            words.into_iter().chain(close).collect()
        }
        Expected::Pattern | Expected::Nothing => Vec::new(),
    }
}

fn operators(kind: Kind) -> Vec<Offer> {
    let mut offers = vec![
        offer("==", "It was observed, and is this."),
        offer("!=", "It was observed, and is something else."),
    ];
    if kind.is_ordered() {
        offers.extend(
            [("<", "Less."), ("<=", "At most."), (">", "More."), (">=", "At least.")]
                .map(|(sign, meaning)| offer(sign, meaning)),
        );
    }
    if kind.is_text() {
        offers.push(offer("~", "It contains this; with * or ?, all of it looks like this."));
        offers.push(offer("!~", "It does not."));
    }
    if kind != Kind::Bool {
        offers.push(offer("in", "It is one of these."));
    }
    offers.push(offer("is", "Whether it was observed at all: `is known`, `is unknown`."));
    offers
}

fn values(kind: Kind) -> Vec<Offer> {
    match kind {
        Kind::Constant(vocabulary) => {
            let names = vocabulary.names();
            names.into_iter().map(|name| offer(name, vocabulary.meaning(name))).collect()
        }
        Kind::Bool => vec![offer("true", ""), offer("false", "")],
        _ => Vec::new(),
    }
}
