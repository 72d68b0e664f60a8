//! Real days of ITCH 5.0 of which anything may be wrong, against a book written from the specification
//! alone: messages that come twice, never, out of order, of other orders, with sizes and prices that no
//! venue sends, as other types, cut short; packets that are lost, and sessions that begin anew.

mod itch_worker;
mod real_data;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use itch_worker::{LINES, MIDNIGHT, Memory, PORT, Size};
use wiretape_core::event::{MboMsg, UNDEF_PRICE, action, flags, rtype};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::segment::{FeedCounter, MarketEntry};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::moldudp64::Builder;

const INSTRUMENTS: u16 = 64;

/// Marsaglia's xorshift: the same from the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

fn number(message: &[u8], at: usize, len: usize) -> u64 {
    message[at..at + len].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Lengths of the types that change a book or its trades.
fn length(kind: u8) -> Option<usize> {
    let lengths =
        [(b'A', 36), (b'F', 40), (b'E', 31), (b'C', 36), (b'X', 23), (b'D', 19), (b'U', 35)];
    let trades = [(b'P', 44), (b'Q', 40)];
    lengths.into_iter().chain(trades).find(|(known, _)| *known == kind).map(|(_, length)| length)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    locate: u16,
    side: u8,
    price: u64,
    shares: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trades {
    volume: u64,
    count: u64,
    last: Option<(u64, u64)>,
}

/// A venue's day, as its specification has it. What it does not allow changes nothing.
#[derive(Default)]
struct Model {
    orders: HashMap<u64, Order>,
    /// Shares and orders of each price, by instrument and side.
    levels: BTreeMap<(u16, u8), BTreeMap<u64, (u64, u64)>>,
    trades: BTreeMap<u16, Trades>,
}

impl Model {
    fn apply(&mut self, m: &[u8]) {
        if m.is_empty() || length(m[0]) != Some(m.len()) {
            return;
        }
        let locate = number(m, 1, 2) as u16;
        if locate >= INSTRUMENTS {
            return;
        }
        let reference = number(m, 11, 8);
        match m[0] {
            b'A' | b'F' => {
                let (shares, price) = (number(m, 20, 4), number(m, 32, 4));
                self.add(reference, Order { locate, side: m[19], price, shares });
            }
            b'E' | b'C' => {
                let shares = number(m, 19, 4);
                let order = self.orders.get(&reference).copied().filter(|_| shares > 0);
                let stated = (m[0] == b'C').then(|| number(m, 32, 4));
                let printable = m[0] == b'E' || m[31] == b'Y';
                if let Some(order) = order {
                    self.take_off(reference, shares);
                    if printable {
                        self.trade(order.locate, stated.unwrap_or(order.price), shares);
                    }
                } else if let (Some(price), true) = (stated, printable) {
                    self.trade(locate, price, shares);
                }
            }
            b'X' => self.take_off(reference, number(m, 19, 4)),
            b'D' => self.take_off(reference, u64::MAX),
            b'U' => {
                let Some(old) = self.orders.get(&reference).copied() else { return };
                self.take_off(reference, u64::MAX);
                let (shares, price) = (number(m, 27, 4), number(m, 31, 4));
                self.add(number(m, 19, 8), Order { shares, price, ..old });
            }
            b'P' => self.trade(locate, number(m, 32, 4), number(m, 20, 4)),
            b'Q' => self.trade(locate, number(m, 27, 4), number(m, 11, 8).min(u32::MAX.into())),
            _ => unreachable!("a type that has a length"),
        }
    }

    fn add(&mut self, reference: u64, order: Order) {
        let is_order = matches!(order.side, b'B' | b'S') && order.price > 0 && order.shares > 0;
        if !is_order || self.orders.contains_key(&reference) {
            return;
        }
        let levels = self.levels.entry((order.locate, order.side)).or_default();
        let level = levels.entry(order.price).or_default();
        *level = (level.0 + order.shares, level.1 + 1);
        self.orders.insert(reference, order);
    }

    fn take_off(&mut self, reference: u64, shares: u64) {
        let Some(order) = self.orders.get_mut(&reference) else { return };
        let levels = self.levels.get_mut(&(order.locate, order.side)).unwrap();
        let level = levels.get_mut(&order.price).unwrap();
        let (taken, gone) = (shares.min(order.shares), u64::from(shares >= order.shares));
        *level = (level.0 - taken, level.1 - gone);
        if level.1 == 0 {
            levels.remove(&order.price);
        }
        order.shares -= taken;
        if gone == 1 {
            self.orders.remove(&reference);
        }
    }

    fn trade(&mut self, locate: u16, price: u64, shares: u64) {
        if shares > 0 {
            let trades = self.trades.entry(locate).or_default();
            trades.volume += shares;
            trades.count += 1;
            trades.last = Some((price, shares));
        }
    }

    fn check(&self, locate: u16, market: &MarketEntry) {
        let best = |side, last: bool| {
            let levels = self.levels.get(&(locate, side))?;
            let best = if last { levels.last_key_value() } else { levels.first_key_value() };
            best.map(|(price, level)| (nanos(*price), level.0.min(u32::MAX.into()), level.1))
        };
        let entry = |px, sz: u32, ct: u32| (px, u64::from(sz), u64::from(ct));
        let none = (UNDEF_PRICE, 0, 0);
        let bid = entry(market.bid_px, market.bid_sz, market.bid_ct);
        let ask = entry(market.ask_px, market.ask_sz, market.ask_ct);
        assert_eq!(bid, best(b'B', true).unwrap_or(none), "bid of {locate}");
        assert_eq!(ask, best(b'S', false).unwrap_or(none), "offer of {locate}");
        let trades = self.trades.get(&locate).copied().unwrap_or_default();
        assert_eq!((market.volume, market.trades), (trades.volume, trades.count), "{locate}");
        let last = trades.last.map_or((UNDEF_PRICE, 0), |(price, size)| (nanos(price), size));
        assert_eq!((market.last_px, u64::from(market.last_sz)), last, "last trade of {locate}");
    }
}

fn nanos(price: u64) -> i64 {
    price as i64 * 100_000
}

/// What a reader makes of the records.
#[derive(Default)]
struct Reader {
    orders: HashMap<u64, Order>,
    within_message: bool,
}

impl Reader {
    fn apply(&mut self, record: &MboMsg) {
        let locate = record.hd.instrument_id as u16;
        let (id, size) = (record.order_id, u64::from(record.size));
        self.within_message = record.flags & flags::LAST == 0;
        match record.action {
            action::ADD => {
                let side = if record.side == b'B' { b'B' } else { b'S' };
                let price = record.price as u64 / 100_000;
                let added = Order { locate, side, price, shares: size };
                assert_eq!(self.orders.insert(id, added), None, "an order added twice: {id}");
            }
            action::CANCEL => {
                let order = self.orders.get_mut(&id).expect("an order that is known");
                assert_eq!((order.locate, nanos(order.price)), (locate, record.price));
                order.shares = order.shares.checked_sub(size).expect("not more than there is");
                if order.shares == 0 {
                    self.orders.remove(&id);
                }
            }
            action::CLEAR => self.orders.retain(|_, order| order.locate != locate),
            action::TRADE | action::FILL => {}
            other => panic!("an action that ITCH does not have: {other}"),
        }
    }
}

/// The message with something wrong in it.
fn spoil(message: &mut Vec<u8>, recent: &[u64], random: &mut Random) {
    let sizes = [0, 1, 2, 100, 5_000, u32::MAX, u32::MAX - 1];
    let prices = [0, 1, 100, 5_764_500, 2_000_000_000, u32::MAX - 1, u32::MAX];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = message.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    match random.below(10) {
        0 | 1 if !recent.is_empty() => put(11, &random.pick(recent).to_be_bytes()),
        2 if !recent.is_empty() => put(19, &random.pick(recent).to_be_bytes()),
        3 => put(1, &random.pick(&[0_u16, 13, 42, 63, 64, u16::MAX]).to_be_bytes()),
        4 => put(random.pick(&[19, 20, 27]), &random.pick(&sizes).to_be_bytes()),
        5 => put(random.pick(&[31, 32]), &random.pick(&prices).to_be_bytes()),
        6 => put(19, &[random.pick(b"BSBSX\0")]),
        7 => {
            let kind = random.pick(b"AFECXDUPQ");
            message[0] = kind;
            message.resize(length(kind).unwrap(), b'Y');
        }
        8 => {
            let end = random.below(message.len() + 4);
            message.resize(end, 0);
        }
        _ => {
            let at = random.below(message.len());
            message[at] ^= 1 << random.below(8);
        }
    }
}

/// Messages of the day, some of them spoilt, left out, doubled or exchanged.
fn mutated(day: &[u8], often: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let (mut rest, mut out, mut recent) = (day, Vec::new(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (message, after) = after.split_at(u16::from_be_bytes(*length).into());
        rest = after;
        let mut message = message.to_vec();
        if message.len() >= 19 && b"AF".contains(&message[0]) {
            recent.push(number(&message, 11, 8));
            let from = recent.len().saturating_sub(40);
            recent.drain(..from);
        }
        // Another venue's stock directory begins no day.
        if b"SRHYL".contains(&message[0]) || !random.one_in(often) {
            out.push(message);
            continue;
        }
        match random.below(8) {
            0 => {}
            1 => out.extend([message.clone(), message]),
            2 => {
                let place = out.len().saturating_sub(random.below(4));
                out.insert(place, message);
            }
            _ => {
                spoil(&mut message, &recent, random);
                out.push(message);
            }
        }
    }
    out
}

fn compare(day: &[u8], seed: u64) {
    let size = Size {
        instruments: INSTRUMENTS.into(),
        depths: 0,
        event_slots: 1 << 12,
        orders: 50_000,
        levels: 20_000,
    };
    let mut memory = Memory::new(size);
    let (mut pipeline, view) = memory.worker(Patience::NONE, None);
    let mut events = view.events().reader_from_oldest();
    let random = &mut Random(seed * 2 + 1);
    let often = random.pick(&[3, 10, 100]);
    let messages = mutated(day, often, random);
    let (mut model, mut reader) = (Model::default(), Reader::default());
    let (mut rest, mut number_of_next, mut session) = (&messages[..], 1, 0);
    while !rest.is_empty() {
        if random.one_in(400) {
            session += 1;
            number_of_next = 1;
            model = Model::default();
        }
        let (packet, after) = rest.split_at(rest.len().min(1 + random.below(20)));
        rest = after;
        let first = number_of_next;
        number_of_next += packet.len() as u64;
        // Not the one that begins a session: the next one would be of the old one, come late.
        if first > 1 && random.one_in(200) {
            continue;
        }
        let id = format!("DAY{session:07}").into_bytes().try_into().unwrap();
        let mut buffer = vec![0; 2000];
        let mut builder = Builder::new(&mut buffer, id, first).unwrap();
        let mut touched = BTreeSet::new();
        for message in packet {
            assert!(builder.push(message));
            model.apply(message);
            if let Some(locate) = message.get(1..3) {
                touched.insert(u16::from_be_bytes([locate[0], locate[1]]));
            }
        }
        let mut frame = vec![0; 2100];
        let route = Route::to_group([10, 0, 0, 1], LINES[0], 40_000, PORT);
        let length = route.emit(0, builder.finish(), &mut frame).unwrap();
        pipeline.on_frame(&frame[..length], MIDNIGHT + first);
        while let Some((_, event)) = events.next_event().unwrap() {
            if event.header().rtype == rtype::MBO {
                let record = event.get::<MboMsg>().unwrap();
                touched.insert(record.hd.instrument_id as u16);
                reader.apply(&record);
            }
        }
        assert!(!reader.within_message);
        for locate in touched.into_iter().filter(|locate| *locate < INSTRUMENTS) {
            if let Some(market) = view.market().read(locate.into()).unwrap() {
                model.check(locate, &market);
            }
        }
    }
    assert_eq!(reader.orders, model.orders);
    let feed = view.feed(0).unwrap();
    assert!(feed.counter(FeedCounter::BookErrors) > 0, "something was wrong");
}

/// Seeds to try: one of its own with `WIRETAPE_SEED`, many with `WIRETAPE_SEEDS`.
fn seeds() -> std::ops::Range<u64> {
    let value = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match value("WIRETAPE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + value("WIRETAPE_SEEDS").unwrap_or(12),
    }
}

#[test]
fn a_morning_of_one_stock_with_anything_wrong_has_the_books_of_the_specification() {
    let Some(day) = real_data::read("itch/aapl-20200130-10k.itch") else { return };
    for seed in seeds() {
        println!("seed {seed}");
        // Its locate code is one of the day's thousands.
        let mut day = day.clone();
        let mut at = 0;
        while at + 5 <= day.len() {
            let length = usize::from(u16::from_be_bytes([day[at], day[at + 1]]));
            day[at + 3..at + 5].copy_from_slice(&13_u16.to_be_bytes());
            at += 2 + length;
        }
        compare(&day, seed);
    }
}

#[test]
fn a_day_of_two_stocks_with_anything_wrong_has_the_books_of_the_specification() {
    let Some(day) = real_data::read("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    for seed in seeds() {
        println!("seed {seed}");
        let begin = day.len() / 16;
        let mut end = 0;
        // Whole messages.
        while end < begin {
            end += 2 + usize::from(u16::from_be_bytes([day[end], day[end + 1]]));
        }
        compare(&day[..end], seed);
    }
}
