//! Page requests: what the devices asked for and how long their engines waited, against what dsascope reports of it.
//!
//! Owns: this book and its rules. A request that a device makes has one response, so that both can be counted against it. Refuses:
//! counting by WQ; dsascope knows the PASID alone.

use std::collections::BTreeMap;

use dsascope_core::event::{HoleKind, Hook};
use dsascope_core::json::SummaryLine;
use dsascope_core::model::PageRequestTotals;
use dsascope_testbed::truth::{self, BlockCause, Event};
use dsascope_testbed::vtd::ResponseCode;
use serde::Serialize;

use super::books::{Account, Process};
use super::compare::{Difference, Rule};

/// What devices did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    pub by_pasid: BTreeMap<u32, Requests>,
}

/// Page requests with one PASID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    pub requests: u64,
    /// Answered with anything but success.
    pub refused: u64,
    pub waits: Waits,
}

/// Times that engines waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waits {
    pub times: u64,
    pub sum_ns: u64,
    pub longest_ns: u64,
}

impl Waits {
    const fn add(&mut self, ns: u64) {
        self.times += 1;
        self.sum_ns += ns;
        if ns > self.longest_ns {
            self.longest_ns = ns;
        }
    }
}

/// Both sides, by PASID.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub pasid: u32,
    pub device: Requests,
    /// `None`: dsascope did not look.
    pub dsascope: Option<PageRequestTotals>,
}

impl Pages {
    pub fn read(lines: &[truth::Line]) -> Self {
        let mut pages = Self::default();
        // Whose request each engine waits for.
        let mut asking: BTreeMap<(&str, u8), u32> = BTreeMap::new();
        for line in lines {
            match &line.event {
                Event::PageRequest { device, engine, pasid, .. } => {
                    asking.insert((device, *engine), *pasid);
                    pages.by_pasid.entry(*pasid).or_default().requests += 1;
                }
                Event::PageResponse { pasid: Some(pasid), code, .. } => {
                    let refused = u64::from(*code != ResponseCode::Success);
                    pages.by_pasid.entry(*pasid).or_default().refused += refused;
                }
                Event::EngineBlocked { device, engine, cause, blocked_ns } => {
                    let pasid = asking.get(&(device.as_str(), *engine));
                    if let (BlockCause::PageRequest, Some(pasid)) = (cause, pasid) {
                        pages.by_pasid.entry(*pasid).or_default().waits.add(*blocked_ns);
                    }
                }
                _ => {}
            }
        }
        pages
    }
}

/// A wait of a device as dsascope may see it at the longest: within it, but by another clock.
const fn at_most(ns: u64) -> u64 {
    ns + ns / 100 + 100_000
}

/// Holds the two against each other.
pub(super) fn compare(
    pages: &Pages,
    account: Option<&Account>,
    processes: &[Process],
) -> (Vec<Row>, Vec<Difference>) {
    let hooks = [Hook::PageRequest, Hook::PageResponse];
    let looked = account.filter(|account| hooks.iter().all(|hook| account.observes(*hook)));
    let mut differences = Vec::new();
    let mut differ = |text| differences.push(Difference { rule: Rule::PageRequests, text });
    match (account, looked) {
        (_, Some(account)) => whole(pages, &account.summary, &mut differ),
        (Some(_), None) if !pages.by_pasid.is_empty() => {
            differ("dsascope did not see page requests".to_owned());
        }
        _ => {}
    }
    let reported = looked.map(|account| &account.summary.page_requests[..]).unwrap_or_default();
    let of = |pasid| reported.iter().find(|totals| totals.pasid == Some(pasid)).copied();
    let pasids = pages.by_pasid.keys().copied().chain(reported.iter().filter_map(|totals| totals.pasid));
    let rows: Vec<Row> = pasids
        .collect::<std::collections::BTreeSet<u32>>()
        .into_iter()
        .map(|pasid| Row {
            pasid,
            device: pages.by_pasid.get(&pasid).copied().unwrap_or_default(),
            dsascope: of(pasid),
        })
        .collect();
    let opens = looked.is_some_and(|account| account.observes(Hook::OpenEnd));
    let lost = looked.map_or(0, |account| account.summary.ledger.kernel.lost.total());
    for row in rows.iter().filter(|_| looked.is_some()) {
        by_pasid(row, lost, opens, processes, &mut differ);
    }
    (rows, differences)
}

fn whole(pages: &Pages, summary: &SummaryLine, differ: &mut impl FnMut(String)) {
    let requests: u64 = pages.by_pasid.values().map(|asked| asked.requests).sum();
    let kernel = &summary.ledger.kernel;
    for (what, seen) in [("requests", kernel.seen.page_request), ("responses", kernel.seen.page_response)] {
        if seen != requests {
            differ(format!("devices made {requests} page requests, dsascope's programs saw {seen} {what}"));
        }
    }
    let answered: u64 = summary.page_requests.iter().map(|totals| totals.groups).sum();
    let lost = kernel.lost.page_response;
    if answered + lost != requests {
        differ(format!("devices made {requests} page requests; {answered} answered, {lost} answers lost"));
    }
    // What was answered unseen is known from the request that waits for it, if that was not lost as well.
    let unanswered = summary.holes.iter().filter(|hole| hole.what == HoleKind::ResponseMissing);
    let unanswered: u64 = unanswered.map(|hole| hole.count).sum();
    if unanswered > lost {
        differ(format!("{unanswered} page requests without an answer, and {lost} answers lost"));
    }
}

fn by_pasid(row: &Row, lost: u64, opens: bool, processes: &[Process], differ: &mut impl FnMut(String)) {
    let (pasid, device) = (row.pasid, row.device);
    let Some(totals) = row.dsascope else {
        if lost == 0 {
            differ(format!("PASID {pasid}: {} page requests, and dsascope knows none", device.requests));
        }
        return;
    };
    if lost == 0 && (totals.groups, totals.refused) != (device.requests, device.refused) {
        differ(format!(
            "PASID {pasid}: {} page requests, {} refused; dsascope {}, {}",
            device.requests, device.refused, totals.groups, totals.refused
        ));
    }
    let comm = totals.comm.map(|comm| comm.to_string());
    let known = processes
        .iter()
        .any(|p| Some(p.report.pid) == totals.tgid && Some(&p.report.process) == comm.as_ref());
    // Whose PASID it is, the open tells.
    if !known && (opens || totals.tgid.is_some()) {
        differ(format!("PASID {pasid}: page requests of {:?} {comm:?}, no process of this run", totals.tgid));
    }
    // A latency that is made up would be longer than the engine's own wait for it.
    if let Some(latency) = totals.latency {
        let sum_ns = latency.mean_ns.saturating_mul(latency.count);
        let waits = device.waits;
        if latency.max_ns > at_most(waits.longest_ns) || sum_ns > at_most(waits.sum_ns) {
            differ(format!(
                "PASID {pasid}: longest {} ns, in all {sum_ns} ns; its engines waited {} and {} ns",
                latency.max_ns, waits.longest_ns, waits.sum_ns
            ));
        }
        if latency.count + totals.unmatched != totals.groups {
            let (count, unmatched) = (latency.count, totals.unmatched);
            differ(format!(
                "PASID {pasid}: {count} latencies, {unmatched} unmatched, {} in all",
                totals.groups
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_wait_belongs_to_what_it_asked_for() {
        let line = |event| truth::Line { time_ns: 0, event };
        let request = |engine, pasid, group| {
            let device = "dsa0".to_owned();
            line(Event::PageRequest { device, engine, wq: 0, pasid, address: 0, write: false, group })
        };
        let response = |pasid, group, code| {
            line(Event::PageResponse { device: "dsa0".into(), pasid: Some(pasid), group, code })
        };
        let blocked = |engine, cause, blocked_ns| {
            line(Event::EngineBlocked { device: "dsa0".into(), engine, cause, blocked_ns })
        };
        let pages = Pages::read(&[
            request(0, 5, 0),
            request(1, 6, 1),
            response(6, 1, ResponseCode::Invalid),
            blocked(1, BlockCause::PageRequest, 30),
            response(5, 0, ResponseCode::Success),
            blocked(0, BlockCause::PageRequest, 50),
            blocked(0, BlockCause::EventLogFull, 70),
            request(0, 5, 4),
            blocked(0, BlockCause::PageRequest, 20),
        ]);
        let waits = |times, sum_ns, longest_ns| Waits { times, sum_ns, longest_ns };
        assert_eq!(pages.by_pasid[&5], Requests { requests: 2, refused: 0, waits: waits(2, 70, 50) });
        assert_eq!(pages.by_pasid[&6], Requests { requests: 1, refused: 1, waits: waits(1, 30, 30) });
    }
}
