//! Follows the events of a path through the epochs of its writer.

use super::mapping::Futex;
use super::segment::{AttachError, Liveness, Segment};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wiretape_core::event::Event;
use wiretape_core::ring::broadcast::Lapped;
pub use wiretape_core::ring::wake::Wait;
use wiretape_core::segment::State;

/// Events that [`Follower::poll`] returns at most at once.
pub const BATCH: usize = 256;
/// How often, while nothing comes, a follower looks whether its writer lives.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a sleeping reader sleeps at most.
const SLEEP: Duration = Duration::from_millis(10);

/// Where a follower starts in the first epoch. Later epochs are read from their beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that the ring safely holds.
    #[default]
    Oldest,
    /// Behind the last event.
    Now,
    /// At this sequence (1 is the first); if it is gone, the first poll says what is lost.
    At(u64),
}

/// How an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochEnd {
    /// The worker drained what it had received, and stopped.
    Clean,
    /// The worker was killed: a later capture found the segment without a living writer, or put a
    /// new one in its place.
    Superseded,
    /// The header was damaged after the segment was attached.
    Damaged,
}

/// What a poll found.
#[derive(Debug)]
pub enum Followed<'a> {
    /// A segment was attached.
    Began {
        /// Its epoch.
        epoch: u64,
        /// The first sequence that will be read.
        first: u64,
        /// Epoch of a run since the one followed before of which nothing was read; there may be
        /// more of them.
        missed: Option<u64>,
    },
    /// Events, in order.
    Events {
        /// Their epoch.
        epoch: u64,
        /// Sequence of the first of them; the others follow without a hole.
        first: u64,
        /// The events.
        events: &'a [Event],
    },
    /// Events were overwritten before they were read.
    Lost {
        /// Their epoch.
        epoch: u64,
        /// Exactly which.
        lapped: Lapped,
    },
    /// Nothing new, and the writer gave no sign of life for a while. Said once; if the writer
    /// comes back, [`Followed::Resumed`] or events follow as if nothing had been.
    Silent {
        /// The epoch.
        epoch: u64,
        /// Since when.
        age: Duration,
    },
    /// A writer that was silent gives signs of life again.
    Resumed {
        /// The epoch.
        epoch: u64,
    },
    /// The epoch is over and every event of it was read (or reported lost). The follower looks
    /// for a new segment at the path from now on.
    Ended {
        /// The epoch.
        epoch: u64,
        /// How it ended.
        end: EpochEnd,
        /// The last sequence of it that was read; 0 if none.
        through: u64,
    },
    /// Nothing new.
    Idle,
}

/// Reads the events of one path, epoch after epoch.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    start: Start,
    how: Wait,
    segment: Option<Segment>,
    epoch: u64,
    /// Next sequence to read.
    position: u64,
    batch: Box<[Event; BATCH]>,
    looked: Instant,
    silent: bool,
    ended: bool,
    /// A `Began` that has not been returned yet.
    began: bool,
    /// Epoch of a run that was missed before this one.
    missed: Option<u64>,
}

impl Follower {
    /// Attaches to the segment at `path`, which must be there.
    pub fn new(path: &Path, start: Start) -> Result<Follower, AttachError> {
        let mut follower = Follower::waiting(path, start);
        follower.attach()?;
        Ok(follower)
    }

    /// A follower of a path at which a segment may appear later.
    pub fn waiting(path: &Path, start: Start) -> Follower {
        Follower {
            path: path.to_owned(),
            start,
            how: Wait::default(),
            segment: None,
            epoch: 0,
            position: 1,
            batch: Box::new([Event::default(); BATCH]),
            looked: Instant::now(),
            silent: false,
            ended: false,
            began: false,
            missed: None,
        }
    }

    /// With another way to wait.
    pub fn with_wait(mut self, how: Wait) -> Follower {
        self.how = how;
        self
    }

    /// The segment being read, or read last.
    pub fn segment(&self) -> Option<&Segment> {
        self.segment.as_ref()
    }

    /// The next sequence to be read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Looks for what comes next, without waiting.
    ///
    /// # Errors
    /// A segment that this build cannot read lies at the path. One that is not there yet is no
    /// error but [`Followed::Idle`].
    pub fn poll(&mut self) -> Result<Followed<'_>, AttachError> {
        if (self.segment.is_none() || self.ended) && !self.look_for_segment()? {
            return Ok(Followed::Idle);
        }
        if std::mem::take(&mut self.began) {
            let (epoch, first, missed) = (self.epoch, self.position, self.missed);
            return Ok(Followed::Began { epoch, first, missed });
        }
        let read = self.read();
        match read {
            Ok(0) => Ok(self.look_around()),
            Ok(count) => Ok(self.events(count)),
            Err(lapped) => Ok(Followed::Lost { epoch: self.epoch, lapped }),
        }
    }

    /// Waits a little for something new, as [`Follower::with_wait`] says. Asleep it has about a
    /// millisecond of latency, and 10 ms where there is no segment.
    pub fn wait(&self) {
        let segment = self.segment.as_ref().filter(|_| !self.ended);
        match (segment.and_then(Segment::view), self.how) {
            (Some(view), how) => {
                let reader = view.events().reader_from(self.position);
                reader.wait(how, view.header().wake_word(), SLEEP, &Futex);
            }
            (None, Wait::Spin) => std::hint::spin_loop(),
            (None, Wait::Yield) => std::thread::yield_now(),
            (None, Wait::Park) => std::thread::sleep(SLEEP),
        }
    }

    fn attach(&mut self) -> Result<(), AttachError> {
        let segment = Segment::attach(&self.path)?;
        let Some(view) = segment.view() else { return Ok(()) };
        let ring = view.events();
        let reader = match self.start {
            Start::Oldest => ring.reader_from_oldest(),
            Start::Now => ring.reader_from_now(),
            Start::At(sequence) => ring.reader_from(sequence),
        };
        self.missed = self.segment.as_ref().and_then(|earlier| segment.missed_since(earlier));
        self.epoch = view.header().epoch();
        self.position = reader.position();
        // An epoch that begins while we follow is ours from its first event on.
        self.start = Start::At(1);
        (self.began, self.ended, self.silent) = (true, false, false);
        self.segment = Some(segment);
        Ok(())
    }

    /// Whether a segment is attached that has not ended.
    fn look_for_segment(&mut self) -> Result<bool, AttachError> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(false);
        }
        self.looked = Instant::now();
        if self.segment.as_ref().is_some_and(|old| !old.is_replaced()) {
            return Ok(false);
        }
        match self.attach() {
            Ok(()) => Ok(self.segment.is_some() && !self.ended),
            Err(error) if error.is_not_yet() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads into the batch; the position is then behind what was read.
    fn read(&mut self) -> Result<usize, Lapped> {
        let Some(view) = self.segment.as_ref().and_then(Segment::view) else { return Ok(0) };
        let mut reader = view.events().reader_from(self.position);
        let count = reader.read_batch(self.batch.as_mut_slice());
        self.position = reader.position();
        count
    }

    fn events(&mut self, count: usize) -> Followed<'_> {
        self.silent = false;
        let events = self.batch.get(..count).unwrap_or(&[]);
        Followed::Events { epoch: self.epoch, first: self.position - count as u64, events }
    }

    /// Nothing was there to read: has the writer ended?
    fn look_around(&mut self) -> Followed<'_> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Followed::Idle;
        }
        self.looked = Instant::now();
        let Some(segment) = &self.segment else { return Followed::Idle };
        let liveness = segment.liveness();
        let end = match liveness {
            _ if segment.view().is_none() => EpochEnd::Damaged,
            Liveness::Over(State::Superseded) => EpochEnd::Superseded,
            Liveness::Over(_) => EpochEnd::Clean,
            _ if segment.is_replaced() => EpochEnd::Superseded,
            Liveness::Silent(age) if !self.silent => {
                self.silent = true;
                return Followed::Silent { epoch: self.epoch, age };
            }
            Liveness::Live if std::mem::take(&mut self.silent) => {
                return Followed::Resumed { epoch: self.epoch };
            }
            Liveness::Live => return Followed::Idle,
            Liveness::Silent(_) => return Followed::Idle,
        };
        // The state was read with acquire: whatever was published before it changed is there now.
        match self.read() {
            Ok(0) => {}
            Ok(count) => return self.events(count),
            Err(lapped) => return Followed::Lost { epoch: self.epoch, lapped },
        }
        self.ended = true;
        Followed::Ended { epoch: self.epoch, end, through: self.position - 1 }
    }
}
