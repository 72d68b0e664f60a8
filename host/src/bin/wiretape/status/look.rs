//! One look at a segment: everything that status shows, read once.

use crate::segments::standing;
use serde_json::{Value, json};
use std::time::Instant;
use wiretape_core::book::BookError;
use wiretape_core::event::UNDEF_PRICE;
use wiretape_core::pipeline::Protocol;
use wiretape_core::segment::{
    Counter, ErrorGroup, FeedCounter, FeedGauge, FeedIdentity, FeedState, FeedView, LINES, Ledger,
    LineCounter, LineView, MarketEntry, Patience, QueueBlock, QueueIdentity, SessionState,
};
use wiretape_host::reader::segment::heartbeat_age_ns;
use wiretape_host::reader::{Liveness, Segment};

/// What rates are measured on.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    at: Instant,
    frames: u64,
    events: u64,
}

impl Totals {
    /// The totals of now.
    pub fn read(segment: &Segment) -> Option<Totals> {
        let counters = segment.view()?.counters();
        let (frames, events) = (counters.get(Counter::Frames), counters.get(Counter::Events));
        Some(Totals { at: Instant::now(), frames, events })
    }
}

/// A worker.
#[derive(Debug)]
pub struct Look {
    pub worker: String,
    pub path: String,
    pub source: String,
    pub standing: String,
    pub over: bool,
    pub epoch: u64,
    pub pid: u32,
    pub heartbeat_age_ns: u64,
    pub frames_per_s: f64,
    pub events_per_s: f64,
    pub head: u64,
    pub ring: u64,
    pub counters: Vec<(Counter, u64)>,
    pub ledger: Ledger,
    pub queues: Vec<QueueLook>,
    pub feeds: Vec<FeedLook>,
    pub market: MarketLook,
    pub latency_ns: Option<[u64; 4]>,
}

/// A queue that the worker receives from.
#[derive(Debug)]
pub struct QueueLook {
    pub identity: QueueIdentity,
    /// The counters that there are for a queue.
    pub counters: Vec<(Counter, u64)>,
    /// Packets seen, or redirected, and not accounted for.
    pub unaccounted: i64,
}

/// What is counted by queue.
const QUEUE_COUNTERS: [Counter; 17] = [
    Counter::XdpSeen,
    Counter::XdpPassed,
    Counter::XdpVlan,
    Counter::XdpMalformed,
    Counter::XdpFragments,
    Counter::XdpMatched,
    Counter::XdpNoSocket,
    Counter::XdpRedirected,
    Counter::Frames,
    Counter::FrameOversize,
    Counter::SocketDropped,
    Counter::SocketFillEmpty,
    Counter::SocketRingFull,
    Counter::SocketInvalid,
    Counter::NicStamped,
    Counter::NicUnstamped,
    Counter::NicRefused,
];

impl QueueLook {
    fn take(block: &QueueBlock<'_>) -> Option<QueueLook> {
        let counters = block.counters();
        let ledger = Ledger::read(&counters, true);
        let (seen, redirected) = (ledger.unaccounted_verdicts(), ledger.unaccounted_arrivals());
        Some(QueueLook {
            identity: block.identity()?,
            counters: QUEUE_COUNTERS.iter().map(|one| (*one, counters.get(*one))).collect(),
            unaccounted: if seen == 0 { redirected } else { seen },
        })
    }

    fn as_json(&self) -> Value {
        let counters =
            self.counters.iter().map(|(counter, value)| (counter.name().into(), (*value).into()));
        json!({
            "interface": self.identity.interface.as_str(), "queue": self.identity.queue,
            "closes": self.unaccounted == 0, "unaccounted": self.unaccounted,
            "counters": Value::Object(counters.collect()),
        })
    }

    /// The value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.iter().find(|(one, _)| *one == counter).map_or(0, |(_, value)| *value)
    }
}

/// A feed.
#[derive(Debug)]
pub struct FeedLook {
    pub identity: FeedIdentity,
    /// It was removed while the worker ran.
    pub removed: bool,
    pub session: SessionState,
    pub counters: Vec<(FeedCounter, u64)>,
    /// How full the books' memory is.
    pub gauges: Vec<(FeedGauge, u64)>,
    /// Line A, line B and recovery, those that there are.
    pub lines: Vec<LineLook>,
    /// Messages by type.
    pub types: Vec<(u8, u64)>,
    /// Why packets were malformed: cause and number.
    pub packet_causes: Vec<(&'static str, u64)>,
    /// Why the book refused messages: cause and number.
    pub book_causes: Vec<(&'static str, u64)>,
}

/// A line of a feed.
#[derive(Debug)]
pub struct LineLook {
    /// Where it comes from; port 0 for what re-request servers sent.
    pub address: ([u8; 4], u16),
    /// Its counters.
    pub counters: Vec<(LineCounter, u64)>,
    /// Messages that it did not bring.
    pub lost: u64,
    /// Lateness against the other line: number of packets, p50, p99 and the most, in nanoseconds.
    pub late_ns: Option<[u64; 4]>,
}

impl LineLook {
    fn take(line: LineView<'_>) -> Option<LineLook> {
        let late = line.lateness().filter(|late| late.count() > 0);
        Some(LineLook {
            address: line.address()?,
            counters: LineCounter::ALL.iter().map(|one| (*one, line.counter(*one))).collect(),
            lost: line.lost(),
            late_ns: late.map(|late| [late.count(), late.p50(), late.p99(), late.max()]),
        })
    }

    fn as_json(&self) -> Value {
        let counters =
            self.counters.iter().map(|(counter, value)| (counter.name().into(), (*value).into()));
        let (group, port) = self.address;
        let group = (port != 0).then(|| std::net::Ipv4Addr::from(group).to_string());
        let late = self.late_ns.map(|[packets, p50, p99, max]| {
            json!({ "packets": packets, "p50": p50, "p99": p99, "max": max })
        });
        json!({
            "group": group, "port": port, "lost": self.lost, "late_ns": late,
            "counters": Value::Object(counters.collect()),
        })
    }

    /// The value of a counter.
    pub fn counter(&self, counter: LineCounter) -> u64 {
        self.counters.iter().find(|(one, _)| *one == counter).map_or(0, |(_, value)| *value)
    }
}

/// The market table summed up.
#[derive(Debug, Default)]
pub struct MarketLook {
    pub announced: usize,
    pub quoted: usize,
    pub traded: usize,
    pub volume: u64,
    pub trades: u64,
    pub doubtful: usize,
    /// The busiest instruments.
    pub busiest: Vec<(String, MarketEntry)>,
}

/// Instruments that a look shows by name.
const BUSIEST: usize = 5;

impl Look {
    /// Looks at `segment`, with rates since `before`.
    pub fn take(segment: &Segment, before: Option<Totals>) -> Option<Look> {
        let view = segment.view()?;
        let (header, counters) = (view.header(), view.counters());
        let source = header.source().as_str().to_owned();
        let now = Totals::read(segment)?;
        let rate = |now_count: u64, before_count: u64, before: &Totals| {
            let seconds = now.at.duration_since(before.at).as_secs_f64();
            if seconds > 0.0 {
                now_count.saturating_sub(before_count) as f64 / seconds
            } else {
                0.0
            }
        };
        let live = source.starts_with("xdp") || counters.get(Counter::XdpSeen) > 0;
        let feeds = view.feeds().enumerate().map(|(index, feed)| FeedLook {
            lines: (0..LINES).filter_map(|line| LineLook::take(view.line(index, line)?)).collect(),
            identity: feed.identity(),
            removed: feed.state() == FeedState::Removed,
            session: feed.session().unwrap_or_default(),
            counters: FeedCounter::ALL.iter().map(|one| (*one, feed.counter(*one))).collect(),
            gauges: FeedGauge::ALL.iter().map(|one| (*one, feed.gauge(*one))).collect(),
            types: (0..=u8::MAX)
                .map(|kind| (kind, feed.messages_of_type(kind)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            packet_causes: causes(&feed, ErrorGroup::Packet, |cause| {
                let protocol = Protocol::from_name(feed.identity().protocol.as_str());
                protocol.map_or("other", |protocol| protocol.packet_error_name(cause))
            }),
            book_causes: causes(&feed, ErrorGroup::Book, |cause| {
                BookError::NAMES.get(cause).copied().unwrap_or("other")
            }),
        });
        let latency = view.latency().filter(|latency| latency.count() > 0);
        Some(Look {
            worker: header.worker().as_str().to_owned(),
            path: segment.path().display().to_string(),
            standing: standing(segment),
            over: !matches!(segment.liveness(), Liveness::Live),
            epoch: header.epoch(),
            pid: header.pid(),
            heartbeat_age_ns: heartbeat_age_ns(header.heartbeat_ns()),
            frames_per_s: before.map_or(0.0, |then| rate(now.frames, then.frames, &then)),
            events_per_s: before.map_or(0.0, |then| rate(now.events, then.events, &then)),
            head: view.events().head(),
            ring: view.events().capacity(),
            counters: Counter::ALL.iter().map(|one| (*one, counters.get(*one))).collect(),
            ledger: Ledger::read(&counters, live),
            queues: view.queues().filter_map(|block| QueueLook::take(&block)).collect(),
            feeds: feeds.collect(),
            market: MarketLook::take(segment),
            latency_ns: latency.map(|all| [all.p50(), all.p99(), all.p999(), all.max()]),
            source,
        })
    }

    /// Whether the worker has ended or died.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The value of a counter.
    pub fn counter(&self, wanted: Counter) -> u64 {
        self.counters.iter().find(|(counter, _)| *counter == wanted).map_or(0, |one| one.1)
    }

    /// Everything as JSON.
    pub fn as_json(&self) -> Value {
        let named = |rows: &[wiretape_core::segment::LedgerRow]| {
            let rows = rows.iter().map(|row| (row.counter.name().to_owned(), row.packets.into()));
            Value::Object(rows.collect())
        };
        let counters =
            self.counters.iter().map(|(counter, value)| (counter.name().into(), (*value).into()));
        json!({
            "worker": self.worker, "path": self.path, "source": self.source,
            "state": self.standing, "epoch": self.epoch, "pid": self.pid,
            "heartbeat_age_ns": self.heartbeat_age_ns, "frames_per_s": self.frames_per_s,
            "events_per_s": self.events_per_s, "sequence": self.head, "ring_slots": self.ring,
            "counters": Value::Object(counters.collect()),
            "ledger": {
                "closes": self.ledger.closes(), "seen": self.ledger.seen,
                "redirected": self.ledger.redirected, "verdicts": named(&self.ledger.verdicts),
                "arrivals": named(&self.ledger.arrivals), "outcomes": named(&self.ledger.outcomes),
                "unaccounted_verdicts": self.ledger.unaccounted_verdicts(),
                "unaccounted_arrivals": self.ledger.unaccounted_arrivals(),
                "unaccounted_outcomes": self.ledger.unaccounted_outcomes(),
                "lost": self.ledger.lost(),
            },
            "queues": self.queues.iter().map(QueueLook::as_json).collect::<Vec<_>>(),
            "feeds": self.feeds.iter().map(FeedLook::as_json).collect::<Vec<_>>(),
            "market": {
                "announced": self.market.announced, "quoted": self.market.quoted,
                "traded": self.market.traded, "volume": self.market.volume,
                "trades": self.market.trades, "doubtful": self.market.doubtful,
            },
            "latency_ns": self.latency_ns.map(|[p50, p99, p999, max]| {
                json!({ "p50": p50, "p99": p99, "p99.9": p999, "max": max })
            }),
        })
    }
}

impl FeedLook {
    /// The value of a counter.
    pub fn counter(&self, wanted: FeedCounter) -> u64 {
        self.counters.iter().find(|(counter, _)| *counter == wanted).map_or(0, |one| one.1)
    }

    /// The value of a gauge.
    pub fn gauge(&self, wanted: FeedGauge) -> u64 {
        self.gauges.iter().find(|(gauge, _)| *gauge == wanted).map_or(0, |one| one.1)
    }

    /// The session as text.
    pub fn session_name(&self) -> String {
        wiretape_host::ingest::symbol_text(&self.session.session)
    }

    fn as_json(&self) -> Value {
        let counters =
            self.counters.iter().map(|(counter, value)| (counter.name().into(), (*value).into()));
        let books = self.gauges.iter().map(|(gauge, value)| (gauge.name().into(), (*value).into()));
        let types = self.types.iter().map(|(kind, count)| (type_name(*kind), Value::from(*count)));
        let group = std::net::Ipv4Addr::from(self.identity.group);
        json!({
            "name": self.identity.name.as_str(), "protocol": self.identity.protocol.as_str(),
            "group": group.to_string(), "port": self.identity.port,
            "session": self.session_name(), "next_seq": self.session.next_seq,
            "removed": self.removed,
            "ended": self.session.ended, "maybe_bad_book": self.session.maybe_bad_book,
            "joining": self.session.joining, "books": Value::Object(books.collect()),
            "last_packet_ns": self.session.last_packet_ns,
            "counters": Value::Object(counters.collect()),
            "lines": self.lines.iter().map(LineLook::as_json).collect::<Vec<_>>(),
            "messages_by_type": Value::Object(types.collect()),
            "malformed_by_cause": by_cause(&self.packet_causes),
            "book_errors_by_cause": by_cause(&self.book_causes),
        })
    }
}

/// The causes of a group that occurred, by name.
fn causes(
    feed: &FeedView<'_>,
    group: ErrorGroup,
    name: impl Fn(usize) -> &'static str,
) -> Vec<(&'static str, u64)> {
    let counted = (0..ErrorGroup::CAUSES).map(|cause| (name(cause), feed.errors(group, cause)));
    counted.filter(|(_, count)| *count > 0).collect()
}

fn by_cause(causes: &[(&'static str, u64)]) -> Value {
    Value::Object(causes.iter().map(|(name, count)| ((*name).into(), (*count).into())).collect())
}

/// A message type's letter, or its number where it is none.
pub fn type_name(kind: u8) -> String {
    if kind.is_ascii_graphic() { char::from(kind).to_string() } else { format!("0x{kind:02x}") }
}

impl MarketLook {
    fn take(segment: &Segment) -> MarketLook {
        let mut look = MarketLook::default();
        let Some(view) = segment.view() else { return look };
        let mut patience = Patience::NEW;
        for (id, entry) in view.symbols().iter() {
            look.announced += 1;
            let market = view.market().read_patiently(id, &mut patience);
            let Ok(Some(market)) = market else { continue };
            look.quoted +=
                usize::from(market.bid_px != UNDEF_PRICE || market.ask_px != UNDEF_PRICE);
            look.traded += usize::from(market.trades > 0);
            look.doubtful += usize::from(market.health != 0);
            look.volume = look.volume.saturating_add(market.volume);
            look.trades = look.trades.saturating_add(market.trades);
            if market.event_seq > 0 {
                look.busiest.push((entry.symbol().to_owned(), market));
            }
        }
        look.busiest.sort_by_key(|(_, market)| std::cmp::Reverse((market.trades, market.orders)));
        look.busiest.truncate(BUSIEST);
        look
    }
}
