//! One line of a feed by itself: what came on it, what was missing, and how late it is against the
//! other. Nothing here decides what is published; see [`arbiter`](super::arbiter).

use super::holes::Holes;
use super::session::{JUMP_LIMIT, Packet};
use crate::arena::{Arena, ArenaError};
use crate::histogram::Histogram;
use crate::segment::{LineCounter, LineWriter};

/// Holes that are remembered, to tell what comes late from what comes twice: those of a line that
/// loses a packet in ten and on which the others overtake each other by thousands.
const HOLES: usize = 4096;

/// Keeps the counters of a line.
#[derive(Debug)]
pub struct Line<'m> {
    writer: LineWriter<'m>,
    lateness: Option<Histogram<'m>>,
    session: [u8; 10],
    /// What comes next; 0 before the first packet.
    next_seq: u64,
    /// Ranges that were missing when later messages came.
    holes: Holes<'m>,
    /// First and next number of the latest packet that was too far ahead to be believed alone.
    jump: [u64; 2],
}

impl<'m> Line<'m> {
    /// A line that counts in `writer`'s block.
    ///
    /// # Errors
    /// The arena is used up.
    pub fn new(writer: LineWriter<'m>, arena: &mut Arena<'m>) -> Result<Self, ArenaError> {
        Ok(Line {
            writer,
            lateness: writer.lateness(),
            session: [0; 10],
            next_seq: 0,
            holes: Holes::new(HOLES, arena)?,
            jump: [0; 2],
        })
    }

    /// Takes note of a well-formed packet.
    #[inline]
    pub fn on_packet(&mut self, packet: &Packet, received_ns: u64) {
        self.writer.add(LineCounter::Packets, 1);
        self.writer.set(LineCounter::LastPacketNs, received_ns);
        if packet.seq == self.next_seq && packet.session == self.session {
            self.advance(packet);
            return;
        }
        self.out_of_order(packet);
    }

    /// Takes note of what a re-request server answered: in any order, and of a session's messages no more
    /// than were asked for, so that nothing is known to be missing or to come twice.
    #[cold]
    pub fn on_answer(&self, packet: &Packet, received_ns: u64) {
        self.writer.add(LineCounter::Packets, 1);
        self.writer.set(LineCounter::LastPacketNs, received_ns);
        self.writer.add(LineCounter::Messages, packet.count);
    }

    #[inline]
    fn advance(&mut self, packet: &Packet) {
        self.next_seq = packet.seq.saturating_add(packet.count);
        self.writer.add(LineCounter::Messages, packet.count);
        self.writer.set(LineCounter::NextSeq, self.next_seq);
    }

    fn out_of_order(&mut self, packet: &Packet) {
        if self.next_seq == 0 || packet.session != self.session {
            (self.session, self.jump) = (packet.session, [0; 2]);
            self.holes.clear();
            return self.advance(packet);
        }
        let missing = packet.seq.saturating_sub(self.next_seq);
        if missing > JUMP_LIMIT {
            return self.far_ahead(packet);
        }
        if missing > 0 {
            self.skip_to(packet.seq);
            return self.advance(packet);
        }
        let end = packet.seq.saturating_add(packet.count);
        let known_end = end.min(self.next_seq);
        let filled = self.holes.fill(packet.seq, known_end);
        self.writer.add(LineCounter::Filled, filled);
        let known = known_end.saturating_sub(packet.seq).saturating_sub(filled);
        self.writer.add(LineCounter::Duplicates, known);
        self.writer.add(LineCounter::Messages, packet.count.saturating_sub(known));
        self.next_seq = self.next_seq.max(end);
        self.writer.set(LineCounter::NextSeq, self.next_seq);
    }

    /// Takes note that all up to `seq` is missing.
    fn skip_to(&mut self, seq: u64) {
        self.writer.add(LineCounter::Skipped, seq.saturating_sub(self.next_seq));
        self.holes.push(self.next_seq, seq);
    }

    /// A packet that is damaged, or the line was away for long, which one that continues it confirms: as
    /// with the [session](super::session), which knows nothing of it where the other line went on.
    #[cold]
    fn far_ahead(&mut self, packet: &Packet) {
        let [first, next] = self.jump;
        if packet.seq != next || first <= self.next_seq {
            self.jump = [packet.seq, packet.seq.saturating_add(packet.count)];
            return;
        }
        self.skip_to(first);
        self.writer.add(LineCounter::Messages, next.saturating_sub(first));
        self.advance(packet);
    }

    /// Counts a packet that was malformed.
    pub fn malformed(&self) {
        self.writer.add(LineCounter::Malformed, 1);
    }

    /// Counts a packet, and its messages, of a session that was over when it came.
    pub fn stale(&self, messages: u64) {
        self.writer.add(LineCounter::Packets, 1);
        self.writer.add(LineCounter::Stale, messages);
    }

    /// Counts messages that were taken from this line.
    #[inline]
    pub fn taken(&self, messages: u64) {
        self.writer.add(LineCounter::Taken, messages);
    }

    /// Records by how much a copy of a packet came after the other line's.
    #[inline]
    pub fn late_by(&mut self, ns: u64) {
        if let Some(lateness) = &mut self.lateness {
            lateness.record(ns);
        }
    }

    /// Forgets where the line stood: the session started over.
    pub fn restart(&mut self) {
        self.next_seq = 0;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::session::PacketKind;
    use super::*;
    use crate::segment::{LineView, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter};
    use crate::sync::AtomicU64;
    use std::{vec, vec::Vec};

    fn data(seq: u64, count: u64) -> Packet {
        let session = *b"AAAAAAAAAA";
        Packet { session, seq, count, kind: PacketKind::Data, sent_ns: None, fingerprint: 0 }
    }

    fn with_line(test: impl FnOnce(Line<'_>, LineView<'_>)) {
        let spec = SegmentSpec {
            worker: "w",
            epoch: 1,
            pid: 1,
            event_slots: 16,
            instruments: 1,
            feeds: 1,
            depths: 0,
        };
        let words = SegmentLayout::new(&spec).unwrap().total_words;
        let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let segment = SegmentWriter::create(&words, &spec).unwrap();
        segment.start();
        let mut memory = vec![0; 1 << 17];
        let line = Line::new(segment.line(0, 1).unwrap(), &mut Arena::new(&mut memory)).unwrap();
        test(line, SegmentView::attach(&words).unwrap().line(0, 1).unwrap());
    }

    #[test]
    fn what_comes_late_is_told_from_what_comes_twice() {
        with_line(told_apart);
    }

    fn told_apart(mut line: Line<'_>, view: LineView<'_>) {
        let count = |counter| view.counter(counter);
        // The first packet is where the line begins; then 10..20 and 25..30 are missing.
        for packet in [data(5, 5), data(20, 5), data(30, 1)] {
            line.on_packet(&packet, 0);
        }
        assert_eq!((count(LineCounter::Messages), view.lost()), (11, 15));
        line.on_packet(&data(12, 4), 0);
        assert_eq!((count(LineCounter::Filled), view.lost()), (4, 11));
        line.on_packet(&data(12, 4), 0);
        assert_eq!((count(LineCounter::Duplicates), view.lost()), (4, 11));
        line.on_packet(&data(8, 25), 0);
        assert_eq!((view.lost(), count(LineCounter::NextSeq)), (0, 33));
        assert_eq!(count(LineCounter::Messages), 28);
        line.on_packet(&data(u64::MAX / 2, 1), 0);
        assert_eq!((view.lost(), count(LineCounter::NextSeq)), (0, 33));

        // Every other packet of a long stretch comes late, all of them behind the others.
        (0..1_000).for_each(|n| line.on_packet(&data(34 + 2 * n, 1), 0));
        assert_eq!(view.lost(), 1_000);
        (0..1_000).for_each(|n| line.on_packet(&data(33 + 2 * n, 1), 0));
        assert_eq!((view.lost(), count(LineCounter::Duplicates)), (0, 4 + 12));
    }

    #[test]
    fn a_line_that_was_away_for_long_is_counted_again() {
        with_line(|mut line, view| {
            let count = |counter| view.counter(counter);
            // The other line went on, and nothing started over.
            let back = 10 + JUMP_LIMIT + 1;
            for packet in [data(1, 9), data(back, 3), data(1 << 60, 4), data(back, 3)] {
                line.on_packet(&packet, 0);
                assert_eq!((view.lost(), count(LineCounter::NextSeq)), (0, 10));
            }
            line.on_packet(&data(back + 3, 2), 0);
            assert_eq!((view.lost(), count(LineCounter::NextSeq)), (back - 10, back + 5));
            assert_eq!(count(LineCounter::Messages), 9 + 3 + 2);
            for packet in [data(back + 5, 1), data(10, 4), data(back, 3)] {
                line.on_packet(&packet, 0);
            }
            assert_eq!((view.lost(), count(LineCounter::Filled)), (back - 14, 4));
            assert_eq!((count(LineCounter::Messages), count(LineCounter::Duplicates)), (19, 3));

            // A heartbeat confirms what it says by saying it again.
            let idle = data(back + 6 + 2 * JUMP_LIMIT, 0);
            line.on_packet(&idle, 0);
            assert_eq!(count(LineCounter::NextSeq), back + 6);
            line.on_packet(&idle, 0);
            assert_eq!((view.lost(), count(LineCounter::NextSeq)), (idle.seq - 20, idle.seq));
        });
    }
}
