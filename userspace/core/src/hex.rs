//! Bytes as lower-case hexadecimal text in serialised events.

use std::fmt::Write;

/// `bytes` as two digits each.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes as {} hexadecimal digits", expected * 2)]
pub struct NotHex {
    pub expected: usize,
}

/// Exactly `N` bytes.
///
/// # Errors
/// Another length, or anything but hexadecimal digits.
pub fn decode<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let error = NotHex { expected: N };
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(error);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(error) };
        *byte = u8::try_from(high << 4 | low).map_err(|_| error)?;
    }
    Ok(bytes)
}

pub(crate) mod record {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8; 64], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 64], D::Error> {
        super::decode(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

pub(crate) mod header {
    use dsascope_common::hw::event_log::EntryHeader;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use zerocopy::{FromBytes, IntoBytes};

    pub(crate) fn serialize<S: Serializer>(entry: &EntryHeader, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::encode(entry.as_bytes()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<EntryHeader, D::Error> {
        let bytes: [u8; 32] = super::decode(&String::deserialize(d)?).map_err(D::Error::custom)?;
        EntryHeader::read_from_bytes(&bytes).map_err(|_| D::Error::custom("event-log entry header"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_refuses_the_rest() {
        assert_eq!(encode(&[0, 0xab, 0xff]), "00abff");
        assert_eq!(decode::<3>("00abff"), Ok([0, 0xab, 0xff]));
        for bad in ["00abf", "00abfff", "00abfg", "é0abf", "+0abff"] {
            assert!(decode::<3>(bad).is_err(), "{bad}");
        }
    }
}
