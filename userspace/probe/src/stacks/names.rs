//! Symbols as their languages write them. A name is foreign: what is read and what is written of it are bounded.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use cpp_demangle::{DemangleOptions, Symbol};

/// A longer mangled name stays as it is.
const MANGLED_BYTES: usize = 4096;
/// Where a name is cut; a few back references can make it as long as one likes.
const READABLE_BYTES: usize = 2048;

/// Rust without hashes, C++ without parameters, and any other name as it is.
pub(super) fn readable(name: &str) -> Cow<'_, str> {
    if name.len() > MANGLED_BYTES {
        return name.into();
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return Start::of(|start| write!(start, "{rust:#}")).into();
    }
    if name.starts_with("_Z")
        && let Ok(cpp) = Symbol::new(name)
    {
        let options = DemangleOptions::new().no_params().no_return_type();
        let text = Start::of(|start| cpp.structured_demangle(start, &options));
        if !text.is_empty() {
            return text.into();
        }
    }
    name.into()
}

/// Takes so many bytes and no more.
struct Start(String);

impl Start {
    fn of(write: impl FnOnce(&mut Self) -> fmt::Result) -> String {
        let mut start = Self(String::new());
        // An error says that the rest was left off.
        let _ = write(&mut start);
        start.0
    }
}

impl fmt::Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = READABLE_BYTES - self.0.len();
        let end = (0..=text.len().min(room)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_readable() {
        for (name, expected) in [
            ("memcpy", "memcpy"),
            ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_ZN3dml6detail6submitERKNS0_10descriptorEPv", "dml::detail::submit"),
            ("_Znwm", "operator new"),
            ("_Zbroken", "_Zbroken"),
            ("_R", "_R"),
            ("", ""),
        ] {
            assert_eq!(readable(name), expected);
        }
    }

    /// Back references that each double what was before: 2^60 characters, if they were all written.
    #[test]
    fn a_name_that_explodes_is_cut() {
        let mut name = String::from("_Z1fI1aI");
        name.push_str("S_S_E");
        for n in 0..35u32 {
            let number = char::from_digit(n, 36).unwrap().to_ascii_uppercase();
            name.push_str(&format!("1aIS{number}_S{number}_E"));
        }
        name.push_str("EvT_");
        let rust = format!("_RIC1a{}E", "TB4_B4_E".repeat(100));
        for name in [&name, &rust, &format!("_ZN{}E", "1aI".repeat(1000)), &"_ZNK".repeat(1000)] {
            let started = Instant::now();
            assert!(readable(name).len() <= MANGLED_BYTES);
            assert!(started.elapsed().as_secs() < 5, "{} bytes", name.len());
        }
    }

    proptest! {
        #[test]
        fn no_name_is_a_panic(start in "_ZN?|_R[NIC]|", rest in "[A-Za-z0-9_$.IESTBv]{0,200}") {
            prop_assert!(readable(&(start + &rest)).len() <= MANGLED_BYTES);
        }
    }
}
