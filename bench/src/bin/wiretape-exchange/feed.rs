//! From the command line to a source of packets.

use std::net::SocketAddrV4;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use wiretape_bench::exchange::framing::{IexTp, MessageStream, MoldUdp64, Packer, Packing};
use wiretape_bench::exchange::glimpse::market::Market;
use wiretape_bench::exchange::glimpse::{GlimpseServer, Serving};
use wiretape_bench::exchange::interface::Interface;
use wiretape_bench::exchange::pace::Pace;
use wiretape_bench::exchange::sink::impaired::Impairment;
use wiretape_bench::exchange::sink::live_frames::FRAME_MAX;
use wiretape_bench::exchange::sink::lossy::Loss;
use wiretape_bench::exchange::source::Source;
use wiretape_bench::exchange::source::itch_file::ItchFile;
use wiretape_bench::exchange::source::pcap_file::PcapFile;
use wiretape_bench::exchange::source::sim::{SimDeep, SimItch};
use wiretape_bench::flow::FlowSpec;
use wiretape_bench::flow::spec::{DAY_NS, OPENING_NS, SECOND_NS};
use wiretape_core::wire::deep10;
use wiretape_core::wire::frame::{PAYLOAD_LEN_MAX, Route};

use crate::cli::{Cli, Feed, SinkArgs};
use crate::units;

/// Where an invented exchange sends if nothing else is said.
const GROUP: &str = "239.54.12.111:26477";
/// The day of a simulated market: a Monday, far from any change of the clocks.
const SIM_DAY: Date = Date::constant(2026, 3, 2);
/// Bytes in front of a UDP payload in an IP packet.
const IP_UDP_HEADERS: usize = 28;

/// The source that the command line names.
pub fn open(cli: &Cli, interface: Option<&Interface>) -> Result<Box<dyn Source>> {
    check_loss(cli)?;
    if let Some(path) = &cli.source.pcap {
        let readdressed = cli.sink.group.is_some();
        if cli.sink.line_b.is_some() && !readdressed {
            bail!("--line-b with a capture needs --group as well: name both lines");
        }
        let routes = if readdressed { routes(&cli.sink, interface)? } else { Vec::new() };
        return Ok(Box::new(PcapFile::open(path, routes)?));
    }
    if let Some(path) = &cli.source.itch {
        let date = day_of(cli, path).unwrap_or_else(|| now_in_new_york().date());
        let stream = ItchFile::open(path, midnight_ns(date)?)?;
        return packer(cli, interface, stream);
    }
    let (spec, midnight_ns) = simulated_day(cli)?;
    match cli.sim.feed {
        Feed::Itch => packer(cli, interface, SimItch::new(&spec, midnight_ns)?),
        Feed::Deep => {
            let digits: String = cli
                .framing
                .session
                .iter()
                .filter(|c| c.is_ascii_digit())
                .map(|&c| c as char)
                .collect();
            let framing = IexTp::new(deep10::PROTOCOL, digits.parse().unwrap_or(1));
            let stream = SimDeep::new(&spec, midnight_ns)?;
            let packing = packing(cli, interface)?;
            Ok(Box::new(Packer::new(stream, framing, packing, routes(&cli.sink, interface)?)))
        }
    }
}

/// The day of an ITCH file, if anything tells it.
fn day_of(cli: &Cli, path: &Path) -> Option<Date> {
    cli.sim.date.or_else(|| date_in_name(path))
}

/// A remark where the day that is played is nobody's word.
pub fn assumed_day(cli: &Cli) -> Option<String> {
    let path = cli.source.itch.as_ref()?;
    let remark =
        "neither --date nor the name of the ITCH file tells its day: it was played as today's";
    day_of(cli, path).is_none().then(|| remark.to_owned())
}

/// Whether what is to be lost can be: a switch that does nothing would lie.
fn check_loss(cli: &Cli) -> Result<()> {
    let loss = &cli.loss;
    let by_number = !(loss.lose.is_empty() && loss.lose_a.is_empty() && loss.lose_b.is_empty());
    let recorded = cli.source.pcap.is_some();
    let deep = !recorded && cli.source.itch.is_none() && matches!(cli.sim.feed, Feed::Deep);
    if deep && (by_number || loss.rerequest.is_some()) {
        bail!("--lose and --rerequest know MoldUDP64's sequence numbers, not those of --feed deep");
    }
    if cli.glimpse.glimpse.is_some() && (deep || recorded) {
        let what = if deep { "--feed deep" } else { "a capture, which may start in the middle" };
        bail!("--glimpse serves snapshots of --itch and --sim, not of {what}");
    }
    let line_a = !loss.lose_a.is_empty() || loss.impair_a.is_some();
    if recorded && line_a && cli.sink.group.is_none() {
        bail!("--lose-a and --impair-a with a capture need --group: name the line");
    }
    Ok(())
}

/// A server of snapshots, if one is wanted.
pub fn glimpse(cli: &Cli) -> Result<Option<GlimpseServer>> {
    let Some(address) = cli.glimpse.glimpse else { return Ok(None) };
    let serving = Serving {
        login: cli.glimpse.glimpse_login.clone(),
        break_after: cli.glimpse.glimpse_break,
        rate: cli.glimpse.glimpse_rate,
    };
    let market = Market::new(cli.framing.session, cli.framing.first_sequence);
    let server = GlimpseServer::start(address, serving, market);
    server.map(Some).with_context(|| format!("cannot serve snapshots on {address}"))
}

/// The lines that misbehave, and how.
pub fn impairments(cli: &Cli) -> Vec<(SocketAddrV4, Impairment)> {
    let line_a = cli.sink.group.or_else(|| GROUP.parse().ok());
    let lines = [line_a.zip(cli.loss.impair_a), cli.sink.line_b.zip(cli.loss.impair_b)];
    lines.into_iter().flatten().collect()
}

/// What is to be lost on the way.
pub fn losses(cli: &Cli) -> Vec<Loss> {
    let line_a = cli.sink.group.or_else(|| GROUP.parse().ok());
    let on = |to, numbers: &[RangeInclusive<u64>]| Loss { to, numbers: numbers.to_vec() };
    let losses = [
        on(None, &cli.loss.lose),
        on(line_a, &cli.loss.lose_a),
        on(cli.sink.line_b, &cli.loss.lose_b),
    ];
    losses.into_iter().filter(|loss| !loss.numbers.is_empty()).collect()
}

fn packer(
    cli: &Cli,
    interface: Option<&Interface>,
    stream: impl MessageStream + 'static,
) -> Result<Box<dyn Source>> {
    let framing = MoldUdp64::new(cli.framing.session, cli.framing.first_sequence);
    let packing = packing(cli, interface)?;
    Ok(Box::new(Packer::new(stream, framing, packing, routes(&cli.sink, interface)?)))
}

/// The pace, as one of three.
pub fn pace(cli: &Cli) -> Pace {
    match cli.pace.rate {
        Some(rate) => Pace::Rate(rate),
        None => cli.pace.speed,
    }
}

fn packing(cli: &Cli, interface: Option<&Interface>) -> Result<Packing> {
    let payload_max = cli.framing.max_payload;
    let mtu = interface.map_or(usize::MAX, |interface| interface.mtu as usize);
    let limits = [
        (PAYLOAD_LEN_MAX, "a datagram"),
        (mtu.saturating_sub(IP_UDP_HEADERS), "the interface's MTU"),
        (
            if cli.sink.live_frames { FRAME_MAX - 18 - IP_UDP_HEADERS } else { usize::MAX },
            "live frames",
        ),
    ];
    if let Some((limit, whose)) = limits.iter().find(|(limit, _)| payload_max > *limit) {
        bail!("--max-payload {payload_max} is more than {whose} can take: at most {limit}");
    }
    // A second of waiting is a second on the wall, not on the feed's clock.
    let heartbeat_ns = match pace(cli) {
        Pace::Recorded(factor) => Some((SECOND_NS as f64 * factor) as u64),
        Pace::Rate(_) | Pace::Max => None,
    };
    Ok(Packing {
        payload_max,
        messages_max: cli.framing.messages_per_packet,
        window_ns: nanoseconds(cli.framing.pack_window),
        heartbeat_ns: heartbeat_ns.filter(|_| !cli.framing.no_heartbeats),
        end_packets: cli.framing.end_packets,
        lead_packets: cli.framing.lead_in,
    })
}

/// Lines A and B.
fn routes(sink: &SinkArgs, interface: Option<&Interface>) -> Result<Vec<Route>> {
    let group = match sink.group {
        Some(group) => group,
        None => units::group(GROUP).map_err(|error| anyhow!(error))?,
    };
    let own = interface.and_then(|interface| interface.address);
    let source = sink.source_ip.or(own).unwrap_or([192, 0, 2, 1].into());
    let route = |to: std::net::SocketAddrV4| {
        let port = sink.source_port.unwrap_or(to.port());
        let mut route = Route::to_group(source.octets(), to.ip().octets(), port, to.port());
        route.ttl = sink.ttl;
        route.vlan = sink.vlan;
        if let Some(interface) = interface {
            route.src_mac = interface.mac;
        }
        if !to.ip().is_multicast() {
            // Nobody is asked for the address of a single host: whoever listens takes it.
            route.dst_mac = [0xFF; 6];
        }
        route
    };
    Ok([Some(group), sink.line_b].into_iter().flatten().map(route).collect())
}

fn simulated_day(cli: &Cli) -> Result<(FlowSpec, u64)> {
    let sim = &cli.sim;
    let symbols = match sim.symbols.parse::<usize>() {
        Ok(count) => FlowSpec::invented_symbols(count.min(100_000)),
        Err(_) => sim.symbols.split(',').map(str::to_string).collect(),
    };
    let (date, open_ns) = if sim.start == "now" {
        if sim.date.is_some() {
            bail!("--date contradicts --start now");
        }
        let now = now_in_new_york();
        let since_midnight = now.time().duration_since(jiff::civil::Time::midnight());
        (now.date(), since_midnight.as_nanos() as u64 + OPENING_NS)
    } else {
        let open_ns =
            units::time_of_day(&sim.start).map_err(|error| anyhow!("--start: {error}"))?;
        (sim.date.unwrap_or(SIM_DAY), open_ns)
    };
    // Only the number of messages ends the day, if that alone was given.
    let rest_of_day_ns = DAY_NS.saturating_sub(open_ns + OPENING_NS + SECOND_NS);
    let duration_ns = match (sim.session_length, sim.messages) {
        (Some(length), _) => nanoseconds(length),
        (None, Some(_)) => rest_of_day_ns,
        (None, None) => 60 * SECOND_NS,
    };
    let spec = FlowSpec {
        seed: sim.seed,
        symbols,
        open_ns,
        duration_ns,
        messages: sim.messages,
        messages_per_second: sim.flow_rate,
        resting_orders: sim.depth,
    };
    Ok((spec, midnight_ns(date)?))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn new_york() -> Result<TimeZone> {
    TimeZone::get("America/New_York").context("no time zone data for New York")
}

fn now_in_new_york() -> jiff::civil::DateTime {
    let zone = new_york().unwrap_or(TimeZone::UTC);
    jiff::Timestamp::now().to_zoned(zone).datetime()
}

/// When a day begins in New York, UTC nanoseconds.
fn midnight_ns(date: Date) -> Result<u64> {
    let midnight = date.to_zoned(new_york()?).context("this day has no midnight")?;
    u64::try_from(midnight.timestamp().as_nanosecond())
        .with_context(|| format!("the day {date} is before 1970"))
}

/// The day in a file's name: `20190130`, `2019-01-30`, or Nasdaq's own `01302019` and, of later
/// years, `S013019-v50`.
fn date_in_name(path: &Path) -> Option<Date> {
    let name = path.file_name()?.to_str()?;
    let long = name.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 8);
    let short = || {
        let (day, _) = name.strip_prefix('S')?.split_once("-v")?;
        let (day, year) = day.split_at_checked(4).filter(|(_, year)| year.len() == 2)?;
        Some(format!("{day}20{year}"))
    };
    let parted = || {
        let mut windows = name.as_bytes().windows("2019-01-30".len());
        let digits: Vec<u8> = windows.find_map(|day| {
            let [year @ .., first, m1, m2, second, d1, d2] = day else { return None };
            let alike = first == second && b"-_.".contains(first);
            let digits: Vec<u8> = [year, &[*m1, *m2], &[*d1, *d2]].concat();
            (alike && digits.iter().all(u8::is_ascii_digit)).then_some(digits)
        })?;
        String::from_utf8(digits).ok()
    };
    let digits = long.map(str::to_owned).or_else(short).or_else(parted)?;
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i16>().ok();
    let date = |year: i16, month: i16, day: i16| {
        let known = (1990..2100).contains(&year);
        Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok().filter(|_| known)
    };
    date(number(0..4)?, number(4..6)?, number(6..8)?)
        .or_else(|| date(number(4..8)?, number(0..2)?, number(2..4)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_found_in_names() {
        let found = |name: &str| date_in_name(Path::new(name)).map(|date| date.to_string());
        assert_eq!(found("/data/nasdaq-20120621-aapl.itch.gz").as_deref(), Some("2012-06-21"));
        assert_eq!(found("01302019.NASDAQ_ITCH50").as_deref(), Some("2019-01-30"));
        assert_eq!(found("S081321-v50.txt.gz").as_deref(), Some("2021-08-13"));
        assert_eq!(found("S013019-v50-bx.txt.gz").as_deref(), Some("2019-01-30"));
        assert_eq!(found("itch-2019-01-30.bin").as_deref(), Some("2019-01-30"));
        assert_eq!(found("2019_01_30.itch.gz").as_deref(), Some("2019-01-30"));
        assert_eq!(found("2019-01_30.itch"), None);
        assert_eq!(found("S0813xy-v50.txt"), None);
        assert_eq!(found("S131321-v50.txt"), None);
        assert_eq!(found("day.itch"), None);
        assert_eq!(found("99999999.itch"), None);
    }

    #[test]
    fn midnight_follows_the_clocks_of_new_york() {
        let hours = |date| midnight_ns(date).unwrap() / (3_600 * SECOND_NS) % 24;
        assert_eq!(hours(SIM_DAY), 5, "winter");
        assert_eq!(hours(Date::constant(2012, 6, 21)), 4, "summer");
    }
}
