//! Batches: room that is filled, or items that are read, and handed over all at once.

use super::{super::slot_of, Consumer, Full, Producer, Slots};

/// The two runs of slots, in order, that `count` positions from `position` on make up: the
/// second one wraps to slot 0.
#[inline(always)]
fn runs(position: u64, mask: usize, count: usize) -> (usize, usize) {
    let first = slot_of(position, mask);
    let until_wrap = mask.wrapping_add(1).wrapping_sub(first);
    (first, until_wrap.min(count))
}

/// Room in the ring that is being filled. Dropped without [`commit`](WriteChunk::commit), its
/// items are forgotten.
#[must_use = "items reach the consumer at `commit` only"]
pub struct WriteChunk<'a, 'm, S: Slots> {
    producer: &'a mut Producer<'m, S>,
    room: usize,
    filled: usize,
}

impl<'a, 'm, S: Slots> WriteChunk<'a, 'm, S> {
    /// `room` slots from the producer's position on are free.
    #[inline(always)]
    pub(super) fn new(producer: &'a mut Producer<'m, S>, room: usize) -> Self {
        WriteChunk { producer, room, filled: 0 }
    }

    /// Items that still fit in.
    #[inline]
    pub fn room(&self) -> usize {
        self.room.wrapping_sub(self.filled)
    }

    /// Adds one item.
    ///
    /// # Errors
    /// [`Full`] with the item, once as many were added as there was room for.
    #[inline(always)]
    pub fn push(&mut self, item: S::Item) -> Result<(), Full<S::Item>> {
        if self.filled == self.room {
            return Err(Full(item));
        }
        let place = self.producer.position.wrapping_add(self.filled as u64);
        // SAFETY: the index is masked to the slots; `filled < room` slots from `position` on are
        // the producer's until it publishes them.
        unsafe { self.producer.slots.put(slot_of(place, self.producer.mask), item) };
        self.filled = self.filled.wrapping_add(1);
        Ok(())
    }

    /// Adds as many of `items` as fit, and returns how many that were.
    #[inline(always)]
    pub fn push_slice(&mut self, items: &[S::Item]) -> usize {
        let count = items.len().min(self.room());
        let place = self.producer.position.wrapping_add(self.filled as u64);
        let (first, run) = runs(place, self.producer.mask, count);
        if let Some((head, tail)) = items.get(..count).and_then(|i| i.split_at_checked(run)) {
            // SAFETY: `first..first + run` ends at the last slot at the latest, and the slots
            // are the producer's, as in `push`.
            unsafe { self.producer.slots.put_all(first, head) };
            // SAFETY: `count` is at most the capacity, so the tail from slot 0 on ends before
            // `first`; the slots are the producer's, as in `push`.
            unsafe { self.producer.slots.put_all(0, tail) };
            self.filled = self.filled.wrapping_add(count);
        }
        count
    }

    /// Hands the items that were added to the consumer, all at once.
    #[inline(always)]
    pub fn commit(self) {
        if self.filled > 0 {
            self.producer.publish(self.filled);
            self.producer.look_far_ahead();
        }
    }
}

/// Items of the ring that are being read: an iterator over copies of them.
#[must_use = "slots go back to the producer at `commit` only"]
pub struct ReadChunk<'a, 'm, S: Slots> {
    consumer: &'a mut Consumer<'m, S>,
    available: usize,
    taken: usize,
}

impl<'a, 'm, S: Slots> ReadChunk<'a, 'm, S> {
    /// `available` slots from the consumer's position on are written.
    #[inline(always)]
    pub(super) fn new(consumer: &'a mut Consumer<'m, S>, available: usize) -> Self {
        ReadChunk { consumer, available, taken: 0 }
    }

    /// Items not yet read.
    #[inline]
    pub fn available(&self) -> usize {
        self.available.wrapping_sub(self.taken)
    }

    /// Reads as many items as `items` has room for, into its beginning, and returns how many
    /// that were.
    #[inline(always)]
    pub fn pop_slice(&mut self, items: &mut [S::Item]) -> usize {
        let count = items.len().min(self.available());
        let place = self.consumer.position.wrapping_add(self.taken as u64);
        let (first, run) = runs(place, self.consumer.mask, count);
        let target = items.get_mut(..count).and_then(|i| i.split_at_mut_checked(run));
        if let Some((head, tail)) = target {
            // SAFETY: `first..first + run` ends at the last slot at the latest; the slots were
            // published and are the consumer's until it gives them back.
            unsafe { self.consumer.slots.take_all(first, head) };
            // SAFETY: `count` is at most the capacity, so the tail from slot 0 on ends before
            // `first`; the slots are the consumer's as above.
            unsafe { self.consumer.slots.take_all(0, tail) };
            self.taken = self.taken.wrapping_add(count);
        }
        count
    }

    /// Gives the slots of the items that were read back to the producer.
    #[inline(always)]
    pub fn commit(self) {
        if self.taken > 0 {
            self.consumer.give_back(self.taken);
            self.consumer.look_far_ahead();
        }
    }
}

impl<S: Slots> Iterator for ReadChunk<'_, '_, S> {
    type Item = S::Item;

    #[inline(always)]
    fn next(&mut self) -> Option<S::Item> {
        if self.taken == self.available {
            return None;
        }
        let place = self.consumer.position.wrapping_add(self.taken as u64);
        self.taken = self.taken.wrapping_add(1);
        // SAFETY: the index is masked to the slots; `available` slots from `position` on were
        // published and are the consumer's until it gives them back.
        Some(unsafe { self.consumer.slots.take(slot_of(place, self.consumer.mask)) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.available(), Some(self.available()))
    }
}
