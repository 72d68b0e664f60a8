//! What every feed does alike, whatever its protocol: session tracking, gaps, counters, health,
//! and the instruments' market states.

use super::arbiter::Patience;
use super::depth::{Changed, DepthBoard, DepthRows};
use super::publisher::{MarketState, MessageStamp, Publisher};
use super::session::{Change, Gap, Packet, PacketKind, Session, Verdict};
use crate::arena::{Arena, ArenaError};
use crate::book::BookUsage;
use crate::event::{
    GapMsg, MboMsg, NO_INSTRUMENT, RecordHeader, SessionMsg, flags, gap_reason, session_change,
};
use crate::prefetch::expect_write;
use crate::segment::{
    ErrorGroup, FeedCounter, FeedGauge, FeedIdentity, FeedWriter, SessionState, SymbolEntry, health,
};

/// With two lines, a packet below the expected number that was sent no later than this after the
/// latest one is the other line's copy, and no restart of the session.
const TWO_LINES_RESTART_MARGIN_NS: u64 = 250_000_000;

/// How a feed is set up. Memory for it comes from the arena.
#[derive(Clone, Debug)]
pub struct FeedSpec {
    /// Who it is, for the segment.
    pub identity: FeedIdentity,
    /// DBN publisher id of its records.
    pub publisher_id: u16,
    /// Live orders that its book must hold; nothing for a price-level feed.
    pub orders: u32,
    /// Price levels that its book must hold.
    pub levels: u32,
    /// Group and port of line B, if there is one; line A's are the identity's.
    pub line_b: Option<([u8; 4], u16)>,
    /// How long, and in how much memory, packets wait for what is missing before them.
    pub patience: Patience,
}

/// The protocol-independent half of a feed.
#[derive(Debug)]
pub struct Channel<'m> {
    index: u8,
    publisher_id: u16,
    first_instrument: u32,
    session: Session,
    writer: FeedWriter<'m>,
    state: SessionState,
    /// Flags of every record: [`flags::MAYBE_BAD_BOOK`] after a loss.
    record_flags: u8,
    markets: &'m mut [MarketState],
    /// Of each local instrument its place for depth plus one; 0 for none, empty if none is chosen.
    depth_places: &'m mut [u32],
    /// One past the highest local instrument used, so that a new session touches no more.
    used: u32,
    depth: Option<DepthBoard<'m>>,
    /// See [`renumber_each_session`](Self::renumber_each_session).
    renumbers: bool,
}

impl<'m> Channel<'m> {
    /// Claims the memory. The segment says nothing of the feed before [`announce_feed`](
    /// Self::announce_feed).
    pub fn new(
        spec: &FeedSpec,
        index: u8,
        writer: FeedWriter<'m>,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ArenaError> {
        let margin = if spec.line_b.is_some() { TWO_LINES_RESTART_MARGIN_NS } else { 0 };
        Ok(Channel {
            index,
            publisher_id: spec.publisher_id,
            first_instrument: spec.identity.first_instrument,
            session: Session::new().with_restart_margin(margin),
            writer,
            state: SessionState::default(),
            record_flags: 0,
            markets: arena.alloc_slice("markets", spec.identity.instruments as usize)?,
            depth_places: &mut [],
            used: 0,
            depth: None,
            renumbers: false,
        })
    }

    /// The same, where instruments' numbers are the venue's own and hold for one session: with
    /// another, what is known of an instrument's symbol and status is no longer its own.
    pub fn renumber_each_session(self) -> Self {
        Channel { renumbers: true, ..self }
    }

    /// States in the segment that the feed is there, and who it is.
    #[cold]
    pub fn announce_feed(&self, identity: &FeedIdentity) {
        self.publish_depth_usage();
        self.writer.set_identity(identity);
    }

    /// Tells readers that the feed was removed: nothing of it follows.
    #[cold]
    pub fn remove(&mut self, publisher: &mut Publisher<'m>) {
        let next_seq = self.session.next_seq();
        publisher.publish(&SessionMsg {
            hd: self.feed_header::<SessionMsg>(publisher.ts_recv()),
            ts_recv: publisher.ts_recv(),
            next_seq,
            previous_next_seq: next_seq,
            session: self.session.id(),
            feed: self.index,
            change: session_change::REMOVED,
            reserved: 0,
        });
        let last_packet_ns = self.state.last_packet_ns;
        self.end_packet(publisher);
        self.state.last_packet_ns = last_packet_ns;
        self.writer.set_session(&self.state);
        self.writer.set_removed();
    }

    /// From now on, chosen instruments have depth and features in the segment.
    pub fn set_depth(
        &mut self,
        board: DepthBoard<'m>,
        arena: &mut Arena<'m>,
    ) -> Result<(), ArenaError> {
        self.depth_places = arena.alloc_slice("depth places", self.markets.len())?;
        self.depth = Some(board);
        Ok(())
    }

    /// Says in the segment how full the memory of the books is.
    pub fn publish_usage(&self, usage: &BookUsage) {
        let gauges = [
            (FeedGauge::Orders, usage.orders),
            (FeedGauge::OrdersPeak, usage.orders_peak),
            (FeedGauge::OrdersCapacity, usage.orders_capacity),
            (FeedGauge::Levels, usage.levels),
            (FeedGauge::LevelsPeak, usage.levels_peak),
            (FeedGauge::LevelsCapacity, usage.levels_capacity),
        ];
        for (gauge, value) in gauges {
            self.writer.set_gauge(gauge, value.into());
        }
    }

    /// Says in the segment how many instruments have depth, if any can.
    #[cold]
    pub fn publish_depth_usage(&self) {
        let Some((used, places)) = self.depth.as_ref().map(DepthBoard::usage) else { return };
        self.writer.set_gauge(FeedGauge::Depths, used as u64);
        self.writer.set_gauge(FeedGauge::DepthsCapacity, places as u64);
    }

    /// The place that a local instrument has for depth, if it was chosen.
    #[inline]
    pub fn depth_place(&self, local: u32) -> Option<usize> {
        (*self.depth_places.get(local as usize)? as usize).checked_sub(1)
    }

    /// Publishes depth and features of `local` at its `place`, true as of event `event_seq`, after
    /// `change` took the rows there on: see [`DepthBoard::publish`].
    #[inline(always)]
    pub fn publish_depth(
        &mut self,
        local: u32,
        place: usize,
        event_seq: u64,
        stamp: &MessageStamp,
        change: impl FnOnce(&mut DepthRows) -> Changed,
    ) {
        let (Some(board), Some(market)) = (&mut self.depth, self.markets.get(local as usize))
        else {
            return;
        };
        let maybe_bad = if self.state.maybe_bad_book { health::MAYBE_BAD } else { 0 };
        let health = market.health() | maybe_bad;
        board.publish(place, market.trades(), health, event_seq, stamp, change);
    }

    /// The feed's counters.
    #[inline]
    pub fn count(&self, counter: FeedCounter, amount: u64) {
        self.writer.add(counter, amount);
    }

    /// Counts a message by its type.
    #[inline]
    pub fn count_type(&self, message_type: u8) {
        self.writer.add_type(message_type);
    }

    /// Counts a packet that arrived and whose content is malformed for `cause`.
    pub fn malformed(&self, cause: usize) {
        self.writer.add(FeedCounter::Packets, 1);
        self.writer.add(FeedCounter::MalformedPackets, 1);
        self.writer.add_error(ErrorGroup::Packet, cause);
    }

    /// Instruments that the feed has room for.
    #[inline]
    pub fn instruments(&self) -> u32 {
        self.markets.len() as u32
    }

    /// Instruments in use: local ids below this may have state.
    #[inline]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Takes note that local instrument `local` is in use; `false` if there is no room for it.
    #[inline]
    pub fn touch(&mut self, local: u32) -> bool {
        if local < self.used {
            return true;
        }
        if local as usize >= self.markets.len() {
            return false;
        }
        self.used = local.wrapping_add(1);
        true
    }

    /// What the records of a message of local instrument `local` share.
    #[inline]
    pub fn stamp(
        &self,
        local: u32,
        sequence: u64,
        ts_event: u64,
        ts_sent: u64,
        publisher: &Publisher<'m>,
    ) -> MessageStamp {
        MessageStamp {
            publisher_id: self.publisher_id,
            feed: self.index,
            flags: self.record_flags,
            instrument: self.instrument(local),
            ts_event,
            ts_sent,
            ts_recv: publisher.ts_recv(),
            sequence,
        }
    }

    /// The segment's instrument id of `local`.
    #[inline]
    pub fn instrument(&self, local: u32) -> u32 {
        self.first_instrument.wrapping_add(local)
    }

    /// Whether the symbol of `local` was announced, in this session if it holds for one.
    #[inline]
    pub fn is_announced(&self, local: u32) -> bool {
        self.markets.get(local as usize).is_some_and(MarketState::is_announced)
    }

    /// Whether the symbol of `local` that readers know is that of an earlier session.
    pub fn was_announced_before(&self, local: u32) -> bool {
        self.markets.get(local as usize).is_some_and(MarketState::was_announced_before)
    }

    /// The market state of `local`.
    #[inline]
    pub fn market(&mut self, local: u32) -> Option<&mut MarketState> {
        self.markets.get_mut(local as usize)
    }

    /// Asks for the lines of the market state of `local`, the writer's own and the readers'.
    #[inline(always)]
    pub fn expect(&self, local: u32, publisher: &Publisher<'m>) {
        let state = self.markets.as_ptr().wrapping_add(local as usize);
        expect_write(state.cast());
        expect_write(state.wrapping_add(1).cast::<u8>().wrapping_sub(1));
        publisher.expect_market(self.instrument(local));
    }

    /// Publishes the market state of `local`, true as of event `event_seq`.
    #[inline]
    pub fn publish_market(
        &mut self,
        local: u32,
        event_seq: u64,
        stamp: &MessageStamp,
        publisher: &Publisher<'m>,
    ) {
        self.change_market(local, event_seq, stamp, publisher, |_| true);
    }

    /// Changes the market state of `local`, and publishes it, true as of event `event_seq`, if
    /// `change` says so.
    #[inline(always)]
    pub fn change_market(
        &mut self,
        local: u32,
        event_seq: u64,
        stamp: &MessageStamp,
        publisher: &Publisher<'m>,
        change: impl FnOnce(&mut MarketState) -> bool,
    ) {
        let Some(state) = self.markets.get_mut(local as usize) else { return };
        if change(state) {
            let mut entry = state.entry(event_seq, stamp.ts_event, stamp.ts_recv);
            entry.health |= if self.state.maybe_bad_book { health::MAYBE_BAD } else { 0 };
            publisher.set_market(stamp.instrument, &entry);
        }
    }

    /// Announces the symbol of `local`.
    pub fn announce(
        &mut self,
        local: u32,
        symbol: &[u8],
        round_lot: u32,
        publisher: &mut Publisher<'m>,
    ) -> SymbolEntry {
        let entry = SymbolEntry {
            symbol: padded(symbol),
            feed: u16::from(self.index),
            publisher_id: self.publisher_id,
            round_lot,
        };
        publisher.announce(self.instrument(local), &entry);
        if let Some(market) = self.markets.get_mut(local as usize) {
            market.set_announced();
        }
        if let (Some(board), Some(place)) =
            (&mut self.depth, self.depth_places.get_mut(local as usize))
        {
            let is_full = board.announce(place, symbol);
            self.count(FeedCounter::DepthsFull, u64::from(is_full));
            self.publish_depth_usage();
        }
        entry
    }

    /// Takes the symbols of earlier sessions that this one did not announce again out of the
    /// directory: they may stand under another number by now.
    #[cold]
    pub fn withdraw_symbols(&self, publisher: &mut Publisher<'m>) {
        for local in (0..self.used).filter(|local| self.was_announced_before(*local)) {
            publisher.announce(self.instrument(local), &SymbolEntry::default());
        }
    }

    /// Counts an error of the book, and marks the instrument, for readers of the market table at
    /// once.
    #[cold]
    pub fn book_error(
        &mut self,
        local: u32,
        cause: usize,
        stamp: &MessageStamp,
        publisher: &Publisher<'m>,
    ) {
        self.count(FeedCounter::BookErrors, 1);
        self.writer.add_error(ErrorGroup::Book, cause);
        self.doubt(local, stamp, publisher);
    }

    /// Marks the book of an instrument as one that lacks a message, for readers of the market table
    /// at once.
    #[cold]
    pub fn doubt(&mut self, local: u32, stamp: &MessageStamp, publisher: &Publisher<'m>) {
        if let Some(market) = self.markets.get_mut(local as usize) {
            market.set_health(health::BOOK_ERROR, true);
        }
        let instrument = self.instrument(local);
        let stamp = MessageStamp { instrument, ..*stamp };
        self.publish_market(local, publisher.last_sequence(), &stamp, publisher);
        if let (Some(board), Some(place)) = (&self.depth, self.depth_place(local)) {
            board.mark(place, instrument, health::BOOK_ERROR);
        }
    }

    /// Marks all books: one of them lacks a message, and nobody can tell which.
    #[cold]
    pub fn doubt_all(&mut self) {
        self.set_maybe_bad(true);
    }

    /// Marks the books of the feed as possibly wrong, or as good again. Records carry it at once,
    /// market entries with their next update; the feed's session state tells it for all.
    fn set_maybe_bad(&mut self, on: bool) {
        self.record_flags = if on { flags::MAYBE_BAD_BOOK } else { 0 };
        self.state.maybe_bad_book = on;
    }

    /// Whether the books of the feed may be wrong.
    #[inline]
    pub fn is_maybe_bad(&self) -> bool {
        self.state.maybe_bad_book
    }

    /// Lets the session go on, or begin, at message `next_seq`, with books that are made from a
    /// snapshot: until its [end](Self::end_snapshot) they may be wrong. Returns whether the
    /// caller's books are to be emptied first.
    #[cold]
    pub fn begin_snapshot(
        &mut self,
        session: [u8; 10],
        next_seq: u64,
        ts_event: u64,
        publisher: &mut Publisher<'m>,
    ) -> bool {
        let change = self.session.join(session, next_seq);
        let emptied = self.change_session(&change, 0, ts_event, publisher);
        self.set_maybe_bad(true);
        self.record_flags |= flags::SNAPSHOT;
        for market in self.markets.iter_mut().take(self.used as usize) {
            if market.is_known() {
                market.set_health(health::BOOK_ERROR | health::UNDIRECTED, false);
                market.forget_orders();
            }
        }
        emptied || change.change == session_change::SNAPSHOT
    }

    /// The books are those of the snapshot as a whole.
    pub fn end_snapshot(&mut self) {
        self.set_maybe_bad(false);
    }

    /// What there is of the snapshot stays, and may be wrong.
    pub fn break_snapshot_off(&mut self) {
        self.set_maybe_bad(true);
    }

    /// Says in the session's state whether packets wait for a snapshot.
    pub fn set_joining(&mut self, on: bool) {
        self.state.joining = on;
    }

    /// Where the session stands.
    #[inline]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Counts a well-formed packet that arrived.
    #[inline]
    pub fn arrived(&self, packet: &Packet) {
        self.count(FeedCounter::Packets, 1);
        match packet.kind {
            PacketKind::Data => {}
            PacketKind::Heartbeat => self.count(FeedCounter::Heartbeats, 1),
            PacketKind::EndOfSession => self.count(FeedCounter::EndsOfSession, 1),
        }
    }

    /// Counts a packet all of which another one brought that still waits for its turn.
    pub fn known(&self, packet: &Packet) {
        self.count(FeedCounter::DuplicateMessages, packet.count);
        self.count(FeedCounter::DuplicatePackets, u64::from(packet.count > 0));
    }

    /// Takes a well-formed packet in its turn and returns what of it is to be used. The caller
    /// goes on with [`publish_change`](Self::publish_change), [`publish_gap`](Self::publish_gap),
    /// then the messages, then [`end_packet`](Self::end_packet).
    #[inline]
    pub fn on_packet(&mut self, packet: &Packet) -> Verdict {
        let verdict = self.session.on_packet(packet);
        self.count(FeedCounter::Messages, verdict.take);
        self.count(FeedCounter::DuplicateMessages, verdict.skip);
        if packet.count > 0 && verdict.skip == packet.count {
            self.count(FeedCounter::DuplicatePackets, 1);
        } else if verdict.stale {
            self.leave_aside(packet.count.wrapping_sub(verdict.skip));
        }
        verdict
    }

    /// Counts a packet that is not used though not all of its messages are known.
    #[cold]
    pub fn leave_aside(&self, messages: u64) {
        self.count(FeedCounter::StalePackets, 1);
        self.count(FeedCounter::StaleMessages, messages);
    }

    /// Publishes a change of session and resets the market states, if the verdict says so. Returns
    /// whether the caller's books are to be emptied, with [`clear_record`](Self::clear_record) for
    /// each that holds anything.
    #[inline]
    pub fn publish_change(
        &mut self,
        verdict: &Verdict,
        ts_event: u64,
        publisher: &mut Publisher<'m>,
    ) -> bool {
        match &verdict.change {
            Some(change) => self.change_session(change, verdict.take, ts_event, publisher),
            None => false,
        }
    }

    #[cold]
    fn change_session(
        &mut self,
        change: &Change,
        take: u64,
        ts_event: u64,
        publisher: &mut Publisher<'m>,
    ) -> bool {
        match change.change {
            session_change::RESTART => self.count(FeedCounter::Restarts, 1),
            session_change::NEW_SESSION => self.count(FeedCounter::NewSessions, 1),
            _ => {}
        }
        let event_seq = publisher.publish(&SessionMsg {
            hd: self.feed_header::<SessionMsg>(ts_event),
            ts_recv: publisher.ts_recv(),
            next_seq: self.session.next_seq().wrapping_sub(take),
            previous_next_seq: change.previous_next_seq,
            session: self.session.id(),
            feed: self.index,
            change: change.change,
            reserved: 0,
        });
        if !matches!(change.change, session_change::RESTART | session_change::NEW_SESSION) {
            return false;
        }
        self.set_maybe_bad(false);
        if let Some(board) = &mut self.depth {
            board.start_session();
            if self.renumbers {
                board.free_all();
                self.depth_places.fill(0);
            }
        }
        self.publish_depth_usage();
        for local in 0..self.used {
            let stamp = self.stamp(local, 0, ts_event, ts_event, publisher);
            let Some(market) = self.markets.get_mut(local as usize) else { break };
            if market.is_known() {
                market.start_session(self.renumbers);
                self.publish_market(local, event_seq, &stamp, publisher);
            }
        }
        true
    }

    /// Publishes the gap in front of a packet, if the verdict says that there is one.
    #[inline]
    pub fn publish_gap(&mut self, verdict: &Verdict, ts_event: u64, publisher: &mut Publisher<'m>) {
        if let Some(gap) = &verdict.gap {
            self.lose(gap, ts_event, publisher);
        }
    }

    #[cold]
    fn lose(&mut self, gap: &Gap, ts_event: u64, publisher: &mut Publisher<'m>) {
        let lost = gap.end.wrapping_sub(gap.first);
        if gap.reason == gap_reason::LATE_JOIN {
            self.count(FeedCounter::JoinedLateMessages, lost);
        } else {
            self.count(FeedCounter::Gaps, 1);
            self.count(FeedCounter::LostMessages, lost);
        }
        self.set_maybe_bad(true);
        publisher.publish(&GapMsg {
            hd: self.feed_header::<GapMsg>(ts_event),
            ts_recv: publisher.ts_recv(),
            first_seq: gap.first,
            end_seq: gap.end,
            session: self.session.id(),
            feed: self.index,
            reason: gap.reason,
            reserved: 0,
        });
    }

    /// The record that tells readers that the book of `local` was emptied by a session change.
    pub fn clear_record(&self, local: u32, ts_event: u64, publisher: &Publisher<'m>) -> MboMsg {
        let stamp = self.stamp(local, 0, ts_event, ts_event, publisher);
        MboMsg { flags: flags::LAST, ..stamp.clear() }
    }

    /// Ends a packet: publishes where the session stands, and counts the events.
    #[inline]
    pub fn end_packet(&mut self, publisher: &mut Publisher<'m>) {
        let events = publisher.end_packet();
        if events > 0 {
            self.count(FeedCounter::Events, events);
        }
        self.state.session = self.session.id();
        self.state.ended = self.session.ended();
        self.state.next_seq = self.session.next_seq();
        self.state.last_packet_ns = publisher.ts_recv();
        self.writer.set_session(&self.state);
    }

    /// The header of a record that concerns the whole feed.
    pub fn feed_header<R: crate::event::Record>(&self, ts_event: u64) -> RecordHeader {
        RecordHeader::new::<R>(self.publisher_id, NO_INSTRUMENT, ts_event)
    }
}

/// A venue's space-padded symbol, NUL-padded.
fn padded(symbol: &[u8]) -> [u8; 16] {
    let mut out = [0u8; 16];
    let end = symbol.iter().rposition(|b| *b != b' ' && *b != 0).map_or(0, |last| last + 1);
    for (to, from) in out.iter_mut().zip(symbol.iter().take(end)) {
        *to = *from;
    }
    out
}
