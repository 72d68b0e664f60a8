//! From the ring to the columns: one thread per segment path.
//!
//! Best bid and offer are had by replaying the records into a book of the feed, as any reader
//! could: the ring is the only source, so that a replay of the same events gives the same columns.

pub mod book;
mod dbn_file;

pub use dbn_file::{Taken, take_dbn_file};

use crate::reader::{AttachError, EpochEnd, Followed, Follower, Segment, Start};
use crate::store::{Budget, Loss, LossReason, Position, QuoteRow, WorkerState, WorkerStore};
use book::{BookMemory, FeedBook};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wiretape_core::event::{
    Event, GapMsg, MboMsg, NO_INSTRUMENT, SessionMsg, SymbolMsg, action, flags, gap_reason, rtype,
    session_change,
};
use wiretape_core::segment::MAX_FEEDS;

/// A worker's store, shared by the thread that fills it and those that ask.
pub type SharedStore = Arc<Mutex<WorkerStore>>;

/// Locks a store. Its invariants hold between any two appends, so that a thread that panicked
/// with the lock leaves nothing half done that matters.
pub fn lock(store: &SharedStore) -> MutexGuard<'_, WorkerStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How an ingest goes about its work.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// Live orders that the book of each feed holds. Memory is only used as it fills.
    pub book_orders: u32,
    /// Price levels that the book of each feed holds.
    pub book_levels: u32,
}

impl Default for IngestSettings {
    fn default() -> IngestSettings {
        IngestSettings { book_orders: 4 << 20, book_levels: 1 << 20 }
    }
}

/// Follows one path into a store.
#[derive(Debug)]
pub struct Ingest {
    path: PathBuf,
    store: SharedStore,
    settings: IngestSettings,
}

/// Why an epoch's loop ended.
enum Next {
    /// A new segment was attached.
    Epoch,
    /// The host stops.
    Stop,
}

impl Ingest {
    /// An ingest of the segment at `path`, whose worker is called `worker`.
    pub fn new(path: &Path, worker: &str, budget: Arc<Budget>, settings: IngestSettings) -> Ingest {
        let store = Arc::new(Mutex::new(WorkerStore::new(worker, budget)));
        Ingest { path: path.to_owned(), store, settings }
    }

    /// An ingest into a store that is there already.
    pub fn into_store(path: &Path, store: SharedStore, settings: IngestSettings) -> Ingest {
        Ingest { path: path.to_owned(), store, settings }
    }

    /// The store.
    pub fn store(&self) -> SharedStore {
        self.store.clone()
    }

    /// Follows until `stop` is set, or a segment of another version appears at the path.
    pub fn run(&self, stop: &AtomicBool) -> Result<(), AttachError> {
        let mut follower = Follower::waiting(&self.path, Start::Oldest);
        let result = self.follow(&mut follower, stop);
        if result.is_err() {
            lock(&self.store).set_state(WorkerState::Gone);
        }
        result
    }

    fn follow(&self, follower: &mut Follower, stop: &AtomicBool) -> Result<(), AttachError> {
        let (mut epoch, mut first) = loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            match follower.poll()? {
                Followed::Began { epoch, first, .. } => break (epoch, first),
                _ => follower.wait(),
            }
        };
        while let Next::Epoch = self.follow_epoch(follower, stop, &mut epoch, &mut first)? {}
        Ok(())
    }

    /// Takes one epoch in. The books live as long as it does.
    fn follow_epoch(
        &self,
        follower: &mut Follower,
        stop: &AtomicBool,
        epoch: &mut u64,
        first: &mut u64,
    ) -> Result<Next, AttachError> {
        let mut memory = [const { None }; MAX_FEEDS];
        let books = FeedBooks {
            memory: memory.iter_mut(),
            books: Vec::with_capacity(MAX_FEEDS),
            settings: self.settings.clone(),
        };
        let mut store = lock(&self.store);
        let before = store.latest();
        store.begin_epoch(*epoch);
        drop(store);
        let mut taker = Taker { before, ..Taker::new(*epoch, books) };
        if *first > 1 {
            let lost = 1..*first;
            taker.lose(&self.store, follower.segment(), LossReason::BeforeAttach, lost);
        }
        while !stop.load(Ordering::Relaxed) {
            match follower.poll()? {
                Followed::Began { epoch: next, first: at, .. } => {
                    (*epoch, *first) = (next, at);
                    return Ok(Next::Epoch);
                }
                Followed::Events { first, events, .. } => {
                    // The follower lends its batch, the directory is read through the segment:
                    // copying the batch is cheaper than a lookup that is hardly ever needed.
                    let events: Vec<Event> = events.to_vec();
                    taker.take(&self.store, follower.segment(), first, &events);
                }
                Followed::Lost { lapped, .. } => {
                    let lost = lapped.first..lapped.end;
                    taker.lose(&self.store, follower.segment(), LossReason::Lapped, lost);
                }
                Followed::Silent { .. } => lock(&self.store).set_state(WorkerState::Dead),
                Followed::Resumed { .. } => lock(&self.store).set_state(WorkerState::Live),
                Followed::Ended { end, .. } => lock(&self.store).set_state(match end {
                    EpochEnd::Clean => WorkerState::Ended,
                    EpochEnd::Superseded | EpochEnd::Damaged => WorkerState::Dead,
                }),
                Followed::Idle => follower.wait(),
            }
        }
        Ok(Next::Stop)
    }
}

/// First instrument and number of instruments of feed `index`, within what the directory holds.
pub fn feed_range(segment: &Segment, index: usize) -> Option<(u32, u32)> {
    let view = segment.view()?;
    // What a header says is an allegation: the directory's real length bounds it.
    let length = view.symbols().len() as u32;
    let feed = view.feed(index)?.identity();
    let first = feed.first_instrument.min(length);
    let count = if feed.instruments == 0 { length } else { feed.instruments };
    Some((first, count.min(length - first)))
}

/// The books of an epoch's feeds, by index. A feed's books are made when its first event is here,
/// for feeds may be added while capture runs.
struct FeedBooks<'m> {
    memory: std::slice::IterMut<'m, Option<BookMemory>>,
    books: Vec<FeedBook<'m>>,
    settings: IngestSettings,
}

impl<'m> FeedBooks<'m> {
    fn get(&mut self, segment: Option<&Segment>, feed: usize) -> Option<&mut FeedBook<'m>> {
        while feed >= self.books.len() {
            let (first, count) = feed_range(segment?, self.books.len())?;
            self.add(first, count)?;
        }
        self.books.get_mut(feed)
    }

    /// Makes those of the next feed.
    fn add(&mut self, first: u32, count: u32) -> Option<()> {
        let memory = self.memory.next()?.insert(BookMemory::new(count, &self.settings));
        self.books.push(memory.book(first)?);
        Some(())
    }

    /// Those of all feeds that there are or were.
    fn all(&mut self, segment: Option<&Segment>) -> &mut [FeedBook<'m>] {
        self.get(segment, MAX_FEEDS);
        &mut self.books
    }
}

/// Exchange and receive time.
type Times = (u64, u64);

/// Takes the events of an epoch in.
struct Taker<'m> {
    epoch: u64,
    books: FeedBooks<'m>,
    seen_any: bool,
    /// Exchange and receive time of the last event.
    last: Option<Times>,
    /// Latest exchange and receive time of the epochs before.
    before: Option<Times>,
    /// Whether a record of a feed was seen.
    heard: [bool; MAX_FEEDS],
    /// Of each feed, a session that began and the latest times before, until there is a record or a
    /// gap.
    joined: [Option<(SessionMsg, Option<Times>)>; MAX_FEEDS],
}

impl<'m> Taker<'m> {
    fn new(epoch: u64, books: FeedBooks<'m>) -> Taker<'m> {
        Taker {
            epoch,
            books,
            seen_any: false,
            last: None,
            before: None,
            heard: [false; MAX_FEEDS],
            joined: [None; MAX_FEEDS],
        }
    }

    fn take(
        &mut self,
        store: &SharedStore,
        segment: Option<&Segment>,
        first: u64,
        events: &[Event],
    ) {
        let mut store = lock(store);
        store.set_state(WorkerState::Live);
        for (sequence, event) in (first..).zip(events) {
            let header = event.header();
            let mut times = (header.ts_event, event.ts_recv());
            if !std::mem::replace(&mut self.seen_any, true) {
                store.forget_quotes(None, sequence, times, flags::MAYBE_BAD_BOOK);
            }
            match header.rtype {
                rtype::MBO => {
                    if let Some(record) = event.mbo() {
                        self.take_record(&mut store, segment, sequence, &record);
                    }
                }
                rtype::SYMBOL => {
                    if let Some(record) = event.get::<SymbolMsg>() {
                        let text = symbol_text(&record.symbol);
                        if header.instrument_id < MAX_INSTRUMENT_ID && !text.is_empty() {
                            store.name(header.instrument_id, record.feed, &text);
                        }
                    }
                }
                rtype::GAP => {
                    if let Some(record) = event.get::<GapMsg>() {
                        self.take_gap(&mut store, segment, sequence, &record);
                    }
                }
                rtype::SESSION => {
                    if let Some(record) = event.get::<SessionMsg>() {
                        self.take_session(&mut store, segment, sequence, &record);
                        // The exchange said nothing: the time is that of our own clock.
                        if record.change == session_change::REMOVED {
                            times.0 = self.last.map_or(0, |last| last.0);
                        }
                    }
                }
                _ => {}
            }
            store.see(Position { epoch: self.epoch, sequence }, times.0, times.1);
            self.last = Some(times);
        }
    }

    fn take_record(
        &mut self,
        store: &mut WorkerStore,
        segment: Option<&Segment>,
        sequence: u64,
        record: &MboMsg,
    ) {
        let id = record.hd.instrument_id;
        if id == NO_INSTRUMENT || id >= MAX_INSTRUMENT_ID {
            return;
        }
        let index = match store.find_id(id) {
            Some(index) => index,
            None => {
                let (feed, symbol) = look_up(segment, id)
                    .unwrap_or_else(|| (u16::from(record.channel_id), format!("#{id}")));
                store.name(id, feed, &symbol)
            }
        };
        store.push(index, sequence, record);
        let feed = usize::from(record.channel_id);
        if record.flags & flags::SNAPSHOT != 0
            && let Some((session, after)) = self.joined.get_mut(feed).and_then(Option::take)
            && session.next_seq > 1
        {
            self.lose_before_snapshot(store, sequence, &session, after);
        }
        if feed < MAX_FEEDS {
            (self.heard[feed], self.joined[feed]) = (true, None);
        }
        let Some(book) = self.books.get(segment, usize::from(record.channel_id)) else { return };
        book.apply(record);
        let changes_book = !matches!(record.action, action::TRADE | action::FILL);
        if record.flags & flags::LAST == 0 || !(changes_book || book.is_pending(id)) {
            return;
        }
        let (best, bad) = book.best(id);
        let bad = if bad { flags::MAYBE_BAD_BOOK } else { 0 };
        store.push_quote(
            index,
            QuoteRow {
                ts_event: record.hd.ts_event,
                ts_recv: record.ts_recv,
                sequence,
                bid_price: best.bid_px,
                ask_price: best.ask_px,
                bid_size: u64::from(best.bid_sz),
                ask_size: u64::from(best.ask_sz),
                bid_count: best.bid_ct,
                ask_count: best.ask_ct,
                flags: record.flags | bad,
            },
        );
    }

    /// The latest times before what a feed says now: those of another epoch if it said nothing yet.
    fn said_before(&self, feed: usize) -> Option<Times> {
        match self.heard.get(feed) {
            Some(true) => self.last,
            _ => self.before,
        }
    }

    /// Takes note that a snapshot stands for the messages of `session` before it: the book is
    /// right, but what traded, and how the book came to be, is not here.
    fn lose_before_snapshot(
        &mut self,
        store: &mut WorkerStore,
        sequence: u64,
        session: &SessionMsg,
        after: Option<Times>,
    ) {
        store.lose(Loss {
            reason: LossReason::LateJoin,
            epoch: self.epoch,
            first: sequence,
            end: sequence,
            messages: Some((1, session.next_seq)),
            feed: Some((session.feed, symbol_text(&session.session))),
            rows: None,
            exchange: (after.map(|after| after.0), Some(session.hd.ts_event)),
            receive: (after.map(|after| after.1), Some(session.ts_recv)),
            count: 1,
        });
    }

    fn take_gap(
        &mut self,
        store: &mut WorkerStore,
        segment: Option<&Segment>,
        sequence: u64,
        gap: &GapMsg,
    ) {
        if let Some(book) = self.books.get(segment, usize::from(gap.feed)) {
            book.mark_bad();
        }
        // The time of the message before it says nothing of when the last of them was sent.
        let exchange_end = match gap.reason {
            gap_reason::HEARTBEAT => gap.hd.ts_event.max(gap.ts_recv),
            _ => gap.hd.ts_event,
        };
        // What was sent before capture joined is older than what it has said since.
        let feed = usize::from(gap.feed);
        let joined = self.joined.get_mut(feed).and_then(Option::take);
        let after = match gap.reason {
            gap_reason::LATE_JOIN => joined.map_or_else(|| self.said_before(feed), |(_, at)| at),
            _ => self.last,
        };
        store.lose(Loss {
            reason: match gap.reason {
                gap_reason::LATE_JOIN => LossReason::LateJoin,
                _ => LossReason::FeedGap,
            },
            epoch: self.epoch,
            first: sequence,
            end: sequence,
            messages: Some((gap.first_seq, gap.end_seq)),
            feed: Some((gap.feed, symbol_text(&gap.session))),
            rows: None,
            exchange: (after.map(|after| after.0), Some(exchange_end)),
            receive: (after.map(|after| after.1), Some(gap.ts_recv)),
            count: 1,
        });
    }

    fn take_session(
        &mut self,
        store: &mut WorkerStore,
        segment: Option<&Segment>,
        sequence: u64,
        session: &SessionMsg,
    ) {
        let emptied = matches!(
            session.change,
            session_change::RESTART
                | session_change::NEW_SESSION
                | session_change::SNAPSHOT
                | session_change::REMOVED
        );
        let feed = usize::from(session.feed);
        let begun = matches!(
            session.change,
            session_change::START | session_change::RESTART | session_change::NEW_SESSION
        );
        let before = self.said_before(feed);
        if let Some(joined) = self.joined.get_mut(feed) {
            *joined = begun.then_some((*session, before));
        }
        if let Some(book) = self.books.get(segment, feed).filter(|_| emptied) {
            book.clear_all();
            let times = (session.hd.ts_event, session.ts_recv);
            store.forget_quotes(Some(session.feed.into()), sequence, times, 0);
        }
    }

    /// Takes note that ring sequences `lost` were not read.
    fn lose(
        &mut self,
        store: &SharedStore,
        segment: Option<&Segment>,
        reason: LossReason,
        lost: std::ops::Range<u64>,
    ) {
        for book in self.books.all(segment) {
            book.mark_bad();
        }
        lock(store).lose(Loss {
            reason,
            epoch: self.epoch,
            first: lost.start,
            end: lost.end,
            messages: None,
            feed: None,
            rows: None,
            exchange: (self.last.map(|last| last.0), None),
            receive: (self.last.map(|last| last.1), None),
            count: 1,
        });
    }
}

/// Ids beyond this are taken for damage: the table of ids is an array.
const MAX_INSTRUMENT_ID: u32 = 1 << 20;

fn look_up(segment: Option<&Segment>, id: u32) -> Option<(u16, String)> {
    let entry = segment?.view()?.symbols().read(id).ok()??;
    let symbol = entry.symbol();
    (!symbol.is_empty()).then(|| (entry.feed, symbol.to_owned()))
}

/// Padded text of a record: what is printable before the first NUL, without the blanks around it.
/// Venues pad on either side, and a blank inside is a part of the name.
pub fn symbol_text(bytes: &[u8]) -> String {
    let printable = bytes.iter().take_while(|byte| matches!(byte, b' '..=b'~'));
    let text: String = printable.map(|byte| char::from(*byte)).collect();
    text.trim_matches(' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::symbol_text;

    #[test]
    fn padding_is_no_part_of_a_name_and_a_blank_inside_is() {
        for (padded, text) in [
            (&b"BRK B\0\0\0"[..], "BRK B"),
            (b"    AB 123", "AB 123"),
            (b"AAPL    ", "AAPL"),
            (b"A\x07B", "A"),
            (b"A\xFFB", "A"),
            (b"    ", ""),
        ] {
            assert_eq!(symbol_text(padded), text);
        }
    }
}
