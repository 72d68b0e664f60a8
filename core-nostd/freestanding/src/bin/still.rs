//! The way of a packet: frame → datagram → session → message → book → event, for both protocols,
//! and the reader's way out of the ring. It links only if nothing on it can panic: the panic
//! handler calls a function that does not exist, so the linker fails unless the compiler has
//! proved that the handler is never reached.
//!
//! Reads frames from standard input (two bytes of length, little-endian, then the frame), and
//! writes two little-endian words: how many events they gave, and a checksum of them.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use wiretape_core::arena::Arena;
use wiretape_core::event::Event;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::segment::{
    FeedIdentity, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter,
};
use wiretape_freestanding::{memory, read_fully, words, write};

unsafe extern "C" {
    fn wiretape_a_panic_path_remains() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: never called, or the program would not link.
    unsafe { wiretape_a_panic_path_remains() }
}

const GROUPS: [[u8; 4]; 3] = [[233, 54, 12, 111], [233, 215, 21, 4], [233, 215, 21, 5]];
const LINE_B: [u8; 4] = [233, 49, 196, 111];
const PORTS: [u16; 3] = [26477, 10378, 10379];
const INSTRUMENTS: u32 = 1024;
const DEPTHS: u32 = 16;
const MIDNIGHT: u64 = 1_340_251_200_000_000_000;
/// The first feed goes before this frame.
const DETACHED_BEFORE: u64 = 500;

#[unsafe(no_mangle)]
fn run() -> i32 {
    let spec = SegmentSpec {
        worker: "still",
        epoch: 1,
        pid: 0,
        event_slots: 1 << 14,
        instruments: GROUPS.len() * INSTRUMENTS as usize,
        feeds: GROUPS.len(),
        depths: GROUPS.len() * DEPTHS as usize,
    };
    let Ok(layout) = SegmentLayout::new(&spec) else { return 1 };
    let words = words(layout.total_words);
    let Ok(segment) = SegmentWriter::create(words, &spec) else { return 2 };
    segment.start();
    let mut pipeline = Pipeline::new(segment);
    let mut arena = Arena::with_contents_as_found(memory(256 << 20));
    let days = TradingDays::new([MIDNIGHT]);
    let feeds = Protocol::ALL.into_iter().zip(GROUPS).zip(PORTS);
    for (((protocol, group), port), first_instrument) in
        feeds.zip([0, INSTRUMENTS, 2 * INSTRUMENTS])
    {
        let Ok(name) = "feed".try_into() else { return 3 };
        let Ok(protocol_name) = protocol.name().try_into() else { return 3 };
        let identity = FeedIdentity {
            name,
            protocol: protocol_name,
            group,
            port,
            first_instrument,
            instruments: INSTRUMENTS,
        };
        let spec = FeedSpec {
            identity,
            publisher_id: protocol.publisher_id(),
            orders: 50_000,
            levels: 20_000,
            line_b: Some((LINE_B, port)),
            patience: Patience {
                packets: 64,
                packet_bytes: 1500,
                wait_ns: 2_000,
                recovery_ns: Some(2_000),
            },
        };
        let Ok(feed) = pipeline.add_feed(protocol, &spec, &days, &mut arena) else { return 4 };
        let (all, first) = (DepthChoice::All, (feed as u32).wrapping_mul(DEPTHS));
        let places = first..first.wrapping_add(DEPTHS);
        if pipeline.choose_depth(feed, &all, places, &mut arena).is_err() {
            return 4;
        }
    }
    let Ok(view) = SegmentView::attach(words) else { return 5 };
    let mut reader = view.events().reader_from_oldest();
    let mut events = [Event::default(); 64];
    let mut frame = [0; 1 << 16];
    let (mut count, mut check, mut now) = (0_u64, 0xcbf2_9ce4_8422_2325_u64, MIDNIGHT);
    let mut frames = 0_u64;
    loop {
        let mut length = [0; 2];
        if read_fully(&mut length) < length.len() {
            break;
        }
        let Some(frame) = frame.get_mut(..usize::from(u16::from_le_bytes(length))) else { break };
        if read_fully(frame) < frame.len() {
            break;
        }
        now = now.wrapping_add(1_000);
        canary(frame);
        frames = frames.wrapping_add(1);
        if frames == DETACHED_BEFORE {
            let Some(feed) = pipeline.detach(0, now) else { return 6 };
            // It had its place; there is no second one.
            if pipeline.attach(feed).is_ok() {
                return 6;
            }
        }
        pipeline.on_frame(frame, now);
        while let Some(request) = pipeline.next_request() {
            // Nobody answers; the way in for answers is linked all the same.
            pipeline.on_recovered(usize::from(request.feed), &[], now);
        }
        while let Ok(read @ 1..) = reader.read_batch(&mut events) {
            count = count.wrapping_add(read as u64);
            for word in events.iter().take(read).flat_map(|event| event.words) {
                check = (check ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    write(&count.to_le_bytes());
    write(&check.to_le_bytes());
    0
}

#[cfg(feature = "canary")]
fn canary(frame: &[u8]) {
    // Panics on an empty frame, which the linker must notice.
    write(&frame[..1]);
}

#[cfg(not(feature = "canary"))]
fn canary(_: &[u8]) {}
