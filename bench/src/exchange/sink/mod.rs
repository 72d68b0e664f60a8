//! Where packets go.

pub mod impaired;
pub mod live_frames;
pub mod lossy;
pub mod pcap_file;
pub mod udp;

use super::packet::Packet;

/// What a sink did with packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets sent.
    pub packets: u64,
    /// Their bytes, as the sink counts them: payloads on a socket, frames elsewhere.
    pub bytes: u64,
    /// Messages in them.
    pub messages: u64,
    /// Packets that this sink cannot send: no UDP datagram on a socket, too long a frame.
    pub skipped: u64,
}

impl Sent {
    /// Counts a packet of `bytes` as sent.
    pub fn count(&mut self, packet: &Packet<'_>, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.messages += u64::from(packet.messages);
    }
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Sent) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.skipped += other.skipped;
    }
}

/// A failure to send; it ends the play.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The socket.
    #[error(transparent)]
    Udp(#[from] udp::UdpError),
    /// The XDP test run.
    #[error(transparent)]
    LiveFrames(#[from] live_frames::LiveFramesError),
    /// The file.
    #[error(transparent)]
    PcapFile(#[from] pcap_file::PcapFileError),
}

/// A destination of packets.
pub trait Sink {
    /// Most packets that one [`Sink::send`] takes.
    const BATCH: usize;

    /// Sends packets, in order, in as few system calls as it can.
    fn send(&mut self, packets: &[Packet<'_>]) -> Result<Sent, SinkError>;

    /// After the last packet.
    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
