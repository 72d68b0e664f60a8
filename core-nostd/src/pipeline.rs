//! The way of a frame: datagram → feed → messages → book → events in the segment.
//!
//! One pipeline per worker. Everything is claimed from the caller's arena when feeds are added;
//! [`Pipeline::on_frame`] then allocates nothing, takes no lock, makes no system call and cannot
//! panic on any input (`core-nostd/freestanding` proves the last at link time).

use crate::arena::{Arena, ArenaError};
use crate::feed::arbiter::join::{JoinPatience, SnapshotPart, SnapshotRequest};
use crate::feed::arbiter::{Arbiter, RecoveryRequest};
use crate::feed::channel::{Channel, FeedSpec};
use crate::feed::depth::{DepthBoard, DepthChoice};
use crate::feed::protocol::ProtocolFeed;
use crate::feed::publisher::Publisher;
use crate::feed::trading_day::TradingDays;
use crate::segment::{Counter, MAX_FEEDS, RECOVERY_LINE, SegmentWriter};
use crate::wire::frame::{Datagram, FrameError};

pub use crate::feed::protocol::Protocol;

/// Why a feed could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddFeedError {
    /// The worker has [`MAX_FEEDS`] feeds already, or more than the segment was laid out for.
    TooManyFeeds,
    /// The arena does not hold the feed's books.
    Memory(ArenaError),
    /// The feed's protocol has no snapshots.
    NoSnapshots,
}

impl core::fmt::Display for AddFeedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AddFeedError::TooManyFeeds => write!(f, "a worker carries at most {MAX_FEEDS} feeds"),
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

#[derive(Debug)]
struct Feed<'m> {
    name: Protocol,
    protocol: ProtocolFeed<'m>,
    arbiter: Arbiter<'m>,
}

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
    feeds: heapless::Vec<Feed<'m>, MAX_FEEDS>,
    routes: heapless::Vec<Route, { 2 * MAX_FEEDS }>,
    /// When what is missing somewhere is to be asked for or given up; `u64::MAX` if nothing is.
    deadline: u64,
}

impl<'m> Pipeline<'m> {
    /// A pipeline that publishes into `segment`.
    pub fn new(segment: SegmentWriter<'m>) -> Self {
        Pipeline {
            publisher: Publisher::new(segment),
            feeds: heapless::Vec::new(),
            routes: heapless::Vec::new(),
            deadline: u64::MAX,
        }
    }

    /// Adds a feed, before the first frame, and returns its index. `days` are the midnights of the
    /// exchange's time zone.
    pub fn add_feed(
        &mut self,
        protocol: Protocol,
        spec: &FeedSpec,
        days: &TradingDays,
        arena: &mut Arena<'m>,
    ) -> Result<usize, AddFeedError> {
        let index = self.feeds.len();
        let segment = *self.publisher.segment();
        let writer = segment.feed(index).ok_or(AddFeedError::TooManyFeeds)?;
        let channel = Channel::new(spec, index as u8, writer, arena)?;
        let name = protocol;
        let protocol = ProtocolFeed::new(protocol, channel, spec, days, arena)?;
        let mut addresses = heapless::Vec::<_, 2>::new();
        let first = (spec.identity.group, spec.identity.port);
        for (line, (group, port)) in (0..).zip([Some(first), spec.line_b].into_iter().flatten()) {
            let route = Route { group, port, feed: index as u8, line };
            self.routes.push(route).map_err(|_| AddFeedError::TooManyFeeds)?;
            // Two at most.
            let _ = addresses.push((group, port));
        }
        let arbiter = Arbiter::new(index as u8, &addresses, &spec.patience, &segment, arena)?;
        let feed = Feed { name, protocol, arbiter };
        self.feeds.push(feed).map_err(|_| AddFeedError::TooManyFeeds)?;
        Ok(index)
    }

    /// Gives instruments of feed `feed` ten levels of depth and features, in `places` places of
    /// the segment from `first_place` on. To be called before the first frame.
    ///
    /// # Errors
    /// There is no such feed, or the arena is used up.
    pub fn choose_depth(
        &mut self,
        feed: usize,
        choice: &DepthChoice,
        first_place: usize,
        places: usize,
        arena: &mut Arena<'m>,
    ) -> Result<(), AddFeedError> {
        let segment = *self.publisher.segment();
        let Some(feed) = self.feeds.get_mut(feed) else { return Err(AddFeedError::TooManyFeeds) };
        let board = DepthBoard::new(segment, choice, first_place, places, arena)?;
        Ok(feed.protocol.channel().set_depth(board, arena)?)
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
        let Some(feed) = self.feeds.get_mut(feed) else { return Err(AddFeedError::TooManyFeeds) };
        if !feed.name.has_snapshots() {
            return Err(AddFeedError::NoSnapshots);
        }
        Ok(feed.arbiter.join_by_snapshot(patience, arena)?)
    }

    /// Takes one Ethernet frame, received at `ts_recv` (UTC nanoseconds).
    #[inline]
    pub fn on_frame(&mut self, frame: &[u8], ts_recv: u64) {
        self.on_time(ts_recv);
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
        let Some(feed) = self.feeds.get_mut(usize::from(route.feed)) else { return };
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
        let Some(Feed { protocol, arbiter, .. }) = self.feeds.get_mut(feed) else { return };
        self.publisher.begin_packet(ts_recv);
        protocol.on_payload(arbiter, RECOVERY_LINE, payload, &mut self.publisher);
        self.note_deadline();
    }

    /// Takes a piece of the snapshot that was asked for with `request`, at `ts_recv` (UTC
    /// nanoseconds).
    pub fn on_snapshot(&mut self, request: &SnapshotRequest, part: SnapshotPart<'_>, ts_recv: u64) {
        let Some(feed) = self.feeds.get_mut(usize::from(request.feed)) else { return };
        let Feed { protocol, arbiter, .. } = feed;
        self.publisher.begin_packet(ts_recv);
        protocol.on_snapshot(arbiter, request.ticket, &part, &mut self.publisher);
        self.note_deadline();
    }

    /// The next snapshot that is to be fetched.
    pub fn next_snapshot(&mut self) -> Option<SnapshotRequest> {
        self.feeds.iter_mut().find_map(|feed| feed.arbiter.next_snapshot())
    }

    /// Whether packets wait for what is missing in front of them.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.deadline != u64::MAX
    }

    /// The next range that a re-request server is to be asked for.
    pub fn next_request(&mut self) -> Option<RecoveryRequest> {
        self.feeds.iter_mut().find_map(|feed| feed.arbiter.next_request())
    }

    /// Asks for, or gives up, what is missing for too long at `now` (UTC nanoseconds). Every frame
    /// does this with its receive time; in silence the caller does.
    #[inline]
    pub fn on_time(&mut self, now: u64) {
        if now >= self.deadline {
            self.expire(now);
        }
    }

    #[cold]
    fn expire(&mut self, now: u64) {
        self.publisher.begin_packet(now);
        for Feed { protocol, arbiter, .. } in &mut self.feeds {
            protocol.expire(arbiter, now, &mut self.publisher);
        }
        self.note_deadline();
    }

    #[cold]
    fn note_deadline(&mut self) {
        let deadlines = self.feeds.iter().map(|feed| feed.arbiter.deadline());
        self.deadline = deadlines.min().unwrap_or(u64::MAX);
    }

    /// Gives up what is still missing, and takes what waited for it: nothing comes any more.
    pub fn finish(&mut self, now: u64) {
        self.publisher.begin_packet(now);
        for Feed { protocol, arbiter, .. } in &mut self.feeds {
            protocol.finish(arbiter, &mut self.publisher);
        }
        self.deadline = u64::MAX;
    }

    /// Says in the segment how full the memory of the feeds' books is: see
    /// [`FeedGauge`](crate::segment::FeedGauge). To be called now and then.
    pub fn publish_usage(&mut self) {
        for feed in &mut self.feeds {
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
