//! The memory that all columns of a host may take together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit in bytes and what is used of it, shared by all workers' stores.
///
/// When the limit is reached, the store that appends drops its own oldest chunks, whole, until
/// the sum is within the limit again or it has nothing left to drop; the coverage of later
/// answers says which rows are gone.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget { limit, used: AtomicUsize::new(0) }
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

    pub(super) fn add(&self, bytes: isize) {
        if bytes >= 0 {
            self.used.fetch_add(bytes.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.used.fetch_sub(bytes.unsigned_abs(), Ordering::Relaxed);
        }
    }
}
