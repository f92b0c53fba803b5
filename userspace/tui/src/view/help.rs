//! The help: every key and every column, and what the header says.

use dsascope_core::probe::Verdict;
use dsascope_core::stages::Stage;
use ratatui::text::{Line, Span};

use super::{batches, compared, faults, processes};
use crate::keymap::{Binding, NORMAL, RECORDER, REPLAY};
use crate::remap::Remap;
use crate::theme::Theme;
use crate::views::View;

const HEADER: &[(&str, &str)] = &[
    (
        "dsascope",
        "host, kernel, devices with the deepest their event log was seen and its size, time since attaching; what size is advised when it is small (docs/event-log-sizing.md)",
    ),
    ("faults/s", "completion-record faults whose service ended, over the last two seconds"),
    ("failures/s", "of these, records that could not be written: their submitter waits for ever"),
    ("interrupts/s", "runs of the devices' interrupt threads"),
    ("entries/interrupt", "faults that one such run hands over"),
    (
        "events",
        "\"exact\" while every event reached this screen; else what was LOST, because the ring was full: totals stay exact, a larger --ring-size helps",
    ),
    (
        "findings",
        "what went wrong without anybody being told, such as faults delivered to no one; f shows each with what was seen and what to do (docs/findings.md)",
    ),
    ("waiting", "faults handed over whose service has not begun, as of the last second"),
    ("service p99", "99 in 100 services did not take longer"),
    ("probes", "how many are attached and by what; those that are not, by name with the reason"),
];

/// In the order of the table's columns.
const PROCESS_COLUMNS: [&str; processes::COLUMNS.len()] = [
    "process (thread group) that opened the work queue",
    "its command name; (closed): the file is gone",
    "its control group; the end is shown when it is long",
    "process address space identifier: the device's name of the process",
    "work queue, as in /dev/dsa: wq<device>.<queue>",
    "faults a second, over the last two seconds",
    "faults since attaching; exact, also when events were lost",
    "records that could not be written",
    "half of the chosen stage's times are not longer",
    "99 in 100 are not longer",
    "the longest",
    "descriptors that the process submitted to the work queue a second, as of the last second; - where they are not followed (--submitter)",
    "of its faults, how many in a hundred were not delivered",
    "faults of the last twelve seconds, the newest at the right; the highest of them is full",
];

const FAULT_COLUMNS: [&str; faults::COLUMNS.len()] = [
    "seconds since attaching",
    "process whose fault it is; ?: nobody was seen to open the queue",
    "its command name",
    "work queue",
    "what the descriptor asked for",
    "delivered, FAILED, not copied (nobody asked for it), not seen (no probe sees it)",
    "start to end of the driver's service",
    "user address of the completion record",
    "why the device logged it, and the status that the submitter reads; Enter shows every field",
];

const BATCH_COLUMNS: [&str; batches::COLUMNS.len()] = [
    "seconds since attaching, of its last entry",
    "work queue",
    "the device's identifier of the batch; reused",
    "which use of the identifier on this device, since attaching",
    "open, finished, or why its end is not known",
    "elements that faulted, by their place: . delivered, X failed, ? not observed",
    "what the submitter reads of the batch; MOVED: the driver booked a failure to the wrong batch",
    "command name of the process",
];

/// First what the view is for that one is in.
pub(super) fn lines(
    theme: &Theme,
    view: View,
    keys: &Remap,
    verdicts: &[Verdict],
    width: u16,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut section = |title: &'static str, rows: Vec<(String, &str)>| {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::styled(title, theme.title(true)));
        for (name, text) in rows {
            let room = usize::from(width).saturating_sub(20).max(20);
            for (index, part) in wrap(text, room).into_iter().enumerate() {
                let name = if index == 0 { name.as_str() } else { "" };
                lines.push(Line::from(vec![
                    Span::styled(format!("  {name:17} "), theme.key()),
                    Span::raw(part),
                ]));
            }
        }
    };
    let named = |names: &[super::table::Column], texts: &[&'static str]| {
        names.iter().zip(texts).map(|(column, text)| (column.title.to_owned(), *text)).collect::<Vec<_>>()
    };
    let rows = |bindings: &'static [Binding]| {
        bindings.iter().map(|binding| (keys.shown(binding.keys), binding.long)).collect()
    };
    section("This view", vec![(view.name().into(), view.about())]);
    section("Keys", rows(NORMAL));
    section("Keys for a capture (--from)", rows(REPLAY));
    section("Keys for the flight recorder (--ring)", rows(RECORDER));
    let views = View::ALL.map(|view| (format!("{} {}", view.digit(), view.name()), view.about()));
    section("Views", views.into());
    section("Header", HEADER.iter().map(|(name, text)| ((*name).to_owned(), *text)).collect());
    section("Processes", named(&processes::COLUMNS, &PROCESS_COLUMNS));
    section("Recent faults", named(&faults::COLUMNS, &FAULT_COLUMNS));
    section("Batches", named(&batches::COLUMNS, &BATCH_COLUMNS));
    section(
        "Stages of a fault",
        Stage::ALL.iter().map(|stage| (stage.name().to_owned(), stage.meaning())).collect(),
    );
    section(
        "Latency",
        vec![
            (
                "histogram".into(),
                "times of the chosen stage: each step to the right is longer by the same factor; the number at the left is the count of the highest bar",
            ),
            (
                compared::MARK.into(),
                "of a baseline (--baseline): where its bar would end, each histogram to its own highest bar; ratio: now by baseline, * certain (95 %), ~ it may be chance",
            ),
            ("-".into(), "not measured; never shown as zero"),
        ],
    );
    let verdicts: Vec<_> =
        verdicts.iter().map(|verdict| (verdict.hook.name().to_owned(), verdict_text(verdict))).collect();
    section("Probes", verdicts.iter().map(|(name, text)| (name.clone(), text.as_str())).collect());
    lines
}

/// What a probe is for and what came of it.
fn verdict_text(verdict: &Verdict) -> String {
    let need = if verdict.required { "required; " } else { "" };
    let hits = verdict.hits.map_or_else(String::new, |hits| format!(", {hits} hits"));
    let state = match verdict.state.detail() {
        "" => verdict.state.name().to_owned(),
        by if verdict.state.attached() => format!("attached by {by}{hits}"),
        why => format!("{}: {why}", verdict.state.name().to_uppercase()),
    };
    format!("{}; {need}{state}", verdict.hook.intent())
}

/// Words in lines of at most `room` columns; a longer word has a line of its own.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_none_is_lost() {
        let text = "half of the chosen stage's times are not longer";
        for room in 1..60 {
            let lines = wrap(text, room);
            assert_eq!(lines.join(" "), text);
            assert!(lines.iter().all(|line| line.len() <= room || !line.contains(' ')));
        }
    }
}
