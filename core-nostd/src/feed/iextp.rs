//! What IEX's feeds do alike over IEX-TP, whatever their messages: packets, symbols, trades and
//! statuses. [`Dialect`] is what each has for itself.
//!
//! | message | record |
//! |---|---|
//! | `T` | `T` without side, the trade id as its order id |
//! | `B` | a break |
//! | `D` | a symbol record, as has the first message of a symbol that none announced |
//! | `S`, `H`, `O`, `P`, `E` | a status record |
//! | `A` | an auction record |
//! | `X` (official price), `I` (retail interest) | none: they are counted |
//!
//! A message may be longer than this version of it: what stands behind is not looked at.

use super::channel::{Channel, FeedSpec};
use super::publisher::{MessageStamp, Publisher};
use super::session::{Packet, PacketKind};
use super::status::{self, StatusChange};
use super::symbol_index::SymbolIndex;
use super::trading_day::TradingDays;
use super::translator::{Taken, Translator};
use crate::arena::{Arena, ArenaError};
use crate::book::BookUsage;
use crate::event::{
    AuctionMsg, BreakMsg, MboMsg, SIDE_NONE, Side, StatusMsg, UNDEF_PRICE, action, flags,
};
use crate::segment::{Counter, DEPTH_LEVELS, DepthLevel, FeedCounter};
use crate::wire::iex::{self, MessageError, Shared};
use crate::wire::iextp;

/// What one of IEX's feeds has for itself: the messages of its market data, and its book.
pub trait Dialect<'m>: Sized {
    /// The feed's name in configuration and status.
    const NAME: &'static str;
    /// The protocol numbers that its segments may bear.
    const PROTOCOLS: &'static [u16];
    /// The DBN publisher id of its records, unless configured otherwise.
    const PUBLISHER_ID: u16;
    /// Types that change its book.
    const BOOK_TYPES: &'static [u8];

    /// Claims the memory of a book for `instruments`.
    fn new(instruments: u32, spec: &FeedSpec, arena: &mut Arena<'m>) -> Result<Self, ArenaError>;

    /// Decodes a message, and takes it if it is one that only this feed has; any other is handed
    /// back.
    ///
    /// # Errors
    /// The bytes are no message of this feed, and nothing was done.
    fn on_message<'p>(
        &mut self,
        bytes: &'p [u8],
        venue: &mut Venue<'m>,
        publisher: &mut Publisher<'m>,
    ) -> Result<Option<Shared<'p>>, MessageError>;

    /// The best ten bids and offers of a local instrument.
    fn sides(&self, local: u32) -> [[DepthLevel; DEPTH_LEVELS]; 2];

    /// How full the memory of its book is.
    fn usage(&self) -> BookUsage {
        BookUsage::default()
    }

    /// Whether the latest message belongs to an event that changed a book and is not over.
    #[inline]
    fn is_within_event(&self) -> bool {
        false
    }

    /// Ends that event, if there is one: nothing of it follows.
    fn end_event(&mut self, _venue: &mut Venue<'m>, _publisher: &mut Publisher<'m>) {}

    /// Empties the book of a local instrument. Returns whether it held anything.
    fn clear(&mut self, local: u32) -> bool;
}

/// A feed of IEX's.
#[derive(Debug)]
pub struct IexFeed<'m, D> {
    venue: Venue<'m>,
    dialect: D,
    stream: OwnStream,
}

/// Which of the IEX-TP channels that share a group is the feed's: the first that is heard a second
/// time, for as long as it is heard.
#[derive(Clone, Copy, Debug, Default)]
struct OwnStream {
    channel_id: u32,
    /// Those before it, the latest first. Before the market opens there are heartbeats alone, and
    /// channels take turns: one is not heard again until all others were.
    earlier_ids: [u32; 16],
    /// When its latest packet was sent; `None` while it has had but one, which may be damaged.
    heard_ns: Option<u64>,
}

impl OwnStream {
    /// Silence after which another channel takes over. Heartbeats come every second.
    const SILENCE_NS: u64 = 60_000_000_000;

    /// Whether a packet of channel `id` is of the stream.
    #[inline]
    fn claims(&mut self, id: u32, sent_ns: u64) -> bool {
        if id == self.channel_id {
            self.heard_ns = Some(sent_ns);
            return true;
        }
        if self.heard_ns.is_some_and(|heard| heard.abs_diff(sent_ns) <= Self::SILENCE_NS) {
            return false;
        }
        self.take_over(id, sent_ns);
        true
    }

    #[cold]
    fn take_over(&mut self, id: u32, sent_ns: u64) {
        self.heard_ns = self.earlier_ids.contains(&id).then_some(sent_ns);
        let mut before = self.channel_id;
        for earlier in &mut self.earlier_ids {
            before = core::mem::replace(earlier, before);
        }
        self.channel_id = id;
    }
}

/// Causes for which a sound segment is not used, behind those of [`iextp::SegmentError`].
const OTHER_PROTOCOL: usize = iextp::SegmentError::COUNT;
const OTHER_CHANNEL: usize = OTHER_PROTOCOL + 1;

/// IEX as a feed knows it: session, symbols, and which message is at hand.
#[derive(Debug)]
pub struct Venue<'m> {
    /// The protocol-independent half.
    pub channel: Channel<'m>,
    symbols: SymbolIndex<'m>,
    /// Number of the message at hand.
    sequence: u64,
    /// When its packet was sent, UTC nanoseconds.
    sent_ns: u64,
}

impl<'m, D: Dialect<'m>> Translator<'m> for IexFeed<'m, D> {
    const NAME: &'static str = D::NAME;
    const PUBLISHER_ID: u16 = D::PUBLISHER_ID;

    type Checked<'p> = iextp::Segment<'p>;

    fn new(
        channel: Channel<'m>,
        spec: &FeedSpec,
        _: &TradingDays,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ArenaError> {
        let instruments = channel.instruments();
        let dialect = D::new(instruments, spec, arena)?;
        let symbols = SymbolIndex::new(instruments, arena)?;
        let venue = Venue { channel, symbols, sequence: 0, sent_ns: 0 };
        Ok(IexFeed { venue, dialect, stream: OwnStream::default() })
    }

    fn packet_error_name(cause: usize) -> &'static str {
        match cause {
            OTHER_PROTOCOL => "other_protocol",
            OTHER_CHANNEL => "other_channel",
            _ => iextp::SegmentError::ALL.get(cause).map_or("other", |error| error.name()),
        }
    }

    #[inline]
    fn check<'p>(payload: &'p [u8]) -> Result<(Packet, iextp::Segment<'p>), usize> {
        let segment = iextp::Segment::parse(payload).map_err(|error| error.index())?;
        if !D::PROTOCOLS.contains(&segment.protocol()) {
            return Err(OTHER_PROTOCOL);
        }
        let count = u64::from(segment.message_count());
        let sent_ns = segment.send_time();
        let packet = Packet {
            session: session_digits(segment.session_id()),
            seq: segment.first_sequence(),
            count,
            kind: if count == 0 { PacketKind::Heartbeat } else { PacketKind::Data },
            sent_ns: Some(sent_ns),
            fingerprint: sent_ns,
        };
        Ok((packet, segment))
    }

    #[inline]
    fn claim(&mut self, segment: &iextp::Segment<'_>) -> Result<(), usize> {
        match self.stream.claims(segment.channel_id(), segment.send_time()) {
            true => Ok(()),
            false => Err(OTHER_CHANNEL),
        }
    }

    #[inline]
    fn take(
        &mut self,
        packet: &Packet,
        segment: &iextp::Segment<'_>,
        publisher: &mut Publisher<'m>,
    ) -> Taken {
        self.venue.sent_ns = segment.send_time();
        let verdict = self.venue.channel.on_packet(packet);
        if verdict.change.is_some() {
            // Here, and not by what came before: a heartbeat behind a hole may or may not have been
            // taken by now, as the other line has it.
            self.dialect.end_event(&mut self.venue, publisher);
        }
        if self.venue.channel.publish_change(&verdict, self.venue.sent_ns, publisher) {
            self.clear_books(publisher);
        }
        self.venue.channel.publish_gap(&verdict, self.venue.sent_ns, publisher);
        // One of another session, or from before the event, late on the slower line, knows nothing of it.
        let next_seq = self.venue.channel.session().next_seq();
        if packet.kind == PacketKind::Heartbeat && !verdict.stale && packet.seq >= next_seq {
            self.dialect.end_event(&mut self.venue, publisher);
        }
        if verdict.take > 0 {
            self.venue.sequence = packet.seq.wrapping_add(verdict.skip);
            for message in segment.messages().skip(verdict.skip as usize) {
                self.on_message(message, publisher);
                self.venue.sequence = self.venue.sequence.wrapping_add(1);
            }
        }
        self.venue.channel.end_packet(publisher);
        Taken::of(&verdict)
    }

    fn finish(&mut self, publisher: &mut Publisher<'m>) {
        if self.dialect.is_within_event() {
            self.dialect.end_event(&mut self.venue, publisher);
            self.venue.channel.end_packet(publisher);
        }
    }

    fn usage(&self) -> BookUsage {
        self.dialect.usage()
    }

    #[inline]
    fn channel(&mut self) -> &mut Channel<'m> {
        &mut self.venue.channel
    }
}

impl<'m, D: Dialect<'m>> IexFeed<'m, D> {
    #[cold]
    fn clear_books(&mut self, publisher: &mut Publisher<'m>) {
        let Venue { channel, sent_ns, .. } = &self.venue;
        for local in 0..channel.used() {
            if self.dialect.clear(local) {
                publisher.publish(&channel.clear_record(local, *sent_ns, publisher));
            }
        }
        for local in 0..self.venue.channel.used() {
            let Venue { channel, sent_ns, .. } = &mut self.venue;
            if let Some(place) = channel.depth_place(local) {
                let stamp = channel.stamp(local, 0, *sent_ns, *sent_ns, publisher);
                let sides = self.dialect.sides(local);
                let event_seq = publisher.last_sequence();
                channel.publish_depth(local, place, event_seq, &stamp, |rows| rows.replace(sides));
            }
        }
    }

    #[inline]
    fn on_message(&mut self, bytes: &[u8], publisher: &mut Publisher<'m>) {
        if let Some(kind) = bytes.first() {
            self.venue.channel.count_type(*kind);
        }
        if let Err(error) = self.take_message(bytes, publisher) {
            self.unreadable(bytes, error, publisher);
        }
    }

    #[inline(always)]
    fn take_message(
        &mut self,
        bytes: &[u8],
        publisher: &mut Publisher<'m>,
    ) -> Result<(), MessageError> {
        let venue = &mut self.venue;
        match self.dialect.on_message(bytes, venue, publisher)? {
            None => {}
            Some(Shared::TradeReport(m)) => {
                let within = self.dialect.is_within_event();
                if let Some((local, event_seq, stamp)) = venue.trade(m, within, publisher)
                    && !within
                {
                    venue.after_event(local, event_seq, &stamp, &self.dialect);
                }
            }
            Some(message) => venue.on_notice(message, publisher),
        }
        Ok(())
    }

    /// What has not the length of its type. IEX lets messages grow at their end without notice:
    /// what is known of a longer one stands in front. One that is shorter, and would have changed
    /// a book, marks it.
    #[cold]
    #[inline(never)]
    fn unreadable(&mut self, bytes: &[u8], error: MessageError, publisher: &mut Publisher<'m>) {
        let kind = match error {
            MessageError::UnknownType(_) => {
                return self.venue.channel.count(FeedCounter::UnknownMessages, 1);
            }
            MessageError::Length { expected, .. } if bytes.len() > usize::from(expected) => {
                let known = bytes.get(..usize::from(expected)).unwrap_or_default();
                // It has the length of its type now.
                let _ = self.take_message(known, publisher);
                return;
            }
            MessageError::Length { kind, .. } => Some(kind),
            MessageError::Empty => None,
        };
        self.venue.channel.count(FeedCounter::BadMessages, 1);
        if kind.is_none_or(|kind| !D::BOOK_TYPES.contains(&kind)) {
            return;
        }
        let symbol = bytes.get(10..).and_then(|rest| rest.first_chunk::<8>());
        let Some(symbol) = symbol else { return self.venue.channel.doubt_all() };
        let sent = i64::try_from(self.venue.sent_ns).unwrap_or(0);
        if let Some((local, stamp)) = self.venue.stamp(*symbol, iex::Time::new(sent), publisher) {
            self.venue.channel.doubt(local, &stamp, publisher);
        }
    }
}

impl<'m> Venue<'m> {
    /// The local instrument of a symbol and what the records of a message share; `None` (and
    /// counted) if the segment has no room for it.
    // Called, and not inlined, it takes 5 ns of the 40 that a message of DEEP has.
    #[inline(always)]
    pub fn stamp(
        &mut self,
        symbol: [u8; 8],
        timestamp: iex::Time,
        publisher: &mut Publisher<'m>,
    ) -> Option<(u32, MessageStamp)> {
        let (local, new, stamp) = self.instrument(symbol, timestamp, publisher)?;
        if new {
            self.announce(local, &symbol, 0, &stamp, publisher);
        }
        Some((local, stamp))
    }

    /// As [`stamp`](Self::stamp), with whether the symbol is still to be announced.
    #[inline(always)]
    fn instrument(
        &mut self,
        symbol: [u8; 8],
        timestamp: iex::Time,
        publisher: &Publisher<'m>,
    ) -> Option<(u32, bool, MessageStamp)> {
        let Some((local, new)) = self.symbols.get_or_insert(symbol) else {
            publisher.counters().add(Counter::InstrumentsFull, 1);
            return None;
        };
        if new {
            self.channel.touch(local);
        }
        let ts_event = time(timestamp);
        let stamp = self.channel.stamp(local, self.sequence, ts_event, self.sent_ns, publisher);
        Some((local, new, stamp))
    }

    #[cold]
    fn announce(
        &mut self,
        local: u32,
        symbol: &[u8; 8],
        round_lot: u32,
        stamp: &MessageStamp,
        publisher: &mut Publisher<'m>,
    ) {
        let entry = self.channel.announce(local, symbol, round_lot, publisher);
        publisher.publish_symbol(&entry, stamp);
    }

    /// The messages that do not come between two ticks: kept away from those that do.
    fn on_notice(&mut self, message: Shared<'_>, publisher: &mut Publisher<'m>) {
        match message {
            Shared::SecurityDirectory(m) => self.directory(m, publisher),
            Shared::SystemEvent(m) => {
                let hd = self.channel.feed_header::<StatusMsg>(time(m.timestamp));
                publisher.publish(&status::iex_system(m.event).record(hd, publisher.ts_recv()));
            }
            Shared::TradingStatus(m) => {
                self.status(m.symbol, m.timestamp, status::itch_trading(m.status), publisher);
            }
            Shared::OperationalHalt(m) => {
                self.status(m.symbol, m.timestamp, status::iex_operational(m.status), publisher);
            }
            Shared::ShortSale(m) => {
                self.status(m.symbol, m.timestamp, status::iex_short_sale(m.status), publisher);
            }
            Shared::SecurityEvent(m) => {
                self.status(m.symbol, m.timestamp, status::iex_security(m.event), publisher);
            }
            Shared::TradeBreak(m) => self.trade_break(m, publisher),
            Shared::AuctionInfo(m) => self.auction(m, publisher),
            // A trade does not come here.
            Shared::OfficialPrice(_) | Shared::RetailLiquidity(_) | Shared::TradeReport(_) => {}
        }
    }

    #[inline]
    fn trade(
        &mut self,
        m: &iex::TradeReport,
        within_event: bool,
        publisher: &mut Publisher<'m>,
    ) -> Option<(u32, u64, MessageStamp)> {
        let (local, stamp) = self.stamp(m.symbol, m.timestamp, publisher)?;
        let (price, size) = (m.price.nanos(), m.size.get());
        let record = stamp.mbo(action::TRADE, SIDE_NONE, m.trade_id.get() as u64, price, size);
        let last = if within_event { 0 } else { flags::LAST };
        let record = MboMsg { flags: record.flags | last, ..record };
        let event_seq = publisher.publish(&record);
        if let Some(market) = self.channel.market(local) {
            market.add_trade(price, size);
        }
        self.channel.publish_market(local, event_seq, &stamp, publisher);
        Some((local, event_seq, stamp))
    }

    /// After an event of a chosen instrument: its depth.
    #[inline]
    pub fn after_event(
        &mut self,
        local: u32,
        event_seq: u64,
        stamp: &MessageStamp,
        dialect: &impl Dialect<'m>,
    ) {
        if let Some(place) = self.channel.depth_place(local) {
            self.publish_depth(local, place, event_seq, stamp, dialect);
        }
    }

    /// Kept out of the way of those that were not chosen.
    #[inline(never)]
    fn publish_depth(
        &mut self,
        local: u32,
        place: usize,
        event_seq: u64,
        stamp: &MessageStamp,
        dialect: &impl Dialect<'m>,
    ) {
        let sides = dialect.sides(local);
        self.channel.publish_depth(local, place, event_seq, stamp, |rows| rows.replace(sides));
    }

    fn directory(&mut self, m: &iex::SecurityDirectory, publisher: &mut Publisher<'m>) {
        let Some((local, _, stamp)) = self.instrument(m.symbol, m.timestamp, publisher) else {
            return;
        };
        self.announce(local, &m.symbol, m.round_lot.get(), &stamp, publisher);
    }

    /// Publishes a change of an instrument's trading state.
    pub fn status(
        &mut self,
        symbol: [u8; 8],
        timestamp: iex::Time,
        change: StatusChange,
        publisher: &mut Publisher<'m>,
    ) {
        let Some((local, stamp)) = self.stamp(symbol, timestamp, publisher) else { return };
        let record = change.record(stamp.header::<StatusMsg>(), stamp.ts_recv);
        let event_seq = publisher.publish(&record);
        if change.sets_state
            && let Some(market) = self.channel.market(local)
        {
            market.set_status(change.code);
            self.channel.publish_market(local, event_seq, &stamp, publisher);
        }
    }

    fn trade_break(&mut self, m: &iex::TradeReport, publisher: &mut Publisher<'m>) {
        let Some((_, stamp)) = self.stamp(m.symbol, m.timestamp, publisher) else { return };
        publisher.publish(&BreakMsg {
            hd: stamp.header::<BreakMsg>(),
            ts_recv: stamp.ts_recv,
            match_id: m.trade_id.get() as u64,
            price: m.price.nanos(),
            size: m.size.get(),
            sequence: stamp.sequence as u32,
        });
    }

    fn auction(&mut self, m: &iex::AuctionInfo, publisher: &mut Publisher<'m>) {
        let Some((_, stamp)) = self.stamp(m.symbol, m.timestamp, publisher) else { return };
        let indicative = m.indicative_price.nanos();
        publisher.publish(&AuctionMsg {
            hd: stamp.header::<AuctionMsg>(),
            ts_recv: stamp.ts_recv,
            ref_price: m.reference_price.nanos(),
            indicative_price: if indicative == 0 { UNDEF_PRICE } else { indicative },
            paired: m.paired.get(),
            imbalance: m.imbalance.get(),
            side: match m.imbalance_side {
                b'B' => Side::Bid as u8,
                b'S' => Side::Ask as u8,
                _ => SIDE_NONE,
            },
            auction_type: m.auction_type,
            reserved: [0; 2],
            sequence: stamp.sequence as u32,
        });
    }
}

/// A time of the wire; one before 1970 is none.
#[inline]
fn time(timestamp: iex::Time) -> u64 {
    u64::try_from(timestamp.get()).unwrap_or(0)
}

/// IEX-TP numbers its sessions: the number in decimal digits, as a session id.
///
/// Made anew for each packet, hence without a loop: a number is halved into numbers of half as many
/// digits, which stand in one word and are divided by one multiplication, until each is a digit.
#[inline]
fn session_digits(id: u32) -> [u8; 10] {
    let id = u64::from(id);
    let (front, eight) = (id / 100_000_000, id % 100_000_000);
    let fours = (eight / 10_000) | ((eight % 10_000) << 32);
    // 10,486 / 2^20 and 103 / 2^10 divide numbers of four and of two digits exactly, rounded down.
    let hundreds = (fours.wrapping_mul(10_486) >> 20) & 0x0000_007F_0000_007F;
    let twos = hundreds | fours.wrapping_sub(hundreds.wrapping_mul(100)) << 16;
    let tens = (twos.wrapping_mul(103) >> 10) & 0x000F_000F_000F_000F;
    let ones = tens | twos.wrapping_sub(tens.wrapping_mul(10)) << 8;
    let digits = u128::from((front / 10) | ((front % 10) << 8)) | (u128::from(ones) << 16);
    // Without zeros in front, but for the only one of 0.
    let zeros = (digits.trailing_zeros() / 8).min(9) * 8;
    let text = (digits | 0x3030_3030_3030_3030_3030) >> zeros;
    let [text @ .., _, _, _, _, _, _] = text.to_le_bytes();
    text
}

#[cfg(test)]
mod tests {
    use super::session_digits;

    #[test]
    fn session_numbers_read_as_decimal() {
        assert_eq!(&session_digits(1_132_527_616), b"1132527616");
        assert_eq!(&session_digits(0), b"0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&session_digits(u32::MAX), b"4294967295");
        assert_eq!(&session_digits(120), b"120\0\0\0\0\0\0\0");
        let powers = (0..10).map(|power| 10_u32.pow(power));
        let near = powers.flat_map(|power| [power - 1, power, power + 1, power.wrapping_mul(3)]);
        // A prime step: all digits at all places.
        for id in near.chain((0..u32::MAX).step_by(3_571)) {
            let text = std::format!("{id:\0<10}");
            assert_eq!(session_digits(id), text.as_bytes(), "{id}");
        }
    }
}
