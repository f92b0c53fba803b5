//! Batches whose descriptor list is not there: the submitter's arithmetic goes on where the device stopped.

use dsascope_common::hw::completion::{DsaCompletion, status};
use dsascope_common::hw::descriptor::opcode;
use dsascope_submit::{last_of_batch, resume};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::*;

const P: Option<u32> = Some(PASID);
const RECORDS: u64 = 0x8000;
const TARGET: u64 = 0x9000;
const LIST: u64 = 0x1_0000;

proptest! {
    #[test]
    fn a_batch_is_done_once_and_whole(count in 2..32u64, first in 0..64u64, absent in any::<[bool; 2]>()) {
        let bench = Bench::running(Kind::Dsa, 64);
        bench.memory.map(P, RECORDS, true);
        bench.memory.map(P, TARGET, true);
        let list = LIST + first * 64;
        let element = |index: u64| Descriptor {
            source: 0x0101_0101_0101_0101 * (index + 1),
            destination: TARGET + index * 8,
            transfer_size: 8,
            ..Descriptor::default()
        }
        .with(opcode::MEMFILL, 0);
        let write = |page: u64| {
            let on_page = (0..count).filter(|index| (list + index * 64) / PAGE == page / PAGE);
            on_page.for_each(|index| bench.memory.poke(P, list + index * 64, element(index).as_bytes()));
        };
        let pages = [LIST, LIST + PAGE];
        pages.into_iter().zip(absent).filter(|(_, absent)| !absent).for_each(|(page, _)| write(page));
        let mut batch =
            Descriptor { source: list, transfer_size: count as u32, ..descriptor(opcode::BATCH, RECORDS) };
        let mut faults = 0;
        loop {
            bench.memory.poke(P, RECORDS, &[0; 32]);
            bench.execute(batch);
            let done = DsaCompletion::read_from_bytes(&bench.memory.peek(P, RECORDS, 32)).unwrap();
            if done.status == status::SUCCESS {
                break;
            }
            prop_assert_eq!(done.status, status::BATCH_PAGE_FAULT);
            faults += 1;
            prop_assert!(faults <= 2 && pages.contains(&(done.fault_addr & !(PAGE - 1))));
            write(done.fault_addr & !(PAGE - 1));
            if let Some(last) = last_of_batch(&batch, &done) {
                let alone = Descriptor::read_from_bytes(&bench.memory.peek(P, last, 64)).unwrap();
                bench.execute(alone);
                break;
            }
            batch = resume(&batch, &done).unwrap();
        }
        let filled = bench.memory.peek(P, TARGET, 33 * 8);
        let expected = (0..33 * 8).map(|at| if at / 8 < count { (at / 8 + 1) as u8 } else { 0 });
        prop_assert_eq!(filled, expected.collect::<Vec<_>>());
        let is_element = |line: &&Line| matches!(line.event, Event::Descriptor { opcode: opcode::MEMFILL, .. });
        let elements = bench.truth().iter().filter(is_element).count() as u64;
        prop_assert_eq!(elements, count, "each once");
    }
}
