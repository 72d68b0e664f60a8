//! The tables of one instrument.

use super::chunk::{Appended, Axis, Chunk, Dropped, Table};
use super::columns::{EventColumns, EventRow, QuoteColumns, QuoteRow, TradeColumns, TradeRow};
use super::position::Position;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The kinds of rows kept of an instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Market-by-order records.
    Events,
    /// Trades.
    #[default]
    Trades,
    /// Best bid and offer.
    Quotes,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Events, Kind::Trades, Kind::Quotes];

    /// The kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Events => "events",
            Kind::Trades => "trades",
            Kind::Quotes => "quotes",
        }
    }
}

/// What is kept of an instrument.
#[derive(Debug)]
pub struct Instrument {
    /// The symbol, or `#id` while none was announced.
    pub symbol: String,
    /// The worker's feed index.
    pub feed: u16,
    pub(super) events: Table<EventColumns>,
    pub(super) trades: Table<TradeColumns>,
    pub(super) quotes: Table<QuoteColumns>,
    pub(super) last_quote: Option<QuoteRow>,
}

/// A copy of an instrument's tables for a query.
#[derive(Clone, Debug)]
pub struct InstrumentSnapshot {
    /// The symbol.
    pub symbol: String,
    /// The worker's feed index.
    pub feed: u16,
    /// Market-by-order records, if asked for.
    pub events: Vec<Arc<Chunk<EventColumns>>>,
    /// Trades, if asked for.
    pub trades: Vec<Arc<Chunk<TradeColumns>>>,
    /// Best bid and offer, if asked for.
    pub quotes: Vec<Arc<Chunk<QuoteColumns>>>,
}

impl Instrument {
    pub(super) fn new(symbol: String, feed: u16, chunk_rows: usize) -> Instrument {
        Instrument {
            symbol,
            feed,
            events: Table::new(chunk_rows),
            trades: Table::new(chunk_rows),
            quotes: Table::new(chunk_rows),
            last_quote: None,
        }
    }

    pub(super) fn push_event(&mut self, epoch: u64, row: EventRow) -> Appended {
        self.events.append(epoch, row)
    }

    pub(super) fn push_trade(&mut self, epoch: u64, row: TradeRow) -> Appended {
        self.trades.append(epoch, row)
    }

    pub(super) fn push_quote(&mut self, epoch: u64, row: QuoteRow) -> Appended {
        self.last_quote = Some(row);
        self.quotes.append(epoch, row)
    }

    pub(super) fn seal(&mut self, kind: Kind) -> Appended {
        match kind {
            Kind::Events => self.events.seal(),
            Kind::Trades => self.trades.seal(),
            Kind::Quotes => self.quotes.seal(),
        }
    }

    pub(super) fn drop_oldest(&mut self, kind: Kind) -> Option<usize> {
        match kind {
            Kind::Events => self.events.drop_oldest(),
            Kind::Trades => self.trades.drop_oldest(),
            Kind::Quotes => self.quotes.drop_oldest(),
        }
    }

    pub(super) fn first(&self, kind: Kind) -> Option<Position> {
        match kind {
            Kind::Events => self.events.first(),
            Kind::Trades => self.trades.first(),
            Kind::Quotes => self.quotes.first(),
        }
    }

    /// What the memory budget took of a kind.
    pub fn dropped(&self, kind: Kind) -> Option<Dropped> {
        match kind {
            Kind::Events => self.events.dropped(),
            Kind::Trades => self.trades.dropped(),
            Kind::Quotes => self.quotes.dropped(),
        }
    }

    /// Rows held of a kind.
    pub fn rows(&self, kind: Kind) -> usize {
        match kind {
            Kind::Events => self.events.len(),
            Kind::Trades => self.trades.len(),
            Kind::Quotes => self.quotes.len(),
        }
    }

    /// Earliest and latest exchange time of the events held.
    pub fn time_span(&self) -> Option<(u64, u64)> {
        self.events.time_span(Axis::Exchange)
    }

    /// The tables of `kinds`, as they stand.
    pub fn snapshot(&self, kinds: &[Kind]) -> InstrumentSnapshot {
        let wants = |kind| kinds.contains(&kind);
        InstrumentSnapshot {
            symbol: self.symbol.clone(),
            feed: self.feed,
            events: if wants(Kind::Events) { self.events.snapshot() } else { Vec::new() },
            trades: if wants(Kind::Trades) { self.trades.snapshot() } else { Vec::new() },
            quotes: if wants(Kind::Quotes) { self.quotes.snapshot() } else { Vec::new() },
        }
    }
}
