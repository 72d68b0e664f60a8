//! Packets ready to be sent, in batches without an allocation each.

use std::net::{Ipv4Addr, SocketAddrV4};

use wiretape_core::wire::frame::{Datagram, EmitError, Route};

/// Bytes of frames at which a batch is full.
pub const BATCH_BYTES: usize = 256 << 10;

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'b> {
    /// When it is sent in the feed's own time, UTC nanoseconds.
    pub at_ns: u64,
    /// The Ethernet frame, without its check sequence.
    pub frame: &'b [u8],
    /// The UDP datagram in it, if it is one.
    pub datagram: Option<(SocketAddrV4, &'b [u8])>,
    /// Messages in it, where the protocol is known.
    pub messages: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at_ns: u64,
    frame: (usize, usize),
    payload: (usize, usize),
    /// `None` where the frame is not a datagram.
    to: Option<SocketAddrV4>,
    messages: u32,
}

/// Packets and the bytes they are made of.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl Batch {
    /// An empty batch with its memory.
    pub fn new() -> Batch {
        Batch { bytes: Vec::with_capacity(BATCH_BYTES + 65_536), places: Vec::new() }
    }

    /// Forgets the packets and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// Whether more packets should go into another batch.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// How many packets it holds.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Appends a frame as it is. `messages` counts those in its datagram.
    pub fn push_frame(&mut self, at_ns: u64, frame: &[u8], messages: impl Fn(&[u8]) -> u32) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        let mut place = Place {
            at_ns,
            frame: (start, start + frame.len()),
            payload: (start, start),
            to: None,
            messages: 0,
        };
        if let Ok(datagram) = Datagram::from_frame(frame) {
            // The payload is a part of the frame: its place follows from the addresses.
            let offset = datagram.payload.as_ptr() as usize - frame.as_ptr() as usize;
            place.payload = (start + offset, start + offset + datagram.payload.len());
            place.to = Some(SocketAddrV4::new(Ipv4Addr::from(datagram.dst), datagram.dst_port));
            place.messages = messages(datagram.payload);
        }
        self.places.push(place);
    }

    /// Appends a datagram for a route.
    pub fn push_datagram(
        &mut self,
        at_ns: u64,
        route: &Route,
        payload: &[u8],
        messages: u32,
    ) -> Result<(), EmitError> {
        let start = self.bytes.len();
        let payload_at = start + route.header_len();
        let end = payload_at + payload.len();
        self.bytes.resize(end, 0);
        let identification = self.places.len() as u16;
        if let Err(error) = route.emit(identification, payload, &mut self.bytes[start..]) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let to = SocketAddrV4::new(Ipv4Addr::from(route.dst), route.dst_port);
        self.places.push(Place {
            at_ns,
            frame: (start, end),
            payload: (payload_at, end),
            to: Some(to),
            messages,
        });
        Ok(())
    }

    /// A packet by its place.
    pub fn get(&self, i: usize) -> Option<Packet<'_>> {
        let place = self.places.get(i)?;
        Some(Packet {
            at_ns: place.at_ns,
            frame: &self.bytes[place.frame.0..place.frame.1],
            datagram: place.to.map(|to| (to, &self.bytes[place.payload.0..place.payload.1])),
            messages: place.messages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_the_same_packet_whether_pushed_as_one_or_as_a_frame() {
        let route = Route::to_group([10, 0, 0, 1], [239, 1, 2, 3], 4_000, 5_000);
        let mut built = Batch::new();
        built.push_datagram(7, &route, b"payload", 3).unwrap();
        let packet = built.get(0).unwrap();
        let to: SocketAddrV4 = "239.1.2.3:5000".parse().unwrap();
        assert_eq!(packet.datagram, Some((to, &b"payload"[..])));

        let mut copied = Batch::new();
        copied.push_frame(1, b"too short to be a frame", |_| 1);
        copied.push_frame(7, packet.frame, |payload| payload.len() as u32 - 4);
        assert_eq!(copied.get(0).unwrap().datagram, None);
        assert_eq!(copied.get(1), Some(packet));
        assert_eq!(copied.get(2), None);
    }
}
