//! The program that asks the driver for receive times. A veth's driver can be asked and has none, so
//! what is seen here is that it is asked, and that this is counted; bench has a driver that stamps.

mod namespace;
mod traffic;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use wiretape_xdp::{Error, Load, Mode, ModeChoice, Steering, Unloaded};

use namespace::{Namespace, PinDir, load_native, output, stderr, tool};
use traffic::{XdpSocket, send, settle};

fn load_stamping(pins: &PinDir) -> Load {
    Load { receive_stamps: true, ..load_native(pins) }
}

#[test]
fn the_driver_is_asked_for_each_redirected_packet_also_by_a_program_put_in_place() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("stamps", 1, 1), PinDir::new());
    namespace.enter(|| {
        assert_eq!(load_stamping(&pins).run().unwrap().mode, Mode::Native);
        let steering = Steering::at(&pins.path, "wire");
        // What goes to the kernel has nothing in front.
        send(5000, 5);
        let status = settle(&steering, 5);
        assert!(status.receive_stamps);
        assert_eq!((status.total.no_socket, status.total.unstamped), (5, 0));

        let socket = XdpSocket::bind(status.interface_index.unwrap(), 0).unwrap();
        socket.enter(steering.pins());
        send(5000, 20);
        send(6000, 7);
        let before = settle(&steering, 32);
        assert_eq!((before.total.redirected, before.total.passed), (20, 7));
        assert_eq!((before.total.stamped, before.total.unstamped), (0, 20));
        assert!(before.closes);

        let replaced = steering.replace(true).unwrap();
        assert_eq!(replaced.mode, Mode::Native);
        send(5000, 10);
        let after = settle(&steering, 42);
        assert!(after.receive_stamps && after.closes);
        assert_eq!((after.total.redirected, after.total.unstamped), (30, 30));
        assert_eq!(before.program_tag, after.program_tag);

        let (_, shown) = output(tool(&["status", "-i", "wire"], &pins.path));
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("stamps  0 packets with the NIC's time, 30 without"), "{shown}");
        assert_eq!(steering.unload().unwrap(), Unloaded::Attached);
        assert!(pins.listing().is_empty(), "{:?}", pins.listing());
        assert_eq!(namespace.xdp("wire"), None);
    });
}

#[test]
fn a_plain_program_asks_nobody_and_an_incomplete_count_keeps_the_ledger_open() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("plain", 1, 1), PinDir::new());
    namespace.enter(|| {
        load_native(&pins).run().unwrap();
        let steering = Steering::at(&pins.path, "wire");
        let index = steering.status().unwrap().interface_index.unwrap();
        let socket = XdpSocket::bind(index, 0).unwrap();
        socket.enter(steering.pins());
        send(5000, 3);
        let plain = settle(&steering, 3);
        assert!(!plain.receive_stamps && plain.closes);
        assert_eq!((plain.total.redirected, plain.total.unstamped), (3, 0));
        // As if the pins said that the program asks.
        libbpf_rs::MapHandle::from_pinned_path(steering.pins().counters())
            .unwrap()
            .pin(steering.pins().stamps())
            .unwrap();
        let open = steering.status().unwrap();
        assert!(open.receive_stamps && !open.closes);
    });
}

#[test]
fn a_refusal_is_one_sentence_and_leaves_nothing_behind() {
    skip_without_rights!();
    let (namespace, pins) = (Namespace::with_veth("nostamps", 1, 1), PinDir::new());
    namespace.enter(|| {
        let generic = Load { mode: ModeChoice::Generic, ..load_stamping(&pins) };
        let refused = generic.run().unwrap_err();
        assert!(matches!(refused, Error::StampsBehindDriver), "{refused}");
        assert!(pins.listing().is_empty());

        // A driver with native XDP that tells programs nothing.
        let made = Command::new("ip")
            .args(["-n", namespace.name(), "tuntap", "add", "dev", "tap", "mode", "tap"])
            .output()
            .unwrap();
        if !made.status.success() {
            println!("skipped in part: {}", stderr(&made));
            return;
        }
        let load = ["load", "-i", "tap", "-g", "239.1.1.1:5000"];
        let (code, refused) =
            output(tool(&[&load[..], &["--receive-stamps"]].concat(), &pins.path));
        assert_eq!(code, Some(1));
        let said = stderr(&refused);
        assert!(said.contains("the driver of tap tells XDP programs no receive times"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(pins.listing().is_empty() && namespace.xdp("tap").is_none());
        assert_eq!(output(tool(&load, &pins.path)).0, Some(0));
    });
}

#[test]
fn members_of_the_pin_group_learn_that_packets_carry_times() {
    skip_without_rights!();
    const MEMBER: u32 = 54321;
    let (namespace, pins) = (Namespace::with_veth("stampgroup", 1, 1), PinDir::new());
    namespace.enter(|| {
        let load = Load { user_group: Some(MEMBER.to_string()), ..load_stamping(&pins) };
        match load.run() {
            Err(Error::Unreachable { dir, .. }) => {
                println!("skipped: {} is closed to user groups", dir.display());
            }
            result => {
                let pin = fs::metadata(result.unwrap().pins.stamps()).unwrap();
                assert_eq!((pin.gid(), pin.permissions().mode() & 0o777), (MEMBER, 0o660));
            }
        }
    });
}
