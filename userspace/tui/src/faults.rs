//! The table of recent faults: which are shown, and where the cursor stands while new ones arrive.

use std::collections::HashSet;

use dsascope_core::event::{Fault, Key};
use dsascope_core::model::Model;

use crate::app::{Marks, scrolled};
use crate::layout;
use crate::search::Fitting;

/// A fault with what its row needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Number of the fault in the session, from 0.
    pub number: u64,
    pub fault: Fault,
    pub command: String,
}

/// Recent faults of `only` (or of every file) that fit the filter, newest first; behind them those that were marked before.
pub(crate) fn collect(
    model: &Model,
    only: Option<Key>,
    rows: &HashSet<Key>,
    fitting: &Fitting<'_>,
    marks: &Marks,
) -> Vec<Entry> {
    let fits = |fault: &(u64, &Fault)| {
        let key = fault.1.context.key();
        only.is_none_or(|only| key == only) && fitting.takes_fault(fault.1, rows.contains(&key))
    };
    let entries = model.recent_numbers().rev().zip(model.recent_faults().rev());
    let entries = entries.filter(fits).map(|(number, fault)| Entry {
        number,
        fault: *fault,
        command: model
            .process(fault.context.key())
            .and_then(|p| p.comm)
            .map(|comm| comm.to_string())
            .unwrap_or_default(),
    });
    let oldest = model.recent_numbers().start;
    let kept =
        marks.faults().rev().filter(|entry| entry.number < oldest && fits(&(entry.number, &entry.fault)));
    entries.chain(kept.cloned()).collect()
}

/// The cursor: it follows the newest fault until it is moved, and then stays on its fault for as long as that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pick {
    chosen: Option<u64>,
    first: usize,
}

impl Pick {
    pub(crate) fn is_chosen(&self) -> bool {
        self.chosen.is_some()
    }

    /// Chooses the fault in `row`; the first row means following the newest again.
    pub(crate) fn choose(&mut self, entries: &[Entry], row: usize) {
        self.chosen = if row == 0 { None } else { entries.get(row).map(|entry| entry.number) };
    }

    /// Chooses the fault in `row`, also the newest.
    pub(crate) fn hold(&mut self, entries: &[Entry], row: usize) {
        self.chosen = entries.get(row).map(|entry| entry.number);
    }

    /// Moves what is shown by `steps` rows, and the cursor no more than it must.
    pub(crate) fn wheel(&mut self, entries: &[Entry], steps: isize, height: usize) {
        let Some(row) = self.row(entries) else { return };
        let to = scrolled(&mut self.first, row, steps, height, entries.len());
        if to != row {
            self.choose(entries, to);
        }
    }

    /// The chosen fault's row, or the nearest older one's when it is gone.
    pub(crate) fn row(&self, entries: &[Entry]) -> Option<usize> {
        let last = entries.len().checked_sub(1)?;
        let Some(number) = self.chosen else { return Some(0) };
        Some(entries.partition_point(|entry| entry.number > number).min(last))
    }

    /// Row of the chosen fault; `None` while the newest is followed, and without faults.
    pub(crate) fn held(&self, entries: &[Entry]) -> Option<usize> {
        self.row(entries).filter(|_| self.is_chosen())
    }

    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// Moves the view so that the cursor is in it.
    pub(crate) fn scroll(&mut self, entries: &[Entry], height: usize) {
        let row = self.row(entries).unwrap_or(0);
        self.first = layout::scroll(self.first, row, height, entries.len());
    }
}
