//! The kernel's own measurement of the driver's service: workqueue events of `idxd_evl_fault_work`, by ftrace.
//!
//! Owns: setting the events up and pairing start with end by worker. Times are CLOCK_MONOTONIC with a resolution of 1 µs. Refuses:
//! statistics; the host makes them.

use std::{collections::HashMap, fs, path::PathBuf};

use anyhow::{Context, bail};
use dsascope_guest::report::ServiceTimes;

use crate::sysfs;

const FUNCTION: &str = "idxd_evl_fault_work";
const START: &str = "workqueue_execute_start";
const END: &str = "workqueue_execute_end";
/// A CPU; some 100 bytes an event.
const BUFFER_KIB: &str = "16384";

fn path(name: &str) -> PathBuf {
    PathBuf::from("/sys/kernel/tracing").join(name)
}

/// From now on each service is recorded.
pub(crate) fn start() -> anyhow::Result<()> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("reading /proc/kallsyms")?;
    let address = address(&symbols).with_context(|| format!("the kernel has no symbol {FUNCTION}"))?;
    let set = |name: &str, value: &str| sysfs::write(&path(name), value);
    set("tracing_on", "0")?;
    set("trace_clock", "mono")?;
    set("buffer_size_kb", BUFFER_KIB)?;
    set("trace", "")?;
    for event in [START, END] {
        set(&format!("events/workqueue/{event}/filter"), &format!("function == 0x{address}"))?;
        set(&format!("events/workqueue/{event}/enable"), "1")?;
    }
    set("tracing_on", "1")
}

/// Ends recording; what was recorded.
pub(crate) fn stop() -> anyhow::Result<ServiceTimes> {
    let set = |name: &str, value: &str| sysfs::write(&path(name), value);
    set("tracing_on", "0")?;
    let trace = fs::read_to_string(path("trace")).context("reading the trace")?;
    for event in [START, END] {
        set(&format!("events/workqueue/{event}/enable"), "0")?;
        set(&format!("events/workqueue/{event}/filter"), "0")?;
    }
    set("trace", "")?;
    pair(&trace)
}

/// A line is `ffffffffc0401230 t idxd_evl_fault_work [idxd]`.
fn address(symbols: &str) -> Option<&str> {
    let line = symbols.lines().find(|line| line.split_whitespace().nth(2) == Some(FUNCTION))?;
    line.split_whitespace().next()
}

fn pair(trace: &str) -> anyhow::Result<ServiceTimes> {
    let mut times = ServiceTimes::default();
    let mut started: HashMap<u32, u64> = HashMap::new();
    for line in trace.lines() {
        if let Some(counts) = line.strip_prefix("# entries-in-buffer/entries-written: ") {
            let counts = counts.split_whitespace().next().and_then(|counts| counts.split_once('/'));
            if counts.is_none_or(|(kept, written)| kept != written) {
                bail!("the trace buffer was too small: {line}");
            }
        }
        let Some(event) = parse(line) else { continue };
        if event.start {
            times.unpaired += u64::from(started.insert(event.tid, event.time_us).is_some());
        } else {
            match started.remove(&event.tid) {
                Some(start) => times.service_us.push(event.time_us.saturating_sub(start)),
                None => times.unpaired += 1,
            }
        }
    }
    times.unpaired += started.len() as u64;
    Ok(times)
}

#[derive(Debug, PartialEq, Eq)]
struct Event {
    tid: u32,
    time_us: u64,
    start: bool,
}

/// `     kworker/0:1-11      [000] d..1.    12.345678: workqueue_execute_start: work struct 0000000012345678: function f [idxd]`
fn parse(line: &str) -> Option<Event> {
    let (task, rest) = line.split_once(" [")?;
    let tid = task.trim_end().rsplit_once('-')?.1.parse().ok()?;
    let mut words = rest.split_whitespace();
    let time = words.find(|word| word.ends_with(':'))?.trim_end_matches(':');
    let (seconds, micros) = time.split_once('.')?;
    let time_us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    let start = match words.next()?.trim_end_matches(':') {
        START => true,
        END => false,
        _ => return None,
    };
    Some(Event { tid, time_us, start })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 5/5   #P:1
#
     kworker/0:1-11      [000] d..1.    12.345678: workqueue_execute_start: work struct 0000000012345678: function idxd_evl_fault_work [idxd]
   kworker/u4:2-w-33     [000] .....    12.345700: workqueue_execute_start: work struct 0000000012345679: function idxd_evl_fault_work [idxd]
     kworker/0:1-11      [000] d..1.    12.345778: workqueue_execute_end: work struct 0000000012345678: function idxd_evl_fault_work [idxd]
   kworker/u4:2-w-33     [000] .....    13.000000: workqueue_execute_end: work struct 0000000012345679: function idxd_evl_fault_work [idxd]
     kworker/0:1-11      [000] d..1.    14.345778: workqueue_execute_end: work struct 0000000012345678: function idxd_evl_fault_work [idxd]
";

    #[test]
    fn starts_and_ends_pair_by_worker() {
        let times = pair(TRACE).unwrap();
        assert_eq!((times.service_us, times.unpaired), (vec![100, 654_300], 1));
    }

    #[test]
    fn an_overrun_is_an_error() {
        assert!(pair(&TRACE.replace("5/5", "5/6")).is_err());
    }

    #[test]
    fn the_symbol_is_found_exactly() {
        let symbols = "ffffffff81000000 T _text\nffffffffc0000010 t idxd_evl_fault_work.cold\t[idxd]\nffffffffc0401230 t idxd_evl_fault_work\t[idxd]\n";
        assert_eq!(address(symbols), Some("ffffffffc0401230"));
    }
}
