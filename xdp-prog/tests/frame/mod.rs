//! Frames for the XDP program, built by hand so that each field can be wrong.

use wiretape_xdp::Group;

pub const VLAN: u16 = 0x8100;
pub const SERVICE_VLAN: u16 = 0x88a8;
pub const IPV4: u16 = 0x0800;
pub const UDP: u8 = 17;

/// A UDP datagram to a group, and everything about it that a test may change.
#[derive(Clone, Debug)]
pub struct Frame {
    pub tags: Vec<u16>,
    pub ethertype: u16,
    pub version: u8,
    pub options_words: u8,
    /// Header length in words, as it is written; from the options if `None`.
    pub header_words: Option<u8>,
    pub fragment: u16,
    pub protocol: u8,
    pub address: [u8; 4],
    pub port: u16,
    pub payload: usize,
    /// Total length, as it is written; as it is if `None`.
    pub total_len: Option<u16>,
}

impl Frame {
    pub fn to(group: Group) -> Self {
        Self {
            tags: Vec::new(),
            ethertype: IPV4,
            version: 4,
            options_words: 0,
            header_words: None,
            fragment: 0x4000, // don't fragment
            protocol: UDP,
            address: group.address().octets(),
            port: group.port(),
            payload: 40,
            total_len: None,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let header_len = 20 + usize::from(self.options_words) * 4;
        let total_len = self.total_len.unwrap_or((header_len + 8 + self.payload) as u16);
        let words = self.header_words.unwrap_or(5 + self.options_words);
        let mut bytes = vec![0x01, 0x00, 0x5e, 0x01, 0x01, 0x01, 0x02, 0, 0, 0, 0, 1];
        for tag in &self.tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend(100u16.to_be_bytes());
        }
        bytes.extend(self.ethertype.to_be_bytes());
        bytes.extend([self.version << 4 | words & 0xf, 0]);
        bytes.extend(total_len.to_be_bytes());
        bytes.extend([0x12, 0x34]);
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([16, self.protocol, 0, 0, 10, 0, 0, 1]);
        bytes.extend(self.address);
        bytes.extend(vec![1; header_len - 20]); // no-operation options
        bytes.extend(30001u16.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(((8 + self.payload) as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend((0..self.payload).map(|i| i as u8));
        bytes
    }
}
