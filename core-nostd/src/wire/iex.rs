//! The messages and fields that IEX's feeds share, little-endian.
//!
//! Source: IEX, "DEEP Specification" 1.0 and "TOPS Specification" 1.6 (the retail liquidity indicator:
//! 1.08 and 1.66). Every message starts with
//! its type, a byte of flags or status, and the time; all but the system event then name the
//! security. The enums of messages are [`deep10::Message`](super::deep10::Message) and
//! [`tops16::Message`](super::tops16::Message): what a feed has for itself beside what all share
//! ([`Shared`]).

use zerocopy::byteorder::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use super::message::MessageError;

use super::layout::layout;
use crate::event::UNDEF_PRICE;

/// UTC nanoseconds.
pub type Time = I64;
/// A security's symbol, space padded.
pub type Symbol = [u8; 8];

/// A price in units of 1e-4.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Price(I64);

impl Price {
    /// A price of `units` times 1e-4.
    #[inline]
    pub fn new(units: i64) -> Price {
        Price(I64::new(units))
    }

    /// The price in units of 1e-4, as sent.
    #[inline]
    pub fn units(self) -> i64 {
        self.0.get()
    }

    /// The price in units of 1e-9, as events carry it; [`UNDEF_PRICE`] if it does not fit.
    #[inline]
    pub fn nanos(self) -> i64 {
        self.0.get().checked_mul(100_000).unwrap_or(UNDEF_PRICE)
    }
}

layout! {
    /// A stage of the day.
    pub struct SystemEvent: 10, kind b'S' {
        /// Type `S`.
        kind: u8 = 0,
        /// `O` start of messages, `S` start of system hours, `R` start of regular market hours,
        /// `M` end of regular market hours, `E` end of system hours, `C` end of messages.
        event: u8 = 1,
        /// When it happened.
        timestamp: Time = 2,
    }

    /// A security that trades today.
    pub struct SecurityDirectory: 31, kind b'D' {
        /// Type `D`.
        kind: u8 = 0,
        /// 0x80 test security, 0x40 when issued, 0x20 exchange-traded product.
        flags: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
        /// Shares of a round lot.
        round_lot: U32 = 18,
        /// Yesterday's official close, adjusted for corporate actions.
        adjusted_close: Price = 22,
        /// Tier of limit-up limit-down: 0 none, 1, 2.
        luld_tier: u8 = 30,
    }

    /// A security's trading status.
    pub struct TradingStatus: 22, kind b'H' {
        /// Type `H`.
        kind: u8 = 0,
        /// `H` halted, `O` order acceptance period, `P` paused and order acceptance period,
        /// `T` trading.
        status: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
        /// Reason code, space padded.
        reason: [u8; 4] = 18,
    }

    /// A security's operational halt on IEX.
    pub struct OperationalHalt: 18, kind b'O' {
        /// Type `O`.
        kind: u8 = 0,
        /// `O` halted on IEX, `N` not halted.
        status: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
    }

    /// A security's short-sale price test.
    pub struct ShortSale: 19, kind b'P' {
        /// Type `P`.
        kind: u8 = 0,
        /// 1 in effect, 0 not.
        status: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
        /// ` ` no price test, `A` activated, `C` continued, `D` deactivated, `N` not available.
        detail: u8 = 18,
    }

    /// A security's opening or closing process is over.
    pub struct SecurityEvent: 18, kind b'E' {
        /// Type `E`.
        kind: u8 = 0,
        /// `O` opening process complete, `C` closing process complete.
        event: u8 = 1,
        /// When it happened.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
    }

    /// Whether orders of the retail programme wait inside a security's spread.
    pub struct RetailLiquidity: 18, kind b'I' {
        /// Type `I`.
        kind: u8 = 0,
        /// ` ` none, `A` to buy, `B` to sell, `C` both.
        interest: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
    }

    /// A trade, or in a break the trade that is void.
    pub struct TradeReport: 38, kind b'T' {
        /// Type `T`, or `B` for a break.
        kind: u8 = 0,
        /// 0x80 intermarket sweep, 0x40 extended hours, 0x20 odd lot, 0x10 trade-through exempt,
        /// 0x08 single-price cross.
        flags: u8 = 1,
        /// When it happened.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
        /// Shares.
        size: U32 = 18,
        /// Price.
        price: Price = 22,
        /// The trade, unique for the day.
        trade_id: I64 = 30,
    }

    /// A security's official opening or closing price.
    pub struct OfficialPrice: 26, kind b'X' {
        /// Type `X`.
        kind: u8 = 0,
        /// `Q` opening, `M` closing.
        price_type: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
        /// Price.
        price: Price = 18,
    }

    /// The state of an auction under way.
    pub struct AuctionInfo: 80, kind b'A' {
        /// Type `A`.
        kind: u8 = 0,
        /// `O` opening, `C` closing, `I` initial offering, `H` halt, `V` volatility.
        auction_type: u8 = 1,
        /// When it was set.
        timestamp: Time = 2,
        /// The security.
        symbol: Symbol = 10,
        /// Shares paired at the reference price.
        paired: U32 = 18,
        /// Clearing price at or within the reference price range.
        reference_price: Price = 22,
        /// Clearing price of the eligible auction orders; 0 if none.
        indicative_price: Price = 30,
        /// Shares not paired at the reference price.
        imbalance: U32 = 38,
        /// `B` buy, `S` sell, `N` none.
        imbalance_side: u8 = 42,
        /// How often the auction was extended.
        extension: u8 = 43,
        /// When the auction is due, UTC seconds.
        scheduled_time_s: U32 = 44,
        /// Clearing price of auction and continuous orders; 0 if none.
        book_price: Price = 48,
        /// Reference price of the collar; 0 if none.
        collar_price: Price = 56,
        /// Lower collar of the auction.
        lower_collar: Price = 64,
        /// Upper collar of the auction.
        upper_collar: Price = 72,
    }
}

impl TradeReport {
    /// The type of a break, which has the fields of the trade that it voids.
    pub const KIND_BREAK: u8 = b'B';
}

/// A message that all of IEX's feeds have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shared<'a> {
    /// `T`: a trade.
    TradeReport(&'a TradeReport) = b'T',
    /// `B`: a trade that was broken.
    TradeBreak(&'a TradeReport) = b'B',
    /// `S`: the day's stages.
    SystemEvent(&'a SystemEvent) = b'S',
    /// `D`: a security that trades today.
    SecurityDirectory(&'a SecurityDirectory) = b'D',
    /// `H`: a security's trading status.
    TradingStatus(&'a TradingStatus) = b'H',
    /// `O`: a security's operational halt on IEX.
    OperationalHalt(&'a OperationalHalt) = b'O',
    /// `P`: a security's short-sale price test.
    ShortSale(&'a ShortSale) = b'P',
    /// `X`: an official opening or closing price.
    OfficialPrice(&'a OfficialPrice) = b'X',
    /// `A`: the state of an auction.
    AuctionInfo(&'a AuctionInfo) = b'A',
    /// `E`: a security's opening or closing process is over.
    SecurityEvent(&'a SecurityEvent) = b'E',
    /// `I`: whether orders of the retail programme wait.
    RetailLiquidity(&'a RetailLiquidity) = b'I',
}

/// Declares the `Message` enum of one of IEX's feeds: its own messages, then those of [`Shared`].
///
/// The types of [`Shared`] are its discriminants as they are the enum's, so that going from one to
/// the other costs no more than asking which it is.
macro_rules! iex_messages {
    ( $(#[$meta:meta])* pub enum $Message:ident { $($own:tt)* } ) => {
        $crate::wire::message::messages! {
            $(#[$meta])*
            pub enum $Message shares timestamp: $crate::wire::iex::Time {
                $($own)*
                /// `T`: a trade.
                TradeReport = b'T': $crate::wire::iex::TradeReport,
                /// `B`: a trade that was broken.
                TradeBreak = b'B': $crate::wire::iex::TradeReport,
                /// `S`: the day's stages.
                SystemEvent = b'S': $crate::wire::iex::SystemEvent,
                /// `D`: a security that trades today.
                SecurityDirectory = b'D': $crate::wire::iex::SecurityDirectory,
                /// `H`: a security's trading status.
                TradingStatus = b'H': $crate::wire::iex::TradingStatus,
                /// `O`: a security's operational halt on IEX.
                OperationalHalt = b'O': $crate::wire::iex::OperationalHalt,
                /// `P`: a security's short-sale price test.
                ShortSale = b'P': $crate::wire::iex::ShortSale,
                /// `X`: an official opening or closing price.
                OfficialPrice = b'X': $crate::wire::iex::OfficialPrice,
                /// `A`: the state of an auction.
                AuctionInfo = b'A': $crate::wire::iex::AuctionInfo,
                /// `E`: a security's opening or closing process is over.
                SecurityEvent = b'E': $crate::wire::iex::SecurityEvent,
                /// `I`: whether orders of the retail programme wait.
                RetailLiquidity = b'I': $crate::wire::iex::RetailLiquidity,
            }
        }

        impl<'a> $Message<'a> {
            /// The message as one that all of IEX's feeds have; `None` for this feed's own.
            #[inline]
            pub fn shared(self) -> Option<$crate::wire::iex::Shared<'a>> {
                use $crate::wire::iex::Shared;
                Some(match self {
                    $Message::TradeReport(m) => Shared::TradeReport(m),
                    $Message::TradeBreak(m) => Shared::TradeBreak(m),
                    $Message::SystemEvent(m) => Shared::SystemEvent(m),
                    $Message::SecurityDirectory(m) => Shared::SecurityDirectory(m),
                    $Message::TradingStatus(m) => Shared::TradingStatus(m),
                    $Message::OperationalHalt(m) => Shared::OperationalHalt(m),
                    $Message::ShortSale(m) => Shared::ShortSale(m),
                    $Message::OfficialPrice(m) => Shared::OfficialPrice(m),
                    $Message::AuctionInfo(m) => Shared::AuctionInfo(m),
                    $Message::SecurityEvent(m) => Shared::SecurityEvent(m),
                    $Message::RetailLiquidity(m) => Shared::RetailLiquidity(m),
                    _ => return None,
                })
            }
        }
    };
}
pub(crate) use iex_messages;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_become_nanos_or_say_that_they_cannot() {
        assert_eq!(Price::new(1_0000).nanos(), crate::event::PRICE_SCALE);
        assert_eq!(Price::new(-1).nanos(), -100_000);
        assert_eq!(Price::new(i64::MAX / 100_000).nanos(), i64::MAX / 100_000 * 100_000);
        assert_eq!(Price::new(i64::MAX / 100_000 + 1).nanos(), UNDEF_PRICE);
        assert_eq!(Price::new(i64::MIN).nanos(), UNDEF_PRICE);
    }
}
