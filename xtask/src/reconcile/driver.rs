//! What dsascope tells of devices against what they did: commands, halts, errors that nobody serves, waits for a slot of the log.
//!
//! Owns: the rules that are about devices and not about a process. Refuses: what happened before dsascope was attached: of commands the
//! last ones count.

use std::collections::BTreeMap;

use dsascope_common::hw::completion::STATUS_MASK;
use dsascope_common::hw::completion::status::{BATCH_EVL_ERR, CRA_XLAT, DRAIN_EVL};
use dsascope_common::hw::event_log::EntryHeader;
use dsascope_common::hw::regs::cmdstatus;
use dsascope_core::driver::{Command, DeviceState, DriverEvent, HaltAnswer, Happening};
use dsascope_core::event::Hook;
use dsascope_core::findings::FindingKind;
use dsascope_testbed::dsa::ResetType;
use dsascope_testbed::truth::{self, BlockCause, Event};
use zerocopy::FromBytes;

use super::books::Account;
use super::compare::{Difference, Rule};
use super::missed::Missed;

/// What the driver says of an entry of an error that it does not serve, as long as its rate limit lets it.
const ERROR_LINE: &str = "Device error ";

/// An administrative command: code, operand, status.
type Given = (u32, u32, u32);

/// What one device did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceActs {
    pub commands: Vec<Given>,
    /// What each halt took to be left.
    pub halts: Vec<ResetType>,
    /// Entries of errors that the driver does not serve.
    pub error_entries: u64,
    /// Errors that SWERROR had no room for.
    pub errors_dropped: u64,
    /// Entries of batches that asked for no record: not more than these can leak.
    pub unasked: u64,
    /// Longest that one engine waited in all for a slot of the event log.
    pub waited_ns: u64,
}

/// By the driver's name of the device.
pub fn acts(lines: &[truth::Line]) -> BTreeMap<String, DeviceActs> {
    let mut acts: BTreeMap<String, DeviceActs> = BTreeMap::new();
    let mut waited: BTreeMap<(String, u8), u64> = BTreeMap::new();
    for line in lines {
        match &line.event {
            Event::Command { device, code, operand, status } => {
                acts.entry(device.clone()).or_default().commands.push((*code, *operand, *status));
            }
            Event::Halt { device, reset } => acts.entry(device.clone()).or_default().halts.push(*reset),
            Event::EventLogEntry { device, error, raw, .. } => {
                let acts = acts.entry(device.clone()).or_default();
                match error & STATUS_MASK {
                    CRA_XLAT | DRAIN_EVL => {}
                    BATCH_EVL_ERR => acts.unasked += u64::from(!asked(raw)),
                    _ => acts.error_entries += 1,
                }
            }
            Event::SoftwareError { device, held: false, .. } => {
                acts.entry(device.clone()).or_default().errors_dropped += 1;
            }
            Event::EngineBlocked { device, engine, cause: BlockCause::EventLogFull, blocked_ns } => {
                let waited = waited.entry((device.clone(), *engine)).or_default();
                *waited += blocked_ns;
                let acts = acts.entry(device.clone()).or_default();
                acts.waited_ns = acts.waited_ns.max(*waited);
            }
            _ => {}
        }
    }
    acts
}

/// Whether the entry says that a completion record was asked for.
fn asked(raw: &str) -> bool {
    let bytes = truth::unhex(raw).unwrap_or_default();
    EntryHeader::read_from_prefix(&bytes).is_ok_and(|(header, _)| header.rcr())
}

/// Two numbers of one thing, which must fit as `fits` says.
fn hold(
    differences: &mut Vec<Difference>,
    what: &str,
    (device, seen): (u64, u64),
    fits: impl Fn(u64, u64) -> bool,
) {
    if !fits(device, seen) {
        let text = format!("{what}: the devices {device}, dsascope {seen}");
        differences.push(Difference { rule: Rule::Device, text });
    }
}

/// Holds what dsascope tells of devices against what they did.
pub(super) fn compare(
    account: &Account,
    missed: Missed,
    acts: &BTreeMap<String, DeviceActs>,
    kernel_log: &[String],
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let summary = &account.summary;
    let found = |kind| summary.findings.iter().find(|f| f.finding == kind).map_or(0, |f| f.count);
    let sum = |of: fn(&DeviceActs) -> u64| acts.values().map(of).sum::<u64>();
    // Findings are counted from records, and each needs every one.
    let whole = summary.ledger.lost() == 0 && !missed.any();
    let sees = |hooks: &[Hook]| whole && hooks.iter().all(|&hook| account.observes(hook));
    let skipped: u64 = summary.contexts.iter().map(|c| c.totals.skipped).sum();
    let halts = sum(|a| a.halts.len() as u64);
    if sees(FindingKind::ErrorsNotServed.needs()) {
        let told = found(FindingKind::ErrorsNotServed);
        let lines = kernel_log.iter().filter(|line| line.contains(ERROR_LINE)).count() as u64;
        if told != lines {
            let text =
                format!("errors that are not served: the kernel's log tells of {lines}, dsascope of {told}");
            differences.push(Difference { rule: Rule::Device, text });
        }
        let pair = (sum(|a| a.error_entries), told);
        hold(&mut differences, "errors that are not served", pair, |device, seen| seen <= device);
    }
    if sees(FindingKind::ErrorsDropped.needs()) {
        // One bit stands for any number of them.
        let pair = (sum(|a| a.errors_dropped), found(FindingKind::ErrorsDropped));
        hold(&mut differences, "errors dropped", pair, |device, seen| seen <= device);
    }
    if sees(FindingKind::DeviceHalted.needs()) {
        let pair = (halts, found(FindingKind::DeviceHalted));
        hold(&mut differences, "halts", pair, |device, seen| device == seen);
    }
    if sees(FindingKind::FaultObjectLeaked.needs()) {
        let not_copied: u64 = summary.contexts.iter().map(|c| c.totals.not_copied).sum();
        let leaked = found(FindingKind::FaultObjectLeaked);
        let pair = (sum(|a| a.unasked), leaked);
        hold(&mut differences, "batch records not asked for", pair, |device, seen| seen <= device);
        hold(&mut differences, "faults without a copy", (not_copied, leaked), |all, seen| all == seen);
    }
    for log in summary.event_logs.iter().filter(|_| sees(FindingKind::EventLogFull.needs()) && skipped == 0) {
        // Entries of errors take slots too, and nobody sees how many.
        let acts = acts.get(&log.device.to_string()).filter(|acts| acts.error_entries == 0);
        let waited_ns = acts.map_or(0, |acts| acts.waited_ns);
        // Of two clocks: the host's and the guest's.
        let at_most_ns = log.waited_at_most_ns.map(|ns| ns + ns / 50);
        if at_most_ns.is_some_and(|at_most_ns| waited_ns > at_most_ns) {
            let text = format!(
                "{}: an engine waited {waited_ns} ns for a slot, dsascope says {:?} at most",
                log.device, log.waited_at_most_ns
            );
            differences.push(Difference { rule: Rule::Device, text });
        }
    }
    let Some(events) = &account.driver else { return differences };
    for (device, acts) in acts {
        // That a halted device refused a command is known from the driver's warning alone.
        let refusals = acts.halts.is_empty() || sees(&[Hook::Warning]);
        if refusals && sees(&[Hook::CommandStart, Hook::CommandEnd]) {
            differences.extend(commands(device, acts, events));
        }
        if sees(FindingKind::DeviceHalted.needs()) {
            let resets = sees(&[Hook::HaltFlr, Hook::ResetStart, Hook::ResetEnd]);
            differences.extend(answers(device, &acts.halts, events, resets));
        }
    }
    differences
}

/// What the driver did about each halt of a device, and the state that its function-level resets left the device in. `resets`: this driver
/// knows function-level resets.
fn answers(device: &str, halts: &[ResetType], events: &[DriverEvent], resets: bool) -> Option<Difference> {
    let of_device = events.iter().filter(|event| event.device.to_string() == device);
    let (mut answered, mut left) = (Vec::new(), Vec::new());
    for event in of_device {
        match event.what {
            Happening::Halt { answer } => answered.push(answer),
            Happening::Reset { state, .. } => left.push(state),
            Happening::Command(_) | Happening::Warning { .. } => {}
        }
    }
    let answer = |reset: &ResetType| match reset {
        ResetType::Software => HaltAnswer::ResetCommand,
        ResetType::Flr if resets => HaltAnswer::FunctionLevelReset,
        ResetType::Flr | ResetType::Warm | ResetType::Cold => HaltAnswer::Nothing,
    };
    let expected: Vec<HaltAnswer> = halts.iter().map(answer).collect();
    let begun = expected.iter().filter(|answer| **answer == HaltAnswer::FunctionLevelReset).count();
    (answered != expected || left != vec![Some(DeviceState::Enabled); begun]).then(|| {
        let text = format!(
            "{device}: halts {halts:?}, expected {expected:?}; dsascope saw {answered:?}, and resets that left {left:?}"
        );
        Difference { rule: Rule::Device, text }
    })
}

/// What was seen of a device's commands are its last ones. Two that ended together may have been told in any order. A device that is
/// halted gets none, and one that is reset gets some that the driver waits for without its interrupt, which no hook sees.
pub fn commands(device: &str, acts: &DeviceActs, events: &[DriverEvent]) -> Option<Difference> {
    let halted = !acts.halts.is_empty();
    let of = |c: &Command| (u32::from(c.command_code), c.operand, u32::from(c.status_code));
    let commands = events.iter().filter(|event| event.device.to_string() == device);
    let mut seen: Vec<Given> = commands
        .filter_map(|event| if let Happening::Command(c) = &event.what { Some(of(c)) } else { None })
        .collect();
    if halted {
        seen.retain(|command| command.2 != cmdstatus::HARDWARE);
    }
    let first = if halted { 0 } else { acts.commands.len().saturating_sub(seen.len()) };
    let mut last = acts.commands[first..].to_vec();
    last.sort_unstable();
    seen.sort_unstable();
    let fits = if halted { includes(&last, &seen) } else { last == seen };
    (!fits).then(|| {
        let text = format!("{device}: commands (code, operand, status) {last:?}, dsascope saw {seen:?}");
        Difference { rule: Rule::Device, text }
    })
}

/// Whether all of `some` are in `all`, each as often; both sorted.
fn includes(all: &[Given], some: &[Given]) -> bool {
    let mut all = all.iter();
    some.iter().all(|command| all.any(|other| other == command))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsascope_testbed::truth::Line;

    fn line(event: Event) -> Line {
        Line { time_ns: 1, event }
    }

    fn entry(error: u8, asked: bool) -> Line {
        let header = EntryHeader::default().with_error(error).with_rcr(asked);
        let mut raw: Vec<u8> = header.qwords.iter().flat_map(|qword| qword.to_le_bytes()).collect();
        raw.resize(64, 0);
        line(Event::EventLogEntry {
            device: "dsa0".into(),
            index: 0,
            error,
            wq: 0,
            pasid: 1,
            operation: 3,
            fault_addr: 0,
            batch: false,
            batch_id: 0,
            batch_generation: None,
            batch_index: 0,
            raw: truth::hex(&raw),
        })
    }

    #[test]
    fn acts_of_a_device() {
        let blocked = |engine, blocked_ns| {
            line(Event::EngineBlocked {
                device: "dsa0".into(),
                engine,
                cause: BlockCause::EventLogFull,
                blocked_ns,
            })
        };
        let dropped = |held| {
            line(Event::SoftwareError { device: "dsa0".into(), error: 0x1b, wq: 0, pasid: Some(1), held })
        };
        let command = |status| line(Event::Command { device: "dsa0".into(), code: 6, operand: 1, status });
        let lines = [
            entry(0x1a, true),
            entry(0x9b, true),
            entry(0x27, false),
            entry(0x27, true),
            blocked(0, 5),
            blocked(1, 7),
            blocked(0, 4),
            dropped(true),
            dropped(false),
            command(0),
        ];
        let acts = acts(&lines);
        let expected = DeviceActs {
            commands: vec![(6, 1, 0)],
            halts: vec![],
            error_entries: 1,
            errors_dropped: 1,
            unasked: 1,
            waited_ns: 9,
        };
        assert_eq!(acts["dsa0"], expected);
    }

    fn happened(what: Happening) -> DriverEvent {
        let device = "dsa0".parse().unwrap();
        let comm = dsascope_core::event::Comm::default();
        DriverEvent { at_ns: 1, cpu: 0, device, tgid: 1, tid: 1, comm, what }
    }

    #[test]
    fn each_halt_has_its_answer() {
        let halt = |answer| happened(Happening::Halt { answer });
        let reset = |state| happened(Happening::Reset { start_ns: None, state: Some(state) });
        let flr = halt(HaltAnswer::FunctionLevelReset);
        let told = |halts: &[ResetType], events: &[DriverEvent], resets| {
            answers("dsa0", halts, events, resets).is_some()
        };
        assert!(!told(&[], &[], true));
        assert!(!told(&[ResetType::Flr], &[flr.clone(), reset(DeviceState::Enabled)], true));
        assert!(told(&[ResetType::Flr], std::slice::from_ref(&flr), true), "no reset followed");
        assert!(told(&[ResetType::Flr], &[flr, reset(DeviceState::Halted)], true), "it did not help");
        assert!(!told(&[ResetType::Flr], &[halt(HaltAnswer::Nothing)], false), "an older driver");
        assert!(!told(&[ResetType::Software], &[halt(HaltAnswer::ResetCommand)], true));
        assert!(told(&[ResetType::Cold], &[halt(HaltAnswer::ResetCommand)], true));
        assert!(told(&[ResetType::Cold], &[], true), "missed");
    }

    #[test]
    fn commands_seen_are_the_last_ones_given() {
        let event = |code: u8, status_code: u8| {
            happened(Happening::Command(Command {
                command_code: code,
                operand: 1,
                status_code,
                start_ns: 0,
                wq: None,
                during: None,
                enabled: None,
            }))
        };
        let mut acts =
            DeviceActs { commands: vec![(1, 0, 0), (7, 1, 0), (6, 1, 0)], ..DeviceActs::default() };
        assert_eq!(commands("dsa0", &acts, &[]), None);
        assert_eq!(commands("dsa0", &acts, &[event(6, 0), event(7, 0)]), None, "in any order");
        assert!(commands("dsa0", &acts, &[event(7, 0)]).is_some(), "the last one was missed");
        assert!(commands("dsa0", &acts, &[event(7, 0), event(6, 3)]).is_some(), "another status");
        acts.halts = vec![ResetType::Software];
        assert_eq!(commands("dsa0", &acts, &[event(7, 0), event(6, 3)]), None, "it did not get there");
        assert!(commands("dsa0", &acts, &[event(7, 0), event(7, 0)]).is_some(), "given once");
    }
}
