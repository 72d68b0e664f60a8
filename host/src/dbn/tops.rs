//! MBP-1 from market-by-order: the best bid and offer after every event that changed it, and every
//! trade with the best bid and offer that it met.
//!
//! As Databento defines the schema: a trade comes before its effect on the book, and the last
//! record of an exchange's event is flagged last. A record is therefore held back until it is
//! known whether another one of its event follows. Events of one instrument may come between the
//! records of another one's (IEX DEEP leaves them open until something happens to the instrument
//! again), or packets: the record held back is written as one that is not the last then, and where
//! the event's end changes nothing any more, a record of action `N` ends it, at its own time.

use std::collections::BTreeSet;

use dbn::{BidAskPair, Mbp1Msg};
use wiretape_core::book::Bbo;
use wiretape_core::event::{MboMsg, SIDE_NONE, SessionMsg, UNDEF_PRICE, action, flags};
use wiretape_core::segment::MAX_FEEDS;

use super::write::c_letter;
use crate::ingest::IngestSettings;
use crate::ingest::book::{BookMemory, FeedBook};

/// Memory for the books of the feeds of a worker.
#[derive(Debug, Default)]
pub struct TopsMemory {
    feeds: Vec<Option<BookMemory>>,
}

impl TopsMemory {
    /// Room for as many feeds as a worker can have. A schema that needs no books has none.
    pub fn new() -> TopsMemory {
        TopsMemory { feeds: (0..MAX_FEEDS).map(|_| None).collect() }
    }

    /// The books of no feed yet.
    pub fn tops(&mut self) -> Tops<'_> {
        Tops { memory: self.feeds.iter_mut(), ..Tops::default() }
    }
}

#[derive(Debug)]
struct Feed<'m> {
    first: u32,
    /// What was written last of each instrument.
    shown: Vec<Bbo>,
    book: FeedBook<'m>,
}

/// Turns market-by-order records into MBP-1.
#[derive(Debug, Default)]
pub struct Tops<'m> {
    memory: std::slice::IterMut<'m, Option<BookMemory>>,
    feeds: Vec<Feed<'m>>,
    /// A record of an event that is not over, and its feed.
    held: Option<(u8, Mbp1Msg)>,
    /// Instruments whose latest record was written, and whose event is not over.
    open: BTreeSet<u32>,
}

impl Tops<'_> {
    /// Makes the book of the next feed, whose first of `count` instruments has id `first`. `whole` says
    /// whether all events since the start of its session will be seen; otherwise the book may be
    /// wrong until it is emptied. Without room for it, the feed's records give nothing.
    pub fn add_feed(&mut self, first: u32, count: u32, whole: bool) {
        let Some(memory) = self.memory.next() else { return };
        let memory = memory.insert(BookMemory::new(count, &IngestSettings::default()));
        let Some(mut book) = memory.book(first) else { return };
        if !whole {
            book.mark_bad();
        }
        self.feeds.push(Feed { first, shown: vec![Bbo::EMPTY; count as usize], book });
    }

    /// Applies a record; returns the records that are known to be whole now.
    pub(super) fn apply(&mut self, record: &MboMsg) -> impl Iterator<Item = Mbp1Msg> + use<> {
        let id = record.hd.instrument_id;
        let row = self.row(record);
        // Of another instrument, or of another packet without a row of its own: the event has not
        // ended with the record held back.
        let ends = record.flags & flags::LAST != 0;
        let other = self.held.take_if(|(_, held)| {
            held.hd.instrument_id != id || ends && row.is_none() && held.ts_recv != record.ts_recv
        });
        let before = match (other, row) {
            (Some((_, held)), row) => {
                self.open.insert(held.hd.instrument_id);
                self.held = row.map(|row| (record.channel_id, row));
                Some(held)
            }
            (None, Some(row)) => {
                self.held.replace((record.channel_id, row)).map(|(_, before)| before)
            }
            (None, None) => None,
        };
        let mut last = None;
        if ends {
            let was_open = self.open.remove(&id);
            last = self.take_held();
            if last.is_none() && was_open {
                last = self.end(record);
            }
        }
        [before, last].into_iter().flatten()
    }

    /// The record that ends an event in which nothing is left to be told.
    fn end(&mut self, record: &MboMsg) -> Option<Mbp1Msg> {
        let feed = self.feeds.get_mut(usize::from(record.channel_id))?;
        let (best, bad) = feed.book.best(record.hd.instrument_id);
        let nothing = MboMsg {
            action: action::NONE,
            side: SIDE_NONE,
            price: UNDEF_PRICE,
            size: 0,
            ..*record
        };
        Some(row_of(&nothing, &best, record.flags, bad))
    }

    /// The record held back, which is the last of its event after all.
    pub(super) fn take_held(&mut self) -> Option<Mbp1Msg> {
        let (_, mut row) = self.held.take()?;
        row.flags = (row.flags.raw() | flags::LAST).into();
        Some(row)
    }

    /// The same, if it is of `feed`.
    fn take_held_of(&mut self, feed: u8) -> Option<Mbp1Msg> {
        self.held.as_ref().filter(|(of, _)| *of == feed)?;
        self.take_held()
    }

    /// Takes note that records were lost: every book may be wrong until it is emptied. Returns the
    /// record held back, whose event will not be ended.
    pub fn lose_all(&mut self) -> Option<Mbp1Msg> {
        self.feeds.iter_mut().for_each(|feed| feed.book.mark_bad());
        self.take_held()
    }

    /// The same of one feed.
    pub(super) fn lose(&mut self, feed: u8) -> Option<Mbp1Msg> {
        self.feeds.get_mut(usize::from(feed))?.book.mark_bad();
        self.take_held_of(feed)
    }

    /// A session that starts over empties the books of its feed: what was held back, and of each
    /// that was not empty, the record that says so.
    pub(super) fn restart(&mut self, session: &SessionMsg) -> Vec<Mbp1Msg> {
        let mut rows: Vec<Mbp1Msg> = self.take_held_of(session.feed).into_iter().collect();
        let Some(feed) = self.feeds.get_mut(usize::from(session.feed)) else { return rows };
        feed.book.clear_all();
        let beyond = feed.first.saturating_add(feed.shown.len() as u32);
        self.open.retain(|id| !(feed.first..beyond).contains(id));
        for (id, shown) in (feed.first..).zip(&mut feed.shown) {
            if std::mem::replace(shown, Bbo::EMPTY) != Bbo::EMPTY {
                let mut row = Mbp1Msg {
                    price: UNDEF_PRICE,
                    action: c_letter(action::CLEAR),
                    side: c_letter(SIDE_NONE),
                    flags: flags::LAST.into(),
                    ts_recv: session.ts_recv,
                    levels: [pair(&Bbo::EMPTY)],
                    ..Mbp1Msg::default()
                };
                row.hd.publisher_id = session.hd.publisher_id;
                row.hd.instrument_id = id;
                row.hd.ts_event = session.hd.ts_event;
                rows.push(row);
            }
        }
        rows
    }

    fn row(&mut self, record: &MboMsg) -> Option<Mbp1Msg> {
        let id = record.hd.instrument_id;
        let feed = self.feeds.get_mut(usize::from(record.channel_id))?;
        let shown = feed.shown.get_mut(id.wrapping_sub(feed.first) as usize)?;
        feed.book.apply(record);
        let (best, bad) = feed.book.best(id);
        let changed = std::mem::replace(shown, best) != best;
        if !changed && record.action != action::TRADE {
            return None;
        }
        // The flag of the event's last record is set when that is known.
        Some(row_of(record, &best, record.flags & !flags::LAST, bad))
    }
}

fn row_of(record: &MboMsg, best: &Bbo, marks: u8, bad: bool) -> Mbp1Msg {
    let maybe_bad = if bad { flags::MAYBE_BAD_BOOK } else { 0 };
    let mut row = Mbp1Msg {
        price: record.price,
        size: record.size,
        action: c_letter(record.action),
        side: c_letter(record.side),
        flags: (marks | maybe_bad).into(),
        depth: 0,
        ts_recv: record.ts_recv,
        ts_in_delta: record.ts_in_delta,
        sequence: record.sequence,
        levels: [pair(best)],
        ..Mbp1Msg::default()
    };
    row.hd.publisher_id = record.hd.publisher_id;
    row.hd.instrument_id = record.hd.instrument_id;
    row.hd.ts_event = record.hd.ts_event;
    row
}

fn pair(best: &Bbo) -> BidAskPair {
    BidAskPair {
        bid_px: best.bid_px,
        ask_px: best.ask_px,
        bid_sz: best.bid_sz,
        ask_sz: best.ask_sz,
        bid_ct: best.bid_ct,
        ask_ct: best.ask_ct,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiretape_core::event::RecordHeader;

    fn level(id: u32, action: u8, price: i64, size: u32, last: bool) -> MboMsg {
        MboMsg {
            hd: RecordHeader::new::<MboMsg>(0xF001, id, 1_000),
            order_id: 0,
            price,
            size,
            flags: flags::MBP | if last { flags::LAST } else { 0 },
            channel_id: 0,
            action,
            side: b'B',
            ts_recv: 2_000,
            ts_in_delta: 0,
            sequence: 0,
        }
    }

    #[test]
    fn an_event_does_not_end_with_that_of_another_instrument() {
        let mut memory = TopsMemory::new();
        let mut tops = memory.tops();
        tops.add_feed(0, 8, true);
        let told: Vec<_> = [
            // The first instrument's event stays open.
            level(1, action::ADD, 100, 5, false),
            level(2, action::ADD, 200, 6, true),
            level(2, action::ADD, 150, 7, true),
            // It goes on where nobody sees it, and ends.
            level(1, action::ADD, 90, 1, true),
            // One that ends by itself, and one whose next record is seen.
            level(1, action::ADD, 110, 2, false),
            level(1, action::ADD, 80, 2, true),
            level(1, action::ADD, 120, 3, false),
            level(2, action::MODIFY, 150, 8, true),
            level(1, action::CANCEL, 120, 3, true),
        ]
        .iter()
        .flat_map(|record| tops.apply(record))
        .map(|row| {
            let last = row.flags.raw() & flags::LAST != 0;
            (row.hd.instrument_id, row.action as u8, row.levels[0].bid_px, last)
        })
        .collect();
        let expected = [
            (1, b'A', 100, false),
            (2, b'A', 200, true),
            (1, b'N', 100, true),
            (1, b'A', 110, true),
            (1, b'A', 120, false),
            (1, b'C', 110, true),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_event_that_a_later_packet_ends_is_not_over_before() {
        let mut memory = TopsMemory::new();
        let mut tops = memory.tops();
        tops.add_feed(0, 8, true);
        let at = |ts_recv, record| MboMsg { ts_recv, ..record };
        let told: Vec<_> = [
            at(1, level(1, action::ADD, 100, 5, false)),
            at(1, level(1, action::ADD, 90, 5, true)),
            at(2, level(1, action::ADD, 110, 5, false)),
            at(3, level(1, action::NONE, UNDEF_PRICE, 0, true)),
            at(4, level(1, action::ADD, 120, 5, false)),
            at(5, level(1, action::ADD, 130, 5, true)),
        ]
        .iter()
        .flat_map(|record| tops.apply(record))
        .map(|row| {
            let last = row.flags.raw() & flags::LAST != 0;
            (row.ts_recv, row.action as u8, row.levels[0].bid_px, last)
        })
        .collect();
        let expected = [
            (1, b'A', 100, true),
            (2, b'A', 110, false),
            (3, b'N', 110, true),
            (4, b'A', 120, false),
            (5, b'A', 130, true),
        ];
        assert_eq!(told, expected);
    }
}
