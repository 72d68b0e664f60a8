//! The ledger: what the XDP program saw on the worker's queues, against what became of it.
//! Promise 1: nothing is lost in silence.
//!
//! ```text
//!   seen       = redirected + no socket + passed + fragments + malformed
//!   redirected = taken by the worker + oversize + dropped by the socket + RX ring full
//!   taken      = datagrams of a feed + other group + malformed, by cause
//! ```
//!
//! `rx_fill_ring_empty_descs` and `rx_dropped` count the same loss, so only the latter enters.
//! While packets move, the counters are read one after the other and the ledger can be off by
//! what is in flight; once the source is still, it closes or something is wrong.

use super::counters::{Counter, Counters};

/// One line of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// The counter.
    pub counter: Counter,
    /// Its value when the ledger was taken.
    pub packets: u64,
}

/// The three sums, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// What the XDP program saw; `None` if the source has no XDP program (pcap).
    pub seen: Option<u64>,
    /// What the XDP program did with the packets that it saw.
    pub verdicts: [LedgerRow; VERDICTS.len()],
    /// What the XDP program redirected; `None` if the source has no XDP program (pcap).
    pub redirected: Option<u64>,
    /// Where redirected packets went.
    pub arrivals: [LedgerRow; ARRIVALS.len()],
    /// What the worker made of the frames it took.
    pub outcomes: [LedgerRow; OUTCOMES.len()],
}

const VERDICTS: [Counter; 5] = [
    Counter::XdpRedirected,
    Counter::XdpNoSocket,
    Counter::XdpPassed,
    Counter::XdpFragments,
    Counter::XdpMalformed,
];

const ARRIVALS: [Counter; 4] =
    [Counter::Frames, Counter::FrameOversize, Counter::SocketDropped, Counter::SocketRingFull];

const OUTCOMES: [Counter; 7] = [
    Counter::Datagrams,
    Counter::OtherGroup,
    Counter::FrameTruncated,
    Counter::FrameNotIpv4,
    Counter::FrameFragment,
    Counter::FrameNotUdp,
    Counter::FrameBadHeader,
];

impl Ledger {
    /// Reads the counters. `live` says whether an XDP program stands in front of the worker.
    pub fn read(counters: &Counters<'_>, live: bool) -> Self {
        let row = |counter| LedgerRow { counter, packets: counters.get(counter) };
        // What comes later on a packet's way is read first, so that a packet in flight shows up
        // as not yet accounted for rather than as counted twice.
        let outcomes = OUTCOMES.map(row);
        let arrivals = ARRIVALS.map(row);
        let verdicts = VERDICTS.map(row);
        let [redirected, ..] = verdicts;
        Ledger {
            seen: live.then(|| counters.get(Counter::XdpSeen)),
            verdicts,
            redirected: live.then_some(redirected.packets),
            arrivals,
            outcomes,
        }
    }

    /// Packets that the XDP program saw and that are not accounted for.
    pub fn unaccounted_verdicts(&self) -> i64 {
        self.seen.map_or(0, |seen| difference(seen, &self.verdicts))
    }

    /// Packets redirected and not accounted for; negative if more came out than went in.
    pub fn unaccounted_arrivals(&self) -> i64 {
        match self.redirected {
            Some(redirected) => difference(redirected, &self.arrivals),
            None => 0,
        }
    }

    /// Frames taken and not accounted for.
    pub fn unaccounted_outcomes(&self) -> i64 {
        let [frames, ..] = self.arrivals;
        difference(frames.packets, &self.outcomes)
    }

    /// Whether all sums close.
    pub fn closes(&self) -> bool {
        [self.unaccounted_verdicts(), self.unaccounted_arrivals(), self.unaccounted_outcomes()]
            == [0; 3]
    }

    /// Packets that were ours and never reached a feed: dropped on the way in.
    pub fn lost(&self) -> u64 {
        let [_, lost @ ..] = self.arrivals;
        lost.iter().fold(0u64, |sum, row| sum.saturating_add(row.packets))
    }
}

fn difference(total: u64, rows: &[LedgerRow]) -> i64 {
    let sum = rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.packets));
    total.wrapping_sub(sum) as i64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;
    use std::vec::Vec;

    #[test]
    fn a_missing_packet_keeps_the_ledger_open() {
        let words: Vec<AtomicU64> = (0..Counter::COUNT).map(|_| AtomicU64::new(0)).collect();
        let counters = Counters::new(&words);
        counters.set(Counter::XdpSeen, 20);
        counters.set(Counter::XdpPassed, 4);
        counters.set(Counter::XdpFragments, 3);
        counters.set(Counter::XdpMalformed, 2);
        counters.set(Counter::XdpRedirected, 10);
        counters.set(Counter::Frames, 7);
        counters.set(Counter::SocketRingFull, 2);
        // The same loss as another row: must not be counted twice.
        counters.set(Counter::SocketFillEmpty, 2);
        counters.set(Counter::Datagrams, 6);
        counters.set(Counter::FrameFragment, 1);
        let ledger = Ledger::read(&counters, true);
        assert_eq!((ledger.unaccounted_arrivals(), ledger.unaccounted_outcomes()), (1, 0));
        assert!(!ledger.closes());
        counters.add(Counter::SocketDropped, 1);
        let ledger = Ledger::read(&counters, true);
        assert_eq!((ledger.unaccounted_verdicts(), ledger.unaccounted_arrivals()), (1, 0));
        assert!(!ledger.closes());
        counters.add(Counter::XdpNoSocket, 1);
        assert!(Ledger::read(&counters, true).closes());
        assert_eq!(Ledger::read(&counters, true).lost(), 3);
        counters.add(Counter::OtherGroup, 1);
        assert_eq!(Ledger::read(&counters, false).unaccounted_outcomes(), -1);
    }
}
