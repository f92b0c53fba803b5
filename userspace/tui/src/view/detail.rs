//! One fault in words: what happened, the waterfall of its stages, and every field of the entry and of the records.

use std::num::NonZeroU64;

use dsascope_core::decode::{self, Field};
use dsascope_core::event::{CopyOutcome, Fault, Origin};
use dsascope_core::hex;
use dsascope_core::model::{Process, Submissions};
use dsascope_core::stages::Stage;
use ratatui::text::{Line, Span};

use super::help::wrap;
use crate::format::{duration, optional_duration};
use crate::theme::Theme;
use crate::words;

/// The stages that follow each other; the others are sums of these.
const PARTS: [Stage; 5] = [Stage::Interrupt, Stage::Queue, Stage::Prepare, Stage::Copy, Stage::Finish];

pub(super) fn lines(
    theme: &Theme,
    fault: &Fault,
    process: Option<&Process>,
    submissions: &Submissions,
    width: u16,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    summary(theme, fault, process, width, &mut lines);
    if let Some(origin) = &fault.origin {
        heading(theme, "Submission", &mut lines);
        submission(theme, fault, origin, submissions, width, &mut lines);
    }
    heading(theme, "Stages", &mut lines);
    waterfall(theme, fault, width, &mut lines);
    let explanation = decode::explain(fault);
    for section in explanation.sections {
        lines.push(Line::default());
        lines.push(Line::styled(section.title, theme.title(true)));
        fields(theme, width, &section.fields, &mut lines);
    }
    heading(theme, "Bytes", &mut lines);
    let mut bytes =
        vec![("entry".to_owned(), entry_bytes(fault)), ("logged".into(), hex::encode(fault.logged_record()))];
    bytes.extend(fault.delivered_record().map(|record| ("delivered".to_owned(), hex::encode(record))));
    for (name, text) in bytes {
        for (index, part) in text.as_bytes().chunks(64).enumerate() {
            let name = if index == 0 { name.as_str() } else { "" };
            let text = String::from_utf8_lossy(part).into_owned();
            lines.push(Line::from(vec![Span::styled(format!("  {name:11}"), theme.key()), Span::raw(text)]));
        }
    }
    lines
}

fn heading(theme: &Theme, text: &'static str, lines: &mut Vec<Line<'static>>) {
    lines.push(Line::default());
    lines.push(Line::styled(text, theme.title(true)));
}

fn entry_bytes(fault: &Fault) -> String {
    let bytes: Vec<u8> = fault.entry.qwords.iter().flat_map(|qword| qword.to_le_bytes()).collect();
    hex::encode(&bytes)
}

fn summary(
    theme: &Theme,
    fault: &Fault,
    process: Option<&Process>,
    width: u16,
    lines: &mut Vec<Line<'static>>,
) {
    let style = match fault.copy {
        CopyOutcome::Short { .. } => theme.bad(),
        _ => theme.strong(),
    };
    for part in wrap(&decode::sentence(fault), usize::from(width)) {
        lines.push(Line::styled(part, style));
    }
    let comm = process.and_then(|p| p.comm).map(|comm| comm.to_string()).unwrap_or_default();
    let pid = fault.tgid.map_or_else(|| "nobody seen to open the queue".into(), |tgid| tgid.to_string());
    let context = fault.context;
    lines.push(Line::raw(format!(
        "{comm} {pid}, PASID {}, {} {}, served by worker {} on CPU {}",
        context.pasid,
        context.device,
        context.wq_id(),
        fault.worker,
        fault.cpu
    )));
    if let Some(cgroup) = process.and_then(|p| p.cgroup_path.clone()) {
        lines.push(Line::styled(cgroup, theme.dim()));
    }
    let marks = [
        (fault.marks.end_missing, "the end of the service was not seen"),
        (fault.marks.queue_missing, "the hand-over from the interrupt thread was not seen"),
        (
            fault.marks.outcome_inferred,
            "the end of the copy was missed; the driver's counter tells its outcome",
        ),
        (fault.marks.copy_unobserved, "the attached probes cannot see the copy"),
        (fault.marks.read_failed, "some kernel memory could not be read; those bytes are zero"),
    ];
    for (_, text) in marks.iter().filter(|(set, _)| *set) {
        lines.push(Line::styled(format!("! {text}"), theme.warn()));
    }
}

/// Who submitted it, from where in its code, and what memory its record is in.
fn submission(
    theme: &Theme,
    fault: &Fault,
    origin: &Origin,
    submissions: &Submissions,
    width: u16,
    lines: &mut Vec<Line<'static>>,
) {
    for part in wrap(&words::origin(fault, origin), usize::from(width)) {
        lines.push(Line::raw(part));
    }
    let mut field = |name: &str, text: String| {
        let name = Span::styled(format!("  {name:10}"), theme.key());
        lines.push(Line::from(vec![name, Span::raw(text)]));
    };
    let tgid = fault.tgid.unwrap_or(0);
    match origin.stack.and_then(|id| submissions.stack_of(tgid, id)) {
        Some(stack) => {
            for (depth, frame) in stack.frames.iter().enumerate() {
                field(if depth == 0 { "from" } else { "" }, frame.to_string());
            }
        }
        None => {
            field("from", origin.instruction.map_or("the driver".into(), |address| format!("{address:#x}")));
        }
    }
    let memory = submissions.place_of(tgid, fault.entry.fault_addr()).map(|place| place.memory.to_string());
    field("record in", memory.unwrap_or_else(|| "not looked up yet".into()));
}

/// A bar for each stage, at its place between the first and the last moment that were seen.
fn waterfall(theme: &Theme, fault: &Fault, width: u16, lines: &mut Vec<Line<'static>>) {
    let times = fault.times;
    let durations = fault.durations();
    let submitted_ns = fault.origin.and_then(|origin| NonZeroU64::new(origin.submitted_ns));
    let seen_ns = fault.origin.and_then(|origin| origin.seen_ns);
    let driver =
        [times.interrupt_ns, times.queued_ns, times.started_ns, times.copy_start_ns, times.copy_end_ns];
    let mut bars: Vec<_> = PARTS.into_iter().zip(driver).collect();
    if fault.origin.is_some() {
        bars.insert(0, (Stage::Device, submitted_ns));
        bars.push((Stage::Notice, times.copy_end_ns));
    }
    let first = submitted_ns.map(NonZeroU64::get).or(times.first_ns()).unwrap_or(0);
    let last = [
        seen_ns,
        times.done_ns,
        times.copy_end_ns,
        times.copy_start_ns,
        times.started_ns,
        times.queued_ns,
        times.interrupt_ns,
    ]
    .into_iter()
    .flatten()
    .map(NonZeroU64::get)
    .max()
    .unwrap_or(first);
    let span = last.saturating_sub(first).max(1);
    let room = usize::from(width).saturating_sub(24).clamp(10, 100);
    let place = |ns: u64| (u128::from(ns) * room as u128 / u128::from(span)) as usize;
    for (stage, start) in bars {
        let text = optional_duration(theme, durations.get(stage));
        let mut spans = vec![
            Span::styled(format!("  {:10}", stage.name()), theme.key()),
            Span::raw(format!("{text:>7}  ")),
        ];
        if let (Some(start), Some(length)) = (start, durations.get(stage)) {
            let from = place(start.get().saturating_sub(first)).min(room - 1);
            let cells = place(length).clamp(1, room - from);
            spans.push(Span::raw(" ".repeat(from)));
            spans.push(Span::styled(theme.row_cell().repeat(cells), theme.bar()));
        } else {
            spans.push(Span::styled("not seen", theme.dim()));
        }
        lines.push(Line::from(spans));
    }
    let sum =
        |stage: Stage| durations.get(stage).map(|ns| format!("{} {}", stage.name(), duration(theme, ns)));
    let sums: Vec<_> = [Stage::Service, Stage::Driver, Stage::Total].into_iter().filter_map(sum).collect();
    lines.push(Line::styled(format!("  in all: {}", sums.join(", ")), theme.strong()));
}

/// Name, value, meaning; the place in the structure where there is room for it.
fn fields(theme: &Theme, width: u16, fields: &[Field], lines: &mut Vec<Line<'static>>) {
    // A reserved field says something only when it is set.
    let fields: Vec<&Field> =
        fields.iter().filter(|field| field.name != "reserved" || !is_zero(&field.value)).collect();
    let longest = |pick: fn(&Field) -> usize| fields.iter().map(|field| pick(field)).max().unwrap_or(0);
    let names = longest(|field| field.name.len());
    let values = longest(|field| field.value.len()).min(18);
    let places = if width >= 100 { longest(|field| field.place.len()) + 2 } else { 0 };
    let room = usize::from(width).saturating_sub(2 + places + names + 2 + values + 2).max(20);
    for field in fields {
        for (index, part) in wrap(&field.words, room).into_iter().enumerate() {
            let (place, name, value) = if index == 0 {
                (field.place.as_str(), &*field.name, field.value.as_str())
            } else {
                ("", "", "")
            };
            let place = if places == 0 { "" } else { place };
            lines.push(Line::from(vec![
                Span::styled(format!("  {place:places$}"), theme.dim()),
                Span::styled(format!("{name:names$}  "), theme.key()),
                Span::raw(format!("{value:values$}  ")),
                Span::raw(part),
            ]));
        }
    }
}

fn is_zero(value: &str) -> bool {
    matches!(value, "0" | "0x0")
}
