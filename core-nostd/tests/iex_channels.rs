//! IEX-TP channels that share a group: a feed follows one of them, and says what it leaves aside.

mod deep_worker;

use deep_worker::{MIDNIGHT, SPEC, Worker, as_frame, level, with_worker};
use wiretape_core::pipeline::Protocol;
use wiretape_core::segment::{ErrorGroup, FeedCounter};
use wiretape_core::wire::deep10::{EVENT_COMPLETE, PROTOCOL};
use wiretape_core::wire::iextp::{Builder, Stream};

const SECOND: u64 = 1_000_000_000;

/// A packet of `stream`, sent `at` nanoseconds past midnight: a bid for `symbol`, or a heartbeat.
fn packet(stream: &mut Stream, symbol: Option<&[u8; 8]>, at: u64) -> Vec<u8> {
    let mut buffer = [0; 200];
    let mut builder = Builder::new(&mut buffer, stream).unwrap();
    if let Some(symbol) = symbol {
        assert!(builder.push(&level(at as i64, symbol, EVENT_COMPLETE, 100, 10_000 + at as i64)));
    }
    as_frame(builder.finish(MIDNIGHT + at))
}

fn counts<const N: usize>(worker: &Worker<'_>, counters: [FeedCounter; N]) -> [u64; N] {
    let feed = worker.view.feed(0).unwrap();
    counters.map(|counter| feed.counter(counter))
}

const COUNTED: [FeedCounter; 5] = [
    FeedCounter::Messages,
    FeedCounter::Restarts,
    FeedCounter::LostMessages,
    FeedCounter::MalformedPackets,
    FeedCounter::Packets,
];

#[test]
fn of_two_channels_of_a_group_one_is_a_feed_and_the_other_is_counted() {
    for with_messages in [true, false] {
        with_worker(&SPEC, |mut worker| {
            let (mut own, mut other) = (Stream::new(PROTOCOL, 1, 7), Stream::new(PROTOCOL, 2, 7));
            let mut take = |stream: &mut Stream, symbol: Option<&[u8; 8]>, at: u64| {
                worker.pipeline.on_frame(&packet(stream, symbol, at), MIDNIGHT + at);
            };
            for at in 1..=2 {
                take(&mut own, Some(b"AAPL    "), at);
            }
            for at in 3..=50 {
                take(&mut other, with_messages.then_some(b"MSFT    "), 2 * at);
                take(&mut own, Some(b"AAPL    "), 2 * at + 1);
            }
            assert_eq!(counts(&worker, COUNTED), [50, 0, 0, 48, 98]);
            assert_eq!(worker.market(0).orders, 50, "no book was emptied");
            let names = |cause| Protocol::Deep10.packet_error_name(cause);
            let feed = worker.view.feed(0).unwrap();
            let named = (0..ErrorGroup::CAUSES)
                .map(|cause| (names(cause), feed.errors(ErrorGroup::Packet, cause)))
                .find(|(_, packets)| *packets > 0);
            assert_eq!(named, Some(("other_channel", 48)));
        });
    }
}

#[test]
fn a_channel_that_falls_silent_gives_way_to_another() {
    with_worker(&SPEC, |mut worker| {
        let (mut own, mut other) = (Stream::new(PROTOCOL, 1, 7), Stream::new(PROTOCOL, 2, 8));
        for at in [1, 2, 3] {
            worker.take(&packet(&mut own, Some(b"AAPL    "), at), MIDNIGHT + at);
        }
        for second in [1, 59, 61, 62] {
            let at = second * SECOND;
            worker.take(&packet(&mut other, Some(b"MSFT    "), at), MIDNIGHT + at);
        }
        assert_eq!(counts(&worker, COUNTED)[..4], [5, 0, 0, 2]);
    });
}

#[test]
fn a_damaged_channel_costs_its_packet_and_the_first_one_not_the_feed() {
    for damaged in 0..4 {
        with_worker(&SPEC, |mut worker| {
            let mut own = Stream::new(PROTOCOL, 1, 7);
            for at in 0..20 {
                own.channel_id = if at == damaged { 99 } else { 1 };
                worker.take(&packet(&mut own, Some(b"AAPL    "), at + 1), MIDNIGHT + at);
            }
            let left_aside = u64::from(damaged > 1);
            let counted = counts(&worker, COUNTED);
            assert_eq!(counted, [20 - left_aside, 0, left_aside, left_aside, 20], "{damaged}");
        });
    }
}

#[test]
fn channels_that_take_turns_from_the_first_packet_are_told_apart_with_the_third() {
    with_worker(&SPEC, |mut worker| {
        let (mut first, mut second) = (Stream::new(PROTOCOL, 0, 7), Stream::new(PROTOCOL, 2, 7));
        for at in 1..=40 {
            worker.take(&packet(&mut first, Some(b"AAPL    "), 2 * at), MIDNIGHT + 2 * at);
            worker.take(&packet(&mut second, Some(b"MSFT    "), 2 * at + 1), MIDNIGHT + 2 * at);
        }
        let [messages, _, lost, malformed, _] = counts(&worker, COUNTED);
        assert_eq!((messages + malformed, malformed, lost), (80, 40, 0));
    });
    with_worker(&SPEC, |mut worker| {
        let (mut first, mut second) = (Stream::new(PROTOCOL, 5, 7), Stream::new(PROTOCOL, 2, 7));
        for at in 1..=40 {
            worker.take(&packet(&mut first, Some(b"AAPL    "), 2 * at), MIDNIGHT + 2 * at);
            worker.take(&packet(&mut second, Some(b"MSFT    "), 2 * at + 1), MIDNIGHT + 2 * at);
        }
        let [messages, restarts, _, malformed, _] = counts(&worker, COUNTED);
        assert!(
            messages > 40 - 2 && malformed >= 38 && restarts <= 2,
            "{messages} {malformed} {restarts}"
        );
    });
}

#[test]
fn channels_that_take_turns_are_told_apart_after_one_round() {
    for channels in 2..=17 {
        with_worker(&SPEC, |mut worker| {
            let mut streams: Vec<_> =
                (1..=channels).map(|id| Stream::new(PROTOCOL, id, 7)).collect();
            let rounds = 40;
            for round in 1..=rounds {
                for stream in &mut streams {
                    let at = round * SECOND;
                    worker.pipeline.on_frame(&packet(stream, Some(b"AAPL    "), at), MIDNIGHT + at);
                }
            }
            let others = u64::from(channels) - 1;
            let [.., malformed, packets] = counts(&worker, COUNTED);
            assert_eq!(packets, rounds * (others + 1));
            assert_eq!(malformed, (rounds - 1) * others, "{channels} channels");
        });
    }
}
