//! A network that loses what it is told to lose, so that a test knows what was lost.

use std::net::SocketAddrV4;
use std::ops::RangeInclusive;

use wiretape_core::wire::moldudp64;

use super::{Sent, Sink, SinkError};
use crate::exchange::packet::Packet;

/// Message numbers that are lost on the way to one destination, or to all.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The destination; `None` for all.
    pub to: Option<SocketAddrV4>,
    /// The numbers.
    pub numbers: Vec<RangeInclusive<u64>>,
}

impl Loss {
    fn takes(&self, packet: &Packet<'_>) -> bool {
        let Some((to, payload)) = packet.datagram else { return false };
        if self.to.is_some_and(|lossy| lossy != to) {
            return false;
        }
        let Ok(mold) = moldudp64::Packet::parse(payload) else { return false };
        let (first, end) = (mold.sequence(), mold.next_sequence());
        self.numbers.iter().any(|lost| *lost.start() < end && *lost.end() >= first)
    }
}

/// Leaves out every MoldUDP64 packet that carries a lost message, and sends the others on.
pub struct LossySink<'s, S> {
    sink: &'s mut S,
    losses: Vec<Loss>,
    lost: u64,
}

impl<'s, S: Sink> LossySink<'s, S> {
    /// Loses `losses` on the way into `sink`.
    pub fn new(sink: &'s mut S, losses: Vec<Loss>) -> LossySink<'s, S> {
        LossySink { sink, losses, lost: 0 }
    }

    /// Packets lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl<S: Sink> Sink for LossySink<'_, S> {
    const BATCH: usize = S::BATCH;

    fn send(&mut self, packets: &[Packet<'_>]) -> Result<Sent, SinkError> {
        if self.losses.is_empty() {
            return self.sink.send(packets);
        }
        let kept = packets.iter().filter(|packet| !self.losses.iter().any(|l| l.takes(packet)));
        let kept: Vec<Packet<'_>> = kept.copied().collect();
        self.lost += (packets.len() - kept.len()) as u64;
        if kept.is_empty() { Ok(Sent::default()) } else { self.sink.send(&kept) }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}
