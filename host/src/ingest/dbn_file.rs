//! From a DBN file to the columns: a tape that somebody else recorded.
//!
//! Market-by-order records are replayed into a book, as the ring's are; trades stand by
//! themselves; MBP-1 has its best bid and offer with it, and TBBO those that its trades met. DBN's instrument ids may be any number:
//! here they are numbered as they come, and called what the file's mappings call them at the time.
//! A file of several venues has each instrument once for each of them, as different feeds.

use super::{FeedBooks, IngestSettings, SharedStore, Taker, WorkerState, lock};
use crate::dbn::{DbnError, DbnFile, DbnNames, DbnRecord, letter};
use crate::store::{Position, QuoteRow};
use dbn::{Mbp1Msg, Schema};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use wiretape_core::event::{MboMsg, RecordHeader, UNDEF_PRICE, action, flags};

/// Instruments that one file may have.
const INSTRUMENTS_MAX: u32 = 1 << 16;
/// Publishers that one file may have: each is a feed, whose number has a byte.
const FEEDS_MAX: usize = 1 << 8;
/// Records between two looks at whether to stop.
const LOOK_EVERY: u64 = 1 << 12;

/// A trade as the ring has it, of a record of either schema: both begin with the same fields.
macro_rules! trade {
    ($record:expr, ($local:expr, $feed:expr)) => {
        MboMsg {
            hd: RecordHeader { instrument_id: $local, ..header(&$record.hd) },
            order_id: 0,
            price: $record.price,
            size: $record.size,
            flags: $record.flags.raw(),
            channel_id: $feed,
            action: action::TRADE,
            side: letter($record.side),
            ts_recv: $record.ts_recv,
            ts_in_delta: $record.ts_in_delta,
            sequence: $record.sequence,
        }
    };
}

/// An instrument of one publisher.
struct Known {
    /// Its number here.
    local: u32,
    /// What it is called; empty before its first record.
    name: String,
}

/// What a file brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records taken in.
    pub records: u64,
    /// Records of types that have no place in the columns.
    pub others: u64,
    /// Instruments.
    pub instruments: u32,
}

/// Takes the DBN file at `path` into `store`, to its end or until `stop` is set. The epoch is the
/// file's start.
///
/// # Errors
/// The file cannot be read, or not to its end: what came before is in the store.
pub fn take_dbn_file(
    path: &Path,
    store: &SharedStore,
    settings: &IngestSettings,
    stop: &AtomicBool,
) -> Result<Taken, DbnError> {
    let file = DbnFile::open(path)?;
    let mut names = DbnNames::of(&file);
    let epoch = file.metadata().start;
    let tells_what_trades_met = file.metadata().schema == Some(Schema::Tbbo);
    let mut memory = [const { None }; FEEDS_MAX];
    let books =
        FeedBooks { memory: memory.iter_mut(), books: Vec::new(), settings: settings.clone() };
    let mut taker = Taker { seen_any: true, ..Taker::new(epoch, books) };
    lock(store).begin_epoch(epoch);
    let mut instruments: HashMap<(u16, u32), Known> = HashMap::new();
    let mut publishers: Vec<u16> = Vec::new();
    let mut taken = Taken::default();
    let mut sequence = 0;
    for record in file {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                lock(store).cut_off(sequence + 1);
                return Err(error);
            }
        };
        sequence += 1;
        let (header, ts_recv) = match &record {
            DbnRecord::Mbo(record) => (record.hd, record.ts_recv),
            DbnRecord::Mbp1(record) => (header(&record.hd), record.ts_recv),
            DbnRecord::Trade(record) => (header(&record.hd), record.ts_recv),
            DbnRecord::Symbol(mapping) => {
                names.tell(mapping.clone());
                continue;
            }
            DbnRecord::Status(_) | DbnRecord::Other(_) => {
                taken.others += 1;
                continue;
            }
        };
        let feed = position(&mut publishers, header.publisher_id);
        let next = instruments.len() as u32;
        let known = instruments.entry((header.publisher_id, header.instrument_id));
        let known = known.or_insert(Known { local: next, name: String::new() });
        let local = known.local;
        let (Ok(channel), true) = (u8::try_from(feed), local < INSTRUMENTS_MAX) else {
            taken.others += 1;
            continue;
        };
        let mut store = lock(store);
        let name = names.at(ts_recv, header.instrument_id);
        if known.name.is_empty() || name.is_some_and(|name| name != known.name) {
            known.name =
                name.map_or_else(|| format!("#{}", header.instrument_id), ToOwned::to_owned);
            store.name(local, channel.into(), &known.name);
        }
        match &record {
            DbnRecord::Mbo(record) => {
                while feed >= taker.books.books.len() {
                    taker.books.add(0, INSTRUMENTS_MAX).ok_or(DbnError::Memory)?;
                }
                let mut record = *record;
                (record.hd.instrument_id, record.channel_id) = (local, channel);
                taker.take_record(&mut store, None, sequence, &record);
            }
            DbnRecord::Trade(record) => {
                taker.take_record(&mut store, None, sequence, &trade!(record, (local, channel)));
            }
            DbnRecord::Mbp1(record) => {
                if tells_what_trades_met && let Some(index) = store.find_id(local) {
                    // In front of the trade, or it would be joined with what an earlier one met. Whether
                    // the exchange's event is over does not matter: the record that ends it is not here.
                    store.push_quote(index, quote(record, sequence - 1));
                }
                if letter(record.action) == action::TRADE {
                    taker.take_record(
                        &mut store,
                        None,
                        sequence,
                        &trade!(record, (local, channel)),
                    );
                }
                if record.flags.raw() & flags::LAST != 0
                    && !tells_what_trades_met
                    && let Some(index) = store.find_id(local)
                {
                    store.push_quote(index, quote(record, sequence));
                }
            }
            DbnRecord::Status(_) | DbnRecord::Symbol(_) | DbnRecord::Other(_) => continue,
        }
        taken.records += 1;
        store.see(Position { epoch, sequence }, header.ts_event, ts_recv);
        if sequence.is_multiple_of(LOOK_EVERY) && stop.load(Ordering::Relaxed) {
            break;
        }
    }
    taken.instruments = (instruments.len() as u32).min(INSTRUMENTS_MAX);
    lock(store).set_state(WorkerState::Ended);
    Ok(taken)
}

/// Where `publisher` stands among those that came, behind which it is put if it is new.
fn position(publishers: &mut Vec<u16>, publisher: u16) -> usize {
    publishers.iter().position(|known| *known == publisher).unwrap_or_else(|| {
        publishers.push(publisher);
        publishers.len() - 1
    })
}

fn header(theirs: &dbn::RecordHeader) -> RecordHeader {
    RecordHeader {
        instrument_id: theirs.instrument_id,
        ..RecordHeader::new::<MboMsg>(theirs.publisher_id, theirs.instrument_id, theirs.ts_event)
    }
}

fn quote(record: &Mbp1Msg, sequence: u64) -> QuoteRow {
    let [top] = &record.levels;
    let size = |price: i64, size: u32| if price == UNDEF_PRICE { 0 } else { u64::from(size) };
    QuoteRow {
        ts_event: record.hd.ts_event,
        ts_recv: record.ts_recv,
        sequence,
        bid_price: top.bid_px,
        ask_price: top.ask_px,
        bid_size: size(top.bid_px, top.bid_sz),
        ask_size: size(top.ask_px, top.ask_sz),
        bid_count: top.bid_ct,
        ask_count: top.ask_ct,
        flags: record.flags.raw(),
    }
}
