//! The order book on real exchange days, against books that others published.

mod real_data;

use wiretape_core::arena::Arena;
use wiretape_core::book::{
    BookError, BookSpec, EitherIndex, HashIndex, LevelView, OrderBook, OrderIndex, PagedIndex,
    PagedSpec,
};
use wiretape_core::event::{Side, UNDEF_PRICE};
use wiretape_core::wire::itch50::Message;

/// Units of an ITCH price (1e-4) in those of the book (1e-9).
const ITCH_PRICE: i64 = 100_000;

/// The messages of a day file: each behind its length in two bytes.
fn messages(mut day: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = day.split_first_chunk::<2>()?;
        let (message, rest) = rest.split_at(u16::from_be_bytes(*length).into());
        day = rest;
        Some(Message::parse(message).unwrap())
    })
}

/// Applies what concerns the book.
fn apply<I: OrderIndex>(book: &mut OrderBook<'_, I>, message: &Message) -> Result<(), BookError> {
    let side = |letter| if letter == b'B' { Side::Bid } else { Side::Ask };
    match message {
        Message::AddOrder(m) => {
            let locate = m.head.stock_locate.get().into();
            let (id, price) = (m.order_ref.get(), m.price.nanos());
            book.add(locate, id, side(m.side), price, m.shares.get()).map(drop)
        }
        Message::AddOrderMpid(m) => {
            let locate = m.head.stock_locate.get().into();
            let (id, price) = (m.order_ref.get(), m.price.nanos());
            book.add(locate, id, side(m.side), price, m.shares.get()).map(drop)
        }
        Message::OrderExecuted(m) => book.reduce(m.order_ref.get(), m.shares.get()).map(drop),
        Message::OrderExecutedWithPrice(m) => {
            book.reduce(m.order_ref.get(), m.shares.get()).map(drop)
        }
        Message::OrderCancel(m) => book.reduce(m.order_ref.get(), m.cancelled.get()).map(drop),
        Message::OrderDelete(m) => book.remove(m.order_ref.get()).map(drop),
        Message::OrderReplace(m) => {
            let (old, new) = (m.old_ref.get(), m.new_ref.get());
            book.replace(old, new, m.price.nanos(), m.shares.get())?.added.map(drop)
        }
        _ => Ok(()),
    }
}

/// Runs `test` on an empty book with either index.
fn with_books(test: impl Fn(OrderBook<'_, EitherIndex<'_>>)) {
    let spec = BookSpec { instruments: 1 << 16, orders: 1 << 16, levels: 1 << 14 };
    let paged = PagedSpec::for_orders(spec.orders, 1 << 32);
    let mut region = vec![0; spec.bytes() + HashIndex::bytes(spec.orders)];
    let mut arena = Arena::with_contents_as_found(&mut region);
    let index = HashIndex::new(&mut arena, spec.orders).unwrap();
    test(OrderBook::new(&mut arena, &spec, EitherIndex::Hash(index)).unwrap());
    let mut region = vec![0; spec.bytes() + paged.bytes()];
    let mut arena = Arena::with_contents_as_found(&mut region);
    let index = PagedIndex::new(&mut arena, &paged).unwrap();
    test(OrderBook::new(&mut arena, &spec, EitherIndex::Paged(index)).unwrap());
}

/// AAPL on 2020-01-30: every level of the published book, with shares and order count.
#[test]
fn ten_thousand_messages_of_aapl_end_in_the_published_book() {
    let (Some(day), Some(expected)) = (
        real_data::read("itch/aapl-20200130-10k.itch"),
        real_data::read("itch/aapl-20200130-10k.expected-book.txt"),
    ) else {
        return;
    };
    let expected = String::from_utf8(expected).unwrap();
    with_books(|mut book| {
        let mut locate = 0;
        let mut count = 0;
        for message in messages(&day) {
            apply(&mut book, &message).unwrap();
            if let Message::StockDirectory(directory) = message {
                locate = directory.head.stock_locate.get().into();
            }
            count += 1;
        }
        assert_eq!(count, 10_000);
        let line = |letter: char| {
            move |level: LevelView| {
                let price = level.price / ITCH_PRICE;
                assert_eq!(price % 100, 0, "the published book has whole cents");
                let (dollars, cents) = (price / 10_000, price / 100 % 100);
                format!("{letter} {dollars}.{cents:02}: {} ({})", level.size, level.orders)
            }
        };
        let bids = book.levels(locate, Side::Bid).map(line('B'));
        let found: Vec<_> = bids.chain(book.levels(locate, Side::Ask).map(line('S'))).collect();
        let expected: Vec<_> = expected.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(found, expected);
        assert_eq!((found.len(), book.levels(locate, Side::Bid).count()), (142, 79));
        assert_eq!((book.live_orders(), book.orders_of(locate)), (215, 215));
    });
}

/// One level of a depth row: ask price and size, bid price and size, as published.
type DepthLevel = [i64; 4];

/// What the depth rows have for a side that ends before.
const NO_ASK: [i64; 2] = [9_999_999_999, 0];
const NO_BID: [i64; 2] = [-9_999_999_999, 0];

/// The first levels of an instrument, as a depth row has them.
fn depth<I: OrderIndex>(book: &OrderBook<'_, I>, locate: u32, rows: &mut [DepthLevel]) {
    let plain = |level: LevelView| [level.price / ITCH_PRICE, level.size as i64];
    let mut asks = book.levels(locate, Side::Ask).map(plain);
    let mut bids = book.levels(locate, Side::Bid).map(plain);
    for row in rows {
        let [ask_price, ask_size] = asks.next().unwrap_or(NO_ASK);
        let [bid_price, bid_size] = bids.next().unwrap_or(NO_BID);
        *row = [ask_price, ask_size, bid_price, bid_size];
    }
}

/// AAPL and AMZN on 2012-06-21: the book after each of the 274,432 published rows.
#[test]
fn the_day_of_aapl_and_amzn_equals_every_published_row() {
    let (Some(day), Some(rows)) = (
        real_data::read("itch/nasdaq-20120621-aapl-amzn.itch.gz"),
        real_data::read("itch/nasdaq-20120621-aapl-amzn.depth.csv.gz"),
    ) else {
        return;
    };
    let rows = String::from_utf8(rows).unwrap();
    with_books(|mut book| {
        let mut rows = rows.lines().skip(1);
        let mut row = rows.next();
        let mut compared = 0;
        let mut ordinal = 0_u64;
        for message in messages(&day) {
            ordinal += 1;
            apply(&mut book, &message).unwrap();
            while let Some(text) = row {
                let (at, rest) = text.split_once(',').unwrap();
                if at.parse::<u64>().unwrap() != ordinal {
                    break;
                }
                let (symbol, levels) = rest.split_once(',').unwrap();
                let locate = if symbol == "AAPL" { 13 } else { 42 };
                let mut expected = [[0; 4]; 5];
                let mut fields = levels.split(',').map(|field| field.parse::<i64>().unwrap());
                let filled = expected.as_flattened_mut().iter_mut();
                let count = filled.zip(&mut fields).map(|(slot, field)| *slot = field).count();
                let mut found = [[0; 4]; 5];
                depth(&book, locate, &mut found[..count / 4]);
                assert_eq!(found, expected, "row {compared}: {symbol} after message {ordinal}");
                let best = book.best(locate);
                let [ask, ask_size, bid, bid_size] = found[0];
                if [ask, ask_size] != NO_ASK {
                    assert_eq!((best.ask_px, best.ask_sz), (ask * ITCH_PRICE, ask_size as u32));
                }
                if [bid, bid_size] != NO_BID {
                    assert_eq!((best.bid_px, best.bid_sz), (bid * ITCH_PRICE, bid_size as u32));
                }
                compared += 1;
                row = rows.next();
            }
        }
        assert_eq!((ordinal, compared), (331_238, 274_432));
        assert_eq!(book.live_orders(), 1_934);
        assert_eq!(book.orders_of(13) + book.orders_of(42), 1_934);
        book.clear_all();
        assert_eq!((book.live_orders(), book.usage().levels), (0, 0));
        assert_eq!(book.best(13).bid_px, UNDEF_PRICE);
    });
}
