//! What a protocol is to the rest: bytes that become a packet, and a packet that becomes events.

use super::channel::{Channel, FeedSpec};
use super::publisher::Publisher;
use super::session::{Packet, Verdict};
use super::trading_day::TradingDays;
use crate::arena::{Arena, ArenaError};
use crate::book::BookUsage;
use crate::event::session_change;

/// What became of a packet in its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Messages that were new and were taken.
    pub messages: u64,
    /// Whether the session started over with it, or another one began.
    pub started_over: bool,
}

impl Taken {
    /// What a verdict comes to.
    #[inline]
    pub fn of(verdict: &Verdict) -> Taken {
        let started_over =
            verdict.change.is_some_and(|change| change.change != session_change::END);
        Taken { messages: verdict.take, started_over }
    }
}

/// A feed of one protocol: it reads packets, keeps the books and publishes.
pub trait Translator<'m>: Sized {
    /// The protocol's name in configuration and status: `message format-transport`.
    const NAME: &'static str;
    /// The DBN publisher id (venue and dataset) of the protocol's records, unless configured
    /// otherwise. Databento's where it has one, or one from 0xF000 on.
    const PUBLISHER_ID: u16;

    /// A packet that was checked as a whole, messages and all.
    type Checked<'p>;

    /// A feed that claims the memory of its books. `days` are the midnights of the exchange's time
    /// zone, for protocols whose times count from there.
    fn new(
        channel: Channel<'m>,
        spec: &FeedSpec,
        days: &TradingDays,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ArenaError>;

    /// What counters call a cause for which [`check`](Self::check) refuses a packet.
    fn packet_error_name(cause: usize) -> &'static str;

    /// Checks a datagram's payload. It may be called twice on the same bytes.
    ///
    /// # Errors
    /// The index of the cause among those that the protocol names; nothing of the payload is to
    /// be used then.
    fn check<'p>(payload: &'p [u8]) -> Result<(Packet, Self::Checked<'p>), usize>;

    /// Whether a packet, which is new on its line, is of the stream that the feed follows, where
    /// others can share its group.
    ///
    /// # Errors
    /// As of [`check`](Self::check).
    #[inline]
    fn claim(&mut self, _checked: &Self::Checked<'_>) -> Result<(), usize> {
        Ok(())
    }

    /// Takes a packet in its turn: asks the session what is new in it, and publishes that.
    fn take(
        &mut self,
        packet: &Packet,
        checked: &Self::Checked<'_>,
        publisher: &mut Publisher<'m>,
    ) -> Taken;

    /// Nothing comes any more: ends what was waiting for more.
    fn finish(&mut self, _publisher: &mut Publisher<'m>) {}

    /// Whether its venues serve snapshots of which the three functions below make books.
    const SNAPSHOTS: bool = false;

    /// Empties the books, and lets `session` go on, or begin, at message `next_seq`.
    fn begin_snapshot(
        &mut self,
        _session: [u8; 10],
        _next_seq: u64,
        _publisher: &mut Publisher<'m>,
    ) {
    }

    /// Takes a message of a snapshot.
    fn on_snapshot_message(&mut self, _message: &[u8], _publisher: &mut Publisher<'m>) {}

    /// The snapshot is complete: the books are good.
    fn end_snapshot(&mut self, _publisher: &mut Publisher<'m>) {}

    /// How full the memory of its books is.
    fn usage(&self) -> BookUsage {
        BookUsage::default()
    }

    /// The protocol-independent half.
    fn channel(&mut self) -> &mut Channel<'m>;
}
