//! What the driver did to devices, folded in: counts, and what each WQ is configured with.

use super::Model;
use super::recent::push_bounded;
use super::row::{Device, Wq};
use crate::driver::{DriverEvent, Happening, WqConfig};
use crate::event::WqId;

impl Model {
    pub(super) fn driver(&mut self, event: &DriverEvent) {
        self.advance(event.at_ns);
        self.findings.driver(event);
        let device = self.devices.entry(event.device.id).or_insert_with(|| Device::new(event.device));
        match &event.what {
            Happening::Command(command) => {
                if let (Some(wq), Some(config)) = (command.wq, &command.enabled) {
                    let id = WqId { device: event.device.id, wq };
                    self.wqs.entry(id).or_insert_with(|| Wq::new(id, event.device)).configured(config);
                }
            }
            Happening::Halt { .. } => device.halts += 1,
            Happening::Reset { .. } => device.resets += 1,
            Happening::Warning { .. } => device.warnings += 1,
        }
        push_bounded(&mut self.recent_driver_events, event.clone(), self.limits.recent_driver_events);
    }

    /// The last of what the driver did to devices, oldest first.
    pub fn recent_driver_events(&self) -> impl DoubleEndedIterator<Item = &DriverEvent> + ExactSizeIterator {
        self.recent_driver_events.iter()
    }

    /// What the WQ that `event` enabled was configured with before; `event` is the last one that concerned this WQ.
    #[must_use]
    pub fn before(&self, event: &DriverEvent) -> Option<&WqConfig> {
        match &event.what {
            Happening::Command(command) if command.enabled.is_some() => {
                self.wq(WqId { device: event.device.id, wq: command.wq? })?.before.as_ref()
            }
            _ => None,
        }
    }
}
