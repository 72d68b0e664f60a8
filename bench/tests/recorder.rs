//! The recorder: what it writes is what the capture received, and what it could not write it
//! counts to the frame.

mod rig;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pcap_parser::pcapng::{Block, OptionCode, parse_block_le};
use rig::{FEED, Process, Rig, WIRE, binary, fail, succeed, wait_for};
use wiretape_capture::frames_file::FramesFile;
use wiretape_capture::source::pcap::Reader;
use wiretape_core::frames::{Frame, FramesSpec};
use wiretape_core::segment::{Counter, Ledger, State};
use wiretape_host::reader::Segment;
use wiretape_host::reader::testing::TestSegment;
use wiretape_host::record::{
    Compression, RecordError, RecordNotice, RecordOptions, Recorded, Rotation, record,
};

const LINE_A: &str = "239.54.12.111:26477";
const LINE_B: &str = "239.54.12.112:26477";

fn config(rig: &Rig, retain: u32) -> PathBuf {
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\nframes = 4096\n\
         retain_frames = {retain}\n\
         [[feed]]\nname = \"sim\"\nprotocol = \"itch50-moldudp64\"\ngroup = \"{LINE_A}\"\n\
         group_b = \"{LINE_B}\"\ndate = 2026-03-02\n",
        rig.segments.display(),
        rig.pins().display(),
    );
    rig.config("capture.toml", &text)
}

fn exchange(rig: &Rig, messages: &str, rate: &str) {
    let mut exchange = rig.exchange("wiretape-exchange");
    let fixed = "--sim --seed 11 --symbols 6 --pack-window 100us --lead-in 20 --quiet --udp";
    exchange.args(fixed.split(' ')).args(["--messages", messages, "--rate", rate]);
    exchange.args(["--group", LINE_A, "--line-b", LINE_B, "--interface", WIRE]);
    succeed(exchange.args(["--end-packets", "20"]));
}

fn recorder(rig: &Rig, arguments: &[&str]) -> (Process, PathBuf) {
    let output = rig.work.join("pcap");
    let mut command = Command::new(binary("wiretape"));
    command.args(["record", "--until-end", "--json", "--segment"]).arg(rig.segment("wire"));
    command.arg("--output").arg(&output).args(arguments);
    let process = Process::start(&mut command);
    // A heartbeat of the session to come: once it is in a file, the recorder follows.
    let (group, port) = LINE_A.split_once(':').expect("a port");
    let beat = r"WIRETAPE01\0\0\0\0\0\0\0\01\0\0";
    let send = format!("printf '{beat}' > /dev/udp/{group}/{port}");
    succeed(rig.exchange_tool("bash").args(["-c", &send]));
    wait_for("the recorder", || output.exists() && !recordings(&output).is_empty());
    (process, output)
}

/// Waits until the capture has taken in everything that was sent.
fn wait_until_taken(segment: &Segment) {
    let view = || segment.view().expect("a sound segment");
    wait_for("the end of the session", || {
        view().feed(0).and_then(|feed| feed.session().ok()).is_some_and(|session| session.ended)
    });
    let mut last = (0, Instant::now());
    wait_for("silence", || {
        let frames = view().counters().get(Counter::Frames);
        if frames != last.0 {
            last = (frames, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(200)
    });
}

/// Finished recordings, in the order of their times.
fn recordings(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory of the recordings");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// What an independent reader finds in a plain recording.
#[derive(Debug, Default)]
struct Contents {
    interfaces: Vec<String>,
    packets: BTreeMap<u32, u64>,
    dropped: u64,
    /// `isb_*` by code.
    statistics: BTreeMap<u16, u64>,
}

fn contents(path: &Path) -> Contents {
    let bytes = std::fs::read(path).expect("the recording");
    let (mut rest, mut found) = (bytes.as_slice(), Contents::default());
    let number = |value: &[u8]| u64::from_le_bytes(value[..8].try_into().expect("8 bytes"));
    while !rest.is_empty() {
        let (behind, block) = parse_block_le(rest).expect("a whole block");
        rest = behind;
        match block {
            Block::SectionHeader(_) => {}
            Block::InterfaceDescription(description) => {
                assert_eq!(description.if_tsresol, 9);
                let name = description.options.iter().find(|o| o.code == OptionCode::IfName);
                let name = name.expect("a name").as_bytes().expect("its bytes");
                found.interfaces.push(String::from_utf8_lossy(name).into_owned());
            }
            Block::EnhancedPacket(packet) => {
                *found.packets.entry(packet.if_id).or_default() += 1;
                for option in packet.options.iter().filter(|option| option.code.0 == 4) {
                    found.dropped += number(&option.value);
                }
            }
            Block::InterfaceStatistics(statistics) => {
                assert_eq!(statistics.if_id, 0);
                for option in statistics.options.iter().filter(|option| option.code.0 != 0) {
                    found.statistics.insert(option.code.0, number(&option.value));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

const IF_RECV: u16 = 4;
const IF_DROP: u16 = 5;
const FILTER_ACCEPT: u16 = 6;
const OS_DROP: u16 = 7;
const USR_DELIV: u16 = 8;

fn digest(rig: &Rig, worker: &str) -> String {
    let mut command = Command::new(binary("wiretape"));
    let text = succeed(command.args(["digest", "--json", "--segment"]).arg(rig.segment(worker)));
    let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    format!("{} of {}", object["digest"], object["events"])
}

#[test]
fn a_recording_that_is_played_again_gives_the_same_events() {
    let Some(rig) = Rig::network("rec") else { return };
    rig.load_xdp(&[LINE_A, LINE_B]);
    let capture = rig.start_capture(&config(&rig, 2048), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let (recorder, output) = recorder(&rig, &["--rotate-mib", "2"]);
    exchange(&rig, "40000", "20000/s");
    wait_until_taken(&segment);
    capture.stop();
    let said = recorder.stop();

    let view = segment.view().expect("a sound segment");
    let frames = view.counters().get(Counter::Frames);
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
    assert!(said.contains(&format!("\"frames\":{frames},")), "{frames}: {said}");
    assert!(said.contains("\"missed\":0"), "{said}");

    let files = recordings(&output);
    assert!(files.len() > 1, "{files:?}");
    let mut packets = BTreeMap::<u32, u64>::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        assert!(name.starts_with("wire-20") && name.ends_with("Z.pcapng"), "{name}");
        let size = file.metadata().expect("the file").len();
        assert!(size <= (2 << 20) + 4096, "{size} bytes");
        let found = contents(file);
        assert_eq!(found.interfaces, [FEED, "sim:A", "sim:B"]);
        assert_eq!(found.dropped, 0);
        found.packets.iter().for_each(|(line, count)| *packets.entry(*line).or_default() += count);
    }
    let last = contents(files.last().expect("a file")).statistics;
    assert_eq!(last[&IF_RECV], ledger.redirected.expect("an XDP program"));
    assert_eq!((last[&IF_DROP], last[&OS_DROP]), (0, 0));
    assert_eq!((last[&FILTER_ACCEPT], last[&USR_DELIV]), (frames, frames));
    assert_eq!(packets.values().sum::<u64>(), frames);
    let line = |at| view.line(0, at).expect("a line");
    for at in [0, 1] {
        let brought = line(at).counter(wiretape_core::segment::LineCounter::Packets);
        assert_eq!(packets[&(at as u32 + 1)], brought, "line {at}");
    }

    // All files together, as they were received.
    let whole = rig.work.join("whole.pcapng");
    let joined: Vec<u8> =
        files.iter().flat_map(|file| std::fs::read(file).expect("a file")).collect();
    std::fs::write(&whole, joined).expect("write the whole recording");
    let text = std::fs::read_to_string(rig.work.join("capture.toml")).expect("the configuration");
    let (head, feeds) = text.split_once("[source]").expect("a source");
    let feeds = feeds.split_once("[[feed]]").expect("a feed").1;
    let head = head.replace("\"wire\"", "\"again\"");
    let replay =
        format!("{head}[source]\nkind = \"pcap\"\npath = \"{}\"\n[[feed]]{feeds}", whole.display());
    let replay = rig.config("again.toml", &replay);
    succeed(rig.capture("wiretape-capture").arg("--config").arg(replay));
    assert_eq!(digest(&rig, "wire"), digest(&rig, "again"));

    for (tool, arguments) in [("capinfos", &[][..]), ("tshark", &["-r"][..])] {
        let mut command = Command::new(tool);
        match command.args(arguments).arg(&files[0]).output() {
            Ok(output) => assert!(output.status.success(), "{}", rig::text(&output)),
            Err(error) => println!("skipped: {tool}: {error}"),
        }
    }
}

#[test]
fn a_recorder_that_stood_still_counts_what_it_missed_to_the_frame() {
    let Some(rig) = Rig::network("lag") else { return };
    rig.load_xdp(&[LINE_A, LINE_B]);
    let capture = rig.start_capture(&config(&rig, 64), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let (recorder, output) = recorder(&rig, &[]);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| exchange(&rig, "40000", "20000/s"));
        while !sent.is_finished() {
            recorder.signal(libc::SIGSTOP);
            std::thread::sleep(Duration::from_millis(100));
            recorder.signal(libc::SIGCONT);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    wait_until_taken(&segment);
    capture.stop();
    let ended = recorder.wait();
    let said = rig::text(&ended);
    assert_eq!(ended.status.code(), Some(3), "{said}");

    let view = segment.view().expect("a sound segment");
    let frames = view.counters().get(Counter::Frames);
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "capture lost something: {ledger:?}");
    let object = said.lines().find(|line| line.starts_with('{')).expect("a JSON object");
    let object: serde_json::Value = serde_json::from_str(object).expect("JSON");
    let (recorded, missed) = (object["frames"].as_u64(), object["missed"].as_u64());
    let (recorded, missed) = (recorded.expect("frames"), missed.expect("missed"));
    assert!(missed > 100, "{said}");
    assert_eq!(recorded + missed, frames, "{said}");
    let [file] = recordings(&output).try_into().expect("one file");
    let found = contents(&file);
    assert_eq!(found.packets.values().sum::<u64>(), recorded);
    assert_eq!(found.statistics[&OS_DROP], missed);
    // What was missed behind the last packet stands in the statistics alone.
    assert!(found.dropped <= missed && found.dropped > 0, "{} of {missed}", found.dropped);
    let ranges = said.lines().filter(|line| line.contains("MISSED")).count();
    assert!(ranges >= 1, "{said}");
}

/// Frames that a capture shares and a segment beside them, without a network.
struct Shared {
    rig: Rig,
    frames: FramesFile,
    segment: TestSegment,
    spec: FramesSpec,
}

impl Shared {
    fn new(test: &str) -> Shared {
        let rig = Rig::offline(test);
        let spec = FramesSpec { epoch: 7, frames: 1024, frame_size: 2048 };
        let frames = FramesFile::reserve(&rig.segments, "w", spec).expect("room for frames");
        frames.writer().expect("the layout");
        frames.publish().expect("the name");
        let segment = TestSegment::create(&rig.segment("w"), 7, 64);
        Shared { rig, frames, segment, spec }
    }

    fn options(&self) -> RecordOptions {
        RecordOptions {
            segment: self.rig.segment("w"),
            directory: self.rig.work.join("pcap"),
            rotation: Rotation::default(),
            compression: Compression::None,
            keep: None,
            buffer: 4 << 20,
            wait: false,
            until_end: true,
        }
    }

    /// Shares 900 frames, ten a minute from midnight on, and ends.
    fn share(&self) -> Vec<(u64, Vec<u8>)> {
        let mut writer = self.frames.writer().expect("a writer");
        let words = self.frames.words();
        let at = self.spec.frames_offset().expect("an offset");
        let mut shared = Vec::new();
        for n in 0..900u64 {
            let len = 60 + (n * 7) % 1400;
            let bytes: Vec<u8> = (0..len.next_multiple_of(8)).map(|i| (i * 3 + n) as u8).collect();
            let (start, ts_recv) = (n * 2048 + 256, (86_400 * 20_000 + n * 6) * 1_000_000_000 + n);
            for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
                let word = u64::from_ne_bytes(*word);
                let at = (at + start as usize) / 8 + index;
                words[at].store(word, wiretape_core::sync::Ordering::Relaxed);
            }
            writer.publish(Frame { address: start, len: len as u32, line: 0, ts_recv });
            shared.push((ts_recv, bytes[..len as usize].to_vec()));
        }
        writer.commit();
        self.segment.writer().header().set_state(State::Ended);
        shared
    }
}

fn run(options: &RecordOptions) -> Result<Recorded, RecordError> {
    record(options, &AtomicBool::new(false), &mut |_| {})
}

fn packets(paths: &[PathBuf]) -> Vec<(u64, Vec<u8>)> {
    let mut packets = Vec::new();
    for path in paths {
        let mut reader = Reader::open(path).expect("a recording");
        while let Some(packet) = reader.next().expect("a packet") {
            packets.push((packet.ts_ns, packet.data.to_vec()));
        }
        assert_eq!(reader.cut(), None, "{path:?}");
    }
    packets
}

#[test]
fn files_are_turned_by_time_and_by_size_and_hold_every_frame_once() {
    let shared = Shared::new("turn");
    let sent = shared.share();
    for (name, compression, suffix) in [
        ("plain", Compression::None, "Z.pcapng"),
        ("zstd", Compression::Zstd, "Z.pcapng.zst"),
        ("gzip", Compression::Gzip, "Z.pcapng.gz"),
    ] {
        let directory = shared.rig.work.join(name);
        let every = Some(Duration::from_secs(1800));
        let rotation = Rotation { bytes: None, every };
        let options = RecordOptions {
            directory: directory.clone(),
            rotation,
            compression,
            ..shared.options()
        };
        let recorded = run(&options).expect("a recording");
        assert_eq!((recorded.frames, recorded.missed, recorded.files), (900, 0, 3));
        let files = recordings(&directory);
        assert_eq!(recorded.last_file.as_ref(), files.last());
        let bytes: u64 = files.iter().map(|file| file.metadata().expect("a file").len()).sum();
        assert_eq!(recorded.file_bytes, bytes);
        assert!(files.iter().all(|file| file.to_string_lossy().ends_with(suffix)), "{files:?}");
        assert_eq!(packets(&files), sent, "{name}");
        assert_eq!(packets(&files[..1]).len(), 300, "half an hour");
    }
    let directory = shared.rig.work.join("size");
    let rotation = Rotation { bytes: Some(100_000), every: None };
    let mut options = RecordOptions { directory: directory.clone(), rotation, ..shared.options() };
    let recorded = run(&options).expect("a recording");
    assert_eq!(recorded.files, recordings(&directory).len() as u64);
    assert!(recorded.files >= 7, "{} files", recorded.files);
    assert_eq!(packets(&recordings(&directory)), sent);

    // Again, beside what is there: nothing is overwritten, and old files go.
    std::fs::write(directory.join("w-notes.txt"), "kept").expect("a file of the user's");
    let before = recordings(&directory).len() as u64;
    run(&options).expect("a second recording");
    assert_eq!(recordings(&directory).len() as u64, 2 * before - 1);
    options.keep = Some(3);
    run(&options).expect("a third recording");
    let left = recordings(&directory);
    assert_eq!(
        left.iter().filter(|path| path.extension().is_some_and(|e| e == "pcapng")).count(),
        3
    );
    assert!(directory.join("w-notes.txt").exists());
}

#[test]
fn what_stands_in_the_way_of_a_recording_is_one_sentence() {
    let shared = Shared::new("way");
    let record = || {
        let mut command = Command::new(binary("wiretape"));
        command.args(["record", "--directory"]).arg(&shared.rig.segments);
        command.arg("--output").arg(shared.rig.work.join("pcap"));
        command
    };
    let absent = fail(record().args(["--segment", "nobody"]));
    assert!(absent.contains("no segment at") && absent.contains("nobody.seg"), "{absent}");
    assert!(!shared.rig.work.join("pcap").exists(), "a failed start leaves a folder behind");
    let blind = fail(record().arg("--wait"));
    assert!(blind.contains("name a worker with --segment"), "{blind}");

    std::fs::write(shared.rig.segments.join("w.frames"), [0; 4096]).expect("damage the frames");
    let damaged = fail(&mut record());
    assert!(damaged.contains("not shared frames"), "{damaged}");
    std::fs::remove_file(shared.rig.segments.join("w.frames")).expect("remove the frames");
    let none = fail(&mut record());
    assert!(none.contains("shares no frames") && none.contains("retain_frames"), "{none}");
}

#[test]
fn a_full_disk_ends_a_recording_with_what_was_written() {
    let shared = Shared::new("full");
    shared.share();
    let disk = shared.rig.work.join("disk");
    std::fs::create_dir(&disk).expect("a mount point");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&disk);
    if !mount.status().is_ok_and(|status| status.success()) {
        println!("skipped: cannot mount a small file system");
        return;
    }
    let options = RecordOptions { directory: disk.clone(), ..shared.options() };
    let result = run(&options);
    let left = recordings(&disk);
    let unmounted = Command::new("umount").arg(&disk).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    let error = result.expect_err("a full disk").to_string();
    assert!(error.contains("cannot write") && error.contains("make room"), "{error}");
    assert!(left.iter().all(|path| path.extension().is_some_and(|e| e == "part")), "{left:?}");
}

#[test]
fn a_recorder_follows_from_one_capture_to_the_next() {
    let first = Shared::new("next");
    let options = RecordOptions { wait: true, until_end: false, ..first.options() };
    let stop = AtomicBool::new(false);
    let mut epochs = Vec::new();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let recording = scope.spawn(|| {
            record(&options, &stop, &mut |notice| match notice {
                RecordNotice::Began { epoch, .. } => epochs.push(epoch),
                RecordNotice::Ended { .. } => ended.store(true, Ordering::Relaxed),
                _ => {}
            })
        });
        first.share();
        wait_for("the end of the first run", || ended.swap(false, Ordering::Relaxed));
        let spec = FramesSpec { epoch: 8, ..first.spec };
        let frames = FramesFile::reserve(&first.rig.segments, "w", spec).expect("room");
        frames.writer().expect("the layout");
        frames.publish().expect("the name");
        let segment = TestSegment::create(&first.rig.segment("w"), 8, 64);
        let next = Shared { rig: Rig::offline("unused"), frames, segment, spec };
        next.share();
        wait_for("the end of the second run", || ended.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);
        let recorded = recording.join().expect("no panic").expect("a recording");
        assert_eq!((recorded.frames, recorded.missed, recorded.files), (1800, 0, 2));
    });
    assert_eq!(epochs, [7, 8]);
}
