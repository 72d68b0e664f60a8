//! The rings, the node pool and the skip list between processes: this test binary starts itself again as the
//! other side, on a file that both map.
#![cfg(all(not(loom), target_os = "linux"))]

use std::env;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::yield_now;

use rustix::mm::{MapFlags, ProtFlags, mmap};
use wiretape_core::event::{EVENT_WORDS, Event};
use wiretape_core::node_pool::{self, NodePool};
use wiretape_core::ring::broadcast::{Ring, SLOT_WORDS, Slot};
use wiretape_core::ring::mpmc::{self, WordRing};
use wiretape_core::ring::spsc::{self, Consumer, Producer, WordConsumer, WordProducer};
use wiretape_core::skiplist::{self, SkipList, SkipListReader};

/// A shared file that goes away with its owner.
struct SharedFile(PathBuf);

impl SharedFile {
    fn new(name: &str, words: usize) -> SharedFile {
        let shm = Path::new("/dev/shm");
        let folder = if shm.is_dir() { shm.to_owned() } else { env::temp_dir() };
        let path = folder.join(format!("wiretape-test-{name}-{}", std::process::id()));
        let file = File::create_new(&path).unwrap();
        file.set_len(words as u64 * 8).unwrap();
        SharedFile(path)
    }

    fn words(&self) -> &'static [AtomicU64] {
        map(&self.0, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Starts the part `role` on this file in another process.
    fn start(&self, role: &str) -> Running {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "the_other_side", "--nocapture"])
            .env("WIRETAPE_TEST_ROLE", role)
            .env("WIRETAPE_TEST_FILE", &self.0)
            .spawn();
        Running(child.unwrap())
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn succeeds(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn map(path: &Path, protection: ProtFlags) -> &'static [AtomicU64] {
    let writable = protection.contains(ProtFlags::WRITE);
    let file = OpenOptions::new().read(true).write(writable).open(path).unwrap();
    let bytes = file.metadata().unwrap().len() as usize;
    // SAFETY: a fresh mapping of the whole file at an address of the kernel's choice, kept until
    // the process ends; the file is not shortened meanwhile.
    let start = unsafe {
        mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, &file, 0).unwrap()
    };
    // SAFETY: the mapping is page-aligned and holds this many words, which processes access
    // atomically only.
    unsafe { std::slice::from_raw_parts(start.cast(), bytes / 8) }
}

/// What another process does, if this is one.
#[test]
fn the_other_side() {
    let Ok(role) = env::var("WIRETAPE_TEST_ROLE") else { return };
    let path = PathBuf::from(env::var("WIRETAPE_TEST_FILE").unwrap());
    let shared = || map(&path, ProtFlags::READ | ProtFlags::WRITE);
    // A store of a reader would end its process: it has no right to write.
    let read_only = || map(&path, ProtFlags::READ);
    match role.as_str() {
        "spsc producer" => produce(WordProducer::attach(shared()).unwrap()),
        "mpmc producer 0" => push_all(WordRing::attach(shared()).unwrap(), 0),
        "mpmc producer 1" => push_all(WordRing::attach(shared()).unwrap(), 1),
        "broadcast single" => follow_singly(broadcast_ring(read_only())),
        "broadcast batch" => follow_in_batches(broadcast_ring(read_only())),
        "skip list reader" => check_list(read_only(), &map_looks(&path)[0]),
        "skip list searcher" => search_list(read_only(), &map_looks(&path)[1]),
        "pool user" => use_nodes(shared(), 2),
        _ => panic!("no such role: {role}"),
    }
}

const ITEMS: u64 = 300_000;

fn item(number: u64) -> [u64; 8] {
    [number, !number, number << 7, 3, number ^ 0xFF, 5, 6, number.wrapping_mul(31)]
}

fn produce(mut producer: Producer<'_, wiretape_core::ring::slot::WordSlots<'_, 8>>) {
    let mut next = 0;
    while next < ITEMS {
        if next % 3 == 0 {
            let batch: Vec<_> = (next..ITEMS.min(next + 20)).map(item).collect();
            next += producer.push_slice(&batch) as u64;
        } else if producer.push(item(next)).is_ok() {
            next += 1;
        } else {
            yield_now();
        }
    }
}

#[test]
fn spsc_items_arrive_whole_and_in_order() {
    let file = SharedFile::new("spsc", spsc::words_needed::<8>(128));
    spsc::create::<8>(file.words(), 128).unwrap();
    let producer = file.start("spsc producer");
    let mut consumer: WordConsumer<'_, 8> = Consumer::attach(file.words()).unwrap();
    let mut items = [[0; 8]; 32];
    let mut next = 0;
    while next < ITEMS {
        let count = consumer.pop_slice(&mut items);
        for found in &items[..count] {
            assert_eq!(*found, item(next));
            next += 1;
        }
        match consumer.pop() {
            Some(found) => {
                assert_eq!(found, item(next));
                next += 1;
            }
            None => yield_now(),
        }
    }
    producer.succeeds();
    assert_eq!(consumer.pop(), None);
}

fn push_all(ring: WordRing<'_, 3>, producer: u64) {
    for number in 0..ITEMS / 4 {
        while ring.push([producer, number, !number]).is_err() {
            yield_now();
        }
    }
}

#[test]
fn mpmc_items_arrive_once_and_in_their_producers_order() {
    let file = SharedFile::new("mpmc", mpmc::words_needed::<3>(64));
    let ring = WordRing::<3>::create(file.words(), 64).unwrap();
    let producers = [file.start("mpmc producer 0"), file.start("mpmc producer 1")];
    let mut next = [0; 2];
    while next != [ITEMS / 4; 2] {
        let Some([producer, number, check]) = ring.pop() else {
            yield_now();
            continue;
        };
        assert_eq!(check, !number);
        assert_eq!(number, next[producer as usize]);
        next[producer as usize] += 1;
    }
    producers.into_iter().for_each(Running::succeeds);
    assert_eq!(ring.pop(), None);
}

const EVENT_SLOTS: usize = 64;
const EVENTS: u64 = 1_000_000;

/// Word 0: the head; from word 16 on, the slots.
fn broadcast_ring(words: &'static [AtomicU64]) -> Ring<'static> {
    let (slots, _): (&[Slot], _) = words[16..].as_chunks();
    Ring::new(slots, &words[0]).unwrap()
}

fn event(number: u64) -> Event {
    let mut event = Event { words: [number; EVENT_WORDS] };
    event.words[EVENT_WORDS - 1] = number.wrapping_mul(31);
    event
}

/// Follows from the first event to the last; what was read and what was reported lost must join
/// without a gap or an overlap.
fn follow_singly(ring: Ring<'_>) {
    let mut reader = ring.reader_from(1);
    let (mut next, mut read) = (1, 0_u64);
    while next <= EVENTS {
        match reader.next_event() {
            Ok(Some((sequence, found))) => {
                assert_eq!((sequence, found), (next, event(next)));
                next += 1;
                read += 1;
            }
            Ok(None) => yield_now(),
            Err(lost) => {
                assert_eq!(lost.first, next);
                assert!(lost.end > lost.first && lost.end <= EVENTS + 1, "{lost:?}");
                // Exactly the range: what follows is in the ring, unless lapped again at once.
                next = lost.end;
            }
        }
    }
    println!("a single reader read {read} of {EVENTS} events");
    assert!(read > 0);
}

fn follow_in_batches(ring: Ring<'_>) {
    let mut reader = ring.reader_from(1);
    let mut events = [Event::default(); 48];
    let (mut next, mut read) = (1, 0_u64);
    while next <= EVENTS {
        match reader.read_batch(&mut events) {
            Ok(0) => yield_now(),
            Ok(count) => {
                for found in &events[..count] {
                    assert_eq!(*found, event(next));
                    next += 1;
                }
                read += count as u64;
            }
            Err(lost) => {
                assert_eq!(lost.first, next);
                assert!(lost.end > lost.first && lost.end <= EVENTS + 1, "{lost:?}");
                next = lost.end;
            }
        }
        assert_eq!(reader.position(), next);
    }
    println!("a batch reader read {read} of {EVENTS} events");
    assert!(read > 0);
}

#[test]
fn broadcast_readers_that_may_not_write_see_whole_events_and_exact_losses() {
    let file = SharedFile::new("broadcast", 16 + EVENT_SLOTS * SLOT_WORDS);
    let mut writer = broadcast_ring(file.words()).writer();
    let readers = [file.start("broadcast single"), file.start("broadcast batch")];
    for number in 1..=EVENTS {
        assert_eq!(writer.publish(&event(number)), number);
        if number % 16 == 0 {
            writer.commit();
        }
        // Now and then the readers catch up, now and then they are lapped.
        if number % 256 < 40 {
            yield_now();
        }
    }
    writer.commit();
    readers.into_iter().for_each(Running::succeeds);
}

const NODES: u32 = 40;

/// The pool, and behind it one word for each node: who has it.
fn use_nodes(words: &'static [AtomicU64], user: u64) {
    let pool = NodePool::attach(words).unwrap();
    let owners = &words[node_pool::words_needed(NODES)..];
    let mut cache = pool.cache();
    let mut held = Vec::new();
    for step in 0..200_000_u64 {
        let cached = step % 5000 < 2500;
        if step % 31 < 16 {
            let node = if cached { cache.allocate() } else { pool.allocate() };
            let Some(node) = node else { continue };
            let before = owners[node as usize].swap(user, Ordering::Relaxed);
            assert_eq!(before, 0, "node {node} has two owners");
            held.push(node);
        } else if let Some(node) = held.pop() {
            owners[node as usize].store(0, Ordering::Relaxed);
            if cached { cache.free(node) } else { pool.free(node) }.unwrap();
        }
    }
    for node in held {
        owners[node as usize].store(0, Ordering::Relaxed);
        pool.free(node).unwrap();
    }
}

#[test]
fn nodes_have_one_owner_across_processes() {
    let file = SharedFile::new("pool", node_pool::words_needed(NODES) + NODES as usize);
    let pool = NodePool::create(file.words(), NODES).unwrap();
    let other = file.start("pool user");
    use_nodes(file.words(), 1);
    other.succeeds();
    assert_eq!(pool.usage().in_use, 0);
    assert_eq!(std::iter::from_fn(|| pool.allocate()).count(), NODES as usize);
}

const ENTRIES: u64 = 20_000;

/// Key of the entry that is inserted as number `i`: in order but for the last 16, some of them
/// equal.
fn entry_key(i: u64) -> u64 {
    (i + 16 - (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60)) * 10
}

/// Word 0: what is surely there, round (high half) and entries; word 1: whether the writer is
/// done. From word 16 on, the list.
fn list_parts(words: &'static [AtomicU64]) -> (&'static AtomicU64, &'static AtomicU64) {
    (&words[0], &words[1])
}

/// How often each reader has looked: a file beside the list's, since readers may not write there.
fn looks_path(list: &Path) -> PathBuf {
    list.with_extension("looks")
}

fn map_looks(list: &Path) -> &'static [AtomicU64] {
    map(&looks_path(list), ProtFlags::READ | ProtFlags::WRITE)
}

/// Iterates again and again: every entry that was there before an iteration is in it, once and in
/// order, and all that is in it was inserted.
fn check_list(words: &'static [AtomicU64], looks: &AtomicU64) {
    let (present, done) = list_parts(words);
    let list = SkipListReader::<u64>::attach(&words[16..]).unwrap();
    let (mut whole, mut last) = (0, false);
    while !last {
        last = done.load(Ordering::Acquire) == 1;
        let before = present.load(Ordering::Acquire);
        let (round, count) = (before >> 32, before & 0xFFFF_FFFF);
        let mut seen = vec![false; ENTRIES as usize];
        let (mut previous, mut in_round) = ((0, 0), None);
        let mut iter = list.iter();
        for (key, value) in iter.by_ref() {
            let i = value & 0xFFFF_FFFF;
            assert_eq!(*in_round.get_or_insert(value >> 32), value >> 32, "rounds are mixed");
            assert_eq!(key, entry_key(i));
            assert!((key, i) > previous || i == 0, "{key} {i} after {previous:?}");
            assert!(!std::mem::replace(&mut seen[i as usize], true), "{i} came twice");
            previous = (key, i);
        }
        let found = in_round.unwrap_or(round);
        assert!(found >= round, "an entry of an earlier round");
        if !iter.cleared() && found == round {
            let missing = seen[..count as usize].iter().position(|seen| !seen);
            // An empty iteration may be one of the next round, of which nothing is there yet.
            let empty = in_round.is_none() && list.generation() != 2 * round + 2;
            assert!(missing.is_none() || empty, "{missing:?} of {count} is missing");
            whole += u64::from(missing.is_none());
        }
        looks.fetch_add(u64::from(count > 0), Ordering::Relaxed);
    }
    println!("a reader saw {whole} whole lists in {} looks", looks.load(Ordering::Relaxed));
}

/// Searches for entries that are surely there.
fn search_list(words: &'static [AtomicU64], looks: &AtomicU64) {
    let (present, done) = list_parts(words);
    let list = SkipListReader::<u64>::attach(&words[16..]).unwrap();
    let mut random = 1_u64;
    let mut last = false;
    while !last {
        last = done.load(Ordering::Acquire) == 1;
        let before = present.load(Ordering::Acquire);
        let count = before & 0xFFFF_FFFF;
        for _ in 0..count.min(100) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = entry_key((random >> 33) % count);
            let (found, floor) = (list.get(key), list.floor(key));
            let (next, after) = (list.lower_bound(key).next(), list.upper_bound(key).next());
            if present.load(Ordering::Acquire) >> 32 != before >> 32 {
                break;
            }
            // Not cleared until after the last search; whether it is being cleared right now is
            // seen by what is gone.
            let cleared = list.generation() != 2 * (before >> 32) + 2;
            assert!(cleared || found.is_some_and(|value| entry_key(value & 0xFFFF_FFFF) == key));
            assert!(cleared || floor.is_some_and(|(floor, _)| floor == key), "{floor:?}");
            assert!(cleared || next.is_some_and(|(next, _)| next == key), "{next:?}");
            assert!(cleared || after.is_none_or(|(after, _)| after > key), "{after:?}");
        }
        looks.fetch_add(u64::from(count > 0), Ordering::Relaxed);
    }
    println!("a searcher looked {} times", looks.load(Ordering::Relaxed));
}

#[test]
fn a_skip_list_is_whole_and_in_order_for_readers_that_may_not_write() {
    let file = SharedFile::new("list", 16 + skiplist::words_for(ENTRIES as usize));
    let looks = SharedFile(looks_path(&file.0));
    File::create_new(&looks.0).unwrap().set_len(4096).unwrap();
    let looks = map_looks(&file.0);
    let (present, done) = list_parts(file.words());
    let mut list = SkipList::<u64>::create(&file.words()[16..]).unwrap();
    let generation = list.reader().generation();
    let mut readers = [file.start("skip list reader"), file.start("skip list searcher")];
    let mut round = 0;
    // Until both have looked often enough beside a writer that goes on.
    while looks[..2].iter().any(|looks| looks.load(Ordering::Relaxed) < 200) {
        assert!(readers.iter_mut().all(Running::is_running), "a reader failed");
        if round > 0 {
            list.clear();
        }
        assert_eq!(list.reader().generation(), generation + 2 * round);
        for i in 0..ENTRIES {
            list.insert(entry_key(i), round << 32 | i).unwrap();
            present.store(round << 32 | (i + 1), Ordering::Release);
            if i % 256 == 0 {
                yield_now();
            }
        }
        round += 1;
    }
    done.store(1, Ordering::Release);
    readers.into_iter().for_each(Running::succeeds);
}
