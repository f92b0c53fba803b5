//! Everything a device remembers, behind one lock: registers, WQs with their queues, engines, the command under way.
//!
//! Owns: the data and small questions about it. Refuses: DMA and waiting, which happen without or around the lock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use dsascope_common::hw::descriptor::Descriptor;
use dsascope_common::hw::regs::{self, cmdstatus, gencfg, genstats, wqcfg};
use dsascope_common::hw::{PASID_MASK, bits};

use super::batch::Identifiers;
use super::command::Pending;
use super::completion::Report;
use super::halt::Injection;
use super::model::{ENGINES, GROUPS, Kind, VECTORS, WQS};
use super::paging::Asked;
use super::portal::Portal;
use crate::pci::ConfigSpace;

/// Dwords of one WQCFG.
pub(super) const WQCFG_DWORDS: usize = 16;

/// A descriptor on its way, with its WQ's configuration as it was when accepted.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Grows with each descriptor of the device.
    pub(super) sequence: u64,
    /// Of the device when accepted; a reset makes it old.
    pub(super) generation: u64,
    pub(super) wq: u8,
    pub(super) pasid: Option<u32>,
    pub(super) config: [u32; WQCFG_DWORDS],
    pub(super) descriptor: Descriptor,
}

impl Job {
    pub(super) fn current(&self) -> Current {
        Current { sequence: self.sequence, wq: self.wq, pasid: self.pasid }
    }
}

/// What an engine works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) sequence: u64,
    pub(super) wq: u8,
    pub(super) pasid: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Engine {
    pub(super) current: Option<Current>,
    /// Waits to be woken.
    pub(super) idle: bool,
    /// Page requests so far, modulo the groups it has for them.
    pub(super) requests: u16,
    pub(super) asked: Option<Asked>,
    /// An entry that it writes when its descriptor has ended, and how long after.
    pub(super) late: Option<Late>,
}

#[derive(Clone, Debug)]
pub(super) struct Late {
    pub(super) job: Job,
    pub(super) report: Report,
    pub(super) delay: Duration,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Wq {
    /// Dword 6 is made up when read.
    pub(super) config: [u32; WQCFG_DWORDS],
    /// `wqcfg::STATE_*`.
    pub(super) state: u32,
    pub(super) queue: VecDeque<Job>,
    /// Share of service used, in strides of 1/priority; the smallest is served next.
    pub(super) used: u64,
}

impl Wq {
    pub(super) fn size(&self) -> u32 {
        self.config[wqcfg::SIZE] & 0xffff
    }
    pub(super) fn threshold(&self) -> u32 {
        self.config[wqcfg::THRESHOLD] & 0xffff
    }
    pub(super) fn mode(&self) -> u32 {
        self.config[wqcfg::MODE]
    }
    pub(super) fn dedicated(&self) -> bool {
        self.mode() & wqcfg::MODE_DEDICATED != 0
    }
    pub(super) fn priority(&self) -> u32 {
        self.mode() >> wqcfg::MODE_PRIORITY_SHIFT & 0xf
    }
    pub(super) fn pasid(&self) -> u32 {
        self.mode() >> wqcfg::MODE_PASID_SHIFT & PASID_MASK
    }
    pub(super) fn pasid_enabled(&self) -> bool {
        self.mode() & wqcfg::MODE_PASID_ENABLE != 0
    }
    pub(super) fn enabled(&self) -> bool {
        self.state == wqcfg::STATE_ENABLED
    }
    /// Dword 6 as software reads it.
    pub(super) fn state_dword(&self) -> u32 {
        let occupancy = self.queue.len().min(0xffff) as u32;
        occupancy | wqcfg::MODE_SUPPORT | self.state << wqcfg::STATE_SHIFT
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    /// Bits; only the first word can be other than zero with [`WQS`] WQs, but all are stored.
    pub(super) wqs: [u64; 4],
    pub(super) engines: u64,
    pub(super) flags: u64,
}

/// Registers that keep what was written, or what the device last put there.
#[derive(Clone, Debug, Default)]
pub(super) struct Registers {
    pub(super) gencfg: u32,
    pub(super) genctrl: u32,
    pub(super) genstats: u32,
    pub(super) intcause: u32,
    pub(super) cmdstatus: u32,
    pub(super) swerror: [u64; 4],
    /// Base with its flags, size with its PASID.
    pub(super) evlcfg: [u64; 2],
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) pending: bool,
    pub(super) groups: [Group; GROUPS],
    pub(super) msix_permissions: [u64; VECTORS as usize],
}

impl Registers {
    pub(super) fn log_size(&self) -> u32 {
        bits(self.evlcfg[1], 15, 0) as u32
    }
    pub(super) fn log_base(&self) -> u64 {
        self.evlcfg[0] & !0xfff
    }
    /// PASID of event-log writes, if they carry one.
    pub(super) fn log_pasid(&self) -> Option<u32> {
        (self.evlcfg[0] & 1 != 0).then_some(bits(self.evlcfg[1], 35, 16) as u32)
    }
    pub(super) fn log_enabled(&self) -> bool {
        self.gencfg & gencfg::EVENT_LOG_ENABLE != 0
    }
    /// One slot stays empty, so that full and empty differ.
    pub(super) fn log_full(&self) -> bool {
        (self.tail + 1) % self.log_size().max(1) == self.head
    }
    pub(super) fn state(&self) -> u32 {
        self.genstats & genstats::STATE_MASK
    }
    pub(super) fn enabled(&self) -> bool {
        self.state() == genstats::ENABLED
    }
    pub(super) fn set_state(&mut self, state: u32) {
        self.genstats = self.genstats & !genstats::STATE_MASK | state;
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) kind: Kind,
    pub(super) config: ConfigSpace,
    pub(super) registers: Registers,
    pub(super) wqs: [Wq; WQS],
    pub(super) engines: [Engine; ENGINES],
    pub(super) identifiers: Identifiers,
    pub(super) portal: Portal,
    pub(super) command: Option<Pending>,
    pub(super) next_sequence: u64,
    pub(super) generation: u64,
    /// `used` of the WQ served last.
    pub(super) service_clock: u64,
    pub(super) stopping: bool,
    /// Injected: errors left, and a delay for each descriptor.
    pub(super) hardware_errors: u32,
    pub(super) delay: Duration,
    /// Injected: errors but those of completion records go to SWERROR.
    pub(super) errors_in_register: bool,
    /// Injected: entries that come late, and how late.
    pub(super) late_entries: (u32, Duration),
    /// What is injected when so many descriptors have been accepted.
    pub(super) planned: Vec<(u64, Injection)>,
    /// An engine is writing the event-log slot at the tail.
    pub(super) log_busy: bool,
    /// Entries written since the last reset, and which of them was the last of a WQ and PASID; what the head is past may be missing.
    log_written: u64,
    last_entry: HashMap<(u8, Option<u32>), u64>,
}

impl State {
    pub(super) fn new(kind: Kind, batch_identifiers: u16) -> Self {
        Self {
            kind,
            identifiers: Identifiers::new(batch_identifiers),
            config: super::pci::config_space(kind),
            registers: Registers::default(),
            wqs: Default::default(),
            engines: Default::default(),
            portal: Portal::default(),
            command: None,
            next_sequence: 0,
            generation: 0,
            service_clock: 0,
            stopping: false,
            hardware_errors: 0,
            delay: Duration::ZERO,
            errors_in_register: false,
            late_entries: (0, Duration::ZERO),
            planned: Vec::new(),
            log_busy: false,
            log_written: 0,
            last_entry: HashMap::new(),
        }
    }

    /// All BAR0 registers as after power-on; queues are the caller's to empty first.
    pub(super) fn reset_registers(&mut self) {
        self.registers = Registers { cmdstatus: cmdstatus::OK, ..Registers::default() };
        self.last_entry.clear();
        for wq in &mut self.wqs {
            wq.config = [0; WQCFG_DWORDS];
            wq.state = wqcfg::STATE_DISABLED;
        }
    }

    /// Engines that serve `wq`, as bits.
    pub(super) fn engines_of(&self, wq: usize) -> u64 {
        let serves = |g: &&Group| g.wqs[wq / 64] >> (wq % 64) & 1 != 0;
        self.registers.groups.iter().filter(serves).fold(0, |all, g| all | g.engines)
    }

    /// Descriptors accepted and not finished.
    pub(super) fn outstanding(&self) -> impl Iterator<Item = Current> + '_ {
        let queued = self.wqs.iter().flat_map(|wq| &wq.queue);
        let queued = queued.map(Job::current);
        queued.chain(self.engines.iter().filter_map(|e| e.current))
    }

    /// A reset came, or the device is being stopped: nothing that `job` does counts any more.
    pub(super) fn obsolete(&self, job: &Job) -> bool {
        self.stopping || self.generation != job.generation
    }

    /// `job` stops waiting for the event log: the device is going down, or the job is being aborted.
    pub(super) fn gives_up(&self, job: &Job) -> bool {
        self.command.as_ref().is_some_and(|command| command.abandons(job.current()))
    }

    /// An entry of `job` goes to the tail, which has not moved yet.
    pub(super) fn entry_written(&mut self, job: &Job) {
        let first_unread = self.first_unread();
        // At most one a slot of the log is kept.
        self.last_entry.retain(|_, number| *number >= first_unread);
        self.last_entry.insert((job.wq, job.pasid), self.log_written);
        self.log_written += 1;
    }

    /// An entry of the PASID and WQ of `job` is still in the log.
    pub(super) fn undelivered(&self, job: &Job) -> bool {
        let last = self.last_entry.get(&(job.wq, job.pasid));
        last.is_some_and(|number| *number >= self.first_unread())
    }

    /// The number of the entry at the head.
    fn first_unread(&self) -> u64 {
        let r = &self.registers;
        let size = r.log_size().max(1);
        self.log_written.saturating_sub(u64::from((r.tail + size - r.head % size) % size))
    }

    pub(super) fn event_log_status(&self) -> u64 {
        let r = &self.registers;
        let pending = if r.pending { regs::evlstatus::INTERRUPT_PENDING } else { 0 };
        u64::from(r.head) | u64::from(r.tail) << regs::evlstatus::TAIL_SHIFT | pending
    }
}
