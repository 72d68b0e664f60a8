//! Uses every part of the crate in a program without standard library, allocator and C library.
//! That it links is the proof that none is needed; its exit status says which check failed.
#![no_std]
#![no_main]

use core::cell::Cell;
use core::panic::PanicInfo;
use core::sync::atomic::AtomicU64;
use core::time::Duration;
use wiretape_core::arena::{Arena, ScratchArena};
use wiretape_core::block_pool::BlockPool;
use wiretape_core::book::{BookSpec, HashIndex, OrderBook};
use wiretape_core::event::{Event, Side};
use wiretape_core::event_loop::{EventLoop, Memory, Priority};
use wiretape_core::histogram::Histogram;
use wiretape_core::node_pool::{self, NodePool};
use wiretape_core::ring::slot::{Slot, StampedSlot};
use wiretape_core::ring::wake::{Park, Unpark, Wait, WakeWord, Waker};
use wiretape_core::ring::{broadcast, mpmc, spsc};
use wiretape_core::simd::{self, Aggregate, block, gorilla, packing::BLOCK};
use wiretape_core::skiplist::{self, SkipList};
use wiretape_core::timer_wheel::{TimerNode, TimerWheel};
use wiretape_freestanding::{exit, memory, words};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}

/// `None` ends the program with a failure.
type Checked = Option<()>;

fn holds(condition: bool) -> Checked {
    condition.then_some(())
}

#[unsafe(no_mangle)]
fn run() -> i32 {
    let checks = [rings, broadcast, pools, arenas, skip_list, timers, kernels, book, histogram];
    let failed = checks.into_iter().position(|check| check().is_none());
    failed.map_or(0, |index| index as i32 + 1)
}

fn rings() -> Checked {
    let mut cursors = spsc::Cursors::new();
    let mut slots = [const { Slot::new() }; 8];
    let (mut producer, mut consumer) = spsc::split(&mut cursors, &mut slots).ok()?;
    holds(producer.push_slice(&[1_u32, 2, 3]) == 3)?;
    holds(consumer.pop() == Some(1) && consumer.read(8).sum::<u32>() == 5)?;
    let shared = words(spsc::words_needed::<8>(64));
    spsc::create::<8>(shared, 64).ok()?;
    let mut producer = spsc::WordProducer::<8>::attach(shared).ok()?;
    let mut consumer = spsc::WordConsumer::<8>::attach(shared).ok()?;
    producer.push([7; 8]).ok()?;
    holds(consumer.pop() == Some([7; 8]))?;
    let mut cursors = mpmc::Cursors::new();
    let mut slots = [const { StampedSlot::new() }; 4];
    let ring = mpmc::Ring::new(&mut cursors, &mut slots).ok()?;
    ring.push('x').ok()?;
    holds(ring.pop() == Some('x'))?;
    let ring = mpmc::WordRing::<7>::create(words(mpmc::words_needed::<7>(16)), 16).ok()?;
    ring.push([9; 7]).ok()?;
    holds(ring.pop() == Some([9; 7]))
}

fn broadcast() -> Checked {
    let slots: [broadcast::Slot; 16] = Default::default();
    let head = AtomicU64::new(0);
    let ring = broadcast::Ring::new(&slots, &head).ok()?;
    let (mut writer, mut reader) = (ring.writer(), ring.reader_from(1));
    for number in 0..40 {
        writer.publish(&Event { words: [number; 7] });
    }
    writer.commit();
    let lost = reader.next_event().err()?;
    holds(lost.first == 1)?;
    let (sequence, event) = reader.next_event().ok()??;
    holds(sequence == lost.end && event.words == [sequence - 1; 7])?;
    let (word, calls) = (AtomicU64::new(0), Calls(Cell::new(0)));
    let word = WakeWord::new(&word);
    Waker::new(word, ring).tick(&calls);
    reader.wait(Wait::Park, word, Duration::from_millis(1), &calls);
    ring.reader_from_now().wait(Wait::Park, word, Duration::from_millis(1), &calls);
    holds(calls.0.get() == 2)
}

/// A system without threads, which counts what it is asked for.
struct Calls(Cell<u32>);

impl Park for Calls {
    fn yield_now(&self) {}
    fn park(&self, _: &AtomicU64, _: u32, _: Duration) {
        self.0.set(self.0.get() + 1);
    }
}

impl Unpark for Calls {
    fn unpark_all(&self, _: &AtomicU64) {
        self.0.set(self.0.get() + 1);
    }
}

fn pools() -> Checked {
    let mut links = [0; 8];
    let mut pool = BlockPool::new(memory(8 * 100), &mut links, 100).ok()?;
    let block = pool.allocate()?;
    pool.get_mut(block)?.fill(1);
    pool.free(block).ok()?;
    holds(pool.free(block).is_err())?;
    let mut burst = [block; 2];
    holds(pool.allocate_bulk(&mut burst) == 2)?;
    pool.free_bulk(&burst).ok()?;
    let pool = NodePool::create(words(node_pool::words_needed(100)), 100).ok()?;
    let mut cache = pool.cache();
    let node = cache.allocate()?;
    cache.free(node).ok()?;
    drop(cache);
    holds(pool.usage().in_use == 0 && pool.usage().peak > 0)
}

fn arenas() -> Checked {
    let mut arena = Arena::new(memory(4096));
    let numbers: &mut [u64] = arena.alloc_slice("numbers", 16).ok()?;
    holds(numbers == [0; 16])?;
    let mut scratch = ScratchArena::new(memory(4096));
    let mut work = scratch.checkpoint();
    let bytes: &mut [u8] = work.alloc_slice("bytes", 100).ok()?;
    bytes.fill(1);
    holds(arena.alloc_slice::<u64>("too many", 1 << 20).is_err())
}

fn skip_list() -> Checked {
    let mut list = SkipList::<i64>::create(words(skiplist::words_for(1_000))).ok()?;
    for key in 0..1_000_i64 {
        list.insert(key * 7 % 1_000, key as u64).ok()?;
    }
    let reader = list.reader();
    holds(reader.iter().map(|(key, _)| key).eq(0..1_000))?;
    holds(reader.floor(500)?.0 == 500)
}

fn timers() -> Checked {
    let mut nodes = [const { TimerNode::new() }; 8];
    let mut wheel = TimerWheel::new(&mut nodes, 0);
    let id = wheel.schedule(70_000, 1).ok()?;
    wheel.schedule(300, 2).ok()?;
    holds(wheel.cancel(id) == Some(1) && wheel.pop_due(300)?.item == 2)?;
    let mut cursors = [const { mpmc::Cursors::new() }; 3];
    let [urgent, normal, later] = &mut cursors;
    let mut rings = [const { [const { StampedSlot::new() }; 4] }; 2];
    let [first, last] = &mut rings;
    let mut waiting = [const { StampedSlot::new() }; 4];
    let mut timers = [const { TimerNode::new() }; 4];
    let memory = Memory {
        urgent: (urgent, first),
        normal: (normal, last),
        later: (later, &mut waiting),
        timers: &mut timers,
    };
    let mut events = EventLoop::new(memory, 0).ok()?;
    let poster = events.poster();
    poster.post(Priority::Normal, 1_u8).ok()?;
    poster.post(Priority::Urgent, 2).ok()?;
    poster.post_later(5, 3).ok()?;
    holds([events.next(9), events.next(9), events.next(9)] == [Some(2), Some(3), Some(1)])
}

fn kernels() -> Checked {
    let mut values = [0_i64; BLOCK];
    for (value, number) in values.iter_mut().zip(0..) {
        *value = 1_700_000_000 + number * 250 + number % 3;
    }
    let aggregate = Aggregate::of_i64(&values)?;
    holds(aggregate.min == values[0] && simd::sum_i64(&values) == aggregate.sum)?;
    holds(simd::lower_bound_i64(&values, values[77]) == 77)?;
    let mut words = [0; 4 * BLOCK];
    let used = block::encode(&values, &mut words).ok()?;
    let mut decoded = [0; BLOCK];
    holds(block::decode(words.get(..used)?, &mut decoded) == Ok((BLOCK, used)))?;
    holds(decoded == values)?;
    let used = gorilla::encode_times(&values, &mut words)?;
    gorilla::decode_times(words.get(..used)?, &mut decoded)?;
    holds(decoded == values)
}

fn book() -> Checked {
    let mut arena = Arena::new(memory(1 << 20));
    let spec = BookSpec { instruments: 1, orders: 100, levels: 100 };
    let index = HashIndex::new(&mut arena, spec.orders).ok()?;
    let mut book = OrderBook::new(&mut arena, &spec, index).ok()?;
    book.add(0, 7001, Side::Bid, 10_500_000_000, 300).ok()?;
    book.reduce(7001, 100).ok()?;
    holds(book.best(0).bid_sz == 200)
}

fn histogram() -> Checked {
    let mut histogram = Histogram::attach(words(Histogram::WORDS))?;
    (1..=1_000).for_each(|value| histogram.record(value));
    let seen = histogram.snapshot();
    holds(seen.count() == 1_000 && (500..=516).contains(&seen.p50()))
}
