//! Why a capture file cannot be read, or not to its end.

use std::io;

/// Why a capture cannot be read (on).
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file cannot be opened.
    #[error("cannot open the capture {path}: {source}")]
    Open {
        /// Its path.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Reading or decompressing failed.
    #[error("cannot read the capture {path} beyond byte {position} (uncompressed): {source}")]
    Read {
        /// Its path.
        path: String,
        /// Uncompressed bytes read before.
        position: u64,
        /// The system's or the decompressor's answer.
        source: io::Error,
    },
    /// It is not a capture.
    #[error("{path} is neither pcap nor pcapng (its first bytes are {start:02x?})")]
    NotACapture {
        /// Its path.
        path: String,
        /// How it starts.
        start: Vec<u8>,
    },
    /// There is not even the head of a capture in it.
    #[error("{path} ends inside the head of a capture: {present} bytes are there")]
    CutHead {
        /// Its path.
        path: String,
        /// How many bytes there are.
        present: usize,
    },
    /// All of its frames are of a kind that is not decoded.
    #[error(
        "{path} holds frames of link type {linktype}; Ethernet (1), Linux cooked (113, 276), IP \
         without a link layer (101, 228) and BSD loopback (0, 108) can be decoded"
    )]
    LinkType {
        /// Its path.
        path: String,
        /// The number of the link type.
        linktype: i32,
    },
    /// A record makes no sense.
    #[error("{path} is damaged at byte {position} (uncompressed), after {packets} packets: {what}")]
    Damaged {
        /// Its path.
        path: String,
        /// Where the record starts.
        position: u64,
        /// Packets delivered before it.
        packets: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// The record on which a file ends without being whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutRecord {
    /// Where it starts, in uncompressed bytes.
    pub position: u64,
    /// Packets before it, all delivered.
    pub packets_before: u64,
    /// Bytes of it that are there.
    pub present: u64,
    /// Bytes that it should have; 0 where not even its length is there.
    pub needed: u64,
}

impl std::fmt::Display for CutRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CutRecord { position, packets_before, present, needed } = self;
        write!(f, "the file ends inside record {} at byte {position}: ", packets_before + 1)?;
        match needed {
            0 => write!(f, "{present} bytes of its head are there"),
            _ => write!(f, "{present} of its {needed} bytes are there"),
        }
    }
}
