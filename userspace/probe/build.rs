//! Where the eBPF object is: the committed one, or the one that `cargo xtask ebpf --check` just built.

use std::env;

fn main() {
    const VARIABLE: &str = "DSASCOPE_BPF_OBJECT";
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    // Asked when it runs, not when it is compiled: a target directory may serve several checkouts.
    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into());
    let object = env::var(VARIABLE).unwrap_or_else(|_| format!("{here}/../../ebpf/dsascope.bpf.o"));
    println!("cargo::rerun-if-changed={object}");
    println!("cargo::rustc-env={VARIABLE}={object}");
}
