//! A segment whose writer is broken or hostile: attaching fails with a reason, or everything can
//! be read and every loop ends.
//!
//! The input is read as a recipe: a sound segment, cut, of which some words are overwritten.
#![no_main]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use wiretape_core::event::{AuctionMsg, BreakMsg, Event, GapMsg, SessionMsg, StatusMsg, SymbolMsg};
use wiretape_core::segment::{
    Counter, ErrorGroup, FeedCounter, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter,
};

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<u64> =
        bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let arbitrary: Vec<AtomicU64> = words.iter().copied().map(AtomicU64::new).collect();
    read_all(&arbitrary);

    let [shape, patches @ ..] = &words[..] else { return };
    let spec = SegmentSpec {
        worker: "fuzz",
        epoch: 1,
        pid: 1,
        event_slots: 64,
        instruments: 1 + (shape % 5) as usize,
        feeds: 1 + (shape >> 8) as usize % 3,
        depths: 0,
    };
    let total = SegmentLayout::new(&spec).unwrap().total_words;
    let words: Vec<AtomicU64> = (0..total).map(|_| AtomicU64::new(0)).collect();
    let segment = SegmentWriter::create(&words, &spec).unwrap();
    segment.start();
    let mut events = segment.events();
    for number in 0..shape >> 16 & 127 {
        events.publish(&Event { words: [number; 7] });
    }
    events.commit();
    for patch in patches.chunks_exact(2) {
        // Most of what matters stands in the header.
        let span = if patch[0] & 1 == 0 { total.min(128) } else { total };
        words[(patch[0] >> 1) as usize % span].store(patch[1], Relaxed);
    }
    read_all(&words[..total - (shape >> 32) as usize % 4]);
});

fn read_all(words: &[AtomicU64]) {
    let Ok(view) = SegmentView::attach(words) else { return };
    let header = view.header();
    let _ = (header.epoch(), header.pid(), header.state(), header.heartbeat_ns());
    let _ = (header.worker(), header.source(), header.wake_word());
    for counter in Counter::ALL {
        let _ = view.counters().get(*counter);
    }
    for instrument in 0..view.market().len() as u32 {
        let _ = view.market().read(instrument);
    }
    assert!(view.symbols().iter().count() <= view.symbols().len());
    let _ = view.symbols().find("ZVZZT");
    for feed in view.feeds() {
        let (_, _) = (feed.identity(), feed.session());
        let _ = FeedCounter::ALL.iter().map(|counter| feed.counter(*counter)).max();
        let _ = feed.errors(ErrorGroup::Packet, 1).wrapping_add(feed.messages_of_type(b'A'));
    }
    if let Some(latency) = view.latency() {
        assert!(latency.p50() <= latency.p9999());
        let _ = (latency.mean(), latency.min(), latency.buckets().count());
    }
    let mut reader = view.events().reader_from_oldest();
    let mut batch = [Event::default(); 5];
    // As many steps as events could lie in it; losses are steps, too.
    for step in 0..64 {
        let before = reader.position();
        if step % 2 == 0 {
            if let Ok(Some((sequence, event))) = reader.next_event() {
                assert_eq!(sequence, before);
                look_at(&event);
            }
        } else if let Ok(count) = reader.read_batch(&mut batch) {
            assert_eq!(reader.position(), before.wrapping_add(count as u64));
            batch[..count].iter().for_each(look_at);
        }
    }
}

fn look_at(event: &Event) {
    assert!(event.record_bytes().len() <= 56);
    let _ = (event.header(), event.ts_recv(), event.mbo(), event.without_receive_time());
    let _ = (event.get::<StatusMsg>(), event.get::<SymbolMsg>(), event.get::<GapMsg>());
    let _ = (event.get::<SessionMsg>(), event.get::<BreakMsg>(), event.get::<AuctionMsg>());
}
