//! A block's payload as columns of numbers: what is alike stands together, so that little is left of it after compression.
//!
//! A column is cut into byte planes: the lowest bytes of all its values, then the next, as many as its largest value has. The noise of a
//! time is in the low planes alone, and the high ones compress to next to nothing. Reading is bounded by the payload's size and gives an
//! error, never a panic.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

/// What is written or read: the codec is one description for both directions.
pub(crate) trait Coder {
    /// Values come from the event, not into it.
    const WRITES: bool;

    /// One value of a column: written, or read into `value`. Beyond a column's end 0 is read and [`Reading::is_short`] says so.
    fn value(&mut self, column: usize, value: &mut u64);

    /// Bytes of their own, such as text.
    fn bytes(&mut self, length_column: usize, bytes: &mut Vec<u8>);

    /// A value as its distance from another.
    fn near(&mut self, column: usize, base: u64, value: &mut u64) {
        let mut code = zigzag(value.wrapping_sub(base));
        self.value(column, &mut code);
        *value = base.wrapping_add(unzigzag(code));
    }

    /// A value of a narrower type; one that does not fit was made by no writer.
    fn narrow<T: Copy + Into<u64> + TryFrom<u64>>(&mut self, column: usize, value: &mut T) {
        let mut wide = (*value).into();
        self.value(column, &mut wide);
        match T::try_from(wide) {
            Ok(narrow) => *value = narrow,
            Err(_) => self.refuse(),
        }
    }

    /// What was read cannot be.
    fn refuse(&mut self);
}

const fn zigzag(distance: u64) -> u64 {
    (distance << 1) ^ ((distance as i64 >> 63) as u64)
}

const fn unzigzag(code: u64) -> u64 {
    (code >> 1) ^ (code & 1).wrapping_neg()
}

/// Columns being written.
#[derive(Debug)]
pub(crate) struct Writing {
    columns: Vec<Vec<u64>>,
    text: Vec<u8>,
}

impl Writing {
    pub(crate) fn new(columns: usize) -> Self {
        Self { columns: vec![Vec::new(); columns], text: Vec::new() }
    }

    pub(crate) fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Appends the payload to `out` and begins anew. A column is its count (4 bytes), its width in bytes (1), its planes; after the last
    /// one comes the text.
    pub(crate) fn take(&mut self, out: &mut Vec<u8>) {
        for column in &mut self.columns {
            let most = column.iter().fold(0, |all, value| all | value);
            let width = (u64::BITS - most.leading_zeros()).div_ceil(8);
            // A block has fewer events than 2^32, and an event few values.
            out.extend_from_slice(U32::new(column.len() as u32).as_bytes());
            out.push(width as u8);
            for plane in 0..width {
                out.extend(column.iter().map(|value| (value >> (8 * plane)) as u8));
            }
            column.clear();
        }
        out.append(&mut self.text);
    }
}

impl Coder for Writing {
    const WRITES: bool = true;

    fn value(&mut self, column: usize, value: &mut u64) {
        self.columns[column].push(*value);
    }

    fn bytes(&mut self, length_column: usize, bytes: &mut Vec<u8>) {
        self.columns[length_column].push(bytes.len() as u64);
        self.text.extend_from_slice(bytes);
    }

    fn refuse(&mut self) {}
}

/// Values of a column that are put together at once: those of all columns stay in the processor's cache, which a block's do not.
const AT_ONCE: usize = 128;

/// Columns that can be read, at least as many as any version has: a number known at compile time needs no check when one is looked up.
pub(crate) const MOST_COLUMNS: usize = 128;

/// Columns being read.
#[derive(Debug)]
pub(crate) struct Reading {
    columns: Box<[Column; MOST_COLUMNS]>,
    payload: Vec<u8>,
    text_at: usize,
    wrong: bool,
}

#[derive(Debug, Default)]
struct Column {
    /// Put together, and the next of them.
    values: Vec<u64>,
    at: usize,
    /// Where in the payload the planes are, how long each is, and how many there are.
    planes: usize,
    count: usize,
    width: usize,
    /// Values put together so far.
    taken: usize,
}

impl Column {
    /// Puts the next values together; none at the end.
    fn fill(&mut self, payload: &[u8]) {
        let count = (self.count - self.taken).min(AT_ONCE);
        self.at = 0;
        self.values.clear();
        let plane = |number: usize| &payload[self.planes + number * self.count + self.taken..][..count];
        match self.width {
            0 => self.values.resize(count, 0),
            _ => self.values.extend(plane(0).iter().map(|&byte| u64::from(byte))),
        }
        for number in 1..self.width {
            for (value, &byte) in self.values.iter_mut().zip(plane(number)) {
                *value |= u64::from(byte) << (8 * number);
            }
        }
        self.taken += count;
    }

    /// The first of the next values.
    #[cold]
    fn refill(&mut self, payload: &[u8]) -> Option<u64> {
        self.fill(payload);
        let first = self.values.first().copied();
        self.at = usize::from(first.is_some());
        first
    }
}

impl Default for Reading {
    fn default() -> Self {
        let columns = Box::new(std::array::from_fn(|_| Column::default()));
        Self { columns, payload: Vec::new(), text_at: 0, wrong: false }
    }
}

impl Reading {
    /// Takes a payload apart, in exchange for the one before: `stored` columns of at most `most` values. The rest, which a later version
    /// added, are empty. False: it is not made so.
    pub(crate) fn load(&mut self, stored: usize, most: usize, payload: &mut Vec<u8>) -> bool {
        self.wrong = false;
        std::mem::swap(&mut self.payload, payload);
        let payload = &self.payload[..];
        for column in &mut *self.columns {
            *column = Column { values: std::mem::take(&mut column.values), ..Column::default() };
            column.values.clear();
        }
        let mut rest = payload;
        for column in self.columns.iter_mut().take(stored) {
            let Ok((count, after)) = U32::read_from_prefix(rest) else { return false };
            let Some((&width, after)) = after.split_first() else { return false };
            let count = count.get() as usize;
            let bytes = count.saturating_mul(usize::from(width));
            // Zeros have no planes and cost the file nothing, so the payload's size alone is no limit.
            if width > 8 || bytes > after.len() || count > most {
                return false;
            }
            column.planes = payload.len() - after.len();
            (column.count, column.width) = (count, usize::from(width));
            rest = &after[bytes..];
        }
        self.text_at = payload.len() - rest.len();
        true
    }

    /// More was asked for than there is, or a value could not be.
    pub(crate) fn is_wrong(&self) -> bool {
        self.wrong
    }
}

impl Coder for Reading {
    const WRITES: bool = false;

    #[inline]
    fn value(&mut self, column: usize, value: &mut u64) {
        let column = &mut self.columns[column];
        *value = match column.values.get(column.at) {
            Some(&found) => {
                column.at += 1;
                found
            }
            None => column.refill(&self.payload).unwrap_or_else(|| {
                self.wrong = true;
                0
            }),
        };
    }

    fn bytes(&mut self, length_column: usize, bytes: &mut Vec<u8>) {
        let mut length = 0;
        self.value(length_column, &mut length);
        bytes.clear();
        let end = usize::try_from(length).ok().and_then(|length| self.text_at.checked_add(length));
        match end.and_then(|end| self.payload.get(self.text_at..end)) {
            Some(text) => {
                bytes.extend_from_slice(text);
                self.text_at += text.len();
            }
            None => self.wrong = true,
        }
    }

    fn refuse(&mut self) {
        self.wrong = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn columns_read_back(columns in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..50), 1..5), base: u64) {
            let mut writing = Writing::new(columns.len());
            for (number, column) in columns.iter().enumerate() {
                for &value in column {
                    writing.near(number, base, &mut value.clone());
                }
            }
            let mut payload = Vec::new();
            writing.take(&mut payload);
            let mut reading = Reading::default();
            prop_assert!(reading.load(columns.len(), 50, &mut payload));
            for (number, column) in columns.iter().enumerate() {
                for &value in column {
                    let mut read = 0;
                    reading.near(number, base, &mut read);
                    prop_assert_eq!(read, value);
                }
            }
            prop_assert!(!reading.is_wrong());
            reading.value(0, &mut 0);
            prop_assert!(reading.is_wrong());
        }

        #[test]
        fn any_bytes_are_taken_or_refused(mut payload in prop::collection::vec(any::<u8>(), 0..200), columns in 1usize..8) {
            let mut reading = Reading::default();
            let _ = reading.load(columns, 100, &mut payload);
        }

        #[test]
        fn columns_of_a_later_version_are_empty(values in prop::collection::vec(any::<u64>(), 1..20), text: Vec<u8>) {
            let mut reading = Reading::default();
            for stored in [3, 2] {
                let mut writing = Writing::new(stored);
                for column in 0..stored {
                    values.iter().for_each(|value| writing.value(column, &mut value.clone()));
                }
                writing.bytes(0, &mut text.clone());
                let mut payload = Vec::new();
                writing.take(&mut payload);
                prop_assert!(reading.load(stored, 50, &mut payload));
                for column in 0..stored {
                    for &value in &values {
                        let mut read = 0;
                        reading.value(column, &mut read);
                        prop_assert_eq!(read, value);
                    }
                }
                let mut read = Vec::new();
                reading.bytes(0, &mut read);
                prop_assert_eq!(&read, &text);
                prop_assert!(!reading.is_wrong());
            }
            // What the last payload does not have was not left over from the one before.
            reading.value(2, &mut 0);
            prop_assert!(reading.is_wrong());
        }
    }
}
