//! A small ITCH day as frames and as a capture file, for tests that need packets of a feed.

use std::io::Read;
use std::path::PathBuf;

use wiretape_core::wire::binaryfile::BinaryFile;
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::moldudp64::Builder;

#[allow(dead_code, reason = "not every test that shares this module needs it")]
pub const FEED: &str = "itch50-moldudp64@233.54.12.111:26477";
pub const GROUP: [u8; 4] = [233, 54, 12, 111];
pub const PORT: u16 = 26477;

/// A file of `../shared/data`, unpacked; `None` (and said so) where it is absent.
#[allow(dead_code, reason = "not every test that shares this module needs it")]
pub fn shared(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let path = root.join("data").join(file);
    let there = path.exists();
    if !there {
        println!("skipped: {} is not there", path.display());
    }
    there.then_some(path)
}

/// The messages of a file with two-byte length framing.
#[allow(dead_code, reason = "not every test that shares this module needs it")]
pub fn messages_of(path: &std::path::Path) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    BinaryFile::new(&bytes).map(<[u8]>::to_vec).collect()
}

/// A made-up day: one stock, `orders` orders, every second of them deleted again.
#[allow(dead_code, reason = "not every test that shares this module needs it")]
pub fn made_up(orders: u64) -> Vec<Vec<u8>> {
    let head = |kind: u8, at: u64| {
        let mut message = vec![kind, 0, 7, 0, 0];
        message.extend(&(34_200_000_000_000 + at * 1_000).to_be_bytes()[2..]);
        message
    };
    let mut messages = vec![{
        let mut directory = head(b'R', 0);
        directory.extend(b"TEST    QN");
        directory.extend(100u32.to_be_bytes());
        directory.extend(b"NCZ PNN1N");
        directory.extend(0u32.to_be_bytes());
        directory.extend(b"N");
        directory
    }];
    for order in 1..=orders {
        let mut add = head(b'A', order);
        add.extend(order.to_be_bytes());
        add.push(if order % 2 == 0 { b'B' } else { b'S' });
        add.extend((100 + order as u32 % 7).to_be_bytes());
        add.extend(b"TEST    ");
        let price = if order % 2 == 0 { 999_900 } else { 1_000_100 } + (order as u32 % 50) * 100;
        let price = if order % 2 == 0 { price - 5_000 } else { price };
        add.extend(price.to_be_bytes());
        messages.push(add);
        if order % 4 < 2 {
            let mut delete = head(b'D', order);
            delete.extend(order.to_be_bytes());
            messages.push(delete);
        }
    }
    messages
}

/// `messages` in MoldUDP64, `each` in a frame.
pub fn frames(messages: &[Vec<u8>], each: usize) -> Vec<Vec<u8>> {
    let mut sequence = 1;
    let mut frames = Vec::new();
    for chunk in messages.chunks(each) {
        let mut payload = vec![0; 1400];
        let mut builder = Builder::new(&mut payload, *b"TEST000001", sequence).unwrap();
        for message in chunk {
            assert!(builder.push(message), "messages fit a packet");
        }
        let payload = builder.finish();
        let route = Route::to_group([10, 0, 0, 1], GROUP, 40_000, PORT);
        let mut frame = vec![0; payload.len() + 60];
        let len = route.emit(0, payload, &mut frame).unwrap();
        frame.truncate(len);
        frames.push(frame);
        sequence += chunk.len() as u64;
    }
    frames
}

/// A classic nanosecond capture of `frames`, `gap_ns` apart.
#[allow(dead_code, reason = "not every test that shares this module needs it")]
pub fn pcap(frames: &[Vec<u8>], gap_ns: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xA1B2_3C4D_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        out.extend(word.to_le_bytes());
    }
    for (i, frame) in frames.iter().enumerate() {
        let ts_ns = 1_340_285_400_000_000_000 + i as u64 * gap_ns;
        let (len, second) = (frame.len() as u32, 1_000_000_000);
        for word in [(ts_ns / second) as u32, (ts_ns % second) as u32, len, len] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    out
}
