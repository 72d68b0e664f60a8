//! A GLIMPSE server: the market as it is at the moment of the login, for who joins late.
//!
//! ```text
//! client                       server
//!   L user, password  ──────►
//!                     ◄──────  A session of the live feed     or J, and the end
//!                     ◄──────  S ... states, then resting orders
//!                     ◄──────  S G number of the live feed's next message
//!                     ◄──────  Z
//! ```
//!
//! The market takes a packet in before it is sent. So a snapshot may know messages that are still
//! on their way, and its end never names one that the live feed has left behind.

pub mod market;
mod connection;

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::packet::Packet as Frame;
use super::sink::{Sent, Sink, SinkError};
use connection::Connection;
use market::Market;

/// How long a thread sleeps before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(20);
/// Clients at a time; more wait to be let in.
const CLIENTS: usize = 64;

/// How to serve.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// User and password that a login must have; any will do without.
    pub login: Option<(String, String)>,
    /// Break the connection off after so many messages of a snapshot.
    pub break_after: Option<u64>,
    /// Send so many messages of a snapshot a second; as fast as the client takes them without.
    pub rate: Option<f64>,
}

/// What the threads of a server share.
#[derive(Debug)]
struct Shared {
    market: Mutex<Market>,
    serving: Serving,
    served: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

/// A server on threads of its own, until it is dropped.
#[derive(Debug)]
pub struct GlimpseServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl GlimpseServer {
    /// Listens on `address`, for a market that is `market` now.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn start(
        address: SocketAddrV4,
        serving: Serving,
        market: Market,
    ) -> io::Result<GlimpseServer> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            market: Mutex::new(market),
            serving,
            served: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("glimpse".to_owned())
            .spawn(move || accept(&listener, &accepting))?;
        Ok(GlimpseServer { shared, address, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Snapshots that were sent to their end.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Logins that were refused.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// A sink from which the market learns what it sends on.
    pub fn watching<'s, S: Sink>(&self, sink: &'s mut S) -> WatchedSink<'s, S> {
        WatchedSink { sink, shared: Some(Arc::clone(&self.shared)) }
    }
}

impl Drop for GlimpseServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut clients: Vec<JoinHandle<()>> = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        clients.retain(|client| !client.is_finished());
        let accepted = (clients.len() < CLIENTS).then(|| listener.accept());
        let Some(Ok((stream, _))) = accepted else {
            std::thread::sleep(POLL);
            continue;
        };
        let shared = Arc::clone(shared);
        let serve = move || {
            // A client that goes away in the middle is its own affair.
            let _ = Connection::new(stream, &shared).and_then(|mut client| client.serve());
        };
        clients.extend(std::thread::Builder::new().name("glimpse client".to_owned()).spawn(serve));
    }
    for client in clients {
        let _ = client.join();
    }
}

/// Tells a market what passes.
pub struct WatchedSink<'s, S> {
    sink: &'s mut S,
    shared: Option<Arc<Shared>>,
}

impl<'s, S: Sink> WatchedSink<'s, S> {
    /// Passes everything on and tells nobody.
    pub fn passing(sink: &'s mut S) -> WatchedSink<'s, S> {
        WatchedSink { sink, shared: None }
    }
}

impl<S: Sink> Sink for WatchedSink<'_, S> {
    const BATCH: usize = S::BATCH;

    fn send(&mut self, packets: &[Frame<'_>]) -> Result<Sent, SinkError> {
        if let Some(shared) = &self.shared {
            let mut market = shared.market.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, payload) in packets.iter().filter_map(|packet| packet.datagram) {
                market.on_datagram(payload);
            }
        }
        self.sink.send(packets)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}
