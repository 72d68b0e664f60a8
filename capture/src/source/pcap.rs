//! Capture files: classic pcap (microseconds, nanoseconds and "modified", either byte order) and pcapng,
//! plain or compressed with gzip or zstd, recognised by their first bytes.
//!
//! A capture that ends inside its last record (the usual end of one that was interrupted) is not
//! an error: every whole record is delivered, and [`Reader::cut`] then tells where the file ended.
//! Packets that a snap length shortened are delivered as they are; decoders bound every length by
//! the bytes that are there. So are packets of an interface with a link layer that is not decoded,
//! in a file that has others: as a frame of no protocol, and counted.
//!
//! pcapng's blocks are parsed by the `pcap-parser` crate; classic records, buffering, compression, times and
//! the accounting of positions are ours (see `docs/decisions/pcap-parser.md`).

mod error;
mod pipe;
mod player;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pcap_parser::nom::Err as Parse;
use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};

use super::gzip::GzipMembers;
use super::link_layer::LinkLayer;
use pipe::Pipe;

pub use error::{CutRecord, PcapError};
pub use player::{PcapSource, Speed};

/// Bytes of the buffer at first; it grows to the largest record.
const BUFFER: usize = 1 << 20;
/// A record that claims to be larger than this is damage.
const RECORD_MAX: usize = 64 << 20;
const NANOS: u64 = 1_000_000_000;
/// Bytes in front of the records of a classic file.
const CLASSIC_HEADER: usize = 24;
/// Head of a record of a classic file: seconds, fraction, captured and original length.
const CLASSIC_HEAD: usize = 16;
/// The same in a "modified" file, as Linux tools of the nineties wrote them: behind the lengths stand
/// interface, protocol and kind of packet.
const MODIFIED_HEAD: usize = 24;
/// Head of a pcapng block: type and length.
const BLOCK_HEAD: usize = 8;
/// A block for packets that the enhanced packet block has taken the place of.
const PACKET_BLOCK: u32 = 2;
/// Blocks that are looked into: section, interface and the kinds of packets. The others (names,
/// statistics, secrets, comments of somebody's own) are passed by their length, whatever is in them.
const BLOCKS_READ: [u32; 5] = [0x0A0D_0D0A, 1, PACKET_BLOCK, 3, 6];
/// First numbers of classic files: with microseconds, with nanoseconds, and modified ones.
const MICROSECONDS: u32 = 0xA1B2_C3D4;
const NANOSECONDS: u32 = 0xA1B2_3C4D;
const MODIFIED: u32 = 0xA1B2_CD34;

/// One captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Capture time, UTC nanoseconds; that of the packet before, if the file has none for this one.
    pub ts_ns: u64,
    /// The bytes that were captured; those of another link layer, as an Ethernet frame.
    pub data: &'a [u8],
    /// Length on the wire, of the link layer that was captured.
    pub original_len: u32,
    /// It was captured on a link layer that is not decoded, and nothing of it is in `data`.
    pub foreign: bool,
}

/// Packets that were captured on link layers that are not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The link type of the first.
    pub linktype: i32,
    /// How many there are.
    pub packets: u64,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Foreign { linktype, packets } = self;
        write!(
            f,
            "{packets} packets of the file are of link type {linktype} or another one that is not "
        )?;
        write!(f, "decoded")
    }
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Classic(Classic),
    Ng { big_endian: bool },
}

/// How a classic file is written.
#[derive(Clone, Copy, Debug)]
struct Classic {
    big_endian: bool,
    nanoseconds: bool,
    /// Bytes in front of each packet.
    head: usize,
    link_layer: LinkLayer,
}

/// How a pcapng interface counts time, and how much of a packet it keeps.
#[derive(Clone, Copy, Debug)]
struct Interface {
    linktype: i32,
    /// Units per second; `None` if there are more than 64 bits can say, which no clock has.
    resolution: Option<u64>,
    offset_s: i64,
    snaplen: u32,
}

/// Where the next packet lies in the buffer.
struct Located {
    data: Range<usize>,
    record_len: usize,
    /// `None` if the record has no time, or none that can be understood.
    ts_ns: Option<u64>,
    original_len: u32,
    link_layer: LinkLayer,
}

/// What the start of the unread bytes turned out to be.
enum Record {
    Packet(Located),
    /// Something without a packet, so many bytes long.
    Other(usize),
    /// More bytes are needed: so many in all.
    Need(usize),
    /// The file ends here.
    End,
}

/// Reads a capture packet by packet.
pub struct Reader {
    path: String,
    input: Box<dyn Read + Send>,
    exhausted: bool,
    buffer: Vec<u8>,
    unread: Range<usize>,
    /// Uncompressed position of the first unread byte.
    position: u64,
    format: Format,
    interfaces: Vec<Interface>,
    /// The latest packet, if it was captured on another link layer than Ethernet.
    frame: Vec<u8>,
    packets: u64,
    snapped: u64,
    untimed: u64,
    foreign: Option<Foreign>,
    cut: Option<CutRecord>,
    last_ts_ns: u64,
    enough: Arc<AtomicBool>,
}

impl Reader {
    /// Opens a capture file, compressed or not; `-` is standard input.
    pub fn open(path: impl AsRef<Path>) -> Result<Reader, PcapError> {
        let path = match path.as_ref() {
            path if path == Path::new("-") => Path::new("/dev/stdin"),
            path => path,
        };
        let name = path.display().to_string();
        let failed = |source| PcapError::Open { path: path.display().to_string(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            return Reader::from_read(name, file);
        }
        let enough = Arc::default();
        let reader = Reader::from_read(name, Pipe::new(file, Arc::clone(&enough)))?;
        Ok(Reader { enough, ..reader })
    }

    /// To be set when no more is wanted: a pipe that has nothing then is at its end.
    pub fn enough(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.enough)
    }

    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// Reads a capture from anything; `name` stands in messages.
    pub fn from_read(
        name: impl Into<String>,
        mut input: impl Read + Send + 'static,
    ) -> Result<Reader, PcapError> {
        let path = name.into();
        let fail = |source| PcapError::Read { path: path.clone(), position: 0, source };
        let mut magic = Vec::new();
        (&mut input).take(4).read_to_end(&mut magic).map_err(fail)?;
        let whole = io::Cursor::new(magic.clone()).chain(input);
        let input: Box<dyn Read + Send> = match magic[..] {
            [0x1F, 0x8B, ..] => Box::new(GzipMembers::new(io::BufReader::new(whole))),
            // A frame of data, or one to be skipped, as some compressors write in front.
            [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => {
                Box::new(zstd::stream::read::Decoder::new(whole).map_err(fail)?)
            }
            _ => Box::new(whole),
        };
        let mut reader = Reader {
            path,
            input,
            exhausted: false,
            buffer: vec![0; BUFFER],
            unread: 0..0,
            position: 0,
            format: Format::Ng { big_endian: false },
            interfaces: Vec::new(),
            frame: Vec::new(),
            packets: 0,
            snapped: 0,
            untimed: 0,
            foreign: None,
            cut: None,
            last_ts_ns: 0,
            enough: Arc::default(),
        };
        reader.recognise()?;
        Ok(reader)
    }

    /// The next packet, or `None` at the end. After an error or the end it stays there.
    #[expect(clippy::should_implement_trait, reason = "packets borrow the reader's buffer")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, PcapError> {
        let located = loop {
            match self.record()? {
                Record::Packet(located) => break located,
                Record::Other(len) => self.consume(len),
                Record::Need(len) => {
                    if !self.refill(len)? {
                        // Where a stop came between, nothing is said of how the rest would have been.
                        if !self.unread.is_empty() && !self.is_enough() {
                            self.ends_inside(len);
                        }
                        return self.end();
                    }
                }
                Record::End => return self.end(),
            }
        };
        let start = self.unread.start;
        self.consume(located.record_len);
        self.packets += 1;
        match located.ts_ns {
            Some(ts_ns) => self.last_ts_ns = ts_ns,
            None => self.untimed += 1,
        }
        let data = &self.buffer[start + located.data.start..start + located.data.end];
        self.snapped += u64::from(data.len() < located.original_len as usize);
        let foreign = match located.link_layer {
            LinkLayer::Other(linktype) => {
                self.foreign.get_or_insert(Foreign { linktype, packets: 0 }).packets += 1;
                true
            }
            _ => false,
        };
        let data = located.link_layer.ethernet(data, &mut self.frame);
        let (ts_ns, original_len) = (self.last_ts_ns, located.original_len);
        Ok(Some(Packet { ts_ns, data, original_len, foreign }))
    }

    /// The end, which is an error if nothing of all that was there can be decoded.
    fn end(&self) -> Result<Option<Packet<'_>>, PcapError> {
        match self.foreign {
            Some(Foreign { linktype, packets }) if packets == self.packets => {
                Err(PcapError::LinkType { path: self.path.clone(), linktype })
            }
            _ => Ok(None),
        }
    }

    /// Packets delivered so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets among them that a snap length had shortened.
    pub fn snapped(&self) -> u64 {
        self.snapped
    }

    /// Packets among them that carried no time, or none of a resolution that can be understood: they
    /// have that of the packet before.
    pub fn untimed(&self) -> u64 {
        self.untimed
    }

    /// Packets among them of link layers that are not decoded.
    pub fn foreign(&self) -> Option<Foreign> {
        self.foreign
    }

    /// The record inside which the file ended, known once `next` has returned `None`.
    pub fn cut(&self) -> Option<CutRecord> {
        self.cut
    }

    fn recognise(&mut self) -> Result<(), PcapError> {
        self.refill(CLASSIC_HEADER)?;
        let head = &self.buffer[self.unread.clone()];
        let not_a_capture = PcapError::NotACapture {
            path: self.path.clone(),
            start: head.get(..4).unwrap_or(head).to_vec(),
        };
        if head.starts_with(&[0x0A, 0x0D, 0x0D, 0x0A]) {
            return Ok(()); // the section header block tells the byte order
        }
        let found = [false, true].into_iter().find_map(|big_endian| {
            let magic = u32_at(head, 0, big_endian)?;
            let classic = [MICROSECONDS, NANOSECONDS, MODIFIED].contains(&magic);
            classic.then_some((big_endian, magic))
        });
        if head.is_empty() || found.is_some() && head.len() < CLASSIC_HEADER {
            return Err(PcapError::CutHead { path: self.path.clone(), present: head.len() });
        }
        let Some((big_endian, magic)) = found else { return Err(not_a_capture) };
        // The upper bits of the field may hold the length of a frame check sequence.
        let linktype = u32_at(head, 20, big_endian).unwrap_or(0) & 0xFFFF;
        self.format = Format::Classic(Classic {
            big_endian,
            nanoseconds: magic == NANOSECONDS,
            head: if magic == MODIFIED { MODIFIED_HEAD } else { CLASSIC_HEAD },
            link_layer: self.link_layer(linktype as i32)?,
        });
        self.consume(CLASSIC_HEADER);
        Ok(())
    }

    fn link_layer(&self, linktype: i32) -> Result<LinkLayer, PcapError> {
        let unknown = || PcapError::LinkType { path: self.path.clone(), linktype };
        LinkLayer::new(linktype).ok_or_else(unknown)
    }

    fn record(&mut self) -> Result<Record, PcapError> {
        if self.unread.is_empty() && self.exhausted {
            return Ok(Record::End);
        }
        match self.format {
            Format::Classic(classic) => self.classic_record(&classic),
            Format::Ng { big_endian } => self.ng_record(big_endian),
        }
    }

    fn classic_record(&self, classic: &Classic) -> Result<Record, PcapError> {
        let &Classic { big_endian, nanoseconds, head, link_layer } = classic;
        let bytes = &self.buffer[self.unread.clone()];
        let [seconds, fraction, captured_len, original_len] =
            [0, 4, 8, 12].map(|at| u32_at(bytes, at, big_endian));
        let (Some(seconds), Some(fraction), Some(captured_len), Some(original_len)) =
            (seconds, fraction, captured_len, original_len)
        else {
            return Ok(Record::Need(head));
        };
        let record_len = head + captured_len as usize;
        if record_len > RECORD_MAX {
            return Err(self.damaged("a record claims more than 64 MiB"));
        }
        if bytes.len() < record_len {
            return Ok(Record::Need(record_len));
        }
        let fraction = u64::from(fraction) * if nanoseconds { 1 } else { 1000 };
        Ok(Record::Packet(Located {
            data: head..record_len,
            record_len,
            ts_ns: Some(u64::from(seconds) * NANOS + fraction),
            original_len,
            link_layer,
        }))
    }

    fn ng_record(&mut self, big_endian: bool) -> Result<Record, PcapError> {
        let bytes = &self.buffer[self.unread.clone()];
        if bytes.len() < BLOCK_HEAD + 4 {
            return Ok(Record::Need(BLOCK_HEAD + 4));
        }
        // A section header brings its own byte order.
        let big_endian = match bytes[..BLOCK_HEAD + 4] {
            [0x0A, 0x0D, 0x0D, 0x0A, _, _, _, _, 0x1A, 0x2B, 0x3C, 0x4D] => true,
            [0x0A, 0x0D, 0x0D, 0x0A, _, _, _, _, 0x4D, 0x3C, 0x2B, 0x1A] => false,
            _ => big_endian,
        };
        let block_len = u32_at(bytes, 4, big_endian).unwrap_or(0) as usize;
        if !(12..=RECORD_MAX).contains(&block_len) || !block_len.is_multiple_of(4) {
            return Err(self.damaged("a block has an impossible length"));
        }
        let Some(block) = bytes.get(..block_len) else { return Ok(Record::Need(block_len)) };
        let kind = u32_at(block, 0, big_endian);
        if !kind.is_some_and(|kind| BLOCKS_READ.contains(&kind)) {
            // The length stands behind the block once more.
            return match u32_at(block, block_len - 4, big_endian) {
                Some(again) if again as usize == block_len => Ok(Record::Other(block_len)),
                _ => Err(self.damaged("a block has two different lengths")),
            };
        }
        let parse = if big_endian { parse_block_be } else { parse_block_le };
        let block = match parse(block) {
            Ok((_, block)) => block,
            // All bytes of the block are there: what it misses lies in a length inside it.
            Err(Parse::Incomplete(_) | Parse::Error(_) | Parse::Failure(_)) => {
                return Err(self.damaged("a block cannot be parsed"));
            }
        };
        match block {
            Block::SectionHeader(_) => {
                self.format = Format::Ng { big_endian };
                self.interfaces.clear();
            }
            Block::InterfaceDescription(description) => {
                // The parser takes the bytes of this option for little-endian ones in any section.
                let offset_s = description.if_tsoffset;
                let interface = Interface {
                    linktype: description.linktype.0,
                    resolution: resolution(description.if_tsresol),
                    offset_s: if big_endian { offset_s.swap_bytes() } else { offset_s },
                    snaplen: description.snaplen,
                };
                self.interfaces.push(interface);
            }
            Block::EnhancedPacket(packet) => {
                let times = (packet.ts_high, packet.ts_low);
                return self.ng_packet(
                    packet.if_id,
                    times,
                    packet.caplen,
                    packet.origlen,
                    block_len,
                );
            }
            Block::Unknown(_) if kind == Some(PACKET_BLOCK) => {
                // All but the interface, which has two bytes, stands where the enhanced has it.
                let [head, high, low, captured, original] =
                    [8, 12, 16, 20, 24].map(|at| u32_at(bytes, at, big_endian).unwrap_or(u32::MAX));
                let id = if big_endian { head >> 16 } else { head & 0xFFFF };
                return self.ng_packet(id, (high, low), captured, original, block_len);
            }
            Block::SimplePacket(packet) => {
                let interface = self.interface(0)?;
                let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
                let captured = packet.origlen.min(snaplen).min(packet.data.len() as u32);
                return Ok(Record::Packet(Located {
                    data: 12..12 + captured as usize,
                    record_len: block_len,
                    ts_ns: None, // this kind of block has no time of its own
                    original_len: packet.origlen,
                    link_layer: interface.link_layer(),
                }));
            }
            _ => {}
        }
        Ok(Record::Other(block_len))
    }

    /// A packet of an enhanced packet block or its forerunner.
    fn ng_packet(
        &self,
        interface: u32,
        (high, low): (u32, u32),
        captured: u32,
        original_len: u32,
        block_len: usize,
    ) -> Result<Record, PcapError> {
        let interface = self.interface(interface)?;
        // Type, length, interface, time (2) and lengths (2) stand before the data.
        let data = 28..28 + captured as usize;
        if data.end > block_len {
            return Err(self.damaged("a packet is longer than its block"));
        }
        Ok(Record::Packet(Located {
            data,
            record_len: block_len,
            ts_ns: interface.nanoseconds(u64::from(high) << 32 | u64::from(low)),
            original_len,
            link_layer: interface.link_layer(),
        }))
    }

    /// The interface that a packet names.
    fn interface(&self, id: u32) -> Result<Interface, PcapError> {
        match self.interfaces.get(id as usize) {
            Some(interface) => Ok(*interface),
            None => Err(self.damaged("a packet names an interface that is not there")),
        }
    }

    fn damaged(&self, what: &'static str) -> PcapError {
        let (path, packets) = (self.path.clone(), self.packets);
        PcapError::Damaged { path, position: self.position, packets, what }
    }

    fn ends_inside(&mut self, needed: usize) {
        let head = match self.format {
            Format::Classic(Classic { head, .. }) => head,
            Format::Ng { .. } => BLOCK_HEAD,
        };
        self.cut.get_or_insert(CutRecord {
            position: self.position,
            packets_before: self.packets,
            present: self.unread.len() as u64,
            needed: if self.unread.len() < head { 0 } else { needed as u64 },
        });
    }

    fn consume(&mut self, len: usize) {
        self.unread.start += len;
        self.position += len as u64;
    }

    /// Reads until `needed` unread bytes are there; `false` if the file ends before.
    fn refill(&mut self, needed: usize) -> Result<bool, PcapError> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if needed > self.buffer.len() {
            self.buffer.resize(needed.next_power_of_two(), 0);
        }
        while self.unread.len() < needed && !self.exhausted {
            match self.input.read(&mut self.buffer[self.unread.end..]) {
                Ok(0) => self.exhausted = true,
                Ok(count) => self.unread.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A decompressor takes it for damage that a stop came in the middle of its stream.
                Err(_) if self.is_enough() => self.exhausted = true,
                Err(source) => {
                    let position = self.position + self.unread.len() as u64;
                    return Err(PcapError::Read { path: self.path.clone(), position, source });
                }
            }
        }
        Ok(self.unread.len() >= needed)
    }
}

impl Interface {
    fn link_layer(&self) -> LinkLayer {
        LinkLayer::new(self.linktype).unwrap_or(LinkLayer::Other(self.linktype))
    }

    fn nanoseconds(&self, units: u64) -> Option<u64> {
        let ns = u128::from(units) * u128::from(NANOS) / u128::from(self.resolution?);
        let ns = ns as i128 + i128::from(self.offset_s) * i128::from(NANOS);
        Some(ns.clamp(0, i128::from(u64::MAX)) as u64)
    }
}

/// Units per second of an `if_tsresol` option: a power of ten, or of two with the top bit set.
fn resolution(option: u8) -> Option<u64> {
    match option & 0x80 {
        0 => 10u64.checked_pow(u32::from(option)),
        _ => 1u64.checked_shl(u32::from(option & 0x7F)),
    }
}

fn u32_at(bytes: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}
