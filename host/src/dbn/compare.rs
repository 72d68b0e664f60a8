//! Whether the book of an MBO file shows what an MBP-1 file of the same instrument and time says.
//!
//! Both files are read side by side in the order of their receive times, and looked at where a
//! record is flagged last, as only there an exchange's event is over. All that was received at one
//! time is taken together: the best bids and offers that the book went through must be those that
//! MBP-1 shows, in the same order and without one more or less.

use super::{DbnError, DbnFile, DbnRecord};
use crate::ingest::IngestSettings;
use crate::ingest::book::{BookMemory, FeedBook};
use std::collections::HashMap;
use std::iter::Peekable;
use wiretape_core::book::Bbo;
use wiretape_core::event::{MboMsg, flags};

/// Instruments that the books of a file have room for. What is not used costs no memory.
pub(super) const INSTRUMENTS_MAX: u32 = 1 << 16;
/// Differences that are kept word by word; the others are counted.
const DIFFERENCES_KEPT: usize = 10;

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Instruments that were compared.
    pub instruments: usize,
    /// MBO records flagged last at which the book was compared.
    pub compared_mbo: u64,
    /// MBP-1 records flagged last that it was compared with.
    pub compared_mbp1: u64,
    /// MBO records before or after the time of which MBP-1 tells, or of instruments that it does
    /// not have.
    pub outside: u64,
    /// Times at which price, size or number of orders differ.
    pub differences: u64,
    /// Of those, times at which only the number of orders does.
    pub only_counts: u64,
    /// The first differences.
    pub first: Vec<Difference>,
}

/// The book and MBP-1 disagree.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// DBN instrument id.
    pub instrument: u32,
    /// Receive time of the records, UTC nanoseconds.
    pub ts_recv: u64,
    /// Best bid and offer that the book went through.
    pub book: Vec<Bbo>,
    /// What MBP-1 shows.
    pub mbp1: Vec<Bbo>,
}

/// What is known of an instrument.
#[derive(Debug, Default)]
struct Instrument {
    /// Index in the books.
    local: u32,
    book: View,
    mbp1: View,
    compared: bool,
}

/// One file's sight of an instrument.
#[derive(Debug, Default)]
struct View {
    /// The last best bid and offer before the time at hand.
    before: Option<Bbo>,
    /// The different ones at the time at hand, in order.
    now: Vec<Bbo>,
    /// Records flagged last at the time at hand.
    records: u64,
}

impl View {
    fn show(&mut self, bbo: Bbo) {
        if self.now.last().or(self.before.as_ref()) != Some(&bbo) {
            self.now.push(bbo);
        }
        self.records += 1;
    }

    fn last(&self) -> Option<Bbo> {
        self.now.last().copied().or(self.before)
    }

    fn pass(&mut self) {
        self.before = self.last();
        self.now.clear();
        self.records = 0;
    }
}

/// Compares the book of `mbo` with the best bids and offers of `mbp1`, over the time that both
/// files tell of.
pub fn compare(mbo: DbnFile, mbp1: DbnFile) -> Result<Comparison, DbnError> {
    let mut memory = BookMemory::new(INSTRUMENTS_MAX, &IngestSettings::default());
    let books = memory.book(0).ok_or(DbnError::Memory)?;
    let mut sides = Sides {
        books,
        instruments: HashMap::new(),
        touched: Vec::new(),
        result: Comparison::default(),
    };
    let (mut mbo, mut mbp1) = (Orders(mbo).peekable(), Tops(mbp1).peekable());
    loop {
        let times = (peek_time(&mut mbo)?, peek_time(&mut mbp1)?);
        let time = match times {
            (Some(a), Some(b)) => a.min(b),
            // One file is over: of what follows only one tells.
            (Some(_), None) => {
                for record in mbo {
                    record?;
                    sides.result.outside += 1;
                }
                break;
            }
            (None, _) => break,
        };
        // A receive time that lies before one already seen belongs to the time at hand.
        while peek_time(&mut mbo)?.is_some_and(|at| at <= time) {
            if let Some(record) = mbo.next() {
                sides.take_order(&record?.1)?;
            }
        }
        while peek_time(&mut mbp1)?.is_some_and(|at| at <= time) {
            if let Some(record) = mbp1.next() {
                sides.take_top(&record?.1)?;
            }
        }
        sides.settle(time);
    }
    let compared = sides.instruments.values().filter(|instrument| instrument.compared);
    sides.result.instruments = compared.count();
    Ok(sides.result)
}

fn peek_time<T>(
    records: &mut Peekable<impl Iterator<Item = Result<(u64, T), DbnError>>>,
) -> Result<Option<u64>, DbnError> {
    match records.peek() {
        Some(Ok((time, _))) => Ok(Some(*time)),
        Some(Err(_)) => match records.next() {
            Some(Err(error)) => Err(error),
            _ => Ok(None),
        },
        None => Ok(None),
    }
}

/// The MBO records of a file with their receive times.
struct Orders(DbnFile);

impl Iterator for Orders {
    type Item = Result<(u64, MboMsg), DbnError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            return match self.0.next()? {
                Ok(DbnRecord::Mbo(record)) => Some(Ok((record.ts_recv, record))),
                Ok(DbnRecord::Status(_) | DbnRecord::Symbol(_) | DbnRecord::Other(_)) => continue,
                Ok(other) => Some(Err(self.0.unexpected("MBO", &other))),
                Err(error) => Some(Err(error)),
            };
        }
    }
}

/// The MBP-1 records of a file with their receive times.
struct Tops(DbnFile);

impl Iterator for Tops {
    type Item = Result<(u64, dbn::Mbp1Msg), DbnError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            return match self.0.next()? {
                Ok(DbnRecord::Mbp1(record)) => Some(Ok((record.ts_recv, record))),
                Ok(DbnRecord::Status(_) | DbnRecord::Symbol(_) | DbnRecord::Other(_)) => continue,
                Ok(other) => Some(Err(self.0.unexpected("MBP-1", &other))),
                Err(error) => Some(Err(error)),
            };
        }
    }
}

struct Sides<'m> {
    books: FeedBook<'m>,
    instruments: HashMap<u32, Instrument>,
    /// Those with a record flagged last at the time at hand, in order, maybe more than once.
    touched: Vec<u32>,
    result: Comparison,
}

impl Sides<'_> {
    fn instrument(&mut self, id: u32) -> Result<&mut Instrument, DbnError> {
        let local = self.instruments.len() as u32;
        if local >= INSTRUMENTS_MAX && !self.instruments.contains_key(&id) {
            return Err(DbnError::Instruments { limit: INSTRUMENTS_MAX });
        }
        let new = || Instrument { local, ..Instrument::default() };
        Ok(self.instruments.entry(id).or_insert_with(new))
    }

    fn take_order(&mut self, record: &MboMsg) -> Result<(), DbnError> {
        let id = record.hd.instrument_id;
        let local = self.instrument(id)?.local;
        let mut own = *record;
        own.hd.instrument_id = local;
        self.books.apply(&own);
        if record.flags & flags::LAST != 0 {
            let (bbo, _) = self.books.best(local);
            self.instrument(id)?.book.show(bbo);
            self.touched.push(id);
        }
        Ok(())
    }

    fn take_top(&mut self, record: &dbn::Mbp1Msg) -> Result<(), DbnError> {
        if record.flags.raw() & flags::LAST != 0 {
            let [level] = &record.levels;
            self.instrument(record.hd.instrument_id)?.mbp1.show(bbo_of(level));
            self.touched.push(record.hd.instrument_id);
        }
        Ok(())
    }

    /// Compares what was shown at a time.
    fn settle(&mut self, ts_recv: u64) {
        for id in self.touched.drain(..) {
            let Some(instrument) = self.instruments.get_mut(&id) else { continue };
            let Instrument { book, mbp1, compared, .. } = instrument;
            if book.records == 0 && mbp1.records == 0 {
                continue;
            }
            match (book.last(), mbp1.last()) {
                // MBP-1 begins here: of how the book came to be it does not tell.
                (Some(ours), Some(theirs)) => {
                    let begins = !std::mem::replace(compared, true);
                    let (ours, theirs) = match begins {
                        true => (vec![ours], vec![theirs]),
                        false => (changes(book), changes(mbp1)),
                    };
                    self.result.compared_mbo += book.records;
                    self.result.compared_mbp1 += mbp1.records;
                    if ours != theirs {
                        self.result.differ(id, ts_recv, ours, theirs);
                    }
                }
                _ => self.result.outside += book.records,
            }
            book.pass();
            mbp1.pass();
        }
    }
}

/// Where a view stood, and what it went through.
fn changes(view: &View) -> Vec<Bbo> {
    view.before.iter().chain(&view.now).copied().collect()
}

/// The best bid and offer of an MBP-1 record.
fn bbo_of(level: &dbn::BidAskPair) -> Bbo {
    Bbo {
        bid_px: level.bid_px,
        ask_px: level.ask_px,
        bid_sz: level.bid_sz,
        ask_sz: level.ask_sz,
        bid_ct: level.bid_ct,
        ask_ct: level.ask_ct,
    }
}

impl Comparison {
    fn differ(&mut self, instrument: u32, ts_recv: u64, book: Vec<Bbo>, mbp1: Vec<Bbo>) {
        let plain = |shown: &[Bbo]| {
            let mut plain: Vec<Bbo> =
                shown.iter().map(|bbo| Bbo { bid_ct: 0, ask_ct: 0, ..*bbo }).collect();
            plain.dedup();
            plain
        };
        self.differences += 1;
        self.only_counts += u64::from(plain(&book) == plain(&mbp1));
        if self.first.len() < DIFFERENCES_KEPT {
            self.first.push(Difference { instrument, ts_recv, book, mbp1 });
        }
    }
}
