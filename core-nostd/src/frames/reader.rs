//! The reading end of shared frames: packets, put together of their frames where they have several.

use core::mem::size_of;

use super::{
    AT_QUEUE, Frame, FramesError, FramesSpec, PACKET_FRAMES_MAX, PACKET_MAX, Parts, Record,
};
use crate::ring::broadcast::{self, Lapped};
use crate::segment::{QueueBlock, QueueIdentity};
use crate::sync::{AtomicU64, Ordering, fence};

/// Steps of one [`FramesReader::read`]. After a loss it passes the rest of one packet; what is
/// beyond that is left to the next call, should a writer of nonsense write for ever.
const STEPS_MAX: usize = 2 * PACKET_FRAMES_MAX;
/// Looks for the oldest packet when a reader attaches, each of which a fast writer may defeat.
const LOOKS_MAX: usize = 8;

/// A packet that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Its number among the packets of the queue, from 1.
    pub number: u64,
    /// Its length in bytes, at most [`PACKET_MAX`].
    pub len: usize,
    /// Frames that it came in.
    pub frames: usize,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
}

/// Why a packet cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Packets `first..end` were given back to the driver, in part or as a whole, before they
    /// were copied.
    Recycled {
        /// First packet missed.
        first: u64,
        /// The packet behind the last one missed.
        end: u64,
    },
    /// The record of a frame points outside the frames, or contradicts those before it: the
    /// writer's memory is damaged.
    Damaged {
        /// Sequence of the record; the reader goes on behind it.
        sequence: u64,
    },
}

impl core::fmt::Display for Missed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Missed::Recycled { first, end } => {
                write!(f, "packets {first}..{end} were recycled before they were copied")
            }
            Missed::Damaged { sequence } => {
                write!(f, "the record of frame {sequence} makes no sense")
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
    queue: QueueIdentity,
    /// Number of the packet that is read next; 0 as long as none is known.
    next: u64,
    /// Records were passed unread: the next one need not be the beginning of a packet.
    astray: bool,
}

/// What one step came to.
enum Step {
    /// Something was passed; there may be more.
    Passed,
    /// Nothing whole is there yet.
    NotYet,
    Packet(Packet),
    Missed(Missed),
}

/// What became of the frames behind the first one of a packet.
enum Rest {
    /// The packet is whole, so many bytes long.
    Copied(usize),
    /// Not all of it is published.
    NotYet,
    /// The ring has overtaken the reader.
    Lapped,
    /// This record makes no sense.
    Damaged(u64),
}

impl<'m> FramesReader<'m> {
    /// Attaches to queue number `index` (from 0), at the oldest packet that is still there.
    /// Everything that the memory claims is checked.
    pub fn attach(words: &'m [AtomicU64], index: usize) -> Result<FramesReader<'m>, FramesError> {
        let spec = FramesSpec::claimed(words)?;
        let section = spec.section(words, index)?;
        // The first queue's section may be written by now to say something else.
        if FramesSpec::claimed(section)? != spec {
            return Err(FramesError::Section { index });
        }
        let queue = section.get(AT_QUEUE..).and_then(QueueBlock::new);
        let queue = queue.and_then(|block| block.identity()).unwrap_or_default();
        let parts = Parts::new(section, &spec)?;
        let reader = parts.ring.reader_from_now();
        let mut attached = FramesReader { parts, reader, spec, queue, next: 0, astray: true };
        attached.go_to_oldest();
        Ok(attached)
    }

    /// Goes to the oldest frame that is still there, and finds out which packet is read next.
    fn go_to_oldest(&mut self) {
        for _ in 0..LOOKS_MAX {
            let oldest = self.parts.oldest.load(Ordering::Acquire);
            self.reader = self.parts.ring.reader_from(oldest);
            match self.reader.clone().next_event() {
                Ok(Some((_, event))) => {
                    let Record { frame, packet } = Record::from_event(&event);
                    // Of a packet whose first frames are gone this reader was never to read.
                    self.next = packet.wrapping_add(u64::from(frame.index != 0));
                    return;
                }
                Ok(None) => {
                    self.next = u64::from(self.reader.position() == 1);
                    return;
                }
                Err(Lapped { .. }) => {}
            }
        }
    }

    /// What the memory holds.
    pub fn spec(&self) -> FramesSpec {
        self.spec
    }

    /// The queue whose packets these are, as the writer names it.
    pub fn queue(&self) -> &QueueIdentity {
        &self.queue
    }

    /// Number of the packet that the next read returns or misses: those before it were read,
    /// missed, or there before this reader. 0 as long as none is known.
    pub fn next_packet(&self) -> u64 {
        self.next
    }

    /// Copies the next packet into `bytes` (as much of it as fits; [`PACKET_MAX`] bytes hold any)
    /// and describes it; `None` if it is not there yet. What stands in `bytes` after anything
    /// else is no packet.
    ///
    /// # Errors
    /// Packets were missed, and are counted by their numbers; the next call goes on behind them.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<Option<Packet>, Missed> {
        for _ in 0..STEPS_MAX {
            match self.step(bytes) {
                Step::Passed => {}
                Step::NotYet => return Ok(None),
                Step::Packet(packet) => return Ok(Some(packet)),
                Step::Missed(missed) => return Err(missed),
            }
        }
        Ok(None)
    }

    fn step(&mut self, bytes: &mut [u8]) -> Step {
        let before = self.reader.clone();
        if before.position() < self.parts.oldest.load(Ordering::Acquire) {
            return self.lose(before.position());
        }
        let (sequence, record) = match self.reader.next_event() {
            Ok(Some((sequence, event))) => (sequence, Record::from_event(&event)),
            Ok(None) => return Step::NotYet,
            Err(Lapped { first, .. }) => return self.lose(first),
        };
        if record.frame.index != 0 {
            return self.pass_inner(sequence, record.packet);
        }
        if self.next == 0 {
            self.next = record.packet;
        }
        if record.packet != self.next {
            if !self.astray || record.packet < self.next {
                self.next = record.packet;
                return self.damaged(sequence);
            }
            // What was lost is told first; the packet itself is read by the next call.
            self.reader = before;
            let first = core::mem::replace(&mut self.next, record.packet);
            return Step::Missed(Missed::Recycled { first, end: record.packet });
        }
        let rest = self.copy_packet(sequence, &record, bytes);
        // The copy comes before the look at `oldest`; pairs with the fence in `recycle_before`.
        // The first frame is the one that is given back first.
        fence(Ordering::Acquire);
        if sequence < self.parts.oldest.load(Ordering::Relaxed) {
            return self.lose(sequence);
        }
        let len = match rest {
            Rest::Copied(len) => len,
            Rest::NotYet => {
                self.reader = before;
                return Step::NotYet;
            }
            Rest::Lapped => return self.lose(sequence),
            Rest::Damaged(sequence) => return self.damaged(sequence),
        };
        self.astray = false;
        self.next = record.packet.wrapping_add(1);
        Step::Packet(Packet {
            number: record.packet,
            len,
            frames: usize::from(record.frame.following).wrapping_add(1),
            ts_recv: record.frame.ts_recv,
        })
    }

    /// Passes a frame that is not the first one of its packet.
    fn pass_inner(&mut self, sequence: u64, packet: u64) -> Step {
        if !self.astray {
            return self.damaged(sequence);
        }
        // Its packet is lost with all those before it, unless that is known.
        let behind = packet.wrapping_add(1);
        if self.next == 0 || behind <= self.next {
            self.next = self.next.max(behind);
            return Step::Passed;
        }
        let first = core::mem::replace(&mut self.next, behind);
        Step::Missed(Missed::Recycled { first, end: behind })
    }

    /// Copies the packet that begins with `first`.
    fn copy_packet(&mut self, mut sequence: u64, first: &Record, bytes: &mut [u8]) -> Rest {
        if usize::from(first.frame.following) >= PACKET_FRAMES_MAX {
            return Rest::Damaged(sequence);
        }
        let (mut frame, mut len) = (first.frame, 0_usize);
        loop {
            let room = bytes.get_mut(len..).unwrap_or(&mut []);
            let behind = len.saturating_add(frame.len as usize);
            if behind > PACKET_MAX || self.copy(&frame, room).is_none() {
                return Rest::Damaged(sequence);
            }
            len = behind;
            if frame.following == 0 {
                return Rest::Copied(len);
            }
            let next = match self.reader.next_event() {
                Ok(Some((at, event))) => {
                    sequence = at;
                    Record::from_event(&event)
                }
                Ok(None) => return Rest::NotYet,
                Err(Lapped { .. }) => return Rest::Lapped,
            };
            let place = (frame.index.wrapping_add(1), frame.following.wrapping_sub(1));
            let fits = (next.frame.index, next.frame.following) == place;
            if !fits || next.packet != first.packet {
                return Rest::Damaged(sequence);
            }
            frame = next.frame;
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

    /// Steps behind what is gone from `first` on, and an eighth of what is still there, so that
    /// the writer does not overtake the very next read. The record found there tells how many
    /// packets that were.
    #[cold]
    fn lose(&mut self, first: u64) -> Step {
        let oldest = self.parts.oldest.load(Ordering::Acquire);
        let behind_head = self.parts.ring.head().wrapping_add(1);
        let kept = behind_head.saturating_sub(oldest);
        let end = oldest.wrapping_add(kept / 8).max(first.wrapping_add(1));
        self.reader = self.parts.ring.reader_from(end);
        self.astray = true;
        Step::Passed
    }

    /// A record that makes no sense takes the packet that was to come with it.
    #[cold]
    fn damaged(&mut self, sequence: u64) -> Step {
        self.next = self.next.wrapping_add(1);
        self.astray = true;
        Step::Missed(Missed::Damaged { sequence })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
