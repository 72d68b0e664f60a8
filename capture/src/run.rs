//! One run of a capture, from its configuration to its summary.
//!
//! The order matters. Everything that can fail comes first and leaves nothing behind; then the
//! segment is put in place; only then does the socket take its place in the XSKMAP, so that no
//! packet arrives that no reader could see. The end goes backwards: out of the map, take in what
//! was received, close the ledger, mark the segment ended.

mod changes;
mod error;
mod feeds;
mod live;
mod summary;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use wiretape_core::event_loop::Priority;
use wiretape_core::frames::FramesSpec;
use wiretape_core::pipeline::Pipeline;
use wiretape_core::ring::wake::Waker;
use wiretape_core::segment::{Counter, Header, SegmentLayout, SegmentSpec, SegmentWriter, State};

pub use error::RunError;
pub use summary::{FeedSummary, Summary};

use crate::clock::{ClockKeeper, monotonic_ns, utc_ns};
use crate::config::{Config, Idle, PcapConfig, SourceConfig, WorkerConfig};
use crate::control::control_socket::{ControlSocket, ControlWaker};
use crate::control::event_loop::{ControlEvent, ControlLoop, ControlMemory, ControlPoster};
use crate::control::futex::Futex;
use crate::control::multicast::Membership;
use crate::control::recovery::{RecoveryClient, RecoveryRings};
use crate::control::snapshot::{SnapshotClient, SnapshotRings};
use crate::frames_file::FramesFile;
use crate::orders::Orders;
use crate::rights::{
    Confinement, StillNeeded, drop_capabilities, filter_system_calls, share_one_heap,
};
use crate::segment_file::SegmentFile;
use crate::source::live::LiveSockets;
use crate::source::pcap::{PcapSource, Reader};
use crate::source::{Source, SourceError};
use crate::worker::{Worker, pin_to_core};

use changes::{FeedChanger, Teachers};
use feeds::{AttachedFeed, BookMemories, FeedMaker, attach_feeds};
use live::LiveParts;

/// What is going on, for whoever wants to print it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// All is ready. Until now nothing was in place, and the process could have been ended at any time;
    /// from now on the run has an end to come to.
    Prepared,
    /// The worker runs; the text says what was granted.
    Started(String),
    /// Feeds came or went.
    Changed(String),
    /// Something was refused that one can do without.
    Warning(String),
    /// The run failed; this is what it had taken in until then.
    BrokenOff(Box<Summary>),
}

/// Runs `config` until its source ends or `stop` is set.
pub fn run(
    config: &Config,
    stop: &AtomicBool,
    notice: &mut dyn FnMut(Notice),
) -> Result<Summary, RunError> {
    let clock = ClockKeeper::new();
    let epoch = SegmentFile::epoch(&config.worker.segment_dir, &config.worker.name, utc_ns());
    let spec = SegmentSpec {
        worker: &config.worker.name,
        epoch,
        pid: std::process::id(),
        event_slots: config.worker.event_slots,
        instruments: config.worker.instruments,
        feeds: config.worker.feed_slots,
        depths: config.worker.depth_slots,
    };
    let layout = SegmentLayout::new(&spec)?;
    SegmentFile::check_name(&config.worker.segment_dir, spec.worker)?;
    let frames = shared_frames(config, epoch)?;
    // The source is looked at before anything is put in place: its mistakes are the common ones.
    let source = OpenSource::open(config, &clock, frames.as_ref())?;
    let mut file =
        SegmentFile::create(&config.worker.segment_dir, spec.worker, layout.total_bytes())?;
    if config.worker.unlink_on_exit {
        file.unlink_on_exit();
    }
    let segment = SegmentWriter::create(file.words(), &spec)?;
    let memories = BookMemories::default();
    let mut rings = RecoveryRings::new();
    let mut snapshot_rings = SnapshotRings::new();
    let (complaints, complaints_of_snapshots) = mpsc::channel();
    let ends = AtomicBool::new(false);
    let mut pipeline = Pipeline::new(segment);
    let prefault = config.worker.prefault && matches!(source, OpenSource::Live(..));
    let mut maker = FeedMaker::new(segment, &memories, prefault);
    let attached = attach_feeds(&mut pipeline, &mut maker, config, notice)?;
    let text = source.describe(config);
    segment.header().set_source(&text);
    let frames = frames.as_ref();
    let file = &file;
    let enough = match &source {
        OpenSource::Pcap(source) => source.reader().enough(),
        OpenSource::Live(..) => Arc::default(),
    };
    let control =
        Control { config, segment, file, frames, clock: &clock, stop, ends: &ends, enough, text };
    match source {
        OpenSource::Pcap(mut source) => {
            // A file has no reason to be polled while its next packet is not due.
            let worker = Worker::new(pipeline, None, Idle::Park);
            let result = control.run(worker, &mut source, None, notice);
            let reader = source.reader();
            segment.counters().set(Counter::SourceCut, u64::from(reader.cut().is_some()));
            control.finish(result, None, Some(reader), notice)
        }
        OpenSource::Live(mut source, parts, mut memberships) => {
            let worker_clock = Some(clock.worker_clock());
            let mut worker = Worker::new(pipeline, worker_clock, config.worker.idle);
            let mut recovery = None;
            let (teacher, learned) = mpsc::channel();
            let mut teachers = Teachers { recovery: teacher, snapshots: None };
            let has_room = config.worker.feed_slots > config.feeds.len();
            if has_room || config.feeds.iter().any(|feed| feed.recovery.is_some()) {
                let (worker_end, control_end) = rings.ends();
                worker = worker.with_recovery(worker_end);
                let client = RecoveryClient::open(&config.feeds, learned, control_end, segment);
                recovery = Some(client.map_err(|source| RunError::Recovery { source })?);
            }
            let mut snapshots = None;
            if config.worker.snapshot_feeds {
                let (worker_end, client_end) = snapshot_rings.ends();
                worker = worker.with_snapshots(worker_end);
                let (teacher, learned) = mpsc::channel();
                teachers.snapshots = Some(teacher);
                let feeds = &config.feeds;
                let client =
                    SnapshotClient::new(feeds, learned, client_end, complaints, segment, &ends);
                snapshots = Some(Snapshots { client, complaints: complaints_of_snapshots });
            }
            let changes = match open_control_socket(config) {
                Ok((socket, waker)) => {
                    let memberships = &mut memberships;
                    Some(Changes { socket, waker, attached, maker, memberships, teachers })
                }
                Err(error) => {
                    let text = format!("feeds cannot be changed while this runs: {error}");
                    notice(Notice::Warning(text));
                    None
                }
            };
            let live =
                Some(Live { parts: &parts, recovery: recovery.as_mut(), snapshots, changes });
            let result = control.run(worker, &mut source, live, notice);
            control.finish(result, Some(&parts), None, notice)
        }
    }
}

/// The socket that `--reload` sends to, and what ends a wait for that.
fn open_control_socket(config: &Config) -> io::Result<(ControlSocket, ControlWaker)> {
    let WorkerConfig { segment_dir, name, .. } = &config.worker;
    let path = ControlSocket::path(segment_dir, name);
    let failed = |error| io::Error::other(format!("no socket at {}: {error}", path.display()));
    let socket = ControlSocket::bind(path.clone()).map_err(failed)?;
    let waker = socket.waker().map_err(failed)?;
    Ok((socket, waker))
}

/// Memory for frames that recorders read, if the configuration wants that.
fn shared_frames(config: &Config, epoch: u64) -> Result<Option<FramesFile>, RunError> {
    let (dir, worker) = (&config.worker.segment_dir, &config.worker.name);
    match &config.source {
        SourceConfig::Xdp(xdp) if xdp.retain_frames > 0 => {
            let (frames, frame_size) = (xdp.frames as usize, xdp.frame_size as usize);
            let spec = FramesSpec { epoch, queues: xdp.queues().count(), frames, frame_size };
            Ok(Some(FramesFile::reserve(dir, worker, spec)?))
        }
        _ => Ok(None),
    }
}

/// A source that is ready to be polled.
enum OpenSource<'m> {
    Pcap(PcapSource),
    Live(LiveSockets<'m>, LiveParts, Vec<Membership>),
}

impl<'m> OpenSource<'m> {
    fn open(
        config: &Config,
        clock: &ClockKeeper,
        frames: Option<&'m FramesFile>,
    ) -> Result<OpenSource<'m>, RunError> {
        match &config.source {
            SourceConfig::Pcap(PcapConfig { path, speed }) => {
                let reader = Reader::open(path)?;
                Ok(OpenSource::Pcap(PcapSource::new(reader, *speed)?))
            }
            SourceConfig::Xdp(xdp) => {
                let (source, parts, memberships) = LiveParts::open(xdp, config, clock, frames)?;
                Ok(OpenSource::Live(source, parts, memberships))
            }
        }
    }

    fn describe(&self, config: &Config) -> String {
        match (self, &config.source) {
            (OpenSource::Live(_, parts, memberships), SourceConfig::Xdp(xdp)) => {
                parts.describe(xdp, memberships)
            }
            (_, SourceConfig::Pcap(pcap)) => format!("pcap {}", pcap.path.display()),
            (_, SourceConfig::Xdp(xdp)) => format!("xdp {}", xdp.interface),
        }
    }
}

/// What the control thread looks after in a live run.
struct Live<'r, 'm> {
    parts: &'r LiveParts,
    recovery: Option<&'r mut RecoveryClient<'m>>,
    snapshots: Option<Snapshots<'m>>,
    changes: Option<Changes<'r, 'm>>,
}

/// The client that fetches snapshots, and what it complains of.
struct Snapshots<'m> {
    client: SnapshotClient<'m>,
    complaints: Receiver<String>,
}

/// What it takes to change feeds.
struct Changes<'r, 'm> {
    socket: ControlSocket,
    waker: ControlWaker,
    attached: Vec<AttachedFeed>,
    maker: FeedMaker<'m>,
    memberships: &'r mut Vec<Membership>,
    teachers: Teachers,
}

/// The control thread's side of a run.
struct Control<'r, 'm> {
    config: &'r Config,
    segment: SegmentWriter<'m>,
    file: &'m SegmentFile,
    frames: Option<&'m FramesFile>,
    clock: &'r ClockKeeper,
    stop: &'r AtomicBool,
    /// Tells the other threads than the worker that the run is over.
    ends: &'r AtomicBool,
    /// Tells a worker that waits for more of a pipe that no more is wanted.
    enough: Arc<AtomicBool>,
    text: String,
}

impl<'m> Control<'_, 'm> {
    fn header(&self) -> Header<'m> {
        self.segment.header()
    }

    /// Starts the worker and looks after it until it ends.
    fn run<S: Source + Send>(
        &self,
        mut worker: Worker<'m>,
        source: &mut S,
        live: Option<Live<'_, 'm>>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<(), RunError> {
        let (live, recovery, snapshots, changes) = match live {
            Some(live) => (Some(live.parts), live.recovery, live.snapshots, live.changes),
            None => (None, None, None, None),
        };
        let needed =
            StillNeeded { connections: snapshots.is_some(), memberships: changes.is_some() };
        notice(Notice::Prepared);
        self.header().set_heartbeat_ns(monotonic_ns());
        self.segment.start();
        // The frames first: who finds the segment finds those of its epoch.
        match self.frames {
            Some(frames) => frames.publish()?,
            None => self.file.remove_frames()?,
        }
        self.file.publish()?;
        if self.config.worker.confine != Confinement::None {
            drop_capabilities()?;
            share_one_heap();
        }
        let orders = Orders::default();
        let mut memory = Box::new(ControlMemory::new());
        let mut events = ControlLoop::new(&mut memory, self.config.worker.wake_ms);
        let ending = Ending { poster: events.poster(), orders: &orders };
        thread::scope(|scope| {
            let (pinned_tx, pinned_rx) = std::sync::mpsc::channel();
            let (go_tx, go_rx) = std::sync::mpsc::channel::<()>();
            let (orders_ref, core) = (&orders, self.config.worker.core);
            let handle = thread::Builder::new()
                .name("worker".to_owned())
                .spawn_scoped(scope, move || {
                    let _ending = ending;
                    let _ = pinned_tx.send(core.map(pin_to_core));
                    // No packet is looked at before the rights to harm are gone.
                    match go_rx.recv() {
                        Ok(()) => worker.run(source, orders_ref),
                        Err(_) => Ok(()),
                    }
                })
                .map_err(|source| RunError::Thread { source })?;
            let mut ending = EndOnDrop { ends: self.ends, waker: None };
            let mut complaints = None;
            if let Some(Snapshots { client, complaints: heard }) = snapshots {
                complaints = Some(heard);
                start(scope, "snapshots", move || client.run())?;
            }
            let (news, heard) = mpsc::channel();
            if let Some(changes) = changes {
                ending.waker = Some(changes.waker);
                let changer = FeedChanger {
                    socket: changes.socket,
                    config: self.config.clone(),
                    attached: changes.attached,
                    maker: changes.maker,
                    memberships: changes.memberships,
                    steered: live.map_or(&[], LiveParts::steered),
                    teachers: changes.teachers,
                    recovers: recovery.as_ref().is_some_and(|client| client.has_servers()),
                    orders: &orders,
                    poster: events.poster(),
                    notices: news,
                    ends: self.ends,
                };
                start(scope, "feeds", move || changer.run())?;
            }
            let pinned = pinned_rx.recv().ok().flatten();
            let confined = match self.config.worker.confine {
                Confinement::Full => filter_system_calls(needed),
                _ => Ok(()),
            };
            let mut steered = Ok(());
            let mut failure = None;
            if confined.is_ok() {
                // A worker whose thread is gone has said so by its event.
                let _ = go_tx.send(());
                steered = live.map_or(Ok(()), LiveParts::steer);
            }
            drop(go_tx);
            if confined.is_ok() && steered.is_ok() {
                self.announce(pinned, live, notice);
                let heard = Heard { complaints, news: heard };
                failure = self.look_after(live, recovery, &heard, &mut events, notice);
            }
            drop(ending);
            // Out of the map first: from here on nothing new is received.
            let unsteered = live.map_or(Ok(()), LiveParts::unsteer);
            if !handle.is_finished() {
                self.header().set_state(State::Draining);
            }
            orders.drain();
            self.enough.store(true, Ordering::Relaxed);
            let ended: Result<(), SourceError> = match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            confined?;
            steered?;
            ended?;
            failure.map_or(Ok(()), Err)?;
            unsteered?;
            Ok(())
        })
    }

    fn announce(
        &self,
        pinned: Option<std::io::Result<()>>,
        live: Option<&LiveParts>,
        notice: &mut dyn FnMut(Notice),
    ) {
        let worker = &self.config.worker;
        let core = match (worker.core, pinned) {
            (Some(core), Some(Ok(()))) => format!("pinned to core {core}"),
            (Some(core), Some(Err(error))) => {
                notice(Notice::Warning(format!(
                    "cannot pin the worker to core {core}: {error}; it runs where the scheduler \
                     puts it"
                )));
                "not pinned".to_owned()
            }
            _ => "not pinned".to_owned(),
        };
        let (name, path) = (&worker.name, self.file.path().display());
        notice(Notice::Started(format!("{name}: {}, {core}, segment {path}", self.text)));
        for refusal in live.iter().flat_map(|live| live.refusals()) {
            notice(Notice::Warning(refusal));
        }
        let steered = live.map_or(&[][..], LiveParts::steered);
        for warning in self.config.feeds.iter().flat_map(|feed| LiveParts::unsteered(feed, steered))
        {
            notice(Notice::Warning(warning));
        }
    }

    /// Until the worker ended, a stop was asked for, or nothing can arrive any more.
    fn look_after(
        &self,
        live: Option<&LiveParts>,
        mut recovery: Option<&mut RecoveryClient<'m>>,
        heard: &Heard,
        events: &mut ControlLoop<'_>,
        notice: &mut dyn FnMut(Notice),
    ) -> Option<RunError> {
        let mut waker = Waker::new(self.header().wake_word(), self.segment.ring());
        events.repeat(ControlEvent::Wake);
        events.repeat(ControlEvent::Heartbeat);
        if recovery.as_ref().is_some_and(|client| client.has_servers()) {
            events.repeat(ControlEvent::Recover);
        }
        if live.is_some() {
            events.repeat(ControlEvent::AlignClock);
        }
        while !self.stop.load(Ordering::Relaxed) {
            match events.next_event() {
                ControlEvent::WorkerEnded => break,
                ControlEvent::Wake => waker.tick(&Futex),
                ControlEvent::Recover => {
                    if let Some(recovery) = &mut recovery {
                        recovery.visit();
                    }
                }
                ControlEvent::AlignClock => {
                    self.clock.align();
                    for warning in live.iter().flat_map(|live| live.look_at_others(&self.segment)) {
                        notice(Notice::Warning(warning));
                    }
                }
                ControlEvent::Heartbeat => {
                    heard.tell(notice);
                    self.header().set_heartbeat_ns(monotonic_ns());
                    if let Some(live) = live {
                        live.ledger.update(&self.segment);
                        for complaint in live.complaints() {
                            notice(Notice::Warning(complaint));
                        }
                        for (failure, none_left) in live.failures() {
                            if none_left {
                                return Some(failure);
                            }
                            notice(Notice::Warning(format!("{failure}; the others go on")));
                        }
                    }
                }
            }
        }
        heard.tell(notice);
        None
    }

    /// The last entries in the ledger, and the end of the segment, whatever the worker's result.
    fn finish(
        &self,
        result: Result<(), RunError>,
        live: Option<&LiveParts>,
        file: Option<&Reader>,
        notice: &mut dyn FnMut(Notice),
    ) -> Result<Summary, RunError> {
        if let Some(live) = live {
            live.ledger.update(&self.segment);
            live.ledger.look_at_others(&self.segment);
        }
        self.header().set_heartbeat_ns(monotonic_ns());
        self.header().set_state(State::Ended);
        self.header().wake_word().wake_all(&Futex);
        let summary = Summary::read(&self.segment, self.file.path(), live.is_some(), file);
        match result {
            Ok(()) => Ok(summary),
            Err(error) => {
                if summary.frames > 0 {
                    notice(Notice::BrokenOff(Box::new(summary)));
                }
                Err(error)
            }
        }
    }
}

/// What other threads have to say.
struct Heard {
    complaints: Option<Receiver<String>>,
    news: Receiver<Notice>,
}

impl Heard {
    fn tell(&self, notice: &mut dyn FnMut(Notice)) {
        self.news.try_iter().for_each(&mut *notice);
        for complaint in self.complaints.iter().flat_map(Receiver::try_iter) {
            notice(Notice::Warning(complaint));
        }
    }
}

/// Starts a thread, and waits until it has: the filter of system calls is for threads that run.
fn start<'s, 'e>(
    scope: &'s thread::Scope<'s, 'e>,
    name: &str,
    work: impl FnOnce() + Send + 's,
) -> Result<(), RunError> {
    let (ready_tx, ready_rx) = mpsc::channel();
    let run = move || {
        let _ = ready_tx.send(());
        work();
    };
    let started = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run);
    started.map_err(|source| RunError::Thread { source })?;
    let _ = ready_rx.recv();
    Ok(())
}

/// Tells the threads that ask servers and change feeds to end, whatever ends the scope that waits
/// for them.
struct EndOnDrop<'r> {
    ends: &'r AtomicBool,
    waker: Option<ControlWaker>,
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}

/// Tells the control thread that the worker's thread ends, also by a panic.
struct Ending<'r, 'm> {
    poster: ControlPoster<'m>,
    orders: &'r Orders<'m>,
}

impl Drop for Ending<'_, '_> {
    fn drop(&mut self) {
        // The control thread takes events in until it has given the order to drain.
        while self.poster.post(Priority::Urgent, ControlEvent::WorkerEnded).is_err()
            && !self.orders.look().is_draining()
        {
            thread::yield_now();
        }
    }
}
