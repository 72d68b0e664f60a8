//! Interleavings of the sequence lock of the market table and the depth rows: the real code. How to run it
//! and what loom cannot show: see `loom_rings.rs`.
#![cfg(loom)]

use loom::sync::atomic::AtomicU64;
use loom::thread;
use wiretape_core::segment::Cell;

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn cell() -> Cell<'static, 3> {
    let words = Vec::leak((0..4).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
    Cell::new(words).expect("a version and three values")
}

/// Reads twice: whole values, and never older ones after newer ones.
fn read(cell: Cell<'static, 3>) {
    let mut latest = 0;
    for _ in 0..2 {
        if let Some(values) = cell.read().expect("the writer is alive") {
            assert!(values == [values[0]; 3], "{values:?} was put together from two");
            assert!((latest.max(1)..=2).contains(&values[0]), "{values:?} after {latest}");
            latest = values[0];
        }
    }
}

#[test]
fn a_reader_sees_values_of_one_write() {
    explore(3, || {
        let cell = cell();
        let writing = thread::spawn(move || (1..=2).for_each(|n| cell.write(&[n; 3])));
        read(cell);
        writing.join().unwrap();
    });
}

#[test]
fn what_is_changed_in_parts_is_seen_whole() {
    explore(3, || {
        let cell = cell();
        cell.write(&[1; 3]);
        let writing = thread::spawn(move || {
            cell.update(|words| {
                words.iter().for_each(|word| word.store(2, loom::sync::atomic::Ordering::Relaxed));
            });
        });
        read(cell);
        writing.join().unwrap();
    });
}
