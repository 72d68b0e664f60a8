//! A capture file: classic pcap with nanoseconds, which every tool reads.
//!
//! Layout from draft-ietf-opsawg-pcap: a 24-byte header, then per packet 16 bytes (seconds,
//! nanoseconds, bytes kept, bytes sent) and the frame; little-endian here.

use std::fs::File;
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
/// `.part` behind it, so that nobody takes half a capture for a whole one.
pub struct PcapFileSink {
    part: PathBuf,
    path: PathBuf,
    file: BufWriter<File>,
    finished: bool,
}

impl PcapFileSink {
    /// Begins a file; one of that name is replaced at the end.
    pub fn create(path: &Path) -> Result<PcapFileSink, PcapFileError> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let failed = |source| PcapFileError { path: path.display().to_string(), source };
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(failed)?);
        file.write_all(&header()).map_err(failed)?;
        Ok(PcapFileSink { part, path: path.to_owned(), file, finished: false })
    }

    fn failed(&self, source: io::Error) -> PcapFileError {
        PcapFileError { path: self.path.display().to_string(), source }
    }

    fn write(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let length = packet.frame.len() as u32;
        let seconds = (packet.at_ns / 1_000_000_000) as u32;
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
        std::fs::rename(&self.part, &self.path).map_err(|source| self.failed(source))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for PcapFileSink {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to tell that it could not be removed.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}
