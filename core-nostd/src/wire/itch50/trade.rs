//! Executions that no displayed order shows, and what surrounds a cross. None of these messages
//! changes the order book.

use zerocopy::byteorder::big_endian::{U32, U64};

use super::field::{Head, Price4};
use crate::wire::layout::layout;

layout! {
    /// A hidden order was executed.
    pub struct Trade: 44, kind b'P' {
        /// Type `P`, stock and time.
        head: Head = 0,
        /// 0 since 2010.
        order_ref: U64 = 11,
        /// Side of the hidden order; always `B` since 2014, whatever it was.
        side: u8 = 19,
        /// Shares executed.
        shares: U32 = 20,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 24,
        /// Price of the execution.
        price: Price4 = 32,
        /// The match, unique for the day.
        match_number: U64 = 36,
    }

    /// A cross (an opening, closing, or halt auction) was executed.
    pub struct CrossTrade: 40, kind b'Q' {
        /// Type `Q`, stock and time.
        head: Head = 0,
        /// Shares matched; 0 if the cross found no match.
        shares: U64 = 11,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 19,
        /// Price of the cross.
        price: Price4 = 27,
        /// The match, unique for the day.
        match_number: U64 = 31,
        /// `O` opening, `C` closing, `H` for a halted or newly listed stock.
        cross_type: u8 = 39,
    }

    /// A trade was broken.
    pub struct BrokenTrade: 19, kind b'B' {
        /// Type `B`, stock and time.
        head: Head = 0,
        /// The match that is void.
        match_number: U64 = 11,
    }

    /// Net order imbalance before a cross.
    pub struct Noii: 50, kind b'I' {
        /// Type `I`, stock and time.
        head: Head = 0,
        /// Shares paired at the reference price.
        paired: U64 = 11,
        /// Shares not paired.
        imbalance: U64 = 19,
        /// Side of the imbalance: `B`, `S`, `N` none, `O` too few orders, `P` paused.
        direction: u8 = 27,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 28,
        /// Clearing price of the cross orders alone.
        far_price: Price4 = 36,
        /// Clearing price of cross and continuous orders.
        near_price: Price4 = 40,
        /// Price at which the imbalance is calculated.
        reference_price: Price4 = 44,
        /// `O`, `C`, `H` as in [`CrossTrade`], `A` for an extended trading close.
        cross_type: u8 = 48,
        /// Class of the deviation of the near price from the reference.
        variation: u8 = 49,
    }

    /// Whether a retail price improvement order is there.
    pub struct RetailInterest: 20, kind b'N' {
        /// Type `N`, stock and time.
        head: Head = 0,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 11,
        /// Side of the interest: `B`, `S`, `A` both, `N` none.
        interest: u8 = 19,
    }
}
