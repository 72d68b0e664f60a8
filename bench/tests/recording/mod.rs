//! A recorder beside a live capture, and what an independent reader finds in its files.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod shared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pcap_parser::pcapng::{Block, OptionCode, PcapNGOption, parse_block_le};
use wiretape_core::segment::Counter;
use wiretape_host::reader::Segment;

use crate::rig::{self, Process, Rig, binary, succeed, wait_for};

pub const LINE_A: &str = "239.54.12.111:26477";
pub const LINE_B: &str = "239.54.12.112:26477";

/// The configuration of a worker, without its source: both lines are one feed.
pub fn feed(rig: &Rig, worker: &str, source: &str) -> PathBuf {
    let text = format!(
        "[worker]\nname = \"{worker}\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\n{source}\n\
         [[feed]]\nname = \"sim\"\nprotocol = \"itch50-moldudp64\"\ngroup = \"{LINE_A}\"\n\
         group_b = \"{LINE_B}\"\nreorder_us = 2000000\nreorder_packets = 65536\n\
         date = 2026-03-02\n",
        rig.segments.display(),
    );
    rig.config(&format!("{worker}.toml"), &text)
}

/// Starts `wiretape record` for the worker `wire` and waits until it follows.
pub fn recorder(rig: &Rig, arguments: &[&str]) -> (Process, PathBuf) {
    let output = rig.work.join("pcap");
    let mut command = Command::new(binary("wiretape"));
    command.args(["record", "--until-end", "--json", "--segment"]).arg(rig.segment("wire"));
    command.arg("--output").arg(&output).args(arguments);
    let process = Process::start(&mut command);
    // Heartbeats of the session to come: once one is in a file, the recorder follows. Those that
    // come before the capture takes packets in go elsewhere.
    let (group, port) = LINE_A.split_once(':').expect("a port");
    let beat = r"WIRETAPE01\0\0\0\0\0\0\0\01\0\0";
    let send = format!("printf '{beat}' > /dev/udp/{group}/{port}");
    wait_for("the recorder", || {
        succeed(rig.exchange_tool("bash").args(["-c", &send]));
        std::thread::sleep(Duration::from_millis(50));
        output.exists() && !recordings(&output).is_empty()
    });
    (process, output)
}

/// Stops the recorder for a moment, and again, until `is_over`.
pub fn interrupt(recorder: &Process, is_over: impl Fn() -> bool) {
    while !is_over() {
        recorder.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(100));
        recorder.signal(libc::SIGCONT);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The JSON object among what a recorder said.
pub fn object(said: &str) -> serde_json::Value {
    let object = said.lines().find(|line| line.starts_with('{')).expect("a JSON object");
    serde_json::from_str(object).expect("JSON")
}

/// Waits until the capture has taken in everything that was sent.
pub fn wait_until_taken(segment: &Segment) {
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

/// Recordings, in the order of their times.
pub fn recordings(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory of the recordings");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// What an independent reader finds in a plain recording.
#[derive(Debug, Default)]
pub struct Contents {
    /// Names and descriptions.
    pub interfaces: Vec<(String, String)>,
    /// By interface.
    pub packets: BTreeMap<u32, u64>,
    /// `epb_dropcount`, by interface.
    pub dropped: BTreeMap<u32, u64>,
    /// `isb_*` by code, by interface.
    pub statistics: BTreeMap<u32, BTreeMap<u16, u64>>,
    /// Interface, time and length of each packet, in the order of the file.
    pub order: Vec<(u32, u64, usize)>,
}

pub const IF_RECV: u16 = 4;
pub const IF_DROP: u16 = 5;
pub const FILTER_ACCEPT: u16 = 6;
pub const OS_DROP: u16 = 7;
pub const USR_DELIV: u16 = 8;
const DROP_COUNT: u16 = 4;

impl Contents {
    pub fn read(path: &Path) -> Contents {
        let bytes = std::fs::read(path).expect("the recording");
        let (mut rest, mut found) = (bytes.as_slice(), Contents::default());
        let number = |value: &[u8]| u64::from_le_bytes(value[..8].try_into().expect("8 bytes"));
        let text = |options: &[PcapNGOption<'_>], code| {
            let option = options.iter().find(|option| option.code == code).expect("the option");
            String::from_utf8_lossy(option.as_bytes().expect("its bytes")).into_owned()
        };
        while !rest.is_empty() {
            let (behind, block) = parse_block_le(rest).expect("a whole block");
            rest = behind;
            match block {
                Block::SectionHeader(_) => {}
                Block::InterfaceDescription(description) => {
                    assert_eq!(description.if_tsresol, 9);
                    let name = text(&description.options, OptionCode::IfName);
                    let more = text(&description.options, OptionCode::IfDescription);
                    found.interfaces.push((name, more));
                }
                Block::EnhancedPacket(packet) => {
                    assert!((packet.if_id as usize) < found.interfaces.len(), "not described yet");
                    *found.packets.entry(packet.if_id).or_default() += 1;
                    let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                    found.order.push((packet.if_id, time, packet.caplen as usize));
                    for option in packet.options.iter().filter(|one| one.code.0 == DROP_COUNT) {
                        *found.dropped.entry(packet.if_id).or_default() += number(&option.value);
                    }
                }
                Block::InterfaceStatistics(statistics) => {
                    let values = found.statistics.entry(statistics.if_id).or_default();
                    for option in statistics.options.iter().filter(|option| option.code.0 != 0) {
                        values.insert(option.code.0, number(&option.value));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        found
    }

    /// The number of the queue (the first interfaces are the queues) that an interface is on.
    pub fn queue_of(&self, interface: u32) -> usize {
        let queues = self.statistics.len();
        let (name, text) = &self.interfaces[interface as usize];
        let mut queues = self.interfaces[..queues].iter();
        let on = |(queue, _): &(String, String)| queue == name || text.ends_with(queue.as_str());
        queues.position(on).expect("a queue")
    }

    /// Sums by queue of what is known by interface.
    pub fn by_queue(&self, by_interface: &BTreeMap<u32, u64>) -> Vec<u64> {
        let mut sums = vec![0; self.statistics.len()];
        for (interface, count) in by_interface {
            sums[self.queue_of(*interface)] += count;
        }
        sums
    }
}

pub fn digest(rig: &Rig, worker: &str) -> String {
    let mut command = Command::new(binary("wiretape"));
    let text = succeed(command.args(["digest", "--json", "--segment"]).arg(rig.segment(worker)));
    let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    format!("{} of {}", object["digest"], object["events"])
}

/// Plays all files together, as they were received, and expects the events of the live capture.
pub fn expect_the_same_events(rig: &Rig, files: &[PathBuf]) {
    let whole = rig.work.join("whole.pcapng");
    let joined: Vec<u8> =
        files.iter().flat_map(|file| std::fs::read(file).expect("a file")).collect();
    std::fs::write(&whole, joined).expect("write the whole recording");
    let source = format!("kind = \"pcap\"\npath = \"{}\"", whole.display());
    let replay = feed(rig, "again", &source);
    succeed(rig.capture("wiretape-capture").arg("--config").arg(replay));
    assert_eq!(digest(rig, "wire"), digest(rig, "again"));
}

/// Expects that the tools that users open recordings with read this one.
pub fn expect_readable_by_other_tools(file: &Path, packets: usize) {
    let run = |tool: &str, arguments: &[&str]| {
        let mut command = Command::new(tool);
        match command.args(arguments).arg(file).output() {
            Ok(output) => {
                assert!(output.status.success(), "{tool}: {}", rig::text(&output));
                Some(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Err(error) => {
                println!("skipped: {tool}: {error}");
                None
            }
        }
    };
    if let Some(said) = run("capinfos", &["-M", "-c"]) {
        assert!(said.contains(&format!("{packets}")), "{packets} packets: {said}");
    }
    if let Some(said) = run("tshark", &["-T", "fields", "-e", "frame.interface_name", "-r"]) {
        assert_eq!(said.lines().count(), packets);
        assert!(said.lines().any(|line| line == "sim:A"), "{said}");
    }
}
