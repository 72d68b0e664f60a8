//! Packets of several queues become one sequence, in the order of their receive times.
//!
//! Each queue gives its packets in order, so the earliest packet of all is at the front of one of
//! them. It goes out as soon as every queue has one; for a queue that is silent it waits a little,
//! and never longer than there is room. Stamps of the worker's clock rise over all its queues, and
//! what is stamped earlier is shared earlier: one more look at a silent queue is enough for them,
//! and the order is always exact. Stamps of cards come from clocks that differ, and a packet may
//! be shared up to the worker's turn through its queues late: that is what the wait is for. One
//! that comes later still stands behind those that went before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wiretape_core::frames::{PACKET_MAX, Packet};

/// How long a packet waits for queues that have none.
const PATIENCE: Duration = Duration::from_millis(2);
/// Bytes of a queue's packets that wait.
const WAITING_MAX: usize = 4 << 20;

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// What it is.
    pub packet: Packet,
    /// Packets of its queue missed in front of it.
    pub missing: u64,
    turn: u64,
    since: Instant,
}

/// Packets that were read and not written yet.
#[derive(Debug)]
pub(super) struct LookAhead {
    queues: Vec<Queue>,
    /// Number and beginning of the recorder's turn through the queues.
    turn: u64,
    now: Instant,
    /// Nothing more will come.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Waiting>,
    /// Their bytes, one behind the other.
    bytes: VecDeque<u8>,
    /// The latest turn in which nothing more was found.
    empty_in: u64,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.bytes.len() + PACKET_MAX <= WAITING_MAX
    }
}

impl LookAhead {
    /// Nothing waits yet of so many queues.
    pub fn new(queues: usize) -> LookAhead {
        let queues = (0..queues).map(|_| Queue::default()).collect();
        LookAhead { queues, turn: 0, now: Instant::now(), is_over: false }
    }

    /// A turn through all queues begins: each is looked at until it has no more, or no room.
    pub fn begin_turn(&mut self, now: Instant) {
        self.turn += 1;
        self.now = now;
    }

    /// Whether another packet of the queue may be pushed.
    pub fn has_room(&self, queue: usize) -> bool {
        self.queues.get(queue).is_some_and(Queue::has_room)
    }

    /// Takes the next packet of a queue, of whose bytes those beyond its length do not count.
    pub fn push(&mut self, queue: usize, packet: Packet, missing: u64, bytes: &[u8]) {
        let Some(queue) = self.queues.get_mut(queue) else { return };
        let bytes = bytes.get(..packet.len).unwrap_or(bytes);
        let packet = Packet { len: bytes.len(), ..packet };
        queue.bytes.extend(bytes);
        queue.packets.push_back(Waiting { packet, missing, turn: self.turn, since: self.now });
    }

    /// In this turn the queue had nothing more.
    pub fn found_empty(&mut self, queue: usize) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.empty_in = self.turn;
        }
    }

    /// Nothing more will come: what waits goes out.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// The packet whose turn it is, with the number of its queue; its bytes replace those in
    /// `bytes`.
    pub fn pop(&mut self, bytes: &mut Vec<u8>) -> Option<(usize, Waiting)> {
        let fronts = self.queues.iter().enumerate();
        let fronts = fronts.filter_map(|(index, queue)| Some((index, queue.packets.front()?)));
        // Of equal times the first queue's: the worker goes through them in this order.
        let (index, first) = fronts.min_by_key(|(_, front)| front.packet.ts_recv)?;
        let mut silent = self.queues.iter().filter(|queue| queue.packets.is_empty()).peekable();
        if silent.peek().is_some() && !self.is_over {
            let full = !self.queues.iter().all(Queue::has_room);
            let waited = self.now.duration_since(first.since) >= PATIENCE;
            // Each silent queue had nothing after the packet had been read.
            let looked = silent.all(|queue| queue.empty_in > first.turn);
            if !looked || !(waited || full) {
                return None;
            }
        }
        let queue = self.queues.get_mut(index)?;
        let waiting = queue.packets.pop_front()?;
        bytes.clear();
        bytes.extend(queue.bytes.drain(..waiting.packet.len));
        Some((index, waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(ts_recv: u64, len: usize) -> Packet {
        Packet { number: ts_recv, len, frames: 1, ts_recv }
    }

    /// What goes out now.
    fn all(ahead: &mut LookAhead) -> Vec<(usize, u64)> {
        let mut bytes = Vec::new();
        let mut out = Vec::new();
        while let Some((queue, Waiting { packet, .. })) = ahead.pop(&mut bytes) {
            assert_eq!(bytes, vec![packet.ts_recv as u8; packet.len]);
            out.push((queue, packet.ts_recv));
        }
        out
    }

    fn push(ahead: &mut LookAhead, queue: usize, ts_recv: u64) {
        ahead.push(queue, packet(ts_recv, 60), 0, &[ts_recv as u8; 100]);
    }

    #[test]
    fn packets_go_out_by_time_and_wait_a_little_for_a_silent_queue() {
        let mut ahead = LookAhead::new(2);
        let start = Instant::now();
        ahead.begin_turn(start);
        [10, 20, 30].iter().for_each(|time| push(&mut ahead, 0, *time));
        assert_eq!(all(&mut ahead), [], "the other queue may have an earlier one");
        [15, 20].iter().for_each(|time| push(&mut ahead, 1, *time));
        assert_eq!(all(&mut ahead), [(0, 10), (1, 15), (0, 20), (1, 20)]);
        ahead.begin_turn(start + PATIENCE / 2);
        ahead.found_empty(1);
        assert_eq!(all(&mut ahead), []);
        ahead.begin_turn(start + PATIENCE);
        assert_eq!(all(&mut ahead), [(0, 30)]);
        // One that comes later than that stands behind, and holds nothing up.
        push(&mut ahead, 1, 25);
        push(&mut ahead, 0, 40);
        assert_eq!(all(&mut ahead), [(1, 25)]);
        ahead.end();
        assert_eq!(all(&mut ahead), [(0, 40)]);
    }

    #[test]
    fn one_queue_waits_for_nobody() {
        let mut ahead = LookAhead::new(1);
        push(&mut ahead, 0, 7);
        assert_eq!(all(&mut ahead), [(0, 7)]);
        assert_eq!(all(&mut LookAhead::new(0)), []);
    }

    #[test]
    fn a_queue_that_is_full_does_not_wait_longer_than_one_turn() {
        let mut ahead = LookAhead::new(3);
        let start = Instant::now();
        ahead.begin_turn(start);
        push(&mut ahead, 1, 5);
        let mut time = 10;
        while ahead.has_room(0) {
            ahead.push(0, packet(time, 9000), 0, &[time as u8; 9000]);
            time += 1;
        }
        assert_eq!(all(&mut ahead), [], "queue 2 was not looked at since");
        ahead.begin_turn(start);
        assert_eq!(all(&mut ahead), [], "nor in this turn");
        [1, 2].iter().for_each(|queue| ahead.found_empty(*queue));
        let out = all(&mut ahead);
        assert_eq!(out, [(1, 5), (0, 10)]);
        assert!(ahead.has_room(0));
    }

    proptest! {
        /// A worker stamps and shares in one order; whenever the recorder looks, and however it
        /// is interrupted, what it writes is in that order.
        #[test]
        fn stamps_of_one_clock_give_one_order(
            shared in prop::collection::vec(0..3_usize, 1..200),
            looks in prop::collection::vec((0..20_usize, 1..8_usize, 0..3_u64), 1..200),
        ) {
            let mut ahead = LookAhead::new(3);
            let (start, mut out) = (Instant::now(), Vec::new());
            let mut published = 0;
            let mut read = [0; 3];
            let mut time = Duration::ZERO;
            let turn = |ahead: &mut LookAhead, published: &mut usize, more: usize, most: usize,
                            read: &mut [usize; 3]| {
                for (queue, read) in read.iter_mut().enumerate() {
                    // The worker goes on between the looks at two queues.
                    *published = (*published + more).min(shared.len());
                    let of_queue = shared[..*published].iter().zip(1..);
                    let new = of_queue.filter(|(one, _)| **one == queue).skip(*read);
                    let before = *read;
                    for (_, ts_recv) in new.take(most) {
                        push(ahead, queue, ts_recv);
                        *read += 1;
                    }
                    if *read < before + most {
                        ahead.found_empty(queue);
                    }
                }
            };
            for (more, most, millis) in looks {
                time += Duration::from_millis(millis);
                ahead.begin_turn(start + time);
                turn(&mut ahead, &mut published, more, most, &mut read);
                out.extend(all(&mut ahead));
            }
            ahead.begin_turn(start + time);
            turn(&mut ahead, &mut published, shared.len(), shared.len(), &mut read);
            turn(&mut ahead, &mut published, 0, shared.len(), &mut read);
            ahead.end();
            out.extend(all(&mut ahead));
            let expected: Vec<_> = shared.iter().copied().zip(1..).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
