//! The walk and the registers, over RAM with tables laid out by hand.

use super::walk::walk;
use super::*;
use crate::memory::tests::ram;

const ROOT: u64 = 0x1000;
const CONTEXT: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
const PASIDS: u64 = 0x4000;
/// Level 4, then 3, 2, 1.
const TABLES: [u64; 4] = [0x5000, 0x6000, 0x7000, 0x8000];
const SOURCE: u16 = 0x11 << 3;
const PASID: u32 = 3;
const VA: u64 = 0x7f12_3456_7000;

fn index(level: u32) -> u64 {
    (VA >> (12 + 9 * (level - 1)) & 511) * 8
}

/// A machine in which [`PASID`] maps [`VA`] to 0x9000, writable, for users.
fn machine() -> GuestMemory {
    let memory = ram(0, 0x1_0000);
    let store = |at, value| memory.store_u64(at, value).unwrap();
    store(ROOT + 8, CONTEXT | 1); // functions 0x80 and up
    let context = CONTEXT + u64::from(SOURCE & 0x7f) * 32;
    store(context, DIRECTORY | 1 | 1 << 3);
    store(context + 8, 0);
    store(DIRECTORY, PASIDS | 1);
    store(PASIDS, 1 | 4 << 6); // RID_PASID 0: pass-through
    store(PASIDS + u64::from(PASID) * 64, 1 | 1 << 6);
    store(PASIDS + u64::from(PASID) * 64 + 16, TABLES[0]);
    for level in (2..=4).rev() {
        let table = TABLES[4 - level as usize];
        store(table + index(level), TABLES[5 - level as usize] | 7);
    }
    store(TABLES[3] + index(1), 0x9000 | 7);
    memory
}

fn access(address: u64, write: bool) -> Access {
    Access { source: SOURCE, pasid: Some(PASID), address, write }
}

fn fault(memory: &GuestMemory, access: Access) -> WalkFault {
    match walk(memory, ROOT, access) {
        Err(WalkError::Fault { address, fault }) => {
            assert_eq!(address, access.address);
            fault
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn walks_and_marks() {
    let memory = machine();
    assert_eq!(walk(&memory, ROOT, access(VA + 0x123, false)), Ok(0x9123));
    assert_eq!(memory.load_u64(TABLES[0] + index(4)), Ok(TABLES[1] | 7 | 0x20));
    assert_eq!(memory.load_u64(TABLES[3] + index(1)), Ok(0x9000 | 7 | 0x20), "accessed, not dirty");
    assert_eq!(walk(&memory, ROOT, access(VA, true)), Ok(0x9000));
    assert_eq!(memory.load_u64(TABLES[3] + index(1)), Ok(0x9000 | 7 | 0x60));
    assert_eq!(memory.load_u64(TABLES[0] + index(4)), Ok(TABLES[1] | 7 | 0x20), "only leaves are dirty");
    let untagged = Access { pasid: None, ..access(0xdead_beef, true) };
    assert_eq!(walk(&memory, ROOT, untagged), Ok(0xdead_beef));
}

#[test]
fn large_pages() {
    let memory = machine();
    memory.store_u64(TABLES[2] + index(2), 0x4000_0000 | 0x87).unwrap();
    assert_eq!(walk(&memory, ROOT, access(VA, true)), Ok(0x4000_0000 | VA & 0x1f_ffff));
    assert_eq!(memory.load_u64(TABLES[2] + index(2)), Ok(0x4000_0000 | 0xe7));
    memory.store_u64(TABLES[1] + index(3), 0x8000_0000 | 0x87).unwrap();
    assert_eq!(walk(&memory, ROOT, access(VA, false)), Ok(0x8000_0000 | VA & 0x3fff_ffff));
}

#[test]
fn each_fault_has_its_name() {
    let with = |at: u64, value: u64, write| {
        let memory = machine();
        memory.store_u64(at, value).unwrap();
        fault(&memory, access(VA, write))
    };
    let entry = PASIDS + u64::from(PASID) * 64;
    let context = CONTEXT + u64::from(SOURCE & 0x7f) * 32;
    assert_eq!(with(ROOT + 8, 0, false), WalkFault::RootEntry);
    assert_eq!(with(context, 0, false), WalkFault::ContextEntry);
    assert_eq!(with(context, DIRECTORY | 1, false), WalkFault::PasidsOff);
    assert_eq!(with(DIRECTORY, 0, false), WalkFault::PasidDirectory);
    assert_eq!(with(entry, 0, false), WalkFault::PasidEntry);
    assert_eq!(with(entry, 1 | 2 << 6, false), WalkFault::TranslationType(2));
    assert_eq!(with(entry + 16, TABLES[0] | 1 << 2, false), WalkFault::TranslationType(5));
    assert_eq!(with(TABLES[2] + index(2), 0, false), WalkFault::NotPresent(2));
    assert_eq!(with(TABLES[3] + index(1), 0x9000 | 5, true), WalkFault::NotWritable(1));
    assert_eq!(with(TABLES[3] + index(1), 0x9000 | 3, false), WalkFault::UserBit(1));
    let memory = machine();
    assert_eq!(fault(&memory, access(1 << 47, false)), WalkFault::NotCanonical);
    assert_eq!(fault(&memory, Access { pasid: Some(1 << 13), ..access(VA, false) }), WalkFault::PasidRange);
    let unknown = walk(&memory, 0, access(VA, false));
    assert_eq!(unknown, Err(WalkError::Fault { address: VA, fault: WalkFault::NoRootTable }));
    memory.store_u64(entry + 16, 0xf_0000_0000).unwrap();
    assert!(matches!(walk(&memory, ROOT, access(VA, false)), Err(WalkError::Memory(_))));
}

/// Registers with queued invalidation on, a queue of 256 narrow descriptors at 0xa000.
fn queue() -> (GuestMemory, Translation, Registers) {
    let (memory, translation, mut registers) = (machine(), Translation::default(), Registers::default());
    registers.write(0x90, &0xa000u64.to_le_bytes(), &memory, &translation);
    registers.write(0x18, &(1u32 << 26).to_le_bytes(), &memory, &translation);
    (memory, translation, registers)
}

fn read64(registers: &Registers, at: u64) -> u64 {
    let mut bytes = [0; 8];
    registers.read(at, &mut bytes);
    u64::from_le_bytes(bytes)
}

#[test]
fn waits_store_their_status() {
    let (memory, translation, mut registers) = queue();
    memory.store_u64(0xa000, 2 | 1 << 4).unwrap(); // IOTLB
    memory.store_u64(0xa010, 5 | 1 << 5 | 77 << 32).unwrap(); // wait
    memory.store_u64(0xa018, 0xb000).unwrap();
    registers.write(0x88, &0x20u64.to_le_bytes(), &memory, &translation);
    assert_eq!(memory.load_u64(0xb000), Ok(77));
    assert_eq!(read64(&registers, 0x80), 0x20);
    // around the end of the ring, and a pointer that is not on a descriptor
    registers.write(0x88, &0x17u64.to_le_bytes(), &memory, &translation);
    assert_eq!(read64(&registers, 0x34) >> 4 & 1, 1, "zeroes are no descriptor");
}

#[test]
fn root_table_and_capabilities() {
    let (memory, translation, mut registers) = queue();
    registers.write(0x20, &(ROOT | 1 << 10).to_le_bytes(), &memory, &translation);
    let physical = |t: &Translation| t.access(&memory, access(VA, false), Ok);
    assert!(physical(&translation).is_err(), "not before it is set");
    registers.write(0x18, &(1u32 << 31 | 1 << 30 | 1 << 26).to_le_bytes(), &memory, &translation);
    assert_eq!(physical(&translation), Ok(0x9000));
    assert_eq!(read64(&registers, 0x18) >> 32, 1 << 31 | 1 << 30 | 1 << 26);
    assert_eq!(read64(&registers, 0x10) >> 48 & 1, 1, "SMPWC");
    registers.write(0x10, &[0; 8], &memory, &translation);
    assert_ne!(read64(&registers, 0x10), 0, "read-only");
    registers.write(0x28, &u64::MAX.to_le_bytes(), &memory, &translation);
    assert_eq!(read64(&registers, 0x28) >> 63, 0, "done at once");
}

proptest::proptest! {
    #[test]
    fn no_guest_breaks_the_unit(
        writes in proptest::collection::vec((0u64..0x1100, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..9)), 0..40),
        walks in proptest::collection::vec((proptest::prelude::any::<u64>(), 0u64..0xb000, proptest::prelude::any::<u64>()), 0..20)) {
        let (memory, translation, mut registers) = queue();
        for (at, data) in writes {
            registers.write(at, &data, &memory, &translation);
            registers.read(at, &mut [0; 8]);
        }
        for (address, poke, value) in walks {
            memory.store_u64(poke & !7, value).unwrap();
            let _ = walk(&memory, ROOT, access(address, address & 1 == 0));
            let _ = walk(&memory, value, access(VA, true));
        }
    }
}

#[test]
fn the_bar_is_known_once_memory_decoding_is_on() {
    let unit = Unit::new(Arc::default());
    unit.write(Region::Config, 0x10, &u32::MAX.to_le_bytes());
    unit.write(Region::Config, 4, &[2, 0]);
    assert_eq!(unit.bar(), None);
    unit.write(Region::Config, 4, &[0, 0]);
    unit.write(Region::Config, 0x10, &0xfebf_0000u32.to_le_bytes());
    assert_eq!(unit.wait_bar(Duration::from_millis(1)), None);
    unit.write(Region::Config, 4, &[2, 0]);
    assert_eq!(unit.wait_bar(Duration::ZERO), Some(0xfebf_0000));
    unit.forget_bar();
    assert_eq!(unit.bar(), None);
}
