//! Ethernet II (IEEE 802.3 clause 3.2.6): where a frame goes and what it carries.

use zerocopy::byteorder::big_endian::U16;

use super::layout::layout;

/// Bytes of the header without VLAN tags.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Shortest frame on the wire without its check sequence: shorter ones are padded with zeros.
pub const FRAME_LEN_MIN: usize = 60;

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;

layout! {
    /// Destination, source, and the type of what follows.
    pub struct Header: 14 {
        /// Destination address.
        dst: [u8; 6] = 0,
        /// Source address.
        src: [u8; 6] = 6,
        /// Type of what follows, e.g. [`ETHERTYPE_IPV4`]; below 1536 it is a length (802.3).
        ethertype: U16 = 12,
    }
}

/// The Ethernet address of an IPv4 multicast group (RFC 1112, section 6.4): the low 23 bits of
/// the group behind `01:00:5e`, so that 32 groups share each address.
///
/// ```
/// use wiretape_core::wire::ethernet::multicast_mac;
/// assert_eq!(multicast_mac([233, 54, 12, 111]), [0x01, 0x00, 0x5e, 54, 12, 111]);
/// assert_eq!(multicast_mac([224, 215, 3, 10]), multicast_mac([224, 87, 3, 10]));
/// ```
pub const fn multicast_mac(group: [u8; 4]) -> [u8; 6] {
    [0x01, 0x00, 0x5e, group[1] & 0x7f, group[2], group[3]]
}
