//! Lays a segment out and hands its parts to the worker.

use super::counters::Counters;
use super::depth::DepthTable;
use super::feeds::{FEED_WORDS, FeedState, FeedView, FeedWriter};
use super::header::{Header, State};
use super::layout::{LINE_WORDS, LayoutError, Region, SegmentLayout, SegmentSpec};
use super::lines::{LINES, LineWriter};
use super::logs::LogWriter;
use super::market::MarketTable;
use super::queues::{QUEUE_WORDS, QueueBlock};
use super::symbols::{SymbolDirectory, SymbolEntry};
use crate::histogram::Histogram;
use crate::ring::broadcast::{Ring, Writer};
use crate::sync::AtomicU64;

/// The writing side of a segment. The caller sees to it that there is one per segment.
#[derive(Clone, Copy, Debug)]
pub struct SegmentWriter<'m> {
    words: &'m [AtomicU64],
    layout: SegmentLayout,
    header: Header<'m>,
    ring: Ring<'m>,
}

impl<'m> SegmentWriter<'m> {
    /// Lays a segment out in fresh (zeroed) memory. The state stays [`State::Creating`] until
    /// [`start`](Self::start).
    pub fn create(words: &'m [AtomicU64], spec: &SegmentSpec<'_>) -> Result<Self, LayoutError> {
        let layout = SegmentLayout::new(spec)?;
        let too_small = LayoutError::Memory { needed: layout.total_words, found: words.len() };
        if words.len() < layout.total_words {
            return Err(too_small);
        }
        let header = Header::new(words).ok_or(too_small)?;
        let (slots, _) = part(words, layout.events).as_chunks();
        let head = header.head().ok_or(too_small)?;
        let ring = Ring::new(slots, head)
            .map_err(|_| LayoutError::EventSlots { found: spec.event_slots })?;
        header.initialise(spec, &layout);
        Ok(SegmentWriter { words, layout, header, ring })
    }

    /// Declares the segment ready: readers may attach.
    pub fn start(&self) {
        self.header.set_state(State::Running);
    }

    /// The header: state, heartbeat, wake word.
    pub fn header(&self) -> Header<'m> {
        self.header
    }

    /// The event ring's writer. Call once.
    pub fn events(&self) -> Writer<'m> {
        self.ring.writer()
    }

    /// The event ring, to look at its head.
    pub fn ring(&self) -> Ring<'m> {
        self.ring
    }

    /// Announces an instrument in the symbol directory.
    pub fn announce(&self, instrument: u32, entry: &SymbolEntry) {
        self.symbols().write(instrument, entry);
    }

    /// The market table.
    pub fn market(&self) -> MarketTable<'m> {
        MarketTable::new(part(self.words, self.layout.market))
    }

    /// The symbol directory.
    pub fn symbols(&self) -> SymbolDirectory<'m> {
        SymbolDirectory::new(part(self.words, self.layout.symbols))
    }

    /// The worker counters.
    pub fn counters(&self) -> Counters<'m> {
        Counters::new(part(self.words, self.layout.counters))
    }

    /// The block of feed `index`, if the spec had that many feeds.
    pub fn feed(&self, index: usize) -> Option<FeedWriter<'m>> {
        FeedWriter::new(part(self.words, self.layout.feeds).chunks_exact(FEED_WORDS).nth(index)?)
    }

    /// The first place that no feed has used in this epoch; the next one to be added belongs there.
    pub fn unused_feed(&self) -> Option<usize> {
        let places = part(self.words, self.layout.feeds).chunks_exact(FEED_WORDS);
        let mut feeds = places.filter_map(FeedView::new);
        feeds.position(|feed| feed.state() == FeedState::Unused)
    }

    /// The block of line `line` of feed `feed`, if the spec had that many feeds.
    pub fn line(&self, feed: usize, line: usize) -> Option<LineWriter<'m>> {
        LineWriter::new(line_words(part(self.words, self.layout.lines), feed, line)?)
    }

    /// Latency from the receive stamp to the published event, in nanoseconds.
    pub fn latency(&self) -> Option<Histogram<'m>> {
        Histogram::attach(part(self.words, self.layout.latency))
    }

    /// Depth and features of chosen instruments.
    pub fn depth(&self) -> DepthTable<'m> {
        DepthTable::new(part(self.words, self.layout.depth))
    }

    /// The block of queue `index`, for the control thread.
    pub fn queue(&self, index: usize) -> Option<QueueBlock<'m>> {
        let blocks = part(self.words, self.layout.queues).chunks_exact(QUEUE_WORDS);
        blocks.filter_map(QueueBlock::new).nth(index)
    }

    /// The writing end of the log. The caller sees to it that there is one per segment.
    pub fn logs(&self) -> Option<LogWriter<'m>> {
        LogWriter::new(part(self.words, self.layout.logs))
    }
}

/// The words of one line's block in the region of all.
pub(super) fn line_words(region: &[AtomicU64], feed: usize, line: usize) -> Option<&[AtomicU64]> {
    let of_feed = region.chunks_exact(LINES * LINE_WORDS).nth(feed)?;
    of_feed.chunks_exact(LINE_WORDS).nth(line)
}

/// A region's words; empty if it lies outside (never, for a layout that was checked).
pub(super) fn part(words: &[AtomicU64], region: Region) -> &[AtomicU64] {
    part_of(words, region.offset, region.words)
}

/// `count` words from `offset` on; empty if they lie outside.
pub(super) fn part_of(words: &[AtomicU64], offset: usize, count: usize) -> &[AtomicU64] {
    words.get(offset..).and_then(|words| words.get(..count)).unwrap_or(&[])
}
