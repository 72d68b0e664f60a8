//! Every interleaving, up to a bound on preemptions, of the node pool's real code. How to run it
//! and what loom cannot show: see `loom_rings.rs`.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use wiretape_core::node_pool::{NodePool, NodePoolError, words_needed};

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

fn pool(nodes: u32) -> NodePool<'static> {
    let words = (0..words_needed(nodes)).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    NodePool::create(Vec::leak(words), nodes).unwrap()
}

/// Memory that the nodes stand for. loom panics when two threads use a cell without one use
/// happening before the other: that is the proof that nodes are handed on properly.
fn cells(nodes: u32) -> &'static [Cell] {
    Vec::leak((0..nodes).map(|_| Cell(UnsafeCell::new(0))).collect())
}

struct Cell(UnsafeCell<u64>);

// SAFETY: loom checks every access at run time.
unsafe impl Sync for Cell {}

fn use_node(cells: &[Cell], node: u32, value: u64) {
    // SAFETY: the node was given to this thread alone, which is what loom verifies.
    cells[node as usize].0.with_mut(|place| unsafe { *place = value });
}

#[test]
fn who_attaches_beside_the_creation_sees_a_whole_pool_or_none() {
    explore(2, || {
        let words = (0..words_needed(2)).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let words: &'static [AtomicU64] = Vec::leak(words);
        let creating = thread::spawn(move || drop(NodePool::create(words, 2).unwrap()));
        match NodePool::attach(words) {
            Ok(pool) => assert_eq!([(); 3].map(|()| pool.allocate()), [Some(0), Some(1), None]),
            Err(NodePoolError::Magic { found: 0 }) => {}
            Err(half) => panic!("half a header: {half}"),
        }
        creating.join().unwrap();
    });
}

/// The ABA case: one thread is between reading the head and swapping it, while the other takes
/// two nodes and gives the first back.
#[test]
fn a_node_put_back_meanwhile_does_not_fool_an_allocation() {
    explore(4, || {
        let (pool, cells) = (pool(3), cells(3));
        let other = thread::spawn(move || {
            let first = pool.allocate().unwrap();
            use_node(cells, first, 1);
            let second = pool.allocate();
            pool.free(first).unwrap();
            if let Some(second) = second {
                use_node(cells, second, 2);
            }
            second
        });
        let mine = pool.allocate().unwrap();
        use_node(cells, mine, 3);
        let mut held: Vec<u32> = other.join().unwrap().into_iter().chain([mine]).collect();
        held.extend(std::iter::from_fn(|| pool.allocate()));
        held.sort_unstable();
        assert_eq!(held, [0, 1, 2]);
    });
}

#[test]
fn nodes_go_from_thread_to_thread_one_owner_at_a_time() {
    explore(3, || {
        let (pool, cells) = (pool(2), cells(2));
        let work = move |thread: u64| {
            for round in 0..2 {
                if let Some(node) = pool.allocate() {
                    use_node(cells, node, thread + round);
                    pool.free(node).unwrap();
                }
            }
        };
        let other = thread::spawn(move || work(10));
        work(20);
        other.join().unwrap();
        let usage = pool.usage();
        assert_eq!((usage.in_use, usage.failed), (0, 0));
        assert!((1..=2).contains(&usage.peak), "{usage:?}");
    });
}

#[test]
fn usage_is_never_that_of_no_moment() {
    explore(3, || {
        let pool = pool(3);
        pool.allocate().unwrap();
        // The one that looks is the second to run: loom then shows it every store of the first.
        let looking = thread::spawn(move || {
            let in_use = pool.usage().in_use;
            assert!((1..=2).contains(&in_use), "{in_use}");
        });
        let node = pool.allocate().unwrap();
        pool.free(node).unwrap();
        looking.join().unwrap();
    });
}

#[test]
fn a_chain_taken_at_once_is_whole() {
    explore(3, || {
        let (pool, cells) = (pool(3), cells(3));
        let other = thread::spawn(move || {
            let node = pool.allocate();
            if let Some(node) = node {
                use_node(cells, node, 1);
                pool.free(node).unwrap();
            }
        });
        let mut cache = pool.cache();
        // Takes all that are free at once, and hands them back at once when it is dropped.
        let held: Vec<u32> = std::iter::from_fn(|| cache.allocate()).collect();
        for node in &held {
            use_node(cells, *node, 2);
        }
        for node in held {
            cache.free(node).unwrap();
        }
        drop(cache);
        other.join().unwrap();
        assert_eq!(pool.usage().in_use, 0);
        assert_eq!(std::iter::from_fn(|| pool.allocate()).count(), 3);
    });
}
