//! IEX TOPS 1.6: the best bid and offer, trades and statuses, over [`iextp`](super::iextp).
//!
//! Source: IEX, "TOPS Specification" 1.6. TOPS 1.5 has the same messages under another number.
//!
//! ```
//! use wiretape_core::wire::tops16::Message;
//!
//! let mut bytes = [0; 42];
//! bytes[0] = b'Q';
//! bytes[18..22].copy_from_slice(&9700_u32.to_le_bytes());
//! bytes[22..30].copy_from_slice(&990_500_i64.to_le_bytes());
//! let Ok(Message::Quote(quote)) = Message::parse(&bytes) else { panic!() };
//! assert_eq!((quote.bid_size.get(), quote.bid_price.nanos()), (9700, 99_050_000_000));
//! ```

use zerocopy::byteorder::little_endian::U32;

pub use super::iex::{
    AuctionInfo, OfficialPrice, OperationalHalt, Price, RetailLiquidity, SecurityDirectory,
    SecurityEvent, ShortSale, Symbol, SystemEvent, Time, TradeReport, TradingStatus,
};

use super::iex::iex_messages;
use super::layout::layout;
use super::message::MessageError;

/// The segment header's protocol number.
pub const PROTOCOL: u16 = 0x8003;
/// That of TOPS 1.5.
pub const PROTOCOL_15: u16 = 0x8002;

layout! {
    /// A security's best bid and offer on IEX. A side without quote has size and price 0.
    pub struct Quote: 42, kind b'Q' {
        /// Type `Q`.
        kind: u8 = 0,
        /// 0x80 halted, paused or not available, 0x40 outside regular market hours.
        flags: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
        /// Shares bid.
        bid_size: U32 = 18,
        /// Price bid.
        bid_price: Price = 22,
        /// Price asked.
        ask_price: Price = 30,
        /// Shares asked.
        ask_size: U32 = 38,
    }
}

iex_messages! {
    /// A message, borrowed from the segment that carries it.
    pub enum Message {
        /// `Q`: a new best bid and offer.
        Quote = b'Q': Quote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    #[test]
    fn types_and_lengths_are_the_specifications() {
        let specification = [
            (b'Q', 42),
            (b'T', 38),
            (b'B', 38),
            (b'S', 10),
            (b'D', 31),
            (b'H', 22),
            (b'O', 18),
            (b'P', 19),
            (b'X', 26),
            (b'A', 80),
            (b'E', 18),
            (b'I', 18),
        ];
        assert_eq!(Message::TYPES, specification);
        assert_eq!(Message::parse(b"8"), Err(MessageError::UnknownType(b'8')));
        assert_eq!(Message::parse(&[]), Err(MessageError::Empty));
    }

    proptest! {
        #[test]
        fn a_quote_survives_encoding(
            flags: u8, timestamp: i64, symbol: Symbol, bid: (u32, i64), ask: (u32, i64),
        ) {
            let quote = Quote {
                kind: Quote::KIND,
                flags,
                timestamp: timestamp.into(),
                symbol,
                bid_size: bid.0.into(),
                bid_price: Price::new(bid.1),
                ask_price: Price::new(ask.1),
                ask_size: ask.0.into(),
            };
            prop_assert_eq!(Message::parse(quote.as_bytes()), Ok(Message::Quote(&quote)));
            prop_assert_eq!(&quote.as_bytes()[18..22], &bid.0.to_le_bytes());
            prop_assert_eq!(&quote.as_bytes()[30..38], &ask.1.to_le_bytes());
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = Message::parse(&bytes);
        }
    }
}
