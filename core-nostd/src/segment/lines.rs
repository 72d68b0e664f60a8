//! A line's block in the segment: where it comes from, its counters, and how late it is.

use super::counters::counters;
use super::layout::LINE_WORDS;
use crate::histogram::{Histogram, HistogramSnapshot};
use crate::sync::{AtomicU64, Ordering};

/// Lines of a feed: A, B, and what re-request servers send.
pub const LINES: usize = 3;
/// Index of the line that carries what re-request servers send.
pub const RECOVERY_LINE: usize = 2;

const ADDRESS: usize = 0;
const COUNTERS: usize = 8;
/// Words before the histogram.
pub(super) const LINE_HEADER_WORDS: usize = 40;

const _: () = assert!(COUNTERS + LineCounter::COUNT <= LINE_HEADER_WORDS);

counters! {
    /// Counters of a line. What re-request servers send comes in any order, and only as asked for: there
    /// nothing is skipped, filled or a duplicate, and nothing comes next.
    LineCounter {
        Packets "packets" "Well-formed packets that came on the line.",
        Malformed "malformed" "Packets that came besides and were malformed: nothing in them was used.",
        Messages "messages" "Messages in the well-formed, without those the line had brought before.",
        Taken "taken" "Messages that were taken from this line: the first copy to come in its turn.",
        Skipped "skipped" "Messages that were missing on the line when later ones came.",
        Filled "filled" "Of the skipped, messages that came after all, out of order.",
        Duplicates "duplicates" "Messages that the line had brought before.",
        LastPacketNs "last_packet_ns" "Receive time of its latest packet, UTC nanoseconds.",
        NextSeq "next_seq" "The number that it is to bring next.",
        Stale "stale" "Messages that a re-request server brought when their session was over: not used.",
    }
}

/// Reads a line's block.
#[derive(Clone, Copy, Debug)]
pub struct LineView<'m> {
    words: &'m [AtomicU64; LINE_WORDS],
}

impl<'m> LineView<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Option<Self> {
        Some(LineView { words: words.first_chunk()? })
    }

    #[inline]
    fn get(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Group (or unicast address) and port; `None` if the feed has no such line, or no other: one
    /// line alone is its feed, whose counters say all that there is to say.
    pub fn address(&self) -> Option<([u8; 4], u16)> {
        let word = self.get(ADDRESS);
        (word != 0).then_some(((word as u32).to_le_bytes(), (word >> 32) as u16))
    }

    /// The value of a counter.
    pub fn counter(&self, counter: LineCounter) -> u64 {
        self.get(COUNTERS + counter as usize)
    }

    /// Messages that the line did not bring, those before its first packet left aside.
    pub fn lost(&self) -> u64 {
        // The two are read one after the other while the writer goes on.
        self.counter(LineCounter::Skipped).saturating_sub(self.counter(LineCounter::Filled))
    }

    /// By how many nanoseconds the line's copy of a packet came after the other line's.
    pub fn lateness(&self) -> Option<HistogramSnapshot> {
        HistogramSnapshot::take(self.words.get(LINE_HEADER_WORDS..)?)
    }
}

/// Writes a line's block. Single writer.
#[derive(Clone, Copy, Debug)]
pub struct LineWriter<'m> {
    view: LineView<'m>,
}

impl<'m> LineWriter<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Option<Self> {
        Some(LineWriter { view: LineView::new(words)? })
    }

    /// The same block, to read.
    pub fn view(&self) -> LineView<'m> {
        self.view
    }

    #[inline]
    fn word(&self, counter: LineCounter) -> Option<&'m AtomicU64> {
        self.view.words.get(COUNTERS + counter as usize)
    }

    /// Says where the line comes from, before the feed is announced. Port 0: from no group, but it is
    /// there.
    pub fn set_address(&self, address: [u8; 4], port: u16) {
        let word = u64::from(u32::from_le_bytes(address)) | u64::from(port) << 32;
        if let Some(to) = self.view.words.get(ADDRESS) {
            to.store(word, Ordering::Relaxed);
        }
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, counter: LineCounter, amount: u64) {
        if let Some(word) = self.word(counter) {
            word.store(word.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    }

    /// Sets a counter that states a value.
    #[inline]
    pub fn set(&self, counter: LineCounter, value: u64) {
        if let Some(word) = self.word(counter) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// The writer of [`LineView::lateness`]. One at a time.
    pub fn lateness(&self) -> Option<Histogram<'m>> {
        Histogram::attach(self.view.words.get(LINE_HEADER_WORDS..)?)
    }
}
