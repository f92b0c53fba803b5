//! What the configuration of devices shows.

use super::*;
use crate::event::{Asked, DeviceInfo, PageRequest, WqInfo};
use crate::findings::threshold::{LATE_NS, LATE_REQUESTS};

fn wq(wq: u16, group: u32) -> WqInfo {
    WqInfo {
        wq,
        state: "enabled".into(),
        type_: "user".into(),
        mode: Some("shared".into()),
        size: Some(16),
        threshold: Some(15),
        priority: Some(10),
        group: Some(group),
        block_on_fault: Some(false),
        prs_disable: Some(true),
        ..WqInfo::default()
    }
}

fn session(pasid_enabled: Option<bool>, wqs: Vec<WqInfo>) -> Event {
    let device = DeviceInfo {
        device: context(0, 0, 1).device,
        state: "enabled".into(),
        version: None,
        gen_cap: None,
        event_log_size: Some(64),
        pasid_enabled,
        numa_node: None,
        wqs,
    };
    Event::Session(Box::new(SessionInfo { devices: vec![device], ..SessionInfo::default() }))
}

#[test]
fn user_wqs_without_shared_addressing_cannot_be_opened() {
    let off = session(Some(false), vec![wq(0, 0)]);
    let finding = model(&[off]).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count), (FindingKind::SvaOff, 1));
    assert!(finding.sentence.starts_with("dsa0 has user WQs"), "{}", finding.sentence);
    assert_eq!(found(&[session(Some(true), vec![wq(0, 0)])]), []);
    assert_eq!(found(&[session(None, vec![wq(0, 0)])]), [], "not known");
    // A kernel that refuses every open, and says nothing of it.
    let on_kernel = |kernel: &str| match session(Some(true), vec![wq(0, 0)]) {
        Event::Session(session) => {
            Event::Session(Box::new(SessionInfo { kernel: kernel.into(), ..*session }))
        }
        other => other,
    };
    assert_eq!(found(&[on_kernel("6.12.95+deb12-amd64")]), [(FindingKind::SvaOff, 1)]);
    assert_eq!(found(&[on_kernel("6.12.57+deb12-amd64")]), []);
    let kernel = WqInfo { type_: "kernel".into(), ..wq(0, 0) };
    assert_eq!(found(&[session(Some(false), vec![kernel])]), []);
    let disabled = WqInfo { state: "disabled".into(), ..wq(0, 0) };
    assert_eq!(found(&[session(Some(false), vec![disabled])]), []);
}

#[test]
fn block_on_fault_needs_page_requests() {
    let configured = |block_on_fault, prs_disable| {
        let wq = WqInfo { block_on_fault: Some(block_on_fault), prs_disable: Some(prs_disable), ..wq(0, 0) };
        session(Some(true), vec![wq])
    };
    assert_eq!(found(&[configured(true, true)]), [(FindingKind::BlockOnFaultAlone, 1)]);
    assert_eq!(found(&[configured(true, false)]), []);
    assert_eq!(found(&[configured(false, true)]), []);

    let refused = |invalid: u8| {
        let mut refused = fault(context(0, 0, 1), 5 * MS);
        (refused.delivered[0], refused.delivered[16]) = (status::INVALID_FLAGS, invalid);
        Event::Fault(refused)
    };
    let finding = model(&[configured(false, true), refused(0x2)]).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count), (FindingKind::BlockOnFaultAlone, 1));
    assert!(finding.sentence.contains("by 0 WQs and 1 descriptor,"), "{}", finding.sentence);
    assert_eq!(found(&[configured(false, true), refused(0x1)]), [], "refused for another flag");
    assert_eq!(found(&[configured(false, false), refused(0x2)]), [], "page requests are on");
}

fn run(at_ns: u64, entries: u32) -> Event {
    let device = context(0, 0, 1).device;
    Event::Interrupt(Interrupt {
        at_ns,
        cpu: 0,
        device,
        start_ns: at_ns - MS,
        end_ns: at_ns,
        entries,
        swerror: None,
    })
}

#[test]
fn a_log_is_small_that_is_not_full() {
    let with = |entries| [session(Some(true), vec![]), run(100 * MS, entries)];
    let finding = model(&with(40)).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.confidence), (FindingKind::EventLogSmall, Confidence::Possible));
    assert_eq!(
        finding.sentence,
        "the event log of dsa0 has 64 entries, and 128 are advised by what was seen"
    );
    assert!(finding.evidence[0].words.starts_with("deepest run 40 entries"), "{}", finding.evidence[0].words);
    assert_eq!(found(&with(31)), [], "twice as many fit");
    assert_eq!(found(&with(63)), [(FindingKind::EventLogFull, 1)], "one finding a log");
}

fn requests(late: u64, granted: u64, code: u8) -> Vec<Event> {
    let one = |n: u64| {
        let asked = Asked { at_ns: SECOND + n * 50 * MS, pages: 1, address: 0x7000, write: true };
        let ns = if n < late { LATE_NS } else { LATE_NS - 1 };
        let device = context(0, 0, 1).device;
        Event::PageRequest(PageRequest {
            at_ns: asked.at_ns + ns,
            cpu: 0,
            device,
            pasid: Some(1),
            group: 1,
            code: if n < late { code } else { 0 },
            request: Some(asked),
        })
    };
    (0..late + granted).map(one).collect()
}

#[test]
fn late_answers_stall_those_who_share_the_engines() {
    let on = |group| WqInfo { prs_disable: Some(false), ..wq(0, group) };
    let with = |wqs, requests: Vec<Event>| {
        [vec![session(Some(true), wqs), open(context(0, 0, 1), 0, 1)], requests].concat()
    };
    let shared = || vec![on(0), wq(1, 0)];
    let stalled = with(shared(), requests(LATE_REQUESTS, 100, 0));
    let finding = model(&stalled).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count), (FindingKind::PageRequestsStall, 1));
    assert!(finding.sentence.contains("of redis (4242) on wq0.0"), "{}", finding.sentence);
    assert!(finding.sentence.ends_with("20 were answered late, 0 refused"), "{}", finding.sentence);
    let refused = model(&with(shared(), requests(LATE_REQUESTS, 0, 1))).findings().swap_remove(0);
    assert!(refused.sentence.ends_with("0 were answered late, 20 refused"), "{}", refused.sentence);

    assert_eq!(found(&with(shared(), requests(LATE_REQUESTS - 1, 0, 0))), [], "too few");
    assert_eq!(found(&with(shared(), requests(LATE_REQUESTS, 200, 0))), [], "less than a tenth");
    assert_eq!(found(&with(vec![on(0), wq(1, 1)], requests(LATE_REQUESTS, 0, 0))), [], "engines of its own");
    assert_eq!(found(&with(vec![wq(0, 0), wq(1, 0)], requests(LATE_REQUESTS, 0, 0))), [], "of another WQ");
    let off = WqInfo { state: "disabled".into(), ..wq(1, 0) };
    assert_eq!(found(&with(vec![on(0), off], requests(LATE_REQUESTS, 0, 0))), [], "the other is disabled");
}
