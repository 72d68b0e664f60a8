//! The exchange: packets from a capture, an ITCH file or the simulator, played at a pace.
//!
//! ```text
//! source ── batches of frames, built ahead by a thread ──► player ──► sink
//!  capture file        line B, heartbeats,                  pace       UDP socket
//!  ITCH file           end of session                                  live frames
//!  simulator                                                           pcap file
//! ```
//!
//! Every packet is a whole Ethernet frame from the start, so that all sinks send the same bytes:
//! the socket takes the payload out of it, the others the frame.

pub mod packet;
pub mod source;
pub mod framing;
pub mod ahead;
pub mod pace;
pub mod sink;
pub mod player;
pub mod rerequest;
pub mod glimpse;
pub mod interface;
