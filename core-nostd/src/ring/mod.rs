//! Rings between threads and processes, over memory that the caller hands over.
//!
//! | ring | writers, readers | when full |
//! |---|---|---|
//! | [`broadcast`] | one, any number | the oldest is overwritten, readers learn which |
//! | [`spsc`] | one, one | the item comes back |
//! | [`mpmc`] | many, many | the item comes back |
//!
//! Readers of the first may spin, yield or sleep until they are woken: [`wake`].

pub mod broadcast;
pub mod mpmc;
pub mod slot;
pub mod spsc;
pub mod wake;

mod debug;
mod pace;
mod shared;

use core::fmt;

/// The ring has no room; here is the item back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot put an item into the ring: it is full until its consumer takes one")
    }
}

impl<T: fmt::Debug> core::error::Error for Full<T> {}

/// The number of slots is not one that a ring can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacityError {
    /// Slots that were asked for.
    pub slots: usize,
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.slots;
        write!(f, "cannot make a ring of {slots} slots: take a power of two, at least 2")
    }
}

impl core::error::Error for CapacityError {}

/// Why words cannot be used as a shared ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The number of slots is not a power of two of at least 2.
    Capacity(CapacityError),
    /// The memory is shorter than the ring.
    TooShort {
        /// Words that the ring needs.
        needed: usize,
        /// Words that there are.
        found: usize,
    },
    /// The first word is not that of a ring of this kind and layout version.
    Magic {
        /// What a ring of this kind starts with.
        expected: u64,
        /// What the memory starts with.
        found: u64,
    },
    /// The ring holds items of another size.
    ItemWords {
        /// Words of an item here.
        expected: u64,
        /// Words of an item in the ring.
        found: u64,
    },
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AttachError::Capacity(ref capacity) => capacity.fmt(f),
            AttachError::TooShort { needed, found } => write!(
                f,
                "cannot use {found} words as a ring: it needs {needed}; map the whole file"
            ),
            AttachError::Magic { expected, found } => write!(
                f,
                "cannot attach to the ring: its first word is {found:#018x}, not {expected:#018x}; \
                 it was not created, or by another version"
            ),
            AttachError::ItemWords { expected, found } => write!(
                f,
                "cannot attach to the ring: its items have {found} words, not {expected}; \
                 use the item size that it was created with"
            ),
        }
    }
}

impl core::error::Error for AttachError {}

impl From<CapacityError> for AttachError {
    fn from(capacity: CapacityError) -> AttachError {
        AttachError::Capacity(capacity)
    }
}

/// `slots - 1`, if `slots` is a power of two of at least 2.
fn mask_of(slots: usize) -> Result<usize, CapacityError> {
    if slots.is_power_of_two() && slots >= 2 {
        Ok(slots.wrapping_sub(1))
    } else {
        Err(CapacityError { slots })
    }
}

/// The slot of a ring position.
#[inline(always)]
fn slot_of(position: u64, mask: usize) -> usize {
    (position as usize) & mask
}
