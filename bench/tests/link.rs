//! What happens on a link: IP fragments, memberships that come and go, a link that goes
//! down and comes up again, two workers on one machine.

mod rig;

use std::collections::HashSet;
use std::process::Command;

use rig::{FEED, Process, Rig, WIRE, binary, succeed, wait_for};
use wiretape_core::segment::{Counter, FeedCounter, Ledger, LineCounter};
use wiretape_host::reader::Segment;

const GROUP: &str = "239.54.12.111:26477";
const ADDRESS: &str = "239.54.12.111";

fn config(rig: &Rig, worker: &str, more: &str) -> std::path::PathBuf {
    let text = format!(
        "[worker]\nname = \"{worker}\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\npin_dir = \"{}\"\n{more}\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\ndate = 2026-03-02\n",
        rig.segments.display(),
        rig.pins().display(),
    );
    rig.config(&format!("{worker}.toml"), &text)
}

fn live(rig: &Rig) -> (Process, Segment) {
    let interface = format!("interface = \"{FEED}\"");
    let capture = rig.start_capture(&config(rig, "wire", &interface), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    (capture, segment)
}

/// Sends an invented market of a session of its own, to its end.
fn send(rig: &Rig, interface: &str, session: &str) {
    let mut exchange = rig.exchange("wiretape-exchange");
    let fixed = "--sim --seed 5 --symbols 6 --messages 4000 --lead-in 20 --quiet --rate 20000/s";
    exchange.args(fixed.split(' ')).args(["--group", GROUP, "--udp", "--interface", interface]);
    succeed(exchange.args(["--session", session, "--end-packets", "20"]));
}

fn wait_for_end(segment: &Segment, session: &str) {
    let feed = || segment.view().and_then(|view| view.feed(0)).expect("the feed");
    wait_for("the end of the session", || {
        feed().session().is_ok_and(|state| {
            state.ended && String::from_utf8_lossy(&state.session).trim_end() == session
        })
    });
}

fn assert_nothing_lost(segment: &Segment) {
    let view = segment.view().expect("a sound segment");
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
}

#[test]
fn fragments_are_counted_and_passed_to_the_kernel() {
    let Some(rig) = Rig::network("frag") else { return };
    rig.load_xdp(&[GROUP]);
    let (capture, segment) = live(&rig);
    // Datagrams of 4,000 bytes on an MTU of 1,500: three fragments each.
    let (address, port) = GROUP.split_once(':').expect("a port");
    let send =
        format!("for n in 1 2 3; do head -c 4000 /dev/zero > /dev/udp/{address}/{port}; done");
    succeed(rig.exchange_tool("bash").args(["-c", &send]));
    let view = segment.view().expect("a sound segment");
    let count = |counter| view.counters().get(counter);
    wait_for("fragments", || count(Counter::XdpFragments) == 9);
    capture.stop();
    assert_eq!((count(Counter::XdpFragments), count(Counter::XdpRedirected)), (9, 0));
    assert_nothing_lost(&segment);
}

/// What the switch sees: a packet socket on the exchange's end of the wire.
fn at_the_switch(rig: &Rig) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    rig.in_exchange(|| {
        let protocol = i32::from((libc::ETH_P_IP as u16).to_be());
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, protocol) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor that nobody else owns.
        unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }
    })
}

/// Waits for an IGMPv3 report (RFC 3376, 4.2) with a record of one of `kinds` about the group.
fn wait_for_report(switch: &std::os::fd::OwnedFd, kinds: &[u8]) {
    use std::os::fd::AsRawFd;
    wait_for("an IGMP report", || {
        let mut packet = [0u8; 2048];
        let room = packet.len();
        // SAFETY: the buffer is writable for its length.
        let length = unsafe {
            libc::recv(switch.as_raw_fd(), packet.as_mut_ptr().cast(), room, libc::MSG_DONTWAIT)
        };
        let Ok(length) = usize::try_from(length) else { return false };
        let (packet, header) = (&packet[..length], usize::from(packet[0] & 15) * 4);
        let Some(report) = packet.get(header..).filter(|_| packet[9] == 2) else { return false };
        let [kind, _, sources @ .., a, b, c, d] = report.get(8..16).unwrap_or(&[0; 8]) else {
            return false;
        };
        report[0] == 0x22
            && sources == [0, 0]
            && kinds.contains(kind)
            && std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string() == ADDRESS
    });
}

#[test]
fn the_switch_hears_of_the_membership_and_of_its_end() {
    let Some(rig) = Rig::network("report") else { return };
    rig.load_xdp(&[GROUP]);
    let switch = at_the_switch(&rig);
    let (capture, _segment) = live(&rig);
    // Change to "all sources but these", of which there are none: joined.
    wait_for_report(&switch, &[4]);
    capture.stop();
    // Change to "these sources alone", of which there are none: left.
    wait_for_report(&switch, &[3]);
}

#[test]
fn a_group_is_joined_while_capture_runs_and_left_at_its_end() {
    let Some(rig) = Rig::network("igmp") else { return };
    rig.load_xdp(&[GROUP]);
    let joined = || rig.ip(true, &format!("maddr show dev {FEED}")).contains(ADDRESS);
    assert!(!joined());
    let (capture, _segment) = live(&rig);
    wait_for("the membership", joined);
    capture.stop();
    assert!(!joined());
    // A killed capture leaves nothing behind either.
    let (capture, _segment) = live(&rig);
    wait_for("the membership", joined);
    capture.kill();
    wait_for("its end", || !joined());
}

#[test]
fn a_link_that_goes_down_and_comes_up_is_captured_on() {
    let Some(rig) = Rig::network("down") else { return };
    rig.load_xdp(&[GROUP]);
    let (mut capture, segment) = live(&rig);
    send(&rig, WIRE, "BEFORE0001");
    wait_for_end(&segment, "BEFORE0001");
    rig.ip(true, &format!("link set {FEED} down"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    capture.expect_alive();
    rig.ip(true, &format!("link set {FEED} up"));
    rig.ip(true, &format!("route replace 224.0.0.0/4 dev {FEED}"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    send(&rig, WIRE, "AFTER00001");
    wait_for_end(&segment, "AFTER00001");
    capture.stop();
    assert_nothing_lost(&segment);
    let feed = segment.view().and_then(|view| view.feed(0)).expect("the feed");
    assert_eq!(feed.counter(FeedCounter::NewSessions), 1);
    assert_eq!(feed.counter(FeedCounter::LostMessages), 0);
}

#[test]
fn two_workers_on_two_interfaces_do_not_know_of_each_other() {
    let Some(rig) = Rig::network("two") else { return };
    let capture_side = rig.second_pair(1, &[GROUP]);
    let (first, first_segment) = live(&rig);
    let second = rig.start_capture(&config(&rig, "other", "interface = \"feed1\""), "other");
    let second_segment = Segment::attach(&rig.segment("other")).expect("the segment");
    send(&rig, WIRE, "FIRST00001");
    rig.ip(false, "route replace 224.0.0.0/4 dev wire1");
    send(&rig, "wire1", "SECOND0001");
    wait_for_end(&first_segment, "FIRST00001");
    wait_for_end(&second_segment, "SECOND0001");
    first.stop();
    second.stop();
    let mut events = Vec::new();
    for (segment, worker) in [(&first_segment, "wire"), (&second_segment, "other")] {
        assert_nothing_lost(segment);
        let mut command = Command::new(binary("wiretape"));
        command.args(["digest", "--json", "--segment"]).arg(rig.segment(worker));
        let digest: serde_json::Value = serde_json::from_str(&succeed(&mut command)).expect("JSON");
        events.push(digest["events"].as_u64().expect("a number"));
    }
    assert!(events[0] > 4_000 && events[0] == events[1], "{events:?}");
    let mut unload = rig.capture("wiretape-xdp");
    unload.args(["unload", "--interface", "feed1", "--pin-dir"]).arg(rig.pins());
    succeed(&mut unload);
    capture_side.kill();
}

#[test]
fn two_queues_of_one_interface_are_one_feed_of_one_worker() {
    const LINE_B: &str = "239.54.12.112:26477";
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() < 2) {
        return println!("skipped: which queue is used goes by processor, and there is but one");
    }
    let Some(rig) = Rig::network("queues") else { return };
    let capture_side = rig.second_pair(2, &[GROUP]);
    rig.spread_by_processor();
    let mut add = rig.capture("wiretape-xdp");
    add.args(["group", "add", "--interface", "feed1", LINE_B, "--pin-dir"]).arg(rig.pins());
    succeed(&mut add);
    let more = "interface = \"feed1\"\nalso = [\"feed1:1\"]";
    let text = std::fs::read_to_string(config(&rig, "wire", more)).expect("the configuration");
    let text = text + &format!("group_b = \"{LINE_B}\"\nreorder_us = 2000000\n");
    let capture = rig.start_capture(&rig.config("wire.toml", &text), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    rig.ip(false, "route replace 224.0.0.0/4 dev wire1");
    let exchange = |processor: &str, group: &str, lose: &str| {
        let mut exchange = rig.exchange_tool("taskset");
        exchange.args(["-c", processor]).arg(binary("wiretape-exchange"));
        let fixed = "--sim --seed 5 --symbols 6 --messages 8000 --lead-in 20 --quiet --rate 4000/s";
        exchange.args(fixed.split(' ')).args(["--group", group, "--udp", "--interface", "wire1"]);
        exchange.args(["--session", "QUEUES0001", "--end-packets", "20", "--lose", lose]);
        exchange
    };
    let b = Process::start(&mut exchange("1", LINE_B, "2000-2400"));
    succeed(&mut exchange("0", GROUP, "500-900"));
    assert!(b.wait().status.success());
    wait_for_end(&segment, "QUEUES0001");
    let said = capture.stop();
    let view = segment.view().expect("a sound segment");
    assert_nothing_lost(&segment);
    let feed = view.feed(0).expect("the feed");
    assert_eq!(feed.counter(FeedCounter::LostMessages), 0, "{said}");
    let queues: Vec<_> = view.queues().collect();
    assert_eq!(queues.len(), 2);
    let mut frames = 0;
    for (number, (queue, line)) in (0..).zip(queues.iter().zip(0..)) {
        assert_eq!(queue.identity().expect("a name").queue, number);
        let of = |counter| queue.counters().get(counter);
        assert!(of(Counter::Frames) > 1_000, "queue {number}: {said}");
        assert_eq!(of(Counter::Frames), of(Counter::XdpRedirected));
        let packets = view.line(0, line).expect("the line").counter(LineCounter::Packets);
        assert_eq!(of(Counter::Frames), packets, "a line each");
        frames += of(Counter::Frames);
    }
    assert_eq!(frames, view.counters().get(Counter::Frames));
    capture_side.kill();
}

#[test]
fn two_lines_from_two_interfaces_are_one_feed_of_one_worker() {
    const LINE_B: &str = "239.54.12.112:26477";
    let Some(rig) = Rig::network("twolines") else { return };
    let capture_side = rig.second_pair(1, &[GROUP]);
    let mut add = rig.capture("wiretape-xdp");
    add.args(["group", "add", "--interface", "feed1", LINE_B, "--pin-dir"]).arg(rig.pins());
    succeed(&mut add);
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\nalso = [\"feed1\"]\npin_dir = \"{}\"\n\
         [[feed]]\nname = \"both\"\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\n\
         group_b = \"{LINE_B}\"\nreorder_us = 2000000\nreorder_packets = 65536\n\
         date = 2026-03-02\n",
        rig.segments.display(),
        rig.pins().display(),
    );
    let capture = rig.start_capture(&rig.config("wire.toml", &text), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    // Each line in its own exchange, on its own wire, each losing what the other brings.
    let exchange = |group: &str, interface: &str, lose: &str| {
        let mut exchange = rig.exchange("wiretape-exchange");
        let fixed = "--sim --seed 5 --symbols 6 --messages 8000 --lead-in 20 --quiet --rate 4000/s";
        exchange.args(fixed.split(' ')).args(["--group", group, "--udp", "--interface", interface]);
        exchange.args(["--session", "TWOLINES01", "--end-packets", "20", "--lose", lose]);
        exchange
    };
    let b = Process::start(&mut exchange(LINE_B, "wire1", "2000-2400"));
    succeed(&mut exchange(GROUP, WIRE, "500-900,5000"));
    assert!(b.wait().status.success());
    wait_for_end(&segment, "TWOLINES01");
    let view = segment.view().expect("a sound segment");
    let feed = view.feed(0).expect("the feed");
    assert_eq!(feed.counter(FeedCounter::LostMessages), 0);
    assert_eq!(feed.counter(FeedCounter::JoinedLateMessages), 0);
    for line in 0..2 {
        let line = view.line(0, line).expect("the line");
        assert!(line.lost() > 0 && line.counter(LineCounter::Taken) > 0);
    }

    let mut metrics = Command::new(binary("wiretape"));
    metrics.args(["metrics", "--listen", "127.0.0.1:0", "--segment"]).arg(rig.segment("wire"));
    let scraped = scrape(&mut metrics);
    expect_prometheus(&scraped);
    assert!(scraped.contains("\nwiretape_worker_up{worker=\"wire\"} 1\n"), "{scraped}");
    let lost = "\nwiretape_feed_lost_messages_total{worker=\"wire\",feed=\"both\"} 0\n";
    assert!(scraped.contains(lost), "{scraped}");
    let gauge = |name: &str| -> u64 {
        let sample = format!("\nwiretape_feed_{name}{{worker=\"wire\",feed=\"both\"}} ");
        let value = scraped.split(&sample).nth(1).and_then(|rest| rest.lines().next());
        value.and_then(|value| value.parse().ok()).expect(name)
    };
    let [orders, peak, capacity] = ["orders", "orders_peak", "orders_capacity"].map(gauge);
    assert!(0 < orders && orders <= peak && peak < capacity, "{orders} {peak} {capacity}");
    assert!(gauge("levels") <= gauge("levels_peak") && gauge("levels_peak") > 0);

    // One wire is taken away: the other goes on, and that is told.
    rig.ip(true, "link delete feed1");
    rig.ip(false, &format!("route replace 224.0.0.0/4 dev {WIRE}"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    send(&rig, WIRE, "ALONE00001");
    wait_for_end(&segment, "ALONE00001");
    let said = capture.stop();
    assert!(said.contains("feed1") && said.contains("the others go on"), "{said}");

    let view = segment.view().expect("a sound segment");
    let ledger = Ledger::read(&view.counters(), true);
    assert_eq!((ledger.lost(), ledger.unaccounted_outcomes()), (0, 0), "{ledger:?}");
    let queues: Vec<_> = view.queues().collect();
    let names: Vec<_> = queues.iter().map(|one| one.identity().expect("a name")).collect();
    assert_eq!([names[0].interface.as_str(), names[1].interface.as_str()], [FEED, "feed1"]);
    let of = |queue: usize, counter| queues[queue].counters().get(counter);
    for queue in 0..2 {
        assert!(of(queue, Counter::Frames) > 1_000);
        assert_eq!(of(queue, Counter::Frames), of(queue, Counter::XdpRedirected), "{queue}");
    }
    let frames = view.counters().get(Counter::Frames);
    assert_eq!(of(0, Counter::Frames) + of(1, Counter::Frames), frames);
    let mut status = Command::new(binary("wiretape"));
    let shown = succeed(status.args(["status", "--segment"]).arg(rig.segment("wire")));
    assert!(shown.contains("by queue") && shown.contains("feed1 queue 0"), "{shown}");
    capture_side.kill();
}

/// The kernel takes no queue away that has a socket.
#[test]
fn queues_are_put_back_while_the_capture_goes_on_with_another_interface() {
    let Some(rig) = Rig::network("putback") else { return };
    let capture_side = rig.second_pair(2, &[GROUP]);
    let xdp = |arguments: &str| {
        let mut command = rig.capture("wiretape-xdp");
        succeed(command.args(arguments.split(' ')).arg("--pin-dir").arg(rig.pins()))
    };
    let queues = || {
        let said = succeed(rig.capture_tool("ethtool").args(["-l", "feed1"]));
        let (_, now) = said.split_once("Current").expect(&said);
        let line = now.lines().find_map(|line| line.strip_prefix("RX:")).expect(&said);
        line.trim().to_owned()
    };
    xdp("unload --interface feed1");
    succeed(rig.capture_tool("ethtool").args(["-L", "feed1", "rx", "1"]));
    xdp(&format!("load --interface feed1 --queues 2 --group {GROUP}"));
    assert_eq!(queues(), "2");
    let more =
        format!("interface = \"{FEED}\"\nalso = [\"feed1\", \"feed1:1\"]\nretain_frames = 64");
    let capture = rig.start_capture(&config(&rig, "wire", &more), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    rig.ip(false, "route replace 224.0.0.0/4 dev wire1");
    send(&rig, "wire1", "BEFORE0001");
    wait_for_end(&segment, "BEFORE0001");

    xdp("unload --interface feed1");
    assert_eq!(queues(), "1");
    rig.ip(false, &format!("route replace 224.0.0.0/4 dev {WIRE}"));
    send(&rig, WIRE, "AFTER00001");
    wait_for_end(&segment, "AFTER00001");
    let said = capture.stop();
    assert!(said.contains("feed1") && said.contains("the others go on"), "{said}");
    assert_nothing_lost(&segment);
    let view = segment.view().expect("a sound segment");
    let frames: u64 =
        view.queues().skip(1).map(|queue| queue.counters().get(Counter::Frames)).sum();
    assert!(frames > 1_000, "what came before stays counted: {frames}");
    capture_side.kill();
}

/// What a server of metrics answers.
fn scrape(metrics: &mut Command) -> String {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut server = metrics.stdout(std::process::Stdio::piped()).spawn().expect("start it");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("serving http://").expect(&line);
    let address = address.strip_suffix("/metrics").expect(&line);
    let mut stream = std::net::TcpStream::connect(address).expect("connect");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    // SAFETY: kill has no preconditions; the process is ours and not yet waited for.
    unsafe { libc::kill(server.id() as i32, libc::SIGTERM) };
    assert!(server.wait().expect("its end").success());
    answer
}

/// What Prometheus asks of an exposition, and its `promtool check metrics` of the names in it.
fn expect_prometheus(answer: &str) {
    let (_, text) = answer.split_once("\r\n\r\n").expect("a body");
    let (mut families, mut series) = (HashSet::new(), HashSet::new());
    let (mut name, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (of, words) = help.split_once(' ').expect(line);
            assert!(families.insert(of), "{of} begins twice");
            assert!(of.starts_with("wiretape_") && !words.is_empty(), "{line}");
            assert!(!of.split('_').any(|word| ["ns", "us", "ms"].contains(&word)), "{of}");
            (name, kind) = (of, "");
        } else if let Some(described) = line.strip_prefix("# TYPE ") {
            let (of, its) = described.split_once(' ').expect(line);
            assert_eq!((of, its == "counter"), (name, of.ends_with("_total")), "{line}");
            kind = its;
        } else {
            let (one, value) = line.rsplit_once(' ').expect(line);
            let (of, labels) = one.split_once('{').unwrap_or((one, ""));
            assert!(of == name && series.insert(one) && value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(labels.contains("quantile="), kind == "summary", "{line}");
        }
    }
    assert!(series.len() > families.len(), "{text}");
}
