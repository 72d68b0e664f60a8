//! Sets up the pipeline's feeds, and the memory for their books.

use std::io;
use std::ptr::NonNull;

use wiretape_core::arena::Arena;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::arbiter::join::JoinPatience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::Pipeline;
use wiretape_core::segment::FeedIdentity;

use super::RunError;
use crate::config::{Config, FeedConfig};
use crate::trading_days;

/// Address space per order, level and instrument: several times what books take. Only what the
/// arena gives out is ever touched, and address space is free.
const BYTES_PER_ORDER: usize = 512;
const BYTES_PER_LEVEL: usize = 512;
const BYTES_PER_INSTRUMENT: usize = 4096;
/// Longest datagram that can wait for its turn: a jumbo frame's.
const WAITING_BYTES: u16 = 9_216;
const BYTES_PER_WAITING: usize = 64;
const BYTES_PER_FEED: usize = 256 << 20;

/// Anonymous memory for the books of all feeds.
#[derive(Debug)]
pub(super) struct BookMemory {
    base: NonNull<u8>,
    len: usize,
}

impl BookMemory {
    pub(super) fn reserve(feeds: &[FeedConfig]) -> Result<BookMemory, RunError> {
        let bytes: usize = feeds
            .iter()
            .map(|feed| {
                feed.max_orders * BYTES_PER_ORDER
                    + feed.max_levels * BYTES_PER_LEVEL
                    + feed.instruments * BYTES_PER_INSTRUMENT
                    + feed.reorder_packets * (usize::from(WAITING_BYTES) + BYTES_PER_WAITING)
                    + feed.snapshot.as_ref().map_or(0, |snapshot| snapshot.hold_bytes)
                    + BYTES_PER_FEED
            })
            .sum();
        let fail = |source| RunError::BookMemory { bytes, source };
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

    /// Where it begins.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped, readable and writable, zero at first, for as long as `self` lives; the
        // exclusive borrow makes it the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for BookMemory {
    fn drop(&mut self) {
        // SAFETY: what mmap returned; slices of it borrowed from `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Has the kernel give the pages of `bytes` bytes from `base` on now, rather than one by one when the
/// first packets touch them.
pub(super) fn populate(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: populating changes no content, and what is not mapped is an error.
    match unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Adds the configured feeds. Days that the configuration does not fix are taken around
/// `first_packet_ns`.
pub(super) fn add_feeds<'m>(
    pipeline: &mut Pipeline<'m>,
    arena: &mut Arena<'m>,
    config: &Config,
    first_packet_ns: u64,
) -> Result<(), RunError> {
    let (mut first_instrument, mut first_place) = (0, 0);
    for feed in &config.feeds {
        let spec = FeedSpec {
            identity: FeedIdentity {
                name: text(&feed.name),
                protocol: text(feed.protocol.name()),
                group: feed.group.ip().octets(),
                port: feed.group.port(),
                first_instrument,
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
        };
        let days = match feed.date {
            Some(date) => trading_days::on(&feed.time_zone, date),
            None => trading_days::around(&feed.time_zone, first_packet_ns),
        };
        // The zone was checked with the configuration.
        let days = days.unwrap_or_else(|| TradingDays::new([]));
        let failed = |source| RunError::Feed { feed: feed.name.clone(), source };
        let index = pipeline.add_feed(feed.protocol, &spec, &days, arena).map_err(failed)?;
        if let Some(choice) = &feed.depth {
            pipeline
                .choose_depth(index, choice, first_place, feed.depths(), arena)
                .map_err(failed)?;
        }
        if let Some(snapshot) = &feed.snapshot {
            let patience = JoinPatience {
                hold_bytes: snapshot.hold_bytes,
                wait_ns: snapshot.patience.as_nanos() as u64,
                after_loss: snapshot.after_loss,
            };
            pipeline.join_by_snapshot(index, &patience, arena).map_err(failed)?;
        }
        first_instrument += feed.instruments as u32;
        first_place += feed.depths();
    }
    Ok(())
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
