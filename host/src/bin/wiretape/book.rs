//! `wiretape book`.

use crate::failure::Failure;
use crate::instant::parse_zone;
use crate::segments::standing;
use crate::source::Source;
use crate::terminal::{counted, grouped};
use clap::Args;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::process::ExitCode;
use wiretape_core::event::UNDEF_PRICE;
use wiretape_core::segment::{DepthEntry, DepthLevel, FeedState, MarketEntry, SegmentView, health};
use wiretape_host::reader::{Liveness, Segment};
use wiretape_host::result::text::{self, TimeStyle};

/// Show best bid and offer and the last trade of instruments, as of now.
///
/// Read from the market table, which capture keeps beside the events: one look, no history.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape book AAPL AMZN
  wiretape book AAPL --depth          ten levels and features, of instruments chosen for it
  wiretape book AAPL --json")]
pub struct BookArguments {
    /// Symbols.
    #[arg(required = true)]
    symbols: Vec<String>,
    #[command(flatten)]
    source: Source,
    /// Also ten levels of each side and features. Capture keeps them for the instruments that are
    /// named in a feed's `depth`.
    #[arg(long)]
    depth: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Time zone of the times printed.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = parse_zone)]
    tz: TimeZone,
}

/// Runs the command.
pub fn run(arguments: &BookArguments) -> Result<ExitCode, Failure> {
    let mut out = stdout().lock();
    let mut missing: Vec<&str> = arguments.symbols.iter().map(String::as_str).collect();
    let mut unreadable = None;
    for path in arguments.source.all()? {
        let segment = match Segment::attach(&path) {
            Ok(segment) => segment,
            Err(error) => {
                unreadable = Some(error);
                continue;
            }
        };
        let Some(view) = segment.view() else { continue };
        let liveness = segment.liveness();
        for (id, entry) in view.symbols().iter() {
            let symbol = entry.symbol();
            if !arguments.symbols.iter().any(|wanted| wanted == symbol) {
                continue;
            }
            missing.retain(|wanted| *wanted != symbol);
            let market = view.market().read(id).map_err(|error| {
                Failure::Told(format!("cannot read {symbol} in {}: {error}", path.display()))
            })?;
            let mut market = market.unwrap_or(MarketEntry::EMPTY);
            let worker = view.header().worker();
            let feed = view.feed(usize::from(entry.feed));
            // The entry itself says it with its next update only.
            let session = feed.as_ref().and_then(|feed| feed.session().ok());
            let lost = session.is_some_and(|session| session.maybe_bad_book);
            let maybe_bad = if lost { health::MAYBE_BAD } else { 0 };
            market.health |= maybe_bad;
            let gone = feed.is_some_and(|feed| feed.state() == FeedState::Removed);
            let mut depth = match arguments.depth {
                true => depth_of(&view, id, symbol)?,
                false => None,
            };
            if let Some(depth) = &mut depth {
                depth.health |= maybe_bad;
            }
            if arguments.json {
                let mut object = as_json(&market, symbol, &worker, &arguments.tz);
                object["feed_removed"] = gone.into();
                object["state"] = standing(&segment).into();
                if arguments.depth {
                    object["depth"] = depth.as_ref().map_or(Value::Null, depth_as_json);
                }
                writeln!(out, "{object}")?;
                continue;
            }
            print(&mut out, &market, symbol, &worker, &arguments.tz)?;
            match liveness {
                Liveness::Live => {}
                Liveness::Over(_) => {
                    writeln!(out, "  the worker has ended: this is how it stood then")?;
                }
                Liveness::Silent(_) => {
                    let dead = standing(&segment);
                    writeln!(out, "  CAUTION: the worker is {dead}: this is how it stood then")?;
                }
            }
            if gone {
                writeln!(out, "  CAUTION: its feed was removed, this is how it stood then")?;
            }
            match &depth {
                Some(depth) => print_depth(&mut out, depth)?,
                None if arguments.depth && gone => {
                    writeln!(
                        out,
                        "  no depth: what was there of it has made room for another feed"
                    )?;
                }
                None if arguments.depth => {
                    writeln!(out, "  no depth: name {symbol} in `depth` of its [[feed]]")?;
                }
                None => {}
            }
        }
    }
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(error) = unreadable {
        return Err(error.into());
    }
    Err(Failure::Told(format!(
        "{} not announced by any worker: symbols are spelled as the exchange does, and appear \
         once it has sent its directory",
        missing.join(", ")
    )))
}

fn depth_of(view: &SegmentView<'_>, id: u32, symbol: &str) -> Result<Option<DepthEntry>, Failure> {
    let table = view.depth();
    let Some(place) = table.place_of(id) else { return Ok(None) };
    let entry = table
        .read(place)
        .map_err(|error| Failure::Told(format!("cannot read the depth of {symbol}: {error}")))?;
    // The place may have become another instrument's between the two looks.
    Ok(entry.filter(|entry| entry.instrument == id))
}

fn print_depth(out: &mut impl Write, depth: &DepthEntry) -> std::io::Result<()> {
    for (bid, ask) in depth.bids.iter().zip(&depth.asks) {
        if !bid.is_some() && !ask.is_some() {
            break;
        }
        let side = |level: &DepthLevel| match level.is_some() {
            true => (level.orders.to_string(), level.size.to_string(), price(level.price)),
            false => Default::default(),
        };
        let (bid, ask) = (side(bid), side(ask));
        let (bids, asks) = (
            format!("{:>6} {:>9} {:>11}", bid.0, bid.1, bid.2),
            format!("{:<11} {:<9} {:<6}", ask.2, ask.1, ask.0),
        );
        writeln!(out, "  {bids} | {}", asks.trim_end())?;
    }
    let f = &depth.features;
    let millionths = |value: f64| value / 1e6;
    writeln!(
        out,
        "  spread {}, mid {}, microprice {}",
        price(f.spread),
        price(f.mid),
        price(f.microprice)
    )?;
    writeln!(
        out,
        "  imbalance {:+.3} {:+.3} {:+.3} (1, 5, 10 levels), order flow {:+}, {:.2} trades/s",
        millionths(f.imbalance_1.into()),
        millionths(f.imbalance_5.into()),
        millionths(f.imbalance_10.into()),
        f.order_flow,
        millionths(f.trade_intensity as f64)
    )
}

fn depth_as_json(depth: &DepthEntry) -> Value {
    let price = |value: i64| match value {
        UNDEF_PRICE => Value::Null,
        value => price(value).into(),
    };
    let side = |levels: &[DepthLevel]| -> Vec<Value> {
        let there = levels.iter().filter(|level| level.is_some());
        there
            .map(|l| json!({"price": price(l.price), "size": l.size, "orders": l.orders}))
            .collect()
    };
    let f = &depth.features;
    let millionths = |value: i64| value as f64 / 1e6;
    json!({
        "sequence": depth.event_seq, "bids": side(&depth.bids), "asks": side(&depth.asks),
        "spread": price(f.spread), "mid": price(f.mid), "microprice": price(f.microprice),
        "imbalance_1": millionths(f.imbalance_1.into()),
        "imbalance_5": millionths(f.imbalance_5.into()),
        "imbalance_10": millionths(f.imbalance_10.into()),
        "order_flow": f.order_flow, "trades_per_second": f.trade_intensity as f64 / 1e6,
        "warnings": warnings(depth.health),
    })
}

fn price(value: i64) -> String {
    let mut out = String::new();
    match value {
        UNDEF_PRICE => out.push('-'),
        value => text::price(value, &mut out),
    }
    out
}

fn moment(time: u64, zone: &TimeZone, style: TimeStyle) -> String {
    let mut out = String::new();
    text::time(time as i64, zone, style, &mut out);
    out
}

fn print(
    out: &mut impl Write,
    m: &MarketEntry,
    symbol: &str,
    worker: &str,
    zone: &TimeZone,
) -> std::io::Result<()> {
    if m.event_seq == 0 {
        writeln!(out, "{symbol} ({worker}): announced, nothing traded or quoted yet")?;
    } else {
        print_state(out, m, symbol, worker, zone)?;
    }
    for warning in warnings(m.health) {
        writeln!(out, "  CAUTION: {warning}")?;
    }
    Ok(())
}

fn print_state(
    out: &mut impl Write,
    m: &MarketEntry,
    symbol: &str,
    worker: &str,
    zone: &TimeZone,
) -> std::io::Result<()> {
    writeln!(out, "{symbol} ({worker}) at {}", moment(m.ts_event, zone, TimeStyle::Plain))?;
    let bid = format!("{} x {}", m.bid_sz, price(m.bid_px));
    let ask = format!("{} x {}", price(m.ask_px), m.ask_sz);
    let ask_ct = counted(m.ask_ct.into(), "order");
    writeln!(out, "  bid {bid:>20} | {ask:<20} ask   ({} and {ask_ct})", m.bid_ct)?;
    let (volume, trades) = (grouped(m.volume), counted(m.trades, "trade"));
    writeln!(out, "  last {} x {}, {volume} in {trades}", price(m.last_px), m.last_sz)?;
    let status = if m.status.is_ascii_graphic() { char::from(m.status) } else { '-' };
    writeln!(out, "  status {status}, {} orders or levels in the book", grouped(m.orders))
}

fn warnings(bits: u8) -> Vec<&'static str> {
    let mut warnings = Vec::new();
    if bits & health::MAYBE_BAD != 0 {
        warnings.push("messages were lost, the book may be wrong");
    }
    if bits & health::BOOK_ERROR != 0 {
        warnings.push("a message could not be applied to this book");
    }
    if bits & health::UNDIRECTED != 0 {
        warnings.push("no directory message announced this instrument");
    }
    warnings
}

fn as_json(m: &MarketEntry, symbol: &str, worker: &str, zone: &TimeZone) -> Value {
    let price = |value: i64| match value {
        UNDEF_PRICE => Value::Null,
        value => price(value).into(),
    };
    json!({
        "symbol": symbol, "worker": worker, "sequence": m.event_seq,
        "ts_event": moment(m.ts_event, zone, TimeStyle::Offset),
        "ts_recv": moment(m.ts_recv, zone, TimeStyle::Offset),
        "bid_price": price(m.bid_px), "bid_size": m.bid_sz, "bid_count": m.bid_ct,
        "ask_price": price(m.ask_px), "ask_size": m.ask_sz, "ask_count": m.ask_ct,
        "last_price": price(m.last_px), "last_size": m.last_sz,
        "volume": m.volume, "trades": m.trades, "orders": m.orders,
        "status": if m.status == 0 { Value::Null } else { char::from(m.status).to_string().into() },
        "warnings": warnings(m.health),
    })
}
