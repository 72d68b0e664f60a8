//! `kill -9` of capture, of the host and of a reader: the others carry on or say what ended, and a
//! restart works without cleaning up by hand.

mod rig;

use std::time::Duration;

use rig::{FEED, Process, Rig, WIRE, binary, succeed, wait_for};
use wiretape_core::segment::{Counter, Ledger, State};
use wiretape_host::reader::segment::{Liveness, Segment};

const GROUP: &str = "233.54.12.111:26477";

fn config(rig: &Rig) -> std::path::PathBuf {
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = {:?}\nidle = \"yield\"\n\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = {:?}\n\n\
         [[feed]]\nname = \"sim\"\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\n",
        rig.segments,
        rig.pins(),
    );
    rig.config("capture.toml", &text)
}

/// A simulated feed that plays until it is stopped.
fn feed(rig: &Rig) -> Process {
    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.args(["--sim", "--udp", "--interface", WIRE, "--group", GROUP]);
    Process::start(exchange.args(["--rate", "2000/s", "--duration", "60s"]))
}

#[test]
fn capture_killed_and_started_again() {
    let Some(rig) = Rig::network("killc") else { return };
    rig.load_xdp(&[GROUP]);
    let config = config(&rig);
    let capture = rig.start_capture(&config, "wire");
    let exchange = feed(&rig);
    let old = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = old.view().expect("a sound segment");
    wait_for("events", || view.counters().get(Counter::Events) > 1_000);
    let mut reader = Process::start(&mut tail(&rig));
    let listed = || {
        let mut segments = std::process::Command::new(binary("wiretape"));
        succeed(segments.args(["segments", "--directory"]).arg(&rig.segments))
    };
    let is_silent = || matches!(old.liveness(), Liveness::Silent(_));
    capture.signal(libc::SIGSTOP);
    wait_for("silence", is_silent);
    assert!(listed().contains("stands still (silent for"), "{}", listed());
    capture.kill();

    // The old segment stays readable, and its silence shows.
    assert!(is_silent() && listed().contains("dead (silent for"), "{}", listed());
    let mut events = view.events().reader_from_oldest();
    assert!(matches!(events.next_event(), Ok(Some(_))));

    // Started again without cleaning up: a new epoch, and the old segment says what became of it.
    let capture = rig.start_capture(&config, "wire");
    wait_for("the end of the old epoch", || {
        matches!(old.liveness(), Liveness::Over(State::Superseded))
    });
    assert!(old.is_replaced());
    let new = Segment::attach(&rig.segment("wire")).expect("the new segment");
    let view = new.view().expect("a sound segment");
    assert_ne!(view.header().epoch(), old.view().expect("still mapped").header().epoch());
    wait_for("new events", || view.counters().get(Counter::Events) > 1_000);
    reader.expect_alive();
    exchange.stop();
    reader.signal(libc::SIGTERM);
    reader.wait();
    capture.stop();
    assert!(Ledger::read(&view.counters(), true).closes());
    assert_eq!(view.header().state(), State::Ended);
}

fn tail(rig: &Rig) -> std::process::Command {
    let mut tail = std::process::Command::new(binary("wiretape"));
    tail.args(["tail", "--json", "--segment"]).arg(rig.segment("wire"));
    tail
}

#[test]
fn readers_and_the_host_killed_do_not_disturb_capture() {
    let Some(rig) = Rig::network("killh") else { return };
    rig.load_xdp(&[GROUP]);
    let capture = rig.start_capture(&config(&rig), "wire");
    let socket = rig.work.join("host.sock");
    let host = || {
        let mut host = std::process::Command::new(binary("wiretape-host"));
        host.arg("--segment").arg(rig.segment("wire")).arg("--socket").arg(&socket);
        Process::start(&mut host)
    };
    let exchange = feed(&rig);
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = segment.view().expect("a sound segment");
    let events = || view.counters().get(Counter::Events);
    let (first, reader) = (host(), Process::start(&mut tail(&rig)));
    wait_for("events", || events() > 1_000);
    first.kill();
    reader.kill();
    let before = events();
    wait_for("more events", || events() > before + 1_000);

    // A second host starts on the stale socket and takes what the ring still holds.
    let second = host();
    let ask = || {
        let mut query = std::process::Command::new(binary("wiretape"));
        query.args(["query", "range", "--format", "csv", "--socket"]).arg(&socket);
        let output = query.output().expect("ask the host");
        if !output.status.success() {
            return 0;
        }
        output.stdout.iter().filter(|byte| **byte == b'\n').count() as u64
    };
    wait_for("the host's answer", || ask() > 1_000);
    exchange.stop();
    std::thread::sleep(Duration::from_millis(200));
    capture.stop();
    assert!(Ledger::read(&view.counters(), true).closes());
    second.stop();
    let status = succeed(
        std::process::Command::new(binary("wiretape"))
            .args(["status", "--json", "--segment"])
            .arg(rig.segment("wire")),
    );
    assert!(status.contains("ended"), "{status}");
}
