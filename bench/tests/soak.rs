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

/// How long a virtual machine's host has kept the worker's processor for others, in ticks of 10 ms.
fn stolen() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let name = format!("cpu{WORKER} ");
    let line = stat.lines().find(|line| line.starts_with(&name)).expect("the worker's processor");
    line.split_whitespace().nth(8).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// Sends session after session for a minute; after each the ledger must close, and nothing be lost
/// but where the host of a virtual machine took the worker's processor away: such a session is told
/// of and does not count towards the minute.
fn minute(rig: &Rig, view: &SegmentView<'_>) -> Sent {
    let (mut sum, mut counted, mut lost) = (Sent::default(), 0.0, 0);
    for number in 1..100 {
        let before = stolen();
        let sent = session(rig, number);
        sum.packets += sent.packets;
        sum.messages += sent.messages;
        sum.seconds += sent.seconds;
        wait_for("the ledger to close", || {
            let ledger = Ledger::read(&view.counters(), true);
            ledger.redirected == Some(sum.packets) && ledger.closes()
        });
        let ledger = Ledger::read(&view.counters(), true);
        let taken_away = stolen() - before;
        match ledger.lost() - lost {
            0 => counted += sent.seconds,
            now if taken_away > 0 => {
                lost += now;
                println!("session {number}: {now} lost, {taken_away}0 ms without a processor");
            }
            now => panic!("{now} lost in session {number}: {ledger:?}"),
        }
        if counted >= SENDING.as_secs_f64() {
            break;
        }
    }
    assert!(counted >= SENDING.as_secs_f64(), "{counted} s of a machine of its own");
    let feed = view.feed(0).expect("the feed");
    assert_eq!(view.counters().get(Counter::Frames) + lost, sum.packets);
    let taken = feed.counter(FeedCounter::Messages) + feed.counter(FeedCounter::LostMessages);
    // What a session lost at its end nobody can know.
    assert!(if lost == 0 { taken == sum.messages } else { taken <= sum.messages }, "{taken}");
    assert!(lost > 0 || feed.counter(FeedCounter::Gaps) == 0);
    let rate = sum.packets as f64 / sum.seconds / 1e6;
    println!("{} packets, {rate:.2} M/s, {counted:.1} s in which none was lost", sum.packets);
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
    let frames = segment.view().expect("a sound segment").counters().get(Counter::Frames);
    println!("{frames} of {} taken", sent.packets);
    assert_eq!(recorded + missed, frames, "{said}");
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
