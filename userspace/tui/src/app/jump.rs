//! Going straight to what matters: the next failure in the table one is in, and the worst fault of all.

use dsascope_common::hw::completion::status;
use dsascope_core::model::Batch;

use super::{App, Focus, Overlay};

impl App {
    /// Moves the cursor to the next row that failed: below it, or from the first row on while it follows.
    pub(super) fn next_failed(&mut self) {
        match self.focus {
            Focus::Processes => {
                let from = self.process_row();
                let next = self.rows.iter().skip(from).find(|row| row.failures > 0);
                self.selected = next.map(|row| row.key).or(self.selected);
            }
            Focus::Faults => match &mut self.batches {
                Some(table) => {
                    let from = table.held().map_or(0, |row| row + 1);
                    let next = table.rows.iter().skip(from).position(has_failed);
                    next.into_iter().for_each(|next| table.choose(from + next));
                }
                None => {
                    let from = self.pick.held(&self.entries).map_or(0, |row| row + 1);
                    let mut faults = self.entries.iter().map(|entry| &entry.fault).skip(from);
                    let next = faults.position(|fault| fault.copy.has_failed());
                    next.into_iter().for_each(|next| self.pick.choose(&self.entries, from + next));
                }
            },
        }
    }

    /// Decodes the fault that took longest.
    pub(super) fn open_worst(&mut self) {
        let report = self.frozen.as_deref().map_or(&self.report, |(_, report)| report);
        if let Some(fault) = report.worst().first() {
            self.overlay = Some(Overlay::Detail { fault: Box::new(*fault), scroll: 0 });
        }
    }
}

/// An element or its own record was not delivered, or the record says that something failed.
fn has_failed(batch: &Batch) -> bool {
    let record = batch.record.as_ref();
    batch.elements_failed > 0
        || record.is_some_and(|record| {
            let told = record.status.unwrap_or(record.logged_status);
            record.copy.has_failed() || told != status::SUCCESS
        })
}
