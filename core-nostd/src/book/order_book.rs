//! The book of every order (L3) of a feed's instruments.

use super::ladder::{self, Ladder, Ladders, Rung};
use super::level::{Level, Levels};
use super::order::{Order, Orders};
use super::{Added, Applied, BookError, Modified, OrderIndex, Place, Reduced, Replaced, health};
use crate::arena::{Arena, ArenaError, slice_bytes};
use crate::event::{MboMsg, Side, UNDEF_PRICE, action, flags};
use bytemuck::{Pod, Zeroable};

/// How much memory a book claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookSpec {
    /// Instruments: their indices run from 0 up to this, at most 2^31. 64 bytes each, and 256 for
    /// their first ladders.
    pub instruments: u32,
    /// Orders live at one time, over all instruments. 32 bytes each, beside their index.
    pub orders: u32,
    /// Price levels at one time, over all instruments and sides. 96 bytes each. Fewer may fill the book if
    /// they are spread over many sides that were longer before: see [`BookError::LevelsFull`].
    pub levels: u32,
}

impl BookSpec {
    /// Bytes of arena that the book takes at most; its index comes on top.
    pub const fn bytes(&self) -> usize {
        slice_bytes::<Instrument>(self.instruments as usize)
            .saturating_add(slice_bytes::<Order>((self.orders as usize).saturating_add(1)))
            .saturating_add(slice_bytes::<Level>((self.levels as usize).saturating_add(1)))
            .saturating_add(slice_bytes::<Rung>(self.rungs()))
    }

    const fn rungs(&self) -> usize {
        Ladders::rungs((self.instruments as usize).saturating_mul(2), self.levels as usize)
    }
}

/// The book of every order of a feed, found by id through the index `I`.
///
/// ```
/// use wiretape_core::arena::Arena;
/// use wiretape_core::book::{BookSpec, HashIndex, OrderBook};
/// use wiretape_core::event::Side;
///
/// let spec = BookSpec { instruments: 2, orders: 100, levels: 50 };
/// let mut region = vec![0_u8; spec.bytes() + HashIndex::bytes(spec.orders)];
/// let mut arena = Arena::new(&mut region);
/// let index = HashIndex::new(&mut arena, spec.orders).unwrap();
/// let mut book = OrderBook::new(&mut arena, &spec, index).unwrap();
///
/// book.add(1, 7001, Side::Bid, 10_500_000_000, 300).unwrap();
/// book.add(1, 7002, Side::Bid, 10_500_000_000, 200).unwrap();
/// let filled = book.reduce(7001, 100).unwrap();
/// assert_eq!((filled.price, filled.left, filled.top), (10_500_000_000, 200, true));
/// let best = book.best(1);
/// assert_eq!((best.bid_px, best.bid_sz, best.bid_ct), (10_500_000_000, 400, 2));
/// ```
#[derive(Debug)]
pub struct OrderBook<'m, I> {
    pub(super) instruments: &'m mut [Instrument],
    pub(super) orders: Orders<'m>,
    pub(super) levels: Levels<'m>,
    pub(super) ladders: Ladders<'m>,
    pub(super) index: I,
}

/// One side of an instrument's book.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct SideBook {
    pub ladder: Ladder,
    /// Handle of the best level; 0 if there is none.
    pub best: u32,
}

/// An instrument's book: one cache line.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Instrument {
    /// Bids, asks.
    pub sides: [SideBook; 2],
    /// Live orders of both sides.
    pub orders: u32,
    /// Bits of [`health`].
    pub health: u32,
    pub reserved: [u32; 6],
}
const _: () = assert!(size_of::<Instrument>() == 64);

/// Instrument and side in one number, as an order carries them.
#[inline]
const fn market(instrument: u32, side: Side) -> u32 {
    instrument << 1 | side_index(side) as u32
}

/// Place of a side in [`Instrument::sides`].
#[inline]
pub(super) const fn side_index(side: Side) -> usize {
    match side {
        Side::Bid => 0,
        Side::Ask => 1,
    }
}

/// The side of a market number.
#[inline]
pub(super) const fn side_of(market: u32) -> Side {
    if market & 1 == 0 { Side::Bid } else { Side::Ask }
}

// What each message goes through is inlined into its caller: where a book has several callers the
// compiler makes calls of it, which costs 7 % of a replay of a day (3 % of the whole path).
impl<'m, I: OrderIndex> OrderBook<'m, I> {
    /// An empty book in memory of `arena` (the one that zeroes, or one over zeros).
    pub fn new(arena: &mut Arena<'m>, spec: &BookSpec, index: I) -> Result<Self, ArenaError> {
        Ok(OrderBook {
            instruments: arena.alloc_slice("instruments", spec.instruments as usize)?,
            orders: Orders::new(arena, spec.orders)?,
            levels: Levels::new(arena, spec.levels)?,
            ladders: Ladders::new(arena, spec.rungs())?,
            index,
        })
    }

    /// Adds an order at the back of its level.
    #[inline(always)]
    pub fn add(
        &mut self,
        instrument: u32,
        order_id: u64,
        side: Side,
        price: i64,
        size: u32,
    ) -> Result<Added, BookError> {
        let added = self.add_new(instrument, side, order_id, price, size);
        if added.is_err() {
            self.mark(instrument, health::BOOK_ERROR);
        }
        added
    }

    /// Takes `size` from an order: an execution or a partial cancel. At nothing left, it is gone.
    #[inline(always)]
    pub fn reduce(&mut self, order_id: u64, size: u32) -> Result<Reduced, BookError> {
        let located = self.index.locate(order_id, &self.orders);
        if located.handle == 0 {
            return Err(BookError::UnknownOrder);
        }
        let order = self.orders.get_mut(located.handle);
        if size < order.size && size != 0 {
            order.size = order.size.wrapping_sub(size);
            let order = *order;
            let level = self.levels.get_mut(order.level);
            level.size = level.size.wrapping_sub(u64::from(size));
            let price = level.price;
            return Ok(self.reduced(&order, price, size, order.size));
        }
        if size == 0 {
            return Err(BookError::ZeroSize);
        }
        let removed = self.take_out(located.place, located.handle);
        if size > removed.removed {
            self.mark(removed.instrument, health::BOOK_ERROR);
            return Err(BookError::Overfill { removed, asked: size });
        }
        Ok(removed)
    }

    /// Removes an order, whatever it has left.
    #[inline(always)]
    pub fn remove(&mut self, order_id: u64) -> Result<Reduced, BookError> {
        let located = self.index.locate(order_id, &self.orders);
        if located.handle == 0 {
            return Err(BookError::UnknownOrder);
        }
        Ok(self.take_out(located.place, located.handle))
    }

    /// Removes order `old_id` and adds `new_id`, of the same instrument and side, at the back of
    /// its level. The old order goes also where the new one cannot be added, as the exchange says
    /// that it is gone.
    #[inline]
    pub fn replace(
        &mut self,
        old_id: u64,
        new_id: u64,
        price: i64,
        size: u32,
    ) -> Result<Replaced, BookError> {
        let removed = self.remove(old_id)?;
        let added = self.add(removed.instrument, new_id, removed.side, price, size);
        Ok(Replaced { removed, added })
    }

    /// Sets an order's price and size, as DBN's action M: at another price, on the other side or
    /// with a larger size it goes to the back of the queue. An unknown order is added.
    pub fn modify(
        &mut self,
        instrument: u32,
        order_id: u64,
        side: Side,
        price: i64,
        size: u32,
    ) -> Result<Modified, BookError> {
        let located = self.index.locate(order_id, &self.orders);
        if located.handle == 0 {
            let added = self.add(instrument, order_id, side, price, size)?;
            return Ok(Modified { previous: None, kept_priority: false, top: added.top });
        }
        let order = *self.orders.get(located.handle);
        let refused = if order.market >> 1 != instrument {
            Err(BookError::WrongInstrument)
        } else {
            check(price, size)
        };
        if refused.is_err() {
            self.mark(instrument, health::BOOK_ERROR);
        }
        refused?;
        let level_price = self.levels.get(order.level).price;
        let previous = Some(self.resting(&order));
        if side_of(order.market) == side && level_price == price && size <= order.size {
            let less = order.size.wrapping_sub(size);
            self.orders.get_mut(located.handle).size = size;
            let level = self.levels.get_mut(order.level);
            level.size = level.size.wrapping_sub(u64::from(less));
            let top = self.is_best(&order);
            return Ok(Modified { previous, kept_priority: true, top });
        }
        let removed = self.take_out(located.place, located.handle);
        let added = self.add(instrument, order_id, side, price, size)?;
        Ok(Modified { previous, kept_priority: false, top: removed.top || added.top })
    }

    /// Removes all orders of an instrument, and with them its bad health. Returns their number.
    pub fn clear(&mut self, instrument: u32) -> Result<u32, BookError> {
        let mut removed = 0_u32;
        for side in [Side::Bid, Side::Ask] {
            while let Some(best) = self.best_level(instrument, side) {
                let id = self.orders.id(self.levels.get(best).head);
                if self.remove(id).is_err() {
                    break;
                }
                removed = removed.wrapping_add(1);
            }
        }
        let Some(cleared) = self.instruments.get_mut(instrument as usize) else {
            return Err(BookError::UnknownInstrument);
        };
        cleared.health = 0;
        for side in &mut cleared.sides {
            self.ladders.clear(&mut side.ladder);
        }
        Ok(removed)
    }

    /// Removes all orders of all instruments. Takes a time that goes with their number, not with
    /// the memory configured.
    pub fn clear_all(&mut self) {
        for instrument in 0..self.instruments.len() as u32 {
            // All of these instruments are known.
            let _ = self.clear(instrument);
        }
    }

    /// Applies a DBN record of market-by-order kind. A, C, M and R change the book; T, F and N
    /// never do. An error marks the record's instrument.
    pub fn apply(&mut self, msg: &MboMsg) -> Result<Applied, BookError> {
        let applied = self.apply_action(msg);
        if applied.is_err() {
            self.mark(msg.hd.instrument_id, health::BOOK_ERROR);
        }
        applied
    }

    #[inline]
    fn apply_action(&mut self, msg: &MboMsg) -> Result<Applied, BookError> {
        let instrument = msg.hd.instrument_id;
        match msg.action {
            action::TRADE | action::FILL | action::NONE => return Ok(Applied::Unchanged),
            action::CLEAR => return self.clear(instrument).map(Applied::Cleared),
            _ if msg.flags & (flags::MBP | flags::TOB) != 0 => return Err(BookError::NotAnOrder),
            action::ADD | action::CANCEL | action::MODIFY => {}
            _ => return Err(BookError::InvalidAction),
        }
        let (id, price, size) = (msg.order_id, msg.price, msg.size);
        if msg.action == action::CANCEL {
            if self.order(id).is_some_and(|order| order.instrument != instrument) {
                return Err(BookError::WrongInstrument);
            }
            return self.reduce(id, size).map(Applied::Reduced);
        }
        let side = Side::from_dbn(msg.side).ok_or(BookError::InvalidSide)?;
        if msg.action == action::ADD {
            return self.add(instrument, id, side, price, size).map(Applied::Added);
        }
        self.modify(instrument, id, side, price, size).map(Applied::Modified)
    }

    /// Adds bits of [`health`] to an instrument's: for who finds a loss, or an error whose order
    /// the book does not know. They stay until the instrument is cleared.
    pub fn mark(&mut self, instrument: u32, bits: u8) {
        if let Some(marked) = self.instruments.get_mut(instrument as usize) {
            marked.health |= u32::from(bits);
        }
    }

    /// [`mark`](Self::mark) for all instruments: messages of the feed were lost.
    pub fn mark_all(&mut self, bits: u8) {
        for marked in self.instruments.iter_mut() {
            marked.health |= u32::from(bits);
        }
    }

    #[inline(always)]
    fn add_new(
        &mut self,
        instrument: u32,
        side: Side,
        id: u64,
        price: i64,
        size: u32,
    ) -> Result<Added, BookError> {
        let market = market(instrument, side);
        // Not by its market number, which has no room for the highest bit of one that is not there.
        let Some(instrument) = self.instruments.get_mut(instrument as usize) else {
            return Err(BookError::UnknownInstrument);
        };
        check(price, size)?;
        let located = self.index.locate(id, &self.orders);
        if located.handle != 0 {
            return Err(BookError::DuplicateOrder);
        }
        let side = &mut instrument.sides[(market & 1) as usize];
        let key = ladder::key(side_of(market), price);
        let level = match self.ladders.find(&side.ladder, key) {
            Ok((_, level)) => level as u32,
            Err(position) => {
                let level = self.levels.claim(price).ok_or(BookError::LevelsFull)?;
                let rung = Rung { key, value: u64::from(level) };
                if self.ladders.insert(&mut side.ladder, position, rung).is_err() {
                    self.levels.release(level);
                    return Err(BookError::LevelsFull);
                }
                if position.wrapping_add(1) == side.ladder.len as usize {
                    side.best = level;
                }
                level
            }
        };
        let top = side.best == level;
        let Some(handle) = self.orders.claim() else {
            self.drop_if_empty(market, level);
            return Err(BookError::OrdersFull);
        };
        if self.index.insert(located.place, id, handle).is_err() {
            self.orders.release(handle);
            self.drop_if_empty(market, level);
            return Err(BookError::OrdersFull);
        }
        instrument.orders = instrument.orders.wrapping_add(1);
        let queue = self.levels.get_mut(level);
        let prev = core::mem::replace(&mut queue.tail, handle);
        queue.size = queue.size.wrapping_add(u64::from(size));
        queue.count = queue.count.wrapping_add(1);
        if prev == 0 {
            queue.head = handle;
        } else {
            self.orders.get_mut(prev).next = handle;
        }
        *self.orders.get_mut(handle) =
            Order { id, size, level, prev, next: 0, market, reserved: 0 };
        Ok(Added { top })
    }

    /// Removes a level that no order joined.
    #[cold]
    fn drop_if_empty(&mut self, market: u32, level: u32) {
        let (count, price) = (self.levels.get(level).count, self.levels.get(level).price);
        if let (0, Some(instrument)) = (count, self.instruments.get_mut((market >> 1) as usize)) {
            let side = &mut instrument.sides[(market & 1) as usize];
            drop_level(&mut self.ladders, &mut self.levels, side, side_of(market), price, level);
        }
    }

    /// Removes the order that the index located.
    #[inline(always)]
    fn take_out(&mut self, place: Place, handle: u32) -> Reduced {
        let order = self.orders.release(handle);
        self.index.remove(place, order.id);
        let level = self.levels.get_mut(order.level);
        level.size = level.size.wrapping_sub(u64::from(order.size));
        level.count = level.count.wrapping_sub(1);
        let (price, count) = (level.price, level.count);
        if order.prev == 0 {
            level.head = order.next;
        } else {
            self.orders.get_mut(order.prev).next = order.next;
        }
        if order.next == 0 {
            level.tail = order.prev;
        } else {
            self.orders.get_mut(order.next).prev = order.prev;
        }
        let (market, side) = (order.market, side_of(order.market));
        let mut top = false;
        if let Some(instrument) = self.instruments.get_mut((market >> 1) as usize) {
            instrument.orders = instrument.orders.wrapping_sub(1);
            let book = &mut instrument.sides[(market & 1) as usize];
            top = book.best == order.level;
            if count == 0 {
                let (ladders, levels) = (&mut self.ladders, &mut self.levels);
                drop_level(ladders, levels, book, side, price, order.level);
            }
        }
        Reduced { price, instrument: market >> 1, removed: order.size, left: 0, side, top }
    }

    #[inline]
    fn reduced(&self, order: &Order, price: i64, removed: u32, left: u32) -> Reduced {
        Reduced {
            price,
            instrument: order.market >> 1,
            removed,
            left,
            side: side_of(order.market),
            top: self.is_best(order),
        }
    }

    /// Whether an order stands at the best price of its side.
    #[inline]
    fn is_best(&self, order: &Order) -> bool {
        let instrument = self.instruments.get((order.market >> 1) as usize);
        instrument.is_some_and(|i| i.sides[(order.market & 1) as usize].best == order.level)
    }
}

/// Removes an empty level, which stands at `price`, from its side.
#[inline(always)]
fn drop_level(
    ladders: &mut Ladders<'_>,
    levels: &mut Levels<'_>,
    book: &mut SideBook,
    side: Side,
    price: i64,
    level: u32,
) {
    if let Ok((position, _)) = ladders.find(&book.ladder, ladder::key(side, price)) {
        ladders.remove(&mut book.ladder, position);
        if book.best == level {
            let best = ladders.rungs_of(&book.ladder).last();
            book.best = best.map_or(0, |rung| rung.value as u32);
        }
    }
    levels.release(level);
}

/// What any order must have.
#[inline]
fn check(price: i64, size: u32) -> Result<(), BookError> {
    if size == 0 {
        return Err(BookError::ZeroSize);
    }
    if price == UNDEF_PRICE {
        return Err(BookError::InvalidPrice);
    }
    Ok(())
}
