//! Must fail: shows that the fuzzer runs with assertions, reaches the decoders, and reports.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::itch50::Message;

fuzz_target!(|bytes: &[u8]| {
    assert!(Message::parse(bytes).is_err(), "canary: an input that is a message was found");
});
