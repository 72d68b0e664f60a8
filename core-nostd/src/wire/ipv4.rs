//! IPv4 (RFC 791).

use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use super::checksum::Sum;
use super::frame::FrameError;
use super::layout::layout;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// Bits of [`Header::fragment`] that are set in a fragment: "more follow", and the offset.
const FRAGMENT_MASK: u16 = 0x3fff;
/// Bit of [`Header::fragment`]: routers must not fragment the packet.
const DONT_FRAGMENT: u16 = 0x4000;

layout! {
    /// The header without its options.
    pub struct Header: 20 {
        /// Version (4 bits) and header length in 4-byte words (4 bits).
        version_ihl: u8 = 0,
        /// Differentiated services and congestion bits.
        tos: u8 = 1,
        /// Bytes of the packet, header included.
        total_length: U16 = 2,
        /// Joins the fragments of one packet.
        identification: U16 = 4,
        /// Flags (3 bits) and offset in 8-byte words (13 bits).
        fragment: U16 = 6,
        /// Hops left.
        ttl: u8 = 8,
        /// What follows, e.g. [`PROTOCOL_UDP`].
        protocol: u8 = 9,
        /// Checksum of the header and its options.
        checksum: U16 = 10,
        /// Source address.
        src: [u8; 4] = 12,
        /// Destination address.
        dst: [u8; 4] = 16,
    }
}

impl Header {
    /// Length of the header with its options, as it states it.
    #[inline]
    pub const fn header_len(&self) -> usize {
        (self.version_ihl & 0x0f) as usize * 4
    }

    /// Whether this is a piece of a larger packet.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & FRAGMENT_MASK != 0
    }

    /// A header without options for a packet of `total_length` bytes that must not be
    /// fragmented, with its checksum.
    pub fn new(
        src: [u8; 4],
        dst: [u8; 4],
        ttl: u8,
        identification: u16,
        total_length: u16,
    ) -> Self {
        let mut header = Header {
            version_ihl: 0x45,
            tos: 0,
            total_length: U16::new(total_length),
            identification: U16::new(identification),
            fragment: U16::new(DONT_FRAGMENT),
            ttl,
            protocol: PROTOCOL_UDP,
            checksum: U16::new(0),
            src,
            dst,
        };
        header.checksum = U16::new(Sum::new().with(header.as_bytes()).finish());
        header
    }
}

/// The header of a UDP packet and what it carries, bounded by the packet's own length.
///
/// The checks stand in an order that names a packet that is not ours (another protocol, a
/// fragment) as that, even where a capture cut it short. The header's checksum is not verified:
/// the link's own check sequence covered it, and a sender's offload may leave it out of captures
/// ([`checksums_hold`](super::frame::checksums_hold) verifies it on request).
///
/// # Errors
/// [`FrameError`]: `Truncated`, `BadIpVersion`, `NotUdp`, `BadHeaderLength`, `Fragment`,
/// `LengthMismatch`.
#[inline]
pub fn udp_payload(bytes: &[u8]) -> Result<(&Header, &[u8]), FrameError> {
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| FrameError::Truncated)?;
    if header.version_ihl >> 4 != 4 {
        return Err(FrameError::BadIpVersion);
    }
    if header.protocol != PROTOCOL_UDP {
        return Err(FrameError::NotUdp);
    }
    let header_len = header.header_len();
    if header_len < HEADER_LEN {
        return Err(FrameError::BadHeaderLength);
    }
    if header.is_fragment() {
        return Err(FrameError::Fragment);
    }
    let total_length = usize::from(header.total_length.get());
    if total_length < header_len {
        return Err(FrameError::LengthMismatch);
    }
    match bytes.get(header_len..total_length) {
        Some(payload) => Ok((header, payload)),
        None => Err(FrameError::Truncated),
    }
}
