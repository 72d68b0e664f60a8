//! The rings and the node pool between processes: this test binary starts itself again as the
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
