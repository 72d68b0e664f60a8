//! The program that links only if nothing from frame to event can panic is built here, and gives
//! the same events as the pipeline in this process: the proof is about the real path.
#![cfg(all(not(loom), target_os = "linux", target_arch = "x86_64"))]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;

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
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::iextp::{self, Stream};
use wiretape_core::wire::itch50::{
    AddOrder, Head, OrderCancel, OrderDelete, OrderExecuted, Price4, Trade,
};
use wiretape_core::wire::moldudp64::Builder;
use wiretape_core::wire::{deep10, tops16};
use zerocopy::IntoBytes;

// As in `freestanding/src/bin/still.rs`.
const GROUPS: [[u8; 4]; 3] = [[233, 54, 12, 111], [233, 215, 21, 4], [233, 215, 21, 5]];
const LINE_B: [u8; 4] = [233, 49, 196, 111];
const PORTS: [u16; 3] = [26477, 10378, 10379];
const INSTRUMENTS: u32 = 1024;
const DEPTHS: u32 = 16;
const MIDNIGHT: u64 = 1_340_251_200_000_000_000;
const DETACHED_BEFORE: usize = 500;

fn messages() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let head = |kind, locate: u64, time| Head::new(kind, locate as u16, 0, time);
    for order in 1..2_000_u64 {
        let (locate, time) = (order % 50, 34_200_000_000_000 + order * 1_000);
        let add = AddOrder {
            head: head(AddOrder::KIND, locate, time),
            order_ref: order.into(),
            side: if order % 2 == 0 { b'B' } else { b'S' },
            shares: 300.into(),
            stock: *b"AAPL    ",
            price: Price4::new(1_000_000 + (order % 37) as u32 * 100),
        };
        messages.push(add.as_bytes().to_vec());
        let head = |kind| head(kind, locate, time + 1);
        messages.push(match order % 4 {
            0 => OrderExecuted {
                head: head(OrderExecuted::KIND),
                order_ref: order.into(),
                shares: 100.into(),
                match_number: order.into(),
            }
            .as_bytes()
            .to_vec(),
            1 => OrderCancel {
                head: head(OrderCancel::KIND),
                order_ref: order.into(),
                cancelled: 50.into(),
            }
            .as_bytes()
            .to_vec(),
            2 => OrderDelete { head: head(OrderDelete::KIND), order_ref: order.into() }
                .as_bytes()
                .to_vec(),
            _ => vec![Trade::KIND; 44],
        });
    }
    messages
}

/// Whole packets, lost ones, a late one, and damage.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut sequence = 1;
    for (packet, chunk) in messages().chunks(7).enumerate() {
        let mut payload = vec![0; 1400];
        let mut builder = Builder::new(&mut payload, *b"TEST000001", sequence).unwrap();
        for message in chunk {
            assert!(builder.push(message));
        }
        sequence += chunk.len() as u64;
        let payload = builder.finish();
        let route = Route::to_group([10, 0, 0, 1], GROUPS[0], 40_000, PORTS[0]);
        let mut frame = vec![0; payload.len() + 60];
        let length = route.emit(0, payload, &mut frame).unwrap();
        frame.truncate(length);
        match packet % 20 {
            7 => continue,
            11 => frame[50 + packet % 40] ^= 0x5A,
            13 => frame.truncate(packet),
            _ => {}
        }
        frames.push(frame);
    }
    for (index, protocol) in [(1, deep10::PROTOCOL), (2, tops16::PROTOCOL)] {
        let mut stream = Stream::new(protocol, 1, 7);
        for number in 0..400 {
            let mut payload = vec![0; 600];
            let mut builder = iextp::Builder::new(&mut payload, &mut stream).unwrap();
            for message in iex_messages(index, number) {
                assert!(builder.push(&message));
            }
            let payload = builder.finish(MIDNIGHT + number * 1_000_000).to_vec();
            let route = Route::to_group([10, 0, 0, 1], GROUPS[index], 40_000, PORTS[index]);
            let mut frame = vec![0; payload.len() + 60];
            let length = route.emit(0, &payload, &mut frame).unwrap();
            frame.truncate(length);
            if number % 31 != 5 {
                frames.push(frame);
            }
        }
    }
    frames
}

/// Quotes (TOPS) or a level of each side (DEEP), and a trade.
fn iex_messages(feed: usize, number: u64) -> Vec<Vec<u8>> {
    let message = |kind: u8, len: usize, fill: &dyn Fn(&mut [u8])| {
        let mut message = vec![0; len];
        message[0] = kind;
        message[1] = 1;
        message[2..10].copy_from_slice(&(MIDNIGHT + number).to_le_bytes());
        message[10..18].copy_from_slice(b"ZVZZ    ");
        message[14] = b'A' + (number % 20) as u8;
        fill(&mut message);
        message
    };
    let (price, size) = (1_000_000 + number % 7 * 100, (number % 3 * 100) as u32);
    let level = |kind| {
        message(kind, 30, &|m| {
            m[18..22].copy_from_slice(&size.to_le_bytes());
            m[22..30].copy_from_slice(&price.to_le_bytes());
        })
    };
    let quote = message(b'Q', 42, &|m| {
        m[18..22].copy_from_slice(&size.to_le_bytes());
        m[22..30].copy_from_slice(&price.to_le_bytes());
        m[30..38].copy_from_slice(&(price + 100).to_le_bytes());
        m[38..42].copy_from_slice(&100u32.to_le_bytes());
    });
    let trade = message(b'T', 38, &|m| m[18..22].copy_from_slice(&100u32.to_le_bytes()));
    match feed {
        1 => vec![level(b'8'), level(b'5'), trade],
        _ => vec![quote, trade],
    }
}

/// Events and their checksum, as the freestanding program writes them.
fn here(frames: &[Vec<u8>]) -> [u64; 2] {
    let spec = SegmentSpec {
        worker: "still",
        epoch: 1,
        pid: 0,
        event_slots: 1 << 14,
        instruments: GROUPS.len() * INSTRUMENTS as usize,
        feeds: GROUPS.len(),
        depths: GROUPS.len() * DEPTHS as usize,
    };
    let words = SegmentLayout::new(&spec).unwrap().total_words;
    let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let mut books = vec![0; 256 << 20];
    let segment = SegmentWriter::create(&words, &spec).unwrap();
    segment.start();
    let mut pipeline = Pipeline::new(segment);
    let mut arena = Arena::with_contents_as_found(&mut books);
    for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
        let identity = FeedIdentity {
            name: "feed".try_into().unwrap(),
            protocol: protocol.name().try_into().unwrap(),
            group: GROUPS[index],
            port: PORTS[index],
            first_instrument: index as u32 * INSTRUMENTS,
            instruments: INSTRUMENTS,
        };
        let publisher_id = protocol.publisher_id();
        let spec = FeedSpec {
            identity,
            publisher_id,
            orders: 50_000,
            levels: 20_000,
            line_b: Some((LINE_B, PORTS[index])),
            patience: Patience {
                packets: 64,
                packet_bytes: 1500,
                wait_ns: 2_000,
                recovery_ns: Some(2_000),
            },
        };
        pipeline.add_feed(protocol, &spec, &TradingDays::new([MIDNIGHT]), &mut arena).unwrap();
        let all = DepthChoice::All;
        let first = index as u32 * DEPTHS;
        pipeline.choose_depth(index, &all, first..first + DEPTHS, &mut arena).unwrap();
    }
    let mut reader = SegmentView::attach(&words).unwrap().events().reader_from_oldest();
    let mut events = [Event::default(); 64];
    let (mut count, mut check, mut now) = (0, 0xcbf2_9ce4_8422_2325_u64, MIDNIGHT);
    for (number, frame) in (1..).zip(frames) {
        now += 1_000;
        if number == DETACHED_BEFORE {
            let feed = pipeline.detach(0, now).unwrap();
            assert!(pipeline.attach(feed).is_err());
        }
        pipeline.on_frame(frame, now);
        while let Some(request) = pipeline.next_request() {
            pipeline.on_recovered(usize::from(request.feed), &[], now);
        }
        while let Ok(read @ 1..) = reader.read_batch(&mut events) {
            count += read as u64;
            for word in events[..read].iter().flat_map(|event| event.words) {
                check = (check ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    [count, check]
}

#[test]
fn the_program_that_cannot_panic_gives_the_same_events() {
    let crate_folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = crate_folder.join("../target/freestanding");
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--bin", "still", "--manifest-path"])
        .arg(crate_folder.join("freestanding/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // Flags of this build (a sanitiser, say) are not that program's.
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(build.success(), "something from frame to event can panic: see the linker's error");
    let frames = frames();
    let mut still = Command::new(target.join("release/still"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = still.stdin.take().unwrap();
    for frame in &frames {
        input.write_all(&(frame.len() as u16).to_le_bytes()).unwrap();
        input.write_all(frame).unwrap();
    }
    drop(input);
    let output = still.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let (words, _) = output.stdout.as_chunks::<8>();
    let there: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let here = here(&frames);
    assert!(here[0] > 3_000, "{here:?}");
    assert_eq!(there, here);
}
