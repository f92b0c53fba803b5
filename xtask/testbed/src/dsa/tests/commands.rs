//! Each rule of the commands, by its error code.

use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::regs::{cmdstatus as cs, command as c, genstats, intcause};

use super::*;
use crate::truth::Event;

#[test]
fn enable_device_refuses() {
    let status = |prepare: &dyn Fn(&Bench)| {
        let bench = Bench::new(Kind::Dsa);
        bench.event_log(64);
        bench.group(0, 1, 1);
        bench.wq(0, 16, dedicated());
        prepare(&bench);
        bench.command(c::ENABLE_DEVICE, 0)
    };
    assert_eq!(status(&|_| ()), cs::OK);
    assert_eq!(status(&|b| assert_eq!(b.command(c::ENABLE_DEVICE, 0), 0)), cs::DEVICE_ENABLED);
    assert_eq!(status(&|b| b.device.write_config(4, &[2, 0])), cs::BUS_MASTER);
    assert_eq!(status(&|b| b.write64(regs::EVLCFG_SIZE, 63)), cs::DEVICE_CONFIG);
    assert_eq!(status(&|b| b.write32(regs::EVLSTATUS, 64)), cs::DEVICE_CONFIG);
    let log_pasid = |b: &Bench| {
        b.write64(regs::EVLCFG, LOG | 1);
        b.device.write_config(0x116, &[0, 0]);
    };
    assert_eq!(status(&log_pasid), cs::DEVICE_PASID);
    assert_eq!(status(&|b| b.wq_dword(0, wqcfg::SIZE, 129)), cs::WQ_SIZES);
    assert_eq!(status(&|b| b.group(1, 1, 2)), cs::GROUP_CONFIG, "a WQ in two groups");
    assert_eq!(status(&|b| b.group(1, 2, 1)), cs::GROUP_CONFIG, "an engine in two groups");
    assert_eq!(status(&|b| b.group(1, 2, 0)), cs::GROUP_CONFIG, "a group without engines");
    assert_eq!(status(&|b| b.wq_dword(3, wqcfg::SIZE, 1)), cs::GROUP_CONFIG, "a WQ without group");
}

#[test]
fn enable_wq_refuses() {
    let status = |prepare: &dyn Fn(&Bench)| {
        let bench = Bench::new(Kind::Dsa);
        bench.group(0, 0xff, 1);
        bench.wq(1, 16, dedicated());
        assert_eq!(bench.command(c::ENABLE_DEVICE, 0), 0);
        prepare(&bench);
        bench.command(c::ENABLE_WQ, 1)
    };
    let mode = |mode: u32| move |b: &Bench| b.wq_dword(1, wqcfg::MODE, mode);
    assert_eq!(status(&|_| ()), cs::OK);
    assert_eq!(status(&|b| assert_eq!(b.command(c::DISABLE_DEVICE, 0), 0)), cs::DEVICE_NOT_ENABLED);
    assert_eq!(status(&|b| assert_eq!(b.command(c::ENABLE_WQ, 1), 0)), cs::WQ_ENABLED);
    assert_eq!(status(&|b| b.wq_dword(1, wqcfg::SIZE, 0)), cs::WQ_SIZE);
    assert_eq!(status(&|b| b.wq_dword(1, wqcfg::SIZE, 200)), cs::WQ_SIZE);
    assert_eq!(status(&mode(dedicated() & !0xf0)), cs::WQ_PRIORITY);
    assert_eq!(status(&mode(shared())), cs::OK);
    let no_threshold = |b: &Bench| {
        mode(shared())(b);
        b.wq_dword(1, wqcfg::THRESHOLD, 0);
    };
    assert_eq!(status(&no_threshold), cs::WQ_MODE);
    assert_eq!(status(&mode(dedicated() | wqcfg::MODE_BLOCK_ON_FAULT)), cs::WQ_BLOCK_ON_FAULT);
    assert_eq!(status(&mode(shared() & !wqcfg::MODE_PASID_ENABLE)), cs::WQ_PASID_ENABLE);
    assert_eq!(status(&|b| b.device.write_config(0x116, &[0, 0])), cs::WQ_PASID_ENABLE);
    assert_eq!(status(&|b| b.wq_dword(1, wqcfg::LIMITS, 11 << 5)), cs::WQ_MAX_BATCH);
    let bench = Bench::running(Kind::Dsa, 64);
    assert_eq!(bench.command(c::ENABLE_WQ, 8), cs::INVALID_WQ);
}

#[test]
fn wq_commands_want_an_enabled_wq() {
    let bench = Bench::running(Kind::Dsa, 64);
    for code in [c::DISABLE_WQ, c::DRAIN_WQ, c::ABORT_WQ, c::RESET_WQ] {
        assert_eq!(bench.command(code, 1 << 1), cs::WQ_NOT_ENABLED);
        assert_eq!(bench.command(code, 1 << 16 | 1), cs::INVALID_WQ);
        assert_eq!(bench.command(code, 0), cs::INVALID_WQ);
    }
    assert_eq!(bench.command(c::DRAIN_WQ, 1), cs::OK);
    assert_eq!(bench.command(c::ABORT_WQ, 1), cs::OK);
    assert_eq!(bench.wq_state(0), wqcfg::STATE_ENABLED);
    assert_eq!(bench.command(c::DISABLE_WQ, 1), cs::OK);
    assert_eq!(bench.wq_state(0), wqcfg::STATE_DISABLED);
    assert_eq!(bench.read32(WQCFG), 16, "disable keeps the configuration");
    assert_eq!(bench.command(c::ENABLE_WQ, 0), cs::OK);
    assert_eq!(bench.command(c::RESET_WQ, 1), cs::OK);
    assert_eq!(bench.read32(WQCFG), 0, "reset does not");
    assert_eq!(bench.command(c::REQUEST_INT_HANDLE, 0), cs::INVALID_COMMAND);
    assert_eq!(bench.command(31, 0), cs::INVALID_COMMAND);
    assert_eq!(bench.command(c::DISABLE_DEVICE, 0), cs::OK);
    assert_eq!(bench.command(c::DISABLE_DEVICE, 0), cs::DEVICE_NOT_ENABLED_DISABLE);
    assert_eq!(bench.command(c::DRAIN_WQ, 1), cs::WQ_NOT_ENABLED);
}

#[test]
fn drain_is_active_until_earlier_descriptors_are_done() {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.submit(0, descriptor(opcode::NOOP, 0x9000));
    bench.submit(0, descriptor(opcode::NOOP, 0x9000));
    let interrupt = c::INTERRUPT | c::DRAIN_PASID << c::CODE_SHIFT | PASID;
    bench.write32(regs::CMD, interrupt);
    assert_eq!(bench.read32(regs::CMDSTATUS), cs::ACTIVE);
    bench.submit(0, descriptor(opcode::NOOP, 0x9000));
    assert!(bench.device.step(0));
    assert_eq!(bench.read32(regs::CMDSTATUS), cs::ACTIVE);
    bench.interrupts();
    bench.write32(regs::INTCAUSE, u32::MAX);
    assert!(bench.device.step(0));
    assert_eq!(bench.read32(regs::CMDSTATUS), cs::OK, "the third came later");
    assert_eq!(bench.read32(regs::INTCAUSE) & intcause::COMMAND, intcause::COMMAND);
    assert_eq!(bench.interrupts(), [0]);
    // both faulted completion records were in the log before the drain ended
    let kinds = bench.truth();
    let drained = kinds.iter().position(|l| matches!(l.event, Event::Command { code: c::DRAIN_PASID, .. }));
    let entries = kinds[..drained.unwrap()].iter().filter(|l| matches!(l.event, Event::EventLogEntry { .. }));
    assert_eq!(entries.count(), 2);
    assert_eq!(bench.command(c::DRAIN_PASID, PASID + 1), cs::OK, "another PASID does not wait");
}

#[test]
fn abort_and_disable_and_reset() {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.submit(0, descriptor(opcode::NOOP, 0x9000));
    assert_eq!(bench.command(c::ABORT_PASID, PASID), cs::OK);
    assert_eq!((bench.occupancy(0), bench.counters().dropped), (0, 1));
    bench.submit(0, descriptor(opcode::NOOP, 0x9000));
    bench.write32(regs::CMD, c::DISABLE_DEVICE << c::CODE_SHIFT);
    assert_eq!(bench.read32(regs::GENSTATS) & 3, genstats::DRAIN);
    bench.write32(regs::CMD, c::ENABLE_DEVICE << c::CODE_SHIFT);
    bench.run();
    assert_eq!(bench.read32(regs::GENSTATS) & 3, genstats::DISABLED, "the second command was ignored");
    assert_eq!(bench.head_tail(), (0, 1));
    bench.submit(0, descriptor(opcode::NOOP, 0x9000));
    assert_eq!((bench.occupancy(0), bench.counters().dropped), (0, 2));
    assert_eq!(bench.command(c::RESET_DEVICE, 0), cs::OK);
    assert_eq!((bench.head_tail(), bench.read64(regs::EVLCFG), bench.read32(WQCFG)), ((0, 0), 0, 0));
}
