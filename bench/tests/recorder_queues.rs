//! The recorder beside workers with several queues, of one interface and of two, and beside packets
//! of several frames: one file of all, in order, with exact counts by queue.

mod recording;
mod rig;

use std::path::PathBuf;
use std::process::Command;

use recording::shared::{FRAME, Shared, options, run};
use recording::{
    Contents, FILTER_ACCEPT, IF_DROP, IF_RECV, LINE_A, LINE_B, OS_DROP, USR_DELIV,
    expect_readable_by_other_tools, expect_the_same_events, feed, interrupt, object, recorder,
    recordings, wait_until_taken,
};
use rig::{FEED, Process, Rig, WIRE, binary, succeed, wait_for};
use wiretape_capture::source::pcap::Reader;
use wiretape_core::frames::Frame;
use wiretape_core::segment::{Counter, Ledger, LineCounter};
use wiretape_host::reader::Segment;

/// A live capture that shares its frames, and a recorder that follows it.
struct Recorded {
    capture: Process,
    segment: Segment,
    recorder: Process,
    output: PathBuf,
}

impl Recorded {
    fn start(rig: &Rig, source: &str) -> Recorded {
        let source = format!(
            "kind = \"xdp\"\npin_dir = \"{}\"\nframes = 16384\n{source}",
            rig.pins().display()
        );
        let capture = rig.start_capture(&feed(rig, "wire", &source), "wire");
        let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
        let (recorder, output) = recorder(rig, &[]);
        Recorded { capture, segment, recorder, output }
    }

    /// Ends both, and holds what the recorder says and wrote against the ledger, queue by queue.
    /// Returns the recording and how many packets were missed.
    fn end(self) -> (PathBuf, Contents, u64) {
        wait_until_taken(&self.segment);
        self.capture.stop();
        let ended = self.recorder.wait();
        let said = rig::text(&ended);
        let object = object(&said);
        let number =
            |object: &serde_json::Value, name: &str| object[name].as_u64().expect("a number");
        let missed = number(&object, "missed");
        assert_eq!(ended.status.code(), Some(if missed == 0 { 0 } else { 3 }), "{said}");
        let view = self.segment.view().expect("a sound segment");
        let ledger = Ledger::read(&view.counters(), true);
        assert!(ledger.closes() && ledger.lost() == 0, "capture lost something: {ledger:?}");

        let [file] = recordings(&self.output).try_into().expect("one file");
        let found = Contents::read(&file);
        let queues: Vec<_> = view.queues().collect();
        let (packets, dropped) = (found.by_queue(&found.packets), found.by_queue(&found.dropped));
        assert_eq!((found.statistics.len(), packets.len()), (queues.len(), queues.len()), "{said}");
        let (mut all, mut all_missed) = (0, 0);
        for (index, queue) in queues.iter().enumerate() {
            let identity = queue.identity().expect("a name");
            assert_eq!(found.interfaces[index].0, identity.to_string());
            let told = &object["queues"][index];
            assert_eq!(told["interface"], identity.interface.as_str());
            assert_eq!(number(told, "queue"), u64::from(identity.queue));
            let frames = queue.counters().get(Counter::Frames);
            let (recorded, missed) = (number(told, "frames"), number(told, "missed"));
            assert!(recorded > 300, "{said}");
            assert_eq!(recorded + missed, frames, "{identity}: {said}");
            let statistics = &found.statistics[&(index as u32)];
            assert_eq!(statistics[&IF_RECV], queue.counters().get(Counter::XdpRedirected));
            assert_eq!(statistics[&IF_DROP], 0);
            assert_eq!((statistics[&FILTER_ACCEPT], statistics[&OS_DROP]), (frames, missed));
            assert_eq!((statistics[&USR_DELIV], packets[index]), (recorded, recorded));
            assert!(dropped[index] <= missed && (dropped[index] > 0) == (missed > 0), "{said}");
            (all, all_missed) = (all + frames, all_missed + missed);
        }
        assert_eq!((all, all_missed), (view.counters().get(Counter::Frames), missed));
        let times = || found.order.iter().map(|(_, time, _)| *time);
        let back = times().zip(times().skip(1)).position(|(one, next)| next < one);
        assert_eq!(back, None, "the time goes back");
        expect_readable_by_other_tools(&file, found.order.len());
        if missed == 0 {
            for line in [0, 1] {
                let name = ["sim:A", "sim:B"][line];
                let of_line = |one: &(&u32, &u64)| found.interfaces[*one.0 as usize].0 == name;
                let written: u64 = found.packets.iter().filter(of_line).map(|one| one.1).sum();
                let line = view.line(0, line).expect("the line");
                assert_eq!(written, line.counter(LineCounter::Packets), "{name}");
            }
        }
        (file, found, missed)
    }
}

/// A market, of which each line loses what the other brings.
fn exchange(command: &mut Command, group: &str, interface: &str) {
    let fixed = "--sim --seed 5 --symbols 6 --messages 8000 --lead-in 20 --quiet --rate 4000/s";
    command.args(fixed.split(' ')).args(["--group", group, "--udp", "--interface", interface]);
    let lose = if group == LINE_A { "500-900,5000" } else { "2000-2400" };
    command.args(["--end-packets", "20", "--lose", lose]);
}

fn two_queues(test: &str) -> Option<(Rig, Process)> {
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() < 2) {
        println!("skipped: which queue is used goes by processor, and there is but one");
        return None;
    }
    let rig = Rig::network(test)?;
    let capture_side = rig.second_pair(2, &[LINE_A, LINE_B]);
    rig.spread_by_processor();
    rig.ip(false, "route replace 224.0.0.0/4 dev wire1");
    Some((rig, capture_side))
}

const TWO_QUEUES: &str = "interface = \"feed1\"\nalso = [\"feed1:1\"]\nretain_frames = ";

/// Each line from a processor of its own, and so to a queue of its own.
fn send_on_two_queues(rig: &Rig) {
    let on = |processor: &str, group: &str| {
        let mut command = rig.exchange_tool("taskset");
        command.args(["-c", processor]).arg(binary("wiretape-exchange"));
        exchange(&mut command, group, "wire1");
        command
    };
    let b = Process::start(&mut on("1", LINE_B));
    succeed(&mut on("0", LINE_A));
    assert!(b.wait().status.success());
}

#[test]
fn two_queues_are_recorded_as_one_sequence() {
    let Some((rig, capture_side)) = two_queues("rec2q") else { return };
    let recorded = Recorded::start(&rig, &format!("{TWO_QUEUES}8192"));
    send_on_two_queues(&rig);
    let (file, found, missed) = recorded.end();
    assert_eq!((missed, found.dropped.len()), (0, 0));
    let turns = found.order.windows(2).filter(|two| two[0].0 != two[1].0).count();
    assert!(turns > 1_000, "the queues take turns {turns} times only");
    expect_the_same_events(&rig, &[file]);
    capture_side.kill();
}

#[test]
fn what_is_missed_of_two_queues_is_counted_for_each() {
    let Some((rig, capture_side)) = two_queues("lag2q") else { return };
    let recorded = Recorded::start(&rig, &format!("{TWO_QUEUES}64"));
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| send_on_two_queues(&rig));
        interrupt(&recorded.recorder, || sent.is_finished());
    });
    let (_, found, missed) = recorded.end();
    assert!(missed > 200, "{missed} missed");
    let missed_of = |queue: u32| found.statistics[&queue][&OS_DROP];
    assert!(missed_of(0) > 50 && missed_of(1) > 50, "{} {}", missed_of(0), missed_of(1));
    capture_side.kill();
}

#[test]
fn two_interfaces_are_recorded_as_one_sequence() {
    let Some(rig) = Rig::network("rec2i") else { return };
    let capture_side = rig.second_pair(1, &[LINE_A, LINE_B]);
    let source = format!("interface = \"{FEED}\"\nalso = [\"feed1\"]\nretain_frames = 8192");
    let recorded = Recorded::start(&rig, &source);
    let on = |group: &str, interface: &str| {
        let mut command = rig.exchange("wiretape-exchange");
        exchange(&mut command, group, interface);
        command
    };
    let b = Process::start(&mut on(LINE_B, "wire1"));
    succeed(&mut on(LINE_A, WIRE));
    assert!(b.wait().status.success());
    let (file, found, missed) = recorded.end();
    assert_eq!(missed, 0);
    let names: Vec<_> = found.interfaces.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..2], ["feed0 queue 0", "feed1 queue 0"]);
    for (name, text) in &found.interfaces[2..] {
        let on = if name == "sim:A" { "on feed0 queue 0" } else { "on feed1 queue 0" };
        assert!(text.ends_with(on), "{name}: {text}");
    }
    expect_the_same_events(&rig, &[file]);
    // A worker with fewer queues leaves nothing of the other behind.
    let frames = rig.segments.join("wire.frames");
    let size = || frames.metadata().map_or(0, |metadata| metadata.len());
    let before = size();
    let source = format!(
        "kind = \"xdp\"\npin_dir = \"{}\"\ninterface = \"{FEED}\"\nretain_frames = 64",
        rig.pins().display()
    );
    let fewer = rig.start_capture(&feed(&rig, "wire", &source), "wire");
    wait_for("its frames", || (1..before).contains(&size()));
    fewer.stop();
    let names = std::fs::read_dir(&rig.segments)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let of_wire: Vec<_> = names.filter(|name| name.starts_with("wire.frames")).collect();
    assert_eq!(of_wire, ["wire.frames"]);
    capture_side.kill();
}

/// Datagrams of 8,000 bytes in frames of 2 KiB, both lines on one queue.
fn jumbo(test: &str, retain: u32, during: impl Fn(&Recorded, &dyn Fn() -> bool)) -> Option<()> {
    let rig = Rig::network(test)?;
    rig.ip(false, &format!("link set {WIRE} mtu 9000"));
    rig.ip(true, &format!("link set {FEED} mtu 9000"));
    rig.load_xdp(&[LINE_A, LINE_B]);
    let source = format!("interface = \"{FEED}\"\nretain_frames = {retain}");
    let recorded = Recorded::start(&rig, &source);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let mut exchange = rig.exchange("wiretape-exchange");
            let fixed = "--sim --seed 11 --symbols 6 --messages 200000 --pack-window 100ms";
            exchange.args(fixed.split(' ')).args(["--lead-in", "20", "--max-payload", "8000"]);
            exchange.args(["--quiet", "--group", LINE_A, "--line-b", LINE_B, "--udp"]);
            exchange.args(["--interface", WIRE, "--rate", "500/s", "--end-packets", "20"]);
            succeed(&mut exchange);
        });
        during(&recorded, &|| sent.is_finished());
    });
    let (file, found, missed) = recorded.end();
    let longest = found.order.iter().map(|(_, _, len)| *len).max().expect("packets");
    let long = found.order.iter().filter(|(_, _, len)| *len > 2048).count();
    assert!(longest > 7_000 && long > 200, "{long} packets are long, the longest {longest}");
    match retain {
        64 => assert!(missed > 100, "{missed} missed"),
        _ => {
            assert_eq!(missed, 0);
            expect_the_same_events(&rig, &[file]);
        }
    }
    Some(())
}

#[test]
fn packets_of_several_frames_are_recorded_whole() {
    jumbo("recjumbo", 8192, |_, _| {});
}

#[test]
fn packets_of_several_frames_that_are_missed_are_counted_once_each() {
    let interrupted = |recorded: &Recorded, is_over: &dyn Fn() -> bool| {
        interrupt(&recorded.recorder, is_over);
    };
    jumbo("lagjumbo", 64, interrupted);
}

/// A run of three queues.
fn three_queues(rig: &Rig) -> Shared {
    Shared::new(rig, 7, 3, 64)
}

/// Puts a packet into frames of a queue from number `first` on, and returns them.
fn frames_of(
    shared: &Shared,
    queue: usize,
    first: usize,
    ts_recv: u64,
    packet: &[u8],
) -> Vec<Frame> {
    let parts: Vec<_> = packet.chunks(1792).collect();
    let place = |(index, part): (usize, &&[u8])| {
        let start = (first + index) % 64 * FRAME + 256;
        shared.put(queue, start, part);
        let following = (parts.len() - 1 - index) as u16;
        let (address, len, index) = (start as u64, part.len() as u32, index as u16);
        Frame { address, len, index, following, ts_recv }
    };
    parts.iter().enumerate().map(place).collect()
}

/// Ends the capture run and records it.
fn record(rig: &Rig, shared: &Shared) -> (wiretape_host::record::Recorded, Contents) {
    shared.end();
    let recorded = run(&options(rig)).expect("a recording");
    let file = recorded.last_file.clone().expect("a file");
    let contents = Contents::read(&file);
    let mut reader = Reader::open(&file).expect("a recording");
    while let Some(packet) = reader.next().expect("a packet") {
        assert!(is_whole(packet.data), "{packet:?}");
    }
    (recorded, contents)
}

/// A packet whose bytes follow from its length.
fn packet(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes == packet(bytes.len())
}

#[test]
fn packets_of_queues_that_take_turns_stand_in_the_order_of_their_times() {
    let rig = Rig::offline("order");
    let shared = three_queues(&rig);
    let mut writers = shared.writers::<3>();
    let mut next = [0; 3];
    let mut expected = Vec::new();
    for n in 0..60_u64 {
        // Queue 2 falls silent after a while.
        let queue = if n < 30 { n % 3 } else { n * 5 % 7 % 2 } as usize;
        let (len, ts_recv) = (60 + (n as usize * 1013) % 5_000, 1_000_000_000 * 86_400 + n);
        for frame in frames_of(&shared, queue, next[queue], ts_recv, &packet(len)) {
            next[queue] += 1;
            writers[queue].publish(frame);
        }
        if next[queue] > 48 {
            writers[queue].recycle_before(next[queue] as u64 - 47);
        }
        writers[queue].commit();
        expected.push((queue as u32, ts_recv, len));
    }
    let (recorded, found) = record(&rig, &shared);
    // Those whose frames were given back before the recorder came were not its to record.
    let seen: Vec<_> = expected.iter().filter(|one| found.order.contains(one)).copied().collect();
    assert_eq!(found.order, seen);
    assert!(seen.len() > 40 && recorded.frames == seen.len() as u64, "{recorded:?}");
    assert_eq!((recorded.missed, recorded.damaged, recorded.queues.len()), (0, 0, 3));
    let names: Vec<_> = found.interfaces.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["eth7 queue 0", "eth7 queue 1", "eth7 queue 2"]);
    for (queue, of_queue) in recorded.queues.iter().enumerate() {
        let mine = seen.iter().filter(|one| one.0 == queue as u32).count() as u64;
        assert_eq!((of_queue.frames, of_queue.missed), (mine, 0), "queue {queue}");
    }
}

#[test]
fn a_writer_that_dies_inside_a_packet_leaves_no_half_of_one() {
    let rig = Rig::offline("half");
    let shared = three_queues(&rig);
    let [mut first, mut second, _third] = shared.writers();
    let parts = |len, at, time| frames_of(&shared, 0, at, time, &packet(len));
    // The last frame of the second one never comes.
    for frame in parts(5_000, 0, 10).iter().chain(&parts(5_000, 3, 20)[..2]) {
        first.publish(*frame);
    }
    first.commit();
    // Nonsense between two good ones: it points outside, or is no beginning.
    let good = frames_of(&shared, 1, 0, 15, &packet(700))[0];
    second.publish(good);
    second.publish(Frame { address: u64::MAX - 7, ..good });
    second.publish(Frame { ts_recv: 25, ..good });
    second.publish(Frame { index: 3, ..good });
    second.commit();
    let (recorded, found) = record(&rig, &shared);
    assert_eq!(found.order, [(0, 10, 5_000), (1, 15, 700), (1, 25, 700)]);
    assert_eq!((recorded.frames, recorded.missed, recorded.damaged), (3, 0, 2));
    assert_eq!(recorded.queues.iter().map(|one| one.damaged).collect::<Vec<_>>(), [0, 2, 0]);
}
