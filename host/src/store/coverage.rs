//! What an answer covers, and what is missing in it.

use super::chunk::Axis;
use super::position::Position;
use serde::{Deserialize, Serialize};

/// Why something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// The exchange's own sequence numbers show that messages never arrived.
    FeedGap,
    /// Sent before capture joined the exchange's session.
    LateJoin,
    /// The host was slower than the ring, which overwrote events it had not read.
    Lapped,
    /// The ring no longer held these events when the host attached.
    BeforeAttach,
    /// Dropped by the host to keep to its memory budget.
    MemoryBudget,
    /// Capture was not running between two epochs.
    CaptureDown,
    /// A DBN file cannot be read to its end.
    FileCut,
}

impl LossReason {
    /// The reason in words, for a table.
    pub fn as_str(self) -> &'static str {
        match self {
            LossReason::FeedGap => "feed gap",
            LossReason::LateJoin => "before capture joined the session",
            LossReason::Lapped => "lapped by the ring",
            LossReason::BeforeAttach => "before the host attached",
            LossReason::MemoryBudget => "memory budget",
            LossReason::CaptureDown => "capture not running",
            LossReason::FileCut => "the file cannot be read any further",
        }
    }
}

/// One lost range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// The capture epoch.
    pub epoch: u64,
    /// First ring sequence lost. For a feed gap, the sequence of the record that reported it.
    pub first: u64,
    /// First ring sequence after the loss. For a feed gap, equal to `first`: no event of the ring
    /// is missing.
    pub end: u64,
    /// For a feed gap, the exchange's own sequence numbers `[first, end)` that never arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<(u64, u64)>,
    /// For a feed gap, the worker's feed index and the exchange's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<(u8, String)>,
    /// For a memory budget, the symbol and the kind of rows dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<LostRows>,
    /// Times between which it happened, on the exchange's clock; absent where not known.
    pub exchange: (Option<u64>, Option<u64>),
    /// Times between which it happened, on the receive clock; absent where not known.
    pub receive: (Option<u64>, Option<u64>),
    /// Losses that were merged into this one; 1 for a loss by itself.
    pub count: u64,
}

/// Rows that the memory budget dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRows {
    /// The instrument.
    pub symbol: String,
    /// `events`, `trades` or `quotes`.
    pub kind: String,
    /// How many.
    pub rows: u64,
}

impl Loss {
    /// Whether the loss may touch times `[from, to)` of `axis`.
    pub fn touches(&self, axis: Axis, from: Option<u64>, to: Option<u64>) -> bool {
        let (after, before) = match axis {
            Axis::Exchange => self.exchange,
            Axis::Receive => self.receive,
        };
        let starts_in_time = after.zip(to).is_none_or(|(after, to)| after < to);
        let ends_in_time = before.zip(from).is_none_or(|(before, from)| before >= from);
        starts_in_time && ends_in_time
    }
}

/// How the host stands towards a worker's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// The worker's heartbeat is fresh.
    Live,
    /// The worker said that its epoch is over.
    Ended,
    /// The worker's heartbeat stopped without a word.
    Dead,
    /// The segment is gone.
    Gone,
}

/// What an answer covers of one worker's events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCoverage {
    /// The worker's name.
    pub worker: String,
    /// Its feeds that have instruments of the answer.
    pub feeds: usize,
    /// How its segment stands.
    pub state: WorkerState,
    /// The first event that the host has seen.
    pub from: Option<Position>,
    /// The last event that the answer takes into account.
    pub through: Option<Position>,
    /// Exchange time of the latest event taken into account, UTC nanoseconds.
    pub ts_event: Option<u64>,
    /// Receive time of it, UTC nanoseconds.
    pub ts_recv: Option<u64>,
    /// What is missing in between, as far as it may touch the times asked for.
    pub lost: Vec<Loss>,
}

/// What an answer covers: one entry for each worker whose events it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The workers.
    pub workers: Vec<WorkerCoverage>,
}

impl Coverage {
    /// Whether nothing is known to be missing.
    pub fn is_complete(&self) -> bool {
        self.workers.iter().all(|worker| worker.lost.is_empty())
    }
}
