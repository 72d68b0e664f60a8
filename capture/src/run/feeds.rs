//! Makes feeds, and the memory for their books.

use std::collections::HashSet;
use std::io;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use wiretape_core::arena::Arena;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::arbiter::join::JoinPatience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::pipeline::{AddFeedError, Feed, Pipeline};
use wiretape_core::segment::{FeedIdentity, SegmentWriter};

use super::{Notice, RunError};
use crate::config::{Config, FeedConfig};
use crate::trading_days::{self, Zones};

/// Address space per order, level and instrument: several times what books take. Only what the
/// arena gives out is ever touched, and address space is free.
const BYTES_PER_ORDER: usize = 512;
const BYTES_PER_LEVEL: usize = 512;
const BYTES_PER_INSTRUMENT: usize = 4096;
/// Longest datagram that can wait for its turn: a jumbo frame's.
const WAITING_BYTES: u16 = 9_216;
const BYTES_PER_WAITING: usize = 64;
const BYTES_PER_FEED: usize = 256 << 20;

/// Anonymous memory for the books of a feed.
#[derive(Debug)]
pub(super) struct BookMemory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, and whoever calls `bytes` sees to it that one has it.
unsafe impl Send for BookMemory {}

impl BookMemory {
    fn reserve(feed: &FeedConfig) -> Result<BookMemory, RunError> {
        let bytes = feed.max_orders * BYTES_PER_ORDER
            + feed.max_levels * BYTES_PER_LEVEL
            + feed.instruments * BYTES_PER_INSTRUMENT
            + feed.reorder_packets * (usize::from(WAITING_BYTES) + BYTES_PER_WAITING)
            + feed.snapshot.as_ref().map_or(0, |snapshot| snapshot.hold_bytes)
            + BYTES_PER_FEED;
        let fail = |source| RunError::BookMemory { feed: feed.name.clone(), bytes, source };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping overlaps no memory in use.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(fail(io::Error::last_os_error()));
        }
        // Books are hopped about in: fewer TLB misses on huge pages. Advice, may be refused.
        // SAFETY: the range is the mapping made above.
        unsafe { libc::madvise(base, bytes, libc::MADV_HUGEPAGE) };
        let base = NonNull::new(base.cast()).ok_or_else(|| fail(io::Error::other("at 0")))?;
        Ok(BookMemory { base, len: bytes })
    }

    /// All of it, zero at first.
    ///
    /// # Safety
    /// No other slice of it is in use, and this one is not any more when `self` is dropped.
    unsafe fn bytes<'m>(&self) -> &'m mut [u8] {
        // SAFETY: mapped, readable and writable for as long as `self` lives; the rest is the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for BookMemory {
    fn drop(&mut self) {
        // SAFETY: what mmap returned; slices of it borrowed from `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// The memory of all feeds that a run has made, also of those that are gone: it is there for as long
/// as this is.
#[derive(Debug, Default)]
pub(super) struct BookMemories {
    kept: Mutex<Vec<BookMemory>>,
}

impl BookMemories {
    fn keep(&self, memory: BookMemory) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

/// The pages that a feed has of its memory.
#[derive(Debug)]
pub(super) struct Pages {
    feed: usize,
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: an address, which `give_back` alone uses.
unsafe impl Send for Pages {}

impl Pages {
    /// Has the kernel give the pages now, rather than one by one when the first packets touch them.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: populating changes no content, and what is not mapped is an error.
        match unsafe {
            libc::madvise(self.base.as_ptr().cast(), self.bytes, libc::MADV_POPULATE_WRITE)
        } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The feed is not needed any more: the kernel has its pages back. Its addresses stay reserved.
    pub(super) fn give_back(self, feed: Feed<'_>) {
        if feed.index() != self.feed {
            return;
        }
        drop(feed);
        // SAFETY: the mapping is there until the run ends (it is lent for `'m`), and these are pages
        // of it that the feed alone had, which is gone; they are lent to nobody again.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, libc::MADV_DONTNEED) };
    }
}

/// A feed that the worker has.
#[derive(Debug)]
pub(super) struct AttachedFeed {
    pub(super) name: String,
    pub(super) index: usize,
    pub(super) pages: Pages,
    /// Its places of the segment's for depth.
    pub(super) depth_places: Vec<u32>,
}

/// The first of the segment's `slots` places for depth that none of `feeds` has.
pub(super) fn free_depth_places<'a>(
    slots: usize,
    feeds: impl IntoIterator<Item = &'a AttachedFeed>,
) -> impl Iterator<Item = u32> {
    let taken = feeds.into_iter().flat_map(|feed| feed.depth_places.iter().copied());
    let taken: HashSet<u32> = taken.collect();
    (0..slots as u32).filter(move |place| !taken.contains(place)) // at most 2^24
}

/// A feed that is ready to be attached.
#[derive(Debug)]
pub(super) struct MadeFeed<'m> {
    pub(super) feed: Feed<'m>,
    pub(super) pages: Pages,
    pub(super) depth_places: Vec<u32>,
    /// Why its memory could not be touched beforehand.
    pub(super) untouched: Option<io::Error>,
}

/// What the next feed gets of the segment, besides places for depth. Nothing of it is given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) feed: usize,
    pub(super) instrument: usize,
}

/// Makes feeds, one after the other.
#[derive(Debug)]
pub(super) struct FeedMaker<'m> {
    segment: SegmentWriter<'m>,
    memories: &'m BookMemories,
    prefault: bool,
    place: Place,
}

impl<'m> FeedMaker<'m> {
    /// Feeds of `segment`, whose memory `memories` keeps.
    pub(super) fn new(
        segment: SegmentWriter<'m>,
        memories: &'m BookMemories,
        prefault: bool,
    ) -> FeedMaker<'m> {
        FeedMaker { segment, memories, prefault, place: Place::default() }
    }

    /// What the next feed gets.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Feeds made since [`place`](FeedMaker::place) returned `place` are not attached after all.
    pub(super) fn rewind(&mut self, place: Place) {
        self.place = place;
    }

    /// Makes the next feed, with as many places for depth as it wants of those that are `free`. One that
    /// cannot be made leaves nothing behind.
    pub(super) fn make(
        &mut self,
        feed: &FeedConfig,
        free: &mut impl Iterator<Item = u32>,
        zones: Zones,
    ) -> Result<MadeFeed<'m>, RunError> {
        let memory = BookMemory::reserve(feed)?;
        // SAFETY: the only slice of it. A feed that comes of it may use it for `'m`: it is kept that
        // long. If none does, nothing that borrows from it outlives `make_in` (neither the error nor the
        // segment's writer can hold any of it), and only then is it unmapped.
        let bytes: &'m mut [u8] = unsafe { memory.bytes() };
        let made = self.make_in(bytes, feed, free, zones)?;
        self.memories.keep(memory);
        Ok(made)
    }

    fn make_in(
        &mut self,
        bytes: &'m mut [u8],
        feed: &FeedConfig,
        free: &mut impl Iterator<Item = u32>,
        zones: Zones,
    ) -> Result<MadeFeed<'m>, RunError> {
        let failed = |source| RunError::Feed { feed: feed.name.clone(), source };
        let base = NonNull::from(&mut *bytes).cast();
        // As it comes from the kernel it is zero. To zero it again would touch all of it, where nobody
        // asked for that: for 2^25 orders 10 GiB, and half a minute before a file's first packet.
        let mut arena = Arena::with_contents_as_found(bytes);
        let reserved = arena.left();
        let Place { feed: index, instrument } = self.place;
        let days = match feed.date {
            Some(date) => trading_days::on(zones, &feed.time_zone, date),
            None => trading_days::of(zones, &feed.time_zone),
        };
        // The zone was checked with the configuration.
        let days = days.unwrap_or_default();
        let (spec, segment) = (spec(feed, instrument), &self.segment);
        let mut made =
            Feed::new(index, feed.protocol, &spec, &days, segment, &mut arena).map_err(failed)?;
        let depth_places: Vec<u32> = free.take(feed.depths()).collect();
        if let Some(choice) = &feed.depth {
            let places = depth_places.iter().copied();
            made.choose_depth(choice, places, segment, &mut arena).map_err(failed)?;
        }
        if let Some(snapshot) = &feed.snapshot {
            let patience = JoinPatience {
                hold_bytes: snapshot.hold_bytes,
                wait_ns: snapshot.patience.as_nanos() as u64,
                after_loss: snapshot.after_loss,
            };
            made.join_by_snapshot(&patience, &mut arena).map_err(failed)?;
        }
        let pages = Pages { feed: index, base, bytes: reserved - arena.left() };
        let untouched = if self.prefault { pages.populate().err() } else { None };
        self.place = Place { feed: index + 1, instrument: instrument + feed.instruments };
        Ok(MadeFeed { feed: made, pages, depth_places, untouched })
    }
}

/// Attaches the configured feeds before the worker starts.
pub(super) fn attach_feeds<'m>(
    pipeline: &mut Pipeline<'m>,
    maker: &mut FeedMaker<'m>,
    config: &Config,
    notice: &mut dyn FnMut(Notice),
) -> Result<Vec<AttachedFeed>, RunError> {
    let mut attached = Vec::with_capacity(config.feeds.len());
    let mut free = free_depth_places(config.worker.depth_slots, []);
    for feed in &config.feeds {
        let MadeFeed { feed: made, pages, depth_places, untouched } =
            maker.make(feed, &mut free, Zones::System)?;
        let name = feed.name.clone();
        if let Some(error) = untouched {
            notice(Notice::Warning(format!(
                "cannot claim the memory of feed '{name}' at the start: {error}; the first packets \
                 will wait for it"
            )));
        }
        let index = made.index();
        if pipeline.attach(made).is_err() {
            return Err(RunError::Feed { feed: name, source: AddFeedError::TooManyFeeds });
        }
        attached.push(AttachedFeed { name, index, pages, depth_places });
    }
    Ok(attached)
}

fn spec(feed: &FeedConfig, first_instrument: usize) -> FeedSpec {
    FeedSpec {
        identity: FeedIdentity {
            name: text(&feed.name),
            protocol: text(feed.protocol.name()),
            group: feed.group.ip().octets(),
            port: feed.group.port(),
            first_instrument: first_instrument as u32, // at most 2^24
            instruments: feed.instruments as u32,
        },
        publisher_id: feed.publisher_id,
        orders: feed.max_orders as u32, // at most 2^28
        levels: feed.max_levels as u32,
        line_b: feed.group_b.map(|group| (group.ip().octets(), group.port())),
        patience: Patience {
            packets: feed.reorder_packets as u32, // at most 2^18
            packet_bytes: WAITING_BYTES,
            wait_ns: feed.reorder.as_nanos() as u64,
            recovery_ns: feed.recovery.as_ref().map(|it| it.patience.as_nanos() as u64),
        },
    }
}

/// The text, cut to what the segment has room for (the configuration allows no more).
fn text<const N: usize>(from: &str) -> heapless::String<N> {
    let mut text = heapless::String::new();
    for c in from.chars() {
        if text.push(c).is_err() {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use wiretape_core::segment::{SegmentLayout, SegmentSpec};

    use super::*;
    use crate::config::{Overrides, SnapshotConfig};

    const CONFIG: &str = r#"
[worker]
name = "w"
instruments = 16

[source]
kind = "pcap"
path = "day.pcap"

[[feed]]
name = "deep"
protocol = "deep10-iextp"
group = "224.2.3.10:16648"
instruments = 16
max_levels = 64
date = 2017-04-25
"#;

    const SEGMENT: SegmentSpec<'_> = SegmentSpec {
        worker: "w",
        epoch: 1,
        pid: 0,
        event_slots: 64,
        instruments: 16,
        feeds: 1,
        depths: 0,
    };

    /// Bytes of the feed's memory that the kernel has given.
    fn resident(pages: &Pages) -> usize {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let mut there = vec![0u8; pages.bytes.div_ceil(page)];
        // SAFETY: the range is mapped, and begins with a page; there is a byte for each page of it.
        let answer =
            unsafe { libc::mincore(pages.base.as_ptr().cast(), pages.bytes, there.as_mut_ptr()) };
        assert_eq!(answer, 0, "{}", io::Error::last_os_error());
        there.iter().filter(|page| **page & 1 == 1).count() * page
    }

    #[test]
    fn memory_is_touched_beforehand_only_where_that_was_asked_for() {
        let words = SegmentLayout::new(&SEGMENT).unwrap().total_words;
        let words: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let segment = SegmentWriter::create(&words, &SEGMENT).unwrap();
        let config = Config::parse("test.toml", CONFIG, &Overrides::default()).unwrap();
        let large = FeedConfig { max_levels: 1 << 20, ..config.feeds[0].clone() };
        let memories = BookMemories::default();
        for prefault in [false, true] {
            let mut maker = FeedMaker::new(segment, &memories, prefault);
            let made = maker.make(&large, &mut std::iter::empty(), Zones::Bundled).unwrap();
            assert!(made.untouched.is_none(), "{:?}", made.untouched);
            let (all, there) = (made.pages.bytes, resident(&made.pages));
            assert!(all > 32 << 20, "{all}");
            // A structure that has more than zeros at first touches a huge page or two.
            let expected = if prefault { all..=all.next_multiple_of(4096) } else { 0..=all / 2 };
            assert!(expected.contains(&there), "{there} of {all} bytes, {prefault}");
        }
    }

    #[test]
    fn feeds_that_fail_take_nothing_from_the_next() {
        let words = SegmentLayout::new(&SEGMENT).unwrap().total_words;
        let words: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let segment = SegmentWriter::create(&words, &SEGMENT).unwrap();
        let config = Config::parse("test.toml", CONFIG, &Overrides::default()).unwrap();
        let good = &config.feeds[0];
        let too_large = FeedConfig { max_orders: 1 << 50, ..good.clone() };
        let snapshot = SnapshotConfig {
            servers: Vec::new(),
            login: None,
            patience: Duration::ZERO,
            hold_bytes: 0,
            after_loss: false,
        };
        let no_such = FeedConfig { snapshot: Some(snapshot), ..good.clone() };

        let memories = BookMemories::default();
        let mut maker = FeedMaker::new(segment, &memories, false);
        let mut make = |feed: &FeedConfig, attached: bool| {
            let place = maker.place();
            let made = maker.make(feed, &mut std::iter::empty(), Zones::Bundled);
            if !attached {
                maker.rewind(place);
            }
            made
        };
        for _ in 0..100 {
            let error = make(&too_large, false).unwrap_err().to_string();
            assert!(error.contains("cannot reserve"), "{error}");
            let error = make(&no_such, false).unwrap_err().to_string();
            assert!(error.contains("no snapshots"), "{error}");
            let MadeFeed { feed, pages, .. } = make(good, false).expect("room for a feed");
            pages.give_back(feed);
        }
        make(good, true).expect("room for a feed");
        let error = make(good, true).unwrap_err().to_string();
        assert!(error.contains("no place for another feed"), "{error}");
        assert_eq!(memories.kept.lock().unwrap().len(), 101, "only of those that were made");
    }
}
