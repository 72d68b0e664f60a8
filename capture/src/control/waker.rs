//! Wakes readers that sleep on the segment's wake word.
//!
//! A reader maps the segment read-only, so the writer cannot know who sleeps; `FUTEX_WAIT` works
//! on a read-only mapping all the same. The control thread looks at the ring's head once a
//! millisecond and, if it moved, counts the wake word up and wakes everyone: at most a system call
//! a millisecond, and none from the worker.

use wiretape_core::ring::broadcast::Ring;
use wiretape_core::segment::Header;
use wiretape_core::sync::Ordering;

/// Wakes when the ring has moved.
#[derive(Debug)]
pub struct Waker<'m> {
    header: Header<'m>,
    ring: Ring<'m>,
    seen: u64,
}

impl<'m> Waker<'m> {
    /// Watches `ring`, whose readers sleep on the word in `header`.
    pub fn new(header: Header<'m>, ring: Ring<'m>) -> Waker<'m> {
        Waker { header, ring, seen: ring.head() }
    }

    /// Wakes the readers if there is something new; call it about once a millisecond.
    pub fn tick(&mut self) {
        let head = self.ring.head();
        if head != self.seen {
            self.seen = head;
            wake_readers(&self.header);
        }
    }
}

/// Wakes every sleeping reader: events were published, or the state changed.
pub fn wake_readers(header: &Header<'_>) {
    let Some(word) = header.wake_word() else { return };
    // Release, so that a reader that sees the new count sees what it announces; partner is the
    // reader's acquire load before it sleeps.
    word.fetch_add(1, Ordering::Release);
    // The futex is the low half of the word, at the word's own address.
    let address: *const u32 = std::ptr::from_ref(word).cast();
    // SAFETY: the address is valid and aligned; FUTEX_WAKE only uses it to find sleepers. Not
    // FUTEX_PRIVATE_FLAG: they are in other processes.
    unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, i32::MAX) };
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use crate::segment_file::MappedWords;
    use std::time::{Duration, Instant};
    use wiretape_core::segment::{SegmentLayout, SegmentSpec, SegmentWriter};

    #[test]
    fn a_sleeper_on_a_read_only_mapping_is_woken() {
        let spec = SegmentSpec {
            worker: "w",
            epoch: 1,
            pid: 1,
            event_slots: 1024,
            instruments: 1,
            feeds: 1,
            depths: 0,
        };
        let bytes = SegmentLayout::new(&spec).unwrap().total_bytes();
        let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap();
        file.set_len(bytes as u64).unwrap();
        let map = MappedWords::map(&file, bytes).unwrap();
        let segment = SegmentWriter::create(map.words(), &spec).unwrap();
        let word = segment.header().wake_word().unwrap();
        let offset = std::ptr::from_ref(word).addr() - map.words().as_ptr().addr();
        let mut waker = Waker::new(segment.header(), segment.ring());
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                // SAFETY: a fresh read-only mapping of the same file; it stays until the end of
                // the process.
                let base = unsafe {
                    use std::os::fd::AsRawFd;
                    let (null, fd) = (std::ptr::null_mut(), file.as_raw_fd());
                    libc::mmap(null, bytes, libc::PROT_READ, libc::MAP_SHARED, fd, 0)
                };
                assert_ne!(base, libc::MAP_FAILED);
                let address = base.wrapping_byte_add(offset).cast::<u32>();
                let limit = libc::timespec { tv_sec: 10, tv_nsec: 0 };
                // SAFETY: the address lies in the mapping and the timeout is a valid timespec.
                unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        address,
                        libc::FUTEX_WAIT,
                        0u32,
                        &raw const limit,
                    )
                }
            });
            let start = Instant::now();
            while !sleeper.is_finished() && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(20));
                let mut writer = segment.events();
                writer.publish(&wiretape_core::event::Event::default());
                writer.commit();
                waker.tick();
            }
            // 0: woken; -1 with EAGAIN: the count had moved before it slept.
            assert!(start.elapsed() < Duration::from_secs(5), "never woken");
            sleeper.join().unwrap();
        });
        let counted = word.load(Ordering::Relaxed);
        waker.tick();
        assert_eq!(word.load(Ordering::Relaxed), counted, "nothing new, nobody woken");
    }
}
