//! The report as a page: one file, no scripts, nothing from elsewhere, drawn as SVG by [`chart`].
//!
//! Text from captures (commands, warnings, host names) is escaped by the template; the page's policy forbids scripts all the same. Each
//! figure is written as `dsascope stat` writes it, and in full as `data-ns` or `data-count`. Memory is that of [`Report`].

mod chart;
mod style;

use std::fmt;
use std::io::Write;

use dsascope_common::wire::kind;
use dsascope_core::decode;
use dsascope_core::event::{ByKind, CopyOutcome, Event, Fault, HoleKind, SessionInfo, WqConfig};
use dsascope_core::findings::Finding;
use dsascope_core::hist::{DIGITS, HIGHEST_NS, Latency, StageHistograms, Summary};
use dsascope_core::json::{self, Body, SummaryLine};
use dsascope_core::ledger::Balance;
use dsascope_core::model::{Model, Process, Wq};
use dsascope_core::quantity;
use dsascope_core::report::{Map, Report, latency_ns};
use dsascope_core::stages::Stage;
use maud::{Markup, html};

use crate::page::document;
use crate::row::Time;
use crate::{ExportError, Exporter, Output};
use style::LOOK;

const FORMAT: &str = "HTML";
/// Rows of a table of processes; the rest is summed up.
const PROCESSES: usize = 40;
/// WQs whose latencies are merged for the page.
const WQS: usize = 64;

/// See the module.
pub struct Html {
    out: Output,
    report: Report,
}

impl Html {
    #[must_use]
    pub fn new(out: Output) -> Self {
        Self { out, report: Report::default() }
    }
}

impl Exporter for Html {
    fn event(&mut self, _model: &Model, event: &Event) -> Result<(), ExportError> {
        self.report.event(event);
        Ok(())
    }

    fn finish(&mut self, model: &mut Model) -> Result<(), ExportError> {
        let page = page(model, &self.report);
        let written = self.out.write_all(page.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(|error| ExportError::write(FORMAT, error))
    }
}

impl fmt::Debug for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Html").finish_non_exhaustive()
    }
}

/// The whole page.
#[must_use]
pub fn page(model: &Model, report: &Report) -> String {
    let summary = match json::summary(model).body {
        Body::Summary(summary) => Some(summary),
        _ => None,
    };
    let host = model.session().map_or("unknown host", |session| session.host.as_str());
    let latency = model.latency();
    let body = html! {
                (head(model, host))
                main {
                    (overview(model, &latency))
                    (findings(model, &model.findings()))
                    (stages(&latency))
                    (map(model, report, &latency))
                    (histograms(&latency))
                    (processes(model))
                    (wqs(model))
                    (event_logs(model))
                    (worst(model, report))
                    (grounds(model, summary.as_deref()))
                }
                footer { "Written by dsascope" @if let Some(session) = model.session() { " " (session.tool_version) } ". Durations have three digits; hover for nanoseconds." }
    };
    document(&format!("DSA/IAA faults on {host}"), &LOOK, &body)
}

fn duration(ns: u64) -> Markup {
    html! { span data-ns=(ns) title={ (grouped(ns)) " ns" } { (quantity::duration(ns, "µs")) } }
}

fn optional(ns: Option<u64>) -> Markup {
    ns.map_or_else(|| html! { span.none { "–" } }, duration)
}

fn number(count: u64) -> Markup {
    html! { span data-count=(count) { (grouped(count)) } }
}

/// `1 234 567`, with thin spaces that do not break.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let first = (digits.len() + 2) % 3 + 1;
    let (head, tail) = digits.split_at(first.min(digits.len()));
    let mut text = head.to_owned();
    for (place, digit) in tail.chars().enumerate() {
        if place % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".into() } else { format!("{:.2} %", part as f64 * 100.0 / whole as f64) }
}

fn moment(model: &Model, at_ns: u64) -> String {
    quantity::moment(model.since_start_ns(at_ns))
}

fn head(model: &Model, host: &str) -> Markup {
    let lost = model.ledger().lost();
    let holes: u64 = model
        .holes()
        .iter()
        .filter(|(kind, _)| **kind != HoleKind::CaptureBegins)
        .map(|(_, count)| count)
        .sum();
    html! {
        header {
            p.kicker { "dsascope report" }
            h1 { "Completion-record faults on " span.host { (host) } }
            @if let Some(session) = model.session() { (subtitle(model, session)) }
            p.state {
                @if model.holes().contains_key(&HoleKind::CaptureCut) {
                    span.badge.bad { "capture cut off" } " figures end where it does"
                } @else if lost > 0 {
                    span.badge.bad { (grouped(lost)) " events lost" } " the kernel's totals count them all the same; latencies are of the rest"
                } @else if holes > 0 {
                    span.badge.warn { (grouped(holes)) " holes" } " every event received, some faults are not whole"
                } @else {
                    span.badge.good { "complete" } " every event was received"
                }
                @if let Some(filter) = model.filtering() {
                    " " span.badge.warn { "filtered" } " only faults with " code { (filter.expression) } " are in latencies, maps and findings; "
                    (number(filter.left_out)) " were left out"
                }
                @if !model.ledger().balanced() { " " span.badge.bad { "the books disagree" } " please report this" }
            }
        }
    }
}

fn subtitle(model: &Model, session: &SessionInfo) -> Markup {
    let wall = session.wall_at_zero_ns.checked_add_unsigned(session.started_ns);
    let wall = wall.map(|ns| Time(ns).text());
    let ran_ns = model.header().uptime_ns.unwrap_or(0);
    let devices: Vec<String> = session.devices.iter().map(|device| device.device.to_string()).collect();
    html! {
        p.sub {
            @if let Some((day, time)) = wall.as_ref().and_then(|wall| wall.as_str().split_once('T')) { (day) " " (time.get(..8).unwrap_or_default()) " UTC · " }
            "observed for " (quantity::duration(ran_ns, "µs"))
            " · kernel " (session.kernel)
            " · " (session.cpus) " CPUs · "
            @if devices.is_empty() { "no device" } @else { (devices.join(" ")) }
        }
    }
}

fn tile(label: &str, value: Markup, note: Markup) -> Markup {
    html! { div.tile { dt { (label) } dd { (value) } p { (note) } } }
}

fn overview(model: &Model, latency: &StageHistograms) -> Markup {
    let header = model.header();
    let (faults, failures) = (model.faults(), model.failures());
    let ran_ns = header.uptime_ns.unwrap_or(0);
    let rate = (ran_ns > 0).then(|| faults as f64 * 1e9 / ran_ns as f64);
    let of = |stage| latency.summary_now(stage);
    let (service, driver) = (of(Stage::Service), of(Stage::Driver));
    let files = model.processes().filter(|process| process.faults() > 0).count();
    html! {
        section {
            h2.hidden { "Summary" }
            dl.tiles id="summary" {
                (tile("faults", html! { span id="faults" { (number(faults)) } }, html! { (rate.map_or_else(|| "–".into(), quantity::rate)) " a second, of " (files) " open files" }))
                (tile("never delivered", html! { span.alarm[failures > 0] id="failures" { (number(failures)) } }, html! { (percent(failures, faults)) " of faults: their submitters wait for ever" }))
                (tile("driver adds, median", optional(driver.map(|s| s.p50_ns)), html! { "interrupt to delivery; 99 %: " (optional(driver.map(|s| s.p99_ns))) }))
                (tile("service, median", optional(service.map(|s| s.p50_ns)), html! { "in the kernel worker; 99 %: " (optional(service.map(|s| s.p99_ns))) }))
                (tile("worst", optional(driver.or(service).map(|s| s.max_ns)), html! { "the longest that a fault took" }))
                (tile("events lost", html! { span.alarm[model.ledger().lost() > 0] id="lost" { (number(model.ledger().lost())) } }, html! { "of " (grouped(model.ledger().kernel.seen.total())) " seen by the probes" }))
            }
        }
    }
}

fn findings(model: &Model, findings: &[Finding]) -> Markup {
    let unobserved = model.findings_unobserved();
    html! {
        section id="findings" {
            h2 { "Findings" }
            @if findings.is_empty() { p.good-news { "Nothing was found to go wrong in silence." } }
            @for finding in findings {
                article.finding {
                    h3 { span.badge.warn { (number(finding.count)) @if finding.at_least { " or more" } } " " (finding.finding.name()) }
                    p { (finding.sentence) "." }
                    @if let Some(last) = finding.evidence.last() {
                        p.note { "Last at " (moment(model, last.at_ns)) " s on " (last.place()) ": " (last.words) }
                    }
                    p.do { b { "To do: " } (finding.advice) "." }
                    p.note { (finding.confidence.word()) "; see " code { (finding.document) } }
                }
            }
            @if !unobserved.is_empty() {
                p.note {
                    "Not looked for, because the probes they need were not attached: "
                    @for (place, finding) in unobserved.iter().enumerate() { @if place > 0 { ", " } (finding.name()) }
                    "."
                }
            }
        }
    }
}

/// Cells of the figures of a stage, as `stat --json` names them.
fn figures(summary: Option<&Summary>) -> Markup {
    type Pick = fn(&Summary) -> u64;
    let cells: [(&str, Pick); 6] = [
        ("mean_ns", |s| s.mean_ns),
        ("p50_ns", |s| s.p50_ns),
        ("p90_ns", |s| s.p90_ns),
        ("p99_ns", |s| s.p99_ns),
        ("p999_ns", |s| s.p999_ns),
        ("max_ns", |s| s.max_ns),
    ];
    html! { @for (name, pick) in cells { td data-figure=(name) { (optional(summary.map(pick))) } } }
}

fn stages(latency: &StageHistograms) -> Markup {
    let all: Vec<(Stage, Summary)> =
        Stage::ALL.iter().filter_map(|&stage| Some((stage, latency.summary_now(stage)?))).collect();
    html! {
        section {
            h2 { "Where the time goes" }
            @if all.is_empty() { p { "No duration was observed." } } @else {
                div.wide { table id="stages" {
                    thead { tr { th { "stage" } th.range { "from the shortest to the longest" } th { "count" } th { "mean" } th { "50 %" } th { "90 %" } th { "99 %" } th { "99.9 %" } th { "max" } } }
                    tbody {
                        @for (stage, summary) in &all {
                            tr data-stage=(stage.name()) {
                                th scope="row" title=(stage.meaning()) { (stage.name()) }
                                td.range { (chart::range(summary, &all)) }
                                td data-figure="count" { (number(summary.count)) }
                                (figures(Some(summary)))
                            }
                        }
                    }
                } }
                p.note { "Thin line: shortest to longest; thick: half to 99 % of faults; mark: median; logarithmic. "
                    @for (stage, _) in &all { b { (stage.name()) } ": " (stage.meaning()) ". " } }
            }
        }
    }
}

fn map(model: &Model, report: &Report, latency: &StageHistograms) -> Markup {
    html! {
        section.keep id="map" {
            h2 { "Latency over time" }
            @match chart::map(report.map()) {
                Some(svg) => {
                    figure { (svg) }
                    p.note {
                        "What the driver added to each fault (" (Map::STAGE.meaning()) "), by when it arrived; a column is "
                        (quantity::duration(report.map().column_ns(), "µs")) ". Stronger: more faults, logarithmic, at most " (grouped(report.map().most().into()))
                        ". Marks below: copies that failed, and events that were lost."
                        @if latency.get(Stage::Driver).map_or(0, Latency::count) < model.counts().faults { " Faults whose copy was not observed are not in it." }
                    }
                }
                None => p { "No fault was observed from the interrupt thread to the end of its copy." },
            }
        }
    }
}

fn histograms(latency: &StageHistograms) -> Markup {
    html! {
        section id="histograms" {
            h2 { "Distributions" }
            div.multiples {
                @for stage in Stage::ALL {
                    @if let (Some(values), Some(summary)) = (latency.get(stage), latency.summary_now(stage)) {
                        figure.keep {
                            figcaption { b { (stage.name()) } span.note { " " (grouped(summary.count)) " values" } }
                            (chart::histogram(&values.bars(chart::BARS_A_DECADE), &summary))
                        }
                    }
                }
            }
        }
    }
}

fn badge(fault: &Fault) -> Markup {
    match fault.copy {
        _ if fault.marks.end_missing => html! { span.badge.warn { "unfinished" } },
        CopyOutcome::Short { .. } => html! { span.badge.bad { "failed" } },
        outcome => html! { span.badge { (outcome.name()) } },
    }
}

fn worst(model: &Model, report: &Report) -> Markup {
    html! {
        section id="worst" {
            h2 { "Worst faults" }
            @if report.worst().is_empty() { p { "There was none whose duration was observed." } }
            @for (place, fault) in report.worst().iter().enumerate() { (one(model, place + 1, fault)) }
        }
    }
}

fn one(model: &Model, place: usize, fault: &Fault) -> Markup {
    let explanation = decode::explain(fault);
    let process = model.process(fault.context.key());
    let comm = process.and_then(|process| process.comm).map(|comm| comm.to_string()).unwrap_or_default();
    let durations = fault.durations();
    html! {
        article.fault.keep {
            h3 {
                span.place { (place) } " " (optional(latency_ns(fault))) " " (badge(fault))
                span.who { " " (comm) @if let Some(pid) = fault.tgid { " " (pid) } " on " (fault.context.wq_id().to_string()) ", PASID " (fault.context.pasid) ", at " (moment(model, fault.at_ns)) " s" }
            }
            p { (explanation.sentence) }
            (chart::timeline(fault))
            p.note {
                @for (number, stage) in chart::PARTS.into_iter().enumerate() {
                    span.stage { (chart::swatch(number)) (stage.name()) " " (optional(durations.get(stage))) } " "
                }
            }
            details {
                summary { "every field" }
                div.sections { @for section in &explanation.sections {
                    table.fields {
                        caption { (section.title) }
                        @for field in &section.fields { tr { th scope="row" { (field.name) } td { code { (field.value) } } td.words { (field.words) } } }
                    }
                } }
            }
        }
    }
}

/// Faults, failures and latency of one row, as in `stat`.
fn totals(faults: u64, failures: u64, most: u64, summary: Option<&Summary>) -> Markup {
    html! {
        td.range { (chart::share(faults, most)) }
        td data-figure="faults" { (number(faults)) }
        td data-figure="failed" { span.alarm[failures > 0] { (number(failures)) } }
        td data-figure="p50_ns" { (optional(summary.map(|s| s.p50_ns))) }
        td data-figure="p99_ns" { (optional(summary.map(|s| s.p99_ns))) }
        td data-figure="max_ns" { (optional(summary.map(|s| s.max_ns))) }
    }
}

fn processes(model: &Model) -> Markup {
    let mut rows: Vec<&Process> = model.processes().collect();
    rows.sort_by_key(|process| (std::cmp::Reverse(process.faults()), process.key()));
    let (shown, rest) = rows.split_at(rows.len().min(PROCESSES));
    let most = shown.first().map_or(0, |process| process.faults());
    html! {
        section {
            h2 { "By process" }
            div.wide { table id="processes" {
                thead { tr { th { "command" } th { "pid" } th { "WQ" } th { "PASID" } th.range { "" } th { "faults" } th { "failed" } th { "50 %" } th { "99 %" } th { "max" } } }
                tbody { @for process in shown {
                    @let summary = process.latency().and_then(|latency| latency.summary_now(Stage::Service));
                    tr data-wq=(process.context.wq_id().to_string()) data-pasid=(process.context.pasid) data-opened=(process.key().opened_ns) {
                        th scope="row" { (process.comm.map(|comm| comm.to_string()).unwrap_or_default()) @if let Some(path) = &process.cgroup_path { span.cgroup { (path) } } }
                        td { @match process.tgid { Some(pid) => (pid), None => "?" } }
                        td { (process.context.wq_id().to_string()) }
                        td { (process.context.pasid) }
                        (totals(process.faults(), process.failures(), most, summary.as_ref()))
                    }
                } }
            } }
            @if !rest.is_empty() {
                p.note { "And " (rest.len()) " open files with " (grouped(rest.iter().map(|process| process.faults()).sum())) " faults." }
            }
            p.note { "Latencies are of the service, from its start to its end." }
        }
    }
}

fn wqs(model: &Model) -> Markup {
    let mut rows: Vec<&Wq> = model.wqs().filter(|wq| wq.faults() > 0).collect();
    rows.sort_by_key(|wq| (std::cmp::Reverse(wq.faults()), wq.id));
    let most = rows.first().map_or(0, |wq| wq.faults());
    html! {
        section {
            h2 { "By work queue" }
            div.wide { table id="wqs" {
                thead { tr { th { "WQ" } th { "device" } th.words { "configuration" } th.range { "" } th { "faults" } th { "failed" } th { "50 %" } th { "99 %" } th { "max" } } }
                tbody { @for (place, wq) in rows.iter().enumerate() {
                    @let summary = (place < WQS).then(|| model.wq_latency(wq.id).summary_now(Stage::Service)).flatten();
                    tr data-wq=(wq.id.to_string()) {
                        th scope="row" { (wq.id.to_string()) }
                        td { (wq.device.to_string()) }
                        td.words { (wq.config.as_ref().map(WqConfig::words).unwrap_or_default()) }
                        (totals(wq.faults(), wq.failures(), most, summary.as_ref()))
                    }
                } }
            } }
        }
    }
}

fn event_logs(model: &Model) -> Markup {
    let logs: Vec<_> = model.event_logs().filter(|log| log.advised_size.is_some()).collect();
    let entries = |count: Option<u32>| count.map_or_else(|| "–".to_owned(), |count| count.to_string());
    let rate = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), quantity::rate);
    html! {
        @if !logs.is_empty() {
            section.keep {
                h2 { "Event logs" }
                div.wide { table id="event-logs" {
                    thead { tr { th { "device" } th { "size" } th { "deepest" } th { "mean" } th { "peak, entries/s" } th { "engines waited, at most" } th { "advised size" } } }
                    tbody { @for log in &logs { tr {
                        th scope="row" { (log.device.to_string()) }
                        td { (entries(log.size)) }
                        td { (entries(log.high_water)) @if log.was_full { " " span.badge.bad { "full" } } }
                        td { (rate(log.mean_depth)) }
                        td { (rate(log.peak_entries_per_s)) }
                        td { (optional(log.waited_at_most_ns)) }
                        td { (entries(log.advised_size)) @if log.is_small() { " " span.badge.warn { "raise it" } } }
                    } } }
                } }
            }
        }
    }
}

fn grounds(model: &Model, summary: Option<&SummaryLine>) -> Markup {
    let ledger = model.ledger();
    let balance = match ledger.balance() {
        Balance::Unknown => "not known: no totals were read".to_owned(),
        Balance::Balanced => {
            "balanced: all that was seen was sent or counted as lost, and all that was sent arrived"
                .to_owned()
        }
        Balance::InFlight { records } => format!("{records} records were on their way"),
        Balance::Unbalanced { .. } => "the books DISAGREE: a defect of dsascope".to_owned(),
    };
    html! {
        section id="grounds" {
            h2 { "What this rests on" }
            @if let Some(summary) = summary {
                @if summary.exact { p { "Totals are exact: the kernel's own counts, which a full ring does not touch." } }
                @else { p { "Totals are " b { "not exact" } ":" } ul { @for reason in &summary.reasons { li { (reason) } } } }
            }
            h3 { "Loss ledger" }
            div.wide { table id="ledger" {
                thead { tr { th { "records" } th { "seen" } th { "sent" } th { "lost" } th { "received" } } }
                tbody { @for number_of in ByKind::KINDS {
                    tr {
                        th scope="row" { (kind::NAMES.get(usize::from(number_of)).copied().unwrap_or_default()) }
                        td { (number(ledger.kernel.seen.get(number_of))) }
                        td { (number(ledger.kernel.sent.get(number_of))) }
                        td { span.alarm[ledger.kernel.lost.get(number_of) > 0] { (number(ledger.kernel.lost.get(number_of))) } }
                        td { (number(ledger.received.get(number_of))) }
                    }
                } }
            } }
            p { "Books: " (balance) ". Undecodable: " (number(ledger.undecodable)) ". Dropped by the tracer: " (number(ledger.channel_lost)) ". Missing in the capture: " (number(ledger.capture_lost)) "." }
            @if !model.holes().is_empty() {
                h3 { "Holes" }
                ul { @for (what, count) in model.holes() { li {
                    (what.name()) @if let HoleKind::RingLost { cpu } = what { " on CPU " (cpu) } ": " (number(*count))
                } } }
            }
            h3 { "Exactness" }
            p { "Counts, means and maxima are exact. A percentile is at most " (10f64.powi(-i32::from(DIGITS)) * 100.0) " % above the value it stands for (three digits); durations beyond "
                (quantity::duration(HIGHEST_NS, "µs")) " count there. A duration whose ends were not both observed is in no figure." }
            (verdicts(model))
        }
    }
}

fn verdicts(model: &Model) -> Markup {
    html! {
        h3 { "Probes" }
        div.wide { table id="probes" {
            thead { tr { th { "probe" } th.words { "for" } th.words { "verdict" } th { "hits" } } }
            tbody { @for verdict in model.verdicts() { tr {
                th scope="row" { (verdict.hook.name()) }
                td.words { (verdict.hook.intent()) @if verdict.required { " (required)" } }
                td.words {
                    @if verdict.required && !verdict.state.attached() { span.badge.bad { (verdict.state.name()) } } @else { (verdict.state.name()) }
                    " " (verdict.state.detail())
                }
                td { @match verdict.hits { Some(hits) => (number(hits)), None => span.none { "–" } } }
            } } }
        } }
    }
}

#[cfg(test)]
mod tests;
