//! Nasdaq TotalView-ITCH 5.0 over MoldUDP64, as DBN market-by-order records.
//!
//! The mapping follows Databento's published convention for this feed:
//!
//! | message | records |
//! |---|---|
//! | `A`, `F` | `A` |
//! | `E`, `C` | `T` (aggressor's side, no order id), `F` and `C` (the resting order) |
//! | `X`, `D` | `C` with the size taken off |
//! | `U` | `C` of the old order, `A` of the new one |
//! | `P`, `Q` | `T` without side |
//!
//! The last record of a message carries [`flags::LAST`]. Trades that are not printable carry
//! [`flags::UNPRINTABLE`] and stay out of the volume. `R` gives a symbol record, `S`, `H`, `h`, `Y`
//! and `W` a status record, `B` a break, `I` an auction record. The other types are counted.
//!
//! A message that the book cannot apply is counted by its cause, marks the instrument, and
//! publishes nothing, so that a reader who applies the records has the same book; only an
//! execution that states its own price (`C`) still gives its trade. One that would change a book and
//! has not the length of its type marks the instrument as well. One that names another instrument
//! than its order's is taken for the order's, is counted, and marks both.

mod messages_ahead;
mod notices;

use super::channel::{Channel, FeedSpec};
use super::depth::Touched;
use super::publisher::{MessageStamp, Publisher};
use super::session::{Packet, PacketKind};
use super::trading_day::TradingDays;
use super::translator::{Taken, Translator};
use crate::arena::{Arena, ArenaError};
use crate::book::{
    BookError, BookSpec, BookUsage, OrderBook, PagedIndex, PagedSpec, Reduced, Replaced,
};
use crate::event::{MboMsg, SIDE_NONE, Side, action, flags};
use crate::segment::FeedCounter;
use crate::wire::itch50::{self, Head, ItchError, Message};
use crate::wire::moldudp64;

/// Order references that are looked up directly; Nasdaq's stay below this through a day, and those
/// of another venue go to the hash beside the pages.
const REFERENCES: u64 = 1 << 32;

/// Orders from which on books lie in no cache, so that it pays to look ahead. With and without it, in
/// turns on a Zen 4: with 20,000 a message took a quarter longer, with 80,000 a fifth less, with 3 million
/// half as long.
pub const LARGE_BOOKS: u32 = 1 << 16;

/// Types that change a book.
const BOOK_TYPES: &[u8] = b"AFECXDU";

type Book<'m> = OrderBook<'m, PagedIndex<'m>>;

/// An ITCH feed: its session, its book, and the day that its times count from.
#[derive(Debug)]
pub struct ItchFeed<'m> {
    channel: Channel<'m>,
    book: Book<'m>,
    days: TradingDays,
    /// Local midnight as UTC nanoseconds.
    midnight: u64,
    /// Exchange time of the latest packet with messages; 0 before the first.
    latest: u64,
    /// Number of the message at hand.
    sequence: u64,
}

impl<'m> Translator<'m> for ItchFeed<'m> {
    const NAME: &'static str = "itch50-moldudp64";
    /// Nasdaq (XNAS.ITCH).
    const PUBLISHER_ID: u16 = 2;

    type Checked<'p> = moldudp64::Packet<'p>;

    fn new(
        channel: Channel<'m>,
        spec: &FeedSpec,
        days: &TradingDays,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ArenaError> {
        let book_spec = BookSpec {
            instruments: channel.instruments(),
            orders: spec.orders,
            levels: spec.levels,
        };
        let index = PagedIndex::new(arena, &PagedSpec::for_orders(spec.orders, REFERENCES))?;
        let book = OrderBook::new(arena, &book_spec, index)?;
        // Locate codes are given anew each day.
        let channel = channel.renumber_each_session();
        Ok(ItchFeed { channel, book, days: days.clone(), midnight: 0, latest: 0, sequence: 0 })
    }

    fn packet_error_name(cause: usize) -> &'static str {
        moldudp64::MoldError::ALL.get(cause).map_or("other", |error| error.name())
    }

    #[inline]
    fn check<'p>(payload: &'p [u8]) -> Result<(Packet, moldudp64::Packet<'p>), usize> {
        let checked = moldudp64::Packet::parse(payload).map_err(|error| error.index())?;
        let kind = match checked.kind() {
            moldudp64::PacketKind::Data => PacketKind::Data,
            moldudp64::PacketKind::Heartbeat => PacketKind::Heartbeat,
            moldudp64::PacketKind::EndOfSession => PacketKind::EndOfSession,
        };
        let packet = Packet {
            session: *checked.session(),
            seq: checked.sequence(),
            count: u64::from(checked.count()),
            kind,
            sent_ns: None,
            fingerprint: checked.messages().next().map_or(0, message_time),
        };
        Ok((packet, checked))
    }

    #[inline]
    fn take(
        &mut self,
        packet: &Packet,
        checked: &moldudp64::Packet<'_>,
        publisher: &mut Publisher<'m>,
    ) -> Taken {
        let verdict = self.channel.on_packet(packet);
        if verdict.change.is_some() {
            self.midnight = self.days.midnight_before(publisher.ts_recv());
        }
        let ts_event = match packet.kind {
            PacketKind::Data => self.midnight.wrapping_add(packet.fingerprint),
            PacketKind::Heartbeat | PacketKind::EndOfSession => self.silent_time(packet, publisher),
        };
        if self.channel.publish_change(&verdict, ts_event, publisher) {
            self.clear_books(ts_event, publisher);
        }
        self.channel.publish_gap(&verdict, ts_event, publisher);
        if verdict.take > 0 {
            self.latest = ts_event;
            self.sequence = packet.seq.wrapping_add(verdict.skip);
            let mut messages = checked.messages();
            for _ in 0..verdict.skip {
                messages.next();
            }
            if verdict.take > 1 && self.book.live_orders() >= LARGE_BOOKS {
                self.take_ahead(messages, publisher);
            } else {
                for message in messages {
                    self.on_message(message, publisher);
                    self.sequence = self.sequence.wrapping_add(1);
                }
            }
        }
        self.channel.end_packet(publisher);
        Taken::of(&verdict)
    }

    const SNAPSHOTS: bool = true;

    #[cold]
    fn begin_snapshot(&mut self, session: [u8; 10], next_seq: u64, publisher: &mut Publisher<'m>) {
        self.midnight = self.days.midnight_before(publisher.ts_recv());
        let ts_event = publisher.ts_recv();
        if self.channel.begin_snapshot(session, next_seq, ts_event, publisher) {
            self.clear_books(ts_event, publisher);
        }
        // Its records stand for all that came before.
        self.sequence = next_seq.saturating_sub(1);
    }

    #[cold]
    fn on_snapshot_message(&mut self, bytes: &[u8], publisher: &mut Publisher<'m>) {
        match Message::parse(bytes) {
            Ok(message) => self.on_parsed(message, publisher),
            Err(error) => self.unreadable(bytes, error, publisher),
        }
    }

    #[cold]
    fn end_snapshot(&mut self, publisher: &mut Publisher<'m>) {
        self.channel.end_snapshot();
        // Entries in the segment still say that they may be wrong.
        let now = publisher.ts_recv();
        let event_seq = publisher.last_sequence();
        for local in 0..self.channel.used() {
            let stamp = self.channel.stamp(local, self.sequence, now, now, publisher);
            self.after_book(local, true, 0, Touched::All, event_seq, &stamp, publisher);
        }
    }

    fn usage(&self) -> BookUsage {
        self.book.usage()
    }

    #[inline]
    fn channel(&mut self) -> &mut Channel<'m> {
        &mut self.channel
    }
}

impl<'m> ItchFeed<'m> {
    /// The exchange time of a packet without messages, which bears none: that of the latest message,
    /// no sooner than which it was sent. Where messages were sent and none was seen, when it came.
    fn silent_time(&self, packet: &Packet, publisher: &Publisher<'m>) -> u64 {
        match self.latest {
            0 if packet.seq > 1 => publisher.ts_recv().max(self.midnight),
            0 => self.midnight,
            latest => latest,
        }
    }

    #[cold]
    fn clear_books(&mut self, ts_event: u64, publisher: &mut Publisher<'m>) {
        for local in 0..self.channel.used() {
            if self.book.orders_of(local) > 0 {
                publisher.publish(&self.channel.clear_record(local, ts_event, publisher));
            }
            // The instrument exists, so clearing it cannot fail.
            let _ = self.book.clear(local);
            let stamp = self.channel.stamp(local, 0, ts_event, ts_event, publisher);
            self.after_event(local, Touched::All, publisher.last_sequence(), &stamp);
        }
    }

    #[inline]
    fn on_message(&mut self, bytes: &[u8], publisher: &mut Publisher<'m>) {
        if let Some(kind) = bytes.first() {
            self.channel.count_type(*kind);
        }
        match Message::parse(bytes) {
            Ok(message) => self.on_parsed(message, publisher),
            Err(error) => self.unreadable(bytes, error, publisher),
        }
    }

    #[inline]
    fn on_parsed(&mut self, message: Message<'_>, publisher: &mut Publisher<'m>) {
        // One place for both, so that what most messages go through is inlined there.
        let added = match message {
            Message::AddOrder(m) => Some(m),
            Message::AddOrderMpid(m) => Some(m.unattributed()),
            _ => None,
        };
        if let Some(m) = added {
            return self.add(m, publisher);
        }
        match message {
            Message::OrderExecuted(m) => {
                self.execute(&m.head, m.order_ref.get(), m.shares.get(), None, true, publisher);
            }
            Message::OrderExecutedWithPrice(m) => {
                let price = Some(m.price.nanos());
                let printable = m.printable == b'Y';
                let (order, shares) = (m.order_ref.get(), m.shares.get());
                self.execute(&m.head, order, shares, price, printable, publisher);
            }
            Message::OrderCancel(m) => {
                let (order, shares) = (m.order_ref.get(), m.cancelled.get());
                self.cancel(&m.head, order, |book| book.reduce(order, shares), publisher);
            }
            Message::OrderDelete(m) => {
                let order = m.order_ref.get();
                self.cancel(&m.head, order, |book| book.remove(order), publisher);
            }
            Message::OrderReplace(m) => self.replace(m, publisher),
            Message::Trade(m) => {
                let shares = u64::from(m.shares.get());
                self.trade(&m.head, &m.stock, m.price.nanos(), shares, publisher);
            }
            Message::CrossTrade(m) => {
                self.trade(&m.head, &m.stock, m.price.nanos(), m.shares.get(), publisher);
            }
            other => self.on_other(other, publisher),
        }
    }

    /// Counts a message that is none. One that would have changed a book marks it: the book lacks it.
    #[cold]
    fn unreadable(&mut self, bytes: &[u8], error: ItchError, publisher: &mut Publisher<'m>) {
        let counter = match error {
            ItchError::UnknownType(_) => FeedCounter::UnknownMessages,
            ItchError::Empty | ItchError::Length { .. } => FeedCounter::BadMessages,
        };
        self.channel.count(counter, 1);
        let ItchError::Length { kind, .. } = error else { return };
        if !BOOK_TYPES.contains(&kind) {
            return;
        }
        let Some([_, high, low]) = bytes.first_chunk::<3>() else {
            return self.channel.doubt_all();
        };
        let head = Head::new(kind, u16::from_be_bytes([*high, *low]), 0, message_time(bytes));
        if let Some((local, stamp)) = self.stamp(&head, publisher) {
            self.channel.doubt(local, &stamp, publisher);
        }
    }

    /// What the records of a message share, with the local instrument; `None` (and counted) if
    /// the segment has no room for the instrument.
    #[inline]
    fn stamp(&mut self, head: &Head, publisher: &Publisher<'m>) -> Option<(u32, MessageStamp)> {
        let local = u32::from(head.stock_locate.get());
        if !self.channel.touch(local) {
            publisher.counters().add(crate::segment::Counter::InstrumentsFull, 1);
            return None;
        }
        let ts_event = self.midnight.wrapping_add(head.timestamp.get());
        Some((local, self.channel.stamp(local, self.sequence, ts_event, ts_event, publisher)))
    }

    #[inline(always)]
    fn add(&mut self, m: &itch50::AddOrder, publisher: &mut Publisher<'m>) {
        let Some((local, stamp)) = self.stamp(&m.head, publisher) else { return };
        self.direct(local, &m.stock, &stamp, publisher);
        let (order, shares) = (m.order_ref.get(), m.shares.get());
        let Some(side) = itch_side(m.side) else {
            return self.channel.book_error(
                local,
                BookError::InvalidSide.index(),
                &stamp,
                publisher,
            );
        };
        let price = m.price.nanos();
        let outcome = match price {
            0 => Err(BookError::InvalidPrice),
            price => self.book.add(local, order, side, price, shares),
        };
        match outcome {
            Ok(added) => {
                let record = stamp.mbo(action::ADD, side as u8, order, price, shares);
                let event_seq = publisher.publish(&last(record));
                let touched = Touched::Levels(side, [price, price]);
                self.after_book(local, added.top, 1, touched, event_seq, &stamp, publisher);
            }
            Err(error) => self.channel.book_error(local, error.index(), &stamp, publisher),
        }
    }

    #[inline]
    fn execute(
        &mut self,
        head: &Head,
        order: u64,
        shares: u32,
        price: Option<i64>,
        printable: bool,
        publisher: &mut Publisher<'m>,
    ) {
        let Some((local, stamp)) = self.stamp(head, publisher) else { return };
        let unprinted = if printable { 0 } else { flags::UNPRINTABLE };
        let reduced = match self.book.reduce(order, shares) {
            Ok(reduced) => reduced,
            Err(error) => {
                self.channel.book_error(local, error.index(), &stamp, publisher);
                if let BookError::Overfill { removed, .. } = error {
                    removed
                } else {
                    if let (Some(price), true) = (price, printable) {
                        self.publish_trade(local, price, shares, &stamp, publisher);
                    }
                    return;
                }
            }
        };
        let stamp = self.resting(local, &stamp, &reduced, publisher);
        let local = reduced.instrument;
        let side = reduced.side;
        let traded = price.unwrap_or(reduced.price);
        let trade = stamp.mbo(action::TRADE, side.opposite() as u8, 0, traded, shares);
        publisher.publish(&MboMsg { flags: trade.flags | unprinted, ..trade });
        let fill = stamp.mbo(action::FILL, side as u8, order, traded, reduced.removed);
        publisher.publish(&MboMsg { flags: fill.flags | unprinted, ..fill });
        let cancel = stamp.mbo(action::CANCEL, side as u8, order, reduced.price, reduced.removed);
        let event_seq = publisher.publish(&last(cancel));
        if printable && let Some(market) = self.channel.market(local) {
            market.add_trade(traded, shares);
        }
        let gone = if reduced.left == 0 { -1 } else { 0 };
        let touched = Touched::Levels(side, [reduced.price; 2]);
        let changed = reduced.top || printable;
        self.after_book(local, changed, gone, touched, event_seq, &stamp, publisher);
    }

    #[inline]
    fn cancel(
        &mut self,
        head: &Head,
        order: u64,
        change: impl FnOnce(&mut Book<'m>) -> Result<Reduced, BookError>,
        publisher: &mut Publisher<'m>,
    ) {
        // Before the book changes: what is not to be published must leave it as readers have it.
        let Some((local, stamp)) = self.stamp(head, publisher) else { return };
        let reduced = match change(&mut self.book) {
            Ok(reduced) => reduced,
            Err(error) => {
                self.channel.book_error(local, error.index(), &stamp, publisher);
                // The order is gone from our book, so readers must hear of it.
                let BookError::Overfill { removed, .. } = error else { return };
                removed
            }
        };
        let stamp = self.resting(local, &stamp, &reduced, publisher);
        let side = reduced.side as u8;
        let record = stamp.mbo(action::CANCEL, side, order, reduced.price, reduced.removed);
        let event_seq = publisher.publish(&last(record));
        let gone = if reduced.left == 0 { -1 } else { 0 };
        let (local, touched) =
            (reduced.instrument, Touched::Levels(reduced.side, [reduced.price; 2]));
        self.after_book(local, reduced.top, gone, touched, event_seq, &stamp, publisher);
    }

    #[inline]
    fn replace(&mut self, m: &itch50::OrderReplace, publisher: &mut Publisher<'m>) {
        let Some((local, stamp)) = self.stamp(&m.head, publisher) else { return };
        let (old, new, shares) = (m.old_ref.get(), m.new_ref.get(), m.shares.get());
        let price = m.price.nanos();
        // A share that is to be had for nothing: the old order goes, the new one is refused.
        let outcome = match price {
            0 => self
                .book
                .remove(old)
                .map(|removed| Replaced { removed, added: Err(BookError::InvalidPrice) }),
            price => self.book.replace(old, new, price, shares),
        };
        let replaced = match outcome {
            Ok(replaced) => replaced,
            Err(error) => return self.channel.book_error(local, error.index(), &stamp, publisher),
        };
        let removed = replaced.removed;
        let stamp = self.resting(local, &stamp, &removed, publisher);
        let local = removed.instrument;
        let side = removed.side as u8;
        let cancel = stamp.mbo(action::CANCEL, side, old, removed.price, removed.removed);
        let (event_seq, top, orders) = match replaced.added {
            Ok(added) => {
                publisher.publish(&cancel);
                let add = stamp.mbo(action::ADD, side, new, price, shares);
                (publisher.publish(&last(add)), removed.top || added.top, 0)
            }
            Err(error) => {
                self.channel.book_error(local, error.index(), &stamp, publisher);
                (publisher.publish(&last(cancel)), removed.top, -1)
            }
        };
        let touched = Touched::Levels(removed.side, [removed.price, price]);
        self.after_book(local, top, orders, touched, event_seq, &stamp, publisher);
    }

    fn trade(
        &mut self,
        head: &Head,
        stock: &[u8; 8],
        price: i64,
        shares: u64,
        publisher: &mut Publisher<'m>,
    ) {
        let Some((local, stamp)) = self.stamp(head, publisher) else { return };
        self.direct(local, stock, &stamp, publisher);
        let shares = u32::try_from(shares).unwrap_or(u32::MAX);
        self.publish_trade(local, price, shares, &stamp, publisher);
    }

    /// A trade of which no resting order is known.
    fn publish_trade(
        &mut self,
        local: u32,
        price: i64,
        shares: u32,
        stamp: &MessageStamp,
        publisher: &mut Publisher<'m>,
    ) {
        // A cross without a match has no shares: no trade.
        if shares == 0 {
            return;
        }
        let record = last(stamp.mbo(action::TRADE, SIDE_NONE, 0, price, shares));
        let event_seq = publisher.publish(&record);
        if let Some(market) = self.channel.market(local) {
            market.add_trade(price, shares);
        }
        self.channel.publish_market(local, event_seq, stamp, publisher);
        self.after_event(local, Touched::Nothing, event_seq, stamp);
    }

    /// After the last record of a message that changed the book: the market table.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    fn after_book(
        &mut self,
        local: u32,
        changed: bool,
        orders: i64,
        touched: Touched,
        event_seq: u64,
        stamp: &MessageStamp,
        publisher: &Publisher<'m>,
    ) {
        let book = &self.book;
        self.channel.change_market(local, event_seq, stamp, publisher, |market| {
            market.add_orders(orders);
            if changed {
                market.set_bbo(&book.best(local));
            }
            changed
        });
        self.after_event(local, touched, event_seq, stamp);
    }

    /// After an event of a chosen instrument: its depth.
    #[inline]
    fn after_event(&mut self, local: u32, touched: Touched, event_seq: u64, stamp: &MessageStamp) {
        if let Some(place) = self.channel.depth_place(local) {
            self.publish_depth(local, place, touched, event_seq, stamp);
        }
    }

    /// Kept out of the way of those that were not chosen.
    #[inline(never)]
    fn publish_depth(
        &mut self,
        local: u32,
        place: usize,
        touched: Touched,
        event_seq: u64,
        stamp: &MessageStamp,
    ) {
        let book = &self.book;
        self.channel.publish_depth(local, place, event_seq, stamp, |rows| {
            rows.follow(touched, |side, better| book.levels_behind(local, side, better))
        });
    }

    /// The stamp with the instrument that the resting order belongs to, should the message name
    /// another one, `local`.
    #[inline]
    fn resting(
        &mut self,
        local: u32,
        stamp: &MessageStamp,
        reduced: &Reduced,
        publisher: &Publisher<'m>,
    ) -> MessageStamp {
        if reduced.instrument != local {
            self.astray(local, reduced.instrument, stamp, publisher);
        }
        MessageStamp { instrument: self.channel.instrument(reduced.instrument), ..*stamp }
    }

    /// Counts a message that names `local` and an order of `other`: references hold for a venue's
    /// whole day, so that one of the two books is not the venue's.
    #[cold]
    fn astray(&mut self, local: u32, other: u32, stamp: &MessageStamp, publisher: &Publisher<'m>) {
        self.channel.book_error(local, BookError::WrongInstrument.index(), stamp, publisher);
        self.channel.doubt(other, stamp, publisher);
    }

    /// Takes the symbol from a message whose instrument no directory message announced.
    #[inline]
    fn direct(
        &mut self,
        local: u32,
        stock: &[u8; 8],
        stamp: &MessageStamp,
        publisher: &mut Publisher<'m>,
    ) {
        if !self.channel.is_announced(local) {
            self.announce_hearsay(local, stock, stamp, publisher);
        }
    }
}

/// The record as the last one of its message.
#[inline(always)]
fn last(record: MboMsg) -> MboMsg {
    MboMsg { flags: record.flags | flags::LAST, ..record }
}

#[inline(always)]
fn itch_side(letter: u8) -> Option<Side> {
    match letter {
        b'B' => Some(Side::Bid),
        b'S' => Some(Side::Ask),
        _ => None,
    }
}

/// The time in a message's head; 0 for one that is too short to have a head.
#[inline]
fn message_time(message: &[u8]) -> u64 {
    message
        .get(5..11)
        .map_or(0, |bytes| bytes.iter().fold(0, |time, byte| time << 8 | u64::from(*byte)))
}
