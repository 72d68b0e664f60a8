//! Frames from AF_XDP sockets, stamped by the NIC or with the clock once per batch.

use std::sync::Arc;
use std::time::Duration;

use super::{Polled, Source, SourceDrops, SourceError};
use crate::clock::WorkerClock;
use crate::control::ledger::TakenCounts;
use crate::nic_stamps::NicStamps;
use crate::xsk::{FRONT_WORDS, ReceiveTime, Retention, XskSocket, wait_any};

/// A redirect that was under way when the socket left the XSKMAP ends within the driver's poll.
const SETTLE: Duration = Duration::from_millis(20);

/// An AF_XDP socket and the clock that stamps its frames.
pub struct Live<'m> {
    socket: XskSocket,
    retention: Option<Retention<'m>>,
    clock: WorkerClock,
    stamps: Option<NicStamps>,
    drops: SourceDrops,
    taken: Arc<TakenCounts>,
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
        let (drops, taken) = (SourceDrops::default(), Arc::default());
        Live { socket, retention, clock, stamps, drops, taken }
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
pub struct LiveSockets<'m>(pub Vec<Live<'m>>);

impl Source for LiveSockets<'_> {
    /// One batch of each, in turn: no socket waits for another to fall silent.
    #[inline]
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        let mut frames = None;
        for socket in &mut self.0 {
            if let Polled::Frames(more) = socket.poll(sink)? {
                frames = Some(frames.unwrap_or(0_u32).saturating_add(more));
            }
        }
        Ok(frames.map_or(Polled::Idle, Polled::Frames))
    }

    fn wait(&self, timeout: Duration) {
        wait_any(self.0.iter().map(Live::socket), timeout);
    }

    fn settle_time(&self) -> Duration {
        SETTLE
    }

    fn drops(&self) -> SourceDrops {
        self.0.iter().map(Source::drops).fold(SourceDrops::default(), |sum, one| SourceDrops {
            oversize: sum.oversize.wrapping_add(one.oversize),
            invalid: sum.invalid.wrapping_add(one.invalid),
        })
    }
}
