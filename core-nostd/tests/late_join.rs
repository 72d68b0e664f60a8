//! Joining by a snapshot: whatever is lost, doubled or reordered meanwhile, the books of the
//! snapshot and every message behind it are published, once and in order; and a snapshot that does
//! not come, breaks off or is of another try leaves a feed that joined late, and says so.

mod itch_worker;

use std::collections::BTreeSet;

use itch_worker::{Memory, SESSION, SMALL, START, frame, order, payload};
use proptest::prelude::*;
use wiretape_core::event::session_change::{NEW_SESSION, SNAPSHOT, START as SESSION_START};
use wiretape_core::event::{GapMsg, MboMsg, SessionMsg, action, flags, gap_reason, rtype};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::arbiter::join::{
    JoinPatience, SNAPSHOT_AHEAD_MAX, SnapshotPart, SnapshotRequest,
};
use wiretape_core::pipeline::Pipeline;
use wiretape_core::ring::broadcast::Reader;
use wiretape_core::segment::{FeedCounter, SegmentView, health};
use zerocopy::IntoBytes;

const SECOND: u64 = 1_000_000_000;
const JOIN: JoinPatience = JoinPatience { hold_bytes: 1 << 20, wait_ns: SECOND, after_loss: true };
const WINDOW: Patience =
    Patience { packets: 64, packet_bytes: 1500, wait_ns: 10_000, recovery_ns: None };

/// What a reader of the ring saw, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// A change of session, and what comes next.
    Session(u8, u64),
    /// Messages that are missing.
    Gap(u64, u64, u8),
    /// An order of the snapshot.
    Resting(u64),
    /// A live order, and whether the book may be wrong.
    Live(u64, bool),
    /// A book was emptied.
    Clear,
}

fn read(reader: &mut Reader<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some((_, event)) = reader.next_event().expect("a ring that holds it all") {
        seen.push(match event.header().rtype {
            rtype::MBO => {
                let record = event.get::<MboMsg>().unwrap();
                let bad = record.flags & flags::MAYBE_BAD_BOOK != 0;
                match record.action {
                    action::CLEAR => Seen::Clear,
                    action::ADD if record.flags & flags::SNAPSHOT != 0 => {
                        assert!(bad, "half a snapshot is no book");
                        Seen::Resting(record.order_id)
                    }
                    action::ADD => {
                        assert_eq!(record.order_id, u64::from(record.sequence));
                        Seen::Live(record.order_id, bad)
                    }
                    other => panic!("{other}"),
                }
            }
            rtype::GAP => {
                let gap = event.get::<GapMsg>().unwrap();
                Seen::Gap(gap.first_seq, gap.end_seq, gap.reason)
            }
            rtype::SESSION => {
                let session = event.get::<SessionMsg>().unwrap();
                Seen::Session(session.change, session.next_seq)
            }
            _ => continue,
        });
    }
    seen
}

/// Hands over a snapshot of the orders `1..next_seq`.
fn snapshot(pipeline: &mut Pipeline<'_>, request: &SnapshotRequest, next_seq: u64, now: u64) {
    pipeline.on_snapshot(request, SnapshotPart::Begin { next_seq }, now);
    for number in 1..next_seq {
        let order = order(number);
        pipeline.on_snapshot(request, SnapshotPart::Message(order.as_bytes()), now);
    }
    pipeline.on_snapshot(request, SnapshotPart::End, now);
}

fn resting(next_seq: u64) -> impl Iterator<Item = Seen> {
    (1..next_seq).map(Seen::Resting)
}

fn live(first: u64, end: u64) -> impl Iterator<Item = Seen> {
    (first..end).map(|number| Seen::Live(number, false))
}

/// The health that readers see of the instrument, which no directory message announced.
fn health_of(view: &SegmentView<'_>) -> u8 {
    view.market().read(1).unwrap().unwrap().health & !health::UNDIRECTED
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 192 } else { 4096 }))]
    #[test]
    fn what_waited_follows_the_snapshot_whatever_the_lines_did(
        first in 2..60_u64,
        beyond in 0..60_u64,
        ready_at in 0..120_usize,
        fates in prop::collection::vec((any::<bool>(), any::<bool>(), 0..4_usize), 120),
    ) {
        const END: u64 = 120;
        let mut memory = Memory::new(SMALL);
        let patience = Patience { packets: 256, wait_ns: SECOND, ..WINDOW };
        let (mut pipeline, view) = memory.worker(patience, Some(JOIN));
        let mut reader = view.events().reader_from_oldest();
        // Each message comes on one line at least, and some a few messages late.
        let mut packets: Vec<(u64, usize, u64)> = Vec::new();
        for number in first..END {
            let (a, b, late) = fates[number as usize];
            if a || !b {
                packets.push((number, 0, number));
            }
            if b {
                packets.push((number + late as u64, 1, number));
            }
        }
        packets.sort();
        let from = packets[0].2;
        let next_seq = (from + beyond).min(END);
        let mut request = None;
        for (index, &(_, line, number)) in packets.iter().enumerate() {
            let now = START + index as u64 * 1_000;
            pipeline.on_frame(&frame(line, &payload(number, number + 1)), now);
            request = request.or(pipeline.next_snapshot());
            let ready = index == ready_at.min(packets.len() - 1);
            if ready {
                let request = request.expect("it joins with its first packet");
                prop_assert_eq!((request.from, request.session), (from, SESSION));
                prop_assert!(read(&mut reader).is_empty());
                snapshot(&mut pipeline, &request, next_seq, now);
            }
        }
        pipeline.finish(START + SECOND / 2);
        let mut expected = vec![Seen::Session(SESSION_START, next_seq)];
        expected.extend(resting(next_seq).chain(live(next_seq, END)));
        prop_assert_eq!(read(&mut reader), expected);
        let feed = view.feed(0).unwrap();
        prop_assert_eq!(feed.counter(FeedCounter::Snapshots), 1);
        prop_assert_eq!(feed.counter(FeedCounter::SnapshotMessages), next_seq - 1);
        prop_assert_eq!(feed.counter(FeedCounter::JoinedLateMessages), 0);
        prop_assert_eq!(feed.counter(FeedCounter::LostMessages), 0);
        // Each of one message: the second copy of one that waits is told as any other.
        let messages = [FeedCounter::Messages, FeedCounter::DuplicateMessages];
        let messages: u64 = messages.iter().map(|counter| feed.counter(*counter)).sum();
        prop_assert_eq!(messages, packets.len() as u64);
        let state = feed.session().unwrap();
        prop_assert!(!state.maybe_bad_book && !state.joining);
        let came: BTreeSet<usize> = packets.iter().map(|packet| packet.1).collect();
        for line in came {
            let arrived = packets.iter().filter(|packet| packet.1 == line).count() as u64;
            let block = view.line(0, line).unwrap();
            prop_assert_eq!(block.counter(wiretape_core::segment::LineCounter::Packets), arrived);
        }
        if next_seq > 1 {
            prop_assert_eq!(health_of(&view), 0);
        }
    }
}

#[test]
fn a_session_that_is_seen_from_its_first_message_asks_for_nothing() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    pipeline.on_frame(&frame(0, &payload(1, 4)), START);
    pipeline.on_frame(&frame(0, &payload(4, 6)), START + 1);
    assert_eq!(pipeline.next_snapshot(), None);
    let expected: Vec<Seen> =
        [Seen::Session(SESSION_START, 1)].into_iter().chain(live(1, 6)).collect();
    assert_eq!(read(&mut reader), expected);
}

/// What a feed publishes that begins with message 7 and has no snapshot.
fn joined_late(end: u64) -> Vec<Seen> {
    let mut seen = vec![Seen::Session(SESSION_START, 7), Seen::Gap(1, 7, gap_reason::LATE_JOIN)];
    seen.extend((7..end).map(|number| Seen::Live(number, true)));
    seen
}

#[test]
fn a_server_that_has_none_leaves_a_feed_that_joined_late() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    pipeline.on_frame(&frame(0, &payload(7, 9)), START);
    let request = pipeline.next_snapshot().unwrap();
    assert_eq!(pipeline.next_snapshot(), None);
    assert!(view.feed(0).unwrap().session().unwrap().joining);
    pipeline.on_frame(&frame(0, &payload(9, 10)), START + 10);
    pipeline.on_snapshot(&request, SnapshotPart::None, START + 20);
    pipeline.on_time(START + 30);
    assert_eq!(read(&mut reader), joined_late(10));
    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::SnapshotsFailed), 1);
    assert_eq!(feed.counter(FeedCounter::SnapshotHeldPackets), 2);
    let state = feed.session().unwrap();
    assert!(state.maybe_bad_book && !state.joining);
    // Once the pause is over it tries again, and then the books are good.
    pipeline.on_frame(&frame(0, &payload(10, 11)), START + 9 * SECOND);
    assert_eq!(pipeline.next_snapshot(), None);
    pipeline.on_frame(&frame(0, &payload(11, 12)), START + 11 * SECOND);
    let request = pipeline.next_snapshot().unwrap();
    assert_eq!(request.from, 12);
    pipeline.on_frame(&frame(0, &payload(12, 13)), START + 11 * SECOND + 1);
    snapshot(&mut pipeline, &request, 12, START + 11 * SECOND + 2);
    pipeline.on_time(START + 11 * SECOND + 3);
    let mut expected = vec![Seen::Live(10, true), Seen::Live(11, true)];
    expected.extend([Seen::Session(SNAPSHOT, 12), Seen::Clear]);
    expected.extend(resting(12).chain(live(12, 13)));
    assert_eq!(read(&mut reader), expected);
    assert!(!view.feed(0).unwrap().session().unwrap().maybe_bad_book);
}

#[test]
fn silence_ends_the_wait() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    pipeline.on_frame(&frame(0, &payload(7, 9)), START);
    assert!(pipeline.is_waiting());
    let request = pipeline.next_snapshot().unwrap();
    pipeline.on_time(START + JOIN.wait_ns - 1);
    assert_eq!(read(&mut reader), []);
    pipeline.on_time(START + JOIN.wait_ns);
    pipeline.on_time(START + JOIN.wait_ns + 1);
    assert_eq!(read(&mut reader), joined_late(9));
    // The answer comes after all: nobody waits for it.
    snapshot(&mut pipeline, &request, 8, START + JOIN.wait_ns + 2);
    assert_eq!(read(&mut reader), []);
    assert!(!pipeline.is_waiting());
}

#[test]
fn no_room_ends_the_wait_and_loses_nothing() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) =
        memory.worker(WINDOW, Some(JoinPatience { hold_bytes: 200, ..JOIN }));
    let mut reader = view.events().reader_from_oldest();
    for number in 7..30 {
        pipeline.on_frame(&frame(0, &payload(number, number + 1)), START + number);
    }
    assert_eq!(read(&mut reader), joined_late(30));
    assert_eq!(view.feed(0).unwrap().counter(FeedCounter::SnapshotsFailed), 1);
}

#[test]
fn a_snapshot_that_breaks_off_leaves_books_that_say_so() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    pipeline.on_frame(&frame(0, &payload(7, 9)), START);
    let request = pipeline.next_snapshot().unwrap();
    pipeline.on_snapshot(&request, SnapshotPart::Begin { next_seq: 8 }, START + 1);
    pipeline.on_snapshot(&request, SnapshotPart::Message(order(1).as_bytes()), START + 1);
    pipeline.on_snapshot(&request, SnapshotPart::Message(b"?"), START + 1);
    pipeline.on_snapshot(&request, SnapshotPart::Message(b""), START + 1);
    pipeline.on_time(START + 1 + JOIN.wait_ns);
    pipeline.on_time(START + 2 + JOIN.wait_ns);
    let expected = [Seen::Session(SESSION_START, 8), Seen::Resting(1), Seen::Live(8, true)];
    assert_eq!(read(&mut reader), expected);
    let feed = view.feed(0).unwrap();
    assert!(feed.session().unwrap().maybe_bad_book);
    assert_eq!(feed.counter(FeedCounter::UnknownMessages), 1);
    assert_eq!(feed.counter(FeedCounter::BadMessages), 1);
    assert_eq!(health_of(&view), health::MAYBE_BAD);
}

#[test]
fn a_snapshot_older_than_what_waits_is_refused() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    pipeline.on_frame(&frame(0, &payload(7, 9)), START);
    let request = pipeline.next_snapshot().unwrap();
    snapshot(&mut pipeline, &request, 6, START + 1);
    pipeline.on_time(START + 2);
    assert_eq!(read(&mut reader), joined_late(9));
}

/// The feed asks for a snapshot of what a damaged packet says, which nobody has, and goes on without.
#[test]
fn a_damaged_number_in_front_costs_the_snapshot_alone() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    let damaged = 1 << 60;
    pipeline.on_frame(&frame(0, &payload(damaged, damaged + 1)), START);
    pipeline.on_frame(&frame(0, &payload(7, 9)), START + 1);
    let request = pipeline.next_snapshot().unwrap();
    assert_eq!(request.from, damaged);
    snapshot(&mut pipeline, &request, 8, START + 2);
    pipeline.on_time(START + 3);
    assert_eq!(read(&mut reader), joined_late(9));
    assert_eq!(view.feed(0).unwrap().counter(FeedCounter::StaleMessages), 1);
    // Later there is one that fits.
    pipeline.on_frame(&frame(0, &payload(9, 10)), START + 3);
    pipeline.on_frame(&frame(0, &payload(10, 11)), START + 20 * SECOND);
    assert_eq!(pipeline.next_snapshot().unwrap().from, 11);
}

#[test]
fn a_snapshot_far_ahead_of_what_waits_is_of_another_session_and_refused() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    pipeline.on_frame(&frame(0, &payload(7, 9)), START);
    let request = pipeline.next_snapshot().unwrap();
    for next_seq in [u64::MAX, 7 + SNAPSHOT_AHEAD_MAX + 1] {
        pipeline.on_snapshot(&request, SnapshotPart::Begin { next_seq }, START + 1);
    }
    pipeline.on_time(START + 2);
    // It would have made every message to come a known one.
    pipeline.on_frame(&frame(0, &payload(9, 10)), START + 3);
    assert_eq!(read(&mut reader), joined_late(10));
    assert_eq!(view.feed(0).unwrap().counter(FeedCounter::SnapshotsFailed), 1);
}

#[test]
fn books_that_a_loss_made_doubtful_are_made_anew() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    pipeline.on_frame(&frame(0, &payload(1, 5)), START);
    pipeline.on_frame(&frame(0, &payload(7, 8)), START + 1);
    pipeline.on_time(START + 1 + WINDOW.wait_ns);
    // Given up by the clock; the next packet finds the books doubtful.
    pipeline.on_frame(&frame(0, &payload(8, 9)), START + 20_000);
    let request = pipeline.next_snapshot().unwrap();
    assert_eq!(request.from, 9);
    pipeline.on_frame(&frame(0, &payload(9, 10)), START + 20_001);
    pipeline.on_frame(&frame(0, &payload(10, 11)), START + 20_002);
    snapshot(&mut pipeline, &request, 10, START + 20_003);
    pipeline.on_time(START + 20_004);
    let mut expected = vec![Seen::Session(SESSION_START, 1)];
    expected.extend(live(1, 5));
    expected.push(Seen::Gap(5, 7, gap_reason::SEQUENCE_JUMP));
    expected.extend([Seen::Live(7, true), Seen::Live(8, true)]);
    expected.extend([Seen::Session(SNAPSHOT, 10), Seen::Clear]);
    expected.extend(resting(10).chain(live(10, 11)));
    assert_eq!(read(&mut reader), expected);
    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::SnapshotsWanted), 1);
    assert!(!feed.session().unwrap().maybe_bad_book);
    // Those of the book, and none of the one before it.
    assert_eq!(view.market().read(1).unwrap().unwrap().orders, 10);
    // A feed that loses again at once says so and goes on: it does not stand still all day.
    pipeline.on_frame(&frame(0, &payload(13, 14)), START + 40_000);
    pipeline.on_time(START + 60_000);
    pipeline.on_frame(&frame(0, &payload(14, 15)), START + 70_000);
    assert_eq!(pipeline.next_snapshot(), None);
    assert!(feed.session().unwrap().maybe_bad_book);
}

/// Packets that came and wait for others are not lost because a snapshot is wanted.
#[test]
fn what_waits_already_and_has_no_room_goes_the_usual_way() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) =
        memory.worker(WINDOW, Some(JoinPatience { hold_bytes: 100, ..JOIN }));
    let mut reader = view.events().reader_from_oldest();
    let arrivals = [(1, 0), (3, 1), (5, 5_000), (7, 5_000), (9, 5_000)];
    // 2 is given up; 4 comes in its turn, and then the others that were awaited.
    let late = [(4, 10_001), (6, 10_002), (8, 10_003)];
    for (number, after) in arrivals.into_iter().chain(late) {
        pipeline.on_frame(&frame(0, &payload(number, number + 1)), START + after);
    }
    assert_eq!(pipeline.next_snapshot(), None);
    let mut expected = vec![Seen::Session(SESSION_START, 1), Seen::Live(1, false)];
    expected.push(Seen::Gap(2, 3, gap_reason::SEQUENCE_JUMP));
    expected.extend((3..10).map(|number| Seen::Live(number, true)));
    assert_eq!(read(&mut reader), expected);
    let feed = view.feed(0).unwrap();
    let counts = [FeedCounter::SnapshotsWanted, FeedCounter::SnapshotsFailed];
    assert_eq!(counts.map(|counter| feed.counter(counter)), [1, 1]);
    assert!(!feed.session().unwrap().joining && !pipeline.is_waiting());
}

#[test]
fn a_loss_is_left_as_it_is_where_the_user_wants_that() {
    let mut memory = Memory::new(SMALL);
    let join = JoinPatience { after_loss: false, ..JOIN };
    let (mut pipeline, view) = memory.worker(Patience::NONE, Some(join));
    pipeline.on_frame(&frame(0, &payload(1, 5)), START);
    pipeline.on_frame(&frame(0, &payload(7, 8)), START + 1);
    pipeline.on_frame(&frame(0, &payload(8, 9)), START + 2);
    assert_eq!(pipeline.next_snapshot(), None);
    assert!(view.feed(0).unwrap().session().unwrap().maybe_bad_book);
}

#[test]
fn another_session_ends_the_wait_for_the_first() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    let other = |first: u64, end: u64| {
        let mut bytes = payload(first, end);
        bytes[..10].copy_from_slice(b"TEST000002");
        bytes
    };
    pipeline.on_frame(&frame(0, &payload(7, 9)), START);
    let request = pipeline.next_snapshot().unwrap();
    pipeline.on_frame(&frame(0, &other(1, 3)), START + 1);
    pipeline.on_frame(&frame(0, &other(3, 4)), START + 2);
    // The first one's snapshot is nobody's any more.
    snapshot(&mut pipeline, &request, 8, START + 3);
    pipeline.on_time(START + 4);
    let mut expected = joined_late(9);
    expected.extend([Seen::Session(NEW_SESSION, 1), Seen::Clear]);
    expected.extend(live(1, 4));
    assert_eq!(read(&mut reader), expected);
    assert_eq!(&view.feed(0).unwrap().session().unwrap().session, b"TEST000002");
}

#[test]
fn a_new_session_that_is_found_under_way_is_joined_too() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    let other = |first: u64, end: u64| {
        let mut bytes = payload(first, end);
        bytes[..10].copy_from_slice(b"TEST000002");
        bytes
    };
    pipeline.on_frame(&frame(0, &payload(1, 3)), START);
    pipeline.on_frame(&frame(0, &other(5, 6)), START + 1);
    let request = pipeline.next_snapshot().unwrap();
    assert_eq!((request.from, &request.session), (5, b"TEST000002"));
    snapshot(&mut pipeline, &request, 6, START + 2);
    pipeline.on_frame(&frame(0, &other(6, 7)), START + 3);
    pipeline.on_time(START + 4);
    let mut expected = vec![Seen::Session(SESSION_START, 1)];
    expected.extend(live(1, 3));
    expected.extend([Seen::Session(NEW_SESSION, 6), Seen::Clear]);
    expected.extend(resting(6).chain(live(6, 7)));
    assert_eq!(read(&mut reader), expected);
    assert_eq!(view.feed(0).unwrap().counter(FeedCounter::NewSessions), 1);
}

#[test]
fn the_slower_lines_end_of_the_session_before_ends_no_wait() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(WINDOW, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    let other = |first: u64, end: u64| {
        let mut bytes = payload(first, end);
        bytes[..10].copy_from_slice(b"TEST000002");
        bytes
    };
    pipeline.on_frame(&frame(0, &payload(1, 3)), START);
    pipeline.on_frame(&frame(0, &other(5, 6)), START + 1);
    let request = pipeline.next_snapshot().unwrap();
    // What line A brought too, and then what it lost.
    pipeline.on_frame(&frame(1, &payload(1, 3)), START + 2);
    pipeline.on_frame(&frame(1, &payload(3, 4)), START + 3);
    pipeline.on_frame(&frame(1, &other(5, 6)), START + 4);
    snapshot(&mut pipeline, &request, 6, START + 5);
    pipeline.on_frame(&frame(0, &other(6, 7)), START + 6);
    pipeline.on_time(START + 7);
    let mut expected = vec![Seen::Session(SESSION_START, 1)];
    expected.extend(live(1, 4));
    expected.extend([Seen::Session(NEW_SESSION, 6), Seen::Clear]);
    expected.extend(resting(6).chain(live(6, 7)));
    assert_eq!(read(&mut reader), expected);
    let feed = view.feed(0).unwrap();
    let counts = [FeedCounter::Snapshots, FeedCounter::SnapshotsFailed, FeedCounter::NewSessions];
    assert_eq!(counts.map(|counter| feed.counter(counter)), [1, 0, 1]);
    // Line B's of both sessions, and what the snapshot knew.
    assert_eq!(feed.counter(FeedCounter::DuplicateMessages), 2 + 1 + 1);
    assert_eq!(feed.counter(FeedCounter::SnapshotHeldPackets), 1);
}

#[test]
fn a_hole_in_what_waited_is_asked_for_with_time_to_answer() {
    let mut memory = Memory::new(SMALL);
    let patience = Patience { packets: 8, recovery_ns: Some(SECOND), ..WINDOW };
    let (mut pipeline, view) = memory.worker(patience, Some(JOIN));
    let mut reader = view.events().reader_from_oldest();
    for number in (7..60).filter(|number| *number != 12) {
        pipeline.on_frame(&frame(0, &payload(number, number + 1)), START + number);
    }
    let request = pipeline.next_snapshot().unwrap();
    snapshot(&mut pipeline, &request, 9, START + 100);
    // More waits than the window holds; it is let in only as far as it fits.
    for time in [1_000, 1_001, 1_002, 12_000] {
        pipeline.on_time(START + time);
    }
    let asked = pipeline.next_request().unwrap();
    assert_eq!((asked.first, asked.end), (12, 13));
    pipeline.on_frame(&frame(0, &payload(60, 61)), START + 30_000);
    pipeline.on_recovered(0, &payload(12, 13), START + 30_001);
    for step in 0..20 {
        pipeline.on_time(START + 30_002 + step);
    }
    let mut expected = vec![Seen::Session(SESSION_START, 9)];
    expected.extend(resting(9).chain(live(9, 61)));
    assert_eq!(read(&mut reader), expected);
    assert!(!pipeline.is_waiting());
}
