//! The whole way, with all its state: frames of three feeds, in any order, lost, doubled, restarted
//! and damaged. Every frame is counted under exactly one cause, and what is published is sound.
//!
//! The input is a list of steps. A step is a raw frame, or a packet with the next (or another)
//! sequence number whose messages have a known type and length and any content.
#![no_main]

use std::sync::atomic::AtomicU64;

use libfuzzer_sys::fuzz_target;
use wiretape_core::arena::Arena;
use wiretape_core::event::Event;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::segment::{
    Counter, FeedCounter, FeedIdentity, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter,
};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::iextp::{self, Stream};
use wiretape_core::wire::{deep10, itch50, moldudp64, tops16};

const INSTRUMENTS: u32 = 8;
const DEPTHS: usize = 4;
const GROUPS: [[u8; 4]; 3] = [[233, 54, 12, 111], [224, 2, 3, 10], [224, 2, 3, 20]];
const LINES_B: [[u8; 4]; 3] = [[233, 49, 196, 111], [224, 2, 3, 11], [224, 2, 3, 21]];
/// Where the destination stands in an Ethernet frame without a VLAN tag.
const DESTINATION: std::ops::Range<usize> = 30..34;
const PAYLOAD: usize = 42;

fuzz_target!(|bytes: &[u8]| {
    let spec = SegmentSpec {
        worker: "fuzz",
        epoch: 1,
        pid: 0,
        event_slots: 1024,
        instruments: GROUPS.len() * INSTRUMENTS as usize,
        feeds: GROUPS.len(),
        depths: GROUPS.len() * DEPTHS,
    };
    let total = SegmentLayout::new(&spec).unwrap().total_words;
    let words: Vec<AtomicU64> = (0..total).map(|_| AtomicU64::new(0)).collect();
    // Fresh zero pages: most of an index directory is never touched.
    let mut memory = vec![0; 40 << 20];
    let mut arena = Arena::with_contents_as_found(&mut memory);
    let segment = SegmentWriter::create(&words, &spec).unwrap();
    segment.start();
    let mut pipeline = Pipeline::new(segment);
    for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
        let spec = FeedSpec {
            identity: FeedIdentity {
                name: "feed".try_into().unwrap(),
                protocol: protocol.name().try_into().unwrap(),
                group: GROUPS[index],
                port: 26477,
                first_instrument: index as u32 * INSTRUMENTS,
                instruments: INSTRUMENTS,
            },
            publisher_id: protocol.publisher_id(),
            orders: 64,
            levels: 64,
            line_b: Some((LINES_B[index], 26477)),
            patience: Patience {
                packets: 6,
                packet_bytes: 256,
                wait_ns: 20,
                recovery_ns: (index == 0).then_some(10),
            },
        };
        let days = TradingDays::new([1_340_251_200_000_000_000]);
        pipeline.add_feed(protocol, &spec, &days, &mut arena).unwrap();
        let all = DepthChoice::All;
        let first = (index * DEPTHS) as u32;
        let places = first..first + DEPTHS as u32;
        pipeline.choose_depth(index, &all, places, &mut arena).unwrap();
    }
    let view = SegmentView::attach(&words).unwrap();
    let mut reader = view.events().reader_from_oldest();

    let mut steps = Steps { rest: bytes };
    let mut sequences = [1_u64; 3];
    let (mut frames, mut now) = (0, 1_340_290_800_000_000_000);
    while let Some(kind) = steps.byte() {
        let mut frame = match kind % 8 {
            0 => steps.take().to_vec(),
            1..5 => steps.itch_packet(&mut sequences[0]),
            5 | 6 => steps.iex_packet(1, &mut sequences[1]),
            _ => steps.iex_packet(2, &mut sequences[2]),
        };
        now += u64::from(kind >> 6) * 15;
        if kind & 8 != 0
            && let Some(to) = frame.get_mut(DESTINATION)
            && let Some(feed) = GROUPS.iter().position(|group| to == group)
        {
            // Line B: its headers' checksum is not looked at.
            to.copy_from_slice(&LINES_B[feed]);
        }
        if kind & 16 != 0 {
            pipeline.on_recovered(usize::from(kind) % GROUPS.len(), frame.get(PAYLOAD..).unwrap_or(&[]), now);
            while pipeline.next_request().is_some() {}
            continue;
        }
        frames += 1;
        pipeline.on_frame(&frame, now);
        while let Ok(Some((_, event))) = reader.next_event() {
            check(&event);
        }
    }

    pipeline.finish(now);
    while let Ok(Some((_, event))) = reader.next_event() {
        check(&event);
    }
    let count = |counter| view.counters().get(counter);
    let refused = [
        Counter::OtherGroup,
        Counter::FrameTruncated,
        Counter::FrameNotIpv4,
        Counter::FrameFragment,
        Counter::FrameNotUdp,
        Counter::FrameBadHeader,
    ];
    let refused: u64 = refused.map(count).iter().sum();
    assert_eq!((count(Counter::Frames), count(Counter::Datagrams) + refused), (frames, frames));
    let packets: u64 = view.feeds().map(|feed| feed.counter(FeedCounter::Packets)).sum();
    assert_eq!(packets, count(Counter::Datagrams));
    assert_eq!(count(Counter::Events), view.events().head());
});

fn check(event: &Event) {
    let header = event.header();
    assert!(header.instrument_id < GROUPS.len() as u32 * INSTRUMENTS || header.instrument_id == u32::MAX);
    assert_eq!(event.record_bytes().len(), usize::from(header.length) * 4);
    assert!(matches!(header.rtype, 0x12 | 0xA0 | 0xF0..=0xF4), "{:#x}", header.rtype);
}

/// What the rest of the input says.
struct Steps<'a> {
    rest: &'a [u8],
}

impl<'a> Steps<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// As many bytes as the next one says, or what is left.
    fn take(&mut self) -> &'a [u8] {
        let length = self.byte().unwrap_or(0);
        self.take_exactly(usize::from(length))
    }

    fn take_exactly(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A message of a known type, its other bytes from the input; instruments and orders are few,
    /// so that messages meet.
    fn message(&mut self, kinds: &[u8], length_of: fn(u8) -> Option<u16>) -> Vec<u8> {
        let kind = kinds[usize::from(self.byte().unwrap_or(0)) % kinds.len()];
        let mut message = vec![0; length_of(kind).map_or(1, usize::from)];
        let content = self.take_exactly(message.len() - 1);
        message[1..=content.len()].copy_from_slice(content);
        message[0] = kind;
        message
    }

    fn step(&mut self, sequence: &mut u64) -> u64 {
        match self.byte().unwrap_or(0) {
            step @ 250.. => *sequence = u64::from(step - 250),
            step @ 240.. => *sequence += u64::from(step - 239),
            step @ 230.. => *sequence = sequence.saturating_sub(u64::from(step - 229)),
            _ => {}
        }
        *sequence
    }

    fn itch_packet(&mut self, sequence: &mut u64) -> Vec<u8> {
        let first = self.step(sequence);
        let session = if self.byte() == Some(0xFF) { *b"OTHER00001" } else { *b"FUZZ000001" };
        let mut payload = [0; 600];
        let mut builder = moldudp64::Builder::new(&mut payload, session, first).unwrap();
        for _ in 0..self.byte().unwrap_or(0) % 8 {
            let mut message =
                self.message(b"ADDFEXCUUPQBSRHYLVWKJhINO", itch50::Message::length_of);
            message[1] = 0;
            message[2] %= INSTRUMENTS as u8 + 2;
            if message.len() > 19 {
                message[11..18].fill(0);
            }
            *sequence += u64::from(builder.push(&message));
        }
        frame(GROUPS[0], builder.finish(), self.byte())
    }

    fn iex_packet(&mut self, feed: usize, sequence: &mut u64) -> Vec<u8> {
        let first = self.step(sequence);
        let channel = u32::from(self.byte() == Some(0xFF));
        let protocol = [0, deep10::PROTOCOL, tops16::PROTOCOL][feed];
        let mut stream = Stream::new(protocol, 1, 7 + channel);
        (stream.sequence, stream.offset) = (first, first * 64);
        let mut payload = [0; 600];
        let mut builder = iextp::Builder::new(&mut payload, &mut stream).unwrap();
        for _ in 0..self.byte().unwrap_or(0) % 8 {
            let mut message = match feed {
                1 => self.message(b"858585TBXADHIOPSE", deep10::Message::length_of),
                _ => self.message(b"QQQQQQTBXADHIOPSE", tops16::Message::length_of),
            };
            if message.len() >= 18 {
                // The symbol: one of a few.
                message[10..18].copy_from_slice(b"ZVZZ    ");
                message[14] = b'A' + message[2] % (INSTRUMENTS as u8 + 2);
            }
            let _ = builder.push(&message);
        }
        let payload = builder.finish(u64::from(first) * 1_000_000).to_vec();
        *sequence = stream.sequence;
        frame(GROUPS[feed], &payload, self.byte())
    }
}

/// A frame, now and then with a spoilt byte.
fn frame(group: [u8; 4], payload: &[u8], damage: Option<u8>) -> Vec<u8> {
    let route = Route::to_group([10, 0, 0, 1], group, 26477, 26477);
    let mut frame = vec![0; route.header_len() + payload.len()];
    route.emit(0, payload, &mut frame).unwrap();
    if let Some(damage @ 200..) = damage {
        let at = usize::from(damage) * 7 % frame.len();
        frame[at] ^= damage;
    }
    frame
}
