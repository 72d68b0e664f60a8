//! `wiretape-xdp`: loads, replaces, inspects and removes the XDP program.
fn main() {}
