//! Frames from AF_XDP sockets, stamped by the NIC or with the clock once per batch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Polled, Source, SourceDrops, SourceError};
use crate::clock::WorkerClock;
use crate::control::ledger::TakenCounts;
use crate::nic_stamps::NicStamps;
use crate::xsk::{FRONT_WORDS, ReceiveTime, Retention, XskSocket, wait_any};

/// A redirect that was under way when the socket left the XSKMAP ends within the driver's poll.
const SETTLE: Duration = Duration::from_millis(20);

/// How a socket at which nothing arrives any more goes from the worker to the control thread, which
/// closes it: while it is open its queue belongs to this process, and the kernel takes its time.
#[derive(Default)]
pub struct Parting {
    is_over: AtomicBool,
    left: Mutex<Option<XskSocket>>,
}

impl Parting {
    /// Asks the worker to let go of the socket, once it finds nothing there.
    pub fn ask(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// The socket, once the worker has let go of it.
    pub fn take(&self) -> Option<XskSocket> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    #[inline]
    fn is_asked(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Parting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parting").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

/// An AF_XDP socket and the clock that stamps its frames.
pub struct Live<'m> {
    socket: XskSocket,
    retention: Option<Retention<'m>>,
    clock: WorkerClock,
    stamps: Option<NicStamps>,
    drops: SourceDrops,
    taken: Arc<TakenCounts>,
    parting: Arc<Parting>,
}

impl<'m> Live<'m> {
    /// Receives from `socket`; with `retention`, the frames are shared with recorders, and with
    /// `stamps`, the NIC says when they came.
    pub fn new(
        socket: XskSocket,
        retention: Option<Retention<'m>>,
        clock: WorkerClock,
        stamps: Option<NicStamps>,
    ) -> Live<'m> {
        let (drops, taken, parting) = (SourceDrops::default(), Arc::default(), Arc::default());
        Live { socket, retention, clock, stamps, drops, taken, parting }
    }

    /// How another thread has it closed.
    pub fn parting(&self) -> Arc<Parting> {
        Arc::clone(&self.parting)
    }

    /// What was taken from the socket, for another thread to read.
    pub fn taken(&self) -> Arc<TakenCounts> {
        Arc::clone(&self.taken)
    }

    /// The socket.
    pub fn socket(&self) -> &XskSocket {
        &self.socket
    }
}

impl Source for Live<'_> {
    #[inline]
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        let (clock, retention) = (&mut self.clock, self.retention.as_mut());
        let received = match &mut self.stamps {
            None => self.socket.receive_timed(BatchTime { clock, now: 0 }, retention, sink),
            Some(stamps) => {
                let time = stamps.held_against(clock);
                let received = self.socket.receive_timed(time, retention, sink);
                if received.frames > 0 {
                    self.taken.add_stamps(stamps.counts());
                }
                received
            }
        };
        self.drops.oversize += u64::from(received.oversize);
        self.drops.invalid += u64::from(received.invalid);
        let thrown_away = received.oversize + received.invalid;
        self.taken.add(received.frames, thrown_away);
        match received.frames + thrown_away {
            0 => Ok(Polled::Idle),
            _ => Ok(Polled::Frames(received.frames)),
        }
    }

    fn wait(&self, timeout: Duration) {
        self.socket.wait(timeout);
    }

    fn settle_time(&self) -> Duration {
        SETTLE
    }

    fn drops(&self) -> SourceDrops {
        self.drops
    }
}

/// One reading of the clock for all frames of a batch, which were there before.
struct BatchTime<'c> {
    clock: &'c mut WorkerClock,
    now: u64,
}

impl ReceiveTime for BatchTime<'_> {
    const LOOKS_IN_FRONT: bool = false;

    #[inline]
    fn begin_batch(&mut self) {
        self.now = self.clock.now();
    }

    #[inline]
    fn of(&mut self, _: Option<[u64; FRONT_WORDS]>) -> u64 {
        self.now
    }
}

/// All sockets of a worker: queues of one interface, or of several.
pub struct LiveSockets<'m> {
    sockets: Vec<Live<'m>>,
    /// What those dropped that are no longer among them.
    drops_before: SourceDrops,
}

impl<'m> LiveSockets<'m> {
    /// Receives from all of them.
    pub fn new(sockets: Vec<Live<'m>>) -> LiveSockets<'m> {
        LiveSockets { sockets, drops_before: SourceDrops::default() }
    }

    #[cold]
    fn let_go(&mut self, index: usize) {
        let parting = self.sockets[index].parting();
        // Never held for longer than a moment; the next poll comes by again.
        let Ok(mut left) = parting.left.try_lock() else { return };
        let Live { socket, drops, .. } = self.sockets.remove(index);
        self.drops_before = sum(self.drops_before, drops);
        *left = Some(socket);
    }
}

impl Source for LiveSockets<'_> {
    /// One batch of each, in turn: no socket waits for another to fall silent.
    #[inline]
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        let (mut frames, mut over) = (None, None);
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            match socket.poll(sink)? {
                Polled::Frames(more) => {
                    frames = Some(frames.unwrap_or(0_u32).saturating_add(more));
                }
                _ if socket.parting.is_asked() => over = Some(index),
                _ => {}
            }
        }
        if let Some(index) = over {
            self.let_go(index);
        }
        Ok(frames.map_or(Polled::Idle, Polled::Frames))
    }

    fn wait(&self, timeout: Duration) {
        wait_any(self.sockets.iter().map(Live::socket), timeout);
    }

    fn settle_time(&self) -> Duration {
        SETTLE
    }

    fn drops(&self) -> SourceDrops {
        self.sockets.iter().map(Source::drops).fold(self.drops_before, sum)
    }
}

fn sum(a: SourceDrops, b: SourceDrops) -> SourceDrops {
    SourceDrops {
        oversize: a.oversize.wrapping_add(b.oversize),
        invalid: a.invalid.wrapping_add(b.invalid),
    }
}
