//! Feeds of a capture that runs, confined, as an ordinary user: one is added while packets of
//! another flow, and removed again. The first loses nothing, the second gives what it gives alone,
//! a change that cannot be had leaves all as it was, and readers follow. What room was reserved for,
//! depth and snapshots, a feed that is added has as if it had been there.

mod rig;

use std::fmt::Display;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rig::{FEED, Process, Rig, WIRE, binary, fail, succeed, wait_for};
use wiretape_core::event::{
    Event, MboMsg, NO_INSTRUMENT, SessionMsg, SymbolMsg, flags, rtype, session_change,
};
use wiretape_core::segment::{
    Counter, DepthEntry, DepthLevel, Features, FeedCounter, FeedState, Ledger, SegmentView,
};
use wiretape_host::dbn::{DbnFile, DbnRecord};
use wiretape_host::reader::Segment;

const GROUPS: [&str; 3] = ["239.54.12.111:26477", "239.54.12.112:26478", "239.54.12.113:26479"];
/// The exchange's end of the veth pair.
const SERVER: &str = "10.77.0.1:26400";
/// A user with no name and no rights of its own, and another.
const NOBODY: u32 = 65_534;
const SOMEBODY: u32 = 65_533;

/// The market of feed `index`: that of the third is another day of the second's instruments.
fn market(index: usize) -> Vec<&'static str> {
    let fixed = [
        "--sim --seed 5 --messages 100k --symbols AAA,BBB --quiet --group",
        "--sim --seed 9 --messages 20k --symbols XXX,YYY,ZZZ --quiet --group",
        "--sim --seed 10 --messages 20k --symbols XXX,YYY,ZZZ --quiet --group",
    ];
    let mut arguments: Vec<&str> = fixed[index].split(' ').collect();
    arguments.push(GROUPS[index]);
    arguments
}

fn feed(index: usize, more: &str) -> String {
    format!(
        "[[feed]]\nname = \"{}\"\nprotocol = \"itch50-moldudp64\"\ngroup = \"{}\"\n\
         date = 2026-03-02\nmax_orders = 100000\nmax_levels = 50000\n{more}\n",
        ["one", "two", "three"][index],
        GROUPS[index]
    )
}

/// A configuration with these feeds, and `more` in [worker].
fn config(rig: &Rig, name: &str, more: impl Display, feeds: &[String]) -> PathBuf {
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n{more}\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\nframes = 32768\n{}",
        rig.segments.display(),
        rig.pins().display(),
        feeds.concat()
    );
    rig.config(name, &text)
}

const ROOM: &str = "feed_slots = 3\ninstruments = 3000";

/// A command of the capture's namespace as another user, with capabilities for a moment or without.
fn as_user(rig: &Rig, user: u32, capabilities: &str, program: &Path) -> Command {
    let (id, capabilities) = (user.to_string(), format!("-all{capabilities}"));
    let mut command = rig.capture_tool("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.args([set, &capabilities]);
    }
    command.arg(program);
    command
}

/// The events of the instruments from `first` on, as feed 0 with instruments from 0 on has them;
/// and what the sessions of feed `feed` did.
fn events_of(view: &SegmentView<'_>, feed: u8, first: u32, count: u32) -> (Vec<Event>, Vec<u8>) {
    let (mut events, mut sessions) = (Vec::new(), Vec::new());
    let mut reader = view.events().reader_from_oldest();
    while let Some((_, event)) = reader.next_event().expect("a ring that holds the day") {
        let id = event.header().instrument_id;
        if let Some(session) = event.get::<SessionMsg>() {
            if session.feed == feed {
                sessions.push(session.change);
            }
            continue;
        }
        assert_ne!(event.rtype(), rtype::GAP, "{event:?}");
        if id == NO_INSTRUMENT || !(first..first + count).contains(&id) {
            continue;
        }
        let mut event = match (event.mbo(), event.get::<SymbolMsg>()) {
            (Some(record), _) => {
                assert_eq!((record.channel_id, record.flags & flags::MAYBE_BAD_BOOK), (feed, 0));
                Event::new(&MboMsg { channel_id: 0, ..record })
            }
            (_, Some(record)) => Event::new(&SymbolMsg { feed: 0, ..record }),
            _ => event,
        };
        event.words[0] -= u64::from(first) << 32;
        events.push(event.without_receive_time());
    }
    (events, sessions)
}

/// What a worker that had the feed of a market from the start has of it at the end, from a capture
/// file; with depth of all.
fn alone<T>(index: usize, look: impl FnOnce(&SegmentView<'_>) -> T) -> T {
    let rig = Rig::offline("alone");
    let pcap = rig.work.join("day.pcap");
    succeed(rig.exchange("wiretape-exchange").args(market(index)).arg("--write").arg(&pcap));
    let path = config(&rig, "day.toml", "instruments = 1000", &[feed(index, "depth = \"all\"")]);
    let mut capture = rig.capture("wiretape-capture");
    succeed(capture.arg("--config").arg(&path).arg("--pcap").arg(&pcap));
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    look(&segment.view().expect("a sound segment"))
}

/// Ten levels and features of an instrument of feed `index`, without what only one worker has:
/// numbers, and times of receipt.
fn depth_of(view: &SegmentView<'_>, index: u16, symbol: &str) -> Option<DepthEntry> {
    let mut named = view.symbols().iter();
    let (id, _) = named.find(|(_, one)| one.feed == index && one.symbol() == symbol)?;
    let entry = view.depth().read(view.depth().place_of(id)?).expect("a whole entry")?;
    assert_eq!(entry.instrument, id);
    let features = Features { trade_intensity: 0, ..entry.features };
    Some(DepthEntry { instrument: 0, event_seq: 0, ts_recv: 0, features, ..entry })
}

fn exchange(rig: &Rig, index: usize, more: &[&str]) -> Process {
    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.args(market(index)).args(["--udp", "--interface", WIRE, "--end-packets", "50"]);
    Process::start(exchange.args(more))
}

/// Has the capture that runs change its feeds; as root.
fn reload(rig: &Rig, config: &Path) -> Command {
    let mut reload = rig.capture("wiretape-capture");
    reload.arg("--reload").arg("--config").arg(config);
    reload
}

/// Memory that a process has, in KiB.
fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Whether the capture is a member of the group of feed `index`.
fn is_member(rig: &Rig, index: usize) -> bool {
    let list = succeed(rig.capture_tool("ip").args(["maddress", "show", "dev", FEED]));
    let group = GROUPS[index].split(':').next().expect("an address");
    list.split_whitespace().any(|word| word == group)
}

/// A host that keeps the worker's events, and what it answers.
struct Host {
    process: Process,
    socket: PathBuf,
}

impl Host {
    fn start(rig: &Rig) -> Host {
        let socket = rig.work.join("host.sock");
        let mut host = Command::new(binary("wiretape-host"));
        host.arg("--segment").arg(rig.segment("wire")).arg("--socket").arg(&socket);
        let process = Process::start(&mut host);
        wait_for("the host", || socket.exists());
        Host { process, socket }
    }

    /// Rows of a kind of an instrument, as CSV.
    fn rows(&self, kind: &str, symbol: &str) -> Vec<String> {
        let mut query = Command::new(binary("wiretape"));
        query.args(["query", "range", "--kind", kind, "--instrument", symbol, "--format", "csv"]);
        let output = query.arg("--quiet").arg("--socket").arg(&self.socket).output();
        let output = output.expect("ask the host");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().skip(1).map(str::to_owned).collect()
    }
}

#[test]
fn a_feed_comes_and_goes_while_another_one_flows() {
    let Some(rig) = Rig::network("reload") else { return };
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: there is no setpriv to become another user with");
        return;
    }
    let mut load = rig.capture("wiretape-xdp");
    load.args(["load", "--interface", FEED, "--pin-group", &NOBODY.to_string()]);
    succeed(load.args(["--group", GROUPS[0], "--pin-dir"]).arg(rig.pins()));
    // The build may lie where that user cannot look.
    let program = rig.work.join("wiretape-capture");
    std::fs::copy(binary("wiretape-capture"), &program).expect("a copy of the program");
    for path in [&rig.work, &rig.segments, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    chown(&rig.segments, Some(NOBODY), Some(NOBODY)).expect("the user's own folder");
    let one = config(&rig, "one.toml", ROOM, &[feed(0, "")]);
    let mut command = as_user(&rig, NOBODY, ",+net_raw,+ipc_lock", &program);
    let mut capture = Process::start(command.arg("--config").arg(&one));
    wait_for("the segment", || rig.segment("wire").exists());
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = segment.view().expect("a sound segment");
    let host = Host::start(&rig);
    let mut tail = Command::new(binary("wiretape"));
    tail.args(["tail", "--from", "oldest", "--dbn", "--schema", "mbp-1", "--segment"]);
    tail.arg(rig.segment("wire")).arg("--output").arg(rig.work.join("best.dbn"));
    let tail = Process::start(&mut tail);
    let first = exchange(&rig, 0, &["--rate", "6000/s"]);
    let messages = || view.feed(0).expect("the feed").counter(FeedCounter::Messages);
    wait_for("messages of the first feed", || messages() > 1_000);

    // As root, whose answer the capture must be able to send.
    let reload = |config: &Path| reload(&rig, config);
    refused_changes_leave_all_as_it_was(&rig, &program);
    assert_eq!((view.feed_count(), view.feed_slots()), (1, 3));

    let recovery = format!("recovery = [\"{SERVER}\"]");
    let both = config(&rig, "both.toml", ROOM, &[feed(0, ""), feed(1, &recovery)]);
    assert!(!is_member(&rig, 1));
    let said = succeed(&mut reload(&both));
    assert!(said.starts_with("feeds added: two\nwarning: "), "{said}");
    let advice = format!("wiretape-xdp group add --interface {FEED} {}", GROUPS[1]);
    assert!(said.contains(&advice), "{said}");
    let mut group = rig.capture("wiretape-xdp");
    group.args(["group", "add", "--interface", FEED, "--pin-dir"]).arg(rig.pins());
    succeed(group.arg(GROUPS[1]));
    assert!(is_member(&rig, 1));
    let second = view.feed(1).expect("the feed is there once it was said to be");
    assert_eq!(second.identity().first_instrument, 1_000);
    assert!(succeed(&mut reload(&both)).starts_with("nothing to change"));

    // What both lines lose, a server brings: the capture learned of it with the feed.
    let lost = ["--rate", "10000/s", "--lose", "3000-3100", "--rerequest", SERVER];
    let flow = exchange(&rig, 1, &[&lost[..], &["--linger", "2s"]].concat());
    wait_for("the end of the second", || second.session().is_ok_and(|session| session.ended));
    assert!(!view.feed(0).unwrap().session().unwrap().ended, "the first still flows");
    capture.expect_alive();

    let with_both = resident_kib(capture.pid());
    // By its own user this time.
    let mut back = as_user(&rig, NOBODY, "", &program);
    let said = succeed(back.args(["--reload", "--json", "--config"]).arg(&one));
    assert!(said.contains(r#""removed":["two"]"#), "{said}");
    assert_eq!(second.state(), FeedState::Removed);
    let given_back = with_both.saturating_sub(resident_kib(capture.pid()));
    assert!(given_back > 16 << 10, "of {with_both} KiB the books' were {given_back}");
    assert!(!is_member(&rig, 1) && is_member(&rig, 0));
    let output = flow.wait();
    assert!(output.status.success(), "{}", rig::text(&output));

    // The name may come again: another place, other instruments.
    let said = succeed(&mut reload(&both));
    assert_eq!(said, "feeds added: two\n", "its group is steered now");
    let again = view.feed(2).expect("the third feed");
    assert_eq!(again.identity().first_instrument, 2_000);
    let flow = exchange(&rig, 1, &[&lost[..], &["--linger", "2s"]].concat());
    wait_for("the end of the third", || again.session().is_ok_and(|session| session.ended));
    // What cannot be had as a whole is not done by halves: feed two stays.
    let third = config(&rig, "third.toml", ROOM, &[feed(0, ""), feed(2, "")]);
    let said = fail(&mut reload(&third));
    assert!(said.contains("no place for feed 'three': each of the 3 is used once"), "{said}");
    assert!(again.state() == FeedState::Live && is_member(&rig, 1) && !is_member(&rig, 2));
    expect_gauges(&rig, &[("two", 1)]);
    assert_eq!(succeed(&mut reload(&one)), "feeds removed: two\n");
    flow.wait();
    expect_gauges(&rig, &[("one", 1), ("two", 0)]);
    // Its group is still steered here, and belongs to nobody.
    let others = view.counters().get(Counter::OtherGroup);
    let _ = exchange(&rig, 1, &["--rate", "10000/s"]).wait();
    assert!(view.counters().get(Counter::OtherGroup) > others);

    wait_for("the end of the first", || view.feed(0).unwrap().session().is_ok_and(|s| s.ended));
    first.wait();
    // What the wire itself dropped is no affair of the capture's.
    let sent = succeed(rig.exchange_tool("ip").args(["-s", "link", "show", "dev", WIRE]));
    println!("{:?}\n{sent}", Ledger::read(&view.counters(), true));
    expect_answers(&view, host);
    tail.signal(libc::SIGTERM);
    tail.wait();
    expect_best_quotes(&rig.work.join("best.dbn"), &rig.segment("wire"));
    let status = Command::new(binary("wiretape"))
        .args(["status", "--segment"])
        .arg(rig.segment("wire"))
        .output()
        .expect("ask for the status");
    let status = rig::text(&status);
    assert!(
        status.contains("feed two (itch50-moldudp64, 239.54.12.112:26478), removed"),
        "{status}"
    );
    let logs = succeed(
        Command::new(binary("wiretape")).args(["logs", "--segment"]).arg(rig.segment("wire")),
    );
    assert!(logs.contains("feed two: added") && logs.contains("feed two: removed"), "{logs}");
    let flags = std::fs::read_to_string(format!("/proc/{}/status", capture.pid())).unwrap();
    assert!(
        flags.contains("Seccomp:\t2") && flags.contains("CapEff:\t0000000000000000"),
        "{flags}"
    );
    capture.expect_alive();
    let said = capture.stop();
    assert!(said.contains("feeds added: two") && said.contains("feeds removed: two"), "{said}");
    assert!(said.contains("feed two: "), "the summary has it: {said}");
    let left: Vec<_> = std::fs::read_dir(&rig.segments).unwrap().map(|e| e.unwrap()).collect();
    let left: Vec<_> = left.iter().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| name == "wire.seg" || name == "wire.lock"), "{left:?}");
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
}

/// A change that is refused with this sentence and exit code.
fn expect_refusal(rig: &Rig, worker: &str, feeds: &[String], code: i32, sentence: &str) {
    let path = config(rig, "refused.toml", worker, feeds);
    let output = reload(rig, &path).output().expect("start the command");
    let said = rig::text(&output);
    assert!(said.contains(sentence), "{sentence}: {said}");
    assert_eq!(output.status.code(), Some(code), "{said}");
}

/// Each with its sentence and exit code.
fn refused_changes_leave_all_as_it_was(rig: &Rig, program: &Path) {
    let snapshot = format!("snapshot = [\"{SERVER}\"]");
    let one = || feed(0, "");
    let refused = [
        (ROOM, vec![feed(0, "reorder_us = 7")], 1, "'reorder_us' of feed 'one'"),
        ("feed_slots = 3\ninstruments = 4000", vec![one()], 1, "'instruments' in [worker]"),
        (ROOM, vec![one(), feed(1, "depth = \"all\"")], 1, "raise depth_slots in [worker]"),
        (ROOM, vec![one(), feed(1, &snapshot)], 1, "but snapshot_feeds in [worker] is false"),
        (ROOM, vec![one(), feed(1, "instruments = 2001")], 2, "want 3001 instruments together"),
        (ROOM, vec![one(), feed(0, "").replace("\"one\"", "\"x\"")], 2, "the group and port of"),
    ];
    for (worker, feeds, code, sentence) in refused {
        expect_refusal(rig, worker, &feeds, code, sentence);
    }
    let path = config(rig, "refused.toml", ROOM, &[feed(0, ""), feed(1, "")]);
    let stranger = || {
        let mut stranger = as_user(rig, SOMEBODY, "", program);
        fail(stranger.args(["--reload", "--config"]).arg(&path))
    };
    let said = stranger();
    assert!(said.contains("cannot make the socket") && said.contains("ermission"), "{said}");
    // Nor where the folder is everybody's.
    let mode = |mode| std::fs::set_permissions(&rig.segments, PermissionsExt::from_mode(mode));
    mode(0o777).expect("a mode");
    let said = stranger();
    assert!(said.contains("not allowed to send to"), "{said}");
    mode(0o755).expect("a mode");
    let mut other = reload(rig, &path);
    let said = fail(other.args(["--name", "other"]));
    assert!(said.contains("no capture listens on"), "{said}");
}

/// Metrics say whether feeds are up: one series for a name.
fn expect_gauges(rig: &Rig, expected: &[(&str, u64)]) {
    let mut metrics = Command::new(binary("wiretape"));
    let text = succeed(metrics.args(["metrics", "--segment"]).arg(rig.segment("wire")));
    for (feed, up) in expected {
        let series = format!("wiretape_feed_up{{worker=\"wire\",feed=\"{feed}\"}} ");
        let samples: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(&series)).collect();
        assert_eq!(samples, [up.to_string()], "{feed}");
    }
}

/// A follower that was there before the feed has the best quotes of it, of both its times alike.
fn expect_best_quotes(file: &Path, segment: &Path) {
    let mut rows = [const { Vec::new() }; 3];
    for record in DbnFile::open(file).expect("the file of the follower") {
        let DbnRecord::Mbp1(row) = record.expect("a whole record") else { continue };
        let id = row.hd.instrument_id;
        assert_eq!(row.flags.raw() & flags::MAYBE_BAD_BOOK, 0, "{row:?}");
        // Those that a feed's end empties, at its time, are not the exchange's.
        if row.sequence != 0 {
            let best = (id % 1_000, row.sequence, row.levels[0].bid_px, row.levels[0].ask_px);
            rows[id as usize / 1_000].push(best);
        }
    }
    assert!(rows[0].len() > 10_000 && rows[1].len() > 2_000, "{:?}", rows.map(|of| of.len()));
    assert_eq!(rows[1], rows[2]);
    // And whoever looks at the book of what is gone is told.
    let mut book = Command::new(binary("wiretape"));
    let book = succeed(book.args(["book", "YYY", "--segment"]).arg(segment));
    assert_eq!(book.matches("its feed was removed").count(), 2, "{book}");
}

/// Both feeds gave what they give alone, and the host has the second one's events.
fn expect_answers(view: &SegmentView<'_>, host: Host) {
    for (feed, expected_sessions) in [
        (0_u8, &[session_change::START, session_change::END][..]),
        (1, &[session_change::START, session_change::END, session_change::REMOVED]),
        (2, &[session_change::START, session_change::END, session_change::REMOVED]),
    ] {
        let (events, sessions) = events_of(view, feed, u32::from(feed) * 1_000, 1_000);
        assert_eq!(sessions, expected_sessions, "feed {feed}");
        let alone = alone(usize::from(feed.min(1)), |view| events_of(view, 0, 0, 1_000).0);
        assert!(alone.len() > 15_000);
        assert_eq!(events.len(), alone.len(), "feed {feed}");
        let differing = events.iter().zip(&alone).position(|(live, file)| live != file);
        assert_eq!(differing, None, "feed {feed}: index of the first event that differs");
        let block = view.feed(feed.into()).unwrap();
        assert_eq!(block.counter(FeedCounter::LostMessages), 0);
        assert_eq!(block.counter(FeedCounter::BookErrors), 0);
    }
    let second = view.feed(1).unwrap();
    assert!(second.counter(FeedCounter::RequestedMessages) >= 101);
    assert!(second.counter(FeedCounter::RecoveryAnswers) > 0);

    let named = view.symbols().iter().filter(|(_, one)| one.symbol() == "YYY");
    let ids: Vec<u32> = named.map(|(id, _)| id).collect();
    assert_eq!(ids.iter().map(|id| id / 1_000).collect::<Vec<_>>(), [1, 2]);
    let mut records = 0;
    let mut reader = view.events().reader_from_oldest();
    while let Some((_, event)) = reader.next_event().unwrap() {
        records += usize::from(event.mbo().is_some_and(|one| ids.contains(&one.hd.instrument_id)));
    }
    wait_for("the host", || host.rows("events", "YYY").len() == records);
    let quotes = host.rows("quotes", "YYY");
    assert!(quotes.len() > 1_000, "{}", quotes.len());
    host.process.stop();
}

/// Depth that a reader shows, as JSON; the first line is the feed's that was there first.
fn book(rig: &Rig, symbol: &str) -> Vec<serde_json::Value> {
    let mut book = Command::new(binary("wiretape"));
    book.args(["book", symbol, "--depth", "--json", "--segment"]).arg(rig.segment("wire"));
    let said = succeed(&mut book);
    said.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// Room for three is reserved: the first feed's has one, and two go from feed to feed.
#[test]
fn feeds_that_come_have_the_depth_of_a_worker_that_had_them() {
    let Some(rig) = Rig::network("reloaddepth") else { return };
    rig.load_xdp(&GROUPS);
    let room = "feed_slots = 3\ninstruments = 3000\ndepth_slots = 3";
    let first = || feed(0, "depth = [\"BBB\"]");
    let mut capture = rig.start_capture(&config(&rig, "one.toml", room, &[first()]), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = segment.view().expect("a sound segment");
    assert_eq!((view.depth().len(), view.feed_count()), (3, 1));

    let all_three = [first(), feed(1, "depth = [\"XXX\", \"YYY\", \"ZZZ\"]")];
    let sentence = "the feeds want depth of 4 instruments together, the worker has room for 3: \
                    raise depth_slots in [worker], and restart a capture that runs";
    expect_refusal(&rig, room, &all_three, 2, sentence);
    // A file that does not say so is sent, and the capture knows.
    expect_refusal(&rig, ROOM, &all_three, 1, sentence);
    let raised = room.replace("depth_slots = 3", "depth_slots = 4");
    expect_refusal(&rig, &raised, &all_three, 1, "'depth_slots' in [worker] is not as");
    assert_eq!((view.depth().len(), view.feed_count(), is_member(&rig, 1)), (3, 1, false));

    let chosen = "depth = [\"YYY\", \"XXX\"]";
    let two = config(&rig, "two.toml", room, &[first(), feed(1, chosen)]);
    assert_eq!(succeed(&mut reload(&rig, &two)), "feeds added: two\n");
    let expect_day = |index: usize| {
        let flow = exchange(&rig, index, &["--rate", "10000/s"]);
        let feed = view.feed(index).expect("the feed");
        wait_for("the end of the day", || feed.session().is_ok_and(|session| session.ended));
        flow.wait();
        let of_both = |view: &SegmentView<'_>, index: usize| {
            ["XXX", "YYY"].map(|symbol| depth_of(view, index as u16, symbol))
        };
        let [xxx, yyy] = of_both(&view, index);
        assert_eq!([xxx, yyy], alone(index, |view| of_both(view, 0)));
        let ten = |side: &[DepthLevel]| side.iter().all(DepthLevel::is_some);
        assert!(ten(&xxx.expect("depth").bids) && ten(&yyy.expect("depth").asks));
        assert_eq!((depth_of(&view, index as u16, "ZZZ"), yyy.unwrap().health), (None, 0));
        yyy
    };
    let left = expect_day(1);

    // One goes and one comes, at once, in its places.
    let three = config(&rig, "three.toml", room, &[first(), feed(2, chosen)]);
    assert_eq!(succeed(&mut reload(&rig, &three)), "feeds added: three; removed: two\n");
    assert_eq!(depth_of(&view, 1, "YYY"), left, "as it stood, until its place is needed");
    let [of_two] = &book(&rig, "YYY")[..] else { panic!("{:?}", book(&rig, "YYY")) };
    assert_eq!(of_two["feed_removed"], true);
    assert_eq!(of_two["depth"]["bids"].as_array().map(Vec::len), Some(10));
    assert_ne!(expect_day(2), left);
    let [of_two, of_three] = &book(&rig, "YYY")[..] else { panic!("{:?}", book(&rig, "YYY")) };
    assert!(of_two["depth"].is_null());
    assert_eq!(of_three["depth"]["asks"].as_array().map(Vec::len), Some(10));
    let mut text = Command::new(binary("wiretape"));
    text.args(["book", "YYY", "--depth", "--segment"]).arg(rig.segment("wire"));
    assert!(succeed(&mut text).contains("no depth: what was there of it has made room"));

    // The first has its own place still, and status and metrics say whose they are.
    let flow = exchange(&rig, 0, &["--rate", "20000/s"]);
    wait_for("the end", || view.feed(0).unwrap().session().is_ok_and(|one| one.ended));
    flow.wait();
    println!("{:?}", Ledger::read(&view.counters(), true));
    assert_eq!(depth_of(&view, 0, "BBB"), alone(0, |view| depth_of(view, 0, "BBB")));
    let asked = |what: &str| {
        let mut asked = Command::new(binary("wiretape"));
        rig::text(&asked.args([what, "--segment"]).arg(rig.segment("wire")).output().unwrap())
    };
    let status = asked("status");
    assert!(status.contains("depth of 1 (room for 1)"), "{status}");
    assert_eq!(status.matches("depth of 2 (room for 2)").count(), 1, "{status}");
    let metrics = asked("metrics");
    assert!(metrics.contains("wiretape_feed_depths{worker=\"wire\",feed=\"three\"} 2\n"));
    capture.expect_alive();
    let said = capture.stop();
    assert_eq!(said.matches("feeds are as they were: ").count(), 2, "{said}");
}

/// Nobody had a snapshot server when this capture started; room and the right to connect were kept.
#[test]
fn a_feed_that_comes_in_the_middle_of_its_day_joins_by_a_snapshot() {
    let Some(rig) = Rig::network("reloadjoin") else { return };
    rig.load_xdp(&GROUPS);
    let room = format!("{ROOM}\ndepth_slots = 4\nsnapshot_feeds = true");
    let mut capture = rig.start_capture(&config(&rig, "one.toml", &room, &[feed(0, "")]), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let view = segment.view().expect("a sound segment");
    let servers = ["--glimpse", SERVER, "--glimpse-login", "wire:tape", "--linger", "2s"];
    let flow = exchange(&rig, 1, &[&["--rate", "2500/s"], &servers[..]].concat());
    // Its group is steered here already, and belongs to no feed.
    let others = || view.counters().get(Counter::OtherGroup);
    wait_for("packets of the day", || others() > 1_000);

    let keys = format!(
        "depth = \"all\"\ninstruments = 4\nsnapshot = [\"{SERVER}\"]\nsnapshot_login = \"wire:tape\""
    );
    let both = config(&rig, "both.toml", &room, &[feed(0, ""), feed(1, &keys)]);
    assert_eq!(succeed(&mut reload(&rig, &both)), "feeds added: two\n");
    let feed = view.feed(1).expect("the feed");
    wait_for("the end of the day", || feed.session().is_ok_and(|session| session.ended));
    assert!(flow.wait().status.success());
    assert_eq!(feed.counter(FeedCounter::Snapshots), 1);
    assert_eq!(feed.counter(FeedCounter::JoinedLateMessages), 0);
    assert!(feed.counter(FeedCounter::SnapshotMessages) > 100);
    assert_eq!(feed.counter(FeedCounter::LostMessages), 0);
    assert_eq!(feed.counter(FeedCounter::BookErrors), 0);
    assert!(feed.counter(FeedCounter::Messages) < 19_000, "the rest of the day, not all of it");
    assert!(!feed.session().unwrap().maybe_bad_book);
    // The books at the end are those of who saw it all; its order flow began with the snapshot.
    let books = |view: &SegmentView<'_>, index| {
        ["XXX", "YYY", "ZZZ"].map(|symbol| {
            let entry = depth_of(view, index, symbol).expect("depth");
            (entry.bids, entry.asks, entry.health, entry.features.microprice)
        })
    };
    let ours = books(&view, 1);
    assert_eq!(ours, alone(1, |view| books(view, 0)));
    assert!(ours.iter().all(|(bids, asks, ..)| bids[9].is_some() && asks[9].is_some()));
    let flags = std::fs::read_to_string(format!("/proc/{}/status", capture.pid())).unwrap();
    assert!(flags.contains("Seccomp:\t2"), "{flags}");
    capture.expect_alive();
    let said = capture.stop();
    assert!(!said.contains("no snapshot from"), "{said}");
}
