//! Carries the kernel's counters into the segment, so that the ledger can be read there: what the
//! XDP program saw and redirected, and what the socket dropped, since this capture began.

use std::path::Path;

use wiretape_core::segment::{Counter, Counters};

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

/// Reads the counters of one queue and of its socket.
#[derive(Debug)]
pub struct LedgerFeeder {
    map: CounterMap<STEER_WORDS>,
    queue: u32,
    /// What stood there before the socket was put into its place.
    baseline: [u64; STEER_WORDS],
    socket: StatisticsHandle,
}

impl LedgerFeeder {
    /// Takes the baseline. Call it before the socket takes its place in the XSKMAP.
    pub fn new(
        pins: &Path,
        queue: u32,
        socket: StatisticsHandle,
    ) -> Result<LedgerFeeder, PinError> {
        let map = CounterMap::open(&pins.join("counters"))?;
        let baseline = map.read(queue)?;
        Ok(LedgerFeeder { map, queue, baseline, socket })
    }

    /// Why the socket will receive nothing any more, if so.
    pub fn socket_failure(&self) -> Option<std::io::Error> {
        self.socket.failure()
    }

    /// Writes the counters as they stand now. What cannot be read keeps its last value: a ledger
    /// that stands still shows as one that does not close.
    pub fn update(&self, counters: &Counters<'_>) {
        // The socket first: a packet in flight then shows as not yet accounted for.
        if let Ok(socket) = self.socket.read() {
            counters.set(Counter::SocketDropped, socket.rx_dropped);
            counters.set(Counter::SocketRingFull, socket.rx_ring_full);
            counters.set(Counter::SocketFillEmpty, socket.rx_fill_ring_empty_descs);
            counters.set(Counter::SocketInvalid, socket.rx_invalid_descs);
        }
        if let Ok(now) = self.map.read(self.queue) {
            for (index, counter) in STEER_COUNTERS {
                if let (Some(now), Some(before)) = (now.get(index), self.baseline.get(index)) {
                    counters.set(counter, now.wrapping_sub(*before));
                }
            }
        }
    }
}
