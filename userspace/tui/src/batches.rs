//! The table of batches: which are shown, in what order, and where the cursor stands while they change.

use std::collections::HashSet;

use dsascope_core::event::Key;
use dsascope_core::model::{Batch, Model};

use crate::layout;

/// Open batches kept for display; the model may follow many more.
const OPEN: usize = 64;

/// What tells a batch from every other: device, identifier, generation.
pub(crate) type Name = (u16, u8, u64);

pub(crate) fn name(batch: &Batch) -> Name {
    (batch.context.device.id, batch.id, batch.generation)
}

/// The table as it is shown. The cursor follows the first row until it is moved, and then stays on its batch for as long as that is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Batch>,
    chosen: Option<Name>,
    pub(crate) first: usize,
}

impl Table {
    /// Batches of `only`, or of every file whose row is shown: open ones first, then those that ended, newest first in each, and those of
    /// `marked` that the model has no more.
    pub(crate) fn collect(
        &mut self,
        model: &Model,
        only: Option<Key>,
        rows: &HashSet<Key>,
        marked: &[Batch],
    ) {
        let fits = |batch: &&Batch| {
            let key = batch.context.key();
            only.map_or_else(|| rows.contains(&key), |only| key == only)
        };
        let mut open: Vec<&Batch> = model.batches().open().filter(fits).collect();
        open.sort_by_key(|batch| (std::cmp::Reverse(batch.last_ns), name(batch)));
        open.truncate(OPEN);
        self.rows = open.into_iter().chain(model.batches().ended().rev().filter(fits)).cloned().collect();
        // A capture that is played again has not come to all of them.
        let is_gone = |batch: &&Batch| {
            batch.last_ns <= model.now_ns() && !self.rows.iter().any(|row| name(row) == name(batch))
        };
        let mut kept: Vec<&Batch> = marked.iter().filter(fits).filter(is_gone).collect();
        kept.sort_by_key(|batch| std::cmp::Reverse(batch.last_ns));
        self.rows.extend(kept.into_iter().cloned());
    }

    /// Row of the cursor; 0 also when there is none, or the chosen batch is gone.
    pub(crate) fn row(&self) -> usize {
        self.chosen.and_then(|chosen| self.rows.iter().position(|batch| name(batch) == chosen)).unwrap_or(0)
    }

    /// Chooses the batch in `row`; the first row means following again.
    pub(crate) fn choose(&mut self, row: usize) {
        self.chosen = if row == 0 { None } else { self.rows.get(row).map(name) };
    }

    /// Chooses the batch in `row`, also the first.
    pub(crate) fn hold(&mut self, row: usize) {
        self.chosen = self.rows.get(row).map(name);
    }

    /// Row of the chosen batch; `None` while the first row is followed.
    pub(crate) fn held(&self) -> Option<usize> {
        self.is_chosen().then(|| self.row())
    }

    pub(crate) fn is_chosen(&self) -> bool {
        self.chosen.is_some()
    }

    pub(crate) fn scroll(&mut self, height: usize) {
        self.first = layout::scroll(self.first, self.row(), height, self.rows.len());
    }
}
