//! From a DBN file to the columns: a tape that somebody else recorded.
//!
//! Market-by-order records are replayed into a book, as the ring's are; trades stand by
//! themselves; MBP-1 has its best bid and offer with it. DBN's instrument ids may be any number:
//! here they are numbered as they come, and called what the file's mappings call them: those of its
//! metadata, until a symbol mapping record says otherwise.

use super::book::BookMemory;
use super::{FeedBooks, IngestSettings, SharedStore, Taker, WorkerState, lock};
use crate::dbn::{DbnError, DbnFile, DbnRecord, SymbolRecord, letter};
use crate::store::{Position, QuoteRow};
use dbn::Mbp1Msg;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use wiretape_core::event::{MboMsg, RecordHeader, UNDEF_PRICE, action, flags};

/// Instruments that one file may have.
const INSTRUMENTS_MAX: u32 = 1 << 16;
/// Records between two looks at whether to stop.
const LOOK_EVERY: u64 = 1 << 12;

/// A trade as the ring has it, of a record of either schema: both begin with the same fields.
macro_rules! trade {
    ($record:expr, $local:expr) => {
        MboMsg {
            hd: RecordHeader { instrument_id: $local, ..header(&$record.hd) },
            order_id: 0,
            price: $record.price,
            size: $record.size,
            flags: $record.flags.raw(),
            channel_id: 0,
            action: action::TRADE,
            side: letter($record.side),
            ts_recv: $record.ts_recv,
            ts_in_delta: $record.ts_in_delta,
            sequence: $record.sequence,
        }
    };
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
    let mut names = names_of(&file);
    let epoch = file.metadata().start;
    let mut memory = BookMemory::new(INSTRUMENTS_MAX, settings);
    let book = memory.book(0).ok_or(DbnError::Memory)?;
    let books = FeedBooks { memory: [].iter_mut(), books: vec![book], settings: settings.clone() };
    let mut taker = Taker { epoch, books, seen_any: true, last: None };
    lock(store).begin_epoch(epoch);
    let mut numbered: HashMap<u32, u32> = HashMap::new();
    let mut taken = Taken::default();
    let mut sequence = 0;
    for record in file {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                lock(store).set_state(WorkerState::Dead);
                return Err(error);
            }
        };
        sequence += 1;
        let header = match &record {
            DbnRecord::Mbo(record) => record.hd,
            DbnRecord::Mbp1(record) => header(&record.hd),
            DbnRecord::Trade(record) => header(&record.hd),
            DbnRecord::Symbol(SymbolRecord { instrument_id, symbol }) => {
                if let Some(local) = numbered.get(instrument_id) {
                    lock(store).name(*local, 0, symbol);
                }
                names.insert(*instrument_id, symbol.clone());
                continue;
            }
            DbnRecord::Status(_) | DbnRecord::Other(_) => {
                taken.others += 1;
                continue;
            }
        };
        let next = numbered.len() as u32;
        let local = *numbered.entry(header.instrument_id).or_insert(next);
        if local >= INSTRUMENTS_MAX {
            taken.others += 1;
            continue;
        }
        let mut store = lock(store);
        if local == next {
            let number = header.instrument_id;
            let name = names.get(&number).cloned().unwrap_or_else(|| format!("#{number}"));
            store.name(local, 0, &name);
            taken.instruments += 1;
        }
        let ts_recv = match &record {
            DbnRecord::Mbo(record) => {
                let mut record = *record;
                (record.hd.instrument_id, record.channel_id) = (local, 0);
                taker.take_record(&mut store, None, sequence, &record);
                record.ts_recv
            }
            DbnRecord::Trade(record) => {
                taker.take_record(&mut store, None, sequence, &trade!(record, local));
                record.ts_recv
            }
            DbnRecord::Mbp1(record) => {
                if letter(record.action) == action::TRADE {
                    taker.take_record(&mut store, None, sequence, &trade!(record, local));
                }
                if record.flags.raw() & flags::LAST != 0
                    && let Some(index) = store.find_id(local)
                {
                    store.push_quote(index, quote(record, sequence));
                }
                record.ts_recv
            }
            DbnRecord::Status(_) | DbnRecord::Symbol(_) | DbnRecord::Other(_) => continue,
        };
        taken.records += 1;
        store.see(Position { epoch, sequence }, header.ts_event, ts_recv);
        if sequence.is_multiple_of(LOOK_EVERY) && stop.load(Ordering::Relaxed) {
            break;
        }
    }
    lock(store).set_state(WorkerState::Ended);
    Ok(taken)
}

/// Symbols by DBN instrument id, as the metadata maps them.
fn names_of(file: &DbnFile) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for mapping in &file.metadata().mappings {
        for interval in &mapping.intervals {
            if let Ok(id) = interval.symbol.parse() {
                names.insert(id, mapping.raw_symbol.clone());
            }
        }
    }
    names
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
