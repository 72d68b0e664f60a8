//! Feeds that come and go while packets arrive: each gives the events and the depth that it gives
//! alone, whatever the others do or left behind, and what belongs to none is counted.

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use wiretape_core::arena::Arena;
use wiretape_core::event::{Event, GapMsg, MboMsg, SessionMsg, SymbolMsg, rtype, session_change};
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Feed, Pipeline, Protocol};
use wiretape_core::segment::{
    Counter, DepthEntry, FeedCounter, FeedGauge, FeedIdentity, FeedState, Ledger, SegmentLayout,
    SegmentSpec, SegmentView, SegmentWriter, health,
};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::itch50::{AddOrder, Head, OrderDelete, Price4};
use wiretape_core::wire::moldudp64::Builder;
use zerocopy::IntoBytes;

const FEEDS: usize = 3;
const PORT: u16 = 26477;
const SESSION: [u8; 10] = *b"TEST000001";
const INSTRUMENTS: usize = 4;
/// Places for depth: fewer than feeds that want one.
const DEPTHS: u32 = 2;
const MIDNIGHT: u64 = 1_340_251_200_000_000_000;
const START: u64 = MIDNIGHT + 34_200_000_000_000;
const WAIT_NS: u64 = 20_000;
const SPEC: SegmentSpec<'static> = SegmentSpec {
    worker: "test",
    epoch: 1,
    pid: 0,
    event_slots: 1 << 12,
    instruments: FEEDS * INSTRUMENTS,
    feeds: FEEDS,
    depths: DEPTHS as usize,
};

/// A group that packets come to.
fn group(feed: usize) -> [u8; 4] {
    [233, 54, 12, 100 + feed as u8]
}

/// Messages `first..end` of a feed as a frame.
fn frame(feed: usize, first: u64, end: u64) -> Vec<u8> {
    packet(SESSION, feed, first, &orders(first, end))
}

fn orders(first: u64, end: u64) -> Vec<Vec<u8>> {
    let orders = (first..end).map(|number| {
        let order = AddOrder {
            head: Head::new(AddOrder::KIND, 1, 0, 34_200_000_000_000 + number),
            order_ref: number.into(),
            side: b'B',
            shares: 100.into(),
            stock: *b"TEST    ",
            price: Price4::new(10_000 + number as u32),
        };
        order.as_bytes().to_vec()
    });
    orders.collect()
}

/// Messages of a feed from number `first` on as a frame.
fn packet(session: [u8; 10], feed: usize, first: u64, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut buffer = vec![0; 1400];
    let mut builder = Builder::new(&mut buffer, session, first).unwrap();
    for message in messages {
        assert!(builder.push(message));
    }
    let payload = builder.finish();
    let mut frame = vec![0; payload.len() + 60];
    let route = Route::to_group([10, 0, 0, 1], group(feed), 40_000, PORT);
    let length = route.emit(0, payload, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

fn words() -> Vec<AtomicU64> {
    let words = SegmentLayout::new(&SPEC).unwrap().total_words;
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// Feed `index`, made beside the pipeline, with depth at these places; `deaf` to a group of its own
/// that nothing comes to.
fn make<'m>(
    index: usize,
    deaf: bool,
    places: &[u32],
    segment: &SegmentWriter<'m>,
    memory: &'m mut [u8],
) -> Feed<'m> {
    let spec = FeedSpec {
        identity: FeedIdentity {
            name: ["a", "b", "c"][index].try_into().unwrap(),
            protocol: Protocol::Itch50.name().try_into().unwrap(),
            group: if deaf { [239, 0, 0, index as u8] } else { group(index) },
            port: PORT,
            first_instrument: (index * INSTRUMENTS) as u32,
            instruments: INSTRUMENTS as u32,
        },
        publisher_id: 2,
        orders: 1_024,
        levels: 1_024,
        line_b: None,
        patience: Patience { packets: 16, packet_bytes: 1500, wait_ns: WAIT_NS, recovery_ns: None },
    };
    let days = TradingDays::new([MIDNIGHT]);
    let mut arena = Arena::with_contents_as_found(memory);
    let mut feed = Feed::new(index, Protocol::Itch50, &spec, &days, segment, &mut arena).unwrap();
    if !places.is_empty() {
        let places = places.iter().copied();
        feed.choose_depth(&DepthChoice::All, places, segment, &mut arena).unwrap();
    }
    feed
}

/// What there is of the depth of feed `index`'s instrument.
fn depth_of(view: &SegmentView<'_>, index: usize) -> Option<DepthEntry> {
    let instrument = (index * INSTRUMENTS + 1) as u32;
    view.depth().read(view.depth().place_of(instrument)?).unwrap()
}

fn memory() -> Vec<Vec<u8>> {
    (0..FEEDS).map(|_| vec![0; 48 << 20]).collect()
}

/// The feed that an event is of.
fn feed_of(event: &Event) -> usize {
    usize::from(match event.header().rtype {
        rtype::MBO => event.get::<MboMsg>().unwrap().channel_id,
        rtype::GAP => event.get::<GapMsg>().unwrap().feed,
        rtype::SESSION => event.get::<SessionMsg>().unwrap().feed,
        rtype::SYMBOL => return usize::from(event.get::<SymbolMsg>().unwrap().feed),
        other => panic!("a record of type {other:#x}"),
    })
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A packet of a feed, whose number is so far ahead of the one before.
    Packet { feed: usize, ahead: u64, count: u64 },
    /// The next feed comes.
    Attach,
    /// This one goes, if it is there.
    Detach { feed: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ahead = prop_oneof![6 => Just(0_u64), 1 => 1..4_u64];
    let packet = (0..FEEDS, ahead, 1..4_u64).prop_map(|(feed, ahead, count)| Step::Packet {
        feed,
        ahead,
        count,
    });
    let detach = (0..FEEDS).prop_map(|feed| Step::Detach { feed });
    prop::collection::vec(prop_oneof![20 => packet, 2 => Just(Step::Attach), 1 => detach], 1..120)
}

/// What a run gives: events by feed, depth of those that are there at the end, and packets that
/// belonged to no feed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    events: [Vec<Event>; FEEDS],
    depth: [Option<DepthEntry>; FEEDS],
    others: u64,
}

/// Runs `steps`; with `alone` all other feeds hear nothing.
fn run(steps: &[Step], alone: Option<usize>) -> Told {
    let (words, mut memory) = (words(), memory());
    let mut memory = memory.iter_mut().map(Vec::as_mut_slice);
    let segment = SegmentWriter::create(&words, &SPEC).unwrap();
    segment.start();
    let view = SegmentView::attach(&words).unwrap();
    let mut reader = view.events().reader_from_oldest();
    let mut pipeline = Pipeline::new(segment);
    let (mut attached, mut next, mut now) = (0, [1; FEEDS], START);
    let (mut told, mut live) = (Told::default(), [false; FEEDS]);
    // Each feed takes one while there is one, and leaves it to the next when it goes.
    let mut free: Vec<u32> = (0..DEPTHS).collect();
    let mut places = [None; FEEDS];
    for step in steps {
        now += 1_000;
        match *step {
            Step::Packet { feed, ahead, count } => {
                let first = next[feed] + ahead;
                next[feed] = first + count;
                pipeline.on_frame(&frame(feed, first, first + count), now);
            }
            Step::Attach if attached < FEEDS => {
                assert_eq!(view.feed_count(), attached);
                let deaf = alone.is_some_and(|only| only != attached);
                places[attached] = free.pop();
                let mine = places[attached].as_slice();
                let feed = make(attached, deaf, mine, &segment, memory.next().unwrap());
                assert_eq!(view.feed_count(), attached, "nobody knows of it before it is there");
                pipeline.attach(feed).unwrap();
                live[attached] = true;
                attached += 1;
                assert_eq!(view.feed_count(), attached);
            }
            Step::Attach => {}
            Step::Detach { feed } => {
                let gone = pipeline.detach(feed, now);
                assert_eq!(gone.is_some(), live[feed]);
                live[feed] = false;
                if let Some(gone) = gone {
                    assert_eq!(view.feed(feed).unwrap().state(), FeedState::Removed);
                    free.extend(places[feed]);
                    // Its place is not used again in this epoch.
                    assert!(pipeline.attach(gone).is_err());
                }
            }
        }
    }
    pipeline.finish(now + 1_000);
    for (index, place) in places.iter().enumerate().filter(|(index, _)| live[*index]) {
        let entry = depth_of(&view, index);
        assert!(place.is_some() || entry.is_none(), "no place, and depth: {entry:?}");
        let gauge = |gauge| view.feed(index).unwrap().gauge(gauge);
        assert_eq!(gauge(FeedGauge::DepthsCapacity), place.iter().count() as u64);
        assert!(gauge(FeedGauge::Depths) <= gauge(FeedGauge::DepthsCapacity));
        // Where its last event is in the ring is not the feed's affair.
        told.depth[index] = entry.map(|entry| DepthEntry { event_seq: 0, ..entry });
    }
    while let Some((_, event)) = reader.next_event().expect("a ring that holds it all") {
        told.events[feed_of(&event)].push(event);
    }
    let ledger = Ledger::read(&view.counters(), false);
    assert!(ledger.closes(), "{ledger:?}");
    told.others = view.counters().get(Counter::OtherGroup);
    for (index, feed) in view.feeds().enumerate() {
        assert_eq!(feed.counter(FeedCounter::Events), told.events[index].len() as u64);
        assert_eq!(feed.identity().first_instrument as usize, index * INSTRUMENTS);
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 4096 }))]
    #[test]
    fn a_feed_gives_what_it_gives_alone(steps in steps()) {
        let together = run(&steps, None);
        for feed in 0..FEEDS {
            let alone = run(&steps, Some(feed));
            prop_assert_eq!(&together.events[feed], &alone.events[feed]);
            prop_assert_eq!(&together.depth[feed], &alone.depth[feed]);
            prop_assert!(alone.others >= together.others);
        }
    }
}

#[test]
fn a_feed_that_goes_gives_up_what_it_waits_for_and_says_goodbye() {
    let (words, mut memory) = (words(), memory());
    let segment = SegmentWriter::create(&words, &SPEC).unwrap();
    segment.start();
    let view = SegmentView::attach(&words).unwrap();
    let mut reader = view.events().reader_from_oldest();
    let mut pipeline = Pipeline::new(segment);
    let (first, rest) = memory.split_first_mut().unwrap();
    let a = make(0, false, &[], &segment, first);
    let b = make(1, false, &[], &segment, &mut rest[0]);
    // The second place is not the next one.
    let b = pipeline.attach(b).unwrap_err();
    pipeline.attach(a).unwrap();
    pipeline.on_frame(&frame(0, 1, 3), START);
    pipeline.on_frame(&frame(1, 1, 3), START + 1);
    pipeline.attach(b).unwrap();
    pipeline.on_frame(&frame(0, 5, 7), START + 2);
    assert!(pipeline.is_waiting());
    let gone = pipeline.detach(0, START + 3).unwrap();
    assert!(!pipeline.is_waiting() && pipeline.detach(0, START + 3).is_none());
    drop(gone);
    pipeline.on_frame(&frame(0, 7, 9), START + 4);
    pipeline.on_frame(&frame(1, 3, 5), START + 5);
    // It may have been overtaken by messages 1 and 2.
    assert!(pipeline.is_waiting());
    pipeline.finish(START + 6);

    let mut told = Vec::new();
    while let Some((_, event)) = reader.next_event().unwrap() {
        let (feed, header) = (feed_of(&event), event.header());
        let what = match header.rtype {
            rtype::MBO => u64::from(event.get::<MboMsg>().unwrap().sequence),
            rtype::GAP => event.get::<GapMsg>().unwrap().end_seq,
            rtype::SESSION => {
                let session = event.get::<SessionMsg>().unwrap();
                if session.change == session_change::REMOVED {
                    let SessionMsg { next_seq, ts_recv, session, .. } = session;
                    assert_eq!((next_seq, ts_recv), (7, START + 3));
                    assert_eq!(session, *b"TEST000001");
                }
                session.change.into()
            }
            _ => continue,
        };
        told.push((feed, header.rtype, what));
    }
    let (mbo, gap, session) = (rtype::MBO, rtype::GAP, rtype::SESSION);
    let start = u64::from(session_change::START);
    let removed = u64::from(session_change::REMOVED);
    assert_eq!(
        told,
        [
            (0, session, start),
            (0, mbo, 1),
            (0, mbo, 2),
            (0, gap, 5),
            (0, mbo, 5),
            (0, mbo, 6),
            (0, session, removed),
            (1, session, start),
            (1, gap, 3),
            (1, mbo, 3),
            (1, mbo, 4),
        ]
    );
    let counters = view.counters();
    assert_eq!(counters.get(Counter::OtherGroup), 2);
    assert_eq!(counters.get(Counter::Datagrams), 3);
    let feed = view.feed(0).unwrap();
    assert_eq!(feed.counter(FeedCounter::Messages), 4);
}

/// What a feed leaves behind stays as it stood until the next feed's instrument takes its place, and
/// is marked by nobody.
#[test]
fn a_place_for_depth_is_the_next_feeds() {
    let (words, mut memory) = (words(), memory());
    let segment = SegmentWriter::create(&words, &SPEC).unwrap();
    segment.start();
    let view = SegmentView::attach(&words).unwrap();
    let mut pipeline = Pipeline::new(segment);
    let (first, rest) = memory.split_first_mut().unwrap();
    pipeline.attach(make(0, false, &[1], &segment, first)).unwrap();
    pipeline.on_frame(&frame(0, 1, 4), START);
    let left = depth_of(&view, 0).expect("depth of the first feed");
    assert_eq!(view.depth().place_of(left.instrument), Some(1));
    let feed = view.feed(0).unwrap();
    assert_eq!([FeedGauge::Depths, FeedGauge::DepthsCapacity].map(|one| feed.gauge(one)), [1, 1]);

    // The next is made while the first is still there, and comes when it is gone.
    let next = make(1, false, &[1], &segment, &mut rest[0]);
    drop(pipeline.detach(0, START + 1).unwrap());
    pipeline.attach(next).unwrap();
    assert_eq!(depth_of(&view, 0), Some(left));
    // Its instrument is announced, but the first message about it is an error: no event yet.
    let mut directory = Head::new(b'R', 1, 0, 34_200_000_000_000).as_bytes().to_vec();
    directory.extend(*b"TEST    ");
    directory.resize(39, 0);
    let head = Head::new(OrderDelete::KIND, 1, 0, 34_200_000_000_001);
    let unknown = OrderDelete { head, order_ref: 77.into() };
    pipeline.on_frame(&packet(SESSION, 1, 1, &[directory, unknown.as_bytes().to_vec()]), START + 2);
    let feed = view.feed(1).unwrap();
    assert_eq!((feed.counter(FeedCounter::BookErrors), feed.gauge(FeedGauge::Depths)), (1, 1));
    assert_eq!((depth_of(&view, 0), depth_of(&view, 1)), (Some(left), None));
    pipeline.on_frame(&frame(1, 3, 6), START + 3);
    assert_eq!(depth_of(&view, 0), None);
    let entry = depth_of(&view, 1).expect("depth of the second feed");
    assert_eq!((entry.health, entry.features.order_flow), (health::BOOK_ERROR, 300));
    assert_eq!(entry.bids.iter().filter(|level| level.is_some()).count(), 3);

    // Another session forgets the past, not the place.
    pipeline.on_frame(&packet(*b"TEST000002", 1, 1, &orders(1, 2)), START + 4);
    let entry = view.depth().read(1).unwrap().expect("depth of the second feed");
    assert_eq!((entry.instrument, entry.features.order_flow), (INSTRUMENTS as u32 + 1, 100));
    assert_eq!(view.depth().read(0), Ok(None));
}
