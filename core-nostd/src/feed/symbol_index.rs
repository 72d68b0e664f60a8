//! From a venue's eight-byte symbol to a local instrument number, for feeds that name instruments
//! by symbol in every message (IEX).
//!
//! Open addressing with linear probing over memory claimed at start, at most half full. Symbols
//! are never removed: a venue lists a bounded number, and numbers must not move during a day.

use crate::arena::{Arena, ArenaError};

/// Multiplier of Fibonacci hashing: 2^64 divided by the golden ratio.
const FIBONACCI: u64 = 0x9E37_79B9_7F4A_7C15;

/// The index.
#[derive(Debug)]
pub struct SymbolIndex<'m> {
    /// Pairs of key (0: free) and local number.
    slots: &'m mut [[u64; 2]],
    shift: u32,
    used: u32,
    capacity: u32,
}

impl<'m> SymbolIndex<'m> {
    /// An index for up to `capacity` symbols.
    pub fn new(capacity: u32, arena: &mut Arena<'m>) -> Result<Self, ArenaError> {
        let slots = (capacity as usize).max(1).saturating_mul(2).next_power_of_two();
        let shift = 64 - slots.trailing_zeros();
        Ok(SymbolIndex {
            slots: arena.alloc_slice("symbol index", slots)?,
            shift,
            used: 0,
            capacity,
        })
    }

    /// The number of `symbol`, newly given if it is new; the flag says so. `None` if the index is
    /// full.
    #[inline]
    pub fn get_or_insert(&mut self, symbol: [u8; 8]) -> Option<(u32, bool)> {
        // A symbol is ASCII, so no real key is zero.
        let key = u64::from_le_bytes(symbol).max(1);
        let mask = self.slots.len().wrapping_sub(1);
        let mut index = (key.wrapping_mul(FIBONACCI) >> self.shift) as usize;
        // At most half of the slots are taken: a free one ends the search.
        for _ in 0..self.slots.len() {
            let [slot_key, local] = self.slots.get_mut(index & mask)?;
            if *slot_key == key {
                return Some((*local as u32, false));
            }
            if *slot_key == 0 {
                if self.used >= self.capacity {
                    return None;
                }
                *slot_key = key;
                *local = u64::from(self.used);
                self.used = self.used.wrapping_add(1);
                return Some((self.used.wrapping_sub(1), true));
            }
            index = index.wrapping_add(1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::vec;

    proptest::proptest! {
        #[test]
        fn numbers_are_dense_stable_and_bounded(
            symbols in proptest::collection::vec(0u64..40, 0..200), capacity in 1u32..32,
        ) {
            let mut memory = vec![0u8; 1 << 12];
            let mut arena = Arena::new(&mut memory);
            let mut index = SymbolIndex::new(capacity, &mut arena).unwrap();
            let mut model: HashMap<u64, u32> = HashMap::new();
            for symbol in symbols {
                let next = model.len() as u32;
                let expected = match model.get(&symbol) {
                    Some(local) => Some((*local, false)),
                    None if next < capacity => {
                        model.insert(symbol, next);
                        Some((next, true))
                    }
                    None => None,
                };
                let name = (symbol + 0x41).to_le_bytes();
                proptest::prop_assert_eq!(index.get_or_insert(name), expected);
            }
        }
    }
}
