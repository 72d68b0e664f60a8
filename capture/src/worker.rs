//! The hot loop: poll the source, drive the pipeline, count. One thread, one core.
//!
//! From the first frame on it allocates nothing, takes no lock, formats nothing, and makes no
//! system call but those by which an AF_XDP socket is woken or, where the configuration allows
//! the worker to rest, waits. It reads one word of [`Orders`] once per poll.

use std::time::{Duration, Instant};

use wiretape_core::histogram::Histogram;
use wiretape_core::pipeline::Pipeline;
use wiretape_core::segment::Counter;

use crate::clock::WorkerClock;
use crate::config::Idle;
use crate::control::recovery::WorkerRecovery;
use crate::control::snapshot::WorkerSnapshots;
use crate::orders::{FeedChange, Orders};
use crate::source::{Polled, Source, SourceDrops, SourceError};
use crate::worker_log::WorkerLog;

/// Polls without a frame before a worker that may rest does so.
const SPINS_BEFORE_REST: u32 = 200;
/// How long a resting worker sleeps before it looks at its orders again.
const REST: Duration = Duration::from_millis(5);
/// Pieces of a snapshot taken between two looks at the source.
const SNAPSHOT_PARTS: usize = 256;

/// A worker: a pipeline, and how it is run.
#[derive(Debug)]
pub struct Worker<'m> {
    pipeline: Pipeline<'m>,
    latency: Option<Histogram<'m>>,
    clock: Option<WorkerClock>,
    idle: Idle,
    drops: SourceDrops,
    log: WorkerLog<'m>,
    recovery: Option<WorkerRecovery<'m>>,
    snapshots: Option<WorkerSnapshots<'m>>,
    /// Receive time of the latest frame.
    received_ns: u64,
    /// When its batch was done with, by the system clock.
    done_ns: u64,
}

impl<'m> Worker<'m> {
    /// A worker that drives `pipeline`. With a clock (live sources) it records how long each
    /// batch took from its receive stamp to its last event.
    pub fn new(pipeline: Pipeline<'m>, clock: Option<WorkerClock>, idle: Idle) -> Worker<'m> {
        let latency = pipeline.segment().latency();
        let log = WorkerLog::new(*pipeline.segment());
        Worker {
            pipeline,
            latency,
            clock,
            idle,
            drops: SourceDrops::default(),
            log,
            recovery: None,
            snapshots: None,
            received_ns: 0,
            done_ns: 0,
        }
    }

    /// The same worker, which has what is missing asked for.
    pub fn with_recovery(self, recovery: WorkerRecovery<'m>) -> Worker<'m> {
        Worker { recovery: Some(recovery), ..self }
    }

    /// The same worker, which has snapshots fetched.
    pub fn with_snapshots(self, snapshots: WorkerSnapshots<'m>) -> Worker<'m> {
        Worker { snapshots: Some(snapshots), ..self }
    }

    /// Runs until the source ends, or until it was told to drain and the source has been still
    /// for the time that frames on their way need. What is still missing then is given up.
    pub fn run<S: Source>(
        &mut self,
        source: &mut S,
        orders: &Orders<'m>,
    ) -> Result<(), SourceError> {
        self.log.start();
        let result = self.run_to_end(source, orders);
        let now = self.now();
        self.pipeline.finish(now);
        self.log.end();
        result
    }

    fn run_to_end<S: Source>(
        &mut self,
        source: &mut S,
        orders: &Orders<'m>,
    ) -> Result<(), SourceError> {
        let mut idle_polls = 0u32;
        let mut still_since: Option<Instant> = None;
        loop {
            let polled = self.poll(source)?;
            let told = orders.look();
            if told.is_change() {
                self.change_feeds(orders);
            }
            match polled {
                Polled::Frames(_) => {
                    idle_polls = 0;
                    still_since = None;
                    if told.is_draining() && source.settle_time().is_zero() {
                        return Ok(());
                    }
                }
                Polled::Ended => return Ok(()),
                Polled::Idle if told.is_draining() => {
                    let since = *still_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= source.settle_time() {
                        return Ok(());
                    }
                    std::hint::spin_loop();
                }
                Polled::Idle => {
                    idle_polls = idle_polls.saturating_add(1);
                    let look = match self.log.holds_back() {
                        true => idle_polls.is_multiple_of(SPINS_BEFORE_REST),
                        false => idle_polls == SPINS_BEFORE_REST,
                    };
                    if look {
                        self.log.look();
                    }
                    self.rest(source, idle_polls);
                }
            }
        }
    }

    /// Takes a feed in, or lets one go, as it was told.
    #[cold]
    pub fn change_feeds(&mut self, orders: &Orders<'m>) {
        let now = self.now();
        orders.carry_out(|change| match change {
            FeedChange::Attach(feed) => {
                let index = feed.index();
                let refused = self.pipeline.attach(feed).err();
                if refused.is_none() {
                    self.log.feed_added(index);
                }
                refused
            }
            FeedChange::Detach(index) => {
                let gone = self.pipeline.detach(index, now);
                if gone.is_some() {
                    self.log.feed_removed(index);
                }
                gone
            }
        });
    }

    /// Takes one batch.
    #[inline]
    pub fn poll<S: Source>(&mut self, source: &mut S) -> Result<Polled, SourceError> {
        let pipeline = &mut self.pipeline;
        let mut received_ns = None;
        let polled = source.poll(&mut |frame, ts_recv| {
            received_ns = Some(ts_recv);
            pipeline.on_frame(frame, ts_recv);
        })?;
        if let Polled::Frames(_) = polled {
            self.count_drops(source.drops());
        }
        // None, where of all that came nothing could be used.
        if let Some(received_ns) = received_ns {
            self.end_batch(received_ns);
        }
        if self.pipeline.is_waiting() {
            self.look_after_missing(polled);
        }
        Ok(polled)
    }

    /// Asks for what is missing and takes what was asked for; in silence, lets time pass.
    #[cold]
    fn look_after_missing(&mut self, polled: Polled) {
        let events = |worker: &Self| worker.pipeline.segment().counters().get(Counter::Events);
        let before = events(self);
        self.take_missing(polled);
        // What is given up, or found, in silence is told without a packet that follows.
        if events(self) != before {
            self.pipeline.publish_usage();
            self.log.look();
        }
    }

    fn take_missing(&mut self, polled: Polled) {
        if polled == Polled::Idle && self.clock.is_some() {
            let now = self.now();
            self.pipeline.on_time(now);
        }
        self.look_after_snapshots();
        let Some(recovery) = &mut self.recovery else { return };
        while recovery.ask.room() > 0
            && let Some(request) = self.pipeline.next_request()
        {
            // There is room.
            let _ = recovery.ask.push(request);
        }
        while let Some(answer) = recovery.answered.pop() {
            let now = now(&mut self.clock, self.received_ns, self.done_ns);
            self.pipeline.on_recovered(usize::from(answer.feed), answer.payload(), now);
        }
    }

    /// Asks for snapshots that are wanted, and takes what came of them.
    fn look_after_snapshots(&mut self) {
        let Some(snapshots) = &mut self.snapshots else { return };
        while snapshots.ask.room() > 0
            && let Some(request) = self.pipeline.next_snapshot()
        {
            // There is room.
            let _ = snapshots.ask.push(request);
        }
        let mut left = SNAPSHOT_PARTS;
        while left > 0
            && let Some(part) = snapshots.parts.pop()
        {
            let now = now(&mut self.clock, self.received_ns, self.done_ns);
            self.pipeline.on_snapshot(&part.request, part.part(), now);
            left -= 1;
        }
    }

    #[inline]
    fn count_drops(&mut self, drops: SourceDrops) {
        if drops != self.drops {
            self.drops = drops;
            let dropped = drops.oversize.wrapping_add(drops.invalid);
            self.pipeline.segment().counters().set(Counter::FrameOversize, dropped);
        }
    }

    #[inline]
    fn end_batch(&mut self, received_ns: u64) {
        self.received_ns = received_ns;
        self.pipeline.segment().counters().add(Counter::Batches, 1);
        if let Some(clock) = &mut self.clock {
            self.done_ns = clock.now();
            if let Some(latency) = &mut self.latency {
                latency.record(self.done_ns.saturating_sub(received_ns));
            }
        }
        self.pipeline.publish_usage();
        self.log.end_batch(received_ns);
    }

    fn now(&mut self) -> u64 {
        now(&mut self.clock, self.received_ns, self.done_ns)
    }

    fn rest<S: Source>(&self, source: &S, idle_polls: u32) {
        match self.idle {
            _ if idle_polls < SPINS_BEFORE_REST => std::hint::spin_loop(),
            Idle::Spin => std::hint::spin_loop(),
            Idle::Yield => std::thread::yield_now(),
            Idle::Park => source.wait(REST),
        }
    }
}

/// Now, by the clock that frames are stamped with: the time of the latest one, and what has passed
/// since by the system clock. Where the NIC stamps, its clock and the system's may be apart by more
/// than anyone waits for a packet. A file's time stands still.
fn now(clock: &mut Option<WorkerClock>, received_ns: u64, done_ns: u64) -> u64 {
    match clock {
        Some(clock) => received_ns.wrapping_add(clock.now().wrapping_sub(done_ns)),
        None => received_ns,
    }
}

/// Pins the calling thread to processor `core`.
pub fn pin_to_core(core: usize) -> std::io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(std::io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a cpu_set_t is a bit array; all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` was checked to lie inside the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is valid for its size; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use wiretape_core::arena::Arena;
    use wiretape_core::event::SessionMsg;
    use wiretape_core::feed::arbiter::Patience;
    use wiretape_core::feed::channel::FeedSpec;
    use wiretape_core::feed::trading_day::TradingDays;
    use wiretape_core::pipeline::Protocol;
    use wiretape_core::segment::{
        FeedCounter, FeedGauge, FeedIdentity, SegmentLayout, SegmentSpec, SegmentView,
        SegmentWriter,
    };
    use wiretape_core::sync::AtomicU64;
    use wiretape_core::wire::frame::Route;
    use wiretape_core::wire::{deep10, iextp};

    use super::*;
    use crate::clock::ClockKeeper;

    const SPEC: SegmentSpec<'_> = SegmentSpec {
        worker: "w",
        epoch: 1,
        pid: 1,
        event_slots: 64,
        instruments: 1,
        feeds: 1,
        depths: 0,
    };

    fn words() -> Vec<AtomicU64> {
        let total = SegmentLayout::new(&SPEC).unwrap().total_words;
        (0..total).map(|_| AtomicU64::new(0)).collect()
    }

    /// A worker with a clock and one feed.
    fn worker<'m>(words: &'m [AtomicU64], books: &'m mut [u8]) -> Worker<'m> {
        patient(words, books, Patience::NONE)
    }

    const GROUP: [u8; 4] = [239, 1, 2, 3];
    const PORT: u16 = 5_000;

    fn patient<'m>(words: &'m [AtomicU64], books: &'m mut [u8], patience: Patience) -> Worker<'m> {
        let segment = SegmentWriter::create(words, &SPEC).unwrap();
        segment.start();
        let mut pipeline = Pipeline::new(segment);
        let (group, port) = (GROUP, PORT);
        let identity = FeedIdentity { instruments: 1, group, port, ..FeedIdentity::default() };
        let (publisher_id, line_b) = (2, None);
        let feed = FeedSpec { identity, publisher_id, orders: 8, levels: 8, line_b, patience };
        let (days, mut arena) = (TradingDays::default(), Arena::new(books));
        pipeline.add_feed(Protocol::Deep10, &feed, &days, &mut arena).unwrap();
        Worker::new(pipeline, Some(ClockKeeper::new().worker_clock()), Idle::Spin)
    }

    /// Hands over one frame of the year 2012, then packets that are too long.
    struct TooLong {
        polls: u64,
    }

    const RECEIVED: u64 = 1_340_285_400_000_000_000;

    impl Source for TooLong {
        fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
            self.polls += 1;
            if self.polls > 1 {
                return Ok(Polled::Frames(0));
            }
            sink(&[0; 60], RECEIVED);
            Ok(Polled::Frames(1))
        }

        fn wait(&self, _: Duration) {}

        fn drops(&self) -> SourceDrops {
            SourceDrops { oversize: self.polls - 1, invalid: 0 }
        }
    }

    /// Hands over its frames, one a poll, and is silent then.
    struct Frames(Vec<Vec<u8>>);

    impl Source for Frames {
        fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
            if self.0.is_empty() {
                return Ok(Polled::Idle);
            }
            sink(&self.0.remove(0), RECEIVED);
            Ok(Polled::Frames(1))
        }

        fn wait(&self, _: Duration) {}

        fn drops(&self) -> SourceDrops {
            SourceDrops::default()
        }
    }

    #[test]
    fn what_silence_gives_up_is_told_while_it_lasts() {
        let mut stream = iextp::Stream::new(deep10::PROTOCOL, 1, 7);
        let mut frame = |price: i64| {
            let mut level = [0; 30];
            (level[0], level[1]) = (b'8', deep10::EVENT_COMPLETE);
            level[10..18].copy_from_slice(b"TEST    ");
            level[18] = 1;
            level[22..30].copy_from_slice(&price.to_le_bytes());
            let (mut packet, mut frame) = ([0; 200], vec![0; 300]);
            let mut builder = iextp::Builder::new(&mut packet, &mut stream).unwrap();
            assert!(builder.push(&level));
            let route = Route::to_group([10, 0, 0, 1], GROUP, 40_000, PORT);
            let length = route.emit(0, builder.finish(RECEIVED), &mut frame).unwrap();
            frame.truncate(length);
            frame
        };
        let mut frames: Vec<_> = [1, 2, 3].map(&mut frame).into();
        frames.remove(1);
        let (words, mut books) = (words(), vec![0; 1 << 20]);
        let wait_ns = 1_000_000;
        let patience = Patience { packets: 4, packet_bytes: 200, wait_ns, recovery_ns: None };
        let mut worker = patient(&words, &mut books, patience);
        let mut source = Frames(frames);
        let view = SegmentView::attach(&words).unwrap();
        let feed = view.feed(0).unwrap();
        while feed.counter(FeedCounter::Gaps) == 0 {
            worker.poll(&mut source).unwrap();
        }
        assert_eq!(feed.gauge(FeedGauge::Levels), 2);
        // The first level, and then the gap.
        assert_eq!(worker.log.said_of(0, FeedCounter::Gaps), 1);
    }

    /// Hands over packets that contradict themselves, a millisecond apart, and is silent then for
    /// longer than the log keeps anything back.
    struct Malformed {
        frame: Vec<u8>,
        left: u64,
        silent_since: Option<Instant>,
    }

    impl Source for Malformed {
        fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
            if self.left == 0 {
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                let over = since.elapsed() > Duration::from_millis(1_500);
                return Ok(if over { Polled::Ended } else { Polled::Idle });
            }
            self.left -= 1;
            sink(&self.frame, RECEIVED + 1_000_000_000 - self.left * 1_000_000);
            Ok(Polled::Frames(1))
        }

        fn wait(&self, _: Duration) {}

        fn drops(&self) -> SourceDrops {
            SourceDrops::default()
        }
    }

    #[test]
    fn what_the_log_held_back_is_said_in_silence() {
        let (words, mut books) = (words(), vec![0; 1 << 20]);
        let mut worker = worker(&words, &mut books);
        let mut frame = vec![0; 300];
        let route = Route::to_group([10, 0, 0, 1], GROUP, 40_000, PORT);
        let length = route.emit(0, &[1; 60], &mut frame).unwrap();
        frame.truncate(length);
        let mut source = Malformed { frame, left: 100, silent_since: None };
        worker.run_to_end(&mut source, &Orders::default()).unwrap();
        let feed = SegmentView::attach(&words).unwrap();
        let feed = feed.feed(0).unwrap();
        assert_eq!(feed.counter(FeedCounter::MalformedPackets), 100);
        assert_eq!(worker.log.said_of(0, FeedCounter::MalformedPackets), 100);
    }

    #[test]
    fn a_batch_of_which_nothing_can_be_used_is_counted_and_changes_no_time() {
        let (words, mut books) = (words(), vec![0; 1 << 20]);
        let mut worker = worker(&words, &mut books);
        let mut source = TooLong { polls: 0 };
        for frames in [1, 0, 0] {
            assert_eq!(worker.poll(&mut source).unwrap(), Polled::Frames(frames));
        }
        let view = SegmentView::attach(&words).unwrap();
        let count = |counter| view.counters().get(counter);
        assert_eq!((count(Counter::Batches), count(Counter::FrameOversize)), (1, 2));
        assert_eq!(view.latency().unwrap().count(), 1);
        assert_eq!(worker.received_ns, RECEIVED);
    }

    /// The receive times of the events rise, whatever clock stamps the frames.
    #[test]
    fn a_feed_goes_by_the_clock_of_the_frames() {
        let (words, mut books) = (words(), vec![0; 1 << 20]);
        let mut worker = worker(&words, &mut books);
        worker.poll(&mut TooLong { polls: 0 }).unwrap();
        let (orders, stop) = (Orders::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| orders.change(FeedChange::Detach(0), &stop));
            while !asker.is_finished() {
                worker.change_feeds(&orders);
            }
        });
        let view = SegmentView::attach(&words).unwrap();
        let (_, event) = view.events().reader_from_oldest().next_event().unwrap().unwrap();
        let removed = event.get::<SessionMsg>().unwrap();
        assert!(removed.ts_recv >= RECEIVED && removed.ts_recv < RECEIVED + 60_000_000_000);
    }

    /// What waits in silence waits as long as it would if the NIC's clock were the system's.
    #[test]
    fn time_goes_on_from_the_latest_frame_by_whatever_clock_that_was_stamped() {
        let keeper = ClockKeeper::new();
        let mut clock = Some(keeper.worker_clock());
        let done = keeper.worker_clock().now();
        for apart in [0, 400_000_000] {
            let received = done - apart;
            let at = now(&mut clock, received, done);
            std::thread::sleep(Duration::from_millis(3));
            let later = now(&mut clock, received, done);
            assert!(at >= received && at - received < 1_000_000_000, "{at} after {received}");
            assert!(later - at >= 2_900_000, "{} ns in 3 ms", later - at);
        }
        let before_the_first = now(&mut clock, 0, 0);
        assert!(before_the_first.abs_diff(done) < 10_000_000_000);
        assert_eq!(now(&mut None, 7, 0), 7);
    }
}
