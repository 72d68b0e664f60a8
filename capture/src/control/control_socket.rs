//! The way in for whoever wants to change a capture that runs: a Unix datagram socket beside its
//! segment.
//!
//! ```text
//! <dir>/<worker>.control        the capture's: mode 0600, so that its own user and root alone can
//!                               send to it
//! <dir>/<worker>.reload.<pid>   the asker's, for the answer; gone when it has it, or, where it was
//!                               killed, with the next asker or capture
//! ```
//!
//! The kernel asks for write permission on the socket's file from whoever sends, and nothing else
//! is checked: who may write there may stop the capture as well. A datagram is a question or an
//! answer as a whole, in JSON.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Longest question or answer: far more than sixteen feeds take.
pub const MESSAGE_BYTES: usize = 128 << 10;
/// How long a look for a question, or for an answer, waits where nothing comes.
const LOOK: Duration = Duration::from_secs(1);
/// How long an asker may take to make room for its answer.
const HAND_OVER: Duration = Duration::from_millis(100);
/// How long an answer may take: books of many gigabytes are touched meanwhile. Less than the 90 s after
/// which systemd ends a reload without a word.
const PATIENCE: Duration = Duration::from_secs(80);

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The feeds are those of the configuration now.
    Changed {
        /// Names of those that came.
        added: Vec<String>,
        /// Names of those that went.
        removed: Vec<String>,
        /// What is not as it should be.
        warnings: Vec<String>,
    },
    /// Nothing was changed.
    Refused {
        /// Why, and what would do.
        reason: String,
    },
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer::Changed { added, removed, warnings } = self else {
            let Answer::Refused { reason } = self else { return Ok(()) };
            return f.write_str(reason);
        };
        match (&added[..], &removed[..]) {
            ([], []) => write!(f, "nothing to change: the feeds are those of the configuration")?,
            (added, []) => write!(f, "feeds added: {}", added.join(", "))?,
            ([], removed) => write!(f, "feeds removed: {}", removed.join(", "))?,
            (added, removed) => {
                let (added, removed) = (added.join(", "), removed.join(", "));
                write!(f, "feeds added: {added}; removed: {removed}")?;
            }
        }
        warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

/// Why a capture could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no capture listens on {path}: {source}; start it, or see its [worker] name",
        path = path.display()
    )]
    NobodyListens {
        /// The capture's socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The user may not.
    #[error(
        "not allowed to send to {path}: {source}; be the capture's own user, or root",
        path = path.display()
    )]
    NotAllowed {
        /// The capture's socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The asker's own socket cannot be had.
    #[error("cannot make the socket {path} for the answer: {source}", path = path.display())]
    Own {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The configuration is too long.
    #[error("the configuration has {bytes} bytes, at most {MESSAGE_BYTES} can be sent")]
    TooLong {
        /// Its length as sent.
        bytes: usize,
    },
    /// No answer came, or none that can be understood.
    #[error("no answer from the capture: {source}; `wiretape status` says which feeds it has")]
    NoAnswer {
        /// What came instead.
        source: io::Error,
    },
}

/// The capture's end. Its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl ControlSocket {
    /// The path of the socket of a worker.
    pub fn path(dir: &Path, worker: &str) -> PathBuf {
        dir.join(format!("{worker}.control"))
    }

    /// Makes the socket in place of one that an earlier capture left. The caller holds the worker's
    /// name.
    ///
    /// # Errors
    /// The file system has no room for it, or the path is too long for a socket.
    pub fn bind(path: PathBuf) -> io::Result<ControlSocket> {
        remove(&path)?;
        remove_left(&path);
        let socket = UnixDatagram::bind(&path)?;
        let socket = ControlSocket { socket, path };
        fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
        // What came before the mode was set came from anyone.
        socket.socket.set_nonblocking(true)?;
        while socket.socket.recv(&mut [0]).is_ok() {}
        socket.socket.set_nonblocking(false)?;
        socket.socket.set_read_timeout(Some(LOOK))?;
        // An asker who does not take its answer keeps the capture waiting no longer.
        socket.socket.set_write_timeout(Some(HAND_OVER))?;
        Ok(socket)
    }

    /// What ends a wait for the next question.
    pub fn waker(&self) -> io::Result<ControlWaker> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(ControlWaker { socket, path: self.path.clone() })
    }

    /// The next question and who asks; `None` if a second passes without one.
    pub fn next(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).ok()
    }

    /// Answers. An asker that is gone is its own affair.
    pub fn answer(&self, answer: &Answer, to: &SocketAddr) {
        if let Ok(text) = serde_json::to_vec(answer) {
            let _ = self.socket.send_to_addr(&text, to);
        }
    }
}

/// Ends a wait of [`ControlSocket::next`], from another thread.
#[derive(Debug)]
pub struct ControlWaker {
    socket: UnixDatagram,
    path: PathBuf,
}

impl ControlWaker {
    /// Ends the wait, with a question of no bytes.
    pub fn wake(&self) {
        // If there is no room, questions wait that end it as well.
        let _ = self.socket.send_to(&[], &self.path);
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what askers of the capture with its socket at `path` left who were killed. One that cannot
/// be removed is in nobody's way.
fn remove_left(path: &Path) {
    let (Some(dir), Some(worker)) = (path.parent(), path.file_stem()) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.as_encoded_bytes().strip_prefix(worker.as_encoded_bytes());
        let pid = pid.and_then(|rest| rest.strip_prefix(b".reload."));
        let is_asker = pid.is_some_and(|pid| pid.iter().all(u8::is_ascii_digit))
            && entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_asker && nobody_holds(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether the socket at `path` is one that nobody has open any more.
fn nobody_holds(path: &Path) -> bool {
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Sends `question` to the capture whose socket is at `path`, and waits for the answer.
pub fn ask(path: &Path, question: &impl Serialize) -> Result<Answer, AskError> {
    let message = serde_json::to_vec(question)
        .map_err(|error| AskError::NoAnswer { source: error.into() })?;
    if message.len() > MESSAGE_BYTES {
        return Err(AskError::TooLong { bytes: message.len() });
    }
    let nobody = |source| AskError::NobodyListens { path: path.to_owned(), source };
    let owner = fs::metadata(path).map_err(nobody)?;
    let not_allowed = |source| AskError::NotAllowed { path: path.to_owned(), source };
    remove_left(path);
    let own = Own::bind(path.with_extension(format!("reload.{}", std::process::id())))?;
    own.give_to(owner.uid()).map_err(not_allowed)?;
    let no_answer = |source| AskError::NoAnswer { source };
    own.socket.set_write_timeout(Some(HAND_OVER)).map_err(no_answer)?;
    own.socket.send_to(&message, path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => not_allowed(source),
        io::ErrorKind::WouldBlock => no_answer(io::Error::other("others wait for theirs already")),
        _ => nobody(source),
    })?;
    let mut buffer = vec![0; MESSAGE_BYTES];
    let is_asked = || still_listens(path, (owner.dev(), owner.ino()));
    let length = own.answer(&mut buffer, PATIENCE, is_asked).map_err(no_answer)?;
    serde_json::from_slice(&buffer[..length]).map_err(|error| no_answer(error.into()))
}

/// Whether the socket at `path` is the one that it was, and somebody has it open.
fn still_listens(path: &Path, identity: (u64, u64)) -> bool {
    let is_there = fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == identity);
    is_there && UnixDatagram::unbound().is_ok_and(|socket| socket.connect(path).is_ok())
}

/// The asker's end.
struct Own {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Own {
    fn bind(path: PathBuf) -> Result<Own, AskError> {
        let failed = |source| AskError::Own { path: path.clone(), source };
        remove(&path).map_err(failed)?;
        let own = Own { socket: UnixDatagram::bind(&path).map_err(failed)?, path: path.clone() };
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(own)
    }

    /// The length of the answer, while there is somebody to give one.
    fn answer(
        &self,
        buffer: &mut [u8],
        patience: Duration,
        is_asked: impl Fn() -> bool,
    ) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(LOOK))?;
        let (asked, mut waits) = (Instant::now(), true);
        loop {
            match self.socket.recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !waits {
                        return Err(io::Error::other("it ended meanwhile"));
                    }
                    if asked.elapsed() >= patience {
                        return Err(io::Error::other(format!(
                            "none in {} s; it may still do what it was asked, and then says so where \
                             it says when it starts",
                            patience.as_secs()
                        )));
                    }
                    // What it answered before it ended is there by the next look.
                    waits = is_asked();
                }
                received => return received,
            }
        }
    }

    /// Lets the capture, which is `owner`'s, send here. That is root's to do for others.
    fn give_to(&self, owner: u32) -> io::Result<()> {
        match fs::metadata(&self.path)?.uid() {
            mine if mine == owner => Ok(()),
            _ => chown(&self.path, Some(owner), None),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str) -> Answer {
        Answer::Refused { reason: reason.to_owned() }
    }

    #[test]
    fn a_question_is_answered_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = ControlSocket::path(dir.path(), "w");
        // One that a killed capture left is no obstacle.
        std::mem::forget(UnixDatagram::bind(&path).unwrap());
        let socket = ControlSocket::bind(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| ask(&path, &"what is new?"));
            let mut buffer = [0; 64];
            let (length, from) = socket.next(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"\"what is new?\"");
            socket.answer(&refused("nothing"), &from);
            assert_eq!(asker.join().unwrap().unwrap(), refused("nothing"));
        });
        let names = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names().collect::<Vec<_>>(), ["w.control"]);
        drop(socket);
        assert_eq!(names().count(), 0);
    }

    #[test]
    fn a_capture_that_ends_before_it_answers_is_waited_for_no_longer() {
        // Where captures have theirs: a file that takes the place of another is told from it.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = ControlSocket::path(dir.path(), "w");
        let (asked, questions) = (Instant::now(), || ControlSocket::bind(path.clone()).unwrap());
        let socket = questions();
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| ask(&path, &"what is new?"));
            assert!(socket.next(&mut [0; 64]).is_some());
            drop(socket);
            // The next one does not know of the question.
            let _next = questions();
            let text = asker.join().unwrap().unwrap_err().to_string();
            assert!(text.contains("it ended meanwhile"), "{text}");
        });
        assert!(asked.elapsed() < PATIENCE / 4, "{:?}", asked.elapsed());
    }

    #[test]
    fn a_capture_that_takes_too_long_is_waited_for_no_longer_than_systemd_does() {
        let dir = tempfile::tempdir().unwrap();
        let own = Own::bind(dir.path().join("w.reload.1")).unwrap();
        let text = own.answer(&mut [0; 8], LOOK, || true).unwrap_err().to_string();
        assert!(text.starts_with("none in 1 s; it may still do"), "{text}");
        // Of `ExecReload=`, unless the unit says otherwise.
        assert!(PATIENCE + 2 * LOOK < Duration::from_secs(90));
    }

    #[test]
    fn where_others_wait_already_an_asker_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = ControlSocket::path(dir.path(), "w");
        let _socket = ControlSocket::bind(path.clone()).unwrap();
        let crowd = UnixDatagram::unbound().unwrap();
        crowd.set_nonblocking(true).unwrap();
        while crowd.send_to(b"0", &path).is_ok() {}
        let text = ask(&path, &"what is new?").unwrap_err().to_string();
        assert!(text.contains("others wait for theirs already"), "{text}");
    }

    #[test]
    fn what_a_killed_asker_left_goes_with_the_next_asker_or_capture() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let leave = |name: &str| drop(UnixDatagram::bind(at(name)).unwrap());
        let path = ControlSocket::path(dir.path(), "w");
        leave("w.reload.17");
        let socket = ControlSocket::bind(path.clone()).unwrap();
        assert!(!at("w.reload.17").exists());
        // Neither another worker's, nor one who still waits, nor what is no socket.
        leave("w.reload.18");
        leave("w.2.reload.18");
        let waits = UnixDatagram::bind(at("w.reload.19")).unwrap();
        fs::write(at("w.reload.20"), "").unwrap();
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| ask(&path, &"what is new?"));
            let (_, from) = socket.next(&mut [0; 64]).unwrap();
            socket.answer(&refused("nothing"), &from);
            assert_eq!(asker.join().unwrap().unwrap(), refused("nothing"));
        });
        let there = ["w.reload.18", "w.2.reload.18", "w.reload.19", "w.reload.20"];
        assert_eq!(there.map(|name| at(name).exists()), [false, true, true, true]);
        drop(waits);
    }

    #[test]
    fn a_wait_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(ControlSocket::path(dir.path(), "w")).unwrap();
        let waker = socket.waker().unwrap();
        waker.wake();
        assert_eq!(socket.next(&mut [0; 8]).map(|(length, _)| length), Some(0));
    }

    #[test]
    fn without_a_capture_or_with_too_long_a_text_the_asker_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = ControlSocket::path(dir.path(), "w");
        let text = ask(&path, &"").unwrap_err().to_string();
        assert!(text.starts_with("no capture listens on ") && text.contains("w.control"), "{text}");
        let text = ask(&path, &"x".repeat(MESSAGE_BYTES)).unwrap_err().to_string();
        assert!(text.contains("has 131074 bytes"), "{text}");
        drop(UnixDatagram::bind(&path).unwrap());
        let text = ask(&path, &"").unwrap_err().to_string();
        assert!(text.starts_with("no capture listens on "), "{text}");
        // The file that was left is all that is there.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_answer_says_what_came_and_went() {
        let changed = |added: &[&str], removed: &[&str], warnings: &[&str]| {
            let names = |from: &[&str]| from.iter().map(|&name| name.to_owned()).collect();
            let (added, removed, warnings) = (names(added), names(removed), names(warnings));
            Answer::Changed { added, removed, warnings }.to_string()
        };
        assert_eq!(changed(&["a", "b"], &[], &[]), "feeds added: a, b");
        assert_eq!(changed(&[], &["c"], &["w"]), "feeds removed: c\nwarning: w");
        assert_eq!(changed(&["a"], &["c"], &[]), "feeds added: a; removed: c");
        assert!(changed(&[], &[], &[]).starts_with("nothing to change"));
    }
}
