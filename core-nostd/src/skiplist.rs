//! An ordered list in a given arena: one writer, any number of concurrent readers.
//!
//! It is a skip list (Pugh, "Skip Lists: A Probabilistic Alternative to Balanced Trees", 1990) in
//! its deterministic form (Munro, Papadakis and Sedgewick, "Deterministic Skip Lists", 1992) with
//! several keys in a node, so that a search touches few cache lines and needs no random numbers:
//! the same inserts make the same list, bit for bit. Entries sit seven to a leaf; the express
//! lanes above have an entry for each node below, fifteen to a node:
//!
//! ```text
//! lane 1      [ 0 . . . . . . . . . . . . . . ]──────────────────► . . .
//!               │         └──────────────┐
//! lane 0      [ 0 · 31 · 74 . . . . . ]──►[ 209 · 260 . . . . . ]──► . . .
//!               │    └──────┐
//! leaves      [ 3 5 8 ]──►[ 31 40 66 70 ]──►[ 74 90 ]──► . . .     ascending, linked by u32
//! ```
//!
//! **Entries.** A key (`i64` or `u64`) and a 64-bit value. Equal keys are kept in the order of
//! their arrival. Entries are never removed one by one; [`SkipList::clear`] removes all.
//!
//! **Cost.** An insert in order is O(1), a few stores; one that is late by up to some twenty
//! entries, or that falls where the last one fell, is O(1) too; any other is O(log n). Nothing
//! is allocated: nodes come out of the words given at the start, and [`Full`] says when they are
//! used up, with the list unchanged.
//!
//! **What readers see.** An insert appears at once and whole. A node is published by one release
//! store of its state word (order of its slots, their number, link to the next node), which
//! readers acquire; a split, too, is a single such store. The slots that a state names change
//! only after a later state with another link was stored, so a reader that finds the same link
//! after reading has read consistent slots, and tries again otherwise: readers are lock-free,
//! and the writer never waits. An iteration returns every entry that was there when it began,
//! once and in order, and perhaps some that came later. Lanes are only hints: they may lag
//! behind a split for a moment, and a search then walks right along the leaves, as in Lehman and
//! Yao's B-link trees ("Efficient Locking for Concurrent Operations on B-Trees", 1981).
//!
//! **Clear.** The list counts its generations. A search that meets a clear starts over in the
//! new generation; an iteration ends, and [`Iter::cleared`] says why.
//!
//! Memory is seen as atomic words only, so it may be shared between processes; links out of it
//! are checked before use. Words aligned to a cache line (64 bytes) are fastest.

mod node;
mod reader;
mod writer;

use crate::sync::AtomicU64;
use crate::sync::Ordering::{Acquire, Relaxed};
use node::{LANE_LINES, LEAF_LINES, LEAF_SLOTS, LINE_WORDS};

pub use reader::{Iter, SkipListReader};
pub use writer::SkipList;

/// A key of the list: `i64` or `u64`.
pub trait Key: Copy + Ord + sealed::Key {}
impl Key for i64 {}
impl Key for u64 {}

mod sealed {
    /// Keys are stored as words that order as the keys do, without a sign.
    pub trait Key {
        fn to_word(self) -> u64;
        fn from_word(word: u64) -> Self;
    }
    impl Key for u64 {
        fn to_word(self) -> u64 {
            self
        }
        fn from_word(word: u64) -> u64 {
            word
        }
    }
    impl Key for i64 {
        fn to_word(self) -> u64 {
            self as u64 ^ 1 << 63
        }
        fn from_word(word: u64) -> i64 {
            (word ^ 1 << 63) as i64
        }
    }
}

/// No memory is left for another entry. The list is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Entries that the list holds.
    pub entries: u64,
}

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "inserting into a skip list of {} entries: its memory is used up", self.entries)
    }
}

impl core::error::Error for Full {}

/// The words do not hold a skip list, or not all of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// Fewer words than the list needs.
    TooSmall {
        /// Words given.
        found: usize,
        /// Words needed.
        expected: usize,
    },
    /// Another first word than a skip list of this layout has, whatever the type of its keys.
    NotASkipList {
        /// The first word.
        found: u64,
    },
}

impl core::fmt::Display for AttachError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AttachError::TooSmall { found, expected } => {
                write!(f, "attaching a skip list: {found} words given, {expected} needed")
            }
            AttachError::NotASkipList { found } => write!(
                f,
                "attaching a skip list: the first word is {found:#018x}, \
                 so none of this layout was created here"
            ),
        }
    }
}

impl core::error::Error for AttachError {}

/// The first word of a list: "WTSKIP" and the version of the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"WTSKIP01");

/// Words before the first node: two cache lines, so that nodes do not share the writer's.
const HEADER_LINES: u32 = 2;
const HEADER_WORDS: usize = HEADER_LINES as usize * LINE_WORDS;

/// More lanes than 2^32 lines can need: nodes are at least half full, so each lane is at most an
/// eighth of the one below.
const LANES_MAX: usize = 16;

/// The first leaf, which stays the first: splits put the new node to the right.
const FIRST_LEAF: u32 = HEADER_LINES;

/// The fields at the start of the list's words, each a word of its own.
#[derive(Clone, Copy, Debug)]
struct Header<'m> {
    magic: &'m AtomicU64,
    /// Even; odd while the list is being cleared.
    generation: &'m AtomicU64,
    /// Number of lanes (high half) and the node to start from (low half).
    top: &'m AtomicU64,
    /// Lines that the writer was given (high half) and those it has used (low half).
    lines: &'m AtomicU64,
    /// Entries.
    len: &'m AtomicU64,
}

impl<'m> Header<'m> {
    fn of(words: &'m [AtomicU64]) -> Option<Header<'m>> {
        let [magic, generation, top, lines, len, ..] = words.first_chunk::<HEADER_WORDS>()?;
        Some(Header { magic, generation, top, lines, len })
    }

    fn top(&self) -> (u32, u32) {
        // Partner: the release store in `SkipList::grow`.
        let top = self.top.load(Acquire);
        // A spoilt header may name more lanes than there can be.
        (((top >> 32) as u32).min(LANES_MAX as u32), top as u32)
    }
}

/// Words in which `entries` fit, whatever the order in which they come (at most 39 bytes an
/// entry).
pub const fn words_for(entries: usize) -> usize {
    // A leaf is at least half full (4 of 7), but for the first and the last.
    words_for_leaves(entries.div_ceil(LEAF_SLOTS.div_ceil(2)).saturating_add(2))
}

/// Words in which `entries` fit if each key is at least as large as the one before (about 20
/// bytes an entry).
pub const fn words_for_sorted(entries: usize) -> usize {
    // As many as for one: less, no list begins in.
    let entries = if entries == 0 { 1 } else { entries };
    words_for_leaves(entries.div_ceil(LEAF_SLOTS).saturating_add(1))
}

const fn words_for_leaves(leaves: usize) -> usize {
    let mut lines = leaves.saturating_mul(LEAF_LINES as usize);
    let mut below = leaves;
    // A lane's node is at least half full (8 of 15), but for its last, and a lane more is asked
    // for than there is: the writer wants to be sure before it begins a split.
    while below > 1 {
        below = below.div_ceil(node::LANE_SLOTS.div_ceil(2));
        lines = lines.saturating_add((below + 2).saturating_mul(LANE_LINES as usize));
    }
    lines = lines.saturating_add(LEAF_LINES as usize + 2 * LANE_LINES as usize);
    lines.saturating_mul(LINE_WORDS).saturating_add(HEADER_WORDS)
}

fn generation_of(header: &Header<'_>) -> u64 {
    // Partner: the release store at the end of `SkipList::clear`.
    header.generation.load(Acquire)
}

/// Whether the list is still in `generation`, after an acquire fence that followed the reads in
/// question.
fn is_generation(header: &Header<'_>, generation: u64) -> bool {
    header.generation.load(Relaxed) == generation
}

#[cfg(all(test, not(loom)))]
mod tests;
