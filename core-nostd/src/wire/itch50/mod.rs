//! Nasdaq TotalView-ITCH 5.0: every order, trade and status of the day, big-endian.
//!
//! Source: Nasdaq, "TotalView-ITCH 5.0" specification. A message has no length of its own: the
//! packet around it ([`moldudp64`](super::moldudp64), [`soupbintcp`](super::soupbintcp), or a day
//! file's [`binaryfile`](super::binaryfile)) gives it, and [`Message::parse`] holds it against the
//! type's. Encoding is filling the same struct:
//!
//! ```
//! use wiretape_core::wire::itch50::{AddOrder, Head, Message, Price4};
//! use zerocopy::IntoBytes;
//!
//! let add = AddOrder {
//!     head: Head::new(AddOrder::KIND, 13, 0, 34_200_000_000_000),
//!     order_ref: 4711.into(),
//!     side: b'B',
//!     shares: 100.into(),
//!     stock: *b"AAPL    ",
//!     price: Price4::new(585_3300),
//! };
//! let Ok(Message::AddOrder(read)) = Message::parse(add.as_bytes()) else { panic!() };
//! assert_eq!(read.price.nanos(), 585_330_000_000);
//! assert_eq!(read.head.timestamp.get(), 34_200_000_000_000);
//! ```

mod field;
mod order;
mod status;
mod trade;

pub use field::{Head, Price4, Price8, U48};
pub use order::{
    AddOrder, AddOrderMpid, OrderCancel, OrderDelete, OrderExecuted, OrderExecutedWithPrice,
    OrderReplace,
};
pub use status::{
    DirectListing, IpoQuoting, LuldCollar, MwcbLevels, MwcbStatus, OperationalHalt,
    ParticipantPosition, RegSho, StockDirectory, SystemEvent, TradingAction,
};
pub use trade::{BrokenTrade, CrossTrade, Noii, RetailInterest, Trade};

pub use super::message::MessageError as ItchError;
use super::message::{MessageError, messages};

messages! {
    /// A message, borrowed from the packet that carries it.
    pub enum Message shares head: Head {
        /// `A`: an order without attribution joined the book.
        AddOrder = b'A': AddOrder,
        /// `F`: an attributed order joined the book.
        AddOrderMpid = b'F': AddOrderMpid,
        /// `E`: an order was executed at its own price.
        OrderExecuted = b'E': OrderExecuted,
        /// `C`: an order was executed at another price than its own.
        OrderExecutedWithPrice = b'C': OrderExecutedWithPrice,
        /// `X`: an order was reduced.
        OrderCancel = b'X': OrderCancel,
        /// `D`: an order was removed.
        OrderDelete = b'D': OrderDelete,
        /// `U`: an order was replaced by another.
        OrderReplace = b'U': OrderReplace,
        /// `P`: a hidden order was executed.
        Trade = b'P': Trade,
        /// `Q`: a cross was executed.
        CrossTrade = b'Q': CrossTrade,
        /// `B`: a trade was broken.
        BrokenTrade = b'B': BrokenTrade,
        /// `I`: the imbalance before a cross.
        Noii = b'I': Noii,
        /// `N`: retail interest.
        RetailInterest = b'N': RetailInterest,
        /// `S`: the day's stages.
        SystemEvent = b'S': SystemEvent,
        /// `R`: a stock and its locate code.
        StockDirectory = b'R': StockDirectory,
        /// `H`: a stock's trading state.
        TradingAction = b'H': TradingAction,
        /// `Y`: short-sale restriction.
        RegSho = b'Y': RegSho,
        /// `L`: a market maker's state in a stock.
        ParticipantPosition = b'L': ParticipantPosition,
        /// `V`: the levels of the market-wide circuit breaker.
        MwcbLevels = b'V': MwcbLevels,
        /// `W`: a level of the market-wide circuit breaker was reached.
        MwcbStatus = b'W': MwcbStatus,
        /// `K`: when an IPO's quoting is released.
        IpoQuoting = b'K': IpoQuoting,
        /// `J`: the collar of an auction after a limit-up limit-down pause.
        LuldCollar = b'J': LuldCollar,
        /// `h`: one market's halt of a stock.
        OperationalHalt = b'h': OperationalHalt,
        /// `O`: prices of a direct listing with a capital raise.
        DirectListing = b'O': DirectListing,
    }
}

#[cfg(test)]
mod tests;
