//! A fault storm for benches, the same with every run.

use std::num::NonZeroU64;

use dsascope_common::hw::completion::status;
use dsascope_common::hw::event_log::EntryHeader;
use dsascope_core::event::{
    Comm, Context, ContextTotals, CopyOutcome, DeviceId, DeviceKind, Event, Fault, Interrupt, Marks, Open,
    Snapshot, StageTimes,
};

/// Faults an iteration: as many as a decoder would have in the processor's cache.
pub(crate) const BLOCK: u64 = 1024;
/// Mean time between two faults: 200,000 a second.
const SPACING_NS: u64 = 5_000;
const TICK_NS: u64 = 250_000_000;
const SNAPSHOT_NS: u64 = 1_000_000_000;
/// Elements of a batch that fault, before its own record.
const ELEMENTS: u16 = 8;

/// A fault storm, the same with every run.
#[derive(Clone, Copy)]
pub(crate) struct Storm {
    pub(crate) processes: u32,
    pub(crate) faults_an_interrupt: u64,
    pub(crate) batches: bool,
}

/// What a storm has come to.
pub(crate) struct Stream {
    storm: Storm,
    seed: u64,
    now_ns: u64,
    faults: u64,
    tick_ns: u64,
    snapshot_ns: u64,
}

impl Stream {
    /// At its beginning, and the events with which it begins.
    pub(crate) fn new(storm: Storm) -> (Self, Vec<Event>) {
        let now_ns = 3_600_000_000_000;
        let stream = Self {
            storm,
            seed: 1,
            now_ns,
            faults: 0,
            tick_ns: now_ns + TICK_NS,
            snapshot_ns: now_ns + SNAPSHOT_NS,
        };
        let opens = (0..storm.processes).map(|process| {
            Event::Open(Open {
                at_ns: now_ns,
                context: context(process),
                tgid: 1000 + process,
                tid: 1000 + process,
                cgroup: Some(7),
                cgroup_path: None,
                comm: Comm::new("storm"),
                file: process,
                files: 1,
                existing: false,
            })
        });
        (stream, opens.collect())
    }

    /// A random number below `below`: splitmix64.
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    /// A time about `typical_ns`, seldom several times as long.
    fn time(&mut self, typical_ns: u64) -> u64 {
        let tail = if self.random(64) == 0 { 8 } else { 1 };
        typical_ns / 2 + (self.random(typical_ns) + self.random(typical_ns)) / 2 * tail
    }

    fn fault(&mut self) -> Fault {
        let processes = u64::from(self.storm.processes);
        // Batches: each process in turn goes on with its own.
        let (turn, next) = (self.faults / processes, self.faults % processes);
        let process = if self.storm.batches { next } else { self.random(processes) } as u32;
        let context = context(process);
        let steps = [4_000, 30_000, 2_000, 12_000, 1_500].map(|typical_ns| self.time(typical_ns));
        let at = |after: usize| NonZeroU64::new(self.now_ns - steps[after..].iter().sum::<u64>());
        let times = StageTimes {
            interrupt_ns: at(0),
            queued_ns: at(1),
            started_ns: at(2),
            copy_start_ns: at(3),
            copy_end_ns: at(4),
            done_ns: at(5),
        };
        let mut logged = [0; 64];
        logged[0] = status::SUCCESS;
        let mut entry = EntryHeader::default()
            .with_desc_valid(true)
            .with_err_info_valid(true)
            .with_error(status::CRA_XLAT)
            .with_operation([0x03, 0x04, 0x05][self.random(3) as usize])
            .with_pasid(context.pasid)
            .with_rcr(true)
            .with_fault_addr(0x7f00_0000_0000 + self.random(1 << 20) * 4096);
        if self.storm.batches {
            let place = (turn % u64::from(ELEMENTS + 1)) as u16;
            entry = entry.with_batch_id(process as u8);
            entry = if place == ELEMENTS {
                entry.with_error(status::BATCH_EVL_ERR)
            } else {
                entry.with_batch(true).with_batch_idx(place).with_first_err_in_batch(place == 0)
            };
        }
        let failed = self.random(200) == 0;
        Fault {
            at_ns: self.now_ns,
            cpu: 1,
            context,
            tgid: Some(1000 + process),
            worker: 77,
            queue_cpu: Some(1),
            times,
            copy: if failed {
                CopyOutcome::Short { asked: 32, done: 0 }
            } else {
                CopyOutcome::Delivered { bytes: 32 }
            },
            copy_addr: Some(entry.fault_addr()),
            entry,
            logged,
            delivered: logged,
            counted_faults: 1,
            counted_failures: u8::from(failed),
            marks: Marks::default(),
            origin: None,
        }
    }

    fn snapshot(&self) -> Snapshot {
        let totals = (0..self.storm.processes).map(|process| ContextTotals {
            context: context(process),
            tgid: Some(1000 + process),
            comm: Comm::new("storm"),
            cgroup: Some(7),
            closed: false,
            queued: self.faults,
            served: self.faults,
            delivered: self.faults,
            failed: 0,
            not_copied: 0,
            unobserved: 0,
            skipped: 0,
            cr_faults: self.faults,
            batch_faults: 0,
            drains: 0,
            counter_faults: self.faults,
            counter_failures: 0,
            driver_faults: None,
            driver_failures: None,
            records_lost: 0,
            service_ns_sum: 0,
            service_ns_max: 0,
            opened_files: 1,
        });
        Snapshot { at_ns: self.now_ns, totals: totals.collect(), ..Snapshot::default() }
    }

    /// The next faults, with all that comes between them.
    pub(crate) fn block(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..BLOCK {
            self.now_ns += self.random(2 * SPACING_NS);
            events.push(Event::Fault(self.fault()));
            self.faults += 1;
            if self.faults.is_multiple_of(self.storm.faults_an_interrupt) {
                events.push(Event::Interrupt(Interrupt {
                    at_ns: self.now_ns,
                    cpu: 0,
                    device: context(0).device,
                    start_ns: self.now_ns - 4_000,
                    end_ns: self.now_ns,
                    entries: self.storm.faults_an_interrupt as u32,
                    swerror: None,
                }));
            }
            if self.now_ns >= self.tick_ns {
                self.tick_ns += TICK_NS;
                events.push(Event::Tick { now_ns: self.now_ns });
            }
            if self.now_ns >= self.snapshot_ns {
                self.snapshot_ns += SNAPSHOT_NS;
                events.push(Event::Snapshot(Box::new(self.snapshot())));
            }
        }
        events
    }
}

/// Two devices with four WQs each.
fn context(process: u32) -> Context {
    Context {
        device: DeviceId::new(DeviceKind::Dsa, (process % 2) as u16),
        wq: (process / 2 % 4) as u16,
        pasid: process + 1,
        opened_ns: NonZeroU64::new(3_600_000_000_000),
    }
}
