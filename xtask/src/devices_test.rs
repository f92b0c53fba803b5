//! Guest tests of what dsascope tells of devices: configuration, commands.
//!
//! Owns: the runs and what must be said. Refuses: faults and halts; scenarios do these.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dsascope_core::driver::{DriverEvent, Happening};
use dsascope_core::json::{Body, DriverLine, Line};
use dsascope_guest::protocol::PROGRAMS;
use dsascope_guest::scenario::Scenario;

use crate::binaries::{AGENT, TRACER};
use crate::reconcile::{books, driver};
use crate::session::Guest;

const LIMIT: Duration = Duration::from_secs(90);

/// What dsascope wrote of the driver.
fn told(text: &str) -> Result<Vec<DriverLine>> {
    let mut driver = Vec::new();
    for line in text.lines() {
        if let Body::Driver(line) =
            Line::parse(line).with_context(|| format!("dsascope wrote {line:?}"))?.body
        {
            driver.push(*line);
        }
    }
    Ok(driver)
}

/// A WQ that comes back with page requests on: the command that enabled it, what it is configured with, and what it was before; and
/// each command, as the device had it.
pub fn reconfiguration(guest: &mut Guest) -> Result<()> {
    let first = include_str!("../scenarios/one-fault.toml");
    let mut second = Scenario::parse(first)?;
    for wq in second.devices.iter_mut().flat_map(|device| &mut device.work_queues) {
        (wq.page_requests, wq.block_on_fault, wq.priority) = (true, true, 3);
    }
    let truth = guest.truth()?.to_owned();
    let (_, before) = books::truth_since(&truth, 0)?;
    let tracer = format!("{PROGRAMS}/{TRACER}");
    let agent = format!("{PROGRAMS}/{AGENT}");
    let argv = [&agent, "reconfigure", first, &second.to_toml()?, "--", &tracer, "trace", "--json"];
    let output = guest.run(&argv, LIMIT)?;
    ensure!(output.code == 0, "code {}: {}", output.code, String::from_utf8_lossy(&output.stderr));
    let lines = told(&String::from_utf8_lossy(&output.stdout))?;
    guest.truth()?;
    let (done, _) = books::truth_since(&truth, before)?;

    let enabled = lines.iter().find_map(|line| match &line.event.what {
        Happening::Command(command) => Some((command.enabled.as_ref()?, line.before.as_ref())),
        _ => None,
    });
    let (now, then) = enabled.with_context(|| format!("no WQ was seen to be enabled: {lines:?}"))?;
    let then = then.context("what it was configured with before is not known")?;
    ensure!(!now.prs_disable && now.block_on_fault && now.priority == 3, "it is {now:?}");
    ensure!(then.prs_disable && !then.block_on_fault && then.priority == 10, "it was {then:?}");
    ensure!((now.type_.as_str(), now.mode.as_str(), now.size) == ("user", "dedicated", 16), "it is {now:?}");

    let acts = driver::acts(&done);
    let events: Vec<DriverEvent> = lines.into_iter().map(|line| line.event).collect();
    for name in ["disable device", "enable device", "enable WQ"] {
        let seen = events.iter().any(|e| matches!(&e.what, Happening::Command(c) if c.name() == Some(name)));
        ensure!(seen, "no command {name:?} in {events:?}");
    }
    let dsa0 = acts.get("dsa0").context("dsa0 did nothing")?;
    match driver::commands("dsa0", dsa0, &events) {
        None => Ok(()),
        Some(difference) => Err(anyhow::anyhow!(difference.text)),
    }
}
