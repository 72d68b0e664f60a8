//! What venues say of trading states, as DBN status records.

use crate::event::{RecordHeader, StatusMsg, status_action};

/// Yes, no and unknown in DBN's status records.
const YES: u8 = b'Y';
const NO: u8 = b'N';
const UNKNOWN: u8 = b'~';

/// DBN `StatusReason`: operational.
const REASON_OPERATIONAL: u16 = 60;
/// DBN `StatusReason`: market-wide circuit breakers of levels 1 to 3.
const REASON_CIRCUIT_BREAKER: [u16; 3] = [120, 121, 122];

/// A change of trading state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// One of [`status_action`].
    pub action: u16,
    /// DBN `StatusReason`; 0 for none.
    pub reason: u16,
    /// Whether the instrument trades now.
    pub is_trading: u8,
    /// Whether it quotes now.
    pub is_quoting: u8,
    /// Whether short sales are restricted now.
    pub is_short_sell_restricted: u8,
    /// The venue's message type.
    pub venue_type: u8,
    /// The venue's status letter.
    pub code: u8,
    /// Whether the letter is the instrument's trading state (and not a property beside it).
    pub sets_state: bool,
}

impl StatusChange {
    const fn new(venue_type: u8, code: u8, action: u16) -> Self {
        StatusChange {
            action,
            reason: 0,
            is_trading: UNKNOWN,
            is_quoting: UNKNOWN,
            is_short_sell_restricted: UNKNOWN,
            venue_type,
            code,
            sets_state: false,
        }
    }

    const fn state(venue_type: u8, code: u8, action: u16, trading: u8, quoting: u8) -> Self {
        StatusChange {
            is_trading: trading,
            is_quoting: quoting,
            sets_state: true,
            ..Self::new(venue_type, code, action)
        }
    }

    /// The record.
    pub fn record(&self, hd: RecordHeader, ts_recv: u64) -> StatusMsg {
        StatusMsg {
            hd,
            ts_recv,
            action: self.action,
            reason: self.reason,
            trading_event: 0,
            is_trading: self.is_trading,
            is_quoting: self.is_quoting,
            is_short_sell_restricted: self.is_short_sell_restricted,
            venue_type: self.venue_type,
            venue_code: self.code,
            reserved: [0; 5],
        }
    }
}

/// ITCH `S`: a stage of the day.
pub fn itch_system(event: u8) -> StatusChange {
    let action = match event {
        b'S' => status_action::PRE_OPEN,
        b'Q' => status_action::TRADING,
        b'M' => status_action::POST_CLOSE,
        b'E' => status_action::CLOSE,
        _ => status_action::NONE,
    };
    StatusChange::new(b'S', event, action)
}

/// ITCH `W`: a level of the market-wide circuit breaker was reached.
pub fn itch_circuit_breaker(level: u8) -> StatusChange {
    let index = usize::from(level.wrapping_sub(b'1'));
    let reason = REASON_CIRCUIT_BREAKER.get(index).copied().unwrap_or(0);
    StatusChange { reason, ..StatusChange::new(b'W', level, status_action::HALT) }
}

/// ITCH `H`: a stock's trading state. IEX DEEP uses the same letters, and `O` for the time in
/// which orders are accepted but not executed.
pub fn itch_trading(state: u8) -> StatusChange {
    let (action, trading, quoting) = match state {
        b'T' => (status_action::TRADING, YES, YES),
        b'Q' => (status_action::QUOTING, NO, YES),
        b'O' => (status_action::PRE_OPEN, NO, YES),
        b'H' => (status_action::HALT, NO, NO),
        b'P' => (status_action::PAUSE, NO, NO),
        _ => (status_action::NONE, UNKNOWN, UNKNOWN),
    };
    StatusChange::state(b'H', state, action, trading, quoting)
}

/// ITCH `h`: one market's operational halt, and its end.
pub fn itch_operational(code: u8) -> StatusChange {
    operational(b'h', code, code == b'H')
}

/// IEX `O`: an operational halt, and its end.
pub fn iex_operational(code: u8) -> StatusChange {
    operational(b'O', code, code == b'O')
}

fn operational(venue_type: u8, code: u8, halted: bool) -> StatusChange {
    let action = if halted { status_action::HALT } else { status_action::NONE };
    StatusChange { reason: REASON_OPERATIONAL, ..StatusChange::new(venue_type, code, action) }
}

/// ITCH `Y`: the short-sale price test.
pub fn itch_reg_sho(code: u8) -> StatusChange {
    short_sale(b'Y', code, code != b'0')
}

/// IEX `P`: the short-sale price test.
pub fn iex_short_sale(code: u8) -> StatusChange {
    short_sale(b'P', code, code != 0)
}

fn short_sale(venue_type: u8, code: u8, restricted: bool) -> StatusChange {
    StatusChange {
        is_short_sell_restricted: if restricted { YES } else { NO },
        ..StatusChange::new(venue_type, code, status_action::SSR_CHANGE)
    }
}

/// IEX `S`: a stage of the day.
pub fn iex_system(event: u8) -> StatusChange {
    let action = match event {
        b'S' => status_action::PRE_OPEN,
        b'R' => status_action::TRADING,
        b'M' => status_action::POST_CLOSE,
        b'E' => status_action::CLOSE,
        _ => status_action::NONE,
    };
    StatusChange::new(b'S', event, action)
}

/// IEX `E`: an instrument's opening or closing process is complete.
pub fn iex_security(event: u8) -> StatusChange {
    let action = match event {
        b'O' => status_action::TRADING,
        b'C' => status_action::CLOSE,
        _ => status_action::NONE,
    };
    StatusChange::new(b'E', event, action)
}
