//! Counts by a code of one byte: a status, an operation.

use std::collections::BTreeMap;

/// A counter for each code, 2 KiB, allocated with the first count: every fault counts in several of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByCode(Option<Box<[u64; 256]>>);

impl ByCode {
    pub(super) fn add(&mut self, code: u8, count: u64) {
        self.0.get_or_insert_with(|| Box::new([0; 256]))[usize::from(code)] += count;
    }

    /// How often `code` occurred.
    #[must_use]
    pub fn get(&self, code: u8) -> u64 {
        self.0.as_ref().map_or(0, |counts| counts[usize::from(code)])
    }

    /// Codes that occurred, ascending, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        (0..=u8::MAX).map(|code| (code, self.get(code))).filter(|&(_, count)| count > 0)
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
