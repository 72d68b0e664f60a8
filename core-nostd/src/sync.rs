//! The atomics that every concurrent structure of this crate uses, in one place, so that `loom`
//! can stand in for them: `RUSTFLAGS="--cfg loom"` model-checks the real code, not a copy.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

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
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct CachePadded<T>(pub T);
