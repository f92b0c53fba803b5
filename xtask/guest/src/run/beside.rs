//! Commands under a tracer, on the work queues of a scenario.
//!
//! Owns: the order. Refuses: judging; what each program wrote is printed for the host.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::Context;
use dsascope_guest::{
    beside::{Ended, Order, Ran},
    report::{TRACER_STDERR, TRACER_STDOUT},
};

use super::{configure, tracer::Tracer};

const OUT: &str = "/tmp";

/// Configures, attaches, runs one command after another, detaches.
pub(crate) fn run(order: &Order) -> anyhow::Result<Ran> {
    configure::configure(&order.scenario)?;
    let tracer = match order.tracer.as_slice() {
        [] => None,
        argv => Some(Tracer::start(argv, &order.scenario.tracer, Path::new(OUT))?),
    };
    let commands = order.commands.iter().map(|argv| command(argv)).collect::<anyhow::Result<_>>()?;
    let Some(tracer) = tracer else { return Ok(Ran { tracer: None, commands }) };
    let pid = tracer.pid();
    let code = tracer.stop()?.code;
    let tracer = Ended { pid, code, stdout: written(TRACER_STDOUT)?, stderr: written(TRACER_STDERR)? };
    Ok(Ran { tracer: Some(tracer), commands })
}

fn command(argv: &[String]) -> anyhow::Result<Ended> {
    let (program, arguments) = argv.split_first().context("a command is empty")?;
    let what = || format!("running {program}");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(what)?;
    let pid = child.id();
    let output = child.wait_with_output().with_context(what)?;
    Ok(Ended {
        pid,
        code: output.status.code().unwrap_or(128 + output.status.signal().unwrap_or_default()),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn written(name: &str) -> anyhow::Result<String> {
    let path = Path::new(OUT).join(name);
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
