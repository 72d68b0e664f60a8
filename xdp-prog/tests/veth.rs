//! Loading, replacing, inspecting and removing on veth pairs in namespaces of the tests' own.

mod namespace;
mod traffic;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use libbpf_rs::{MapCore, MapHandle};
use wiretape_xdp::{Error, Load, Mode, ModeChoice, Pins, State, Steering, Unloaded};

use namespace::{Namespace, PinDir, group, load_native, output, run, stderr, tool};
use traffic::{FRAME_BYTES, PAYLOAD, XdpSocket, send, sender, settle};

/// An ordinary socket that has joined the group on `wire`.
fn receiver(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(239, 1, 1, 1), port)).unwrap();
    socket.join_multicast_v4(&Ipv4Addr::new(239, 1, 1, 1), &Ipv4Addr::new(10, 99, 0, 2)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

fn receive(socket: &UdpSocket, count: usize) {
    let mut buffer = [0; 200];
    (0..count).for_each(|_| assert_eq!(socket.recv(&mut buffer).unwrap(), PAYLOAD.len()));
}

#[test]
fn load_steer_and_unload() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("load", 1, 1), PinDir::new());
    namespace.enter(|| {
        let (ours, other) = (receiver(5000), receiver(6000));
        let loaded = load_native(&pins).run().unwrap();
        assert_eq!(loaded.mode, Mode::Native);
        assert_eq!(namespace.xdp("wire"), Some((1, loaded.program_id.into())));

        // Without an AF_XDP socket everything reaches the kernel's sockets.
        send(5000, 30);
        send(6000, 20);
        receive(&ours, 30);
        receive(&other, 20);
        let steering = Steering::at(&pins.path, "wire");
        let status = settle(&steering, 50);
        assert_eq!((status.state, status.mode), (State::Attached, Some(Mode::Native)));
        assert_eq!(status.program_id, Some(loaded.program_id));
        assert_eq!(status.groups, [group(5000)]);
        assert_eq!((status.total.seen, status.total.passed), (50, 20));
        assert_eq!((status.total.matched, status.total.no_socket), (30, 30));
        assert_eq!(status.total.matched_bytes, 30 * FRAME_BYTES);
        assert!(status.closes);

        assert_eq!(steering.unload().unwrap(), Unloaded::Attached);
        assert_eq!(namespace.xdp("wire"), None);
        assert!(pins.listing().is_empty(), "{:?}", pins.listing());
        assert!(matches!(steering.unload(), Err(Error::NotLoaded { .. })));
        assert!(matches!(steering.status(), Err(Error::NotLoaded { .. })));
        send(5000, 1);
        receive(&ours, 1);
    });
}

#[test]
fn generic_mode_is_granted_where_asked_for() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("generic", 1, 1), PinDir::new());
    namespace.enter(|| {
        let load = Load { mode: ModeChoice::Generic, ..load_native(&pins) };
        let loaded = load.run().unwrap();
        assert_eq!(loaded.mode, Mode::Generic);
        assert_eq!(namespace.xdp("wire"), Some((2, loaded.program_id.into())));
        let ours = receiver(5000);
        send(5000, 5);
        receive(&ours, 5);
        let status = settle(&Steering::at(&pins.path, "wire"), 5);
        assert_eq!((status.mode, status.total.matched), (Some(Mode::Generic), 5));
    });
}

#[test]
fn groups_change_while_packets_arrive() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("groups", 1, 1), PinDir::new());
    namespace.enter(|| {
        load_native(&pins).run().unwrap();
        let steering = Steering::at(&pins.path, "wire");
        send(5001, 10);
        assert_eq!(settle(&steering, 10).total.passed, 10);

        let (first, second) = (group(5000), group(5001));
        assert_eq!(steering.add_groups(&[first, second], None).unwrap(), [second]);
        assert_eq!(steering.groups().unwrap(), [first, second]);
        send(5001, 10);
        assert_eq!(settle(&steering, 20).total.matched, 10);

        // Fragments of the address are counted for as long as one group of it is left.
        assert_eq!(steering.remove_groups(&[second, second]).unwrap(), [second]);
        let big = [1; 3000];
        sender(9).send(&big).unwrap();
        assert_eq!(settle(&steering, 23).total.fragments, 3);
        assert_eq!(steering.remove_groups(&[first]).unwrap(), [first]);
        sender(9).send(&big).unwrap();
        let total = settle(&steering, 26).total;
        assert_eq!((total.fragments, total.passed, total.matched), (3, 13, 10));
        assert_eq!(steering.groups().unwrap(), []);
        let map = MapHandle::from_pinned_path(steering.pins().groups()).unwrap();
        assert_eq!(map.keys().count(), 0, "no marker is left without its groups");

        let too_many: Vec<_> = (1..=4096).map(group).collect();
        assert!(steering.add_groups(&too_many, None).is_err());
        assert_eq!(map.keys().count(), 0, "all are added or none");
    });
}

#[test]
fn replace_loses_no_packet_and_keeps_maps_and_sockets() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("replace", 1, 1), PinDir::new());
    namespace.enter(|| {
        let first = load_native(&pins).run().unwrap();
        let steering = Steering::at(&pins.path, "wire");
        let index = steering.status().unwrap().interface_index.unwrap();
        let socket = XdpSocket::bind(index, 0).unwrap();
        assert!(steering.status().unwrap().queues.is_empty());
        socket.enter(steering.pins());
        let queues = steering.status().unwrap().queues;
        assert_eq!((queues[0].queue, queues[0].socket), (Some(0), Some(true)));
        assert_eq!(queues.len(), 1);

        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut now = first.program_id;
        thread::scope(|scope| {
            scope.spawn(|| {
                let socket = sender(5000);
                while !stop.load(Ordering::Relaxed) {
                    socket.send(&PAYLOAD).unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(20));
                let replaced = steering.replace(true).unwrap();
                assert_eq!((replaced.old_program_id, replaced.mode), (now, Mode::Native));
                assert_ne!(replaced.program_id, now);
                now = replaced.program_id;
            }
            stop.store(true, Ordering::Relaxed);
        });
        let sent = sent.into_inner();
        let status = settle(&steering, sent);
        println!("{sent} packets through 5 replacements");
        assert!(sent > 1000, "only {sent} packets were sent");
        assert_eq!((status.total.seen, status.total.redirected), (sent, sent));
        assert_eq!(status.queues[0].socket, Some(true));
        assert_eq!(namespace.xdp("wire"), Some((1, now.into())));
        assert_eq!(pinned_program(steering.pins()), now);

        drop(socket);
        // A child that another test is starting may hold the socket open for a moment.
        let closed = || steering.status().unwrap().queues[0].socket == Some(false);
        assert!((0..200).any(|_| closed() || {
            thread::sleep(Duration::from_millis(10));
            false
        }));
    });
}

fn pinned_program(pins: &Pins) -> u32 {
    let fd = libbpf_rs::Program::fd_from_pinned_path(pins.prog()).unwrap();
    libbpf_rs::Program::id_from_fd(fd.as_fd()).unwrap()
}

#[test]
fn a_large_mtu_needs_frames_of_several_buffers() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("mtu", 1, 1), PinDir::new());
    for interface in ["out", "wire"] {
        namespace.ip(&["link", "set", interface, "mtu", "9000"]);
    }
    namespace.enter(|| {
        let single = Load { multi_buffer: false, ..load_native(&pins) };
        let refused = single.run().unwrap_err().to_string();
        assert!(refused.contains("MTU") && refused.contains("without --no-frags"), "{refused}");
        assert!(pins.listing().is_empty());
        assert_eq!(load_native(&pins).run().unwrap().mode, Mode::Native);
        let socket = receiver(5000);
        sender(5000).send(&[9; 8000]).unwrap();
        let mut buffer = [0; 9000];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 8000);
        let total = settle(&Steering::at(&pins.path, "wire"), 1).total;
        assert_eq!((total.matched, total.matched_bytes), (1, 8042));
    });
}

#[test]
fn two_interfaces_one_of_them_with_a_dot() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("dot", 1, 1), PinDir::new());
    namespace.ip(&["link", "add", "wire.7", "type", "veth", "peer", "name", "out.7"]);
    namespace.enter(|| {
        load_native(&pins).run().unwrap();
        let mode = ModeChoice::Generic; // a veth has as many queues as the machine has CPUs
        let load = Load { interface: "wire.7".to_string(), mode, ..load_native(&pins) };
        load.run().unwrap();
        let all = wiretape_xdp::status::all(&pins.path).unwrap();
        let names: Vec<_> = all.iter().map(|status| status.interface.as_str()).collect();
        assert_eq!(names, ["wire", "wire.7"]);
        assert_eq!(Steering::at(&pins.path, "wire").unload().unwrap(), Unloaded::Attached);
        assert!(pins.path.join("wire:7").is_dir(), "the other interface's pins stay");
        assert_eq!(Steering::at(&pins.path, "wire.7").unload().unwrap(), Unloaded::Attached);
        assert!(pins.listing().is_empty());
    });
}

#[test]
fn the_command_line_end_to_end() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("tool", 1, 1), PinDir::new());
    namespace.enter(|| {
        let run = |arguments: &[&str]| output(tool(arguments, &pins.path));
        let expect = |arguments: &[&str], code: i32, word: &str| {
            let (status, output) = run(arguments);
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
            assert_eq!(status, Some(code), "{arguments:?}: {text}");
            assert!(text.contains(word), "{arguments:?}: {word:?} is not in: {text}");
        };
        expect(&["unload", "-i", "wire"], 1, "does not steer");
        expect(&["load", "-i", "wire", "-g", "239.1.1.1"], 2, "as in 239.1.1.1:5000");
        expect(&["load", "-i", "wire", "-g", "239.1.1.1:5000"], 0, "wire: native mode, program");
        expect(&["group", "add", "-i", "wire", "239.1.1.1:5001"], 0, "steers 239.1.1.1:5001");
        expect(&["group", "list", "-i", "wire"], 0, "239.1.1.1:5000\n239.1.1.1:5001\n");
        expect(&["status"], 0, "wire: native mode");
        expect(&["replace", "-i", "wire"], 0, "still in native mode");
        let (_, status) = run(&["status", "-i", "wire", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status[0]["mode"], "native");
        assert_eq!(status[0]["groups"].as_array().unwrap().len(), 2);
        assert_eq!(status[0]["total"]["seen"], 0);
        // Whoever reads it has read enough, as with `2>&1 | head`.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut unread = tool(&["status", "-i", "wire", "--json"], &pins.path);
        unread.stdout(writer.try_clone().unwrap()).stderr(writer);
        assert!(unread.status().unwrap().success());
        expect(&["unload", "-i", "wire"], 0, "unloaded");
        expect(&["status"], 0, "no interface steers");
        // A group that is named twice is one.
        let twice = ["load", "-i", "wire", "-g", "239.1.1.1:5000", "-g", "239.1.1.1:5000"];
        expect(&twice, 0, ", 1 group, pins in");
        let (_, added) = run(&["group", "add", "-i", "wire", "239.1.1.1:5001", "239.1.1.1:5001"]);
        assert_eq!(added.stdout, b"wire: steers 239.1.1.1:5001\n");
        expect(&["unload", "-i", "wire"], 0, "unloaded");
        expect(&["completions", "bash"], 0, "wiretape-xdp");
        expect(&["man"], 0, ".TH wiretape-xdp");
    });
}

#[test]
fn members_of_the_pin_group_need_no_rights() {
    skip_without_rights!();
    const MEMBER: u32 = 54321; // whose name nobody needs to know
    let (namespace, pins) = (Namespace::with_veth("member", 1, 1), PinDir::new());
    namespace.enter(|| {
        let load = Load { user_group: Some(MEMBER.to_string()), ..load_native(&pins) };
        match load.run() {
            Err(Error::Unreachable { dir, .. }) => {
                println!("skipped: {} is closed to user groups", dir.display());
                return;
            }
            result => result.unwrap(),
        };
        // Somewhere an ordinary user can run it from.
        let copy = std::env::temp_dir().join(format!("wiretape-xdp-{}", std::process::id()));
        // By cp: a file that this process writes may be open in a child of another thread still.
        run("cp", &[env!("CARGO_BIN_EXE_wiretape-xdp"), copy.to_str().unwrap()]);
        let list_as = |group: u32| {
            let mut command = Command::new(&copy);
            command.args(["status", "--json", "--pin-dir"]).arg(&pins.path);
            command.uid(65534).gid(group);
            output(command)
        };
        let member = list_as(MEMBER);
        let stranger = list_as(MEMBER + 1);
        fs::remove_file(&copy).unwrap();
        assert_eq!(member.0, Some(0), "{}", stderr(&member.1));
        let status: serde_json::Value = serde_json::from_slice(&member.1.stdout).unwrap();
        assert_eq!(status[0]["mode"], "native");
        assert_eq!(status[0]["groups"][0], "239.1.1.1:5000");
        assert_eq!(stranger.0, Some(1));
        assert!(stderr(&stranger.1).contains("--pin-group"), "{}", stderr(&stranger.1));
    });
}

/// An exit code of 1 would say that nothing was changed.
#[test]
fn what_is_done_is_a_success_also_where_it_cannot_be_told() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("full", 1, 1), PinDir::new());
    namespace.enter(|| {
        for (arguments, what) in [
            ("load -i wire -g 239.1.1.1:5000", "wire: native mode, program"),
            ("group add -i wire 239.1.1.1:5001", "wire: steers 239.1.1.1:5001"),
            ("group remove -i wire 239.1.1.1:5001", "wire: leaves 239.1.1.1:5001"),
            ("replace -i wire", "still in native mode"),
            ("unload -i wire", "wire: unloaded"),
        ] {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            let mut command = tool(&arguments, &pins.path);
            command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
            let (code, output) = output(command);
            let said = stderr(&output);
            assert_eq!(code, Some(0), "{arguments:?}: {said}");
            assert!(said.contains(what) && said.contains("No space left"), "{said}");
        }
    });
}

#[test]
fn a_refusal_that_nobody_reads_is_a_refusal() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut refused = tool(&["status", "--interface", "nosuch0"], &std::env::temp_dir());
    assert_eq!(refused.stderr(full).status().unwrap().code(), Some(1));
}

#[test]
fn help_that_nobody_can_take_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut help = tool(&["--help"], &std::env::temp_dir());
    help.stdout(full);
    let (code, output) = output(help);
    assert_eq!(code, Some(1));
    assert!(stderr(&output).contains("cannot write: No space left"), "{}", stderr(&output));
}

#[test]
fn a_private_mount_namespace_is_explained() {
    skip_without_rights!();
    let namespace = Namespace::with_veth("private", 1, 1);
    let load = ["load", "--interface", "wire", "--group", "239.1.1.1:5000"];
    let run_inside = |arguments: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace.name(), env!("CARGO_BIN_EXE_wiretape-xdp")]);
        command.args(arguments);
        output(command)
    };
    let (code, refused) = run_inside(&load);
    assert_eq!(code, Some(1));
    assert!(stderr(&refused).contains("nsenter --net"), "{}", stderr(&refused));
    assert_eq!(namespace.xdp("wire"), None);

    // The way out that it names: a bpf file system elsewhere, mounted before entering.
    let mounted = MountPoint::named(namespace.name());
    run("mount", &["-t", "bpf", "bpf", mounted.path()]);
    let pins = format!("{}/wiretape", mounted.path());
    let (code, loaded) = run_inside(&[&load[..], &["--pin-dir", &pins]].concat());
    assert_eq!(code, Some(0), "{}", stderr(&loaded));
    assert!(namespace.xdp("wire").is_some());
    let (code, unloaded) = run_inside(&["unload", "-i", "wire", "--pin-dir", &pins]);
    assert_eq!(code, Some(0), "{}", stderr(&unloaded));
    assert_eq!(namespace.xdp("wire"), None);
}

/// A directory to mount on, unmounted and removed on drop.
struct MountPoint {
    path: String,
}

impl MountPoint {
    fn named(name: &str) -> Self {
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self { path: path.to_str().unwrap().to_string() }
    }

    fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).output();
        let _ = fs::remove_dir(&self.path);
    }
}
