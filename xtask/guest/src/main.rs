//! The guest's one program: /init, the agent that serves the host, the runner of scenarios, and their processes.
//!
//! Owns: which of these this call is. Refuses: being useful outside the testbed's guest.

mod agent;
mod ftrace;
mod init;
mod run;
mod sysfs;
mod workload;

use std::{env, fs::File, io, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use dsascope_guest::scenario::Scenario;

const USAGE: &str =
    "usage: dsascope-guest run-scenario FILE [--out DIR] [--forever] [-- TRACER [ARGUMENT]...]
       dsascope-guest demo FILE -- COMMAND [ARGUMENT]...
       dsascope-guest beside ORDER
       dsascope-guest reconfigure SCENARIO SCENARIO -- TRACER [ARGUMENT]...
       dsascope-guest service-times start|stop
       dsascope-guest bpf-stats on|off
       dsascope-guest read PATH
As process 1 it is the guest's /init. FILE is a scenario in TOML, or in JSON when it ends so; SCENARIO is its text in TOML,
ORDER what the host asks for in JSON.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = if std::process::id() == 1 { init::run() } else { dispatch(arguments) };
    match result {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("dsascope-guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Vec<String>) -> anyhow::Result<i32> {
    let (own, command) = match arguments.iter().position(|a| a == "--") {
        Some(at) => (&arguments[..at], arguments[at + 1..].to_vec()),
        None => (&arguments[..], Vec::new()),
    };
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    match own[..] {
        ["agent"] => agent::run(),
        ["process"] => workload::run(),
        ["demo", file] if !command.is_empty() => run::demo::run(file.as_ref(), &command),
        ["beside", order] => {
            println!("{}", serde_json::to_string(&run::beside::run(&serde_json::from_str(order)?)?)?);
            Ok(0)
        }
        ["reconfigure", first, second] if !command.is_empty() => {
            run::reconfigure::run(&Scenario::parse(first)?, &Scenario::parse(second)?, &command)
        }
        ["service-times", "start"] => ftrace::start().map(|()| 0),
        ["service-times", "stop"] => {
            println!("{}", serde_json::to_string(&ftrace::stop()?)?);
            Ok(0)
        }
        ["bpf-stats", on @ ("on" | "off")] => {
            let value = if on == "on" { "1" } else { "0" };
            sysfs::write("/proc/sys/kernel/bpf_stats_enabled".as_ref(), value).map(|()| 0)
        }
        ["read", path] => {
            let mut file = File::open(path).with_context(|| format!("cannot open {path}"))?;
            io::copy(&mut file, &mut io::stdout()).with_context(|| format!("cannot read {path}"))?;
            Ok(0)
        }
        ["run-scenario", file, ref rest @ ..] => {
            let mut options = run::Options { tracer: command, ..run::Options::default() };
            let mut rest = rest.iter();
            while let Some(&option) = rest.next() {
                match option {
                    "--forever" => options.forever = true,
                    "--out" => {
                        options.out = Some(PathBuf::from(rest.next().context("--out needs a directory")?));
                    }
                    other => bail!("unknown option {other}\n{USAGE}"),
                }
            }
            run::run(&run::load(file.as_ref())?, &options)
        }
        _ => bail!("{USAGE}"),
    }
}
