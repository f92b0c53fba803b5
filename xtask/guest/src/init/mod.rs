//! Process 1: prepares the guest, keeps the agent running and reaps whatever is left to it.
//!
//! Owns: mounts, modules, the agent's life. Refuses: everything else, so that nothing here can fail late; the agent is a process of
//! its own, which also keeps reaping apart from the agent's own waiting.

mod boot;

use std::{
    env,
    process::{Child, Command},
    thread,
    time::Duration,
};

use nix::{errno::Errno, sys::wait::wait};

pub(crate) fn run() -> anyhow::Result<i32> {
    boot::prepare();
    loop {
        match start_agent() {
            Ok(agent) => reap_until_end_of(&agent),
            Err(error) => eprintln!("init: starting the agent: {error}"),
        }
        eprintln!("init: the agent has ended, starting another");
        thread::sleep(Duration::from_millis(500));
    }
}

fn start_agent() -> std::io::Result<Child> {
    Command::new(env::current_exe()?).arg("agent").env("PATH", "/bin:/usr/bin:/sbin").env("HOME", "/").spawn()
}

fn reap_until_end_of(agent: &Child) {
    loop {
        match wait() {
            Ok(status) if status.pid().is_some_and(|pid| pid.as_raw() == agent.id() as i32) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
