//! The real Nasdaq day of AAPL and AMZN (2012-06-21), published into a segment by the core
//! pipeline as a worker would.

use flate2::read::GzDecoder;
use std::io::Read;
use std::path::{Path, PathBuf};
use wiretape_core::arena::Arena;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::segment::{FeedIdentity, State};
use wiretape_core::wire::binaryfile::BinaryFile;
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::moldudp64::Builder;
use wiretape_host::reader::testing::TestSegment;

const GROUP: [u8; 4] = [233, 54, 12, 111];
const PORT: u16 = 26477;
/// Midnight of that day in New York.
pub const MIDNIGHT: u64 = 1_340_251_200_000_000_000;

/// A file of `../shared/data`, unpacked; `None`, said aloud, where it is absent.
pub fn shared(name: &str) -> Option<Vec<u8>> {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let Ok(bytes) = std::fs::read(shared.join("data").join(name)) else {
        println!("skipped: {name} is not in ../shared/data");
        return None;
    };
    let mut plain = Vec::new();
    GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
    Some(plain)
}

/// Plays `day` into a new segment at `path`, 12 messages a packet, leaving out the packets that
/// `drop` names by their ordinal.
pub fn play(day: &[u8], path: &Path, epoch: u64, slots: usize, drop: &[usize]) -> TestSegment {
    let segment = TestSegment::create(path, epoch, slots);
    publish(day, &segment, drop);
    segment.writer().header().set_state(State::Ended);
    segment
}

fn publish(day: &[u8], segment: &TestSegment, drop: &[usize]) {
    let mut books = vec![0; 64 << 20];
    let mut pipeline = Pipeline::new(segment.writer());
    let spec = FeedSpec {
        identity: FeedIdentity {
            name: "nasdaq".try_into().unwrap(),
            protocol: Protocol::Itch50.name().try_into().unwrap(),
            group: GROUP,
            port: PORT,
            first_instrument: 0,
            instruments: 64,
        },
        publisher_id: 2,
        orders: 50_000,
        levels: 20_000,
        line_b: None,
        patience: Patience::NONE,
    };
    let mut arena = Arena::new(&mut books);
    let days = TradingDays::new([MIDNIGHT]);
    pipeline.add_feed(Protocol::Itch50, &spec, &days, &mut arena).unwrap();
    let messages: Vec<&[u8]> = BinaryFile::new(day).collect();
    let (mut sequence, mut frame) = (1, vec![0; 1600]);
    for (ordinal, chunk) in messages.chunks(12).enumerate() {
        let mut payload = vec![0; 1400];
        let mut builder = Builder::new(&mut payload, *b"TEST000001", sequence).unwrap();
        for message in chunk {
            assert!(builder.push(message), "messages fit a packet");
        }
        sequence += chunk.len() as u64;
        let route = Route::to_group([10, 0, 0, 1], GROUP, 40_000, PORT);
        let length = route.emit(0, builder.finish(), &mut frame).unwrap();
        if !drop.contains(&ordinal) {
            // Receive times come in steps, as when a batch shares one reading of the clock.
            let received = MIDNIGHT + (ordinal as u64 / 4) * 1_000_000;
            pipeline.on_frame(&frame[..length], received);
        }
    }
}
