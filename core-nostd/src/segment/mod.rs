//! The shared-memory segment of one capture worker: what the worker writes and anyone may read.
//!
//! ```text
//!  ┌────────┬───────────────┬──────────┬──────────┬──────────┬───────┬────────┐
//!  │ header │ events (ring) │ market   │ symbols  │ counters │ feeds │ lines  │
//!  │ 4 KiB  │ 64 B a slot   │ 128 B an │ 64 B an  │ 8 B each │ 4 KiB │ 3 a    │
//!  │        │               │ instrum. │ instrum. │          │ each  │ feed   │
//!  ├────────┴───┬───────────┴───┬──────┴────────┬─┴──────────┴───────┴────────┤
//!  │ latency    │ logs (ring)   │ depth         │ queues                      │
//!  │ histogram  │ 64 B a frame  │ 512 B a place │ 512 B each                  │
//!  └────────────┴───────────────┴───────────────┴─────────────────────────────┘
//! ```
//!
//! The segment is seen as 64-bit atomic words throughout, so that a reader of a segment whose
//! writer is hostile, dying or of another version reads wrong numbers at worst. [`SegmentView`]
//! checks magic, version, layout hash and every offset against the length of the mapping before
//! it hands out anything. All numbers are little-endian.
//!
//! ```
//! use std::sync::atomic::AtomicU64;
//! use wiretape_core::event::Event;
//! use wiretape_core::segment::{Counter, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter};
//!
//! let spec = SegmentSpec {
//!     worker: "itch-a",
//!     epoch: 1,
//!     pid: 42,
//!     event_slots: 64,
//!     instruments: 10,
//!     feeds: 1,
//!     depths: 0,
//! };
//! // In earnest these words are a mapped file, which readers map read-only.
//! let words = SegmentLayout::new(&spec)?.total_words;
//! let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
//! let writer = SegmentWriter::create(&words, &spec)?;
//! writer.start();
//! let mut events = writer.events();
//! events.publish(&Event::default());
//! events.commit();
//! writer.counters().add(Counter::Events, 1);
//!
//! let view = SegmentView::attach(&words)?;
//! assert_eq!(view.header().worker(), "itch-a");
//! assert_eq!(view.counters().get(Counter::Events), view.events().head());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Feeds may come and go while the worker runs: the segment has room for as many as its spec says, and
//! [`FeedState`] tells which of the blocks are in use.
//!
//! One epoch is one life of the capture process. A restart makes a new segment; readers of the
//! old one keep their mapping, and find its state ended or superseded.

mod cell;
mod counters;
mod depth;
mod feeds;
mod header;
mod layout;
mod ledger;
mod lines;
mod logs;
mod market;
mod queues;
mod symbols;
mod view;
mod writer;

pub use cell::{Cell, CellBusy, Patience};
pub use counters::{Counter, Counters};
pub(crate) use depth::{ALL_LEVELS, DepthMoment};
pub use depth::{DEPTH_LEVELS, DepthEntry, DepthLevel, DepthSides, DepthTable, Features};
pub use feeds::{
    ErrorGroup, FEED_WORDS, FeedCounter, FeedGauge, FeedIdentity, FeedState, FeedView, FeedWriter,
    SessionState,
};
pub use header::{EPOCH_NONE, Header, State};
pub use layout::{
    HEADER_WORDS, LINE_WORDS, LayoutError, MAGIC, MAX_FEEDS, Region, SegmentLayout, SegmentSpec,
    VERSION,
};
pub use ledger::{Ledger, LedgerRow};
pub use lines::{LINES, LineCounter, LineView, LineWriter, RECOVERY_LINE};
pub use logs::{FRAME_BYTES, LOG_SLOTS, LogFrame, LogProgram, LogReader, LogWriter};
pub use market::{MARKET_WORDS, MarketEntry, MarketTable, health};
pub use queues::{MAX_QUEUES, QUEUE_WORDS, QueueBlock, QueueIdentity};
pub use symbols::{SYMBOL_WORDS, SymbolDirectory, SymbolEntry};
pub use view::{AttachError, SegmentView};
pub use writer::SegmentWriter;
