//! What a capture file holds: the destinations of its datagrams, and which protocol each speaks, for
//! who does not know what to ask of it.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::Path;

use wiretape_core::pipeline::Protocol;
use wiretape_core::wire::frame::Datagram;
use wiretape_core::wire::itch50::Message;
use wiretape_core::wire::{iextp, moldudp64};

use super::pcap::{CutRecord, Foreign, PcapError, Reader};

/// Destinations that are told apart; a capture of an exchange's network has a few hundred.
const GROUPS_MAX: usize = 4096;

/// IEX-TP channels of a destination that are told apart.
pub const CHANNELS_MAX: usize = 16;

/// One destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSeen {
    /// Address and port.
    pub group: SocketAddrV4,
    /// Datagrams to it.
    pub packets: u64,
    /// What most of them speak, if that is a protocol of ours.
    pub protocol: Option<Protocol>,
    /// If it is none, and most of them are IEX-TP: which messages of IEX's these are.
    pub iex_messages: Option<u16>,
    /// IEX-TP channels that its packets are of, up to [`CHANNELS_MAX`]: a feed follows one of them.
    pub iex_channels: usize,
    /// If it is none: whether most of them are MoldUDP64, which Nasdaq sends other messages by, too.
    pub other_mold: bool,
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
    /// Packets of link layers that are not decoded, which are among the others.
    pub foreign: Option<Foreign>,
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
    /// IEX-TP of the messages that came first.
    iex: u64,
    iex_messages: Option<u16>,
    iex_channels: Vec<u32>,
    /// Messages in MoldUDP64, and those of them that are of ITCH 5.0.
    mold_messages: u64,
    itch_messages: u64,
}

impl Count {
    fn add(&mut self, payload: &[u8]) {
        self.packets += 1;
        for (protocol, spoken) in Protocol::ALL.iter().zip(&mut self.by_protocol) {
            *spoken += u64::from(protocol.recognises(payload));
        }
        if let Ok(segment) = iextp::Segment::parse(payload) {
            let messages = *self.iex_messages.get_or_insert(segment.protocol());
            self.iex += u64::from(segment.protocol() == messages);
            let id = segment.channel_id();
            if self.iex_channels.len() < CHANNELS_MAX && !self.iex_channels.contains(&id) {
                self.iex_channels.push(id);
            }
        }
        if let Ok(packet) = moldudp64::Packet::parse(payload) {
            let known = packet.messages().filter(|message| Message::parse(message).is_ok());
            self.itch_messages += known.count() as u64;
            self.mold_messages += u64::from(packet.count());
        }
    }

    fn seen(self, group: SocketAddrV4) -> GroupSeen {
        let Count { packets, by_protocol, iex, mold_messages, itch_messages, .. } = self;
        let most = Protocol::ALL.into_iter().zip(by_protocol).max_by_key(|(_, spoken)| *spoken);
        let protocol =
            most.filter(|(_, spoken)| spoken * 2 > packets).map(|(protocol, _)| protocol);
        let iex_channels = self.iex_channels.len();
        let iex_messages = self.iex_messages.filter(|_| protocol.is_none() && iex * 2 > packets);
        // Heartbeats alone tell nothing of the messages.
        let is_itch = mold_messages == 0 || itch_messages * 2 > mold_messages;
        let other_mold = protocol == Some(Protocol::Itch50) && !is_itch;
        let protocol = protocol.filter(|_| !other_mold);
        GroupSeen { group, packets, protocol, iex_messages, iex_channels, other_mold }
    }
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
            counts.entry(group).or_default().add(datagram.payload);
        };
        let mut groups: Vec<GroupSeen> =
            counts.into_iter().map(|(group, count)| count.seen(group)).collect();
        groups.sort_by_key(|seen| (std::cmp::Reverse(seen.packets), seen.group));
        let found = Survey {
            groups,
            packets: reader.packets(),
            others,
            snapped: reader.snapped(),
            foreign: reader.foreign(),
            cut: reader.cut(),
        };
        match ended {
            Ok(()) => Ok(found),
            Err(source) => Err(SurveyError { source, found: Box::new(found) }),
        }
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Survey { groups, packets, others, snapped, foreign, cut } = self;
        let sent = packets - others;
        write!(f, "{packets} packets: {sent} datagrams, {others} others")?;
        for seen in groups {
            let GroupSeen { group, packets, protocol, iex_messages, iex_channels, other_mold } =
                seen;
            let group = group.to_string();
            write!(f, "\n{group:<21} {packets:>10}  ")?;
            match (protocol, iex_messages) {
                (Some(protocol), _) => write!(f, "--feed {}@{group}", protocol.name())?,
                (None, Some(messages)) => {
                    write!(f, "IEX-TP, message protocol {messages:#x}, which is not known here")?;
                }
                (None, None) if *other_mold => {
                    write!(f, "MoldUDP64, whose messages are not those of ITCH 5.0")?;
                }
                (None, None) => write!(f, "of no protocol that is known here")?,
            }
            if *iex_channels > 1 {
                write!(f, " ({iex_channels} channels, of which a feed follows one)")?;
            }
        }
        if *snapped > 0 {
            write!(f, "\n{snapped} packets of the file were cut by a snap length")?;
        }
        if let Some(foreign) = foreign {
            write!(f, "\n{foreign}")?;
        }
        match cut {
            Some(cut) => write!(f, "\n{cut}"),
            None => Ok(()),
        }
    }
}
