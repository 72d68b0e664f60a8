//! Depth and features in the segment against a book kept without any thought of speed, after every
//! message of invented and of real flow.

mod itch_worker;
mod real_data;

use std::collections::{BTreeMap, HashMap};

use itch_worker::{MIDNIGHT, Memory, OneByOne, Size};
use proptest::prelude::*;
use wiretape_core::event::{NO_INSTRUMENT, UNDEF_PRICE};
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::segment::{DepthEntry, DepthLevel, FeedCounter, FeedGauge, health};
use wiretape_core::wire::binaryfile::BinaryFile;

/// A worker with one feed of which `choice` has depth in `places` places.
fn with_worker(choice: &DepthChoice, places: usize, test: impl FnOnce(OneByOne<'_>)) {
    let size = Size {
        instruments: 64,
        depths: places,
        event_slots: 1 << 10,
        orders: 50_000,
        levels: 20_000,
    };
    test(Memory::new(size).one_by_one(Some(choice)));
}

fn depth_of(worker: &OneByOne<'_>, instrument: u32) -> Option<DepthEntry> {
    let table = worker.view.depth();
    table.read(table.place_of(instrument)?).unwrap()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

type Levels = BTreeMap<i64, (u64, u32)>;

/// An instrument as a patient person would keep it.
#[derive(Default)]
struct Naive {
    bids: Levels,
    asks: Levels,
    trades: Vec<u64>,
    top: [Option<(i64, u64)>; 2],
    order_flow: i64,
}

/// All instruments of a feed.
#[derive(Default)]
struct Feed {
    /// Instrument, whether it is a bid, price, shares.
    orders: HashMap<u64, (u32, bool, i64, u64)>,
    instruments: HashMap<u32, Naive>,
}

impl Feed {
    fn change(&mut self, id: u64, order: Option<(u32, bool, i64, u64)>) {
        let before = match order {
            Some(order) => self.orders.insert(id, order),
            None => self.orders.remove(&id),
        };
        for (order, added) in [(before, false), (order, true)] {
            let Some((instrument, bid, price, shares)) = order else { continue };
            let naive = self.instruments.entry(instrument).or_default();
            let side = if bid { &mut naive.bids } else { &mut naive.asks };
            let level = side.entry(price).or_default();
            *level = match added {
                true => (level.0 + shares, level.1 + 1),
                false => (level.0 - shares, level.1 - 1),
            };
            if *level == (0, 0) {
                side.remove(&price);
            }
        }
    }

    /// Takes a message that was received at `now`; returns the instrument whose book or trades it
    /// touched.
    fn take(&mut self, m: &[u8], now: u64) -> Option<u32> {
        let field = |at: usize, len: usize| number(&m[at..at + len]);
        let (locate, id) = (field(1, 2) as u32, |m: &[u8]| number(&m[11..19]));
        let touched = match m[0] {
            b'A' | b'F' => {
                let price = field(32, 4) as i64 * 100_000;
                self.change(id(m), Some((locate, m[19] == b'B', price, field(20, 4))));
                locate
            }
            b'E' | b'C' | b'X' => {
                let order = *self.orders.get(&id(m))?;
                let left = order.3.saturating_sub(field(19, 4));
                self.change(id(m), (left > 0).then_some((order.0, order.1, order.2, left)));
                if m[0] == b'E' || m[0] == b'C' && m[31] == b'Y' {
                    self.instruments.entry(order.0).or_default().trades.push(now);
                }
                order.0
            }
            b'D' => {
                let order = *self.orders.get(&id(m))?;
                self.change(id(m), None);
                order.0
            }
            b'U' => {
                let order = *self.orders.get(&id(m))?;
                self.change(id(m), None);
                let price = field(31, 4) as i64 * 100_000;
                self.change(field(19, 8), Some((order.0, order.1, price, field(27, 4))));
                order.0
            }
            b'P' => {
                self.instruments.entry(locate).or_default().trades.push(now);
                locate
            }
            b'Q' if field(11, 8) > 0 => {
                self.instruments.entry(locate).or_default().trades.push(now);
                locate
            }
            _ => return None,
        };
        self.instruments.entry(touched).or_default().flow();
        Some(touched)
    }
}

impl Naive {
    /// Order flow as the paper has it: e = bids added at or above the old best bid, less those
    /// that were there at or below the new one, and the reverse for offers.
    fn flow(&mut self) {
        let bid = self.bids.last_key_value().map(|(price, level)| (*price, level.0));
        let ask = self.asks.first_key_value().map(|(price, level)| (*price, level.0));
        let price = |side: Option<(i64, u64)>, none| side.map_or(none, |(price, _)| price);
        let size = |side: Option<(i64, u64)>| side.map_or(0, |(_, size)| size as i64);
        let [old_bid, old_ask] = self.top;
        let (b1, b0) = (price(bid, i64::MIN), price(old_bid, i64::MIN));
        let (a1, a0) = (price(ask, i64::MAX), price(old_ask, i64::MAX));
        self.order_flow += if b1 >= b0 { size(bid) } else { 0 };
        self.order_flow -= if b1 <= b0 { size(old_bid) } else { 0 };
        self.order_flow -= if a1 <= a0 { size(ask) } else { 0 };
        self.order_flow += if a1 >= a0 { size(old_ask) } else { 0 };
        self.top = [bid, ask];
    }

    fn ten<'a>(levels: impl Iterator<Item = (&'a i64, &'a (u64, u32))>) -> Vec<DepthLevel> {
        let row = |(price, level): (&i64, &(u64, u32))| DepthLevel {
            price: *price,
            size: level.0 as u32,
            orders: level.1,
        };
        let mut rows: Vec<_> = levels.map(row).take(10).collect();
        rows.resize(10, DepthLevel::NONE);
        rows
    }

    fn compare(&self, entry: &DepthEntry, now: u64) {
        assert_eq!(entry.bids[..], Naive::ten(self.bids.iter().rev()));
        assert_eq!(entry.asks[..], Naive::ten(self.asks.iter()));
        let f = &entry.features;
        match (self.top, f.spread) {
            ([Some((b, bs)), Some((a, as_))], spread) => {
                let (b, a) = (i128::from(b), i128::from(a));
                let (bs, as_) = (i128::from(bs), i128::from(as_));
                assert_eq!(i128::from(spread), a - b);
                assert_eq!(i128::from(f.mid), (a + b).div_euclid(2));
                assert_eq!(i128::from(f.microprice), (b * as_ + a * bs).div_euclid(bs + as_));
            }
            (_, spread) => {
                assert_eq!([spread, f.mid, f.microprice], [UNDEF_PRICE; 3]);
            }
        }
        let sum = |levels: &[DepthLevel]| levels.iter().map(|l| i64::from(l.size)).sum::<i64>();
        for (count, found) in [(1, f.imbalance_1), (5, f.imbalance_5), (10, f.imbalance_10)] {
            let (b, a) = (sum(&entry.bids[..count]), sum(&entry.asks[..count]));
            let expected = if b + a == 0 { 0 } else { (b - a) * 1_000_000 / (b + a) };
            assert_eq!(i64::from(found), expected);
        }
        assert_eq!(f.order_flow, self.order_flow);
        let half_life = (1u64 << 33) as f64;
        let weights = self.trades.iter().map(|at| (-((now - at) as f64) / half_life).exp2());
        let rate = weights.sum::<f64>() * 2f64.ln() / (half_life / 1e9);
        let found = f.trade_intensity as f64 / 1e6;
        assert!((found - rate).abs() <= rate * 0.01 + 0.01, "{found} instead of {rate}");
    }
}

fn head(kind: u8) -> Vec<u8> {
    let mut message = vec![kind, 0, 1];
    message.extend([0; 8]);
    message
}

fn add(order: u64, bid: bool, shares: u32, price: u32) -> Vec<u8> {
    let mut message = head(b'A');
    message.extend(order.to_be_bytes());
    message.push(if bid { b'B' } else { b'S' });
    message.extend(shares.to_be_bytes());
    message.extend(*b"TEST    ");
    message.extend(price.to_be_bytes());
    message
}

/// A message that takes `shares` off an order (`E`, `X`), removes it (`D`) or replaces it (`U`).
fn after(kind: u8, order: u64, shares: u32, price: u32) -> Vec<u8> {
    let mut message = head(kind);
    message.extend(order.to_be_bytes());
    match kind {
        b'E' => {
            message.extend(shares.to_be_bytes());
            message.extend(1u64.to_be_bytes());
        }
        b'X' => message.extend(shares.to_be_bytes()),
        b'U' => {
            message.extend((order + 1_000).to_be_bytes());
            message.extend(shares.to_be_bytes());
            message.extend(price.to_be_bytes());
        }
        _ => {}
    }
    message
}

fn symbols(names: &[&[u8; 8]]) -> DepthChoice {
    DepthChoice::Symbols(names.iter().map(|name| **name).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn after_every_message_of_any_flow_all_is_as_a_plain_book_has_it(
        steps in prop::collection::vec(
            (0u8..8, 1u64..40, any::<bool>(), prop_oneof![1u32..500, 1u32..40_000_000], 1u32..30,
             prop_oneof![0u64..2_000_000, 0u64..20_000_000_000]),
            1..300,
        ),
    ) {
        with_worker(&symbols(&[b"TEST    "]), 1, |mut worker| {
            let mut feed = Feed::default();
            for (kind, order, bid, shares, price, later) in steps {
                worker.now += later;
                let (shares, price) = (shares.max(1), 10_000 + price);
                let live = feed.orders.get(&order).copied();
                let message = match (kind, live) {
                    (0..=3, None) => add(order, bid, shares, price),
                    (_, None) => continue,
                    (0..=1, Some(order_)) => after(b'E', order, shares.min(order_.3 as u32), 0),
                    (2..=3, Some(order_)) => after(b'X', order, shares.min(order_.3 as u32), 0),
                    (4, Some(_)) if !feed.orders.contains_key(&(order + 1_000)) => {
                        after(b'U', order, shares, price)
                    }
                    _ => after(b'D', order, 0, 0),
                };
                worker.take(&message);
                let touched = feed.take(&message, worker.now);
                if touched == Some(1) {
                    let entry = depth_of(&worker, 1).unwrap();
                    assert_eq!((entry.instrument, entry.ts_recv), (1, worker.now));
                    feed.instruments[&1].compare(&entry, worker.now);
                }
            }
        });
    }
}

#[test]
fn the_real_day_has_the_depth_of_a_plain_book_at_every_fiftieth_message() {
    let Some(day) = real_data::read("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    with_worker(&symbols(&[b"AAPL    "]), 1, |mut worker| {
        let mut feed = Feed::default();
        let mut compared = 0;
        for message in BinaryFile::new(&day) {
            worker.now = MIDNIGHT + number(&message[5..11]);
            worker.take(message);
            let Some(touched) = feed.take(message, worker.now) else { continue };
            let entry = depth_of(&worker, touched);
            assert_eq!(entry.is_some(), touched == 13, "only AAPL was chosen");
            // The sum of all trades' weights takes long: now and then.
            if let Some(entry) = entry.filter(|_| worker.next.is_multiple_of(50)) {
                feed.instruments[&touched].compare(&entry, worker.now);
                compared += 1;
            }
        }
        assert!(compared > 2_000, "{compared} entries compared");
        worker.pipeline.publish_usage();
        let feed_view = worker.view.feed(0).unwrap();
        let gauge = |gauge| feed_view.gauge(gauge) as usize;
        assert_eq!(gauge(FeedGauge::Orders), feed.orders.len());
        let levels = feed.instruments.values().map(|naive| naive.bids.len() + naive.asks.len());
        assert_eq!(gauge(FeedGauge::Levels), levels.sum::<usize>());
        assert!(gauge(FeedGauge::OrdersPeak) > gauge(FeedGauge::Orders));
        assert_eq!(gauge(FeedGauge::OrdersCapacity), 50_000);
        assert_eq!(worker.view.feed(0).unwrap().counter(FeedCounter::BookErrors), 0);
    });
}

#[test]
fn places_are_few_marked_and_emptied() {
    with_worker(&DepthChoice::All, 1, |mut worker| {
        // An error before the first event leaves no entry of zeros behind.
        let mut directory = head(b'R');
        directory.extend(*b"TEST    ");
        directory.resize(39, 0);
        worker.take(&directory);
        worker.take(&after(b'D', 77, 0, 0));
        assert_eq!((depth_of(&worker, 1), depth_of(&worker, 0)), (None, None));
    });
    with_worker(&DepthChoice::All, 1, |mut worker| {
        worker.take(&add(5, true, 100, 10_000));
        let mut other = add(6, true, 100, 10_000);
        other[2] = 2;
        worker.take(&other);
        let full =
            |worker: &OneByOne<'_>| worker.view.feed(0).unwrap().counter(FeedCounter::DepthsFull);
        assert_eq!(full(&worker), 1);
        assert_eq!(depth_of(&worker, 2), None);
        let entry = depth_of(&worker, 1).unwrap();
        assert_eq!(entry.health, health::UNDIRECTED);
        assert_eq!((entry.bids[0].size, entry.features.order_flow), (100, 100));
        worker.take(&after(b'D', 77, 0, 0));
        assert_eq!(depth_of(&worker, 1).unwrap().health, health::UNDIRECTED | health::BOOK_ERROR);

        // Another session: numbers are given anew, the place is whose order comes first, and
        // nothing of the past is in it.
        worker.next = 1;
        worker.take_in_session(&head(b'S'), *b"TEST000002");
        assert_eq!((depth_of(&worker, 1), depth_of(&worker, 2)), (None, None));
        let nobody = worker.view.depth().read(0).unwrap().unwrap();
        assert_eq!((nobody.bids, nobody.instrument), ([DepthLevel::NONE; 10], NO_INSTRUMENT));
        worker.take_in_session(&other, *b"TEST000002");
        let entry = depth_of(&worker, 2).unwrap();
        assert_eq!((entry.health, entry.features.order_flow), (health::UNDIRECTED, 100));
        assert_eq!((depth_of(&worker, 1), full(&worker)), (None, 1));
    });
}
