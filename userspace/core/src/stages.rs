//! Times of a fault's stages and what lies between them.
//!
//! A duration exists only when both its ends were observed and stand in order.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When each stage of a fault was reached; `None` when it was not observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageTimes {
    /// Start of the interrupt thread's run that queued the fault.
    pub interrupt_ns: Option<NonZeroU64>,
    pub queued_ns: Option<NonZeroU64>,
    pub started_ns: Option<NonZeroU64>,
    pub copy_start_ns: Option<NonZeroU64>,
    pub copy_end_ns: Option<NonZeroU64>,
    pub done_ns: Option<NonZeroU64>,
}

/// A measured span of a fault's service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Interrupt thread's start to the hand-over.
    Interrupt,
    /// Hand-over to the worker's start.
    Queue,
    /// Worker's start to the copy.
    Prepare,
    /// The copy, with the page fault it takes.
    Copy,
    /// Copy's end to the end of the service.
    Finish,
    /// Worker's start to the end of the service.
    Service,
    /// All that the driver adds: interrupt thread (or hand-over) to the copy's end.
    Driver,
    /// Submission to the interrupt thread's start (or the hand-over): the device's part.
    Device,
    /// Copy's end to the moment that the program sees the record.
    Notice,
    /// Submission to the moment that the program sees the record: what a user feels.
    Total,
}

impl Stage {
    pub const COUNT: usize = 10;
    /// In the order of [`Self::index`]; the last three need the submissions.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Interrupt,
        Self::Queue,
        Self::Prepare,
        Self::Copy,
        Self::Finish,
        Self::Service,
        Self::Driver,
        Self::Device,
        Self::Notice,
        Self::Total,
    ];

    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it begins or ends in the program, so that it is known only where submissions are followed.
    #[must_use]
    pub const fn is_of_program(self) -> bool {
        matches!(self, Self::Device | Self::Notice | Self::Total)
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Queue => "queue",
            Self::Prepare => "prepare",
            Self::Copy => "copy",
            Self::Finish => "finish",
            Self::Service => "service",
            Self::Driver => "driver",
            Self::Device => "device",
            Self::Notice => "notice",
            Self::Total => "total",
        }
    }

    /// What lies between which two observations, in words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Interrupt => "start of the interrupt thread to the hand-over of the entry",
            Self::Queue => "hand-over of the entry to the start of its service",
            Self::Prepare => "start of the service to the copy of the completion record",
            Self::Copy => "copy of the completion record, with the page fault it takes",
            Self::Finish => "end of the copy to the end of the service",
            Self::Service => "start to end of the service",
            Self::Driver => "start of the interrupt thread, or the hand-over, to the end of the copy",
            Self::Device => "submission to the start of the interrupt thread, or the hand-over",
            Self::Notice => "end of the copy to the moment that the program sees the record",
            Self::Total => "submission to the moment that the program sees the record",
        }
    }
}

/// Durations in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Durations {
    pub interrupt: Option<u64>,
    pub queue: Option<u64>,
    pub prepare: Option<u64>,
    pub copy: Option<u64>,
    pub finish: Option<u64>,
    pub service: Option<u64>,
    pub driver: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl Durations {
    #[must_use]
    pub const fn get(&self, stage: Stage) -> Option<u64> {
        match stage {
            Stage::Interrupt => self.interrupt,
            Stage::Queue => self.queue,
            Stage::Prepare => self.prepare,
            Stage::Copy => self.copy,
            Stage::Finish => self.finish,
            Stage::Service => self.service,
            Stage::Driver => self.driver,
            Stage::Device => self.device,
            Stage::Notice => self.notice,
            Stage::Total => self.total,
        }
    }
}

impl StageTimes {
    /// With the times of the submission and of the moment that the program saw its record, as far as they are known.
    #[inline]
    #[must_use]
    pub fn durations(&self, submitted_ns: Option<NonZeroU64>, seen_ns: Option<NonZeroU64>) -> Durations {
        let between = |from: Option<NonZeroU64>, to: Option<NonZeroU64>| to?.get().checked_sub(from?.get());
        Durations {
            interrupt: between(self.interrupt_ns, self.queued_ns),
            queue: between(self.queued_ns, self.started_ns),
            prepare: between(self.started_ns, self.copy_start_ns),
            copy: between(self.copy_start_ns, self.copy_end_ns),
            finish: between(self.copy_end_ns, self.done_ns),
            service: between(self.started_ns, self.done_ns),
            driver: between(self.interrupt_ns.or(self.queued_ns), self.copy_end_ns),
            device: between(submitted_ns, self.interrupt_ns.or(self.queued_ns)),
            notice: between(self.copy_end_ns, seen_ns),
            total: between(submitted_ns, seen_ns),
        }
    }

    /// The earliest observation.
    #[must_use]
    pub fn first_ns(&self) -> Option<u64> {
        [
            self.interrupt_ns,
            self.queued_ns,
            self.started_ns,
            self.copy_start_ns,
            self.copy_end_ns,
            self.done_ns,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(NonZeroU64::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: [u64; 6]) -> StageTimes {
        let [interrupt_ns, queued_ns, started_ns, copy_start_ns, copy_end_ns, done_ns] =
            values.map(NonZeroU64::new);
        StageTimes { interrupt_ns, queued_ns, started_ns, copy_start_ns, copy_end_ns, done_ns }
    }

    #[test]
    fn each_stage_is_the_difference_of_its_ends() {
        let d = times([100, 110, 130, 170, 250, 410]).durations(NonZeroU64::new(60), NonZeroU64::new(300));
        let got = Stage::ALL.map(|stage| d.get(stage));
        assert_eq!(got, [10, 20, 40, 80, 160, 280, 150, 40, 50, 240].map(Some));
    }

    #[test]
    fn what_was_not_seen_or_runs_backwards_has_no_duration() {
        let d = times([0, 110, 130, 0, 0, 120]).durations(NonZeroU64::new(111), None);
        let got = Stage::ALL.into_iter().filter_map(|s| Some((s, d.get(s)?))).collect::<Vec<_>>();
        assert_eq!(got, [(Stage::Queue, 20)]);
        // Without the interrupt's start the driver's time begins at the hand-over.
        assert_eq!(times([0, 110, 130, 170, 250, 410]).durations(None, None).driver, Some(140));
    }
}
