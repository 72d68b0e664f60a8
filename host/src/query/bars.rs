//! Bars: trades summed up by time, volume or count.

use super::day::{DAY, Zone};
use super::series::Series;
use crate::store::{Position, TIME_MAX, TradeColumns};
use serde::{Deserialize, Serialize};
use wiretape_core::event::{UNDEF_PRICE, flags};

/// What closes a bar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BarRule {
    /// The clock of a place: bars counted anew from each midnight there, the last one of a day cut
    /// short where the day is no multiple of them. A bar without a trade is left out.
    Day {
        /// Nanoseconds of a bar; at least 1. From a day on, a multiple of 24 hours: so many days,
        /// counted from 1970.
        width: u64,
        /// Where the clock hangs.
        zone: Zone,
    },
    /// The clock: bars `[origin + k·width, origin + (k+1)·width)`. A bar without a trade is left
    /// out.
    Time {
        /// Nanoseconds of a bar; at least 1.
        width: u64,
        /// A time at which some bar begins, UTC nanoseconds. 0 aligns to UTC midnight.
        origin: u64,
    },
    /// At least so much quantity. The trade that reaches it belongs wholly to the bar it closes.
    Volume(u64),
    /// So many trades.
    Count(u64),
}

/// One bar. Prices are in 1e-9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Begin of a time bar; time of the first trade otherwise.
    pub start: u64,
    /// End of a time bar (exclusive); time of the last trade otherwise.
    pub end: u64,
    /// Time of the first trade.
    pub first: u64,
    /// Time of the last trade.
    pub last: u64,
    /// First price.
    pub open: i64,
    /// Highest price.
    pub high: i64,
    /// Lowest price.
    pub low: i64,
    /// Last price.
    pub close: i64,
    /// Quantity traded.
    pub volume: u64,
    /// Trades.
    pub trades: u64,
    /// Sum of price × size in 1e-9, exact.
    pub notional: i128,
    /// The last trade.
    pub through: Position,
    /// Whether no later trade of the series belongs to it. The last bar of a growing series is
    /// open until its rule is met; a time bar closes when a later trade is there, or when the
    /// caller knows the time to have passed.
    pub closed: bool,
}

impl Bar {
    /// The volume-weighted average price: notional / volume, rounded to 1e-9, halves away from
    /// zero. `None` if nothing was traded.
    pub fn vwap(&self) -> Option<i64> {
        let volume = i128::from(self.volume);
        if volume == 0 {
            return None;
        }
        let half = if self.notional < 0 { -volume } else { volume };
        i64::try_from(self.notional.checked_mul(2)?.checked_add(half)? / (2 * volume)).ok()
    }
}

/// Which trades count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BarTrades {
    /// Also those that the exchange marks as not printable, which repeat volume that is printed
    /// elsewhere.
    pub unprintable: bool,
}

/// The bars of a series of trades, in order. `passed` is a time known to be over, up to which an
/// open time bar counts as closed. Trades without a price, or a time, are left out.
pub fn bars(
    series: &Series<TradeColumns>,
    rule: &BarRule,
    which: BarTrades,
    passed: Option<u64>,
) -> Vec<Bar> {
    let mut out = Vec::new();
    let mut open: Option<Bar> = None;
    let timed = matches!(rule, BarRule::Time { .. } | BarRule::Day { .. });
    let mut clock = Clock { rule, day: (0, 0) };
    for span in series.spans() {
        let columns = span.chunk.columns();
        let times = span.chunk.times(series.axis());
        for row in span.rows.clone() {
            let (price, size) = (columns.price[row], columns.size[row]);
            let unprintable = flags::unprintable(columns.flags[row]);
            let time = times[row];
            if price == UNDEF_PRICE || time > TIME_MAX || (unprintable && !which.unprintable) {
                continue;
            }
            if timed && open.is_some_and(|bar| time >= bar.end) {
                out.extend(open.take().map(|bar| Bar { closed: true, ..bar }));
            }
            let position = span.chunk.position(row);
            let bar =
                open.get_or_insert_with(|| Bar::begin(clock.bar(time), time, price, position));
            bar.add(time, price, size, position);
            let full = match rule {
                BarRule::Time { .. } | BarRule::Day { .. } => false,
                BarRule::Volume(volume) => bar.volume >= *volume,
                BarRule::Count(trades) => bar.trades >= *trades,
            };
            if full {
                bar.closed = true;
                out.extend(open.take());
            }
        }
    }
    if let Some(mut bar) = open {
        bar.closed = timed && passed.is_some_and(|passed| passed >= bar.end);
        out.push(bar);
    }
    if !timed {
        for bar in &mut out {
            (bar.start, bar.end) = (bar.first, bar.last);
        }
    }
    out
}

/// The bounds of bars.
struct Clock<'r> {
    rule: &'r BarRule,
    /// The day that was looked at last: there are many bars in one.
    day: (u64, u64),
}

impl Clock<'_> {
    /// Those of the bar that begins with a trade at `time`.
    fn bar(&mut self, time: u64) -> (u64, u64) {
        match self.rule {
            BarRule::Time { width, origin } => time_bar(time, (*width).max(1), *origin),
            BarRule::Day { width, zone } => {
                if !(self.day.0..self.day.1).contains(&time) {
                    self.day = zone.days_around(time, (*width / DAY).max(1));
                }
                let (begin, end) = self.day;
                if *width >= DAY {
                    return self.day;
                }
                let start = time - (time - begin) % (*width).max(1);
                (start, start.saturating_add(*width).min(end))
            }
            BarRule::Volume(_) | BarRule::Count(_) => (time, time),
        }
    }
}

impl Bar {
    fn begin((start, end): (u64, u64), time: u64, price: i64, through: Position) -> Bar {
        Bar {
            start,
            end,
            first: time,
            last: time,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: 0,
            trades: 0,
            notional: 0,
            through,
            closed: false,
        }
    }

    fn add(&mut self, time: u64, price: i64, size: u32, position: Position) {
        self.last = time;
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.close = price;
        self.volume += u64::from(size);
        self.trades += 1;
        self.notional += i128::from(price) * i128::from(size);
        self.through = position;
    }
}

/// The bounds of the time bar that holds `time`, saturating at the ends of what a time can be.
fn time_bar(time: u64, width: u64, origin: u64) -> (u64, u64) {
    let phase = origin % width;
    let into = (u128::from(time) + u128::from(width - phase)) % u128::from(width);
    let start = i128::from(time) - into as i128;
    let end = start + i128::from(width);
    (start.max(0) as u64, end.min(i128::from(TIME_MAX) + 1) as u64)
}
