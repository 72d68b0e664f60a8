//! Records one capture run after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wiretape_core::segment::QueueIdentity;

use super::RecordError;
use super::files::{End, Files, Rotation};
use super::frames::SharedFrames;
use super::output::{Compression, Output, PIECE, WhenFull};
use super::run::Run;
use crate::reader::{Liveness, Segment};

/// How often the recorder looks whether the capture lives.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What to record, and whereto.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The worker's segment; its frames lie beside it.
    pub segment: PathBuf,
    /// Where the files go.
    pub directory: PathBuf,
    /// When a new file begins.
    pub rotation: Rotation,
    /// How files are compressed.
    pub compression: Compression,
    /// How many finished files of the worker stay, and how many that were left unfinished; `None`
    /// keeps all.
    pub keep: Option<usize>,
    /// What to do when the disk is full.
    pub when_full: WhenFull,
    /// Bytes that may wait for the disk.
    pub buffer: usize,
    /// Wait for a capture that is not there yet.
    pub wait: bool,
    /// End with the capture run, instead of waiting for the next one.
    pub until_end: bool,
}

/// What is going on, for whoever wants to print it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordNotice {
    /// A capture run is being recorded.
    Began {
        /// The epoch.
        epoch: u64,
        /// Each queue, and the number of its first packet that was still there.
        queues: Vec<(QueueIdentity, u64)>,
    },
    /// Packets `first..end` of a queue were recycled before they were copied.
    Missed {
        /// The queue.
        queue: QueueIdentity,
        /// First packet missed.
        first: u64,
        /// The packet that follows the last one missed.
        end: u64,
    },
    /// A capture run came and went before it could be recorded; there may be more of them.
    RunMissed {
        /// Its epoch.
        epoch: u64,
    },
    /// The capture run is over.
    Ended {
        /// The epoch.
        epoch: u64,
    },
    /// How far the recording is.
    Progress(Recorded),
}

/// What was recorded. A packet counts once, in however many frames it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Packets in the files.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that the capture shared meanwhile and that are not in the files.
    pub missed: u64,
    /// Times that a whole capture run, or several in a row, came and went unrecorded. Their packets
    /// are not among the missed: nobody knows their number.
    pub runs_missed: u64,
    /// Records of frames that made no sense; none unless the capture's memory was damaged.
    pub damaged: u64,
    /// The same for each queue that there was.
    pub queues: Vec<RecordedQueue>,
    /// Finished files; known at the end.
    pub files: u64,
    /// Their bytes on disk; known at the end.
    pub file_bytes: u64,
    /// The latest of them.
    pub last_file: Option<PathBuf>,
}

/// What was recorded of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedQueue {
    /// Which it is.
    pub queue: QueueIdentity,
    /// Its packets in the files.
    pub frames: u64,
    /// Those that are not.
    pub missed: u64,
    /// Records of its frames that made no sense.
    pub damaged: u64,
}

impl Recorded {
    /// The place of a queue in `queues`.
    pub(super) fn place_of(&mut self, queue: &QueueIdentity) -> usize {
        let known = self.queues.iter().position(|one| one.queue == *queue);
        known.unwrap_or_else(|| {
            self.queues.push(RecordedQueue { queue: queue.clone(), ..RecordedQueue::default() });
            self.queues.len() - 1
        })
    }
}

/// Records until `stop` is set, or the capture run ends if that was asked for.
///
/// # Errors
/// The segment or the frames cannot be read, or the files cannot be written. What was written
/// until then stays.
pub fn record(
    options: &RecordOptions,
    stop: &Arc<AtomicBool>,
    notice: &mut dyn FnMut(RecordNotice),
) -> Result<Recorded, RecordError> {
    let stem = options.segment.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let worker = stem.unwrap_or_else(|| "worker".to_owned());
    let pieces = options.buffer / PIECE;
    if !options.wait {
        // Before anything is made: a wrong name leaves no folder behind.
        attach(&options.segment)?;
    }
    let RecordOptions { directory, compression, keep, when_full, .. } = options;
    let output = Output::start(directory, &worker, *compression, *keep, *when_full, stop, pieces)?;
    let mut recorder = Recorder {
        options,
        stop,
        files: Files::new(worker, options.rotation, output),
        recorded: Recorded::default(),
    };
    let ended = recorder.follow(notice);
    let Recorder { files, mut recorded, .. } = recorder;
    let (read, missed) = (recorded.frames, recorded.missed);
    let written = files.into_output().finish().map_err(|error| error.after(read, missed));
    match ended {
        // The writer's own error says more.
        Err(End::WriterGone) => written.map(|_| recorded),
        Err(End::Failed(error)) => Err(error),
        Ok(()) => {
            let written = written?;
            recorded.files = written.files;
            recorded.file_bytes = written.bytes;
            recorded.last_file = written.last;
            Ok(recorded)
        }
    }
}

struct Recorder<'r> {
    options: &'r RecordOptions,
    stop: &'r AtomicBool,
    files: Files,
    /// Of all epochs.
    recorded: Recorded,
}

impl Recorder<'_> {
    /// Records one capture run after the other.
    fn follow(&mut self, notice: &mut dyn FnMut(RecordNotice)) -> Result<(), End> {
        let mut last: Option<Segment> = None;
        // A run that begins while somebody waits for it is to be recorded from its first packet on.
        let mut waited = false;
        while !self.stop.load(Ordering::Relaxed) {
            if last.as_ref().is_some_and(|last| !last.is_replaced()) {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            match attach(&self.options.segment) {
                Ok((segment, frames)) => {
                    let recorded = &mut self.recorded;
                    if let Some(epoch) = last.as_ref().and_then(|last| segment.missed_since(last)) {
                        recorded.runs_missed += 1;
                        notice(RecordNotice::RunMissed { epoch });
                    }
                    waited |= last.is_some();
                    let mut run = Run::new(&segment, &frames, &mut self.files, recorded)?;
                    run.record(self.stop, self.options.until_end, waited, notice)?;
                    last = Some(segment);
                    if self.options.until_end {
                        break;
                    }
                }
                Err(error) if is_not_yet(&error) && (self.options.wait || last.is_some()) => {
                    waited = true;
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(error) => return Err(End::Failed(error)),
            }
        }
        Ok(())
    }
}

/// The segment and the frames of one and the same capture run.
fn attach(path: &Path) -> Result<(Segment, SharedFrames), RecordError> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let since = Instant::now();
    loop {
        let segment = Segment::attach(path)?;
        let frames = SharedFrames::attach(path)?;
        let epoch = segment.view().map(|view| view.header().epoch());
        // A capture that starts puts its frames in place a moment before its segment.
        if epoch == Some(frames.epoch()?) {
            return Ok((segment, frames));
        }
        if since.elapsed() > PATIENCE {
            return Err(RecordError::NotShared { path: path.with_extension("frames") });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_not_yet(error: &RecordError) -> bool {
    match error {
        RecordError::Attach(error) => error.is_not_yet(),
        _ => false,
    }
}

/// Whether nothing more will be shared: the run ended, or another took its place. A silent writer
/// may come back, unless nobody wants to wait for that.
pub(super) fn has_ended(segment: &Segment, silence_is_the_end: bool) -> bool {
    match segment.liveness() {
        Liveness::Over(_) => true,
        Liveness::Silent(_) if silence_is_the_end => true,
        Liveness::Silent(_) | Liveness::Live => segment.is_replaced(),
    }
}
