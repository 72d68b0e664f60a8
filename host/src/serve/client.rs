//! Asks a host.

use crate::query::Request;
use arrow_ipc::reader::StreamReader;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no host answers on {path} ({source}): is wiretape-host running? Another place is named \
         with --socket", path = path.display()
    )]
    NoHost {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The connection broke.
    #[error("lost the host on {path}: {source}", path = path.display())]
    Lost {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The host refused.
    #[error("{0}")]
    Refused(String),
    /// The answer is not Arrow.
    #[error("the host's answer cannot be read: {0}")]
    Answer(#[from] arrow_schema::ArrowError),
}

/// The batches of an answer, as they arrive.
pub type Asked = StreamReader<BufReader<UnixStream>>;

/// Sends `request` to the host at `path` and returns its answer.
pub fn ask(path: &Path, request: &Request) -> Result<Asked, ClientError> {
    let lost = |source: io::Error| ClientError::Lost { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path)
        .map_err(|source| ClientError::NoHost { path: path.to_owned(), source })?;
    let mut line = serde_json::to_string(request).map_err(|error| lost(error.into()))?;
    line.push('\n');
    let sent = stream.write_all(line.as_bytes());
    let mut answer = BufReader::new(stream);
    // A host that refuses says so before it reads, and closes: look for its words first.
    let first = answer.fill_buf().map_err(|error| lost(sent.err().unwrap_or(error)))?;
    match first.first() {
        None => Err(lost(io::ErrorKind::UnexpectedEof.into())),
        Some(b'{') => {
            let mut text = String::new();
            answer.read_line(&mut text).map_err(lost)?;
            let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let text = value.get("error").and_then(|error| error.as_str()).unwrap_or(&text);
            Err(ClientError::Refused(text.to_owned()))
        }
        Some(_) => Ok(StreamReader::try_new(answer, None)?),
    }
}
