//! Days of a place, for bars that are counted from its midnight.

use crate::store::TIME_MAX;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// Nanoseconds of a day on which no clock is changed.
pub const DAY: u64 = 86_400_000_000_000;

/// A time zone that has a name, by which it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// Why a zone cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// No zone is called so.
    #[error("no time zone '{0}': write UTC, or a name such as America/New_York")]
    Unknown(String),
    /// Rules without a name, such as those of a machine that does not say where it stands.
    #[error("the time zone has no name: write UTC, or one such as America/New_York")]
    Nameless,
}

impl Zone {
    /// The zone, if it has a name.
    pub fn new(zone: TimeZone) -> Result<Zone, ZoneError> {
        let name = zone.iana_name().ok_or(ZoneError::Nameless)?.to_owned();
        Ok(Zone { name, zone })
    }

    /// Begin and end of `days` days there, one of which holds `time`, UTC nanoseconds; such runs of
    /// days are counted from 1970.
    pub fn days_around(&self, time: u64, days: u64) -> (u64, u64) {
        let (begin, end) = self.dates_around(time, days).unwrap_or((0, TIME_MAX));
        (begin.min(time), end.max(time.saturating_add(1)))
    }

    /// `None` where a calendar ends.
    fn dates_around(&self, time: u64, days: u64) -> Option<(u64, u64)> {
        let timestamp = Timestamp::from_nanosecond(i128::from(time)).ok()?;
        let today = self.zone.to_datetime(timestamp).date();
        let number = i64::from(today.since(date(1970, 1, 1)).ok()?.get_days());
        let days = i64::try_from(days).ok()?;
        let first = today.checked_sub(Span::new().try_days(number.rem_euclid(days)).ok()?).ok()?;
        let end = first.checked_add(Span::new().try_days(days).ok()?).ok()?;
        Some((self.midnight(first)?, self.midnight(end)?))
    }

    fn midnight(&self, day: Date) -> Option<u64> {
        let at = self.zone.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
        Some(at.as_nanosecond().clamp(0, i128::from(TIME_MAX)) as u64)
    }
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;

    fn try_from(name: String) -> Result<Zone, ZoneError> {
        let zone = TimeZone::get(&name).map_err(|_| ZoneError::Unknown(name.clone()))?;
        Ok(Zone { name, zone })
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_nanosecond() as u64
    }

    #[test]
    fn a_day_on_which_clocks_are_changed_has_another_length() {
        let zone = Zone::try_from("America/New_York".to_owned()).unwrap();
        for (within, begin, end) in [
            ("2025-03-07T15:00Z", "2025-03-07T05:00Z", "2025-03-08T05:00Z"),
            ("2025-03-09T15:00Z", "2025-03-09T05:00Z", "2025-03-10T04:00Z"),
            ("2025-03-10T03:59Z", "2025-03-09T05:00Z", "2025-03-10T04:00Z"),
            ("2025-03-10T04:00Z", "2025-03-10T04:00Z", "2025-03-11T04:00Z"),
            ("2025-11-02T15:00Z", "2025-11-02T04:00Z", "2025-11-03T05:00Z"),
        ] {
            let [within, begin, end] = [within, begin, end].map(utc);
            assert_eq!(zone.days_around(within, 1), (begin, end));
        }
        let week = zone.days_around(utc("2025-03-09T15:00Z"), 7);
        assert_eq!(zone.days_around(week.0, 7), week);
        assert_eq!(zone.days_around(week.1, 7).0, week.1);
    }

    #[test]
    fn every_time_lies_in_its_day() {
        let zone = Zone::new(TimeZone::UTC).unwrap();
        for time in [0, 1, DAY - 1, DAY, TIME_MAX - 1, TIME_MAX] {
            for days in [1, 7, 40_000_000, u64::MAX] {
                let (begin, end) = zone.days_around(time, days);
                assert!(begin <= time && time < end, "{time} of {days} days");
            }
        }
    }

    #[test]
    fn a_zone_that_is_none_is_refused() {
        let refused = serde_json::from_str::<Zone>("\"Mars/Olympus\"").unwrap_err();
        assert!(refused.to_string().contains("no time zone 'Mars/Olympus'"));
        let posix = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
        assert_eq!(Zone::new(posix), Err(ZoneError::Nameless));
    }
}
