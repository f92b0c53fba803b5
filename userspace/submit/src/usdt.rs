//! Probe points for dsascope and other tracers: USDT notes of provider `dsascope`, each at a five-byte nop that costs nothing while nobody
//! looks.
//!
//! | probe | where | arguments |
//! |---|---|---|
//! | `submit` | just before the submitting instruction | address of the descriptor, address of the portal's slot (0: write(2)), how: 0 MOVDIR64B, 1 ENQCMD, 3 plain stores, 4 write(2) |
//! | `refused` | a shared WQ did not take what this thread has just submitted | none |
//! | `seen` | a status was found in a completion record | address of the record as the device knows it, status byte |
//!
//! Owns: the notes. `submit` comes once a try: a shared WQ may refuse it, which `refused` tells, and then it comes again. `seen` comes each time that somebody looks
//! at a record whose status is there. On other processors than x86-64 there are none.

use dsascope_common::hw::descriptor::Descriptor;

use crate::portal::How;

/// One nop with its note, as SystemTap's sys/sdt.h lays it out (version 3). Arguments as in that: bytes@register.
#[cfg(target_arch = "x86_64")]
macro_rules! probe {
    ($name:literal, $arguments:literal, $($operands:tt)*) => {
        // SAFETY: a nop; the rest goes to sections that are not loaded, or hold one byte for linkers to move.
        unsafe {
            std::arch::asm!(
                "990:",
                ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00",
                ".pushsection .note.stapsdt, \"\", \"note\"",
                ".balign 4",
                ".4byte 992f - 991f, 994f - 993f, 3",
                "991: .asciz \"stapsdt\"",
                "992: .balign 4",
                "993:",
                ".8byte 990b",
                ".8byte _.stapsdt.base",
                ".8byte 0",
                ".asciz \"dsascope\"",
                concat!(".asciz \"", $name, "\""),
                concat!(".asciz \"", $arguments, "\""),
                "994: .balign 4",
                ".popsection",
                ".ifndef _.stapsdt.base",
                ".pushsection .stapsdt.base, \"aGR\", \"progbits\", .stapsdt.base, comdat",
                ".weak _.stapsdt.base",
                ".hidden _.stapsdt.base",
                "_.stapsdt.base: .space 1",
                ".size _.stapsdt.base, 1",
                ".popsection",
                ".endif",
                $($operands)*
                options(readonly, preserves_flags),
            );
        }
    };
}

/// One site each in a program, however many places call it.
#[inline(never)]
pub(crate) fn submit(descriptor: &Descriptor, slot: u64, how: How) {
    #[cfg(target_arch = "x86_64")]
    probe!(
        "submit",
        "8@%rdi 8@%rsi 8@%rdx",
        in("rdi") std::ptr::from_ref(descriptor),
        in("rsi") slot,
        in("rdx") u64::from(how as u8),
    );
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (descriptor, slot, how);
}

#[inline(never)]
pub(crate) fn refused() {
    #[cfg(target_arch = "x86_64")]
    probe!("refused", "",);
}

#[inline(never)]
pub(crate) fn seen(record: u64, status: u8) {
    #[cfg(target_arch = "x86_64")]
    probe!("seen", "8@%rdi 8@%rsi", in("rdi") record, in("rsi") u64::from(status),);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (record, status);
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use object::{
        Endianness, Object, ObjectSection, ObjectSegment, elf,
        read::elf::{ElfFile64, SectionHeader},
    };

    use super::*;

    const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];

    /// Name, arguments and place of each probe of this provider.
    fn probes(file: &ElfFile64<'_>) -> Vec<(String, String, u64)> {
        let mut found = Vec::new();
        let base = file.section_by_name(".stapsdt.base").unwrap().address();
        let section = file.section_by_name(".note.stapsdt").unwrap();
        let mut notes = section.elf_section_header().notes(Endianness::Little, file.data()).unwrap().unwrap();
        while let Some(note) = notes.next().unwrap() {
            assert_eq!((note.name(), note.n_type(Endianness::Little)), (&b"stapsdt"[..], 3));
            let (words, strings) = note.desc().split_at(24);
            let word = |index: usize| u64::from_le_bytes(*words[8 * index..].first_chunk().unwrap());
            assert_eq!((word(1), word(2)), (base, 0), "no semaphore");
            let mut strings =
                strings.split(|byte| *byte == 0).map(|s| String::from_utf8(s.to_vec()).unwrap());
            if strings.next().unwrap() == "dsascope" {
                found.push((strings.next().unwrap(), strings.next().unwrap(), word(0)));
            }
        }
        found
    }

    #[test]
    fn each_probe_is_in_the_program_once_at_a_nop() {
        // Called, so that no linker leaves them out.
        submit(&Descriptor::default(), 0, How::Write);
        refused();
        seen(0x40, 1);
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let file = ElfFile64::<Endianness>::parse(&*bytes).unwrap();
        let mut probes = probes(&file);
        probes.sort();
        let named: Vec<_> = probes.iter().map(|(name, arguments, _)| (&**name, &**arguments)).collect();
        assert_eq!(named, [("refused", ""), ("seen", "8@%rdi 8@%rsi"), ("submit", "8@%rdi 8@%rsi 8@%rdx")]);
        for (name, _, place) in probes {
            let text =
                file.segments().find(|s| (s.address()..s.address() + s.size()).contains(&place)).unwrap();
            let flags = text.elf_program_header().p_flags.get(Endianness::Little);
            assert_ne!(flags & elf::PF_X, 0, "{name}");
            assert_eq!(text.data_range(place, 5).unwrap(), Some(&NOP[..]), "{name}");
        }
    }
}
