//! dsascope's build, testbed and checks behind `cargo xtask`.
//!
//! Bottom up: [`cache`], [`apt`], [`version`], [`kernel`], [`qemu`] and [`accel_config`] bring what is missing; [`binaries`],
//! [`modules`], [`emulation`], [`initramfs`] and [`rootfs`] make the guest's file system; [`machine`], [`devices`] and [`control`] run
//! it; [`session`] is a booted guest that the commands ([`guest`], [`demo`], [`test`], [`reconcile`], [`cost`]) use; [`matrix`] keeps
//! what [`test`] found. [`foreign`] holds exports against the world's readers, on the host; [`fuzz`] the reader of captures
//! against bytes that nobody wrote. Refuses: device behaviour (the testbed crate) and what happens in the guest (the guest crate).

pub mod accel_config;
pub mod apt;
mod arrows;
pub mod binaries;
pub mod cache;
pub mod captures;
pub mod cleanup;
pub mod cli;
pub mod control;
pub mod cost;
pub mod dashboards;
pub mod demo;
pub mod devices;
pub mod devices_test;
pub mod ebpf;
pub mod emulation;
pub mod files;
pub mod foreign;
pub mod fuzz;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod live_view;
pub mod machine;
pub mod matrix;
pub mod modules;
pub mod progress;
pub mod qemu;
pub mod reconcile;
pub mod rootfs;
pub mod screens;
pub mod session;
pub mod submissions;
pub mod terminal;
pub mod test;
pub mod version;
