//! Everything that may wait, allocate or ask the kernel, on a thread of its own beside the worker:
//! multicast membership, re-requests, the ledger, heartbeat and wake-ups, in the order that its event loop
//! gives.

pub mod event_loop;
pub mod ledger;
pub mod multicast;
pub mod recovery;
pub mod waker;
