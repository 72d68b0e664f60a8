//! Seven real minutes of IEX TOPS against a replay that knows nothing of ours: the bytes of each
//! message by the offsets of IEX's specification, a quote and the trades of each symbol in a map.

#[expect(dead_code, reason = "only the way to a file is needed")]
mod day;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use wiretape_capture::source::pcap::Reader;
use wiretape_core::arena::Arena;
use wiretape_core::event::{MboMsg, SymbolMsg, UNDEF_PRICE, action, flags};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::segment::{
    FeedCounter, FeedIdentity, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter,
};

const GROUP: [u8; 4] = [224, 67, 0, 199];
const PORT: u16 = 16642;
const INSTRUMENTS: usize = 8_192;

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Price and size of a side, absent where nobody quotes.
type Side = Option<(i64, u32)>;

/// What is known of a symbol.
#[derive(Clone, Debug, Default, PartialEq)]
struct Symbol {
    bid: Side,
    ask: Side,
    last: Option<(i64, u32)>,
    volume: u64,
    trades: u64,
}

/// Bids and offers after each quote, in order, and the state at the end.
#[derive(Default)]
struct Replay {
    quotes: Vec<([u8; 8], Side, Side)>,
    /// Symbol, price, size and id of each trade.
    trades: Vec<([u8; 8], i64, u32, u64)>,
    symbols: HashMap<[u8; 8], Symbol>,
    messages: u64,
}

impl Replay {
    /// Takes the payload of a datagram: 40 bytes of header, then messages behind their lengths.
    fn take(&mut self, payload: &[u8]) {
        let mut rest = &payload[40..];
        while rest.len() >= 2 {
            let length = number(&rest[..2]) as usize;
            self.message(&rest[2..2 + length]);
            rest = &rest[2 + length..];
        }
    }

    fn message(&mut self, m: &[u8]) {
        self.messages += 1;
        let price = |at: usize| number(&m[at..at + 8]) as i64 * 100_000;
        let size = |at: usize| number(&m[at..at + 4]) as u32;
        let name = || m[10..18].try_into().unwrap();
        match m[0] {
            b'Q' => {
                let side = |size: u32, price: i64| (size > 0).then_some((price, size));
                let (bid, ask) = (side(size(18), price(22)), side(size(38), price(30)));
                self.quotes.push((name(), bid, ask));
                let symbol = self.symbols.entry(name()).or_default();
                (symbol.bid, symbol.ask) = (bid, ask);
            }
            b'T' => {
                self.trades.push((name(), price(22), size(18), number(&m[30..38])));
                let symbol = self.symbols.entry(name()).or_default();
                symbol.last = Some((price(22), size(18)));
                symbol.volume += u64::from(size(18));
                symbol.trades += 1;
            }
            b'S' => {}
            _ => drop(self.symbols.entry(name()).or_default()),
        }
    }
}

/// A book of one level a side, kept by whoever applies the records.
#[derive(Default)]
struct Applied {
    bid: Side,
    ask: Side,
}

impl Applied {
    fn apply(&mut self, record: &MboMsg) {
        let side = if record.side == b'B' { &mut self.bid } else { &mut self.ask };
        match record.action {
            action::ADD => {
                assert_eq!(*side, None, "{record:?}");
                *side = Some((record.price, record.size));
            }
            action::MODIFY => {
                let before = side.replace((record.price, record.size));
                assert_eq!(before.map(|(price, _)| price), Some(record.price), "{record:?}");
            }
            action::CANCEL => {
                assert_eq!(side.take(), Some((record.price, record.size)), "{record:?}");
            }
            action::NONE => {}
            _ => panic!("{record:?}"),
        }
    }
}

#[test]
fn quotes_trades_and_the_market_are_those_of_a_plain_replay() {
    let Some(path) = day::shared("iex/TOPS16.pcapng.gz") else { return };
    let spec = SegmentSpec {
        worker: "tops",
        epoch: 1,
        pid: 0,
        event_slots: 1 << 17,
        instruments: INSTRUMENTS,
        feeds: 1,
        depths: 0,
    };
    let words = SegmentLayout::new(&spec).unwrap().total_words;
    let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let mut books = vec![0; 16 << 20];
    let segment = SegmentWriter::create(&words, &spec).unwrap();
    let mut pipeline = Pipeline::new(segment);
    let feed = FeedSpec {
        identity: FeedIdentity {
            name: "tops".try_into().unwrap(),
            protocol: Protocol::Tops16.name().try_into().unwrap(),
            group: GROUP,
            port: PORT,
            first_instrument: 0,
            instruments: INSTRUMENTS as u32,
        },
        publisher_id: Protocol::Tops16.publisher_id(),
        orders: 0,
        levels: 0,
        line_b: None,
        patience: Patience::NONE,
    };
    let mut arena = Arena::new(&mut books);
    pipeline.add_feed(Protocol::Tops16, &feed, &TradingDays::new([0]), &mut arena).unwrap();
    segment.start();

    let mut reader = Reader::open(&path).unwrap();
    let mut replay = Replay::default();
    while let Some(packet) = reader.next().unwrap() {
        pipeline.on_frame(packet.data, packet.ts_ns);
        // Ethernet without a tag, IPv4 without options.
        assert_eq!((&packet.data[12..15], packet.data[23]), (&[8, 0, 0x45][..], 17));
        let length = usize::from(u16::from_be_bytes([packet.data[38], packet.data[39]]));
        replay.take(&packet.data[42..34 + length]);
    }
    let view = SegmentView::attach(&words).unwrap();
    let counters = view.feed(0).unwrap();
    assert_eq!(counters.counter(FeedCounter::Messages), replay.messages);
    assert_eq!((replay.quotes.len(), replay.trades.len()), (27_217, 6_390));
    let none = [
        FeedCounter::Gaps,
        FeedCounter::MalformedPackets,
        FeedCounter::UnknownMessages,
        FeedCounter::BadMessages,
        FeedCounter::BookErrors,
    ];
    for counter in none {
        assert_eq!(counters.counter(counter), 0, "{counter:?}");
    }

    let names: HashMap<u32, [u8; 8]> = view
        .symbols()
        .iter()
        .map(|(id, entry)| {
            let mut name = *b"        ";
            let symbol = entry.symbol().as_bytes();
            name[..symbol.len()].copy_from_slice(symbol);
            (id, name)
        })
        .collect();
    assert_eq!(names.len(), replay.symbols.len());

    // Whoever applies the records goes through the same quotes, at records flagged last.
    let mut books: HashMap<u32, Applied> = HashMap::new();
    let (mut quotes, mut trades, mut announced) = (Vec::new(), Vec::new(), 0);
    let mut reader = view.events().reader_from_oldest();
    while let Some((_, event)) = reader.next_event().unwrap() {
        announced += u32::from(event.get::<SymbolMsg>().is_some());
        let Some(record) = event.get::<MboMsg>() else { continue };
        let id = record.hd.instrument_id;
        if record.action == action::TRADE {
            trades.push((names[&id], record.price, record.size, record.order_id));
            continue;
        }
        let (tob, last) = (flags::TOB | flags::MBP, flags::LAST);
        assert_eq!(record.flags & tob, tob, "{record:?}");
        let book = books.entry(id).or_default();
        book.apply(&record);
        if record.flags & last != 0 {
            quotes.push((names[&id], book.bid, book.ask));
        }
    }
    assert!(quotes == replay.quotes, "the quotes differ");
    assert!(trades == replay.trades, "the trades differ");
    assert!(announced > 0);

    for (id, name) in &names {
        let expected = &replay.symbols[name];
        let Some(entry) = view.market().read(*id).unwrap() else {
            assert_eq!(*expected, Symbol::default(), "{}", String::from_utf8_lossy(name));
            continue;
        };
        let side = |price, size| (price != UNDEF_PRICE).then_some((price, size));
        let found = Symbol {
            bid: side(entry.bid_px, entry.bid_sz),
            ask: side(entry.ask_px, entry.ask_sz),
            last: side(entry.last_px, entry.last_sz),
            volume: entry.volume,
            trades: entry.trades,
        };
        assert_eq!(found, *expected, "{}", String::from_utf8_lossy(name));
        assert_eq!(entry.health, 0);
    }
}
