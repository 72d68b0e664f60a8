//! The pool of live orders.

use crate::arena::{Arena, ArenaError};
use crate::prefetch::expect_write;
use bytemuck::{Pod, Zeroable};

/// An order: half a cache line.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Order {
    pub id: u64,
    pub size: u32,
    /// Handle of its level.
    pub level: u32,
    /// The order before it in time priority; 0 if it is the first.
    pub prev: u32,
    /// The order after it; 0 if it is the last. In a free order: the next free one.
    pub next: u32,
    /// Instrument and side: see `order_book::market`.
    pub market: u32,
    pub reserved: u32,
}
const _: () = assert!(size_of::<Order>() == 32);

/// The pool of live orders. An [`OrderIndex`](super::OrderIndex) names them by handle; handle 0
/// stands for none.
#[derive(Debug)]
pub struct Orders<'m> {
    orders: &'m mut [Order],
    /// Where a handle out of range lands; none of ours is.
    stray: Order,
    /// First of the freed orders.
    free: u32,
    /// First of those never used.
    fresh: u32,
    pub(super) in_use: u32,
}

impl<'m> Orders<'m> {
    pub(super) fn new(arena: &mut Arena<'m>, orders: u32) -> Result<Self, ArenaError> {
        let orders = arena.alloc_slice("orders", (orders as usize).saturating_add(1))?;
        Ok(Orders { orders, stray: Order::default(), free: 0, fresh: 1, in_use: 0 })
    }

    /// The id of the order with this handle.
    #[inline]
    pub fn id(&self, handle: u32) -> u64 {
        self.get(handle).id
    }

    #[inline]
    pub(super) fn get(&self, handle: u32) -> &Order {
        match self.orders.get(handle as usize) {
            Some(found) => found,
            None => super::out_of_range(&self.stray),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, handle: u32) -> &mut Order {
        match self.orders.get_mut(handle as usize) {
            Some(found) => found,
            None => super::out_of_range(&mut self.stray),
        }
    }

    /// Asks for an order's line. Any handle will do.
    #[inline(always)]
    pub(super) fn expect(&self, handle: u32) {
        expect_write(self.orders.as_ptr().wrapping_add(handle as usize).cast());
    }

    /// The order with this handle, if any, for hints.
    #[inline(always)]
    pub(super) fn peek(&self, handle: u32) -> Order {
        self.orders.get(handle as usize).copied().unwrap_or_default()
    }

    /// A handle for a new order; `None` if all are in use.
    #[inline(always)]
    pub(super) fn claim(&mut self) -> Option<u32> {
        let handle = if self.free != 0 {
            let handle = self.free;
            self.free = self.get(handle).next;
            handle
        } else if (self.fresh as usize) < self.orders.len() {
            let handle = self.fresh;
            self.fresh = handle.wrapping_add(1);
            handle
        } else {
            return None;
        };
        self.in_use = self.in_use.wrapping_add(1);
        Some(handle)
    }

    /// Gives an order's place back; returns what stood there.
    #[inline(always)]
    pub(super) fn release(&mut self, handle: u32) -> Order {
        let next = self.free;
        let place = self.get_mut(handle);
        let order = *place;
        place.next = next;
        self.free = handle;
        self.in_use = self.in_use.wrapping_sub(1);
        order
    }

    /// The most that were in use at a time: one that was never used is claimed only where none is
    /// free.
    pub(super) fn peak(&self) -> u32 {
        self.fresh.saturating_sub(1)
    }

    pub(super) fn capacity(&self) -> u32 {
        (self.orders.len() as u32).saturating_sub(1)
    }
}
