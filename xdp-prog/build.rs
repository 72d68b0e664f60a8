//! Compiles the XDP program, plain and with receive stamps.

mod skeleton;

use skeleton::{Object, build};

const SOURCE: &str = "src/bpf/steer.bpf.c";

fn main() {
    let objects = [
        Object { name: "steer", source: SOURCE, arguments: &[] },
        Object { name: "steer_stamps", source: SOURCE, arguments: &["-DRECEIVE_STAMPS"] },
    ];
    build(&objects, &["src/bpf/steer.h"]);
}
