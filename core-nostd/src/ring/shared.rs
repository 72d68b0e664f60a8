//! The words in front of a ring in shared memory:
//!
//! ```text
//! word  0  magic: kind and layout version    written last, when the ring is ready
//! word  1  words of an item
//! word  2  slots
//! word 16  position of the writing side      on a pair of cache lines of its own
//! word 32  position of the reading side      on a pair of cache lines of its own
//! word 48  slots from here on
//! ```
//!
//! The words should start on a 128-byte border (mapped files do), or the two positions share
//! cache lines with what lies beside them: slower, not wrong.

use super::{AttachError, mask_of};
use crate::sync::{AtomicU64, Ordering};

/// Words in front of the slots.
pub(super) const HEADER_WORDS: usize = 48;
const MAGIC: usize = 0;
const ITEM_WORDS: usize = 1;
const SLOTS: usize = 2;
const WRITE_POSITION: usize = 16;
const READ_POSITION: usize = 32;

/// A ring's parts in shared words. The positions are where the header says; the slot words are
/// exactly as many as its slots take.
pub(super) struct Layout<'m> {
    pub write: &'m AtomicU64,
    pub read: &'m AtomicU64,
    pub slots: &'m [AtomicU64],
    pub mask: usize,
    magic: &'m AtomicU64,
}

/// What distinguishes one kind of ring from another.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// First word of the header.
    pub magic: u64,
    /// Words of an item.
    pub item_words: usize,
    /// Words of a slot.
    pub stride: usize,
}

/// Words that a ring of `slots` slots of `stride` words takes.
pub(super) const fn words_needed(slots: usize, stride: usize) -> usize {
    slots.saturating_mul(stride).saturating_add(HEADER_WORDS)
}

impl<'m> Layout<'m> {
    /// Writes a fresh header into `words`, all but the magic: [`Layout::open`] follows when the
    /// slots are ready.
    pub(super) fn create(
        words: &'m [AtomicU64],
        kind: Kind,
        slots: usize,
    ) -> Result<Layout<'m>, AttachError> {
        let layout = Layout::parts(words, kind, slots)?;
        layout.magic.store(0, Ordering::Relaxed);
        let fields = [(ITEM_WORDS, kind.item_words as u64), (SLOTS, slots as u64)];
        for (index, value) in fields {
            if let Some(word) = words.get(index) {
                word.store(value, Ordering::Relaxed);
            }
        }
        layout.write.store(0, Ordering::Relaxed);
        layout.read.store(0, Ordering::Relaxed);
        Ok(layout)
    }

    /// Makes the ring attachable.
    pub(super) fn open(&self, kind: Kind) {
        // Pairs with the acquire load in `attach`.
        self.magic.store(kind.magic, Ordering::Release);
    }

    /// Reads and checks the header of a ring that another thread or process created.
    pub(super) fn attach(words: &'m [AtomicU64], kind: Kind) -> Result<Layout<'m>, AttachError> {
        let [magic, item_words, slots, ..] = words else {
            let needed = words_needed(2, kind.stride);
            return Err(AttachError::TooShort { needed, found: words.len() });
        };
        // Pairs with the release store in `open`.
        let found = magic.load(Ordering::Acquire);
        if found != kind.magic {
            return Err(AttachError::Magic { expected: kind.magic, found });
        }
        let (expected, found) = (kind.item_words as u64, item_words.load(Ordering::Relaxed));
        if found != expected {
            return Err(AttachError::ItemWords { expected, found });
        }
        let slots = usize::try_from(slots.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        Layout::parts(words, kind, slots)
    }

    fn parts(words: &'m [AtomicU64], kind: Kind, slots: usize) -> Result<Layout<'m>, AttachError> {
        let mask = mask_of(slots)?;
        let needed = words_needed(slots, kind.stride);
        let short = AttachError::TooShort { needed, found: words.len() };
        let (header, rest) = words.split_at_checked(HEADER_WORDS).ok_or(short)?;
        let slots = rest.get(..needed.wrapping_sub(HEADER_WORDS)).ok_or(short)?;
        match (header.get(MAGIC), header.get(WRITE_POSITION), header.get(READ_POSITION)) {
            (Some(magic), Some(write), Some(read)) => {
                Ok(Layout { write, read, slots, mask, magic })
            }
            _ => Err(short),
        }
    }
}
