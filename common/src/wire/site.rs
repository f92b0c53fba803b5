//! A uprobe's cookie: how the instruction it is at forms the address of the descriptor.
//!
//! Low bits first: displacement 32, base 5, index 5, scale 2 (log2), destination 5, instruction 2, 32-bit addresses 1, a result
//! follows 1, length 4; the rest is 0. A register is 0 (none), 1 + its hardware number (rax is 1, r15 16), or 17: the address of the
//! next instruction.

use super::submission::how;

/// How a submitting instruction forms its addresses; [`SiteCookie`] is the same in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteForm {
    pub instruction: SiteInstruction,
    pub base: u8,
    pub index: u8,
    /// The index is shifted left by this.
    pub scale: u8,
    pub displacement: i32,
    /// The register that holds the portal's address.
    pub destination: u8,
    /// Addresses are cut to 32 bits, as a 32-bit program's are, or after an address size prefix.
    pub addresses_32: bool,
    /// The next instruction has a probe for the zero flag.
    pub result_follows: bool,
    /// Bytes of the instruction.
    pub length: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SiteInstruction {
    Movdir64b = how::MOVDIR64B,
    Enqcmd = how::ENQCMD,
    Enqcmds = how::ENQCMDS,
    /// The instruction after an ENQCMD or ENQCMDS, whose zero flag it left: set if the device did not accept.
    Result = 3,
}

/// Values of [`SiteForm`]'s registers that are not 1 + a hardware number.
pub mod register {
    pub const NONE: u8 = 0;
    pub const NEXT_INSTRUCTION: u8 = 17;
    /// Not an index: its number means "none" there.
    pub const STACK_POINTER: u8 = 1 + 4;
}

/// [`SiteForm`] as the kernel hands it to the eBPF program (`bpf_get_attach_cookie`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct SiteCookie(pub u64);

const BASE: u32 = 32;
const INDEX: u32 = 37;
const SCALE: u32 = 42;
const DESTINATION: u32 = 44;
const INSTRUCTION: u32 = 49;
const ADDRESSES_32: u32 = 51;
const RESULT_FOLLOWS: u32 = 52;
const LENGTH: u32 = 53;
const END: u32 = 57;

impl SiteCookie {
    /// What [`SiteInstruction::Result`]'s probe has: no address is formed there.
    pub const RESULT: Self = Self((SiteInstruction::Result as u64) << INSTRUCTION);

    const fn field(self, at: u32, bits: u32) -> u8 {
        (self.0 >> at & ((1 << bits) - 1)) as u8
    }

    #[must_use]
    pub const fn displacement(self) -> i32 {
        self.0 as i32
    }

    #[must_use]
    pub const fn base(self) -> u8 {
        self.field(BASE, 5)
    }

    #[must_use]
    pub const fn index(self) -> u8 {
        self.field(INDEX, 5)
    }

    #[must_use]
    pub const fn scale(self) -> u8 {
        self.field(SCALE, 2)
    }

    #[must_use]
    pub const fn destination(self) -> u8 {
        self.field(DESTINATION, 5)
    }

    /// A [`SiteInstruction`].
    #[must_use]
    pub const fn instruction(self) -> u8 {
        self.field(INSTRUCTION, 2)
    }

    #[must_use]
    pub const fn addresses_32(self) -> bool {
        self.field(ADDRESSES_32, 1) != 0
    }

    #[must_use]
    pub const fn result_follows(self) -> bool {
        self.field(RESULT_FOLLOWS, 1) != 0
    }

    /// The same where nothing tells of a result.
    #[must_use]
    pub const fn without_result(self) -> Self {
        Self(self.0 & !(1 << RESULT_FOLLOWS))
    }

    #[must_use]
    pub const fn length(self) -> u8 {
        self.field(LENGTH, 4)
    }

    /// `value`, cut to the width of the instruction's addresses.
    #[must_use]
    pub const fn address(self, value: u64) -> u64 {
        if self.addresses_32() { value as u32 as u64 } else { value }
    }

    /// Address of the descriptor: `base` and `index` are the values of those registers, 0 for [`register::NONE`], and the
    /// instruction's address + [`Self::length`] for [`register::NEXT_INSTRUCTION`].
    #[must_use]
    pub const fn source(self, base: u64, index: u64) -> u64 {
        self.address(base.wrapping_add(index << self.scale()).wrapping_add(self.displacement() as i64 as u64))
    }

    #[must_use]
    pub const fn pack(form: SiteForm) -> Self {
        Self(
            form.displacement as u32 as u64
                | (form.base as u64 & 0x1f) << BASE
                | (form.index as u64 & 0x1f) << INDEX
                | (form.scale as u64 & 3) << SCALE
                | (form.destination as u64 & 0x1f) << DESTINATION
                | (form.instruction as u64) << INSTRUCTION
                | (form.addresses_32 as u64) << ADDRESSES_32
                | (form.result_follows as u64) << RESULT_FOLLOWS
                | (form.length as u64 & 0xf) << LENGTH,
        )
    }

    /// `None` for bits that no instruction gives.
    #[must_use]
    pub const fn unpack(self) -> Option<SiteForm> {
        let form = SiteForm {
            instruction: match self.instruction() {
                0 => SiteInstruction::Movdir64b,
                1 => SiteInstruction::Enqcmd,
                2 => SiteInstruction::Enqcmds,
                _ => SiteInstruction::Result,
            },
            base: self.base(),
            index: self.index(),
            scale: self.scale(),
            displacement: self.displacement(),
            destination: self.destination(),
            addresses_32: self.addresses_32(),
            result_follows: self.result_follows(),
            length: self.length(),
        };
        let submits = form.base <= register::NEXT_INSTRUCTION
            && form.index < register::NEXT_INSTRUCTION
            && form.index != register::STACK_POINTER
            && form.destination != register::NONE
            && form.destination < register::NEXT_INSTRUCTION
            && (form.base != register::NEXT_INSTRUCTION || form.index == register::NONE)
            && (form.index != register::NONE || form.scale == 0)
            // 0F 38 F8, ModRM and a mandatory prefix.
            && form.length >= 5
            && (!form.result_follows || !matches!(form.instruction, SiteInstruction::Movdir64b));
        let valid = match form.instruction {
            SiteInstruction::Result => self.0 == Self::RESULT.0,
            _ => submits && self.0 >> END == 0,
        };
        if valid { Some(form) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDEST: SiteForm = SiteForm {
        instruction: SiteInstruction::Enqcmds,
        base: 16,
        index: 16,
        scale: 3,
        displacement: -1,
        destination: 16,
        addresses_32: true,
        result_follows: true,
        length: 15,
    };

    #[test]
    fn the_layout_is_what_the_module_says() {
        let plain = SiteForm {
            instruction: SiteInstruction::Movdir64b,
            base: 7,
            index: 0,
            scale: 0,
            displacement: 0,
            destination: 8,
            addresses_32: false,
            result_follows: false,
            length: 5,
        };
        assert_eq!(SiteCookie::pack(plain).0, 7 << 32 | 8 << 44 | 5 << 53);
        assert_eq!(
            SiteCookie::pack(WIDEST).0,
            0xffff_ffff | 16 << 32 | 16 << 37 | 3 << 42 | 16 << 44 | 2 << 49 | 1 << 51 | 1 << 52 | 15 << 53
        );
        assert_eq!(SiteCookie::RESULT.0, 3 << 49);
    }

    #[test]
    fn every_field_comes_back() {
        for base in 0..=17 {
            for index in 0..=16 {
                for (destination, length) in (1..=16).zip((5..=15).cycle()) {
                    let form = SiteForm { base, index, destination, length, ..WIDEST };
                    let form = SiteForm { scale: if index == 0 { 0 } else { 3 }, ..form };
                    let sensible = index != register::STACK_POINTER && (base != 17 || index == 0);
                    assert_eq!(SiteCookie::pack(form).unpack(), sensible.then_some(form));
                }
            }
        }
        for displacement in [0, 1, -1, i32::MIN, i32::MAX] {
            let form = SiteForm { displacement, ..WIDEST };
            assert_eq!(SiteCookie::pack(form).unpack(), Some(form));
            assert_eq!(SiteCookie::pack(form).displacement(), displacement);
        }
    }

    #[test]
    fn bits_that_mean_nothing_are_refused() {
        let whole = SiteCookie::pack(WIDEST);
        for bit in END..64 {
            assert_eq!(SiteCookie(whole.0 | 1 << bit).unpack(), None, "bit {bit}");
        }
        assert_eq!(SiteCookie(0).unpack(), None, "a destination is always there");
        assert_eq!(SiteCookie(SiteCookie::RESULT.0 | 1).unpack(), None, "a result has no address");
        let movdir64b = SiteForm { instruction: SiteInstruction::Movdir64b, ..WIDEST };
        assert_eq!(SiteCookie::pack(movdir64b).unpack(), None, "MOVDIR64B leaves the flags alone");
    }

    #[test]
    fn addresses_wrap_at_their_width() {
        let form = SiteForm { displacement: -8, scale: 1, addresses_32: false, ..WIDEST };
        let wide = SiteCookie::pack(form);
        assert_eq!(wide.source(0x1000, 4), 0x1000);
        assert_eq!(wide.source(0, 0), u64::MAX - 7);
        let narrow = SiteCookie::pack(SiteForm { addresses_32: true, ..form });
        assert_eq!(narrow.source(0, 0), 0xffff_fff8);
        assert_eq!(narrow.source(0xf_0000_0010, 0), 8);
        assert_eq!(narrow.address(0x1_0000_0002), 2);
    }
}
