//! Any stream of IEX DEEP against plain books: levels that were never there, prices below zero and at
//! zero, events that nothing ends, losses and new sessions, messages of every type in between.

mod deep_worker;

use std::collections::BTreeMap;

use deep_worker::{MIDNIGHT, SPEC, Worker, as_frame, frame, with_worker};
use proptest::prelude::*;
use wiretape_core::event::{MboMsg, UNDEF_PRICE, action, flags};
use wiretape_core::segment::{DepthLevel, FeedCounter, health};
use wiretape_core::wire::deep10::{self, PROTOCOL};
use wiretape_core::wire::iextp::Stream;
use zerocopy::IntoBytes;

/// Three of them, in room for four.
const SYMBOLS: [&[u8; 8]; 3] = [b"A       ", b"B       ", b"ABCDEFGH"];

#[derive(Clone, Debug)]
struct Message {
    kind: u8,
    /// Event flags, or a status letter.
    second: u8,
    /// Whether it is of another time than the one before.
    later: bool,
    symbol: usize,
    size: u32,
    price: i64,
}

impl Message {
    fn bytes(&self, time: i64) -> Vec<u8> {
        let mut bytes = vec![0; deep10::Message::length_of(self.kind).unwrap().into()];
        (bytes[0], bytes[1]) = (self.kind, self.second);
        bytes[2..10].copy_from_slice(&time.to_le_bytes());
        if self.kind != b'S' {
            bytes[10..18].copy_from_slice(SYMBOLS[self.symbol]);
        }
        if matches!(self.kind, b'8' | b'5' | b'T' | b'B') {
            bytes[18..22].copy_from_slice(&self.size.to_le_bytes());
            bytes[22..30].copy_from_slice(&self.price.to_le_bytes());
        }
        bytes
    }
}

#[derive(Clone, Debug)]
enum Step {
    Packet(Vec<Message>),
    Heartbeat,
    Gap,
    Session,
}

fn step() -> impl Strategy<Value = Step> {
    let price = prop_oneof![10 => 1i64..6, 3 => -3i64..0, 1 => Just(0), 1 => Just(i64::MAX)];
    let message = (
        prop::sample::select(b"88888555555TTTBHOPSXAED".to_vec()),
        prop::sample::select(vec![0, 0, 0, 1, 1, b'T', b'H', b'O', b'P', b'N', 0xFE]),
        any::<bool>(),
        0usize..3,
        prop_oneof![2 => 1u32..500, 1 => Just(0), 1 => Just(u32::MAX)],
        price,
    );
    let message = message.prop_map(|(kind, second, later, symbol, size, price)| Message {
        kind,
        second,
        later,
        symbol,
        size,
        price,
    });
    prop_oneof![
        30 => prop::collection::vec(message, 1..6).prop_map(Step::Packet),
        2 => Just(Step::Heartbeat),
        1 => Just(Step::Gap),
        1 => Just(Step::Session),
    ]
}

type Sides = [BTreeMap<i64, u32>; 2];

#[derive(Clone, Default)]
struct Instrument {
    now: Sides,
    /// As the last event left it.
    whole: Sides,
    error: bool,
    status: u8,
    last: Option<(i64, u32)>,
    volume: u64,
    trades: u64,
}

#[derive(Default)]
struct Venue {
    /// By symbol; the ids are given in the order of their first messages.
    instruments: [Instrument; 3],
    ids: Vec<usize>,
    /// Symbol and time of the event that is not over.
    open: Option<(usize, i64)>,
    errors: u64,
}

impl Venue {
    fn end(&mut self) {
        if let Some((symbol, _)) = self.open.take() {
            let instrument = &mut self.instruments[symbol];
            instrument.whole = instrument.now.clone();
        }
    }

    fn take(&mut self, m: &Message, time: i64) {
        if m.kind == b'S' || self.open.is_some_and(|open| open != (m.symbol, time)) {
            self.end();
        }
        // Official prices are counted and no more.
        if m.kind == b'S' || m.kind == b'X' {
            return;
        }
        if !self.ids.contains(&m.symbol) {
            self.ids.push(m.symbol);
        }
        let instrument = &mut self.instruments[m.symbol];
        let price = m.price.checked_mul(100_000).unwrap_or(UNDEF_PRICE);
        match m.kind {
            b'8' | b'5' => {
                let side = &mut instrument.now[usize::from(m.kind == b'5')];
                let usable = price != 0 && price != UNDEF_PRICE;
                match m.size {
                    _ if !usable => {
                        self.errors += 1;
                        instrument.error = true;
                    }
                    0 => drop(side.remove(&price)),
                    size => drop(side.insert(price, size)),
                }
                if m.second & 1 != 0 {
                    self.open = Some((m.symbol, time));
                    self.end();
                } else if usable {
                    self.open = Some((m.symbol, time));
                }
            }
            b'T' => {
                instrument.last = Some((price, m.size));
                instrument.volume += u64::from(m.size);
                instrument.trades += 1;
            }
            b'H' => instrument.status = m.second,
            _ => {}
        }
    }

    fn begin_session(&mut self) {
        self.open = None;
        for instrument in &mut self.instruments {
            *instrument = Instrument { status: instrument.status, ..Instrument::default() };
        }
    }

    fn compare(&self, worker: &Worker<'_>) {
        let feed = worker.view.feed(0).unwrap();
        assert_eq!(feed.counter(FeedCounter::BookErrors), self.errors);
        for (id, symbol) in self.ids.iter().enumerate() {
            let Some(entry) = worker.view.market().read(id as u32).unwrap() else { continue };
            let instrument = &self.instruments[*symbol];
            let [bids, asks] = &instrument.whole;
            let best = |level: Option<(&i64, &u32)>| {
                level.map_or((UNDEF_PRICE, 0), |(price, size)| (*price, *size))
            };
            assert_eq!((entry.bid_px, entry.bid_sz), best(bids.last_key_value()), "bid of {id}");
            assert_eq!((entry.ask_px, entry.ask_sz), best(asks.first_key_value()), "offer of {id}");
            assert_eq!(entry.status, instrument.status);
            let last = instrument.last.unwrap_or((UNDEF_PRICE, 0));
            assert_eq!((entry.last_px, entry.last_sz), last);
            assert_eq!((entry.volume, entry.trades), (instrument.volume, instrument.trades));
            assert_eq!(entry.health & health::BOOK_ERROR != 0, instrument.error);

            let row =
                |(price, size): (&i64, &u32)| DepthLevel { price: *price, size: *size, orders: 1 };
            let ten = |mut rows: Vec<DepthLevel>| {
                rows.resize(10, DepthLevel::NONE);
                rows
            };
            let table = worker.view.depth();
            let Some(place) = table.place_of(id as u32) else { continue };
            let depth = table.read(place).unwrap().unwrap();
            assert_eq!(depth.bids[..], ten(bids.iter().rev().map(row).collect()), "bids of {id}");
            assert_eq!(depth.asks[..], ten(asks.iter().map(row).collect()), "offers of {id}");
        }
    }

    /// Who reads a book only where an event ends has the books of the venue, and no other.
    fn compare_followed(&self, followed: &BTreeMap<u32, (Sides, Sides)>) {
        for (id, (_, whole)) in followed {
            assert_eq!(whole, &self.instruments[self.ids[*id as usize]].whole, "{id}");
        }
    }
}

fn follow(records: &[(u64, MboMsg)], followed: &mut BTreeMap<u32, (Sides, Sides)>) {
    for (_, record) in records {
        let (now, whole) = followed.entry(record.hd.instrument_id).or_default();
        let side = &mut now[usize::from(record.side == b'A')];
        match record.action {
            action::ADD => assert_eq!(side.insert(record.price, record.size), None),
            action::MODIFY => assert!(side.insert(record.price, record.size).is_some()),
            action::CANCEL => assert_eq!(side.remove(&record.price).unwrap_or(0), record.size),
            action::CLEAR => *now = Sides::default(),
            _ => {}
        }
        if record.flags & flags::LAST != 0 {
            *whole = now.clone();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_books_are_those_of_the_events_that_ended(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        with_worker(&SPEC, |mut worker| {
            let (mut venue, mut followed) = (Venue::default(), BTreeMap::new());
            let (mut stream, mut sessions) = (Stream::new(PROTOCOL, 1, 1), 1);
            let (mut time, mut now) = (MIDNIGHT as i64, MIDNIGHT);
            for step in steps {
                now += 1_000;
                let frame = match step {
                    Step::Packet(messages) => {
                        let mut packet = Vec::new();
                        for message in messages {
                            time += i64::from(message.later);
                            packet.push(message.bytes(time));
                            venue.take(&message, time);
                        }
                        frame(&mut stream, &packet)
                    }
                    Step::Heartbeat => {
                        venue.end();
                        as_frame(stream.heartbeat(MIDNIGHT).as_bytes())
                    }
                    Step::Gap => {
                        stream.sequence += u64::from(stream.sequence > 1);
                        continue;
                    }
                    Step::Session => {
                        sessions += 1;
                        stream = Stream::new(PROTOCOL, 1, sessions);
                        venue.begin_session();
                        time += 1;
                        let message = Message {
                            kind: b'H', second: b'T', later: false, symbol: 0, size: 0, price: 0,
                        };
                        venue.take(&message, time);
                        frame(&mut stream, &[message.bytes(time)])
                    }
                };
                follow(&worker.take(&frame, now), &mut followed);
                venue.compare(&worker);
                venue.compare_followed(&followed);
            }
        });
    }
}
