//! Looking at a book: its best prices, levels and queues.

use super::order::Order;
use super::order_book::{side_index, side_of};
use super::{Bbo, BookUsage, OrderBook, OrderIndex};
use crate::event::Side;

/// A price level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelView {
    /// Price in 1e-9.
    pub price: i64,
    /// Quantity of all its orders.
    pub size: u64,
    /// Its orders; in a book of levels 1, as their number is not known.
    pub orders: u32,
}

/// An order in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// The venue's order reference.
    pub order_id: u64,
    /// Quantity left.
    pub size: u32,
}

/// A live order, found by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Price in 1e-9.
    pub price: i64,
    /// Its instrument.
    pub instrument: u32,
    /// Quantity left.
    pub size: u32,
    /// Its side.
    pub side: Side,
}

/// What stands before an order at its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    /// Orders that trade before it.
    pub orders_ahead: u32,
    /// Their quantity.
    pub size_ahead: u64,
}

impl<I: OrderIndex> OrderBook<'_, I> {
    /// Best bid and offer, in O(1). Empty for an instrument beyond those configured.
    #[inline]
    pub fn best(&self, instrument: u32) -> Bbo {
        let mut bbo = Bbo::EMPTY;
        let Some(book) = self.instruments.get(instrument as usize) else { return bbo };
        for side in [Side::Bid, Side::Ask] {
            let best = book.sides[side_index(side)].best;
            if best != 0 {
                let level = self.levels.get(best);
                bbo = bbo.with(side, level.price, level.size, level.count);
            }
        }
        bbo
    }

    /// The levels of one side, best first.
    pub fn levels(&self, instrument: u32, side: Side) -> impl Iterator<Item = LevelView> + '_ {
        self.levels_behind(instrument, side, 0)
    }

    /// The levels of one side without the `better` best ones, best first.
    #[inline]
    pub fn levels_behind(
        &self,
        instrument: u32,
        side: Side,
        better: usize,
    ) -> impl Iterator<Item = LevelView> + '_ {
        let ladder = self.instruments.get(instrument as usize);
        let ladder = ladder.map(|book| book.sides[side_index(side)].ladder).unwrap_or_default();
        let rungs = self.ladders.rungs_of(&ladder);
        let rungs = rungs.get(..rungs.len().saturating_sub(better)).unwrap_or(&[]);
        rungs.iter().rev().map(|rung| {
            let level = self.levels.get(rung.value as u32);
            LevelView { price: level.price, size: level.size, orders: level.count }
        })
    }

    /// The orders at a price, in time priority.
    pub fn orders_at(
        &self,
        instrument: u32,
        side: Side,
        price: i64,
    ) -> impl Iterator<Item = OrderView> + '_ {
        let level = self.level(instrument, side, price);
        let first = level.map_or(0, |level| self.levels.get(level).head);
        self.queue(first).map(|order| OrderView { order_id: order.id, size: order.size })
    }

    /// The order with this id, in O(1).
    #[inline]
    pub fn order(&self, order_id: u64) -> Option<Resting> {
        let located = self.index.locate(order_id, &self.orders);
        (located.handle != 0).then(|| self.resting(self.orders.get(located.handle)))
    }

    /// What stands before an order, in a time that goes with the number of orders ahead.
    pub fn queue_position(&self, order_id: u64) -> Option<QueuePosition> {
        let handle = self.index.locate(order_id, &self.orders).handle;
        if handle == 0 {
            return None;
        }
        let mut position = QueuePosition { orders_ahead: 0, size_ahead: 0 };
        let mut ahead = self.orders.get(handle).prev;
        while ahead != 0 {
            let order = self.orders.get(ahead);
            position.orders_ahead = position.orders_ahead.wrapping_add(1);
            position.size_ahead = position.size_ahead.wrapping_add(u64::from(order.size));
            ahead = order.prev;
        }
        Some(position)
    }

    /// Live orders of all instruments.
    pub fn live_orders(&self) -> u32 {
        self.orders.in_use
    }

    /// Live orders of an instrument.
    pub fn orders_of(&self, instrument: u32) -> u32 {
        self.instruments.get(instrument as usize).map_or(0, |book| book.orders)
    }

    /// Instruments that the book was configured for.
    pub fn instruments(&self) -> u32 {
        self.instruments.len() as u32
    }

    /// Bits of [`health`](super::health): what may be wrong with an instrument's book.
    #[inline]
    pub fn health(&self, instrument: u32) -> u8 {
        self.instruments.get(instrument as usize).map_or(0, |book| book.health as u8)
    }

    /// How full the book is.
    pub fn usage(&self) -> BookUsage {
        BookUsage {
            orders: self.orders.in_use,
            orders_peak: self.orders.peak(),
            orders_capacity: self.orders.capacity(),
            levels: self.levels.in_use,
            levels_peak: self.levels.peak(),
            levels_capacity: self.levels.capacity(),
        }
    }

    #[inline]
    pub(super) fn best_level(&self, instrument: u32, side: Side) -> Option<u32> {
        let book = self.instruments.get(instrument as usize)?;
        let best = book.sides[side_index(side)].best;
        (best != 0).then_some(best)
    }

    fn level(&self, instrument: u32, side: Side, price: i64) -> Option<u32> {
        let ladder = self.instruments.get(instrument as usize)?.sides[side_index(side)].ladder;
        let (_, level) = self.ladders.find(&ladder, super::ladder::key(side, price)).ok()?;
        Some(level as u32)
    }

    /// The orders from `first` to the end of its queue.
    fn queue(&self, first: u32) -> impl Iterator<Item = &Order> {
        let order = move |handle: u32| (handle != 0).then(|| self.orders.get(handle));
        core::iter::successors(order(first), move |before| order(before.next))
    }

    #[inline]
    pub(super) fn resting(&self, order: &Order) -> Resting {
        Resting {
            price: self.levels.get(order.level).price,
            instrument: order.market >> 1,
            size: order.size,
            side: side_of(order.market),
        }
    }
}
