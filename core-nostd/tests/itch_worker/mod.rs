//! A worker with one ITCH feed in memory of the test's own, and packets for it whose messages can
//! be told by their numbers.

#![allow(dead_code, reason = "not every test that shares this module needs all of it")]

use std::sync::atomic::AtomicU64;

use wiretape_core::arena::Arena;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::arbiter::join::JoinPatience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::depth::DepthChoice;
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

/// How large a worker is.
#[derive(Clone, Copy)]
pub struct Size {
    pub instruments: u32,
    /// Instruments that depth has room for.
    pub depths: usize,
    pub event_slots: usize,
    pub orders: u32,
    pub levels: u32,
}

pub const SMALL: Size =
    Size { instruments: 4, depths: 0, event_slots: 1 << 12, orders: 4_096, levels: 4_096 };

impl Size {
    fn segment(&self) -> SegmentSpec<'static> {
        SegmentSpec {
            worker: "test",
            epoch: 1,
            pid: 0,
            event_slots: self.event_slots,
            instruments: self.instruments as usize,
            feeds: 1,
            depths: self.depths,
        }
    }
}

/// Memory of a segment and of a feed's books.
pub struct Memory {
    size: Size,
    words: Vec<AtomicU64>,
    books: Vec<u8>,
}

impl Memory {
    pub fn new(size: Size) -> Memory {
        let words = SegmentLayout::new(&size.segment()).unwrap().total_words;
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        Memory { size, words, books: vec![0; 128 << 20] }
    }

    /// A worker with one ITCH feed on both lines, and its segment.
    pub fn worker(
        &mut self,
        patience: Patience,
        join: Option<JoinPatience>,
    ) -> (Pipeline<'_>, SegmentView<'_>) {
        let (pipeline, view, _) = self.open(patience, join);
        (pipeline, view)
    }

    /// A worker whose messages come one a packet, on line A alone; with depth of `choice`.
    pub fn one_by_one(&mut self, choice: Option<&DepthChoice>) -> OneByOne<'_> {
        let places = 0..self.size.depths as u32;
        let (mut pipeline, view, mut arena) = self.open(Patience::NONE, None);
        if let Some(choice) = choice {
            pipeline.choose_depth(0, choice, places, &mut arena).unwrap();
        }
        OneByOne { pipeline, view, next: 1, now: MIDNIGHT }
    }

    fn open(
        &mut self,
        patience: Patience,
        join: Option<JoinPatience>,
    ) -> (Pipeline<'_>, SegmentView<'_>, Arena<'_>) {
        let segment = SegmentWriter::create(&self.words, &self.size.segment()).unwrap();
        segment.start();
        let mut pipeline = Pipeline::new(segment);
        let spec = FeedSpec {
            identity: FeedIdentity {
                name: "feed".try_into().unwrap(),
                protocol: Protocol::Itch50.name().try_into().unwrap(),
                group: LINES[0],
                port: PORT,
                first_instrument: 0,
                instruments: self.size.instruments,
            },
            publisher_id: 2,
            orders: self.size.orders,
            levels: self.size.levels,
            line_b: Some((LINES[1], PORT)),
            patience,
        };
        let mut arena = Arena::with_contents_as_found(&mut self.books);
        let days = TradingDays::new([MIDNIGHT]);
        pipeline.add_feed(Protocol::Itch50, &spec, &days, &mut arena).unwrap();
        if let Some(join) = join {
            pipeline.join_by_snapshot(0, &join, &mut arena).unwrap();
        }
        (pipeline, SegmentView::attach(&self.words).unwrap(), arena)
    }
}

/// A worker whose messages come one a packet.
pub struct OneByOne<'m> {
    pub pipeline: Pipeline<'m>,
    pub view: SegmentView<'m>,
    /// Number of the next message.
    pub next: u64,
    /// When it is received.
    pub now: u64,
}

impl OneByOne<'_> {
    pub fn take(&mut self, message: &[u8]) {
        self.take_in_session(message, SESSION);
    }

    pub fn take_in_session(&mut self, message: &[u8], session: [u8; 10]) {
        let mut buffer = [0; 200];
        let mut builder = Builder::new(&mut buffer, session, self.next).unwrap();
        assert!(builder.push(message));
        let mut frame = [0; 300];
        let route = Route::to_group([10, 0, 0, 1], LINES[0], 40_000, PORT);
        let length = route.emit(0, builder.finish(), &mut frame).unwrap();
        self.pipeline.on_frame(&frame[..length], self.now);
        self.next += 1;
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
