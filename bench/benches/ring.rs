//! Rings on two cores, beside `rtrb`, `heapless::spsc`, `crossbeam-queue`, `disruptor` and, with
//! `--features iceoryx2`, iceoryx2.
//!
//! Every contestant moves the same items from a thread on core 0 to one on core 1, spinning where
//! it must wait. Nothing of ours allocates while it runs. On machines whose cores others use too, the best
//! of many short rounds is what counts: a round that was interrupted says nothing about a ring.

#[path = "contest/broadcast.rs"]
mod broadcast;
#[path = "contest/mod.rs"]
mod contest;
#[cfg(feature = "iceoryx2")]
#[path = "contest/iceoryx.rs"]
mod iceoryx;
#[path = "contest/latency.rs"]
mod latency;
#[path = "contest/mpmc.rs"]
mod mpmc;
#[path = "contest/spsc.rs"]
mod spsc;

use clap::Parser;

fn main() {
    let options = contest::Options::parse();
    spsc::single::<1>(&options, "SPSC, 8-byte items, one at a time");
    spsc::single::<8>(&options, "SPSC, 64-byte items, one at a time");
    spsc::batch::<1>(&options, "SPSC, 8-byte items, batches of 64");
    spsc::batch::<8>(&options, "SPSC, 64-byte items, batches of 64");
    mpmc::one_to_one(&options);
    broadcast::one_reader(&options);
    broadcast::two_readers(&options);
    broadcast::stopped_reader(&options);
    latency::between_processes(&options);
}
