//! Promise 3: after start-up the worker allocates nothing. An allocator that counts, per thread,
//! stands under this test; the worker takes packets, gaps, damage and unknown traffic.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use wiretape_capture::clock::ClockKeeper;
use wiretape_capture::config::Idle;
use wiretape_capture::orders::{FeedChange, Orders};
use wiretape_capture::source::{Polled, Source, SourceError};
use wiretape_capture::trading_days::{self, Zones};
use wiretape_capture::worker::Worker;
use wiretape_core::arena::Arena;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::pipeline::{Feed, Pipeline, Protocol};
use wiretape_core::segment::{
    Counter, FeedIdentity, FeedState, SegmentLayout, SegmentSpec, SegmentWriter,
};

mod day;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: passes everything on to the system's allocator; counting touches no memory of its own
// (the cell is constant-initialised and has no destructor).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Frames in memory, handed over in batches.
struct InMemory {
    frames: Vec<Vec<u8>>,
    next: usize,
}

impl Source for InMemory {
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        let batch = &self.frames[self.next..self.frames.len().min(self.next + 64)];
        for (i, frame) in batch.iter().enumerate() {
            sink(frame, 1_340_285_400_000_000_000 + (self.next + i) as u64);
        }
        self.next += batch.len();
        Ok(if batch.is_empty() { Polled::Ended } else { Polled::Frames(batch.len() as u32) })
    }

    fn wait(&self, _: Duration) {}
}

#[test]
fn the_worker_allocates_nothing_whatever_comes() {
    let mut frames = day::frames(&day::made_up(20_000), 7);
    // A gap, a duplicate, damage at several depths, and what is not ours at all.
    frames.remove(100);
    frames.push(frames[50].clone());
    let whole = frames[200].clone();
    frames.extend((0..200).map(|len| whole[..whole.len().min(len)].to_vec()));
    frames.push(vec![0xFF; 1500]);
    let count = frames.len() as u64;

    let spec = SegmentSpec {
        worker: "still",
        epoch: 1,
        pid: 0,
        event_slots: 1 << 12,
        instruments: 128,
        feeds: 2,
        depths: 0,
    };
    let words = SegmentLayout::new(&spec).unwrap().total_words;
    let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let segment = SegmentWriter::create(&words, &spec).unwrap();
    let mut books = vec![0; 64 << 20];
    let mut arena = Arena::new(&mut books);
    let mut pipeline = Pipeline::new(segment);
    let identity = FeedIdentity {
        name: "itch".try_into().unwrap(),
        protocol: Protocol::Itch50.name().try_into().unwrap(),
        group: day::GROUP,
        port: day::PORT,
        first_instrument: 0,
        instruments: 64,
    };
    let feed = FeedSpec {
        identity,
        publisher_id: 2,
        orders: 40_000,
        levels: 10_000,
        line_b: None,
        patience: Patience::NONE,
    };
    let days =
        trading_days::on(Zones::System, "America/New_York", "2012-06-21".parse().unwrap()).unwrap();
    pipeline.add_feed(Protocol::Itch50, &feed, &days, &mut arena).unwrap();
    let clock = ClockKeeper::new().worker_clock();
    let mut worker = Worker::new(pipeline, Some(clock), Idle::Spin);
    let mut source = InMemory { frames, next: 0 };
    let (orders, stop) = (Orders::default(), AtomicBool::new(false));
    // Another feed, which comes and goes meanwhile.
    let mut spec = feed.clone();
    (spec.identity.port, spec.identity.first_instrument) = (day::PORT + 1, 64);
    let mut books = vec![0; 64 << 20];
    let other = Feed::new(1, Protocol::Itch50, &spec, &days, &segment, &mut Arena::new(&mut books))
        .unwrap();

    // The first batch may set up what is set up once per thread.
    worker.poll(&mut source).unwrap();
    let mut allocations = 0;
    std::thread::scope(|scope| {
        let changer = scope.spawn(|| {
            let refused = orders.change(FeedChange::Attach(other), &stop).unwrap();
            let gone = orders.change(FeedChange::Detach(1), &stop).unwrap();
            refused.is_none() && gone.is_some_and(|feed| feed.index() == 1)
        });
        let mut changes = 0;
        let before = ALLOCATIONS.with(Cell::get);
        while worker.poll(&mut source).unwrap() != Polled::Ended || changes < 2 {
            if orders.look().is_change() {
                worker.change_feeds(&orders);
                changes += 1;
            }
        }
        allocations = ALLOCATIONS.with(Cell::get) - before;
        assert!(changer.join().unwrap(), "the feed was taken in, and came back");
    });

    let counters = segment.counters();
    assert_eq!(segment.feed(1).unwrap().view().state(), FeedState::Removed);
    assert_eq!(counters.get(Counter::Frames), count);
    assert!(counters.get(Counter::Events) > 20_000);
    assert_eq!(allocations, 0, "allocations and releases on the hot path");
    // The allocator does count.
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![1u8; 10]));
    assert!(ALLOCATIONS.with(Cell::get) > before);
}
