//! A TOPS 1.6 message that parses must be its bytes, up to what a later version may append.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::tops16::Message;

fuzz_target!(|bytes: &[u8]| {
    let known = bytes.first().and_then(|&kind| Message::length_of(kind)).map(usize::from);
    match Message::parse(bytes) {
        Ok(message) => {
            assert!(known.is_some_and(|length| length <= bytes.len()));
            assert_eq!(message.as_bytes(), &bytes[..message.as_bytes().len()]);
            assert_eq!(message.kind(), bytes[0]);
        }
        Err(_) => assert_ne!(known, Some(bytes.len())),
    }
});
