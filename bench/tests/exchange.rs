//! What the exchange sends: the same packets every time, and in them the messages that went in.

mod network;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use network::{End, Pair};
use wiretape_bench::flow::{Flow, FlowSpec, PlainBook, itch};
use wiretape_capture::source::pcap::Reader;
use wiretape_core::event::Side;
use wiretape_core::wire::binaryfile::BinaryFile;
use wiretape_core::wire::frame::{Datagram, checksums_hold};
use wiretape_core::wire::iextp::Segment;
use wiretape_core::wire::itch50::{Head, Message};
use wiretape_core::wire::moldudp64::{Packet, PacketKind};
use wiretape_core::wire::{deep10, iex};
use zerocopy::FromBytes;

fn exchange(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_wiretape-exchange")).args(arguments).output();
    output.expect("the exchange runs")
}

/// Writes what the exchange plays into a file, and gives its summary and the datagrams in it.
fn written(arguments: &str) -> (serde_json::Value, Vec<Sent>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.cap");
    let to_file = ["--json", "--write", path.to_str().unwrap()];
    let arguments: Vec<&str> = arguments.split_whitespace().chain(to_file).collect();
    let output = exchange(&arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_slice(&output.stdout).unwrap(), read(&path))
}

/// A datagram of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    at_ns: u64,
    to: SocketAddrV4,
    payload: Vec<u8>,
}

fn read(path: &Path) -> Vec<Sent> {
    let mut reader = Reader::open(path).unwrap();
    let mut all = Vec::new();
    while let Some(packet) = reader.next().unwrap() {
        assert_eq!(checksums_hold(packet.data), Ok(true));
        let datagram = Datagram::from_frame(packet.data).unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::from(datagram.dst), datagram.dst_port);
        all.push(Sent { at_ns: packet.ts_ns, to, payload: datagram.payload.to_vec() });
    }
    assert_eq!(reader.cut(), None);
    all
}

/// FNV-1a, so that a hash in a test means the same in every version of the standard library.
fn hash(packets: &[Sent]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for packet in packets {
        mix(&packet.at_ns.to_le_bytes());
        mix(&packet.payload);
    }
    hash
}

/// Unpacks MoldUDP64, and checks its numbers on the way.
fn unframed(packets: &[Sent]) -> Vec<Vec<u8>> {
    let (mut next, mut messages, mut over) = (1, Vec::new(), false);
    for packet in packets {
        let mold = Packet::parse(&packet.payload).unwrap();
        assert_eq!(mold.sequence(), next);
        assert!(!over || mold.kind() == PacketKind::EndOfSession);
        over |= mold.kind() == PacketKind::EndOfSession;
        next = mold.next_sequence();
        messages.extend(mold.messages().map(<[u8]>::to_vec));
    }
    assert!(over, "the session was not ended");
    messages
}

#[test]
fn a_seed_is_a_feed_forever() {
    // If these change, recorded feeds and seeds in reports no longer mean what they meant: a
    // change of the simulator must want that, and say so.
    let (_, packets) = written("--sim --seed 42 --messages 20000");
    assert_eq!(format!("{:016x}", hash(&packets)), "f9e61ed2df1fcb45");
    let (_, packets) = written("--sim --seed 42 --messages 20000 --feed deep");
    assert_eq!(format!("{:016x}", hash(&packets)), "31aace42fd041838");
}

#[test]
fn the_simulated_feed_carries_the_flow_and_nothing_else() {
    let (summary, packets) = written("--sim --seed 3 --messages 30000 --symbols 4");
    let messages = unframed(&packets);
    assert_eq!(summary["messages"], messages.len());
    assert_eq!(summary["packets"], packets.len());
    let rest_of_day_ns = 14 * 3_600_000_000_000;
    let spec = FlowSpec {
        seed: 3,
        messages: Some(30_000),
        symbols: FlowSpec::invented_symbols(4),
        duration_ns: rest_of_day_ns,
        ..FlowSpec::default()
    };
    let mut flow = Flow::new(&spec).unwrap();
    let symbols = flow.symbols();
    let (mut sent, mut expected) = (messages.iter(), Vec::new());
    for step in flow.by_ref() {
        itch::encode(&step, &symbols, &mut expected);
        assert_eq!(sent.next(), Some(&expected));
    }
    assert_eq!(sent.next(), None);

    let mut books: HashMap<u16, PlainBook> = HashMap::new();
    messages.iter().for_each(|message| apply(&mut books, message));
    for i in 0..symbols.len() {
        let book = &books[&(i as u16 + 1)];
        let orders = |book: &PlainBook| -> Vec<_> {
            book.orders().map(|o| (o.reference, o.side, o.price, o.shares)).collect()
        };
        assert_eq!(orders(book), orders(flow.final_book(i)));
        assert!(book.order_count() > 0);
    }
}

/// Applies a message to the book of its stock.
fn apply(books: &mut HashMap<u16, PlainBook>, message: &[u8]) {
    let side = |letter| if letter == b'B' { Side::Bid } else { Side::Ask };
    let parsed = Message::parse(message).unwrap();
    let head = Head::ref_from_prefix(message).unwrap().0;
    let book = books.entry(head.stock_locate.get()).or_default();
    let done = match parsed {
        Message::AddOrder(m) => {
            book.add(m.order_ref.get(), side(m.side), m.shares.get(), m.price.units())
        }
        Message::AddOrderMpid(m) => {
            book.add(m.order_ref.get(), side(m.side), m.shares.get(), m.price.units())
        }
        Message::OrderExecuted(m) => book.take(m.order_ref.get(), m.shares.get()),
        Message::OrderExecutedWithPrice(m) => book.take(m.order_ref.get(), m.shares.get()),
        Message::OrderCancel(m) => book.take(m.order_ref.get(), m.cancelled.get()),
        Message::OrderDelete(m) => book.remove(m.order_ref.get()),
        Message::OrderReplace(m) => {
            let (shares, price) = (m.shares.get(), m.price.units());
            book.replace(m.old_ref.get(), m.new_ref.get(), shares, price)
        }
        _ => return,
    };
    done.unwrap();
    assert!(!book.is_crossed());
}

#[test]
fn the_level_feed_ends_in_the_levels_of_the_same_market() {
    let (_, packets) = written("--sim --seed 5 --messages 30000 --feed deep --symbols 3");
    let mut levels: HashMap<(iex::Symbol, u8, i64), u32> = HashMap::new();
    let (mut next, mut offset, mut inside) = (1, 0, None);
    for packet in &packets {
        let segment = Segment::parse(&packet.payload).unwrap();
        assert_eq!((segment.first_sequence(), segment.stream_offset()), (next, offset));
        (next, offset) = (segment.next_sequence(), segment.next_offset());
        for message in segment.messages() {
            let (level, side) = match deep10::Message::parse(message).unwrap() {
                deep10::Message::PriceLevelBuy(level) => (level, b'B'),
                deep10::Message::PriceLevelSell(level) => (level, b'S'),
                _ => continue,
            };
            // An event is one instrument's at one time, until the level that completes it.
            let event = (level.symbol, level.timestamp.get());
            assert!(inside.is_none_or(|other| other == event));
            inside = (level.event_flags & deep10::EVENT_COMPLETE == 0).then_some(event);
            let key = (level.symbol, side, level.price.units());
            match level.size.get() {
                0 => assert!(levels.remove(&key).is_some(), "a level left that was not there"),
                size => _ = levels.insert(key, size),
            }
        }
    }
    assert_eq!(inside, None);
    let spec = FlowSpec {
        seed: 5,
        messages: Some(30_000),
        symbols: FlowSpec::invented_symbols(3),
        duration_ns: 14 * 3_600_000_000_000,
        ..FlowSpec::default()
    };
    let mut flow = Flow::new(&spec).unwrap();
    flow.by_ref().for_each(drop);
    let mut expected = HashMap::new();
    for (i, symbol) in flow.symbols().into_iter().enumerate() {
        for (side, letter) in [(Side::Bid, b'B'), (Side::Ask, b'S')] {
            for (price, level) in flow.final_book(i).levels(side) {
                expected.insert((symbol, letter, i64::from(price)), level.shares as u32);
            }
        }
    }
    assert_eq!(levels, expected);
}

fn shared(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("WIRETAPE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = shared.join("data").join(name);
    if !path.exists() {
        println!("skipped: {name} is not in ../shared/data");
    }
    path.exists().then_some(path)
}

#[test]
fn a_day_file_is_in_its_packets_message_by_message() {
    for name in ["itch/aapl-20200130-10k.itch", "itch/nasdaq-20120621-aapl-amzn.itch.gz"] {
        let Some(path) = shared(name) else { continue };
        let (_, packets) = written(&format!("--itch {} --no-heartbeats", path.display()));
        let mut bytes = std::fs::read(&path).unwrap();
        if name.ends_with(".gz") {
            let mut inflated = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(&bytes[..]);
            std::io::Read::read_to_end(&mut decoder, &mut inflated).unwrap();
            bytes = inflated;
        }
        let messages = unframed(&packets);
        assert!(BinaryFile::new(&bytes).eq(messages.iter().map(|m| &m[..])), "{name}");
        assert!(packets.iter().all(|packet| packet.payload.len() <= 1_400));
        assert!(packets.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
    }
}

#[test]
fn a_day_that_nothing_tells_is_remarked() {
    let folder = tempfile::tempdir().unwrap();
    let mut event = vec![0, 12, b'S'];
    event.extend([0; 10]);
    event.push(b'O');
    let remarks = |name: &str, more: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, &event).unwrap();
        let (summary, _) = written(&format!("--itch {} {more}", path.display()));
        summary["remarks"].as_array().unwrap().len()
    };
    assert_eq!(remarks("day.itch", ""), 1);
    assert_eq!(remarks("day.itch", "--date 2019-01-30"), 0);
    assert_eq!(remarks("day-2019-01-30.itch", ""), 0);
}

#[test]
fn a_capture_that_is_played_into_a_file_is_the_same_capture() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let [first_name, second_name] = [&first, &second].map(|path| path.to_str().unwrap());
    let arguments = ["--sim", "--messages", "20000", "--vlan", "77", "--write", first_name];
    assert!(exchange(&arguments).status.success());
    assert!(exchange(&["--pcap", first_name, "--write", second_name]).status.success());
    assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap());

    // Readdressed, at another speed, on two lines.
    let again = format!("--pcap {first_name} --group 239.9.9.9:999 --line-b 239.9.9.8:998");
    let (_, packets) = written(&format!("{again} --speed 2x"));
    let original = read(&first);
    assert_eq!(packets.len(), 2 * original.len());
    for (both, one) in packets.chunks(2).zip(&original) {
        assert_eq!(both[0].to.to_string(), "239.9.9.9:999");
        assert_eq!(both[1].to.to_string(), "239.9.9.8:998");
        assert!(both.iter().all(|packet| packet.payload == one.payload));
        let since = |at_ns: u64| at_ns - original[0].at_ns;
        assert_eq!(since(both[0].at_ns), since(one.at_ns) / 2);
    }
}

#[test]
fn limits_end_a_play_where_they_say() {
    let (summary, packets) = written("--sim --messages 5000 --count 100");
    assert_eq!((summary["ended"].as_str(), packets.len()), (Some("count"), 100));
    let (summary, packets) = written("--sim --messages 5000 --duration 1500ms");
    assert_eq!(summary["ended"], "duration");
    let last_ns = packets.last().unwrap().at_ns - packets[0].at_ns;
    assert!((1_000_000_000..1_500_000_000).contains(&last_ns), "{last_ns}");
    let (_, packets) = written("--sim --messages 5000 --rate 1000/s --count 1001");
    assert_eq!(packets.last().unwrap().at_ns - packets[0].at_ns, 1_000_000_000);
}

#[test]
fn what_cannot_be_played_is_told_in_one_sentence_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("feed");
    let target = target.to_str().unwrap();
    let junk = folder.path().join("junk");
    std::fs::write(&junk, b"this is no capture and no day file").unwrap();
    let junk = junk.to_str().unwrap();
    let cases = [
        (vec!["--pcap", "/nowhere/file", "--write", target], 1, "/nowhere/file"),
        (vec!["--pcap", junk, "--write", target], 1, junk),
        (vec!["--itch", junk, "--write", target], 1, junk),
        (vec!["--sim", "--write", "/nowhere/file"], 1, "/nowhere/file"),
        (vec!["--sim", "--symbols", "abc", "--write", target], 1, "'abc'"),
        (vec!["--sim", "--udp", "--interface", "nosuch0"], 1, "nosuch0"),
        (vec!["--sim", "--max-payload", "30", "--write", target], 1, "--max-payload"),
        (vec!["--sim", "--udp", "--interface", "lo", "--max-payload", "66000"], 1, "66000"),
        (vec!["--sim"], 2, "--udp"),
        (vec!["--sim", "--rate", "fast", "--udp"], 2, "100000/s"),
    ];
    for (arguments, code, part) in cases {
        let output = exchange(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
        if code == 1 {
            assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{arguments:?}");
    }
}

#[test]
fn output_that_nobody_can_take_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut help = Command::new(env!("CARGO_BIN_EXE_wiretape-exchange"));
    let output = help.arg("--help").stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write: No space left"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let limited = "ulimit -f 8; exec \"$0\" --sim --messages 5000 --write feed.pcap";
    let mut shell = Command::new("sh");
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_wiretape-exchange")]);
    let output = shell.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("File too large"), "{said}");
}

#[test]
fn a_socket_gets_every_packet_of_its_group() {
    let pair = match Pair::make() {
        Ok(pair) => pair,
        Err(reason) => return println!("skipped: no network namespaces: {reason}"),
    };
    let group = Ipv4Addr::new(239, 77, 1, 2);
    let received = pair.run(End::Receiver, || {
        let socket = UdpSocket::bind((group, 4_700)).unwrap();
        socket.join_multicast_v4(&group, &Ipv4Addr::new(10, 99, 0, 2)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let arguments = "--sim --seed 8 --messages 6000 --rate 4k/s --udp --interface wtx0 \
                         --group 239.77.1.2:4700 --quiet --json";
        let output = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                pair.run(End::Sender, || {
                    exchange(&arguments.split_whitespace().collect::<Vec<_>>())
                })
            });
            let mut received = Vec::new();
            let mut buffer = vec![0; 2_048];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!(from.ip().to_string(), "10.99.0.1");
                received.push(buffer[..length].to_vec());
                let mold = Packet::parse(&buffer[..length]).unwrap();
                if mold.kind() == PacketKind::EndOfSession {
                    break;
                }
            }
            (sender.join().unwrap(), received)
        });
        assert!(output.0.status.success(), "{}", String::from_utf8_lossy(&output.0.stderr));
        output.1
    });
    let (_, sent) = written("--sim --seed 8 --messages 6000 --rate 4k/s --group 239.77.1.2:4700");
    let first_end = sent.iter().position(|packet| {
        Packet::parse(&packet.payload).unwrap().kind() == PacketKind::EndOfSession
    });
    let expected: Vec<_> = sent[..=first_end.unwrap()].iter().map(|p| p.payload.clone()).collect();
    assert!(received == expected, "{} packets of {}", received.len(), expected.len());
}

#[test]
fn a_stop_by_signal_ends_in_a_summary() {
    use std::process::Stdio;
    let child = Command::new(env!("CARGO_BIN_EXE_wiretape-exchange"))
        .args(["--sim", "--udp", "--interface", "lo", "--json", "--ttl", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["ended"], "stopped");
    assert!(summary["packets"].as_u64() > Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("packets"), "no progress line");
}
