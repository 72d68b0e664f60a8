//! The configuration as written: optional values, each with its place, from the file or from the
//! command line.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::error::Origin;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub value: T,
    pub origin: Origin,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        let origin = Origin::File(spanned.span().start);
        Ok(Located { value: spanned.into_inner(), origin })
    }
}

type Value<T> = Option<Located<T>>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tables {
    pub worker: WorkerTable,
    pub source: Value<SourceTable>,
    pub feed: Vec<Located<FeedTable>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table: [worker]")]
pub(super) struct WorkerTable {
    pub name: Value<String>,
    pub core: Value<usize>,
    pub segment_dir: Value<PathBuf>,
    pub event_slots: Value<usize>,
    pub instruments: Value<usize>,
    pub feed_slots: Value<usize>,
    pub depth_slots: Value<usize>,
    pub snapshot_feeds: Value<bool>,
    pub idle: Value<String>,
    pub unlink_on_exit: Value<bool>,
    pub prefault: Value<bool>,
    pub wake_ms: Value<usize>,
    pub confine: Value<String>,
}

/// All keys of all kinds of source; which fit together is checked later, where lines are known.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table: [source]")]
pub(super) struct SourceTable {
    pub kind: Value<String>,
    pub interface: Value<String>,
    pub queue: Value<u32>,
    pub also: Value<Vec<String>>,
    pub pin_dir: Value<PathBuf>,
    pub mode: Value<String>,
    pub frames: Value<u32>,
    pub frame_size: Value<u32>,
    pub retain_frames: Value<u32>,
    pub huge_pages: Value<bool>,
    pub busy_poll_us: Value<usize>,
    pub busy_poll_budget: Value<usize>,
    pub receive_stamps: Value<String>,
    pub join: Value<bool>,
    pub path: Value<PathBuf>,
    pub speed: Value<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table: [[feed]]")]
pub(super) struct FeedTable {
    pub name: Value<String>,
    pub protocol: Value<String>,
    pub group: Value<String>,
    pub group_b: Value<String>,
    pub reorder_us: Value<usize>,
    pub reorder_packets: Value<usize>,
    pub recovery: Value<Vec<String>>,
    pub recovery_ms: Value<usize>,
    pub snapshot: Value<Vec<String>>,
    pub snapshot_login: Value<String>,
    pub snapshot_ms: Value<usize>,
    pub snapshot_hold_mib: Value<usize>,
    pub snapshot_after_loss: Value<bool>,
    pub instruments: Value<usize>,
    pub depth: Value<DepthNames>,
    pub max_orders: Value<usize>,
    pub max_levels: Value<usize>,
    pub publisher_id: Value<u16>,
    pub date: Value<DateText>,
    pub time_zone: Value<String>,
}

/// `"all"`, or a list of symbols.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "it is \"all\" or a list of symbols, such as [\"AAPL\", \"AMZN\"]")]
pub(super) enum DepthNames {
    Word(String),
    Symbols(Vec<String>),
}

/// A date, with or without quotes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "it is a date, such as 2012-06-21")]
pub(super) enum DateText {
    Text(String),
    Toml(toml::value::Datetime),
}

impl DateText {
    pub fn text(&self) -> String {
        match self {
            DateText::Text(text) => text.clone(),
            DateText::Toml(date) => date.to_string(),
        }
    }
}

/// What the command line sets; wins over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// `--name`
    pub name: Option<String>,
    /// `--core`
    pub core: Option<usize>,
    /// `--segment-dir`
    pub segment_dir: Option<PathBuf>,
    /// `--event-slots`
    pub event_slots: Option<usize>,
    /// `--instruments`
    pub instruments: Option<usize>,
    /// `--idle`
    pub idle: Option<String>,
    /// `--confine`
    pub confine: Option<String>,
    /// `--unlink-on-exit`
    pub unlink_on_exit: bool,
    /// `--pcap`: replaces the source.
    pub pcap: Option<PathBuf>,
    /// `--speed`
    pub speed: Option<String>,
    /// `--interface`: replaces the source, unless it is an XDP source already.
    pub interface: Option<String>,
    /// `--queue`
    pub queue: Option<u32>,
    /// `--mode`
    pub mode: Option<String>,
    /// `--pin-dir`
    pub pin_dir: Option<PathBuf>,
    /// `--feed PROTOCOL@GROUP:PORT[,GROUP:PORT]`: replaces the feeds.
    pub feeds: Vec<String>,
    /// `--date`: of all feeds that have none.
    pub date: Option<String>,
}

impl Overrides {
    pub(super) fn apply(&self, tables: &mut Tables) {
        let worker = &mut tables.worker;
        put(&mut worker.name, &self.name, "--name");
        put(&mut worker.core, &self.core, "--core");
        put(&mut worker.segment_dir, &self.segment_dir, "--segment-dir");
        put(&mut worker.event_slots, &self.event_slots, "--event-slots");
        put(&mut worker.instruments, &self.instruments, "--instruments");
        put(&mut worker.idle, &self.idle, "--idle");
        put(&mut worker.confine, &self.confine, "--confine");
        put(&mut worker.unlink_on_exit, &self.unlink_on_exit.then_some(true), "--unlink-on-exit");
        self.apply_source(tables);
        if !self.feeds.is_empty() {
            tables.feed = self.feeds.iter().map(|feed| feed_table(feed)).collect();
        }
        for feed in &mut tables.feed {
            if feed.value.date.is_none() {
                let date = self.date.clone().map(DateText::Text);
                put(&mut feed.value.date, &date, "--date");
            }
        }
    }

    fn apply_source(&self, tables: &mut Tables) {
        let flag = |kind: &str, flag| {
            let kind = Some(Located { value: kind.to_owned(), origin: Origin::Flag(flag) });
            let table = SourceTable { kind, ..SourceTable::default() };
            Some(Located { value: table, origin: Origin::Flag(flag) })
        };
        if self.pcap.is_some() {
            tables.source = flag("pcap", "--pcap");
        } else if self.interface.is_some() {
            let kind = |source: &Located<SourceTable>| source.value.kind.clone();
            let kind = tables.source.as_ref().and_then(kind);
            if kind.is_none_or(|kind| kind.value != "xdp") {
                tables.source = flag("xdp", "--interface");
            }
        }
        let any = [self.speed.is_some(), self.queue.is_some(), self.mode.is_some()];
        if tables.source.is_none() && !any.contains(&true) && self.pin_dir.is_none() {
            return;
        }
        let empty = Located { value: SourceTable::default(), origin: Origin::Absent };
        let source = &mut tables.source.get_or_insert(empty).value;
        put(&mut source.path, &self.pcap, "--pcap");
        put(&mut source.speed, &self.speed, "--speed");
        put(&mut source.interface, &self.interface, "--interface");
        put(&mut source.queue, &self.queue, "--queue");
        put(&mut source.mode, &self.mode, "--mode");
        put(&mut source.pin_dir, &self.pin_dir, "--pin-dir");
    }
}

fn put<T: Clone>(slot: &mut Value<T>, value: &Option<T>, flag: &'static str) {
    if let Some(value) = value.clone() {
        *slot = Some(Located { value, origin: Origin::Flag(flag) });
    }
}

/// `PROTOCOL@GROUP:PORT[,GROUP:PORT]`; a missing half is left out and reported when it is checked.
fn feed_table(text: &str) -> Located<FeedTable> {
    let mut table = FeedTable::default();
    let (protocol, groups) = match text.split_once('@') {
        Some((protocol, groups)) => (protocol, Some(groups)),
        None => (text, None),
    };
    let (group, group_b) = match groups.and_then(|groups| groups.split_once(',')) {
        Some((a, b)) => (Some(a.to_owned()), Some(b.to_owned())),
        None => (groups.map(str::to_owned), None),
    };
    put(&mut table.protocol, &Some(protocol.to_owned()), "--feed");
    put(&mut table.group, &group, "--feed");
    put(&mut table.group_b, &group_b, "--feed");
    Located { value: table, origin: Origin::Flag("--feed") }
}
