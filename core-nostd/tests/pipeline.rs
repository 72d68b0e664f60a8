//! The way from frame to event on real exchange bytes, and on damaged ones.

mod real_data;

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use wiretape_core::arena::Arena;
use wiretape_core::book::{BookSpec, HashIndex, OrderBook};
use wiretape_core::event::{Event, GapMsg, action, flags, gap_reason, rtype};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::ring::broadcast::Reader;
use wiretape_core::segment::{
    Counter, ErrorGroup, FeedCounter, FeedIdentity, Ledger, SegmentLayout, SegmentSpec,
    SegmentView, SegmentWriter, health,
};
use wiretape_core::wire::binaryfile::BinaryFile;
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::moldudp64::Builder;

const GROUP: [u8; 4] = [233, 54, 12, 111];
const PORT: u16 = 26477;
const SESSION: [u8; 10] = *b"TEST000001";
const MIDNIGHT: u64 = 1_340_251_200_000_000_000;

/// Memory of a segment and of the books, as a worker would claim it.
struct Memory {
    words: Vec<AtomicU64>,
    books: Vec<u8>,
    spec: SegmentSpec<'static>,
}

impl Memory {
    fn new(event_slots: usize, instruments: usize) -> Memory {
        let spec = SegmentSpec {
            worker: "test",
            epoch: 1,
            pid: 0,
            event_slots,
            instruments,
            feeds: 1,
            depths: 0,
        };
        let words = SegmentLayout::new(&spec).unwrap().total_words;
        Memory {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            books: vec![0; 128 << 20],
            spec,
        }
    }

    /// A worker with one feed, and what a reader sees of it.
    fn worker(&mut self, protocol: Protocol) -> (Pipeline<'_>, SegmentView<'_>) {
        let segment = SegmentWriter::create(&self.words, &self.spec).unwrap();
        segment.start();
        let mut pipeline = Pipeline::new(segment);
        let spec = FeedSpec {
            identity: FeedIdentity {
                name: "feed".try_into().unwrap(),
                protocol: protocol.name().try_into().unwrap(),
                group: GROUP,
                port: PORT,
                first_instrument: 0,
                instruments: self.spec.instruments as u32,
            },
            publisher_id: protocol.publisher_id(),
            orders: 50_000,
            levels: 20_000,
            line_b: None,
            patience: Patience::NONE,
        };
        let days = TradingDays::new([MIDNIGHT]);
        let mut arena = Arena::with_contents_as_found(&mut self.books);
        pipeline.add_feed(protocol, &spec, &days, &mut arena).unwrap();
        (pipeline, SegmentView::attach(&self.words).unwrap())
    }
}

/// One frame of MoldUDP64 with `messages`, the first of which has number `sequence`.
fn frame(sequence: u64, messages: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0; 1400];
    let mut builder = Builder::new(&mut payload, SESSION, sequence).unwrap();
    for message in messages {
        assert!(builder.push(message), "messages fit a packet");
    }
    let payload = builder.finish();
    let route = Route::to_group([10, 0, 0, 1], GROUP, 40_000, PORT);
    let mut frame = vec![0; payload.len() + 60];
    let length = route.emit(0, payload, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

/// A day as frames of up to `each` messages.
fn frames(day: &[u8], each: usize) -> Vec<Vec<u8>> {
    let messages: Vec<&[u8]> = BinaryFile::new(day).collect();
    let mut sequence = 1;
    let mut frames = Vec::new();
    for chunk in messages.chunks(each) {
        frames.push(frame(sequence, chunk));
        sequence += chunk.len() as u64;
    }
    frames
}

fn drain(reader: &mut Reader<'_>, mut each: impl FnMut(u64, &Event)) {
    while let Some((sequence, event)) = reader.next_event().expect("a ring that holds a packet") {
        each(sequence, &event);
    }
}

#[test]
fn a_nasdaq_day_gives_events_that_rebuild_its_books() {
    let Some(day) = real_data::read("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let mut memory = Memory::new(1 << 10, 64);
    let (mut pipeline, view) = memory.worker(Protocol::Itch50);
    let mut reader = view.events().reader_from_oldest();

    let spec = BookSpec { instruments: 64, orders: 50_000, levels: 20_000 };
    let mut books = vec![0; 64 << 20];
    let mut arena = Arena::new(&mut books);
    let index = HashIndex::new(&mut arena, spec.orders).unwrap();
    let mut mirror = OrderBook::new(&mut arena, &spec, index).unwrap();

    let mut actions = [0u64; 256];
    let mut previous = None;
    let mut checked = 0;
    for (i, frame) in frames(&day, 12).iter().enumerate() {
        pipeline.on_frame(frame, MIDNIGHT + i as u64);
        let mut last = None;
        drain(&mut reader, |_, event| {
            let Some(record) = event.mbo() else { return };
            actions[usize::from(record.action)] += 1;
            mirror.apply(&record).expect("published events apply");
            if record.action == action::FILL {
                // Every fill has its trade, of the same size, just before it.
                let (what, size) = previous.expect("a record before the fill");
                assert_eq!((what, size), (action::TRADE, record.size));
            }
            previous = Some((record.action, record.size));
            if record.flags & flags::LAST != 0 {
                last = Some(record.hd.instrument_id);
            }
        });
        // The market table shows the state after the whole packet.
        if let Some(instrument) = last {
            let market = view.market().read(instrument).unwrap().expect("an entry");
            let best = mirror.best(instrument);
            assert_eq!(
                (market.bid_px, market.ask_px, market.bid_sz, market.ask_sz, market.bid_ct),
                (best.bid_px, best.ask_px, best.bid_sz, best.ask_sz, best.bid_ct)
            );
            checked += 1;
        }
    }
    assert!(checked > 20_000, "{checked}");
    assert_eq!(mirror.live_orders(), 1_934);

    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::Messages), 331_238);
    let by_type = [(b'A', 149_376), (b'D', 126_946), (b'E', 29_921), (b'P', 13_777)];
    for (kind, count) in by_type {
        assert_eq!(feed.messages_of_type(kind), count, "{}", char::from(kind));
    }
    for counter in [FeedCounter::BookErrors, FeedCounter::LostMessages, FeedCounter::BadMessages] {
        assert_eq!(feed.counter(counter), 0, "{}", counter.name());
    }
    let count = |letter: u8| actions[usize::from(letter)];
    assert_eq!(count(action::ADD), 149_376);
    assert_eq!(count(action::FILL), 29_921);
    assert_eq!(count(action::TRADE), 29_921 + 13_777);
    assert_eq!(count(action::CANCEL), 126_946 + 29_921 + 11_208);
    assert!(Ledger::read(&view.counters(), false).closes());
    let aapl = view.symbols().find("AAPL").unwrap();
    assert_eq!(aapl, 13);
    assert!(view.market().read(aapl).unwrap().unwrap().volume > 1_000_000);
}

/// The day's first messages, for the tests of damage.
fn some_messages() -> Option<Vec<Vec<u8>>> {
    let day = real_data::read("itch/aapl-20200130-10k.itch")?;
    Some(BinaryFile::new(&day).take(600).map(<[u8]>::to_vec).collect())
}

#[test]
fn lost_packets_are_reported_to_the_exact_range() {
    let Some(messages) = some_messages() else { return };
    let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let chunks: Vec<_> = borrowed.chunks(7).collect();
    // One packet, two in a row, and the one before the last; the first is not lost but late.
    let dropped = [0, 3, 10, 11, chunks.len() - 2];
    let mut memory = Memory::new(1 << 12, 1 << 16);
    let (mut pipeline, view) = memory.worker(Protocol::Itch50);
    let mut reader = view.events().reader_from_oldest();
    let mut gaps = Vec::new();
    let mut flagged = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        if dropped.contains(&i) {
            continue;
        }
        pipeline.on_frame(&frame(1 + 7 * i as u64, chunk), MIDNIGHT);
        drain(&mut reader, |_, event| {
            if let Some(gap) = event.get::<GapMsg>() {
                gaps.push((gap.first_seq, gap.end_seq, gap.reason));
            } else if let Some(record) = event.mbo() {
                assert_ne!(record.flags & flags::MAYBE_BAD_BOOK, 0);
                flagged += 1;
            }
        });
    }
    let late = 1 + 7 * (chunks.len() as u64 - 2);
    let jump = gap_reason::SEQUENCE_JUMP;
    let expected =
        [(1, 8, gap_reason::LATE_JOIN), (22, 29, jump), (71, 85, jump), (late, late + 7, jump)];
    assert_eq!(gaps, expected);
    assert!(flagged > 100);
    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::LostMessages), 28);
    assert_eq!(feed.counter(FeedCounter::JoinedLateMessages), 7);
    assert!(feed.session().unwrap().maybe_bad_book);
    // Orders whose add was lost were deleted: counted as the book's errors, by cause.
    let unknown = feed.errors(ErrorGroup::Book, 0);
    assert_eq!(unknown, feed.counter(FeedCounter::BookErrors));
}

#[test]
fn an_execution_larger_than_its_order_does_not_stop_the_next_message() {
    let mut memory = Memory::new(1 << 10, 8);
    let (mut pipeline, view) = memory.worker(Protocol::Itch50);
    let mut add = vec![b'A', 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, b'B'];
    add.extend(100u32.to_be_bytes());
    add.extend(*b"TEST    ");
    add.extend(10_000u32.to_be_bytes());
    let mut execute = vec![b'E', 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5];
    execute.extend(150u32.to_be_bytes());
    execute.extend(1u64.to_be_bytes());
    let mut other = add.clone();
    other[18] = 6;
    let mut far = add.clone();
    far[1..3].copy_from_slice(&900u16.to_be_bytes());
    let unknown = [b'~', 1, 2, 3];
    let short = &add[..20];
    pipeline.on_frame(&frame(1, &[&add, &add, &execute, &unknown, short, &far, &other]), MIDNIGHT);
    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::Messages), 7);
    assert_eq!(feed.counter(FeedCounter::BookErrors), 2);
    assert_eq!(feed.counter(FeedCounter::UnknownMessages), 1);
    assert_eq!(feed.counter(FeedCounter::BadMessages), 1);
    assert_eq!(view.counters().get(Counter::InstrumentsFull), 1);
    let market = view.market().read(1).unwrap().unwrap();
    assert_eq!((market.bid_px, market.bid_sz, market.bid_ct), (1_000_000_000, 100, 1));
    assert_eq!(market.health, health::BOOK_ERROR | health::UNDIRECTED);
}

#[test]
fn an_execution_that_is_not_printable_is_marked_and_is_no_volume() {
    let mut memory = Memory::new(1 << 10, 8);
    let (mut pipeline, view) = memory.worker(Protocol::Itch50);
    let mut add = vec![b'A', 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, b'B'];
    add.extend(100u32.to_be_bytes());
    add.extend(*b"TEST    ");
    add.extend(10_000u32.to_be_bytes());
    let execute = |shares: u32, printable: u8| {
        let mut execute = vec![b'C', 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5];
        execute.extend(shares.to_be_bytes());
        execute.extend(1u64.to_be_bytes());
        execute.push(printable);
        execute.extend(10_000u32.to_be_bytes());
        execute
    };
    pipeline.on_frame(&frame(1, &[&add, &execute(10, b'N'), &execute(20, b'Y')]), MIDNIGHT);
    let mut trades = Vec::new();
    drain(&mut view.events().reader_from_oldest(), |_, event| {
        if let Some(trade) = event.mbo().filter(|record| record.action == action::TRADE) {
            trades.push((trade.size, flags::unprintable(trade.flags)));
        }
    });
    assert_eq!(trades, [(10, true), (20, false)]);
    assert_eq!(view.market().read(1).unwrap().unwrap().volume, 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Frames cut, bent or invented: every one is counted once, and the worker goes on.
    #[test]
    fn damaged_frames_are_counted_by_cause(
        damage in prop::collection::vec(
            (0usize..80, 0usize..300, any::<u8>(), prop::option::of(0usize..300)), 1..60),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10),
    ) {
        let Some(messages) = some_messages() else { return Ok(()) };
        let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut memory = Memory::new(1 << 10, 64);
        let (mut pipeline, view) = memory.worker(Protocol::Itch50);
        let mut sent = 0;
        for (index, at, value, cut) in damage {
            let chunk = borrowed.chunks(7).nth(index).unwrap();
            let mut bytes = frame(1 + 7 * index as u64, chunk);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut.unwrap_or(bytes.len()));
            pipeline.on_frame(&bytes, MIDNIGHT);
            sent += 1;
        }
        for bytes in &noise {
            pipeline.on_frame(bytes, MIDNIGHT);
            sent += 1;
        }
        prop_assert_eq!(view.counters().get(Counter::Frames), sent);
        prop_assert!(Ledger::read(&view.counters(), false).closes());
        let mut reader = view.events().reader_from_oldest();
        while let Ok(Some((_, event))) = reader.next_event() {
            prop_assert!(matches!(
                event.rtype(),
                rtype::MBO..=rtype::MBO | rtype::STATUS | rtype::SYMBOL..=rtype::AUCTION
            ));
        }
    }
}
