//! Continuous trading: what an arrival makes of the book.

use std::collections::VecDeque;

use wiretape_core::event::Side;

use super::TICK;
use super::book::{BookError, Order};
use super::change::{Change, Step};
use super::draw::Draw;
use super::instrument::Instrument;

/// Orders that each side keeps: below it, arrivals add.
const SIDE_ORDERS_MIN: usize = 4;
/// Market participants that attribute orders.
const PARTICIPANTS: [[u8; 4]; 4] = [*b"WTPA", *b"WTPB", *b"WTPC", *b"WTPD"];

/// Where the changes of a market are made and written down.
pub struct Market {
    /// All randomness.
    pub draw: Draw,
    /// The instruments, the most active first.
    pub instruments: Vec<Instrument>,
    /// Steps made and not yet taken.
    pub steps: VecDeque<Step>,
    /// Steps ever made.
    pub made: u64,
    /// The first operation that the book refused: a defect of the simulator.
    pub refused: Option<BookError>,
    orders: u64,
    matches: u64,
    resting_orders: f64,
}

impl Market {
    /// A market before its first order.
    pub fn new(draw: Draw, instruments: Vec<Instrument>, resting_orders: u32) -> Market {
        Market {
            draw,
            instruments,
            steps: VecDeque::new(),
            made: 0,
            refused: None,
            orders: 0,
            matches: 0,
            resting_orders: f64::from(resting_orders),
        }
    }

    /// Writes a step down.
    pub fn say(&mut self, at_ns: u64, instrument: Option<usize>, change: Change) {
        self.made += 1;
        self.steps.push_back(Step { at_ns, instrument, change });
    }

    /// The next trade's number.
    pub fn next_match(&mut self) -> u64 {
        self.matches += 1;
        self.matches
    }

    /// The next order's reference: all of one instrument share the low two bits, as on the real
    /// exchange, whose matching engines share out the instruments.
    fn next_reference(&mut self, instrument: usize) -> u64 {
        self.orders += 1;
        self.orders * 4 + (instrument % 4) as u64
    }

    fn keep<T>(&mut self, result: Result<T, BookError>) -> Option<T> {
        result.map_err(|error| self.refused.get_or_insert(error)).ok()
    }

    /// An arrival in an instrument.
    pub fn arrive(&mut self, at_ns: u64, i: usize) {
        let draw = &mut self.draw;
        let instrument = &mut self.instruments[i];
        instrument.wander(at_ns, draw);
        for side in [Side::Bid, Side::Ask] {
            if instrument.book.side_count(side) < SIDE_ORDERS_MIN {
                return self.add(at_ns, i, side);
            }
        }
        if let Some(side) = instrument.stale_side()
            && draw.chance(0.5)
        {
            return self.pick_off(at_ns, i, side);
        }
        let fullness = instrument.book.order_count() as f64 / self.resting_orders;
        let delete = 0.375 * fullness.clamp(0.5, 2.0);
        let kinds = [0.490, delete, 0.052, 0.045, 0.033, 0.02];
        let mut at = draw.unit() * kinds.iter().sum::<f64>();
        let kind = kinds.iter().position(|weight| {
            at -= weight;
            at < 0.0
        });
        match kind {
            Some(1) => self.delete_any(at_ns, i),
            Some(2) => self.aggress(at_ns, i),
            Some(3) => self.trade_hidden(at_ns, i),
            Some(4) => self.reduce_any(at_ns, i),
            Some(5) => self.replace_any(at_ns, i),
            _ => {
                let side = if self.draw.chance(0.5) { Side::Bid } else { Side::Ask };
                self.add(at_ns, i, side);
            }
        }
    }

    /// A new order rests on a side.
    pub fn add(&mut self, at_ns: u64, i: usize, side: Side) {
        let reference = self.next_reference(i);
        let shares = self.draw.shares();
        let price = self.instruments[i].passive_price(side, &mut self.draw);
        let participant = self
            .draw
            .chance(0.015)
            .then(|| PARTICIPANTS[self.draw.below(PARTICIPANTS.len() as u32) as usize]);
        let added = self.instruments[i].add(reference, side, shares, price);
        if let Some(order) = self.keep(added) {
            self.say(at_ns, Some(i), Change::Add(order, participant));
        }
    }

    fn delete(&mut self, at_ns: u64, i: usize, order: Order) {
        let taken = self.instruments[i].take(order.reference, order.shares);
        if let Some(order) = self.keep(taken) {
            self.say(at_ns, Some(i), Change::Delete(order));
        }
    }

    fn delete_any(&mut self, at_ns: u64, i: usize) {
        if let Some(order) = self.instruments[i].any_order(&mut self.draw) {
            self.delete(at_ns, i, order);
        }
    }

    fn reduce_any(&mut self, at_ns: u64, i: usize) {
        let Some(order) = self.instruments[i].any_order(&mut self.draw) else { return };
        if order.shares < 2 {
            return self.delete(at_ns, i, order);
        }
        let shares = 1 + self.draw.below(order.shares - 1);
        let taken = self.instruments[i].take(order.reference, shares);
        if let Some(order) = self.keep(taken) {
            self.say(at_ns, Some(i), Change::Reduce { order, shares });
        }
    }

    fn replace_any(&mut self, at_ns: u64, i: usize) {
        let Some(old) = self.instruments[i].any_order(&mut self.draw) else { return };
        let reference = self.next_reference(i);
        let shares = if self.draw.chance(0.7) { old.shares } else { self.draw.shares() };
        let taken = self.instruments[i].take(old.reference, old.shares);
        let Some(old) = self.keep(taken) else { return };
        let price = self.instruments[i].passive_price(old.side, &mut self.draw);
        let added = self.instruments[i].add(reference, old.side, shares, price);
        if let Some(new) = self.keep(added) {
            self.say(at_ns, Some(i), Change::Replace { old, new });
        }
    }

    /// The efficient price has passed a side's best orders: owners run, others are faster.
    fn pick_off(&mut self, at_ns: u64, i: usize, side: Side) {
        let Some(front) = self.instruments[i].book.front(side).copied() else { return };
        if self.draw.chance(0.8) {
            self.delete(at_ns, i, front);
        } else {
            self.execute(at_ns, i, front.reference, front.shares);
        }
    }

    fn execute(&mut self, at_ns: u64, i: usize, reference: u64, shares: u32) {
        let match_number = self.next_match();
        let taken = self.instruments[i].take(reference, shares);
        if let Some(order) = self.keep(taken) {
            self.say(at_ns, Some(i), Change::Execute { order, shares, match_number });
        }
    }

    /// An incoming order trades with what rests, through at most two levels.
    fn aggress(&mut self, at_ns: u64, i: usize) {
        let book = &self.instruments[i].book;
        let (Some(bid), Some(ask)) = (book.best(Side::Bid), book.best(Side::Ask)) else { return };
        let middle_ticks = f64::from(bid + ask) / f64::from(2 * TICK);
        let lean = (self.instruments[i].efficient_ticks() - middle_ticks)
            / (f64::from(ask - bid) / f64::from(TICK));
        let buys = self.draw.chance((0.5 + 0.4 * lean).clamp(0.05, 0.95));
        let hit = if buys { Side::Ask } else { Side::Bid };
        let first_price = if buys { ask } else { bid };
        let deep = self.draw.chance(0.2);
        let mut left = self.draw.shares();
        while left > 0 && self.instruments[i].book.side_count(hit) > 1 {
            let Some(front) = self.instruments[i].book.front(hit).copied() else { break };
            if front.price != first_price && (!deep || front.price.abs_diff(first_price) > TICK) {
                break;
            }
            let shares = left.min(front.shares);
            left -= shares;
            if self.draw.chance(0.01) {
                self.execute_better(at_ns, i, front, shares, bid.midpoint(ask));
            } else {
                self.execute(at_ns, i, front.reference, shares);
            }
        }
    }

    fn execute_better(&mut self, at_ns: u64, i: usize, front: Order, shares: u32, price: u32) {
        let match_number = self.next_match();
        let taken = self.instruments[i].take(front.reference, shares);
        if let Some(order) = self.keep(taken) {
            let change = Change::ExecuteAt { order, shares, match_number, printable: true, price };
            self.say(at_ns, Some(i), change);
        }
    }

    fn trade_hidden(&mut self, at_ns: u64, i: usize) {
        let book = &self.instruments[i].book;
        let (Some(bid), Some(ask)) = (book.best(Side::Bid), book.best(Side::Ask)) else { return };
        // At the midpoint, or at a tick of the spread, its ends included.
        let price = if self.draw.chance(0.5) {
            bid.midpoint(ask)
        } else {
            bid + self.draw.below((ask - bid) / TICK + 1) * TICK
        };
        let (shares, match_number) = (self.draw.shares(), self.next_match());
        let side = if price - bid < ask - price { Side::Bid } else { Side::Ask };
        self.say(at_ns, Some(i), Change::HiddenTrade { side, shares, price, match_number });
    }

    /// An auction: the best bid meets the best ask at one price, reported once.
    pub fn cross(&mut self, at_ns: u64, i: usize, kind: u8) {
        let book = &self.instruments[i].book;
        let fronts = (book.front(Side::Bid).copied(), book.front(Side::Ask).copied());
        let (Some(bid), Some(ask)) = fronts else { return };
        let price = (bid.price.midpoint(ask.price) / TICK) * TICK;
        let shares = bid.shares.min(ask.shares);
        let match_number = self.next_match();
        for order in [bid, ask] {
            let taken = self.instruments[i].take(order.reference, shares);
            if let Some(order) = self.keep(taken) {
                let printable = false;
                let change = Change::ExecuteAt { order, shares, match_number, printable, price };
                self.say(at_ns, Some(i), change);
            }
        }
        // Orders for the auction only add to what the book gave.
        let auction_only = u64::from(100 * (1 + self.draw.below(400)));
        let shares = u64::from(shares) + auction_only;
        self.say(at_ns, Some(i), Change::Cross { shares, price, match_number, kind });
    }

    /// Figures before an auction.
    pub fn indicate(&mut self, at_ns: u64, i: usize, cross: u8) {
        let price = self.instruments[i].efficient_price();
        let paired = u64::from(100 * self.draw.below(500));
        let imbalance = u64::from(100 * self.draw.below(50));
        let side = match (imbalance, self.draw.chance(0.5)) {
            (0, _) => None,
            (_, true) => Some(Side::Bid),
            (_, false) => Some(Side::Ask),
        };
        self.say(at_ns, Some(i), Change::Imbalance { paired, imbalance, side, price, cross });
    }

    /// Registers the first market participant in an instrument.
    pub fn register(&mut self, at_ns: u64, i: usize) {
        self.say(at_ns, Some(i), Change::Participant(PARTICIPANTS[i % PARTICIPANTS.len()]));
    }
}
