//! Runs that the kernel skipped.

use dsascope_core::event::ProgramStats;

use super::*;

/// dsascope says that the kernel skipped so many starts of service.
fn skip_starts(books: &mut Books, runs: u64) {
    let program = ProgramStats {
        name: "service_start_fentry".into(),
        hook: Some(Hook::ServiceStart),
        runs: None,
        run_ns: None,
        missed: Some(runs),
        verified_instructions: None,
    };
    let summary = &mut traced(books).summary;
    summary.programs = vec![program];
    summary.exact = runs == 0;
}

#[test]
fn by_fentry_skipped_runs_explain_as_many_faults_as_they_are() {
    let explained = |skipped, unseen, attach| {
        found(|books| {
            books.attach = attach;
            (0..unseen).for_each(|_| miss_a_fault(books));
            skip_starts(books, skipped);
        })
    };
    assert_eq!(explained(1, 1, Attach::Fentry), []);
    assert_eq!(explained(2, 1, Attach::Fentry), []);
    assert!(explained(1, 2, Attach::Fentry).contains(&Rule::Queued));
    assert!(explained(0, 1, Attach::Fentry).contains(&Rule::Queued));
    for other in [Attach::Auto, Attach::Kprobe, Attach::Tracepoint] {
        assert!(explained(1, 1, other).contains(&Rule::Queued));
    }
}

#[test]
fn skipped_runs_excuse_neither_an_invented_fault_nor_silence() {
    let fentry = |plant: fn(&mut Books)| {
        found(|books| {
            books.attach = Attach::Fentry;
            skip_starts(books, 1);
            plant(books);
        })
    };
    let invented = fentry(|books| {
        first(books).totals.queued += 1;
        first(books).totals.served += 1;
        first(books).totals.delivered += 1;
    });
    assert!(invented.contains(&Rule::Queued), "{invented:?}");
    assert_eq!(fentry(|books| traced(books).summary.exact = true), [Rule::Tracer]);
    assert!(fentry(|books| first(books).totals.counter_failures += 2).contains(&Rule::Counters));
    assert!(fentry(|books| traced(books).summary.ledger.kernel.lost.fault = 2).contains(&Rule::Ledger));
}

#[test]
fn two_processes_share_what_the_skipped_runs_explain() {
    let rules = found(|books| {
        books.attach = Attach::Fentry;
        miss_a_fault(books);
        skip_starts(books, 1);
        // Another PASID of whose one fault nobody else knows.
        let other = Key { pasid: PASID + 1, ..key() };
        let device = DeviceAccount { faults: BTreeMap::from([(0x1a, 1)]), ..DeviceAccount::default() };
        books.device.insert(other, device);
    });
    assert!(rules.last() == Some(&Rule::Queued), "{rules:?}");
}
