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
            let request = PageRequest { pasid: PASID, address: VA, write: false, group: at as u16 };
            registers.post(&memory, SOURCE, request);
        }
        proptest::prop_assert!(registers.overflowed.len() <= usize::from(GROUP_MASK) + 1);
        for (address, poke, value) in walks {
            memory.store_u64(poke & !7, value).unwrap();
            let _ = walk(&memory, ROOT, access(address, address & 1 == 0));
            let _ = walk(&memory, value, access(VA, true));
        }
    }
}

#[test]
fn the_bar_is_known_once_memory_decoding_is_on() {
    let unit = Unit::new(Arc::default(), Arc::<MessagePort>::default());
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

/// Requests, and what the guest's handler would see.
mod page_requests {
    use super::*;

    const QUEUE: u64 = 0xc000;
    const MESSAGE: Message = Message { address: 0xfee0_1000, data: 0x4041 };
    const STATUS: u64 = 0xdc;
    const CONTROL: u64 = 0xe0;

    /// Registers with a queue of one page, its event unmasked.
    fn unit() -> (GuestMemory, Translation, Registers) {
        let (memory, translation, mut registers) = queue();
        let mut write = |at: u64, value: u32| {
            registers.write(at, &value.to_le_bytes(), &memory, &translation);
        };
        write(0xd0, QUEUE as u32);
        write(0xe4, MESSAGE.data);
        write(0xe8, MESSAGE.address as u32);
        write(0xec, 0);
        write(CONTROL, 0);
        (memory, translation, registers)
    }

    fn request(group: u16) -> PageRequest {
        PageRequest { pasid: PASID, address: VA, write: true, group }
    }

    fn status(registers: &Registers) -> u64 {
        read64(registers, STATUS) & 3
    }

    #[test]
    fn a_request_has_the_form_that_the_guest_reads() {
        let (memory, translation, mut registers) = unit();
        assert_eq!(registers.post(&memory, SOURCE, request(0x105)), (Posted::Queued, Some(MESSAGE)));
        let low = 1 | 1 << 8 | u64::from(SOURCE) << 16 | u64::from(PASID) << 32;
        assert_eq!(memory.load_u64(QUEUE), Ok(low));
        assert_eq!(memory.load_u64(QUEUE + 8), Ok(VA | 0x105 << 3 | 1 << 2 | 1 << 1));
        assert_eq!((read64(&registers, 0xc8), status(&registers)), (32, 1));
        let read = PageRequest { write: false, ..request(1) };
        assert_eq!(
            registers.post(&memory, SOURCE, read),
            (Posted::Queued, None),
            "one message until cleared"
        );
        assert_eq!(memory.load_u64(QUEUE + 40), Ok(VA | 1 << 3 | 1 << 2 | 1));
        registers.write(STATUS, &1u32.to_le_bytes(), &memory, &translation);
        assert_eq!(registers.post(&memory, SOURCE, request(2)).1, Some(MESSAGE));
    }

    #[test]
    fn a_masked_event_waits_for_its_unmasking() {
        let (memory, translation, mut registers) = unit();
        let control = |registers: &mut Registers, value: u32| {
            registers.write(CONTROL, &value.to_le_bytes(), &memory, &translation).message
        };
        assert_eq!(control(&mut registers, 1 << 31), None);
        assert_eq!(registers.post(&memory, SOURCE, request(0)).1, None);
        assert_eq!(read64(&registers, CONTROL) >> 30 & 3, 3);
        assert_eq!(control(&mut registers, 0), Some(MESSAGE));
        assert_eq!(control(&mut registers, 0), None, "once");
        // served by polling before it was unmasked
        control(&mut registers, 1 << 31);
        registers.write(STATUS, &1u32.to_le_bytes(), &memory, &translation);
        registers.post(&memory, SOURCE, request(0));
        registers.write(STATUS, &1u32.to_le_bytes(), &memory, &translation);
        assert_eq!(control(&mut registers, 0), None);
    }

    #[test]
    fn what_overflows_is_asked_again() {
        let (memory, translation, mut registers) = unit();
        for group in 0..127 {
            assert_eq!(registers.post(&memory, SOURCE, request(group)).0, Posted::Queued);
        }
        assert_eq!(registers.post(&memory, SOURCE, request(127)), (Posted::Overflow, Some(MESSAGE)));
        registers.write(0xc0, &(127u64 * 32).to_le_bytes(), &memory, &translation);
        assert_eq!(registers.post(&memory, SOURCE, request(128)), (Posted::Overflow, None), "until cleared");
        let effects = registers.write(STATUS, &1u32.to_le_bytes(), &memory, &translation);
        assert!(effects.responses.is_empty());
        let mut again = registers.write(STATUS, &2u32.to_le_bytes(), &memory, &translation).responses;
        again.sort_by_key(|r| r.group);
        let code = ResponseCode::Success;
        let response = |group| PageResponse { source: SOURCE, pasid: Some(PASID), group, code };
        assert_eq!(again, [response(127), response(128)]);
        assert_eq!(registers.post(&memory, SOURCE, request(127)).0, Posted::Queued, "around the end");
        assert_eq!(read64(&registers, 0xc8), 0);
    }

    #[test]
    fn refused_without_a_queue_or_its_memory() {
        let (memory, translation, mut registers) = queue();
        assert_eq!(registers.post(&memory, SOURCE, request(0)), (Posted::Refused, None));
        registers.write(0xd0, &0xffff_0000u64.to_le_bytes(), &memory, &translation);
        assert_eq!(registers.post(&memory, SOURCE, request(0)), (Posted::Refused, None));
    }

    #[derive(Debug, Default)]
    struct Function(Mutex<Vec<PageResponse>>);

    impl Requester for Function {
        fn page_response(&self, response: PageResponse) {
            self.0.lock().unwrap().push(response);
        }
    }

    #[derive(Debug, Default)]
    struct Sent(Mutex<Vec<Message>>);

    impl Messages for Sent {
        fn send(&self, message: Message) -> bool {
            self.0.lock().unwrap().push(message);
            true
        }
    }

    #[test]
    fn answers_find_their_function() {
        let machine = Arc::<Machine>::default();
        let ram = crate::memory::tests::ram_file(0x1_0000);
        assert!(machine.memory.add(0, 0x1_0000, &ram, 0).unwrap());
        let memory = &machine.memory;
        let store = |at, value| memory.store_u64(at, value).unwrap();
        let sent = Arc::<Sent>::default();
        let unit = Unit::new(Arc::clone(&machine), Arc::<Sent>::clone(&sent));
        let function = Arc::<Function>::default();
        let requester: Weak<dyn Requester> = Arc::<Function>::downgrade(&function);
        unit.attach(SOURCE, requester);
        let write = |at: u64, value: u64| unit.write(Region::Bar0, at, &value.to_le_bytes());
        write(0x90, 0xa000);
        write(0xd0, QUEUE);
        unit.write(Region::Bar0, CONTROL, &[0; 4]);
        unit.write(Region::Bar0, 0xe8, &0xfee0_0000u32.to_le_bytes());
        write(0x20, ROOT | 1 << 10);
        unit.write(Region::Bar0, 0x18, &(1u32 << 31 | 1 << 30 | 1 << 26).to_le_bytes());
        assert_eq!(unit.request_page(SOURCE, request(9)), Posted::Refused, "no context entry");
        store(ROOT + 8, CONTEXT | 1);
        let context = CONTEXT + u64::from(SOURCE & 0x7f) * 32;
        store(context, DIRECTORY | 1 | 1 << 3);
        assert_eq!(unit.request_page(SOURCE, request(9)), Posted::Refused, "PRE is off");
        store(context, DIRECTORY | 1 | 1 << 3 | 1 << 4);
        assert_eq!(unit.request_page(SOURCE, request(9)), Posted::Queued);
        assert_eq!(sent.0.lock().unwrap().len(), 1);
        // two answers and a wait
        let answer = |at, source: u16, code: u64| {
            store(at, 9 | 1 << 4 | code << 12 | u64::from(source) << 16 | u64::from(PASID) << 32);
            store(at + 8, 9 << 3 | 1 << 2);
        };
        answer(0xa000, SOURCE, 1);
        answer(0xa010, SOURCE + 8, 0);
        answer(0xa020, SOURCE, 0xf);
        store(0xa030, 5 | 1 << 5 | 77 << 32);
        store(0xa038, 0xb000);
        write(0x88, 0x40);
        assert_eq!(memory.load_u64(0xb000), Ok(77));
        let response = |code| PageResponse { source: SOURCE, pasid: Some(PASID), group: 9, code };
        let expected = [response(ResponseCode::Invalid), response(ResponseCode::Failure)];
        assert_eq!(*function.0.lock().unwrap(), expected, "the third is for another function");
    }
}
