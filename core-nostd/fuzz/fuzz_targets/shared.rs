//! Rings, node pool, skip list, histogram and frames for recorders in shared words that another
//! process has spoilt: attaching fails with a reason, or every call ends, with whatever values.
//!
//! The input is read as a recipe: a sound structure with something in it, some of its words
//! overwritten.
#![no_main]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use wiretape_core::frames::{Frame, FramesReader, FramesSpec, FramesWriter, PACKET_MAX};
use wiretape_core::histogram::{Histogram, HistogramSnapshot};
use wiretape_core::node_pool::{self, NodePool};
use wiretape_core::ring::mpmc::{self, WordRing};
use wiretape_core::ring::spsc::{self, WordConsumer, WordProducer};
use wiretape_core::segment::QueueIdentity;
use wiretape_core::skiplist::{self, SkipList, SkipListReader};

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<u64> =
        bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let [what, patches @ ..] = &words[..] else { return };
    match what % 6 {
        0 => spsc_ring(patches),
        1 => mpmc_ring(patches),
        2 => node_pool(patches),
        3 => skip_list(patches),
        4 => frames(patches),
        _ => histogram(patches),
    }
});

fn zeroed(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// Pairs of place and value; an odd place adds the value to what is there.
fn spoil(words: &[AtomicU64], patches: &[u64]) {
    for patch in patches.chunks_exact(2) {
        let word = &words[(patch[0] >> 1) as usize % words.len()];
        let value = if patch[0] & 1 == 0 { 0 } else { word.load(Relaxed) };
        word.store(value.wrapping_add(patch[1]), Relaxed);
    }
}

fn spsc_ring(patches: &[u64]) {
    let words = zeroed(spsc::words_needed::<2>(8));
    spsc::create::<2>(&words, 8).unwrap();
    let mut producer = WordProducer::<2>::attach(&words).unwrap();
    (0..5).for_each(|number| producer.push([number, !number]).unwrap());
    spoil(&words, patches);
    let mut items = [[0; 2]; 16];
    if let Ok(mut consumer) = WordConsumer::<2>::attach(&words) {
        assert!(consumer.pop_slice(&mut items) <= 8);
        for _ in 0..20 {
            let _ = consumer.pop();
        }
    }
    if let Ok(mut producer) = WordProducer::<2>::attach(&words) {
        assert!(producer.push_slice(&items) <= 8);
        for _ in 0..20 {
            let _ = producer.push([7; 2]);
        }
    }
}

fn mpmc_ring(patches: &[u64]) {
    let words = zeroed(mpmc::words_needed::<2>(8));
    let ring = WordRing::<2>::create(&words, 8).unwrap();
    (0..5).for_each(|number| ring.push([number, !number]).unwrap());
    spoil(&words, patches);
    let Ok(ring) = WordRing::<2>::attach(&words) else { return };
    for _ in 0..20 {
        let _ = ring.pop();
    }
    for _ in 0..20 {
        let _ = ring.push([7; 2]);
    }
}

fn node_pool(patches: &[u64]) {
    let words = zeroed(node_pool::words_needed(80));
    let pool = NodePool::create(&words, 80).unwrap();
    let held: Vec<_> = (0..40).map(|_| pool.allocate().unwrap()).collect();
    held[..20].iter().for_each(|node| pool.free(*node).unwrap());
    spoil(&words, patches);
    let Ok(pool) = NodePool::attach(&words) else { return };
    let mut cache = pool.cache();
    let nodes: Vec<_> = (0..60).filter_map(|_| pool.allocate()).collect();
    let cached: Vec<_> = (0..60).filter_map(|_| cache.allocate()).collect();
    assert!(nodes.iter().chain(&cached).all(|node| *node < 80));
    for node in nodes {
        let _ = pool.free(node);
    }
    for node in cached {
        let _ = cache.free(node);
    }
    assert!(pool.usage().in_use <= pool.usage().capacity);
}

fn skip_list(patches: &[u64]) {
    const ENTRIES: u64 = 150;
    let words = zeroed(skiplist::words_for(ENTRIES as usize));
    let mut list = SkipList::<u64>::create(&words).unwrap();
    (0..ENTRIES).for_each(|i| list.insert(i * 17 % 64, i).unwrap());
    spoil(&words, patches);
    let Ok(list) = SkipListReader::<u64>::attach(&words) else { return };
    for key in [0, 1, 33, 63, 64, u64::MAX] {
        let _ = (list.get(key), list.floor(key), list.first(), list.last());
        // Links that lead in a circle may not lead a reader on for ever.
        assert!(list.lower_bound(key).count() <= words.len() * 8);
        assert!(list.upper_bound(key).count() <= words.len() * 8);
    }
}

fn frames(patches: &[u64]) {
    let spec = FramesSpec { epoch: 7, queues: 2, frames: 64, frame_size: 2048 };
    let words = zeroed(spec.total_bytes().unwrap() / 8);
    for index in 0..2 {
        let queue = QueueIdentity { interface: "eth1".try_into().unwrap(), queue: index as u32 };
        let mut writer = FramesWriter::create(&words, &spec, index, &queue).unwrap();
        for number in 0..20_u64 {
            let several = [(0, 2), (1, 1), (2, 0)];
            let parts = if number % 3 == 0 { &several[..] } else { &several[2..] };
            for (part, following) in parts {
                let index = if parts.len() == 1 { 0 } else { *part };
                let (address, following) = (number * 2048 + 256, *following);
                writer.publish(Frame { address, len: 900, index, following, ts_recv: number });
            }
        }
        writer.commit();
        writer.recycle_before(5);
    }
    // Headers and rings, not the frames' bytes, of which nothing is believed.
    let (second, ring) = (words.len() / 2, 512 + 64 * 8);
    spoil(&words[..ring], patches);
    spoil(&words[second..second + ring], patches.get(8..).unwrap_or_default());
    let mut bytes = vec![0; PACKET_MAX];
    for index in 0..3 {
        let Ok(mut reader) = FramesReader::attach(&words, index) else { continue };
        for _ in 0..200 {
            match reader.read(&mut bytes) {
                Ok(Some(packet)) => assert!(packet.len <= PACKET_MAX && packet.frames > 0),
                Ok(None) => break,
                Err(_) => {}
            }
        }
    }
}

fn histogram(patches: &[u64]) {
    let words = zeroed(Histogram::WORDS);
    let mut histogram = Histogram::attach(&words).unwrap();
    (0..100).for_each(|i| histogram.record(i * i * i));
    spoil(&words, patches);
    let mut seen = HistogramSnapshot::take(&words).unwrap();
    let earlier = seen.clone();
    seen.merge(&earlier);
    for seen in [&seen, &earlier, &seen.since(&earlier)] {
        assert!(seen.p50() <= seen.p9999());
        let _ = (seen.mean(), seen.min(), seen.count(), seen.buckets().count());
    }
    Histogram::attach(&words).unwrap().record(5);
}
