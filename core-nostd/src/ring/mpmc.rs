//! Bounded ring from many producers to many consumers, in one order of pushes.
//!
//! Dmitry Vyukov's bounded queue (1024cores.net, 2010): each slot carries a stamp that says whose
//! turn it is. Position `p` may be written while the stamp of its slot is `p`, and read while it
//! is `p + 1`; reading sets it to `p + capacity`, the turn of the next writer. A position is
//! claimed with one compare-and-swap.
//!
//! Progress: a thread stopped between its claim and its stamp (by the scheduler, or by a crash in
//! shared memory) keeps the others from passing that slot. A process that dies exactly there
//! leaves the ring blocked until it is created anew; use [`spsc`](super::spsc) where that matters.
//!
//! Memory ordering: a stamp is stored with `Release` after the item was written (or read) and
//! loaded with `Acquire` before it is read (or written). The positions only share out turns and
//! are relaxed.

use super::{
    AttachError, CapacityError, Full, mask_of,
    shared::{self, Kind, Layout},
    slot::{StampedSlot, StampedSlots, StampedWordSlots},
    slot_of,
};
use crate::sync::{AtomicU64, Ordering};

pub use super::spsc::Cursors;

/// First word of a shared ring: "WTMPMC" and the layout version.
const MAGIC: u64 = u64::from_le_bytes(*b"WTMPMC\x01\x00");

/// A ring in memory of this process.
pub type SlotRing<'m, T> = Ring<'m, &'m [StampedSlot<T>]>;
/// A ring in shared words.
pub type WordRing<'m, const W: usize> = Ring<'m, StampedWordSlots<'m, W>>;

/// A ring's handle: copy it to as many threads as push or pop.
///
/// ```
/// use wiretape_core::ring::{Full, mpmc::{Cursors, Ring}, slot::StampedSlot};
///
/// let mut cursors = Cursors::new();
/// let mut slots = [const { StampedSlot::new() }; 4];
/// let ring = Ring::new(&mut cursors, &mut slots)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| ring.push(1));
///     scope.spawn(|| ring.push(2));
/// });
/// assert_eq!(ring.pop().unwrap() + ring.pop().unwrap(), 3);
/// assert_eq!(ring.pop(), None);
/// # Ok::<(), wiretape_core::ring::CapacityError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Ring<'m, S> {
    slots: S,
    mask: usize,
    write: &'m AtomicU64,
    read: &'m AtomicU64,
}

impl<'m, T: Copy + Send> SlotRing<'m, T> {
    /// An empty ring over `slots`. It holds `slots.len()` items, a power of two.
    ///
    /// # Errors
    /// [`CapacityError`] if that is another number, or 1.
    pub fn new(
        cursors: &'m mut Cursors,
        slots: &'m mut [StampedSlot<T>],
    ) -> Result<SlotRing<'m, T>, CapacityError> {
        let mask = mask_of(slots.len())?;
        // Exclusive until here: whatever an earlier ring left in this memory is forgotten.
        *cursors = Cursors::new();
        let (cursors, slots): (&Cursors, &[StampedSlot<T>]) = (cursors, slots);
        let (write, read) = cursors.positions();
        let ring = Ring { slots, mask, write, read };
        ring.stamp_all();
        Ok(ring)
    }
}

impl<'m, const W: usize> WordRing<'m, W> {
    /// Makes an empty ring of `slots` slots (a power of two) in `words`, which other processes
    /// may then [`attach`](Ring::attach) to.
    ///
    /// The caller sees to it that nobody is attached to an earlier ring in the same words.
    ///
    /// # Errors
    /// [`AttachError`]: a number of slots that no ring has, or fewer words than [`words_needed`].
    ///
    /// ```
    /// use std::sync::atomic::AtomicU64;
    /// use wiretape_core::ring::mpmc::{WordRing, words_needed};
    ///
    /// // In earnest these words are a mapped file.
    /// let words: Vec<AtomicU64> =
    ///     (0..words_needed::<1>(8)).map(|_| AtomicU64::new(0)).collect();
    /// let here = WordRing::<1>::create(&words, 8)?;
    /// let there = WordRing::<1>::attach(&words)?;
    /// assert_eq!(here.push([5]), Ok(()));
    /// assert_eq!(there.pop(), Some([5]));
    /// # Ok::<(), wiretape_core::ring::AttachError>(())
    /// ```
    pub fn create(words: &'m [AtomicU64], slots: usize) -> Result<WordRing<'m, W>, AttachError> {
        let layout = Layout::create(words, kind::<W>(), slots)?;
        let ring = Ring::of(&layout);
        ring.stamp_all();
        layout.open(kind::<W>());
        Ok(ring)
    }

    /// The ring that was created in `words`.
    ///
    /// # Errors
    /// [`AttachError`] if there is none, one of other items, or not all of it.
    pub fn attach(words: &'m [AtomicU64]) -> Result<WordRing<'m, W>, AttachError> {
        Ok(Ring::of(&Layout::attach(words, kind::<W>())?))
    }

    fn of(layout: &Layout<'m>) -> WordRing<'m, W> {
        let slots = StampedWordSlots::new(layout.slots);
        Ring { slots, mask: layout.mask, write: layout.write, read: layout.read }
    }
}

/// Words that a shared ring of `slots` slots of `W` words takes.
pub const fn words_needed<const W: usize>(slots: usize) -> usize {
    shared::words_needed(slots, W + 1)
}

const fn kind<const W: usize>() -> Kind {
    Kind { magic: MAGIC, item_words: W, stride: W + 1 }
}

impl<S: StampedSlots> Ring<'_, S> {
    /// Items that the ring holds when it is full.
    pub fn capacity(&self) -> usize {
        self.mask.wrapping_add(1)
    }

    /// Items in the ring, those still being written or read included. The two positions are of
    /// different moments, if others use the ring meanwhile.
    pub fn len(&self) -> usize {
        let read = self.read.load(Ordering::Relaxed);
        let held = self.write.load(Ordering::Relaxed).wrapping_sub(read);
        // Nothing keeps the writing side's position from being the older one: it may then lie behind.
        usize::try_from(held as i64).unwrap_or(0).min(self.capacity())
    }

    /// Whether [`len`](Ring::len) is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `item` behind all that was pushed before.
    ///
    /// # Errors
    /// [`Full`] with the item, if its slot has not been read since it was last written.
    #[inline]
    pub fn push(&self, item: S::Item) -> Result<(), Full<S::Item>> {
        let mut position = self.write.load(Ordering::Relaxed);
        loop {
            let index = slot_of(position, self.mask);
            let Some(stamp) = self.slots.stamp(index) else { return Err(Full(item)) };
            // Acquire pairs with the release in `pop`: the slot has been read before it is
            // written again.
            let turn = stamp.load(Ordering::Acquire).wrapping_sub(position) as i64;
            if turn < 0 {
                return Err(Full(item));
            }
            if turn > 0 {
                position = moved_on(self.write, position).ok_or(Full(item))?;
                continue;
            }
            let next = position.wrapping_add(1);
            match claim(self.write, position, next) {
                Ok(_) => {
                    // SAFETY: the index is masked to the slots. Position `position` was claimed
                    // by this thread alone and its stamp said that the slot is free to write.
                    unsafe { self.slots.put(index, item) };
                    stamp.store(next, Ordering::Release);
                    return Ok(());
                }
                Err(moved) => position = moved,
            }
        }
    }

    /// Takes the oldest item; `None` if there is none, or if it is still being written.
    #[inline]
    pub fn pop(&self) -> Option<S::Item> {
        let mut position = self.read.load(Ordering::Relaxed);
        loop {
            let index = slot_of(position, self.mask);
            let stamp = self.slots.stamp(index)?;
            let next = position.wrapping_add(1);
            // Acquire pairs with the release in `push`: the item is whole.
            let turn = stamp.load(Ordering::Acquire).wrapping_sub(next) as i64;
            if turn < 0 {
                return None;
            }
            if turn > 0 {
                position = moved_on(self.read, position)?;
                continue;
            }
            match claim(self.read, position, next) {
                Ok(_) => {
                    // SAFETY: the index is masked to the slots. Position `position` was claimed
                    // by this thread alone and its stamp said that the slot was written.
                    let item = unsafe { self.slots.take(index) };
                    stamp.store(position.wrapping_add(self.capacity() as u64), Ordering::Release);
                    return Some(item);
                }
                Err(moved) => position = moved,
            }
        }
    }

    /// Gives each slot its first writer's turn.
    fn stamp_all(&self) {
        for position in 0..self.capacity() {
            if let Some(stamp) = self.slots.stamp(position) {
                stamp.store(position as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Moves a position on, unless another thread was faster: then its value comes back.
#[inline(always)]
fn claim(position: &AtomicU64, from: u64, to: u64) -> Result<u64, u64> {
    position.compare_exchange_weak(from, to, Ordering::Relaxed, Ordering::Relaxed)
}

/// Where a position stands now that a later turn's stamp was seen. Whoever stored that stamp moved
/// the position first, and the acquire load of the stamp makes that visible; if it has not moved,
/// somebody broke the shared words, and `None` keeps the caller from waiting forever.
#[inline(always)]
fn moved_on(position: &AtomicU64, from: u64) -> Option<u64> {
    Some(position.load(Ordering::Relaxed)).filter(|now| *now != from)
}
