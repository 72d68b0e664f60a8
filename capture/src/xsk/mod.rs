//! AF_XDP sockets for receiving, over nothing but `libc`.
//!
//! ```text
//!            UMEM: memory that the caller hands in, cut into frames of equal size
//!   ┌─────────┬─────────┬─────────┬─────────┬─────────┬─────────┐
//!   │ frame 0 │ frame 1 │ frame 2 │   ...   │         │         │
//!   └─────────┴─────────┴─────────┴─────────┴─────────┴─────────┘
//!        │ addresses of empty frames              ▲ the driver (or the kernel, copying) writes
//!        ▼                                        │ packets into them
//!   fill ring  (we produce) ─────────────────► kernel
//!   RX ring    (we consume) ◄───────────────── kernel: address, length
//!        └── after the callback has seen a frame, its address goes back to the fill ring
//! ```
//!
//! A frame is at any time in exactly one place: the fill ring, the kernel, the RX ring, or the
//! callback's hands (or, with recorders, the latest frames kept for them). The fill ring is twice
//! the RX ring and holds every frame of the UMEM at once, so putting a frame back can never fail.
//!
//! - Ring indices are free-running `u32` that wrap; the distance of two of them is meaningful,
//!   their order is not.
//! - The producer's index is stored with release and loaded with acquire, and so is the
//!   consumer's: the partners are the kernel's `smp_load_acquire` and `smp_store_release` in
//!   `net/xdp/xsk_queue.h`.
//! - A wake-up system call is made only when the kernel asks for it (`XDP_USE_NEED_WAKEUP`).
//! - Packets of several frames (`XDP_USE_SG`) are asked for where the interface's MTU needs them,
//!   for a driver may then have no zero-copy. They are put together in memory of the socket's, and
//!   one that is too long for that is dropped whole and counted.
//! - The XDP program may write something in front of a packet (`bpf_xdp_adjust_meta`), which comes
//!   along, copied or not: it ends where the descriptor's address begins. No length is told.
//!
//! Source of the interface: `Documentation/networking/af_xdp.rst` and `if_xdp.h` of the kernel.

mod assembly;
mod custody;
mod error;
mod interface;
mod memory;
mod retention;
mod ring;
mod socket;
mod umem;

pub use error::OpenError;
pub use memory::{HugePages, Memory, MemoryError};
pub use retention::Retention;
pub use socket::{
    BindMode, BusyPoll, Granted, ReceiveTime, Received, Statistics, StatisticsHandle, XskOptions,
    XskSocket, wait_any,
};
pub use umem::{FRONT_WORDS, Umem, UmemError};
