//! Fetches snapshots of the market for feeds that join in the middle of the day: Nasdaq GLIMPSE 5.0
//! over SoupBinTCP.
//!
//! The worker says what it wants through one ring and takes the pieces from another. In between
//! is a thread of its own that may wait for a server: it takes a snapshot in as a whole, and hands
//! it over only if it is whole and knows every message before the first that the lines brought.
//! A server that is behind is asked again; one that fails, or is of another session, after the
//! others were tried.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use wiretape_core::feed::arbiter::join::{SNAPSHOT_AHEAD_MAX, SnapshotPart, SnapshotRequest};
use wiretape_core::ring::slot::Slot;
use wiretape_core::ring::spsc::{Cursors, SlotConsumer, SlotProducer, split};
use wiretape_core::wire::glimpse::EndOfSnapshot;
use wiretape_core::wire::message::MessageError;
use wiretape_core::wire::soupbintcp::{HEARTBEAT_INTERVAL_S, LoginRequest, Packet, Packets};

use crate::config::{FeedConfig, SnapshotConfig};

/// Longest message of a snapshot; ITCH's longest has 50 bytes.
pub const MESSAGE_BYTES: usize = 64;
/// Pieces on their way to the worker.
const PARTS: usize = 4_096;
/// How often the thread looks for something to do.
const LOOK: Duration = Duration::from_millis(2);
/// How long it sleeps where the worker has no room.
const FULL: Duration = Duration::from_micros(50);
/// How long a server may take to let itself be connected to.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a read waits before the thread looks whether it is to end.
const READ: Duration = Duration::from_millis(50);
/// Pause before the servers are asked again.
const AGAIN: Duration = Duration::from_millis(20);
/// Rounds of servers that all fail before there is no snapshot.
const ROUNDS: usize = 3;
/// Longest snapshot: twenty million orders.
const LONGEST_BYTES: usize = 1 << 30;

/// A piece of a snapshot on its way to the worker.
#[derive(Clone, Copy)]
pub struct Part {
    /// What it answers.
    pub request: SnapshotRequest,
    next_seq: u64,
    kind: Kind,
    len: u8,
    bytes: [u8; MESSAGE_BYTES],
}

#[derive(Clone, Copy)]
enum Kind {
    Begin,
    Message,
    End,
    None,
}

impl Part {
    fn new(request: SnapshotRequest, kind: Kind) -> Part {
        Part { request, next_seq: 0, kind, len: 0, bytes: [0; MESSAGE_BYTES] }
    }

    fn message(request: SnapshotRequest, message: &[u8]) -> Part {
        let mut part = Part::new(request, Kind::Message);
        // No longer than that: it was looked at when it came.
        part.len = message.len().min(MESSAGE_BYTES) as u8;
        part.bytes[..usize::from(part.len)].copy_from_slice(&message[..usize::from(part.len)]);
        part
    }

    /// The piece itself.
    pub fn part(&self) -> SnapshotPart<'_> {
        match self.kind {
            Kind::Begin => SnapshotPart::Begin { next_seq: self.next_seq },
            Kind::Message => {
                SnapshotPart::Message(&self.bytes[..usize::from(self.len).min(MESSAGE_BYTES)])
            }
            Kind::End => SnapshotPart::End,
            Kind::None => SnapshotPart::None,
        }
    }
}

/// Memory of the two rings.
pub struct SnapshotRings {
    request_cursors: Cursors,
    requests: Box<[Slot<SnapshotRequest>]>,
    part_cursors: Cursors,
    parts: Box<[Slot<Part>]>,
}

impl SnapshotRings {
    /// A request for each feed that a worker can have, and some thousand pieces.
    pub fn new() -> SnapshotRings {
        SnapshotRings {
            request_cursors: Cursors::new(),
            requests: (0..16).map(|_| Slot::default()).collect(),
            part_cursors: Cursors::new(),
            parts: (0..PARTS).map(|_| Slot::default()).collect(),
        }
    }

    /// The worker's end and the client's.
    pub fn ends(&mut self) -> (WorkerSnapshots<'_>, ClientRings<'_>) {
        let requests = split(&mut self.request_cursors, &mut self.requests);
        let parts = split(&mut self.part_cursors, &mut self.parts);
        let ((ask, asked), (give, parts)) =
            (requests.expect("a power of two"), parts.expect("a power of two"));
        (WorkerSnapshots { ask, parts }, ClientRings { asked, give })
    }
}

impl Default for SnapshotRings {
    fn default() -> SnapshotRings {
        SnapshotRings::new()
    }
}

/// The worker's end.
pub struct WorkerSnapshots<'m> {
    /// Snapshots that are wanted.
    pub ask: SlotProducer<'m, SnapshotRequest>,
    /// Their pieces.
    pub parts: SlotConsumer<'m, Part>,
}

impl std::fmt::Debug for WorkerSnapshots<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerSnapshots").finish_non_exhaustive()
    }
}

/// The client's end.
pub struct ClientRings<'m> {
    asked: SlotConsumer<'m, SnapshotRequest>,
    give: SlotProducer<'m, Part>,
}

/// Why a server's snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The connection could not be made, or failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server does not let us in.
    #[error("the server refuses the login: {}", refusal(*.reason))]
    Refused {
        /// SoupBinTCP's reason letter.
        reason: u8,
    },
    /// The connection ended in the middle.
    #[error("the snapshot broke off after {messages} messages")]
    BrokenOff {
        /// Messages until then.
        messages: u64,
    },
    /// It took too long.
    #[error("the snapshot was not complete in time: {messages} messages until then")]
    TooSlow {
        /// Messages until then.
        messages: u64,
    },
    /// The snapshot lacks messages that nobody has.
    #[error("the snapshot ends at message {next_seq}, and the feed was joined at {from}")]
    Older {
        /// The first message that it does not know.
        next_seq: u64,
        /// The first message that the lines brought.
        from: u64,
    },
    /// The snapshot claims more than the feed can have sent meanwhile.
    #[error(
        "the snapshot ends at message {next_seq}, far beyond message {from}, at which the feed was \
         joined: it is of another session"
    )]
    FarAhead {
        /// The first message that it does not know.
        next_seq: u64,
        /// The first message that the lines brought.
        from: u64,
    },
    /// What came is no SoupBinTCP.
    #[error("the server does not speak SoupBinTCP: {0}")]
    Protocol(MessageError),
    /// The message that ends it names no message to go on with.
    #[error("the end of the snapshot names no message to go on with")]
    NoNumber,
    /// A message, or the whole, is longer than any should be.
    #[error("the snapshot is longer than any should be")]
    TooLong,
    /// Capture ends.
    #[error("capture ends")]
    Stopped,
}

fn refusal(reason: u8) -> &'static str {
    match reason {
        b'A' => "user or password are wrong (snapshot_login)",
        b'S' => "it has no such session",
        _ => "it does not say why",
    }
}

/// A snapshot as it came: each message behind one byte for its length.
struct Whole {
    next_seq: u64,
    messages: Vec<u8>,
}

/// Fetches snapshots.
pub struct SnapshotClient<'m> {
    rings: ClientRings<'m>,
    feeds: Vec<(String, Option<SnapshotConfig>)>,
    /// Servers of feeds that are added, each before the feed wants a snapshot.
    learned: Receiver<(usize, String, SnapshotConfig)>,
    complaints: Sender<String>,
    stop: &'m AtomicBool,
}

impl<'m> SnapshotClient<'m> {
    /// A client for those of `feeds` that have servers, and for those that it learns of. What went
    /// wrong goes to `complaints`.
    pub fn new(
        feeds: &[FeedConfig],
        learned: Receiver<(usize, String, SnapshotConfig)>,
        rings: ClientRings<'m>,
        complaints: Sender<String>,
        stop: &'m AtomicBool,
    ) -> SnapshotClient<'m> {
        let feeds = feeds.iter().map(|feed| (feed.name.clone(), feed.snapshot.clone())).collect();
        SnapshotClient { rings, feeds, learned, complaints, stop }
    }

    /// Fetches what is asked for until it is told to stop.
    pub fn run(mut self) {
        while !self.is_stopped() {
            match self.rings.asked.pop() {
                Some(request) => self.serve(&request),
                None => std::thread::sleep(LOOK),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn serve(&mut self, request: &SnapshotRequest) {
        for (feed, name, snapshot) in self.learned.try_iter() {
            let feeds = self.feeds.len().max(feed + 1);
            self.feeds.resize(feeds, (String::new(), None));
            self.feeds[feed] = (name, Some(snapshot));
        }
        let Some((name, Some(config))) = self.feeds.get(usize::from(request.feed)).cloned() else {
            return;
        };
        match self.fetch(&config, request) {
            Ok(whole) => self.hand_over(&config, request, &whole),
            Err((_, SnapshotError::Stopped)) => {}
            Err((server, error)) => {
                self.give(Part::new(*request, Kind::None), Instant::now() + config.patience);
                // The other end outlives this thread.
                let _ = self.complaints.send(format!(
                    "feed {name}: no snapshot from {server}: {error}; its books may be wrong \
                     until a later try, or a new session"
                ));
            }
        }
    }

    /// A snapshot that can be used, from any of the servers.
    fn fetch(
        &self,
        config: &SnapshotConfig,
        request: &SnapshotRequest,
    ) -> Result<Whole, (SocketAddrV4, SnapshotError)> {
        let end = Instant::now() + config.patience;
        let mut round = 0;
        loop {
            let mut failed = None;
            let mut behind = false;
            for &server in &config.servers {
                match self.fetch_from(server, config, end) {
                    Ok(Whole { next_seq, .. }) if next_seq < request.from => {
                        behind = true;
                        let from = request.from;
                        failed = Some((server, SnapshotError::Older { next_seq, from }));
                    }
                    Ok(Whole { next_seq, .. }) if next_seq - request.from > SNAPSHOT_AHEAD_MAX => {
                        let from = request.from;
                        failed = Some((server, SnapshotError::FarAhead { next_seq, from }));
                    }
                    Ok(whole) => return Ok(whole),
                    Err(SnapshotError::Stopped) => return Err((server, SnapshotError::Stopped)),
                    Err(error) => failed = Some((server, error)),
                }
            }
            round += 1;
            let over = Instant::now() + AGAIN >= end || (round >= ROUNDS && !behind);
            if let (true, Some(failed)) = (over, failed) {
                return Err(failed);
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn fetch_from(
        &self,
        server: SocketAddrV4,
        config: &SnapshotConfig,
        end: Instant,
    ) -> Result<Whole, SnapshotError> {
        let too_slow = |messages| SnapshotError::TooSlow { messages };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(too_slow(0));
        }
        let mut stream = TcpStream::connect_timeout(&server.into(), left.min(CONNECT))?;
        stream.set_read_timeout(Some(READ))?;
        let (user, password) = config.login.as_ref().map_or(("", ""), |(u, p)| (u, p));
        // The current session, whichever it is, from its first message.
        let login = LoginRequest::new(user.as_bytes(), password.as_bytes(), [b' '; 10], 1);
        send(&mut stream, &Packet::LoginRequest(&login))?;
        let mut said = Instant::now();
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        let (mut messages, mut count) = (Vec::new(), 0);
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return Err(SnapshotError::BrokenOff { messages: count }),
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    _ => return Err(error.into()),
                },
            }
            let mut packets = Packets::new(&bytes);
            for packet in packets.by_ref() {
                let message = match Packet::parse(packet).map_err(SnapshotError::Protocol)? {
                    Packet::Sequenced(message) => message,
                    Packet::LoginRejected(rejected) => {
                        return Err(SnapshotError::Refused { reason: rejected.reason });
                    }
                    Packet::EndOfSession => {
                        return Err(SnapshotError::BrokenOff { messages: count });
                    }
                    _ => continue,
                };
                if let Some(end) = EndOfSnapshot::parse(message) {
                    let next_seq = end.next_sequence().ok_or(SnapshotError::NoNumber)?;
                    let _ = send(&mut stream, &Packet::LogoutRequest);
                    return Ok(Whole { next_seq, messages });
                }
                if message.len() > MESSAGE_BYTES || messages.len() > LONGEST_BYTES {
                    return Err(SnapshotError::TooLong);
                }
                messages.push(message.len() as u8);
                messages.extend_from_slice(message);
                count += 1;
            }
            let rest = packets.rest().len();
            bytes.drain(..bytes.len() - rest);
            let now = Instant::now();
            if self.is_stopped() {
                return Err(SnapshotError::Stopped);
            }
            if now >= end {
                return Err(too_slow(count));
            }
            if now.duration_since(said) >= Duration::from_secs(HEARTBEAT_INTERVAL_S) {
                send(&mut stream, &Packet::ClientHeartbeat)?;
                said = now;
            }
        }
    }

    fn hand_over(&mut self, config: &SnapshotConfig, request: &SnapshotRequest, whole: &Whole) {
        // The worker waits no longer than that either.
        let end = Instant::now() + config.patience;
        let begin = Part { next_seq: whole.next_seq, ..Part::new(*request, Kind::Begin) };
        let mut given = self.give(begin, end);
        let mut rest = &whole.messages[..];
        while let Some((&length, after)) = rest.split_first()
            && let Some((message, after)) = after.split_at_checked(usize::from(length))
            && given
        {
            given = self.give(Part::message(*request, message), end);
            rest = after;
        }
        if given {
            self.give(Part::new(*request, Kind::End), end);
        }
    }

    /// Hands a piece to the worker; `false` if it takes none.
    fn give(&mut self, part: Part, end: Instant) -> bool {
        while self.rings.give.push(part).is_err() {
            if self.is_stopped() || Instant::now() >= end {
                return false;
            }
            std::thread::sleep(FULL);
        }
        true
    }
}

fn send(stream: &mut TcpStream, packet: &Packet<'_>) -> io::Result<()> {
    let mut buffer = [0; 64];
    match packet.emit(&mut buffer) {
        Some(length) => stream.write_all(&buffer[..length]),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc::channel;
    use std::thread;

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

    /// What the client makes of a server that gives these answers, one a connection, and closes.
    fn client_of(answers: &[Vec<u8>]) -> (Vec<SnapshotPartOwned>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = match listener.local_addr().unwrap() {
            std::net::SocketAddr::V4(address) => address,
            other => panic!("{other}"),
        };
        let config = SnapshotConfig {
            servers: vec![server],
            login: Some(("user".to_owned(), "password".to_owned())),
            patience: Duration::from_millis(400),
            hold_bytes: 0,
            after_loss: false,
        };
        let (mut rings, stop) = (SnapshotRings::new(), AtomicBool::new(false));
        let (mut worker, client_rings) = rings.ends();
        let (complaints, heard) = channel();
        // A feed without servers, and one that was added later.
        let feeds = vec![("other".to_owned(), None)];
        let (teacher, learned) = channel();
        teacher.send((1, "feed".to_owned(), config)).unwrap();
        let client =
            SnapshotClient { rings: client_rings, feeds, learned, complaints, stop: &stop };
        let mut request = SnapshotRequest::default();
        request.feed = 1;
        request.from = 10;
        assert!(worker.ask.push(request).is_ok());
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
}
