//! From the bytes of an Ethernet frame to a UDP datagram, and back.

use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use super::reason::reasons;
use super::{ethernet, ipv4, udp, vlan};

/// A UDP datagram inside a frame.
///
/// ```
/// use wiretape_core::wire::frame::{Datagram, FrameError, Route};
///
/// let route = Route::to_group([10, 0, 0, 1], [233, 54, 12, 111], 26477, 26477);
/// let mut frame = [0; 64];
/// let length = route.emit(0, b"payload", &mut frame).expect("it fits");
/// let datagram = Datagram::from_frame(&frame[..length]).unwrap();
/// assert_eq!((datagram.dst, datagram.dst_port), ([233, 54, 12, 111], 26477));
/// assert_eq!(datagram.payload, b"payload");
/// assert_eq!(Datagram::from_frame(&frame[..20]), Err(FrameError::Truncated));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Innermost VLAN id, if the frame was tagged.
    pub vlan: Option<u16>,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address: the multicast group.
    pub dst: [u8; 4],
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// What the datagram carries, without any padding of the frame.
    pub payload: &'a [u8],
}

reasons! {
    /// Why a frame is not a datagram.
    pub enum FrameError {
        /// The frame ends before its own headers say it does.
        Truncated = "truncated": "frame is shorter than its headers say",
        /// Another ethertype than IPv4.
        NotIpv4 = "not_ipv4": "frame does not carry ipv4",
        /// More VLAN tags than [`vlan::TAGS_MAX`].
        TooManyTags = "too_many_tags": "frame carries more than two vlan tags",
        /// The ethertype says IPv4, the packet says another version.
        BadIpVersion = "bad_ip_version": "ip version is not 4",
        /// An IP or UDP header shorter than the smallest legal one.
        BadHeaderLength = "bad_header_length": "ip or udp header length is below the minimum",
        /// A piece of a fragmented IP packet.
        Fragment = "fragment": "packet is an ip fragment",
        /// Another protocol than UDP.
        NotUdp = "not_udp": "packet does not carry udp",
        /// The lengths in the IP and UDP headers contradict each other.
        LengthMismatch = "length_mismatch": "ip and udp lengths contradict each other",
    }
}

impl FrameError {
    /// Whether the frame is broken, rather than sound but none of ours (another protocol, a
    /// fragment).
    pub const fn is_malformed(self) -> bool {
        !matches!(self, FrameError::NotIpv4 | FrameError::NotUdp | FrameError::Fragment)
    }
}

impl<'a> Datagram<'a> {
    /// The datagram in an Ethernet frame (without its check sequence): up to two VLAN tags, IPv4
    /// with or without options, UDP. The UDP length bounds the payload, so that padding to the
    /// shortest frame is left out.
    ///
    /// # Errors
    /// [`FrameError`]; nothing of a frame in error is to be used.
    #[inline]
    pub fn from_frame(frame: &'a [u8]) -> Result<Datagram<'a>, FrameError> {
        let Headers { vlan, ip, udp, payload, .. } = headers(frame)?;
        Ok(Datagram {
            vlan,
            src: ip.src,
            dst: ip.dst,
            src_port: udp.src_port.get(),
            dst_port: udp.dst_port.get(),
            payload,
        })
    }
}

/// A frame taken apart. `packet` starts with the IP header.
struct Headers<'a> {
    vlan: Option<u16>,
    packet: &'a [u8],
    ip: &'a ipv4::Header,
    udp: &'a udp::Header,
    payload: &'a [u8],
}

#[inline]
fn headers(frame: &[u8]) -> Result<Headers<'_>, FrameError> {
    let (ethernet, rest) =
        ethernet::Header::ref_from_prefix(frame).map_err(|_| FrameError::Truncated)?;
    let mut ethertype = ethernet.ethertype.get();
    let (mut vlan, mut packet) = (None, rest);
    if ethertype != ethernet::ETHERTYPE_IPV4 {
        (vlan, ethertype, packet) = vlan::strip(ethertype, rest)?;
        if ethertype != ethernet::ETHERTYPE_IPV4 {
            return Err(FrameError::NotIpv4);
        }
    }
    let (ip, datagram) = ipv4::udp_payload(packet)?;
    let (udp, payload) = udp::payload(datagram)?;
    Ok(Headers { vlan, packet, ip, udp, payload })
}

/// Whether the IP header's checksum and the UDP checksum of a frame hold. Not part of
/// [`Datagram::from_frame`]: the link's check sequence covers a received frame, and frames that
/// were captured on their sender may not have theirs yet.
///
/// # Errors
/// As [`Datagram::from_frame`].
pub fn checksums_hold(frame: &[u8]) -> Result<bool, FrameError> {
    let Headers { packet, ip, udp, payload, .. } = headers(frame)?;
    let with_options = packet.get(..ip.header_len()).ok_or(FrameError::Truncated)?;
    Ok(super::checksum::Sum::new().with(with_options).finish() == 0
        && udp::checksum_holds(ip.src, ip.dst, udp, payload))
}

/// Everything about a datagram to be sent but its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Ethernet source address.
    pub src_mac: [u8; 6],
    /// Ethernet destination address, see [`ethernet::multicast_mac`].
    pub dst_mac: [u8; 6],
    /// VLAN id (12 bits) of an 802.1Q tag; `None` sends no tag.
    pub vlan: Option<u16>,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Hops that the packet may take.
    pub ttl: u8,
}

/// Why a frame could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitError {
    /// The caller's buffer is too small for headers and payload.
    BufferTooSmall {
        /// Bytes that the frame takes.
        needed: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// The payload does not fit a UDP datagram.
    PayloadTooLong {
        /// Most bytes that fit.
        max: usize,
        /// Bytes that were given.
        found: usize,
    },
}

impl core::fmt::Display for EmitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            EmitError::BufferTooSmall { needed, found } => {
                write!(f, "frame of {needed} bytes does not fit a buffer of {found}")
            }
            EmitError::PayloadTooLong { max, found } => {
                write!(f, "payload of {found} bytes does not fit a datagram, which holds {max}")
            }
        }
    }
}

impl core::error::Error for EmitError {}

/// Most bytes that a UDP datagram over IPv4 carries.
pub const PAYLOAD_LEN_MAX: usize = u16::MAX as usize - ipv4::HEADER_LEN - udp::HEADER_LEN;

impl Route {
    /// A route to a multicast group, with its Ethernet address, no VLAN and 16 hops.
    pub const fn to_group(src: [u8; 4], group: [u8; 4], src_port: u16, dst_port: u16) -> Route {
        Route {
            // Locally administered, so that it can be nobody's real address.
            src_mac: [0x02, 0x00, src[0], src[1], src[2], src[3]],
            dst_mac: ethernet::multicast_mac(group),
            vlan: None,
            src,
            dst: group,
            src_port,
            dst_port,
            ttl: 16,
        }
    }

    /// Bytes in front of the payload.
    #[inline]
    pub const fn header_len(&self) -> usize {
        let tag = if self.vlan.is_some() { vlan::TAG_LEN } else { 0 };
        ethernet::HEADER_LEN + tag + ipv4::HEADER_LEN + udp::HEADER_LEN
    }

    /// Writes the whole frame, with its IP and UDP checksums, into `buffer`, and returns its
    /// length. It is not padded to [`ethernet::FRAME_LEN_MIN`]: the driver does that.
    ///
    /// # Errors
    /// [`EmitError`]; the buffer is then unchanged.
    pub fn emit(
        &self,
        identification: u16,
        payload: &[u8],
        buffer: &mut [u8],
    ) -> Result<usize, EmitError> {
        let frame_len = self.frame_len(payload.len(), buffer.len())?;
        if let Some(target) = buffer.get_mut(self.header_len()..frame_len) {
            target.copy_from_slice(payload);
        }
        self.emit_around(identification, payload.len(), buffer)
    }

    /// As [`emit`](Self::emit), for a payload that already stands in `buffer` behind
    /// [`header_len`](Self::header_len) bytes.
    ///
    /// # Errors
    /// [`EmitError`]; the buffer is then unchanged.
    pub fn emit_around(
        &self,
        identification: u16,
        payload_len: usize,
        buffer: &mut [u8],
    ) -> Result<usize, EmitError> {
        let found = buffer.len();
        let frame_len = self.frame_len(payload_len, found)?;
        let too_small = EmitError::BufferTooSmall { needed: frame_len, found };
        let (headers, rest) = buffer.split_at_mut_checked(self.header_len()).ok_or(too_small)?;
        let payload = rest.get(..payload_len).ok_or(too_small)?;

        let udp_len = (udp::HEADER_LEN + payload_len) as u16;
        let mut udp = udp::Header {
            src_port: U16::new(self.src_port),
            dst_port: U16::new(self.dst_port),
            length: U16::new(udp_len),
            checksum: U16::new(0),
        };
        udp.checksum = U16::new(udp::checksum(self.src, self.dst, udp.as_bytes(), payload));
        let ip_len = ipv4::HEADER_LEN as u16 + udp_len;
        let ip = ipv4::Header::new(self.src, self.dst, self.ttl, identification, ip_len);
        let tag = self.vlan.map(|id| vlan::Tag {
            control: U16::new(id & 0x0fff),
            ethertype: U16::new(ethernet::ETHERTYPE_IPV4),
        });
        let ethertype = if tag.is_some() { vlan::ETHERTYPE_CTAG } else { ethernet::ETHERTYPE_IPV4 };
        let ethernet = ethernet::Header {
            dst: self.dst_mac,
            src: self.src_mac,
            ethertype: U16::new(ethertype),
        };
        let tag = tag.as_ref().map_or(&[][..], |tag| tag.as_bytes());
        let pieces = [ethernet.as_bytes(), tag, ip.as_bytes(), udp.as_bytes()];
        let mut rest = headers;
        for piece in pieces {
            // The header's length is the sum of theirs.
            let (target, behind) = rest.split_at_mut_checked(piece.len()).ok_or(too_small)?;
            target.copy_from_slice(piece);
            rest = behind;
        }
        Ok(frame_len)
    }

    fn frame_len(&self, payload_len: usize, found: usize) -> Result<usize, EmitError> {
        if payload_len > PAYLOAD_LEN_MAX {
            return Err(EmitError::PayloadTooLong { max: PAYLOAD_LEN_MAX, found: payload_len });
        }
        let needed = self.header_len() + payload_len;
        if needed > found {
            return Err(EmitError::BufferTooSmall { needed, found });
        }
        Ok(needed)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    fn route() -> impl Strategy<Value = Route> {
        (any::<[u8; 6]>(), any::<[u8; 4]>(), any::<[u8; 4]>(), any::<[u16; 2]>(), 0u16..4096)
            .prop_map(|(src_mac, src, dst, [src_port, dst_port], vlan)| Route {
                src_mac,
                vlan: (vlan % 2 == 1).then_some(vlan),
                ..Route::to_group(src, dst, src_port, dst_port)
            })
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..1500)
    }

    fn emitted(route: &Route, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xee; route.header_len() + payload.len()];
        let length = route.emit(7, payload, &mut frame).unwrap();
        assert_eq!(length, frame.len());
        frame
    }

    fn simple(payload: &[u8]) -> Vec<u8> {
        emitted(&Route::to_group([10, 0, 0, 1], [224, 0, 2, 1], 1, 2), payload)
    }

    /// Puts `bytes` into a frame at an offset, then says what became of it.
    fn altered(at: usize, bytes: &[u8]) -> Result<(), FrameError> {
        let mut frame = simple(b"payload");
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        Datagram::from_frame(&frame).map(|_| ())
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(route in route(), payload in payload(), pad in 0usize..64) {
            let mut frame = emitted(&route, &payload);
            prop_assert_eq!(checksums_hold(&frame), Ok(true));
            frame.resize(frame.len() + pad, 0);
            let datagram = Datagram::from_frame(&frame).unwrap();
            let expected = Datagram {
                vlan: route.vlan,
                src: route.src,
                dst: route.dst,
                src_port: route.src_port,
                dst_port: route.dst_port,
                payload: &payload,
            };
            prop_assert_eq!(datagram, expected);
            prop_assert_eq!(checksums_hold(&frame), Ok(true));
        }

        #[test]
        fn a_flipped_bit_behind_the_lengths_breaks_a_checksum(
            route in route(), payload in payload(), at: usize, bit in 0u32..8,
        ) {
            let mut frame = emitted(&route, &payload);
            // From the IP source address on, so that the frame still parses. The UDP length is
            // left alone, and a UDP checksum may not become 0, which stands for none.
            let start = route.header_len() - udp::HEADER_LEN - 8;
            let at = start + at % (frame.len() - start);
            let udp_start = route.header_len() - udp::HEADER_LEN;
            prop_assume!(!(udp_start + 4..udp_start + 8).contains(&at));
            frame[at] ^= 1 << bit;
            prop_assert_eq!(checksums_hold(&frame), Ok(false));
        }

        #[test]
        fn a_cut_frame_is_truncated(route in route(), payload in payload(), cut: usize) {
            let frame = emitted(&route, &payload);
            let cut = cut % frame.len();
            prop_assert_eq!(Datagram::from_frame(&frame[..cut]), Err(FrameError::Truncated));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Datagram::from_frame(&bytes);
            let _ = checksums_hold(&bytes);
        }

        #[test]
        fn broken_headers_never_panic(
            route in route(), payload in payload(), at in 0usize..46, byte: u8,
        ) {
            let mut frame = emitted(&route, &payload);
            let at = at % frame.len();
            frame[at] = byte;
            if let Ok(datagram) = Datagram::from_frame(&frame) {
                prop_assert!(datagram.payload.len() <= frame.len());
            }
            let _ = checksums_hold(&frame);
        }
    }

    #[test]
    fn each_reason_is_told_apart() {
        let (ip, udp) = (14, 34);
        assert_eq!(altered(12, &[0x86, 0xdd]), Err(FrameError::NotIpv4));
        assert_eq!(altered(12, &[0x08, 0x06]), Err(FrameError::NotIpv4));
        assert_eq!(altered(ip, &[0x65]), Err(FrameError::BadIpVersion));
        assert_eq!(altered(ip, &[0x44]), Err(FrameError::BadHeaderLength));
        assert_eq!(altered(ip + 2, &[0, 19]), Err(FrameError::LengthMismatch));
        assert_eq!(altered(ip + 2, &[0, 200]), Err(FrameError::Truncated));
        assert_eq!(altered(ip + 6, &[0x20, 0]), Err(FrameError::Fragment));
        assert_eq!(altered(ip + 6, &[0, 1]), Err(FrameError::Fragment));
        assert_eq!(altered(ip + 9, &[6]), Err(FrameError::NotUdp));
        assert_eq!(altered(udp + 4, &[0, 7]), Err(FrameError::BadHeaderLength));
        assert_eq!(altered(udp + 4, &[0, 16]), Err(FrameError::LengthMismatch));
        assert_eq!(altered(udp + 4, &[0, 14]), Ok(()));
    }

    #[test]
    fn tags_are_stripped_and_the_innermost_is_told() {
        let plain = simple(b"x");
        let tagged = |tags: &[[u8; 4]]| {
            let mut frame = plain.clone();
            for (place, tag) in tags.iter().enumerate() {
                let at = 12 + 4 * place;
                frame.splice(at..at, *tag);
            }
            Datagram::from_frame(&frame).map(|datagram| datagram.vlan)
        };
        assert_eq!(tagged(&[]), Ok(None));
        assert_eq!(tagged(&[[0x81, 0, 0xe0, 7]]), Ok(Some(7)));
        assert_eq!(tagged(&[[0x81, 0, 0xe0, 0]]), Ok(None), "priority only");
        assert_eq!(tagged(&[[0x88, 0xa8, 0, 9], [0x81, 0, 0x0f, 0xff]]), Ok(Some(0xfff)));
        assert_eq!(tagged(&[[0x91, 0, 0, 9], [0x81, 0, 0, 0]]), Ok(Some(9)));
        assert_eq!(tagged(&[[0x81, 0, 0, 1]; 3]), Err(FrameError::TooManyTags));
    }

    #[test]
    fn ip_options_are_skipped() {
        let mut frame = simple(b"behind options");
        frame[14] = 0x46;
        let total = u16::from_be_bytes([frame[16], frame[17]]) + 4;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame.splice(34..34, [0x94, 0x04, 0x00, 0x00]);
        frame[24..26].fill(0);
        let sum = super::super::checksum::Sum::new().with(&frame[14..38]).finish();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Datagram::from_frame(&frame).unwrap().payload, b"behind options");
        assert_eq!(checksums_hold(&frame), Ok(true));
    }

    #[test]
    fn a_frame_that_does_not_fit_leaves_the_buffer_alone() {
        let route = Route::to_group([10, 0, 0, 1], [224, 0, 2, 1], 1, 2);
        let mut buffer = [7u8; 44];
        let error = route.emit(0, b"abc", &mut buffer);
        assert_eq!(error, Err(EmitError::BufferTooSmall { needed: 45, found: 44 }));
        let long = vec![0; PAYLOAD_LEN_MAX + 1];
        let error = route.emit(0, &long, &mut buffer);
        let max = PAYLOAD_LEN_MAX;
        assert_eq!(error, Err(EmitError::PayloadTooLong { max, found: max + 1 }));
        assert_eq!(buffer, [7; 44]);
        let mut large = vec![0; max + 42];
        assert_eq!(route.emit(0, &long[..max], &mut large), Ok(max + 42));
        assert_eq!(Datagram::from_frame(&large).unwrap().payload.len(), max);
    }

    #[test]
    fn reasons_are_dense() {
        for (place, reason) in FrameError::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
        }
        assert_eq!(FrameError::COUNT, 8);
    }
}
