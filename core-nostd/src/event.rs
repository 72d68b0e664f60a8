//! The records that travel in the event ring.
//!
//! The main one is [`MboMsg`], Databento's public 56-byte market-by-order record (DBN versions 1
//! to 3, little-endian), so that every tool of that ecosystem reads our events. [`StatusMsg`] is
//! DBN's too. The others are Wiretape's own and use record types that DBN leaves free
//! ([`rtype::SYMBOL`] and up); all share the 16-byte [`RecordHeader`] and fit a ring slot.
//!
//! An [`Event`] is seven 64-bit words: any record of at most 56 bytes, zero-padded. Prices are
//! integers in units of 1e-9 ([`PRICE_SCALE`]), times are UTC nanoseconds.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Units of a price: 1e-9.
pub const PRICE_SCALE: i64 = 1_000_000_000;
/// A price that is absent (DBN's `UNDEF_PRICE`).
pub const UNDEF_PRICE: i64 = i64::MAX;
/// A time that is absent (DBN's `UNDEF_TIMESTAMP`).
pub const UNDEF_TIMESTAMP: u64 = u64::MAX;

/// Record types: the byte at offset 1 of every record.
pub mod rtype {
    /// [`super::StatusMsg`], as in DBN.
    pub const STATUS: u8 = 0x12;
    /// [`super::MboMsg`], as in DBN.
    pub const MBO: u8 = 0xA0;
    /// [`super::SymbolMsg`]: Wiretape's own.
    pub const SYMBOL: u8 = 0xF0;
    /// [`super::GapMsg`]: Wiretape's own.
    pub const GAP: u8 = 0xF1;
    /// [`super::SessionMsg`]: Wiretape's own.
    pub const SESSION: u8 = 0xF2;
    /// [`super::BreakMsg`]: Wiretape's own.
    pub const BREAK: u8 = 0xF3;
    /// [`super::AuctionMsg`]: Wiretape's own.
    pub const AUCTION: u8 = 0xF4;
}

/// Bits of [`MboMsg::flags`], as in DBN.
pub mod flags {
    /// Last record of the exchange's event: the book may be read.
    pub const LAST: u8 = 0x80;
    /// A top-of-book message, not an order.
    pub const TOB: u8 = 0x40;
    /// From a snapshot or replay, not live.
    pub const SNAPSHOT: u8 = 0x20;
    /// An aggregated price level, not an order (DEEP price levels carry it).
    pub const MBP: u8 = 0x10;
    /// `ts_recv` is not to be trusted.
    pub const BAD_TS_RECV: u8 = 0x08;
    /// Something was lost and not recovered: the book may be wrong.
    pub const MAYBE_BAD_BOOK: u8 = 0x04;
    /// Publisher specific: most records of some venues carry it.
    pub const PUBLISHER: u8 = 0x02;
    /// Wiretape's mark of trades that an exchange calls not printable: [`PUBLISHER`], and with it the
    /// bit that DBN keeps for internal use. Other people's records have one of them or the other,
    /// and mean something else.
    pub const UNPRINTABLE: u8 = PUBLISHER | 0x01;

    /// Whether a trade with these flags is to be left out of volume and prices.
    #[inline]
    pub const fn unprintable(flags: u8) -> bool {
        flags & UNPRINTABLE == UNPRINTABLE
    }
}

/// Values of [`MboMsg::action`], as in DBN. Only `ADD`, `CANCEL`, `MODIFY` and `CLEAR` change a
/// book.
pub mod action {
    /// A new order (or level).
    pub const ADD: u8 = b'A';
    /// An order reduced or removed; `size` is the amount removed.
    pub const CANCEL: u8 = b'C';
    /// Price and size set anew.
    pub const MODIFY: u8 = b'M';
    /// The instrument's book is emptied.
    pub const CLEAR: u8 = b'R';
    /// A trade, seen from the aggressor.
    pub const TRADE: u8 = b'T';
    /// A resting order was filled.
    pub const FILL: u8 = b'F';
    /// No action.
    pub const NONE: u8 = b'N';
}

/// A side of the book, or of an aggressor, with DBN's letters as its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Buy.
    Bid = b'B',
    /// Sell.
    Ask = b'A',
}

impl Side {
    /// The side of a DBN side letter; `None` for anything but `B` and `A`.
    #[inline]
    pub const fn from_dbn(letter: u8) -> Option<Side> {
        match letter {
            b'B' => Some(Side::Bid),
            b'A' => Some(Side::Ask),
            _ => None,
        }
    }

    /// The other side.
    #[inline]
    pub const fn opposite(self) -> Side {
        match self {
            Side::Bid => Side::Ask,
            Side::Ask => Side::Bid,
        }
    }
}

/// The side letter of a record that has none.
pub const SIDE_NONE: u8 = b'N';

/// What every record starts with (16 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RecordHeader {
    /// Length of the whole record in 4-byte words.
    pub length: u8,
    /// One of [`rtype`].
    pub rtype: u8,
    /// DBN publisher (venue and dataset).
    pub publisher_id: u16,
    /// Index of the instrument in the segment's symbol directory. For the first ITCH feed of a
    /// worker it equals the stock locate, as in Databento's dataset.
    pub instrument_id: u32,
    /// Exchange time, UTC nanoseconds.
    pub ts_event: u64,
}

/// DBN market-by-order record (56 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MboMsg {
    /// Common header, `rtype` [`rtype::MBO`].
    pub hd: RecordHeader,
    /// The venue's order reference; 0 where there is none (levels, hidden trades).
    pub order_id: u64,
    /// Price in 1e-9; [`UNDEF_PRICE`] where there is none.
    pub price: i64,
    /// Quantity.
    pub size: u32,
    /// [`flags`].
    pub flags: u8,
    /// The worker's feed index.
    pub channel_id: u8,
    /// [`action`].
    pub action: u8,
    /// `A`, `B` or `N`.
    pub side: u8,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
    /// Nanoseconds from the venue's sending to `ts_recv`, saturating.
    pub ts_in_delta: i32,
    /// Low 32 bits of the venue's message sequence number.
    pub sequence: u32,
}

/// DBN trading status record (40 bytes; DBN version 2 and later call it `StatusMsg`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatusMsg {
    /// Common header, `rtype` [`rtype::STATUS`]. Instrument [`NO_INSTRUMENT`] means the market.
    pub hd: RecordHeader,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
    /// DBN `StatusAction`, see [`status_action`].
    pub action: u16,
    /// DBN `StatusReason`; 0 where none was given.
    pub reason: u16,
    /// DBN `TradingEvent`; 0 where none was given.
    pub trading_event: u16,
    /// `Y`, `N` or `~` (not known).
    pub is_trading: u8,
    /// `Y`, `N` or `~`.
    pub is_quoting: u8,
    /// `Y`, `N` or `~`.
    pub is_short_sell_restricted: u8,
    /// The exchange's own message type, which DBN leaves as reserved space.
    pub venue_type: u8,
    /// The exchange's own status letter.
    pub venue_code: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Values of [`StatusMsg::action`], as in DBN.
pub mod status_action {
    /// No change.
    pub const NONE: u16 = 0;
    /// Pre-open.
    pub const PRE_OPEN: u16 = 1;
    /// Quotation only.
    pub const QUOTING: u16 = 3;
    /// Continuous trading.
    pub const TRADING: u16 = 7;
    /// Halted.
    pub const HALT: u16 = 8;
    /// Paused.
    pub const PAUSE: u16 = 9;
    /// Closed.
    pub const CLOSE: u16 = 12;
    /// Post-close.
    pub const POST_CLOSE: u16 = 13;
    /// The short-selling restriction changed.
    pub const SSR_CHANGE: u16 = 14;
    /// Not available for trading.
    pub const NOT_AVAILABLE: u16 = 15;
}

/// The instrument of a record that concerns the whole feed.
pub const NO_INSTRUMENT: u32 = u32::MAX;

/// A symbol was announced for an instrument (48 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SymbolMsg {
    /// Common header, `rtype` [`rtype::SYMBOL`].
    pub hd: RecordHeader,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
    /// The symbol as the venue sends it, padded with NUL.
    pub symbol: [u8; 16],
    /// Round lot in units of quantity; 0 if not known.
    pub round_lot: u32,
    /// The worker's feed index.
    pub feed: u16,
    /// Zero.
    pub reserved: u16,
}

/// Messages `first_seq..end_seq` of a feed (or of one line) are lost (56 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GapMsg {
    /// Common header, `rtype` [`rtype::GAP`], instrument [`NO_INSTRUMENT`]; `ts_event` is that of
    /// the packet that revealed the gap. One without messages, of a venue that does not say when it
    /// sent it (MoldUDP64), has that of the latest message before it.
    pub hd: RecordHeader,
    /// Receive time of the packet that revealed the gap, UTC nanoseconds.
    pub ts_recv: u64,
    /// First lost message.
    pub first_seq: u64,
    /// First message after the loss.
    pub end_seq: u64,
    /// Session id as the venue sends it, padded with NUL.
    pub session: [u8; 10],
    /// The worker's feed index.
    pub feed: u8,
    /// [`gap_reason`].
    pub reason: u8,
    /// Zero.
    pub reserved: u32,
}

/// Values of [`GapMsg::reason`].
pub mod gap_reason {
    /// The numbers jumped: nothing held these messages.
    pub const SEQUENCE_JUMP: u8 = 1;
    /// A heartbeat (or end of session) named a later number than was received.
    pub const HEARTBEAT: u8 = 2;
    /// Capture joined the session after they were sent.
    pub const LATE_JOIN: u8 = 3;
}

/// A feed's session began, restarted or ended (56 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SessionMsg {
    /// Common header, `rtype` [`rtype::SESSION`], instrument [`NO_INSTRUMENT`].
    pub hd: RecordHeader,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
    /// First sequence number of the new session, or the next expected one at its end.
    pub next_seq: u64,
    /// What the previous session expected next; 0 if there was none.
    pub previous_next_seq: u64,
    /// Session id as the venue sends it, padded with NUL.
    pub session: [u8; 10],
    /// The worker's feed index.
    pub feed: u8,
    /// [`session_change`].
    pub change: u8,
    /// Zero.
    pub reserved: u32,
}

/// Values of [`SessionMsg::change`].
pub mod session_change {
    /// The first packet of the feed since capture began.
    pub const START: u8 = 1;
    /// The same session id started over at a lower number: books were emptied.
    pub const RESTART: u8 = 2;
    /// Another session id took over: books were emptied.
    pub const NEW_SESSION: u8 = 3;
    /// The venue said that the session is over.
    pub const END: u8 = 4;
    /// The books were emptied, and records with [`flags::SNAPSHOT`](super::flags::SNAPSHOT) make
    /// them anew, after which the session goes on.
    pub const SNAPSHOT: u8 = 5;
    /// The feed was removed from the worker: this is its last event, and its books are not kept any
    /// more.
    pub const REMOVED: u8 = 6;
}

/// A trade was broken (48 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BreakMsg {
    /// Common header, `rtype` [`rtype::BREAK`].
    pub hd: RecordHeader,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
    /// The venue's match number or trade id.
    pub match_id: u64,
    /// Price in 1e-9; [`UNDEF_PRICE`] where the venue does not repeat it.
    pub price: i64,
    /// Quantity; 0 where the venue does not repeat it.
    pub size: u32,
    /// Low 32 bits of the venue's message sequence number.
    pub sequence: u32,
}

/// An auction's imbalance or indicative price (56 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AuctionMsg {
    /// Common header, `rtype` [`rtype::AUCTION`].
    pub hd: RecordHeader,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
    /// Reference price in 1e-9.
    pub ref_price: i64,
    /// Indicative clearing price in 1e-9; [`UNDEF_PRICE`] if none.
    pub indicative_price: i64,
    /// Shares paired at the reference price, saturating.
    pub paired: u32,
    /// Shares not paired, saturating.
    pub imbalance: u32,
    /// `A`, `B` or `N`: the side of the imbalance.
    pub side: u8,
    /// The venue's own auction letter.
    pub auction_type: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Low 32 bits of the venue's message sequence number.
    pub sequence: u32,
}

/// Words of a ring slot that hold the record.
pub const EVENT_WORDS: usize = 7;

/// Any record, as the seven words that the ring moves (56 bytes, zero-padded).
///
/// ```
/// use wiretape_core::event::{Event, MboMsg, RecordHeader, Side, action, flags};
///
/// let order = MboMsg {
///     hd: RecordHeader::new::<MboMsg>(2, 13, 1_340_285_400_000_000_000),
///     order_id: 4711,
///     price: 585_330_000_000,
///     size: 100,
///     flags: flags::LAST,
///     channel_id: 0,
///     action: action::ADD,
///     side: Side::Bid as u8,
///     ts_recv: 1_340_285_400_000_012_000,
///     ts_in_delta: 0,
///     sequence: 1,
/// };
/// let event = Event::new(&order);
/// assert_eq!(event.header().instrument_id, 13);
/// assert_eq!(event.mbo(), Some(order));
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Event {
    /// The record's bytes as little-endian words.
    pub words: [u64; EVENT_WORDS],
}

/// A record type that fits an [`Event`].
pub trait Record: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    /// Its [`rtype`].
    const RTYPE: u8;
    /// Its length in 4-byte words, as the header states it.
    const LENGTH: u8 = (size_of::<Self>() / 4) as u8;
}

macro_rules! record {
    ($($record:ty = $rtype:expr, $size:literal;)*) => {$(
        impl Record for $record { const RTYPE: u8 = $rtype; }
        const _: () = assert!(size_of::<$record>() == $size && $size <= size_of::<Event>());
    )*};
}
record! {
    MboMsg = rtype::MBO, 56;
    StatusMsg = rtype::STATUS, 40;
    SymbolMsg = rtype::SYMBOL, 48;
    GapMsg = rtype::GAP, 56;
    SessionMsg = rtype::SESSION, 56;
    BreakMsg = rtype::BREAK, 48;
    AuctionMsg = rtype::AUCTION, 56;
}
const _: () = assert!(size_of::<RecordHeader>() == 16);
const _: () = assert!(cfg!(target_endian = "little"), "DBN records are little-endian");

impl RecordHeader {
    /// The header of a record of type `R`.
    #[inline]
    pub const fn new<R: Record>(publisher_id: u16, instrument_id: u32, ts_event: u64) -> Self {
        RecordHeader { length: R::LENGTH, rtype: R::RTYPE, publisher_id, instrument_id, ts_event }
    }
}

impl Event {
    /// The event that carries `record`, zero-padded.
    #[inline]
    pub fn new<R: Record>(record: &R) -> Event {
        let mut event = Event::default();
        let source = record.as_bytes();
        // Sizes are const-asserted above, so the split always succeeds.
        if let Some(target) = event.as_mut_bytes().get_mut(..source.len()) {
            target.copy_from_slice(source);
        }
        event
    }

    /// The common header.
    #[inline]
    pub fn header(&self) -> RecordHeader {
        RecordHeader {
            length: self.words[0] as u8,
            rtype: (self.words[0] >> 8) as u8,
            publisher_id: (self.words[0] >> 16) as u16,
            instrument_id: (self.words[0] >> 32) as u32,
            ts_event: self.words[1],
        }
    }

    /// The record's type, one of [`rtype`].
    #[inline]
    pub fn rtype(&self) -> u8 {
        (self.words[0] >> 8) as u8
    }

    /// The record, if this event carries one of type `R` with the right length.
    #[inline]
    pub fn get<R: Record>(&self) -> Option<R> {
        let hd = self.header();
        if hd.rtype != R::RTYPE || hd.length != R::LENGTH {
            return None;
        }
        R::read_from_prefix(self.as_bytes()).ok().map(|(record, _)| record)
    }

    /// The market-by-order record, if this event is one.
    #[inline]
    pub fn mbo(&self) -> Option<MboMsg> {
        self.get::<MboMsg>()
    }

    /// The record as it stands in a DBN file: its own length, without the padding.
    #[inline]
    pub fn record_bytes(&self) -> &[u8] {
        let bytes = self.as_bytes();
        bytes.get(..usize::from(self.words[0] as u8) * 4).unwrap_or(bytes)
    }

    /// When the packet was received, UTC nanoseconds.
    #[inline]
    pub fn ts_recv(&self) -> u64 {
        if self.rtype() == rtype::MBO { self.words[5] } else { self.words[2] }
    }

    /// The event with everything that depends on when it was received set to zero. Two runs over
    /// the same packets yield equal events in this form.
    #[inline]
    pub fn without_receive_time(mut self) -> Event {
        if self.rtype() == rtype::MBO {
            self.words[5] = 0;
            self.words[6] &= 0xFFFF_FFFF_0000_0000;
        } else {
            self.words[2] = 0;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbo() -> MboMsg {
        MboMsg {
            hd: RecordHeader::new::<MboMsg>(2, 13, 1_000),
            order_id: 7,
            price: 5 * PRICE_SCALE,
            size: 100,
            flags: flags::LAST,
            channel_id: 1,
            action: action::ADD,
            side: Side::Bid as u8,
            ts_recv: 2_000,
            ts_in_delta: -3,
            sequence: 42,
        }
    }

    #[test]
    fn a_record_survives_the_trip_through_an_event() {
        let event = Event::new(&mbo());
        assert_eq!(event.mbo(), Some(mbo()));
        assert_eq!(event.header(), mbo().hd);
        assert_eq!(event.get::<StatusMsg>(), None);
        assert_eq!(event.record_bytes(), mbo().as_bytes());
    }

    #[test]
    fn receive_time_is_all_that_the_comparable_form_drops() {
        let late = MboMsg { ts_recv: 9_999, ts_in_delta: 77, ..mbo() };
        let other = MboMsg { sequence: 43, ..mbo() };
        let form = |m: &MboMsg| Event::new(m).without_receive_time();
        assert_eq!(form(&mbo()), form(&late));
        assert_ne!(form(&mbo()), form(&other));
        assert_eq!(form(&late).mbo().unwrap().sequence, 42);
    }

    #[test]
    fn a_wrong_length_is_not_taken_for_a_record() {
        let mut event = Event::new(&mbo());
        event.words[0] &= !0xFF;
        assert_eq!(event.mbo(), None);
    }
}
