//! A packet that parses must be the one that its messages build.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::moldudp64::{Builder, Packet, PacketKind, Request};

fuzz_target!(|bytes: &[u8]| {
    let _ = Request::parse(bytes);
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert_eq!(packet.messages().count(), usize::from(packet.count()));
    assert_eq!(packet.next_sequence() - packet.sequence(), u64::from(packet.count()));
    if packet.kind() == PacketKind::EndOfSession {
        return assert_eq!(bytes.len(), 20);
    }
    let mut buffer = vec![0; bytes.len()];
    let mut builder = Builder::new(&mut buffer, *packet.session(), packet.sequence()).unwrap();
    for message in packet.messages() {
        assert!(builder.push(message));
    }
    assert_eq!(builder.finish(), bytes);
});
