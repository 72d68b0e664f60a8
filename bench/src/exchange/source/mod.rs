//! Where packets come from.

pub mod itch_file;
pub mod pcap_file;
pub mod sim;

use wiretape_core::wire::frame::EmitError;

use super::packet::Batch;

/// Why a source stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The ITCH file.
    #[error(transparent)]
    ItchFile(#[from] itch_file::ItchFileError),
    /// The capture file.
    #[error(transparent)]
    Pcap(#[from] wiretape_capture::source::pcap::PcapError),
    /// The settings of the simulator.
    #[error(transparent)]
    Sim(#[from] crate::flow::SpecError),
    /// A datagram that cannot be.
    #[error("cannot build a packet: {0}")]
    Emit(#[from] EmitError),
    /// A message that fits no packet.
    #[error(
        "cannot send a message: its packet takes {needed} bytes of payload and may have \
         {payload_max}; allow more with --max-payload"
    )]
    MessageTooLong {
        /// Bytes that the packet would have.
        needed: usize,
        /// Bytes that it may have.
        payload_max: usize,
    },
}

/// Something that packets come out of, in order.
pub trait Source: Send {
    /// Appends packets to `batch` until it is full; false once there will be no more.
    fn fill(&mut self, batch: &mut Batch) -> Result<bool, SourceError>;

    /// What there is to say about what was left out, after the end.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}
