//! Feeds: from a datagram's payload to events. One session tracker for all protocols, one
//! translator each.

pub mod session;
