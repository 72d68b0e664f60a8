//! Frames from an AF_XDP socket, stamped with the clock once per batch.

use std::time::Duration;

use super::{Polled, Source, SourceDrops, SourceError};
use crate::clock::WorkerClock;
use crate::xsk::XskSocket;

/// A redirect that was under way when the socket left the XSKMAP ends within the driver's poll.
const SETTLE: Duration = Duration::from_millis(20);

/// An AF_XDP socket and the clock that stamps its frames.
pub struct Live {
    socket: XskSocket,
    clock: WorkerClock,
    drops: SourceDrops,
}

impl Live {
    /// Receives from `socket`.
    pub fn new(socket: XskSocket, clock: WorkerClock) -> Live {
        Live { socket, clock, drops: SourceDrops::default() }
    }

    /// The socket.
    pub fn socket(&self) -> &XskSocket {
        &self.socket
    }
}

impl Source for Live {
    #[inline]
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        // All frames of a batch were there before this moment: one reading stamps them all.
        let now = self.clock.now();
        let received = self.socket.receive(|frame| sink(frame, now));
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
