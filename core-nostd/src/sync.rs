//! The atomics that every concurrent structure of this crate uses, in one place, so that `loom`
//! can stand in for them: `RUSTFLAGS="--cfg loom"` model-checks the real code, not a copy.

#[cfg(loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Memory that one thread at a time may write through a shared reference. It shows its contents
/// only to closures, so that `loom`'s own cell (which records who looks when) can take its place.
#[cfg(not(loom))]
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    /// A cell that holds `value`.
    #[inline(always)]
    pub const fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }

    /// Hands `read` a pointer to the contents. Reading through it is the caller's to justify.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Hands `write` a pointer to the contents. Writing through it is the caller's to justify.
    #[inline(always)]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Tells the processor (or the model checker) that the caller is waiting for another thread.
#[inline(always)]
pub fn spin_loop() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    core::hint::spin_loop();
}

/// Keeps its contents on cache lines of their own. 128 bytes, because the adjacent-line
/// prefetcher of x86-64 moves lines in pairs.
///
/// ```
/// use wiretape_core::sync::CachePadded;
///
/// let counters = [CachePadded(0_u64), CachePadded(7)];
/// assert_eq!((size_of_val(&counters), counters[1].0), (256, 7));
/// ```
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct CachePadded<T>(pub T);
