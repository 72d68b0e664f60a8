//! Where frames come from: a network interface or a file, behind one trait, so that both drive
//! the same worker code.

pub mod gzip;
mod link_layer;
pub mod live;
pub mod pcap;
pub mod survey;

use std::time::Duration;

/// What one poll of a source brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// So many frames were handed over.
    Frames(u32),
    /// Nothing there now.
    Idle,
    /// Nothing will ever come again.
    Ended,
}

/// Why a source stopped.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The capture file cannot be read on.
    #[error(transparent)]
    Pcap(#[from] pcap::PcapError),
}

/// Frames that a source dropped on its own, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceDrops {
    /// Packets that are too long.
    pub oversize: u64,
    /// Descriptors that point outside their frame.
    pub invalid: u64,
}

/// A source of Ethernet frames.
pub trait Source {
    /// Hands the frames that are there, at most a batch, to `sink`, each with its receive time in
    /// UTC nanoseconds. Never blocks.
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError>;

    /// Sleeps until frames may be there, at most `timeout`.
    fn wait(&self, timeout: Duration);

    /// How long frames that were received may still be on their way to `poll` once the source was
    /// told to take no more; zero where stopping at once loses nothing that was received.
    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    /// What it dropped so far.
    fn drops(&self) -> SourceDrops {
        SourceDrops::default()
    }
}
