//! The user stack that a descriptor was submitted from.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stack, once; submissions name it by process and id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stack {
    /// When it was symbolised.
    pub at_ns: u64,
    pub tgid: u32,
    pub id: u32,
    /// The submitting instruction first, then who called.
    pub frames: Vec<Frame>,
}

/// A place in a process's code. Names are the process's own, made harmless and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// The instruction, or where the call of the frame before returns to.
    pub address: u64,
    /// Function; null when the file names none there, or could not be read.
    pub symbol: Option<String>,
    /// From the function's start; 0 without one.
    pub offset: u64,
    /// File name of the program or library; null when no file is mapped there, or it is not known which.
    pub module: Option<String>,
    /// From the file's start.
    pub module_offset: Option<u64>,
}

/// `function+0x1f (libdml.so)`, `libdml.so+0x4fe0` or the address: what is known.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.symbol, &self.module, self.module_offset) {
            (Some(symbol), Some(module), _) => write!(f, "{symbol}+{:#x} ({module})", self.offset),
            (Some(symbol), None, _) => write!(f, "{symbol}+{:#x}", self.offset),
            (None, Some(module), Some(offset)) => write!(f, "{module}+{offset:#x}"),
            _ => write!(f, "{:#x}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_shows_what_is_known() {
        let bare = Frame { address: 0x7f12, ..Frame::default() };
        let file = Frame { module: Some("libdml.so".into()), module_offset: Some(0x4fe0), ..bare.clone() };
        let known = Frame { symbol: Some("submit".into()), offset: 0x1f, ..file.clone() };
        assert_eq!(bare.to_string(), "0x7f12");
        assert_eq!(file.to_string(), "libdml.so+0x4fe0");
        assert_eq!(known.to_string(), "submit+0x1f (libdml.so)");
    }
}
