//! Received frames, shared: packet memory that other processes map read-only, and rings that tell
//! them which frame lies where. Each queue of a worker has a section of its own:
//!
//! ```text
//!  queue 0  header (4 KiB) │ ring of records (64 bytes each) │ pad to 2 MiB │ frames │ pad to 2 MiB
//!  queue 1  header         │ ring                            │              │ frames │
//!  …                         sequence → address, length, place in its packet, time, packet
//! ```
//!
//! The writer publishes each frame in the [broadcast ring](crate::ring::broadcast) and leaves it
//! where the driver put it. Before it gives a frame back to the driver it moves `oldest` behind
//! the frame's sequence. A reader copies the frame first and looks at `oldest` afterwards: if its
//! sequence is still at or behind `oldest`, nobody wrote to the frame meanwhile. So the writer
//! never waits for a reader, and a reader that is too slow learns exactly which packets it missed.
//!
//! A packet is one frame, or, where the MTU is larger, several that follow each other in the ring:
//! each record says which part it is and how many follow. The writer publishes them together, once
//! the packet is whole. Packets are numbered; a reader that finds number 9 behind number 5 knows
//! that it missed three, however many frames they had.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use wiretape_core::frames::{Frame, FramesReader, FramesSpec, FramesWriter, Missed};
//! use wiretape_core::segment::QueueIdentity;
//!
//! let spec = FramesSpec { epoch: 7, queues: 1, frames: 64, frame_size: 2048 };
//! // In earnest a mapped file, whose frames are the UMEM and which readers map read-only.
//! let words: Vec<_> = (0..spec.total_bytes()? / 8).map(|_| AtomicU64::new(0)).collect();
//! let mut writer = FramesWriter::create(&words, &spec, 0, &QueueIdentity::default())?;
//! let mut reader = FramesReader::attach(&words, 0)?;
//!
//! // The driver put eight bytes into frame 1.
//! let first = spec.frames_offset(0)? / 8;
//! words[first + spec.frame_size / 8].store(u64::from_ne_bytes(*b"ADD AAPL"), Ordering::Relaxed);
//! let frame = Frame { address: 2048, len: 8, ts_recv: 1_000, ..Frame::default() };
//! let sequence = writer.publish(frame);
//! writer.commit();
//! let mut bytes = [0; 2048];
//! let packet = reader.read(&mut bytes).expect("not recycled").expect("it is there");
//! assert_eq!((&bytes[..packet.len], packet.number, packet.ts_recv), (&b"ADD AAPL"[..], 1, 1_000));
//!
//! // What the driver gets back before a reader came to it is missed, and told.
//! writer.publish(frame);
//! writer.publish(Frame { address: 4096, ..frame });
//! writer.commit();
//! writer.recycle_before(sequence + 2);
//! assert_eq!(reader.read(&mut bytes), Err(Missed::Recycled { first: 2, end: 3 }));
//! # Ok::<(), wiretape_core::frames::FramesError>(())
//! ```

mod reader;

use core::mem::size_of;

use crate::event::Event;
use crate::ring::broadcast::{self, Ring, SLOT_WORDS};
use crate::segment::{MAX_QUEUES, QueueBlock, QueueIdentity};
use crate::sync::{AtomicU64, Ordering, fence};

pub use reader::{FramesReader, Missed, Packet};

/// First word of the memory: `WTFRAMES` in ASCII.
pub const MAGIC: u64 = u64::from_le_bytes(*b"WTFRAMES");
/// Version of the layout. Another version is another format: attach refuses it.
pub const VERSION: u64 = 3;

/// Longest packet that is put together of several frames, in bytes: more than any jumbo MTU.
pub const PACKET_MAX: usize = 16 << 10;
/// Most frames of a packet: more than the fragments that Linux gives one (18).
pub const PACKET_FRAMES_MAX: usize = 24;

const HEADER_WORDS: usize = 512;
/// Sections, and the frames in them, start on a huge page.
const ALIGN_WORDS: usize = (2 << 20) / size_of::<u64>();
/// As many frames as one queue's packet memory may have.
const FRAMES_MAX: usize = 1 << 20;

// Word offsets; head and oldest change all the time and lie on pairs of lines of their own.
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 1;
const AT_EPOCH: usize = 2;
const AT_FRAMES: usize = 3;
const AT_FRAME_SIZE: usize = 4;
const AT_QUEUES: usize = 5;
const AT_HEAD: usize = 64;
const AT_OLDEST: usize = 96;
const AT_QUEUE: usize = 128;

/// What the memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramesSpec {
    /// Epoch of the writer's start, that of its segment.
    pub epoch: u64,
    /// Queues, from 1 to [`MAX_QUEUES`]; each has the same number of frames.
    pub queues: usize,
    /// Frames of a queue, a power of two from 64 to 2^20; its ring has as many slots.
    pub frames: usize,
    /// Bytes of a frame: 2048 or 4096.
    pub frame_size: usize,
}

impl FramesSpec {
    fn check(&self) -> Result<(), FramesError> {
        let FramesSpec { queues, frames, frame_size, .. } = *self;
        let fits = frames.is_power_of_two() && (64..=FRAMES_MAX).contains(&frames);
        if !fits || !matches!(frame_size, 2048 | 4096) {
            return Err(FramesError::Geometry { frames: frames as u64, size: frame_size as u64 });
        }
        if !(1..=MAX_QUEUES).contains(&queues) {
            return Err(FramesError::Queues { found: queues as u64 });
        }
        Ok(())
    }

    /// What a section's header claims, checked.
    fn claimed(section: &[AtomicU64]) -> Result<FramesSpec, FramesError> {
        let load = |at: usize| section.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        // Acquire: pairs with the release in `FramesWriter::create`.
        let magic = section.first().map_or(0, |word| word.load(Ordering::Acquire));
        if magic != MAGIC {
            return Err(FramesError::Magic { found: magic });
        }
        if load(AT_VERSION) != VERSION {
            return Err(FramesError::Version { found: load(AT_VERSION) });
        }
        let (frames, size, queues) = (load(AT_FRAMES), load(AT_FRAME_SIZE), load(AT_QUEUES));
        let geometry = FramesError::Geometry { frames, size };
        let spec = FramesSpec {
            epoch: load(AT_EPOCH),
            queues: usize::try_from(queues).map_err(|_| FramesError::Queues { found: queues })?,
            frames: usize::try_from(frames).map_err(|_| geometry)?,
            frame_size: usize::try_from(size).map_err(|_| geometry)?,
        };
        spec.check()?;
        Ok(spec)
    }

    /// Where the frames of a section start, in words of the section.
    fn frames_at(&self) -> usize {
        HEADER_WORDS
            .wrapping_add(self.frames.wrapping_mul(SLOT_WORDS))
            .next_multiple_of(ALIGN_WORDS)
    }

    fn frames_words(&self) -> usize {
        self.frames.wrapping_mul(self.frame_size) / size_of::<u64>()
    }

    fn section_words(&self) -> usize {
        self.frames_at().wrapping_add(self.frames_words()).next_multiple_of(ALIGN_WORDS)
    }

    /// Where the frames of queue number `index` start, in bytes: a multiple of 2 MiB.
    pub fn frames_offset(&self, index: usize) -> Result<usize, FramesError> {
        self.check()?;
        self.check_index(index)?;
        let at = index.wrapping_mul(self.section_words()).wrapping_add(self.frames_at());
        Ok(at.wrapping_mul(size_of::<u64>()))
    }

    /// Bytes of the frames of one queue.
    pub fn frames_bytes(&self) -> usize {
        self.frames_words().wrapping_mul(size_of::<u64>())
    }

    /// Bytes of the whole.
    pub fn total_bytes(&self) -> Result<usize, FramesError> {
        self.check()?;
        Ok(self.queues.wrapping_mul(self.section_words()).wrapping_mul(size_of::<u64>()))
    }

    fn check_index(&self, index: usize) -> Result<(), FramesError> {
        let outside = FramesError::NoQueue { index, queues: self.queues };
        if index < self.queues { Ok(()) } else { Err(outside) }
    }

    /// The words of queue number `index`.
    fn section<'m>(
        &self,
        words: &'m [AtomicU64],
        index: usize,
    ) -> Result<&'m [AtomicU64], FramesError> {
        let (needed, found) = (self.total_bytes()?, size_of_val(words));
        let short = FramesError::Memory { needed, found };
        self.check_index(index)?;
        if found < needed {
            return Err(short);
        }
        let (len, at) = (self.section_words(), index.wrapping_mul(self.section_words()));
        words.get(at..at.wrapping_add(len)).ok_or(short)
    }
}

/// Why memory does not hold frames, or cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramesError {
    /// The first word is something else.
    Magic {
        /// What it is.
        found: u64,
    },
    /// Another version of the layout.
    Version {
        /// Which.
        found: u64,
    },
    /// Number or size of the frames is none that a writer uses.
    Geometry {
        /// The number.
        frames: u64,
        /// The size in bytes.
        size: u64,
    },
    /// There are no workers of that many queues.
    Queues {
        /// The number.
        found: u64,
    },
    /// There are not that many queues.
    NoQueue {
        /// The one asked for, from 0.
        index: usize,
        /// The number there is.
        queues: usize,
    },
    /// The section of a queue contradicts the first one.
    Section {
        /// Which, from 0.
        index: usize,
    },
    /// The memory is too short.
    Memory {
        /// Bytes that it should have.
        needed: usize,
        /// Bytes that it has.
        found: usize,
    },
}

impl core::fmt::Display for FramesError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            FramesError::Magic { found } => write!(f, "not shared frames: it begins {found:#018x}"),
            FramesError::Version { found } => {
                write!(f, "shared frames of layout version {found}; this program reads {VERSION}")
            }
            FramesError::Geometry { frames, size } => {
                write!(f, "{frames} frames of {size} bytes are no packet memory")
            }
            FramesError::Queues { found } => {
                write!(f, "shared frames of {found} queues: a worker has 1 to {MAX_QUEUES}")
            }
            FramesError::NoQueue { index, queues } => {
                write!(f, "there is no queue number {index} among the {queues} that share frames")
            }
            FramesError::Section { index } => {
                write!(f, "the frames of queue number {index} are not those of the first one's run")
            }
            FramesError::Memory { needed, found } => {
                write!(f, "shared frames need {needed} bytes, there are {found}")
            }
        }
    }
}

impl core::error::Error for FramesError {}

/// What is known about a frame besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Where it starts, in bytes from the first frame.
    pub address: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Which part of its packet it is, from 0.
    pub index: u16,
    /// How many frames of its packet follow; 0 for the last one, and for the only one.
    pub following: u16,
    /// Receive time of the packet, UTC nanoseconds.
    pub ts_recv: u64,
}

/// A frame as it stands in the ring.
#[derive(Clone, Copy, Debug)]
struct Record {
    frame: Frame,
    /// Number of the packet, from 1.
    packet: u64,
}

impl Record {
    #[inline]
    fn to_event(self) -> Event {
        let Frame { address, len, index, following, ts_recv } = self.frame;
        let size = u64::from(len) | u64::from(index) << 32 | u64::from(following) << 48;
        Event { words: [address, size, ts_recv, self.packet, 0, 0, 0] }
    }

    fn from_event(event: &Event) -> Record {
        let [address, size, ts_recv, packet, ..] = event.words;
        let (len, index, following) = (size as u32, (size >> 32) as u16, (size >> 48) as u16);
        Record { frame: Frame { address, len, index, following, ts_recv }, packet }
    }
}

/// The parts of a section.
#[derive(Clone, Copy, Debug)]
struct Parts<'m> {
    ring: Ring<'m>,
    oldest: &'m AtomicU64,
    /// The frames; empty for a writer, whose frames are the driver's.
    frames: &'m [AtomicU64],
}

impl<'m> Parts<'m> {
    fn new(section: &'m [AtomicU64], spec: &FramesSpec) -> Result<Parts<'m>, FramesError> {
        let (needed, found) = (spec.total_bytes()?, size_of_val(section));
        let short = FramesError::Memory { needed, found };
        let ring_end = HEADER_WORDS.wrapping_add(spec.frames.wrapping_mul(SLOT_WORDS));
        let slots = section.get(HEADER_WORDS..ring_end).ok_or(short)?.as_chunks::<SLOT_WORDS>().0;
        let frames =
            section.get(spec.frames_at()..).and_then(|rest| rest.get(..spec.frames_words()));
        Ok(Parts {
            ring: Ring::new(slots, section.get(AT_HEAD).ok_or(short)?).map_err(|_| short)?,
            oldest: section.get(AT_OLDEST).ok_or(short)?,
            frames: frames.ok_or(short)?,
        })
    }
}

/// The writing end: one for each queue, in the thread that receives.
#[derive(Debug)]
pub struct FramesWriter<'m> {
    writer: broadcast::Writer<'m>,
    oldest: &'m AtomicU64,
    /// Number of the packet that is published next.
    packet: u64,
}

impl<'m> FramesWriter<'m> {
    /// Lays out the section of queue number `index` in fresh (zero) memory. The magic is written
    /// last, with release: who sees it sees the rest.
    pub fn create(
        words: &'m [AtomicU64],
        spec: &FramesSpec,
        index: usize,
        queue: &QueueIdentity,
    ) -> Result<Self, FramesError> {
        let section = spec.section(words, index)?;
        let parts = Parts::new(section, spec)?;
        let set = |at: usize, value: u64, order| {
            if let Some(word) = section.get(at) {
                word.store(value, order);
            }
        };
        set(AT_VERSION, VERSION, Ordering::Relaxed);
        set(AT_EPOCH, spec.epoch, Ordering::Relaxed);
        set(AT_FRAMES, spec.frames as u64, Ordering::Relaxed);
        set(AT_FRAME_SIZE, spec.frame_size as u64, Ordering::Relaxed);
        set(AT_QUEUES, spec.queues as u64, Ordering::Relaxed);
        set(AT_OLDEST, 1, Ordering::Relaxed);
        if let Some(block) = section.get(AT_QUEUE..).and_then(QueueBlock::new) {
            block.set_identity(queue);
        }
        set(AT_MAGIC, MAGIC, Ordering::Release);
        Ok(FramesWriter { writer: parts.ring.writer(), oldest: parts.oldest, packet: 1 })
    }

    /// Tells readers of a frame, which stays as it is until [`recycle_before`] passes the
    /// sequence returned. The frames of a packet are published one behind the other, in their
    /// order, up to the one that none follows.
    ///
    /// [`recycle_before`]: FramesWriter::recycle_before
    #[inline]
    pub fn publish(&mut self, frame: Frame) -> u64 {
        let record = Record { frame, packet: self.packet };
        self.packet = self.packet.wrapping_add(u64::from(frame.following == 0));
        self.writer.publish(&record.to_event())
    }

    /// Ends a batch: readers' lags follow it.
    #[inline]
    pub fn commit(&mut self) {
        self.writer.commit();
    }

    /// To be called before frames are given back to the driver: those below `sequence` are gone
    /// for readers from now on.
    ///
    /// The release fence orders the mark before whatever is written to the frames afterwards,
    /// here or by whoever acquires the (release) store that gives them back; it pairs with the
    /// acquire fence in [`FramesReader::read`].
    #[inline]
    pub fn recycle_before(&mut self, sequence: u64) {
        self.oldest.store(sequence, Ordering::Relaxed);
        fence(Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_record_holds_what_its_frame_says() {
        let frame = Frame { address: 7, len: u32::MAX, index: 3, following: 20, ts_recv: 1 << 63 };
        let record = Record::from_event(&Record { frame, packet: u64::MAX }.to_event());
        assert_eq!((record.frame, record.packet), (frame, u64::MAX));
    }

    #[test]
    fn sections_lie_one_behind_the_other_and_do_not_overlap() {
        for (queues, frames, frame_size) in [(1, 64, 2048), (3, 64, 4096), (8, 4096, 2048)] {
            let spec = FramesSpec { epoch: 1, queues, frames, frame_size };
            let (total, section) = (spec.total_bytes().unwrap(), spec.section_words() * 8);
            assert_eq!((total, total % (2 << 20)), (queues * section, 0));
            for index in 0..queues {
                let at = spec.frames_offset(index).unwrap();
                assert_eq!(at % (2 << 20), 0);
                assert!(at >= index * section + HEADER_WORDS * 8 + frames * 64);
                assert!(at + spec.frames_bytes() <= (index + 1) * section);
            }
            let outside = FramesError::NoQueue { index: queues, queues };
            assert_eq!(spec.frames_offset(queues), Err(outside));
        }
    }

    #[test]
    fn shapes_that_no_worker_has_are_refused() {
        let good = FramesSpec { epoch: 1, queues: 1, frames: 64, frame_size: 2048 };
        for bad in [
            FramesSpec { queues: 0, ..good },
            FramesSpec { queues: MAX_QUEUES + 1, ..good },
            FramesSpec { frames: 96, ..good },
            FramesSpec { frames: FRAMES_MAX * 2, ..good },
            FramesSpec { frame_size: 1024, ..good },
        ] {
            assert!(bad.total_bytes().is_err(), "{bad:?}");
        }
        let words: Vec<AtomicU64> = (0..100).map(|_| AtomicU64::new(0)).collect();
        let queue = QueueIdentity::default();
        let short = FramesWriter::create(&words, &good, 0, &queue).unwrap_err();
        assert!(matches!(short, FramesError::Memory { .. }), "{short}");
    }
}
