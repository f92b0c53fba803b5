//! What a search for sites needs of an ELF file: its executable code as pieces, the functions it names, and notes.
//!
//! Everything in the file is foreign: ranges that leave it are errors, and neither time nor memory grows faster than the file. So each
//! table is gone through once, and no string is read to its end for each entry that points into it.

use std::collections::BTreeMap;

use gimli::{
    BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, EhFrameOffset, LittleEndian as Gimli, UnwindSection as _,
};
use object::elf;
use object::read::elf::{ElfFile, FileHeader, ProgramHeader as _, SectionHeader as _, Sym as _};
use object::{Endianness, Object as _, SectionIndex};

use super::ScanErrorKind as Kind;

/// Executable ones; a program has one or two.
pub(super) const SEGMENT_LIMIT: u32 = 64;

/// Executable bytes of the file: a section, or a whole segment where there are no sections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code<'a> {
    pub address: u64,
    pub offset: u64,
    pub bytes: &'a [u8],
    /// The kernel sets no uprobe where a program may write.
    pub writable: bool,
    /// It starts with an instruction, which a segment need not.
    pub section: bool,
}

impl Code<'_> {
    pub(super) fn end(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }

    pub(super) fn holds(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }
}

/// Where code starts, as the file itself says: a symbol, an entry of .eh_frame, the entry point, a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function<'a> {
    pub start: u64,
    /// `None`: the file does not say.
    pub size: Option<u64>,
    /// A string table from the name on.
    name: Option<&'a [u8]>,
}

/// Longest name that is shown whole.
const NAME_LIMIT: usize = 1024;

impl Function<'_> {
    pub(super) fn name(&self) -> Option<String> {
        let name = self.name?;
        let name = &name[..name.len().min(NAME_LIMIT)];
        Some(String::from_utf8_lossy(name.split(|b| *b == 0).next()?).into_owned())
    }

    pub(super) fn holds(&self, address: u64) -> bool {
        address.checked_sub(self.start).is_some_and(|at| self.size.is_some_and(|size| at < size))
    }
}

pub(super) struct Image<'a, Elf: FileHeader<Endian = Endianness>> {
    file: ElfFile<'a, Elf>,
    data: &'a [u8],
    pub bitness: u32,
}

impl<'a, Elf: FileHeader<Endian = Endianness>> Image<'a, Elf> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Kind> {
        let file = ElfFile::<Elf>::parse(data)?;
        let (header, endian) = (file.elf_header(), file.endian());
        if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
            return Err(Kind::NotAProgram);
        }
        let bitness = match header.e_machine(endian) {
            elf::EM_X86_64 => 64,
            elf::EM_386 => 32,
            other => return Err(Kind::Machine(other)),
        };
        if endian != Endianness::Little {
            return Err(Kind::Machine(header.e_machine(endian)));
        }
        Ok(Self { file, data, bitness })
    }

    fn bytes(&self, offset: u64, size: u64) -> Result<&'a [u8], Kind> {
        let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
        range.and_then(|(offset, size)| self.data.get(offset..offset.checked_add(size)?)).ok_or(Kind::Range {
            offset,
            size,
            file: self.data.len() as u64,
        })
    }

    /// By address, without overlap. Sections cut the segments, because read-only data may lie in an executable segment.
    pub(super) fn code(&self) -> Result<Vec<Code<'a>>, Kind> {
        let endian = self.file.endian();
        let mut sections = Vec::new();
        for section in self.file.elf_section_table().iter() {
            let flags: u64 = section.sh_flags(endian).into();
            let executable = u64::from(elf::SHF_EXECINSTR | elf::SHF_ALLOC);
            if flags & executable == executable && section.sh_type(endian) != elf::SHT_NOBITS {
                sections.push((section.sh_addr(endian).into(), section.sh_size(endian).into()));
            }
        }
        let (mut code, mut segments) = (Vec::new(), 0);
        for segment in self.file.elf_program_headers() {
            let flags = segment.p_flags(endian);
            if segment.p_type(endian) != elf::PT_LOAD || flags & elf::PF_X == 0 {
                continue;
            }
            segments += 1;
            if segments > SEGMENT_LIMIT {
                return Err(Kind::Segments);
            }
            let (address, offset, size): (u64, u64, u64) = (
                segment.p_vaddr(endian).into(),
                segment.p_offset(endian).into(),
                segment.p_filesz(endian).into(),
            );
            let bytes = self.bytes(offset, size)?;
            address.checked_add(size).ok_or(Kind::Range { offset, size, file: self.data.len() as u64 })?;
            let whole = Code { address, offset, bytes, writable: flags & elf::PF_W != 0, section: false };
            let before = code.len();
            code.extend(sections.iter().filter_map(|&(start, size): &(u64, u64)| {
                let at = start.checked_sub(address)?;
                let range = usize::try_from(at).ok()?..usize::try_from(at.checked_add(size)?).ok()?;
                let bytes = bytes.get(range).filter(|bytes| !bytes.is_empty())?;
                Some(Code { address: start, offset: offset + at, bytes, section: true, ..whole })
            }));
            if code.len() == before && size > 0 {
                code.push(whole);
            }
        }
        let apart = |key: fn(&Code<'_>) -> u64, code: &mut Vec<Code<'_>>| {
            code.sort_by_key(key);
            code.windows(2).all(|c| key(&c[1]) - key(&c[0]) >= c[0].bytes.len() as u64)
        };
        if !apart(|c| c.offset, &mut code) || !apart(|c| c.address, &mut code) {
            return Err(Kind::Overlap);
        }
        Ok(code)
    }

    /// By start; one a start. `code` gives sections' starts.
    pub(super) fn functions(&self, code: &[Code<'a>]) -> Vec<Function<'a>> {
        let mut functions = Vec::new();
        let mut add = |start: u64, size: u64, name: Option<&'a [u8]>| {
            functions.push(Function { start, size: (size > 0).then_some(size), name });
        };
        let endian = self.file.endian();
        for table in [self.file.elf_symbol_table(), self.file.elf_dynamic_symbol_table()] {
            let strings = self.contents(table.string_section()).unwrap_or_default();
            for symbol in table.symbols() {
                let code = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC);
                if code && symbol.st_shndx(endian) != elf::SHN_UNDEF {
                    let name = usize::try_from(symbol.st_name(endian)).ok().and_then(|at| strings.get(at..));
                    let name = name.filter(|name| !matches!(name, [] | [0, ..]));
                    add(symbol.st_value(endian).into(), symbol.st_size(endian).into(), name);
                }
            }
        }
        for (start, size) in self.frames() {
            add(start, size, None);
        }
        if self.file.entry() != 0 {
            add(self.file.entry(), 0, None);
        }
        for section in code.iter().filter(|c| c.section) {
            add(section.address, 0, None);
        }
        // A name before none, and the widest of those that start at one place.
        functions.sort_by_key(|f| (f.start, f.name.is_none()));
        functions.dedup_by(|next, first| {
            let same = next.start == first.start;
            if same {
                first.size = first.size.max(next.size);
            }
            same
        });
        functions
    }

    /// (start, size) of the functions that .eh_frame describes, also of a stripped file; as far as it can be read.
    fn frames(&self) -> Vec<(u64, u64)> {
        let Some((address, bytes)) = self.eh_frame() else { return Vec::new() };
        let mut section = EhFrame::new(bytes, Gimli);
        section.set_address_size(if self.file.is_64() { 8 } else { 4 });
        let bases = BaseAddresses::default().set_eh_frame(address);
        let mut entries = section.entries(&bases);
        let (mut frames, mut common) = (Vec::new(), BTreeMap::new());
        while let Ok(Some(entry)) = entries.next() {
            match entry {
                CieOrFde::Cie(entry) => drop(common.insert(entry.offset(), entry)),
                CieOrFde::Fde(partial) => {
                    let known = |offset: EhFrameOffset| {
                        common.get(&offset.0).cloned().ok_or(gimli::Error::NotCieId(offset.0 as u64))
                    };
                    if let Ok(frame) = partial.parse(|_, _, offset| known(offset)) {
                        frames.push((frame.initial_address(), frame.len()));
                    }
                }
            }
        }
        frames
    }

    /// By section, or as the unwinder finds it.
    fn eh_frame(&self) -> Option<(u64, &'a [u8])> {
        let endian = self.file.endian();
        if let Some(section) = self.section(".eh_frame") {
            return Some(section);
        }
        let headers = self.file.elf_program_headers();
        let header = headers.iter().find(|h| h.p_type(endian) == elf::PT_GNU_EH_FRAME)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header.p_vaddr(endian).into());
        let parsed = EhFrameHdr::new(header.data(endian, self.data).ok()?, Gimli)
            .parse(&bases, if self.file.is_64() { 8 } else { 4 })
            .ok()?;
        let gimli::Pointer::Direct(address) = parsed.eh_frame_ptr() else { return None };
        headers.iter().filter(|h| h.p_type(endian) == elf::PT_LOAD).find_map(|h| {
            let at = usize::try_from(address.checked_sub(h.p_vaddr(endian).into())?).ok()?;
            Some((address, h.data(endian, self.data).ok()?.get(at..)?))
        })
    }

    /// Address and contents of the first section of that name.
    pub(super) fn section(&self, name: &str) -> Option<(u64, &'a [u8])> {
        let endian = self.file.endian();
        let names = self.contents(self.file.elf_header().section_strings_index(endian, self.data).ok()?)?;
        let named = |at: u32| {
            let rest = names.get(usize::try_from(at).ok()?..)?.strip_prefix(name.as_bytes())?;
            rest.first().filter(|end| **end == 0)
        };
        let section = self.file.elf_section_table().iter().find(|s| named(s.sh_name(endian)).is_some())?;
        Some((section.sh_addr(endian).into(), section.data(endian, self.data).ok()?))
    }

    fn contents(&self, section: SectionIndex) -> Option<&'a [u8]> {
        let section = self.file.elf_section_table().section(section).ok()?;
        section.data(self.file.endian(), self.data).ok()
    }

    /// Bytes of an address in notes.
    pub(super) fn word(&self) -> usize {
        if self.file.is_64() { 8 } else { 4 }
    }
}
