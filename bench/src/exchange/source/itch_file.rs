//! A Nasdaq day file (BinaryFILE framing), plain or compressed with gzip or zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use wiretape_capture::source::gzip::GzipMembers;
use wiretape_core::wire::itch50::Head;
use zerocopy::FromBytes;

use super::SourceError;
use crate::exchange::framing::MessageStream;

/// Why a day file cannot be read (on).
#[derive(Debug, thiserror::Error)]
pub enum ItchFileError {
    /// It cannot be opened.
    #[error("cannot open the ITCH file {path}: {source}")]
    Open {
        /// Its path.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Reading or decompressing failed.
    #[error("cannot read the ITCH file {path} behind message {messages}: {source}")]
    Read {
        /// Its path.
        path: String,
        /// Messages read before.
        messages: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// It ends inside a message.
    #[error(
        "the ITCH file {path} ends inside message {ordinal}: it was cut, or it does not have \
         two-byte lengths in front of its messages"
    )]
    Cut {
        /// Its path.
        path: String,
        /// The message's place, from 1.
        ordinal: u64,
    },
    /// There is nothing in it.
    #[error("the ITCH file {path} holds no message")]
    Empty {
        /// Its path.
        path: String,
    },
    /// Something stands behind the mark that ends a file.
    #[error(
        "the ITCH file {path} goes on behind a length of 0, which ends such a file, behind message \
         {messages}: it is damaged, or several files in one"
    )]
    Beyond {
        /// Its path.
        path: String,
        /// Messages read before.
        messages: u64,
    },
    /// A message without the head that all have.
    #[error(
        "message {ordinal} of the ITCH file {path} has {length} bytes, and none has less than \
         12: the file does not have two-byte lengths in front of its messages"
    )]
    Short {
        /// Its path.
        path: String,
        /// The message's place, from 1.
        ordinal: u64,
        /// Its length.
        length: usize,
    },
    /// A message longer than any.
    #[error(
        "message {ordinal} of the ITCH file {path} would have {length} bytes, and none has more than \
         50: the file does not have two-byte lengths in front of its messages, or is packed otherwise \
         than by gzip or zstd"
    )]
    Long {
        /// Its path.
        path: String,
        /// The message's place, from 1.
        ordinal: u64,
        /// Its length.
        length: usize,
    },
}

/// Shortest message: a head and one byte.
const MESSAGE_MIN: usize = 12;
/// Longer than any message, with room for types to come, and shorter than what the first two bytes of
/// bzip2, lz4, xz and zip say.
const MESSAGE_MAX: usize = 1_000;

/// Zeroes behind the mark that ends a file which are looked at: more than any block that a file is
/// padded to. A device or a pipe may have no end of them.
const PADDING_MAX: usize = 64 << 20;

/// What comes next in a file.
enum Found {
    Message,
    /// One that would have so many bytes.
    Long(usize),
    End,
    /// More behind the mark that ends it.
    More,
}

/// The messages of a day file with their times.
pub struct ItchFile {
    path: String,
    reader: Box<dyn BufRead + Send>,
    midnight_ns: u64,
    messages: u64,
}

impl ItchFile {
    /// Opens a file of the day whose midnight in New York is `midnight_ns`, UTC nanoseconds.
    pub fn open(path: &Path, midnight_ns: u64) -> Result<ItchFile, ItchFileError> {
        let name = path.display().to_string();
        let opened = || -> io::Result<Box<dyn BufRead + Send>> {
            let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
            Ok(match file.fill_buf()? {
                [0x1F, 0x8B, ..] => {
                    Box::new(BufReader::with_capacity(1 << 20, GzipMembers::new(file)))
                }
                // A frame of data, or one to be skipped, as some compressors write in front. Taken as
                // a length, either's first two bytes are more than a message has.
                [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => {
                    let plain = zstd::stream::read::Decoder::with_buffer(file)?;
                    Box::new(BufReader::with_capacity(1 << 20, plain))
                }
                _ => Box::new(file),
            })
        };
        let reader =
            opened().map_err(|source| ItchFileError::Open { path: name.clone(), source })?;
        Ok(ItchFile { path: name, reader, midnight_ns, messages: 0 })
    }

    fn failed(&self, source: io::Error) -> ItchFileError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => ItchFileError::Cut { path, ordinal: self.messages + 1 },
            _ => ItchFileError::Read { path, messages: self.messages, source },
        }
    }

    fn read(&mut self, message: &mut Vec<u8>) -> io::Result<Found> {
        if self.reader.fill_buf()?.is_empty() {
            return Ok(Found::End);
        }
        let mut length = [0; 2];
        self.reader.read_exact(&mut length)?;
        let length = usize::from(u16::from_be_bytes(length));
        if length == 0 {
            // What marks the end of a file; some files just end.
            return Ok(if self.only_zeroes_follow()? { Found::End } else { Found::More });
        }
        if length > MESSAGE_MAX {
            return Ok(Found::Long(length));
        }
        message.resize(length, 0);
        self.reader.read_exact(message)?;
        Ok(Found::Message)
    }

    /// Reads on to the end of the file, or the first byte that is not padding.
    fn only_zeroes_follow(&mut self) -> io::Result<bool> {
        let mut seen = 0;
        while seen < PADDING_MAX {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(bytes.is_empty());
            }
            let len = bytes.len();
            self.reader.consume(len);
            seen += len;
        }
        Ok(true)
    }
}

impl MessageStream for ItchFile {
    fn next(&mut self, message: &mut Vec<u8>) -> Result<Option<u64>, SourceError> {
        match self.read(message).map_err(|source| self.failed(source))? {
            Found::Message => self.messages += 1,
            Found::Long(length) => {
                let (path, ordinal) = (self.path.clone(), self.messages + 1);
                return Err(ItchFileError::Long { path, ordinal, length }.into());
            }
            Found::End if self.messages == 0 => {
                return Err(ItchFileError::Empty { path: self.path.clone() }.into());
            }
            Found::End => return Ok(None),
            Found::More => {
                let (path, messages) = (self.path.clone(), self.messages);
                return Err(ItchFileError::Beyond { path, messages }.into());
            }
        }
        let head = Head::ref_from_prefix(message).ok().filter(|_| message.len() >= MESSAGE_MIN);
        let Some((head, _)) = head else {
            let (path, length) = (self.path.clone(), message.len());
            return Err(ItchFileError::Short { path, ordinal: self.messages, length }.into());
        };
        Ok(Some(self.midnight_ns + head.timestamp.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read_all(bytes: &[u8]) -> Result<Vec<(u64, usize)>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut stream = ItchFile::open(file.path(), 1_000).map_err(|e| e.to_string())?;
        let (mut all, mut message) = (Vec::new(), Vec::new());
        while let Some(at_ns) = stream.next(&mut message).map_err(|e| e.to_string())? {
            all.push((at_ns, message.len()));
        }
        Ok(all)
    }

    fn event(at_ns: u8) -> Vec<u8> {
        let mut bytes = vec![0, 12, b'S', 0, 0, 0, 0, 0, 0, 0, 0, 0, at_ns, b'O'];
        bytes.truncate(14);
        bytes
    }

    #[test]
    fn files_end_at_a_zero_length_or_where_they_end() {
        let two = [event(7), event(9)].concat();
        let expected = Ok(vec![(1_007, 12), (1_009, 12)]);
        assert_eq!(read_all(&two), expected);
        assert_eq!(read_all(&[&two[..], &[0; 2]].concat()), expected);
        // Padded to whole blocks.
        assert_eq!(read_all(&[&two[..], &[0; 5_000]].concat()), expected);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        packed.write_all(&two).unwrap();
        assert_eq!(read_all(&packed.finish().unwrap()), expected);
        // Several frames in one file, the first of which is to be skipped.
        let skipped = [0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 7, 7];
        let [first, second] =
            [event(7), event(9)].map(|one| zstd::encode_all(&one[..], 0).unwrap());
        assert_eq!(read_all(&[&first[..], &second].concat()), expected);
        assert_eq!(read_all(&[&skipped[..], &first, &second].concat()), expected);
        for empty in [vec![], vec![0; 2], zstd::encode_all(&[][..], 0).unwrap()] {
            assert!(read_all(&empty).unwrap_err().ends_with("holds no message"));
        }
    }

    #[test]
    fn zeroes_without_end_are_an_end() {
        let mut stream = ItchFile::open(Path::new("/dev/zero"), 0).unwrap();
        let error = stream.next(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("/dev/zero holds no message"), "{error}");
    }

    #[test]
    fn damage_is_told_with_its_place() {
        let packed = zstd::encode_all(&event(7).repeat(99)[..], 0).unwrap();
        let broken = read_all(&packed[..packed.len() - 1]).unwrap_err();
        assert!(broken.contains("the ITCH file"), "{broken}");
        let cut = read_all(&[event(7), event(9)].concat()[..27]).unwrap_err();
        assert!(cut.contains("inside message 2"), "{cut}");
        let beyond = read_all(&[event(7), vec![0; 2], event(9)].concat()).unwrap_err();
        assert!(beyond.contains("behind message 1: it is damaged"), "{beyond}");
        let short = read_all(&[event(7), vec![0, 3, 1, 2, 3]].concat()).unwrap_err();
        assert!(short.contains("message 2") && short.contains("3 bytes"), "{short}");
        // bzip2, lz4, xz and zip, of which there may be less than the length says.
        for start in
            [&b"BZh9"[..], &[0x04, 0x22, 0x4D, 0x18], &[0xFD, b'7', b'z', b'X'], b"PK\x03\x04"]
        {
            let packed = read_all(start).unwrap_err();
            assert!(packed.contains("message 1 of") && packed.contains("packed"), "{packed}");
        }
        let missing = ItchFile::open(Path::new("/nowhere/file"), 0).err().unwrap().to_string();
        assert!(missing.contains("/nowhere/file"), "{missing}");
    }
}
