//! Why a message could not be applied to a book.

use super::Reduced;
use core::fmt;

/// Why a message could not be applied, and what it changed nevertheless.
///
/// Unless a variant says otherwise, the book is as it was. Cheap to copy and to count
/// ([`index`](Self::index)); made for the hot path, formatted only by who reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookError {
    /// No live order has this id: it was never added, is gone, or its add was lost.
    UnknownOrder,
    /// An order of this id is live already; that one stays.
    DuplicateOrder,
    /// More was taken from an order than it had: the order was removed.
    Overfill {
        /// What was removed: all that the order had.
        removed: Reduced,
        /// How much the message took.
        asked: u32,
    },
    /// The pool of orders (or its index) is used up: the order was dropped, as configured memory
    /// does not hold it.
    OrdersFull,
    /// The pool of levels is used up, a side has more levels than a ladder can hold, or other ladders
    /// left no block of the size that it needs, as those that were long and are short again may: the
    /// order or level was dropped.
    LevelsFull,
    /// The instrument's index lies beyond the configured number.
    UnknownInstrument,
    /// A live order of this id belongs to another instrument.
    WrongInstrument,
    /// An order, or a change of one, of size zero.
    ZeroSize,
    /// A price that is undefined.
    InvalidPrice,
    /// A side that is neither bid nor ask, where one is needed.
    InvalidSide,
    /// An action letter that DBN does not define.
    InvalidAction,
    /// A record of a level or of the top of the book where orders are kept, or the reverse.
    NotAnOrder,
}

impl BookError {
    /// Number of variants: [`index`](Self::index) is below it.
    pub const COUNT: usize = 12;

    /// What a metrics page calls each variant, by [`index`](Self::index).
    pub const NAMES: [&str; Self::COUNT] = [
        "unknown_order",
        "duplicate_order",
        "overfill",
        "orders_full",
        "levels_full",
        "unknown_instrument",
        "wrong_instrument",
        "zero_size",
        "invalid_price",
        "invalid_side",
        "invalid_action",
        "not_an_order",
    ];

    /// The variant's place in a table of counters.
    pub const fn index(&self) -> usize {
        match self {
            BookError::UnknownOrder => 0,
            BookError::DuplicateOrder => 1,
            BookError::Overfill { .. } => 2,
            BookError::OrdersFull => 3,
            BookError::LevelsFull => 4,
            BookError::UnknownInstrument => 5,
            BookError::WrongInstrument => 6,
            BookError::ZeroSize => 7,
            BookError::InvalidPrice => 8,
            BookError::InvalidSide => 9,
            BookError::InvalidAction => 10,
            BookError::NotAnOrder => 11,
        }
    }

    /// What a metrics page calls this variant.
    pub fn name(&self) -> &'static str {
        Self::NAMES.get(self.index()).copied().unwrap_or("")
    }
}

impl fmt::Display for BookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BookError::UnknownOrder => f.write_str("no live order has this id"),
            BookError::DuplicateOrder => f.write_str("an order of this id is live already"),
            BookError::Overfill { removed, asked } => write!(
                f,
                "{asked} taken from an order that had {}; the order was removed",
                removed.removed
            ),
            BookError::OrdersFull => {
                f.write_str("no room for another order; configure more orders")
            }
            BookError::LevelsFull => {
                f.write_str("no room for another price level; configure more levels")
            }
            BookError::UnknownInstrument => {
                f.write_str("the instrument lies beyond the configured number of instruments")
            }
            BookError::WrongInstrument => {
                f.write_str("the live order of this id belongs to another instrument")
            }
            BookError::ZeroSize => f.write_str("a size of zero"),
            BookError::InvalidPrice => f.write_str("an undefined price"),
            BookError::InvalidSide => f.write_str("a side that is neither bid nor ask"),
            BookError::InvalidAction => f.write_str("an action that DBN does not define"),
            BookError::NotAnOrder => {
                f.write_str("an order where the book keeps levels, or the reverse")
            }
        }
    }
}

impl core::error::Error for BookError {}
