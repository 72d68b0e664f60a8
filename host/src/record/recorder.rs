//! From shared frames to pieces of pcapng.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use wiretape_core::frames::{FramesReader, Missed};
use wiretape_core::segment::{Counter, Ledger, SegmentView};
use wiretape_core::wire::frame::Datagram;

use super::RecordError;
use super::frames::SharedFrames;
use super::output::{Compression, Output, PIECE, WriterGone};
use super::pcapng::{self, Totals};
use crate::reader::{Liveness, Segment};

/// How often, while nothing comes, the recorder looks whether the capture lives.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the recorder sleeps when it has read everything.
const REST: Duration = Duration::from_micros(500);
/// How long bytes may stay in a piece that is not full.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// How long a recorder that is to stop goes on with what is there, should more come all the time.
const STOPPING: Duration = Duration::from_millis(500);
/// How often the recorder says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// When a new file begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Before it grows beyond so many bytes, compression left aside.
    pub bytes: Option<u64>,
    /// At multiples of this since 1970 UTC: every hour on the hour.
    pub every: Option<Duration>,
}

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
    /// How many finished files of the worker stay; `None` keeps all.
    pub keep: Option<usize>,
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
    /// A capture run is being recorded, from this frame on.
    Began {
        /// The epoch.
        epoch: u64,
        /// Sequence of the first frame that was still there.
        first: u64,
    },
    /// Frames `first..end` were recycled before they were copied.
    Missed {
        /// First frame missed.
        first: u64,
        /// The frame that follows the last one missed.
        end: u64,
    },
    /// The capture run is over.
    Ended {
        /// The epoch.
        epoch: u64,
    },
    /// How far the recording is.
    Progress(Recorded),
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Frames in the files.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that the capture shared meanwhile and that are not in the files.
    pub missed: u64,
    /// Records of frames that made no sense; none unless the capture's memory was damaged.
    pub damaged: u64,
    /// Finished files; known at the end.
    pub files: u64,
    /// Their bytes on disk; known at the end.
    pub file_bytes: u64,
    /// The latest of them.
    pub last_file: Option<PathBuf>,
}

/// Records until `stop` is set, or the capture run ends if that was asked for.
///
/// # Errors
/// The segment or the frames cannot be read, or the files cannot be written. What was written
/// until then stays.
pub fn record(
    options: &RecordOptions,
    stop: &AtomicBool,
    notice: &mut dyn FnMut(RecordNotice),
) -> Result<Recorded, RecordError> {
    let stem = options.segment.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let worker = stem.unwrap_or_else(|| "worker".to_owned());
    let pieces = options.buffer / PIECE;
    if !options.wait {
        // Before anything is made: a wrong name leaves no folder behind.
        attach(&options.segment)?;
    }
    let output =
        Output::start(&options.directory, &worker, options.compression, options.keep, pieces)?;
    let mut recorder = Recorder {
        options,
        worker,
        stop,
        file: None,
        piece: output.piece(),
        output,
        totals: Totals::default(),
        recorded: Recorded::default(),
        missing: 0,
        flushed: Instant::now(),
        told: Instant::now(),
    };
    let ended = recorder.follow(notice);
    let Recorder { output, mut recorded, .. } = recorder;
    let written = output.finish();
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

/// Why a recording stops early.
enum End {
    WriterGone,
    Failed(RecordError),
}

impl From<WriterGone> for End {
    fn from(_: WriterGone) -> End {
        End::WriterGone
    }
}

impl<E: Into<RecordError>> From<E> for End {
    fn from(error: E) -> End {
        End::Failed(error.into())
    }
}

/// A file that is being written.
struct OpenFile {
    bytes: u64,
    /// Which multiple of the rotation's period it belongs to.
    period: u64,
}

/// The group and port of a line, and the number of its interface.
struct Line {
    group: [u8; 4],
    port: u16,
    interface: u32,
}

struct Recorder<'r> {
    options: &'r RecordOptions,
    worker: String,
    stop: &'r AtomicBool,
    output: Output,
    file: Option<OpenFile>,
    piece: Vec<u8>,
    /// Of this epoch.
    totals: Totals,
    /// Of all epochs.
    recorded: Recorded,
    /// Frames missed since the one written last.
    missing: u64,
    flushed: Instant,
    told: Instant,
}

impl Recorder<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Records one capture run after the other.
    fn follow(&mut self, notice: &mut dyn FnMut(RecordNotice)) -> Result<(), End> {
        let mut last: Option<Segment> = None;
        while !self.stopped() {
            if last.as_ref().is_some_and(|last| !last.is_replaced()) {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            match attach(&self.options.segment) {
                Ok((segment, frames)) => {
                    self.run(&segment, &frames, notice)?;
                    last = Some(segment);
                    if self.options.until_end {
                        break;
                    }
                }
                Err(error) if is_not_yet(&error) && (self.options.wait || last.is_some()) => {
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(error) => return Err(End::Failed(error)),
            }
        }
        Ok(())
    }

    /// Records one capture run, to its end or until told to stop.
    fn run(
        &mut self,
        segment: &Segment,
        frames: &SharedFrames,
        notice: &mut dyn FnMut(RecordNotice),
    ) -> Result<(), End> {
        let mut reader = frames.reader()?;
        reader.rewind();
        let epoch = reader.spec().epoch;
        notice(RecordNotice::Began { epoch, first: reader.position() });
        let (lines, head) = self.describe(segment, &reader)?;
        let mut bytes = vec![0; reader.spec().frame_size];
        (self.totals, self.missing) = (Totals::default(), 0);
        let mut looked = Instant::now();
        let mut over = false;
        let mut stopping: Option<Instant> = None;
        loop {
            if self.stopped() && stopping.get_or_insert_with(Instant::now).elapsed() > STOPPING {
                break;
            }
            match reader.read(&mut bytes) {
                Ok(Some((_, frame))) => {
                    let frame_bytes = bytes.get(..frame.len as usize).unwrap_or(&bytes);
                    self.write(&head, &lines, frame.ts_recv, frame_bytes)?;
                    self.totals.shared = reader.position() - 1;
                    // A clock is read a thousand times less often than a frame.
                    if self.totals.recorded.is_multiple_of(1024) {
                        self.tell(notice);
                    }
                    continue;
                }
                Ok(None) if over => break,
                Ok(None) => {}
                Err(Missed::Recycled { first, end }) => {
                    let count = end.saturating_sub(first);
                    self.missing += count;
                    self.totals.missed += count;
                    self.recorded.missed += count;
                    notice(RecordNotice::Missed { first, end });
                    continue;
                }
                Err(Missed::Damaged { .. }) => {
                    self.missing += 1;
                    self.recorded.damaged += 1;
                    continue;
                }
            }
            self.tell(notice);
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look_at(segment);
                // Read with acquire: what was shared before the end is seen by the next read.
                over = self.stopped() || has_ended(segment, self.options.until_end);
                if over {
                    continue;
                }
                self.rotate_in_silence()?;
            }
            if self.flushed.elapsed() >= FLUSH_EVERY {
                self.flush()?;
            }
            std::thread::sleep(REST);
        }
        self.totals.shared = reader.position() - 1;
        self.look_at(segment);
        self.close()?;
        if has_ended(segment, self.options.until_end) {
            notice(RecordNotice::Ended { epoch });
        }
        Ok(())
    }

    /// The lines of the capture, and the head of its files.
    fn describe(
        &self,
        segment: &Segment,
        reader: &FramesReader<'_>,
    ) -> Result<(Vec<Line>, Vec<u8>), RecordError> {
        let mut lines = Vec::new();
        let mut interfaces = Vec::new();
        let spec = reader.spec();
        if let Some(view) = segment.view() {
            let source = view.header().source();
            // "xdp eth1 queue 0, …"
            let name = source.split(' ').nth(1).unwrap_or(&self.worker).to_owned();
            interfaces.push((name, source.as_str().to_owned()));
            for (index, feed) in view.feeds().enumerate() {
                for (letter, group, port) in groups(&view, index) {
                    let identity = feed.identity();
                    let [a, b, c, d] = group;
                    let name = format!("{}:{letter}", identity.name);
                    let text = format!("{} {a}.{b}.{c}.{d}:{port}", identity.protocol);
                    lines.push(Line { group, port, interface: interfaces.len() as u32 });
                    interfaces.push((name, text));
                }
            }
        } else {
            interfaces.push((self.worker.clone(), String::new()));
        }
        let comment = format!(
            "worker {}, epoch {}; interface 0 has what belongs to no line, and the statistics of \
             all: received, lost before the capture, shared by it, missed by the recorder, recorded",
            self.worker, spec.epoch
        );
        let mut head = Vec::new();
        pcapng::head(&mut head, &comment, &interfaces, spec.frame_size as u32)?;
        Ok((lines, head))
    }

    fn write(
        &mut self,
        head: &[u8],
        lines: &[Line],
        ts_recv: u64,
        bytes: &[u8],
    ) -> Result<(), End> {
        let period = self.period(ts_recv);
        let Rotation { bytes: most, .. } = self.options.rotation;
        let full = |file: &OpenFile| {
            file.period != period || most.is_some_and(|most| file.bytes + bytes.len() as u64 > most)
        };
        if self.file.as_ref().is_some_and(full) {
            self.close()?;
        }
        if self.file.is_none() {
            self.output.begin(format!("{}-{}", self.worker, file_time(ts_recv)))?;
            self.piece.extend_from_slice(head);
            self.file = Some(OpenFile { bytes: head.len() as u64, period });
        }
        let before = self.piece.len();
        let missing = std::mem::take(&mut self.missing);
        let interface = interface_of(lines, bytes);
        pcapng::packet(&mut self.piece, interface, ts_recv, bytes, missing)?;
        self.totals.recorded += 1;
        self.recorded.frames += 1;
        self.recorded.bytes += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            file.bytes += (self.piece.len() - before) as u64;
        }
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(())
    }

    fn period(&self, time_ns: u64) -> u64 {
        let every = self.options.rotation.every.map_or(0, |every| every.as_nanos() as u64);
        time_ns.checked_div(every).unwrap_or(0)
    }

    /// Ends a file whose period is over although no packet says so.
    fn rotate_in_silence(&mut self) -> Result<(), End> {
        let now = self.period(utc_ns());
        match &self.file {
            // Packets on their way may still belong to the period that has just ended.
            Some(file) if now > file.period + 1 => self.close(),
            _ => Ok(()),
        }
    }

    /// Takes the capture's own counters.
    fn look_at(&mut self, segment: &Segment) {
        if let Some(view) = segment.view() {
            self.totals.redirected = view.counters().get(Counter::XdpRedirected);
            self.totals.lost = Ledger::read(&view.counters(), true).lost();
        }
    }

    fn close(&mut self) -> Result<(), End> {
        if self.file.take().is_some() {
            pcapng::statistics(&mut self.piece, utc_ns(), &self.totals)?;
            self.flush()?;
            self.output.end()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        self.flushed = Instant::now();
        if !self.piece.is_empty() {
            let full = std::mem::replace(&mut self.piece, self.output.piece());
            self.output.write(full)?;
        }
        Ok(())
    }

    fn tell(&mut self, notice: &mut dyn FnMut(RecordNotice)) {
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            notice(RecordNotice::Progress(self.recorded.clone()));
        }
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
        if epoch == Some(frames.reader()?.spec().epoch) {
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
fn has_ended(segment: &Segment, silence_is_the_end: bool) -> bool {
    match segment.liveness() {
        Liveness::Over(_) => true,
        Liveness::Silent(_) if silence_is_the_end => true,
        Liveness::Silent(_) | Liveness::Live => segment.is_replaced(),
    }
}

/// The groups of a feed's lines. A feed with one line has no entries for lines.
fn groups(view: &SegmentView<'_>, feed: usize) -> Vec<(char, [u8; 4], u16)> {
    let of_line = |line: usize, letter: char| {
        let (group, port) = view.line(feed, line)?.address()?;
        Some((letter, group, port))
    };
    let lines: Vec<_> = [of_line(0, 'A'), of_line(1, 'B')].into_iter().flatten().collect();
    match view.feed(feed) {
        Some(feed) if lines.is_empty() => {
            let identity = feed.identity();
            vec![('A', identity.group, identity.port)]
        }
        _ => lines,
    }
}

fn interface_of(lines: &[Line], frame: &[u8]) -> u32 {
    let Ok(datagram) = Datagram::from_frame(frame) else { return 0 };
    lines
        .iter()
        .find(|line| line.group == datagram.dst && line.port == datagram.dst_port)
        .map_or(0, |line| line.interface)
}

/// A time as it stands in a file's name: `20261127T061532.123456789Z`.
fn file_time(time_ns: u64) -> String {
    match Timestamp::from_nanosecond(i128::from(time_ns)) {
        Ok(time) => format!("{}", time.strftime("%Y%m%dT%H%M%S.%9fZ")),
        Err(_) => time_ns.to_string(),
    }
}

fn utc_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
