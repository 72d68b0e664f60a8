//! Model-checks the skip list: `RUSTFLAGS="--cfg loom" cargo test -p wiretape-core --release
//! --test loom_skiplist`.
//!
//! The code is the library's own, with nodes of three slots instead of seven and fifteen, so that
//! a split is a few steps. Loom tries the interleavings with up to `LOOM_MAX_PREEMPTIONS` (2 here,
//! unless the environment says otherwise) and every value that a relaxed load may return; it
//! does not reorder a load before an earlier one (load buffering).
#![cfg(loom)]

use loom::thread;
use wiretape_core::skiplist::{self, AttachError, Iter, SkipList, SkipListReader};
use wiretape_core::sync::AtomicU64;

/// Runs `write` on a list that holds `before`, with `read` beside it.
fn check(
    before: &'static [u64],
    write: impl Fn(&mut SkipList<'_, u64>) + Copy + Send + Sync + 'static,
    read: impl Fn(SkipListReader<'static, u64>) + Copy + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(2);
    model.max_branches = 20_000;
    model.check(move || {
        let words: Vec<AtomicU64> =
            (0..skiplist::words_for(before.len() + 4)).map(|_| AtomicU64::new(0)).collect();
        // Threads of loom want 'static; the memory of a model is small and given up.
        let words: &'static [AtomicU64] = Box::leak(words.into_boxed_slice());
        let mut list = SkipList::<u64>::create(words).unwrap();
        before.iter().for_each(|key| list.insert(*key, key + 1).unwrap());
        let reader = list.reader();
        let thread = thread::spawn(move || read(reader));
        write(&mut list);
        thread.join().unwrap();
    });
}

/// Old entries once and in order, each with its value, perhaps with new ones between them.
fn check_iteration(list: SkipListReader<'_, u64>, old: &[u64]) {
    let mut expected = old.iter();
    let mut last = 0;
    for (key, value) in list.iter() {
        assert!(key > last && value == key + 1, "{key} {value} after {last}");
        if key % 10 == 0 {
            assert_eq!(Some(&key), expected.next());
        }
        last = key;
    }
    assert_eq!(expected.next(), None);
}

#[test]
fn a_reader_that_attaches_beside_the_creation_sees_a_whole_list_or_none() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        // What was there before makes no sense: nobody may take it for a part of the header.
        let words = (0..skiplist::words_for(1)).map(|_| AtomicU64::new(u64::MAX));
        let words: &'static [AtomicU64] = Vec::leak(words.collect());
        let creating = thread::spawn(move || drop(SkipList::<u64>::create(words).unwrap()));
        match SkipListReader::<u64>::attach(words) {
            Ok(list) => assert_eq!((list.len(), list.iter().next(), list.get(1)), (0, None, None)),
            Err(AttachError::NotASkipList { found: u64::MAX }) => {}
            Err(half) => panic!("half a header: {half}"),
        }
        creating.join().unwrap();
    });
}

#[test]
fn an_iteration_beside_inserts_into_a_leaf() {
    check(&[10, 20], |list| list.insert(15, 16).unwrap(), |list| check_iteration(list, &[10, 20]));
}

#[test]
fn an_iteration_beside_a_split_and_the_reuse_of_its_slots() {
    check(
        &[10, 20, 30],
        |list| {
            list.insert(15, 16).unwrap();
            list.insert(12, 13).unwrap();
        },
        |list| check_iteration(list, &[10, 20, 30]),
    );
}

#[test]
fn an_iteration_beside_appends() {
    check(
        &[10, 20, 30],
        |list| {
            list.insert(31, 32).unwrap();
            list.insert(33, 34).unwrap();
        },
        |list| check_iteration(list, &[10, 20, 30]),
    );
}

#[test]
fn a_search_beside_the_split_of_a_leaf() {
    check(
        &[10, 20, 30],
        |list| {
            list.insert(15, 16).unwrap();
            list.insert(12, 13).unwrap();
        },
        |list| {
            assert_eq!(list.get(30), Some(31));
            assert!(matches!(list.floor(29), Some((20, 21))));
        },
    );
}

#[test]
fn a_search_beside_the_split_of_a_lane() {
    // Three leaves fill the lane; the fourth splits it. It takes the slot of the second leaf, and
    // 30 is in it.
    check(
        &[10, 20, 30, 40, 50, 60, 70, 80, 90],
        |list| list.insert(15, 16).unwrap(),
        |list| assert_eq!(list.get(30), Some(31)),
    );
}

#[test]
fn a_search_beside_a_clear() {
    check(
        &[10, 20, 30],
        |list| {
            list.clear();
            list.insert(20, 99).unwrap();
        },
        |list| {
            let found = list.get(20);
            assert!(matches!(found, Some(21) | None | Some(99)), "{found:?}");
        },
    );
}

/// An iteration that `begin` begins comes through what the list held from there on, or through the
/// list after the clear, or says that it was cleared.
fn check_beside_a_clear(
    old: &'static [u64],
    begin: impl Fn(SkipListReader<'static, u64>) -> Iter<'static, u64> + Copy + Send + Sync + 'static,
) {
    check(
        &[10, 20, 30],
        |list| {
            list.clear();
            list.insert(40, 41).unwrap();
        },
        move |list| {
            let mut iter = begin(list);
            assert!(!iter.cleared(), "a search that meets a clear starts over");
            let seen: Vec<u64> = iter.by_ref().map(|(key, _)| key).collect();
            let possible: [&[u64]; 3] = [old, &[], &[40]];
            assert!(possible.contains(&&seen[..]) || iter.cleared(), "{seen:?}");
        },
    );
}

#[test]
fn an_iteration_beside_a_clear() {
    check_beside_a_clear(&[10, 20, 30], |list| list.iter());
}

#[test]
fn an_iteration_that_begins_with_a_search_beside_a_clear() {
    check_beside_a_clear(&[20, 30], |list| list.lower_bound(20));
}
