//! A capture file: its frames as they are, or its datagrams sent elsewhere.

use std::path::Path;

use wiretape_capture::source::pcap::{PcapError, Reader};
use wiretape_core::wire::frame::{Datagram, Route};
use wiretape_core::wire::{iextp, moldudp64};

use super::{Source, SourceError};
use crate::exchange::packet::Batch;

/// The packets of a capture.
pub struct PcapFile {
    reader: Reader,
    /// Where datagrams go instead of where they went; empty to leave frames alone.
    routes: Vec<Route>,
    left_out: u64,
}

impl PcapFile {
    /// Opens a capture. With `routes`, every datagram of it goes to each of them, and what is no
    /// datagram is left out; without, frames are sent as they were captured.
    pub fn open(path: &Path, routes: Vec<Route>) -> Result<PcapFile, PcapError> {
        Ok(PcapFile { reader: Reader::open(path)?, routes, left_out: 0 })
    }
}

/// Messages in a datagram of a protocol that is known; 0 in others.
fn count_messages(payload: &[u8]) -> u32 {
    if let Ok(segment) = iextp::Segment::parse(payload) {
        return u32::from(segment.message_count());
    }
    moldudp64::Packet::parse(payload).map_or(0, |packet| u32::from(packet.count()))
}

impl Source for PcapFile {
    fn fill(&mut self, batch: &mut Batch) -> Result<bool, SourceError> {
        while !batch.is_full() {
            let Some(packet) = self.reader.next()? else { return Ok(false) };
            if packet.foreign {
                self.left_out += 1;
                continue;
            }
            if self.routes.is_empty() {
                batch.push_frame(packet.ts_ns, packet.data, count_messages);
                continue;
            }
            match Datagram::from_frame(packet.data) {
                Ok(datagram) => {
                    let messages = count_messages(datagram.payload);
                    for route in &self.routes {
                        batch.push_datagram(packet.ts_ns, route, datagram.payload, messages)?;
                    }
                }
                Err(_) => self.left_out += 1,
            }
        }
        Ok(true)
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(cut) = self.reader.cut() {
            remarks.push(format!("{cut}; the whole records before it were read"));
        }
        if self.reader.snapped() > 0 {
            remarks
                .push(format!("{} packets had been shortened on capture", self.reader.snapped()));
        }
        if self.reader.untimed() > 0 {
            let packets = self.reader.untimed();
            remarks.push(format!(
                "{packets} packets have no time that can be read: sent with the packet before"
            ));
        }
        if self.left_out > 0 {
            remarks.push(format!("{} packets are no whole datagrams: left out", self.left_out));
        }
        remarks
    }
}
