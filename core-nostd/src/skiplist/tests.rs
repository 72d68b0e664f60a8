//! The list against a plain model, and with readers that run while it is written.

use super::node::{LANE_SLOTS, Lane, Leaf, NONE};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec::Vec;

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// A stable sort is what the list should look like.
#[derive(Default)]
struct Model(Vec<(i64, u64)>);

impl Model {
    fn insert(&mut self, key: i64, value: u64) {
        let at = self.0.partition_point(|entry| entry.0 <= key);
        self.0.insert(at, (key, value));
    }
}

/// Walks every node and checks what the module's documentation says of them.
fn check_structure(words: &[AtomicU64]) {
    let header = Header::of(words).unwrap();
    let (lanes, top) = header.top();
    let mut lane_nodes = std::vec![(top, 0u64, u64::MAX)];
    for _ in 0..lanes {
        let mut below = Vec::new();
        for (at, (line, low, high)) in lane_nodes.iter().enumerate() {
            let lane = Lane::at(words, *line).unwrap();
            let order = lane.order();
            assert!((1..=LANE_SLOTS).contains(&order.count()));
            let following = lane_nodes.get(at + 1).map_or(NONE, |node| node.0);
            assert_eq!(lane.next(), following, "lane nodes are linked in order");
            for rank in 0..order.count() {
                let key = lane.key(order.slot(rank));
                assert!((*low..=*high).contains(&key));
                let end =
                    if rank + 1 < order.count() { lane.key(order.slot(rank + 1)) } else { *high };
                below.push((lane.below(order.slot(rank)), key, end));
            }
            assert_eq!(lane.key(order.slot(0)), *low);
        }
        lane_nodes = below;
    }
    let (mut previous, mut entries) = (NONE, 0);
    for (at, (line, low, high)) in lane_nodes.iter().enumerate() {
        let leaf = Leaf::at(words, *line).unwrap();
        let state = leaf.state();
        let following = lane_nodes.get(at + 1).map_or(NONE, |node| node.0);
        assert_eq!((state.next(), leaf.previous()), (following, previous));
        for rank in 0..state.order().count() {
            assert!((*low..=*high).contains(&leaf.key(state.order().slot(rank))));
        }
        (previous, entries) = (*line, entries + state.order().count() as u64);
    }
    assert_eq!(entries, header.len.load(Relaxed));
}

fn check_against_model(list: SkipListReader<'_, i64>, model: &Model, probes: &[i64]) {
    assert_eq!(list.iter().collect::<Vec<_>>(), model.0);
    assert_eq!(list.len(), model.0.len() as u64);
    assert_eq!((list.first(), list.last()), (model.0.first().copied(), model.0.last().copied()));
    for probe in probes.iter().copied().chain([i64::MIN, 0, i64::MAX]) {
        let lower = model.0.partition_point(|entry| entry.0 < probe);
        let upper = model.0.partition_point(|entry| entry.0 <= probe);
        assert_eq!(list.lower_bound(probe).collect::<Vec<_>>(), model.0[lower..]);
        assert_eq!(list.upper_bound(probe).collect::<Vec<_>>(), model.0[upper..]);
        assert_eq!(list.floor(probe), model.0[..upper].last().copied());
        let first = model.0.get(lower).filter(|entry| entry.0 == probe);
        assert_eq!(list.get(probe), first.map(|entry| entry.1));
    }
}

/// Sequences as they come: in order, nearly in order, backwards, few distinct keys, anything.
fn keys() -> impl Strategy<Value = Vec<i64>> {
    let length = 0usize..700;
    prop_oneof![
        length.clone().prop_map(|n| (0..n as i64).collect()),
        length.clone().prop_map(|n| (0..n as i64).rev().collect()),
        proptest::collection::vec(0i64..30, length.clone()).prop_map(|late| late
            .iter()
            .zip(0..)
            .map(|(late, at)| at - late)
            .collect()),
        proptest::collection::vec(-4i64..4, length.clone()),
        proptest::collection::vec(-300i64..300, length.clone()),
        proptest::collection::vec(any::<i64>(), length),
    ]
}

proptest! {
    #[test]
    fn behaves_as_a_stable_sort(first in keys(), second in keys(), probes in keys()) {
        let memory = memory(words_for(first.len().max(second.len())));
        let mut list = SkipList::<i64>::create(&memory).unwrap();
        for keys in [first, second] {
            list.clear();
            let mut model = Model::default();
            for (key, value) in keys.iter().zip(0..) {
                list.insert(*key, value).unwrap();
                model.insert(*key, value);
            }
            check_structure(&memory);
            check_against_model(list.reader(), &model, &probes[..probes.len().min(40)]);
        }
    }

    #[test]
    fn unsigned_keys_order_as_a_btreemap(keys in proptest::collection::vec(any::<u64>(), 0..500)) {
        let memory = memory(words_for(keys.len()));
        let mut list = SkipList::<u64>::create(&memory).unwrap();
        let mut model = BTreeMap::new();
        for key in keys {
            list.insert(key, !key).unwrap();
            model.insert(key, !key);
        }
        prop_assert!(list.reader().iter().eq(model.into_iter()));
    }

    #[test]
    fn sized_memory_suffices_and_full_changes_nothing(keys in keys(), words in 0usize..4_000) {
        let memory = memory(words);
        let Ok(mut list) = SkipList::<i64>::create(&memory) else {
            prop_assert!(words < words_for_sorted(1));
            return Ok(());
        };
        let mut model = Model::default();
        for (key, value) in keys.iter().zip(0..) {
            match list.insert(*key, value) {
                Ok(()) => model.insert(*key, value),
                Err(full) => {
                    prop_assert!(words_for(model.0.len() + 1) > words, "full too early");
                    prop_assert_eq!(full.entries, model.0.len() as u64);
                }
            }
        }
        check_structure(&memory);
        check_against_model(list.reader(), &model, &[]);
    }

    #[test]
    fn readers_of_corrupt_memory_end(noise in proptest::collection::vec(any::<u64>(), 64..200)) {
        // Links to small lines, so that they hit something.
        let words: Vec<AtomicU64> =
            noise.iter().map(|word| AtomicU64::new(word & 0x1F_FFFF_FFFF)).collect();
        words[0].store(MAGIC, Relaxed);
        words[1].store(0, Relaxed);
        words[3].store((noise.len() as u64 / 8) << 32, Relaxed);
        let list = SkipListReader::<i64>::attach(&words).unwrap();
        for probe in [i64::MIN, -1, 0, i64::MAX] {
            let _ = (list.get(probe), list.floor(probe), list.first(), list.last());
        }
    }
}

#[test]
fn words_for_is_enough_in_any_order() {
    let count = 30_000u64;
    let scrambled = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let orders: [&dyn Fn(u64) -> u64; 5] =
        [&|i| i, &|i| count - i, &scrambled, &|i| i / 2 + (i % 2) * count, &|i| i % 16];
    for order in orders {
        let memory = memory(words_for(count as usize));
        let mut list = SkipList::<u64>::create(&memory).unwrap();
        (0..count).for_each(|i| list.insert(order(i), i).unwrap());
        check_structure(&memory);
        assert!(list.reader().iter().is_sorted());
    }
    let memory = memory(words_for_sorted(count as usize));
    let mut list = SkipList::<u64>::create(&memory).unwrap();
    (0..count).for_each(|i| list.insert(i / 3, i).unwrap());
}

#[test]
fn what_is_sized_for_few_entries_holds_them() {
    for entries in 0..40 {
        for words in [words_for(entries), words_for_sorted(entries)] {
            let memory = memory(words);
            let mut list = SkipList::<u64>::create(&memory).unwrap();
            (0..entries as u64).for_each(|key| list.insert(key, 0).unwrap());
        }
    }
}

#[test]
fn strangers_are_refused() {
    let words = memory(200);
    assert_eq!(
        SkipListReader::<i64>::attach(&words).unwrap_err(),
        AttachError::NotASkipList { found: 0 }
    );
    SkipList::<i64>::create(&words).unwrap();
    assert!(SkipListReader::<i64>::attach(&words).is_ok());
    assert_eq!(
        SkipListReader::<i64>::attach(&words[..160]).unwrap_err(),
        AttachError::TooSmall { found: 160, expected: 200 }
    );
}

#[test]
fn iteration_ends_when_the_list_is_cleared() {
    let memory = memory(words_for(100));
    let mut list = SkipList::<i64>::create(&memory).unwrap();
    (0..100).for_each(|key| list.insert(key, 0).unwrap());
    let mut iter = list.reader().iter();
    assert_eq!(iter.next(), Some((0, 0)));
    list.clear();
    (500..600).for_each(|key| list.insert(key, 0).unwrap());
    assert!(iter.by_ref().all(|(key, _)| key < 100), "no entry of the new generation");
    assert!(iter.cleared());
    assert_eq!(list.reader().iter().count(), 100);
}

/// Readers check all that is promised to them while the writer inserts: every entry that was
/// there when they began, once and in order, and none that was not inserted.
#[test]
fn readers_see_a_list_at_all_times() {
    let count: u64 = 60_000;
    let memory = memory(words_for(count as usize));
    let mut list = SkipList::<u64>::create(&memory).unwrap();
    let (reader, done) = (list.reader(), AtomicBool::new(false));
    // Even keys first, so that a search always has something certain to find.
    (0..count / 4).for_each(|i| list.insert(i * 8, i * 8 + 1).unwrap());
    std::thread::scope(|scope| {
        for seed in 0..3u64 {
            let done = &done;
            scope.spawn(move || {
                let mut state = seed;
                while !done.load(Ordering::Acquire) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let probe = (state >> 33) % (count / 4) * 8;
                    assert_eq!(reader.get(probe), Some(probe + 1));
                    assert_eq!(reader.floor(probe), Some((probe, probe + 1)));
                    let (mut expected, mut before) = (probe, 0);
                    for (key, value) in reader.lower_bound(probe).take(300) {
                        assert!(value == key + 1 && key >= before && key >= probe);
                        if key % 8 == 0 {
                            assert_eq!(key, expected, "an old entry is missing or doubled");
                            expected += 8;
                        }
                        before = key;
                    }
                }
            });
        }
        for i in 0..count / 4 * 3 {
            let scattered = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            let key = scattered % (count / 4) * 8 + 1 + i % 7;
            list.insert(key, key + 1).unwrap();
        }
        done.store(true, Ordering::Release);
    });
    check_structure(&memory);
}

#[test]
fn readers_see_one_generation_while_the_list_is_cleared() {
    let count = 300u64;
    let memory = memory(words_for(count as usize));
    let mut list = SkipList::<u64>::create(&memory).unwrap();
    let (reader, done) = (list.reader(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let mut of_generation = None;
                    for (key, value) in reader.iter() {
                        assert_eq!(*of_generation.get_or_insert(value), value);
                        assert!(key < count);
                    }
                    if let Some((_, value)) = reader.floor(count) {
                        assert!(value < 400);
                    }
                }
            });
        }
        for generation in 0..400 {
            list.clear();
            (0..count).for_each(|i| list.insert(i * 7 % count, generation).unwrap());
        }
        done.store(true, Ordering::Release);
    });
}
