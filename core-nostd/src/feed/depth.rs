//! Depth and features of the instruments that were chosen for it, written into their places of
//! the segment after each event that concerns them.
//!
//! A symbol is looked at once, when it is announced; from then on an instrument has its place by
//! index or has none. Which places of the segment a feed has is said when it is made: any, in any
//! order, those of a feed that is gone too.

use core::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::publisher::MessageStamp;
use crate::arena::{Arena, ArenaError};
use crate::book::LevelView;
use crate::event::{NO_INSTRUMENT, Side, UNDEF_PRICE};
use crate::segment::{
    ALL_LEVELS, DEPTH_LEVELS, DepthEntry, DepthLevel, DepthMoment, DepthSides, DepthTable,
    Features, SegmentWriter,
};

/// Symbols that can be chosen by name in one feed.
pub const DEPTH_SYMBOLS: usize = 64;
/// A symbol, padded with spaces as feeds have it.
pub type Symbol = [u8; 8];

/// Which instruments of a feed have a place.
#[derive(Clone, Debug, PartialEq, Eq)]
// One for each feed, made once, and there is no heap to put it on.
#[allow(clippy::large_enum_variant)]
pub enum DepthChoice {
    /// All.
    All,
    /// Those of these symbols.
    Symbols(heapless::Vec<Symbol, DEPTH_SYMBOLS>),
}

/// What features need to know of the past.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Past {
    bid_px: i64,
    ask_px: i64,
    bid_sz: u32,
    ask_sz: u32,
    order_flow: i64,
    /// Trades that still count, in 2^-20 of a trade, at `intensity_ns`.
    intensity: u64,
    intensity_ns: u64,
    trades: u64,
    /// Its place in the segment.
    place: u64,
}

// With the place it is still a cache line.
const _: () = assert!(size_of::<Past>() == 64);

/// Half of a trade's weight is gone after 2^33 ns.
const HALF_LIFE_SHIFT: u32 = 33;
const TRADE: u64 = 1 << 20;
/// ln 2 / 2^33 ns, in millionths of a second's reciprocal.
const RATE_PER_TRADE: u64 = 80_693;

/// The places of a feed's instruments.
#[derive(Debug)]
pub struct DepthBoard<'m> {
    table: DepthTable<'m>,
    choice: DepthChoice,
    past: &'m mut [Past],
    rows: &'m mut [DepthRows],
    used: usize,
}

impl<'m> DepthBoard<'m> {
    /// The board of a feed that has these `places` of the segment's.
    pub fn new(
        segment: &SegmentWriter<'m>,
        choice: &DepthChoice,
        places: impl ExactSizeIterator<Item = u32>,
        arena: &mut Arena<'m>,
    ) -> Result<Self, ArenaError> {
        let past: &mut [Past] = arena.alloc_slice("depth features", places.len())?;
        for (past, place) in past.iter_mut().zip(places) {
            past.place = place.into();
        }
        let rows = arena.alloc_slice("depth levels", past.len())?;
        Ok(DepthBoard { table: segment.depth(), choice: choice.clone(), past, rows, used: 0 })
    }

    /// Instruments that have a place, and places that there are.
    pub fn usage(&self) -> (usize, usize) {
        (self.used, self.past.len())
    }

    /// Gives an instrument whose symbol was announced a `place` (plus one; 0 is none), if it was
    /// chosen. Whether it was and there is none left.
    #[cold]
    pub fn announce(&mut self, place: &mut u32, symbol: &[u8]) -> bool {
        let chosen = match &self.choice {
            DepthChoice::All => true,
            DepthChoice::Symbols(symbols) => symbols.iter().any(|one| same(one, symbol)),
        };
        if !chosen || *place != 0 {
            return false;
        }
        if self.used >= self.past.len() {
            return true;
        }
        if let Some(rows) = self.rows.get_mut(self.used) {
            rows.published = 0;
        }
        self.used = self.used.wrapping_add(1);
        *place = self.used as u32;
        false
    }

    /// Forgets the past at the start of a session.
    pub fn start_session(&mut self) {
        for past in self.past.iter_mut() {
            *past = Past { place: past.place, ..Past::zeroed() };
        }
        for rows in self.rows.iter_mut() {
            rows.published = 0;
        }
    }

    /// Takes the places away from the instruments that have them: readers find none of them there any
    /// more.
    #[cold]
    pub fn free_all(&mut self) {
        let nobody = DepthEntry {
            instrument: NO_INSTRUMENT,
            health: 0,
            event_seq: 0,
            ts_event: 0,
            ts_recv: 0,
            bids: [DepthLevel::NONE; DEPTH_LEVELS],
            asks: [DepthLevel::NONE; DEPTH_LEVELS],
            features: Features::EMPTY,
        };
        for past in self.past.iter().take(self.used) {
            self.table.write(past.place as usize, &nobody);
        }
        self.used = 0;
    }

    /// Marks what is at `place` of `instrument`.
    pub fn mark(&self, place: usize, instrument: u32, bits: u8) {
        let Some(past) = self.past.get(place) else { return };
        self.table.mark(past.place as usize, instrument, bits);
    }

    /// Publishes what is at `place` after `change` took its rows on to now: it returns which of each
    /// side changed. `trades` counts the instrument's since the start of the session.
    #[inline(always)]
    pub fn publish(
        &mut self,
        place: usize,
        trades: u64,
        health: u8,
        event_seq: u64,
        stamp: &MessageStamp,
        change: impl FnOnce(&mut DepthRows) -> Changed,
    ) {
        let (Some(past), Some(rows)) = (self.past.get_mut(place), self.rows.get_mut(place)) else {
            return;
        };
        let changed = change(rows);
        let [bids, asks] = &rows.sides;
        let moment = DepthMoment {
            instrument: stamp.instrument,
            health,
            event_seq,
            ts_event: stamp.ts_event,
            ts_recv: stamp.ts_recv,
            features: past.advance(bids, asks, trades, stamp.ts_recv),
        };
        self.table.update(past.place as usize, &moment, &rows.sides, &changed);
    }
}

/// What of an instrument's book an event changed, beside nothing or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Nothing.
    Nothing,
    /// The levels of a side at these prices, which may be the same.
    Levels(Side, [i64; 2]),
    /// Anything.
    All,
}

/// Rows of bids and of offers.
pub type Changed = [Range<usize>; 2];
const NONE_CHANGED: Changed = [0..0, 0..0];

/// The levels that readers have of an instrument, in ordinary memory, so that an event looks at no
/// more of the book than it changed.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct DepthRows {
    sides: DepthSides,
    /// Whether readers have them at all.
    published: u64,
}

impl DepthRows {
    /// Replaces all.
    #[inline]
    pub fn replace(&mut self, sides: DepthSides) -> Changed {
        self.sides = sides;
        self.published = 1;
        [ALL_LEVELS, ALL_LEVELS]
    }

    /// Follows a book in which an event `touched` something; `levels` gives those of a side, best
    /// first, behind as many as it is told.
    #[inline]
    pub fn follow<I: Iterator<Item = LevelView>>(
        &mut self,
        touched: Touched,
        levels: impl Fn(Side, usize) -> I,
    ) -> Changed {
        let changed = match touched {
            _ if self.published == 0 => self.replace(ten_a_side(&levels)),
            Touched::All => self.replace(ten_a_side(&levels)),
            Touched::Nothing => NONE_CHANGED,
            Touched::Levels(side, prices) => {
                let [bids, asks] = &mut self.sides;
                match side {
                    Side::Bid => [follow(bids, side, prices, |at| levels(side, at)), 0..0],
                    Side::Ask => [0..0, follow(asks, side, prices, |at| levels(side, at))],
                }
            }
        };
        debug_assert_eq!(self.sides, ten_a_side(&levels), "{touched:?}");
        changed
    }
}

/// The best ten of each side.
#[inline(never)]
fn ten_a_side<I: Iterator<Item = LevelView>>(levels: impl Fn(Side, usize) -> I) -> DepthSides {
    [Side::Bid, Side::Ask].map(|side| ten(levels(side, 0)))
}

/// Follows one side, of which nothing but the levels at `prices` changed. Returns which rows did.
#[inline]
fn follow<I: Iterator<Item = LevelView>>(
    rows: &mut [DepthLevel; DEPTH_LEVELS],
    side: Side,
    [price, other]: [i64; 2],
    levels: impl Fn(usize) -> I,
) -> Range<usize> {
    if price != other {
        // What stands where depends on both.
        let at = place_of(rows, side, price).min(place_of(rows, side, other));
        let mut levels = levels(at);
        for row in rows.iter_mut().skip(at) {
            *row = levels.next().map_or(DepthLevel::NONE, row_of);
        }
        return at..DEPTH_LEVELS;
    }
    let at = place_of(rows, side, price);
    let Some(before) = rows.get(at).map(|row| row.price) else { return 0..0 };
    let now = levels(at).next().filter(|level| level.price == price);
    match now {
        Some(level) => {
            let end = if before == price { at.wrapping_add(1) } else { DEPTH_LEVELS };
            if before != price {
                rows.copy_within(at..DEPTH_LEVELS - 1, at.wrapping_add(1));
            }
            if let Some(row) = rows.get_mut(at) {
                *row = row_of(level);
            }
            at..end
        }
        None if before == price => {
            rows.copy_within(at.wrapping_add(1).., at);
            if let Some(last) = rows.last_mut() {
                *last = levels(DEPTH_LEVELS - 1).next().map_or(DepthLevel::NONE, row_of);
            }
            at..DEPTH_LEVELS
        }
        None => 0..0,
    }
}

/// How many rows are better than `price`.
#[inline]
fn place_of(rows: &[DepthLevel; DEPTH_LEVELS], side: Side, price: i64) -> usize {
    let better = |row: &&DepthLevel| match side {
        Side::Bid => row.is_some() && row.price > price,
        Side::Ask => row.price < price,
    };
    rows.iter().take_while(better).count()
}

#[inline]
fn row_of(level: LevelView) -> DepthLevel {
    let size = u32::try_from(level.size).unwrap_or(u32::MAX);
    DepthLevel { price: level.price, size, orders: level.orders }
}

/// The best ten of a side.
#[inline]
pub fn ten(levels: impl Iterator<Item = LevelView>) -> [DepthLevel; DEPTH_LEVELS] {
    let mut rows = [DepthLevel::NONE; DEPTH_LEVELS];
    for (row, level) in rows.iter_mut().zip(levels) {
        *row = row_of(level);
    }
    rows
}

/// Whether a symbol is `one`, however either is padded.
fn same(one: &Symbol, symbol: &[u8]) -> bool {
    let text = |bytes: &u8| *bytes != b' ' && *bytes != 0;
    let (a, b) = (one.iter().copied().filter(text), symbol.iter().copied().filter(text));
    a.eq(b)
}

impl Past {
    fn advance(
        &mut self,
        bids: &[DepthLevel; DEPTH_LEVELS],
        asks: &[DepthLevel; DEPTH_LEVELS],
        trades: u64,
        now_ns: u64,
    ) -> Features {
        let (Some(bid), Some(ask)) = (bids.first(), asks.first()) else { return Features::EMPTY };
        self.take_flow(bid, ask);
        self.take_trades(trades, now_ns);
        let ([b1, b5, b10], [a1, a5, a10]) = (sums(bids), sums(asks));
        let mut features = Features {
            imbalance_1: imbalance(b1, a1),
            imbalance_5: imbalance(b5, a5),
            imbalance_10: imbalance(b10, a10),
            order_flow: self.order_flow,
            trade_intensity: (u128::from(self.intensity).wrapping_mul(u128::from(RATE_PER_TRADE))
                >> TRADE.trailing_zeros()) as u64,
            ..Features::EMPTY
        };
        if bid.is_some()
            && ask.is_some()
            && let Some(spread) = ask.price.checked_sub(bid.price)
        {
            features.spread = spread;
            features.mid = bid.price.wrapping_add(features.spread >> 1);
            let drawn = share(features.spread, bid.size, ask.size);
            features.microprice = bid.price.wrapping_add(drawn);
        }
        features
    }

    /// Order flow at the best prices. A side that is not there has size 0 at the worst of prices.
    fn take_flow(&mut self, bid: &DepthLevel, ask: &DepthLevel) {
        let worst_bid = |level: &DepthLevel| if level.is_some() { level.price } else { i64::MIN };
        let (bid_px, ask_px) = (worst_bid(bid), ask.price);
        if self.bid_sz == 0 {
            self.bid_px = i64::MIN;
        }
        if self.ask_sz == 0 {
            self.ask_px = UNDEF_PRICE;
        }
        let size = |counts: bool, size: u32| if counts { i64::from(size) } else { 0 };
        let flow = size(bid_px >= self.bid_px, bid.size)
            .wrapping_sub(size(bid_px <= self.bid_px, self.bid_sz))
            .wrapping_sub(size(ask_px <= self.ask_px, ask.size))
            .wrapping_add(size(ask_px >= self.ask_px, self.ask_sz));
        self.order_flow = self.order_flow.wrapping_add(flow);
        (self.bid_px, self.bid_sz) = (bid_px, bid.size);
        (self.ask_px, self.ask_sz) = (ask_px, ask.size);
    }

    fn take_trades(&mut self, trades: u64, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.intensity_ns);
        if self.intensity_ns < now_ns {
            self.intensity = decayed(self.intensity, passed);
            self.intensity_ns = now_ns;
        }
        let new = trades.saturating_sub(self.trades);
        self.trades = trades;
        self.intensity = self.intensity.saturating_add(new.saturating_mul(TRADE));
    }
}

/// `spread * part / (part + rest)`, rounded down, in 64 bits: sizes beyond 31 are halved.
fn share(spread: i64, part: u32, rest: u32) -> i64 {
    let halve = (part | rest) >> 31;
    let (part, rest) = (i64::from(part >> halve), i64::from(rest >> halve));
    let all = part.wrapping_add(rest);
    let (Some(whole), Some(left)) =
        (spread.checked_div_euclid(all), spread.checked_rem_euclid(all))
    else {
        return 0;
    };
    let of_left = left.wrapping_mul(part).checked_div(all).unwrap_or(0);
    whole.wrapping_mul(part).wrapping_add(of_left)
}

/// Quantity in 1, in 5 and in all levels of a side.
#[inline]
fn sums(side: &[DepthLevel; DEPTH_LEVELS]) -> [i64; 3] {
    let mut sums = [0; 3];
    let mut sum = 0_i64;
    for (at, level) in side.iter().enumerate() {
        sum = sum.wrapping_add(level.size.into());
        match at {
            0 => sums[0] = sum,
            4 => sums[1] = sum,
            _ => {}
        }
    }
    sums[2] = sum;
    sums
}

fn imbalance(bids: i64, asks: i64) -> i32 {
    // At most ten 32-bit sizes a side: a million times that fits.
    let scaled = bids.wrapping_sub(asks).wrapping_mul(1_000_000);
    scaled.checked_div(bids.wrapping_add(asks)).unwrap_or(0) as i32
}

/// `value` after `ns`: halved once a half-life, by a polynomial within one (error below 1e-4).
fn decayed(value: u64, ns: u64) -> u64 {
    let Ok(halves) = u32::try_from(ns >> HALF_LIFE_SHIFT) else { return 0 };
    // The rest of a half-life as a fraction with 32 bits behind the point.
    let rest = (ns & ((1 << HALF_LIFE_SHIFT) - 1)) >> 1;
    let times = |a: u64, b: u64| ((u128::from(a).wrapping_mul(u128::from(b))) >> 32) as u64;
    // 2^-x = 1 - x (c1 - x (c2 - ...)), the series of e^(-x ln 2), with 32 bits behind the point.
    const C: [u64; 6] = [2_977_044_472, 1_031_764_991, 238_388_332, 41_309_550, 5_726_720, 661_577];
    let inner = C.iter().rev().fold(0, |inner, c| c.wrapping_sub(times(rest, inner)));
    let factor = (1u64 << 32).wrapping_sub(times(rest, inner));
    times(value.checked_shr(halves).unwrap_or(0), factor)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_trade_counts_for_half_after_a_half_life() {
        let half_life = 1u64 << HALF_LIFE_SHIFT;
        for (halves, eighths) in [(0, 0), (0, 3), (1, 0), (2, 7), (30, 0)] {
            let ns = halves * half_life + eighths * (half_life / 8);
            let exact = 1e15 * (-(halves as f64 + eighths as f64 / 8.0)).exp2();
            let found = decayed(1_000_000_000_000_000, ns) as f64;
            assert!((found - exact).abs() <= exact * 1e-4 + 1.0, "{halves} {eighths}: {found}");
        }
        assert_eq!(decayed(u64::MAX, u64::MAX), 0);
        // A trade every half second for minutes: two a second.
        let mut past = Past::zeroed();
        for n in 0..1_000u64 {
            past.take_trades(n, n * 500_000_000);
        }
        let rate = past.intensity as f64 / TRADE as f64 * (2f64.ln() / 8.589934592);
        assert!((rate - 2.0).abs() < 0.1, "{rate}");
    }

    #[test]
    fn prices_too_far_apart_for_a_difference_have_none() {
        let level = |price| {
            let mut rows = [DepthLevel::NONE; DEPTH_LEVELS];
            rows[0] = DepthLevel { price, size: 100, orders: 1 };
            rows
        };
        let of = |bid, ask| Past::zeroed().advance(&level(bid), &level(ask), 0, 0);
        let (low, high) = (i64::MIN / 100_000 * 100_000, i64::MAX / 100_000 * 100_000);
        let features = of(low / 2, high / 2);
        assert_eq!((features.spread, features.mid), (high / 2 - low / 2, 0));
        let features = of(low, high);
        assert_eq!([features.spread, features.mid, features.microprice], [UNDEF_PRICE; 3]);
        assert_eq!(features.imbalance_1, 0);
    }

    #[test]
    fn symbols_are_the_same_whatever_they_are_padded_with() {
        assert!(same(b"AAPL    ", b"AAPL\0\0\0\0\0\0"));
        assert!(same(b"AAPL\0\0\0\0", b"AAPL    "));
        assert!(!same(b"AAPL    ", b"AAP     "));
    }
}
