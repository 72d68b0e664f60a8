//! The two binaries as a user runs them.

mod day;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use wiretape_core::segment::{Counter, State};
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
    fails(&["tail", "--segment", "w0", "--directory", "none"], 1, "none/w0.seg");
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
    writer.counters().set(Counter::XdpRedirected, 10);
    writer.counters().set(Counter::Frames, 8);
    writer.counters().set(Counter::Datagrams, 8);
    writer.counters().set(Counter::SocketRingFull, 1);
    segment.beat();
    let live = wiretape(directory.path(), &["status", "--directory", "."]);
    assert!(text(&live.stdout).contains("does NOT close: 1 packets unaccounted"));
    assert_eq!(live.status.code(), Some(0), "packets may be in flight");
    assert!(!text(&live.stdout).contains('\x1b'), "no colours into a pipe");
    writer.header().set_state(State::Ended);
    let over = wiretape(directory.path(), &["status", "--directory", ".", "--json"]);
    assert_eq!(over.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&over.stdout).unwrap();
    assert_eq!(json["workers"][0]["ledger"]["unaccounted_arrivals"], 1);
    writer.counters().add(Counter::SocketDropped, 1);
    assert!(ok(directory.path(), &["status", "--directory", "."]).contains("closes"));

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
fn the_tape_of_a_day_is_printed_hashed_asked_and_survives_a_killed_host() {
    let Some(day) = day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let day = &day[..day.len() / 40];
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let segment = day::play(day, &first.path().join("w.seg"), 5, 1 << 16, &[]);
    drop(day::play(day, &second.path().join("w.seg"), 6, 1 << 16, &[]));
    let head = segment.writer().ring().head();
    let at = first.path();

    // Two runs, one digest; and the first digits of it stand at the start of the line.
    let digest = |directory: &Path| {
        let line = ok(directory, &["digest", "--until-end", "--directory", "."]);
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(digest(at), digest(second.path()));
    assert_eq!(digest(at).len(), 32);

    let tail = ["tail", "--from", "oldest", "--until-end", "--directory", "."];
    let lines = ok(at, &tail);
    assert_eq!(lines.lines().count() as u64, head);
    let json = ok(at, &[&tail[..], &["--json", "-i", "AAPL", "-n", "50"]].concat());
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let aapl = json.lines().map(parse).filter(|event| event["symbol"] == "AAPL").count();
    assert!(aapl > 40 && json.lines().count() == 50);

    let dbn = wiretape(at, &[&tail[..], &["--dbn"]].concat()).stdout;
    use dbn::decode::{DbnMetadata, DecodeRecordRef};
    let mut decoder = dbn::decode::dbn::Decoder::new(&dbn[..]).unwrap();
    assert!(decoder.metadata().symbols.contains(&"AMZN".to_owned()));
    let mut records = 0;
    while decoder.decode_record_ref().unwrap().is_some() {
        records += 1;
    }
    assert!(records > 1_000 && records <= head);

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
    assert!(parse(&book)["bid_price"].is_string(), "{book}");

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
