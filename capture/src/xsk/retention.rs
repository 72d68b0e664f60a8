//! Frames that stay as they are for a while after the worker is done with them, so that recorders
//! can copy them: what they were is published, and they go back to the driver in the order of
//! their arrival once newer ones have taken their place.

use wiretape_core::frames::{Frame, FramesWriter};

use super::ring::{Descriptor, Producer};

/// The latest frames of a socket, published to recorders and kept from the driver.
#[derive(Debug)]
pub struct Retention<'m> {
    writer: FramesWriter<'m>,
    /// Addresses of the frames kept; that of sequence `n` lies at `n & mask`.
    kept: Box<[u64]>,
    keep: u64,
    /// Sequence of the oldest frame kept.
    oldest: u64,
    /// Sequence that the next frame gets.
    next: u64,
}

impl<'m> Retention<'m> {
    /// Keeps the latest `keep` of a packet memory of `frames` frames (a power of two), of which
    /// `writer` tells.
    pub fn new(writer: FramesWriter<'m>, frames: u32, keep: u32) -> Retention<'m> {
        let kept = vec![0; frames.next_power_of_two() as usize].into_boxed_slice();
        Retention { writer, kept, keep: u64::from(keep.min(frames)), oldest: 1, next: 1 }
    }

    /// Publishes a frame, which lies in the frame of the packet memory that begins at `start`.
    #[inline]
    pub(super) fn keep(&mut self, start: u64, descriptor: &Descriptor, ts_recv: u64) {
        let Descriptor { address, len, .. } = *descriptor;
        let sequence = self.writer.publish(Frame { address, len, line: 0, ts_recv });
        let at = self.at(sequence);
        self.kept[at] = start;
        self.next = sequence + 1;
    }

    /// Ends a batch: what is older than the latest frames goes back to the driver, once the
    /// caller submits `fill`.
    #[inline]
    pub(super) fn end_batch(&mut self, fill: &mut Producer) {
        self.writer.commit();
        let oldest = self.next.saturating_sub(self.keep).max(self.oldest);
        if oldest == self.oldest {
            return;
        }
        // Readers are told first: partner of the driver's acquire is the release in `submit`.
        self.writer.recycle_before(oldest);
        for sequence in self.oldest..oldest {
            let start = self.kept[self.at(sequence)];
            fill.push(start);
        }
        self.oldest = oldest;
    }

    #[inline]
    fn at(&self, sequence: u64) -> usize {
        sequence as usize & (self.kept.len() - 1)
    }
}
