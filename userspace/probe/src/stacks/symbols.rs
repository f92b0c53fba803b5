//! The functions that an ELF file names.
//!
//! Only headers and symbol tables are read, by read(2): a file that is mapped and then cut short by its owner would kill the reader. The tables
//! are checked, put into a file of our own in memory, and it is that file which blazesym maps and searches.

use std::fs::File;
use std::io::{self, Write as _};
use std::mem::size_of;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use blazesym::helper::ElfResolver;
use blazesym::symbolize::{FindSymOpts, Symbolize as _};
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64, Sym64};
use object::pod::{Pod, bytes_of, from_bytes, slice_from_all_bytes};
use object::{LittleEndian as Le, U16, U32, U64};

use crate::sys;

/// Symbols and their names of one file; what has more is not read.
const TABLE_BYTES: u64 = 128 << 20;

#[derive(Debug)]
pub(super) struct Symbols {
    /// Reads the tables when first asked.
    resolver: ElfResolver,
    segments: Vec<Segment>,
    bytes: u64,
}

/// What is loaded from where in the file.
#[derive(Debug)]
struct Segment {
    offset: u64,
    bytes: u64,
    address: u64,
}

/// A symbol table with its names.
struct Table {
    kind: u32,
    /// Functions only.
    symbols: Vec<Sym64<Le>>,
    names: Vec<u8>,
}

impl Symbols {
    /// Of a 64-bit little-endian file.
    pub(super) fn read(file: &File) -> io::Result<Self> {
        let source = Source { file, bytes: file.metadata()?.len() };
        let header = source.table::<FileHeader64<Le>>(0, 1)?.remove(0);
        let ident = &header.e_ident;
        if ident.magic != elf::ELFMAG || ident.class != elf::ELFCLASS64 || ident.data != elf::ELFDATA2LSB {
            return Err(invalid("no 64-bit little-endian ELF file"));
        }
        let segments = source.table::<ProgramHeader64<Le>>(header.e_phoff.get(Le), header.e_phnum.get(Le))?;
        let sections = source.table::<SectionHeader64<Le>>(header.e_shoff.get(Le), header.e_shnum.get(Le))?;
        let loaded = segments.iter().filter(|s| s.p_type.get(Le) == elf::PT_LOAD);
        let segment = |s: &ProgramHeader64<Le>| Segment {
            offset: s.p_offset.get(Le),
            bytes: s.p_filesz.get(Le),
            address: s.p_vaddr.get(Le),
        };
        let mut left = TABLE_BYTES;
        let tables =
            [elf::SHT_SYMTAB, elf::SHT_DYNSYM].map(|kind| source.symbols(&sections, kind, &mut left));
        let [all, dynamic] = tables;
        let (memory, bytes) = assemble(&[all?, dynamic?])?;
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let resolver = ElfResolver::open(path).map_err(io::Error::other)?;
        Ok(Self { resolver, segments: loaded.map(segment).collect(), bytes })
    }

    /// Bytes of memory: the tables, and blazesym's index of them.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The function at an offset of the file, and how far into it that is.
    pub(super) fn find(&self, offset: u64) -> Option<(&str, u64)> {
        let address = self.segments.iter().find_map(|segment| {
            let into = offset.checked_sub(segment.offset).filter(|into| *into < segment.bytes)?;
            segment.address.checked_add(into)
        })?;
        let symbol = self.resolver.find_sym(address, &FindSymOpts::Basic).ok()?.ok()?;
        (!symbol.name.is_empty()).then_some((symbol.name, address.checked_sub(symbol.addr)?))
    }
}

struct Source<'a> {
    file: &'a File,
    bytes: u64,
}

impl Source<'_> {
    fn bytes(&self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(invalid("a table leaves the file"));
        }
        let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    /// At most 65,535 headers: a file with more sections says so elsewhere, and is not read.
    fn table<T: Pod + Copy>(&self, offset: u64, count: u16) -> io::Result<Vec<T>> {
        let bytes = self.bytes(offset, size_of::<T>() as u64 * u64::from(count))?;
        Ok(slice_from_all_bytes(&bytes).map_err(|()| invalid("a table is misaligned"))?.to_vec())
    }

    /// The first table of a kind, empty without one. `left`: bytes that may still be read.
    fn symbols(&self, sections: &[SectionHeader64<Le>], kind: u32, left: &mut u64) -> io::Result<Table> {
        let Some(section) = sections.iter().find(|s| s.sh_type.get(Le) == kind) else {
            return Ok(Table { kind, symbols: Vec::new(), names: Vec::new() });
        };
        let names = usize::try_from(section.sh_link.get(Le)).ok().and_then(|link| sections.get(link));
        let names = names.filter(|s| s.sh_type.get(Le) == elf::SHT_STRTAB);
        let names = names.ok_or_else(|| invalid("a symbol table has no names"))?;
        let bytes = section.sh_size.get(Le).checked_add(names.sh_size.get(Le));
        *left = bytes
            .and_then(|bytes| left.checked_sub(bytes))
            .ok_or_else(|| invalid("more symbols than are read"))?;
        let entries = self.bytes(section.sh_offset.get(Le), section.sh_size.get(Le))?;
        let mut names = self.bytes(names.sh_offset.get(Le), names.sh_size.get(Le))?;
        // The last name ends, too.
        names.push(0);
        let symbol = |entry: &[u8]| from_bytes::<Sym64<Le>>(entry).ok().map(|(symbol, _)| *symbol);
        let symbols = entries.chunks_exact(size_of::<Sym64<Le>>()).filter_map(symbol);
        Ok(Table { kind, symbols: symbols.filter(|s| is_function(s, names.len())).collect(), names })
    }
}

fn is_function(symbol: &Sym64<Le>, names: usize) -> bool {
    matches!(symbol.st_info & 0xf, elf::STT_FUNC | elf::STT_GNU_IFUNC)
        && symbol.st_shndx.get(Le) != elf::SHN_UNDEF
        && symbol.st_value.get(Le).checked_add(symbol.st_size.get(Le)).is_some()
        && usize::try_from(symbol.st_name.get(Le)).is_ok_and(|name| name < names)
}

/// An ELF file of nothing but symbol tables, and what it takes in memory.
fn assemble(tables: &[Table; 2]) -> io::Result<(File, u64)> {
    const SECTION_NAMES: &[u8] = b"\0.symtab\0.strtab\0.dynsym\0.dynstr\0.shstrtab\0";
    let name = |text: &str| {
        let found = SECTION_NAMES.windows(text.len()).position(|w| w == text.as_bytes());
        U32::new(Le, found.unwrap_or(0) as u32)
    };
    let mut body = Vec::new();
    let mut sections = vec![section(U32::new(Le, 0), elf::SHT_NULL, 0, 0, 0)];
    let mut place = |bytes: &[u8]| {
        body.resize(body.len().next_multiple_of(8), 0);
        let offset = size_of::<FileHeader64<Le>>() + body.len();
        body.extend_from_slice(bytes);
        (offset as u64, bytes.len() as u64)
    };
    for table in tables {
        let dynamic = table.kind == elf::SHT_DYNSYM;
        let (symbols, names) = if dynamic { (".dynsym", ".dynstr") } else { (".symtab", ".strtab") };
        let (offset, bytes) = place(object::pod::bytes_of_slice(&table.symbols));
        sections.push(section(name(symbols), table.kind, offset, bytes, sections.len() as u32 + 1));
        let (offset, bytes) = place(&table.names);
        sections.push(section(name(names), elf::SHT_STRTAB, offset, bytes, 0));
    }
    let (offset, bytes) = place(SECTION_NAMES);
    sections.push(section(name(".shstrtab"), elf::SHT_STRTAB, offset, bytes, 0));
    let (headers, _) = place(object::pod::bytes_of_slice(&sections));
    let header = FileHeader64::<Le> {
        e_ident: elf::Ident {
            magic: elf::ELFMAG,
            class: elf::ELFCLASS64,
            data: elf::ELFDATA2LSB,
            version: elf::EV_CURRENT,
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(Le, elf::ET_DYN),
        e_machine: U16::new(Le, elf::EM_X86_64),
        e_version: U32::new(Le, elf::EV_CURRENT.into()),
        e_entry: U64::new(Le, 0),
        e_phoff: U64::new(Le, 0),
        e_shoff: U64::new(Le, headers),
        e_flags: U32::new(Le, 0),
        e_ehsize: U16::new(Le, size_of::<FileHeader64<Le>>() as u16),
        e_phentsize: U16::new(Le, size_of::<ProgramHeader64<Le>>() as u16),
        e_phnum: U16::new(Le, 0),
        e_shentsize: U16::new(Le, size_of::<SectionHeader64<Le>>() as u16),
        e_shnum: U16::new(Le, sections.len() as u16),
        e_shstrndx: U16::new(Le, sections.len() as u16 - 1),
    };
    let mut memory = sys::memory_file(c"symbols")?;
    memory.write_all(bytes_of(&header))?;
    memory.write_all(&body)?;
    let symbols: usize = tables.iter().map(|t| t.symbols.len()).sum();
    Ok((memory, (body.len() + symbols * size_of::<usize>()) as u64))
}

fn section(name: U32<Le>, kind: u32, offset: u64, bytes: u64, link: u32) -> SectionHeader64<Le> {
    let entry = if matches!(kind, elf::SHT_SYMTAB | elf::SHT_DYNSYM) { size_of::<Sym64<Le>>() } else { 0 };
    SectionHeader64 {
        sh_name: name,
        sh_type: U32::new(Le, kind),
        sh_flags: U64::new(Le, 0),
        sh_addr: U64::new(Le, 0),
        sh_offset: U64::new(Le, offset),
        sh_size: U64::new(Le, bytes),
        sh_link: U32::new(Le, link),
        sh_info: U32::new(Le, 0),
        sh_addralign: U64::new(Le, 8),
        sh_entsize: U64::new(Le, entry as u64),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions at 0x1010..0x1020 and 0x1030..0x1040, loaded from the start of the file to 0x1000.
    fn sample() -> Vec<u8> {
        let symbol = |name, kind, value, size| Sym64::<Le> {
            st_name: U32::new(Le, name),
            st_info: kind,
            st_other: 0,
            st_shndx: U16::new(Le, 1),
            st_value: U64::new(Le, value),
            st_size: U64::new(Le, size),
        };
        let all = Table {
            kind: elf::SHT_SYMTAB,
            symbols: vec![symbol(1, elf::STT_FUNC, 0x1010, 0x10), symbol(1, elf::STT_OBJECT, 0x1020, 0x10)],
            names: b"\0first\0".to_vec(),
        };
        let dynamic = Table {
            kind: elf::SHT_DYNSYM,
            symbols: vec![symbol(1, elf::STT_GNU_IFUNC, 0x1030, 0x10), symbol(1, elf::STT_FUNC, u64::MAX, 2)],
            names: b"\0second".to_vec(),
        };
        let (file, _) = assemble(&[all, dynamic]).unwrap();
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let segment = ProgramHeader64::<Le> {
            p_type: U32::new(Le, elf::PT_LOAD),
            p_flags: U32::new(Le, elf::PF_R | elf::PF_X),
            p_offset: U64::new(Le, 0),
            p_vaddr: U64::new(Le, 0x1000),
            p_paddr: U64::new(Le, 0x1000),
            p_filesz: U64::new(Le, 0x38),
            p_memsz: U64::new(Le, 0x38),
            p_align: U64::new(Le, 0x1000),
        };
        let offset = bytes.len() as u64;
        bytes.extend_from_slice(bytes_of(&segment));
        bytes[0x20..0x28].copy_from_slice(&offset.to_le_bytes());
        bytes[0x38..0x3a].copy_from_slice(&1u16.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Symbols> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Symbols::read(&file)
    }

    fn found(symbols: &Symbols, offset: u64) -> Option<(String, u64)> {
        symbols.find(offset).map(|(name, into)| (name.to_owned(), into))
    }

    #[test]
    fn functions_of_both_tables_are_found() {
        let symbols = read(&sample()).unwrap();
        let function = |name: &str, into| Some((name.to_owned(), into));
        assert_eq!(found(&symbols, 0x0f), None);
        assert_eq!(found(&symbols, 0x10), function("first", 0));
        assert_eq!(found(&symbols, 0x1f), function("first", 0xf));
        assert_eq!(found(&symbols, 0x20), None, "data is no function");
        assert_eq!(found(&symbols, 0x37), function("second", 7));
        assert_eq!(found(&symbols, 0x38), None, "not loaded");
        assert_eq!(found(&symbols, u64::MAX), None);
    }

    #[test]
    fn a_broken_file_is_an_error_or_lacks_functions() {
        let sample = sample();
        for end in 0..sample.len() {
            assert!(read(&sample[..end]).is_err(), "cut at {end}");
        }
        let mut readable = 0;
        for at in 0..sample.len() {
            for byte in [0, 0xff, sample[at] ^ 0x80, sample[at].wrapping_add(1)] {
                let mut broken = sample.clone();
                broken[at] = byte;
                let Ok(symbols) = read(&broken) else { continue };
                readable += 1;
                for offset in (0..0x40).chain([u64::MAX, u64::MAX - 0x1000]) {
                    assert!(symbols.find(offset).is_none_or(|(name, _)| name.len() < sample.len()));
                }
            }
        }
        assert!(readable > sample.len(), "most bytes are no reason not to read");
    }

    #[test]
    fn a_table_of_any_size_can_be_claimed() {
        let sample = sample();
        let sections = u64::from_le_bytes(sample[0x28..0x30].try_into().unwrap()) as usize;
        let size = sections + size_of::<SectionHeader64<Le>>() + 0x20;
        let file = tempfile::tempfile().unwrap();
        // Zeros are no functions and take nothing.
        for (claimed, expected) in [(1u64 << 39, Err("more symbols than are read")), (100 << 20, Ok(true))] {
            let mut large = sample.clone();
            large[size..size + 8].copy_from_slice(&claimed.to_le_bytes());
            file.set_len(0).unwrap();
            file.write_all_at(&large, 0).unwrap();
            file.set_len(1 << 40).unwrap();
            let read = Symbols::read(&file).map(|symbols| symbols.bytes() < 1 << 20);
            assert_eq!(read.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        }
    }
}
