//! The configuration: a TOML file, command-line flags over it, and one place that checks both.
//!
//! Two steps: [`tables`] is what was written, each value with the place it came from;
//! [`Config`] is what it means, complete and consistent. A mistake is reported with file, line
//! and key (or the flag), what is wrong and what would do.

mod changes;
mod error;
mod meaning;
mod servers;
mod tables;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use changes::{ChangeError, FeedChanges};
pub use error::ConfigError;
pub use tables::Overrides;

pub use wiretape_core::feed::depth::DepthChoice;
pub use wiretape_core::pipeline::Protocol;

use crate::rights::Confinement;
use crate::source::pcap::Speed;
use crate::xsk::{BindMode, BusyPoll};

/// Bytes of the longest configuration: many times what all that can be said takes.
const LONGEST: u64 = 1 << 20;

/// A complete configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The worker and its segment.
    pub worker: WorkerConfig,
    /// Where frames come from.
    pub source: SourceConfig,
    /// What to decode, in the order of the feeds' indices.
    pub feeds: Vec<FeedConfig>,
}

/// The worker and its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Name of the worker; the segment's file is `<name>.seg`.
    pub name: String,
    /// Processor to pin the worker to.
    pub core: Option<usize>,
    /// Directory of the segment, on a memory file system.
    pub segment_dir: PathBuf,
    /// Slots of the event ring (64 bytes each), a power of two.
    pub event_slots: usize,
    /// Instruments that the segment has room for.
    pub instruments: usize,
    /// Feeds that the segment has room for, those included that come while the worker runs.
    pub feed_slots: usize,
    /// Instruments that the segment has room for depth of, those of feeds included that come while the
    /// worker runs.
    pub depth_slots: usize,
    /// Whether feeds with snapshot servers are there, or may come while the worker runs.
    pub snapshot_feeds: bool,
    /// What to do while nothing comes.
    pub idle: Idle,
    /// Remove the segment's file at a clean end.
    pub unlink_on_exit: bool,
    /// Touch the books' memory before the first packet (live sources).
    pub prefault: bool,
    /// How late, in milliseconds, a reader that sleeps may be woken; 0: none is.
    pub wake_ms: u64,
    /// What the process gives up once everything is open.
    pub confine: Confinement,
}

/// What the worker does while nothing comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Look again at once: lowest latency, one core fully busy.
    #[default]
    Spin,
    /// Let other threads of the core run in between.
    Yield,
    /// Sleep until the kernel reports a frame, after a short spin.
    Park,
}

/// Where frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// An AF_XDP socket.
    Xdp(XdpConfig),
    /// A capture file.
    Pcap(PcapConfig),
}

/// AF_XDP sockets, one a queue, fed by the XDP programs of `wiretape-xdp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpConfig {
    /// Interface.
    pub interface: String,
    /// Receive queue.
    pub queue: u32,
    /// Further queues of the same worker, each with a socket and packet memory of its own.
    pub also: Vec<(String, u32)>,
    /// Directory of the pins; those of an interface are in a directory of its name therein.
    pub pin_dir: PathBuf,
    /// Zero-copy or not.
    pub mode: BindMode,
    /// Frames of the UMEM, a power of two; the RX ring has half as many entries.
    pub frames: u32,
    /// Bytes of a frame: 2048 or 4096.
    pub frame_size: u32,
    /// How many of the latest frames recorders find; 0 shares none.
    pub retain_frames: u32,
    /// Whether to try huge pages for the UMEM.
    pub huge_pages: bool,
    /// Preferred busy polling.
    pub busy_poll: Option<BusyPoll>,
    /// Where receive times come from.
    pub receive_stamps: ReceiveStamps,
    /// Whether to join the feeds' multicast groups on the interface.
    pub join: bool,
}

/// Where receive times come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReceiveStamps {
    /// The system clock, read once for a batch of packets.
    #[default]
    Host,
    /// The NIC, for each packet; the system clock where it has no time.
    Nic,
}

impl XdpConfig {
    /// All its queues, each an interface and a number.
    pub fn queues(&self) -> impl Iterator<Item = (&str, u32)> {
        let also = self.also.iter().map(|(interface, queue)| (interface.as_str(), *queue));
        std::iter::once((self.interface.as_str(), self.queue)).chain(also)
    }

    /// Directory of the pins of an interface. The bpf file system takes no dot in a name, so
    /// that of a VLAN interface is written as a colon (see `steer.h` of xdp-prog).
    pub fn pins(&self, interface: &str) -> PathBuf {
        self.pin_dir.join(interface.replace('.', ":"))
    }
}

/// A capture file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcapConfig {
    /// The file: pcap or pcapng, plain, gzip or zstd.
    pub path: PathBuf,
    /// How fast it is played.
    pub speed: Speed,
}

/// One feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedConfig {
    /// Its name in status and metrics.
    pub name: String,
    /// What its datagrams hold.
    pub protocol: Protocol,
    /// Multicast group (or unicast address) and UDP port.
    pub group: SocketAddrV4,
    /// The same of line B, if there are two.
    pub group_b: Option<SocketAddrV4>,
    /// How long messages that are missing may still come by themselves.
    pub reorder: Duration,
    /// Packets that can wait for them; 0 gives what is missing up at once.
    pub reorder_packets: usize,
    /// Where to ask for what came on no line.
    pub recovery: Option<RecoveryConfig>,
    /// Where to fetch a snapshot from for joining in the middle of the day.
    pub snapshot: Option<SnapshotConfig>,
    /// Instruments that it may use of the segment's.
    pub instruments: usize,
    /// Instruments with ten levels of depth and features.
    pub depth: Option<DepthChoice>,
    /// Orders that can live at once (order feeds).
    pub max_orders: usize,
    /// Price levels that can live at once.
    pub max_levels: usize,
    /// DBN publisher id of its records.
    pub publisher_id: u16,
    /// The exchange's trading date, where the time of receipt does not tell it.
    pub date: Option<jiff::civil::Date>,
    /// The exchange's time zone, an IANA name.
    pub time_zone: String,
}

/// MoldUDP64 re-request servers of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// Their addresses, in the order in which they are tried.
    pub servers: Vec<SocketAddrV4>,
    /// How long their answers may take before what is missing is given up.
    pub patience: Duration,
}

/// GLIMPSE servers of a feed.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Their addresses, in the order in which they are tried.
    pub servers: Vec<SocketAddrV4>,
    /// User and password.
    pub login: Option<(String, String)>,
    /// How long the feed waits for a snapshot before it goes on without.
    pub patience: Duration,
    /// Memory for the packets that wait meanwhile, in bytes.
    pub hold_bytes: usize,
    /// Whether a snapshot is fetched too when messages were lost.
    pub after_loss: bool,
}

impl std::fmt::Debug for SnapshotConfig {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotConfig")
            .field("servers", &self.servers)
            .field("user", &self.login.as_ref().map(|login| &login.0))
            .field("patience", &self.patience)
            .field("hold_bytes", &self.hold_bytes)
            .field("after_loss", &self.after_loss)
            .finish()
    }
}

impl FeedConfig {
    /// Places that its instruments need in the segment's table of depth.
    pub fn depths(&self) -> usize {
        match &self.depth {
            None => 0,
            Some(DepthChoice::All) => self.instruments,
            Some(DepthChoice::Symbols(symbols)) => symbols.len(),
        }
    }

    /// How many groups a feed can have.
    pub const MOST_GROUPS: usize = 2;

    /// The groups of the feed's lines.
    pub fn groups(&self) -> impl Iterator<Item = SocketAddrV4> {
        [Some(self.group), self.group_b].into_iter().flatten()
    }
}

impl Config {
    /// Reads `file`, if one is given, puts `overrides` over it, and checks the result.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config, ConfigError> {
        ConfigText::read(file, overrides)?.check()
    }

    /// As [`load`](Config::load), from text; `name` stands in messages.
    pub fn parse(name: &str, text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
        parse(name, text, overrides, None)
    }
}

/// A configuration as it was written, and the flags over it. It can be sent to a capture that runs,
/// which checks it by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigText {
    name: String,
    text: String,
    flags: Overrides,
}

impl ConfigText {
    /// Reads `file`, if one is given.
    pub fn read(file: Option<&Path>, flags: &Overrides) -> Result<ConfigText, ConfigError> {
        let (name, text) = match file {
            Some(path) => {
                let name = path.display().to_string();
                let text = read(path).map_err(|source| ConfigError::unreadable(&name, &source))?;
                (name, text)
            }
            None => ("the command line".to_owned(), String::new()),
        };
        Ok(ConfigText { name, text, flags: flags.clone() })
    }

    /// What it means.
    pub fn check(&self) -> Result<Config, ConfigError> {
        parse(&self.name, &self.text, &self.flags, None)
    }

    /// What it means to a worker that runs: what is not written about how it is laid out stays as
    /// it is. Reads no file.
    pub fn check_beside(&self, running: &WorkerConfig) -> Result<Config, ConfigError> {
        parse(&self.name, &self.text, &self.flags, Some(running))
    }
}

/// The text of a file, unless it has no end, as a device that was named by mistake.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > LONGEST {
        true => Err(io::Error::other(format!("it is longer than {} KiB", LONGEST >> 10))),
        false => Ok(text),
    }
}

fn parse(
    name: &str,
    text: &str,
    overrides: &Overrides,
    running: Option<&WorkerConfig>,
) -> Result<Config, ConfigError> {
    let place = error::Place { name, text };
    let mut tables = toml::from_str(text).map_err(|error| ConfigError::from_toml(place, &error))?;
    overrides.apply(&mut tables);
    meaning::check(place, tables, running)
}

#[cfg(test)]
mod tests;
