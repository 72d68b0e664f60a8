//! Times, zones and durations as people write them.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstantError {
    /// Not in a form that is understood.
    #[error(
        "'{0}' is no time: write 09:30, 09:30:00.5, 2012-06-21, 2012-06-21T09:30, \
         2012-06-21T09:30:00-04:00, or nanoseconds since 1970"
    )]
    Form(String),
    /// A time of day without a day.
    #[error("'{0}' is a time of day, but of which day? Add --date YYYY-MM-DD")]
    Day(String),
    /// Out of range.
    #[error("'{0}' lies outside the years 1970 to 2262")]
    Range(String),
}

/// A point in time, as far as the text tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instant {
    /// UTC nanoseconds.
    Nanoseconds(u64),
    /// A day and time in the zone in use.
    Civil(DateTime, String),
    /// A time of a day that is given elsewhere.
    TimeOfDay(Time, String),
}

impl Instant {
    /// Reads a time.
    pub fn parse(text: &str) -> Result<Instant, InstantError> {
        let form = || InstantError::Form(text.to_owned());
        // 0 is the beginning of everything; other short numbers may be meant as times of day.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if text == "0" || text.len() > 8 && is_number {
            return text.parse().map(Instant::Nanoseconds).map_err(|_| form());
        }
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return nanoseconds(timestamp, text).map(Instant::Nanoseconds);
        }
        if let Ok(at) = text.parse::<DateTime>() {
            return Ok(Instant::Civil(at, text.to_owned()));
        }
        let padded = if text.find(':') == Some(1) { format!("0{text}") } else { text.to_owned() };
        match padded.parse::<Time>() {
            Ok(time) if text.contains(':') => Ok(Instant::TimeOfDay(time, text.to_owned())),
            _ => Err(form()),
        }
    }

    /// UTC nanoseconds, with `day` for a time that has none.
    pub fn resolve(
        &self,
        zone: &TimeZone,
        day: impl FnOnce() -> Option<Date>,
    ) -> Result<u64, InstantError> {
        let (at, text) = match self {
            Instant::Nanoseconds(time) => return Ok(*time),
            Instant::Civil(at, text) => (*at, text),
            Instant::TimeOfDay(time, text) => {
                let day = day().ok_or_else(|| InstantError::Day(text.clone()))?;
                (day.to_datetime(*time), text)
            }
        };
        let timestamp = zone.to_timestamp(at).map_err(|_| InstantError::Range(text.clone()))?;
        nanoseconds(timestamp, text)
    }
}

fn nanoseconds(timestamp: Timestamp, text: &str) -> Result<u64, InstantError> {
    let range = || InstantError::Range(text.to_owned());
    let value = u64::try_from(timestamp.as_nanosecond()).map_err(|_| range())?;
    i64::try_from(value).map(|_| value).map_err(|_| range())
}

/// The day of `time` in `zone`.
pub fn day_of(time: u64, zone: &TimeZone) -> Option<Date> {
    let timestamp = Timestamp::from_nanosecond(i128::from(time)).ok()?;
    Some(zone.to_datetime(timestamp).date())
}

/// Reads a zone: `UTC`, `local`, or a name such as `America/New_York`.
pub fn parse_zone(text: &str) -> Result<TimeZone, String> {
    match text {
        "local" => Ok(TimeZone::system()),
        "UTC" | "utc" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| {
            format!("no time zone '{name}': write UTC, local, or a name such as America/New_York")
        }),
    }
}

/// Reads a duration such as `1s`, `500ms`, `1m30s`, `2h`, `10us`, `250ns`, as nanoseconds.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no duration: write 1s, 500ms, 10us, 250ns, 5m or 1h");
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit: u64 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(unit).ok_or_else(wrong)?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_york(text: &str) -> Result<u64, InstantError> {
        let zone = parse_zone("America/New_York").unwrap();
        let day = jiff::civil::date(2012, 6, 21);
        Instant::parse(text)?.resolve(&zone, || Some(day))
    }

    #[test]
    fn the_same_instant_can_be_written_in_many_ways() {
        let open = 1_340_285_400_000_000_000;
        for text in [
            "09:30",
            "9:30",
            "09:30:00.000",
            "2012-06-21T09:30",
            "2012-06-21 09:30:00",
            "2012-06-21T09:30:00-04:00",
            "2012-06-21T13:30:00Z",
            "1340285400000000000",
        ] {
            assert_eq!(new_york(text), Ok(open), "{text}");
        }
        assert_eq!(new_york("2012-06-21"), Ok(open - 34_200_000_000_000));
        assert_eq!(new_york("0"), Ok(0));
    }

    #[test]
    fn what_is_no_time_is_refused_with_a_way_out() {
        for text in ["", "930", "soon", "25:00", "2012-13-01", "99999999999999999999"] {
            assert!(matches!(new_york(text), Err(InstantError::Form(_))), "{text}");
        }
        assert!(matches!(new_york("1950-01-01"), Err(InstantError::Range(_))));
        let without_day = Instant::parse("09:30").unwrap().resolve(&TimeZone::UTC, || None);
        assert!(matches!(without_day, Err(InstantError::Day(_))));
    }

    #[test]
    fn durations_add_up() {
        assert_eq!(parse_duration("1m30s"), Ok(90_000_000_000));
        assert_eq!(parse_duration("250us"), Ok(250_000));
        for text in ["", "5", "s", "1x", "99999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
