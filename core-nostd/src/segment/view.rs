//! Attaches to a segment that another process writes.

use super::counters::Counters;
use super::depth::{DEPTH_WORDS, DepthTable};
use super::feeds::{FEED_WORDS, FeedState, FeedView};
use super::header::{Header, State};
use super::layout::{HEADER_WORDS, LAYOUT_HASH, LINE_WORDS, MAGIC, Region, SegmentLayout, VERSION};
use super::lines::{LINES, LineView};
use super::logs::{LOG_WORDS, LogReader};
use super::market::{MARKET_WORDS, MarketTable};
use super::queues::{QUEUE_WORDS, QueueBlock};
use super::symbols::{SYMBOL_WORDS, SymbolDirectory};
use super::writer::{line_words, part};
use crate::histogram::{Histogram, HistogramSnapshot};
use crate::ring::broadcast::{Ring, SLOT_WORDS};
use crate::sync::AtomicU64;

/// Why memory is not a segment that this build can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// Shorter than a header.
    TooShort {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not a segment at all.
    Magic,
    /// A segment of another layout version.
    Version {
        /// The version that this build reads.
        expected: u32,
        /// The version found.
        found: u64,
    },
    /// The same version number, but built from other sources.
    LayoutHash,
    /// Its writer has not finished laying it out (or died doing so).
    NotReady,
    /// Its header points outside the mapping, or sizes do not fit each other.
    Regions,
}

impl core::fmt::Display for AttachError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AttachError::TooShort { bytes } => {
                write!(f, "{bytes} bytes are too short for a segment: the file was cut or is none")
            }
            AttachError::Magic => f.write_str("not a wiretape segment (no WIRETAPE magic)"),
            AttachError::Version { expected, found } => write!(
                f,
                "segment has layout version {found}, this program reads version {expected}: use \
                 the tools of the release that capture runs"
            ),
            AttachError::LayoutHash => f.write_str(
                "segment was written by a build with another layout: use the tools of the same \
                 build as capture",
            ),
            AttachError::NotReady => {
                f.write_str("segment is still being created (or its writer died doing so)")
            }
            AttachError::Regions => {
                f.write_str("segment header is damaged: regions do not fit the file")
            }
        }
    }
}

impl core::error::Error for AttachError {}

/// The reading side of a segment: everything checked against the mapping's length.
#[derive(Clone, Copy, Debug)]
pub struct SegmentView<'m> {
    words: &'m [AtomicU64],
    layout: SegmentLayout,
    header: Header<'m>,
    ring: Ring<'m>,
}

impl<'m> SegmentView<'m> {
    /// Checks `words` and attaches.
    pub fn attach(words: &'m [AtomicU64]) -> Result<Self, AttachError> {
        let too_short = AttachError::TooShort { bytes: words.len().saturating_mul(8) };
        let header = Header::new(words).ok_or(too_short)?;
        match header.magic() {
            MAGIC => {}
            // All zero: the writer has made the file and not yet filled it in.
            0 => return Err(AttachError::NotReady),
            _ => return Err(AttachError::Magic),
        }
        if header.version() != u64::from(VERSION) {
            return Err(AttachError::Version { expected: VERSION, found: header.version() });
        }
        if header.layout_hash() != LAYOUT_HASH {
            return Err(AttachError::LayoutHash);
        }
        if header.state() == State::Creating {
            return Err(AttachError::NotReady);
        }
        let layout = header.layout();
        if !regions_fit(&layout, words.len()) {
            return Err(AttachError::Regions);
        }
        let (slots, _) = part(words, layout.events).as_chunks();
        let head = header.head().ok_or(AttachError::Regions)?;
        let ring = Ring::new(slots, head).map_err(|_| AttachError::Regions)?;
        Ok(SegmentView { words, layout, header, ring })
    }

    /// The header: worker, epoch, state, heartbeat.
    pub fn header(&self) -> Header<'m> {
        self.header
    }

    /// The event ring.
    pub fn events(&self) -> Ring<'m> {
        self.ring
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

    /// Feeds that the segment has room for.
    pub fn feed_slots(&self) -> usize {
        self.layout.feeds.words / FEED_WORDS
    }

    /// Feeds that there are or were in this epoch. Rises when one is added.
    pub fn feed_count(&self) -> usize {
        self.feeds().count()
    }

    /// The block of feed `index`; `None` while there is no such feed.
    pub fn feed(&self, index: usize) -> Option<FeedView<'m>> {
        let words = part(self.words, self.layout.feeds).chunks_exact(FEED_WORDS).nth(index)?;
        FeedView::new(words).filter(|feed| feed.state() != FeedState::Unused)
    }

    /// All feeds that there are or were in this epoch, by index.
    pub fn feeds(&self) -> impl Iterator<Item = FeedView<'m>> + use<'m> {
        let this = *self;
        (0..this.feed_slots()).map_while(move |index| this.feed(index))
    }

    /// The block of line `line` of feed `feed`; the last, [`RECOVERY_LINE`](super::RECOVERY_LINE),
    /// is what re-request servers send.
    pub fn line(&self, feed: usize, line: usize) -> Option<LineView<'m>> {
        LineView::new(line_words(part(self.words, self.layout.lines), feed, line)?)
    }

    /// Latency from the receive stamp to the published event, in nanoseconds.
    pub fn latency(&self) -> Option<HistogramSnapshot> {
        HistogramSnapshot::take(part(self.words, self.layout.latency))
    }

    /// Depth and features of chosen instruments.
    pub fn depth(&self) -> DepthTable<'m> {
        DepthTable::new(part(self.words, self.layout.depth))
    }

    /// The queues that the worker receives from.
    pub fn queues(&self) -> impl Iterator<Item = QueueBlock<'m>> + use<'m> {
        let blocks = part(self.words, self.layout.queues).chunks_exact(QUEUE_WORDS);
        blocks.filter_map(QueueBlock::new).filter(|block| block.identity().is_some())
    }

    /// The worker's log, from the oldest frame on.
    pub fn logs(&self) -> Option<LogReader<'m>> {
        LogReader::new(part(self.words, self.layout.logs))
    }
}

/// Offsets and lengths from the header are allegations: inside the mapping, whole elements, and a
/// ring of a power of two.
fn regions_fit(layout: &SegmentLayout, words: usize) -> bool {
    let inside = |region: &Region, each: usize| {
        region.offset >= HEADER_WORDS
            && region.words.is_multiple_of(each)
            && region.offset.checked_add(region.words).is_some_and(|end| end <= words)
    };
    layout.total_words <= words
        && inside(&layout.events, SLOT_WORDS)
        && inside(&layout.market, MARKET_WORDS)
        && inside(&layout.symbols, SYMBOL_WORDS)
        && inside(&layout.counters, 1)
        && inside(&layout.feeds, FEED_WORDS)
        && inside(&layout.lines, LINES * LINE_WORDS)
        && inside(&layout.latency, Histogram::WORDS)
        && inside(&layout.logs, LOG_WORDS)
        && inside(&layout.depth, DEPTH_WORDS)
        && inside(&layout.queues, QUEUE_WORDS)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::layout::REGIONS;
    use super::super::{Counter, FeedCounter, FeedIdentity, SegmentSpec, SegmentWriter};
    use super::*;
    use crate::event::Event;
    use core::sync::atomic::Ordering;
    use std::vec::Vec;

    fn spec() -> SegmentSpec<'static> {
        SegmentSpec {
            worker: "test",
            epoch: 77,
            pid: 1,
            event_slots: 64,
            instruments: 10,
            feeds: 2,
            depths: 0,
        }
    }

    fn memory() -> Vec<AtomicU64> {
        let words = SegmentLayout::new(&spec()).unwrap().total_words;
        (0..words).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_reader_sees_what_the_writer_wrote() {
        let words = memory();
        let writer = SegmentWriter::create(&words, &spec()).unwrap();
        assert_eq!(SegmentView::attach(&words).unwrap_err(), AttachError::NotReady);
        writer.start();
        writer.header().set_source("pcap test");
        let mut events = writer.events();
        events.publish(&Event { words: [5; 7] });
        events.commit();
        writer.counters().add(Counter::Events, 1);
        let identity = |name: &str| FeedIdentity {
            name: name.try_into().unwrap(),
            port: 7,
            ..FeedIdentity::default()
        };
        writer.feed(0).unwrap().set_identity(&identity("first"));
        writer.feed(1).unwrap().add(FeedCounter::Messages, 3);
        let view = SegmentView::attach(&words).unwrap();
        assert_eq!(view.header().epoch(), 77);
        assert_eq!(view.header().worker(), "test");
        assert_eq!(view.header().source(), "pcap test");
        assert_eq!((view.feed_slots(), view.feed_count()), (2, 1));
        assert!(view.feed(1).is_none() && view.feed(2).is_none());
        writer.feed(1).unwrap().set_identity(&identity("second"));
        assert_eq!(view.feed(1).unwrap().state(), FeedState::Live);
        writer.feed(0).unwrap().set_removed();
        // What was removed keeps its index, its name and its counters.
        let names: Vec<_> = view.feeds().map(|feed| feed.identity().name).collect();
        assert_eq!(names, ["first", "second"]);
        assert_eq!(view.feed(0).unwrap().state(), FeedState::Removed);
        assert_eq!(view.feed(1).unwrap().counter(FeedCounter::Messages), 3);
        assert_eq!(view.counters().get(Counter::Events), 1);
        let mut reader = view.events().reader_from_oldest();
        assert_eq!(reader.next_event(), Ok(Some((1, Event { words: [5; 7] }))));
    }

    #[test]
    fn damaged_headers_are_refused_whatever_word_is_hit() {
        let words = memory();
        SegmentWriter::create(&words, &spec()).unwrap().start();
        assert!(SegmentView::attach(&words).is_ok());
        assert!(matches!(
            SegmentView::attach(&words[..100]),
            Err(AttachError::TooShort { bytes: 800 })
        ));
        assert_eq!(
            SegmentView::attach(&words[..words.len() - 1]).unwrap_err(),
            AttachError::Regions
        );
        words[1].store(9, Ordering::Relaxed);
        assert!(matches!(
            SegmentView::attach(&words),
            Err(AttachError::Version { expected: VERSION, found: 9 })
        ));
        words[1].store(u64::from(VERSION), Ordering::Relaxed);
        for i in 64..64 + 2 * REGIONS {
            let old = words[i].swap(u64::MAX - 3, Ordering::Relaxed);
            assert_eq!(SegmentView::attach(&words).unwrap_err(), AttachError::Regions, "word {i}");
            words[i].store(old, Ordering::Relaxed);
        }
        words[0].store(1, Ordering::Relaxed);
        assert_eq!(SegmentView::attach(&words).unwrap_err(), AttachError::Magic);
    }
}
