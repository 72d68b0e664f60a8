//! Midnights of an exchange's time zone as UTC, worked out at the edge by a time-zone library.
//!
//! ITCH times count from local midnight. The worker must not ask a time-zone database, so it gets
//! a table of the midnights around the day it runs on, and picks one when a session starts.

/// Midnights that a table can hold: more than a year.
pub const MIDNIGHTS_MAX: usize = 400;

/// Ascending UTC nanoseconds at which local days begin.
///
/// ```
/// use wiretape_core::feed::trading_day::TradingDays;
///
/// let midnight = 1_340_251_200_000_000_000; // 2012-06-21, New York
/// let days = TradingDays::new([midnight, midnight + 86_400_000_000_000]);
/// assert_eq!(days.midnight_before(midnight + 34_200_000_000_000), midnight);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TradingDays {
    midnights: heapless::Vec<u64, MIDNIGHTS_MAX>,
}

impl TradingDays {
    /// A table from midnights in any order; those beyond [`MIDNIGHTS_MAX`] are left out.
    pub fn new(midnights: impl IntoIterator<Item = u64>) -> Self {
        let mut table = TradingDays { midnights: heapless::Vec::new() };
        for midnight in midnights.into_iter().take(MIDNIGHTS_MAX) {
            // Cannot fail: `take` bounds the number.
            let _ = table.midnights.push(midnight);
        }
        table.midnights.sort_unstable();
        table
    }

    /// The midnight that begins the local day of `utc_ns`; the first one before the table begins,
    /// 0 if the table is empty.
    pub fn midnight_before(&self, utc_ns: u64) -> u64 {
        let after = self.midnights.partition_point(|midnight| *midnight <= utc_ns);
        let index = after.saturating_sub(1);
        self.midnights.get(index).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_midnight_not_after_the_time_is_picked() {
        let days = TradingDays::new([300, 100, 200]);
        assert_eq!(days.midnight_before(50), 100);
        assert_eq!(days.midnight_before(100), 100);
        assert_eq!(days.midnight_before(199), 100);
        assert_eq!(days.midnight_before(1_000), 300);
        assert_eq!(TradingDays::new([]).midnight_before(7), 0);
    }
}
