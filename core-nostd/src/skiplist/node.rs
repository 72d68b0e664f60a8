//! The two kinds of node, as views of the list's words.
//!
//! ```text
//! leaf, 16 words    0: state        1..8: keys       8: previous leaf     9..16: values
//! lane, 24 words    0: order        1..16: keys      16..24: 15 nodes below, then the next node
//! ```
//!
//! A leaf's state is its order (24 bits) and, in the high half, the link to the next leaf. A node
//! is named by its first cache line, counted from the start of the list's words.

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU64, fence};

/// A link to nothing: line 0 is the header's.
pub(super) const NONE: u32 = 0;

pub(super) const LINE_WORDS: usize = 8;

/// Loom explores small nodes; the code is the same.
pub(super) const LEAF_SLOTS: usize = if cfg!(loom) { 3 } else { 7 };
const LEAF_BITS: u32 = if cfg!(loom) { 2 } else { 3 };
pub(super) const LANE_SLOTS: usize = if cfg!(loom) { 3 } else { 15 };
const LANE_BITS: u32 = if cfg!(loom) { 2 } else { 4 };

const LEAF_WORDS: usize = 2 * (1 + LEAF_SLOTS);
const LEAF_PREVIOUS: usize = 1 + LEAF_SLOTS;
const LEAF_VALUES: usize = 2 + LEAF_SLOTS;
const LANE_WORDS: usize = 1 + LANE_SLOTS + LANE_SLOTS.div_ceil(2);
const LANE_BELOW: usize = 1 + LANE_SLOTS;

pub(super) const LEAF_LINES: u32 = LEAF_WORDS.div_ceil(LINE_WORDS) as u32;
pub(super) const LANE_LINES: u32 = LANE_WORDS.div_ceil(LINE_WORDS) as u32;

const _: () = assert!(LEAF_SLOTS as u32 * LEAF_BITS + LEAF_BITS <= 32);
const _: () = assert!(LANE_SLOTS as u32 * LANE_BITS + LANE_BITS <= 64);
const _: () = assert!(LEAF_SLOTS < 1 << LEAF_BITS && LANE_SLOTS < 1 << LANE_BITS);

/// The order of a node's slots in one word: the slot of the smallest key first, `BITS` for each,
/// free slots behind the used ones, then how many are used. As in Mao, Kohler and Morris, "Cache
/// Craftiness for Fast Multicore Key-Value Storage" (Masstree), 2012.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order<const SLOTS: usize, const BITS: u32>(u64);

pub(super) type LeafOrder = Order<LEAF_SLOTS, LEAF_BITS>;
pub(super) type LaneOrder = Order<LANE_SLOTS, LANE_BITS>;

impl<const SLOTS: usize, const BITS: u32> Order<SLOTS, BITS> {
    const SLOT: u64 = (1 << BITS) - 1;
    const COUNT_SHIFT: u32 = SLOTS as u32 * BITS;

    /// Slots in their natural order, none of them used.
    const IDENTITY: u64 = {
        let (mut order, mut slot) = (0, 0);
        while slot < SLOTS {
            order |= (slot as u64) << (slot as u32 * BITS);
            slot += 1;
        }
        order
    };

    /// The first `count` slots used, in their natural order.
    pub(super) fn ascending(count: usize) -> Self {
        Order(Self::IDENTITY).with_count(count)
    }

    #[inline(always)]
    pub(super) fn count(self) -> usize {
        (self.0 >> Self::COUNT_SHIFT & Self::SLOT) as usize
    }

    /// The same order with the slots from `count` on free.
    pub(super) fn with_count(self, count: usize) -> Self {
        let order = self.0 & !(Self::SLOT << Self::COUNT_SHIFT);
        Order(order | (count as u64 & Self::SLOT) << Self::COUNT_SHIFT)
    }

    /// The slot of the entry at `rank`, or of a free one for ranks from the count on.
    #[inline(always)]
    pub(super) fn slot(self, rank: usize) -> usize {
        (self.0.wrapping_shr(rank as u32 * BITS) & Self::SLOT) as usize
    }

    /// Takes a free slot into use at `rank`, which is at most the count; there must be one.
    #[inline(always)]
    pub(super) fn insert(self, rank: usize) -> (Self, usize) {
        let count = self.count();
        let slot = self.slot(count);
        let below = |rank: usize| 1u64.wrapping_shl(rank as u32 * BITS).wrapping_sub(1);
        let stay = self.0 & (below(rank) | !below(count + 1));
        let shift = (self.0 & below(count) & !below(rank)) << BITS;
        let order = stay | shift | (slot as u64) << (rank as u32 * BITS);
        (Order(order).with_count(count + 1), slot)
    }
}

/// The keys on the left of a place in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// The first key that is not among them, unless all are.
    end: u64,
    all: bool,
}

impl Before {
    pub(super) const NONE: Before = Before { end: 0, all: false };
    pub(super) const ALL: Before = Before { end: 0, all: true };

    /// Keys less than `key`.
    #[inline(always)]
    pub(super) fn below(key: u64) -> Before {
        Before { end: key, all: false }
    }

    /// Keys less than or equal to `key`.
    #[inline(always)]
    pub(super) fn up_to(key: u64) -> Before {
        Before { end: key.wrapping_add(1), all: key == u64::MAX }
    }

    #[inline(always)]
    pub(super) fn holds(self, key: u64) -> bool {
        self.all || key < self.end
    }

    /// How many of a node's keys, of which the first `count` in order are in use, are before.
    #[inline(always)]
    fn rank<const SLOTS: usize>(self, count: usize, key: impl Fn(usize) -> u64) -> usize {
        if self.all {
            return count;
        }
        // Three sums, because each addition waits for the one before.
        let mut ranks = [0; 3];
        for slot in 0..SLOTS {
            ranks[slot % 3] += is_less(key(slot), self.end);
        }
        (ranks[0] + ranks[1] + ranks[2]).min(count as u64) as usize
    }
}

/// 1 if `left` is less than `right`, else 0, as the borrow of a subtraction: from comparisons
/// LLVM 22 makes a bit mask and counts its bits without an instruction for it, which took twice
/// as long.
#[inline(always)]
fn is_less(left: u64, right: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut difference = 0;
        core::arch::x86_64::_subborrow_u64(0, left, right, &mut difference).into()
    }
    #[cfg(not(target_arch = "x86_64"))]
    u64::from(left < right)
}

/// The word of a leaf that makes it what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeafState(u64);

impl LeafState {
    #[inline(always)]
    pub(super) fn new(order: LeafOrder, next: u32) -> LeafState {
        LeafState(order.0 | u64::from(next) << 32)
    }

    #[inline(always)]
    pub(super) fn order(self) -> LeafOrder {
        Order(self.0 & 0xFFFF_FFFF)
    }

    #[inline(always)]
    pub(super) fn next(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[derive(Clone, Copy)]
pub(super) struct Leaf<'m>(&'m [AtomicU64; LEAF_WORDS]);

impl<'m> Leaf<'m> {
    /// The leaf at `line`; `None` for a link that points outside.
    #[inline(always)]
    pub(super) fn at(words: &'m [AtomicU64], line: u32) -> Option<Leaf<'m>> {
        words.get(line as usize * LINE_WORDS..)?.first_chunk().map(Leaf)
    }

    #[inline(always)]
    pub(super) fn state(self) -> LeafState {
        // Partner: `Leaf::publish`.
        LeafState(self.0[0].load(Acquire))
    }

    /// Whether the slots of `state`, read before this, were not reused meanwhile.
    #[inline(always)]
    pub(super) fn is_intact(self, state: LeafState) -> bool {
        // Partner: the release fence in `Leaf::truncate`. Links are never used twice within a
        // generation, so the same link means that no slot was given up.
        fence(Acquire);
        LeafState(self.0[0].load(Relaxed)).next() == state.next()
    }

    #[inline(always)]
    pub(super) fn publish(self, state: LeafState) {
        self.0[0].store(state.0, Release);
    }

    /// Publishes a state that gives up slots, so that they may be written again.
    pub(super) fn truncate(self, state: LeafState) {
        self.publish(state);
        fence(Release);
    }

    #[inline(always)]
    pub(super) fn key(self, slot: usize) -> u64 {
        self.0[1 + (slot & ((1 << LEAF_BITS) - 1))].load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn value(self, slot: usize) -> u64 {
        self.0.get(LEAF_VALUES + slot).map_or(0, |word| word.load(Relaxed))
    }

    #[inline(always)]
    pub(super) fn set(self, slot: usize, key: u64, value: u64) {
        if let Some(word) = self.0.get(LEAF_VALUES + slot) {
            self.0[1 + (slot & ((1 << LEAF_BITS) - 1))].store(key, Relaxed);
            word.store(value, Relaxed);
        }
    }

    /// The leaf to the left: only the writer follows this link.
    pub(super) fn previous(self) -> u32 {
        self.0[LEAF_PREVIOUS].load(Relaxed) as u32
    }

    pub(super) fn set_previous(self, line: u32) {
        self.0[LEAF_PREVIOUS].store(u64::from(line), Relaxed);
    }

    /// Makes every slot one that no search counts.
    pub(super) fn wipe(self) {
        for slot in 0..LEAF_SLOTS {
            self.set(slot, u64::MAX, 0);
        }
    }

    /// How many of the slots used by `order` have keys that are before.
    #[inline(always)]
    pub(super) fn rank(self, order: LeafOrder, before: Before) -> usize {
        let mut rank = before.rank::<LEAF_SLOTS>(order.count(), |slot| self.key(slot));
        // All slots were counted, without a branch. Those that `order` leaves free hold keys not
        // before the used ones, unless the writer is about to take one into use.
        while rank > 0 && !before.holds(self.key(order.slot(rank - 1))) {
            rank -= 1;
        }
        rank
    }
}

#[derive(Clone, Copy)]
pub(super) struct Lane<'m>(&'m [AtomicU64; LANE_WORDS]);

impl<'m> Lane<'m> {
    /// The lane node at `line`; `None` for a link that points outside.
    #[inline(always)]
    pub(super) fn at(words: &'m [AtomicU64], line: u32) -> Option<Lane<'m>> {
        words.get(line as usize * LINE_WORDS..)?.first_chunk().map(Lane)
    }

    #[inline(always)]
    pub(super) fn order(self) -> LaneOrder {
        // Partner: `Lane::publish`.
        Order(self.0[0].load(Acquire))
    }

    #[inline(always)]
    pub(super) fn publish(self, order: LaneOrder) {
        self.0[0].store(order.0, Release);
    }

    /// Publishes an order that gives up slots to the new node `next`. The order comes first: a
    /// reader that knows the new link then knows the new order.
    pub(super) fn truncate(self, order: LaneOrder, next: u32) {
        self.publish(order);
        self.set_below(LANE_SLOTS, next);
        fence(Release);
    }

    #[inline(always)]
    pub(super) fn next(self) -> u32 {
        self.below(LANE_SLOTS)
    }

    pub(super) fn link(self, next: u32) {
        self.set_below(LANE_SLOTS, next);
    }

    /// Whether the slots of an order that was read after `next`, and before this, were not
    /// reused meanwhile.
    #[inline(always)]
    pub(super) fn is_intact(self, next: u32) -> bool {
        // Partner: the release fence in `Lane::truncate`.
        fence(Acquire);
        self.next() == next
    }

    #[inline(always)]
    pub(super) fn key(self, slot: usize) -> u64 {
        self.0[1 + (slot & ((1 << LANE_BITS) - 1))].load(Relaxed)
    }

    /// The node below of a slot; at `LANE_SLOTS`, the next node of this lane.
    #[inline(always)]
    pub(super) fn below(self, slot: usize) -> u32 {
        let slot = slot & ((1 << LANE_BITS) - 1);
        (self.0[LANE_BELOW + slot / 2].load(Acquire) >> (slot % 2 * 32)) as u32
    }

    fn set_below(self, slot: usize, line: u32) {
        let slot = slot & ((1 << LANE_BITS) - 1);
        let (word, shift) = (&self.0[LANE_BELOW + slot / 2], slot % 2 * 32);
        let kept = word.load(Relaxed) & !(0xFFFF_FFFF << shift);
        word.store(kept | u64::from(line) << shift, Release);
    }

    pub(super) fn set(self, slot: usize, key: u64, below: u32) {
        self.0[1 + (slot & ((1 << LANE_BITS) - 1))].store(key, Relaxed);
        self.set_below(slot, below);
    }

    /// Makes every slot one that no search counts, and the node the last of its lane.
    pub(super) fn wipe(self) {
        for slot in 0..LANE_SLOTS {
            self.set(slot, u64::MAX, NONE);
        }
        self.set_below(LANE_SLOTS, NONE);
    }

    /// The rank of the last entry that is before; the first if there is none.
    #[inline(always)]
    pub(super) fn last_before(self, order: LaneOrder, before: Before) -> usize {
        let rank = before.rank::<LANE_SLOTS>(order.count(), |slot| self.key(slot));
        let mut rank = rank.saturating_sub(1);
        // As in `Leaf::rank`.
        while rank > 0 && !before.holds(self.key(order.slot(rank))) {
            rank -= 1;
        }
        rank
    }
}
