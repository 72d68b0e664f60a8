//! Bounded ring from one producer to one consumer: wait-free, in order, nothing lost.
//!
//! Each side owns a position that only grows, on cache lines of its own, and keeps a cached copy
//! of the other side's. It looks at the other's position only when the cached one says full (or
//! empty), so that a busy ring moves few cache lines between the cores besides the items
//! themselves (the cached index of MCRingBuffer: Lee, Bu and Chandranmenon, IPDPS 2010; the
//! ring itself: Lamport, 1983).
//!
//! Two things more keep the cores from waiting for each other's cache lines. Each side asks for the
//! lines of the next slots early, those known to be its own. And a side that looks at the other's
//! position and finds only a few items twice in a row pauses before it looks again, for a third of
//! a microsecond at most: both then run up to ten times faster. One that finds nothing does not
//! pause, so an item that comes after silence is seen at once.
//!
//! What one side sees may be out of date, on the safe side only: a ring that was not full for the
//! producer stays not full until it pushes; one that was not empty for the consumer stays so
//! until it pops.
//!
//! Memory ordering: the producer writes items, then stores its position with `Release`; the
//! consumer loads it with `Acquire` before it reads them. The same pair runs the other way round
//! for the room that the consumer gives back.
//!
//! [`split`] takes memory of this process and any `Copy` items; [`create`], [`Producer::attach`]
//! and [`Consumer::attach`] take words that processes share, and items of `[u64; W]`.

mod chunk;

use core::{cell::Cell, marker::PhantomData};

use super::{
    AttachError, CapacityError, Full, mask_of,
    pace::{Pace, begins_line, items_ahead, items_per_line, lines_ahead},
    shared::{self, Kind, Layout},
    slot::{Slot, Slots, WordSlots},
    slot_of,
};
use crate::prefetch::{expect_read, expect_write};
use crate::sync::{AtomicU64, CachePadded, Ordering};

pub use chunk::{ReadChunk, WriteChunk};

/// First word of a shared ring: "WTSPSC" and the layout version.
const MAGIC: u64 = u64::from_le_bytes(*b"WTSPSC\x01\x00");

/// The two positions of a ring in memory of this process.
#[derive(Debug, Default)]
pub struct Cursors {
    write: CachePadded<AtomicU64>,
    read: CachePadded<AtomicU64>,
}

impl Cursors {
    /// The positions of an empty ring.
    #[cfg(not(loom))]
    pub const fn new() -> Cursors {
        Cursors { write: CachePadded(AtomicU64::new(0)), read: CachePadded(AtomicU64::new(0)) }
    }

    /// The positions of an empty ring.
    #[cfg(loom)]
    pub fn new() -> Cursors {
        Cursors::default()
    }

    /// The writing side's and the reading side's.
    pub(super) fn positions(&self) -> (&AtomicU64, &AtomicU64) {
        (&self.write.0, &self.read.0)
    }
}

/// The producer of a ring in memory of this process.
pub type SlotProducer<'m, T> = Producer<'m, &'m [Slot<T>]>;
/// The consumer of a ring in memory of this process.
pub type SlotConsumer<'m, T> = Consumer<'m, &'m [Slot<T>]>;
/// The producer of a ring in shared words.
pub type WordProducer<'m, const W: usize> = Producer<'m, WordSlots<'m, W>>;
/// The consumer of a ring in shared words.
pub type WordConsumer<'m, const W: usize> = Consumer<'m, WordSlots<'m, W>>;

/// Makes an empty ring over `slots` and hands out its two ends. The ring holds `slots.len()`
/// items, a power of two.
///
/// # Errors
/// [`CapacityError`] if that is another number, or 1.
///
/// ```
/// use wiretape_core::ring::{Full, slot::Slot, spsc};
///
/// let mut cursors = spsc::Cursors::new();
/// let mut slots = [const { Slot::new() }; 2];
/// let (mut producer, mut consumer) = spsc::split(&mut cursors, &mut slots)?;
/// std::thread::scope(|scope| {
///     scope.spawn(move || {
///         assert_eq!(producer.push("bid"), Ok(()));
///         assert_eq!(producer.push("ask"), Ok(()));
///     });
/// });
/// assert_eq!(consumer.pop(), Some("bid"));
/// assert_eq!(consumer.pop(), Some("ask"));
/// assert_eq!(consumer.pop(), None);
/// # Ok::<(), wiretape_core::ring::CapacityError>(())
/// ```
pub fn split<'m, T: Copy + Send>(
    cursors: &'m mut Cursors,
    slots: &'m mut [Slot<T>],
) -> Result<(SlotProducer<'m, T>, SlotConsumer<'m, T>), CapacityError> {
    let mask = mask_of(slots.len())?;
    // Exclusive until here: whatever an earlier ring left in this memory is forgotten.
    *cursors = Cursors::new();
    let (cursors, slots): (&Cursors, &[Slot<T>]) = (cursors, slots);
    let (write, read) = cursors.positions();
    Ok((Producer::new(slots, write, read, mask), Consumer::new(slots, write, read, mask)))
}

/// Words that a shared ring of `slots` slots of `W` words takes.
pub const fn words_needed<const W: usize>(slots: usize) -> usize {
    shared::words_needed(slots, W)
}

/// Makes an empty ring of `slots` slots (a power of two) in `words`, for one [`Producer::attach`]
/// and one [`Consumer::attach`], here or in other processes.
///
/// The caller sees to it that nobody is attached to an earlier ring in the same words.
///
/// # Errors
/// [`AttachError`]: a number of slots that no ring has, or fewer words than [`words_needed`].
pub fn create<const W: usize>(words: &[AtomicU64], slots: usize) -> Result<(), AttachError> {
    let kind = kind::<W>();
    Layout::create(words, kind, slots)?.open(kind);
    Ok(())
}

const fn kind<const W: usize>() -> Kind {
    Kind { magic: MAGIC, item_words: W, stride: W }
}

/// The writing end. One at a time may exist for a ring; it can move to another thread, but not be
/// shared between two:
///
/// ```compile_fail
/// use wiretape_core::ring::{slot::Slot, spsc};
///
/// let mut cursors = spsc::Cursors::new();
/// let mut slots = [const { Slot::<u64>::new() }; 8];
/// let (producer, consumer) = spsc::split(&mut cursors, &mut slots).unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(|| producer.room());
/// });
/// ```
// Aligned so that two ends side by side, in a struct or on the heap, do not share cache lines.
#[repr(align(128))]
pub struct Producer<'m, S> {
    slots: S,
    mask: usize,
    /// What the next item will be written to.
    position: u64,
    /// The position that the ring is full at, as far as is known.
    limit: u64,
    pace: Pace,
    write: &'m AtomicU64,
    read: &'m AtomicU64,
    not_sync: PhantomData<Cell<()>>,
}

/// The reading end. One at a time may exist for a ring; it can move to another thread, but not be
/// shared between two.
// Aligned for the same reason as the producer.
#[repr(align(128))]
pub struct Consumer<'m, S> {
    slots: S,
    mask: usize,
    /// What the next item will be read from.
    position: u64,
    /// The position that the ring is empty at, as far as is known.
    limit: u64,
    pace: Pace,
    write: &'m AtomicU64,
    read: &'m AtomicU64,
    not_sync: PhantomData<Cell<()>>,
}

impl<'m, const W: usize> WordProducer<'m, W> {
    /// The writing end of the ring in `words`, at the place where an earlier producer stopped.
    ///
    /// # Errors
    /// [`AttachError`] if there is no ring, one of other items, or not all of it.
    ///
    /// ```
    /// use std::sync::atomic::AtomicU64;
    /// use wiretape_core::ring::spsc::{self, Consumer, Producer};
    ///
    /// // In earnest these words are a mapped file.
    /// let words: Vec<AtomicU64> =
    ///     (0..spsc::words_needed::<2>(64)).map(|_| AtomicU64::new(0)).collect();
    /// spsc::create::<2>(&words, 64)?;
    /// let mut producer = Producer::<_>::attach(&words)?;
    /// let mut consumer = Consumer::<_>::attach(&words)?;
    /// assert_eq!(producer.push([1, 2]), Ok(()));
    /// assert_eq!(consumer.pop(), Some([1, 2]));
    /// # Ok::<(), wiretape_core::ring::AttachError>(())
    /// ```
    pub fn attach(words: &'m [AtomicU64]) -> Result<WordProducer<'m, W>, AttachError> {
        let Layout { write, read, slots, mask, .. } = Layout::attach(words, kind::<W>())?;
        Ok(Producer::new(WordSlots::new(slots), write, read, mask))
    }
}

impl<'m, const W: usize> WordConsumer<'m, W> {
    /// The reading end of the ring in `words`, at the place where an earlier consumer stopped.
    ///
    /// # Errors
    /// As for the writing end.
    pub fn attach(words: &'m [AtomicU64]) -> Result<WordConsumer<'m, W>, AttachError> {
        let Layout { write, read, slots, mask, .. } = Layout::attach(words, kind::<W>())?;
        Ok(Consumer::new(WordSlots::new(slots), write, read, mask))
    }
}

impl<'m, S: Slots> Producer<'m, S> {
    fn new(slots: S, write: &'m AtomicU64, read: &'m AtomicU64, mask: usize) -> Self {
        // Acquire pairs with the release in an earlier producer's `publish`: whoever acquires what this
        // one publishes sees that one's items too.
        let position = write.load(Ordering::Acquire);
        // Full until the first look at the consumer's position.
        Producer {
            slots,
            mask,
            position,
            limit: position,
            pace: Pace::default(),
            write,
            read,
            not_sync: PhantomData,
        }
    }

    /// Items that the ring holds when it is full.
    pub fn capacity(&self) -> usize {
        self.mask.wrapping_add(1)
    }

    /// Items that fit now; more by the time that the caller looks.
    pub fn room(&mut self) -> usize {
        self.refresh();
        self.known_room()
    }

    /// Puts `item` into the ring, where the consumer sees it at once.
    ///
    /// # Errors
    /// [`Full`] with the item, while the consumer has taken none of the last `capacity()` items.
    #[inline(always)]
    pub fn push(&mut self, item: S::Item) -> Result<(), Full<S::Item>> {
        if self.position == self.limit && self.refresh() == 0 {
            return Err(Full(item));
        }
        self.look_ahead();
        // SAFETY: the index is masked to the slots. `position` is below `limit`, so the consumer
        // has given this slot back and will not touch it until `publish`.
        unsafe { self.slots.put(slot_of(self.position, self.mask), item) };
        self.publish(1);
        Ok(())
    }

    /// Puts as many of `items` as fit into the ring, from the first on; the consumer sees them
    /// all at once. Returns how many that were.
    ///
    /// ```
    /// # use wiretape_core::ring::{slot::Slot, spsc};
    /// # let mut cursors = spsc::Cursors::new();
    /// # let mut slots = [const { Slot::new() }; 4];
    /// let (mut producer, mut consumer) = spsc::split(&mut cursors, &mut slots)?;
    /// assert_eq!(producer.push_slice(&[1, 2, 3, 4, 5]), 4);
    /// let mut taken = [0; 3];
    /// assert_eq!(consumer.pop_slice(&mut taken), 3);
    /// assert_eq!(taken, [1, 2, 3]);
    /// # Ok::<(), wiretape_core::ring::CapacityError>(())
    /// ```
    #[inline]
    pub fn push_slice(&mut self, items: &[S::Item]) -> usize {
        let mut chunk = self.reserve(items.len());
        let count = chunk.push_slice(items);
        chunk.commit();
        count
    }

    /// Sets aside room for up to `count` items, fewer if the ring has not that much. Nothing is
    /// seen by the consumer until [`WriteChunk::commit`].
    ///
    /// ```
    /// # use wiretape_core::ring::{slot::Slot, spsc};
    /// # let mut cursors = spsc::Cursors::new();
    /// # let mut slots = [const { Slot::new() }; 4];
    /// let (mut producer, mut consumer) = spsc::split(&mut cursors, &mut slots)?;
    /// let mut chunk = producer.reserve(2);
    /// chunk.push(10).unwrap();
    /// chunk.push(11).unwrap();
    /// assert!(chunk.push(12).is_err(), "only two were reserved");
    /// assert_eq!(consumer.pop(), None);
    /// chunk.commit();
    /// assert_eq!(consumer.pop(), Some(10));
    /// # Ok::<(), wiretape_core::ring::CapacityError>(())
    /// ```
    #[inline]
    pub fn reserve(&mut self, count: usize) -> WriteChunk<'_, 'm, S> {
        let mut room = self.known_room();
        if room < count {
            room = self.refresh();
        }
        WriteChunk::new(self, count.min(room))
    }

    #[inline(always)]
    fn known_room(&self) -> usize {
        self.limit.wrapping_sub(self.position) as usize
    }

    /// Looks at the consumer's position and returns the room that it leaves.
    #[inline]
    fn refresh(&mut self) -> usize {
        self.pace.wait();
        // Acquire pairs with the release in `Consumer::give_back`: its reads of the slots are
        // over before they are written again.
        let read = self.read.load(Ordering::Acquire);
        let held = self.position.wrapping_sub(read);
        // A position out of range is a shared header that somebody broke: full for good.
        let room = (self.capacity() as u64).saturating_sub(held);
        self.pace.note(room);
        self.limit = self.position.wrapping_add(room);
        room as usize
    }

    /// Asks for the slots that come next, as far as they are known to be this side's: those of
    /// the other side are better left where they are.
    #[inline(always)]
    fn look_ahead(&self) {
        let item_bytes = size_of::<S::Item>();
        let ahead = self.position.wrapping_add(items_ahead(item_bytes));
        if begins_line(self.position, item_bytes) && ahead < self.limit {
            expect_write(self.slots.address(slot_of(ahead, self.mask)));
        }
    }

    /// The same for all that a batch may take.
    #[inline(always)]
    fn look_far_ahead(&self) {
        let item_bytes = size_of::<S::Item>();
        let step = items_per_line(item_bytes);
        for line in 0..lines_ahead(item_bytes) {
            let ahead = self.position.wrapping_add(line.wrapping_mul(step));
            if ahead < self.limit {
                expect_write(self.slots.address(slot_of(ahead, self.mask)));
            }
        }
    }

    #[inline(always)]
    fn publish(&mut self, count: usize) {
        self.position = self.position.wrapping_add(count as u64);
        // Release pairs with the acquire in `Consumer::refresh`: the items are written before
        // they can be seen.
        self.write.store(self.position, Ordering::Release);
    }
}

impl<'m, S: Slots> Consumer<'m, S> {
    fn new(slots: S, write: &'m AtomicU64, read: &'m AtomicU64, mask: usize) -> Self {
        // Acquire pairs with the release in an earlier consumer's `give_back`: its reads are over before
        // the slots are given back once more.
        let position = read.load(Ordering::Acquire);
        // Empty until the first look at the producer's position.
        Consumer {
            slots,
            mask,
            position,
            limit: position,
            pace: Pace::default(),
            write,
            read,
            not_sync: PhantomData,
        }
    }

    /// Items that the ring holds when it is full.
    pub fn capacity(&self) -> usize {
        self.mask.wrapping_add(1)
    }

    /// Items that can be taken now; more by the time that the caller looks.
    pub fn available(&mut self) -> usize {
        self.refresh()
    }

    /// Takes the oldest item; `None` while the ring is empty.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<S::Item> {
        let item = self.peek()?;
        self.give_back(1);
        Some(item)
    }

    /// Copies the oldest item and leaves it in the ring; `None` while the ring is empty.
    #[inline(always)]
    pub fn peek(&mut self) -> Option<S::Item> {
        if self.position == self.limit && self.refresh() == 0 {
            return None;
        }
        self.look_ahead();
        // SAFETY: the index is masked to the slots. `position` is below `limit`, so the producer
        // wrote this slot and will not touch it until `give_back`.
        Some(unsafe { self.slots.take(slot_of(self.position, self.mask)) })
    }

    /// Takes as many items as there are and `items` has room for, into its beginning. Returns how
    /// many that were.
    #[inline]
    pub fn pop_slice(&mut self, items: &mut [S::Item]) -> usize {
        let mut chunk = self.read(items.len());
        let count = chunk.pop_slice(items);
        chunk.commit();
        count
    }

    /// Opens up to `count` of the items there are for reading. Their slots go back to the
    /// producer at [`ReadChunk::commit`], those that were read; without it, none, and the next
    /// read begins with the same item.
    ///
    /// ```
    /// # use wiretape_core::ring::{slot::Slot, spsc};
    /// # let mut cursors = spsc::Cursors::new();
    /// # let mut slots = [const { Slot::new() }; 4];
    /// let (mut producer, mut consumer) = spsc::split(&mut cursors, &mut slots)?;
    /// producer.push_slice(&[1, 2, 3]);
    /// let mut chunk = consumer.read(2);
    /// assert_eq!(chunk.by_ref().sum::<u64>(), 3);
    /// chunk.commit();
    /// assert_eq!(consumer.pop(), Some(3));
    /// # Ok::<(), wiretape_core::ring::CapacityError>(())
    /// ```
    #[inline]
    pub fn read(&mut self, count: usize) -> ReadChunk<'_, 'm, S> {
        let mut available = self.limit.wrapping_sub(self.position) as usize;
        if available < count {
            available = self.refresh();
        }
        ReadChunk::new(self, count.min(available))
    }

    /// Looks at the producer's position and returns the items that it offers.
    #[inline]
    fn refresh(&mut self) -> usize {
        self.pace.wait();
        // Acquire pairs with the release in `Producer::publish`.
        let written = self.write.load(Ordering::Acquire);
        let available = written.wrapping_sub(self.position);
        // A position out of range is a shared header that somebody broke: empty for good.
        let available = if available > self.capacity() as u64 { 0 } else { available };
        self.pace.note(available);
        self.limit = self.position.wrapping_add(available);
        available as usize
    }

    /// Asks for the slots that come next, as far as they are known to be this side's: those of
    /// the other side are better left where they are.
    #[inline(always)]
    fn look_ahead(&self) {
        let item_bytes = size_of::<S::Item>();
        let ahead = self.position.wrapping_add(items_ahead(item_bytes));
        if begins_line(self.position, item_bytes) && ahead < self.limit {
            expect_read(self.slots.address(slot_of(ahead, self.mask)));
        }
    }

    /// The same for all that a batch may take.
    #[inline(always)]
    fn look_far_ahead(&self) {
        let item_bytes = size_of::<S::Item>();
        let step = items_per_line(item_bytes);
        for line in 0..lines_ahead(item_bytes) {
            let ahead = self.position.wrapping_add(line.wrapping_mul(step));
            if ahead < self.limit {
                expect_read(self.slots.address(slot_of(ahead, self.mask)));
            }
        }
    }

    #[inline(always)]
    fn give_back(&mut self, count: usize) {
        self.position = self.position.wrapping_add(count as u64);
        // Release pairs with the acquire in `Producer::refresh`: the slots have been read before
        // they can be written again.
        self.read.store(self.position, Ordering::Release);
    }
}
