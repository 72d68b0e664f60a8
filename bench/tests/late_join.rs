//! Capture that starts in the middle of the day, and one that lost messages for good: with a
//! snapshot of the exchange's the orders at the end of the day are those of a capture that saw it
//! all, and without one the feed goes on and says that its books may be wrong.

mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use rig::{FEED, Process, Rig, WIRE, succeed, wait_for};
use wiretape_core::event::session_change;
use wiretape_core::event::{GapMsg, MboMsg, SessionMsg, action, flags, gap_reason, rtype};
use wiretape_core::segment::{FeedCounter, FeedView, Ledger, SegmentView};
use wiretape_host::reader::Segment;

const GROUP: &str = "239.54.12.111:26477";
/// The exchange's end of the veth pair.
const SNAPSHOTS: &str = "10.77.0.1:26401";
const MESSAGES: &str = "40k";

/// An order that rests: instrument, side, price, size.
type Resting = (u32, u8, i64, u32);

/// What the ring tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    orders: BTreeMap<u64, Resting>,
    /// Live records of messages from a number on, and whether all had good books.
    live: BTreeMap<u32, usize>,
    bad: usize,
    snapshot: usize,
    gaps: Vec<(u64, u64, u8)>,
    sessions: Vec<(u8, u64)>,
}

fn told(view: &SegmentView<'_>) -> Told {
    let mut told = Told::default();
    let mut reader = view.events().reader_from_oldest();
    while let Some((_, event)) = reader.next_event().expect("a ring that holds the day") {
        match event.header().rtype {
            rtype::MBO => told.take(&event.get::<MboMsg>().unwrap()),
            rtype::GAP => {
                let gap = event.get::<GapMsg>().unwrap();
                told.gaps.push((gap.first_seq, gap.end_seq, gap.reason));
            }
            rtype::SESSION => {
                let session = event.get::<SessionMsg>().unwrap();
                told.sessions.push((session.change, session.next_seq));
            }
            _ => {}
        }
    }
    told
}

impl Told {
    fn take(&mut self, record: &MboMsg) {
        let instrument = record.hd.instrument_id;
        match record.action {
            action::ADD => {
                let order = (instrument, record.side, record.price, record.size);
                let twice = self.orders.insert(record.order_id, order);
                assert_eq!(twice, None, "{record:?}");
            }
            action::CANCEL => {
                let order = self.orders.get_mut(&record.order_id).expect("an order that rests");
                order.3 = order.3.checked_sub(record.size).expect("no more than it has");
                if order.3 == 0 {
                    self.orders.remove(&record.order_id);
                }
            }
            action::CLEAR => self.orders.retain(|_, order| order.0 != instrument),
            _ => {}
        }
        if record.flags & flags::SNAPSHOT != 0 {
            self.snapshot += 1;
        } else if record.action != action::CLEAR {
            *self.live.entry(record.sequence).or_default() += 1;
            self.bad += usize::from(record.flags & flags::MAYBE_BAD_BOOK != 0);
        }
    }
}

fn market() -> Vec<&'static str> {
    let fixed = "--sim --seed 23 --symbols 12 --pack-window 100us --lead-in 20 --quiet";
    let mut arguments: Vec<&str> = fixed.split(' ').collect();
    arguments.extend(["--messages", MESSAGES, "--group", GROUP]);
    arguments
}

/// The day as a capture file tells it.
fn whole_day() -> Told {
    let rig = Rig::offline("joinday");
    let pcap = rig.work.join("day.pcap");
    succeed(rig.exchange("wiretape-exchange").args(market()).arg("--write").arg(&pcap));
    let mut capture = rig.capture("wiretape-capture");
    capture.arg("--pcap").arg(&pcap).arg("--segment-dir").arg(&rig.segments);
    let feed = format!("itch50-moldudp64@{GROUP}");
    succeed(capture.args(["--name", "day", "--feed", &feed, "--date", "2026-03-02"]));
    let segment = Segment::attach(&rig.segment("day")).expect("the segment");
    told(&segment.view().expect("a sound segment"))
}

/// A day at some thousand messages a second; `late` capture starts when it is under way. Its books are
/// small: memory for books of the usual size is touched for longer than this day lasts.
struct Day {
    capture: Process,
    segment: Segment,
    exchange: Process,
    _rig: Rig,
}

fn day(test: &str, late: bool, exchange_arguments: &[&str], feed: &str) -> Option<Day> {
    let rig = Rig::network(test)?;
    rig.load_xdp(&[GROUP]);
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\n\
         date = 2026-03-02\nmax_orders = 100000\nmax_levels = 20000\n{feed}",
        rig.segments.display(),
        rig.pins().display(),
    );
    let config = rig.config("capture.toml", &text);
    let exchange = || {
        let mut exchange = rig.exchange("wiretape-exchange");
        exchange.args(market()).args(["--udp", "--interface", WIRE, "--rate", "5000/s"]);
        exchange.args(["--end-packets", "50", "--linger", "3s"]).args(exchange_arguments);
        Process::start(&mut exchange)
    };
    let (capture, exchange) = if late {
        let exchange = exchange();
        std::thread::sleep(Duration::from_millis(900));
        (rig.start_capture(&config, "wire"), exchange)
    } else {
        let capture = rig.start_capture(&config, "wire");
        (capture, exchange())
    };
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    Some(Day { capture, segment, exchange, _rig: rig })
}

impl Day {
    fn feed(&self) -> FeedView<'_> {
        self.segment.view().and_then(|view| view.feed(0)).expect("the feed")
    }

    fn count(&self, counter: FeedCounter) -> u64 {
        self.feed().counter(counter)
    }

    /// Waits for the end of the day, and returns what the ring and the worker said.
    fn end(mut self) -> (Told, Segment, String) {
        let ended = || self.feed().session().is_ok_and(|session| session.ended);
        wait_for("the end of the session", ended);
        self.capture.expect_alive();
        let said = self.capture.stop();
        let output = self.exchange.wait();
        assert!(output.status.success(), "{}", rig::text(&output));
        let view = self.segment.view().expect("a sound segment");
        let ledger = Ledger::read(&view.counters(), true);
        assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
        let told = told(&view);
        (told, self.segment, said)
    }
}

fn expect_rest_of_the_day(told: &Told, whole: &Told, from: u64) {
    assert_eq!(told.orders, whole.orders, "the orders at the end of the day");
    let rest: BTreeMap<u32, usize> =
        whole.live.range(from as u32..).map(|(number, records)| (*number, *records)).collect();
    let live: BTreeMap<u32, usize> =
        told.live.range(from as u32..).map(|(number, records)| (*number, *records)).collect();
    assert_eq!(live, rest, "the records of every message behind the snapshot");
}

#[test]
fn a_capture_that_starts_in_the_middle_ends_with_the_same_orders() {
    let exchange = ["--glimpse", SNAPSHOTS, "--glimpse-login", "wire:tape"];
    let feed = format!("snapshot = [\"{SNAPSHOTS}\"]\nsnapshot_login = \"wire:tape\"");
    let Some(day) = day("join", true, &exchange, &feed) else { return };
    let (told, segment, said) = day.end();
    let [(change, from), (session_change::END, _)] = told.sessions[..] else {
        panic!("{:?}", told.sessions);
    };
    assert_eq!(change, session_change::START);
    assert!(from > 1_000, "it began in the middle: {from}");
    assert!(told.gaps.is_empty() && told.bad == 0 && told.snapshot > 0, "{:?}", told.gaps);
    expect_rest_of_the_day(&told, &whole_day(), from);
    let feed = segment.view().unwrap().feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::Snapshots), 1);
    assert!(feed.counter(FeedCounter::SnapshotMessages) as usize >= told.snapshot);
    assert_eq!(feed.counter(FeedCounter::BookErrors), 0);
    assert!(!feed.session().unwrap().maybe_bad_book);
    assert!(!said.contains("snapshot from"), "{said}");
}

#[test]
fn a_loss_that_nobody_fills_is_mended_by_a_snapshot() {
    let exchange = ["--glimpse", SNAPSHOTS, "--lose", "9000-9300"];
    let Some(day) = day("joinloss", false, &exchange, &format!("snapshot = [\"{SNAPSHOTS}\"]"))
    else {
        return;
    };
    let (told, segment, _) = day.end();
    let change = |change| told.sessions.iter().find(|session| session.0 == change);
    let from = change(session_change::SNAPSHOT).expect("a snapshot").1;
    let [(first, end, gap_reason::SEQUENCE_JUMP)] = told.gaps[..] else {
        panic!("{:?}", told.gaps)
    };
    assert!(first <= 9_000 && end > 9_300 && from >= end, "{first} to {end}, {from}");
    expect_rest_of_the_day(&told, &whole_day(), from);
    let feed = segment.view().unwrap().feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::SnapshotsWanted), 1);
    assert!(!feed.session().unwrap().maybe_bad_book);
}

/// A day that is joined late by a server of no use; what capture says of it.
fn without_snapshot(test: &str, exchange: &[&str], feed: &str) -> Option<String> {
    let day = day(test, true, exchange, feed)?;
    wait_for("the snapshot to be given up", || day.count(FeedCounter::SnapshotsFailed) > 0);
    let (told, segment, said) = day.end();
    let [(1, from, gap_reason::LATE_JOIN)] = told.gaps[..] else { panic!("{:?}", told.gaps) };
    assert!(from > 1_000, "it began in the middle: {from}");
    assert!(
        told.snapshot == 0 && told.bad > 0,
        "{} of the snapshot, {} bad",
        told.snapshot,
        told.bad
    );
    let feed = segment.view().unwrap().feed(0).unwrap();
    assert!(feed.session().unwrap().maybe_bad_book);
    let end = told.sessions.last().expect("the end").1;
    assert_eq!(feed.counter(FeedCounter::Messages), end - from, "all that waited was taken");
    Some(said)
}

#[test]
fn without_a_server_the_feed_goes_on_and_says_so() {
    let feed = format!("snapshot = [\"{SNAPSHOTS}\"]\nsnapshot_ms = 500");
    let none = ["--rerequest", "10.77.0.1:26400"];
    let Some(said) = without_snapshot("joinnone", &none, &feed) else { return };
    assert!(said.contains("feed feed0: no snapshot from 10.77.0.1:26401: "), "{said}");
    assert!(said.contains("refused"), "{said}");
}

#[test]
fn a_server_that_refuses_or_breaks_off_is_none() {
    let feed = format!("snapshot = [\"{SNAPSHOTS}\"]\nsnapshot_login = \"who:what\"");
    let exchange = ["--glimpse", SNAPSHOTS, "--glimpse-login", "wire:tape"];
    let Some(said) = without_snapshot("joinwho", &exchange, &feed) else { return };
    assert!(said.contains("user or password are wrong"), "{said}");
    let exchange = ["--glimpse", SNAPSHOTS, "--glimpse-break", "20"];
    let feed = format!("snapshot = [\"{SNAPSHOTS}\"]");
    let Some(said) = without_snapshot("joincut", &exchange, &feed) else { return };
    assert!(said.contains("broke off after 20 messages"), "{said}");
}
