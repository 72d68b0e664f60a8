//! Everything that may wait, allocate or ask the kernel, on a thread of its own beside the worker:
//! multicast membership, re-requests, the ledger, heartbeat and wake-ups, in the order that its
//! event loop gives. What takes longer has a thread of its own: fetching snapshots, and changing feeds.

pub mod control_socket;
pub mod event_loop;
pub mod futex;
pub mod ledger;
pub mod multicast;
pub mod recovery;
pub mod snapshot;
