//! Pools and arenas beside the system's allocator, on one core. They are claimed once, before;
//! the allocator is used as it comes, for the smallest alignment that it gives anyway. Whoever
//! takes a block writes to it, the users of node numbers to the array that the numbers stand for.
//!
//! Patterns: a block that goes back at once, which is the allocator's best case (its per-thread
//! cache holds it); blocks in flight of which a random one is replaced each time; as many taken,
//! then all given back in another order, as when a ring is filled. With sizes of packets a pool
//! hands out its one size, the allocator the size asked for. Arenas: the scratch memory of a
//! packet, eight slices that go back together, and records that stay.
//!
//! In brackets, as the limit, a stack of pointers that checks and counts nothing: what it takes is the
//! blocks' memory and that each call waits for what the one before it stored.

#[path = "contest/mod.rs"]
mod contest;

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use clap::Parser;
use contest::{Contestant, Options, Run, contest};
use wiretape_core::arena::{Arena, ScratchArena};
use wiretape_core::block_pool::BlockPool;
use wiretape_core::node_pool::{NodeCache, NodePool, words_needed};

const BLOCKS: usize = 8192;
const BURST: usize = 256;

/// What takes and gives back.
trait Allocator {
    type Block: Copy;
    fn take(&mut self, bytes: usize) -> Self::Block;
    fn give(&mut self, block: Self::Block, bytes: usize);
}

impl Allocator for BlockPool<'_> {
    type Block = NonNull<u8>;

    #[inline(always)]
    fn take(&mut self, _: usize) -> NonNull<u8> {
        let block = self.allocate().expect("there are enough");
        // SAFETY: the block is in use by this benchmark alone, and has at least one byte.
        unsafe { block.write(1) };
        block
    }

    #[inline(always)]
    fn give(&mut self, block: NonNull<u8>, _: usize) {
        self.free(block).expect("it is in use");
    }
}

/// Node numbers, and the array of blocks that they stand for.
struct Nodes<'a, P> {
    pool: P,
    blocks: &'a mut [u8],
    bytes: usize,
}

impl<P> Nodes<'_, P> {
    #[inline(always)]
    fn touch(&mut self, node: u32) -> u32 {
        self.blocks[node as usize * self.bytes] = 1;
        node
    }
}

impl Allocator for Nodes<'_, NodePool<'_>> {
    type Block = u32;

    #[inline(always)]
    fn take(&mut self, _: usize) -> u32 {
        let node = self.pool.allocate().expect("there are enough");
        self.touch(node)
    }

    #[inline(always)]
    fn give(&mut self, node: u32, _: usize) {
        self.pool.free(node).expect("it is in use");
    }
}

impl Allocator for Nodes<'_, NodeCache<'_>> {
    type Block = u32;

    #[inline(always)]
    fn take(&mut self, _: usize) -> u32 {
        let node = self.pool.allocate().expect("there are enough");
        self.touch(node)
    }

    #[inline(always)]
    fn give(&mut self, node: u32, _: usize) {
        self.pool.free(node).expect("it is in use");
    }
}

/// The least that can be done: pointers on a stack.
struct Stack(Vec<NonNull<u8>>);

impl Stack {
    fn of(memory: &mut [u8], block: usize) -> Stack {
        Stack(
            memory.chunks_exact_mut(block).rev().map(|block| NonNull::from(block).cast()).collect(),
        )
    }
}

impl Allocator for Stack {
    type Block = NonNull<u8>;

    #[inline(always)]
    fn take(&mut self, _: usize) -> NonNull<u8> {
        let block = self.0.pop().expect("there are enough");
        // SAFETY: the block is a part of memory that outlives the stack and is used by it alone.
        unsafe { block.write(1) };
        block
    }

    #[inline(always)]
    fn give(&mut self, block: NonNull<u8>, _: usize) {
        self.0.push(block);
    }
}

struct System;

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 16).expect("a small size")
}

impl Allocator for System {
    type Block = NonNull<u8>;

    #[inline(always)]
    fn take(&mut self, bytes: usize) -> NonNull<u8> {
        // SAFETY: the layout is not empty.
        let block = NonNull::new(unsafe { alloc(layout(bytes)) }).expect("the system has some");
        // SAFETY: the block is fresh and has at least one byte.
        unsafe { block.write(1) };
        block
    }

    #[inline(always)]
    fn give(&mut self, block: NonNull<u8>, bytes: usize) {
        // SAFETY: it came from `take`, with the same layout.
        unsafe { dealloc(block.as_ptr(), layout(bytes)) };
    }
}

fn timed(count: u64, work: impl FnOnce()) -> Run {
    let start = Instant::now();
    work();
    Run { took: start.elapsed(), check: count }
}

/// How blocks are used: `bytes(n)` is the size of the n-th.
#[derive(Clone, Copy)]
enum Pattern {
    AtOnce,
    InFlight(usize),
    Bursts,
}

impl Pattern {
    fn run(self, count: u64, bytes: fn(u64) -> usize, allocator: &mut impl Allocator) -> Run {
        match self {
            Pattern::AtOnce => at_once(count, bytes, allocator),
            Pattern::InFlight(blocks) => in_flight(count, blocks, bytes, allocator),
            Pattern::Bursts => bursts(count, bytes, allocator),
        }
    }
}

#[inline(always)]
fn at_once(count: u64, bytes: fn(u64) -> usize, allocator: &mut impl Allocator) -> Run {
    timed(count, || {
        for number in 0..count {
            let bytes = bytes(number);
            let block = black_box(allocator.take(bytes));
            allocator.give(block, bytes);
        }
    })
}

/// A cheap sequence that visits all of `0..of` in no order.
fn scattered(number: u64, of: usize) -> usize {
    ((number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize * of) >> 31
}

#[inline(always)]
fn in_flight(
    count: u64,
    blocks: usize,
    bytes: fn(u64) -> usize,
    allocator: &mut impl Allocator,
) -> Run {
    let take = |number, allocator: &mut _| {
        let bytes = bytes(number);
        (Allocator::take(allocator, bytes), bytes)
    };
    let mut held: Vec<_> = (0..blocks as u64).map(|number| take(number, allocator)).collect();
    let run = timed(count, || {
        for number in 0..count {
            let place = &mut held[scattered(number, blocks)];
            allocator.give(place.0, place.1);
            *place = take(number, allocator);
        }
    });
    held.into_iter().for_each(|(block, bytes)| allocator.give(block, bytes));
    run
}

#[inline(always)]
fn bursts(count: u64, bytes: fn(u64) -> usize, allocator: &mut impl Allocator) -> Run {
    let mut held = Vec::with_capacity(BURST);
    timed(count, || {
        for _ in 0..count / BURST as u64 {
            held.extend((0..BURST as u64).map(|number| allocator.take(bytes(number))));
            for at in (0..BURST).map(another_order) {
                allocator.give(held[at], bytes(at as u64));
            }
            held.clear();
        }
    })
}

/// Visits all of a burst: the step is odd.
fn another_order(number: usize) -> usize {
    number * 97 % BURST
}

/// As `bursts`, with a call for all that is taken and one for all that goes back.
fn bursts_in_bulk(count: u64, pool: &mut BlockPool<'_>) -> Run {
    let mut held = [NonNull::dangling(); BURST];
    timed(count, || {
        for _ in 0..count / BURST as u64 {
            assert_eq!(pool.allocate_bulk(&mut held), BURST);
            for block in held {
                // SAFETY: the block is in use by this benchmark alone, and has at least one byte.
                unsafe { block.write(1) };
            }
            let back: [_; BURST] = std::array::from_fn(|number| held[another_order(number)]);
            pool.free_bulk(&back).expect("all are in use");
        }
    })
}

fn pools(options: &Options, title: &str, block: usize, bytes: fn(u64) -> usize, pattern: Pattern) {
    let count = options.scaled(1 << 18).next_multiple_of(BURST as u64);
    let mut memory = vec![0; BLOCKS * block];
    let mut arrays = [vec![0; BLOCKS * block], vec![0; BLOCKS * block]];
    let [of_nodes, of_cache] = &mut arrays;
    let mut links = vec![0; BLOCKS];
    let words = |_| (0..words_needed(BLOCKS as u32)).map(|_| AtomicU64::new(0)).collect();
    let words: [Vec<_>; 2] = [0, 1].map(words);
    let pool = |words| NodePool::create(words, BLOCKS as u32).expect("the words are enough");
    let mut blocks = BlockPool::new(&mut memory, &mut links, block).expect("it has a size");
    let mut nodes = Nodes { pool: pool(&words[0]), blocks: of_nodes, bytes: block };
    let mut cache = Nodes { pool: pool(&words[1]).cache(), blocks: of_cache, bytes: block };
    let mut bulk_memory = vec![0; BLOCKS * block];
    let mut bulk_links = vec![0; BLOCKS];
    let mut bulk = BlockPool::new(&mut bulk_memory, &mut bulk_links, block).expect("it has a size");
    let mut stack_memory = vec![0; BLOCKS * block];
    let mut stack = Stack::of(&mut stack_memory, block);
    let mut contestants = vec![
        Contestant::ours("block pool", || pattern.run(count, bytes, &mut blocks)),
        Contestant::ours("node pool, with a cache", || pattern.run(count, bytes, &mut cache)),
        Contestant::ours("node pool, lock-free", || pattern.run(count, bytes, &mut nodes)),
        Contestant::peer("system allocator", || pattern.run(count, bytes, &mut System)),
        Contestant::machine("stack of pointers", || pattern.run(count, bytes, &mut stack)),
    ];
    if let Pattern::Bursts = pattern {
        let in_bulk = || bursts_in_bulk(count, &mut bulk);
        contestants.insert(1, Contestant::ours("block pool, in bulk", in_bulk));
    }
    contest(options, title, count, contestants);
}

/// Sizes of the slices of a packet's scratch memory.
const SLICES: [usize; 8] = [16, 24, 240, 64, 32, 128, 48, 96];

fn scratch(options: &Options) {
    let packets = options.scaled(1 << 15);
    let count = packets * SLICES.len() as u64;
    let mut regions = [vec![0_u8; 4096], vec![0_u8; 4096]];
    let [zeroed, as_found] = &mut regions;
    let mut zeroed = ScratchArena::new(zeroed);
    let mut as_found = ScratchArena::with_contents_as_found(as_found);
    let from_arena = |arena: &mut ScratchArena<'_>| {
        timed(count, || {
            for _ in 0..packets {
                let mut work = arena.checkpoint();
                for bytes in SLICES {
                    let slice: &mut [u8] = work.alloc_slice("slice", bytes).expect("there is room");
                    black_box(slice)[0] = 1;
                }
            }
        })
    };
    let from_system = || {
        timed(count, || {
            for _ in 0..packets {
                let slices = SLICES.map(|bytes| black_box(System.take(bytes)));
                slices.into_iter().zip(SLICES).for_each(|(slice, bytes)| System.give(slice, bytes));
            }
        })
    };
    let contestants = vec![
        Contestant::ours("scratch arena", || from_arena(&mut as_found)),
        Contestant::ours("scratch arena, slices zeroed", || from_arena(&mut zeroed)),
        Contestant::peer("system allocator", from_system),
    ];
    contest(options, "arena: 8 slices of 16 to 240 bytes, given back together", count, contestants);
}

fn records(options: &Options) {
    let count = options.scaled(1 << 15);
    let mut region = vec![0_u8; count as usize * 64 + 64];
    let from_arena = || {
        timed(count, || {
            let mut arena = Arena::with_contents_as_found(&mut region);
            for _ in 0..count {
                let record: &mut [u64] = arena.alloc_slice("record", 8).expect("there is room");
                black_box(record)[0] = 1;
            }
        })
    };
    let from_system = || {
        let mut taken = Vec::with_capacity(count as usize);
        let run = timed(count, || {
            taken.extend((0..count).map(|_| black_box(System.take(64))));
        });
        taken.into_iter().for_each(|record| System.give(record, 64));
        run
    };
    let contestants = vec![
        Contestant::ours("arena", from_arena),
        Contestant::peer("system allocator", from_system),
    ];
    contest(options, "arena: records of 64 bytes that stay", count, contestants);
}

fn main() {
    let options = &Options::parse();
    contest::pin(0);
    pools(options, "64 bytes, taken and given back at once", 64, |_| 64, Pattern::AtOnce);
    pools(options, "64 bytes, one of 1,000 replaced", 64, |_| 64, Pattern::InFlight(1_000));
    pools(options, "64 bytes, 256 taken, 256 given back", 64, |_| 64, Pattern::Bursts);
    pools(options, "2048 bytes, taken and given back at once", 2048, |_| 2048, Pattern::AtOnce);
    pools(options, "2048 bytes, one of 1,000 replaced", 2048, |_| 2048, Pattern::InFlight(1_000));
    pools(options, "2048 bytes, 256 taken, 256 given back", 2048, |_| 2048, Pattern::Bursts);
    let packet = |number| 64 + scattered(number, 1_451);
    let title = "packets of 64 to 1,514 bytes, one of 4,000 replaced";
    pools(options, title, 2048, packet, Pattern::InFlight(4_000));
    let title = "packets of 64 to 1,514 bytes, 256 taken, 256 given back";
    pools(options, title, 2048, packet, Pattern::Bursts);
    scratch(options);
    records(options);
}
