//! The way of a frame: datagram → feed → messages → book → events in the segment.
//!
//! One pipeline per worker. Everything is claimed from the caller's arena when a feed is made;
//! [`Pipeline::on_frame`] then allocates nothing, takes no lock, makes no system call and cannot
//! panic on any input (`core-nostd/freestanding` proves the last at link time).
//!
//! Feeds come and go between two frames. A [`Feed`] is made elsewhere, in memory of its own, and
//! [attached](Pipeline::attach), which costs a copy of what it is (not of its books).
//! [Detached](Pipeline::detach), it is handed back whole, so that its memory can be given up where
//! there is time. Its place in the segment stays its own; those for depth are free again.

mod feed;

use crate::arena::{Arena, ArenaError};
use crate::feed::arbiter::RecoveryRequest;
use crate::feed::arbiter::join::{JoinPatience, SnapshotPart, SnapshotRequest};
use crate::feed::channel::FeedSpec;
use crate::feed::depth::DepthChoice;
use crate::feed::publisher::Publisher;
use crate::feed::trading_day::TradingDays;
use crate::segment::{Counter, MAX_FEEDS, RECOVERY_LINE, SegmentWriter};
use crate::wire::frame::{Datagram, FrameError};

pub use crate::feed::protocol::Protocol;
pub use feed::Feed;

/// Why a feed could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddFeedError {
    /// The worker has [`MAX_FEEDS`] feeds already, or all that the segment was laid out for.
    TooManyFeeds,
    /// The arena does not hold the feed's books.
    Memory(ArenaError),
    /// The feed's protocol has no snapshots.
    NoSnapshots,
}

impl core::fmt::Display for AddFeedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AddFeedError::TooManyFeeds => {
                write!(f, "the segment has no place for another feed (at most {MAX_FEEDS})")
            }
            AddFeedError::Memory(error) => write!(f, "no memory for the feed's books: {error}"),
            AddFeedError::NoSnapshots => write!(f, "the feed's protocol has no snapshots"),
        }
    }
}

impl core::error::Error for AddFeedError {}

impl From<ArenaError> for AddFeedError {
    fn from(error: ArenaError) -> Self {
        AddFeedError::Memory(error)
    }
}

/// How far behind a deadline a frame's time is believed without that of the next one, in nanoseconds.
const LEAP_NS: u64 = 1_000_000_000;

/// Which line of which feed a group and port is.
#[derive(Clone, Copy, Debug)]
struct Route {
    group: [u8; 4],
    port: u16,
    feed: u8,
    line: u8,
}

/// A worker's pipeline.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use wiretape_core::pipeline::Pipeline;
/// use wiretape_core::segment::{Counter, SegmentLayout, SegmentSpec, SegmentWriter};
///
/// let spec = SegmentSpec {
///     worker: "itch-a",
///     epoch: 1,
///     pid: 42,
///     event_slots: 64,
///     instruments: 10,
///     feeds: 1,
///     depths: 0,
/// };
/// let words = SegmentLayout::new(&spec)?.total_words;
/// let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
/// let mut pipeline = Pipeline::new(SegmentWriter::create(&words, &spec)?);
/// // Feeds would be added here. What cannot be used is counted by cause.
/// pipeline.on_frame(&[0; 14], 1_340_285_400_000_000_000);
/// let counters = pipeline.segment().counters();
/// assert_eq!((counters.get(Counter::Frames), counters.get(Counter::FrameNotIpv4)), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pipeline<'m> {
    publisher: Publisher<'m>,
    /// By place in the segment.
    feeds: [Option<Feed<'m>>; MAX_FEEDS],
    routes: heapless::Vec<Route, { 2 * MAX_FEEDS }>,
    /// When what is missing somewhere is to be asked for or given up; `u64::MAX` if nothing is.
    deadline: u64,
    /// Number of the frame, from 0, in front of which the times leapt beyond the deadline.
    leapt_before: u64,
}

impl<'m> Pipeline<'m> {
    /// A pipeline that publishes into `segment`.
    pub fn new(segment: SegmentWriter<'m>) -> Self {
        Pipeline {
            publisher: Publisher::new(segment),
            feeds: [const { None }; MAX_FEEDS],
            routes: heapless::Vec::new(),
            deadline: u64::MAX,
            leapt_before: 0,
        }
    }

    /// Makes a feed, attaches it, and returns its index. To be called before the first frame: it
    /// claims the feed's memory. `days` are the midnights of the exchange's time zone.
    ///
    /// # Errors
    /// The segment has no place left, or the arena is used up.
    pub fn add_feed(
        &mut self,
        protocol: Protocol,
        spec: &FeedSpec,
        days: &TradingDays,
        arena: &mut Arena<'m>,
    ) -> Result<usize, AddFeedError> {
        let segment = *self.publisher.segment();
        let index = segment.unused_feed().ok_or(AddFeedError::TooManyFeeds)?;
        let feed = Feed::new(index, protocol, spec, days, &segment, arena)?;
        self.attach(feed).map_err(|_| AddFeedError::TooManyFeeds)?;
        Ok(index)
    }

    /// Takes `feed` in: from the next frame on, packets of its groups are its own. Readers find it
    /// in the segment before its first event.
    ///
    /// # Errors
    /// Gives the feed back if its place in the segment is not the next one: none is used twice.
    #[allow(clippy::result_large_err, reason = "what was not taken is given back whole")]
    pub fn attach(&mut self, feed: Feed<'m>) -> Result<(), Feed<'m>> {
        let next = self.publisher.segment().unused_feed();
        let Some(place) = next.filter(|next| *next == feed.index()) else { return Err(feed) };
        let Some(place) = self.feeds.get_mut(place) else { return Err(feed) };
        for (line, &(group, port)) in (0..).zip(&feed.addresses) {
            // There is room for two of each feed.
            let _ = self.routes.push(Route { group, port, feed: feed.index, line });
        }
        let feed = place.insert(feed);
        feed.protocol.channel().announce_feed(&feed.identity);
        Ok(())
    }

    /// Lets feed `index` go: what it still waited for is given up at `now` (UTC nanoseconds), and
    /// readers are told. Packets of its groups belong to no feed then. `None` if there is no such
    /// feed.
    #[cold]
    pub fn detach(&mut self, index: usize, now: u64) -> Option<Feed<'m>> {
        let mut feed = self.feeds.get_mut(index)?.take()?;
        self.routes.retain(|route| route.feed != feed.index);
        self.publisher.begin_packet(now);
        feed.protocol.finish(&mut feed.arbiter, &mut self.publisher);
        feed.protocol.channel().remove(&mut self.publisher);
        self.note_deadline();
        Some(feed)
    }

    fn feed_mut(&mut self, index: usize) -> Option<&mut Feed<'m>> {
        self.feeds.get_mut(index)?.as_mut()
    }

    /// Gives instruments of feed `feed` ten levels of depth and features, in these `places` of the
    /// segment. To be called before the first frame.
    ///
    /// # Errors
    /// There is no such feed, or the arena is used up.
    pub fn choose_depth(
        &mut self,
        feed: usize,
        choice: &DepthChoice,
        places: impl ExactSizeIterator<Item = u32>,
        arena: &mut Arena<'m>,
    ) -> Result<(), AddFeedError> {
        let segment = *self.publisher.segment();
        let feed = self.feed_mut(feed).ok_or(AddFeedError::TooManyFeeds)?;
        feed.choose_depth(choice, places, &segment, arena)?;
        feed.protocol.channel().publish_depth_usage();
        Ok(())
    }

    /// Lets feed `feed` join sessions that have been going on by snapshots, which the caller
    /// fetches: see [`join`](crate::feed::arbiter::join). To be called before the first frame.
    ///
    /// # Errors
    /// There is no such feed, its protocol has no snapshots, or the arena is used up.
    pub fn join_by_snapshot(
        &mut self,
        feed: usize,
        patience: &JoinPatience,
        arena: &mut Arena<'m>,
    ) -> Result<(), AddFeedError> {
        let feed = self.feed_mut(feed).ok_or(AddFeedError::TooManyFeeds)?;
        feed.join_by_snapshot(patience, arena)
    }

    /// Takes one Ethernet frame, received at `ts_recv` (UTC nanoseconds).
    #[inline]
    pub fn on_frame(&mut self, frame: &[u8], ts_recv: u64) {
        if ts_recv >= self.deadline {
            self.on_late_frame(ts_recv);
        }
        let counters = self.publisher.counters();
        counters.add(Counter::Frames, 1);
        counters.add(Counter::FrameBytes, frame.len() as u64);
        match Datagram::from_frame(frame) {
            Ok(datagram) => self.on_datagram(&datagram, ts_recv),
            Err(error) => counters.add(frame_error_counter(error), 1),
        }
    }

    #[inline]
    fn on_datagram(&mut self, datagram: &Datagram<'_>, ts_recv: u64) {
        let ours = |route: &&Route| route.group == datagram.dst && route.port == datagram.dst_port;
        let Some(route) = self.routes.iter().find(ours) else {
            self.publisher.counters().add(Counter::OtherGroup, 1);
            return;
        };
        let Some(Some(feed)) = self.feeds.get_mut(usize::from(route.feed)) else { return };
        self.publisher.counters().add(Counter::Datagrams, 1);
        self.publisher.begin_packet(ts_recv);
        let line = usize::from(route.line);
        let Feed { protocol, arbiter, .. } = feed;
        protocol.on_payload(arbiter, line, datagram.payload, &mut self.publisher);
        if arbiter.is_busy() || self.deadline != u64::MAX {
            self.note_deadline();
        }
    }

    /// Takes what a re-request server sent for feed `feed` at `ts_recv` (UTC nanoseconds).
    pub fn on_recovered(&mut self, feed: usize, payload: &[u8], ts_recv: u64) {
        let Some(Some(feed)) = self.feeds.get_mut(feed) else { return };
        let Feed { protocol, arbiter, .. } = feed;
        self.publisher.begin_packet(ts_recv);
        protocol.on_payload(arbiter, RECOVERY_LINE, payload, &mut self.publisher);
        self.note_deadline();
    }

    /// Takes a piece of the snapshot that was asked for with `request`, at `ts_recv` (UTC
    /// nanoseconds).
    pub fn on_snapshot(&mut self, request: &SnapshotRequest, part: SnapshotPart<'_>, ts_recv: u64) {
        let Some(Some(feed)) = self.feeds.get_mut(usize::from(request.feed)) else { return };
        let Feed { protocol, arbiter, .. } = feed;
        self.publisher.begin_packet(ts_recv);
        protocol.on_snapshot(arbiter, request.ticket, &part, &mut self.publisher);
        self.note_deadline();
    }

    /// The next snapshot that is to be fetched.
    pub fn next_snapshot(&mut self) -> Option<SnapshotRequest> {
        self.feeds.iter_mut().flatten().find_map(|feed| feed.arbiter.next_snapshot())
    }

    /// Whether packets wait for what is missing in front of them.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.deadline != u64::MAX
    }

    /// The next range that a re-request server is to be asked for.
    pub fn next_request(&mut self) -> Option<RecoveryRequest> {
        self.feeds.iter_mut().flatten().find_map(|feed| feed.arbiter.next_request())
    }

    /// Asks for, or gives up, what is missing for too long at `now` (UTC nanoseconds). Frames do this
    /// with their receive times; in silence the caller does.
    #[inline]
    pub fn on_time(&mut self, now: u64) {
        if now >= self.deadline {
            self.expire(now);
        }
    }

    /// A frame that was received when something waited for long enough. Where its time leaps far beyond
    /// that, the next frame has to have such a time too: in files single packets have been seen with the
    /// time of a clock that was wrong, and nothing that another line still brings is given up for one.
    #[cold]
    fn on_late_frame(&mut self, ts_recv: u64) {
        // A deadline of 0 is no time: something is to go on as soon as it can.
        let leaps = self.deadline > 0 && ts_recv.saturating_sub(self.deadline) > LEAP_NS;
        let frames = self.publisher.counters().get(Counter::Frames);
        if leaps && self.leapt_before != frames {
            self.leapt_before = frames.wrapping_add(1);
            return;
        }
        self.expire(ts_recv);
    }

    #[cold]
    fn expire(&mut self, now: u64) {
        self.publisher.begin_packet(now);
        for Feed { protocol, arbiter, .. } in self.feeds.iter_mut().flatten() {
            protocol.expire(arbiter, now, &mut self.publisher);
        }
        self.note_deadline();
    }

    #[cold]
    fn note_deadline(&mut self) {
        let deadlines = self.feeds.iter().flatten().map(|feed| feed.arbiter.deadline());
        self.deadline = deadlines.min().unwrap_or(u64::MAX);
    }

    /// Gives up what is still missing, and takes what waited for it: nothing comes any more.
    pub fn finish(&mut self, now: u64) {
        self.publisher.begin_packet(now);
        for Feed { protocol, arbiter, .. } in self.feeds.iter_mut().flatten() {
            protocol.finish(arbiter, &mut self.publisher);
        }
        self.deadline = u64::MAX;
    }

    /// Says in the segment how full the memory of the feeds' books is: see
    /// [`FeedGauge`](crate::segment::FeedGauge). To be called now and then.
    pub fn publish_usage(&mut self) {
        for feed in self.feeds.iter_mut().flatten() {
            feed.protocol.publish_usage();
        }
    }

    /// The segment that it publishes into.
    pub fn segment(&self) -> &SegmentWriter<'m> {
        self.publisher.segment()
    }
}

const fn frame_error_counter(error: FrameError) -> Counter {
    match error {
        FrameError::Truncated => Counter::FrameTruncated,
        FrameError::NotIpv4 => Counter::FrameNotIpv4,
        FrameError::Fragment => Counter::FrameFragment,
        FrameError::NotUdp => Counter::FrameNotUdp,
        FrameError::TooManyTags
        | FrameError::BadIpVersion
        | FrameError::BadHeaderLength
        | FrameError::LengthMismatch => Counter::FrameBadHeader,
    }
}
