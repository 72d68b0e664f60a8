//! A direct order index: a table of handles by order reference, in pages.
//!
//! ```text
//!  reference  ──high bits──► directory ──► page of 512 handles ──low bits──► handle
//! ```
//!
//! Nasdaq's references rise through the day, so young orders, which most messages are about,
//! stand side by side in a few pages that stay in the cache. A page goes back to the pool when its
//! last order is gone. References beyond the directory, and any reference while the pool has no
//! page left, go to a [`HashIndex`] beside it.

use super::{HashIndex, IndexFull, Located, OrderIndex, Orders, Place};
use crate::arena::{Arena, ArenaError, slice_bytes};
use crate::prefetch::expect_write;

/// References of a page, 2 KiB of handles.
const PAGE_REFS: usize = 512;
const PAGE_BITS: u32 = PAGE_REFS.trailing_zeros();

/// Marks a place in the hash beside the pages.
const IN_OVERFLOW: u64 = 1 << 63;

/// How much memory a [`PagedIndex`] claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagedSpec {
    /// References from 0 up to this one (exclusive) are indexed directly; the directory takes four
    /// bytes for 512 of them. The full Nasdaq feed stays below 2^32 in a day.
    pub refs: u64,
    /// Pages of 512 references, 2 KiB each. Live orders of all ages are spread: an old order may
    /// hold a page alone.
    pub pages: u32,
    /// Orders that the hash can take which fit no page.
    pub overflow_orders: u32,
}

impl PagedSpec {
    /// For up to `orders` live orders with references below `refs`: any of them can be in the
    /// hash, and there is a page for each eight.
    pub const fn for_orders(orders: u32, refs: u64) -> PagedSpec {
        let pages = if orders / 8 < 64 { 64 } else { orders / 8 };
        PagedSpec { refs, pages, overflow_orders: orders }
    }

    /// Bytes of arena that the index takes at most.
    pub const fn bytes(&self) -> usize {
        slice_bytes::<u32>(self.directory())
            .saturating_add(slice_bytes::<u32>((self.pages as usize).saturating_mul(PAGE_REFS)))
            .saturating_add(slice_bytes::<u32>(self.pages as usize))
            .saturating_add(HashIndex::bytes(self.overflow_orders))
    }

    const fn directory(&self) -> usize {
        self.refs.div_ceil(PAGE_REFS as u64) as usize
    }
}

/// An order index by direct lookup, for references that rise through the day. O(1).
#[derive(Debug)]
pub struct PagedIndex<'m> {
    /// Page of each 512 references, plus one; 0 if there is none.
    directory: &'m mut [u32],
    /// The handles of all pages, one page behind the other.
    handles: &'m mut [u32],
    /// Handles in each page; in a free page, the next free one plus one.
    live: &'m mut [u32],
    /// First freed page, plus one; 0 if there is none.
    free: u32,
    /// First page that was never used.
    fresh: u32,
    /// Handles in pages.
    len: usize,
    overflow: HashIndex<'m>,
}

impl<'m> PagedIndex<'m> {
    /// An index with that much memory.
    pub fn new(arena: &mut Arena<'m>, spec: &PagedSpec) -> Result<Self, ArenaError> {
        Ok(PagedIndex {
            directory: arena.alloc_slice("order index directory", spec.directory())?,
            handles: arena.alloc_slice(
                "order index pages",
                (spec.pages as usize).saturating_mul(PAGE_REFS),
            )?,
            live: arena.alloc_slice("order index pages", spec.pages as usize)?,
            free: 0,
            fresh: 0,
            len: 0,
            overflow: HashIndex::new(arena, spec.overflow_orders)?,
        })
    }

    /// Orders that fitted no page and are in the hash.
    pub fn overflowed(&self) -> usize {
        self.overflow.len()
    }

    /// Where a place stands among the handles of all pages; beyond them if it is in no page.
    #[inline(always)]
    fn slot(place: Place) -> usize {
        usize::try_from(place.0).unwrap_or(usize::MAX)
    }

    /// The place of `id`, whose directory entry is `entry`; beyond all pages if there is no page.
    #[inline(always)]
    fn place(entry: u32, id: u64) -> Place {
        Place((u64::from(entry.wrapping_sub(1)) << PAGE_BITS) | (id % PAGE_REFS as u64))
    }

    #[inline(always)]
    fn place_in_page(&self, id: u64) -> Place {
        let entry = self.directory.get(Self::directory_slot(id)).copied().unwrap_or(0);
        Self::place(entry, id)
    }

    #[inline]
    fn directory_slot(id: u64) -> usize {
        usize::try_from(id >> PAGE_BITS).unwrap_or(usize::MAX)
    }

    /// A page for the references around `id`, entered in the directory.
    #[cold]
    fn claim_page(&mut self, id: u64) -> Option<u32> {
        let entry = self.directory.get_mut(Self::directory_slot(id))?;
        let page = if let Some(page) = self.free.checked_sub(1) {
            let live = self.live.get_mut(page as usize)?;
            self.free = core::mem::replace(live, 0);
            page
        } else if (self.fresh as usize) < self.live.len() {
            let page = self.fresh;
            self.fresh = page.wrapping_add(1);
            page
        } else {
            return None;
        };
        *entry = page.wrapping_add(1);
        Some(page)
    }

    /// Takes back a page that holds nothing any more.
    #[cold]
    fn release_page(&mut self, page: usize, id: u64) {
        if let Some(entry) = self.directory.get_mut(Self::directory_slot(id)) {
            *entry = 0;
        }
        if let Some(live) = self.live.get_mut(page) {
            *live = self.free;
            self.free = (page as u32).wrapping_add(1);
        }
    }

    #[cold]
    fn locate_in_overflow(&self, id: u64, orders: &Orders<'_>, vacant: Place) -> Located {
        match self.overflow.locate(id, orders) {
            Located { handle: 0, .. } => Located { place: vacant, handle: 0 },
            Located { place, handle } => Located { place: Place(place.0 | IN_OVERFLOW), handle },
        }
    }

    #[cold]
    fn insert_without_page(&mut self, id: u64, handle: u32) -> Result<(), IndexFull> {
        match self.claim_page(id) {
            Some(page) => self.insert(Self::place(page.wrapping_add(1), id), id, handle),
            None => self.overflow.insert(self.overflow.vacancy(id), id, handle),
        }
    }

    #[cold]
    fn remove_from_overflow(&mut self, place: Place, id: u64) {
        self.overflow.remove(Place(place.0 & !IN_OVERFLOW), id);
    }
}

impl OrderIndex for PagedIndex<'_> {
    #[inline(always)]
    fn locate(&self, id: u64, orders: &Orders<'_>) -> Located {
        let place = self.place_in_page(id);
        let handle = self.handles.get(Self::slot(place)).copied().unwrap_or(0);
        if handle != 0 || self.overflow.is_empty() {
            return Located { place, handle };
        }
        self.locate_in_overflow(id, orders, place)
    }

    #[inline(always)]
    fn insert(&mut self, place: Place, id: u64, handle: u32) -> Result<(), IndexFull> {
        let slot = Self::slot(place);
        let (Some(vacant), Some(live)) =
            (self.handles.get_mut(slot), self.live.get_mut(slot / PAGE_REFS))
        else {
            return self.insert_without_page(id, handle);
        };
        *vacant = handle;
        *live = live.wrapping_add(1);
        self.len = self.len.wrapping_add(1);
        Ok(())
    }

    #[inline(always)]
    fn remove(&mut self, place: Place, id: u64) {
        let slot = Self::slot(place);
        let (Some(taken), Some(live)) =
            (self.handles.get_mut(slot), self.live.get_mut(slot / PAGE_REFS))
        else {
            return self.remove_from_overflow(place, id);
        };
        *taken = 0;
        *live = live.wrapping_sub(1);
        self.len = self.len.wrapping_sub(1);
        if *live == 0 {
            self.release_page(slot / PAGE_REFS, id);
        }
    }

    #[inline(always)]
    fn expect(&self, id: u64) {
        if let Some(handle) = self.handles.get(Self::slot(self.place_in_page(id))) {
            expect_write(core::ptr::from_ref(handle).cast());
        }
    }

    /// Orders in the hash beside the pages are left out.
    #[inline(always)]
    fn guess(&self, id: u64) -> u32 {
        self.handles.get(Self::slot(self.place_in_page(id))).copied().unwrap_or(0)
    }

    fn len(&self) -> usize {
        self.len.saturating_add(self.overflow.len())
    }
}
