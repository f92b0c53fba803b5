//! What a load tells at its end: one JSON object, whose schema is docs/schema/dsascope-submit-v1.schema.json.
//!
//! Owns: the object's shape, and what a run's verdict is. Not observed is `null`. Refuses: text for people; the command writes that.

use std::{
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Counts, Ended, Outcome, Tally, Trouble};
use crate::{Error, sysfs::OpenFile};

/// Fields are only added.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// `load`
    pub kind: String,
    /// Of this format.
    pub version: u32,
    /// Of dsascope.
    pub tool_version: String,
    pub work_queue: QueueReport,
    pub load: LoadReport,
    /// Why it ended: `done`, `asked` (a signal) or `no_room` (what timed out holds all places).
    pub ended: String,
    pub elapsed_ns: u64,
    pub counts: Counts,
    pub latency: Latencies,
    /// Resumptions a descriptor.
    pub resumes: Option<Distribution>,
    /// Order of `load.operations`.
    pub operations: Vec<OperationReport>,
    /// How often a shared work queue said that it is full; by write(2), how often the driver gave up.
    pub retries: u64,
    /// The driver's counters of this run's file; `null`: it shows none.
    pub driver: Option<Driver>,
    /// Whether the driver has counted what was to be expected; `null`: nobody can say, since a descriptor timed out, or packed absent
    /// records bring each other's page.
    pub driver_agrees: Option<bool>,
    /// The first few.
    pub troubles: Vec<Trouble>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct QueueReport {
    pub name: String,
    /// `dsa` or `iax`
    pub device: String,
    /// `dedicated` or `shared`
    pub mode: String,
    /// Entries that processes can fill.
    pub size: u32,
    /// `movdir64b`, `enqcmd`, `write` or `plain_stores` (the testbed's device alone understands these)
    pub submission: String,
    pub page_requests: bool,
    /// Whether descriptors blocked on faults.
    pub block_on_fault: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LoadReport {
    pub threads: u16,
    /// Descriptors outstanding at most, a thread.
    pub depth: u16,
    /// Of an open loop; `null`: closed.
    pub rate_per_s: Option<f64>,
    pub poisson: bool,
    pub ramp_ns: u64,
    pub warm_up_ns: u64,
    pub duration_ns: Option<u64>,
    pub count: Option<u64>,
    pub timeout_ns: u64,
    /// Between two looks at records.
    pub poll_ns: u64,
    pub seed: u64,
    pub operations: Vec<String>,
    /// Whether what operations left in memory was compared with the reference, byte by byte.
    pub verified: bool,
    /// Whether completion records shared pages.
    pub packed: bool,
}

/// Of descriptors behind the warm-up whose own record was seen.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Latencies {
    /// From the intended start to the status: what a user feels.
    pub intended_ns: Option<Distribution>,
    /// From the first submission to the status that ended it.
    pub service_ns: Option<Distribution>,
    /// From the first submission to the status of its first partial completion.
    pub first_fault_ns: Option<Distribution>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OperationReport {
    pub operation: String,
    pub ended: u64,
    pub service_ns: Option<Distribution>,
}

/// Values are at most 0.1 % above what they stand for; count, mean and maximum of values below an hour are exact to that, too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Distribution {
    pub count: u64,
    pub min: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub max: u64,
}

impl Distribution {
    /// `None` of nothing.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max(),
        })
    }
}

/// What the driver has counted for one open file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Driver {
    /// fileK
    pub file: String,
    pub cr_faults: u64,
    pub cr_fault_failures: u64,
}

impl Driver {
    /// The driver counts behind the delivery: waits for what is to be expected, but not for ever.
    /// `certain`: that is known.
    pub(super) fn of(
        file: &OpenFile,
        counts: &Counts,
        certain: bool,
        timeout_ns: u64,
    ) -> Result<Self, Error> {
        let begun = Instant::now();
        loop {
            let (cr_faults, cr_fault_failures) = (file.faults()?, file.failures()?);
            let late = begun.elapsed() >= Duration::from_nanos(timeout_ns) || !certain;
            if cr_faults >= counts.faults && cr_fault_failures >= counts.failed || late {
                return Ok(Self { file: file.name(), cr_faults, cr_fault_failures });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A drain's record that faults by itself is counted, one behind other entries is not.
    fn agrees(&self, counts: &Counts) -> bool {
        (counts.faults..=counts.faults + counts.perhaps_faults).contains(&self.cr_faults)
            && self.cr_fault_failures == counts.failed
    }
}

/// What a run shows, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something was done wrongly, or the driver has counted something else.
    Mismatch,
    /// Something never came, or was never accepted.
    TimedOut,
    /// Something was left undone for want of a page.
    Partial,
    Good,
}

impl Report {
    #[must_use]
    pub fn new(tool_version: &str, work_queue: QueueReport, load: LoadReport, outcome: &Outcome) -> Self {
        let Outcome { ended, elapsed, tally, retries, driver } = outcome;
        let Tally { counts, intended, service, first_fault, resumes, jobs, troubles } = tally;
        let certain = counts.timed_out == 0 && !load.packed;
        Self {
            kind: "load".into(),
            version: 1,
            tool_version: tool_version.into(),
            work_queue,
            ended: match ended {
                Ended::Done => "done",
                Ended::Asked => "asked",
                Ended::NoRoom => "no_room",
            }
            .into(),
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            counts: *counts,
            latency: Latencies {
                intended_ns: Distribution::of(intended),
                service_ns: Distribution::of(service),
                first_fault_ns: Distribution::of(first_fault),
            },
            resumes: Distribution::of(resumes),
            operations: load
                .operations
                .iter()
                .zip(jobs)
                .map(|(operation, of_job)| OperationReport {
                    operation: operation.clone(),
                    ended: of_job.ended,
                    service_ns: Distribution::of(&of_job.service),
                })
                .collect(),
            retries: *retries,
            driver: driver.clone(),
            driver_agrees: driver.as_ref().filter(|_| certain).map(|driver| driver.agrees(counts)),
            troubles: troubles.clone(),
            load,
        }
    }

    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let counts = &self.counts;
        if counts.mismatched > 0 || counts.hardware_errors > 0 || self.driver_agrees == Some(false) {
            Verdict::Mismatch
        } else if counts.timed_out > 0 || counts.not_accepted > 0 {
            Verdict::TimedOut
        } else if counts.left_partial > 0 {
            Verdict::Partial
        } else {
            Verdict::Good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/dsascope-submit-v1.schema.json");

    pub(crate) fn report(counts: Counts, driver: Option<Driver>) -> Report {
        let queue = QueueReport {
            name: "wq0.0".into(),
            device: "dsa".into(),
            mode: "dedicated".into(),
            size: 16,
            submission: "movdir64b".into(),
            page_requests: false,
            block_on_fault: false,
        };
        let load = LoadReport {
            threads: 1,
            depth: 1,
            rate_per_s: None,
            poisson: false,
            ramp_ns: 0,
            warm_up_ns: 0,
            duration_ns: None,
            count: Some(1),
            timeout_ns: 1,
            poll_ns: 0,
            seed: 1,
            operations: vec!["noop".into()],
            verified: true,
            packed: false,
        };
        let tally = Tally { counts, ..Tally::new(1) };
        let elapsed = Duration::from_secs(1);
        Report::new("0", queue, load, &Outcome { ended: Ended::Done, elapsed, tally, retries: 0, driver })
    }

    fn driver(cr_faults: u64, cr_fault_failures: u64) -> Option<Driver> {
        Some(Driver { file: "file0".into(), cr_faults, cr_fault_failures })
    }

    #[test]
    fn the_schema_is_that_of_the_types() {
        let schema = schemars::schema_for!(Report);
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(SCHEMA, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(SCHEMA).unwrap_or_default();
        assert!(
            committed == generated,
            "run `UPDATE_SCHEMA=1 cargo test -p dsascope-submit` and commit {SCHEMA}"
        );
    }

    #[test]
    fn the_verdict_is_the_worst_that_there_is() {
        let verdict = |counts| report(counts, None).verdict();
        let partial = Counts { left_partial: 1, ..Counts::default() };
        let late = Counts { timed_out: 1, ..partial };
        assert_eq!(verdict(Counts::default()), Verdict::Good);
        assert_eq!([verdict(partial), verdict(late)], [Verdict::Partial, Verdict::TimedOut]);
        assert_eq!(verdict(Counts { mismatched: 1, ..late }), Verdict::Mismatch);
        assert_eq!(verdict(Counts { not_accepted: 1, ..partial }), Verdict::TimedOut);
    }

    #[test]
    fn what_the_driver_counted_otherwise_is_a_mismatch() {
        let counts = Counts { faults: 5, failed: 2, perhaps_faults: 1, ..Counts::default() };
        for (driver, agrees) in
            [(driver(5, 2), true), (driver(6, 2), true), (driver(7, 2), false), (driver(5, 1), false)]
        {
            let report = report(counts, driver);
            assert_eq!(report.driver_agrees, Some(agrees));
            assert_eq!(report.verdict() == Verdict::Good, agrees);
        }
        let timed_out = report(Counts { timed_out: 1, ..counts }, driver(0, 0));
        assert_eq!((timed_out.driver_agrees, timed_out.verdict()), (None, Verdict::TimedOut));
    }

    #[test]
    fn nothing_observed_is_null() {
        let json = serde_json::to_value(report(Counts::default(), None)).unwrap();
        assert_eq!(
            (&json["latency"]["service_ns"], &json["driver"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
    }
}
