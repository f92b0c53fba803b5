//! CRC generation and copy with CRC (CRC-32C), and IAA's CRC64 with any polynomial.
//!
//! Unverified: the flags of CRC generation (a seed in memory, no inversion and reflection) as Intel's DML has them; that a seed in memory
//! has four bytes; IAA's CRC64 record (the value at 32); that a partial CRC64 completes nothing and is done again.

use ::crc::{Algorithm, CRC_32_ISCSI, Crc, Table};
use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::Descriptor;
use dsascope_common::hw::operation::{self, crc, iax};

use super::memory::{PAGE, chunk};
use super::{Context, Outcome};

/// CRC-32C that takes bytes least significant bit first, and gives the plain register.
static REFLECTED: Crc<u32, Table<16>> =
    Crc::<u32, Table<16>>::new(&Algorithm { refout: false, xorout: 0, init: 0, ..CRC_32_ISCSI });
/// The same with bytes most significant bit first.
static PLAIN: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&Algorithm {
    refin: false,
    refout: false,
    xorout: 0,
    init: 0,
    ..CRC_32_ISCSI
});

impl Context<'_> {
    /// Copies what it reads if `copy`. The value so far, in a partial completion, is the seed to go on with.
    pub(super) fn crc(&self, d: &Descriptor, copy: bool) -> Outcome {
        let size = u64::from(d.transfer_size);
        let own = operation::Crc::from_words(&d.operation_specific);
        let mut seed = own.seed.to_le_bytes();
        if d.flags() & crc::FLAG_READ_SEED != 0
            && let Err(fault) = self.read(own.seed_addr, &mut seed)
        {
            // Resuming takes the value as the seed, but this one is not known yet: nothing is done.
            return Outcome::faulted(fault, 0).with([u64::from(own.seed)]);
        }
        let plain = d.flags() & crc::FLAG_BYPASS_INVERSION_AND_REFLECTION != 0;
        // Seed to register and back: the same function.
        let register = |value: u32| if plain { value } else { !value.reverse_bits() };
        let algorithm = if d.flags() & crc::FLAG_BYPASS_DATA_REFLECTION != 0 { &PLAIN } else { &REFLECTED };
        let mut digest = algorithm.digest_with_initial(register(u32::from_le_bytes(seed)));
        let mut buffer = [0; PAGE as usize];
        let mut done = 0;
        let outcome = loop {
            if done == size {
                break Outcome::done(d.transfer_size);
            }
            let (from, to) = (d.source.wrapping_add(done), d.destination.wrapping_add(done));
            let n = if copy { chunk(size - done, &[from, to]) } else { chunk(size - done, &[from]) };
            let bytes = &mut buffer[..n as usize];
            let read = self.read(from, bytes);
            if let Err(fault) = read.and_then(|()| if copy { self.write(to, bytes) } else { Ok(()) }) {
                break Outcome::faulted(fault, done);
            }
            digest.update(bytes);
            done += n;
        };
        outcome.with([u64::from(register(digest.finalize()))])
    }

    pub(super) fn crc64(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let polynomial = d.operation_specific[2];
        let reflect = d.reserved & iax::CRC64_REFLECT != 0;
        let invert = if d.reserved & iax::CRC64_INVERT != 0 { width_mask(polynomial) } else { 0 };
        let table = crc64_table(polynomial);
        let mut register = invert;
        let mut buffer = [0; PAGE as usize];
        let mut done = 0;
        while done < size {
            let from = d.source.wrapping_add(done);
            let bytes = &mut buffer[..chunk(size - done, &[from]) as usize];
            if let Err(fault) = self.read(from, bytes) {
                return Outcome::faulted(fault, 0);
            }
            for byte in &*bytes {
                let byte = if reflect { byte.reverse_bits() } else { *byte };
                register = register << 8 ^ table[usize::from((register >> 56) as u8 ^ byte)];
            }
            done += bytes.len() as u64;
        }
        register ^= invert;
        let value = if reflect { register.reverse_bits() } else { register };
        Outcome { completed: d.transfer_size, ..Outcome::new(status::SUCCESS) }.with([0, 0, value])
    }
}

/// A CRC narrower than 64 bits is given left-justified: all bits from its lowest term up.
fn width_mask(polynomial: u64) -> u64 {
    if polynomial == 0 { 0 } else { !0 << polynomial.trailing_zeros() }
}

/// The `crc` crate wants polynomials at compile time; this one is the guest's.
fn crc64_table(polynomial: u64) -> [u64; 256] {
    std::array::from_fn(|byte| {
        (0..8).fold((byte as u64) << 56, |register, _| {
            register << 1 ^ if register >> 63 != 0 { polynomial } else { 0 }
        })
    })
}
