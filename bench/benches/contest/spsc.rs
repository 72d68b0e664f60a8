//! One producer, one consumer.

use std::hint::spin_loop;
use std::sync::atomic::AtomicU64;

use crossbeam_queue::ArrayQueue;
use wiretape_core::ring::{
    slot::{Slot, Slots},
    spsc::{self, Consumer, Producer},
};

use super::contest::{Contestant, Options, Run, contest_of, two_cores};

const SLOTS: usize = 1024;
const BATCH: usize = 64;

type Item<const W: usize> = [u64; W];

fn item<const W: usize>(number: u64) -> Item<W> {
    let mut item = [number; W];
    item[W - 1] = number.wrapping_mul(3);
    item
}

fn fold<const W: usize>(check: u64, item: &Item<W>) -> u64 {
    check.wrapping_add(item[0] ^ item[W - 1].rotate_left(32))
}

fn move_singly<const W: usize>(
    count: u64,
    mut push: impl FnMut(Item<W>) -> bool + Send,
    mut pop: impl FnMut() -> Option<Item<W>> + Send,
) -> Run {
    let write = move || {
        for number in 0..count {
            let item = item(number);
            while !push(item) {
                spin_loop();
            }
        }
    };
    let read = move || {
        let (mut check, mut left) = (0, count);
        while left > 0 {
            match pop() {
                Some(item) => {
                    check = fold(check, &item);
                    left -= 1;
                }
                None => spin_loop(),
            }
        }
        check
    };
    two_cores(write, read)
}

fn move_batches<const W: usize>(
    count: u64,
    mut push: impl FnMut(&[Item<W>]) -> usize + Send,
    mut pop: impl FnMut(&mut [Item<W>]) -> usize + Send,
) -> Run {
    let write = move || {
        let mut number = 0;
        let mut items = [[0; W]; BATCH];
        while number < count {
            let batch = (count - number).min(BATCH as u64) as usize;
            for item_of_batch in &mut items[..batch] {
                *item_of_batch = item(number);
                number += 1;
            }
            let mut left = &items[..batch];
            while !left.is_empty() {
                let pushed = push(left);
                left = &left[pushed..];
                if pushed == 0 {
                    spin_loop();
                }
            }
        }
    };
    let read = move || {
        let (mut check, mut left) = (0, count);
        let mut items = [[0; W]; BATCH];
        while left > 0 {
            let popped = pop(&mut items);
            check = items[..popped].iter().fold(check, fold);
            left -= popped as u64;
            if popped == 0 {
                spin_loop();
            }
        }
        check
    };
    two_cores(write, read)
}

/// Words as a mapped file has them: aligned to cache lines.
#[derive(Default)]
#[repr(C, align(128))]
struct Line([AtomicU64; 16]);

impl Line {
    fn words(lines: &[Line]) -> &[AtomicU64] {
        // SAFETY: a line is 16 words and nothing else, so that a slice of lines is one of words.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 16) }
    }
}

struct Memory<const W: usize> {
    cursors: spsc::Cursors,
    slots: Vec<Slot<Item<W>>>,
    words: Vec<Line>,
}

impl<const W: usize> Memory<W> {
    fn new() -> Memory<W> {
        let words = spsc::words_needed::<W>(SLOTS);
        Memory {
            cursors: spsc::Cursors::new(),
            slots: (0..SLOTS).map(|_| Slot::new()).collect(),
            words: (0..words.div_ceil(16)).map(|_| Line::default()).collect(),
        }
    }

    fn slot_ends(&mut self) -> (spsc::SlotProducer<'_, Item<W>>, spsc::SlotConsumer<'_, Item<W>>) {
        spsc::split(&mut self.cursors, &mut self.slots).expect("1024 is a power of two")
    }

    fn word_ends(&self) -> (spsc::WordProducer<'_, W>, spsc::WordConsumer<'_, W>) {
        let words = Line::words(&self.words);
        spsc::create::<W>(words, SLOTS).expect("the words are enough");
        let producer = Producer::attach(words).expect("it was created");
        (producer, Consumer::attach(words).expect("it was created"))
    }
}

fn ours_singly<S, const W: usize>(count: u64, ends: (Producer<'_, S>, Consumer<'_, S>)) -> Run
where
    S: Slots<Item = Item<W>> + Send,
{
    let (mut producer, mut consumer) = ends;
    move_singly(count, move |item| producer.push(item).is_ok(), move || consumer.pop())
}

fn ours_in_batches<S, const W: usize>(count: u64, ends: (Producer<'_, S>, Consumer<'_, S>)) -> Run
where
    S: Slots<Item = Item<W>> + Send,
{
    let (mut producer, mut consumer) = ends;
    let pop = move |items: &mut [Item<W>]| consumer.pop_slice(items);
    move_batches(count, move |items| producer.push_slice(items), pop)
}

pub fn single<const W: usize>(options: &Options, title: &str) {
    let count = options.scaled(400_000);
    let (mut slots, words) = (Memory::<W>::new(), Memory::<W>::new());
    let contestants = vec![
        Contestant::ours("slots", || ours_singly(count, slots.slot_ends())),
        Contestant::ours("shared words", || ours_singly(count, words.word_ends())),
        Contestant::peer("rtrb", || {
            let (mut producer, mut consumer) = rtrb::RingBuffer::<Item<W>>::new(SLOTS);
            let push = move |item| producer.push(item).is_ok();
            move_singly(count, push, move || consumer.pop().ok())
        }),
        Contestant::peer("heapless::spsc", || {
            let mut queue = Box::new(heapless::spsc::Queue::<Item<W>, SLOTS>::new());
            let (mut producer, mut consumer) = queue.split();
            let push = move |item| producer.enqueue(item).is_ok();
            move_singly(count, push, move || consumer.dequeue())
        }),
        Contestant::peer("crossbeam ArrayQueue", || {
            let queue = ArrayQueue::<Item<W>>::new(SLOTS);
            move_singly(count, |item| queue.push(item).is_ok(), || queue.pop())
        }),
    ];
    contest_of(6 * options.rounds(), options, title, count, contestants);
}

pub fn batch<const W: usize>(options: &Options, title: &str) {
    let count = options.scaled(800_000);
    let (mut slots, words) = (Memory::<W>::new(), Memory::<W>::new());
    let contestants = vec![
        Contestant::ours("slots", || ours_in_batches(count, slots.slot_ends())),
        Contestant::ours("shared words", || ours_in_batches(count, words.word_ends())),
        Contestant::peer("rtrb slices", || {
            let (mut producer, mut consumer) = rtrb::RingBuffer::<Item<W>>::new(SLOTS);
            let push = move |items: &[Item<W>]| producer.push_partial_slice(items).0.len();
            let pop = move |items: &mut [Item<W>]| consumer.pop_partial_slice(items).0.len();
            move_batches(count, push, pop)
        }),
    ];
    contest_of(6 * options.rounds(), options, title, count, contestants);
}
