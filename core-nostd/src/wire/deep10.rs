//! IEX DEEP 1.0: every price level's aggregated size, trades and statuses, over
//! [`iextp`](super::iextp).
//!
//! Source: IEX, "DEEP Specification" 1.0. A price level update sets the level's size; several
//! updates can belong to one event, and the book is only whole after the one that says that the
//! event is complete ([`EVENT_COMPLETE`]).
//!
//! ```
//! use wiretape_core::wire::deep10::{EVENT_COMPLETE, Message};
//!
//! let mut bytes = [0; 30];
//! (bytes[0], bytes[1]) = (b'8', EVENT_COMPLETE);
//! bytes[10..18].copy_from_slice(b"ZVZZT   ");
//! bytes[18..22].copy_from_slice(&9700_u32.to_le_bytes());
//! bytes[22..30].copy_from_slice(&990_500_i64.to_le_bytes());
//! let Ok(Message::PriceLevelBuy(level)) = Message::parse(&bytes) else { panic!() };
//! assert_eq!((level.kind, level.size.get()), (b'8', 9700));
//! assert_eq!(level.price.nanos(), 99_050_000_000);
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
pub const PROTOCOL: u16 = 0x8004;

/// Bit of [`PriceLevel::event_flags`]: the event is complete, so that the book may be read.
pub const EVENT_COMPLETE: u8 = 0x01;

layout! {
    /// A price level's new size.
    pub struct PriceLevel: 30 {
        /// Type `8` (buy) or `5` (sell).
        kind: u8 = 0,
        /// [`EVENT_COMPLETE`], or 0 inside an event.
        event_flags: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
        /// Shares at the level; 0 removes it.
        size: U32 = 18,
        /// Price of the level.
        price: Price = 22,
    }
}

impl PriceLevel {
    /// The type of a buy level.
    pub const KIND_BUY: u8 = b'8';
    /// The type of a sell level.
    pub const KIND_SELL: u8 = b'5';
}

iex_messages! {
    /// A message, borrowed from the segment that carries it.
    pub enum Message {
        /// `8`: a buy level's new size.
        PriceLevelBuy = b'8': PriceLevel,
        /// `5`: a sell level's new size.
        PriceLevelSell = b'5': PriceLevel,
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    /// The specification's list of types and lengths, written down apart from the structs.
    const SPECIFICATION: [(u8, u16); 13] = [
        (b'S', 10),
        (b'D', 31),
        (b'H', 22),
        (b'O', 18),
        (b'P', 19),
        (b'E', 18),
        (b'8', 30),
        (b'5', 30),
        (b'T', 38),
        (b'B', 38),
        (b'X', 26),
        (b'A', 80),
        (b'I', 18),
    ];

    #[test]
    fn every_type_of_the_specification_is_there_with_its_length() {
        assert_eq!(Message::TYPES.len(), SPECIFICATION.len());
        for kind in 0..=u8::MAX {
            let listed = SPECIFICATION.iter().find(|listed| listed.0 == kind);
            assert_eq!(Message::length_of(kind), listed.map(|listed| listed.1));
            let Some(&(_, expected)) = listed else {
                assert_eq!(Message::parse(&[kind; 30]), Err(MessageError::UnknownType(kind)));
                continue;
            };
            let mut bytes = vec![0u8; usize::from(expected) + 1];
            bytes[0] = kind;
            let error = MessageError::Length { kind, expected, found: expected + 1 };
            assert_eq!(Message::parse(&bytes), Err(error));
            bytes.pop();
            let message = Message::parse(&bytes).unwrap();
            assert_eq!((message.kind(), message.as_bytes()), (kind, &bytes[..]));
        }
        assert_eq!(Message::parse(&[]), Err(MessageError::Empty));
    }

    #[test]
    fn fields_stand_where_the_exchange_puts_them() {
        let mut bytes = Vec::from(*b"8\x01");
        bytes.extend(1_493_127_000_123_456_789i64.to_le_bytes());
        bytes.extend(b"ZIEXT   ");
        bytes.extend(9_700u32.to_le_bytes());
        bytes.extend(990_500i64.to_le_bytes());
        let Ok(Message::PriceLevelBuy(level)) = Message::parse(&bytes) else { panic!() };
        assert_eq!(level.event_flags, EVENT_COMPLETE);
        assert_eq!(level.timestamp.get(), 1_493_127_000_123_456_789);
        assert_eq!((&level.symbol, level.size.get()), (b"ZIEXT   ", 9_700));
        assert_eq!(level.price.nanos(), 99_050_000_000);
        assert_eq!(level.as_bytes(), bytes);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = Message::parse(&bytes);
        }

        #[test]
        fn a_message_is_exactly_its_bytes(
            place in 0..SPECIFICATION.len(),
            mut bytes in proptest::collection::vec(any::<u8>(), 80),
        ) {
            let (kind, length) = SPECIFICATION[place];
            bytes.truncate(usize::from(length));
            bytes[0] = kind;
            let message = Message::parse(&bytes).unwrap();
            prop_assert_eq!(message.as_bytes(), &bytes);
            prop_assert_eq!(message.timestamp().as_bytes(), &bytes[2..10]);
        }
    }
}
