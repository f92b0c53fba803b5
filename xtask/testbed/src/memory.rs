//! Guest physical memory: RAM that the peer hands over as file descriptors, mapped here, read and written with checks.
//!
//! Owns: the mappings. Refuses: addresses outside them, files shorter than the range they are said to back.
//! Ranges are sticky: a hypervisor takes mappings away and gives them back while firmware shuffles its address map, and once
//! the guest's own remapping unit is on it may never give them back; the file behind them stays the same.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use nix::sys::mman::{MapFlags, ProtFlags};

/// Bytes. Smaller ranges are firmware odds and ends that change hands while the machine starts; no guest RAM is that small.
const SMALLEST_RANGE: u64 = 0x1_0000;
const PAGE: u64 = 4096;
/// More ranges than any machine has; a peer cannot make the table grow without bound.
const MAX_RANGES: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error("no guest memory at {address:#x} for {bytes} bytes")]
    Absent { address: u64, bytes: u64 },
    #[error("guest address {address:#x} is not aligned for an atomic access")]
    Unaligned { address: u64 },
}

#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("range {base:#x} of {size:#x} bytes at file offset {offset:#x} is not page-aligned or wraps")]
    Range { base: u64, size: u64, offset: u64 },
    #[error("range {base:#x} of {size:#x} bytes is longer than the file behind it ({file} bytes)")]
    File { base: u64, size: u64, file: u64 },
    #[error("more than {MAX_RANGES} memory ranges")]
    TooMany,
    #[error("cannot map range {base:#x} of {size:#x} bytes: {errno}")]
    System { base: u64, size: u64, errno: nix::errno::Errno },
}

/// What a range is backed by; the same for every device of a machine, so that RAM is mapped once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Backing {
    device: u64,
    inode: u64,
    offset: u64,
}

#[derive(Debug)]
struct Range {
    base: u64,
    size: u64,
    host: NonNull<u8>,
    backing: Backing,
}

// SAFETY: the mapping belongs to the Range until drop, and all accesses to it are atomic.
unsafe impl Send for Range {}
// SAFETY: as above.
unsafe impl Sync for Range {}

/// Integers that any bytes are valid for and that are shared without data races.
trait Atomic {}
impl Atomic for AtomicU8 {}
impl Atomic for AtomicU32 {}
impl Atomic for AtomicU64 {}

impl Range {
    /// The atomic cell of type `T` at `offset`, if it is inside the range and aligned.
    fn cell<T: Atomic>(&self, offset: u64) -> Option<&T> {
        let bytes = size_of::<T>() as u64;
        if offset.checked_add(bytes)? > self.size || !offset.is_multiple_of(bytes) {
            return None;
        }
        // SAFETY: offset + size_of::<T>() lies inside the mapping, which lives as long as self; the mapping is page-aligned, so
        // the cell is aligned; any bytes are a valid T (Atomic).
        Some(unsafe { self.host.add(offset as usize).cast::<T>().as_ref() })
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: host and size are what mmap returned and was asked for; nothing borrows from a dropped Range. An error leaves
        // the mapping in place, which is harmless.
        let _ = unsafe { nix::sys::mman::munmap(self.host.cast(), self.size as usize) };
    }
}

/// Shared by all devices of a machine. Accesses race with the guest's CPUs as DMA does: words are atomic, whole buffers are not.
#[derive(Debug, Default)]
pub struct GuestMemory {
    ranges: RwLock<Vec<Arc<Range>>>,
}

impl GuestMemory {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Map `size` bytes of `file` at `offset` as guest addresses from `base`; an older range of the same base is replaced.
    /// Ranges too small to be RAM are left out (`Ok(false)`).
    pub fn add(&self, base: u64, size: u64, file: impl AsFd, offset: u64) -> Result<bool, MapError> {
        let misaligned = [base, size, offset].iter().any(|v| !v.is_multiple_of(PAGE));
        let end = base.checked_add(size).and(offset.checked_add(size));
        let (Some(file_end), false, Ok(length)) = (end, misaligned, usize::try_from(size)) else {
            return Err(MapError::Range { base, size, offset });
        };
        if size < SMALLEST_RANGE {
            return Ok(false);
        }
        let stat =
            nix::sys::stat::fstat(file.as_fd()).map_err(|errno| MapError::System { base, size, errno })?;
        let file_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if file_end > file_bytes {
            // Touching a mapping past the end of its file would be a SIGBUS.
            return Err(MapError::File { base, size, file: file_bytes });
        }
        let backing = Backing { device: stat.st_dev, inode: stat.st_ino, offset };
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        if ranges.iter().any(|r| r.base == base && r.size == size && r.backing == backing) {
            return Ok(true);
        }
        ranges.retain(|r| r.base != base);
        if ranges.len() >= MAX_RANGES {
            return Err(MapError::TooMany);
        }
        let host =
            map(file.as_fd(), length, offset).map_err(|errno| MapError::System { base, size, errno })?;
        ranges.push(Arc::new(Range { base, size, host, backing }));
        Ok(true)
    }

    /// Forget all ranges, because the machine is gone.
    pub fn clear(&self) {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Bytes of RAM known.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ranges.read().unwrap_or_else(PoisonError::into_inner).iter().map(|r| r.size).sum()
    }

    fn with<T>(
        &self,
        address: u64,
        bytes: u64,
        access: impl FnOnce(&Range, u64) -> Option<T>,
    ) -> Result<T, MemoryError> {
        let absent = MemoryError::Absent { address, bytes };
        let end = address.checked_add(bytes).ok_or(absent)?;
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        // Newest first: a range that came later describes the machine as it is now.
        let range =
            ranges.iter().rev().find(|r| r.base <= address && end <= r.base + r.size).ok_or(absent)?;
        access(range, address - range.base).ok_or(absent)
    }

    /// Fill `into` from guest memory, words at a time.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.with(address, into.len() as u64, |range, mut at| {
            let mut rest = into;
            while !rest.is_empty() {
                let n = if at.is_multiple_of(8) && rest.len() >= 8 {
                    let word = range.cell::<AtomicU64>(at)?.load(Ordering::Relaxed);
                    rest[..8].copy_from_slice(&word.to_le_bytes());
                    8
                } else {
                    rest[0] = range.cell::<AtomicU8>(at)?.load(Ordering::Relaxed);
                    1
                };
                rest = &mut rest[n..];
                at += n as u64;
            }
            Some(())
        })
    }

    /// Write `from` to guest memory, words at a time.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.with(address, from.len() as u64, |range, mut at| {
            let mut rest = from;
            while let Some(&first) = rest.first() {
                let n = match rest.first_chunk::<8>() {
                    Some(word) if at.is_multiple_of(8) => {
                        range.cell::<AtomicU64>(at)?.store(u64::from_le_bytes(*word), Ordering::Relaxed);
                        8
                    }
                    _ => {
                        range.cell::<AtomicU8>(at)?.store(first, Ordering::Relaxed);
                        1
                    }
                };
                rest = &rest[n..];
                at += n as u64;
            }
            Some(())
        })
    }

    /// One aligned word, ordered before what is read afterwards.
    pub fn load_u64(&self, address: u64) -> Result<u64, MemoryError> {
        aligned(address, 8)?;
        self.with(address, 8, |r, at| Some(r.cell::<AtomicU64>(at)?.load(Ordering::Acquire)))
    }

    /// One aligned word that becomes visible after everything written before it: what the guest polls.
    pub fn store_u64(&self, address: u64, value: u64) -> Result<(), MemoryError> {
        aligned(address, 8)?;
        self.with(address, 8, |r, at| {
            r.cell::<AtomicU64>(at)?.store(value, Ordering::Release);
            Some(())
        })
    }

    /// As [`GuestMemory::store_u64`], 32 bits.
    pub fn store_u32(&self, address: u64, value: u32) -> Result<(), MemoryError> {
        aligned(address, 4)?;
        self.with(address, 4, |r, at| {
            r.cell::<AtomicU32>(at)?.store(value, Ordering::Release);
            Some(())
        })
    }

    /// Replace `old` by `new` at an aligned address; inside, the value found if it was another one.
    pub fn compare_exchange_u64(
        &self,
        address: u64,
        old: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, MemoryError> {
        aligned(address, 8)?;
        self.with(address, 8, |r, at| {
            let cell = r.cell::<AtomicU64>(at)?;
            Some(cell.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire))
        })
    }
}

fn aligned(address: u64, bytes: u64) -> Result<(), MemoryError> {
    if address.is_multiple_of(bytes) { Ok(()) } else { Err(MemoryError::Unaligned { address }) }
}

fn map(file: BorrowedFd<'_>, length: usize, offset: u64) -> Result<NonNull<u8>, nix::errno::Errno> {
    use nix::errno::Errno;
    let length = length.try_into().map_err(|_| Errno::EINVAL)?;
    let offset = offset.try_into().map_err(|_| Errno::EINVAL)?;
    // SAFETY: a fresh shared mapping at an address of the kernel's choice; it aliases no Rust object.
    let at = unsafe {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        nix::sys::mman::mmap(None, length, access, MapFlags::MAP_SHARED, file, offset)?
    };
    Ok(at.cast())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::fd::OwnedFd;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn ram_file(bytes: u64) -> OwnedFd {
        let fd = memfd_create("ram", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&fd, i64::try_from(bytes).unwrap()).unwrap();
        fd
    }

    pub(crate) fn ram(base: u64, bytes: u64) -> GuestMemory {
        let memory = GuestMemory::new();
        assert!(memory.add(base, bytes, ram_file(bytes), 0).unwrap());
        memory
    }

    #[test]
    fn ranges_are_checked() {
        let memory = GuestMemory::new();
        let file = ram_file(0x2_0000);
        assert!(matches!(memory.add(0x1001, 0x1_0000, &file, 0), Err(MapError::Range { .. })));
        assert!(matches!(
            memory.add(0u64.wrapping_sub(0x1000), 0x1_0000, &file, 0),
            Err(MapError::Range { .. })
        ));
        assert!(matches!(memory.add(0, 0x3_0000, &file, 0), Err(MapError::File { file: 0x2_0000, .. })));
        assert!(matches!(memory.add(0, 0x1_0000, &file, 0x1_1000), Err(MapError::File { .. })));
        assert!(!memory.add(0, 0x1000, &file, 0).unwrap(), "too small to be RAM");
        assert!(memory.add(0, 0x2_0000, &file, 0).unwrap());
        assert!(memory.add(0, 0x2_0000, &file, 0).unwrap());
        assert_eq!(memory.bytes(), 0x2_0000, "mapped once");
        let replacement = ram_file(0x2_0000);
        memory.write(8, &[7]).unwrap();
        assert!(memory.add(0, 0x2_0000, &replacement, 0).unwrap());
        assert_eq!(memory.load_u64(8).unwrap(), 0, "the newer file");
        memory.clear();
        assert_eq!(memory.load_u64(8), Err(MemoryError::Absent { address: 8, bytes: 8 }));
    }

    #[test]
    fn atomics_are_aligned_and_exchange() {
        let memory = ram(0x10_0000, 0x1_0000);
        assert_eq!(memory.load_u64(0x10_0004), Err(MemoryError::Unaligned { address: 0x10_0004 }));
        memory.store_u64(0x10_0008, 5).unwrap();
        assert_eq!(memory.compare_exchange_u64(0x10_0008, 4, 9), Ok(Err(5)));
        assert_eq!(memory.compare_exchange_u64(0x10_0008, 5, 9), Ok(Ok(5)));
        assert_eq!(memory.load_u64(0x10_0008), Ok(9));
        memory.store_u32(0x10_000c, 1).unwrap();
        assert_eq!(memory.load_u64(0x10_0008), Ok(1 << 32 | 9));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(at in 0u64..0x1_0000, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let memory = ram(0x4000_0000, 0x1_0000);
            let fits = at + bytes.len() as u64 <= 0x1_0000;
            prop_assert_eq!(memory.write(0x4000_0000 + at, &bytes).is_ok(), fits);
            if fits {
                let mut back = vec![0; bytes.len()];
                memory.read(0x4000_0000 + at, &mut back).unwrap();
                prop_assert_eq!(back, bytes);
            }
        }
    }
}
