//! Sequence tracking of one feed: what is new, what is known, what is missing, and whether the
//! session started over.
//!
//! Rules, in the order in which they are tried:
//!
//! 1. The first packet starts the session. If its number is not 1, what went before was missed. (One
//!    whose number is far from 1 waits for another near it: see [`arbiter`](super::arbiter).)
//! 2. Another session id takes over with its first data packet, or with the second packet of any
//!    kind. One stray heartbeat does not empty the books. Packets of the session that was left
//!    which add nothing to it are stale; those that would carry it on take over only when no
//!    packet of the present session comes between two of them: they may be the end of the old
//!    session on the slower line. One that starts it over, as the next rule has it, takes over at once.
//! 3. A number below the expected one is a restart if the venue says when it sent the packet and
//!    this is later than all before (IEX-TP does; its test sessions restart under one id) by more
//!    than the [margin](Session::with_restart_margin) that two lines need, or, for
//!    protocols without a send time, if it is number 1 and its message differs from the number 1
//!    that we know. Otherwise the packet is a duplicate, whole or in part.
//! 4. A number above the expected one is a gap, known to the exact range. A jump beyond
//!    [`JUMP_LIMIT`] must be confirmed by a second packet that continues it: one damaged packet
//!    must not declare the rest of the day lost.

use crate::event::{gap_reason, session_change};

/// Messages that one packet may jump ahead without a second packet that confirms it.
pub const JUMP_LIMIT: u64 = 1 << 24;

/// What kind of packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// Carries messages.
    Data,
    /// Carries none, and says what comes next.
    Heartbeat,
    /// Carries none, and says that nothing comes any more.
    EndOfSession,
}

/// What the tracker needs to know of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Session id as the venue sends it, NUL-padded.
    pub session: [u8; 10],
    /// Sequence number of the first message (or the next one, if there is none).
    pub seq: u64,
    /// Number of messages.
    pub count: u64,
    /// What kind it is.
    pub kind: PacketKind,
    /// When the venue sent it, if the protocol says so.
    pub sent_ns: Option<u64>,
    /// Any value that tells one first message from another: the first message's own time.
    pub fingerprint: u64,
}

/// Messages `first..end` are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First missing message.
    pub first: u64,
    /// First message after them.
    pub end: u64,
    /// One of [`gap_reason`].
    pub reason: u8,
}

/// The session began, restarted, changed or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// One of [`session_change`].
    pub change: u8,
    /// What the previous session expected next; 0 if there was none.
    pub previous_next_seq: u64,
}

/// What to do with a packet: first the change, then the gap, then its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What happened to the session before this packet's messages.
    pub change: Option<Change>,
    /// What is missing before this packet's messages.
    pub gap: Option<Gap>,
    /// Messages at the front of the packet that are known already.
    pub skip: u64,
    /// Messages behind those that are new.
    pub take: u64,
    /// The packet was left aside: of a session that is over (its messages are skipped if they are
    /// known), or a jump not yet confirmed.
    pub stale: bool,
}

/// A feed's session.
///
/// ```
/// use wiretape_core::feed::session::{Packet, PacketKind, Session};
///
/// let packet = |seq, count| Packet {
///     session: *b"SESSION001",
///     seq,
///     count,
///     kind: PacketKind::Data,
///     sent_ns: None,
///     fingerprint: 0,
/// };
/// let mut session = Session::new();
/// assert_eq!(session.on_packet(&packet(1, 10)).take, 10);
/// let verdict = session.on_packet(&packet(13, 2));
/// let gap = verdict.gap.unwrap();
/// assert_eq!((gap.first, gap.end, verdict.take), (11, 13, 2));
/// assert_eq!(session.on_packet(&packet(1, 10)).take, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    id: [u8; 10],
    started: bool,
    ended: bool,
    /// Whether a verdict said so: there is no room in one that says how the session began.
    end_told: bool,
    next_seq: u64,
    last_sent_ns: u64,
    /// Once seen.
    first_message: Option<FirstMessage>,
    /// The session before this one.
    previous: Option<Left>,
    /// A session that announced itself with one packet without messages.
    announced: Option<[u8; 10]>,
    /// Where a far jump would go on.
    jump: Option<u64>,
    /// See [`Session::with_restart_margin`].
    restart_margin_ns: u64,
}

/// The message that a session began with, number 1 or, where venues count so, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FirstMessage {
    seq: u64,
    fingerprint: u64,
}

impl FirstMessage {
    fn of(packet: &Packet) -> FirstMessage {
        FirstMessage { seq: packet.seq, fingerprint: packet.fingerprint }
    }
}

/// A session that was left for another one, as it stood then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    id: [u8; 10],
    next_seq: u64,
    first_message: Option<FirstMessage>,
}

impl Session {
    /// A feed that has not received anything yet.
    pub const fn new() -> Self {
        Session {
            id: [0; 10],
            started: false,
            ended: false,
            end_told: false,
            next_seq: 0,
            last_sent_ns: 0,
            first_message: None,
            previous: None,
            announced: None,
            jump: None,
            restart_margin_ns: 0,
        }
    }

    /// The same session, where a packet below the expected number is a restart only if it was sent
    /// more than `ns` after all before. The copies that two lines carry of one packet are sent one
    /// after the other.
    pub const fn with_restart_margin(self, ns: u64) -> Self {
        Session { restart_margin_ns: ns, ..self }
    }

    /// The session's id.
    pub fn id(&self) -> [u8; 10] {
        self.id
    }

    /// The next message expected; 0 before the first packet.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether the venue said that the session is over.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes note of a packet and says what to do with it.
    #[inline]
    pub fn on_packet(&mut self, packet: &Packet) -> Verdict {
        if !self.is_next(packet) {
            return self.on_any(packet);
        }
        self.announced = None;
        self.jump = None;
        self.advance(packet);
        Verdict { take: packet.count, ..Verdict::default() }
    }

    /// Whether this is what nearly all packets are: messages that continue the session.
    #[inline]
    fn is_next(&self, packet: &Packet) -> bool {
        packet.seq == self.next_seq
            && packet.kind == PacketKind::Data
            && packet.session == self.id
            && self.started
            && !self.ended
            && packet.seq > 1
    }

    /// [`on_packet`](Self::on_packet) for every packet that there can be.
    fn on_any(&mut self, packet: &Packet) -> Verdict {
        let packet = &Packet { seq: first_number(packet), ..*packet };
        if !self.started {
            return self.begin(packet, session_change::START);
        }
        if packet.session != self.id {
            return self.on_other_session(packet);
        }
        if self.announced.is_some() {
            self.announced = None;
        }
        if packet.seq < self.next_seq && !self.is_message_0(packet) {
            if self.is_restart(packet) {
                return self.begin(packet, session_change::RESTART);
            }
            return self.on_known(packet);
        }
        if self.is_unconfirmed_jump(packet) {
            return Verdict { stale: true, ..Verdict::default() };
        }
        self.on_next(packet)
    }

    /// Whether messages are missing in front of `packet`, in the present session and not further
    /// than [`JUMP_LIMIT`]: it can wait for them.
    #[inline]
    pub fn is_ahead(&self, packet: &Packet) -> bool {
        self.started
            && packet.seq > self.next_seq
            && packet.seq.wrapping_sub(self.next_seq) <= JUMP_LIMIT
            && packet.session == self.id
    }

    /// Whether there was any packet yet.
    #[inline]
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Whether `packet` starts the session over, or begins another one.
    pub fn starts_over(&self, packet: &Packet) -> bool {
        if !self.started {
            return true;
        }
        if packet.session == self.id {
            return first_number(packet) < self.next_seq
                && !self.is_message_0(packet)
                && self.is_restart(packet);
        }
        let announced = self.announced == Some(packet.session);
        match self.previous {
            Some(left) if left.id == packet.session => {
                let carries_on = packet.seq.saturating_add(packet.count) > left.next_seq;
                (announced && carries_on) || self.is_restart_of(&left, packet)
            }
            _ => announced || packet.kind == PacketKind::Data,
        }
    }

    /// Starts over with `packet` as the first of its session.
    fn begin(&mut self, packet: &Packet, change: u8) -> Verdict {
        let previous_next_seq = self.next_seq;
        if self.started && packet.session != self.id {
            self.previous = Some(self.left());
        }
        self.id = packet.session;
        self.started = true;
        self.ended = packet.kind == PacketKind::EndOfSession;
        self.end_told = false;
        self.first_message = None;
        self.announced = None;
        self.jump = None;
        self.last_sent_ns = packet.sent_ns.unwrap_or(0);
        let missed = Gap { first: 1, end: packet.seq, reason: gap_reason::LATE_JOIN };
        self.advance(packet);
        Verdict {
            change: Some(Change { change, previous_next_seq }),
            gap: (packet.seq > 1).then_some(missed),
            skip: 0,
            take: packet.count,
            stale: false,
        }
    }

    /// Goes on with message `next_seq` of session `id`: a snapshot knows all before it.
    pub fn join(&mut self, id: [u8; 10], next_seq: u64) -> Change {
        let change = match self.started {
            false => session_change::START,
            true if id != self.id => session_change::NEW_SESSION,
            true => session_change::SNAPSHOT,
        };
        let previous_next_seq = self.next_seq;
        if change == session_change::NEW_SESSION {
            self.previous = Some(self.left());
        }
        let (previous, restart_margin_ns) = (self.previous, self.restart_margin_ns);
        let (started, last_sent_ns) = (true, self.last_sent_ns);
        *self = Session {
            id,
            started,
            next_seq,
            last_sent_ns,
            previous,
            restart_margin_ns,
            ..Session::new()
        };
        Change { change, previous_next_seq }
    }

    fn on_other_session(&mut self, packet: &Packet) -> Verdict {
        if self.starts_over(packet) {
            return self.begin(packet, session_change::NEW_SESSION);
        }
        let adds_nothing = self.previous.is_some_and(|left| {
            left.id == packet.session && packet.seq.saturating_add(packet.count) <= left.next_seq
        });
        if adds_nothing {
            return Verdict { skip: packet.count, stale: true, ..Verdict::default() };
        }
        self.announced = Some(packet.session);
        Verdict { stale: true, ..Verdict::default() }
    }

    /// Whether `packet` begins a session numbered from 0, of which a heartbeat was seen.
    fn is_message_0(&self, packet: &Packet) -> bool {
        packet.seq == 0 && packet.count > 0 && self.next_seq == 1 && self.first_message.is_none()
    }

    fn is_restart(&self, packet: &Packet) -> bool {
        match packet.sent_ns {
            Some(sent) => sent > self.last_sent_ns.saturating_add(self.restart_margin_ns),
            None => is_another_first(packet, self.first_message),
        }
    }

    /// Whether the session that was left starts over with `packet`: it comes back, from its
    /// beginning.
    fn is_restart_of(&self, left: &Left, packet: &Packet) -> bool {
        let is_below = packet.kind == PacketKind::Data && packet.seq < left.next_seq;
        match packet.sent_ns {
            Some(_) => is_below && self.is_restart(packet),
            None => is_below && is_another_first(packet, left.first_message),
        }
    }

    fn left(&self) -> Left {
        Left { id: self.id, next_seq: self.next_seq, first_message: self.first_message }
    }

    fn is_unconfirmed_jump(&mut self, packet: &Packet) -> bool {
        if packet.seq.saturating_sub(self.next_seq) <= JUMP_LIMIT {
            self.jump = None;
            return false;
        }
        let confirmed = self.jump == Some(packet.seq);
        self.jump = Some(packet.seq.saturating_add(packet.count));
        !confirmed
    }

    /// A packet that starts with messages known already.
    fn on_known(&mut self, packet: &Packet) -> Verdict {
        let end = packet.seq.saturating_add(packet.count);
        let skip = self.next_seq.wrapping_sub(packet.seq).min(packet.count);
        let take = packet.count.wrapping_sub(skip);
        if take > 0 {
            (self.ended, self.end_told) = (false, false); // as in `on_next`
            self.next_seq = end;
            self.note_sent(packet);
        }
        Verdict { skip, take, ..Verdict::default() }
    }

    /// A packet at, or ahead of, the expected number.
    fn on_next(&mut self, packet: &Packet) -> Verdict {
        let reason = match packet.kind {
            PacketKind::Data => gap_reason::SEQUENCE_JUMP,
            PacketKind::Heartbeat | PacketKind::EndOfSession => gap_reason::HEARTBEAT,
        };
        let gap = Gap { first: self.next_seq, end: packet.seq, reason };
        let ends = packet.kind == PacketKind::EndOfSession;
        let ends_now = ends && !self.end_told;
        // A venue that sends more after all has not ended it.
        self.ended = ends || (self.ended && packet.count == 0);
        self.end_told = ends || (self.end_told && self.ended);
        self.advance(packet);
        Verdict {
            change: ends_now.then_some(Change {
                change: session_change::END,
                previous_next_seq: self.next_seq,
            }),
            gap: (gap.first < gap.end).then_some(gap),
            skip: 0,
            take: packet.count,
            stale: false,
        }
    }

    #[inline]
    fn advance(&mut self, packet: &Packet) {
        if packet.seq <= 1 && packet.count > 0 && self.first_message.is_none() {
            self.first_message = Some(FirstMessage::of(packet));
        }
        self.next_seq = packet.seq.saturating_add(packet.count);
        self.note_sent(packet);
    }

    #[inline]
    fn note_sent(&mut self, packet: &Packet) {
        if let Some(sent) = packet.sent_ns {
            self.last_sent_ns = self.last_sent_ns.max(sent);
        }
    }
}

/// Numbers start at 1, and a heartbeat that names 0 has nothing before it either. Where messages are
/// numbered from 0 all the same, they have their own numbers: taken for 1, the first would hide the
/// second.
fn first_number(packet: &Packet) -> u64 {
    if packet.count == 0 { packet.seq.max(1) } else { packet.seq }
}

/// Whether a packet brings a first message that is not the one that is known.
fn is_another_first(packet: &Packet, known: Option<FirstMessage>) -> bool {
    packet.kind == PacketKind::Data
        && known
            .is_some_and(|known| known.seq == packet.seq && known.fingerprint != packet.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 10] = *b"AAAAAAAAAA";
    const B: [u8; 10] = *b"BBBBBBBBBB";

    fn data(session: [u8; 10], seq: u64, count: u64) -> Packet {
        let kind = if count == 0 { PacketKind::Heartbeat } else { PacketKind::Data };
        Packet { session, seq, count, kind, sent_ns: None, fingerprint: seq }
    }

    fn started() -> Session {
        let mut session = Session::new();
        let verdict = session.on_packet(&data(A, 1, 10));
        assert_eq!(verdict.change.unwrap().change, session_change::START);
        assert_eq!((verdict.gap, verdict.take), (None, 10));
        session
    }

    #[test]
    fn messages_in_sequence_are_taken() {
        let mut session = started();
        assert_eq!(session.on_packet(&data(A, 11, 5)), Verdict { take: 5, ..Verdict::default() });
        assert_eq!(session.on_packet(&data(A, 16, 0)), Verdict::default());
        assert_eq!(session.next_seq(), 16);
    }

    #[test]
    fn a_late_start_says_what_it_missed() {
        let verdict = Session::new().on_packet(&data(A, 100, 1));
        let gap = Gap { first: 1, end: 100, reason: gap_reason::LATE_JOIN };
        assert_eq!(verdict.gap, Some(gap));
    }

    #[test]
    fn gaps_are_exact_and_found_by_heartbeats_too() {
        let mut session = started();
        let verdict = session.on_packet(&data(A, 20, 2));
        let jump = Gap { first: 11, end: 20, reason: gap_reason::SEQUENCE_JUMP };
        assert_eq!((verdict.gap, verdict.take), (Some(jump), 2));
        let verdict = session.on_packet(&data(A, 30, 0));
        assert_eq!(verdict.gap, Some(Gap { first: 22, end: 30, reason: gap_reason::HEARTBEAT }));
    }

    #[test]
    fn a_session_that_goes_on_behind_its_end_has_not_ended() {
        let mut session = started();
        let end_at = |seq| Packet { kind: PacketKind::EndOfSession, ..data(A, seq, 0) };
        let packets =
            [end_at(11), end_at(11), data(A, 11, 0), data(A, 11, 2), end_at(13), end_at(13)];
        let changes = packets.map(|packet| {
            let verdict = session.on_packet(&packet);
            (verdict.change.map(|change| change.change), session.ended())
        });
        let ended = Some(session_change::END);
        let (end, over, on) = ((ended, true), (None, true), (None, false));
        assert_eq!(changes, [end, over, over, on, end, over]);
        // Some of its messages are known; then all of them are.
        assert_eq!((session.on_packet(&data(A, 12, 3)).take, session.ended()), (2, false));
        assert_eq!(session.on_packet(&end_at(15)).change.map(|end| end.change), ended);
        assert_eq!((session.on_packet(&data(A, 12, 3)).skip, session.ended()), (3, true));
    }

    #[test]
    fn a_session_that_was_left_comes_back_from_its_beginning() {
        let new = Some(session_change::NEW_SESSION);
        let change = |verdict: Verdict| (verdict.change.map(|change| change.change), verdict.take);
        let mut session = started();
        assert_eq!(change(session.on_packet(&data(B, 1, 2))), (new, 2));
        // The slower line's copy, and the first message of another day.
        assert_eq!(change(session.on_packet(&data(A, 1, 10))), (None, 0));
        let other = Packet { fingerprint: 77, ..data(A, 1, 3) };
        assert!(session.starts_over(&other));
        assert_eq!(change(session.on_packet(&other)), (new, 3));

        // Where the venue says when it sent it, at any number.
        let sent = |packet: Packet, ns| Packet { sent_ns: Some(ns), ..packet };
        let mut session = Session::new().with_restart_margin(5);
        session.on_packet(&sent(data(A, 1, 10), 100));
        session.on_packet(&sent(data(B, 1, 2), 200));
        for late in [sent(data(A, 3, 2), 90), sent(data(A, 3, 2), 205), sent(data(A, 3, 0), 300)] {
            assert_eq!(change(session.on_packet(&late)), (None, 0), "{late:?}");
        }
        assert_eq!(change(session.on_packet(&sent(data(A, 3, 2), 206))), (new, 2));
    }

    #[test]
    fn duplicates_are_skipped_whole_or_in_part() {
        let mut session = started();
        let known = session.on_packet(&data(A, 3, 4));
        assert_eq!((known.skip, known.take), (4, 0));
        let overlap = session.on_packet(&data(A, 8, 6));
        assert_eq!((overlap.skip, overlap.take, session.next_seq()), (3, 3, 14));
        // The very first packet again, unchanged: still a duplicate.
        assert_eq!(session.on_packet(&data(A, 1, 10)).take, 0);
    }

    #[test]
    fn another_number_one_is_a_restart() {
        let mut session = started();
        let again = Packet { fingerprint: 99, ..data(A, 1, 2) };
        let verdict = session.on_packet(&again);
        let change = Change { change: session_change::RESTART, previous_next_seq: 11 };
        assert_eq!((verdict.change, verdict.take), (Some(change), 2));
        assert_eq!(session.next_seq(), 3);
    }

    #[test]
    fn a_later_send_time_below_the_expected_number_is_a_restart() {
        let mut session = Session::new();
        let sent = |seq, count, ns| Packet { sent_ns: Some(ns), ..data(A, seq, count) };
        session.on_packet(&sent(1, 10, 100));
        session.on_packet(&sent(11, 10, 200));
        assert_eq!(session.on_packet(&sent(11, 10, 200)).skip, 10);
        let verdict = session.on_packet(&sent(1, 0, 300));
        assert_eq!(verdict.change.unwrap().change, session_change::RESTART);
        assert_eq!(session.next_seq(), 1);
        assert_eq!(session.on_packet(&sent(1, 4, 400)).take, 4);
    }

    #[test]
    fn a_new_session_needs_data_or_two_heartbeats() {
        let mut session = started();
        assert!(session.on_packet(&data(B, 1, 0)).stale);
        let verdict = session.on_packet(&data(B, 1, 0));
        assert_eq!(verdict.change.unwrap().change, session_change::NEW_SESSION);
        // A packet of the old session that comes late adds nothing.
        let verdict = session.on_packet(&data(A, 5, 6));
        assert!(verdict.stale && verdict.skip == 6);
        assert_eq!((session.id(), session.next_seq()), (B, 1));
        // Nor does one that carries it on, as long as the new session goes on as well.
        assert!(session.on_packet(&data(A, 11, 1)).stale);
        assert_eq!(session.on_packet(&data(B, 1, 1)).take, 1);
        assert!(session.on_packet(&data(A, 11, 1)).stale);
        assert_eq!(session.on_packet(&data(A, 12, 1)).change.unwrap().previous_next_seq, 2);
    }

    #[test]
    fn one_damaged_packet_does_not_lose_the_day() {
        let mut session = started();
        assert!(session.on_packet(&data(A, 1 << 60, 3)).stale);
        assert_eq!(session.on_packet(&data(A, 11, 1)).take, 1);
        assert!(session.on_packet(&data(A, 1 << 60, 3)).stale);
        let verdict = session.on_packet(&data(A, (1 << 60) + 3, 1));
        assert_eq!(verdict.gap.unwrap().end, (1 << 60) + 3);
        assert_eq!(verdict.take, 1);
    }

    /// No specification has it, but no message is to be lost by it.
    #[test]
    fn a_session_numbered_from_0_is_taken_whole() {
        let packets = [data(A, 0, 0), data(A, 0, 1), data(A, 0, 1), data(A, 1, 2), data(A, 3, 1)];
        for first in [0, 1] {
            let mut session = Session::new();
            let taken = packets.iter().skip(first).map(|packet| {
                assert!(!session.started || !session.starts_over(packet), "{packet:?}");
                let verdict = session.on_packet(packet);
                assert_eq!((verdict.gap, verdict.stale), (None, false), "{packet:?}");
                verdict.take
            });
            assert_eq!(taken.collect::<std::vec::Vec<_>>(), [0, 1, 0, 2, 1][first..]);
            // The other line's copies, and a restart.
            assert_eq!(
                session.on_packet(&data(A, 1, 2)),
                Verdict { skip: 2, ..Verdict::default() }
            );
            assert_eq!(session.on_packet(&data(A, 0, 0)), Verdict::default());
            let again = Packet { fingerprint: 9, ..data(A, 0, 1) };
            assert!(session.starts_over(&again));
            assert_eq!((session.on_packet(&again).take, session.next_seq()), (1, 1));
        }
        // Most heartbeats that name 0 are of sessions numbered from 1.
        let mut session = Session::new();
        session.on_packet(&data(A, 0, 0));
        assert_eq!(session.on_packet(&data(A, 1, 2)), Verdict { take: 2, ..Verdict::default() });
    }

    /// Who joins when all is over hears of it: venues say so for a while.
    #[test]
    fn a_session_that_begins_with_its_end_is_told_to_end() {
        let end = |session| Packet { kind: PacketKind::EndOfSession, ..data(session, 12, 0) };
        let mut session = Session::new();
        let change = |verdict: Verdict| verdict.change.map(|change| change.change);
        assert_eq!(change(session.on_packet(&end(A))), Some(session_change::START));
        assert!(session.ended());
        assert_eq!(change(session.on_packet(&data(A, 12, 0))), None);
        assert_eq!(change(session.on_packet(&end(A))), Some(session_change::END));
        assert_eq!(session.on_packet(&end(A)), Verdict::default());
        // Another one, of which no more is seen.
        let changes = [B, B, B].map(|id| change(session.on_packet(&end(id))));
        assert_eq!(changes, [None, Some(session_change::NEW_SESSION), Some(session_change::END)]);
        assert_eq!(change(session.on_packet(&data(B, 12, 1))), None);
        assert!(!session.ended());
    }

    #[test]
    fn the_end_of_a_session_is_told_once() {
        let mut session = started();
        let end = Packet { kind: PacketKind::EndOfSession, ..data(A, 12, 0) };
        let verdict = session.on_packet(&end);
        assert_eq!(verdict.change.unwrap().change, session_change::END);
        assert_eq!(verdict.gap.unwrap().end, 12);
        assert!(session.ended());
        assert_eq!(session.on_packet(&end), Verdict::default());
    }

    proptest::proptest! {
        /// What is asked first decides nothing: any packets come to the same without it.
        #[test]
        fn the_short_way_is_the_long_one(
            packets in proptest::collection::vec(
                (0u64..40, 0u64..6, 0u8..12, 0u64..3, proptest::option::of(0u64..9)),
                1..80,
            ),
        ) {
            let (mut short, mut long) = (Session::new(), Session::new());
            for (seq, count, other, fingerprint, sent_ns) in packets {
                let next = short.next_seq();
                let packet = Packet {
                    session: if other == 0 { B } else { A },
                    // Mostly what comes next.
                    seq: if other > 3 { next } else { seq },
                    count: if other == 1 { 0 } else { count },
                    kind: match other {
                        1 => PacketKind::Heartbeat,
                        2 => PacketKind::EndOfSession,
                        _ => PacketKind::Data,
                    },
                    sent_ns,
                    fingerprint,
                };
                proptest::prop_assert_eq!(short.on_packet(&packet), long.on_any(&packet));
                proptest::prop_assert_eq!(short, long);
            }
        }

        /// Whatever arrives, in whatever order: what is taken and what is reported missing
        /// together cover each session's numbers once, in order.
        #[test]
        fn taken_and_missing_ranges_tile_the_sequence(
            packets in proptest::collection::vec((0u64..60, 0u64..6), 1..80),
        ) {
            let mut session = Session::new();
            let mut position = 1;
            for (seq, count) in packets {
                let packet = Packet { fingerprint: 0, ..data(A, seq, count) };
                let verdict = session.on_packet(&packet);
                if let Some(gap) = verdict.gap {
                    proptest::prop_assert_eq!(gap.first, position);
                    position = gap.end;
                }
                if verdict.take > 0 {
                    // Numbers start at 1, or 0 where the first message has it.
                    let begins_with_0 = position == 1 && (seq, verdict.skip) == (0, 0);
                    position -= u64::from(begins_with_0);
                    proptest::prop_assert_eq!(seq + verdict.skip, position);
                    position += verdict.take;
                }
                proptest::prop_assert_eq!(session.next_seq(), position);
            }
        }
    }
}
