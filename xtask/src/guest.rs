//! `cargo xtask guest`: one boot, then scenarios, a command, or the doctor.
//!
//! Owns: where results go (stdout, `--out`, `--truth`) and the exit code. Refuses: judging a scenario; `reconcile` does that.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use dsascope_guest::scenario::{DeviceKind, Scenario, random};

use crate::accel_config;
use crate::binaries::{AGENT, TRACER};
use crate::cache::Cache;
use crate::cli::GuestArgs;
use crate::progress::say;
use crate::rootfs::Extra;
use crate::session::{Command, Guest, Outcome, Stream};
use crate::terminal;

/// Runs it; the exit code is the command's, or 1 when a scenario could not be run.
pub fn run(arguments: &GuestArgs) -> Result<u8> {
    let scenarios = load(arguments)?;
    let beside = beside(arguments)?;
    let mut settings = arguments.machine.settings();
    settings.out.clone_from(&arguments.out);
    settings.files.clone_from(&arguments.files);
    if arguments.accel_config {
        settings.files.extend(accel_config::files(&Cache::open()?)?);
    }
    settings.files.extend(beside.map(|file| Extra { host: file.to_owned(), guest: BESIDE.to_owned() }));
    settings.devices = devices(&scenarios)?;
    settings.emulation = arguments.emulation || scenarios.iter().any(Scenario::needs_emulation);
    let mut guest = Guest::boot(&settings)?;
    say(format!(
        "kernel {}: prepared in {:.1} s, user space after {:.1} s",
        guest.kernel,
        guest.timings.prepare.as_secs_f64(),
        guest.timings.boot.as_secs_f64()
    ));
    let code = if scenarios.is_empty() || beside.is_some() {
        let doctor = || vec![TRACER.to_owned(), "doctor".to_owned()];
        let mut argv = if arguments.command.is_empty() { doctor() } else { arguments.command.clone() };
        if beside.is_some() {
            argv.splice(0..0, [AGENT, "demo", BESIDE, "--"].map(ToOwned::to_owned));
        }
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

/// A command's scenario in the guest.
const BESIDE: &str = "/beside.toml";

/// The scenario whose work queues and processes are there while a command runs.
fn beside(arguments: &GuestArgs) -> Result<Option<&Path>> {
    match arguments.scenario.as_slice() {
        _ if arguments.command.is_empty() => Ok(None),
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => bail!("one scenario goes beside a command, not several"),
    }
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

/// Devices that a boot must have for all of the scenarios, by their numbers; one at least. Numbers that no scenario uses are DSAs.
pub fn devices(scenarios: &[Scenario]) -> Result<Vec<DeviceKind>> {
    let mut kinds = vec![None];
    for scenario in scenarios {
        for device in &scenario.devices {
            let number = usize::from(device.number().context("a device without a number")?);
            if kinds.len() <= number {
                kinds.resize(number + 1, None);
            }
            if *kinds[number].get_or_insert(device.kind) != device.kind {
                let (name, scenario) = (&device.name, &scenario.name);
                bail!(
                    "{scenario} has {name} where another scenario of this boot has a device of the other kind"
                );
            }
        }
    }
    Ok(kinds.into_iter().map(|kind| kind.unwrap_or(DeviceKind::Dsa)).collect())
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
    use crate::binaries::workspace;

    #[test]
    fn names_from_the_guest_stay_in_their_directory() {
        assert_eq!(file_name("processes.json"), "processes.json");
        assert_eq!(file_name("../../etc/x"), ".._.._etc_x");
        assert_eq!(file_name(".."), "unnamed");
    }

    #[test]
    fn one_scenario_goes_beside_a_command() {
        use clap::Parser;
        let parse = |words: &[&str]| {
            let words = ["cargo xtask", "guest"].iter().chain(words);
            match crate::cli::Cli::try_parse_from(words).unwrap().command {
                crate::cli::Command::Guest(arguments) => arguments,
                other => panic!("{other:?}"),
            }
        };
        let quiet = workspace().join("xtask/quiet.toml");
        assert!(from_file(&quiet).unwrap().processes.is_empty());
        let quiet = quiet.to_str().unwrap();
        let alone = parse(&["--scenario", quiet]);
        assert_eq!(beside(&alone).unwrap(), None);
        let with = parse(&["--scenario", quiet, "--", "dsascope", "doctor"]);
        assert_eq!(beside(&with).unwrap(), Some(Path::new(quiet)));
        let two = parse(&["--scenario", quiet, "--scenario", quiet, "--", "dsascope"]);
        assert!(beside(&two).is_err());
        assert_eq!(beside(&parse(&["--", "dsascope"])).unwrap(), None);
    }

    #[test]
    fn there_are_as_many_devices_as_scenarios_name() {
        use DeviceKind::{Dsa, Iaa};
        assert_eq!(devices(&[]).unwrap(), [Dsa]);
        let with = |kind: &str, name: &str| {
            let wq = "{ id = 0, mode = 'dedicated', size = 1 }";
            let device = format!("name = '{name}'\nkind = '{kind}'\nwork_queue = [{wq}]");
            Scenario::parse(&format!("name = '{name}'\n[[device]]\n{device}")).unwrap()
        };
        assert_eq!(devices(&[with("dsa", "dsa0"), with("iaa", "iax2")]).unwrap(), [Dsa, Dsa, Iaa]);
        let error = devices(&[with("iaa", "iax1"), with("dsa", "dsa1")]).unwrap_err();
        assert!(error.to_string().contains("dsa1"), "{error}");
    }
}
