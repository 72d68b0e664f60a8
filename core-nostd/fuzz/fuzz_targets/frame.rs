//! A frame that parses must survive being emitted and parsed again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::frame::{Datagram, Route, checksums_hold};

fuzz_target!(|frame: &[u8]| {
    let checked = checksums_hold(frame);
    let datagram = match Datagram::from_frame(frame) {
        Ok(datagram) => datagram,
        Err(error) => return assert_eq!(checked, Err(error)),
    };
    assert!(checked.is_ok());
    assert!(datagram.payload.len() + 42 <= frame.len());
    let route = Route {
        vlan: datagram.vlan,
        ..Route::to_group(datagram.src, datagram.dst, datagram.src_port, datagram.dst_port)
    };
    let mut buffer = vec![0; route.header_len() + datagram.payload.len()];
    let length = route.emit(1, datagram.payload, &mut buffer).unwrap();
    assert_eq!(length, buffer.len());
    assert_eq!(Datagram::from_frame(&buffer), Ok(datagram));
    assert_eq!(checksums_hold(&buffer), Ok(true));
});
