//! Two network namespaces joined by a veth pair, removed again whatever happens.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A sender's and a receiver's namespace; `wtx0` in the one is joined to `wrx0` in the other.
pub struct Pair {
    names: [String; 2],
}

/// The end of a pair that a program runs at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Sender = 0,
    Receiver = 1,
}

/// Why there is no pair, printed as the reason of a skipped test.
pub type Missing = String;

fn ip(arguments: &str) -> Result<(), Missing> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("`ip` does not run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`ip {arguments}`: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Pair {
    /// Makes a pair with addresses 10.99.0.1 (sender, `wtx0`) and 10.99.0.2 (receiver, `wrx0`).
    pub fn make() -> Result<Pair, Missing> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let pair = Pair { names: [format!("wtx-tx-{id}"), format!("wtx-rx-{id}")] };
        let [tx, rx] = &pair.names;
        ip(&format!("netns add {tx}"))?;
        ip(&format!("netns add {rx}"))?;
        ip(&format!("-n {tx} link add wtx0 type veth peer name wrx0 netns {rx}"))?;
        for (name, device, address) in [(tx, "wtx0", 1), (rx, "wrx0", 2)] {
            ip(&format!("-n {name} addr add 10.99.0.{address}/24 dev {device}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set {device} up"))?;
        }
        Ok(pair)
    }

    /// The name of an end's namespace.
    pub fn name(&self, end: End) -> &str {
        &self.names[end as usize]
    }

    /// Runs `work` on a thread of its own inside an end's namespace.
    pub fn run<T: Send>(&self, end: End, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name(end))).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}
