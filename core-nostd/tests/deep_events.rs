//! Events of IEX DEEP that are not told as a whole: some of their messages are not what the book
//! takes, or none says that the event is over. Who waits for the end is told of it, and sees the book
//! as it is then.

mod deep_worker;
mod real_data;

use std::collections::BTreeMap;

use deep_worker::{MIDNIGHT, SPEC, as_frame, frame, level, trade, with_worker};
use wiretape_core::event::{MboMsg, SymbolMsg, UNDEF_PRICE, action, flags};
use wiretape_core::segment::{FeedCounter, SegmentSpec, health};
use wiretape_core::wire::deep10::{EVENT_COMPLETE, PROTOCOL};
use wiretape_core::wire::iextp::Stream;
use zerocopy::IntoBytes;

fn bid(event_flags: u8, size: u32, price: i64) -> Vec<u8> {
    level(0, b"TEST    ", event_flags, size, price)
}

/// Instrument, action, and whether it is the last of its event.
type Mark = (u32, char, bool);

fn marks(told: &[(u64, MboMsg)]) -> Vec<Mark> {
    let mark = |(_, record): &(u64, MboMsg)| {
        let last = record.flags & flags::LAST != 0;
        (record.hd.instrument_id, char::from(record.action), last)
    };
    told.iter().map(mark).collect()
}

#[test]
fn an_event_whose_last_message_is_refused_ends_all_the_same() {
    with_worker(&SPEC, |mut worker| {
        let mut stream = Stream::new(PROTOCOL, 1, 77);
        let first = frame(&mut stream, &[bid(EVENT_COMPLETE, 500, 100_000)]);
        let first = worker.take(&first, MIDNIGHT + 1);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].1.flags, flags::MBP | flags::LAST);

        // A better bid, and then a price of zero as the event's last message.
        let event = frame(&mut stream, &[bid(0, 300, 101_000), bid(EVENT_COMPLETE, 100, 0)]);
        let event = worker.take(&event, MIDNIGHT + 2);
        assert_eq!(marks(&event), [(0, 'A', false), (0, 'N', true)]);
        let (sequence, end) = event[1];
        assert_eq!(end.flags, flags::MBP | flags::LAST);
        assert_eq!((end.price, end.size, end.hd.instrument_id), (UNDEF_PRICE, 0, 0));
        assert_eq!(end.sequence, 3, "the refused message's number");
        let market = worker.market(0);
        assert_eq!((market.bid_px, market.bid_sz, market.orders), (10_100_000_000, 300, 2));
        assert_eq!((market.event_seq, market.ts_recv), (sequence, MIDNIGHT + 2));
        assert_eq!(market.health, health::BOOK_ERROR);
        assert_eq!(worker.bids(0), (vec![10_100_000_000, 10_000_000_000], sequence));
        let depth = worker.view.depth().read(0).unwrap().unwrap();
        assert_eq!(depth.health, health::BOOK_ERROR);

        // Refused in the middle: the event's own last message ends it.
        let event = frame(&mut stream, &[bid(0, 100, 0), bid(EVENT_COMPLETE, 0, 101_000)]);
        let event = worker.take(&event, MIDNIGHT + 3);
        assert_eq!(marks(&event), [(0, 'C', true)]);
        let market = worker.market(0);
        assert_eq!((market.bid_px, market.event_seq), (10_000_000_000, event[0].0));
        let feed = worker.view.feed(0).unwrap();
        assert_eq!(feed.counter(FeedCounter::BookErrors), 2);
    });
}

/// The only bid is taken away, and no message says that this was all. Whatever comes next does.
#[test]
fn an_event_that_no_message_ends_is_over_with_the_next_message() {
    let other = b"OTHER   ";
    let begin = [level(1, b"TEST    ", EVENT_COMPLETE, 500, 100_000)];
    let open = [level(2, b"TEST    ", 0, 0, 100_000)];
    let ends: [(Vec<u8>, &[Mark]); 4] = [
        (trade(3, b"TEST    ", 9, 90_000), &[(0, 'N', true), (0, 'T', true)]),
        (level(3, b"TEST    ", 0, 9, 90_000), &[(0, 'N', true), (0, 'A', false)]),
        (level(2, other, EVENT_COMPLETE, 9, 90_000), &[(0, 'N', true), (1, 'A', true)]),
        (vec![], &[(0, 'N', true)]),
    ];
    for (next, expected) in ends {
        with_worker(&SPEC, |mut worker| {
            let mut stream = Stream::new(PROTOCOL, 1, 77);
            worker.take(&frame(&mut stream, &begin), MIDNIGHT + 1);
            let told = worker.take(&frame(&mut stream, &open), MIDNIGHT + 2);
            assert_eq!(marks(&told), [(0, 'C', false)]);
            assert_eq!(worker.market(0).bid_px, 10_000_000_000, "the event may go on");
            assert_eq!(worker.bids(0).0, [10_000_000_000]);
            let next = match next.is_empty() {
                true => as_frame(stream.heartbeat(MIDNIGHT).as_bytes()),
                false => frame(&mut stream, &[next]),
            };
            let told = worker.take(&next, MIDNIGHT + 5);
            assert_eq!(marks(&told), expected);
            let (sequence, end) = told[0];
            assert_eq!(end.flags, flags::MBP | flags::LAST);
            assert_eq!((end.sequence, end.hd.ts_event), (2, MIDNIGHT + 2), "its own");
            assert_eq!(end.ts_recv, MIDNIGHT + 5);
            let market = worker.market(0);
            assert_eq!((market.bid_px, market.bid_sz, market.orders), (UNDEF_PRICE, 0, 0));
            assert!(market.event_seq >= sequence);
            assert_eq!(worker.bids(0).0, []);
        });
    }
}

#[test]
fn an_event_that_no_message_ends_is_over_with_the_run() {
    with_worker(&SPEC, |mut worker| {
        let mut stream = Stream::new(PROTOCOL, 1, 77);
        let told = worker.take(&frame(&mut stream, &[bid(0, 500, 100_000)]), MIDNIGHT + 2);
        assert_eq!(marks(&told), [(0, 'A', false)]);
        worker.pipeline.finish(MIDNIGHT + 5);
        let told = worker.told();
        assert_eq!(marks(&told), [(0, 'N', true)]);
        assert_eq!((told[0].1.sequence, told[0].1.ts_recv), (1, MIDNIGHT + 5));
        assert_eq!(worker.market(0).bid_px, 10_000_000_000);
        assert_eq!(worker.bids(0).0, [10_000_000_000]);
        worker.pipeline.finish(MIDNIGHT + 6);
        assert_eq!(worker.told(), []);
    });
}

/// One that is late, or of another session, does not know whether the event goes on.
#[test]
fn an_event_goes_on_behind_a_heartbeat_from_before_it() {
    with_worker(&SPEC, |mut worker| {
        let mut stream = Stream::new(PROTOCOL, 1, 77);
        let begin = [level(1, b"TEST    ", EVENT_COMPLETE, 500, 100_000)];
        worker.take(&frame(&mut stream, &begin), MIDNIGHT + 1);
        let before = as_frame(stream.heartbeat(MIDNIGHT).as_bytes());
        assert_eq!(worker.take(&before, MIDNIGHT + 2), []);
        let best = level(2, b"TEST    ", 0, 0, 100_000);
        let told = worker.take(&frame(&mut stream, &[best]), MIDNIGHT + 3);
        assert_eq!(marks(&told), [(0, 'C', false)]);
        let other = Stream { sequence: stream.sequence, ..Stream::new(PROTOCOL, 1, 76) };
        let other = as_frame(other.heartbeat(MIDNIGHT).as_bytes());
        for heartbeat in [&before, &other] {
            assert_eq!(worker.take(heartbeat, MIDNIGHT + 4), []);
            assert_eq!(worker.market(0).bid_px, 10_000_000_000, "half an event");
        }
        let next = level(2, b"TEST    ", EVENT_COMPLETE, 9, 99_000);
        let told = worker.take(&frame(&mut stream, &[next]), MIDNIGHT + 5);
        assert_eq!(marks(&told), [(0, 'A', true)]);
        assert_eq!(worker.bids(0).0, [9_900_000_000]);
    });
}

/// The same at the end of a session: of the new one's books nobody takes it for a part.
#[test]
fn an_event_that_no_message_ends_is_over_with_the_session() {
    with_worker(&SPEC, |mut worker| {
        let mut stream = Stream::new(PROTOCOL, 1, 77);
        let begin = [level(1, b"TEST    ", EVENT_COMPLETE, 500, 100_000), bid(0, 300, 99_000)];
        let told = worker.take(&frame(&mut stream, &begin), MIDNIGHT + 1);
        assert_eq!(marks(&told), [(0, 'A', true), (0, 'A', false)]);
        let mut stream = Stream::new(PROTOCOL, 1, 78);
        let next = frame(&mut stream, &[bid(EVENT_COMPLETE, 9, 90_000)]);
        let told = worker.take(&next, MIDNIGHT + 2);
        assert_eq!(marks(&told), [(0, 'N', true), (0, 'R', true), (0, 'A', true)]);
        assert_eq!(told[0].1.sequence, 2, "the event's own");
        assert_eq!(worker.market(0).bid_px, 9_000_000_000);
        assert_eq!(worker.bids(0).0, [9_000_000_000]);
    });
}

#[test]
fn a_trade_inside_an_event_shows_no_half_changed_book() {
    with_worker(&SPEC, |mut worker| {
        let mut stream = Stream::new(PROTOCOL, 1, 77);
        let bids = [bid(0, 500, 100_000), bid(EVENT_COMPLETE, 400, 99_000)];
        let told = worker.take(&frame(&mut stream, &bids), MIDNIGHT + 1);
        let (whole, _) = told[1];

        // An order takes the best level, and part of the next.
        let symbol = b"TEST    ";
        let sweep = [trade(2, symbol, 500, 100_000), level(2, symbol, 0, 0, 100_000)];
        let told = worker.take(&frame(&mut stream, &sweep), MIDNIGHT + 2);
        // It precedes what it changes, and the book is whole.
        assert_eq!(marks(&told), [(0, 'T', true), (0, 'C', false)]);
        let told = worker.take(&frame(&mut stream, &[trade(2, symbol, 100, 99_000)]), MIDNIGHT + 3);
        assert_eq!(marks(&told), [(0, 'T', false)]);
        let market = worker.market(0);
        assert_eq!((market.last_px, market.volume, market.trades), (9_900_000_000, 600, 2));
        assert_eq!((market.bid_px, market.bid_sz), (10_000_000_000, 500));
        let (bids, sequence) = worker.bids(0);
        assert_eq!(bids, [10_000_000_000, 9_900_000_000]);
        assert_eq!(sequence, whole + 1, "the first trade");
        let end = [level(2, symbol, EVENT_COMPLETE, 300, 99_000)];
        let told = worker.take(&frame(&mut stream, &end), MIDNIGHT + 4);
        assert_eq!(marks(&told), [(0, 'M', true)]);
        assert_eq!(worker.bids(0), (vec![9_900_000_000], told[0].0));
        let market = worker.market(0);
        assert_eq!((market.bid_px, market.bid_sz), (9_900_000_000, 300));
        // Order flow saw one step, from 500 at 10.00 to 300 at 9.90: not two.
        let depth = worker.view.depth().read(0).unwrap().unwrap();
        assert_eq!(depth.features.order_flow, 500 - 500);
    });
}

/// After each packet of a real day the market table has the best prices of a plain book, but for the
/// one instrument whose event has not ended.
#[test]
fn no_instrument_of_a_real_day_stays_behind_its_book() {
    let Some(day) = real_data::read("iex/DEEP10.pcap.gz") else { return };
    let size = SegmentSpec { event_slots: 1 << 14, instruments: 16_384, depths: 0, ..SPEC };
    with_worker(&size, |mut worker| {
        let mut books: BTreeMap<u32, [BTreeMap<i64, u32>; 2]> = BTreeMap::new();
        let (mut rest, mut ends, mut compared) = (&day[24..], 0, 0);
        while let Some((header, after)) = rest.split_first_chunk::<16>() {
            let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
            let Some((frame, after)) = after.split_at_checked(length) else { break };
            rest = after;
            let told = worker.take(frame, MIDNIGHT);
            let mut open = None;
            for (_, record) in &told {
                let id = record.hd.instrument_id;
                open = (record.flags & flags::LAST == 0).then_some(id);
                let sides = books.entry(id).or_default();
                let side = &mut sides[usize::from(record.side == b'A')];
                match record.action {
                    action::ADD | action::MODIFY => drop(side.insert(record.price, record.size)),
                    action::CANCEL => drop(side.remove(&record.price)),
                    action::CLEAR => *sides = Default::default(),
                    action::NONE => ends += 1,
                    _ => {}
                }
            }
            for (_, record) in told {
                let id = record.hd.instrument_id;
                let market = worker.market(id);
                let [bids, asks] = &books[&id];
                let best = |level: Option<(&i64, &u32)>| {
                    level.map_or((UNDEF_PRICE, 0), |(price, size)| (*price, *size))
                };
                if open != Some(id) {
                    assert_eq!((market.bid_px, market.bid_sz), best(bids.last_key_value()));
                    assert_eq!((market.ask_px, market.ask_sz), best(asks.first_key_value()));
                    compared += 1;
                }
            }
        }
        // The last one is open where the capture ends, and ends with the run.
        assert_eq!(ends, 609, "events that no message ended");
        worker.pipeline.finish(MIDNIGHT);
        let told = worker.told();
        assert_eq!(told.len(), 1);
        let id = told[0].1.hd.instrument_id;
        assert_eq!(marks(&told), [(id, 'N', true)]);
        let best = books[&id][0].last_key_value().map_or(UNDEF_PRICE, |(price, _)| *price);
        assert_eq!(worker.market(id).bid_px, best);
        assert!(compared > 100_000, "{compared} records compared");
    });
}

/// Who joined when the directory had been sent hears the names from what comes, each once.
#[test]
fn a_symbol_that_no_directory_message_named_is_told_with_its_first_message() {
    with_worker(&SPEC, |mut worker| {
        let mut stream = Stream::new(PROTOCOL, 1, 77);
        let messages = [
            trade(1, b"TEST    ", 9, 90_000),
            bid(EVENT_COMPLETE, 500, 100_000),
            level(3, b"OTHER   ", EVENT_COMPLETE, 9, 90_000),
        ];
        worker.take(&frame(&mut stream, &messages), MIDNIGHT + 1);
        let mut reader = worker.view.events().reader_from_oldest();
        let mut told = Vec::new();
        while let Some((_, event)) = reader.next_event().unwrap() {
            let id = event.header().instrument_id;
            if let Some(record) = event.get::<SymbolMsg>() {
                let symbol = String::from_utf8_lossy(&record.symbol);
                told.push((id, symbol.trim_end_matches('\0').to_owned(), record.round_lot));
            } else if let Some(record) = event.get::<MboMsg>() {
                told.push((id, char::from(record.action).to_string(), record.size));
            }
        }
        let expected = [(0, "TEST", 0), (0, "T", 9), (0, "A", 500), (1, "OTHER", 0), (1, "A", 9)];
        assert_eq!(told, expected.map(|(id, what, size)| (id, what.to_owned(), size)));
    });
}
