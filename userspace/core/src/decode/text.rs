//! Text to structures: dumps of debugfs' `event_log`, and hexadecimal text of entries, completion records and descriptors.
//!
//! Line by line: what is whole is given at once, so that memory does not grow with the input. Whatever cannot be read becomes a
//! [`Item::Problem`] with its line, and the rest is still decoded. Input may be anything; nothing is believed but its own bytes.

mod dump;
mod hex;

use dsascope_common::hw::{completion, descriptor, event_log};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Explanation, Section, explain_descriptor, explain_entry, explain_partial_entry, explain_record};
use crate::event::DeviceKind;
use dump::Dump;
use hex::{HexLine, HexReader};

/// What hexadecimal text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    Entry,
    Record,
    Descriptor,
}

impl Shape {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entry => "event-log entry",
            Self::Record => "completion record",
            Self::Descriptor => "descriptor",
        }
    }

    /// Bytes of one; those of DSA for an unknown kind.
    #[must_use]
    pub const fn bytes(self, kind: DeviceKind) -> usize {
        match (self, kind) {
            (Self::Entry, DeviceKind::Iax) => event_log::IAX_ENTRY_BYTES,
            (Self::Entry, _) => event_log::DSA_ENTRY_BYTES,
            (Self::Record, DeviceKind::Iax) => completion::IAX_BYTES,
            (Self::Record, _) => completion::DSA_BYTES,
            (Self::Descriptor, _) => descriptor::BYTES,
        }
    }
}

/// What to take the input for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A dump of debugfs' `event_log`; the number of words of an entry tells the device.
    Dump,
    Hex {
        shape: Shape,
        kind: DeviceKind,
        /// Of a record's descriptor: decides what the operation-specific fields are.
        operation: u8,
    },
}

/// One structure in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decoded {
    /// Line of the input where it begins, from 1.
    pub line: u64,
    pub shape: Shape,
    /// dsa or iax.
    pub device: String,
    /// What the dump says of its place.
    pub place: Option<String>,
    /// In the order of memory.
    pub bytes: String,
    pub sentence: String,
    pub sections: Vec<Section>,
    /// What to know before believing it.
    pub notes: Vec<String>,
}

/// What the input gave, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Decoded(Box<Decoded>),
    /// A fact about the whole dump.
    Note {
        line: u64,
        text: String,
    },
    /// Something that could not be read.
    Problem {
        line: u64,
        text: String,
    },
}

/// Where items go.
type Out<'a> = &'a mut dyn FnMut(Item);

/// Reads lines.
#[derive(Debug)]
pub struct Decoder(State);

#[derive(Debug)]
enum State {
    Dump(Box<Dump>),
    Hex(Structures),
}

impl Decoder {
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self(match format {
            Format::Dump => State::Dump(Box::default()),
            Format::Hex { shape, kind, operation } => State::Hex(Structures::new(shape, kind, operation)),
        })
    }

    /// Takes line `number`, counted from 1, without its end.
    pub fn line(&mut self, number: u64, text: &str, out: Out<'_>) {
        match &mut self.0 {
            State::Dump(dump) => dump.line(number, text, out),
            State::Hex(structures) => structures.line(number, text, out),
        }
    }

    /// Something at line `number` could not even be read as text.
    pub fn unreadable(&mut self, number: u64, why: &str, out: Out<'_>) {
        match &mut self.0 {
            State::Dump(dump) => dump.unreadable(number, why, out),
            State::Hex(structures) => structures.broken(number, why.into(), out),
        }
    }

    /// The input is over.
    pub fn finish(&mut self, out: Out<'_>) {
        match &mut self.0 {
            State::Dump(dump) => dump.finish(out),
            State::Hex(structures) => structures.flush(out),
        }
    }
}

/// Whether a line begins a dump.
#[must_use]
pub fn is_dump(line: &str) -> bool {
    line.trim_start().starts_with("Event Log ")
}

/// Bytes of hexadecimal text, cut into structures of one size.
#[derive(Debug)]
struct Structures {
    shape: Shape,
    kind: DeviceKind,
    operation: u8,
    reader: HexReader,
    bytes: Vec<u8>,
    /// Where `bytes` began.
    first_line: u64,
    /// After a line that cannot be read: leave out what belongs to the same structure.
    skipping: bool,
}

impl Structures {
    fn new(shape: Shape, kind: DeviceKind, operation: u8) -> Self {
        let reader = HexReader::default();
        Self { shape, kind, operation, reader, bytes: Vec::new(), first_line: 0, skipping: false }
    }

    fn line(&mut self, number: u64, text: &str, out: Out<'_>) {
        let size = self.shape.bytes(self.kind);
        let line = match self.reader.line(text) {
            Ok(line) => line,
            Err(why) => return self.broken(number, why, out),
        };
        let HexLine { bytes, offset, begins, missing } = line;
        if begins && !self.bytes.is_empty() {
            self.flush(out);
        }
        if let Some(text) = missing {
            self.flush(out);
            self.skipping = true;
            out(Item::Problem { line: number, text });
        }
        if self.skipping && !bytes.is_empty() {
            // With offsets the next structure begins at a multiple of its size.
            if offset.is_some_and(|offset| !offset.is_multiple_of(size as u64)) {
                return out(Item::Problem {
                    line: number,
                    text: format!("left out: it belongs to a {} that is not whole", self.shape.name()),
                });
            }
            self.skipping = false;
        }
        for byte in bytes {
            if self.bytes.is_empty() {
                self.first_line = number;
            }
            self.bytes.push(byte);
            if self.bytes.len() == size {
                self.flush(out);
            }
        }
    }

    fn broken(&mut self, number: u64, why: String, out: Out<'_>) {
        self.flush(out);
        self.reader.lose_place();
        self.skipping = true;
        out(Item::Problem { line: number, text: why });
    }

    /// Gives what there is, whole or not.
    fn flush(&mut self, out: Out<'_>) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return;
        }
        let (size, line) = (self.shape.bytes(self.kind), self.first_line);
        if bytes.len() < size {
            let name = self.shape.name();
            let text = format!("the {name} that begins here has {} of {size} bytes", bytes.len());
            out(Item::Problem { line, text });
        }
        let explanation = explain(self.shape, self.kind, self.operation, &bytes);
        out(Item::Decoded(Box::new(decoded(line, self.shape, self.kind, &bytes, explanation))));
    }
}

fn explain(shape: Shape, kind: DeviceKind, operation: u8, bytes: &[u8]) -> Explanation {
    match shape {
        Shape::Entry => explain_entry(kind, bytes).unwrap_or_else(|| explain_partial_entry(kind, bytes)),
        Shape::Record => explain_record(kind, operation, bytes),
        Shape::Descriptor => explain_descriptor(kind, bytes),
    }
}

fn decoded(line: u64, shape: Shape, kind: DeviceKind, bytes: &[u8], explanation: Explanation) -> Decoded {
    Decoded {
        line,
        shape,
        device: kind.prefix().into(),
        place: None,
        bytes: crate::hex::encode(bytes),
        sentence: explanation.sentence,
        sections: explanation.sections,
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
