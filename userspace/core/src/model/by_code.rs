//! Counts by a code of one byte: a status, an operation.

use std::collections::BTreeMap;

use smallvec::SmallVec;

/// A counter for each code that occurred, ascending. Few do, of one file mostly one or two, which lie in its row: every fault counts in several
/// of these, and tables of all 256 for each of thousands of files would not stay in the processor's cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByCode(SmallVec<[(u8, u64); 2]>);

impl ByCode {
    pub(super) fn add(&mut self, code: u8, count: u64) {
        let at = self.0.iter().position(|&(known, _)| known >= code).unwrap_or(self.0.len());
        match self.0.get_mut(at) {
            Some((known, sum)) if *known == code => *sum += count,
            _ => self.0.insert(at, (code, count)),
        }
    }

    /// How often `code` occurred.
    #[must_use]
    pub fn get(&self, code: u8) -> u64 {
        self.0.iter().find(|&&(known, _)| known == code).map_or(0, |&(_, count)| count)
    }

    /// Codes that occurred, ascending, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        self.0.iter().copied()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(code, count)| self.add(code, count));
    }

    /// What was counted after `before`, an earlier state of these.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut since = Self::default();
        let more = self.iter().map(|(code, count)| (code, count - before.get(code)));
        more.filter(|&(_, count)| count > 0).for_each(|(code, count)| since.add(code, count));
        since
    }
}

impl PartialEq<BTreeMap<u8, u64>> for ByCode {
    fn eq(&self, other: &BTreeMap<u8, u64>) -> bool {
        self.iter().eq(other.iter().map(|(&code, &count)| (code, count)))
    }
}
