//! IEX lets messages grow at their end without notice: what is known of a longer one is taken. One
//! that is shorter than its type is none, and the book that it would have changed says so.

use std::sync::atomic::AtomicU64;

use wiretape_core::arena::Arena;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::segment::{
    FeedCounter, FeedIdentity, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter, health,
};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::iextp::{Builder, Stream};
use wiretape_core::wire::{deep10, tops16};

const GROUP: [u8; 4] = [233, 215, 21, 4];
const PORT: u16 = 10_378;
const NOW: u64 = 1_493_092_800_000_000_000;

const SPEC: SegmentSpec<'_> = SegmentSpec {
    worker: "test",
    epoch: 1,
    pid: 0,
    event_slots: 256,
    instruments: 4,
    feeds: 1,
    depths: 0,
};

/// The packet, as a frame, that goes on with `stream`.
fn frame(stream: &mut Stream, message: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 1400];
    let mut builder = Builder::new(&mut buffer, stream).unwrap();
    assert!(builder.push(message));
    let payload = builder.finish(NOW);
    let mut frame = vec![0; payload.len() + 60];
    let route = Route::to_group([10, 0, 0, 1], GROUP, 40_000, PORT);
    let length = route.emit(0, payload, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

/// Takes the messages, and hands over what a reader sees then.
fn after(protocol: Protocol, number: u16, messages: &[&[u8]], look: impl FnOnce(SegmentView<'_>)) {
    let words = SegmentLayout::new(&SPEC).unwrap().total_words;
    let words: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let segment = SegmentWriter::create(&words, &SPEC).unwrap();
    segment.start();
    let mut pipeline = Pipeline::new(segment);
    let spec = FeedSpec {
        identity: FeedIdentity {
            name: "iex".try_into().unwrap(),
            protocol: protocol.name().try_into().unwrap(),
            group: GROUP,
            port: PORT,
            first_instrument: 0,
            instruments: SPEC.instruments as u32,
        },
        publisher_id: protocol.publisher_id(),
        orders: 0,
        levels: 64,
        line_b: None,
        patience: Patience::NONE,
    };
    let mut memory = vec![0; 16 << 20];
    let mut arena = Arena::with_contents_as_found(&mut memory);
    pipeline.add_feed(protocol, &spec, &TradingDays::new([NOW]), &mut arena).unwrap();
    let mut stream = Stream::new(number, 1, 77);
    for message in messages {
        pipeline.on_frame(&frame(&mut stream, message), NOW + 1);
    }
    look(SegmentView::attach(&words).unwrap());
}

/// The fields that messages of both feeds start with, as zeros up to `length` behind them.
fn message(kind: u8, flags: u8, length: usize) -> Vec<u8> {
    let mut message = vec![kind, flags];
    message.extend((NOW as i64).to_le_bytes());
    message.extend(*b"TEST    ");
    message.resize(length, 0);
    message
}

fn bid(size: u32, price: i64) -> Vec<u8> {
    let mut message = message(b'8', deep10::EVENT_COMPLETE, 30);
    message[18..22].copy_from_slice(&size.to_le_bytes());
    message[22..30].copy_from_slice(&price.to_le_bytes());
    message
}

fn quote(size: u32, price: i64) -> Vec<u8> {
    let mut message = message(b'Q', 0, 42);
    message[18..22].copy_from_slice(&size.to_le_bytes());
    message[22..30].copy_from_slice(&price.to_le_bytes());
    message
}

fn trade(size: u32, price: i64) -> Vec<u8> {
    let mut message = message(b'T', 0, 38);
    message[18..22].copy_from_slice(&size.to_le_bytes());
    message[22..30].copy_from_slice(&price.to_le_bytes());
    message
}

fn grown(mut message: Vec<u8>, by: usize) -> Vec<u8> {
    message.resize(message.len() + by, 0xEE);
    message
}

fn cut(mut message: Vec<u8>, length: usize) -> Vec<u8> {
    message.truncate(length);
    message
}

const FEEDS: [(Protocol, u16); 3] = [
    (Protocol::Deep10, deep10::PROTOCOL),
    (Protocol::Tops16, tops16::PROTOCOL),
    (Protocol::Tops16, tops16::PROTOCOL_15),
];

#[test]
fn what_both_feeds_send_beside_their_books_is_known_to_both() {
    for (protocol, number) in FEEDS {
        let messages = [message(b'E', b'O', 18), message(b'I', b'A', 18)];
        let messages = messages.each_ref().map(Vec::as_slice);
        after(protocol, number, &messages, |view| {
            let feed = view.feed(0).unwrap();
            assert_eq!(feed.counter(FeedCounter::Messages), 2, "{protocol:?} {number:x}");
            assert_eq!(feed.counter(FeedCounter::UnknownMessages), 0);
            assert_eq!((feed.messages_of_type(b'E'), feed.messages_of_type(b'I')), (1, 1));
            // The session, the symbol, and the security's event.
            assert_eq!(feed.counter(FeedCounter::Events), 3);
        });
    }
}

#[test]
fn a_message_that_grew_is_taken_as_what_is_known_of_it() {
    for (protocol, number) in FEEDS {
        let book = if protocol == Protocol::Deep10 { bid } else { quote };
        let messages = [grown(book(500, 100_000), 1), grown(trade(20, 99_000), 8)];
        let messages = messages.each_ref().map(Vec::as_slice);
        after(protocol, number, &messages, |view| {
            let market = view.market().read(0).unwrap().unwrap();
            assert_eq!((market.bid_px, market.bid_sz), (10_000_000_000, 500), "{protocol:?}");
            assert_eq!((market.last_px, market.volume), (9_900_000_000, 20), "{protocol:?}");
            assert_eq!(market.health, 0);
            let feed = view.feed(0).unwrap();
            assert_eq!(feed.counter(FeedCounter::BadMessages), 0);
            assert_eq!(feed.messages_of_type(b'T'), 1);
        });
    }
}

#[test]
fn a_message_that_is_too_short_marks_the_book_that_it_would_have_changed() {
    for (protocol, number) in FEEDS {
        let book = if protocol == Protocol::Deep10 { bid } else { quote };
        let first = book(500, 100_000);
        let looks: [(Vec<u8>, u8, bool); 4] = [
            (cut(book(300, 101_000), 29), health::BOOK_ERROR, false),
            (cut(book(300, 101_000), 18), health::BOOK_ERROR, false),
            // It names no instrument: any book may lack it.
            (cut(book(300, 101_000), 17), 0, true),
            (cut(trade(1, 1), 30), 0, false),
        ];
        for (short, marks, all) in looks {
            after(protocol, number, &[&first, &short], |view| {
                let what = format!("{protocol:?} {} {}", char::from(short[0]), short.len());
                let market = view.market().read(0).unwrap().unwrap();
                assert_eq!((market.bid_px, market.bid_sz), (10_000_000_000, 500), "{what}");
                assert_eq!(market.health, marks, "{what}");
                let feed = view.feed(0).unwrap();
                assert_eq!(feed.counter(FeedCounter::BadMessages), 1, "{what}");
                assert_eq!(feed.session().unwrap().maybe_bad_book, all, "{what}");
            });
        }
    }
}
