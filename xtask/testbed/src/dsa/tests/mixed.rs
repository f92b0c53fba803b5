//! DSA and IAA side by side: one memory, one truth log, entries of 64 and of 128 bytes.

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::event_log::EntryHeader;
use zerocopy::FromBytes;

use super::*;
use crate::truth::{Event, summary, unhex};

/// The event log of the IAA; that of the DSA is [`LOG`].
const IAX_LOG: u64 = LOG + 0x10_0000;

#[test]
fn each_device_keeps_to_its_own_log_and_format() {
    let dsa = Bench::running(Kind::Dsa, 64);
    let config = DeviceConfig { kind: Kind::Iax, ..DeviceConfig::default() };
    let iax = Bench::on("iax1", config, Arc::clone(&dsa.memory), Arc::clone(&dsa.truth_log));
    iax.event_log(64);
    for page in 0..2 {
        iax.memory.map(None, IAX_LOG + page * PAGE, true);
    }
    iax.write64(regs::EVLCFG, IAX_LOG);
    iax.group(0, 1, 0xf);
    iax.wq(0, 16, dedicated());
    assert_eq!(iax.command(command::ENABLE_DEVICE, 0), 0);
    assert_eq!(iax.command(command::ENABLE_WQ, 0), 0);
    // Each wraps on its own: 64 slots, of which the driver reads 40 in between.
    for i in 0..100u64 {
        for bench in [&dsa, &iax] {
            if i == 40 || i == 80 {
                bench.write32(regs::EVLSTATUS, (i % 64) as u32);
            }
            bench.execute(descriptor(opcode::NOOP, 0x40_0000 + i * 64));
        }
    }
    assert_eq!((dsa.head_tail(), iax.head_tail()), ((16, 36), (16, 36)));
    for (name, log, bytes, record) in [("dsa0", LOG, 64, 32), ("iax1", IAX_LOG, 128, 64)] {
        let slot = |index: u64| dsa.memory.peek(None, log + index * bytes, bytes as usize);
        for (index, number) in [(35, 99), (36, 36), (63, 63)] {
            let entry = slot(index);
            let header = EntryHeader::read_from_bytes(&entry[..32]).unwrap();
            let of = (header.error(), header.fault_addr());
            assert_eq!(of, (status::CRA_XLAT, 0x40_0000 + number * 64), "{name} {index}");
            assert_eq!(entry[record], status::SUCCESS);
        }
        let raw = dsa.truth().into_iter().rev().find_map(|l| match l.event {
            Event::EventLogEntry { device, raw, .. } if device == name => unhex(&raw),
            _ => None,
        });
        assert_eq!(raw.unwrap(), slot(35), "the truth log has the whole entry");
    }
    let counts = summary::summarise(&dsa.truth());
    assert_eq!(counts.len(), 2);
    assert!(counts.values().all(|c| c.entries[&status::CRA_XLAT] == 100));
    // What only one of them can: a batch.
    dsa.memory.map(Some(PASID), 0x8000, true);
    for bench in [&dsa, &iax] {
        bench.execute(Descriptor { source: 0x9000, transfer_size: 2, ..descriptor(opcode::BATCH, 0x8000) });
        let refused = status::BATCH_PAGE_FAULT;
        let expected = if std::ptr::eq(bench, &raw const dsa) { refused } else { status::BAD_OPCODE };
        assert_eq!(dsa.memory.peek(Some(PASID), 0x8000, 1), [expected]);
    }
}
