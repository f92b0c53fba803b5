//! Pages of completion records among the last faults: how often each, when, and what memory it is.

use std::cmp::Reverse;
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

/// Whose page: process and address.
type Name = (Option<u32>, u64);

#[derive(Clone, Copy, Debug, Default)]
struct Page {
    faults: u64,
    failed: u64,
}

fn name(fault: &Fault) -> Option<Name> {
    Some((fault.tgid, fault.page_address()?))
}

pub(super) fn lines(theme: &Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let faults: Vec<&Fault> = model.recent_faults().collect();
    let span = faults.first().zip(faults.last()).map(|(a, b)| (a.at_ns.min(b.at_ns), a.at_ns.max(b.at_ns)));
    let Some((from_ns, to_ns)) = span else {
        return vec![Line::styled("  no fault yet", theme.dim())];
    };
    let mut pages: HashMap<Name, Page> = HashMap::new();
    for fault in &faults {
        if let Some(name) = name(fault) {
            let page = pages.entry(name).or_default();
            page.faults += 1;
            page.failed += u64::from(fault.copy.has_failed());
        }
    }
    let all = pages.len();
    let mut pages: Vec<_> = pages.into_iter().collect();
    let most_first = |(name, page): &(Name, Page)| (Reverse(page.faults), *name);
    if all > PAGES {
        pages.select_nth_unstable_by_key(PAGES, most_first);
        pages.truncate(PAGES);
    }
    pages.sort_unstable_by_key(most_first);
    let spans = spans(&faults, &pages, (from_ns, to_ns));
    let widths = widths(&COLUMNS, width);
    let titles: Vec<_> = COLUMNS.iter().map(|column| (column.title, theme.columns())).collect();
    let head = format!(
        "{} pages, of the last {} faults over {}; left in WHEN is the oldest",
        all,
        faults.len(),
        duration(theme, to_ns - from_ns)
    );
    let mut lines = vec![Line::styled(head, theme.dim()), line_of(&COLUMNS, &widths, &titles)];
    let submissions = model.submissions();
    let comms: HashMap<_, _> = model.processes().map(|process| (process.tgid, process.comm)).collect();
    for (((pid, address), page), spans) in pages.iter().zip(&spans) {
        let place = pid.and_then(|pid| submissions.place_of(pid, *address));
        let comm = comms.get(pid).copied().flatten().filter(|_| pid.is_some());
        let failed = if page.failed > 0 { theme.bad() } else { theme.text() };
        let cells = [
            (format!("{address:#x}"), theme.text()),
            (pid.map_or_else(|| "?".into(), |pid| pid.to_string()), theme.text()),
            (comm.map(|comm| comm.to_string()).unwrap_or_default(), theme.text()),
            (count(page.faults), theme.text()),
            (count(page.failed), failed),
            (theme.sparkline(spans), theme.bar()),
            (memory(place), theme.dim()),
        ];
        lines.push(line_of(&COLUMNS, &widths, &cells));
    }
    if all > PAGES {
        lines.push(Line::from(Span::styled(format!("  and {} more", all - PAGES), theme.dim())));
    }
    lines
}

/// When each of these pages had its faults. Counted for what is listed alone: in a storm each fault may have a page of its own.
fn spans(faults: &[&Fault], pages: &[(Name, Page)], (from_ns, to_ns): (u64, u64)) -> Vec<[u64; SPANS]> {
    let rows: HashMap<Name, usize> = pages.iter().enumerate().map(|(row, (name, _))| (*name, row)).collect();
    let mut spans = vec![[0; SPANS]; pages.len()];
    for fault in faults {
        if let Some(&row) = name(fault).and_then(|name| rows.get(&name)) {
            let since_ns = u128::from(fault.at_ns.saturating_sub(from_ns));
            let place = since_ns * SPANS as u128 / (u128::from(to_ns - from_ns) + 1);
            spans[row][(place as usize).min(SPANS - 1)] += 1;
        }
    }
    spans
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
