//! What a venue should not send, by cause: each is counted, marks its book for readers at once, and
//! the next message is handled as if nothing had been.

mod itch_worker;

use std::ops::Deref;

use itch_worker::{MIDNIGHT, Memory, OneByOne, Size};
use wiretape_core::book::BookError;
use wiretape_core::event::MboMsg;
use wiretape_core::segment::{Counter, ErrorGroup, FeedCounter, MarketEntry, health};

const INSTRUMENTS: u32 = 8;
/// Orders that the feed has room for.
const ORDERS: u32 = 16;

/// A worker with one feed, and a directory message and an order behind it.
struct Worker<'m>(OneByOne<'m>);

fn with_worker(test: impl FnOnce(Worker<'_>)) {
    let size =
        Size { instruments: INSTRUMENTS, depths: 0, event_slots: 256, orders: ORDERS, levels: 64 };
    let mut memory = Memory::new(size);
    let mut worker = Worker(memory.one_by_one(None));
    for good in [directory(1), add(1, 900, 1, 1), delete(1, 900)] {
        worker.take(&good);
    }
    assert_eq!(worker.market(1).health, 0);
    test(worker);
}

impl<'m> Deref for Worker<'m> {
    type Target = OneByOne<'m>;

    fn deref(&self) -> &OneByOne<'m> {
        &self.0
    }
}

impl Worker<'_> {
    /// Takes a message a nanosecond later than the one before.
    fn take(&mut self, message: &[u8]) {
        self.0.now = MIDNIGHT + self.next;
        self.0.take(message);
    }

    fn count(&self, counter: FeedCounter) -> u64 {
        self.view.feed(0).unwrap().counter(counter)
    }

    fn market(&self, instrument: u32) -> MarketEntry {
        self.view.market().read(instrument).unwrap().unwrap()
    }

    /// Sends `bad`; it must be counted under `cause`, once, mark `instrument`, and leave the
    /// worker able to take an order of another reference.
    fn expect(&mut self, bad: &[u8], cause: BookError, instrument: u32) {
        let index = cause.index();
        let feed = |worker: &Self| worker.view.feed(0).unwrap();
        let before =
            (feed(self).errors(ErrorGroup::Book, index), self.count(FeedCounter::BookErrors));
        self.take(bad);
        let after =
            (feed(self).errors(ErrorGroup::Book, index), self.count(FeedCounter::BookErrors));
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{cause:?}");
        let entry = self.market(instrument);
        assert_ne!(entry.health & health::BOOK_ERROR, 0, "{cause:?} marks the book at once");
        assert_eq!(entry.ts_recv, MIDNIGHT + self.next - 1, "{cause:?}");
        let orders = self.market(1).orders;
        let messages = self.count(FeedCounter::Messages);
        self.take(&add(1, 900, 5, 7));
        self.take(&delete(1, 900));
        assert_eq!(self.count(FeedCounter::Messages), messages + 2);
        assert_eq!(self.market(1).orders, orders, "{cause:?}: the next message is handled");
    }
}

fn head(kind: u8, locate: u16) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(locate.to_be_bytes());
    message.extend([0; 8]);
    message
}

fn directory(locate: u16) -> Vec<u8> {
    let mut message = head(b'R', locate);
    message.extend(*b"TEST    QN");
    message.extend(100u32.to_be_bytes());
    message.extend(*b"NCZ PN 1N");
    message.extend([0; 5]);
    message.truncate(39);
    message
}

fn add(locate: u16, order: u64, shares: u32, price: u32) -> Vec<u8> {
    let mut message = head(b'A', locate);
    message.extend(order.to_be_bytes());
    message.push(b'B');
    message.extend(shares.to_be_bytes());
    message.extend(*b"TEST    ");
    message.extend(price.to_be_bytes());
    message
}

fn execute(locate: u16, order: u64, shares: u32) -> Vec<u8> {
    let mut message = head(b'E', locate);
    message.extend(order.to_be_bytes());
    message.extend(shares.to_be_bytes());
    message.extend(1u64.to_be_bytes());
    message
}

fn cancel(locate: u16, order: u64, shares: u32) -> Vec<u8> {
    let mut message = head(b'X', locate);
    message.extend(order.to_be_bytes());
    message.extend(shares.to_be_bytes());
    message
}

fn delete(locate: u16, order: u64) -> Vec<u8> {
    let mut message = head(b'D', locate);
    message.extend(order.to_be_bytes());
    message
}

fn replace(locate: u16, old: u64, new: u64, shares: u32, price: u32) -> Vec<u8> {
    let mut message = head(b'U', locate);
    message.extend(old.to_be_bytes());
    message.extend(new.to_be_bytes());
    message.extend(shares.to_be_bytes());
    message.extend(price.to_be_bytes());
    message
}

fn overfill() -> BookError {
    let removed = wiretape_core::book::Reduced {
        instrument: 0,
        side: wiretape_core::event::Side::Bid,
        price: 0,
        removed: 0,
        left: 0,
        top: false,
    };
    BookError::Overfill { removed, asked: 0 }
}

#[test]
fn an_execution_or_cancel_larger_than_its_order_takes_all_that_there_is() {
    with_worker(|mut worker| {
        worker.take(&add(1, 5, 100, 10_000));
        worker.expect(&execute(1, 5, 101), overfill(), 1);
        assert_eq!(worker.market(1).orders, 0);
        worker.take(&add(1, 6, 100, 10_000));
        worker.expect(&cancel(1, 6, u32::MAX), overfill(), 1);
        assert_eq!(worker.market(1).orders, 0);
        // Whoever applies the records sees no more removed than there was.
        let mut reader = worker.view.events().reader_from_oldest();
        while let Some((_, event)) = reader.next_event().unwrap() {
            if let Some(record) = event.get::<MboMsg>().filter(|record| record.action == b'C') {
                assert!(record.size <= 100, "{record:?}");
            }
        }
    });
}

#[test]
fn an_order_that_nobody_added_cannot_be_changed() {
    with_worker(|mut worker| {
        for bad in
            [execute(1, 77, 1), cancel(1, 77, 1), delete(1, 77), replace(1, 77, 78, 10, 10_000)]
        {
            worker.expect(&bad, BookError::UnknownOrder, 1);
        }
        assert_eq!(worker.market(1).orders, 0);
    });
}

#[test]
fn a_reference_that_is_in_use_stays_with_its_order() {
    with_worker(|mut worker| {
        worker.take(&add(1, 5, 100, 10_000));
        worker.expect(&add(1, 5, 300, 20_000), BookError::DuplicateOrder, 1);
        let entry = worker.market(1);
        assert_eq!((entry.bid_px, entry.bid_sz, entry.orders), (1_000_000_000, 100, 1));
        // By a replace, which takes the old order away all the same.
        worker.take(&add(1, 6, 50, 11_000));
        worker.expect(&replace(1, 6, 5, 10, 12_000), BookError::DuplicateOrder, 1);
        let entry = worker.market(1);
        assert_eq!((entry.bid_px, entry.bid_sz, entry.orders), (1_000_000_000, 100, 1));
    });
}

#[test]
fn a_full_pool_of_orders_drops_the_order_and_takes_the_next_when_there_is_room() {
    with_worker(|mut worker| {
        let mut order = 1_000;
        while worker.count(FeedCounter::BookErrors) == 0 {
            order += 1;
            assert!(order < 1_000 + 10 * u64::from(ORDERS), "a pool that never fills");
            worker.take(&add(1, order, 100, 10_000));
        }
        let held = worker.market(1).orders;
        assert!(held >= u64::from(ORDERS), "{held} orders held");
        let feed = worker.view.feed(0).unwrap();
        assert_eq!(feed.errors(ErrorGroup::Book, BookError::OrdersFull.index()), 1);
        assert_ne!(worker.market(1).health & health::BOOK_ERROR, 0);
        worker.take(&delete(1, 1_001));
        worker.expect(&add(1, 1_002, 1, 1), BookError::DuplicateOrder, 1);
        worker.take(&add(1, 5_000, 100, 10_000));
        assert_eq!(worker.market(1).orders, held, "room for one again");
    });
}

#[test]
fn a_price_of_zero_a_size_of_zero_and_a_side_that_is_none_are_refused() {
    with_worker(|mut worker| {
        worker.expect(&add(1, 5, 100, 0), BookError::InvalidPrice, 1);
        worker.expect(&add(1, 5, 0, 10_000), BookError::ZeroSize, 1);
        let mut sideless = add(1, 5, 100, 10_000);
        sideless[19] = b'?';
        worker.expect(&sideless, BookError::InvalidSide, 1);
        // A replace at zero takes the old order away, as the venue did.
        worker.take(&add(1, 6, 100, 10_000));
        worker.expect(&replace(1, 6, 7, 100, 0), BookError::InvalidPrice, 1);
        worker.expect(&delete(1, 7), BookError::UnknownOrder, 1);
        assert_eq!(worker.market(1).orders, 0);
    });
}

#[test]
fn a_message_of_a_wrong_length_marks_the_book_that_it_would_have_changed() {
    let too_long = |mut message: Vec<u8>| {
        message.push(0);
        message
    };
    let books = [
        add(1, 5, 100, 10_000),
        execute(1, 5, 1),
        cancel(1, 5, 1),
        delete(1, 5),
        replace(1, 5, 6, 1, 1),
    ];
    for (bad, other) in
        books.into_iter().zip([directory(1), head(b'H', 1), vec![], head(b'?', 1), vec![b'I']])
    {
        with_worker(|mut worker| {
            worker.take(&other);
            assert_eq!(worker.market(1).health, 0, "{other:?} is no matter of the book");
            worker.take(&too_long(bad.clone()));
            let bad_messages = worker.count(FeedCounter::BadMessages);
            assert!(bad_messages >= 1, "{bad_messages}");
            assert_eq!(worker.market(1).health, health::BOOK_ERROR, "{}", char::from(bad[0]));
            assert_eq!(worker.market(1).ts_recv, MIDNIGHT + worker.next - 1);
            assert!(!worker.view.feed(0).unwrap().session().unwrap().maybe_bad_book);
            // So short that it names no instrument: any book may lack it.
            worker.take(&bad[..2]);
            assert!(worker.view.feed(0).unwrap().session().unwrap().maybe_bad_book);
        });
    }
}

#[test]
fn an_instrument_that_no_directory_announced_is_counted_and_marked_until_one_does() {
    with_worker(|mut worker| {
        worker.take(&add(3, 5, 100, 10_000));
        worker.take(&add(3, 6, 100, 10_000));
        assert_eq!(worker.count(FeedCounter::Undirected), 1);
        let entry = worker.market(3);
        assert_eq!((entry.orders, entry.health), (2, health::UNDIRECTED));
        worker.take(&directory(3));
        worker.take(&delete(3, 6));
        assert_eq!((worker.market(3).orders, worker.market(3).health), (1, 0));

        // One that the segment has no room for.
        let full = |worker: &Worker<'_>| worker.view.counters().get(Counter::InstrumentsFull);
        let before = full(&worker);
        for bad in [add(INSTRUMENTS as u16, 9, 1, 1), add(u16::MAX, 9, 1, 1), directory(900)] {
            worker.take(&bad);
        }
        assert_eq!(full(&worker), before + 3);
        worker.expect(&delete(3, 9), BookError::UnknownOrder, 3);
    });
}

#[test]
fn a_change_that_names_another_instrument_than_its_orders_is_taken_and_marks_both() {
    let bad = [execute(1, 5, 40), cancel(1, 5, 40), delete(1, 5), replace(1, 5, 6, 60, 9_000)];
    for (bad, left) in bad.into_iter().zip([60, 60, 0, 60]) {
        with_worker(|mut worker| {
            for good in [directory(2), directory(3), add(2, 4, 100, 10_000), add(3, 5, 100, 10_000)]
            {
                worker.take(&good);
            }
            worker.expect(&bad, BookError::WrongInstrument, 3);
            assert_eq!(worker.market(1).health, health::BOOK_ERROR);
            assert_eq!(worker.market(3).bid_sz, left);
            let entry = worker.market(2);
            assert_eq!((entry.health, entry.bid_sz, entry.orders), (0, 100, 1), "untouched");
        });
    }
}

#[test]
fn a_change_that_names_an_instrument_without_room_leaves_the_order_as_readers_have_it() {
    with_worker(|mut worker| {
        worker.take(&add(1, 5, 100, 10_000));
        for bad in [
            execute(900, 5, 10),
            cancel(900, 5, 10),
            delete(900, 5),
            replace(900, 5, 6, 100, 11_000),
        ] {
            worker.take(&bad);
        }
        assert_eq!(worker.view.counters().get(Counter::InstrumentsFull), 4);
        worker.take(&cancel(1, 5, 40));
        let entry = worker.market(1);
        assert_eq!((entry.bid_px, entry.bid_sz, entry.orders), (1_000_000_000, 60, 1));
        worker.take(&delete(1, 5));
        assert_eq!((worker.count(FeedCounter::BookErrors), worker.market(1).orders), (0, 0));
    });
}

/// Every message that arrives is taken, known already, or left aside, and counted as that.
#[test]
fn packets_that_are_left_aside_are_not_called_duplicates() {
    with_worker(|mut worker| {
        let (old, new, stray) = (*b"TEST000001", *b"TEST000002", *b"TEST000003");
        let counts = |worker: &Worker<'_>| {
            use FeedCounter::{
                DuplicateMessages, DuplicatePackets, Messages, StaleMessages, StalePackets,
            };
            [Messages, DuplicateMessages, DuplicatePackets, StaleMessages, StalePackets]
                .map(|counter| worker.count(counter))
        };
        assert_eq!(counts(&worker), [3, 0, 0, 0, 0]);
        // Far ahead, and nobody confirms it.
        worker.0.next = 1 << 40;
        worker.take(&add(1, 5, 1, 1));
        assert_eq!(counts(&worker), [3, 0, 0, 1, 1]);
        worker.0.next = 3;
        worker.take(&delete(1, 900));
        assert_eq!(counts(&worker), [3, 1, 1, 1, 1]);
        // Another session takes over; of the old one comes what is known, then what is not.
        worker.0.next = 1;
        worker.0.take_in_session(&directory(1), new);
        worker.0.next = 2;
        worker.0.take_in_session(&add(1, 6, 1, 1), old);
        assert_eq!(counts(&worker), [4, 2, 2, 1, 1]);
        worker.0.next = 4;
        worker.0.take_in_session(&add(1, 6, 1, 1), old);
        assert_eq!(counts(&worker), [4, 2, 2, 2, 2]);
        worker.0.next = 2;
        worker.0.take_in_session(&add(1, 7, 1, 1), new);
        assert_eq!(counts(&worker), [5, 2, 2, 2, 2]);
        // A session that is announced and does not go on: nothing of it is lost.
        let heartbeat = wiretape_core::wire::moldudp64::Header::heartbeat(stray, 1);
        let frame = itch_worker::frame(0, zerocopy::IntoBytes::as_bytes(&heartbeat));
        worker.0.pipeline.on_frame(&frame, MIDNIGHT);
        assert_eq!(counts(&worker), [5, 2, 2, 2, 3]);
    });
}
