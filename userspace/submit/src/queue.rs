//! An open work queue: its file, portal and memory.
//!
//! Owns: which memory the device may use and how long it lives. Refuses: telling when a record that cannot be written would have
//! come; the driver's counters say that.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering, fence},
    },
    thread,
    time::{Duration, Instant},
};

use dsascope_common::hw::completion::{self, DsaCompletion, IaxCompletion};
use dsascope_common::hw::descriptor::{self, Descriptor, opcode};
use zerocopy::{IntoBytes, transmute};

use crate::{
    Error, Operand, PAGE, Submission, Work,
    memory::{self, Mapping, Memory, Use},
    operands::operands,
    portal::{How, Portal},
    usdt,
};

/// What the device and the driver find at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A present, writable page: the device writes the record itself.
    Resident,
    /// A page that is not in the page table: a fault, and the driver's copy brings it in.
    Absent,
    /// Anonymous memory that was never touched: a fault, and the driver's copy brings it in. It is not looked at, so a delivery is not
    /// seen; meant for processes that leave.
    Untouched,
    /// A present page without write permission: a fault, and the driver's copy fails.
    ReadOnly,
    /// Nothing is mapped: a fault, and the driver's copy fails.
    Unmapped,
    /// Present and writable, but across the border of two pages, which no record may be: the device refuses the descriptor and writes none.
    Straddling,
}

/// Memory of a queue for operands, page aligned at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub(crate) queue: u64,
    /// As the device knows it.
    pub(crate) address: u64,
    /// The same memory at a second address, through which it is looked at without touching the first.
    watch: Option<u64>,
    bytes: usize,
}

impl Span {
    /// User address given to the device.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A completion record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) queue: u64,
    /// Where the device and the driver write.
    pub(crate) address: u64,
    /// The same memory at a second address, through which it is looked at without touching the first.
    pub(crate) watch: Option<u64>,
    pub(crate) presence: Presence,
}

/// How completion records lie to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Each in a page of its own, from its start.
    #[default]
    Pages,
    /// One behind the other, [`Packing::STRIDE_BYTES`] apart: those that are made together share pages, and are absent together.
    Packed,
}

impl Packing {
    pub const STRIDE_BYTES: usize = completion::IAX_BYTES;
}

impl Record {
    /// User address given to the device.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    #[must_use]
    pub const fn presence(&self) -> Presence {
        self.presence
    }
}

/// A descriptor list in the queue's memory; never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    queue: u64,
    list: u64,
    descriptors: u32,
    /// Pages of the list to make absent: address and bytes.
    absent: Option<(u64, usize)>,
}

impl Batch {
    /// The batch's own, without record.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let d = Descriptor { source: self.list, transfer_size: self.descriptors, ..Descriptor::default() };
        d.with(opcode::BATCH, 0)
    }
}

/// Words of a completion record, of the larger kind.
const RECORD_WORDS: u64 = completion::IAX_BYTES as u64 / 8;
/// A record in two pages begins so many bytes before the second.
const STRADDLING_BYTES: u64 = 16;

static NEXT_QUEUE: AtomicU64 = AtomicU64::new(1);

/// Fields are dropped in this order: the portal and the file first, whereupon the driver drains the WQ; then the memory.
#[derive(Debug)]
pub struct WorkQueue {
    way: Way,
    file: File,
    memory: RwLock<Memory>,
    path: PathBuf,
    submission: Submission,
    retries: AtomicU64,
    /// Names this object in handles.
    id: u64,
}

#[derive(Debug)]
enum Way {
    Portal(Portal),
    /// By write(2).
    Driver,
    #[cfg(test)]
    StandIn(std::sync::Arc<crate::stand_in::StandIn>),
}

impl WorkQueue {
    /// Opens a dedicated work queue (`/dev/dsa/wqN.M`, `/dev/iax/wqN.M`) and maps its portal.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_for(path, Submission::detect())
    }

    /// Opens a work queue, for submission in a way that goes with its mode.
    pub fn open_for(path: &Path, submission: Submission) -> Result<Self, Error> {
        if !submission.works() {
            return Err(Error::Instruction { submission });
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| Error::Open { path: path.into(), source })?;
        let way = match submission {
            Submission::Write => Way::Driver,
            _ => {
                let portal = Portal::map(&file);
                Way::Portal(portal.map_err(|source| Error::MapPortal { path: path.into(), source })?)
            }
        };
        Ok(Self::new(way, file, path, submission))
    }

    fn new(way: Way, file: File, path: &Path, submission: Submission) -> Self {
        Self {
            way,
            file,
            memory: RwLock::default(),
            path: path.into(),
            submission,
            retries: AtomicU64::new(0),
            id: NEXT_QUEUE.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// One whose descriptors go to the stand-in of this crate's tests.
    #[cfg(test)]
    pub(crate) fn standing_in(device: std::sync::Arc<crate::stand_in::StandIn>) -> Self {
        let path = Path::new("/dev/null");
        let file = File::open(path).expect("it is there");
        Self::new(Way::StandIn(device), file, path, Submission::PlainStores)
    }

    #[must_use]
    pub const fn submission(&self) -> Submission {
        self.submission
    }

    /// The open device file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Memory of zeros for operands; `bytes` is rounded up to whole pages for the mapping, not for the span.
    pub fn span(&self, presence: Presence, bytes: usize) -> Result<Span, Error> {
        let whole = bytes.max(1).next_multiple_of(PAGE);
        let (address, watch) = self.map(presence, whole)?;
        let writable = matches!(presence, Presence::Resident | Presence::Absent);
        self.memory().allow(address, whole, if writable { Use::Data } else { Use::Forbidden });
        Ok(Span { queue: self.id, address, watch, bytes })
    }

    /// `count` completion records, each in a page of its own, or in two.
    pub fn records(&self, presence: Presence, count: usize) -> Result<Vec<Record>, Error> {
        self.packed_records(presence, Packing::Pages, count)
    }

    /// `count` completion records; those in two pages are never packed.
    pub fn packed_records(
        &self,
        presence: Presence,
        packing: Packing,
        count: usize,
    ) -> Result<Vec<Record>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let (stride, offset) = match (presence, packing) {
            (Presence::Straddling, _) => (2 * PAGE, PAGE as u64 - STRADDLING_BYTES),
            (_, Packing::Pages) => (PAGE, 0),
            (_, Packing::Packed) => (Packing::STRIDE_BYTES, 0),
        };
        let (first, watch) = self.map(presence, (count * stride).next_multiple_of(PAGE))?;
        let offsets = (0..count).map(|index| (index * stride) as u64 + offset);
        let record = |offset| Record {
            queue: self.id,
            address: first + offset,
            watch: watch.map(|watch| watch + offset),
            presence,
        };
        Ok(offsets.map(record).collect())
    }

    /// New memory: its address for the device, and a second one to look at it.
    fn map(&self, presence: Presence, bytes: usize) -> Result<(u64, Option<u64>), Error> {
        if presence == Presence::Unmapped {
            return Ok((memory::hole(bytes)?, None));
        }
        if presence == Presence::Untouched {
            return Ok((self.memory().keep(Mapping::anonymous(bytes, false)?), None));
        }
        let file = memory::memory_file(bytes)?;
        let map = |protection, populate| {
            Mapping::of_file(&file, bytes, protection, populate).map_err(|source| Error::Memory {
                operation: "mapping memory for the device",
                bytes,
                source,
            })
        };
        let watch = map(libc::PROT_READ | libc::PROT_WRITE, true)?;
        watch.touch();
        let target = match presence {
            Presence::ReadOnly => map(libc::PROT_READ, true)?,
            Presence::Absent => map(libc::PROT_READ | libc::PROT_WRITE, false)?,
            Presence::Resident | Presence::Straddling | Presence::Untouched | Presence::Unmapped => {
                let target = map(libc::PROT_READ | libc::PROT_WRITE, true)?;
                target.touch();
                target
            }
        };
        let mut memory = self.memory();
        let watch = memory.keep(watch);
        Ok((memory.keep(target), Some(watch)))
    }

    /// Writes a descriptor list. It stays as it is until the queue is closed, so that the device never reads a half-made one. The
    /// elements from `absent_from` on begin a page, which [`WorkQueue::arm_batch`] makes absent.
    pub fn batch(&self, elements: &[Work], absent_from: Option<u16>) -> Result<Batch, Error> {
        let operation = "making a batch";
        let invalid = |problem: String| Error::Invalid { operation, problem };
        let descriptors = u32::try_from(elements.len()).ok().filter(|&count| count >= 2);
        let descriptors = descriptors.ok_or_else(|| invalid(format!("{} descriptors", elements.len())))?;
        let before = usize::from(absent_from.unwrap_or(0)) * descriptor::BYTES;
        let border = before.next_multiple_of(PAGE);
        let offset = border - before;
        let bytes = (offset + elements.len() * descriptor::BYTES).next_multiple_of(PAGE);
        if border >= bytes {
            return Err(invalid(format!("no element {before} of {descriptors}")));
        }
        for element in elements {
            self.check(element)?;
            if element.is_batch() {
                return Err(invalid("a batch inside a batch".into()));
            }
        }
        let (address, watch) = self.map(Presence::Absent, bytes)?;
        let watch = watch.ok_or_else(|| invalid("no memory to write to".into()))?;
        for (index, element) in elements.iter().enumerate() {
            let words: [u64; 8] = transmute!(element.bytes());
            let at = watch + (offset + index * descriptor::BYTES) as u64;
            for (word, value) in (0..).zip(words) {
                // SAFETY: inside the mapping made above, whose size covers all elements.
                unsafe { memory::store_u64(at + 8 * word, value) };
            }
        }
        for page in (address..address + bytes as u64).step_by(PAGE) {
            // SAFETY: mapped writable above.
            unsafe { memory::bring_page(page) };
        }
        self.memory().allow(address, bytes, Use::List);
        let absent = absent_from.map(|_| (address + border as u64, bytes - border));
        Ok(Batch { queue: self.id, list: address + offset as u64, descriptors, absent })
    }

    /// Makes a record ready for its next use: status zero, and an absent page absent again.
    pub fn arm(&self, record: Record) -> Result<(), Error> {
        self.own(record.queue)?;
        if let Some(watch) = record.watch {
            for word in 0..RECORD_WORDS {
                // SAFETY: the watching page is mapped writable as long as this queue is open; a record in two pages has two.
                unsafe { memory::store_u64(watch + 8 * word, 0) };
            }
        }
        if record.presence == Presence::Absent {
            // SAFETY: a page of a shared mapping of a memory file; packed records lie within pages.
            unsafe { memory::forget_pages(record.address / PAGE as u64 * PAGE as u64, PAGE)? };
        }
        Ok(())
    }

    /// Makes the pages of `bytes` at `offset` absent; both are whole pages.
    pub fn forget(&self, span: Span, offset: usize, bytes: usize) -> Result<(), Error> {
        self.own(span.queue)?;
        let operation = "making pages absent";
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= span.bytes.next_multiple_of(PAGE));
        if !inside || !offset.is_multiple_of(PAGE) {
            return Err(Error::OutOfSpan { operation, offset, bytes, span: span.bytes });
        }
        if span.watch.is_none() {
            return Err(Error::Invalid { operation, problem: "there are none".into() });
        }
        // SAFETY: a span that has a second mapping is a shared mapping of a memory file.
        unsafe { memory::forget_pages(span.address + offset as u64, bytes) }
    }

    /// Makes a batch's list ready for its next use: the pages behind its border, when it has one, are there or not.
    pub fn arm_batch(&self, batch: &Batch, absent: bool) -> Result<(), Error> {
        self.own(batch.queue)?;
        match batch.absent {
            // SAFETY: pages of a shared mapping of a memory file.
            Some((address, bytes)) if absent => unsafe { memory::forget_pages(address, bytes) },
            Some((address, bytes)) => {
                for page in (address..address + bytes as u64).step_by(PAGE) {
                    // SAFETY: mapped writable as long as this queue is open.
                    unsafe { memory::bring_page(page) };
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Makes all pages of a span present.
    pub fn bring_all(&self, span: Span) -> Result<(), Error> {
        (0..span.bytes).step_by(PAGE).try_for_each(|offset| self.bring(span.address + offset as u64))
    }

    /// Makes the page of an operand or a list present, so that a partial completion can be resumed.
    pub fn bring(&self, address: u64) -> Result<(), Error> {
        match self.read_memory().at(address, 1) {
            // SAFETY: both are mapped writable as long as this queue is open.
            Some(Use::Data | Use::List) => unsafe { memory::bring_page(address) },
            Some(Use::Forbidden) | None => {
                let problem = format!("{address:#x} is not memory that can be brought in");
                return Err(Error::Invalid { operation: "making a page present", problem });
            }
        }
        Ok(())
    }

    /// How often a shared WQ, offered a descriptor by this process, said that it is full. By write(2): as often as the driver gave up.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Sends a descriptor. A dedicated WQ does not say whether it took it: keep no more outstanding than its size. A shared one
    /// does: [`Error::Full`] is a reason to come back later.
    pub fn submit(&self, work: &Work) -> Result<(), Error> {
        self.check(work)?;
        let descriptor = work.bytes();
        let accepted = match (&self.way, self.submission) {
            (Way::Portal(portal), Submission::Enqcmd { attempts }) => (0..attempts.max(1)).any(|_| {
                // SAFETY: every address was checked to be memory of this queue or a handle's; all that lives until it is closed, lists
                // of batches hold what was checked when they were made, and holes are never mapped. That the CPU has the instruction
                // was checked when the queue was opened.
                let accepted = unsafe { portal.enqueue(&descriptor) };
                self.retries.fetch_add(u64::from(!accepted), Ordering::Relaxed);
                accepted
            }),
            (Way::Portal(portal), how) => {
                // SAFETY: as above.
                unsafe { portal.store(&descriptor, how == Submission::Movdir64b) };
                true
            }
            (Way::Driver, _) => self.submit_by_write(&descriptor)?,
            #[cfg(test)]
            (Way::StandIn(device), _) => {
                let accepted = device.take(&descriptor);
                self.retries.fetch_add(u64::from(!accepted), Ordering::Relaxed);
                accepted
            }
        };
        if accepted { Ok(()) } else { Err(Error::Full { path: self.path.clone() }) }
    }

    /// By the driver; false: it found the WQ full as often as it tries.
    fn submit_by_write(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        usdt::submit(descriptor, 0, How::Write);
        match (&self.file).write(descriptor.as_bytes()) {
            Ok(bytes) if bytes == size_of::<Descriptor>() => Ok(true),
            Ok(bytes) => {
                let problem = format!("the driver took {bytes} bytes of a descriptor");
                Err(Error::Invalid { operation: "submitting by write", problem })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.retries.fetch_add(1, Ordering::Relaxed);
                Ok(false)
            }
            Err(source) => Err(Error::Write { path: self.path.clone(), source }),
        }
    }

    /// A DSA record, once its status is there. Its own page is not touched. Always `None` for what cannot be written.
    pub fn completion(&self, record: Record) -> Result<Option<DsaCompletion>, Error> {
        let Some([a, b, c, d, ..]) = self.words_of(record)? else { return Ok(None) };
        Ok(Some(transmute!([a, b, c, d])))
    }

    /// An IAA record, likewise.
    pub fn iax_completion(&self, record: Record) -> Result<Option<IaxCompletion>, Error> {
        Ok(self.words_of(record)?.map(|words| transmute!(words)))
    }

    fn words_of(&self, record: Record) -> Result<Option<[u64; RECORD_WORDS as usize]>, Error> {
        self.own(record.queue)?;
        let Some(watch) = record.watch else { return Ok(None) };
        // SAFETY: the watching page is mapped as long as this queue is open.
        let status = unsafe { memory::load_u8(watch) };
        if status == 0 {
            return Ok(None);
        }
        // The status is written last, so what follows it in program order is complete.
        fence(Ordering::Acquire);
        usdt::seen(record.address, status);
        let mut words = [0; RECORD_WORDS as usize];
        for (word, value) in (0..).zip(&mut words) {
            // SAFETY: as above.
            *value = unsafe { memory::load_u64(watch + 8 * word) };
        }
        Ok(Some(words))
    }

    /// Waits for a DSA record, looking every 50 µs.
    pub fn wait(&self, record: Record, timeout: Duration) -> Result<Option<DsaCompletion>, Error> {
        let begin = Instant::now();
        loop {
            let completion = self.completion(record)?;
            if completion.is_some() || begin.elapsed() >= timeout {
                return Ok(completion);
            }
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// Writes bytes at `offset` (a multiple of 8), without touching the page that the device uses.
    pub fn write(&self, span: Span, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let address = self.watch_of("writing", span, offset, bytes.len())?;
        let (words, rest) = bytes.as_chunks::<8>();
        for (at, word) in (address..).step_by(8).zip(words) {
            // SAFETY: checked to lie in memory of this queue, aligned.
            unsafe { memory::store_u64(at, u64::from_le_bytes(*word)) };
        }
        for (at, byte) in (address + 8 * words.len() as u64..).zip(rest) {
            // SAFETY: as above.
            unsafe { memory::store_u8(at, *byte) };
        }
        Ok(())
    }

    /// Reads bytes at `offset` (a multiple of 8), likewise.
    pub fn read(&self, span: Span, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let address = self.watch_of("reading", span, offset, bytes.len())?;
        let (words, rest) = bytes.as_chunks_mut::<8>();
        let tail = address + 8 * words.len() as u64;
        for (at, word) in (address..).step_by(8).zip(words) {
            // SAFETY: checked to lie in memory of this queue, aligned.
            *word = unsafe { memory::load_u64(at) }.to_le_bytes();
        }
        for (at, byte) in (tail..).zip(rest) {
            // SAFETY: as above.
            *byte = unsafe { memory::load_u8(at) };
        }
        Ok(())
    }

    fn watch_of(
        &self,
        operation: &'static str,
        span: Span,
        offset: usize,
        bytes: usize,
    ) -> Result<u64, Error> {
        self.own(span.queue)?;
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= span.bytes);
        match span.watch {
            Some(watch) if inside && offset.is_multiple_of(8) => Ok(watch + offset as u64),
            _ => Err(Error::OutOfSpan { operation, offset, bytes, span: span.bytes }),
        }
    }

    /// Whether the device may be given this: nothing but memory of this queue is named.
    fn check(&self, work: &Work) -> Result<(), Error> {
        if let Some(record) = work.record {
            self.own(record.queue)?;
        }
        let d = &work.descriptor;
        let memory = self.read_memory();
        let own = if work.is_batch() {
            let bytes = u64::from(d.transfer_size) * descriptor::BYTES as u64;
            memory.at(d.source, bytes) == Some(Use::List)
        } else {
            let own = |o: &Operand| {
                o.bytes == 0 || matches!(memory.at(o.address, o.bytes), Some(Use::Data | Use::Forbidden))
            };
            operands(d).is_some_and(|operands| operands.iter().all(own))
        };
        if own { Ok(()) } else { Err(Error::ForeignMemory { path: self.path.clone() }) }
    }

    fn own(&self, queue: u64) -> Result<(), Error> {
        if queue == self.id { Ok(()) } else { Err(Error::ForeignMemory { path: self.path.clone() }) }
    }

    fn memory(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }
}
