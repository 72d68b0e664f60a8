//! The worker's counters: one table that the segment, `wiretape status`, metrics and docs share.

use crate::sync::{AtomicU64, Ordering};

/// Declares an enum of counters with their names and what they count.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal $help:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $name { $(#[doc = $help] $variant,)* }

        impl $name {
            /// All counters, in the order of their words.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = $name::ALL.len();

            /// The counter's name in status, metrics and docs.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// What it counts, in one sentence.
            pub const fn help(self) -> &'static str {
                match self { $($name::$variant => $help,)* }
            }
        }
    };
}
pub(super) use counters;

counters! {
    /// Counters of a worker. All count from the start of the epoch.
    Counter {
        Frames "frames" "Frames that the worker took from its source.",
        FrameBytes "frame_bytes" "Bytes of those frames.",
        Batches "batches" "Polls of the source that brought frames.",
        Datagrams "datagrams" "Frames that held a datagram for one of the feeds.",
        Events "events" "Events published into the ring.",
        OtherGroup "other_group" "Datagrams for a group and port that no feed has.",
        FrameTruncated "frame_truncated" "Frames shorter than their own headers say.",
        FrameNotIpv4 "frame_not_ipv4" "Frames that carry no IPv4.",
        FrameFragment "frame_fragment" "Fragments of IPv4 datagrams.",
        FrameNotUdp "frame_not_udp" "IPv4 packets that carry no UDP.",
        FrameBadHeader "frame_bad_header" "Frames whose headers contradict themselves.",
        FrameOversize "frame_oversize" "Packets of several frames that were too long, or damaged, thrown away.",
        SourceCut "source_cut" "Records on which a capture file ended before they were whole.",
        SocketDropped "socket_dropped" "Dropped by the socket: no fill descriptor, or too long.",
        SocketRingFull "socket_ring_full" "Dropped because the RX ring was full.",
        SocketFillEmpty "socket_fill_empty" "Of socket_dropped: the fill ring was empty.",
        SocketInvalid "socket_invalid" "Invalid descriptors that the kernel found in our rings.",
        XdpSeen "xdp_seen" "Packets that the XDP program saw.",
        XdpPassed "xdp_passed" "Of those, not ours: passed to the kernel untouched.",
        XdpMatched "xdp_matched" "Of those, for one of our groups.",
        XdpRedirected "xdp_redirected" "Of the matched, redirected to a socket.",
        XdpNoSocket "xdp_no_socket" "Of the matched, passed to the kernel: no socket was there.",
        XdpFragments "xdp_fragments" "Fragments for our groups, passed to the kernel.",
        XdpVlan "xdp_vlan" "Of the seen, with an 802.1Q tag.",
        XdpMalformed "xdp_malformed" "Of the seen, too short for their headers: passed on.",
        InstrumentsFull "instruments_full" "Messages of instruments beyond the directory's size.",
        NicStamped "nic_stamped" "Of the frames, with the NIC's receive time (if it is asked).",
        NicUnstamped "nic_unstamped" "Of the frames, with the host's: the NIC had no time.",
        NicRefused "nic_refused" "Of the frames, with the host's: the NIC's was far from it.",
        XdpUnserved "xdp_unserved" "For our groups on other queues, where no socket was: passed on.",
    }
}

/// The counter words, for the single writer of each and for readers.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'m> {
    words: &'m [AtomicU64],
}

impl<'m> Counters<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Self {
        Counters { words }
    }

    /// The value of `counter` (relaxed: counters are not ordered among themselves).
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        self.words.get(counter as usize).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Sets `counter`, for values that are kept elsewhere and mirrored here.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        if let Some(word) = self.words.get(counter as usize) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Adds to `counter`. A plain load and store: each counter has one writer.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        if let Some(word) = self.words.get(counter as usize) {
            word.store(word.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    }
}
