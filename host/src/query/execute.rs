//! Answers a request from the stores.

use super::asof::asof;
use super::bars::{BarRule, BarTrades, bars};
use super::day::DAY;
use super::merge::merge;
use super::request::{Request, Scope};
use super::series::{RowId, Series, Window};
use crate::ingest::{SharedStore, lock};
use crate::result::build::{self, Answer, InstrumentLine, Joined, Owner, Selected};
use crate::store::{Chunk, Columns, Coverage, Instrument, InstrumentSnapshot, Kind, QuoteColumns};
use std::collections::HashMap;
use std::sync::Arc;

/// Why a request cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A symbol that no worker announced.
    #[error(
        "no instrument '{symbol}' in the store, which holds {known}; \
         `wiretape query instruments` lists them"
    )]
    UnknownInstrument {
        /// The symbol.
        symbol: String,
        /// Instruments that there are.
        known: usize,
    },
    /// More rows than the host hands out at once.
    #[error(
        "the answer has {rows} rows, the host hands out {limit} at once: narrow --from and --to, \
         name instruments, set --limit, or start the host with a larger --rows-max"
    )]
    TooManyRows {
        /// Rows of the answer.
        rows: usize,
        /// The host's limit.
        limit: usize,
    },
    /// A bar of no width.
    #[error("bars need a width of at least 1 (nanosecond, unit of volume, or trade)")]
    EmptyBar,
    /// A bar of more than a day that does not end at midnight.
    #[error("bars of more than a day are of whole days: 24h, 2d or 7d, for example")]
    BrokenDays,
    /// The window ends before it begins.
    #[error("the time range is empty: --to is not after --from")]
    EmptyWindow,
}

/// What one request sees: copies of the tables, taken under a short lock per worker.
struct Snapshot {
    instruments: Vec<InstrumentSnapshot>,
    owners: Vec<Owner>,
    /// Index of the worker of each instrument.
    workers: Vec<u32>,
    /// Latest time on the axis, by worker.
    passed: Vec<Option<u64>>,
    coverage: Coverage,
}

/// Answers `request` from `stores`, with at most `rows_max` rows.
pub fn execute(
    stores: &[SharedStore],
    request: &Request,
    rows_max: usize,
) -> Result<Answer, QueryError> {
    match request {
        Request::Range { kind, scope } => range(stores, *kind, scope, rows_max),
        Request::Asof { scope, tolerance } => join(stores, scope, *tolerance, rows_max),
        Request::Bars { scope, rule, unprintable } => {
            match rule {
                BarRule::Time { width: 0, .. }
                | BarRule::Day { width: 0, .. }
                | BarRule::Volume(0)
                | BarRule::Count(0) => return Err(QueryError::EmptyBar),
                BarRule::Day { width, .. } if *width > DAY && !width.is_multiple_of(DAY) => {
                    return Err(QueryError::BrokenDays);
                }
                _ => {}
            }
            let which = BarTrades { unprintable: *unprintable };
            let snapshot = take(stores, &[Kind::Trades], scope, scope.window)?;
            let mut out = Vec::new();
            for (index, instrument) in snapshot.instruments.iter().enumerate() {
                let series = Series::select(&instrument.trades, scope.by, scope.window);
                let passed = snapshot.passed[snapshot.workers[index] as usize];
                let made = bars(&series, rule, which, passed);
                out.extend(made.into_iter().map(|bar| (index, bar)));
            }
            out.sort_by_key(|(index, bar)| (bar.start, *index));
            let limit = check_rows(out.len(), scope, rows_max)?;
            out.truncate(limit);
            Ok(build::bars(snapshot.owners, out, &snapshot.coverage))
        }
        Request::Instruments {} => Ok(instruments(stores)),
        Request::Coverage {} => {
            let snapshot = take(stores, &Kind::ALL, &Scope::default(), Window::default())?;
            Ok(build::losses(&snapshot.coverage))
        }
    }
}

fn range(
    stores: &[SharedStore],
    kind: Kind,
    scope: &Scope,
    rows_max: usize,
) -> Result<Answer, QueryError> {
    let snapshot = take(stores, &[kind], scope, scope.window)?;
    Ok(match kind {
        Kind::Events => {
            let (selected, coverage) = select(snapshot, scope, rows_max, |i| &i.events)?;
            build::events(selected, &coverage)
        }
        Kind::Trades => {
            let (selected, coverage) = select(snapshot, scope, rows_max, |i| &i.trades)?;
            build::trades(selected, &coverage)
        }
        Kind::Quotes => {
            let (selected, coverage) = select(snapshot, scope, rows_max, |i| &i.quotes)?;
            build::quotes(selected, &coverage)
        }
    })
}

fn join(
    stores: &[SharedStore],
    scope: &Scope,
    tolerance: Option<u64>,
    rows_max: usize,
) -> Result<Answer, QueryError> {
    // A quote older than the tolerance before the first trade cannot match.
    let since = scope.window.from.zip(tolerance).map(|(from, age)| from.saturating_sub(age));
    let window = Window { from: since, to: scope.window.to };
    let mut snapshot = take(stores, &[Kind::Trades, Kind::Quotes], scope, window)?;
    let quotes: Vec<Series<QuoteColumns>> = snapshot
        .instruments
        .iter_mut()
        .map(|instrument| {
            let chunks = std::mem::take(&mut instrument.quotes);
            Series::select(&chunks, scope.by, window)
        })
        .collect();
    let (trades, mut coverage) = select(snapshot, scope, rows_max, |i| &i.trades)?;
    let mut joined: Vec<std::vec::IntoIter<Option<RowId>>> = trades
        .series
        .iter()
        .zip(&quotes)
        .map(|(trades, quotes)| asof(trades, quotes, tolerance).into_iter())
        .collect();
    // The answer's order takes the rows of each series in the series' own order.
    let found = trades.order.iter().map(|&(index, _)| joined[index].next().flatten()).collect();
    let joined = Joined { trades, quotes, found };
    keep_losses_that_touch(&joined, scope, since, &mut coverage);
    Ok(build::joined(joined, &coverage))
}

/// Of the losses from `since` on keeps those that may have changed the answer. What was lost before
/// the first trade asked for does so if it may have had a later quote than the one found for a
/// trade, or one where none was found.
fn keep_losses_that_touch(
    joined: &Joined,
    scope: &Scope,
    since: Option<u64>,
    coverage: &mut Coverage,
) {
    let Window { from, to } = scope.window;
    // Nothing sorts before every time: it is an open beginning.
    let mut earliest = from;
    let mut by_symbol: HashMap<&str, Option<u64>> = HashMap::new();
    for (&(index, _), found) in joined.trades.order.iter().zip(&joined.found) {
        let begin = found.map_or(since, |id| Some(joined.quotes[index].time(id)));
        let of_symbol = by_symbol.entry(&joined.trades.owners[index].symbol).or_insert(from);
        *of_symbol = begin.min(*of_symbol);
        earliest = begin.min(earliest);
    }
    for worker in &mut coverage.workers {
        worker.lost.retain(|loss| {
            let begin = match &loss.rows {
                Some(rows) if rows.kind == Kind::Trades.name() => from,
                Some(rows) => by_symbol.get(rows.symbol.as_str()).copied().unwrap_or(from),
                None => earliest,
            };
            loss.touches(scope.by, begin, to)
        });
    }
}

fn select<C: Columns>(
    snapshot: Snapshot,
    scope: &Scope,
    rows_max: usize,
    pick: impl Fn(&InstrumentSnapshot) -> &Vec<Arc<Chunk<C>>>,
) -> Result<(Selected<C>, Coverage), QueryError> {
    let Snapshot { instruments, owners, workers, coverage, .. } = snapshot;
    let series: Vec<Series<C>> = instruments
        .iter()
        .map(|instrument| Series::select(pick(instrument), scope.by, scope.window))
        .collect();
    let limit = check_rows(series.iter().map(Series::len).sum(), scope, rows_max)?;
    let order = merge(&series, &workers, limit);
    Ok((Selected { series, owners, order }, coverage))
}

fn check_rows(rows: usize, scope: &Scope, rows_max: usize) -> Result<usize, QueryError> {
    let limit =
        scope.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    if rows.min(limit) > rows_max {
        return Err(QueryError::TooManyRows { rows: rows.min(limit), limit: rows_max });
    }
    Ok(limit.min(rows))
}

/// Copies `kinds` of what `scope` names, with the losses that touch times of `covered`.
fn take(
    stores: &[SharedStore],
    kinds: &[Kind],
    scope: &Scope,
    covered: Window,
) -> Result<Snapshot, QueryError> {
    let window = (scope.window.from, scope.window.to);
    if let (Some(from), Some(to)) = window
        && to <= from
    {
        return Err(QueryError::EmptyWindow);
    }
    let mut seen: HashMap<&str, bool> =
        scope.instruments.iter().map(|symbol| (symbol.as_str(), false)).collect();
    let wanted = |instrument: &Instrument| {
        scope.instruments.is_empty() || scope.instruments.contains(&instrument.symbol)
    };
    let mut snapshot = Snapshot {
        instruments: Vec::new(),
        owners: Vec::new(),
        workers: Vec::new(),
        passed: Vec::new(),
        coverage: Coverage::default(),
    };
    let mut known = 0;
    for (worker, store) in stores.iter().enumerate() {
        let store = lock(store);
        known += store.instruments().len();
        let tables = store.snapshot(kinds, wanted);
        let latest = store.latest().map(|latest| match scope.by {
            crate::store::Axis::Exchange => latest.0,
            crate::store::Axis::Receive => latest.1,
        });
        snapshot.passed.push(latest);
        if !tables.is_empty() || scope.instruments.is_empty() {
            let coverage = store.coverage(kinds, wanted, scope.by, (covered.from, covered.to));
            snapshot.coverage.workers.push(coverage);
        }
        for instrument in tables {
            if let Some(seen) = seen.get_mut(instrument.symbol.as_str()) {
                *seen = true;
            }
            snapshot.owners.push(Owner {
                symbol: instrument.symbol.clone(),
                worker: store.worker().to_owned(),
                feed: instrument.feed,
            });
            snapshot.workers.push(worker as u32);
            snapshot.instruments.push(instrument);
        }
    }
    match scope.instruments.iter().find(|symbol| seen.get(symbol.as_str()) == Some(&false)) {
        Some(symbol) => Err(QueryError::UnknownInstrument { symbol: symbol.clone(), known }),
        None => Ok(snapshot),
    }
}

fn instruments(stores: &[SharedStore]) -> Answer {
    let mut lines = Vec::new();
    let mut coverage = Coverage::default();
    for store in stores {
        let store = lock(store);
        for instrument in store.instruments() {
            let owner = Owner {
                symbol: instrument.symbol.clone(),
                worker: store.worker().to_owned(),
                feed: instrument.feed,
            };
            let rows = Kind::ALL.map(|kind| instrument.rows(kind) as u64);
            lines.push(InstrumentLine { owner, rows, span: instrument.time_span() });
        }
        let all = |_: &Instrument| true;
        coverage.workers.push(store.coverage(
            &Kind::ALL,
            all,
            crate::store::Axis::Exchange,
            (None, None),
        ));
    }
    lines.sort_by(|a, b| a.owner.symbol.cmp(&b.owner.symbol));
    build::instruments(&lines, &coverage)
}
