//! Memory that a device may use: mappings, volatile accesses, and addresses where nothing is mapped.
//!
//! Owns: every mmap of this crate. Refuses: references into such memory, as a device may change it at any time.

use std::{
    collections::BTreeMap,
    ffi::c_int,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use crate::{Error, PAGE};

/// An mmap, undone when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: u64,
    bytes: usize,
}

impl Mapping {
    /// Anonymous, private, read-write; `populate` makes every page present.
    pub(crate) fn anonymous(bytes: usize, populate: bool) -> Result<Self, Error> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | if populate { libc::MAP_POPULATE } else { 0 };
        Self::map(bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1).map_err(|source| Error::Memory {
            operation: "mapping anonymous memory",
            bytes,
            source,
        })
    }

    /// The first `bytes` of `file`, shared.
    pub(crate) fn of_file(file: &File, bytes: usize, protection: c_int, populate: bool) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | if populate { libc::MAP_POPULATE } else { 0 };
        Self::map(bytes, protection, flags, file.as_raw_fd())
    }

    fn map(bytes: usize, protection: c_int, flags: c_int, fd: c_int) -> io::Result<Self> {
        // SAFETY: no MAP_FIXED, so nothing that exists is replaced; the kernel checks the rest.
        let address = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address: address as u64, bytes })
    }

    pub(crate) const fn address(&self) -> u64 {
        self.address
    }

    /// Makes every page present and writable.
    pub(crate) fn touch(&self) {
        for offset in (0..self.bytes).step_by(PAGE) {
            // SAFETY: the offset lies in this mapping, and callers touch writable mappings only.
            unsafe { store_u64(self.address + offset as u64, 0) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this object owns the range, and nothing keeps a reference into it.
        unsafe { libc::munmap(self.address as *mut _, self.bytes) };
    }
}

/// A file in memory without a name, of `bytes` zeros.
pub(crate) fn memory_file(bytes: usize) -> Result<File, Error> {
    let error = |source| Error::Memory { operation: "creating a memory file", bytes, source };
    // SAFETY: the name is a valid C string.
    let fd = unsafe { libc::memfd_create(c"device memory".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(error(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(bytes as u64).map_err(error)?;
    Ok(file)
}

/// Takes the pages of `bytes` from `address` on out of this process' page table; the file behind them keeps its content.
///
/// # Safety
/// They belong to a shared mapping of a file, so that no content is lost.
pub(crate) unsafe fn forget_pages(address: u64, bytes: usize) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    if unsafe { libc::madvise(address as *mut _, bytes, libc::MADV_DONTNEED) } != 0 {
        let source = io::Error::last_os_error();
        return Err(Error::Memory { operation: "taking pages out of the page table", bytes, source });
    }
    Ok(())
}

/// Brings the page of `address` into this process' page table, that page alone: a read would bring its neighbours too.
///
/// # Safety
/// `address` is mapped writable.
pub(crate) unsafe fn bring_page(address: u64) {
    // An exchange, as the processor writes in any case; an atomic operation that adds nothing is left out by the compiler.
    // SAFETY: the caller's promise; an atomic access, and one that changes nothing, as the device may use the page meanwhile.
    let byte = unsafe { AtomicU8::from_ptr(address as *mut u8) };
    let _ = byte.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
}

/// What may be at an address that a descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Operands, mapped writable.
    Data,
    /// Operands that the device cannot reach, or not write.
    Forbidden,
    /// Lists of batches: nobody but this crate writes there.
    List,
}

/// All memory of one queue.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    mappings: Vec<Mapping>,
    /// By first address: the one behind the last, and what for.
    regions: BTreeMap<u64, (u64, Use)>,
}

impl Memory {
    /// Keeps a mapping as long as this lives; its address.
    pub(crate) fn keep(&mut self, mapping: Mapping) -> u64 {
        let address = mapping.address();
        self.mappings.push(mapping);
        address
    }

    pub(crate) fn allow(&mut self, address: u64, bytes: usize, what: Use) {
        self.regions.insert(address, (address + bytes as u64, what));
    }

    /// What all of `bytes` from `address` on may be used for.
    pub(crate) fn at(&self, address: u64, bytes: u64) -> Option<Use> {
        let (_, &(end, what)) = self.regions.range(..=address).next_back()?;
        address.checked_add(bytes).is_some_and(|last| last <= end).then_some(what)
    }
}

/// Where holes begin: far from the program, its heap and the top-down area that mmap hands out, so that no later mapping of this
/// process lands in a hole.
static NEXT_HOLE: AtomicU64 = AtomicU64::new(0x1000_0000_0000);

/// An address with `bytes` behind it where nothing is mapped.
pub(crate) fn hole(bytes: usize) -> Result<u64, Error> {
    let error = |source| Error::Memory { operation: "looking for unmapped addresses", bytes, source };
    let address = NEXT_HOLE.fetch_add(bytes as u64, Ordering::Relaxed);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE fails where something is mapped.
    let taken = unsafe { libc::mmap(address as *mut _, bytes, libc::PROT_NONE, flags, -1, 0) };
    if taken == libc::MAP_FAILED {
        return Err(error(io::Error::last_os_error()));
    }
    // SAFETY: just mapped here, and used by nobody.
    if unsafe { libc::munmap(taken, bytes) } != 0 {
        return Err(error(io::Error::last_os_error()));
    }
    Ok(address)
}

/// # Safety
/// `address` is mapped readable and a multiple of 8.
pub(crate) unsafe fn load_u64(address: u64) -> u64 {
    // SAFETY: the caller's promise; volatile, as the device or the driver may write meanwhile.
    unsafe { (address as *const u64).read_volatile() }
}

/// # Safety
/// `address` is mapped writable, a multiple of 8, and belongs to memory of this crate.
pub(crate) unsafe fn store_u64(address: u64, value: u64) {
    // SAFETY: the caller's promise; volatile, as the device may read meanwhile.
    unsafe { (address as *mut u64).write_volatile(value) };
}

/// # Safety
/// `address` is mapped writable and belongs to memory of this crate.
pub(crate) unsafe fn store_u8(address: u64, value: u8) {
    // SAFETY: the caller's promise; volatile, as the device may read meanwhile.
    unsafe { (address as *mut u8).write_volatile(value) };
}

/// # Safety
/// `address` is mapped readable.
pub(crate) unsafe fn load_u8(address: u64) -> u8 {
    // SAFETY: the caller's promise; volatile, as the device or the driver may write meanwhile.
    unsafe { (address as *const u8).read_volatile() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_descriptor_names_lies_in_one_region() {
        let mut memory = Memory::default();
        memory.allow(0x1000, PAGE, Use::Data);
        memory.allow(0x2000, PAGE, Use::List);
        assert_eq!(memory.at(0x1000, 4096), Some(Use::Data));
        assert_eq!(memory.at(0x2fff, 1), Some(Use::List));
        for (address, bytes) in [(0xfff, 1), (0x1001, 4096), (0x1fff, 2), (0x3000, 1), (0x2000, u64::MAX)] {
            assert_eq!(memory.at(address, bytes), None, "{address:#x} {bytes}");
        }
    }
}
