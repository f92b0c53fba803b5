//! What the configuration of devices and WQs shows, with what was seen of them.

use dsascope_common::hw::completion::{STATUS_MASK, status};
use dsascope_common::hw::descriptor::flags;

use super::{EVIDENCE, Findings, Tally, at, of_file};
use crate::driver::WqConfig;
use crate::event::{DeviceInfo, Fault, WqId, WqInfo};
use crate::findings::{Evidence, FindingKind};
use crate::known_kernels::{SvaByName, sva_by_name};
use crate::model::Model;
use crate::model::row::{Device, Wq};

impl Tally {
    /// One more, with its evidence; the first is named.
    fn one(&mut self, subject: String, evidence: Evidence) {
        self.amount.count += 1;
        if self.subject.is_empty() {
            self.subject = subject;
        }
        if self.evidence.len() < EVIDENCE {
            self.evidence.push_back(evidence);
        }
    }
}

fn is_enabled_for_users(wq: &WqInfo) -> bool {
    wq.type_ == "user" && wq.state == "enabled"
}

/// Page requests are on, and another WQ has the same engines.
fn shares_engines(device: &DeviceInfo, wq: &WqInfo) -> bool {
    let is_other = |other: &&WqInfo| other.wq != wq.wq && other.state == "enabled" && other.group == wq.group;
    wq.prs_disable != Some(true) && wq.group.is_some() && device.wqs.iter().any(|other| is_other(&other))
}

/// Block on fault without the page requests that it would wait for.
fn is_alone(wq: &Wq) -> bool {
    wq.config.as_ref().is_some_and(|config| config.block_on_fault && config.prs_disable)
}

impl Findings {
    /// A descriptor that was refused for asking. `config`: of its WQ.
    pub(super) fn block_on_fault(&mut self, fault: &Fault, config: Option<&WqConfig>) {
        let record = fault.delivered_record().unwrap_or(&fault.logged);
        if record[0] & STATUS_MASK == status::INVALID_FLAGS
            && record[16] & flags::BLOCK_ON_FAULT as u8 != 0
            && config.is_some_and(|config| config.prs_disable)
        {
            let words = "a descriptor that asks for block on fault was refused".into();
            self.note(FindingKind::BlockOnFaultAlone, 1, 1, of_file(fault.at_ns, &fault.context, words));
        }
    }
}

impl Model {
    fn infos(&self) -> impl Iterator<Item = (&Device, &DeviceInfo)> {
        self.devices.values().filter_map(|device| Some((device, device.info.as_ref()?)))
    }

    pub(super) fn small_event_logs(&self) -> Tally {
        let mut tally = Tally::default();
        for log in self.event_logs().filter(|log| !log.was_full && log.is_small()) {
            let (Some(size), Some(advised)) = (log.size, log.advised_size) else { continue };
            let rate = log.peak_entries_per_s.unwrap_or(0.0);
            let words = format!(
                "deepest run {} entries, at most {rate:.0} entries a second, longest time unread {:.1} ms",
                log.high_water.unwrap_or(0),
                log.longest_hold_ns as f64 / 1e6
            );
            tally.one(log.device.to_string(), at(self.now_ns, log.device, words));
            if tally.amount.count == 1 {
                (tally.amount.sum, tally.amount.most) = (size.into(), advised.into());
            }
        }
        tally
    }

    pub(super) fn sva_off(&self) -> Tally {
        let mut tally = Tally::default();
        // The driver is one of x86_64 alone. Such a kernel says so nowhere: `pasid_enabled` is 1, and work queues are enabled.
        let kernel = self.session.as_ref().map_or("", |session| session.kernel.as_str());
        let refuses = sva_by_name(kernel, "x86_64") == SvaByName::Off;
        for (device, info) in self.infos() {
            let users = info.wqs.iter().filter(|wq| is_enabled_for_users(wq)).count();
            if (refuses || info.pasid_enabled == Some(false)) && users > 0 {
                let why = if refuses {
                    format!("kernel {kernel} binds no process")
                } else {
                    "pasid_enabled is 0".into()
                };
                let words = format!("{why}, and {users} user WQs are enabled");
                tally.one(device.device.to_string(), at(self.now_ns, device.device, words));
            }
        }
        tally
    }

    pub(super) fn has_small_event_log(&self) -> bool {
        self.event_logs().any(|log| !log.was_full && log.is_small())
    }

    pub(super) fn has_block_on_fault_alone(&self) -> bool {
        self.wqs.values().any(is_alone)
    }

    /// WQs that are configured so; descriptors were counted as they came.
    pub(super) fn add_block_on_fault(&self, tally: &mut Tally) {
        for wq in self.wqs.values().filter(|wq| is_alone(wq)) {
            let words = "block_on_fault and prs_disable are both set".into();
            let evidence = Evidence { wq: Some(wq.id.wq), ..at(self.now_ns, wq.device, words) };
            tally.one(String::new(), evidence);
        }
    }

    /// Processes whose page requests are answered late or refused, on a WQ that shares its engines.
    pub(super) fn stalls(&self) -> Tally {
        let mut tally = Tally::default();
        for stall in self.page_requests.stalls() {
            let shares = |id: WqId| {
                let info = self.devices.get(&id.device).and_then(|device| device.info.as_ref());
                let wq = info.and_then(|info| info.wqs.iter().find(|wq| wq.wq == id.wq));
                info.zip(wq).is_some_and(|(info, wq)| shares_engines(info, wq))
            };
            let mut rows = self.rows.iter().filter(|row| row.context.pasid == stall.pasid);
            let Some(row) = rows.find(|row| shares(row.context.wq_id())) else { continue };
            let words =
                format!("{} page requests: {} late, {} refused", stall.groups, stall.late, stall.refused);
            tally.one(row.who(), of_file(self.now_ns, &row.context, words));
            if tally.amount.count == 1 {
                (tally.amount.sum, tally.amount.most) = (stall.late, stall.refused);
            }
        }
        tally
    }
}
