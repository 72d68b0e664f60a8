//! The messages that change no book and are no trades: symbols, statuses, breaks and auctions.

use super::{ItchFeed, itch_side};
use crate::event::{AuctionMsg, BreakMsg, SIDE_NONE, StatusMsg, UNDEF_PRICE};
use crate::feed::publisher::{MessageStamp, Publisher};
use crate::feed::status::{self, StatusChange};
use crate::segment::{FeedCounter, health};
use crate::wire::itch50::{self, Head, Message};

impl<'m> ItchFeed<'m> {
    /// Kept away from the messages that are not rare.
    #[cold]
    pub(super) fn on_other(&mut self, message: Message<'_>, publisher: &mut Publisher<'m>) {
        match message {
            Message::StockDirectory(m) => self.directory(m, publisher),
            Message::SystemEvent(m) => {
                if m.event == b'O' {
                    self.midnight = self.days.midnight_before(publisher.ts_recv());
                }
                if m.event == b'S' {
                    // The directory came before it.
                    self.channel.withdraw_symbols(publisher);
                }
                self.feed_status(&m.head, status::itch_system(m.event), publisher);
            }
            Message::MwcbStatus(m) => {
                self.feed_status(&m.head, status::itch_circuit_breaker(m.level), publisher);
            }
            Message::TradingAction(m) => {
                self.status(&m.head, &m.stock, status::itch_trading(m.state), publisher);
            }
            Message::OperationalHalt(m) => {
                self.status(&m.head, &m.stock, status::itch_operational(m.action), publisher);
            }
            Message::RegSho(m) => {
                self.status(&m.head, &m.stock, status::itch_reg_sho(m.action), publisher);
            }
            Message::BrokenTrade(m) => self.trade_break(m, publisher),
            Message::Noii(m) => self.imbalance(m, publisher),
            _ => {}
        }
    }

    fn directory(&mut self, m: &itch50::StockDirectory, publisher: &mut Publisher<'m>) {
        let Some((local, stamp)) = self.stamp(&m.head, publisher) else { return };
        let entry = self.channel.announce(local, &m.stock, m.round_lot.get(), publisher);
        self.set_undirected(local, false);
        publisher.publish_symbol(&entry, &stamp);
    }

    /// Takes the symbol from a message whose instrument no directory message announced.
    #[cold]
    pub(super) fn announce_hearsay(
        &mut self,
        local: u32,
        stock: &[u8; 8],
        stamp: &MessageStamp,
        publisher: &mut Publisher<'m>,
    ) {
        self.channel.count(FeedCounter::Undirected, 1);
        let entry = self.channel.announce(local, stock, 0, publisher);
        self.set_undirected(local, true);
        publisher.publish_symbol(&entry, stamp);
    }

    #[cold]
    fn set_undirected(&mut self, local: u32, on: bool) {
        if let Some(market) = self.channel.market(local) {
            market.set_health(health::UNDIRECTED, on);
        }
    }

    fn feed_status(&mut self, head: &Head, change: StatusChange, publisher: &mut Publisher<'m>) {
        let ts_event = self.midnight.wrapping_add(head.timestamp.get());
        let hd = self.channel.feed_header::<StatusMsg>(ts_event);
        publisher.publish(&change.record(hd, publisher.ts_recv()));
    }

    fn status(
        &mut self,
        head: &Head,
        stock: &[u8; 8],
        change: StatusChange,
        publisher: &mut Publisher<'m>,
    ) {
        let Some((local, stamp)) = self.stamp(head, publisher) else { return };
        self.direct(local, stock, &stamp, publisher);
        let record = change.record(stamp.header::<StatusMsg>(), stamp.ts_recv);
        let event_seq = publisher.publish(&record);
        if change.sets_state
            && let Some(market) = self.channel.market(local)
        {
            market.set_status(change.code);
        }
        self.channel.publish_market(local, event_seq, &stamp, publisher);
    }

    fn imbalance(&mut self, m: &itch50::Noii, publisher: &mut Publisher<'m>) {
        let Some((local, stamp)) = self.stamp(&m.head, publisher) else { return };
        self.direct(local, &m.stock, &stamp, publisher);
        let near = m.near_price.nanos();
        publisher.publish(&AuctionMsg {
            hd: stamp.header::<AuctionMsg>(),
            ts_recv: stamp.ts_recv,
            ref_price: m.reference_price.nanos(),
            indicative_price: if near == 0 { UNDEF_PRICE } else { near },
            paired: u32::try_from(m.paired.get()).unwrap_or(u32::MAX),
            imbalance: u32::try_from(m.imbalance.get()).unwrap_or(u32::MAX),
            side: itch_side(m.direction).map_or(SIDE_NONE, |side| side as u8),
            auction_type: m.cross_type,
            reserved: [0; 2],
            sequence: stamp.sequence as u32,
        });
    }

    fn trade_break(&mut self, m: &itch50::BrokenTrade, publisher: &mut Publisher<'m>) {
        let Some((_, stamp)) = self.stamp(&m.head, publisher) else { return };
        publisher.publish(&BreakMsg {
            hd: stamp.header::<BreakMsg>(),
            ts_recv: stamp.ts_recv,
            match_id: m.match_number.get(),
            price: UNDEF_PRICE,
            size: 0,
            sequence: stamp.sequence as u32,
        });
    }
}
