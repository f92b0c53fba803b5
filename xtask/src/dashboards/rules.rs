//! Prometheus' rules: what is recorded for a fleet, what wakes somebody, and `promtool`'s tests of the latter.

use std::fmt::Write;

use dsascope_core::metrics as m;

struct Recording {
    name: &'static str,
    expression: String,
}

struct Alert {
    name: &'static str,
    expression: String,
    /// How long it has to hold.
    hold: &'static str,
    severity: &'static str,
    summary: &'static str,
    /// What to do.
    description: &'static str,
    /// A series a minute for which it fires at [`FIRES_AT`], and one for which it does not.
    fires: Vec<(String, &'static str)>,
    quiet: Vec<(String, &'static str)>,
    /// Labels of the alert in that test, beside `severity`.
    labels: &'static [(&'static str, &'static str)],
}

/// When promtool looks.
const FIRES_AT: &str = "15m";

fn recordings() -> Vec<Recording> {
    let by_wq = |name: &str| format!("sum by (instance, device, wq) (rate({name}[1m]))");
    let stage = m::STAGE_SECONDS.name;
    vec![
        Recording { name: "instance_device_wq:dsascope_faults:rate1m", expression: by_wq(m::FAULTS.name) },
        Recording { name: "instance_device_wq:dsascope_failed:rate1m", expression: by_wq(m::FAILED.name) },
        Recording {
            name: "instance:dsascope_failure_ratio:rate5m",
            expression: format!(
                "sum by (instance) (rate({}[5m])) / (sum by (instance) (rate({}[5m])) > 0)",
                m::FAILED.name,
                m::FAULTS.name
            ),
        },
        Recording {
            name: "instance_stage:dsascope_stage_seconds:p99_5m",
            expression: format!(
                "histogram_quantile(0.99, sum by (instance, stage, le) (rate({stage}_bucket[5m])))"
            ),
        },
        Recording {
            name: "instance_device:dsascope_event_log_fill:ratio",
            expression: format!("{} / {}", m::EVENT_LOG_DEPTH.name, m::EVENT_LOG_SIZE.name),
        },
    ]
}

fn series(name: &str, labels: &str, values: &'static str) -> (String, &'static str) {
    (format!("{name}{{{labels}}}"), values)
}

fn alerts_list() -> Vec<Alert> {
    const LAB: &str = "instance=\"lab7\"";
    const DSA0: &str = "instance=\"lab7\", device=\"dsa0\"";
    const WQ0: &str = "instance=\"lab7\", device=\"dsa0\", wq=\"wq0.1\"";
    vec![
        Alert {
            name: "DsascopeFaultStorm",
            expression: format!("sum by (instance, device, wq) (rate({}[5m])) > 1000", m::FAULTS.name),
            hold: "5m",
            severity: "warning",
            summary: "more than 1000 completion-record faults a second on {{ $labels.wq }} of {{ $labels.instance }}",
            description: "Processes submit descriptors whose completion records lie in pages that are not there. \
                Name the process with the dashboard's row Processes; docs/debug-a-fault-storm.md goes on from there.",
            fires: vec![series(m::FAULTS.name, WQ0, "0+120000x20")],
            quiet: vec![series(m::FAULTS.name, WQ0, "0+6000x20")],
            labels: &[("instance", "lab7"), ("device", "dsa0"), ("wq", "wq0.1")],
        },
        Alert {
            name: "DsascopeFailedCopies",
            expression: format!("sum by (instance, device, wq) (increase({}[5m])) > 0", m::FAILED.name),
            hold: "0m",
            severity: "critical",
            summary: "completion records on {{ $labels.wq }} of {{ $labels.instance }} cannot be delivered",
            description: "The page of a completion record is read-only or gone: whoever submitted waits for ever. \
                dsascope live names process and address.",
            fires: vec![series(m::FAILED.name, WQ0, "0+1x20")],
            quiet: vec![series(m::FAILED.name, WQ0, "7+0x20")],
            labels: &[("instance", "lab7"), ("device", "dsa0"), ("wq", "wq0.1")],
        },
        Alert {
            name: "DsascopeEventLogNearFull",
            expression: format!("{} / {} > 0.8", m::EVENT_LOG_HIGH_WATER.name, m::EVENT_LOG_SIZE.name),
            hold: "0m",
            severity: "warning",
            summary: "the event log of {{ $labels.device }} of {{ $labels.instance }} was more than 80 % full",
            description: "While it is full engines wait, for every process. docs/event-log-sizing.md says how to choose a size; \
                dsascope_event_log_advised_size_entries is one. \
                The alert stands until dsascope is started again: the mark does not fall.",
            fires: vec![
                series(m::EVENT_LOG_HIGH_WATER.name, DSA0, "60x20"),
                series(m::EVENT_LOG_SIZE.name, DSA0, "64x20"),
            ],
            quiet: vec![
                series(m::EVENT_LOG_HIGH_WATER.name, DSA0, "30x20"),
                series(m::EVENT_LOG_SIZE.name, DSA0, "64x20"),
            ],
            labels: &[("instance", "lab7"), ("device", "dsa0")],
        },
        Alert {
            name: "DsascopeLoss",
            expression: format!("sum by (instance, where) (increase({}[5m])) > 0", m::LOST.name),
            hold: "0m",
            severity: "info",
            summary: "dsascope on {{ $labels.instance }} lost records ({{ $labels.where }})",
            description: "Totals are exact all the same; single faults and latencies are missing. A larger --ring-size helps.",
            fires: vec![series(m::LOST.name, "instance=\"lab7\", where=\"ring\"", "0+5x20")],
            quiet: vec![series(m::LOST.name, "instance=\"lab7\", where=\"ring\"", "5+0x20")],
            labels: &[("instance", "lab7"), ("where", "ring")],
        },
        Alert {
            name: "DsascopeSvaOff",
            expression: format!("{} == 0", m::SVA_ENABLED.name),
            hold: "5m",
            severity: "info",
            summary: "shared virtual addressing is off for {{ $labels.device }} of {{ $labels.instance }}",
            description: "No process can open its work queues, so there will be no faults to see. `dsascope doctor` says why.",
            fires: vec![series(m::SVA_ENABLED.name, DSA0, "0x20")],
            quiet: vec![series(m::SVA_ENABLED.name, DSA0, "1x20")],
            labels: &[("instance", "lab7"), ("device", "dsa0")],
        },
        Alert {
            name: "DsascopeProbeMissing",
            expression: format!("{} > 0", m::PROBE_REQUIRED_MISSING.name),
            hold: "5m",
            severity: "warning",
            summary: "required probes are not attached on {{ $labels.instance }}",
            description: "Faults are not traced. The dashboard's row Probes names the hooks; docs/probes.md says what each needs.",
            fires: vec![series(m::PROBE_REQUIRED_MISSING.name, LAB, "2x20")],
            quiet: vec![series(m::PROBE_REQUIRED_MISSING.name, LAB, "0x20")],
            labels: &[("instance", "lab7")],
        },
        Alert {
            name: "DsascopeDown",
            expression: "up{job=\"dsascope\"} == 0".into(),
            hold: "5m",
            severity: "warning",
            summary: "dsascope on {{ $labels.instance }} does not answer",
            description: "It ended, or cannot be reached. Counters begin anew when it is started again.",
            fires: vec![series("up", "job=\"dsascope\", instance=\"lab7\"", "0x20")],
            quiet: vec![series("up", "job=\"dsascope\", instance=\"lab7\"", "1x20")],
            labels: &[("job", "dsascope"), ("instance", "lab7")],
        },
    ]
}

/// Text as a double-quoted scalar: JSON's are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const HEAD: &str = "# Made by `cargo xtask dashboards` from the metric catalogue; do not edit.\n";

pub(super) fn recording() -> String {
    let mut out = format!("{HEAD}groups:\n  - name: dsascope-recording\n    rules:\n");
    for rule in recordings() {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "      - record: {}\n        expr: {}", rule.name, quoted(&rule.expression));
    }
    out
}

pub(super) fn alerts() -> String {
    let mut out = format!("{HEAD}groups:\n  - name: dsascope-alerts\n    rules:\n");
    for alert in alerts_list() {
        let _ = writeln!(
            out,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        annotations:\n          summary: {}\n          description: {}",
            alert.name,
            quoted(&alert.expression),
            alert.hold,
            alert.severity,
            quoted(alert.summary),
            quoted(alert.description),
        );
    }
    out
}

/// For `promtool test rules`: each alert on a series for which it fires, and on one for which it does not.
pub(super) fn tests() -> String {
    let mut out = format!("{HEAD}rule_files:\n  - alert-rules.yaml\nevaluation_interval: 1m\ntests:\n");
    for alert in alerts_list() {
        for (input, fires) in [(&alert.fires, true), (&alert.quiet, false)] {
            let _ = writeln!(out, "  - interval: 1m\n    input_series:");
            for (series, values) in input {
                let _ =
                    writeln!(out, "      - series: {}\n        values: {}", quoted(series), quoted(values));
            }
            let _ = writeln!(
                out,
                "    alert_rule_test:\n      - eval_time: {FIRES_AT}\n        alertname: {}",
                alert.name
            );
            if !fires {
                let _ = writeln!(out, "        exp_alerts: []");
                continue;
            }
            let _ = writeln!(
                out,
                "        exp_alerts:\n          - exp_labels:\n              severity: {}",
                alert.severity
            );
            for (name, value) in alert.labels {
                let _ = writeln!(out, "              {name}: {}", quoted(value));
            }
            let filled = |text: &str| {
                alert.labels.iter().fold(text.to_owned(), |text, (name, value)| {
                    text.replace(&format!("{{{{ $labels.{name} }}}}"), value)
                })
            };
            let _ = writeln!(
                out,
                "            exp_annotations:\n              summary: {}\n              description: {}",
                quoted(&filled(alert.summary)),
                quoted(&filled(alert.description)),
            );
        }
    }
    out
}

pub(super) fn expressions() -> Vec<(String, String)> {
    let recordings = recordings().into_iter().map(|rule| (rule.name.to_owned(), rule.expression));
    recordings
        .chain(alerts_list().into_iter().map(|alert| (alert.name.to_owned(), alert.expression)))
        .collect()
}
