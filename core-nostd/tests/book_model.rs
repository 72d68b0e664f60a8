//! The order book against a plain twin made of standard maps, over random operations, good and
//! bad, with each index. The book is small, so that every pool runs out at times.

use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, VecDeque};
use wiretape_core::arena::Arena;
use wiretape_core::book::{
    Added, Bbo, BookError, BookSpec, EitherIndex, HashIndex, LevelBook, LevelBookSpec, LevelChange,
    LevelView, Modified, OrderBook, OrderIndex, OrderView, PagedIndex, PagedSpec, QueuePosition,
    Reduced, Replaced, Resting, health,
};
use wiretape_core::event::{Side, UNDEF_PRICE};

const INSTRUMENTS: u32 = 3;

#[derive(Clone, Debug)]
enum Op {
    Add { instrument: u32, id: u64, side: Side, price: i64, size: u32 },
    Reduce { id: u64, size: u32 },
    Remove { id: u64 },
    Replace { old: u64, new: u64, price: i64, size: u32 },
    Modify { instrument: u32, id: u64, side: Side, price: i64, size: u32 },
    Clear { instrument: u32 },
    ClearAll,
    MarkAll,
}

/// A side of a market, best first when its keys are taken in rising order.
type Levels = BTreeMap<i128, VecDeque<u64>>;

/// The book as one would write it without a thought for time or memory.
#[derive(Default)]
struct Model {
    orders: HashMap<u64, Resting>,
    levels: BTreeMap<(u32, u8), Levels>,
    health: BTreeMap<u32, u8>,
    orders_max: usize,
    levels_max: usize,
}

fn rank(side: Side, price: i64) -> i128 {
    if side == Side::Bid { -i128::from(price) } else { i128::from(price) }
}

fn price_of(side: Side, rank: i128) -> i64 {
    (if side == Side::Bid { -rank } else { rank }) as i64
}

impl Model {
    fn levels(&self, instrument: u32, side: Side) -> Levels {
        self.levels.get(&(instrument, side as u8)).cloned().unwrap_or_default()
    }

    fn is_best(&self, order: &Resting) -> bool {
        let levels = self.levels(order.instrument, order.side);
        levels.first_key_value().is_some_and(|(key, _)| *key == rank(order.side, order.price))
    }

    fn level_count(&self) -> usize {
        self.levels.values().map(|levels| levels.len()).sum()
    }

    fn fail<T>(&mut self, instrument: u32, error: BookError) -> Result<T, BookError> {
        if instrument < INSTRUMENTS {
            *self.health.entry(instrument).or_default() |= health::BOOK_ERROR;
        }
        Err(error)
    }

    fn add(
        &mut self,
        instrument: u32,
        id: u64,
        side: Side,
        price: i64,
        size: u32,
    ) -> Result<Added, BookError> {
        if instrument >= INSTRUMENTS {
            return Err(BookError::UnknownInstrument);
        }
        if size == 0 {
            return self.fail(instrument, BookError::ZeroSize);
        }
        if price == UNDEF_PRICE {
            return self.fail(instrument, BookError::InvalidPrice);
        }
        if self.orders.contains_key(&id) {
            return self.fail(instrument, BookError::DuplicateOrder);
        }
        let is_new = !self.levels(instrument, side).contains_key(&rank(side, price));
        if is_new && self.level_count() == self.levels_max {
            return self.fail(instrument, BookError::LevelsFull);
        }
        if self.orders.len() == self.orders_max {
            return self.fail(instrument, BookError::OrdersFull);
        }
        let order = Resting { price, instrument, size, side };
        self.orders.insert(id, order);
        let levels = self.levels.entry((instrument, side as u8)).or_default();
        levels.entry(rank(side, price)).or_default().push_back(id);
        Ok(Added { top: self.is_best(&order) })
    }

    fn remove(&mut self, id: u64) -> Result<Reduced, BookError> {
        let order = *self.orders.get(&id).ok_or(BookError::UnknownOrder)?;
        let top = self.is_best(&order);
        self.orders.remove(&id);
        let levels = self.levels.get_mut(&(order.instrument, order.side as u8)).unwrap();
        let queue = levels.get_mut(&rank(order.side, order.price)).unwrap();
        queue.retain(|&other| other != id);
        if queue.is_empty() {
            levels.remove(&rank(order.side, order.price));
        }
        Ok(Reduced {
            price: order.price,
            instrument: order.instrument,
            removed: order.size,
            left: 0,
            side: order.side,
            top,
        })
    }

    fn reduce(&mut self, id: u64, size: u32) -> Result<Reduced, BookError> {
        let order = *self.orders.get(&id).ok_or(BookError::UnknownOrder)?;
        if size == 0 {
            return Err(BookError::ZeroSize);
        }
        if size < order.size {
            let left = order.size - size;
            self.orders.get_mut(&id).unwrap().size = left;
            let (price, instrument, side) = (order.price, order.instrument, order.side);
            let top = self.is_best(&order);
            return Ok(Reduced { price, instrument, removed: size, left, side, top });
        }
        let removed = self.remove(id)?;
        if size > order.size {
            return self.fail(order.instrument, BookError::Overfill { removed, asked: size });
        }
        Ok(removed)
    }

    fn replace(
        &mut self,
        old: u64,
        new: u64,
        price: i64,
        size: u32,
    ) -> Result<Replaced, BookError> {
        let removed = self.remove(old)?;
        let added = self.add(removed.instrument, new, removed.side, price, size);
        Ok(Replaced { removed, added })
    }

    fn modify(
        &mut self,
        instrument: u32,
        id: u64,
        side: Side,
        price: i64,
        size: u32,
    ) -> Result<Modified, BookError> {
        let Some(&order) = self.orders.get(&id) else {
            let added = self.add(instrument, id, side, price, size)?;
            return Ok(Modified { previous: None, kept_priority: false, top: added.top });
        };
        if order.instrument != instrument {
            return self.fail(instrument, BookError::WrongInstrument);
        }
        if size == 0 {
            return self.fail(instrument, BookError::ZeroSize);
        }
        if price == UNDEF_PRICE {
            return self.fail(instrument, BookError::InvalidPrice);
        }
        let previous = Some(order);
        if order.side == side && order.price == price && size <= order.size {
            self.orders.get_mut(&id).unwrap().size = size;
            return Ok(Modified { previous, kept_priority: true, top: self.is_best(&order) });
        }
        let removed = self.remove(id).unwrap();
        let added = self.add(instrument, id, side, price, size)?;
        Ok(Modified { previous, kept_priority: false, top: removed.top || added.top })
    }

    fn clear(&mut self, instrument: u32) -> Result<u32, BookError> {
        if instrument >= INSTRUMENTS {
            return Err(BookError::UnknownInstrument);
        }
        let before = self.orders.len();
        self.orders.retain(|_, order| order.instrument != instrument);
        self.levels.retain(|market, _| market.0 != instrument);
        self.health.remove(&instrument);
        Ok((before - self.orders.len()) as u32)
    }

    fn best(&self, instrument: u32) -> Bbo {
        let side = |side| {
            let levels = self.levels(instrument, side);
            levels.first_key_value().map_or((UNDEF_PRICE, 0, 0), |(key, queue)| {
                let size: u64 = queue.iter().map(|id| u64::from(self.orders[id].size)).sum();
                let size = u32::try_from(size).unwrap_or(u32::MAX);
                (price_of(side, *key), size, queue.len() as u32)
            })
        };
        let ((bid_px, bid_sz, bid_ct), (ask_px, ask_sz, ask_ct)) =
            (side(Side::Bid), side(Side::Ask));
        Bbo { bid_px, ask_px, bid_sz, ask_sz, bid_ct, ask_ct }
    }
}

/// Every query of the book gives what the model gives.
fn check<I: OrderIndex>(book: &OrderBook<'_, I>, model: &Model) {
    assert_eq!(book.live_orders() as usize, model.orders.len());
    assert_eq!(book.usage().levels as usize, model.level_count());
    for instrument in 0..INSTRUMENTS + 1 {
        assert_eq!(book.best(instrument), model.best(instrument));
        let health = model.health.get(&instrument).copied().unwrap_or(0);
        assert_eq!(book.health(instrument), health);
        let mut orders = 0;
        for side in [Side::Bid, Side::Ask] {
            let levels = model.levels(instrument, side);
            let expected: Vec<LevelView> = levels
                .iter()
                .map(|(key, queue)| LevelView {
                    price: price_of(side, *key),
                    size: queue.iter().map(|id| u64::from(model.orders[id].size)).sum(),
                    orders: queue.len() as u32,
                })
                .collect();
            assert_eq!(book.levels(instrument, side).collect::<Vec<_>>(), expected);
            for (key, queue) in &levels {
                orders += queue.len() as u32;
                let expected: Vec<OrderView> = queue
                    .iter()
                    .map(|&order_id| OrderView { order_id, size: model.orders[&order_id].size })
                    .collect();
                let found: Vec<_> =
                    book.orders_at(instrument, side, price_of(side, *key)).collect();
                assert_eq!(found, expected);
                let mut ahead = QueuePosition { orders_ahead: 0, size_ahead: 0 };
                for order in expected {
                    assert_eq!(book.queue_position(order.order_id), Some(ahead));
                    ahead.orders_ahead += 1;
                    ahead.size_ahead += u64::from(order.size);
                }
            }
        }
        assert_eq!(book.orders_of(instrument), orders);
    }
    for (&id, order) in &model.orders {
        assert_eq!(book.order(id), Some(*order));
    }
}

fn apply<I: OrderIndex>(book: &mut OrderBook<'_, I>, model: &mut Model, op: &Op) {
    match *op {
        Op::Add { instrument, id, side, price, size } => assert_eq!(
            book.add(instrument, id, side, price, size),
            model.add(instrument, id, side, price, size)
        ),
        Op::Reduce { id, size } => assert_eq!(book.reduce(id, size), model.reduce(id, size)),
        Op::Remove { id } => assert_eq!(book.remove(id), model.remove(id)),
        Op::Replace { old, new, price, size } => {
            assert_eq!(book.replace(old, new, price, size), model.replace(old, new, price, size));
        }
        Op::Modify { instrument, id, side, price, size } => assert_eq!(
            book.modify(instrument, id, side, price, size),
            model.modify(instrument, id, side, price, size)
        ),
        Op::Clear { instrument } => assert_eq!(book.clear(instrument), model.clear(instrument)),
        Op::ClearAll => {
            book.clear_all();
            for instrument in 0..INSTRUMENTS {
                model.clear(instrument).unwrap();
            }
        }
        Op::MarkAll => {
            book.mark_all(health::MAYBE_BAD);
            for instrument in 0..INSTRUMENTS {
                *model.health.entry(instrument).or_default() |= health::MAYBE_BAD;
            }
        }
    }
}

fn run(ops: &[Op], spec: BookSpec, paged: Option<PagedSpec>) {
    let index_bytes = paged.map_or(HashIndex::bytes(spec.orders), |paged| paged.bytes());
    let mut region = vec![0_u8; spec.bytes() + index_bytes];
    let mut arena = Arena::new(&mut region);
    let index = match paged {
        None => EitherIndex::Hash(HashIndex::new(&mut arena, spec.orders).unwrap()),
        Some(paged) => EitherIndex::Paged(PagedIndex::new(&mut arena, &paged).unwrap()),
    };
    let mut book = OrderBook::new(&mut arena, &spec, index).unwrap();
    let mut model = Model {
        orders_max: spec.orders as usize,
        levels_max: spec.levels as usize,
        ..Model::default()
    };
    for op in ops {
        apply(&mut book, &mut model, op);
        check(&book, &model);
    }
    book.clear_all();
    assert_eq!((book.live_orders(), book.usage().levels), (0, 0));
}

/// Few ids of each kind, so that they meet: neighbours, equal in their low bits, pages apart, and
/// the extremes.
fn id() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0_u64..24,
        3 => (0_u64..12).prop_map(|n| n * 4 + 2),
        3 => (0_u64..12).prop_map(|n| n * 512),
        2 => (0_u64..6).prop_map(|n| n << 32),
        1 => (0_u64..3).prop_map(|n| u64::MAX - n),
    ]
}

fn price() -> impl Strategy<Value = i64> {
    prop_oneof![
        20 => -12_i64..12,
        1 => Just(UNDEF_PRICE),
        1 => Just(i64::MIN),
        1 => Just(UNDEF_PRICE - 1),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let size = || prop_oneof![1 => Just(0_u32), 10 => 1_u32..10, 1 => Just(u32::MAX)];
    let side = || prop_oneof![Just(Side::Bid), Just(Side::Ask)];
    let absent = (0..INSTRUMENTS).prop_map(|low| 1 << 31 | low);
    let instrument = move || prop_oneof![9 => 0..INSTRUMENTS + 1, 1 => absent.clone()];
    prop_oneof![
        20 => (instrument(), id(), side(), price(), size()).prop_map(
            |(instrument, id, side, price, size)| Op::Add { instrument, id, side, price, size }
        ),
        8 => (id(), size()).prop_map(|(id, size)| Op::Reduce { id, size }),
        6 => id().prop_map(|id| Op::Remove { id }),
        5 => (id(), id(), price(), size())
            .prop_map(|(old, new, price, size)| Op::Replace { old, new, price, size }),
        8 => (instrument(), id(), side(), price(), size()).prop_map(
            |(instrument, id, side, price, size)| Op::Modify { instrument, id, side, price, size }
        ),
        1 => instrument().prop_map(|instrument| Op::Clear { instrument }),
        1 => Just(Op::ClearAll),
        1 => Just(Op::MarkAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn hash_indexed_book_equals_the_model(
        ops in prop::collection::vec(op(), 1..200),
        orders in 1_u32..40,
        levels in 1_u32..40,
    ) {
        run(&ops, BookSpec { instruments: INSTRUMENTS, orders, levels }, None);
    }

    #[test]
    fn page_indexed_book_equals_the_model(
        ops in prop::collection::vec(op(), 1..200),
        orders in 1_u32..40,
        levels in 1_u32..40,
        pages in 0_u32..6,
    ) {
        let spec = BookSpec { instruments: INSTRUMENTS, orders, levels };
        run(&ops, spec, Some(PagedSpec { refs: 5000, pages, overflow_orders: orders }));
    }

    #[test]
    fn book_of_levels_equals_a_map(
        ops in prop::collection::vec(
            (0..INSTRUMENTS + 1, any::<bool>(), price(), 0_u32..4, 0_u8..60), 1..300),
    ) {
        let spec = LevelBookSpec { instruments: INSTRUMENTS, levels: 200 };
        let mut region = vec![0_u8; spec.bytes()];
        let mut book = LevelBook::new(&mut Arena::new(&mut region), &spec).unwrap();
        let mut model: BTreeMap<(u32, bool), BTreeMap<i128, u32>> = BTreeMap::new();
        for (instrument, bid, price, size, other) in ops {
            let side = if bid { Side::Bid } else { Side::Ask };
            let levels = model.entry((instrument, bid)).or_default();
            let key = rank(side, price);
            let expected = match levels.get(&key) {
                _ if instrument >= INSTRUMENTS => Err(BookError::UnknownInstrument),
                _ if price == UNDEF_PRICE => Err(BookError::InvalidPrice),
                Some(&previous) if size == 0 => Ok(LevelChange::Removed { previous }),
                Some(&previous) => Ok(LevelChange::Changed { previous }),
                None if size == 0 => Ok(LevelChange::Absent),
                None => Ok(LevelChange::New),
            };
            prop_assert_eq!(book.set(instrument, side, price, size), expected);
            match (expected, size) {
                (Err(_), _) => {}
                (Ok(_), 0) => drop(levels.remove(&key)),
                (Ok(_), _) => drop(levels.insert(key, size)),
            }
            let views: Vec<LevelView> = levels
                .iter()
                .map(|(&key, &size)| LevelView {
                    price: price_of(side, key),
                    size: u64::from(size),
                    orders: 1,
                })
                .collect();
            prop_assert_eq!(book.levels(instrument, side).collect::<Vec<_>>(), views.clone());
            let best = book.best(instrument);
            let found = if bid {
                (best.bid_px, best.bid_sz, best.bid_ct)
            } else {
                (best.ask_px, best.ask_sz, best.ask_ct)
            };
            let expected = views.first().map_or((UNDEF_PRICE, 0, 0), |v| (v.price, v.size as u32, 1));
            prop_assert_eq!(found, expected);
            if other == 0 && instrument < INSTRUMENTS {
                let both = [true, false].map(|bid| model.remove(&(instrument, bid)));
                let levels: usize = both.iter().flatten().map(|levels| levels.len()).sum();
                prop_assert_eq!(book.clear(instrument), Ok(levels as u32));
            }
        }
    }
}
