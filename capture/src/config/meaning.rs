//! From what was written to what it means: every rule about values, in one place.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use super::error::{ConfigError, Origin, Place, suggestion};
use super::servers::{check_recovery, check_snapshot};
use super::tables::{DepthNames, FeedTable, Located, SourceTable, Tables, WorkerTable};
use super::{
    Config, DepthChoice, FeedConfig, Idle, PcapConfig, Protocol, ReceiveStamps, SourceConfig,
    WorkerConfig, XdpConfig,
};
use crate::rights::Confinement;
use crate::source::pcap::Speed;
use crate::trading_days::Zones;
use crate::xsk::{BindMode, BusyPoll, Umem};
use wiretape_core::segment::{MAX_FEEDS, MAX_QUEUES};

/// Names are kept in 32 bytes of the segment, and stand in file names.
const NAME_MAX: usize = 31;
const EVENT_SLOTS: std::ops::RangeInclusive<usize> = 1 << 10..=1 << 30;
const WAKE_MS: std::ops::RangeInclusive<usize> = 0..=1_000;
const FEED_SLOTS: std::ops::RangeInclusive<usize> = 1..=MAX_FEEDS;
/// Instruments that a feed has room for where nobody says how many: those of any venue of today.
const VENUE_INSTRUMENTS: usize = 1 << 14;
const INSTRUMENTS: std::ops::RangeInclusive<usize> = 1..=1 << 24;
const DEPTH_SLOTS: std::ops::RangeInclusive<usize> = 0..=1 << 24;
const ORDERS: std::ops::RangeInclusive<usize> = 1..=1 << 28;

/// Packets that may wait: 16,384 of the longest take 150 MiB of address space.
const REORDER_PACKETS: std::ops::RangeInclusive<usize> = 0..=1 << 18;
/// Longer than lines of one venue differ, shorter than anyone waits.
const REORDER_US: usize = 1_000;
/// What comes a minute late comes no more.
const REORDER_US_RANGE: std::ops::RangeInclusive<usize> = 0..=60_000_000;
/// A worker that polls for longer takes no packet of another queue, and hears of no stop.
const BUSY_POLL_US: std::ops::RangeInclusive<usize> = 0..=1_000_000;
/// The kernel's.
const BUSY_POLL_BUDGET: std::ops::RangeInclusive<usize> = 1..=65_535;

/// A day whose times fit into the 63 bits of nanoseconds that readers have for them.
fn check_date(text: &str) -> Result<jiff::civil::Date, String> {
    let day: jiff::civil::Date =
        text.parse().map_err(|_| format!("'{text}' is no date, such as \"2012-06-21\""))?;
    match day.year() {
        1970..=2261 => Ok(day),
        _ => Err(format!("'{text}' lies outside the years 1970 to 2261")),
    }
}

/// `running` is the worker that a configuration is meant for which runs already.
pub(super) fn check(
    place: Place<'_>,
    tables: Tables,
    running: Option<&WorkerConfig>,
) -> Result<Config, ConfigError> {
    let feed_slots = match running {
        Some(running) => running.feed_slots,
        None => tables.feed.len().clamp(1, MAX_FEEDS),
    };
    let zones = if running.is_some() { Zones::Bundled } else { Zones::System };
    let mut worker = check_worker(place, &tables.worker, feed_slots)?;
    let Some(source) = &tables.source else {
        return Err(ConfigError::at(
            place,
            Origin::Absent,
            "there is no [source]: name a capture file (kind = \"pcap\", or --pcap FILE) or an \
             interface (kind = \"xdp\", or --interface NAME)",
        ));
    };
    let source = check_source(place, source)?;
    let mut feeds: Vec<FeedConfig> = Vec::new();
    for (index, table) in tables.feed.iter().enumerate() {
        let share = (worker.instruments / worker.feed_slots).max(1);
        let feed = check_feed(place, table, index, share, zones)?;
        let shares = |other: &FeedConfig| other.groups().any(|one| feed.groups().any(|b| b == one));
        let twin = feeds.iter().find(|other| shares(other) || other.name == feed.name);
        if let Some(twin) = twin {
            let what = if shares(twin) { "group and port" } else { "name" };
            let sentence = format!("feed '{}' has the {what} of '{}'", feed.name, twin.name);
            return Err(ConfigError::at(place, table.origin, sentence));
        }
        if feed.recovery.is_some() && matches!(source, SourceConfig::Pcap(_)) {
            let sentence =
                "a capture file is all there is: 'recovery' needs a source of kind \"xdp\"";
            return Err(ConfigError::at(place, origin(&table.value.recovery), sentence));
        }
        if feed.snapshot.is_some() && matches!(source, SourceConfig::Pcap(_)) {
            let sentence =
                "a capture file is all there is: 'snapshot' needs a source of kind \"xdp\"";
            return Err(ConfigError::at(place, origin(&table.value.snapshot), sentence));
        }
        feeds.push(feed);
    }
    // What is reserved for feeds to come; without a word about it, no more than these need.
    let depth_slots = match running {
        Some(running) => running.depth_slots,
        None => feeds.iter().map(FeedConfig::depths).sum(),
    };
    worker.depth_slots =
        within(place, &tables.worker.depth_slots, "depth_slots", depth_slots, &DEPTH_SLOTS)?;
    let snapshot_feeds = match running {
        Some(running) => running.snapshot_feeds,
        None => feeds.iter().any(|feed| feed.snapshot.is_some()),
    };
    worker.snapshot_feeds = value(&tables.worker.snapshot_feeds).unwrap_or(snapshot_feeds);
    check_feeds_together(place, &tables, &feeds, &worker)?;
    Ok(Config { worker, source, feeds })
}

fn check_feeds_together(
    place: Place<'_>,
    tables: &Tables,
    feeds: &[FeedConfig],
    worker: &WorkerConfig,
) -> Result<(), ConfigError> {
    if feeds.is_empty() {
        let sentence = "there is no feed: add a [[feed]] with protocol and group, or \
                        --feed PROTOCOL@GROUP:PORT";
        return Err(ConfigError::at(place, Origin::Absent, sentence));
    }
    let last = tables.feed.last().map_or(Origin::Absent, |feed| feed.origin);
    if feeds.len() > MAX_FEEDS {
        let sentence = format!("{} feeds are more than the {MAX_FEEDS} of a worker", feeds.len());
        return Err(ConfigError::at(place, last, sentence));
    }
    if feeds.len() > worker.feed_slots {
        let sentence = format!(
            "{} feeds are more than the worker has room for: raise feed_slots in [worker], which is \
             {}, and restart a capture that runs",
            feeds.len(),
            worker.feed_slots
        );
        return Err(ConfigError::at(place, last, sentence));
    }
    let wanted = feeds.iter().map(|feed| feed.instruments).sum::<usize>();
    if wanted > worker.instruments {
        let sentence = format!(
            "the feeds want {wanted} instruments together, the worker has {}: raise \
             [worker] instruments or lower those of the feeds",
            worker.instruments
        );
        return Err(ConfigError::at(place, last, sentence));
    }
    let wanted = feeds.iter().map(FeedConfig::depths).sum::<usize>();
    if wanted > worker.depth_slots {
        let sentence = format!(
            "the feeds want depth of {wanted} instruments together, the worker has room for {}: raise \
             depth_slots in [worker], and restart a capture that runs",
            worker.depth_slots
        );
        return Err(ConfigError::at(place, last, sentence));
    }
    let with_servers = tables.feed.iter().zip(feeds).find(|(_, feed)| feed.snapshot.is_some());
    if let (false, Some((table, feed))) = (worker.snapshot_feeds, with_servers) {
        let sentence = format!(
            "feed '{}' has snapshot servers, but snapshot_feeds in [worker] is false and the worker \
             has no right to connect: set it to true, and restart a capture that runs",
            feed.name
        );
        return Err(ConfigError::at(place, origin(&table.value.snapshot), sentence));
    }
    Ok(())
}

fn check_worker(
    place: Place<'_>,
    table: &WorkerTable,
    feed_slots: usize,
) -> Result<WorkerConfig, ConfigError> {
    let event_slots = within(place, &table.event_slots, "event_slots", 1 << 20, &EVENT_SLOTS)?;
    if !event_slots.is_power_of_two() {
        let origin = origin(&table.event_slots);
        let sentence = format!(
            "event_slots must be a power of two, {event_slots} is none; {} is the next",
            event_slots.next_power_of_two()
        );
        return Err(ConfigError::at(place, origin, sentence));
    }
    let idles = [(Idle::Spin, "spin"), (Idle::Yield, "yield"), (Idle::Park, "park")];
    let confinements = [
        (Confinement::Full, "full"),
        (Confinement::Capabilities, "capabilities"),
        (Confinement::None, "none"),
    ];
    let feed_slots = within(place, &table.feed_slots, "feed_slots", feed_slots, &FEED_SLOTS)?;
    let whole_venues = feed_slots * VENUE_INSTRUMENTS;
    Ok(WorkerConfig {
        name: check_name(place, &table.name, "name", || "capture".to_owned())?,
        core: table.core.as_ref().map(|core| core.value),
        segment_dir: folder(place, &table.segment_dir, "segment_dir", "/dev/shm/wiretape")?,
        event_slots,
        instruments: within(place, &table.instruments, "instruments", whole_venues, &INSTRUMENTS)?,
        feed_slots,
        // Once the feeds are known.
        depth_slots: 0,
        snapshot_feeds: false,
        idle: one_of(place, &table.idle, "idle", &idles)?.unwrap_or_default(),
        unlink_on_exit: value(&table.unlink_on_exit).unwrap_or(false),
        prefault: value(&table.prefault).unwrap_or(true),
        wake_ms: within(place, &table.wake_ms, "wake_ms", 1, &WAKE_MS)? as u64,
        confine: one_of(place, &table.confine, "confine", &confinements)?.unwrap_or_default(),
    })
}

fn check_source(
    place: Place<'_>,
    source: &Located<SourceTable>,
) -> Result<SourceConfig, ConfigError> {
    let table = &source.value;
    let kinds = [("xdp", "xdp"), ("pcap", "pcap")];
    let Some(kind) = one_of(place, &table.kind, "kind", &kinds)? else {
        let sentence = "the source has no kind: kind = \"xdp\" or \"pcap\"";
        return Err(ConfigError::at(place, source.origin, sentence));
    };
    let foreign = match kind {
        "pcap" => origins_of_xdp_keys(table),
        _ => vec![("path", origin_of(&table.path)), ("speed", origin_of(&table.speed))],
    };
    if let Some((key, Some(origin))) = foreign.into_iter().find(|(_, origin)| origin.is_some()) {
        let sentence = format!("'{key}' does not belong to a source of kind \"{kind}\"");
        return Err(ConfigError::at(place, origin, sentence));
    }
    match kind {
        "pcap" => {
            let path = required(place, source, &table.path, "path", "the capture file")?;
            let speeds = [(Speed::Unlimited, "unlimited"), (Speed::Recorded, "recorded")];
            let speed = one_of(place, &table.speed, "speed", &speeds)?.unwrap_or_default();
            Ok(SourceConfig::Pcap(PcapConfig { path, speed }))
        }
        _ => check_xdp(place, source),
    }
}

fn origins_of_xdp_keys(table: &SourceTable) -> Vec<(&'static str, Option<Origin>)> {
    vec![
        ("interface", origin_of(&table.interface)),
        ("queue", origin_of(&table.queue)),
        ("also", origin_of(&table.also)),
        ("pin_dir", origin_of(&table.pin_dir)),
        ("mode", origin_of(&table.mode)),
        ("frames", origin_of(&table.frames)),
        ("frame_size", origin_of(&table.frame_size)),
        ("retain_frames", origin_of(&table.retain_frames)),
        ("huge_pages", origin_of(&table.huge_pages)),
        ("busy_poll_us", origin_of(&table.busy_poll_us)),
        ("busy_poll_budget", origin_of(&table.busy_poll_budget)),
        ("receive_stamps", origin_of(&table.receive_stamps)),
        ("join", origin_of(&table.join)),
    ]
}

fn check_xdp(place: Place<'_>, source: &Located<SourceTable>) -> Result<SourceConfig, ConfigError> {
    let table = &source.value;
    let modes =
        [(BindMode::Auto, "auto"), (BindMode::ZeroCopy, "zero-copy"), (BindMode::Copy, "copy")];
    let stamps = [(ReceiveStamps::Host, "host"), (ReceiveStamps::Nic, "nic")];
    let frames = value(&table.frames).unwrap_or(8192);
    if !frames.is_power_of_two() || !(64..=Umem::FRAMES_MAX).contains(&frames) {
        let max = Umem::FRAMES_MAX;
        let sentence = format!("frames must be a power of two from 64 to {max}, not {frames}");
        return Err(ConfigError::at(place, origin(&table.frames), sentence));
    }
    let frame_size = value(&table.frame_size).unwrap_or(2048);
    if !matches!(frame_size, 2048 | 4096) {
        let sentence = format!("frame_size must be 2048 or 4096, not {frame_size}");
        return Err(ConfigError::at(place, origin(&table.frame_size), sentence));
    }
    let retain_frames = value(&table.retain_frames).unwrap_or(0);
    if retain_frames > frames / 2 {
        let sentence = format!(
            "retain_frames must be at most half of frames ({frames}), not {retain_frames}: the \
             other half is for packets that arrive meanwhile"
        );
        return Err(ConfigError::at(place, origin(&table.retain_frames), sentence));
    }
    if let (true, Some(Located { value: true, origin })) = (retain_frames > 0, &table.huge_pages) {
        let sentence = "huge_pages = true has no effect with retain_frames: frames that recorders \
                        read lie in a file of ordinary pages; leave one of the two out";
        return Err(ConfigError::at(place, *origin, sentence));
    }
    if let (None, Some(budget)) = (&table.busy_poll_us, &table.busy_poll_budget) {
        let sentence = "'busy_poll_budget' is about busy polling, which 'busy_poll_us' turns on";
        return Err(ConfigError::at(place, budget.origin, sentence));
    }
    let timeout_us = within(place, &table.busy_poll_us, "busy_poll_us", 0, &BUSY_POLL_US)? as u32;
    let budget = &table.busy_poll_budget;
    let budget = within(place, budget, "busy_poll_budget", 64, &BUSY_POLL_BUDGET)? as u32;
    let busy_poll = (timeout_us > 0).then_some(BusyPoll { timeout_us, budget });
    let interface: String =
        required(place, source, &table.interface, "interface", "a network interface")?;
    check_interface(place, origin(&table.interface), &interface)?;
    let queue = value(&table.queue).unwrap_or(0);
    let also = check_also(place, table, (&interface, queue))?;
    Ok(SourceConfig::Xdp(XdpConfig {
        interface,
        queue,
        also,
        pin_dir: folder(place, &table.pin_dir, "pin_dir", "/sys/fs/bpf/wiretape")?,
        mode: one_of(place, &table.mode, "mode", &modes)?.unwrap_or_default(),
        frames,
        frame_size,
        retain_frames,
        huge_pages: value(&table.huge_pages).unwrap_or(true),
        busy_poll,
        receive_stamps: one_of(place, &table.receive_stamps, "receive_stamps", &stamps)?
            .unwrap_or_default(),
        join: value(&table.join).unwrap_or(true),
    }))
}

/// Whether an interface can be called so, there or not yet there.
fn check_interface(place: Place<'_>, origin: Origin, name: &str) -> Result<(), ConfigError> {
    let is_strange = |c: char| c == '/' || c.is_whitespace();
    if (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(is_strange) {
        return Ok(());
    }
    let sentence = format!(
        "no interface can be called '{name}': names have 1 to 15 characters, no '/' and no space"
    );
    Err(ConfigError::at(place, origin, sentence))
}

/// Further queues, written `INTERFACE` (its queue 0) or `INTERFACE:QUEUE`.
fn check_also(
    place: Place<'_>,
    table: &SourceTable,
    first: (&str, u32),
) -> Result<Vec<(String, u32)>, ConfigError> {
    let Some(also) = &table.also else { return Ok(Vec::new()) };
    let wrong = |sentence: String| Err(ConfigError::at(place, also.origin, sentence));
    let mut queues: Vec<(String, u32)> = Vec::new();
    for text in &also.value {
        // An interface may have a colon in its name, an alias of old.
        let (interface, queue) = match text.rsplit_once(':') {
            Some((interface, queue)) => (interface, queue.parse().ok()),
            None => (text.as_str(), Some(0)),
        };
        let (false, Some(queue)) = (interface.is_empty(), queue) else {
            return wrong(format!(
                "'{text}' is no queue: also is a list such as [\"eth2\", \"eth1:3\"], of interfaces \
                 (their queue 0) or INTERFACE:QUEUE"
            ));
        };
        check_interface(place, also.origin, interface)?;
        let here = (interface, queue);
        if here == first || queues.iter().any(|(other, number)| (other.as_str(), *number) == here) {
            return wrong(format!("queue {queue} of {interface} is named twice"));
        }
        queues.push((interface.to_owned(), queue));
    }
    if queues.len() >= MAX_QUEUES {
        let sentence =
            format!("{} queues are more than the {MAX_QUEUES} of a worker", queues.len() + 1);
        return wrong(sentence);
    }
    Ok(queues)
}

fn check_feed(
    place: Place<'_>,
    feed: &Located<FeedTable>,
    index: usize,
    share: usize,
    zones: Zones,
) -> Result<FeedConfig, ConfigError> {
    let table = &feed.value;
    let protocols = Protocol::ALL.map(|protocol| (protocol, protocol.name()));
    // The name of its format alone will do, as it does for other commands.
    let by_format = value(&table.protocol).and_then(|name| Protocol::from_name(&name));
    let by_name = match by_format {
        None => one_of(place, &table.protocol, "protocol", &protocols)?,
        known => known,
    };
    let Some(protocol) = by_name else {
        let names = protocols.map(|(_, name)| name).join(", ");
        let sentence = format!("the feed has no protocol; there are: {names}");
        return Err(ConfigError::at(place, feed.origin, sentence));
    };
    let example = "the address and port of its multicast, such as \"233.54.12.111:26477\"";
    let text: String = required(place, feed, &table.group, "group", example)?;
    let group = address(place, origin(&table.group), "group", &text, example)?;
    let group_b = match &table.group_b {
        Some(b) => Some(address(place, b.origin, "group_b", &b.value, example)?),
        None => None,
    };
    if group_b == Some(group) {
        let sentence = format!("line B is line A: both are {group}");
        return Err(ConfigError::at(place, origin(&table.group_b), sentence));
    }
    let recovery = check_recovery(place, table, protocol)?;
    let snapshot = check_snapshot(place, table, protocol)?;
    let zone = value(&table.time_zone).unwrap_or_else(|| "America/New_York".to_owned());
    if zones.get(&zone).is_none() {
        let sentence = format!("'{zone}' is no IANA time zone, such as \"America/New_York\"");
        return Err(ConfigError::at(place, origin(&table.time_zone), sentence));
    }
    let date = match &table.date {
        None => None,
        Some(date) => {
            let day = check_date(&date.value.text());
            Some(day.map_err(|sentence| ConfigError::at(place, date.origin, sentence))?)
        }
    };
    let reorder_us = within(place, &table.reorder_us, "reorder_us", REORDER_US, &REORDER_US_RANGE)?;
    Ok(FeedConfig {
        name: check_name(place, &table.name, "name", || format!("feed{index}"))?,
        protocol,
        group,
        group_b,
        reorder: Duration::from_micros(reorder_us as u64),
        reorder_packets: within(
            place,
            &table.reorder_packets,
            "reorder_packets",
            if recovery.is_some() { 16_384 } else { 1024 },
            &REORDER_PACKETS,
        )?,
        recovery,
        snapshot,
        instruments: within(place, &table.instruments, "instruments", share, &INSTRUMENTS)?,
        depth: check_depth(place, table)?,
        max_orders: within(place, &table.max_orders, "max_orders", 1 << 21, &ORDERS)?,
        max_levels: within(place, &table.max_levels, "max_levels", 1 << 19, &ORDERS)?,
        publisher_id: value(&table.publisher_id).unwrap_or(protocol.publisher_id()),
        date,
        time_zone: zone,
    })
}

pub(super) fn address(
    place: Place<'_>,
    origin: Origin,
    key: &str,
    text: &str,
    example: &str,
) -> Result<SocketAddrV4, ConfigError> {
    let address: SocketAddrV4 = text.parse().map_err(|_| {
        let sentence = format!("'{text}' is no IPv4 address and port: {key} is {example}");
        ConfigError::at(place, origin, sentence)
    })?;
    if address.port() == 0 || address.ip().is_unspecified() {
        let sentence = format!("'{text}' is nowhere: {key} is {example}");
        return Err(ConfigError::at(place, origin, sentence));
    }
    Ok(address)
}

fn check_depth(place: Place<'_>, table: &FeedTable) -> Result<Option<DepthChoice>, ConfigError> {
    let Some(depth) = &table.depth else { return Ok(None) };
    let wrong = |sentence: String| ConfigError::at(place, depth.origin, sentence);
    let names = match &depth.value {
        DepthNames::Word(word) if word == "all" => return Ok(Some(DepthChoice::All)),
        DepthNames::Word(word) => {
            let sentence = format!("depth is \"all\" or a list of symbols, not '{word}'");
            return Err(wrong(sentence));
        }
        DepthNames::Symbols(names) => names,
    };
    let mut symbols = heapless::Vec::new();
    for name in names {
        let mut symbol = *b"        ";
        let fits = name.len() <= symbol.len() && !name.is_empty();
        if !fits || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(format!("'{name}' is no symbol: one to eight letters")));
        }
        symbol[..name.len()].copy_from_slice(name.as_bytes());
        // One that is named again has its place already.
        if symbols.contains(&symbol) {
            continue;
        }
        if symbols.push(symbol).is_err() {
            let (most, many) = (symbols.capacity(), names.len());
            let sentence =
                format!("at most {most} symbols can be listed, not {many}; \"all\" takes all");
            return Err(wrong(sentence));
        }
    }
    Ok((!symbols.is_empty()).then_some(DepthChoice::Symbols(symbols)))
}

fn check_name(
    place: Place<'_>,
    name: &Option<Located<String>>,
    key: &str,
    default: impl Fn() -> String,
) -> Result<String, ConfigError> {
    let Some(Located { value, origin }) = name else { return Ok(default()) };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=NAME_MAX).contains(&value.len());
    if fits && value.chars().all(allowed) && !value.starts_with('.') {
        return Ok(value.clone());
    }
    let sentence = format!(
        "{key} '{value}' must be 1 to {NAME_MAX} letters, digits, '-', '_' or '.', and not begin \
         with '.'"
    );
    Err(ConfigError::at(place, *origin, sentence))
}

pub(super) fn value<T: Clone>(from: &Option<Located<T>>) -> Option<T> {
    from.as_ref().map(|located| located.value.clone())
}

pub(super) fn origin_of<T>(from: &Option<Located<T>>) -> Option<Origin> {
    from.as_ref().map(|located| located.origin)
}

fn origin<T>(from: &Option<Located<T>>) -> Origin {
    origin_of(from).unwrap_or(Origin::Absent)
}

fn required<T: Clone, U>(
    place: Place<'_>,
    table: &Located<U>,
    from: &Option<Located<T>>,
    key: &str,
    what: &str,
) -> Result<T, ConfigError> {
    value(from).ok_or_else(|| {
        ConfigError::at(place, table.origin, format!("'{key}' is missing here: {what}"))
    })
}

/// A folder with a name: without one, files would lie wherever the capture was started.
fn folder(
    place: Place<'_>,
    from: &Option<Located<PathBuf>>,
    key: &str,
    default: &str,
) -> Result<PathBuf, ConfigError> {
    match from {
        Some(Located { value, origin }) if value.as_os_str().is_empty() => {
            let sentence = format!("{key} is empty: it is a folder, such as \"{default}\"");
            Err(ConfigError::at(place, *origin, sentence))
        }
        _ => Ok(value(from).unwrap_or_else(|| PathBuf::from(default))),
    }
}

pub(super) fn within(
    place: Place<'_>,
    from: &Option<Located<usize>>,
    key: &str,
    default: usize,
    range: &std::ops::RangeInclusive<usize>,
) -> Result<usize, ConfigError> {
    match from {
        Some(Located { value, origin }) if !range.contains(value) => {
            let (min, max) = (range.start(), range.end());
            let sentence = format!("{key} must be from {min} to {max}, not {value}");
            Err(ConfigError::at(place, *origin, sentence))
        }
        _ => Ok(value(from).unwrap_or(default)),
    }
}

fn one_of<T: Copy>(
    place: Place<'_>,
    from: &Option<Located<String>>,
    key: &str,
    choices: &[(T, &str)],
) -> Result<Option<T>, ConfigError> {
    let Some(Located { value, origin }) = from else { return Ok(None) };
    match choices.iter().find(|(_, name)| name == value) {
        Some((choice, _)) => Ok(Some(*choice)),
        None => {
            let names: Vec<&str> = choices.iter().map(|(_, name)| *name).collect();
            let advice = suggestion(value, &names);
            let sentence = format!("there is no {key} '{value}'; {advice}");
            Err(ConfigError::at(place, *origin, sentence))
        }
    }
}
