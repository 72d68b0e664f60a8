//! Interleavings of what a segment's readers go by: its state, that of a feed's block, the counts of a
//! histogram. The real code; how to run it and what loom cannot show: see `loom_rings.rs`.
#![cfg(loom)]

use std::sync::Arc;

use loom::thread;
use wiretape_core::event::Event;
use wiretape_core::histogram::{Histogram, HistogramSnapshot};
use wiretape_core::segment::{
    AttachError, FeedCounter, FeedIdentity, FeedState, SegmentLayout, SegmentSpec, SegmentView,
    SegmentWriter, State,
};
use wiretape_core::sync::AtomicU64;

const SPEC: SegmentSpec<'_> = SegmentSpec {
    worker: "model",
    epoch: 7,
    pid: 8,
    event_slots: 16,
    instruments: 0,
    feeds: 1,
    depths: 0,
};

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

fn words(count: usize) -> Arc<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// Makes a segment and goes on to `write`, with `read` beside it if there is a segment by then.
fn beside(
    preemptions: usize,
    write: impl Fn(SegmentWriter<'_>) + Copy + Send + Sync + 'static,
    read: impl Fn(SegmentView<'_>) + Copy + Send + Sync + 'static,
) {
    explore(preemptions, move || {
        let words = words(SegmentLayout::new(&SPEC).unwrap().total_words);
        let there = words.clone();
        let reading = thread::spawn(move || match SegmentView::attach(&there) {
            Ok(view) => read(view),
            Err(AttachError::NotReady) => {}
            Err(half) => panic!("half a header: {half}"),
        });
        let writer = SegmentWriter::create(&words, &SPEC).unwrap();
        writer.start();
        write(writer);
        reading.join().unwrap();
    });
}

#[test]
fn who_attaches_beside_the_creation_sees_a_whole_segment_or_none() {
    beside(
        2,
        |_| {},
        |view| {
            assert_eq!((view.header().epoch(), view.header().pid()), (SPEC.epoch, SPEC.pid));
            assert_eq!((view.header().worker().as_str(), view.feed_slots()), ("model", 1));
        },
    );
}

#[test]
fn who_sees_that_the_run_is_over_sees_all_that_it_published() {
    beside(
        2,
        |writer| {
            let mut events = writer.events();
            events.publish(&Event::default());
            events.commit();
            writer.header().set_state(State::Ended);
        },
        |view| {
            if view.header().state() == State::Ended {
                assert_eq!(view.events().head(), 1);
            }
        },
    );
}

#[test]
fn a_feed_that_is_there_has_its_name_and_one_that_was_removed_all_that_it_counted() {
    let identity = || FeedIdentity {
        name: "a feed of some length".try_into().unwrap(),
        port: 9,
        instruments: 10,
        ..FeedIdentity::default()
    };
    beside(
        2,
        move |writer| {
            let feed = writer.feed(0).unwrap();
            feed.set_identity(&identity());
            feed.add(FeedCounter::Packets, 1);
            feed.set_removed();
        },
        move |view| {
            if let Some(feed) = view.feed(0) {
                assert_eq!(feed.identity(), identity());
                if feed.state() == FeedState::Removed {
                    assert_eq!(feed.counter(FeedCounter::Packets), 1);
                }
            }
        },
    );
}

#[test]
fn sum_and_extremes_of_a_snapshot_cover_every_value_that_it_counted() {
    explore(2, || {
        let words = words(Histogram::WORDS);
        let there = words.clone();
        // The one that looks is the second to run: loom then shows it every store of the first.
        let looking = thread::spawn(move || {
            let seen = HistogramSnapshot::take(&there).unwrap();
            let counted: Vec<u64> = seen.buckets().map(|(value, _)| value).collect();
            assert!(seen.sum() >= counted.iter().sum(), "{counted:?} in {}", seen.sum());
            for value in counted {
                assert!(seen.min() <= Some(value) && seen.max() >= value, "{value}: {seen:?}");
            }
        });
        let mut histogram = Histogram::attach(&words).unwrap();
        histogram.record(5);
        histogram.record(3);
        looking.join().unwrap();
    });
}
