//! Bounded lists of what came last.

use std::collections::VecDeque;

/// Adds to a list that keeps `limit` items, at least one.
#[inline]
pub(super) fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    while queue.len() >= limit.max(1) {
        queue.pop_front();
    }
    queue.push_back(item);
}
