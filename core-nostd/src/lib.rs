//! Wiretape's core: everything between a received frame and a published event, without `std`,
//! without an allocator, and without a panic on any input.
//!
//! The crate works on memory that its caller hands it: heap, static or shared. Modules stand in
//! the order in which a packet meets them.
#![no_std]
#![warn(missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
extern crate std;

pub mod sync;
pub mod prefetch;
pub mod shared_words;

pub mod event;
#[allow(missing_debug_implementations, reason = "of types that zerocopy derives beside ours")]
pub mod wire;

pub mod ring;
pub mod frames;
pub mod histogram;
pub mod simd;
pub mod segment;
pub mod arena;
pub mod book;
pub mod feed;
pub mod pipeline;
pub mod block_pool;
pub mod node_pool;
pub mod skiplist;
pub mod timer_wheel;
pub mod event_loop;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
