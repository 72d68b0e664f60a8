//! The exchange's snapshots, taken by a plain SoupBinTCP client: with what the live feed brings
//! afterwards they give the market of the whole day.

mod network;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use network::{End, Pair};
use proptest::prelude::*;
use wiretape_bench::exchange::glimpse::market::Market;
use wiretape_bench::exchange::glimpse::{GlimpseServer, Serving};
use wiretape_bench::flow::{Flow, FlowSpec, PlainBook, itch};
use wiretape_core::event::Side;
use wiretape_core::wire::glimpse::EndOfSnapshot;
use wiretape_core::wire::itch50::Message;
use wiretape_core::wire::moldudp64::Builder;
use wiretape_core::wire::soupbintcp::{LoginRequest, Packet, Packets};

const SESSION: [u8; 10] = *b"WIRETAPE01";
const BLANK: [u8; 10] = [b' '; 10];

/// What a client heard.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    session: Option<[u8; 10]>,
    refused: Option<u8>,
    messages: Vec<Vec<u8>>,
    heartbeats: usize,
    /// The end of the session was told, and not just the connection closed.
    over: bool,
}

impl Heard {
    /// Where the live feed goes on, as the last message says.
    fn next(&self) -> Option<u64> {
        EndOfSnapshot::parse(self.messages.last()?)?.next_sequence()
    }
}

fn login(to: SocketAddr, user: &[u8], password: &[u8], session: [u8; 10]) -> Heard {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = LoginRequest::new(user, password, session, 1);
    let mut buffer = [0; 64];
    let length = Packet::LoginRequest(&request).emit(&mut buffer).unwrap();
    // In two pieces, as TCP may bring it.
    stream.write_all(&buffer[..5]).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    stream.write_all(&buffer[5..length]).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let mut heard = Heard::default();
    let mut packets = Packets::new(&bytes);
    for packet in packets.by_ref() {
        assert!(!heard.over, "nothing comes after the end");
        match Packet::parse(packet).unwrap() {
            Packet::LoginAccepted(accepted) => {
                assert_eq!(accepted.next_sequence(), Some(1));
                heard.session = Some(accepted.session);
            }
            Packet::LoginRejected(rejected) => heard.refused = Some(rejected.reason),
            Packet::Sequenced(message) => heard.messages.push(message.to_vec()),
            Packet::ServerHeartbeat => heard.heartbeats += 1,
            Packet::EndOfSession => heard.over = true,
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(packets.rest().is_empty());
    heard
}

fn any_login(to: SocketAddr) -> Heard {
    login(to, b"", b"", BLANK)
}

/// A day: its messages, and the books at its end by locate.
fn day(seed: u64, messages: u64) -> (Vec<Vec<u8>>, BTreeMap<u16, PlainBook>) {
    let spec = FlowSpec {
        seed,
        messages: Some(messages),
        symbols: FlowSpec::invented_symbols(5),
        resting_orders: 60,
        ..FlowSpec::default()
    };
    let mut flow = Flow::new(&spec).unwrap();
    let symbols = flow.symbols();
    let mut all = Vec::new();
    for step in flow.by_ref() {
        let mut message = Vec::new();
        itch::encode(&step, &symbols, &mut message);
        all.push(message);
    }
    let books = (0..symbols.len()).map(|i| (i as u16 + 1, flow.final_book(i).clone())).collect();
    (all, books)
}

fn datagrams(messages: &[Vec<u8>], first: u64) -> Vec<Vec<u8>> {
    let (mut datagrams, mut number) = (Vec::new(), first);
    for messages in messages.chunks(9) {
        let mut buffer = [0; 1_400];
        let mut builder = Builder::new(&mut buffer, SESSION, number).unwrap();
        messages.iter().for_each(|message| assert!(builder.push(message)));
        datagrams.push(builder.finish().to_vec());
        number += messages.len() as u64;
    }
    datagrams
}

fn server(serving: Serving, messages: &[Vec<u8>]) -> GlimpseServer {
    let mut market = Market::new(SESSION, 1);
    for datagram in datagrams(messages, 1) {
        market.on_datagram(&datagram);
        market.on_datagram(&datagram); // line B's copy
    }
    GlimpseServer::start("127.0.0.1:0".parse().unwrap(), serving, market).unwrap()
}

/// Applies messages to books that know nothing but them.
fn apply<'a>(messages: impl Iterator<Item = &'a Vec<u8>>) -> BTreeMap<u16, PlainBook> {
    let mut books: BTreeMap<u16, PlainBook> = BTreeMap::new();
    let side = |letter| if letter == b'B' { Side::Bid } else { Side::Ask };
    for bytes in messages {
        let message = Message::parse(bytes).unwrap();
        let book = books.entry(message.head().stock_locate.get()).or_default();
        match message {
            Message::AddOrder(m) => {
                let (order, shares) = (m.order_ref.get(), m.shares.get());
                book.add(order, side(m.side), shares, m.price.units()).unwrap();
            }
            Message::AddOrderMpid(m) => {
                let (order, shares) = (m.order_ref.get(), m.shares.get());
                book.add(order, side(m.side), shares, m.price.units()).unwrap();
            }
            Message::OrderExecuted(m) => {
                book.take(m.order_ref.get(), m.shares.get()).unwrap();
            }
            Message::OrderExecutedWithPrice(m) => {
                book.take(m.order_ref.get(), m.shares.get()).unwrap();
            }
            Message::OrderCancel(m) => {
                book.take(m.order_ref.get(), m.cancelled.get()).unwrap();
            }
            Message::OrderDelete(m) => {
                book.remove(m.order_ref.get()).unwrap();
            }
            Message::OrderReplace(m) => {
                let (old, new) = (m.old_ref.get(), m.new_ref.get());
                book.replace(old, new, m.shares.get(), m.price.units()).unwrap();
            }
            _ => {}
        }
    }
    books
}

fn assert_same(found: &BTreeMap<u16, PlainBook>, wanted: &BTreeMap<u16, PlainBook>) {
    for (locate, wanted) in wanted {
        let found = &found[locate];
        let bare = |book: &PlainBook| -> Vec<(u64, Side, u32, u32)> {
            book.orders().map(|o| (o.reference, o.side, o.price, o.shares)).collect()
        };
        assert_eq!(bare(found), bare(wanted), "stock {locate}");
        for side in [Side::Bid, Side::Ask] {
            let front = |book: &PlainBook| book.front(side).map(|order| order.reference);
            assert_eq!(front(found), front(wanted), "first in the queue of stock {locate}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_snapshot_and_the_rest_of_the_day_are_the_day(seed in 0_u64..1_000, cut in 0.0..1.0_f64) {
        let (messages, books) = day(seed, 4_000);
        let cut = (messages.len() as f64 * cut) as usize;
        let server = server(Serving::default(), &messages[..cut]);
        let mut heard = any_login(server.address());
        prop_assert_eq!(heard.session, Some(SESSION));
        prop_assert!(heard.over);
        prop_assert_eq!(heard.next(), Some(cut as u64 + 1));
        heard.messages.pop();
        let joined = apply(heard.messages.iter().chain(&messages[cut..]));
        assert_same(&joined, &books);
        prop_assert_eq!(server.served(), 1);
    }
}

#[test]
fn only_who_is_known_is_let_in() {
    let (messages, _) = day(3, 1_000);
    let known = Some(("join".to_owned(), "secret".to_owned()));
    let server = server(Serving { login: known, ..Serving::default() }, &messages);
    let to = server.address();
    let refused = |reason| Heard { refused: Some(reason), ..Heard::default() };
    assert_eq!(login(to, b"join", b"wrong", BLANK), refused(b'A'));
    assert_eq!(login(to, b"", b"", BLANK), refused(b'A'));
    assert_eq!(login(to, b"join", b"secret", *b"YESTERDAY0"), refused(b'S'));
    assert!(login(to, b"join", b"secret", SESSION).over);
    assert!(login(to, b"join", b"secret", BLANK).over);
    assert_eq!((server.served(), server.refused()), (2, 3));
}

#[test]
fn many_clients_at_a_time_get_the_same() {
    let (messages, _) = day(4, 3_000);
    let server = server(Serving::default(), &messages);
    let to = server.address();
    let heard: Vec<Heard> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..12).map(|_| scope.spawn(move || any_login(to))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(heard[0].over && heard.iter().all(|other| *other == heard[0]));
}

#[test]
fn a_snapshot_that_breaks_off_has_no_end() {
    let (messages, _) = day(5, 1_000);
    let server = server(Serving { break_after: Some(40), ..Serving::default() }, &messages);
    let heard = any_login(server.address());
    assert_eq!((heard.messages.len(), heard.over, heard.next()), (40, false, None));
    assert_eq!(server.served(), 0);
}

#[test]
fn a_slow_snapshot_shows_that_it_lives() {
    // Two messages and the end, 1.25 seconds apart.
    let (messages, _) = day(6, 1_000);
    let server = server(Serving { rate: Some(0.8), ..Serving::default() }, &messages[..2]);
    let heard = any_login(server.address());
    assert!(heard.over && heard.heartbeats >= 1, "{heard:?}");
}

#[test]
fn the_exchange_can_be_joined_while_it_plays() {
    let pair = match Pair::make() {
        Ok(pair) => pair,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let arguments = "--sim --seed 9 --rate 2k/s --duration 4s --udp --interface wtx0 --quiet \
                     --json --messages 500k --glimpse 10.99.0.1:26401 --glimpse-login me:pass \
                     --linger 1s";
    let (output, logins) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            pair.run(End::Sender, || {
                let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-exchange"));
                command.args(arguments.split_whitespace()).output().unwrap()
            })
        });
        let logins = pair.run(End::Receiver, || {
            let to: SocketAddr = "10.99.0.1:26401".parse().unwrap();
            let end = Instant::now() + Duration::from_secs(10);
            while TcpStream::connect(to).is_err() {
                assert!(Instant::now() < end, "nobody listens");
                std::thread::sleep(Duration::from_millis(50));
            }
            // Packets are built ahead before the first is sent.
            let (mut next, mut joins, mut logins) = (1, 0, 0);
            while joins < 3 {
                let heard = login(to, b"me", b"pass", BLANK);
                logins += 1;
                assert!(heard.over && Instant::now() < end, "{:?}", heard.next());
                joins += u32::from(heard.next() > Some(next));
                next = heard.next().unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
            assert_eq!(login(to, b"me", b"word", BLANK).refused, Some(b'A'));
            logins
        });
        (sender.join().unwrap(), logins)
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let served = format!("{logins} snapshots were served, 1 logins refused");
    assert!(said.contains(&served), "{said}");
}

#[test]
fn a_switch_that_would_do_nothing_is_refused() {
    let refused = |arguments: &str, sentence: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-exchange"));
        let output = command.args(arguments.split_whitespace()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(sentence), "{said}");
    };
    let glimpse = "--write /dev/null --glimpse 127.0.0.1:1";
    refused(&format!("--sim --feed deep {glimpse}"), "not of --feed deep");
    refused(&format!("--pcap day.pcap {glimpse}"), "not of a capture, which may start in");
    refused(
        "--sim --write /dev/null --glimpse 192.0.2.1:1",
        "cannot serve snapshots on 192.0.2.1:1",
    );
    refused(&format!("--sim {glimpse} --glimpse-login ab"), "write USER:PASSWORD");
}
