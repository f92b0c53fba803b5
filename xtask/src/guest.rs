//! `cargo xtask guest`: one boot, then scenarios, a command, or the doctor.
//!
//! Owns: where results go (stdout, `--out`, `--truth`) and the exit code. Refuses: judging a scenario; `reconcile` does that.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use dsascope_guest::scenario::{Device, Scenario, random};

use crate::binaries::TRACER;
use crate::cli::GuestArgs;
use crate::progress::say;
use crate::session::{Command, Guest, Outcome, Stream};
use crate::terminal;

/// Runs it; the exit code is the command's, or 1 when a scenario could not be run.
pub fn run(arguments: &GuestArgs) -> Result<u8> {
    let scenarios = load(arguments)?;
    let mut settings = arguments.machine.settings();
    settings.out.clone_from(&arguments.out);
    settings.files.clone_from(&arguments.files);
    settings.devices = devices(&scenarios);
    let mut guest = Guest::boot(&settings)?;
    say(format!(
        "kernel {}: prepared in {:.1} s, user space after {:.1} s",
        guest.kernel,
        guest.timings.prepare.as_secs_f64(),
        guest.timings.boot.as_secs_f64()
    ));
    let code = if scenarios.is_empty() {
        let doctor = || vec![TRACER.to_owned(), "doctor".to_owned()];
        let argv = if arguments.command.is_empty() { doctor() } else { arguments.command.clone() };
        command(&mut guest, argv, arguments.timeout.map(Duration::from_secs))?
    } else {
        let mut code = 0;
        for scenario in &scenarios {
            let outcome = guest.scenario(scenario, None)?;
            print!("{}", outcome.said);
            keep(arguments.out.as_deref(), scenario, &outcome)?;
            say(format!("scenario {}: {}", scenario.name, if outcome.code == 0 { "ran" } else { "failed" }));
            if outcome.code != 0 {
                code = 1;
            }
        }
        code
    };
    guest.shutdown(arguments.truth.as_deref())?;
    Ok(code)
}

/// Runs a command in the guest on our terminal, or on our pipes when there is none.
pub fn command(guest: &mut Guest, argv: Vec<String>, limit: Option<Duration>) -> Result<u8> {
    let on_terminal = terminal::is_terminal();
    let command = Command { argv, tty: on_terminal.then(terminal::size), limit };
    let mut raw = if on_terminal { Some(terminal::Raw::enter()?) } else { None };
    let code = guest.exec(
        &command,
        |input| {
            let resizes = if on_terminal { Some(terminal::Resizes::forward(input.clone())?) } else { None };
            Ok((terminal::Keys::forward(input)?, resizes))
        },
        &mut |stream, bytes| {
            let written = match stream {
                Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
                Stream::Stderr => io::stderr().write_all(bytes),
            };
            written.context("cannot write the guest's output")
        },
    )?;
    if let Some(raw) = &mut raw {
        raw.ended_cleanly();
    }
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The scenarios of files, then those of seeds.
fn load(arguments: &GuestArgs) -> Result<Vec<Scenario>> {
    let files = arguments.scenario.iter().map(|path| from_file(path));
    files.chain(arguments.seed.iter().map(|seed| Ok(random(*seed)))).collect()
}

/// Reads a scenario file.
pub fn from_file(path: &Path) -> Result<Scenario> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the scenario {}", path.display()))?;
    Scenario::parse(&text).map_err(|error| anyhow!("scenario {}: {error}", path.display()))
}

/// Devices that a boot must have for all of the scenarios.
pub fn devices(scenarios: &[Scenario]) -> u16 {
    let numbers = scenarios.iter().flat_map(|scenario| &scenario.devices).filter_map(Device::number);
    numbers.max().map_or(1, |last| last + 1)
}

/// Keeps a scenario's reports below the output directory.
pub fn keep(out: Option<&Path>, scenario: &Scenario, outcome: &Outcome) -> Result<()> {
    let Some(out) = out else { return Ok(()) };
    let directory = out.join(file_name(&scenario.name));
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, bytes) in &outcome.files {
        let path = directory.join(file_name(name));
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A name that stays in its directory, whatever the scenario or the guest calls it.
fn file_name(name: &str) -> String {
    let safe: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    if safe.trim_matches('.').is_empty() { "unnamed".to_owned() } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_guest_stay_in_their_directory() {
        assert_eq!(file_name("processes.json"), "processes.json");
        assert_eq!(file_name("../../etc/x"), ".._.._etc_x");
        assert_eq!(file_name(".."), "unnamed");
    }

    #[test]
    fn there_are_as_many_devices_as_scenarios_name() {
        assert_eq!(devices(&[]), 1);
        assert_eq!(devices(&[random(1)]), 1);
        let mut scenario = random(1);
        scenario.devices[0].name = "dsa2".into();
        assert_eq!(devices(&[scenario]), 3);
    }
}
