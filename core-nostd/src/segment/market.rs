//! The market table: the latest state of each instrument, for readers that want no history.

use super::cell::{Cell, CellBusy, Patience};
use crate::event::UNDEF_PRICE;
use crate::prefetch::expect_write;
use crate::sync::AtomicU64;

/// Words of an entry (128 bytes: a pair of cache lines of its own).
pub const MARKET_WORDS: usize = 16;
const VALUES: usize = MARKET_WORDS - 1;

/// Bits of [`MarketEntry::health`].
pub mod health {
    /// Messages were lost: the book may be wrong.
    pub const MAYBE_BAD: u8 = 1;
    /// A message could not be applied to the book of this instrument.
    pub const BOOK_ERROR: u8 = 2;
    /// No directory message announced the instrument: its symbol is hearsay, and orders that were
    /// added before the first message seen are not in its book.
    pub const UNDIRECTED: u8 = 4;
}

/// Latest state of an instrument. Prices are in 1e-9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketEntry {
    /// Ring sequence of the event after which all this is true.
    pub event_seq: u64,
    /// Exchange time of that event, UTC nanoseconds.
    pub ts_event: u64,
    /// Receive time of that event, UTC nanoseconds.
    pub ts_recv: u64,
    /// Best bid; [`UNDEF_PRICE`] if there is none.
    pub bid_px: i64,
    /// Best offer; [`UNDEF_PRICE`] if there is none.
    pub ask_px: i64,
    /// Quantity at the best bid, saturating.
    pub bid_sz: u32,
    /// Quantity at the best offer, saturating.
    pub ask_sz: u32,
    /// Orders at the best bid; for price-level feeds 1.
    pub bid_ct: u32,
    /// Orders at the best offer; for price-level feeds 1.
    pub ask_ct: u32,
    /// Price of the last trade; [`UNDEF_PRICE`] before the first.
    pub last_px: i64,
    /// Quantity of the last trade.
    pub last_sz: u32,
    /// The exchange's own trading status letter; 0 if none came.
    pub status: u8,
    /// Bits of [`health`].
    pub health: u8,
    /// Quantity traded since the start of the session.
    pub volume: u64,
    /// Number of trades since the start of the session.
    pub trades: u64,
    /// Orders (or levels) in the book.
    pub orders: u64,
}

impl MarketEntry {
    /// An instrument of which nothing is known yet.
    pub const EMPTY: MarketEntry = MarketEntry {
        event_seq: 0,
        ts_event: 0,
        ts_recv: 0,
        bid_px: UNDEF_PRICE,
        ask_px: UNDEF_PRICE,
        bid_sz: 0,
        ask_sz: 0,
        bid_ct: 0,
        ask_ct: 0,
        last_px: UNDEF_PRICE,
        last_sz: 0,
        status: 0,
        health: 0,
        volume: 0,
        trades: 0,
        orders: 0,
    };

    #[inline]
    fn to_words(self) -> [u64; VALUES] {
        [
            self.event_seq,
            self.ts_event,
            self.ts_recv,
            self.bid_px as u64,
            self.ask_px as u64,
            u64::from(self.bid_sz) | u64::from(self.ask_sz) << 32,
            u64::from(self.bid_ct) | u64::from(self.ask_ct) << 32,
            self.last_px as u64,
            u64::from(self.last_sz) | u64::from(self.status) << 32 | u64::from(self.health) << 40,
            self.volume,
            self.trades,
            self.orders,
            0,
            0,
            0,
        ]
    }

    #[inline]
    fn from_words(words: [u64; VALUES]) -> Self {
        let [seq, event, recv, bid, ask, sizes, counts, last, packed, volume, trades, orders, ..] =
            words;
        MarketEntry {
            event_seq: seq,
            ts_event: event,
            ts_recv: recv,
            bid_px: bid as i64,
            ask_px: ask as i64,
            bid_sz: sizes as u32,
            ask_sz: (sizes >> 32) as u32,
            bid_ct: counts as u32,
            ask_ct: (counts >> 32) as u32,
            last_px: last as i64,
            last_sz: packed as u32,
            status: (packed >> 32) as u8,
            health: (packed >> 40) as u8,
            volume,
            trades,
            orders,
        }
    }
}

/// The table, for readers; the writer has it behind [`super::SegmentWriter`].
#[derive(Clone, Copy, Debug)]
pub struct MarketTable<'m> {
    entries: &'m [[AtomicU64; MARKET_WORDS]],
}

impl<'m> MarketTable<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Self {
        MarketTable { entries: words.as_chunks().0 }
    }

    /// Instruments in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    fn cell(&self, instrument: u32) -> Option<Cell<'m, VALUES>> {
        Cell::new(self.entries.get(instrument as usize)?)
    }

    /// A consistent copy of the entry; `None` if nothing was ever written to it.
    pub fn read(&self, instrument: u32) -> Result<Option<MarketEntry>, CellBusy> {
        match self.cell(instrument) {
            Some(cell) => Ok(cell.read()?.map(MarketEntry::from_words)),
            None => Ok(None),
        }
    }

    /// The same, for who reads many of them.
    pub fn read_patiently(
        &self,
        instrument: u32,
        patience: &mut Patience,
    ) -> Result<Option<MarketEntry>, CellBusy> {
        match self.cell(instrument) {
            Some(cell) => Ok(cell.read_patiently(patience)?.map(MarketEntry::from_words)),
            None => Ok(None),
        }
    }

    /// Asks for the lines of an entry, to replace it.
    #[inline(always)]
    pub(crate) fn expect(&self, instrument: u32) {
        let entry = self.entries.as_ptr().wrapping_add(instrument as usize).cast::<AtomicU64>();
        expect_write(entry.cast());
        expect_write(entry.wrapping_add(MARKET_WORDS / 2).cast());
    }

    /// Replaces an entry. Single writer.
    #[inline(always)]
    pub(crate) fn write(&self, instrument: u32, entry: &MarketEntry) {
        if let Some(cell) = self.cell(instrument) {
            cell.write(&entry.to_words());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn an_entry_survives_the_words() {
        let words: Vec<AtomicU64> = (0..2 * MARKET_WORDS).map(|_| AtomicU64::new(0)).collect();
        let table = MarketTable::new(&words);
        assert_eq!(table.len(), 2);
        assert_eq!(table.read(1), Ok(None));
        let entry = MarketEntry {
            event_seq: 1,
            ts_event: 2,
            ts_recv: 3,
            bid_px: -4,
            ask_px: 5,
            bid_sz: 6,
            ask_sz: u32::MAX,
            bid_ct: 8,
            ask_ct: 9,
            last_px: 10,
            last_sz: u32::MAX,
            status: b'T',
            health: 3,
            volume: 13,
            trades: 14,
            orders: 15,
        };
        table.write(1, &entry);
        assert_eq!(table.read(1), Ok(Some(entry)));
        table.write(1, &MarketEntry::EMPTY);
        assert_eq!(table.read(1), Ok(Some(MarketEntry::EMPTY)));
        assert_eq!(table.read(2), Ok(None));
    }

    #[test]
    fn an_entry_whose_writer_died_is_reported_not_waited_for() {
        let words: Vec<AtomicU64> = (0..MARKET_WORDS).map(|_| AtomicU64::new(0)).collect();
        words[0].store(7, core::sync::atomic::Ordering::Relaxed);
        let table = MarketTable::new(&words);
        assert_eq!(table.read(0), Err(CellBusy));
        table.write(0, &MarketEntry::EMPTY);
        assert_eq!(table.read(0), Ok(Some(MarketEntry::EMPTY)));
    }

    /// With ten thousand looks at each this test would take minutes.
    #[test]
    fn a_table_all_of_whose_entries_stay_odd_is_gone_through_in_no_time() {
        let entries = 200_000;
        let words: Vec<AtomicU64> =
            (0..entries * MARKET_WORDS).map(|_| AtomicU64::new(7)).collect();
        let table = MarketTable::new(&words);
        words[3 * MARKET_WORDS].store(6, core::sync::atomic::Ordering::Relaxed);
        let mut patience = Patience::NEW;
        let mut read = |id| table.read_patiently(id, &mut patience).is_ok();
        assert_eq!((0..entries as u32).filter(|id| read(*id)).collect::<Vec<_>>(), [3]);
        let directory = crate::segment::SymbolDirectory::new(&words);
        assert_eq!(directory.iter().count(), 1);
        let depth = crate::segment::DepthTable::new(&words);
        assert_eq!(depth.place_of(9), None);
    }
}
