//! Receive times: the processor's time-stamp counter, kept against the system clock.
//!
//! The worker reads the counter once per batch, when its frames were found, and converts it to UTC
//! with a multiplication and an addition: no system call. The offset to the system clock is
//! measured by the control thread once in a while ([`ClockKeeper::align`]) and published in one atomic word, so that drift of
//! the counter and corrections of the system clock (PTP, NTP) reach the worker within that
//! interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A step back of the system clock up to this size is a correction and is smoothed out; a larger
/// one was meant and is followed.
const STEP_BACK_SMOOTHED_NS: u64 = 10_000_000;
/// Pairs of readings per alignment; the closest pair counts.
const READINGS: u32 = 8;

/// Measures the offset between the counter and the system clock.
#[derive(Clone, Debug)]
pub struct ClockKeeper {
    counter: quanta::Clock,
    /// UTC nanoseconds minus counter nanoseconds.
    offset_ns: Arc<AtomicI64>,
    /// The latest time that a worker's clock gave.
    last_ns: Arc<AtomicU64>,
}

impl ClockKeeper {
    /// Calibrates the counter's rate (up to 200 ms, once per process) and its offset.
    pub fn new() -> ClockKeeper {
        let (counter, offset_ns) = (quanta::Clock::new(), Arc::new(AtomicI64::new(0)));
        let keeper = ClockKeeper { counter, offset_ns, last_ns: Arc::default() };
        keeper.align();
        keeper
    }

    /// Measures the offset anew; returns by how many nanoseconds it changed.
    pub fn align(&self) -> i64 {
        let mut best = (u64::MAX, 0i64);
        for _ in 0..READINGS {
            let before = self.counter_ns();
            let utc = utc_ns();
            let after = self.counter_ns();
            let width = after.wrapping_sub(before);
            if width < best.0 {
                let middle = before.wrapping_add(width / 2);
                best = (width, utc.wrapping_sub(middle) as i64);
            }
        }
        // Relaxed: the word is the whole message.
        let previous = self.offset_ns.swap(best.1, Ordering::Relaxed);
        best.1.wrapping_sub(previous)
    }

    /// The worker's end. Several of them, on one thread, go on where the others are: their times
    /// order what they were read for.
    pub fn worker_clock(&self) -> WorkerClock {
        WorkerClock {
            counter: self.counter.clone(),
            offset_ns: Arc::clone(&self.offset_ns),
            last_ns: Arc::clone(&self.last_ns),
        }
    }

    fn counter_ns(&self) -> u64 {
        self.counter.delta_as_nanos(0, self.counter.raw())
    }
}

impl Default for ClockKeeper {
    fn default() -> ClockKeeper {
        ClockKeeper::new()
    }
}

/// Reads the time on the hot path.
#[derive(Debug)]
pub struct WorkerClock {
    counter: quanta::Clock,
    offset_ns: Arc<AtomicI64>,
    last_ns: Arc<AtomicU64>,
}

impl WorkerClock {
    /// Now, in UTC nanoseconds. Never the same twice, and not back, except where the system clock
    /// was set back.
    #[inline]
    pub fn now(&mut self) -> u64 {
        let counter = self.counter.delta_as_nanos(0, self.counter.raw());
        let now = counter.wrapping_add_signed(self.offset_ns.load(Ordering::Relaxed));
        // Relaxed: one thread reads and writes it.
        let now = forward(self.last_ns.load(Ordering::Relaxed), now);
        self.last_ns.store(now, Ordering::Relaxed);
        now
    }
}

/// `now`, or the moment behind `last` where `now` is a little before it, or the same.
fn forward(last: u64, now: u64) -> u64 {
    let early = now <= last && last - now <= STEP_BACK_SMOOTHED_NS;
    if early { last.wrapping_add(1) } else { now }
}

/// The system clock, UTC nanoseconds; 0 before 1970.
pub fn utc_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// By how many nanoseconds TAI is ahead of UTC: what the system was told (by chrony, ntpd or phc2sys),
/// else the 37 s of since 2017.
pub fn tai_ahead_ns() -> u64 {
    const SINCE_2017_S: i64 = 37;
    let seconds = |clock| {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a valid timespec to write to; where it is not written, both are zero.
        unsafe { libc::clock_gettime(clock, &mut now) };
        now
    };
    let (utc, tai) = (seconds(libc::CLOCK_REALTIME), seconds(libc::CLOCK_TAI));
    // Read a moment later, TAI may be in the next second of its own.
    let apart = tai.tv_sec - utc.tv_sec - i64::from(tai.tv_nsec < utc.tv_nsec);
    let ahead = if apart > 0 { apart } else { SINCE_2017_S };
    ahead.unsigned_abs() * 1_000_000_000
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the segment's heartbeat.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; this clock cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_clock_follows_the_system_clock() {
        let keeper = ClockKeeper::new();
        let mut clock = keeper.worker_clock();
        for _ in 0..20 {
            let (before, now, after) = (utc_ns(), clock.now(), utc_ns());
            // A preempted thread widens the bracket, never the other way round; the rest is the
            // error of the alignment.
            let slack = 200_000;
            assert!(now + slack >= before && now <= after + slack, "{before} {now} {after}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let drift = keeper.align();
        assert!(drift.unsigned_abs() < 2_000_000, "{drift} ns in 40 ms");
    }

    #[test]
    fn tai_is_ahead_by_whole_seconds_whatever_the_system_was_told() {
        let ahead = tai_ahead_ns();
        assert!((37_000_000_000..60_000_000_000).contains(&ahead), "{ahead}");
        assert_eq!(ahead % 1_000_000_000, 0);
    }

    #[test]
    fn no_two_readings_of_a_worker_s_clocks_are_the_same() {
        let keeper = ClockKeeper::new();
        let mut clocks = [keeper.worker_clock(), keeper.worker_clock()];
        let mut last = 0;
        for turn in 0..10_000 {
            if turn % 1_000 == 0 {
                // Back by as much as is smoothed out.
                keeper.offset_ns.fetch_sub(40_000, Ordering::Relaxed);
            }
            let now = clocks[turn % 2].now();
            assert!(now > last, "{last} then {now}");
            last = now;
        }
    }

    #[test]
    fn small_steps_back_are_smoothed_and_large_ones_followed() {
        assert_eq!(forward(1_000_000, 999_000), 1_000_001);
        assert_eq!(forward(1_000_000, 1_000_000), 1_000_001);
        assert_eq!(forward(1_000_000, 1_000_001), 1_000_001);
        assert_eq!(forward(60_000_000_000, 1_000_000_000), 1_000_000_000);
    }
}
