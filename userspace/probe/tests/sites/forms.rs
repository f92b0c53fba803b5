//! Every form of address that can be assembled gives the one cookie that describes it.

use dsascope_common::wire::site::{SiteCookie, SiteForm, SiteInstruction};
use dsascope_probe::sites::{Reason, Site, What};
use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Instruction, MemoryOperand, Register};
use proptest::prelude::*;

use crate::sample::{OFFSET, Sample, TEXT};

const WIDE: [Register; 16] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RSP,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
const NARROW: [Register; 16] = [
    Register::EAX,
    Register::ECX,
    Register::EDX,
    Register::EBX,
    Register::ESP,
    Register::EBP,
    Register::ESI,
    Register::EDI,
    Register::R8D,
    Register::R9D,
    Register::R10D,
    Register::R11D,
    Register::R12D,
    Register::R13D,
    Register::R14D,
    Register::R15D,
];
/// setz %al; ret
const AFTER: [u8; 4] = [0x0f, 0x94, 0xc0, 0xc3];

/// An address as a programmer writes it; registers by hardware number, base 16 is rip.
#[derive(Clone, Copy, Debug)]
struct Address {
    bitness: u32,
    narrow: bool,
    base: Option<u8>,
    index: Option<(u8, u32)>,
    displacement: i32,
    wide_displacement: bool,
}

fn address() -> impl Strategy<Value = Address> {
    let displacement = prop_oneof![Just(0), -128..=127, any::<i32>()];
    (
        any::<bool>(),
        any::<bool>(),
        prop::option::of(0_u8..17),
        prop::option::of((0_u8..16, 0_u32..4)),
        displacement,
        any::<bool>(),
    )
        .prop_map(|(long, narrow, base, index, displacement, wide_displacement)| {
            let registers = if long { 16 } else { 8 };
            let base = base.filter(|b| long || *b != 16).map(|b| if b == 16 { b } else { b % registers });
            // rsp is no index, and rip takes none.
            let index =
                index.map(|(i, scale)| (i % registers, scale)).filter(|(i, _)| *i != 4 && base != Some(16));
            // Without a register the displacement is the address.
            let displacement =
                if base.is_none() && index.is_none() { displacement & 0x7fff_ffff } else { displacement };
            Address {
                bitness: if long { 64 } else { 32 },
                narrow: narrow || !long,
                base,
                index,
                displacement,
                wide_displacement,
            }
        })
}

/// The code, and the same as a cookie must have it, but for the length.
fn assemble(kind: SiteInstruction, destination: u8, address: Address, ip: u64) -> (Vec<u8>, SiteForm) {
    use SiteInstruction::{Enqcmd, Enqcmds, Movdir64b};
    let code = match (kind, address.narrow) {
        (Movdir64b, false) => Code::Movdir64b_r64_m512,
        (Movdir64b, true) => Code::Movdir64b_r32_m512,
        (Enqcmd, false) => Code::Enqcmd_r64_m512,
        (Enqcmd, true) => Code::Enqcmd_r32_m512,
        (Enqcmds, false) => Code::Enqcmds_r64_m512,
        (Enqcmds, true) => Code::Enqcmds_r32_m512,
        (SiteInstruction::Result, _) => unreachable!("a result is no instruction"),
    };
    let names = if address.narrow { NARROW } else { WIDE };
    let encode = |displacement: i64| {
        let base = match address.base {
            Some(16) if address.narrow => Register::EIP,
            Some(16) => Register::RIP,
            Some(base) => names[usize::from(base)],
            None => Register::None,
        };
        let index = address.index.map_or(Register::None, |(index, _)| names[usize::from(index)]);
        let size = match (address.base, address.index) {
            (Some(16), _) | (None, None) => {
                if address.narrow {
                    4
                } else {
                    8
                }
            }
            (None, Some(_)) => {
                if address.narrow {
                    4
                } else {
                    8
                }
            }
            _ if address.wide_displacement => {
                if address.narrow {
                    4
                } else {
                    8
                }
            }
            _ => 1,
        };
        let scale = address.index.map_or(1, |(_, scale)| 1 << scale);
        let memory = MemoryOperand::new(base, index, scale, displacement, size, false, Register::None);
        let instruction = Instruction::with2(code, names[usize::from(destination)], memory).unwrap();
        let mut encoder = Encoder::new(address.bitness);
        encoder.encode(&instruction, ip).unwrap_or_else(|e| panic!("{address:?}: {e}"));
        encoder.take_buffer()
    };
    let code = if address.base == Some(16) {
        // The assembler takes the address itself; all of these have one length.
        let length = encode(ip as i64).len() as u64;
        let target = (ip + length).wrapping_add_signed(address.displacement.into());
        encode(if address.narrow { i64::from(target as u32) } else { target as i64 })
    } else {
        encode(address.displacement.into())
    };
    let form = SiteForm {
        instruction: kind,
        base: address.base.map_or(0, |b| b + 1),
        index: address.index.map_or(0, |(i, _)| i + 1),
        scale: address.index.map_or(0, |(_, scale)| scale as u8),
        displacement: address.displacement,
        destination: destination + 1,
        addresses_32: address.narrow,
        result_follows: kind != Movdir64b,
        length: code.len() as u8,
    };
    (code, form)
}

fn only_site(sample: &Sample) -> Site {
    let mut scan = sample.scan();
    assert_eq!(scan.unprobeable, []);
    assert_eq!(scan.sites.len(), 1, "{scan:?}");
    scan.sites.remove(0)
}

fn kind() -> impl Strategy<Value = SiteInstruction> {
    prop_oneof![
        Just(SiteInstruction::Movdir64b),
        Just(SiteInstruction::Enqcmd),
        Just(SiteInstruction::Enqcmds)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_assembled_is_found_as_it_was_meant(
        kind in kind(),
        destination in 0_u8..16,
        address in address(),
        nops in 0_usize..40,
        registers in prop::array::uniform16(any::<u64>()),
    ) {
        let destination = if address.bitness == 32 { destination % 8 } else { destination };
        let ip = TEXT + nops as u64;
        let (instruction, form) = assemble(kind, destination, address, ip);
        let code = [vec![0x90; nops], instruction.clone(), AFTER.to_vec()].concat();
        let site = only_site(&Sample::new(address.bitness).function("submit", &code));
        let cookie = site.cookie.unwrap();
        prop_assert_eq!(cookie.unpack(), Some(form));
        prop_assert_eq!(site.what as u8, kind as u8);
        prop_assert_eq!(site.address, ip);
        prop_assert_eq!(site.file_offset, OFFSET + nops as u64);
        let result = (kind != SiteInstruction::Movdir64b).then_some(site.file_offset + instruction.len() as u64);
        prop_assert_eq!(site.result_offset, result);

        // What the eBPF program computes is what the processor would.
        let decoded = Decoder::with_ip(address.bitness, &instruction, ip, DecoderOptions::NONE).decode();
        let truth = decoded.virtual_address(1, 0, |register, _, _| {
            Some(if register.is_segment_register() {
                0
            } else {
                let value = registers[register.number()];
                if register.size() == 4 { u64::from(value as u32) } else { value }
            })
        });
        let value = |number: u8| match number {
            0 => 0,
            17 => site.address + u64::from(cookie.length()),
            number => registers[usize::from(number - 1)],
        };
        prop_assert_eq!(Some(cookie.source(value(cookie.base()), value(cookie.index()))), truth);
    }
}

#[test]
fn prefixes_may_come_in_any_order() {
    // 67 and 66, F2, F3 around each other; a REX that is not last has no meaning.
    for (code, what) in [
        (&[0x66, 0x67, 0x0f, 0x38, 0xf8, 0x02][..], What::Movdir64b),
        (&[0x67, 0x66, 0x0f, 0x38, 0xf8, 0x02], What::Movdir64b),
        (&[0x67, 0xf2, 0x0f, 0x38, 0xf8, 0x02], What::Enqcmd),
        (&[0xf3, 0x67, 0x0f, 0x38, 0xf8, 0x02], What::Enqcmds),
        (&[0x66, 0xf2, 0x67, 0x0f, 0x38, 0xf8, 0x02], What::Enqcmd),
        (&[0x4f, 0x67, 0xf3, 0x0f, 0x38, 0xf8, 0x02], What::Enqcmds),
    ] {
        let site = only_site(&Sample::new(64).function("submit", &[code, &AFTER].concat()));
        assert_eq!(site.what, what, "{code:02x?}");
        let form = site.cookie.and_then(SiteCookie::unpack).unwrap();
        assert_eq!(
            (form.base, form.destination, form.addresses_32, form.length),
            (3, 1, true, code.len() as u8)
        );
        assert_eq!(site.address, TEXT);
    }
}

#[test]
fn what_no_cookie_can_say_is_named_with_its_reason() {
    let reason = |bitness: u32, code: &[u8]| {
        let scan = Sample::new(bitness).function("submit", &[code, &AFTER].concat()).scan();
        assert_eq!(scan.sites, [], "{code:02x?}");
        assert_eq!(scan.unprobeable.len(), 1, "{code:02x?}");
        (scan.unprobeable[0].reason, scan.unprobeable[0].to_string())
    };
    let (why, text) = reason(64, &[0x64, 0x66, 0x0f, 0x38, 0xf8, 0x02]);
    assert_eq!(why, Reason::Segment("fs"));
    assert_eq!(
        text,
        "movdir64b %fs:(%rdx),%rax at 0x401000 (submit+0x0): its source is relative to the fs segment"
    );
    assert_eq!(reason(64, &[0xf2, 0x65, 0x0f, 0x38, 0xf8, 0x02]).0, Reason::Segment("gs"));
    assert_eq!(reason(32, &[0x3e, 0xf2, 0x0f, 0x38, 0xf8, 0x02]).0, Reason::SegmentPrefix);
    assert_eq!(reason(32, &[0x67, 0xf3, 0x0f, 0x38, 0xf8, 0x00]).0, Reason::Addresses16);
}
