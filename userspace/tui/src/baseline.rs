//! A run that is over, to hold the one that is shown against. Owns: which part of it belongs to what is shown, and what is not the same about
//! the two. Refuses: reading files, and judging figures; that is [`dsascope_core::compare`]'s.

use dsascope_core::compare::{ALL, Difference, Run, Severity, process_group};
use dsascope_core::event::Key;
use dsascope_core::hist::StageHistograms;
use dsascope_core::model::Model;

/// See the module. Its faults are told apart by process ([`dsascope_core::compare::By::Process`]).
#[derive(Clone, Debug)]
pub struct Baseline {
    name: String,
    run: Run,
    /// Some of it could not be read.
    damaged: bool,
}

impl Baseline {
    #[must_use]
    pub fn new(name: String, run: Run, damaged: bool) -> Self {
        Self { name, run, damaged }
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Latencies of the faults that belong to a row: all of one command on a work queue, since numbers of processes mean nothing in
    /// another run. `None`: the baseline has none.
    #[must_use]
    pub fn latency(&self, model: &Model, row: Option<Key>) -> Option<&StageHistograms> {
        match row {
            Some(key) => self.run.latency(&process_group(model, key)),
            None => self.run.latency(ALL),
        }
    }

    /// What is not the same about the two: what makes figures mean something else, and what they may differ for.
    pub(crate) fn differences(&self, model: &Model) -> Differences {
        let words = |d: Difference| format!("{}: {} / {}", d.what, d.a, d.b);
        let (refuse, warn): (Vec<_>, Vec<_>) =
            self.run.differences_to(model).into_iter().partition(|d| d.severity == Severity::Refuse);
        let mut warn: Vec<_> = warn.into_iter().map(words).collect();
        if self.damaged {
            warn.insert(0, "some of the baseline could not be read".into());
        }
        Differences { refuse: refuse.into_iter().map(words).collect(), warn }
    }
}

/// In words, the baseline's first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    pub(crate) refuse: Vec<String>,
    pub(crate) warn: Vec<String>,
}
