//! Lines for people: faults, tables of totals, the summary. Aligned, one fact a line; what is not known is `-`.

use std::fmt::Write;

use dsascope_core::event::{Event, Fault, Hole, HoleKind, SessionInfo};
use dsascope_core::model::{Model, Process};
use dsascope_core::stages::Stage;
use dsascope_tui::format::{fit, optional_duration, rate};
use dsascope_tui::{Theme, words};

use crate::config::Selection;

const THEME: Theme = Theme::PLAIN;

pub(crate) const FAULT_TITLES: &str = "        TIME     PID COMMAND         WQ      OPERATION  OUTCOME    SERVICE ADDRESS            WHAT HAPPENED";

/// One line, without its end.
pub(crate) fn fault(model: &Model, fault: &Fault) -> String {
    let command = model.process(fault.context.key()).and_then(|p| p.comm).map(|comm| comm.to_string());
    format!(
        "{:>12} {:>7} {:15} {:7} {:10} {:10} {:>7} {:18} {}",
        moment(model, fault.at_ns),
        fault.tgid.map_or_else(|| "?".into(), |tgid| tgid.to_string()),
        fit(&command.unwrap_or_default(), 15),
        fault.context.wq_id().to_string(),
        words::operation(fault),
        words::outcome(fault),
        optional_duration(&THEME, fault.times.durations().service),
        format!("{:#x}", fault.copy_addr.unwrap_or_else(|| fault.entry.fault_addr())),
        words::happened(fault),
    )
}

/// Everything but faults, snapshots and ticks, as a line of its own: `        TIME -- text`.
pub(crate) fn other(model: &Model, event: &Event) -> Option<String> {
    let (at_ns, text) = match event {
        Event::Open(open) => {
            let how = if open.existing { "has open" } else { "opened" };
            let again = if open.files > 1 {
                format!(" ({} files: faults go to the first)", open.files)
            } else {
                String::new()
            };
            let wq = open.context.wq_id();
            (
                open.at_ns,
                format!("{} {} {how} {wq} as PASID {}{again}", open.comm, open.tgid, open.context.pasid),
            )
        }
        Event::Release(release) => {
            let (faults, failures) = (release.counter_faults, release.counter_failures);
            let skipped = if release.skipped > 0 {
                format!(", {} entries never served", release.skipped)
            } else {
                String::new()
            };
            let wq = release.context.wq_id();
            let pasid = release.context.pasid;
            (
                release.at_ns,
                format!(
                    "{wq} PASID {pasid} closed: driver counted {faults} faults, {failures} failures{skipped}"
                ),
            )
        }
        Event::Hole(hole) => (hole.at_ns, hole_text(hole)),
        Event::Session(_)
        | Event::Fault(_)
        | Event::Interrupt(_)
        | Event::Snapshot(_)
        | Event::Tick { .. } => return None,
    };
    Some(format!("{:>12} -- {text}", moment(model, at_ns)))
}

fn hole_text(hole: &Hole) -> String {
    let count = hole.count;
    match hole.what {
        HoleKind::RingLost { cpu } => {
            format!("LOST {count} events of CPU {cpu}: the ring was full (raise --ring-size)")
        }
        kind => format!("{count} faults with a hole: {}", kind.name()),
    }
}

/// What is traced, before the first fault.
pub(crate) fn session(session: &SessionInfo) -> String {
    let devices: Vec<_> = session.devices.iter().map(|device| device.device.to_string()).collect();
    let devices = if devices.is_empty() { "no device".into() } else { devices.join(" ") };
    let attached = session.verdicts.iter().filter(|verdict| verdict.state.attached()).count();
    let mut text = format!(
        "{} {}: {devices}; {attached} of {} probes attached in {}",
        session.host,
        session.kernel,
        session.verdicts.len(),
        optional_duration(&THEME, Some(session.attach_ns)),
    );
    for verdict in session.missing_required() {
        let _ = write!(
            text,
            "; REQUIRED {} {}: {}",
            verdict.hook.name(),
            verdict.state.name(),
            verdict.state.detail()
        );
    }
    text
}

/// Totals by open file, most faults first. Rates are of the last two seconds or, at the end, the mean over `ran_ns`.
pub(crate) fn table(model: &Model, select: &Selection, ran_ns: Option<u64>) -> String {
    let mut rows: Vec<&Process> =
        model.processes().filter(|p| select.takes(p.tgid, p.context.device.id, p.context.wq)).collect();
    rows.sort_by_key(|p| (std::cmp::Reverse(p.faults()), p.key()));
    let mut out = format!(
        "{:>7} {:15} {:>7} {:7} {:>7} {:>9} {:>8} {:>7} {:>7} {:>7}\n",
        "PID", "COMMAND", "PASID", "WQ", "/s", "FAULTS", "FAILED", "P50", "P99", "MAX"
    );
    for process in rows {
        let per_s = match ran_ns {
            Some(ns) => (ns > 0).then(|| process.faults() as f64 * 1e9 / ns as f64),
            None => model.process_rate(process),
        };
        let summary = process.latency().and_then(|latency| latency.summary_now(Stage::Service));
        let time = |pick: fn(&dsascope_core::hist::Summary) -> u64| {
            optional_duration(&THEME, summary.as_ref().map(pick))
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:>7} {:15} {:>7} {:7} {:>7} {:>9} {:>8} {:>7} {:>7} {:>7}",
            process.tgid.map_or_else(|| "?".into(), |tgid| tgid.to_string()),
            fit(&process.comm.map(|comm| comm.to_string()).unwrap_or_default(), 15),
            process.context.pasid,
            process.context.wq_id().to_string(),
            per_s.map_or_else(|| "-".into(), rate),
            process.faults(),
            process.failures(),
            time(|s| s.p50_ns),
            time(|s| s.p99_ns),
            time(|s| s.max_ns),
        );
    }
    out
}

/// The line that ends a run: all that was seen, and whether it is whole.
pub(crate) fn summary(model: &Model) -> String {
    let header = model.header();
    let time = header.uptime_ns.map_or_else(|| "-".into(), |ns| format!("{:.1} s", ns as f64 / 1e9));
    let (lost, holes) = (model.ledger().lost(), header.holes);
    let whole = match (lost, holes) {
        (0, 0) => "every event received".into(),
        (0, _) => format!("every event received, {holes} with holes"),
        _ => format!("LOST {lost} events, totals are exact all the same"),
    };
    let books = if model.ledger().balanced() { "" } else { "; THE BOOKS DISAGREE, please report this" };
    format!("{} faults, {} failed, in {time}; {whole}{books}", model.faults(), model.failures())
}

/// Seconds since tracing began.
fn moment(model: &Model, at_ns: u64) -> String {
    let started_ns = model.session().map_or(0, |session| session.started_ns);
    dsascope_tui::format::moment(at_ns.saturating_sub(started_ns))
}
