//! Messages that change the order book.
//!
//! `A` and `F` insert, `E`, `C` and `X` subtract shares and remove the order at zero, `D` removes,
//! `U` removes one order and inserts another at the back of its level.

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

use super::field::{Head, Price4};
use crate::wire::layout::layout;

layout! {
    /// An order without attribution joined the book.
    pub struct AddOrder: 36, kind b'A' {
        /// Type `A`, stock and time.
        head: Head = 0,
        /// The order's reference, unique for the day.
        order_ref: U64 = 11,
        /// `B` buy, `S` sell.
        side: u8 = 19,
        /// Displayed shares.
        shares: U32 = 20,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 24,
        /// Display price.
        price: Price4 = 32,
    }

    /// An order with the market participant that entered it joined the book.
    pub struct AddOrderMpid: 40, kind b'F' {
        /// Type `F`, stock and time.
        head: Head = 0,
        /// The order's reference, unique for the day.
        order_ref: U64 = 11,
        /// `B` buy, `S` sell.
        side: u8 = 19,
        /// Displayed shares.
        shares: U32 = 20,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 24,
        /// Display price.
        price: Price4 = 32,
        /// The market participant.
        mpid: [u8; 4] = 36,
    }

    /// An order was executed, in whole or in part, at its display price.
    pub struct OrderExecuted: 31, kind b'E' {
        /// Type `E`, stock and time.
        head: Head = 0,
        /// The order that was executed.
        order_ref: U64 = 11,
        /// Shares executed.
        shares: U32 = 19,
        /// The match, unique for the day; a [`BrokenTrade`](super::BrokenTrade) names it.
        match_number: U64 = 23,
    }

    /// An order was executed, in whole or in part, at a price that is not its display price.
    pub struct OrderExecutedWithPrice: 36, kind b'C' {
        /// Type `C`, stock and time.
        head: Head = 0,
        /// The order that was executed.
        order_ref: U64 = 11,
        /// Shares executed.
        shares: U32 = 19,
        /// The match, unique for the day.
        match_number: U64 = 23,
        /// `Y` if the trade counts for time and sales and volume, `N` if a
        /// [`CrossTrade`](super::CrossTrade) reports it in bulk.
        printable: u8 = 31,
        /// Price of the execution.
        price: Price4 = 32,
    }

    /// An order was reduced.
    pub struct OrderCancel: 23, kind b'X' {
        /// Type `X`, stock and time.
        head: Head = 0,
        /// The order that was reduced.
        order_ref: U64 = 11,
        /// Shares taken off it.
        cancelled: U32 = 19,
    }

    /// An order was removed.
    pub struct OrderDelete: 19, kind b'D' {
        /// Type `D`, stock and time.
        head: Head = 0,
        /// The order that was removed.
        order_ref: U64 = 11,
    }

    /// An order was replaced. Side, stock and attribution stay; the time priority is lost.
    pub struct OrderReplace: 35, kind b'U' {
        /// Type `U`, stock and time.
        head: Head = 0,
        /// The order that was removed.
        old_ref: U64 = 11,
        /// The reference of the order in its place.
        new_ref: U64 = 19,
        /// Displayed shares of the new order.
        shares: U32 = 27,
        /// Display price of the new order.
        price: Price4 = 31,
    }
}

impl AddOrderMpid {
    /// The same order without the market participant, which stands behind all else.
    #[inline(always)]
    pub fn unattributed(&self) -> &AddOrder {
        const NONE: [u8; size_of::<AddOrder>()] = [0; size_of::<AddOrder>()];
        // It is longer than the other, so that there always are as many bytes.
        zerocopy::transmute_ref!(self.as_bytes().first_chunk().unwrap_or(&NONE))
    }
}
