//! A MoldUDP64 re-request server: keeps what was sent, and sends it again to who asks.
//!
//! As the specification has it: a request names a session, a first message and a number of
//! messages, and the answer is one packet with as many of them as fit.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wiretape_core::wire::moldudp64::{Builder, Packet, PacketKind, Request};

use super::packet::Packet as Frame;
use super::sink::{Sent, Sink, SinkError};

/// Most bytes of an answer.
const ANSWER_MAX: usize = 1_400;
/// How long the server sleeps before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(20);

/// Every message of a session, by number.
#[derive(Debug, Default)]
struct Archive {
    session: [u8; 10],
    first: u64,
    /// Message number `first + i` is `bytes[ends[i - 1]..ends[i]]`.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Archive {
    fn keep(&mut self, payload: &[u8]) {
        let Ok(packet) = Packet::parse(payload) else { return };
        if packet.kind() != PacketKind::Data {
            return;
        }
        if self.session != *packet.session() {
            *self = Archive {
                session: *packet.session(),
                first: packet.sequence(),
                ..Archive::default()
            };
        }
        let next = self.first + self.ends.len() as u64;
        // The second line's copy has nothing new.
        let Some(known) = next.checked_sub(packet.sequence()) else { return };
        for message in packet.messages().skip(known as usize) {
            self.bytes.extend_from_slice(message);
            self.ends.push(self.bytes.len());
        }
    }

    fn message(&self, number: u64) -> Option<&[u8]> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start..end)
    }

    fn answer<'b>(&self, request: &Request, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let (first, count) = (request.sequence.get(), u64::from(request.count.get()));
        if request.session != self.session || self.message(first).is_none() {
            return None;
        }
        let mut builder = Builder::new(buffer, self.session, first)?;
        for number in first..first.saturating_add(count) {
            let Some(message) = self.message(number) else { break };
            if !builder.push(message) {
                break;
            }
        }
        Some(builder.finish())
    }
}

/// A server on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct RerequestServer {
    archive: Arc<Mutex<Archive>>,
    answers: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RerequestServer {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn start(address: SocketAddrV4) -> io::Result<RerequestServer> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(POLL))?;
        let archive = Arc::new(Mutex::new(Archive::default()));
        let (answers, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (kept, counted, stopped) =
            (Arc::clone(&archive), Arc::clone(&answers), Arc::clone(&stop));
        let serve = move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some((to, answer)) = next_answer(&socket, &kept)
                    && socket.send_to(&answer, to).is_ok()
                {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let thread = std::thread::Builder::new().name("re-request".to_owned()).spawn(serve)?;
        Ok(RerequestServer { archive, answers, stop, thread: Some(thread) })
    }

    /// Packets sent again so far.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// A sink that keeps what it sends on for this server.
    pub fn archiving<'s, S: Sink>(&self, sink: &'s mut S) -> ArchivingSink<'s, S> {
        ArchivingSink { sink, archive: Some(Arc::clone(&self.archive)) }
    }
}

impl Drop for RerequestServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn next_answer(socket: &UdpSocket, archive: &Mutex<Archive>) -> Option<(SocketAddr, Vec<u8>)> {
    let mut request = [0; 64];
    let (len, from) = socket.recv_from(&mut request).ok()?;
    let request = Request::parse(&request[..len]).ok()?;
    let mut buffer = [0; ANSWER_MAX];
    let archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
    Some((from, archive.answer(request, &mut buffer)?.to_vec()))
}

/// Keeps what passes.
pub struct ArchivingSink<'s, S> {
    sink: &'s mut S,
    archive: Option<Arc<Mutex<Archive>>>,
}

impl<'s, S: Sink> ArchivingSink<'s, S> {
    /// Passes everything on and keeps nothing.
    pub fn passing(sink: &'s mut S) -> ArchivingSink<'s, S> {
        ArchivingSink { sink, archive: None }
    }
}

impl<S: Sink> Sink for ArchivingSink<'_, S> {
    const BATCH: usize = S::BATCH;

    fn send(&mut self, packets: &[Frame<'_>]) -> Result<Sent, SinkError> {
        if let Some(archive) = &self.archive {
            let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, payload) in packets.iter().filter_map(|packet| packet.datagram) {
                archive.keep(payload);
            }
        }
        self.sink.send(packets)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    const SESSION: [u8; 10] = *b"SESSION001";

    fn packet(first: u64, messages: &[&[u8]]) -> Vec<u8> {
        let mut buffer = [0; 1_400];
        let mut builder = Builder::new(&mut buffer, SESSION, first).unwrap();
        messages.iter().for_each(|message| assert!(builder.push(message)));
        builder.finish().to_vec()
    }

    #[test]
    fn what_was_sent_is_sent_again_as_far_as_it_fits() {
        let server = RerequestServer::start("127.0.0.1:0".parse().unwrap());
        drop(server.unwrap());
        let mut archive = Archive::default();
        archive.keep(&packet(5, &[b"five", b"six"]));
        archive.keep(&packet(5, &[b"five", b"six"]));
        archive.keep(&packet(6, &[b"six", &[7; 1_000]]));
        archive.keep(&packet(8, &[&[8; 1_000]]));
        let ask = |sequence: u64, count: u16| {
            let request =
                Request { session: SESSION, sequence: sequence.into(), count: count.into() };
            let request = request.as_bytes().to_vec();
            let mut buffer = [0; ANSWER_MAX];
            let answer = archive.answer(Request::parse(&request).unwrap(), &mut buffer)?;
            let packet = Packet::parse(answer).unwrap();
            Some((packet.sequence(), packet.next_sequence()))
        };
        assert_eq!(ask(5, 1), Some((5, 6)));
        assert_eq!(ask(6, 100), Some((6, 8)));
        assert_eq!(ask(8, 100), Some((8, 9)));
        assert_eq!((ask(4, 1), ask(9, 1)), (None, None));
    }
}
