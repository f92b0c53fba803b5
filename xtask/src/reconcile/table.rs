//! Prints comparisons: a table a scenario, its differences below.
//!
//! A number that a book does not have is `-`; the driver's counters that dsascope read when the file went have a `*`, those that nobody
//! could read are `n/r`.

use std::fmt::Write;

use dsascope_core::model::PageRequestTotals;
use dsascope_testbed::truth::BlockCause;

use super::compare::{Comparison, Row, Source};
use super::pages;

const TITLES: [&str; 19] = [
    "WQ",
    "PASID",
    "PID",
    "PROCESS",
    "DEVICE",
    "QUEUED",
    "SKIPPED",
    "SERVED",
    "DELIVERED",
    "FAILED",
    "OTHER",
    "RECEIVED",
    "LOST",
    "COUNTED",
    "DRIVER",
    "WORKLOAD",
    "DESCR/S",
    "FAULTS/S",
    "",
];
/// Columns of text; the others are numbers and stand right.
const TEXT: [bool; 19] = [
    true, false, false, true, false, false, false, false, false, false, false, false, false, false, false,
    false, false, false, true,
];

/// One scenario, under a line with its name.
pub fn scenario(name: &str, seconds: f64, comparison: &Comparison) -> String {
    let mut out = format!("\n{name} ({seconds:.1} s{})\n", remarks(comparison));
    let rows: Vec<_> = comparison.rows.iter().map(cells).collect();
    out += &aligned(&TITLES.map(str::to_owned), &TEXT, &rows);
    for row in &comparison.page_requests {
        out += &page_requests(row);
    }
    for (device, causes) in &comparison.blocked {
        for (cause, blocked) in causes {
            let _ = writeln!(
                out,
                "{device}: engines waited {} times for {}, {:.1} ms in all, {:.1} ms at most",
                blocked.waits,
                words(*cause),
                blocked.total_ns as f64 / 1e6,
                blocked.longest_ns as f64 / 1e6
            );
        }
    }
    for line in &comparison.known {
        let _ = writeln!(out, "known defect of the driver: {line}");
    }
    for line in &comparison.explained {
        let _ = writeln!(out, "explained by the ledger: {line}");
    }
    for difference in comparison.all_differences() {
        let _ = writeln!(out, "DIFFERENT: {difference}");
    }
    out
}

const fn words(cause: BlockCause) -> &'static str {
    match cause {
        BlockCause::EventLogFull => "a slot of the full event log",
        BlockCause::BatchIdentifier => "a batch identifier",
        BlockCause::PageRequest => "an answer to a page request",
    }
}

fn page_requests(row: &pages::Row) -> String {
    let (device, ms) = (row.device, |ns: u64| ns as f64 / 1e6);
    let mean = device.waits.sum_ns.checked_div(device.waits.times).map_or(0.0, ms);
    let mut out = format!(
        "page requests of PASID {}: {} by the device, {} refused, waits of {mean:.2} ms in the mean; ",
        row.pasid, device.requests, device.refused
    );
    let _ = match &row.dsascope {
        Some(PageRequestTotals { groups, unmatched, latency: Some(latency), .. }) => writeln!(
            out,
            "by dsascope {groups} answered, {unmatched} without latency, mean {:.2} ms, p50 {:.2} ms, p99 {:.2} ms",
            ms(latency.mean_ns),
            ms(latency.p50_ns),
            ms(latency.p99_ns)
        ),
        Some(totals) => writeln!(out, "by dsascope {} answered, none with latency", totals.groups),
        None => writeln!(out, "not by dsascope"),
    };
    out
}

fn remarks(comparison: &Comparison) -> String {
    let mut remarks = String::new();
    if comparison.deep {
        remarks += ", entry by entry";
    }
    if comparison.killed {
        remarks += ", dsascope was killed";
    }
    if comparison.records_lost > 0 {
        let _ = write!(remarks, ", {} records lost and accounted for", comparison.records_lost);
    }
    remarks
}

fn cells(row: &Row) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let rate = |value: Option<f64>| match value {
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
        None => "-".to_owned(),
    };
    // Faults and failures in one cell: `150/50`.
    let pair = |faults: Option<u64>, failures| format!("{}/{}", number(faults), number(failures));
    let driver = match row.driver_source {
        Source::Sysfs => pair(row.driver_faults, row.driver_failures),
        Source::AtRelease => pair(row.driver_faults, row.driver_failures) + "*",
        Source::NotReadable => "n/r".to_owned(),
    };
    vec![
        row.wq_name(),
        row.pasid.to_string(),
        number(row.pid.map(u64::from)),
        row.process.clone().unwrap_or_else(|| "?".to_owned()),
        row.device_faults.to_string(),
        number(row.queued),
        number(row.skipped),
        number(row.served),
        number(row.delivered),
        number(row.failed),
        number(row.other),
        number(row.received),
        number(row.lost),
        pair(row.counted_faults, row.counted_failures),
        driver,
        pair(row.workload_faults, row.workload_failed),
        rate(row.descriptors_per_s),
        rate(row.faults_per_s),
        match (row.differences.is_empty(), row.driver_source) {
            (true, Source::NotReadable) => "exact, driver not read",
            (true, _) => "exact",
            (false, _) => "DIFFERENT",
        }
        .to_owned(),
    ]
}

/// Columns as wide as their widest cell, two spaces between them; `text` columns stand left, others right.
pub fn aligned(titles: &[String], text: &[bool], rows: &[Vec<String>]) -> String {
    let all = || [titles].into_iter().chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut out = String::new();
    for row in all() {
        let cells = row.iter().zip(text).enumerate().map(|(column, (cell, text))| {
            let width = width(column);
            if *text { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_not_zero() {
        let row = Row { device: "dsa3".into(), wq: 2, pasid: 7, device_faults: 4, ..Row::default() };
        let comparison = Comparison { rows: vec![row], ..Comparison::default() };
        let text = scenario("seed 1", 0.25, &comparison);
        let line: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(line[..6], ["wq3.2", "7", "-", "?", "4", "-"]);
        assert_eq!(line[13..], ["-/-", "n/r", "-/-", "-", "-", "exact,", "driver", "not", "read"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bcd".to_owned(), "20".to_owned()]];
        let titles = ["X".to_owned(), "N".to_owned()];
        assert_eq!(aligned(&titles, &[true, false], &rows), "X     N\na     1\nbcd  20\n");
    }
}
