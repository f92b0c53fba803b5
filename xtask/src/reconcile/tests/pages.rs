//! Page requests.

use dsascope_core::model::PageRequestTotals;

use super::*;

/// Three page requests, one refused, in all books.
fn ask_for_pages(books: &mut Books) {
    let waits = Waits { times: 3, sum_ns: 9_000_000, longest_ns: 4_000_000 };
    books.pages.by_pasid.insert(PASID, Requests { requests: 3, refused: 1, waits });
    let mut latency = Latency::default();
    [1_000_000, 3_000_000].into_iter().for_each(|ns| latency.record(ns));
    let account = traced(books);
    account.summary.page_requests = vec![PageRequestTotals {
        pasid: Some(PASID),
        tgid: Some(PID),
        comm: Some(Comm::new("load")),
        groups: 3,
        pages: 2,
        refused: 1,
        unmatched: 1,
        latency: latency.summary(),
    }];
    let ledger = &mut account.summary.ledger;
    for kinds in [&mut ledger.kernel.seen, &mut ledger.kernel.sent, &mut ledger.received] {
        (kinds.page_request, kinds.page_response) = (3, 3);
    }
}

#[test]
fn page_requests_are_held_against_the_devices() {
    let asked = |plant: &dyn Fn(&mut Books)| {
        found(|books| {
            ask_for_pages(books);
            plant(books);
        })
    };
    fn totals(books: &mut Books) -> &mut PageRequestTotals {
        &mut traced(books).summary.page_requests[0]
    }
    assert_eq!(asked(&|_| {}), []);
    let rule = [Rule::PageRequests];
    assert_eq!(asked(&|books| totals(books).groups = 2), rule);
    assert_eq!(asked(&|books| totals(books).refused = 0), rule);
    assert_eq!(asked(&|books| totals(books).unmatched = 0), rule);
    assert_eq!(asked(&|books| totals(books).tgid = Some(1)), rule);
    assert_eq!(asked(&|books| traced(books).summary.page_requests.clear()), rule);
    assert_eq!(asked(&|books| books.pages.by_pasid.clear()), rule);
    let unanswered = |books: &mut Books| {
        traced(books).summary.holes.push(HoleCount { what: HoleKind::ResponseMissing, count: 1 });
    };
    assert_eq!(asked(&unanswered), rule);
    // Longer than any engine waited: made up.
    let longer = |books: &mut Books| totals(books).latency.as_mut().unwrap().max_ns = 5_000_000;
    assert_eq!(asked(&longer), rule);
    // Seen by the programs, whatever became of the records.
    let unseen = |books: &mut Books| {
        let ledger = &mut traced(books).summary.ledger;
        for kinds in [&mut ledger.kernel.seen, &mut ledger.kernel.sent, &mut ledger.received] {
            kinds.page_request = 2;
        }
    };
    assert_eq!(asked(&unseen), rule);
    let blind = |books: &mut Books| {
        let account = traced(books);
        account.summary.page_requests.clear();
        account.session.verdicts.retain(|v| !matches!(v.hook, Hook::PageRequest | Hook::PageResponse));
    };
    assert_eq!(asked(&blind), rule);
}
