//! The portal page of a work queue, and the ways to send 64 bytes through it.
//!
//! Owns: the stores. Refuses: looking into descriptors.

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use dsascope_common::{hw::descriptor::Descriptor, wire::how};
use zerocopy::transmute;

use crate::{
    PAGE,
    memory::{Mapping, store_u64},
    usdt,
};

/// How a descriptor reaches a work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// To a dedicated WQ, one 64-byte store: what the hardware asks for.
    Movdir64b,
    /// To a dedicated WQ, eight 8-byte stores: understood by the testbed's device model only, for CPUs without the instruction.
    PlainStores,
    /// To a shared WQ, which answers whether it accepts the descriptor; at most `attempts` times in a row while it does not.
    Enqcmd { attempts: u32 },
    /// To either, by write(2): the driver submits. Needs no mapped portal, and with it no CAP_SYS_RAWIO.
    Write,
}

/// The same to dsascope's probes: see [`crate::usdt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum How {
    Movdir64b = how::MOVDIR64B,
    Enqcmd = how::ENQCMD,
    PlainStores = how::STORES,
    Write = how::WRITE,
}

/// The testbed's emulation; CPUID does not tell of it.
const EMULATION: &str = "/sys/module/enqcmd_emulation";

impl Submission {
    /// For a dedicated WQ: MOVDIR64B where it works. CPUID alone is not believed: the testbed's CPU names the instruction (the driver
    /// insists on it) and does not have it.
    #[must_use]
    pub fn detect() -> Self {
        if instructions::movdir64b_works() { Self::Movdir64b } else { Self::PlainStores }
    }

    /// Whether this machine can do it.
    #[must_use]
    pub fn works(self) -> bool {
        match self {
            Self::PlainStores | Self::Write => true,
            Self::Movdir64b => instructions::movdir64b_works(),
            Self::Enqcmd { .. } => instructions::cpu_has_enqcmd() || Path::new(EMULATION).exists(),
        }
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

    /// Stores the descriptor to a dedicated WQ.
    ///
    /// # Safety
    /// The memory that the descriptor names belongs to this crate's mappings and lives until the file is closed. With `wide`, the CPU
    /// has MOVDIR64B.
    pub(crate) unsafe fn store(&self, descriptor: &Descriptor, wide: bool) {
        self.in_a_slot(|slot| {
            usdt::submit(descriptor, slot, if wide { How::Movdir64b } else { How::PlainStores });
            if wide {
                // SAFETY: the slot is 64 bytes inside the mapped page, 64-byte aligned; the caller's promise.
                unsafe { instructions::movdir64b(slot, descriptor) };
            } else {
                let words: [u64; 8] = transmute!(*descriptor);
                for (address, word) in (slot..).step_by(8).zip(words) {
                    // SAFETY: eight words inside the slot.
                    unsafe { store_u64(address, word) };
                }
            }
        });
    }

    /// Offers the descriptor to a shared WQ once; whether it was accepted.
    ///
    /// # Safety
    /// As of [`Portal::store`]; the CPU has ENQCMD.
    pub(crate) unsafe fn enqueue(&self, descriptor: &Descriptor) -> bool {
        self.in_a_slot(|slot| {
            usdt::submit(descriptor, slot, How::Enqcmd);
            // SAFETY: the slot is 64 bytes inside the mapped page, 64-byte aligned; the caller's promise.
            let accepted = unsafe { instructions::enqcmd(slot, descriptor) };
            if !accepted {
                usdt::refused();
            }
            accepted
        })
    }

    fn in_a_slot<T>(&self, send: impl FnOnce(u64) -> T) -> T {
        let taken = self.take_slot();
        // Whatever the descriptor points to must be visible before it.
        fence(Ordering::SeqCst);
        let sent = send(self.page.address() + taken * 64);
        self.taken.fetch_and(!(1 << taken), Ordering::Release);
        sent
    }
}

#[cfg(target_arch = "x86_64")]
mod instructions {
    use std::{arch::asm, sync::OnceLock};

    use dsascope_common::hw::descriptor::Descriptor;

    /// Bits of CPUID.7.0:ECX.
    const MOVDIR64B: u32 = 28;
    const ENQCMD: u32 = 29;

    fn cpu_names(bit: u32) -> bool {
        core::arch::x86_64::__cpuid_count(7, 0).ecx >> bit & 1 == 1
    }

    pub(super) fn cpu_has_enqcmd() -> bool {
        cpu_names(ENQCMD)
    }

    /// Whether the WQ accepted the descriptor.
    ///
    /// # Safety
    /// `to` is a slot of a portal page, 64-byte aligned, and the CPU has the instruction.
    pub(super) unsafe fn enqcmd(to: u64, from: &Descriptor) -> bool {
        let refused: u8;
        // SAFETY: enqcmd rax, [rdx] reads 64 bytes at rdx and sends them to rax; the zero flag says that they were not accepted.
        unsafe {
            asm!(
                ".byte 0xf2, 0x0f, 0x38, 0xf8, 0x02",
                "setz {}",
                out(reg_byte) refused,
                in("rax") to,
                in("rdx") from,
                options(nostack),
            );
        }
        refused == 0
    }

    /// # Safety
    /// `to` is mapped writable, 64-byte aligned, and the CPU has the instruction.
    pub(super) unsafe fn movdir64b(to: u64, from: &Descriptor) {
        // SAFETY: movdir64b rax, [rdx] reads 64 bytes at rdx and stores them at rax.
        unsafe {
            asm!(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02", in("rax") to, in("rdx") from, options(nostack, preserves_flags));
        }
    }

    /// CPUID says so, and a trial in a child process survives.
    pub(super) fn movdir64b_works() -> bool {
        static WORKS: OnceLock<bool> = OnceLock::new();
        *WORKS.get_or_init(|| cpu_names(MOVDIR64B) && trial())
    }

    extern "C" fn not_there(_signal: libc::c_int) {
        // SAFETY: async-signal-safe; ends the child.
        unsafe { libc::_exit(1) };
    }

    fn trial() -> bool {
        let source = Descriptor::default();
        let mut target = Descriptor::default();
        // SAFETY: the child makes async-signal-safe calls only, and ends by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: both are 64 bytes, aligned, and the child's own copies; then the child ends without unwinding. The signal is
            // handled only so that the kernel does not log it.
            unsafe {
                libc::signal(libc::SIGILL, not_there as *const () as libc::sighandler_t);
                // The testbed's emulation takes no page fault.
                (&raw mut target).write_volatile(source);
                movdir64b(&raw mut target as u64, &source);
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
mod instructions {
    use dsascope_common::hw::descriptor::Descriptor;

    /// # Safety
    /// Never called, as [`movdir64b_works`] is false.
    pub(super) unsafe fn movdir64b(_to: u64, _from: &Descriptor) {}

    /// # Safety
    /// Never called, as [`cpu_has_enqcmd`] is false.
    pub(super) unsafe fn enqcmd(_to: u64, _from: &Descriptor) -> bool {
        false
    }

    pub(super) fn movdir64b_works() -> bool {
        false
    }

    pub(super) fn cpu_has_enqcmd() -> bool {
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
