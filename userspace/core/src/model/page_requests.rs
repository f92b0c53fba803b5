//! Page requests by process: what the other way of bringing a page in costs, beside the completion-record faults of the same process.
//!
//! A page request names its process by PASID alone. A PASID belongs to one process at a time, on all its WQs; whose it is is what the
//! last open with it said. Bounded: processes beyond [`PROCESSES`] are counted together.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Comm, Open, PageRequest};
use crate::findings::threshold;
use crate::hist::{Latency, Summary};

/// Processes with figures of their own; 110 KiB each at most.
const PROCESSES: usize = 64;
/// PASIDs whose process is known.
const OWNERS: usize = 4096;

/// What is known of one process's page requests.
#[derive(Clone, Debug, Default)]
struct OfProcess {
    comm: Option<Comm>,
    groups: u64,
    pages: u64,
    refused: u64,
    unmatched: u64,
    late: u64,
    latency: Latency,
}

/// A process whose page requests are often answered late or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    pub pasid: u32,
    pub groups: u64,
    pub late: u64,
    pub refused: u64,
}

impl OfProcess {
    fn add(&mut self, request: &PageRequest) {
        self.groups += 1;
        self.pages += request.request.map_or(0, |asked| u64::from(asked.pages));
        self.refused += u64::from(!request.granted());
        match request.service_ns() {
            Some(ns) => {
                self.latency.record(ns);
                self.late += u64::from(ns >= threshold::LATE_NS && request.granted());
            }
            None => self.unmatched += 1,
        }
    }

    fn totals(&self, pasid: Option<u32>, tgid: Option<u32>) -> PageRequestTotals {
        PageRequestTotals {
            pasid,
            tgid,
            comm: self.comm,
            groups: self.groups,
            pages: self.pages,
            refused: self.refused,
            unmatched: self.unmatched,
            latency: self.latency.summary(),
        }
    }
}

/// Page requests of one process, or of all that have no figures of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PageRequestTotals {
    /// Null: processes beyond the limit, and requests without PASID, together.
    pub pasid: Option<u32>,
    /// Null: nobody was seen to open a WQ with this PASID.
    pub tgid: Option<u32>,
    #[schemars(with = "Option<String>")]
    pub comm: Option<Comm>,
    /// Groups of requests that were answered: each has one response.
    pub groups: u64,
    /// Requests in those groups whose requests were seen.
    pub pages: u64,
    /// Groups that were answered with anything but success.
    pub refused: u64,
    /// Groups without latency: the response was seen before the request, or records were lost.
    pub unmatched: u64,
    /// From the request, as the IOMMU's driver told of it, to the response.
    pub latency: Option<Summary>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct PageRequests {
    /// By PASID and process.
    processes: BTreeMap<(u32, Option<u32>), OfProcess>,
    other: OfProcess,
    owners: BTreeMap<u32, (u32, Comm)>,
}

impl PageRequests {
    pub(super) fn open(&mut self, open: &Open) {
        let pasid = open.context.pasid;
        if self.owners.len() >= OWNERS && !self.owners.contains_key(&pasid) {
            self.owners.pop_first();
        }
        self.owners.insert(pasid, (open.tgid, open.comm));
    }

    pub(super) fn add(&mut self, request: &PageRequest) {
        let room = self.processes.len() < PROCESSES;
        let owner = request.pasid.and_then(|pasid| self.owners.get(&pasid));
        let key = request.pasid.map(|pasid| (pasid, owner.map(|owner| owner.0)));
        let of = match key {
            Some(key) if room || self.processes.contains_key(&key) => self.processes.entry(key).or_default(),
            _ => {
                self.other.add(request);
                return;
            }
        };
        of.comm = owner.map(|owner| owner.1);
        of.add(request);
    }

    /// Of one process; `None`: none was seen.
    #[must_use]
    pub fn of(&self, pasid: u32, tgid: Option<u32>) -> Option<PageRequestTotals> {
        self.processes.get(&(pasid, tgid)).map(|of| of.totals(Some(pasid), tgid))
    }

    /// Processes of which many requests were answered late or refused.
    pub(super) fn stalls(&self) -> impl Iterator<Item = Stall> + '_ {
        let of = |(&(pasid, _), of): (&(u32, Option<u32>), &OfProcess)| {
            let bad = of.late + of.refused;
            let stalls = bad >= threshold::LATE_REQUESTS && bad * 100 >= of.groups * threshold::LATE_PERCENT;
            stalls.then_some(Stall { pasid, groups: of.groups, late: of.late, refused: of.refused })
        };
        self.processes.iter().filter_map(of)
    }

    /// All, by PASID; last what has no figures of its own.
    pub fn totals(&self) -> impl Iterator<Item = PageRequestTotals> + '_ {
        let rest = (self.other.groups > 0).then(|| self.other.totals(None, None));
        self.processes.iter().map(|(&(pasid, tgid), of)| of.totals(Some(pasid), tgid)).chain(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Asked, Context, DeviceId, DeviceKind};

    const DEVICE: DeviceId = DeviceId::new(DeviceKind::Dsa, 0);

    fn request(pasid: u32, asked_ns: Option<u64>, at_ns: u64, code: u8) -> PageRequest {
        let asked = |at_ns| Asked { at_ns, pages: 2, address: 0x1000, write: true };
        PageRequest {
            at_ns,
            cpu: 0,
            device: DEVICE,
            pasid: Some(pasid),
            group: 1,
            code,
            request: asked_ns.map(asked),
        }
    }

    fn open(pasid: u32, tgid: u32) -> Open {
        Open {
            at_ns: 1,
            context: Context { device: DEVICE, wq: 0, pasid, opened_ns: None },
            tgid,
            tid: tgid,
            cgroup: None,
            cgroup_path: None,
            comm: Comm(*b"writer\0\0\0\0\0\0\0\0\0\0"),
            file: 0,
            files: 1,
            existing: false,
        }
    }

    #[test]
    fn requests_are_counted_by_pasid_with_their_latency() {
        let mut all = PageRequests::default();
        all.add(&request(5, Some(1_000), 4_000, 0));
        all.add(&request(5, None, 9_000, 1));
        all.add(&request(6, Some(1_000), 2_000, 15));
        let five = all.of(5, None).unwrap();
        assert_eq!((five.groups, five.pages, five.refused, five.unmatched), (2, 2, 1, 1));
        assert_eq!(five.latency.map(|l| (l.count, l.max_ns)), Some((1, 3_000)));
        assert_eq!(all.of(6, None).map(|t| (t.groups, t.refused)), Some((1, 1)));
        assert_eq!(all.of(7, None), None);
    }

    #[test]
    fn a_pasid_that_is_used_again_is_another_process() {
        let mut all = PageRequests::default();
        all.open(&open(5, 100));
        all.add(&request(5, Some(1_000), 4_000, 0));
        all.open(&open(5, 200));
        all.add(&request(5, Some(5_000), 5_500, 0));
        let first = all.of(5, Some(100)).unwrap();
        assert_eq!((first.groups, first.latency.map(|l| l.max_ns)), (1, Some(3_000)));
        assert_eq!(first.comm.map(|comm| comm.to_string()).as_deref(), Some("writer"));
        assert_eq!(all.of(5, Some(200)).map(|t| t.latency.map(|l| l.max_ns)), Some(Some(500)));
        assert_eq!(all.totals().count(), 2);
    }

    #[test]
    fn processes_beyond_the_limit_are_counted_together() {
        let mut all = PageRequests::default();
        let many = PROCESSES as u32 + 3;
        (0..many).for_each(|pasid| all.add(&request(pasid, Some(1), 2, 0)));
        all.add(&request(0, Some(1), 2, 0));
        assert_eq!(all.totals().map(|t| t.groups).sum::<u64>(), u64::from(many) + 1);
        let last = all.totals().last().unwrap();
        assert_eq!((last.pasid, last.groups), (None, 3));
    }
}
