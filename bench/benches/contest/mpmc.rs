//! Many producers, many consumers; on two cores, one of each.

use std::hint::spin_loop;

use crossbeam_queue::ArrayQueue;
use wiretape_core::ring::mpmc::{Cursors, Ring};
use wiretape_core::ring::slot::StampedSlot;

use super::contest::{Contestant, Options, Run, contest_of, two_cores};

const SLOTS: usize = 1024;

fn move_all(
    count: u64,
    push: impl Fn(u64) -> bool + Sync,
    pop: impl Fn() -> Option<u64> + Sync,
) -> Run {
    let write = || {
        for number in 0..count {
            while !push(number) {
                spin_loop();
            }
        }
    };
    let read = || {
        let (mut check, mut left) = (0_u64, count);
        while left > 0 {
            match pop() {
                Some(number) => {
                    check = check.wrapping_mul(31).wrapping_add(number);
                    left -= 1;
                }
                None => spin_loop(),
            }
        }
        check
    };
    two_cores(write, read)
}

pub fn one_to_one(options: &Options) {
    let count = options.scaled(200_000);
    let mut cursors = Cursors::new();
    let mut slots: Vec<StampedSlot<u64>> = (0..SLOTS).map(|_| StampedSlot::new()).collect();
    let contestants = vec![
        Contestant::ours("mpmc", || {
            let ring = Ring::new(&mut cursors, &mut slots).expect("1024 is a power of two");
            move_all(count, |number| ring.push(number).is_ok(), || ring.pop())
        }),
        Contestant::peer("crossbeam ArrayQueue", || {
            let queue = ArrayQueue::new(SLOTS);
            move_all(count, |number| queue.push(number).is_ok(), || queue.pop())
        }),
    ];
    let title = "MPMC, 8-byte items, one producer and one consumer";
    contest_of(6 * options.rounds(), options, title, count, contestants);
}
