//! Ten levels of depth and the features of chosen instruments, a sequence lock each.
//!
//! A place belongs to the instrument whose id stands in its entry, until its feed was removed and the
//! place is another instrument's. Levels and features are of one and the same moment: that after the
//! event whose sequence the entry has.

use core::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::cell::{Cell, CellBusy, Patience};
use crate::event::UNDEF_PRICE;
use crate::shared_words;
use crate::sync::AtomicU64;

/// Levels of each side.
pub const DEPTH_LEVELS: usize = 10;
/// Words of an entry (512 bytes).
pub const DEPTH_WORDS: usize = 64;
const VALUES: usize = DEPTH_WORDS - 1;
/// Where the levels begin: bids, then offers, two words each.
const LEVELS: usize = 16;
/// All levels of a side.
pub(crate) const ALL_LEVELS: Range<usize> = 0..DEPTH_LEVELS;

/// A price level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DepthLevel {
    /// Price in 1e-9; [`UNDEF_PRICE`] where there is no level.
    pub price: i64,
    /// Quantity, saturating.
    pub size: u32,
    /// Orders; in a book of levels 1, as their number is not known.
    pub orders: u32,
}

impl DepthLevel {
    /// No level.
    pub const NONE: DepthLevel = DepthLevel { price: UNDEF_PRICE, size: 0, orders: 0 };

    /// Whether there is one.
    #[inline]
    pub fn is_some(&self) -> bool {
        self.price != UNDEF_PRICE
    }

    #[inline]
    fn words(&self) -> [u64; 2] {
        [self.price as u64, u64::from(self.size) | u64::from(self.orders) << 32]
    }
}

/// Bids and offers, best first.
pub type DepthSides = [[DepthLevel; DEPTH_LEVELS]; 2];

/// What models want to know of a book, in integers.
///
/// With `b` and `B` price and size of the best bid, `a` and `A` of the best offer:
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `a - b` in 1e-9; [`UNDEF_PRICE`] unless both are there and it fits, as the next two.
    pub spread: i64,
    /// `(a + b) / 2` in 1e-9, rounded down.
    pub mid: i64,
    /// `(b A + a B) / (A + B)` in 1e-9: the mid, drawn to the side with less on it.
    pub microprice: i64,
    /// `(bids - offers) / (bids + offers)` of the quantity in 1 level, in millionths; 0 for an
    /// empty book.
    pub imbalance_1: i32,
    /// The same of 5 levels.
    pub imbalance_5: i32,
    /// The same of 10 levels.
    pub imbalance_10: i32,
    /// Order-flow imbalance since the start of the session, in units of quantity: what was added
    /// to the best bid or taken from the best offer, less the reverse. Models use its change over
    /// a time. Source: Cont, Kukanov, Stoikov, "The Price Impact of Order Book Events" (2014), 2.1.
    pub order_flow: i64,
    /// Trades a second, in millionths: each trade counts for less as time goes by, half after
    /// 2^33 ns (8.6 s).
    pub trade_intensity: u64,
}

impl Features {
    /// Of an instrument of which nothing is known yet.
    pub const EMPTY: Features = Features {
        spread: UNDEF_PRICE,
        mid: UNDEF_PRICE,
        microprice: UNDEF_PRICE,
        imbalance_1: 0,
        imbalance_5: 0,
        imbalance_10: 0,
        order_flow: 0,
        trade_intensity: 0,
    };
}

/// Depth and features of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthEntry {
    /// Segment's instrument id.
    pub instrument: u32,
    /// Bits of [`health`](super::health).
    pub health: u8,
    /// Ring sequence of the event after which all this is true.
    pub event_seq: u64,
    /// Exchange time of that event, UTC nanoseconds.
    pub ts_event: u64,
    /// Receive time of that event, UTC nanoseconds.
    pub ts_recv: u64,
    /// Bids, best first.
    pub bids: [DepthLevel; DEPTH_LEVELS],
    /// Offers, best first.
    pub asks: [DepthLevel; DEPTH_LEVELS],
    /// The features.
    pub features: Features,
}

/// What an entry says beside its levels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DepthMoment {
    pub instrument: u32,
    pub health: u8,
    pub event_seq: u64,
    pub ts_event: u64,
    pub ts_recv: u64,
    pub features: Features,
}

impl DepthMoment {
    #[inline]
    fn words(&self) -> [u64; 11] {
        let f = &self.features;
        let two = |low: i32, high: i32| u64::from(low as u32) | u64::from(high as u32) << 32;
        [
            self.event_seq,
            self.ts_event,
            self.ts_recv,
            u64::from(self.instrument) | u64::from(self.health) << 32,
            f.spread as u64,
            f.mid as u64,
            f.microprice as u64,
            two(f.imbalance_1, f.imbalance_5),
            two(f.imbalance_10, 0),
            f.order_flow as u64,
            f.trade_intensity,
        ]
    }
}

impl DepthEntry {
    fn from_words(words: &[u64; VALUES]) -> DepthEntry {
        let get = |at: usize| words.get(at).copied().unwrap_or(0);
        let level = |at: usize| DepthLevel {
            price: get(LEVELS + 2 * at) as i64,
            size: get(LEVELS + 2 * at + 1) as u32,
            orders: (get(LEVELS + 2 * at + 1) >> 32) as u32,
        };
        DepthEntry {
            event_seq: get(0),
            ts_event: get(1),
            ts_recv: get(2),
            instrument: get(3) as u32,
            health: (get(3) >> 32) as u8,
            bids: core::array::from_fn(level),
            asks: core::array::from_fn(|at| level(DEPTH_LEVELS + at)),
            features: Features {
                spread: get(4) as i64,
                mid: get(5) as i64,
                microprice: get(6) as i64,
                imbalance_1: get(7) as i32,
                imbalance_5: (get(7) >> 32) as i32,
                imbalance_10: get(8) as i32,
                order_flow: get(9) as i64,
                trade_intensity: get(10),
            },
        }
    }
}

/// The places, for readers; the writer has them behind [`super::SegmentWriter`].
#[derive(Clone, Copy, Debug)]
pub struct DepthTable<'m> {
    entries: &'m [[AtomicU64; DEPTH_WORDS]],
}

impl<'m> DepthTable<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Self {
        DepthTable { entries: words.as_chunks().0 }
    }

    /// Places in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none: no instrument was, or can be, chosen.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    fn cell(&self, place: usize) -> Option<Cell<'m, VALUES>> {
        Cell::new(self.entries.get(place)?)
    }

    /// A consistent copy of what is at `place`; `None` if no instrument has it yet.
    #[inline]
    pub fn read(&self, place: usize) -> Result<Option<DepthEntry>, CellBusy> {
        match self.cell(place) {
            Some(cell) => Ok(cell.read()?.map(|words| DepthEntry::from_words(&words))),
            None => Ok(None),
        }
    }

    /// The place of an instrument, which it keeps until its feed is removed, or its session where
    /// ids hold for one; `None` if it has none (yet, or any more). Looks through all: to be asked once, not for each read. What is read
    /// there later may be of an instrument that has the place since, whose id it has.
    pub fn place_of(&self, instrument: u32) -> Option<usize> {
        let mut patience = Patience::NEW;
        (0..self.len()).find(|place| {
            let words = self.cell(*place).map(|cell| cell.read_patiently(&mut patience));
            let entry = words.and_then(|words| words.ok()?).map(|w| DepthEntry::from_words(&w));
            entry.is_some_and(|entry| entry.instrument == instrument)
        })
    }

    /// Replaces an entry. Single writer.
    pub(crate) fn write(&self, place: usize, entry: &DepthEntry) {
        let DepthEntry { instrument, health, event_seq, ts_event, ts_recv, features, .. } = *entry;
        let moment = DepthMoment { instrument, health, event_seq, ts_event, ts_recv, features };
        self.update(place, &moment, &[entry.bids, entry.asks], &[ALL_LEVELS, ALL_LEVELS]);
    }

    /// Replaces an entry, but for levels out of the ranges that `changed`, a side each. Single
    /// writer.
    #[inline]
    pub(crate) fn update(
        &self,
        place: usize,
        moment: &DepthMoment,
        sides: &DepthSides,
        changed: &[Range<usize>; 2],
    ) {
        let Some(cell) = self.cell(place) else { return };
        let head = moment.words();
        cell.update(|words| {
            shared_words::store(words, &head);
            let (_, levels) = words.split_at(LEVELS);
            let (bid_words, ask_words) = levels.as_chunks().0.split_at(DEPTH_LEVELS);
            let ([bids, asks], [bids_changed, asks_changed]) = (sides, changed);
            store_levels(bid_words, bids, bids_changed);
            store_levels(ask_words, asks, asks_changed);
        });
    }

    /// Sets bits of the health of `instrument`'s entry. A place that nothing was written to stays so,
    /// for zeros would be an entry of instrument 0; and so does what another instrument left there.
    /// Single writer.
    pub(crate) fn mark(&self, place: usize, instrument: u32, bits: u8) {
        if let Some(cell) = self.cell(place)
            && let Ok(Some(words)) = cell.read()
        {
            let mut entry = DepthEntry::from_words(&words);
            if entry.instrument == instrument {
                entry.health |= bits;
                self.write(place, &entry);
            }
        }
    }
}

#[inline(always)]
fn store_levels(words: &[[AtomicU64; 2]], rows: &[DepthLevel], changed: &Range<usize>) {
    let (Some(words), Some(rows)) = (words.get(changed.clone()), rows.get(changed.clone())) else {
        return;
    };
    for (words, row) in words.iter().zip(rows) {
        shared_words::store(words, &row.words());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn an_entry_survives_the_words_and_is_found_by_its_instrument() {
        let words: Vec<AtomicU64> = (0..3 * DEPTH_WORDS).map(|_| AtomicU64::new(0)).collect();
        let table = DepthTable::new(&words);
        assert_eq!((table.len(), table.read(1), table.place_of(7)), (3, Ok(None), None));
        let level = |n: usize| DepthLevel { price: -(n as i64), size: n as u32, orders: 7 };
        let entry = DepthEntry {
            instrument: 7,
            health: 3,
            event_seq: 9,
            ts_event: 10,
            ts_recv: 11,
            bids: core::array::from_fn(level),
            asks: core::array::from_fn(|n| level(100 + n)),
            features: Features {
                spread: -1,
                mid: 2,
                microprice: 3,
                imbalance_1: -4,
                imbalance_5: 5,
                imbalance_10: -6,
                order_flow: -7,
                trade_intensity: 8,
            },
        };
        table.write(2, &entry);
        assert_eq!((table.read(2), table.place_of(7)), (Ok(Some(entry)), Some(2)));
        table.mark(1, 0, 4);
        assert_eq!((table.read(1), table.place_of(0)), (Ok(None), None));
        table.mark(2, 6, 4);
        assert_eq!(table.read(2), Ok(Some(entry)), "what another instrument left");
        table.mark(2, 7, 4);
        assert_eq!(table.read(2), Ok(Some(DepthEntry { health: 7, ..entry })));
        assert_eq!(table.read(3), Ok(None));
    }
}
