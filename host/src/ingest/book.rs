//! The book of one feed, replayed from its records.

use super::IngestSettings;
use wiretape_core::arena::Arena;
use wiretape_core::book::{
    Bbo, BookError, BookSpec, HashIndex, LevelBook, LevelBookSpec, OrderBook, health,
};
use wiretape_core::event::{MboMsg, Side, UNDEF_PRICE, action, flags};

/// Memory of a feed's books. Fresh zero pages: what is never touched is never used.
#[derive(Debug)]
pub struct BookMemory {
    orders: Vec<u8>,
    levels: Vec<u8>,
    order_spec: BookSpec,
    level_spec: LevelBookSpec,
}

/// Between the numbers that an order of one instrument and of the next have in the book: odd and
/// large, so that those of no venue lie so far apart.
const ORDERS_APART: u64 = 0x9E37_79B9_7F4A_7C15;
/// Room for what the arena adds to align slices.
const SLACK: usize = 4_096;

impl BookMemory {
    /// Memory for the books of a feed with `instruments` instruments.
    pub fn new(instruments: u32, settings: &IngestSettings) -> BookMemory {
        let order_spec =
            BookSpec { instruments, orders: settings.book_orders, levels: settings.book_levels };
        let level_spec = LevelBookSpec { instruments, levels: settings.book_levels };
        let bytes = order_spec.bytes() + HashIndex::bytes(settings.book_orders) + SLACK;
        BookMemory {
            orders: vec![0; bytes],
            levels: vec![0; level_spec.bytes() + SLACK],
            order_spec,
            level_spec,
        }
    }

    /// The books, whose first instrument has id `first`.
    pub fn book(&mut self, first: u32) -> Option<FeedBook<'_>> {
        let mut arena = Arena::with_contents_as_found(&mut self.orders);
        let index = HashIndex::new(&mut arena, self.order_spec.orders).ok()?;
        let orders = OrderBook::new(&mut arena, &self.order_spec, index).ok()?;
        let mut arena = Arena::with_contents_as_found(&mut self.levels);
        let levels = LevelBook::new(&mut arena, &self.level_spec).ok()?;
        let pending = vec![false; self.order_spec.instruments as usize];
        Some(FeedBook { first, orders, levels, by_level: false, bad: false, pending })
    }
}

/// The books of one feed: by order, or by level where its records carry [`flags::MBP`] or
/// [`flags::TOB`].
#[derive(Debug)]
pub struct FeedBook<'m> {
    first: u32,
    orders: OrderBook<'m, HashIndex<'m>>,
    levels: LevelBook<'m>,
    by_level: bool,
    /// Something was lost that the records do not tell of: this reader missed them.
    bad: bool,
    /// Instruments whose book changed without the exchange's event being over, which may be of
    /// several.
    pending: Vec<bool>,
}

impl FeedBook<'_> {
    /// Applies a record. One that cannot be applied marks the instrument.
    pub fn apply(&mut self, record: &MboMsg) {
        let id = record.hd.instrument_id;
        let mut local = *record;
        local.hd.instrument_id = id.wrapping_sub(self.first);
        // Not every venue has numbers of orders that differ between instruments.
        let apart = u64::from(local.hd.instrument_id).wrapping_mul(ORDERS_APART);
        local.order_id = record.order_id.wrapping_add(apart);
        match record.action {
            action::TRADE | action::FILL | action::NONE => return,
            action::CLEAR => {
                let _ = self.orders.clear(local.hd.instrument_id);
                let _ = self.levels.clear(local.hd.instrument_id);
            }
            _ if record.flags & (flags::MBP | flags::TOB) != 0 => {
                self.by_level = true;
                let applied = match record.flags & flags::MBP {
                    0 => self.replace_side(&local),
                    _ => self.levels.apply(&local).map(|_| ()),
                };
                if applied.is_err() {
                    self.levels.mark(local.hd.instrument_id, health::BOOK_ERROR);
                }
            }
            _ => {
                if self.orders.apply(&local).is_err() {
                    self.orders.mark(local.hd.instrument_id, health::BOOK_ERROR);
                }
            }
        }
        if let Some(pending) = self.pending.get_mut(local.hd.instrument_id as usize) {
            *pending = record.flags & flags::LAST == 0;
        }
    }

    /// Takes a record of Databento's top-of-book datasets: all that is left of its side, or that
    /// nothing is.
    fn replace_side(&mut self, record: &MboMsg) -> Result<(), BookError> {
        let local = record.hd.instrument_id;
        let side = Side::from_dbn(record.side).ok_or(BookError::InvalidSide)?;
        let before = self.levels.levels(local, side).next().map(|level| level.price);
        if let Some(price) = before {
            self.levels.set(local, side, price, 0)?;
        }
        if record.price != UNDEF_PRICE {
            self.levels.set(local, side, record.price, record.size)?;
        }
        Ok(())
    }

    /// Whether the book of `id` has changed within an event that is not over.
    pub fn is_pending(&self, id: u32) -> bool {
        self.pending.get(id.wrapping_sub(self.first) as usize).is_some_and(|pending| *pending)
    }

    /// Best bid and offer of `id`, and whether the book may be wrong.
    pub fn best(&mut self, id: u32) -> (Bbo, bool) {
        let local = id.wrapping_sub(self.first);
        if let Some(pending) = self.pending.get_mut(local as usize) {
            *pending = false;
        }
        if self.by_level {
            (self.levels.best(local), self.levels.health(local) != 0)
        } else {
            (self.orders.best(local), self.orders.health(local) != 0)
        }
    }

    /// Takes note that records were lost: every book may be wrong until it is cleared.
    pub fn mark_bad(&mut self) {
        self.bad = true;
        self.orders.mark_all(health::MAYBE_BAD);
        self.levels.mark_all(health::MAYBE_BAD);
    }

    /// Empties all books, which are right again.
    pub fn clear_all(&mut self) {
        // Also touches what was never used; only a session change or a loss brings it here.
        if self.by_level {
            self.levels.clear_all();
        } else {
            self.orders.clear_all();
        }
        if std::mem::take(&mut self.bad) {
            self.levels.clear_all();
            self.orders.clear_all();
        }
        self.pending.fill(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiretape_core::event::RecordHeader;

    #[test]
    fn a_top_of_book_record_replaces_its_side() {
        let mut memory = BookMemory::new(1, &IngestSettings { book_orders: 16, book_levels: 16 });
        let mut book = memory.book(0).unwrap();
        let record = |side: u8, price, size| MboMsg {
            hd: RecordHeader::new::<MboMsg>(38, 0, 1),
            order_id: 0,
            price,
            size,
            flags: flags::LAST | flags::TOB,
            channel_id: 0,
            action: action::ADD,
            side,
            ts_recv: 1,
            ts_in_delta: 0,
            sequence: 1,
        };
        let mut best = |record: &MboMsg| {
            book.apply(record);
            let (best, bad) = book.best(0);
            assert!(!bad);
            ((best.bid_px, best.bid_sz), (best.ask_px, best.ask_sz))
        };
        let none = (UNDEF_PRICE, 0);
        assert_eq!(best(&record(b'B', 100, 5)), ((100, 5), none));
        assert_eq!(best(&record(b'A', 102, 6)), ((100, 5), (102, 6)));
        assert_eq!(best(&record(b'B', 99, 7)), ((99, 7), (102, 6)), "the better one is gone");
        assert_eq!(best(&record(b'B', 99, 8)), ((99, 8), (102, 6)));
        assert_eq!(best(&record(b'A', UNDEF_PRICE, 0)), ((99, 8), none));
        assert_eq!(best(&record(b'A', UNDEF_PRICE, 0)), ((99, 8), none));
    }

    #[test]
    fn an_event_is_not_over_because_one_of_another_instrument_is() {
        let mut memory = BookMemory::new(3, &IngestSettings { book_orders: 16, book_levels: 16 });
        let mut book = memory.book(5).unwrap();
        let mut add = |id: u32, flags| {
            book.apply(&MboMsg {
                hd: RecordHeader::new::<MboMsg>(1, id, 1),
                order_id: 1,
                price: 100,
                size: 5,
                flags,
                channel_id: 0,
                action: action::ADD,
                side: b'B',
                ts_recv: 1,
                ts_in_delta: 0,
                sequence: 1,
            });
        };
        add(5, 0);
        add(6, 0);
        add(7, flags::LAST);
        assert_eq!([5, 6, 7].map(|id| book.is_pending(id)), [true, true, false]);
        assert_eq!(book.best(6).0.bid_px, 100);
        assert_eq!([5, 6, 7].map(|id| book.is_pending(id)), [true, false, false]);
        book.clear_all();
        assert!(!book.is_pending(5));
    }
}
