//! Price levels of the order book: a queue of orders and their sums.

use crate::arena::{Arena, ArenaError};
use crate::prefetch::expect_write;
use bytemuck::{Pod, Zeroable};

/// A level: half a cache line.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Level {
    /// Price in 1e-9.
    pub price: i64,
    /// Sum of its orders' sizes. No overflow: fewer than 2^32 orders of less than 2^32 each.
    pub size: u64,
    /// First order in time priority; 0 if there is none.
    pub head: u32,
    /// Last order in time priority; 0 if there is none. In a free level: the next free one.
    pub tail: u32,
    /// Orders.
    pub count: u32,
    pub reserved: u32,
}

/// The pool of levels. Handle 0 stands for none.
#[derive(Debug)]
pub(super) struct Levels<'m> {
    levels: &'m mut [Level],
    /// Where a handle out of range lands; none of ours is.
    stray: Level,
    free: u32,
    fresh: u32,
    pub in_use: u32,
}

impl<'m> Levels<'m> {
    pub(super) fn new(arena: &mut Arena<'m>, levels: u32) -> Result<Self, ArenaError> {
        let levels = arena.alloc_slice("price levels", (levels as usize).saturating_add(1))?;
        Ok(Levels { levels, stray: Level::default(), free: 0, fresh: 1, in_use: 0 })
    }

    #[inline]
    pub(super) fn get(&self, handle: u32) -> &Level {
        match self.levels.get(handle as usize) {
            Some(found) => found,
            None => super::out_of_range(&self.stray),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, handle: u32) -> &mut Level {
        match self.levels.get_mut(handle as usize) {
            Some(found) => found,
            None => super::out_of_range(&mut self.stray),
        }
    }

    /// Asks for a level's line. Any handle will do.
    #[inline(always)]
    pub(super) fn expect(&self, handle: u32) {
        expect_write(self.levels.as_ptr().wrapping_add(handle as usize).cast());
    }

    /// The level with this handle, if any, for hints.
    #[inline(always)]
    pub(super) fn peek(&self, handle: u32) -> Level {
        self.levels.get(handle as usize).copied().unwrap_or_default()
    }

    /// A fresh level at `price`; `None` if all are in use.
    #[inline(always)]
    pub(super) fn claim(&mut self, price: i64) -> Option<u32> {
        let handle = if self.free != 0 {
            let handle = self.free;
            self.free = self.get(handle).tail;
            handle
        } else if (self.fresh as usize) < self.levels.len() {
            let handle = self.fresh;
            self.fresh = handle.wrapping_add(1);
            handle
        } else {
            return None;
        };
        *self.get_mut(handle) = Level { price, ..Level::default() };
        self.in_use = self.in_use.wrapping_add(1);
        Some(handle)
    }

    #[inline(always)]
    pub(super) fn release(&mut self, handle: u32) {
        let next = self.free;
        *self.get_mut(handle) = Level { tail: next, ..Level::default() };
        self.free = handle;
        self.in_use = self.in_use.wrapping_sub(1);
    }

    /// The most that were in use at a time: one that was never used is claimed only where none is
    /// free.
    pub(super) fn peak(&self) -> u32 {
        self.fresh.saturating_sub(1)
    }

    pub(super) fn capacity(&self) -> u32 {
        (self.levels.len() as u32).saturating_sub(1)
    }
}
