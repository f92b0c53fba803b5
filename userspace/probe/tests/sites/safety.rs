//! Bytes that look like a submission and are none get no probe, whatever they are; nor does one that cannot be told from those.

use dsascope_probe::sites::{Reason, What};

use crate::sample::{OFFSET, Sample, TEXT};

/// movdir64b (%rdx),%rax; enqcmd (%rdx),%rax
const MOVDIR64B: &[u8] = &[0x66, 0x0f, 0x38, 0xf8, 0x02];
const ENQCMD: &[u8] = &[0xf2, 0x0f, 0x38, 0xf8, 0x02];
const RET: &[u8] = &[0xc3];
const SETZ: &[u8] = &[0x0f, 0x94, 0xc0];

fn refused(sample: &Sample) -> Reason {
    let scan = sample.scan();
    assert_eq!(scan.sites, []);
    assert_eq!(scan.unprobeable.len(), 1, "{scan:?}");
    scan.unprobeable[0].reason
}

fn one(code: &[&[u8]]) -> Sample {
    Sample::new(64).function("one", &code.concat())
}

#[test]
fn bytes_inside_another_instruction_are_dismissed() {
    // mov $imm64,%rax; mov %eax,disp32(%rip) of which the next starts with the pattern's end; ret
    let immediate = [&[0x48, 0xb8], MOVDIR64B, &[0, 0, 0]].concat();
    let scan = one(&[&immediate, RET]).scan();
    assert_eq!((scan.sites.len(), scan.unprobeable.len(), scan.dismissed), (0, 0, 1));
    // One whose displacement is the bytes of another.
    let both = [0x66, 0x0f, 0x38, 0xf8, 0x05, 0x66, 0x0f, 0x38, 0xf8];
    let scan = one(&[&both, &[0x48, 0x90], RET]).scan();
    assert_eq!(scan.sites.len(), 1);
    assert_eq!((scan.sites[0].address, scan.dismissed), (TEXT, 1));
    // Across two instructions: the first ends with 66, the second is no more than a nop of the mandatory prefix.
    let across = [0xb8, 0, 0, 0x66, 0x0f, 0x38, 0xf8, 0x02];
    assert_eq!(one(&[&across, RET]).scan().sites, [], "mov $0x0f660000,%eax then 38 f8 02");
}

#[test]
fn without_prefix_or_memory_it_is_no_candidate() {
    for code in [&[0x0f, 0x38, 0xf8, 0x02][..], &[0xf2, 0x0f, 0x38, 0xf8, 0xc2], &[0x66, 0x0f, 0x38, 0xf8]] {
        let scan = one(&[code]).scan();
        assert_eq!((scan.sites.len(), scan.unprobeable.len(), scan.dismissed), (0, 0, 0), "{code:02x?}");
    }
}

#[test]
fn a_copy_kept_as_data_in_a_function_is_not_reached() {
    // lea 1(%rip),%rax; ret; then the template, which decodes as well as anything.
    let lea: &[u8] = &[0x48, 0x8d, 0x05, 1, 0, 0, 0];
    assert_eq!(refused(&one(&[lea, RET, MOVDIR64B, RET])), Reason::Unreached);
    // Nor by a jump that is data itself.
    let own_jump: &[u8] = &[0xe9, 0xf6, 0xff, 0xff, 0xff];
    assert_eq!(refused(&one(&[lea, RET, MOVDIR64B, own_jump])), Reason::Unreached);
}

#[test]
fn data_between_functions_is_in_none() {
    let sample = one(&[RET]).function("two", RET);
    let mut sample = Sample { text: sample.text, ..sample };
    sample.text[4..4 + MOVDIR64B.len()].copy_from_slice(MOVDIR64B);
    assert_eq!(refused(&sample), Reason::NoFunction);
}

#[test]
fn a_function_that_does_not_decode_is_not_trusted() {
    // 06 is no instruction in 64-bit code.
    assert_eq!(
        refused(&one(&[MOVDIR64B, RET, &[0x06, 0x90], &[0x90; 15]])),
        Reason::Undecodable { at: TEXT + 6 }
    );
    // The last instruction is cut.
    assert_eq!(refused(&one(&[MOVDIR64B, &[0xe9, 0, 0]])), Reason::OverEnd);
}

#[test]
fn a_branch_into_an_instruction_shows_that_the_decoding_is_out_of_step() {
    // jmp +1 over a byte of data, which together with what follows decodes as one instruction: mov $imm32,%eax; the jump's target
    // is the real instruction, of which the linear decoding has nothing.
    let code: &[&[u8]] = &[&[0xeb, 0x01], &[0xb8], MOVDIR64B, &[0x90; 6], RET];
    assert_eq!(refused(&one(code)), Reason::OutOfStep { at: TEXT + 3 });
    // So does another function that starts in the middle.
    let mut sample = one(&[&[0x48, 0xb8], MOVDIR64B, &[0, 0, 0], MOVDIR64B, RET]);
    sample.functions.push(("middle", 1, 0));
    let scan = sample.scan();
    assert_eq!(scan.sites, []);
    assert!(scan.unprobeable.iter().all(|u| u.reason == Reason::OutOfStep { at: TEXT + 1 }), "{scan:?}");
}

#[test]
fn what_follows_a_jump_is_reached_as_the_program_may() {
    // A table: jmp *%rax; then a case.
    assert_eq!(one(&[&[0xff, 0xe0], MOVDIR64B, RET]).scan().sites.len(), 1);
    // Through the global offset table it is a call that does not come back: jmp *0(%rip).
    assert_eq!(refused(&one(&[&[0xff, 0x25, 0, 0, 0, 0], MOVDIR64B, RET])), Reason::Unreached);
    // From another function, as the unlikely parts of a function are: jmp to 1 after the start of `cold`.
    let cold = [RET, MOVDIR64B, RET].concat();
    let hot = |distance: i32| [&[0xe9][..], &distance.to_le_bytes()].concat();
    let sample = Sample::new(64).function("hot", &hot(16 + 1 - 5)).function("cold", &cold);
    assert_eq!(sample.scan().sites.len(), 1);
    let elsewhere = Sample::new(64).function("hot", &hot(16 - 5)).function("cold", &cold);
    assert_eq!(refused(&elsewhere), Reason::Unreached);
    // jz, the long form.
    let hot = [&[0x0f, 0x84][..], &(16_i32 + 1 - 6).to_le_bytes(), RET].concat();
    assert_eq!(Sample::new(64).function("hot", &hot).function("cold", &cold).scan().sites.len(), 1);
}

#[test]
fn a_start_without_size_reaches_to_the_next() {
    let mut sample = one(&[MOVDIR64B, RET]);
    sample.functions[0].2 = 0;
    let scan = sample.scan();
    assert_eq!(scan.sites.len(), 1);
    assert_eq!(scan.sites[0].symbol.as_ref().unwrap().to_string(), "one+0x0");
    // A section's own start will do.
    sample.functions.clear();
    let scan = sample.scan();
    assert_eq!(scan.sites.len(), 1);
    assert_eq!(scan.sites[0].symbol, None);
}

#[test]
fn the_kernel_sets_no_probe_where_a_program_may_write() {
    let sample = Sample { writable: true, ..one(&[MOVDIR64B, RET]) };
    assert_eq!(refused(&sample), Reason::Writable);
}

#[test]
fn a_result_is_read_only_where_nothing_else_leads() {
    let result = |sample: &Sample| {
        let scan = sample.scan();
        let site = scan.sites.iter().find(|s| s.what == What::Enqcmd).unwrap();
        assert_eq!(site.cookie.unwrap().result_follows(), site.result_offset.is_some());
        site.result_offset
    };
    assert_eq!(result(&one(&[ENQCMD, SETZ, RET])), Some(OFFSET + 5));
    // 1: enqcmd; jz 1b
    assert_eq!(result(&one(&[ENQCMD, &[0x74, 0xf9], RET])), Some(OFFSET + 5));
    // enqcmd; 1: setz; jnz 1b
    assert_eq!(result(&one(&[ENQCMD, SETZ, &[0x75, 0xfb], RET])), None);
    // Another function jumps there.
    let jump = [&[0xe9][..], &(-16_i32).to_le_bytes()].concat();
    assert_eq!(result(&one(&[ENQCMD, SETZ, RET]).function("two", &jump)), None);
    // It is the function's last instruction.
    assert_eq!(result(&one(&[ENQCMD])), None);
    // The next one submits too, and would have two probes.
    assert_eq!(result(&one(&[ENQCMD, MOVDIR64B, RET])), None);
    assert_eq!(one(&[MOVDIR64B, SETZ, RET]).scan().sites[0].result_offset, None);
}
