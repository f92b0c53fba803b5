//! Pages of completion records among the last faults: how often each, when, and what memory it is.

use std::cmp::Reverse;
use std::collections::HashMap;

use dsascope_core::event::{Fault, Key};
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

#[derive(Clone, Copy, Debug)]
struct Page {
    name: Name,
    /// The file that had its first fault.
    file: Key,
    faults: u64,
    failed: u64,
    /// When.
    spans: [u64; SPANS],
}

impl Page {
    /// Before its first fault.
    const fn new(name: Name, file: Key) -> Self {
        Self { name, file, faults: 0, failed: 0, spans: [0; SPANS] }
    }
}

pub(super) fn lines(theme: &Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let ends = model.recent_faults().next().zip(model.recent_faults().next_back());
    let Some((from_ns, to_ns)) = ends.map(|(a, b)| (a.at_ns.min(b.at_ns), a.at_ns.max(b.at_ns))) else {
        return vec![Line::styled("  no fault yet", theme.dim())];
    };
    let (all, pages) = pages(model.recent_faults(), (from_ns, to_ns));
    let widths = widths(&COLUMNS, width);
    let titles: Vec<_> = COLUMNS.iter().map(|column| (column.title, theme.columns())).collect();
    let head = format!(
        "{} pages, of the last {} faults over {}; left in WHEN is the oldest",
        all,
        model.recent_faults().len(),
        duration(theme, to_ns - from_ns)
    );
    let mut lines = vec![Line::styled(head, theme.dim()), line_of(&COLUMNS, &widths, &titles)];
    let submissions = model.submissions();
    for page in &pages {
        let (pid, address) = page.name;
        let place = pid.and_then(|pid| submissions.place_of(pid, address));
        let comm = model.process(page.file).and_then(|process| process.comm).filter(|_| pid.is_some());
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
    if all > PAGES {
        lines.push(Line::from(Span::styled(format!("  and {} more", all - PAGES), theme.dim())));
    }
    lines
}

/// How many pages there are, and those with the most faults.
fn pages<'a>(faults: impl Iterator<Item = &'a Fault>, (from_ns, to_ns): (u64, u64)) -> (usize, Vec<Page>) {
    // In a storm each fault may have a page of its own, so that each is looked up once. Addresses may come from a hostile capture: the seed is
    // random.
    let mut places: HashMap<Name, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut pages: Vec<Page> = Vec::new();
    let span_ns = (to_ns - from_ns) / SPANS as u64 + 1;
    for fault in faults {
        let Some(address) = fault.page_address() else { continue };
        let name = (fault.tgid, address);
        let place = *places.entry(name).or_insert_with(|| {
            pages.push(Page::new(name, fault.context.key()));
            pages.len() - 1
        });
        let page = &mut pages[place];
        page.faults += 1;
        page.failed += u64::from(fault.copy.has_failed());
        page.spans[((fault.at_ns.saturating_sub(from_ns) / span_ns) as usize).min(SPANS - 1)] += 1;
    }
    let all = pages.len();
    let most_first = |page: &Page| (Reverse(page.faults), page.name);
    if all > PAGES {
        pages.select_nth_unstable_by_key(PAGES, most_first);
        pages.truncate(PAGES);
    }
    pages.sort_unstable_by_key(most_first);
    (all, pages)
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
