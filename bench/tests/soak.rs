//! A minute of packets as fast as the kernel's own generator sends them, with decode, book and
//! publishing behind the socket: nothing is lost, and with a recorder beside it nothing either.
//!
//! `make soak`. Takes some minutes, since the packets are built before they are sent: the generator
//! has one processor and the worker another. Where other work runs beside them packets are lost, as
//! they would be on a box without isolated processors.

mod rig;

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rig::{FEED, Process, Rig, WIRE, binary, succeed, text, wait_for};
use wiretape_core::segment::{Counter, FeedCounter, Ledger, SegmentView};
use wiretape_host::reader::Segment;

const GROUP: &str = "239.54.12.111:26477";
/// The worker's processor, and that of the generator and the recorder.
const WORKER: &str = "1";
const OTHERS: &str = "0";
/// How long packets are to be on the wire, without the time in which they are built.
const SENDING: Duration = Duration::from_secs(60);

/// One at a time.
static MACHINE: Mutex<()> = Mutex::new(());

#[derive(Default)]
struct Sent {
    packets: u64,
    messages: u64,
    seconds: f64,
}

/// Three million small packets, a session of their own.
fn session(rig: &Rig, number: u32) -> Sent {
    let mut exchange = rig.exchange_tool("taskset");
    exchange.args(["-c", OTHERS]).arg(binary("wiretape-exchange"));
    let fixed = "--sim --symbols 6 --messages 3M --max-payload 200 --pack-window 0us --speed max \
                 --ahead 2048 --live-frames --json --quiet --no-heartbeats";
    exchange.args(fixed.split_whitespace()).args(["--interface", WIRE, "--group", GROUP]);
    let said = succeed(exchange.args(["--session", &format!("SOAK{number:06}")]));
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let count = |name: &str| said[name].as_u64().unwrap_or_else(|| panic!("no {name}: {said}"));
    let seconds = count("elapsed_ns") as f64 / 1e9;
    Sent { packets: count("packets"), messages: count("messages"), seconds }
}

fn start(rig: &Rig, source: &str) -> (Process, Segment) {
    rig.load_xdp(&[GROUP]);
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\ncore = {WORKER}\nwake_ms = 0\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\nframes = 65536\n\
         {source}[[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\n\
         date = 2026-03-02\nmax_orders = 1000000\nmax_levels = 100000\n",
        rig.segments.display(),
        rig.pins().display(),
    );
    let capture = rig.start_capture(&rig.config("capture.toml", &text), "wire");
    (capture, Segment::attach(&rig.segment("wire")).expect("the segment"))
}

/// Sends session after session for a minute; after each the ledger must close without a loss.
fn minute(rig: &Rig, view: &SegmentView<'_>) -> Sent {
    let mut sum = Sent::default();
    for number in 1.. {
        let sent = session(rig, number);
        sum.packets += sent.packets;
        sum.messages += sent.messages;
        sum.seconds += sent.seconds;
        wait_for("the ledger to close", || {
            let ledger = Ledger::read(&view.counters(), true);
            ledger.redirected == Some(sum.packets) && ledger.closes()
        });
        let ledger = Ledger::read(&view.counters(), true);
        assert_eq!(ledger.lost(), 0, "in session {number}: {ledger:?}");
        if sum.seconds >= SENDING.as_secs_f64() {
            break;
        }
    }
    let feed = view.feed(0).expect("the feed");
    assert_eq!(view.counters().get(Counter::Frames), sum.packets);
    assert_eq!(feed.counter(FeedCounter::Messages), sum.messages);
    assert_eq!((feed.counter(FeedCounter::Gaps), feed.counter(FeedCounter::BookErrors)), (0, 0));
    println!("{} packets in {:.1} s, none lost", sum.packets, sum.seconds);
    sum
}

#[test]
#[ignore = "a minute of packets: make soak"]
fn a_minute_at_the_generator_s_full_speed_loses_nothing() {
    let _alone = MACHINE.lock();
    let Some(rig) = Rig::network("soak") else { return };
    let (capture, segment) = start(&rig, "");
    minute(&rig, &segment.view().expect("a sound segment"));
    capture.stop();
}

#[test]
#[ignore = "a minute of packets: make soak"]
fn a_recorder_beside_it_takes_nothing_from_capture_and_counts_every_packet() {
    let _alone = MACHINE.lock();
    let Some(rig) = Rig::network("soakrec") else { return };
    let (capture, segment) = start(&rig, "retain_frames = 16384\n");
    let output = rig.work.join("pcap");
    let recorder = record(&rig, &output);
    let sent = minute(&rig, &segment.view().expect("a sound segment"));
    capture.stop();
    let ended = recorder.wait();
    let said = text(&ended);
    let object = said.lines().find(|line| line.starts_with('{')).expect("a JSON object");
    let object: serde_json::Value = serde_json::from_str(object).expect("JSON");
    let count = |name: &str| object[name].as_u64().unwrap_or_else(|| panic!("no {name}: {said}"));
    let (recorded, missed) = (count("frames"), count("missed"));
    println!("{recorded} recorded, {missed} missed");
    assert_eq!(recorded + missed, sent.packets, "{said}");
    assert!(recorded > 0);
}

/// A recorder that keeps the files of the last moments, so that any disk will do.
fn record(rig: &Rig, output: &Path) -> Process {
    let mut command = Command::new("taskset");
    command.args(["-c", OTHERS]).arg(binary("wiretape"));
    command.args(["record", "--until-end", "--json", "--rotate-mib", "256", "--keep", "2"]);
    command.arg("--segment").arg(rig.segment("wire")).arg("--output").arg(output);
    Process::start(&mut command)
}
