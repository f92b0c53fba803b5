//! The portal page of a work queue, and the ways to send 64 bytes through it.
//!
//! Owns: the stores. Refuses: looking into descriptors.

use std::{
    fs::File,
    io,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use dsascope_common::hw::descriptor::Descriptor;
use zerocopy::transmute;

use crate::{
    PAGE,
    memory::{Mapping, store_u64},
};

/// How a descriptor reaches a dedicated work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// One 64-byte store: what the hardware asks for.
    Movdir64b,
    /// Eight 8-byte stores: understood by the testbed's device model only, for CPUs without the instruction.
    PlainStores,
}

impl Submission {
    /// MOVDIR64B where it works. CPUID alone is not believed: the testbed's CPU names the instruction (the driver insists on it)
    /// and does not have it.
    #[must_use]
    pub fn detect() -> Self {
        if movdir64b::works() { Self::Movdir64b } else { Self::PlainStores }
    }
}

/// 64-byte slots of the portal page.
const SLOTS: u64 = PAGE as u64 / 64;

#[derive(Debug)]
pub(crate) struct Portal {
    page: Mapping,
    /// Submissions so far; each begins to look for its slot one further.
    sent: AtomicU64,
    /// Slots that a thread is storing to, a bit each. Eight stores can be interrupted halfway, for longer than the other threads need
    /// to come round to the same slot.
    taken: AtomicU64,
}

impl Portal {
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        let page = Mapping::of_file(file, PAGE, libc::PROT_READ | libc::PROT_WRITE, true)?;
        Ok(Self { page, sent: AtomicU64::new(0), taken: AtomicU64::new(0) })
    }

    /// A slot that no other thread is storing to.
    fn take_slot(&self) -> u64 {
        loop {
            let slot = self.sent.fetch_add(1, Ordering::Relaxed) % SLOTS;
            if self.taken.fetch_or(1 << slot, Ordering::Acquire) & 1 << slot == 0 {
                return slot;
            }
            std::hint::spin_loop();
        }
    }

    /// # Safety
    /// The memory that the descriptor names belongs to this crate's mappings and lives until the file is closed.
    pub(crate) unsafe fn send(&self, descriptor: &Descriptor, how: Submission) {
        let taken = self.take_slot();
        let slot = self.page.address() + taken * 64;
        // Whatever the descriptor points to must be visible before it.
        fence(Ordering::SeqCst);
        match how {
            // SAFETY: the slot is 64 bytes inside the mapped page, 64-byte aligned.
            Submission::Movdir64b => unsafe { movdir64b::store(slot, descriptor) },
            Submission::PlainStores => {
                let words: [u64; 8] = transmute!(*descriptor);
                for (address, word) in (slot..).step_by(8).zip(words) {
                    // SAFETY: eight words inside the slot.
                    unsafe { store_u64(address, word) };
                }
            }
        }
        self.taken.fetch_and(!(1 << taken), Ordering::Release);
    }
}

#[cfg(target_arch = "x86_64")]
mod movdir64b {
    use std::{arch::asm, sync::OnceLock};

    use dsascope_common::hw::descriptor::Descriptor;

    /// # Safety
    /// `to` is mapped writable, 64-byte aligned, and the CPU has the instruction.
    pub(super) unsafe fn store(to: u64, from: &Descriptor) {
        // SAFETY: movdir64b rax, [rdx] reads 64 bytes at rdx and stores them at rax.
        unsafe {
            asm!(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02", in("rax") to, in("rdx") from, options(nostack, preserves_flags));
        }
    }

    /// CPUID says so, and a trial in a child process survives.
    pub(super) fn works() -> bool {
        static WORKS: OnceLock<bool> = OnceLock::new();
        *WORKS.get_or_init(|| {
            let leaf = core::arch::x86_64::__cpuid_count(7, 0);
            leaf.ecx >> 28 & 1 == 1 && trial()
        })
    }

    extern "C" fn not_there(_signal: libc::c_int) {
        // SAFETY: async-signal-safe; ends the child.
        unsafe { libc::_exit(1) };
    }

    fn trial() -> bool {
        let source = Descriptor::default();
        let target = Descriptor::default();
        // SAFETY: the child makes async-signal-safe calls only, and ends by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: both are 64 bytes, aligned, and the child's own copies; then the child ends without unwinding. The signal is
            // handled only so that the kernel does not log it.
            unsafe {
                libc::signal(libc::SIGILL, not_there as *const () as libc::sighandler_t);
                store(&raw const target as u64, &source);
                libc::_exit(0);
            }
        }
        let mut status = -1;
        // SAFETY: waits for the child made above; status is valid for writing.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        child > 0 && waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod movdir64b {
    use dsascope_common::hw::descriptor::Descriptor;

    /// # Safety
    /// Never called, as [`works`] is false.
    pub(super) unsafe fn store(_to: u64, _from: &Descriptor) {}

    pub(super) fn works() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_being_stored_to_is_passed_over() -> Result<(), crate::Error> {
        let page = Mapping::anonymous(PAGE, true)?;
        let free = 1 << 5 | 1 << 40;
        let portal = Portal { page, sent: AtomicU64::new(0), taken: AtomicU64::new(!free) };
        assert_eq!((portal.take_slot(), portal.take_slot()), (5, 40));
        Ok(())
    }
}
