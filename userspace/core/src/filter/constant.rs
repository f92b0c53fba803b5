//! Named constants: statuses, errors, operations, outcomes. Names are those of the tables that every output uses.
//!
//! Most names mean the same code to DSA and IAA, some codes have a name of their own for each: a name means the code of the device that has
//! the name.

use std::fmt;

use dsascope_common::hw::completion::{STATUS_MASK, status};

use crate::event::{CopyOutcome, DeviceKind};

/// Which constants a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    Status,
    /// Those statuses that an event-log entry has.
    Error,
    Operation,
    Outcome,
}

/// By [`outcome`].
const OUTCOMES: [(&str, &str); 4] = [
    ("delivered", "copied whole; the submitter sees it"),
    ("failed", "the copy failed: the submitter waits for ever"),
    ("not_copied", "the driver did not copy"),
    ("unobserved", "the attached probes do not see the copy"),
];

/// The code of an outcome.
pub(super) const fn outcome(copy: &CopyOutcome) -> u8 {
    match copy {
        CopyOutcome::Delivered { .. } => 0,
        CopyOutcome::Short { .. } => 1,
        CopyOutcome::NotCopied => 2,
        CopyOutcome::Unobserved => 3,
    }
}

impl Vocabulary {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Error => "error",
            Self::Operation => "operation",
            Self::Outcome => "outcome",
        }
    }

    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Status => "a status, such as PAGE_FAULT_NOBOF or 0x03",
            Self::Error => "an error: CRA_XLAT, DRAIN_EVL, BATCH_EVL_ERR, or a code",
            Self::Operation => "an operation, such as memmove or 0x03",
            Self::Outcome => "an outcome: delivered, failed, not_copied, unobserved",
        }
    }

    /// Name of `code` for a device of `kind`.
    #[must_use]
    pub fn name_of(self, kind: DeviceKind, code: u8) -> Option<&'static str> {
        match self {
            Self::Status | Self::Error => crate::decode::status(kind, code).name,
            Self::Operation => crate::decode::operation(kind, code),
            Self::Outcome => OUTCOMES.get(usize::from(code)).map(|(name, _)| *name),
        }
    }

    /// As it is compared: a status has no write bit.
    pub(super) const fn masked(self, code: u8) -> u8 {
        match self {
            Self::Status | Self::Error => code & STATUS_MASK,
            Self::Operation | Self::Outcome => code,
        }
    }

    /// The codes that a constant may have.
    fn codes(self) -> impl Iterator<Item = u8> {
        let last = match self {
            Self::Status | Self::Error => STATUS_MASK,
            Self::Operation => u8::MAX,
            Self::Outcome => OUTCOMES.len() as u8 - 1,
        };
        (0..=last).filter(move |&code| {
            self != Self::Error
                || matches!(code, status::CRA_XLAT | status::DRAIN_EVL | status::BATCH_EVL_ERR)
        })
    }

    /// Every name once, in the order of codes.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for code in self.codes() {
            let both = [DeviceKind::Dsa, DeviceKind::Iax].map(|kind| self.name_of(kind, code));
            for name in both.into_iter().flatten() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// What a name means, where the name does not say it.
    #[must_use]
    pub fn meaning(self, name: &str) -> String {
        match self {
            Self::Outcome => {
                OUTCOMES.iter().find(|(other, _)| *other == name).map(|(_, meaning)| (*meaning).into())
            }
            Self::Operation => {
                self.constant(name).map(|constant| format!("operation {:#04x}", constant.code))
            }
            Self::Status | Self::Error => self.constant(name).map(|constant| {
                let kind = if constant.dsa { DeviceKind::Dsa } else { DeviceKind::Iax };
                crate::decode::status(kind, constant.code).sentence()
            }),
        }
        .unwrap_or_default()
    }

    /// The constant of this name, in any case.
    #[must_use]
    pub fn constant(self, name: &str) -> Option<Constant> {
        let named = |kind, code| self.name_of(kind, code).is_some_and(|of| of.eq_ignore_ascii_case(name));
        self.codes().find_map(|code| {
            let (dsa, iax) = (named(DeviceKind::Dsa, code), named(DeviceKind::Iax, code));
            (dsa || iax).then_some(Constant { code, dsa, iax })
        })
    }

    /// The constant of this code, whatever its name; `None` when no code is as large.
    #[must_use]
    pub fn code(self, code: u64) -> Option<Constant> {
        let code = u8::try_from(code).ok().filter(|&code| self.masked(code) == code)?;
        (self != Self::Outcome).then_some(Constant { code, dsa: true, iax: true })
    }
}

/// A code, and which kinds of device it is meant of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    pub code: u8,
    pub dsa: bool,
    pub iax: bool,
}

impl Constant {
    /// Of a device of unknown kind the code decides.
    pub(super) const fn is(self, kind: DeviceKind, code: u8) -> bool {
        self.code == code
            && match kind {
                DeviceKind::Dsa => self.dsa,
                DeviceKind::Iax => self.iax,
                DeviceKind::Unknown => true,
            }
    }

    /// By name when a name says all of it, else by code.
    pub(super) fn write(self, vocabulary: Vocabulary, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.dsa { DeviceKind::Dsa } else { DeviceKind::Iax };
        match vocabulary.name_of(kind, self.code).filter(|name| vocabulary.constant(name) == Some(self)) {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#04x}", self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Vocabulary; 4] =
        [Vocabulary::Status, Vocabulary::Error, Vocabulary::Operation, Vocabulary::Outcome];

    #[test]
    fn a_name_has_one_code() {
        for vocabulary in ALL {
            for name in vocabulary.names() {
                let codes: Vec<_> = vocabulary
                    .codes()
                    .filter(|&code| {
                        [DeviceKind::Dsa, DeviceKind::Iax]
                            .iter()
                            .any(|&kind| vocabulary.name_of(kind, code) == Some(name))
                    })
                    .collect();
                assert_eq!(codes.len(), 1, "{name}: {codes:?}");
                assert_eq!(vocabulary.constant(name).map(|constant| constant.code), Some(codes[0]));
                assert!(!vocabulary.meaning(name).is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn a_name_is_meant_of_the_devices_that_have_it() {
        let size = Vocabulary::Status.constant("invalid_size").expect("a name of IAA");
        assert_eq!(size, Constant { code: status::XFER_ERANGE, dsa: false, iax: true });
        assert!(
            size.is(DeviceKind::Iax, 0x13)
                && !size.is(DeviceKind::Dsa, 0x13)
                && size.is(DeviceKind::Unknown, 0x13)
        );
        assert_eq!(Vocabulary::Status.constant("XFER_ERANGE").map(|constant| constant.iax), Some(false));
        assert!(Vocabulary::Status.code(0x13).is_some_and(|code| code.dsa && code.iax));
        assert_eq!(Vocabulary::Error.names(), ["CRA_XLAT", "DRAIN_EVL", "BATCH_EVL_ERR"]);
        assert_eq!(Vocabulary::Status.code(0x80), None);
        assert_eq!(Vocabulary::Outcome.code(0), None);
    }

    #[test]
    fn names_of_outcomes_are_those_of_outcomes() {
        for copy in [
            CopyOutcome::Delivered { bytes: 1 },
            CopyOutcome::Short { asked: 1, done: 0 },
            CopyOutcome::NotCopied,
            CopyOutcome::Unobserved,
        ] {
            let name = Vocabulary::Outcome.name_of(DeviceKind::Dsa, outcome(&copy));
            assert_eq!(name, Some(copy.name().replace(' ', "_").as_str()));
        }
    }
}
