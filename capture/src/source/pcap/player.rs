//! A capture file as a source.

use std::time::{Duration, Instant};

use super::{PcapError, Reader};
use crate::source::{Polled, Source, SourceError};

/// Frames handed over per poll, as many as the AF_XDP source takes.
const BATCH: u32 = 64;

/// How fast a capture is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    /// As fast as the worker takes it.
    #[default]
    Unlimited,
    /// With the pauses of the recording.
    Recorded,
}

/// A capture file as a source: its packets carry the times they were captured at.
pub struct PcapSource {
    reader: Reader,
    speed: Speed,
    /// When the first packet that has a time was handed over, and its time.
    started: Option<(Instant, u64)>,
    /// The packet that was read and not handed over: the first, or one whose time has not come.
    pending: Option<(u64, Vec<u8>)>,
}

impl PcapSource {
    /// Plays `reader`. Reads its first packet already.
    pub fn new(reader: Reader, speed: Speed) -> Result<PcapSource, PcapError> {
        let mut source = PcapSource { reader, speed, started: None, pending: None };
        source.pending = source.reader.next()?.map(|packet| (packet.ts_ns, packet.data.to_vec()));
        Ok(source)
    }

    /// The reader, for its counters.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// How long until a packet of time `ts_ns` is due; `None` if it is. One without a time is: from 0 to
    /// the next one's it is decades.
    fn early(&mut self, ts_ns: u64) -> Option<Duration> {
        if ts_ns == 0 {
            return None;
        }
        let &mut (at, first_ns) = self.started.get_or_insert((Instant::now(), ts_ns));
        let due = Duration::from_nanos(ts_ns.saturating_sub(first_ns));
        due.checked_sub(at.elapsed()).filter(|left| !left.is_zero())
    }

    fn poll_recorded(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        for handed in 0..BATCH {
            if self.pending.is_none() {
                match self.reader.next()? {
                    Some(packet) => self.pending = Some((packet.ts_ns, packet.data.to_vec())),
                    None if handed == 0 => return Ok(Polled::Ended),
                    None => return Ok(Polled::Frames(handed)),
                }
            }
            let Some((ts_ns, frame)) = self.pending.take() else { continue };
            if self.early(ts_ns).is_some() {
                self.pending = Some((ts_ns, frame));
                return Ok(if handed == 0 { Polled::Idle } else { Polled::Frames(handed) });
            }
            sink(&frame, ts_ns);
        }
        Ok(Polled::Frames(BATCH))
    }
}

impl Source for PcapSource {
    fn poll(&mut self, sink: &mut impl FnMut(&[u8], u64)) -> Result<Polled, SourceError> {
        if self.speed == Speed::Recorded {
            return self.poll_recorded(sink);
        }
        let first = match self.pending.take() {
            Some((ts_ns, frame)) => {
                sink(&frame, ts_ns);
                1
            }
            None => 0,
        };
        for handed in first..BATCH {
            match self.reader.next()? {
                Some(packet) => sink(packet.data, packet.ts_ns),
                None if handed == 0 => return Ok(Polled::Ended),
                None => return Ok(Polled::Frames(handed)),
            }
        }
        Ok(Polled::Frames(BATCH))
    }

    fn wait(&self, timeout: Duration) {
        let left = match (&self.pending, self.started) {
            (Some((ts_ns, _)), Some((at, first_ns))) => {
                Duration::from_nanos(ts_ns.saturating_sub(first_ns)).saturating_sub(at.elapsed())
            }
            _ => timeout,
        };
        std::thread::sleep(left.min(timeout));
    }
}
