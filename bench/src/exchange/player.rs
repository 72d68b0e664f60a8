//! Plays packets into a sink at a pace.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use wiretape_core::histogram::{Histogram, HistogramSnapshot};

use super::ahead::Ahead;
use super::pace::{Pace, Schedule, be_punctual, elapsed_ns, wait};
use super::packet::{Batch, Packet};
use super::sink::{Sent, Sink, SinkError};
use super::source::SourceError;

/// Time between two progress reports.
const PROGRESS_NS: u64 = 1_000_000_000;

/// How to play.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// The pace.
    pub pace: Pace,
    /// Stop after this many packets.
    pub count: Option<u64>,
    /// Stop after this long.
    pub duration: Option<Duration>,
    /// Whether to wait for the clock. A file is written at once, with the times of the schedule.
    pub live: bool,
}

/// Why a play came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// The source was over.
    Source,
    /// As many packets as wanted were sent.
    Count,
    /// It took as long as wanted.
    Duration,
    /// It was told to stop.
    Stopped,
}

/// How far a play is, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What was sent.
    pub sent: Sent,
    /// Since the first packet was due.
    pub elapsed_ns: u64,
}

/// How late packets were handed to the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lateness {
    /// Half of them at most this late.
    pub p50_ns: u64,
    /// All but one in a hundred at most this late.
    pub p99_ns: u64,
    /// None later than this.
    pub max_ns: u64,
}

/// A play that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was sent and how long it took.
    pub progress: Progress,
    /// Why it ended.
    pub ended: Ended,
    /// Against the schedule; `None` where there was none.
    pub late: Option<Lateness>,
}

/// Why a play failed.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The source broke off. What it gave before was sent.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The sink failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// The state of a play.
struct Player<'p, S> {
    play: Play,
    sink: &'p mut S,
    stop: &'p AtomicBool,
    schedule: Schedule,
    start: Instant,
    number: u64,
    sent: Sent,
    next_progress_ns: u64,
    late: Histogram<'p>,
    on_progress: &'p mut dyn FnMut(Progress),
}

/// Plays everything that `ahead` has into `sink`. `on_progress` is called about once a second.
/// `stop` ends the play early, as a result like any other.
pub fn play<S: Sink>(
    ahead: &mut Ahead,
    sink: &mut S,
    play: Play,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Report, PlayError> {
    be_punctual();
    let memory: Vec<AtomicU64> = (0..Histogram::WORDS).map(|_| AtomicU64::new(0)).collect();
    let Some(late) = Histogram::attach(&memory) else { unreachable!("as long as it asks for") };
    let mut player = Player {
        play,
        sink,
        stop,
        schedule: Schedule::new(play.pace),
        start: Instant::now(),
        number: 0,
        sent: Sent::default(),
        next_progress_ns: PROGRESS_NS,
        late,
        on_progress,
    };
    let mut ended = None;
    while ended.is_none() {
        match ahead.next_batch() {
            None => ended = Some(Ended::Source),
            Some(batch) => {
                let batch = batch?;
                ended = player.play_batch(&batch)?;
                ahead.give_back(batch);
            }
        }
    }
    player.sink.finish()?;
    let progress = Progress { sent: player.sent, elapsed_ns: elapsed_ns(player.start) };
    let late = HistogramSnapshot::take(&memory).filter(|late| late.count() > 0);
    let late = late.map(|late| Lateness {
        p50_ns: late.quantile(50, 100),
        p99_ns: late.quantile(99, 100),
        max_ns: late.max(),
    });
    Ok(Report { progress, ended: ended.unwrap_or(Ended::Source), late })
}

impl<S: Sink> Player<'_, S> {
    fn play_batch(&mut self, batch: &Batch) -> Result<Option<Ended>, SinkError> {
        let mut group: Vec<Packet<'_>> = Vec::with_capacity(S::BATCH.min(batch.len()));
        let mut dues: Vec<u64> = Vec::with_capacity(group.capacity());
        let mut next = 0;
        while let Some(first) = batch.get(next) {
            if self.number == 0 {
                // Building ahead is over: the schedule starts with the first packet.
                self.start = Instant::now();
            }
            let due_ns = self.schedule.due_ns(self.number, first.at_ns);
            let now_ns = self.wait_for(due_ns);
            if let Some(ended) = self.over(now_ns, due_ns) {
                return Ok(Some(ended));
            }
            group.clear();
            dues.clear();
            self.take(first, due_ns, &mut group, &mut dues);
            next += 1;
            // What is due by now goes into the same call.
            while group.len() < S::BATCH && !self.enough() {
                let Some(packet) = batch.get(next) else { break };
                let due_ns = self.schedule.due_ns(self.number, packet.at_ns);
                let limit_ns = self.limit_ns().unwrap_or(u64::MAX);
                let later_ns = if self.play.live { now_ns } else { u64::MAX - 1 };
                if due_ns.is_some_and(|due_ns| due_ns > later_ns || due_ns >= limit_ns) {
                    break;
                }
                self.take(packet, due_ns, &mut group, &mut dues);
                next += 1;
            }
            if self.play.live {
                dues.iter().for_each(|due_ns| self.late.record(now_ns.saturating_sub(*due_ns)));
            }
            self.sent += self.sink.send(&group)?;
            self.report();
        }
        Ok(self.over(elapsed_ns(self.start), None))
    }

    fn take<'b>(
        &mut self,
        mut packet: Packet<'b>,
        due_ns: Option<u64>,
        group: &mut Vec<Packet<'b>>,
        dues: &mut Vec<u64>,
    ) {
        if let Some(due_ns) = due_ns {
            packet.at_ns = self.schedule.first_ns() + due_ns;
            dues.push(due_ns);
        }
        group.push(packet);
        self.number += 1;
    }

    /// Waits for a packet, with progress reports in between; gives the time.
    fn wait_for(&mut self, due_ns: Option<u64>) -> u64 {
        let Some(due_ns) = due_ns.filter(|_| self.play.live) else {
            return elapsed_ns(self.start);
        };
        let limit_ns = self.limit_ns().unwrap_or(u64::MAX);
        let due_ns = due_ns.min(limit_ns);
        while self.next_progress_ns < due_ns && !self.stop.load(Ordering::Relaxed) {
            wait(self.start, self.next_progress_ns, self.stop);
            self.report();
        }
        wait(self.start, due_ns, self.stop)
    }

    fn limit_ns(&self) -> Option<u64> {
        self.play.duration.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX))
    }

    fn enough(&self) -> bool {
        self.play.count.is_some_and(|count| self.number >= count)
    }

    fn over(&self, now_ns: u64, due_ns: Option<u64>) -> Option<Ended> {
        let at_ns = if self.play.live { now_ns } else { due_ns.unwrap_or(0) };
        if self.stop.load(Ordering::Relaxed) {
            Some(Ended::Stopped)
        } else if self.enough() {
            Some(Ended::Count)
        } else if self.limit_ns().is_some_and(|limit_ns| at_ns >= limit_ns) {
            Some(Ended::Duration)
        } else {
            None
        }
    }

    fn report(&mut self) {
        let elapsed_ns = elapsed_ns(self.start);
        if elapsed_ns >= self.next_progress_ns {
            self.next_progress_ns = (elapsed_ns / PROGRESS_NS + 1) * PROGRESS_NS;
            (self.on_progress)(Progress { sent: self.sent, elapsed_ns });
        }
    }
}
