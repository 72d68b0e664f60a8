//! Every interleaving, up to a bound on preemptions, of the broadcast ring's real code. How to
//! run it and what loom cannot show: see `loom_rings.rs`.
#![cfg(loom)]

use core::time::Duration;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use wiretape_core::event::{EVENT_WORDS, Event};
use wiretape_core::ring::broadcast::{Lapped, Reader, Ring, Slot};
use wiretape_core::ring::wake::{Park, Unpark, Wait, WakeWord, Waker};

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

fn ring(capacity: usize) -> Ring<'static> {
    let slots = Vec::leak((0..capacity).map(|_| Slot::default()).collect::<Vec<_>>());
    Ring::new(slots, Box::leak(Box::new(AtomicU64::new(0)))).unwrap()
}

/// Only the first and last words differ from event to event: enough to see one that was put
/// together from two, and few enough for the model.
fn event(number: u64) -> Event {
    let mut event = Event::default();
    event.words[0] = number;
    event.words[EVENT_WORDS - 1] = !number;
    event
}

/// Reads `attempts` times; every event must be whole and in its place, and every lost range must
/// begin where the reader stood. Returns where it stands in the end.
fn read_singly(mut reader: Reader<'_>, attempts: usize) -> u64 {
    let mut expected = reader.position();
    for _ in 0..attempts {
        match reader.next_event() {
            Ok(Some((sequence, read))) => {
                assert_eq!((sequence, read), (expected, event(expected)));
                expected += 1;
            }
            Ok(None) => thread::yield_now(),
            Err(lapped) => {
                assert_eq!(lapped.first, expected);
                assert!(lapped.end > lapped.first);
                expected = lapped.end;
            }
        }
        assert_eq!(reader.position(), expected);
    }
    expected
}

fn read_batches(reader: Reader<'_>, attempts: usize) -> u64 {
    read_many(reader, attempts, |reader, events| reader.read_batch(events))
}

fn visit_committed(reader: Reader<'_>, attempts: usize) -> u64 {
    read_many(reader, attempts, |reader, events| {
        let mut free = events.iter_mut();
        reader.visit_committed(free.len(), |_, event| {
            *free.next().expect("no more than the limit") = *event;
        })
    })
}

fn read_many(
    mut reader: Reader<'_>,
    attempts: usize,
    read: impl Fn(&mut Reader<'_>, &mut [Event]) -> Result<usize, Lapped>,
) -> u64 {
    let mut expected = reader.position();
    let mut events = [Event::default(); 2];
    for _ in 0..attempts {
        match read(&mut reader, &mut events) {
            Ok(count) => {
                for read in &events[..count] {
                    assert_eq!(*read, event(expected));
                    expected += 1;
                }
            }
            Err(lapped) => {
                assert_eq!(lapped.first, expected);
                assert!(lapped.end > lapped.first);
                expected = lapped.end;
            }
        }
        assert_eq!(reader.position(), expected);
    }
    expected
}

fn lapping(read: fn(Reader<'_>, usize) -> u64, last: u64, commit: bool, attempts: usize) {
    let ring = ring(2);
    // Made here: loom looks at the latest access to a word alone, and the stores of a thread that has
    // loaded the word before them would seem to concern nobody else.
    let mut writer = ring.writer();
    let writing = thread::spawn(move || {
        for number in 1..=last {
            assert_eq!(writer.publish(&event(number)), number);
            if commit {
                writer.commit();
            }
        }
        writer.commit();
    });
    let position = read(ring.reader_from(1), attempts);
    assert!(position <= last + 1);
    writing.join().unwrap();
}

#[test]
fn a_reader_sees_whole_events_in_order_or_the_range_it_missed() {
    explore(2, || lapping(read_singly, 3, false, 2));
}

#[test]
fn a_batch_reader_sees_whole_events_in_order_or_the_range_it_missed() {
    explore(2, || lapping(read_batches, 3, false, 2));
}

#[test]
fn a_reader_of_committed_events_sees_them_whole_or_the_range_it_missed() {
    explore(2, || lapping(visit_committed, 3, true, 2));
}

#[test]
fn events_written_in_batches_are_seen_whole_or_missed() {
    for read in [read_batches, visit_committed] {
        explore(2, move || {
            let ring = ring(2);
            let mut writer = ring.writer();
            let writing = thread::spawn(move || {
                assert_eq!(writer.publish_batch((1..=3).map(event)), 1..4);
            });
            assert!(read(ring.reader_from(1), 2) <= 4);
            writing.join().unwrap();
        });
    }
}

#[test]
fn two_readers_do_not_disturb_each_other() {
    explore(1, || {
        let ring = ring(2);
        let mut writer = ring.writer();
        let other = thread::spawn(move || read_singly(ring.reader_from(1), 1));
        let writing = thread::spawn(move || {
            for number in 1..=3 {
                writer.publish(&event(number));
            }
        });
        assert!(read_singly(ring.reader_from(1), 1) <= 4);
        assert!(other.join().unwrap() <= 4);
        writing.join().unwrap();
    });
}

/// A writer that takes over from one that ended before it committed, and learns of that from the ring
/// alone.
#[test]
fn what_a_writer_left_uncommitted_is_whole_when_its_successor_commits_it() {
    explore(2, || {
        let ring = ring(2);
        let first = thread::spawn(move || drop(ring.writer().publish(&event(1))));
        let reading = thread::spawn(move || visit_committed(ring.reader_from(1), 1));
        let mut second = ring.writer();
        while second.next_sequence() == 1 {
            thread::yield_now();
            second = ring.writer();
        }
        second.commit();
        first.join().unwrap();
        assert!((1..=2).contains(&reading.join().unwrap()));
    });
}

/// A futex: the word is compared, and the sleep begun, under a lock that who wakes takes too.
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Park for Futex {
    fn yield_now(&self) {
        thread::yield_now();
    }

    fn park(&self, word: &AtomicU64, seen: u32, _: Duration) {
        let lock = self.lock.lock().unwrap();
        if word.load(Ordering::Relaxed) as u32 == seen {
            drop(self.sleepers.wait(lock).unwrap());
        }
    }
}

impl Unpark for Futex {
    fn unpark_all(&self, _: &AtomicU64) {
        drop(self.lock.lock().unwrap());
        self.sleepers.notify_all();
    }
}

/// One look of the waker's at a ring that holds an event is the last there is: a reader that
/// slept through it would sleep for ever, which loom finds.
#[test]
fn no_reader_sleeps_through_a_wake_up() {
    explore(3, || {
        let ring = ring(2);
        let word = WakeWord::new(Box::leak(Box::new(AtomicU64::new(0))));
        let futex = &*Box::leak(Box::new(Futex { lock: Mutex::new(()), sleepers: Condvar::new() }));
        let (mut writer, mut waker) = (ring.writer(), Waker::new(word, ring));
        let writing = thread::spawn(move || {
            writer.publish(&event(1));
            writer.commit();
            waker.tick(futex);
        });
        let mut reader = ring.reader_from(1);
        let read = loop {
            match reader.next_event() {
                Ok(Some(read)) => break read,
                Ok(None) => reader.wait(Wait::Park, word, Duration::MAX, futex),
                Err(lapped) => panic!("{lapped}"),
            }
        };
        assert_eq!(read, (1, event(1)));
        writing.join().unwrap();
    });
}
