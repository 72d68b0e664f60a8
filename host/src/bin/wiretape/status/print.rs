//! Status for people.

use super::look::{FeedLook, LineLook, Look, QueueLook, type_name};
use crate::terminal::{Tone, counted, grouped, tinted};
use std::io::{self, Write};
use wiretape_core::event::UNDEF_PRICE;
use wiretape_core::segment::{Counter, FeedCounter, FeedGauge, LedgerRow, LineCounter};
use wiretape_host::result::text;

/// Prints a worker.
pub fn print(out: &mut impl Write, look: &Look, coloured: bool) -> io::Result<()> {
    let tone = if look.over { Tone::Notable } else { Tone::Good };
    let worker = tinted(&look.worker, Tone::Heading, coloured);
    let standing = tinted(&look.standing, tone, coloured);
    writeln!(out, "worker {worker}: {standing}, {}", look.source)?;
    let age_ms = look.heartbeat_age_ns / 1_000_000;
    let (epoch, pid) = (look.epoch, look.pid);
    writeln!(out, "  epoch {epoch}, pid {pid}, last sign of life {} ms ago", grouped(age_ms))?;
    let (frames, events) = (look.counter(Counter::Frames), look.counter(Counter::Events));
    writeln!(
        out,
        "  {} ({}/s), {} ({}/s), ring holds {} of them",
        counted(frames, "packet"),
        grouped(look.frames_per_s.round() as u64),
        counted(events, "event"),
        grouped(look.events_per_s.round() as u64),
        grouped(look.head.min(look.ring)),
    )?;
    if let Some([p50, p99, p999, max]) = look.latency_ns {
        let [p50, p99, p999, max] = [p50, p99, p999, max].map(grouped);
        writeln!(out, "  received to published: p50 {p50} ns, p99 {p99}, p99.9 {p999}, max {max}")?;
    }
    print_stamps(out, look, coloured)?;
    for feed in &look.feeds {
        print_feed(out, feed, coloured)?;
    }
    print_market(out, look, coloured)?;
    print_ledger(out, look, coloured)
}

/// What receive times were taken from, where the NIC is asked.
fn print_stamps(out: &mut impl Write, look: &Look, coloured: bool) -> io::Result<()> {
    let of = |counter| look.counter(counter);
    let (stamped, unstamped) = (of(Counter::NicStamped), of(Counter::NicUnstamped));
    let refused = of(Counter::NicRefused);
    if [stamped, unstamped, refused] == [0; 3] {
        return Ok(());
    }
    write!(out, "  receive times: {} of the NIC", grouped(stamped))?;
    if unstamped > 0 {
        let text = format!("{} of the host, since the NIC had none", grouped(unstamped));
        write!(out, ", {}", tinted(&text, Tone::Notable, coloured))?;
    }
    if refused > 0 {
        let text = format!(
            "{} of the host, since the NIC's clock is not near it (see phc_ctl)",
            grouped(refused)
        );
        write!(out, ", {}", tinted(&text, Tone::Bad, coloured))?;
    }
    writeln!(out)
}

fn print_feed(out: &mut impl Write, feed: &FeedLook, coloured: bool) -> io::Result<()> {
    let name = tinted(feed.identity.name.as_str(), Tone::Heading, coloured);
    let group = std::net::Ipv4Addr::from(feed.identity.group);
    let (protocol, port) = (feed.identity.protocol.as_str(), feed.identity.port);
    let removed = match feed.removed {
        true => format!(", {}", tinted("removed from the worker", Tone::Notable, coloured)),
        false => String::new(),
    };
    writeln!(out, "  feed {name} ({protocol}, {group}:{port}){removed}")?;
    let count = |counter| grouped(feed.counter(counter));
    let counts = |counter, of| counted(feed.counter(counter), of);
    let session = match feed.session_name() {
        name if name.is_empty() && feed.session.joining => "no session joined yet".to_owned(),
        name if name.is_empty() => "no packet yet".to_owned(),
        name => format!("session {name}, next message {}", grouped(feed.session.next_seq)),
    };
    let ended = if feed.session.ended { ", ended" } else { "" };
    writeln!(
        out,
        "    {session}{ended}; {}, {}",
        counts(FeedCounter::Restarts, "restart"),
        counts(FeedCounter::NewSessions, "new session"),
    )?;
    let (gaps, lost) = (feed.counter(FeedCounter::Gaps), feed.counter(FeedCounter::LostMessages));
    let text = match gaps {
        0 => tinted("no gap", Tone::Good, coloured),
        _ => {
            let text = format!("{}, {} lost", counted(gaps, "gap"), counted(lost, "message"));
            tinted(&text, Tone::Bad, coloured)
        }
    };
    let late = match feed.counter(FeedCounter::JoinedLateMessages) {
        0 => String::new(),
        late => format!(" ({} sent before capture joined)", grouped(late)),
    };
    writeln!(
        out,
        "    {}, {}, {}, {}; {text}{late}",
        counts(FeedCounter::Packets, "packet"),
        counts(FeedCounter::Messages, "message"),
        counts(FeedCounter::Heartbeats, "heartbeat"),
        counts(FeedCounter::DuplicatePackets, "duplicate"),
    )?;
    for (name, line) in ["A", "B", "recovery"].iter().zip(&feed.lines) {
        print_line(out, name, line, feed, coloured)?;
    }
    print_books(out, feed, coloured)?;
    let worrying = [
        FeedCounter::WindowFull,
        FeedCounter::MalformedPackets,
        FeedCounter::UnknownMessages,
        FeedCounter::BadMessages,
        FeedCounter::BookErrors,
        FeedCounter::Undirected,
        FeedCounter::StaleMessages,
    ];
    for counter in worrying {
        let value = feed.counter(counter);
        if value > 0 {
            let text = format!("{} {}", grouped(value), counter.name());
            let causes = match counter {
                FeedCounter::MalformedPackets => &feed.packet_causes[..],
                FeedCounter::BookErrors => &feed.book_causes[..],
                _ => &[],
            };
            let causes: Vec<String> =
                causes.iter().map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
            let what =
                if causes.is_empty() { counter.help().to_owned() } else { causes.join(", ") };
            writeln!(out, "    {}: {what}", tinted(&text, Tone::Notable, coloured))?;
        }
    }
    let (taken, failed) = (count(FeedCounter::Snapshots), count(FeedCounter::SnapshotsFailed));
    if feed.session.joining {
        let text = "packets wait for a snapshot that is being fetched";
        writeln!(out, "    {}", tinted(text, Tone::Notable, coloured))?;
    } else if taken != "0" || failed != "0" {
        writeln!(
            out,
            "    {} taken ({}), {failed} not to be had; {} waited",
            counts(FeedCounter::Snapshots, "snapshot"),
            counts(FeedCounter::SnapshotMessages, "message"),
            counts(FeedCounter::SnapshotHeldPackets, "packet"),
        )?;
    }
    if feed.session.maybe_bad_book && !feed.session.joining {
        let text = "books may be wrong since a loss, until a snapshot or a new session";
        writeln!(out, "    {}", tinted(text, Tone::Notable, coloured))?;
    }
    let types: Vec<String> = feed
        .types
        .iter()
        .map(|(kind, count)| format!("{} {}", type_name(*kind), grouped(*count)))
        .collect();
    if !types.is_empty() {
        writeln!(out, "    messages by type: {}", types.join(", "))?;
    }
    Ok(())
}

/// How full the books' memory is; notable once four fifths were ever in use, or depth had no room.
fn print_books(out: &mut impl Write, feed: &FeedLook, coloured: bool) -> io::Result<()> {
    let kinds = [
        ("order", FeedGauge::Orders, FeedGauge::OrdersPeak, FeedGauge::OrdersCapacity),
        ("level", FeedGauge::Levels, FeedGauge::LevelsPeak, FeedGauge::LevelsCapacity),
    ];
    let mut parts = Vec::new();
    for (name, now, peak, capacity) in kinds {
        let [now, peak, capacity] = [now, peak, capacity].map(|gauge| feed.gauge(gauge));
        if capacity > 0 {
            let text = format!(
                "{} (most {}, room for {})",
                counted(now, name),
                grouped(peak),
                grouped(capacity)
            );
            let full = peak.saturating_mul(5) >= capacity.saturating_mul(4);
            parts.push(if full { tinted(&text, Tone::Notable, coloured) } else { text });
        }
    }
    let room = feed.gauge(FeedGauge::DepthsCapacity);
    if room > 0 && !feed.removed {
        let text = format!(
            "depth of {} (room for {})",
            grouped(feed.gauge(FeedGauge::Depths)),
            grouped(room)
        );
        let full = feed.counter(FeedCounter::DepthsFull) > 0;
        parts.push(if full { tinted(&text, Tone::Notable, coloured) } else { text });
    }
    if !parts.is_empty() {
        writeln!(out, "    books: {}", parts.join(", "))?;
    }
    Ok(())
}

/// A line of a feed that has several, or servers to ask.
fn print_line(
    out: &mut impl Write,
    name: &str,
    line: &LineLook,
    feed: &FeedLook,
    coloured: bool,
) -> io::Result<()> {
    let count = |counter| grouped(line.counter(counter));
    let counts = |counter, of| counted(line.counter(counter), of);
    if line.address.1 == 0 {
        return writeln!(
            out,
            "    recovery: {} asked for, {} taken, {} too late; {}, {}, {}",
            counted(feed.counter(FeedCounter::RequestedMessages), "message"),
            count(LineCounter::Taken),
            count(LineCounter::Stale),
            counted(feed.counter(FeedCounter::RecoveryRequests), "request"),
            counted(feed.counter(FeedCounter::RecoveryAnswers), "answer"),
            counted(feed.counter(FeedCounter::RecoveryTimeouts), "timeout"),
        );
    }
    let address = std::net::Ipv4Addr::from(line.address.0);
    let lost = match line.lost {
        0 => tinted("nothing lost", Tone::Good, coloured),
        lost => tinted(&format!("{} lost", counted(lost, "message")), Tone::Notable, coloured),
    };
    let late = match line.late_ns {
        Some([packets, p50, p99, max]) => format!(
            "; later in {}: p50 {} ns, p99 {}, max {}",
            counted(packets, "packet"),
            grouped(p50),
            grouped(p99),
            grouped(max)
        ),
        None => String::new(),
    };
    writeln!(
        out,
        "    line {name} ({address}:{}): {}, {}, {} taken, {lost}, {} out of order, {} twice{late}",
        line.address.1,
        counts(LineCounter::Packets, "packet"),
        counts(LineCounter::Messages, "message"),
        count(LineCounter::Taken),
        count(LineCounter::Filled),
        count(LineCounter::Duplicates),
    )
}

fn print_market(out: &mut impl Write, look: &Look, coloured: bool) -> io::Result<()> {
    let market = &look.market;
    writeln!(
        out,
        "  market: {}, {} quoted, {} traded; {} in {}",
        counted(market.announced as u64, "instrument"),
        grouped(market.quoted as u64),
        grouped(market.traded as u64),
        counted(market.volume, "share"),
        counted(market.trades, "trade"),
    )?;
    let beyond = look.counter(Counter::InstrumentsFull);
    if beyond > 0 {
        let text = format!(
            "{} of instruments that there is no room for, not used: raise `instruments`",
            counted(beyond, "message")
        );
        writeln!(out, "    {}", tinted(&text, Tone::Bad, coloured))?;
    }
    if market.doubtful > 0 {
        let text = format!("books that may be wrong: {}", grouped(market.doubtful as u64));
        writeln!(out, "    {}", tinted(&text, Tone::Notable, coloured))?;
    }
    let price = |value: i64| {
        let mut out = String::new();
        match value {
            UNDEF_PRICE => out.push('-'),
            value => text::price(value, &mut out),
        }
        out
    };
    for (symbol, m) in &market.busiest {
        let bid = format!("{} x {}", m.bid_sz, price(m.bid_px));
        let ask = format!("{} x {}", price(m.ask_px), m.ask_sz);
        let last = format!("{} x {}", price(m.last_px), m.last_sz);
        let trades = grouped(m.trades);
        writeln!(out, "    {symbol:<8} {bid:>18} | {ask:<18} last {last:<18} {trades:>9} trades")?;
    }
    Ok(())
}

/// Each queue's part of the ledger, a row each.
fn print_queues(out: &mut impl Write, queues: &[QueueLook]) -> io::Result<()> {
    writeln!(
        out,
        "    {:<22} {:>14} {:>14} {:>14} {:>12} {:>12} {:>12}",
        "by queue", "seen", "redirected", "taken", "ring full", "dropped", "unaccounted"
    )?;
    for queue in queues {
        let name = format!("{} queue {}", queue.identity.interface, queue.identity.queue);
        let count = |counter| grouped(queue.counter(counter));
        writeln!(
            out,
            "    {name:<22} {:>14} {:>14} {:>14} {:>12} {:>12} {:>12}",
            count(Counter::XdpSeen),
            count(Counter::XdpRedirected),
            count(Counter::Frames),
            count(Counter::SocketRingFull),
            count(Counter::SocketDropped),
            queue.unaccounted,
        )?;
    }
    Ok(())
}

fn print_ledger(out: &mut impl Write, look: &Look, coloured: bool) -> io::Result<()> {
    let ledger = &look.ledger;
    let verdict = |unaccounted: i64| match unaccounted {
        0 => tinted("closes", Tone::Good, coloured),
        // Capture copies the XDP program's counters ten times a second, the others are live: while
        // packets move, the sums differ by what came in between.
        n if !look.over && look.frames_per_s > 0.0 => {
            let text = format!("open by {n} while packets move; ask again when they rest");
            tinted(&text, Tone::Notable, coloured)
        }
        n => {
            let text = format!("does NOT close; packets unaccounted: {n}");
            tinted(&text, Tone::Bad, coloured)
        }
    };
    writeln!(out, "  ledger")?;
    let line = |out: &mut dyn Write, text: &str, packets: u64| {
        writeln!(out, "    {text:<34} {:>14}", grouped(packets))
    };
    let row = |row: &LedgerRow| (row.counter.name().replace('_', " "), row.packets);
    if let (Some(seen), Some(redirected)) = (ledger.seen, ledger.redirected) {
        line(out, "seen by the XDP program", seen)?;
        for one in &ledger.verdicts {
            let (name, packets) = row(one);
            line(out, &format!("  {name}"), packets)?;
        }
        writeln!(out, "    {}", verdict(ledger.unaccounted_verdicts()))?;
        line(out, "redirected to the worker", redirected)?;
        for one in &ledger.arrivals {
            let (name, packets) = row(one);
            line(out, &format!("  {name}"), packets)?;
        }
        writeln!(out, "    {}", verdict(ledger.unaccounted_arrivals()))?;
    }
    line(out, "taken by the worker", look.counter(Counter::Frames))?;
    for one in &ledger.outcomes {
        let (name, packets) = row(one);
        if packets > 0 || one.counter == Counter::Datagrams {
            line(out, &format!("  {name}"), packets)?;
        }
    }
    writeln!(out, "    {}", verdict(ledger.unaccounted_outcomes()))?;
    // One queue's part is the whole.
    if look.queues.len() > 1 {
        print_queues(out, &look.queues)?;
    }
    let unserved = look.counter(Counter::XdpUnserved);
    if unserved > 0 {
        let text = format!(
            "{} of steered groups came on other queues, where no socket was (xdp unserved)",
            counted(unserved, "packet")
        );
        writeln!(out, "    {}", tinted(&text, Tone::Bad, coloured))?;
    }
    let lost = ledger.lost();
    if lost > 0 {
        let text = format!("{} dropped on the way in", counted(lost, "packet"));
        writeln!(out, "    {}", tinted(&text, Tone::Bad, coloured))?;
    }
    if look.counter(Counter::SourceCut) > 0 {
        let text = "the capture file ends inside a record, which was not used";
        writeln!(out, "    {}", tinted(text, Tone::Notable, coloured))?;
    }
    Ok(())
}
