//! Segments for tests and examples: what capture makes, without capture.

use super::Segment;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::path::{Path, PathBuf};
use wiretape_core::segment::{SegmentLayout, SegmentSpec, SegmentWriter};
use wiretape_core::sync::AtomicU64;

/// A writable segment file, put in place under its name as capture does it.
#[derive(Debug)]
pub struct TestSegment {
    words: &'static [AtomicU64],
    writer: SegmentWriter<'static>,
}

/// Instruments and feeds of a test segment.
const INSTRUMENTS: usize = 64;
const FEEDS: usize = 2;

impl TestSegment {
    /// Makes a segment of `epoch` with a ring of `slots` at `path`, running.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn create(path: &Path, epoch: u64, slots: usize) -> TestSegment {
        let worker = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("test");
        let spec = SegmentSpec {
            worker,
            epoch,
            pid: std::process::id(),
            event_slots: slots,
            instruments: INSTRUMENTS,
            feeds: FEEDS,
            depths: 0,
        };
        let bytes = SegmentLayout::new(&spec).expect("layout").total_bytes();
        let aside: PathBuf = path.with_extension("seg.new");
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&aside)
            .expect("create the segment file");
        file.set_len(bytes as u64).expect("size the segment file");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let address = std::ptr::null_mut();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(address, bytes, protection, MapFlags::SHARED, &file, 0) };
        let base: *const AtomicU64 = base.expect("map the segment file").cast();
        // SAFETY: page-aligned, `bytes` long (whole words), mapped until `drop`; any bits are
        // valid atomics. `words` does not leave this struct with a longer life than its own.
        let words: &'static [AtomicU64] = unsafe { std::slice::from_raw_parts(base, bytes / 8) };
        let writer = SegmentWriter::create(words, &spec).expect("lay out the segment");
        writer.start();
        if let Some(view) = Segment::attach(path).ok().as_ref().and_then(Segment::view) {
            writer.header().set_predecessor(view.header().epoch());
        }
        let segment = TestSegment { words, writer };
        segment.beat();
        std::fs::rename(&aside, path).expect("put the segment in place");
        segment
    }

    /// The writing side.
    pub fn writer(&self) -> SegmentWriter<'_> {
        self.writer
    }

    /// Gives a sign of life.
    pub fn beat(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        self.writer
            .header()
            .set_heartbeat_ns(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64);
    }
}

impl Drop for TestSegment {
    fn drop(&mut self) {
        let base = self.words.as_ptr().cast_mut().cast();
        // SAFETY: what `mmap` returned; nothing of it is used after this.
        let _ = unsafe { munmap(base, self.words.len() * 8) };
    }
}
