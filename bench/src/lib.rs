//! Exchange simulator, load generator and benchmarks.
//!
//! [`flow`] invents a market: a seeded stream of orders, executions and crosses that keeps its
//! own plain book. [`exchange`] turns that stream, an ITCH file or a capture into packets and
//! plays them at a chosen pace into a socket, an interface or a file.

pub mod exchange;
pub mod flow;
