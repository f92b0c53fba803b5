//! What will follow from a submission, exactly: where completion records lie, how a batch goes, and how many faults that makes.
//!
//! Owns: the device's and driver's rules as far as they decide about faults (idxd-facts sections 1.11 and 2.5). Pure. Refuses: devices that
//! fail, and what a process with faults pending at its exit leaves behind.

use std::ops::AddAssign;

use dsascope_common::hw::completion::status;

use crate::Presence;

/// Where a completion record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Habit {
    Resident,
    Absent,
    ReadOnly,
    Unmapped,
    /// In two pages: the device refuses the descriptor and writes no record.
    Straddling,
}

impl Habit {
    pub const ALL: [Self; 5] =
        [Self::Resident, Self::Absent, Self::ReadOnly, Self::Unmapped, Self::Straddling];

    /// Whether the driver's copy cannot succeed.
    #[must_use]
    pub const fn fails(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Unmapped)
    }

    /// Whether the record comes in the end.
    #[must_use]
    pub const fn is_seen(self) -> bool {
        matches!(self, Self::Resident | Self::Absent)
    }

    /// Whether the device cannot write the record: an absent page it asks for, if it may.
    #[must_use]
    pub const fn faults(self, paging: Paging) -> bool {
        self.fails() || matches!(self, Self::Absent) && !paging.page_requests
    }

    #[must_use]
    pub const fn presence(self) -> Presence {
        match self {
            Self::Resident => Presence::Resident,
            Self::Absent => Presence::Absent,
            Self::ReadOnly => Presence::ReadOnly,
            Self::Unmapped => Presence::Unmapped,
            Self::Straddling => Presence::Straddling,
        }
    }
}

/// What a WQ's device does about absent pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// It may ask for them (PRS); off is what makes completion-record faults.
    pub page_requests: bool,
    /// Descriptors that ask for it wait for operands' pages.
    pub block_on_fault: bool,
}

/// Completion-record faults by what becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub delivered: u64,
    pub failed: u64,
    /// The driver counts them and copies nothing, since nobody asked for the record.
    pub uncopied: u64,
}

impl Faults {
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.delivered + self.failed + self.uncopied
    }

    fn count(&mut self, habit: Habit) {
        if habit.fails() {
            self.failed += 1;
        } else {
            self.delivered += 1;
        }
    }

    /// Of a descriptor that is no batch and no drain, each time that it is submitted.
    #[must_use]
    pub fn of(habit: Habit, paging: Paging) -> Self {
        let mut faults = Self::default();
        if habit.faults(paging) {
            faults.count(habit);
        }
        faults
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.uncopied += other.uncopied;
    }
}

/// A batch as it is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    pub elements: Vec<Element>,
    /// The list's pages from that index on may be made absent.
    pub list_border: Option<u16>,
    /// Whether the batch's own record is asked for also when all goes well.
    pub record_requested: bool,
}

/// A descriptor of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    pub habit: Habit,
    /// It is not started when an earlier one failed or its record faulted.
    pub fence: bool,
    /// It finds nothing at its source.
    pub failing: bool,
}

impl Default for Element {
    fn default() -> Self {
        Self { habit: Habit::Resident, fence: false, failing: false }
    }
}

/// How an element ends that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Succeeds,
    /// For want of a page that there will never be.
    Fails,
    /// For want of a page that can be brought: what is left is submitted by itself.
    Partly,
}

/// How one submission of a batch goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    pub faults: Faults,
    /// Indices of elements whose record comes, and how the element ends.
    pub records: Vec<(u16, Ending)>,
    /// Indices of elements that are not started.
    pub not_started: Vec<u16>,
    /// The batch's own record as its submitter reads it; `None`: it does not come.
    pub record: Option<BatchRecord>,
    /// The copy of an element's record fails, which the driver notes by the batch's identifier.
    pub noted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    pub status: u8,
    pub result: u8,
    pub completed: u32,
}

/// A submission of a batch: all or the rest of it.
#[derive(Clone, Copy, Debug)]
pub struct Play<'a> {
    /// Elements before were executed by an earlier submission.
    pub from: u16,
    /// The list's pages from that index on are absent.
    pub list_absent_from: Option<u16>,
    /// Where the batch's own record lies.
    pub own: Habit,
    pub paging: Paging,
    /// By index of an element: its operands have absent pages. Those beyond have none.
    pub operands_absent: &'a [bool],
}

impl BatchPlan {
    #[must_use]
    pub fn play(&self, how: Play<'_>) -> Played {
        let Play { from, own, paging, .. } = how;
        let count = self.elements.len() as u16;
        let list_ends = how.list_absent_from.filter(|_| !paging.block_on_fault);
        let mut played = Played::default();
        let (mut good, mut logged, mut end) = (true, false, None);
        for (index, element) in (0..count).zip(&self.elements).skip(from.into()) {
            if end.is_none() {
                end = match () {
                    () if list_ends == Some(index) => Some((status::BATCH_PAGE_FAULT, index)),
                    () if element.fence && (!good || logged) => Some((status::BATCH_FAIL, index)),
                    () => None,
                };
            }
            if end.is_some() {
                played.not_started.push(index);
                continue;
            }
            let ending = match () {
                () if element.failing => Ending::Fails,
                () if !paging.block_on_fault
                    && how.operands_absent.get(usize::from(index)) == Some(&true) =>
                {
                    Ending::Partly
                }
                () => Ending::Succeeds,
            };
            good &= ending == Ending::Succeeds;
            logged |= element.habit.faults(paging);
            played.start(index, element.habit, ending, paging);
        }
        let whole = (if good { status::SUCCESS } else { status::BATCH_FAIL }, count);
        let (device, completed) = end.unwrap_or(whole);
        let failed = !good || device == status::BATCH_FAIL || played.noted;
        // The driver's patch.
        let read = if device == status::SUCCESS && failed { status::BATCH_FAIL } else { device };
        let asked = self.record_requested || device != status::SUCCESS;
        // Behind elements in the log the driver writes the record: when it was requested, or tells of a failed copy.
        let comes = if logged { self.record_requested || played.noted } else { asked };
        if logged && !comes {
            played.faults.uncopied += 1;
        } else if comes && (logged || own.faults(paging)) {
            played.faults.count(own);
        }
        if comes && own.is_seen() {
            let completed = u32::from(completed - from);
            played.record = Some(BatchRecord { status: read, result: u8::from(failed), completed });
        }
        played
    }
}

impl Played {
    fn start(&mut self, index: u16, habit: Habit, ending: Ending, paging: Paging) {
        if habit.faults(paging) {
            self.noted |= habit.fails();
            self.faults.count(habit);
        }
        if habit.is_seen() {
            self.records.push((index, ending));
        }
    }

    /// Whether every element was executed in full.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.not_started.is_empty() && self.records.iter().all(|(_, ending)| *ending == Ending::Succeeds)
    }

    /// What the record says when the driver's note of a failed copy was another batch's, or another batch took it.
    #[must_use]
    pub fn misreported(&self) -> Option<BatchRecord> {
        let must = self.record?;
        Some(match must.status {
            status::SUCCESS => BatchRecord { status: status::BATCH_FAIL, result: 1, ..must },
            status::BATCH_FAIL if self.is_whole() && self.noted => {
                BatchRecord { status: status::SUCCESS, result: 0, ..must }
            }
            status::BATCH_PAGE_FAULT => BatchRecord { result: 1 - must.result.min(1), ..must },
            _ => must,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paging = Paging { page_requests: false, block_on_fault: false };

    fn batch(habits: &[Habit]) -> BatchPlan {
        let elements = habits.iter().map(|&habit| Element { habit, ..Element::default() }).collect();
        BatchPlan { elements, list_border: None, record_requested: true }
    }

    fn play(plan: &BatchPlan, own: Habit) -> Played {
        plan.play(Play {
            from: 0,
            list_absent_from: plan.list_border,
            own,
            paging: PLAIN,
            operands_absent: &[],
        })
    }

    fn record(status: u8, result: u8, completed: u32) -> Option<BatchRecord> {
        Some(BatchRecord { status, result, completed })
    }

    #[test]
    fn a_batch_is_told_by_the_driver_once_an_element_is_in_the_log() {
        use Habit::{Absent, ReadOnly, Resident, Unmapped};
        let plain = batch(&[Resident; 4]);
        let played = play(&plain, Resident);
        assert_eq!((played.faults.total(), played.record), (0, record(1, 0, 4)));
        assert_eq!(play(&plain, Absent).faults.delivered, 1);
        let delivered = batch(&[Absent, Resident, Absent, Resident]);
        let played = play(&delivered, Resident);
        assert_eq!((played.faults.delivered, played.record), (3, record(1, 0, 4)));
        let lost = batch(&[Absent, Unmapped, Absent, Unmapped]);
        let played = play(&lost, Resident);
        assert_eq!((played.faults.delivered, played.faults.failed), (3, 2));
        assert_eq!((played.record, played.records.len()), (record(5, 1, 4), 2));
        let unread = play(&lost, ReadOnly);
        assert_eq!((unread.faults.failed, unread.record), (3, None));
    }

    #[test]
    fn a_fence_stops_behind_a_fault_and_a_failure() {
        use Habit::{Absent, Resident};
        let mut fence = batch(&[Resident, Absent, Resident, Resident]);
        fence.elements[3].fence = true;
        let played = play(&fence, Resident);
        assert_eq!((played.record, played.not_started), (record(5, 1, 3), vec![3]));
        let mut failing = batch(&[Resident; 4]);
        (failing.elements[3].fence, failing.elements[1].failing) = (true, true);
        let played = play(&failing, Resident);
        let endings = [(0, Ending::Succeeds), (1, Ending::Fails), (2, Ending::Succeeds)];
        assert_eq!((played.record, played.records), (record(5, 1, 3), endings.to_vec()));
        failing.elements[1].failing = false;
        assert_eq!(play(&failing, Resident).record, record(1, 0, 4));
    }

    #[test]
    fn an_element_without_its_operands_ends_partly_and_fails_its_batch() {
        let mut plan = batch(&[Habit::Resident; 4]);
        let how = Play {
            from: 0,
            list_absent_from: None,
            own: Habit::Resident,
            paging: PLAIN,
            operands_absent: &[false, false, true],
        };
        let played = plan.play(how);
        assert_eq!((played.record, played.records[2]), (record(5, 1, 4), (2, Ending::Partly)));
        plan.elements[3].fence = true;
        assert_eq!(plan.play(how).not_started, [3]);
        let waits = Paging { page_requests: true, block_on_fault: true };
        assert!(plan.play(Play { paging: waits, ..how }).is_whole());
    }

    #[test]
    fn a_list_that_is_not_there_divides_a_batch() {
        let divided = BatchPlan { list_border: Some(2), ..batch(&[Habit::Absent; 6]) };
        assert_eq!(play(&divided, Habit::Absent).record, record(6, 0, 2));
        let all = BatchPlan { list_border: Some(0), ..batch(&[Habit::Resident; 4]) };
        assert_eq!(play(&all, Habit::Resident).record, record(6, 0, 0));
        let rest = |from| Play {
            from,
            list_absent_from: None,
            own: Habit::Absent,
            paging: PLAIN,
            operands_absent: &[],
        };
        assert_eq!(all.play(rest(0)).record, record(1, 0, 4));
        assert_eq!(divided.play(rest(2)).record, record(1, 0, 4));
    }

    #[test]
    fn without_a_request_the_driver_copies_what_it_patched_alone() {
        let silent = |habit| BatchPlan { record_requested: false, ..batch(&[habit; 2]) };
        let played = play(&silent(Habit::Absent), Habit::Resident);
        assert_eq!((played.faults.delivered, played.faults.uncopied, played.record), (2, 1, None));
        let played = play(&silent(Habit::Unmapped), Habit::Resident);
        assert_eq!((played.faults.delivered, played.faults.failed, played.faults.uncopied), (1, 2, 0));
        let quiet = play(&silent(Habit::Resident), Habit::Absent);
        assert_eq!((quiet.faults.total(), quiet.record), (0, None));
    }
}
