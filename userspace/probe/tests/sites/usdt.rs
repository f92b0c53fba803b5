//! Probe points of provider `dsascope`, and those that are not quite.

use dsascope_probe::sites::{Reason, What};

use crate::sample::{OFFSET, Sample, TEXT};

const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
const SUBMIT: &str = "8@%rdi 8@%rsi 8@%rdx";
const SEEN: &str = "8@%rdi 8@%rsi";

struct Note {
    location: u64,
    base: u64,
    semaphore: u64,
    provider: &'static str,
    name: &'static str,
    arguments: &'static str,
}

impl Note {
    fn new(location: u64, name: &'static str, arguments: &'static str) -> Self {
        Self { location, base: 0, semaphore: 0, provider: "dsascope", name, arguments }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut description: Vec<u8> =
            [self.location, self.base, self.semaphore].map(u64::to_le_bytes).concat();
        for text in [self.provider, self.name, self.arguments] {
            description.extend(text.as_bytes());
            description.push(0);
        }
        let mut note = [8, description.len() as u32, 3].map(u32::to_le_bytes).concat();
        note.extend(b"stapsdt\0");
        description.resize(description.len().next_multiple_of(4), 0);
        note.extend(description);
        note
    }
}

/// A function with a submission, and two nops to probe.
fn sample(notes: &[Note]) -> Sample {
    let code = [&NOP5[..], &[0x66, 0x0f, 0x38, 0xf8, 0x02], &[0x90], &[0xc3]].concat();
    Sample {
        notes: notes.iter().flat_map(Note::bytes).collect(),
        ..Sample::new(64).function("submit", &code)
    }
}

#[test]
fn a_program_that_tells_of_its_submissions_is_not_asked_twice() {
    let other = Note { provider: "libc", ..Note::new(TEXT, "setjmp", "8@%rdi") };
    let scan = sample(&[other, Note::new(TEXT + 10, "seen", SEEN), Note::new(TEXT, "submit", SUBMIT)]).scan();
    let sites: Vec<_> =
        scan.sites.iter().map(|s| (s.what, s.file_offset, s.text.as_str(), s.cookie)).collect();
    assert_eq!(
        sites,
        [
            (What::UsdtSubmit, OFFSET, "dsascope:submit", None),
            (What::UsdtSeen, OFFSET + 10, "dsascope:seen", None)
        ]
    );
    assert_eq!(scan.sites[1].symbol.as_ref().unwrap().to_string(), "submit+0xa");
    assert_eq!(scan.covered.len(), 1);
    assert_eq!(scan.covered[0].what, What::Movdir64b);
    assert_eq!(scan.unprobeable, []);
    // What it has seen says nothing of what it submits.
    let scan = sample(&[Note::new(TEXT, "seen", SEEN)]).scan();
    assert_eq!(scan.sites.iter().map(|s| s.what).collect::<Vec<_>>(), [What::UsdtSeen, What::Movdir64b]);
    assert_eq!(scan.covered, []);
}

#[test]
fn what_is_not_exactly_a_probe_point_is_named_with_its_reason() {
    let reason = |note: Note| {
        let scan = sample(&[note]).scan();
        assert_eq!(scan.sites.len(), 1, "only the instruction");
        scan.unprobeable[0].reason
    };
    for arguments in
        ["", "8@%rdi 8@%rsi", "8@%rdi 8@%rsi 8@%rcx", "8@%rdi 8@%rsi 8@%rdx ", "-8@%rdi 8@%rsi 8@%rdx"]
    {
        assert_eq!(reason(Note::new(TEXT, "submit", arguments)), Reason::Arguments, "{arguments:?}");
    }
    assert_eq!(reason(Note::new(TEXT, "resume", SUBMIT)), Reason::UnknownName);
    assert_eq!(reason(Note { semaphore: 0x60_0000, ..Note::new(TEXT, "submit", SUBMIT) }), Reason::Semaphore);
    assert_eq!(reason(Note::new(TEXT - 1, "submit", SUBMIT)), Reason::NotInCode);
    assert_eq!(reason(Note::new(u64::MAX, "submit", SUBMIT)), Reason::NotInCode);
    assert_eq!(reason(Note::new(TEXT + 5, "submit", SUBMIT)), Reason::NoNop);
}

#[test]
fn a_prelinked_file_has_moved() {
    let note = || Note { base: 0x1000, ..Note::new(TEXT - 0x8000, "submit", SUBMIT) };
    let moved = Sample { stapsdt_base: Some(0x9000), ..sample(&[note()]) };
    assert_eq!(moved.scan().sites[0].address, TEXT);
    assert_eq!(
        sample(&[note()]).scan().unprobeable[0].reason,
        Reason::NotInCode,
        "nothing says that it moved"
    );
    let unmoved = Sample {
        stapsdt_base: Some(0x1000),
        ..sample(&[Note { base: 0x1000, ..Note::new(TEXT, "submit", SUBMIT) }])
    };
    assert_eq!(unmoved.scan().sites[0].address, TEXT);
}

#[test]
fn notes_of_32_bit_programs_have_other_registers() {
    let mut description: Vec<u8> = [TEXT as u32, 0, 0].map(u32::to_le_bytes).concat();
    description.extend(b"dsascope\0submit\x004@%eax 4@%edx 4@%ecx\0");
    let mut notes = [8, description.len() as u32, 3].map(u32::to_le_bytes).concat();
    notes.extend(b"stapsdt\0");
    notes.extend(description);
    let scan = Sample { notes, ..Sample::new(32).function("submit", &NOP5) }.scan();
    assert_eq!(scan.unprobeable[0].reason, Reason::Arguments);
}
