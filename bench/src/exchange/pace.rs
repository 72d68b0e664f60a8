//! When each packet is due, and waiting until then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};

/// How fast to play.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// At the feed's own times, so many times faster.
    Recorded(f64),
    /// So many packets a second.
    Rate(f64),
    /// As fast as the sink takes them.
    Max,
}

/// Turns a packet's number and time into the time since the start at which it is due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pace: Pace,
    first_ns: Option<u64>,
    last_ns: u64,
}

impl Schedule {
    /// A schedule whose start is its first packet, or the first one that has a time: files have been
    /// seen whose first packets have none, which is 0, and decades lie between that and the next.
    pub fn new(pace: Pace) -> Schedule {
        Schedule { pace, first_ns: None, last_ns: 0 }
    }

    /// Feed time of the start; 0 as long as no packet had any.
    pub fn first_ns(&self) -> u64 {
        self.first_ns.unwrap_or(0)
    }

    /// Nanoseconds after the start at which packet `number` (from 0) of feed time `at_ns` is due;
    /// `None` where there is no schedule. Never runs backwards, even if the feed's times do.
    pub fn due_ns(&mut self, number: u64, at_ns: u64) -> Option<u64> {
        if at_ns > 0 {
            self.first_ns.get_or_insert(at_ns);
        }
        let first_ns = self.first_ns();
        let due_ns = match self.pace {
            Pace::Max => return None,
            Pace::Rate(per_second) => (number as f64 * 1e9 / per_second) as u64,
            Pace::Recorded(factor) => (at_ns.saturating_sub(first_ns) as f64 / factor) as u64,
        };
        self.last_ns = self.last_ns.max(due_ns);
        Some(self.last_ns)
    }
}

/// Below this, waiting spins: a sleep would wake too late.
const SPIN_NS: u64 = 60_000;
/// Longest sleep in one piece, so that a stop is noticed.
const SLEEP_NS_MAX: u64 = 50_000_000;

/// Sleeps far from the deadline and spins near it, until `due_ns` after `start` or until `stop`.
/// Gives the nanoseconds since `start`.
pub fn wait(start: Instant, due_ns: u64, stop: &AtomicBool) -> u64 {
    loop {
        let now_ns = elapsed_ns(start);
        if now_ns >= due_ns || stop.load(Ordering::Relaxed) {
            return now_ns;
        }
        let left_ns = due_ns - now_ns;
        if left_ns > SPIN_NS {
            sleep((left_ns - SPIN_NS / 2).min(SLEEP_NS_MAX));
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Nanoseconds since `start`.
pub fn elapsed_ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Sleeps on an absolute deadline: a signal that interrupts it only makes it end early.
fn sleep(ns: u64) {
    let now = clock_gettime(ClockId::Monotonic);
    let wake = Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + Duration::from_nanos(ns);
    let wake = Timespec { tv_sec: wake.as_secs() as i64, tv_nsec: i64::from(wake.subsec_nanos()) };
    // Ended early or refused, the caller looks at the clock again either way.
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &wake);
}

/// Asks for wake-ups as precise as the system has them: the default lets them be 50 us late.
pub fn be_punctual() {
    // Refused by nothing that runs today; without it, sleeps merely end later.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_follow_the_feed_the_rate_or_nothing() {
        let mut recorded = Schedule::new(Pace::Recorded(2.0));
        assert_eq!(recorded.due_ns(0, 1_000), Some(0));
        assert_eq!(recorded.due_ns(1, 3_000), Some(1_000));
        assert_eq!(recorded.due_ns(2, 2_000), Some(1_000), "times that run backwards");
        let mut rate = Schedule::new(Pace::Rate(1e6));
        assert_eq!(rate.due_ns(0, 77), Some(0));
        assert_eq!(rate.due_ns(1_000_000, 78), Some(1_000_000_000));
        assert_eq!(Schedule::new(Pace::Max).due_ns(5, 5), None);
    }

    #[test]
    fn packets_without_a_time_in_front_delay_nothing() {
        let mut recorded = Schedule::new(Pace::Recorded(1.0));
        let now_ns = 1_700_000_000_000_000_000;
        let due = [0, 0, now_ns, now_ns + 5, 0, now_ns + 9].map(|at_ns| recorded.due_ns(0, at_ns));
        assert_eq!(due, [0, 0, 0, 5, 5, 9].map(Some));
        assert_eq!(recorded.first_ns(), now_ns);
    }

    #[test]
    fn waiting_ends_at_the_deadline_or_when_told_to() {
        let start = Instant::now();
        let go_on = AtomicBool::new(false);
        let now_ns = wait(start, 3_000_000, &go_on);
        assert!(now_ns >= 3_000_000);
        let stop = AtomicBool::new(true);
        wait(start, 3_600_000_000_000, &stop);
        assert!(elapsed_ns(start) < 3_000_000_000);
    }
}
