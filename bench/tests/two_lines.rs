//! Lines A and B over a network that misbehaves: the exchange's packets through `tc netem`, one
//! queue a line, XDP and capture. As long as one line or the re-request server brings a message it
//! is published, and the events are those of an undisturbed run; what nobody brings is reported to
//! the exact range.

mod rig;

use rig::published::{digest, events};
use rig::{FEED, Rig, WIRE, succeed, wait_for};
use wiretape_core::event::{Event, GapMsg, rtype};
use wiretape_core::segment::{FeedCounter, Ledger, LineCounter, RECOVERY_LINE};
use wiretape_host::reader::Segment;

const LINE_A: &str = "239.54.12.111:26477";
const LINE_B: &str = "239.54.12.112:26477";
/// Where the exchange answers re-requests: its end of the veth pair.
const SERVER: &str = "10.77.0.1:26400";

/// What a run is like.
#[derive(Default)]
struct Run<'r> {
    /// `tc netem` of line A and of line B.
    netem: [&'r str; 2],
    /// More arguments of the exchange.
    exchange: &'r [&'r str],
    /// More lines of the feed's configuration.
    feed: &'r str,
}

/// What came of it.
struct Outcome {
    digest: String,
    lost: Vec<(u64, u64)>,
    segment: Segment,
}

/// An invented market of `messages` messages, one or a few a packet.
fn market(messages: &str) -> Vec<&str> {
    let fixed = "--sim --seed 11 --symbols 6 --pack-window 100us";
    let mut arguments: Vec<&str> = fixed.split(' ').collect();
    arguments.extend(["--messages", messages, "--lead-in", "20", "--quiet"]);
    arguments.extend(["--group", LINE_A]);
    arguments
}

/// Impairs each line by itself: multicast groups go to queues of their own.
fn impair(rig: &Rig, netem: [&str; 2]) -> bool {
    let tc = |arguments: &str| {
        let mut command = rig.exchange_tool("tc");
        command.args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
    };
    let priomap = "0 ".repeat(16);
    let mut done =
        tc(&format!("qdisc add dev {WIRE} root handle 1: prio bands 4 priomap {}", priomap.trim()));
    for (line, band) in
        [(LINE_A, 2), (LINE_B, 3)].into_iter().zip(netem).map(|((l, b), n)| ((l, n), b))
    {
        let (address, what) = (line.0.split(':').next().unwrap_or_default(), line.1);
        if what.is_empty() {
            continue;
        }
        done &= tc(&format!("qdisc add dev {WIRE} parent 1:{band} netem limit 100000 {what}"));
        done &= tc(&format!(
            "filter add dev {WIRE} parent 1: protocol ip u32 match ip dst {address}/32 flowid 1:{band}"
        ));
    }
    done
}

fn run(test: &str, messages: &str, run: &Run<'_>) -> Option<Outcome> {
    let rig = Rig::network(test)?;
    if run.netem != ["", ""] && !impair(&rig, run.netem) {
        println!("skipped: this kernel has no netem, or no prio queue or u32 filter");
        return None;
    }
    rig.load_xdp(&[LINE_A, LINE_B]);
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\nframes = 32768\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{LINE_A}\"\ngroup_b = \"{LINE_B}\"\n\
         date = 2026-03-02\n{}",
        rig.segments.display(),
        rig.pins().display(),
        run.feed
    );
    let mut capture = rig.start_capture(&rig.config("capture.toml", &text), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");

    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.args(market(messages)).args(["--line-b", LINE_B, "--udp", "--interface", WIRE]);
    exchange.args(["--rate", "20000/s", "--end-packets", "50"]).args(run.exchange);
    succeed(&mut exchange);
    capture.expect_alive();
    let feed = || segment.view().and_then(|view| view.feed(0)).expect("the feed");
    wait_for("the end of the session", || feed().session().is_ok_and(|session| session.ended));
    capture.stop();

    let view = segment.view().expect("a sound segment");
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes(), "{ledger:?}");
    assert_eq!(ledger.lost(), 0, "{ledger:?}");
    let events = events(&view);
    let lost = events.iter().filter_map(lost_range).collect();
    Some(Outcome { digest: digest(&events), lost, segment })
}

fn lost_range(event: &Event) -> Option<(u64, u64)> {
    let gap = (event.header().rtype == rtype::GAP).then(|| event.get::<GapMsg>())??;
    Some((gap.first_seq, gap.end_seq))
}

/// The digest of the market as a capture file has it.
fn undisturbed(messages: &str) -> String {
    let rig = Rig::offline("clean");
    let pcap = rig.work.join("clean.pcap");
    let mut exchange = rig.exchange("wiretape-exchange");
    succeed(exchange.args(market(messages)).arg("--write").arg(&pcap));
    let mut capture = rig.capture("wiretape-capture");
    capture.arg("--pcap").arg(&pcap).arg("--segment-dir").arg(&rig.segments);
    let feed = format!("itch50-moldudp64@{LINE_A}");
    succeed(capture.args(["--name", "clean", "--feed", &feed, "--date", "2026-03-02"]));
    let segment = Segment::attach(&rig.segment("clean")).expect("the segment");
    digest(&events(&segment.view().expect("a sound segment")))
}

#[test]
fn what_one_line_loses_the_other_brings() {
    let Some(outcome) = run(
        "oneline",
        "12k",
        &Run {
            exchange: &["--lose-a", "500-2500,7000", "--lose-b", "3000-3100"],
            ..Run::default()
        },
    ) else {
        return;
    };
    assert_eq!((outcome.lost, outcome.digest), (vec![], undisturbed("12k")));
    let view = outcome.segment.view().unwrap();
    let lost = [0, 1].map(|line| view.line(0, line).unwrap().lost());
    assert!((2_001..2_030).contains(&lost[0]) && (101..120).contains(&lost[1]), "{lost:?}");
    for line in [0, 1] {
        let late = view.line(0, line).unwrap().lateness().unwrap();
        assert!(late.count() > 0 || line == 0, "line {line}");
    }
}

#[test]
fn a_network_that_misbehaves_on_both_lines_changes_no_event() {
    let netem = [
        "delay 300us 200us loss 4% duplicate 3%",
        "delay 200us reorder 25% 50% loss 6% duplicate 1%",
    ];
    let feed = format!("reorder_us = 20000\nrecovery = [\"{SERVER}\"]\nrecovery_ms = 10000");
    let exchange = ["--rerequest", SERVER, "--linger", "1s", "--lose", "4000-4200"];
    let Some(outcome) = run("netem", "12k", &Run { netem, exchange: &exchange, feed: &feed })
    else {
        return;
    };
    assert_eq!((outcome.lost, outcome.digest), (vec![], undisturbed("12k")));
    let view = outcome.segment.view().unwrap();
    let (feed, recovery) = (view.feed(0).unwrap(), view.line(0, RECOVERY_LINE).unwrap());
    assert!(recovery.counter(LineCounter::Taken) >= 201);
    assert!(feed.counter(FeedCounter::HeldPackets) > 0);
    for line in [0, 1] {
        let line = view.line(0, line).unwrap();
        assert!(line.lost() > 0 && line.counter(LineCounter::Duplicates) > 0);
    }
}

#[test]
fn lines_that_lose_double_and_reorder_change_no_event() {
    let feed = format!("reorder_us = 20000\nrecovery = [\"{SERVER}\"]\nrecovery_ms = 10000");
    let exchange = [
        ["--impair-a", "loss=4%,duplicate=3%,reorder=20%:6"],
        ["--impair-b", "loss=6%,duplicate=1%,reorder=30%:12,delay=15"],
        ["--rerequest", SERVER],
        ["--linger", "1s"],
        ["--lose", "4000-4200"],
    ];
    let run_of = Run { exchange: &exchange.concat(), feed: &feed, ..Run::default() };
    let Some(outcome) = run("impaired", "12k", &run_of) else { return };
    assert_eq!((outcome.lost, outcome.digest), (vec![], undisturbed("12k")));
    let view = outcome.segment.view().unwrap();
    let recovery = view.line(0, RECOVERY_LINE).unwrap();
    assert!(recovery.counter(LineCounter::Taken) >= 201);
    assert!(view.feed(0).unwrap().counter(FeedCounter::HeldPackets) > 0);
    for line in [0, 1] {
        let line = view.line(0, line).unwrap();
        assert!(line.lost() > 0 && line.counter(LineCounter::Duplicates) > 0);
        assert!(line.counter(LineCounter::Filled) > 0);
    }
}

#[test]
fn what_nobody_brings_is_reported_to_the_exact_range() {
    let lose = ["--lose", "100-120,500,6001-6300", "--messages-per-packet", "1"];
    let feed = "reorder_us = 20000\nrecovery = [\"10.77.0.1:9\", \"10.77.0.1:10\"]\n\
                recovery_ms = 300";
    let run = run("exact", "8k", &Run { exchange: &lose, feed, ..Run::default() });
    let Some(outcome) = run else { return };
    assert_eq!(outcome.lost, [(100, 121), (500, 501), (6001, 6301)]);
    let view = outcome.segment.view().unwrap();
    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::LostMessages), 322);
    assert_eq!(feed.counter(FeedCounter::RequestedMessages), 322);
    assert!(feed.counter(FeedCounter::RecoveryTimeouts) > 0);
    assert_eq!(feed.counter(FeedCounter::RecoveryAnswers), 0);
    assert!(feed.session().unwrap().maybe_bad_book);
}
