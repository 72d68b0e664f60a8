//! Frames of every odd kind among good ones: each is in exactly one row of each sum of the ledger, to
//! the packet, also while the XDP program is replaced, and in a capture that was started again. And
//! what comes on a queue that nobody serves is counted too.

mod rig;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use rig::{FEED, Process, Rig, WIRE, binary, succeed, wait_for};
use wiretape_core::segment::{Counter, Ledger};
use wiretape_core::wire::frame::Route;
use wiretape_host::reader::Segment;

const GROUP: &str = "239.54.12.111:26477";

/// What becomes of a frame: by the XDP program, and then by the worker.
type Fate = (Counter, Option<Counter>);

const TAKEN: Fate = (Counter::XdpRedirected, Some(Counter::Datagrams));
const PASSED: Fate = (Counter::XdpPassed, None);

/// A heartbeat to the group, and what can be wrong with it.
fn kinds() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let mut buffer = [0; 256];
    let heartbeat = b"WIRETAPE01\0\0\0\0\0\0\0\x01\0\0";
    let route = Route::to_group([10, 77, 0, 1], [239, 54, 12, 111], 26477, 26477);
    let length = route.emit(0, heartbeat, &mut buffer).expect("it fits");
    let good = buffer[..length].to_vec();
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let tagged = |tags: &[u8]| [&good[..12], tags, &good[12..]].concat();
    let bad_header = (Counter::XdpRedirected, Some(Counter::FrameBadHeader));
    let malformed = (Counter::XdpMalformed, None);
    vec![
        ("good", good.clone(), TAKEN),
        ("another port", with(36, &[0x67, 0x6e]), PASSED),
        ("another group", with(33, &[9]), PASSED),
        ("TCP", with(23, &[6]), PASSED),
        ("IPv6", with(12, &[0x86, 0xDD]), PASSED),
        ("ARP", with(12, &[0x08, 0x06]), PASSED),
        ("fragment", with(20, &[0x20]), (Counter::XdpFragments, None)),
        ("later fragment", with(20, &[0, 5]), (Counter::XdpFragments, None)),
        ("cut in the UDP header", good[..40].to_vec(), malformed),
        ("IP header too short", with(14, &[0x43]), malformed),
        ("UDP longer than IP", with(38, &[2, 0]), bad_header),
        ("UDP shorter than its header", with(38, &[0, 4]), bad_header),
        (
            "IP longer than the frame",
            with(16, &[4, 0]),
            (Counter::XdpRedirected, Some(Counter::FrameTruncated)),
        ),
        // Ethernet's own check sequence has looked at all of it.
        ("wrong UDP checksum", with(40, &[0x12, 0x34]), TAKEN),
        ("wrong IP checksum", with(24, &[0x12, 0x34]), TAKEN),
        ("VLAN", tagged(&[0x81, 0, 0, 7]), TAKEN),
        ("VLAN in VLAN", tagged(&[0x88, 0xA8, 0, 7, 0x81, 0, 0, 8]), TAKEN),
        ("three VLAN tags", tagged(&[0x88, 0xA8, 0, 7, 0x81, 0, 0, 8, 0x81, 0, 0, 9]), PASSED),
    ]
}

/// Sends `count` frames of each kind, one kind after the other, in turns.
fn send(rig: &Rig, interface: &str, count: usize) {
    rig.in_exchange(|| {
        let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = std::ffi::CString::new(interface).expect("a name");
        // SAFETY: the name is a C string that outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        for _ in 0..count {
            for (_, frame, _) in kinds() {
                // SAFETY: frame and address are readable for their lengths.
                let sent = unsafe {
                    libc::sendto(
                        socket.as_raw_fd(),
                        frame.as_ptr().cast(),
                        frame.len(),
                        0,
                        (&raw const address).cast(),
                        size_of_val(&address) as u32,
                    )
                };
                assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
            }
        }
    });
}

fn start(rig: &Rig, interface: &str) -> (Process, Segment) {
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{interface}\"\npin_dir = \"{}\"\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\ndate = 2026-03-02\n\
         max_orders = 1000\nmax_levels = 1000\n",
        rig.segments.display(),
        rig.pins().display(),
    );
    let capture = rig.start_capture(&rig.config("capture.toml", &text), "wire");
    // The segment is there before the socket is in its place, and may be that of the capture before.
    wait_for("the socket", || {
        let mut status = rig.capture("wiretape-xdp");
        status.args(["status", "--json", "--interface", interface, "--pin-dir"]).arg(rig.pins());
        let said: serde_json::Value = serde_json::from_str(&succeed(&mut status)).expect("JSON");
        said[0]["queues"].as_array().expect("queues").iter().any(|one| one["socket"] == true)
    });
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    (capture, segment)
}

fn count(segment: &Segment, counter: Counter) -> u64 {
    segment.view().expect("a sound segment").counters().get(counter)
}

/// Expects that each kind was counted `times` times where it belongs.
fn expect_each(segment: &Segment, before: u64, times: u64) {
    let kinds = kinds();
    let all = kinds.len() as u64 * times;
    wait_for("what was sent", || count(segment, Counter::XdpSeen) >= before + all);
    wait_for("the worker", || {
        count(segment, Counter::Frames) == count(segment, Counter::XdpRedirected)
    });
    let ledger = Ledger::read(&segment.view().expect("a sound segment").counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
    let sent = |is: &dyn Fn(&Fate) -> bool| {
        kinds.iter().filter(|(_, _, fate)| is(fate)).count() as u64 * times
    };
    for row in &ledger.verdicts {
        let mut expected = sent(&|(verdict, _)| *verdict == row.counter);
        // The kernel's own packets (IPv6, IGMP) are among those passed.
        if row.counter == Counter::XdpPassed {
            assert!(row.packets >= expected, "{row:?}, {expected} of ours");
            expected = row.packets;
        }
        assert_eq!(row.packets, expected, "{row:?}");
    }
    for row in &ledger.outcomes {
        assert_eq!(row.packets, sent(&|(_, outcome)| *outcome == Some(row.counter)), "{row:?}");
    }
}

#[test]
fn every_odd_frame_is_in_one_row_of_each_sum() {
    let Some(rig) = Rig::network("odd") else { return };
    rig.load_xdp(&[GROUP]);
    let (capture, segment) = start(&rig, FEED);
    send(&rig, WIRE, 20);
    expect_each(&segment, 0, 20);

    let replaced = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut rounds = 0;
            while !replaced.load(std::sync::atomic::Ordering::Relaxed) {
                send(&rig, WIRE, 1);
                rounds += 1;
            }
            rounds
        });
        for _ in 0..5 {
            let mut replace = rig.capture("wiretape-xdp");
            replace.args(["replace", "--interface", FEED, "--pin-dir"]).arg(rig.pins());
            succeed(&mut replace);
        }
        replaced.store(true, std::sync::atomic::Ordering::Relaxed);
        expect_each(&segment, 0, 20 + sender.join().expect("no panic"));
    });
    capture.stop();
    let ledger = Ledger::read(&segment.view().expect("a sound segment").counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");

    // Nobody is there: the kernel has them, and the next capture's ledger begins with itself.
    send(&rig, WIRE, 20);
    let (capture, segment) = start(&rig, FEED);
    assert_eq!(count(&segment, Counter::Frames), 0);
    send(&rig, WIRE, 3);
    expect_each(&segment, 0, 3);
    capture.stop();
}

#[test]
fn packets_on_a_queue_that_nobody_serves_are_counted_and_told() {
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() < 2) {
        return println!("skipped: which queue is used goes by processor, and there is but one");
    }
    let Some(rig) = Rig::network("unserved") else { return };
    let capture_side = rig.second_pair(2, &[GROUP]);
    rig.spread_by_processor();
    let (capture, segment) = start(&rig, "feed1");
    let (address, port) = GROUP.split_once(':').expect("a port");
    rig.ip(false, "route replace 224.0.0.0/4 dev wire1");
    let send = format!("printf x > /dev/udp/{address}/{port}");
    let mut sent = [0; 2];
    // Until they went on for long enough to be told.
    for processor in [0, 1].into_iter().cycle().take(60) {
        let mut command = rig.exchange_tool("taskset");
        succeed(command.args(["-c", &processor.to_string(), "bash", "-c", &send]));
        sent[processor] += 1;
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    wait_for("the count", || count(&segment, Counter::XdpUnserved) == sent[1]);
    let said = capture.stop();
    assert!(said.contains("come on queue 1 of feed1, where no socket is"), "{said}");
    assert!(said.contains("also = [\"feed1:1\"]"), "{said}");
    assert_eq!(said.matches("come on queue 1").count(), 1, "{said}");
    assert!(said.contains("30 packets of steered groups came on other queues"), "{said}");
    let (taken, unserved) = (Counter::XdpRedirected, Counter::XdpUnserved);
    assert_eq!((count(&segment, taken), count(&segment, unserved)), (sent[0], sent[1]));
    let mut status = Command::new(binary("wiretape"));
    let shown = succeed(status.args(["status", "--segment"]).arg(rig.segment("wire")));
    assert!(shown.contains("30 packets of steered groups came on other queues"), "{shown}");
    capture_side.kill();
}
