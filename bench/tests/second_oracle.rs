//! Ten levels of depth in the segment against those of itch-book (PyPI, C++), an order book that
//! shares nothing with ours, after every message of real and of invented days.
//!
//! `make oracle` installs it into target/oracle; without it the test says so and ends. Another
//! Python that has it: WIRETAPE_ORACLE_PYTHON.

#[path = "../../core-nostd/tests/itch_worker/mod.rs"]
mod itch_worker;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use itch_worker::{Memory, Size};
use wiretape_bench::flow::{Flow, FlowSpec, itch};
use wiretape_core::event::UNDEF_PRICE;
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::segment::{DEPTH_LEVELS, DepthLevel, FeedCounter};
use wiretape_core::wire::binaryfile::BinaryFile;

const INSTRUMENTS: u32 = 64;
/// Units of an ITCH price (1e-4) in ours (1e-9).
const ITCH_PRICE: i64 = 100_000;
/// Number, locate, and six figures for each level.
const COLUMNS: usize = 2 + 6 * DEPTH_LEVELS;

/// A Python that has itch-book; `None`, with the reason printed, if there is none.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("WIRETAPE_ORACLE_PYTHON").map(PathBuf::from);
    let installed = root.join("../target/oracle/bin/python");
    let candidates = named.into_iter().chain([installed, PathBuf::from("python3")]);
    for candidate in candidates {
        let import = Command::new(&candidate).args(["-c", "import itch_book"]).output();
        if import.is_ok_and(|output| output.status.success()) {
            return Some(candidate);
        }
    }
    println!("skipped: no Python here has itch-book; `make oracle` installs it");
    None
}

/// Ten levels of both sides.
type Book = [[DepthLevel; DEPTH_LEVELS]; 2];
const EMPTY: Book = [[DepthLevel::NONE; DEPTH_LEVELS]; 2];

/// Where itch-book saw the ten best levels change: number of the message, locate, levels.
fn oracle(python: &Path, day: &[u8]) -> Vec<(usize, u32, Book)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("day.itch");
    std::fs::write(&file, day).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/depth_by_itch_book.py");
    let output = Command::new(python).arg(script).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (rows, rest) = output.stdout.as_chunks::<{ 8 * COLUMNS }>();
    assert!(rest.is_empty());
    rows.iter()
        .map(|row| {
            let column = |i: usize| i64::from_le_bytes(row[8 * i..8 * i + 8].try_into().unwrap());
            let level = |first: usize| match column(first + 1) {
                0 => DepthLevel::NONE,
                size => DepthLevel {
                    price: column(first) * ITCH_PRICE,
                    size: size.try_into().unwrap(),
                    orders: column(first + 2).try_into().unwrap(),
                },
            };
            let side = |first: usize| std::array::from_fn(|i| level(first + 6 * i));
            (column(0) as usize - 1, column(1) as u32, [side(2), side(5)])
        })
        .collect()
}

/// Plays `day` through a worker, message by message, and holds its depth and best bid and offer
/// against the oracle's; how many rows of the oracle there were.
fn compare(python: &Path, day: &[u8]) -> usize {
    let rows = oracle(python, day);
    let size = Size {
        instruments: INSTRUMENTS,
        depths: INSTRUMENTS as usize,
        event_slots: 1 << 10,
        orders: 100_000,
        levels: 50_000,
    };
    let mut memory = Memory::new(size);
    let mut worker = memory.one_by_one(Some(&DepthChoice::All));

    let mut expected: HashMap<u32, Book> = HashMap::new();
    let mut next_row = rows.iter().peekable();
    for (number, message) in BinaryFile::new(day).enumerate() {
        worker.take(message);
        while let Some((_, locate, book)) = next_row.next_if(|row| row.0 == number) {
            expected.insert(*locate, *book);
        }
        // Without a row nothing may have changed, which is compared all the same.
        let locate = u32::from(u16::from_be_bytes([message[1], message[2]]));
        if locate == 0 {
            continue;
        }
        let expected = expected.get(&locate).unwrap_or(&EMPTY);
        let table = worker.view.depth();
        let entry = table.place_of(locate).and_then(|place| table.read(place).unwrap());
        let ours = entry.map_or(EMPTY, |entry| [entry.bids, entry.asks]);
        assert_eq!(&ours, expected, "after message {number}, a {}", char::from(message[0]));
        let best = worker.view.market().read(locate).unwrap();
        let shown = best.map_or([(UNDEF_PRICE, 0); 2], |best| {
            [(best.bid_px, best.bid_sz), (best.ask_px, best.ask_sz)]
        });
        let top = expected.map(|side| (side[0].price, side[0].size));
        let top = top.map(|(price, size)| if size == 0 { (UNDEF_PRICE, 0) } else { (price, size) });
        assert_eq!(shown, top, "after message {number}, a {}", char::from(message[0]));
    }
    assert_eq!(next_row.next(), None, "rows that no message stands for");
    assert_eq!(worker.view.feed(0).unwrap().counter(FeedCounter::BookErrors), 0);
    rows.len()
}

/// A file of the real captures; `None`, with the reason printed, where they are absent.
fn capture(name: &str) -> Option<Vec<u8>> {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data").join(name);
    let read = std::fs::read(&path).inspect_err(|error| {
        println!("skipped: {}: {error}", path.display());
    });
    let bytes = read.ok()?;
    let mut plain = Vec::new();
    match name.ends_with(".gz") {
        true => GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap(),
        false => return Some(bytes),
    };
    Some(plain)
}

#[test]
fn the_real_days_have_the_depth_that_itch_book_has() {
    let Some(python) = python() else { return };
    for (name, least) in [
        ("itch/nasdaq-20120621-aapl-amzn.itch.gz", 100_000),
        ("itch/aapl-20200130-10k.itch", 5_000),
    ] {
        let Some(day) = capture(name) else { continue };
        let rows = compare(&python, &day);
        assert!(rows > least, "{rows} rows of {name}");
    }
}

#[test]
fn invented_days_have_the_depth_that_itch_book_has() {
    let Some(python) = python() else { return };
    for seed in 1..=3 {
        let spec = FlowSpec { seed, messages: Some(40_000), ..FlowSpec::default() };
        let (mut day, mut message) = (Vec::new(), Vec::new());
        let symbols: Vec<[u8; 8]> = spec.symbols.iter().map(|name| padded(name)).collect();
        for step in Flow::new(&spec).unwrap() {
            itch::encode(&step, &symbols, &mut message);
            day.extend((message.len() as u16).to_be_bytes());
            day.extend_from_slice(&message);
        }
        let rows = compare(&python, &day);
        assert!(rows > 20_000, "{rows} rows of seed {seed}");
    }
}

fn padded(symbol: &str) -> [u8; 8] {
    let mut padded = [b' '; 8];
    padded[..symbol.len()].copy_from_slice(symbol.as_bytes());
    padded
}
