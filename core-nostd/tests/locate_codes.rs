//! Locate codes hold for a day: in the next session a code may be another stock's, and nothing that
//! was known of the one before is taken for its own.

mod itch_worker;

use itch_worker::{MIDNIGHT, Memory, OneByOne, SMALL, Size};
use wiretape_core::event::{MboMsg, StatusMsg, SymbolMsg};
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::segment::{FeedCounter, FeedGauge, health};

const TODAY: [u8; 10] = *b"TEST000001";
const TOMORROW: [u8; 10] = *b"TEST000002";

fn head(kind: u8, locate: u16) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(locate.to_be_bytes());
    message.extend([0; 8]);
    message
}

fn directory(locate: u16, stock: &[u8; 8]) -> Vec<u8> {
    let mut message = head(b'R', locate);
    message.extend(stock);
    message.resize(39, 0);
    message
}

fn halt(locate: u16, stock: &[u8; 8]) -> Vec<u8> {
    let mut message = head(b'H', locate);
    message.extend(stock);
    message.extend(*b"H T1  ");
    message
}

fn add(locate: u16, order: u64, stock: &[u8; 8]) -> Vec<u8> {
    let mut message = head(b'A', locate);
    message.extend(order.to_be_bytes());
    message.push(b'B');
    message.extend(100u32.to_be_bytes());
    message.extend(stock);
    message.extend(10_000u32.to_be_bytes());
    message
}

/// What a follower calls the instrument of each order and status, as it comes to know of it.
fn names(worker: &OneByOne<'_>) -> Vec<(char, String)> {
    let mut known = std::collections::HashMap::new();
    let mut named = Vec::new();
    let mut reader = worker.view.events().reader_from_oldest();
    while let Some((_, event)) = reader.next_event().unwrap() {
        let id = event.header().instrument_id;
        if let Some(record) = event.get::<SymbolMsg>() {
            let text = String::from_utf8_lossy(&record.symbol).trim_end_matches('\0').to_owned();
            known.insert(id, text);
        }
        let kind = match (event.get::<MboMsg>(), event.get::<StatusMsg>()) {
            (Some(record), _) => char::from(record.action),
            (_, Some(record)) => char::from(record.venue_type),
            _ => continue,
        };
        named.push((kind, known.get(&id).cloned().unwrap_or_default()));
    }
    named
}

fn named(kind: char, name: &str) -> (char, String) {
    (kind, name.to_owned())
}

#[test]
fn a_code_that_is_another_stocks_tomorrow_has_its_name_and_not_its_status() {
    let mut memory = Memory::new(SMALL);
    let mut worker = memory.one_by_one(None);
    worker.now = MIDNIGHT + 1;
    for message in [directory(1, b"AAPL    "), halt(1, b"AAPL    "), add(1, 5, b"AAPL    ")] {
        worker.take_in_session(&message, TODAY);
    }
    let market = |worker: &OneByOne<'_>, id| worker.view.market().read(id).unwrap().unwrap();
    assert_eq!((market(&worker, 1).status, market(&worker, 1).orders), (b'H', 1));

    // The directory message was lost with the others before this one.
    worker.next = 1;
    worker.take_in_session(&add(1, 5, b"MSFT    "), TOMORROW);
    let entry = market(&worker, 1);
    assert_eq!((entry.status, entry.orders, entry.health), (0, 1, health::UNDIRECTED));
    assert_eq!(worker.view.symbols().read(1).unwrap().unwrap().symbol(), "MSFT");
    assert_eq!(worker.view.feed(0).unwrap().counter(FeedCounter::Undirected), 1);
    worker.take_in_session(&halt(1, b"MSFT    "), TOMORROW);
    worker.take_in_session(&directory(2, b"AAPL    "), TOMORROW);
    worker.take_in_session(&add(2, 6, b"AAPL    "), TOMORROW);
    let expected = [
        named('H', "AAPL"),
        named('A', "AAPL"),
        named('R', "AAPL"), // the book is emptied
        named('A', "MSFT"),
        named('H', "MSFT"),
        named('A', "AAPL"),
    ];
    assert_eq!(names(&worker), expected);
    assert_eq!((market(&worker, 1).status, market(&worker, 2).status), (b'H', 0));
}

#[test]
fn who_joined_late_and_reads_the_events_on_the_next_day_has_the_names_of_each_day() {
    let mut memory = Memory::new(SMALL);
    let mut worker = memory.one_by_one(None);
    worker.now = MIDNIGHT + 1;
    // The directory was sent before the capture began.
    worker.next = 1000;
    worker.take_in_session(&add(1, 5, b"AAPL    "), TODAY);
    worker.take_in_session(&halt(2, b"IBM     "), TODAY);
    worker.next = 1;
    worker.take_in_session(&directory(1, b"MSFT    "), TOMORROW);
    worker.take_in_session(&add(1, 5, b"MSFT    "), TOMORROW);
    let expected = [named('A', "AAPL"), named('H', "IBM"), named('R', "AAPL"), named('A', "MSFT")];
    assert_eq!(names(&worker), expected);
}

#[test]
fn depth_stays_with_the_stock_that_was_chosen_and_not_with_its_code() {
    let mut memory = Memory::new(Size { depths: 1, ..SMALL });
    let chosen = DepthChoice::Symbols([*b"AAPL    "].into_iter().collect());
    let mut worker = memory.one_by_one(Some(&chosen));
    worker.now = MIDNIGHT + 1;
    for message in [directory(1, b"AAPL    "), add(1, 5, b"AAPL    ")] {
        worker.take_in_session(&message, TODAY);
    }
    let place = |worker: &OneByOne<'_>, id| worker.view.depth().place_of(id);
    assert_eq!((place(&worker, 1), place(&worker, 2)), (Some(0), None));
    worker.next = 1;
    for message in [
        directory(1, b"MSFT    "),
        add(1, 5, b"MSFT    "),
        directory(2, b"AAPL    "),
        add(2, 6, b"AAPL    "),
    ] {
        worker.take_in_session(&message, TOMORROW);
    }
    assert_eq!((place(&worker, 1), place(&worker, 2)), (None, Some(0)));
    let depth = worker.view.depth().read(0).unwrap().unwrap();
    assert_eq!((depth.bids[0].price, depth.bids[0].orders), (1_000_000_000, 1));
    let feed = worker.view.feed(0).unwrap();
    assert_eq!((feed.gauge(FeedGauge::Depths), feed.counter(FeedCounter::DepthsFull)), (1, 0));
}

#[test]
fn a_symbol_that_has_another_code_tomorrow_is_found_under_that_once_the_directory_was_sent() {
    let mut memory = Memory::new(SMALL);
    let mut worker = memory.one_by_one(None);
    worker.now = MIDNIGHT + 1;
    let system = |event: u8| [head(b'S', 0), vec![event]].concat();
    for message in [
        directory(1, b"AAPL    "),
        directory(2, b"IBM     "),
        directory(3, b"MSFT    "),
        system(b'S'),
    ] {
        worker.take_in_session(&message, TODAY);
    }
    let symbols = worker.view.symbols();
    assert_eq!(["AAPL", "IBM", "MSFT"].map(|name| symbols.find(name)), [Some(1), Some(2), Some(3)]);
    worker.next = 1;
    for message in [system(b'O'), directory(2, b"AAPL    "), directory(3, b"MSFT    ")] {
        worker.take_in_session(&message, TOMORROW);
    }
    // Whoever reads what is left of the day before still finds its names.
    assert_eq!(symbols.read(1).unwrap().unwrap().symbol(), "AAPL");
    worker.take_in_session(&system(b'S'), TOMORROW);
    assert_eq!(["AAPL", "IBM", "MSFT"].map(|name| symbols.find(name)), [Some(2), None, Some(3)]);
    assert_eq!((symbols.read(1), symbols.iter().count()), (Ok(None), 2));
    // One that was left out is announced by its first order.
    worker.take_in_session(&add(1, 7, b"IBM     "), TOMORROW);
    assert_eq!(symbols.find("IBM"), Some(1));
}

#[test]
fn stocks_whose_names_differ_behind_a_blank_are_two() {
    let mut memory = Memory::new(SMALL);
    let mut worker = memory.one_by_one(None);
    worker.now = MIDNIGHT + 1;
    for message in
        [directory(1, b"BRK A   "), directory(2, b"BRK B   "), directory(3, b" \x07X     ")]
    {
        worker.take_in_session(&message, TODAY);
    }
    let symbols = worker.view.symbols();
    assert_eq!(["BRK A", "BRK B", "BRK"].map(|name| symbols.find(name)), [Some(1), Some(2), None]);
    assert_eq!(symbols.read(3).unwrap().unwrap().symbol(), "", "what is not printable ends it");
}
