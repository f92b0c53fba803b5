//! What a process itself knows: what it submitted, provoked, was refused and was told, against the device and dsascope.
//!
//! Owns: the rules of [`Rule::Workload`], and that no process is missing. Refuses: what dsascope and the driver say of each other.

use dsascope_guest::scenario::Submission;

use super::books::{Books, DeviceAccount, Process};
use super::compare::{Comparison, Difference, Row, Rule};
use super::missed::Missed;

/// Holds a process' own account against the device's and dsascope's.
pub(super) fn compare(row: &mut Row, missed: Missed, device: &DeviceAccount, process: &Process) {
    let report = &process.report;
    let took = device.descriptors + device.refused;
    // While a halted device is being reset nobody is there to take a descriptor.
    if !process.halted || took > report.submitted {
        row.equal(Rule::Workload, ("process submitted", Some(report.submitted)), ("device took", Some(took)));
    }
    row.equal(
        Rule::Workload,
        ("device refused", Some(device.other_errors)),
        ("process' records in two pages", Some(report.refused)),
    );
    retries(row, device, process);
    if process.exit_pending || process.halted {
        // A resident record faults too once the dying process' page table is empty, and a halted device logs nothing more.
        let most = report.submitted * process.records_per_descriptor;
        let least = report.delivered + report.failed;
        if !(least..=most).contains(&row.device_faults) {
            let faults = row.device_faults;
            row.differ(
                Rule::Workload,
                format!("device {faults}, but by the process' account {least} to {most}"),
            );
        }
        for (what, is, seen) in
            [("delivered", row.delivered, report.delivered), ("failed", row.failed, report.failed)]
        {
            if is.is_some_and(|is| is + missed.outcomes() < seen) {
                row.differ(Rule::Workload, format!("{what} {is:?}, but the process saw {seen}"));
            }
        }
    } else {
        let provoked = report.faults + device.drains;
        let delivered = report.delivered + device.drains;
        row.equal(
            Rule::Workload,
            ("device", Some(row.device_faults)),
            (&format!("process provoked, and {} drains", device.drains), Some(provoked)),
        );
        for (what, is, knows) in [
            ("delivered", row.delivered, delivered),
            ("failed", row.failed, report.failed + process.unheard()),
        ] {
            row.within(Rule::Workload, missed.outcomes(), (what, is), ("process knows", Some(knows)));
        }
    }
}

/// How often a shared WQ was full, as the process heard it and as the device said it.
fn retries(row: &mut Row, device: &DeviceAccount, process: &Process) {
    let (heard, said) = (process.report.retries, device.retries);
    let agree = match process.submission {
        // What it hears in its last burst it does not count.
        Some(Submission::Enqcmd) if !process.exit_pending => heard == said,
        // The driver tries several times before it gives up.
        Some(Submission::Enqcmd | Submission::Write) => heard <= said,
        _ => heard == 0 && said == 0,
    };
    if !agree {
        row.differ(
            Rule::Workload,
            format!("process was told {heard} times to retry, device said it {said} times"),
        );
    }
}

/// A process that provoked faults must be in some row.
pub(super) fn absent_processes(books: &Books, comparison: &mut Comparison) {
    for Process { report, .. } in &books.processes {
        let found = comparison.rows.iter().any(|row| row.process.as_ref() == Some(&report.process));
        if !found && report.submitted > 0 {
            let text =
                format!("{}: submitted {}, and no other book knows it", report.process, report.submitted);
            comparison.differences.push(Difference { rule: Rule::Process, text });
        }
    }
}
