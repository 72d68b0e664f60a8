//! More than a worker can take, as fast as the kernel's own generator sends it: what is lost is
//! counted to the packet and to the message, and what comes a moment later is not lost.

mod rig;

use std::time::Instant;

use rig::{FEED, Rig, WIRE, succeed, wait_for};
use wiretape_core::segment::{Counter, FeedCounter, Ledger, SegmentView};
use wiretape_host::reader::Segment;

const GROUP: &str = "239.54.12.111:26477";

/// What the exchange sent.
#[derive(Clone, Copy)]
struct Sent {
    packets: u64,
    messages: u64,
}

fn send(rig: &Rig, arguments: &str) -> Sent {
    let mut exchange = rig.exchange("wiretape-exchange");
    let fixed = "--sim --symbols 6 --live-frames --json --quiet --end-packets 0 --no-heartbeats";
    exchange.args(fixed.split(' ')).args(["--interface", WIRE, "--group", GROUP]);
    let said = succeed(exchange.args(arguments.split(' ')));
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let number = |name: &str| said[name].as_u64().unwrap_or_else(|| panic!("no {name}: {said}"));
    Sent { packets: number("packets"), messages: number("messages") }
}

/// Whether all that was redirected is accounted for.
fn is_still(view: &SegmentView<'_>, sent: u64) -> bool {
    let ledger = Ledger::read(&view.counters(), true);
    ledger.redirected == Some(sent) && ledger.closes()
}

#[test]
fn a_flood_is_counted_to_the_packet_and_over_as_soon_as_it_ends() {
    let Some(rig) = Rig::network("flood") else { return };
    rig.load_xdp(&[GROUP]);
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"yield\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\nframes = 1024\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\ndate = 2026-03-02\n\
         max_orders = 1000000\nmax_levels = 100000\n",
        rig.segments.display(),
        rig.pins().display(),
    );
    let capture = rig.start_capture(&rig.config("capture.toml", &text), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = segment.view().expect("a sound segment");
    let feed = view.feed(0).expect("the feed");
    let lost = || Ledger::read(&view.counters(), true).lost();

    let flood = send(&rig, "--messages 2M --pack-window 10ms --ahead 256 --speed max");
    let over = Instant::now();
    wait_for("the ledger to close", || is_still(&view, flood.packets));
    let lost_in_flood = lost();
    println!("{lost_in_flood} of {} packets lost", flood.packets);
    assert!(lost_in_flood > 0, "1,024 frames held {} packets", flood.packets);
    assert_eq!(view.counters().get(Counter::Frames) + lost_in_flood, flood.packets);

    // The same session goes on: how much of it is missing is known with the next packet.
    let next = (flood.messages + 1).to_string();
    let calm =
        format!("--seed 2 --first-sequence {next} --messages 2000 --pack-window 0us --rate 5000/s");
    let calm = send(&rig, &calm);
    println!("sent {:?} after the flood", over.elapsed());
    wait_for("the ledger to close", || is_still(&view, flood.packets + calm.packets));
    assert_eq!(lost(), lost_in_flood, "something is lost after the flood");
    let (messages, missing) =
        (feed.counter(FeedCounter::Messages), feed.counter(FeedCounter::LostMessages));
    assert_eq!(messages + missing, flood.messages + calm.messages);
    assert!(missing > 0 && feed.counter(FeedCounter::Gaps) > 0);
    assert!(feed.session().expect("the session").maybe_bad_book, "books that lost messages say so");
    capture.stop();
}
