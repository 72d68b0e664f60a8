//! Nasdaq BinaryFILE: the framing of the day files (`*.NASDAQ_ITCH50`).
//!
//! A message follows its length (u16, big-endian), and so on. A length of 0 ends the file; some
//! files simply end. There is no sequence number: the n-th message is number n of its day.

use super::block;
use crate::prefetch::expect_read;

/// Bytes ahead at which lines are asked for. Where the next message stands is known from its length
/// only, so that the walk waits for each line: 5.7 ns a message of a day in memory without, 3.3 with.
const AHEAD: usize = 2048;

/// How a piece of a file ends, once [`BinaryFile`] gives no more messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Behind a whole message: the end of the file, or of the piece.
    Whole,
    /// At a length of 0, which ends the file. Bytes behind it, if any, are not messages.
    Marked,
    /// Inside a message: more bytes are needed, or the file was cut.
    Inside {
        /// Bytes that the message and its length field take, as far as known.
        needed: usize,
        /// Bytes of them that are there.
        found: usize,
    },
}

/// The messages in a piece of a day file, which may be all of it.
///
/// To read a file in pieces, move [`rest`](Self::rest) to the front of the buffer, fill up
/// behind it, and start over, until [`ending`](Self::ending) is [`Ending::Marked`] or the file
/// ends.
///
/// ```
/// use wiretape_core::wire::binaryfile::{BinaryFile, Ending};
///
/// let mut file = BinaryFile::new(b"\x00\x03one\x00\x03two\x00\x05thr");
/// assert!(file.by_ref().eq([&b"one"[..], b"two"]));
/// assert_eq!(file.ending(), Ending::Inside { needed: 7, found: 5 });
/// assert_eq!(file.rest(), b"\x00\x05thr");
/// ```
#[derive(Clone, Debug)]
pub struct BinaryFile<'a> {
    rest: &'a [u8],
}

impl<'a> BinaryFile<'a> {
    /// The messages in `bytes`, which start with a length.
    pub const fn new(bytes: &'a [u8]) -> BinaryFile<'a> {
        BinaryFile { rest: bytes }
    }

    /// What was not given as a message yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How the piece ends. Final once the iterator has returned `None`; before, it says where
    /// the next message stands.
    pub fn ending(&self) -> Ending {
        let found = self.rest.len();
        match self.rest {
            [] => Ending::Whole,
            [_] => Ending::Inside { needed: 2, found },
            [0, 0, ..] => Ending::Marked,
            [high, low, ..] => {
                let needed = 2 + usize::from(u16::from_be_bytes([*high, *low]));
                if needed > found { Ending::Inside { needed, found } } else { Ending::Whole }
            }
        }
    }
}

impl<'a> Iterator for BinaryFile<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        expect_read(self.rest.as_ptr().wrapping_add(AHEAD));
        match block::split(self.rest, u16::from_be_bytes)? {
            ([], _) => None,
            (message, rest) => {
                self.rest = rest;
                Some(message)
            }
        }
    }
}

/// Writes a message with its length in front into `buffer`, and returns the bytes written.
/// `None`, and no change, if the message is empty (that would end the file), longer than its
/// length field holds, or does not fit.
pub fn frame(message: &[u8], buffer: &mut [u8]) -> Option<usize> {
    if message.is_empty() {
        return None;
    }
    block::put(buffer, 0, message, u16::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 0..40)
    }

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; messages.iter().map(|m| 2 + m.len()).sum()];
        let mut at = 0;
        for message in messages {
            at += frame(message, &mut bytes[at..]).unwrap();
        }
        assert_eq!(at, bytes.len());
        bytes
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read(messages in messages(), marked: bool) {
            let mut bytes = framed(&messages);
            if marked {
                bytes.extend([0, 0]);
            }
            let mut file = BinaryFile::new(&bytes);
            prop_assert!(file.by_ref().eq(messages.iter().map(|m| &m[..])));
            prop_assert_eq!(file.ending(), if marked { Ending::Marked } else { Ending::Whole });
        }

        #[test]
        fn pieces_of_any_size_give_the_same_messages(messages in messages(), size in 1usize..100) {
            let bytes = framed(&messages);
            let (mut buffer, mut read) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                buffer.extend(piece);
                let mut file = BinaryFile::new(&buffer);
                read.extend(file.by_ref().map(<[u8]>::to_vec));
                buffer = file.rest().to_vec();
            }
            prop_assert_eq!(read, messages);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn a_cut_file_gives_the_whole_messages_and_says_so(messages in messages(), cut: usize) {
            let bytes = framed(&messages);
            let cut = cut % (bytes.len() + 1);
            let mut file = BinaryFile::new(&bytes[..cut]);
            let whole = file.by_ref().count();
            let start = messages[..whole].iter().map(|m| 2 + m.len()).sum::<usize>();
            if start == cut {
                prop_assert_eq!(file.ending(), Ending::Whole);
            } else {
                let found = cut - start;
                let needed = if found == 1 { 2 } else { 2 + messages[whole].len() };
                prop_assert_eq!(file.ending(), Ending::Inside { needed, found });
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = BinaryFile::new(&bytes);
            let taken: usize = file.by_ref().map(|m| 2 + m.len()).sum();
            prop_assert_eq!(taken + file.rest().len(), bytes.len());
            let _ = file.ending();
        }
    }

    #[test]
    fn what_cannot_be_framed_is_refused() {
        let mut buffer = vec![7; 70_000];
        assert_eq!(frame(b"", &mut buffer), None);
        assert_eq!(frame(&[0; 65_536], &mut buffer), None);
        assert_eq!(frame(b"abc", &mut buffer[..4]), None);
        assert_eq!(buffer[..5], [7; 5]);
        assert_eq!(frame(&[0; 65_535], &mut buffer), Some(65_537));
    }
}
