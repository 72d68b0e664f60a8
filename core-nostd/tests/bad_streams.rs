//! Streams that no venue should send, against a market kept without any thought of speed: after every
//! message each instrument's book, entry and depth are as they should be, those of the others are
//! untouched, and what could not be used is counted by its cause.

mod itch_worker;

use std::collections::{BTreeMap, HashMap};

use itch_worker::{Memory, OneByOne, SESSION, Size};
use proptest::prelude::*;
use wiretape_core::book::BookError;
use wiretape_core::event::{MboMsg, UNDEF_PRICE, action};
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::ring::broadcast::Reader;
use wiretape_core::segment::{Counter, DepthLevel, ErrorGroup, FeedCounter, FeedGauge, health};

const INSTRUMENTS: u16 = 6;
/// Few, so that both pools are full again and again.
const ORDERS: usize = 14;
const LEVELS: usize = 12;
const SIZE: Size = Size {
    instruments: INSTRUMENTS as u32,
    depths: INSTRUMENTS as usize,
    event_slots: 1 << 10,
    orders: ORDERS as u32,
    levels: LEVELS as u32,
};

#[derive(Clone, Debug)]
struct Message {
    kind: u8,
    locate: u16,
    order: u64,
    new_order: u64,
    side: u8,
    shares: u32,
    price: u32,
    printable: u8,
}

impl Message {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind];
        bytes.extend(self.locate.to_be_bytes());
        bytes.extend([0; 8]);
        let stock = b"TEST    ";
        match self.kind {
            b'A' | b'F' | b'P' => {
                bytes.extend(self.order.to_be_bytes());
                bytes.push(self.side);
                bytes.extend(self.shares.to_be_bytes());
                bytes.extend(stock);
                bytes.extend(self.price.to_be_bytes());
                // Attribution, or match number.
                let behind = match self.kind {
                    b'A' => 0,
                    b'F' => 4,
                    _ => 8,
                };
                bytes.extend(vec![b'M'; behind]);
            }
            b'E' | b'C' => {
                bytes.extend(self.order.to_be_bytes());
                bytes.extend(self.shares.to_be_bytes());
                bytes.extend(1u64.to_be_bytes());
                if self.kind == b'C' {
                    bytes.push(self.printable);
                    bytes.extend(self.price.to_be_bytes());
                }
            }
            b'X' => {
                bytes.extend(self.order.to_be_bytes());
                bytes.extend(self.shares.to_be_bytes());
            }
            b'D' => bytes.extend(self.order.to_be_bytes()),
            b'U' => {
                bytes.extend(self.order.to_be_bytes());
                bytes.extend(self.new_order.to_be_bytes());
                bytes.extend(self.shares.to_be_bytes());
                bytes.extend(self.price.to_be_bytes());
            }
            b'Q' => {
                bytes.extend(u64::from(self.shares).to_be_bytes());
                bytes.extend(stock);
                bytes.extend(self.price.to_be_bytes());
                bytes.extend([0; 9]);
            }
            b'B' => bytes.extend(self.order.to_be_bytes()),
            b'H' => {
                bytes.extend(stock);
                bytes.extend([self.side, 0, 0, 0, 0, 0]);
            }
            _ => {
                bytes.extend(stock);
                bytes.resize(39, 0);
            }
        }
        bytes
    }
}

fn message() -> impl Strategy<Value = Message> {
    let kinds = b"AAAAAAAFEEECCXXDDUUPQBHR".to_vec();
    // A few that meet; sparse ones, of which each is a page of its own; those of no page.
    let reference = || {
        prop_oneof![
            6 => 1u64..30,
            2 => (0u64..30).prop_map(|n| n << 20),
            1 => (0u64..10).prop_map(|n| u64::MAX - (n << 40)),
        ]
    };
    let price = prop_oneof![12 => 10_000u32..10_008, 1 => Just(0), 1 => Just(u32::MAX)];
    let shares = prop_oneof![12 => 1u32..300, 1 => Just(0), 1 => Just(u32::MAX)];
    (
        prop::sample::select(kinds),
        prop_oneof![20 => 0..INSTRUMENTS, 1 => INSTRUMENTS..=u16::MAX],
        reference(),
        reference(),
        prop::sample::select(b"BBBBBBSSSSSS?".to_vec()),
        shares,
        price,
        prop::sample::select(b"YN".to_vec()),
    )
        .prop_map(|(kind, locate, order, new_order, side, shares, price, printable)| Message {
            kind,
            locate,
            order,
            new_order,
            side,
            shares,
            price,
            printable,
        })
}

#[derive(Clone, Debug)]
enum Step {
    Message(Message),
    /// As the order that it names, if there is one, would have it.
    Fitting(Message),
    /// Messages are lost.
    Gap,
    /// Another session begins.
    Session,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => message().prop_map(Step::Message),
        60 => message().prop_map(Step::Fitting),
        1 => Just(Step::Gap),
        1 => Just(Step::Session),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Order {
    instrument: u16,
    bid: bool,
    price: i64,
    shares: u32,
}

/// What is known of an instrument beside its orders.
#[derive(Clone, Default)]
struct Known {
    announced: bool,
    undirected: bool,
    error: bool,
    status: u8,
    volume: u64,
    trades: u64,
    last: Option<(i64, u32)>,
    top: [Option<(i64, u64)>; 2],
    order_flow: i64,
}

type Levels = BTreeMap<i64, (u64, u32)>;

/// All that a venue's messages come to.
#[derive(Default)]
struct Market {
    orders: HashMap<u64, Order>,
    known: HashMap<u16, Known>,
    errors: HashMap<&'static str, u64>,
    no_room: u64,
    maybe_bad: bool,
}

impl Market {
    fn levels(&self, instrument: u16, bid: bool) -> Levels {
        let mut levels = Levels::new();
        for order in self.orders.values() {
            if (order.instrument, order.bid) == (instrument, bid) {
                let level = levels.entry(order.price).or_default();
                *level = (level.0 + u64::from(order.shares), level.1 + 1);
            }
        }
        levels
    }

    fn at(&mut self, instrument: u16) -> &mut Known {
        self.known.entry(instrument).or_default()
    }

    fn fail(&mut self, instrument: u16, cause: &'static str) {
        *self.errors.entry(cause).or_default() += 1;
        self.at(instrument).error = true;
    }

    fn add(&mut self, id: u64, order: Order) -> Result<(), &'static str> {
        let mut levels: Vec<_> =
            self.orders.values().map(|o| (o.instrument, o.bid, o.price)).collect();
        levels.sort_unstable();
        levels.dedup();
        let level = (order.instrument, order.bid, order.price);
        match () {
            () if order.price == 0 => Err("invalid_price"),
            () if order.shares == 0 => Err("zero_size"),
            () if self.orders.contains_key(&id) => Err("duplicate_order"),
            () if levels.len() == LEVELS && !levels.contains(&level) => Err("levels_full"),
            () if self.orders.len() == ORDERS => Err("orders_full"),
            () => {
                self.orders.insert(id, order);
                Ok(())
            }
        }
    }

    fn trade(&mut self, instrument: u16, price: i64, shares: u32) {
        let known = self.at(instrument);
        known.volume += u64::from(shares);
        known.trades += 1;
        known.last = Some((price, shares));
    }

    /// An order's instrument may be another than the message's.
    fn check_instrument(&mut self, named: u16, order: &Order) {
        if order.instrument != named {
            self.fail(named, "wrong_instrument");
            self.at(order.instrument).error = true;
        }
    }

    /// Takes a message.
    fn take(&mut self, m: &Message) {
        let at = m.locate;
        if at >= INSTRUMENTS {
            self.no_room += 1;
            return;
        }
        let price = i64::from(m.price) * 100_000;
        if matches!(m.kind, b'A' | b'F' | b'P' | b'Q' | b'H' | b'R') && !self.at(at).announced {
            self.at(at).announced = true;
            self.at(at).undirected = true;
        }
        let live = self.orders.get(&m.order).copied();
        match (m.kind, live) {
            (b'A' | b'F', _) => {
                let bid = m.side == b'B';
                let order = Order { instrument: at, bid, price, shares: m.shares };
                let added = match m.side {
                    b'B' | b'S' => self.add(m.order, order),
                    _ => Err("invalid_side"),
                };
                if let Err(cause) = added {
                    self.fail(at, cause);
                }
            }
            (b'E' | b'C' | b'X' | b'D' | b'U', None) => {
                self.fail(at, "unknown_order");
                if (m.kind, m.printable) == (b'C', b'Y') && m.shares > 0 {
                    self.trade(at, price, m.shares);
                }
            }
            (b'E' | b'C' | b'X', Some(_)) if m.shares == 0 => self.fail(at, "zero_size"),
            (b'E' | b'C' | b'X', Some(order)) => {
                match order.shares.checked_sub(m.shares) {
                    Some(left) if left > 0 => {
                        self.orders.insert(m.order, Order { shares: left, ..order });
                    }
                    left => {
                        self.orders.remove(&m.order);
                        if left.is_none() {
                            self.fail(at, "overfill");
                        }
                    }
                }
                self.check_instrument(at, &order);
                match (m.kind, m.printable) {
                    (b'E', _) => self.trade(order.instrument, order.price, m.shares),
                    (b'C', b'Y') => self.trade(order.instrument, price, m.shares),
                    _ => {}
                }
            }
            (b'D', Some(order)) => {
                self.orders.remove(&m.order);
                self.check_instrument(at, &order);
            }
            (b'U', Some(order)) => {
                self.orders.remove(&m.order);
                self.check_instrument(at, &order);
                if let Err(cause) =
                    self.add(m.new_order, Order { price, shares: m.shares, ..order })
                {
                    self.fail(order.instrument, cause);
                }
            }
            (b'P' | b'Q', _) if m.shares > 0 => self.trade(at, price, m.shares),
            (b'H', _) => self.at(at).status = m.side,
            (b'R', _) => {
                self.at(at).announced = true;
                self.at(at).undirected = false;
            }
            _ => {}
        }
        for instrument in 0..INSTRUMENTS {
            self.flow(instrument);
        }
    }

    /// Order flow as Cont, Kukanov and Stoikov have it: the step from the best prices before.
    fn flow(&mut self, instrument: u16) {
        let bid = self.levels(instrument, true).last_key_value().map(|(p, l)| (*p, l.0));
        let ask = self.levels(instrument, false).first_key_value().map(|(p, l)| (*p, l.0));
        let known = self.at(instrument);
        let [old_bid, old_ask] = std::mem::replace(&mut known.top, [bid, ask]);
        let size = |side: Option<(i64, u64)>| side.map_or(0, |(_, size)| size.min(u32::MAX.into()));
        let price = |side: Option<(i64, u64)>, none| side.map_or(none, |(price, _)| price);
        let (b1, b0) = (price(bid, i64::MIN), price(old_bid, i64::MIN));
        let (a1, a0) = (price(ask, i64::MAX), price(old_ask, i64::MAX));
        let part = |counts: bool, side| if counts { size(side) as i64 } else { 0 };
        known.order_flow += part(b1 >= b0, bid) - part(b1 <= b0, old_bid);
        known.order_flow += part(a1 >= a0, old_ask) - part(a1 <= a0, ask);
    }

    fn begin_session(&mut self) {
        self.orders.clear();
        self.known.clear();
        self.maybe_bad = false;
    }

    /// Compares all instruments with what readers have.
    fn compare(&self, worker: &OneByOne<'_>, followed: &HashMap<u64, Order>) {
        assert_eq!(followed, &self.orders, "who follows the events has the same orders");
        let feed = worker.view.feed(0).unwrap();
        assert_eq!(feed.session().unwrap().maybe_bad_book, self.maybe_bad);
        for (cause, name) in BookError::NAMES.iter().enumerate() {
            let expected = self.errors.get(name).copied().unwrap_or(0);
            assert_eq!(feed.errors(ErrorGroup::Book, cause), expected, "{name}");
        }
        assert_eq!(worker.view.counters().get(Counter::InstrumentsFull), self.no_room);
        for instrument in 0..INSTRUMENTS {
            let known = self.known.get(&instrument).cloned().unwrap_or_default();
            self.compare_entry(worker, instrument, &known);
            self.compare_depth(worker, instrument, &known);
        }
    }

    fn health(&self, known: &Known) -> u8 {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        bit(known.error, health::BOOK_ERROR) | bit(known.undirected, health::UNDIRECTED)
    }

    fn compare_entry(&self, worker: &OneByOne<'_>, instrument: u16, known: &Known) {
        let Some(entry) = worker.view.market().read(instrument.into()).unwrap() else {
            // Nothing that readers could use was ever known of it.
            let silent = (known.top, known.trades, known.error, known.status);
            return assert_eq!(silent, ([None; 2], 0, false, 0));
        };
        let side = |levels: Option<(&i64, &(u64, u32))>| {
            levels.map_or((UNDEF_PRICE, 0, 0), |(price, (size, count))| {
                (*price, u32::try_from(*size).unwrap_or(u32::MAX), *count)
            })
        };
        let bids = self.levels(instrument, true);
        let asks = self.levels(instrument, false);
        let found = (entry.bid_px, entry.bid_sz, entry.bid_ct);
        assert_eq!(found, side(bids.last_key_value()), "bid of {instrument}");
        let found = (entry.ask_px, entry.ask_sz, entry.ask_ct);
        assert_eq!(found, side(asks.first_key_value()), "offer of {instrument}");
        let (last_px, last_sz) = known.last.unwrap_or((UNDEF_PRICE, 0));
        assert_eq!((entry.last_px, entry.last_sz), (last_px, last_sz));
        assert_eq!((entry.volume, entry.trades), (known.volume, known.trades));
        assert_eq!(entry.status, known.status);
        // The directory alone gives no entry: health is told with the next.
        let told = entry.health & !health::MAYBE_BAD;
        assert_eq!(told & health::BOOK_ERROR, self.health(known) & health::BOOK_ERROR);
    }

    fn compare_depth(&self, worker: &OneByOne<'_>, instrument: u16, known: &Known) {
        let table = worker.view.depth();
        let Some(place) = table.place_of(instrument.into()) else {
            return assert_eq!(known.top, [None; 2], "{instrument} has depth");
        };
        let entry = table.read(place).unwrap().unwrap();
        let row = |(price, (size, orders)): (&i64, &(u64, u32))| DepthLevel {
            price: *price,
            size: u32::try_from(*size).unwrap_or(u32::MAX),
            orders: *orders,
        };
        let ten = |rows: Vec<DepthLevel>| {
            let mut rows: Vec<_> = rows.into_iter().take(10).collect();
            rows.resize(10, DepthLevel::NONE);
            rows
        };
        let bids = ten(self.levels(instrument, true).iter().rev().map(row).collect());
        let asks = ten(self.levels(instrument, false).iter().map(row).collect());
        assert_eq!((&entry.bids[..], &entry.asks[..]), (&bids[..], &asks[..]));
        assert_eq!(entry.health & health::BOOK_ERROR, self.health(known) & health::BOOK_ERROR);
        let f = &entry.features;
        assert_eq!(f.order_flow, known.order_flow, "order flow of {instrument}");
        let sum = |rows: &[DepthLevel]| rows.iter().map(|row| i128::from(row.size)).sum::<i128>();
        for (count, found) in [(1, f.imbalance_1), (5, f.imbalance_5), (10, f.imbalance_10)] {
            let (b, a) = (sum(&bids[..count]), sum(&asks[..count]));
            let expected = if b + a == 0 { 0 } else { (b - a) * 1_000_000 / (b + a) };
            assert_eq!(i128::from(found), expected);
        }
        let (bid, ask) = (bids[0], asks[0]);
        if !bid.is_some() || !ask.is_some() {
            return assert_eq!([f.spread, f.mid, f.microprice], [UNDEF_PRICE; 3]);
        }
        // Locked and crossed books too.
        let (b, a) = (i128::from(bid.price), i128::from(ask.price));
        let (bs, as_) = (i128::from(bid.size), i128::from(ask.size));
        assert_eq!(i128::from(f.spread), a - b);
        assert_eq!(i128::from(f.mid), (a + b).div_euclid(2));
        let exact = (b * as_ + a * bs).div_euclid(bs + as_);
        // Sizes beyond 31 bits are halved.
        let slack =
            if (bid.size | ask.size) >> 31 == 0 { 0 } else { 1 + (a - b).abs() / (1 << 30) };
        assert!((i128::from(f.microprice) - exact).abs() <= slack, "{f:?}, not {exact}");
    }
}

/// Applies what was published, as any reader would.
fn follow(reader: &mut Reader<'_>, orders: &mut HashMap<u64, Order>, maybe_bad: bool) {
    while let Some((_, event)) = reader.next_event().unwrap() {
        let Some(record) = event.get::<MboMsg>() else { continue };
        let marked = record.flags & wiretape_core::event::flags::MAYBE_BAD_BOOK != 0;
        assert_eq!(marked, maybe_bad, "{record:?}");
        let instrument = record.hd.instrument_id as u16;
        match record.action {
            action::ADD => {
                let bid = record.side == b'B';
                let order = Order { instrument, bid, price: record.price, shares: record.size };
                assert_eq!(orders.insert(record.order_id, order), None, "{record:?}");
            }
            action::CANCEL => {
                let order = orders.get_mut(&record.order_id).expect("an order to cancel");
                assert_eq!((order.instrument, order.price), (instrument, record.price));
                order.shares -= record.size;
                if order.shares == 0 {
                    orders.remove(&record.order_id);
                }
            }
            action::CLEAR => orders.retain(|_, order| order.instrument != instrument),
            _ => {}
        }
    }
}

/// The message as the order that it names would have it.
fn fit(mut m: Message, market: &Market) -> Message {
    if let Some(order) = market.orders.get(&m.order) {
        m.locate = order.instrument;
        m.shares = m.shares.clamp(1, order.shares);
        if matches!(m.kind, b'A' | b'F') {
            m.kind = b'D';
        }
    }
    m
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_books_are_those_of_a_plain_market(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut memory = Memory::new(SIZE);
        let mut worker = memory.one_by_one(Some(&DepthChoice::All));
        let mut reader = worker.view.events().reader_from_oldest();
        let (mut market, mut followed) = (Market::default(), HashMap::new());
        let (mut session, mut sessions) = (SESSION, 0);
        for step in steps {
            let message = match step {
                Step::Message(message) => message,
                Step::Fitting(message) => fit(message, &market),
                Step::Gap if worker.next > 1 => {
                    worker.next += 3;
                    market.maybe_bad = true;
                    continue;
                }
                Step::Gap => continue,
                Step::Session => {
                    sessions += 1;
                    session[9] = b'A' + sessions;
                    worker.next = 1;
                    market.begin_session();
                    continue;
                }
            };
            worker.now += 1_000;
            worker.take_in_session(&message.bytes(), session);
            market.take(&message);
            follow(&mut reader, &mut followed, market.maybe_bad);
            market.compare(&worker, &followed);
        }
    }
}

/// As many instruments as there are codes, an order each, and references that are as far apart as 64
/// bits allow.
#[test]
fn every_code_has_a_book_of_its_own() {
    const CODES: u32 = 1 << 16;
    let size = Size { instruments: CODES, orders: CODES, levels: CODES, ..SIZE };
    let mut memory = Memory::new(size);
    let mut worker = memory.one_by_one(None);
    let message = |kind, code: u32, shares| Message {
        kind,
        locate: code as u16,
        order: u64::from(code) * 0x0001_0001_0001_0001,
        new_order: 0,
        side: if code.is_multiple_of(2) { b'B' } else { b'S' },
        shares,
        price: code + 1,
        printable: b'Y',
    };
    for code in 0..CODES {
        worker.take(&message(b'A', code, 100).bytes());
    }
    for code in (0..CODES).rev() {
        worker.take(&message(b'E', code, 40).bytes());
    }
    // There is no room for one more.
    worker.take(&Message { order: 7, price: 9, ..message(b'A', 0, 1) }.bytes());
    let feed = worker.view.feed(0).unwrap();
    assert_eq!(feed.errors(ErrorGroup::Book, BookError::LevelsFull.index()), 1);
    assert_eq!(feed.counter(FeedCounter::BookErrors), 1);
    for code in 0..CODES {
        let entry = worker.view.market().read(code).unwrap().unwrap();
        let price = i64::from(code + 1) * 100_000;
        let (bid, ask) = ((entry.bid_px, entry.bid_sz), (entry.ask_px, entry.ask_sz));
        let (there, none) = ((price, 60), (UNDEF_PRICE, 0));
        let expected = if code.is_multiple_of(2) { (there, none) } else { (none, there) };
        assert_eq!((bid, ask), expected, "{code}");
        assert_eq!((entry.last_px, entry.volume), (price, 40));
        assert_eq!(entry.health & health::BOOK_ERROR != 0, code == 0);
    }
    for code in 0..CODES {
        worker.take(&message(b'D', code, 0).bytes());
    }
    worker.pipeline.publish_usage();
    let left = [FeedGauge::Orders, FeedGauge::Levels].map(|gauge| feed.gauge(gauge));
    assert_eq!(left, [0, 0]);
}
