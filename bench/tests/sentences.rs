//! What a user is told who lacks rights, a driver, a program or a queue: one sentence that says what
//! is missing and what to do.

mod rig;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rig::{FEED, Rig, binary, fail, succeed};

const GROUP: &str = "239.54.12.111:26477";

/// One of our binaries, as a user without any capability runs it beside the interface.
fn without_rights(rig: &Rig, name: &str) -> Command {
    let copy = rig.work.join(name);
    if !copy.exists() {
        std::fs::copy(binary(name), &copy).expect("a copy that anybody may run");
        let everybody = || std::fs::Permissions::from_mode(0o755);
        for path in [rig.work.as_path(), &copy] {
            std::fs::set_permissions(path, everybody()).expect("rights for everybody");
        }
    }
    let mut command = rig.capture_tool("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
    command.arg("--inh-caps=-all").arg(copy);
    command
}

fn load(command: &mut Command, rig: &Rig, interface: &str) -> String {
    command.args(["load", "--interface", interface, "--group", GROUP, "--pin-dir"]);
    fail(command.arg(rig.pins()))
}

fn capture(command: &mut Command, rig: &Rig) -> String {
    command.args(["--interface", FEED, "--segment-dir"]).arg(&rig.segments);
    command.args(["--feed", &format!("itch50-moldudp64@{GROUP}"), "--pin-dir"]);
    fail(command.arg(rig.pins()))
}

fn expect(sentence: &str, parts: &[&str]) {
    assert_eq!(sentence.trim_end().lines().count(), 1, "{sentence}");
    for part in parts {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
}

#[test]
fn what_is_missing_is_said_in_one_sentence() {
    let Some(rig) = Rig::network("say") else { return };
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: needs setpriv of util-linux");
        return;
    }
    // A driver without native XDP.
    let told = load(&mut rig.capture("wiretape-xdp"), &rig, "lo");
    expect(&told, &["cannot attach to lo in native mode", "no native XDP", "--mode generic"]);
    let told = load(&mut rig.capture("wiretape-xdp"), &rig, "nosuch0");
    expect(&told, &["no interface nosuch0", "ip link"]);
    // No rights to load.
    let told = load(&mut without_rights(&rig, "wiretape-xdp"), &rig, FEED);
    expect(&told, &["CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", "run as root"]);
    // No program.
    let told = capture(&mut rig.capture("wiretape-capture"), &rig);
    expect(
        &told,
        &["cannot open the pinned map", "load the XDP program first (wiretape-xdp load)"],
    );
    // A program whose maps are root's.
    rig.load_xdp(&[GROUP]);
    open_folder(&rig.pins());
    open_folder(&rig.segments);
    let told = capture(&mut without_rights(&rig, "wiretape-capture"), &rig);
    expect(&told, &["Permission denied", "--pin-group"]);
    // Maps for the group, and no right to open a socket.
    unload(&rig);
    let mut again = rig.capture("wiretape-xdp");
    again.args(["load", "--interface", FEED, "--group", GROUP, "--pin-group", "65534"]);
    succeed(again.arg("--pin-dir").arg(rig.pins()));
    let told = capture(&mut without_rights(&rig, "wiretape-capture"), &rig);
    expect(&told, &["cannot create an AF_XDP socket", "CAP_NET_RAW"]);
    // A queue that another program has.
    let text = format!(
        "[worker]\nname = \"first\"\nsegment_dir = \"{}\"\nidle = \"park\"\n\
         [source]\nkind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\n",
        rig.segments.display(),
        rig.pins().display(),
    );
    let first = rig.start_capture(&rig.config("first.toml", &text), "first");
    let told = capture(&mut rig.capture("wiretape-capture"), &rig);
    expect(&told, &[FEED, "queue 0", "another"]);
    first.stop();
}

fn unload(rig: &Rig) {
    let mut unload = rig.capture("wiretape-xdp");
    succeed(unload.args(["unload", "--interface", FEED, "--pin-dir"]).arg(rig.pins()));
}

fn open_folder(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("open it");
}
