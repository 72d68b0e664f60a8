//! The simulator's own order book: ordered maps and nothing clever.
//!
//! It exists to be obviously right. It keeps the flow honest (an operation that a matching engine
//! could not have done is an error) and it is the oracle that the fast book is held against.

use std::collections::BTreeMap;

use wiretape_core::event::Side;

/// A resting order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its reference, unique through the day.
    pub reference: u64,
    /// Its side.
    pub side: Side,
    /// Its price, 1e-4 dollars.
    pub price: u32,
    /// Shares still open.
    pub shares: u32,
    /// Its place in time: lower is earlier.
    priority: u64,
}

/// A price level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Shares of all its orders.
    pub shares: u64,
    /// How many orders.
    pub orders: u32,
}

/// What a matching engine could not have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The reference is taken.
    #[error("order {0} was added while it was live")]
    Duplicate(u64),
    /// No such order rests.
    #[error("order {0} is not in the book")]
    Unknown(u64),
    /// An execution or cancel of more than there is.
    #[error("order {reference} has {open} shares, {taken} were taken")]
    Overfilled {
        /// The order.
        reference: u64,
        /// Shares it had.
        open: u32,
        /// Shares asked of it.
        taken: u32,
    },
    /// An order of no shares.
    #[error("order {0} was added with no shares")]
    Empty(u64),
}

/// One instrument's book.
#[derive(Clone, Debug, Default)]
pub struct PlainBook {
    orders: BTreeMap<u64, Order>,
    /// Per side, by (distance from the best possible price, priority).
    queues: [BTreeMap<(u32, u64), u64>; 2],
    levels: [BTreeMap<u32, Level>; 2],
    next_priority: u64,
}

const fn index(side: Side) -> usize {
    match side {
        Side::Bid => 0,
        Side::Ask => 1,
    }
}

/// Sorts the better price first on either side; its own inverse.
const fn rank(side: Side, price: u32) -> u32 {
    match side {
        Side::Bid => u32::MAX - price,
        Side::Ask => price,
    }
}

impl PlainBook {
    /// An empty book.
    pub fn new() -> PlainBook {
        PlainBook::default()
    }

    /// A new order, behind all others of its level.
    pub fn add(
        &mut self,
        reference: u64,
        side: Side,
        shares: u32,
        price: u32,
    ) -> Result<Order, BookError> {
        if shares == 0 {
            return Err(BookError::Empty(reference));
        }
        if self.orders.contains_key(&reference) {
            return Err(BookError::Duplicate(reference));
        }
        let priority = self.next_priority;
        self.next_priority += 1;
        let order = Order { reference, side, price, shares, priority };
        self.orders.insert(reference, order);
        self.queues[index(side)].insert((rank(side, price), priority), reference);
        let level = self.levels[index(side)].entry(rank(side, price)).or_default();
        level.shares += u64::from(shares);
        level.orders += 1;
        Ok(order)
    }

    /// Takes shares from an order, and the order from the book once it has none; gives the order
    /// as it was before.
    pub fn take(&mut self, reference: u64, shares: u32) -> Result<Order, BookError> {
        let order = *self.orders.get(&reference).ok_or(BookError::Unknown(reference))?;
        if shares > order.shares {
            return Err(BookError::Overfilled { reference, open: order.shares, taken: shares });
        }
        let (side, key) = (index(order.side), rank(order.side, order.price));
        let gone = shares == order.shares;
        if gone {
            self.orders.remove(&reference);
            self.queues[side].remove(&(key, order.priority));
        } else if let Some(order) = self.orders.get_mut(&reference) {
            order.shares -= shares;
        }
        if let Some(level) = self.levels[side].get_mut(&key) {
            level.shares -= u64::from(shares);
            level.orders -= u32::from(gone);
            if level.orders == 0 {
                self.levels[side].remove(&key);
            }
        }
        Ok(order)
    }

    /// Removes an order; gives it as it was.
    pub fn remove(&mut self, reference: u64) -> Result<Order, BookError> {
        let shares = self.orders.get(&reference).ok_or(BookError::Unknown(reference))?.shares;
        self.take(reference, shares)
    }

    /// Replaces an order by a new one on the same side; gives the old one.
    pub fn replace(
        &mut self,
        old: u64,
        new: u64,
        shares: u32,
        price: u32,
    ) -> Result<Order, BookError> {
        if shares == 0 {
            return Err(BookError::Empty(new));
        }
        if new == old || self.orders.contains_key(&new) {
            return Err(BookError::Duplicate(new));
        }
        let order = self.remove(old)?;
        self.add(new, order.side, shares, price)?;
        Ok(order)
    }

    /// A live order.
    pub fn order(&self, reference: u64) -> Option<&Order> {
        self.orders.get(&reference)
    }

    /// All live orders, by reference.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.orders.values()
    }

    /// How many orders are live.
    pub fn order_count(&self) -> usize {
        self.orders.len()
    }

    /// How many orders are live on a side.
    pub fn side_count(&self, side: Side) -> usize {
        self.queues[index(side)].len()
    }

    /// The best price of a side.
    pub fn best(&self, side: Side) -> Option<u32> {
        self.levels[index(side)].keys().next().map(|&key| rank(side, key))
    }

    /// The order that is next to be executed on a side.
    pub fn front(&self, side: Side) -> Option<&Order> {
        let reference = self.queues[index(side)].values().next()?;
        self.orders.get(reference)
    }

    /// A side's levels, best first.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = (u32, Level)> {
        self.levels[index(side)].iter().map(move |(&key, &level)| (rank(side, key), level))
    }

    /// The level at a price; no shares and no orders where there is none.
    pub fn level(&self, side: Side, price: u32) -> Level {
        self.levels[index(side)].get(&rank(side, price)).copied().unwrap_or_default()
    }

    /// Whether the best bid is at or above the best ask.
    pub fn is_crossed(&self) -> bool {
        matches!((self.best(Side::Bid), self.best(Side::Ask)), (Some(b), Some(a)) if b >= a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_levels_and_errors_are_those_of_a_matching_engine() {
        let mut book = PlainBook::new();
        book.add(1, Side::Bid, 100, 9_900).unwrap();
        book.add(2, Side::Bid, 200, 10_000).unwrap();
        book.add(3, Side::Bid, 300, 10_000).unwrap();
        book.add(4, Side::Ask, 50, 10_100).unwrap();
        assert_eq!(book.best(Side::Bid), Some(10_000));
        assert_eq!(book.best(Side::Ask), Some(10_100));
        assert_eq!(book.front(Side::Bid).unwrap().reference, 2);
        assert_eq!(book.level(Side::Bid, 10_000), Level { shares: 500, orders: 2 });

        let before = book.replace(2, 5, 200, 10_000).unwrap();
        assert_eq!((before.reference, before.shares), (2, 200));
        assert_eq!(book.front(Side::Bid).unwrap().reference, 3, "a replaced order goes to the end");
        book.take(3, 300).unwrap();
        assert_eq!(book.level(Side::Bid, 10_000), Level { shares: 200, orders: 1 });

        assert_eq!(book.take(3, 1), Err(BookError::Unknown(3)));
        assert_eq!(
            book.take(4, 51),
            Err(BookError::Overfilled { reference: 4, open: 50, taken: 51 })
        );
        assert_eq!(book.add(4, Side::Ask, 1, 1), Err(BookError::Duplicate(4)));
        assert_eq!(book.add(9, Side::Ask, 0, 1), Err(BookError::Empty(9)));
        assert_eq!(book.levels(Side::Bid).map(|(p, _)| p).collect::<Vec<_>>(), [10_000, 9_900]);
        assert!(!book.is_crossed());
    }
}
