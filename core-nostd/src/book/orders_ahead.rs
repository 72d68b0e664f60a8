//! Asking for the lines of orders before their messages' turn.
//!
//! ```text
//!  messages     now . . 2 . . . . . 5 . . . . . 8 . . . . . . . 12
//!  new order            the last    its level   its ladder      its line of the index,
//!                       order there                             its instrument
//!  other                            its level,  the order       (the same)
//!                                   its neighbours
//! ```
//!
//! An execution or a cancel goes from index to order to level, each of which names the next, and a
//! venue's orders lie in no cache: a message by itself waits three times. Where the messages behind
//! it are there already, in a packet or a file, the waits of several overlap (software pipelining
//! of pointer chases; Chen, Ailamaki, Gibbons and Mowry, "Improving Hash Join Performance through
//! Prefetching", ICDE 2004). Where books lie in a cache it only costs.

use super::ladder;
use super::order_book::side_index;
use super::{OrderBook, OrderIndex};
use crate::event::Side;
use crate::prefetch::expect_write;

/// Messages kept: a power of two above [`OrdersAhead::MESSAGES`].
const KEPT: usize = 16;
const _: () = assert!(KEPT.is_power_of_two() && KEPT > OrdersAhead::MESSAGES);

/// The orders of the messages that come next. Hints alone: whatever it is told, the book stays as it
/// is, and messages may turn out to be others.
///
/// ```
/// use wiretape_core::arena::Arena;
/// use wiretape_core::book::{BookSpec, HashIndex, OrderBook, OrdersAhead, Upcoming};
/// use wiretape_core::event::Side;
///
/// let spec = BookSpec { instruments: 1, orders: 100, levels: 50 };
/// let mut region = vec![0_u8; spec.bytes() + HashIndex::bytes(spec.orders)];
/// let mut arena = Arena::new(&mut region);
/// let index = HashIndex::new(&mut arena, spec.orders).unwrap();
/// let mut book = OrderBook::new(&mut arena, &spec, index).unwrap();
/// for order in 1..=50 {
///     book.add(0, order, Side::Bid, 10_500_000_000, 300).unwrap();
/// }
///
/// let deletes: Vec<u64> = (1..=50).collect();
/// let mut further_on = deletes.iter().map(|&order| Upcoming { instrument: 0, order, adds: None });
/// let mut ahead = OrdersAhead::default();
/// for upcoming in further_on.by_ref().take(OrdersAhead::MESSAGES) {
///     ahead.step(&book, upcoming);
/// }
/// for order in &deletes {
///     ahead.step(&book, further_on.next().unwrap_or_default());
///     book.remove(*order).unwrap();
/// }
/// assert_eq!(book.live_orders(), 0);
/// ```
#[derive(Debug, Default)]
pub struct OrdersAhead {
    upcoming: [Upcoming; KEPT],
    /// Of each the level that it joins.
    joins: [u32; KEPT],
    step: usize,
}

/// What a message that has yet to come is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upcoming {
    /// Its instrument.
    pub instrument: u32,
    /// Its order, 0 for none.
    pub order: u64,
    /// Side and price, if the order is a new one.
    pub adds: Option<(Side, i64)>,
}

impl OrdersAhead {
    /// How far ahead of the message at hand a [`step`](Self::step) is.
    pub const MESSAGES: usize = 12;

    /// Takes a step: `upcoming` is the message [`MESSAGES`](Self::MESSAGES) after the one whose turn
    /// is next. Any numbers will do where there is none.
    #[inline(always)]
    pub fn step<I: OrderIndex>(&mut self, book: &OrderBook<'_, I>, upcoming: Upcoming) {
        let step = self.step;
        self.step = step.wrapping_add(1);
        let at = |distance: usize| step.wrapping_sub(Self::MESSAGES - distance) % KEPT;

        self.upcoming[at(12)] = upcoming;
        book.index.expect(upcoming.order);
        book.expect_instrument(upcoming.instrument);

        let nearer = self.upcoming[at(8)];
        match nearer.adds {
            Some((side, _)) => book.expect_ladder(nearer.instrument, side),
            None => book.orders.expect(book.index.guess(nearer.order)),
        }

        let near = self.upcoming[at(5)];
        match near.adds {
            Some((side, price)) => {
                let level = book.level_at(near.instrument, side, price);
                book.levels.expect(level);
                self.joins[at(5)] = level;
            }
            None => {
                let order = book.orders.peek(book.index.guess(near.order));
                book.levels.expect(order.level);
                book.orders.expect(order.prev);
                book.orders.expect(order.next);
                self.joins[at(5)] = 0;
            }
        }
        book.orders.expect(book.levels.peek(self.joins[at(2)]).tail);
    }
}

impl<I: OrderIndex> OrderBook<'_, I> {
    #[inline(always)]
    fn expect_instrument(&self, instrument: u32) {
        expect_write(self.instruments.as_ptr().wrapping_add(instrument as usize).cast());
    }

    #[inline(always)]
    fn expect_ladder(&self, instrument: u32, side: Side) {
        if let Some(instrument) = self.instruments.get(instrument as usize) {
            self.ladders.expect(&instrument.sides[side_index(side)].ladder);
        }
    }

    /// Handle of the level at a price; 0 if there is none.
    #[inline(always)]
    fn level_at(&self, instrument: u32, side: Side, price: i64) -> u32 {
        let Some(instrument) = self.instruments.get(instrument as usize) else { return 0 };
        let ladder = &instrument.sides[side_index(side)].ladder;
        self.ladders.find(ladder, ladder::key(side, price)).map_or(0, |(_, level)| level as u32)
    }
}
