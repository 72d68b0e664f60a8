//! Lines A and B over a network that misbehaves, by a box in the middle that does what `tc netem`
//! would: as long as one line or the re-request server brings a message it is published, and the
//! events are those of an undisturbed run; what nobody brings is reported to the exact range. Each
//! line's own counters say what the box dropped and doubled on it.
//!
//! `WIRETAPE_SEED` sets other dice than 1.

#![allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]

mod middle_box;
mod rig;

use std::ops::Range;
use std::time::Duration;

use middle_box::{Account, Impairment, MiddleBox, in_both, merged};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rig::published::{digest, events};
use rig::{FEED, Process, Rig, WIRE, succeed, wait_for};
use wiretape_core::event::{Event, GapMsg, rtype};
use wiretape_core::segment::{FeedCounter, Ledger, LineCounter, RECOVERY_LINE};
use wiretape_host::reader::Segment;

const LINES: [&str; 2] = ["239.54.12.111:26477", "239.54.12.112:26477"];
/// Where the exchange answers re-requests: its end of its veth pair.
const SERVER: &str = "10.77.0.1:26400";
/// Longer than a busy machine keeps a packet from capture while it does not keep others.
const LONG: &str = "reorder_us = 2000000\nreorder_packets = 65536";

/// What a run is like.
#[derive(Default)]
struct Scene {
    lines: [Impairment; 2],
    /// More lines of the feed's configuration.
    feed: String,
    /// The way to the re-request server and back, if one is there.
    server: Option<Impairment>,
}

/// What came of it.
struct Outcome {
    lines: Vec<Account>,
    /// The ranges that were declared lost.
    lost: Vec<Range<u64>>,
    segment: Segment,
}

fn seed() -> u64 {
    std::env::var("WIRETAPE_SEED").map_or(1, |seed| seed.parse().expect("a number"))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An invented market, one or a few messages a packet. The heartbeats before it last longer than
/// any jitter here: a feed begins with what comes first, and the lines with theirs.
fn market() -> Vec<&'static str> {
    let fixed = "--sim --seed 11 --symbols 6 --pack-window 100us --messages 12k --lead-in 400 \
                 --no-heartbeats --end-packets 50 --quiet";
    fixed.split_whitespace().chain(["--group", LINES[0]]).collect()
}

/// A run of `scene`. Whatever it is like, what is published is the market without what is declared
/// lost, and the lines' counters are right.
fn run(test: &str, scene: &Scene) -> Option<Outcome> {
    let rig = Rig::split_network(test)?;
    let seed = seed();
    let middle = {
        let [a, b] = scene.lines.clone();
        let unicast = scene.server.clone().unwrap_or_default();
        MiddleBox::start(&rig, &[(LINES[0], a), (LINES[1], b)], unicast, seed)
    };
    rig.load_xdp(&LINES);
    let recovery = format!("recovery = [\"{SERVER}\"]\nrecovery_ms = 20000");
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\n\
         frames = 16384\n[[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{}\"\ngroup_b = \"{}\"\n\
         date = 2026-03-02\n{}\n{}",
        rig.segments.display(),
        rig.pins().display(),
        LINES[0],
        LINES[1],
        scene.feed,
        if scene.server.is_some() { &recovery } else { "" },
    );
    let mut capture = rig.start_capture(&rig.config("capture.toml", &text), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = segment.view().expect("a sound segment");

    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.args(market()).args(["--line-b", LINES[1], "--udp", "--interface", WIRE]);
    exchange.args(["--rate", "20000/s", "--json"]);
    if scene.server.is_some() {
        exchange.args(["--rerequest", SERVER, "--linger", "60s"]);
    }
    let exchange = Process::start(&mut exchange);
    wait_for("the end of the session", || {
        capture.expect_alive();
        view.feed(0).and_then(|feed| feed.session().ok()).is_some_and(|session| session.ended)
    });
    if scene.server.is_some() {
        // Nobody asks any more.
        exchange.signal(libc::SIGTERM);
    }
    let said = exchange.wait();
    assert!(said.status.success(), "{}", rig::text(&said));
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let sent = said["packets"].as_u64().expect("a number of packets");

    wait_for("the box to pass what was sent", || {
        let report = middle.report();
        let came: u64 = report.lines.iter().map(|line| line.packets).sum();
        came == sent && report.waiting == 0
    });
    let report = middle.report();
    assert_eq!(report.missed, 0, "the box lost frames against its intention");
    let lines = report.lines;
    wait_for("what was passed", || {
        let ledger = Ledger::read(&view.counters(), true);
        assert_eq!(ledger.lost(), 0, "capture did not keep up: {ledger:?}");
        let came = |line: usize| view.line(0, line).unwrap().counter(LineCounter::Packets);
        [0, 1].iter().all(|line| came(*line) == lines[*line].forwarded)
    });
    capture.stop();

    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
    // A line begins with the first packet that comes.
    for (line, account) in lines.iter().enumerate().filter(|(_, line)| line.forwarded > 0) {
        let block = view.line(0, line).unwrap();
        let counted = (block.lost(), block.counter(LineCounter::Duplicates));
        let happened = (account.dropped_messages(), account.doubled);
        assert_eq!(counted, happened, "lost and doubled on line {line}, seed {seed}");
    }
    let events = events(&view);
    let lost: Vec<_> = events.iter().filter_map(lost_range).collect();
    let lost = merged(&lost);
    assert_eq!(digest(&events), market_without(&lost), "without {lost:?}, seed {seed}");
    Some(Outcome { lines, lost, segment })
}

fn lost_range(event: &Event) -> Option<Range<u64>> {
    let gap = (event.header().rtype == rtype::GAP).then(|| event.get::<GapMsg>())??;
    Some(gap.first_seq..gap.end_seq)
}

/// The digest of the market as a capture file has it in which the packets with the messages `lost`
/// are missing.
fn market_without(lost: &[Range<u64>]) -> String {
    let rig = Rig::offline("clean");
    let pcap = rig.work.join("clean.pcap");
    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.args(market()).arg("--write").arg(&pcap);
    if !lost.is_empty() {
        let ranges = lost.iter().map(|range| format!("{}-{}", range.start, range.end - 1));
        exchange.args(["--lose", &ranges.collect::<Vec<_>>().join(",")]);
    }
    succeed(&mut exchange);
    let mut capture = rig.capture("wiretape-capture");
    capture.arg("--pcap").arg(&pcap).arg("--segment-dir").arg(&rig.segments);
    let feed = format!("itch50-moldudp64@{}", LINES[0]);
    succeed(capture.args(["--name", "clean", "--feed", &feed, "--date", "2026-03-02"]));
    let segment = Segment::attach(&rig.segment("clean")).expect("the segment");
    digest(&events(&segment.view().expect("a sound segment")))
}

#[test]
fn all_at_once_on_both_lines_changes_no_event() {
    let a = Impairment {
        delay: ms(3),
        jitter: ms(2),
        loss: 0.08,
        duplicate: 0.05,
        copy_delay: ms(1),
        ..Impairment::default()
    };
    let b = Impairment {
        delay: ms(2),
        jitter: ms(1),
        loss: 0.12,
        duplicate: 0.02,
        reorder: 0.25,
        ..Impairment::default()
    };
    let unicast = Impairment {
        delay: ms(2),
        jitter: ms(2),
        loss: 0.2,
        duplicate: 0.1,
        ..Impairment::default()
    };
    let scene =
        Scene { lines: [a, b], feed: "reorder_us = 20000".to_owned(), server: Some(unicast) };
    let Some(outcome) = run("boxall", &scene) else { return };
    assert_eq!(outcome.lost, []);
    let nowhere = in_both(&outcome.lines[0].dropped, &outcome.lines[1].dropped);
    let nowhere: u64 = nowhere.iter().map(|range| range.end - range.start).sum();
    let view = outcome.segment.view().unwrap();
    let recovered = view.line(0, RECOVERY_LINE).unwrap().counter(LineCounter::Taken);
    assert!(nowhere > 0 && recovered >= nowhere, "{nowhere} on no line, {recovered} recovered");
    assert!(view.feed(0).unwrap().counter(FeedCounter::HeldPackets) > 0);
}

#[test]
fn each_impairment_by_itself_changes_no_event() {
    let none = Impairment::default;
    let lines = [
        [Impairment { loss: 0.5, ..none() }, none()],
        [none(), Impairment { duplicate: 0.5, ..none() }],
        [Impairment { delay: ms(5), jitter: ms(5), ..none() }, Impairment { loss: 1.0, ..none() }],
        [Impairment { delay: ms(4), reorder: 0.3, ..none() }, Impairment { loss: 1.0, ..none() }],
    ];
    for (number, lines) in lines.into_iter().enumerate() {
        let scene = Scene { lines, feed: LONG.to_owned(), server: None };
        let Some(outcome) = run(&format!("boxone{number}"), &scene) else { return };
        assert_eq!(outcome.lost, [], "scene {number}");
    }
}

#[test]
fn what_the_box_drops_on_both_lines_is_reported_to_the_exact_range() {
    let a = Impairment { loss: 0.3, dead: vec![2_000..2_500], ..Impairment::default() };
    let b = Impairment { loss: 0.25, dead: vec![2_300..2_900], ..Impairment::default() };
    let scene = Scene { lines: [a, b], feed: LONG.to_owned(), server: None };
    let Some(outcome) = run("boxloss", &scene) else { return };
    let nowhere = in_both(&outcome.lines[0].dropped, &outcome.lines[1].dropped);
    assert_eq!(outcome.lost, nowhere, "seed {}", seed());
    assert!(nowhere.len() > 100, "{}", nowhere.len());
    let lost: u64 = nowhere.iter().map(|range| range.end - range.start).sum();
    let view = outcome.segment.view().unwrap();
    assert_eq!(view.feed(0).unwrap().counter(FeedCounter::LostMessages), lost);
}

#[test]
fn a_line_that_is_dead_for_a_while_and_then_the_other_changes_no_event() {
    let a = Impairment { dead: vec![2_000..5_000, 9_000..9_500], ..Impairment::default() };
    let b = Impairment { dead: vec![6_000..9_000, 9_500..11_000], ..Impairment::default() };
    let scene = Scene { lines: [a, b], feed: LONG.to_owned(), server: None };
    let Some(outcome) = run("boxdead", &scene) else { return };
    assert_eq!(outcome.lost, []);
    let dropped: Vec<_> = outcome.lines.iter().map(Account::dropped_messages).collect();
    assert!(dropped[0] >= 3_500 && dropped[1] >= 4_500, "{dropped:?}");
}

#[test]
fn what_comes_after_it_was_given_up_is_not_published() {
    // Second copies come long after the window let go, and line B as a whole when all is over.
    let a = Impairment {
        dead: (1..120).map(|n| n * 100..n * 100 + 2).collect(),
        duplicate: 0.3,
        copy_delay: ms(600),
        ..Impairment::default()
    };
    let b = Impairment { delay: ms(3_000), duplicate: 0.1, ..Impairment::default() };
    let scene = Scene { lines: [a, b], feed: "reorder_us = 20000".to_owned(), server: None };
    let Some(outcome) = run("boxlate", &scene) else { return };
    assert_eq!(outcome.lost, merged(&outcome.lines[0].dropped), "seed {}", seed());
    assert!(!outcome.lost.is_empty());
}

/// What the dice of `seed` make of a line.
fn diced(seed: u64, stream: u64) -> Impairment {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    let mut share = |most: f64| most * f64::from(random.next_u32()) / f64::from(u32::MAX);
    let delay = ms(8).mul_f64(share(1.0));
    let from = 200.0 + share(11_000.0);
    let dead = from as u64..(from + share(400.0)) as u64;
    Impairment {
        delay,
        jitter: delay.mul_f64(share(1.0)),
        loss: share(0.3),
        duplicate: share(0.3),
        copy_delay: ms(100).mul_f64(share(1.0)),
        reorder: share(0.3),
        dead: vec![dead],
    }
}

#[test]
fn dice_decide_what_the_network_does() {
    let lines = [diced(seed(), 10), diced(seed(), 11)];
    let server = Impairment { dead: vec![], ..diced(seed(), 12) };
    let scene = Scene { lines, feed: "reorder_us = 10000".to_owned(), server: Some(server) };
    let Some(outcome) = run("boxdice", &scene) else { return };
    assert_eq!(outcome.lost, [], "seed {}", seed());

    let scene = Scene { feed: LONG.to_owned(), server: None, ..scene };
    let Some(outcome) = run("boxdice", &scene) else { return };
    let nowhere = in_both(&outcome.lines[0].dropped, &outcome.lines[1].dropped);
    assert_eq!(outcome.lost, nowhere, "seed {}", seed());

    // Too little patience and room for this network: more is given up, and comes after that.
    let feed = "reorder_us = 2000\nreorder_packets = 40".to_owned();
    let Some(outcome) = run("boxdice", &Scene { feed, ..scene }) else { return };
    let nowhere = in_both(&outcome.lines[0].dropped, &outcome.lines[1].dropped);
    assert_eq!(in_both(&outcome.lost, &nowhere), nowhere, "seed {}", seed());
}
