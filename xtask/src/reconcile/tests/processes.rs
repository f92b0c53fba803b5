//! Whose a PASID is.

use super::*;

#[test]
fn the_wrong_process_is_found() {
    assert_eq!(found(|books| first(books).totals.tgid = Some(PID + 1)), [Rule::Process]);
    assert_eq!(found(|books| first(books).totals.comm = Comm::new("other")), [Rule::Process]);
    // Right process, another PASID: two accounts that lack a book each.
    let rules = found(|books| first(books).totals.context.pasid += 1);
    assert!(rules.contains(&Rule::Queued) && rules.contains(&Rule::Process), "{rules:?}");
    let rules = found(|books| first(books).totals.context.wq = 2);
    assert!(rules.contains(&Rule::Process), "{rules:?}");
}

#[test]
fn a_file_opened_again_with_the_same_pasid_is_the_same_account() {
    let rules = found(|books| {
        let half = |totals: &mut ContextTotals, n: u64, failed: u64| {
            (totals.queued, totals.served, totals.delivered, totals.failed) = (n, n, n - failed, failed);
            (totals.cr_faults, totals.counter_faults, totals.counter_failures) = (n, n, failed);
            (totals.driver_faults, totals.driver_failures) = (Some(n), Some(failed));
        };
        let mut again = first(books).clone();
        half(&mut first(books).totals, 4, FAILED);
        first(books).records_received = Some(4);
        half(&mut again.totals, FAULTS - 4, 0);
        again.records_received = Some(FAULTS - 4);
        again.totals.context.opened_ns = NonZeroU64::new(9_000);
        traced(books).summary.contexts.push(again);
    });
    assert_eq!(rules, []);
}

#[test]
fn a_process_in_no_other_book_is_found() {
    let rules = found(|books| {
        let mut lonely = books.processes[0].clone();
        lonely.report.process = "lonely".into();
        lonely.report.work_queue = 3;
        books.processes.push(lonely);
    });
    assert_eq!(rules, [Rule::Process]);
}

#[test]
fn a_process_without_faults_is_known_where_no_open_is_seen() {
    let with_visitor = |visitors: usize| {
        found(|books| {
            let mut visitor = books.processes[0].clone();
            visitor.report = ProcessReport {
                process: "visitor".into(),
                pid: PID + 1,
                device: "dsa0".into(),
                work_queue: 1,
                submitted: 3,
                ..ProcessReport::default()
            };
            books.processes.extend(vec![visitor; visitors]);
            let submitted = DeviceAccount { descriptors: 3, ..DeviceAccount::default() };
            books.device.insert(Key { pasid: PASID + 1, ..key() }, submitted);
        })
    };
    assert!(!with_visitor(1).contains(&Rule::Process));
    assert!(with_visitor(2).contains(&Rule::Process), "one of two cannot be told from the other");
}
