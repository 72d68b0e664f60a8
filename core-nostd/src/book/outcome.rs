//! What an operation did to a book: all that its caller needs to publish.

use super::{BookError, Resting};
use crate::event::Side;

/// An order was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// It stands at the best price of its side: the best bid or offer has changed.
    pub top: bool,
}

/// An order lost size, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduced {
    /// Price in 1e-9.
    pub price: i64,
    /// Whose order it was.
    pub instrument: u32,
    /// Size taken away.
    pub removed: u32,
    /// Size left; at 0 the order is gone.
    pub left: u32,
    /// Its side.
    pub side: Side,
    /// It stood at the best price of its side: the best bid or offer has changed.
    pub top: bool,
}

/// An order was replaced by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The old order, gone whatever became of the new one.
    pub removed: Reduced,
    /// The new order, of the same instrument and side; or why it could not be added.
    pub added: Result<Added, BookError>,
}

/// An order was modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modified {
    /// What it was; `None` if there was no such order and it was added.
    pub previous: Option<Resting>,
    /// It kept its place in the queue.
    pub kept_priority: bool,
    /// It stood or stands at the best price of its side: the best bid or offer has changed.
    pub top: bool,
}

/// What a record did to the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: a trade, a fill or no action.
    Unchanged,
    /// Action A.
    Added(Added),
    /// Action C.
    Reduced(Reduced),
    /// Action M.
    Modified(Modified),
    /// Action R: that many orders were removed.
    Cleared(u32),
}

/// How full a book is, for a metrics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookUsage {
    /// Live orders; this and the next two are 0 in a book of levels.
    pub orders: u32,
    /// The most live orders there ever were.
    pub orders_peak: u32,
    /// Orders that fit.
    pub orders_capacity: u32,
    /// Price levels.
    pub levels: u32,
    /// The most price levels there ever were.
    pub levels_peak: u32,
    /// Price levels that fit.
    pub levels_capacity: u32,
}
