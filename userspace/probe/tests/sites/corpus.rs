//! The programs and libraries of the machine at hand, which are many, and most of which submit nothing.
//!
//! What is true of them is told by another disassembler: objdump of binutils, which shows all of each file that has the opcode's bytes
//! behind a mandatory prefix anywhere, code or not. A file without has no such instruction in any encoding that is searched for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use dsascope_probe::sites::scan;

const DIRECTORIES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/bin"];
/// A Debian that has no more than what builds this has about twice as many.
const FEWEST_FILES: usize = 200;

fn files() -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for directory in DIRECTORIES {
        for entry in fs::read_dir(directory).unwrap_or_else(|e| panic!("{directory}: {e}")) {
            let path = entry.unwrap().path();
            let Ok(meta) = fs::metadata(&path) else { continue };
            let library = path.to_string_lossy().contains(".so");
            if meta.is_file() && (library || directory == "/usr/bin") && seen.insert((meta.dev(), meta.ino()))
            {
                files.push(path);
            }
        }
    }
    files
}

/// Addresses at which objdump shows one of the three instructions.
fn disassembled(path: &Path) -> BTreeSet<u64> {
    let output = Command::new("objdump").arg("--disassemble").arg("--wide").arg(path).output();
    let output = output.expect("objdump of binutils, which has the linker too");
    assert!(output.status.success(), "{}", path.display());
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| {
            ["movdir64b", "enqcmd"].iter().any(|name| line.split_whitespace().any(|w| w.starts_with(name)))
        })
        .filter_map(|line| u64::from_str_radix(line.split(':').next()?.trim(), 16).ok())
        .collect()
}

/// Only prefixes stand between a mandatory one and the opcode, and there are no more than make 15 bytes with opcode and ModRM.
fn has_opcode(data: &[u8]) -> bool {
    let opcodes = memchr::memmem::find_iter(data, &[0x0f, 0x38, 0xf8]);
    opcodes.into_iter().any(|at| {
        let before = data[at.saturating_sub(11)..at].iter().rev();
        let prefix = |b: &&u8| {
            matches!(
                b,
                0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64 | 0x65 | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3
            )
        };
        before.take_while(prefix).any(|b| matches!(b, 0x66 | 0xf2 | 0xf3))
    })
}

#[test]
fn in_the_files_of_this_machine_only_what_objdump_shows_is_found() {
    let (mut searched, mut with_opcode) = (0, BTreeMap::new());
    for path in files() {
        let data = fs::read(&path).unwrap();
        if !data.starts_with(b"\x7fELF") {
            continue;
        }
        let name = path.to_string_lossy().into_owned();
        let found = scan(&name, &data).unwrap_or_else(|e| panic!("{e}"));
        searched += 1;
        if has_opcode(&data) {
            let truth = disassembled(&path);
            let sites: BTreeSet<u64> = found
                .sites
                .iter()
                .chain(&found.covered)
                .filter(|s| s.cookie.is_some())
                .map(|s| s.address)
                .collect();
            assert!(sites.is_subset(&truth), "{name}: {sites:x?} are found, {truth:x?} are there");
            // What it has and is not found is at least named.
            let named: BTreeSet<u64> =
                sites.union(&found.unprobeable.iter().map(|u| u.address).collect()).copied().collect();
            assert!(truth.is_subset(&named), "{name}: {truth:x?} are there, {named:x?} named");
            with_opcode.insert(name, (sites.len(), found.unprobeable.len(), found.dismissed));
        } else {
            assert_eq!((found.sites.len(), found.unprobeable.len(), found.dismissed), (0, 0, 0), "{name}");
        }
    }
    println!("{searched} files; with the opcode's bytes (sites, unprobeable, dismissed): {with_opcode:?}");
    assert!(searched >= FEWEST_FILES, "only {searched} ELF files in {DIRECTORIES:?}");
}

/// (address, bytes) of each instruction that objdump shows.
fn instructions(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let output = Command::new("objdump")
        .args(["--disassemble", "--wide", "--section=.text"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let address = u64::from_str_radix(columns.next()?.trim().strip_suffix(':')?, 16).ok()?;
            let bytes = columns
                .next()?
                .split_whitespace()
                .map(|b| u8::from_str_radix(b, 16))
                .collect::<Result<_, _>>();
            Some((address, bytes.ok()?))
        })
        .collect()
}

/// Where in the instruction five bytes can be anything and it stays an instruction of its length: 64-bit immediates, and displacements
/// with immediates after them.
fn free_bytes(instruction: &[u8]) -> Option<usize> {
    match instruction {
        [0x48 | 0x49, 0xb8..=0xbf, ..] if instruction.len() == 10 => Some(3),
        [0xc7, 0x05 | 0x80..=0x83 | 0x85..=0x87, ..] if instruction.len() == 10 => Some(4),
        [0x48, 0xc7, 0x05 | 0x80..=0x83 | 0x85..=0x87, ..] if instruction.len() == 11 => Some(5),
        _ => None,
    }
}

/// Submissions planted in real code: in place of other instructions of their length, and in other instructions, of which none may be
/// found.
#[test]
fn what_is_planted_in_real_code_is_found_where_objdump_has_instructions_and_nowhere_else() {
    const MOVDIR64B: [u8; 5] = [0x66, 0x0f, 0x38, 0xf8, 0x02];
    let (mut planted, mut hidden, mut found) = (0, 0, 0);
    let mut reasons = BTreeMap::new();
    for name in ["libc.so.6", "libstdc++.so.6", "libm.so.6", "libgcc_s.so.1"] {
        let path = Path::new(DIRECTORIES[0]).join(name);
        let mut data = fs::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let object = object::File::parse(&*data).unwrap();
        use object::{Object as _, ObjectSection as _};
        let text = object.section_by_name(".text").unwrap();
        let (address, offset) = (text.address(), text.file_range().unwrap().0);
        let all = instructions(&path);
        assert!(all.len() > 1000, "{name}: {}", all.len());
        let mut positives = BTreeSet::new();
        let mut plant = |at: u64| {
            let at = usize::try_from(at - address + offset).unwrap();
            data[at..at + MOVDIR64B.len()].copy_from_slice(&MOVDIR64B);
        };
        let whole: Vec<u64> = all.iter().filter(|(_, bytes)| bytes.len() == 5).map(|(at, _)| *at).collect();
        for at in whole.iter().step_by(1 + whole.len() / 1500) {
            plant(*at);
            positives.insert(*at);
        }
        let inside: Vec<u64> =
            all.iter().filter_map(|(at, bytes)| Some(at + free_bytes(bytes)? as u64)).collect();
        for at in inside.iter().step_by(1 + inside.len() / 1500) {
            plant(*at);
            hidden += 1;
        }
        planted += positives.len();
        let scan = scan(name, &data).unwrap();
        for site in &scan.sites {
            assert!(positives.contains(&site.address), "{name}: {site:x?} is inside another instruction");
        }
        found += scan.sites.len();
        for unprobeable in &scan.unprobeable {
            *reasons.entry(format!("{:?}", std::mem::discriminant(&unprobeable.reason))).or_insert(0) += 1;
        }
        println!("{name}: {} of {}; {:?}", scan.sites.len(), positives.len(), scan.unprobeable.first());
    }
    println!("{found} of {planted} found, {hidden} hidden; {reasons:?}");
    assert!(hidden > 500, "only {hidden} places in other instructions");
    assert!(found * 10 >= planted * 9, "only {found} of {planted}: {reasons:?}");
}
