//! Follows a segment and prints what happens in it.
//!
//! ```text
//! cargo run -p wiretape-host --example follow -- /dev/shm/wiretape/w0.seg
//! ```

use std::path::PathBuf;
use wiretape_core::event::{Side, rtype};
use wiretape_host::reader::{AttachError, Followed, Follower, Start, Wait};

fn main() -> Result<(), AttachError> {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: follow SEGMENT");
        std::process::exit(2);
    };
    // From the oldest event in the ring; asleep while nothing comes. `Wait::Spin` costs a core and
    // sees an event within a microsecond.
    let mut follower = Follower::new(&path, Start::Oldest)?.with_wait(Wait::Park);
    let (mut events_seen, mut orders, mut gaps) = (0u64, [0u64; 2], 0u64);
    loop {
        match follower.poll()? {
            Followed::Began { epoch, first, .. } => {
                println!("epoch {epoch}, from sequence {first}")
            }
            Followed::Events { events, .. } => {
                events_seen += events.len() as u64;
                for event in events {
                    // An event is a DBN record; `mbo()` is the market-by-order one.
                    match event.mbo().filter(|record| record.action == b'A') {
                        Some(record) if record.side == Side::Bid as u8 => orders[0] += 1,
                        Some(_) => orders[1] += 1,
                        None => gaps += u64::from(event.rtype() == rtype::GAP),
                    }
                }
            }
            // The exact range that this reader was too slow for. It goes on behind it.
            Followed::Lost { lapped, .. } => println!("{lapped}"),
            Followed::Resumed { .. } => println!("the writer is back"),
            Followed::Silent { age, .. } => println!("the writer is silent for {age:?}"),
            Followed::Ended { end, through, .. } => {
                println!("the epoch ended ({end:?}) with sequence {through}");
                break;
            }
            Followed::Idle => follower.wait(),
        }
    }
    println!("{events_seen} events: {} bids, {} offers, {gaps} gaps", orders[0], orders[1]);
    Ok(())
}
