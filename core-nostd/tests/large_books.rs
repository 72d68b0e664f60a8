//! Books that lie in no cache: what is asked for ahead of its turn changes no event, whatever the
//! messages further on in the packet are.

mod itch_worker;

use itch_worker::{LINES, MIDNIGHT, Memory, OneByOne, PORT, SESSION, Size};
use wiretape_core::event::Event;
use wiretape_core::feed::itch50::LARGE_BOOKS;
use wiretape_core::ring::broadcast::Reader;
use wiretape_core::segment::{FeedCounter, FeedGauge};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::moldudp64::Builder;

const INSTRUMENTS: u64 = 64;
/// Live orders from which on the feed looks ahead.
const LARGE: u64 = LARGE_BOOKS as u64;
const FILL: u64 = LARGE + 20_000;
const MESSAGES: u64 = FILL + 60_000;

const SIZE: Size = Size {
    instruments: INSTRUMENTS as u32,
    depths: 0,
    event_slots: 1 << 10,
    orders: 1 << 17,
    levels: 1 << 16,
};

/// Invented messages: new orders, then whatever a venue sends, and some that none would.
struct Messages {
    random: u64,
    sent: u64,
}

impl Messages {
    /// xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % end
    }

    fn next(&mut self) -> Vec<u8> {
        self.sent += 1;
        if self.sent <= FILL {
            return self.add(self.sent);
        }
        // An order that is live, or was, or never was.
        let order = 1 + self.below(self.sent + 1_000);
        let locate = order % INSTRUMENTS;
        let shares = 1 + self.below(200) as u32;
        let mut message = match self.below(20) {
            0..8 => return self.add(self.sent),
            8..11 => about(b'D', locate, order),
            11..13 => [about(b'X', locate, order), shares.to_be_bytes().into()].concat(),
            13..15 => {
                [about(b'E', locate, order), shares.to_be_bytes().into(), vec![0; 8]].concat()
            }
            15..17 => {
                let new = MESSAGES + self.sent;
                let price = 10_000 + self.below(300) as u32;
                let rest = [shares.to_be_bytes(), price.to_be_bytes()].concat();
                [about(b'U', locate, order), new.to_be_bytes().into(), rest].concat()
            }
            17 => about(b'D', self.below(1 << 16), u64::MAX - order),
            18 => about(b'Z', locate, order),
            _ => self.add(order),
        };
        if self.below(50) == 0 {
            message.truncate(self.below(message.len() as u64) as usize);
        }
        message
    }

    fn add(&mut self, order: u64) -> Vec<u8> {
        let side = if self.below(2) == 0 { b'B' } else { b'S' };
        let shares = 1 + self.below(500) as u32;
        let price = 10_000 + self.below(300) as u32;
        let mut message = about(b'A', order % INSTRUMENTS, order);
        message.push(side);
        message.extend(shares.to_be_bytes());
        message.extend(*b"TEST    ");
        message.extend(price.to_be_bytes());
        message
    }
}

/// The beginning of a message about an order.
fn about(kind: u8, locate: u64, order: u64) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend((locate as u16).to_be_bytes());
    message.extend([0; 8]);
    message.extend(order.to_be_bytes());
    message
}

fn packet(worker: &mut OneByOne<'_>, messages: &[Vec<u8>]) {
    let mut buffer = [0; 1400];
    let mut builder = Builder::new(&mut buffer, SESSION, worker.next).unwrap();
    assert!(messages.iter().all(|message| builder.push(message)));
    let mut frame = [0; 1500];
    let route = Route::to_group([10, 0, 0, 1], LINES[0], 40_000, PORT);
    let length = route.emit(0, builder.finish(), &mut frame).unwrap();
    worker.pipeline.on_frame(&frame[..length], worker.now);
    worker.next += messages.len() as u64;
}

fn read(reader: &mut Reader<'_>, events: &mut Vec<(u64, Event)>) {
    events.clear();
    while let Some(event) = reader.next_event().unwrap() {
        events.push(event);
    }
}

#[test]
fn full_packets_give_the_events_of_single_messages() {
    let (mut of_singles, mut of_packets) = (Memory::new(SIZE), Memory::new(SIZE));
    let (mut singles, mut packets) = (of_singles.one_by_one(None), of_packets.one_by_one(None));
    (singles.now, packets.now) = (MIDNIGHT, MIDNIGHT);
    let mut readers = [singles.view.events().reader_from(1), packets.view.events().reader_from(1)];
    let mut messages = Messages { random: 0x5EED, sent: 0 };
    let [mut expected, mut found] = [Vec::new(), Vec::new()];
    let mut total = 0;
    while messages.sent < MESSAGES {
        let few = 1 + messages.below(33);
        let chunk: Vec<Vec<u8>> = (0..few).map(|_| messages.next()).collect();
        chunk.iter().for_each(|message| singles.take(message));
        packet(&mut packets, &chunk);
        read(&mut readers[0], &mut expected);
        read(&mut readers[1], &mut found);
        assert!(expected == found, "near message {}", messages.sent);
        total += found.len() as u64;
    }
    assert!(total > MESSAGES / 2, "{total} events");
    for worker in [&mut singles, &mut packets] {
        worker.pipeline.publish_usage();
        let feed = worker.view.feed(0).unwrap();
        assert!(feed.gauge(FeedGauge::Orders) >= LARGE, "the books are not large");
        assert!(feed.counter(FeedCounter::BookErrors) > 1_000);
        assert!(feed.counter(FeedCounter::BadMessages) > 100);
        assert!(feed.counter(FeedCounter::UnknownMessages) > 1_000);
    }
}
