//! HdrHistogram's interval log (V2, deflated): whole distributions by interval, one tag a stage, WQ and process.
//!
//! A tag is `stage=copy;wq=wq0.1;pid=4242;pasid=5;comm=redis`. Tags may hold no comma, space or newline, so everything in a command but
//! letters, digits, `.`, `_` and `-` is percent-encoded; `pid=-` and `comm=-` are unknown. Values are nanoseconds. Intervals are cut by
//! the stream's own time, on a grid that begins when tracing did; a fault counts where it arrived. Losses are comments in their place,
//! the ledger and the bucket error are comments at the end.
//!
//! Bounded: at most [`FILES`] WQs and processes have tags of their own in an interval; the rest share those of `pid=other` of their WQ.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{BufWriter, Write};
use std::time::{Duration, UNIX_EPOCH};

use dsascope_core::event::{ByKind, Context, Event, HoleKind, SessionInfo, WqId};
use dsascope_core::hist::{DIGITS, HIGHEST_NS};
use dsascope_core::model::Model;
use dsascope_core::stages::{Durations, Stage};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use dsascope_common::wire::kind;

use crate::{ExportError, Exporter, Output};

const FORMAT: &str = "HdrHistogram log";
/// WQs and processes with tags of their own in one interval: with ten stages each of 108 KiB, 69 MiB at the very worst.
pub const FILES: usize = 64;
/// Length of an interval, unless another is asked for.
pub const INTERVAL_NS: u64 = 1_000_000_000;
const LEGEND: &str =
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";

/// Who has a set of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    wq: WqId,
    who: Who,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Process { pid: Option<u32>, pasid: u32 },
    Other,
}

/// The distributions of one owner in the current interval.
#[derive(Debug)]
struct Distributions {
    comm: String,
    stages: [Option<Histogram<u32>>; Stage::COUNT],
}

/// See the module.
pub struct Hlog {
    out: BufWriter<Output>,
    serializer: V2DeflateSerializer,
    interval_ns: u64,
    /// Where the grid of intervals begins on CLOCK_MONOTONIC; `None` before the head is written.
    origin_ns: Option<u64>,
    /// Number of the current interval.
    interval: u64,
    owners: BTreeMap<Owner, Distributions>,
    /// Emptied histograms, to be used again.
    spare: Vec<Histogram<u32>>,
    holes: BTreeMap<HoleKind, u64>,
    clamped: u64,
    tag: String,
}

impl Hlog {
    /// Intervals of `interval_ns`, at least a millisecond, which is what the format's times resolve.
    #[must_use]
    pub fn new(out: Output, interval_ns: u64) -> Self {
        Self {
            out: BufWriter::new(out),
            serializer: V2DeflateSerializer::new(),
            interval_ns: (interval_ns / NS_PER_MS).max(1) * NS_PER_MS,
            origin_ns: None,
            interval: 0,
            owners: BTreeMap::new(),
            spare: Vec::new(),
            holes: BTreeMap::new(),
            clamped: 0,
            tag: String::new(),
        }
    }

    /// The head. Its times are of whole milliseconds, as the format writes them; the grid begins there, less than one before tracing did.
    fn begin(&mut self, session: Option<&SessionInfo>, now_ns: u64) -> Result<u64, ExportError> {
        let started_ns = session.map_or(now_ns, |session| session.started_ns);
        let wall = session.and_then(|session| session.wall_at_zero_ns.checked_add_unsigned(started_ns));
        let wall_ns = wall.and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0);
        let origin_ns = started_ns.saturating_sub(wall_ns % NS_PER_MS);
        let wall = UNIX_EPOCH + Duration::from_millis(wall_ns / NS_PER_MS);
        let mut head = IntervalLogWriterBuilder::new();
        head.add_comment("[Histogram log format version 1.3]");
        if let Some(session) = session {
            let (host, kernel) = (&session.host, &session.kernel);
            head.add_comment(&format!("dsascope {}: host {host}, kernel {kernel}", session.tool_version));
        }
        if let Some(filter) = session.and_then(|session| session.filter.as_ref()) {
            head.add_comment(&format!(
                "only faults with {}",
                filter.expression.replace(char::is_control, " ")
            ));
        }
        head.add_comment("values: nanoseconds; tags: stage, work queue, process (%XX: a byte)");
        head.with_start_time(wall).with_base_time(wall);
        head.begin_log_with(&mut self.out, &mut self.serializer).map_err(write)?;
        writeln!(self.out, "{LEGEND}").map_err(write)?;
        self.origin_ns = Some(origin_ns);
        Ok(origin_ns)
    }

    /// Ends the interval when the stream's time has left it.
    fn advance(&mut self, model: &Model) -> Result<(), ExportError> {
        let origin_ns = match self.origin_ns {
            Some(ns) => ns,
            None => self.begin(model.session(), model.now_ns())?,
        };
        let interval = model.now_ns().saturating_sub(origin_ns) / self.interval_ns;
        if interval > self.interval {
            self.end_interval()?;
            self.interval = interval;
        }
        Ok(())
    }

    fn end_interval(&mut self) -> Result<(), ExportError> {
        let length = Duration::from_nanos(self.interval_ns);
        let start = Duration::from_nanos(self.interval.saturating_mul(self.interval_ns));
        for (what, count) in std::mem::take(&mut self.holes) {
            writeln!(
                self.out,
                "#hole in the interval from {:.3} s: {} {count}",
                start.as_secs_f64(),
                Words(what)
            )
            .map_err(write)?;
        }
        let mut log = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.out, &mut self.serializer)
            .map_err(write)?;
        for (owner, distributions) in std::mem::take(&mut self.owners) {
            for (stage, histogram) in Stage::ALL.into_iter().zip(distributions.stages) {
                let Some(mut histogram) = histogram else { continue };
                self.tag.clear();
                owner.write_tag(&mut self.tag, stage, &distributions.comm);
                log.write_histogram(&histogram, start, length, Tag::new(&self.tag)).map_err(|error| {
                    match error {
                        IntervalLogWriterError::IoError(source) => write(source),
                        IntervalLogWriterError::SerializeError(error) => {
                            ExportError::Encode { format: FORMAT, what: error.to_string() }
                        }
                    }
                })?;
                histogram.reset();
                self.spare.push(histogram);
            }
        }
        Ok(())
    }

    fn record(&mut self, model: &Model, context: Context, tgid: Option<u32>, durations: &Durations) {
        let wq = context.wq_id();
        let process = model.process(context.key());
        let pid = tgid.or_else(|| process?.tgid);
        let mut owner = Owner { wq, who: Who::Process { pid, pasid: context.pasid } };
        if self.owners.len() >= FILES && !self.owners.contains_key(&owner) {
            owner.who = Who::Other;
        }
        let distributions = self.owners.entry(owner).or_insert_with(|| {
            let comm = process.and_then(|process| process.comm).map(|comm| comm.to_string());
            Distributions { comm: comm.unwrap_or_default(), stages: Default::default() }
        });
        for stage in Stage::ALL {
            let Some(ns) = durations.get(stage) else { continue };
            self.clamped += u64::from(ns > HIGHEST_NS);
            let histogram = distributions.stages[stage.index()]
                .get_or_insert_with(|| self.spare.pop().unwrap_or_else(distribution));
            // Fails only beyond the range.
            let _ = histogram.record(ns.min(HIGHEST_NS));
        }
    }
}

const NS_PER_MS: u64 = 1_000_000;

/// One range for all, which is the model's: any two can be added.
fn distribution() -> Histogram<u32> {
    Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS).expect("constant bounds are valid")
}

fn write(source: std::io::Error) -> ExportError {
    ExportError::write(FORMAT, source)
}

/// A hole's kind in one word.
struct Words(HoleKind);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.name().split(' ').enumerate().try_for_each(|(number, word)| {
            if number > 0 {
                f.write_char('_')?;
            }
            f.write_str(word)
        })
    }
}

impl Owner {
    fn write_tag(&self, tag: &mut String, stage: Stage, comm: &str) {
        let _ = write!(tag, "stage={};wq={}", stage.name(), self.wq);
        let Who::Process { pid, pasid } = self.who else {
            tag.push_str(";pid=other");
            return;
        };
        let _ = match pid {
            Some(pid) => write!(tag, ";pid={pid};pasid={pasid};comm="),
            None => write!(tag, ";pid=-;pasid={pasid};comm="),
        };
        for byte in if comm.is_empty() { b"-" } else { comm.as_bytes() } {
            if byte.is_ascii_alphanumeric() || b"._-".contains(byte) {
                tag.push(char::from(*byte));
            } else {
                let _ = write!(tag, "%{byte:02X}");
            }
        }
    }
}

impl Exporter for Hlog {
    fn event(&mut self, model: &Model, event: &Event) -> Result<(), ExportError> {
        self.advance(model)?;
        match event {
            Event::Fault(fault) => self.record(model, fault.context, fault.tgid, &fault.durations()),
            // What became known of a fault's record after it was told of.
            Event::Seen(seen) => {
                if let Some(context) = seen.context {
                    self.record(model, context, Some(seen.tgid), &seen.durations());
                }
            }
            Event::Hole(hole) => *self.holes.entry(hole.what).or_default() += hole.count,
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, model: &mut Model) -> Result<(), ExportError> {
        self.advance(model)?;
        self.end_interval()?;
        let ledger = model.ledger();
        for number in ByKind::KINDS {
            let name = kind::NAMES.get(usize::from(number)).copied().unwrap_or_default();
            let (seen, sent) = (ledger.kernel.seen.get(number), ledger.kernel.sent.get(number));
            let (lost, received) = (ledger.kernel.lost.get(number), ledger.received.get(number));
            writeln!(self.out, "#ledger {name}: seen {seen}, sent {sent}, lost {lost}, received {received}")
                .map_err(write)?;
        }
        let (undecodable, channel) = (ledger.undecodable, ledger.channel_lost);
        writeln!(self.out, "#ledger undecodable: lost {undecodable}\n#ledger channel: lost {channel}")
            .map_err(write)?;
        if let Some(filter) = model.filtering() {
            writeln!(self.out, "#ledger left out by the filter: {}", filter.left_out).map_err(write)?;
        }
        for (name, count) in &ledger.kernel.holes {
            writeln!(self.out, "#ledger {name}: {count}").map_err(write)?;
        }
        let error = 10f64.powi(-i32::from(DIGITS)) * 100.0;
        let (highest, clamped) = (HIGHEST_NS, self.clamped);
        writeln!(self.out, "#bucket error: {error} %; {clamped} values above {highest} ns counted there")
            .and_then(|()| writeln!(self.out, "#end: {} records lost", ledger.lost()))
            .and_then(|()| self.out.flush())
            .map_err(write)
    }
}

impl fmt::Debug for Hlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hlog").field("interval", &self.interval).finish_non_exhaustive()
    }
}
