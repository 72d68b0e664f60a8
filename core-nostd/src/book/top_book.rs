//! The book of a feed that sends only the best bid and offer: IEX TOPS.

use super::order_book::side_index;
use super::{Bbo, BookError};
use crate::arena::{Arena, ArenaError, slice_bytes};
use crate::event::{Side, UNDEF_PRICE};
use bytemuck::{Pod, Zeroable};

/// One side of a quote. Of size 0: nobody quotes, and the price means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopLevel {
    /// Price in 1e-9.
    pub price: i64,
    /// Quantity at it.
    pub size: u32,
}

/// Both sides of an instrument, by side: also what its memory holds, where zeros are no quote.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Quote {
    prices: [i64; 2],
    sizes: [u32; 2],
}
const _: () = assert!(size_of::<Quote>() == 24);

impl Quote {
    #[inline]
    fn level(&self, side: Side) -> TopLevel {
        let index = side_index(side);
        TopLevel { price: self.prices[index], size: self.sizes[index] }
    }
}

/// The best bid and offer of every instrument. A quote replaces both sides, so that nothing of an
/// earlier one stays, and there is no memory to run out of.
///
/// ```
/// use wiretape_core::arena::Arena;
/// use wiretape_core::book::{TopBook, TopLevel};
///
/// let mut region = vec![0_u8; TopBook::bytes(2)];
/// let mut book = TopBook::new(&mut Arena::new(&mut region), 2).unwrap();
/// let bid = TopLevel { price: 99_000_000_000, size: 500 };
/// let nobody = TopLevel { price: 0, size: 0 };
/// assert_eq!(book.replace(1, [bid, nobody]), Ok([nobody, nobody]));
/// assert_eq!((book.best(1).bid_sz, book.best(1).ask_ct), (500, 0));
/// assert_eq!(book.replace(1, [nobody, nobody]), Ok([bid, nobody]));
/// ```
#[derive(Debug)]
pub struct TopBook<'m> {
    quotes: &'m mut [Quote],
}

impl<'m> TopBook<'m> {
    /// An empty book of `instruments` in memory of `arena` (the one that zeroes, or one over
    /// zeros).
    pub fn new(arena: &mut Arena<'m>, instruments: u32) -> Result<Self, ArenaError> {
        Ok(TopBook { quotes: arena.alloc_slice("quotes", instruments as usize)? })
    }

    /// Bytes of arena that the book takes at most.
    pub const fn bytes(instruments: u32) -> usize {
        slice_bytes::<Quote>(instruments as usize)
    }

    /// Replaces bid and offer of an instrument, and returns those before.
    #[inline]
    pub fn replace(
        &mut self,
        instrument: u32,
        [bid, ask]: [TopLevel; 2],
    ) -> Result<[TopLevel; 2], BookError> {
        let Some(quote) = self.quotes.get_mut(instrument as usize) else {
            return Err(BookError::UnknownInstrument);
        };
        // Both sides before either is taken: half a quote is no state that the market was in.
        if [bid, ask].iter().any(|level| level.size > 0 && level.price == UNDEF_PRICE) {
            return Err(BookError::InvalidPrice);
        }
        let now = Quote { prices: [bid.price, ask.price], sizes: [bid.size, ask.size] };
        let before = core::mem::replace(quote, now);
        Ok([before.level(Side::Bid), before.level(Side::Ask)])
    }

    /// Removes the quote of an instrument. Returns whether there was one on either side.
    pub fn clear(&mut self, instrument: u32) -> bool {
        let before = self.quotes.get_mut(instrument as usize).map(core::mem::take);
        before.is_some_and(|quote| quote.sizes != [0; 2])
    }

    /// Best bid and offer. Empty for an instrument beyond those configured.
    #[inline]
    pub fn best(&self, instrument: u32) -> Bbo {
        let mut bbo = Bbo::EMPTY;
        let Some(quote) = self.quotes.get(instrument as usize) else { return bbo };
        for side in [Side::Bid, Side::Ask] {
            let level = quote.level(side);
            if level.size > 0 {
                bbo = bbo.with(side, level.price, u64::from(level.size), 1);
            }
        }
        bbo
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    const NOBODY: TopLevel = TopLevel { price: 0, size: 0 };

    #[test]
    fn a_quote_that_cannot_be_changes_nothing() {
        let mut region = vec![0xFF; TopBook::bytes(1)];
        let mut book = TopBook::new(&mut Arena::new(&mut region), 1).unwrap();
        assert_eq!(book.best(0), Bbo::EMPTY);
        let bid = TopLevel { price: -5, size: 100 };
        let nowhere = TopLevel { price: UNDEF_PRICE, size: 1 };
        assert_eq!(book.replace(0, [bid, NOBODY]), Ok([NOBODY; 2]));
        assert_eq!(book.replace(0, [NOBODY, nowhere]), Err(BookError::InvalidPrice));
        assert_eq!(book.replace(1, [bid, bid]), Err(BookError::UnknownInstrument));
        assert_eq!((book.best(0).bid_px, book.best(1)), (-5, Bbo::EMPTY));
        // A side that nobody quotes has no price that could be wrong.
        let absent = TopLevel { size: 0, ..nowhere };
        assert_eq!(book.replace(0, [absent, bid]), Ok([bid, NOBODY]));
        let best = book.best(0);
        assert_eq!((best.bid_px, best.bid_ct), (UNDEF_PRICE, 0));
        assert_eq!((best.ask_px, best.ask_sz, best.ask_ct), (-5, 100, 1));
        assert!(book.clear(0));
        assert!(!book.clear(0) && !book.clear(1));
    }
}
