//! Messages into packets: MoldUDP64, IEX-TP, and the rule of what shares a packet.

use wiretape_core::wire::frame::{EmitError, Route};
use wiretape_core::wire::{iextp, moldudp64};
use zerocopy::IntoBytes;

use super::packet::Batch;
use super::source::{Source, SourceError};

/// Messages with their times, one after the other.
pub trait MessageStream: Send {
    /// Puts the next message into `message` and gives its time, UTC nanoseconds; `None` at the
    /// end.
    fn next(&mut self, message: &mut Vec<u8>) -> Result<Option<u64>, SourceError>;
}

/// A protocol that carries numbered messages in datagrams: a header, then each message behind its
/// length.
pub trait Framing: Send {
    /// Bytes of the header.
    const HEADER: usize;
    /// A message's length as this protocol writes it.
    fn length(message: u16) -> [u8; 2];
    /// Writes the header of a packet of `count` messages, of which `payload` has the bytes, and
    /// goes on to the number behind them.
    fn begin(&mut self, payload: &mut [u8], count: u16, at_ns: u64);
    /// A packet that says what number is next.
    fn heartbeat(&self, at_ns: u64) -> Vec<u8>;
    /// A packet that says that nothing more will come, if the protocol has one.
    fn end(&self) -> Option<Vec<u8>>;
}

/// Nasdaq's framing.
pub struct MoldUdp64 {
    session: moldudp64::Session,
    next: u64,
}

impl MoldUdp64 {
    /// A session whose next message has the given number.
    pub fn new(session: moldudp64::Session, next: u64) -> MoldUdp64 {
        MoldUdp64 { session, next }
    }
}

impl Framing for MoldUdp64 {
    const HEADER: usize = moldudp64::HEADER_LEN;

    fn length(message: u16) -> [u8; 2] {
        message.to_be_bytes()
    }

    fn begin(&mut self, payload: &mut [u8], count: u16, _at_ns: u64) {
        let header = moldudp64::Header {
            session: self.session,
            sequence: self.next.into(),
            count: count.into(),
        };
        payload[..Self::HEADER].copy_from_slice(header.as_bytes());
        self.next = self.next.wrapping_add(u64::from(count));
    }

    fn heartbeat(&self, _at_ns: u64) -> Vec<u8> {
        moldudp64::Header::heartbeat(self.session, self.next).as_bytes().to_vec()
    }

    fn end(&self) -> Option<Vec<u8>> {
        Some(moldudp64::Header::end_of_session(self.session, self.next).as_bytes().to_vec())
    }
}

/// IEX's framing.
pub struct IexTp {
    stream: iextp::Stream,
}

impl IexTp {
    /// A session of a protocol, before its first message.
    pub fn new(protocol: u16, session_id: u32) -> IexTp {
        IexTp { stream: iextp::Stream::new(protocol, 1, session_id) }
    }
}

impl Framing for IexTp {
    const HEADER: usize = iextp::HEADER_LEN;

    fn length(message: u16) -> [u8; 2] {
        message.to_le_bytes()
    }

    fn begin(&mut self, payload: &mut [u8], count: u16, at_ns: u64) {
        let blocks = payload.len() - Self::HEADER;
        let mut header = self.stream.heartbeat(at_ns);
        header.payload_length = (blocks as u16).into();
        header.message_count = count.into();
        payload[..Self::HEADER].copy_from_slice(header.as_bytes());
        self.stream.sequence += u64::from(count);
        self.stream.offset += blocks as u64;
    }

    fn heartbeat(&self, at_ns: u64) -> Vec<u8> {
        self.stream.heartbeat(at_ns).as_bytes().to_vec()
    }

    fn end(&self) -> Option<Vec<u8>> {
        None
    }
}

/// What shares a packet, and what is sent beside the messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// Most bytes of a datagram's payload.
    pub payload_max: usize,
    /// Most messages of a packet.
    pub messages_max: u16,
    /// Messages share a packet if they are at most this far from its first.
    pub window_ns: u64,
    /// Idle time, in the feed's own, after which a heartbeat is sent; `None` for none.
    pub heartbeat_ns: Option<u64>,
    /// How often the end of the session is told.
    pub end_packets: u32,
    /// Heartbeats before the first message, a millisecond apart.
    pub lead_packets: u32,
}

impl Default for Packing {
    fn default() -> Packing {
        Packing {
            payload_max: 1_400,
            messages_max: u16::MAX - 1,
            window_ns: 10_000,
            heartbeat_ns: Some(1_000_000_000),
            end_packets: 3,
            lead_packets: 0,
        }
    }
}

/// A source that packs the messages of a stream.
pub struct Packer<S, F> {
    stream: S,
    framing: F,
    packing: Packing,
    routes: Vec<Route>,
    payload: Vec<u8>,
    count: u16,
    first_ns: u64,
    last_ns: u64,
    /// When something was last sent.
    sent_ns: Option<u64>,
    /// A message that was read and belongs into the next packet.
    carried: Option<u64>,
    message: Vec<u8>,
}

impl<S: MessageStream, F: Framing> Packer<S, F> {
    /// Packs `stream`; every packet goes to each of `routes`.
    pub fn new(stream: S, framing: F, packing: Packing, routes: Vec<Route>) -> Packer<S, F> {
        Packer {
            stream,
            framing,
            packing,
            routes,
            payload: vec![0; F::HEADER],
            count: 0,
            first_ns: 0,
            last_ns: 0,
            sent_ns: None,
            carried: None,
            message: Vec::new(),
        }
    }

    fn push(&self, batch: &mut Batch, at_ns: u64, payload: &[u8], count: u16) -> Pushed {
        for route in &self.routes {
            batch.push_datagram(at_ns, route, payload, u32::from(count))?;
        }
        Ok(())
    }

    /// Sends the packet that was begun, if there is one, behind the heartbeats that were due.
    fn flush(&mut self, batch: &mut Batch) -> Pushed {
        if self.count == 0 {
            return Ok(());
        }
        self.keep_alive(batch, self.last_ns)?;
        self.framing.begin(&mut self.payload, self.count, self.last_ns);
        self.push(batch, self.last_ns, &self.payload, self.count)?;
        self.payload.truncate(F::HEADER);
        self.count = 0;
        Ok(())
    }

    fn keep_alive(&mut self, batch: &mut Batch, until_ns: u64) -> Pushed {
        if let (Some(interval_ns), Some(mut sent_ns)) = (self.packing.heartbeat_ns, self.sent_ns) {
            while sent_ns + interval_ns < until_ns {
                sent_ns += interval_ns;
                self.push(batch, sent_ns, &self.framing.heartbeat(sent_ns), 0)?;
            }
        }
        self.sent_ns = Some(until_ns);
        Ok(())
    }

    /// What tells the session and its first number before there is a message.
    fn lead_in(&mut self, batch: &mut Batch, first_ns: u64) -> Pushed {
        for left in (1..=u64::from(self.packing.lead_packets)).rev() {
            let at_ns = first_ns.saturating_sub(left * 1_000_000);
            self.push(batch, at_ns, &self.framing.heartbeat(at_ns), 0)?;
        }
        Ok(())
    }

    fn finish(&mut self, batch: &mut Batch) -> Pushed {
        self.flush(batch)?;
        let Some(end) = self.framing.end() else { return Ok(()) };
        // Ten to the idle interval: together they take less than a heartbeat's time.
        let step_ns = self.packing.heartbeat_ns.unwrap_or(0) / 10;
        for repeat in 1..=u64::from(self.packing.end_packets) {
            self.push(batch, self.last_ns + repeat * step_ns, &end, 0)?;
        }
        Ok(())
    }

    /// Whether a message of this time and length belongs into the packet that was begun.
    fn belongs(&self, at_ns: u64) -> bool {
        self.payload.len() + 2 + self.message.len() <= self.packing.payload_max
            && self.count < self.packing.messages_max
            && at_ns.saturating_sub(self.first_ns) <= self.packing.window_ns
    }
}

type Pushed = Result<(), EmitError>;

impl<S: MessageStream, F: Framing> Source for Packer<S, F> {
    fn fill(&mut self, batch: &mut Batch) -> Result<bool, SourceError> {
        while !batch.is_full() {
            let at_ns = match self.carried.take() {
                Some(at_ns) => at_ns,
                None => match self.stream.next(&mut self.message)? {
                    Some(at_ns) => at_ns,
                    None => {
                        self.finish(batch)?;
                        return Ok(false);
                    }
                },
            };
            if self.count > 0 && !self.belongs(at_ns) {
                self.flush(batch)?;
                // Room for it may have to come from the next batch.
                self.carried = Some(at_ns);
                continue;
            }
            if self.sent_ns.is_none() && self.count == 0 {
                self.lead_in(batch, at_ns)?;
            }
            if self.count == 0 {
                self.first_ns = at_ns;
                if !self.belongs(at_ns) {
                    let needed = F::HEADER + 2 + self.message.len();
                    return Err(SourceError::MessageTooLong {
                        needed,
                        payload_max: self.packing.payload_max,
                    });
                }
            }
            self.payload.extend(F::length(self.message.len() as u16));
            self.payload.extend_from_slice(&self.message);
            self.count += 1;
            self.last_ns = self.last_ns.max(at_ns);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiretape_core::wire::moldudp64::{Packet, PacketKind};

    struct Listed<'m>(&'m [(u64, &'static [u8])]);

    impl MessageStream for Listed<'_> {
        fn next(&mut self, message: &mut Vec<u8>) -> Result<Option<u64>, SourceError> {
            let Some(((at_ns, bytes), rest)) = self.0.split_first() else { return Ok(None) };
            self.0 = rest;
            message.clear();
            message.extend_from_slice(bytes);
            Ok(Some(*at_ns))
        }
    }

    /// Packs messages; gives per packet its time, sequence, and messages or kind.
    fn packed(
        messages: &[(u64, &'static [u8])],
        packing: Packing,
    ) -> Result<Vec<(u64, u64, String)>, SourceError> {
        let stream = Listed(messages);
        let route = Route::to_group([10, 0, 0, 1], [239, 0, 0, 1], 1, 2);
        let framing = MoldUdp64::new(*b"SESSION001", 1);
        let mut packer = Packer::new(stream, framing, packing, vec![route]);
        let mut batch = Batch::new();
        while packer.fill(&mut batch)? {}
        let packets = (0..batch.len()).map(|i| {
            let packet = batch.get(i).unwrap();
            let mold = Packet::parse(packet.datagram.unwrap().1).unwrap();
            let what = match mold.kind() {
                PacketKind::Data => {
                    String::from_utf8(mold.messages().collect::<Vec<_>>().join(&b'|'))
                }
                kind => Ok(format!("{kind:?}")),
            };
            assert_eq!(packet.messages, u32::from(mold.count()));
            (packet.at_ns, mold.sequence(), what.unwrap())
        });
        Ok(packets.collect())
    }

    fn told(packets: &[(u64, u64, String)]) -> Vec<(u64, u64, &str)> {
        packets.iter().map(|(at, sequence, what)| (*at, *sequence, &what[..])).collect()
    }

    #[test]
    fn near_messages_share_a_packet_and_limits_end_it() {
        let packing = Packing {
            window_ns: 10,
            messages_max: 3,
            payload_max: 20 + 10,
            heartbeat_ns: None,
            end_packets: 0,
            lead_packets: 0,
        };
        let packets = packed(
            &[
                (100, b"a"),
                (110, b"b"),
                (111, b"c"),
                (112, b"d"),
                (113, b"e"),
                (114, b"f"),
                (115, b"ggggg"),
                (116, b"hhh"),
                (117, b"ii"),
            ],
            packing,
        );
        let expected =
            [(110, 1, "a|b"), (113, 3, "c|d|e"), (115, 6, "f|ggggg"), (117, 8, "hhh|ii")];
        assert_eq!(told(&packets.unwrap()), expected);
    }

    #[test]
    fn silence_is_filled_with_heartbeats_and_the_session_ended() {
        let packing =
            Packing { heartbeat_ns: Some(100), window_ns: 0, end_packets: 2, ..Packing::default() };
        let packets = packed(&[(1_000, b"a"), (1_050, b"b"), (1_260, b"c")], packing);
        let expected = [
            (1_000, 1, "a"),
            (1_050, 2, "b"),
            (1_150, 3, "Heartbeat"),
            (1_250, 3, "Heartbeat"),
            (1_260, 3, "c"),
            (1_270, 4, "EndOfSession"),
            (1_280, 4, "EndOfSession"),
        ];
        assert_eq!(told(&packets.unwrap()), expected);
    }

    #[test]
    fn heartbeats_may_lead_in() {
        let packing =
            Packing { lead_packets: 2, heartbeat_ns: None, end_packets: 0, ..Packing::default() };
        let packets = packed(&[(5_000_000, b"a"), (6_000_000, b"b")], packing);
        let expected = [
            (3_000_000, 1, "Heartbeat"),
            (4_000_000, 1, "Heartbeat"),
            (5_000_000, 1, "a"),
            (6_000_000, 2, "b"),
        ];
        assert_eq!(told(&packets.unwrap()), expected);
    }

    #[test]
    fn a_message_that_fits_no_packet_is_an_error_that_says_what_would() {
        let packing = Packing { payload_max: 24, ..Packing::default() };
        let error = packed(&[(0, b"abc")], packing).unwrap_err().to_string();
        assert!(error.contains("25") && error.contains("--max-payload"), "{error}");
    }
}
