//! One client of a GLIMPSE server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wiretape_core::wire::soupbintcp::{
    HEARTBEAT_INTERVAL_S, LoginAccepted, LoginRejected, LoginRequest, Packet, Packets,
    SILENCE_MAX_S,
};
use wiretape_core::wire::text;

use super::{POLL, Shared};

/// Longest packet that is sent: an ITCH message with room to spare.
const PACKET_MAX: usize = 128;
/// Most bytes that a client may send before its login is complete.
const LOGIN_MAX: usize = 1_024;
/// How long a client has to close the connection after the end of the session.
const FAREWELL: Duration = Duration::from_secs(2);

const SILENCE_MAX: Duration = Duration::from_secs(SILENCE_MAX_S);

pub struct Connection<'s> {
    stream: TcpStream,
    shared: &'s Shared,
}

impl<'s> Connection<'s> {
    pub fn new(stream: TcpStream, shared: &'s Shared) -> io::Result<Connection<'s>> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL))?;
        stream.set_write_timeout(Some(POLL))?;
        Ok(Connection { stream, shared })
    }

    /// From the login to the end of the session.
    pub fn serve(&mut self) -> io::Result<()> {
        let login = self.login()?;
        let (accepted, snapshot, whole) = match self.answer(&login) {
            Ok(answer) => answer,
            Err(reason) => {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                let refusal = LoginRejected { kind: LoginRejected::KIND, reason };
                self.send(&emitted(Packet::LoginRejected(&refusal)))?;
                return self.part();
            }
        };
        self.send(&emitted(Packet::LoginAccepted(&accepted)))?;
        self.tell(&snapshot)?;
        if !whole {
            return self.stream.shutdown(Shutdown::Both);
        }
        self.send(&emitted(Packet::EndOfSession))?;
        self.shared.served.fetch_add(1, Ordering::Relaxed);
        self.part()
    }

    /// The market as of now, in packets, and whether that is all of it; or why the login is
    /// refused.
    fn answer(&self, login: &LoginRequest) -> Result<(LoginAccepted, Vec<u8>, bool), u8> {
        let serving = &self.shared.serving;
        if let Some((user, password)) = &serving.login {
            let right = login.user == text::padded::<6>(user.as_bytes())
                && login.password == text::padded::<10>(password.as_bytes());
            if !right {
                return Err(b'A');
            }
        }
        let market = self.shared.market.lock().unwrap_or_else(PoisonError::into_inner);
        if !login.wants_current_session() && login.session != market.session() {
            return Err(b'S');
        }
        let (mut packets, mut told) = (Vec::new(), 0_u64);
        let limit = serving.break_after.unwrap_or(u64::MAX);
        let messages = market.snapshot(|message| {
            if told < limit {
                packets.extend(emitted(Packet::Sequenced(message)));
            }
            told += 1;
        });
        // Each snapshot is a stream of its own, numbered from 1.
        Ok((LoginAccepted::new(market.session(), 1), packets, messages <= limit))
    }

    /// Waits for the client's login.
    fn login(&mut self) -> io::Result<LoginRequest> {
        let end = Instant::now() + SILENCE_MAX;
        let mut received = Vec::new();
        while Instant::now() < end && received.len() < LOGIN_MAX {
            let mut bytes = [0; 256];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => received.extend_from_slice(&bytes[..length]),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
            let login = Packets::new(&received).find_map(|packet| match Packet::parse(packet) {
                Ok(Packet::LoginRequest(login)) => Some(*login),
                _ => None,
            });
            if let Some(login) = login {
                return Ok(login);
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Err(ErrorKind::TimedOut.into())
    }

    /// Sends a snapshot, at once or at the pace wanted, with heartbeats in between.
    fn tell(&mut self, packets: &[u8]) -> io::Result<()> {
        let Some(rate) = self.shared.serving.rate else { return self.send(packets) };
        let (start, mut last) = (Instant::now(), Instant::now());
        for (number, packet) in (0_u32..).zip(Packets::new(packets)) {
            let due = start + Duration::from_secs_f64(f64::from(number) / rate.max(1e-3));
            while let Some(left) = due.checked_duration_since(Instant::now())
                && !left.is_zero()
            {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return Err(ErrorKind::Interrupted.into());
                }
                if last.elapsed() >= Duration::from_secs(HEARTBEAT_INTERVAL_S) {
                    self.send(&emitted(Packet::ServerHeartbeat))?;
                    last = Instant::now();
                }
                std::thread::sleep(left.min(POLL));
            }
            self.send(&(packet.len() as u16).to_be_bytes())?;
            self.send(packet)?;
            last = Instant::now();
        }
        Ok(())
    }

    /// Sends all of `bytes`, at the client's pace: one that takes nothing for too long is gone.
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut progress = Instant::now();
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => {
                    bytes = &bytes[length..];
                    progress = Instant::now();
                }
                Err(error) if is_timeout(&error) => {
                    let stopped = self.shared.stop.load(Ordering::Relaxed);
                    if stopped || progress.elapsed() >= SILENCE_MAX {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lets the client close first. To close on what it still sends (heartbeats, its logout)
    /// would reset the connection, and could take away what it has not read yet.
    fn part(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let end = Instant::now() + FAREWELL;
        let mut bytes = [0; 256];
        while Instant::now() < end && !self.shared.stop.load(Ordering::Relaxed) {
            match self.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Both kinds are what systems say when a socket's time is up.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn emitted(packet: Packet<'_>) -> Vec<u8> {
    let mut buffer = [0; PACKET_MAX];
    let length = packet.emit(&mut buffer).unwrap_or(0);
    buffer[..length].to_vec()
}
