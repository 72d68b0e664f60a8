//! The XDP program's counters: its half of the loss ledger.

use std::mem::offset_of;
use std::ops::AddAssign;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use serde::Serialize;

use crate::error::{Error, MapError};

/// Receive queues that can have a socket (`STEER_QUEUES`).
pub const QUEUES: u32 = 64;

/// Slots of the map `counters`: one a queue, and one for all queues above (`STEER_SLOTS`).
pub const SLOTS: u32 = QUEUES + 1;

/// Counts of packets, from the load of the program on; `replace` keeps them.
///
/// Mirror of `struct steer_counters` in `bpf/steer.h`, where the classes are defined. At rest
/// `seen = passed + fragments + malformed + matched` and `matched = redirected + no_socket`; read
/// while packets arrive, a sum can be off by the packets under way, one a CPU at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[repr(C)]
pub struct Counters {
    /// Packets that reached the program.
    pub seen: u64,
    /// Packets that are not ours, passed to the kernel.
    pub passed: u64,
    /// Packets to one of the groups.
    pub matched: u64,
    /// Matched packets handed to a socket.
    pub redirected: u64,
    /// Bytes of matched packets, Ethernet header included, FCS not.
    pub matched_bytes: u64,
    /// Matched packets of a queue without a socket, passed to the kernel.
    pub no_socket: u64,
    /// IPv4 fragments to the address of a group, passed to the kernel.
    pub fragments: u64,
    /// Packets with a truncated or impossible VLAN, IPv4 or UDP header, passed to the kernel.
    pub malformed: u64,
    /// Packets with VLAN tags, counted beside the classes above.
    pub vlan: u64,
    /// Redirected packets with the NIC's receive time in front.
    pub stamped: u64,
    /// Redirected packets for which the driver was asked and had no time.
    pub unstamped: u64,
    /// Zero; counters to come.
    #[serde(skip)]
    pub reserved: [u64; 5],
}

/// Bytes of one CPU's value in the map.
pub const COUNTERS_BYTES: usize = size_of::<Counters>();

const _: () = assert!(COUNTERS_BYTES == 128);
const _: () = assert!(offset_of!(Counters, seen) == 0);
const _: () = assert!(offset_of!(Counters, passed) == 8);
const _: () = assert!(offset_of!(Counters, matched) == 16);
const _: () = assert!(offset_of!(Counters, redirected) == 24);
const _: () = assert!(offset_of!(Counters, matched_bytes) == 32);
const _: () = assert!(offset_of!(Counters, no_socket) == 40);
const _: () = assert!(offset_of!(Counters, fragments) == 48);
const _: () = assert!(offset_of!(Counters, malformed) == 56);
const _: () = assert!(offset_of!(Counters, vlan) == 64);
const _: () = assert!(offset_of!(Counters, stamped) == 72);
const _: () = assert!(offset_of!(Counters, unstamped) == 80);
const _: () = assert!(offset_of!(Counters, reserved) == 88);

impl Counters {
    /// One CPU's value as the map returns it; `None` unless it has [`COUNTERS_BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != COUNTERS_BYTES {
            return None;
        }
        let mut words = [0u64; COUNTERS_BYTES / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().ok()?);
        }
        let [seen, passed, matched, redirected, matched_bytes, no_socket, rest @ ..] = words;
        let [fragments, malformed, vlan, stamped, unstamped, reserved @ ..] = rest;
        Some(Self {
            seen,
            passed,
            matched,
            redirected,
            matched_bytes,
            no_socket,
            fragments,
            malformed,
            vlan,
            stamped,
            unstamped,
            reserved,
        })
    }

    /// Whether every packet seen is in exactly one class.
    pub fn closes(&self) -> bool {
        self.seen == self.passed + self.fragments + self.malformed + self.matched
            && self.matched == self.redirected + self.no_socket
    }

    /// Whether the driver was asked for the receive time of every packet redirected.
    pub fn stamps_close(&self) -> bool {
        self.redirected == self.stamped + self.unstamped
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.seen += other.seen;
        self.passed += other.passed;
        self.matched += other.matched;
        self.redirected += other.redirected;
        self.matched_bytes += other.matched_bytes;
        self.no_socket += other.no_socket;
        self.fragments += other.fragments;
        self.malformed += other.malformed;
        self.vlan += other.vlan;
        self.stamped += other.stamped;
        self.unstamped += other.unstamped;
        for (sum, more) in self.reserved.iter_mut().zip(other.reserved) {
            *sum += more;
        }
    }
}

/// One slot's counters, summed over all CPUs.
pub(crate) fn read(map: &MapHandle, slot: u32) -> Result<Counters, Error> {
    let failed = |source| MapError { action: "read", map: "counters", source };
    let values = map.lookup_percpu(&slot.to_ne_bytes(), MapFlags::ANY).map_err(failed)?;
    let mut sum = Counters::default();
    for value in values.iter().flatten() {
        sum += Counters::from_bytes(value).ok_or(Error::Layout { map: "counters" })?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_land_in_their_fields() {
        let bytes: Vec<u8> = (0..16u64).flat_map(|word| (word + 1).to_ne_bytes()).collect();
        let counters = Counters::from_bytes(&bytes).unwrap();
        assert_eq!((counters.seen, counters.passed, counters.matched), (1, 2, 3));
        assert_eq!((counters.redirected, counters.matched_bytes), (4, 5));
        assert_eq!((counters.no_socket, counters.fragments, counters.malformed), (6, 7, 8));
        assert_eq!((counters.vlan, counters.stamped, counters.unstamped), (9, 10, 11));
        assert_eq!(counters.reserved, [12, 13, 14, 15, 16]);
        assert_eq!(Counters::from_bytes(&bytes[1..]), None);
    }

    #[test]
    fn a_packet_in_no_class_leaves_the_ledger_open() {
        let mut counters = Counters { seen: 4, passed: 1, fragments: 1, ..Counters::default() };
        assert!(!counters.closes());
        counters += Counters { matched: 2, redirected: 1, ..Counters::default() };
        assert!(!counters.closes());
        counters.no_socket += 1;
        assert!(counters.closes());
        assert!(!counters.stamps_close());
        counters.unstamped += 1;
        assert!(counters.stamps_close());
    }
}
