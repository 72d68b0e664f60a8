//! A capture file: classic pcap with nanoseconds, which every tool reads.
//!
//! Layout from draft-ietf-opsawg-pcap: a 24-byte header, then per packet 16 bytes (seconds,
//! nanoseconds, bytes kept, bytes sent) and the frame; little-endian here.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Sent, Sink, SinkError};
use crate::exchange::packet::Packet;

const MAGIC_NANOSECONDS: u32 = 0xA1B2_3C4D;
const SNAP_LENGTH: u32 = 262_144;
const LINKTYPE_ETHERNET: u32 = 1;

/// Why a capture cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the capture {path}: {source}")]
pub struct PcapFileError {
    path: String,
    source: io::Error,
}

/// Writes packets to a file. Until [`Sink::finish`] the file has the name that it will have with
/// `.part` behind it, so that nobody takes half a capture for a whole one. What is there and no
/// file (a pipe, a device) is written to as it is.
pub struct PcapFileSink {
    /// The name until then, unless the file is written in place.
    part: Option<PathBuf>,
    path: PathBuf,
    file: BufWriter<File>,
}

impl PcapFileSink {
    /// Begins a file; one of that name is replaced at the end.
    pub fn create(path: &Path) -> Result<PcapFileSink, PcapFileError> {
        let failed = |source| PcapFileError { path: path.display().to_string(), source };
        let in_place = fs::metadata(path).is_ok_and(|there| !there.is_file());
        // A link stays one: what it leads to is replaced.
        let path = match in_place {
            true => path.to_owned(),
            false => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        };
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = (!in_place).then(|| PathBuf::from(name));
        let file = match &part {
            Some(part) => File::create(part),
            None => File::options().write(true).open(&path),
        };
        let mut file = BufWriter::with_capacity(1 << 20, file.map_err(failed)?);
        file.write_all(&header()).map_err(failed)?;
        Ok(PcapFileSink { part, path, file })
    }

    fn failed(&self, source: io::Error) -> PcapFileError {
        PcapFileError { path: self.path.display().to_string(), source }
    }

    fn write(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let length = packet.frame.len() as u32;
        let Ok(seconds) = u32::try_from(packet.at_ns / 1_000_000_000) else {
            return Err(io::Error::other(
                "a packet is of a time behind 2106-02-07 06:28:15 UTC, to which classic pcap counts",
            ));
        };
        let nanoseconds = (packet.at_ns % 1_000_000_000) as u32;
        for word in [seconds, nanoseconds, length, length] {
            self.file.write_all(&word.to_le_bytes())?;
        }
        self.file.write_all(packet.frame)
    }
}

fn header() -> [u8; 24] {
    let mut header = [0; 24];
    header[0..4].copy_from_slice(&MAGIC_NANOSECONDS.to_le_bytes());
    header[4..6].copy_from_slice(&2u16.to_le_bytes());
    header[6..8].copy_from_slice(&4u16.to_le_bytes());
    header[16..20].copy_from_slice(&SNAP_LENGTH.to_le_bytes());
    header[20..24].copy_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
    header
}

impl Sink for PcapFileSink {
    const BATCH: usize = 64;

    fn send(&mut self, packets: &[Packet<'_>]) -> Result<Sent, SinkError> {
        let mut sent = Sent::default();
        for packet in packets {
            self.write(packet).map_err(|source| self.failed(source))?;
            sent.count(packet, packet.frame.len());
        }
        Ok(sent)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.file.flush().map_err(|source| self.failed(source))?;
        if let Some(part) = &self.part {
            fs::rename(part, &self.path).map_err(|source| self.failed(source))?;
        }
        self.part = None;
        Ok(())
    }
}

impl Drop for PcapFileSink {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            // Nobody is left to tell that it could not be removed.
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileTypeExt, symlink};

    fn finished(path: &Path) {
        let mut sink = PcapFileSink::create(path).unwrap();
        sink.finish().unwrap();
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (path, part) = (folder.path().join("x.pcap"), folder.path().join("x.pcap.part"));
        let sink = PcapFileSink::create(&path).unwrap();
        assert_eq!((path.exists(), part.exists()), (false, true));
        drop(sink);
        assert_eq!((path.exists(), part.exists()), (false, false));
        finished(&path);
        assert_eq!((fs::read(&path).unwrap(), part.exists()), (header().to_vec(), false));
        // Through a link it is the file that is replaced.
        let link = folder.path().join("link.pcap");
        symlink(&path, &link).unwrap();
        fs::write(&path, "before").unwrap();
        finished(&link);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), header());
    }

    #[test]
    fn a_time_that_the_format_has_no_room_for_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pcap");
        let mut sink = PcapFileSink::create(&path).unwrap();
        let mut packet = |seconds: u64| {
            let at_ns = seconds * 1_000_000_000;
            sink.send(&[Packet { at_ns, frame: &[0; 60], datagram: None, messages: 0 }])
        };
        packet(u32::MAX.into()).unwrap();
        let error = packet(u64::from(u32::MAX) + 1).unwrap_err().to_string();
        assert!(error.contains("2106") && error.contains("x.pcap"), "{error}");
    }

    /// Put in place by its name, a capture would take the place of a device, such as /dev/null.
    #[test]
    fn what_is_no_file_is_written_to_and_stays_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is a string with a NUL behind it.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path).unwrap()
        });
        finished(&path);
        assert_eq!(reader.join().unwrap(), header());
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        let refused = PcapFileSink::create(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("Is a directory"), "{refused}");
    }
}
