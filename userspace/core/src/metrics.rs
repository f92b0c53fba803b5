//! The metric catalogue as data: what `dsascope serve` publishes and dashboards are generated from. Names here are stable.
//!
//! Names follow Prometheus: base units in the name, counters end in `_total`. What was not observed has no sample, and is never 0.
//! Refuses: values and encodings; those are the export crate's.

use crate::stages::Stage;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    /// As the exposition formats name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
    /// Of the value, as OpenMetrics names it; empty for a plain count.
    pub unit: &'static str,
    pub labels: &'static [&'static str],
}

/// Upper bounds of the classic histograms' buckets, in ns, inclusive; one without a bound follows. Durations are whole nanoseconds.
pub const BUCKETS_NS: [u64; 24] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Value of the labels of what has no series of its own: processes beyond the limit, latencies that are not kept by WQ.
pub const OTHER: &str = "other";

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal, $unit:literal, [$($label:literal),*], $help:literal;)*) => {
        $(pub const $id: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            help: $help,
            unit: $unit,
            labels: &[$($label),*],
        };)*

        pub const CATALOGUE: &[Metric] = &[$($id,)*];
    };
}

metrics! {
    // By WQ: the kernel's totals, which a full ring does not touch.
    FAULTS = Counter "dsascope_faults_total", "", ["device", "wq"],
        "Completion-record faults whose service ended.";
    DELIVERED = Counter "dsascope_delivered_total", "", ["device", "wq"],
        "Completion records that the driver delivered.";
    FAILED = Counter "dsascope_failed_total", "", ["device", "wq"],
        "Completion records whose copy failed: the submitter waits for ever.";
    NOT_COPIED = Counter "dsascope_not_copied_total", "", ["device", "wq"],
        "Faults for which the driver copied nothing.";
    UNOBSERVED = Counter "dsascope_unobserved_total", "", ["device", "wq"],
        "Faults whose copy the attached probes cannot see.";
    SKIPPED = Counter "dsascope_skipped_total", "", ["device", "wq"],
        "Entries marked at a close and never served.";

    // By WQ, from the records that arrived: lost ones are missing here.
    ERRORS = Counter "dsascope_errors_total", "", ["device", "wq", "error"],
        "Faults that arrived, by error of the event-log entry: cr_fault, batch, drain, other.";
    STATUSES = Counter "dsascope_statuses_total", "", ["device", "wq", "status"],
        "Faults that arrived, by status byte of the completion record.";
    OPERATIONS = Counter "dsascope_operations_total", "", ["device", "wq", "operation"],
        "Faults that arrived, by operation of the descriptor.";
    STAGE_SECONDS = Histogram "dsascope_stage_seconds", "seconds", ["device", "wq", "stage"],
        "Time in each stage of a fault's service.";
    OPEN_FILES = Gauge "dsascope_open_files", "", ["device", "wq"],
        "Processes' open files on a work queue, as far as known.";

    // By process: the top few, and the rest of each WQ as "other".
    PROCESS_FAULTS = Counter "dsascope_process_faults_total", "", ["device", "wq", "pasid", "pid", "comm"],
        "Faults of a process on a work queue since it has a series; the other processes' as \"other\".";
    PROCESS_FAILED = Counter "dsascope_process_failed_total", "", ["device", "wq", "pasid", "pid", "comm"],
        "Failed copies of a process on a work queue, likewise.";

    // By device.
    INTERRUPTS = Counter "dsascope_interrupts_total", "", ["device"],
        "Runs of the device's interrupt thread.";
    INTERRUPT_SECONDS = Counter "dsascope_interrupt_seconds_total", "seconds", ["device"],
        "Time in the device's interrupt thread.";
    INTERRUPT_ENTRIES = Counter "dsascope_interrupt_entries_total", "", ["device"],
        "Event-log entries that the interrupt thread handed over.";
    SWERRORS = Counter "dsascope_swerrors_total", "", ["device"],
        "Errors that the driver read from SWERROR.";
    HALTS = Counter "dsascope_halts_total", "", ["device"],
        "Halts of the device.";
    RESETS = Counter "dsascope_resets_total", "", ["device"],
        "Resets of the device.";
    WARNINGS = Counter "dsascope_warnings_total", "", ["device"],
        "Warnings that the driver wrote to the kernel's log.";
    SVA_ENABLED = Gauge "dsascope_sva_enabled", "", ["device"],
        "1 when the device takes PASIDs: without shared virtual addressing no process has faults.";
    EVENT_LOG_SIZE = Gauge "dsascope_event_log_size_entries", "entries", ["device"],
        "Slots of the event log; one of them stays empty.";
    EVENT_LOG_DEPTH = Gauge "dsascope_event_log_depth_entries", "entries", ["device"],
        "Entries that the last run of the interrupt thread handed over.";
    EVENT_LOG_HIGH_WATER = Gauge "dsascope_event_log_high_water_entries", "entries", ["device"],
        "Most entries that one run of the interrupt thread handed over.";
    EVENT_LOG_ADVISED = Gauge "dsascope_event_log_advised_size_entries", "entries", ["device"],
        "The event_log_size that the load so far advises.";
    EVENT_LOG_WAITED = Counter "dsascope_event_log_waited_seconds_total", "seconds", ["device"],
        "Longest time in all that an engine can have waited for a slot of the event log.";

    // Of the whole.
    PENDING = Gauge "dsascope_pending_faults", "faults", [],
        "Faults queued and not yet started.";
    ACTIVE = Gauge "dsascope_active_faults", "faults", [],
        "Faults in service.";
    PAGE_REQUESTS = Counter "dsascope_page_requests_total", "", [],
        "Groups of page requests that the IOMMU answered.";
    PAGE_REQUESTS_REFUSED = Counter "dsascope_page_requests_refused_total", "", [],
        "Groups of page requests that were answered with anything but success.";
    FINDINGS = Counter "dsascope_findings_total", "", ["finding"],
        "What goes wrong without anybody being told, by kind; docs/findings.md explains each.";

    // What is not known.
    RECORDS_SEEN = Counter "dsascope_records_seen_total", "", ["record"],
        "Records that the kernel side wanted to send.";
    RECORDS_SENT = Counter "dsascope_records_sent_total", "", ["record"],
        "Records that the ring took.";
    RECORDS_LOST = Counter "dsascope_records_lost_total", "", ["record"],
        "Records that the ring had no room for.";
    RECORDS_RECEIVED = Counter "dsascope_records_received_total", "", ["record"],
        "Records that arrived.";
    LOST = Counter "dsascope_lost_total", "", ["where"],
        "Records that never reached the figures, by where they were lost: ring, undecodable, channel, capture.";
    LEFT_OUT = Counter "dsascope_left_out_total", "", [],
        "Faults that a capture's filter left out of it: by status, operation, stage and process, they are in no figure.";
    HOLES = Counter "dsascope_holes_total", "", ["hole"],
        "What could not be followed, by kind.";
    KERNEL_HOLES = Counter "dsascope_kernel_holes_total", "", ["hole"],
        "What the eBPF programs could not follow, by kind.";
    BALANCED = Gauge "dsascope_ledger_balanced", "", [],
        "1 while the books of sent, lost and received records agree, 0 when they do not: a defect of dsascope.";
    PROBE_ATTACHED = Gauge "dsascope_probe_attached", "", ["hook", "by"],
        "1 when the probe is attached, and how; 0 when it is not.";
    PROBE_REQUIRED_MISSING = Gauge "dsascope_probe_required_missing", "", [],
        "Probes that are not attached and without which no fault can be traced.";
    PROBE_HITS = Counter "dsascope_probe_hits_total", "", ["hook"],
        "Times a probe fired.";

    // What it costs.
    PROGRAM_RUNS = Counter "dsascope_program_runs_total", "", ["program"],
        "Runs of an eBPF program; only with kernel.bpf_stats_enabled.";
    PROGRAM_SECONDS = Counter "dsascope_program_seconds_total", "seconds", ["program"],
        "Time in an eBPF program; only with kernel.bpf_stats_enabled.";
    PROGRAM_MISSED = Counter "dsascope_program_missed_total", "", ["program"],
        "Runs of an eBPF program that the kernel skipped.";
    RING_USED = Gauge "dsascope_ring_used_bytes", "bytes", [],
        "Unread bytes in the ring.";
    RING_SIZE = Gauge "dsascope_ring_size_bytes", "bytes", [],
        "Size of the ring.";
    OWN_CPU_SECONDS = Counter "dsascope_own_cpu_seconds_total", "seconds", [],
        "Processor time of dsascope itself, without the eBPF programs.";
    OWN_MEMORY = Gauge "dsascope_own_memory_bytes", "bytes", [],
        "Resident memory of dsascope itself.";

    // What this is.
    BUILD_INFO = Gauge "dsascope_build_info", "", ["version"],
        "1; the version of the dsascope that answers.";
    HOST_INFO = Gauge "dsascope_host_info", "", ["host", "kernel"],
        "1; the host that is, or was, traced.";
    START_TIME = Gauge "dsascope_start_timestamp_seconds", "seconds", [],
        "When tracing began, in seconds since 1970.";
    LAST_EVENT_TIME = Gauge "dsascope_last_event_timestamp_seconds", "seconds", [],
        "Time of the last event or tick, in seconds since 1970: how old the figures are.";
}

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
            let stem = match metric.kind {
                MetricKind::Counter => metric.name.strip_suffix("_total"),
                _ => Some(metric.name).filter(|name| !name.ends_with("_total")),
            };
            let stem = stem.unwrap_or_else(|| panic!("{}: _total is for counters", metric.name));
            // OpenMetrics: the unit is the end of the name.
            assert!(metric.unit.is_empty() || stem.ends_with(metric.unit), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(
                CATALOGUE[..index].iter().all(|other| other.name != metric.name),
                "{} twice",
                metric.name
            );
        }
    }

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/serve.md");

    #[test]
    fn the_document_has_this_catalogue() {
        let mut table = String::from("| metric | kind | labels | what |\n|---|---|---|---|\n");
        for Metric { name, kind, labels, help, .. } in CATALOGUE {
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            table.push_str(&format!("| `{name}` | {} | {labels} | {help} |\n", kind.name()));
        }
        let text = std::fs::read_to_string(DOCUMENT).unwrap();
        let (head, rest) = text.split_once("<!-- metrics -->\n").unwrap();
        let (found, tail) = rest.split_once("<!-- end -->").unwrap();
        if std::env::var_os("UPDATE_METRICS").is_some() {
            std::fs::write(DOCUMENT, format!("{head}<!-- metrics -->\n{table}<!-- end -->{tail}")).unwrap();
        } else {
            assert!(
                found == table,
                "run `UPDATE_METRICS=1 cargo test -p dsascope-core` and commit {DOCUMENT}"
            );
        }
    }

    #[test]
    fn bounds_rise_from_a_microsecond_to_a_minute() {
        assert!(BUCKETS_NS.is_sorted_by(|a, b| a < b));
        assert_eq!((BUCKETS_NS[0], BUCKETS_NS[23]), (1_000, 60_000_000_000));
    }
}
