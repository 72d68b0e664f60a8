//! A network that misbehaves at random, the same way for the same seed: what `tc netem` does, for
//! kernels that have none, and counted in packets so that it does not depend on the clock.

use std::net::SocketAddrV4;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Sent, Sink, SinkError};
use crate::exchange::packet::Packet;

/// How a line is impaired.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// Share of packets that come twice.
    pub duplicate: f64,
    /// Share of packets that are overtaken.
    pub reorder: f64,
    /// By at most how many packets of the line.
    pub span: u32,
    /// Packets of the line by which all are late.
    pub delay: u32,
}

/// A packet on its way.
#[derive(Debug)]
struct Late {
    /// Packets of the line after which it arrives.
    due: u64,
    at_ns: u64,
    frame: Vec<u8>,
    datagram: (SocketAddrV4, std::ops::Range<usize>),
    messages: u32,
}

impl Late {
    fn of(packet: &Packet<'_>, due: u64) -> Option<Late> {
        let (to, payload) = packet.datagram?;
        // The payload is a part of the frame.
        let start = payload.as_ptr() as usize - packet.frame.as_ptr() as usize;
        let Packet { at_ns, messages, .. } = *packet;
        let datagram = (to, start..start + payload.len());
        Some(Late { due, at_ns, frame: packet.frame.to_vec(), datagram, messages })
    }

    fn packet(&self) -> Packet<'_> {
        let (to, payload) = (self.datagram.0, &self.frame[self.datagram.1.clone()]);
        let (at_ns, messages) = (self.at_ns, self.messages);
        Packet { at_ns, frame: &self.frame, datagram: Some((to, payload)), messages }
    }
}

#[derive(Debug)]
struct Line {
    to: SocketAddrV4,
    how: Impairment,
    random: ChaCha8Rng,
    /// Packets so far.
    packets: u64,
    /// On their way, in the order in which they arrive.
    late: Vec<Late>,
}

impl Line {
    fn chance(&mut self, share: f64) -> bool {
        f64::from(self.random.next_u32()) < share * f64::from(u32::MAX)
    }

    fn enter(&mut self, packet: &Packet<'_>) {
        self.packets += 1;
        if self.chance(self.how.loss) {
            return;
        }
        let copies = if self.chance(self.how.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let overtaken = self.how.span > 0 && self.chance(self.how.reorder);
            let behind = if overtaken { 1 + self.random.next_u32() % self.how.span } else { 0 };
            let due = self.packets + u64::from(self.how.delay + behind);
            let place = self.late.partition_point(|late| late.due <= due);
            self.late.extend(Late::of(packet, due));
            self.late[place..].rotate_right(1);
        }
    }

    fn arrived(&mut self) -> impl Iterator<Item = Late> + '_ {
        let count = self.late.partition_point(|late| late.due <= self.packets);
        self.late.drain(..count)
    }
}

/// Impairs the packets to some destinations; the others pass.
pub struct ImpairedSink<'s, S> {
    sink: &'s mut S,
    lines: Vec<Line>,
}

impl<'s, S: Sink> ImpairedSink<'s, S> {
    /// Impairs lines, by their destination, on the way into `sink`.
    pub fn new(
        sink: &'s mut S,
        lines: impl IntoIterator<Item = (SocketAddrV4, Impairment)>,
        seed: u64,
    ) -> ImpairedSink<'s, S> {
        let line = |(stream, (to, how))| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream);
            Line { to, how, random, packets: 0, late: Vec::new() }
        };
        ImpairedSink { sink, lines: (1..).zip(lines).map(line).collect() }
    }

    fn pass(&mut self, arrived: &[Late]) -> Result<Sent, SinkError> {
        let mut sent = Sent::default();
        for chunk in arrived.chunks(S::BATCH) {
            let packets: Vec<Packet<'_>> = chunk.iter().map(Late::packet).collect();
            sent += self.sink.send(&packets)?;
        }
        Ok(sent)
    }
}

impl<S: Sink> Sink for ImpairedSink<'_, S> {
    const BATCH: usize = S::BATCH;

    fn send(&mut self, packets: &[Packet<'_>]) -> Result<Sent, SinkError> {
        if self.lines.is_empty() {
            return self.sink.send(packets);
        }
        let (mut arrived, mut sent) = (Vec::new(), Sent::default());
        for packet in packets {
            let to = packet.datagram.map(|(to, _)| to);
            match self.lines.iter_mut().find(|line| Some(line.to) == to) {
                Some(line) => {
                    line.enter(packet);
                    arrived.extend(line.arrived());
                }
                None => match Late::of(packet, 0) {
                    Some(passing) => arrived.push(passing),
                    None => sent.skipped += 1,
                },
            }
        }
        sent += self.pass(&arrived)?;
        Ok(sent)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        for line in 0..self.lines.len() {
            let rest = std::mem::take(&mut self.lines[line].late);
            self.pass(&rest)?;
        }
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::packet::Batch;
    use wiretape_core::wire::frame::Route;

    #[derive(Default)]
    struct Seen(Vec<u8>);

    impl Sink for Seen {
        const BATCH: usize = 4;
        fn send(&mut self, packets: &[Packet<'_>]) -> Result<Sent, SinkError> {
            assert!(packets.len() <= 4);
            self.0.extend(packets.iter().map(|packet| packet.datagram.unwrap().1[0]));
            Ok(Sent { packets: packets.len() as u64, ..Sent::default() })
        }
    }

    fn through(how: Impairment) -> Vec<u8> {
        let route = Route::to_group([10, 0, 0, 1], [239, 0, 0, 1], 1, 2);
        let mut batch = Batch::new();
        (0..200).for_each(|n| batch.push_datagram(n, &route, &[n as u8], 0).unwrap());
        let mut seen = Seen::default();
        let to = "239.0.0.1:2".parse().unwrap();
        let mut sink = ImpairedSink::new(&mut seen, [(to, how)], 3);
        let packets: Vec<_> = (0..200).map(|i| batch.get(i).unwrap()).collect();
        packets.chunks(4).for_each(|chunk| {
            sink.send(chunk).unwrap();
        });
        sink.finish().unwrap();
        seen.0
    }

    #[test]
    fn each_impairment_does_its_own() {
        let all: Vec<u8> = (0..200).collect();
        assert_eq!(through(Impairment { delay: 7, ..Impairment::default() }), all);
        let lost = through(Impairment { loss: 0.2, ..Impairment::default() });
        assert!(lost.len() > 120 && lost.len() < 190 && lost.is_sorted());
        let twice = through(Impairment { duplicate: 0.2, ..Impairment::default() });
        assert!(twice.len() > 210 && twice.is_sorted());
        let mut mixed = through(Impairment { reorder: 0.2, span: 5, ..Impairment::default() });
        assert!(!mixed.is_sorted());
        mixed.sort_unstable();
        assert_eq!(mixed, all);
    }
}
