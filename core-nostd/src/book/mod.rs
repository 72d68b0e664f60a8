//! Order books of a whole feed, in memory claimed at start.
//!
//! ```text
//!  order id ──index──► order ─────► level ◄──── ladder (one a side) ◄──── instrument
//!                      size         price        prices sorted,
//!                      before, after total size   the best at the end
//!                                   orders
//! ```
//!
//! [`OrderBook`] keeps every order (L3): all orders of a level in time priority, each found by its
//! id through an [`OrderIndex`]. [`LevelBook`] keeps the levels of a feed that sends no orders.
//! Both sort their levels in the same ladders. [`TopBook`] keeps the one level a side of a feed
//! that sends no more.
//!
//! An order knows its level, so executions and cancels search nothing. A new order searches its
//! ladder from the best price, where nearly all orders arrive. Prices may be any `i64` but
//! [`UNDEF_PRICE`](crate::event::UNDEF_PRICE): no array is as long as the price is high.
//!
//! A message that cannot be applied changes nothing, or what its [`BookError`] says; the book
//! stays consistent, and the instrument's health carries the news until its book is cleared.

mod bbo;
mod error;
mod hash_index;
mod ladder;
mod level;
mod level_book;
mod order;
mod order_book;
mod order_index;
mod orders_ahead;
mod outcome;
mod paged_index;
mod top_book;
mod view;

pub use bbo::Bbo;
pub use error::BookError;
pub use hash_index::HashIndex;
pub use level_book::{LevelBook, LevelBookSpec, LevelChange};
pub use order::Orders;
pub use order_book::{BookSpec, OrderBook};
pub use order_index::{EitherIndex, IndexFull, Located, OrderIndex, Place};
pub use orders_ahead::{OrdersAhead, Upcoming};
pub use outcome::{Added, Applied, BookUsage, Modified, Reduced, Replaced};
pub use paged_index::{PagedIndex, PagedSpec};
pub use top_book::{TopBook, TopLevel};
pub use view::{LevelView, OrderView, QueuePosition, Resting};

/// What an instrument of a book is known to have suffered: bits of
/// [`MarketEntry::health`](crate::segment::MarketEntry::health).
pub use crate::segment::health;

/// What stands in for the place of a handle out of range. A call that never happens: as a choice
/// between two addresses it would be in the way of every load of an order or level (3 % of a
/// replay).
#[cold]
#[inline(never)]
fn out_of_range<T>(stray: T) -> T {
    stray
}
