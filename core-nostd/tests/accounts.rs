//! Every message that came is counted once, whatever came when: lines that lose, double and reorder,
//! restarts and other sessions, jumps too far to be believed, ends of session, answers of re-request
//! servers late and early, and snapshots that come, or do not, or find no room for what waits.

mod itch_worker;

use itch_worker::{Memory, SESSION, SMALL, START, frame, payload};
use proptest::prelude::*;
use wiretape_core::event::{GapMsg, MboMsg, action};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::arbiter::join::{JoinPatience, SnapshotPart};
use wiretape_core::segment::{FeedCounter, LineCounter, RECOVERY_LINE};
use wiretape_core::wire::moldudp64::Header;
use zerocopy::IntoBytes;

/// Where the first message's time stands in a packet.
const FIRST_TIME: usize = 20 + 2 + 10;

#[derive(Clone, Debug)]
enum Kind {
    /// So many messages on from where the packet before ended.
    Ahead(u64),
    /// From this number on.
    At(u64),
    Far,
    Heartbeat(u64),
    End(u64),
}

#[derive(Clone, Debug)]
struct Arrival {
    kind: Kind,
    line: usize,
    count: u64,
    after_ns: u64,
    other_session: bool,
    /// Another first message than the one before.
    restarts: bool,
    /// What comes from servers meanwhile.
    answer: u8,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let kind = prop_oneof![
        12 => (0..3_u64).prop_map(Kind::Ahead),
        5 => (1..30_u64).prop_map(Kind::At),
        1 => Just(Kind::Far),
        1 => (1..30_u64).prop_map(Kind::Heartbeat),
        1 => (1..30_u64).prop_map(Kind::End),
    ];
    let rare = || prop::bool::weighted(0.05);
    (kind, 0..2_usize, 0..4_u64, 0..30_000_u64, rare(), rare(), 0..10_u8).prop_map(
        |(kind, line, count, after_ns, other_session, restarts, answer)| Arrival {
            kind,
            line,
            count,
            after_ns,
            other_session,
            restarts,
            answer,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 4096 }))]
    #[test]
    fn every_message_that_came_is_counted_once(
        packets in prop::sample::select(vec![0_u32, 3, 64]),
        has_servers: bool,
        hold_bytes in prop::option::of(prop::sample::select(vec![60_usize, 150, 400, 4_000])),
        arrivals in prop::collection::vec(arrival(), 1..60),
    ) {
        let mut memory = Memory::new(SMALL);
        let recovery_ns = has_servers.then_some(30_000);
        let patience = Patience { packets, packet_bytes: 1500, wait_ns: 20_000, recovery_ns };
        let join = |hold_bytes| JoinPatience { hold_bytes, wait_ns: 50_000, after_loss: true };
        let (mut pipeline, view) = memory.worker(patience, hold_bytes.map(join));
        let mut reader = view.events().reader_from_oldest();
        let (mut now, mut next, mut came) = (START, 1, 0);
        let mut requests = Vec::new();
        for Arrival { kind, line, count, after_ns, other_session, restarts, answer } in arrivals {
            now += after_ns;
            let messages = |first: u64| (payload(first, first + count), count);
            let (mut bytes, count) = match kind {
                Kind::Ahead(by) => {
                    let first = next + by;
                    next = first + count;
                    messages(first)
                }
                Kind::At(first) => messages(first),
                Kind::Far => messages(next + (1 << 25)),
                Kind::Heartbeat(at) => (Header::heartbeat(SESSION, at).as_bytes().to_vec(), 0),
                Kind::End(at) => (Header::end_of_session(SESSION, at).as_bytes().to_vec(), 0),
            };
            if other_session {
                bytes[..10].copy_from_slice(b"TEST000002");
            }
            if let (true, Some(time)) = (restarts, bytes.get_mut(FIRST_TIME)) {
                *time ^= 0x80;
            }
            came += count;
            pipeline.on_frame(&frame(line, &bytes), now);
            requests.extend(std::iter::from_fn(|| pipeline.next_request()));
            if answer % 2 == 0 && !requests.is_empty() {
                let request = requests.remove(usize::from(answer) % requests.len());
                let end = request.end.min(request.first + 8);
                let mut bytes = payload(request.first, end);
                bytes[..10].copy_from_slice(&request.session);
                came += end - request.first;
                pipeline.on_recovered(0, &bytes, now + 1);
            }
            let Some(request) = pipeline.next_snapshot() else { continue };
            let parts = match answer {
                0..4 => {
                    let next_seq = request.from + u64::from(answer);
                    vec![SnapshotPart::Begin { next_seq }, SnapshotPart::End]
                }
                4..6 => vec![SnapshotPart::None],
                _ => vec![],
            };
            parts.into_iter().for_each(|part| pipeline.on_snapshot(&request, part, now + 2));
        }
        pipeline.finish(now + 10_000_000);

        let (mut added, mut missing) = (0, 0);
        while let Some((_, event)) = reader.next_event().unwrap() {
            let is_add = |record: MboMsg| record.action == action::ADD;
            added += u64::from(event.mbo().is_some_and(is_add));
            missing += event.get::<GapMsg>().map_or(0, |gap| gap.end_seq - gap.first_seq);
        }
        let feed = view.feed(0).unwrap();
        let count = |counter| feed.counter(counter);
        let of_line = |line, counter| view.line(0, line).map_or(0, |line| line.counter(counter));
        let taken = count(FeedCounter::Messages);
        let left = count(FeedCounter::DuplicateMessages) + count(FeedCounter::StaleMessages);
        let too_late = of_line(RECOVERY_LINE, LineCounter::Stale);
        prop_assert_eq!(taken + left + too_late, came);
        prop_assert_eq!(added + count(FeedCounter::BookErrors), taken);
        let lines: u64 = (0..=RECOVERY_LINE).map(|line| of_line(line, LineCounter::Taken)).sum();
        prop_assert_eq!(lines, taken);
        let lost = count(FeedCounter::LostMessages) + count(FeedCounter::JoinedLateMessages);
        prop_assert_eq!(lost, missing);
    }
}
