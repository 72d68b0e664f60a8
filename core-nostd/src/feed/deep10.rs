//! IEX DEEP 1.0 over IEX-TP, as DBN records that carry [`flags::MBP`].
//!
//! | message | record |
//! |---|---|
//! | `8`, `5` new level | `A` |
//! | `8`, `5` other size | `M` |
//! | `8`, `5` size zero | `C` with the size that the level had |
//! | `8`, `5` refused by the book | none; an `N` if it ends its event |
//! | what comes behind an event that no message ended | an `N` in front of its own |
//!
//! The others are as [`iextp`](super::iextp) has them. Levels have no order id (0); price and side
//! name them. [`flags::LAST`] is set where an event is over: only then is a book to be read, and only
//! then does the market table change, but for trades and the mark of a refused message.
//!
//! An event is over where IEX says so. It does not of all (not of 610 of 27,036 in a capture of a
//! day). Since messages of one event have one symbol and one time and come one behind the other,
//! what comes next ends it, be it a heartbeat, another session or the end of the run: that is told with
//! an `N` of the event's own time and last number.

use super::channel::FeedSpec;
use super::depth::ten;
use super::iextp::{Dialect, IexFeed, Venue};
use super::publisher::{MessageStamp, Publisher};
use crate::arena::{Arena, ArenaError};
use crate::book::{BookError, BookUsage, LevelBook, LevelBookSpec, LevelChange};
use crate::event::{MboMsg, SIDE_NONE, Side, UNDEF_PRICE, action, flags};
use crate::segment::{DEPTH_LEVELS, DepthLevel};
use crate::wire::deep10::{self, Message};
use crate::wire::iex::{MessageError, Shared};
use zerocopy::IntoBytes;

/// A DEEP feed.
pub type DeepFeed<'m> = IexFeed<'m, Deep<'m>>;

/// DEEP's levels.
#[derive(Debug)]
pub struct Deep<'m> {
    book: LevelBook<'m>,
    /// The event that changed a book and is not known to be over.
    open: Option<OpenEvent>,
}

/// An event some of whose messages were taken.
#[derive(Clone, Copy, Debug)]
struct OpenEvent {
    local: u32,
    /// What its messages share.
    of: Option<[u8; 16]>,
    /// Of its latest message.
    stamp: MessageStamp,
}

/// Time and symbol of a message, as every one but the system's has them: they name its event.
#[inline]
fn event_of(message: &[u8]) -> Option<[u8; 16]> {
    message.get(2..)?.first_chunk().copied()
}

impl<'m> Dialect<'m> for Deep<'m> {
    const NAME: &'static str = "deep10-iextp";
    const PROTOCOLS: &'static [u16] = &[deep10::PROTOCOL];
    /// Databento does not have DEEP. Its number for TOPS would make best bids and offers of
    /// levels: this one is Wiretape's own, as record types from 0xF0 on are.
    const PUBLISHER_ID: u16 = 0xF001;
    const BOOK_TYPES: &'static [u8] = b"85";

    fn new(instruments: u32, spec: &FeedSpec, arena: &mut Arena<'m>) -> Result<Self, ArenaError> {
        let book_spec = LevelBookSpec { instruments, levels: spec.levels };
        Ok(Deep { book: LevelBook::new(arena, &book_spec)?, open: None })
    }

    #[inline]
    fn on_message<'p>(
        &mut self,
        bytes: &'p [u8],
        venue: &mut Venue<'m>,
        publisher: &mut Publisher<'m>,
    ) -> Result<Option<Shared<'p>>, MessageError> {
        if let Some(open) = &self.open
            && open.of != event_of(bytes)
        {
            self.end_event(venue, publisher);
        }
        match Message::parse(bytes)? {
            Message::PriceLevelBuy(m) => self.level(m, Side::Bid, venue, publisher),
            Message::PriceLevelSell(m) => self.level(m, Side::Ask, venue, publisher),
            message => return Ok(message.shared()),
        }
        Ok(None)
    }

    fn sides(&self, local: u32) -> [[DepthLevel; DEPTH_LEVELS]; 2] {
        [ten(self.book.levels(local, Side::Bid)), ten(self.book.levels(local, Side::Ask))]
    }

    fn usage(&self) -> BookUsage {
        self.book.usage()
    }

    fn is_within_event(&self) -> bool {
        self.open.is_some()
    }

    #[cold]
    fn end_event(&mut self, venue: &mut Venue<'m>, publisher: &mut Publisher<'m>) {
        let Some(OpenEvent { local, stamp, .. }) = self.open.take() else { return };
        let now =
            venue.channel.stamp(local, stamp.sequence, stamp.ts_event, stamp.ts_sent, publisher);
        self.tell_end(local, &now, venue, publisher);
    }

    fn clear(&mut self, local: u32) -> bool {
        self.book.clear(local).is_ok_and(|levels| levels > 0)
    }
}

impl<'m> Deep<'m> {
    #[inline]
    fn level(
        &mut self,
        m: &deep10::PriceLevel,
        side: Side,
        venue: &mut Venue<'m>,
        publisher: &mut Publisher<'m>,
    ) {
        let Some((local, stamp)) = venue.stamp(m.symbol, m.timestamp, publisher) else {
            return;
        };
        let complete = m.event_flags & deep10::EVENT_COMPLETE != 0;
        let price = m.price.nanos();
        let size = m.size.get();
        let outcome = match price {
            0 => Err(BookError::InvalidPrice),
            price => self.book.set(local, side, price, size),
        };
        let (action, size, change) = match outcome {
            Ok(LevelChange::New) => (action::ADD, size, 1),
            Ok(LevelChange::Changed { .. }) => (action::MODIFY, size, 0),
            Ok(LevelChange::Removed { previous }) => (action::CANCEL, previous, -1),
            // Not there to be removed: still the end of an event for who waits for one.
            Ok(LevelChange::Absent) => (action::CANCEL, 0, 0),
            Err(error) => {
                return self.refused(local, error, complete, &stamp, venue, publisher);
            }
        };
        let record = stamp.mbo(action, side as u8, 0, price, size);
        let last = if complete { flags::LAST } else { 0 };
        let record = MboMsg { flags: record.flags | flags::MBP | last, ..record };
        let event_seq = publisher.publish(&record);
        let Some(market) = venue.channel.market(local) else { return };
        market.add_orders(change);
        if complete {
            self.open = None;
            self.complete(local, event_seq, &stamp, venue, publisher);
        } else {
            self.open = Some(OpenEvent { local, of: event_of(m.as_bytes()), stamp });
        }
    }

    /// A message that the book did not take. What the event changed before it stays, so that its end
    /// is told all the same, with a record that changes nothing.
    #[cold]
    fn refused(
        &mut self,
        local: u32,
        error: BookError,
        complete: bool,
        stamp: &MessageStamp,
        venue: &mut Venue<'m>,
        publisher: &mut Publisher<'m>,
    ) {
        venue.channel.book_error(local, error.index(), stamp, publisher);
        if complete {
            self.open = None;
            self.tell_end(local, stamp, venue, publisher);
        }
    }

    /// Ends an event with a record that changes nothing.
    #[cold]
    fn tell_end(
        &mut self,
        local: u32,
        stamp: &MessageStamp,
        venue: &mut Venue<'m>,
        publisher: &mut Publisher<'m>,
    ) {
        let record = stamp.mbo(action::NONE, SIDE_NONE, 0, UNDEF_PRICE, 0);
        let record = MboMsg { flags: record.flags | flags::MBP | flags::LAST, ..record };
        let event_seq = publisher.publish(&record);
        self.complete(local, event_seq, stamp, venue, publisher);
    }

    /// The event is over with record `event_seq`: the market table and the depth.
    #[inline(always)]
    fn complete(
        &mut self,
        local: u32,
        event_seq: u64,
        stamp: &MessageStamp,
        venue: &mut Venue<'m>,
        publisher: &Publisher<'m>,
    ) {
        let Some(market) = venue.channel.market(local) else { return };
        market.set_bbo(&self.book.best(local));
        venue.channel.publish_market(local, event_seq, stamp, publisher);
        venue.after_event(local, event_seq, stamp, self);
    }
}
