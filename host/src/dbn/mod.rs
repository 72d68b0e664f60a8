//! Databento's DBN files, versions 1 to 3: market-by-order (MBO), MBP-1 and trades, in and out.
//!
//! ```text
//!  FILE.dbn, FILE.dbn.zst ──read──► records ──► compare: is the book of MBO what MBP-1 shows?
//!  the event ring ──write──► FILE.dbn
//! ```
//!
//! Files are decoded, and metadata and most records are written, by the `dbn` crate. Records of these three
//! schemas are the same bytes in all three versions, so that a version is a matter of the metadata
//! alone. MBO records are [`MboMsg`](wiretape_core::event::MboMsg), the very bytes of our events.
//! Version 4, which widens the record header, is refused with the crate's own words.

mod error;
mod input;
mod read;
mod names;
mod census;
mod compare;
mod tops;
mod write;

pub use census::Census;
pub use compare::{Comparison, Difference, compare};
pub use error::{DbnError, sentence};
pub use names::DbnNames;
pub use read::{DbnFile, DbnRecord, OtherRecord, SymbolRecord, letter};
pub use tops::{Tops, TopsMemory};
pub use write::{DbnMetadata, DbnSchema, DbnVersion, DbnWriter, dataset_of};
