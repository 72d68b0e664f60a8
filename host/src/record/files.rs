//! The file that a recording goes to, and when the next one begins.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::RecordError;
use super::output::{Output, PIECE, WriterGone};

/// How long bytes may stay in a piece that is not full.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// When a new file begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Before it grows beyond so many bytes, compression left aside.
    pub bytes: Option<u64>,
    /// At multiples of this since 1970 UTC: every hour on the hour.
    pub every: Option<Duration>,
}

/// Why a recording stops early.
pub(super) enum End {
    /// The writer thread ended; it says why.
    WriterGone,
    Failed(RecordError),
}

impl From<WriterGone> for End {
    fn from(_: WriterGone) -> End {
        End::WriterGone
    }
}

impl<E: Into<RecordError>> From<E> for End {
    fn from(error: E) -> End {
        End::Failed(error.into())
    }
}

/// A file that is being written.
struct OpenFile {
    bytes: u64,
    /// Which multiple of the rotation's period it belongs to.
    period: u64,
}

/// Files one behind the other.
pub(super) struct Files {
    worker: String,
    rotation: Rotation,
    output: Output,
    piece: Vec<u8>,
    /// Packets that end in the piece.
    packets: u64,
    open: Option<OpenFile>,
    flushed: Instant,
}

impl Files {
    /// Files of `worker` that go to `output`.
    pub fn new(worker: String, rotation: Rotation, output: Output) -> Files {
        let (piece, flushed) = (output.piece(), Instant::now());
        Files { worker, rotation, output, piece, packets: 0, open: None, flushed }
    }

    /// The worker whose recordings these are.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Whether a file is being written.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the file that is being written ends before a packet of `len` bytes received at
    /// `time_ns`.
    pub fn ends_before(&self, time_ns: u64, len: usize) -> bool {
        let period = self.period(time_ns);
        self.open.as_ref().is_some_and(|file| {
            let full = |most| file.bytes.saturating_add(len as u64) > most;
            // One of the period just before comes late, as cards' clocks differ: it stays in this
            // file. Of an earlier one, somebody set the clock back.
            let other = period > file.period || period.saturating_add(1) < file.period;
            other || self.rotation.bytes.is_some_and(full)
        })
    }

    /// Whether the period of the file that is being written is over at `now_ns`, although no
    /// packet says so. Packets on their way may still belong to the one that has just ended.
    pub fn ends_in_silence(&self, now_ns: u64) -> bool {
        let now = self.period(now_ns);
        self.open.as_ref().is_some_and(|file| now > file.period.saturating_add(1))
    }

    /// Begins a file whose first packet was received at `time_ns`.
    pub fn begin(&mut self, time_ns: u64) -> Result<(), End> {
        self.output.begin(format!("{}-{}", self.worker, file_time(time_ns)))?;
        self.open = Some(OpenFile { bytes: 0, period: self.period(time_ns) });
        Ok(())
    }

    /// Appends a packet, which `write` does.
    pub fn append_packet(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), RecordError>,
    ) -> Result<(), End> {
        self.packets += 1;
        self.append(write)
    }

    /// Appends what `write` appends.
    pub fn append<T>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, RecordError>,
    ) -> Result<T, End> {
        let before = self.piece.len();
        let result = write(&mut self.piece)?;
        if let Some(file) = &mut self.open {
            file.bytes += (self.piece.len() - before) as u64;
        }
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(result)
    }

    /// Ends the file.
    pub fn end(&mut self) -> Result<(), End> {
        if self.open.take().is_some() {
            self.flush()?;
            self.output.end()?;
        }
        Ok(())
    }

    /// Hands over what has waited for long.
    pub fn flush_if_due(&mut self, now: Instant) -> Result<(), End> {
        match now.duration_since(self.flushed) >= FLUSH_EVERY {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), End> {
        self.flushed = Instant::now();
        if !self.piece.is_empty() {
            let full = std::mem::replace(&mut self.piece, self.output.piece());
            self.output.write(full, std::mem::take(&mut self.packets))?;
        }
        Ok(())
    }

    /// The way to the disk, to wait until everything is there.
    pub fn into_output(self) -> Output {
        self.output
    }

    fn period(&self, time_ns: u64) -> u64 {
        let every = self.rotation.every.map_or(0, |every| every.as_nanos() as u64);
        time_ns.checked_div(every).unwrap_or(0)
    }
}

/// A time as it stands in a file's name: `20261127T061532.123456789Z`.
fn file_time(time_ns: u64) -> String {
    match Timestamp::from_nanosecond(i128::from(time_ns)) {
        Ok(time) => format!("{}", time.strftime("%Y%m%dT%H%M%S.%9fZ")),
        Err(_) => time_ns.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::super::output::{Compression, WhenFull};
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn files(dir: &std::path::Path, rotation: Rotation) -> Files {
        let stop = Arc::new(AtomicBool::new(false));
        let compression = Compression::None;
        let output = Output::start(dir, "w", compression, None, WhenFull::End, &stop, 1).unwrap();
        Files::new("w".to_owned(), rotation, output)
    }

    #[test]
    fn a_late_packet_of_the_hour_before_begins_no_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let every = Some(Duration::from_secs(3_600));
        let mut files = files(dir.path(), Rotation { bytes: None, every });
        assert!(!files.ends_before(0, 1), "there is none yet");
        assert!(files.begin(500 * HOUR + 1).is_ok());
        assert!(!files.ends_before(501 * HOUR - 1, 1));
        assert!(files.ends_before(501 * HOUR, 1));
        assert!(!files.ends_before(500 * HOUR - 1, 1), "late");
        assert!(files.ends_before(499 * HOUR - 1, 1), "the clock was set back");
    }

    #[test]
    fn a_file_ends_before_it_would_be_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = files(dir.path(), Rotation { bytes: Some(10), every: None });
        assert!(files.begin(1).is_ok());
        assert!(!files.ends_before(u64::MAX, 10) && files.ends_before(2, 11));
        let appended = files.append(|out| {
            out.extend([0; 6]);
            Ok(())
        });
        assert!(appended.is_ok());
        assert!(!files.ends_before(2, 4) && files.ends_before(2, 5));
    }
}
