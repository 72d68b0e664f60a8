//! What can go wrong with a DBN file.

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
    /// A file of one schema was needed, another was given.
    #[error("{path} has records of type {found:#04x} where {expected} is needed", path = path.display())]
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
        other => other.to_string(),
    }
}
