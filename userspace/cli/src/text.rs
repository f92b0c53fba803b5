//! Lines for people: faults, tables of totals, the summary. Aligned, one fact a line; what is not known is `-`.

use std::fmt::Write;

use dsascope_core::event::{
    DriverEvent, Event, Fault, Happening, Hole, HoleKind, PageRequest, SessionInfo, Stack, SubmittedTotals,
};
use dsascope_core::hist::Summary;
use dsascope_core::model::{Batch, Model, Process};
use dsascope_core::stages::Stage;
use dsascope_tui::format::{fit, optional_duration, rate};
use dsascope_tui::{Theme, words};

use crate::config::Selection;

const THEME: Theme = Theme::PLAIN;

pub(crate) const FAULT_TITLES: &str = "        TIME     PID COMMAND         WQ      OPERATION  OUTCOME    SERVICE ADDRESS            WHAT HAPPENED";

/// One line, without its end.
pub(crate) fn fault(model: &Model, fault: &Fault) -> String {
    let command = model.process(fault.context.key()).and_then(|p| p.comm).map(|comm| comm.to_string());
    let durations = fault.durations();
    let origin = fault.origin.as_ref().map_or_else(String::new, |origin| {
        let total = durations.total.or(durations.device.zip(durations.driver).map(|(a, b)| a + b));
        format!("; {}, {} after", words::origin(fault, origin), optional_duration(&THEME, total))
    });
    format!(
        "{:>12} {:>7} {:15} {:7} {:10} {:10} {:>7} {:18} {}{origin}",
        moment(model, fault.at_ns),
        fault.tgid.map_or_else(|| "?".into(), |tgid| tgid.to_string()),
        fit(&command.unwrap_or_default(), 15),
        fault.context.wq_id().to_string(),
        words::operation(fault),
        words::outcome(fault),
        optional_duration(&THEME, durations.service),
        format!("{:#x}", fault.copy_addr.unwrap_or_else(|| fault.entry.fault_addr())),
        words::happened(fault),
    )
}

/// Everything but faults, snapshots and ticks, as a line of its own: `        TIME -- text`. Not what belongs to an open or a close, and not
/// what another line says already.
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
        Event::Driver(event) if event.is_routine() || is_told_otherwise(event) => return None,
        Event::Driver(event) => (event.at_ns, words::driver(&THEME, event, model.before(event))),
        Event::Interrupt(interrupt) => (interrupt.at_ns, words::interrupt(interrupt)?),
        Event::PageRequest(request) => (request.at_ns, page_request(request)),
        Event::Hole(hole) => (hole.at_ns, hole_text(hole)),
        Event::Stack(stack) => (stack.at_ns, stack_text(stack)),
        Event::Session(_)
        | Event::Fault(_)
        | Event::Seen(_)
        | Event::Place(_)
        | Event::Snapshot(_)
        | Event::Tick { .. } => return None,
    };
    Some(format!("{:>12} -- {text}", moment(model, at_ns)))
}

/// The driver writes SWERROR in four lines of numbers; the interrupt's line has it in words.
fn is_told_otherwise(event: &DriverEvent) -> bool {
    matches!(&event.what, Happening::Warning { text } if text.starts_with("err["))
}

/// Frames of a stack, the submitting one first.
fn stack_text(stack: &Stack) -> String {
    let frames: Vec<String> = stack.frames.iter().map(ToString::to_string).collect();
    format!("stack {} of process {}: {}", stack.id, stack.tgid, frames.join(" < "))
}

fn page_request(request: &PageRequest) -> String {
    let pasid = request.pasid.map_or_else(String::new, |pasid| format!(" PASID {pasid}"));
    let (device, answer) = (request.device, request.answer());
    match request.request {
        Some(asked) => {
            let access = if asked.write { "write" } else { "read" };
            let took = optional_duration(&THEME, request.service_ns());
            let more = if asked.pages > 1 { format!(" and {} more", asked.pages - 1) } else { String::new() };
            format!(
                "{device}{pasid} asked for page {:#x}{more} to {access}: {answer} in {took}",
                asked.address
            )
        }
        None => {
            format!(
                "{device}{pasid} page request group {}: {answer}, its request not seen in time",
                request.group
            )
        }
    }
}

fn hole_text(hole: &Hole) -> String {
    let count = hole.count;
    match hole.what {
        HoleKind::ResponseMissing => format!("{count} page requests without a response"),
        HoleKind::RingLost { cpu } => {
            format!("LOST {count} events of CPU {cpu}: the ring was full (raise --ring-size)")
        }
        HoleKind::CaptureDamaged => format!("MISSING {count} events: the capture cannot be read here"),
        HoleKind::CaptureUnwritten => format!("MISSING {count} events: they could not be recorded"),
        HoleKind::CaptureCut => "the capture is CUT OFF here".into(),
        HoleKind::CaptureBegins => format!("the capture begins here; {count} events came before"),
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
    if let Some(submitters) = &session.submitters {
        let cost = optional_duration(&THEME, submitters.cost_ns);
        let every =
            if submitters.sample > 1 { format!(", one in {}", submitters.sample) } else { String::new() };
        let _ = write!(text, "\nsubmissions are followed{every}, at {cost} each");
        for file in &submitters.files {
            let only = file.pid.map_or_else(String::new, |pid| format!(" in process {pid}"));
            let _ = write!(text, "\n  {}{only}: {} places", file.file, file.attached());
            if let Some(problem) = &file.problem {
                let _ = write!(text, "; {problem}");
            }
            for site in file.sites.iter().filter(|site| site.refused.is_some()) {
                let reason = site.refused.as_deref().unwrap_or_default();
                let _ = write!(text, "\n    NOT SEEN {} at {:#x}: {reason}", site.what, site.address);
            }
            for place in &file.unprobeable {
                let _ = write!(text, "\n    NOT SEEN {place}");
            }
        }
    }
    if let Some(filter) = &session.filter {
        let _ = write!(text, "; only faults with {}", filter.expression);
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
        let time = |pick: fn(&Summary) -> u64| optional_duration(&THEME, summary.as_ref().map(pick));
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

/// A line for each event log in which anything was seen: how full it was, and what size that advises.
pub(crate) fn event_logs(model: &Model) -> String {
    let mut out = String::new();
    for log in model.event_logs().filter(|log| log.advised_size.is_some()) {
        let dash = |number: Option<f64>| number.map_or_else(|| "-".into(), rate);
        let number = |number: Option<u32>| number.map_or_else(|| "-".into(), |n| n.to_string());
        let full = if log.was_full { " (FULL)" } else { "" };
        let waited = log.waited_at_most_ns.filter(|&ns| ns > 0);
        let waited = waited.map_or_else(String::new, |ns| {
            format!("; engines waited {} at most", optional_duration(&THEME, Some(ns)))
        });
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} event log: size {}, deepest {}{full}, mean {}; {} entries/s, peak {}, full in {} if unread; advised size {}{waited}",
            log.device,
            number(log.size),
            number(log.high_water),
            dash(log.mean_depth),
            dash(log.entries_per_s),
            dash(log.peak_entries_per_s),
            optional_duration(&THEME, log.time_to_full_ns),
            number(log.advised_size),
        );
    }
    out
}

/// A line for each process whose page requests were seen: what bringing a page in takes on the other way than by faults.
pub(crate) fn page_requests(model: &Model) -> String {
    let mut out = String::new();
    for t in model.page_requests().totals() {
        let number = |number: Option<u32>| number.map_or_else(|| "?".into(), |n| n.to_string());
        let who = match t.pasid {
            Some(pasid) => {
                let comm = t.comm.map(|comm| comm.to_string()).unwrap_or_default();
                format!("{} {comm} PASID {pasid}", number(t.tgid))
            }
            None => "others".into(),
        };
        let time = |pick: fn(&Summary) -> u64| optional_duration(&THEME, t.latency.as_ref().map(pick));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "page requests of {who}: {} answered, {} refused, {} not matched; p50 {}, p99 {}, max {}",
            t.groups,
            t.refused,
            t.unmatched,
            time(|s| s.p50_ns),
            time(|s| s.p99_ns),
            time(|s| s.max_ns),
        );
    }
    out
}

/// A line for each process, WQ and way: what was submitted, as far as that is followed.
pub(crate) fn submissions(model: &Model) -> String {
    let mut out = String::new();
    let all = model.submissions();
    let totals = all.totals();
    for group in totals.chunk_by(|a, b| (a.tgid, a.device, a.wq, a.how) == (b.tgid, b.device, b.wq, b.how)) {
        let Some(first) = group.first() else { continue };
        let sum = |pick: fn(&SubmittedTotals) -> u64| group.iter().map(pick).sum::<u64>();
        let who = first.tgid.map_or_else(|| "others".into(), |tgid| format!("{tgid} {}", first.comm));
        let wq = match (first.device, first.wq) {
            (Some(device), Some(wq)) => format!("wq{}.{wq}", device.id),
            _ => "an unknown WQ".into(),
        };
        let way = first.how.map_or_else(String::new, |how| format!(" by {}", words::way(how)));
        let operations: Vec<String> = group
            .iter()
            .map(|t| format!("{} {}", t.operation.as_deref().unwrap_or("unknown"), t.submissions))
            .collect();
        // Writing to a String cannot fail.
        let _ = write!(out, "submitted by {who} to {wq}{way}: {}", operations.join(", "));
        for (count, what) in [
            (sum(|t| t.elements), "in lists"),
            (sum(|t| t.refused), "refused"),
            (sum(|t| t.untold), "not followed"),
            (sum(|t| t.records_lost), "LOST"),
            (sum(|t| t.lists_cut), "lists not read to their end"),
        ] {
            if count > 0 {
                let _ = write!(out, "; {count} {what}");
            }
        }
        out.push('\n');
    }
    if let Some(unfaulted) = all.unfaulted() {
        let time = |ns| optional_duration(&THEME, Some(ns));
        let _ = writeln!(
            out,
            "from submission to seen, of {} without a fault: p50 {}, p99 {}, max {}",
            unfaulted.count,
            time(unfaulted.p50_ns),
            time(unfaulted.p99_ns),
            time(unfaulted.max_ns),
        );
    }
    out
}

/// A line for all batches, when there were any.
pub(crate) fn batch_totals(model: &Model) -> String {
    let t = model.batches().totals();
    let open = model.batches().open().count();
    let unfinished = t.reused + t.interrupted + t.closed + t.evicted;
    if t.finished + unfinished + t.other + open as u64 == 0 {
        return String::new();
    }
    let mut out = format!(
        "batches with faults: {} finished ({} told as failed by the driver), {open} open, {unfinished} without an end",
        t.finished, t.patched
    );
    if t.other > 0 {
        let _ = write!(out, ", {} entries not followed", t.other);
    }
    out + "\n"
}

/// What went wrong without anybody being told: each with where and when it was last seen, and what to do.
pub(crate) fn findings(model: &Model) -> String {
    let mut out = String::new();
    for finding in model.findings() {
        let more = if finding.at_least { " (or more)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "FOUND {}: {}{more}", finding.finding.name(), finding.sentence);
        if let Some(last) = finding.evidence.last() {
            let at = moment(model, last.at_ns);
            let _ = writeln!(out, "      last at {at} on {}: {}", last.place(), last.words);
        }
        let _ = writeln!(out, "      to do: {}", finding.advice);
        let _ = writeln!(out, "      {}; see {}", finding.confidence.word(), finding.document);
    }
    out
}

/// A batch that ended, or that is open at the end.
pub(crate) fn batch(model: &Model, batch: &Batch) -> String {
    let context = batch.context;
    let mut text = format!(
        "{:>12} -- batch {} (use {}) of {} PASID {} {}: {}",
        moment(model, batch.last_ns),
        batch.id,
        batch.generation,
        context.wq_id(),
        context.pasid,
        batch.state.name(),
        words::batch(batch),
    );
    for doubt in &batch.doubts {
        let _ = write!(text, "; {}", doubt.words());
    }
    if let Some(finding) = &batch.finding {
        let _ = write!(text, "; FAILURE MOVED: {}", finding.finding.words());
        if let Some(evidence) = &finding.evidence {
            let element = evidence.index.map_or_else(String::new, |index| format!(" element {index} of"));
            let _ = write!(
                text,
                " ({}{element} use {} on wq{}.{} {})",
                moment(model, evidence.at_ns),
                evidence.generation,
                context.device.id,
                evidence.wq,
                evidence.did.words(),
            );
        }
    }
    text
}

/// The line that ends a run: all that was seen (or what was selected of it), and whether it is whole.
pub(crate) fn summary(model: &Model, select: &Selection) -> String {
    let header = model.header();
    let time = header.uptime_ns.map_or_else(|| "-".into(), |ns| format!("{:.1} s", ns as f64 / 1e9));
    let missing = model.ledger().capture_lost;
    let before = model.holes().get(&HoleKind::CaptureBegins).copied().unwrap_or(0);
    let lost = model.ledger().lost().saturating_sub(missing);
    let holes = header.holes.saturating_sub(missing).saturating_sub(before);
    let mut whole = match (lost, holes) {
        (0, 0) => "every event received".into(),
        (0, _) => format!("every event received, {holes} with holes"),
        _ => format!("LOST {lost} events, totals are exact all the same"),
    };
    // Writing to a String cannot fail.
    if model.holes().contains_key(&HoleKind::CaptureCut) {
        whole.push_str("; the capture is CUT OFF: figures end where it does");
    } else if missing > 0 {
        let _ = write!(whole, "; {missing} events are MISSING in the capture: totals are those last read");
    }
    if before > 0 {
        let _ = write!(whole, "; {before} events came before this capture");
    }
    if let Some(filter) = model.filtering() {
        let _ = write!(
            whole,
            "; only faults with {} are here, {} were left out",
            filter.expression, filter.left_out
        );
    }
    let books = if model.ledger().balanced() { "" } else { "; THE BOOKS DISAGREE, please report this" };
    let counts = if select.is_all() {
        format!("{} faults, {} failed", model.faults(), model.failures())
    } else {
        let rows = model.processes().filter(|p| select.takes(p.tgid, p.context.device.id, p.context.wq));
        let (faults, failures) =
            rows.fold((0, 0), |(faults, failures), p| (faults + p.faults(), failures + p.failures()));
        format!("{faults} faults, {failures} failed of {} ({} faults in all)", select.words(), model.faults())
    };
    format!("{counts}, in {time}; {whole}{books}")
}

/// Seconds since tracing began.
pub(crate) fn moment(model: &Model, at_ns: u64) -> String {
    dsascope_tui::format::moment(model.since_start_ns(at_ns))
}

/// How long tracing went on, for mean rates; 0 when nobody knows when it began.
pub(crate) fn ran_ns(model: &Model, until_ns: u64) -> u64 {
    model.session().map_or(0, |_| model.since_start_ns(until_ns))
}
