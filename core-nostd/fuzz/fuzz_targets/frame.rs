//! A frame that parses must survive being emitted and parsed again.
//!
//! Random bytes are hardly ever a frame. So the input is read a second time as a recipe: a sound
//! frame, of which some bytes are overwritten and which is cut or padded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::wire::frame::{Datagram, Route, checksums_hold};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let Some((&[tagged, patches, length], rest)) = bytes.split_first_chunk() else { return };
    let Some((patches, payload)) = rest.split_at_checked(usize::from(patches % 8) * 2) else {
        return;
    };
    let mut route = Route::to_group([10, 0, 0, 1], [233, 54, 12, 111], 26477, 26477);
    route.vlan = (tagged & 1 == 1).then_some(7);
    let mut frame = vec![0; route.header_len() + payload.len()];
    route.emit(0, payload, &mut frame).unwrap();
    check_sound(&frame);
    for patch in patches.chunks(2) {
        let at = usize::from(patch[0]) % frame.len();
        frame[at] = patch[1];
    }
    frame.resize((frame.len() + usize::from(length)).saturating_sub(128), 0);
    check(&frame);
});

fn check_sound(frame: &[u8]) {
    assert_eq!(checksums_hold(frame), Ok(true));
    check(frame);
}

fn check(frame: &[u8]) {
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
}
