//! `cargo xtask`: dsascope's build, testbed and checks.
//!
//! Owns: dispatch and the exit code. An error is one message on stderr and exit code 1; a guest's command passes its own code on; a
//! signal gives 128 and its number.

use std::process::ExitCode;

use clap::Parser;
use xtask::cli::{Cli, Command};
use xtask::progress::say;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = xtask::cleanup::on_signals().and_then(|()| match &cli.command {
        Command::Ebpf(arguments) => xtask::ebpf::run(arguments),
        Command::Guest(arguments) => xtask::guest::run(arguments),
        Command::Demo(arguments) => xtask::demo::run(arguments),
        Command::Reconcile(arguments) => xtask::reconcile::run(arguments),
        Command::Cost(arguments) => xtask::cost::run(arguments),
        Command::Dashboards(arguments) => xtask::dashboards::run(arguments),
        Command::Fuzz(arguments) => xtask::fuzz::run(arguments),
        Command::Samples => xtask::captures::samples(),
        Command::Screens(arguments) => xtask::screens::run(arguments),
        Command::Test(arguments) => xtask::test::run(arguments),
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
