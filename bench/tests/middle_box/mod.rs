//! A box in the middle of the network, as `tc netem` on a router would be: it takes Ethernet
//! frames from the exchange and hands them to capture, each line (multicast group) with delay,
//! jitter, loss, duplication and reordering of its own, in real time and from a seed, and so the
//! re-requests and their answers. All else passes untouched, both ways. It keeps account of the
//! messages that it drops, and loses none but those.

// Each test binary uses its own part of this.
#![allow(dead_code)]

mod impairment;
mod packet_socket;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use impairment::{Account, Impairment, in_both, merged};
use impairment::{Line, messages};
use packet_socket::PacketSocket;

use crate::rig::{DOWNSTREAM, Rig, UPSTREAM};

/// Longest frame that passes: nothing on the way is to merge any.
const FRAME_BYTES: usize = 2_048;
/// Frames taken from a socket before those that are due are sent.
const BATCH: usize = 64;
/// Longest sleep, so that the end is noticed.
const NAP: Duration = Duration::from_millis(20);

/// A frame on its way: when it is due, its number among all, the socket that sends it, its bytes.
/// Numbers are unique, so frames that are due together go in the order in which they came.
type Pending = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// What the box has done so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By line.
    pub lines: Vec<Account>,
    /// Re-requests and answers.
    pub unicast: Account,
    /// Frames that wait for their time.
    pub waiting: usize,
    /// Frames that came while the kernel had no room for them: these are lost against the
    /// intention.
    pub missed: u64,
}

/// The box. It works on a thread of its own until it is dropped.
pub struct MiddleBox {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    thread: Option<JoinHandle<()>>,
}

impl MiddleBox {
    /// Joins the two pairs of [`Rig::split_network`]; `lines` are groups and what becomes of them,
    /// `unicast` is what becomes of UDP to anyone else.
    pub fn start(
        rig: &Rig,
        lines: &[(&str, Impairment)],
        unicast: Impairment,
        seed: u64,
    ) -> MiddleBox {
        let sockets = rig.in_middle(|| {
            [UPSTREAM, DOWNSTREAM].map(|name| PacketSocket::open(name).expect("a packet socket"))
        });
        let line = |((group, how), stream): (&(&str, Impairment), u64)| {
            let group = group.parse().expect("a group and a port");
            (group, Line::new(how.clone(), seed, stream))
        };
        let lines = lines.iter().zip(1..).map(line).collect();
        let unicast = Line::new(unicast, seed, 0);
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(Report::default()));
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&report));
        let thread = std::thread::Builder::new().name("middle box".to_owned()).spawn(move || {
            let pending = BinaryHeap::new();
            let mut forwarding =
                Forwarding { sockets, lines, unicast, pending, numbered: 0, missed: 0 };
            while !stopped.load(Ordering::Relaxed) {
                forwarding.turn();
                *told.lock().expect("the report") = forwarding.report();
                forwarding.wait();
            }
        });
        MiddleBox { stop, report, thread: Some(thread.expect("a thread")) }
    }

    /// What it has done so far.
    pub fn report(&self) -> Report {
        assert!(!self.thread.as_ref().is_none_or(JoinHandle::is_finished), "the box broke down");
        self.report.lock().expect("the report").clone()
    }
}

impl Drop for MiddleBox {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Why it broke down was printed then.
            let _ = thread.join();
        }
    }
}

struct Forwarding {
    /// Towards the exchange, towards capture.
    sockets: [PacketSocket; 2],
    lines: Vec<(SocketAddrV4, Line)>,
    unicast: Line,
    pending: BinaryHeap<Pending>,
    numbered: u64,
    missed: u64,
}

impl Forwarding {
    /// Takes what came, and sends what is due.
    fn turn(&mut self) {
        let mut buffer = [0; FRAME_BYTES];
        for from in 0..self.sockets.len() {
            for _ in 0..BATCH {
                let frame = self.sockets[from].receive(&mut buffer).expect("receive a frame");
                let Some(frame) = frame else { break };
                self.take(from, frame);
            }
            self.missed += u64::from(self.sockets[from].missed().expect("statistics"));
        }
        let now = Instant::now();
        while let Some(next) = self.pending.peek()
            && next.0.0 <= now
        {
            let Reverse((_, _, to, frame)) = self.pending.pop().expect("what was seen");
            // A veth that is full says so, and is emptied by the other side soon.
            while !self.sockets[to].send(&frame).expect("send a frame") {
                std::thread::yield_now();
            }
        }
    }

    fn take(&mut self, from: usize, frame: &[u8]) {
        let (now, to) = (Instant::now(), 1 - from);
        let line = datagram(frame).and_then(|(group, payload)| {
            let line = match self.lines.iter_mut().find(|line| line.0 == group) {
                Some((_, line)) => line,
                None if group.ip().is_multicast() => return None,
                None => &mut self.unicast,
            };
            // Requests have the same header as packets.
            Some((line, messages(payload)?))
        });
        let Some((line, messages)) = line else { return self.send_at(now, to, frame) };
        for delay in line.fate(messages) {
            self.send_at(now + delay, to, frame);
        }
    }

    fn send_at(&mut self, due: Instant, to: usize, frame: &[u8]) {
        self.numbered += 1;
        self.pending.push(Reverse((due, self.numbered, to, frame.to_vec())));
    }

    fn report(&self) -> Report {
        Report {
            lines: self.lines.iter().map(|(_, line)| line.account.clone()).collect(),
            unicast: self.unicast.account.clone(),
            waiting: self.pending.len(),
            missed: self.missed,
        }
    }

    /// Sleeps until a frame comes or one is due.
    fn wait(&self) {
        let due = self
            .pending
            .peek()
            .map_or(NAP, |next| next.0.0.saturating_duration_since(Instant::now()).min(NAP));
        let due = Timespec::try_from(due).expect("a short time");
        let of = |socket| PollFd::new(PacketSocket::fd(socket), PollFlags::IN);
        let [up, down] = &self.sockets;
        // Woken early or late, the next turn looks for itself.
        let _ = poll(&mut [of(up), of(down)], Some(&due));
    }
}

/// Where an IPv4 UDP datagram goes, and what it carries.
fn datagram(frame: &[u8]) -> Option<(SocketAddrV4, &[u8])> {
    let (ethernet, packet) = frame.split_at_checked(14)?;
    let header = usize::from(packet.first()? & 0xF) * 4;
    if ethernet[12..] != [0x08, 0x00] || *packet.get(9)? != 17 {
        return None;
    }
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let udp = packet.get(header..)?;
    let port = u16::from_be_bytes(udp.get(2..4)?.try_into().ok()?);
    Some((SocketAddrV4::new(address.into(), port), udp.get(8..)?))
}
