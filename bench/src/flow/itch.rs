//! The flow as TotalView-ITCH 5.0.

use wiretape_core::event::Side;
use wiretape_core::wire::itch50::{
    AddOrder, AddOrderMpid, CrossTrade, Head, MwcbLevels, Noii, OrderCancel, OrderDelete,
    OrderExecuted, OrderExecutedWithPrice, OrderReplace, ParticipantPosition, Price4, Price8,
    RegSho, StockDirectory, SystemEvent, Trade, TradingAction,
};
use zerocopy::IntoBytes;

use super::change::{Change, Step};

const fn letter(side: Side) -> u8 {
    match side {
        Side::Bid => b'B',
        Side::Ask => b'S',
    }
}

/// Puts a step's message into `message`. The locate of instrument `i` is `i + 1`.
pub fn encode(step: &Step, symbols: &[[u8; 8]], message: &mut Vec<u8>) {
    message.clear();
    let locate = step.instrument.map_or(0, |i| i as u16 + 1);
    let stock = step.instrument.and_then(|i| symbols.get(i)).copied().unwrap_or([b' '; 8]);
    let head = |kind| Head::new(kind, locate, 0, step.at_ns);
    match step.change {
        Change::Add(..)
        | Change::Execute { .. }
        | Change::ExecuteAt { .. }
        | Change::Reduce { .. }
        | Change::Delete(..)
        | Change::Replace { .. } => encode_order(&step.change, head, stock, message),
        Change::HiddenTrade { shares, price, match_number, .. } => message.extend(
            Trade {
                head: head(Trade::KIND),
                order_ref: 0.into(),
                // What the venue has sent since 2014, whatever the side was.
                side: b'B',
                shares: shares.into(),
                stock,
                price: Price4::new(price),
                match_number: match_number.into(),
            }
            .as_bytes(),
        ),
        Change::Cross { shares, price, match_number, kind } => message.extend(
            CrossTrade {
                head: head(CrossTrade::KIND),
                shares: shares.into(),
                stock,
                price: Price4::new(price),
                match_number: match_number.into(),
                cross_type: kind,
            }
            .as_bytes(),
        ),
        Change::Imbalance { paired, imbalance, side, price, cross } => message.extend(
            Noii {
                head: head(Noii::KIND),
                paired: paired.into(),
                imbalance: imbalance.into(),
                direction: side.map_or(b'N', letter),
                stock,
                far_price: Price4::new(price),
                near_price: Price4::new(price),
                reference_price: Price4::new(price),
                cross_type: cross,
                variation: b'L',
            }
            .as_bytes(),
        ),
        _ => encode_status(&step.change, head, stock, message),
    }
}

fn encode_order(change: &Change, head: impl Fn(u8) -> Head, stock: [u8; 8], message: &mut Vec<u8>) {
    match *change {
        Change::Add(order, None) => message.extend(
            AddOrder {
                head: head(AddOrder::KIND),
                order_ref: order.reference.into(),
                side: letter(order.side),
                shares: order.shares.into(),
                stock,
                price: Price4::new(order.price),
            }
            .as_bytes(),
        ),
        Change::Add(order, Some(mpid)) => message.extend(
            AddOrderMpid {
                head: head(AddOrderMpid::KIND),
                order_ref: order.reference.into(),
                side: letter(order.side),
                shares: order.shares.into(),
                stock,
                price: Price4::new(order.price),
                mpid,
            }
            .as_bytes(),
        ),
        Change::Execute { order, shares, match_number } => message.extend(
            OrderExecuted {
                head: head(OrderExecuted::KIND),
                order_ref: order.reference.into(),
                shares: shares.into(),
                match_number: match_number.into(),
            }
            .as_bytes(),
        ),
        Change::ExecuteAt { order, shares, match_number, printable, price } => message.extend(
            OrderExecutedWithPrice {
                head: head(OrderExecutedWithPrice::KIND),
                order_ref: order.reference.into(),
                shares: shares.into(),
                match_number: match_number.into(),
                printable: if printable { b'Y' } else { b'N' },
                price: Price4::new(price),
            }
            .as_bytes(),
        ),
        Change::Reduce { order, shares } => message.extend(
            OrderCancel {
                head: head(OrderCancel::KIND),
                order_ref: order.reference.into(),
                cancelled: shares.into(),
            }
            .as_bytes(),
        ),
        Change::Delete(order) => message.extend(
            OrderDelete { head: head(OrderDelete::KIND), order_ref: order.reference.into() }
                .as_bytes(),
        ),
        Change::Replace { old, new } => message.extend(
            OrderReplace {
                head: head(OrderReplace::KIND),
                old_ref: old.reference.into(),
                new_ref: new.reference.into(),
                shares: new.shares.into(),
                price: Price4::new(new.price),
            }
            .as_bytes(),
        ),
        _ => {}
    }
}

fn encode_status(
    change: &Change,
    head: impl Fn(u8) -> Head,
    stock: [u8; 8],
    message: &mut Vec<u8>,
) {
    match *change {
        Change::System(event) => {
            message.extend(SystemEvent { head: head(SystemEvent::KIND), event }.as_bytes());
        }
        Change::CircuitBreaker([one, two, three]) => {
            let level = |price: u32| Price8::new(u64::from(price) * 10_000);
            let (level_1, level_2, level_3) = (level(one), level(two), level(three));
            let head = head(MwcbLevels::KIND);
            message.extend(MwcbLevels { head, level_1, level_2, level_3 }.as_bytes());
        }
        Change::Directory => message.extend(
            StockDirectory {
                head: head(StockDirectory::KIND),
                stock,
                market_category: b'Q',
                financial_status: b'N',
                round_lot: 100.into(),
                round_lots_only: b'N',
                issue_class: b'C',
                issue_subtype: *b"Z ",
                authenticity: b'T',
                short_sale_threshold: b'N',
                ipo: b'N',
                luld_tier: b'1',
                etp: b'N',
                etp_leverage: 0.into(),
                etp_inverse: b'N',
            }
            .as_bytes(),
        ),
        Change::Trading(state) => message.extend(
            TradingAction {
                head: head(TradingAction::KIND),
                stock,
                state,
                reserved: b' ',
                reason: *b"    ",
            }
            .as_bytes(),
        ),
        Change::ShortSale(action) => {
            message.extend(RegSho { head: head(RegSho::KIND), stock, action }.as_bytes());
        }
        Change::Participant(mpid) => message.extend(
            ParticipantPosition {
                head: head(ParticipantPosition::KIND),
                mpid,
                stock,
                primary: b'Y',
                mode: b'N',
                state: b'A',
            }
            .as_bytes(),
        ),
        _ => {}
    }
}
