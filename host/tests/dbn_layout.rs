//! Our records against the `dbn` crate's, field by field: a tool that reads DBN reads our events.

use std::mem::offset_of;

use dbn::enums::{Action, StatusAction, rtype};
use dbn::flags as theirs_flags;
use wiretape_core::event::{
    MboMsg, RecordHeader, StatusMsg, UNDEF_PRICE, UNDEF_TIMESTAMP, action, flags,
    rtype as our_rtype, status_action,
};

macro_rules! same_offsets {
    ($ours:ty, $theirs:ty: $($field:ident)*) => {
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>());
        $(assert_eq!(
            offset_of!($ours, $field),
            offset_of!($theirs, $field),
            concat!(stringify!($ours), ".", stringify!($field)),
        );)*
    };
}

#[test]
fn records_lie_where_dbn_puts_them() {
    same_offsets!(RecordHeader, dbn::RecordHeader: rtype publisher_id instrument_id ts_event);
    same_offsets!(MboMsg, dbn::MboMsg:
        hd order_id price size flags channel_id action side ts_recv ts_in_delta sequence);
    same_offsets!(StatusMsg, dbn::StatusMsg:
        hd ts_recv action reason trading_event is_trading is_quoting is_short_sell_restricted);
}

#[test]
fn numbers_and_letters_mean_what_dbn_means() {
    assert_eq!((our_rtype::MBO, our_rtype::STATUS), (rtype::MBO, rtype::STATUS));
    assert_eq!((UNDEF_PRICE, UNDEF_TIMESTAMP), (dbn::UNDEF_PRICE, dbn::UNDEF_TIMESTAMP));
    let actions = [
        (action::ADD, Action::Add),
        (action::CANCEL, Action::Cancel),
        (action::MODIFY, Action::Modify),
        (action::CLEAR, Action::Clear),
        (action::TRADE, Action::Trade),
        (action::FILL, Action::Fill),
        (action::NONE, Action::None),
    ];
    for (ours, theirs) in actions {
        assert_eq!(ours, theirs as u8);
    }
    let bits = [
        (flags::LAST, theirs_flags::LAST),
        (flags::TOB, theirs_flags::TOB),
        (flags::SNAPSHOT, theirs_flags::SNAPSHOT),
        (flags::MBP, theirs_flags::MBP),
        (flags::BAD_TS_RECV, theirs_flags::BAD_TS_RECV),
        (flags::MAYBE_BAD_BOOK, theirs_flags::MAYBE_BAD_BOOK),
        (flags::PUBLISHER, theirs_flags::PUBLISHER_SPECIFIC),
    ];
    for (ours, theirs) in bits {
        assert_eq!(ours, theirs);
    }
    let statuses = [
        (status_action::PRE_OPEN, StatusAction::PreOpen),
        (status_action::QUOTING, StatusAction::Quoting),
        (status_action::TRADING, StatusAction::Trading),
        (status_action::HALT, StatusAction::Halt),
        (status_action::PAUSE, StatusAction::Pause),
        (status_action::CLOSE, StatusAction::Close),
        (status_action::POST_CLOSE, StatusAction::PostClose),
        (status_action::SSR_CHANGE, StatusAction::SsrChange),
        (status_action::NOT_AVAILABLE, StatusAction::NotAvailableForTrading),
    ];
    for (ours, theirs) in statuses {
        assert_eq!(ours, theirs as u16);
    }
}
