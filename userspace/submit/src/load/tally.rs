//! What came of descriptors, added up: counts and latencies.
//!
//! Owns: what is counted as what. Pure. Refuses: words beyond the first few troubles; there may be millions.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Faults;

/// Significant digits of histograms, and what they reach: an hour.
pub const DIGITS: u8 = 3;
pub const HIGHEST_NS: u64 = 3_600_000_000_000;
/// Troubles that are told one by one.
pub const TROUBLES: usize = 16;

/// The end of one descriptor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// Which of the kit's jobs.
    pub job: usize,
    pub intended_ns: u64,
    /// Whether its latency counts: not in a warm-up.
    pub measured: bool,
    /// `None`: the WQ never took it.
    pub sent_ns: Option<u64>,
    pub first_fault_ns: Option<u64>,
    pub ended_ns: u64,
    pub resumes: u32,
    /// Whether its own record was seen; otherwise the driver's counters told of its end, or a drain.
    pub unseen: bool,
    pub refused: bool,
    pub left_partial: bool,
    pub hardware_error: bool,
    pub misreported: bool,
    pub trouble: Option<Trouble>,
}

/// What should not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// Of the thread, from 0; the descriptor's number on it.
    pub thread: u16,
    pub number: u64,
    pub operation: String,
    /// Of its completion record.
    pub record_address: u64,
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// It did not end as it must, or left other bytes than it must.
    Mismatch,
    /// Its record, or the driver's count of its failure, never came.
    TimedOut,
    /// The WQ was full all the time.
    NotAccepted,
    /// A page was missing, and the rest was not done.
    Partial,
}

/// Everything is counted, in the warm-up too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Descriptors and batches started, each once.
    pub started: u64,
    /// Of these, ended as they must.
    pub ended: u64,
    /// What the device was sent: also what was resumed, and drains behind refused descriptors.
    pub submissions: u64,
    /// Submissions that went on after a partial completion, a fault on a batch's list, or for an element left by its batch.
    pub resumed: u64,
    /// Completion-record faults that the submissions had to make.
    pub faults: u64,
    /// Of these, records that came.
    pub delivered: u64,
    /// Of these, records that could not come, as the driver counted them.
    pub failed: u64,
    /// Drains whose record lay in an absent page: each may be one fault more.
    pub perhaps_faults: u64,
    /// Descriptors that the device had to refuse, as their record straddled two pages.
    pub refused: u64,
    /// Batches that the driver told of another batch's failed copy.
    pub misreported: u64,
    pub hardware_errors: u64,
    pub mismatched: u64,
    pub timed_out: u64,
    pub not_accepted: u64,
    pub left_partial: u64,
    /// Starts of an open loop that were due and never came: the run was over.
    pub never_started: u64,
}

impl Counts {
    pub(super) fn saw(&mut self, faults: Faults) {
        self.delivered += faults.delivered;
        self.failed += faults.failed;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.started, other.started),
            (&mut self.ended, other.ended),
            (&mut self.submissions, other.submissions),
            (&mut self.resumed, other.resumed),
            (&mut self.faults, other.faults),
            (&mut self.delivered, other.delivered),
            (&mut self.failed, other.failed),
            (&mut self.perhaps_faults, other.perhaps_faults),
            (&mut self.refused, other.refused),
            (&mut self.misreported, other.misreported),
            (&mut self.hardware_errors, other.hardware_errors),
            (&mut self.mismatched, other.mismatched),
            (&mut self.timed_out, other.timed_out),
            (&mut self.not_accepted, other.not_accepted),
            (&mut self.left_partial, other.left_partial),
            (&mut self.never_started, other.never_started),
        ] {
            *own += other;
        }
    }
}

/// Of one job.
#[derive(Clone, Debug)]
pub struct OfJob {
    pub ended: u64,
    /// From submission to status, of those that were measured.
    pub service: Histogram<u64>,
}

#[derive(Clone, Debug)]
pub struct Tally {
    pub counts: Counts,
    /// From the intended start to the status.
    pub intended: Histogram<u64>,
    /// From the first submission to the last status.
    pub service: Histogram<u64>,
    /// From the first submission to the status of the first partial completion.
    pub first_fault: Histogram<u64>,
    /// Resumptions a descriptor.
    pub resumes: Histogram<u64>,
    pub jobs: Vec<OfJob>,
    pub troubles: Vec<Trouble>,
}

impl Tally {
    #[must_use]
    pub fn new(jobs: usize) -> Self {
        let of_job = OfJob { ended: 0, service: latencies() };
        Self {
            counts: Counts::default(),
            intended: latencies(),
            service: latencies(),
            first_fault: latencies(),
            resumes: latencies(),
            jobs: vec![of_job; jobs],
            troubles: Vec::new(),
        }
    }

    pub fn end(&mut self, end: &End) {
        let counts = &mut self.counts;
        counts.refused += u64::from(end.refused);
        counts.misreported += u64::from(end.misreported);
        counts.hardware_errors += u64::from(end.hardware_error);
        counts.left_partial += u64::from(end.left_partial);
        if let Some(trouble) = &end.trouble {
            match trouble.kind {
                TroubleKind::Mismatch => counts.mismatched += 1,
                TroubleKind::TimedOut => counts.timed_out += 1,
                TroubleKind::NotAccepted => counts.not_accepted += 1,
                TroubleKind::Partial => {}
            }
            if self.troubles.len() < TROUBLES {
                self.troubles.push(trouble.clone());
            }
            return;
        }
        counts.ended += 1;
        let of_job = self.jobs.get_mut(end.job);
        let Some(sent_ns) = end.sent_ns.filter(|_| end.measured && !end.unseen) else {
            if let Some(of_job) = of_job {
                of_job.ended += 1;
            }
            return;
        };
        let service_ns = end.ended_ns.saturating_sub(sent_ns);
        self.intended.saturating_record(end.ended_ns.saturating_sub(end.intended_ns));
        self.service.saturating_record(service_ns);
        self.resumes.saturating_record(end.resumes.into());
        if let Some(fault_ns) = end.first_fault_ns {
            self.first_fault.saturating_record(fault_ns.saturating_sub(sent_ns));
        }
        if let Some(of_job) = of_job {
            of_job.ended += 1;
            of_job.service.saturating_record(service_ns);
        }
    }

    /// Takes another in, and empties it.
    pub fn absorb(&mut self, other: &mut Self) {
        self.counts.add(&std::mem::take(&mut other.counts));
        let own = [&mut self.intended, &mut self.service, &mut self.first_fault, &mut self.resumes];
        let others = [&mut other.intended, &mut other.service, &mut other.first_fault, &mut other.resumes];
        own.into_iter().zip(others).for_each(|(own, other)| move_into(own, other));
        for (own, other) in self.jobs.iter_mut().zip(&mut other.jobs) {
            own.ended += std::mem::take(&mut other.ended);
            move_into(&mut own.service, &mut other.service);
        }
        let room = TROUBLES.saturating_sub(self.troubles.len());
        self.troubles.extend(other.troubles.drain(..).take(room));
    }
}

fn move_into(own: &mut Histogram<u64>, other: &mut Histogram<u64>) {
    if !other.is_empty() {
        // Both reach equally far.
        let _ = own.add(&*other);
        other.reset();
    }
}

fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS).expect("the bounds are good ones")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: End = End {
        job: 0,
        intended_ns: 1000,
        measured: true,
        sent_ns: Some(3000),
        first_fault_ns: Some(3500),
        ended_ns: 5000,
        resumes: 2,
        unseen: false,
        refused: false,
        left_partial: false,
        hardware_error: false,
        misreported: false,
        trouble: None,
    };

    #[test]
    fn latencies_are_from_the_intended_start_and_from_the_submission() {
        let mut tally = Tally::new(1);
        tally.end(&GOOD);
        let value = |histogram: &Histogram<u64>| (histogram.len(), histogram.max() / 10 * 10);
        assert_eq!(
            [&tally.intended, &tally.service, &tally.first_fault].map(value),
            [(1, 4000), (1, 2000), (1, 500)]
        );
        assert_eq!(tally.resumes.max(), 2);
        tally.end(&End { measured: false, ..GOOD });
        tally.end(&End { unseen: true, ..GOOD });
        assert_eq!((tally.counts.ended, tally.jobs[0].ended, tally.service.len()), (3, 3, 1));
    }

    #[test]
    fn what_is_absorbed_is_moved() {
        let trouble = Trouble {
            kind: TroubleKind::TimedOut,
            thread: 0,
            number: 1,
            operation: "noop".into(),
            record_address: 0x1000,
            what: String::new(),
        };
        let (mut all, mut part) = (Tally::new(1), Tally::new(1));
        for _ in 0..TROUBLES {
            part.end(&GOOD);
            part.end(&End { trouble: Some(trouble.clone()), ..GOOD });
            all.absorb(&mut part);
            all.absorb(&mut part);
        }
        part.end(&End { trouble: Some(trouble), ..GOOD });
        all.absorb(&mut part);
        let count = TROUBLES as u64;
        assert_eq!((all.counts.ended, all.counts.timed_out, all.service.len()), (count, count + 1, count));
        assert_eq!(all.troubles.len(), TROUBLES);
    }
}
