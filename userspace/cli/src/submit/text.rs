//! A load's report as text, and its line of progress. Pure but for the line's writing.

use std::fmt::Write as _;
use std::io::Write;

use dsascope_core::quantity::{duration, rate};
use dsascope_submit::load::report::{Distribution, Report};
use dsascope_submit::load::{Counts, Snapshot, TroubleKind};

/// The last line on a terminal's stderr.
pub(super) struct Progress {
    wanted: bool,
    shown: bool,
}

impl Progress {
    pub(super) const fn new(wanted: bool) -> Self {
        Self { wanted, shown: false }
    }

    pub(super) fn show(&mut self, snapshot: &Snapshot<'_>, out: &mut impl Write) {
        if self.wanted {
            self.shown = true;
            // A terminal that takes no progress is not worth ending the load for.
            let _ = write!(out, "\r\x1b[K{}", progress(snapshot));
            let _ = out.flush();
        }
    }

    pub(super) fn end(&mut self, out: &mut impl Write) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(out, "\r\x1b[K");
        }
    }
}

fn progress(snapshot: &Snapshot<'_>) -> String {
    let Snapshot { from, to, interval, counts } = snapshot;
    let per_s = interval.counts.ended as f64 / (*to - *from).as_secs_f64();
    let mut line = format!("{:.0} s: {} ended, {}/s", to.as_secs_f64(), counts.ended, rate(per_s));
    if let Some(now) = Distribution::of(&interval.intended) {
        let _ = write!(line, ", p50 {} p99 {}", ns(now.p50), ns(now.p99));
    }
    if counts.faults > 0 {
        let _ = write!(line, ", {} CR faults", counts.faults);
    }
    let bad = counts.mismatched + counts.timed_out + counts.not_accepted + counts.left_partial;
    if bad > 0 {
        let _ = write!(line, ", {bad} in trouble");
    }
    line
}

pub(super) fn report(report: &Report) -> String {
    let mut out = String::new();
    let Report { work_queue: wq, load, counts, .. } = report;
    let how = match &*wq.submission {
        "movdir64b" => "MOVDIR64B",
        "enqcmd" => "ENQCMD",
        "write" => "write(2)",
        _ => "plain stores (the testbed's device alone understands them)",
    };
    line(
        &mut out,
        format_args!("{}: {} of {} entries, {} device, by {how}", wq.name, wq.mode, wq.size, wq.device),
    );
    let pace = load.rate_per_s.map_or_else(
        || "closed loop".to_owned(),
        |per_s| {
            format!("open loop of {}/s{}", rate(per_s), if load.poisson { ", exponential gaps" } else { "" })
        },
    );
    line(&mut out, format_args!("{} x {} outstanding, {pace}, seed {}", load.threads, load.depth, load.seed));
    let seconds = report.elapsed_ns as f64 / 1e9;
    let ended = match &*report.ended {
        "asked" => ", ended when asked to",
        "no_room" => ", ended as nothing ends any more",
        _ => "",
    };
    let per_s = rate(counts.ended as f64 / seconds.max(1e-9));
    line(
        &mut out,
        format_args!("\n{} of {} ended in {seconds:.3} s, {per_s}/s{ended}", counts.ended, counts.started),
    );
    counted(&mut out, counts, load.packed);
    if report.retries > 0 {
        line(&mut out, format_args!("  the work queue was full {} times", report.retries));
    }
    if let Some(driver) = &report.driver {
        let agrees = match report.driver_agrees {
            Some(true) => "as must be",
            Some(false) => "NOT AS MUST BE",
            None => "nobody can say what must be",
        };
        let (faults, failures) = (driver.cr_faults, driver.cr_fault_failures);
        line(&mut out, format_args!("  driver counted: {faults} CR faults, {failures} failed: {agrees}"));
    }
    if !load.verified {
        line(&mut out, format_args!("  what operations left in memory was not looked at"));
    }
    latencies(&mut out, report);
    troubles(&mut out, report);
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

fn counted(out: &mut String, counts: &Counts, packed: bool) {
    let Counts { faults, delivered, failed, .. } = counts;
    // Neighbours bring each other's page.
    let most = if packed { "at most " } else { "" };
    let faults = format!("{most}{faults} ({delivered} delivered, {failed} failed)");
    line(out, format_args!("  submissions: {}, {} of them resumed", counts.submissions, counts.resumed));
    line(out, format_args!("  CR faults: {faults}"));
    for (count, what) in [
        (counts.perhaps_faults, "drains with a record in an absent page, each perhaps one fault more"),
        (counts.refused, "refused by the device, as their record straddled two pages"),
        (counts.misreported, "batches that the driver told of another's failed copy"),
        (counts.hardware_errors, "HARDWARE ERRORS"),
        (counts.mismatched, "MISMATCHES"),
        (counts.timed_out, "TIMED OUT"),
        (counts.not_accepted, "NEVER ACCEPTED by the work queue"),
        (counts.left_partial, "LEFT PARTIAL"),
        (counts.never_started, "starts were due and never came"),
    ] {
        if count > 0 {
            line(out, format_args!("  {count} {what}"));
        }
    }
}

fn latencies(out: &mut String, report: &Report) {
    let latency = &report.latency;
    let rows = [
        ("from intended start", latency.intended_ns),
        ("from submission", latency.service_ns),
        ("to first fault", latency.first_fault_ns),
    ];
    let of_operations = report.operations.iter().map(|o| (&*o.operation, o.service_ns));
    let width =
        rows.iter().map(|(name, _)| name.len()).chain(of_operations.clone().map(|(name, _)| name.len()));
    let width = width.max().unwrap_or(0) + 2;
    line(
        out,
        format_args!(
            "\n{:width$}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "latency", "count", "min", "mean", "p50", "p90", "p99", "p99.9", "max"
        ),
    );
    let mut row = |name: &str, found: Option<Distribution>, show: fn(u64) -> String| {
        let Some(d) = found else { return };
        let values = [d.min, d.mean.round() as u64, d.p50, d.p90, d.p99, d.p99_9, d.max];
        let values: String = values.into_iter().map(|value| format!("{:>9}", show(value))).collect();
        line(out, format_args!("{name:width$}{:>9}{values}", d.count));
    };
    rows.into_iter().for_each(|(name, found)| row(name, found, ns));
    if let Some(resumes) = report.resumes.filter(|resumes| resumes.max > 0) {
        row("resumes", Some(resumes), |count| count.to_string());
    }
    if report.operations.len() > 1 {
        of_operations.for_each(|(name, found)| row(name, found, ns));
    }
}

fn troubles(out: &mut String, report: &Report) {
    for trouble in &report.troubles {
        let kind = match trouble.kind {
            TroubleKind::Mismatch => "mismatch",
            TroubleKind::TimedOut => "timed out",
            TroubleKind::NotAccepted => "not accepted",
            TroubleKind::Partial => "partial",
        };
        let (thread, number, operation) = (trouble.thread, trouble.number, &trouble.operation);
        line(
            out,
            format_args!(
                "{kind}: {operation} {number} of thread {thread}, record at {:#x}: {}",
                trouble.record_address, trouble.what
            ),
        );
    }
}

fn ns(value: u64) -> String {
    duration(value, "us")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dsascope_submit::load::report::{Driver, LoadReport, QueueReport};
    use dsascope_submit::load::{End, Ended, Outcome, Tally, Trouble};

    use super::*;

    fn outcome() -> Outcome {
        let mut tally = Tally::new(2);
        for number in 0..1000u64 {
            let end = End {
                job: (number % 2) as usize,
                intended_ns: number * 1000,
                measured: true,
                sent_ns: Some(number * 1000 + 300),
                first_fault_ns: (number % 100 == 0).then_some(number * 1000 + 900),
                ended_ns: number * 1000 + 2000 + number * number / 100,
                resumes: u32::from(number % 100 == 0),
                ..End::default()
            };
            tally.end(&end);
        }
        let trouble = Trouble {
            kind: TroubleKind::TimedOut,
            thread: 1,
            number: 17,
            operation: "batch of memmove".into(),
            record_address: 0x7f00_1234_5000,
            what: "its completion record did not come within 5000 ms".into(),
        };
        tally.end(&End { trouble: Some(trouble), ..End::default() });
        tally.counts = Counts {
            started: 1001,
            submissions: 1011,
            resumed: 10,
            faults: 20,
            delivered: 15,
            failed: 5,
            never_started: 3,
            ..tally.counts
        };
        let driver = Some(Driver { file: "file0".into(), cr_faults: 20, cr_fault_failures: 5 });
        Outcome { ended: Ended::Asked, elapsed: Duration::from_millis(1500), tally, retries: 0, driver }
    }

    #[test]
    fn a_report_as_text() {
        let queue = QueueReport {
            name: "wq0.1".into(),
            device: "dsa".into(),
            mode: "shared".into(),
            size: 16,
            submission: "enqcmd".into(),
            page_requests: false,
            block_on_fault: false,
        };
        let load = LoadReport {
            threads: 2,
            depth: 8,
            rate_per_s: Some(1000.0),
            poisson: true,
            ramp_ns: 0,
            warm_up_ns: 0,
            duration_ns: None,
            count: None,
            timeout_ns: 5_000_000_000,
            poll_ns: 0,
            seed: 1,
            operations: vec!["noop".into(), "batch of memmove".into()],
            verified: true,
            packed: false,
        };
        insta::assert_snapshot!(report(&Report::new("0", queue, load, &outcome())));
    }

    #[test]
    fn progress_is_one_line_and_goes() {
        let outcome = outcome();
        let (interval, counts) = (&outcome.tally, &outcome.tally.counts);
        let snapshot =
            Snapshot { from: Duration::from_secs(3), to: Duration::from_secs(4), interval, counts };
        assert_eq!(
            progress(&snapshot),
            "4 s: 1000 ended, 1.00k/s, p50 4.49us p99 11.8us, 20 CR faults, 1 in trouble"
        );
        let mut out = Vec::new();
        let mut shown = Progress::new(true);
        shown.show(&snapshot, &mut out);
        shown.end(&mut out);
        assert!(out.ends_with(b"\r\x1b[K"));
        let mut quiet = Vec::new();
        Progress::new(false).show(&snapshot, &mut quiet);
        assert_eq!(quiet, b"");
    }
}
