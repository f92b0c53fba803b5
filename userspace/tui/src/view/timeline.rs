//! The faults of a batch's elements on one axis of time: waiting in the driver's queue, service, copy, and how each ended.

use dsascope_core::model::Batch;
use dsascope_core::model::batch::{ElementOutcome, FaultTimes};
use ratatui::text::{Line, Span};

use crate::format::{count, duration};
use crate::theme::{Part, Theme};

/// Columns of an element's place, and of how long it took.
const NAME: usize = 10;
const TOOK: usize = 7;
/// Wider is no clearer.
const MOST_CELLS: usize = 100;

/// A row of the axis.
struct Row {
    name: String,
    times: FaultTimes,
    outcome: ElementOutcome,
}

impl Row {
    /// From the first to the last that is known.
    fn span_ns(&self) -> Option<(u64, u64)> {
        self.times.span_ns()
    }

    fn took_ns(&self) -> u64 {
        self.span_ns().map_or(0, |(from, to)| to - from)
    }

    const fn end(&self) -> &'static str {
        match self.outcome {
            ElementOutcome::Delivered => "|",
            ElementOutcome::Failed => "X",
            ElementOutcome::Unknown => "?",
        }
    }
}

/// At most so many rows of elements, the failed and the longest; the others in words. Nothing where no time was seen.
pub(super) fn lines(theme: &Theme, batch: &Batch, width: u16, most: usize) -> Vec<Line<'static>> {
    let elements = batch.elements.iter().map(|element| Row {
        name: format!("element {}", element.index),
        times: element.times,
        outcome: element.outcome,
    });
    let mut rows: Vec<Row> = elements.filter(|row| row.span_ns().is_some()).collect();
    let unseen = batch.elements.len() - rows.len();
    rows.sort_by_key(|row| (row.outcome != ElementOutcome::Failed, std::cmp::Reverse(row.took_ns())));
    let rest = rows.split_off(rows.len().min(most.max(1)));
    rows.sort_by_key(Row::span_ns);
    rows.extend(batch.record.as_ref().map(|record| Row {
        name: "its own".into(),
        times: record.times,
        outcome: ElementOutcome::of_copy(record.copy),
    }));
    let all = || rows.iter().chain(&rest).filter_map(Row::span_ns);
    let (Some(from_ns), Some(to_ns)) = (all().map(|(from, _)| from).min(), all().map(|(_, to)| to).max())
    else {
        return Vec::new();
    };
    let cells = usize::from(width).saturating_sub(2 + NAME + 1 + TOOK).clamp(10, MOST_CELLS);
    let axis = Axis { from_ns, to_ns, cells };
    let mut lines = vec![legend(theme)];
    lines.extend(rows.iter().filter(|row| row.span_ns().is_some()).map(|row| axis.line(theme, row)));
    let end = duration(theme, to_ns - from_ns);
    let fill = cells.saturating_sub(end.chars().count() + 1);
    lines.push(Line::styled(format!("  {:NAME$} 0{}{end}", "", theme.rule().repeat(fill)), theme.dim()));
    if !rest.is_empty() {
        lines.push(Line::styled(format!("  {}", words(theme, &rest, from_ns)), theme.dim()));
    }
    let untold = batch.element_count() as usize - batch.elements.len() + unseen;
    if untold > 0 {
        lines.push(Line::styled(format!("  {} without times", count(untold as u64)), theme.dim()));
    }
    lines
}

fn legend(theme: &Theme) -> Line<'static> {
    let parts = [("queue", Part::Queue), ("service", Part::Service), ("copy", Part::Copy)];
    let mut line = Line::from(format!("  {:NAME$} ", ""));
    for (name, part) in parts {
        line.push_span(Span::styled(theme.part(part), theme.bar()));
        line.push_span(Span::styled(format!(" {name}  "), theme.dim()));
    }
    line.push_span(Span::styled("| delivered  X failed  ? not seen", theme.dim()));
    line
}

/// Those that have no row: `and 20 more, 3 of them failed: from 1.20 ms to 3.40 ms, the longest 1.10 ms`.
fn words(theme: &Theme, rest: &[Row], start_ns: u64) -> String {
    let failed = rest.iter().filter(|row| row.outcome == ElementOutcome::Failed).count();
    let failed = if failed > 0 { format!(", {failed} of them failed") } else { String::new() };
    let spans = || rest.iter().filter_map(Row::span_ns);
    let time = |ns: Option<u64>| duration(theme, ns.unwrap_or(start_ns) - start_ns);
    let (from, to) = (time(spans().map(|(from, _)| from).min()), time(spans().map(|(_, to)| to).max()));
    let longest = duration(theme, rest.iter().map(Row::took_ns).max().unwrap_or(0));
    format!("and {} more{failed}: from {from} to {to}, the longest took {longest}", rest.len())
}

struct Axis {
    from_ns: u64,
    to_ns: u64,
    cells: usize,
}

impl Axis {
    /// The cell of a moment; the last moment is in the last cell.
    fn cell(&self, ns: u64) -> usize {
        let span_ns = u128::from((self.to_ns - self.from_ns).max(1));
        let cell = u128::from(ns.saturating_sub(self.from_ns)) * (self.cells as u128 - 1) / span_ns;
        usize::try_from(cell).unwrap_or(0).min(self.cells - 1)
    }

    fn line(&self, theme: &Theme, row: &Row) -> Line<'static> {
        let FaultTimes { queued_ns, started_ns, copy_ns, end_ns } = row.times;
        let mut cells = vec![None; self.cells];
        let mut fill = |from: Option<u64>, to: Option<u64>, part| {
            if let Some((from, to)) = from.zip(to) {
                cells[self.cell(from)..=self.cell(to.max(from))].fill(Some(part));
            }
        };
        let [queued, started, copy, end] =
            [queued_ns, started_ns, copy_ns, end_ns].map(|ns| ns.map(u64::from));
        // What a later part begins in is the later part's.
        fill(queued, started, Part::Queue);
        fill(started, copy.or(end), Part::Service);
        fill(copy, end, Part::Copy);
        let mut text: Vec<&str> =
            cells.into_iter().map(|part| part.map_or(" ", |part| theme.part(part))).collect();
        if let Some((_, last)) = row.span_ns() {
            text[self.cell(last)] = row.end();
        }
        let style = if row.outcome == ElementOutcome::Failed { theme.bad() } else { theme.bar() };
        Line::from(vec![
            Span::styled(format!("  {:NAME$} ", row.name), theme.key()),
            Span::styled(text.concat(), style),
            Span::raw(format!("{:>TOOK$}", duration(theme, row.took_ns()))),
        ])
    }
}
