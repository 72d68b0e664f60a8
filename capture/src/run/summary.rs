//! What a run took in and what became of it.

use std::fmt;
use std::path::{Path, PathBuf};

use wiretape_core::pipeline::Protocol;
use wiretape_core::segment::{Counter, ErrorGroup, FeedCounter, FeedState, Ledger, SegmentWriter};

use crate::source::pcap::{CutRecord, Foreign, Reader};

/// A finished run in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Epoch of the run.
    pub epoch: u64,
    /// The segment's file.
    pub segment: PathBuf,
    /// Frames taken from the source.
    pub frames: u64,
    /// Events published.
    pub events: u64,
    /// Events of a capture file that the ring, which has the latest, holds no more.
    pub overwritten: u64,
    /// Datagrams to groups of no feed.
    pub other_groups: u64,
    /// The feeds.
    pub feeds: Vec<FeedSummary>,
    /// Where packets went.
    pub ledger: Ledger,
    /// The record inside which a capture file ended.
    pub cut: Option<CutRecord>,
    /// Packets of a capture file that a snap length had shortened.
    pub snapped: u64,
    /// Packets of a file without a time that can be read.
    pub untimed: u64,
    /// Packets of a capture file whose link layer is not decoded.
    pub foreign: Option<Foreign>,
    /// Packets of steered groups on queues of the interfaces that nobody served.
    pub unserved: u64,
    /// Messages of instruments beyond those that the segment, or their feed, has room for.
    pub beyond_instruments: u64,
}

/// One feed in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedSummary {
    /// Its name.
    pub name: String,
    /// Datagrams.
    pub packets: u64,
    /// Of those, malformed.
    pub malformed: u64,
    /// Why they were, with how many; only those that there were.
    pub malformed_causes: Vec<(&'static str, u64)>,
    /// Messages taken.
    pub messages: u64,
    /// Ranges lost.
    pub gaps: u64,
    /// Messages in those ranges.
    pub lost_messages: u64,
    /// Restarts of the session under its own id.
    pub restarts: u64,
    /// Events published.
    pub events: u64,
    /// Messages that gave nothing, or not all that they should, by cause; only those that there
    /// were.
    pub unused: Vec<(FeedCounter, u64)>,
}

/// What is told of a feed where there was any. Duplicates among it: a second line brings them, and so
/// does a session that goes on under an id whose numbers came before, of which all is left out.
const UNUSED: [FeedCounter; 6] = [
    FeedCounter::JoinedLateMessages,
    FeedCounter::DuplicateMessages,
    FeedCounter::UnknownMessages,
    FeedCounter::BadMessages,
    FeedCounter::BookErrors,
    FeedCounter::StaleMessages,
];

impl Summary {
    pub(super) fn read(
        segment: &SegmentWriter<'_>,
        path: &Path,
        live: bool,
        file: Option<&Reader>,
    ) -> Summary {
        let counters = segment.counters();
        let feed = |index| {
            let view = segment.feed(index)?.view();
            let identity = view.identity();
            let protocol = Protocol::from_name(identity.protocol.as_str());
            (view.state() != FeedState::Unused).then(|| FeedSummary {
                name: identity.name.as_str().to_owned(),
                packets: view.counter(FeedCounter::Packets),
                malformed: view.counter(FeedCounter::MalformedPackets),
                malformed_causes: (0..ErrorGroup::CAUSES)
                    .map(|cause| (cause, view.errors(ErrorGroup::Packet, cause)))
                    .filter(|(_, packets)| *packets > 0)
                    .map(|(cause, packets)| {
                        let name = protocol.map(|protocol| protocol.packet_error_name(cause));
                        (name.unwrap_or("other"), packets)
                    })
                    .collect(),
                messages: view.counter(FeedCounter::Messages),
                gaps: view.counter(FeedCounter::Gaps),
                lost_messages: view.counter(FeedCounter::LostMessages),
                restarts: view.counter(FeedCounter::Restarts),
                events: view.counter(FeedCounter::Events),
                unused: UNUSED
                    .map(|counter| (counter, view.counter(counter)))
                    .into_iter()
                    .filter(|(_, messages)| *messages > 0)
                    .collect(),
            })
        };
        Summary {
            epoch: segment.header().epoch(),
            segment: path.to_owned(),
            frames: counters.get(Counter::Frames),
            events: counters.get(Counter::Events),
            // Live readers follow; whoever looks at what a file gave mostly comes when it is over.
            overwritten: file.map_or(0, |_| {
                counters.get(Counter::Events).saturating_sub(segment.ring().capacity())
            }),
            other_groups: counters.get(Counter::OtherGroup),
            feeds: (0..).map_while(feed).collect(),
            ledger: Ledger::read(&counters, live),
            cut: file.and_then(Reader::cut),
            snapped: file.map_or(0, Reader::snapped),
            untimed: file.map_or(0, Reader::untimed),
            foreign: file.and_then(Reader::foreign),
            unserved: counters.get(Counter::XdpUnserved),
            beyond_instruments: counters.get(Counter::InstrumentsFull),
        }
    }
}

impl Summary {
    /// Frames that gave no datagram, by cause; only those that there were.
    pub fn refused(&self) -> impl Iterator<Item = (String, u64)> {
        let of_no_feed = [Counter::Datagrams, Counter::OtherGroup];
        self.ledger
            .outcomes
            .iter()
            .filter(move |row| row.packets > 0 && !of_no_feed.contains(&row.counter))
            .map(|row| {
                (row.counter.name().trim_start_matches("frame_").replace('_', " "), row.packets)
            })
    }
}

/// How many of what: "1 gap", "2 gaps".
fn counted(count: u64, of: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{count} {of}{many}")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (frames, events) = (counted(self.frames, "frame"), counted(self.events, "event"));
        writeln!(f, "{frames}, {events}, epoch {}", self.epoch)?;
        if self.overwritten > 0 {
            writeln!(
                f,
                "the segment holds the latest {} of them: more with a larger event_slots",
                self.events.saturating_sub(self.overwritten)
            )?;
        }
        for feed in &self.feeds {
            let causes: Vec<String> = feed
                .malformed_causes
                .iter()
                .map(|(name, packets)| format!("{packets} {}", name.replace('_', " ")))
                .collect();
            let causes =
                if causes.is_empty() { String::new() } else { format!(": {}", causes.join(", ")) };
            write!(
                f,
                "feed {}: {} ({} malformed{causes}), {}, {}, {} ({} lost), {}",
                feed.name,
                counted(feed.packets, "packet"),
                feed.malformed,
                counted(feed.messages, "message"),
                counted(feed.events, "event"),
                counted(feed.gaps, "gap"),
                counted(feed.lost_messages, "message"),
                counted(feed.restarts, "restart")
            )?;
            for (counter, messages) in &feed.unused {
                write!(f, ", {messages} {}", counter.name().replace('_', " "))?;
            }
            writeln!(f)?;
        }
        if self.beyond_instruments > 0 {
            writeln!(
                f,
                "{} of instruments that there is no room for, not used: raise `instruments`",
                counted(self.beyond_instruments, "message")
            )?;
        }
        let refused: Vec<String> = self.refused().map(|(name, n)| format!("{n} {name}")).collect();
        if !refused.is_empty() {
            writeln!(f, "frames without a datagram that could be used: {}", refused.join(", "))?;
        }
        if self.other_groups > 0 {
            writeln!(f, "{} for groups of no feed", counted(self.other_groups, "packet"))?;
        }
        match (self.ledger.redirected, self.ledger.closes()) {
            (Some(packets), true) => write!(
                f,
                "ledger closed: {} redirected, {} of them dropped on the way in",
                counted(packets, "packet"),
                self.ledger.lost()
            )?,
            (None, true) => write!(f, "ledger closed: every frame accounted for")?,
            (_, false) => write!(
                f,
                "ledger OPEN: {} packets seen, {} redirected and {} frames not accounted for",
                self.ledger.unaccounted_verdicts(),
                self.ledger.unaccounted_arrivals(),
                self.ledger.unaccounted_outcomes()
            )?,
        }
        if self.unserved > 0 {
            write!(
                f,
                "\n{} of steered groups came on other queues, where no socket was",
                counted(self.unserved, "packet")
            )?;
        }
        if self.snapped > 0 {
            write!(f, "\n{} cut by a snap length", counted(self.snapped, "packet"))?;
        }
        if self.untimed > 0 {
            write!(
                f,
                "\n{} packets of the file have no time that can be read: they count as received with \
                 the packet before",
                self.untimed
            )?;
        }
        if let Some(foreign) = &self.foreign {
            write!(f, "\n{foreign}")?;
        }
        if let Some(cut) = &self.cut {
            write!(f, "\n{cut}")?;
        }
        Ok(())
    }
}
