//! From an order's id to its place in the pool.

use super::{HashIndex, Orders, PagedIndex};

/// A spot of an index, found by [`OrderIndex::locate`]. Good until the index next changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub(super) u64);

/// Where an id is, or where it would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The spot.
    pub place: Place,
    /// The order's handle; 0 if no live order has this id.
    pub handle: u32,
}

/// The index has no room for another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexFull;

/// From an order's id to its handle in the pool of [`Orders`].
///
/// Two are here: [`HashIndex`] takes any ids; [`PagedIndex`] is for ids that rise through the
/// day, as Nasdaq's order references do. [`EitherIndex`] leaves the choice to a configuration.
pub trait OrderIndex {
    /// Finds `id`, or the spot where it would go. The pool is there to compare ids, so that the
    /// index need not keep them.
    fn locate(&self, id: u64, orders: &Orders<'_>) -> Located;

    /// Puts `handle` (not 0) at the vacant spot that [`locate`](Self::locate) found for `id`.
    fn insert(&mut self, place: Place, id: u64, handle: u32) -> Result<(), IndexFull>;

    /// Forgets the order at an occupied spot that [`locate`](Self::locate) found for its `id`.
    fn remove(&mut self, place: Place, id: u64);

    /// Asks for the line that [`locate`](Self::locate) reads for `id`: a hint to the processor.
    fn expect(&self, id: u64);

    /// The handle that is most likely that of `id`, for hints alone: it may be another order's, or
    /// no order's.
    fn guess(&self, id: u64) -> u32;

    /// Ids in the index.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An index chosen at start. The branch is the same at every call, so the processor foresees it;
/// a loop that is generic over the index saves even that.
#[derive(Debug)]
pub enum EitherIndex<'m> {
    /// By hash.
    Hash(HashIndex<'m>),
    /// Direct.
    Paged(PagedIndex<'m>),
}

impl OrderIndex for EitherIndex<'_> {
    #[inline]
    fn locate(&self, id: u64, orders: &Orders<'_>) -> Located {
        match self {
            EitherIndex::Hash(index) => index.locate(id, orders),
            EitherIndex::Paged(index) => index.locate(id, orders),
        }
    }

    #[inline]
    fn insert(&mut self, place: Place, id: u64, handle: u32) -> Result<(), IndexFull> {
        match self {
            EitherIndex::Hash(index) => index.insert(place, id, handle),
            EitherIndex::Paged(index) => index.insert(place, id, handle),
        }
    }

    #[inline]
    fn remove(&mut self, place: Place, id: u64) {
        match self {
            EitherIndex::Hash(index) => index.remove(place, id),
            EitherIndex::Paged(index) => index.remove(place, id),
        }
    }

    #[inline]
    fn expect(&self, id: u64) {
        match self {
            EitherIndex::Hash(index) => index.expect(id),
            EitherIndex::Paged(index) => index.expect(id),
        }
    }

    #[inline]
    fn guess(&self, id: u64) -> u32 {
        match self {
            EitherIndex::Hash(index) => index.guess(id),
            EitherIndex::Paged(index) => index.guess(id),
        }
    }

    fn len(&self) -> usize {
        match self {
            EitherIndex::Hash(index) => index.len(),
            EitherIndex::Paged(index) => index.len(),
        }
    }
}
