//! The truth log: what the devices really did, one JSON line each. A tracer is held against it.
//!
//! Owns: the line format, writing it cheaply from many threads, reading it back. Refuses: interpretation; [`summary`] counts.

pub mod summary;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::dsa::{Injection, ResetType};
use crate::vtd::ResponseCode;

/// Bytes held back before a write to the file; a mark, a read and the end flush.
const BUFFER_BYTES: usize = 256 << 10;

/// One thing that happened, at nanoseconds of the devices' clock (from the start of the testbed, never backwards).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub time_ns: u64,
    #[serde(flatten)]
    pub event: Event,
}

/// `device` is the name the guest gives it (`dsa0`); `pasid` is absent when the WQ works without PASIDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A descriptor was accepted from a portal, or fetched as element `batch_index` of a batch.
    Descriptor {
        device: String,
        wq: u8,
        pasid: Option<u32>,
        opcode: u8,
        flags: u32,
        cr_address: u64,
        batch_index: Option<u16>,
        /// Of an element: the batch's identifier and how often the device had handed that one out before.
        batch_id: Option<u8>,
        batch_generation: Option<u64>,
    },
    /// A batch got an identifier and begins. `generation` counts the uses of the identifier from 0: with it, a batch has a name
    /// that no other batch of the device has.
    BatchBegin {
        device: String,
        engine: u8,
        wq: u8,
        pasid: Option<u32>,
        batch_id: u8,
        generation: u64,
        descriptors: u32,
        cr_address: u64,
    },
    /// The batch's own completion record was written, or its event-log entry was, or neither was asked for (see `told`); the
    /// identifier is free again. `status`, `result` and `completed` are the device's, before the driver changes the record.
    BatchEnd {
        device: String,
        wq: u8,
        pasid: Option<u32>,
        batch_id: u8,
        generation: u64,
        status: u8,
        result: u8,
        completed: u32,
        told: Told,
    },
    /// The device wrote a completion record itself.
    CompletionRecord { device: String, wq: u8, pasid: Option<u32>, address: u64, status: u8 },
    /// The device wrote an event-log entry at ring index `index`; `raw` is all of it in hex.
    EventLogEntry {
        device: String,
        index: u32,
        error: u8,
        wq: u8,
        pasid: u32,
        operation: u8,
        fault_addr: u64,
        batch: bool,
        batch_id: u8,
        /// With `batch`, or an entry 0x27: which use of the identifier.
        batch_generation: Option<u64>,
        batch_index: u16,
        raw: String,
    },
    /// An error went to SWERROR; `held` false: the register was occupied, only the overflow bit tells.
    SoftwareError { device: String, error: u8, wq: u8, pasid: Option<u32>, held: bool },
    /// MSI-X message; `cause` is INTCAUSE for vector 0. Not `delivered`: nothing was connected.
    Interrupt { device: String, vector: u16, cause: u32, delivered: bool },
    /// An administrative command ended with CMDSTATUS `status`.
    Command { device: String, code: u32, operand: u32, status: u32 },
    /// The driver moved the event log's head.
    Head { device: String, head: u32 },
    /// An engine waited, and with it all descriptors that it might have served.
    EngineBlocked { device: String, engine: u8, cause: BlockCause, blocked_ns: u64 },
    /// An engine asked for the page at `address`. The engine serves nothing until it has its answer, see `engine_blocked`.
    PageRequest { device: String, engine: u8, wq: u8, pasid: u32, address: u64, write: bool, group: u16 },
    /// The answer to the request of `group`; the unit itself says invalid when the guest lets the function not ask.
    PageResponse { device: String, pasid: Option<u32>, group: u16, code: ResponseCode },
    /// A shared WQ that held `occupied` descriptors did not accept one: whoever sent it was told to try again.
    Retry { device: String, wq: u8, pasid: Option<u32>, occupied: u32 },
    /// A descriptor was thrown away.
    Dropped { device: String, wq: u8, pasid: Option<u32>, reason: DropReason },
    /// An event-log entry was given up because a command or reset ended the wait for a slot.
    EntryAbandoned { device: String, wq: u8, pasid: Option<u32>, error: u8 },
    /// The next entry of this WQ and PASID is one that a test made late: the device took its descriptor for ended, and drained.
    EntryLate { device: String, wq: u8, pasid: Option<u32> },
    /// A test made something go wrong.
    Injected { device: String, injection: Injection },
    /// The device stopped until `reset`; what it had accepted is lost.
    Halt { device: String, reset: ResetType },
    /// All registers went back to their defaults.
    Reset { device: String },
    /// A line of the runner's, to tell scenarios of one boot apart.
    Mark { text: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The WQ or the device was not enabled.
    WqDisabled,
    /// A dedicated WQ had no free entry: software submitted more than the WQ's size.
    WqFull,
    /// Queued when an abort, a reset or a disable came.
    Aborted,
    /// Queued when the device halted.
    Halted,
    /// A slot of the portal was written again before it held a whole descriptor.
    Torn,
}

/// What an engine waits for while it serves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockCause {
    /// A free slot of the event log.
    EventLogFull,
    /// A batch identifier: all were in use.
    BatchIdentifier,
    /// The answer to a page request.
    PageRequest,
}

/// How the end of a descriptor was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Nobody asked and all was well, or a reset came.
    Nothing,
    /// By a completion record that the device wrote.
    Record,
    /// By an event-log entry with a completion record for the driver to write.
    LogRecord,
    /// By an event-log entry without one, because the descriptor named no place for it.
    Log,
    /// By SWERROR, because the event log is off.
    Register,
}

/// Lines written so far, by kind; cheap to read while the devices run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub descriptors: u64,
    pub batches: u64,
    pub completion_records: u64,
    pub event_log_entries: u64,
    pub software_errors: u64,
    /// Of those, the ones that found SWERROR occupied: only its overflow bit tells of them.
    pub software_errors_dropped: u64,
    pub interrupts: u64,
    pub commands: u64,
    pub dropped: u64,
    pub retries: u64,
    pub entries_abandoned: u64,
    /// Nanoseconds that engines waited for event-log slots.
    pub blocked_ns: u64,
    pub halts: u64,
    pub page_requests: u64,
    /// Nanoseconds that engines waited for answers to page requests.
    pub stalled_ns: u64,
}

#[derive(Debug, Default)]
struct AtomicCounters {
    descriptors: AtomicU64,
    batches: AtomicU64,
    completion_records: AtomicU64,
    event_log_entries: AtomicU64,
    software_errors: AtomicU64,
    software_errors_dropped: AtomicU64,
    interrupts: AtomicU64,
    commands: AtomicU64,
    dropped: AtomicU64,
    retries: AtomicU64,
    entries_abandoned: AtomicU64,
    blocked_ns: AtomicU64,
    halts: AtomicU64,
    page_requests: AtomicU64,
    stalled_ns: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    #[error("truth log {path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("truth log {path}, line {line}: {source}")]
    Parse { path: String, line: usize, source: serde_json::Error },
}

#[derive(Debug)]
enum Sink {
    File(BufWriter<File>),
    Memory(Vec<Line>),
}

/// The log and its clock, shared by all devices.
#[derive(Debug)]
pub struct Truth {
    start: Instant,
    sink: Mutex<Sink>,
    counters: AtomicCounters,
    /// Lines that could not be written (disk full); the log is worthless then and [`Truth::flush`] says so.
    failed: AtomicU64,
}

impl Truth {
    /// A new file at `path`; an old one is replaced.
    pub fn create(path: &Path) -> Result<Self, TruthError> {
        let file = File::create(path).map_err(|source| io_error(path, source))?;
        Ok(Self::with(Sink::File(BufWriter::with_capacity(BUFFER_BYTES, file))))
    }

    /// Lines are kept, see [`Truth::lines`].
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with(Sink::Memory(Vec::new()))
    }

    fn with(sink: Sink) -> Self {
        Self {
            start: Instant::now(),
            sink: Mutex::new(sink),
            counters: AtomicCounters::default(),
            failed: AtomicU64::new(0),
        }
    }

    /// The devices' clock.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Write one line with the time of now.
    pub fn log(&self, event: Event) {
        self.count(&event);
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the file is sorted by time.
        let line = Line { time_ns: self.now_ns(), event };
        match &mut *sink {
            Sink::Memory(lines) => lines.push(line),
            Sink::File(file) => {
                let written = serde_json::to_writer(&mut *file, &line).map_err(std::io::Error::from);
                if written.and_then(|()| file.write_all(b"\n")).is_err() {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Write a line of the runner's and make everything before it readable.
    pub fn mark(&self, text: &str) -> std::io::Result<()> {
        self.log(Event::Mark { text: text.to_owned() });
        self.flush()
    }

    /// Bring everything logged so far to the file.
    pub fn flush(&self) -> std::io::Result<()> {
        if let Sink::File(file) = &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            file.flush()?;
        }
        match self.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            lost => Err(std::io::Error::other(format!("{lost} lines of the truth log could not be written"))),
        }
    }

    /// What [`Truth::in_memory`] kept; nothing for a file.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        match &*self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Memory(lines) => lines.clone(),
            Sink::File(_) => Vec::new(),
        }
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        let c = &self.counters;
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        Counters {
            descriptors: get(&c.descriptors),
            batches: get(&c.batches),
            completion_records: get(&c.completion_records),
            event_log_entries: get(&c.event_log_entries),
            software_errors: get(&c.software_errors),
            software_errors_dropped: get(&c.software_errors_dropped),
            interrupts: get(&c.interrupts),
            commands: get(&c.commands),
            dropped: get(&c.dropped),
            retries: get(&c.retries),
            entries_abandoned: get(&c.entries_abandoned),
            blocked_ns: get(&c.blocked_ns),
            halts: get(&c.halts),
            page_requests: get(&c.page_requests),
            stalled_ns: get(&c.stalled_ns),
        }
    }

    fn count(&self, event: &Event) {
        let c = &self.counters;
        if let Event::SoftwareError { held: false, .. } = event {
            c.software_errors_dropped.fetch_add(1, Ordering::Relaxed);
        }
        let (counter, by) = match event {
            Event::Descriptor { .. } => (&c.descriptors, 1),
            Event::CompletionRecord { .. } => (&c.completion_records, 1),
            Event::EventLogEntry { .. } => (&c.event_log_entries, 1),
            Event::SoftwareError { .. } => (&c.software_errors, 1),
            Event::Interrupt { .. } => (&c.interrupts, 1),
            Event::Command { .. } => (&c.commands, 1),
            Event::Dropped { .. } => (&c.dropped, 1),
            Event::Retry { .. } => (&c.retries, 1),
            Event::EntryAbandoned { .. } => (&c.entries_abandoned, 1),
            Event::EngineBlocked { cause: BlockCause::EventLogFull, blocked_ns, .. } => {
                (&c.blocked_ns, *blocked_ns)
            }
            Event::EngineBlocked { cause: BlockCause::PageRequest, blocked_ns, .. } => {
                (&c.stalled_ns, *blocked_ns)
            }
            Event::BatchBegin { .. } => (&c.batches, 1),
            Event::PageRequest { .. } => (&c.page_requests, 1),
            Event::Halt { .. } => (&c.halts, 1),
            Event::EngineBlocked { .. }
            | Event::PageResponse { .. }
            | Event::Injected { .. }
            | Event::EntryLate { .. }
            | Event::BatchEnd { .. }
            | Event::Head { .. }
            | Event::Reset { .. }
            | Event::Mark { .. } => return,
        };
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// All lines of a log.
pub fn read(path: &Path) -> Result<Vec<Line>, TruthError> {
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    let mut lines = Vec::new();
    for (number, text) in BufReader::new(file).lines().enumerate() {
        let text = text.map_err(|source| io_error(path, source))?;
        let line = serde_json::from_str(&text).map_err(|source| TruthError::Parse {
            path: path.display().to_string(),
            line: number + 1,
            source,
        })?;
        lines.push(line);
    }
    Ok(lines)
}

/// The lines after the last mark with this text, up to the next mark.
#[must_use]
pub fn since_mark<'a>(lines: &'a [Line], text: &str) -> &'a [Line] {
    let is_mark = |line: &Line| matches!(line.event, Event::Mark { .. });
    let this = |line: &Line| matches!(&line.event, Event::Mark { text: t } if t == text);
    let Some(start) = lines.iter().rposition(this) else { return &[] };
    let after = &lines[start + 1..];
    &after[..after.iter().position(is_mark).unwrap_or(after.len())]
}

/// Lowercase hex of an event-log entry.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| char::from(DIGITS[usize::from(d)])).collect()
}

/// The bytes of [`hex`]; `None` for anything else.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|p| u8::try_from(digit(*p.first()?)? << 4 | digit(*p.get(1)?)?).ok()).collect()
}

fn io_error(path: &Path, source: std::io::Error) -> TruthError {
    TruthError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(n: u32) -> Event {
        Event::Head { device: "dsa0".into(), head: n }
    }

    #[test]
    fn marks_flush_and_separate() {
        let dir = std::env::temp_dir().join(format!("dsascope-truth-{}", std::process::id()));
        let truth = Truth::create(&dir).unwrap();
        truth.log(head(1));
        truth.mark("a").unwrap();
        truth.log(head(2));
        truth.log(Event::Dropped { device: "dsa0".into(), wq: 1, pasid: None, reason: DropReason::WqFull });
        truth.mark("b").unwrap();
        let lines = read(&dir).unwrap();
        let events: Vec<_> = since_mark(&lines, "a").iter().map(|l| l.event.clone()).collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0], head(2));
        assert!(since_mark(&lines, "b").is_empty());
        assert!(since_mark(&lines, "c").is_empty());
        assert_eq!(truth.counters().dropped, 1);
        assert!(lines.is_sorted_by_key(|l| l.time_ns));
        std::fs::write(&dir, "{}\n").unwrap();
        assert!(matches!(read(&dir), Err(TruthError::Parse { line: 1, .. })));
        std::fs::remove_file(&dir).unwrap();
    }

    #[test]
    fn lines_keep_their_form() {
        let line = Line {
            time_ns: 7,
            event: Event::CompletionRecord {
                device: "dsa0".into(),
                wq: 1,
                pasid: Some(3),
                address: 64,
                status: 1,
            },
        };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"time_ns":7,"event":"completion_record","device":"dsa0","wq":1,"pasid":3,"address":64,"status":1}"#
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        assert_eq!(unhex(&hex(&[0, 0xab, 0xff])).unwrap(), [0, 0xab, 0xff]);
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("0"), None);
    }
}
