//! An open work queue: its file, portal and memory.
//!
//! Owns: which memory the device may use and how long it lives. Refuses: telling when a record that cannot be written would have
//! come; the driver's counters say that.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering, fence},
    },
    thread,
    time::{Duration, Instant},
};

use dsascope_common::hw::completion::DsaCompletion;
use zerocopy::transmute;

use crate::{
    Batch, Error, PAGE, Submission, Work,
    memory::{self, Mapping},
    portal::Portal,
};

/// What the device and the driver find at a completion record's address.
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
}

/// Memory of a queue, page aligned at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub(crate) queue: u64,
    pub(crate) address: u64,
    pub(crate) bytes: usize,
}

impl Span {
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first `bytes` of this span.
    pub fn first(&self, bytes: usize) -> Result<Self, Error> {
        if bytes > self.bytes {
            return Err(Error::OutOfSpan { operation: "shortening", offset: 0, bytes, span: self.bytes });
        }
        Ok(Self { bytes, ..*self })
    }
}

/// A completion record with a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) queue: u64,
    /// Where the device and the driver write.
    pub(crate) address: u64,
    /// The same page at a second address, through which it is looked at without touching the first.
    pub(crate) watch: Option<u64>,
    pub(crate) presence: Presence,
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

static NEXT_QUEUE: AtomicU64 = AtomicU64::new(1);

/// Fields are dropped in this order: the portal and the file first, whereupon the driver drains the WQ; then the memory.
#[derive(Debug)]
pub struct WorkQueue {
    portal: Portal,
    file: File,
    memory: Mutex<Vec<Mapping>>,
    path: PathBuf,
    submission: Submission,
    /// Names this object in handles.
    id: u64,
}

impl WorkQueue {
    /// Opens a dedicated work queue (`/dev/dsa/wqN.M`) and maps its portal.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| Error::Open { path: path.into(), source })?;
        let portal = Portal::map(&file).map_err(|source| Error::MapPortal { path: path.into(), source })?;
        Ok(Self {
            portal,
            file,
            memory: Mutex::default(),
            path: path.into(),
            submission: Submission::detect(),
            id: NEXT_QUEUE.fetch_add(1, Ordering::Relaxed),
        })
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

    /// Present, writable memory of zeros; `bytes` is rounded up to whole pages for the mapping, not for the span.
    pub fn span(&self, bytes: usize) -> Result<Span, Error> {
        let mapping = Mapping::anonymous(bytes.max(1).next_multiple_of(PAGE), true)?;
        mapping.touch();
        let address = self.keep(mapping);
        Ok(Span { queue: self.id, address, bytes })
    }

    /// `count` completion records, each in a page of its own.
    pub fn records(&self, presence: Presence, count: usize) -> Result<Vec<Record>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let bytes = count * PAGE;
        let record = |address, watch| Record { queue: self.id, address, watch, presence };
        let offsets = (0..count).map(|index| (index * PAGE) as u64);
        if presence == Presence::Unmapped {
            let hole = memory::hole(bytes)?;
            return Ok(offsets.map(|offset| record(hole + offset, None)).collect());
        }
        if presence == Presence::Untouched {
            let target = self.keep(Mapping::anonymous(bytes, false)?);
            return Ok(offsets.map(|offset| record(target + offset, None)).collect());
        }
        let file = memory::memory_file(bytes)?;
        let map = |protection, populate| {
            Mapping::of_file(&file, bytes, protection, populate).map_err(|source| Error::Memory {
                operation: "mapping completion records",
                bytes,
                source,
            })
        };
        let watch = map(libc::PROT_READ | libc::PROT_WRITE, true)?;
        watch.touch();
        let target = match presence {
            Presence::Resident => {
                let target = map(libc::PROT_READ | libc::PROT_WRITE, true)?;
                target.touch();
                target
            }
            Presence::ReadOnly => map(libc::PROT_READ, true)?,
            Presence::Absent | Presence::Untouched | Presence::Unmapped => {
                map(libc::PROT_READ | libc::PROT_WRITE, false)?
            }
        };
        let (watch, target) = (self.keep(watch), self.keep(target));
        Ok(offsets.map(|offset| record(target + offset, Some(watch + offset))).collect())
    }

    /// Writes a descriptor list. It stays as it is until the queue is closed, so that the device never reads a half-made one.
    pub fn batch(&self, elements: &[Work]) -> Result<Batch, Error> {
        let operation = "making a batch";
        let descriptors =
            u32::try_from(elements.len()).ok().filter(|&count| count >= 2).ok_or_else(|| Error::Invalid {
                operation,
                problem: format!("{} descriptors", elements.len()),
            })?;
        let mapping = Mapping::anonymous((elements.len() * 64).next_multiple_of(PAGE), true)?;
        mapping.touch();
        for (index, element) in elements.iter().enumerate() {
            self.check(element)?;
            if matches!(element.operation, crate::Operation::Batch(_)) {
                return Err(Error::Invalid { operation, problem: "a batch inside a batch".into() });
            }
            let words: [u64; 8] = transmute!(element.descriptor()?);
            let descriptor = mapping.address() + 64 * index as u64;
            for (word, value) in words.into_iter().enumerate() {
                // SAFETY: inside the mapping made above, whose size covers all elements.
                unsafe { memory::store_u64(descriptor + 8 * word as u64, value) };
            }
        }
        Ok(Batch { queue: self.id, list: self.keep(mapping), descriptors })
    }

    /// Makes a record ready for its next use: status zero, and an absent page absent again.
    pub fn arm(&self, record: Record) -> Result<(), Error> {
        self.own(record.queue)?;
        if let Some(watch) = record.watch {
            for word in 0..4 {
                // SAFETY: the watching page is mapped writable as long as this queue is open.
                unsafe { memory::store_u64(watch + 8 * word, 0) };
            }
        }
        if record.presence == Presence::Absent {
            // SAFETY: a page of a shared mapping of a memory file.
            unsafe { memory::forget_page(record.address)? };
        }
        Ok(())
    }

    /// Sends a descriptor. A dedicated WQ does not say whether it took it: keep no more outstanding than its size.
    pub fn submit(&self, work: &Work) -> Result<(), Error> {
        self.check(work)?;
        let descriptor = work.descriptor()?;
        // SAFETY: every address comes from a handle of this queue; spans, lists and records' pages live until it is closed, and
        // holes are never mapped.
        unsafe { self.portal.send(&descriptor, self.submission) };
        Ok(())
    }

    /// The record, once its status is there. Its own page is not touched. Always `None` for what cannot be written.
    pub fn completion(&self, record: Record) -> Result<Option<DsaCompletion>, Error> {
        self.own(record.queue)?;
        let Some(watch) = record.watch else { return Ok(None) };
        // SAFETY: the watching page is mapped as long as this queue is open.
        if unsafe { memory::load_u8(watch) } == 0 {
            return Ok(None);
        }
        // The status is written last, so what follows it in program order is complete.
        fence(Ordering::Acquire);
        let mut words = [0u64; 4];
        for (word, value) in words.iter_mut().enumerate() {
            // SAFETY: as above.
            *value = unsafe { memory::load_u64(watch + 8 * word as u64) };
        }
        Ok(Some(transmute!(words)))
    }

    /// Waits for a record, looking every 50 µs.
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

    /// Writes eight bytes at `offset` (a multiple of 8).
    pub fn write_u64(&self, span: Span, offset: usize, value: u64) -> Result<(), Error> {
        let address = self.address_in("writing", span, offset)?;
        // SAFETY: checked to lie in memory of this queue, aligned.
        unsafe { memory::store_u64(address, value) };
        Ok(())
    }

    /// Reads eight bytes at `offset` (a multiple of 8).
    pub fn read_u64(&self, span: Span, offset: usize) -> Result<u64, Error> {
        let address = self.address_in("reading", span, offset)?;
        // SAFETY: checked to lie in memory of this queue, aligned.
        Ok(unsafe { memory::load_u64(address) })
    }

    fn address_in(&self, operation: &'static str, span: Span, offset: usize) -> Result<u64, Error> {
        self.own(span.queue)?;
        if !offset.is_multiple_of(8) || offset.checked_add(8).is_none_or(|end| end > span.bytes) {
            return Err(Error::OutOfSpan { operation, offset, bytes: 8, span: span.bytes });
        }
        Ok(span.address + offset as u64)
    }

    fn check(&self, work: &Work) -> Result<(), Error> {
        if work.belongs_to(self.id) { Ok(()) } else { Err(Error::ForeignMemory { path: self.path.clone() }) }
    }

    fn own(&self, queue: u64) -> Result<(), Error> {
        if queue == self.id { Ok(()) } else { Err(Error::ForeignMemory { path: self.path.clone() }) }
    }

    fn keep(&self, mapping: Mapping) -> u64 {
        let address = mapping.address();
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(mapping);
        address
    }
}
