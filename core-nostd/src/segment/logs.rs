//! The worker's log: defmt frames in a broadcast ring of their own.
//!
//! A frame is what `defmt` encodes: the number of a format string, then the arguments as they lie
//! in memory. Nothing is formatted where it is written; a reader finds the strings in the program
//! that wrote the segment. A frame of up to [`FRAME_BYTES`] bytes fits a ring slot:
//!
//! ```text
//!  time (UTC ns) │ length │ bytes of the frame
//!       8        │   1    │      up to 47
//! ```

use super::writer::part_of;
use crate::event::Event;
use crate::ring::broadcast::{Lapped, Reader, Ring, SLOT_WORDS, Writer};
use crate::sync::{AtomicU64, Ordering};

/// Frames that the ring holds.
pub const LOG_SLOTS: usize = 1024;
/// Longest frame.
pub const FRAME_BYTES: usize = 47;
/// Words in front of the slots; the head has a pair of lines for itself.
const HEADER: usize = 64;
/// Words of the region.
pub const LOG_WORDS: usize = HEADER + LOG_SLOTS * SLOT_WORDS;

const AT_LOAD_ADDRESS: usize = 0;
const AT_PROGRAM_BYTES: usize = 1;
const AT_PROGRAM_MODIFIED: usize = 2;
const AT_HEAD: usize = 32;

/// The program that wrote the frames: where their strings are to be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogProgram {
    /// Address at which its ELF header lay in memory.
    pub load_address: u64,
    /// Length of its file in bytes; 0 if it could not be had.
    pub bytes: u64,
    /// When the file was changed last, UTC nanoseconds.
    pub modified_ns: u64,
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFrame {
    /// When it was written, UTC nanoseconds.
    pub ts: u64,
    bytes: [u8; FRAME_BYTES],
    len: u8,
}

impl LogFrame {
    /// A frame of `bytes`; `None` if they do not fit.
    pub fn new(ts: u64, bytes: &[u8]) -> Option<LogFrame> {
        let mut frame = LogFrame { ts, bytes: [0; FRAME_BYTES], len: bytes.len() as u8 };
        frame.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(frame)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    fn to_event(self) -> Event {
        let mut words = [self.ts, 0, 0, 0, 0, 0, 0];
        let tail: [u8; 48] = core::array::from_fn(|i| match i.checked_sub(1) {
            None => self.len,
            Some(at) => self.bytes.get(at).copied().unwrap_or(0),
        });
        let (chunks, _) = tail.as_chunks::<8>();
        for (word, chunk) in words.iter_mut().skip(1).zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        Event { words }
    }

    fn from_event(event: &Event) -> LogFrame {
        let [ts, tail @ ..] = event.words;
        let mut bytes = tail.iter().flat_map(|word| word.to_le_bytes());
        let len = bytes.next().unwrap_or(0).min(FRAME_BYTES as u8);
        LogFrame { ts, bytes: core::array::from_fn(|_| bytes.next().unwrap_or(0)), len }
    }
}

fn ring(words: &[AtomicU64]) -> Option<Ring<'_>> {
    let (slots, _) = part_of(words, HEADER, LOG_SLOTS * SLOT_WORDS).as_chunks();
    Ring::new(slots, words.get(AT_HEAD)?).ok()
}

/// The writing end; one per segment.
#[derive(Debug)]
pub struct LogWriter<'m> {
    writer: Writer<'m>,
    words: &'m [AtomicU64],
}

impl<'m> LogWriter<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Option<LogWriter<'m>> {
        Some(LogWriter { writer: ring(words)?.writer(), words })
    }

    /// Tells where the strings are.
    pub fn set_program(&self, program: &LogProgram) {
        let LogProgram { load_address, bytes, modified_ns } = *program;
        let values = [
            (AT_LOAD_ADDRESS, load_address),
            (AT_PROGRAM_BYTES, bytes),
            (AT_PROGRAM_MODIFIED, modified_ns),
        ];
        for (at, value) in values {
            if let Some(word) = self.words.get(at) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Publishes a frame, for readers at once.
    pub fn publish(&mut self, frame: &LogFrame) {
        self.writer.publish(&frame.to_event());
        self.writer.commit();
    }
}

/// The reading end.
#[derive(Clone, Debug)]
pub struct LogReader<'m> {
    reader: Reader<'m>,
    words: &'m [AtomicU64],
}

impl<'m> LogReader<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Option<LogReader<'m>> {
        Some(LogReader { reader: ring(words)?.reader_from_oldest(), words })
    }

    /// The same, from sequence `sequence` on.
    pub fn from_sequence(self, sequence: u64) -> LogReader<'m> {
        LogReader { reader: self.reader.ring().reader_from(sequence), ..self }
    }

    /// The sequence that the next read returns.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Where the strings are.
    pub fn program(&self) -> LogProgram {
        let load = |at: usize| self.words.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        LogProgram {
            load_address: load(AT_LOAD_ADDRESS),
            bytes: load(AT_PROGRAM_BYTES),
            modified_ns: load(AT_PROGRAM_MODIFIED),
        }
    }

    /// The next frame, `None` if there is none yet.
    ///
    /// # Errors
    /// Frames were overwritten before they were read.
    pub fn read(&mut self) -> Result<Option<LogFrame>, Lapped> {
        Ok(self.reader.next_event()?.map(|(_, event)| LogFrame::from_event(&event)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_was(
            ts: u64,
            bytes in prop::collection::vec(any::<u8>(), 0..=FRAME_BYTES),
        ) {
            let frame = LogFrame::new(ts, &bytes).unwrap();
            prop_assert_eq!(frame.bytes(), &bytes[..]);
            prop_assert_eq!(LogFrame::from_event(&frame.to_event()), frame);
        }

        #[test]
        fn noise_is_a_frame_of_some_length(words: [u64; 7]) {
            let frame = LogFrame::from_event(&Event { words });
            prop_assert!(frame.bytes().len() <= FRAME_BYTES);
        }
    }

    #[test]
    fn frames_are_read_in_order_and_losses_told() {
        let words: Vec<AtomicU64> = (0..LOG_WORDS).map(|_| AtomicU64::new(0)).collect();
        let mut writer = LogWriter::new(&words).unwrap();
        let mut reader = LogReader::new(&words).unwrap();
        let program = LogProgram { load_address: 1, bytes: 2, modified_ns: 3 };
        writer.set_program(&program);
        assert_eq!((reader.program(), reader.read()), (program, Ok(None)));
        let frame = |n: u64| LogFrame::new(n, &n.to_le_bytes()).unwrap();
        writer.publish(&frame(1));
        assert_eq!(reader.read(), Ok(Some(frame(1))));
        (2..2_000).for_each(|n| writer.publish(&frame(n)));
        let lost = reader.read().unwrap_err();
        assert_eq!(lost.first, 2);
        assert_eq!(reader.read(), Ok(Some(frame(lost.end))));
        assert_eq!(reader.position(), lost.end + 1);
        assert!(LogFrame::new(0, &[0; FRAME_BYTES + 1]).is_none());
        assert!(LogReader::new(&words[..10]).is_none());
    }
}
