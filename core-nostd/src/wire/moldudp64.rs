//! MoldUDP64 (Nasdaq, version 1.00): numbered messages in UDP packets, big-endian.
//!
//! ```text
//!  session 10 | sequence of the first message u64 | count u16 | count × { length u16 | message }
//! ```
//!
//! Sequence numbers start at 1 in each session. A count of 0 is a heartbeat, and 0xFFFF the end
//! of the session; both name the next number to come. A lost packet is asked for with a
//! [`Request`], and the answer is an ordinary packet.

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::block;
use super::layout::layout;
use super::reason::reasons;

/// Bytes of a packet's header.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Bytes in front of each message: its length.
pub const BLOCK_HEADER_LEN: usize = 2;
/// The count of a heartbeat.
pub const COUNT_HEARTBEAT: u16 = 0;
/// The count that ends a session.
pub const COUNT_END_OF_SESSION: u16 = 0xffff;
/// Most messages that a packet can carry: one more would say that the session ended.
pub const COUNT_MAX: u16 = COUNT_END_OF_SESSION - 1;

/// A session's id: ten characters, space padded.
pub type Session = [u8; 10];

layout! {
    /// What every downstream packet starts with.
    pub struct Header: 20 {
        /// The session.
        session: Session = 0,
        /// Sequence number of the first message, or of the next to come.
        sequence: U64 = 10,
        /// Messages in this packet, [`COUNT_HEARTBEAT`] or [`COUNT_END_OF_SESSION`].
        count: U16 = 18,
    }

    /// Asks the re-request server for messages. The answer holds as many as fit a packet, so
    /// that a client asks again for the rest.
    pub struct Request: 20 {
        /// The session.
        session: Session = 0,
        /// First message wanted.
        sequence: U64 = 10,
        /// How many are wanted.
        count: U16 = 18,
    }
}

reasons! {
    /// Why bytes are not a MoldUDP64 packet.
    pub enum MoldError {
        /// The packet ends before its own header and message lengths say it does.
        Truncated = "truncated": "packet is shorter than its headers say",
        /// Bytes follow the last message.
        Oversized = "oversized": "packet is longer than its headers say",
        /// The sequence numbers of the messages pass the largest number.
        SequenceOverflow = "sequence_overflow": "sequence numbers of the packet overflow",
    }
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// It carries messages.
    Data,
    /// Nothing was sent for a while; the sequence number is the next to come.
    Heartbeat,
    /// The session is over; the sequence number is one after the last.
    EndOfSession,
}

/// A downstream packet that was checked as a whole.
///
/// Having one tells you that every message of it is there: `count` blocks fill the packet
/// exactly, and its sequence numbers do not overflow.
///
/// ```
/// use wiretape_core::wire::moldudp64::{Builder, MoldError, Packet, PacketKind};
///
/// let mut buffer = [0; 64];
/// let mut builder = Builder::new(&mut buffer, *b"SESSION001", 7).expect("room for a header");
/// assert!(builder.push(b"one") && builder.push(b"two"));
/// let bytes = builder.finish();
/// let packet = Packet::parse(bytes).unwrap();
/// assert_eq!((packet.kind(), packet.sequence(), packet.next_sequence()), (PacketKind::Data, 7, 9));
/// assert!(packet.messages().eq([&b"one"[..], b"two"]));
/// assert_eq!(Packet::parse(&bytes[..20]).err(), Some(MoldError::Truncated));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a Header,
    blocks: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet in a datagram's payload.
    ///
    /// # Errors
    /// [`MoldError`]; no message of a packet in error is to be used.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Packet<'a>, MoldError> {
        let (header, blocks) =
            Header::ref_from_prefix(payload).map_err(|_| MoldError::Truncated)?;
        let packet = Packet { header, blocks };
        let rest = block::skip(blocks, packet.count(), u16::from_be_bytes);
        let rest = rest.ok_or(MoldError::Truncated)?;
        if !rest.is_empty() {
            return Err(MoldError::Oversized);
        }
        match header.sequence.get().checked_add(u64::from(packet.count())) {
            Some(_) => Ok(packet),
            None => Err(MoldError::SequenceOverflow),
        }
    }

    /// The session.
    #[inline]
    pub fn session(&self) -> &'a Session {
        &self.header.session
    }

    /// Sequence number of the first message; in a packet without messages, of the next to come.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.header.sequence.get()
    }

    /// What the packet is for.
    #[inline]
    pub fn kind(&self) -> PacketKind {
        match self.header.count.get() {
            COUNT_HEARTBEAT => PacketKind::Heartbeat,
            COUNT_END_OF_SESSION => PacketKind::EndOfSession,
            _ => PacketKind::Data,
        }
    }

    /// How many messages the packet carries; 0 for a heartbeat and at the end of a session.
    #[inline]
    pub fn count(&self) -> u16 {
        match self.header.count.get() {
            COUNT_END_OF_SESSION => 0,
            count => count,
        }
    }

    /// Sequence number of the first message after this packet.
    #[inline]
    pub fn next_sequence(&self) -> u64 {
        // Checked when the packet was parsed: the sum does not wrap.
        self.sequence().wrapping_add(u64::from(self.count()))
    }

    /// The messages, in order of their sequence numbers. A message may be empty.
    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages { blocks: self.blocks }
    }
}

/// The messages of a [`Packet`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    blocks: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        // The packet was checked: blocks fill it exactly, so that it ends where they do.
        let (message, rest) = block::split(self.blocks, u16::from_be_bytes)?;
        self.blocks = rest;
        Some(message)
    }
}

impl Request {
    /// The request in a datagram's payload, which must be exactly it.
    ///
    /// # Errors
    /// [`MoldError`]: another length, or sequence numbers that overflow.
    pub fn parse(payload: &[u8]) -> Result<&Request, MoldError> {
        let request = Request::ref_from_bytes(payload).map_err(|_| {
            if payload.len() < size_of::<Request>() {
                MoldError::Truncated
            } else {
                MoldError::Oversized
            }
        })?;
        match request.sequence.get().checked_add(u64::from(request.count.get())) {
            Some(_) => Ok(request),
            None => Err(MoldError::SequenceOverflow),
        }
    }
}

impl Header {
    /// The whole of a heartbeat: `next_sequence` is the next to come.
    pub fn heartbeat(session: Session, next_sequence: u64) -> Header {
        Header { session, sequence: U64::new(next_sequence), count: U16::new(COUNT_HEARTBEAT) }
    }

    /// The whole of a packet that ends the session: `next_sequence` is one after the last.
    pub fn end_of_session(session: Session, next_sequence: u64) -> Header {
        let count = U16::new(COUNT_END_OF_SESSION);
        Header { session, sequence: U64::new(next_sequence), count }
    }
}

/// Packs messages into a packet. The length of the buffer is the limit of the packet.
///
/// ```
/// use wiretape_core::wire::moldudp64::{Builder, Packet};
///
/// let mut buffer = [0u8; 1400];
/// let mut builder = Builder::new(&mut buffer, *b"000010059B", 42).unwrap();
/// assert!(builder.push(b"first"));
/// assert!(builder.push(b"second"));
/// let packet = Packet::parse(builder.finish()).unwrap();
/// assert_eq!((packet.sequence(), packet.next_sequence()), (42, 44));
/// assert!(packet.messages().eq([&b"first"[..], b"second"]));
/// ```
#[derive(Debug)]
pub struct Builder<'b> {
    buffer: &'b mut [u8],
    header: Header,
    length: usize,
}

impl<'b> Builder<'b> {
    /// A packet without messages yet; as such, a heartbeat. `None` if the buffer does not hold
    /// a header.
    pub fn new(buffer: &'b mut [u8], session: Session, sequence: u64) -> Option<Builder<'b>> {
        let header = Header::heartbeat(session, sequence);
        (buffer.len() >= HEADER_LEN).then_some(Builder { buffer, header, length: HEADER_LEN })
    }

    /// Appends a message. False, and no change, if it does not fit: the packet is full.
    #[must_use]
    pub fn push(&mut self, message: &[u8]) -> bool {
        let count = self.header.count.get();
        if count >= COUNT_MAX {
            return false;
        }
        match block::put(self.buffer, self.length, message, u16::to_be_bytes) {
            Some(length) => {
                self.length = length;
                self.header.count = U16::new(count + 1);
                true
            }
            None => false,
        }
    }

    /// How many messages were packed.
    pub fn count(&self) -> u16 {
        self.header.count.get()
    }

    /// Writes the header and returns the packet.
    pub fn finish(self) -> &'b [u8] {
        let Builder { buffer, header, length } = self;
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

    fn built(session: Session, sequence: u64, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut buffer = vec![0xee; 4096];
        let mut builder = Builder::new(&mut buffer, session, sequence).unwrap();
        for message in messages {
            assert!(builder.push(message));
        }
        builder.finish().to_vec()
    }

    proptest! {
        #[test]
        fn what_is_built_is_parsed(
            session: Session, sequence in 0..u64::MAX - 40, messages in messages(),
        ) {
            let bytes = built(session, sequence, &messages);
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.session(), &session);
            prop_assert_eq!(packet.sequence(), sequence);
            prop_assert_eq!(usize::from(packet.count()), messages.len());
            prop_assert_eq!(packet.next_sequence(), sequence + messages.len() as u64);
            prop_assert_eq!(packet.kind() == PacketKind::Heartbeat, messages.is_empty());
            prop_assert!(packet.messages().eq(messages.iter().map(|m| &m[..])));
        }

        #[test]
        fn a_cut_packet_is_truncated(messages in messages(), cut: usize) {
            let bytes = built(*b"SESSION   ", 1, &messages);
            let cut = cut % bytes.len();
            prop_assert_eq!(Packet::parse(&bytes[..cut]).err(), Some(MoldError::Truncated));
        }

        #[test]
        fn bytes_behind_the_last_message_are_refused(
            messages in messages(), rest in proptest::collection::vec(any::<u8>(), 1..9),
        ) {
            let mut bytes = built(*b"SESSION   ", 1, &messages);
            bytes.extend(rest);
            prop_assert_eq!(Packet::parse(&bytes).err(), Some(MoldError::Oversized));
        }

        #[test]
        fn random_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0u8..8,
        ) {
            for small_count in [false, true] {
                if small_count && bytes.len() >= 20 {
                    bytes[18..20].copy_from_slice(&[0, count]);
                }
                if let Ok(packet) = Packet::parse(&bytes) {
                    prop_assert_eq!(packet.messages().count(), usize::from(packet.count()));
                }
                let _ = Request::parse(&bytes);
            }
        }

        #[test]
        fn a_full_packet_takes_no_more(limit in 20usize..200, messages in messages()) {
            let mut buffer = vec![0; limit];
            let mut builder = Builder::new(&mut buffer, [b'x'; 10], 1).unwrap();
            let taken = messages.iter().take_while(|message| builder.push(message)).count();
            let bytes = builder.finish();
            let packet = Packet::parse(bytes).unwrap();
            prop_assert_eq!(usize::from(packet.count()), taken);
            if let Some(refused) = messages.get(taken) {
                prop_assert!(bytes.len() + BLOCK_HEADER_LEN + refused.len() > limit);
            }
        }

        #[test]
        fn a_request_is_its_twenty_bytes(session: Session, sequence: u64, count: u16) {
            let request =
                Request { session, sequence: sequence.into(), count: count.into() };
            match Request::parse(request.as_bytes()) {
                Ok(read) => prop_assert_eq!(read, &request),
                Err(error) => {
                    prop_assert_eq!(error, MoldError::SequenceOverflow);
                    prop_assert!(sequence.checked_add(count.into()).is_none());
                }
            }
        }
    }

    #[test]
    fn heartbeat_and_end_name_the_next_number() {
        let heartbeat = Header::heartbeat(*b"000010059B", 77);
        let packet = Packet::parse(heartbeat.as_bytes()).unwrap();
        assert_eq!((packet.kind(), packet.next_sequence()), (PacketKind::Heartbeat, 77));
        let end = Header::end_of_session(*b"000010059B", u64::MAX);
        let packet = Packet::parse(end.as_bytes()).unwrap();
        assert_eq!((packet.kind(), packet.count()), (PacketKind::EndOfSession, 0));
        assert_eq!(packet.next_sequence(), u64::MAX);
        assert_eq!(packet.messages().next(), None);
        let long = [end.as_bytes(), &[0, 0]].concat();
        assert_eq!(Packet::parse(&long).err(), Some(MoldError::Oversized));
    }

    #[test]
    fn the_largest_number_is_not_passed() {
        let bytes = built([b' '; 10], u64::MAX, &[vec![1]]);
        assert_eq!(Packet::parse(&bytes).err(), Some(MoldError::SequenceOverflow));
        let bytes = built([b' '; 10], u64::MAX - 1, &[vec![1]]);
        assert_eq!(Packet::parse(&bytes).unwrap().next_sequence(), u64::MAX);
    }

    #[test]
    fn a_count_can_never_become_the_end_of_the_session() {
        let mut buffer = vec![0; HEADER_LEN + 3 * 65_536];
        let mut builder = Builder::new(&mut buffer, [b' '; 10], 1).unwrap();
        while builder.push(b"") {}
        assert_eq!(builder.count(), COUNT_MAX);
        let packet = Packet::parse(builder.finish()).unwrap();
        assert_eq!((packet.kind(), packet.count()), (PacketKind::Data, COUNT_MAX));
    }

    #[test]
    fn a_message_longer_than_its_length_field_is_refused() {
        let mut buffer = vec![0; 100_000];
        let mut builder = Builder::new(&mut buffer, [b' '; 10], 1).unwrap();
        assert!(!builder.push(&vec![0; 65_536]));
        assert!(builder.push(&vec![0; 65_535]));
    }
}
