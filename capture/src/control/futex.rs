//! Wakes readers that sleep on the segment's wake word: the system call behind core's
//! [`Waker`](wiretape_core::ring::wake::Waker), which the control thread asks once a millisecond. None
//! comes from the worker.

use wiretape_core::ring::wake::Unpark;
use wiretape_core::sync::AtomicU64;

/// Sleepers of any process.
#[derive(Clone, Copy, Debug)]
pub struct Futex;

impl Unpark for Futex {
    fn unpark_all(&self, word: &AtomicU64) {
        // The futex is the low half of the word, at the word's own address.
        let address: *const u32 = std::ptr::from_ref(word).cast();
        // SAFETY: the address is valid and aligned; FUTEX_WAKE only uses it to find sleepers. Not
        // FUTEX_PRIVATE_FLAG: they are in other processes.
        unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, i32::MAX) };
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use crate::segment_file::MappedWords;
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};
    use wiretape_core::event::Event;
    use wiretape_core::ring::wake::{Park, Wait, Waker};
    use wiretape_core::segment::{SegmentLayout, SegmentSpec, SegmentView, SegmentWriter};

    impl Park for Futex {
        fn yield_now(&self) {
            std::thread::yield_now();
        }

        fn park(&self, word: &AtomicU64, seen: u32, at_most: Duration) {
            let address: *const u32 = std::ptr::from_ref(word).cast();
            let limit = libc::timespec { tv_sec: at_most.as_secs() as libc::time_t, tv_nsec: 0 };
            let (wait, limit) = (libc::FUTEX_WAIT, &raw const limit);
            // SAFETY: the address is that of a word and the timeout a valid timespec.
            unsafe { libc::syscall(libc::SYS_futex, address, wait, seen, limit) };
        }
    }

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
        segment.start();
        let mut waker = Waker::new(segment.header().wake_word(), segment.ring());
        std::thread::scope(|scope| {
            let start = Instant::now();
            let sleeper = scope.spawn(|| {
                let (null, fd) = (std::ptr::null_mut(), file.as_raw_fd());
                // SAFETY: a fresh read-only mapping of the same file.
                let base =
                    unsafe { libc::mmap(null, bytes, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
                assert_ne!(base, libc::MAP_FAILED);
                // SAFETY: the mapping has so many bytes, stays until the end of the process, and
                // is written to by atomic stores alone.
                let words = unsafe { std::slice::from_raw_parts(base.cast(), bytes / 8) };
                let view = SegmentView::attach(words).unwrap();
                let mut reader = view.events().reader_from(1);
                let word = view.header().wake_word();
                while reader.next_event().unwrap().is_none() {
                    reader.wait(Wait::Park, word, Duration::from_secs(10), &Futex);
                }
            });
            std::thread::sleep(Duration::from_millis(50));
            let mut writer = segment.events();
            writer.publish(&Event::default());
            writer.commit();
            waker.tick(&Futex);
            sleeper.join().unwrap();
            assert!(start.elapsed() < Duration::from_secs(5), "never woken");
        });
    }
}
