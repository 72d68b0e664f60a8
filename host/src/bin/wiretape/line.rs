//! An event as a line for people, or as a JSON object.

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::fmt::Write;
use wiretape_core::event::{
    AuctionMsg, BreakMsg, Event, GapMsg, MboMsg, NO_INSTRUMENT, SessionMsg, StatusMsg, SymbolMsg,
    UNDEF_PRICE, action, flags, gap_reason, rtype, session_change, status_action,
};
use wiretape_host::ingest::symbol_text;
use wiretape_host::result::text::{self, TimeStyle};

/// Appends one line (with its end) to `out`: time, symbol, what happened.
pub fn human(event: &Event, symbol: &str, zone: &TimeZone, out: &mut String) {
    text::time(event.header().ts_event as i64, zone, TimeStyle::Plain, out);
    let _ = write!(out, "  {symbol:<8}  ");
    what(event, out);
    out.push('\n');
}

fn what(event: &Event, out: &mut String) {
    // Writing to a string cannot fail.
    let known = match event.rtype() {
        rtype::MBO => event.mbo().map(|record| mbo(&record, out)),
        rtype::STATUS => event.get::<StatusMsg>().map(|record| {
            let code = printable(record.venue_code);
            let _ = write!(out, "status  {} ({code})", status_name(record.action));
        }),
        rtype::SYMBOL => event.get::<SymbolMsg>().map(|record| {
            let _ = write!(out, "symbol  instrument {}", record.hd.instrument_id);
            if record.round_lot > 0 {
                let _ = write!(out, ", round lot {}", record.round_lot);
            }
        }),
        rtype::GAP => event.get::<GapMsg>().map(|record| {
            let lost = record.end_seq.wrapping_sub(record.first_seq);
            let _ = write!(
                out,
                "GAP     feed {} session {}: {lost} messages lost, {} through {} ({})",
                record.feed,
                symbol_text(&record.session),
                record.first_seq,
                record.end_seq.wrapping_sub(1),
                gap_name(record.reason),
            );
        }),
        rtype::SESSION => event.get::<SessionMsg>().map(|record| {
            let _ = write!(
                out,
                "session feed {} session {}: {}, next message {}",
                record.feed,
                symbol_text(&record.session),
                change_name(record.change),
                record.next_seq
            );
        }),
        rtype::BREAK => event.get::<BreakMsg>().map(|record| {
            let _ = write!(out, "break   trade {} was broken", record.match_id);
        }),
        rtype::AUCTION => event.get::<AuctionMsg>().map(|record| {
            let _ = write!(out, "auction {} paired, ", record.paired);
            let _ = write!(out, "{} {} imbalance, ref ", record.imbalance, printable(record.side));
            price(record.ref_price, out);
        }),
        _ => None,
    };
    if known.is_none() {
        let _ = write!(out, "record of unknown type 0x{:02x}", event.rtype());
    }
}

fn mbo(record: &MboMsg, out: &mut String) {
    let name = action_name(record.action);
    let side = match record.side {
        b'B' => "bid",
        b'A' => "ask",
        _ => "",
    };
    let _ = write!(out, "{name:<7} {side:<3} {:>7} @ ", record.size);
    price(record.price, out);
    if record.order_id != 0 {
        let _ = write!(out, "  order {}", record.order_id);
    }
    for (bits, name) in FLAG_NAMES {
        if record.flags & bits == bits && bits != flags::LAST {
            let _ = write!(out, "  {name}");
        }
    }
}

const FLAG_NAMES: [(u8, &str); 7] = [
    (flags::LAST, "last"),
    (flags::TOB, "top_of_book"),
    (flags::SNAPSHOT, "snapshot"),
    (flags::MBP, "level"),
    (flags::BAD_TS_RECV, "bad_ts_recv"),
    (flags::MAYBE_BAD_BOOK, "maybe_bad_book"),
    (flags::UNPRINTABLE, "unprintable"),
];

fn price(value: i64, out: &mut String) {
    if value == UNDEF_PRICE {
        out.push('-');
    } else {
        text::price(value, out);
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '-' }
}

fn action_name(letter: u8) -> &'static str {
    match letter {
        action::ADD => "add",
        action::CANCEL => "cancel",
        action::MODIFY => "modify",
        action::CLEAR => "clear",
        action::TRADE => "TRADE",
        action::FILL => "fill",
        action::NONE => "none",
        _ => "?",
    }
}

fn status_name(action: u16) -> &'static str {
    match action {
        status_action::NONE => "no change",
        status_action::PRE_OPEN => "pre-open",
        status_action::QUOTING => "quoting",
        status_action::TRADING => "trading",
        status_action::HALT => "halted",
        status_action::PAUSE => "paused",
        status_action::POST_CLOSE => "post-close",
        status_action::CLOSE => "closed",
        status_action::SSR_CHANGE => "short sale restriction changed",
        status_action::NOT_AVAILABLE => "not available",
        _ => "other",
    }
}

fn gap_name(reason: u8) -> &'static str {
    match reason {
        gap_reason::SEQUENCE_JUMP => "the numbers jumped",
        gap_reason::HEARTBEAT => "a heartbeat told",
        gap_reason::LATE_JOIN => "sent before capture joined",
        _ => "other",
    }
}

fn change_name(change: u8) -> &'static str {
    match change {
        session_change::START => "started",
        session_change::RESTART => "started over",
        session_change::NEW_SESSION => "took over",
        session_change::END => "ended",
        session_change::SNAPSHOT => "goes on from a snapshot",
        session_change::REMOVED => "was removed",
        _ => "changed",
    }
}

/// The event as a JSON object, prices as text: exact.
pub fn as_json(event: &Event, sequence: u64, symbol: &str, zone: &TimeZone) -> Value {
    let header = event.header();
    let time = |time: u64| {
        let mut out = String::new();
        text::time(time as i64, zone, TimeStyle::Offset, &mut out);
        out
    };
    let mut object = json!({
        "sequence": sequence,
        "ts_event": time(header.ts_event),
        "ts_recv": time(event.ts_recv()),
        "type": type_name(header.rtype),
    });
    if header.instrument_id != NO_INSTRUMENT {
        object["instrument_id"] = header.instrument_id.into();
        object["symbol"] = symbol.into();
    }
    match detail(event) {
        Some(Value::Object(fields)) => {
            for (name, value) in fields {
                object[name] = value;
            }
        }
        _ => object["rtype"] = header.rtype.into(),
    }
    object
}

fn type_name(kind: u8) -> &'static str {
    match kind {
        rtype::MBO => "mbo",
        rtype::STATUS => "status",
        rtype::SYMBOL => "symbol",
        rtype::GAP => "gap",
        rtype::SESSION => "session",
        rtype::BREAK => "break",
        rtype::AUCTION => "auction",
        _ => "unknown",
    }
}

fn json_price(value: i64) -> Value {
    if value == UNDEF_PRICE {
        return Value::Null;
    }
    let mut out = String::new();
    text::price(value, &mut out);
    // As text: a float would not hold every price.
    Value::String(out)
}

fn letter(byte: u8) -> Value {
    printable(byte).to_string().into()
}

fn detail(event: &Event) -> Option<Value> {
    Some(match event.rtype() {
        rtype::MBO => {
            let r = event.mbo()?;
            let set =
                FLAG_NAMES.iter().filter(|(bits, _)| r.flags & bits == *bits).map(|flag| flag.1);
            json!({
                "action": letter(r.action), "side": letter(r.side), "price": json_price(r.price),
                "size": r.size, "order_id": r.order_id, "flags": set.collect::<Vec<_>>(),
                "feed": r.channel_id, "venue_sequence": r.sequence, "ts_in_delta": r.ts_in_delta,
            })
        }
        rtype::STATUS => {
            let r = event.get::<StatusMsg>()?;
            json!({
                "action": status_name(r.action), "is_trading": letter(r.is_trading),
                "venue_type": letter(r.venue_type), "venue_code": letter(r.venue_code),
            })
        }
        rtype::SYMBOL => {
            let r = event.get::<SymbolMsg>()?;
            json!({ "round_lot": r.round_lot, "feed": r.feed })
        }
        rtype::GAP => {
            let r = event.get::<GapMsg>()?;
            json!({
                "feed": r.feed, "session": symbol_text(&r.session), "first_seq": r.first_seq,
                "end_seq": r.end_seq, "reason": gap_name(r.reason),
            })
        }
        rtype::SESSION => {
            let r = event.get::<SessionMsg>()?;
            json!({
                "feed": r.feed, "session": symbol_text(&r.session), "next_seq": r.next_seq,
                "previous_next_seq": r.previous_next_seq, "change": change_name(r.change),
            })
        }
        rtype::BREAK => {
            let r = event.get::<BreakMsg>()?;
            json!({ "match_id": r.match_id, "price": json_price(r.price), "size": r.size })
        }
        rtype::AUCTION => {
            let r = event.get::<AuctionMsg>()?;
            json!({
                "paired": r.paired, "imbalance": r.imbalance, "side": letter(r.side),
                "ref_price": json_price(r.ref_price),
                "indicative_price": json_price(r.indicative_price),
            })
        }
        _ => return None,
    })
}
