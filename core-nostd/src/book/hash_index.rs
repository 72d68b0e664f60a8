//! An order index by hash: open addressing, linear probing, deletion by shifting back.
//!
//! ```text
//!  slot, 8 bytes:  tag (hash of id / 8, its low 3 bits mixed with the id's) │ handle, 0 if vacant
//!  home:           line = high bits of the tag, slot of the line = its low 3 bits
//! ```
//!
//! Whether the id is the one sought is seen in the order itself, which the caller reads next
//! anyhow. Eight consecutive ids share a line of eight slots, since venues hand out ids one after
//! the other and most messages are about young orders; which of the eight is which differs from
//! line to line, because order references of one Nasdaq symbol all share their low two bits. The
//! line comes from Fibonacci hashing (Knuth, TAOCP 3, 6.4: multiply by 2^64 / phi, keep the high
//! bits). Deletion moves the rest of the run back (TAOCP 3, 6.4, algorithm R), so there are no
//! tombstones and no slow decay over a day. The table is at most half full.

use super::{IndexFull, Located, OrderIndex, Orders, Place};
use crate::arena::{Arena, ArenaError, slice_bytes};
use crate::prefetch::expect_write;

const FIBONACCI: u64 = 0x9E37_79B9_7F4A_7C15;
/// Slots of a cache line: log2, and the bits of a tag that choose among them.
const LINE_BITS: u32 = 3;
const LINE_MASK: u32 = (1 << LINE_BITS) - 1;

/// An order index by hash, for ids of any kind. O(1) expected; ids chosen by an adversary could
/// make it slow, never wrong.
#[derive(Debug)]
pub struct HashIndex<'m> {
    slots: &'m mut [u64],
    mask: u64,
    /// Shifts a tag right to the number of its home line.
    shift: u32,
    len: usize,
}

impl<'m> HashIndex<'m> {
    /// An index of up to `orders` ids.
    pub fn new(arena: &mut Arena<'m>, orders: u32) -> Result<Self, ArenaError> {
        let slots = arena.alloc_slice("order index slots", Self::slots(orders))?;
        let mask = (slots.len() as u64).wrapping_sub(1);
        let line_bits = slots.len().trailing_zeros().saturating_sub(LINE_BITS);
        let shift = u32::BITS.saturating_sub(line_bits);
        Ok(HashIndex { slots, mask, shift, len: 0 })
    }

    /// Bytes of arena that an index of up to `orders` ids takes at most.
    pub const fn bytes(orders: u32) -> usize {
        slice_bytes::<u64>(Self::slots(orders))
    }

    /// A power of two, at least twice the ids, and at least two lines.
    const fn slots(orders: u32) -> usize {
        let slots = (orders as usize).saturating_mul(2).next_power_of_two();
        if slots < 16 { 16 } else { slots }
    }

    #[inline]
    fn tag(id: u64) -> u32 {
        let line = ((id >> LINE_BITS).wrapping_mul(FIBONACCI) >> 32) as u32;
        line ^ (id as u32 & LINE_MASK)
    }

    #[inline]
    fn home(&self, tag: u32) -> u64 {
        ((u64::from(tag) >> self.shift) << LINE_BITS) | u64::from(tag & LINE_MASK)
    }

    /// Where an `id` that is not in the index would go.
    pub(super) fn vacancy(&self, id: u64) -> Place {
        let mut at = self.home(Self::tag(id));
        while self.slot(at) as u32 != 0 {
            at = at.wrapping_add(1);
        }
        Place(at)
    }

    #[inline]
    fn slot(&self, at: u64) -> u64 {
        self.slots.get((at & self.mask) as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn set(&mut self, at: u64, slot: u64) {
        if let Some(target) = self.slots.get_mut((at & self.mask) as usize) {
            *target = slot;
        }
    }
}

impl OrderIndex for HashIndex<'_> {
    #[inline]
    fn locate(&self, id: u64, orders: &Orders<'_>) -> Located {
        let tag = Self::tag(id);
        let mut at = self.home(tag);
        // Ends at a vacant slot: `insert` keeps one.
        loop {
            let slot = self.slot(at);
            let handle = slot as u32;
            if handle == 0 || ((slot >> 32) as u32 == tag && orders.id(handle) == id) {
                return Located { place: Place(at), handle };
            }
            at = at.wrapping_add(1);
        }
    }

    #[inline]
    fn insert(&mut self, place: Place, id: u64, handle: u32) -> Result<(), IndexFull> {
        if self.len as u64 >= self.mask || handle == 0 {
            return Err(IndexFull);
        }
        self.set(place.0, (u64::from(Self::tag(id)) << 32) | u64::from(handle));
        self.len = self.len.wrapping_add(1);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, place: Place, _id: u64) {
        let mut hole = place.0;
        let mut next = hole;
        loop {
            next = next.wrapping_add(1);
            let slot = self.slot(next);
            if slot as u32 == 0 {
                break;
            }
            // A slot may move back to the hole unless that lies before its home.
            let from_home = next.wrapping_sub(self.home((slot >> 32) as u32)) & self.mask;
            if from_home >= next.wrapping_sub(hole) & self.mask {
                self.set(hole, slot);
                hole = next;
            }
        }
        self.set(hole, 0);
        self.len = self.len.saturating_sub(1);
    }

    #[inline]
    fn expect(&self, id: u64) {
        let home = self.home(Self::tag(id)) & self.mask;
        expect_write(self.slots.as_ptr().wrapping_add(home as usize).cast());
    }

    /// What stands at its home: the handle of another order where the two would share it.
    #[inline]
    fn guess(&self, id: u64) -> u32 {
        self.slot(self.home(Self::tag(id))) as u32
    }

    fn len(&self) -> usize {
        self.len
    }
}
