//! Nasdaq GLIMPSE 5.0: the state of a market as ITCH 5.0 messages, for who joins during the day.
//!
//! It comes over SoupBinTCP, one message a sequenced packet: directory and states of the stocks,
//! then an add for every order that rests, the earlier first, and at the end
//! [`EndOfSnapshot`]: the number of the live feed's message with which to go on.

use zerocopy::FromBytes;

use super::layout::layout;
use super::text;

layout! {
    /// The last message of a snapshot.
    pub struct EndOfSnapshot: 21, kind b'G' {
        /// Type `G`.
        kind: u8 = 0,
        /// Number of the live feed's next message, right-justified digits.
        sequence: [u8; 20] = 1,
    }
}

impl EndOfSnapshot {
    /// The end of a snapshot that holds everything before message `sequence` of the live feed.
    pub fn new(sequence: u64) -> EndOfSnapshot {
        EndOfSnapshot { kind: Self::KIND, sequence: text::right_justified(sequence) }
    }

    /// The end of a snapshot, if `message` is one: any other message is ITCH's.
    pub fn parse(message: &[u8]) -> Option<&EndOfSnapshot> {
        EndOfSnapshot::ref_from_bytes(message).ok().filter(|end| end.kind == Self::KIND)
    }

    /// Number of the live feed's next message; `None` if the field is no number.
    pub fn next_sequence(&self) -> Option<u64> {
        // Some servers pad on the right.
        text::number(text::trimmed(&self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn the_end_names_the_next_message_however_it_is_padded() {
        let end = EndOfSnapshot::new(1_234);
        assert_eq!(end.as_bytes(), b"G                1234");
        let read = |bytes: &[u8]| EndOfSnapshot::parse(bytes).map(EndOfSnapshot::next_sequence);
        assert_eq!(read(end.as_bytes()), Some(Some(1_234)));
        assert_eq!(read(b"G1234                "), Some(Some(1_234)));
        assert_eq!(read(b"G00000000000000001234"), Some(Some(1_234)));
        assert_eq!(read(b"G                    "), Some(None));
        assert_eq!(read(b"G                12x4"), Some(None));
        assert_eq!(read(b"G                1234 "), None);
        assert_eq!(read(b"H                1234"), None);
    }
}
