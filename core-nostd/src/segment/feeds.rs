//! A feed's block in the segment: who it is, where its session stands, and its counters.

use super::cell::{Cell, CellBusy};
use super::counters::counters;
use crate::sync::{AtomicU64, Ordering};

/// Words of a feed's block (4 KiB).
pub const FEED_WORDS: usize = 512;

const IDENTITY: usize = 0;
const STATE: usize = 10;
const SESSION: usize = 16;
const COUNTERS: usize = 32;
const GAUGES: usize = 80;
const ERRORS: usize = 96;
const TYPES: usize = 256;
/// Words of each error group.
const ERRORS_PER_GROUP: usize = 32;

const _: () = assert!(STATE < SESSION);
const _: () = assert!(COUNTERS + FeedCounter::COUNT <= GAUGES);
const _: () = assert!(GAUGES + FeedGauge::COUNT <= ERRORS);
const _: () = assert!(ERRORS + ErrorGroup::COUNT * ERRORS_PER_GROUP <= TYPES);
const _: () = assert!(TYPES + 256 <= FEED_WORDS);

counters! {
    /// Counters of a feed.
    FeedCounter {
        Packets "packets" "Datagrams that arrived for the feed.",
        MalformedPackets "malformed_packets" "Of those, malformed: nothing in them was used.",
        Heartbeats "heartbeats" "Packets without messages.",
        EndsOfSession "ends_of_session" "Packets that announce the end of the session.",
        DuplicatePackets "duplicate_packets" "Packets of which nothing was new: known already, of another session, or too far ahead.",
        Messages "messages" "Messages taken, in sequence.",
        DuplicateMessages "duplicate_messages" "Messages that were known already.",
        UnknownMessages "unknown_messages" "Of the taken, of a type that the decoder does not know.",
        BadMessages "bad_messages" "Of the taken, of a known type with a wrong length.",
        Gaps "gaps" "Ranges of messages that were lost.",
        LostMessages "lost_messages" "Messages in those ranges.",
        JoinedLateMessages "joined_late_messages" "Messages sent before capture joined the session.",
        Restarts "restarts" "Times the session started over under its own id.",
        NewSessions "new_sessions" "Times another session id took over.",
        Events "events" "Events published for the feed.",
        BookErrors "book_errors" "Messages that the book could not apply, by cause below.",
        HeldPackets "held_packets" "Packets that waited for messages in front of them.",
        WindowFull "window_full" "Times the reorder window had no room, and what was missing was given up.",
        RequestedMessages "requested_messages" "Messages that a re-request server was to be asked for.",
        RecoveryRequests "recovery_requests" "Requests sent to re-request servers.",
        RecoveryAnswers "recovery_answers" "Packets that they answered with.",
        RecoveryTimeouts "recovery_timeouts" "Of the requests, repeats: no answer had come.",
        Undirected "undirected" "Messages for an instrument that no directory message announced.",
        DepthsFull "depths_full" "Instruments chosen for depth for which there was no place.",
        Snapshots "snapshots" "Snapshots from which the books were made.",
        SnapshotMessages "snapshot_messages" "Messages of those snapshots.",
        SnapshotsFailed "snapshots_failed" "Times no snapshot was to be had in time.",
        SnapshotHeldPackets "snapshot_held_packets" "Packets that waited for a snapshot.",
        SnapshotsWanted "snapshots_wanted" "Times a snapshot was wanted because messages were lost.",
        StalePackets "stale_packets" "Packets left aside: of a session that is not the feed's, or far ahead with none to confirm it.",
        StaleMessages "stale_messages" "Messages of packets of a session that is not the feed's, or far ahead with none to confirm it: not used.",
    }
}

counters! {
    /// How full the memory of a feed's books is: values that rise and fall. All are 0 where the
    /// protocol's book has no such thing, or nothing was chosen. What no longer fitted stands among the
    /// book's errors.
    FeedGauge {
        Orders "orders" "Orders in the feed's books.",
        OrdersPeak "orders_peak" "The most orders that there were at once.",
        OrdersCapacity "orders_capacity" "Orders that there is memory for.",
        Levels "levels" "Price levels in the feed's books.",
        LevelsPeak "levels_peak" "The most price levels that there were at once.",
        LevelsCapacity "levels_capacity" "Price levels that there is memory for.",
        Depths "depths" "Instruments that have ten levels of depth.",
        DepthsCapacity "depths_capacity" "Places for such instruments that the feed has, until it is removed.",
    }
}

counters! {
    /// Groups of error causes, each with up to 32 causes that its own module names.
    ErrorGroup {
        Packet "packet" "Why packets were malformed.",
        Book "book" "Why messages could not be applied to the book.",
    }
}

impl ErrorGroup {
    /// Causes that a group can tell apart; those beyond share the last place.
    pub const CAUSES: usize = ERRORS_PER_GROUP;
}

/// What a feed's block is used for. A block is used once in an epoch, and blocks are used in order,
/// so that an index and an instrument id mean the same feed for as long as the segment lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum FeedState {
    /// Nothing yet: room for a feed that is added while the worker runs.
    #[default]
    Unused = 0,
    /// The worker takes the feed's packets.
    Live = 1,
    /// The feed was removed while the worker ran. What it counted stays.
    Removed = 2,
}

/// Who a feed is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedIdentity {
    /// Name from the configuration.
    pub name: heapless::String<32>,
    /// Protocol as the configuration spells it.
    pub protocol: heapless::String<32>,
    /// Multicast group (or unicast address).
    pub group: [u8; 4],
    /// UDP port.
    pub port: u16,
    /// First instrument id of the feed.
    pub first_instrument: u32,
    /// Instrument ids that the feed may use.
    pub instruments: u32,
}

/// Where a feed's session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionState {
    /// Session id as the venue sends it (IEX: the number in decimal), NUL-padded.
    pub session: [u8; 10],
    /// Whether the venue said that the session is over.
    pub ended: bool,
    /// Whether books of the feed may be wrong after a loss.
    pub maybe_bad_book: bool,
    /// Whether packets wait for a snapshot that is being fetched or taken.
    pub joining: bool,
    /// Next sequence number expected; 0 before the first packet.
    pub next_seq: u64,
    /// Receive time of the latest packet, UTC nanoseconds.
    pub last_packet_ns: u64,
}

/// Reads a feed's block.
#[derive(Clone, Copy, Debug)]
pub struct FeedView<'m> {
    words: &'m [AtomicU64; FEED_WORDS],
}

impl<'m> FeedView<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Option<Self> {
        Some(FeedView { words: words.first_chunk()? })
    }

    #[inline]
    fn get(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Whether the block is in use (acquire: with [`FeedState::Live`] the identity is there, and the
    /// addresses of the lines).
    pub fn state(&self) -> FeedState {
        match self.words.get(STATE).map_or(0, |word| word.load(Ordering::Acquire)) {
            0 => FeedState::Unused,
            1 => FeedState::Live,
            _ => FeedState::Removed,
        }
    }

    /// Who the feed is.
    pub fn identity(&self) -> FeedIdentity {
        let address = self.get(IDENTITY + 8);
        let instruments = self.get(IDENTITY + 9);
        FeedIdentity {
            name: self.text(IDENTITY),
            protocol: self.text(IDENTITY + 4),
            group: (address as u32).to_le_bytes(),
            port: (address >> 32) as u16,
            first_instrument: instruments as u32,
            instruments: (instruments >> 32) as u32,
        }
    }

    fn text(&self, index: usize) -> heapless::String<32> {
        let mut text = heapless::String::new();
        for byte in (index..index + 4).flat_map(|i| self.get(i).to_le_bytes()) {
            let shown = match byte {
                0 => return text,
                0x20..0x7F => char::from(byte),
                _ => '?',
            };
            if text.push(shown).is_err() {
                return text;
            }
        }
        text
    }

    /// Where the session stands.
    pub fn session(&self) -> Result<SessionState, CellBusy> {
        let words = self.words.get(SESSION..COUNTERS).unwrap_or(&[]);
        let Some(cell) = Cell::<5>::new(words) else { return Ok(SessionState::default()) };
        let Some([low, high, next_seq, last_packet_ns, _]) = cell.read()? else {
            return Ok(SessionState::default());
        };
        let mut session = [0u8; 10];
        let bytes = low.to_le_bytes().into_iter().chain(high.to_le_bytes());
        for (to, from) in session.iter_mut().zip(bytes) {
            *to = from;
        }
        Ok(SessionState {
            session,
            ended: high >> 16 & 1 != 0,
            maybe_bad_book: high >> 17 & 1 != 0,
            joining: high >> 18 & 1 != 0,
            next_seq,
            last_packet_ns,
        })
    }

    /// The value of a counter.
    #[inline]
    pub fn counter(&self, counter: FeedCounter) -> u64 {
        self.get(COUNTERS + counter as usize)
    }

    /// The value of a gauge.
    #[inline]
    pub fn gauge(&self, gauge: FeedGauge) -> u64 {
        self.get(GAUGES + gauge as usize)
    }

    /// How often cause number `cause` of `group` occurred.
    pub fn errors(&self, group: ErrorGroup, cause: usize) -> u64 {
        self.get(ERRORS + group as usize * ERRORS_PER_GROUP + cause.min(ERRORS_PER_GROUP - 1))
    }

    /// Messages of `message_type` that were taken.
    pub fn messages_of_type(&self, message_type: u8) -> u64 {
        self.get(TYPES + usize::from(message_type))
    }
}

/// Writes a feed's block. Single writer.
#[derive(Clone, Copy, Debug)]
pub struct FeedWriter<'m> {
    view: FeedView<'m>,
}

impl<'m> FeedWriter<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Option<Self> {
        Some(FeedWriter { view: FeedView::new(words)? })
    }

    /// The same block, to read.
    pub fn view(&self) -> FeedView<'m> {
        self.view
    }

    #[inline]
    fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.view.words.get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    #[inline]
    fn increase(&self, index: usize, amount: u64) {
        if let Some(word) = self.view.words.get(index) {
            word.store(word.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    }

    /// Says who the feed is, and that it is live (release; partner: [`FeedView::state`]).
    pub fn set_identity(&self, identity: &FeedIdentity) {
        for (index, text) in [(IDENTITY, &identity.name), (IDENTITY + 4, &identity.protocol)] {
            let mut bytes = text.as_bytes().iter();
            for i in index..index + 4 {
                let word = core::array::from_fn(|_| bytes.next().copied().unwrap_or(0));
                self.set(i, u64::from_le_bytes(word));
            }
        }
        let group = u64::from(u32::from_le_bytes(identity.group));
        self.set(IDENTITY + 8, group | u64::from(identity.port) << 32);
        let first = u64::from(identity.first_instrument);
        self.set(IDENTITY + 9, first | u64::from(identity.instruments) << 32);
        self.set_state(FeedState::Live);
    }

    /// Says that the feed was removed (release: what it counted before is there).
    pub fn set_removed(&self) {
        self.set_state(FeedState::Removed);
    }

    fn set_state(&self, state: FeedState) {
        if let Some(word) = self.view.words.get(STATE) {
            word.store(state as u64, Ordering::Release);
        }
    }

    /// Publishes where the session stands.
    #[inline]
    pub fn set_session(&self, state: &SessionState) {
        let [a, b, c, d, e, f, g, h, i, j] = state.session;
        let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let high = u64::from(u16::from_le_bytes([i, j]))
            | u64::from(state.ended) << 16
            | u64::from(state.maybe_bad_book) << 17
            | u64::from(state.joining) << 18;
        let words = self.view.words.get(SESSION..COUNTERS).unwrap_or(&[]);
        if let Some(cell) = Cell::<5>::new(words) {
            cell.write(&[low, high, state.next_seq, state.last_packet_ns, 0]);
        }
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, counter: FeedCounter, amount: u64) {
        self.increase(COUNTERS + counter as usize, amount);
    }

    /// Sets a gauge.
    #[inline]
    pub fn set_gauge(&self, gauge: FeedGauge, value: u64) {
        self.set(GAUGES + gauge as usize, value);
    }

    /// Counts one error of `group` by its cause.
    #[inline]
    pub fn add_error(&self, group: ErrorGroup, cause: usize) {
        let cause = cause.min(ERRORS_PER_GROUP - 1);
        self.increase(ERRORS + group as usize * ERRORS_PER_GROUP + cause, 1);
    }

    /// Counts one message of `message_type`.
    #[inline]
    pub fn add_type(&self, message_type: u8) {
        self.increase(TYPES + usize::from(message_type), 1);
    }
}
