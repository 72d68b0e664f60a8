//! Two lines against a model: whatever is lost, doubled or reordered on either, what is published
//! is every message that came at all, once and in order, and the gaps are exactly the rest.

mod itch_worker;

use std::collections::BTreeSet;

use itch_worker::{Memory, SESSION, SMALL, START, frame, payload};
use proptest::prelude::*;
use wiretape_core::event::{GapMsg, MboMsg, gap_reason, rtype};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::ring::broadcast::Reader;
use wiretape_core::segment::{FeedCounter, LineCounter, RECOVERY_LINE};
use wiretape_core::wire::moldudp64::Header;
use zerocopy::IntoBytes;

/// What the record that empties an instrument's book at the start of a session has for a number.
const CLEAR: u64 = 0;

/// Numbers published and numbers declared lost, in the order of the ring.
#[derive(Default)]
struct Seen {
    published: Vec<u64>,
    lost: Vec<(u64, u64)>,
    receive_times: Vec<u64>,
}

impl Seen {
    fn read(&mut self, reader: &mut Reader<'_>) {
        while let Some((_, event)) = reader.next_event().expect("a ring that holds it all") {
            match event.header().rtype {
                rtype::MBO => {
                    let record = event.get::<MboMsg>().unwrap();
                    self.published.push(u64::from(record.sequence));
                    self.receive_times.push(record.ts_recv);
                }
                rtype::GAP => {
                    let gap = event.get::<GapMsg>().unwrap();
                    self.lost.push((gap.first_seq, gap.end_seq));
                }
                _ => {}
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Fate {
    count: u64,
    copies: u8,
    delay_ns: [u64; 2],
}

fn fates(packets: usize) -> impl Strategy<Value = Vec<Fate>> {
    let copies = prop_oneof![3 => Just(1_u8), 1 => Just(0), 1 => Just(2)];
    let delay = || prop_oneof![2 => Just(0_u64), 1 => 0..20_000_u64];
    let fate = (1..4_u64, copies, delay(), delay());
    let fate = fate.prop_map(|(count, copies, a, b)| Fate { count, copies, delay_ns: [a, b] });
    prop::collection::vec(fate, packets)
}

const END: u64 = 120;

/// What arrives on a line, and when: the first packet and the last heartbeat always do.
fn arrivals(line: usize, fates: &[Fate], skew_ns: u64) -> Vec<(u64, usize, u64, u64)> {
    let mut arrivals = vec![(START, line, 1, 2)];
    let mut first = 2;
    for fate in fates {
        let end = (first + fate.count).min(END);
        let sent = START + first * 1_000 + skew_ns;
        for delay in fate.delay_ns.iter().take(usize::from(fate.copies)) {
            arrivals.push((sent + delay, line, first, end));
        }
        first = end;
        if first == END {
            break;
        }
    }
    arrivals.push((START + 200_000, line, END, END));
    arrivals
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 192 } else { 4096 }))]
    #[test]
    fn what_came_on_any_line_is_published_and_the_rest_is_a_gap(
        a in fates(120),
        b in fates(120),
        skew_ns in 0..20_000_u64,
    ) {
        let mut memory = Memory::new(SMALL);
        let patience =
            Patience { packets: 256, packet_bytes: 1500, wait_ns: 60_000, recovery_ns: None };
        let (mut pipeline, view) = memory.worker(patience, None);
        let mut reader = view.events().reader_from_oldest();
        let mut packets = arrivals(0, &a, 0);
        packets.extend(arrivals(1, &b, skew_ns));
        packets.sort();

        let mut seen = Seen::default();
        let mut came = BTreeSet::new();
        for &(time, line, first, end) in &packets {
            came.extend(first..end);
            pipeline.on_frame(&frame(line, &payload(first, end)), time);
            seen.read(&mut reader);
        }
        pipeline.finish(START + 300_000);
        seen.read(&mut reader);

        let published: Vec<u64> = came.iter().copied().collect();
        prop_assert_eq!(&seen.published, &published);
        let lost: Vec<u64> = seen.lost.iter().flat_map(|&(first, end)| first..end).collect();
        let missing: Vec<u64> = (1..END).filter(|number| !came.contains(number)).collect();
        prop_assert_eq!(lost, missing);
        prop_assert!(seen.receive_times.is_sorted());

        let feed = view.feed(0).unwrap();
        prop_assert_eq!(feed.counter(FeedCounter::Packets), packets.len() as u64);
        prop_assert_eq!(feed.counter(FeedCounter::WindowFull), 0);
        let mut taken = 0;
        for line in 0..2 {
            let block = view.line(0, line).unwrap();
            let came: BTreeSet<u64> = packets
                .iter()
                .filter(|packet| packet.1 == line)
                .flat_map(|&(_, _, first, end)| first..end)
                .collect();
            prop_assert_eq!(block.counter(LineCounter::Messages), came.len() as u64);
            prop_assert_eq!(block.lost(), END - 1 - came.len() as u64);
            taken += block.counter(LineCounter::Taken);
        }
        prop_assert_eq!(taken, published.len() as u64);
    }
}

const WITH_SERVERS: Patience =
    Patience { packets: 64, packet_bytes: 1500, wait_ns: 10_000, recovery_ns: Some(1_000_000) };

#[test]
fn what_is_on_neither_line_is_asked_for_and_taken_in_order() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WITH_SERVERS, None);
    let mut reader = view.events().reader_from_oldest();
    let mut seen = Seen::default();
    pipeline.on_frame(&frame(0, &payload(1, 5)), START);
    pipeline.on_frame(&frame(1, &payload(8, 10)), START + 100);
    pipeline.on_frame(&frame(0, &payload(12, 14)), START + 200);
    pipeline.on_time(START + 9_000);
    assert_eq!(pipeline.next_request(), None);
    pipeline.on_time(START + 10_200);
    let request = pipeline.next_request().unwrap();
    assert_eq!((request.first, request.end, request.session), (5, 8, SESSION));
    let request = pipeline.next_request().unwrap();
    assert_eq!((request.first, request.end, request.feed), (10, 12, 0));
    assert_eq!(pipeline.next_request(), None);
    // The answers, the second one first, and in parts.
    pipeline.on_recovered(0, &payload(10, 12), START + 20_000);
    pipeline.on_recovered(0, &payload(5, 6), START + 20_100);
    pipeline.on_recovered(0, &payload(6, 8), START + 20_200);
    seen.read(&mut reader);
    assert_eq!(seen.published, (1..14).collect::<Vec<_>>());
    assert_eq!(seen.lost, []);
    let recovered = view.line(0, RECOVERY_LINE).unwrap();
    let count = |counter| recovered.counter(counter);
    assert_eq!((count(LineCounter::Packets), count(LineCounter::Messages)), (3, 5));
    assert_eq!((count(LineCounter::Taken), count(LineCounter::Duplicates)), (5, 0));
    assert_eq!((recovered.lost(), count(LineCounter::NextSeq)), (0, 0));
    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::RequestedMessages), 5);
    assert!(!feed.session().unwrap().maybe_bad_book);
}

#[test]
fn what_no_server_has_is_given_up_in_time() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WITH_SERVERS, None);
    let mut reader = view.events().reader_from_oldest();
    let mut seen = Seen::default();
    pipeline.on_frame(&frame(0, &payload(1, 5)), START);
    // Silence with a gap: a heartbeat says that 5 and 6 were sent.
    let heartbeat = Header::heartbeat(SESSION, 7);
    pipeline.on_frame(&frame(0, heartbeat.as_bytes()), START + 100);
    pipeline.on_time(START + 10_100);
    assert_eq!(pipeline.next_request().map(|r| (r.first, r.end)), Some((5, 7)));
    pipeline.on_time(START + 1_010_000);
    seen.read(&mut reader);
    assert_eq!(seen.lost, []);
    pipeline.on_time(START + 1_010_100);
    let gap = loop {
        let (_, event) = reader.next_event().unwrap().expect("a gap");
        if event.header().rtype == rtype::GAP {
            break event.get::<GapMsg>().unwrap();
        }
    };
    assert_eq!((gap.first_seq, gap.end_seq, gap.reason), (5, 7, gap_reason::HEARTBEAT));
    assert!(view.feed(0).unwrap().session().unwrap().maybe_bad_book);
    // Too late: it stays lost.
    pipeline.on_recovered(0, &payload(5, 7), START + 1_020_000);
    seen.read(&mut reader);
    assert_eq!(seen.published, [1, 2, 3, 4]);
}

#[test]
fn a_full_window_gives_up_what_is_missing_and_goes_on() {
    let mut memory = Memory::new(SMALL);
    let patience = Patience { packets: 4, ..WITH_SERVERS };
    let (mut pipeline, view) = memory.worker(patience, None);
    let mut reader = view.events().reader_from_oldest();
    let mut seen = Seen::default();
    pipeline.on_frame(&frame(0, &payload(1, 2)), START);
    for number in 3..9 {
        pipeline.on_frame(&frame(0, &payload(number, number + 1)), START + number);
    }
    seen.read(&mut reader);
    assert_eq!(seen.published, [1, 3, 4, 5, 6, 7, 8]);
    assert_eq!(seen.lost, [(2, 3)]);
    assert_eq!(view.feed(0).unwrap().counter(FeedCounter::WindowFull), 1);
}

#[test]
fn a_first_packet_that_was_overtaken_is_waited_for() {
    let other = |first: u64, end: u64| {
        let mut bytes = payload(first, end);
        bytes[..10].copy_from_slice(b"TEST000002");
        bytes
    };
    let run = |packets: &[(usize, Vec<u8>, u64)], patience: Patience| {
        let mut memory = Memory::new(SMALL);
        let (mut pipeline, view) = memory.worker(patience, None);
        let mut reader = view.events().reader_from_oldest();
        let mut seen = Seen::default();
        for (line, payload, after) in packets {
            pipeline.on_time(START + after);
            assert_eq!(pipeline.next_request(), None);
            pipeline.on_frame(&frame(*line, payload), START + after);
        }
        pipeline.on_time(START + 5_000_000);
        seen.read(&mut reader);
        let late = view.feed(0).unwrap().counter(FeedCounter::JoinedLateMessages);
        (seen.published, seen.lost, late)
    };
    let (first, second, third) = (payload(1, 3), payload(3, 5), payload(5, 6));
    for patience in [WITH_SERVERS, Patience { recovery_ns: None, ..WITH_SERVERS }] {
        // Lost on line A, and late on line B.
        let packets = [(0, second.clone(), 0), (0, third.clone(), 10), (1, first.clone(), 500)];
        assert_eq!(run(&packets, patience), (vec![1, 2, 3, 4, 5], vec![], 0));
        // Too late, or from far behind the beginning: the feed joined late.
        let packets =
            [(0, second.clone(), 0), (1, first.clone(), 10_001), (0, third.clone(), 10_002)];
        assert_eq!(run(&packets, patience), (vec![3, 4, 5], vec![(1, 3)], 2));
        let far = [(0, payload(65, 66), 0), (0, payload(66, 67), 1)];
        assert_eq!(run(&far, patience), (vec![65, 66], vec![(1, 65)], 64));
        // What waits is no beginning of another session.
        let packets = [(0, other(3, 4), 0), (0, first.clone(), 10), (0, second.clone(), 20)];
        assert_eq!(run(&packets, patience).0, [3, CLEAR, 1, 2, 3, 4]);
    }
}

#[test]
fn the_slower_lines_copies_do_not_bring_the_last_session_back() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WITH_SERVERS, None);
    let mut reader = view.events().reader_from_oldest();
    let mut seen = Seen::default();
    let other = |first: u64, end: u64| {
        let mut bytes = payload(first, end);
        bytes[..10].copy_from_slice(b"TEST000002");
        bytes
    };
    pipeline.on_frame(&frame(0, &payload(1, 5)), START);
    // Line A lost 5 to 8, the last of its session; line B brings them after A's new session began.
    pipeline.on_frame(&frame(0, &other(1, 3)), START + 100);
    pipeline.on_frame(&frame(1, &payload(1, 5)), START + 200);
    pipeline.on_frame(&frame(1, &payload(5, 9)), START + 300);
    pipeline.on_frame(&frame(0, &other(3, 4)), START + 400);
    pipeline.on_frame(&frame(1, &other(1, 3)), START + 500);
    seen.read(&mut reader);
    let feed = view.feed(0).unwrap();
    assert_eq!(&feed.session().unwrap().session, b"TEST000002");
    assert_eq!(feed.counter(FeedCounter::NewSessions), 1);
    assert_eq!(feed.session().unwrap().next_seq, 4);
}

#[test]
fn answers_for_a_session_that_is_over_change_nothing() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WITH_SERVERS, None);
    let mut reader = view.events().reader_from_oldest();
    let mut seen = Seen::default();
    let other = |first: u64, end: u64| {
        let mut bytes = payload(first, end);
        bytes[..10].copy_from_slice(b"TEST000002");
        bytes
    };
    pipeline.on_frame(&frame(0, &payload(1, 3)), START);
    pipeline.on_frame(&frame(0, &payload(5, 7)), START + 100);
    pipeline.on_frame(&frame(0, &other(1, 3)), START + 200);
    seen.read(&mut reader);
    assert_eq!((&*seen.published, &*seen.lost), (&[1, 2, 5, 6, CLEAR, 1, 2][..], &[(3, 5)][..]));
    // What was asked for comes now, and more of the old session than was ever announced.
    pipeline.on_recovered(0, &payload(3, 5), START + 300);
    pipeline.on_recovered(0, &payload(7, 9), START + 400);
    pipeline.on_frame(&frame(0, &other(3, 4)), START + 500);
    seen.read(&mut reader);
    assert_eq!(seen.published, [1, 2, 5, 6, CLEAR, 1, 2, 3]);
    let feed = view.feed(0).unwrap();
    assert_eq!(&feed.session().unwrap().session, b"TEST000002");
    assert_eq!(feed.counter(FeedCounter::NewSessions), 1);
    let servers = view.line(0, RECOVERY_LINE).unwrap();
    let count = |counter| servers.counter(counter);
    assert_eq!((count(LineCounter::Packets), count(LineCounter::Stale)), (2, 4));
    assert_eq!(count(LineCounter::Taken), 0);
}

#[test]
fn answers_from_before_a_restart_are_not_taken_for_messages_to_come() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WITH_SERVERS, None);
    let mut reader = view.events().reader_from_oldest();
    let mut seen = Seen::default();
    pipeline.on_frame(&frame(0, &payload(1, 3)), START);
    pipeline.on_frame(&frame(0, &payload(50, 52)), START + 100);
    pipeline.on_time(START + 10_200);
    assert_eq!(pipeline.next_request().map(|r| (r.first, r.end)), Some((3, 50)));
    // The same session id, and another first message.
    let mut restarted = payload(1, 3);
    restarted[20 + 2 + 10] ^= 0x80;
    pipeline.on_frame(&frame(0, &restarted), START + 20_000);
    pipeline.on_recovered(0, &payload(30, 32), START + 20_100);
    pipeline.on_time(START + 2_000_000);
    pipeline.on_frame(&frame(0, &payload(3, 5)), START + 2_000_100);
    pipeline.on_time(START + 5_000_000);
    seen.read(&mut reader);
    assert_eq!(seen.published, [1, 2, 50, 51, CLEAR, 1, 2, 3, 4]);
    assert_eq!(seen.lost, [(3, 50)]);
    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::Restarts), 1);
    assert!(!feed.session().unwrap().maybe_bad_book);
    assert_eq!(view.line(0, RECOVERY_LINE).unwrap().counter(LineCounter::Stale), 2);
}

#[test]
fn a_clock_that_is_set_back_does_not_prolong_the_wait() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(Patience { recovery_ns: None, ..WITH_SERVERS }, None);
    let mut reader = view.events().reader_from_oldest();
    let mut seen = Seen::default();
    let hour_ns = 3_600_000_000_000;
    pipeline.on_frame(&frame(0, &payload(1, 2)), START + hour_ns);
    pipeline.on_frame(&frame(0, &payload(3, 4)), START + hour_ns + 10);
    pipeline.on_frame(&frame(0, &payload(5, 6)), START);
    pipeline.on_time(START + WITH_SERVERS.wait_ns);
    seen.read(&mut reader);
    assert_eq!((&*seen.published, &*seen.lost), (&[1, 3, 5][..], &[(2, 3), (4, 5)][..]));
}
