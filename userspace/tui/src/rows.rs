//! The process table's rows: taken from the model, filtered, put in order. Nothing here knows of a terminal.

use std::cmp::Ordering;

use dsascope_core::event::{Key, WqId};
use dsascope_core::hist::Summary;
use dsascope_core::model::Model;
use dsascope_core::stages::Stage;

/// What the table can be ordered by, in the order of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Pid,
    Command,
    Cgroup,
    Pasid,
    Wq,
    Rate,
    Faults,
    Failures,
    P50,
    P99,
    Max,
    Submissions,
    Ratio,
}

impl Column {
    pub const ALL: [Self; 13] = [
        Self::Pid,
        Self::Command,
        Self::Cgroup,
        Self::Pasid,
        Self::Wq,
        Self::Rate,
        Self::Faults,
        Self::Failures,
        Self::P50,
        Self::P99,
        Self::Max,
        Self::Submissions,
        Self::Ratio,
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    /// `steps` columns to the right, around the end.
    pub fn step(self, steps: isize) -> Self {
        let count = Self::ALL.len() as isize;
        Self::ALL[(self.index() as isize + steps).rem_euclid(count) as usize]
    }

    /// Whether large values come first when the column is chosen: what is most and worst is looked for first.
    pub fn descends(self) -> bool {
        !matches!(self, Self::Pid | Self::Command | Self::Cgroup | Self::Pasid | Self::Wq)
    }
}

/// One open file of a process on a WQ.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub key: Key,
    pub tgid: Option<u32>,
    pub command: String,
    /// Path below the cgroup root; empty when not known.
    pub cgroup: String,
    pub closed: bool,
    pub faults_per_s: Option<f64>,
    pub faults: u64,
    pub failures: u64,
    /// Of the chosen stage; `None` when nothing of it was measured, or this row has no histograms of its own.
    pub latency: Option<Summary>,
    /// Of its process to its work queue; `None` where they are not followed.
    pub submissions_per_s: Option<f64>,
}

impl Row {
    pub fn wq(&self) -> WqId {
        self.key.wq_id()
    }

    /// Whether `needle` (lower case) is in any of the row's names or numbers.
    pub fn matches(&self, needle: &str) -> bool {
        needle.is_empty()
            || contains(&self.command, needle)
            || contains(&self.cgroup, needle)
            || self.tgid.is_some_and(|tgid| tgid.to_string().contains(needle))
            || self.wq().to_string().contains(needle)
            || self.key.pasid.to_string() == needle
    }

    /// Of its faults, the part that was not delivered; 0 without any.
    pub fn failure_ratio(&self) -> f64 {
        failure_ratio(self.failures, self.faults)
    }

    fn order(&self, other: &Self, column: Column) -> Ordering {
        let percentile = |row: &Self, pick: fn(&Summary) -> u64| row.latency.as_ref().map(pick);
        let by = |pick: fn(&Summary) -> u64| percentile(self, pick).cmp(&percentile(other, pick));
        let rate = |row: Option<f64>| row.unwrap_or(-1.0);
        match column {
            Column::Pid => self.tgid.cmp(&other.tgid),
            Column::Command => self.command.cmp(&other.command),
            Column::Cgroup => self.cgroup.cmp(&other.cgroup),
            Column::Pasid => self.key.pasid.cmp(&other.key.pasid),
            Column::Wq => self.wq().cmp(&other.wq()),
            Column::Rate => rate(self.faults_per_s).total_cmp(&rate(other.faults_per_s)),
            Column::Faults => self.faults.cmp(&other.faults),
            Column::Failures => self.failures.cmp(&other.failures),
            Column::P50 => by(|s| s.p50_ns),
            Column::P99 => by(|s| s.p99_ns),
            Column::Max => by(|s| s.max_ns),
            Column::Submissions => rate(self.submissions_per_s).total_cmp(&rate(other.submissions_per_s)),
            Column::Ratio => self.failure_ratio().total_cmp(&other.failure_ratio()),
        }
    }
}

/// The part of `faults` that failed; 0 without any.
pub(crate) fn failure_ratio(failures: u64, faults: u64) -> f64 {
    if faults == 0 { 0.0 } else { failures as f64 / faults as f64 }
}

/// Every open file that the model has a row for, in no order. Figures are those of the last refresh.
pub(crate) fn collect(model: &Model, stage: Stage) -> impl Iterator<Item = Row> {
    model.processes().map(move |process| Row {
        key: process.key(),
        tgid: process.tgid,
        command: process.comm.map(|comm| comm.to_string()).unwrap_or_default(),
        cgroup: process.cgroup_path.clone().unwrap_or_default(),
        closed: process.closed,
        faults_per_s: model.process_rate(process),
        faults: process.faults(),
        failures: process.failures(),
        latency: process.summary(stage),
        submissions_per_s: process
            .tgid
            .and_then(|tgid| model.submissions().per_second(tgid, process.key().wq_id())),
    })
}

/// Case-insensitive search; `needle` is lower case.
pub(crate) fn contains(text: &str, needle: &str) -> bool {
    text.to_lowercase().contains(needle)
}

/// What orders the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: Column,
    pub descending: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self::by(Column::Rate)
    }
}

impl Sort {
    pub fn by(column: Column) -> Self {
        Self { column, descending: column.descends() }
    }

    /// Equal rows keep an order of their own, so that the table does not flicker.
    pub fn apply(self, rows: &mut [Row]) {
        rows.sort_by(|a, b| {
            let order = a.order(b, self.column);
            let order = if self.descending { order.reverse() } else { order };
            order.then_with(|| b.faults.cmp(&a.faults)).then_with(|| a.key.cmp(&b.key))
        });
    }
}

/// The stage after `stage`, `steps` on, around the end.
pub fn step_stage(stage: Stage, steps: isize) -> Stage {
    let count = Stage::ALL.len() as isize;
    Stage::ALL[(stage.index() as isize + steps).rem_euclid(count) as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(tgid: u32, faults: u64, rate: Option<f64>) -> Row {
        Row {
            key: Key { device: 0, wq: 1, pasid: tgid + 100, opened_ns: 0 },
            tgid: Some(tgid),
            command: format!("Proc{tgid}"),
            cgroup: "/a.slice/b.service".into(),
            closed: false,
            faults_per_s: rate,
            faults,
            failures: 0,
            latency: None,
            submissions_per_s: rate,
        }
    }

    #[test]
    fn worst_first() {
        let mut rows = [row(1, 5, Some(1.0)), row(2, 9, None), row(3, 7, Some(4.0)), row(4, 1, Some(1.0))];
        Sort::default().apply(&mut rows);
        assert_eq!(rows.each_ref().map(|row| row.tgid), [3, 1, 4, 2].map(Some));
        Sort { column: Column::Faults, descending: false }.apply(&mut rows);
        assert_eq!(rows.each_ref().map(|row| row.faults), [1, 5, 7, 9]);
    }

    #[test]
    fn filter_looks_at_names_and_numbers() {
        let row = row(4242, 1, None);
        for yes in ["", "proc", "424", "wq0.1", "0.1", "b.service", "4342"] {
            assert!(row.matches(yes), "{yes}");
        }
        for no in ["redis", "wq0.0", "434"] {
            assert!(!row.matches(no), "{no}");
        }
    }

    proptest! {
        #[test]
        fn order_does_not_depend_on_arrival(mut rates in proptest::collection::vec(proptest::option::of(0.0..10.0f64), 1..20), column in 0..Column::ALL.len()) {
            let sort = Sort::by(Column::ALL[column]);
            let mut rows: Vec<_> = rates.drain(..).enumerate().map(|(n, rate)| row(n as u32, n as u64 % 3, rate)).collect();
            let mut backwards: Vec<_> = rows.iter().rev().cloned().collect();
            sort.apply(&mut rows);
            sort.apply(&mut backwards);
            prop_assert_eq!(rows, backwards);
        }
    }
}
