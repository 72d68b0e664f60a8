//! Queues and steering rules of a card: set by a load, changed while it runs, undone with it. A veth
//! has queues and no rules; a card with rules is a program called `ethtool` in front of the real one.

mod namespace;
mod traffic;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use wiretape_xdp::{CardChoice, Load, Steering};

use namespace::{Namespace, PinDir, load_native, run, stderr, tool};
use traffic::XdpSocket;

/// What `ethtool` would do to a card with eight queues and filters, kept in files.
const FAKE: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
case "$1" in
-l) printf 'Pre-set maximums:\nCombined:\t16\nCurrent hardware settings:\nRX:\t\tn/a\nCombined:\t%s\n' "$(cat queues)" ;;
-L) [ "$3" = combined ] && echo "$4" >queues ;;
-k) echo "ntuple-filters: $(cat ntuple)" ;;
-K) [ "$3" = ntuple ] && echo "$4" >ntuple ;;
-N)
    if [ "$3" = delete ]; then
        rm "rule.$4"
    elif grep -q on ntuple; then
        case "$*" in *6666*) echo "rmgr: Cannot insert RX class rule: No space" >&2; exit 1 ;; esac
        number=$(($(cat number) + 1))
        echo $number >number
        echo "$3 $4 $5 $6 $7 $8 $9 ${10}" >"rule.$number"
        echo "Added rule with ID $number"
    else
        echo "rmgr: Cannot insert RX class rule: Operation not supported" >&2
        exit 1
    fi ;;
esac
"#;

/// The real one, that kills who called it once queues have changed.
const KILLER: &str = r#"#!/bin/sh
PATH="${PATH#*:}" ethtool "$@" || exit 1
[ "$1" = -L ] && kill -9 $PPID
exit 0
"#;

struct FakeCard {
    dir: PathBuf,
}

impl FakeCard {
    fn new() -> FakeCard {
        FakeCard::with_program(FAKE)
    }

    fn with_program(text: &str) -> FakeCard {
        let name = format!("wtx-card-{}-{}", std::process::id(), text.len());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        for (name, value) in [("queues", "8"), ("ntuple", "off"), ("number", "100")] {
            fs::write(dir.join(name), format!("{value}\n")).unwrap();
        }
        let program = dir.join("ethtool");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        FakeCard { dir }
    }

    /// Runs the binary on interface `wire`, with this card in front.
    fn run(&self, pins: &Path, arguments: &str) -> Output {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let mut command = tool(&arguments, pins);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.dir.display()));
        command.output().unwrap()
    }

    fn is(&self, queues: u32, ntuple: &str, rules: &[&str]) {
        let read = |name: &str| fs::read_to_string(self.dir.join(name)).unwrap().trim().to_owned();
        assert_eq!((read("queues"), read("ntuple")), (queues.to_string(), ntuple.to_owned()));
        let names = fs::read_dir(&self.dir).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<String> =
            names.filter(|name| name.starts_with("rule.")).map(|name| read(&name)).collect();
        found.sort();
        assert_eq!(found, rules);
    }
}

impl Drop for FakeCard {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn rule(port: u16, queue: u32) -> String {
    format!("flow-type udp4 dst-ip 239.1.1.1 dst-port {port} action {queue}")
}

#[test]
fn groups_go_to_the_queue_that_was_asked_for_until_the_unload() {
    skip_without_rights!();
    let (namespace, pins, card) =
        (Namespace::with_veth("card", 1, 1), PinDir::new(), FakeCard::new());
    namespace.enter(|| {
        let wire = |arguments: &str| {
            let output = card.run(&pins.path, arguments);
            assert!(output.status.success(), "{arguments}: {}", stderr(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        wire("load --interface wire --queues 4 --to-queue 2 --group 239.1.1.1:5000 --group 239.1.1.1:5001");
        card.is(4, "on", &[&rule(5000, 2), &rule(5001, 2)]);
        wire("group add --interface wire --to-queue 3 239.1.1.1:5002 239.1.1.1:5001");
        card.is(4, "on", &[&rule(5000, 2), &rule(5001, 3), &rule(5002, 3)]);
        wire("group remove --interface wire 239.1.1.1:5000");
        card.is(4, "on", &[&rule(5001, 3), &rule(5002, 3)]);
        let shown = wire("status --interface wire");
        assert!(shown.contains("had 8 receive queues before"), "{shown}");
        assert!(shown.contains("puts 239.1.1.1:5002 into queue 3"), "{shown}");
        let json: serde_json::Value = serde_json::from_str(&wire("status --json")).unwrap();
        assert_eq!(json[0]["card"]["queues_before"], 8);

        // The card has no room for a rule: the groups are not steered either.
        let refused = card.run(&pins.path, "group add --interface wire --to-queue 1 239.1.1.1:6666");
        let said = stderr(&refused);
        assert!(!refused.status.success() && said.contains("No space"), "{said}");
        assert!(!wire("group list --interface wire").contains("6666"));
        card.is(4, "on", &[&rule(5001, 3), &rule(5002, 3)]);
        // Nor is the one beside it, whose rule is what it was.
        let both = "group add --interface wire --to-queue 1 239.1.1.1:5002 239.1.1.1:6666";
        assert!(!card.run(&pins.path, both).status.success());
        card.is(4, "on", &[&rule(5001, 3), &rule(5002, 3)]);
    });
    // From outside its namespace the card cannot be put right, and is not forgotten.
    let outside = card.run(&pins.path, "unload --interface wire");
    assert!(!outside.status.success() && stderr(&outside).contains("nsenter"), "{outside:?}");
    namespace.enter(|| {
        let wire = |arguments: &str| {
            let output = card.run(&pins.path, arguments);
            assert!(output.status.success(), "{arguments}: {}", stderr(&output));
        };
        wire("unload --interface wire");
        card.is(8, "off", &[]);
        assert!(pins.listing().is_empty(), "{:?}", pins.listing());
    });
}

/// Receive queues of `wire`.
fn queues() -> String {
    let said = run("ethtool", &["-l", "wire"]);
    let (_, now) = said.split_once("Current").unwrap();
    now.lines().find_map(|line| line.strip_prefix("RX:")).unwrap().trim().to_owned()
}

#[test]
fn queues_that_a_capture_holds_are_put_back_once_it_has_ended() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("held", 1, 4), PinDir::new());
    namespace.enter(|| {
        run("ethtool", &["-L", "wire", "rx", "1"]);
        let card = CardChoice { queues: Some(3), to_queue: None };
        let loaded = Load { card, ..load_native(&pins) }.run().unwrap();
        let steering = Steering::at(&pins.path, "wire");
        let index = steering.status().unwrap().interface_index.unwrap();
        let socket = XdpSocket::bind(index, 2).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // As a capture does, which ends when it sees that the program is gone.
                while loaded.pins.xsks().exists() {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                drop(socket);
            });
            steering.unload().unwrap();
        });
        assert_eq!((queues(), namespace.xdp("wire")), ("1".to_owned(), None));
        assert!(pins.listing().is_empty(), "{:?}", pins.listing());
    });
}

#[test]
fn a_load_that_fails_leaves_the_card_as_it_was() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("refuse", 1, 4), PinDir::new());
    namespace.enter(|| {
        // This card has queues, and no rules.
        let load =
            |queues, to_queue| Load { card: CardChoice { queues, to_queue }, ..load_native(&pins) };
        let error = load(Some(2), Some(1)).run().unwrap_err().to_string();
        for word in ["steer groups to a queue of wire", "ntuple", "leave --to-queue out"] {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
        assert_eq!((queues(), namespace.xdp("wire")), ("4".to_owned(), None));
        let error = load(Some(2), Some(2)).run().unwrap_err().to_string();
        assert!(error.contains("2 queues") && error.contains("there is no 2"), "{error}");
        let error = load(Some(99), None).run().unwrap_err().to_string();
        assert!(error.contains("ethtool -L wire rx 99"), "{error}");
        assert_eq!((queues(), namespace.xdp("wire")), ("4".to_owned(), None));
        assert!(pins.listing().is_empty(), "{:?}", pins.listing());

        load(Some(2), None).run().unwrap();
        assert_eq!(queues(), "2");
        Steering::at(&pins.path, "wire").unload().unwrap();
        assert_eq!(queues(), "4");

        // A load that is killed when the card has just changed: the next one undoes that.
        let killer = FakeCard::with_program(KILLER);
        let killed = killer.run(&pins.path, "load --interface wire --queues 3");
        assert_eq!(killed.status.code(), None, "{}", stderr(&killed));
        assert_eq!((queues(), namespace.xdp("wire")), ("3".to_owned(), None));
        assert_eq!(load(None, None).run().unwrap().mode, wiretape_xdp::Mode::Native);
        assert_eq!(queues(), "4");
    });
}
