//! Books that agree are found exact, and each planted difference is found, by the rule that it breaks.

mod devices;
mod findings;
mod missed;
mod pages;
mod processes;

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use dsascope_common::hw::event_log::EntryHeader;
use dsascope_core::event::{
    Comm, Context, ContextTotals, CopyOutcome, DeviceId, DeviceKind, Fault, HoleKind, Hook, Marks,
    SessionInfo, StageTimes, Verdict, VerdictState,
};
use dsascope_core::hist::Latency;
use dsascope_core::json::{HoleCount, SummaryContext, SummaryLine};
use dsascope_core::ledger::{Balance, ByKind, KernelLedger, Ledger};
use dsascope_core::model::BatchTotals;
use dsascope_guest::report::{FileCounters, KernelReport, ProcessReport, TracerReport};
use dsascope_guest::scenario::Submission;
use dsascope_testbed::dsa::ResetType;

use super::books::{Account, Books, DeviceAccount, Key, Process, Tracer};
use super::compare::{Rule, Source, compare};
use super::driver::DeviceActs;
use super::pages::{Pages, Requests, Waits};
use super::*;

const FAULTS: u64 = 6;
const FAILED: u64 = 2;
const PID: u32 = 4242;
const PASID: u32 = 5;

fn context() -> Context {
    Context {
        device: DeviceId::new(DeviceKind::Dsa, 0),
        wq: 1,
        pasid: PASID,
        opened_ns: NonZeroU64::new(1_000),
    }
}

fn key() -> Key {
    Key { device: "dsa0".into(), wq: 1, pasid: PASID }
}

fn fault(number: u64) -> Fault {
    let at = |ns: u64| NonZeroU64::new(number * 1_000 + ns);
    let mut logged = [0; 64];
    logged[0] = 1;
    Fault {
        at_ns: number * 1_000 + 70,
        cpu: 0,
        context: context(),
        tgid: Some(PID),
        worker: 7,
        queue_cpu: Some(0),
        times: StageTimes {
            interrupt_ns: at(10),
            queued_ns: at(20),
            started_ns: at(30),
            copy_start_ns: at(40),
            copy_end_ns: at(50),
            done_ns: at(60),
        },
        copy: CopyOutcome::Delivered { bytes: 32 },
        copy_addr: None,
        // Two of them are equal to the last byte, as they are in life.
        entry: EntryHeader::default().with_error(0x9a).with_pasid(PASID).with_fault_addr(number.max(2) << 12),
        logged,
        delivered: logged,
        counted_faults: 1,
        counted_failures: 0,
        marks: Marks::default(),
        origin: None,
    }
}

fn raw(fault: &Fault) -> Vec<u8> {
    let header = fault.entry.qwords.iter().flat_map(|qword| qword.to_le_bytes());
    header.chain(fault.logged[..32].iter().copied()).collect()
}

fn totals() -> ContextTotals {
    ContextTotals {
        context: context(),
        tgid: Some(PID),
        comm: Comm::new("load"),
        cgroup: None,
        closed: true,
        queued: FAULTS,
        served: FAULTS,
        delivered: FAULTS - FAILED,
        failed: FAILED,
        not_copied: 0,
        unobserved: 0,
        skipped: 0,
        cr_faults: FAULTS,
        batch_faults: 0,
        drains: 0,
        counter_faults: FAULTS,
        counter_failures: FAILED,
        driver_faults: Some(FAULTS),
        driver_failures: Some(FAILED),
        records_lost: 0,
        service_ns_sum: 0,
        service_ns_max: 0,
        opened_files: 1,
    }
}

fn account() -> Account {
    let verdict = |&hook| Verdict {
        hook,
        required: true,
        state: VerdictState::Attached { by: "kprobe".into() },
        hits: None,
        attach_ns: None,
    };
    let sent = ByKind { fault: FAULTS, interrupt: 2, ..ByKind::default() };
    Account {
        session: SessionInfo { verdicts: Hook::ALL.iter().map(verdict).collect(), ..SessionInfo::default() },
        summary: SummaryLine {
            at_ns: 1,
            exact: true,
            reasons: Vec::new(),
            complete: true,
            contexts: vec![SummaryContext { totals: totals(), records_received: Some(FAULTS) }],
            interrupts: 2,
            latency: Vec::new(),
            holes: Vec::new(),
            ledger: Ledger {
                kernel: KernelLedger { seen: sent, sent, ..KernelLedger::default() },
                received: sent,
                quiesced: true,
                ..Ledger::default()
            },
            balance: Balance::Balanced,
            programs: Vec::new(),
            batches: BatchTotals::default(),
            event_logs: Vec::new(),
            findings: Vec::new(),
            findings_unobserved: Vec::new(),
            page_requests: Vec::new(),
            submissions: None,
            selection: None,
            filter: None,
        },
        faults: Some((1..=FAULTS).map(fault).collect()),
        batches: Vec::new(),
        driver: Some(Vec::new()),
        run: TracerReport::default(),
    }
}

/// Books that agree.
fn books() -> Books {
    let device = DeviceAccount {
        faults: BTreeMap::from([(0x1a, FAULTS)]),
        raw: (1..=FAULTS).map(|number| raw(&fault(number))).collect(),
        descriptors: FAULTS,
        ..DeviceAccount::default()
    };
    Books {
        attach: Attach::Auto,
        device: BTreeMap::from([(key(), device)]),
        blocked: BTreeMap::new(),
        tracer: Tracer::Traced(Box::new(account())),
        driver: vec![FileCounters {
            process: "load".into(),
            device: "dsa0".into(),
            work_queue: 1,
            file: "file0".into(),
            pid: PID,
            cr_faults: Some(FAULTS),
            cr_fault_failures: Some(FAILED),
        }],
        processes: vec![Process {
            report: ProcessReport {
                process: "load".into(),
                pid: PID,
                device: "dsa0".into(),
                work_queue: 1,
                submitted: FAULTS,
                faults: FAULTS,
                delivered: FAULTS - FAILED,
                failed: FAILED,
                ..ProcessReport::default()
            },
            exit_pending: false,
            submission: Some(Submission::Store),
            records_per_descriptor: 1,
            halted: false,
            sees_all: false,
        }],
        kernel: KernelReport::default(),
        acts: BTreeMap::from([("dsa0".to_owned(), DeviceActs::default())]),
        pages: Pages::default(),
        findings: None,
    }
}

/// What is found after `plant` has changed the books.
fn found(plant: impl FnOnce(&mut Books)) -> Vec<Rule> {
    let mut books = books();
    plant(&mut books);
    let comparison = compare(&books);
    let of_rows = comparison.rows.iter().flat_map(|row| &row.differences);
    let mut rules: Vec<_> =
        of_rows.chain(&comparison.differences).map(|difference| difference.rule).collect();
    assert_eq!(comparison.exact(), rules.is_empty());
    assert_eq!(comparison.all_differences().len(), rules.len());
    rules.dedup();
    rules
}

fn traced(books: &mut Books) -> &mut Account {
    match &mut books.tracer {
        Tracer::Traced(account) | Tracer::Killed(account) => account,
        Tracer::Absent => panic!("there is none"),
    }
}

fn first(books: &mut Books) -> &mut SummaryContext {
    &mut traced(books).summary.contexts[0]
}

fn device(books: &mut Books) -> &mut DeviceAccount {
    books.device.get_mut(&key()).unwrap()
}

#[test]
fn books_that_agree_are_exact() {
    assert_eq!(found(|_| {}), []);
    let comparison = compare(&books());
    assert!(comparison.deep);
    let row = &comparison.rows[0];
    assert_eq!((row.process.as_deref(), row.pid, row.wq_name()), (Some("load"), Some(PID), "wq0.1".into()));
    assert_eq!((row.driver_faults, row.driver_source), (Some(FAULTS), Source::Sysfs));
}

/// One fault less in dsascope's book.
fn miss_a_fault(books: &mut Books) {
    traced(books).faults.as_mut().unwrap().pop();
    let context = first(books);
    context.totals.queued -= 1;
    context.totals.served -= 1;
    context.totals.cr_faults -= 1;
    context.totals.delivered -= 1;
    context.records_received = context.records_received.map(|received| received - 1);
}

#[test]
fn a_fault_that_dsascope_missed_is_found() {
    let rules = found(|books| {
        miss_a_fault(books);
        first(books).totals.counter_faults -= 1;
    });
    for rule in [Rule::Queued, Rule::Codes, Rule::Counters, Rule::Workload, Rule::Entries] {
        assert!(rules.contains(&rule), "{rule:?} not in {rules:?}");
    }
}

#[test]
fn a_fault_counted_twice_is_found() {
    let rules = found(|books| {
        first(books).totals.queued += 1;
        first(books).totals.served += 1;
        first(books).totals.delivered += 1;
    });
    assert!(rules.contains(&Rule::Queued) && rules.contains(&Rule::Records), "{rules:?}");
    assert_eq!(found(|books| traced(books).faults.as_mut().unwrap().push(fault(3))), [Rule::Entries]);
}

#[test]
fn a_single_number_off_by_one_is_found() {
    type Plant = fn(&mut ContextTotals);
    let cases: [(Rule, Plant); 9] = [
        (Rule::Queued, |t| t.queued -= 1),
        (Rule::Served, |t| t.served -= 1),
        (Rule::Queued, |t| t.skipped += 1),
        (Rule::Outcomes, |t| t.not_copied += 1),
        (Rule::Codes, |t| t.drains += 1),
        (Rule::Counters, |t| t.counter_faults += 1),
        (Rule::Counters, |t| t.counter_failures -= 1),
        (Rule::Counters, |t| t.driver_faults = Some(FAULTS + 1)),
        (Rule::Ledger, |t| t.records_lost += 1),
    ];
    for (number, (rule, plant)) in cases.into_iter().enumerate() {
        let rules = found(|books| plant(&mut first(books).totals));
        assert!(rules.contains(&rule), "case {number}: {rule:?} not in {rules:?}");
    }
    assert!(found(|books| books.driver[0].cr_faults = Some(FAULTS - 1)).contains(&Rule::Counters));
    assert!(found(|books| books.driver[0].cr_fault_failures = Some(0)).contains(&Rule::Counters));
    assert_eq!(found(|books| first(books).records_received = Some(FAULTS - 1)), [Rule::Records]);
    assert!(found(|books| books.processes[0].report.delivered -= 1).contains(&Rule::Workload));
    assert_eq!(found(|books| books.processes[0].report.submitted += 1), [Rule::Workload]);
}

#[test]
fn drains_and_refused_records_have_accounts_of_their_own() {
    // The last entry is a drain's: served and copied, and not counted by the driver.
    let drained = |books: &mut Books| {
        let account = device(books);
        account.faults = BTreeMap::from([(0x1a, FAULTS - 1), (0x26, 1)]);
        account.drains = 1;
        let totals = &mut first(books).totals;
        (totals.cr_faults, totals.drains) = (FAULTS - 1, 1);
        totals.counter_faults -= 1;
        totals.driver_faults = Some(FAULTS - 1);
        books.driver[0].cr_faults = Some(FAULTS - 1);
        let report = &mut books.processes[0].report;
        (report.faults, report.delivered, report.drains) = (FAULTS - 1, FAULTS - FAILED - 1, 1);
    };
    assert_eq!(found(drained), []);
    let rules = found(|books| {
        drained(books);
        device(books).drains = 0;
    });
    assert_eq!(rules, [Rule::Workload]);
    assert_eq!(found(|books| device(books).other_errors = 1), [Rule::Workload]);
    assert_eq!(found(|books| books.processes[0].report.refused = 1), [Rule::Workload]);
}

#[test]
fn a_halted_device_may_keep_what_nobody_reads() {
    let more = |books: &mut Books| {
        *device(books).faults.get_mut(&0x1a).unwrap() += 1;
        let extra = raw(&fault(FAULTS + 1));
        device(books).raw.push(extra);
        books.processes[0].report.submitted += 1;
        device(books).descriptors += 1;
    };
    assert!(found(more).contains(&Rule::Queued));
    let halted = |books: &mut Books| {
        more(books);
        books.processes[0].halted = true;
    };
    assert_eq!(found(halted), []);
}

#[test]
fn failures_taken_for_deliveries_are_found() {
    let rules = found(|books| {
        first(books).totals.failed -= 1;
        first(books).totals.delivered += 1;
    });
    assert_eq!(rules, [Rule::Counters, Rule::Workload]);
}

#[test]
fn bytes_that_differ_are_found() {
    assert_eq!(found(|books| device(books).raw[2][17] ^= 1), [Rule::Entries]);
    assert_eq!(found(|books| traced(books).faults.as_mut().unwrap()[3].logged[31] = 9), [Rule::Entries]);
    // Equal bytes under another PASID are another account's.
    let rules = found(|books| traced(books).faults.as_mut().unwrap()[3].context.pasid += 1);
    assert!(rules.contains(&Rule::Entries), "{rules:?}");
}

#[test]
fn times_out_of_order_are_found() {
    let rules = found(|books| {
        let times = &mut traced(books).faults.as_mut().unwrap()[0].times;
        std::mem::swap(&mut times.copy_start_ns, &mut times.copy_end_ns);
    });
    assert_eq!(rules, [Rule::Order]);
    // A stage that nobody saw breaks no order.
    assert_eq!(found(|books| traced(books).faults.as_mut().unwrap()[0].times.queued_ns = None), []);
}

#[test]
fn skipped_entries_are_no_difference_and_must_be_there() {
    let skip = |books: &mut Books| {
        device(books).faults.insert(0x1a, FAULTS + 1);
        device(books).raw.push(raw(&fault(90)));
        device(books).descriptors += 1;
        books.processes[0].exit_pending = true;
        books.processes[0].report.submitted += 1;
        books.driver[0].cr_faults = None;
        books.driver[0].cr_fault_failures = None;
        first(books).totals.skipped = 1;
    };
    assert_eq!(found(skip), []);
    let rules = found(|books| {
        skip(books);
        device(books).raw.pop();
    });
    assert_eq!(rules, [Rule::Entries]);
    let mut books = books();
    skip(&mut books);
    assert_eq!(compare(&books).rows[0].driver_source, Source::AtRelease);
}

#[test]
fn losses_that_the_ledger_names_are_no_difference() {
    let lose = |books: &mut Books| {
        traced(books).faults = None;
        first(books).records_received = Some(FAULTS - 2);
        first(books).totals.records_lost = 2;
        let account = traced(books);
        account.run.code = 8;
        account.summary.complete = false;
        account.summary.ledger.kernel.sent.fault -= 2;
        account.summary.ledger.kernel.lost.fault += 2;
        account.summary.ledger.received.fault -= 2;
    };
    assert_eq!(found(lose), []);
    let silent = |books: &mut Books| {
        lose(books);
        traced(books).run.code = 0;
    };
    assert_eq!(found(silent), [Rule::Tracer]);
    let unnamed = |books: &mut Books| {
        lose(books);
        traced(books).summary.ledger.received.fault -= 1;
    };
    assert_eq!(found(unnamed), [Rule::Ledger]);
    let uncounted = |books: &mut Books| {
        lose(books);
        traced(books).summary.ledger.kernel.lost.fault -= 1;
    };
    assert_eq!(found(uncounted), [Rule::Ledger]);
}

#[test]
fn what_nobody_could_read_is_never_equal() {
    let unread = |books: &mut Books| {
        books.driver.clear();
        first(books).totals.driver_faults = None;
        first(books).totals.driver_failures = None;
    };
    assert_eq!(found(unread), [Rule::Counters]);
    let mut books = books();
    unread(&mut books);
    assert_eq!(compare(&books).rows[0].driver_source, Source::NotReadable);
}

#[test]
fn probes_that_are_not_attached_have_no_numbers() {
    let mut books = books();
    for verdict in &mut traced(&mut books).session.verdicts {
        if matches!(verdict.hook, Hook::Counter | Hook::CopyEnd | Hook::ReleaseStart) {
            verdict.state = VerdictState::NotWanted;
        }
    }
    let totals = &mut first(&mut books).totals;
    (totals.delivered, totals.failed, totals.unobserved) = (0, 0, FAULTS);
    (totals.counter_faults, totals.counter_failures) = (0, 0);
    let comparison = compare(&books);
    assert!(comparison.exact(), "{:?}", comparison.all_differences());
    let row = &comparison.rows[0];
    assert_eq!((row.delivered, row.skipped, row.counted_faults, row.other), (None, None, None, Some(FAULTS)));
}

#[test]
fn dsascopes_own_doubts_and_failures_count() {
    let doubt = |books: &mut Books| {
        traced(books).summary.exact = false;
        traced(books).summary.reasons.push("the kernel skipped 3 runs".into());
    };
    assert_eq!(found(doubt), [Rule::Tracer]);
    assert_eq!(found(|books| traced(books).summary.complete = false), [Rule::Tracer]);
    assert_eq!(found(|books| traced(books).run.code = 137), [Rule::Tracer]);
}

#[test]
fn a_killed_tracer_leaves_the_other_books() {
    let kill = |books: &mut Books| {
        let mut second = account();
        second.summary.contexts.clear();
        second.summary.ledger = Ledger { quiesced: true, ..Ledger::default() };
        second.faults = None;
        books.tracer = Tracer::Killed(Box::new(second));
    };
    assert_eq!(found(kill), []);
    let rules = found(|books| {
        kill(books);
        books.driver[0].cr_faults = Some(FAULTS - 1);
    });
    assert_eq!(rules, [Rule::Counters]);
    let rules = found(|books| {
        kill(books);
        device(books).faults.insert(0x1a, FAULTS - 1);
    });
    assert_eq!(rules, [Rule::Counters, Rule::Workload]);
}

#[test]
fn a_dying_process_batches_may_fault_once_a_record() {
    let surplus = |records_per_descriptor: u64, faults: u64| {
        found(|books| {
            books.processes[0].exit_pending = true;
            books.processes[0].records_per_descriptor = records_per_descriptor;
            books.processes[0].report.submitted = FAULTS - faults;
            device(books).descriptors = FAULTS - faults;
        })
    };
    assert_eq!(surplus(1, 0), []);
    assert_eq!(surplus(1, 1), [Rule::Workload], "a descriptor has one record");
    assert_eq!(surplus(3, 1), [], "a batch of two has three");
}

#[test]
fn the_kernels_complaints_count_but_for_the_known_one() {
    let complain = |books: &mut Books| {
        books.kernel.complaints.push("BUG: Bad rss-counter state mm:1 type:MM_ANONPAGES val:19".into());
    };
    assert_eq!(found(complain), [Rule::Kernel]);
    let mut books = books();
    complain(&mut books);
    books.processes[0].exit_pending = true;
    let comparison = compare(&books);
    assert!(comparison.exact(), "{:?}", comparison.all_differences());
    assert_eq!(comparison.known.len(), 1);
    assert_eq!(found(|books| books.kernel.tainted = 512), [Rule::Kernel]);
    assert_eq!(found(|books| books.kernel.complaints.push("WARNING: CPU: 0".into())), [Rule::Kernel]);
}

#[test]
fn the_emulations_taint_is_known_where_it_is_loaded_and_no_other() {
    let tainted = |taint: u64, emulated| {
        found(|books| {
            books.kernel.tainted = taint;
            books.kernel.emulated = emulated;
        })
    };
    let forced_out_of_tree_unsigned = 2 | 0x1000 | 0x2000;
    assert_eq!(tainted(forced_out_of_tree_unsigned, Some(7)), []);
    assert_eq!(tainted(forced_out_of_tree_unsigned, None), [Rule::Kernel]);
    assert_eq!(tainted(forced_out_of_tree_unsigned | 512, Some(7)), [Rule::Kernel]);
}

#[test]
fn a_full_shared_wq_is_heard_as_often_as_the_device_says_it() {
    let retried = |submission, pending, heard: u64, said: u64| {
        found(|books| {
            let process = &mut books.processes[0];
            process.submission = Some(submission);
            process.exit_pending = pending;
            process.report.retries = heard;
            device(books).retries = said;
        })
    };
    assert_eq!(retried(Submission::Enqcmd, false, 5, 5), []);
    assert_eq!(retried(Submission::Enqcmd, false, 5, 6), [Rule::Workload]);
    assert_eq!(retried(Submission::Enqcmd, false, 6, 5), [Rule::Workload]);
    assert_eq!(retried(Submission::Enqcmd, true, 5, 6), [], "the last burst's are not counted");
    assert_eq!(retried(Submission::Write, false, 1, 32), [], "the driver hears more");
    assert_eq!(retried(Submission::Write, false, 33, 32), [Rule::Workload]);
    for submission in [Submission::Store, Submission::Movdir64b] {
        assert_eq!(retried(submission, false, 0, 1), [Rule::Workload], "dedicated WQs do not answer");
    }
}

#[test]
fn a_stack_trace_is_known_only_behind_a_bad_page() {
    let said = |lines: &[&str], pending: bool| {
        found(|books| {
            books.kernel.complaints = lines.iter().map(|line| (*line).to_owned()).collect();
            books.processes[0].exit_pending = pending;
        })
    };
    let bad_page =
        ["BUG: Bad page cache in process load  pfn:0c01d", "Call Trace:", "RIP: 0033:0x7fce1ab25399"];
    assert_eq!(said(&bad_page, true), []);
    assert_eq!(said(&bad_page, false), [Rule::Kernel]);
    assert_eq!(said(&bad_page[1..], true), [Rule::Kernel]);
    assert_eq!(said(&["BUG: Bad rss-counter state mm:1", "Call Trace:"], true), [Rule::Kernel]);
    // A fault within the kernel has another code segment.
    assert_eq!(said(&[bad_page[0], "RIP: 0010:idxd_copy_cr+0x10"], true), [Rule::Kernel]);
}

#[test]
fn seeds_are_numbers_or_ranges() {
    assert_eq!(Seeds::parse("7").unwrap(), Seeds { first: 7, end: 8 });
    assert_eq!(Seeds::parse("0..50").unwrap(), Seeds { first: 0, end: 50 });
    for bad in ["", "a", "5..5", "9..2", "1..", "18446744073709551615"] {
        assert!(Seeds::parse(bad).is_err(), "{bad}");
    }
}
