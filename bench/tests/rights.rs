//! A live capture without rights: /proc shows it, and packets come all the same.

mod rig;

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use rig::{FEED, Process, Rig, WIRE, succeed, wait_for};
use wiretape_core::segment::{FeedCounter, Ledger};
use wiretape_host::reader::Segment;

const GROUP: &str = "239.54.12.111:26477";
/// A user with no name and no rights of its own.
const NOBODY: u32 = 65_534;

fn config(rig: &Rig, more: &str) -> String {
    format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"park\"\n{more}\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\ndate = 2026-03-02\n",
        rig.segments.display(),
        rig.pins().display()
    )
}

/// Sends a small market and waits until all of it is there; the capture then ends cleanly.
fn capture_a_market(rig: &Rig, mut capture: Process) {
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.args(["--sim", "--seed", "5", "--messages", "5k", "--quiet", "--rate", "20000/s"]);
    succeed(exchange.args(["--udp", "--interface", WIRE, "--group", GROUP]));
    capture.expect_alive();
    let view = segment.view().expect("a sound segment");
    let feed = view.feed(0).expect("the feed");
    wait_for("the end of the session", || feed.session().is_ok_and(|session| session.ended));
    capture.stop();
    assert_eq!(feed.counter(FeedCounter::LostMessages), 0);
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
}

/// What /proc says of every thread of a process.
fn expect_no_rights(pid: i32) {
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads") {
        let path = thread.expect("a thread").path().join("status");
        let status = std::fs::read_to_string(&path).expect("its status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set}: {status}");
        }
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
        threads += 1;
    }
    assert!(threads >= 2, "worker and control thread");
}

fn wait_confined(pid: i32) {
    wait_for("the system-call filter", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| status.contains("Seccomp:\t2"))
    });
}

#[test]
fn a_capture_that_runs_has_no_capability_and_a_filter() {
    let Some(rig) = Rig::network("rights") else { return };
    rig.load_xdp(&[GROUP]);
    let capture = rig.start_capture(&rig.config("capture.toml", &config(&rig, "")), "wire");
    wait_confined(capture.pid());
    expect_no_rights(capture.pid());
    capture_a_market(&rig, capture);
}

/// Starts a capture of an ordinary user, with the two capabilities of the unit; `None` where there is
/// nothing to become another user with.
fn start_as_nobody(rig: &Rig, config: &str) -> Option<Process> {
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: there is no setpriv to become another user with");
        return None;
    }
    let mut load = rig.capture("wiretape-xdp");
    load.args(["load", "--interface", FEED, "--pin-group", &NOBODY.to_string()]);
    succeed(load.args(["--group", GROUP, "--pin-dir"]).arg(rig.pins()));
    // The build may lie where that user cannot look.
    let program = rig.work.join("wiretape-capture");
    std::fs::copy(rig::binary("wiretape-capture"), &program).expect("a copy of the program");
    for path in [&rig.work, &rig.segments, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    chown(&rig.segments, Some(NOBODY), Some(NOBODY)).expect("the user's own folder");
    let config = rig.config("capture.toml", config);

    let mut command = rig.capture_tool("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    command.args(["--inh-caps", "-all,+net_raw,+ipc_lock"]);
    command.args(["--ambient-caps", "-all,+net_raw,+ipc_lock"]);
    command.args(["--bounding-set", "-all,+net_raw,+ipc_lock"]);
    command.arg(&program).arg("--config").arg(&config);
    let capture = Process::start(&mut command);
    let path = rig.segment("wire");
    wait_for("the segment", || path.exists());
    wait_confined(capture.pid());
    Some(capture)
}

#[test]
fn an_ordinary_user_captures_with_two_capabilities_for_a_moment() {
    let Some(rig) = Rig::network("user") else { return };
    let Some(capture) = start_as_nobody(&rig, &config(&rig, "")) else { return };
    expect_no_rights(capture.pid());
    let status = std::fs::read_to_string(format!("/proc/{}/status", capture.pid())).unwrap();
    assert!(status.contains(&format!("Uid:\t{NOBODY}\t{NOBODY}")), "{status}");
    capture_a_market(&rig, capture);
}

#[test]
fn busy_polling_that_the_unit_gives_no_right_to_is_refused_with_a_word() {
    let Some(rig) = Rig::network("busy") else { return };
    let text = config(&rig, "").replace("[source]\n", "[source]\nbusy_poll_us = 20\n");
    let Some(capture) = start_as_nobody(&rig, &text) else { return };
    let said = capture.stop();
    let refusal = format!("warning: no busy polling on {FEED} queue 0: Operation not permitted");
    assert!(said.contains(&refusal) && said.contains("CAP_NET_ADMIN"), "{said}");
}
