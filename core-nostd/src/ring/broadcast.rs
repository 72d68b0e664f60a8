//! Broadcast ring: one writer, any number of readers that the writer never hears of.
//!
//! ```text
//!            word 0      words 1..=7
//!  slot  ┌──────────┬───────────────────────┐   64 bytes, one cache line
//!        │  stamp   │  event (56 bytes)     │   slot of sequence n: n mod capacity
//!        └──────────┴───────────────────────┘
//!  stamp = n   sequence n is here and whole, unless the slot before it says n - 1 no more
//! ```
//!
//! The writer stores the words, then the stamp with release, and only then, behind a release fence,
//! words of the next slot. So nothing of sequence n is overwritten before the slot before it has
//! the stamp of the round after. A reader loads the stamp with acquire, copies the words, and after
//! an acquire fence loads the stamp of the slot before: if that is still n - 1, the copy is whole.
//! All accesses are atomic (relaxed for the words), so a reader that loses the race sees wrong numbers
//! that it then throws away, never undefined behaviour; a reader of a hostile or dead writer's memory
//! the same. It is a sequence lock (Boehm, "Can seqlocks get along with programming language memory
//! models?", MSPC 2012) whose "being written" is what the writer has stored anyway. With a mark in the
//! slot itself, stored before the words, and the words stored upwards an event took 9.6 ns from core to
//! core of an EPYC; without, and in one direction down to the stamp, 7.5, as bare lines do.
//!
//! Sequences start at 1. A reader that was lapped learns exactly which range it missed.

use core::ops::Range;

use crate::event::{EVENT_WORDS, Event};
use crate::prefetch::{expect_read, expect_write};
use crate::shared_words;
use crate::sync::{AtomicU64, Ordering, fence};

/// Words of a slot: the stamp, then the event.
pub const SLOT_WORDS: usize = EVENT_WORDS + 1;

/// One slot of the ring.
pub type Slot = [AtomicU64; SLOT_WORDS];

/// Slots ahead of the writer whose cache lines it asks for, for the last reader has them. What that
/// gives depends on the processor: from a twentieth to two fifths of an event's time was seen.
const SLOTS_AHEAD: u64 = 16;

/// Committed slots ahead of a reader whose cache lines it asks for.
const READ_AHEAD: u64 = 8;

/// The ring's memory, as a writer or a reader needs it.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use wiretape_core::event::Event;
/// use wiretape_core::ring::broadcast::{Lapped, Ring, Slot};
///
/// // In earnest these words are a mapped file, which readers map read-only.
/// let slots: Vec<Slot> = (0..16).map(|_| Slot::default()).collect();
/// let head = AtomicU64::new(0);
/// let ring = Ring::new(&slots, &head)?;
/// let mut writer = ring.writer();
/// let (mut reader, mut late) = (ring.reader_from_now(), ring.reader_from_now());
/// let first = writer.publish(&Event { words: [7; 7] });
/// writer.commit();
/// assert_eq!(reader.next_event(), Ok(Some((first, Event { words: [7; 7] }))));
/// assert_eq!(reader.next_event(), Ok(None));
///
/// // A reader that is overtaken learns which events it missed, and goes on behind them.
/// (0..20).for_each(|number| drop(writer.publish(&Event { words: [number; 7] })));
/// writer.commit();
/// let lost = late.visit_committed(32, |_, _| {}).unwrap_err();
/// assert_eq!((lost.first, lost.end, late.position()), (first, 8, 8));
/// let mut seen = Vec::new();
/// assert_eq!(late.visit_committed(32, |sequence, _| seen.push(sequence)), Ok(14));
/// assert_eq!(seen, (8..22).collect::<Vec<_>>());
/// # Ok::<(), wiretape_core::ring::broadcast::RingError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ring<'m> {
    slots: &'m [Slot],
    /// Slot 0, for the branch of `slot` that cannot be taken.
    first: &'m Slot,
    /// The last sequence that the writer has committed; 0 before the first.
    head: &'m AtomicU64,
}

/// Why memory cannot be a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// The number of slots is not a power of two of at least 2.
    Capacity {
        /// Slots that were handed over.
        found: usize,
    },
}

impl core::fmt::Display for RingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let RingError::Capacity { found } = self;
        write!(f, "a ring needs a power of two of at least 2 slots, not {found}")
    }
}

impl core::error::Error for RingError {}

impl<'m> Ring<'m> {
    /// A ring over `slots`, whose committed position lives in `head`. Fresh memory is zero.
    ///
    /// # Errors
    /// [`RingError`] if the number of slots is not a power of two of at least 2.
    pub fn new(slots: &'m [Slot], head: &'m AtomicU64) -> Result<Self, RingError> {
        match slots {
            [first, _, ..] if slots.len().is_power_of_two() => Ok(Ring { slots, first, head }),
            _ => Err(RingError::Capacity { found: slots.len() }),
        }
    }

    /// Slots in the ring.
    #[inline]
    pub fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The last committed sequence; 0 if none. (Acquire: pairs with [`Writer::commit`].)
    #[inline]
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The only writer. The caller sees to it that there is no other on this memory. It goes on behind
    /// what was published last, committed or not.
    #[inline]
    pub fn writer(self) -> Writer<'m> {
        let mut next = self.head().wrapping_add(1);
        // Each slot has one stamp: it is passed once at most.
        for _ in 0..self.capacity() {
            // Acquire: pairs with the release of the stamp in an earlier writer's `publish`. Who acquires
            // the head that this one commits sees that one's events.
            match self.stamp(next).load(Ordering::Acquire) {
                published if published >= next => next = published.wrapping_add(1),
                _ => break,
            }
        }
        Writer { ring: self, next }
    }

    /// A reader that starts behind the last committed event.
    #[inline]
    pub fn reader_from_now(self) -> Reader<'m> {
        self.reader_from(self.head().wrapping_add(1))
    }

    /// A reader that starts at the oldest event that is safely in the ring.
    pub fn reader_from_oldest(self) -> Reader<'m> {
        let head = self.head();
        let kept = self.capacity() - self.margin();
        self.reader_from(head.saturating_sub(kept).wrapping_add(1))
    }

    /// A reader whose first sequence is `seq` (at least 1). If that is gone already, the first
    /// read says so.
    #[inline]
    pub fn reader_from(self, seq: u64) -> Reader<'m> {
        Reader { ring: self, next: seq.max(1), committed: 0 }
    }

    #[inline(always)]
    fn slot(&self, seq: u64) -> &'m Slot {
        // In bounds: the length is a power of two, checked in `new`. The compiler cannot see it
        // and keeps one branch.
        self.slots.get((seq as usize) & (self.slots.len().wrapping_sub(1))).unwrap_or(self.first)
    }

    #[inline(always)]
    fn stamp(&self, seq: u64) -> &'m AtomicU64 {
        let [stamp, ..] = self.slot(seq);
        stamp
    }

    /// Writes the event `seq` by `store`.
    #[inline(always)]
    fn put(&self, seq: u64, store: impl FnOnce(&[AtomicU64; EVENT_WORDS])) {
        expect_write(self.slot(seq.wrapping_add(SLOTS_AHEAD)).as_ptr().cast());
        let [stamp, words @ ..] = self.slot(seq);
        // Pairs with the acquire fence of the readers: who sees a word of this event also sees
        // the stamp of the event before, and throws away what it copied out of this slot.
        fence(Ordering::Release);
        store(words);
        stamp.store(seq, Ordering::Release);
    }

    /// Whether what was copied out of `seq`'s slot is whole: the slot before it still says that nothing
    /// of it was overwritten.
    ///
    /// # Errors
    /// What that slot says if not.
    #[inline(always)]
    fn check(&self, seq: u64) -> Result<(), u64> {
        // Pairs with the release fence in `put`: who has seen a word of the event that
        // overwrites `seq` sees the stamp of the event before that one.
        fence(Ordering::Acquire);
        let before = seq.wrapping_sub(1);
        match self.stamp(before).load(Ordering::Relaxed) {
            stamp if stamp == before => Ok(()),
            stamp => Err(stamp),
        }
    }

    /// Slots that a reader leaves between itself and the writer when it starts or starts over. At
    /// least one: an event can be read as long as the slot before it has not been overwritten.
    fn margin(&self) -> u64 {
        (self.capacity() / 8).max(1)
    }
}

/// The writing end.
#[derive(Debug)]
pub struct Writer<'m> {
    ring: Ring<'m>,
    next: u64,
}

impl Writer<'_> {
    /// Publishes `event` and returns its sequence. Readers that poll see it at once; those that
    /// park, and [`Ring::head`], with the next [`commit`](Self::commit).
    #[inline]
    pub fn publish(&mut self, event: &Event) -> u64 {
        let seq = self.next;
        self.ring.put(seq, |words| shared_words::store(words, &event.words));
        self.next = seq.wrapping_add(1);
        seq
    }

    /// Publishes `events` in order, commits them, and returns the sequences that they got. For many at
    /// once that are at hand: from core to core of an Intel Xeon a tenth faster than one
    /// [`publish`](Self::publish) for each.
    #[inline]
    pub fn publish_batch(&mut self, events: impl IntoIterator<Item = Event>) -> Range<u64> {
        let (ring, first) = (self.ring, self.next);
        // In a register meanwhile, and right even if the iterator panics.
        let mut position = Position { writer: self, next: first };
        for event in events {
            ring.put(position.next, |words| shared_words::store_in_pairs(words, &event.words));
            position.next = position.next.wrapping_add(1);
        }
        drop(position);
        self.commit();
        first..self.next
    }

    /// Moves [`Ring::head`] to the last published event: once a packet or a batch.
    #[inline]
    pub fn commit(&mut self) {
        self.ring.head.store(self.next.wrapping_sub(1), Ordering::Release);
    }

    /// The sequence that the next event will get.
    #[inline]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }
}

/// Where a writer stands in a batch; told to it in the end.
struct Position<'w, 'm> {
    writer: &'w mut Writer<'m>,
    next: u64,
}

impl Drop for Position<'_, '_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.writer.next = self.next;
    }
}

/// Events `first..end` were overwritten before this reader came to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapped {
    /// First sequence missed.
    pub first: u64,
    /// First sequence that the reader goes on with.
    pub end: u64,
}

impl core::fmt::Display for Lapped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "the writer overtook this reader: sequences {}..{} are lost",
            self.first, self.end
        )
    }
}

impl core::error::Error for Lapped {}

/// A reading end. It never blocks and never writes.
///
/// Three ways to read: [`next_event`](Reader::next_event) and [`read_batch`](Reader::read_batch)
/// see an event as soon as it is published, at the price of looking at the very line that the
/// writer writes; [`visit_committed`](Reader::visit_committed) sees it with the writer's next commit,
/// keeps off those lines and copies nothing: the way to the most events a second.
#[derive(Clone, Debug)]
pub struct Reader<'m> {
    ring: Ring<'m>,
    next: u64,
    /// The head when it was last looked at.
    committed: u64,
}

impl<'m> Reader<'m> {
    /// The next event with its sequence, `None` if it is not there yet.
    ///
    /// # Errors
    /// [`Lapped`] if it was overwritten. The reader goes on behind the lost range.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<(u64, Event)>, Lapped> {
        let seq = self.next;
        let [stamp, words @ ..] = self.ring.slot(seq);
        // Acquire: pairs with the release of the final stamp in `put`.
        let before = stamp.load(Ordering::Acquire);
        if before != seq {
            return self.not_there(before).map(|()| None);
        }
        let event = Event { words: shared_words::load(words) };
        if let Err(stamp) = self.ring.check(seq) {
            return self.not_there(stamp).map(|()| None);
        }
        self.next = seq.wrapping_add(1);
        Ok(Some((seq, event)))
    }

    /// Copies the events that are there, in order, into `events`, and returns how many: the first
    /// has the sequence that [`position`](Self::position) gave before the call.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event); `events` then hold numbers without meaning.
    #[inline]
    pub fn read_batch(&mut self, events: &mut [Event]) -> Result<usize, Lapped> {
        let first = self.next;
        let mut count = 0usize;
        for event in events.iter_mut() {
            let [stamp, words @ ..] = self.ring.slot(first.wrapping_add(count as u64));
            let seen = stamp.load(Ordering::Acquire);
            if seen != first.wrapping_add(count as u64) {
                if count == 0 {
                    return self.not_there(seen).map(|()| 0);
                }
                break;
            }
            event.words = shared_words::load(words);
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // The writer overwrites slots in order: if it has not come to the first, it has not to the
        // others.
        if let Err(stamp) = self.ring.check(first) {
            return self.not_there(stamp).map(|()| 0);
        }
        self.next = first.wrapping_add(count as u64);
        Ok(count)
    }

    /// Shows up to `limit` committed events to `each`, in order and with their sequences, and returns
    /// how many; fewer than there are, perhaps, but some if there are any. An event is shown once
    /// it is known to be whole; where the writer overtakes the reader on the way, the next call says
    /// so.
    ///
    /// The acquire load of the head pairs with the release store of [`Writer::commit`]: every
    /// event up to there was whole, so that its stamp has to be looked at only afterwards.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event), before any event was shown.
    #[inline]
    pub fn visit_committed(
        &mut self,
        limit: usize,
        mut each: impl FnMut(u64, &Event),
    ) -> Result<usize, Lapped> {
        let (ring, first) = (self.ring, self.next);
        let there = |committed: u64| committed.wrapping_add(1).saturating_sub(first);
        if there(self.committed) == 0 {
            self.committed = ring.head();
        }
        let count = there(self.committed).min(limit as u64);
        let end = first.wrapping_add(count);
        let mut seq = first;
        while seq != end {
            expect_read(ring.slot(seq.wrapping_add(READ_AHEAD)).as_ptr().cast());
            let [_, words @ ..] = ring.slot(seq);
            let event = Event { words: shared_words::load(words) };
            if let Err(stamp) = ring.check(seq) {
                if seq == first {
                    return self.not_there(stamp).map(|()| 0);
                }
                break;
            }
            each(seq, &event);
            seq = seq.wrapping_add(1);
        }
        self.next = seq;
        Ok(seq.wrapping_sub(first) as usize)
    }

    /// The sequence that the next read returns.
    #[inline]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Committed events that this reader has not read yet.
    pub fn lag(&self) -> u64 {
        (self.ring.head().wrapping_add(1)).saturating_sub(self.next)
    }

    /// The ring that it reads.
    pub fn ring(&self) -> Ring<'m> {
        self.ring
    }

    /// Tells "not written yet" from "overwritten", and steps behind the loss.
    #[cold]
    fn not_there(&mut self, newest: u64) -> Result<(), Lapped> {
        if newest <= self.next {
            return Ok(());
        }
        let newest = newest.max(self.ring.head());
        let kept = self.ring.capacity() - self.ring.margin();
        let first = self.next;
        let end = newest.saturating_sub(kept).wrapping_add(1).max(first.wrapping_add(1));
        self.next = end;
        Err(Lapped { first, end })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn memory(capacity: usize) -> (Vec<Slot>, AtomicU64) {
        ((0..capacity).map(|_| Slot::default()).collect(), AtomicU64::new(0))
    }

    fn event(n: u64) -> Event {
        Event { words: [n; EVENT_WORDS] }
    }

    #[test]
    fn what_goes_in_comes_out_in_order_for_every_reader() {
        let (slots, head) = memory(16);
        let ring = Ring::new(&slots, &head).unwrap();
        let mut writer = ring.writer();
        let mut single = ring.reader_from_oldest();
        let mut batch = ring.reader_from_oldest();
        assert_eq!(single.next_event(), Ok(None));
        for n in 1..=10 {
            assert_eq!(writer.publish(&event(n)), n);
        }
        for n in 1..=10 {
            assert_eq!(single.next_event(), Ok(Some((n, event(n)))));
        }
        let mut out = [Event::default(); 16];
        assert_eq!(batch.read_batch(&mut out), Ok(10));
        assert!(out[..10].iter().zip(1..).all(|(e, n)| *e == event(n)));
        assert_eq!(batch.read_batch(&mut out), Ok(0));
    }

    #[test]
    fn a_lapped_reader_is_told_the_exact_range_and_goes_on_behind_it() {
        let (slots, head) = memory(16);
        let ring = Ring::new(&slots, &head).unwrap();
        let mut writer = ring.writer();
        let mut reader = ring.reader_from(1);
        for n in 1..=40 {
            writer.publish(&event(n));
        }
        writer.commit();
        let lost = reader.next_event().unwrap_err();
        assert_eq!(lost.first, 1);
        assert!(lost.end > 40 - 16 + 1 && lost.end <= 40 - 16 + 1 + 2, "{lost:?}");
        let mut seen = lost.end;
        while let Some((seq, e)) = reader.next_event().unwrap() {
            assert_eq!((seq, e), (seen, event(seen)));
            seen += 1;
        }
        assert_eq!(seen, 41);
    }

    /// Slot 0 is whole, slot 1 half overwritten with sequence 5: its stamp is the old one.
    #[test]
    fn a_slot_left_half_written_by_a_dead_writer_is_never_read() {
        let (slots, head) = memory(4);
        let ring = Ring::new(&slots, &head).unwrap();
        let mut writer = ring.writer();
        for n in 1..=4 {
            writer.publish(&event(n));
        }
        slots[1][3].store(5, Ordering::Relaxed);
        let lost = Err(Lapped { first: 1, end: 2 });
        assert_eq!(ring.reader_from(1).next_event(), lost.map(|()| None));
        assert_eq!(ring.reader_from(1).read_batch(&mut [Event::default(); 4]), lost.map(|()| 0));
        writer.commit();
        assert_eq!(ring.reader_from(1).visit_committed(4, |_, _| ()), lost.map(|()| 0));
        let mut reader = ring.reader_from(2);
        for n in 2..=4 {
            assert_eq!(reader.next_event(), Ok(Some((n, event(n)))));
        }
        assert_eq!(reader.next_event(), Ok(None));
    }

    #[test]
    fn a_writer_goes_on_behind_what_one_before_it_published_and_did_not_commit() {
        let (slots, head) = memory(4);
        let ring = Ring::new(&slots, &head).unwrap();
        let mut writer = ring.writer();
        writer.publish(&event(1));
        writer.commit();
        for n in 2..=9 {
            writer.publish(&event(n));
            assert_eq!(ring.writer().next_sequence(), n + 1);
        }
    }

    #[test]
    fn odd_sizes_are_refused() {
        for n in [0, 1, 3, 12] {
            let (slots, head) = memory(n);
            assert_eq!(Ring::new(&slots, &head).unwrap_err(), RingError::Capacity { found: n });
        }
    }

    #[test]
    fn memory_full_of_noise_only_gives_wrong_numbers() {
        let (slots, head) = memory(8);
        for (i, word) in slots.iter().flatten().enumerate() {
            word.store((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15), Ordering::Relaxed);
        }
        head.store(u64::MAX, Ordering::Relaxed);
        let mut reader = Ring::new(&slots, &head).unwrap().reader_from_oldest();
        let mut out = [Event::default(); 8];
        for _ in 0..100 {
            let _ = reader.next_event();
            let _ = reader.read_batch(&mut out);
            let _ = reader.visit_committed(8, |_, _| {});
        }
    }
}
