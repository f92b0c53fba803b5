//! The table of batches: which are shown, and in what order.

use std::collections::HashSet;

use dsascope_core::event::Key;
use dsascope_core::model::{Batch, Model};

/// Open batches kept for display; the model may follow many more.
const OPEN: usize = 64;

/// Batches of `only`, or of every file whose row is shown: open ones first, then those that ended, newest first in each.
pub(crate) fn collect(model: &Model, only: Option<Key>, rows: &HashSet<Key>) -> Vec<Batch> {
    let fits = |batch: &&Batch| {
        let key = batch.context.key();
        only.map_or_else(|| rows.contains(&key), |only| key == only)
    };
    let mut open: Vec<&Batch> = model.batches().open().filter(fits).collect();
    open.sort_by_key(|batch| (std::cmp::Reverse(batch.last_ns), batch.context.key(), batch.id));
    open.truncate(OPEN);
    open.into_iter().chain(model.batches().ended().rev().filter(fits)).cloned().collect()
}
