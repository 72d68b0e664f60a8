//! A network namespace, a pin directory and a socket of a test's own, gone when it ends.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wiretape_xdp::{Group, Load, ModeChoice, Steering, pin};

static NEXT: AtomicU32 = AtomicU32::new(0);

fn unique(tag: &str) -> String {
    format!("wtx-{tag}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Why a test that needs root cannot run here.
pub fn missing_rights() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root for network namespaces and BPF".to_string());
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Some("needs the command ip (package iproute2)".to_string());
    }
    let name = unique("try");
    let made = Command::new("ip").args(["netns", "add", &name]).output();
    let made = made.is_ok_and(|output| output.status.success());
    let _ = Command::new("ip").args(["netns", "del", &name]).output();
    if !made {
        return Some("may not make network namespaces".to_string());
    }
    wiretape_xdp::program::SteerProgram::load(true).err().map(|error| error.to_string())
}

/// Returns from the test, saying why, where it cannot run.
#[macro_export]
macro_rules! skip_without_rights {
    () => {
        if let Some(reason) = namespace::missing_rights() {
            println!("skipped: {reason}");
            return;
        }
    };
}

/// A network namespace, deleted on drop with all interfaces in it.
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn new(tag: &str) -> Self {
        let name = unique(tag);
        run("ip", &["netns", "add", &name]);
        Self { name }
    }

    /// With a veth pair: `out` 10.99.0.1 to send on, `wire` 10.99.0.2 to attach to. Nothing but what
    /// a test sends is on it: no IPv6, no ARP.
    ///
    /// Native XDP on `wire` wants at least as many receive queues as `out` has transmit queues.
    pub fn with_veth(tag: &str, out_transmit_queues: u32, wire_receive_queues: u32) -> Self {
        let namespace = Self::new(tag);
        let out = &out_transmit_queues.to_string();
        let wire = &wire_receive_queues.to_string();
        // Queues that are not asked for by number, on the first of the pair, stay unused.
        let first = ["link", "add", "out", "numtxqueues", out, "numrxqueues", "1"];
        let peer =
            ["type", "veth", "peer", "name", "wire", "numtxqueues", "1", "numrxqueues", wire];
        namespace.ip(&[&first[..], &peer[..]].concat());
        for (interface, address) in [("out", "10.99.0.1/24"), ("wire", "10.99.0.2/24")] {
            namespace.ip(&["link", "set", interface, "addrgenmode", "none", "arp", "off"]);
            namespace.ip(&["addr", "add", address, "dev", interface]);
            namespace.ip(&["link", "set", interface, "up"]);
        }
        namespace.ip(&["route", "add", "239.0.0.0/8", "dev", "out"]);
        // Both ends are here: without these, the kernel takes what arrives for forged.
        namespace.enter(|| {
            for (of, setting, value) in [
                ("wire", "accept_local", "1"),
                ("wire", "rp_filter", "0"),
                ("all", "rp_filter", "0"),
            ] {
                let path = format!("/proc/sys/net/ipv4/conf/{of}/{setting}");
                std::fs::write(&path, value).expect(&path);
            }
        });
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside.
    pub fn ip(&self, args: &[&str]) -> String {
        run("ip", &[&["-n", &self.name], args].concat())
    }

    /// Runs a closure inside, on a thread of its own: only the network differs there, so that the
    /// bpf file system stays in sight.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let handle = File::open(format!("/run/netns/{}", self.name)).expect("open the namespace");
        let enter = || {
            move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("enter the namespace");
            body()
        };
        thread::scope(|scope| match scope.spawn(enter).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// What `ip` says of XDP on an interface: (mode, program id), the mode 1 native, 2 generic.
    pub fn xdp(&self, interface: &str) -> Option<(u64, u64)> {
        let text = self.ip(&["-j", "-d", "link", "show", "dev", interface]);
        let json: serde_json::Value = serde_json::from_str(&text).expect("ip writes JSON");
        let xdp = json.get(0)?.get("xdp")?;
        Some((xdp.get("mode")?.as_u64()?, xdp.get("prog")?.get("id")?.as_u64()?))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// A pin directory, unloaded and removed on drop.
pub struct PinDir {
    pub path: PathBuf,
}

impl PinDir {
    pub fn new() -> Self {
        Self { path: Path::new("/sys/fs/bpf").join(unique("pins")) }
    }

    /// Every path under it, sorted.
    pub fn listing(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                into.push(entry.path());
                walk(&entry.path(), into);
            }
        }
        let mut paths = Vec::new();
        if self.path.exists() {
            paths.push(self.path.clone());
        }
        walk(&self.path, &mut paths);
        paths.sort();
        paths
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        for interface in pin::interfaces(&self.path) {
            let _ = Steering::at(&self.path, &interface).unload();
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Runs a command that must succeed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("run a command");
    assert!(output.status.success(), "{program} {args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A group of the one address that the tests use.
pub fn group(port: u16) -> Group {
    Group::new(Ipv4Addr::new(239, 1, 1, 1), port).unwrap()
}

/// A load of `wire` with the group 239.1.1.1:5000.
pub fn load_native(pins: &PinDir) -> Load {
    Load {
        interface: "wire".to_string(),
        groups: vec![group(5000)],
        mode: ModeChoice::Native,
        pin_dir: pins.path.clone(),
        user_group: None,
        card: Default::default(),
        multi_buffer: true,
        receive_stamps: false,
    }
}

/// The binary, run where the calling thread is.
pub fn tool(arguments: &[&str], pins: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-xdp"));
    command.args(arguments).arg("--pin-dir").arg(pins);
    command
}

/// Runs a command; its exit code, and what it printed.
pub fn output(mut command: Command) -> (Option<i32>, Output) {
    let output = command.output().unwrap();
    (output.status.code(), output)
}
