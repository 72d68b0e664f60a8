//! Ranges of numbers that are missing, to tell what comes late from what comes twice: the latest
//! ones, in memory claimed at the start.

use crate::arena::{Arena, ArenaError};

/// A range that is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Hole {
    first: u64,
    end: u64,
}

/// The holes. Where there is no room for another, the one with the lowest numbers is forgotten.
///
/// ```
/// use wiretape_core::arena::Arena;
/// use wiretape_core::feed::holes::Holes;
///
/// let mut memory = vec![0; 4096];
/// let mut holes = Holes::new(8, &mut Arena::new(&mut memory))?;
/// holes.push(10, 20);
/// holes.push(25, 30);
/// assert_eq!(holes.fill(12, 27), 10);
/// assert_eq!(holes.fill(12, 27), 0);
/// assert_eq!(holes.fill(0, 100), 5);
/// # Ok::<(), wiretape_core::arena::ArenaError>(())
/// ```
#[derive(Debug)]
pub struct Holes<'m> {
    /// A circle, sorted from `head` on; no two holes touch the same number.
    circle: &'m mut [Hole],
    head: usize,
    len: usize,
}

impl<'m> Holes<'m> {
    /// Room for `count` holes.
    pub fn new(count: usize, arena: &mut Arena<'m>) -> Result<Self, ArenaError> {
        Ok(Holes { circle: arena.alloc_slice("holes of a line", count)?, head: 0, len: 0 })
    }

    /// Place in the circle of the hole that is `index` from the front.
    #[inline]
    fn place(&self, index: usize) -> usize {
        let place = self.head.wrapping_add(index);
        if place >= self.circle.len() { place.wrapping_sub(self.circle.len()) } else { place }
    }

    fn get(&self, index: usize) -> Option<Hole> {
        if index >= self.len {
            return None;
        }
        self.circle.get(self.place(index)).copied()
    }

    fn set(&mut self, index: usize, hole: Hole) {
        let place = self.place(index);
        if let Some(at) = self.circle.get_mut(place) {
            *at = hole;
        }
    }

    fn forget_first(&mut self) {
        self.head = self.place(1);
        self.len = self.len.saturating_sub(1);
    }

    /// Takes note that `first..end` is missing, which lies behind all holes.
    pub fn push(&mut self, first: u64, end: u64) {
        if self.len == self.circle.len() {
            self.forget_first();
        }
        self.set(self.len, Hole { first, end });
        // In a circle without room nothing is ever set, nor found again.
        self.len = self.len.saturating_add(1).min(self.circle.len());
    }

    fn remove(&mut self, index: usize) {
        for at in index.saturating_add(1)..self.len {
            if let Some(hole) = self.get(at) {
                self.set(at.wrapping_sub(1), hole);
            }
        }
        self.len = self.len.saturating_sub(1);
    }

    fn insert(&mut self, index: usize, hole: Hole) {
        self.len = self.len.saturating_add(1).min(self.circle.len());
        let mut at = self.len.saturating_sub(1);
        while at > index {
            if let Some(before) = self.get(at.wrapping_sub(1)) {
                self.set(at, before);
            }
            at = at.wrapping_sub(1);
        }
        self.set(index, hole);
    }

    /// The first hole that ends behind `number`.
    fn first_behind(&self, number: u64) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).is_some_and(|hole| hole.end <= number) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }

    /// Takes `first..end` out of the holes and returns how much of it was missing.
    pub fn fill(&mut self, first: u64, end: u64) -> u64 {
        let mut filled = 0_u64;
        let mut index = self.first_behind(first);
        while let Some(hole) = self.get(index)
            && hole.first < end
        {
            let (low, high) = (hole.first.max(first), hole.end.min(end));
            if low >= high {
                break; // of an empty range nothing is missing
            }
            filled = filled.saturating_add(high.wrapping_sub(low));
            let (before, behind) =
                (Hole { first: hole.first, end: low }, Hole { first: high, end: hole.end });
            match (before.first < before.end, behind.first < behind.end) {
                (false, false) => self.remove(index),
                (false, true) => self.set(index, behind),
                (true, false) => {
                    self.set(index, before);
                    index = index.saturating_add(1);
                }
                (true, true) => {
                    self.set(index, before);
                    if self.len == self.circle.len() {
                        self.forget_first();
                        // Where it was the first it is now forgotten, and what is behind it not.
                        index = index.wrapping_sub(1);
                    }
                    self.insert(index.wrapping_add(1), behind);
                    break;
                }
            }
        }
        filled
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::{vec, vec::Vec};

    #[test]
    fn what_there_is_no_room_for_is_forgotten_from_the_lowest_number_on() {
        let mut memory = vec![0; 1 << 12];
        let mut holes = Holes::new(3, &mut Arena::new(&mut memory)).unwrap();
        for first in [10, 20, 30, 40] {
            holes.push(first, first + 6);
        }
        assert_eq!(holes.fill(10, 16), 0);
        // Cut in two: the lowest goes.
        assert_eq!((holes.fill(32, 34), holes.fill(20, 26)), (2, 0));
        assert_eq!(holes.fill(0, 100), 4 + 6);

        for first in [110, 120, 130] {
            holes.push(first, first + 6);
        }
        // The lowest itself is cut in two: its lower half goes.
        assert_eq!((holes.fill(112, 114), holes.fill(110, 112)), (2, 0));
        assert_eq!(holes.fill(0, 200), 2 + 6 + 6);

        let mut none = Holes::new(0, &mut Arena::new(&mut memory)).unwrap();
        none.push(1, 5);
        assert_eq!(none.fill(0, 9), 0);
    }

    proptest! {
        /// With room for all of them: a set of numbers.
        #[test]
        fn holes_are_a_set_of_numbers(
            steps in prop::collection::vec((any::<bool>(), 0..60_u64, 0..12_u64), 1..200),
        ) {
            let mut memory = vec![0; 1 << 14];
            let mut holes = Holes::new(400, &mut Arena::new(&mut memory)).unwrap();
            // The circle turns.
            (0..390).for_each(|n| holes.push(n, n + 1));
            prop_assert_eq!(holes.fill(0, 390), 390);
            let (mut missing, mut next) = (BTreeSet::new(), 1_000_u64);
            for (is_new, at, count) in steps {
                if is_new {
                    holes.push(next, next + count + 1);
                    missing.extend(next..next + count + 1);
                    next += count + 1 + at % 3;
                } else {
                    let first = (next + 5).saturating_sub(at);
                    let had: Vec<u64> = missing.range(first..first + count).copied().collect();
                    had.iter().for_each(|number| assert!(missing.remove(number)));
                    prop_assert_eq!(holes.fill(first, first + count), had.len() as u64);
                }
            }
            prop_assert_eq!(holes.fill(0, u64::MAX), missing.len() as u64);
        }
    }
}
