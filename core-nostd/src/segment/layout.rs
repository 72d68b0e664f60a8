//! Where everything lies in a segment.

use super::counters::Counter;
use super::depth::DEPTH_WORDS;
use super::feeds::FEED_WORDS;
use super::lines::{LINE_HEADER_WORDS, LINES};
use super::logs::LOG_WORDS;
use super::market::MARKET_WORDS;
use super::queues::{MAX_QUEUES, QUEUE_WORDS};
use super::symbols::SYMBOL_WORDS;
use crate::histogram::Histogram;
use crate::ring::broadcast::SLOT_WORDS;

/// First word of every segment: `WIRETAPE` in ASCII.
pub const MAGIC: u64 = u64::from_le_bytes(*b"WIRETAPE");
/// Version of the layout. Another version is another format: attach refuses it.
pub const VERSION: u32 = 7;
/// Words of the header (4 KiB).
pub const HEADER_WORDS: usize = 512;
/// Feeds that one worker can carry.
pub const MAX_FEEDS: usize = 16;
/// Words of a line's block: counters, then the histogram of its lateness.
pub const LINE_WORDS: usize = LINE_HEADER_WORDS + Histogram::WORDS;
/// Words of the counter region.
pub(super) const COUNTER_WORDS: usize = 128;
/// Latency histograms in the segment: packet received to event published.
pub(super) const HISTOGRAMS: usize = 1;
/// Regions start on a page, so that a reader can map or advise one alone.
const REGION_ALIGN_WORDS: usize = 512;
/// No segment is larger than this (1 TiB), so that sums of region lengths cannot overflow.
const MAX_WORDS: usize = 1 << 37;

const _: () = assert!(Counter::COUNT <= COUNTER_WORDS);

/// What a segment must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpec<'a> {
    /// Name of the worker, at most 32 bytes of it are kept.
    pub worker: &'a str,
    /// Epoch: a number that differs at each start, UTC nanoseconds of the start by convention.
    pub epoch: u64,
    /// Process id of the writer.
    pub pid: u32,
    /// Slots of the event ring, a power of two.
    pub event_slots: usize,
    /// Instruments in the market table and the symbol directory.
    pub instruments: usize,
    /// Feeds that there is room for, at most [`MAX_FEEDS`].
    pub feeds: usize,
    /// Instruments with ten levels of depth and features.
    pub depths: usize,
}

/// A part of the segment, in words from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First word.
    pub offset: usize,
    /// Number of words.
    pub words: usize,
}

/// Offsets of all regions for a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLayout {
    /// Event ring slots.
    pub events: Region,
    /// Market table.
    pub market: Region,
    /// Symbol directory.
    pub symbols: Region,
    /// Worker counters.
    pub counters: Region,
    /// Feed blocks.
    pub feeds: Region,
    /// Line blocks, [`LINES`] a feed.
    pub lines: Region,
    /// Latency histograms.
    pub latency: Region,
    /// The worker's log: [`super::LogReader`].
    pub logs: Region,
    /// Depth and features: [`super::DepthTable`].
    pub depth: Region,
    /// Queues: [`super::QueueBlock`].
    pub queues: Region,
    /// Length of the whole segment in words.
    pub total_words: usize,
}

/// Why a segment cannot be laid out or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The number of event slots is not a power of two of at least 16.
    EventSlots {
        /// What was asked for.
        found: usize,
    },
    /// More feeds than a worker can carry.
    Feeds {
        /// What was asked for.
        found: usize,
    },
    /// The sum of the regions is beyond any sensible size.
    TooLarge,
    /// The memory is smaller than the layout.
    Memory {
        /// Words that the layout needs.
        needed: usize,
        /// Words that there are.
        found: usize,
    },
}

impl core::fmt::Display for LayoutError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LayoutError::EventSlots { found } => {
                write!(f, "event slots must be a power of two of at least 16, not {found}")
            }
            LayoutError::Feeds { found } => {
                write!(f, "a worker carries at most {MAX_FEEDS} feeds, not {found}")
            }
            LayoutError::TooLarge => f.write_str("the segment would be larger than 1 TiB"),
            LayoutError::Memory { needed, found } => {
                write!(f, "the segment needs {needed} words of memory, there are {found}")
            }
        }
    }
}

impl core::error::Error for LayoutError {}

impl SegmentLayout {
    /// Lays out a segment.
    pub fn new(spec: &SegmentSpec<'_>) -> Result<Self, LayoutError> {
        if spec.event_slots < 16 || !spec.event_slots.is_power_of_two() {
            return Err(LayoutError::EventSlots { found: spec.event_slots });
        }
        if spec.feeds > MAX_FEEDS {
            return Err(LayoutError::Feeds { found: spec.feeds });
        }
        let mut end = HEADER_WORDS;
        let mut region = |count: usize, words_each: usize| {
            let words = count
                .checked_mul(words_each)
                .filter(|words| *words < MAX_WORDS)
                .ok_or(LayoutError::TooLarge)?;
            let offset = end;
            end = end.saturating_add(words.next_multiple_of(REGION_ALIGN_WORDS));
            if end > MAX_WORDS {
                return Err(LayoutError::TooLarge);
            }
            Ok(Region { offset, words })
        };
        let events = region(spec.event_slots, SLOT_WORDS)?;
        let market = region(spec.instruments, MARKET_WORDS)?;
        let symbols = region(spec.instruments, SYMBOL_WORDS)?;
        let counters = region(1, COUNTER_WORDS)?;
        let feeds = region(spec.feeds, FEED_WORDS)?;
        let lines = region(spec.feeds, LINES * LINE_WORDS)?;
        let latency = region(HISTOGRAMS, Histogram::WORDS)?;
        let logs = region(1, LOG_WORDS)?;
        let depth = region(spec.depths, DEPTH_WORDS)?;
        let queues = region(MAX_QUEUES, QUEUE_WORDS)?;
        Ok(SegmentLayout {
            events,
            market,
            symbols,
            counters,
            feeds,
            lines,
            latency,
            logs,
            depth,
            queues,
            total_words: end,
        })
    }

    /// Length of the segment in bytes.
    pub fn total_bytes(&self) -> usize {
        self.total_words * 8
    }

    /// The regions in header order.
    pub(super) fn regions(&self) -> [Region; REGIONS] {
        let Self { events, market, symbols, counters, feeds, lines, latency, logs, .. } = *self;
        let Self { depth, queues, .. } = *self;
        [events, market, symbols, counters, feeds, lines, latency, logs, depth, queues]
    }

    pub(super) fn from_regions(regions: [Region; REGIONS], total_words: usize) -> Self {
        let [events, market, symbols, counters, feeds, lines, latency, logs, depth, queues] =
            regions;
        SegmentLayout {
            events,
            market,
            symbols,
            counters,
            feeds,
            lines,
            latency,
            logs,
            depth,
            queues,
            total_words,
        }
    }
}

/// Number of regions.
pub(super) const REGIONS: usize = 10;

/// Hash over every size that a reader's code has built in. Two builds with the same hash agree on
/// the layout of slots, entries, cells, counters and histograms.
pub(super) const LAYOUT_HASH: u64 = {
    let sizes = [
        VERSION as u64,
        HEADER_WORDS as u64,
        SLOT_WORDS as u64,
        MARKET_WORDS as u64,
        SYMBOL_WORDS as u64,
        COUNTER_WORDS as u64,
        Counter::COUNT as u64,
        FEED_WORDS as u64,
        super::feeds::FeedCounter::COUNT as u64,
        LINES as u64,
        LINE_WORDS as u64,
        super::lines::LineCounter::COUNT as u64,
        Histogram::WORDS as u64,
        LOG_WORDS as u64,
        DEPTH_WORDS as u64,
        MAX_QUEUES as u64,
        QUEUE_WORDS as u64,
        REGIONS as u64,
    ];
    // FNV-1a over words.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < sizes.len() {
        hash = (hash ^ sizes[i]).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
};
