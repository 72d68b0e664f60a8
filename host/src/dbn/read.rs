//! Reads DBN files, compressed or not.

use super::DbnError;
use super::census::type_name;
use super::input::Input;
use super::names::plain;
use dbn::decode::DbnMetadata;
use dbn::decode::dbn::Decoder;
use dbn::{Mbp1Msg, Metadata, Record, TradeMsg, VersionUpgradePolicy};
use std::path::{Path, PathBuf};
use wiretape_core::event::{self, Event, MboMsg, StatusMsg, rtype};

/// A record of a DBN file.
#[derive(Clone, Debug, PartialEq)]
pub enum DbnRecord {
    /// Market by order.
    Mbo(MboMsg),
    /// The best bid and offer after an event that changed them, or a trade.
    Mbp1(Mbp1Msg),
    /// A trade.
    Trade(TradeMsg),
    /// A trading status.
    Status(StatusMsg),
    /// From here on an instrument has this symbol.
    Symbol(SymbolRecord),
    /// Of another type.
    Other(OtherRecord),
}

/// What is known of a record that is not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherRecord {
    /// The number of its type.
    pub rtype: u8,
    /// Who published it.
    pub publisher_id: u16,
    /// Of which instrument it is; 0 where it is of none.
    pub instrument_id: u32,
}

impl OtherRecord {
    fn new(header: &dbn::RecordHeader) -> OtherRecord {
        let &dbn::RecordHeader { rtype, publisher_id, instrument_id, .. } = header;
        OtherRecord { rtype, publisher_id, instrument_id }
    }
}

/// What a symbol mapping record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolRecord {
    /// The instrument.
    pub instrument_id: u32,
    /// What it is called, whichever side of the mapping that stood on.
    pub symbol: String,
}

impl SymbolRecord {
    fn new(mapping: &impl dbn::compat::SymbolMappingRec) -> dbn::Result<SymbolRecord> {
        let instrument_id = mapping.instrument_id() as u32;
        let (from, to) = (mapping.stype_in_symbol()?, mapping.stype_out_symbol()?);
        // A mapping to the number says nothing that the number does not.
        let names_number = to.parse() == Ok(instrument_id) || to.is_empty();
        let symbol = plain(if names_number { from } else { to });
        Ok(SymbolRecord { instrument_id, symbol })
    }
}

impl DbnRecord {
    /// The number of the record's type.
    pub fn rtype(&self) -> u8 {
        match self {
            DbnRecord::Mbo(record) => record.hd.rtype,
            DbnRecord::Mbp1(record) => record.hd.rtype,
            DbnRecord::Trade(record) => record.hd.rtype,
            DbnRecord::Status(record) => record.hd.rtype,
            DbnRecord::Symbol(_) => dbn::enums::rtype::SYMBOL_MAPPING,
            DbnRecord::Other(record) => record.rtype,
        }
    }
}

/// A letter of a record of the `dbn` crate, whose characters are C's.
pub fn letter(value: std::ffi::c_char) -> u8 {
    value as u8
}

/// What a file begins with, and a record cannot: it would be of no known type.
const MAGIC: &[u8] = b"DBN";

/// An open DBN file: its metadata, then, as an iterator, its records.
///
/// Versions are read as they are. A file that ends inside a record, or inside its compressed data,
/// ends with an error that says behind which record; after an error there is nothing more.
pub struct DbnFile {
    path: PathBuf,
    decoder: Decoder<Input>,
    read: u64,
    /// Bytes of the records read.
    record_bytes: u64,
    over: bool,
}

impl std::fmt::Debug for DbnFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("DbnFile");
        shown.field("path", &self.path).field("read", &self.read).finish_non_exhaustive()
    }
}

impl DbnFile {
    /// Opens the file at `path`, zstd-compressed or not, and reads its metadata.
    pub fn open(path: &Path) -> Result<DbnFile, DbnError> {
        let opened = Input::open(path)
            .and_then(|input| Decoder::with_upgrade_policy(input, VersionUpgradePolicy::AsIs));
        let decoder = opened.map_err(|source| DbnError::Open { path: path.to_owned(), source })?;
        Ok(DbnFile { path: path.to_owned(), decoder, read: 0, record_bytes: 0, over: false })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its metadata says.
    pub fn metadata(&self) -> &Metadata {
        self.decoder.metadata()
    }

    /// Records read so far.
    pub fn records_read(&self) -> u64 {
        self.read
    }

    /// That this file has no records of the schema `expected`.
    pub fn unexpected(&self, expected: &'static str, record: &DbnRecord) -> DbnError {
        DbnError::Schema { path: self.path.clone(), expected, found: record.rtype() }
    }

    fn decode(&mut self) -> Result<Option<DbnRecord>, DbnError> {
        let (path, read) = (&self.path, self.read);
        let unread = |source| DbnError::Read { path: path.clone(), record: read, source };
        let Some(record) = self.decoder.decode_ref().map_err(unread)? else { return Ok(None) };
        let found = record.record_size();
        if record.as_ref().starts_with(MAGIC) {
            return Err(DbnError::Joined { path: path.clone(), record: read });
        }
        self.record_bytes += found as u64;
        let other = OtherRecord::new(record.header());
        // Too short a record of a known type is an error; a longer one has a send time behind it.
        let short = |needed| {
            let (path, kind) = (path.clone(), type_name(other.rtype));
            DbnError::Short { path, record: read, kind, found, needed }
        };
        Ok(Some(match other.rtype {
            dbn::enums::rtype::MBP_0 => {
                DbnRecord::Trade(of_type::<TradeMsg>(record).map_err(short)?.clone())
            }
            dbn::enums::rtype::MBP_1 => {
                DbnRecord::Mbp1(of_type::<Mbp1Msg>(record).map_err(short)?.clone())
            }
            rtype::MBO => {
                of_type::<dbn::MboMsg>(record).map_err(short)?;
                ours(record).map_or(DbnRecord::Other(other), DbnRecord::Mbo)
            }
            rtype::STATUS => {
                of_type::<dbn::StatusMsg>(record).map_err(short)?;
                ours(record).map_or(DbnRecord::Other(other), DbnRecord::Status)
            }
            dbn::enums::rtype::SYMBOL_MAPPING => {
                // Those of version 1 are shorter.
                let symbol = match of_type::<dbn::SymbolMappingMsg>(record) {
                    Ok(mapping) => SymbolRecord::new(mapping),
                    Err(_) => SymbolRecord::new(
                        of_type::<dbn::v1::SymbolMappingMsg>(record).map_err(short)?,
                    ),
                };
                DbnRecord::Symbol(symbol.map_err(unread)?)
            }
            _ => DbnRecord::Other(other),
        }))
    }
}

/// The record as a `T`, whose type it has; `Err` with the length of a `T` if it is shorter.
fn of_type<T: dbn::HasRType<Header = dbn::RecordHeader>>(
    record: dbn::RecordRef<'_>,
) -> Result<&T, usize> {
    record.try_get().map_err(|_| size_of::<T>())
}

/// A record whose bytes are those of one of our events, without the send time that may stand behind
/// it.
fn ours<R: event::Record>(record: dbn::RecordRef) -> Option<R> {
    let mut bytes = [0; size_of::<Event>()];
    let bytes = bytes.get_mut(..size_of::<R>())?;
    bytes.copy_from_slice(record.as_ref().get(..size_of::<R>())?);
    // The length of the whole is the first byte of each.
    bytes[0] = R::LENGTH;
    R::read_from_bytes(bytes).ok()
}

impl Iterator for DbnFile {
    type Item = Result<DbnRecord, DbnError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let decoded = self.decode();
        self.over = !matches!(decoded, Ok(Some(_)));
        match decoded {
            Ok(Some(record)) => {
                self.read += 1;
                Some(Ok(record))
            }
            // For the decoder a file that ends inside a record simply ends.
            Ok(None) => match self.decoder.get_ref().records_len().abs_diff(self.record_bytes) {
                0 => None,
                found => {
                    Some(Err(DbnError::Cut { path: self.path.clone(), record: self.read, found }))
                }
            },
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dbn::{DbnMetadata, DbnSchema, DbnVersion, DbnWriter, Tops};
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use wiretape_core::event::{RecordHeader, action, flags};

    const RECORDS: u64 = 3;

    fn whole() -> Vec<u8> {
        let metadata = DbnMetadata { dataset: "XNAS.ITCH".into(), start: 7, ..Default::default() };
        let mut bytes = Vec::new();
        let (schema, version) = (DbnSchema::Mbo, DbnVersion::default());
        let mut writer =
            DbnWriter::new(&mut bytes, &metadata, schema, version, Tops::default()).unwrap();
        for number in 0..RECORDS {
            let order = MboMsg {
                hd: RecordHeader::new::<MboMsg>(2, 13, number),
                order_id: number,
                price: 10,
                size: 100,
                flags: flags::LAST,
                channel_id: 0,
                action: action::ADD,
                side: b'B',
                ts_recv: number,
                ts_in_delta: 0,
                sequence: number as u32,
            };
            assert_eq!(writer.write(&Event::new(&order)).unwrap(), 1);
        }
        writer.finish().unwrap();
        bytes
    }

    /// The records of a file and why it ended, unless it was whole; `None` if it cannot be opened.
    fn read(path: &Path, bytes: &[u8]) -> Option<(u64, Option<DbnError>)> {
        std::fs::write(path, bytes).unwrap();
        let file = DbnFile::open(path).ok()?;
        let (mut records, mut error) = (0, None);
        for record in file {
            match record {
                Ok(_) => records += 1,
                Err(cause) => error = Some(cause),
            }
        }
        Some((records, error))
    }

    #[test]
    fn a_send_time_behind_each_record_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.dbn");
        let (plain, record) = (whole(), size_of::<MboMsg>());
        let (metadata, records) = plain.split_at(plain.len() - RECORDS as usize * record);
        let mut sent = metadata.to_vec();
        // Where version 2 says that send times are there.
        sent[52] = 1;
        for record in records.chunks(record) {
            sent.extend([&[record[0] + 2], &record[1..], &[7; 8]].concat());
        }
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            DbnFile::open(&path).unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        assert_eq!(read(&sent), read(&plain));
        assert!(read(&sent).iter().all(|record| matches!(record, DbnRecord::Mbo(_))));
    }

    /// What reading `bytes` ends with, in words.
    fn complaint(bytes: &[u8]) -> (u64, String) {
        let directory = tempfile::tempdir().unwrap();
        let (records, error) = read(&directory.path().join("x.dbn"), bytes).unwrap();
        (records, error.unwrap().to_string())
    }

    #[test]
    fn metadata_longer_than_any_are_refused_before_memory_is_asked_for() {
        let mut bytes = whole();
        bytes[4..8].fill(0xFF);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.dbn");
        std::fs::write(&path, bytes).unwrap();
        let why = DbnFile::open(&path).unwrap_err().to_string();
        assert!(why.contains("metadata of 4294967295 bytes"), "{why}");
    }

    #[test]
    fn files_put_together_byte_by_byte_are_told_apart() {
        let (records, why) = complaint(&[whole(), whole()].concat());
        assert_eq!(records, RECORDS);
        assert!(why.contains("another DBN file begins behind record 3"), "{why}");
    }

    #[test]
    fn records_of_lengths_that_none_has_are_told_with_their_lengths() {
        let (plain, record) = (whole(), size_of::<MboMsg>());
        let second = plain.len() - 2 * record;
        for (words, told) in [(6, "type mbo, has 24 bytes instead of 56"), (15, "of 60 bytes")] {
            let mut bytes = plain.clone();
            bytes[second] = words;
            let (records, why) = complaint(&bytes);
            assert_eq!(records, 1);
            assert!(why.contains(told), "{why}");
        }
    }

    #[test]
    fn a_file_that_was_cut_at_any_byte_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.dbn");
        let (bytes, record) = (whole(), size_of::<MboMsg>() as u64);
        let metadata = bytes.len() as u64 - RECORDS * record;
        for len in 0..=bytes.len() {
            let found = read(&path, &bytes[..len]);
            let Some(behind) = (len as u64).checked_sub(metadata) else {
                assert!(found.is_none(), "{len} bytes");
                continue;
            };
            let (records, error) = found.unwrap();
            assert_eq!(records, behind / record, "{len} bytes");
            match (error, behind % record) {
                (None, 0) => {}
                (Some(DbnError::Cut { record: last, found, .. }), left) => {
                    assert_eq!((last, found), (records, left));
                }
                (error, left) => panic!("{left} bytes of a record: {error:?}"),
            }
        }
    }

    #[test]
    fn frames_to_be_skipped_may_stand_in_front_of_compressed_data() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.dbn.zst");
        let skipped = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, b'a', b'b', b'c'];
        let bytes = [&skipped[..], &zstd::encode_all(&whole()[..], 0).unwrap()].concat();
        assert!(matches!(read(&path, &bytes), Some((RECORDS, None))));
    }

    #[test]
    fn a_pipe_may_bring_the_first_bytes_of_compressed_data_in_pieces() {
        let (from, mut to) = std::io::pipe().unwrap();
        let bytes = zstd::encode_all(&whole()[..], 0).unwrap();
        let (first, rest) = bytes.split_at(2);
        to.write_all(first).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
        let reader = std::thread::spawn(move || DbnFile::open(&path).map(Iterator::count));
        // Whoever looks at what is there sees two bytes by now.
        std::thread::sleep(std::time::Duration::from_millis(100));
        to.write_all(rest).unwrap();
        drop(to);
        assert_eq!(reader.join().unwrap().unwrap(), RECORDS as usize);
        drop(from);
    }

    #[test]
    fn a_compressed_file_that_was_cut_at_any_byte_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.dbn.zst");
        let bytes = zstd::encode_all(&whole()[..], 0).unwrap();
        assert!(matches!(read(&path, &bytes), Some((RECORDS, None))));
        for len in 0..bytes.len() {
            match read(&path, &bytes[..len]) {
                None | Some((_, Some(DbnError::Read { .. }))) => {}
                other => panic!("{len} of {} bytes: {other:?}", bytes.len()),
            }
        }
    }
}
