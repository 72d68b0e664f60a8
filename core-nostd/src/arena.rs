//! Arenas: memory that the caller hands over once, given out in typed slices.
//!
//! ```text
//!  region  ┌────────┬─pad─┬──────────────┬───────────────────────────┐
//!          │ slice  │     │ slice        │ left                      │
//!          └────────┴─────┴──────────────┴───────────────────────────┘
//! ```
//!
//! An [`Arena`] is for start-up: what it gives out lives as long as the region and never comes
//! back. A [`ScratchArena`] is for work that repeats: a [`Checkpoint`] gives out slices, and all
//! of them are back when it is dropped. That no slice outlives its checkpoint is checked by the
//! compiler; there is no unsafe code here.
//!
//! Slices hold plain data (`bytemuck::Pod`: any bytes are a value) of at least a byte an item, start on
//! a boundary of their type, and from [`CACHE_LINE_BYTES`] up on a cache line.

use bytemuck::Pod;
use core::fmt;

/// Slices of at least this many bytes start on a multiple of it.
pub const CACHE_LINE_BYTES: usize = 64;

/// A bump allocator over a region that the caller hands over. O(1) but for the zeroing.
///
/// ```
/// use wiretape_core::arena::Arena;
///
/// let mut region = vec![0xFF_u8; 4096];
/// let mut arena = Arena::new(&mut region);
/// let counters: &mut [u64] = arena.alloc_slice("counters", 16).unwrap();
/// assert_eq!(counters, [0; 16]);
/// counters[3] += 1;
/// let error = arena.alloc_slice::<u64>("orders", 1 << 20).unwrap_err();
/// assert_eq!(error.wanted, 8 << 20);
/// assert_eq!(arena.usage().failed, 1);
/// ```
///
/// Items without a byte do not compile:
///
/// ```compile_fail,E0080
/// # use wiretape_core::arena::Arena;
/// Arena::new(&mut [0; 64]).alloc_slice::<[u64; 0]>("nothings", 5).unwrap();
/// ```
#[derive(Debug)]
pub struct Arena<'m> {
    left: &'m mut [u8],
    contents: Contents,
    usage: ArenaUsage,
}

/// What the region holds where nothing was given out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    /// Anything: zero each slice before it is given out.
    Unknown,
    /// What the caller put there: leave it.
    AsFound,
}

/// How full an arena is, for a metrics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArenaUsage {
    /// Bytes of the region.
    pub capacity: usize,
    /// Bytes given out, padding included.
    pub in_use: usize,
    /// The most that `in_use` ever was.
    pub peak: usize,
    /// Requests that were refused.
    pub failed: u64,
}

/// The arena has not enough left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaError {
    /// Bytes asked for, padding not included; `usize::MAX` if the size overflows.
    pub wanted: usize,
    /// Bytes that were left.
    pub left: usize,
    /// What they were for, as the caller named it.
    pub what: &'static str,
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArenaError { wanted, left, what } = self;
        write!(
            f,
            "no room for {what}: {wanted} bytes wanted, {left} left in the arena; \
             give it a larger region or configure fewer {what}"
        )
    }
}

impl core::error::Error for ArenaError {}

impl<'m> Arena<'m> {
    /// An arena over `region`, whatever its contents: each slice is zeroed as it is given out,
    /// which also touches its pages, so that the hot path takes no page fault.
    pub fn new(region: &'m mut [u8]) -> Self {
        Arena::with_contents(region, Contents::Unknown)
    }

    /// An arena that gives out memory with its contents as found. For fresh zero pages, which need
    /// no second zeroing, or to find again what an earlier process left in the same places.
    ///
    /// This is safe on any region, because every bit pattern of a `Pod` type is a value of it: who
    /// hands over a dirty region gets slices of wrong numbers. The structures of this crate ask
    /// for zeros.
    pub fn with_contents_as_found(region: &'m mut [u8]) -> Self {
        Arena::with_contents(region, Contents::AsFound)
    }

    fn with_contents(region: &'m mut [u8], contents: Contents) -> Self {
        let usage = ArenaUsage { capacity: region.len(), ..ArenaUsage::default() };
        Arena { left: region, contents, usage }
    }

    /// A slice of `count` items that lives as long as the region. `what` names it in the error.
    ///
    /// # Errors
    /// [`ArenaError`] if less is left, padding included. Nothing was given out.
    pub fn alloc_slice<T: Pod>(
        &mut self,
        what: &'static str,
        count: usize,
    ) -> Result<&'m mut [T], ArenaError> {
        let taken = take(&mut self.left, count, what)
            .inspect_err(|_| self.usage.failed = self.usage.failed.saturating_add(1))?;
        self.usage.in_use = self.usage.capacity.saturating_sub(self.left.len());
        self.usage.peak = self.usage.in_use;
        if self.contents == Contents::Unknown {
            bytemuck::cast_slice_mut::<T, u8>(taken).fill(0);
        }
        Ok(taken)
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// How full the arena is.
    pub fn usage(&self) -> ArenaUsage {
        self.usage
    }
}

/// The most bytes that a slice of `count` items can cost an arena, padding included: add these up
/// to size a region. Saturates.
pub const fn slice_bytes<T>(count: usize) -> usize {
    let size = size_of::<T>().saturating_mul(count);
    size.saturating_add(boundary::<T>(size).saturating_sub(1))
}

/// Where a slice of `size` bytes starts: on a multiple of this.
const fn boundary<T>(size: usize) -> usize {
    let line = if size >= CACHE_LINE_BYTES { CACHE_LINE_BYTES } else { 1 };
    if align_of::<T>() > line { align_of::<T>() } else { line }
}

/// Cuts a slice off the front of `left`, which stays as it is on an error.
fn take<'m, T: Pod>(
    left: &mut &'m mut [u8],
    count: usize,
    what: &'static str,
) -> Result<&'m mut [T], ArenaError> {
    // There is no memory that a slice of such items could be made of.
    const { assert!(size_of::<T>() > 0, "an item of an arena has at least one byte") };
    let found = left.len();
    let wanted = size_of::<T>().saturating_mul(count);
    let refused = ArenaError { wanted, left: found, what };
    let boundary = boundary::<T>(wanted);
    let padding = left.as_ptr().addr().wrapping_neg() & boundary.wrapping_sub(1);
    if padding.checked_add(wanted).is_none_or(|end| end > found) {
        return Err(refused);
    }
    let (_, rest) = core::mem::take(left).split_at_mut_checked(padding).ok_or(refused)?;
    let (bytes, rest) = rest.split_at_mut_checked(wanted).ok_or(refused)?;
    *left = rest;
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| refused)
}

/// An arena whose memory is used again and again.
///
/// ```
/// use wiretape_core::arena::ScratchArena;
///
/// let mut region = [0_u8; 1024];
/// let mut scratch = ScratchArena::new(&mut region);
/// for packet in 0..1000 {
///     let mut work = scratch.checkpoint();
///     let offsets: &mut [u32] = work.alloc_slice("offsets", 64).unwrap();
///     let lengths: &mut [u16] = work.alloc_slice("lengths", 64).unwrap();
///     offsets[0] = packet;
///     lengths[0] = 7;
/// } // both are back here
/// assert_eq!(scratch.usage().in_use, 0);
/// assert!(scratch.usage().peak >= 64 * 6);
/// ```
///
/// A slice cannot outlive its checkpoint:
///
/// ```compile_fail
/// # use wiretape_core::arena::ScratchArena;
/// let mut region = [0_u8; 1024];
/// let mut scratch = ScratchArena::new(&mut region);
/// let kept: &mut [u32] = scratch.checkpoint().alloc_slice("offsets", 64).unwrap();
/// scratch.checkpoint();
/// kept[0] = 1;
/// ```
#[derive(Debug)]
pub struct ScratchArena<'m> {
    region: &'m mut [u8],
    contents: Contents,
    usage: ArenaUsage,
}

/// A point to which a [`ScratchArena`] (or an outer checkpoint) returns when this is dropped.
#[derive(Debug)]
pub struct Checkpoint<'c> {
    left: &'c mut [u8],
    contents: Contents,
    /// The scratch arena's own figures; `in_use` is that of the innermost checkpoint.
    usage: &'c mut ArenaUsage,
    /// What `usage.in_use` goes back to.
    in_use_before: usize,
}

impl<'m> ScratchArena<'m> {
    /// A scratch arena over `region`, whatever its contents: each slice is zeroed as it is given out.
    pub fn new(region: &'m mut [u8]) -> Self {
        ScratchArena::with_contents(region, Contents::Unknown)
    }

    /// A scratch arena that gives out memory with its contents as found, which are those that
    /// earlier users left: for slices that are written before they are read. As safe as
    /// [`Arena::with_contents_as_found`].
    pub fn with_contents_as_found(region: &'m mut [u8]) -> Self {
        ScratchArena::with_contents(region, Contents::AsFound)
    }

    fn with_contents(region: &'m mut [u8], contents: Contents) -> Self {
        let usage = ArenaUsage { capacity: region.len(), ..ArenaUsage::default() };
        ScratchArena { region, contents, usage }
    }

    /// Starts to give out slices; dropping the checkpoint takes all of them back, in O(1).
    pub fn checkpoint(&mut self) -> Checkpoint<'_> {
        let in_use_before = self.usage.in_use;
        let (left, contents) = (&mut *self.region, self.contents);
        Checkpoint { left, contents, usage: &mut self.usage, in_use_before }
    }

    /// Takes back whatever a leaked checkpoint (`core::mem::forget`) still counts as in use.
    pub fn reset(&mut self) {
        self.usage.in_use = 0;
    }

    /// How full the arena is, and ever was.
    pub fn usage(&self) -> ArenaUsage {
        self.usage
    }
}

impl<'c> Checkpoint<'c> {
    /// A slice of `count` items that lives as long as this checkpoint, zeroed unless the arena was made
    /// [with its contents as found](ScratchArena::with_contents_as_found). `what` names it in the error.
    ///
    /// # Errors
    /// As [`Arena::alloc_slice`].
    pub fn alloc_slice<T: Pod>(
        &mut self,
        what: &'static str,
        count: usize,
    ) -> Result<&'c mut [T], ArenaError> {
        let before = self.left.len();
        let taken = take(&mut self.left, count, what)
            .inspect_err(|_| self.usage.failed = self.usage.failed.saturating_add(1))?;
        let grown = before.saturating_sub(self.left.len());
        self.usage.in_use = self.usage.in_use.saturating_add(grown);
        self.usage.peak = self.usage.peak.max(self.usage.in_use);
        if self.contents == Contents::Unknown {
            bytemuck::cast_slice_mut::<T, u8>(taken).fill(0);
        }
        Ok(taken)
    }

    /// A checkpoint inside this one, which waits until the inner one is dropped.
    pub fn checkpoint(&mut self) -> Checkpoint<'_> {
        let in_use_before = self.usage.in_use;
        let (left, contents) = (&mut *self.left, self.contents);
        Checkpoint { left, contents, usage: &mut *self.usage, in_use_before }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.left.len()
    }
}

impl Drop for Checkpoint<'_> {
    fn drop(&mut self) {
        self.usage.in_use = self.in_use_before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{string::ToString, vec, vec::Vec};

    #[test]
    fn dirty_memory_comes_out_zeroed_unless_the_caller_says_not_to() {
        let mut region = [0xAA_u8; 256];
        let zeroed: &mut [u32] = Arena::new(&mut region).alloc_slice("words", 8).unwrap();
        assert_eq!(zeroed, [0; 8]);
        let mut region = [0xAA_u8; 256];
        let mut arena = Arena::with_contents_as_found(&mut region);
        let found: &mut [u32] = arena.alloc_slice("words", 8).unwrap();
        assert_eq!(found, [0xAAAA_AAAA; 8]);

        for (contents, first, inner) in [(0, 0, 0), (0xAA, 0xAA, 7)] {
            let mut region = [0xAA_u8; 64];
            let mut scratch = match contents {
                0 => ScratchArena::new(&mut region),
                _ => ScratchArena::with_contents_as_found(&mut region),
            };
            let slice: &mut [u8] = scratch.checkpoint().alloc_slice("bytes", 32).unwrap();
            assert_eq!(slice, [first; 32]);
            slice.fill(7);
            let mut outer = scratch.checkpoint();
            let slice: &mut [u8] = outer.checkpoint().alloc_slice("bytes", 32).unwrap();
            assert_eq!(slice, [inner; 32], "what was used before");
        }
    }

    #[test]
    fn a_refused_request_leaves_the_arena_usable() {
        let mut region = [0_u8; 256];
        let mut arena = Arena::new(&mut region);
        let error = arena.alloc_slice::<u64>("levels", 1000).unwrap_err();
        assert_eq!(error, ArenaError { wanted: 8000, left: 256, what: "levels" });
        assert!(error.to_string().contains("no room for levels: 8000 bytes wanted, 256 left"));
        assert_eq!(arena.alloc_slice::<u64>("levels", usize::MAX).unwrap_err().wanted, usize::MAX);
        assert_eq!(arena.alloc_slice::<u8>("bytes", 192).unwrap().len(), 192);
        assert_eq!(arena.usage().failed, 2);
        assert_eq!(arena.usage().in_use, 256 - arena.left());
    }

    #[test]
    fn nested_checkpoints_return_in_order() {
        let mut region = [0_u8; 1024];
        let mut scratch = ScratchArena::new(&mut region);
        {
            let mut outer = scratch.checkpoint();
            let kept: &mut [u64] = outer.alloc_slice("outer", 4).unwrap();
            let left = outer.left();
            {
                let mut inner = outer.checkpoint();
                inner.alloc_slice::<u64>("inner", 32).unwrap().fill(u64::MAX);
                assert!(inner.left() <= left - 256);
            }
            assert_eq!(outer.left(), left);
            let again: &mut [u64] = outer.alloc_slice("again", 32).unwrap();
            assert_eq!(again, [0; 32]);
            assert_eq!(kept, [0; 4]);
        }
        assert_eq!(scratch.usage().in_use, 0);
        assert!(scratch.usage().peak >= 256 + 32);
        assert_eq!(scratch.checkpoint().left(), 1024);
    }

    proptest! {
        /// Slices never overlap, start where they must, and the stated worst case is enough.
        #[test]
        fn slices_are_aligned_apart_and_fit_the_computed_size(
            requests in prop::collection::vec((0_usize..4, 0_usize..100), 0..20),
            offset in 0_usize..64,
        ) {
            let bytes: usize = requests.iter().map(|&(kind, n)| match kind {
                0 => slice_bytes::<u8>(n),
                1 => slice_bytes::<u16>(n),
                2 => slice_bytes::<u32>(n),
                _ => slice_bytes::<[u64; 3]>(n),
            }).sum();
            let mut region = vec![0xFF_u8; bytes + offset];
            let mut arena = Arena::new(&mut region[offset..]);
            let mut slices: Vec<&mut [u8]> = Vec::new();
            for &(kind, n) in &requests {
                let slice = match kind {
                    0 => arena.alloc_slice::<u8>("u8", n).unwrap(),
                    1 => bytemuck::cast_slice_mut(arena.alloc_slice::<u16>("u16", n).unwrap()),
                    2 => bytemuck::cast_slice_mut(arena.alloc_slice::<u32>("u32", n).unwrap()),
                    _ => bytemuck::cast_slice_mut(arena.alloc_slice::<[u64; 3]>("u64", n).unwrap()),
                };
                prop_assert!(slice.iter().all(|&byte| byte == 0));
                if slice.len() >= CACHE_LINE_BYTES {
                    prop_assert_eq!(slice.as_ptr().addr() % CACHE_LINE_BYTES, 0);
                }
                slices.push(slice);
            }
            for (at, slice) in slices.iter_mut().enumerate() {
                slice.fill(at as u8 + 1);
            }
            for (at, slice) in slices.iter().enumerate() {
                prop_assert!(slice.iter().all(|&byte| byte == at as u8 + 1));
            }
        }
    }
}
