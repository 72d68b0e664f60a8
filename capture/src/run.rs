//! One run of a capture, from its configuration to its summary.
//!
//! The order matters. Everything that can fail comes first and leaves nothing behind; then the
//! segment is put in place; only then does the socket take its place in the XSKMAP, so that no
//! packet arrives that no reader could see. The end goes backwards: out of the map, take in what
//! was received, close the ledger, mark the segment ended.

mod error;
mod feeds;
mod live;
mod summary;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use wiretape_core::arena::Arena;
use wiretape_core::event_loop::Priority;
use wiretape_core::frames::FramesSpec;
use wiretape_core::pipeline::Pipeline;
use wiretape_core::segment::{Counter, Header, SegmentLayout, SegmentSpec, SegmentWriter, State};

pub use error::RunError;
pub use summary::{FeedSummary, Summary};

use crate::clock::{ClockKeeper, monotonic_ns, utc_ns};
use crate::config::{Config, FeedConfig, Idle, PcapConfig, SourceConfig};
use crate::control::event_loop::{ControlEvent, ControlLoop, ControlMemory, ControlPoster};
use crate::control::recovery::{RecoveryClient, RecoveryRings};
use crate::control::snapshot::{SnapshotClient, SnapshotRings};
use crate::control::waker::{Waker, wake_readers};
use crate::frames_file::FramesFile;
use crate::rights::{
    Confinement, Connections, drop_capabilities, filter_system_calls, share_one_heap,
};
use crate::segment_file::SegmentFile;
use crate::source::live::LiveSockets;
use crate::source::pcap::{PcapSource, Reader};
use crate::source::{Source, SourceError};
use crate::worker::{Orders, Worker, pin_to_core};

use feeds::{BookMemory, add_feeds, populate};
use live::LiveParts;

/// What is going on, for whoever wants to print it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The worker runs; the text says what was granted.
    Started(String),
    /// Something was refused that one can do without.
    Warning(String),
}

/// Runs `config` until its source ends or `stop` is set.
pub fn run(
    config: &Config,
    stop: &AtomicBool,
    notice: &mut dyn FnMut(Notice),
) -> Result<Summary, RunError> {
    let clock = ClockKeeper::new();
    let epoch = utc_ns();
    let spec = SegmentSpec {
        worker: &config.worker.name,
        epoch,
        pid: std::process::id(),
        event_slots: config.worker.event_slots,
        instruments: config.worker.instruments,
        feeds: config.feeds.len(),
        depths: config.feeds.iter().map(FeedConfig::depths).sum(),
    };
    let layout = SegmentLayout::new(&spec)?;
    let mut frames = shared_frames(config, epoch)?;
    if let Some(frames) = &mut frames
        && config.worker.unlink_on_exit
    {
        frames.unlink_on_exit();
    }
    // The source is looked at before anything is put in place: its mistakes are the common ones.
    let source = OpenSource::open(config, &clock, frames.as_ref())?;
    let mut file =
        SegmentFile::create(&config.worker.segment_dir, spec.worker, layout.total_bytes())?;
    if config.worker.unlink_on_exit {
        file.unlink_on_exit();
    }
    let segment = SegmentWriter::create(file.words(), &spec)?;
    let mut memory = BookMemory::reserve(&config.feeds)?;
    let base = memory.base();
    let mut arena = Arena::new(memory.bytes());
    let reserved = arena.left();
    let mut rings = RecoveryRings::new();
    let mut snapshot_rings = SnapshotRings::new();
    let (complaints, complaints_of_snapshots) = mpsc::channel();
    let no_more_snapshots = AtomicBool::new(false);
    let mut pipeline = Pipeline::new(segment);
    add_feeds(&mut pipeline, &mut arena, config, source.first_packet_ns())?;
    if config.worker.prefault
        && let OpenSource::Live(..) = source
        && let Err(error) = populate(base, reserved - arena.left())
    {
        notice(Notice::Warning(format!(
            "cannot claim the books' memory at the start: {error}; the first packets will wait for \
             it"
        )));
    }
    let text = source.describe(config);
    segment.header().set_source(&text);
    let frames = frames.as_ref();
    let control = Control { config, segment, file: &file, frames, clock: &clock, stop, text };
    match source {
        OpenSource::Pcap(mut source) => {
            // A file has no reason to be polled while its next packet is not due.
            let worker = Worker::new(pipeline, None, Idle::Park);
            let result = control.run(worker, &mut source, None, notice);
            let reader = source.reader();
            segment.counters().set(Counter::SourceCut, u64::from(reader.cut().is_some()));
            control.finish(result, None, reader.cut(), reader.snapped())
        }
        OpenSource::Live(mut source, parts) => {
            let worker_clock = Some(clock.worker_clock());
            let mut worker = Worker::new(pipeline, worker_clock, config.worker.idle);
            let mut recovery = None;
            if config.feeds.iter().any(|feed| feed.recovery.is_some()) {
                let (worker_end, control_end) = rings.ends();
                worker = worker.with_recovery(worker_end);
                let client = RecoveryClient::open(&config.feeds, control_end, segment);
                recovery = Some(client.map_err(|source| RunError::Recovery { source })?);
            }
            let mut snapshots = None;
            if config.feeds.iter().any(|feed| feed.snapshot.is_some()) {
                let (worker_end, client_end) = snapshot_rings.ends();
                worker = worker.with_snapshots(worker_end);
                let stop = &no_more_snapshots;
                let client = SnapshotClient::new(&config.feeds, client_end, complaints, stop);
                snapshots = Some(Snapshots { client, stop, complaints: complaints_of_snapshots });
            }
            let live = Some(Live { parts: &parts, recovery: recovery.as_mut(), snapshots });
            let result = control.run(worker, &mut source, live, notice);
            control.finish(result, Some(&parts), None, 0)
        }
    }
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
    Live(LiveSockets<'m>, LiveParts),
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
                let (source, parts) = LiveParts::open(xdp, &config.feeds, clock, frames)?;
                Ok(OpenSource::Live(source, parts))
            }
        }
    }

    /// When the first packet is, or will be, received.
    fn first_packet_ns(&self) -> u64 {
        match self {
            OpenSource::Pcap(source) => source.first_packet_ns().unwrap_or_else(utc_ns),
            OpenSource::Live(..) => utc_ns(),
        }
    }

    fn describe(&self, config: &Config) -> String {
        match (self, &config.source) {
            (OpenSource::Live(_, parts), SourceConfig::Xdp(xdp)) => parts.describe(xdp),
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
}

/// The client that fetches snapshots, how it is told to stop, and what it complains of.
struct Snapshots<'m> {
    client: SnapshotClient<'m>,
    stop: &'m AtomicBool,
    complaints: Receiver<String>,
}

/// The control thread's side of a run.
struct Control<'r, 'm> {
    config: &'r Config,
    segment: SegmentWriter<'m>,
    file: &'m SegmentFile,
    frames: Option<&'m FramesFile>,
    clock: &'r ClockKeeper,
    stop: &'r AtomicBool,
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
        let (live, recovery, snapshots) = match live {
            Some(live) => (Some(live.parts), live.recovery, live.snapshots),
            None => (None, None, None),
        };
        let connections = match &snapshots {
            Some(_) => Connections::Tcp,
            None => Connections::None,
        };
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
            let (mut stop_snapshots, mut complaints) = (None, None);
            if let Some(Snapshots { client, stop, complaints: heard }) = snapshots {
                (stop_snapshots, complaints) = (Some(StopOnDrop(stop)), Some(heard));
                let (ready_tx, ready_rx) = mpsc::channel();
                thread::Builder::new()
                    .name("snapshots".to_owned())
                    .spawn_scoped(scope, move || {
                        // The filter is for a thread that has started.
                        let _ = ready_tx.send(());
                        client.run();
                    })
                    .map_err(|source| RunError::Thread { source })?;
                let _ = ready_rx.recv();
            }
            let pinned = pinned_rx.recv().ok().flatten();
            let confined = match self.config.worker.confine {
                Confinement::Full => filter_system_calls(connections),
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
                self.announce(pinned, notice);
                failure = self.look_after(live, recovery, complaints.as_ref(), &mut events, notice);
            }
            drop(stop_snapshots);
            // Out of the map first: from here on nothing new is received.
            let unsteered = live.map_or(Ok(()), LiveParts::unsteer);
            if !handle.is_finished() {
                self.header().set_state(State::Draining);
            }
            orders.drain();
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

    fn announce(&self, pinned: Option<std::io::Result<()>>, notice: &mut dyn FnMut(Notice)) {
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
    }

    /// Until the worker ended, a stop was asked for, or nothing can arrive any more.
    fn look_after(
        &self,
        live: Option<&LiveParts>,
        mut recovery: Option<&mut RecoveryClient<'m>>,
        complaints: Option<&Receiver<String>>,
        events: &mut ControlLoop<'_>,
        notice: &mut dyn FnMut(Notice),
    ) -> Option<RunError> {
        let mut waker = Waker::new(self.header(), self.segment.ring());
        events.repeat(ControlEvent::Wake);
        events.repeat(ControlEvent::Heartbeat);
        if recovery.is_some() {
            events.repeat(ControlEvent::Recover);
        }
        if live.is_some() {
            events.repeat(ControlEvent::AlignClock);
        }
        while !self.stop.load(Ordering::Relaxed) {
            match events.next_event() {
                ControlEvent::WorkerEnded => break,
                ControlEvent::Wake => waker.tick(),
                ControlEvent::Recover => {
                    if let Some(recovery) = &mut recovery {
                        recovery.visit();
                    }
                }
                ControlEvent::AlignClock => {
                    self.clock.align();
                }
                ControlEvent::Heartbeat => {
                    for complaint in complaints.into_iter().flat_map(Receiver::try_iter) {
                        notice(Notice::Warning(complaint));
                    }
                    self.header().set_heartbeat_ns(monotonic_ns());
                    if let Some(live) = live {
                        live.ledger.update(&self.segment);
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
        None
    }

    /// The last entries in the ledger, and the end of the segment, whatever the worker's result.
    fn finish(
        &self,
        result: Result<(), RunError>,
        live: Option<&LiveParts>,
        cut: Option<crate::source::pcap::CutRecord>,
        snapped: u64,
    ) -> Result<Summary, RunError> {
        if let Some(live) = live {
            live.ledger.update(&self.segment);
        }
        self.header().set_heartbeat_ns(monotonic_ns());
        self.header().set_state(State::Ended);
        wake_readers(&self.header());
        result?;
        Ok(Summary::read(&self.segment, self.file.path(), live.is_some(), cut, snapped))
    }
}

/// Tells a thread to stop, whatever ends the scope that waits for it.
struct StopOnDrop<'m>(&'m AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Tells the control thread that the worker's thread ends, also by a panic.
struct Ending<'r, 'm> {
    poster: ControlPoster<'m>,
    orders: &'r Orders,
}

impl Drop for Ending<'_, '_> {
    fn drop(&mut self) {
        // The control thread takes events in until it has given the order to drain.
        while self.poster.post(Priority::Urgent, ControlEvent::WorkerEnded).is_err()
            && !self.orders.is_draining()
        {
            thread::yield_now();
        }
    }
}
