//! `dsascope diff`: two captures beside each other, as text, JSON or a page, with an exit code for CI.

use std::fmt::Write;

use anyhow::Result;
use dsascope_core::compare::{
    By, Change, Collector, Comparison, Condition, GroupChange, Run, Severity, StageChange, Verdict, compare,
};
use dsascope_core::event::Event;
use dsascope_core::hist::{Bar, Latency};
use dsascope_core::json::{Body, Line};
use dsascope_core::model::Model;
use dsascope_tui::Theme;
use dsascope_tui::format::{count, optional_duration, rate};

use crate::exit::{Code, Failure};
use crate::flags::{self, Diff};
use crate::generate;
use crate::notice;
use crate::progress::Bar as Progress;
use crate::replay::{Replay, Speed};
use crate::source::{EventFile, Next, Source};

/// Bars of a histogram in a decade; each is a column wide.
const BARS_A_DECADE: u32 = 12;
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(crate) fn run(flags: &Diff) -> Result<Code> {
    let by = match flags.by {
        flags::By::Stage => By::Stage,
        flags::By::Wq => By::WorkQueue,
        flags::By::Process => By::Process,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let read = |path: &std::path::Path| -> Result<Run> {
        runtime.block_on(async {
            if Replay::is_capture(path) {
                fold(Replay::open(path, Speed::Max)?, by).await
            } else {
                fold(EventFile::open(path)?, by).await
            }
        })
    };
    let (a, b) = (read(&flags.a)?, read(&flags.b)?);
    let comparison = compare(&a, &b);
    let refused: Vec<_> =
        comparison.differences.iter().filter(|difference| difference.severity == Severity::Refuse).collect();
    if !refused.is_empty() && !flags.force {
        let what: Vec<_> = refused.iter().map(|d| format!("{}: {} / {}", d.what, d.a, d.b)).collect();
        return Err(Failure::new(
            Code::NotComparable,
            format!("the two runs did not observe the same: {}", what.join("; ")),
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
    let verdicts: Vec<(&Condition, Verdict)> =
        flags.fail_if.iter().map(|condition| (condition, condition.check(&comparison))).collect();
    generate::to_stdout(|out| {
        if flags.json {
            out.extend(Line::from(Body::Comparison(Box::new(comparison.clone()))).to_text()?.into_bytes());
            out.push(b'\n');
        } else {
            out.extend(text(&comparison, &a, &b, [&name(&flags.a), &name(&flags.b)], &verdicts).into_bytes());
        }
        Ok(())
    })?;
    let failed =
        verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Holds { .. } | Verdict::Unknown));
    Ok(if failed { Code::Regression } else { Code::Ok })
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

async fn fold(mut source: impl Source, by: By) -> Result<Run> {
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
    notice::damage(&source.damage());
    Ok(collector.finish(&model))
}

/// All of it, for people.
fn text(
    comparison: &Comparison,
    a: &Run,
    b: &Run,
    names: [&str; 2],
    verdicts: &[(&Condition, Verdict)],
) -> String {
    let mut out = format!("A {}\nB {}\n", names[0], names[1]);
    for difference in &comparison.differences {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "not the same: {}: {} / {}", difference.what, difference.a, difference.b);
    }
    for group in &comparison.groups {
        out.push_str(&group_text(group, a, b));
    }
    let _ = writeln!(
        out,
        "\n* the change is certain (95 %); ~ it may be chance; percentiles are at most {} % too high",
        comparison.bucket_error * 100.0
    );
    for (condition, verdict) in verdicts {
        let says = match verdict {
            Verdict::Holds { found } => format!("FAILED  {condition}: {found}"),
            Verdict::Uncertain { found } => format!("ok      {condition}: {found}, but that may be chance"),
            Verdict::No => format!("ok      {condition}: no"),
            Verdict::Unknown => format!("FAILED  {condition}: not known of both runs"),
        };
        let _ = writeln!(out, "{says}");
    }
    out
}

fn group_text(group: &GroupChange, a: &Run, b: &Run) -> String {
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
        out.push_str(&stage_text(stage, la, lb));
    }
    out
}

fn stage_text(stage: &StageChange, a: Option<&Latency>, b: Option<&Latency>) -> String {
    let time = |ns: Option<u64>| optional_duration(&Theme::PLAIN, ns);
    let mut out = format!("  {:9} {:>8} {:>8} {:>9} {:>7}\n", stage.stage.name(), "A", "B", "B-A", "B/A");
    for change in &stage.changes {
        let Change { figure, a, b, delta_ns, ratio, certain } = change;
        let delta = delta_ns.map_or_else(
            || "-".into(),
            |ns| format!("{}{}", if ns < 0 { '-' } else { '+' }, time(Some(ns.unsigned_abs()))),
        );
        let mark = match certain {
            Some(true) => "*",
            Some(false) if *delta_ns != Some(0) => "~",
            _ => " ",
        };
        let _ = writeln!(
            out,
            "    {:7} {:>8} {:>8} {:>9} {:>7} {mark}",
            figure.name(),
            time(a.map(|estimate| estimate.ns)),
            time(b.map(|estimate| estimate.ns)),
            delta,
            ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x")),
        );
    }
    if let Some(slower) = stage.slower {
        let sure = if stage.shifted { "*" } else { "~" };
        let _ = writeln!(
            out,
            "    a fault of B is slower than one of A in {:.0} % of cases {sure}",
            slower * 100.0
        );
    }
    out.push_str(&overlay(a, b));
    out
}

/// Both histograms on one logarithmic axis, each to its own count, so that runs of different lengths can be compared.
fn overlay(a: Option<&Latency>, b: Option<&Latency>) -> String {
    let mut both = Latency::default();
    a.into_iter().chain(b).for_each(|latency| both.merge(latency));
    let all = both.bars(BARS_A_DECADE);
    let [a, b] = [a, b].map(|latency| latency.map(|latency| latency.bars(BARS_A_DECADE)).unwrap_or_default());
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return String::new() };
    let row = |bars: &[Bar]| -> String {
        let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
        let level = |edge: &Bar| {
            let count = bars.iter().find(|bar| bar.from_ns == edge.from_ns).map_or(0, |bar| bar.count);
            LEVELS[(count * 8).div_ceil(most) as usize]
        };
        all.iter().map(level).collect()
    };
    let time = |ns: u64| optional_duration(&Theme::PLAIN, Some(ns));
    format!("    A |{}|\n    B |{}| {} to {}\n", row(&a), row(&b), time(first.from_ns), time(last.to_ns))
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
        let drawn = overlay(Some(&a), Some(&b));
        let rows: Vec<usize> =
            drawn.lines().map(|row| row[..row.rfind('|').unwrap_or(0)].chars().count()).collect();
        assert_eq!(rows[0], rows[1], "{drawn}");
        assert_eq!(overlay(None, None), "");
    }
}
