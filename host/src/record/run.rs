//! One capture run: from the shared frames of its queues to blocks of pcapng.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wiretape_core::frames::{FramesReader, Missed, PACKET_MAX, Packet};
use wiretape_core::segment::{Counter, Ledger, QueueIdentity};

use super::RecordError;
use super::files::{End, Files};
use super::frames::SharedFrames;
use super::interfaces::Interfaces;
use super::look_ahead::LookAhead;
use super::pcapng::{self, Totals};
use super::recorder::{LOOK_EVERY, RecordNotice, Recorded, has_ended};
use crate::reader::Segment;

/// How long the recorder sleeps when it has read everything.
const REST: Duration = Duration::from_micros(500);
/// How long a recorder that is to stop goes on with what is there, should more come all the time.
const STOPPING: Duration = Duration::from_millis(500);
/// How often the recorder says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Packets of a queue that are read in one turn.
const BATCH: usize = 256;

/// A queue that is recorded.
struct Queue<'m> {
    reader: FramesReader<'m>,
    identity: QueueIdentity,
    /// Its place among the queues of the whole recording.
    place: usize,
    totals: Totals,
    /// Packets missed since the one read last.
    missing: u64,
}

/// The recording of one capture run.
pub(super) struct Run<'r> {
    segment: &'r Segment,
    files: &'r mut Files,
    recorded: &'r mut Recorded,
    epoch: u64,
    queues: Vec<Queue<'r>>,
    interfaces: Interfaces,
    ahead: LookAhead,
    /// Head of each file.
    head: Vec<u8>,
    /// The packet that is being read or written.
    bytes: Vec<u8>,
    told: Instant,
}

impl<'r> Run<'r> {
    /// Begins at the oldest packets that are there.
    pub fn new(
        segment: &'r Segment,
        frames: &'r SharedFrames,
        files: &'r mut Files,
        recorded: &'r mut Recorded,
    ) -> Result<Run<'r>, RecordError> {
        let mut queues = Vec::new();
        for reader in frames.readers()? {
            let identity = reader.queue().clone();
            let (totals, place) = (Totals::default(), recorded.place_of(&identity));
            queues.push(Queue { reader, identity, place, totals, missing: 0 });
        }
        let names: Vec<String> = queues.iter().map(|queue| queue.identity.to_string()).collect();
        let epoch = frames.epoch()?;
        let comment = format!(
            "worker {}, epoch {epoch}; the first {} interfaces are the queues: they have what \
             belongs to no line, and the statistics of all their packets: received, lost before \
             the capture, shared by it, missed by the recorder, recorded",
            files.worker(),
            names.len(),
        );
        let source = segment.view().map(|view| view.header().source().as_str().to_owned());
        let mut head = Vec::new();
        pcapng::head(&mut head, &comment, &names, &source.unwrap_or_default())?;
        let ahead = LookAhead::new(queues.len());
        let mut run = Run {
            segment,
            files,
            recorded,
            epoch,
            queues,
            interfaces: Interfaces::new(names),
            ahead,
            head,
            bytes: Vec::new(),
            told: Instant::now(),
        };
        run.look_at_segment();
        Ok(run)
    }

    /// Records to the end of the run, or until told to stop. Where all of it is to be there
    /// (`from_start`), what was recycled before this began was missed.
    pub fn record(
        &mut self,
        stop: &AtomicBool,
        until_end: bool,
        from_start: bool,
        notice: &mut dyn FnMut(RecordNotice),
    ) -> Result<(), End> {
        let epoch = self.epoch;
        let begin = |queue: &Queue<'_>| (queue.identity.clone(), queue.reader.next_packet());
        notice(RecordNotice::Began { epoch, queues: self.queues.iter().map(begin).collect() });
        if from_start {
            for index in 0..self.queues.len() {
                let next = self.queues.get(index).map_or(0, |queue| queue.reader.next_packet());
                if next > 1 {
                    self.miss(index, 1, next, notice);
                }
            }
        }
        let mut looked = Instant::now();
        let mut over = false;
        let mut stopping: Option<Instant> = None;
        loop {
            // Read with acquire before this turn: it sees all that was shared before the end.
            let last_turn = over;
            let now = Instant::now();
            if stop.load(Ordering::Relaxed)
                && now.duration_since(*stopping.get_or_insert(now)) > STOPPING
            {
                break;
            }
            let read = self.read_turn(now, notice)?;
            let written = self.write_waiting()?;
            self.tell(now, notice);
            if now.duration_since(looked) >= LOOK_EVERY {
                looked = now;
                self.look_at_segment();
                over = stop.load(Ordering::Relaxed) || has_ended(self.segment, until_end);
                if !read && self.files.ends_in_silence(utc_ns()) {
                    self.end_file()?;
                }
            }
            self.files.flush_if_due(now)?;
            if read || written {
                continue;
            }
            if last_turn {
                break;
            }
            if !over {
                std::thread::sleep(REST);
            }
        }
        self.ahead.end();
        self.write_waiting()?;
        self.look_at_segment();
        self.end_file()?;
        if has_ended(self.segment, until_end) {
            notice(RecordNotice::Ended { epoch });
        }
        Ok(())
    }

    /// Reads from each queue what is there, up to a batch; whether there was something.
    fn read_turn(
        &mut self,
        now: Instant,
        notice: &mut dyn FnMut(RecordNotice),
    ) -> Result<bool, End> {
        self.ahead.begin_turn(now);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(PACKET_MAX, 0);
        let mut any = false;
        for index in 0..self.queues.len() {
            for _ in 0..BATCH {
                if !self.ahead.has_room(index) {
                    break;
                }
                match self.read(index, &mut bytes, notice) {
                    Some(Some((packet, missing))) if self.queues.len() == 1 => {
                        // Nothing to put in order, and so nothing to copy.
                        let packet_bytes = bytes.get(..packet.len).unwrap_or(&bytes);
                        self.write(index, &packet, missing, packet_bytes)?;
                    }
                    Some(Some((packet, missing))) => {
                        self.ahead.push(index, packet, missing, &bytes);
                    }
                    Some(None) => {}
                    None => {
                        self.ahead.found_empty(index);
                        break;
                    }
                }
                any = true;
            }
        }
        self.bytes = bytes;
        Ok(any)
    }

    /// Reads the next packet of a queue, with the number of those missed in front of it; `None` if
    /// there is nothing, `Some(None)` for what is none.
    fn read(
        &mut self,
        index: usize,
        bytes: &mut [u8],
        notice: &mut dyn FnMut(RecordNotice),
    ) -> Option<Option<(Packet, u64)>> {
        let queue = self.queues.get_mut(index)?;
        let found = queue.reader.read(bytes);
        queue.totals.shared = queue.reader.next_packet().saturating_sub(1);
        match found {
            Ok(Some(packet)) => return Some(Some((packet, std::mem::take(&mut queue.missing)))),
            Ok(None) => return None,
            Err(Missed::Recycled { first, end }) => {
                self.miss(index, first, end, notice);
            }
            Err(Missed::Damaged { .. }) => {
                queue.missing = queue.missing.saturating_add(1);
                self.recorded.damaged += 1;
                if let Some(of_queue) = self.recorded.queues.get_mut(queue.place) {
                    of_queue.damaged += 1;
                }
            }
        }
        Some(None)
    }

    /// Counts packets `first..end` of a queue as missed, and says so.
    fn miss(&mut self, index: usize, first: u64, end: u64, notice: &mut dyn FnMut(RecordNotice)) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        // Numbers of a writer that is damaged may be anything.
        let count = end.saturating_sub(first);
        queue.missing = queue.missing.saturating_add(count);
        queue.totals.missed = queue.totals.missed.saturating_add(count);
        self.recorded.missed = self.recorded.missed.saturating_add(count);
        if let Some(of_queue) = self.recorded.queues.get_mut(queue.place) {
            of_queue.missed = of_queue.missed.saturating_add(count);
        }
        notice(RecordNotice::Missed { queue: queue.identity.clone(), first, end });
    }

    /// Writes the packets that need not wait any longer; whether there were some.
    fn write_waiting(&mut self) -> Result<bool, End> {
        let (mut bytes, mut any) = (std::mem::take(&mut self.bytes), false);
        while let Some((index, waiting)) = self.ahead.pop(&mut bytes) {
            self.write(index, &waiting.packet, waiting.missing, &bytes)?;
            any = true;
        }
        self.bytes = bytes;
        Ok(any)
    }

    fn write(
        &mut self,
        index: usize,
        packet: &Packet,
        missing: u64,
        bytes: &[u8],
    ) -> Result<(), End> {
        if self.files.ends_before(packet.ts_recv, bytes.len()) {
            self.end_file()?;
        }
        if !self.files.is_open() {
            self.files.begin(packet.ts_recv)?;
            self.interfaces.begin_file();
            let head = &self.head;
            self.files.append(|out| {
                out.extend_from_slice(head);
                Ok(())
            })?;
        }
        let interfaces = &mut self.interfaces;
        self.recorded.frames += 1;
        self.files.append_packet(|out| {
            let interface = interfaces.number(index, bytes, out)?;
            pcapng::packet(out, interface, packet.ts_recv, bytes, missing)
        })?;
        self.recorded.bytes += bytes.len() as u64;
        if let Some(queue) = self.queues.get_mut(index) {
            queue.totals.recorded += 1;
            if let Some(of_queue) = self.recorded.queues.get_mut(queue.place) {
                of_queue.frames += 1;
            }
        }
        Ok(())
    }

    /// Takes the capture's own counters, and the lines of feeds that are new.
    fn look_at_segment(&mut self) {
        let Some(view) = self.segment.view() else { return };
        self.interfaces.look_at(&view);
        for block in view.queues() {
            let identity = block.identity();
            let its = |queue: &&mut Queue<'_>| Some(&queue.identity) == identity.as_ref();
            if let Some(queue) = self.queues.iter_mut().find(its) {
                queue.totals.redirected = block.counters().get(Counter::XdpRedirected);
                queue.totals.lost = Ledger::read(&block.counters(), true).lost();
            }
        }
    }

    fn end_file(&mut self) -> Result<(), End> {
        if self.files.is_open() {
            for (number, queue) in (0..).zip(&self.queues) {
                let totals = &queue.totals;
                self.files.append(|out| pcapng::statistics(out, number, utc_ns(), totals))?;
            }
            self.files.end()?;
        }
        Ok(())
    }

    fn tell(&mut self, now: Instant, notice: &mut dyn FnMut(RecordNotice)) {
        if now.duration_since(self.told) >= PROGRESS_EVERY {
            self.told = now;
            notice(RecordNotice::Progress(self.recorded.clone()));
        }
    }
}

fn utc_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
