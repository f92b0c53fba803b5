//! What a report shows beside the model's own figures: the worst faults, and a map of time and latency.
//!
//! Bounded: [`WORST`] faults, and a grid that gets coarser as time goes on. Refuses: how it is drawn; pages, screens and text are others'.

use std::sync::LazyLock;

use crate::event::{Event, Fault, HoleKind};
use crate::stages::Stage;

/// Faults shown one by one.
pub const WORST: usize = 10;
/// Columns of the map.
pub const COLUMNS: usize = 96;
/// Rows of the map in a decade of latency, and of all from 1 ns to 100 s.
pub const ROWS_A_DECADE: usize = 5;
pub const ROWS: usize = 11 * ROWS_A_DECADE;
/// Width of a column before any time has passed.
const FIRST_COLUMN_NS: u64 = 1_000_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Report {
    worst: Vec<Fault>,
    map: Map,
}

/// By how much a fault is worse than another: what the driver added, or the service where that was not observed.
#[must_use]
pub fn latency_ns(fault: &Fault) -> Option<u64> {
    let durations = fault.durations();
    durations.driver.or(durations.service)
}

impl Report {
    /// Takes an event in.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Session(session) => {
                self.map.origin_ns.get_or_insert(session.started_ns);
            }
            Event::Fault(fault) => {
                self.map.fault(fault);
                self.rank(fault);
            }
            Event::Hole(hole)
                if !matches!(hole.what, HoleKind::ResponseMissing | HoleKind::CaptureBegins) =>
            {
                let column = self.map.column(hole.at_ns);
                column.holes = column.holes.saturating_add(hole.count);
            }
            _ => {}
        }
    }

    fn rank(&mut self, fault: &Fault) {
        let Some(ns) = latency_ns(fault) else { return };
        // Nearly every fault ends here.
        if self.worst.len() == WORST && self.worst.last().and_then(latency_ns) >= Some(ns) {
            return;
        }
        // Of equals the first stays ahead.
        let place = self.worst.partition_point(|worse| latency_ns(worse) >= Some(ns));
        self.worst.insert(place, *fault);
        self.worst.truncate(WORST);
    }

    /// The faults that took longest, worst first.
    #[must_use]
    pub fn worst(&self) -> &[Fault] {
        &self.worst
    }

    #[must_use]
    pub const fn map(&self) -> &Map {
        &self.map
    }
}

/// Faults by when they arrived and by what the driver added.
#[derive(Clone, Debug)]
pub struct Map {
    origin_ns: Option<u64>,
    column_ns: u64,
    columns: Vec<Column>,
}

/// A span of time.
#[derive(Clone, Debug)]
pub struct Column {
    /// Faults by latency; row `r` is from [`row_ns`]`(r)` on.
    pub rows: [u32; ROWS],
    /// Failed copies.
    pub failed: u32,
    /// Things that happened here and cannot be shown.
    pub holes: u64,
}

impl Default for Column {
    fn default() -> Self {
        Self { rows: [0; ROWS], failed: 0, holes: 0 }
    }
}

impl Default for Map {
    fn default() -> Self {
        Self { origin_ns: None, column_ns: FIRST_COLUMN_NS, columns: Vec::new() }
    }
}

/// The shortest latency of a row.
#[must_use]
pub fn row_ns(row: usize) -> u64 {
    10f64.powf(row as f64 / ROWS_A_DECADE as f64).ceil() as u64
}

/// Where rows begin: looked up for every fault, and a power each to work out.
static ROWS_NS: LazyLock<[u64; ROWS]> = LazyLock::new(|| std::array::from_fn(row_ns));

/// The row of a latency; longer than all is in the last.
fn row_of(ns: u64) -> usize {
    ROWS_NS.partition_point(|&from_ns| from_ns <= ns).saturating_sub(1)
}

impl Map {
    /// Of which stage.
    pub const STAGE: Stage = Stage::Driver;

    fn fault(&mut self, fault: &Fault) {
        let latency_ns = fault.durations().get(Self::STAGE);
        let failed = fault.copy.has_failed();
        let column = self.column(fault.at_ns);
        column.failed = column.failed.saturating_add(u32::from(failed));
        if let Some(ns) = latency_ns {
            let cell = &mut column.rows[row_of(ns)];
            *cell = cell.saturating_add(1);
        }
    }

    fn column(&mut self, at_ns: u64) -> &mut Column {
        let since_ns = at_ns.saturating_sub(*self.origin_ns.get_or_insert(at_ns));
        while since_ns / self.column_ns >= COLUMNS as u64 {
            self.halve();
        }
        let place = (since_ns / self.column_ns) as usize;
        if self.columns.len() <= place {
            self.columns.resize_with(place + 1, Column::default);
        }
        &mut self.columns[place]
    }

    /// Two columns become one.
    fn halve(&mut self) {
        self.column_ns *= 2;
        let pairs = self.columns.chunks(2).map(|pair| {
            let mut sum = pair[0].clone();
            if let Some(second) = pair.get(1) {
                sum.rows.iter_mut().zip(second.rows).for_each(|(a, b)| *a = a.saturating_add(b));
                sum.failed = sum.failed.saturating_add(second.failed);
                sum.holes = sum.holes.saturating_add(second.holes);
            }
            sum
        });
        self.columns = pairs.collect();
    }

    #[must_use]
    pub const fn column_ns(&self) -> u64 {
        self.column_ns
    }

    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The first and the last row that hold a fault.
    #[must_use]
    pub fn used_rows(&self) -> Option<(usize, usize)> {
        let used = |row: &usize| self.columns.iter().any(|column| column.rows[*row] > 0);
        Some(((0..ROWS).find(used)?, (0..ROWS).rev().find(used)?))
    }

    /// Most faults in a cell.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.columns.iter().flat_map(|column| column.rows).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_begin_where_they_say() {
        for row in 0..ROWS {
            assert_eq!(row_of(row_ns(row)).max(row), row_of(row_ns(row)), "{row}");
            assert!(row == 0 || row_of(row_ns(row) - 1) < row, "{row}");
        }
        assert_eq!((row_of(0), row_of(u64::MAX)), (0, ROWS - 1));
    }

    proptest! {
        #[test]
        fn the_map_holds_every_fault_wherever_time_goes(times in prop::collection::vec(any::<u64>(), 1..200)) {
            let mut map = Map::default();
            for &at_ns in &times {
                map.column(at_ns).rows[7] += 1;
            }
            let columns = map.columns();
            prop_assert!(columns.len() <= COLUMNS);
            prop_assert_eq!(columns.iter().map(|column| column.rows[7] as usize).sum::<usize>(), times.len());
        }
    }
}
