//! Probe points of provider `dsascope` in `.note.stapsdt`, as `dsascope submit` has them.
//!
//! Arguments are taken only as the one string that dsascope itself writes: the eBPF programs read those registers and no others.

use super::elf::{Code, Function};
use super::{Reason, Scan, ScanErrorKind, Site, Unprobeable, What, instructions, symbol_at};

const PROVIDER: &[u8] = b"dsascope";
const NT_STAPSDT: u32 = 3;
/// `nopl 0(%rax,%rax,1)`, and the `nop` of sys/sdt.h.
const NOPS: [&[u8]; 2] = [&[0x0f, 0x1f, 0x44, 0x00, 0x00], &[0x90]];

/// (name, arguments, what it is).
const POINTS: [(&[u8], &[u8], What); 3] = [
    (b"submit", b"8@%rdi 8@%rsi 8@%rdx", What::UsdtSubmit),
    (b"refused", b"", What::UsdtRefused),
    (b"seen", b"8@%rdi 8@%rsi", What::UsdtSeen),
];

struct Note<'a> {
    location: u64,
    base: u64,
    semaphore: u64,
    provider: &'a [u8],
    name: &'a [u8],
    arguments: &'a [u8],
}

/// `word` is the size of an address, `base` where .stapsdt.base lies now: a prelinked file has moved by the difference.
pub(super) fn search(
    word: usize,
    notes: &[u8],
    base: Option<u64>,
    code: &[Code<'_>],
    functions: &[Function<'_>],
    scan: &mut Scan,
) -> Result<(), ScanErrorKind> {
    let points =
        Notes(notes).filter_map(|description| note(word, description)).filter(|n| n.provider == PROVIDER);
    for (count, note) in points.enumerate() {
        if count == instructions::CANDIDATE_LIMIT {
            return Err(ScanErrorKind::TooMany);
        }
        let moved = base.filter(|_| note.base != 0).map_or(0, |now| now.wrapping_sub(note.base));
        let address = note.location.wrapping_add(moved);
        let piece = code.iter().find(|c| c.holds(address));
        let symbol = piece.and_then(|piece| symbol_at(functions, piece, address));
        let text = format!("dsascope:{}", String::from_utf8_lossy(note.name));
        match judge(&note, piece, address) {
            Ok((what, file_offset)) => {
                let (cookie, result_offset) = (None, None);
                scan.sites.push(Site { what, file_offset, address, symbol, text, cookie, result_offset });
            }
            Err(reason) => scan.unprobeable.push(Unprobeable { address, symbol, text, reason }),
        }
    }
    Ok(())
}

/// What it is and its file offset.
fn judge(note: &Note<'_>, code: Option<&Code<'_>>, address: u64) -> Result<(What, u64), Reason> {
    let (_, arguments, what) = POINTS.iter().find(|p| p.0 == note.name).ok_or(Reason::UnknownName)?;
    if note.arguments != *arguments {
        return Err(Reason::Arguments);
    }
    if note.semaphore != 0 {
        return Err(Reason::Semaphore);
    }
    let code = code.ok_or(Reason::NotInCode)?;
    if code.writable {
        return Err(Reason::Writable);
    }
    let at = address - code.address;
    let here = usize::try_from(at).ok().and_then(|at| code.bytes.get(at..)).ok_or(Reason::NotInCode)?;
    if NOPS.iter().any(|nop| here.starts_with(nop)) {
        Ok((*what, code.offset + at))
    } else {
        Err(Reason::NoNop)
    }
}

/// Descriptions of the section's notes; ends where they make no more sense.
struct Notes<'a>(&'a [u8]);

impl<'a> Iterator for Notes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let mut header = [0; 3];
            for word in &mut header {
                *word = u32::from_le_bytes(take(&mut self.0, 4)?.try_into().ok()?);
            }
            let [name, description, type_] = header;
            let name = take_padded(&mut self.0, name)?;
            let description = take_padded(&mut self.0, description)?;
            if name == b"stapsdt\0" && type_ == NT_STAPSDT {
                return Some(description);
            }
        }
    }
}

fn note(word: usize, mut description: &[u8]) -> Option<Note<'_>> {
    let mut address = || {
        let bytes = take(&mut description, word)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (location, base, semaphore) = (address()?, address()?, address()?);
    let mut text = || {
        let end = description.iter().position(|b| *b == 0)?;
        let text = take(&mut description, end)?;
        take(&mut description, 1)?;
        Some(text)
    };
    Some(Note { location, base, semaphore, provider: text()?, name: text()?, arguments: text()? })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// The last note's padding may be missing.
fn take_padded<'a>(bytes: &mut &'a [u8], count: u32) -> Option<&'a [u8]> {
    let count = usize::try_from(count).ok()?;
    let taken = take(bytes, count)?;
    let padding = count.next_multiple_of(4) - count;
    take(bytes, padding.min(bytes.len()))?;
    Some(taken)
}
