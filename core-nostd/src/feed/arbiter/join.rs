//! Joining a session that has been going on: the packets of the lines wait while a snapshot of the
//! market is fetched, the books are made from it, and the packets carry on where it ends.
//!
//! A feed that was [given a snapshot source](crate::pipeline::Pipeline::join_by_snapshot) joins
//!
//! * when its session, or another one, is found to be past its first message, and
//! * when messages were lost for good and the books may be wrong, if [`JoinPatience::after_loss`].
//!
//! In both cases every packet from then on is kept whole, in order of arrival, in memory claimed
//! at the start. The snapshot has to know every message before the first that is kept; what it
//! knows beyond, up to [`SNAPSHOT_AHEAD_MAX`], is skipped as known. Between, or behind, a message that is missing is a hole like
//! any other: waited for, asked for, given up.
//!
//! Without a snapshot in time, or without room for what waits, the feed goes on as one that
//! joined late does: with a gap, and books that say that they may be wrong. It tries again later,
//! each time after a longer pause. Nothing is published between the first packet that waits and
//! the snapshot, so a server that does not answer delays a feed by no more than
//! [`JoinPatience::wait_ns`].
//!
//! Packets that waited are let through a few at a time: the worker keeps up with its socket.

use super::{Arbiter, settle};
use crate::arena::{Arena, ArenaError};
use crate::feed::publisher::Publisher;
use crate::feed::reorder_window::Hold;
use crate::feed::session::{JUMP_LIMIT, Packet, PacketKind};
use crate::feed::translator::Translator;
use crate::segment::{FeedCounter, RECOVERY_LINE};

/// First pause between a join that failed and the next try; twice as long each time.
const FIRST_RETRY_NS: u64 = 10_000_000_000;
const LONGEST_RETRY_NS: u64 = 640_000_000_000;
/// Messages that a snapshot may know beyond the first that the lines brought. One that claims more
/// is of another session, and would make known ones of all messages to come.
pub const SNAPSHOT_AHEAD_MAX: u64 = JUMP_LIMIT;
/// Packets let through at a time.
const PORTION: usize = 16;

/// How a feed joins by a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinPatience {
    /// Memory for the packets that wait, in bytes.
    pub hold_bytes: usize,
    /// How long they wait at most, in nanoseconds.
    pub wait_ns: u64,
    /// Whether books that may be wrong after a loss are made anew from a snapshot.
    pub after_loss: bool,
}

/// A snapshot that is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct SnapshotRequest {
    /// The first message that the lines have brought: the snapshot is to know all before it.
    pub from: u64,
    /// The session of the live feed.
    pub session: [u8; 10],
    /// The worker's feed index.
    pub feed: u8,
    reserved: u8,
    /// Which try this is. An answer to an earlier one is thrown away.
    pub ticket: u32,
}

/// A piece of a snapshot, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotPart<'a> {
    /// The snapshot is here as a whole, and begins; it knows all before message `next_seq`.
    Begin {
        /// First message of the live feed that it does not know.
        next_seq: u64,
    },
    /// A message of it.
    Message(&'a [u8]),
    /// That was the last one.
    End,
    /// There is none to be had.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The feed goes on as usual.
    Idle,
    /// The snapshot was, or is to be, asked for.
    Waiting,
    /// The books are being made from it.
    Taking,
    /// What waited is being let through.
    Replaying,
}

/// A feed's way of joining, and the packets that wait for it.
#[derive(Debug)]
pub(super) struct Join<'m> {
    patience: JoinPatience,
    phase: Phase,
    held: HeldPackets<'m>,
    session: [u8; 10],
    from: u64,
    /// Messages up to here are held without a hole: another copy need not be.
    held_to: u64,
    ticket: u32,
    asked: bool,
    /// When the snapshot is given up.
    until_ns: u64,
    /// No other try before this.
    not_before_ns: u64,
    retry_ns: u64,
}

impl<'m> Join<'m> {
    pub(super) fn new(
        patience: &JoinPatience,
        arena: &mut Arena<'m>,
    ) -> Result<Join<'m>, ArenaError> {
        Ok(Join {
            patience: *patience,
            phase: Phase::Idle,
            held: HeldPackets::new(patience.hold_bytes, arena)?,
            session: [0; 10],
            from: 0,
            held_to: 0,
            ticket: 0,
            asked: false,
            until_ns: 0,
            not_before_ns: 0,
            retry_ns: FIRST_RETRY_NS,
        })
    }

    /// Whether packets wait for a snapshot, or behind packets that did.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// Whether the feed is to join now, other things being so.
    #[inline]
    fn is_due(&self, now: u64) -> bool {
        self.phase == Phase::Idle && now >= self.not_before_ns
    }

    /// When [`expire`] is to be called at the latest.
    pub(super) fn deadline(&self) -> u64 {
        match self.phase {
            Phase::Idle => u64::MAX,
            Phase::Waiting | Phase::Taking => self.until_ns,
            Phase::Replaying => 0,
        }
    }

    fn start(&mut self, session: [u8; 10], from: u64, now: u64) {
        self.phase = Phase::Waiting;
        (self.session, self.from, self.held_to) = (session, from, from);
        self.ticket = self.ticket.wrapping_add(1);
        self.asked = false;
        self.until_ns = now.saturating_add(self.patience.wait_ns);
        self.not_before_ns = now.saturating_add(self.retry_ns);
    }

    /// The feed goes on without a snapshot.
    fn fail(&mut self) {
        self.phase = Phase::Replaying;
        self.retry_ns = self.retry_ns.saturating_mul(2).min(LONGEST_RETRY_NS);
    }

    /// Lets a packet wait.
    fn keep(&mut self, line: usize, packet: &Packet, payload: &[u8]) -> Hold {
        let end = packet.seq.saturating_add(packet.count);
        let ends = packet.kind == PacketKind::EndOfSession;
        if self.phase != Phase::Replaying && end <= self.held_to && packet.seq >= self.from && !ends
        {
            // Or a heartbeat that says what the packets before it said.
            return Hold::Known;
        }
        if packet.seq <= self.held_to {
            self.held_to = self.held_to.max(end);
        }
        if self.held.push(line as u8, payload) { Hold::Kept } else { Hold::NoRoom }
    }

    /// The snapshot to ask for, once.
    pub(super) fn next_request(&mut self, feed: u8) -> Option<SnapshotRequest> {
        if self.phase != Phase::Waiting || self.asked {
            return None;
        }
        self.asked = true;
        let Join { from, session, ticket, .. } = *self;
        Some(SnapshotRequest { from, session, feed, reserved: 0, ticket })
    }
}

/// Packets in order of arrival: a byte for the line, two for the length, and the payload.
#[derive(Debug)]
struct HeldPackets<'m> {
    bytes: &'m mut [u8],
    read: usize,
    write: usize,
}

const HEAD: usize = 3;

impl<'m> HeldPackets<'m> {
    fn new(bytes: usize, arena: &mut Arena<'m>) -> Result<HeldPackets<'m>, ArenaError> {
        let bytes = arena.alloc_slice("packets that wait for a snapshot", bytes)?;
        Ok(HeldPackets { bytes, read: 0, write: 0 })
    }

    fn is_empty(&self) -> bool {
        self.read >= self.write
    }

    fn push(&mut self, line: u8, payload: &[u8]) -> bool {
        let Ok(length) = u16::try_from(payload.len()) else { return false };
        let Some(end) = self.write.checked_add(HEAD).and_then(|at| at.checked_add(payload.len()))
        else {
            return false;
        };
        let Some(place) = self.bytes.get_mut(self.write..end) else { return false };
        let Some((head, rest)) = place.split_first_chunk_mut::<HEAD>() else { return false };
        let [low, high] = length.to_le_bytes();
        *head = [line, low, high];
        if rest.len() != payload.len() {
            return false;
        }
        rest.copy_from_slice(payload);
        self.write = end;
        true
    }

    /// The next packet of `bytes`, which are this one's.
    fn next<'b>(&mut self, bytes: &'b [u8]) -> Option<(usize, &'b [u8])> {
        let waiting = bytes.get(self.read..self.write)?;
        let ([line, low, high], rest) = waiting.split_first_chunk::<HEAD>()?;
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let payload = rest.get(..length)?;
        self.read = self.read.wrapping_add(HEAD).wrapping_add(length);
        Some((usize::from(*line), payload))
    }

    fn clear(&mut self) {
        (self.read, self.write) = (0, 0);
    }
}

/// Takes a packet while a join goes on, or with which one might begin. `false` if it is to go the
/// usual way.
#[cold]
pub(super) fn on_packet<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    line: usize,
    packet: &Packet,
    payload: &[u8],
    publisher: &mut Publisher<'m>,
) -> bool {
    let now = publisher.ts_recv();
    let Some(join) = &mut arbiter.join else { return false };
    if line == RECOVERY_LINE && join.phase == Phase::Replaying {
        // What waited may stand still for just this.
        return false;
    }
    if join.phase == Phase::Idle {
        if !join.is_due(now) {
            return false;
        }
        if arbiter.is_waiting() {
            // They are of the session that is over.
            super::give_up_all(translator, arbiter, publisher);
        }
        arbiter.start_over();
        let Some(join) = &mut arbiter.join else { return false };
        join.start(packet.session, packet.seq, now);
        translator.channel().set_joining(true);
    } else if packet.session != join.session && join.phase != Phase::Replaying {
        let left = translator.channel().session();
        if packet.session == left.id() && !left.is_ahead(packet) && !left.starts_over(packet) {
            // The slower line's end of the session that is being left: it says nothing of others.
            return false;
        }
        if packet.kind != PacketKind::Data {
            // One stray heartbeat ends no session.
            return true;
        }
        give_up(translator, arbiter);
    }
    arbiter.arrived(line, packet, now);
    let Some(join) = &mut arbiter.join else { return false };
    match join.keep(line, packet, payload) {
        Hold::Kept => translator.channel().count(FeedCounter::SnapshotHeldPackets, 1),
        Hold::Known => translator.channel().known(packet),
        Hold::NoRoom => {
            if join.phase != Phase::Replaying {
                give_up(translator, arbiter);
            }
            replay(translator, arbiter, usize::MAX, publisher);
            again(translator, arbiter, line, payload, publisher);
            return true;
        }
    }
    translator.channel().end_packet(publisher);
    true
}

/// Lets the feed join anew if a packet left its books possibly wrong.
#[cold]
pub(super) fn after_packet<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    publisher: &Publisher<'m>,
) {
    let now = publisher.ts_recv();
    let channel = translator.channel();
    let session = *channel.session();
    let Some(join) = &mut arbiter.join else { return };
    let wanted = join.patience.after_loss && !session.ended();
    if !wanted || !join.is_due(now) {
        return;
    }
    join.start(session.id(), session.next_seq(), now);
    channel.set_joining(true);
    arbiter.requests.clear();
    channel.count(FeedCounter::SnapshotsWanted, 1);
    // They go through the window again.
    while let Some(held) = arbiter.window.front() {
        if !join.held.push(held.line, arbiter.window.payload(&held)) {
            // What is here already is not lost for want of room.
            return give_up(translator, arbiter);
        }
        arbiter.window.pop();
        arbiter.window.free(&held);
    }
}

/// Takes a piece of the snapshot of try `ticket`.
#[cold]
pub(super) fn on_snapshot<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    ticket: u32,
    part: &SnapshotPart<'_>,
    publisher: &mut Publisher<'m>,
) {
    let Some(join) = arbiter.join.as_mut().filter(|join| join.ticket == ticket) else { return };
    match (join.phase, part) {
        (Phase::Waiting, SnapshotPart::Begin { next_seq })
            if next_seq.checked_sub(join.from).is_some_and(|more| more <= SNAPSHOT_AHEAD_MAX) =>
        {
            join.phase = Phase::Taking;
            join.until_ns = publisher.ts_recv().saturating_add(join.patience.wait_ns);
            translator.begin_snapshot(join.session, *next_seq, publisher);
        }
        (Phase::Waiting, SnapshotPart::Begin { .. } | SnapshotPart::None) => {
            give_up(translator, arbiter);
        }
        (Phase::Taking, SnapshotPart::Message(message)) => {
            translator.on_snapshot_message(message, publisher);
            translator.channel().count(FeedCounter::SnapshotMessages, 1);
        }
        (Phase::Taking, SnapshotPart::End) => {
            join.phase = Phase::Replaying;
            join.retry_ns = FIRST_RETRY_NS;
            // A feed that goes on losing is not to stand still more often than that.
            join.not_before_ns = publisher.ts_recv().saturating_add(FIRST_RETRY_NS);
            translator.end_snapshot(publisher);
            translator.channel().set_joining(false);
            translator.channel().count(FeedCounter::Snapshots, 1);
        }
        _ => return,
    }
    translator.channel().end_packet(publisher);
}

/// Gives the snapshot up if it was waited for long enough at `now`, and lets a portion of what
/// waited through.
#[cold]
pub(super) fn expire<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    now: u64,
    publisher: &mut Publisher<'m>,
) {
    let Some(join) = &arbiter.join else { return };
    match join.phase {
        Phase::Waiting | Phase::Taking if now >= join.until_ns => give_up(translator, arbiter),
        Phase::Replaying => replay(translator, arbiter, PORTION, publisher),
        _ => {}
    }
}

/// Gives the snapshot up, and lets all that waited through: nothing comes any more.
#[cold]
pub(super) fn finish<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    publisher: &mut Publisher<'m>,
) {
    let Some(join) = &arbiter.join else { return };
    if matches!(join.phase, Phase::Waiting | Phase::Taking) {
        give_up(translator, arbiter);
    }
    replay(translator, arbiter, usize::MAX, publisher);
}

/// From now on what waited is let through, without a snapshot.
fn give_up<'m, T: Translator<'m>>(translator: &mut T, arbiter: &mut Arbiter<'m>) {
    let Some(join) = &mut arbiter.join else { return };
    if join.phase == Phase::Taking {
        translator.channel().break_snapshot_off();
    }
    join.fail();
    translator.channel().set_joining(false);
    translator.channel().count(FeedCounter::SnapshotsFailed, 1);
}

/// Lets up to `portion` packets that waited through.
fn replay<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    portion: usize,
    publisher: &mut Publisher<'m>,
) {
    let Some(join) = &mut arbiter.join else { return };
    if join.phase != Phase::Replaying {
        return;
    }
    let bytes = core::mem::take(&mut join.held.bytes);
    let mut left = portion;
    while left > 0 {
        // What waits in the window for an answer of a re-request server needs time, not packets
        // on top.
        let crowded = arbiter.window.len() > arbiter.window.capacity() / 2;
        if crowded && portion != usize::MAX {
            break;
        }
        let Some(join) = &mut arbiter.join else { break };
        let Some((line, payload)) = join.held.next(bytes) else { break };
        again(translator, arbiter, line, payload, publisher);
        left = left.wrapping_sub(1);
    }
    let Some(join) = &mut arbiter.join else { return };
    join.held.bytes = bytes;
    if join.held.is_empty() {
        join.held.clear();
        join.phase = Phase::Idle;
    }
}

/// Lets a packet that waited go the usual way. It was taken note of when it came.
fn again<'m, T: Translator<'m>>(
    translator: &mut T,
    arbiter: &mut Arbiter<'m>,
    line: usize,
    payload: &[u8],
    publisher: &mut Publisher<'m>,
) {
    // It was checked when it came.
    if let Ok((packet, checked)) = T::check(payload) {
        settle::<T, false>(translator, arbiter, line, &packet, &checked, payload, publisher);
    }
}
