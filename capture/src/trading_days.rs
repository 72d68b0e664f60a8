//! Midnights of an exchange's time zone as UTC, for core, which knows no time zones.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use wiretape_core::feed::trading_day::{MIDNIGHTS_MAX, TradingDays};

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

/// The days of `zone` since 1970, for two hundred years. `None` if the zone is unknown.
pub fn of(zones: Zones, zone: &str) -> Option<TradingDays> {
    let zone = zones.get(zone)?;
    // East of Greenwich the first began before 1970.
    let first = [Date::constant(1970, 1, 1), Date::constant(1970, 1, 2)];
    let first = first.into_iter().find_map(|date| midnight(date, &zone));
    let changes = zone.following(Timestamp::UNIX_EPOCH).filter_map(|change| {
        midnight(change.timestamp().to_zoned(zone.clone()).date().tomorrow().ok()?, &zone)
    });
    Some(TradingDays::new(first.into_iter().chain(changes.take(MIDNIGHTS_MAX - 1))))
}

/// The one midnight that begins `date` in `zone`. `None` if the zone is unknown.
pub fn on(zones: Zones, zone: &str, date: Date) -> Option<TradingDays> {
    let zone = zones.get(zone)?;
    Some(midnight(date, &zone).map_or_else(TradingDays::default, TradingDays::only))
}

/// The start of the local day, UTC nanoseconds. (Where clocks skip midnight: the first instant.)
fn midnight(date: Date, zone: &TimeZone) -> Option<u64> {
    let start = date.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
    u64::try_from(start.timestamp().as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use jiff::civil::date;

    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn ns(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_nanosecond() as u64
    }

    #[test]
    fn new_york_midnights_follow_daylight_saving() {
        for zones in [Zones::System, Zones::Bundled] {
            let days = of(zones, "America/New_York").unwrap();
            let midnight = |text| days.midnight_before(ns(text));
            assert_eq!(midnight("2017-03-10T14:30:00Z"), ns("2017-03-10T05:00:00Z"));
            // The Monday after the clocks went forward.
            assert_eq!(midnight("2017-03-13T14:30:00Z"), ns("2017-03-13T04:00:00Z"));
            assert_eq!(midnight("2017-03-12T20:00:00Z"), ns("2017-03-12T05:00:00Z"));
            // Late evening in New York is the next day in UTC.
            assert_eq!(midnight("2017-03-14T01:00:00Z"), ns("2017-03-13T04:00:00Z"));
        }
    }

    /// Also where clocks skip midnight, change by half an hour, or did not change but once.
    #[test]
    fn each_day_of_eighty_years_begins_when_the_zone_says() {
        for name in [
            "America/New_York",
            "Europe/London",
            "Asia/Tokyo",
            "Australia/Lord_Howe",
            "America/Sao_Paulo",
            "Africa/Cairo",
        ] {
            let (days, zone) =
                (of(Zones::Bundled, name).unwrap(), Zones::Bundled.get(name).unwrap());
            let dates = date(1970, 1, 3).series(1.day()).take_while(|date| date.year() < 2050);
            let midnights: Vec<u64> = dates.map(|date| midnight(date, &zone).unwrap()).collect();
            for day in midnights.windows(2) {
                for time in [day[0], day[0] + HOUR, day[1] - 1] {
                    assert_eq!(days.midnight_before(time), day[0], "{name} {time}");
                }
            }
        }
    }

    #[test]
    fn a_given_date_is_the_only_day() {
        let days = on(Zones::System, "America/New_York", "2012-06-21".parse().unwrap()).unwrap();
        assert_eq!(days.midnight_before(ns("2026-01-01T00:00:00Z")), ns("2012-06-21T04:00:00Z"));
        assert_eq!(days.midnight_before(0), ns("2012-06-21T04:00:00Z"));
        for zones in [Zones::System, Zones::Bundled] {
            assert!(on(zones, "Mars/Olympus", "2012-06-21".parse().unwrap()).is_none());
            assert!(of(zones, "Mars/Olympus").is_none());
        }
    }
}
