//! The fields that ITCH messages are made of.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::event::UNDEF_PRICE;
use crate::wire::layout::layout;

layout! {
    /// What every message starts with.
    pub struct Head: 11 {
        /// The message's type.
        kind: u8 = 0,
        /// The stock's code for the day, given by [`StockDirectory`](super::StockDirectory); 0
        /// in messages that concern no stock.
        stock_locate: U16 = 1,
        /// Nasdaq's internal tracking number.
        tracking: U16 = 3,
        /// Nanoseconds since midnight in New York.
        timestamp: U48 = 5,
    }
}

impl Head {
    /// A head of a message of type `kind`, `timestamp_ns` after midnight in New York.
    #[inline]
    pub fn new(kind: u8, stock_locate: u16, tracking: u16, timestamp_ns: u64) -> Head {
        Head {
            kind,
            stock_locate: U16::new(stock_locate),
            tracking: U16::new(tracking),
            timestamp: U48::new(timestamp_ns),
        }
    }
}

/// A big-endian number of 48 bits.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct U48([u8; 6]);

impl U48 {
    /// The largest value.
    pub const MAX: u64 = (1 << 48) - 1;

    /// The low 48 bits of `value`.
    #[inline]
    pub const fn new(value: u64) -> U48 {
        let [_, _, bytes @ ..] = value.to_be_bytes();
        U48(bytes)
    }

    /// The value.
    #[inline]
    pub const fn get(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// A price in units of 1e-4. The largest that Nasdaq sends is 200,000.0000, which stands for a
/// market order in crosses.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Price4(U32);

impl Price4 {
    /// A price of `units` times 1e-4.
    #[inline]
    pub fn new(units: u32) -> Price4 {
        Price4(U32::new(units))
    }

    /// The price in units of 1e-4, as sent.
    #[inline]
    pub fn units(self) -> u32 {
        self.0.get()
    }

    /// The price in units of 1e-9, as events carry it. Cannot overflow.
    #[inline]
    pub fn nanos(self) -> i64 {
        i64::from(self.0.get()) * 100_000
    }
}

/// A price in units of 1e-8.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Price8(U64);

impl Price8 {
    /// A price of `units` times 1e-8.
    #[inline]
    pub fn new(units: u64) -> Price8 {
        Price8(U64::new(units))
    }

    /// The price in units of 1e-8, as sent.
    #[inline]
    pub fn units(self) -> u64 {
        self.0.get()
    }

    /// The price in units of 1e-9, as events carry it; [`UNDEF_PRICE`] if it does not fit.
    #[inline]
    pub fn nanos(self) -> i64 {
        i64::try_from(self.0.get())
            .ok()
            .and_then(|units| units.checked_mul(10))
            .unwrap_or(UNDEF_PRICE)
    }
}
