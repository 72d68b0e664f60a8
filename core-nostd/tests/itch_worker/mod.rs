//! A worker with one ITCH feed in memory of the test's own, and packets for it whose messages can
//! be told by their numbers.

use std::sync::atomic::AtomicU64;

use wiretape_core::arena::Arena;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::arbiter::join::JoinPatience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::segment::{
    FeedIdentity, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter,
};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::itch50::{AddOrder, Head, Price4};
use wiretape_core::wire::moldudp64::Builder;
use zerocopy::IntoBytes;

pub const LINES: [[u8; 4]; 2] = [[233, 54, 12, 111], [233, 49, 196, 111]];
pub const PORT: u16 = 26477;
pub const SESSION: [u8; 10] = *b"TEST000001";
pub const MIDNIGHT: u64 = 1_340_251_200_000_000_000;
pub const START: u64 = MIDNIGHT + 34_200_000_000_000;

/// Memory of a segment and of a feed's books.
pub struct Memory {
    words: Vec<AtomicU64>,
    books: Vec<u8>,
}

pub const SPEC: SegmentSpec<'static> = SegmentSpec {
    worker: "test",
    epoch: 1,
    pid: 0,
    event_slots: 1 << 12,
    instruments: 4,
    feeds: 1,
    depths: 0,
};

impl Memory {
    pub fn new() -> Memory {
        let words = SegmentLayout::new(&SPEC).unwrap().total_words;
        Memory { words: (0..words).map(|_| AtomicU64::new(0)).collect(), books: vec![0; 48 << 20] }
    }

    /// A worker with one ITCH feed on both lines, and its segment.
    pub fn worker(
        &mut self,
        patience: Patience,
        join: Option<JoinPatience>,
    ) -> (Pipeline<'_>, SegmentView<'_>) {
        let segment = SegmentWriter::create(&self.words, &SPEC).unwrap();
        segment.start();
        let mut pipeline = Pipeline::new(segment);
        let spec = FeedSpec {
            identity: FeedIdentity {
                name: "feed".try_into().unwrap(),
                protocol: Protocol::Itch50.name().try_into().unwrap(),
                group: LINES[0],
                port: PORT,
                first_instrument: 0,
                instruments: 4,
            },
            publisher_id: 2,
            orders: 4_096,
            levels: 4_096,
            line_b: Some((LINES[1], PORT)),
            patience,
        };
        let mut arena = Arena::with_contents_as_found(&mut self.books);
        pipeline
            .add_feed(Protocol::Itch50, &spec, &TradingDays::new([MIDNIGHT]), &mut arena)
            .unwrap();
        if let Some(join) = join {
            pipeline.join_by_snapshot(0, &join, &mut arena).unwrap();
        }
        (pipeline, SegmentView::attach(&self.words).unwrap())
    }
}

/// The message with that number: an order of the same number to buy at a price of its own.
pub fn order(number: u64) -> AddOrder {
    AddOrder {
        head: Head::new(AddOrder::KIND, 1, 0, 34_200_000_000_000 + number),
        order_ref: number.into(),
        side: b'B',
        shares: 100.into(),
        stock: *b"TEST    ",
        price: Price4::new(10_000 + number as u32),
    }
}

/// Messages `first..end` as a packet.
pub fn payload(first: u64, end: u64) -> Vec<u8> {
    let mut buffer = vec![0; 1400];
    let mut builder = Builder::new(&mut buffer, SESSION, first).unwrap();
    for number in first..end {
        assert!(builder.push(order(number).as_bytes()));
    }
    builder.finish().to_vec()
}

/// A payload as it comes on a line.
pub fn frame(line: usize, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; payload.len() + 60];
    let route = Route::to_group([10, 0, 0, 1], LINES[line], 40_000, PORT);
    let length = route.emit(0, payload, &mut frame).unwrap();
    frame.truncate(length);
    frame
}
