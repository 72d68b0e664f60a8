//! AF_XDP capture process: frames in, events out to shared memory.
//!
//! Modules stand in the order in which a packet meets them: a [`source`] hands frames to the
//! [`worker`], which drives core's pipeline into the segment. [`xsk`] is the AF_XDP socket layer
//! and knows nothing of Wiretape but how frames are shared with recorders; [`control`] is everything that may wait, allocate or ask the
//! kernel, kept off the worker's thread.

pub mod xsk;
pub mod pins;
pub mod source;
pub mod clock;
pub mod nic_stamps;
pub mod orders;
pub mod worker;
pub mod worker_log;
pub mod segment_file;
pub mod frames_file;
pub mod control;
pub mod trading_days;
pub mod config;
pub mod rights;
pub mod run;
