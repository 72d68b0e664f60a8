//! Reads DBN files, compressed or not.

use super::DbnError;
use dbn::decode::{DbnMetadata, DecodeRecordRef, DynDecoder};
use dbn::{Mbp1Msg, Metadata, TradeMsg, VersionUpgradePolicy};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use wiretape_core::event::{MboMsg, StatusMsg, rtype};
use zerocopy::FromBytes;

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
    /// Of another type, named by its number.
    Other(u8),
}

impl DbnRecord {
    /// The number of the record's type.
    pub fn rtype(&self) -> u8 {
        match self {
            DbnRecord::Mbo(record) => record.hd.rtype,
            DbnRecord::Mbp1(record) => record.hd.rtype,
            DbnRecord::Trade(record) => record.hd.rtype,
            DbnRecord::Status(record) => record.hd.rtype,
            DbnRecord::Other(rtype) => *rtype,
        }
    }
}

/// A letter of a record of the `dbn` crate, whose characters are C's.
pub fn letter(value: std::ffi::c_char) -> u8 {
    value as u8
}

/// An open DBN file: its metadata, then, as an iterator, its records.
///
/// Versions are read as they are. A file that ends inside a record ends with an error that says
/// behind which record; after an error there is nothing more.
pub struct DbnFile {
    path: PathBuf,
    decoder: DynDecoder<'static, BufReader<File>>,
    read: u64,
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
        let opened = DynDecoder::from_file(path, VersionUpgradePolicy::AsIs);
        let decoder = opened.map_err(|source| DbnError::Open { path: path.to_owned(), source })?;
        Ok(DbnFile { path: path.to_owned(), decoder, read: 0, over: false })
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

    fn decode(&mut self) -> dbn::Result<Option<DbnRecord>> {
        let Some(record) = self.decoder.decode_record_ref()? else { return Ok(None) };
        let number = record.header().rtype;
        // Too short a record of a known type is an error; a longer one has a send time behind it.
        Ok(Some(match number {
            dbn::enums::rtype::MBP_0 => DbnRecord::Trade(record.try_get::<TradeMsg>()?.clone()),
            dbn::enums::rtype::MBP_1 => DbnRecord::Mbp1(record.try_get::<Mbp1Msg>()?.clone()),
            rtype::MBO => {
                let whole = record.try_get::<dbn::MboMsg>()?;
                match MboMsg::read_from_bytes(whole.as_ref()) {
                    Ok(ours) => DbnRecord::Mbo(ours),
                    Err(_) => DbnRecord::Other(number),
                }
            }
            rtype::STATUS => {
                let whole = record.try_get::<dbn::StatusMsg>()?;
                match StatusMsg::read_from_bytes(whole.as_ref()) {
                    Ok(ours) => DbnRecord::Status(ours),
                    Err(_) => DbnRecord::Other(number),
                }
            }
            other => DbnRecord::Other(other),
        }))
    }
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
            Ok(record) => {
                self.read += u64::from(record.is_some());
                record.map(Ok)
            }
            Err(source) => {
                Some(Err(DbnError::Read { path: self.path.clone(), record: self.read, source }))
            }
        }
    }
}
