//! A segment that parses must be the one that its messages build; its messages are read as DEEP
//! and as TOPS.
//!
//! The input is read as it is, and once more with the version and the payload length put right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::iextp::{Builder, Segment, Stream};
use wiretape_core::wire::{deep10, tops16};

fuzz_target!(|bytes: &[u8]| {
    let _ = deep10::Message::parse(bytes);
    let _ = tops16::Message::parse(bytes);
    check(bytes);
    if let Some(payload_length) = bytes.len().checked_sub(40).and_then(|n| u16::try_from(n).ok()) {
        let mut bytes = bytes.to_vec();
        bytes[0] = 1;
        bytes[12..14].copy_from_slice(&payload_length.to_le_bytes());
        check(&bytes);
    }
});

fn check(bytes: &[u8]) {
    let Ok(segment) = Segment::parse(bytes) else { return };
    assert_eq!(segment.messages().count(), usize::from(segment.message_count()));
    let mut stream = Stream {
        protocol: segment.protocol(),
        channel_id: segment.channel_id(),
        session_id: segment.session_id(),
        offset: segment.stream_offset(),
        sequence: segment.first_sequence(),
    };
    let mut buffer = vec![0; bytes.len()];
    let mut builder = Builder::new(&mut buffer, &mut stream).unwrap();
    for message in segment.messages() {
        if let Ok(parsed) = deep10::Message::parse(message) {
            assert_eq!(parsed.as_bytes(), message);
            assert_eq!(parsed.kind(), message[0]);
        }
        if let Ok(parsed) = tops16::Message::parse(message) {
            assert_eq!(parsed.as_bytes(), message);
        }
        assert!(builder.push(message));
    }
    let built = builder.finish(segment.send_time());
    // The reserved byte is all that a builder does not take over.
    assert_eq!((built[0], &built[2..]), (bytes[0], &bytes[2..]));
    assert_eq!((stream.sequence, stream.offset), (segment.next_sequence(), segment.next_offset()));
}
