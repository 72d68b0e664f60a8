//! Fixed pool of equal blocks for one thread: allocate and free in constant time, with every free
//! checked.
//!
//! ```text
//!  memory  │ block 0 │ block 1 │ block 2 │ block 3 │   block_bytes each
//!  links   │  USED   │   END   │  USED   │   END   │   first_free = 1, fresh = 3, latest = 2
//! ```
//!
//! Free blocks form a list, last freed first out (its memory is still in the cache), through
//! `links`, a table beside the blocks: a write past the end of a block cannot break the list, and
//! whether a block is in use is known without trusting what its user left in it.
//!
//! The block freed last stays out of the list until another is freed: whoever frees one and then takes
//! one, or takes one and gives it back, does not wait for what the list has just been told.
//!
//! A pointer is taken back to its block by one multiplication: dividing by a constant known to be
//! exact is multiplying by the inverse of its odd part modulo 2^64 and rotating by the rest; if
//! the division is not exact, the result is too large to be a block (Granlund and Montgomery,
//! "Division by invariant integers using multiplication", PLDI 1994, section 9). So one
//! comparison refuses pointers from elsewhere and pointers into the middle of a block alike.

use core::{fmt, marker::PhantomData, ptr::NonNull};

/// Link of a block that is in use.
const USED: u32 = u32::MAX;
/// Link of the last free block.
const END: u32 = u32::MAX - 1;
/// Most blocks of a pool.
pub const BLOCKS_MAX: usize = END as usize;

/// How full a pool is, for a metrics page. Counted in blocks or nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// What the pool has.
    pub capacity: u32,
    /// Given out now.
    pub in_use: u32,
    /// The most that `in_use` ever was.
    pub peak: u32,
    /// Requests refused because all were given out.
    pub failed: u64,
}

/// Why a pool cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockPoolError {
    /// Blocks of no bytes.
    ZeroBytes,
    /// More than [`BLOCKS_MAX`] blocks.
    TooMany {
        /// Blocks that the memory and the links have room for.
        blocks: usize,
    },
}

impl fmt::Display for BlockPoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockPoolError::ZeroBytes => {
                f.write_str("cannot make a pool of blocks of 0 bytes: give each at least one")
            }
            BlockPoolError::TooMany { blocks } => write!(
                f,
                "cannot make a pool of {blocks} blocks: {BLOCKS_MAX} are the most; \
                 make blocks larger or hand over less memory"
            ),
        }
    }
}

impl core::error::Error for BlockPoolError {}

/// Why a block was not taken back. The pool is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeError {
    /// The pointer does not lie in the pool's blocks.
    Foreign {
        /// The pointer's address.
        address: usize,
    },
    /// The pointer lies inside a block, not at its start.
    Inside {
        /// The block.
        block: u32,
        /// Bytes from its start.
        offset: usize,
    },
    /// The block is free: it was freed already, or never given out.
    DoubleFree {
        /// The block.
        block: u32,
    },
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FreeError::Foreign { address } => {
                write!(f, "cannot free {address:#x}: it does not come from this pool")
            }
            FreeError::Inside { block, offset } => write!(
                f,
                "cannot free a pointer {offset} bytes inside block {block}: \
                 hand back the pointer that was allocated"
            ),
            FreeError::DoubleFree { block } => {
                write!(f, "cannot free block {block}: it is free already")
            }
        }
    }
}

impl core::error::Error for FreeError {}

/// Why a burst of blocks was not taken back to its end. The pool is as it was before the block that
/// was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkFreeError {
    /// Blocks in front of it, which were freed.
    pub freed: usize,
    /// Why it was refused.
    pub cause: FreeError,
}

impl fmt::Display for BulkFreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; the {} blocks in front of it were freed", self.cause, self.freed)
    }
}

impl core::error::Error for BulkFreeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// The pool. For sharing between threads see [`NodePool`](crate::node_pool::NodePool).
///
/// ```
/// use core::ptr::NonNull;
/// use wiretape_core::block_pool::{BlockPool, FreeError};
///
/// let mut memory = [0_u8; 4 * 2048];
/// let mut links = [0_u32; 4];
/// let mut pool = BlockPool::new(&mut memory, &mut links, 2048)?;
/// let block = pool.allocate().expect("four are free");
/// pool.get_mut(block).expect("it is in use").fill(7);
/// assert_eq!(pool.free(block), Ok(()));
/// assert_eq!(pool.free(block), Err(FreeError::DoubleFree { block: 0 }));
/// assert_eq!((pool.usage().in_use, pool.usage().peak), (0, 1));
///
/// let mut burst = [NonNull::dangling(); 6];
/// assert_eq!(pool.allocate_bulk(&mut burst), 4);
/// assert_eq!(pool.free_bulk(&burst[..4]), Ok(()));
/// # Ok::<(), wiretape_core::block_pool::BlockPoolError>(())
/// ```
pub struct BlockPool<'m> {
    first_block: NonNull<u8>,
    links: &'m mut [u32],
    /// The block freed last. Its link still says that it is in use.
    latest: Option<NonNull<u8>>,
    /// Its number; any if there is none.
    latest_block: u32,
    first_free: u32,
    /// Blocks from this one on were never given out. Since they are touched only when no other is
    /// free, this is also the most that was ever in use.
    fresh: u32,
    block_bytes: usize,
    /// Inverse, modulo 2^64, of `block_bytes` without its factors of two.
    odd_inverse: u64,
    // Two counters that only grow: one that goes up and down would be the longest chain of
    // dependent instructions here.
    allocated: u64,
    freed: u64,
    failed: u64,
    memory: PhantomData<&'m mut [u8]>,
}

// SAFETY: the pool owns its memory exclusively (it stands for the `&mut [u8]` that it was made
// of) and nothing in it is bound to a thread.
unsafe impl Send for BlockPool<'_> {}

impl<'m> BlockPool<'m> {
    /// A pool of as many blocks of `block_bytes` as `memory` and `links` (one each) have room
    /// for. Blocks are as aligned as the start of `memory` and `block_bytes` make them.
    ///
    /// # Errors
    /// [`BlockPoolError`]: blocks of no bytes, or too many.
    pub fn new(
        memory: &'m mut [u8],
        links: &'m mut [u32],
        block_bytes: usize,
    ) -> Result<BlockPool<'m>, BlockPoolError> {
        let room = memory.len().checked_div(block_bytes).ok_or(BlockPoolError::ZeroBytes)?;
        let blocks = room.min(links.len());
        if blocks > BLOCKS_MAX {
            return Err(BlockPoolError::TooMany { blocks });
        }
        let (links, _) = links.split_at_mut(blocks);
        // Not in use. What else a link says counts only once its block was given out.
        links.fill(END);
        Ok(BlockPool {
            first_block: NonNull::from(memory).cast(),
            links,
            latest: None,
            latest_block: 0,
            first_free: END,
            fresh: 0,
            block_bytes,
            odd_inverse: odd_inverse(block_bytes as u64),
            allocated: 0,
            freed: 0,
            failed: 0,
            memory: PhantomData,
        })
    }

    /// A block, with the contents that its last user left; `None` if all are in use. The pointer
    /// is good for `block_bytes()` bytes, until the block is freed or the pool's memory is.
    #[inline]
    pub fn allocate(&mut self) -> Option<NonNull<u8>> {
        if let Some(block) = self.latest.take() {
            self.allocated = self.allocated.wrapping_add(1);
            return Some(block);
        }
        let mut block = self.first_free;
        // `END` is past every block.
        if let Some(link) = self.links.get_mut(block as usize) {
            self.first_free = *link;
            *link = USED;
        } else {
            block = self.fresh;
            let Some(link) = self.links.get_mut(block as usize) else {
                self.failed = self.failed.wrapping_add(1);
                return None;
            };
            *link = USED;
            self.fresh = block.wrapping_add(1);
        }
        self.allocated = self.allocated.wrapping_add(1);
        Some(self.start_of(block))
    }

    /// Blocks for a burst, as [`allocate`](Self::allocate) gives them one by one: puts them into
    /// `blocks` from its start and returns how many there were, fewer than asked for only if all are in
    /// use then. Half as fast again: the head of the list stays in a register.
    #[inline]
    pub fn allocate_bulk(&mut self, blocks: &mut [NonNull<u8>]) -> usize {
        self.enlist_latest();
        let (mut first_free, mut fresh) = (self.first_free, self.fresh);
        let (first_block, block_bytes) = (self.first_block, self.block_bytes);
        let links = &mut *self.links;
        let (wanted, mut given) = (blocks.len(), 0_usize);
        for slot in blocks {
            let mut block = first_free;
            if let Some(link) = links.get_mut(block as usize) {
                first_free = *link;
                *link = USED;
            } else if let Some(link) = links.get_mut(fresh as usize) {
                block = fresh;
                *link = USED;
                fresh = fresh.wrapping_add(1);
            } else {
                break;
            }
            // SAFETY: `block` has a link: as in `start_of`.
            *slot = unsafe { first_block.add((block as usize).wrapping_mul(block_bytes)) };
            given = given.wrapping_add(1);
        }
        (self.first_free, self.fresh) = (first_free, fresh);
        self.allocated = self.allocated.wrapping_add(given as u64);
        self.failed = self.failed.wrapping_add(wanted.wrapping_sub(given) as u64);
        given
    }

    /// Takes a burst of blocks back, as [`free`](Self::free) does one by one.
    ///
    /// # Errors
    /// [`BulkFreeError`] at the first one that is not the start of a block in use: those in front of it
    /// were freed, those behind it not.
    #[inline]
    pub fn free_bulk(&mut self, blocks: &[NonNull<u8>]) -> Result<(), BulkFreeError> {
        self.enlist_latest();
        let mut first_free = self.first_free;
        let (base, odd_inverse, block_bytes) =
            (self.first_block.as_ptr().addr(), self.odd_inverse, self.block_bytes);
        let links = &mut *self.links;
        let mut freed = 0_usize;
        for block in blocks {
            let index =
                quotient(block.as_ptr().addr().wrapping_sub(base), block_bytes, odd_inverse);
            let Some(link) = links.get_mut(index).filter(|link| **link == USED) else { break };
            *link = first_free;
            first_free = index as u32;
            freed = freed.wrapping_add(1);
        }
        self.first_free = first_free;
        self.freed = self.freed.wrapping_add(freed as u64);
        match blocks.get(freed) {
            None => Ok(()),
            Some(refused) => Err(BulkFreeError { freed, cause: self.refusal(*refused) }),
        }
    }

    /// Takes a block back. Constant time, and safe with any pointer: it is not followed.
    ///
    /// # Errors
    /// [`FreeError`] if the pointer is not the start of a block in use.
    #[inline]
    pub fn free(&mut self, block: NonNull<u8>) -> Result<(), FreeError> {
        let index = self.quotient(block);
        // Beyond the last link for pointers from elsewhere, and for those into a block.
        match self.links.get(index) {
            Some(&USED) if self.latest != Some(block) => {}
            _ => return Err(self.refusal(block)),
        }
        self.enlist_latest();
        self.latest = Some(self.own(block));
        self.latest_block = index as u32;
        self.freed = self.freed.wrapping_add(1);
        Ok(())
    }

    /// The bytes of a block in use; `None` for any other pointer.
    pub fn get(&self, block: NonNull<u8>) -> Option<&[u8]> {
        self.is_in_use(block).then(|| {
            // SAFETY: `block` is the start of one of the pool's blocks, and `own` a pointer to it that
            // comes from the pool's memory: `block_bytes` bytes of initialised memory that the pool
            // holds for `'m`, borrowed through `&self`.
            unsafe { core::slice::from_raw_parts(self.own(block).as_ptr(), self.block_bytes) }
        })
    }

    /// The bytes of a block in use; `None` for any other pointer.
    pub fn get_mut(&mut self, block: NonNull<u8>) -> Option<&mut [u8]> {
        self.is_in_use(block).then(|| {
            // SAFETY: as in `get`, and borrowed exclusively through `&mut self`.
            unsafe { core::slice::from_raw_parts_mut(self.own(block).as_ptr(), self.block_bytes) }
        })
    }

    /// Bytes of each block.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// How full the pool is.
    pub fn usage(&self) -> PoolUsage {
        PoolUsage {
            capacity: self.links.len() as u32,
            in_use: self.allocated.wrapping_sub(self.freed) as u32,
            peak: self.fresh,
            failed: self.failed,
        }
    }

    fn is_in_use(&self, block: NonNull<u8>) -> bool {
        self.links.get(self.quotient(block)) == Some(&USED) && self.latest != Some(block)
    }

    /// The pool's own pointer to where `block` points: a caller may have made one with the same address
    /// out of another object, or of a number, through which the block must not be accessed.
    #[inline(always)]
    fn own(&self, block: NonNull<u8>) -> NonNull<u8> {
        self.first_block.with_addr(block.addr())
    }

    /// Puts the block freed last into the list.
    #[inline(always)]
    fn enlist_latest(&mut self) {
        if self.latest.take().is_some()
            && let Some(link) = self.links.get_mut(self.latest_block as usize)
        {
            *link = self.first_free;
            self.first_free = self.latest_block;
        }
    }

    #[inline(always)]
    fn start_of(&self, block: u32) -> NonNull<u8> {
        let offset = (block as usize).wrapping_mul(self.block_bytes);
        // SAFETY: `block` has a link, so `offset` plus a whole block lies in the memory that the
        // pool was made of, and does not overflow.
        unsafe { self.first_block.add(offset) }
    }

    /// The number of the block that a pointer is the start of; at least the number of blocks for any
    /// other pointer.
    #[inline(always)]
    fn quotient(&self, block: NonNull<u8>) -> usize {
        let offset = block.as_ptr().addr().wrapping_sub(self.first_block.as_ptr().addr());
        quotient(offset, self.block_bytes, self.odd_inverse)
    }

    #[cold]
    fn refusal(&self, block: NonNull<u8>) -> FreeError {
        let address = block.as_ptr().addr();
        let offset = address.wrapping_sub(self.first_block.as_ptr().addr());
        match (offset.checked_div(self.block_bytes), offset.checked_rem(self.block_bytes)) {
            (Some(block), Some(0)) if block < self.links.len() => {
                FreeError::DoubleFree { block: block as u32 }
            }
            (Some(block), Some(offset)) if block < self.links.len() => {
                FreeError::Inside { block: block as u32, offset }
            }
            _ => FreeError::Foreign { address },
        }
    }
}

impl fmt::Debug for BlockPool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockPool")
            .field("block_bytes", &self.block_bytes)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

/// A distance from the first block, divided by the size of a block: exact for the start of one, at least
/// the number of blocks for any other.
#[inline(always)]
fn quotient(offset: usize, block_bytes: usize, odd_inverse: u64) -> usize {
    let quotient = (offset as u64).wrapping_mul(odd_inverse);
    usize::try_from(quotient.rotate_right(block_bytes.trailing_zeros())).unwrap_or(usize::MAX)
}

/// The inverse modulo 2^64 of `value` without its factors of two. `value` is not 0.
const fn odd_inverse(value: u64) -> u64 {
    let odd = value >> (value.trailing_zeros() & 63);
    // Newton's iteration doubles the correct low bits: 5, 10, 20, 40, 80.
    let mut inverse = odd.wrapping_mul(3) ^ 2;
    let mut step = 0;
    while step < 4 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::HashSet, vec, vec::Vec};

    #[test]
    fn the_inverse_of_the_odd_part_is_one() {
        for value in (1..10_000).chain([u64::MAX, 1 << 63, (1 << 63) + 1]) {
            let odd = value >> value.trailing_zeros();
            assert_eq!(odd.wrapping_mul(odd_inverse(value)), 1, "{value}");
        }
    }

    #[test]
    fn only_the_start_of_a_block_in_use_is_taken_back() {
        for block_bytes in [1, 3, 24, 64, 100, 2048] {
            let mut memory = vec![0_u8; block_bytes * 5 + block_bytes / 2];
            let start = NonNull::from(&mut memory[..]).cast::<u8>();
            let (mut links, mut elsewhere) = (vec![0; 9], 0_u8);
            let mut pool = BlockPool::new(&mut memory, &mut links, block_bytes).unwrap();
            assert_eq!(pool.usage().capacity, 5);
            let blocks: Vec<_> = (0..5).map(|_| pool.allocate().unwrap()).collect();
            assert_eq!(pool.allocate(), None);
            assert_eq!(pool.usage(), PoolUsage { capacity: 5, in_use: 5, peak: 5, failed: 1 });
            let foreign = pool.free(NonNull::from(&mut elsewhere)).unwrap_err();
            assert!(matches!(foreign, FreeError::Foreign { .. }), "{foreign}");
            for distance in 0..block_bytes * 6 {
                let pointer = NonNull::new(start.as_ptr().wrapping_add(distance)).unwrap();
                if blocks.contains(&pointer) {
                    continue;
                }
                let expected = if distance < block_bytes * 5 {
                    let block = (distance / block_bytes) as u32;
                    FreeError::Inside { block, offset: distance % block_bytes }
                } else {
                    FreeError::Foreign { address: pointer.as_ptr().addr() }
                };
                assert_eq!(pool.free(pointer), Err(expected));
            }
            for (index, block) in blocks.iter().enumerate() {
                assert_eq!(pool.free(*block), Ok(()));
                // Freed last, and before others.
                for (index, block) in blocks[..=index].iter().enumerate() {
                    let again = FreeError::DoubleFree { block: index as u32 };
                    assert_eq!(pool.free(*block), Err(again));
                    assert_eq!(pool.get(*block), None);
                }
            }
        }
    }

    /// Fails with optimisation only: the compiler knows that `before` is not where `memory` is.
    #[test]
    fn a_pointer_that_someone_made_up_leads_to_the_block_as_the_pools_own_does() {
        #[inline(never)]
        fn seen_through_its_own(before: &mut [u8; 16], memory: &mut [u8; 16], free: bool) -> u8 {
            let made_up = NonNull::new(before.as_mut_ptr().wrapping_add(16)).unwrap();
            let mut links = [0; 1];
            let mut pool = BlockPool::new(memory, &mut links, 16).unwrap();
            let own = pool.allocate().unwrap();
            pool.get_mut(own).unwrap()[0] = 1;
            let other = match free {
                true => pool.free(made_up).ok().and_then(|()| pool.allocate()).unwrap(),
                false => made_up,
            };
            pool.get_mut(other).unwrap()[0] = 2;
            pool.get(own).unwrap()[0]
        }
        let mut memory = [[0; 16]; 2];
        let [before, memory] = &mut memory;
        assert_eq!(seen_through_its_own(before, memory, false), 2);
        assert_eq!(seen_through_its_own(before, memory, true), 2);
    }

    #[test]
    fn nothing_to_give_out_is_no_error_until_it_is_asked_for() {
        let mut pool = BlockPool::new(&mut [], &mut [], 8).unwrap();
        assert_eq!(pool.allocate(), None);
        assert_eq!(
            BlockPool::new(&mut [0; 8], &mut [0; 8], 0).unwrap_err(),
            BlockPoolError::ZeroBytes
        );
    }

    proptest! {
        #[test]
        fn a_pool_gives_out_what_a_set_of_free_blocks_would(
            block_bytes in 1_usize..70,
            blocks in 1_usize..20,
            steps in prop::collection::vec(
                (any::<bool>(), 0_usize..8, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut memory = vec![0_u8; block_bytes * blocks];
            let mut links = vec![0; blocks];
            let mut pool = BlockPool::new(&mut memory, &mut links, block_bytes).unwrap();
            let mut held: Vec<(NonNull<u8>, u8)> = Vec::new();
            let (mut peak, mut failed) = (0, 0);
            // One by one where `burst` is 0.
            for (step, (allocate, burst, which)) in steps.into_iter().enumerate() {
                let asked = burst.max(1);
                if allocate {
                    let mut given = vec![NonNull::dangling(); asked];
                    let there = match burst {
                        0 => pool.allocate().map_or(0, |block| { given[0] = block; 1 }),
                        _ => pool.allocate_bulk(&mut given),
                    };
                    prop_assert_eq!(there, asked.min(blocks - held.len()));
                    failed += (asked - there) as u64;
                    for block in given.into_iter().take(there) {
                        pool.get_mut(block).unwrap().fill(step as u8);
                        held.push((block, step as u8));
                    }
                } else if !held.is_empty() {
                    let mut back = Vec::new();
                    for _ in 0..asked.min(held.len()) {
                        let (block, mark) = held.swap_remove(which.index(held.len()));
                        prop_assert!(pool.get(block).unwrap().iter().all(|byte| *byte == mark));
                        back.push(block);
                    }
                    match burst {
                        0 => prop_assert_eq!(pool.free(back[0]), Ok(())),
                        _ => prop_assert_eq!(pool.free_bulk(&back), Ok(())),
                    }
                    prop_assert!(back.iter().all(|block| pool.get(*block).is_none()));
                }
                peak = peak.max(held.len() as u32);
                let distinct: HashSet<_> = held.iter().map(|(block, _)| block).collect();
                prop_assert_eq!(distinct.len(), held.len());
                let (capacity, in_use) = (blocks as u32, held.len() as u32);
                prop_assert_eq!(pool.usage(), PoolUsage { capacity, in_use, peak, failed });
            }
        }
    }

    #[test]
    fn a_burst_is_taken_back_up_to_the_first_block_that_is_not_in_use() {
        let (mut memory, mut links) = ([0_u8; 8 * 16], [0; 8]);
        let mut pool = BlockPool::new(&mut memory, &mut links, 16).unwrap();
        let mut blocks = [NonNull::dangling(); 9];
        assert_eq!(pool.allocate_bulk(&mut blocks), 8);
        assert_eq!(pool.usage(), PoolUsage { capacity: 8, in_use: 8, peak: 8, failed: 1 });
        let [a, b, c, d, ..] = blocks;
        pool.free(b).unwrap();
        let refused =
            |freed, block| BulkFreeError { freed, cause: FreeError::DoubleFree { block } };
        assert_eq!(pool.free_bulk(&[a, b, c]), Err(refused(1, 1)));
        assert_eq!(pool.free_bulk(&[c, d, c]), Err(refused(2, 2)));
        assert_eq!(pool.free_bulk(&[]), Ok(()));
        assert_eq!(pool.usage().in_use, 4);
        assert_eq!((pool.allocate(), pool.allocate()), (Some(d), Some(c)), "freed last, first out");
    }
}
