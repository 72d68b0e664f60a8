//! Best bid and offer.

use crate::event::{Side, UNDEF_PRICE};

/// Best bid and offer of an instrument, with DBN's names and units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bbo {
    /// Best bid price in 1e-9; [`UNDEF_PRICE`] if there is none.
    pub bid_px: i64,
    /// Best offer price in 1e-9; [`UNDEF_PRICE`] if there is none.
    pub ask_px: i64,
    /// Quantity at the best bid, saturating; 0 if there is none.
    pub bid_sz: u32,
    /// Quantity at the best offer, saturating; 0 if there is none.
    pub ask_sz: u32,
    /// Orders at the best bid; in a book of levels 1, as their number is not known.
    pub bid_ct: u32,
    /// Orders at the best offer; in a book of levels 1, as their number is not known.
    pub ask_ct: u32,
}

impl Bbo {
    /// No bid and no offer.
    pub const EMPTY: Bbo = Bbo {
        bid_px: UNDEF_PRICE,
        ask_px: UNDEF_PRICE,
        bid_sz: 0,
        ask_sz: 0,
        bid_ct: 0,
        ask_ct: 0,
    };

    /// With one side set.
    #[inline]
    pub(super) fn with(mut self, side: Side, price: i64, size: u64, orders: u32) -> Bbo {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        match side {
            Side::Bid => (self.bid_px, self.bid_sz, self.bid_ct) = (price, size, orders),
            Side::Ask => (self.ask_px, self.ask_sz, self.ask_ct) = (price, size, orders),
        }
        self
    }
}
