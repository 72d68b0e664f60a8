//! Feeds: from a datagram's payload to events. One session tracker and one set of counters for
//! all protocols, one translator each.

pub mod session;
pub mod trading_day;
pub mod publisher;
pub mod channel;
pub mod depth;
pub mod holes;
pub mod line;
pub mod reorder_window;
pub mod arbiter;
pub mod translator;
pub mod status;
pub mod symbol_index;
pub mod itch50;
pub mod iextp;
pub mod deep10;
pub mod tops16;
pub mod protocol;
