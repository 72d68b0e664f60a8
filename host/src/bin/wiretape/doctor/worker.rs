//! The workers that this machine is to run, from their configurations.

use super::cpus::Cpus;
use super::machine::Machine;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where the units look for configurations.
pub const CONFIGURATIONS: &str = "/etc/wiretape";

/// What checks need to know of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// Where its packets arrive.
    pub interface: String,
    /// Queues of that interface that it receives from.
    pub queues: BTreeSet<u32>,
    /// Processor that it is pinned to.
    pub core: Option<usize>,
    /// Multicast groups of its feeds.
    pub groups: Vec<Ipv4Addr>,
    /// Whether it joins them itself.
    pub joins: bool,
    /// Bytes of its packet memory, for each of the queues.
    pub umem_bytes: u64,
    /// Whether that should lie on huge pages.
    pub huge_pages: bool,
    /// Whether it drives the NIC itself.
    pub busy_polls: bool,
    /// Whether the NIC is to say when packets came.
    pub nic_stamps: bool,
}

/// Processors that workers are pinned to.
pub fn cores(workers: &[Worker]) -> Cpus {
    workers.iter().filter_map(|worker| worker.core).collect()
}

/// The keys of a configuration that matter here; capture checks all of them (`--check`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    worker: WorkerTable,
    source: SourceTable,
    feed: Vec<FeedTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WorkerTable {
    name: Option<String>,
    core: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct SourceTable {
    kind: String,
    interface: String,
    queue: u32,
    also: Vec<String>,
    frames: u64,
    frame_size: u64,
    huge_pages: bool,
    retain_frames: u64,
    busy_poll_us: u32,
    receive_stamps: String,
    join: bool,
}

/// The defaults of capture.
impl Default for SourceTable {
    fn default() -> SourceTable {
        SourceTable {
            kind: "xdp".to_owned(),
            interface: String::new(),
            queue: 0,
            also: Vec::new(),
            frames: 8192,
            frame_size: 2048,
            huge_pages: true,
            retain_frames: 0,
            busy_poll_us: 0,
            receive_stamps: "host".to_owned(),
            join: true,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FeedTable {
    group: Option<SocketAddrV4>,
    group_b: Option<SocketAddrV4>,
}

/// Reads a configuration: its worker once for each interface that it receives from, and not at all
/// if it captures from a file.
pub fn parse(name: &str, text: &str) -> Result<Vec<Worker>, String> {
    let written: Configuration =
        toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let source = written.source;
    if source.kind != "xdp" || source.interface.is_empty() {
        return Ok(Vec::new());
    }
    let groups = written.feed.iter().flat_map(|feed| [feed.group, feed.group_b]).flatten();
    let mut groups: Vec<Ipv4Addr> =
        groups.map(|group| *group.ip()).filter(Ipv4Addr::is_multicast).collect();
    groups.sort_unstable();
    groups.dedup();
    let worker = Worker {
        name: written.worker.name.unwrap_or_else(|| name.to_owned()),
        interface: source.interface,
        queues: [source.queue].into(),
        core: written.worker.core,
        groups,
        joins: source.join,
        umem_bytes: source.frames.saturating_mul(source.frame_size),
        // Frames that recorders read lie in a file of tmpfs.
        huge_pages: source.huge_pages && source.retain_frames == 0,
        busy_polls: source.busy_poll_us > 0,
        nic_stamps: source.receive_stamps == "nic",
    };
    let mut workers = vec![worker.clone()];
    for queue in &source.also {
        let (interface, queue) = queue.rsplit_once(':').unwrap_or((queue, "0"));
        let queue = queue.parse().map_err(|_| format!("{queue:?} is no number of a queue"))?;
        match workers.iter_mut().find(|one| one.interface == interface) {
            Some(known) => drop(known.queues.insert(queue)),
            None => workers.push(Worker {
                interface: interface.to_owned(),
                queues: [queue].into(),
                ..worker.clone()
            }),
        }
    }
    Ok(workers)
}

/// The workers of the machine's own configurations, and what is wrong with the others.
pub fn configured(machine: &Machine) -> (Vec<Worker>, Vec<(String, String)>) {
    let (mut workers, mut unreadable) = (Vec::new(), Vec::new());
    for file in machine.names(CONFIGURATIONS) {
        let Some(name) = file.strip_suffix(".toml") else { continue };
        let path = format!("{CONFIGURATIONS}/{file}");
        let text = machine.text(&path).map_err(|error| error.to_string());
        match text.and_then(|text| parse(name, &text)) {
            Ok(more) => workers.extend(more),
            Err(why) => unreadable.push((path, why)),
        }
    }
    (workers, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_worker() {
        let example = include_str!("../../../../../docs/operating/capture.example.toml");
        let worker = &parse("x", example).unwrap()[0];
        assert_eq!((worker.name.as_str(), worker.interface.as_str()), ("itch-a", "eth1"));
        assert_eq!((worker.core, worker.umem_bytes), (Some(3), 16 << 20));
        assert_eq!(worker.groups, [Ipv4Addr::new(233, 54, 12, 111)]);
        assert!(worker.joins && worker.huge_pages && !worker.busy_polls);
        // Every value that the example shows as a default is the default here.
        let all: Vec<&str> = example.lines().map(|line| line.trim_start_matches('#')).collect();
        let keys = ["join = true", "frames = 8192", "frame_size = 2048", "huge_pages = true"];
        assert!(keys.iter().all(|key| all.contains(key)));
    }

    #[test]
    fn capture_files_are_no_workers_and_mistakes_are_told() {
        assert_eq!(parse("x", "[source]\nkind = \"pcap\"\npath = \"day.pcap\"").unwrap(), []);
        let two = "[source]\ninterface = \"eth1\"\nqueue = 2\n\
                   also = [\"eth1:1\", \"eth2\", \"eth2:3\"]";
        let workers = parse("x", two).unwrap();
        let queues: Vec<_> =
            workers.iter().map(|one| (one.interface.as_str(), one.queues.clone())).collect();
        assert_eq!(queues, [("eth1", [1, 2].into()), ("eth2", [0, 3].into())]);
        assert!(parse("x", "[source]\ninterface = \"eth1\"\nalso = [\"eth1:x\"]").is_err());
        assert!(parse("x", "[source]\ninterface = 7").is_err());
        assert!(parse("x", "[[feed]]\ngroup = \"233.54.12.111\"").is_err());
    }
}
