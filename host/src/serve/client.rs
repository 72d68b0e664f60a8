//! Asks a host.

use crate::query::Request;
use crate::result::rows_of;
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{ArrowError, SchemaRef};
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
    Answer(#[from] ArrowError),
}

/// The batches of an answer, as they arrive. One that the host breaks off ends with an error.
pub struct Asked {
    reader: StreamReader<BufReader<UnixStream>>,
    came: u64,
}

impl Asked {
    fn new(answer: BufReader<UnixStream>) -> Result<Asked, ArrowError> {
        Ok(Asked { reader: StreamReader::try_new(answer, None)?, came: 0 })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }

    /// Said once, if rows are missing.
    fn missing(&mut self) -> Option<ArrowError> {
        let rows = rows_of(&self.reader.schema()).filter(|rows| *rows > self.came)?;
        let came = std::mem::replace(&mut self.came, rows);
        Some(ArrowError::IpcError(format!(
            "it was broken off behind {came} of its {rows} rows. The host was stopped, or says why; \
             it waits 30 s for who does not read on"
        )))
    }
}

impl Iterator for Asked {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.next() {
            Some(Ok(batch)) => {
                self.came += batch.num_rows() as u64;
                Some(Ok(batch))
            }
            None => self.missing().map(Err),
            Some(Err(error)) => {
                // What is read of half a batch depends on where it ends.
                let has_ended = self.reader.get_mut().fill_buf().is_ok_and(<[u8]>::is_empty);
                let missing = if has_ended { self.missing() } else { None };
                Some(Err(missing.unwrap_or(error)))
            }
        }
    }
}

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
        Some(_) => Ok(Asked::new(answer)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::with_rows;
    use arrow_array::UInt64Array;
    use arrow_ipc::writer::StreamWriter;
    use arrow_schema::{DataType, Field, Schema};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    /// What comes of an answer of `rows` rows that ends behind `batches` batches of two, `cut` bytes
    /// before the end of the last.
    fn asked(rows: usize, batches: usize, cut: usize) -> Vec<Result<usize, String>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let host = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            let schema = Schema::new(vec![Field::new("n", DataType::UInt64, false)]);
            let mut bytes = Vec::new();
            let mut writer = StreamWriter::try_new(&mut bytes, &with_rows(&schema, rows)).unwrap();
            for _ in 0..batches {
                let column = Arc::new(UInt64Array::from(vec![1, 2]));
                let batch = RecordBatch::try_new(schema.clone().into(), vec![column]).unwrap();
                writer.write(&batch).unwrap();
            }
            drop(writer);
            // Without its end: the connection is lost.
            (&stream).write_all(&bytes[..bytes.len() - cut]).unwrap();
        });
        let answer = ask(&path, &Request::Instruments {}).unwrap();
        let came = answer.map(|batch| batch.map(|b| b.num_rows()).map_err(|e| e.to_string()));
        let came = came.collect();
        host.join().unwrap();
        came
    }

    #[test]
    fn an_answer_that_ends_before_its_last_row_is_an_error() {
        assert_eq!(asked(4, 2, 0), [Ok(2), Ok(2)]);
        let [first, second] = asked(4, 1, 0).try_into().unwrap();
        assert_eq!(first, Ok(2));
        assert!(second.unwrap_err().contains("behind 2 of its 4 rows"));
        for (batches, cut) in [(0, 0), (1, 1), (1, 100)] {
            let said = asked(4, batches, cut);
            assert!(said[0].as_ref().unwrap_err().contains("behind 0 of its 4 rows"), "{said:?}");
        }
        assert_eq!(asked(0, 0, 0), []);
    }
}
