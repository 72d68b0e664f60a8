//! SoupBinTCP 3.00 (Nasdaq): numbered messages over TCP, big-endian, with login and heartbeats.
//!
//! ```text
//!  length u16 | type u8 | payload          the length counts type and payload
//! ```
//!
//! Sequenced packets carry no number: the login answer names the first, and each is one more.
//! Either side sends a heartbeat after a second of silence, and takes the other for dead after
//! about 15 s of it. [`Packets`] cuts a stream into packets, [`Packet::parse`] tells what one is;
//! neither does any input or output.

use zerocopy::{FromBytes, IntoBytes};

use super::block;
use super::layout::layout;
use super::message::MessageError;
use super::text;

/// A session's id, padded with spaces; all spaces ask for the current session.
pub type Session = [u8; 10];

/// Longest time between two packets of a side, in seconds, before it has to send a heartbeat.
pub const HEARTBEAT_INTERVAL_S: u64 = 1;
/// Silence after which the other side is taken for dead, in seconds.
pub const SILENCE_MAX_S: u64 = 15;

layout! {
    /// The server's answer to a login that it accepts.
    pub struct LoginAccepted: 31, kind b'A' {
        /// Type `A`.
        kind: u8 = 0,
        /// The session that was entered.
        session: Session = 1,
        /// Number of the next sequenced packet, right-justified digits.
        sequence: [u8; 20] = 11,
    }

    /// The server's answer to a login that it refuses, before it closes the connection.
    pub struct LoginRejected: 2, kind b'J' {
        /// Type `J`.
        kind: u8 = 0,
        /// `A` not authorised, `S` session not available.
        reason: u8 = 1,
    }

    /// The client's first packet.
    pub struct LoginRequest: 47, kind b'L' {
        /// Type `L`.
        kind: u8 = 0,
        /// User, space padded.
        user: [u8; 6] = 1,
        /// Password, space padded.
        password: [u8; 10] = 7,
        /// The session wanted; spaces for the current one.
        session: Session = 17,
        /// First sequenced packet wanted, right-justified digits; 0 for what comes next.
        sequence: [u8; 20] = 27,
    }
}

impl LoginAccepted {
    /// The answer that enters `session`, whose next packet is `next_sequence`.
    pub fn new(session: Session, next_sequence: u64) -> LoginAccepted {
        let sequence = text::right_justified(next_sequence);
        LoginAccepted { kind: Self::KIND, session, sequence }
    }

    /// Number of the next sequenced packet; `None` if the field is no number.
    pub fn next_sequence(&self) -> Option<u64> {
        text::number(&self.sequence)
    }
}

impl LoginRequest {
    /// A login that wants `session` from packet `sequence` on.
    pub fn new(user: &[u8], password: &[u8], session: Session, sequence: u64) -> LoginRequest {
        LoginRequest {
            kind: Self::KIND,
            user: text::padded(user),
            password: text::padded(password),
            session,
            sequence: text::right_justified(sequence),
        }
    }

    /// First sequenced packet wanted, 0 for what comes next; `None` if the field is no number.
    pub fn wanted_sequence(&self) -> Option<u64> {
        text::number(&self.sequence)
    }

    /// Whether the current session is wanted, whichever it is.
    pub fn wants_current_session(&self) -> bool {
        text::trimmed(&self.session).is_empty()
    }
}

/// The types of packets that are no fixed struct.
mod kind {
    pub const DEBUG: u8 = b'+';
    pub const SEQUENCED: u8 = b'S';
    pub const UNSEQUENCED: u8 = b'U';
    pub const SERVER_HEARTBEAT: u8 = b'H';
    pub const END_OF_SESSION: u8 = b'Z';
    pub const CLIENT_HEARTBEAT: u8 = b'R';
    pub const LOGOUT: u8 = b'O';
}

/// A packet of either side, borrowed from the stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `+`: text for a person.
    Debug(&'a [u8]),
    /// `A`: the server accepts the login.
    LoginAccepted(&'a LoginAccepted),
    /// `J`: the server refuses the login.
    LoginRejected(&'a LoginRejected),
    /// `S`: a message with the next sequence number.
    Sequenced(&'a [u8]),
    /// `U`: a message without number, of either side.
    Unsequenced(&'a [u8]),
    /// `H`: the server lives.
    ServerHeartbeat,
    /// `Z`: the session is over.
    EndOfSession,
    /// `L`: the client logs in.
    LoginRequest(&'a LoginRequest),
    /// `R`: the client lives.
    ClientHeartbeat,
    /// `O`: the client leaves.
    LogoutRequest,
}

impl<'a> Packet<'a> {
    /// The packet in `bytes`, which are its type and payload, as [`Packets`] gives them.
    ///
    /// # Errors
    /// [`MessageError`]: no type, an unknown one, or another length than the type has.
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, MessageError> {
        let Some((&kind, payload)) = bytes.split_first() else {
            return Err(MessageError::Empty);
        };
        let bare = |packet| match payload {
            [] => Ok(packet),
            _ => Err(MessageError::length(kind, 1, bytes.len())),
        };
        match kind {
            kind::SEQUENCED => Ok(Packet::Sequenced(payload)),
            kind::UNSEQUENCED => Ok(Packet::Unsequenced(payload)),
            kind::DEBUG => Ok(Packet::Debug(payload)),
            kind::SERVER_HEARTBEAT => bare(Packet::ServerHeartbeat),
            kind::END_OF_SESSION => bare(Packet::EndOfSession),
            kind::CLIENT_HEARTBEAT => bare(Packet::ClientHeartbeat),
            kind::LOGOUT => bare(Packet::LogoutRequest),
            LoginAccepted::KIND => fixed(bytes, kind).map(Packet::LoginAccepted),
            LoginRejected::KIND => fixed(bytes, kind).map(Packet::LoginRejected),
            LoginRequest::KIND => fixed(bytes, kind).map(Packet::LoginRequest),
            unknown => Err(MessageError::UnknownType(unknown)),
        }
    }

    /// The packet's type letter.
    pub fn kind(&self) -> u8 {
        match self {
            Packet::Debug(_) => kind::DEBUG,
            Packet::LoginAccepted(_) => LoginAccepted::KIND,
            Packet::LoginRejected(_) => LoginRejected::KIND,
            Packet::Sequenced(_) => kind::SEQUENCED,
            Packet::Unsequenced(_) => kind::UNSEQUENCED,
            Packet::ServerHeartbeat => kind::SERVER_HEARTBEAT,
            Packet::EndOfSession => kind::END_OF_SESSION,
            Packet::LoginRequest(_) => LoginRequest::KIND,
            Packet::ClientHeartbeat => kind::CLIENT_HEARTBEAT,
            Packet::LogoutRequest => kind::LOGOUT,
        }
    }

    /// What follows the type.
    fn payload(&self) -> &'a [u8] {
        let whole = match self {
            Packet::Debug(payload) | Packet::Sequenced(payload) | Packet::Unsequenced(payload) => {
                return payload;
            }
            Packet::LoginAccepted(packet) => packet.as_bytes(),
            Packet::LoginRejected(packet) => packet.as_bytes(),
            Packet::LoginRequest(packet) => packet.as_bytes(),
            Packet::ServerHeartbeat
            | Packet::EndOfSession
            | Packet::ClientHeartbeat
            | Packet::LogoutRequest => &[],
        };
        whole.get(1..).unwrap_or_default()
    }

    /// Writes the packet with its length into `buffer`, and returns the bytes written. `None`,
    /// and no change, if it does not fit the buffer or its length field.
    ///
    /// ```
    /// use wiretape_core::wire::soupbintcp::{Packet, Packets};
    ///
    /// let mut buffer = [0u8; 64];
    /// let length = Packet::Sequenced(b"message").emit(&mut buffer).unwrap();
    /// let mut packets = Packets::new(&buffer[..length]);
    /// let packet = packets.next().map(Packet::parse);
    /// assert_eq!(packet, Some(Ok(Packet::Sequenced(b"message"))));
    /// ```
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let payload = self.payload();
        let length = u16::try_from(payload.len().checked_add(1)?).ok()?;
        let (head, rest) = buffer.split_first_chunk_mut()?;
        rest.get_mut(..payload.len())?.copy_from_slice(payload);
        let [high, low] = length.to_be_bytes();
        *head = [high, low, self.kind()];
        Some(head.len() + payload.len())
    }
}

/// A packet that is one struct.
fn fixed<T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout + zerocopy::Unaligned>(
    bytes: &[u8],
    kind: u8,
) -> Result<&T, MessageError> {
    T::ref_from_bytes(bytes).map_err(|_| MessageError::length(kind, size_of::<T>(), bytes.len()))
}

/// Cuts a stream's bytes into packets: type and payload of each, for [`Packet::parse`].
///
/// A packet that does not parse does not stop the stream: its length still says where the next
/// one starts. Once the iterator has returned `None`, move [`rest`](Self::rest) to the front of
/// the buffer, read more behind it, and start over.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    /// The packets in `bytes`, which start with a length.
    pub const fn new(bytes: &'a [u8]) -> Packets<'a> {
        Packets { rest: bytes }
    }

    /// What was not given as a packet yet: nothing, or the start of one.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (packet, rest) = block::split(self.rest, u16::from_be_bytes)?;
        self.rest = rest;
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    /// What the bytes of a packet are made from.
    fn contents() -> impl Strategy<Value = (usize, Vec<u8>, u64)> {
        (0usize..10, proptest::collection::vec(any::<u8>(), 0..60), any::<u64>())
    }

    /// Calls `check` with the packet made from `contents`.
    fn with_packet<R>(
        (variant, bytes, number): &(usize, Vec<u8>, u64),
        check: impl Fn(Packet<'_>) -> R,
    ) -> R {
        let session = text::padded(bytes);
        let accepted = LoginAccepted::new(session, *number);
        let rejected = LoginRejected { kind: LoginRejected::KIND, reason: b'S' };
        let request = LoginRequest::new(b"user", b"password", session, *number);
        let packets = [
            Packet::Debug(bytes),
            Packet::LoginAccepted(&accepted),
            Packet::LoginRejected(&rejected),
            Packet::Sequenced(bytes),
            Packet::Unsequenced(bytes),
            Packet::ServerHeartbeat,
            Packet::EndOfSession,
            Packet::LoginRequest(&request),
            Packet::ClientHeartbeat,
            Packet::LogoutRequest,
        ];
        check(packets[*variant])
    }

    fn stream(contents: &[(usize, Vec<u8>, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for content in contents {
            let written = with_packet(content, |packet| {
                let mut buffer = [0xee; 100];
                let length = packet.emit(&mut buffer).unwrap();
                assert_eq!(packet.emit(&mut vec![0; length - 1]), None);
                buffer[..length].to_vec()
            });
            bytes.extend(written);
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            contents in proptest::collection::vec(contents(), 0..20), size in 1usize..100,
        ) {
            let bytes = stream(&contents);
            let mut expected = contents.iter();
            let mut buffer = Vec::new();
            for piece in bytes.chunks(size) {
                buffer.extend(piece);
                let mut packets = Packets::new(&buffer);
                for packet in packets.by_ref() {
                    let content = expected.next().unwrap();
                    with_packet(content, |written| {
                        assert_eq!(Packet::parse(packet), Ok(written));
                        assert_eq!(packet[0], written.kind());
                    });
                }
                buffer = packets.rest().to_vec();
            }
            prop_assert!(expected.next().is_none() && buffer.is_empty());
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::parse(&bytes);
            let mut packets = Packets::new(&bytes);
            let taken: usize = packets.by_ref().map(|packet| 2 + packet.len()).sum();
            prop_assert_eq!(taken + packets.rest().len(), bytes.len());
        }

        #[test]
        fn a_login_keeps_its_number(number: u64) {
            let session = *b"      0001";
            prop_assert_eq!(LoginAccepted::new(session, number).next_sequence(), Some(number));
            let request = LoginRequest::new(b"u", b"p", session, number);
            prop_assert_eq!(request.wanted_sequence(), Some(number));
            prop_assert!(!request.wants_current_session());
        }
    }

    #[test]
    fn the_bytes_are_the_specifications() {
        let mut buffer = [0; 64];
        let request = LoginRequest::new(b"user", b"pass", [b' '; 10], 1);
        assert!(request.wants_current_session());
        let length = Packet::LoginRequest(&request).emit(&mut buffer).unwrap();
        let session_and_number = [[b' '; 10].as_slice(), &[b' '; 19], b"1"].concat();
        let expected = [b"\0\x2fLuser  pass      ".as_slice(), &session_and_number].concat();
        assert_eq!(&buffer[..length], expected);
        let length = Packet::ServerHeartbeat.emit(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"\0\x01H");
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert_eq!(Packet::parse(b""), Err(MessageError::Empty));
        assert_eq!(Packet::parse(b"x"), Err(MessageError::UnknownType(b'x')));
        let error = MessageError::Length { kind: b'H', expected: 1, found: 2 };
        assert_eq!(Packet::parse(b"H "), Err(error));
        let error = MessageError::Length { kind: b'A', expected: 31, found: 4 };
        assert_eq!(Packet::parse(b"Aabc"), Err(error));
        let mut blank = LoginAccepted::new([b' '; 10], 0);
        blank.sequence = [b' '; 20];
        assert_eq!(blank.next_sequence(), None);
    }

    #[test]
    fn a_payload_longer_than_its_length_field_is_refused() {
        let (long, mut buffer) = (vec![0; 65_535], vec![0; 70_000]);
        assert_eq!(Packet::Sequenced(&long).emit(&mut buffer), None);
        assert_eq!(Packet::Sequenced(&long[1..]).emit(&mut buffer), Some(65_537));
    }
}
