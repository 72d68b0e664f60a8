//! What is given up is gone: a process of this test's own gives its rights up and then tries.

use std::fs::File;
use std::io::{Read, Seek};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::Duration;

use wiretape_capture::rights::{StillNeeded, drop_capabilities, filter_system_calls};

const CHILD: &str = "WIRETAPE_TEST_OF_RIGHTS";

/// Runs `test` of this file again in a process of its own, which finds [`CHILD`] set.
fn in_a_child(test: &str) -> Output {
    in_a_child_that(test, "1")
}

/// The same, with [`CHILD`] set to `what`.
fn in_a_child_that(test: &str, what: &str) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    child.env(CHILD, what).output().unwrap()
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
fn a_call_that_capture_does_not_need_ends_the_process() {
    if is_child() {
        let mut status = File::open("/proc/thread-self/status").unwrap();
        let mut text = String::with_capacity(1 << 14);
        drop_capabilities().unwrap();
        filter_system_calls(StillNeeded::default()).unwrap();
        status.rewind().unwrap();
        status.read_to_string(&mut text).unwrap();
        println!("{text}");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0");
        println!("still here: {socket:?}");
        return;
    }
    let output = in_a_child("a_call_that_capture_does_not_need_ends_the_process");
    let said = String::from_utf8_lossy(&output.stdout);
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("Seccomp:\t2"), "{said}");
    assert!(!said.contains("still here"), "{said}");
    assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
}

#[test]
fn capabilities_alone_leave_system_calls() {
    if is_child() {
        drop_capabilities().unwrap();
        let bound = std::net::UdpSocket::bind("127.0.0.1:0").is_ok();
        // SAFETY: no memory is involved. Raw sockets need CAP_NET_RAW.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        println!("bound {bound}, raw {raw}");
        return;
    }
    let output = in_a_child("capabilities_alone_leave_system_calls");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("bound true, raw -1"), "{said}");
}

#[test]
fn connections_are_let_through_only_where_they_are_needed() {
    let test = "connections_are_let_through_only_where_they_are_needed";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    if let Some(wanted) = std::env::var_os(CHILD) {
        let address = listener.local_addr().unwrap();
        let connections = wanted == "connections";
        filter_system_calls(StillNeeded { connections, memberships: true }).unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        println!("still here");
        return;
    }
    for (wanted, signal) in [("connections", None), ("memberships", Some(libc::SIGSYS))] {
        let output = in_a_child_that(test, wanted);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.contains("still here"), signal.is_none(), "{wanted}: {said}");
        assert_eq!(output.status.signal(), signal, "{wanted}: {output:?}");
    }
}
