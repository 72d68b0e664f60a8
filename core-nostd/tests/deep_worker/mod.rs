//! A worker with one feed of IEX DEEP in memory of the test's own, and packets for it.

#![allow(dead_code, reason = "not every test that shares this module needs all of it")]

use std::sync::atomic::AtomicU64;

use wiretape_core::arena::Arena;
use wiretape_core::event::{MboMsg, rtype};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::ring::broadcast::Reader;
use wiretape_core::segment::{
    FeedIdentity, MarketEntry, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter,
};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::iextp::{Builder, Stream};

/// Those of the capture, for frames of our own as well.
const GROUP: [u8; 4] = [224, 2, 3, 10];
const PORT: u16 = 16_648;
pub const MIDNIGHT: u64 = 1_493_092_800_000_000_000;

pub const SPEC: SegmentSpec<'_> = SegmentSpec {
    worker: "test",
    epoch: 1,
    pid: 0,
    event_slots: 256,
    instruments: 4,
    feeds: 1,
    depths: 4,
};

/// A message of an event at `at` nanoseconds past midnight.
pub fn level(at: i64, symbol: &[u8; 8], event_flags: u8, size: u32, price: i64) -> Vec<u8> {
    let mut message = vec![0; 30];
    (message[0], message[1]) = (b'8', event_flags);
    message[2..10].copy_from_slice(&(MIDNIGHT as i64 + at).to_le_bytes());
    message[10..18].copy_from_slice(symbol);
    message[18..22].copy_from_slice(&size.to_le_bytes());
    message[22..30].copy_from_slice(&price.to_le_bytes());
    message
}

pub fn trade(at: i64, symbol: &[u8; 8], size: u32, price: i64) -> Vec<u8> {
    let mut message = level(at, symbol, 0, size, price);
    message[0] = b'T';
    message.extend(7_i64.to_le_bytes());
    message
}

/// The packet, as a frame, that goes on with `stream`.
pub fn frame(stream: &mut Stream, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut buffer = [0; 1400];
    let mut builder = Builder::new(&mut buffer, stream).unwrap();
    for message in messages {
        assert!(builder.push(message));
    }
    as_frame(builder.finish(MIDNIGHT))
}

pub fn as_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; payload.len() + 60];
    let route = Route::to_group([10, 0, 0, 1], GROUP, 40_000, PORT);
    let length = route.emit(0, payload, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

/// A worker with one feed of `segment`'s size.
pub fn with_worker(segment: &SegmentSpec<'_>, test: impl FnOnce(Worker<'_>)) {
    let words = SegmentLayout::new(segment).unwrap().total_words;
    let words: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let writer = SegmentWriter::create(&words, segment).unwrap();
    writer.start();
    let view = SegmentView::attach(&words).unwrap();
    let mut pipeline = Pipeline::new(writer);
    let spec = FeedSpec {
        identity: FeedIdentity {
            name: "deep".try_into().unwrap(),
            protocol: Protocol::Deep10.name().try_into().unwrap(),
            group: GROUP,
            port: PORT,
            first_instrument: 0,
            instruments: segment.instruments as u32,
        },
        publisher_id: 38,
        orders: 0,
        levels: 4_096,
        line_b: None,
        patience: Patience::NONE,
    };
    let mut memory = vec![0; 16 << 20];
    let mut arena = Arena::with_contents_as_found(&mut memory);
    let days = TradingDays::new([MIDNIGHT]);
    pipeline.add_feed(Protocol::Deep10, &spec, &days, &mut arena).unwrap();
    let places = 0..segment.depths as u32;
    pipeline.choose_depth(0, &DepthChoice::All, places, &mut arena).unwrap();
    let reader = view.events().reader_from_oldest();
    test(Worker { pipeline, view, reader });
}

pub struct Worker<'m> {
    pub pipeline: Pipeline<'m>,
    pub view: SegmentView<'m>,
    pub reader: Reader<'m>,
}

impl Worker<'_> {
    /// The records that a frame received at `now` gives, with their places in the ring.
    pub fn take(&mut self, frame: &[u8], now: u64) -> Vec<(u64, MboMsg)> {
        self.pipeline.on_frame(frame, now);
        self.told()
    }

    /// The records published since the last look.
    pub fn told(&mut self) -> Vec<(u64, MboMsg)> {
        let mut told = Vec::new();
        while let Some((sequence, event)) = self.reader.next_event().unwrap() {
            if event.header().rtype == rtype::MBO {
                told.push((sequence, event.get::<MboMsg>().unwrap()));
            }
        }
        told
    }

    pub fn market(&self, instrument: u32) -> MarketEntry {
        self.view.market().read(instrument).unwrap().unwrap()
    }

    /// The best bids of an instrument, and of which event they are.
    pub fn bids(&self, instrument: u32) -> (Vec<i64>, u64) {
        let depth = self.view.depth().read(instrument as usize).unwrap().unwrap();
        assert_eq!(depth.instrument, instrument);
        let bids = depth.bids.iter().filter(|level| level.is_some());
        (bids.map(|level| level.price).collect(), depth.event_seq)
    }
}
