//! Where a program submits: from the bytes of an ELF file to the places at which probes can be set.
//!
//! Path: [`scan`] reads the file's code and functions ([`elf`]), finds MOVDIR64B, ENQCMD and ENQCMDS in it ([`instructions`]) and
//! the probe points of provider `dsascope` ([`usdt`]). Pure: bytes in, sites or an error out.
//!
//! Refuses: a guess. A breakpoint that is not on the first byte of an instruction destroys the program it is set in; so whatever is
//! not certain is named in [`Scan::unprobeable`] with the reason, and no probe is set there. [`instructions`] says what certain means.

mod elf;
mod instructions;
mod usdt;

use std::fmt;

pub use dsascope_common::wire::site::SiteCookie;
use object::elf::{FileHeader32, FileHeader64};
use object::read::elf::FileHeader;
use object::{Endianness, FileKind};
use thiserror::Error;

use elf::{Code, Function, Image};

/// What a file offers to probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// By file offset.
    pub sites: Vec<Site>,
    /// Instruction sites of a file that tells of its submissions itself ([`What::UsdtSubmit`]): they would be counted twice.
    pub covered: Vec<Site>,
    pub unprobeable: Vec<Unprobeable>,
    /// Bytes that look like a submitting instruction but certainly are none: inside other instructions.
    pub dismissed: usize,
}

/// One place for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub what: What,
    /// Where the kernel sets the probe.
    pub file_offset: u64,
    /// As the file is linked.
    pub address: u64,
    /// The function it is in, where the file names one.
    pub symbol: Option<Symbol>,
    /// The instruction, or the probe point's name.
    pub text: String,
    /// How the descriptor's address is formed; `None` for USDT.
    pub cookie: Option<SiteCookie>,
    /// File offset of the instruction after an ENQCMD or ENQCMDS, where the zero flag can be read (with [`SiteCookie::RESULT`]).
    pub result_offset: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Movdir64b,
    Enqcmd,
    Enqcmds,
    /// `dsascope:submit`.
    UsdtSubmit,
    /// `dsascope:refused`: the WQ did not take what the thread submitted last.
    UsdtRefused,
    /// `dsascope:seen`.
    UsdtSeen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub name: String,
    /// Bytes from its start.
    pub offset: u64,
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.name, self.offset)
    }
}

/// A place that submits, or may, and gets no probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unprobeable {
    pub address: u64,
    pub symbol: Option<Symbol>,
    /// The instruction, its bytes if it cannot be told, or the probe point's name.
    pub text: String,
    pub reason: Reason,
}

impl fmt::Display for Unprobeable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.text, self.address)?;
        if let Some(symbol) = &self.symbol {
            write!(f, " ({symbol})")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why no probe is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    #[error("no function that the file knows of covers it")]
    NoFunction,
    #[error("its function leaves its section")]
    OutsideSection,
    #[error("its function has more than {} MiB", instructions::EXTENT_LIMIT >> 20)]
    TooLarge,
    #[error("its function overlaps another that has such an instruction")]
    Overlapping,
    #[error("the functions with such instructions are too large altogether")]
    Budget,
    #[error("its function has bytes that are no instruction at {at:#x}")]
    Undecodable { at: u64 },
    #[error("an instruction runs over the end of its function")]
    OverEnd,
    #[error("a branch or another function leads into the middle of an instruction at {at:#x}")]
    OutOfStep { at: u64 },
    #[error("nothing is seen to lead to it, so it may be data")]
    Unreached,
    #[error("its source is relative to the {0} segment")]
    Segment(&'static str),
    #[error("the kernel sets no probe on an instruction with a segment prefix")]
    SegmentPrefix,
    #[error("it forms 16-bit addresses")]
    Addresses16,
    #[error("its segment is writable, where the kernel sets no probe")]
    Writable,
    #[error("the probe point's arguments are not those of dsascope")]
    Arguments,
    #[error("the probe point is guarded by a semaphore")]
    Semaphore,
    #[error("the probe point is not in code")]
    NotInCode,
    #[error("there is no nop at the probe point")]
    NoNop,
    #[error("dsascope has no probe point of this name")]
    UnknownName,
}

/// A file that cannot be searched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot search {file} for submissions: {kind}")]
pub struct ScanError {
    pub file: String,
    pub kind: ScanErrorKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScanErrorKind {
    #[error("not an ELF file of this byte order")]
    NotElf,
    #[error("{0}")]
    Elf(#[from] object::Error),
    #[error("neither a program nor a shared library")]
    NotAProgram,
    #[error("machine {0} is not x86")]
    Machine(u16),
    #[error("{size} bytes at {offset} are not in the file of {file} bytes")]
    Range { offset: u64, size: u64, file: u64 },
    #[error("more than {} executable segments", elf::SEGMENT_LIMIT)]
    Segments,
    #[error("executable parts overlap")]
    Overlap,
    #[error("more than {} places look like submissions", instructions::CANDIDATE_LIMIT)]
    TooMany,
}

/// Searches the whole `data` of the ELF file called `file`.
pub fn scan(file: &str, data: &[u8]) -> Result<Scan, ScanError> {
    let found = match FileKind::parse(data) {
        Ok(FileKind::Elf64) => scan_elf::<FileHeader64<Endianness>>(data),
        Ok(FileKind::Elf32) => scan_elf::<FileHeader32<Endianness>>(data),
        Ok(_) | Err(_) => Err(ScanErrorKind::NotElf),
    };
    found.map_err(|kind| ScanError { file: file.to_owned(), kind })
}

fn scan_elf<Elf: FileHeader<Endian = Endianness>>(data: &[u8]) -> Result<Scan, ScanErrorKind> {
    let image = Image::<Elf>::parse(data)?;
    let code = image.code()?;
    let candidates = instructions::candidates(&code)?;
    let notes = image.section(".note.stapsdt");
    let mut scan = Scan::default();
    if candidates.is_empty() && notes.is_none() {
        return Ok(scan);
    }
    let functions = image.functions(&code);
    instructions::search(image.bitness, &code, &functions, &candidates, &mut scan);
    if let Some((_, notes)) = notes {
        let base = image.section(".stapsdt.base").map(|(address, _)| address);
        usdt::search(image.word(), notes, base, &code, &functions, &mut scan)?;
    }
    if scan.sites.iter().any(|s| s.what == What::UsdtSubmit) {
        scan.covered = scan.sites.extract_if(.., |s| s.cookie.is_some()).collect();
    }
    scan.sites.sort_by_key(|s| s.file_offset);
    scan.unprobeable.sort_by_key(|u| u.address);
    Ok(scan)
}

/// The named function nearest before `address`, if it may reach there.
fn symbol_at(functions: &[Function<'_>], code: &Code<'_>, address: u64) -> Option<Symbol> {
    let before = &functions[..functions.partition_point(|f| f.start <= address)];
    let near = before.iter().rev().take(instructions::NESTING).take_while(|f| f.start >= code.address);
    let (function, name) = near.filter_map(|f| Some((f, f.name()?))).next()?;
    let offset = address - function.start;
    function.size.is_none_or(|size| offset < size).then_some(Symbol { name, offset })
}
