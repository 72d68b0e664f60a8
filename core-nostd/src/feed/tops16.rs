//! IEX TOPS 1.6 and 1.5 over IEX-TP, as DBN records that carry [`flags::TOB`] and [`flags::MBP`].
//!
//! A quote (`Q`) replaces both sides of its instrument's book of one level a side. It gives the
//! records that change such a book, the bid's before the offer's:
//!
//! | side before and after | records |
//! |---|---|
//! | none, then quoted | `A` |
//! | other size at the same price | `M` |
//! | other price | `C` with the size before, `A` |
//! | quoted, then none | `C` with the size before |
//! | as it was | none |
//!
//! Levels have no order id (0); price and side name them. The last record of a quote carries
//! [`flags::LAST`]; one that changes neither side gives an `N`, so that its time is known. The
//! other messages are as [`iextp`](super::iextp) has them.

use super::channel::FeedSpec;
use super::iextp::{Dialect, IexFeed, Venue};
use super::publisher::Publisher;
use crate::arena::{Arena, ArenaError};
use crate::book::{BookError, TopBook, TopLevel};
use crate::event::{MboMsg, SIDE_NONE, Side, UNDEF_PRICE, action, flags};
use crate::segment::{DEPTH_LEVELS, DepthLevel, health};
use crate::wire::iex::{MessageError, Shared};
use crate::wire::tops16::{self, Message};

/// A TOPS feed.
pub type TopsFeed<'m> = IexFeed<'m, Tops<'m>>;

/// TOPS's best bids and offers.
#[derive(Debug)]
pub struct Tops<'m> {
    book: TopBook<'m>,
}

impl<'m> Dialect<'m> for Tops<'m> {
    const NAME: &'static str = "tops16-iextp";
    const PROTOCOLS: &'static [u16] = &[tops16::PROTOCOL, tops16::PROTOCOL_15];
    /// Databento's `IEXG.TOPS.IEXG`.
    const PUBLISHER_ID: u16 = 38;
    const BOOK_TYPES: &'static [u8] = b"Q";

    fn new(instruments: u32, _: &FeedSpec, arena: &mut Arena<'m>) -> Result<Self, ArenaError> {
        Ok(Tops { book: TopBook::new(arena, instruments)? })
    }

    #[inline]
    fn on_message<'p>(
        &mut self,
        bytes: &'p [u8],
        venue: &mut Venue<'m>,
        publisher: &mut Publisher<'m>,
    ) -> Result<Option<Shared<'p>>, MessageError> {
        match Message::parse(bytes)? {
            Message::Quote(m) => self.quote(m, venue, publisher),
            message => return Ok(message.shared()),
        }
        Ok(None)
    }

    fn sides(&self, local: u32) -> [[DepthLevel; DEPTH_LEVELS]; 2] {
        let best = self.book.best(local);
        let side = |price, size, orders| {
            let mut levels = [DepthLevel::NONE; DEPTH_LEVELS];
            levels[0] = DepthLevel { price, size, orders };
            levels
        };
        [side(best.bid_px, best.bid_sz, best.bid_ct), side(best.ask_px, best.ask_sz, best.ask_ct)]
    }

    fn clear(&mut self, local: u32) -> bool {
        self.book.clear(local)
    }
}

impl<'m> Tops<'m> {
    #[inline]
    fn quote(&mut self, m: &tops16::Quote, venue: &mut Venue<'m>, publisher: &mut Publisher<'m>) {
        let Some((local, stamp)) = venue.stamp(m.symbol, m.timestamp, publisher) else {
            return;
        };
        let bid = TopLevel { price: m.bid_price.nanos(), size: m.bid_size.get() };
        let ask = TopLevel { price: m.ask_price.nanos(), size: m.ask_size.get() };
        let free = [bid, ask].iter().any(|level| level.size > 0 && level.price == 0);
        let outcome = match free {
            true => Err(BookError::InvalidPrice),
            false => self.book.replace(local, [bid, ask]),
        };
        let [bid_before, ask_before] = match outcome {
            Ok(before) => before,
            Err(error) => {
                return venue.channel.book_error(local, error.index(), &stamp, publisher);
            }
        };
        let publish = |step: Step, last: u8, publisher: &mut Publisher<'m>| {
            let record = stamp.mbo(step.action, step.side, 0, step.level.price, step.level.size);
            let kind = flags::TOB | flags::MBP;
            publisher.publish(&MboMsg { flags: record.flags | kind | last, ..record })
        };
        let bid_steps = steps(Side::Bid, bid_before, bid);
        let ask_steps = steps(Side::Ask, ask_before, ask);
        // Each waits for the next, as the last one is to say that it is.
        let mut latest = None;
        for step in bid_steps.into_iter().chain(ask_steps).flatten() {
            if let Some(before) = latest.replace(step) {
                publish(before, 0, publisher);
            }
        }
        let event_seq = publish(latest.unwrap_or(Step::NONE), flags::LAST, publisher);
        let Some(market) = venue.channel.market(local) else { return };
        let levels =
            |bid: TopLevel, ask: TopLevel| i64::from(bid.size > 0) + i64::from(ask.size > 0);
        market.add_orders(levels(bid, ask).wrapping_sub(levels(bid_before, ask_before)));
        market.set_bbo(&self.book.best(local));
        // Whatever was wrong with an earlier quote: nothing of it is left.
        market.set_health(health::BOOK_ERROR, false);
        venue.channel.publish_market(local, event_seq, &stamp, publisher);
        venue.after_event(local, event_seq, &stamp, self);
    }
}

/// A record of a quote.
#[derive(Clone, Copy)]
struct Step {
    action: u8,
    side: u8,
    level: TopLevel,
}

impl Step {
    const NONE: Step = Step {
        action: action::NONE,
        side: SIDE_NONE,
        level: TopLevel { price: UNDEF_PRICE, size: 0 },
    };
}

/// What takes one side of a book from `before` to `now`.
#[inline]
fn steps(side: Side, before: TopLevel, now: TopLevel) -> [Option<Step>; 2] {
    let step = |action, level| Some(Step { action, side: side as u8, level });
    match (before.size > 0, now.size > 0) {
        (false, false) => [None, None],
        (false, true) => [step(action::ADD, now), None],
        (true, false) => [step(action::CANCEL, before), None],
        (true, true) if before.price != now.price => {
            [step(action::CANCEL, before), step(action::ADD, now)]
        }
        (true, true) if before.size != now.size => [step(action::MODIFY, now), None],
        (true, true) => [None, None],
    }
}
