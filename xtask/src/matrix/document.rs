//! The matrix as Markdown: the part of docs/kernels.md between its markers. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::ValueEnum;
use dsascope_core::event::Hook;

use super::{Cell, Matrix, Outcome, Row};
use crate::reconcile::Attach;
use crate::reconcile::observed::Attachment;
use crate::version::{KernelVersion, MATRIX};

const BEGIN: &str = "<!-- matrix -->\n";
const END: &str = "<!-- end -->\n";

/// The document with its generated part drawn anew; `None`: it has no markers.
pub fn replaced(document: &str, matrix: &Matrix) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", tables(matrix)))
}

/// All tables.
pub fn tables(matrix: &Matrix) -> String {
    let rows = in_order(matrix);
    let traced: Vec<&Row> = rows.iter().map(|(_, row)| *row).filter(|row| row.traced().is_some()).collect();
    let minutes = rows.iter().map(|(_, row)| row.seconds()).sum::<f64>() / 60.0;
    let mut out = format!("All of it took {minutes:.0} minutes.\n\n");
    out += &kernels(&rows);
    if !traced.is_empty() {
        out += "\nHow each hook is attached, and the instructions that the verifier walked for it:\n\n";
        out += &hooks(&traced);
        out += "\nEach scenario: its books, how long attaching took, time in BPF programs a fault:\n\n";
        out += &scenarios(&traced);
        let forced = forced(&traced);
        if !forced.is_empty() {
            out += "\nThe same scenarios with one way to attach forced:\n\n";
            out += &forced;
        }
    }
    out
}

/// The matrix's kernels in its order, then whatever else was run.
fn in_order(matrix: &Matrix) -> Vec<(&str, &Row)> {
    let mut rows: Vec<_> = matrix.kernels.iter().map(|(wanted, row)| (wanted.as_str(), row)).collect();
    rows.sort_by_key(|(wanted, _)| {
        (
            MATRIX.iter().position(|known| known == wanted).unwrap_or(MATRIX.len()),
            KernelVersion::parse(wanted),
        )
    });
    rows
}

fn kernels(rows: &[(&str, &Row)]) -> String {
    let titles = [
        "asked for",
        "ran",
        "scenarios exact",
        "attached by",
        "attach ms",
        "instructions verified",
        "µs a fault",
        "runs skipped",
        "minutes",
    ];
    let rows = rows.iter().map(|(wanted, row)| {
        let auto: Vec<&Cell> = row.cells(Attach::Auto).collect();
        let attached = row.attached.get(&Attach::Auto).map(Vec::as_slice).unwrap_or_default();
        let ran = match &row.outcome {
            Outcome::Traced { kernel } => kernel.clone(),
            Outcome::SvaOff { kernel } => {
                format!("{kernel}: **SVA off**, as doctor says; no work queue can be opened")
            }
            Outcome::NotOnTheMirror { why } => format!("**not on the mirror**: {why}"),
        };
        let ran = match &row.note {
            Some(note) if row.traced().is_some() => format!("{ran} ({note})"),
            _ => ran,
        };
        let minutes = if row.seconds() > 0.0 { format!("{:.1}", row.seconds() / 60.0) } else { dash() };
        let [exact, attach, cost, skipped] = summed(&auto);
        vec![
            (*wanted).to_owned(),
            ran,
            exact,
            types(attached),
            attach,
            verified(attached),
            cost,
            skipped,
            minutes,
        ]
    });
    table(&titles.map(str::to_owned), rows)
}

fn hooks(traced: &[&Row]) -> String {
    let titles: Vec<_> =
        ["hook".to_owned()].into_iter().chain(traced.iter().map(|row| row.short())).collect();
    // No scenario follows submissions.
    let rows = Hook::ALL.iter().filter(|hook| !hook.is_of_submissions()).map(|hook| {
        let cells = traced.iter().map(|row| {
            let attached = row.attached.get(&Attach::Auto).into_iter().flatten();
            attached.into_iter().find(|attachment| attachment.hook == *hook).map_or_else(dash, |found| {
                let instructions = found.verified_instructions.map(|n| format!(" {n}")).unwrap_or_default();
                found.by.as_ref().map_or_else(dash, |by| format!("{by}{instructions}"))
            })
        });
        [hook.name().to_owned()].into_iter().chain(cells).collect()
    });
    table(&titles, rows)
}

fn scenarios(traced: &[&Row]) -> String {
    let titles: Vec<_> =
        ["scenario".to_owned()].into_iter().chain(traced.iter().map(|row| row.short())).collect();
    let names: std::collections::BTreeSet<&String> =
        traced.iter().flat_map(|row| row.scenarios.keys()).collect();
    let rows = names.into_iter().map(|name| {
        let cells = traced.iter().map(|row| {
            row.scenarios.get(name).and_then(|cells| cells.get(&Attach::Auto)).map_or_else(dash, Cell::text)
        });
        [name.clone()].into_iter().chain(cells).collect()
    });
    table(&titles, rows)
}

fn forced(traced: &[&Row]) -> String {
    let titles = [
        "attached by",
        "kernel",
        "scenarios exact",
        "attach ms",
        "instructions verified",
        "µs a fault",
        "runs skipped",
        "not seen",
    ];
    let ways = Attach::value_variants().iter().filter(|attach| **attach != Attach::Auto);
    let mut rows = Vec::new();
    for attach in ways {
        for row in traced {
            let cells: Vec<&Cell> = row.cells(*attach).collect();
            if cells.is_empty() {
                continue;
            }
            let attached = row.attached.get(attach).map(Vec::as_slice).unwrap_or_default();
            let unseen = row.unseen(*attach);
            let [exact, attach_ms, cost, skipped] = summed(&cells);
            rows.push(vec![
                attach.to_possible_value().map_or_else(dash, |value| value.get_name().to_owned()),
                row.short(),
                exact,
                attach_ms,
                verified(attached),
                cost,
                skipped,
                if unseen.is_empty() { "nothing".to_owned() } else { unseen },
            ]);
        }
    }
    if rows.is_empty() { String::new() } else { table(&titles.map(str::to_owned), rows.into_iter()) }
}

/// Exact of all, and means and sums over them.
fn summed(cells: &[&Cell]) -> [String; 4] {
    let (exact, run): (usize, usize) =
        cells.iter().fold((0, 0), |sum, cell| (sum.0 + cell.exact, sum.1 + cell.run));
    if run == 0 {
        return [dash(), dash(), dash(), dash()];
    }
    let mean =
        |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let attach = mean(cells.iter().filter(|cell| cell.exact > 0).map(|cell| cell.attach_ms).collect());
    let cost = mean(cells.iter().filter_map(|cell| cell.ns_per_fault).collect());
    [
        format!("{exact} of {run}"),
        attach.map_or_else(dash, |ms| format!("{ms:.0}")),
        cost.map_or_else(dash, |ns| format!("{:.0}", ns / 1e3)),
        cells.iter().map(|cell| cell.runs_skipped).sum::<u64>().to_string(),
    ]
}

/// `9 kprobe, 3 kretprobe`, most first.
fn types(attached: &[Attachment]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for by in attached.iter().filter_map(|hook| hook.by.as_deref()) {
        *counts.entry(by).or_default() += 1;
    }
    if counts.is_empty() {
        return dash();
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(by, count)| (std::cmp::Reverse(*count), *by));
    counts.iter().map(|(by, count)| format!("{count} {by}")).collect::<Vec<_>>().join(", ")
}

fn verified(attached: &[Attachment]) -> String {
    let sum: u64 = attached.iter().filter_map(|hook| hook.verified_instructions).map(u64::from).sum();
    if sum == 0 { dash() } else { sum.to_string() }
}

fn dash() -> String {
    "-".to_owned()
}

fn table(titles: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut out = format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

impl Cell {
    /// `exact, 812 ms, 41 µs`.
    fn text(&self) -> String {
        let mut text = match (self.exact, self.run) {
            (1, 1) => "exact".to_owned(),
            (exact, run) if exact == run => format!("{run} exact"),
            (0, _) => return "**failed**".to_owned(),
            (exact, run) => format!("**{exact} of {run}**"),
        };
        let _ = write!(text, ", {:.0} ms", self.attach_ms);
        if let Some(ns) = self.ns_per_fault {
            let _ = write!(text, ", {:.0} µs", ns / 1e3);
        }
        text
    }
}

impl Row {
    fn traced(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Traced { kernel } => Some(kernel),
            _ => None,
        }
    }

    /// `7.3.4`, for a column's title.
    fn short(&self) -> String {
        let kernel = self.traced().unwrap_or_default();
        kernel.split_once(['+', '-']).map_or(kernel, |(upstream, _)| upstream).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::super::{DOCUMENT, path};
    use super::*;
    use crate::reconcile::observed::Observed;
    use crate::test;

    fn matrix() -> Matrix {
        let hooks = vec![
            Attachment { hook: Hook::Queued, by: Some("tp_btf".into()), verified_instructions: Some(138) },
            Attachment { hook: Hook::CopyEnd, by: None, verified_instructions: None },
        ];
        let observed = Observed { hooks, attach_ms: 812.4, ns_per_fault: Some(41_300.0), runs_skipped: 2 };
        let mut traced =
            Row::new(Outcome::Traced { kernel: "7.2.12+deb13-amd64".into() }, Some("taking 7.2.12".into()));
        traced.add("one-fault", Attach::Auto, 1, std::slice::from_ref(&observed), 2.0);
        traced.add("random", Attach::Auto, 2, std::slice::from_ref(&observed), 2.0);
        traced.add("one-fault", Attach::Fentry, 1, &[observed], 2.0);
        let off = Row::new(Outcome::SvaOff { kernel: "6.12.95+deb12-amd64".into() }, None);
        let gone = Row::new(Outcome::NotOnTheMirror { why: "no kernel 6.19".into() }, None);
        let kernels = [("7.2.12+deb13", traced), ("6.12.95+deb12", off), ("6.19", gone)];
        Matrix { kernels: kernels.map(|(wanted, row)| (wanted.to_owned(), row)).into() }
    }

    #[test]
    fn every_kernel_has_a_row_whatever_came_of_it() {
        let text = tables(&matrix());
        let row = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
        assert!(row("| 6.12.95+deb12 ").contains("**SVA off**"));
        assert!(row("| 6.19 ").contains("**not on the mirror**: no kernel 6.19 | - | - |"));
        assert_eq!(
            row("| 7.2.12+deb13 "),
            "| 7.2.12+deb13 | 7.2.12+deb13-amd64 (taking 7.2.12) | 2 of 3 | 1 tp_btf | 812 | 138 | 41 | 4 | 0.1 |"
        );
        assert_eq!(row("| queued"), "| queued | tp_btf 138 |");
        assert_eq!(row("| copy end"), "| copy end | - |");
        assert_eq!(row("| one-fault"), "| one-fault | exact, 812 ms, 41 µs |");
        assert_eq!(row("| random"), "| random | **1 of 2**, 812 ms, 41 µs |");
        assert_eq!(row("| fentry"), "| fentry | 7.2.12 | 1 of 1 | 812 | 138 | 41 | 2 | copy end |");
        let order: Vec<_> = ["| 6.12.95", "| 6.19", "| 7.2.12+"].map(|row| text.find(row)).into();
        assert!(order.is_sorted() && order.iter().all(Option::is_some));
    }

    #[test]
    fn the_generated_part_alone_is_replaced() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let new = replaced(&document, &matrix()).unwrap();
        assert!(
            new.starts_with("before\n<!-- matrix -->\nAll of it took ")
                && new.ends_with("|\n<!-- end -->\nafter\n")
        );
        assert_eq!(replaced(&new, &matrix()), Some(new.clone()));
        assert_eq!(replaced("no markers\n", &matrix()), None);
    }

    #[test]
    fn the_committed_table_is_of_the_committed_results_and_has_every_kernel() {
        let matrix = Matrix::read().unwrap();
        let document = fs::read_to_string(path(DOCUMENT)).unwrap();
        assert_eq!(
            replaced(&document, &matrix).as_ref(),
            Some(&document),
            "cargo xtask test --write draws it anew"
        );
        let wanted: BTreeSet<&str> = matrix.kernels.keys().map(String::as_str).collect();
        assert_eq!(wanted, MATRIX.into_iter().collect());
        let files = test::scenario_names().unwrap();
        for row in matrix.kernels.values() {
            for scenario in row.scenarios.keys().filter(|name| !test::SEEDS_NAMES.contains(&name.as_str())) {
                assert!(files.contains(scenario), "{scenario} is no scenario any more");
            }
        }
    }
}
