//! UDP (RFC 768).

use zerocopy::FromBytes;
use zerocopy::byteorder::big_endian::U16;

use super::checksum::Sum;
use super::frame::FrameError;
use super::ipv4::PROTOCOL_UDP;
use super::layout::layout;

/// Bytes of the header.
pub const HEADER_LEN: usize = size_of::<Header>();

layout! {
    /// Ports, length and checksum.
    pub struct Header: 8 {
        /// Source port.
        src_port: U16 = 0,
        /// Destination port.
        dst_port: U16 = 2,
        /// Bytes of the datagram, header included.
        length: U16 = 4,
        /// Checksum over addresses, header and payload; 0 where the sender computed none.
        checksum: U16 = 6,
    }
}

/// The header and the payload that its length bounds. Bytes behind it are ignored, as every
/// receiver does.
///
/// # Errors
/// [`FrameError`]: `Truncated` where the header is cut, `BadHeaderLength` for a length below the
/// header's own, `LengthMismatch` for one beyond the IP packet.
#[inline]
pub fn payload(bytes: &[u8]) -> Result<(&Header, &[u8]), FrameError> {
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| FrameError::Truncated)?;
    let length = usize::from(header.length.get());
    if length < HEADER_LEN {
        return Err(FrameError::BadHeaderLength);
    }
    match bytes.get(HEADER_LEN..length) {
        Some(payload) => Ok((header, payload)),
        None => Err(FrameError::LengthMismatch),
    }
}

/// The checksum of a datagram (header with a checksum of 0, then payload) between two addresses.
/// Never 0, which stands for "none": RFC 768 sends all ones instead.
pub fn checksum(src: [u8; 4], dst: [u8; 4], header: &[u8], payload: &[u8]) -> u16 {
    match sum(src, dst, header, payload).finish() {
        0 => 0xffff,
        value => value,
    }
}

/// Whether a datagram's checksum holds; true where the sender computed none.
pub fn checksum_holds(src: [u8; 4], dst: [u8; 4], header: &Header, payload: &[u8]) -> bool {
    use zerocopy::IntoBytes;
    header.checksum.get() == 0 || sum(src, dst, header.as_bytes(), payload).finish() == 0
}

/// The sum over the pseudo header of RFC 768 and the datagram.
fn sum(src: [u8; 4], dst: [u8; 4], header: &[u8], payload: &[u8]) -> Sum {
    let length = (header.len() + payload.len()) as u16;
    Sum::new()
        .with(&src)
        .with(&dst)
        .with(&[0, PROTOCOL_UDP])
        .with(&length.to_be_bytes())
        .with(header)
        .with(payload)
}
