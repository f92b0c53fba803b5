//! Where a kernel function is.
//!
//! The kernel looks its own tables up at once for a program of the syscall kind (Linux 5.16); reading all of /proc/kallsyms, which takes
//! seconds on a slow machine, is what is left where that is refused.

use std::{
    fs::File,
    io::{self, BufReader},
    os::fd::AsFd as _,
};

use aya_obj::generated::{bpf_func_id, bpf_insn};

use crate::{
    object::Code,
    sys::{self, ProgramType},
};

/// Address of a function of the kernel or of a module; `None` when it is not there or addresses are hidden from us.
pub(crate) fn address(name: &str) -> Option<u64> {
    match ask_kernel(name) {
        Ok(address) => Some(address),
        Err(error) => {
            log::debug!("the kernel does not look {name} up: {error}; reading /proc/kallsyms");
            in_kallsyms(BufReader::new(File::open("/proc/kallsyms").ok()?), name)
        }
    }
}

fn ask_kernel(name: &str) -> io::Result<u64> {
    let program = sys::load_program(
        "symbol",
        ProgramType::Syscall,
        Code { instructions: &lookup_program(name)?, functions: None },
        None,
    )?;
    let mut address = 0u64;
    let result = sys::run_syscall_program(program.as_fd(), &mut address)?;
    if result != 0 || address == 0 {
        return Err(io::Error::other(format!("bpf_kallsyms_lookup_name returned {}", result as i32)));
    }
    Ok(address)
}

/// `r0 = bpf_kallsyms_lookup_name(name, length, 0, &address)`, and the address to the context's first eight bytes. Hand-made because the
/// name lies on its stack; opcodes as in the kernel's linux/bpf.h.
fn lookup_program(name: &str) -> io::Result<Vec<bpf_insn>> {
    const STORE_WORD_IMMEDIATE: u8 = 0x62;
    const STORE_DOUBLE_IMMEDIATE: u8 = 0x7a;
    const STORE_DOUBLE: u8 = 0x7b;
    const LOAD_DOUBLE: u8 = 0x79;
    const MOVE: u8 = 0xbf;
    const MOVE_IMMEDIATE: u8 = 0xb7;
    const ADD_IMMEDIATE: u8 = 0x07;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const RESULT: i16 = -8;
    /// Names start here and end below the result.
    const NAME: i16 = -8 - 128;

    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    let length = bytes.len();
    if length > 128 {
        return Err(io::Error::other("the name is too long"));
    }
    bytes.resize(length.next_multiple_of(4), 0);
    let step = |code: u8, to: u8, from: u8, off: i16, imm: i32| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off,
        imm,
    };
    let mut program = vec![step(MOVE, 6, 1, 0, 0), step(STORE_DOUBLE_IMMEDIATE, 10, 0, RESULT, 0)];
    for (index, word) in bytes.chunks_exact(4).enumerate() {
        let word = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        program.push(step(STORE_WORD_IMMEDIATE, 10, 0, NAME + index as i16 * 4, word));
    }
    program.extend([
        step(MOVE, 1, 10, 0, 0),
        step(ADD_IMMEDIATE, 1, 0, 0, i32::from(NAME)),
        step(MOVE_IMMEDIATE, 2, 0, 0, length as i32),
        step(MOVE_IMMEDIATE, 3, 0, 0, 0),
        step(MOVE, 4, 10, 0, 0),
        step(ADD_IMMEDIATE, 4, 0, 0, i32::from(RESULT)),
        step(CALL, 0, 0, 0, bpf_func_id::BPF_FUNC_kallsyms_lookup_name as i32),
        step(LOAD_DOUBLE, 1, 10, RESULT, 0),
        step(STORE_DOUBLE, 6, 1, 0, 0),
        step(EXIT, 0, 0, 0, 0),
    ]);
    Ok(program)
}

fn in_kallsyms(symbols: impl io::BufRead, name: &str) -> Option<u64> {
    symbols.lines().map_while(Result::ok).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (address, _kind, found) = (words.next()?, words.next()?, words.next()?);
        (found == name).then(|| u64::from_str_radix(address, 16).ok()).flatten().filter(|a| *a != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "ffffffff81000000 T _text\n\
        0000000000000000 t hidden\n\
        ffffffffc0a01230 t idxd_evl_fault_work\t[idxd]\n";

    #[test]
    fn a_modules_function_is_found_by_its_whole_name() {
        let find = |name| in_kallsyms(SYMBOLS.as_bytes(), name);
        assert_eq!(find("idxd_evl_fault_work"), Some(0xffff_ffff_c0a0_1230));
        assert_eq!(find("idxd_evl"), None);
        assert_eq!(find("hidden"), None, "an address of 0 is hidden, not an address");
    }

    #[test]
    fn the_kernel_agrees_with_its_own_list() {
        let listed = in_kallsyms(BufReader::new(File::open("/proc/kallsyms").unwrap()), "schedule");
        match ask_kernel("schedule") {
            Ok(asked) => assert_eq!(Some(asked), listed),
            // Without the right to ask there is none to read addresses either.
            Err(error) => assert_eq!(listed, None, "{error}"),
        }
    }
}
