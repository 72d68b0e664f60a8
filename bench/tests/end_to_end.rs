//! Real exchange packets over veth through XDP and AF_XDP into the segment, against what is known
//! about them, and against their own replay.

mod rig;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;
use rig::{FEED, Rig, WIRE, fail, shared, succeed, wait_for};
use wiretape_core::arena::Arena;
use wiretape_core::book::{BookSpec, HashIndex, LevelView, OrderBook};
use wiretape_core::event::{Event, Side, flags};
use wiretape_core::segment::{Counter, FeedCounter, Ledger, SegmentView};
use wiretape_host::digest::Digest;
use wiretape_host::reader::segment::Segment;

const DEEP_GROUP: &str = "224.2.3.10:16648";
const ITCH_GROUP: &str = "233.54.12.111:26477";
const DEEP_PACKETS: u64 = 121_314;

/// Messages by type, as listed beside the data.
const DEEP_TYPES: [(u8, u64); 9] = [
    (b'H', 93_638),
    (b'O', 93_638),
    (b'P', 93_636),
    (b'T', 83_343),
    (b'5', 14_627),
    (b'8', 12_941),
    (b'B', 73),
    (b'E', 59),
    (b'S', 44),
];

/// A configuration that takes one feed from the rig's interface.
fn config(rig: &Rig, feed: &str) -> std::path::PathBuf {
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = {:?}\nidle = \"yield\"\n\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = {:?}\n\
         frames = 65536\n\n[[feed]]\nname = \"feed\"\n{feed}\n",
        rig.segments,
        rig.pins(),
    );
    rig.config("capture.toml", &text)
}

/// Takes every event that the ring still holds, from the first.
fn events(view: &SegmentView<'_>) -> Vec<Event> {
    let mut reader = view.events().reader_from(1);
    let mut batch = vec![Event::default(); 1024];
    let mut all = Vec::new();
    loop {
        match reader.read_batch(&mut batch).expect("a ring that holds the whole run") {
            0 => return all,
            count => all.extend_from_slice(&batch[..count]),
        }
    }
}

fn digest(events: &[Event]) -> String {
    let mut digest = Digest::new();
    digest.add(events);
    digest.hex()
}

/// Replays a capture file through the pcap source and returns its events.
fn replay(rig: &Rig, file: &Path, feed: &[&str]) -> (Vec<Event>, String) {
    let mut command = Command::new(rig::binary("wiretape-capture"));
    command.arg("--pcap").arg(file).args(feed).arg("--segment-dir").arg(&rig.segments);
    let said = succeed(command.args(["--name", "replay", "--idle", "yield"]));
    let segment = Segment::attach(&rig.segment("replay")).expect("the replay's segment");
    (events(&segment.view().expect("a sound segment")), said)
}

fn deep_types_hold(view: &SegmentView<'_>) {
    let feed = view.feed(0).expect("the feed");
    assert_eq!(feed.counter(FeedCounter::Packets), DEEP_PACKETS);
    assert_eq!(feed.counter(FeedCounter::Messages), 391_999);
    for (kind, count) in DEEP_TYPES {
        assert_eq!(feed.messages_of_type(kind), count, "type {}", char::from(kind));
    }
    assert_eq!(feed.counter(FeedCounter::Heartbeats), 7_937);
    assert_eq!(feed.counter(FeedCounter::Restarts), 11);
    for nothing in [
        FeedCounter::LostMessages,
        FeedCounter::MalformedPackets,
        FeedCounter::UnknownMessages,
        FeedCounter::BadMessages,
        FeedCounter::BookErrors,
    ] {
        assert_eq!(feed.counter(nothing), 0, "{}", nothing.name());
    }
}

#[test]
fn deep_over_veth_loses_nothing_and_equals_its_replay() {
    let Some(file) = shared("iex/DEEP10.pcap.gz") else { return };
    let Some(rig) = Rig::network("deep") else { return };
    rig.load_xdp(&[DEEP_GROUP]);
    let feed = format!("protocol = \"deep10-iextp\"\ngroup = \"{DEEP_GROUP}\"");
    let capture = rig.start_capture(&config(&rig, &feed), "wire");

    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.arg("--pcap").arg(&file).args(["--udp", "--interface", WIRE]);
    succeed(exchange.args(["--group", DEEP_GROUP, "--rate", "60000/s"]));

    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = segment.view().expect("a sound segment");
    wait_for("all packets", || view.counters().get(Counter::Frames) >= DEEP_PACKETS);
    capture.stop();
    deep_types_hold(&view);
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes(), "{ledger:?}");
    assert_eq!((ledger.redirected, ledger.lost()), (Some(DEEP_PACKETS), 0));

    let live = events(&view);
    let feed = format!("deep10-iextp@{DEEP_GROUP}");
    let (replayed, said) = replay(&rig, &file, &["--feed", &feed]);
    assert_eq!((live.len(), digest(&live)), (replayed.len(), digest(&replayed)));
    assert!(said.contains("ends inside record 121315"), "{said}");
}

/// A row of the published book: after message `ordinal`, the first levels of a symbol.
struct Row {
    ordinal: u64,
    locate: u32,
    /// Ask price, ask size, bid price, bid size of each level.
    levels: Vec<i64>,
}

fn published_rows(file: &Path) -> impl Iterator<Item = Row> {
    let file = std::fs::File::open(file).expect("the published rows");
    BufReader::new(GzDecoder::new(file)).lines().skip(1).map(|line| {
        let line = line.expect("a line");
        let mut fields = line.split(',');
        let ordinal = fields.next().expect("ordinal").parse().expect("a number");
        let locate = if fields.next() == Some("AAPL") { 13 } else { 42 };
        Row { ordinal, locate, levels: fields.map(|f| f.parse().expect("a number")).collect() }
    })
}

/// The first levels of a book as a row has them.
fn depth(book: &OrderBook<'_, HashIndex<'_>>, locate: u32, levels: usize) -> Vec<i64> {
    let plain = |level: LevelView| [level.price / 100_000, level.size as i64];
    let mut asks = book.levels(locate, Side::Ask).map(plain);
    let mut bids = book.levels(locate, Side::Bid).map(plain);
    (0..levels)
        .flat_map(|_| {
            let [ask, ask_size] = asks.next().unwrap_or([9_999_999_999, 0]);
            let [bid, bid_size] = bids.next().unwrap_or([-9_999_999_999, 0]);
            [ask, ask_size, bid, bid_size]
        })
        .collect()
}

/// Applies the events of a day to a book of our own, as any reader would, and compares it with
/// every published row.
fn equals_published_rows(events: &[Event], file: &Path) {
    let spec = BookSpec { instruments: 64, orders: 20_000, levels: 20_000 };
    let mut memory = vec![0; spec.bytes() + HashIndex::bytes(spec.orders)];
    let mut arena = Arena::new(&mut memory);
    let index = HashIndex::new(&mut arena, spec.orders).expect("memory for the index");
    let mut book = OrderBook::new(&mut arena, &spec, index).expect("memory for the book");
    let mut rows = published_rows(file).peekable();
    let mut compared = 0;
    for record in events.iter().filter_map(Event::mbo) {
        // Rows of messages before this one: the book stood as it stands.
        book.apply(&record).expect("an event that applies");
        if record.flags & flags::LAST == 0 {
            continue;
        }
        while let Some(row) = rows.next_if(|row| row.ordinal <= u64::from(record.sequence)) {
            assert_eq!(row.ordinal, u64::from(record.sequence), "a row without its message");
            let found = depth(&book, row.locate, row.levels.len() / 4);
            assert_eq!(found, row.levels, "after message {}", row.ordinal);
            compared += 1;
        }
    }
    assert_eq!(compared, 274_432);
    assert_eq!(book.live_orders(), 1_934);
}

#[test]
fn a_nasdaq_day_over_veth_gives_the_published_books() {
    let Some(file) = shared("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let Some(rows) = shared("itch/nasdaq-20120621-aapl-amzn.depth.csv.gz") else { return };
    let Some(rig) = Rig::network("itch") else { return };
    rig.load_xdp(&[ITCH_GROUP]);
    let feed =
        format!("protocol = \"itch50-moldudp64\"\ngroup = \"{ITCH_GROUP}\"\ndate = 2012-06-21");
    let capture = rig.start_capture(&config(&rig, &feed), "wire");

    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.arg("--itch").arg(&file).args(["--udp", "--interface", WIRE]);
    succeed(exchange.args(["--group", ITCH_GROUP, "--rate", "60000/s"]));

    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = segment.view().expect("a sound segment");
    let feed = view.feed(0).expect("the feed");
    wait_for("all messages", || feed.counter(FeedCounter::Messages) >= 331_238);
    capture.stop();
    assert_eq!(feed.counter(FeedCounter::Messages), 331_238);
    assert_eq!(feed.counter(FeedCounter::BookErrors), 0);
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
    equals_published_rows(&events(&view), &rows);
}

#[test]
fn real_itch_messages_end_in_the_published_book() {
    let Some(file) = shared("itch/aapl-20200130-10k.itch") else { return };
    let Some(expected) = shared("itch/aapl-20200130-10k.expected-book.txt") else { return };
    let rig = Rig::offline("aapl");
    let pcap = rig.work.join("aapl.pcap");
    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.arg("--itch").arg(&file).arg("--write").arg(&pcap);
    succeed(exchange.args(["--group", ITCH_GROUP]));
    let feed = format!("itch50-moldudp64@{ITCH_GROUP}");
    let (events, _) = replay(&rig, &pcap, &["--feed", &feed, "--date", "2020-01-30"]);

    let spec = BookSpec { instruments: 1 << 16, orders: 20_000, levels: 20_000 };
    let mut memory = vec![0; spec.bytes() + HashIndex::bytes(spec.orders)];
    let mut arena = Arena::new(&mut memory);
    let index = HashIndex::new(&mut arena, spec.orders).expect("memory for the index");
    let mut book = OrderBook::new(&mut arena, &spec, index).expect("memory for the book");
    let mut locate = 0;
    for record in events.iter().filter_map(Event::mbo) {
        book.apply(&record).expect("an event that applies");
        locate = record.hd.instrument_id;
    }
    let line = |letter: char, level: LevelView| {
        let cents = level.price / 10_000_000;
        let (dollars, cents) = (cents / 100, cents % 100);
        format!("{letter} {dollars}.{cents:02}: {} ({})", level.size, level.orders)
    };
    let bids = book.levels(locate, Side::Bid).map(|level| line('B', level));
    let asks = book.levels(locate, Side::Ask).map(|level| line('S', level));
    let found: Vec<String> = bids.chain(asks).collect();
    let expected = std::fs::read_to_string(expected).expect("the published book");
    let expected: Vec<&str> = expected.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expected);
    assert_eq!((found.len(), book.live_orders()), (142, 215));
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    let rig = Rig::offline("refuse");
    let start = |arguments: &[&str]| {
        let mut command = Command::new(rig::binary("wiretape-capture"));
        fail(command.args(arguments).arg("--segment-dir").arg(&rig.segments))
    };
    let feed = format!("deep10-iextp@{DEEP_GROUP}");
    let said = start(&["--interface", "nosuchif0", "--feed", &feed]);
    assert!(said.contains("nosuchif0"), "{said}");
    let said = start(&["--pcap", "/nosuch.pcap", "--feed", &feed]);
    assert!(said.contains("/nosuch.pcap"), "{said}");
    let typo = rig.config("typo.toml", "[worker]\nname = \"x\"\nevent_slot = 64\n");
    let said = start(&["--config", typo.to_str().expect("UTF-8")]);
    assert!(said.contains("typo.toml") && said.contains("event_slots"), "{said}");
    assert!(said.contains('3'), "names the line: {said}");
    let left: Vec<_> = std::fs::read_dir(&rig.segments)
        .expect("the folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
