//! An event of IEX DEEP whose messages are not all what the book takes: who waits for the event's
//! end is told of it, and sees the book as it is then.

use std::sync::atomic::AtomicU64;

use wiretape_core::arena::Arena;
use wiretape_core::event::{MboMsg, UNDEF_PRICE, action, flags, rtype};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::segment::{
    FeedCounter, FeedIdentity, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter, health,
};
use wiretape_core::wire::deep10::{EVENT_COMPLETE, PROTOCOL};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::iextp::{Builder, Stream};

const GROUP: [u8; 4] = [233, 215, 21, 4];
const PORT: u16 = 10_378;
const MIDNIGHT: u64 = 1_493_092_800_000_000_000;

const SPEC: SegmentSpec<'_> = SegmentSpec {
    worker: "test",
    epoch: 1,
    pid: 0,
    event_slots: 256,
    instruments: 4,
    feeds: 1,
    depths: 1,
};

fn bid(event_flags: u8, size: u32, price: i64) -> [u8; 30] {
    let mut message = [0; 30];
    (message[0], message[1]) = (b'8', event_flags);
    message[2..10].copy_from_slice(&(MIDNIGHT as i64).to_le_bytes());
    message[10..18].copy_from_slice(b"TEST    ");
    message[18..22].copy_from_slice(&size.to_le_bytes());
    message[22..30].copy_from_slice(&price.to_le_bytes());
    message
}

/// The packet, as a frame, that goes on with `stream`.
fn frame(stream: &mut Stream, messages: &[[u8; 30]]) -> Vec<u8> {
    let mut buffer = [0; 1400];
    let mut builder = Builder::new(&mut buffer, stream).unwrap();
    for message in messages {
        assert!(builder.push(message));
    }
    let payload = builder.finish(MIDNIGHT);
    let mut frame = vec![0; payload.len() + 60];
    let route = Route::to_group([10, 0, 0, 1], GROUP, 40_000, PORT);
    let length = route.emit(0, payload, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

#[test]
fn an_event_whose_last_message_is_refused_ends_all_the_same() {
    let words = SegmentLayout::new(&SPEC).unwrap().total_words;
    let words: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let segment = SegmentWriter::create(&words, &SPEC).unwrap();
    segment.start();
    let view = SegmentView::attach(&words).unwrap();
    let mut pipeline = Pipeline::new(segment);
    let spec = FeedSpec {
        identity: FeedIdentity {
            name: "deep".try_into().unwrap(),
            protocol: Protocol::Deep10.name().try_into().unwrap(),
            group: GROUP,
            port: PORT,
            first_instrument: 0,
            instruments: SPEC.instruments as u32,
        },
        publisher_id: 38,
        orders: 0,
        levels: 64,
        line_b: None,
        patience: Patience::NONE,
    };
    let mut memory = vec![0; 16 << 20];
    let mut arena = Arena::with_contents_as_found(&mut memory);
    let days = TradingDays::new([MIDNIGHT]);
    pipeline.add_feed(Protocol::Deep10, &spec, &days, &mut arena).unwrap();
    pipeline.choose_depth(0, &DepthChoice::All, 0..1, &mut arena).unwrap();
    let mut reader = view.events().reader_from_oldest();
    let mut told = || {
        let mut told = Vec::new();
        while let Some((sequence, event)) = reader.next_event().unwrap() {
            if event.header().rtype == rtype::MBO {
                told.push((sequence, event.get::<MboMsg>().unwrap()));
            }
        }
        told
    };

    let mut stream = Stream::new(PROTOCOL, 1, 77);
    pipeline.on_frame(&frame(&mut stream, &[bid(EVENT_COMPLETE, 500, 100_000)]), MIDNIGHT + 1);
    let first = told();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].1.flags, flags::MBP | flags::LAST);

    // A better bid, and then a price of zero as the event's last message.
    let event = [bid(0, 300, 101_000), bid(EVENT_COMPLETE, 100, 0)];
    pipeline.on_frame(&frame(&mut stream, &event), MIDNIGHT + 2);
    let event = told();
    let marks: Vec<_> = event.iter().map(|(_, record)| (record.action, record.flags)).collect();
    let over = (action::NONE, flags::MBP | flags::LAST);
    assert_eq!(marks, [(action::ADD, flags::MBP), over]);
    let (sequence, end) = event[1];
    assert_eq!((end.price, end.size, end.hd.instrument_id), (UNDEF_PRICE, 0, 0));
    assert_eq!(end.sequence, 3, "the refused message's number");
    let market = view.market().read(0).unwrap().unwrap();
    assert_eq!((market.bid_px, market.bid_sz, market.orders), (10_100_000_000, 300, 2));
    assert_eq!((market.event_seq, market.ts_recv), (sequence, MIDNIGHT + 2));
    assert_eq!(market.health, health::BOOK_ERROR);
    let depth = view.depth().read(0).unwrap().unwrap();
    assert_eq!((depth.bids[0].price, depth.bids[1].price), (10_100_000_000, 10_000_000_000));
    assert_eq!((depth.event_seq, depth.health), (sequence, health::BOOK_ERROR));

    // Refused in the middle: the event's own last message ends it.
    let event = [bid(0, 100, 0), bid(EVENT_COMPLETE, 0, 101_000)];
    pipeline.on_frame(&frame(&mut stream, &event), MIDNIGHT + 3);
    let event = told();
    let marks: Vec<_> = event.iter().map(|(_, record)| (record.action, record.flags)).collect();
    assert_eq!(marks, [(action::CANCEL, flags::MBP | flags::LAST)]);
    let market = view.market().read(0).unwrap().unwrap();
    assert_eq!((market.bid_px, market.event_seq), (10_000_000_000, event[0].0));
    assert_eq!(view.feed(0).unwrap().counter(FeedCounter::BookErrors), 2);
}
