//! The host as a whole: a real day in shared memory, questions over the socket, answers checked
//! against plain references and against what others published of that day.

mod day;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, TimestampNanosecondType, UInt32Type, UInt64Type};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wiretape_core::event::{
    Event, GapMsg, NO_INSTRUMENT, SessionMsg, SymbolMsg, gap_reason, session_change,
};
use wiretape_core::event::{MboMsg, RecordHeader, Side, action, flags};
use wiretape_core::segment::{FeedIdentity, State};
use wiretape_host::ingest::{IngestSettings, lock};
use wiretape_host::query::{BarRule, Request, Scope, Window};
use wiretape_host::reader::testing::TestSegment;
use wiretape_host::reader::{Followed, Follower, Start};
use wiretape_host::result::coverage_of;
use wiretape_host::serve::{Claim, ClientError, Hosted, Limits, Segments, Service, ask};
use wiretape_host::store::{
    Axis, Budget, Columns, Coverage, EventColumns, Kind, LossReason, Position,
};

const NANOS_PER_ITCH: i64 = 100_000;

/// A host on a thread, stopped when dropped.
struct Running {
    hosted: Arc<Hosted>,
    stop: Arc<AtomicBool>,
    socket: std::path::PathBuf,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(directory: &Path, memory: usize, limits: Limits) -> Running {
        let socket = directory.join("host.sock");
        let claim = Claim::new(&socket).unwrap();
        let settings = IngestSettings { book_orders: 50_000, book_levels: 20_000 };
        let segments = Segments::Directory(directory.to_owned());
        let budget = Arc::new(Budget::new(memory));
        let notices = Arc::new(|text: &str| println!("{text}"));
        let hosted = Arc::new(Hosted::new(segments, budget, settings, notices));
        let stop = Arc::new(AtomicBool::new(false));
        let service = Service::new(hosted.clone(), limits);
        let (looking, stopping) = (hosted.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                looking.look().unwrap();
                while let Ok((stream, _)) = claim.listener().accept() {
                    stream.set_nonblocking(false).unwrap();
                    service.admit(stream);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            looking.stop();
        });
        Running { hosted, stop, socket, thread: Some(thread) }
    }

    fn wait_for(&self, position: Position) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.hosted.stores().iter().all(|store| lock(store).through() != Some(position)) {
            assert!(Instant::now() < deadline, "the host never came to {position}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ask(&self, request: &Request) -> (RecordBatch, Coverage) {
        let answer = ask(&self.socket, request).unwrap();
        let (schema, coverage) = (answer.schema(), coverage_of(&answer.schema()).unwrap());
        let mut batches: Vec<RecordBatch> = answer.map(Result::unwrap).collect();
        // Whoever asks for a whole day in one batch gets it by asking for few enough columns.
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let batch = match batches.len() {
            1 => batches.remove(0),
            _ => arrow_select::concat::concat_batches(&schema, &batches).unwrap(),
        };
        assert_eq!(batch.num_rows(), rows);
        (batch, coverage)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

const LIMITS: Limits = Limits { clients: 8, rows: 10_000_000 };

fn u64s(batch: &RecordBatch, name: &str) -> Vec<Option<u64>> {
    batch.column_by_name(name).unwrap().as_primitive::<UInt64Type>().iter().collect()
}

fn prices(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    let column = batch.column_by_name(name).unwrap().as_primitive::<Decimal128Type>();
    column.iter().map(|price| price.map(|price| price as i64)).collect()
}

fn times(batch: &RecordBatch, name: &str) -> Vec<Option<u64>> {
    let column = batch.column_by_name(name).unwrap().as_primitive::<TimestampNanosecondType>();
    column.iter().map(|time| time.map(|time| time as u64)).collect()
}

/// Every record of the segment, by a reader of its own.
fn records(path: &Path) -> Vec<(u64, Event)> {
    let mut follower = Follower::new(path, Start::At(1)).unwrap();
    let mut out = Vec::new();
    loop {
        match follower.poll().unwrap() {
            Followed::Events { first, events, .. } => {
                out.extend((first..).zip(events.iter().copied()));
            }
            Followed::Lost { lapped, .. } => panic!("{lapped}"),
            Followed::Ended { .. } => return out,
            _ => follower.wait(),
        }
    }
}

fn of(symbol: &str) -> Scope {
    Scope { instruments: vec![symbol.into()], ..Scope::default() }
}

struct Trade {
    sequence: u64,
    ts_event: u64,
    ts_recv: u64,
    price: i64,
    size: u32,
}

fn trades_of(records: &[(u64, Event)], instrument: u32) -> Vec<Trade> {
    let trade = |(sequence, event): &(u64, Event)| {
        let r = event.mbo()?;
        (r.hd.instrument_id == instrument && r.action == action::TRADE).then_some(Trade {
            sequence: *sequence,
            ts_event: r.hd.ts_event,
            ts_recv: r.ts_recv,
            price: r.price,
            size: r.size,
        })
    };
    records.iter().filter_map(trade).collect()
}

#[test]
fn the_nasdaq_day_answers_as_plain_references_and_the_published_book_say() {
    let Some(day) = day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nasdaq.seg");
    let segment = day::play(&day, &path, 5, 1 << 20, &[]);
    let head = segment.writer().ring().head();
    let records = records(&path);
    assert_eq!(records.len() as u64, head);

    let host = Running::start(directory.path(), 1 << 30, LIMITS);
    host.wait_for(Position { epoch: 5, sequence: head });
    for (symbol, instrument) in [("AAPL", 13), ("AMZN", 42)] {
        let trades = trades_of(&records, instrument);
        check_quotes(&host, &records, symbol);
        check_join(&host, symbol, &trades);
        check_bars(&host, symbol, &trades);
    }
    let events = Request::Range { kind: Kind::Events, scope: Scope::default() };
    let (batch, coverage) = host.ask(&events);
    let published = records.iter().filter(|(_, event)| event.mbo().is_some()).count();
    assert_eq!(batch.num_rows(), published);
    let sequences = u64s(&batch, "sequence");
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(coverage.is_complete());
    let covered = &coverage.workers[0];
    assert_eq!(covered.through, Some(Position { epoch: 5, sequence: head }));
    assert_eq!((covered.worker.as_str(), covered.from.unwrap().sequence), ("nasdaq", 1));
}

/// The best bid and offer that the academic reconstructor published after each message.
fn check_quotes(host: &Running, records: &[(u64, Event)], symbol: &str) {
    let Some(depth) = day::shared("itch/nasdaq-20120621-aapl-amzn.depth.csv.gz") else { return };
    let quotes = Request::Range { kind: Kind::Quotes, scope: of(symbol) };
    let (batch, coverage) = host.ask(&quotes);
    assert!(coverage.is_complete());
    let sequences = u64s(&batch, "sequence");
    let columns = ["bid_price", "ask_price"].map(|name| prices(&batch, name));
    let sizes = ["bid_size", "ask_size"].map(|name| u64s(&batch, name));
    // The message of each quote; several records of a message share one.
    let message = |ring: u64| u64::from(records[ring as usize - 1].1.mbo().unwrap().sequence);
    let messages: Vec<u64> = sequences.iter().map(|sequence| message(sequence.unwrap())).collect();
    let mut compared = 0;
    for line in String::from_utf8(depth).unwrap().lines().skip(1) {
        let mut fields = line.split(',');
        let ordinal: u64 = fields.next().unwrap().parse().unwrap();
        if fields.next() != Some(symbol) {
            continue;
        }
        let [ask, ask_size, bid, bid_size] =
            std::array::from_fn(|_| fields.next().unwrap().parse::<i64>().unwrap());
        let at = messages.partition_point(|message| *message <= ordinal) - 1;
        let side = |price: i64| (price.abs() != 9_999_999_999).then_some(price * NANOS_PER_ITCH);
        assert_eq!((columns[0][at], columns[1][at]), (side(bid), side(ask)), "after {ordinal}");
        if side(bid).is_some() {
            assert_eq!(sizes[0][at], Some(bid_size as u64), "after {ordinal}");
        }
        if side(ask).is_some() {
            assert_eq!(sizes[1][at], Some(ask_size as u64), "after {ordinal}");
        }
        compared += 1;
    }
    assert!(compared > 100_000, "{compared}");
}

/// As-of join against a walk through trades and quotes in the order of publication, which on this
/// day is the order of either clock.
fn check_join(host: &Running, symbol: &str, trades: &[Trade]) {
    let (quotes, _) = host.ask(&Request::Range { kind: Kind::Quotes, scope: of(symbol) });
    let quoted = u64s(&quotes, "sequence");
    let quote_times = [times(&quotes, "ts_event"), times(&quotes, "ts_recv")];
    let bids = prices(&quotes, "bid_price");
    for (by, axis) in [(Axis::Exchange, 0), (Axis::Receive, 1)] {
        for tolerance in [None, Some(5_000_000), Some(0)] {
            let scope = Scope { by, ..of(symbol) };
            let (joined, _) = host.ask(&Request::Asof { scope, tolerance });
            assert_eq!(joined.num_rows(), trades.len());
            let sequences = u64s(&joined, "sequence");
            let found = u64s(&joined, "quote_sequence");
            let found_bids = prices(&joined, "bid_price");
            let mut quote = None;
            let mut next = 0;
            for (row, trade) in trades.iter().enumerate() {
                assert_eq!(sequences[row], Some(trade.sequence));
                while quoted.get(next).is_some_and(|at| at.unwrap() < trade.sequence) {
                    quote = Some(next);
                    next += 1;
                }
                let time = [trade.ts_event, trade.ts_recv][axis];
                let close = |at: &usize| {
                    let age = time - quote_times[axis][*at].unwrap();
                    tolerance.is_none_or(|tolerance| age <= tolerance)
                };
                let expected = quote.filter(close);
                assert_eq!(found[row], expected.and_then(|at| quoted[at]), "trade {row}");
                assert_eq!(found_bids[row], expected.and_then(|at| bids[at]), "trade {row}");
            }
        }
    }
}

fn check_bars(host: &Running, symbol: &str, trades: &[Trade]) {
    let minute = 60_000_000_000;
    let from = day::MIDNIGHT + 10 * 60 * minute;
    let window = Window { from: Some(from), to: Some(from + 90 * minute) };
    let within = |trade: &&Trade| window.contains(trade.ts_event);
    let rules = [
        BarRule::Time { width: minute, origin: day::MIDNIGHT },
        BarRule::Day { width: minute, zone: "America/New_York".to_owned().try_into().unwrap() },
        BarRule::Volume(10_000),
        BarRule::Count(50),
    ];
    for rule in rules {
        let scope = Scope { window, ..of(symbol) };
        let (bars, _) = host.ask(&Request::Bars { scope, rule: rule.clone(), unprintable: false });
        // Cut the trades into groups, and sum each up afterwards.
        let mut groups: Vec<Vec<&Trade>> = Vec::new();
        for trade in trades.iter().filter(within) {
            let full = groups.last().is_none_or(|group| match rule {
                BarRule::Time { width, .. } | BarRule::Day { width, .. } => {
                    trade.ts_event / width != group[0].ts_event / width
                }
                BarRule::Volume(limit) => {
                    group.iter().map(|trade| u64::from(trade.size)).sum::<u64>() >= limit
                }
                BarRule::Count(limit) => group.len() as u64 >= limit,
            });
            if full {
                groups.push(Vec::new());
            }
            groups.last_mut().unwrap().push(trade);
        }
        assert!(groups.len() > 20 && bars.num_rows() == groups.len(), "{rule:?}");
        let column = |name: &str| prices(&bars, name);
        let [open, high, low, close, vwap] = ["open", "high", "low", "close", "vwap"].map(column);
        let (volumes, counts) = (u64s(&bars, "volume"), u64s(&bars, "trades"));
        let starts = times(&bars, "start");
        for (row, group) in groups.iter().enumerate() {
            let price = group.iter().map(|trade| trade.price);
            assert_eq!(open[row], Some(group[0].price));
            assert_eq!(high[row], price.clone().max());
            assert_eq!(low[row], price.clone().min());
            assert_eq!(close[row], price.clone().next_back());
            assert_eq!(counts[row], Some(group.len() as u64));
            let volume: u64 = group.iter().map(|trade| u64::from(trade.size)).sum();
            assert_eq!(volumes[row], Some(volume));
            let sum: i128 = group.iter().map(|t| i128::from(t.price) * i128::from(t.size)).sum();
            let nearest = (2 * sum + i128::from(volume)) / (2 * i128::from(volume));
            assert_eq!(vwap[row], Some(nearest as i64));
            let start = match rule {
                BarRule::Time { width, .. } | BarRule::Day { width, .. } => {
                    group[0].ts_event / width * width
                }
                _ => group[0].ts_event,
            };
            assert_eq!(starts[row], Some(start));
        }
    }
}

#[test]
fn a_gap_in_the_feed_shows_in_the_coverage_and_in_the_quotes() {
    let Some(day) = day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let cut = day.len() / 20;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nasdaq.seg");
    // Packet 300 is lost: messages 3,601 through 3,612.
    let segment = day::play(&day[..cut], &path, 5, 1 << 16, &[300]);
    let head = segment.writer().ring().head();
    let host = Running::start(directory.path(), 1 << 30, LIMITS);
    host.wait_for(Position { epoch: 5, sequence: head });
    let (quotes, coverage) = host.ask(&Request::Range { kind: Kind::Quotes, scope: of("AAPL") });
    let lost = &coverage.workers[0].lost;
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].reason, lost[0].messages), (LossReason::FeedGap, Some((3601, 3613))));
    assert_eq!(lost[0].feed, Some((0, "TEST000001".into())));
    let sequences = u64s(&quotes, "sequence");
    let column = quotes.column_by_name("flags").unwrap();
    let bits = column.as_primitive::<arrow_array::types::UInt8Type>();
    for (sequence, bits) in sequences.iter().zip(bits.iter()) {
        let doubted = bits.unwrap() & flags::MAYBE_BAD_BOOK != 0;
        assert_eq!(doubted, sequence.unwrap() > lost[0].first);
    }
    // An answer from before the gap knows of no loss.
    let before = Window { from: None, to: lost[0].exchange.0 };
    let scope = Scope { window: before, ..of("AAPL") };
    let (_, coverage) = host.ask(&Request::Range { kind: Kind::Trades, scope });
    assert!(coverage.is_complete());
}

fn symbol(id: u32, name: &str, time: u64) -> Event {
    let mut text = [0; 16];
    text[..name.len()].copy_from_slice(name.as_bytes());
    Event::new(&SymbolMsg {
        hd: RecordHeader::new::<SymbolMsg>(2, id, time),
        ts_recv: time,
        symbol: text,
        round_lot: 100,
        feed: 0,
        reserved: 0,
    })
}

fn order(id: u32, order_id: u64, time: u64, action: u8, price: i64) -> Event {
    Event::new(&MboMsg {
        hd: RecordHeader::new::<MboMsg>(2, id, time),
        order_id,
        price,
        size: 10,
        flags: flags::LAST,
        channel_id: 0,
        action,
        side: Side::Bid as u8,
        ts_recv: time + 1,
        ts_in_delta: 0,
        sequence: order_id as u32,
    })
}

/// Says that feed `index` is there, with 32 instruments.
fn add_feed(segment: &TestSegment, index: usize) {
    let identity = FeedIdentity {
        name: ["one", "two"][index].try_into().unwrap(),
        first_instrument: index as u32 * 32,
        instruments: 32,
        ..FeedIdentity::default()
    };
    segment.writer().feed(index).unwrap().set_identity(&identity);
}

/// `event` as one of feed `feed`.
fn of_feed(feed: u8, event: Event) -> Event {
    if let Some(record) = event.mbo() {
        return Event::new(&MboMsg { channel_id: feed, ..record });
    }
    Event::new(&SymbolMsg { feed: feed.into(), ..event.get::<SymbolMsg>().unwrap() })
}

/// That feed `feed` was removed, when capture's own clock showed `time`.
fn removal(feed: u8, time: u64) -> Event {
    Event::new(&SessionMsg {
        hd: RecordHeader::new::<SessionMsg>(2, NO_INSTRUMENT, time),
        ts_recv: time,
        next_seq: 3,
        previous_next_seq: 3,
        session: *b"TEST000001",
        feed,
        change: session_change::REMOVED,
        reserved: 0,
    })
}

#[test]
fn a_feed_that_is_added_is_answered_for_and_one_that_is_removed_has_no_quotes_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let host = Running::start(directory.path(), 1 << 30, LIMITS);
    let segment = TestSegment::create(&path, 100, 64);
    add_feed(&segment, 0);
    let mut events = segment.writer().events();
    events.publish(&symbol(3, "ABC", 900));
    events.publish(&order(3, 1, 1_000, action::ADD, 50));
    events.commit();
    host.wait_for(Position { epoch: 100, sequence: 2 });

    add_feed(&segment, 1);
    // Order 1 of the other feed is another order.
    events.publish(&of_feed(1, symbol(40, "XYZ", 1_900)));
    events.publish(&of_feed(1, order(40, 1, 2_000, action::ADD, 70)));
    events.publish(&order(3, 2, 3_000, action::ADD, 60));
    events.publish(&of_feed(1, order(40, 2, 4_000, action::ADD, 80)));
    events.publish(&removal(0, 5_000));
    events.publish(&of_feed(1, order(40, 2, 6_000, action::CANCEL, 80)));
    events.commit();
    host.wait_for(Position { epoch: 100, sequence: 8 });
    let quotes = |symbol| {
        let range = Request::Range { kind: Kind::Quotes, scope: of(symbol) };
        let (quotes, coverage) = host.ask(&range);
        assert!(coverage.is_complete());
        prices(&quotes, "bid_price")
    };
    assert_eq!(quotes("ABC"), [Some(50), Some(60), None]);
    assert_eq!(quotes("XYZ"), [Some(70), Some(80), Some(70)]);

    // A removal is no word of the exchange's: its time is not that through which answers go.
    let far = 1_000_000;
    events.publish(&removal(1, far));
    events.commit();
    host.wait_for(Position { epoch: 100, sequence: 9 });
    let (_, coverage) = host.ask(&Request::Range { kind: Kind::Quotes, scope: of("XYZ") });
    let [worker] = &coverage.workers[..] else { panic!("{coverage:?}") };
    assert_eq!((worker.ts_event, worker.ts_recv), (Some(6_000), Some(far)));
}

#[test]
fn a_loss_that_a_heartbeat_revealed_touches_the_time_until_the_heartbeat_came() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let host = Running::start(directory.path(), 1 << 30, LIMITS);
    let segment = TestSegment::create(&path, 100, 64);
    add_feed(&segment, 0);
    let mut events = segment.writer().events();
    events.publish(&symbol(3, "ABC", 900));
    events.publish(&order(3, 1, 1_000, action::ADD, 50));
    events.publish(&Event::new(&GapMsg {
        hd: RecordHeader::new::<GapMsg>(2, NO_INSTRUMENT, 1_000),
        ts_recv: 5_000,
        first_seq: 2,
        end_seq: 4,
        session: *b"TEST000001",
        feed: 0,
        reason: gap_reason::HEARTBEAT,
        reserved: 0,
    }));
    events.publish(&order(3, 4, 9_000, action::ADD, 60));
    events.commit();
    host.wait_for(Position { epoch: 100, sequence: 4 });
    let lost = |from, to| {
        let window = Window { from: Some(from), to: Some(to) };
        let scope = Scope { window, ..of("ABC") };
        let (_, coverage) = host.ask(&Request::Range { kind: Kind::Events, scope });
        coverage.workers.iter().map(|worker| worker.lost.len()).sum::<usize>()
    };
    assert_eq!([lost(900, 1_000), lost(3_000, 4_000), lost(6_000, 9_500)], [0, 1, 0]);
}

#[test]
fn a_capture_that_was_killed_and_started_again_gives_two_epochs_and_says_what_lies_between() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let host = Running::start(directory.path(), 1 << 30, LIMITS);
    let first = TestSegment::create(&path, 100, 64);
    add_feed(&first, 0);
    let mut events = first.writer().events();
    events.publish(&symbol(3, "ABC", 900));
    events.publish(&order(3, 1, 1_000, action::ADD, 50));
    events.commit();
    host.wait_for(Position { epoch: 100, sequence: 2 });
    // Another id for the same symbol, as a new run may choose; no word from the first run.
    let second = TestSegment::create(&path, 5_000, 64);
    add_feed(&second, 0);
    let mut events = second.writer().events();
    events.publish(&symbol(9, "ABC", 8_000));
    events.publish(&order(9, 1, 9_000, action::TRADE, 60));
    events.publish(&order(9, 7, 9_500, action::ADD, 70));
    events.commit();
    host.wait_for(Position { epoch: 5_000, sequence: 3 });

    let (joined, coverage) = host.ask(&Request::Asof { scope: of("ABC"), tolerance: None });
    assert_eq!(joined.num_rows(), 1);
    assert_eq!(prices(&joined, "bid_price"), [None], "the first run's quote is not carried over");
    let lost = &coverage.workers[0].lost;
    assert_eq!((lost.len(), lost[0].reason), (1, LossReason::CaptureDown));
    assert_eq!((lost[0].epoch, lost[0].first), (100, 3));
    let (quotes, _) = host.ask(&Request::Range { kind: Kind::Quotes, scope: of("ABC") });
    assert_eq!(prices(&quotes, "bid_price"), [Some(50), None, Some(70)]);
    let epochs = u64s(&quotes, "epoch");
    assert_eq!(epochs, [Some(100), Some(5_000), Some(5_000)]);
    assert!(quotes.column_by_name("bid_count").unwrap().as_primitive::<UInt32Type>().value(0) == 1);
}

#[test]
fn a_budget_drops_the_oldest_rows_and_the_answer_says_which() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let segment = TestSegment::create(&path, 1, 1 << 17);
    let mut events = segment.writer().events();
    events.publish(&symbol(3, "ABC", 900));
    let count = 100_000u64;
    for n in 1..=count {
        events.publish(&order(3, n, 1_000 + n, action::TRADE, 50));
    }
    events.commit();
    segment.writer().header().set_state(State::Ended);
    let memory = 4 << 20;
    let host = Running::start(directory.path(), memory, LIMITS);
    host.wait_for(Position { epoch: 1, sequence: count + 1 });
    assert!(host.hosted.budget().used() <= memory);
    let (trades, coverage) = host.ask(&Request::Range { kind: Kind::Trades, scope: of("ABC") });
    let held = trades.num_rows() as u64;
    let sequences = u64s(&trades, "sequence");
    assert_eq!(sequences[0], Some(count + 2 - held), "what is left is the latest, without a hole");
    assert_eq!(sequences[held as usize - 1], Some(count + 1));
    let lost = &coverage.workers[0].lost[0];
    assert_eq!(lost.reason, LossReason::MemoryBudget);
    assert_eq!(
        lost.rows.as_ref().map(|rows| (rows.kind.as_str(), rows.rows)),
        Some(("trades", count - held))
    );
    assert_eq!(lost.end, count + 2 - held);
    // Past the dropped rows, nothing is missing.
    let window = Window { from: Some(1_000 + count - 10), to: None };
    let scope = Scope { window, ..of("ABC") };
    let (_, coverage) = host.ask(&Request::Range { kind: Kind::Trades, scope });
    assert!(coverage.is_complete());
    // The numbers of rows held are no whole day's.
    let (_, coverage) = host.ask(&Request::Instruments {});
    assert!(coverage.workers[0].lost.iter().any(|lost| lost.reason == LossReason::MemoryBudget));
}

#[test]
fn a_worker_that_is_silent_does_not_keep_a_later_one_out_of_the_budget() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, count) = (4 << 20, 100_000u64);
    let host = Running::start(directory.path(), memory, LIMITS);
    for (epoch, name) in [(1, "early"), (2, "late")] {
        let path = directory.path().join(format!("{name}.seg"));
        let segment = TestSegment::create(&path, epoch, 1 << 17);
        let mut events = segment.writer().events();
        events.publish(&symbol(3, name, 900));
        for n in 1..=count {
            events.publish(&order(3, n, 1_000 + n, action::TRADE, 50));
        }
        events.commit();
        segment.writer().header().set_state(State::Ended);
        host.wait_for(Position { epoch, sequence: count + 1 });
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while host.hosted.budget().used() > memory {
        assert!(Instant::now() < deadline, "the budget is exceeded for good");
        std::thread::sleep(Duration::from_millis(2));
    }
    let held = ["early", "late"].map(|name| {
        let (events, coverage) = host.ask(&Request::Range { kind: Kind::Events, scope: of(name) });
        assert!(!coverage.is_complete());
        events.num_rows() as u64
    });
    let alone = memory as u64 / 2 / EventColumns::ROW_BYTES as u64 / 4;
    assert!(held.iter().all(|held| *held >= alone), "{held:?} rows of {alone}");
}

#[test]
fn what_was_sent_before_capture_joined_is_missing_from_the_time_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let host = Running::start(directory.path(), 1 << 30, LIMITS);
    let lost = |from, to| {
        let window = Window { from: Some(from), to: Some(to) };
        let scope = Scope { window, ..of("ABC") };
        let (_, coverage) = host.ask(&Request::Range { kind: Kind::Events, scope });
        let lost = coverage.workers.iter().flat_map(|worker| &worker.lost);
        lost.filter(|lost| lost.reason == LossReason::LateJoin).count()
    };
    for (epoch, time) in [(100, 5_000), (9_000, 9_500)] {
        let segment = TestSegment::create(&path, epoch, 64);
        add_feed(&segment, 0);
        let mut events = segment.writer().events();
        events.publish(&symbol(3, "ABC", time));
        events.publish(&Event::new(&GapMsg {
            hd: RecordHeader::new::<GapMsg>(2, NO_INSTRUMENT, time),
            ts_recv: time,
            first_seq: 1,
            end_seq: 40,
            session: *b"TEST000001",
            feed: 0,
            reason: gap_reason::LATE_JOIN,
            reserved: 0,
        }));
        events.publish(&order(3, 1, time + 100, action::ADD, 50));
        events.publish(&order(3, 2, time + 1_000, action::ADD, 51));
        events.commit();
        host.wait_for(Position { epoch, sequence: 4 });
        match epoch {
            100 => assert_eq!([lost(1_000, 4_000), lost(5_001, 6_000)], [1, 0]),
            _ => assert_eq!([lost(5_001, 6_000), lost(7_000, 8_000)], [0, 1], "between the runs"),
        }
    }
}

#[test]
fn what_a_snapshot_stands_for_is_missing_from_the_time_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let host = Running::start(directory.path(), 1 << 30, LIMITS);
    let segment = TestSegment::create(&path, 100, 64);
    add_feed(&segment, 0);
    let mut events = segment.writer().events();
    events.publish(&Event::new(&SessionMsg {
        hd: RecordHeader::new::<SessionMsg>(2, NO_INSTRUMENT, 5_000),
        ts_recv: 5_000,
        next_seq: 40,
        previous_next_seq: 0,
        session: *b"TEST000001",
        feed: 0,
        change: session_change::START,
        reserved: 0,
    }));
    events.publish(&symbol(3, "ABC", 5_000));
    let event = order(3, 1, 5_000, action::ADD, 50);
    let add = event.mbo().unwrap();
    for order_id in [1, 2] {
        let flags = add.flags | flags::SNAPSHOT;
        events.publish(&Event::new(&MboMsg { order_id, flags, ..add }));
    }
    events.publish(&order(3, 3, 6_000, action::ADD, 51));
    events.commit();
    host.wait_for(Position { epoch: 100, sequence: 5 });
    let lost = |from, to| {
        let window = Window { from: Some(from), to: Some(to) };
        let scope = Scope { window, ..of("ABC") };
        let (_, coverage) = host.ask(&Request::Range { kind: Kind::Events, scope });
        let lost = coverage.workers.into_iter().flat_map(|worker| worker.lost);
        lost.map(|lost| (lost.reason, lost.messages)).collect::<Vec<_>>()
    };
    assert_eq!(lost(1_000, 4_000), [(LossReason::LateJoin, Some((1, 40)))]);
    assert_eq!(lost(5_001, 9_000), []);

    // Another session, and what went before of it.
    events.publish(&Event::new(&SessionMsg {
        hd: RecordHeader::new::<SessionMsg>(2, NO_INSTRUMENT, 9_000),
        ts_recv: 9_000,
        next_seq: 7,
        previous_next_seq: 41,
        session: *b"TEST000002",
        feed: 0,
        change: session_change::NEW_SESSION,
        reserved: 0,
    }));
    events.publish(&Event::new(&GapMsg {
        hd: RecordHeader::new::<GapMsg>(2, NO_INSTRUMENT, 9_000),
        ts_recv: 9_000,
        first_seq: 1,
        end_seq: 7,
        session: *b"TEST000002",
        feed: 0,
        reason: gap_reason::LATE_JOIN,
        reserved: 0,
    }));
    events.publish(&order(3, 7, 9_000, action::ADD, 51));
    events.commit();
    host.wait_for(Position { epoch: 100, sequence: 8 });
    assert_eq!(lost(7_000, 8_000), [(LossReason::LateJoin, Some((1, 7)))]);
    assert_eq!(lost(5_001, 5_900), []);
}

#[test]
fn a_join_says_what_was_lost_between_its_first_trade_and_an_older_quote() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let segment = TestSegment::create(&path, 1, 64);
    add_feed(&segment, 0);
    let mut events = segment.writer().events();
    events.publish(&symbol(3, "ABC", 900));
    events.publish(&order(3, 1, 1_000, action::ADD, 50));
    let time = 2_000;
    events.publish(&Event::new(&GapMsg {
        hd: RecordHeader::new::<GapMsg>(2, NO_INSTRUMENT, time),
        ts_recv: time + 1,
        first_seq: 2,
        end_seq: 5,
        session: *b"TEST000001",
        feed: 0,
        reason: gap_reason::SEQUENCE_JUMP,
        reserved: 0,
    }));
    events.publish(&order(3, 2, 3_000, action::TRADE, 60));
    events.publish(&order(3, 3, 4_000, action::ADD, 70));
    events.publish(&order(3, 4, 5_000, action::TRADE, 60));
    events.commit();
    let host = Running::start(directory.path(), 1 << 30, LIMITS);
    host.wait_for(Position { epoch: 1, sequence: 6 });
    let join = |from, tolerance| {
        let window = Window { from: Some(from), to: None };
        let scope = Scope { window, ..of("ABC") };
        let (joined, coverage) = host.ask(&Request::Asof { scope, tolerance });
        (prices(&joined, "bid_price"), coverage.is_complete())
    };
    assert_eq!(join(2_500, None), (vec![Some(50), Some(70)], false), "the quote may be another");
    assert_eq!(join(2_500, Some(1_500)), (vec![None, Some(70)], false), "there may be one");
    assert_eq!(join(2_500, Some(400)), (vec![None, None], true), "too old in any case");
    assert_eq!(join(4_500, None), (vec![Some(70)], true), "a later quote is here");
}

#[test]
fn clients_that_misbehave_keep_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let segment = TestSegment::create(&path, 1, 1 << 18);
    let mut events = segment.writer().events();
    events.publish(&symbol(3, "ABC", 900));
    for n in 1..200_000 {
        events.publish(&order(3, n, 1_000 + n, action::TRADE, 50));
    }
    events.commit();
    let host = Running::start(directory.path(), 1 << 30, Limits { clients: 4, rows: 150_000 });
    host.wait_for(Position { epoch: 1, sequence: 200_000 });

    // One that asks and never reads.
    let mut slow = UnixStream::connect(&host.socket).unwrap();
    slow.write_all(b"{\"query\":\"range\",\"kind\":\"events\",\"limit\":150000}\n").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    events.publish(&order(3, 1, 9_000, action::TRADE, 50));
    events.commit();
    host.wait_for(Position { epoch: 1, sequence: 200_001 });
    let (bars, _) = host.ask(&Request::Bars {
        scope: of("ABC"),
        rule: BarRule::Count(1_000),
        unprintable: false,
    });
    assert_eq!(bars.num_rows(), 200);

    let refused = |request: &Request| match ask(&host.socket, request) {
        Err(ClientError::Refused(text)) => text,
        other => panic!("{:?}", other.map(|_| "an answer")),
    };
    let all = Request::Range { kind: Kind::Trades, scope: Scope::default() };
    assert!(refused(&all).contains("--rows-max"));
    let unknown = Request::Range { kind: Kind::Trades, scope: of("XYZ") };
    assert!(refused(&unknown).contains("no instrument 'XYZ'"));
    let mut noise = UnixStream::connect(&host.socket).unwrap();
    noise.write_all(b"what?\n").unwrap();
    let mut said = [0; 256];
    let read = noise.read(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said[..read]).contains("not understood"));
    // With idle ones beside the slow and the noisy one all places are taken: one more is turned
    // away, until one leaves.
    let idle: Vec<UnixStream> =
        (0..2).map(|_| UnixStream::connect(&host.socket).unwrap()).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(&host.socket, &Request::Instruments {}).is_ok() {
        assert!(Instant::now() < deadline);
    }
    assert!(refused(&Request::Instruments {}).contains("--clients-max"));
    drop(idle);
    drop(noise);
    while ask(&host.socket, &Request::Instruments {}).is_err() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}
