//! Midnights of an exchange's time zone as UTC, for core, which knows no time zones.

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};
use wiretape_core::feed::trading_day::{MIDNIGHTS_MAX, TradingDays};

/// Days before the start that a table covers: a replayed session may have begun long ago.
const DAYS_BEFORE: i64 = 30;

/// Where time zones come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zones {
    /// The system's, or the program's own where it has none.
    System,
    /// The program's own: no file is read, which a confined capture may not.
    Bundled,
}

impl Zones {
    /// The zone of an IANA name.
    pub fn get(self, name: &str) -> Option<TimeZone> {
        match self {
            Zones::System => TimeZone::get(name).ok(),
            Zones::Bundled => TimeZoneDatabase::bundled().get(name).ok(),
        }
    }
}

/// The midnights around `utc_ns` in `zone`: a month back and most of a year ahead, so that a
/// capture can run that long. `None` if the zone is unknown.
pub fn around(zones: Zones, zone: &str, utc_ns: u64) -> Option<TradingDays> {
    let zone = zones.get(zone)?;
    let since = SignedDuration::from_nanos(i64::try_from(utc_ns).ok()?);
    let today = Timestamp::UNIX_EPOCH.checked_add(since).ok()?.to_zoned(zone.clone()).date();
    let days = -DAYS_BEFORE..MIDNIGHTS_MAX as i64 - DAYS_BEFORE;
    Some(TradingDays::new(
        days.filter_map(|day| midnight(today.checked_add(day.days()).ok()?, &zone)),
    ))
}

/// The one midnight that begins `date` in `zone`. `None` if the zone is unknown.
pub fn on(zones: Zones, zone: &str, date: Date) -> Option<TradingDays> {
    let zone = zones.get(zone)?;
    Some(TradingDays::new(midnight(date, &zone)))
}

/// The start of the local day, UTC nanoseconds. (Where clocks skip midnight: the first instant.)
fn midnight(date: Date, zone: &TimeZone) -> Option<u64> {
    let start = date.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
    u64::try_from(start.timestamp().as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn ns(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_nanosecond() as u64
    }

    #[test]
    fn new_york_midnights_follow_daylight_saving() {
        for zones in [Zones::System, Zones::Bundled] {
            midnights_follow_daylight_saving(zones);
        }
    }

    fn midnights_follow_daylight_saving(zones: Zones) {
        let days = around(zones, "America/New_York", ns("2017-03-10T14:30:00Z")).unwrap();
        assert_eq!(days.midnight_before(ns("2017-03-10T14:30:00Z")), ns("2017-03-10T05:00:00Z"));
        // The Monday after the clocks went forward.
        assert_eq!(days.midnight_before(ns("2017-03-13T14:30:00Z")), ns("2017-03-13T04:00:00Z"));
        let sunday = days.midnight_before(ns("2017-03-12T20:00:00Z"));
        assert_eq!(ns("2017-03-13T04:00:00Z") - sunday, 23 * HOUR);
        // Late evening in New York is the next day in UTC.
        assert_eq!(days.midnight_before(ns("2017-03-14T01:00:00Z")), ns("2017-03-13T04:00:00Z"));
    }

    #[test]
    fn a_given_date_is_the_only_day() {
        let days = on(Zones::System, "America/New_York", "2012-06-21".parse().unwrap()).unwrap();
        assert_eq!(days.midnight_before(ns("2026-01-01T00:00:00Z")), ns("2012-06-21T04:00:00Z"));
        assert_eq!(days.midnight_before(0), ns("2012-06-21T04:00:00Z"));
        for zones in [Zones::System, Zones::Bundled] {
            assert!(on(zones, "Mars/Olympus", "2012-06-21".parse().unwrap()).is_none());
        }
    }
}
