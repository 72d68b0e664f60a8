//! Everything that may wait, allocate or ask the kernel, on a thread of its own beside the worker:
//! multicast membership, re-requests, the ledger, heartbeat and wake-ups, in the order that its event
//! loop gives. Snapshots alone, which take seconds, are fetched on a thread of their own.

pub mod event_loop;
pub mod ledger;
pub mod multicast;
pub mod recovery;
pub mod snapshot;
pub mod waker;
