//! One line of hexadecimal text to bytes. Understands:
//!
//! - `xxd`: `00000000: ac1a 0000  ..` (bytes in order, text after two blanks);
//! - `hexdump -C`: `00000000  ac 1a 00 00  |....|` (bytes in order);
//! - `hexdump`, `od -x`: `0000000 1aac 0000` (16-bit words, low byte first);
//! - words as the driver prints them: `entry[0] = 0x20301001aac`, or `0x...` alone (64-bit, low byte first, 0 without its `0x`);
//! - plain hexadecimal digits, in groups or not (bytes in order).
//!
//! Offsets are checked, so that a missing line is said; `*` stands for repeated lines. Refuses: guessing at what is none of these.

/// Bytes that `*` may stand for: more is a mistake, or meant to exhaust memory.
const REPEAT_BYTES: u64 = 1 << 20;

/// What a line holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HexLine {
    pub bytes: Vec<u8>,
    /// From the first offset of the input.
    pub offset: Option<u64>,
    /// A structure begins here, whatever came before.
    pub begins: bool,
    /// Bytes are missing before it.
    pub missing: Option<String>,
}

/// How the input writes its offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Base {
    #[default]
    Unknown,
    Hex,
    /// `od`.
    Octal,
}

/// Remembers what one line tells of the next.
#[derive(Debug, Default)]
pub(super) struct HexReader {
    base: Base,
    /// First offset of the input as written, and bytes since.
    first: Option<String>,
    position: Option<u64>,
    last: Vec<u8>,
    repeat: bool,
    words: bool,
}

/// A line cut into its parts.
enum Parts<'a> {
    Bytes { offset: Option<&'a str>, bytes: Vec<u8> },
    Words { index: Option<u64>, bytes: Vec<u8> },
}

impl HexReader {
    pub(super) fn line(&mut self, text: &str) -> Result<HexLine, String> {
        let text = text.trim();
        if text.is_empty() {
            // Between structures; within one it ends it.
            return Ok(HexLine { begins: true, ..HexLine::default() });
        }
        if text == "*" {
            if self.last.is_empty() {
                return Err("`*` repeats a line, but none is before it".into());
            }
            self.repeat = true;
            return Ok(HexLine::default());
        }
        match self.parts(text)? {
            Parts::Words { index, bytes } => {
                self.words = true;
                Ok(HexLine { bytes, begins: index == Some(0), ..HexLine::default() })
            }
            Parts::Bytes { offset: None, bytes } => {
                self.last.clone_from(&bytes);
                Ok(HexLine { bytes, ..HexLine::default() })
            }
            Parts::Bytes { offset: Some(offset), bytes } => self.with_offset(offset, bytes),
        }
    }

    /// A line was not understood: the next offset is taken as it is.
    pub(super) fn lose_place(&mut self) {
        self.position = None;
        self.repeat = false;
        self.last.clear();
    }

    fn parts<'a>(&self, text: &'a str) -> Result<Parts<'a>, String> {
        let (index, words) = match text.strip_prefix("entry[").and_then(|rest| rest.split_once(']')) {
            Some((index, rest)) => {
                let rest = rest.trim_start().strip_prefix('=').ok_or("`entry[n]` without its `=`")?;
                (Some(index.parse().map_err(|_| format!("`entry[{index}]`: not a number"))?), rest)
            }
            None => (None, text),
        };
        let is_word = |token: &str| token == "0" || token.starts_with("0x") || token.starts_with("0X");
        let mut tokens = words.split([' ', '\t', ',']).filter(|token| !token.is_empty()).peekable();
        let has_prefix = words.contains("0x") || words.contains("0X");
        if index.is_some() || (has_prefix || self.words) && tokens.peek().is_some_and(|t| is_word(t)) {
            // gdb and crash begin with an address and a colon.
            let tokens = tokens.filter(|token| !token.ends_with(':'));
            let bytes = tokens.map(word).collect::<Result<Vec<_>, _>>()?.concat();
            return Ok(Parts::Words { index, bytes });
        }
        let first = tokens.peek().copied().unwrap_or_default();
        if let Some(offset) = first.strip_suffix(':').filter(|offset| is_hex(offset)) {
            let rest = text.split_once(':').map_or("", |(_, rest)| rest).trim_start();
            let groups = rest.split("  ").next().unwrap_or_default();
            return Ok(Parts::Bytes { offset: Some(offset), bytes: groups_of_bytes(groups)? });
        }
        let rest = text.strip_prefix(first).unwrap_or_default();
        let digits = rest.split('|').next().unwrap_or_default();
        let groups_have = |length: usize| digits.split_whitespace().all(|group| group.len() == length);
        if first.len() == 8
            && is_hex(first)
            && (self.follows(first) || rest.starts_with("  "))
            && groups_have(2)
        {
            return Ok(Parts::Bytes { offset: Some(first), bytes: groups_of_bytes(digits)? });
        }
        if first.len() == 7 && is_hex(first) && groups_have(4) {
            let mut bytes = groups_of_bytes(digits)?;
            bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
            return Ok(Parts::Bytes { offset: Some(first), bytes });
        }
        Ok(Parts::Bytes { offset: None, bytes: groups_of_bytes(text)? })
    }

    /// Whether a line of eight digits alone is the offset that ends a dump.
    fn follows(&self, offset: &str) -> bool {
        self.first.is_some() && self.distance(offset, 16).is_some()
    }

    fn distance(&self, offset: &str, radix: u32) -> Option<u64> {
        let first = u64::from_str_radix(self.first.as_deref()?, radix).ok()?;
        u64::from_str_radix(offset, radix).ok()?.checked_sub(first)
    }

    fn with_offset(&mut self, offset: &str, bytes: Vec<u8>) -> Result<HexLine, String> {
        self.first.get_or_insert_with(|| offset.to_owned());
        let (hex, octal) = (self.distance(offset, 16), self.distance(offset, 8));
        if let (Base::Unknown, Some(position @ 1..)) = (self.base, self.position) {
            match (hex == Some(position), octal == Some(position)) {
                (true, false) => self.base = Base::Hex,
                (false, true) => self.base = Base::Octal,
                _ => {}
            }
        }
        let at = if self.base == Base::Octal { octal } else { hex };
        let at = at.ok_or_else(|| format!("offset {offset} goes back"))?;
        let gap = match self.position {
            Some(position) => at.checked_sub(position).ok_or_else(|| format!("offset {offset} goes back"))?,
            None => 0,
        };
        let length = self.last.len() as u64;
        let may_repeat = length > 0 && gap.is_multiple_of(length) && gap <= REPEAT_BYTES;
        let (repeated, missing) = match (std::mem::take(&mut self.repeat), gap) {
            (_, 0) => (Vec::new(), None),
            (true, _) if may_repeat => (self.last.repeat((gap / length) as usize), None),
            (true, _) => {
                (Vec::new(), Some(format!("`*` before offset {offset} cannot stand for {gap} bytes")))
            }
            (false, _) => (Vec::new(), Some(format!("{gap} bytes are missing before offset {offset}"))),
        };
        self.position = Some(at.saturating_add(bytes.len() as u64));
        self.last.clone_from(&bytes);
        let offset = Some(at - repeated.len() as u64);
        Ok(HexLine { offset, bytes: [repeated, bytes].concat(), missing, ..HexLine::default() })
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A 64-bit word, as the driver prints it: without leading zeros, and 0 without its prefix.
fn word(token: &str) -> Result<[u8; 8], String> {
    let digits = token.strip_prefix("0x").or_else(|| token.strip_prefix("0X"));
    let digits = digits.or((token == "0").then_some("0"));
    let value = digits.filter(|digits| is_hex(digits)).and_then(|d| u64::from_str_radix(d, 16).ok());
    value.map(u64::to_le_bytes).ok_or_else(|| format!("`{}` is not a 64-bit word (0x...)", shown(token)))
}

/// Groups of two, four or any even number of digits, bytes in order.
fn groups_of_bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for group in text.split([' ', '\t', ',']).filter(|group| !group.is_empty()) {
        if !is_hex(group) {
            return Err(format!("`{}` is not hexadecimal", shown(group)));
        }
        if group.len() % 2 != 0 {
            return Err(format!("`{}` has an odd number of digits", shown(group)));
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
        bytes.extend(group.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])));
    }
    Ok(bytes)
}

/// Text from outside, short and without control characters.
pub(super) fn shown(text: &str) -> String {
    const CHARS: usize = 40;
    let mut shown: String = text.chars().take(CHARS).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}
