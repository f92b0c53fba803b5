//! The figures and how they follow from what the guest returned. Pure.

use dsascope_common::wire::{FaultRecord, InterruptRecord, StagePayload, StageRecord};
use dsascope_core::event::Hook;
use dsascope_core::json::SummaryLine;
use serde::Serialize;

/// The hooks that run for each fault; the others run for a file, a command or what else is seldom.
const FAULT_PATH: [Hook; 8] = [
    Hook::InterruptStart,
    Hook::Queued,
    Hook::InterruptEnd,
    Hook::ServiceStart,
    Hook::Counter,
    Hook::CopyStart,
    Hook::CopyEnd,
    Hook::ServiceEnd,
];

/// The kernel's header before each record in the ring (BPF_RINGBUF_HDR_SZ).
const RING_HEADER_BYTES: u64 = 8;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    pub(super) kernel: String,
    pub(super) cpus: u32,
    pub(super) faults: u32,
    pub(super) outstanding: u16,
    pub(super) rounds: u32,
    pub(super) untraced: Service,
    /// Its slowest round: how much the machine disturbs.
    pub(super) untraced_loudest: Service,
    pub(super) traced: Vec<Traced>,
    pub(super) idle: Resident,
}

/// The driver's service, µs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Service {
    pub(super) count: u64,
    pub(super) mean_us: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// With dsascope attached in one way.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Traced {
    pub(super) name: String,
    pub(super) service: Service,
    pub(super) bpf: Bpf,
    pub(super) attach_ms: f64,
    /// From its start to its first line.
    pub(super) start_ms: Option<u64>,
    pub(super) cpu_until_ready_ms: u64,
    pub(super) peak_rss_kib: u64,
}

/// Time in BPF programs, by kernel.bpf_stats_enabled, in a run of its own.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bpf {
    pub(crate) faults: u64,
    /// Of the programs that run for each fault.
    pub(crate) ns_per_fault: f64,
    /// Of records with what a fault causes: its own, its stages, its interrupt's.
    pub(crate) ring_bytes_per_fault: f64,
    pub(crate) records_per_fault: f64,
    /// Runs that the kernel skipped.
    pub(crate) missed: u64,
    pub(crate) programs: Vec<Program>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) runs: u64,
    pub(crate) ns_per_run: f64,
    /// `None`: it does not run for each fault.
    pub(crate) ns_per_fault: Option<f64>,
    pub(crate) verified_instructions: Option<u32>,
}

/// dsascope while next to nothing happens.
#[derive(Debug, Serialize)]
pub(super) struct Resident {
    pub(super) seconds: f64,
    pub(super) cpu_ms: u64,
    pub(super) peak_rss_kib: u64,
}

impl Service {
    /// `None` when there is nothing to measure.
    pub(super) fn of(times_us: &[u64]) -> Option<Self> {
        let mut sorted = times_us.to_vec();
        sorted.sort_unstable();
        // The smallest value that at least this share of all does not exceed.
        let quantile =
            |per_cent: usize| sorted.get((sorted.len() * per_cent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self {
            count: sorted.len() as u64,
            mean_us: sorted.iter().sum::<u64>() as f64 / sorted.len() as f64,
            p50_us: quantile(50)?,
            p99_us: quantile(99)?,
        })
    }

    pub(super) fn quietest(rounds: &[Self]) -> Option<Self> {
        rounds.iter().copied().min_by(|a, b| a.mean_us.total_cmp(&b.mean_us))
    }

    pub(super) fn loudest(rounds: &[Self]) -> Option<Self> {
        rounds.iter().copied().max_by(|a, b| a.mean_us.total_cmp(&b.mean_us))
    }
}

impl Traced {
    /// Each figure from its quietest round, each program's time too: what disturbs one round only ever adds.
    pub(super) fn quietest(rounds: Vec<Self>) -> Option<Self> {
        rounds.into_iter().reduce(|mut a, b| {
            a.service = Service::quietest(&[a.service, b.service]).unwrap_or(a.service);
            a.bpf.take_quieter(b.bpf);
            a.attach_ms = a.attach_ms.min(b.attach_ms);
            a.start_ms = a.start_ms.into_iter().chain(b.start_ms).min();
            a.cpu_until_ready_ms = a.cpu_until_ready_ms.min(b.cpu_until_ready_ms);
            a.peak_rss_kib = a.peak_rss_kib.max(b.peak_rss_kib);
            a
        })
    }
}

impl Bpf {
    /// `None` when no fault was served.
    pub(crate) fn of(summary: &SummaryLine) -> Option<Self> {
        let faults: u64 = summary.contexts.iter().map(|context| context.totals.served).sum();
        if faults == 0 {
            return None;
        }
        let per_fault = |n: u64| n as f64 / faults as f64;
        let mut programs: Vec<Program> = summary
            .programs
            .iter()
            .filter_map(|program| {
                let (runs, run_ns) = (program.runs?, program.run_ns?);
                Some(Program {
                    name: program.name.clone(),
                    runs,
                    ns_per_run: run_ns as f64 / runs.max(1) as f64,
                    ns_per_fault: program
                        .hook
                        .is_some_and(|hook| FAULT_PATH.contains(&hook))
                        .then(|| per_fault(run_ns)),
                    verified_instructions: program.verified_instructions,
                })
            })
            .collect();
        costliest_first(&mut programs);
        let kernel = &summary.ledger.kernel;
        let seen = kernel.seen;
        // Two of a fault's stages carry bytes: its hand-over and the start of its copy.
        let hits = |hook| kernel.hits(hook).unwrap_or(0);
        let payloads = (hits(Hook::Queued) + hits(Hook::CopyStart)).min(seen.stage);
        let bytes = seen.fault * in_ring::<FaultRecord>()
            + seen.interrupt * in_ring::<InterruptRecord>()
            + payloads * in_ring::<StagePayload>()
            + (seen.stage - payloads) * in_ring::<StageRecord>();
        Some(Self {
            faults,
            ns_per_fault: programs.iter().filter_map(|program| program.ns_per_fault).sum(),
            ring_bytes_per_fault: per_fault(bytes),
            records_per_fault: per_fault(seen.fault + seen.interrupt + seen.stage),
            missed: summary.programs.iter().filter_map(|program| program.missed).sum(),
            programs,
        })
    }

    fn take_quieter(&mut self, other: Self) {
        for program in &mut self.programs {
            let same = other.programs.iter().find(|same| same.name == program.name);
            if let Some(same) = same.filter(|same| same.ns_per_run < program.ns_per_run) {
                program.clone_from(same);
            }
        }
        costliest_first(&mut self.programs);
        self.ns_per_fault = self.programs.iter().filter_map(|program| program.ns_per_fault).sum();
        self.missed += other.missed;
    }
}

/// By their share in a fault, then those that have none by their run.
fn costliest_first(programs: &mut [Program]) {
    let cost = |program: &Program| (program.ns_per_fault.unwrap_or(-1.0), program.ns_per_run);
    programs.sort_by(|a, b| {
        let ((a, a_run), (b, b_run)) = (cost(a), cost(b));
        b.total_cmp(&a).then(b_run.total_cmp(&a_run))
    });
}

/// Bytes that a record takes in the ring.
const fn in_ring<T>() -> u64 {
    (size_of::<T>() as u64 + RING_HEADER_BYTES).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let times: Vec<u64> = (1..=200).rev().collect();
        let service = Service::of(&times).unwrap();
        assert_eq!((service.count, service.p50_us, service.p99_us), (200, 100, 198));
        assert!((service.mean_us - 100.5).abs() < 1e-9);
        assert_eq!(Service::of(&[7]).map(|service| (service.p50_us, service.p99_us)), Some((7, 7)));
        assert_eq!(Service::of(&[]), None);
    }

    #[test]
    fn disturbances_are_left_out_program_by_program() {
        let program = |name: &str, ns: f64| Program {
            name: name.into(),
            runs: 10,
            ns_per_run: ns,
            ns_per_fault: Some(ns),
            verified_instructions: None,
        };
        let bpf = |a: f64, b: f64, missed| Bpf {
            faults: 10,
            ns_per_fault: a + b,
            ring_bytes_per_fault: 1.0,
            records_per_fault: 1.0,
            missed,
            programs: vec![program("a", a), program("b", b)],
        };
        let mut first = bpf(900.0, 20.0, 1);
        first.take_quieter(bpf(10.0, 300.0, 2));
        assert_eq!((first.ns_per_fault, first.missed), (30.0, 3));
        assert_eq!(first.programs[0].name, "b");
    }

    #[test]
    fn records_take_their_header_too() {
        assert_eq!(in_ring::<FaultRecord>(), size_of::<FaultRecord>() as u64 + 8);
    }
}
