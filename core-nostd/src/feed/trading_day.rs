//! Midnights of an exchange's time zone as UTC, worked out at the edge by a time-zone library.
//!
//! ITCH times count from local midnight. The worker must not ask a time-zone database, so it gets the
//! midnights behind each change of the zone's clocks, and when a session starts counts days of 24
//! hours from the latest of them.

/// Midnights that a table can hold: where the clocks change twice a year, those of 200 years.
pub const MIDNIGHTS_MAX: usize = 400;

const DAY_NS: u64 = 86_400_000_000_000;

/// The days of an exchange, each by the UTC nanoseconds at which it begins.
///
/// ```
/// use wiretape_core::feed::trading_day::TradingDays;
///
/// let midnight = 1_340_251_200_000_000_000; // 2012-06-21, New York
/// let (hour, day) = (3_600_000_000_000, 86_400_000_000_000);
/// let days = TradingDays::new([midnight]);
/// assert_eq!(days.midnight_before(midnight + 9 * hour), midnight);
/// assert_eq!(days.midnight_before(midnight + 3 * day + 9 * hour), midnight + 3 * day);
/// assert_eq!(TradingDays::only(midnight).midnight_before(0), midnight);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TradingDays {
    /// Ascending: from each of them on days are 24 hours long, but for the last one before the next, on
    /// which the clocks change.
    midnights: heapless::Vec<u64, MIDNIGHTS_MAX>,
    /// No other day follows.
    only: bool,
}

impl TradingDays {
    /// The day that begins at `midnight`, whatever the time.
    pub fn only(midnight: u64) -> Self {
        TradingDays { only: true, ..TradingDays::new([midnight]) }
    }

    /// Days that follow each other by 24 hours from each of these midnights on, in any order. The first
    /// of a zone, and each first one behind a change of its clocks; those beyond [`MIDNIGHTS_MAX`] are
    /// left out.
    pub fn new(midnights: impl IntoIterator<Item = u64>) -> Self {
        let mut midnights: heapless::Vec<u64, MIDNIGHTS_MAX> =
            midnights.into_iter().take(MIDNIGHTS_MAX).collect();
        midnights.sort_unstable();
        TradingDays { midnights, only: false }
    }

    /// The midnight that begins the local day of `utc_ns`; the first one before the table begins,
    /// 0 if the table is empty.
    pub fn midnight_before(&self, utc_ns: u64) -> u64 {
        let after = self.midnights.partition_point(|midnight| *midnight <= utc_ns);
        let Some(start) = self.midnights.get(after.saturating_sub(1)) else { return 0 };
        if self.only {
            return *start;
        }
        let days = utc_ns.saturating_sub(*start) / DAY_NS;
        // The day on which the clocks change is an hour longer or shorter.
        let days_to = |next: &u64| next.wrapping_sub(*start).saturating_add(DAY_NS / 2) / DAY_NS;
        let last =
            self.midnights.get(after).map_or(u64::MAX, |next| days_to(next).saturating_sub(1));
        start.wrapping_add(days.min(last).wrapping_mul(DAY_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = DAY_NS / 24;

    #[test]
    fn days_are_counted_from_the_latest_midnight_and_the_last_one_is_as_long_as_it_is() {
        // The day before the second is 23 hours long, that before the third 25.
        let (first, second) = (5 * HOUR, 5 * HOUR + 10 * DAY_NS - HOUR);
        let third = second + 100 * DAY_NS + HOUR;
        let days = TradingDays::new([third, first, second]);
        assert_eq!(days.midnight_before(0), first);
        for (start, count) in [(first, 10), (second, 100), (third, 1_000)] {
            for day in 0..count {
                let midnight = start + day * DAY_NS;
                assert_eq!(days.midnight_before(midnight), midnight);
                assert_eq!(days.midnight_before(midnight + 23 * HOUR - 1), midnight);
            }
        }
        assert_eq!(days.midnight_before(second - 1), second - 23 * HOUR);
        assert_eq!(days.midnight_before(third - 1), third - 25 * HOUR);
        assert_eq!(days.midnight_before(u64::MAX) % DAY_NS, third % DAY_NS);
    }

    #[test]
    fn one_day_is_every_day_and_none_begins_at_zero() {
        assert_eq!(TradingDays::only(300).midnight_before(u64::MAX), 300);
        assert_eq!(TradingDays::new([]).midnight_before(7), 0);
        assert_eq!(TradingDays::default().midnight_before(7), 0);
    }
}
