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

/// References of a page, 2 KiB of handles.
const PAGE_REFS: usize = 512;
const PAGE_BITS: u32 = PAGE_REFS.trailing_zeros();
type Page = [u32; PAGE_REFS];

/// Marks a place in the hash beside the pages.
const IN_OVERFLOW: u64 = 1 << 63;
/// The place of an id whose page does not exist yet.
const NO_PAGE: Place = Place(1 << 62);

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
            .saturating_add(slice_bytes::<Page>(self.pages as usize))
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
    pages: &'m mut [Page],
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
            pages: arena.alloc_slice("order index pages", spec.pages as usize)?,
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

    /// The page number and the slot within it of a place in a page.
    #[inline]
    fn split(place: Place) -> (usize, usize) {
        ((place.0 >> PAGE_BITS) as usize, place.0 as usize % PAGE_REFS)
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
        } else if (self.fresh as usize) < self.pages.len() {
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
            Some(page) => {
                let place = (u64::from(page) << PAGE_BITS) | (id % PAGE_REFS as u64);
                self.insert(Place(place), id, handle)
            }
            None => self.overflow.insert(self.overflow.vacancy(id), id, handle),
        }
    }
}

impl OrderIndex for PagedIndex<'_> {
    #[inline(always)]
    fn locate(&self, id: u64, orders: &Orders<'_>) -> Located {
        let entry = self.directory.get(Self::directory_slot(id)).copied().unwrap_or(0);
        let page = entry.wrapping_sub(1);
        let mut vacant = NO_PAGE;
        if let Some(handles) = self.pages.get(page as usize) {
            let slot = id as usize % PAGE_REFS;
            vacant = Place((u64::from(page) << PAGE_BITS) | slot as u64);
            let handle = handles[slot];
            if handle != 0 {
                return Located { place: vacant, handle };
            }
        }
        if self.overflow.is_empty() {
            return Located { place: vacant, handle: 0 };
        }
        self.locate_in_overflow(id, orders, vacant)
    }

    #[inline(always)]
    fn insert(&mut self, place: Place, id: u64, handle: u32) -> Result<(), IndexFull> {
        if place == NO_PAGE {
            return self.insert_without_page(id, handle);
        }
        let (page, slot) = Self::split(place);
        let (Some(handles), Some(live)) = (self.pages.get_mut(page), self.live.get_mut(page))
        else {
            return Err(IndexFull);
        };
        handles[slot] = handle;
        *live = live.wrapping_add(1);
        self.len = self.len.wrapping_add(1);
        Ok(())
    }

    #[inline(always)]
    fn remove(&mut self, place: Place, id: u64) {
        if place.0 & IN_OVERFLOW != 0 {
            return self.overflow.remove(Place(place.0 & !IN_OVERFLOW), id);
        }
        let (page, slot) = Self::split(place);
        let (Some(handles), Some(live)) = (self.pages.get_mut(page), self.live.get_mut(page))
        else {
            return;
        };
        handles[slot] = 0;
        *live = live.wrapping_sub(1);
        self.len = self.len.wrapping_sub(1);
        if *live == 0 {
            self.release_page(page, id);
        }
    }

    fn len(&self) -> usize {
        self.len.saturating_add(self.overflow.len())
    }
}
