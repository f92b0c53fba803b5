//! Page requests: who asks, what the answers do, and who waits meanwhile.

use dsascope_common::hw::completion::{DsaCompletion, status};
use dsascope_common::hw::descriptor::{flags, opcode};
use dsascope_common::hw::regs::command as c;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::truth::{BlockCause, Event};

const P: Option<u32> = Some(PASID);
const RECORDS: u64 = 0x8000;
const SOURCE: u64 = 0x1_0000;
const DESTINATION: u64 = 0x2_0000;
const BLOCKING: u32 = CR | flags::BLOCK_ON_FAULT;

/// Mode of a WQ that asks for pages.
fn asking() -> u32 {
    dedicated() & !wqcfg::MODE_PRS_DISABLE | wqcfg::MODE_BLOCK_ON_FAULT
}

fn bench_with(mode: u32) -> Bench {
    let bench = Bench::new(Kind::Dsa);
    bench.event_log(64);
    bench.group(0, 3, 1);
    bench.wq(0, 16, mode);
    bench.wq(1, 16, dedicated());
    bench.command(c::ENABLE_DEVICE, 0);
    (0..2).for_each(|wq| assert_eq!(bench.command(c::ENABLE_WQ, wq), 0));
    bench.memory.map(P, RECORDS, true);
    bench
}

fn bench() -> Bench {
    bench_with(asking())
}

fn answers(bench: &Bench, answers: &[Answer]) {
    bench.pager.answers.lock().unwrap().extend(answers);
}

fn requests(bench: &Bench) -> Vec<(u64, bool)> {
    bench.pager.seen.lock().unwrap().iter().map(|r| (r.address, r.write)).collect()
}

fn record(bench: &Bench) -> DsaCompletion {
    DsaCompletion::read_from_bytes(&bench.memory.peek(P, RECORDS, 32)).unwrap()
}

fn memmove(flags: u32) -> Descriptor {
    Descriptor {
        source: SOURCE + 0x800,
        destination: DESTINATION,
        transfer_size: 0x1000,
        ..descriptor(opcode::MEMMOVE, RECORDS)
    }
    .with(opcode::MEMMOVE, flags)
}

#[test]
fn a_blocking_descriptor_asks_for_each_page_and_completes() {
    let bench = bench();
    bench.memory.poke(P, SOURCE + 0x1000, &[7]);
    bench.execute(memmove(BLOCKING));
    assert_eq!(requests(&bench), [(SOURCE, false), (DESTINATION, true)]);
    assert_eq!((record(&bench).status, record(&bench).bytes_completed), (status::SUCCESS, 0x1000));
    assert_eq!(bench.memory.peek(P, DESTINATION + 0x800, 1), [7]);
    let groups: Vec<_> = bench.pager.seen.lock().unwrap().iter().map(|r| r.group).collect();
    assert!(groups[0] != groups[1] && groups.iter().all(|g| g % 4 == 0), "engine 0's groups: {groups:?}");
    assert_eq!(bench.counters().page_requests, 2);
}

#[test]
fn without_block_on_fault_it_completes_partially() {
    let bench = bench();
    bench.memory.map(P, SOURCE, true);
    bench.memory.map(P, SOURCE + 0x1000, true);
    bench.execute(memmove(CR));
    assert_eq!((record(&bench).status, record(&bench).fault_addr), (0x83, DESTINATION));
    assert!(requests(&bench).is_empty());
}

#[test]
fn an_invalid_answer_ends_the_descriptor() {
    let bench = bench();
    bench.memory.map(P, SOURCE, true);
    answers(&bench, &[Answer::Reply(ResponseCode::Invalid)]);
    bench.execute(memmove(BLOCKING));
    let seen = record(&bench);
    assert_eq!((seen.status, seen.bytes_completed, seen.fault_addr), (0x84, 0, DESTINATION));
    answers(&bench, &[Answer::Serve, Answer::Reply(ResponseCode::Invalid)]);
    bench.execute(memmove(BLOCKING));
    let seen = record(&bench);
    assert_eq!((seen.status, seen.bytes_completed, seen.fault_addr), (4, 0x800, SOURCE + 0x1000));
    // refused at the unit is invalid too
    answers(&bench, &[Answer::Refuse]);
    bench.execute(memmove(BLOCKING));
    assert_eq!(record(&bench).status, 4);
    // success without a page: it asks again
    answers(&bench, &[Answer::Reply(ResponseCode::Success), Answer::Reply(ResponseCode::Success)]);
    bench.execute(memmove(BLOCKING));
    assert_eq!(record(&bench).status, status::SUCCESS);
    assert_eq!(requests(&bench)[4..], [(SOURCE + 0x1000, false); 3]);
}

#[test]
fn failure_ends_all_asking_until_the_capability_is_reset() {
    let bench = bench();
    answers(&bench, &[Answer::Reply(ResponseCode::Failure)]);
    bench.execute(memmove(BLOCKING));
    assert_eq!(record(&bench).status, 4);
    let pri_status = || {
        let mut bytes = [0; 2];
        bench.device.read_config(0x126, &mut bytes);
        u16::from_le_bytes(bytes)
    };
    assert_eq!(pri_status(), 0x8001);
    bench.execute(memmove(BLOCKING));
    assert_eq!((record(&bench).status, requests(&bench).len()), (3, 1));
    bench.device.write_config(0x124, &[0, 0]);
    bench.device.write_config(0x124, &[2, 0]);
    bench.device.write_config(0x124, &[1, 0]);
    assert_eq!(pri_status(), 0x8000);
    bench.execute(memmove(BLOCKING));
    assert_eq!(record(&bench).status, status::SUCCESS);
    bench.device.write_config(0x124, &[0, 0]);
    bench.execute(Descriptor { source: SOURCE + 0x9000, ..memmove(BLOCKING) });
    assert_eq!(record(&bench).status, 3, "page requests are off in configuration space");
}

#[test]
fn a_record_is_asked_for_before_it_goes_to_the_log() {
    let bench = bench();
    bench.execute(descriptor(opcode::NOOP, 0x40_0040));
    assert_eq!((requests(&bench), bench.head_tail()), (vec![(0x40_0000, true)], (0, 0)));
    assert_eq!(bench.memory.peek(P, 0x40_0040, 1), [status::SUCCESS]);
    answers(&bench, &[Answer::Reply(ResponseCode::Invalid)]);
    bench.execute(descriptor(opcode::NOOP, 0x50_0040));
    assert_eq!(bench.memory.peek(None, LOG + 1, 1), [status::CRA_XLAT], "refused: the driver delivers");
    for mode in [dedicated(), asking() | wqcfg::MODE_ATS_DISABLE] {
        let bench = bench_with(mode);
        bench.execute(descriptor(opcode::NOOP, 0x40_0040));
        assert_eq!((requests(&bench), bench.head_tail()), (vec![], (0, 1)));
    }
}

#[test]
fn a_blocking_batch_asks_for_its_list() {
    let bench = bench();
    let elements = [descriptor(opcode::NOOP, RECORDS + 32), descriptor(opcode::NOOP, 0x40_0000)];
    let batch = |flags| {
        Descriptor { source: SOURCE, transfer_size: 2, ..descriptor(opcode::BATCH, RECORDS) }
            .with(opcode::BATCH, flags)
    };
    bench.execute(batch(CR));
    assert_eq!((record(&bench).status, requests(&bench).len()), (status::BATCH_PAGE_FAULT, 0));
    for (i, element) in elements.iter().enumerate() {
        bench.memory.poke(P, SOURCE + i as u64 * 64, element.as_bytes());
    }
    bench.memory.unmap(P, SOURCE);
    answers(&bench, &[Answer::Reply(ResponseCode::Invalid)]);
    bench.execute(batch(BLOCKING));
    assert_eq!(record(&bench).status, status::BATCH_PAGE_FAULT);
    bench.execute(batch(BLOCKING));
    assert_eq!((record(&bench).status, record(&bench).bytes_completed), (status::SUCCESS, 2));
    assert_eq!(requests(&bench), [(SOURCE, false), (SOURCE, false)], "its pages were empty: noops");
}

/// The one engine waits for a page; a descriptor of another WQ waits for the engine.
fn stalled() -> (Bench, JoinHandle<bool>) {
    let bench = bench();
    answers(&bench, &[Answer::Hold]);
    bench.submit(0, memmove(BLOCKING));
    let device = Arc::clone(&bench.device);
    let engine = std::thread::spawn(move || device.step(0));
    while requests(&bench).is_empty() {
        std::thread::yield_now();
    }
    bench.submit(1, descriptor(opcode::NOOP, RECORDS + 32));
    (bench, engine)
}

fn held(bench: &Bench) -> PageRequest {
    *bench.pager.seen.lock().unwrap().last().unwrap()
}

#[test]
fn an_engine_that_waits_is_occupied() {
    let (bench, engine) = stalled();
    assert_eq!((bench.occupancy(0), bench.occupancy(1)), (0, 1));
    let PageRequest { group, .. } = held(&bench);
    bench.device.page_response(P, group ^ 1, ResponseCode::Success);
    bench.device.page_response(P, (group + 4) & 0x1ff, ResponseCode::Success);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!engine.is_finished(), "answers of other groups are not its own");
    bench.memory.map(P, SOURCE, true);
    bench.device.page_response(P, group, ResponseCode::Success);
    assert!(engine.join().unwrap());
    bench.run();
    assert_eq!((record(&bench).status, bench.memory.peek(P, RECORDS + 32, 1)), (1, vec![1]));
    assert!(bench.counters().stalled_ns > 10_000_000);
    let cause = |l: &Line| matches!(l.event, Event::EngineBlocked { cause: BlockCause::PageRequest, .. });
    assert_eq!(bench.truth().iter().filter(|l| cause(l)).count(), 1);
}

#[test]
fn abort_reset_and_stop_end_the_wait() {
    for end in [
        &(|b: &Bench| _ = b.command(c::ABORT_WQ, 1)) as &dyn Fn(&Bench),
        &|b| _ = b.command(c::RESET_DEVICE, 0),
        &|b| _ = b.command(c::DISABLE_DEVICE, 0),
        &|b| b.device.reset(),
        &|b| b.device.stop(),
    ] {
        let (bench, engine) = stalled();
        end(&bench);
        assert!(engine.join().unwrap());
        bench.run();
        assert_eq!(bench.read32(regs::CMDSTATUS), 0);
        // The late answer finds nobody, and nobody takes it for his own.
        bench.device.page_response(P, held(&bench).group, ResponseCode::Success);
        assert!(bench.device.state().engines.iter().all(|e| e.asked.is_none()));
    }
    let (bench, engine) = stalled();
    bench.command(c::DRAIN_WQ, 1);
    assert_eq!(bench.read32(regs::CMDSTATUS), regs::cmdstatus::ACTIVE, "a drain waits with it");
    bench.device.page_response(P, held(&bench).group, ResponseCode::Invalid);
    assert!(engine.join().unwrap());
    assert_eq!(bench.read32(regs::CMDSTATUS), 0);
}
