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
use wiretape_core::segment::{FeedState, SegmentWriter};
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
    /// Nobody wants it any more: the feed was removed, or capture ends.
    #[error("nobody wants it any more")]
    Unwanted,
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
    /// Where it stands which feeds were removed.
    segment: SegmentWriter<'m>,
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
        segment: SegmentWriter<'m>,
        stop: &'m AtomicBool,
    ) -> SnapshotClient<'m> {
        let feeds = feeds.iter().map(|feed| (feed.name.clone(), feed.snapshot.clone())).collect();
        SnapshotClient { rings, feeds, learned, complaints, segment, stop }
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

    /// A removed feed's server is to hold nobody else's snapshot up.
    fn is_unwanted(&self, request: &SnapshotRequest) -> bool {
        let feed = self.segment.feed(usize::from(request.feed));
        self.is_stopped() || feed.is_none_or(|feed| feed.view().state() == FeedState::Removed)
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
            Err((_, SnapshotError::Unwanted)) => {}
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
                match self.fetch_from(server, config, request, end) {
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
                    Err(SnapshotError::Unwanted) => {
                        return Err((server, SnapshotError::Unwanted));
                    }
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
        request: &SnapshotRequest,
        end: Instant,
    ) -> Result<Whole, SnapshotError> {
        let too_slow = |messages| SnapshotError::TooSlow { messages };
        if self.is_unwanted(request) {
            return Err(SnapshotError::Unwanted);
        }
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
            if self.is_unwanted(request) {
                return Err(SnapshotError::Unwanted);
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
            if self.is_unwanted(&part.request) || Instant::now() >= end {
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
mod tests;
