//! Numbers with units, as people write them on a command line.

use std::net::SocketAddrV4;
use std::ops::RangeInclusive;
use std::time::Duration;

use wiretape_bench::exchange::pace::Pace;
use wiretape_bench::exchange::sink::impaired::Impairment;

/// `10`, `250k`, `1.5M`.
fn quantity(text: &str) -> Option<f64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1e3),
        b'M' => (&text[..text.len() - 1], 1e6),
        b'G' => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let value: f64 = digits.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value * factor)
}

/// A count: `1000`, `250k`, `5M`.
pub fn count(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a count: write 1000, 250k or 5M");
    let value = quantity(text).ok_or_else(wrong)?;
    if value.fract() == 0.0 && value < 9e15 { Ok(value as u64) } else { Err(wrong()) }
}

/// A message number or a range of them: `17`, `100-120`.
pub fn numbers(text: &str) -> Result<RangeInclusive<u64>, String> {
    let wrong = || format!("'{text}' is no message number and no range: write 17 or 100-120");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u64 = first.parse().map_err(|_| wrong())?;
    let last: u64 = last.parse().map_err(|_| wrong())?;
    if first <= last { Ok(first..=last) } else { Err(wrong()) }
}

/// A user and a password, as long as SoupBinTCP takes them: `USER:PASSWORD`.
pub fn login(text: &str) -> Result<(String, String), String> {
    let wrong =
        || format!("'{text}' is no login: write USER:PASSWORD, at most 6 and 10 letters or digits");
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    let fits = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !fits(user, 6) || !fits(password, 10) {
        return Err(wrong());
    }
    Ok((user.to_owned(), password.to_owned()))
}

/// How a line misbehaves: `loss=4%,duplicate=1%,reorder=20%:8,delay=30`.
pub fn impairment(text: &str) -> Result<Impairment, String> {
    let wrong = || {
        format!(
            "'{text}' is no impairment: write some of loss=4%, duplicate=1%, reorder=20%:8 (a fifth \
             of the packets, overtaken by up to 8) and delay=30 (packets), with commas"
        )
    };
    let share = |text: &str| {
        let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
        (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
    };
    let mut found = Impairment::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(wrong)?;
        match key {
            "loss" => found.loss = share(value).ok_or_else(wrong)?,
            "duplicate" => found.duplicate = share(value).ok_or_else(wrong)?,
            "delay" => found.delay = value.parse().map_err(|_| wrong())?,
            "reorder" => {
                let (percent, span) = value.split_once(':').ok_or_else(wrong)?;
                found.reorder = share(percent).ok_or_else(wrong)?;
                found.span = span.parse().map_err(|_| wrong())?;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(found)
}

/// A rate: `100000/s`, `100k/s`, `100000`.
pub fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match quantity(number) {
        Some(value) if value > 0.0 => Ok(value),
        _ => Err(format!("'{text}' is not a rate: write 100000/s or 100k/s")),
    }
}

/// A duration: `10s`, `1.5s`, `250ms`, `20us`, `5m`, `1h`; seconds without a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1.0));
    let wrong = || format!("'{text}' is not a duration: write 10s, 250ms, 20us, 5m or 1h");
    let value: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(value * factor).map_err(|_| wrong())
}

/// A speed: `recorded`, `max`, `10x`, `0.5x`.
pub fn speed(text: &str) -> Result<Pace, String> {
    match text {
        "recorded" => return Ok(Pace::Recorded(1.0)),
        "max" => return Ok(Pace::Max),
        _ => {}
    }
    match text.strip_suffix('x').and_then(quantity) {
        Some(factor) if factor > 0.0 => Ok(Pace::Recorded(factor)),
        _ => Err(format!("'{text}' is not a speed: write recorded, 10x, 0.5x or max")),
    }
}

/// A group and port: `239.1.2.3:26477`.
pub fn group(text: &str) -> Result<SocketAddrV4, String> {
    address(text, "239.1.2.3:26477")
}

/// Where a server listens: `10.0.0.1:26400`.
pub fn server(text: &str) -> Result<SocketAddrV4, String> {
    address(text, "10.0.0.1:26400")
}

fn address(text: &str, example: &str) -> Result<SocketAddrV4, String> {
    text.parse().map_err(|_| format!("'{text}' is not an address and port: write {example}"))
}

/// A MoldUDP64 session: at most ten printable ASCII characters, padded with spaces.
pub fn session(text: &str) -> Result<[u8; 10], String> {
    if text.len() > 10 || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(format!("'{text}' is not a session: use at most 10 ASCII characters"));
    }
    let mut session = [b' '; 10];
    session[..text.len()].copy_from_slice(text.as_bytes());
    Ok(session)
}

/// A time of day: `09:30`, `09:30:00.5`; nanoseconds since midnight.
pub fn time_of_day(text: &str) -> Result<u64, String> {
    let time: jiff::civil::Time =
        text.parse().map_err(|_| format!("'{text}' is not a time of day: write 09:30:00"))?;
    let since = time.duration_since(jiff::civil::Time::midnight());
    u64::try_from(since.as_nanos()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        assert_eq!(count("250k"), Ok(250_000));
        assert_eq!(count("1.5M"), Ok(1_500_000));
        assert!(count("1.5").is_err() && count("-1").is_err() && count("").is_err());
        assert_eq!(rate("100000/s"), Ok(1e5));
        assert_eq!(rate("2M/s"), Ok(2e6));
        assert!(rate("0/s").is_err() && rate("fast").is_err() && rate("inf").is_err());
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("-1s").is_err() && duration("soon").is_err());
        assert_eq!(speed("10x"), Ok(Pace::Recorded(10.0)));
        assert_eq!(speed("max"), Ok(Pace::Max));
        assert!(speed("0x").is_err() && speed("10").is_err());
        assert_eq!(session("ABC"), Ok(*b"ABC       "));
        assert!(session("ELEVENCHARS").is_err());
        assert_eq!(time_of_day("09:30"), Ok(34_200_000_000_000));
        assert!(time_of_day("25:00").is_err());
        assert!(group("239.1.2.3").is_err());
    }
}
