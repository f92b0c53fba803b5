//! The smallest ELF files that have what a search looks at: one segment, .text, symbols, and notes.

/// Of .text in the file, and the distance from there to where it is linked.
pub(crate) const OFFSET: u64 = 0x1000;
pub(crate) const LINKED: u64 = 0x40_0000;
pub(crate) const TEXT: u64 = LINKED + OFFSET;

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) bitness: u32,
    pub(crate) text: Vec<u8>,
    /// (name, where in the text, size).
    pub(crate) functions: Vec<(&'static str, u64, u64)>,
    pub(crate) notes: Vec<u8>,
    pub(crate) stapsdt_base: Option<u64>,
    pub(crate) writable: bool,
}

impl Sample {
    pub(crate) fn new(bitness: u32) -> Self {
        let (text, functions, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { bitness, text, functions, notes, stapsdt_base: None, writable: false }
    }

    /// A function of its own, with its size; 16-byte aligned by int3.
    pub(crate) fn function(mut self, name: &'static str, code: &[u8]) -> Self {
        self.text.resize(self.text.len().next_multiple_of(16), 0xcc);
        self.functions.push((name, self.text.len() as u64, code.len() as u64));
        self.text.extend_from_slice(code);
        self
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let wide = self.bitness == 64;
        let names = b"\0.text\0.symtab\0.strtab\0.shstrtab\0.note.stapsdt\0.stapsdt.base\0";
        let name = |wanted: &[u8]| names.windows(wanted.len()).position(|w| w == wanted).unwrap() as u32;
        let mut strings = vec![0];
        let mut symbols = vec![0; if wide { 24 } else { 16 }];
        for (function, at, size) in &self.functions {
            let string = strings.len() as u32;
            strings.extend_from_slice(function.as_bytes());
            strings.push(0);
            let (global_function, section) = (0x12_u8, 1_u16);
            let value = TEXT + at;
            symbols.extend(string.to_le_bytes());
            if wide {
                symbols.extend([global_function, 0]);
                symbols.extend(section.to_le_bytes());
                symbols.extend(value.to_le_bytes());
                symbols.extend(size.to_le_bytes());
            } else {
                symbols.extend((value as u32).to_le_bytes());
                symbols.extend((*size as u32).to_le_bytes());
                symbols.extend([global_function, 0]);
                symbols.extend(section.to_le_bytes());
            }
        }
        let mut file = vec![0; OFFSET as usize];
        let mut put = |bytes: &[u8]| {
            file.resize(file.len().next_multiple_of(8), 0);
            let at = file.len() as u64;
            file.extend_from_slice(bytes);
            (at, bytes.len() as u64)
        };
        let text = put(&self.text);
        let (symbols, strings, names_at, notes) =
            (put(&symbols), put(&strings), put(names), put(&self.notes));
        let entry_size = if wide { 24 } else { 16 };
        // name, type, flags, address, (offset, size), link, info, entry size
        let mut sections = vec![
            (0, 0, 0, 0, (0, 0), 0, 0, 0),
            (name(b".text\0"), 1, 6, TEXT, text, 0, 0, 0),
            (name(b".symtab\0"), 2, 0, 0, symbols, 3, 1, entry_size),
            (name(b".strtab\0"), 3, 0, 0, strings, 0, 0, 0),
            (name(b".shstrtab\0"), 3, 0, 0, names_at, 0, 0, 0),
            (name(b".note.stapsdt\0"), 7, 0, 0, notes, 0, 0, 0),
        ];
        sections
            .extend(self.stapsdt_base.map(|at| (name(b".stapsdt.base\0"), 1, 2, at, (OFFSET, 1), 0, 0, 0)));
        let word = |value: u64| {
            if wide { value.to_le_bytes().to_vec() } else { (value as u32).to_le_bytes().to_vec() }
        };
        let mut table = Vec::new();
        for (name, type_, flags, address, (offset, size), link, info, entry) in &sections {
            table.extend(u32::to_le_bytes(*name));
            table.extend(u32::to_le_bytes(*type_));
            [*flags, *address, *offset, *size].iter().for_each(|v| table.extend(word(*v)));
            table.extend(u32::to_le_bytes(*link));
            table.extend(u32::to_le_bytes(*info));
            [1, *entry].iter().for_each(|v| table.extend(word(*v)));
        }
        let (table_at, _) = put(&table);
        let header_size: u16 = if wide { 64 } else { 52 };
        let mut header = b"\x7fELF".to_vec();
        header.extend([if wide { 2 } else { 1 }, 1, 1]);
        header.resize(16, 0);
        header.extend(3_u16.to_le_bytes());
        header.extend(if wide { 62_u16 } else { 3 }.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        [0, header_size.into(), table_at].iter().for_each(|v| header.extend(word(*v)));
        header.extend(0_u32.to_le_bytes());
        let (program_header, section_header) = if wide { (56_u16, 64_u16) } else { (32, 40) };
        for half in [header_size, program_header, 1, section_header, sections.len() as u16, 4] {
            header.extend(half.to_le_bytes());
        }
        assert_eq!(header.len(), usize::from(header_size));
        let flags: u32 = if self.writable { 7 } else { 5 };
        header.extend(1_u32.to_le_bytes());
        if wide {
            header.extend(flags.to_le_bytes());
        }
        [OFFSET, TEXT, TEXT, text.1, text.1].iter().for_each(|v| header.extend(word(*v)));
        if !wide {
            header.extend(flags.to_le_bytes());
        }
        header.extend(word(0x1000));
        file[..header.len()].copy_from_slice(&header);
        file
    }

    /// Its search, which must succeed.
    pub(crate) fn scan(&self) -> dsascope_probe::sites::Scan {
        dsascope_probe::sites::scan("sample", &self.build()).unwrap()
    }
}
