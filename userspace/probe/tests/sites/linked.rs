//! Against a second assembler and a real linker: GNU as and ld, which every machine that builds Rust has.

use std::path::Path;
use std::process::Command;

use dsascope_probe::sites::{SiteCookie, scan};

fn run(program: &str, arguments: &[&str], directory: &Path) {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|e| panic!("{program} (of binutils): {e}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Assembled and linked as a shared library, and stripped if so wished.
fn link(bits: u32, source: &str, strip: bool) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("sample.s"), source).unwrap();
    run("as", &[&format!("--{bits}"), "sample.s", "-o", "sample.o"], at);
    let format = if bits == 64 { "elf_x86_64" } else { "elf_i386" };
    run("ld", &["-m", format, "--eh-frame-hdr", "-shared", "sample.o", "-o", "sample.so"], at);
    if strip {
        run("strip", &["--strip-all", "--remove-section=.dynsym", "sample.so"], at);
    }
    std::fs::read(at.join("sample.so")).unwrap()
}

/// One that has call frame information alone to tell where its functions are, and submits in all of [`FORMS`].
pub(crate) fn stripped() -> Vec<u8> {
    link(64, &source(), true)
}

/// (assembly, base, index, scale, displacement, destination)
const FORMS: [(&str, u8, u8, u8, i32, u8); 14] = [
    ("movdir64b (%rsi), %rdi", 7, 0, 0, 0, 8),
    ("movdir64b 0x40(%rsp), %rax", 5, 0, 0, 0x40, 1),
    ("movdir64b -8(%rbp,%rcx,4), %r15", 6, 2, 2, -8, 16),
    ("movdir64b (%r12), %r8", 13, 0, 0, 0, 9),
    ("movdir64b (%r13,%r9,8), %rbx", 14, 10, 3, 0, 4),
    ("movdir64b 0x12345678(,%rdx,2), %rdi", 0, 3, 1, 0x1234_5678, 8),
    ("movdir64b 0x12345678, %rdi", 0, 0, 0, 0x1234_5678, 8),
    ("movdir64b -0x1000, %rdi", 0, 0, 0, -0x1000, 8),
    ("movdir64b 0x1234(%rip), %rdi", 17, 0, 0, 0x1234, 8),
    ("enqcmd (%rsi), %rdi", 7, 0, 0, 0, 8),
    ("enqcmd -0x80(%r10,%r12), %r11", 11, 13, 0, -0x80, 12),
    ("enqcmds 0x80(%rax,%rax), %rax", 1, 1, 0, 0x80, 1),
    ("enqcmd (%eax), %edx", 1, 0, 0, 0, 3),
    ("movdir64b 8(%r8d,%r9d,8), %r10d", 9, 10, 3, 8, 11),
];

fn source() -> String {
    let mut source = String::from(".text\n");
    for (number, (form, ..)) in FORMS.iter().enumerate() {
        // A label of its own for each, as a compiler would give it, and call frame information for those without.
        source += &format!(
            ".globl submit_{number}\n.type submit_{number},@function\nsubmit_{number}:\n.cfi_startproc\npush %rbx\n{form}\n\
             setz %al\npop %rbx\nret\n.cfi_endproc\n.size submit_{number}, . - submit_{number}\n.balign 16\n"
        );
    }
    source
}

#[test]
fn what_gnu_as_assembles_is_found_in_what_ld_links() {
    for strip in [false, true] {
        let scan = scan("sample.so", &link(64, &source(), strip)).unwrap();
        assert_eq!(scan.unprobeable, []);
        assert_eq!(scan.sites.len(), FORMS.len());
        for (number, (site, form)) in scan.sites.iter().zip(FORMS).enumerate() {
            let found = site.cookie.and_then(SiteCookie::unpack).unwrap();
            let fields = (found.base, found.index, found.scale, found.displacement, found.destination);
            assert_eq!(fields, (form.1, form.2, form.3, form.4, form.5), "{}: {}", form.0, site.text);
            assert_eq!(site.result_offset.is_some(), form.0.starts_with("enqcmd"), "{}", form.0);
            let symbol = site.symbol.as_ref().map(ToString::to_string);
            assert_eq!(symbol, (!strip).then(|| format!("submit_{number}+0x1")), "{}", form.0);
        }
    }
}

#[test]
fn without_section_headers_the_unwinders_way_leads_to_the_functions() {
    let mut file = stripped();
    let whole = scan("sample.so", &file).unwrap();
    // Where the section headers are, how many, and which has their names.
    file[0x28..0x30].fill(0);
    file[0x3c..0x40].fill(0);
    assert_eq!(scan("sample.so", &file).unwrap(), whole);
    assert_eq!(whole.sites.len(), FORMS.len());
}

#[test]
fn a_32_bit_program_has_32_bit_addresses() {
    let source = ".text\n.globl f\n.type f,@function\nf:\nmovdir64b 4(%esi,%ebx,2), %edi\nenqcmds (%eax), %ecx\njz f\nret\n.size f, . - f\n";
    let scan = scan("sample.so", &link(32, source, false)).unwrap();
    assert_eq!(scan.unprobeable, []);
    let forms: Vec<_> = scan.sites.iter().filter_map(|s| s.cookie.and_then(SiteCookie::unpack)).collect();
    assert!(forms.iter().all(|f| f.addresses_32));
    let fields: Vec<_> =
        forms.iter().map(|f| (f.base, f.index, f.scale, f.displacement, f.destination)).collect();
    assert_eq!(fields, [(7, 4, 1, 4, 8), (1, 0, 0, 0, 2)]);
    assert_eq!(scan.sites[0].text, "movdir64b 4(%esi,%ebx,2),%edi");
}
