//! IEX DEEP 1.0 over IEX-TP, as DBN records that carry [`flags::MBP`].
//!
//! | message | record |
//! |---|---|
//! | `8`, `5` new level | `A` |
//! | `8`, `5` other size | `M` |
//! | `8`, `5` size zero | `C` with the size that the level had |
//! | `T` | `T` without side, the trade id as its order id |
//!
//! Levels have no order id (0); price and side name them. [`flags::LAST`] is set where IEX says
//! that its event is complete: only then is a book to be read, and only then does the market table
//! change. `D` gives a symbol record, `S`, `H`, `O`, `P` and `E` a
//! status record, `B` a break, `A` an auction record. `X` (official price) is counted.

use super::channel::{Channel, FeedSpec};
use super::publisher::{MessageStamp, Publisher};
use super::session::{Packet, PacketKind};
use super::status::{self, StatusChange};
use super::symbol_index::SymbolIndex;
use super::translator::{Taken, Translator};
use crate::arena::{Arena, ArenaError};
use crate::book::{BookError, LevelBook, LevelBookSpec, LevelChange};
use crate::event::{
    AuctionMsg, BreakMsg, MboMsg, SIDE_NONE, Side, StatusMsg, SymbolMsg, UNDEF_PRICE, action, flags,
};
use crate::segment::{Counter, FeedCounter};
use crate::wire::deep10::{self, Message};
use crate::wire::iex::{self, MessageError};
use crate::wire::iextp;

/// A DEEP feed: its session, symbols and levels.
#[derive(Debug)]
pub struct DeepFeed<'m> {
    channel: Channel<'m>,
    book: LevelBook<'m>,
    symbols: SymbolIndex<'m>,
    /// Number of the message at hand.
    sequence: u64,
    /// When its packet was sent, UTC nanoseconds.
    sent_ns: u64,
}

impl<'m> Translator<'m> for DeepFeed<'m> {
    type Checked<'p> = iextp::Segment<'p>;

    #[inline]
    fn check<'p>(payload: &'p [u8]) -> Result<(Packet, iextp::Segment<'p>), usize> {
        let segment = iextp::Segment::parse(payload).map_err(|error| error.index())?;
        if segment.protocol() != deep10::PROTOCOL {
            return Err(iextp::SegmentError::COUNT);
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
    fn take(
        &mut self,
        packet: &Packet,
        segment: &iextp::Segment<'_>,
        publisher: &mut Publisher<'m>,
    ) -> Taken {
        self.sent_ns = segment.send_time();
        let verdict = self.channel.on_packet(packet);
        if self.channel.publish_change(&verdict, self.sent_ns, publisher) {
            self.clear_books(publisher);
        }
        self.channel.publish_gap(&verdict, self.sent_ns, publisher);
        if verdict.take > 0 {
            self.sequence = packet.seq.wrapping_add(verdict.skip);
            for message in segment.messages().skip(verdict.skip as usize) {
                self.on_message(message, publisher);
                self.sequence = self.sequence.wrapping_add(1);
            }
        }
        self.channel.end_packet(publisher);
        Taken::of(&verdict)
    }

    #[inline]
    fn channel(&mut self) -> &mut Channel<'m> {
        &mut self.channel
    }
}

impl<'m> DeepFeed<'m> {
    /// Claims the book's memory.
    pub fn new(
        channel: Channel<'m>,
        spec: &FeedSpec,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ArenaError> {
        let instruments = channel.instruments();
        let book_spec = LevelBookSpec { instruments, levels: spec.levels };
        let book = LevelBook::new(arena, &book_spec)?;
        let symbols = SymbolIndex::new(instruments, arena)?;
        Ok(DeepFeed { channel, book, symbols, sequence: 0, sent_ns: 0 })
    }

    #[cold]
    fn clear_books(&mut self, publisher: &mut Publisher<'m>) {
        for local in 0..self.channel.used() {
            if self.book.levels_of(local) > 0 {
                publisher.publish(&self.channel.clear_record(local, self.sent_ns, publisher));
                // The instrument exists, so clearing it cannot fail.
                let _ = self.book.clear(local);
            }
        }
    }

    #[inline]
    fn on_message(&mut self, bytes: &[u8], publisher: &mut Publisher<'m>) {
        if let Some(kind) = bytes.first() {
            self.channel.count_type(*kind);
        }
        match Message::parse(bytes) {
            Ok(Message::PriceLevelBuy(m)) => self.level(m, Side::Bid, publisher),
            Ok(Message::PriceLevelSell(m)) => self.level(m, Side::Ask, publisher),
            Ok(Message::TradeReport(m)) => self.trade(m, publisher),
            Ok(message) => self.on_other(message, publisher),
            Err(MessageError::UnknownType(_)) => {
                self.channel.count(FeedCounter::UnknownMessages, 1)
            }
            Err(MessageError::Empty | MessageError::Length { .. }) => {
                self.channel.count(FeedCounter::BadMessages, 1);
            }
        }
    }

    /// The messages that do not come between two ticks: kept away from those that do.
    fn on_other(&mut self, message: Message<'_>, publisher: &mut Publisher<'m>) {
        match message {
            Message::SecurityDirectory(m) => self.directory(m, publisher),
            Message::SystemEvent(m) => {
                let hd = self.channel.feed_header::<StatusMsg>(time(m.timestamp));
                publisher.publish(&status::iex_system(m.event).record(hd, publisher.ts_recv()));
            }
            Message::TradingStatus(m) => {
                self.status(m.symbol, m.timestamp, status::itch_trading(m.status), publisher);
            }
            Message::OperationalHalt(m) => {
                self.status(m.symbol, m.timestamp, status::iex_operational(m.status), publisher);
            }
            Message::ShortSale(m) => {
                self.status(m.symbol, m.timestamp, status::iex_short_sale(m.status), publisher);
            }
            Message::SecurityEvent(m) => {
                self.status(m.symbol, m.timestamp, status::iex_security(m.event), publisher);
            }
            Message::TradeBreak(m) => self.trade_break(m, publisher),
            Message::AuctionInfo(m) => self.auction(m, publisher),
            _ => {}
        }
    }

    /// The local instrument of a symbol and what the records of a message share; `None` (and
    /// counted) if the segment has no room for it.
    #[inline]
    fn stamp(
        &mut self,
        symbol: [u8; 8],
        timestamp: iex::Time,
        publisher: &mut Publisher<'m>,
    ) -> Option<(u32, MessageStamp)> {
        let Some((local, new)) = self.symbols.get_or_insert(symbol) else {
            publisher.counters().add(Counter::InstrumentsFull, 1);
            return None;
        };
        if new {
            self.channel.touch(local);
            self.channel.announce(local, &symbol, 0, publisher);
        }
        let ts_event = time(timestamp);
        Some((local, self.channel.stamp(local, self.sequence, ts_event, self.sent_ns, publisher)))
    }

    #[inline]
    fn level(&mut self, m: &deep10::PriceLevel, side: Side, publisher: &mut Publisher<'m>) {
        let Some((local, stamp)) = self.stamp(m.symbol, m.timestamp, publisher) else {
            return;
        };
        let complete = m.event_flags & deep10::EVENT_COMPLETE != 0;
        let price = m.price.nanos();
        let size = m.size.get();
        let outcome = match price {
            0 => Err(BookError::InvalidPrice),
            price => self.book.set(local, side, price, size),
        };
        let (action, size, change) = match outcome {
            Ok(LevelChange::New) => (action::ADD, size, 1),
            Ok(LevelChange::Changed { .. }) => (action::MODIFY, size, 0),
            Ok(LevelChange::Removed { previous }) => (action::CANCEL, previous, -1),
            // Not there to be removed: still the end of an event for who waits for one.
            Ok(LevelChange::Absent) => (action::CANCEL, 0, 0),
            Err(error) => {
                return self.channel.book_error(local, error.index(), &stamp, publisher);
            }
        };
        let record = stamp.mbo(action, side as u8, 0, price, size);
        let last = if complete { flags::LAST } else { 0 };
        let record = MboMsg { flags: record.flags | flags::MBP | last, ..record };
        let event_seq = publisher.publish(&record);
        let Some(market) = self.channel.market(local) else { return };
        market.add_orders(change);
        if complete {
            market.set_bbo(&self.book.best(local));
            self.channel.publish_market(local, event_seq, &stamp, publisher);
        }
    }

    #[inline]
    fn trade(&mut self, m: &iex::TradeReport, publisher: &mut Publisher<'m>) {
        let Some((local, stamp)) = self.stamp(m.symbol, m.timestamp, publisher) else {
            return;
        };
        let (price, size) = (m.price.nanos(), m.size.get());
        let record = stamp.mbo(action::TRADE, SIDE_NONE, m.trade_id.get() as u64, price, size);
        let record = MboMsg { flags: record.flags | flags::LAST, ..record };
        let event_seq = publisher.publish(&record);
        if let Some(market) = self.channel.market(local) {
            market.add_trade(price, size);
        }
        self.channel.publish_market(local, event_seq, &stamp, publisher);
    }

    fn directory(&mut self, m: &iex::SecurityDirectory, publisher: &mut Publisher<'m>) {
        let Some((local, stamp)) = self.stamp(m.symbol, m.timestamp, publisher) else {
            return;
        };
        let entry = self.channel.announce(local, &m.symbol, m.round_lot.get(), publisher);
        publisher.publish(&SymbolMsg {
            hd: stamp.header::<SymbolMsg>(),
            ts_recv: stamp.ts_recv,
            symbol: entry.symbol,
            round_lot: entry.round_lot,
            feed: entry.feed,
            reserved: 0,
        });
    }

    fn status(
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

    fn auction(&mut self, m: &deep10::AuctionInfo, publisher: &mut Publisher<'m>) {
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
fn session_digits(mut id: u32) -> [u8; 10] {
    let mut reversed = [0u8; 10];
    let mut digits = 0usize;
    for place in reversed.iter_mut() {
        *place = b'0'.wrapping_add((id % 10) as u8);
        digits = digits.wrapping_add(1);
        id /= 10;
        if id == 0 {
            break;
        }
    }
    let mut out = [0u8; 10];
    for (to, from) in out.iter_mut().zip(reversed.iter().take(digits).rev()) {
        *to = *from;
    }
    out
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
    }
}
