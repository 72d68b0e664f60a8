//! Why a capture could not start, or stopped.

use std::io;

use wiretape_core::pipeline::AddFeedError;
use wiretape_core::segment::LayoutError;

use crate::control::multicast::JoinError;
use crate::frames_file::FramesFileError;
use crate::pins::PinError;
use crate::rights::RightsError;
use crate::segment_file::SegmentFileError;
use crate::source::SourceError;
use crate::source::pcap::PcapError;
use crate::xsk::{MemoryError, OpenError, UmemError};

/// Why a capture could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The segment cannot be laid out.
    #[error("cannot lay out the segment: {0}")]
    Layout(#[from] LayoutError),
    /// The segment's file cannot be made.
    #[error(transparent)]
    SegmentFile(#[from] SegmentFileError),
    /// The frames cannot be shared with recorders.
    #[error(transparent)]
    FramesFile(#[from] FramesFileError),
    /// The memory for the books cannot be had.
    #[error(
        "cannot reserve {bytes} bytes for the books and waiting packets of feed '{feed}': {source}; \
         lower max_orders, max_levels, reorder_packets or snapshot_hold_mib"
    )]
    BookMemory {
        /// The feed.
        feed: String,
        /// Bytes asked for.
        bytes: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// A feed cannot be added.
    #[error("feed '{feed}': {source}")]
    Feed {
        /// Its name.
        feed: String,
        /// Why.
        source: AddFeedError,
    },
    /// The capture file cannot be read.
    #[error(transparent)]
    Pcap(#[from] PcapError),
    /// The source stopped.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A pinned map cannot be used.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The queue has no place in the XDP program's map.
    #[error("queue {queue} of {interface} has no place in the XDP program's map of {queues}")]
    Queue {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
        /// Places in the map.
        queues: u32,
    },
    /// The XDP program does not ask the NIC for receive times, or writes them in another way.
    #[error(
        "receive_stamps = \"nic\", but the XDP program of {interface} {}; unload it and load it with \
         wiretape-xdp load --receive-stamps of this version, or leave receive_stamps at \"host\"",
        if *other { "tells them in a way that this version does not know" }
        else { "does not ask the driver for receive times" }
    )]
    NoStamps {
        /// The interface.
        interface: String,
        /// Whether it does, for another version.
        other: bool,
    },
    /// A multicast group cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// No memory for packets.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The packet memory cannot be cut as asked.
    #[error(transparent)]
    Umem(#[from] UmemError),
    /// The AF_XDP socket cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The socket's counters cannot be watched.
    #[error("cannot watch the counters of the AF_XDP socket: {source}")]
    Watch {
        /// The system's answer.
        source: io::Error,
    },
    /// There is no socket to ask re-request servers through.
    #[error("cannot open a UDP socket to ask the re-request servers: {source}")]
    Recovery {
        /// The system's answer.
        source: io::Error,
    },
    /// The interface went away.
    #[error("the AF_XDP socket on {interface} receives no more: {source}; the interface is gone")]
    InterfaceGone {
        /// The interface.
        interface: String,
        /// What the socket says.
        source: io::Error,
    },
    /// The XDP program was unloaded, or loaded anew with other maps.
    #[error(
        "the XDP program of {interface} was unloaded: nothing arrives here any more; load it \
         (wiretape-xdp load) and start the capture again"
    )]
    Unloaded {
        /// The interface.
        interface: String,
    },
    /// Rights could not be given up.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// No thread could be started.
    #[error("cannot start the worker thread: {source}")]
    Thread {
        /// The system's answer.
        source: io::Error,
    },
}
