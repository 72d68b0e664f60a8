//! What a line of the middle box does to its packets, decided from a seed: packet by packet in
//! the order in which they come, so that the same packets meet the same fates.

use std::ops::Range;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How a line is impaired; by itself not at all. The words are those of `tc netem`.
#[derive(Clone, Debug, Default)]
pub struct Impairment {
    /// All packets are this late,
    pub delay: Duration,
    /// more or less by up to this: each by its own amount, so that they overtake each other.
    pub jitter: Duration,
    /// Share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// Share of packets that come twice.
    pub duplicate: f64,
    /// By how much the second copy is later than it would be.
    pub copy_delay: Duration,
    /// Share of packets that are not delayed, and overtake those that are.
    pub reorder: f64,
    /// The line is dead for packets with any of these messages, or that announce one.
    pub dead: Vec<Range<u64>>,
}

/// Messages that a packet carries, from its MoldUDP64 header: none for one that only announces
/// what comes next.
pub fn messages(payload: &[u8]) -> Option<Range<u64>> {
    let first = u64::from_be_bytes(payload.get(10..18)?.try_into().ok()?);
    let count = u16::from_be_bytes(payload.get(18..20)?.try_into().ok()?);
    let count = if count == u16::MAX { 0 } else { count };
    Some(first..first + u64::from(count))
}

/// What came to a line and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Packets that came.
    pub packets: u64,
    /// Packets that went on, copies included.
    pub forwarded: u64,
    /// Messages in packets that went on twice.
    pub doubled: u64,
    /// Messages of which no copy went on, in the order in which they came.
    pub dropped: Vec<Range<u64>>,
}

impl Account {
    /// How many messages were dropped.
    pub fn dropped_messages(&self) -> u64 {
        self.dropped.iter().map(|range| range.end - range.start).sum()
    }
}

/// A line of the middle box.
pub struct Line {
    how: Impairment,
    random: ChaCha8Rng,
    /// What it did so far.
    pub account: Account,
}

impl Line {
    /// Line number `stream` of those with this seed.
    pub fn new(how: Impairment, seed: u64, stream: u64) -> Line {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Line { how, random, account: Account::default() }
    }

    fn share(&mut self) -> f64 {
        f64::from(self.random.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }

    fn is_dead(&self, messages: &Range<u64>) -> bool {
        let end = messages.end.max(messages.start + 1);
        self.how.dead.iter().any(|dead| dead.start < end && messages.start < dead.end)
    }

    fn delay(&mut self) -> Duration {
        let (at_once, place) = (self.share() < self.how.reorder, self.share());
        if at_once {
            return Duration::ZERO;
        }
        let span = self.how.jitter.mul_f64(2.0 * place);
        (self.how.delay + span).saturating_sub(self.how.jitter)
    }

    /// By how much each copy of a packet is to be late.
    pub fn fate(&mut self, messages: Range<u64>) -> Vec<Duration> {
        // The same draws whatever they come to: one packet's fate does not hang on another's.
        let (lost, twice) = (self.share() < self.how.loss, self.share() < self.how.duplicate);
        let (first, second) = (self.delay(), self.delay() + self.how.copy_delay);
        let mut copies = if lost { vec![] } else { vec![first] };
        if twice {
            copies.push(second);
        }
        if self.is_dead(&messages) {
            copies.clear();
        }
        self.account.packets += 1;
        self.account.forwarded += copies.len() as u64;
        match copies.len() {
            0 if !messages.is_empty() => self.account.dropped.push(messages),
            2 => self.account.doubled += messages.end - messages.start,
            _ => {}
        }
        copies
    }
}

/// `ranges` in order, those that touch made one.
pub fn merged(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// What is in `a` and in `b`, merged.
pub fn in_both(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let (a, b) = (merged(a), merged(b));
    let both = |a: &Range<u64>, b: &Range<u64>| a.start.max(b.start)..a.end.min(b.end);
    let ranges: Vec<_> = a.iter().flat_map(|a| b.iter().map(move |b| both(a, b))).collect();
    merged(&ranges.into_iter().filter(|range| !range.is_empty()).collect::<Vec<_>>())
}
