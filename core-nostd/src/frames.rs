//! Received frames, shared: packet memory that other processes map read-only, and a ring that
//! tells them which frame lies where.
//!
//! ```text
//!  header (4 KiB) │ ring of records (64 bytes each) │ pad to 2 MiB │ frames
//!                    sequence → address, length, time, line
//! ```
//!
//! The writer publishes each frame in the [broadcast ring](crate::ring::broadcast) and leaves it
//! where the driver put it. Before it gives a frame back to the driver it moves `oldest` behind
//! the frame's sequence. A reader copies the frame first and looks at `oldest` afterwards: if its
//! sequence is still at or behind `oldest`, nobody wrote to the frame meanwhile. So the writer
//! never waits for a reader, and a reader that is too slow learns exactly which frames it missed.

use core::mem::size_of;

use crate::event::Event;
use crate::ring::broadcast::{self, Lapped, Ring, SLOT_WORDS};
use crate::sync::{AtomicU64, Ordering, fence};

/// First word of the memory: `WTFRAMES` in ASCII.
pub const MAGIC: u64 = u64::from_le_bytes(*b"WTFRAMES");
/// Version of the layout. Another version is another format: attach refuses it.
pub const VERSION: u64 = 1;

const HEADER_WORDS: usize = 512;
/// The frames start on a huge page.
const FRAMES_ALIGN_WORDS: usize = (2 << 20) / size_of::<u64>();
/// As many frames as one queue's packet memory may have.
const FRAMES_MAX: usize = 1 << 20;

// Word offsets; head and oldest change all the time and lie on pairs of lines of their own.
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 1;
const AT_EPOCH: usize = 2;
const AT_FRAMES: usize = 3;
const AT_FRAME_SIZE: usize = 4;
const AT_HEAD: usize = 64;
const AT_OLDEST: usize = 96;

/// What the memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramesSpec {
    /// Epoch of the writer's start, that of its segment.
    pub epoch: u64,
    /// Frames, a power of two from 64 to 2^20; the ring has as many slots.
    pub frames: usize,
    /// Bytes of a frame: 2048 or 4096.
    pub frame_size: usize,
}

impl FramesSpec {
    fn check(&self) -> Result<(), FramesError> {
        let FramesSpec { frames, frame_size, .. } = *self;
        let fits = frames.is_power_of_two() && (64..=FRAMES_MAX).contains(&frames);
        if !fits || !matches!(frame_size, 2048 | 4096) {
            return Err(FramesError::Geometry { frames: frames as u64, size: frame_size as u64 });
        }
        Ok(())
    }

    /// Where the frames start, in words.
    fn frames_at(&self) -> usize {
        HEADER_WORDS
            .wrapping_add(self.frames.wrapping_mul(SLOT_WORDS))
            .next_multiple_of(FRAMES_ALIGN_WORDS)
    }

    /// Where the frames start, in bytes: a multiple of 2 MiB.
    pub fn frames_offset(&self) -> Result<usize, FramesError> {
        self.check()?;
        Ok(self.frames_at().wrapping_mul(size_of::<u64>()))
    }

    /// Bytes of the whole.
    pub fn total_bytes(&self) -> Result<usize, FramesError> {
        let frames = self.frames.wrapping_mul(self.frame_size);
        Ok(self.frames_offset()?.wrapping_add(frames))
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
    /// Number of the interface or line it came on.
    pub line: u32,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
}

impl Frame {
    fn to_event(self) -> Event {
        let size = u64::from(self.len) | u64::from(self.line) << 32;
        Event { words: [self.address, size, self.ts_recv, 0, 0, 0, 0] }
    }

    fn from_event(event: &Event) -> Frame {
        let [address, size, ts_recv, ..] = event.words;
        Frame { address, len: size as u32, line: (size >> 32) as u32, ts_recv }
    }
}

/// The parts of the memory.
#[derive(Clone, Copy, Debug)]
struct Parts<'m> {
    ring: Ring<'m>,
    oldest: &'m AtomicU64,
    /// The frames; empty for a writer, whose frames are the driver's.
    frames: &'m [AtomicU64],
}

impl<'m> Parts<'m> {
    fn new(words: &'m [AtomicU64], spec: &FramesSpec) -> Result<Parts<'m>, FramesError> {
        let (needed, found) = (spec.total_bytes()?, size_of_val(words));
        let short = FramesError::Memory { needed, found };
        if found < needed {
            return Err(short);
        }
        let ring_end = HEADER_WORDS.wrapping_add(spec.frames.wrapping_mul(SLOT_WORDS));
        let slots = words.get(HEADER_WORDS..ring_end).ok_or(short)?.as_chunks::<SLOT_WORDS>().0;
        let frames_words = spec.frames.wrapping_mul(spec.frame_size) / size_of::<u64>();
        let frames = words.get(spec.frames_at()..).and_then(|rest| rest.get(..frames_words));
        Ok(Parts {
            ring: Ring::new(slots, words.get(AT_HEAD).ok_or(short)?).map_err(|_| short)?,
            oldest: words.get(AT_OLDEST).ok_or(short)?,
            frames: frames.ok_or(short)?,
        })
    }
}

/// The writing end: one per packet memory, in the thread that receives.
#[derive(Debug)]
pub struct FramesWriter<'m> {
    writer: broadcast::Writer<'m>,
    oldest: &'m AtomicU64,
}

impl<'m> FramesWriter<'m> {
    /// Lays out fresh (zero) memory. The magic is written last, with release: who sees it sees
    /// the rest.
    pub fn create(words: &'m [AtomicU64], spec: &FramesSpec) -> Result<Self, FramesError> {
        let parts = Parts::new(words, spec)?;
        let set = |at: usize, value: u64, order| {
            if let Some(word) = words.get(at) {
                word.store(value, order);
            }
        };
        set(AT_VERSION, VERSION, Ordering::Relaxed);
        set(AT_EPOCH, spec.epoch, Ordering::Relaxed);
        set(AT_FRAMES, spec.frames as u64, Ordering::Relaxed);
        set(AT_FRAME_SIZE, spec.frame_size as u64, Ordering::Relaxed);
        set(AT_OLDEST, 1, Ordering::Relaxed);
        set(AT_MAGIC, MAGIC, Ordering::Release);
        Ok(FramesWriter { writer: parts.ring.writer(), oldest: parts.oldest })
    }

    /// Tells readers of a frame, which stays as it is until [`recycle_before`] passes the
    /// sequence returned.
    ///
    /// [`recycle_before`]: FramesWriter::recycle_before
    #[inline]
    pub fn publish(&mut self, frame: Frame) -> u64 {
        self.writer.publish(&frame.to_event())
    }

    /// Ends a batch: readers' starting points and lags follow it.
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

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Frames `first..end` were given back to the driver before they were copied.
    Recycled {
        /// First sequence missed.
        first: u64,
        /// First sequence that the reader goes on with.
        end: u64,
    },
    /// The record points outside the frames: the writer's memory is damaged.
    Damaged {
        /// Its sequence; the reader goes on behind it.
        sequence: u64,
    },
}

impl core::fmt::Display for Missed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Missed::Recycled { first, end } => {
                write!(f, "frames {first}..{end} were recycled before they were copied")
            }
            Missed::Damaged { sequence } => {
                write!(f, "the record of frame {sequence} points outside the frames")
            }
        }
    }
}

impl core::error::Error for Missed {}

/// A reading end. It never blocks and never writes.
#[derive(Clone, Debug)]
pub struct FramesReader<'m> {
    parts: Parts<'m>,
    reader: broadcast::Reader<'m>,
    spec: FramesSpec,
}

impl<'m> FramesReader<'m> {
    /// Attaches behind the last committed frame. Everything that the memory claims is checked.
    pub fn attach(words: &'m [AtomicU64]) -> Result<FramesReader<'m>, FramesError> {
        let load = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        // Acquire: pairs with the release in `create`.
        let magic = words.first().map_or(0, |word| word.load(Ordering::Acquire));
        if magic != MAGIC {
            return Err(FramesError::Magic { found: magic });
        }
        if load(AT_VERSION) != VERSION {
            return Err(FramesError::Version { found: load(AT_VERSION) });
        }
        let (frames, size) = (load(AT_FRAMES), load(AT_FRAME_SIZE));
        let geometry = FramesError::Geometry { frames, size };
        let spec = FramesSpec {
            epoch: load(AT_EPOCH),
            frames: usize::try_from(frames).map_err(|_| geometry)?,
            frame_size: usize::try_from(size).map_err(|_| geometry)?,
        };
        let parts = Parts::new(words, &spec)?;
        Ok(FramesReader { parts, reader: parts.ring.reader_from_now(), spec })
    }

    /// What the memory holds.
    pub fn spec(&self) -> FramesSpec {
        self.spec
    }

    /// Goes to the oldest frame that is still there.
    pub fn rewind(&mut self) {
        let oldest = self.parts.oldest.load(Ordering::Acquire);
        self.reader = self.parts.ring.reader_from(oldest);
    }

    /// The sequence that the next read returns.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Copies the next frame into `bytes` (as much of it as fits; a frame is never longer than
    /// [`FramesSpec::frame_size`]) and returns its sequence and record, `None` if it is not there
    /// yet. What stands in `bytes` after an error is no frame.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<Option<(u64, Frame)>, Missed> {
        let wanted = self.reader.position();
        if wanted < self.parts.oldest.load(Ordering::Acquire) {
            return Err(self.skip(wanted, wanted));
        }
        let (sequence, event) = match self.reader.next_event() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(Lapped { first, end }) => return Err(self.skip(first, end)),
        };
        let frame = Frame::from_event(&event);
        let copied = self.copy(&frame, bytes);
        // The copy comes before the look at `oldest`; pairs with the fence in `recycle_before`.
        fence(Ordering::Acquire);
        if sequence < self.parts.oldest.load(Ordering::Relaxed) {
            return Err(self.skip(sequence, sequence));
        }
        match copied {
            Some(()) => Ok(Some((sequence, frame))),
            None => Err(Missed::Damaged { sequence }),
        }
    }

    /// Copies word by word: the driver may write to the frame meanwhile.
    fn copy(&self, frame: &Frame, bytes: &mut [u8]) -> Option<()> {
        if frame.len as usize > self.spec.frame_size {
            return None;
        }
        let start = usize::try_from(frame.address).ok()?;
        let end = start.checked_add(frame.len as usize)?;
        let first = start / size_of::<u64>();
        let words = self.parts.frames.get(first..end.div_ceil(size_of::<u64>()))?;
        let wanted = bytes.len().min(frame.len as usize);
        let mut rest = bytes.get_mut(..wanted)?;
        let mut skip = start % size_of::<u64>();
        for word in words {
            let word = word.load(Ordering::Relaxed).to_ne_bytes();
            let from = word.get(skip..)?;
            let count = from.len().min(rest.len());
            let (to, behind) = rest.split_at_mut_checked(count)?;
            to.copy_from_slice(from.get(..count)?);
            rest = behind;
            skip = 0;
        }
        Some(())
    }

    /// Steps behind what is gone, and an eighth of what is still there, so that the writer does
    /// not overtake the very next read. `first..` is missed, `end` is where the ring goes on.
    #[cold]
    fn skip(&mut self, first: u64, end: u64) -> Missed {
        let oldest = self.parts.oldest.load(Ordering::Acquire);
        let behind_head = self.parts.ring.head().wrapping_add(1);
        let kept = behind_head.saturating_sub(oldest);
        let end = end.max(oldest.wrapping_add(kept / 8)).max(first.wrapping_add(1));
        self.reader = self.parts.ring.reader_from(end);
        Missed::Recycled { first, end }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::vec::Vec;

    const SPEC: FramesSpec = FramesSpec { epoch: 7, frames: 64, frame_size: 2048 };

    fn memory() -> Vec<AtomicU64> {
        (0..SPEC.total_bytes().unwrap() / 8).map(|_| AtomicU64::new(0)).collect()
    }

    /// Fills the frame of `sequence` as the driver does, at an address that is not aligned.
    fn fill(words: &[AtomicU64], sequence: u64) -> Frame {
        let frame = sequence % SPEC.frames as u64;
        let at = SPEC.frames_offset().unwrap() / 8 + frame as usize * SPEC.frame_size / 8;
        for word in &words[at..at + 16] {
            word.store(sequence, Ordering::Relaxed);
        }
        let address = frame * SPEC.frame_size as u64 + 3;
        Frame { address, len: 100, line: 1, ts_recv: sequence * 10 }
    }

    fn holds(bytes: &[u8], sequence: u64) -> bool {
        let word = sequence.to_ne_bytes();
        bytes.iter().enumerate().all(|(at, byte)| *byte == word[(at + 3) % 8])
    }

    #[test]
    fn frames_come_out_whole_and_in_order_until_they_are_recycled() {
        let words = memory();
        let mut writer = FramesWriter::create(&words, &SPEC).unwrap();
        let mut reader = FramesReader::attach(&words).unwrap();
        assert_eq!(reader.spec(), SPEC);
        let mut bytes = [0; 100];
        assert_eq!(reader.read(&mut bytes), Ok(None));
        for sequence in 1..=40 {
            let frame = fill(&words, sequence);
            assert_eq!(writer.publish(frame), sequence);
            assert_eq!(reader.read(&mut bytes), Ok(Some((sequence, frame))));
            assert!(holds(&bytes, sequence));
        }
        writer.commit();
        writer.recycle_before(25);
        let mut late = FramesReader::attach(&words).unwrap();
        late.reader = late.parts.ring.reader_from(5);
        assert_eq!(late.read(&mut bytes), Err(Missed::Recycled { first: 5, end: 27 }));
        assert!(matches!(late.read(&mut bytes), Ok(Some((27, _)))));
        late.rewind();
        assert_eq!(late.position(), 25);
    }

    #[test]
    fn a_record_that_leaves_the_frames_is_refused_and_passed() {
        let words = memory();
        let mut writer = FramesWriter::create(&words, &SPEC).unwrap();
        let mut reader = FramesReader::attach(&words).unwrap();
        let end = (SPEC.frames * SPEC.frame_size) as u64;
        let frame = |address, len| Frame { address, len, ..Frame::default() };
        for bad in [frame(end - 99, 100), frame(u64::MAX, 100), frame(0, 2049)] {
            let sequence = writer.publish(bad);
            assert_eq!(reader.read(&mut [0; 100]), Err(Missed::Damaged { sequence }));
        }
        writer.publish(frame(end - 100, 100));
        assert!(matches!(reader.read(&mut [0; 100]), Ok(Some((4, _)))));
    }

    #[test]
    fn memory_that_is_no_packet_memory_is_named() {
        let words = memory();
        assert_eq!(FramesReader::attach(&words).unwrap_err(), FramesError::Magic { found: 0 });
        assert_eq!(FramesReader::attach(&[]).unwrap_err(), FramesError::Magic { found: 0 });
        FramesWriter::create(&words, &SPEC).unwrap();
        let short = FramesReader::attach(&words[..words.len() - 1]).unwrap_err();
        assert!(matches!(short, FramesError::Memory { .. }), "{short}");
        words[AT_FRAMES].store(u64::MAX, Ordering::Relaxed);
        let geometry = FramesReader::attach(&words).unwrap_err();
        assert!(matches!(geometry, FramesError::Geometry { .. }), "{geometry}");
        words[AT_VERSION].store(9, Ordering::Relaxed);
        let version = FramesReader::attach(&words).unwrap_err();
        assert_eq!(version, FramesError::Version { found: 9 });
    }

    /// The writer reuses frames as fast as it can; every frame is read whole or counted.
    #[test]
    fn read_and_missed_make_up_all_frames_while_the_writer_recycles() {
        const FRAMES: u64 = if cfg!(miri) { 300 } else { 200_000 };
        let words = memory();
        let mut writer = FramesWriter::create(&words, &SPEC).unwrap();
        let mut reader = FramesReader::attach(&words).unwrap();
        let ended = AtomicBool::new(false);
        let (mut read, mut missed) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for sequence in 1..=FRAMES {
                    writer.recycle_before(sequence.saturating_sub(48).max(1));
                    writer.publish(fill(&words, sequence));
                    writer.commit();
                }
                ended.store(true, Ordering::Release);
            });
            let mut bytes = [0; 100];
            loop {
                let last = ended.load(Ordering::Acquire);
                match reader.read(&mut bytes) {
                    Ok(Some((sequence, frame))) => {
                        assert!(holds(&bytes, sequence), "{sequence}: {bytes:?}");
                        assert_eq!(frame.ts_recv, sequence * 10);
                        read += 1;
                    }
                    Ok(None) if last => break,
                    Ok(None) => std::thread::yield_now(),
                    Err(Missed::Recycled { first, end }) => missed += end - first,
                    Err(damaged) => panic!("{damaged}"),
                }
            }
        });
        assert_eq!((read + missed, reader.position()), (FRAMES, FRAMES + 1));
    }
}
