//! Where a worker's events go: ring, market table and symbol directory of one segment.

use crate::book::Bbo;
use crate::event::{Event, MboMsg, Record, RecordHeader, SymbolMsg, UNDEF_PRICE, action};
use crate::ring::broadcast::Writer;
use crate::segment::{Counter, Counters, MarketEntry, MarketTable, SegmentWriter, SymbolEntry};

/// Writes events into the ring, and keeps the market table beside them.
#[derive(Debug)]
pub struct Publisher<'m> {
    segment: SegmentWriter<'m>,
    ring: Writer<'m>,
    counters: Counters<'m>,
    market: MarketTable<'m>,
    committed: u64,
    /// Receive time of the packet at hand, UTC nanoseconds.
    ts_recv: u64,
}

impl<'m> Publisher<'m> {
    /// The publisher of `segment`. One per segment.
    pub fn new(segment: SegmentWriter<'m>) -> Self {
        let ring = segment.events();
        let committed = ring.next_sequence();
        let (counters, market) = (segment.counters(), segment.market());
        Publisher { segment, ring, counters, market, committed, ts_recv: 0 }
    }

    /// The segment's counters.
    pub fn counters(&self) -> &Counters<'m> {
        &self.counters
    }

    /// The segment.
    pub fn segment(&self) -> &SegmentWriter<'m> {
        &self.segment
    }

    /// Receive time of the packet at hand, UTC nanoseconds.
    #[inline]
    pub fn ts_recv(&self) -> u64 {
        self.ts_recv
    }

    /// Starts a packet that was received at `ts_recv`.
    #[inline]
    pub fn begin_packet(&mut self, ts_recv: u64) {
        self.ts_recv = ts_recv;
    }

    /// Ends a packet: moves the ring's head and counts the events, and returns their number.
    #[inline]
    pub fn end_packet(&mut self) -> u64 {
        let next = self.ring.next_sequence();
        let events = next.wrapping_sub(self.committed);
        if events > 0 {
            self.committed = next;
            self.ring.commit();
            self.counters.add(Counter::Events, events);
        }
        events
    }

    /// Publishes a record and returns its ring sequence.
    #[inline]
    pub fn publish<R: Record>(&mut self, record: &R) -> u64 {
        self.ring.publish(&Event::new(record))
    }

    /// Ring sequence of the record published last; 0 before the first.
    #[inline]
    pub fn last_sequence(&self) -> u64 {
        self.ring.next_sequence().wrapping_sub(1)
    }

    /// Replaces the market table's entry of `instrument`.
    #[inline(always)]
    pub fn set_market(&self, instrument: u32, entry: &MarketEntry) {
        self.market.write(instrument, entry);
    }

    /// Asks for the lines of the market table's entry of `instrument`.
    #[inline(always)]
    pub fn expect_market(&self, instrument: u32) {
        self.market.expect(instrument);
    }

    /// Announces an instrument in the symbol directory.
    pub fn announce(&mut self, instrument: u32, entry: &SymbolEntry) {
        self.segment.announce(instrument, entry);
    }

    /// Tells who follows the events what an instrument is called: the directory, which may have been
    /// read before, or is read on a later day, does not.
    #[cold]
    pub fn publish_symbol(&mut self, entry: &SymbolEntry, stamp: &MessageStamp) {
        self.publish(&SymbolMsg {
            hd: stamp.header::<SymbolMsg>(),
            ts_recv: stamp.ts_recv,
            symbol: entry.symbol,
            round_lot: entry.round_lot,
            feed: entry.feed,
            reserved: 0,
        });
    }
}

/// The writer's own copy of a market entry. Kept in ordinary memory, so that an update reads no
/// shared line back.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct MarketState {
    bid_px: i64,
    ask_px: i64,
    last_px: i64,
    volume: u64,
    trades: u64,
    orders: u64,
    bid_sz: u32,
    ask_sz: u32,
    bid_ct: u32,
    ask_ct: u32,
    last_sz: u32,
    status: u8,
    health: u8,
    /// Prices are only meaningful once this is set: fresh memory is zero.
    known: u8,
    /// The symbol is in the directory: one of [`announced`].
    announced: u8,
}

/// What [`MarketState`] knows of the directory.
mod announced {
    /// The symbol was announced in this session.
    pub const NOW: u8 = 1;
    /// It was announced in an earlier session, in which the instrument's number may have been
    /// another's.
    pub const BEFORE: u8 = 2;
}

impl MarketState {
    /// Nothing known.
    pub const EMPTY: MarketState = MarketState {
        bid_px: UNDEF_PRICE,
        ask_px: UNDEF_PRICE,
        last_px: UNDEF_PRICE,
        volume: 0,
        trades: 0,
        orders: 0,
        bid_sz: 0,
        ask_sz: 0,
        bid_ct: 0,
        ask_ct: 0,
        last_sz: 0,
        status: 0,
        health: 0,
        known: 1,
        announced: 0,
    };

    #[inline]
    fn ready(&mut self) -> &mut Self {
        if self.known == 0 {
            *self = MarketState::EMPTY;
        }
        self
    }

    /// Whether anything was ever noted.
    #[inline]
    pub fn is_known(&self) -> bool {
        self.known != 0
    }

    /// Whether the symbol is in the directory, and is this session's.
    #[inline]
    pub fn is_announced(&self) -> bool {
        self.announced == announced::NOW
    }

    /// Whether the symbol in the directory is that of an earlier session.
    #[inline]
    pub fn was_announced_before(&self) -> bool {
        self.announced == announced::BEFORE
    }

    /// Takes note that the symbol is in the directory.
    pub fn set_announced(&mut self) {
        self.ready().announced = announced::NOW;
    }

    /// Takes a new best bid and offer in.
    #[inline]
    pub fn set_bbo(&mut self, bbo: &Bbo) {
        let this = self.ready();
        this.bid_px = bbo.bid_px;
        this.ask_px = bbo.ask_px;
        this.bid_sz = bbo.bid_sz;
        this.ask_sz = bbo.ask_sz;
        this.bid_ct = bbo.bid_ct;
        this.ask_ct = bbo.ask_ct;
    }

    /// Takes a trade in.
    #[inline]
    pub fn add_trade(&mut self, price: i64, size: u32) {
        let this = self.ready();
        this.last_px = price;
        this.last_sz = size;
        this.volume = this.volume.wrapping_add(u64::from(size));
        this.trades = this.trades.wrapping_add(1);
    }

    /// Counts an order (or level) that entered or left the book.
    #[inline]
    pub fn add_orders(&mut self, change: i64) {
        let this = self.ready();
        this.orders = this.orders.wrapping_add_signed(change);
    }

    /// The book is empty: none of the orders counted is in it any more.
    pub fn forget_orders(&mut self) {
        self.orders = 0;
    }

    /// Takes the exchange's status letter in.
    pub fn set_status(&mut self, status: u8) {
        self.ready().status = status;
    }

    /// Sets or clears bits of [`crate::segment::health`].
    #[inline]
    pub fn set_health(&mut self, bits: u8, on: bool) {
        let this = self.ready();
        this.health = if on { this.health | bits } else { this.health & !bits };
    }

    /// Number of trades since the start of the session.
    #[inline]
    pub fn trades(&self) -> u64 {
        self.trades
    }

    /// Bits of [`crate::segment::health`].
    #[inline]
    pub fn health(&self) -> u8 {
        self.health
    }

    /// Forgets book, trades and health at the start of a session; status and symbol stay, unless
    /// the instrument's number may be another's now.
    pub fn start_session(&mut self, renumbered: bool) {
        let MarketState { status, announced, .. } = *self;
        let (status, announced) = match (renumbered, announced) {
            (false, announced) => (status, announced),
            (true, 0) => (0, 0),
            (true, _) => (0, announced::BEFORE),
        };
        *self = MarketState { status, announced, ..MarketState::EMPTY };
    }

    /// The entry that readers see.
    #[inline]
    pub fn entry(&self, event_seq: u64, ts_event: u64, ts_recv: u64) -> MarketEntry {
        MarketEntry {
            event_seq,
            ts_event,
            ts_recv,
            bid_px: self.bid_px,
            ask_px: self.ask_px,
            bid_sz: self.bid_sz,
            ask_sz: self.ask_sz,
            bid_ct: self.bid_ct,
            ask_ct: self.ask_ct,
            last_px: self.last_px,
            last_sz: self.last_sz,
            status: self.status,
            health: self.health,
            volume: self.volume,
            trades: self.trades,
            orders: self.orders,
        }
    }
}

/// What all records of one message share.
#[derive(Clone, Copy, Debug)]
pub struct MessageStamp {
    /// DBN publisher.
    pub publisher_id: u16,
    /// The worker's feed index.
    pub feed: u8,
    /// Flags that every record of the feed carries at present (maybe bad book).
    pub flags: u8,
    /// Instrument id in the segment.
    pub instrument: u32,
    /// Exchange time, UTC nanoseconds.
    pub ts_event: u64,
    /// When the venue sent it, UTC nanoseconds.
    pub ts_sent: u64,
    /// Receive time, UTC nanoseconds.
    pub ts_recv: u64,
    /// The venue's message number.
    pub sequence: u64,
}

impl MessageStamp {
    /// The header of a record of type `R`.
    #[inline]
    pub fn header<R: Record>(&self) -> RecordHeader {
        RecordHeader::new::<R>(self.publisher_id, self.instrument, self.ts_event)
    }

    /// A market-by-order record.
    #[inline]
    pub fn mbo(&self, action: u8, side: u8, order_id: u64, price: i64, size: u32) -> MboMsg {
        let delta = self.ts_recv.wrapping_sub(self.ts_sent) as i64;
        MboMsg {
            hd: self.header::<MboMsg>(),
            order_id,
            price,
            size,
            flags: self.flags,
            channel_id: self.feed,
            action,
            side,
            ts_recv: self.ts_recv,
            ts_in_delta: delta.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32,
            sequence: self.sequence as u32,
        }
    }

    /// The record that empties an instrument's book.
    pub fn clear(&self) -> MboMsg {
        self.mbo(action::CLEAR, crate::event::SIDE_NONE, 0, UNDEF_PRICE, 0)
    }
}
