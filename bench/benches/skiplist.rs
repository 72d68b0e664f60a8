//! The skip list beside `crossbeam-skiplist` and `BTreeMap`: inserts in order, nearly in order and
//! at random, lookups, as-of lookups and scans.
//!
//! Keys are distinct `i64`, values `u64`. Ours writes to memory claimed before the clock starts
//! (and cleared between rounds), the others allocate as they go; their being dropped is not
//! timed. One thread throughout: `BTreeMap` allows no reader beside the writer, ours and
//! crossbeam's do.

#[path = "contest/mod.rs"]
mod contest;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use clap::Parser;
use contest::{Contestant, Options, Run, contest};
use crossbeam_skiplist::SkipMap;
use wiretape_core::skiplist::{SkipList, SkipListReader, words_for};

/// Entries of a list, as of a day's blocks or an hour's late ticks.
const ENTRIES: u64 = 500_000;

fn main() {
    let options = Options::parse();
    contest::pin(0);
    let count = options.scaled(ENTRIES) as i64;
    let in_order: Vec<i64> = (0..count).map(|at| at * 16).collect();
    let near: Vec<i64> =
        in_order.iter().map(|key| key - scramble(*key) % 256 / 16 * 16 + 1 + key % 15).collect();
    let random = shuffled(&in_order);
    insert(&options, "skip list, insert in order", &in_order);
    insert(&options, "skip list, insert nearly in order (up to 16 late)", &near);
    insert(&options, "skip list, insert at random", &random);
    look(&options, "built in order", &in_order);
    look(&options, "built at random", &random);
}

fn scramble(key: i64) -> i64 {
    ((key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as i64
}

fn shuffled(keys: &[i64]) -> Vec<i64> {
    let mut keys = keys.to_vec();
    for at in (1..keys.len()).rev() {
        keys.swap(at, scramble(at as i64) as usize % (at + 1));
    }
    keys
}

fn memory(count: usize) -> Vec<AtomicU64> {
    // Aligned to a cache line by the allocator for sizes like these (it maps pages).
    (0..words_for(count)).map(|_| AtomicU64::new(0)).collect()
}

fn timed(work: impl FnOnce() -> u64) -> Run {
    let start = Instant::now();
    let check = black_box(work());
    Run { took: start.elapsed(), check }
}

fn insert(options: &Options, title: &str, keys: &[i64]) {
    if !options.wants(title) {
        return;
    }
    let words = memory(keys.len());
    let mut list = SkipList::<i64>::create(&words).expect("sized for it");
    let ours = || {
        list.clear();
        timed(|| {
            for key in keys {
                list.insert(*key, *key as u64).expect("sized for it");
            }
            list.len()
        })
    };
    let crossbeam = || {
        let map = SkipMap::new();
        timed(|| {
            for key in keys {
                map.insert(*key, *key as u64);
            }
            keys.len() as u64
        })
    };
    let btree = || {
        let mut map = BTreeMap::new();
        timed(|| {
            for key in keys {
                map.insert(*key, *key as u64);
            }
            keys.len() as u64
        })
    };
    contest(
        options,
        title,
        keys.len() as u64,
        vec![
            Contestant::ours("SkipList", ours),
            Contestant::peer("crossbeam_skiplist::SkipMap", crossbeam),
            Contestant::peer("BTreeMap", btree),
        ],
    );
}

fn look(options: &Options, built: &str, keys: &[i64]) {
    let words = memory(keys.len());
    let mut list = SkipList::<i64>::create(&words).expect("sized for it");
    let (skipmap, mut btree) = (SkipMap::new(), BTreeMap::new());
    for key in keys {
        list.insert(*key, *key as u64).expect("sized for it");
        skipmap.insert(*key, *key as u64);
        btree.insert(*key, *key as u64);
    }
    let list: SkipListReader<'_, i64> = list.reader();
    let probes = shuffled(&shuffled(keys));
    let sum_of = |find: &dyn Fn(i64) -> u64| {
        timed(|| probes.iter().fold(0, |sum: u64, key| sum.wrapping_add(find(*key))))
    };
    let count = keys.len() as u64;
    contest(
        options,
        &format!("skip list, lookup of keys that are there, {built}"),
        count,
        vec![
            Contestant::ours("SkipList", || sum_of(&|key| list.get(key).unwrap_or(0))),
            Contestant::peer("crossbeam_skiplist::SkipMap", || {
                sum_of(&|key| skipmap.get(&key).map_or(0, |entry| *entry.value()))
            }),
            Contestant::peer("BTreeMap", || {
                sum_of(&|key| btree.get(&key).map_or(0, |value| *value))
            }),
        ],
    );
    let before = |key: i64| key + 7;
    contest(
        options,
        &format!("skip list, last entry not after a key, {built}"),
        count,
        vec![
            Contestant::ours("SkipList", || {
                sum_of(&|key| list.floor(before(key)).map_or(0, |entry| entry.1))
            }),
            Contestant::peer("crossbeam_skiplist::SkipMap", || {
                sum_of(&|key| {
                    let bound = std::ops::Bound::Included(&before(key));
                    skipmap.upper_bound(bound).map_or(0, |entry| *entry.value())
                })
            }),
            Contestant::peer("BTreeMap", || {
                sum_of(&|key| btree.range(..=before(key)).next_back().map_or(0, |entry| *entry.1))
            }),
        ],
    );
    let add = |sum: u64, value: u64| sum.wrapping_add(value);
    contest(
        options,
        &format!("skip list, scan, {built}"),
        count,
        vec![
            Contestant::ours("SkipList", || {
                timed(|| list.iter().map(|entry| entry.1).fold(0, add))
            }),
            Contestant::peer("crossbeam_skiplist::SkipMap", || {
                timed(|| skipmap.iter().map(|entry| *entry.value()).fold(0, add))
            }),
            Contestant::peer("BTreeMap", || timed(|| btree.values().copied().fold(0, add))),
        ],
    );
}
