//! dsascope's eBPF programs.
//!
//! Owns: what is observed at each hook of the idxd driver, gathered into one record a fault. One file a probe family, one for
//! accounting. Every hook is an inline function; the programs are thin wrappers around it, one an attach type, named
//! `<hook>_fentry`, `<hook>_fexit`, `<hook>_btf`, `<hook>_kprobe`, `<hook>_kretprobe` or `<hook>_tracepoint`.
//! Refuses: offsets of kernel structs (globals, set by the loader from BTF), unbounded work, silent failure (each is counted),
//! writing anything but its own maps.
//!
//! For a target other than BPF this is an empty program, so that the whole workspace builds with stable Rust.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod account;
#[cfg(target_arch = "bpf")]
mod copy;
#[cfg(target_arch = "bpf")]
mod driver;
#[cfg(target_arch = "bpf")]
mod file;
#[cfg(target_arch = "bpf")]
mod interrupt;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod page;
#[cfg(target_arch = "bpf")]
mod queue;
#[cfg(target_arch = "bpf")]
mod release;
#[cfg(target_arch = "bpf")]
mod service;
#[cfg(target_arch = "bpf")]
mod slots;
#[cfg(target_arch = "bpf")]
mod submit;
#[cfg(target_arch = "bpf")]
mod tasks;
#[cfg(target_arch = "bpf")]
mod wrap;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
