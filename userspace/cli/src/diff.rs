//! `dsascope diff`: two captures beside each other, as text, JSON or a page, with an exit code for CI.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use std::path::Path;

use anyhow::Result;
use dsascope_core::compare::{
    By, Change, Checked, Collector, Comparison, Estimate, GroupChange, Run, Severity, StageChange, compare,
};
use dsascope_core::event::Event;
use dsascope_core::hist::{Latency, bar_pairs};
use dsascope_core::json::{Body, Line};
use dsascope_core::model::Model;
use dsascope_tui::format::{count, optional_duration, rate};
use dsascope_tui::{Baseline, Theme};

use crate::exit::{Code, Failure};
use crate::flags::{self, Diff};
use crate::generate;
use crate::notice;
use crate::progress::Bar as Progress;
use crate::replay::{Replay, Speed};
use crate::source::{EventFile, Next, Source};

/// Bars of a histogram in a decade, most first; each is a column wide, and the first that fits is taken.
const BARS_A_DECADE: [u32; 7] = [24, 12, 8, 6, 4, 2, 1];
/// Columns where there is no terminal.
const WIDTH: usize = 80;
/// From so many columns on, the ranges stand beside the figures.
const WIDTH_OF_RANGES: usize = 100;
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(crate) fn run(flags: &Diff) -> Result<Code> {
    let by = match flags.by {
        flags::By::Stage => By::Stage,
        flags::By::Wq => By::WorkQueue,
        flags::By::Process => By::Process,
    };
    let ((a, damaged_a), (b, damaged_b)) = (read(&flags.a, by)?, read(&flags.b, by)?);
    let mut comparison = compare(&a, &b);
    comparison.check(&flags.fail_if);
    let refused: Vec<String> = comparison
        .differences
        .iter()
        .filter(|difference| difference.severity == Severity::Refuse)
        .map(|d| format!("{}: {} / {}", d.what, d.a, d.b))
        .collect();
    if !refused.is_empty() && !flags.force {
        return Err(Failure::new(
            Code::NotComparable,
            format!("the two runs did not observe the same: {}", refused.join("; ")),
            "record both with the same probes, or give --force to compare what there is",
        )
        .into());
    }
    if let Some(path) = &flags.html {
        let page = dsascope_export::comparison_page(&comparison, &a, &b, &name(&flags.a), &name(&flags.b));
        std::fs::write(path, page).map_err(|error| {
            let next = "name a file that can be written";
            Failure::new(Code::Failure, format!("write {}: {error}", path.display()), next)
        })?;
    }
    generate::to_stdout(|out| {
        if flags.json {
            out.extend(Line::from(Body::Comparison(Box::new(comparison.clone()))).to_text()?.into_bytes());
            out.push(b'\n');
        } else {
            out.extend(text(&comparison, &a, &b, [&name(&flags.a), &name(&flags.b)], width()).into_bytes());
        }
        Ok(())
    })?;
    Ok(match comparison.conditions.iter().any(|checked| checked.verdict.fails()) {
        true => Code::Regression,
        false if damaged_a || damaged_b => Code::BadInput,
        false => Code::Ok,
    })
}

/// A run for the live view to hold another against.
pub(crate) fn baseline(path: &Path) -> Result<Baseline> {
    let (run, damaged) = read(path, By::Process).map_err(|error| {
        if error.is::<Failure>() {
            return error;
        }
        let next = "name a capture that `dsascope record` wrote";
        Failure::new(Code::BadInput, format!("--baseline: {error:#}"), next).into()
    })?;
    Ok(Baseline::new(name(path), run, damaged))
}

/// Folds a file into a run; true: some of it could not be read, which has been told.
fn read(path: &Path, by: By) -> Result<(Run, bool)> {
    tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
        if Replay::is_capture(path) {
            fold(Replay::open(path, Speed::Max)?, by).await
        } else {
            fold(EventFile::open(path)?, by).await
        }
    })
}

/// Columns to fill.
fn width() -> usize {
    let of_terminal = stdout().is_terminal().then(|| crossterm::terminal::size().ok()).flatten();
    of_terminal.map_or(WIDTH, |(width, _)| usize::from(width).max(1))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

async fn fold(mut source: impl Source, by: By) -> Result<(Run, bool)> {
    let mut model = Model::default();
    let mut collector = Collector::new(by);
    let mut progress = Progress::new(true);
    let mut batch: Vec<Event> = Vec::new();
    loop {
        let next = source.next_batch(&mut batch).await?;
        for event in batch.drain(..) {
            model.update(&event);
            collector.event(&model, &event);
        }
        progress.show(source.progress());
        if next == Next::End {
            break;
        }
    }
    drop(progress);
    let damaged = notice::damage(&source.damage());
    Ok((collector.finish(&model), damaged))
}

/// All of it, for people.
fn text(comparison: &Comparison, a: &Run, b: &Run, names: [&str; 2], width: usize) -> String {
    let mut out = format!("A {}\nB {}\n", names[0], names[1]);
    for difference in &comparison.differences {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "not the same: {}: {} / {}", difference.what, difference.a, difference.b);
    }
    for group in &comparison.groups {
        out.push_str(&group_text(group, a, b, width));
    }
    let _ = writeln!(
        out,
        "\n* the change is certain (95 %); ~ it may be chance\n  percentiles are at most {} % too high; histograms are each to their own count",
        comparison.bucket_error * 100.0
    );
    for Checked { condition, verdict } in &comparison.conditions {
        let result = if verdict.fails() { "FAILED" } else { "ok" };
        let _ = writeln!(out, "{result:6}  {condition}: {}", verdict.words());
    }
    out
}

fn group_text(group: &GroupChange, a: &Run, b: &Run, width: usize) -> String {
    let per_s = |rate_of: Option<f64>| rate_of.map_or_else(|| "-".into(), rate);
    let mut out = format!(
        "\n{}: faults {} / {}, failed {} / {}, {} / {} a second\n",
        group.group,
        count(group.faults_a),
        count(group.faults_b),
        count(group.failures_a),
        count(group.failures_b),
        per_s(group.faults_per_s_a),
        per_s(group.faults_per_s_b),
    );
    for stage in &group.stages {
        let [la, lb] =
            [a, b].map(|run| run.latency(&group.group).and_then(|latency| latency.get(stage.stage)));
        out.push_str(&stage_text(stage, la, lb, width));
    }
    out
}

fn stage_text(stage: &StageChange, a: Option<&Latency>, b: Option<&Latency>, width: usize) -> String {
    let time = |ns: Option<u64>| optional_duration(&Theme::PLAIN, ns);
    let range = |estimate: &Option<Estimate>| match estimate {
        Some(Estimate { low_ns: None, high_ns: None, .. }) | None => "-".into(),
        Some(Estimate { low_ns, high_ns, .. }) => format!("{} to {}", time(*low_ns), time(*high_ns)),
    };
    let with_ranges = width >= WIDTH_OF_RANGES;
    let mut out = format!("  {:9} {:>8} {:>8} {:>9} {:>7}", stage.stage.name(), "A", "B", "B-A", "B/A");
    // Writing to a String cannot fail, here and below.
    if with_ranges {
        let _ = write!(out, "   {:>18} {:>18}", "A with 95 %", "B with 95 %");
    }
    out.push('\n');
    for change in &stage.changes {
        let Change { figure, a, b, delta_ns, ratio, certain } = change;
        let delta = delta_ns.map_or_else(
            || "-".into(),
            |ns| format!("{}{}", if ns < 0 { '-' } else { '+' }, time(Some(ns.unsigned_abs()))),
        );
        let mark = match certain {
            Some(true) => "*",
            _ if delta_ns.is_none_or(|ns| ns == 0) => " ",
            _ => "~",
        };
        let mut row = format!(
            "    {:7} {:>8} {:>8} {:>9} {:>7} {mark}",
            figure.name(),
            time(a.map(|estimate| estimate.ns)),
            time(b.map(|estimate| estimate.ns)),
            delta,
            ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x")),
        );
        if with_ranges {
            let _ = write!(row, " {:>18} {:>18}", range(a), range(b));
        }
        let _ = writeln!(out, "{}", row.trim_end());
    }
    if let Some(slower) = stage.slower {
        let sure = if stage.shifted { "*" } else { "~" };
        let _ = writeln!(
            out,
            "    a fault of B is slower than one of A in {:.0} % of cases {sure}",
            slower * 100.0
        );
    }
    out.push_str(&overlay(a, b, width));
    out
}

/// Both histograms on one logarithmic axis, each to its own count, so that runs of different lengths can be compared.
fn overlay(a: Option<&Latency>, b: Option<&Latency>, width: usize) -> String {
    const BEFORE: &str = "    A |";
    let room = width.saturating_sub(BEFORE.len() + 1);
    let pairs = |per_decade: u32| bar_pairs([a, b], per_decade);
    let fitting = BARS_A_DECADE.into_iter().map(pairs).find(|pairs| pairs.len() <= room);
    let pairs = fitting.unwrap_or_else(|| pairs(1));
    let (Some(first), Some(last)) = (pairs.first(), pairs.last()) else { return String::new() };
    let row = |side: usize| -> String {
        let most = pairs.iter().map(|pair| pair.counts[side]).max().unwrap_or(0).max(1);
        pairs.iter().map(|pair| LEVELS[(pair.counts[side] * 8).div_ceil(most) as usize]).collect()
    };
    let time = |ns: u64| optional_duration(&Theme::PLAIN, Some(ns));
    format!(
        "{BEFORE}{}|\n    B |{}|\n       {} to {}, logarithmic\n",
        row(0),
        row(1),
        time(first.from_ns),
        time(last.to_ns)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_histograms_stand_on_one_axis() {
        let latency = |values: &[u64]| {
            let mut latency = Latency::default();
            values.iter().for_each(|&ns| latency.record(ns));
            latency
        };
        let (a, b) = (latency(&[1000, 1000, 2000]), latency(&[4000, 9000]));
        let drawn = overlay(Some(&a), Some(&b), 80);
        let rows: Vec<&str> = drawn.lines().collect();
        let width = |row: &str| row.chars().count();
        assert!(width(rows[0]) == width(rows[1]) && width(rows[0]) <= 80, "{drawn}");
        let bars = |row: &str| row.chars().filter(|c| LEVELS[1..].contains(c)).count();
        assert_eq!((bars(rows[0]), bars(rows[1])), (2, 2), "{drawn}");
        let (far, near) = (latency(&[1, 1 << 35]), latency(&[5]));
        assert!(overlay(Some(&far), Some(&near), 40).lines().all(|row| width(row) <= 40));
        assert_eq!(overlay(None, None, 80), "");
    }

    #[test]
    fn two_samples_as_people_see_them() {
        let sample = |name: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name);
            let (run, damaged) = read(&path, By::Stage).expect("a capture");
            assert!(!damaged);
            run
        };
        let (a, b) = (sample("storm.dsc"), sample("batch.dsc"));
        let mut comparison = compare(&a, &b);
        let conditions = ["copy.p99 > 1.2x", "copy.p50 > 50us", "copy.p99.9 < 0.9x", "interrupt.mean < 99%"];
        comparison.check(&conditions.map(|condition| condition.parse().expect("a condition")));
        for width in [80, 120] {
            let text = text(&comparison, &a, &b, ["storm.dsc", "batch.dsc"], width);
            let too_wide = text.lines().find(|line| line.chars().count() > width);
            assert_eq!(too_wide, None, "at {width}");
            insta::assert_snapshot!(format!("storm_and_batch_{width}"), text);
        }
    }
}
