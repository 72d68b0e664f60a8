//! The two binaries as a user runs them.

mod day;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use wiretape_core::segment::{Counter, FeedIdentity, SessionState, State, SymbolEntry};
use wiretape_host::dbn::DbnFile;
use wiretape_host::reader::testing::TestSegment;

fn wiretape(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ok(directory: &Path, arguments: &[&str]) -> String {
    let output = wiretape(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A host, killed without a word when dropped.
struct Host(Child);

impl Host {
    fn start(directory: &Path) -> Host {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wiretape-host"))
            .args(["--directory", ".", "--socket", "host.sock"])
            .current_dir(directory)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("answering on host.sock"), "{first}");
        Host(child)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn wrong_use_and_missing_partners_are_told_apart_by_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let fails = |arguments: &[&str], code: i32, said: &str| {
        let output = wiretape(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains(said), "{arguments:?}: {error}");
        assert_eq!(
            error.trim_end().lines().count(),
            if code == 1 { 1 } else { error.lines().count() }
        );
    };
    fails(&["tail", "--nonsense"], 2, "--nonsense");
    fails(&["query", "bars"], 2, "--every");
    fails(&["query", "range", "--from", "soon", "--socket", "no.sock"], 2, "09:30");
    fails(&["query", "range", "--socket", "no.sock"], 1, "is wiretape-host running?");
    fails(&["status", "--directory", "none"], 1, "no segment in none");
    let elsewhere = ["tail", "--segment", "w0", "--directory", "none"];
    fails(&elsewhere, 1, "none/w0.seg");
    fails(&elsewhere, 1, "(`wiretape segments --directory none` lists what is there)");
    fails(&["tail", "--segment", "w0.seg"], 1, "(`wiretape segments --directory .` lists");
    std::fs::write(directory.path().join("bad.seg"), [0xFF; 8192]).unwrap();
    fails(&["digest", "--directory", "."], 1, "not a wiretape segment");
    for name in ["a.seg", "b.seg"] {
        drop(TestSegment::create(&directory.path().join(name), 1, 16));
    }
    fails(&["tail", "--directory", "."], 2, "name one with --segment");
}

#[test]
fn an_open_ledger_is_shown_and_fails_the_status_of_a_run_that_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let segment = TestSegment::create(&directory.path().join("w.seg"), 1, 16);
    let writer = segment.writer();
    writer.header().set_source("xdp veth0 queue 0, native, copy");
    writer.counters().set(Counter::InstrumentsFull, 1_234);
    writer.counters().set(Counter::XdpSeen, 15);
    writer.counters().set(Counter::XdpPassed, 3);
    writer.counters().set(Counter::XdpMatched, 12);
    writer.counters().set(Counter::XdpNoSocket, 1);
    writer.counters().set(Counter::XdpUnserved, 1_500);
    writer.counters().set(Counter::XdpRedirected, 10);
    writer.counters().set(Counter::Frames, 8);
    writer.counters().set(Counter::Datagrams, 8);
    writer.counters().set(Counter::SocketRingFull, 1);
    segment.beat();
    let live = wiretape(directory.path(), &["status", "--directory", "."]);
    assert!(text(&live.stdout).contains("does NOT close; packets unaccounted: 1"));
    assert_eq!(live.status.code(), Some(0), "packets may be in flight");
    assert!(!text(&live.stdout).contains('\x1b'), "no colours into a pipe");
    assert!(text(&live.stdout).contains("1,234 messages of instruments that there is no room"));
    writer.header().set_state(State::Ended);
    let over = wiretape(directory.path(), &["status", "--directory", ".", "--json"]);
    assert_eq!(over.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&over.stdout).unwrap();
    let ledger = &json["workers"][0]["ledger"];
    assert_eq!(
        (&ledger["unaccounted_verdicts"], &ledger["unaccounted_arrivals"]),
        (&1.into(), &1.into())
    );
    assert_eq!((&ledger["seen"], &ledger["verdicts"]["xdp_passed"]), (&15.into(), &3.into()));
    writer.counters().add(Counter::SocketDropped, 1);
    let over = wiretape(directory.path(), &["status", "--directory", "."]);
    assert_eq!(over.status.code(), Some(1), "a packet that was seen is not accounted for");
    writer.counters().add(Counter::XdpFragments, 1);
    let said = ok(directory.path(), &["status", "--directory", "."]);
    assert!(said.contains("closes") && said.contains("  xdp fragments "), "{said}");
    assert!(said.contains("1,500 packets of steered groups came on other queues"), "{said}");

    let listed = ok(directory.path(), &["segments", "--directory", "."]);
    assert!(listed.contains("ended"), "{listed}");
    ok(directory.path(), &["segments", "remove", "--directory", "."]);
    assert!(!directory.path().join("w.seg").exists());
}

#[test]
fn a_living_segment_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let segment = TestSegment::create(&directory.path().join("w.seg"), 1, 16);
    segment.beat();
    let refused = wiretape(directory.path(), &["segments", "remove", "w", "--directory", "."]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("living writer"));
    assert!(directory.path().join("w.seg").exists());
    ok(directory.path(), &["segments", "remove", "w", "--force", "--directory", "."]);
    assert!(!directory.path().join("w.seg").exists());
}

#[test]
fn segments_stand_in_columns_however_long_their_states_are() {
    let directory = tempfile::tempdir().unwrap();
    let segment = TestSegment::create(&directory.path().join("w0.seg"), 1, 16);
    segment.beat();
    std::fs::write(directory.path().join("a-worker-with-a-long-name.seg"), "no segment").unwrap();
    let told = ok(directory.path(), &["segments", "--directory", "."]);
    let lines: Vec<&str> = told.lines().collect();
    let [head, broken, whole] = lines[..] else { panic!("{told}") };
    let state = head.find("state").unwrap();
    assert_eq!(broken.find("unreadable"), Some(state), "{told}");
    assert_eq!(whole.find("running"), Some(state), "{told}");
    let epoch = head.find("epoch").unwrap();
    assert_eq!(whole[epoch..].trim(), "1", "{told}");
    assert!(broken[epoch..].len() > 10 && broken.as_bytes()[epoch - 1] == b' ', "{told}");
}

#[test]
fn the_segment_of_a_capture_that_stands_still_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["w", "dead"] {
        let segment = TestSegment::create(&path(&format!("{name}.seg")), 1, 16);
        segment.writer().header().set_heartbeat_ns(0);
        std::fs::write(path(&format!("{name}.lock")), "4711").unwrap();
    }
    let lock = std::fs::File::open(path("w.lock")).unwrap();
    lock.try_lock().unwrap();

    let nothing = ok(directory.path(), &["segments", "remove", "--directory", "none"]);
    assert_eq!(nothing, "no segment in none\n");

    // Of all: the dead one goes, and what is left is told of.
    let all = wiretape(directory.path(), &["segments", "remove", "--directory", "."]);
    assert_eq!(all.status.code(), Some(0));
    assert_eq!(text(&all.stdout), "removed ./dead.seg\n");
    assert!(text(&all.stderr).contains("left alone: ./w.seg"), "{}", text(&all.stderr));
    let named = ["segments", "remove", "w", "--directory", "."];
    let refused = wiretape(directory.path(), &named);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("living writer (pid 4711 holds its lock): stop it, or add"), "{said}");
    assert!(path("w.seg").exists());

    // Nor one that cannot be read.
    let whole = std::fs::read(path("w.seg")).unwrap();
    std::fs::write(path("w.seg"), [0xFF; 8192]).unwrap();
    assert_eq!(wiretape(directory.path(), &named).status.code(), Some(1));
    std::fs::write(path("w.seg"), &whole).unwrap();

    ok(directory.path(), &["segments", "remove", "w", "--force", "--directory", "."]);
    assert!(!path("w.seg").exists());
    let segment = TestSegment::create(&path("w.seg"), 2, 16);
    segment.writer().header().set_heartbeat_ns(0);
    // Not only closed: a child that another test forks has it open until it becomes a program.
    lock.unlock().unwrap();
    ok(directory.path(), &named);
    assert!(!path("w.seg").exists());
}

/// A fortieth of the Nasdaq day in a segment of its own.
fn some_of_the_day(epoch: u64) -> Option<(tempfile::TempDir, TestSegment)> {
    let day = day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz")?;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let segment = day::play(&day[..day.len() / 40], &path, epoch, 1 << 16, &[]);
    Some((directory, segment))
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn two_runs_over_the_same_packets_have_one_digest() {
    let (Some(first), Some(second)) = (some_of_the_day(5), some_of_the_day(6)) else { return };
    let digest = |directory: &Path| {
        let line = ok(directory, &["digest", "--until-end", "--directory", "."]);
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(digest(first.0.path()).len(), 32);
    assert_eq!(digest(first.0.path()), digest(second.0.path()));
    let lapped = tempfile::tempdir().unwrap();
    let day = day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz").unwrap();
    drop(day::play(&day[..day.len() / 40], &lapped.path().join("w.seg"), 7, 1 << 10, &[]));
    let output = wiretape(lapped.path(), &["digest", "--directory", "."]);
    assert_eq!(output.status.code(), Some(1), "a digest of a tape with holes");
    assert!(text(&output.stdout).contains("LOST sequences 1 through"));

    let (file, ended) = (lapped.path().join("rest.dbn"), "ended, last event");
    let tail = ["tail", "--from", "oldest", "--until-end", "--directory", ".", "--dbn", "-o"];
    let output = wiretape(lapped.path(), &[&tail[..], &["rest.dbn"]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "a file without the tape's beginning: {said}");
    let last: u64 = said.split(ended).nth(1).unwrap().trim().parse().unwrap();
    let records = DbnFile::open(&file).unwrap().map(Result::unwrap).count() as u64;
    let missing = format!("the ring holds events 1 through {} no more", last - records);
    assert!(said.contains(&missing), "{records} records: {said}");
}

/// Output that nobody can take is a failure, told in a sentence.
#[test]
fn output_to_a_full_device_fails_every_command() {
    let Some((directory, _segment)) = some_of_the_day(5) else { return };
    let tail = ["tail", "--from", "oldest", "--until-end", "--directory", "."];
    for arguments in [
        &tail[..],
        &[&tail[..], &["--json"]].concat(),
        &[&tail[..], &["--dbn"]].concat(),
        &["status", "--directory", "."],
        &["digest", "--directory", "."],
        &["book", "AAPL", "--directory", "."],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["--version"],
        &["tail", "--help"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
            .args(arguments)
            .current_dir(directory.path())
            .stdout(full)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(": No space left on device (os error 28)"), "{arguments:?}: {said}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut host = Command::new(env!("CARGO_BIN_EXE_wiretape-host"));
    let output = host.arg("--version").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("No space left on device"));
}

/// The signal for a file that may not grow any further would end the process without a word.
#[test]
fn a_limit_on_the_size_of_files_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 1; exec \"$0\" completions bash > script"])
        .arg(env!("CARGO_BIN_EXE_wiretape"))
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write: File too large"), "{said}");
}

#[test]
fn the_tape_is_printed_for_people_as_json_and_as_dbn() {
    let Some((directory, segment)) = some_of_the_day(5) else { return };
    let (at, head) = (directory.path(), segment.writer().ring().head());
    let tail = ["tail", "--from", "oldest", "--until-end", "--directory", "."];
    let lines = ok(at, &tail);
    assert_eq!(lines.lines().count() as u64, head);
    let objects = ok(at, &[&tail[..], &["--json", "-i", "AAPL", "-n", "50"]].concat());
    let aapl = objects.lines().map(json).filter(|event| event["symbol"] == "AAPL").count();
    assert!(aapl > 40 && objects.lines().count() == 50);

    let dbn = wiretape(at, &[&tail[..], &["--dbn"]].concat()).stdout;
    use dbn::decode::{DbnMetadata, DecodeRecordRef};
    let mut decoder = dbn::decode::dbn::Decoder::new(&dbn[..]).unwrap();
    assert!(decoder.metadata().symbols.contains(&"AMZN".to_owned()));
    let mut records = 0;
    while decoder.decode_record_ref().unwrap().is_some() {
        records += 1;
    }
    assert!(records > 1_000 && records <= head);

    std::fs::write(at.join("day.dbn"), &dbn).unwrap();
    let piped = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(["dbn", "info", "-"])
        .stdin(std::fs::File::open(at.join("day.dbn")).unwrap())
        .output()
        .unwrap();
    let told = ok(at, &["dbn", "info", "day.dbn"]);
    assert_eq!(text(&piped.stdout), told.replacen("day.dbn", "-", 1));
    assert!(told.contains(" records of 2 instruments, "), "{told}");

    let dbn = wiretape(at, &[&tail[..], &["--dbn", "-i", "AAPL"]].concat()).stdout;
    let decoder = dbn::decode::dbn::Decoder::new(&dbn[..]).unwrap();
    assert_eq!(decoder.metadata().symbols, ["AAPL"], "the metadata name what the file holds");

    // A reader that has enough ends us quietly.
    let mut child = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(tail)
        .current_dir(at)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let book = ok(at, &["book", "AAPL", "--directory", ".", "--json"]);
    assert!(json(&book)["bid_price"].is_string(), "{book}");
}

/// Whoever can write a segment can write anything into it.
#[test]
fn damaged_numbers_of_a_segment_cost_no_memory_and_end_no_command() {
    let directory = tempfile::tempdir().unwrap();
    let segment = TestSegment::create(&directory.path().join("w.seg"), 5, 16);
    let writer = segment.writer();
    let instruments = u32::MAX;
    writer.feed(0).unwrap().set_identity(&FeedIdentity { instruments, ..FeedIdentity::default() });
    for counter in [Counter::NicStamped, Counter::NicUnstamped, Counter::NicRefused] {
        writer.counters().set(counter, u64::MAX);
    }
    let status = ok(directory.path(), &["status", "--directory", "."]);
    assert!(status.contains("18,446,744,073,709,551,615 of the NIC"), "{status}");
    writer.header().set_state(State::Ended);
    let tail = ["tail", "--from", "oldest", "--until-end", "--dbn", "--schema", "mbp-1"];
    ok(directory.path(), &[&tail[..], &["--directory", "."]].concat());
}

#[test]
fn a_book_says_when_it_may_be_wrong_and_when_nobody_keeps_it_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let segment = TestSegment::create(&directory.path().join("w.seg"), 5, 16);
    let writer = segment.writer();
    let mut symbol = [0; 16];
    symbol[..3].copy_from_slice(b"ABC");
    writer.announce(3, &SymbolEntry { symbol, feed: 0, publisher_id: 2, round_lot: 100 });
    let feed = writer.feed(0).unwrap();
    feed.set_identity(&FeedIdentity { instruments: 8, ..FeedIdentity::default() });
    feed.set_session(&SessionState { next_seq: 7, ..SessionState::default() });
    let said = || ok(directory.path(), &["book", "ABC", "--directory", "."]);
    let told = || json(&ok(directory.path(), &["book", "ABC", "--json", "--directory", "."]));
    assert!(!said().contains("CAUTION"), "{}", said());
    assert_eq!((told()["state"].as_str(), told()["warnings"][0].as_str()), (Some("running"), None));

    // A loss, and no update of this instrument since.
    let state = SessionState { next_seq: 9, maybe_bad_book: true, ..SessionState::default() };
    feed.set_session(&state);
    let warning = "messages were lost, the book may be wrong";
    assert!(said().contains(&format!("CAUTION: {warning}")), "{}", said());
    assert_eq!(told()["warnings"][0], warning);

    writer.header().set_heartbeat_ns(0);
    assert!(said().contains("CAUTION: the worker is dead (silent for "), "{}", said());
    writer.header().set_state(State::Ended);
    assert!(said().contains("the worker has ended: this is how it stood then"), "{}", said());
    assert_eq!(told()["state"], "ended");
}

#[test]
fn a_killed_host_starts_again_and_answers_as_before() {
    let Some((directory, segment)) = some_of_the_day(5) else { return };
    let (at, head) = (directory.path(), segment.writer().ring().head());
    let ask = |more: &[&str]| {
        let query = ["query", "--socket", "host.sock", "--tz", "America/New_York"];
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            // A host that has just started may not have taken everything in yet.
            let output = wiretape(at, &[&query[..], more].concat());
            let covered = text(&output.stderr).contains(&format!("5/{head},"));
            if covered || Instant::now() > deadline {
                assert!(output.status.success(), "{}", text(&output.stderr));
                return text(&output.stdout);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let bars = ["bars", "--every", "1m", "-i", "AAPL", "--from", "09:30", "--to", "09:35"];
    let host = Host::start(at);
    let before = ask(&bars);
    assert!(before.lines().nth(1).unwrap().contains("2012-06-21 09:3"), "{before}");
    let refused = Command::new(env!("CARGO_BIN_EXE_wiretape-host"))
        .args(["--directory", ".", "--socket", "host.sock"])
        .current_dir(at)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("serves on host.sock already"));
    drop(host);
    assert!(at.join("host.sock").exists(), "it was killed");
    let _host = Host::start(at);
    assert_eq!(ask(&bars), before);
}
