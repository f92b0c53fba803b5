//! What the driver did to a device, or said of it: commands, halts, resets, warnings, in the same order as faults.
//!
//! Owns: the event, the names of commands and statuses (idxd-facts section 1.6), and a warning's text, put together from its format
//! and the arguments that were in registers. Refuses: a text's strings, which were not read; they are shown as `?`.

use std::num::NonZeroU64;

use dsascope_common::hw::regs::{cmdstatus, command};
use dsascope_common::wire::{self, wq_flag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::WqInfo;
use crate::name::{Comm, DeviceId, WqId};

/// Something that happened to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverEvent {
    pub at_ns: u64,
    pub cpu: u16,
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Process and thread that it happened on: who gave a command, or a thread of the kernel.
    pub tgid: u32,
    pub tid: u32,
    #[schemars(with = "String")]
    pub comm: Comm,
    #[serde(flatten)]
    pub what: Happening,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// An administrative command ended.
    Command(Command),
    /// The driver found the device halted.
    Halt { answer: HaltAnswer },
    /// A function-level reset ended, and the driver has configured the device again.
    Reset {
        start_ns: Option<NonZeroU64>,
        /// Of the device afterwards; null when the driver has another than these.
        state: Option<DeviceState>,
    },
    /// A line that the driver wrote to the kernel's log.
    Warning { text: String },
}

/// What the driver does about a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HaltAnswer {
    /// It gives the reset command.
    ResetCommand,
    FunctionLevelReset,
    /// It gives the device up.
    Nothing,
}

impl HaltAnswer {
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::ResetCommand => "the driver gives the reset command",
            Self::FunctionLevelReset => "the driver begins a function-level reset",
            Self::Nothing => "the driver gives it up: its WQs are gone until it is reset by hand",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    Halted,
    Disabled,
    Enabled,
}

impl DeviceState {
    const fn from_wire(state: i32) -> Option<Self> {
        Some(match state {
            -1 => Self::Halted,
            0 => Self::Disabled,
            1 => Self::Enabled,
            _ => return None,
        })
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
        }
    }
}

/// An administrative command, from the driver's call to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    pub command_code: u8,
    pub operand: u32,
    /// CMDSTATUS [7:0]; 0 is success.
    pub status_code: u8,
    pub start_ns: u64,
    /// The M of wqN.M, for a command to one WQ.
    pub wq: Option<u16>,
    /// Given while a file was opened or closed; null: for another reason.
    pub during: Option<During>,
    /// What the WQ is configured with, when the command enabled it.
    pub enabled: Option<WqConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum During {
    Open,
    Close,
}

/// What a WQ is configured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WqConfig {
    /// none, kernel or user.
    #[serde(rename = "type")]
    pub type_: String,
    /// dedicated or shared.
    pub mode: String,
    /// Descriptors.
    pub size: u32,
    pub threshold: u32,
    pub priority: u32,
    pub block_on_fault: bool,
    pub prs_disable: bool,
    pub ats_disable: bool,
}

impl WqConfig {
    fn from_wire(r: &wire::DriverRecord) -> Self {
        let flag = |bit: u32| r.wq_flags >> bit & 1 == 1;
        let type_ = match r.wq_type {
            0 => "none",
            1 => "kernel",
            2 => "user",
            _ => "unknown",
        };
        Self {
            type_: type_.into(),
            mode: if flag(wq_flag::DEDICATED) { "dedicated" } else { "shared" }.into(),
            size: r.wq_size,
            threshold: r.wq_threshold,
            priority: r.wq_priority,
            block_on_fault: flag(wq_flag::BLOCK_ON_FAULT),
            prs_disable: flag(wq_flag::PRS_DISABLE),
            ats_disable: flag(wq_flag::ATS_DISABLE),
        }
    }

    /// As sysfs told it; `None` when it did not tell all of it. Of a device without control of PRS or ATS neither is disabled.
    #[must_use]
    pub fn from_info(info: &WqInfo) -> Option<Self> {
        Some(Self {
            type_: info.type_.clone(),
            mode: info.mode.clone()?,
            size: info.size?,
            threshold: info.threshold?,
            priority: info.priority?,
            block_on_fault: info.block_on_fault?,
            prs_disable: info.prs_disable.unwrap_or(false),
            ats_disable: info.ats_disable.unwrap_or(false),
        })
    }

    /// Every setting in words, in one order.
    fn settings(&self) -> [String; 8] {
        let on = |on: bool| if on { "on" } else { "off" };
        [
            format!("type {}", self.type_),
            self.mode.clone(),
            format!("size {}", self.size),
            format!("threshold {}", self.threshold),
            format!("priority {}", self.priority),
            format!("page requests {}", on(!self.prs_disable)),
            format!("block on fault {}", on(self.block_on_fault)),
            format!("ATS {}", on(!self.ats_disable)),
        ]
    }

    #[must_use]
    pub fn words(&self) -> String {
        self.settings().join(", ")
    }

    /// What was otherwise before; empty when nothing was.
    #[must_use]
    pub fn changes(&self, before: &Self) -> String {
        let settings = self.settings().into_iter().zip(before.settings());
        settings.filter(|(now, then)| now != then).map(|(_, then)| then).collect::<Vec<_>>().join(", ")
    }
}

impl Command {
    fn from_wire(r: &wire::DriverRecord) -> Self {
        let enables = r.command == command::ENABLE_WQ;
        let wq = match r.command {
            command::ENABLE_WQ => Some(r.operand & 0xffff),
            command::DISABLE_WQ | command::DRAIN_WQ | command::ABORT_WQ | command::RESET_WQ => {
                let bits = r.operand & 0xffff;
                (bits.count_ones() == 1).then(|| bits.trailing_zeros() + (r.operand >> 16 & 0xf) * 16)
            }
            _ => None,
        };
        let status_code = r.status as u8;
        Self {
            command_code: r.command as u8,
            operand: r.operand,
            status_code,
            start_ns: r.start_ns,
            wq: wq.map(|wq| wq as u16),
            during: match r.during {
                wire::during::OPEN => Some(During::Open),
                wire::during::RELEASE => Some(During::Close),
                _ => None,
            },
            enabled: (enables && r.wq_known != 0 && u32::from(status_code) == cmdstatus::OK)
                .then(|| WqConfig::from_wire(r)),
        }
    }

    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        Some(match u32::from(self.command_code) {
            command::ENABLE_DEVICE => "enable device",
            command::DISABLE_DEVICE => "disable device",
            command::DRAIN_ALL => "drain all",
            command::ABORT_ALL => "abort all",
            command::RESET_DEVICE => "reset device",
            command::ENABLE_WQ => "enable WQ",
            command::DISABLE_WQ => "disable WQ",
            command::DRAIN_WQ => "drain WQ",
            command::ABORT_WQ => "abort WQ",
            command::RESET_WQ => "reset WQ",
            command::DRAIN_PASID => "drain PASID",
            command::ABORT_PASID => "abort PASID",
            command::REQUEST_INT_HANDLE => "request interrupt handle",
            command::RELEASE_INT_HANDLE => "release interrupt handle",
            _ => return None,
        })
    }

    /// What the command is for: `wq0.1`, `PASID 5`; empty for the device itself.
    #[must_use]
    pub fn object(&self, device: DeviceId) -> String {
        match u32::from(self.command_code) {
            command::DRAIN_PASID | command::ABORT_PASID => format!("{}", self.operand),
            _ => self.wq.map_or_else(String::new, |wq| WqId { device: device.id, wq }.to_string()),
        }
    }

    #[must_use]
    pub const fn succeeded(&self) -> bool {
        self.status_code as u32 == cmdstatus::OK
    }

    /// The status in words; `None` for a code without a name.
    #[must_use]
    pub fn status(&self) -> Option<&'static str> {
        Some(match u32::from(self.status_code) {
            cmdstatus::OK => "success",
            cmdstatus::INVALID_COMMAND => "invalid command",
            cmdstatus::INVALID_WQ => "invalid WQ index",
            cmdstatus::HARDWARE => "hardware error, or the device is halted",
            cmdstatus::DEVICE_ENABLED => "the device is enabled already",
            cmdstatus::DEVICE_CONFIG => "device configuration",
            cmdstatus::BUS_MASTER => "bus mastering is off",
            cmdstatus::DEVICE_PASID => "PASID",
            cmdstatus::WQ_SIZES => "sum of WQ sizes",
            0x15..=0x18 => "group configuration",
            cmdstatus::DEVICE_NOT_ENABLED => "the device is not enabled",
            cmdstatus::WQ_ENABLED => "the WQ is enabled already",
            cmdstatus::WQ_SIZE => "WQ size",
            cmdstatus::WQ_PRIORITY => "WQ priority",
            cmdstatus::WQ_MODE => "WQ mode",
            cmdstatus::WQ_BLOCK_ON_FAULT => "block on fault",
            cmdstatus::WQ_PASID_ENABLE => "the WQ's PASID",
            cmdstatus::WQ_MAX_BATCH => "largest batch",
            cmdstatus::WQ_MAX_TRANSFER => "largest transfer",
            cmdstatus::DEVICE_NOT_ENABLED_DISABLE => "the device is not enabled",
            cmdstatus::WQ_NOT_ENABLED => "a WQ is not enabled",
            0x41 | 0x42 => "interrupt handle",
            _ => return None,
        })
    }
}

impl DriverEvent {
    /// From a record; `None` when it tells of something unknown.
    #[must_use]
    pub fn from_wire(r: &wire::DriverRecord) -> Option<Self> {
        let halt = |answer| Happening::Halt { answer };
        let what = match r.what {
            wire::driver::COMMAND => Happening::Command(Command::from_wire(r)),
            wire::driver::HALT_SOFTWARE => halt(HaltAnswer::ResetCommand),
            wire::driver::HALT_FLR => halt(HaltAnswer::FunctionLevelReset),
            wire::driver::HALT_FINAL => halt(HaltAnswer::Nothing),
            wire::driver::RESET => Happening::Reset {
                start_ns: NonZeroU64::new(r.start_ns),
                state: DeviceState::from_wire(r.state),
            },
            wire::driver::WARNING => Happening::Warning { text: text(&r.text, &r.arguments) },
            _ => return None,
        };
        Some(Self {
            at_ns: r.header.time_ns,
            cpu: r.header.cpu,
            device: DeviceId::new(crate::name::DeviceKind::from_wire(r.device_type), r.device),
            tgid: r.tgid,
            tid: r.tid,
            comm: Comm::from_wire(r.comm),
            what,
        })
    }

    /// The WQ that it is about, when it is about one.
    #[must_use]
    pub fn wq(&self) -> Option<u16> {
        match &self.what {
            Happening::Command(command) => command.wq,
            _ => None,
        }
    }

    /// How long a command or a reset took.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        let start_ns = match &self.what {
            Happening::Command(command) => command.start_ns,
            Happening::Reset { start_ns, .. } => start_ns.map(NonZeroU64::get)?,
            Happening::Halt { .. } | Happening::Warning { .. } => return None,
        };
        self.at_ns.checked_sub(start_ns)
    }

    /// Part of a file's open or close, which have events of their own.
    #[must_use]
    pub fn is_routine(&self) -> bool {
        matches!(&self.what, Happening::Command(c) if c.during.is_some() && c.succeeded())
    }
}

/// A format of the kernel's with its arguments: numbers in decimal or hexadecimal; `?` for strings, and for what was not in registers.
fn text(format: &[u8], arguments: &[u64]) -> String {
    let end = format.iter().position(|&b| b == 0).unwrap_or(format.len());
    let format = String::from_utf8_lossy(&format[..end]);
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format.trim_end().chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(if c.is_control() { ' ' } else { c });
            continue;
        }
        if rest.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut spec = String::new();
        while let Some(c) = rest.next_if(|c| "#+- .0123456789hlzjt".contains(*c)) {
            spec.push(c);
        }
        let long = spec.contains(['l', 'z', 'j', 't']);
        let narrow = |value: u64| if long { value } else { u64::from(value as u32) };
        let prefix = if spec.contains('#') { "0x" } else { "" };
        let value = match rest.next() {
            Some('d' | 'i') => {
                arguments.next().map(|&v| if long { v as i64 } else { i64::from(v as i32) }.to_string())
            }
            Some('u') => arguments.next().map(|&v| narrow(v).to_string()),
            Some('x' | 'X') => arguments.next().map(|&v| format!("{prefix}{:x}", narrow(v))),
            Some(_) => {
                arguments.next();
                None
            }
            None => None,
        };
        out.push_str(value.as_deref().unwrap_or("?"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn record(what: u8) -> wire::DriverRecord {
        let mut record = wire::DriverRecord::new_zeroed();
        record.what = what;
        record
    }

    fn command_of(code: u32, operand: u32, status: u32) -> Command {
        let mut record = record(wire::driver::COMMAND);
        (record.command, record.operand, record.status) = (code, operand, status);
        (record.wq_known, record.wq_size, record.wq_flags) = (1, 16, 0b1001);
        Command::from_wire(&record)
    }

    #[test]
    fn a_formats_arguments_are_put_in() {
        let shown = |format: &str, arguments: &[u64]| text(format.as_bytes(), arguments);
        assert_eq!(
            shown(
                "Device error %#x operation: %#x fault addr: %#llx\n\0junk",
                &[0xffff_ffff_0000_0010, 3, 1 << 40, 9]
            ),
            "Device error 0x10 operation: 0x3 fault addr: 0x10000000000"
        );
        assert_eq!(shown("err[%d]: %#16.16llx\n", &[2, 0x1a]), "err[2]: 0x1a");
        assert_eq!(shown("%s is %d%%, %u", &[1, u64::MAX, 7]), "? is -1%, 7");
        assert_eq!(shown("%d %d", &[1]), "1 ?");
        assert_eq!(shown("%", &[1]), "?");
        assert_eq!(shown("", &[]), "");
    }

    #[test]
    fn commands_to_one_wq_name_it() {
        assert_eq!(command_of(command::ENABLE_WQ, 3, 0).wq, Some(3));
        assert_eq!(command_of(command::RESET_WQ, 1 << 5, 0).wq, Some(5));
        assert_eq!(command_of(command::DISABLE_WQ, 1 << 16 | 1 << 2, 0).wq, Some(18));
        assert_eq!(command_of(command::DRAIN_WQ, 0b101, 0).wq, None, "two WQs");
        assert_eq!(command_of(command::DRAIN_PASID, 3, 0).wq, None);
    }

    #[test]
    fn only_a_wq_that_was_enabled_has_a_configuration() {
        let config = command_of(command::ENABLE_WQ, 3, 0).enabled.unwrap();
        assert_eq!(
            (config.mode.as_str(), config.prs_disable, config.block_on_fault),
            ("dedicated", true, false)
        );
        assert_eq!(command_of(command::ENABLE_WQ, 3, 0x25).enabled, None, "it failed");
        assert_eq!(command_of(command::DISABLE_WQ, 8, 0).enabled, None);
        let before = WqConfig { prs_disable: false, size: 8, ..config.clone() };
        assert_eq!(config.changes(&before), "size 8, page requests on");
        assert_eq!(config.changes(&config), "");
    }

    #[test]
    fn an_unknown_happening_is_no_event() {
        assert_eq!(DriverEvent::from_wire(&record(99)), None);
        let halt = DriverEvent::from_wire(&record(wire::driver::HALT_FINAL)).unwrap();
        assert_eq!(halt.what, Happening::Halt { answer: HaltAnswer::Nothing });
    }

    #[test]
    fn what_a_close_needs_is_routine_unless_it_fails() {
        let mut event = DriverEvent::from_wire(&record(wire::driver::COMMAND)).unwrap();
        let mut command = command_of(command::DRAIN_PASID, 3, 0);
        command.during = Some(During::Close);
        event.what = Happening::Command(command.clone());
        assert!(event.is_routine());
        command.status_code = 3;
        event.what = Happening::Command(command);
        assert!(!event.is_routine());
    }
}
