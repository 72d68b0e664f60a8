//! What happens in the market, in no feed's own format.

use wiretape_core::event::Side;

use super::book::Order;

/// One thing that an exchange tells the world. Prices are in 1e-4 dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The market as a whole: ITCH's letters `O S Q M E C`.
    System(u8),
    /// The market-wide circuit breakers' levels of the day.
    CircuitBreaker([u32; 3]),
    /// The instrument is announced.
    Directory,
    /// The instrument's trading state: `T` trading.
    Trading(u8),
    /// The short-sale restriction: `0` none.
    ShortSale(u8),
    /// A market maker is registered in the instrument.
    Participant([u8; 4]),
    /// Indicative figures before a cross.
    Imbalance {
        /// Shares that would trade.
        paired: u64,
        /// Shares that would be left.
        imbalance: u64,
        /// The side of the imbalance; `None` where there is none.
        side: Option<Side>,
        /// The price at which most would trade.
        price: u32,
        /// `O` opening or `C` closing.
        cross: u8,
    },
    /// A new order rests; with a market participant if it is attributed.
    Add(Order, Option<[u8; 4]>),
    /// A resting order (shown as it was before) traded at its own price.
    Execute {
        /// The order before.
        order: Order,
        /// Shares traded.
        shares: u32,
        /// The trade's number.
        match_number: u64,
    },
    /// A resting order (shown as it was before) traded at another price.
    ExecuteAt {
        /// The order before.
        order: Order,
        /// Shares traded.
        shares: u32,
        /// The trade's number.
        match_number: u64,
        /// Whether the trade counts on its own, or is part of a cross reported in one.
        printable: bool,
        /// The trade's price.
        price: u32,
    },
    /// A resting order (shown as it was before) lost shares.
    Reduce {
        /// The order before.
        order: Order,
        /// Shares cancelled.
        shares: u32,
    },
    /// A resting order (shown as it was before) is gone.
    Delete(Order),
    /// A resting order gave way to a new one.
    Replace {
        /// The order before.
        old: Order,
        /// The new order.
        new: Order,
    },
    /// A trade against an order that nobody saw.
    HiddenTrade {
        /// Side of the hidden order.
        side: Side,
        /// Shares traded.
        shares: u32,
        /// The price.
        price: u32,
        /// The trade's number.
        match_number: u64,
    },
    /// The trade of an auction.
    Cross {
        /// Shares traded.
        shares: u64,
        /// The price.
        price: u32,
        /// The trade's number.
        match_number: u64,
        /// `O` opening or `C` closing.
        kind: u8,
    },
}

/// A change and when it happened. Changes of equal time and instrument belong to one incoming
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Nanoseconds since midnight in New York.
    pub at_ns: u64,
    /// Index of the instrument; `None` for the market as a whole.
    pub instrument: Option<usize>,
    /// What happened.
    pub change: Change,
}
