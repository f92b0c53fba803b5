//! `dsascope report`: the whole run to be read once: what was found, where the time goes, the worst faults in words.

use std::fmt::Write as _;
use std::io::{self, Write};

use dsascope_core::decode;
use dsascope_core::event::{Event, Fault};
use dsascope_core::hist::Summary;
use dsascope_core::model::Model;
use dsascope_core::report::{Report, latency_ns};
use dsascope_core::stages::Stage;
use dsascope_tui::format::{fit, optional_duration};
use dsascope_tui::{Theme, words};

use crate::config::Selection;
use crate::lines::Printer;
use crate::text;

const THEME: Theme = Theme::PLAIN;
/// Columns of a stage's span.
const BAR: usize = 32;

/// Text on stdout, when the run is over.
#[derive(Debug, Default)]
pub(crate) struct Text {
    report: Report,
}

impl Printer for Text {
    fn event(&mut self, _model: &Model, event: &Event, _out: &mut dyn Write) -> io::Result<()> {
        self.report.event(event);
        Ok(())
    }

    fn end(&mut self, model: &mut Model, until_ns: u64, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(text(model, &self.report, until_ns).as_bytes())
    }
}

/// The report. `until_ns`: when tracing was told to end.
pub(crate) fn text(model: &Model, report: &Report, until_ns: u64) -> String {
    let select = Selection::default();
    let mut out = String::new();
    if let Some(session) = model.session() {
        out += &format!("{}\n", text::session(session));
    }
    out += &format!("{}\n", text::summary(model, &select));
    section(&mut out, "FINDINGS", &text::findings(model));
    section(&mut out, "WHERE THE TIME GOES", &stages(model));
    section(&mut out, "BY PROCESS", &text::table(model, &select, Some(text::ran_ns(model, until_ns))));
    let others = [
        text::submissions(model),
        text::page_requests(model),
        text::event_logs(model),
        text::batch_totals(model),
    ]
    .concat();
    section(&mut out, "DEVICES", &others);
    section(&mut out, "WORST FAULTS", &worst(model, report));
    out
}

/// A part with its title; none when there is nothing to say.
fn section(out: &mut String, title: &str, body: &str) {
    if !body.is_empty() {
        *out += &format!("\n{title}\n{body}");
    }
}

fn stages(model: &Model) -> String {
    let latency = model.latency();
    let of = |&stage: &Stage| Some((stage, latency.summary_now(stage)?));
    let all: Vec<(Stage, Summary)> = Stage::ALL.iter().filter_map(of).collect();
    let low = all.iter().map(|(_, s)| log(s.min_ns)).fold(f64::INFINITY, f64::min);
    let high = all.iter().map(|(_, s)| log(s.max_ns)).fold(0.0, f64::max);
    let mut out = String::new();
    if all.is_empty() {
        return out;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:9} {:BAR$} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "STAGE", "MIN - P50=P99 - MAX (LOG)", "COUNT", "MEAN", "P50", "P90", "P99", "P99.9", "MAX"
    );
    for (stage, s) in &all {
        let time = |ns: u64| optional_duration(&THEME, Some(ns));
        let _ = writeln!(
            out,
            "{:9} {:BAR$} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
            stage.name(),
            bar(s, low, high),
            s.count,
            time(s.mean_ns),
            time(s.p50_ns),
            time(s.p90_ns),
            time(s.p99_ns),
            time(s.p999_ns),
            time(s.max_ns),
        );
    }
    out
}

fn log(ns: u64) -> f64 {
    (ns.max(1) as f64).log10()
}

/// `-` from the shortest to the longest, `=` from half to 99 %, `|` the median.
fn bar(summary: &Summary, low: f64, high: f64) -> String {
    let place = |ns: u64| {
        let part = if high > low { (log(ns) - low) / (high - low) } else { 0.0 };
        (part * (BAR - 1) as f64).round() as usize
    };
    let (min, half) = (place(summary.min_ns), place(summary.p50_ns));
    let (most, max) = (place(summary.p99_ns), place(summary.max_ns));
    let cell = |at: usize| match at {
        _ if at == half => '|',
        _ if at > half && at <= most => '=',
        _ if at >= min && at <= max => '-',
        _ => ' ',
    };
    (0..BAR).map(cell).collect()
}

fn worst(model: &Model, report: &Report) -> String {
    report.worst().iter().enumerate().map(|(place, fault)| one(model, place + 1, fault)).collect()
}

fn one(model: &Model, place: usize, fault: &Fault) -> String {
    let comm = model.process(fault.context.key()).and_then(|process| process.comm);
    let comm = fit(&comm.map(|comm| comm.to_string()).unwrap_or_default(), 15);
    let pid = fault.tgid.map_or_else(|| "?".into(), |tgid| tgid.to_string());
    let durations = fault.durations();
    let parts: Vec<String> = [Stage::Interrupt, Stage::Queue, Stage::Prepare, Stage::Copy, Stage::Finish]
        .into_iter()
        .filter_map(|stage| {
            Some(format!("{} {}", stage.name(), optional_duration(&THEME, Some(durations.get(stage)?))))
        })
        .collect();
    format!(
        "{place:>3}. {} {} of {comm} {pid} on {} at {}: {}\n     {}\n     {}\n",
        optional_duration(&THEME, latency_ns(fault)),
        words::operation(fault),
        fault.context.wq_id(),
        text::moment(model, fault.at_ns),
        words::outcome(fault),
        decode::sentence(fault),
        parts.join(", "),
    )
}
