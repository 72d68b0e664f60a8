//! Carries the kernel's counters into the segment, so that the ledger can be read there: what the
//! XDP program saw and redirected, and what the socket dropped, since this capture began.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wiretape_core::segment::{Counter, Counters, QueueIdentity, SegmentWriter};

use crate::nic_stamps::StampCounts;
use crate::pins::{CounterMap, PinError};
use crate::xsk::StatisticsHandle;

/// Words of `struct steer_counters` (see `steer.h` of xdp-prog).
pub const STEER_WORDS: usize = 16;

/// The words of `struct steer_counters` that the segment mirrors, by index.
pub const STEER_COUNTERS: [(usize, Counter); 8] = [
    (0, Counter::XdpSeen),
    (1, Counter::XdpPassed),
    (2, Counter::XdpMatched),
    (3, Counter::XdpRedirected),
    (5, Counter::XdpNoSocket),
    (6, Counter::XdpFragments),
    (7, Counter::XdpMalformed),
    (8, Counter::XdpVlan),
];

/// What the worker's thread counts of one socket, for the control thread.
#[derive(Debug, Default)]
pub struct TakenCounts {
    frames: AtomicU64,
    thrown_away: AtomicU64,
    stamped: AtomicU64,
    unstamped: AtomicU64,
    refused: AtomicU64,
}

impl TakenCounts {
    /// Adds; one thread does.
    #[inline]
    pub fn add(&self, frames: u32, thrown_away: u32) {
        add(&self.frames, frames);
        add(&self.thrown_away, thrown_away);
    }

    /// Adds, by what the frames' times were taken from; the same thread.
    #[inline]
    pub fn add_stamps(&self, counts: StampCounts) {
        add(&self.stamped, counts.stamped);
        add(&self.unstamped, counts.unstamped);
        add(&self.refused, counts.refused);
    }

    /// Frames with the NIC's time, without, and refused.
    fn stamps(&self) -> [u64; 3] {
        [&self.stamped, &self.unstamped, &self.refused].map(|word| word.load(Ordering::Relaxed))
    }
}

#[inline]
fn add(word: &AtomicU64, amount: u32) {
    if amount > 0 {
        let sum = word.load(Ordering::Relaxed).wrapping_add(u64::from(amount));
        word.store(sum, Ordering::Relaxed);
    }
}

/// Reads the counters of one queue and of its socket.
#[derive(Debug)]
struct QueueFeeder {
    identity: QueueIdentity,
    map: CounterMap<STEER_WORDS>,
    /// What stood there before the socket was put into its place.
    baseline: [u64; STEER_WORDS],
    socket: StatisticsHandle,
    taken: Arc<TakenCounts>,
}

/// Carries the counters of all queues of a worker into the segment: each into its own block, their
/// sums into the worker's.
#[derive(Debug, Default)]
pub struct LedgerFeeder {
    queues: Vec<QueueFeeder>,
}

impl LedgerFeeder {
    /// Adds a queue of an interface, whose XDP program's maps are pinned in `pins`, and takes its
    /// baseline. Call it before the socket takes its place in the XSKMAP.
    pub fn add(
        &mut self,
        pins: &Path,
        identity: QueueIdentity,
        socket: StatisticsHandle,
        taken: Arc<TakenCounts>,
    ) -> Result<(), PinError> {
        let map = CounterMap::open(&pins.join("counters"))?;
        let baseline = map.read(identity.queue)?;
        self.queues.push(QueueFeeder { identity, map, baseline, socket, taken });
        Ok(())
    }

    /// Of queue number `index`: frames with the NIC's time, without, and refused.
    pub fn stamps(&self, index: usize) -> [u64; 3] {
        self.queues.get(index).map_or([0; 3], |queue| queue.taken.stamps())
    }

    /// Why the socket of queue number `index` will receive nothing any more, if so.
    pub fn socket_failure(&self, index: usize) -> Option<std::io::Error> {
        self.queues.get(index)?.socket.failure()
    }

    /// Writes the counters as they stand now. What cannot be read keeps its last value: a ledger
    /// that stands still shows as one that does not close.
    pub fn update(&self, segment: &SegmentWriter<'_>) {
        let mut sums = [0_u64; Counter::COUNT];
        for (index, queue) in self.queues.iter().enumerate() {
            let Some(block) = segment.queue(index) else { continue };
            if block.identity().is_none() {
                block.set_identity(&queue.identity);
            }
            queue.update(&block.counters());
            for (counter, sum) in Counter::ALL.iter().zip(&mut sums) {
                *sum = sum.wrapping_add(block.counters().get(*counter));
            }
        }
        let carried = STEER_COUNTERS.iter().map(|(_, counter)| *counter);
        for counter in carried.chain(SOCKET_COUNTERS).chain(STAMP_COUNTERS) {
            segment.counters().set(counter, sums[counter as usize]);
        }
    }
}

/// The socket's counters that the segment mirrors.
const SOCKET_COUNTERS: [Counter; 4] = [
    Counter::SocketDropped,
    Counter::SocketRingFull,
    Counter::SocketFillEmpty,
    Counter::SocketInvalid,
];

/// What frames' times were taken from, where the NIC is asked.
const STAMP_COUNTERS: [Counter; 3] =
    [Counter::NicStamped, Counter::NicUnstamped, Counter::NicRefused];

impl QueueFeeder {
    fn update(&self, counters: &Counters<'_>) {
        // What comes later on a packet's way first: one in flight then shows as not yet accounted
        // for.
        counters.set(Counter::Frames, self.taken.frames.load(Ordering::Relaxed));
        counters.set(Counter::FrameOversize, self.taken.thrown_away.load(Ordering::Relaxed));
        for (counter, count) in STAMP_COUNTERS.into_iter().zip(self.taken.stamps()) {
            counters.set(counter, count);
        }
        if let Ok(socket) = self.socket.read() {
            counters.set(Counter::SocketDropped, socket.rx_dropped);
            counters.set(Counter::SocketRingFull, socket.rx_ring_full);
            counters.set(Counter::SocketFillEmpty, socket.rx_fill_ring_empty_descs);
            counters.set(Counter::SocketInvalid, socket.rx_invalid_descs);
        }
        if let Ok(now) = self.map.read(self.identity.queue) {
            for (index, counter) in STEER_COUNTERS {
                if let (Some(now), Some(before)) = (now.get(index), self.baseline.get(index)) {
                    counters.set(counter, now.wrapping_sub(*before));
                }
            }
        }
    }
}
