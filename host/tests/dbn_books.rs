//! The book of DBN market-by-order files, at records flagged last, against what others say of it:
//! MBP-1 of the same instrument and time, a naive book, and a published one.

mod day;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use dbn::encode::EncodeRecord;
use dbn::encode::dbn::Encoder;
use dbn::{BidAskPair, FlagSet, Mbp1Msg, Schema};
use flate2::read::GzDecoder;
use wiretape_core::book::Bbo;
use wiretape_core::event::{MboMsg, UNDEF_PRICE, action, flags};
use wiretape_host::dbn::{Comparison, DbnError, DbnFile, DbnRecord, compare};
use wiretape_host::ingest::IngestSettings;
use wiretape_host::ingest::book::BookMemory;

/// A file or folder of the shared data; `None`, said aloud, where it is absent.
fn shared(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data").join(name);
    if !path.exists() {
        println!("skipped: {name} is not in ../shared/data");
        return None;
    }
    Some(path)
}

fn compare_files(mbo: &Path, mbp1: &Path) -> Result<Comparison, DbnError> {
    compare(DbnFile::open(mbo)?, DbnFile::open(mbp1)?)
}

/// All DBN files below a folder.
fn dbn_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            dbn_files(&path, found);
        } else if name.ends_with(".dbn") || name.ends_with(".dbn.zst") {
            found.push(path);
        }
    }
}

/// Whatever pairs of the two schemas are there must agree wherever they tell of one instrument
/// and time.
#[test]
fn mbo_shows_what_mbp1_of_the_same_instrument_and_time_shows() {
    let Some(folder) = shared("dbn") else { return };
    let mut files = Vec::new();
    dbn_files(&folder, &mut files);
    files.sort();
    let of_schema = |schema| {
        let has = |path: &&PathBuf| {
            DbnFile::open(path).is_ok_and(|file| file.metadata().schema == Some(schema))
        };
        files.iter().filter(has).collect::<Vec<_>>()
    };
    let (orders, tops) = (of_schema(Schema::Mbo), of_schema(Schema::Mbp1));
    let mut compared = 0;
    for mbo in &orders {
        for mbp1 in &tops {
            let found = compare_files(mbo, mbp1).unwrap();
            let pair = format!("{} and {}", mbo.display(), mbp1.display());
            assert_eq!(found.differences, found.only_counts, "{pair}: {found:#?}");
            if found.compared_mbo != 0 {
                println!("{pair}: {} records flagged last agree", found.compared_mbo);
                compared += 1;
            }
        }
    }
    if compared == 0 {
        let (orders, tops) = (orders.len(), tops.len());
        println!(
            "skipped: none of {orders} MBO and {tops} MBP-1 files in ../shared/data tell of the \
             same instrument and time"
        );
    }
}

/// A book kept without any thought of speed.
#[derive(Default)]
struct Naive {
    orders: HashMap<u64, (u8, i64, u32)>,
    levels: [BTreeMap<i64, (u64, u32)>; 2],
}

impl Naive {
    fn count(&mut self, (side, price, size): (u8, i64, u32), added: bool) {
        let levels = &mut self.levels[usize::from(side == b'A')];
        let level = levels.entry(price).or_default();
        match added {
            true => *level = (level.0 + u64::from(size), level.1 + 1),
            false => *level = (level.0 - u64::from(size), level.1 - 1),
        }
        if *level == (0, 0) {
            levels.remove(&price);
        }
    }

    fn set(&mut self, id: u64, order: Option<(u8, i64, u32)>) {
        let before = match order {
            Some(order) => self.orders.insert(id, order),
            None => self.orders.remove(&id),
        };
        if let Some(before) = before {
            self.count(before, false);
        }
        if let Some(order) = order {
            self.count(order, true);
        }
    }

    fn apply(&mut self, record: &MboMsg) {
        let id = record.order_id;
        match record.action {
            action::ADD | action::MODIFY => {
                self.set(id, Some((record.side, record.price, record.size)));
            }
            action::CANCEL => {
                let (side, price, size) = self.orders[&id];
                let left = size - record.size;
                self.set(id, (left != 0).then_some((side, price, left)));
            }
            action::CLEAR => *self = Naive::default(),
            _ => {}
        }
    }

    fn best(&self) -> BidAskPair {
        let none = (&UNDEF_PRICE, &(0, 0));
        let bid = self.levels[0].last_key_value().unwrap_or(none);
        let ask = self.levels[1].first_key_value().unwrap_or(none);
        BidAskPair {
            bid_px: *bid.0,
            ask_px: *ask.0,
            bid_sz: bid.1.0 as u32,
            ask_sz: ask.1.0 as u32,
            bid_ct: bid.1.1,
            ask_ct: ask.1.1,
        }
    }
}

/// Writes MBP-1 as the naive book has it: a record wherever the best bid or offer has changed.
/// Returns the number of records.
fn write_naive_mbp1(mbo: &Path, target: &Path, spoil: Option<u64>) -> u64 {
    let file = DbnFile::open(mbo).unwrap();
    let mut metadata = file.metadata().clone();
    metadata.schema = Some(Schema::Mbp1);
    let mut encoder = Encoder::new(File::create(target).unwrap(), &metadata).unwrap();
    let (mut book, mut shown, mut written) = (Naive::default(), None, 0);
    for record in file {
        let DbnRecord::Mbo(record) = record.unwrap() else { panic!("an MBO file") };
        book.apply(&record);
        if record.flags & flags::LAST == 0 || shown == Some(book.best()) {
            continue;
        }
        shown = Some(book.best());
        written += 1;
        let mut row = Mbp1Msg {
            ts_recv: record.ts_recv,
            flags: FlagSet::from(record.flags),
            sequence: record.sequence,
            levels: [book.best()],
            ..Mbp1Msg::default()
        };
        row.hd.publisher_id = record.hd.publisher_id;
        row.hd.instrument_id = record.hd.instrument_id;
        row.hd.ts_event = record.hd.ts_event;
        if spoil == Some(written) {
            row.levels[0].bid_sz += 1;
        }
        encoder.encode_record(&row).unwrap();
    }
    encoder.get_mut().flush().unwrap();
    written
}

#[test]
fn the_real_mbo_file_replays_to_the_naive_book() {
    let Some(mbo) = shared("dbn/esm4-20240508.mbo.dbn.zst") else { return };
    let directory = tempfile::tempdir().unwrap();
    let mbp1 = directory.path().join("naive.mbp-1.dbn");
    let changes = write_naive_mbp1(&mbo, &mbp1, None);
    let found = compare_files(&mbo, &mbp1).unwrap();
    assert!(changes > 20, "{changes} changes of the best bid or offer");
    assert_eq!((found.differences, found.instruments), (0, 1), "{found:#?}");
    // From the snapshot's last record to the last change.
    assert_eq!(found.compared_mbo + found.outside, 185);
    assert_eq!(found.compared_mbp1, changes);

    // The comparison finds what is not so.
    let changes = write_naive_mbp1(&mbo, &mbp1, Some(changes / 2));
    let found = compare_files(&mbo, &mbp1).unwrap();
    assert!(found.differences >= 1 && found.only_counts == 0, "{changes}: {found:#?}");
    assert_eq!(found.first[0].book.len(), found.first[0].mbp1.len());
    assert!(matches!(compare_files(&mbp1, &mbo), Err(DbnError::Schema { expected: "MBO", .. })));
}

#[test]
fn the_real_mbo_file_applies_without_an_error() {
    let Some(mbo) = shared("dbn/esm4-20240508.mbo.dbn.zst") else { return };
    let mut memory = BookMemory::new(1, &IngestSettings::default());
    let mut book = memory.book(0).unwrap();
    let mut naive = Naive::default();
    let mut looked = 0;
    for record in DbnFile::open(&mbo).unwrap() {
        let DbnRecord::Mbo(mut record) = record.unwrap() else { panic!("an MBO file") };
        naive.apply(&record);
        record.hd.instrument_id = 0;
        book.apply(&record);
        if record.flags & flags::LAST != 0 {
            let (best, bad) = book.best(0);
            assert!(!bad, "after sequence {}", record.sequence);
            assert!(best.bid_px < best.ask_px, "crossed after sequence {}", record.sequence);
            looked += 1;
        }
    }
    assert_eq!(looked, 185);
}

/// What the published depth has for a side that is empty.
const NONE: [i64; 2] = [9_999_999_999, -9_999_999_999];

/// The Nasdaq day through capture's pipeline into a DBN file; read back and replayed, it shows the
/// best bid and offer that was published after each of 274,432 events.
#[test]
fn the_nasdaq_day_as_dbn_replays_to_the_published_best_bid_and_offer() {
    let (Some(itch), Some(depth)) = (
        day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz"),
        shared("itch/nasdaq-20120621-aapl-amzn.depth.csv.gz"),
    ) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let segment = day::play(&itch, &directory.path().join("w.seg"), 5, 1 << 19, &[]);
    let tail = ["tail", "--from", "oldest", "--until-end", "--directory", "."];
    let status = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(tail)
        .args(["--dbn", "--output", "day.dbn"])
        .current_dir(directory.path())
        .status()
        .unwrap();
    assert!(status.success());
    drop(segment);

    let mut memory = BookMemory::new(64, &IngestSettings::default());
    let mut book = memory.book(0).unwrap();
    let depth = BufReader::new(GzDecoder::new(File::open(depth).unwrap()));
    let mut rows = depth.lines().skip(1).map(|row| {
        let row = row.unwrap();
        let mut fields = row.split(',');
        let ordinal: u64 = fields.next().unwrap().parse().unwrap();
        let id = if fields.next() == Some("AAPL") { 13 } else { 42 };
        let best: Vec<i64> = fields.take(4).map(|field| field.parse().unwrap()).collect();
        (ordinal, id, best)
    });
    let mut row = rows.next();
    let mut compared = 0;
    let mut pending = Vec::new();
    let file = DbnFile::open(&directory.path().join("day.dbn")).unwrap();
    for record in file {
        let DbnRecord::Mbo(record) = record.unwrap() else { continue };
        // All that came before this message is in the book.
        while let Some((ordinal, id, best)) = row.take_if(|row| row.0 < record.sequence.into()) {
            let (found, bad) = book.best(id);
            assert!(!bad && pending.is_empty(), "message {ordinal}");
            assert_eq!(published(&found), best, "{id} after message {ordinal}");
            compared += 1;
            row = rows.next();
        }
        book.apply(&record);
        match record.flags & flags::LAST {
            0 => pending.push(record.sequence),
            _ => pending.clear(),
        }
    }
    // The rows of the very last message have no record behind them.
    assert!(compared > 274_400, "{compared} rows compared");
}

/// Best bid and offer as the depth rows have it: ask price and size, bid price and size.
fn published(bbo: &Bbo) -> Vec<i64> {
    let price = |price: i64, none| if price == UNDEF_PRICE { none } else { price / 100_000 };
    let (ask, bid) = (price(bbo.ask_px, NONE[0]), price(bbo.bid_px, NONE[1]));
    vec![ask, bbo.ask_sz.into(), bid, bbo.bid_sz.into()]
}
