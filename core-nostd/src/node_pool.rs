//! Lock-free pool of node numbers, shared by threads or processes.
//!
//! The pool gives out `u32` numbers below its capacity; what a number stands for (a slot of an
//! array, a frame of a buffer) is its users' business. Free nodes form a stack (Treiber, 1986):
//!
//! ```text
//! word  0  magic: kind and layout version   written last, when the pool is ready
//! word  1  nodes
//! word 16  head: tag (32 bits) | top node   on a pair of cache lines of its own
//! word 32  peak in use
//! word 33  failed requests
//! word 48  one link for each node: free nodes from this one down (32 bits) | next node
//! ```
//!
//! ABA: the tag moves on with every removal, so that a compare-and-swap which was prepared before
//! somebody took the top node off and put it back fails. It would take exactly a multiple of 2^32
//! removals while one thread stands still between two instructions to be fooled.
//!
//! Each link also counts the free nodes below it. So the usage figures need no counter that all
//! threads write to: what is in use follows from the top link.
//!
//! Memory ordering: freeing releases and allocating acquires, so what was done with a node before
//! it was freed happens before what is done by whoever gets it next.
//!
//! A [`NodeCache`] keeps up to [`CACHE_NODES`] nodes for one thread and exchanges half of them at
//! a time, with one compare-and-swap (the magazines of Bonwick and Adams, USENIX 2001): the shared
//! head is then touched once in 32 operations.

use core::fmt;

use crate::block_pool::PoolUsage;
use crate::sync::{AtomicU64, Ordering, spin_loop};

/// First word of a pool: "WTNODE" and the layout version.
const MAGIC: u64 = u64::from_le_bytes(*b"WTNODE\x01\x00");
/// Words in front of the links.
const HEADER_WORDS: usize = 48;
const HEAD: usize = 16;
const PEAK: usize = 32;
const FAILED: usize = 33;

/// Top of an empty stack, and next of its lowest node.
const NONE: u32 = u32::MAX;
/// Link of a node that is in use. No free node has it: fewer than `u32::MAX` are below any.
const USED: u64 = u64::MAX;
/// Link of a node that was freed into a [`NodeCache`].
const CACHED: u64 = u64::MAX - 1;
/// Most nodes of a pool.
pub const NODES_MAX: u32 = u32::MAX - 2;

/// Nodes that a [`NodeCache`] holds at most.
pub const CACHE_NODES: usize = 64;
const CACHE_EXCHANGE: usize = CACHE_NODES / 2;

/// Looks at the top node for a usage figure before its link is given up as spoilt.
const USAGE_ATTEMPTS: u32 = 1_000;

/// Why words cannot be used as a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePoolError {
    /// More than [`NODES_MAX`] nodes.
    TooMany {
        /// Nodes asked for, or named by the header.
        nodes: u64,
    },
    /// The memory is shorter than the pool.
    TooShort {
        /// Words that the pool needs.
        needed: usize,
        /// Words that there are.
        found: usize,
    },
    /// The first word is not that of a pool of this layout version.
    Magic {
        /// What the memory starts with.
        found: u64,
    },
}

impl fmt::Display for NodePoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodePoolError::TooMany { nodes } => {
                write!(f, "cannot make a pool of {nodes} nodes: {NODES_MAX} are the most")
            }
            NodePoolError::TooShort { needed, found } => write!(
                f,
                "cannot use {found} words as a node pool: it needs {needed}; map the whole file"
            ),
            NodePoolError::Magic { found } => write!(
                f,
                "cannot attach to the node pool: its first word is {found:#018x}, not \
                 {MAGIC:#018x}; it was not created, or by another version"
            ),
        }
    }
}

impl core::error::Error for NodePoolError {}

/// Why a node was not taken back. The pool is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeNodeError {
    /// The pool has no such node.
    Foreign {
        /// The number handed in.
        node: u32,
    },
    /// The node is free already.
    DoubleFree {
        /// The node.
        node: u32,
    },
}

impl fmt::Display for FreeNodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FreeNodeError::Foreign { node } => {
                write!(f, "cannot free node {node}: it does not come from this pool")
            }
            FreeNodeError::DoubleFree { node } => {
                write!(f, "cannot free node {node}: it is free already")
            }
        }
    }
}

impl core::error::Error for FreeNodeError {}

/// A pool's handle: copy it to as many threads as use it.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use wiretape_core::node_pool::{NodePool, words_needed};
///
/// let words: Vec<AtomicU64> = (0..words_needed(100)).map(|_| AtomicU64::new(0)).collect();
/// let pool = NodePool::create(&words, 100)?;
/// let prices: Vec<AtomicU64> = (0..100).map(|_| AtomicU64::new(0)).collect();
/// std::thread::scope(|scope| {
///     for thread in 0..2 {
///         let prices = &prices;
///         scope.spawn(move || {
///             let node = pool.allocate().expect("100 are free");
///             prices[node as usize].store(thread, Relaxed);
///             pool.free(node)
///         });
///     }
/// });
/// assert_eq!(pool.usage().in_use, 0);
/// # Ok::<(), wiretape_core::node_pool::NodePoolError>(())
/// ```
#[derive(Clone, Copy)]
pub struct NodePool<'m> {
    head: &'m AtomicU64,
    peak: &'m AtomicU64,
    failed: &'m AtomicU64,
    links: &'m [AtomicU64],
}

/// Words that a pool of `nodes` nodes takes.
pub const fn words_needed(nodes: u32) -> usize {
    (nodes as usize).saturating_add(HEADER_WORDS)
}

impl<'m> NodePool<'m> {
    /// Makes a pool in `words`, all of its `nodes` nodes free. Others may then
    /// [`attach`](NodePool::attach) to it.
    ///
    /// The caller sees to it that nobody uses an earlier pool in the same words.
    ///
    /// # Errors
    /// [`NodePoolError`]: too many nodes, or fewer words than [`words_needed`].
    pub fn create(words: &'m [AtomicU64], nodes: u32) -> Result<NodePool<'m>, NodePoolError> {
        let (magic, count, pool) = NodePool::parts(words, u64::from(nodes))?;
        magic.store(0, Ordering::Relaxed);
        count.store(u64::from(nodes), Ordering::Relaxed);
        pool.peak.store(0, Ordering::Relaxed);
        pool.failed.store(0, Ordering::Relaxed);
        // Node 0 on top, as if they had been freed from the last to the first.
        for (link, node) in pool.links.iter().zip(0..nodes) {
            let below = nodes.wrapping_sub(node);
            let next = if below == 1 { NONE } else { node.wrapping_add(1) };
            link.store(pack(below, next), Ordering::Relaxed);
        }
        let top = if nodes == 0 { NONE } else { 0 };
        pool.head.store(pack(0, top), Ordering::Relaxed);
        // Pairs with the acquire load in `attach`.
        magic.store(MAGIC, Ordering::Release);
        Ok(pool)
    }

    /// The pool that was created in `words`.
    ///
    /// # Errors
    /// [`NodePoolError`] if there is none, or not all of it.
    pub fn attach(words: &'m [AtomicU64]) -> Result<NodePool<'m>, NodePoolError> {
        let short = NodePoolError::TooShort { needed: HEADER_WORDS, found: words.len() };
        let [magic, count, ..] = words else { return Err(short) };
        // Pairs with the release store in `create`.
        let found = magic.load(Ordering::Acquire);
        if found != MAGIC {
            return Err(NodePoolError::Magic { found });
        }
        let (_, _, pool) = NodePool::parts(words, count.load(Ordering::Relaxed))?;
        Ok(pool)
    }

    fn parts(
        words: &'m [AtomicU64],
        nodes: u64,
    ) -> Result<(&'m AtomicU64, &'m AtomicU64, NodePool<'m>), NodePoolError> {
        let count = u32::try_from(nodes).ok().filter(|count| *count <= NODES_MAX);
        let count = count.ok_or(NodePoolError::TooMany { nodes })?;
        let needed = words_needed(count);
        let short = NodePoolError::TooShort { needed, found: words.len() };
        let links = words.get(HEADER_WORDS..needed).ok_or(short)?;
        let word = |index: usize| words.get(index).ok_or(short);
        let pool = NodePool { head: word(HEAD)?, peak: word(PEAK)?, failed: word(FAILED)?, links };
        Ok((word(0)?, word(1)?, pool))
    }

    /// A node that nobody else has; `None` if all are in use or cached.
    #[inline]
    pub fn allocate(&self) -> Option<u32> {
        let mut nodes = [NONE];
        let taken = self.take(&mut nodes);
        if taken == 0 {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let [node] = nodes;
        self.mark(node, USED);
        Some(node)
    }

    /// Takes a node back.
    ///
    /// # Errors
    /// [`FreeNodeError`] if the node is not one of the pool's or not in use. Two threads that free
    /// the same node at the same moment may both succeed: that is a data race of theirs.
    #[inline]
    pub fn free(&self, node: u32) -> Result<(), FreeNodeError> {
        self.check_used(node)?;
        self.put(&[node]);
        Ok(())
    }

    /// A cache of this pool's nodes for one thread.
    pub fn cache(self) -> NodeCache<'m> {
        NodeCache { pool: self, latest: NONE, nodes: [NONE; CACHE_NODES - 1], held: 0 }
    }

    /// How full the pool is. Nodes in caches count as in use. Figures of different moments, if
    /// others use the pool meanwhile.
    pub fn usage(&self) -> PoolUsage {
        PoolUsage {
            capacity: self.links.len() as u32,
            in_use: self.in_use(),
            peak: self.peak.load(Ordering::Relaxed) as u32,
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    fn in_use(&self) -> u32 {
        let capacity = self.links.len() as u32;
        for _ in 0..USAGE_ATTEMPTS {
            let free = self.free_from(self.head.load(Ordering::Acquire) as u32);
            // The link of a top node that somebody took meanwhile says more than there can be.
            if let Some(in_use) = capacity.checked_sub(free) {
                return in_use;
            }
            spin_loop();
        }
        capacity
    }

    /// Takes up to `nodes.len()` nodes off the top, and returns how many.
    #[inline(always)]
    fn take(&self, nodes: &mut [u32]) -> usize {
        // Acquire, here and below, pairs with the release in `put`: the links of the stack are
        // written, and its nodes no longer used by whoever freed them.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let (tag, mut top) = unpack(head);
            let mut taken = 0usize;
            let mut left = 0;
            for slot in nodes.iter_mut() {
                // A link may belong to a node that somebody took meanwhile. Then the head has
                // changed and what is read here is thrown away.
                let Some(link) = self.links.get(top as usize) else { break };
                let (below, next) = unpack(link.load(Ordering::Relaxed));
                *slot = top;
                top = next;
                left = below.wrapping_sub(1);
                taken = taken.wrapping_add(1);
            }
            if taken == 0 {
                return 0;
            }
            let emptier = pack(tag.wrapping_add(1), top);
            match self.exchange(head, emptier, Ordering::Acquire) {
                Ok(_) => {
                    self.note_peak(left);
                    return taken;
                }
                Err(moved) => head = moved,
            }
        }
    }

    /// Puts `nodes`, which the caller owns, on top.
    #[inline(always)]
    fn put(&self, nodes: &[u32]) {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let (tag, mut top) = unpack(head);
            let mut below = self.free_from(top);
            for node in nodes {
                below = below.wrapping_add(1);
                self.mark(*node, pack(below, top));
                top = *node;
            }
            match self.exchange(head, pack(tag, top), Ordering::Release) {
                Ok(_) => return,
                Err(moved) => head = moved,
            }
        }
    }

    #[inline(always)]
    fn exchange(&self, from: u64, to: u64, success: Ordering) -> Result<u64, u64> {
        self.head.compare_exchange_weak(from, to, success, Ordering::Acquire)
    }

    /// Free nodes from `top` down, as its link says. Only true while `top` is the top.
    #[inline(always)]
    fn free_from(&self, top: u32) -> u32 {
        let link = self.links.get(top as usize);
        link.map_or(0, |link| unpack(link.load(Ordering::Relaxed)).0)
    }

    #[inline(always)]
    fn mark(&self, node: u32, value: u64) {
        if let Some(link) = self.links.get(node as usize) {
            link.store(value, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn check_used(&self, node: u32) -> Result<(), FreeNodeError> {
        match self.links.get(node as usize).map(|link| link.load(Ordering::Relaxed)) {
            Some(USED) => Ok(()),
            Some(_) => Err(FreeNodeError::DoubleFree { node }),
            None => Err(FreeNodeError::Foreign { node }),
        }
    }

    #[inline(always)]
    fn note_peak(&self, free: u32) {
        let in_use = (self.links.len() as u64).saturating_sub(u64::from(free));
        // Almost never true: the line stays shared.
        if in_use > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_use, Ordering::Relaxed);
        }
    }
}

/// Nodes set aside for one thread: allocating and freeing touch the shared pool only when the
/// cache runs empty or over. Dropping it hands them back.
///
/// ```
/// # use std::sync::atomic::AtomicU64;
/// use wiretape_core::node_pool::{FreeNodeError, NodePool, words_needed};
/// # let words: Vec<AtomicU64> = (0..words_needed(100)).map(|_| AtomicU64::new(0)).collect();
/// let pool = NodePool::create(&words, 100)?;
/// let mut cache = pool.cache();
/// let node = cache.allocate().expect("100 are free");
/// assert_eq!(cache.free(node), Ok(()));
/// assert_eq!(cache.free(node), Err(FreeNodeError::DoubleFree { node }));
/// drop(cache);
/// assert_eq!(pool.usage().in_use, 0);
/// # Ok::<(), wiretape_core::node_pool::NodePoolError>(())
/// ```
pub struct NodeCache<'m> {
    pool: NodePool<'m>,
    /// The node freed last, before it goes to the others: whoever frees one and then takes one does not
    /// wait for the figure of how many are held. `NONE` if there is none.
    latest: u32,
    nodes: [u32; CACHE_NODES - 1],
    held: usize,
}

impl NodeCache<'_> {
    /// A node that nobody else has; `None` if the cache and the pool have none. Nodes that other
    /// caches hold are out of reach: give the pool [`CACHE_NODES`] for each of them on top.
    #[inline]
    pub fn allocate(&mut self) -> Option<u32> {
        if self.latest != NONE {
            let node = core::mem::replace(&mut self.latest, NONE);
            self.pool.mark(node, USED);
            return Some(node);
        }
        if self.held == 0 && self.refill() == 0 {
            self.pool.failed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let last = self.held.wrapping_sub(1);
        let node = *self.nodes.get(last)?;
        self.held = last;
        self.pool.mark(node, USED);
        Some(node)
    }

    /// Takes a node back, whoever allocated it.
    ///
    /// # Errors
    /// As [`NodePool::free`].
    #[inline]
    pub fn free(&mut self, node: u32) -> Result<(), FreeNodeError> {
        self.pool.check_used(node)?;
        self.pool.mark(node, CACHED);
        let older = core::mem::replace(&mut self.latest, node);
        if older != NONE {
            self.keep(older);
        }
        Ok(())
    }

    /// The pool behind the cache.
    pub fn pool(&self) -> NodePool<'_> {
        self.pool
    }

    #[inline]
    fn keep(&mut self, node: u32) {
        if self.held == self.nodes.len() {
            self.spill(CACHE_EXCHANGE);
        }
        if let Some(slot) = self.nodes.get_mut(self.held) {
            *slot = node;
            self.held = self.held.wrapping_add(1);
        }
    }

    #[cold]
    fn refill(&mut self) -> usize {
        if let Some(nodes) = self.nodes.get_mut(..CACHE_EXCHANGE) {
            self.held = self.pool.take(nodes);
            // The node from the top of the stack is in the processor's cache: give it out first.
            if let Some(nodes) = nodes.get_mut(..self.held) {
                nodes.reverse();
            }
        }
        self.held
    }

    /// Hands the `count` nodes that were cached longest back to the pool.
    #[cold]
    fn spill(&mut self, count: usize) {
        let count = count.min(self.held);
        if let Some(nodes) = self.nodes.get(..count) {
            self.pool.put(nodes);
        }
        self.nodes.copy_within(count..self.held, 0);
        self.held = self.held.wrapping_sub(count);
    }
}

impl Drop for NodeCache<'_> {
    fn drop(&mut self) {
        if self.latest != NONE {
            self.keep(self.latest);
        }
        if self.held > 0 {
            self.spill(self.held);
        }
    }
}

impl fmt::Debug for NodePool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodePool").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeCache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCache").field("pool", &self.pool).finish_non_exhaustive()
    }
}

#[inline(always)]
const fn pack(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

#[inline(always)]
const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, vec::Vec};

    fn words(nodes: u32) -> Vec<AtomicU64> {
        (0..words_needed(nodes)).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_pool_is_attached_to_only_where_one_was_created() {
        let words = words(4);
        assert_eq!(NodePool::attach(&words).err(), Some(NodePoolError::Magic { found: 0 }));
        let pool = NodePool::create(&words, 4).ok().unwrap();
        assert_eq!(pool.allocate(), Some(0));
        assert_eq!(NodePool::attach(&words).ok().unwrap().allocate(), Some(1));
        let short = NodePoolError::TooShort { needed: 52, found: 51 };
        assert_eq!(NodePool::attach(&words[..51]).err(), Some(short));
        assert_eq!(NodePool::create(&words[..51], 4).err(), Some(short));
        let many = u64::from(u32::MAX);
        words[1].store(many, Ordering::Relaxed);
        assert_eq!(NodePool::attach(&words).err(), Some(NodePoolError::TooMany { nodes: many }));
    }

    #[test]
    fn threads_never_hold_the_same_node() {
        const NODES: u32 = 300;
        let words = words(NODES);
        let pool = NodePool::create(&words, NODES).ok().unwrap();
        let owner: Vec<AtomicU64> = (0..NODES).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 1..=3 {
                let owner = &owner;
                scope.spawn(move || {
                    let mut cache = pool.cache();
                    let mut held = Vec::new();
                    for step in 0..60_000_u32 {
                        let cached = thread == 1;
                        if step % 97 < 50 {
                            let node = if cached { cache.allocate() } else { pool.allocate() };
                            let Some(node) = node else { continue };
                            let before = owner[node as usize].swap(thread, Ordering::Relaxed);
                            assert_eq!(before, 0, "node {node} was given out twice");
                            held.push(node);
                        } else if let Some(node) = held.pop() {
                            owner[node as usize].store(0, Ordering::Relaxed);
                            let done = if cached { cache.free(node) } else { pool.free(node) };
                            assert_eq!(done, Ok(()));
                        }
                    }
                    for node in held {
                        owner[node as usize].store(0, Ordering::Relaxed);
                        assert_eq!(cache.free(node), Ok(()));
                    }
                });
            }
        });
        assert_eq!(pool.usage().in_use, 0);
        let all: BTreeSet<u32> = core::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(all.len(), NODES as usize);
    }

    proptest! {
        #[test]
        fn a_pool_gives_out_what_a_set_of_free_nodes_would(
            nodes in 0_u32..150,
            steps in prop::collection::vec((0..4, any::<prop::sample::Index>()), 0..600),
        ) {
            let words = words(nodes);
            let pool = NodePool::create(&words, nodes).ok().unwrap();
            let mut cache = pool.cache();
            let mut held = Vec::new();
            let mut failed = 0;
            for (step, which) in steps {
                match step {
                    0 | 1 => {
                        let node = if step == 0 { pool.allocate() } else { cache.allocate() };
                        match node {
                            Some(node) => {
                                prop_assert!(node < nodes && !held.contains(&node));
                                held.push(node);
                            }
                            None => failed += 1,
                        }
                    }
                    _ if held.is_empty() => {}
                    _ => {
                        let node = held.swap_remove(which.index(held.len()));
                        let free = |cache: &mut NodeCache<'_>| match step {
                            2 => pool.free(node),
                            _ => cache.free(node),
                        };
                        prop_assert_eq!(free(&mut cache), Ok(()));
                        let twice = FreeNodeError::DoubleFree { node };
                        prop_assert_eq!(free(&mut cache), Err(twice));
                    }
                }
                let usage = pool.usage();
                let cached = cache.held + usize::from(cache.latest != NONE);
                prop_assert!(cached <= CACHE_NODES);
                prop_assert_eq!(usage.in_use as usize, held.len() + cached);
                prop_assert!(usage.peak >= usage.in_use);
                prop_assert_eq!(usage.failed, failed);
            }
            drop(cache);
            prop_assert_eq!(pool.usage().in_use as usize, held.len());
            let foreign = FreeNodeError::Foreign { node: nodes };
            prop_assert_eq!(pool.free(nodes), Err(foreign));
        }
    }
}
