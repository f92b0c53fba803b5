//! Dumps of debugfs' `event_log` (idxd-facts sections 2.9 and 5): a header line, then for each entry some fields and its raw words.
//!
//! The raw words are what is decoded: the printed fields leave out the batch identifier and the flags, and serve as a check only.
//! In every version looked at the driver walks the log of an IAA device in steps of 64 bytes, while its entries have 128. So an even
//! index 2n is entry n, an odd one straddles two entries, the printed completion record is never right, and "processed" means nothing.
//! Here that is said and undone.

use super::hex::shown;
use super::{Decoded, Item, Out, Section, Shape, decoded, explain};
use crate::decode::completion;
use crate::decode::entry as entry_fields;
use crate::event::DeviceKind;

const DSA_WORDS: usize = 8;
const IAX_WORDS: usize = 16;
/// In a half entry: the words of the record, then those of the next entry's header.
const HEADER_WORDS: usize = 4;

/// An entry being read.
#[derive(Debug)]
struct Entry {
    line: u64,
    number: u64,
    index: u16,
    processed: bool,
    words: [Option<u64>; IAX_WORDS],
    /// Printed fields, as (name, value); a few at most.
    printed: Vec<(&'static str, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Dump {
    entry: Option<Entry>,
    /// Entries of this dump have 16 words.
    wide: bool,
    /// First of a run of lines that belong to nothing, and how many follow it.
    strange: Option<(u64, String, u64)>,
    lines: u64,
    begun: bool,
}

impl Dump {
    pub(super) fn line(&mut self, number: u64, text: &str, out: Out<'_>) {
        self.lines = number;
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if let Some(rest) = text.strip_prefix("Event Log entry ") {
            self.begun = true;
            self.flush(out);
            match Entry::begin(number, rest) {
                Some(entry) => self.entry = Some(entry),
                None => self.strange(number, text),
            }
        } else if let Some(rest) = text.strip_prefix("Event Log head ") {
            self.begun = true;
            self.flush(out);
            self.wide = false;
            match head(rest) {
                Some(text) => out(Item::Note { line: number, text }),
                None => self.strange(number, text),
            }
        } else if let Some(entry) = &mut self.entry {
            if let Err(why) = entry.take(text) {
                out(Item::Problem { line: number, text: why });
            }
        } else {
            self.strange(number, text);
        }
    }

    pub(super) fn unreadable(&mut self, number: u64, why: &str, out: Out<'_>) {
        self.lines = number;
        out(Item::Problem { line: number, text: why.into() });
    }

    pub(super) fn finish(&mut self, out: Out<'_>) {
        if self.begun {
            self.flush(out);
        } else {
            let text = "no dump of debugfs' event_log: it begins with `Event Log head`; for hexadecimal text say what it holds";
            out(Item::Problem { line: self.lines.max(1), text: text.into() });
        }
    }

    fn strange(&mut self, number: u64, text: &str) {
        match &mut self.strange {
            Some((_, _, more)) => *more += 1,
            None => self.strange = Some((number, shown(text), 0)),
        }
    }

    fn flush(&mut self, out: Out<'_>) {
        if let Some((line, text, more)) = self.strange.take() {
            let more = if more > 0 { format!(", and {more} lines after it") } else { String::new() };
            out(Item::Problem { line, text: format!("not a line of a dump: `{text}`{more}") });
        }
        let Some(entry) = self.entry.take() else { return };
        let wide = entry.words[DSA_WORDS..].iter().any(Option::is_some);
        if wide && !self.wide {
            self.wide = true;
            let text = "entries of 16 words: an IAA device. The driver prints its log in steps of 64 bytes, while entries have 128: \
                        only even indices are entries, and \"processed\" and the printed records mean nothing";
            out(Item::Note { line: entry.line, text: text.into() });
        }
        entry.give(self.wide, out);
    }
}

/// The header line after its first words.
fn head(rest: &str) -> Option<String> {
    let mut words = rest.split_whitespace();
    let head: u64 = words.next()?.parse().ok()?;
    let tail: u64 = words.by_ref().nth(1)?.parse().ok()?;
    let pending = words.last()?;
    let state = if head == tail { "empty".to_owned() } else { format!("entries wait from {head} to {tail}") };
    let pending = if pending == "0" { "no interrupt pending" } else { "an interrupt pending" };
    Some(format!("head {head}, tail {tail}: {state}, {pending}"))
}

impl Entry {
    /// From `<number> (real index <index>) processed: <0/1>`.
    fn begin(line: u64, rest: &str) -> Option<Self> {
        let (number, rest) = rest.split_once(" (real index ")?;
        let (index, rest) = rest.split_once(')')?;
        let processed = rest.trim().strip_prefix("processed:")?.trim();
        Some(Self {
            line,
            number: number.trim().parse().ok()?,
            index: index.trim().parse().ok()?,
            processed: match processed {
                "0" => false,
                "1" => true,
                _ => return None,
            },
            words: [None; IAX_WORDS],
            printed: Vec::new(),
        })
    }

    /// One line of the entry.
    fn take(&mut self, text: &str) -> Result<(), String> {
        if let Some((index, value)) = text.strip_prefix("entry[").and_then(|rest| rest.split_once(']')) {
            let value = value.trim().strip_prefix('=').map(str::trim).and_then(number);
            let slot = index.parse::<usize>().ok().and_then(|index| self.words.get_mut(index));
            return match (slot, value) {
                (Some(slot @ None), Some(value)) => {
                    *slot = Some(value);
                    Ok(())
                }
                (Some(Some(_)), Some(_)) => Err(format!("entry[{}] is there twice", shown(index))),
                (None, _) => Err(format!("entry[{}]: an entry has 8 or 16 words", shown(index))),
                (_, None) => Err(format!("`{}`: not a 64-bit word", shown(text))),
            };
        }
        let checked = [("error", " error "), ("operation", " op "), ("PASID", " pasid ")];
        let starts = ["desc valid ", "batch ", "wq idx ", "fault addr ", "status "];
        if !starts.iter().any(|start| text.starts_with(start)) {
            return Err(format!("not a line of an entry: `{}`", shown(text)));
        }
        let padded = format!(" {text} ");
        let found = checked.iter().chain(&[("status", " status ")]).filter_map(|(name, key)| {
            let value = padded.split_once(key)?.1.split_whitespace().next()?;
            Some((*name, value))
        });
        for (name, value) in found {
            let value = number(value).ok_or_else(|| format!("{name} `{}`: not a number", shown(value)))?;
            if self.printed.len() < 8 {
                self.printed.push((name, value));
            }
        }
        Ok(())
    }

    fn give(self, wide: bool, out: Out<'_>) {
        let (kind, count) = if wide { (DeviceKind::Iax, IAX_WORDS) } else { (DeviceKind::Dsa, DSA_WORDS) };
        let words: Vec<u64> = self.words.iter().map_while(|word| *word).collect();
        if words.len() < count {
            let later = self.words.iter().enumerate().skip(words.len() + 1);
            let later: Vec<_> =
                later.filter_map(|(n, word)| word.map(|word| format!("entry[{n}] = {word:#x}"))).collect();
            let later =
                if later.is_empty() { String::new() } else { format!("; beyond that {}", later.join(", ")) };
            let text = format!("entry {} has {} of {count} words{later}", self.number, words.len());
            out(Item::Problem { line: self.line, text });
        }
        if words.is_empty() {
            return;
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut item = if wide && !self.index.is_multiple_of(2) {
            self.straddling(&bytes)
        } else {
            decoded(self.line, Shape::Entry, kind, &bytes, explain(Shape::Entry, kind, 0, &bytes))
        };
        item.place = Some(if wide {
            format!(
                "entry {}, printed index {}: bytes {} on of the log",
                self.number,
                self.index,
                u64::from(self.index) * 64
            )
        } else {
            let state = if self.processed { "processed by the driver" } else { "not yet processed" };
            format!("entry {}, index {}, {state}", self.number, self.index)
        });
        if wide && self.index.is_multiple_of(2) {
            item.notes.push(format!("entry {} of the log", self.index / 2));
        }
        if !wide {
            item.notes.extend(self.disagreement(&bytes));
        }
        out(Item::Decoded(Box::new(item)));
    }

    /// The second half of an IAA entry and the first of the next.
    fn straddling(&self, bytes: &[u8]) -> Decoded {
        let kind = DeviceKind::Iax;
        let entry = self.index / 2;
        let (record, next) = bytes.split_at(bytes.len().min(DSA_WORDS * 8));
        let next = &next[..next.len().min(HEADER_WORDS * 8)];
        let sections = vec![
            Section {
                title: format!("completion record of entry {entry} of the log"),
                fields: completion(kind, 0, record),
            },
            Section {
                title: format!("header of the entry after it, {}", entry + 1),
                fields: entry_fields(kind, next),
            },
        ];
        let sentence = format!(
            "No entry: the driver's step of 64 bytes ends in the middle of entry {entry}; its record and the next entry's header follow."
        );
        decoded(self.line, Shape::Entry, kind, bytes, super::Explanation { sentence, sections })
    }

    /// Printed fields that the raw words contradict.
    fn disagreement(&self, bytes: &[u8]) -> Option<String> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let raw = |name: &str| -> Option<u64> {
            Some(match name {
                "error" => u64::from(*bytes.get(1)?),
                "operation" => u64::from(*bytes.get(4)?),
                "PASID" => u64::from(u32_at(5)? & dsascope_common::hw::PASID_MASK),
                "status" => u64::from(*bytes.get(32)?),
                _ => return None,
            })
        };
        let differ: Vec<_> = self
            .printed
            .iter()
            .filter(|(name, printed)| raw(name).is_some_and(|raw| raw != *printed))
            .map(|(name, _)| *name)
            .collect();
        (!differ.is_empty()).then(|| {
            format!(
                "{} printed otherwise than in the raw words: the log changed while it was read",
                differ.join(", ")
            )
        })
    }
}

/// Decimal, or hexadecimal with `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}
