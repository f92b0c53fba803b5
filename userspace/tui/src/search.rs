//! What was typed after `/`: words to look for, or an expression of the filter language. Owns editing, completion, and which rows and faults
//! fit.
//!
//! Words without an operator are looked for in names and numbers. What has an operator is an expression; while it is not one yet, the last one
//! that was stays in use, so that the screen does not jump with each key.

use std::collections::HashSet;

use dsascope_core::event::{Fault, Key};
use dsascope_core::expression::ConditionError;
use dsascope_core::filter::{Completion, Filter, completions};
use dsascope_core::model::Model;

use crate::rows::{Row, contains};
use crate::words;

/// A longer text is not taken.
const MOST_CHARS: usize = 240;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Search {
    text: String,
    wanted: Wanted,
    error: Option<ConditionError>,
    /// The text before completion began, what fits there, and which of it stands in the text.
    offered: Option<(String, Vec<Completion>, usize)>,
}

#[derive(Clone, Debug)]
enum Wanted {
    /// In lower case.
    Words(String),
    Faults(Filter),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Words(String::new())
    }
}

/// Recent faults that fit, for the whole of one look at the model.
pub(crate) struct Fitting<'a> {
    search: &'a Search,
    model: &'a Model,
    /// Files with a recent fault that the expression takes.
    files: HashSet<Key>,
}

impl Search {
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut search = Self { text: text.chars().take(MOST_CHARS).collect(), ..Self::default() };
        search.read();
        search
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is wrong with an expression.
    #[must_use]
    pub fn error(&self) -> Option<&ConditionError> {
        self.error.as_ref()
    }

    /// What can stand at the end.
    #[must_use]
    pub fn completions(&self) -> Vec<Completion> {
        match &self.offered {
            Some((_, offered, _)) => offered.clone(),
            None => completions(&self.text, self.text.len()),
        }
    }

    pub(crate) fn push(&mut self, c: char) {
        if self.text.chars().count() < MOST_CHARS {
            self.text.push(c);
            self.read();
        }
    }

    pub(crate) fn erase(&mut self) {
        self.text.pop();
        self.read();
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts what fits at the end there; asked again, the next that does.
    pub(crate) fn complete(&mut self) {
        let (before, offered, at) = match self.offered.take() {
            Some((before, offered, at)) => (before, offered, at + 1),
            None => (self.text.clone(), self.completions(), 0),
        };
        let Some(completion) = offered.get(at % offered.len().max(1)) else { return };
        let text = before[..completion.replaces.start].to_owned() + &completion.text;
        if text.chars().count() <= MOST_CHARS {
            self.text = text;
            self.read();
            self.offered = Some((before, offered, at));
        }
    }

    fn read(&mut self) {
        self.offered = None;
        self.error = None;
        if !is_expression(&self.text) {
            self.wanted = Wanted::Words(self.text.to_lowercase());
            return;
        }
        match self.text.parse() {
            Ok(filter) => self.wanted = Wanted::Faults(filter),
            Err(error) => {
                // Words that an expression began with are no words to look for.
                if matches!(self.wanted, Wanted::Words(_)) {
                    self.wanted = Wanted::default();
                }
                self.error = Some(error);
            }
        }
    }

    pub(crate) fn fitting<'a>(&'a self, model: &'a Model) -> Fitting<'a> {
        let files = match &self.wanted {
            Wanted::Words(_) => HashSet::new(),
            Wanted::Faults(filter) => {
                let faults = model.recent_faults().filter(|fault| filter.matches(fault, model));
                faults.map(|fault| fault.context.key()).collect()
            }
        };
        Fitting { search: self, model, files }
    }
}

impl Fitting<'_> {
    /// Whether all faults of this file fit, or a recent one does.
    pub(crate) fn takes_row(&self, row: &Row) -> bool {
        match &self.search.wanted {
            Wanted::Words(words) => row.matches(words),
            Wanted::Faults(filter) => {
                let process = self.model.process(row.key);
                let all = process.and_then(|process| filter.matches_all_of(process, self.model));
                all.unwrap_or_else(|| self.files.contains(&row.key))
            }
        }
    }

    /// `row_shown`: the row of its file is in the table.
    pub(crate) fn takes_fault(&self, fault: &Fault, row_shown: bool) -> bool {
        match &self.search.wanted {
            Wanted::Words(needle) => {
                row_shown
                    || contains(&words::operation(fault), needle)
                    || contains(words::outcome(fault), needle)
            }
            Wanted::Faults(filter) => filter.matches(fault, self.model),
        }
    }
}

/// Whether a text is meant as an expression: it has an operator, or a word that joins or turns comparisons.
fn is_expression(text: &str) -> bool {
    let joins = |word: &str| matches!(word, "and" | "or" | "not" | "in" | "is");
    text.contains(['=', '<', '>', '~', '(', '!'])
        || (text.split_whitespace().count() > 1 && text.split_whitespace().any(joins))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Search {
        let mut search = Search::default();
        text.chars().for_each(|c| search.push(c));
        search
    }

    #[test]
    fn words_are_words_and_operators_make_an_expression() {
        for words in ["", "redis", "wq0.1", "session 4", "not", "write_fault", "a/b-c"] {
            assert!(matches!(Search::new(words).wanted, Wanted::Words(_)), "{words}");
        }
        for expression in
            ["pid == 1", "copy>50us", "not write_fault", "copy is known", "write_fault and end_missing"]
        {
            let search = Search::new(expression);
            assert!(matches!(search.wanted, Wanted::Faults(_)) && search.error().is_none(), "{expression}");
        }
    }

    #[test]
    fn the_last_expression_stays_in_use_while_the_next_is_typed() {
        let mut search = typed("pid == 1");
        search.push(' ');
        for c in "and".chars() {
            search.push(c);
            assert!(search.error().is_some());
            assert!(matches!(&search.wanted, Wanted::Faults(filter) if filter.to_string() == "pid == 1"));
        }
        let search = typed("proces =");
        assert!(matches!(&search.wanted, Wanted::Words(words) if words.is_empty()));
        assert_eq!(search.error().map(|error| error.at), Some(0));
    }

    #[test]
    fn completion_goes_round() {
        let mut search = typed("delivered_status");
        let mut seen = Vec::new();
        for _ in 0..3 {
            search.complete();
            seen.push(search.text().to_owned());
        }
        assert_eq!(seen, ["delivered_status_code"; 3]);
        let mut search = typed("pid == 1 or status == CRA_");
        search.complete();
        assert_eq!(search.text(), "pid == 1 or status == CRA_XLAT");
        search.complete();
        assert_eq!(search.text(), "pid == 1 or status == CRA_ALIGN");
        search.complete();
        assert_eq!(search.text(), "pid == 1 or status == CRA_XLAT");
        search.push(' ');
        assert_eq!(search.completions().iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["and", "or"]);
        let mut nothing = typed("process == redis");
        nothing.complete();
        assert_eq!(nothing.text(), "process == redis");
    }
}
