//! The command line of `dsascope submit`. Parsing only.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use dsascope_submit::load::Words;
use dsascope_submit::{Habit, Operation, Pages};

use crate::units;

pub(crate) const EXAMPLES: &str = "Examples:
  dsascope submit --for 10s                          memmoves of 4 KiB, as fast as a work queue takes them
  dsascope submit --op all --count 1000 --cr absent=1,resident=9
  dsascope submit --rate 20000 --for 30s --hlog run.hlog --json
  dsascope submit --batch 16 -e 0,0,1,4:0,1:0,0,1:0,0,0,1 --count 10
  dsascope submit --wq wq0.1 --threads 4 --cpus 0-3 --op memmove=7,memfill=3 --size 4KiB=9,1MiB";

/// A list of things with their shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mixed<T>(pub(crate) Vec<(T, u16)>);

/// `all`, or some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operations {
    All,
    Some(Mixed<Operation>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Dsa,
    Iax,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueueMode {
    Dedicated,
    Shared,
}

/// How descriptors reach the work queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// MOVDIR64B or ENQCMD by its mode; write(2) where the portal is refused; plain stores where the CPU lacks the instruction
    #[default]
    Auto,
    /// write(2): the driver submits
    Write,
    /// Eight stores, which the testbed's device alone understands
    PlainStores,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gaps {
    /// All the same
    #[default]
    Uniform,
    /// Exponential, as of many independent clients
    Poisson,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Submit {
    /// Work queue: wqN.M, or its device file. Otherwise the first enabled one for user space that fits --type, --mode and --op
    #[arg(long, value_name = "WQ", help_heading = "Work queue")]
    pub wq: Option<PathBuf>,

    /// Of that kind of device
    #[arg(long = "type", value_enum, value_name = "TYPE", help_heading = "Work queue")]
    pub kind: Option<Kind>,

    /// Of that mode
    #[arg(long, value_enum, value_name = "MODE", help_heading = "Work queue")]
    pub mode: Option<QueueMode>,

    /// How descriptors reach it
    #[arg(long, value_enum, default_value_t, value_name = "HOW", help_heading = "Work queue")]
    pub by: By,

    /// ENQCMDs in a row before a full shared work queue is left alone until the next look
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Work queue")]
    pub enqcmd_attempts: u32,

    /// Operations and their shares, as in memmove=7,crcgen=3; `all`: each that goes alone
    #[arg(long, default_value = "memmove", value_name = "SHARES", value_parser = operations, help_heading = "What")]
    pub op: Operations,

    /// Transfer sizes and their shares, as in 4KiB=9,1MiB; rounded up to what an operation needs
    #[arg(long, default_value = "4KiB", value_name = "SHARES", value_parser = sizes, help_heading = "What")]
    pub size: Mixed<u32>,

    /// Descriptors a batch, and their shares; 1 is none
    #[arg(long, value_name = "SHARES", value_parser = batches, help_heading = "What")]
    pub batch: Option<Mixed<u16>>,

    /// Do not compare what operations leave in memory with the reference
    #[arg(long, help_heading = "What")]
    pub no_verify: bool,

    /// Where completion records lie: resident, absent, read-only, unmapped, straddling
    #[arg(long, default_value = "resident", value_name = "SHARES", value_parser = records, help_heading = "Faults")]
    pub cr: Mixed<Habit>,

    /// Records 64 bytes apart instead of one a page
    #[arg(long, help_heading = "Faults")]
    pub packed: bool,

    /// What operations read: resident, absent
    #[arg(long, default_value = "resident", value_name = "SHARES", value_parser = pages, help_heading = "Faults")]
    pub source: Mixed<Pages>,

    /// What operations write: resident, absent
    #[arg(long, default_value = "resident", value_name = "SHARES", value_parser = pages, help_heading = "Faults")]
    pub destination: Mixed<Pages>,

    /// Lists of batches, from --list-from on: resident, absent
    #[arg(long, default_value = "resident", value_name = "SHARES", value_parser = pages, help_heading = "Faults")]
    pub list: Mixed<Pages>,

    /// The descriptor that begins the part of a list that may be absent
    #[arg(long, default_value_t = 0, value_name = "INDEX", help_heading = "Faults")]
    pub list_from: u16,

    /// What goes wrong in each batch, in the words of accel-config's tests: bc_fault,bc_wr_fail,da_fault,da_fault_idx and for each
    /// descriptor :desc_fault,cp_fault,cp_wr_fail,fence
    #[arg(short = 'e', long, value_name = "WORDS", conflicts_with_all = ["cr", "list", "list_from"], help_heading = "Faults")]
    pub words: Option<Words>,

    /// Do not ask the device to wait for pages, where the work queue would let it
    #[arg(long, help_heading = "Faults")]
    pub no_block_on_fault: bool,

    /// Resumptions a descriptor at most; what is partial then is left so
    #[arg(long, default_value_t = u32::MAX, hide_default_value = true, value_name = "N", help_heading = "Faults")]
    pub max_resumes: u32,

    /// Threads that submit
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "How much")]
    pub threads: u16,

    /// Descriptors outstanding at most, a thread [default: 16, or what fits into a dedicated work queue]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "How much")]
    pub depth: Option<u16>,

    /// Open loop: so many a second of all threads together, whether or not the device keeps up. Latencies are from the intended start
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "How much")]
    pub rate: Option<f64>,

    /// Times between the starts of an open loop
    #[arg(
        long,
        value_enum,
        default_value_t,
        requires = "rate",
        value_name = "GAPS",
        help_heading = "How much"
    )]
    pub gaps: Gaps,

    /// Let the rate, or the depth of a closed loop, rise for that long
    #[arg(long, value_parser = units::duration, value_name = "DURATION", help_heading = "How much")]
    pub ramp: Option<Duration>,

    /// Submit for that long before anything is measured or part of --count and --for
    #[arg(long, value_parser = units::duration, value_name = "DURATION", help_heading = "How much")]
    pub warm_up: Option<Duration>,

    /// End after this time
    #[arg(long = "for", value_parser = units::duration, value_name = "DURATION", help_heading = "How much")]
    pub duration: Option<Duration>,

    /// End after so many descriptors and batches
    #[arg(long, value_name = "N", help_heading = "How much")]
    pub count: Option<u64>,

    /// What all order and all gaps are drawn from
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "How much")]
    pub seed: u64,

    /// CPUs of the threads in turn, as in 0-3,8
    #[arg(long, value_name = "LIST", value_parser = cpus, help_heading = "How much")]
    pub cpus: Option<Cpus>,

    /// NUMA node of all memory; and of the threads, unless --cpus says otherwise
    #[arg(long, value_name = "NODE", help_heading = "How much")]
    pub node: Option<u32>,

    /// Rest between two looks at the records, as in 50us; 0: none, at the price of a CPU a thread
    #[arg(long, default_value = "0", value_name = "DURATION", value_parser = units::fine_duration, help_heading = "How much")]
    pub poll: Duration,

    /// What has not ended after this time is given up, and told with its record's address
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = units::duration, help_heading = "How much")]
    pub timeout: Duration,

    /// Most memory for operands
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = units::bytes, help_heading = "How much")]
    pub memory: u64,

    /// The report as one JSON object
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Write all latencies as HdrHistogram's interval log, too
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub hlog: Option<PathBuf>,

    /// Time between the histograms of the interval log, and between two lines of progress
    #[arg(long, default_value = "1s", value_parser = units::duration, value_name = "DURATION", help_heading = "Output")]
    pub interval: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) Vec<usize>);

fn mixed<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Mixed<T>, String> {
    let one = |part: &str| {
        let (what, share) = part.split_once('=').unwrap_or((part, "1"));
        let share =
            share.trim().parse().map_err(|_| format!("`{part}`: a share is a number from 0 to 65535"))?;
        Ok((parse(what.trim())?, share))
    };
    text.split(',').map(one).collect::<Result<_, String>>().map(Mixed)
}

fn operations(text: &str) -> Result<Operations, String> {
    let named = |name: &str| {
        // The names are those of serde, which are those that dsascope shows.
        let known = serde_json::from_value(serde_json::Value::from(name));
        known.map_err(|_| format!("`{name}`: no operation; use names such as memmove, crcgen, dif_check"))
    };
    if text == "all" { Ok(Operations::All) } else { mixed(text, named).map(Operations::Some) }
}

fn sizes(text: &str) -> Result<Mixed<u32>, String> {
    let size = |text: &str| u32::try_from(units::bytes(text)?).map_err(|_| format!("`{text}`: too large"));
    mixed(text, size)
}

fn batches(text: &str) -> Result<Mixed<u16>, String> {
    mixed(text, |text| match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err(format!("`{text}`: use a number of descriptors, 1 or more")),
    })
}

fn records(text: &str) -> Result<Mixed<Habit>, String> {
    mixed(text, |text| match text {
        "resident" => Ok(Habit::Resident),
        "absent" => Ok(Habit::Absent),
        "read-only" => Ok(Habit::ReadOnly),
        "unmapped" => Ok(Habit::Unmapped),
        "straddling" => Ok(Habit::Straddling),
        _ => Err(format!("`{text}`: use resident, absent, read-only, unmapped or straddling")),
    })
}

fn pages(text: &str) -> Result<Mixed<Pages>, String> {
    mixed(text, |text| match text {
        "resident" => Ok(Pages::Resident),
        "absent" => Ok(Pages::Absent),
        _ => Err(format!("`{text}`: use resident or absent")),
    })
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(rate),
        _ => Err(format!("`{text}`: use a number from 0.001 to 1000000000")),
    }
}

/// Lists of CPUs as the kernel writes them, below 1024.
pub(crate) fn cpus(text: &str) -> Result<Cpus, String> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < 1024 => all.extend(first..=last),
            _ => return Err(format!("`{part}`: use CPU numbers and ranges, such as 0-3,8")),
        }
    }
    Ok(Cpus(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_one_unless_they_are_said() {
        let both = operations("memmove=7, crcgen").expect("parses");
        assert_eq!(both, Operations::Some(Mixed(vec![(Operation::Memmove, 7), (Operation::Crcgen, 1)])));
        assert_eq!(operations("all"), Ok(Operations::All));
        assert_eq!(sizes("4KiB=9,100"), Ok(Mixed(vec![(4096, 9), (100, 1)])));
        assert_eq!(records("read-only"), Ok(Mixed(vec![(Habit::ReadOnly, 1)])));
        for wrong in ["", "mammove", "memmove=", "memmove=-1", "memmove=70000"] {
            assert!(operations(wrong).is_err(), "{wrong}");
        }
        assert!(
            batches("0").is_err() && pages("gone").is_err() && rate("0").is_err() && rate("NaN").is_err()
        );
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpus("0-2,8\n"), Ok(Cpus(vec![0, 1, 2, 8])));
        for wrong in ["", "3-1", "a", "1024", "0-99999999"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }
}
