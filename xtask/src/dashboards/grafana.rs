//! The Grafana dashboard: rows of panels, each of them a question.

use dsascope_core::metrics as m;
use serde_json::{Value, json};

/// Variables of the dashboard as a selector.
const HERE: &str = "instance=~\"$instance\"";
const DEVICE: &str = "instance=~\"$instance\",device=~\"$device\"";
const WQ: &str = "instance=~\"$instance\",device=~\"$device\",wq=~\"$wq\"";
/// Grafana's own: long enough for a rate at any zoom.
const RANGE: &str = "$__rate_interval";

struct Panel {
    title: &'static str,
    /// What to see in it.
    description: &'static str,
    kind: &'static str,
    unit: &'static str,
    /// Expressions with their legends.
    targets: Vec<(String, &'static str)>,
}

struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

fn rate(name: &str, selector: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({name}{{{selector}}}[{RANGE}]))")
}

fn quantile(quantile: f64) -> String {
    let name = m::STAGE_SECONDS.name;
    format!("histogram_quantile({quantile}, sum by (le, stage) (rate({name}_bucket{{{WQ}}}[{RANGE}])))")
}

fn rows() -> Vec<Row> {
    let series =
        |title, description, unit, targets| Panel { title, description, kind: "timeseries", unit, targets };
    let heat = |title, description, expression: String| Panel {
        title,
        description,
        kind: "heatmap",
        unit: "s",
        targets: vec![(expression, "{{le}}")],
    };
    let stage = m::STAGE_SECONDS.name;
    vec![
        Row {
            title: "Overview",
            panels: vec![
                series(
                    "Faults",
                    "Completion-record faults served, by host and work queue.",
                    "ops",
                    vec![(rate(m::FAULTS.name, WQ, "instance, wq"), "{{instance}} {{wq}}")],
                ),
                series(
                    "Failed copies",
                    "Records that could not be delivered: their submitters wait for ever.",
                    "ops",
                    vec![(rate(m::FAILED.name, WQ, "instance, wq"), "{{instance}} {{wq}}")],
                ),
                series(
                    "Failure ratio",
                    "Failed copies by faults.",
                    "percentunit",
                    vec![(
                        format!(
                            "{} / ({} > 0)",
                            rate(m::FAILED.name, WQ, "instance, wq"),
                            rate(m::FAULTS.name, WQ, "instance, wq")
                        ),
                        "{{instance}} {{wq}}",
                    )],
                ),
                series(
                    "Findings",
                    "What goes wrong without anybody being told: docs/findings.md explains each kind.",
                    "short",
                    vec![(
                        format!(
                            "sum by (instance, finding) (increase({}{{{HERE}}}[{RANGE}]))",
                            m::FINDINGS.name
                        ),
                        "{{instance}} {{finding}}",
                    )],
                ),
            ],
        },
        Row {
            title: "Latency",
            panels: vec![
                series(
                    "p99 by stage",
                    "99 of 100 faults spend no longer in each stage.",
                    "s",
                    vec![(quantile(0.99), "{{stage}}")],
                ),
                series(
                    "p50 by stage",
                    "Half of all faults spend no longer in each stage.",
                    "s",
                    vec![(quantile(0.5), "{{stage}}")],
                ),
                heat(
                    "Service time (classic buckets)",
                    "Every fault's service, over time.",
                    format!("sum by (le) (rate({stage}_bucket{{{WQ},stage=\"service\"}}[{RANGE}]))"),
                ),
                heat(
                    "Service time (native histogram)",
                    "The same in finer buckets; needs native histograms in Prometheus.",
                    format!("sum(rate({stage}{{{WQ},stage=\"service\"}}[{RANGE}]))"),
                ),
            ],
        },
        Row {
            title: "Processes",
            panels: vec![
                series(
                    "Faults by process",
                    "The processes with most faults, and all others as one.",
                    "ops",
                    vec![(
                        format!("topk(10, {})", rate(m::PROCESS_FAULTS.name, WQ, "instance, comm, pid, wq")),
                        "{{instance}} {{comm}} {{pid}} {{wq}}",
                    )],
                ),
                series(
                    "Failed copies by process",
                    "Whose submitters wait for ever.",
                    "ops",
                    vec![(
                        format!("topk(10, {})", rate(m::PROCESS_FAILED.name, WQ, "instance, comm, pid, wq")),
                        "{{instance}} {{comm}} {{pid}} {{wq}}",
                    )],
                ),
                series(
                    "Open files",
                    "Files of processes on each work queue.",
                    "short",
                    vec![(
                        format!("sum by (instance, wq) ({}{{{WQ}}})", m::OPEN_FILES.name),
                        "{{instance}} {{wq}}",
                    )],
                ),
                series(
                    "Faults by operation",
                    "What the descriptors asked for.",
                    "ops",
                    vec![(rate(m::OPERATIONS.name, WQ, "operation"), "{{operation}}")],
                ),
            ],
        },
        Row {
            title: "Event log",
            panels: vec![
                series(
                    "Depth",
                    "Entries that one run of the interrupt thread found, the most so far, and the size.",
                    "short",
                    vec![
                        (format!("{}{{{DEVICE}}}", m::EVENT_LOG_DEPTH.name), "{{instance}} {{device}} now"),
                        (
                            format!("{}{{{DEVICE}}}", m::EVENT_LOG_HIGH_WATER.name),
                            "{{instance}} {{device}} most",
                        ),
                        (format!("{}{{{DEVICE}}}", m::EVENT_LOG_SIZE.name), "{{instance}} {{device}} size"),
                        (
                            format!("{}{{{DEVICE}}}", m::EVENT_LOG_ADVISED.name),
                            "{{instance}} {{device}} advised",
                        ),
                    ],
                ),
                series(
                    "Engines waited",
                    "How long engines can have waited for a slot of a full log, a second.",
                    "percentunit",
                    vec![(
                        rate(m::EVENT_LOG_WAITED.name, DEVICE, "instance, device"),
                        "{{instance}} {{device}}",
                    )],
                ),
                series(
                    "Interrupt thread",
                    "Share of the time that the driver's interrupt thread ran.",
                    "percentunit",
                    vec![(
                        rate(m::INTERRUPT_SECONDS.name, DEVICE, "instance, device"),
                        "{{instance}} {{device}}",
                    )],
                ),
                series(
                    "Device errors",
                    "SWERROR, halts, resets and warnings.",
                    "ops",
                    vec![
                        (
                            rate(m::SWERRORS.name, DEVICE, "instance, device"),
                            "{{instance}} {{device}} SWERROR",
                        ),
                        (rate(m::HALTS.name, DEVICE, "instance, device"), "{{instance}} {{device}} halt"),
                        (rate(m::RESETS.name, DEVICE, "instance, device"), "{{instance}} {{device}} reset"),
                        (
                            rate(m::WARNINGS.name, DEVICE, "instance, device"),
                            "{{instance}} {{device}} warning",
                        ),
                    ],
                ),
            ],
        },
        Row {
            title: "Probes, loss, cost",
            panels: vec![
                series(
                    "Lost records",
                    "What never reached these figures; totals by work queue are exact all the same.",
                    "ops",
                    vec![(rate(m::LOST.name, HERE, "instance, where"), "{{instance}} {{where}}")],
                ),
                series(
                    "Probes not attached",
                    "By hook.",
                    "short",
                    vec![(
                        format!("count by (instance, hook) ({}{{{HERE}}} == 0)", m::PROBE_ATTACHED.name),
                        "{{instance}} {{hook}}",
                    )],
                ),
                series(
                    "Ring",
                    "Unread bytes between kernel and dsascope, by its size.",
                    "percentunit",
                    vec![(
                        format!("{}{{{HERE}}} / {}{{{HERE}}}", m::RING_USED.name, m::RING_SIZE.name),
                        "{{instance}}",
                    )],
                ),
                series(
                    "Own processor time",
                    "Of dsascope itself, and of its programs where the kernel counts that.",
                    "percentunit",
                    vec![
                        (rate(m::OWN_CPU_SECONDS.name, HERE, "instance"), "{{instance}} dsascope"),
                        (rate(m::PROGRAM_SECONDS.name, HERE, "instance"), "{{instance}} programs"),
                    ],
                ),
            ],
        },
    ]
}

/// Expressions with the panels that they are of, as Grafana sends them for everything.
pub(super) fn expressions() -> Vec<(String, String)> {
    let all = |text: &str| {
        let text = text.replace(RANGE, "1m");
        ["$instance", "$device", "$wq"].iter().fold(text, |text, variable| text.replace(variable, ".*"))
    };
    let panels = rows().into_iter().flat_map(|row| row.panels);
    panels
        .flat_map(|panel| panel.targets.into_iter().map(move |target| (panel.title.to_owned(), target.0)))
        .map(|(title, expression)| (title, all(&expression)))
        .collect()
}

pub(super) fn dashboard() -> String {
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let mut panels = Vec::new();
    let (mut id, mut y) = (0, 0);
    for row in rows() {
        id += 1;
        panels.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": 24, "h": 1 },
        }));
        y += 1;
        for (place, panel) in row.panels.iter().enumerate() {
            id += 1;
            let position = json!({ "x": place % 2 * 12, "y": y + place / 2 * 8, "w": 12, "h": 8 });
            panels.push(panel.json(id, &source, &position));
        }
        y += row.panels.len().div_ceil(2) * 8;
    }
    let variable = |name: &str, label: &str, query: String| {
        json!({
            "name": name, "label": label, "type": "query", "datasource": source, "query": { "query": query, "refId": name },
            "definition": query, "includeAll": true, "multi": true, "allValue": ".*", "refresh": 2, "sort": 1,
            "current": { "text": ["All"], "value": ["$__all"] },
        })
    };
    let host = m::HOST_INFO.name;
    let faults = m::FAULTS.name;
    let dashboard = json!({
        "uid": "dsascope", "title": "dsascope", "tags": ["dsa", "iaa", "idxd"], "schemaVersion": 39, "version": 1,
        "editable": true, "graphTooltip": 1, "refresh": "30s", "time": { "from": "now-1h", "to": "now" }, "timezone": "",
        "description": "Completion-record faults of Intel DSA and IAA, as `dsascope serve` tells of them.",
        "templating": { "list": [
            { "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1 },
            variable("instance", "Host", format!("label_values({host}, instance)")),
            variable("device", "Device", format!("label_values({faults}{{instance=~\"$instance\"}}, device)")),
            variable("wq", "Work queue", format!("label_values({faults}{{instance=~\"$instance\",device=~\"$device\"}}, wq)")),
        ] },
        "annotations": { "list": [] },
        "panels": panels,
    });
    serde_json::to_string_pretty(&dashboard).map(|text| text + "\n").unwrap_or_default()
}

impl Panel {
    fn json(&self, id: usize, source: &Value, position: &Value) -> Value {
        let targets = self.targets.iter().enumerate().map(|(number, (expression, legend))| {
            let format = if self.kind == "heatmap" { "heatmap" } else { "time_series" };
            let letter = char::from(b'A' + number as u8).to_string();
            json!({ "refId": letter, "datasource": source, "expr": expression, "legendFormat": legend, "format": format })
        });
        let targets: Vec<Value> = targets.collect();
        let options = match self.kind {
            "heatmap" => json!({
                "calculate": false, "color": { "mode": "scheme", "scheme": "Viridis", "steps": 64 },
                "yAxis": { "unit": self.unit, "axisPlacement": "left" }, "cellGap": 0,
            }),
            _ => {
                json!({ "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi", "sort": "desc" } })
            }
        };
        json!({
            "id": id, "type": self.kind, "title": self.title, "description": self.description, "datasource": source,
            "gridPos": position, "targets": targets, "options": options,
            "fieldConfig": { "defaults": { "unit": self.unit, "min": 0 }, "overrides": [] },
        })
    }
}
