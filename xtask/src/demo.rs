//! `cargo xtask demo`: a busy guest and dsascope's live view of it in this terminal.
//!
//! Refuses: running without a terminal; `cargo xtask guest` does that.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::binaries::{AGENT, TRACER, workspace};
use crate::cli::DemoArgs;
use crate::guest;
use crate::rootfs::Extra;
use crate::session::{Guest, Settings};
use crate::terminal;

const CPUS: u32 = 4;
/// The scenario in the guest.
const SCENARIO: &str = "/demo.toml";

/// Runs until the live view is left; its exit code is the result.
pub fn run(arguments: &DemoArgs) -> Result<u8> {
    if !terminal::is_terminal() {
        bail!("the demo needs a terminal; `cargo xtask guest --scenario FILE` runs without one");
    }
    let scenario = guest::from_file(&scenario())?;
    let settings = Settings {
        kernel: arguments.own.kernel(&arguments.kernel),
        qemu: arguments.own.qemu.clone(),
        cpus: CPUS,
        devices: guest::devices(std::slice::from_ref(&scenario))?,
        emulation: scenario.needs_emulation(),
        files: vec![file()],
        ..Settings::with_kernel(&arguments.kernel)
    };
    let mut guest = Guest::boot(&settings)?;
    let code = guest::command(&mut guest, argv(), None)?;
    guest.shutdown(None)?;
    Ok(code)
}

/// What runs in the guest that has [`file`]: the view, beside the scenario's processes.
pub fn argv() -> Vec<String> {
    [AGENT, "demo", SCENARIO, "--", TRACER, "live"].map(ToOwned::to_owned).to_vec()
}

/// The scenario for the guest.
pub fn file() -> Extra {
    Extra { host: scenario(), guest: SCENARIO.to_owned() }
}

/// The demo's scenario file.
pub fn scenario() -> PathBuf {
    workspace().join("xtask/scenarios/demo.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_is_valid_and_busy() {
        let scenario = guest::from_file(&scenario()).unwrap();
        assert!(scenario.processes.len() >= 4);
    }
}
