//! The bytes of a DBN file, compressed or not, and how many there were: the decoder takes a file
//! that was cut for one that is over.

use dbn::decode::DynReader;
use dbn::enums::Compression;
use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::Path;

/// Bytes in front of the metadata: "DBN", the version, and the metadata's length.
const PRELUDE_LEN: usize = 8;
/// Bytes by which compressed data are recognised.
const MAGIC_LEN: u64 = 4;

/// What lengths of records are counted in.
const WORD_LEN: u64 = 4;
/// Bytes of metadata that are taken for such: symbols of a million instruments take a quarter. The
/// decoder asks for memory for all of them at once.
const METADATA_MAX: u32 = 1 << 30;

/// What the decoder reads from.
pub(super) struct Input {
    reader: DynReader<'static, Chain<Cursor<Vec<u8>>, BufReader<File>>>,
    delivered: u64,
    prelude: [u8; PRELUDE_LEN],
    /// Where the next record begins, as far as the lengths of those before tell.
    next_record: u64,
    /// What came behind bytes that had to be handed over first.
    failed: Option<io::Error>,
}

impl Input {
    pub(super) fn open(path: &Path) -> dbn::Result<Input> {
        let mut file =
            File::open(path).map_err(|source| dbn::Error::io(source, "opening the file"))?;
        // A pipe may bring the first bytes one by one.
        let mut start = Vec::new();
        (&mut file)
            .take(MAGIC_LEN)
            .read_to_end(&mut start)
            .map_err(|source| dbn::Error::io(source, "reading the file"))?;
        let compression = match start[..] {
            // A frame of data, or one to be skipped, as some compressors write in front.
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        };
        let whole = Cursor::new(start).chain(BufReader::new(file));
        let reader = DynReader::with_buffer(whole, compression)?;
        Ok(Input { reader, delivered: 0, prelude: [0; PRELUDE_LEN], next_record: 0, failed: None })
    }

    /// Bytes handed over that lie behind the metadata.
    pub(super) fn records_len(&self) -> u64 {
        let metadata = PRELUDE_LEN as u64 + u64::from(self.metadata_len());
        self.delivered.saturating_sub(metadata)
    }

    fn metadata_len(&self) -> u32 {
        let [_, _, _, _, length @ ..] = self.prelude;
        u32::from_le_bytes(length)
    }

    fn check_metadata(&self) -> io::Result<()> {
        let length = self.metadata_len();
        if length <= METADATA_MAX || !self.prelude.starts_with(b"DBN") {
            return Ok(());
        }
        let text = format!("metadata of {length} bytes, at most {METADATA_MAX} are read");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// Counts `bytes`, as far as they can be handed over: up to a record whose length is no multiple
    /// of 8. The decoder takes it for granted that what follows a record is aligned.
    fn count(&mut self, bytes: &[u8]) -> usize {
        let known = self.delivered.min(PRELUDE_LEN as u64) as usize;
        for (to, from) in self.prelude[known..].iter_mut().zip(bytes) {
            *to = *from;
        }
        if self.delivered < PRELUDE_LEN as u64 {
            self.next_record = PRELUDE_LEN as u64 + u64::from(self.metadata_len());
        }
        let mut usable = bytes.len();
        while let Some(&words) = bytes.get((self.next_record - self.delivered) as usize) {
            let length = u64::from(words) * WORD_LEN;
            if !words.is_multiple_of(2) {
                usable = (self.next_record - self.delivered) as usize;
                let text = format!("a record of {length} bytes, which is no multiple of 8");
                self.failed = Some(io::Error::new(io::ErrorKind::InvalidData, text));
                break;
            }
            // One of no length at all is the decoder's to refuse.
            self.next_record += length.max(2 * WORD_LEN);
        }
        self.delivered += usable as u64;
        usable
    }
}

impl Read for Input {
    /// Fills `buffer` as far as the file goes, so that a pipe reads like a file.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && self.failed.is_none() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Taken for the end of the file by the decoder, were it of that kind.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.failed = Some(io::Error::other("the compressed data end too early"));
                }
                Err(error) => self.failed = Some(error),
            }
        }
        let filled = self.count(&buffer[..filled]);
        self.check_metadata()?;
        match self.failed.take() {
            Some(error) if filled == 0 => Err(error),
            later => {
                self.failed = later;
                Ok(filled)
            }
        }
    }
}
