//! Bounded lists of what came last.

use std::collections::VecDeque;

/// Adds to a list that keeps `limit` items.
#[inline]
pub(super) fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    if limit == 0 {
        return;
    }
    while queue.len() >= limit {
        queue.pop_front();
    }
    queue.push_back(item);
}
