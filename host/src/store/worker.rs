//! All instruments of one capture worker, over its epochs.

use super::budget::Budget;
use super::chunk::{Appended, Axis, CHUNK_ROWS, TIME_MAX};
use super::columns::{EventRow, QuoteRow, TradeRow};
use super::coverage::{Loss, LossReason, LostRows, WorkerCoverage, WorkerState};
use super::instrument::{Instrument, InstrumentSnapshot, Kind};
use super::position::Position;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use wiretape_core::event::{MboMsg, UNDEF_PRICE, flags};

/// Losses that are kept one by one; beyond that, old ones of a reason are merged.
const MAX_LOSSES: usize = 4_096;
/// No instrument.
const NONE: u32 = u32::MAX;

/// The store of one worker.
#[derive(Debug)]
pub struct WorkerStore {
    worker: String,
    state: WorkerState,
    epoch: u64,
    instruments: Vec<Instrument>,
    /// Instrument by feed and symbol, over all epochs.
    by_symbol: HashMap<(u16, String), u32>,
    /// Instrument by id of this epoch.
    by_id: Vec<u32>,
    /// Sealed chunks in the order of sealing: the next to be dropped is in front.
    sealed: VecDeque<(u32, Kind)>,
    losses: Vec<Loss>,
    from: Option<Position>,
    through: Option<Position>,
    /// Latest exchange and receive time.
    latest: Option<(u64, u64)>,
    budget: Arc<Budget>,
    /// Bytes of the budget that are this store's.
    used: usize,
    chunk_rows: usize,
}

impl WorkerStore {
    /// An empty store of `worker`.
    pub fn new(worker: &str, budget: Arc<Budget>) -> WorkerStore {
        budget.join();
        WorkerStore {
            worker: worker.to_owned(),
            state: WorkerState::Live,
            epoch: 0,
            instruments: Vec::new(),
            by_symbol: HashMap::new(),
            by_id: Vec::new(),
            sealed: VecDeque::new(),
            losses: Vec::new(),
            from: None,
            through: None,
            latest: None,
            budget,
            used: 0,
            chunk_rows: CHUNK_ROWS,
        }
    }

    /// With chunks of another size, for tests.
    pub fn with_chunk_rows(mut self, rows: usize) -> WorkerStore {
        self.chunk_rows = rows;
        self
    }

    /// The worker's name.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The instruments, in the order in which they appeared.
    pub fn instruments(&self) -> &[Instrument] {
        &self.instruments
    }

    /// Starts an epoch: instrument ids mean something else from here on.
    pub fn begin_epoch(&mut self, epoch: u64) {
        if let Some(through) = self.through.filter(|through| through.epoch != epoch) {
            let next = Position { sequence: through.sequence + 1, ..through };
            self.lose_all_behind(LossReason::CaptureDown, next, Some(epoch));
        }
        self.epoch = epoch;
        self.state = WorkerState::Live;
        self.by_id.clear();
    }

    /// Takes note that the file cannot be read beyond what stands before record `next`.
    pub fn cut_off(&mut self, next: u64) {
        self.set_state(WorkerState::Ended);
        let next = Position { epoch: self.epoch, sequence: next };
        self.lose_all_behind(LossReason::FileCut, next, None);
    }

    /// Takes note of a loss of nobody knows how much from `next` on, that was over by `received`.
    fn lose_all_behind(&mut self, reason: LossReason, next: Position, received: Option<u64>) {
        self.lose(Loss {
            reason,
            epoch: next.epoch,
            first: next.sequence,
            end: next.sequence,
            messages: None,
            feed: None,
            rows: None,
            exchange: (self.latest.map(|latest| latest.0), None),
            receive: (self.latest.map(|latest| latest.1), received),
            count: 1,
        });
    }

    /// How the worker stands.
    pub fn set_state(&mut self, state: WorkerState) {
        self.state = state;
    }

    /// The instrument of an id of this epoch, if it is known.
    pub fn find_id(&self, id: u32) -> Option<u32> {
        self.by_id.get(id as usize).copied().filter(|index| *index != NONE)
    }

    /// Says which symbol an id of this epoch stands for, and returns the instrument. Ids are
    /// indices into the segment's directory, so the table of them is as long as that at most.
    pub fn name(&mut self, id: u32, feed: u16, symbol: &str) -> u32 {
        let key = (feed, symbol.to_owned());
        let index = match self.by_symbol.get(&key) {
            Some(index) => *index,
            None => {
                let index = self.instruments.len() as u32;
                self.instruments.push(Instrument::new(symbol.to_owned(), feed, self.chunk_rows));
                self.by_symbol.insert(key, index);
                index
            }
        };
        if self.by_id.len() <= id as usize {
            self.by_id.resize(id as usize + 1, NONE);
        }
        self.by_id[id as usize] = index;
        index
    }

    /// Takes note that everything through `position` has been taken in.
    pub fn see(&mut self, position: Position, ts_event: u64, ts_recv: u64) {
        self.from.get_or_insert(position);
        self.through = Some(position);
        let known = |time| if time > TIME_MAX { 0 } else { time };
        let latest = self.latest.get_or_insert((0, 0));
        *latest = (latest.0.max(known(ts_event)), latest.1.max(known(ts_recv)));
    }

    /// The last event taken in.
    pub fn through(&self) -> Option<Position> {
        self.through
    }

    /// Latest exchange and receive time.
    pub fn latest(&self) -> Option<(u64, u64)> {
        self.latest
    }

    /// Appends a market-by-order record of an instrument, and the trade if it is one.
    pub fn push(&mut self, index: u32, sequence: u64, record: &MboMsg) {
        let epoch = self.epoch;
        let Some(instrument) = self.instruments.get_mut(index as usize) else { return };
        let appended = instrument.push_event(epoch, EventRow::new(sequence, record));
        let trade = (record.action == wiretape_core::event::action::TRADE)
            .then(|| instrument.push_trade(epoch, TradeRow::new(sequence, record)));
        self.account(index, Kind::Events, appended);
        if let Some(appended) = trade {
            self.account(index, Kind::Trades, appended);
        }
    }

    /// Appends the best bid and offer of an instrument, unless it is what it was.
    pub fn push_quote(&mut self, index: u32, row: QuoteRow) {
        let epoch = self.epoch;
        let Some(instrument) = self.instruments.get_mut(index as usize) else { return };
        let content = |row: &QuoteRow| QuoteRow {
            ts_event: 0,
            ts_recv: 0,
            sequence: 0,
            flags: row.flags & flags::MAYBE_BAD_BOOK,
            ..*row
        };
        let same = match &instrument.last_quote {
            Some(last) => content(last) == content(&row),
            None => row.is_empty(),
        };
        if !same {
            let appended = instrument.push_quote(epoch, row);
            self.account(index, Kind::Quotes, appended);
        }
    }

    /// Empties the best bid and offer of every instrument (of a feed) that has one: at the first
    /// event of an epoch, in which all books begin empty, and where a session starts over.
    pub fn forget_quotes(
        &mut self,
        feed: Option<u16>,
        sequence: u64,
        (ts_event, ts_recv): (u64, u64),
        flags: u8,
    ) {
        let row = QuoteRow {
            ts_event,
            ts_recv,
            sequence,
            bid_price: UNDEF_PRICE,
            ask_price: UNDEF_PRICE,
            bid_size: 0,
            ask_size: 0,
            bid_count: 0,
            ask_count: 0,
            flags,
        };
        for index in 0..self.instruments.len() {
            let instrument = &self.instruments[index];
            let concerned = feed.is_none_or(|feed| feed == instrument.feed);
            if concerned && instrument.last_quote.is_some_and(|last| !last.is_empty()) {
                self.push_quote(index as u32, row);
            }
        }
    }

    /// Takes note of a loss.
    pub fn lose(&mut self, loss: Loss) {
        self.losses.push(loss);
        if self.losses.len() > MAX_LOSSES {
            merge_oldest(&mut self.losses);
        }
    }

    fn account(&mut self, index: u32, kind: Kind, appended: Appended) {
        self.sealed.extend(std::iter::repeat_n((index, kind), appended.sealed));
        if appended.bytes != 0 {
            self.charge(appended.bytes);
            self.keep_to_budget();
        }
    }

    fn charge(&mut self, bytes: isize) {
        self.budget.add(bytes);
        self.used = self.used.saturating_add_signed(bytes);
    }

    /// Drops the oldest chunks while the stores together hold more than the budget allows, and this
    /// one more than its share.
    pub fn keep_to_budget(&mut self) {
        while self.budget.is_exceeded() && self.used > self.budget.share() && self.drop_oldest() {}
    }

    /// Drops the oldest chunk; `false` if there is none. Where no chunk is full, the open one with
    /// the oldest row is sealed and dropped.
    fn drop_oldest(&mut self) -> bool {
        if self.sealed.is_empty() {
            let tables = self.instruments.iter().enumerate().flat_map(|(index, instrument)| {
                Kind::ALL.map(|kind| (instrument.first(kind), index, kind))
            });
            let held = tables.filter_map(|(first, index, kind)| Some((first?, index, kind)));
            let Some((_, index, kind)) = held.min_by_key(|(first, ..)| *first) else {
                return false;
            };
            let appended = self.instruments[index].seal(kind);
            self.charge(appended.bytes);
            self.sealed.push_back((index as u32, kind));
        }
        let Some((index, kind)) = self.sealed.pop_front() else { return false };
        let freed = self.instruments[index as usize].drop_oldest(kind);
        self.charge(-(freed.unwrap_or(0) as isize));
        freed.is_some()
    }

    /// Copies of the tables of `kinds` of all instruments that `wanted` names.
    pub fn snapshot(
        &self,
        kinds: &[Kind],
        wanted: impl Fn(&Instrument) -> bool,
    ) -> Vec<InstrumentSnapshot> {
        let wanted = self.instruments.iter().filter(|instrument| wanted(instrument));
        wanted.map(|instrument| instrument.snapshot(kinds)).collect()
    }

    /// What an answer from `kinds` of the instruments that `wanted` names covers, at times
    /// `[from, to)` of `axis`.
    pub fn coverage(
        &self,
        kinds: &[Kind],
        wanted: impl Fn(&Instrument) -> bool,
        axis: Axis,
        (from, to): (Option<u64>, Option<u64>),
    ) -> WorkerCoverage {
        let mut lost: Vec<Loss> = Vec::new();
        let mut feeds: BTreeSet<u16> = BTreeSet::new();
        for instrument in self.instruments.iter().filter(|instrument| wanted(instrument)) {
            feeds.insert(instrument.feed);
            lost.extend(kinds.iter().filter_map(|kind| budget_loss(instrument, *kind)));
        }
        lost.extend(self.losses.iter().cloned());
        lost.retain(|loss| {
            let concerns = loss.feed.as_ref().is_none_or(|feed| feeds.contains(&feed.0.into()));
            concerns && loss.touches(axis, from, to)
        });
        WorkerCoverage {
            worker: self.worker.clone(),
            feeds: feeds.len(),
            state: self.state,
            from: self.from,
            through: self.through,
            ts_event: self.latest.map(|latest| latest.0).filter(|time| *time > 0),
            ts_recv: self.latest.map(|latest| latest.1).filter(|time| *time > 0),
            lost,
        }
    }
}

fn budget_loss(instrument: &Instrument, kind: Kind) -> Option<Loss> {
    let dropped = instrument.dropped(kind)?;
    let rows = LostRows {
        symbol: instrument.symbol.clone(),
        kind: kind.name().to_owned(),
        rows: dropped.rows,
    };
    Some(Loss {
        reason: LossReason::MemoryBudget,
        epoch: dropped.last.epoch,
        first: if dropped.first.epoch == dropped.last.epoch { dropped.first.sequence } else { 1 },
        end: dropped.last.sequence + 1,
        messages: None,
        feed: None,
        rows: Some(rows),
        exchange: (None, Some(dropped.ts_event_max)),
        receive: (None, Some(dropped.ts_recv_max)),
        count: 1,
    })
}

/// Merges the two oldest losses of the reason that occurs first more than once.
fn merge_oldest(losses: &mut Vec<Loss>) {
    let like = |a: &Loss, b: &Loss| a.reason == b.reason && a.feed == b.feed && a.epoch == b.epoch;
    let pair = losses.iter().enumerate().find_map(|(first, loss)| {
        let rest = losses.iter().skip(first + 1);
        Some((first, first + 1 + rest.clone().position(|other| like(loss, other))?))
    });
    // All different, which takes thousands of epochs: the oldest is forgotten last resort.
    let (first, second) = pair.unwrap_or((0, 1));
    let later = losses.remove(second);
    let Some(earlier) = losses.get_mut(first) else { return };
    earlier.end = earlier.end.max(later.end);
    earlier.messages = match (earlier.messages, later.messages) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    };
    let max = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.max(b));
    earlier.exchange.1 = max(earlier.exchange.1, later.exchange.1);
    earlier.receive.1 = max(earlier.receive.1, later.receive.1);
    earlier.count += later.count;
}

impl Drop for WorkerStore {
    fn drop(&mut self) {
        while self.drop_oldest() {}
        self.budget.leave();
    }
}
