//! Rows that somebody marked to find them again. A marked fault or batch is kept when the model has forgotten it, so that it stays in its table.
//!
//! Bounded: [`MOST`] of each table, some 100 KiB together. They outlive a capture that is played again: the same events have the same numbers.

use std::collections::BTreeMap;

use dsascope_core::event::Key;
use dsascope_core::model::Batch;

use super::{App, Focus};
use crate::batches;
use crate::faults::Entry;

/// Marked rows of a table.
pub const MOST: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Marks {
    processes: Vec<Key>,
    faults: BTreeMap<u64, Entry>,
    batches: Vec<Batch>,
}

impl Marks {
    pub fn has_process(&self, key: Key) -> bool {
        self.processes.contains(&key)
    }

    pub fn has_fault(&self, entry: &Entry) -> bool {
        self.faults.contains_key(&entry.number)
    }

    pub fn has_batch(&self, batch: &Batch) -> bool {
        self.batches.iter().any(|marked| batches::name(marked) == batches::name(batch))
    }

    /// Oldest first.
    pub(crate) fn faults(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.faults.values()
    }

    pub(crate) fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Takes over what has become of marked batches.
    pub(super) fn renew(&mut self, rows: &[Batch]) {
        for marked in &mut self.batches {
            if let Some(row) = rows.iter().find(|row| batches::name(row) == batches::name(marked)) {
                marked.clone_from(row);
            }
        }
    }

    // Each of these gives false when there are as many as are kept.

    fn turn_process(&mut self, key: Key) -> bool {
        match self.processes.iter().position(|marked| *marked == key) {
            Some(at) => drop(self.processes.remove(at)),
            None if self.processes.len() >= MOST => return false,
            None => self.processes.push(key),
        }
        true
    }

    fn turn_fault(&mut self, entry: &Entry) -> bool {
        if self.faults.remove(&entry.number).is_some() {
            return true;
        }
        let has_room = self.faults.len() < MOST;
        if has_room {
            self.faults.insert(entry.number, entry.clone());
        }
        has_room
    }

    fn turn_batch(&mut self, batch: &Batch) -> bool {
        match self.batches.iter().position(|marked| batches::name(marked) == batches::name(batch)) {
            Some(at) => drop(self.batches.remove(at)),
            None if self.batches.len() >= MOST => return false,
            None => self.batches.push(batch.clone()),
        }
        true
    }
}

impl App {
    /// Marks the row under the cursor, or takes its mark away.
    pub(super) fn turn_mark(&mut self) {
        let done = match (self.focus, &self.batches) {
            (Focus::Processes, _) => {
                let row = self.process_row().checked_sub(1).and_then(|row| self.rows.get(row));
                row.is_none_or(|row| self.marks.turn_process(row.key))
            }
            (Focus::Faults, Some(table)) => {
                table.rows.get(table.row()).is_none_or(|batch| self.marks.turn_batch(batch))
            }
            (Focus::Faults, None) => {
                let entry = self.pick.row(&self.entries).and_then(|row| self.entries.get(row));
                entry.is_none_or(|entry| self.marks.turn_fault(entry))
            }
        };
        if !done {
            self.notice = Some(format!("{MOST} rows of a table can be marked: unmark another first"));
        }
    }

    /// Goes to the next marked row, from the last on to the first.
    pub(super) fn next_marked(&mut self) {
        let marked = self.marked();
        let from = match (self.focus, &self.batches) {
            // Below the row of all processes.
            (Focus::Processes, _) => self.process_row().checked_sub(1),
            (Focus::Faults, Some(table)) => table.held(),
            (Focus::Faults, None) => self.pick.held(&self.entries),
        };
        let below = marked.iter().find(|row| from.is_none_or(|from| **row > from));
        let Some(&row) = below.or(marked.first()) else {
            self.notice = Some("no row of this table is marked".into());
            return;
        };
        self.hold(if self.focus == Focus::Processes { row + 1 } else { row });
    }

    /// The marked rows of the table one is in, as far as they fit the choice.
    pub fn marked(&self) -> Vec<usize> {
        let among = |is_marked: &dyn Fn(usize) -> bool, rows: usize| {
            (0..rows).filter(|&row| is_marked(row)).collect()
        };
        match (self.focus, &self.batches) {
            (Focus::Processes, _) => {
                among(&|row| self.marks.has_process(self.rows[row].key), self.rows.len())
            }
            (Focus::Faults, Some(table)) => {
                among(&|row| self.marks.has_batch(&table.rows[row]), table.rows.len())
            }
            (Focus::Faults, None) => {
                among(&|row| self.marks.has_fault(&self.entries[row]), self.entries.len())
            }
        }
    }

    pub fn marks(&self) -> &Marks {
        &self.marks
    }
}
