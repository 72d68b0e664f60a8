//! Everything that may wait, allocate or ask the kernel, on a thread of its own beside the worker:
//! multicast membership, the ledger, heartbeat and wake-ups.

pub mod ledger;
pub mod multicast;
pub mod waker;
