//! What an ITCH feed amounts to at a moment: states and resting orders, in plain maps.
//!
//! It shares no code with the book of the capture, so that one can be held against the other.

use std::collections::{BTreeMap, HashMap};

use wiretape_core::wire::glimpse::EndOfSnapshot;
use wiretape_core::wire::itch50::{AddOrder, AddOrderMpid, Head, Message, OrderReplace};
use wiretape_core::wire::moldudp64::{Packet, PacketKind};
use zerocopy::IntoBytes;

/// Messages of which only the latest counts, in the order in which a snapshot tells them.
const STATES: &[u8] = b"SRHYLVWKJhO";

/// What makes two messages speak of the same thing: place in [`STATES`], stock, and what else
/// tells them apart.
type Subject = (usize, u16, [u8; 4]);

/// An order that rests.
#[derive(Clone, Copy, Debug)]
struct Resting {
    /// Its place in time among all orders.
    entry: u64,
    add: AddOrderMpid,
    attributed: bool,
}

/// The market as of the latest message.
#[derive(Clone, Debug)]
pub struct Market {
    session: [u8; 10],
    next: u64,
    states: BTreeMap<Subject, Vec<u8>>,
    orders: HashMap<u64, Resting>,
    entries: u64,
}

impl Market {
    /// A market before message `first` of `session`.
    pub fn new(session: [u8; 10], first: u64) -> Market {
        let (states, orders) = (BTreeMap::new(), HashMap::new());
        Market { session, next: first, states, orders, entries: 0 }
    }

    /// The live feed's session.
    pub fn session(&self) -> [u8; 10] {
        self.session
    }

    /// Number of the live feed's next message.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes what is new in a datagram of the live feed.
    pub fn on_datagram(&mut self, payload: &[u8]) {
        let Ok(packet) = Packet::parse(payload) else { return };
        if packet.kind() != PacketKind::Data {
            return;
        }
        // The second line's copy has nothing new.
        let Some(known) = self.next.checked_sub(packet.sequence()) else { return };
        for message in packet.messages().skip(known as usize) {
            self.on_message(message);
            self.next += 1;
        }
    }

    fn on_message(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes) else { return };
        match message {
            Message::AddOrder(m) => self.enter(
                AddOrderMpid {
                    head: m.head,
                    order_ref: m.order_ref,
                    side: m.side,
                    shares: m.shares,
                    stock: m.stock,
                    price: m.price,
                    mpid: [b' '; 4],
                },
                false,
            ),
            Message::AddOrderMpid(m) => self.enter(*m, true),
            Message::OrderExecuted(m) => self.reduce(m.order_ref.get(), m.shares.get()),
            Message::OrderExecutedWithPrice(m) => self.reduce(m.order_ref.get(), m.shares.get()),
            Message::OrderCancel(m) => self.reduce(m.order_ref.get(), m.cancelled.get()),
            Message::OrderDelete(m) => {
                self.orders.remove(&m.order_ref.get());
            }
            Message::OrderReplace(m) => self.replace(m),
            other => self.keep_state(other),
        }
    }

    fn enter(&mut self, add: AddOrderMpid, attributed: bool) {
        let resting = Resting { entry: self.entries, add, attributed };
        self.entries += 1;
        self.orders.insert(add.order_ref.get(), resting);
    }

    fn reduce(&mut self, reference: u64, shares: u32) {
        let Some(resting) = self.orders.get_mut(&reference) else { return };
        let left = resting.add.shares.get().saturating_sub(shares);
        resting.add.shares = left.into();
        if left == 0 {
            self.orders.remove(&reference);
        }
    }

    fn replace(&mut self, m: &OrderReplace) {
        let Some(Resting { add, attributed, .. }) = self.orders.remove(&m.old_ref.get()) else {
            return;
        };
        let head = Head { kind: add.head.kind, ..m.head };
        let (order_ref, shares, price) = (m.new_ref, m.shares, m.price);
        self.enter(AddOrderMpid { head, order_ref, shares, price, ..add }, attributed);
    }

    fn keep_state(&mut self, message: Message<'_>) {
        let Some(place) = STATES.iter().position(|kind| *kind == message.kind()) else { return };
        let apart = match message {
            Message::ParticipantPosition(m) => m.mpid,
            Message::OperationalHalt(m) => [m.market, 0, 0, 0],
            _ => [0; 4],
        };
        let subject = (place, message.head().stock_locate.get(), apart);
        self.states.insert(subject, message.as_bytes().to_vec());
    }

    /// Hands the messages of a snapshot to `tell`, the end of it included, and returns how many
    /// these were.
    pub fn snapshot(&self, mut tell: impl FnMut(&[u8])) -> u64 {
        self.states.values().for_each(|message| tell(message));
        let mut orders: Vec<&Resting> = self.orders.values().collect();
        orders.sort_unstable_by_key(|resting| resting.entry);
        for Resting { add, attributed, .. } in &orders {
            match attributed {
                true => tell(add.as_bytes()),
                // The two messages differ in the participant at the end alone.
                false => tell(&add.as_bytes()[..size_of::<AddOrder>()]),
            }
        }
        tell(EndOfSnapshot::new(self.next).as_bytes());
        (self.states.len() + orders.len() + 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiretape_core::wire::itch50::{
        OperationalHalt, OrderCancel, OrderDelete, OrderExecuted, Price4, SystemEvent,
    };

    const NOW: u64 = 34_200_000_000_000;

    fn add(reference: u64, shares: u32) -> AddOrderMpid {
        AddOrderMpid {
            head: Head::new(b'F', 7, 0, NOW),
            order_ref: reference.into(),
            side: b'B',
            shares: shares.into(),
            stock: *b"ABC     ",
            price: Price4::new(100_000),
            mpid: *b"MAKR",
        }
    }

    fn told(market: &Market) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let count = market.snapshot(|message| messages.push(message.to_vec()));
        assert_eq!(count, messages.len() as u64);
        messages
    }

    #[test]
    fn orders_are_told_as_they_stand_and_in_their_order() {
        let mut market = Market::new(*b"SESSION001", 1);
        for reference in 1..=5 {
            market.on_message(add(reference, 100).as_bytes());
        }
        let head = |kind| Head::new(kind, 7, 0, NOW + 1);
        let (executed, match_number) = (100.into(), 1.into());
        market.on_message(
            OrderExecuted { head: head(b'E'), order_ref: 1.into(), shares: executed, match_number }
                .as_bytes(),
        );
        let cancelled = 30.into();
        market.on_message(
            OrderCancel { head: head(b'X'), order_ref: 2.into(), cancelled }.as_bytes(),
        );
        market.on_message(OrderDelete { head: head(b'D'), order_ref: 3.into() }.as_bytes());
        market.on_message(
            OrderReplace {
                head: head(b'U'),
                old_ref: 4.into(),
                new_ref: 9.into(),
                shares: 40.into(),
                price: Price4::new(99_900),
            }
            .as_bytes(),
        );
        let replaced = AddOrderMpid {
            head: Head::new(b'F', 7, 0, NOW + 1),
            price: Price4::new(99_900),
            ..add(9, 40)
        };
        let expected = [add(2, 70), add(5, 100), replaced].map(|add| add.as_bytes().to_vec());
        let end = EndOfSnapshot::new(1).as_bytes().to_vec();
        assert_eq!(told(&market), [&expected[..], &[end]].concat());
    }

    #[test]
    fn of_states_the_latest_counts_each_where_it_holds() {
        let mut market = Market::new(*b"SESSION001", 1);
        let halt = |market, action| OperationalHalt {
            head: Head::new(b'h', 7, 0, NOW),
            stock: *b"ABC     ",
            market,
            action,
        };
        for message in [halt(b'Q', b'H'), halt(b'B', b'H'), halt(b'Q', b'T')] {
            market.on_message(message.as_bytes());
        }
        for event in [b'O', b'S', b'Q'] {
            let head = Head::new(b'S', 0, 0, NOW);
            market.on_message(SystemEvent { head, event }.as_bytes());
        }
        let messages = told(&market);
        let open = SystemEvent { head: Head::new(b'S', 0, 0, NOW), event: b'Q' };
        assert_eq!(messages[0], open.as_bytes());
        assert_eq!(messages[1], halt(b'B', b'H').as_bytes());
        assert_eq!(messages[2], halt(b'Q', b'T').as_bytes());
        assert_eq!(messages.len(), 4);
    }
}
