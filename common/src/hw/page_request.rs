//! VT-d's page requests and page-group responses, the first two quadwords of each: how a device asks for an absent page, and what it
//! is told (idxd-facts section 4.3). All requests of a group, the last of which says so, have one response.

use super::bits;

/// Response code: translate again.
pub const SUCCESS: u8 = 0;
/// No such page, or not for this access.
pub const INVALID: u8 = 1;
/// As invalid, and the device asks no more.
pub const FAILURE: u8 = 15;

/// An entry of the page request queue. Accessors name the bits; nothing is checked here.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Request {
    pub qwords: [u64; 2],
}

impl Request {
    /// Bus, device and function of who asks.
    #[must_use]
    pub const fn requester(&self) -> u16 {
        bits(self.qwords[0], 31, 16) as u16
    }

    #[must_use]
    pub const fn pasid(&self) -> Option<u32> {
        if bits(self.qwords[0], 8, 8) == 1 { Some(bits(self.qwords[0], 51, 32) as u32) } else { None }
    }

    #[must_use]
    pub const fn write(&self) -> bool {
        bits(self.qwords[1], 1, 1) == 1
    }

    #[must_use]
    pub const fn last_in_group(&self) -> bool {
        bits(self.qwords[1], 2, 2) == 1
    }

    #[must_use]
    pub const fn group(&self) -> u16 {
        bits(self.qwords[1], 11, 3) as u16
    }

    /// Of the page.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.qwords[1] & !0xfff
    }
}

/// An invalidation-queue descriptor of type [`Self::TYPE`].
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Response {
    pub qwords: [u64; 2],
}

impl Response {
    pub const TYPE: u64 = 9;

    /// Whether a descriptor that begins with this quadword is one.
    #[must_use]
    pub const fn is(qword0: u64) -> bool {
        bits(qword0, 3, 0) == Self::TYPE
    }

    #[must_use]
    pub const fn requester(&self) -> u16 {
        bits(self.qwords[0], 31, 16) as u16
    }

    #[must_use]
    pub const fn pasid(&self) -> Option<u32> {
        if bits(self.qwords[0], 4, 4) == 1 { Some(bits(self.qwords[0], 51, 32) as u32) } else { None }
    }

    #[must_use]
    pub const fn code(&self) -> u8 {
        bits(self.qwords[0], 15, 12) as u8
    }

    #[must_use]
    pub const fn group(&self) -> u16 {
        bits(self.qwords[1], 11, 3) as u16
    }
}
