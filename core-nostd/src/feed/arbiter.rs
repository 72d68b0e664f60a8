//! Line A and line B as one: the first copy of every message wins, what came before its turn
//! waits, and what is on neither line is asked for, and given up only after that.
//!
//! A packet in its turn goes straight through; nothing waits then, and the cost is a comparison.
//! One that is ahead is kept in the [`ReorderWindow`] until what is missing came on the same line
//! (reordered), on the other (lost on one), or from a re-request server. The missing range is
//! given up, which publishes it as a gap, when
//!
//! * it was missing for [`Patience::wait_ns`], plus [`Patience::recovery_ns`] where there are
//!   servers to ask, or
//! * the window is full, or
//! * the session starts over, or the run ends.
//!
//! The very first packets may overtake each other too: one near the session's beginning waits for
//! message 1 as for any other, but no server is asked. Given up, it is where the feed joined.
//!
//! One whose number is far from 1 is of a feed that has been going on, or damaged: believed, such a
//! number would make known ones of all messages to come. It waits for another packet that lies near it,
//! or, in silence, for a while. Of what contradicts the two that agree nothing is used.
//!
//! Time is that of the packets received, and of [`expire`] in silence, so that the packets of a
//! file always give the same events. What waited is published with the receive time of the packet
//! that ended its wait: the order of receive times stays that of the events.

pub mod join;

use self::join::{Join, JoinPatience, SnapshotPart, SnapshotRequest};
use super::line::Line;
use super::publisher::Publisher;
use super::reorder_window::{Held, Hold, ReorderWindow};
use super::session::{JUMP_LIMIT, Packet, PacketKind};
use super::translator::{Taken, Translator};
use crate::arena::{Arena, ArenaError};
use crate::segment::{FeedCounter, LINES, RECOVERY_LINE, SegmentWriter};

/// Holes that can be asked for between two looks at them.
const REQUESTS: usize = 16;
/// Packets whose arrival is remembered, to say by how much the other line's copy was later.
const ARRIVALS: usize = 4096;

/// How long a feed's first packet, of a number that is far from 1, waits for one near it: venues that
/// have nothing to say send a heartbeat each second.
const FIRST_WAIT_NS: u64 = 3_000_000_000;

/// How long a feed waits for what is missing, and in how much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Packets that can wait; 0 gives what is missing up at once.
    pub packets: u32,
    /// Longest payload that can wait, in bytes.
    pub packet_bytes: u16,
    /// How long what is missing may still come by itself, in nanoseconds.
    pub wait_ns: u64,
    /// How long it may take after that to ask re-request servers for it; `None` where there are
    /// none.
    pub recovery_ns: Option<u64>,
}

impl Patience {
    /// Gives what is missing up at once.
    pub const NONE: Patience =
        Patience { packets: 0, packet_bytes: 0, wait_ns: 0, recovery_ns: None };
}

/// Messages that a re-request server is to be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct RecoveryRequest {
    /// First of them.
    pub first: u64,
    /// First after them.
    pub end: u64,
    /// The session.
    pub session: [u8; 10],
    /// The worker's feed index.
    pub feed: u8,
    reserved: [u8; 5],
}

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Arrival {
    seq: u64,
    received_ns: u64,
    /// Sessions so far, so that a number of an earlier one is not taken for this one's.
    generation: u32,
    line: u32,
}

/// Decides whose turn it is.
#[derive(Debug)]
pub struct Arbiter<'m> {
    lines: [Option<Line<'m>>; LINES],
    window: ReorderWindow<'m>,
    patience: Patience,
    /// Since when the range in front of the window's first packet is known to be missing.
    missing_since_ns: u64,
    /// Nothing started, and a packet of a number far from 1 waits for one near it.
    unconfirmed: bool,
    /// Everything missing below this was asked for.
    asked_to: u64,
    requests: heapless::Deque<RecoveryRequest, REQUESTS>,
    /// Where two lines are compared, by sequence number; empty for one line.
    arrivals: &'m mut [Arrival],
    generation: u32,
    feed: u8,
    /// How the feed joins a session that has been going on, if by a snapshot.
    join: Option<Join<'m>>,
}

impl<'m> Arbiter<'m> {
    /// The arbiter of feed `feed`, whose lines come from `addresses`.
    pub fn new(
        feed: u8,
        addresses: &[([u8; 4], u16)],
        patience: &Patience,
        segment: &SegmentWriter<'m>,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ArenaError> {
        // One line alone is its feed: the feed's counters say all that there is to say.
        let alone = addresses.len() == 1 && patience.recovery_ns.is_none();
        let writer = |index: usize| {
            let writer = segment.line(usize::from(feed), index)?;
            // A feed that could not be added may have been meant for this place before.
            writer.set_address([0; 4], 0);
            if alone {
                return None;
            }
            if index == RECOVERY_LINE {
                patience.recovery_ns?;
                writer.set_address([u8::MAX; 4], 0);
            } else {
                let (address, port) = addresses.get(index)?;
                writer.set_address(*address, *port);
            }
            Some(writer)
        };
        let mut lines = [const { None }; LINES];
        for (index, line) in lines.iter_mut().enumerate() {
            *line = writer(index).map(|writer| Line::new(writer, arena)).transpose()?;
        }
        let arrivals = if addresses.len() > 1 { ARRIVALS } else { 0 };
        Ok(Arbiter {
            lines,
            window: ReorderWindow::new(patience.packets, patience.packet_bytes, arena)?,
            patience: *patience,
            missing_since_ns: 0,
            unconfirmed: false,
            asked_to: 0,
            requests: heapless::Deque::new(),
            arrivals: arena.alloc_slice("arrivals", arrivals)?,
            generation: 1,
            feed,
            join: None,
        })
    }

    /// From now on the feed joins by a snapshot.
    pub fn join_by_snapshot(
        &mut self,
        patience: &JoinPatience,
        arena: &mut Arena<'m>,
    ) -> Result<(), ArenaError> {
        self.join = Some(Join::new(patience, arena)?);
        Ok(())
    }

    /// The snapshot to be fetched, if one is.
    pub fn next_snapshot(&mut self) -> Option<SnapshotRequest> {
        let feed = self.feed;
        self.join.as_mut()?.next_request(feed)
    }

    /// Whether packets wait.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        !self.window.is_empty()
    }

    /// Whether anything waits, here or for a snapshot.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.is_waiting() || self.join.as_ref().is_some_and(Join::is_active)
    }

    /// When [`expire`] is to be called at the latest, UTC nanoseconds; `u64::MAX` if nothing
    /// waits.
    pub fn deadline(&self) -> u64 {
        self.window_deadline().min(self.join.as_ref().map_or(u64::MAX, Join::deadline))
    }

    fn window_deadline(&self) -> u64 {
        let Some(front) = self.window.front() else { return u64::MAX };
        if self.unconfirmed && front.first > JUMP_LIMIT {
            return self.missing_since_ns.saturating_add(FIRST_WAIT_NS);
        }
        let waited = self.missing_since_ns.saturating_add(self.patience.wait_ns);
        match self.patience.recovery_ns {
            Some(_) if self.asked_to < front.first => waited,
            Some(recovery_ns) => waited.saturating_add(recovery_ns),
            None => waited,
        }
    }

    /// The next range to ask a re-request server for.
    pub fn next_request(&mut self) -> Option<RecoveryRequest> {
        self.requests.pop_front()
    }

    /// Takes note of a packet on its line, and compares it with the other line's copy.
    #[inline]
    fn arrived(&mut self, line: usize, packet: &Packet, received_ns: u64) {
        let Some(Some(this)) = self.lines.get_mut(line) else { return };
        if line == RECOVERY_LINE {
            return this.on_answer(packet, received_ns);
        }
        this.on_packet(packet, received_ns);
        if self.arrivals.is_empty() || packet.kind != PacketKind::Data {
            return;
        }
        let place = packet.seq as usize & (ARRIVALS - 1);
        let Some(arrival) = self.arrivals.get_mut(place) else { return };
        let same = arrival.seq == packet.seq && arrival.generation == self.generation;
        if !same {
            let (generation, seq) = (self.generation, packet.seq);
            *arrival = Arrival { seq, received_ns, generation, line: line as u32 };
        } else if arrival.line != line as u32 {
            this.late_by(received_ns.saturating_sub(arrival.received_ns));
            // Told once: what comes again is no later copy of the first.
            arrival.line = line as u32;
        }
    }

    #[cold]
    fn start_over(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.asked_to = 0;
        self.requests.clear();
        self.restart_lines();
    }

    /// Whether `packet`, before which nothing started, may have overtaken the first: as many
    /// packets as that could wait. (Who joins by a snapshot has what went before from there.) Or it comes
    /// behind one that waits for that, or is one not to be believed alone.
    #[cold]
    fn is_early<'t, T: Translator<'t>>(&self, packet: &Packet) -> bool {
        let near = self.window.capacity() as u64;
        let may_overtake = self.join.is_none() && packet.seq <= near;
        let behind = |front: Held| front.first <= near && front.first < packet.seq;
        packet.seq > 1
            && (may_overtake || packet.seq > JUMP_LIMIT || self.window.front().is_some_and(behind))
            && !self.is_of_other_session::<T>(packet)
    }

    /// Whether two packets that wait for the session to start lie near each other; leaves aside those
    /// with lower numbers. The lowest two are enough: of three at most one is damaged, or nothing helps.
    #[cold]
    fn agree(&mut self, mut leave_aside: impl FnMut(u64)) -> bool {
        let is_near = |low: &Held, high: &Held| high.first.saturating_sub(low.end) <= JUMP_LIMIT;
        let [first, second, third] = [0, 1, 2].map(|index| self.window.iter().nth(index));
        let (Some(first), Some(second)) = (first, second) else { return false };
        if is_near(&first, &second) {
            return first.first > JUMP_LIMIT;
        }
        if third.is_none_or(|third| !is_near(&second, &third)) {
            return false;
        }
        if let Some(held) = self.window.pop() {
            leave_aside(held.end.wrapping_sub(held.first));
            self.window.free(&held);
            self.restart_lines();
        }
        true
    }

    /// The session has started: leaves aside what contradicts that.
    #[cold]
    fn confirmed(&mut self, next_seq: u64, mut leave_aside: impl FnMut(u64)) {
        self.unconfirmed = false;
        while let Some(held) = self.window.back()
            && held.first > next_seq.saturating_add(JUMP_LIMIT)
        {
            self.window.pop_back();
            leave_aside(held.end.wrapping_sub(held.first));
            self.window.free(&held);
            self.restart_lines();
        }
    }

    /// What their lines began with was none of the session's.
    fn restart_lines(&mut self) {
        for line in self.lines.iter_mut().flatten() {
            line.restart();
        }
    }

    /// Whether the packets that wait are of another session than `packet`.
    #[cold]
    fn is_of_other_session<'t, T: Translator<'t>>(&self, packet: &Packet) -> bool {
        let Some(front) = self.window.front() else { return false };
        T::check(self.window.payload(&front)).is_ok_and(|(held, _)| held.session != packet.session)
    }

    #[inline]
    fn count_taken(&self, line: usize, messages: u64) {
        if let Some(Some(line)) = self.lines.get(line) {
            line.taken(messages);
        }
    }

    /// Takes note of an answer of a re-request server that came when its session was over.
    #[cold]
    fn stale(&self, packet: &Packet) {
        if let Some(Some(line)) = self.lines.get(RECOVERY_LINE) {
            line.stale(packet.count);
        }
    }

    /// Asks for every range between `next_seq` and the last packet that waits which was missing
    /// for long enough and was not asked for yet. Returns how many messages these are.
    fn ask(&mut self, next_seq: u64, session: [u8; 10], now: u64) -> u64 {
        let mut asked = 0_u64;
        let mut from = next_seq;
        let mut asked_to = self.asked_to;
        for (index, held) in self.window.iter().enumerate() {
            let first = from.max(asked_to);
            from = from.max(held.end);
            if held.first <= first {
                continue;
            }
            let since = self.missing_since_ns.max(held.received_ns);
            let due = index == 0 || now >= since.saturating_add(self.patience.wait_ns);
            let (end, feed) = (held.first, self.feed);
            let request = RecoveryRequest { first, end, session, feed, reserved: [0; 5] };
            if !due || self.requests.push_back(request).is_err() {
                break;
            }
            asked = asked.saturating_add(end.wrapping_sub(first));
            asked_to = end;
        }
        self.asked_to = asked_to;
        asked
    }
}

/// Takes a datagram's payload that came on line `line`.
#[inline]
pub fn on_payload<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    line: usize,
    payload: &[u8],
    publisher: &mut Publisher<'m>,
) {
    let (packet, checked) = match T::check(payload) {
        Ok(found) => found,
        Err(cause) => return malformed(translator, arbiter, line, cause),
    };
    if let Err(cause) = translator.claim(&checked) {
        return malformed(translator, arbiter, line, cause);
    }
    if line != RECOVERY_LINE {
        translator.channel().arrived(&packet);
    }
    let session = translator.channel().session();
    if line == RECOVERY_LINE
        && (packet.session != session.id()
            || session.starts_over(&packet)
            || packet.seq >= arbiter.asked_to)
    {
        // Answers fill holes; only a line says that another session began, or what comes next. One
        // from before a restart would pass for that.
        return arbiter.stale(&packet);
    }
    if let Some(join) = &arbiter.join
        && (join.is_active() || (packet.seq > 1 && session.starts_over(&packet)))
        && join::on_packet(translator, arbiter, line, &packet, payload, publisher)
    {
        return;
    }
    settle::<T, true>(translator, arbiter, line, &packet, &checked, payload, publisher);
}

/// Takes a packet, or lets it wait. `NOTE` if its line has not taken note of it yet.
#[inline(always)]
fn settle<'m, T: Translator<'m>, const NOTE: bool>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    line: usize,
    packet: &Packet,
    checked: &T::Checked<'_>,
    payload: &[u8],
    publisher: &mut Publisher<'m>,
) {
    let session = translator.channel().session();
    let started = session.has_started();
    if arbiter.window.capacity() > 0
        && (session.is_ahead(packet) || (!started && arbiter.is_early::<T>(packet)))
    {
        if NOTE {
            arbiter.arrived(line, packet, publisher.ts_recv());
        }
        return wait(translator, arbiter, line, packet, payload, publisher);
    }
    if arbiter.is_waiting()
        && session.starts_over(packet)
        && (started || arbiter.is_of_other_session::<T>(packet))
    {
        give_up_all(translator, arbiter, publisher);
    }
    let started = translator.channel().session().has_started();
    let taken = if NOTE {
        translator.take(packet, checked, publisher)
    } else {
        take_late(translator, packet, checked, publisher)
    };
    if taken.started_over && started {
        // What came before the very first message is of its session.
        arbiter.start_over();
    }
    if NOTE {
        arbiter.arrived(line, packet, publisher.ts_recv());
    }
    arbiter.count_taken(line, taken.messages);
    if arbiter.is_waiting() {
        release(translator, arbiter, publisher);
    }
    if arbiter.join.is_some() && translator.channel().is_maybe_bad() {
        join::after_packet(translator, arbiter, publisher);
    }
}

/// Takes a piece of the snapshot that was asked for with `ticket`.
pub fn on_snapshot<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    ticket: u32,
    part: &SnapshotPart<'_>,
    publisher: &mut Publisher<'m>,
) {
    join::on_snapshot(translator, arbiter, ticket, part, publisher);
}

#[cold]
fn malformed<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &Arbiter<'m>,
    line: usize,
    cause: usize,
) {
    if line != RECOVERY_LINE {
        translator.channel().malformed(cause);
    }
    if let Some(Some(line)) = arbiter.lines.get(line) {
        line.malformed();
    }
}

/// Lets a packet wait for what is missing in front of it.
#[cold]
fn wait<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    line: usize,
    packet: &Packet,
    payload: &[u8],
    publisher: &mut Publisher<'m>,
) {
    let now = publisher.ts_recv();
    loop {
        let session = translator.channel().session();
        let waits =
            session.is_ahead(packet) || (!session.has_started() && arbiter.is_early::<T>(packet));
        if !waits {
            break;
        }
        match arbiter.window.hold(packet, payload, line as u8, now) {
            Hold::Kept => {
                let since = arbiter.missing_since_ns;
                // A clock that is set back in the meantime must not prolong the wait.
                arbiter.missing_since_ns =
                    if arbiter.window.len() == 1 { now } else { since.min(now) };
                translator.channel().count(FeedCounter::HeldPackets, 1);
                if !translator.channel().session().has_started() {
                    begin_if_agreed(translator, arbiter, packet, publisher);
                }
                return;
            }
            Hold::Known => return translator.channel().known(packet),
            Hold::NoRoom => {
                translator.channel().count(FeedCounter::WindowFull, 1);
                if !give_up(translator, arbiter, publisher) {
                    break;
                }
            }
        }
    }
    // Its turn has come, or it alone is too long to wait.
    if let Ok((packet, checked)) = T::check(payload) {
        let taken = take_late(translator, &packet, &checked, publisher);
        arbiter.count_taken(line, taken.messages);
        release(translator, arbiter, publisher);
    }
}

/// Starts the session where two packets of numbers far from 1 agree.
#[cold]
fn begin_if_agreed<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    packet: &Packet,
    publisher: &mut Publisher<'m>,
) {
    arbiter.unconfirmed |= packet.seq > JUMP_LIMIT;
    if arbiter.unconfirmed && arbiter.agree(|messages| translator.channel().leave_aside(messages)) {
        give_up(translator, arbiter, publisher);
    }
}

/// [`Translator::take`] away from the way of packets that come in their turn.
#[cold]
#[inline(never)]
fn take_late<'m, T: Translator<'m>>(
    translator: &mut T,
    packet: &Packet,
    checked: &T::Checked<'_>,
    publisher: &mut Publisher<'m>,
) -> Taken {
    translator.take(packet, checked, publisher)
}

/// Takes the first packet that waits, and with it gives up what is missing in front of it.
fn take_front<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    publisher: &mut Publisher<'m>,
) -> bool {
    let Some(held) = arbiter.window.pop() else { return false };
    // It was checked when it came.
    if let Ok((packet, checked)) = T::check(arbiter.window.payload(&held)) {
        let taken = take_late(translator, &packet, &checked, publisher);
        arbiter.count_taken(usize::from(held.line), taken.messages);
    }
    arbiter.window.free(&held);
    if let Some(front) = arbiter.window.front() {
        arbiter.missing_since_ns = front.received_ns;
    }
    true
}

/// Takes the packets that wait whose turn has come.
fn release<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    publisher: &mut Publisher<'m>,
) {
    if arbiter.unconfirmed && translator.channel().session().has_started() {
        let next_seq = translator.channel().session().next_seq();
        arbiter.confirmed(next_seq, |messages| translator.channel().leave_aside(messages));
    }
    while let Some(front) = arbiter.window.front()
        && front.first <= translator.channel().session().next_seq()
    {
        take_front(translator, arbiter, publisher);
    }
}

/// Gives up the range in front of the first packet that waits. `false` if none waits.
fn give_up<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    publisher: &mut Publisher<'m>,
) -> bool {
    let any = take_front(translator, arbiter, publisher);
    release(translator, arbiter, publisher);
    any
}

/// Gives up everything that is missing, snapshot and all: nothing comes any more.
pub fn finish<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    publisher: &mut Publisher<'m>,
) {
    join::finish(translator, arbiter, publisher);
    give_up_all(translator, arbiter, publisher);
    translator.finish(publisher);
}

/// Gives up everything that is missing, and takes everything that waits.
#[cold]
fn give_up_all<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    publisher: &mut Publisher<'m>,
) {
    while give_up(translator, arbiter, publisher) {}
}

/// Asks for, or gives up, what is missing for too long at `now` (UTC nanoseconds).
#[cold]
pub fn expire<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    now: u64,
    publisher: &mut Publisher<'m>,
) {
    join::expire(translator, arbiter, now, publisher);
    while now >= arbiter.window_deadline() {
        let Some(front) = arbiter.window.front() else { return };
        let session = translator.channel().session();
        let has_servers = arbiter.patience.recovery_ns.is_some() && session.has_started();
        if has_servers && arbiter.asked_to < front.first {
            let asked = arbiter.ask(session.next_seq(), session.id(), now);
            translator.channel().count(FeedCounter::RequestedMessages, asked);
            if asked > 0 {
                continue;
            }
            if arbiter.requests.is_full() {
                return; // until they are fetched
            }
        }
        give_up(translator, arbiter, publisher);
    }
}
