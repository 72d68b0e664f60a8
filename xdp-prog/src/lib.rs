//! XDP steering program and the tool that loads, replaces, inspects and removes it.
#![deny(unsafe_code)]

pub mod load;
pub mod card;
pub mod steering;
pub mod status;
pub mod group;
pub mod counters;
pub mod stamps;
pub mod mode;
pub mod interface;
pub mod pin;
pub mod bpffs;
pub mod program;
pub mod error;
#[allow(unsafe_code)]
mod user_group;
#[allow(unsafe_code)]
mod kernel;

pub use card::{CardChoice, CardStatus};
pub use counters::Counters;
pub use error::Error;
pub use group::{Group, GroupKey};
pub use load::{Load, Loaded, Pending};
pub use mode::{Mode, ModeChoice};
pub use pin::Pins;
pub use status::{State, Status};
pub use steering::{Replaced, Steering, Unloaded};

#[allow(missing_docs, unused_imports, dead_code, unsafe_code)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));

    pub mod stamps {
        include!(concat!(env!("OUT_DIR"), "/steer_stamps.skel.rs"));
    }
}
