//! Recording: events in on the tracer's thread, files out on one of its own, so that a slow disk delays nobody.
//!
//! What the disk does not take in time or has no room for is left out, counted by the gap it leaves, and told; recording goes on. Owns:
//! the thread, rotation, the flight recorder's ring. Refuses: clocks (time is that of the events), and deciding when to save.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;

use dsascope_core::event::Event;

use crate::block::{Block, Blocks, Meta, RawBlock};
use crate::carry::Carry;
use crate::file::CaptureFile;
use crate::layout::BlockHeader;

/// Blocks on their way to the disk at most: about 8 MiB, or a quarter of a second of a storm.
const QUEUE: usize = 8;

/// Where a recording goes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub path: PathBuf,
    /// Write over a file that is there.
    pub replace: bool,
    pub command: Vec<String>,
    pub mode: Mode,
}

impl Plan {
    /// Where its files are made.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Mode {
    /// All of it, up to so many bytes a file. With `keep`, a file that is full is renamed and so many of these are kept; without, the
    /// recording ends.
    All { max_bytes: Option<u64>, keep: Option<u32> },
    /// The flight recorder: the last so many bytes, or so long, in memory; saved when it is asked for, with what follows for `after_ns`.
    Flight { ring_bytes: u64, last_ns: Option<u64>, after_ns: u64, keep: Option<u32> },
}

/// What the writer has to tell.
#[derive(Debug)]
pub enum Notice {
    /// A file is whole and closed.
    Saved { path: PathBuf, bytes: u64 },
    /// The writer began to save what the ring holds.
    Saving { path: PathBuf, why: String },
    /// Something was not written; recording goes on where it can.
    Failed { what: String },
    /// The file is as large as it may be, and nothing more is recorded.
    Full { path: PathBuf },
    /// So many events that should be in a file are not.
    Incomplete { path: PathBuf, events: u64 },
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("create capture {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("start the capture's writer: {0}")]
    Thread(io::Error),
    #[error("the capture's writer ended early: nothing more was recorded")]
    WriterGone,
}

enum Order {
    Begin(Box<Meta>),
    Block(RawBlock),
    Save {
        why: String,
    },
    /// Nothing follows; events and faults of the whole recording.
    End {
        totals: (u64, u64),
    },
}

/// Takes the stream of events as it comes.
#[derive(Debug)]
pub struct Recorder {
    blocks: Blocks,
    orders: Option<SyncSender<Order>>,
    notices: Receiver<Notice>,
    thread: Option<JoinHandle<()>>,
    command: Vec<String>,
    begun: bool,
    /// Events in blocks that the writer had no room for.
    left_out: u64,
    /// Blocks that the writer has not taken yet.
    waiting: Arc<AtomicUsize>,
}

impl Recorder {
    /// Starts the writer and opens the file, so that what is wrong with it is known before anything is traced. `prepare` runs first on the
    /// writer's thread: there it can become who the files shall belong to, and give up what it does not need.
    ///
    /// # Errors
    /// The file cannot be made, or is there already.
    pub fn start(
        plan: Plan,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<Self, RecordError> {
        let command = plan.command.clone();
        let path = plan.path.clone();
        let (orders, inbox) = sync_channel(QUEUE);
        let (outbox, notices) = channel();
        let (ready, opened) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        let run = move || {
            let first = prepare().and_then(|()| open(&plan));
            let (first, answer) = match first {
                Ok(first) => (first, Ok(())),
                Err(error) => (None, Err(error)),
            };
            let failed = answer.is_err();
            if ready.send(answer).is_ok() && !failed {
                Writer::new(plan, outbox, first).run(&inbox, &counter);
            }
        };
        let thread =
            std::thread::Builder::new().name("capture".into()).spawn(run).map_err(RecordError::Thread)?;
        match opened.recv() {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return Err(RecordError::Create { path, source }),
            Err(_) => return Err(RecordError::WriterGone),
        }
        Ok(Self {
            blocks: Blocks::default(),
            orders: Some(orders),
            notices,
            thread: Some(thread),
            command,
            begun: false,
            left_out: 0,
            waiting,
        })
    }

    /// Takes one event. Never waits.
    pub fn push(&mut self, event: &Event) {
        if let (false, Event::Session(session)) = (self.begun, event) {
            self.begun = true;
            let meta = Meta { session: (**session).clone(), command: self.command.clone(), trigger: None };
            self.send(Order::Begin(Box::new(meta)));
            return;
        }
        if let Some(block) = self.blocks.push(event) {
            self.send(Order::Block(block));
        }
    }

    /// Saves what the flight recorder holds, and what follows.
    pub fn save(&mut self, why: &str) {
        if let Some(block) = self.blocks.flush() {
            self.send(Order::Block(block));
        }
        self.send(Order::Save { why: why.into() });
    }

    /// What the writer has told since the last call.
    pub fn notices(&self) -> impl Iterator<Item = Notice> {
        self.notices.try_iter()
    }

    /// Events that were left out because the disk did not keep up.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The next block would be left out.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Acquire) >= QUEUE
    }

    /// Writes what is left and closes the file. Gives the last notices.
    ///
    /// # Errors
    /// The writer is gone.
    pub fn finish(mut self) -> Result<Vec<Notice>, RecordError> {
        let last = self.blocks.flush().map(Order::Block);
        let totals = self.blocks.totals();
        if let Some(orders) = self.orders.take() {
            for order in last.into_iter().chain([Order::End { totals }]) {
                // The end may wait for the disk: nothing is traced any more.
                self.waiting.fetch_add(1, Ordering::AcqRel);
                orders.send(order).map_err(|_| RecordError::WriterGone)?;
            }
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            return Err(RecordError::WriterGone);
        }
        Ok(self.notices.try_iter().collect())
    }

    fn send(&mut self, order: Order) {
        let Some(orders) = &self.orders else { return };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if let Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) = orders.try_send(order) {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            let Order::Block(block) = order else { return };
            self.left_out += u64::from(block.header().events());
        }
    }
}

/// A run that ends early, as when its command cannot be started: the process must not end before the writer has cleaned up.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer has been told on stderr, and nobody is left to tell.
            let _ = thread.join();
        }
    }
}

/// The file of a recording. The flight recorder's are made when something is to be saved; that the directory takes them is asked now.
fn open(plan: &Plan) -> io::Result<Option<File>> {
    match plan.mode {
        Mode::All { .. } => {
            let mut options = File::options();
            options.write(true).create(true).truncate(plan.replace).create_new(!plan.replace);
            options.open(&plan.path).map(Some)
        }
        Mode::Flight { .. } => tempfile::tempfile_in(plan.directory()).map(|_| None),
    }
}

/// The thread's side.
struct Writer {
    plan: Plan,
    outbox: Sender<Notice>,
    meta: Meta,
    /// Opened before anything was traced.
    first: Option<File>,
    /// The flight recorder's ring.
    keep: Option<Ring>,
    out: Option<Output>,
    full: bool,
    /// What happened before the ring's oldest block, or before the current file.
    carry: Carry,
    /// The last write failed, and that was told.
    failing: bool,
    /// Files saved by the flight recorder, oldest first.
    saved: VecDeque<PathBuf>,
    /// Events and faults of the recording before the block in hand.
    totals: (u64, u64),
}

struct Output {
    file: CaptureFile,
    /// Stream time after which it is whole.
    until_ns: Option<u64>,
}

/// The last blocks.
#[derive(Default)]
struct Ring {
    blocks: VecDeque<Block>,
    bytes: u64,
}

impl Writer {
    fn new(plan: Plan, outbox: Sender<Notice>, first: Option<File>) -> Self {
        Self {
            plan,
            outbox,
            meta: Meta::default(),
            first,
            keep: None,
            out: None,
            full: false,
            carry: Carry::default(),
            failing: false,
            saved: VecDeque::new(),
            totals: (0, 0),
        }
    }

    fn run(mut self, inbox: &Receiver<Order>, waiting: &AtomicUsize) {
        while let Ok(order) = inbox.recv() {
            waiting.fetch_sub(1, Ordering::AcqRel);
            match order {
                Order::Begin(meta) => self.begin(*meta),
                Order::Block(block) => {
                    let ends = block.header().ends();
                    match block.compress() {
                        Ok(block) => self.take(block),
                        Err(error) => self.failed("compress a block", &error),
                    }
                    self.totals = ends;
                }
                Order::Save { why } => self.save(&why),
                Order::End { totals } => self.totals = totals,
            }
        }
        if self.first.take().is_some() {
            // Nothing was ever traced; an empty file would only stand in the way.
            let _ = fs::remove_file(&self.plan.path);
        }
        self.close();
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens any more when the tracer is ending.
        let _ = self.outbox.send(notice);
    }

    fn failed(&mut self, doing: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let what = format!(
                "{doing} {}: {error}; what cannot be written is left out and counted",
                self.plan.path.display()
            );
            self.tell(Notice::Failed { what });
        }
    }

    fn begin(&mut self, meta: Meta) {
        self.meta = meta;
        match self.first.take() {
            Some(file) => match CaptureFile::begin(&self.plan.path, file, &self.meta, (0, 0)) {
                Ok(file) => self.out = Some(Output { file, until_ns: None }),
                Err(error) => self.failed("write", &error),
            },
            None => self.keep = Some(Ring::default()),
        }
    }

    fn take(&mut self, block: Block) {
        match self.plan.mode {
            Mode::All { max_bytes, keep } => self.record(block, max_bytes, keep),
            Mode::Flight { ring_bytes, last_ns, .. } => self.fly(block, ring_bytes, last_ns),
        }
    }

    fn record(&mut self, block: Block, max_bytes: Option<u64>, keep: Option<u32>) {
        if self.full {
            return;
        }
        let begun = self.out.as_ref().is_some_and(|out| out.file.has_events());
        let too_large = |out: &Output| max_bytes.is_some_and(|most| out.file.bytes() + block.bytes() > most);
        if begun && self.out.as_ref().is_some_and(too_large) {
            let Some(keep) = keep else {
                self.full = true;
                let path = self.plan.path.clone();
                self.close();
                self.tell(Notice::Full { path });
                return;
            };
            self.close();
            if let Err(error) = rotate(&self.plan.path, keep) {
                self.failed("rotate", &error);
            }
        }
        if self.out.is_none() {
            // After a rotation, or where the last attempt failed.
            match self.new_file(&self.plan.path.clone(), &self.meta.clone(), &block.header) {
                Ok(file) => self.out = Some(Output { file, until_ns: None }),
                Err(error) => return self.failed("create", &error),
            }
        }
        self.append(&block);
        self.carry.fold(&block.state);
    }

    /// A file that begins where `next` does.
    fn new_file(&self, path: &Path, meta: &Meta, next: &BlockHeader) -> io::Result<CaptureFile> {
        let begins = (next.events_before.get(), next.faults_before());
        let mut file = CaptureFile::begin(path, File::create(path)?, meta, begins)?;
        self.carry.blocks(next)?.iter().try_for_each(|block| file.append(block))?;
        Ok(file)
    }

    fn append(&mut self, block: &Block) {
        let Some(out) = &mut self.out else { return };
        match out.file.append(block) {
            Ok(()) => self.failing = false,
            Err(error) => self.failed("write", &error),
        }
    }

    fn fly(&mut self, block: Block, ring_bytes: u64, last_ns: Option<u64>) {
        let now_ns = block.header.last_ns();
        if self.out.is_some() {
            self.append(&block);
            let over = |out: &Output| out.until_ns.is_some_and(|until_ns| now_ns >= until_ns);
            if self.out.as_ref().is_some_and(over) {
                self.totals = block.header.ends();
                self.close();
            }
        }
        let Some(ring) = &mut self.keep else { return };
        ring.bytes += block.bytes();
        ring.blocks.push_back(block);
        while ring.blocks.len() > 1
            && ring.blocks.front().is_some_and(|oldest| {
                let old = last_ns.is_some_and(|span| oldest.header.last_ns().saturating_add(span) < now_ns);
                ring.bytes > ring_bytes || old
            })
        {
            if let Some(gone) = ring.blocks.pop_front() {
                ring.bytes -= gone.bytes();
                self.carry.fold(&gone.state);
            }
        }
    }

    fn save(&mut self, why: &str) {
        let Mode::Flight { after_ns, keep, .. } = self.plan.mode else { return };
        let Some(ring) = &self.keep else { return };
        let Some((first, last)) = ring.blocks.front().zip(ring.blocks.back()) else { return };
        let until_ns = Some(last.header.last_ns().saturating_add(after_ns));
        if let Some(out) = &mut self.out {
            // Being saved already: it goes on for longer.
            out.until_ns = until_ns;
            return;
        }
        let wall_ns = i128::from(last.header.last_ns()) + i128::from(self.meta.session.wall_at_zero_ns);
        let path = self.free_name(wall_ns);
        let meta = Meta { trigger: Some(why.into()), ..self.meta.clone() };
        let file = self.new_file(&path, &meta, &first.header).and_then(|mut file| {
            ring.blocks.iter().try_for_each(|block| file.append(block))?;
            Ok(file)
        });
        match file {
            Ok(file) => {
                self.out = Some(Output { file, until_ns });
                self.saved.push_back(path.clone());
                self.tell(Notice::Saving { path, why: why.into() });
                while keep.is_some_and(|keep| self.saved.len() > keep as usize) {
                    if let Some(Err(error)) = self.saved.pop_front().map(fs::remove_file) {
                        self.failed("remove an older capture of", &error);
                    }
                }
            }
            Err(error) => self.failed("save", &error),
        }
        if after_ns == 0 {
            self.close();
        }
    }

    /// `storm.dsc` at a moment: `storm-20261126T134501Z.dsc`, numbered if that is taken.
    fn free_name(&self, wall_ns: i128) -> PathBuf {
        let path = &self.plan.path;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension =
            path.extension().map_or_else(|| "dsc".into(), |end| end.to_string_lossy().into_owned());
        let moment = utc(wall_ns);
        let name = |number: u32| match number {
            1 => path.with_file_name(format!("{stem}-{moment}.{extension}")),
            number => path.with_file_name(format!("{stem}-{moment}-{number}.{extension}")),
        };
        (1..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(1))
    }

    fn close(&mut self) {
        let Some(out) = self.out.take() else { return };
        let path = out.file.path().to_owned();
        let missing = self.totals.0.saturating_sub(out.file.told());
        match out.file.end(self.totals) {
            Ok((path, bytes)) => {
                if missing > 0 {
                    self.tell(Notice::Incomplete { path: path.clone(), events: missing });
                }
                self.tell(Notice::Saved { path, bytes });
            }
            Err(error) => {
                let what = format!("end {}: {error}; it opens without its index", path.display());
                self.tell(Notice::Failed { what });
            }
        }
    }
}

/// `a` becomes `a.1`, that `a.2`; what would be beyond `keep` is gone.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return fs::remove_file(path);
    }
    for number in (1..keep).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}

/// A moment in the basic form of ISO 8601, to the second.
fn utc(wall_ns: i128) -> String {
    let seconds = i64::try_from(wall_ns.div_euclid(1_000_000_000)).unwrap_or(0);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "unknown".into(), |time| time.strftime("%Y%m%dT%H%M%SZ").to_string())
}

#[cfg(test)]
mod tests;
