//! What stands in front of the IP packets of a capture file, where that is not Ethernet: captures
//! made on the interface `any`, of tunnels, and of BSD's loopback. Their packets are given an
//! Ethernet header, so that all behind this knows one kind of frame.
//!
//! Numbers and layouts: "Link-layer header types" of the tcpdump group.

const ETHERNET_HEADER: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
/// Protocol family of IPv4, the same on all systems.
const AF_INET: u32 = 2;
/// Reserved by IEEE: what nothing decodes.
const NO_PROTOCOL: [u8; 2] = [0xFF, 0xFF];

/// A link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkLayer {
    /// 1.
    Ethernet,
    /// 113, "cooked": 16 bytes of which the last two are the protocol.
    LinuxCooked,
    /// 276, the second version: 20 bytes of which the first two are the protocol.
    LinuxCooked2,
    /// 101, and what some systems write for it (12, 14); 228 for IPv4 alone.
    Ip,
    /// 0 and 108: a protocol family of 4 bytes, in the byte order of whoever wrote it.
    BsdLoopback,
    /// Any other, by its number: of its packets nothing can be decoded.
    Other(i32),
}

impl LinkLayer {
    /// The link layer of that number, if it can be decoded.
    pub fn new(linktype: i32) -> Option<LinkLayer> {
        Some(match linktype {
            1 => LinkLayer::Ethernet,
            113 => LinkLayer::LinuxCooked,
            276 => LinkLayer::LinuxCooked2,
            12 | 14 | 101 | 228 => LinkLayer::Ip,
            0 | 108 => LinkLayer::BsdLoopback,
            _ => return None,
        })
    }

    /// The packet as an Ethernet frame; where it is none, it is put together in `frame`. The
    /// addresses of that one are zero.
    pub fn ethernet<'a>(self, packet: &'a [u8], frame: &'a mut Vec<u8>) -> &'a [u8] {
        let (header, protocol) = match self {
            LinkLayer::Ethernet => return packet,
            LinkLayer::LinuxCooked => (16, two_bytes(packet, 14)),
            LinkLayer::LinuxCooked2 => (20, two_bytes(packet, 0)),
            LinkLayer::Ip => (0, packet.first().filter(|first| **first >> 4 == 4).map(|_| IPV4)),
            LinkLayer::BsdLoopback => (4, packet.first_chunk().and_then(family)),
            LinkLayer::Other(_) => (packet.len(), None),
        };
        frame.clear();
        frame.resize(ETHERNET_HEADER - 2, 0);
        frame.extend(protocol.unwrap_or(NO_PROTOCOL));
        frame.extend(packet.get(header..).unwrap_or(&[]));
        frame
    }
}

fn two_bytes(packet: &[u8], at: usize) -> Option<[u8; 2]> {
    packet.get(at..)?.first_chunk().copied()
}

fn family(bytes: &[u8; 4]) -> Option<[u8; 2]> {
    [u32::from_le_bytes(*bytes), u32::from_be_bytes(*bytes)].contains(&AF_INET).then_some(IPV4)
}
