//! Frames that stay as they are for a while after the worker is done with them, so that recorders
//! can copy them: what they were is published, and they go back to the driver in the order of
//! their arrival once newer ones have taken their place. Those of a packet that comes in several
//! frames are published together, once it is whole; what is not used is not published.

use wiretape_core::frames::{Frame, FramesWriter, PACKET_FRAMES_MAX};

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
    /// Frames of a packet that is not whole yet: where they begin, and what lies in them.
    parts: Vec<(u64, Descriptor)>,
}

impl<'m> Retention<'m> {
    /// Keeps the latest `keep` of a packet memory of `frames` frames (a power of two), of which
    /// `writer` tells.
    pub fn new(writer: FramesWriter<'m>, frames: u32, keep: u32) -> Retention<'m> {
        let kept = vec![0; frames.next_power_of_two() as usize].into_boxed_slice();
        let keep = u64::from(keep.min(frames));
        let parts = Vec::with_capacity(PACKET_FRAMES_MAX);
        Retention { writer, kept, keep, oldest: 1, next: 1, parts }
    }

    /// Publishes a packet of one frame, which lies in the frame of the packet memory that begins
    /// at `start`.
    #[inline]
    pub(super) fn keep(&mut self, start: u64, descriptor: &Descriptor, ts_recv: u64) {
        let Descriptor { address, len, .. } = *descriptor;
        self.publish(start, Frame { address, len, index: 0, following: 0, ts_recv });
    }

    /// Takes a frame of a packet that comes in several; one for which there is no room, which no
    /// packet that is used has, goes back to the driver.
    pub(super) fn take_part(&mut self, start: u64, descriptor: &Descriptor, fill: &mut Producer) {
        // Never more than were claimed at the start: nothing allocates here.
        match self.parts.len() < PACKET_FRAMES_MAX {
            true => self.parts.push((start, *descriptor)),
            false => drop(fill.push(start)),
        }
    }

    /// Publishes the packet whose frames were taken, which is whole now.
    pub(super) fn keep_parts(&mut self, ts_recv: u64) {
        let last = self.parts.len().saturating_sub(1);
        for index in 0..self.parts.len() {
            let (start, Descriptor { address, len, .. }) = self.parts[index];
            let (index, following) = (index as u16, (last - index) as u16);
            self.publish(start, Frame { address, len, index, following, ts_recv });
        }
        self.parts.clear();
    }

    /// Gives back the frames of a packet that nobody can use.
    pub(super) fn drop_parts(&mut self, fill: &mut Producer) {
        for (start, _) in self.parts.drain(..) {
            fill.push(start);
        }
    }

    #[inline]
    fn publish(&mut self, start: u64, frame: Frame) {
        let sequence = self.writer.publish(frame);
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

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::super::ring::Layout;
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use wiretape_core::frames::{FramesReader, FramesSpec, Missed, PACKET_MAX, Packet};
    use wiretape_core::segment::QueueIdentity;
    use wiretape_core::sync::AtomicU64;

    const SPEC: FramesSpec = FramesSpec { epoch: 1, queues: 1, frames: 64, frame_size: 2048 };
    const LAYOUT: Layout = Layout { producer: 0, consumer: 64, flags: 128, entries: 192 };

    /// A fill ring of which the test plays the kernel.
    struct Fill {
        producer: Producer,
        file: File,
    }

    impl Fill {
        fn new() -> Fill {
            let file = tempfile::tempfile().unwrap();
            file.set_len(4096).unwrap();
            let memory = Memory::of_file(&file, 0, 4096).unwrap();
            Fill { producer: Producer::new(memory, LAYOUT, 64), file }
        }

        fn index(&self, at: usize) -> u32 {
            let mut bytes = [0; 4];
            self.file.read_exact_at(&mut bytes, at as u64).unwrap();
            u32::from_ne_bytes(bytes)
        }

        /// What was given back since the last time.
        fn take(&mut self) -> Vec<u64> {
            self.producer.submit();
            let end = self.index(LAYOUT.producer);
            let entry = |index: u32| {
                let mut bytes = [0; 8];
                let at = LAYOUT.entries + (index % 64) as usize * 8;
                self.file.read_exact_at(&mut bytes, at as u64).unwrap();
                u64::from_ne_bytes(bytes)
            };
            let taken = (self.index(LAYOUT.consumer)..end).map(entry).collect();
            self.file.write_all_at(&end.to_ne_bytes(), LAYOUT.consumer as u64).unwrap();
            taken
        }
    }

    /// A packet that arrives: its frames' lengths, and whether it can be used.
    fn arrival() -> impl Strategy<Value = (Vec<u32>, bool)> {
        let lens = prop::collection::vec(1..1792_u32, 1..8);
        (lens, prop::bool::weighted(0.8))
    }

    proptest! {
        /// Batches end anywhere, also inside a packet. Whatever comes, each frame goes back once,
        /// the latest ones stay, and recorders see the packets that were used, whole.
        #[test]
        fn frames_go_back_once_and_packets_are_shared_whole(
            arrivals in prop::collection::vec(arrival(), 1..80),
            keep in 1..32_u32,
            batch in 1..20_usize,
        ) {
            let words: Vec<AtomicU64> =
                (0..SPEC.total_bytes().unwrap() / 8).map(|_| AtomicU64::new(0)).collect();
            let writer = FramesWriter::create(&words, &SPEC, 0, &QueueIdentity::default()).unwrap();
            let mut retention = Retention::new(writer, 64, keep);
            let mut fill = Fill::new();
            let mut reader = FramesReader::attach(&words, 0).unwrap();
            let mut bytes = vec![0; PACKET_MAX];
            // Frames that the kernel may write to.
            let mut free: Vec<u64> = (0..64).map(|frame| frame * 2048).collect();
            let (mut frames, mut used, mut shared) = (0, Vec::<Vec<u32>>::new(), 0);
            for (lens, is_used) in arrivals {
                let last = lens.len() - 1;
                for (index, len) in lens.iter().enumerate() {
                    let start = free.pop().expect("the kernel never runs out of frames");
                    let descriptor = Descriptor { address: start + 256, len: *len, options: 0 };
                    match last {
                        // A frame that points nowhere never comes here.
                        0 if is_used => retention.keep(start, &descriptor, 7),
                        0 => drop(fill.producer.push(start)),
                        _ => retention.take_part(start, &descriptor, &mut fill.producer),
                    }
                    if last > 0 && index == last {
                        match is_used {
                            true => retention.keep_parts(7),
                            false => retention.drop_parts(&mut fill.producer),
                        }
                    }
                    if is_used && index == last {
                        shared += lens.len();
                        used.push(lens.clone());
                    }
                    frames += 1;
                    if frames % batch == 0 {
                        retention.end_batch(&mut fill.producer);
                        free.extend(fill.take());
                    }
                }
            }
            retention.end_batch(&mut fill.producer);
            free.extend(fill.take());
            // Those that are kept are not free, and none is free twice.
            prop_assert_eq!(free.len(), 64 - shared.min(keep as usize));
            free.sort_unstable();
            free.dedup();
            prop_assert_eq!(free.len(), 64 - shared.min(keep as usize));
            let mut next = 1;
            loop {
                match reader.read(&mut bytes) {
                    Ok(Some(Packet { number, len, frames, ts_recv })) => {
                        let lens = &used[number as usize - 1];
                        prop_assert_eq!((number, frames, ts_recv), (next, lens.len(), 7));
                        prop_assert_eq!(len, lens.iter().sum::<u32>() as usize);
                        next = number + 1;
                    }
                    Ok(None) => break,
                    Err(Missed::Recycled { first, end }) => {
                        prop_assert_eq!(first, next);
                        next = end;
                    }
                    Err(damaged) => panic!("{damaged}"),
                }
            }
            prop_assert_eq!(next, used.len() as u64 + 1);
        }
    }

    #[test]
    fn more_frames_than_a_packet_may_have_go_back_at_once() {
        let words: Vec<AtomicU64> =
            (0..SPEC.total_bytes().unwrap() / 8).map(|_| AtomicU64::new(0)).collect();
        let writer = FramesWriter::create(&words, &SPEC, 0, &QueueIdentity::default()).unwrap();
        let (mut retention, mut fill) = (Retention::new(writer, 64, 8), Fill::new());
        let capacity = retention.parts.capacity();
        for frame in 0..PACKET_FRAMES_MAX as u64 + 3 {
            let descriptor = Descriptor { address: frame * 2048, len: 9, options: 0 };
            retention.take_part(frame * 2048, &descriptor, &mut fill.producer);
        }
        assert_eq!(fill.take(), [24 * 2048, 25 * 2048, 26 * 2048]);
        retention.drop_parts(&mut fill.producer);
        assert_eq!(fill.take(), (0..24).map(|frame| frame * 2048).collect::<Vec<_>>());
        assert_eq!(retention.parts.capacity(), capacity, "something allocated");
    }
}
