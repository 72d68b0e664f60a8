//! Ladders: the sorted price levels of one side of one book.
//!
//! A ladder is a contiguous run of rungs with the best price at its end, where nearly all orders
//! arrive: the search starts there, and an insert there moves little. Its memory is a block out of
//! one shared store, of 8, 16, .. 65,536 rungs; a ladder that outgrows its block moves to one of
//! twice the size, one that shrank to an eighth moves to one of half.

use crate::arena::{Arena, ArenaError};
use crate::event::Side;
use crate::prefetch::expect_write;
use bytemuck::{Pod, Zeroable};

/// Rungs of the smallest block, and the unit in which the store is counted.
const UNIT_RUNGS: usize = 8;
/// Block sizes: 8 << 0 to 8 << 13 rungs.
const CLASSES: usize = 14;
/// Rungs that are looked at one by one, from the best, before the search halves the rest.
const LINEAR_RUNGS: usize = 16;
/// Rungs up to which a gap is closed one by one: a call of memmove takes as long as moving eight.
const MOVED_ONE_BY_ONE: usize = 8;
/// No block.
const NONE: u32 = u32::MAX;

/// A price and what stands there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Rung {
    /// [`key`] of the price: rises towards the best on either side.
    pub key: i64,
    /// The level's handle, or its size.
    pub value: u64,
}

/// The sort key of a price: itself for bids, its complement for asks, so that the best price of
/// either side has the highest key. Its own inverse.
#[inline]
pub(super) const fn key(side: Side, price: i64) -> i64 {
    match side {
        Side::Bid => price,
        Side::Ask => !price,
    }
}

/// One side's levels: where its block is. Zeroed memory is an empty ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Ladder {
    /// First unit of the block.
    start: u32,
    /// Rungs in use.
    pub len: u32,
    /// Units of the block; 0 if it has none.
    units: u32,
}

/// The store of all ladders' blocks.
#[derive(Debug)]
pub(super) struct Ladders<'m> {
    rungs: &'m mut [Rung],
    /// Units that were never part of a block start here.
    fresh: u32,
    /// First free block of each class, linked through the `value` of their first rung.
    free: [u32; CLASSES],
    /// Ladders that have a block.
    in_use: u32,
}

/// The store (or the largest block) is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LadderFull;

impl<'m> Ladders<'m> {
    /// Rungs to claim for `ladders` ladders with `levels` levels among them: their first blocks,
    /// and four times the levels, because a block may be half empty and leaves its predecessors
    /// behind.
    pub(super) const fn rungs(ladders: usize, levels: usize) -> usize {
        ladders
            .saturating_mul(UNIT_RUNGS)
            .saturating_add(levels.saturating_mul(4).next_multiple_of(UNIT_RUNGS))
    }

    /// A store of that many rungs.
    pub(super) fn new(arena: &mut Arena<'m>, rungs: usize) -> Result<Self, ArenaError> {
        let rungs = arena.alloc_slice("price levels", rungs)?;
        Ok(Ladders { rungs, fresh: 0, free: [NONE; CLASSES], in_use: 0 })
    }

    /// The rungs of `ladder`, the best last.
    #[inline(always)]
    pub(super) fn rungs_of(&self, ladder: &Ladder) -> &[Rung] {
        let start = ladder.start as usize * UNIT_RUNGS;
        self.rungs.get(start..).and_then(|rungs| rungs.get(..ladder.len as usize)).unwrap_or(&[])
    }

    /// The same, to change values in place.
    #[inline(always)]
    pub(super) fn rungs_of_mut(&mut self, ladder: &Ladder) -> &mut [Rung] {
        let start = ladder.start as usize * UNIT_RUNGS;
        let rungs = self.rungs.get_mut(start..).and_then(|all| all.get_mut(..ladder.len as usize));
        rungs.unwrap_or(&mut [])
    }

    /// Asks for the lines of the best eight rungs.
    #[inline(always)]
    pub(super) fn expect(&self, ladder: &Ladder) {
        let end = (ladder.start as usize * UNIT_RUNGS).wrapping_add(ladder.len as usize);
        let best = self.rungs.as_ptr().wrapping_add(end.wrapping_sub(1));
        expect_write(best.cast());
        expect_write(best.wrapping_sub(4).cast());
    }

    /// Where `key` stands, and its value (`Ok`), or where it would (`Err`): the number of rungs below
    /// it.
    #[inline(always)]
    pub(super) fn find(&self, ladder: &Ladder, key: i64) -> Result<(usize, u64), usize> {
        let rungs = self.rungs_of(ladder);
        let mut below = rungs.len();
        for rung in rungs.iter().rev().take(LINEAR_RUNGS) {
            if rung.key <= key {
                return match rung.key == key {
                    true => Ok((below.wrapping_sub(1), rung.value)),
                    false => Err(below),
                };
            }
            below = below.wrapping_sub(1);
        }
        let position =
            rungs.get(..below).unwrap_or(&[]).binary_search_by_key(&key, |rung| rung.key)?;
        Ok((position, rungs.get(position).map_or(0, |rung| rung.value)))
    }

    /// Puts `rung` at `position`, as [`find`](Self::find) gave it.
    #[inline(always)]
    pub(super) fn insert(
        &mut self,
        ladder: &mut Ladder,
        position: usize,
        rung: Rung,
    ) -> Result<(), LadderFull> {
        let len = ladder.len as usize;
        if len == ladder.units as usize * UNIT_RUNGS {
            self.resize(ladder, ladder.units.saturating_mul(2).max(1))?;
        }
        ladder.len = ladder.len.wrapping_add(1);
        let mut carried = rung;
        for slot in self.rungs_of_mut(ladder).iter_mut().skip(position) {
            core::mem::swap(slot, &mut carried);
        }
        Ok(())
    }

    /// Takes the rung at `position` away.
    #[inline(always)]
    pub(super) fn remove(&mut self, ladder: &mut Ladder, position: usize) {
        let rungs = self.rungs_of_mut(ladder).get_mut(position..).unwrap_or(&mut []);
        if rungs.is_empty() {
            return;
        }
        if rungs.len() <= MOVED_ONE_BY_ONE {
            let mut carried = Rung::default();
            for slot in rungs.iter_mut().rev() {
                core::mem::swap(slot, &mut carried);
            }
        } else {
            rungs.copy_within(1.., 0);
        }
        ladder.len = ladder.len.wrapping_sub(1);
        if ladder.units > 1 && ladder.len <= ladder.units {
            // Of half the size there may be none; then the block stays as it is.
            let _ = self.resize(ladder, ladder.units / 2);
        }
    }

    /// Empties `ladder` and gives its block back. Without any ladder left the store is as it was at
    /// first: free blocks are never joined, and a day of small ladders would leave none for large
    /// ones.
    pub(super) fn clear(&mut self, ladder: &mut Ladder) {
        if ladder.units > 0 {
            self.release(ladder.start, ladder.units);
            self.in_use = self.in_use.wrapping_sub(1);
            if self.in_use == 0 {
                (self.fresh, self.free) = (0, [NONE; CLASSES]);
            }
        }
        *ladder = Ladder::default();
    }

    /// Moves `ladder` to a block of `units` (a power of two) units.
    #[cold]
    fn resize(&mut self, ladder: &mut Ladder, units: u32) -> Result<(), LadderFull> {
        let start = self.claim(units)?;
        let target = Ladder { start, len: ladder.len, units };
        for offset in 0..ladder.len as usize {
            let rung = self.rungs_of(ladder).get(offset).copied().unwrap_or_default();
            if let Some(slot) = self.rungs_of_mut(&target).get_mut(offset) {
                *slot = rung;
            }
        }
        if ladder.units > 0 {
            self.release(ladder.start, ladder.units);
        } else {
            self.in_use = self.in_use.wrapping_add(1);
        }
        *ladder = target;
        Ok(())
    }

    /// A block of `units` units: a free one, else a fresh one, else part of a larger free one.
    fn claim(&mut self, units: u32) -> Result<u32, LadderFull> {
        let class = units.trailing_zeros() as usize;
        if let Some(start) = self.pop_free(class) {
            return Ok(start);
        }
        let end = self.fresh.checked_add(units).ok_or(LadderFull)?;
        if class < CLASSES && end as usize <= self.rungs.len() / UNIT_RUNGS {
            return Ok(core::mem::replace(&mut self.fresh, end));
        }
        for larger in class.saturating_add(1)..CLASSES {
            if let Some(start) = self.pop_free(larger) {
                // What is left of it: one block of each class in between.
                for rest in class..larger {
                    let units = 1_u32 << rest;
                    self.release(start.wrapping_add(units), units);
                }
                return Ok(start);
            }
        }
        Err(LadderFull)
    }

    fn pop_free(&mut self, class: usize) -> Option<u32> {
        let head = self.free.get_mut(class)?;
        let start = *head;
        if start == NONE {
            return None;
        }
        *head = self.rungs.get(start as usize * UNIT_RUNGS).map_or(NONE, |rung| rung.value as u32);
        Some(start)
    }

    fn release(&mut self, start: u32, units: u32) {
        let class = units.trailing_zeros() as usize;
        let (Some(head), Some(rung)) =
            (self.free.get_mut(class), self.rungs.get_mut(start as usize * UNIT_RUNGS))
        else {
            return;
        };
        rung.value = u64::from(*head);
        *head = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeMap, vec, vec::Vec};

    /// The most levels that one side can have.
    const RUNGS_MAX: usize = UNIT_RUNGS << (CLASSES - 1);

    fn check(ladders: &Ladders<'_>, all: &[(Ladder, BTreeMap<i64, u64>)]) {
        for (ladder, model) in all {
            let rungs = ladders.rungs_of(ladder);
            let expected: Vec<Rung> =
                model.iter().map(|(&key, &value)| Rung { key, value }).collect();
            assert_eq!(rungs, expected);
            assert!(ladder.len <= ladder.units * UNIT_RUNGS as u32);
        }
        // No two ladders share a unit.
        let mut owner = vec![None; ladders.rungs.len() / UNIT_RUNGS];
        for (at, (ladder, _)) in all.iter().enumerate() {
            for unit in ladder.start..ladder.start + ladder.units {
                assert_eq!(owner[unit as usize].replace(at), None, "unit {unit} is shared");
            }
        }
    }

    proptest! {
        /// Several ladders in a tight store, against sorted maps.
        #[test]
        fn ladders_stay_sorted_and_apart(
            ops in prop::collection::vec((0_usize..3, -60_i64..60, 0_u8..8), 1..400),
        ) {
            let mut region = vec![0_u8; 16 * 200];
            let mut arena = Arena::with_contents_as_found(&mut region);
            let mut ladders = Ladders::new(&mut arena, 192).unwrap();
            let mut all = vec![(Ladder::default(), BTreeMap::new()); 3];
            for (at, key, op) in ops {
                let (ladder, model) = &mut all[at];
                match (op, ladders.find(ladder, key)) {
                    (0, _) => {
                        ladders.clear(ladder);
                        model.clear();
                    }
                    (1..=4, Err(position)) => {
                        prop_assert_eq!(position, model.range(..key).count());
                        let rung = Rung { key, value: key as u64 };
                        if ladders.insert(ladder, position, rung).is_ok() {
                            model.insert(key, key as u64);
                        } else {
                            // Refused only where a block of the next size cannot fit any more.
                            prop_assert!(model.len() >= UNIT_RUNGS || ladders.fresh > 20);
                        }
                    }
                    (_, Ok((position, value))) => {
                        prop_assert_eq!((position, value), (model.range(..key).count(), key as u64));
                        ladders.remove(ladder, position);
                        model.remove(&key);
                    }
                    _ => prop_assert!(!model.contains_key(&key)),
                }
                check(&ladders, &all);
            }
        }
    }

    #[test]
    fn large_ladders_find_room_on_the_day_after_small_ones() {
        const SMALL: usize = 16;
        let mut region = vec![0_u8; 16 * (SMALL + 4) * UNIT_RUNGS];
        let mut arena = Arena::with_contents_as_found(&mut region);
        let mut ladders = Ladders::new(&mut arena, SMALL * UNIT_RUNGS).unwrap();
        let grow = |ladders: &mut Ladders<'_>, ladder: &mut Ladder, rungs: usize| {
            for key in 0..rungs as i64 {
                let position = ladders.find(ladder, key).unwrap_err();
                ladders.insert(ladder, position, Rung { key, value: 0 }).unwrap();
            }
        };
        for _day in 0..3 {
            let mut small = vec![Ladder::default(); SMALL];
            for ladder in &mut small {
                grow(&mut ladders, ladder, UNIT_RUNGS);
            }
            assert_eq!(ladders.claim(2), Err(LadderFull), "all is in use");
            for ladder in &mut small {
                ladders.clear(ladder);
            }
            let mut large = Ladder::default();
            grow(&mut ladders, &mut large, SMALL / 2 * UNIT_RUNGS);
            ladders.clear(&mut large);
        }
    }

    #[test]
    fn a_ladder_grows_to_its_limit_and_shrinks_back() {
        let mut region = vec![0_u8; 16 * (4 * RUNGS_MAX)];
        let mut ladders =
            Ladders::new(&mut Arena::with_contents_as_found(&mut region), 4 * RUNGS_MAX - 8)
                .unwrap();
        let mut ladder = Ladder::default();
        for key in 0..RUNGS_MAX as i64 {
            let position = ladders.find(&ladder, key).unwrap_err();
            ladders.insert(&mut ladder, position, Rung { key, value: 0 }).unwrap();
        }
        let one_more = Rung { key: i64::MAX, value: 0 };
        assert_eq!(ladders.insert(&mut ladder, RUNGS_MAX, one_more), Err(LadderFull));
        assert_eq!(ladder.len as usize, RUNGS_MAX);
        for key in (0..RUNGS_MAX as i64).rev() {
            let (position, _) = ladders.find(&ladder, key).unwrap();
            ladders.remove(&mut ladder, position);
        }
        assert_eq!((ladder.len, ladder.units), (0, 1));
    }
}
