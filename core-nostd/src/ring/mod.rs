//! Rings: fixed memory, handed over by the caller, that moves items between threads or processes.

pub mod broadcast;
