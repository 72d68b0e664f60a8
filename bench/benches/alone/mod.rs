//! What one step takes by itself, with nothing of the step before or behind it overlapping: not a
//! share of many.

use quanta::Clock;

/// Nanoseconds of steps.
pub struct Alone {
    clock: Clock,
    /// What it costs to look at the clock twice.
    empty: u64,
}

impl Alone {
    pub fn new() -> Alone {
        let clock = Clock::new();
        let empty = (0..10_000).map(|_| {
            let start = counter(&clock);
            clock.delta_as_nanos(start, counter(&clock))
        });
        let empty = empty.min().unwrap_or(0);
        Alone { clock, empty }
    }

    /// What the step gave, and the nanoseconds that it took.
    #[inline(always)]
    pub fn time<T>(&self, step: impl FnOnce() -> T) -> (T, u32) {
        let start = counter(&self.clock);
        let result = step();
        let nanos = self.clock.delta_as_nanos(start, counter(&self.clock));
        (result, u32::try_from(nanos.saturating_sub(self.empty)).unwrap_or(u32::MAX))
    }
}

/// p50, p99 and p99.9.
pub fn quantiles(times: &mut [u32]) -> [u32; 3] {
    times.sort_unstable();
    [0.5, 0.99, 0.999].map(|share| {
        let index = (times.len() as f64 * share) as usize;
        times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or(0)
    })
}

/// The time stamp counter when all before it is done and nothing behind it begun: else processors read
/// it while loads are still on their way, and what no cache holds seems to be in one.
#[inline(always)]
fn counter(clock: &Clock) -> u64 {
    fence();
    let now = clock.raw();
    fence();
    now
}

#[inline(always)]
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
}
