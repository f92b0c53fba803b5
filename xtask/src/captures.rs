//! What was recorded in a guest, replayed here: byte for byte what was seen live.
//!
//! Owns: the guest tests of captures, and `cargo xtask samples`. Refuses: the format, which is the capture crate's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dsascope_guest::beside::Order;
use dsascope_guest::protocol::PROGRAMS;
use dsascope_guest::report::TRACER_STDOUT;
use dsascope_guest::scenario::{DeviceKind, Scenario};

use crate::binaries::{self, TRACER, workspace};
use crate::progress::say;
use crate::session::{Guest, Settings};
use crate::submissions::{quiet, submitter};
use crate::version::SUPPORTED;

/// Where the guest puts what a scenario leaves; all of it comes to the host.
const GUEST_OUT: &str = "/tmp/scenario/out";
const CAPTURE: &str = "run.dsc";

/// For a command that should answer at once, under emulation; and attaching takes seconds there.
const LIMIT: Duration = Duration::from_secs(180);
/// For all runs of the submitter.
const FOLLOWED_LIMIT: Duration = Duration::from_secs(300);
const MOST_BYTES_A_FAULT: f64 = 24.0;

/// Live runs, each with a capture of what it saw.
const RUNS: [&[&str]; 3] =
    [&["stat", "--interval", "700ms"], &["trace", "--json"], &["export", "--format", "csv"]];

/// Runs of the submitter that are followed, in one recording: what a service does, and one whose records lie where they should not.
const FOLLOWED: [&str; 3] = [
    "--threads 2 --op memmove=3,crcgen --size 4KiB=3,64KiB --rate 60 --for 4s --cr resident=9,absent",
    "--threads 2 --batch 6 --count 60 --rate 20 -e 0,0,0,0:0,1,0,0:0,0,0,0:0,0,0,0:0,0,0,0:0,1,0,0",
    "--count 80 --rate 40 --source resident=3,absent --cr resident=6,absent=3,unmapped",
];

/// stat, trace and export say of a capture at home what they said live in the guest while it was made.
pub fn replay_as_seen(guest: &mut Guest) -> Result<()> {
    let scenario = Scenario::parse(include_str!("../scenarios/demo.toml"))?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    for words in RUNS {
        let what = words.join(" ");
        let recorded = recorded(guest, &scenario, words)?;
        let live = replays(directory.path(), &recorded, words)?;
        if words.contains(&"stat") {
            let tables = live.matches("key-value-store").count();
            ensure!(tables >= 4, "{what} told of {tables} intervals");
        }
    }
    // One is enough: the lines have all that the others show of submissions.
    let words = ["trace", "--json"];
    let recorded = followed(guest, &words)?;
    let live = replays(directory.path(), &recorded, &words)?;
    ensure!(live.contains("submitted_ns"), "no submission in {live}");
    Ok(())
}

/// What was said live, which is what is said of the capture here.
fn replays(directory: &Path, (live, capture): &(Vec<u8>, Vec<u8>), words: &[&str]) -> Result<String> {
    let what = words.join(" ");
    let path = directory.join(CAPTURE);
    fs::write(&path, capture).with_context(|| format!("cannot write {}", path.display()))?;
    let replayed = replay(&path, words)?;
    let said = String::from_utf8_lossy(live).into_owned();
    ensure!(live.len() > 1000, "{what} said next to nothing live: {said}");
    ensure!(replayed == *live, "{what}: {}", first_difference(live, &replayed));
    Ok(said)
}

/// `record -- COMMAND` ends as the command does and leaves a whole capture; one that fails to start leaves none.
pub fn record_a_command(guest: &mut Guest) -> Result<()> {
    let tracer = format!("{PROGRAMS}/{TRACER}");
    for (number, (command, code)) in
        [(&["man"][..], 0), (&["stat", "--pending", "1"], 2)].into_iter().enumerate()
    {
        let path = format!("/tmp/command-{number}.dsc");
        let argv = [&[&tracer, "record", "-o", &path, "--", &tracer], command].concat();
        let output = guest.run(&argv, LIMIT)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.code == code,
            "{}: code {} in place of {code}: {said}",
            command.join(" "),
            output.code
        );
        let read = guest.run(&[&tracer, "trace", "--json", "--from", &path], LIMIT)?;
        let lines = String::from_utf8_lossy(&read.stdout).into_owned();
        ensure!(
            read.code == 0 && lines.contains("\"kind\":\"summary\""),
            "{path}: code {}: {lines}",
            read.code
        );
    }
    let output = guest.run(&[&tracer, "record", "-o", "/tmp/none.dsc", "--", "/no/such/program"], LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.code == 1 && said.contains("/no/such/program"), "code {}: {said}", output.code);
    let read = guest.run(&[&tracer, "stat", "--from", "/tmp/none.dsc"], LIMIT)?;
    ensure!(read.code == 11, "a capture of nothing was left behind");
    Ok(())
}

/// A stream of faults in a capture takes no more than so many bytes each, all else included: docs/performance.md.
pub fn bytes_a_fault(guest: &mut Guest) -> Result<()> {
    let scenario = Scenario::parse(include_str!("../scenarios/four-processes-10000.toml"))?;
    let (_, capture) = recorded(guest, &scenario, &["stat"])?;
    let bytes = capture.len() as f64 / 10_000.0;
    say(format!("{bytes:.1} bytes a fault in a capture of 10,000"));
    ensure!(bytes <= MOST_BYTES_A_FAULT, "{bytes:.1} bytes a fault");
    Ok(())
}

/// Runs a scenario under dsascope, which also records it: what it said, and the capture.
fn recorded(guest: &mut Guest, scenario: &Scenario, words: &[&str]) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut tracer = vec![format!("{PROGRAMS}/{TRACER}")];
    tracer.extend(words.iter().map(ToString::to_string));
    tracer.extend(["--save".into(), format!("{GUEST_OUT}/{CAPTURE}")]);
    let mut outcome = guest.scenario(scenario, Some(&tracer))?;
    ensure!(outcome.code == 0, "the scenario ended with {}: {}", outcome.code, outcome.said.trim());
    let mut take =
        |name: &str| outcome.files.remove(name).with_context(|| format!("the guest sent no {name}"));
    Ok((take(TRACER_STDOUT)?, take(CAPTURE)?))
}

/// Runs the submitter under dsascope, which follows its submissions and records: what dsascope said, and the capture.
fn followed(guest: &mut Guest, words: &[&str]) -> Result<(Vec<u8>, Vec<u8>)> {
    let program = format!("{PROGRAMS}/{TRACER}");
    let capture = format!("/tmp/{CAPTURE}");
    let mut tracer = vec![program.clone()];
    tracer.extend(words.iter().map(ToString::to_string));
    tracer.extend(["--submitter".into(), program, "--save".into(), capture.clone(), "--force".into()]);
    let commands =
        FOLLOWED.iter().map(|words| submitter(&format!("--wq wq0.0 --poll 50us {words}"))).collect();
    // A guest may have no other device.
    let mut scenario = quiet()?;
    scenario.devices.retain(|device| device.kind == DeviceKind::Dsa);
    let ran = guest.beside(&Order { scenario, tracer, commands }, FOLLOWED_LIMIT)?;
    let tracer = ran.tracer.context("there was no tracer")?;
    ensure!(tracer.code == 0, "dsascope: code {}: {}", tracer.code, tracer.stderr);
    for ended in ran.commands {
        ensure!(ended.code == 0, "the submitter: code {}: {} {}", ended.code, ended.stderr, ended.stdout);
    }
    Ok((tracer.stdout.into_bytes(), guest.file(&capture, LIMIT)?))
}

/// What dsascope says of a capture on this host, without privileges of any kind.
fn replay(capture: &Path, words: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(tracer()?)
        .args(words)
        .arg("--from")
        .arg(capture)
        .stdin(Stdio::null())
        .output()
        .context("cannot run dsascope")?;
    if !output.status.success() {
        bail!("{}: {}: {}", words.join(" "), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// The same program as in the guest: it is static.
pub(crate) fn tracer() -> Result<PathBuf> {
    binaries::build()?.remove(TRACER).context("dsascope was not built")
}

fn first_difference(live: &[u8], replayed: &[u8]) -> String {
    let (live, replayed) = (String::from_utf8_lossy(live), String::from_utf8_lossy(replayed));
    let number = live.lines().zip(replayed.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(number).unwrap_or("(no line)").to_owned();
    format!("line {} differs\n  live:     {}\n  replayed: {}", number + 1, line(&live), line(&replayed))
}

/// The captures of samples/, each of a scenario of that name.
const SAMPLES: [(&str, &str); 3] = [
    ("calm", include_str!("../samples/calm.toml")),
    ("storm", include_str!("../samples/storm.toml")),
    ("batch", include_str!("../samples/batch.toml")),
];

/// Makes samples/ anew, in one boot of the newest supported kernel.
pub fn samples() -> Result<u8> {
    let mut guest = Guest::boot(&Settings { cpus: 4, ..Settings::with_kernel(SUPPORTED[0]) })?;
    for (name, text) in SAMPLES {
        let scenario = Scenario::parse(text).with_context(|| format!("xtask/samples/{name}.toml"))?;
        keep(name, recorded(&mut guest, &scenario, &["stat"])?)?;
    }
    keep("submit", followed(&mut guest, &["stat"])?)?;
    guest.shutdown(None)?;
    Ok(0)
}

fn keep(name: &str, (said, capture): (Vec<u8>, Vec<u8>)) -> Result<()> {
    let path = workspace().join("samples").join(format!("{name}.dsc"));
    fs::write(&path, &capture).with_context(|| format!("cannot write {}", path.display()))?;
    let last = String::from_utf8_lossy(&said).trim_end().lines().last().unwrap_or_default().to_owned();
    say(format!("{name}: {} bytes; {last}", capture.len()));
    Ok(())
}
