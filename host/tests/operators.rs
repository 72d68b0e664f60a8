//! The operators against plain references: the same question answered row by row, without
//! chunks, searches or sorted order to lean on.

use proptest::prelude::*;
use std::collections::BTreeMap;
use wiretape_core::event::{UNDEF_PRICE, UNDEF_TIMESTAMP, flags};
use wiretape_host::query::bars::BarTrades;
use wiretape_host::query::{Bar, BarRule, RowId, Series, Window, asof, bars, merge};
use wiretape_host::store::{
    Axis, Columns, Position, QuoteColumns, QuoteRow, TIME_MAX, Table, TradeColumns, TradeRow,
};

/// What is published, in order: the kind, the step of either clock and the content.
#[derive(Clone, Debug)]
struct Publication {
    trade: bool,
    event_step: i64,
    recv_step: i64,
    price: i64,
    size: u32,
    flags: u8,
    new_epoch: bool,
}

fn publications() -> impl Strategy<Value = Vec<Publication>> {
    // Steps of 0 make equal times, negative ones make late ticks; most are small, so that ties
    // are common.
    let step = || prop_oneof![8 => 0i64..3, 1 => -4i64..0, 1 => 0i64..40];
    let one = (
        any::<bool>(),
        step(),
        step(),
        prop_oneof![6 => -50i64..200, 1 => Just(UNDEF_PRICE)],
        0u32..9,
        prop_oneof![5 => Just(0u8), 1 => 0u8..=flags::UNPRINTABLE],
        prop::bool::weighted(0.02),
    );
    let one = one.prop_map(|(trade, event_step, recv_step, price, size, flags, new_epoch)| {
        Publication { trade, event_step, recv_step, price, size, flags, new_epoch }
    });
    prop::collection::vec(one, 0..300)
}

/// The same publications as tables and as flat rows.
#[derive(Default)]
struct Tape {
    trades: Vec<(Position, TradeRow)>,
    quotes: Vec<(Position, QuoteRow)>,
}

fn tape(publications: &[Publication]) -> Tape {
    let mut tape = Tape::default();
    let (mut ts_event, mut ts_recv) = (1_000i64, 2_000i64);
    let mut at = Position { epoch: 7, sequence: 0 };
    for p in publications {
        ts_event += p.event_step;
        ts_recv += p.recv_step;
        at.sequence += 1;
        if p.new_epoch {
            at = Position { epoch: at.epoch + 1, sequence: 1 };
        }
        let (ts_event, ts_recv, sequence) = (ts_event as u64, ts_recv as u64, at.sequence);
        let (price, size, flags) = (p.price, p.size, p.flags);
        if p.trade {
            let (venue_sequence, side) = (sequence as u32, b'A');
            let row =
                TradeRow { ts_event, ts_recv, sequence, price, size, venue_sequence, flags, side };
            tape.trades.push((at, row));
        } else {
            let row = QuoteRow {
                ts_event,
                ts_recv,
                sequence,
                bid_price: price,
                ask_price: price.saturating_add(1),
                bid_size: u64::from(size),
                ask_size: 1,
                bid_count: 1,
                ask_count: 1,
                flags,
            };
            tape.quotes.push((at, row));
        }
    }
    tape
}

fn table<C: Columns>(rows: &[(Position, C::Row)], chunk_rows: usize) -> Table<C> {
    let mut table = Table::new(chunk_rows);
    for (at, row) in rows {
        table.append(at.epoch, *row);
    }
    table
}

fn trade_time(axis: Axis, row: &TradeRow) -> u64 {
    if axis == Axis::Exchange { row.ts_event } else { row.ts_recv }
}

fn quote_time(axis: Axis, row: &QuoteRow) -> u64 {
    if axis == Axis::Exchange { row.ts_event } else { row.ts_recv }
}

fn sorted_trades(tape: &Tape, axis: Axis, window: Window) -> Vec<(Position, TradeRow)> {
    let mut rows = tape.trades.clone();
    rows.retain(|(_, row)| {
        let time = trade_time(axis, row);
        time >= window.from.unwrap_or(0) && window.to.is_none_or(|to| time < to)
    });
    rows.sort_by_key(|(at, row)| (trade_time(axis, row), *at));
    rows
}

fn window() -> impl Strategy<Value = Window> {
    let bound = || prop::option::of(990u64..2_600);
    (bound(), bound()).prop_map(|(from, to)| Window { from, to })
}

fn axis() -> impl Strategy<Value = Axis> {
    prop_oneof![Just(Axis::Exchange), Just(Axis::Receive)]
}

fn rows<C: Columns>(series: &Series<C>) -> Vec<(Position, C::Row)> {
    series.ids().map(|id| (series.position(id), series.row(id))).collect()
}

/// Bars by grouping first and summing up afterwards.
fn reference_bars(trades: &[(Position, TradeRow)], axis: Axis, rule: &BarRule) -> Vec<Bar> {
    let mut groups: BTreeMap<u64, Vec<(Position, TradeRow)>> = BTreeMap::new();
    let (mut group, mut volume, mut count) = (0, 0, 0);
    for (at, row) in trades {
        if row.price == UNDEF_PRICE || row.flags & flags::UNPRINTABLE == flags::UNPRINTABLE {
            continue;
        }
        let key = match *rule {
            BarRule::Time { width, origin } => {
                // The k for which origin + k·width <= time, moved up so that it is positive.
                let time = trade_time(axis, row) as i128 - origin as i128;
                (time.div_euclid(width as i128) + (1 << 40)) as u64
            }
            BarRule::Day { .. } | BarRule::Volume(_) | BarRule::Count(_) => group,
        };
        groups.entry(key).or_default().push((*at, *row));
        (volume, count) = (volume + u64::from(row.size), count + 1);
        let full = match *rule {
            BarRule::Time { .. } | BarRule::Day { .. } => false,
            BarRule::Volume(limit) => volume >= limit,
            BarRule::Count(limit) => count >= limit,
        };
        if full {
            (group, volume, count) = (group + 1, 0, 0);
        }
    }
    let last = groups.keys().last().copied();
    let bars = groups.into_iter().map(|(key, rows)| {
        let times: Vec<u64> = rows.iter().map(|(_, row)| trade_time(axis, row)).collect();
        let prices: Vec<i64> = rows.iter().map(|(_, row)| row.price).collect();
        let volume: u64 = rows.iter().map(|(_, row)| u64::from(row.size)).sum();
        let trades = rows.len() as u64;
        let (start, end) = match *rule {
            BarRule::Time { width, origin } => {
                let start = origin as i128 + (key as i128 - (1 << 40)) * width as i128;
                (start as u64, (start + width as i128) as u64)
            }
            _ => (times[0], times[times.len() - 1]),
        };
        Bar {
            start,
            end,
            first: times[0],
            last: times[times.len() - 1],
            open: prices[0],
            high: *prices.iter().max().unwrap(),
            low: *prices.iter().min().unwrap(),
            close: prices[prices.len() - 1],
            volume,
            trades,
            notional: rows.iter().map(|(_, row)| row.price as i128 * row.size as i128).sum(),
            through: rows[rows.len() - 1].0,
            closed: match *rule {
                BarRule::Time { .. } | BarRule::Day { .. } => Some(key) != last,
                BarRule::Volume(limit) => volume >= limit,
                BarRule::Count(limit) => trades >= limit,
            },
        }
    });
    bars.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_range_holds_the_rows_of_its_window_in_order(
        publications in publications(), chunk_rows in 1usize..40, axis in axis(), window in window(),
    ) {
        let tape = tape(&publications);
        let chunks = table::<TradeColumns>(&tape.trades, chunk_rows).snapshot();
        let series = Series::select(&chunks, axis, window);
        prop_assert_eq!(series.len(), series.ids().count());
        prop_assert_eq!(rows(&series), sorted_trades(&tape, axis, window));
    }

    #[test]
    fn an_as_of_join_finds_the_last_quote_before_each_trade(
        publications in publications(), chunk_rows in 1usize..40, axis in axis(), window in window(),
        tolerance in prop::option::of(0u64..30),
    ) {
        let tape = tape(&publications);
        let trades = table::<TradeColumns>(&tape.trades, chunk_rows).snapshot();
        let quotes = table::<QuoteColumns>(&tape.quotes, chunk_rows).snapshot();
        let left = Series::select(&trades, axis, window);
        let right = Series::select(&quotes, axis, Window { from: None, to: window.to });
        let found: Vec<Option<QuoteRow>> =
            asof(&left, &right, tolerance).into_iter().map(|id| id.map(|id| right.row(id))).collect();

        let expected: Vec<Option<QuoteRow>> = sorted_trades(&tape, axis, window)
            .iter()
            .map(|(trade_at, trade)| {
                let time = trade_time(axis, trade);
                let before = tape.quotes.iter().filter(|(at, quote)| {
                    let quoted = quote_time(axis, quote);
                    quoted < time || (quoted == time && at < trade_at)
                });
                let best = before.max_by_key(|(at, quote)| (quote_time(axis, quote), *at))?;
                let age = time - quote_time(axis, &best.1);
                tolerance.is_none_or(|tolerance| age <= tolerance).then_some(best.1)
            })
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn bars_sum_up_the_trades_of_their_time_volume_or_count(
        publications in publications(), chunk_rows in 1usize..40, axis in axis(), window in window(),
        rule in prop_oneof![
            (1u64..60, 0u64..3_000).prop_map(|(width, origin)| BarRule::Time { width, origin }),
            (1u64..40).prop_map(BarRule::Volume),
            (1u64..12).prop_map(BarRule::Count),
        ],
    ) {
        let tape = tape(&publications);
        let chunks = table::<TradeColumns>(&tape.trades, chunk_rows).snapshot();
        let series = Series::select(&chunks, axis, window);
        let found = bars(&series, &rule, BarTrades::default(), None);
        let trades = sorted_trades(&tape, axis, window);
        prop_assert_eq!(found, reference_bars(&trades, axis, &rule));
    }

    #[test]
    fn merging_keeps_every_row_and_puts_them_in_order(
        publications in prop::collection::vec(publications(), 1..4), axis in axis(),
        limit in 0usize..600,
    ) {
        let tapes: Vec<Tape> = publications.iter().map(|p| tape(p)).collect();
        let series: Vec<Series<TradeColumns>> = tapes
            .iter()
            .map(|tape| {
                let chunks = table::<TradeColumns>(&tape.trades, 16).snapshot();
                Series::select(&chunks, axis, Window::default())
            })
            .collect();
        let workers: Vec<u32> = (0..series.len() as u32).collect();
        // A receive time that runs backwards inside a worker breaks the order across workers
        // by design (its own order wins), so that only the times are compared here.
        let merged = merge(&series, &workers, limit);
        let total: usize = series.iter().map(Series::len).sum();
        prop_assert_eq!(merged.len(), total.min(limit));
        let times: Vec<u64> = merged.iter().map(|&(i, id)| series[i].time(id)).collect();
        prop_assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
        for (index, series) in series.iter().enumerate() {
            let own: Vec<RowId> =
                merged.iter().filter(|(i, _)| *i == index).map(|(_, id)| *id).collect();
            let expected: Vec<RowId> = series.ids().take(own.len()).collect();
            prop_assert_eq!(own, expected);
        }
    }

    #[test]
    fn a_vwap_is_the_nearest_billionth(prices in prop::collection::vec((any::<i64>(), 0u32..), 0..20)) {
        let rows: Vec<(Position, TradeRow)> = prices
            .iter()
            .filter(|(price, _)| *price != UNDEF_PRICE)
            .enumerate()
            .map(|(i, &(price, size))| {
                let (sequence, venue_sequence, flags, side) = (i as u64, 0, 0, b'N');
                let row = TradeRow {
                    ts_event: 0, ts_recv: 0, sequence, price, size, venue_sequence, flags, side,
                };
                (Position { epoch: 1, sequence }, row)
            })
            .collect();
        let chunks = table::<TradeColumns>(&rows, 8).snapshot();
        let series = Series::select(&chunks, Axis::Exchange, Window::default());
        let rule = BarRule::Count(u64::MAX);
        for bar in bars(&series, &rule, BarTrades::default(), None) {
            match bar.vwap() {
                None => prop_assert_eq!(bar.volume, 0),
                Some(vwap) => {
                    let off = bar.notional - i128::from(vwap) * i128::from(bar.volume);
                    prop_assert!(off.abs() * 2 <= i128::from(bar.volume));
                }
            }
        }
    }
}

#[test]
fn a_quote_of_the_same_instant_counts_only_if_it_was_published_before() {
    let quote = |sequence, bid_price| QuoteRow {
        ts_event: 100,
        ts_recv: 100,
        sequence,
        bid_price,
        ask_price: UNDEF_PRICE,
        bid_size: 1,
        ask_size: 0,
        bid_count: 1,
        ask_count: 0,
        flags: 0,
    };
    let trade = TradeRow {
        ts_event: 100,
        ts_recv: 100,
        sequence: 5,
        price: 1,
        size: 1,
        venue_sequence: 0,
        flags: 0,
        side: b'N',
    };
    let mut quotes = Table::<QuoteColumns>::new(64);
    quotes.append(1, quote(4, 40));
    quotes.append(1, quote(6, 60));
    let mut trades = Table::<TradeColumns>::new(64);
    trades.append(1, trade);
    let left = Series::select(&trades.snapshot(), Axis::Exchange, Window::default());
    let right = Series::select(&quotes.snapshot(), Axis::Exchange, Window::default());
    let found = asof(&left, &right, Some(0));
    assert_eq!(found[0].map(|id| right.row(id).bid_price), Some(40));
}

#[test]
fn bars_of_a_place_are_counted_from_each_of_its_midnights() {
    let utc = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as u64;
    let (hour, minute) = (3_600_000_000_000, 60_000_000_000);
    // A Friday, the Sunday on which clocks are changed, and the Monday behind it.
    let midnights = ["2025-03-07T05:00Z", "2025-03-09T05:00Z", "2025-03-10T04:00Z"].map(utc);
    let nights = ["2025-03-08T05:00Z", "2025-03-10T04:00Z", "2025-03-11T04:00Z"].map(utc);
    let rows: Vec<(Position, TradeRow)> = midnights
        .iter()
        .zip(&nights)
        .flat_map(|(midnight, night)| [midnight + 5 * hour, night - minute])
        .enumerate()
        .map(|(number, ts_event)| {
            let (sequence, venue_sequence, flags, side) = (number as u64, 0, 0, b'N');
            let (price, size, ts_recv) = (1, 1, ts_event);
            let row =
                TradeRow { ts_event, ts_recv, sequence, price, size, venue_sequence, flags, side };
            (Position { epoch: 1, sequence }, row)
        })
        .collect();
    let chunks = table::<TradeColumns>(&rows, 4).snapshot();
    let bounds = |width: u64, from: Option<u64>| -> Vec<(u64, u64)> {
        let zone = "America/New_York".to_owned().try_into().unwrap();
        let series = Series::select(&chunks, Axis::Exchange, Window { from, to: None });
        let found =
            bars(&series, &BarRule::Day { width, zone }, BarTrades::default(), None).into_iter();
        found.map(|bar| (bar.start, bar.end)).collect()
    };
    let days: Vec<(u64, u64)> = midnights.into_iter().zip(nights).collect();
    assert_eq!(bounds(24 * hour, None), days);
    // 50 minutes do not fit a day: the first bar begins at midnight, the last ends there.
    let width = 50 * minute;
    let expected: Vec<(u64, u64)> = days
        .iter()
        .flat_map(|&(midnight, night)| {
            let last = midnight + (night - minute - midnight) / width * width;
            [(midnight + 6 * width, midnight + 7 * width), (last, night)]
        })
        .collect();
    assert_eq!(bounds(width, None), expected);
    assert_eq!(bounds(width, Some(midnights[1])), expected[2..]);
}

#[test]
fn a_trade_without_a_time_is_in_no_bar_and_keeps_no_other_out() {
    let row = |sequence, ts_event| {
        let (price, size, venue_sequence, flags, side) = (1, 1, 0, 0, b'N');
        let (ts_recv, at) = (7, Position { epoch: 1, sequence });
        (at, TradeRow { ts_event, ts_recv, sequence, price, size, venue_sequence, flags, side })
    };
    let times = [UNDEF_TIMESTAMP, 5, TIME_MAX + 1, TIME_MAX];
    let rows: Vec<_> = (1..).zip(times).map(|(sequence, time)| row(sequence, time)).collect();
    let chunks = table::<TradeColumns>(&rows, 2).snapshot();
    let rules = [
        BarRule::Count(1),
        BarRule::Time { width: 10, origin: 0 },
        BarRule::Time { width: u64::MAX, origin: 0 },
        BarRule::Day { width: 10, zone: "UTC".to_owned().try_into().unwrap() },
    ];
    for rule in rules {
        let of = |axis| {
            let series = Series::select(&chunks, axis, Window::default());
            bars(&series, &rule, BarTrades::default(), None)
        };
        let found = of(Axis::Exchange);
        assert_eq!(found.iter().map(|bar| bar.trades).sum::<u64>(), 2, "{rule:?}");
        assert!(found.iter().all(|bar| i64::try_from(bar.end).is_ok()), "{rule:?}");
        assert_eq!(of(Axis::Receive).iter().map(|bar| bar.trades).sum::<u64>(), 4, "{rule:?}");
    }
}
