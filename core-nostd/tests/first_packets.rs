//! What a feed begins with: packets of numbers far from 1, some of which are damaged, and numbers that
//! begin with 0. And single packets whose times are those of a wrong clock.

mod itch_worker;

use itch_worker::{Memory, SMALL, START, frame, payload};
use proptest::prelude::*;
use wiretape_core::event::{GapMsg, MboMsg, gap_reason, rtype};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::segment::{FeedCounter, LineCounter, SegmentView};

const MS: u64 = 1_000_000;
const PATIENCE: Patience =
    Patience { packets: 64, packet_bytes: 1500, wait_ns: 5 * MS, recovery_ns: Some(5 * MS) };
/// Where the day stands.
const DAY: u64 = 300_000_000;
/// What a damaged packet says.
const DAMAGED: u64 = 1 << 60;

/// Numbers published, and gaps with their reasons.
type Told = (Vec<u64>, Vec<(u64, u64, u8)>);

fn told(view: &SegmentView<'_>) -> Told {
    let (mut numbers, mut gaps) = Told::default();
    let mut reader = view.events().reader_from_oldest();
    while let Some((_, event)) = reader.next_event().unwrap() {
        match event.header().rtype {
            rtype::MBO => numbers.push(event.get::<MboMsg>().unwrap().sequence.into()),
            rtype::GAP => {
                let gap = event.get::<GapMsg>().unwrap();
                gaps.push((gap.first_seq, gap.end_seq, gap.reason));
            }
            _ => {}
        }
    }
    (numbers, gaps)
}

/// A packet: its line, its numbers, and when it comes, in milliseconds.
type Came = (usize, std::ops::Range<u64>, u64);

/// What is told of packets, and how many messages were left aside.
fn take(packets: &[Came]) -> (Told, u64) {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(PATIENCE, None);
    for (line, numbers, at) in packets {
        pipeline.on_frame(&frame(*line, &payload(numbers.start, numbers.end)), START + at * MS);
    }
    // Nothing more is new.
    let (line, _, at) = packets.last().unwrap();
    let ends = packets.iter().map(|(_, numbers, _)| numbers.end);
    let next = ends.filter(|end| *end < DAMAGED).max().unwrap();
    pipeline.on_frame(&frame(*line, &payload(next, next)), START + at * MS);
    pipeline.finish(START + 10_000 * MS);
    assert!(pipeline.next_request().is_none_or(|asked| asked.end < DAMAGED));
    let feed = view.feed(0).unwrap();
    let counter = |counter| feed.counter(counter);
    let count: u64 = packets.iter().map(|(_, numbers, _)| numbers.end - numbers.start).sum();
    let stale = counter(FeedCounter::StaleMessages);
    assert_eq!(
        counter(FeedCounter::Messages) + counter(FeedCounter::DuplicateMessages) + stale,
        count
    );
    // A line that began with what was damaged is counted from what came next.
    let line = view.line(0, *line).unwrap();
    assert!(line.counter(LineCounter::NextSeq) < DAMAGED);
    (told(&view), stale)
}

fn joined(at: u64) -> Vec<(u64, u64, u8)> {
    vec![(1, at, gap_reason::LATE_JOIN)]
}

#[test]
fn a_damaged_number_in_front_hides_nothing_of_the_day() {
    let damaged = (0, DAMAGED..DAMAGED + 2, 0);
    // At its beginning, before it has gone far, and late.
    for (first, gaps) in [(1, vec![]), (5_000, joined(5_000)), (DAY, joined(DAY))] {
        let day = [(0, first..first + 2, 1), (0, first + 2..first + 3, 2)];
        let packets = [std::slice::from_ref(&damaged), &day].concat();
        let numbers: Vec<_> = (first..first + 3).collect();
        assert_eq!(take(&packets), ((numbers, gaps), 2), "{first}");
    }
    // Whichever of three it is, and whether it says more or less than the others.
    for place in 0..3 {
        for says in [DAY - (1 << 27), DAMAGED] {
            let mut packets = vec![(0, DAY..DAY + 2, 0), (0, DAY + 2..DAY + 3, 0)];
            packets.insert(place, (0, says..says + 1, 0));
            let expected = ((vec![DAY, DAY + 1, DAY + 2], joined(DAY)), 1);
            if place < 2 {
                assert_eq!(take(&packets), expected, "{place} {says}");
            } else {
                assert_eq!(take(&packets).0, expected.0, "{place} {says}");
            }
        }
    }
}

proptest! {
    /// Wherever the day stands, whatever the damaged number is, and wherever among the first packets it
    /// comes: from the third packet on all that comes is published, once and in order.
    #[test]
    fn one_damaged_number_costs_two_packets_at_most(
        first in prop_oneof![1..3_u64, 60..70_u64, 1..1_u64 << 40],
        counts in prop::collection::vec(1..4_u64, 4..8),
        place in 0..5_usize,
        says in prop_oneof![0..100_u64, any::<u64>().prop_map(|n| n >> 1), 0..1_u64 << 40],
        pause in prop_oneof![Just(0_u64), Just(1), Just(4_000)],
    ) {
        prop_assume!(says.abs_diff(first) > 1 << 25);
        let (mut packets, mut next, mut at) = (Vec::new(), first, 0);
        for count in counts {
            packets.push((0, next..next + count, at));
            (next, at) = (next + count, at + pause);
        }
        let third: u64 = packets[2].1.start;
        let place = place.min(packets.len());
        let when = packets[place.saturating_sub(1)].2;
        packets.insert(place, (0, says..says + 1, when));
        let mut memory = Memory::new(SMALL);
        let (mut pipeline, view) = memory.worker(PATIENCE, None);
        for (line, numbers, at) in &packets {
            let payload = payload(numbers.start, numbers.end);
            pipeline.on_frame(&frame(*line, &payload), START + at * MS);
        }
        pipeline.finish(START + 100_000 * MS);
        // Records have the lower half of a number.
        let expected: Vec<u64> = (third..next).map(|number| number & 0xFFFF_FFFF).collect();
        let (published, _) = told(&view);
        prop_assert!(published.ends_with(&expected), "{published:?} {packets:?}");
    }
}

#[test]
fn who_joins_late_begins_with_the_first_packet_when_the_second_comes() {
    let packets = [(0, DAY..DAY + 2, 0), (1, DAY..DAY + 2, 0), (0, DAY + 2..DAY + 3, 0)];
    assert_eq!(take(&packets), ((vec![DAY, DAY + 1, DAY + 2], joined(DAY)), 0));
    // Something in between is missing, or they overtook each other.
    let mut gaps = joined(DAY);
    gaps.push((DAY + 2, DAY + 4, gap_reason::SEQUENCE_JUMP));
    let packets = [(0, DAY..DAY + 2, 0), (0, DAY + 4..DAY + 5, 0)];
    assert_eq!(take(&packets), ((vec![DAY, DAY + 1, DAY + 4], gaps), 0));
    let packets = [(0, DAY + 2..DAY + 3, 0), (0, DAY..DAY + 2, 0)];
    assert_eq!(take(&packets), ((vec![DAY, DAY + 1, DAY + 2], joined(DAY)), 0));
    // Nothing else comes.
    assert_eq!(take(&packets[..1]), ((vec![DAY + 2], joined(DAY + 2)), 0));
}

/// Those that might have overtaken message 1 wait for it; the first that could not have waits behind
/// them, and does not begin the session in their place.
#[test]
fn who_joins_near_the_beginning_keeps_all_that_came() {
    let packets: Vec<Came> = (50..70).map(|number| (0, number..number + 1, 0)).collect();
    assert_eq!(take(&packets), (((50..70).collect(), joined(50)), 0));
}

#[test]
fn a_feed_that_says_the_same_again_and_again_is_joined_after_a_while() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(PATIENCE, None);
    let packets = [(DAMAGED, DAMAGED + 1), (DAY, DAY), (DAY, DAY), (DAY, DAY)];
    for (second, (first, end)) in (0..).zip(packets) {
        assert_eq!(view.feed(0).unwrap().session().unwrap().next_seq, 0, "after {second} s");
        pipeline.on_frame(&frame(0, &payload(first, end)), START + second * 1_000 * MS);
    }
    assert_eq!(view.feed(0).unwrap().session().unwrap().next_seq, DAY);
    assert_eq!(told(&view), (vec![], joined(DAY)));
}

#[test]
fn messages_numbered_from_0_are_all_there() {
    let packets = [(0, 0..0, 0), (0, 0..1, 1), (1, 0..1, 1), (1, 1..3, 2), (0, 1..3, 3)];
    assert_eq!(take(&packets), ((vec![0, 1, 2], vec![]), 0));
    assert_eq!(take(&packets[1..]), ((vec![0, 1, 2], vec![]), 0));
}

/// A hundred years later, or before the first computer.
#[test]
fn a_single_packet_of_a_wrong_time_gives_nothing_up() {
    let century = 100 * 365 * 86_400_000;
    let a = [(0, 1..3, 0), (0, 5..6, 1)];
    let rest = [(1, 3..5, 2), (0, 6..7, 3)];
    let whole = ((vec![1, 2, 3, 4, 5, 6], vec![]), 0);
    for wrong in [(0, 6..7, century), (1, 1..3, century), (1, 5..6, century)] {
        let packets = [&a[..], std::slice::from_ref(&wrong), &rest].concat();
        assert_eq!(take(&packets), whole, "{wrong:?}");
    }
    // It is what waits first.
    let wrong = [(0, 1..3, 0), (0, 5..6, century), (0, 6..7, 1)];
    assert_eq!(take(&[&wrong[..], &rest].concat()), whole);
    // Two of them are the time.
    let later = [(0, 6..7, century), (0, 7..8, century), (1, 3..5, century)];
    let gap = vec![(3, 5, gap_reason::SEQUENCE_JUMP)];
    assert_eq!(take(&[&a[..], &later].concat()), ((vec![1, 2, 5, 6, 7], gap), 0));
}
