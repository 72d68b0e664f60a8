//! Reader library, in-memory store, queries and the wiretape command.

pub mod reader;
pub mod ingest;
pub mod store;
pub mod query;
pub mod result;
pub mod serve;
pub mod digest;
pub mod dbn;
pub mod record;
pub mod logs;
pub mod stop_signals;
