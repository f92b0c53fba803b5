//! Latency beside that of a baseline: both histograms on one axis, the chosen stage's figures one below the other, and what is not the same
//! about the two runs.

use dsascope_core::compare::{Change, Figure};
use dsascope_core::hist::{Latency, StageHistograms, Summary, bar_pairs};
use dsascope_core::model::Process;
use dsascope_core::stages::Stage;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::help::wrap;
use super::latency::{BARS_PER_DECADE, FIGURES_WIDTH, TITLES, draw_bars, draw_note, figures, row, subject};
use crate::app::App;
use crate::baseline::{Baseline, Differences};
use crate::theme::Theme;

/// As the columns of the figures stand.
const FIGURES: [Figure; 5] = [Figure::P50, Figure::P90, Figure::P99, Figure::P999, Figure::Max];
/// From here on there is room for more than a line of what is not the same.
const TALL: u16 = 14;
/// Marks the baseline among the bars.
pub(super) const MARK: &str = "o";

/// What is shown, and the baseline's part of it.
struct Both<'a> {
    name: String,
    now: Option<&'a StageHistograms>,
    before: Option<&'a StageHistograms>,
}

impl<'a> Both<'a> {
    fn of(app: &'a App, baseline: &'a Baseline) -> Self {
        let (name, now, process) = subject(app);
        let row = process.map(Process::key);
        Self { name, now, before: baseline.latency(app.shown(), row) }
    }

    fn stage(&self, stage: Stage) -> [Option<&'a Latency>; 2] {
        [self.now, self.before].map(|latency| latency.and_then(|latency| latency.get(stage)))
    }

    fn summaries(&self, stage: Stage) -> [Option<Summary>; 2] {
        [self.now, self.before].map(|latency| latency.and_then(|latency| latency.summary(stage)))
    }

    /// The shown by the baseline, with a mark where that is no chance (95 %), as `dsascope diff` has it.
    fn ratios(&self, stage: Stage) -> [String; 5] {
        let [now, before] = self.stage(stage);
        FIGURES.map(|figure| {
            let change = Change::new(figure, before, now);
            let mark = match change.certain {
                Some(true) => "*",
                _ if change.delta_ns == Some(0) => " ",
                _ => "~",
            };
            change.ratio.map_or_else(|| "- ".into(), |ratio| format!("{}{mark}", times(ratio)))
        })
    }
}

/// At most five columns.
fn times(ratio: f64) -> String {
    match ratio {
        ..9.995 => format!("{ratio:.2}x"),
        ..99.95 => format!("{ratio:.1}x"),
        ..9999.5 => format!("{ratio:.0}x"),
        _ => ">999x".into(),
    }
}

/// In the place of [`super::latency::draw`].
pub(super) fn draw(app: &App, baseline: &Baseline, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let (both, stage) = (Both::of(app, baseline), app.stage());
    let title = format!("latency of {}: {} time", both.name, stage.name());
    let note = match both.before {
        Some(_) => format!("{MARK}: baseline {}", baseline.name()),
        None => format!("baseline {} has none of it", baseline.name()),
    };
    super::draw_rule(theme, frame, area, &title, &note, false);
    let differences = baseline.differences(app.shown());
    let most = if area.height < TALL { 1 } else { 3 };
    let told = sentences(theme, &differences, usize::from(area.width), most);
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1 + told.len() as u16), ..area };
    for (line, y) in told.into_iter().zip(body.bottom()..area.bottom()) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
    let left = Rect { width: area.width.saturating_sub(FIGURES_WIDTH + 2), ..body };
    let right = Rect { x: left.right() + 2, width: area.width.saturating_sub(left.width + 2), ..body };
    let pairs = bar_pairs(both.stage(stage), BARS_PER_DECADE);
    if pairs.is_empty() {
        draw_note(app, frame, left, "nothing measured");
    } else {
        draw_bars(app, frame, left, &pairs);
    }
    let rows = figure_lines(app, &both, differences.refuse.is_empty(), usize::from(right.height));
    for (line, y) in rows.into_iter().zip(right.y..right.bottom()) {
        frame.render_widget(line, Rect { y, height: 1, ..right });
    }
}

/// The chosen stage of both and how they compare, then what other stages have room.
fn figure_lines(app: &App, both: &Both<'_>, comparable: bool, room: usize) -> Vec<Line<'static>> {
    let (theme, chosen) = (app.theme(), app.stage());
    let [now, before] = both.summaries(chosen);
    let mut lines = vec![
        Line::styled(TITLES, theme.columns()),
        Line::styled(figures(theme, "*", chosen.name(), now), theme.title(true)),
        Line::styled(figures(theme, MARK, " baseline", before), theme.mark()),
        ratio_line(theme, both, chosen, comparable),
    ];
    let followed = app.shown().submissions().are_traced();
    let others =
        Stage::ALL.into_iter().filter(|stage| *stage != chosen && (followed || !stage.is_of_program()));
    lines.extend(others.map(|stage| {
        let [now, _] = both.summaries(stage);
        Line::styled(figures(theme, " ", stage.name(), now), theme.text())
    }));
    lines.truncate(room);
    lines
}

fn ratio_line(theme: &Theme, both: &Both<'_>, stage: Stage, comparable: bool) -> Line<'static> {
    let ratios = if comparable { both.ratios(stage) } else { FIGURES.map(|_| "- ".into()) };
    // The mark stands below the unit.
    Line::styled(row(" ", "ratio", &ratios), theme.strong())
}

/// What is not the same, in at most `most` lines: first what makes figures mean something else.
fn sentences(theme: &Theme, differences: &Differences, width: usize, most: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let parts = [
        ("the two runs did not observe the same: ", &differences.refuse, theme.bad()),
        ("not the same: ", &differences.warn, theme.warn()),
    ];
    for (begin, what, style) in parts {
        if what.is_empty() || lines.len() >= most {
            continue;
        }
        let parts = fitting(begin, what, width, most - lines.len());
        lines.extend(parts.into_iter().map(|part| Line::styled(part, style)));
    }
    lines
}

/// As much of a list as has room in so many lines, and how many more there are.
fn fitting(begin: &str, what: &[String], width: usize, most: usize) -> Vec<String> {
    for taken in (1..=what.len()).rev() {
        let more = match what.len() - taken {
            0 => String::new(),
            more => format!("; and {more} more (y copies all)"),
        };
        let lines = wrap(&format!("{begin}{}{more}", what[..taken].join("; ")), width);
        if lines.len() <= most && lines.iter().all(|line| line.chars().count() <= width) {
            return lines;
        }
    }
    let text = format!("{begin}{} things (y copies all)", what.len());
    vec![crate::format::fit(&text, width)]
}

/// Every stage that was measured, and where there is a baseline each with it, and all that is not the same.
pub(super) fn lines(app: &App, width: u16) -> Vec<Line<'static>> {
    let theme = app.theme();
    let Some(baseline) = app.baseline() else {
        let (name, now, _) = subject(app);
        let summaries = Stage::ALL.into_iter().filter_map(|stage| Some((stage, now?.summary(stage)?)));
        let rows = summaries.map(|(stage, summary)| figures(theme, " ", stage.name(), Some(summary)).into());
        return [format!("latency of {name}").into(), TITLES.into()].into_iter().chain(rows).collect();
    };
    let both = Both::of(app, baseline);
    let differences = baseline.differences(app.shown());
    let title = format!("latency of {}, and of the baseline {}", both.name, baseline.name());
    let mut lines = vec![Line::from(title), TITLES.into()];
    for stage in Stage::ALL {
        let [now, before] = both.summaries(stage);
        if now.or(before).is_none() {
            continue;
        }
        lines.push(figures(theme, " ", stage.name(), now).into());
        lines.push(figures(theme, MARK, " baseline", before).into());
        lines.push(ratio_line(theme, &both, stage, differences.refuse.is_empty()));
    }
    lines.push("* the change is certain (95 %); ~ it may be chance".into());
    lines.extend(sentences(theme, &differences, usize::from(width), usize::MAX));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_stay_in_their_columns() {
        for ratio in [0.0, 0.004, 1.0, 9.994, 9.996, 99.94, 99.96, 123.4, 999.4, 9999.4, 1e12] {
            assert!(times(ratio).len() <= 5, "{ratio} -> {}", times(ratio));
        }
        assert_eq!(times(1.2), "1.20x");
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let what: Vec<String> = (0..9).map(|n| format!("wq0.{n} size: 64 / 32")).collect();
        for (width, most) in [(60, 1), (80, 1), (60, 3), (80, 3), (120, 2)] {
            let lines = fitting("not the same: ", &what, width, most);
            assert!(lines.len() <= most && lines.iter().all(|line| line.len() <= width), "{lines:?}");
            let text = lines.join(" ");
            let shown = text.matches("64 / 32").count();
            let more = format!("; and {} more (y copies all)", 9 - shown);
            assert!(shown > 0 && text.contains(&more) == (shown < 9), "{text}");
        }
        assert_eq!(fitting("", &what, 300, 1), [what.join("; ")]);
        assert_eq!(
            fitting("not the same: ", &["x".repeat(90)], 60, 1),
            ["not the same: 1 things (y copies all)"]
        );
    }
}
