//! Carries the kernel's counters into the segment, so that the ledger can be read there: what the
//! XDP program saw and redirected, and what the socket dropped, since this capture began.

use std::cell::{Cell, RefCell};
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

/// The word of `struct steer_counters` that counts packets of our groups without a socket.
const NO_SOCKET: usize = 5;

/// How often counters are read until they belong together: the program may be in the middle of a
/// packet, on any processor.
const READS_MAX: usize = 32;

/// Reads a queue's counters at a moment between two packets, if there is one.
fn read_whole(map: &CounterMap<STEER_WORDS>, queue: u32) -> Result<[u64; STEER_WORDS], PinError> {
    let mut words = map.read(queue)?;
    for _ in 1..READS_MAX {
        let [seen, passed, matched, redirected, _, no_socket, fragments, malformed, ..] = words;
        let parts = [passed, fragments, malformed, redirected, no_socket];
        let sum = parts.into_iter().fold(0u64, u64::wrapping_add);
        if seen == sum && matched == redirected.wrapping_add(no_socket) {
            break;
        }
        words = map.read(queue)?;
    }
    Ok(words)
}

/// Reads the counters of one queue and of its socket.
#[derive(Debug)]
struct QueueFeeder {
    identity: QueueIdentity,
    map: CounterMap<STEER_WORDS>,
    /// What stood there before the socket was put into its place.
    baseline: [u64; STEER_WORDS],
    /// `None` once it was closed.
    socket: RefCell<Option<StatisticsHandle>>,
    taken: Arc<TakenCounts>,
}

/// A queue of a worker's interface that the worker does not serve.
#[derive(Debug)]
struct OtherQueue {
    number: u32,
    /// Packets of steered groups that found no socket there, before this capture.
    baseline: u64,
    /// The same, since.
    unserved: Cell<u64>,
    /// Looks in a row that found more.
    in_a_row: Cell<u32>,
    told: Cell<bool>,
}

/// The queues of an interface that the worker does not serve. Somebody else may; where nobody does,
/// packets of our groups go to the kernel, and no socket's counter moves.
#[derive(Debug)]
struct OtherQueues {
    interface: String,
    map: CounterMap<STEER_WORDS>,
    queues: Vec<OtherQueue>,
}

/// Looks in a row at which a queue without a socket had brought packets, until that is told: a
/// worker of its own may be about to start.
const UNSERVED_LOOKS: u32 = 3;

/// Carries the counters of all queues of a worker into the segment: each into its own block, their
/// sums into the worker's.
#[derive(Debug, Default)]
pub struct LedgerFeeder {
    queues: Vec<QueueFeeder>,
    others: Vec<OtherQueues>,
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
        let baseline = read_whole(&map, identity.queue)?;
        let socket = RefCell::new(Some(socket));
        self.queues.push(QueueFeeder { identity, map, baseline, socket, taken });
        Ok(())
    }

    /// Watches the queues of an interface that the worker does not serve, for packets that find no
    /// socket there. Call it after all queues were added.
    pub fn watch_others(&mut self, pins: &Path, interface: &str) -> Result<(), PinError> {
        let map = CounterMap::open(&pins.join("counters"))?;
        let own = |number: &u32| {
            let is = |one: &QueueFeeder| {
                one.identity.interface == interface && one.identity.queue == *number
            };
            self.queues.iter().any(is)
        };
        let mut queues = Vec::new();
        for number in (0..map.queues()).filter(|number| !own(number)) {
            let baseline = map.read(number)?[NO_SOCKET];
            queues.push(OtherQueue {
                number,
                baseline,
                unserved: Cell::new(0),
                in_a_row: Cell::new(0),
                told: Cell::new(false),
            });
        }
        self.others.push(OtherQueues { interface: interface.to_owned(), map, queues });
        Ok(())
    }

    /// Counts packets of steered groups on queues that nobody serves; returns the queues where they
    /// go on coming, each once.
    pub fn look_at_others(&self, segment: &SegmentWriter<'_>) -> Vec<(String, u32)> {
        let (mut total, mut found) = (0_u64, Vec::new());
        for one in &self.others {
            for queue in &one.queues {
                if let Ok(words) = one.map.read(queue.number)
                    && queue.look(words[NO_SOCKET])
                {
                    found.push((one.interface.clone(), queue.number));
                }
                total = total.wrapping_add(queue.unserved.get());
            }
        }
        segment.counters().set(Counter::XdpUnserved, total);
        found
    }

    /// Of queue number `index`: frames with the NIC's time, without, and refused.
    pub fn stamps(&self, index: usize) -> [u64; 3] {
        self.queues.get(index).map_or([0; 3], |queue| queue.taken.stamps())
    }

    /// Packets that the socket of queue number `index` dropped for another reason than that no frame was
    /// free: no frame holds them.
    pub fn too_long(&self, index: usize) -> u64 {
        let statistics = || self.queues.get(index)?.socket.borrow().as_ref()?.read().ok();
        statistics().map_or(0, |one| one.rx_dropped.saturating_sub(one.rx_fill_ring_empty_descs))
    }

    /// Why the socket of queue number `index` will receive nothing any more, if so.
    pub fn socket_failure(&self, index: usize) -> Option<std::io::Error> {
        self.queues.get(index)?.socket.borrow().as_ref()?.failure()
    }

    /// Closes what keeps the socket of queue number `index` open; its counters stay as they are.
    pub fn close(&self, index: usize) {
        if let Some(queue) = self.queues.get(index) {
            queue.socket.replace(None);
        }
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

impl OtherQueue {
    /// Takes in how many packets found no socket; whether it is time to tell somebody.
    fn look(&self, now: u64) -> bool {
        let unserved = now.wrapping_sub(self.baseline);
        let more = unserved > self.unserved.replace(unserved);
        self.in_a_row.set(if more { self.in_a_row.get().saturating_add(1) } else { 0 });
        self.in_a_row.get() >= UNSERVED_LOOKS && !self.told.replace(true)
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
        if let Some(Ok(socket)) = self.socket.borrow().as_ref().map(StatisticsHandle::read) {
            counters.set(Counter::SocketDropped, socket.rx_dropped);
            counters.set(Counter::SocketRingFull, socket.rx_ring_full);
            counters.set(Counter::SocketFillEmpty, socket.rx_fill_ring_empty_descs);
            counters.set(Counter::SocketInvalid, socket.rx_invalid_descs);
        }
        if let Ok(now) = read_whole(&self.map, self.identity.queue) {
            for (index, counter) in STEER_COUNTERS {
                if let (Some(now), Some(before)) = (now.get(index), self.baseline.get(index)) {
                    counters.set(counter, now.wrapping_sub(*before));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_without_a_socket_is_told_of_once_and_when_packets_go_on_coming() {
        let queue = OtherQueue {
            number: 1,
            baseline: 100,
            unserved: Cell::new(0),
            in_a_row: Cell::new(0),
            told: Cell::new(false),
        };
        let told = [100, 101, 102, 102, 103, 104, 105, 106].map(|now| queue.look(now));
        assert_eq!(told, [false, false, false, false, false, false, true, false]);
        assert_eq!(queue.unserved.get(), 6);
        assert!(!queue.look(106) && !queue.look(107) && !queue.look(108) && !queue.look(109));
    }
}
