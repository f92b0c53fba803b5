//! Findings in sentences.

use super::{Amount, FindingKind};

/// `1 close`, `2 closes`.
fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// ` (and 2 files more)` beside the one that is named.
fn beside(count: u64, one: &str) -> String {
    match count {
        0 | 1 => String::new(),
        2 => format!(" (and 1 {one} more)"),
        _ => format!(" (and {} {one}{} more)", count - 1, if one.ends_with('s') { "es" } else { "s" }),
    }
}

fn ms(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

impl FindingKind {
    /// The finding in a sentence. `subject`: whom it names, of those that name somebody.
    #[must_use]
    pub fn sentence(self, amount: &Amount, subject: &str) -> String {
        let Amount { count, sum, most } = *amount;
        match self {
            // Most faults a second, and what there were before.
            Self::Storm => {
                format!(
                    "{subject} had up to {most} faults a second, where there were {sum} before{}",
                    beside(count, "file")
                )
            }
            // Failures of so many faults.
            Self::FailureRatioHigh => {
                let percent = sum as f64 * 100.0 / most.max(1) as f64;
                format!(
                    "{sum} of {most} records of {subject} were not delivered ({percent:.1} %){}",
                    beside(count, "file")
                )
            }
            Self::RecordsReadOnly => {
                let pages = counted(count, "page", "pages");
                format!(
                    "records on {pages} could not be delivered, last of {subject}: the memory is read-only"
                )
            }
            Self::RecordsUnmapped => {
                let pages = counted(count, "page", "pages");
                format!(
                    "records on {pages} could not be delivered, last of {subject}: nothing is mapped there any more"
                )
            }
            // Of so many faults, those on a page that had been there.
            Self::RecordsGivenBack => {
                format!(
                    "pages of {subject} were there and are gone again: {sum} of the last {most} faults{}",
                    beside(count, "file")
                )
            }
            // Pages of so many faults.
            Self::RecordsNeverTouched => {
                format!(
                    "{subject} has its records on a fresh page each time: {sum} pages in the last {most} faults{}",
                    beside(count, "file")
                )
            }
            Self::RecordsStraddle => {
                let records = counted(count, "completion record lies", "completion records lie");
                format!("{records} across two pages: each may fault twice, and arrive in part")
            }
            Self::ProcessGone => {
                let faults = counted(count, "fault was", "faults were");
                format!("{faults} served after the file was closed: nobody waits for the record")
            }
            Self::EventLogSmall => {
                format!(
                    "the event log of {subject} has {sum} entries, and {most} are advised by what was seen{}",
                    beside(count, "device")
                )
            }
            // Page requests that were answered late, and refused.
            Self::PageRequestsStall => {
                format!(
                    "page requests of {subject} keep engines waiting that other WQs share: {sum} were answered late, {most} refused{}",
                    beside(count, "process")
                )
            }
            // Descriptors that were refused for it; the rest are WQs.
            Self::BlockOnFaultAlone => {
                let wqs = counted(count - sum, "WQ", "WQs");
                let descriptors = counted(sum, "descriptor", "descriptors");
                format!("block on fault is asked for by {wqs} and {descriptors}, where page requests are off")
            }
            Self::SvaOff => {
                format!(
                    "{subject} has user WQs, and shared virtual addressing is off{}",
                    beside(count, "device")
                )
            }
            Self::OwnLoss => {
                let records = counted(count, "record", "records");
                format!(
                    "dsascope lost {records}: single faults are missing, and what is counted from records is a lower bound"
                )
            }
            // Thousandths of a CPU.
            Self::OwnCostHigh => {
                format!("dsascope's programs take {:.1} % of a CPU", sum as f64 / 10.0)
            }
            Self::ServiceAllocationFailed => {
                let entries = counted(count, "entry was", "entries were");
                format!("{entries} dropped because the driver had no memory: the submitters wait for ever")
            }
            Self::FaultObjectLeaked => {
                let records = counted(
                    count,
                    "batch record that nobody asked for was",
                    "batch records that nobody asked for were",
                );
                format!("{records} passed over without being freed: {sum} bytes of kernel memory leaked")
            }
            Self::DeliveredToNoOne => {
                let faults = counted(count, "fault of a process went", "faults of processes went");
                format!(
                    "{faults} to no one: the first file on the WQ is closed, and the driver knows no other"
                )
            }
            Self::CloseHeldLog => {
                let closes = counted(count, "close kept", "closes kept");
                format!(
                    "{closes} a device's event log from being read for 10 ms or more, {} at most, {} in all",
                    ms(most),
                    ms(sum)
                )
            }
            Self::ErrorsNotServed => {
                let entries = counted(count, "entry", "entries");
                format!("{entries} of errors that the driver does not serve; it tells of ten in five seconds")
            }
            Self::ErrorsDropped => {
                let times = counted(count, "time", "times");
                format!("SWERROR was overrun {times}: later errors were dropped by the device")
            }
            Self::FailureMoved => {
                let failures = counted(count, "batch does", "batches do");
                format!(
                    "{failures} not tell of their own elements: the driver moved failures between uses of an identifier"
                )
            }
            Self::EventLogFull => {
                let runs = counted(count, "run", "runs");
                format!(
                    "the event log was found full by {runs} of the interrupt thread: engines waited {} at most",
                    ms(sum)
                )
            }
            Self::DeviceHalted => {
                let halts = counted(count, "halt", "halts");
                format!("{halts} of a device: what was under way is not finished")
            }
        }
    }
}
