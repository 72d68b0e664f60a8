//! Frames that a capture shares and the segment beside them, without a capture or a network.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use wiretape_capture::frames_file::FramesFile;
use wiretape_core::frames::{FramesSpec, FramesWriter};
use wiretape_core::segment::{QueueIdentity, State};
use wiretape_core::sync::Ordering;
use wiretape_host::reader::testing::TestSegment;
use wiretape_host::record::{
    Compression, RecordError, RecordOptions, Recorded, Rotation, WhenFull, record,
};

use crate::rig::Rig;

/// Bytes of a frame.
pub const FRAME: usize = 2048;

/// Those of one run of the worker `w`.
pub struct Shared {
    frames: FramesFile,
    segment: TestSegment,
    spec: FramesSpec,
}

impl Shared {
    /// Queues of `eth7`, each of so many frames.
    pub fn new(rig: &Rig, epoch: u64, queues: usize, frames: usize) -> Shared {
        let spec = FramesSpec { epoch, queues, frames, frame_size: FRAME };
        let frames = FramesFile::reserve(&rig.segments, "w", spec).expect("room for frames");
        for queue in 0..queues {
            writer(&frames, queue);
        }
        frames.publish().expect("the name");
        let segment = TestSegment::create(&rig.segment("w"), epoch, 64);
        Shared { frames, segment, spec }
    }

    /// The writing ends of the first `N` queues.
    pub fn writers<const N: usize>(&self) -> [FramesWriter<'_>; N] {
        std::array::from_fn(|queue| writer(&self.frames, queue))
    }

    /// Puts `bytes` into the frames of a queue, `start` bytes (a multiple of 8) from their first on.
    pub fn put(&self, queue: usize, start: usize, bytes: &[u8]) {
        let first = (self.spec.frames_offset(queue).expect("an offset") + start) / 8;
        for (to, bytes) in self.frames.words()[first..].iter().zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            to.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Ends the run.
    pub fn end(&self) {
        self.segment.writer().header().set_state(State::Ended);
    }
}

fn writer(frames: &FramesFile, queue: usize) -> FramesWriter<'_> {
    let interface = "eth7".try_into().expect("short enough");
    let identity = QueueIdentity { interface, queue: queue as u32 };
    frames.writer(queue, &identity).expect("the layout")
}

/// To record one run of `w`, as it is.
pub fn options(rig: &Rig) -> RecordOptions {
    RecordOptions {
        segment: rig.segment("w"),
        directory: rig.work.join("pcap"),
        rotation: Rotation::default(),
        compression: Compression::None,
        keep: None,
        when_full: WhenFull::End,
        buffer: 4 << 20,
        wait: false,
        until_end: true,
    }
}

/// Records in silence.
pub fn run(options: &RecordOptions) -> Result<Recorded, RecordError> {
    record(options, &Arc::new(AtomicBool::new(false)), &mut |_| {})
}
