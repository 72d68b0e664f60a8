//! Capture files: classic pcap (microseconds and nanoseconds, either byte order) and pcapng,
//! plain or compressed with gzip or zstd, recognised by their first bytes.
//!
//! A capture that ends inside its last record (the usual end of one that was interrupted) is not
//! an error: every whole record is delivered, and [`Reader::cut`] then tells where the file ended.
//! Packets that a snap length shortened are delivered as they are; decoders bound every length by
//! the bytes that are there. So are packets of an interface with a link layer that is not decoded,
//! in a file that has others: as a frame of no protocol, and counted.
//!
//! The record formats are parsed by the `pcap-parser` crate; buffering, compression, times and
//! the accounting of positions are ours (see `docs/decisions/pcap-parser.md`).

mod error;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use pcap_parser::nom::Err as Parse;
use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};
use pcap_parser::{parse_pcap_frame, parse_pcap_frame_be, parse_pcap_header};

use super::gzip::GzipMembers;
use super::link_layer::LinkLayer;
use super::{Polled, Source, SourceError};

pub use error::{CutRecord, PcapError};

/// Bytes of the buffer at first; it grows to the largest record.
const BUFFER: usize = 1 << 20;
/// A record that claims to be larger than this is damage.
const RECORD_MAX: usize = 64 << 20;
/// Frames handed over per poll, as many as the AF_XDP source takes.
const BATCH: u32 = 64;
const NANOS: u64 = 1_000_000_000;
/// Bytes in front of the records of a classic file.
const CLASSIC_HEADER: usize = 24;
/// Head of a record of a classic file: seconds, fraction, captured and original length.
const CLASSIC_HEAD: usize = 16;
/// Head of a pcapng block: type and length.
const BLOCK_HEAD: usize = 8;
/// A block for packets that the enhanced packet block has taken the place of.
const PACKET_BLOCK: u32 = 2;
/// Blocks that are looked into: section, interface and the kinds of packets. The others (names,
/// statistics, secrets, comments of somebody's own) are passed by their length, whatever is in them.
const BLOCKS_READ: [u32; 5] = [0x0A0D_0D0A, 1, PACKET_BLOCK, 3, 6];
/// First bytes of classic files: microseconds and nanoseconds, in either byte order.
const CLASSIC_MAGICS: [[u8; 4]; 4] = [
    [0xA1, 0xB2, 0xC3, 0xD4],
    [0xD4, 0xC3, 0xB2, 0xA1],
    [0xA1, 0xB2, 0x3C, 0x4D],
    [0x4D, 0x3C, 0xB2, 0xA1],
];

/// One captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Capture time, UTC nanoseconds.
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

#[derive(Clone, Copy, Debug)]
enum Format {
    Classic { big_endian: bool, nanoseconds: bool, link_layer: LinkLayer },
    Ng { big_endian: bool },
}

/// How a pcapng interface counts time, and how much of a packet it keeps.
#[derive(Clone, Copy, Debug)]
struct Interface {
    linktype: i32,
    /// Units per second.
    resolution: u64,
    offset_s: i64,
    snaplen: u32,
}

/// Where the next packet lies in the buffer.
struct Located {
    data: Range<usize>,
    record_len: usize,
    ts_ns: u64,
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
    foreign: Option<Foreign>,
    cut: Option<CutRecord>,
    last_ts_ns: u64,
}

impl Reader {
    /// Opens a capture file, compressed or not.
    pub fn open(path: impl AsRef<Path>) -> Result<Reader, PcapError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Reader::from_read(name, file),
            Err(source) => Err(PcapError::Open { path: name, source }),
        }
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
            foreign: None,
            cut: None,
            last_ts_ns: 0,
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
                        if !self.unread.is_empty() {
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
        self.last_ts_ns = located.ts_ns;
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
        let (ts_ns, original_len) = (located.ts_ns, located.original_len);
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
        let classic = CLASSIC_MAGICS.iter().any(|magic| head.starts_with(magic));
        if head.is_empty() || classic && head.len() < CLASSIC_HEADER {
            return Err(PcapError::CutHead { path: self.path.clone(), present: head.len() });
        }
        let Ok((_, header)) = parse_pcap_header(head) else { return Err(not_a_capture) };
        if header.is_modified_format() {
            return Err(not_a_capture);
        }
        self.format = Format::Classic {
            big_endian: header.is_bigendian(),
            nanoseconds: header.is_nanosecond_precision(),
            // The upper bits of the field may hold the length of a frame check sequence.
            link_layer: self.link_layer(header.network.0 & 0xFFFF)?,
        };
        self.consume(header.size());
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
            Format::Classic { big_endian, nanoseconds, link_layer } => {
                self.classic_record(big_endian, nanoseconds, link_layer)
            }
            Format::Ng { big_endian } => self.ng_record(big_endian),
        }
    }

    fn classic_record(
        &self,
        big_endian: bool,
        nanoseconds: bool,
        link_layer: LinkLayer,
    ) -> Result<Record, PcapError> {
        let bytes = &self.buffer[self.unread.clone()];
        let Some(captured_len) = u32_at(bytes, 8, big_endian) else {
            return Ok(Record::Need(CLASSIC_HEAD));
        };
        let record_len = CLASSIC_HEAD + captured_len as usize;
        if record_len > RECORD_MAX {
            return Err(self.damaged("a record claims more than 64 MiB"));
        }
        if bytes.len() < record_len {
            return Ok(Record::Need(record_len));
        }
        let parse = if big_endian { parse_pcap_frame_be } else { parse_pcap_frame };
        let Ok((_, record)) = parse(bytes) else {
            return Err(self.damaged("a record cannot be parsed"));
        };
        let fraction = u64::from(record.ts_usec) * if nanoseconds { 1 } else { 1000 };
        Ok(Record::Packet(Located {
            data: CLASSIC_HEAD..record_len,
            record_len,
            ts_ns: u64::from(record.ts_sec) * NANOS + fraction,
            original_len: record.origlen,
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
                    resolution: resolution(description.if_tsresol)
                        .ok_or_else(|| self.damaged("a time resolution is out of range"))?,
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
                    ts_ns: self.last_ts_ns, // this kind of block has no time of its own
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
            Format::Classic { .. } => CLASSIC_HEAD,
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

    fn nanoseconds(&self, units: u64) -> u64 {
        let ns = u128::from(units) * u128::from(NANOS) / u128::from(self.resolution);
        let ns = ns as i128 + i128::from(self.offset_s) * i128::from(NANOS);
        ns.clamp(0, i128::from(u64::MAX)) as u64
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

/// How fast a capture is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    /// As fast as the worker takes it.
    #[default]
    Unlimited,
    /// With the pauses of the recording.
    Recorded,
}

/// A capture file as a source: its packets carry the times they were captured at.
pub struct PcapSource {
    reader: Reader,
    speed: Speed,
    /// When the first packet was handed over, and its capture time.
    started: Option<(Instant, u64)>,
    /// The packet that was read and not handed over: the first, or one whose time has not come.
    pending: Option<(u64, Vec<u8>)>,
}

impl PcapSource {
    /// Plays `reader`. Reads its first packet already.
    pub fn new(reader: Reader, speed: Speed) -> Result<PcapSource, PcapError> {
        let mut source = PcapSource { reader, speed, started: None, pending: None };
        source.pending = source.reader.next()?.map(|packet| (packet.ts_ns, packet.data.to_vec()));
        Ok(source)
    }

    /// The reader, for its counters.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// How long until a packet of time `ts_ns` is due; `None` if it is.
    fn early(&mut self, ts_ns: u64) -> Option<Duration> {
        let &mut (at, first_ns) = self.started.get_or_insert((Instant::now(), ts_ns));
        let due = Duration::from_nanos(ts_ns.saturating_sub(first_ns));
        due.checked_sub(at.elapsed()).filter(|left| !left.is_zero())
    }

    fn poll_recorded(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        for handed in 0..BATCH {
            if self.pending.is_none() {
                match self.reader.next()? {
                    Some(packet) => self.pending = Some((packet.ts_ns, packet.data.to_vec())),
                    None if handed == 0 => return Ok(Polled::Ended),
                    None => return Ok(Polled::Frames(handed)),
                }
            }
            let Some((ts_ns, frame)) = self.pending.take() else { continue };
            if self.early(ts_ns).is_some() {
                self.pending = Some((ts_ns, frame));
                return Ok(if handed == 0 { Polled::Idle } else { Polled::Frames(handed) });
            }
            sink(&frame, ts_ns);
        }
        Ok(Polled::Frames(BATCH))
    }
}

impl Source for PcapSource {
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        if self.speed == Speed::Recorded {
            return self.poll_recorded(sink);
        }
        let first = match self.pending.take() {
            Some((ts_ns, frame)) => {
                sink(&frame, ts_ns);
                1
            }
            None => 0,
        };
        for handed in first..BATCH {
            match self.reader.next()? {
                Some(packet) => sink(packet.data, packet.ts_ns),
                None if handed == 0 => return Ok(Polled::Ended),
                None => return Ok(Polled::Frames(handed)),
            }
        }
        Ok(Polled::Frames(BATCH))
    }

    fn wait(&self, timeout: Duration) {
        let left = match (&self.pending, self.started) {
            (Some((ts_ns, _)), Some((at, first_ns))) => {
                Duration::from_nanos(ts_ns.saturating_sub(first_ns)).saturating_sub(at.elapsed())
            }
            _ => timeout,
        };
        std::thread::sleep(left.min(timeout));
    }
}
