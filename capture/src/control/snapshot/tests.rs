use super::*;
use std::net::TcpListener;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::thread;

use wiretape_core::segment::{SegmentLayout, SegmentSpec};
use wiretape_core::wire::soupbintcp::LoginAccepted;
use zerocopy::IntoBytes;

fn packets(of: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in of {
        let mut buffer = [0; 200];
        let length = packet.emit(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..length]);
    }
    bytes
}

fn accepted(then: &[Packet<'_>]) -> Vec<u8> {
    let login = LoginAccepted::new(*b"SESSION001", 1);
    [packets(&[Packet::LoginAccepted(&login)]), packets(then)].concat()
}

/// A snapshot of three messages.
fn good(next_seq: u64) -> Vec<u8> {
    let end = EndOfSnapshot::new(next_seq);
    accepted(&[
        Packet::Sequenced(b"one"),
        Packet::ServerHeartbeat,
        Packet::Sequenced(&[7; MESSAGE_BYTES]),
        Packet::Sequenced(b""),
        Packet::Sequenced(end.as_bytes()),
        Packet::EndOfSession,
    ])
}

/// A server that listens, and how to ask it.
fn server(patience: Duration) -> (TcpListener, SnapshotConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = match listener.local_addr().unwrap() {
        std::net::SocketAddr::V4(address) => address,
        other => panic!("{other}"),
    };
    let login = Some(("user".to_owned(), "password".to_owned()));
    let servers = vec![server];
    (listener, SnapshotConfig { servers, login, patience, hold_bytes: 0, after_loss: false })
}

const SEGMENT: SegmentSpec<'static> = SegmentSpec {
    worker: "test",
    epoch: 1,
    pid: 0,
    event_slots: 16,
    instruments: 1,
    feeds: 2,
    depths: 0,
};

fn words() -> Vec<AtomicU64> {
    let words = SegmentLayout::new(&SEGMENT).unwrap().total_words;
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

fn request(feed: u8) -> SnapshotRequest {
    let mut request = SnapshotRequest::default();
    request.feed = feed;
    request.from = 10;
    request
}

/// What the client makes of a server that gives these answers, one a connection, and closes.
fn client_of(answers: &[Vec<u8>]) -> (Vec<SnapshotPartOwned>, Vec<String>) {
    let (listener, config) = server(Duration::from_millis(400));
    let words = words();
    let segment = SegmentWriter::create(&words, &SEGMENT).unwrap();
    let (mut rings, stop) = (SnapshotRings::new(), AtomicBool::new(false));
    let (mut worker, client_rings) = rings.ends();
    let (complaints, heard) = channel();
    // A feed without servers, and one that was added later.
    let feeds = vec![("other".to_owned(), None)];
    let (teacher, learned) = channel();
    teacher.send((1, "feed".to_owned(), config)).unwrap();
    let (rings, stop_of_client) = (client_rings, &stop);
    let client =
        SnapshotClient { rings, feeds, learned, complaints, segment, stop: stop_of_client };
    assert!(worker.ask.push(request(1)).is_ok());
    let mut parts = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut login = [0; 49];
                stream.read_exact(&mut login).unwrap();
                assert_eq!(&login[..9], b"\0\x2fLuser  ");
                assert_eq!(&login[9..19], b"password  ");
                // Whatever the client closes on is its affair.
                let _ = stream.write_all(answer);
            }
            drop(listener);
        });
        scope.spawn(|| client.run());
        loop {
            let Some(part) = worker.parts.pop() else {
                thread::sleep(LOOK);
                continue;
            };
            parts.push(SnapshotPartOwned::from(part.part()));
            if matches!(part.kind, Kind::End | Kind::None) {
                break;
            }
        }
        // A complaint follows the piece that says that there is none.
        thread::sleep(LOOK * 10);
        stop.store(true, Ordering::Relaxed);
    });
    (parts, heard.try_iter().collect())
}

#[derive(Debug, PartialEq, Eq)]
enum SnapshotPartOwned {
    Begin(u64),
    Message(Vec<u8>),
    End,
    None,
}

impl From<SnapshotPart<'_>> for SnapshotPartOwned {
    fn from(part: SnapshotPart<'_>) -> Self {
        match part {
            SnapshotPart::Begin { next_seq } => SnapshotPartOwned::Begin(next_seq),
            SnapshotPart::Message(bytes) => SnapshotPartOwned::Message(bytes.to_vec()),
            SnapshotPart::End => SnapshotPartOwned::End,
            SnapshotPart::None => SnapshotPartOwned::None,
        }
    }
}

fn whole(next_seq: u64) -> Vec<SnapshotPartOwned> {
    let messages = [b"one".to_vec(), vec![7; MESSAGE_BYTES], vec![]];
    let messages = messages.into_iter().map(SnapshotPartOwned::Message);
    let mut parts = vec![SnapshotPartOwned::Begin(next_seq)];
    parts.extend(messages);
    parts.push(SnapshotPartOwned::End);
    parts
}

#[test]
fn a_snapshot_is_handed_over_as_it_came() {
    assert_eq!(client_of(&[good(10)]), (whole(10), vec![]));
}

#[test]
fn a_removed_feeds_server_holds_nobody_else_up() {
    let ((silent, of_silent), (good_one, of_good)) =
        (server(Duration::from_secs(60)), server(Duration::from_secs(60)));
    let words = words();
    let segment = SegmentWriter::create(&words, &SEGMENT).unwrap();
    let (mut rings, stop) = (SnapshotRings::new(), AtomicBool::new(false));
    let (mut worker, rings) = rings.ends();
    let ((complaints, heard), (_teacher, learned)) = (channel(), channel());
    let feeds = vec![("a".to_owned(), Some(of_silent)), ("b".to_owned(), Some(of_good))];
    let client = SnapshotClient { rings, feeds, learned, complaints, segment, stop: &stop };
    thread::scope(|scope| {
        scope.spawn(|| client.run());
        assert!(worker.ask.push(request(0)).is_ok());
        let connection = silent.accept().unwrap();
        segment.feed(0).unwrap().set_removed();
        assert!(worker.ask.push(request(1)).is_ok());
        let (mut stream, _) = good_one.accept().unwrap();
        stream.write_all(&good(10)).unwrap();
        loop {
            let Some(part) = worker.parts.pop() else {
                thread::sleep(LOOK);
                continue;
            };
            assert_eq!(part.request, request(1));
            if matches!(part.kind, Kind::End | Kind::None) {
                break;
            }
        }
        drop(connection);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(heard.try_iter().count(), 0);
}

#[test]
fn a_server_that_is_behind_or_breaks_off_is_asked_again() {
    let cut = accepted(&[Packet::Sequenced(b"one")]);
    assert_eq!(client_of(&[good(9), cut, good(12)]), (whole(12), vec![]));
}

#[test]
fn what_cannot_be_used_is_told_with_its_reason() {
    let refused = wiretape_core::wire::soupbintcp::LoginRejected { kind: b'J', reason: b'A' };
    let refused = packets(&[Packet::LoginRejected(&refused)]);
    let mut unnumbered = EndOfSnapshot::new(1);
    unnumbered.sequence = [b' '; 20];
    let cases = [
        (refused, "user or password are wrong"),
        (accepted(&[Packet::Sequenced(b"one")]), "broke off after 1 messages"),
        (accepted(&[Packet::EndOfSession]), "broke off after 0 messages"),
        (good(u64::MAX), "it is of another session"),
        (accepted(&[Packet::Sequenced(&[0; MESSAGE_BYTES + 1])]), "longer than any"),
        (accepted(&[Packet::Sequenced(unnumbered.as_bytes())]), "names no message"),
        (b"\0\x05HTTP/1.1 200 OK".to_vec(), "does not speak SoupBinTCP"),
    ];
    for (answer, reason) in cases {
        let answers = vec![answer; ROUNDS];
        let (parts, complaints) = client_of(&answers);
        assert_eq!(parts, [SnapshotPartOwned::None]);
        assert!(complaints.len() == 1 && complaints[0].contains(reason), "{complaints:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_soon() {
    let start = Instant::now();
    let (parts, complaints) = client_of(&[]);
    assert_eq!(parts, [SnapshotPartOwned::None]);
    assert!(complaints[0].contains("refused"), "{complaints:?}");
    assert!(start.elapsed() < Duration::from_secs(20));
}
