//! Receive times of the NIC, from the XDP program to the events, the recorders' frames and the
//! ledger: on a veth whose driver has none, and with a clock in the place of a NIC that stamps.

mod rig;

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use libbpf_rs::MapHandle;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use rig::{FEED, Process, Rig, WIRE, binary, fail, succeed, wait_for};
use wiretape_capture::clock::tai_ahead_ns;
use wiretape_capture::frames_file::frames_path;
use wiretape_capture::nic_stamps::STAMP_MAGIC;
use wiretape_capture::segment_file::MappedWords;
use wiretape_core::frames::FramesReader;
use wiretape_core::segment::{Counter, Ledger};
use wiretape_host::reader::Segment;
use wiretape_xdp::Steering;

mod skeleton {
    #![allow(missing_docs, unused_imports, dead_code, clippy::all)]
    #![allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
    include!(concat!(env!("OUT_DIR"), "/clock_stamps.skel.rs"));
}
use skeleton::ClockStampsSkelBuilder;

const GROUP: &str = "239.54.12.111:26477";
const RETAINED: u32 = 8_192;

fn load(rig: &Rig, arguments: &[&str]) {
    let mut load = rig.capture("wiretape-xdp");
    load.args(["load", "--interface", FEED, "--group", GROUP, "--pin-dir"]).arg(rig.pins());
    succeed(load.args(arguments));
}

fn config(rig: &Rig, source: &str) -> PathBuf {
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\n{source}\n\
         [[feed]]\nname = \"sim\"\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\n\
         date = 2026-03-02\n",
        rig.segments.display(),
        rig.pins().display(),
    );
    rig.config("capture.toml", &text)
}

/// Sends a day of messages, and waits until all of it was taken.
fn exchange(rig: &Rig, segment: &Segment, arguments: &str) {
    let mut exchange = rig.exchange("wiretape-exchange");
    let fixed = "--sim --seed 11 --symbols 6 --lead-in 20 --quiet --udp --rate 20000/s";
    exchange.args(fixed.split(' ')).args(arguments.split(' '));
    exchange.args(["--group", GROUP, "--interface", WIRE, "--end-packets", "20"]);
    succeed(&mut exchange);
    let steering = Steering::at(&rig.pins(), FEED);
    wait_for("all packets", || {
        // Read from another network namespace, which is told the counters alone.
        let redirected = steering.status().expect("the program's status").total.redirected;
        let view = segment.view().expect("a sound segment");
        view.counters().get(Counter::Frames) == redirected
    });
}

/// Frames, and how many have the NIC's time, none of it, and one that was refused; and what was said.
fn stop(capture: Process, segment: &Segment) -> ([u64; 4], String) {
    let said = capture.stop();
    let view = segment.view().expect("a sound segment");
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
    let of = |counter| view.counters().get(counter);
    let counts =
        [Counter::Frames, Counter::NicStamped, Counter::NicUnstamped, Counter::NicRefused].map(of);
    let queue = view.queues().next().expect("a queue").counters();
    for (counter, count) in [
        (Counter::Frames, counts[0]),
        (Counter::NicStamped, counts[1]),
        (Counter::NicUnstamped, counts[2]),
        (Counter::NicRefused, counts[3]),
    ] {
        assert_eq!(queue.get(counter), count, "{} of the queue", counter.name());
    }
    (counts, said)
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    u64::try_from(since.as_nanos()).expect("a time before 2554")
}

/// Puts a program in the place of the loaded one that has a clock in the place of the driver.
fn stamp_by_clock(rig: &Rig) {
    let kernel = |clock| {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the structure is valid to write to for the call.
        assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut now) }, 0);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    };
    let (utc, tai) = (kernel(libc::CLOCK_REALTIME), kernel(libc::CLOCK_TAI));
    let whole_seconds = (tai - utc) / 1_000_000_000 * 1_000_000_000;

    let steering = Steering::at(&rig.pins(), FEED);
    let mut storage = MaybeUninit::uninit();
    let mut open = ClockStampsSkelBuilder::default().open(&mut storage).expect("the object");
    let rodata = open.maps.rodata_data.as_deref_mut().expect("constants");
    rodata.kernel_tai_ahead_ns = whole_seconds;
    rodata.nic_tai_ahead_ns = tai_ahead_ns();
    open.progs.steer.set_flags(libbpf_rs::libbpf_sys::BPF_F_XDP_HAS_FRAGS);
    let pins = steering.pins();
    let pinned = |path| MapHandle::from_pinned_path(path).expect("a pinned map");
    open.maps.xsks.reuse_fd(pinned(pins.xsks()).as_fd()).expect("sockets");
    open.maps.groups.reuse_fd(pinned(pins.groups()).as_fd()).expect("groups");
    open.maps.counters.reuse_fd(pinned(pins.counters()).as_fd()).expect("counters");
    let loaded = open.load().expect("the program");
    let mut link = libbpf_rs::Link::open(pins.link()).expect("the pinned link");
    link.update_prog(&loaded.progs.steer).expect("the program in place");
}

#[test]
fn the_words_are_the_same_on_both_sides() {
    assert_eq!(STAMP_MAGIC, wiretape_xdp::stamps::STAMP_MAGIC);
}

#[test]
fn a_driver_without_times_leaves_packets_to_the_hosts_clock_and_each_is_counted() {
    let Some(rig) = Rig::network("nost") else { return };
    load(&rig, &["--receive-stamps"]);
    let capture = rig.start_capture(&config(&rig, "receive_stamps = \"nic\""), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let begin = now_ns();
    exchange(&rig, &segment, "--messages 3000");
    let mut replace = rig.capture("wiretape-xdp");
    succeed(replace.args(["replace", "--interface", FEED, "--pin-dir"]).arg(rig.pins()));
    exchange(&rig, &segment, "--messages 3000");
    let end = now_ns();

    let mut status = rig.capture("wiretape");
    let shown = succeed(status.args(["status", "--segment"]).arg(rig.segment("wire")));
    assert!(shown.contains("the NIC's receive times"), "{shown}");
    assert!(shown.contains("receive times: 0 of the NIC"), "{shown}");
    let ([frames, stamped, unstamped, refused], said) = stop(capture, &segment);
    assert!(frames > 1_000, "{frames}");
    let warnings = said.matches(&format!("the NIC of {FEED} stamped none")).count();
    assert_eq!(warnings, 1, "{said}");
    assert_eq!((stamped, unstamped, refused), (0, frames, 0));
    let total = Steering::at(&rig.pins(), FEED).status().expect("the program's status").total;
    assert_eq!((total.redirected, total.stamped, total.unstamped), (frames, 0, frames));

    let view = segment.view().expect("a sound segment");
    let mut reader = view.events().reader_from_oldest();
    let mut events = 0;
    while let Some((_, event)) = reader.next_event().expect("the ring holds every event") {
        let at = event.ts_recv();
        assert!((begin..=end).contains(&at), "{at} is not in {begin}..={end}");
        events += 1;
    }
    assert!(events > 3_000, "{events}");
}

#[test]
fn the_nics_time_is_that_of_the_event_and_of_the_recorded_frame() {
    let Some(rig) = Rig::network("clock") else { return };
    load(&rig, &["--receive-stamps"]);
    stamp_by_clock(&rig);
    let source = format!("receive_stamps = \"nic\"\nframes = 16384\nretain_frames = {RETAINED}");
    let capture = rig.start_capture(&config(&rig, &source), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let begin = now_ns();
    exchange(&rig, &segment, "--messages 6000 --pack-window 100us");
    let end = now_ns();

    // What a recorder finds.
    let path = frames_path(&rig.segments, "wire");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("frames");
    let bytes = file.metadata().expect("its size").len() as usize;
    let words = MappedWords::map(&file, bytes).expect("the frames");
    let mut reader = FramesReader::attach(words.words(), 0).expect("sound frames");
    let (mut times, mut frame) = (Vec::new(), [0; 2048]);
    while let Some(found) = reader.read(&mut frame).expect("no frame is missed") {
        times.push(found.ts_recv);
    }
    let ([frames, stamped, unstamped, refused], said) = stop(capture, &segment);
    assert!(!said.contains("host's time"), "{said}");
    assert_eq!(times.len() as u64, frames, "all frames are kept");
    assert!(frames > 1_000 && frames < u64::from(RETAINED), "{frames}");
    assert_eq!(stamped + unstamped + refused, frames);
    let quarter = frames / 4;
    assert!(stamped.abs_diff(2 * quarter) <= 2, "{stamped} of {frames}");
    assert!(unstamped.abs_diff(quarter) <= 1, "{unstamped} of {frames}");
    assert!(refused.abs_diff(quarter) <= 1, "{refused} of {frames}");
    let total = Steering::at(&rig.pins(), FEED).status().expect("the program's status").total;
    assert_eq!((total.stamped, total.unstamped), (stamped + refused, unstamped));

    // Clocks are read in two ways here, and kept together once a second.
    const APART_NS: u64 = 2_000_000;
    let mut last_stamp = begin;
    for (number, at) in times.iter().enumerate() {
        assert!((begin - APART_NS..=end + APART_NS).contains(at), "{at} of packet {number}");
        if number % 4 < 2 {
            assert!(*at > last_stamp, "each packet has a time of its own, {number} has {at}");
            last_stamp = *at;
        } else {
            assert!(at + APART_NS > last_stamp, "packet {number} was taken before it came");
        }
    }
    // An event is of one of these moments, and those of stamped packets are there.
    let view = segment.view().expect("a sound segment");
    let mut reader = view.events().reader_from_oldest();
    let mut of_stamped = 0;
    while let Some((_, event)) = reader.next_event().expect("the ring holds every event") {
        let at = event.ts_recv();
        let number = times.iter().position(|time| *time == at).expect("the time of a frame");
        of_stamped += u64::from(number % 4 < 2);
    }
    assert!(of_stamped > stamped / 2, "{of_stamped} events of {stamped} packets");
}

#[test]
fn packets_of_several_frames_have_the_time_in_front_of_the_first() {
    let Some(rig) = Rig::network("jumbo") else { return };
    for (mut tool, device) in [(rig.exchange_tool("ip"), WIRE), (rig.capture_tool("ip"), FEED)] {
        succeed(tool.args(["link", "set", device, "mtu", "9000"]));
    }
    load(&rig, &["--receive-stamps"]);
    stamp_by_clock(&rig);
    let capture = rig.start_capture(&config(&rig, "receive_stamps = \"nic\""), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    exchange(&rig, &segment, "--messages 60000 --pack-window 100ms --max-payload 8000");
    let view = segment.view().expect("a sound segment");
    let bytes = view.counters().get(Counter::FrameBytes);
    let ([frames, stamped, unstamped, refused], _) = stop(capture, &segment);
    assert!(bytes / frames > 2_048, "{} bytes a packet need no second frame", bytes / frames);
    assert_eq!(stamped + unstamped + refused, frames);
    assert!(stamped.abs_diff(frames / 4 * 2) <= 2, "{stamped} of {frames}");
}

#[test]
fn a_program_that_asks_for_no_times_is_named() {
    let Some(rig) = Rig::network("plain") else { return };
    load(&rig, &[]);
    let config = config(&rig, "receive_stamps = \"nic\"");
    let said = fail(rig.capture("wiretape-capture").arg("--config").arg(&config));
    let expected = format!("the XDP program of {FEED} does not ask the driver for receive times");
    assert!(said.contains(&expected) && said.contains("--receive-stamps"), "{said}");
    assert!(!rig.segment("wire").exists(), "nothing is left behind");
    let check = succeed(
        std::process::Command::new(binary("wiretape-capture"))
            .args(["--check", "--config"])
            .arg(&config),
    );
    println!("{check}");
}
