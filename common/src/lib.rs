//! Definitions without behaviour, shared by the eBPF programs, the tracer and the testbed's device model.
//!
//! Owns: hardware formats ([`hw`]; source: Intel's DSA and IAA formats as Linux' idxd driver reads them) and the
//! records and map layouts that pass between kernel and user side ([`wire`]).
//! Refuses: behaviour, allocation, dependencies in the eBPF build, and any offset of a kernel struct (those are read from
//! BTF when attaching and reach the programs as globals).
#![no_std]

pub mod hw;
pub mod wire;
