//! Exchange simulator, load generator and benchmarks.
