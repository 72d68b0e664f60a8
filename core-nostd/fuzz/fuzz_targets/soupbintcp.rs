//! Every packet of a stream that parses must be the one that it emits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::soupbintcp::{Packet, Packets};

fuzz_target!(|bytes: &[u8]| {
    let mut packets = Packets::new(bytes);
    let mut buffer = vec![0; bytes.len()];
    let mut at = 0;
    for packet in packets.by_ref() {
        let framed = &bytes[at..at + 2 + packet.len()];
        at += framed.len();
        let Ok(parsed) = Packet::parse(packet) else { continue };
        assert_eq!(parsed.kind(), packet[0]);
        match parsed {
            Packet::LoginAccepted(login) => drop(login.next_sequence()),
            Packet::LoginRequest(login) => drop(login.wanted_sequence()),
            _ => {}
        }
        let length = parsed.emit(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], framed);
    }
    assert_eq!(packets.rest(), &bytes[at..]);
});
