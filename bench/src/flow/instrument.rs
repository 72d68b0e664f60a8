//! One simulated instrument: its book, its efficient price, its arrivals.

use std::collections::HashMap;

use wiretape_core::event::Side;

use super::TICK;
use super::arrival::Arrivals;
use super::book::{BookError, Order, PlainBook};
use super::draw::Draw;

/// How fast the efficient price returns to its anchor, per second.
const REVERSION_PER_SECOND: f64 = 0.02;

/// An instrument of the flow.
pub struct Instrument {
    /// As ITCH carries it: padded with spaces.
    pub symbol: [u8; 8],
    /// The book.
    pub book: PlainBook,
    /// When something happens.
    pub arrivals: Arrivals,
    /// References of live orders, oldest first but for the holes that removals were filled from.
    live: Vec<u64>,
    places: HashMap<u64, usize>,
    anchor_ticks: f64,
    efficient_ticks: f64,
    half_spread_ticks: f64,
    volatility_ticks: f64,
    moved_ns: u64,
}

impl Instrument {
    /// An instrument whose price and width are drawn, before any order.
    pub fn new(symbol: &str, mean_per_second: f64, open_ns: u64, draw: &mut Draw) -> Instrument {
        let mut padded = [b' '; 8];
        for (to, from) in padded.iter_mut().zip(symbol.bytes()) {
            *to = from;
        }
        // 10 to 500 dollars, evenly on a logarithmic scale.
        let anchor_ticks = (1_000.0 * libm::exp(draw.unit() * libm::log(50.0))).round();
        Instrument {
            symbol: padded,
            book: PlainBook::new(),
            arrivals: Arrivals::new(mean_per_second, open_ns),
            live: Vec::new(),
            places: HashMap::new(),
            anchor_ticks,
            efficient_ticks: anchor_ticks,
            half_spread_ticks: 0.5 + anchor_ticks / 20_000.0,
            volatility_ticks: 0.3 + anchor_ticks / 8_000.0,
            moved_ns: open_ns,
        }
    }

    /// Lets the efficient price wander up to a time (an Ornstein-Uhlenbeck step).
    pub fn wander(&mut self, at_ns: u64, draw: &mut Draw) {
        let seconds = at_ns.saturating_sub(self.moved_ns) as f64 * 1e-9;
        self.moved_ns = at_ns;
        let pull = (self.anchor_ticks - self.efficient_ticks) * REVERSION_PER_SECOND * seconds;
        let noise = self.volatility_ticks * seconds.sqrt() * draw.normal();
        let bounds = (self.anchor_ticks * 0.7, self.anchor_ticks * 1.3);
        self.efficient_ticks = (self.efficient_ticks + pull + noise).clamp(bounds.0, bounds.1);
    }

    /// The efficient price in ticks.
    pub fn efficient_ticks(&self) -> f64 {
        self.efficient_ticks
    }

    /// The efficient price, rounded to a tick.
    pub fn efficient_price(&self) -> u32 {
        self.efficient_ticks.round() as u32 * TICK
    }

    /// The side whose best price the efficient price has passed: its orders are about to be hit.
    pub fn stale_side(&self) -> Option<Side> {
        let at = |side| self.book.best(side).map(|price| f64::from(price / TICK));
        match (at(Side::Bid), at(Side::Ask)) {
            (Some(bid), _) if bid > self.efficient_ticks + 0.5 => Some(Side::Bid),
            (_, Some(ask)) if ask < self.efficient_ticks - 0.5 => Some(Side::Ask),
            _ => None,
        }
    }

    /// A price for a new order: near the touch mostly, never through the other side.
    pub fn passive_price(&self, side: Side, draw: &mut Draw) -> u32 {
        let distance = match draw.below(100) {
            0..=34 => 0,
            35..=69 => 1 + draw.run_length(0.55, 30),
            70..=95 => 2 + draw.run_length(0.85, 80),
            _ => 20 + draw.below(300),
        };
        let edge = match side {
            Side::Bid => (self.efficient_ticks - self.half_spread_ticks).floor(),
            Side::Ask => (self.efficient_ticks + self.half_spread_ticks).ceil(),
        };
        let edge = edge.max(2.0) as u32;
        let other = self.book.best(side.opposite()).map(|price| price / TICK);
        let ticks = match side {
            Side::Bid => edge.min(other.map_or(edge, |ask| ask - 1)).saturating_sub(distance),
            Side::Ask => edge.max(other.map_or(edge, |bid| bid + 1)) + distance,
        };
        ticks.max(1) * TICK
    }

    /// A live order, recent ones more often.
    pub fn any_order(&self, draw: &mut Draw) -> Option<Order> {
        let count = self.live.len() as u32;
        let back = if draw.chance(0.6) {
            draw.run_length(0.97, count.saturating_sub(1))
        } else {
            draw.below(count)
        };
        let reference = self.live.get((count.checked_sub(1 + back)?) as usize)?;
        self.book.order(*reference).copied()
    }

    /// Adds an order.
    pub fn add(
        &mut self,
        reference: u64,
        side: Side,
        shares: u32,
        price: u32,
    ) -> Result<Order, BookError> {
        let order = self.book.add(reference, side, shares, price)?;
        self.places.insert(reference, self.live.len());
        self.live.push(reference);
        Ok(order)
    }

    /// Takes shares from an order; gives it as it was before.
    pub fn take(&mut self, reference: u64, shares: u32) -> Result<Order, BookError> {
        let order = self.book.take(reference, shares)?;
        if order.shares == shares {
            self.forget(reference);
        }
        Ok(order)
    }

    fn forget(&mut self, reference: u64) {
        let Some(place) = self.places.remove(&reference) else { return };
        self.live.swap_remove(place);
        if let Some(moved) = self.live.get(place) {
            self.places.insert(*moved, place);
        }
    }
}
