//! What a capture file holds: the destinations of its datagrams, and which protocol each speaks, for
//! who does not know what to ask of it.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::Path;

use wiretape_core::pipeline::Protocol;
use wiretape_core::wire::frame::Datagram;

use super::pcap::{CutRecord, PcapError, Reader};

/// Destinations that are told apart; a capture of an exchange's network has a few hundred.
const GROUPS_MAX: usize = 4096;

/// One destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSeen {
    /// Address and port.
    pub group: SocketAddrV4,
    /// Datagrams to it.
    pub packets: u64,
    /// What most of them speak, if that is a protocol of ours.
    pub protocol: Option<Protocol>,
}

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The destinations, those of most packets first.
    pub groups: Vec<GroupSeen>,
    /// Packets in the file.
    pub packets: u64,
    /// Packets among them that are no UDP datagrams over IPv4, or to more destinations than are
    /// told apart.
    pub others: u64,
    /// Packets that a snap length had shortened, which are among the others if bytes of their
    /// datagram are missing.
    pub snapped: u64,
    /// The record inside which the file ends.
    pub cut: Option<CutRecord>,
}

/// A file that cannot be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct SurveyError {
    /// Why.
    pub source: PcapError,
    /// What was found before.
    pub found: Box<Survey>,
}

#[derive(Default)]
struct Count {
    packets: u64,
    by_protocol: [u64; Protocol::ALL.len()],
}

impl Survey {
    /// Reads a whole capture file.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(path: &Path) -> Result<Survey, SurveyError> {
        let mut reader = match Reader::open(path) {
            Ok(reader) => reader,
            Err(source) => return Err(SurveyError { source, found: Box::default() }),
        };
        let mut counts: HashMap<SocketAddrV4, Count> = HashMap::new();
        let mut others = 0;
        let ended = loop {
            let packet = match reader.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let Ok(datagram) = Datagram::from_frame(packet.data) else {
                others += 1;
                continue;
            };
            let group = SocketAddrV4::new(datagram.dst.into(), datagram.dst_port);
            if counts.len() >= GROUPS_MAX && !counts.contains_key(&group) {
                others += 1;
                continue;
            }
            let count = counts.entry(group).or_default();
            count.packets += 1;
            for (protocol, spoken) in Protocol::ALL.iter().zip(&mut count.by_protocol) {
                *spoken += u64::from(protocol.recognises(datagram.payload));
            }
        };
        let mut groups: Vec<GroupSeen> = counts
            .into_iter()
            .map(|(group, Count { packets, by_protocol })| {
                let spoken = Protocol::ALL.into_iter().zip(by_protocol);
                let most = spoken.max_by_key(|(_, spoken)| *spoken);
                let most = most.filter(|(_, spoken)| spoken * 2 > packets);
                GroupSeen { group, packets, protocol: most.map(|(protocol, _)| protocol) }
            })
            .collect();
        groups.sort_by_key(|seen| (std::cmp::Reverse(seen.packets), seen.group));
        let (packets, snapped, cut) = (reader.packets(), reader.snapped(), reader.cut());
        let found = Survey { groups, packets, others, snapped, cut };
        match ended {
            Ok(()) => Ok(found),
            Err(source) => Err(SurveyError { source, found: Box::new(found) }),
        }
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Survey { groups, packets, others, snapped, cut } = self;
        let sent = packets - others;
        write!(f, "{packets} packets: {sent} datagrams, {others} others")?;
        for GroupSeen { group, packets, protocol } in groups {
            let group = group.to_string();
            write!(f, "\n{group:<21} {packets:>10}  ")?;
            match protocol {
                Some(protocol) => write!(f, "--feed {}@{group}", protocol.name())?,
                None => write!(f, "of no protocol that is known here")?,
            }
        }
        if *snapped > 0 {
            write!(f, "\n{snapped} packets of the file were cut by a snap length")?;
        }
        match cut {
            Some(cut) => write!(f, "\n{cut}"),
            None => Ok(()),
        }
    }
}
