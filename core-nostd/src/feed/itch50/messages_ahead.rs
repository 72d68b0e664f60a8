//! The messages further on in a packet, for books that lie in no cache.

use super::{ItchFeed, itch_side};
use crate::book::{OrdersAhead, Upcoming};
use crate::feed::publisher::Publisher;
use crate::wire::itch50::Message;
use crate::wire::moldudp64;

impl<'m> ItchFeed<'m> {
    /// Takes messages in, and asks for the memory of those further on meanwhile.
    #[inline(never)]
    pub(super) fn take_ahead(
        &mut self,
        messages: moldudp64::Messages<'_>,
        publisher: &mut Publisher<'m>,
    ) {
        let mut further_on = messages.clone();
        let mut ahead = OrdersAhead::default();
        for message in further_on.by_ref().take(OrdersAhead::MESSAGES) {
            ahead.step(&self.book, self.upcoming(message, publisher));
        }
        for message in messages {
            let next = further_on.next().map(|message| self.upcoming(message, publisher));
            ahead.step(&self.book, next.unwrap_or_default());
            self.on_message(message, publisher);
            self.sequence = self.sequence.wrapping_add(1);
        }
    }

    /// What a message further on is about, the channel's part of which is asked for.
    #[inline(always)]
    fn upcoming(&self, message: &[u8], publisher: &Publisher<'m>) -> Upcoming {
        let Ok(message) = Message::parse(message) else { return Upcoming::default() };
        let instrument = u32::from(message.head().stock_locate.get());
        self.channel.expect(instrument, publisher);
        let (order, adds) = match message {
            Message::AddOrder(m) => (m.order_ref, Some(m)),
            Message::AddOrderMpid(m) => (m.unattributed().order_ref, Some(m.unattributed())),
            Message::OrderExecuted(m) => (m.order_ref, None),
            Message::OrderExecutedWithPrice(m) => (m.order_ref, None),
            Message::OrderCancel(m) => (m.order_ref, None),
            Message::OrderDelete(m) => (m.order_ref, None),
            Message::OrderReplace(m) => (m.old_ref, None),
            _ => return Upcoming::default(),
        };
        let adds = adds.and_then(|m| Some((itch_side(m.side)?, m.price.nanos())));
        Upcoming { instrument, order: order.get(), adds }
    }
}
