//! Where a ring keeps its items: slots in memory of this process, for any `Copy` type, or words
//! that other processes share. One ring algorithm runs over both through [`Slots`].
//!
//! | memory | items | who may attach |
//! |---|---|---|
//! | `&mut [Slot<T>]`, `&mut [StampedSlot<T>]` | any `T: Copy` | threads of this process |
//! | `&[AtomicU64]` (file, memfd, heap) | `[u64; W]` | whoever maps the words |
//!
//! Items in shared words are moved with relaxed atomic accesses, which cost what plain ones cost
//! on 64-bit machines. A process that breaks the protocol can then garble items, but neither side
//! can be led into undefined behaviour.

use core::mem::MaybeUninit;

use crate::shared_words;
use crate::sync::{AtomicU64, UnsafeCell};

/// Room for one item of a ring, in memory of this process.
#[repr(transparent)]
pub struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: a slot is reached through a ring only, whose positions give each slot to one thread at
// a time and hand it on with a release store that the next owner acquires. `T` itself moves
// between threads, hence `Send`.
unsafe impl<T: Send> Sync for Slot<T> {}

impl<T> Slot<T> {
    /// An empty slot.
    #[cfg(not(loom))]
    pub const fn new() -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// An empty slot.
    #[cfg(loom)]
    pub fn new() -> Slot<T> {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }
}

impl<T: Copy> Slot<T> {
    /// # Safety
    /// No other thread may access the slot during the call.
    #[inline(always)]
    unsafe fn put(&self, item: T) {
        // SAFETY: the pointer is valid and aligned, being that of a live `MaybeUninit<T>`; that
        // nobody else accesses it is the caller's promise.
        self.0.with_mut(|place| unsafe { place.write(MaybeUninit::new(item)) });
    }

    /// # Safety
    /// The slot must have been [`put`](Slot::put), and no other thread may write it during the
    /// call.
    #[inline(always)]
    unsafe fn take(&self) -> T {
        self.0.with(|place| {
            // SAFETY: the pointer is that of a live `MaybeUninit<T>`; no write runs beside this
            // read by the caller's promise, and `T: Copy` makes a second copy harmless.
            let item = unsafe { place.read() };
            // SAFETY: the caller promises that the slot was put before.
            unsafe { item.assume_init() }
        })
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot::new()
    }
}

/// A [`Slot`] with the turn number that the many-sided ring hands it on by.
#[derive(Default)]
#[repr(C)]
pub struct StampedSlot<T> {
    stamp: AtomicU64,
    slot: Slot<T>,
}

impl<T> StampedSlot<T> {
    /// An empty slot.
    #[cfg(not(loom))]
    pub const fn new() -> StampedSlot<T> {
        StampedSlot { stamp: AtomicU64::new(0), slot: Slot::new() }
    }

    /// An empty slot.
    #[cfg(loom)]
    pub fn new() -> StampedSlot<T> {
        StampedSlot { stamp: AtomicU64::new(0), slot: Slot::new() }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// Item memory of a ring. Implemented here for the kinds of memory in the module's table, and
/// nowhere else.
pub trait Slots: Copy + sealed::Sealed {
    /// What one slot holds.
    type Item: Copy;

    /// Slots there are.
    fn slot_count(self) -> usize;

    /// Where slot `index` lies, as a hint to the processor; any index will do.
    fn address(self, index: usize) -> *const u8;

    /// Puts `item` into slot `index`.
    ///
    /// # Safety
    /// `index < slot_count()`, and no other thread may access that slot during the call.
    unsafe fn put(self, index: usize, item: Self::Item);

    /// Takes a copy of the item in slot `index`.
    ///
    /// # Safety
    /// `index < slot_count()`, an item was put there before, and no other thread may write that
    /// slot during the call.
    unsafe fn take(self, index: usize) -> Self::Item;

    /// Puts `items` into the slots from `index` on.
    ///
    /// # Safety
    /// As [`Slots::put`], for each of `index..index + items.len()`.
    #[inline(always)]
    unsafe fn put_all(self, index: usize, items: &[Self::Item]) {
        for (offset, item) in items.iter().enumerate() {
            // SAFETY: the caller's promise covers each of these slots.
            unsafe { self.put(index.wrapping_add(offset), *item) };
        }
    }

    /// Copies the items from `index` on into `items`.
    ///
    /// # Safety
    /// As [`Slots::take`], for each of `index..index + items.len()`.
    #[inline(always)]
    unsafe fn take_all(self, index: usize, items: &mut [Self::Item]) {
        for (offset, item) in items.iter_mut().enumerate() {
            // SAFETY: the caller's promise covers each of these slots.
            *item = unsafe { self.take(index.wrapping_add(offset)) };
        }
    }
}

/// Item memory whose slots carry a turn number each.
pub trait StampedSlots: Slots {
    /// The turn number of slot `index`; `None` past the last slot.
    fn stamp(&self, index: usize) -> Option<&AtomicU64>;
}

impl<T> sealed::Sealed for &[Slot<T>] {}

impl<T: Copy> Slots for &[Slot<T>] {
    type Item = T;

    #[inline(always)]
    fn slot_count(self) -> usize {
        self.len()
    }

    #[inline(always)]
    fn address(self, index: usize) -> *const u8 {
        self.as_ptr().wrapping_add(index).cast()
    }

    #[inline(always)]
    unsafe fn put(self, index: usize, item: T) {
        // SAFETY: `index` is below the length by the caller's promise.
        let slot = unsafe { self.get_unchecked(index) };
        // SAFETY: nobody else accesses the slot, by the caller's promise.
        unsafe { slot.put(item) };
    }

    #[inline(always)]
    unsafe fn take(self, index: usize) -> T {
        // SAFETY: `index` is below the length by the caller's promise.
        let slot = unsafe { self.get_unchecked(index) };
        // SAFETY: the slot was put and nobody writes it, by the caller's promise.
        unsafe { slot.take() }
    }

    // `loom` cells have a size of their own: the model checker goes item by item.
    #[cfg(not(loom))]
    #[inline(always)]
    unsafe fn put_all(self, index: usize, items: &[T]) {
        // SAFETY: `index..index + items.len()` lies in the slice by the caller's promise. `Slot`
        // is transparent down to `T`, and its `UnsafeCell` permits writing through `&self`.
        let first = unsafe { self.as_ptr().add(index) }.cast::<T>().cast_mut();
        // SAFETY: source and target are each valid for `items.len()` items; they cannot overlap,
        // since nobody else may access the slots, so no `&[T]` can point there.
        unsafe { core::ptr::copy_nonoverlapping(items.as_ptr(), first, items.len()) };
    }

    #[cfg(not(loom))]
    #[inline(always)]
    unsafe fn take_all(self, index: usize, items: &mut [T]) {
        // SAFETY: as in `put_all`.
        let first = unsafe { self.as_ptr().add(index) }.cast::<T>();
        // SAFETY: the slots were put and nobody writes them, by the caller's promise; `items` is
        // exclusive, so the two cannot overlap.
        unsafe { core::ptr::copy_nonoverlapping(first, items.as_mut_ptr(), items.len()) };
    }
}

impl<T> sealed::Sealed for &[StampedSlot<T>] {}

impl<T: Copy> Slots for &[StampedSlot<T>] {
    type Item = T;

    #[inline(always)]
    fn slot_count(self) -> usize {
        self.len()
    }

    #[inline(always)]
    fn address(self, index: usize) -> *const u8 {
        self.as_ptr().wrapping_add(index).cast()
    }

    #[inline(always)]
    unsafe fn put(self, index: usize, item: T) {
        // SAFETY: `index` is below the length by the caller's promise.
        let stamped = unsafe { self.get_unchecked(index) };
        // SAFETY: nobody else accesses the slot, by the caller's promise.
        unsafe { stamped.slot.put(item) };
    }

    #[inline(always)]
    unsafe fn take(self, index: usize) -> T {
        // SAFETY: `index` is below the length by the caller's promise.
        let stamped = unsafe { self.get_unchecked(index) };
        // SAFETY: the slot was put and nobody writes it, by the caller's promise.
        unsafe { stamped.slot.take() }
    }
}

impl<T: Copy> StampedSlots for &[StampedSlot<T>] {
    #[inline(always)]
    fn stamp(&self, index: usize) -> Option<&AtomicU64> {
        self.get(index).map(|stamped| &stamped.stamp)
    }
}

/// Slots of `W` words each in memory that processes may share: what [`spsc::create`] makes a ring of.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use wiretape_core::ring::slot::{Slots, WordSlots};
///
/// let words: [AtomicU64; 9] = Default::default();
/// assert_eq!(WordSlots::<2>::new(&words).slot_count(), 4);
/// ```
///
/// [`spsc::create`]: super::spsc::create
#[derive(Clone, Copy)]
pub struct WordSlots<'m, const W: usize>(&'m [[AtomicU64; W]]);

impl<'m, const W: usize> WordSlots<'m, W> {
    /// As many slots as fit in `words`.
    pub fn new(words: &'m [AtomicU64]) -> WordSlots<'m, W> {
        const { assert!(W > 0, "an item has at least one word") };
        WordSlots(words.as_chunks::<W>().0)
    }
}

impl<const W: usize> sealed::Sealed for WordSlots<'_, W> {}

impl<const W: usize> Slots for WordSlots<'_, W> {
    type Item = [u64; W];

    #[inline(always)]
    fn slot_count(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn address(self, index: usize) -> *const u8 {
        self.0.as_ptr().wrapping_add(index).cast()
    }

    #[inline(always)]
    unsafe fn put(self, index: usize, item: [u64; W]) {
        if let Some(words) = self.0.get(index) {
            shared_words::store(words, &item);
        }
    }

    #[inline(always)]
    unsafe fn take(self, index: usize) -> [u64; W] {
        self.0.get(index).map_or([0; W], shared_words::load)
    }

    #[inline(always)]
    unsafe fn put_all(self, index: usize, items: &[[u64; W]]) {
        if let Some(slots) = self.0.get(index..index.wrapping_add(items.len())) {
            shared_words::store_all(slots.as_flattened(), items.as_flattened());
        }
    }

    #[inline(always)]
    unsafe fn take_all(self, index: usize, items: &mut [[u64; W]]) {
        if let Some(slots) = self.0.get(index..index.wrapping_add(items.len())) {
            shared_words::load_into(items.as_flattened_mut(), slots.as_flattened());
        }
    }
}

/// Slots of one turn number and `W` words each in memory that processes may share. With seven
/// words, an event, a slot is one cache line.
#[derive(Clone, Copy)]
pub struct StampedWordSlots<'m, const W: usize>(&'m [AtomicU64]);

impl<'m, const W: usize> StampedWordSlots<'m, W> {
    /// Words that one slot takes.
    pub const STRIDE: usize = W + 1;

    /// As many slots as fit in `words`.
    pub fn new(words: &'m [AtomicU64]) -> StampedWordSlots<'m, W> {
        StampedWordSlots(words)
    }

    #[inline(always)]
    fn words(self, index: usize) -> Option<&'m [AtomicU64; W]> {
        let start = index.wrapping_mul(Self::STRIDE).wrapping_add(1);
        self.0.get(start..)?.first_chunk::<W>()
    }
}

impl<const W: usize> sealed::Sealed for StampedWordSlots<'_, W> {}

impl<const W: usize> Slots for StampedWordSlots<'_, W> {
    type Item = [u64; W];

    #[inline(always)]
    fn slot_count(self) -> usize {
        self.0.len() / Self::STRIDE
    }

    #[inline(always)]
    fn address(self, index: usize) -> *const u8 {
        self.0.as_ptr().wrapping_add(index.wrapping_mul(Self::STRIDE)).cast()
    }

    #[inline(always)]
    unsafe fn put(self, index: usize, item: [u64; W]) {
        if let Some(words) = self.words(index) {
            shared_words::store(words, &item);
        }
    }

    #[inline(always)]
    unsafe fn take(self, index: usize) -> [u64; W] {
        self.words(index).map_or([0; W], shared_words::load)
    }
}

impl<const W: usize> StampedSlots for StampedWordSlots<'_, W> {
    #[inline(always)]
    fn stamp(&self, index: usize) -> Option<&AtomicU64> {
        self.0.get(index.wrapping_mul(Self::STRIDE))
    }
}
