//! The metric catalogue as data: what exporters publish and dashboards are generated from. Names here are stable.

use crate::stages::Stage;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric. Names follow Prometheus: base units in the name, counters end in `_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
    /// Of the value, as OpenMetrics names it; empty for a plain count.
    pub unit: &'static str,
    pub labels: &'static [&'static str],
}

const FILE: &[&str] = &["device", "wq", "pasid", "pid", "comm"];
const WQ: &[&str] = &["device", "wq"];
const DEVICE: &[&str] = &["device"];

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Metric {
    Metric { name, kind: MetricKind::Counter, help, unit: "", labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help, unit: "", labels }
}

pub const CATALOGUE: &[Metric] = &[
    counter("dsascope_faults_total", "Completion-record faults whose service ended.", FILE),
    counter("dsascope_delivered_total", "Completion records that the driver delivered.", FILE),
    counter(
        "dsascope_failed_total",
        "Completion records whose copy failed: the submitter waits for ever.",
        FILE,
    ),
    counter("dsascope_not_copied_total", "Faults for which the driver copied nothing.", FILE),
    counter("dsascope_skipped_total", "Entries marked at a close and never served.", FILE),
    counter(
        "dsascope_errors_total",
        "Faults by error code of the event-log entry.",
        &["device", "wq", "error"],
    ),
    counter(
        "dsascope_statuses_total",
        "Faults by status of the completion record.",
        &["device", "wq", "status"],
    ),
    counter(
        "dsascope_operations_total",
        "Faults by operation of the descriptor.",
        &["device", "wq", "operation"],
    ),
    Metric {
        name: "dsascope_stage_seconds",
        kind: MetricKind::Histogram,
        help: "Time in each stage of a fault's service.",
        unit: "seconds",
        labels: &["device", "wq", "stage"],
    },
    gauge("dsascope_pending_faults", "Faults queued and not yet started.", &[]),
    gauge("dsascope_active_faults", "Faults in service.", &[]),
    gauge("dsascope_open_files", "Open files on a work queue.", WQ),
    counter("dsascope_interrupts_total", "Runs of the device's interrupt thread.", DEVICE),
    Metric {
        name: "dsascope_interrupt_seconds_total",
        kind: MetricKind::Counter,
        help: "Time in the device's interrupt thread.",
        unit: "seconds",
        labels: DEVICE,
    },
    counter("dsascope_swerrors_total", "Errors that the driver read from SWERROR.", DEVICE),
    counter("dsascope_records_seen_total", "Records that the kernel side wanted to send.", &["record"]),
    counter("dsascope_records_lost_total", "Records that the ring had no room for.", &["record"]),
    counter("dsascope_records_received_total", "Records that arrived.", &["record"]),
    counter("dsascope_holes_total", "What could not be followed, by kind.", &["hole"]),
    gauge("dsascope_probe_attached", "1 when the probe is attached.", &["hook", "by"]),
    counter("dsascope_probe_hits_total", "Times a probe fired.", &["hook"]),
];

/// Values of the `stage` label.
#[must_use]
pub fn stage_labels() -> [&'static str; Stage::COUNT] {
    Stage::ALL.map(Stage::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let plain = |text: &str| {
            text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && text.as_bytes()[0].is_ascii_lowercase()
        };
        for (index, metric) in CATALOGUE.iter().enumerate() {
            assert!(plain(metric.name) && metric.name.starts_with("dsascope_"), "{}", metric.name);
            assert!(metric.labels.iter().all(|label| plain(label)), "{}", metric.name);
            assert_eq!(
                metric.kind == MetricKind::Counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            assert!(metric.unit.is_empty() || metric.name.contains(metric.unit), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(
                CATALOGUE[..index].iter().all(|other| other.name != metric.name),
                "{} twice",
                metric.name
            );
        }
    }
}
