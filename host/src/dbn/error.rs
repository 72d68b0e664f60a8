//! What can go wrong with a DBN file.

use std::path::PathBuf;

/// Why a DBN file cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum DbnError {
    /// It cannot be opened, or does not begin as a DBN file of a known version does.
    #[error("cannot open {path} as DBN: {source}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the `dbn` crate says.
        source: dbn::Error,
    },
    /// It breaks off or is damaged.
    #[error("cannot read {path} behind record {record}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Records that were read before.
        record: u64,
        /// What the `dbn` crate says.
        source: dbn::Error,
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
