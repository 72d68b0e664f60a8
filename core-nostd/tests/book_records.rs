//! What DBN records do to the books, action by action.

use wiretape_core::arena::Arena;
use wiretape_core::book::{
    Added, Applied, BookError, BookSpec, HashIndex, LevelBook, LevelBookSpec, LevelChange,
    Modified, OrderBook, Resting, health,
};
use wiretape_core::event::{MboMsg, RecordHeader, SIDE_NONE, Side, UNDEF_PRICE, action, flags};

const PRICE: i64 = 5_234_250_000_000;
const TICK: i64 = 250_000_000;

fn record(action: u8, order_id: u64, side: u8, price: i64, size: u32) -> MboMsg {
    MboMsg {
        hd: RecordHeader::new::<MboMsg>(1, 0, 0),
        order_id,
        price,
        size,
        flags: flags::LAST,
        channel_id: 0,
        action,
        side,
        ts_recv: 0,
        ts_in_delta: 0,
        sequence: 0,
    }
}

fn with_book(test: impl FnOnce(OrderBook<'_, HashIndex<'_>>)) {
    let spec = BookSpec { instruments: 2, orders: 8, levels: 8 };
    let mut region = vec![0xFF; spec.bytes() + HashIndex::bytes(spec.orders)];
    let mut arena = Arena::new(&mut region);
    let index = HashIndex::new(&mut arena, spec.orders).unwrap();
    test(OrderBook::new(&mut arena, &spec, index).unwrap());
}

#[test]
fn adds_cancels_and_clears_change_the_book() {
    with_book(|mut book| {
        let add = record(action::ADD, 1, b'B', PRICE, 10);
        assert_eq!(book.apply(&add), Ok(Applied::Added(Added { top: true })));
        let Ok(Applied::Reduced(part)) = book.apply(&record(action::CANCEL, 1, b'B', PRICE, 4))
        else {
            panic!("the order is there");
        };
        assert_eq!((part.price, part.removed, part.left, part.side), (PRICE, 4, 6, Side::Bid));
        book.apply(&record(action::ADD, 2, b'A', PRICE + TICK, 1)).unwrap();
        let clear = record(action::CLEAR, 0, SIDE_NONE, UNDEF_PRICE, 0);
        assert_eq!(book.apply(&clear), Ok(Applied::Cleared(2)));
        assert_eq!(book.live_orders(), 0);
    });
}

#[test]
fn trades_fills_and_none_change_nothing() {
    with_book(|mut book| {
        book.apply(&record(action::ADD, 1, b'B', PRICE, 10)).unwrap();
        let before = book.best(0);
        for action in [action::TRADE, action::FILL, action::NONE] {
            let record = record(action, 1, b'B', PRICE, 10);
            assert_eq!(book.apply(&record), Ok(Applied::Unchanged));
        }
        assert_eq!((book.best(0), book.live_orders()), (before, 1));
    });
}

#[test]
fn modify_keeps_the_place_in_the_queue_only_for_a_smaller_size_at_the_same_price() {
    with_book(|mut book| {
        for id in [1, 2] {
            book.apply(&record(action::ADD, id, b'A', PRICE, 10)).unwrap();
        }
        let queue = |book: &OrderBook<'_, HashIndex<'_>>, price| {
            book.orders_at(0, Side::Ask, price).map(|o| (o.order_id, o.size)).collect::<Vec<_>>()
        };
        let smaller = book.apply(&record(action::MODIFY, 1, b'A', PRICE, 7));
        let previous = Some(Resting { price: PRICE, instrument: 0, size: 10, side: Side::Ask });
        let kept = Modified { previous, kept_priority: true, top: true };
        assert_eq!(smaller, Ok(Applied::Modified(kept)));
        assert_eq!(queue(&book, PRICE), [(1, 7), (2, 10)]);
        book.apply(&record(action::MODIFY, 1, b'A', PRICE, 8)).unwrap();
        assert_eq!(queue(&book, PRICE), [(2, 10), (1, 8)]);
        book.apply(&record(action::MODIFY, 2, b'A', PRICE + TICK, 9)).unwrap();
        assert_eq!((queue(&book, PRICE), queue(&book, PRICE + TICK)), (vec![(1, 8)], vec![(2, 9)]));
        let unknown = book.apply(&record(action::MODIFY, 3, b'A', PRICE, 5));
        let added = Modified { previous: None, kept_priority: false, top: true };
        assert_eq!(unknown, Ok(Applied::Modified(added)));
        assert_eq!(queue(&book, PRICE), [(1, 8), (3, 5)]);
    });
}

#[test]
fn a_record_that_cannot_be_applied_says_why_and_marks_the_instrument() {
    with_book(|mut book| {
        book.apply(&record(action::ADD, 1, b'B', PRICE, 10)).unwrap();
        assert_eq!(book.health(0), 0);
        let unknown = book.apply(&record(action::CANCEL, 9, b'B', PRICE, 1));
        assert_eq!(unknown, Err(BookError::UnknownOrder));
        assert_eq!(book.health(0), health::BOOK_ERROR);
        let mut other = record(action::CANCEL, 1, b'B', PRICE, 1);
        other.hd.instrument_id = 1;
        assert_eq!(book.apply(&other), Err(BookError::WrongInstrument));
        other.hd.instrument_id = 2;
        other.action = action::ADD;
        assert_eq!(book.apply(&other), Err(BookError::UnknownInstrument));
        // Instrument and side of an order share a word: the highest bit must not be lost on the way.
        other.hd.instrument_id = 1 << 31;
        for action in [action::ADD, action::MODIFY] {
            let order = MboMsg { action, order_id: 7, ..other };
            assert_eq!(book.apply(&order), Err(BookError::UnknownInstrument));
        }
        assert_eq!(book.live_orders(), 1);
        book.clear(1).unwrap();
        let mut no_side = record(action::ADD, 2, SIDE_NONE, PRICE, 1);
        no_side.hd.instrument_id = 1;
        assert_eq!(book.apply(&no_side), Err(BookError::InvalidSide));
        assert_eq!(book.health(1), health::BOOK_ERROR);
        assert_eq!(book.apply(&record(b'?', 2, b'B', PRICE, 1)), Err(BookError::InvalidAction));
        let level = MboMsg { flags: flags::MBP, ..record(action::ADD, 2, b'B', PRICE, 1) };
        assert_eq!(book.apply(&level), Err(BookError::NotAnOrder));
        let too_much = book.apply(&record(action::CANCEL, 1, b'B', PRICE, 11));
        let Err(error @ BookError::Overfill { removed, asked: 11 }) = too_much else {
            panic!("{too_much:?}");
        };
        assert_eq!((removed.removed, removed.left, book.live_orders()), (10, 0, 0));
        assert_eq!(error.name(), "overfill");
        assert!(error.to_string().contains("11 taken from an order that had 10"));
    });
}

#[test]
fn a_full_book_refuses_and_goes_on() {
    with_book(|mut book| {
        for id in 1..=8 {
            book.apply(&record(action::ADD, id, b'B', PRICE, 1)).unwrap();
        }
        let ninth = record(action::ADD, 9, b'B', PRICE - TICK, 1);
        assert_eq!(book.apply(&ninth), Err(BookError::OrdersFull));
        // The level that was made for it is gone again.
        assert_eq!((book.usage().levels, book.best(0).bid_sz), (1, 8));
        book.remove(4).unwrap();
        book.apply(&ninth).unwrap();
        assert_eq!((book.usage().orders, book.usage().orders_peak), (8, 8));
    });
}

#[test]
fn records_of_levels_set_and_remove_levels() {
    let spec = LevelBookSpec { instruments: 1, levels: 8 };
    let mut region = vec![0xFF; spec.bytes()];
    let mut book = LevelBook::new(&mut Arena::new(&mut region), &spec).unwrap();
    let level = |action, size| MboMsg {
        flags: flags::LAST | flags::MBP,
        ..record(action, 0, b'B', PRICE, size)
    };
    assert_eq!(book.apply(&level(action::ADD, 5)), Ok(Some(LevelChange::New)));
    let changed = LevelChange::Changed { previous: 5 };
    assert_eq!(book.apply(&level(action::MODIFY, 9)), Ok(Some(changed)));
    assert_eq!((book.best(0).bid_sz, book.best(0).bid_ct), (9, 1));
    let removed = LevelChange::Removed { previous: 9 };
    assert_eq!(book.apply(&level(action::CANCEL, 9)), Ok(Some(removed)));
    assert_eq!(book.apply(&level(action::CANCEL, 9)), Ok(Some(LevelChange::Absent)));
    assert_eq!(book.apply(&level(action::TRADE, 9)), Ok(None));
    let order = record(action::ADD, 1, b'B', PRICE, 1);
    assert_eq!(book.apply(&order), Err(BookError::NotAnOrder));
    assert_eq!(book.levels_of(0), 0);
}

#[test]
fn every_error_has_its_own_counter() {
    for (at, name) in BookError::NAMES.iter().enumerate() {
        assert_eq!(BookError::NAMES.iter().position(|other| other == name), Some(at));
    }
    assert_eq!(BookError::NotAnOrder.index(), BookError::COUNT - 1);
}
