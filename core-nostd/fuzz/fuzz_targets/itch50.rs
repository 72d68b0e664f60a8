//! A message that parses must be exactly its bytes, and every other input a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::itch50::{ItchError, Message};

fuzz_target!(|bytes: &[u8]| {
    let known = bytes.first().and_then(|&kind| Message::length_of(kind));
    match Message::parse(bytes) {
        Ok(message) => {
            assert_eq!(known.map(usize::from), Some(bytes.len()));
            assert_eq!(message.as_bytes(), bytes);
            assert_eq!(message.kind(), bytes[0]);
            assert!(message.head().timestamp.get() < 1 << 48);
            if let Message::MwcbLevels(levels) = message {
                let _ = levels.level_1.nanos();
            }
        }
        Err(ItchError::Empty) => assert!(bytes.is_empty()),
        Err(ItchError::UnknownType(kind)) => assert_eq!((known, kind), (None, bytes[0])),
        Err(ItchError::Length { kind, expected, .. }) => {
            assert_eq!((known, kind), (Some(expected), bytes[0]));
            assert_ne!(usize::from(expected), bytes.len());
        }
    }
});
