//! The flow as IEX DEEP 1.0: the same market, told by price level instead of by order.

use std::collections::{HashMap, VecDeque};

use wiretape_core::event::Side;
use wiretape_core::wire::deep10::{
    AuctionInfo, EVENT_COMPLETE, OfficialPrice, OperationalHalt, Price, PriceLevel,
    SecurityDirectory, SecurityEvent, ShortSale, SystemEvent, TradeReport, TradingStatus,
};
use zerocopy::IntoBytes;

use super::change::{Change, Step};

/// `TradeReport::flags`: part of an auction.
const SINGLE_PRICE_CROSS: u8 = 0x08;
/// `TradeReport::flags`: less than a round lot.
const ODD_LOT: u8 = 0x20;
/// `SecurityDirectory::flags`: a test security.
const TEST_SECURITY: u8 = 0x80;

/// Turns steps into messages. Steps of equal time and instrument are one event: its trades come
/// first, then every level that it touched, and the last of those says that the event is complete.
pub struct DeepEncoder {
    symbols: Vec<[u8; 8]>,
    midnight_ns: u64,
    levels: HashMap<(usize, u8, u32), u64>,
    /// The event that is being collected: when, whose, and the levels that it touched.
    event: Option<(u64, usize)>,
    touched: Vec<(Side, u32)>,
    messages: VecDeque<(u64, Vec<u8>)>,
}

impl DeepEncoder {
    /// An encoder for these symbols and the day whose midnight in New York is `midnight_ns`, UTC
    /// nanoseconds.
    pub fn new(symbols: Vec<[u8; 8]>, midnight_ns: u64) -> DeepEncoder {
        DeepEncoder {
            symbols,
            midnight_ns,
            levels: HashMap::new(),
            event: None,
            touched: Vec::new(),
            messages: VecDeque::new(),
        }
    }

    /// A message that is ready, with its time in UTC nanoseconds.
    pub fn pop(&mut self) -> Option<(u64, Vec<u8>)> {
        self.messages.pop_front()
    }

    /// Takes a step; its event is complete once a step of another follows, or at
    /// [`DeepEncoder::complete`].
    pub fn push(&mut self, step: &Step) {
        let event = step.instrument.map(|i| (step.at_ns, i));
        if event != self.event {
            self.complete();
            self.event = event;
        }
        let at_ns = self.midnight_ns + step.at_ns;
        match (step.change, step.instrument) {
            (Change::System(event), _) => {
                // The one letter that the two exchanges spell differently.
                let event = if event == b'Q' { b'R' } else { event };
                let kind = SystemEvent::KIND;
                let message = SystemEvent { kind, event, timestamp: (at_ns as i64).into() };
                self.say(at_ns, message.as_bytes());
            }
            (change, Some(i)) => self.push_instrument(change, i, at_ns),
            _ => {}
        }
    }

    /// Ends the event that is being collected.
    pub fn complete(&mut self) {
        let Some((at_ns, i)) = self.event.take() else { return };
        let at_ns = self.midnight_ns + at_ns;
        let touched = std::mem::take(&mut self.touched);
        for (place, (side, price)) in touched.iter().enumerate() {
            let last = place + 1 == touched.len();
            let shares = self.levels.get(&(i, *side as u8, *price)).copied().unwrap_or(0);
            let message = PriceLevel {
                kind: match side {
                    Side::Bid => PriceLevel::KIND_BUY,
                    Side::Ask => PriceLevel::KIND_SELL,
                },
                event_flags: if last { EVENT_COMPLETE } else { 0 },
                timestamp: (at_ns as i64).into(),
                symbol: self.symbols[i],
                size: u32::try_from(shares).unwrap_or(u32::MAX).into(),
                price: Price::new(i64::from(*price)),
            };
            self.say(at_ns, message.as_bytes());
        }
    }

    fn say(&mut self, at_ns: u64, message: &[u8]) {
        self.messages.push_back((at_ns, message.to_vec()));
    }

    fn push_instrument(&mut self, change: Change, i: usize, at_ns: u64) {
        match change {
            Change::Add(order, _) => self.touch(i, order.side, order.price, order.shares, true),
            Change::Execute { order, shares, match_number } => {
                self.trade(i, at_ns, u64::from(shares), order.price, match_number, 0);
                self.touch(i, order.side, order.price, shares, false);
            }
            Change::ExecuteAt { order, shares, match_number, printable, price } => {
                if printable {
                    self.trade(i, at_ns, u64::from(shares), price, match_number, 0);
                }
                self.touch(i, order.side, order.price, shares, false);
            }
            Change::Reduce { order, shares } => {
                self.touch(i, order.side, order.price, shares, false);
            }
            Change::Delete(order) => {
                self.touch(i, order.side, order.price, order.shares, false);
            }
            Change::Replace { old, new } => {
                self.touch(i, old.side, old.price, old.shares, false);
                self.touch(i, new.side, new.price, new.shares, true);
            }
            Change::HiddenTrade { shares, price, match_number, .. } => {
                self.trade(i, at_ns, u64::from(shares), price, match_number, 0);
            }
            Change::Cross { shares, price, match_number, kind } => {
                self.trade(i, at_ns, shares, price, match_number, SINGLE_PRICE_CROSS);
                self.auction_over(i, at_ns, price, kind);
            }
            _ => self.status(change, i, at_ns),
        }
    }

    fn touch(&mut self, i: usize, side: Side, price: u32, shares: u32, more: bool) {
        let level = self.levels.entry((i, side as u8, price)).or_insert(0);
        let shares = u64::from(shares);
        *level = if more { *level + shares } else { level.saturating_sub(shares) };
        if *level == 0 {
            self.levels.remove(&(i, side as u8, price));
        }
        if !self.touched.contains(&(side, price)) {
            self.touched.push((side, price));
        }
    }

    fn trade(&mut self, i: usize, at_ns: u64, shares: u64, price: u32, number: u64, flags: u8) {
        let odd = if shares < 100 { ODD_LOT } else { 0 };
        let message = TradeReport {
            kind: TradeReport::KIND,
            flags: flags | odd,
            timestamp: (at_ns as i64).into(),
            symbol: self.symbols[i],
            size: u32::try_from(shares).unwrap_or(u32::MAX).into(),
            price: Price::new(i64::from(price)),
            trade_id: (number as i64).into(),
        };
        self.say(at_ns, message.as_bytes());
    }

    fn auction_over(&mut self, i: usize, at_ns: u64, price: u32, kind: u8) {
        let (timestamp, symbol) = ((at_ns as i64).into(), self.symbols[i]);
        let official = OfficialPrice {
            kind: OfficialPrice::KIND,
            price_type: if kind == b'O' { b'Q' } else { b'M' },
            timestamp,
            symbol,
            price: Price::new(i64::from(price)),
        };
        self.say(at_ns, official.as_bytes());
        let over = SecurityEvent { kind: SecurityEvent::KIND, event: kind, timestamp, symbol };
        self.say(at_ns, over.as_bytes());
    }

    fn status(&mut self, change: Change, i: usize, at_ns: u64) {
        let (timestamp, symbol) = ((at_ns as i64).into(), self.symbols[i]);
        match change {
            Change::Directory => {
                let directory = SecurityDirectory {
                    kind: SecurityDirectory::KIND,
                    flags: TEST_SECURITY,
                    timestamp,
                    symbol,
                    round_lot: 100.into(),
                    adjusted_close: Price::new(0),
                    luld_tier: 1,
                };
                self.say(at_ns, directory.as_bytes());
                let kind = OperationalHalt::KIND;
                let halt = OperationalHalt { kind, status: b'N', timestamp, symbol };
                self.say(at_ns, halt.as_bytes());
            }
            Change::Trading(status) => {
                let (kind, reason) = (TradingStatus::KIND, *b"    ");
                let message = TradingStatus { kind, status, timestamp, symbol, reason };
                self.say(at_ns, message.as_bytes());
            }
            Change::ShortSale(action) => {
                let status = u8::from(action != b'0');
                let (kind, detail) = (ShortSale::KIND, b' ');
                let message = ShortSale { kind, status, timestamp, symbol, detail };
                self.say(at_ns, message.as_bytes());
            }
            Change::Imbalance { paired, imbalance, side, price, cross } => {
                let price = Price::new(i64::from(price));
                let message = AuctionInfo {
                    kind: AuctionInfo::KIND,
                    auction_type: cross,
                    timestamp,
                    symbol,
                    paired: u32::try_from(paired).unwrap_or(u32::MAX).into(),
                    reference_price: price,
                    indicative_price: price,
                    imbalance: u32::try_from(imbalance).unwrap_or(u32::MAX).into(),
                    imbalance_side: match side {
                        Some(Side::Bid) => b'B',
                        Some(Side::Ask) => b'S',
                        None => b'N',
                    },
                    extension: 0,
                    scheduled_time_s: ((at_ns / 1_000_000_000) as u32 + 1).into(),
                    book_price: price,
                    collar_price: price,
                    lower_collar: Price::new(price.units() * 9 / 10),
                    upper_collar: Price::new(price.units() * 11 / 10),
                };
                self.say(at_ns, message.as_bytes());
            }
            // Of no interest to this exchange: market makers, market-wide circuit breakers.
            _ => {}
        }
    }
}
