//! Loads that fail, are killed, or find what others left: interface and pins stay as they were, and
//! the next load works without cleaning up by hand.

mod namespace;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use wiretape_xdp::{CardChoice, Error, Load, Mode, ModeChoice, State, Steering, Unloaded};

use namespace::{Namespace, PinDir, group, load_native, output, run, stderr, tool};

/// The load must fail, say all of `words`, and change nothing.
fn fails(namespace: &Namespace, pins: &PinDir, load: &Load, words: &[&str]) {
    let before = (pins.listing(), namespace.xdp("wire"));
    let error = load.run().unwrap_err().to_string();
    println!("{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    assert_eq!((pins.listing(), namespace.xdp("wire")), before);
}

#[test]
fn a_failed_load_leaves_nothing() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("fail", 2, 1), PinDir::new());
    namespace.enter(|| {
        let load = load_native(&pins);
        let absent = Load { interface: "nope".to_string(), ..load.clone() };
        fails(&namespace, &pins, &absent, &["no interface nope", "ip link"]);
        let words = ["native", "receive queues", "ethtool -L", "--mode generic"];
        fails(&namespace, &pins, &load, &words);
        let strangers = Load { user_group: Some("no-such-group".to_string()), ..load.clone() };
        fails(&namespace, &pins, &strangers, &["no-such-group", "groupadd"]);
        let groups = (1..=4096).map(group).collect();
        let many = Load { groups, mode: ModeChoice::Generic, ..load.clone() };
        fails(&namespace, &pins, &many, &["groups", "4096"]);
        let elsewhere = std::env::temp_dir().join("wiretape-pins");
        let elsewhere = Load { pin_dir: elsewhere.clone(), ..load.clone() };
        fails(&namespace, &pins, &elsewhere, &["mount -t bpf"]);
        assert!(!elsewhere.pin_dir.exists());
        let dotted = Load { pin_dir: pins.path.join("a.b"), ..load.clone() };
        fails(&namespace, &pins, &dotted, &["dot"]);

        // What native mode refused is had in generic mode, and auto says why.
        let auto = Load { mode: ModeChoice::Auto, ..load.clone() };
        let loaded = auto.run().unwrap();
        assert_eq!(loaded.mode, Mode::Generic);
        assert!(loaded.native_refused.unwrap().contains("receive queues"));

        fails(&namespace, &pins, &auto, &["already steers", "replace"]);
        let (other, id) = (PinDir::new(), loaded.program_id.to_string());
        let elsewhere = Load { pin_dir: other.path.clone(), ..auto.clone() };
        fails(&namespace, &other, &elsewhere, &["another XDP program", &id, "generic mode"]);
        assert!(other.listing().is_empty());
    });
}

#[test]
fn a_load_that_fails_after_the_attachment_leaves_nothing() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("undo", 1, 1), PinDir::new());
    namespace.enter(|| {
        let pending = load_native(&pins).prepare().unwrap();
        assert_eq!(pending.loaded().mode, Mode::Native);
        assert_eq!(namespace.xdp("wire"), Some((1, pending.loaded().program_id.into())));
        assert!(!pins.path.join("wire").exists(), "the name appears last");
        drop(pending);
        assert_eq!(namespace.xdp("wire"), None);
        assert!(pins.listing().is_empty(), "{:?}", pins.listing());

        // The same in place of the pins of an interface that is gone: those stay.
        fs::create_dir_all(pins.path.join("wire")).unwrap();
        let before = pins.listing();
        drop(load_native(&pins).prepare().unwrap());
        assert_eq!((pins.listing(), namespace.xdp("wire")), (before, None));
        assert!(load_native(&pins).run().unwrap().replaced_stale);
    });
}

/// Out of file descriptors at each step of the load that takes one.
#[test]
fn a_load_without_file_descriptors_leaves_nothing() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("files", 1, 1), PinDir::new());
    namespace.enter(|| {
        let mut failures = 0;
        for files in 3.. {
            let mut command = Command::new("sh");
            command.args(["-c", "ulimit -n $0 && exec \"$@\"", &files.to_string()]);
            command.arg(env!("CARGO_BIN_EXE_wiretape-xdp"));
            command.args(["load", "-i", "wire", "-g", "239.1.1.1:5000", "--pin-dir"]);
            command.arg(&pins.path);
            let (code, result) = output(command);
            if code == Some(0) {
                break;
            }
            failures += usize::from(stderr(&result).contains("cannot"));
            assert!(pins.listing().is_empty(), "{}", stderr(&result));
            assert_eq!(namespace.xdp("wire"), None, "{}", stderr(&result));
            assert!(files < 100, "the load never succeeds: {}", stderr(&result));
        }
        assert!(failures > 3, "only {failures} failures were provoked");
        assert!(namespace.xdp("wire").is_some());
    });
}

/// Killed at any moment, a load leaves nothing that stops the next one.
#[test]
fn a_load_after_a_killed_one_needs_no_cleaning_up() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("kill", 1, 1), PinDir::new());
    let steering = Steering::at(&pins.path, "wire");
    namespace.enter(|| {
        let mut stopped = 0;
        for step in 0..40 {
            let arguments = ["load", "-i", "wire", "-g", "239.1.1.1:5000"];
            let mut child = tool(&arguments, &pins.path).spawn().unwrap();
            thread::sleep(Duration::from_micros(500 * step));
            child.kill().unwrap();
            child.wait().unwrap();
            if !pins.path.join("wire").exists() {
                stopped += 1;
                load_native(&pins).run().unwrap();
            }
            assert_eq!(steering.status().unwrap().state, State::Attached);
            steering.unload().unwrap();
            assert!(pins.listing().is_empty(), "{:?}", pins.listing());
            assert_eq!(namespace.xdp("wire"), None);
        }
        println!("{stopped} of 40 loads were killed before they were done");
        assert!(stopped > 0);
    });
}

#[test]
fn pins_that_the_user_group_could_not_reach_are_not_made() {
    skip_without_rights!();
    let closed = PinDir::new();
    fs::create_dir(&closed.path).unwrap();
    fs::set_permissions(&closed.path, fs::Permissions::from_mode(0o700)).unwrap();
    let namespace = Namespace::with_veth("closed", 1, 1);
    namespace.enter(|| {
        let load = Load { user_group: Some("54321".to_string()), ..load_native(&closed) };
        fails(&namespace, &closed, &load, &["54321", "0700", "chmod o+x"]);
    });
}

#[test]
fn an_interface_that_went_away_is_replaced() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("gone", 1, 1), PinDir::new());
    let steering = Steering::at(&pins.path, "wire");
    namespace.enter(|| {
        load_native(&pins).run().unwrap();
    });
    // From outside, the name means another interface, or none.
    assert_eq!(steering.status().unwrap().state, State::Elsewhere);
    assert!(matches!(steering.replace(true), Err(Error::Elsewhere { .. })));
    drop(namespace);

    let namespace = Namespace::with_veth("back", 1, 1);
    namespace.enter(|| {
        let mut status = steering.status().unwrap();
        for _ in 0..200 {
            // A namespace is taken down by the kernel at leisure.
            if status.state == State::Gone {
                break;
            }
            thread::sleep(Duration::from_millis(10));
            status = steering.status().unwrap();
        }
        assert_eq!((status.state, status.mode), (State::Gone, None));
        assert!(matches!(steering.replace(true), Err(Error::Gone { .. })));
        // A group that nothing would steer is not taken.
        for changed in
            [steering.add_groups(&[group(5009)], None), steering.remove_groups(&[group(5000)])]
        {
            assert!(matches!(changed, Err(Error::Gone { .. })), "{changed:?}");
        }
        assert!(load_native(&pins).run().unwrap().replaced_stale);
        assert_eq!(steering.status().unwrap().state, State::Attached);
        assert_eq!(fs::read_dir(&pins.path).unwrap().count(), 1);
    });
}

#[test]
fn an_interface_that_got_another_name_is_still_the_same() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("name", 1, 4), PinDir::new());
    let steering = Steering::at(&pins.path, "wire");
    let receive_queues = || {
        let said = run("ethtool", &["-l", "wire9"]);
        let (_, now) = said.split_once("Current").unwrap();
        now.lines().find_map(|line| line.strip_prefix("RX:")).unwrap().trim().to_owned()
    };
    namespace.enter(|| {
        let card = CardChoice { queues: Some(2), to_queue: None };
        let first = Load { card, ..load_native(&pins) }.run().unwrap();
        namespace.ip(&["link", "set", "wire", "down"]);
        namespace.ip(&["link", "set", "wire", "name", "wire9"]);
        let status = steering.status().unwrap();
        assert_eq!((status.state, status.mode), (State::Attached, Some(first.mode)));
        assert_eq!(status.renamed.as_deref(), Some("wire9"));
        let replaced = steering.replace(true).unwrap();
        assert_eq!(namespace.xdp("wire9"), Some((1, replaced.program_id.into())));

        let load = Load { interface: "wire9".to_owned(), ..load_native(&pins) };
        let error = load.run().unwrap_err().to_string();
        assert!(error.contains("called wire9 now"), "{error}");
        assert!(error.contains("unload --interface wire`"), "{error}");
        // Somebody else has the old name.
        namespace.ip(&["link", "add", "wire", "type", "veth"]);
        fails(&namespace, &pins, &load_native(&pins), &["called wire9 now"]);

        assert_eq!(receive_queues(), "2");
        assert_eq!(steering.unload().unwrap(), Unloaded::Attached);
        assert_eq!((receive_queues(), namespace.xdp("wire9")), ("4".to_owned(), None));
        assert!(pins.listing().is_empty(), "{:?}", pins.listing());
        assert!(load.run().is_ok());
    });
}

#[test]
fn a_load_that_was_killed_is_cleaned_up_by_the_next() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("killed", 1, 1), PinDir::new());
    namespace.enter(|| {
        // All done but the last step, which gives the pins their name.
        let first = load_native(&pins).run().unwrap();
        fs::rename(pins.path.join("wire"), pins.path.join("wire:new")).unwrap();
        assert!(namespace.xdp("wire").is_some());
        let second = load_native(&pins).run().unwrap();
        assert_ne!(second.program_id, first.program_id);
        assert_eq!(namespace.xdp("wire"), Some((1, second.program_id.into())));
        assert_eq!(fs::read_dir(&pins.path).unwrap().count(), 1);

        // Or by an unload, which the status tells of.
        assert!(wiretape_xdp::status::unfinished(&pins.path).is_empty());
        fs::rename(pins.path.join("wire"), pins.path.join("wire:new")).unwrap();
        assert_eq!(wiretape_xdp::status::unfinished(&pins.path), ["wire"]);
        assert_eq!(Steering::at(&pins.path, "wire").unload().unwrap(), Unloaded::Stale);
        assert_eq!(namespace.xdp("wire"), None);
        assert!(pins.listing().is_empty());
    });
}
