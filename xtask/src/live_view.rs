//! The live view of a guest that faults, in a terminal: keys in, screen out.
//!
//! Refuses: what the view looks like; the snapshots of dsascope-tui hold that.

use std::cell::OnceCell;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use dsascope_guest::protocol::{Frame, Winsize};

use crate::control::Sender;
use crate::demo;
use crate::session::{Command, Guest};

const SIZE: Winsize = Winsize { columns: 120, rows: 40 };
const LIMIT: Duration = Duration::from_secs(300);
/// A process of the demo some of whose records cannot be delivered, as a column shows its name.
const FAILING: &str = "leaky-import";

/// What the screen has to show, and the keys that are pressed then.
const STEPS: [(&[&str], &str); 8] = [
    (&["1>Overview", "key-value-st", "CR page fault"], "4"),
    (&["4>Faults", FAILING, "FAILED"], "x\r"),
    (&["Stages", "the submitter never sees a status", "event-log entry"], "\x1b"),
    (&["4>Faults", "Enter detail"], "0"),
    (&["0>Probes", "service end", "ATTACHED BY"], "6"),
    (&["6>Event log", "advised size"], "2"),
    (&["2>Processes", FAILING, "all"], "9"),
    (&["9>Findings"], "q"),
];

/// A person's way through the views while the guest's processes fault.
pub fn keys_in_screen_out(guest: &mut Guest) -> Result<()> {
    let command = Command { argv: demo::argv(), tty: Some(SIZE), limit: Some(LIMIT) };
    let keys: OnceCell<Sender> = OnceCell::new();
    let mut screen = vt100::Parser::new(SIZE.rows, SIZE.columns, 0);
    let mut steps = STEPS.iter();
    let mut step = steps.next();
    let ran =
        guest.exec(&command, |input| keys.set(input).map_err(|_| anyhow!("two inputs")), &mut |_, bytes| {
            screen.process(bytes);
            if let Some((shown, press)) = step
                && shown.iter().all(|text| screen.screen().contents().contains(text))
            {
                let input = keys.get().context("there is no input")?;
                input.send(&Frame::Stdin(press.as_bytes().to_vec())).context("cannot press a key")?;
                step = steps.next();
            }
            Ok(())
        });
    let contents = screen.screen().contents();
    if let Some((shown, _)) = step {
        bail!("waited for {shown:?} on the screen ({ran:?}), which is\n{contents}");
    }
    let code = ran?;
    ensure!(code == 0, "the live view ended with {code}:\n{contents}");
    ensure!(!screen.screen().alternate_screen(), "the alternate screen is not left:\n{contents}");
    ensure!(contents.contains("every event received"), "{contents}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use dsascope_guest::scenario::Habit;

    use super::*;

    #[test]
    fn the_demo_has_the_process_that_is_waited_for() {
        let scenario = crate::guest::from_file(&demo::scenario()).unwrap();
        let failing = scenario.processes.iter().find(|process| process.name.starts_with(FAILING)).unwrap();
        assert!(failing.completion_records.has(Habit::fails));
    }
}
