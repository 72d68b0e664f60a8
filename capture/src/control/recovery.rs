//! Asks MoldUDP64 re-request servers for what came on no line.
//!
//! The worker says what is missing through one ring and takes the answers from another; this is
//! the control thread's end of both. A range is asked for at one server; its answer holds as many
//! messages as fit a packet, and the rest is asked for at once. Without an answer the next server
//! is tried, each time after a longer wait. A range is forgotten when its answers are here, or
//! when the worker has given it up.
//!
//! Specification: Nasdaq, "MoldUDP64 Protocol Specification" 1.00, request packet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use wiretape_core::feed::arbiter::RecoveryRequest;
use wiretape_core::ring::slot::Slot;
use wiretape_core::ring::spsc::{Cursors, SlotConsumer, SlotProducer, split};
use wiretape_core::segment::{FeedCounter, SegmentWriter};
use wiretape_core::wire::moldudp64::{Builder, Packet, PacketKind, Request};
use zerocopy::IntoBytes;

use crate::config::{FeedConfig, RecoveryConfig};

/// Longest answer that is handed over: what fits an Ethernet frame.
pub const ANSWER_BYTES: usize = 1_500;
/// Longest answer that is taken: what fits a jumbo frame. What of it is too much is asked for again.
const DATAGRAM_BYTES: usize = 9_216;
/// Most messages that one request asks for; the server sends what fits a packet.
const BATCH: u64 = 4_096;
/// Ranges asked for at once; more wait in the worker's ring.
const RANGES: usize = 32;
/// How long a server has for its first answer; twice as long with every round of servers.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(160);
/// How long one visit may wait for answers that follow each other.
const VISIT: Duration = Duration::from_millis(2);

/// What a server sent.
#[derive(Clone, Copy)]
pub struct Answer {
    /// The feed that asked.
    pub feed: u8,
    len: u16,
    bytes: [u8; ANSWER_BYTES],
}

impl Answer {
    /// The packet of these bytes: all of it, or as many messages from number `first` on as there is
    /// room for. With it, what it brings through.
    fn of(feed: u8, bytes: &[u8], packet: &Packet<'_>, first: u64) -> Option<(Answer, u64)> {
        let mut answer = Answer { feed, len: 0, bytes: [0; ANSWER_BYTES] };
        if let Some(to) = answer.bytes.get_mut(..bytes.len()) {
            to.copy_from_slice(bytes);
            answer.len = bytes.len() as u16;
            return Some((answer, packet.next_sequence()));
        }
        let known = first.checked_sub(packet.sequence())?;
        let mut builder = Builder::new(&mut answer.bytes, *packet.session(), first)?;
        for message in packet.messages().skip(known as usize) {
            if !builder.push(message) {
                break;
            }
        }
        let end = first + u64::from(builder.count());
        answer.len = builder.finish().len() as u16;
        (end > first).then_some((answer, end))
    }

    /// The packet.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(ANSWER_BYTES)]
    }
}

/// Memory of the two rings.
pub struct RecoveryRings {
    request_cursors: Cursors,
    requests: Box<[Slot<RecoveryRequest>]>,
    answer_cursors: Cursors,
    answers: Box<[Slot<Answer>]>,
}

impl RecoveryRings {
    /// 64 requests, and a thousand answers.
    pub fn new() -> RecoveryRings {
        RecoveryRings {
            request_cursors: Cursors::new(),
            requests: (0..64).map(|_| Slot::default()).collect(),
            answer_cursors: Cursors::new(),
            answers: (0..1024).map(|_| Slot::default()).collect(),
        }
    }

    /// The worker's end and the control thread's.
    pub fn ends(&mut self) -> (WorkerRecovery<'_>, ControlRings<'_>) {
        let requests = split(&mut self.request_cursors, &mut self.requests);
        let answers = split(&mut self.answer_cursors, &mut self.answers);
        let ((ask, asked), (answer, answered)) =
            (requests.expect("a power of two"), answers.expect("a power of two"));
        (WorkerRecovery { ask, answered }, ControlRings { asked, answer })
    }
}

impl Default for RecoveryRings {
    fn default() -> RecoveryRings {
        RecoveryRings::new()
    }
}

/// The worker's end: what is missing goes out, answers come in.
pub struct WorkerRecovery<'m> {
    /// Ranges that are missing.
    pub ask: SlotProducer<'m, RecoveryRequest>,
    /// What servers sent.
    pub answered: SlotConsumer<'m, Answer>,
}

impl std::fmt::Debug for WorkerRecovery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerRecovery").finish_non_exhaustive()
    }
}

/// The control thread's end.
pub struct ControlRings<'m> {
    asked: SlotConsumer<'m, RecoveryRequest>,
    answer: SlotProducer<'m, Answer>,
}

/// A range that is being asked for.
#[derive(Debug)]
struct Range {
    request: RecoveryRequest,
    server: usize,
    /// Requests without an answer.
    tries: u32,
    next_try: Instant,
    give_up: Instant,
}

/// Asks for what is missing.
pub struct RecoveryClient<'m> {
    socket: UdpSocket,
    rings: ControlRings<'m>,
    ranges: Vec<Range>,
    /// By feed: its servers, and how long it waits.
    servers: Vec<(Vec<SocketAddrV4>, Duration)>,
    /// Those of feeds that are added, each before the feed has anything to ask.
    learned: Receiver<(usize, RecoveryConfig)>,
    segment: SegmentWriter<'m>,
}

impl<'m> RecoveryClient<'m> {
    /// A client for those of `feeds` that have servers, and for those that it learns of.
    ///
    /// # Errors
    /// The system refuses a UDP socket.
    pub fn open(
        feeds: &[FeedConfig],
        learned: Receiver<(usize, RecoveryConfig)>,
        rings: ControlRings<'m>,
        segment: SegmentWriter<'m>,
    ) -> io::Result<RecoveryClient<'m>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        let of = |feed: &FeedConfig| match &feed.recovery {
            Some(recovery) => (recovery.servers.clone(), recovery.patience),
            None => (Vec::new(), Duration::ZERO),
        };
        let (servers, ranges) = (feeds.iter().map(of).collect(), Vec::with_capacity(RANGES));
        Ok(RecoveryClient { socket, rings, ranges, servers, learned, segment })
    }

    /// Whether there is anyone to ask.
    pub fn has_servers(&self) -> bool {
        self.servers.iter().any(|(servers, _)| !servers.is_empty())
    }

    /// Takes requests, sends what is due, and hands answers over, for at most [`VISIT`].
    pub fn visit(&mut self) {
        let end = Instant::now() + VISIT;
        loop {
            self.take_requests();
            if self.ranges.is_empty() {
                return;
            }
            self.send_due(Instant::now());
            while self.receive() {}
            let left = end.saturating_duration_since(Instant::now());
            if self.ranges.is_empty() || left.is_zero() {
                return;
            }
            wait_readable(&self.socket, left);
        }
    }

    fn count(&self, feed: u8, counter: FeedCounter) {
        if let Some(writer) = self.segment.feed(usize::from(feed)) {
            writer.add(counter, 1);
        }
    }

    fn take_requests(&mut self) {
        while self.ranges.len() < RANGES
            && let Some(request) = self.rings.asked.pop()
        {
            for (feed, recovery) in self.learned.try_iter() {
                let feeds = self.servers.len().max(feed + 1);
                self.servers.resize(feeds, (Vec::new(), Duration::ZERO));
                self.servers[feed] = (recovery.servers, recovery.patience);
            }
            let Some((servers, patience)) = self.servers.get(usize::from(request.feed)) else {
                continue;
            };
            if !servers.is_empty() && request.first < request.end {
                let (next_try, give_up) = (Instant::now(), Instant::now() + *patience);
                self.ranges.push(Range { request, server: 0, tries: 0, next_try, give_up });
            }
        }
    }

    fn send_due(&mut self, now: Instant) {
        self.ranges.retain(|range| now < range.give_up);
        for index in 0..self.ranges.len() {
            if self.ranges[index].next_try > now {
                continue;
            }
            let range = &mut self.ranges[index];
            let feed = range.request.feed;
            let servers = &self.servers[usize::from(feed)].0;
            let unanswered = range.tries > 0;
            if unanswered {
                range.server = (range.server + 1) % servers.len();
            }
            let rounds = range.tries / servers.len() as u32;
            range.tries += 1;
            range.next_try = now + (FIRST_WAIT * 2_u32.pow(rounds.min(8))).min(LONGEST_WAIT);
            let (server, request) = (servers[range.server], range.request);
            if unanswered {
                self.count(feed, FeedCounter::RecoveryTimeouts);
            }
            self.ask(server, &request);
        }
    }

    fn ask(&self, server: SocketAddrV4, range: &RecoveryRequest) {
        let request = Request {
            session: range.session,
            sequence: range.first.into(),
            count: ((range.end - range.first).min(BATCH) as u16).into(),
        };
        self.count(range.feed, FeedCounter::RecoveryRequests);
        // What the network refuses is what it loses: the next try follows.
        let _ = self.socket.send_to(request.as_bytes(), server);
    }

    /// Takes one datagram; `false` if there is none.
    fn receive(&mut self) -> bool {
        let mut datagram = [0; DATAGRAM_BYTES];
        let (bytes, from) = match self.socket.recv_from(&mut datagram) {
            Ok((len, SocketAddr::V4(from))) => (&datagram[..len], from),
            Ok(_) => return true,
            // A server's port that is closed says so once for each request.
            Err(error) => return error.kind() == io::ErrorKind::ConnectionRefused,
        };
        let Ok(packet) = Packet::parse(bytes) else { return true };
        let (first, end) = (packet.sequence(), packet.next_sequence());
        // Servers may answer from another port than they are asked at.
        let is_from = |server: &SocketAddrV4| server.ip() == from.ip();
        let asked = |range: &Range| {
            range.request.session == *packet.session()
                && (first..end).contains(&range.request.first)
                && self.servers[usize::from(range.request.feed)].0.iter().any(is_from)
        };
        let Some(index) = self.ranges.iter().position(asked) else { return true };
        if packet.kind() != PacketKind::Data {
            return true;
        }
        let request = self.ranges[index].request;
        let feed = request.feed;
        let Some((answer, end)) = Answer::of(feed, bytes, &packet, request.first) else {
            return true;
        };
        self.count(feed, FeedCounter::RecoveryAnswers);
        if self.rings.answer.push(answer).is_err() {
            return false; // asked for again once the worker has taken some
        }
        let range = &mut self.ranges[index];
        range.request.first = end.min(range.request.end);
        range.tries = 0;
        range.next_try = Instant::now() + FIRST_WAIT;
        let (server, rest) = (range.server, range.request);
        if rest.first == rest.end {
            self.ranges.swap_remove(index);
        } else {
            let server = self.servers[usize::from(feed)].0[server];
            self.ranges[index].tries = 1;
            self.ask(server, &rest);
        }
        true
    }
}

/// Waits until a datagram is there, at most `timeout`.
fn wait_readable(socket: &UdpSocket, timeout: Duration) {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let ms = timeout.as_millis().max(1) as i32;
    // SAFETY: one pollfd, valid for the call.
    unsafe { libc::poll(&raw mut poll, 1, ms) };
}

#[cfg(test)]
mod tests;
