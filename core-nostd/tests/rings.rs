//! The two bounded rings against a plain queue, in both kinds of memory, and their headers
//! against damage.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use wiretape_core::ring::{
    AttachError, CapacityError, Full,
    mpmc::{self, Ring, WordRing},
    slot::{Slot, Slots, StampedSlot, StampedSlots},
    spsc::{self, Consumer, Producer},
};

/// What the rings are asked to do.
#[derive(Clone, Debug)]
enum Step {
    Push,
    Pop,
    Peek,
    PushSlice(usize),
    PopSlice(usize),
    /// Reserve, fill, and commit or drop.
    Write(usize, usize, bool),
    /// Open, read, and commit or drop.
    Read(usize, usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = 0..40_usize;
    let chunk = || (0..40_usize, 0..40_usize, any::<bool>());
    let step = prop_oneof![
        Just(Step::Push),
        Just(Step::Pop),
        Just(Step::Peek),
        count.clone().prop_map(Step::PushSlice),
        count.prop_map(Step::PopSlice),
        chunk().prop_map(|(reserve, fill, commit)| Step::Write(reserve, fill, commit)),
        chunk().prop_map(|(open, take, commit)| Step::Read(open, take, commit)),
    ];
    prop::collection::vec(step, 0..200)
}

/// Items that the test can make from a running number.
trait Numbered: Copy + PartialEq + std::fmt::Debug {
    fn numbered(number: u64) -> Self;
}

impl Numbered for u32 {
    fn numbered(number: u64) -> u32 {
        number as u32
    }
}

impl Numbered for [u64; 8] {
    fn numbered(number: u64) -> [u64; 8] {
        core::array::from_fn(|word| number.wrapping_mul(31).wrapping_add(word as u64))
    }
}

fn spsc_is_a_queue<S>(
    steps: &[Step],
    mut producer: Producer<'_, S>,
    mut consumer: Consumer<'_, S>,
) -> Result<(), TestCaseError>
where
    S: Slots<Item: Numbered>,
{
    let capacity = producer.capacity();
    let mut queue = VecDeque::new();
    let mut numbers = 0..;
    let mut fresh = |count: usize| -> Vec<S::Item> {
        numbers.by_ref().take(count).map(S::Item::numbered).collect()
    };
    for step in steps {
        let room = capacity - queue.len();
        match *step {
            Step::Push => {
                let item = fresh(1)[0];
                let expected = if room > 0 { Ok(()) } else { Err(Full(item)) };
                prop_assert_eq!(producer.push(item), expected);
                if room > 0 {
                    queue.push_back(item);
                }
            }
            Step::Pop => prop_assert_eq!(consumer.pop(), queue.pop_front()),
            Step::Peek => prop_assert_eq!(consumer.peek(), queue.front().copied()),
            Step::PushSlice(count) => {
                let items = fresh(count);
                let pushed = producer.push_slice(&items);
                prop_assert_eq!(pushed, count.min(room));
                queue.extend(&items[..pushed]);
            }
            Step::PopSlice(count) => {
                let mut items = vec![S::Item::numbered(u64::MAX); count];
                let popped = consumer.pop_slice(&mut items);
                prop_assert_eq!(popped, count.min(queue.len()));
                prop_assert!(queue.drain(..popped).eq(items[..popped].iter().copied()));
            }
            Step::Write(reserve, fill, commit) => {
                let items = fresh(fill);
                let mut chunk = producer.reserve(reserve);
                let fits = fill.min(reserve).min(room);
                for (place, item) in items.iter().enumerate() {
                    prop_assert_eq!(chunk.push(*item).is_ok(), place < fits);
                }
                if commit {
                    chunk.commit();
                    queue.extend(&items[..fits]);
                }
            }
            Step::Read(open, take, commit) => {
                let mut chunk = consumer.read(open);
                prop_assert_eq!(chunk.available(), open.min(queue.len()));
                let items: Vec<_> = chunk.by_ref().take(take).collect();
                prop_assert!(items.iter().eq(queue.iter().take(open.min(take))));
                if commit {
                    chunk.commit();
                    queue.drain(..items.len());
                }
            }
        }
        prop_assert_eq!(producer.room(), capacity - queue.len());
        prop_assert_eq!(consumer.available(), queue.len());
    }
    Ok(())
}

fn mpmc_is_a_queue<S>(steps: &[Step], ring: Ring<'_, S>) -> Result<(), TestCaseError>
where
    S: StampedSlots<Item: Numbered>,
{
    let mut queue = VecDeque::new();
    for (number, step) in (0..).zip(steps) {
        match step {
            Step::Push | Step::PushSlice(_) | Step::Write(..) => {
                let item = S::Item::numbered(number);
                if queue.len() < ring.capacity() {
                    prop_assert_eq!(ring.push(item), Ok(()));
                    queue.push_back(item);
                } else {
                    prop_assert_eq!(ring.push(item), Err(Full(item)));
                }
            }
            _ => prop_assert_eq!(ring.pop(), queue.pop_front()),
        }
        prop_assert_eq!(ring.len(), queue.len());
        prop_assert_eq!(ring.is_empty(), queue.is_empty());
    }
    Ok(())
}

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

proptest! {
    #[test]
    fn a_spsc_ring_over_slots_is_a_bounded_queue(log2 in 1..6_u32, steps in steps()) {
        let mut cursors = spsc::Cursors::new();
        let mut slots: Vec<Slot<u32>> = (0..1 << log2).map(|_| Slot::new()).collect();
        let (producer, consumer) = spsc::split(&mut cursors, &mut slots).unwrap();
        spsc_is_a_queue(&steps, producer, consumer)?;
    }

    #[test]
    fn a_spsc_ring_over_words_is_a_bounded_queue(log2 in 1..6_u32, steps in steps()) {
        let slots = 1 << log2;
        let words = words(spsc::words_needed::<8>(slots) + 3);
        spsc::create::<8>(&words, slots).unwrap();
        let producer = spsc::WordProducer::<8>::attach(&words).unwrap();
        let consumer = spsc::WordConsumer::<8>::attach(&words).unwrap();
        spsc_is_a_queue(&steps, producer, consumer)?;
    }

    #[test]
    fn a_mpmc_ring_over_slots_is_a_bounded_queue(log2 in 1..6_u32, steps in steps()) {
        let mut cursors = mpmc::Cursors::new();
        let mut slots: Vec<StampedSlot<u32>> = (0..1 << log2).map(|_| StampedSlot::new()).collect();
        mpmc_is_a_queue(&steps, Ring::new(&mut cursors, &mut slots).unwrap())?;
    }

    #[test]
    fn a_mpmc_ring_over_words_is_a_bounded_queue(log2 in 1..6_u32, steps in steps()) {
        let slots = 1 << log2;
        let words = words(mpmc::words_needed::<8>(slots) + 3);
        mpmc_is_a_queue(&steps, WordRing::<8>::create(&words, slots).unwrap())?;
    }

    /// Whatever stands in shared words, the rings neither panic nor hang.
    #[test]
    fn noise_in_shared_words_is_survived(
        noise in prop::collection::vec(any::<u64>(), 100),
        steps in prop::collection::vec((0..100_usize, any::<u64>()), 0..50),
    ) {
        let words: Vec<AtomicU64> = noise.into_iter().map(AtomicU64::new).collect();
        spsc::create::<2>(&words, 8).unwrap();
        let mut producer = spsc::WordProducer::<2>::attach(&words).unwrap();
        let mut consumer = spsc::WordConsumer::<2>::attach(&words).unwrap();
        for (place, value) in &steps {
            words[*place].store(*value, Ordering::Relaxed);
            let _ = producer.push([*value; 2]);
            let _ = producer.push_slice(&[[*value; 2]; 5]);
            let _ = consumer.pop();
            let _ = consumer.pop_slice(&mut [[0; 2]; 7]);
            let _ = spsc::WordProducer::<2>::attach(&words).map(|mut other| other.room());
        }
        let ring = WordRing::<2>::create(&words, 8).unwrap();
        for (place, value) in &steps {
            words[*place].store(*value, Ordering::Relaxed);
            let _ = ring.push([*value; 2]);
            let _ = ring.pop();
            let _ = WordRing::<2>::attach(&words).map(|other| other.len());
        }
    }
}

#[test]
fn a_reattached_end_goes_on_where_the_last_one_stopped() {
    let words = words(spsc::words_needed::<1>(4));
    spsc::create::<1>(&words, 4).unwrap();
    for number in 0..20 {
        let mut producer = spsc::WordProducer::<1>::attach(&words).unwrap();
        producer.push([number]).unwrap();
        producer.push([number + 100]).unwrap();
        let mut consumer = spsc::WordConsumer::<1>::attach(&words).unwrap();
        assert_eq!(consumer.pop(), Some([number]));
        let mut consumer = spsc::WordConsumer::<1>::attach(&words).unwrap();
        assert_eq!(consumer.pop(), Some([number + 100]));
        assert_eq!(consumer.pop(), None);
    }
}

#[test]
fn a_header_that_does_not_fit_is_refused_with_what_was_found() {
    let words = words(spsc::words_needed::<2>(8));
    let attach = || spsc::WordProducer::<2>::attach(&words).map(|_| ());
    let magic = u64::from_le_bytes(*b"WTSPSC\x01\x00");
    assert_eq!(attach(), Err(AttachError::Magic { expected: magic, found: 0 }));
    let capacity = CapacityError { slots: 6 };
    assert_eq!(spsc::create::<2>(&words, 6), Err(AttachError::Capacity(capacity)));
    let (needed, found) = (spsc::words_needed::<2>(16), words.len());
    assert_eq!(spsc::create::<2>(&words, 16), Err(AttachError::TooShort { needed, found }));
    spsc::create::<2>(&words, 8).unwrap();
    assert_eq!(attach(), Ok(()));
    let wider = spsc::WordConsumer::<3>::attach(&words).map(|_| ());
    assert_eq!(wider, Err(AttachError::ItemWords { expected: 3, found: 2 }));
    let other = WordRing::<2>::attach(&words).map(|_| ());
    assert!(matches!(other, Err(AttachError::Magic { .. })));
    let cut = spsc::WordConsumer::<2>::attach(&words[..found - 1]).map(|_| ());
    assert_eq!(cut, Err(AttachError::TooShort { needed: found, found: found - 1 }));
    let nothing = spsc::WordConsumer::<2>::attach(&[]).map(|_| ());
    assert!(matches!(nothing, Err(AttachError::TooShort { found: 0, .. })));
}

#[test]
fn items_arrive_whole_and_in_order_between_threads() {
    const ITEMS: u64 = 200_000;
    let mut cursors = spsc::Cursors::new();
    let mut slots: Vec<Slot<[u64; 8]>> = (0..64).map(|_| Slot::new()).collect();
    let (mut producer, mut consumer) = spsc::split(&mut cursors, &mut slots).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut next = 0;
            while next < ITEMS {
                let batch = (next % 37) + 1;
                let items: Vec<_> =
                    (next..ITEMS.min(next + batch)).map(<[u64; 8]>::numbered).collect();
                next += producer.push_slice(&items) as u64;
                std::thread::yield_now();
            }
        });
        let mut next = 0;
        while next < ITEMS {
            let mut chunk = consumer.read(29);
            for item in chunk.by_ref() {
                assert_eq!(item, <[u64; 8]>::numbered(next));
                next += 1;
            }
            chunk.commit();
            std::thread::yield_now();
        }
    });
}

#[test]
fn every_item_of_many_producers_arrives_once_and_in_its_producers_order() {
    const ITEMS: u64 = 30_000;
    let mut cursors = mpmc::Cursors::new();
    let mut slots: Vec<StampedSlot<[u64; 2]>> = (0..16).map(|_| StampedSlot::new()).collect();
    let ring = Ring::new(&mut cursors, &mut slots).unwrap();
    let left = AtomicU64::new(2 * ITEMS);
    let taken: Vec<Vec<[u64; 2]>> = std::thread::scope(|scope| {
        for producer in 0..2 {
            scope.spawn(move || {
                for number in 0..ITEMS {
                    while ring.push([producer, number]).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut taken = Vec::new();
                    while left.load(Ordering::Relaxed) > 0 {
                        match ring.pop() {
                            Some(item) => {
                                taken.push(item);
                                left.fetch_sub(1, Ordering::Relaxed);
                            }
                            None => std::thread::yield_now(),
                        }
                    }
                    taken
                })
            })
            .collect();
        consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
    });
    for one in &taken {
        for producer in 0..2 {
            let numbers = one.iter().filter(|item| item[0] == producer).map(|item| item[1]);
            assert!(numbers.is_sorted(), "a consumer saw a producer's items out of order");
        }
    }
    let mut all = taken.concat();
    all.sort_unstable();
    let expected = (0..2).flat_map(|producer| (0..ITEMS).map(move |number| [producer, number]));
    assert!(all.into_iter().eq(expected));
}
