//! Pools beside the system's allocator, on one core. A pool is claimed once, before; the
//! allocator is used as it comes, for the smallest alignment that it gives anyway.
//!
//! Three patterns: a block that goes back at once; 1,000 blocks of which a random one is replaced
//! each time, as buffers in flight are; and 256 taken, then all given back in another order.

#[path = "contest/mod.rs"]
mod contest;

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use clap::Parser;
use contest::{Contestant, Options, Run, contest};
use wiretape_core::block_pool::BlockPool;
use wiretape_core::node_pool::{NodeCache, NodePool, words_needed};

const BLOCKS: usize = 4096;
const IN_FLIGHT: usize = 1_000;
const BURST: usize = 256;

/// What takes and gives back.
trait Allocator {
    type Block: Copy;
    fn take(&mut self) -> Self::Block;
    fn give(&mut self, block: Self::Block);
}

impl Allocator for BlockPool<'_> {
    type Block = NonNull<u8>;

    #[inline(always)]
    fn take(&mut self) -> NonNull<u8> {
        let block = self.allocate().expect("there are enough");
        // SAFETY: the block is in use by this benchmark alone, and has at least one byte.
        unsafe { block.write(1) };
        block
    }

    #[inline(always)]
    fn give(&mut self, block: NonNull<u8>) {
        self.free(block).expect("it is in use");
    }
}

impl Allocator for NodePool<'_> {
    type Block = u32;

    #[inline(always)]
    fn take(&mut self) -> u32 {
        self.allocate().expect("there are enough")
    }

    #[inline(always)]
    fn give(&mut self, node: u32) {
        self.free(node).expect("it is in use");
    }
}

impl Allocator for NodeCache<'_> {
    type Block = u32;

    #[inline(always)]
    fn take(&mut self) -> u32 {
        self.allocate().expect("there are enough")
    }

    #[inline(always)]
    fn give(&mut self, node: u32) {
        self.free(node).expect("it is in use");
    }
}

struct System(Layout);

impl Allocator for System {
    type Block = NonNull<u8>;

    #[inline(always)]
    fn take(&mut self) -> NonNull<u8> {
        // SAFETY: the layout is not empty.
        let block = NonNull::new(unsafe { alloc(self.0) }).expect("the system has some");
        // SAFETY: the block is fresh and has at least one byte.
        unsafe { block.write(1) };
        block
    }

    #[inline(always)]
    fn give(&mut self, block: NonNull<u8>) {
        // SAFETY: it came from `take`, with the same layout.
        unsafe { dealloc(block.as_ptr(), self.0) };
    }
}

fn timed(count: u64, work: impl FnOnce()) -> Run {
    let start = Instant::now();
    work();
    Run { took: start.elapsed(), check: count }
}

fn at_once(count: u64, allocator: &mut impl Allocator) -> Run {
    timed(count, || {
        for _ in 0..count {
            let block = black_box(allocator.take());
            allocator.give(block);
        }
    })
}

/// A cheap sequence that visits all of `0..of` in no order.
fn scattered(number: u64, of: usize) -> usize {
    ((number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize * of) >> 31
}

fn in_flight(count: u64, allocator: &mut impl Allocator) -> Run {
    let mut blocks: Vec<_> = (0..IN_FLIGHT).map(|_| allocator.take()).collect();
    let run = timed(count, || {
        for number in 0..count {
            let block = &mut blocks[scattered(number, IN_FLIGHT)];
            allocator.give(*block);
            *block = allocator.take();
        }
    });
    blocks.into_iter().for_each(|block| allocator.give(block));
    run
}

fn bursts(count: u64, allocator: &mut impl Allocator) -> Run {
    let mut blocks = Vec::with_capacity(BURST);
    timed(count, || {
        for _ in 0..count / BURST as u64 {
            blocks.extend((0..BURST).map(|_| allocator.take()));
            // An odd step visits all of them.
            for number in 0..BURST {
                allocator.give(blocks[number * 97 % BURST]);
            }
            blocks.clear();
        }
    })
}

macro_rules! patterns {
    ($options:expr, $bytes:expr, $($title:literal => $pattern:ident),*) => {$({
        let count = $options.scaled(1 << 18).next_multiple_of(BURST as u64);
        let mut memory = vec![0; BLOCKS * $bytes];
        let mut links = vec![0; BLOCKS];
        let words: Vec<_> =
            (0..words_needed(BLOCKS as u32)).map(|_| AtomicU64::new(0)).collect();
        let mut blocks = BlockPool::new(&mut memory, &mut links, $bytes).expect("it has a size");
        let mut nodes = NodePool::create(&words, BLOCKS as u32).expect("the words are enough");
        let mut cache = nodes.cache();
        let mut system = System(Layout::from_size_align($bytes, 16).expect("a small size"));
        let contestants = vec![
            Contestant::ours("block pool", || $pattern(count, &mut blocks)),
            Contestant::ours("node pool, with a cache", || $pattern(count, &mut cache)),
            Contestant::ours("node pool, lock-free", || $pattern(count, &mut nodes)),
            Contestant::peer("system allocator", || $pattern(count, &mut system)),
        ];
        contest($options, &format!("{} bytes, {}", $bytes, $title), count, contestants);
    })*};
}

fn main() {
    let options = &Options::parse();
    for bytes in [64, 2048] {
        patterns!(
            options,
            bytes,
            "taken and given back at once" => at_once,
            "one of 1,000 replaced" => in_flight,
            "256 taken, 256 given back" => bursts
        );
    }
}
