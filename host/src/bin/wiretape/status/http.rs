//! One page over HTTP/1.1 (RFC 9112), for scrapers: a connection asks once, gets its answer, and is
//! closed.
//!
//! Nothing that a client does may end the server or keep others from their answers. It has a thread
//! of its own, and so many bytes and so long for its question; what it says of a body is not looked at.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// How often the server looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);
/// How long a client may take to ask, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest question.
const HEAD_MAX: usize = 8 << 10;
/// Connections that are answered at once.
const CONNECTIONS_MAX: usize = 256;

/// What a client gets.
pub struct Answer {
    /// Code and reason.
    pub status: &'static str,
    /// Media type of the text.
    pub content_type: &'static str,
    /// The text.
    pub text: String,
}

/// Answers a GET of a path; also a HEAD, whose text is left away.
pub type Pages = dyn Fn(&str) -> Answer + Send + Sync;

/// A listening server.
pub struct PageServer {
    listener: TcpListener,
}

impl PageServer {
    /// Listens.
    pub fn bind(address: SocketAddr) -> io::Result<PageServer> {
        let listener = TcpListener::bind(address)?;
        // So that waiting for a client ends now and then; connections inherit it, and get their own.
        sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(LOOK))?;
        Ok(PageServer { listener })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`.
    pub fn run(&self, stop: &AtomicBool, pages: &Arc<Pages>) {
        let open = Arc::new(());
        while !stop.load(Ordering::Relaxed) {
            match self.listener.accept() {
                Ok((connection, _)) if Arc::strong_count(&open) <= CONNECTIONS_MAX => {
                    let (pages, open) = (Arc::clone(pages), Arc::clone(&open));
                    let work = move || {
                        // A client that went away is its own affair.
                        let _ = answer(connection, &*pages);
                        drop(open);
                    };
                    // Where no thread can be had the connection is closed, as with too many of them.
                    let _ = thread::Builder::new().name("answer".to_owned()).spawn(work);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // No descriptor is left, or the client left before its turn: not for ever.
                Err(_) => thread::sleep(LOOK),
            }
        }
    }
}

fn answer(mut connection: TcpStream, pages: &Pages) -> io::Result<()> {
    connection.set_write_timeout(Some(PATIENCE))?;
    let end = Instant::now() + PATIENCE;
    let head = read_head(&mut connection, end)?;
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_http = version.is_some_and(|version| version.trim_end().starts_with("HTTP/1."));
    let plain = |status, text: &str| Answer {
        status,
        content_type: "text/plain; charset=utf-8",
        text: text.to_owned(),
    };
    let answer = match (method, target) {
        (Some("GET" | "HEAD"), Some(target)) if is_http => {
            pages(target.split('?').next().unwrap_or_default())
        }
        (Some(_), Some(_)) if is_http => plain("405 Method Not Allowed", "GET or HEAD\n"),
        _ => plain("400 Bad Request", "not understood\n"),
    };
    let Answer { status, content_type, text } = answer;
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n");
    let _ = write!(bytes, "Content-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    if method != Some("HEAD") {
        bytes += &text;
    }
    connection.write_all(bytes.as_bytes())?;
    connection.shutdown(Shutdown::Write)?;
    // Closed with bytes unread, the connection is reset, which can take the answer from the client.
    let mut rest = [0; 4096];
    while read_some(&mut connection, &mut rest, end + PATIENCE)? > 0 {}
    Ok(())
}

/// What comes up to an empty line, the end, or the longest that is looked at.
fn read_head(connection: &mut TcpStream, end: Instant) -> io::Result<String> {
    let (mut head, mut length) = ([0; HEAD_MAX], 0);
    while let Some(room) = head.get_mut(length..).filter(|room| !room.is_empty()) {
        let more = read_some(connection, room, end)?;
        length += more;
        let found = head.get(..length).unwrap_or_default();
        if more == 0 || found.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            break;
        }
    }
    Ok(String::from_utf8_lossy(head.get(..length).unwrap_or_default()).into_owned())
}

fn read_some(connection: &mut TcpStream, into: &mut [u8], end: Instant) -> io::Result<usize> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    connection.set_read_timeout(Some(left))?;
    connection.read(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(server: SocketAddr, question: &str) -> String {
        let mut client = TcpStream::connect(server).unwrap();
        client.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn questions_are_answered_and_what_is_none_is_told_so() {
        let server = PageServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.address().unwrap();
        let pages: Arc<Pages> = Arc::new(|path| Answer {
            status: "200 OK",
            content_type: "text/plain",
            text: format!("at {path}"),
        });
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let running = scope.spawn(|| server.run(&stop, &pages));
            let page = asked(address, "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nat /a"));
            assert!(page.contains("\r\nContent-Length: 5\r\nConnection: close\r\n"), "{page}");
            let head = asked(address, "HEAD /a HTTP/1.0\r\n\r\n");
            assert!(head.contains("Content-Length: 5") && head.ends_with("\r\n\r\n"), "{head}");
            let body = "POST /a HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n\r\n";
            assert!(asked(address, body).starts_with("HTTP/1.1 405 "));
            assert!(asked(address, "\r\n\r\n").starts_with("HTTP/1.1 400 "));
            let endless = format!("GET /{} HTTP/1.1\r\n", "x".repeat(2 * HEAD_MAX));
            assert!(asked(address, &endless).starts_with("HTTP/1.1 400 "));
            stop.store(true, Ordering::Relaxed);
            running.join().unwrap();
        });
    }

    #[test]
    fn a_client_that_asks_nothing_or_takes_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let pages = |_: &str| Answer {
            status: "200 OK",
            content_type: "text/plain",
            text: "x".repeat(64 << 20),
        };
        let (_silent, connection) = connect();
        let error = answer(connection, &pages).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
        let (mut deaf, connection) = connect();
        deaf.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(answer(connection, &pages).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
