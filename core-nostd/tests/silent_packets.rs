//! A packet without messages bears no exchange time. What it reveals has that of the latest message,
//! not the day's midnight: who asks for a time of the day must find the loss, and the end of a
//! session does not stand before it.

mod itch_worker;

use itch_worker::{MIDNIGHT, Memory, SESSION, SMALL, START, frame, payload};
use wiretape_core::event::{GapMsg, MboMsg, SessionMsg, action, gap_reason, session_change};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::wire::moldudp64::Header;
use zerocopy::IntoBytes;

/// Records of these kinds, by what they tell, and their exchange times.
fn told(view: &wiretape_core::segment::SegmentView<'_>) -> Vec<(&'static str, u64)> {
    let mut told = Vec::new();
    let mut reader = view.events().reader_from_oldest();
    while let Some((_, event)) = reader.next_event().unwrap() {
        let what = if let Some(gap) = event.get::<GapMsg>() {
            match gap.reason {
                gap_reason::HEARTBEAT => "gap",
                gap_reason::LATE_JOIN => "late",
                other => panic!("{other}"),
            }
        } else if let Some(session) = event.get::<SessionMsg>() {
            match session.change {
                session_change::START => "start",
                session_change::END => "end",
                session_change::NEW_SESSION => "new",
                other => panic!("{other}"),
            }
        } else if event.get::<MboMsg>().is_some_and(|record| record.action == action::CLEAR) {
            "clear"
        } else {
            continue;
        };
        told.push((what, event.header().ts_event));
    }
    told
}

#[test]
fn what_silence_reveals_has_the_time_of_the_latest_message() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(Patience::NONE, None);
    let mut take = |payload: &[u8], at: u64| pipeline.on_frame(&frame(0, payload), START + at);
    take(Header::heartbeat(SESSION, 1).as_bytes(), 0);
    take(&payload(1, 3), 10);
    take(Header::heartbeat(SESSION, 7).as_bytes(), 20);
    take(&payload(7, 9), 30);
    take(Header::end_of_session(SESSION, 9).as_bytes(), 40);
    for at in [50, 60] {
        take(Header::heartbeat(*b"TEST000002", 1).as_bytes(), at);
    }
    // Packets have the time of their first message, which is its number here.
    let expected = [
        ("start", MIDNIGHT),
        ("gap", START + 1),
        ("end", START + 7),
        ("new", START + 7),
        ("clear", START + 7),
    ];
    assert_eq!(told(&view), expected);
}

#[test]
fn a_session_that_is_found_under_way_in_silence_is_joined_when_it_is_found() {
    let mut memory = Memory::new(SMALL);
    let (mut pipeline, view) = memory.worker(Patience::NONE, None);
    pipeline.on_frame(&frame(0, Header::heartbeat(SESSION, 7).as_bytes()), START + 5);
    assert_eq!(told(&view), [("start", START + 5), ("late", START + 5)]);
}
