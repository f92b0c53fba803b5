//! Records in memory where no fault can be resolved, or that nobody owns any more.

use dsascope_common::hw::completion::{DSA_BYTES, IAX_BYTES};

use super::{Findings, of_file};
use crate::event::{DeviceKind, Fault, Place};
use crate::findings::FindingKind;
use crate::model::row::Process;
use crate::model::rows::Rows;
use crate::submission::Memory;

const PAGE_BYTES: u64 = 4096;

impl Findings {
    /// What the record itself and its address show.
    pub(super) fn record(&mut self, fault: &Fault) {
        let address = fault.entry.fault_addr();
        // Of a device of unknown kind the smaller record.
        let bytes = if fault.context.device.kind == DeviceKind::Iax { IAX_BYTES } else { DSA_BYTES } as u64;
        if address % PAGE_BYTES > PAGE_BYTES - bytes && fault.is_of_record() {
            let words = format!("a record of {bytes} bytes at {address:#x}");
            self.note(FindingKind::RecordsStraddle, 1, 0, of_file(fault.at_ns, &fault.context, words));
        }
    }

    /// What lies behind a page of records. Delivered ones may have been freed since, and so only failures count.
    pub(in crate::model) fn place(&mut self, place: &Place, rows: &Rows) {
        let kind = match &place.memory {
            Memory::Unmapped => FindingKind::RecordsUnmapped,
            Memory::Mapped(mapped) if !mapped.permissions.write => FindingKind::RecordsReadOnly,
            Memory::Mapped(_) => return,
        };
        let mut its = rows.iter().filter(|row| row.tgid == Some(place.tgid));
        let Some(row) = its.find(|row| self.pages.failed_on(row.key(), place.page)) else { return };
        let words = format!("{:#x} is {}", place.page, place.memory);
        self.note(kind, 1, 0, of_file(place.at_ns, &row.context, words));
        if let Some(tally) = self.tallies.get_mut(&kind) {
            tally.subject = row.who();
        }
    }

    /// The first fault of a file that nobody was seen to open: its PASID's last file may be closed.
    pub(in crate::model) fn unknown(&mut self, fault: &Fault, rows: &Rows) {
        let context = &fault.context;
        let is_of_same =
            |row: &&Process| row.context.wq_id() == context.wq_id() && row.context.pasid == context.pasid;
        let closed = rows
            .iter()
            .filter(is_of_same)
            .filter_map(|row| Some((row.closed_ns?, row)))
            .max_by_key(|(ns, _)| *ns);
        let Some((closed_ns, row)) = closed.filter(|(ns, _)| *ns < fault.at_ns) else { return };
        let late_ms = (fault.at_ns - closed_ns) as f64 / 1e6;
        let words = format!(
            "PASID {} was of {}, which closed the WQ {late_ms:.1} ms before",
            context.pasid,
            row.who()
        );
        self.note(FindingKind::ProcessGone, 1, 0, of_file(fault.at_ns, context, words));
    }

    /// A service that started after its file was closed. `row`: that of the file.
    pub(super) fn after_close(&mut self, fault: &Fault, row: &Process) {
        if let (Some(closed_ns), Some(started_ns)) = (row.closed_ns, fault.times.started_ns)
            && started_ns.get() > closed_ns
        {
            let late_ms = (started_ns.get() - closed_ns) as f64 / 1e6;
            let words = format!("served {late_ms:.1} ms after the close: {}", fault.copy.name());
            self.note(FindingKind::ProcessGone, 1, 0, of_file(fault.at_ns, &fault.context, words));
        }
    }
}
