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
    counted(&mut out, counts);
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

fn counted(out: &mut String, counts: &Counts) {
    let faults = format!("{} ({} delivered, {} failed)", counts.faults, counts.delivered, counts.failed);
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
