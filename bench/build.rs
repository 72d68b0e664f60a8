//! Compiles the sender's XDP program, and for tests the steering program with a clock in the place of a
//! NIC that stamps.

#[path = "../xdp-prog/skeleton.rs"]
mod skeleton;

use skeleton::{Object, build};

const CLOCK: &str = "tests/bpf/clock_stamp.h";

fn main() {
    let objects = [
        Object { name: "replay", source: "src/bpf/replay.bpf.c", arguments: &[] },
        Object {
            name: "clock_stamps",
            source: "../xdp-prog/src/bpf/steer.bpf.c",
            arguments: &["-DRECEIVE_STAMPS", "-include", CLOCK],
        },
    ];
    build(&objects, &["src/bpf/replay.h", CLOCK, "../xdp-prog/src/bpf/steer.h"]);
}
