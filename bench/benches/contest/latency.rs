//! From one process to another and back: half of a round trip.
//!
//! The bare hand-over is one word each way, each on cache lines of its own: the least that two
//! cores of this machine can do. Ours is an event each way, through a broadcast ring each.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use wiretape_core::event::{EVENT_WORDS, Event};
use wiretape_core::ring::broadcast::{Reader, Ring, SLOT_WORDS, Slot, Writer};

use super::contest::{Contestant, Options, Run, apart, contest_of, pin};

const SLOTS: usize = 64;
/// Trips before the clock starts: until the other process runs.
const WARM: u64 = 100;
/// Words of one direction: the head or the bare word, then the slots from word 16 on.
const SIDE_WORDS: usize = 16 + SLOTS * SLOT_WORDS;

/// Zeroed words that a forked process shares; never unmapped.
fn shared_words() -> &'static [AtomicU64] {
    let bytes = 2 * SIDE_WORDS * 8;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
    let start =
        unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED) };
    let start = start.expect("the kernel has some pages");
    // SAFETY: the mapping is page-aligned, zeroed and this long, and is accessed atomically only.
    unsafe { std::slice::from_raw_parts(start.cast(), bytes / 8) }
}

/// Runs `answer` in another process on core 1 and `ask` here on core 0; both make `count` round
/// trips, of which `ask` says how long all but the first ones took.
pub fn two_processes(
    count: u64,
    ask: impl FnOnce(u64) -> Duration,
    answer: impl FnOnce(u64),
) -> Run {
    let trips = WARM + count;
    // SAFETY: the only other thread waits for this one; the child runs `answer` and ends without
    // unwinding or destructors. It may allocate: glibc hands a forked child its locks free.
    let child = unsafe { libc::fork() };
    if child == 0 {
        pin(1);
        answer(trips);
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "the process could not be forked");
    pin(0);
    let took = ask(trips);
    let mut status = 0;
    // SAFETY: `child` is ours and `status` is valid for writing.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "the answering process failed");
    Run { took, check: count }
}

/// Makes `trips` trips, the first ones untimed.
pub fn timed(trips: u64, mut trip: impl FnMut(u64)) -> Duration {
    let mut start = Instant::now();
    for number in 1..=trips {
        trip(number);
        if number == WARM {
            start = Instant::now();
        }
    }
    start.elapsed()
}

fn bare(count: u64) -> Run {
    let words = shared_words();
    let (there, back) = (&words[0], &words[SIDE_WORDS]);
    let wait = |word: &AtomicU64, number| {
        while word.load(Ordering::Acquire) != number {
            spin_loop_hint();
        }
    };
    let ask = |trips| {
        timed(trips, |number| {
            there.store(number, Ordering::Release);
            wait(back, number);
        })
    };
    let answer = |trips| {
        for number in 1..=trips {
            wait(there, number);
            back.store(number, Ordering::Release);
        }
    };
    two_processes(count, ask, answer)
}

/// `pause` takes as long as half of a hand-over: whoever waits for one does not.
#[inline(always)]
pub fn spin_loop_hint() {
    if cfg!(not(target_arch = "x86_64")) {
        spin_loop();
    }
}

fn ring(words: &'static [AtomicU64]) -> Ring<'static> {
    let (slots, _): (&[Slot], _) = words[16..].as_chunks();
    Ring::new(slots, &words[0]).expect("64 is a power of two")
}

fn send(writer: &mut Writer<'_>, number: u64) {
    writer.publish(&Event { words: [number; EVENT_WORDS] });
}

fn receive(reader: &mut Reader<'_>, number: u64) {
    loop {
        match reader.next_event() {
            Ok(Some((_, event))) => {
                assert_eq!(event.words, [number; EVENT_WORDS]);
                return;
            }
            _ => spin_loop_hint(),
        }
    }
}

fn events(count: u64) -> Run {
    let (there, back) = shared_words().split_at(SIDE_WORDS);
    let (there, back) = (ring(there), ring(back));
    let ask = |trips| {
        let (mut writer, mut reader) = (there.writer(), back.reader_from(1));
        timed(trips, |number| {
            send(&mut writer, number);
            receive(&mut reader, number);
        })
    };
    let answer = |trips| {
        let (mut writer, mut reader) = (back.writer(), there.reader_from(1));
        for number in 1..=trips {
            receive(&mut reader, number);
            send(&mut writer, number);
        }
    };
    two_processes(count, ask, answer)
}

pub fn between_processes(options: &Options) {
    let trips = options.scaled(5_000);
    let contestants = vec![
        Contestant::ours("broadcast, one event", || apart(|| events(trips))),
        #[cfg(feature = "iceoryx2")]
        Contestant::peer("iceoryx2, one event", || apart(|| super::iceoryx::round_trips(trips))),
        Contestant::peer("bare hand-over of a word", || apart(|| bare(trips))),
    ];
    let title = "one-way latency between two processes";
    contest_of(6 * options.rounds(), options, title, 2 * trips, contestants);
}
