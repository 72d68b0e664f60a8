//! The memory that all columns of a host may take together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit in bytes and what is used of it, shared by all workers' stores.
///
/// When the limit is reached, a store that holds more than its share (the limit by the number of
/// stores) drops its own oldest chunks, whole, until the sum is within the limit again or its
/// share is reached; the coverage of later answers says which rows are gone. A store does so when
/// it appends, and when its host looks at it: one that is silent does not keep out one that began
/// later. Until then the sum is above the limit.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    stores: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget { limit, used: AtomicUsize::new(0), stores: AtomicUsize::new(0) }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes allocated for columns at present.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more is used than allowed.
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// What each store may hold in any case.
    pub(super) fn share(&self) -> usize {
        self.limit / self.stores.load(Ordering::Relaxed).max(1)
    }

    /// One store more.
    pub(super) fn join(&self) {
        self.stores.fetch_add(1, Ordering::Relaxed);
    }

    /// One store less.
    pub(super) fn leave(&self) {
        self.stores.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: isize) {
        if bytes >= 0 {
            self.used.fetch_add(bytes.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.used.fetch_sub(bytes.unsigned_abs(), Ordering::Relaxed);
        }
    }
}
