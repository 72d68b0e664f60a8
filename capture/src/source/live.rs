//! Frames from an AF_XDP socket, stamped with the clock once per batch.

use std::time::Duration;

use super::{Polled, Source, SourceDrops, SourceError};
use crate::clock::WorkerClock;
use crate::xsk::{Retention, XskSocket};

/// A redirect that was under way when the socket left the XSKMAP ends within the driver's poll.
const SETTLE: Duration = Duration::from_millis(20);

/// An AF_XDP socket and the clock that stamps its frames.
pub struct Live<'m> {
    socket: XskSocket,
    retention: Option<Retention<'m>>,
    clock: WorkerClock,
    drops: SourceDrops,
}

impl<'m> Live<'m> {
    /// Receives from `socket`; with `retention`, the frames are shared with recorders.
    pub fn new(
        socket: XskSocket,
        retention: Option<Retention<'m>>,
        clock: WorkerClock,
    ) -> Live<'m> {
        Live { socket, retention, clock, drops: SourceDrops::default() }
    }

    /// The socket.
    pub fn socket(&self) -> &XskSocket {
        &self.socket
    }
}

impl Source for Live<'_> {
    #[inline]
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        // All frames of a batch were there before this moment: one reading stamps them all.
        let now = self.clock.now();
        let each = |frame: &[u8]| sink(frame, now);
        let received = match &mut self.retention {
            None => self.socket.receive(each),
            Some(retention) => self.socket.receive_retained(retention, now, each),
        };
        self.drops.oversize += u64::from(received.oversize);
        self.drops.invalid += u64::from(received.invalid);
        match received.frames + received.oversize + received.invalid {
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
