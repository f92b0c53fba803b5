//! The two kinds of devices.

use dsascope_common::hw::descriptor::opcode;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    Dsa,
    /// Named iax by the driver.
    Iaa,
}

impl DeviceKind {
    pub const ALL: [Self; 2] = [Self::Dsa, Self::Iaa];

    /// What the driver's names of such devices begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Dsa => "dsa",
            Self::Iaa => "iax",
        }
    }

    /// Name of an opcode on such devices.
    #[must_use]
    pub const fn operation_name(self, code: u8) -> Option<&'static str> {
        match self {
            Self::Dsa => opcode::dsa_name(code),
            Self::Iaa => opcode::iax_name(code),
        }
    }
}
