//! What a fault has, as bits of one word: which times, how its copy ended, what is marked.

use dsascope_core::event::{CopyOutcome, Fault, Marks, StageTimes};

use super::Column;
use crate::columns::Coder;

/// What a fault has, in one word: most faults of a run have the same.
#[derive(Clone, Copy, Default)]
pub(super) struct Shape(pub(super) u64);

impl Shape {
    pub(super) const INTERRUPT: u32 = 0;
    pub(super) const QUEUED: u32 = 1;
    pub(super) const STARTED: u32 = 2;
    pub(super) const COPY_START: u32 = 3;
    pub(super) const COPY_END: u32 = 4;
    pub(super) const DONE: u32 = 5;
    pub(super) const QUEUE_CPU: u32 = 6;
    pub(super) const QUEUE_CPU_OTHER: u32 = 7;
    pub(super) const COPY_ADDRESS: u32 = 8;
    pub(super) const DELIVERED_ZERO: u32 = 9;
    pub(super) const DELIVERED_OTHER: u32 = 10;
    /// Two bits: delivered, short, not copied, unobserved.
    pub(super) const OUTCOME: u32 = 11;
    /// Five marks, in the order of [`Marks`].
    pub(super) const MARKS: u32 = 13;
    /// A byte each.
    pub(super) const COUNTED_FAULTS: u32 = 18;
    pub(super) const COUNTED_FAILURES: u32 = 26;
    pub(super) const ORIGIN: u32 = 34;
    pub(super) const ORIGIN_SEEN: u32 = 35;
    pub(super) const ORIGIN_BYTES: u32 = 36;
    pub(super) const ORIGIN_ELEMENT: u32 = 37;

    pub(super) fn of(f: &Fault) -> Self {
        let StageTimes { interrupt_ns, queued_ns, started_ns, copy_start_ns, copy_end_ns, done_ns } = f.times;
        let Marks { end_missing, queue_missing, copy_unobserved, read_failed, outcome_inferred } = f.marks;
        let zero = f.delivered == [0; 64] && f.logged != [0; 64];
        let bits = [
            (Self::INTERRUPT, interrupt_ns.is_some()),
            (Self::QUEUED, queued_ns.is_some()),
            (Self::STARTED, started_ns.is_some()),
            (Self::COPY_START, copy_start_ns.is_some()),
            (Self::COPY_END, copy_end_ns.is_some()),
            (Self::DONE, done_ns.is_some()),
            (Self::QUEUE_CPU, f.queue_cpu.is_some()),
            (Self::QUEUE_CPU_OTHER, f.queue_cpu.is_some_and(|cpu| cpu != f.cpu)),
            (Self::COPY_ADDRESS, f.copy_addr.is_some()),
            (Self::DELIVERED_ZERO, zero),
            (Self::DELIVERED_OTHER, !zero && f.delivered != f.logged),
            (Self::MARKS, end_missing),
            (Self::MARKS + 1, queue_missing),
            (Self::MARKS + 2, copy_unobserved),
            (Self::MARKS + 3, read_failed),
            (Self::MARKS + 4, outcome_inferred),
            (Self::ORIGIN, f.origin.is_some()),
            (Self::ORIGIN_SEEN, f.origin.is_some_and(|origin| origin.seen_ns.is_some())),
            (Self::ORIGIN_BYTES, f.origin.is_some_and(|origin| origin.bytes.is_some())),
            (Self::ORIGIN_ELEMENT, f.origin.is_some_and(|origin| origin.element.is_some())),
        ];
        let outcome: u64 = match f.copy {
            CopyOutcome::Delivered { .. } => 0,
            CopyOutcome::Short { .. } => 1,
            CopyOutcome::NotCopied => 2,
            CopyOutcome::Unobserved => 3,
        };
        let mut word = bits.into_iter().fold(0, |word, (bit, set)| word | u64::from(set) << bit);
        word |= outcome << Self::OUTCOME;
        word |= u64::from(f.counted_faults) << Self::COUNTED_FAULTS;
        Self(word | u64::from(f.counted_failures) << Self::COUNTED_FAILURES)
    }

    pub(super) const fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    pub(super) fn outcome<C: Coder>(self, c: &mut C, copy: CopyOutcome) -> CopyOutcome {
        let (mut asked, mut done) = match copy {
            CopyOutcome::Delivered { bytes } => (bytes, 0),
            CopyOutcome::Short { asked, done } => (asked, done),
            _ => (0, 0),
        };
        match self.0 >> Self::OUTCOME & 3 {
            0 => {
                c.narrow(Column::CopyAsked as usize, &mut asked);
                CopyOutcome::Delivered { bytes: asked }
            }
            1 => {
                c.narrow(Column::CopyAsked as usize, &mut asked);
                c.narrow(Column::CopyDone as usize, &mut done);
                CopyOutcome::Short { asked, done }
            }
            2 => CopyOutcome::NotCopied,
            _ => CopyOutcome::Unobserved,
        }
    }

    pub(super) const fn marks(self) -> Marks {
        Marks {
            end_missing: self.has(Self::MARKS),
            queue_missing: self.has(Self::MARKS + 1),
            copy_unobserved: self.has(Self::MARKS + 2),
            read_failed: self.has(Self::MARKS + 3),
            outcome_inferred: self.has(Self::MARKS + 4),
        }
    }

    pub(super) const fn counted(self) -> (u8, u8) {
        ((self.0 >> Self::COUNTED_FAULTS) as u8, (self.0 >> Self::COUNTED_FAILURES) as u8)
    }
}

/// Names of a fault's shape and their first bits, for the document's sake.
#[cfg(test)]
pub(crate) const fn shape_bits() -> [(&'static str, u32); 19] {
    macro_rules! bits { ($($name:ident)*) => { [$((stringify!($name), Shape::$name)),*] } }
    bits!(INTERRUPT QUEUED STARTED COPY_START COPY_END DONE QUEUE_CPU QUEUE_CPU_OTHER COPY_ADDRESS
        DELIVERED_ZERO DELIVERED_OTHER OUTCOME MARKS COUNTED_FAULTS COUNTED_FAILURES
        ORIGIN ORIGIN_SEEN ORIGIN_BYTES ORIGIN_ELEMENT)
}
