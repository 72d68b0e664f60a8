//! What keeps two cores that share a ring out of each other's way: how far ahead to ask for cache
//! lines, and not asking for the other side's position too often.

use crate::sync::spin_loop;

/// Bytes ahead of the position at which a side asks for lines: 8 cache lines. Measured on Sapphire
/// Rapids with 64-byte items, one at a time: 50 ns an item without, 6 ns with 8 lines, 7 ns with
/// 16. A line last used by the other core takes some 150 ns to arrive there; asked for when it is
/// stored to, few are on their way at a time.
pub(super) const AHEAD_BYTES: usize = 512;
const LINE_BYTES: usize = 64;

/// Items of `item_bytes` that [`AHEAD_BYTES`] are, at least one.
pub(super) const fn items_ahead(item_bytes: usize) -> u64 {
    if item_bytes == 0 || item_bytes > AHEAD_BYTES { 1 } else { (AHEAD_BYTES / item_bytes) as u64 }
}

/// Lines that a batch of items of `item_bytes` asks for when the one before it is done. Where items
/// fill lines, the processor itself asks for most of them as it copies: with 16 as for small ones an EPYC
/// (Zen 3) took up to a fifth longer.
pub(super) const fn lines_ahead(item_bytes: usize) -> u64 {
    if item_bytes < LINE_BYTES { 16 } else { 4 }
}

/// Items that begin in one line, at least one.
pub(super) const fn items_per_line(item_bytes: usize) -> u64 {
    if item_bytes == 0 || item_bytes > LINE_BYTES { 1 } else { (LINE_BYTES / item_bytes) as u64 }
}

/// Whether a line begins near `position`: small items ask once a line, not once an item.
#[inline(always)]
pub(super) const fn begins_line(position: u64, item_bytes: usize) -> bool {
    position & items_per_line(item_bytes).wrapping_sub(1) == 0
}

/// How long one side waits before it looks at the other's position again.
///
/// Each look takes the cache line away from its owner, whose next store to it must fetch it back.
/// If both run flat out, a side that looks again at once gets one to seven items a look and both
/// cores spend their time on that line: 30 ns an item were measured so, 2 ns with this. So after
/// two looks in a row that gave little, each look is put off a little longer, 7 pauses at most
/// (0.3 us). A look that gives nothing ends it: who waits for a rare item never pauses.
#[derive(Default)]
pub(super) struct Pace {
    /// Twice the pauses before the next look, plus 1; 0 after a look that gave nothing.
    doubled: u32,
}

/// Fewer items than this are little.
const LITTLE: u64 = 32;
const DOUBLED_MAX: u32 = 15;

impl Pace {
    #[inline(always)]
    pub(super) fn wait(&self) {
        for _ in 0..self.doubled >> 1 {
            spin_loop();
        }
    }

    /// Takes note of what a look gave.
    #[inline(always)]
    pub(super) fn note(&mut self, items: u64) {
        if items == 0 {
            self.doubled = 0;
        } else if items < LITTLE {
            self.doubled = self.doubled.wrapping_mul(2).wrapping_add(1).min(DOUBLED_MAX);
        }
    }
}
