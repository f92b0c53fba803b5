//! The command line as typed. Parsing only: nothing here touches the system, and limits are checked in [`crate::config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use dsascope_core::compare::Condition;
use dsascope_core::filter::Filter;
use dsascope_core::trigger::Trigger;
use dsascope_probe::Target;

use crate::replay::Speed;
use crate::{exit::Code, units};

const ABOUT: &str = "Live tracing and fault analytics for Intel DSA and IAA";

const LONG_ABOUT: &str = "\
dsascope shows completion-record faults of Intel's data-streaming accelerators (DSA, IAA) as the Linux idxd driver serves \
them: which process, which work queue, which operation, how the fault ended, and how long each stage of its service took.

It attaches eBPF programs to the running driver; nothing else on the host changes, and nothing stays behind. What the ring \
to user space cannot take is counted and shown: totals are exact even when single events are lost.";

const EXAMPLES: &str = "\
Examples:
  dsascope                          watch faults live
  dsascope doctor                   what this host offers, and what to fix
  dsascope stat --interval 1s       one table of totals each second
  dsascope stat --for 10s --json    ten seconds as JSON Lines
  dsascope trace --pid 4242         one line a fault of one process
  dsascope trace --json | jq 'select(.kind == \"fault\")'
  dsascope serve                    figures for Prometheus";

fn after_help() -> String {
    format!("{EXAMPLES}\n\nExit codes:\n{}", Code::table())
}

#[derive(Debug, Parser)]
#[command(
    name = "dsascope",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    after_long_help = after_help(),
    args_conflicts_with_subcommands = true,
    max_term_width = 120,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub live: Live,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch faults live in the terminal (the default)
    ///
    /// Header with host, probes, rates and loss; processes; recent faults; latency of the selected row. `?` explains every
    /// column and key, `q` leaves.
    #[command(after_help = "Examples:
  dsascope live
  dsascope live --filter redis
  dsascope live --submitter auto    from the submission to the moment that the program sees its record
  dsascope live --baseline calm.dsc latencies against those of a capture, in the latency view (5)
  dsascope live --attach kprobe --ring-size 16MiB")]
    Live(Live),

    /// Totals by process and work queue, without a screen
    ///
    /// Prints a table for each interval, and the summary at the end (after --for, or on SIGINT or SIGTERM).
    #[command(after_help = "Examples:
  dsascope stat                     until Ctrl-C, one table every 2 s
  dsascope stat --for 30s --interval 5s
  dsascope stat --for 10s --json")]
    Stat(Stat),

    /// One line a fault, as it happens
    ///
    /// Aligned text, or JSON Lines with --json: the first line describes the session and is printed once the probes are
    /// attached; the last one is the summary. Losses appear in their place.
    #[command(after_help = "Examples:
  dsascope trace
  dsascope trace --wq wq0.1 --for 5s
  dsascope trace --where 'outcome == failed or copy > 1ms'
  dsascope trace --json > faults.jsonl")]
    Trace(Trace),

    /// Record faults to a capture: for a while, while a command runs, or when something goes wrong
    ///
    /// A capture holds all that live, stat and trace see; each of them reads it with --from. As flight recorder (--ring, --last) nothing is
    /// written until --on or SIGUSR1 asks for it, and what happened before is in the file.
    #[command(after_help = "Examples:
  dsascope record -o storm.dsc --for 30s
  dsascope record -o test.dsc -- ./load-test --threads 8
  dsascope record -o slow.dsc --where 'process == redis and copy > 50us'
  dsascope stat --from storm.dsc
  dsascope record -o storm.dsc --last 60s --on 'faults/s > 1000 for 2s' --keep 5")]
    Record(Record),

    /// Turn faults into the formats of other tools
    ///
    /// Of a capture, or of this host as it goes. Every format has whole distributions and the account of what was lost;
    /// docs/exports.md says what is in each.
    #[command(after_help = "Examples:
  dsascope export storm.dsc -o storm.parquet
  dsascope export storm.dsc --format json --where 'copy > 1ms and operation in (memmove, batch)'
  dsascope export --for 60s -o now.hlog")]
    Export(Export),

    /// The whole run to be read once: findings, where the time goes, the worst faults in words; as text or as a page
    ///
    /// Reads a capture, or this host's driver until --for is over or Ctrl-C. A page is one file without scripts; it loads nothing.
    #[command(after_help = "\
Examples:
  dsascope report --from storm.dsc | less
  dsascope report --from storm.dsc -o storm.html
  dsascope report --for 60s -o now.html")]
    Report(Report),

    /// Two captures beside each other: what is slower, by how much, and how sure that is
    ///
    /// Percentiles, counts and histograms of every stage side by side. Warns when the runs differ in kernel, driver, devices, work queues or
    /// losses, and refuses when they did not observe the same. docs/compare.md has what is behind the figures.
    #[command(after_help = "Examples:
  dsascope diff before.dsc after.dsc
  dsascope diff before.dsc after.dsc --by wq --html diff.html
  dsascope diff base.dsc new.dsc --fail-if 'copy.p99 > 1.2x' --fail-if 'failures > 0'")]
    Diff(Diff),

    /// Submit verified descriptors to a work queue, with faults on purpose
    ///
    /// A load of any operations: closed loop, or open loop at a rate, measured from when each should have started. Completion records, operands
    /// and lists may be absent or worse; partial completions are resumed, and every result is compared with the reference. docs/submit.md has
    /// the details.
    #[command(after_help = crate::submit::flags::EXAMPLES)]
    Submit(Box<crate::submit::flags::Submit>),

    /// Answer Prometheus: all figures at /metrics, and whether they can be trusted at /healthz
    ///
    /// On this host alone, unless TLS and a token are given. Text, OpenMetrics, and protobuf with native histograms, as the scraper asks for;
    /// docs/serve.md has every metric.
    #[command(after_help = "Examples:
  dsascope serve
  dsascope serve --from storm.dsc --speed max
  dsascope serve --listen 0.0.0.0:9755 --tls-cert cert.pem --tls-key key.pem --token-file token")]
    Serve(Serve),

    /// What this host offers to DSA, IAA and dsascope, and what to fix
    #[command(after_help = "Examples:
  dsascope doctor
  dsascope doctor --json | jq '.checks[] | select(.verdict != \"ok\")'

Ends with 0 when dsascope can trace this host, else with the exit code that tracing would end with.")]
    Doctor(Doctor),

    /// Event-log dumps, entries, completion records and descriptors in words
    ///
    /// Reads a dump of /sys/kernel/debug/idxd/*/event_log as it is, or, with --as, hexadecimal text: output of xxd or hexdump,
    /// 64-bit words as the driver prints them, or plain digits. Needs neither driver nor privileges.
    #[command(after_help = "Examples:
  sudo cat /sys/kernel/debug/idxd/dsa0/event_log | dsascope decode
  xxd record.bin | dsascope decode --as record --operation batch
  xxd -p descriptor.bin | dsascope decode --as descriptor --device iax --json

What cannot be read is named with its line, the rest is decoded, and the exit code is 11.")]
    Decode(Decode),

    /// Print a shell's completion script
    #[command(after_help = "Example:
  dsascope completions bash > /etc/bash_completion.d/dsascope")]
    Completions {
        /// The shell to complete in
        shell: Shell,
    },

    /// Print the manual page, or write all of them to a directory
    #[command(after_help = "Example:
  dsascope man | man -l -")]
    Man {
        /// Write dsascope.1, dsascope-live.1, ... here
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attach {
    /// The best that works, probe by probe
    #[default]
    Auto,
    /// fentry/fexit (needs BTF of the idxd module)
    Fentry,
    /// kprobe/kretprobe
    Kprobe,
    /// Stable tracepoints: sees no copies
    Tracepoint,
}

/// How to observe: the same for live, stat and trace.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tracing")]
pub(crate) struct Common {
    /// How probes are attached
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub attach: Attach,

    /// Ring between kernel and dsascope: a power of two and a multiple of the page size; KiB and MiB do
    #[arg(long, default_value = "4MiB", value_parser = units::bytes, value_name = "BYTES")]
    pub ring_size: u64,

    /// Faults that the kernel side can follow at once
    #[arg(long, default_value_t = 16384, value_name = "N")]
    pub pending: u32,

    /// Show what the eBPF programs log (costs time in the driver's path)
    #[arg(long)]
    pub verbose: bool,

    /// Follow page requests too: how long the IOMMU takes where a WQ's page requests are on (runs at each IOMMU invalidation)
    #[arg(long)]
    pub page_requests: bool,

    /// Follow submissions too: of a program or library, of a process, or of each process that has a WQ open (may be repeated)
    #[arg(long, value_name = "PATH|PID|auto")]
    pub submitter: Vec<Target>,

    /// Follow one in N of the completion records that are submitted, a power of two; counts stay those of all
    #[arg(long, default_value_t = 1, value_name = "N", requires = "submitter")]
    pub submission_sample: u32,

    /// Descriptors of a batch's list that are followed
    #[arg(long, default_value_t = 64, value_name = "N", requires = "submitter")]
    pub batch_list: u32,

    /// Faults a second of a process from which on a rise is a storm (docs/findings.md)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub storm_rate: Option<u32>,

    /// Send a record a stage in place of one a fault: to measure what that costs
    #[arg(long, hide = true)]
    pub stages: bool,
}

/// Where events come from, and where they are kept.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reading {
    /// Read a capture in place of this host's driver (JSON Lines of `trace --json` do too); needs no privileges
    #[arg(long, value_name = "FILE", alias = "events", help_heading = "Input")]
    pub from: Option<PathBuf>,

    /// Record what is seen to this capture as well
    #[arg(long, value_name = "FILE", conflicts_with = "from", help_heading = "Input")]
    pub save: Option<PathBuf>,

    /// Write over the file of --save
    #[arg(long, requires = "save", help_heading = "Input")]
    pub force: bool,

    #[command(flatten)]
    pub common: Common,
}

/// The last events, kept in memory until they are asked for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Flight recorder")]
pub(crate) struct Flight {
    /// Keep the last BYTES of events in memory, and write nothing before a trigger
    #[arg(long, value_parser = units::bytes, value_name = "BYTES")]
    pub ring: Option<u64>,

    /// Keep what happened in the last DURATION
    #[arg(long, value_parser = units::duration, value_name = "DURATION")]
    pub last: Option<Duration>,

    /// Go on saving for so long after a trigger
    #[arg(long, value_parser = units::duration, value_name = "DURATION", default_value = "5s")]
    pub after: Duration,

    /// Save when this holds (may be repeated): faults/s, failures/s, failure-ratio, loss, event-log, a stage, or STAGE.FIGURE
    ///
    /// As in 'faults/s > 1000 for 2s', 'failure-ratio > 5%', 'copy > 10ms' (of one fault), 'copy.p99 > 1ms for 5s', 'event-log > 80%', or `loss` and `failure-ratio` alone.
    /// SIGUSR1 always saves.
    #[arg(long, value_parser = units::expression::<Trigger>, value_name = "CONDITION")]
    pub on: Vec<Trigger>,

    /// Run this with `sh -c` for each saved capture: DSASCOPE_CAPTURE is its name, DSASCOPE_TRIGGER why
    #[arg(long, value_name = "COMMAND")]
    pub run: Option<String>,
}

/// Where a recording goes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Record {
    /// The capture to write; with --ring or --last, names of saved ones are made from it: FILE-20261126T134501Z.dsc
    #[arg(short, long, value_name = "FILE", default_value = "dsascope.dsc")]
    pub output: PathBuf,

    /// Write over FILE
    #[arg(long)]
    pub force: bool,

    /// End after this time
    #[arg(long = "for", value_parser = units::duration, value_name = "DURATION")]
    pub duration: Option<Duration>,

    /// End FILE before it is larger than this; with --keep, go on in a new one
    #[arg(long, value_parser = units::bytes, value_name = "BYTES", conflicts_with_all = ["ring", "last"])]
    pub max_size: Option<u64>,

    /// Keep so many full files: FILE.1 is the latest; of the flight recorder, so many saved captures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=9999))]
    pub keep: Option<u32>,

    #[command(flatten)]
    pub faults: Where,

    #[command(flatten)]
    pub flight: Flight,

    /// Record what another capture holds, to cut it (--for, --max-size) or to make one of JSON Lines
    #[arg(long, value_name = "FILE", conflicts_with = "command", help_heading = "Input")]
    pub from: Option<PathBuf>,

    #[command(flatten)]
    pub common: Common,

    /// Record while this runs, and end with its exit code
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What to print.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Selection")]
pub(crate) struct Select {
    /// Only this process (may be repeated)
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,

    /// Only this work queue, as in sysfs: wq0.1 (may be repeated)
    #[arg(long, value_name = "WQ")]
    pub wq: Vec<String>,
}

/// Which faults there are for all that follows.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Selection")]
pub(crate) struct Where {
    /// Only faults of which this holds, as in 'process == "redis" and copy > 50us'
    ///
    /// docs/filter.md has the language and its fields, which are the columns of exports. What does not fit is counted, and
    /// neither printed nor recorded; losses and the kernel's totals stay those of all faults.
    #[arg(long = "where", value_parser = units::expression::<Filter>, value_name = "EXPRESSION")]
    pub filter: Option<Filter>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Live {
    /// Begin with this filter, words or an expression, as typed after `/`
    #[arg(long, value_parser = units::search, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub filter: String,

    /// Draw with ASCII characters alone
    #[arg(long)]
    pub ascii: bool,

    /// Leave the mouse to the terminal
    ///
    /// Else a click opens a view or a row and the wheel scrolls; most terminals select text while Shift is held.
    #[arg(long)]
    pub no_mouse: bool,

    /// Configuration in place of ~/.config/dsascope/config.toml: first view and stage, mouse, keys (docs/config.toml)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Hold latencies against those of this capture, in the latency view (5)
    ///
    /// It is read once, before tracing begins. What is not the same about the two runs is said there, as `dsascope diff` has it.
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// JSON Lines in place of the screen, as of `trace --json`
    #[arg(long, conflicts_with_all = ["filter", "ascii", "no_mouse", "config", "baseline", "ring", "last", "on", "run"])]
    pub json: bool,

    /// Play a capture (--from) so many times as fast as it happened: 0.1 to 1000, or `max`
    #[arg(long, default_value = "1", value_parser = units::speed, value_name = "SPEED", help_heading = "Input")]
    pub speed: Speed,

    #[command(flatten)]
    pub reading: Reading,

    #[command(flatten)]
    pub flight: Flight,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Stat {
    /// Time between tables
    #[arg(long, default_value = "2s", value_parser = units::duration, value_name = "DURATION")]
    pub interval: Duration,

    #[command(flatten)]
    pub lines: Lines,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Trace {
    #[command(flatten)]
    pub lines: Lines,

    #[command(flatten)]
    pub faults: Where,
}

/// What commands that print lines share.
#[derive(Args, Clone, Debug)]
pub(crate) struct Lines {
    /// End after this time
    #[arg(long = "for", value_parser = units::duration, value_name = "DURATION")]
    pub duration: Option<Duration>,

    /// JSON Lines
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub select: Select,

    #[command(flatten)]
    pub reading: Reading,
}

/// See [`dsascope_export::Format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// HdrHistogram interval log, a tag for each stage of each open file
    Hlog,
    /// A row a fault, for spreadsheets
    Csv,
    /// The same rows as JSON Lines, with a schema
    Json,
    /// The same rows in columns, for DuckDB, ClickHouse, Spark: files of many hosts are one table
    Parquet,
    /// A trace for ui.perfetto.dev: slices by interrupt thread, work queue and kworker, flows, counters
    Perfetto,
    /// A report to look at and to send on: one page without scripts
    Html,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Export {
    /// The capture; without one, this host's driver is traced
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Into what; the name of OUT can tell
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// Where to; `-` is stdout
    #[arg(short, long, value_name = "OUT", default_value = "-")]
    pub output: PathBuf,

    /// Time between the histograms of an interval log
    #[arg(long, default_value = "1s", value_parser = units::duration, value_name = "DURATION")]
    pub interval: Duration,

    /// End after this time
    #[arg(long = "for", value_parser = units::duration, value_name = "DURATION")]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub faults: Where,

    #[command(flatten)]
    pub reading: Reading,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// Address and port; one that other hosts reach needs TLS and a token, or --insecure
    #[arg(long, default_value = "127.0.0.1:9755", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Certificate chain to answer with (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Answer those alone who know what is in this file, as bearer token; it must be its owner's alone
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Answer everyone who reaches --listen, without TLS or token
    #[arg(long)]
    pub insecure: bool,

    /// Processes with series of their own; the rest of each work queue is counted as "other"
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub top: u16,

    /// Play a capture (--from) so many times as fast as it happened: 0.1 to 1000, or `max`; figures stay at its end
    #[arg(long, default_value = "1", value_parser = units::speed, value_name = "SPEED", help_heading = "Input")]
    pub speed: Speed,

    #[command(flatten)]
    pub reading: Reading,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Report {
    /// Write a page there instead of text to stdout
    #[arg(short, long, value_name = "OUT.html")]
    pub output: Option<PathBuf>,

    /// End after this time
    #[arg(long = "for", value_parser = units::duration, value_name = "DURATION")]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub reading: Reading,
}

/// What faults are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Stages alone
    #[default]
    Stage,
    /// Work queues
    Wq,
    /// Commands on work queues: process numbers mean nothing in another run
    Process,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Diff {
    /// The run to compare with
    #[arg(value_name = "A")]
    pub a: PathBuf,

    /// The run in question
    #[arg(value_name = "B")]
    pub b: PathBuf,

    /// What faults are told apart by, beside stages
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub by: By,

    /// One JSON object
    #[arg(long)]
    pub json: bool,

    /// Write a page with the same figures and the histograms over each other
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// End with code 13 when this holds of B (may be repeated): STAGE.FIGURE, faults, faults/s, failures, loss
    ///
    /// As in 'copy.p99 > 1.2x', 'service.max > 10ms', 'queue.mean > 20%', 'failures > 0'. A factor or a share holds only when the change is
    /// certain (95 %; a maximum's is taken as it is), a value that B is held against always.
    #[arg(long, value_parser = units::expression::<Condition>, value_name = "CONDITION")]
    pub fail_if: Vec<Condition>,

    /// Compare runs that did not observe the same
    #[arg(long)]
    pub force: bool,
}

/// What hexadecimal text is to be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum As {
    /// Event-log entries: 64 bytes of DSA, 128 of IAA
    Entry,
    /// Completion records: 32 bytes of DSA, 64 of IAA
    Record,
    /// Descriptors: 64 bytes
    Descriptor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    Dsa,
    Iax,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Decode {
    /// What to read; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,

    /// What hexadecimal text holds (a dump of debugfs is recognised)
    #[arg(long = "as", value_enum, value_name = "WHAT")]
    pub shape: Option<As>,

    /// Whose it is; a dump tells
    #[arg(long, value_enum, default_value = "dsa", value_name = "KIND")]
    pub device: Device,

    /// Operation of a completion record's descriptor, by name or code: decides what some of its fields are
    #[arg(long, value_name = "OPERATION", default_value = "noop", hide_default_value = true)]
    pub operation: String,

    /// JSON Lines
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Doctor {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn live_is_the_default() {
        let cli =
            Cli::try_parse_from(["dsascope", "--attach", "kprobe", "--ring-size", "64KiB"]).expect("parses");
        assert!(cli.command.is_none());
        assert_eq!(cli.live.reading.common.attach, Attach::Kprobe);
        assert_eq!(cli.live.reading.common.ring_size, 65536);
    }

    #[test]
    fn refuses_nonsense() {
        for words in [
            &["dsascope", "stat", "--interval", "0"][..],
            &["dsascope", "trace", "--attach", "magic"],
            &["dsascope", "--ring-size", "lots"],
            &["dsascope", "trace", "--pid", "-1"],
        ] {
            assert!(Cli::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
