//! Pages of completion records among the last faults: how often each, when, and what memory it is.

use std::collections::HashMap;

use dsascope_core::event::Fault;
use dsascope_core::model::Model;
use dsascope_core::submission::{Memory, Place};
use ratatui::text::{Line, Span};

use super::table::{Column, line_of, widths};
use crate::format::{count, duration};
use crate::theme::Theme;

/// Pages that are listed; the rest is counted.
const PAGES: usize = 200;
/// Spans of time that a page's row shows.
const SPANS: usize = 24;

const COLUMNS: [Column; 7] = [
    Column::left("PAGE", 14).growing(1, 18),
    Column::right("PID", 7),
    Column::left("COMMAND", 10).growing(1, 15),
    Column::right("FAULTS", 6),
    Column::right("FAIL", 4),
    Column::left("WHEN", SPANS as u16),
    // Last: a narrow terminal has no place for it.
    Column::left("MEMORY", 10).growing(8, 90),
];

#[derive(Clone, Debug, Default)]
struct Page {
    faults: u64,
    failed: u64,
    spans: [u64; SPANS],
}

pub(super) fn lines(theme: &Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let faults: Vec<&Fault> = model.recent_faults().collect();
    let span = faults.first().zip(faults.last()).map(|(a, b)| (a.at_ns.min(b.at_ns), a.at_ns.max(b.at_ns)));
    let Some((from_ns, to_ns)) = span else {
        return vec![Line::styled("  no fault yet", theme.dim())];
    };
    let mut pages: HashMap<(Option<u32>, u64), Page> = HashMap::new();
    for fault in &faults {
        let Some(address) = fault.page_address() else { continue };
        let page = pages.entry((fault.tgid, address)).or_default();
        page.faults += 1;
        page.failed += u64::from(fault.copy.has_failed());
        let place = u128::from(fault.at_ns.saturating_sub(from_ns)) * SPANS as u128
            / (u128::from(to_ns - from_ns) + 1);
        page.spans[(place as usize).min(SPANS - 1)] += 1;
    }
    let mut pages: Vec<_> = pages.into_iter().collect();
    pages.sort_by_key(|((pid, address), page)| (std::cmp::Reverse(page.faults), *pid, *address));
    let widths = widths(&COLUMNS, width);
    let titles: Vec<_> = COLUMNS.iter().map(|column| (column.title, theme.columns())).collect();
    let head = format!(
        "{} pages, of the last {} faults over {}; left in WHEN is the oldest",
        pages.len(),
        faults.len(),
        duration(theme, to_ns - from_ns)
    );
    let mut lines = vec![Line::styled(head, theme.dim()), line_of(&COLUMNS, &widths, &titles)];
    let submissions = model.submissions();
    let comms: HashMap<_, _> = model.processes().map(|process| (process.tgid, process.comm)).collect();
    for ((pid, address), page) in pages.iter().take(PAGES) {
        let place = pid.and_then(|pid| submissions.place_of(pid, *address));
        let comm = comms.get(pid).copied().flatten().filter(|_| pid.is_some());
        let failed = if page.failed > 0 { theme.bad() } else { theme.text() };
        let cells = [
            (format!("{address:#x}"), theme.text()),
            (pid.map_or_else(|| "?".into(), |pid| pid.to_string()), theme.text()),
            (comm.map(|comm| comm.to_string()).unwrap_or_default(), theme.text()),
            (count(page.faults), theme.text()),
            (count(page.failed), failed),
            (theme.sparkline(&page.spans), theme.bar()),
            (memory(place), theme.dim()),
        ];
        lines.push(line_of(&COLUMNS, &widths, &cells));
    }
    if let Some(more) = pages.len().checked_sub(PAGES + 1) {
        lines.push(Line::from(Span::styled(format!("  and {} more", more + 1), theme.dim())));
    }
    lines
}

/// What is mapped there, and what pages it has: one of 2 MiB takes one fault where small ones take 512.
fn memory(place: Option<&Place>) -> String {
    let Some(place) = place else { return "not looked up".into() };
    match &place.memory {
        Memory::Mapped(mapped) if mapped.page_bytes.is_some_and(|bytes| bytes > 4096) => {
            format!("HUGE PAGES: {}", place.memory)
        }
        memory => memory.to_string(),
    }
}
