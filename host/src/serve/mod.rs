//! Serves queries on a Unix socket.
//!
//! A client sends one request a line, JSON ([`crate::query::Request`]). It gets, for each, either
//! an Arrow IPC stream, whose schema metadata holds the coverage, or one line of JSON
//! `{"error":"…"}`. The first byte tells which: a stream begins with `0xFF`.
//!
//! Each client has a thread of its own and sees a snapshot of the columns, so that a client that
//! reads slowly keeps nobody waiting: not the ring, not the other clients. There is an upper
//! bound to clients, to the length of a request, to the rows of an answer, and to the time that
//! an answer may take.

pub mod socket;
pub mod client;
pub mod hosting;
mod tape_names;

pub use client::{Asked, ClientError, ask};
pub use hosting::{Hosted, Notices, Segments};
pub use socket::{Claim, ClaimError, client_socket_path, default_socket_path};

use crate::ingest::SharedStore;
use crate::query::{Request, execute};
use crate::result::build::Answer;
use crate::result::with_rows;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a request line at most.
const REQUEST_MAX: u64 = 64 * 1024;
/// Bytes of a longer one that are read and forgotten.
const REST_MAX: u64 = 16 << 20;
/// How long a client may keep the host waiting for the rest of a line, or for room to write.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may take to be fetched.
const ANSWER_TIME: Duration = Duration::from_secs(600);

/// What bounds the service.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients at one time.
    pub clients: usize,
    /// Rows of an answer.
    pub rows: usize,
}

/// What a client thread needs.
#[derive(Clone, Debug)]
pub struct Service {
    hosted: Arc<Hosted>,
    limits: Limits,
    clients: Arc<AtomicUsize>,
}

impl Service {
    /// A service over the stores of `hosted`.
    pub fn new(hosted: Arc<Hosted>, limits: Limits) -> Service {
        Service { hosted, limits, clients: Arc::new(AtomicUsize::new(0)) }
    }

    /// Serves a client on a thread of its own; one too many is told so.
    pub fn admit(&self, mut stream: UnixStream) {
        if self.clients.fetch_add(1, Ordering::AcqRel) >= self.limits.clients {
            let limit = self.limits.clients;
            let text = format!(
                "the host serves {limit} clients at once and has that many: try again later, or \
                 start it with a larger --clients-max"
            );
            let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
            let _ = refuse(&mut stream, &text);
            self.clients.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let (service, place) = (self.clone(), Place(self.clients.clone()));
        let spawned = std::thread::Builder::new().name("client".into()).spawn(move || {
            let _place = place;
            // A client that goes away in the middle is no event worth a word.
            if let Err(error) = service.serve(stream)
                && !is_the_client_s(&error)
            {
                service.hosted.notice(&format!("an answer was broken off: {error}"));
            }
        });
        if let Err(error) = spawned {
            self.hosted.notice(&format!("cannot start a thread for a client: {error}"));
        }
    }

    fn serve(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut out = stream;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(REQUEST_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            if !line.ends_with(b"\n") && read as u64 == REQUEST_MAX {
                refuse(&mut out, &format!("a request is longer than {REQUEST_MAX} bytes"))?;
                // Closed with bytes unread, the connection is reset, and the client never told.
                out.shutdown(Shutdown::Write)?;
                return io::copy(&mut lines.take(REST_MAX), &mut io::sink()).map(drop);
            }
            let stores: Vec<SharedStore> = self.hosted.stores();
            let answer = Request::parse(&line)
                .map_err(|error| format!("the request is not understood: {error}"))
                .and_then(|request| {
                    execute(&stores, &request, self.limits.rows).map_err(|error| error.to_string())
                });
            match answer {
                Ok(answer) => send(&mut out, answer)?,
                Err(text) => refuse(&mut out, &text)?,
            }
        }
    }
}

/// A client's place, given back also if its thread panics.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether a connection ended because the client went away, or kept the host waiting.
fn is_the_client_s(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, WouldBlock};
    matches!(error.kind(), BrokenPipe | ConnectionReset | TimedOut | WouldBlock)
}

fn refuse(out: &mut UnixStream, text: &str) -> io::Result<()> {
    let line = format!("{}\n", serde_json::json!({ "error": text }));
    out.write_all(line.as_bytes())
}

fn send(out: &mut UnixStream, answer: Answer) -> io::Result<()> {
    let begun = Instant::now();
    let arrow = |error| match error {
        ArrowError::IoError(_, source) => source,
        other => io::Error::other(other),
    };
    let schema = with_rows(&answer.schema, answer.rows);
    let mut writer = StreamWriter::try_new(BufWriter::new(out), &schema).map_err(arrow)?;
    for batch in answer.batches {
        if begun.elapsed() > ANSWER_TIME {
            return Err(io::ErrorKind::TimedOut.into());
        }
        writer.write(&batch.map_err(arrow)?).map_err(arrow)?;
    }
    writer.finish().map_err(arrow)?;
    writer.into_inner().map_err(arrow)?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::IngestSettings;
    use crate::store::Budget;

    #[test]
    fn what_is_no_request_is_answered_by_a_line_that_says_so() {
        let (none, budget) = (Segments::Paths(Vec::new()), Arc::new(Budget::new(1 << 20)));
        let notices: Notices = Arc::new(|text| panic!("{text}"));
        let hosted = Hosted::new(none, budget, IngestSettings::default(), notices);
        let service = Service::new(Arc::new(hosted), Limits { clients: 1, rows: 1 });
        for (request, expected) in [
            (b"\xff\xfe\n".to_vec(), "the request is not understood"),
            (vec![b'x'; 3 * REQUEST_MAX as usize], "a request is longer than 65536 bytes"),
        ] {
            let (mut client, host) = UnixStream::pair().unwrap();
            let answer = std::thread::scope(|scope| {
                let served = scope.spawn(|| service.serve(host));
                client.write_all(&request).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                served.join().unwrap().unwrap();
                answer
            });
            assert!(answer.starts_with("{\"error\":") && answer.contains(expected), "{answer}");
        }
    }
}
