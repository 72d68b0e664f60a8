//! Jumbo frames: datagrams of 8,000 bytes over a veth with a large MTU, in frames of 2 KiB and of
//! 4 KiB, give the events that the same datagrams give from a file.

mod rig;

use std::process::Command;

use rig::{FEED, Rig, WIRE, binary, succeed, wait_for};
use wiretape_core::segment::{Counter, Ledger};
use wiretape_host::reader::Segment;

const GROUP: &str = "239.54.12.111:26477";

fn market(command: &mut Command) {
    let fixed = "--sim --seed 11 --symbols 6 --messages 60000 --pack-window 100ms --lead-in 20";
    command.args(fixed.split(' ')).args(["--max-payload", "8000", "--quiet", "--group", GROUP]);
}

fn digest(rig: &Rig, worker: &str) -> serde_json::Value {
    let mut command = Command::new(binary("wiretape"));
    let text = succeed(command.args(["digest", "--json", "--segment"]).arg(rig.segment(worker)));
    let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    object["digest"].clone()
}

fn set_mtu(rig: &Rig, mtu: &str) {
    for (tool, device) in [(rig.exchange_tool("ip"), WIRE), (rig.capture_tool("ip"), FEED)] {
        let mut tool = tool;
        succeed(tool.args(["link", "set", device, "mtu", mtu]));
    }
}

fn config(rig: &Rig, frame_size: u32) -> String {
    format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\n\
         frame_size = {frame_size}\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\ndate = 2026-03-02\n",
        rig.segments.display(),
        rig.pins().display(),
    )
}

/// Sends the market to a capture, to its end.
fn send(rig: &Rig, segment: &Segment) {
    let mut exchange = rig.exchange("wiretape-exchange");
    market(&mut exchange);
    exchange.args(["--udp", "--interface", WIRE, "--rate", "5000/s", "--end-packets", "20"]);
    succeed(&mut exchange);
    let view = segment.view().expect("a sound segment");
    wait_for("the end of the session", || {
        view.feed(0).and_then(|feed| feed.session().ok()).is_some_and(|session| session.ended)
    });
}

fn capture(test: &str, mtu: &str, frame_size: u32) {
    let Some(rig) = Rig::network(test) else { return };
    set_mtu(&rig, mtu);
    rig.load_xdp(&[GROUP]);
    let config = rig.config("capture.toml", &config(&rig, frame_size));
    let capture = rig.start_capture(&config, "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    send(&rig, &segment);
    let view = segment.view().expect("a sound segment");
    let said = capture.stop();
    assert!(said.contains("packets of several frames"), "{said}");
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
    let mean = view.counters().get(Counter::FrameBytes) / view.counters().get(Counter::Frames);
    assert!(mean > 2_048, "{mean} bytes a packet need no second frame");

    let pcap = rig.work.join("jumbo.pcap");
    let mut exchange = rig.exchange("wiretape-exchange");
    market(&mut exchange);
    succeed(exchange.arg("--write").arg(&pcap));
    let mut replay = rig.capture("wiretape-capture");
    replay.arg("--pcap").arg(&pcap).arg("--segment-dir").arg(&rig.segments);
    let feed = format!("itch50-moldudp64@{GROUP}");
    succeed(replay.args(["--name", "file", "--feed", &feed, "--date", "2026-03-02"]));
    assert_eq!(digest(&rig, "wire"), digest(&rig, "file"));
}

#[test]
fn datagrams_longer_than_a_frame_are_put_together() {
    capture("jumbo2", "9000", 2048);
    capture("jumbo4", "9000", 4096);
}

#[test]
fn packets_that_an_mtu_raised_meanwhile_lets_through_are_told_of_once() {
    let Some(rig) = Rig::network("raised") else { return };
    rig.load_xdp(&[GROUP]);
    let capture = rig.start_capture(&rig.config("capture.toml", &config(&rig, 2048)), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let lost = || {
        let view = segment.view().expect("a sound segment");
        Ledger::read(&view.counters(), true).lost()
    };
    set_mtu(&rig, "9000");
    send(&rig, &segment);
    // The control thread looks ten times a second.
    wait_for("packets that were dropped", || lost() > 0);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let said = capture.stop();
    assert_eq!(said.matches("are longer than a frame").count(), 1, "{said}");
    assert!(said.contains("restart this capture"), "{said}");
}
