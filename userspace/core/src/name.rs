//! Names of things: devices, work queues, open files, commands. Small, `Copy`, and written one way everywhere.
//!
//! Refuses: looking anything up. A device kind that a record does not carry stays [`DeviceKind::Unknown`].

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use dsascope_common::wire;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a device is; decides the record size and the tables of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    Dsa,
    Iax,
    #[default]
    Unknown,
}

impl DeviceKind {
    /// From `idxd_driver_data.type`.
    #[must_use]
    pub const fn from_wire(kind: u8) -> Self {
        match kind {
            wire::device_type::DSA => Self::Dsa,
            wire::device_type::IAX => Self::Iax,
            _ => Self::Unknown,
        }
    }

    /// The driver's prefix of device names.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Dsa => "dsa",
            Self::Iax => "iax",
            Self::Unknown => "idxd",
        }
    }

    /// Bytes of a completion record; 64, the larger, when the kind is unknown.
    #[must_use]
    pub const fn record_bytes(self) -> usize {
        match self {
            Self::Dsa => 32,
            Self::Iax | Self::Unknown => 64,
        }
    }
}

/// `dsaN` or `iaxN`. N alone identifies the device: DSA and IAA share one numbering (idxd-facts section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    pub id: u16,
    pub kind: DeviceKind,
}

impl DeviceId {
    #[must_use]
    pub const fn new(kind: DeviceKind, id: u16) -> Self {
        Self { id, kind }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", self.kind.prefix(), self.id))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device name {0:?} is not dsaN, iaxN or idxdN")]
pub struct NotADevice(pub String);

impl FromStr for DeviceId {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        [DeviceKind::Dsa, DeviceKind::Iax, DeviceKind::Unknown]
            .into_iter()
            .find_map(|kind| {
                let digits = text.strip_prefix(kind.prefix())?;
                let plain = digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse().ok().filter(|_| plain).map(|id| Self { id, kind })
            })
            .ok_or_else(|| NotADevice(text.into()))
    }
}

impl Serialize for DeviceId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A work queue, displayed as the driver names it: `wqN.M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WqId {
    pub device: u16,
    pub wq: u16,
}

impl fmt::Display for WqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("wq{}.{}", self.device, self.wq))
    }
}

/// One open file of a process on a WQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Context {
    #[schemars(with = "String", regex(pattern = "^(dsa|iax|idxd)[0-9]+$"))]
    pub device: DeviceId,
    /// The M of wqN.M.
    pub wq: u16,
    pub pasid: u32,
    /// CLOCK_MONOTONIC; null for a file that was open before attaching.
    pub opened_ns: Option<NonZeroU64>,
}

/// A [`Context`] without its device kind, which some records lack: what tables are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub device: u16,
    pub wq: u16,
    pub pasid: u32,
    /// 0: open before attaching.
    pub opened_ns: u64,
}

impl Context {
    #[must_use]
    pub const fn from_wire(key: wire::ContextKey, kind: DeviceKind) -> Self {
        Self {
            device: DeviceId::new(kind, key.device),
            wq: key.wq,
            pasid: key.pasid,
            opened_ns: NonZeroU64::new(key.opened_ns),
        }
    }

    #[must_use]
    pub const fn key(&self) -> Key {
        Key {
            device: self.device.id,
            wq: self.wq,
            pasid: self.pasid,
            opened_ns: match self.opened_ns {
                Some(ns) => ns.get(),
                None => 0,
            },
        }
    }

    #[must_use]
    pub const fn wq_id(&self) -> WqId {
        WqId { device: self.device.id, wq: self.wq }
    }

    /// The collecting context that the kernel side counts under when its table of totals is full.
    #[must_use]
    pub fn is_other(&self) -> bool {
        self.key() == Key::OTHER
    }
}

impl Key {
    pub const OTHER: Self = Self {
        device: wire::OTHER_CONTEXT.device,
        wq: wire::OTHER_CONTEXT.wq,
        pasid: wire::OTHER_CONTEXT.pasid,
        opened_ns: wire::OTHER_CONTEXT.opened_ns,
    };

    #[must_use]
    pub const fn wq_id(&self) -> WqId {
        WqId { device: self.device, wq: self.wq }
    }
}

impl From<wire::ContextKey> for Key {
    fn from(key: wire::ContextKey) -> Self {
        Self { device: key.device, wq: key.wq, pasid: key.pasid, opened_ns: key.opened_ns }
    }
}

/// A task's command name, at most 15 bytes and not necessarily UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// As much of `text` as fits in whole characters.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; 16];
        let end = (0..=text.len().min(15)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        Self(bytes)
    }

    /// From the kernel: any bytes, made into what is shown of them, so that it is the same in every output and after every way back.
    #[must_use]
    pub fn from_wire(bytes: [u8; 16]) -> Self {
        Self::new(&Self(bytes).to_string())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    /// The name as its bytes say it, without an allocation; nothing when they are not UTF-8, which neither [`Self::new`] nor
    /// [`Self::from_wire`] makes.
    #[must_use]
    pub fn text(&self) -> &str {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        f.pad(&harmless(&self.0[..end], 15))
    }
}

impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|text| Self::new(&text))
    }
}

/// A name that a process chose, as it may be shown: control characters, which a terminal would obey, and those that turn the direction of
/// writing are replaced; at most `max_chars` characters, the last `…` when some were left off.
#[must_use]
pub fn harmless(name: &[u8], max_chars: usize) -> String {
    // A character has at most four bytes, and whatever is none is replaced by at most one a byte.
    let enough = &name[..name.len().min(max_chars.saturating_mul(4).saturating_add(4))];
    let shown = |c: char| match c {
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let text = String::from_utf8_lossy(enough);
    let mut chars = text.chars();
    let mut harmless: String = chars.by_ref().take(max_chars).map(shown).collect();
    if chars.next().is_some() {
        harmless.pop();
        harmless.push('…');
    }
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_read_back() {
        for kind in [DeviceKind::Dsa, DeviceKind::Iax, DeviceKind::Unknown] {
            let device = DeviceId::new(kind, 12);
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for bad in ["dsa", "dsa+1", "dsa70000", "wq0.0", ""] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_harmless_and_bounded() {
        assert_eq!(harmless(b"a\x1b[2Jb\n\xff", 20), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(harmless("ab\u{202e}cd".as_bytes(), 20), "ab\u{fffd}cd");
        assert_eq!(harmless("äöüß".as_bytes(), 4), "äöüß");
        assert_eq!(harmless("äöüßé".as_bytes(), 4), "äöü…");
        assert_eq!(harmless(&[b'x'; 10_000], 3), "xx…");
        assert_eq!(harmless(b"x", 0), "…");
    }

    #[test]
    fn a_command_name_cannot_carry_escapes() {
        assert_eq!(Comm::new("a\x1b[2Jb").to_string(), "a\u{fffd}[2Jb");
        assert_eq!(Comm::new("a very long command name").to_string(), "a very long com");
        assert_eq!(Comm::new("fourteen chars\u{e9}").to_string(), "fourteen chars");
        let odd = Comm::from_wire(*b"\x1b\xff\xff\xff\xff\xff\xff\xff\xffabcdef\0");
        assert_eq!(Comm::new(&odd.to_string()), odd);
    }
}
