//! What a run took in and what became of it.

use std::fmt;
use std::path::{Path, PathBuf};

use wiretape_core::segment::{Counter, FeedCounter, FeedState, Ledger, SegmentWriter};

use crate::source::pcap::CutRecord;

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
}

impl Summary {
    pub(super) fn read(
        segment: &SegmentWriter<'_>,
        path: &Path,
        live: bool,
        cut: Option<CutRecord>,
        snapped: u64,
    ) -> Summary {
        let counters = segment.counters();
        let feed = |index| {
            let view = segment.feed(index)?.view();
            (view.state() != FeedState::Unused).then(|| FeedSummary {
                name: view.identity().name.as_str().to_owned(),
                packets: view.counter(FeedCounter::Packets),
                malformed: view.counter(FeedCounter::MalformedPackets),
                messages: view.counter(FeedCounter::Messages),
                gaps: view.counter(FeedCounter::Gaps),
                lost_messages: view.counter(FeedCounter::LostMessages),
                restarts: view.counter(FeedCounter::Restarts),
                events: view.counter(FeedCounter::Events),
            })
        };
        Summary {
            epoch: segment.header().epoch(),
            segment: path.to_owned(),
            frames: counters.get(Counter::Frames),
            events: counters.get(Counter::Events),
            other_groups: counters.get(Counter::OtherGroup),
            feeds: (0..).map_while(feed).collect(),
            ledger: Ledger::read(&counters, live),
            cut,
            snapped,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} frames, {} events, epoch {}", self.frames, self.events, self.epoch)?;
        for feed in &self.feeds {
            writeln!(
                f,
                "feed {}: {} packets ({} malformed), {} messages, {} events, {} gaps ({} messages \
                 lost), {} restarts",
                feed.name,
                feed.packets,
                feed.malformed,
                feed.messages,
                feed.events,
                feed.gaps,
                feed.lost_messages,
                feed.restarts
            )?;
        }
        if self.other_groups > 0 {
            writeln!(f, "{} packets were for groups of no feed", self.other_groups)?;
        }
        match (self.ledger.redirected, self.ledger.closes()) {
            (Some(packets), true) => write!(
                f,
                "ledger closed: {packets} packets redirected, {} of them dropped on the way in",
                self.ledger.lost()
            )?,
            (None, true) => write!(f, "ledger closed: every frame accounted for")?,
            (_, false) => write!(
                f,
                "ledger OPEN: {} redirected packets and {} frames not accounted for",
                self.ledger.unaccounted_arrivals(),
                self.ledger.unaccounted_outcomes()
            )?,
        }
        if self.snapped > 0 {
            write!(f, "\n{} packets of the file were cut by a snap length", self.snapped)?;
        }
        if let Some(cut) = &self.cut {
            write!(f, "\n{cut}")?;
        }
        Ok(())
    }
}
