//! `wiretape doctor` against the real kernel: a veth pair in namespaces of the test's own.

mod rig;

use std::process::Command;

use rig::{FEED, Rig, WIRE, binary, fail, succeed, text};

fn doctor(rig: &Rig) -> Command {
    let mut command = rig.capture_tool(binary("wiretape").to_str().expect("a path in UTF-8"));
    command.arg("doctor");
    command
}

/// The finding of a name, in JSON.
fn finding(rig: &Rig, name: &str) -> serde_json::Value {
    let output = doctor(rig).args(["--interface", FEED, "--json"]).output().expect("doctor");
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sections = object["sections"].as_array().expect("sections");
    let mut findings =
        sections.iter().flat_map(|one| one["findings"].as_array().expect("findings"));
    findings.find(|one| one["name"] == name).cloned().unwrap_or_else(|| panic!("{name}"))
}

fn gro(rig: &Rig) -> bool {
    let mut ethtool = rig.capture_tool("ethtool");
    succeed(ethtool.args(["-k", FEED])).contains("generic-receive-offload: on")
}

#[test]
fn an_interface_is_examined_mended_and_put_back() {
    let Some(rig) = Rig::network("doc") else { return };
    succeed(rig.capture_tool("ethtool").args(["-K", FEED, "gro", "on"]));
    assert_eq!(finding(&rig, "operstate")["verdict"], "good");
    let driver = finding(&rig, "driver");
    assert_eq!(driver["is"], "veth, a virtual interface");
    assert_eq!(finding(&rig, "xdp")["is"], "no program");
    let offload = finding(&rig, "generic-receive-offload");
    assert_eq!(offload["verdict"], "notable");
    assert_eq!(offload["mend"], format!("ethtool -K {FEED} gro off"));

    // A program and a configuration: what was asked for is there.
    let group = "239.54.12.111:26477";
    rig.load_xdp(&[group]);
    let program = finding(&rig, "xdp");
    assert!(program["is"].as_str().is_some_and(|is| is.contains("native mode")), "{program}");
    // By its name, which the kernel tells.
    assert_eq!(program["verdict"], "good", "{program}");
    let config = rig.config(
        "w.toml",
        &format!(
            "[worker]\nname = \"w\"\n[source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\n\
             huge_pages = false\nreceive_stamps = \"nic\"\n[[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{group}\"\n"
        ),
    );
    let mut with_config = doctor(&rig);
    let output = with_config.arg("--config").arg(&config).arg("--all").output().expect("doctor");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "a group is not joined: {said}");
    assert!(said.contains("multicast 239.54.12.111: not joined"), "{said}");
    assert!(said.contains("mend: systemctl start wiretape-capture@w"), "{said}");
    // Which a veth's driver does, though it has none to tell.
    assert!(said.contains("receive_stamps of w: nic, and the driver tells them"), "{said}");

    // Only the interface's own settings can be tried here; the rest is the machine's.
    let state = rig.work.join("doctor");
    let fixes: Vec<&str> = said.lines().filter(|line| line.contains("(--fix does this)")).collect();
    assert!(!fixes.is_empty(), "{said}");
    if !fixes.iter().all(|line| line.contains(&format!("ethtool -K {FEED}"))) {
        return println!("skipped: --fix would change more here than the test's own interface");
    }
    assert!(gro(&rig));
    let mut fix = doctor(&rig);
    // As above: without --config it would ask the machine's own configurations.
    fix.arg("--config").arg(&config).args(["--fix", "--state"]).arg(&state);
    let said = succeed(&mut fix);
    assert!(said.contains(&format!("ethtool -K {FEED} gro off")), "{said}");
    assert!(!gro(&rig));
    let mut undo = doctor(&rig);
    let said = succeed(undo.args(["--undo", "--state"]).arg(&state));
    assert!(said.contains(&format!("ethtool -K {FEED} gro on")), "{said}");
    assert!(gro(&rig));
    let mut again = doctor(&rig);
    assert!(
        succeed(again.args(["--undo", "--state"]).arg(&state)).contains("nothing is on record")
    );
}

/// As where `nsenter --net` leaves the /sys of another namespace: what it shows, and what --fix would
/// write to, is of other interfaces.
#[test]
fn files_of_another_network_namespace_are_not_taken_for_this_one() {
    let Some(rig) = Rig::network("docns") else { return };
    rig.in_exchange(|| {
        let mut there = Command::new(binary("wiretape"));
        let refused = fail(there.args(["doctor", "--interface", "lo"]));
        assert!(refused.contains("/sys is of another network namespace"), "{refused}");
        let mut missing = Command::new(binary("wiretape"));
        let missing = fail(missing.args(["doctor", "--interface", "no-such-if0"]));
        assert!(missing.contains(&format!("(there are: lo, {WIRE})")), "{missing}");
    });
}

#[test]
fn what_cannot_be_examined_is_one_sentence() {
    let rig = Rig::offline("docno");
    let mut command = Command::new(binary("wiretape"));
    let missing = fail(command.args(["doctor", "--interface", "no-such-if0"]));
    assert!(missing.contains("there is no interface 'no-such-if0' here"), "{missing}");
    let config = rig.config("bad.toml", "[source]\ninterface = 7\n");
    let mut command = Command::new(binary("wiretape"));
    let output = command.args(["doctor", "--config"]).arg(&config).output().expect("doctor");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("bad.toml"), "{}", text(&output));
}
