//! IEX-TP (IEX transport protocol, version 1): numbered messages in UDP packets, little-endian.
//!
//! A segment is a 40-byte header and `count` blocks of `length u16 | message`. Both the message
//! numbers and the bytes of the stream are counted through a session. A segment without messages
//! is a heartbeat, and names the numbers to come.
//!
//! Sequence numbers can restart inside one session id; real captures show it.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::block;
use super::layout::layout;
use super::reason::reasons;

/// Bytes of a segment's header.
pub const HEADER_LEN: usize = size_of::<Header>();
/// The only version there is.
pub const VERSION: u8 = 1;

layout! {
    /// What every segment starts with.
    pub struct Header: 40 {
        /// Version of the transport, [`VERSION`].
        version: u8 = 0,
        /// Zero.
        reserved: u8 = 1,
        /// Which messages these are: [`deep10::PROTOCOL`](super::deep10::PROTOCOL),
        /// [`tops16::PROTOCOL`](super::tops16::PROTOCOL).
        protocol: U16 = 2,
        /// Channel, unchanged for the life of the feed.
        channel_id: U32 = 4,
        /// Session.
        session_id: U32 = 8,
        /// Bytes of the blocks.
        payload_length: U16 = 12,
        /// Number of blocks.
        message_count: U16 = 14,
        /// Bytes of all blocks of the session before these.
        stream_offset: U64 = 16,
        /// Sequence number of the first message, or of the next to come.
        first_sequence: U64 = 24,
        /// When the segment was sent, UTC nanoseconds.
        send_time: U64 = 32,
    }
}

reasons! {
    /// Why bytes are not an IEX-TP segment.
    pub enum SegmentError {
        /// The segment ends before its header says it does.
        Truncated = "truncated": "segment is shorter than its header says",
        /// Bytes follow the payload that the header states.
        Oversized = "oversized": "segment is longer than its header says",
        /// Another version than [`VERSION`].
        BadVersion = "bad_version": "transport version is not 1",
        /// The blocks do not fill the payload with as many messages as the header states.
        Miscounted = "miscounted": "message lengths contradict the segment's count or length",
        /// The numbers of the messages or bytes pass the largest number.
        SequenceOverflow = "sequence_overflow": "sequence numbers of the segment overflow",
    }
}

/// A segment that was checked as a whole.
///
/// Having one tells you that every message of it is there: `message_count` blocks fill the payload
/// exactly, and neither its sequence numbers nor its offsets overflow.
///
/// ```
/// use wiretape_core::wire::deep10;
/// use wiretape_core::wire::iextp::{Builder, Segment, Stream};
///
/// let mut stream = Stream::new(deep10::PROTOCOL, 1, 7);
/// let mut buffer = [0; 128];
/// let mut builder = Builder::new(&mut buffer, &mut stream).expect("room for a header");
/// assert!(builder.push(b"a message"));
/// let segment = Segment::parse(builder.finish(1_500)).unwrap();
/// assert_eq!((segment.first_sequence(), segment.send_time()), (1, 1_500));
/// assert!(segment.messages().eq([b"a message"]));
/// assert_eq!(stream.sequence, 2);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    header: &'a Header,
    blocks: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The segment in a datagram's payload.
    ///
    /// # Errors
    /// [`SegmentError`]; no message of a segment in error is to be used.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Segment<'a>, SegmentError> {
        let (header, blocks) =
            Header::ref_from_prefix(payload).map_err(|_| SegmentError::Truncated)?;
        if header.version != VERSION {
            return Err(SegmentError::BadVersion);
        }
        let payload_length = usize::from(header.payload_length.get());
        if blocks.len() < payload_length {
            return Err(SegmentError::Truncated);
        }
        if blocks.len() > payload_length {
            return Err(SegmentError::Oversized);
        }
        let rest = block::skip(blocks, header.message_count.get(), u16::from_le_bytes);
        let rest = rest.ok_or(SegmentError::Miscounted)?;
        if !rest.is_empty() {
            return Err(SegmentError::Miscounted);
        }
        let count = u64::from(header.message_count.get());
        let next = header.first_sequence.get().checked_add(count);
        let next_offset = header.stream_offset.get().checked_add(payload_length as u64);
        if next.is_none() || next_offset.is_none() {
            return Err(SegmentError::SequenceOverflow);
        }
        Ok(Segment { header, blocks })
    }

    /// The header as it stands in the segment.
    #[inline]
    pub fn header(&self) -> &'a Header {
        self.header
    }

    /// Which messages these are.
    #[inline]
    pub fn protocol(&self) -> u16 {
        self.header.protocol.get()
    }

    /// The channel.
    #[inline]
    pub fn channel_id(&self) -> u32 {
        self.header.channel_id.get()
    }

    /// The session.
    #[inline]
    pub fn session_id(&self) -> u32 {
        self.header.session_id.get()
    }

    /// How many messages the segment carries; 0 for a heartbeat.
    #[inline]
    pub fn message_count(&self) -> u16 {
        self.header.message_count.get()
    }

    /// Whether the segment carries no message.
    #[inline]
    pub fn is_heartbeat(&self) -> bool {
        self.message_count() == 0
    }

    /// Sequence number of the first message; in a heartbeat, of the next to come.
    #[inline]
    pub fn first_sequence(&self) -> u64 {
        self.header.first_sequence.get()
    }

    /// Sequence number of the first message after this segment.
    #[inline]
    pub fn next_sequence(&self) -> u64 {
        // Checked when the segment was parsed: the sum does not wrap.
        self.first_sequence().wrapping_add(u64::from(self.message_count()))
    }

    /// Bytes of all blocks of the session before these.
    #[inline]
    pub fn stream_offset(&self) -> u64 {
        self.header.stream_offset.get()
    }

    /// Stream offset of the first segment after this one.
    #[inline]
    pub fn next_offset(&self) -> u64 {
        // Checked when the segment was parsed: the sum does not wrap.
        self.stream_offset().wrapping_add(self.blocks.len() as u64)
    }

    /// When the segment was sent, UTC nanoseconds.
    #[inline]
    pub fn send_time(&self) -> u64 {
        self.header.send_time.get()
    }

    /// The messages, in order of their sequence numbers.
    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages { blocks: self.blocks }
    }
}

/// The messages of a [`Segment`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    blocks: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        // The segment was checked: blocks fill it exactly, so that it ends where they do.
        let (message, rest) = block::split(self.blocks, u16::from_le_bytes)?;
        self.blocks = rest;
        Some(message)
    }
}

/// Where a sender stands in its stream: what the next segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which messages these are.
    pub protocol: u16,
    /// The channel.
    pub channel_id: u32,
    /// The session.
    pub session_id: u32,
    /// Bytes of all blocks sent so far.
    pub offset: u64,
    /// Sequence number of the next message.
    pub sequence: u64,
}

impl Stream {
    /// A stream before its first message, which is number 1.
    pub const fn new(protocol: u16, channel_id: u32, session_id: u32) -> Stream {
        Stream { protocol, channel_id, session_id, offset: 0, sequence: 1 }
    }

    /// The whole of a heartbeat sent at `send_time_ns`.
    pub fn heartbeat(&self, send_time_ns: u64) -> Header {
        Header {
            version: VERSION,
            reserved: 0,
            protocol: U16::new(self.protocol),
            channel_id: U32::new(self.channel_id),
            session_id: U32::new(self.session_id),
            payload_length: U16::new(0),
            message_count: U16::new(0),
            stream_offset: U64::new(self.offset),
            first_sequence: U64::new(self.sequence),
            send_time: U64::new(send_time_ns),
        }
    }
}

/// Packs messages into a segment. The length of the buffer is the limit of the segment.
///
/// ```
/// use wiretape_core::wire::iextp::{Builder, Segment, Stream};
///
/// let mut stream = Stream::new(0x8004, 1, 77);
/// let mut buffer = [0u8; 1400];
/// let mut builder = Builder::new(&mut buffer, &mut stream).unwrap();
/// assert!(builder.push(b"first"));
/// assert!(builder.push(b"second"));
/// let segment = Segment::parse(builder.finish(1_000)).unwrap();
/// assert!(segment.messages().eq([&b"first"[..], b"second"]));
/// assert_eq!((stream.sequence, stream.offset), (3, 15));
/// ```
#[derive(Debug)]
pub struct Builder<'b, 's> {
    buffer: &'b mut [u8],
    stream: &'s mut Stream,
    count: u16,
    length: usize,
}

impl<'b, 's> Builder<'b, 's> {
    /// A segment without messages yet. `None` if the buffer does not hold a header.
    pub fn new(buffer: &'b mut [u8], stream: &'s mut Stream) -> Option<Builder<'b, 's>> {
        let fits = buffer.len() >= HEADER_LEN;
        // The payload's length field bounds the segment, however large the buffer is.
        let limit = buffer.len().min(HEADER_LEN + usize::from(u16::MAX));
        let buffer = buffer.get_mut(..limit)?;
        fits.then_some(Builder { buffer, stream, count: 0, length: HEADER_LEN })
    }

    /// Appends a message. False, and no change, if it does not fit: the segment is full.
    #[must_use]
    pub fn push(&mut self, message: &[u8]) -> bool {
        // A message takes at least two bytes, so that the count cannot pass its field.
        match block::put(self.buffer, self.length, message, u16::to_le_bytes) {
            Some(length) => {
                self.length = length;
                self.count += 1;
                true
            }
            None => false,
        }
    }

    /// How many messages were packed.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Writes the header, moves the stream on, and returns the segment.
    pub fn finish(self, send_time_ns: u64) -> &'b [u8] {
        let Builder { buffer, stream, count, length } = self;
        let payload_length = length - HEADER_LEN;
        let mut header = stream.heartbeat(send_time_ns);
        header.payload_length = U16::new(payload_length as u16);
        header.message_count = U16::new(count);
        stream.sequence = stream.sequence.wrapping_add(u64::from(count));
        stream.offset = stream.offset.wrapping_add(payload_length as u64);
        // Both were checked in `new` and `push`.
        if let Some(target) = buffer.get_mut(..HEADER_LEN) {
            target.copy_from_slice(header.as_bytes());
        }
        buffer.get(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..40)
    }

    fn built(stream: &mut Stream, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut buffer = vec![0xee; 4096];
        let mut builder = Builder::new(&mut buffer, stream).unwrap();
        for message in messages {
            assert!(builder.push(message));
        }
        builder.finish(5).to_vec()
    }

    fn stream() -> Stream {
        Stream::new(0x8004, 1, 7)
    }

    proptest! {
        #[test]
        fn segments_of_a_stream_follow_each_other(first in messages(), second in messages()) {
            let mut stream = stream();
            let bytes = [built(&mut stream, &first), built(&mut stream, &second)];
            let [one, two] = bytes.each_ref().map(|bytes| Segment::parse(bytes).unwrap());
            prop_assert_eq!(one.next_sequence(), two.first_sequence());
            prop_assert_eq!(one.next_offset(), two.stream_offset());
            prop_assert_eq!(two.next_sequence(), stream.sequence);
            prop_assert_eq!(two.next_offset(), stream.offset);
            for (segment, messages) in [(one, first), (two, second)] {
                prop_assert!(segment.messages().eq(messages.iter().map(|m| &m[..])));
                prop_assert_eq!(segment.is_heartbeat(), messages.is_empty());
                prop_assert_eq!(segment.protocol(), 0x8004);
                prop_assert_eq!((segment.channel_id(), segment.session_id()), (1, 7));
                prop_assert_eq!(segment.send_time(), 5);
            }
        }

        #[test]
        fn a_cut_or_padded_segment_is_refused(
            messages in messages(), cut: usize, rest in proptest::collection::vec(any::<u8>(), 1..9),
        ) {
            let mut bytes = built(&mut stream(), &messages);
            let cut = cut % bytes.len();
            prop_assert_eq!(Segment::parse(&bytes[..cut]).err(), Some(SegmentError::Truncated));
            bytes.extend(rest);
            prop_assert_eq!(Segment::parse(&bytes).err(), Some(SegmentError::Oversized));
        }

        #[test]
        fn a_wrong_count_is_refused(messages in messages(), count: u16) {
            let mut bytes = built(&mut stream(), &messages);
            prop_assume!(usize::from(count) != messages.len());
            bytes[14..16].copy_from_slice(&count.to_le_bytes());
            prop_assert_eq!(Segment::parse(&bytes).err(), Some(SegmentError::Miscounted));
        }

        #[test]
        fn random_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0u8..8,
        ) {
            let _ = Segment::parse(&bytes);
            if let Some(payload_length) = bytes.len().checked_sub(HEADER_LEN) {
                bytes[0] = VERSION;
                bytes[12..14].copy_from_slice(&(payload_length as u16).to_le_bytes());
                bytes[14..16].copy_from_slice(&[count, 0]);
                if let Ok(segment) = Segment::parse(&bytes) {
                    prop_assert_eq!(segment.messages().count(), usize::from(count));
                }
            }
        }
    }

    #[test]
    fn another_version_and_overflowing_numbers_are_refused() {
        let mut stream = Stream { sequence: u64::MAX, ..stream() };
        let bytes = built(&mut stream.clone(), &[vec![1]]);
        assert_eq!(Segment::parse(&bytes).err(), Some(SegmentError::SequenceOverflow));
        stream = Stream { sequence: 1, offset: u64::MAX, ..stream };
        let mut bytes = built(&mut stream, &[vec![1]]);
        assert_eq!(Segment::parse(&bytes).err(), Some(SegmentError::SequenceOverflow));
        bytes[0] = 2;
        assert_eq!(Segment::parse(&bytes).err(), Some(SegmentError::BadVersion));
    }

    #[test]
    fn a_segment_ends_where_its_length_field_does() {
        let mut buffer = vec![0; 200_000];
        let mut stream = stream();
        let mut builder = Builder::new(&mut buffer, &mut stream).unwrap();
        while builder.push(&[0; 100]) {}
        let count = builder.count();
        let segment = Segment::parse(builder.finish(0)).unwrap();
        assert_eq!((segment.message_count(), count), (642, 642));
        assert!(Builder::new(&mut buffer[..39], &mut stream).is_none());
    }
}
