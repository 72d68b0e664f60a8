//! Every interleaving, up to a bound on preemptions, of the rings' real code:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p wiretape-core --release --target-dir target/loom \
//!     --test loom_rings --test loom_pool --test loom_broadcast
//! ```
//!
//! What loom cannot show: it runs `SeqCst` as acquire-release and does not let a load see a store
//! that happens later in program order (load buffering). These rings use neither.
#![cfg(loom)]

use loom::sync::atomic::AtomicU64;
use loom::thread;
use wiretape_core::ring::{
    AttachError,
    mpmc::{self, Ring, WordRing},
    slot::{Slot, Slots, StampedSlot, StampedSlots},
    spsc::{self, Consumer, Producer},
};

/// Explores `model` with up to `preemptions` involuntary switches on each path.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Memory for the threads of one run. It is not given back: a model's runs are few and small.
fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

fn words(count: usize) -> &'static [AtomicU64] {
    leak((0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>())
}

fn slots<T: Default>(count: usize) -> &'static mut [T] {
    leak((0..count).map(|_| T::default()).collect::<Vec<_>>())
}

/// An item that shows when it was put together from two.
trait Whole: Copy + PartialEq + std::fmt::Debug + Send {
    fn of(number: u64) -> Self;
}

impl Whole for [u64; 2] {
    fn of(number: u64) -> [u64; 2] {
        [number, !number]
    }
}

/// Three items through two slots, so that one slot is used twice.
fn passes_items_in_order<S>(mut producer: Producer<'static, S>, mut consumer: Consumer<'static, S>)
where
    S: Slots<Item: Whole> + Send + 'static,
{
    let writing = thread::spawn(move || {
        for number in 1..=3 {
            while producer.push(S::Item::of(number)).is_err() {
                thread::yield_now();
            }
        }
    });
    let mut next = 1;
    while next <= 3 {
        match consumer.pop() {
            Some(item) => {
                assert_eq!(item, S::Item::of(next));
                next += 1;
            }
            None => thread::yield_now(),
        }
    }
    assert_eq!(consumer.pop(), None);
    writing.join().unwrap();
}

/// The same in batches that wrap round.
fn passes_batches_in_order<S>(
    mut producer: Producer<'static, S>,
    mut consumer: Consumer<'static, S>,
) where
    S: Slots<Item: Whole> + Send + 'static,
{
    let writing = thread::spawn(move || {
        let items = [1, 2, 3].map(S::Item::of);
        let mut done = 0;
        while done < items.len() {
            match producer.push_slice(&items[done..]) {
                0 => thread::yield_now(),
                count => done += count,
            }
        }
    });
    let mut next = 1;
    while next <= 3 {
        let mut items = [S::Item::of(0); 2];
        match consumer.pop_slice(&mut items) {
            0 => thread::yield_now(),
            count => {
                for item in &items[..count] {
                    assert_eq!(*item, S::Item::of(next));
                    next += 1;
                }
            }
        }
    }
    writing.join().unwrap();
}

fn split() -> (spsc::SlotProducer<'static, [u64; 2]>, spsc::SlotConsumer<'static, [u64; 2]>) {
    spsc::split(leak(spsc::Cursors::new()), slots::<Slot<[u64; 2]>>(2)).unwrap()
}

fn attach() -> (spsc::WordProducer<'static, 2>, spsc::WordConsumer<'static, 2>) {
    let words = words(spsc::words_needed::<2>(2));
    spsc::create::<2>(words, 2).unwrap();
    (Producer::attach(words).unwrap(), Consumer::attach(words).unwrap())
}

#[test]
fn spsc_over_slots_passes_items_in_order() {
    explore(3, || {
        let (producer, consumer) = split();
        passes_items_in_order(producer, consumer);
    });
}

#[test]
fn spsc_over_words_passes_items_in_order() {
    explore(3, || {
        let (producer, consumer) = attach();
        passes_items_in_order(producer, consumer);
    });
}

#[test]
fn spsc_over_slots_passes_batches_in_order() {
    explore(3, || {
        let (producer, consumer) = split();
        passes_batches_in_order(producer, consumer);
    });
}

#[test]
fn spsc_over_words_passes_batches_in_order() {
    explore(3, || {
        let (producer, consumer) = attach();
        passes_batches_in_order(producer, consumer);
    });
}

#[test]
fn an_end_attached_in_another_thread_sees_the_whole_ring() {
    explore(3, || {
        let words = words(spsc::words_needed::<1>(2));
        let creating = thread::spawn(move || {
            spsc::create::<1>(words, 2).unwrap();
            spsc::WordProducer::<1>::attach(words).unwrap().push([7]).unwrap();
        });
        match spsc::WordConsumer::<1>::attach(words) {
            Ok(mut consumer) => assert!(matches!(consumer.pop(), None | Some([7]))),
            // Not there yet; who sees the magic sees what stands behind it.
            Err(AttachError::Magic { found: 0, .. }) => {}
            Err(half) => panic!("half a header: {half}"),
        }
        creating.join().unwrap();
    });
}

/// A producer that attaches where another one stopped, and learns of that from the ring alone.
#[test]
fn what_a_producer_left_reaches_the_consumer_through_its_successor() {
    explore(3, || {
        let words = words(spsc::words_needed::<1>(2));
        spsc::create::<1>(words, 2).unwrap();
        let producer = move || spsc::WordProducer::<1>::attach(words).unwrap();
        let first = thread::spawn(move || producer().push([1]).unwrap());
        let reading = thread::spawn(move || {
            let mut consumer = spsc::WordConsumer::<1>::attach(words).unwrap();
            // Nothing is given back.
            let items: Vec<_> = consumer.read(2).collect();
            assert_eq!(items, [[1], [2]][..items.len()]);
        });
        let mut second = producer();
        while second.room() > 1 {
            thread::yield_now();
            second = producer();
        }
        second.push([2]).unwrap();
        first.join().unwrap();
        reading.join().unwrap();
    });
}

/// Two producers with one item each and two consumers, on two slots.
fn hands_each_item_out_once<S>(ring: Ring<'static, S>)
where
    S: StampedSlots<Item: Whole> + Send + Sync + 'static,
{
    let push = move |number| {
        let item = S::Item::of(number);
        assert_eq!(ring.push(item), Ok(()));
    };
    let first = thread::spawn(move || push(1));
    let second = thread::spawn(move || {
        let early = ring.pop();
        push(2);
        early
    });
    let here = ring.pop();
    first.join().unwrap();
    let there = second.join().unwrap();
    let rest = [ring.pop(), ring.pop(), ring.pop()];
    let mut taken: Vec<_> = [here, there].into_iter().chain(rest).flatten().collect();
    assert_eq!(taken.len(), 2, "{taken:?}");
    if taken[0] != S::Item::of(1) {
        taken.reverse();
    }
    assert_eq!(taken, [S::Item::of(1), S::Item::of(2)]);
}

/// A slot is read on one thread and written again on another.
fn reuses_slots_only_after_they_were_read<S>(ring: Ring<'static, S>)
where
    S: StampedSlots<Item: Whole> + Send + Sync + 'static,
{
    let writing = thread::spawn(move || {
        for number in 1..=3 {
            while ring.push(S::Item::of(number)).is_err() {
                thread::yield_now();
            }
        }
    });
    let mut next = 1;
    while next <= 3 {
        match ring.pop() {
            Some(item) => {
                assert_eq!(item, S::Item::of(next));
                next += 1;
            }
            None => thread::yield_now(),
        }
    }
    writing.join().unwrap();
}

/// One item comes and goes while another thread looks.
fn never_seems_to_hold_more_than_there_were<S>(ring: Ring<'static, S>)
where
    S: StampedSlots<Item: Whole> + Send + Sync + 'static,
{
    // The one that looks is the second to run: loom then shows it every store of the first.
    let looking = thread::spawn(move || assert!(ring.len() <= 1));
    ring.push(S::Item::of(1)).unwrap();
    ring.pop().unwrap();
    looking.join().unwrap();
    assert!(ring.is_empty());
}

fn slot_ring() -> mpmc::SlotRing<'static, [u64; 2]> {
    Ring::new(leak(mpmc::Cursors::new()), slots::<StampedSlot<[u64; 2]>>(2)).unwrap()
}

fn word_ring() -> mpmc::WordRing<'static, 2> {
    WordRing::create(words(mpmc::words_needed::<2>(2)), 2).unwrap()
}

#[test]
fn mpmc_over_slots_hands_each_item_out_once() {
    explore(2, || hands_each_item_out_once(slot_ring()));
}

#[test]
fn mpmc_over_words_hands_each_item_out_once() {
    explore(2, || hands_each_item_out_once(word_ring()));
}

#[test]
fn mpmc_over_slots_reuses_slots_only_after_they_were_read() {
    explore(3, || reuses_slots_only_after_they_were_read(slot_ring()));
}

#[test]
fn mpmc_over_words_reuses_slots_only_after_they_were_read() {
    explore(3, || reuses_slots_only_after_they_were_read(word_ring()));
}

#[test]
fn mpmc_never_seems_to_hold_more_than_there_were() {
    explore(3, || never_seems_to_hold_more_than_there_were(word_ring()));
}
