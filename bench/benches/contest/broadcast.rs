//! One writer and readers that all see every event.
//!
//! The broadcast ring's writer waits for nobody, the disruptor's does. To move the same events,
//! ours here is told by the benchmark how far its readers are, every 256 events, and waits before
//! it would overtake one.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use disruptor::{BusySpin, ProcessorSettings, Producer, build_single_producer};
use wiretape_core::event::{EVENT_WORDS, Event};
use wiretape_core::ring::broadcast::{Lapped, Reader, Ring, Slot, Writer};
use wiretape_core::sync::CachePadded;

use super::contest::{
    Contestant, Options, Run, apart, contest, contest_of, on_cores, pin, two_cores,
};

pub const SLOTS: usize = 4096;
const BATCH: usize = 256;
/// Events that a worker commits together, for readers that sleep: those of a full packet. Readers that look
/// into the ring see each when it is published.
const PACKET: u64 = 44;
const READERS_MAX: usize = 2;
/// Readers tell how far they are once in so many events.
const REPORT: u64 = 256;

fn event(number: u64) -> Event {
    let mut event = Event { words: [number; EVENT_WORDS] };
    event.words[EVENT_WORDS - 1] = number.wrapping_mul(3);
    event
}

pub fn fold(check: u64, first: u64, last: u64) -> u64 {
    check.wrapping_add(first ^ last.rotate_left(32))
}

fn fold_event(check: u64, event: &Event) -> u64 {
    fold(check, event.words[0], event.words[EVENT_WORDS - 1])
}

/// Slots aligned to cache lines, as in a mapped file.
#[repr(align(64))]
#[derive(Default)]
struct Line(Slot);

struct Memory {
    slots: Vec<Line>,
    head: CachePadded<AtomicU64>,
    /// How far each reader is.
    done: [CachePadded<AtomicU64>; READERS_MAX],
}

impl Memory {
    fn new() -> Memory {
        Memory {
            slots: (0..SLOTS).map(|_| Line::default()).collect(),
            head: CachePadded::default(),
            done: Default::default(),
        }
    }

    /// A fresh ring in the same memory.
    fn ring(&self) -> Ring<'_> {
        for word in self.slots.iter().flat_map(|line| &line.0) {
            word.store(0, Ordering::Relaxed);
        }
        self.head.0.store(0, Ordering::Relaxed);
        self.done.iter().for_each(|done| done.0.store(0, Ordering::Relaxed));
        // SAFETY: a line is one slot and nothing else, so that a slice of lines is one of slots.
        let slots = unsafe { std::slice::from_raw_parts(self.slots.as_ptr().cast(), SLOTS) };
        Ring::new(slots, &self.head.0).expect("4096 is a power of two")
    }
}

/// Lets the writer know how far it may go.
struct Gate<'a> {
    done: &'a [CachePadded<AtomicU64>],
    limit: u64,
}

impl Gate<'_> {
    /// An event can be read as long as the slot before it holds the one before.
    const AHEAD: u64 = SLOTS as u64 - 1;

    fn wait_for(&mut self, last: u64) {
        while last > self.limit {
            let done = self.done.iter().map(|done| done.0.load(Ordering::Acquire));
            self.limit = done.min().unwrap_or(0) + Gate::AHEAD;
            if last > self.limit {
                spin_loop();
            }
        }
    }
}

fn read_singly(mut reader: Reader<'_>, done: &AtomicU64, count: u64) -> u64 {
    let (mut check, mut read) = (0, 0);
    while read < count {
        match reader.next_event().expect("the writer waits") {
            Some((_, event)) => {
                check = fold_event(check, &event);
                read += 1;
                if read % REPORT == 0 {
                    done.store(read, Ordering::Release);
                }
            }
            None => spin_loop(),
        }
    }
    check
}

fn read_batches(mut reader: Reader<'_>, done: &AtomicU64, count: u64) -> u64 {
    let (mut check, mut events) = (0, [Event::default(); BATCH]);
    read_many(done, count, || {
        let found = reader.read_batch(&mut events)?;
        check = events[..found].iter().fold(check, fold_event);
        Ok(found)
    });
    check
}

fn visit_committed(mut reader: Reader<'_>, done: &AtomicU64, count: u64) -> u64 {
    let mut check = 0;
    read_many(done, count, || {
        reader.visit_committed(BATCH, |_, event| check = fold_event(check, event))
    });
    check
}

#[inline(always)]
fn read_many(done: &AtomicU64, count: u64, mut read_some: impl FnMut() -> Result<usize, Lapped>) {
    let mut read = 0;
    while read < count {
        match read_some().expect("the writer waits") {
            0 => spin_loop(),
            found => {
                read += found as u64;
                done.store(read, Ordering::Release);
            }
        }
    }
}

/// Publishes the events behind `number` up to `end`, and commits them.
fn write_singly(writer: &mut Writer<'_>, number: u64, end: u64) {
    for number in number + 1..=end {
        writer.publish(&event(number));
    }
    writer.commit();
}

/// As [`write_singly`], in one call.
fn write_batch(writer: &mut Writer<'_>, number: u64, end: u64) {
    writer.publish_batch((number + 1..=end).map(event));
}

fn ours<const READERS: usize>(
    memory: &Memory,
    count: u64,
    batch: u64,
    write: impl Fn(&mut Writer<'_>, u64, u64) + Sync,
    read: fn(Reader<'_>, &AtomicU64, u64) -> u64,
) -> Run {
    let ring = memory.ring();
    let done = &memory.done[..READERS];
    let writing = || {
        let mut writer = ring.writer();
        let mut gate = Gate { done, limit: Gate::AHEAD };
        let mut number = 0;
        while number < count {
            let end = count.min(number + batch);
            gate.wait_for(end);
            write(&mut writer, number, end);
            number = end;
        }
    };
    let readers: [_; READERS] = std::array::from_fn(|reader| {
        let done = &done[reader].0;
        move || read(ring.reader_from(1), done, count)
    });
    on_cores(writing, readers)
}

/// The same lines from core to core with a word of progress each way every [`REPORT`] events, and
/// nothing in them that says whether they are whole: the least that a ring can take.
fn bare(memory: &Memory, count: u64) -> Run {
    let _ = memory.ring();
    let (head, done) = (&memory.head.0, &memory.done[..1]);
    let line = |number: u64| &memory.slots[number as usize % SLOTS].0;
    let write = || {
        let mut gate = Gate { done, limit: Gate::AHEAD };
        for number in 1..=count {
            if number % REPORT == 1 {
                gate.wait_for(count.min(number + REPORT));
            }
            for (word, value) in line(number).iter().zip(event(number).words) {
                word.store(value, Ordering::Relaxed);
            }
            if number % REPORT == 0 || number == count {
                head.store(number, Ordering::Release);
            }
        }
    };
    let read = || {
        let (mut check, mut read) = (0, 0);
        while read < count {
            let there = head.load(Ordering::Acquire);
            if there == read {
                spin_loop();
            }
            for number in read + 1..=there {
                let [first, .., last, _] = line(number);
                let words = [first, last].map(|word| word.load(Ordering::Relaxed));
                check = fold(check, words[0], words[1]);
            }
            read = there;
            done[0].0.store(read, Ordering::Release);
        }
        check
    };
    two_cores(write, read)
}

struct Their {
    words: [u64; 8],
}

/// The check of one of their readers, once it has seen the last event.
fn their_reader(count: u64) -> (Arc<AtomicU64>, impl FnMut(&Their, i64, bool) + Send + 'static) {
    let result = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&result);
    let mut check = 0;
    let handler = move |event: &Their, _: i64, _: bool| {
        check = fold(check, event.words[0], event.words[6]);
        if event.words[0] == count {
            seen.store(check, Ordering::Release);
        }
    };
    (result, handler)
}

fn theirs(count: u64, batch: u64) -> Run {
    let (result, handler) = their_reader(count);
    let builder = build_single_producer(SLOTS, || Their { words: [0; 8] }, BusySpin);
    let producer = builder.pin_at_core(1).handle_events_with(handler).build();
    write_theirs(producer, count, batch, &[result])
}

fn theirs_to_two(count: u64, batch: u64) -> Run {
    let ((first, one), (second, other)) = (their_reader(count), their_reader(count));
    let builder = build_single_producer(SLOTS, || Their { words: [0; 8] }, BusySpin);
    let builder = builder.pin_at_core(1).handle_events_with(one);
    // It refuses a processor that is not there; in a crowd the readers share one.
    let last = std::thread::available_parallelism().map_or(1, |number| number.get()) - 1;
    let producer = builder.pin_at_core(last.min(2)).handle_events_with(other).build();
    write_theirs(producer, count, batch, &[first, second])
}

fn write_theirs(
    mut producer: impl Producer<Their>,
    count: u64,
    batch: u64,
    results: &[Arc<AtomicU64>],
) -> Run {
    pin(0);
    let start = Instant::now();
    let fill = |their: &mut Their, number: u64| {
        their.words = [number; 8];
        their.words[6] = number.wrapping_mul(3);
    };
    let mut number = 0;
    while number < count {
        if batch == 1 {
            number += 1;
            producer.publish(|their| fill(their, number));
        } else {
            let end = count.min(number + batch);
            producer.batch_publish((end - number) as usize, |theirs| {
                for their in theirs {
                    number += 1;
                    fill(their, number);
                }
            });
        }
    }
    let mut check = 0;
    for result in results {
        check = 0;
        while check == 0 {
            check = result.load(Ordering::Acquire);
            spin_loop();
        }
    }
    Run { took: start.elapsed(), check }
}

pub fn one_reader(options: &Options) {
    let memory = Memory::new();
    let count = options.scaled(1_000_000);
    let singly = vec![
        Contestant::ours("broadcast, packets committed", || {
            ours::<1>(&memory, count, PACKET, write_singly, read_singly)
        }),
        Contestant::ours("broadcast, each committed", || {
            ours::<1>(&memory, count, 1, write_singly, read_singly)
        }),
        Contestant::ours("broadcast, each committed, batch reader", || {
            ours::<1>(&memory, count, 1, write_singly, read_batches)
        }),
        Contestant::peer("disruptor", || apart(|| theirs(count, 1))),
        #[cfg(feature = "iceoryx2")]
        Contestant::peer("iceoryx2", || super::iceoryx::singly(count)),
        Contestant::machine("bare lines, unchecked", || bare(&memory, count)),
    ];
    let title = "broadcast, 64-byte slots, 1 reader, one at a time";
    contest_of(4 * options.rounds(), options, title, count, singly);
    let batches = vec![
        Contestant::ours("broadcast, committed", || {
            ours::<1>(&memory, count, BATCH as u64, write_batch, visit_committed)
        }),
        Contestant::ours("broadcast, published", || {
            ours::<1>(&memory, count, BATCH as u64, write_batch, read_batches)
        }),
        Contestant::peer("disruptor", || apart(|| theirs(count, BATCH as u64))),
        Contestant::machine("bare lines, unchecked", || bare(&memory, count)),
    ];
    let title = "broadcast, 64-byte slots, 1 reader, batches of 256";
    contest_of(4 * options.rounds(), options, title, count, batches);
}

pub fn two_readers(options: &Options) {
    let title = "broadcast, 64-byte slots, 2 readers, one at a time";
    let in_batches = "broadcast, 64-byte slots, 2 readers, batches of 256";
    if !(options.has_room(title, 3) && options.has_room(in_batches, 3)) {
        return;
    }
    let memory = Memory::new();
    let count = options.scaled(1_000_000);
    let singly = vec![
        Contestant::ours("broadcast, packets committed", || {
            ours::<2>(&memory, count, PACKET, write_singly, read_singly)
        }),
        Contestant::ours("broadcast, each committed", || {
            ours::<2>(&memory, count, 1, write_singly, read_singly)
        }),
        Contestant::peer("disruptor", || apart(|| theirs_to_two(count, 1))),
    ];
    contest_of(4 * options.rounds(), options, title, count, singly);
    let batches = vec![
        Contestant::ours("broadcast, committed", || {
            ours::<2>(&memory, count, BATCH as u64, write_batch, visit_committed)
        }),
        Contestant::ours("broadcast, published", || {
            ours::<2>(&memory, count, BATCH as u64, write_batch, read_batches)
        }),
        Contestant::peer("disruptor", || apart(|| theirs_to_two(count, BATCH as u64))),
    ];
    contest_of(4 * options.rounds(), options, in_batches, count, batches);
}

/// The writer by itself: nothing that a reader does may slow it.
pub fn stopped_reader(options: &Options) {
    let memory = Memory::new();
    let count = options.scaled(2_000_000);
    let write = |stopped: bool| {
        let ring = memory.ring();
        let mut writer = ring.writer();
        let mut reader = ring.reader_from(1);
        pin(0);
        writer.publish(&event(1));
        if stopped {
            // It has come this far, and moves no more.
            let _ = black_box(reader.next_event());
        }
        let start = Instant::now();
        for number in 2..=count {
            writer.publish(&event(number));
        }
        writer.commit();
        let took = start.elapsed();
        black_box(reader.position());
        Run { took, check: ring.head() }
    };
    let contestants = vec![
        Contestant::ours("writer, a stopped reader", || apart(|| write(true))),
        Contestant::peer("(wiretape) writer, no reader", || apart(|| write(false))),
    ];
    contest(options, "broadcast, the writer alone", count, contestants);
}
