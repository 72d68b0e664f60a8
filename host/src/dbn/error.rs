//! What can go wrong with a DBN file.

use super::census::type_name;
use std::path::PathBuf;

/// Why a DBN file cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum DbnError {
    /// It cannot be opened, or does not begin as a DBN file of a known version does.
    #[error("cannot open {path} as DBN: {what}", path = path.display(), what = sentence(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// What the `dbn` crate says.
        source: dbn::Error,
    },
    /// It is damaged, or its compressed data break off.
    #[error(
        "cannot read {path} behind record {record}: {what}",
        path = path.display(),
        what = sentence(source)
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Records that were read before.
        record: u64,
        /// What the `dbn` crate says.
        source: dbn::Error,
    },
    /// It ends inside a record.
    #[error(
        "{path} was cut: it ends inside record {}, of which {found} bytes are there",
        record + 1,
        path = path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Records that were read before.
        record: u64,
        /// Bytes of the next one that are there.
        found: u64,
    },
    /// A record is shorter than those of its type are.
    #[error(
        "{path} is damaged: record {}, of type {kind}, has {found} bytes instead of {needed}",
        record + 1,
        path = path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// Records that were read before.
        record: u64,
        /// What its type is called.
        kind: String,
        /// Bytes it has.
        found: usize,
        /// Bytes that records of its type have.
        needed: usize,
    },
    /// Another file begins where a record should.
    #[error(
        "another DBN file begins behind record {record} of {path}: files are not put together by \
         putting their bytes together",
        path = path.display()
    )]
    Joined {
        /// The file.
        path: PathBuf,
        /// Records that were read before.
        record: u64,
    },
    /// A file of one schema was needed, another was given.
    #[error(
        "{path} has records of type {kind} where {expected} is needed",
        kind = type_name(*found),
        path = path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema that is needed.
        expected: &'static str,
        /// Record type that was found.
        found: u8,
    },
    /// More instruments than the books are made for.
    #[error("more than {limit} instruments in one file")]
    Instruments {
        /// How many there may be.
        limit: u32,
    },
    /// There is no memory for the books.
    #[error("no memory for the books")]
    Memory,
}

/// What the `dbn` crate has to say, with the system's answer in words.
pub fn sentence(error: &dbn::Error) -> String {
    match error {
        dbn::Error::Io { source, context } => format!("{source} while {context}"),
        dbn::Error::Utf8 { source, context } => format!("{source} while {context}"),
        other => other.to_string(),
    }
}
