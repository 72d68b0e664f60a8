//! Rings on two cores, beside `rtrb`, `heapless::spsc` and `crossbeam-queue`.
//!
//! Every contestant moves the same items through 1024 slots from a thread on core 0 to one on
//! core 1, spinning where it must wait. Nothing allocates while it runs.

#[path = "contest/mod.rs"]
mod contest;
#[path = "contest/spsc.rs"]
mod spsc;

use clap::Parser;

fn main() {
    let options = contest::Options::parse();
    spsc::single::<1>(&options, "SPSC, 8-byte items, one at a time");
    spsc::single::<8>(&options, "SPSC, 64-byte items, one at a time");
    spsc::batch::<1>(&options, "SPSC, 8-byte items, batches of 64");
    spsc::batch::<8>(&options, "SPSC, 64-byte items, batches of 64");
}
