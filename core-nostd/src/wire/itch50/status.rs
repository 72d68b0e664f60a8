//! The day's stages, the stocks and their states.

use zerocopy::byteorder::big_endian::{U32, U64};

use super::field::{Head, Price4, Price8};
use crate::wire::layout::layout;

layout! {
    /// A stage of the day.
    pub struct SystemEvent: 12, kind b'S' {
        /// Type `S` and time.
        head: Head = 0,
        /// `O` start of messages, `S` start of system hours, `Q` start of market hours, `M` end
        /// of market hours, `E` end of system hours, `C` end of messages.
        event: u8 = 11,
    }

    /// A stock that trades today, and its locate code.
    pub struct StockDirectory: 39, kind b'R' {
        /// Type `R`, the stock's locate code, and time.
        head: Head = 0,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 11,
        /// Listing market: `Q`, `G`, `S` tiers of Nasdaq, `N` NYSE, `A` NYSE American, `P` Arca,
        /// `Z` BATS, `V` IEX, space for none.
        market_category: u8 = 19,
        /// Nasdaq's financial status indicator, `N` normal.
        financial_status: u8 = 20,
        /// Shares of a round lot.
        round_lot: U32 = 21,
        /// `Y` if orders must be in round lots.
        round_lots_only: u8 = 25,
        /// Class of the security.
        issue_class: u8 = 26,
        /// Subtype of the security.
        issue_subtype: [u8; 2] = 27,
        /// `P` live, `T` a test security.
        authenticity: u8 = 29,
        /// `Y` if on the threshold list of Reg SHO.
        short_sale_threshold: u8 = 30,
        /// `Y` if a new listing.
        ipo: u8 = 31,
        /// Tier of limit-up limit-down: `1`, `2`, space.
        luld_tier: u8 = 32,
        /// `Y` if an exchange-traded product.
        etp: u8 = 33,
        /// Its leverage factor.
        etp_leverage: U32 = 34,
        /// `Y` if it moves against its index.
        etp_inverse: u8 = 38,
    }

    /// A stock's trading state.
    pub struct TradingAction: 25, kind b'H' {
        /// Type `H`, stock and time.
        head: Head = 0,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 11,
        /// `H` halted, `P` paused, `Q` quotation only, `T` trading.
        state: u8 = 19,
        /// Reserved.
        reserved: u8 = 20,
        /// Reason code, space padded.
        reason: [u8; 4] = 21,
    }

    /// A stock's short-sale price test.
    pub struct RegSho: 20, kind b'Y' {
        /// Type `Y`, stock and time.
        head: Head = 0,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 11,
        /// `0` none, `1` in effect after a drop within the day, `2` remains in effect.
        action: u8 = 19,
    }

    /// A market maker's state in a stock.
    pub struct ParticipantPosition: 26, kind b'L' {
        /// Type `L`, stock and time.
        head: Head = 0,
        /// The market participant.
        mpid: [u8; 4] = 11,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 15,
        /// `Y` if a primary market maker.
        primary: u8 = 23,
        /// `N` normal, `P` passive, `S` syndicate, `R` pre-syndicate, `L` penalty.
        mode: u8 = 24,
        /// `A` active, `E` excused, `W` withdrawn, `S` suspended, `D` deleted.
        state: u8 = 25,
    }

    /// The index levels of the market-wide circuit breaker today.
    pub struct MwcbLevels: 35, kind b'V' {
        /// Type `V` and time.
        head: Head = 0,
        /// Level 1.
        level_1: Price8 = 11,
        /// Level 2.
        level_2: Price8 = 19,
        /// Level 3.
        level_3: Price8 = 27,
    }

    /// A level of the market-wide circuit breaker was reached.
    pub struct MwcbStatus: 12, kind b'W' {
        /// Type `W` and time.
        head: Head = 0,
        /// `1`, `2` or `3`.
        level: u8 = 11,
    }

    /// When an IPO's quotation is to be released.
    pub struct IpoQuoting: 28, kind b'K' {
        /// Type `K`, stock and time.
        head: Head = 0,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 11,
        /// Seconds since midnight in New York.
        release_time_s: U32 = 19,
        /// `A` anticipated, `C` cancelled or postponed.
        qualifier: u8 = 23,
        /// The IPO's price.
        price: Price4 = 24,
    }

    /// The collar of the auction that ends a limit-up limit-down pause.
    pub struct LuldCollar: 35, kind b'J' {
        /// Type `J`, stock and time.
        head: Head = 0,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 11,
        /// Reference price of the collar.
        reference_price: Price4 = 19,
        /// Highest price of the auction.
        upper_price: Price4 = 23,
        /// Lowest price of the auction.
        lower_price: Price4 = 27,
        /// How often the auction was extended.
        extension: U32 = 31,
    }

    /// A stock halted on one of Nasdaq's markets for operational reasons.
    pub struct OperationalHalt: 21, kind b'h' {
        /// Type `h`, stock and time.
        head: Head = 0,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 11,
        /// `Q` Nasdaq, `B` BX, `X` PSX.
        market: u8 = 19,
        /// `H` halted, `T` lifted.
        action: u8 = 20,
    }

    /// Prices of a direct listing with a capital raise.
    pub struct DirectListing: 48, kind b'O' {
        /// Type `O`, stock and time.
        head: Head = 0,
        /// The stock's symbol, space padded.
        stock: [u8; 8] = 11,
        /// `Y` if eligible to be released.
        eligible: u8 = 19,
        /// Lowest price allowed.
        minimum_price: Price4 = 20,
        /// Highest price allowed.
        maximum_price: Price4 = 24,
        /// Near execution price.
        near_price: Price4 = 28,
        /// When it was set, nanoseconds since midnight in New York.
        near_time_ns: U64 = 32,
        /// Lower collar of the auction.
        lower_collar: Price4 = 40,
        /// Upper collar of the auction.
        upper_collar: Price4 = 44,
    }
}
