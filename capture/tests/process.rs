//! The program as its users meet it: exit codes, sentences, and what is left behind after a
//! clean end, a signal and a kill.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use wiretape_capture::segment_file::MappedWords;
use wiretape_core::event::Event;
use wiretape_core::segment::{Counter, FeedCounter, Ledger, SegmentView, State};

mod day;

/// A directory for a segment and a capture file in it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(pcap: &[u8]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("day.pcap"), pcap).unwrap();
        Place { dir }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-capture"));
        command.arg("--segment-dir").arg(self.segments()).args(["--event-slots", "65536"]);
        command.args(["--instruments", "16384"]).args(arguments);
        command
    }

    /// A run over the capture file, with more arguments.
    fn replay(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["--feed", day::FEED]);
        command.arg("--pcap").arg(self.dir.path().join("day.pcap")).args(arguments);
        command
    }

    fn segments(&self) -> PathBuf {
        self.dir.path().join("segments")
    }

    fn left_behind(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.segments()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn output(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Kills the child at the end, whatever happens.
struct Running(Child);

impl Running {
    /// Starts a capture and waits until its segment is there.
    fn start(mut command: Command, segment: &Path) -> Running {
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (running, start) = (Running(child), Instant::now());
        while state(segment) != Some(State::Running) {
            assert!(start.elapsed() < Duration::from_secs(10), "no segment after 10 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and has not been waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, signal) }, 0);
    }

    fn code(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn map(segment: &Path) -> Option<MappedWords> {
    let file = fs::OpenOptions::new().read(true).write(true).open(segment).ok()?;
    let bytes = file.metadata().ok()?.len() as usize;
    MappedWords::map(&file, bytes).ok()
}

fn state(segment: &Path) -> Option<State> {
    let map = map(segment)?;
    Some(SegmentView::attach(map.words()).ok()?.header().state())
}

/// Every event that the ring still holds.
fn events(view: &SegmentView<'_>) -> Vec<Event> {
    let mut reader = view.events().reader_from_oldest();
    let mut events = Vec::new();
    while let Some((_, event)) = reader.next_event().unwrap() {
        events.push(event);
    }
    events
}

#[test]
fn a_capture_that_cannot_say_what_it_has_to_say_goes_on() {
    let place = Place::new(&day::pcap(&day::frames(&day::made_up(10), 9), 1_000));
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    // With --json what it says when it starts goes to standard error, as warnings do.
    let mut replay = place.replay(&["--json"]);
    let done = replay.stderr(full()).output().unwrap();
    assert!(done.status.success() && !done.stdout.is_empty(), "{}", done.status);
    let mut refused = place.command(&["--check", "--config", "/nonexistent"]);
    assert_eq!(refused.stderr(full()).status().unwrap().code(), Some(2));
}

#[test]
fn a_replay_counts_every_message_and_gives_the_same_events_each_time() {
    let frames = day::frames(&day::made_up(3_000), 9);
    let place = Place::new(&day::pcap(&frames, 1_000));
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (code, stdout, stderr) = output(place.replay(&["--json"]));
        assert_eq!(code, 0, "{stderr}");
        let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(summary["feeds"][0]["messages"], 4_501);
        assert_eq!(summary["frames"], frames.len());
        assert_eq!(summary["ledger"]["closed"], true);
        assert_eq!(summary["cut"], serde_json::Value::Null);
        let map = map(&place.segments().join("capture.seg")).unwrap();
        let view = SegmentView::attach(map.words()).unwrap();
        assert_eq!(view.header().state(), State::Ended);
        let events = events(&view);
        assert_eq!(summary["events"], events.len());
        runs.push((events, view.header().epoch()));
    }
    assert_eq!(runs[0].0, runs[1].0, "the same packets, the same events, bit for bit");
    assert_ne!(runs[0].1, runs[1].1, "another epoch");
    assert_eq!(place.left_behind(), ["capture.lock", "capture.seg"]);
}

#[test]
fn real_messages_come_through_and_a_compressed_file_changes_nothing() {
    let Some(path) = day::shared("itch/aapl-20200130-10k.itch") else { return };
    let pcap = day::pcap(&day::frames(&day::messages_of(&path), 8), 1_000);
    let place = Place::new(&zstd::encode_all(&pcap[..], 1).unwrap());
    let (code, stdout, stderr) = output(place.replay(&["--json", "--date", "2020-01-30"]));
    assert_eq!(code, 0, "{stderr}");
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(summary["feeds"][0]["messages"], 10_000);
    let map = map(&place.segments().join("capture.seg")).unwrap();
    let view = SegmentView::attach(map.words()).unwrap();
    let feed = view.feed(0).unwrap();
    let known = [(b'A', 4_758), (b'D', 4_083), (b'E', 849), (b'P', 240), (b'L', 52), (b'U', 7)];
    for (kind, count) in known {
        assert_eq!(feed.messages_of_type(kind), count, "{}", char::from(kind));
    }
    assert_eq!(feed.counter(FeedCounter::BookErrors), 0);
    assert!(Ledger::read(&view.counters(), false).closes());
}

#[test]
fn a_file_cut_inside_a_record_is_delivered_up_to_there_and_said() {
    let frames = day::frames(&day::made_up(300), 9);
    let mut pcap = day::pcap(&frames, 1_000);
    pcap.truncate(pcap.len() - 10);
    let place = Place::new(&pcap);
    let (code, stdout, stderr) = output(place.replay(&[]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    let count = frames.len() as u64;
    assert!(stdout.contains(&format!("{} frames", count - 1)), "{stdout}");
    assert!(stdout.contains(&format!("the file ends inside record {count} ")), "{stdout}");
}

#[test]
fn damage_ends_the_run_with_a_reason_and_the_segment_with_what_came_before() {
    let frames = day::frames(&day::made_up(300), 9);
    let mut pcap = day::pcap(&frames, 1_000);
    let second = 24 + 16 + frames[0].len();
    pcap[second + 8..second + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let place = Place::new(&pcap);
    let (code, stdout, stderr) = output(place.replay(&["--json"]));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("is damaged at byte") && stderr.contains("after 1 packets"),
        "{stderr}"
    );
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&summary["frames"], &summary["feeds"][0]["messages"]), (&1.into(), &9.into()));
    let (code, stdout, _) = output(place.replay(&[]));
    assert_eq!((code, stdout.contains("\n1 frame, ")), (1, true), "{stdout}");
    let map = map(&place.segments().join("capture.seg")).unwrap();
    let view = SegmentView::attach(map.words()).unwrap();
    assert_eq!(view.header().state(), State::Ended);
    assert_eq!(view.feed(0).unwrap().counter(FeedCounter::Packets), 1);
}

/// A first signal is heard also by a worker that waits for more of a pipe, and where the pipe fell
/// silent inside a record or a gzip member, that is no damage.
#[test]
fn a_pipe_that_falls_silent_ends_with_the_first_signal() {
    let messages = day::made_up(300);
    let pcap = day::pcap(&day::frames(&messages, 9), 1_000);
    let half_a_record = &pcap[24..60];
    let member = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let half_a_member = member(&pcap).split_at(60).0.to_vec();
    for bytes in
        [pcap.clone(), [&pcap[..], half_a_record].concat(), [member(&pcap), half_a_member].concat()]
    {
        stop_in_silence_behind(&bytes, messages.len() as u64);
    }
}

fn stop_in_silence_behind(bytes: &[u8], messages: u64) {
    let place = Place::new(bytes);
    let pipe = place.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = place.command(&["--feed", day::FEED]);
    command.arg("--pcap").arg(&pipe);
    // For reading as well, so that it opens though nobody reads yet.
    let mut writer = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    writer.write_all(bytes).unwrap();
    let segment = place.segments().join("capture.seg");
    let mut running = Running::start(command, &segment);
    let start = Instant::now();
    let taken = || map(&segment).map(|map| counted(&map));
    while taken() < Some(messages) {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?} messages after 10 s", taken());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal(libc::SIGTERM);
    let ended = loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            break status.code();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it did not hear the signal");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((ended, state(&segment)), (Some(0), Some(State::Ended)));
    let map = map(&segment).unwrap();
    let view = SegmentView::attach(map.words()).unwrap();
    assert_eq!(view.counters().get(Counter::SourceCut), 0, "not known to be cut");
    drop(writer);
}

fn counted(map: &MappedWords) -> u64 {
    let view = SegmentView::attach(map.words()).unwrap();
    view.feed(0).unwrap().counter(FeedCounter::Messages)
}

/// What gave nothing is named where the run sums up, not only where somebody looks for it.
#[test]
fn the_summary_names_what_was_not_used() {
    let mut messages = day::made_up(9);
    let mut beyond = messages[0].clone();
    beyond[1..3].copy_from_slice(&20_000_u16.to_be_bytes());
    messages.extend([beyond, vec![b'~'; 30]]);
    let mut frames = day::frames(&messages, 9);
    frames.push(frames[0].clone());
    let mut fragment = frames[0].clone();
    fragment[20] |= 0x20;
    frames.extend([fragment.clone(), fragment, vec![0; 60]]);
    let place = Place::new(&day::pcap(&frames, 1_000));
    let (code, stdout, stderr) = output(place.replay(&[]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    let unused = " 0 restarts, 9 duplicate messages, 1 unknown messages\n";
    assert!(stdout.contains(unused), "{stdout}");
    assert!(stdout.contains("\n1 message of instruments that there is no room"), "{stdout}");
    assert!(stdout.contains("could be used: 1 not ipv4, 2 fragment\n"), "{stdout}");
    let (_, stdout, _) = output(place.replay(&["--json"]));
    let summary: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(summary["refused"], serde_json::json!({ "not_ipv4": 1, "fragment": 2 }));
    let unused = serde_json::json!({ "duplicate_messages": 9, "unknown_messages": 1 });
    assert_eq!(summary["feeds"][0]["unused"], unused);
    assert_eq!(summary["beyond_instruments"], 1);
}

#[test]
fn a_file_of_more_events_than_the_segment_holds_is_told_from_one_of_fewer() {
    let place = Place::new(&day::pcap(&day::frames(&day::made_up(3_000), 9), 1_000));
    let (_, all, _) = output(place.replay(&[]));
    assert!(!all.contains("the segment holds"), "{all}");
    let small = |arguments: &[&str]| {
        let mut replay = Command::new(env!("CARGO_BIN_EXE_wiretape-capture"));
        replay.args(["--event-slots", "1024", "--feed", day::FEED]).args(arguments);
        replay.arg("--segment-dir").arg(place.segments());
        replay.arg("--pcap").arg(place.dir.path().join("day.pcap"));
        output(replay).1
    };
    let few = small(&[]);
    assert!(few.contains("\nthe segment holds the latest 1024 of them"), "{few}");
    let summary: serde_json::Value = serde_json::from_str(&small(&["--json"])).unwrap();
    let number = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!(number("events") - number("overwritten"), 1024);
}

/// Where memory of many gigabytes is touched, a start takes a minute.
#[test]
fn a_stop_is_heard_before_the_start_is_over() {
    let place = Place::new(&[]);
    let pipe = place.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut replay = place.command(&["--feed", day::FEED]);
    replay.arg("--pcap").arg(&pipe).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Running(replay.spawn().unwrap());
    // It waits for the file's first bytes, and has its handlers by then.
    let _silent = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    child.signal(libc::SIGTERM);
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "wiretape-capture: stopped before it had started\n");
    assert_eq!(child.code(), Some(0));
    assert_eq!(place.left_behind(), [""; 0]);
}

#[test]
fn output_that_nobody_can_take_is_a_failure() {
    let place = Place::new(&day::pcap(&day::frames(&day::made_up(9), 9), 1_000));
    for arguments in [
        &["--json"][..],
        &["--groups"],
        &["--check"],
        &["--completions", "bash"],
        &["--help"],
        &["--version"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = place.replay(arguments);
        command.stdout(full);
        let Output { status, stderr, .. } = command.output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot write: No space left on device"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_told() {
    let place = Place::new(&day::pcap(&day::frames(&day::made_up(9), 9), 1_000));
    let replay = place.replay(&[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 1; exec \"$@\"", "sh"]);
    limited.arg(replay.get_program()).args(replay.get_args());
    let (code, _, stderr) = output(limited);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("cannot reserve") && stderr.contains("File too large"), "{stderr}");
}

#[test]
fn a_signal_ends_the_capture_cleanly() {
    // The second packet is due in an hour.
    let frames = day::frames(&day::made_up(9), 9);
    let place = Place::new(&day::pcap(&frames[..2], 3_600_000_000_000));
    let segment = place.segments().join("capture.seg");
    let recorded = ["--speed", "recorded"];
    let running = Running::start(place.replay(&recorded), &segment);
    let (code, _, stderr) = output(place.replay(&recorded));
    assert_eq!(code, 1);
    let pid = running.0.id();
    assert!(stderr.contains(&format!("'capture' runs already (pid {pid})")), "{stderr}");
    assert_eq!(state(&segment), Some(State::Running), "the refused one changed nothing");
    let asked = Instant::now();
    running.signal(libc::SIGTERM);
    assert_eq!(running.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert_eq!(state(&segment), Some(State::Ended));
}

/// `timeout` and others send their signal to the process and to its group; a terminal that goes away
/// says so by a hangup, which `nohup` keeps away.
#[test]
fn signals_that_come_twice_and_hangups_end_it_cleanly_too() {
    let frames = day::frames(&day::made_up(9), 9);
    let place = Place::new(&day::pcap(&frames[..2], 3_600_000_000_000));
    let segment = place.segments().join("capture.seg");
    let recorded = ["--speed", "recorded"];
    for signals in
        [[libc::SIGTERM; 3], [libc::SIGHUP; 3], [libc::SIGINT, libc::SIGTERM, libc::SIGHUP]]
    {
        let mut command = place.replay(&recorded);
        // SAFETY: no memory is involved.
        let as_usual = || unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
        // Whatever started the tests may have wanted to outlive its terminal.
        // SAFETY: signal may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                as_usual();
                Ok(())
            })
        };
        let running = Running::start(command, &segment);
        for signal in signals {
            running.signal(signal);
            std::thread::sleep(Duration::from_millis(3));
        }
        assert_eq!(running.code(), Some(0), "{signals:?}");
        assert_eq!(state(&segment), Some(State::Ended), "{signals:?}");
    }
    let mut command = Command::new("nohup");
    let replay = place.replay(&recorded);
    command.arg(replay.get_program()).args(replay.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running::start(command, &segment);
    running.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(state(&segment), Some(State::Running), "a hangup ended what was to outlive it");
    running.signal(libc::SIGTERM);
    assert_eq!(running.code(), Some(0));
}

#[test]
fn after_a_kill_a_restart_needs_no_cleaning_and_old_readers_learn_of_it() {
    let frames = day::frames(&day::made_up(9), 9);
    let place = Place::new(&day::pcap(&frames[..2], 3_600_000_000_000));
    let segment = place.segments().join("capture.seg");
    let recorded = ["--speed", "recorded", "--idle", "park"];
    let running = Running::start(place.replay(&recorded), &segment);
    let reader = map(&segment).unwrap();
    let old = SegmentView::attach(reader.words()).unwrap();
    let start = Instant::now();
    while old.events().head() < 2 && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let seen = events(&old);
    running.signal(libc::SIGKILL);
    assert_eq!(running.code(), None);
    assert_eq!((old.header().state(), events(&old)), (State::Running, seen.clone()));

    let (code, _, stderr) = output(place.replay(&["--speed", "unlimited"]));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!((old.header().state(), events(&old)), (State::Superseded, seen));
    assert_eq!(state(&segment), Some(State::Ended));
}

#[test]
fn nothing_is_left_when_asked_and_nothing_is_made_on_a_mistake() {
    let place = Place::new(&day::pcap(&day::frames(&day::made_up(50), 9), 1_000));
    assert_eq!(output(place.replay(&["--unlink-on-exit"])).0, 0);
    assert_eq!(place.left_behind(), [""; 0]);

    let mistakes: [(&[&str], i32, &str); 6] = [
        (&["--feed", day::FEED], 2, "there is no [source]"),
        (&["--pcap", "/nonexistent.pcap", "--feed", day::FEED], 1, "cannot open the capture"),
        (&["--interface", "no-such-if0", "--feed", day::FEED], 1, "no interface 'no-such-if0'"),
        (&["--pcap", "x", "--feed", "itch@1.2.3.4:5"], 2, "did you mean"),
        (&["--pcap", "x", "--interface", "y"], 2, "cannot be used with"),
        (&["--config", "/nonexistent.toml"], 2, "/nonexistent.toml: cannot read"),
    ];
    for (arguments, expected, sentence) in mistakes {
        let (code, _, stderr) = output(place.command(arguments));
        assert_eq!(code, expected, "{arguments:?}: {stderr}");
        assert!(stderr.contains(sentence), "{arguments:?}: {stderr}");
    }
    assert_eq!(place.left_behind(), [""; 0]);
}

#[test]
fn a_check_starts_nothing() {
    let place = Place::new(&[]);
    let (code, stdout, _) =
        output(place.command(&["--check", "--pcap", "/nonexistent.pcap", "--feed", day::FEED]));
    assert_eq!(code, 0);
    assert!(stdout.contains("configuration is valid"), "{stdout}");
    assert_eq!(place.left_behind(), [""; 0]);
}

#[test]
fn too_few_descriptors_are_no_missing_interface() {
    for most in 4..=8 {
        let mut sh = Command::new("sh");
        let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        sh.args(["-c", &limited, env!("CARGO_BIN_EXE_wiretape-capture"), "--feed", day::FEED]);
        let dir = tempfile::tempdir().unwrap();
        sh.args(["--interface", "lo", "--pin-dir", "/nonexistent", "--segment-dir"])
            .arg(dir.path());
        let output = sh.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && !said.contains("there is no interface"), "{said}");
    }
}
