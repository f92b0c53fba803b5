//! Values that repeat within a block, by number: both sides build the same table as they go.

use std::collections::HashMap;
use std::hash::Hash;

use super::Column;
use crate::columns::Coder;

/// Entries of a table at most; what comes later is written whole each time.
pub(crate) const TABLE: usize = 1 << 16;

/// What repeats. Its code is 0 for what is new, else 1 + its number.
#[derive(Debug)]
pub(super) struct Table<T> {
    values: Vec<T>,
    numbers: HashMap<T, u64>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Table<T> {
    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.numbers.clear();
    }

    /// The number of `value`, if it was found or given one. `fields` codes what is new.
    #[inline]
    pub(super) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        column: Column,
        value: &mut T,
        fields: impl FnOnce(&mut C, &mut T),
    ) -> Option<usize> {
        let mut code = if C::WRITES { self.numbers.get(value).map_or(0, |number| number + 1) } else { 0 };
        c.value(column as usize, &mut code);
        if code > 0 {
            let number = (code - 1) as usize;
            let Some(known) = self.values.get(number) else {
                c.refuse();
                return None;
            };
            *value = *known;
            return Some(number);
        }
        fields(c, value);
        let number = self.values.len();
        if number == TABLE {
            return None;
        }
        if C::WRITES {
            self.numbers.insert(*value, number as u64);
        }
        self.values.push(*value);
        Some(number)
    }
}
