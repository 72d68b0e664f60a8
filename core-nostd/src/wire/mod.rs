//! The formats on the wire: from the bytes of a frame to typed messages, and back.
//!
//! ```text
//!  frame ─ ethernet ─ vlan ─ ipv4 ─ udp ─► Datagram ─┬─ moldudp64 ─ itch50
//!                                                    └─ iextp ─┬─ deep10
//!  day file ─ binaryfile ─ itch50                              └─ tops16
//!  TCP stream ─ soupbintcp ─ itch50, glimpse
//! ```
//!
//! Every parser here is sans-IO and total: it takes a byte slice, borrows from it, and returns a
//! typed view or a [`Copy`] reason that a caller counts. No parser trusts a length that it has
//! not compared with the bytes that are there, and none panics on any input. A view that was
//! parsed stays valid as long as its bytes do: nothing is checked a second time.
//!
//! Structs are laid out exactly as on the wire (`repr(C)`, alignment 1, every offset asserted at
//! compile time), so that decoding costs a length check, and encoding is filling the same struct.

mod block;
mod layout;
mod reason;

pub mod text;

pub mod frame;

pub mod ethernet;
pub mod vlan;
pub mod ipv4;
pub mod udp;
pub mod checksum;

pub mod moldudp64;
pub mod soupbintcp;
pub mod binaryfile;

pub mod message;
pub mod itch50;
pub mod glimpse;

pub mod iextp;
pub mod iex;
pub mod deep10;
pub mod tops16;

pub use frame::{Datagram, FrameError};
pub use message::MessageError;
