//! As-of joins and bars over a real day, asked as a user asks them, against a plain reference that
//! was written only for this test: its own book, no columns, no search.

mod rig;

use std::collections::{BTreeMap, HashMap};
use std::process::Command;

use rig::{Process, Rig, binary, shared, succeed, wait_for};
use wiretape_core::event::{Event, MboMsg, action, flags};
use wiretape_host::reader::segment::Segment;

const GROUP: &str = "233.54.12.111:26477";
const SYMBOLS: [(u32, &str); 2] = [(13, "AAPL"), (42, "AMZN")];

/// Bid price, bid size, ask price, ask size; sides that are empty have none.
type Quote = (Option<(i64, i64)>, Option<(i64, i64)>);

/// A book as simple as can be.
#[derive(Default)]
struct Plain {
    orders: HashMap<u64, (u8, i64, i64)>,
    sides: [BTreeMap<i64, i64>; 2],
}

impl Plain {
    fn change(&mut self, side: u8, price: i64, size: i64) {
        let levels = &mut self.sides[usize::from(side == b'A')];
        let level = levels.entry(price).or_default();
        *level += size;
        if *level == 0 {
            levels.remove(&price);
        }
    }

    fn apply(&mut self, record: &MboMsg) {
        let size = i64::from(record.size);
        match record.action {
            action::ADD => {
                self.orders.insert(record.order_id, (record.side, record.price, size));
                self.change(record.side, record.price, size);
            }
            action::CANCEL => {
                let order = self.orders.get_mut(&record.order_id).expect("a live order");
                order.2 -= size;
                let (side, price, left) = *order;
                if left == 0 {
                    self.orders.remove(&record.order_id);
                }
                self.change(side, price, -size);
            }
            action::TRADE | action::FILL => {}
            other => panic!("action {} in this day", char::from(other)),
        }
    }

    fn quote(&self) -> Quote {
        let copy = |level: Option<(&i64, &i64)>| level.map(|(price, size)| (*price, *size));
        (copy(self.sides[0].last_key_value()), copy(self.sides[1].first_key_value()))
    }
}

struct Trade {
    time: u64,
    sequence: u64,
    price: i64,
    size: i64,
}

/// What happened to an instrument: its trades, and its quotes with time and sequence.
#[derive(Default)]
struct Story {
    trades: Vec<Trade>,
    quotes: Vec<(u64, u64, Quote)>,
}

fn story(events: &[Event], instrument: u32) -> Story {
    let (mut book, mut story) = (Plain::default(), Story::default());
    for (event, sequence) in events.iter().zip(1..) {
        let Some(record) = event.mbo().filter(|r| r.hd.instrument_id == instrument) else {
            continue;
        };
        book.apply(&record);
        let time = record.hd.ts_event;
        if record.action == action::TRADE {
            let size = i64::from(record.size);
            story.trades.push(Trade { time, sequence, price: record.price, size });
        }
        let quote = book.quote();
        let changed = story.quotes.last().is_none_or(|(_, _, last)| *last != quote);
        if record.flags & flags::LAST != 0 && changed {
            story.quotes.push((time, sequence, quote));
        }
    }
    story
}

/// A table of the answer, by column name.
fn table(csv: &str) -> Vec<HashMap<&str, &str>> {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().expect("a header").split(',').collect();
    lines.map(|line| names.iter().copied().zip(line.split(',')).collect()).collect()
}

/// A decimal number in units of 1e-9; `None` for an empty field.
fn nanos(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<9}").parse().expect("a decimal");
    Some(whole * 1_000_000_000 + fraction)
}

fn check_asof(story: &Story, rows: &[HashMap<&str, &str>]) {
    assert_eq!(rows.len(), story.trades.len());
    let mut matched = 0;
    for (trade, row) in story.trades.iter().zip(rows) {
        assert_eq!(row["sequence"], trade.sequence.to_string());
        assert_eq!(nanos(row["price"]), Some(trade.price));
        assert_eq!(row["size"], trade.size.to_string());
        // Equal times are ordered by sequence.
        let before = |quote: &&(u64, u64, Quote)| (quote.0, quote.1) < (trade.time, trade.sequence);
        let expected = story.quotes.iter().rev().find(before);
        let found_sequence = row["quote_sequence"].parse::<u64>().ok();
        assert_eq!(found_sequence, expected.map(|quote| quote.1), "trade {}", trade.sequence);
        let (bid, ask) = expected.map_or((None, None), |quote| quote.2);
        assert_eq!(nanos(row["bid_price"]), bid.map(|level| level.0));
        assert_eq!(nanos(row["ask_price"]), ask.map(|level| level.0));
        if let (Some(bid), Some(ask)) = (bid, ask) {
            assert_eq!(row["bid_size"], bid.1.to_string());
            assert_eq!(row["ask_size"], ask.1.to_string());
            matched += 1;
        }
    }
    assert!(matched > 9_000, "{matched}");
}

fn check_bars(story: &Story, rows: &[HashMap<&str, &str>], width_ns: u64) {
    let mut bars: BTreeMap<u64, Vec<&Trade>> = BTreeMap::new();
    for trade in &story.trades {
        bars.entry(trade.time / width_ns).or_default().push(trade);
    }
    assert_eq!(rows.len(), bars.len());
    for (trades, row) in bars.values().zip(rows) {
        let prices = || trades.iter().map(|trade| trade.price);
        assert_eq!(nanos(row["open"]), prices().next());
        assert_eq!(nanos(row["high"]), prices().max());
        assert_eq!(nanos(row["low"]), prices().min());
        assert_eq!(nanos(row["close"]), prices().next_back());
        assert_eq!(row["trades"], trades.len().to_string());
        let volume: i64 = trades.iter().map(|trade| trade.size).sum();
        assert_eq!(row["volume"], volume.to_string());
        let notional: i128 = trades.iter().map(|t| i128::from(t.price) * i128::from(t.size)).sum();
        let vwap = i128::from(nanos(row["vwap"]).expect("a price"));
        assert!((vwap * i128::from(volume) - notional).abs() < i128::from(volume));
    }
}

#[test]
fn answers_over_a_real_day_equal_a_plain_reference() {
    let Some(file) = shared("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let rig = Rig::offline("answers");
    let pcap = rig.work.join("day.pcap");
    let mut exchange = Command::new(binary("wiretape-exchange"));
    exchange.arg("--itch").arg(&file).args(["--date", "2012-06-21", "--group", GROUP]);
    succeed(exchange.arg("--write").arg(&pcap));
    let mut capture = Command::new(binary("wiretape-capture"));
    capture.arg("--pcap").arg(&pcap).args(["--feed", &format!("itch50-moldudp64@{GROUP}")]);
    capture.args(["--date", "2012-06-21", "--name", "day", "--segment-dir"]).arg(&rig.segments);
    succeed(&mut capture);

    let segment = Segment::attach(&rig.segment("day")).expect("the segment");
    let view = segment.view().expect("a sound segment");
    let mut events = vec![Event::default(); 500_000];
    let mut reader = view.events().reader_from(1);
    let count = reader.read_batch(&mut events).expect("the whole day in the ring");
    assert_eq!(reader.lag(), 0);
    events.truncate(count);

    let socket = rig.work.join("host.sock");
    let mut host = Command::new(binary("wiretape-host"));
    host.arg("--segment").arg(rig.segment("day")).arg("--socket").arg(&socket);
    let host = Process::start(&mut host);
    wait_for("the host", || socket.exists());
    let ask = |arguments: &[&str]| {
        let mut query = Command::new(binary("wiretape"));
        query.arg("query").args(arguments).arg("--socket").arg(&socket);
        query.output().expect("ask the host")
    };
    let through = count.to_string();
    wait_for("the host to come to the end", || {
        let answer = ask(&["bars", "--every", "1h", "--format", "table"]);
        rig::text(&answer).contains(&through)
    });
    for (instrument, symbol) in SYMBOLS {
        let story = story(&events, instrument);
        let answer = ask(&["asof", "--instrument", symbol, "--format", "csv"]);
        let csv = String::from_utf8(answer.stdout).expect("text");
        check_asof(&story, &table(&csv));
        for (every, width_ns) in [("1m", 60_000_000_000), ("1h", 3_600_000_000_000)] {
            let bars = ["bars", "--every", every, "--instrument", symbol, "--format", "csv"];
            let answer = ask(&bars);
            let csv = String::from_utf8(answer.stdout).expect("text");
            check_bars(&story, &table(&csv), width_ns);
        }
    }
    host.stop();
}
