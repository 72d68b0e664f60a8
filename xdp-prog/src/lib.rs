//! XDP steering program and the tool that loads, replaces, inspects and removes it.

pub mod counters;
pub mod error;
pub mod group;
pub mod mode;

pub use counters::Counters;
pub use error::Error;
pub use group::{Group, GroupKey};
pub use mode::Mode;

#[allow(missing_docs, unused_imports, clippy::all, clippy::undocumented_unsafe_blocks)]
#[allow(clippy::multiple_unsafe_ops_per_block)]
#[allow(dead_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}
