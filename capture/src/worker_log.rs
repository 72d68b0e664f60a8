//! What the worker's thread has to say, as defmt frames in the segment: a few bytes written into
//! memory, no text and no system call. `wiretape logs` turns them into sentences with the strings
//! that it finds in this program's file.
//!
//! The worker does not log at each mishap, which it counts, but what has been counted since it
//! last said so: at most ten times a second of each kind, and nothing is left out, as the next
//! message of a kind has what was counted meanwhile. That next one is said when the second is over,
//! packets or none, and in any case before the worker, or the feed, ends.
//!
//! Format strings are symbols of the program, as defmt makes them; arguments are plain numbers
//! only. That is what makes do without defmt's linker script, which a hosted program cannot have:
//! a frame begins with the low 16 bits of the address of its string, wherever the loader has put
//! the program, and the segment has the address of the program's first byte beside it.

use std::cell::Cell;
use std::time::UNIX_EPOCH;

use wiretape_core::segment::{
    Counter, FRAME_BYTES, FeedCounter, FeedState, FeedWriter, LogFrame, LogProgram, LogWriter,
    MAX_FEEDS, SegmentWriter,
};

use crate::clock::utc_ns;

thread_local! {
    static FRAME: [Cell<u8>; FRAME_BYTES] = const { [const { Cell::new(0) }; FRAME_BYTES] };
    static LENGTH: Cell<usize> = const { Cell::new(0) };
}

/// Takes frames down in memory of the thread.
#[defmt::global_logger]
struct ThreadLogger;

// SAFETY: defmt wants frames of different contexts kept apart: each thread has a frame of its own,
// and no signal handler logs.
unsafe impl defmt::Logger for ThreadLogger {
    fn acquire() {
        LENGTH.set(0);
    }

    unsafe fn flush() {}

    unsafe fn release() {}

    unsafe fn write(bytes: &[u8]) {
        FRAME.with(|frame| {
            let start = LENGTH.get();
            for (cell, byte) in frame.iter().skip(start).zip(bytes) {
                cell.set(*byte);
            }
            LENGTH.set(start + bytes.len());
        });
    }
}

// The ring has the time of each frame already.
defmt::timestamp!("");

unsafe extern "C" {
    /// First byte of the program in memory: its ELF header. Provided by the linker.
    static __ehdr_start: u8;
}

/// Kinds of messages, each with a limit of its own.
#[derive(Clone, Copy)]
enum Kind {
    Gaps,
    JoinedLate,
    Restarts,
    NewSessions,
    Malformed,
    Unknown,
    Book,
    Window,
    OtherFrames,
    InstrumentsFull,
    /// Feeds come and go.
    Feeds,
    Life,
}

const KINDS: usize = Kind::Life as usize + 1;
/// Messages of a kind in a second.
const BURST: u32 = 10;
const SECOND: u64 = 1_000_000_000;
/// How often the worker looks at its counters, by the receive times of packets.
const LOOK_EVERY_NS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
struct Limit {
    since: u64,
    said: u32,
}

/// Counters of a feed that are worth a word, as they were said last.
const WATCHED: [FeedCounter; 11] = [
    FeedCounter::Gaps,
    FeedCounter::LostMessages,
    FeedCounter::JoinedLateMessages,
    FeedCounter::Restarts,
    FeedCounter::NewSessions,
    FeedCounter::MalformedPackets,
    FeedCounter::UnknownMessages,
    FeedCounter::BadMessages,
    FeedCounter::BookErrors,
    FeedCounter::WindowFull,
    FeedCounter::EndsOfSession,
];

type Said = [u64; WATCHED.len()];

/// The worker's log.
#[derive(Debug)]
pub struct WorkerLog<'m> {
    segment: SegmentWriter<'m>,
    writer: Option<LogWriter<'m>>,
    /// Feeds that the segment has room for.
    feeds: usize,
    said: [Said; MAX_FEEDS],
    oversize: u64,
    instruments_full: u64,
    limits: [[Limit; KINDS]; MAX_FEEDS],
    next_look_ns: u64,
    /// Whether the limit of some kind kept something back at the latest look.
    held_back: bool,
}

impl<'m> WorkerLog<'m> {
    /// The log of `segment`, and in it where this program's strings are.
    pub fn new(segment: SegmentWriter<'m>) -> WorkerLog<'m> {
        let writer = segment.logs();
        if let Some(writer) = &writer {
            writer.set_program(&program());
        }
        let feeds = (0..MAX_FEEDS).take_while(|index| segment.feed(*index).is_some()).count();
        WorkerLog {
            segment,
            writer,
            feeds,
            said: [[0; WATCHED.len()]; MAX_FEEDS],
            oversize: 0,
            instruments_full: 0,
            limits: [[Limit::default(); KINDS]; MAX_FEEDS],
            next_look_ns: 0,
            held_back: false,
        }
    }

    /// Says that the worker starts.
    pub fn start(&mut self) {
        let used = |index: &usize| {
            self.segment.feed(*index).is_some_and(|feed| feed.view().state() != FeedState::Unused)
        };
        let feeds = (0..self.feeds).take_while(used).count() as u8;
        let epoch = self.segment.header().epoch();
        self.say(0, Kind::Life, || {
            defmt::info!("worker starts: epoch {=u64}, feeds: {=u8}", epoch, feeds);
        });
    }

    /// Says what there is to be said, and that the worker ends.
    pub fn end(&mut self) {
        self.look_without_limits();
        let counters = self.segment.counters();
        let (frames, events) = (counters.get(Counter::Frames), counters.get(Counter::Events));
        self.say(0, Kind::Life, || {
            defmt::info!(
                "worker ends, frames taken: {=u64}, events published: {=u64}",
                frames,
                events
            );
        });
    }

    /// Says that a feed was added.
    pub fn feed_added(&mut self, feed: usize) {
        let name = feed as u8;
        self.say(feed, Kind::Feeds, || defmt::info!("feed {=u8}: added", name));
    }

    /// Says what there is to be said of a feed, and that it was removed.
    pub fn feed_removed(&mut self, feed: usize) {
        self.look_without_limits();
        let name = feed as u8;
        self.say(feed, Kind::Feeds, || defmt::info!("feed {=u8}: removed", name));
    }

    /// After a batch whose last frame was received at `received_ns`.
    #[inline]
    pub fn end_batch(&mut self, received_ns: u64) {
        if received_ns >= self.next_look_ns {
            self.next_look_ns = received_ns.saturating_add(LOOK_EVERY_NS);
            self.look();
        }
    }

    /// What a feed's counter was when it was said last.
    #[cfg(test)]
    pub fn said_of(&self, feed: usize, counter: FeedCounter) -> u64 {
        let place = WATCHED.iter().position(|watched| *watched == counter).expect("one watched");
        self.said[feed][place]
    }

    /// Whether there is more to be said than the limits allowed at the latest look.
    pub fn holds_back(&self) -> bool {
        self.held_back
    }

    /// The last look before an end: nobody would say later what the limits keep back.
    fn look_without_limits(&mut self) {
        self.limits = [[Limit::default(); KINDS]; MAX_FEEDS];
        self.look();
    }

    /// Looks at the counters, and says which have moved.
    #[cold]
    pub fn look(&mut self) {
        self.held_back = false;
        for feed in 0..self.feeds {
            let Some(writer) = self.segment.feed(feed) else { continue };
            let now = WATCHED.map(|counter| count(&writer, counter));
            if Some(&now) != self.said.get(feed) {
                self.say_feed(feed, &now);
            }
        }
        let counters = self.segment.counters();
        let (oversize, full) =
            (counters.get(Counter::FrameOversize), counters.get(Counter::InstrumentsFull));
        if oversize != self.oversize {
            let more = oversize.wrapping_sub(self.oversize);
            let said = self.say(0, Kind::OtherFrames, || {
                defmt::warn!("packets dropped, too long for a frame: {=u64}", more);
            });
            self.oversize = if said { oversize } else { self.oversize };
        }
        if full != self.instruments_full {
            let more = full.wrapping_sub(self.instruments_full);
            let said = self.say(0, Kind::InstrumentsFull, || {
                defmt::warn!("messages of instruments that there is no room for: {=u64}", more);
            });
            self.instruments_full = if said { full } else { self.instruments_full };
        }
    }

    fn say_feed(&mut self, feed: usize, now: &Said) {
        let Some(before) = self.said.get(feed).copied() else { return };
        let [gaps, lost, late, restarts, sessions, malformed, unknown, bad, book, window, ends] =
            std::array::from_fn(|i| now[i].wrapping_sub(before[i]));
        let name = feed as u8;
        let mut after = before;
        let mut note = |this: &mut Self, kind, indices: &[usize], write: &dyn Fn()| {
            if indices.iter().any(|i| now[*i] != before[*i]) && this.say(feed, kind, write) {
                indices.iter().for_each(|i| after[*i] = now[*i]);
            }
        };
        note(self, Kind::JoinedLate, &[2], &|| {
            defmt::warn!("feed {=u8}: joined late, messages sent before: {=u64}", name, late);
        });
        note(self, Kind::Gaps, &[0, 1], &|| {
            defmt::warn!("feed {=u8}: messages lost: {=u64}, gaps: {=u64}", name, lost, gaps);
        });
        note(self, Kind::Restarts, &[3], &|| {
            defmt::warn!("feed {=u8}: times the session started over: {=u64}", name, restarts);
        });
        note(self, Kind::NewSessions, &[4], &|| {
            defmt::warn!("feed {=u8}: times another session took over: {=u64}", name, sessions);
        });
        note(self, Kind::Malformed, &[5], &|| {
            defmt::warn!("feed {=u8}: malformed packets: {=u64}", name, malformed);
        });
        note(self, Kind::Unknown, &[6, 7], &|| {
            defmt::warn!(
                "feed {=u8}: messages of unknown type: {=u64}, of a wrong length: {=u64}",
                name,
                unknown,
                bad
            );
        });
        note(self, Kind::Book, &[8], &|| {
            defmt::warn!(
                "feed {=u8}: messages that could not be applied to a book: {=u64}",
                name,
                book
            );
        });
        note(self, Kind::Window, &[9], &|| {
            defmt::warn!("feed {=u8}: times the reorder window was full: {=u64}", name, window);
        });
        note(self, Kind::Life, &[10], &|| {
            defmt::info!(
                "feed {=u8}: times the end of the session was announced: {=u64}",
                name,
                ends
            );
        });
        if let Some(said) = self.said.get_mut(feed) {
            *said = after;
        }
    }

    /// Publishes what `write` logs, if the limit of its kind allows; whether it did.
    fn say(&mut self, feed: usize, kind: Kind, write: impl Fn()) -> bool {
        let now = utc_ns();
        let Some(writer) = &mut self.writer else { return true };
        let Some(limit) = self.limits.get_mut(feed).and_then(|one| one.get_mut(kind as usize))
        else {
            return true;
        };
        if now.wrapping_sub(limit.since) >= SECOND {
            *limit = Limit { since: now, said: 0 };
        }
        if limit.said >= BURST {
            self.held_back = true;
            return false;
        }
        limit.said += 1;
        write();
        let (bytes, length) = (FRAME.with(|frame| frame.each_ref().map(Cell::get)), LENGTH.get());
        if let Some(frame) = bytes.get(..length).and_then(|bytes| LogFrame::new(now, bytes)) {
            writer.publish(&frame);
        }
        true
    }
}

fn count(feed: &FeedWriter<'_>, counter: FeedCounter) -> u64 {
    feed.view().counter(counter)
}

/// Where this program's strings are to be found.
fn program() -> LogProgram {
    let load_address = (&raw const __ehdr_start) as u64;
    let file = std::fs::metadata("/proc/self/exe").ok();
    let modified = |file: &std::fs::Metadata| {
        let since = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_nanos() as u64)
    };
    LogProgram {
        load_address,
        bytes: file.as_ref().map_or(0, std::fs::Metadata::len),
        modified_ns: file.as_ref().and_then(modified).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiretape_core::segment::{FeedIdentity, SegmentLayout, SegmentSpec, SegmentView};
    use wiretape_core::sync::AtomicU64;

    fn words() -> Vec<AtomicU64> {
        let total = SegmentLayout::new(&spec()).unwrap().total_words;
        (0..total).map(|_| AtomicU64::new(0)).collect()
    }

    fn spec() -> SegmentSpec<'static> {
        SegmentSpec {
            worker: "w",
            epoch: 9,
            pid: 1,
            event_slots: 16,
            instruments: 1,
            feeds: 2,
            depths: 0,
        }
    }

    /// The last argument of each frame.
    fn last_numbers(view: &SegmentView<'_>) -> Vec<u64> {
        let mut reader = view.logs().unwrap();
        let mut numbers = Vec::new();
        while let Some(frame) = reader.read().unwrap() {
            numbers.push(u64::from_le_bytes(*frame.bytes().last_chunk().unwrap()));
        }
        numbers
    }

    #[test]
    fn what_is_said_is_limited_and_what_was_counted_meanwhile_is_said_later() {
        let words = words();
        let segment = SegmentWriter::create(&words, &spec()).unwrap();
        segment.start();
        let view = SegmentView::attach(&words).unwrap();
        let mut log = WorkerLog::new(segment);
        let feed = segment.feed(1).unwrap();
        log.look();
        assert_eq!(last_numbers(&view), [0; 0], "nothing to be said");
        for _ in 0..500 {
            feed.add(FeedCounter::MalformedPackets, 3);
            log.look();
        }
        let said = last_numbers(&view);
        // A second may have ended meanwhile.
        assert!((BURST as usize..=2 * BURST as usize).contains(&said.len()), "{said:?}");
        // Of another kind, and of another feed: limits of their own.
        feed.add(FeedCounter::BookErrors, 1);
        segment.feed(0).unwrap().add(FeedCounter::MalformedPackets, 4);
        log.look();
        assert_eq!(last_numbers(&view)[said.len()..], [4, 1]);
        std::thread::sleep(std::time::Duration::from_millis(1_050));
        log.look();
        let all = last_numbers(&view);
        assert_eq!(all.iter().sum::<u64>(), 1_500 + 4 + 1, "{all:?}");
    }

    #[test]
    fn what_was_held_back_is_said_before_an_end() {
        let words = words();
        let segment = SegmentWriter::create(&words, &spec()).unwrap();
        segment.start();
        let view = SegmentView::attach(&words).unwrap();
        let mut log = WorkerLog::new(segment);
        let feed = segment.feed(1).unwrap();
        let burst = |log: &mut WorkerLog<'_>| {
            for _ in 0..=2 * BURST {
                feed.add(FeedCounter::Restarts, 1);
                log.look();
            }
            assert!(log.holds_back());
        };
        let each = u64::from(2 * BURST + 1);
        burst(&mut log);
        log.feed_removed(1);
        assert!(!log.holds_back());
        burst(&mut log);
        log.end();
        let mut reader = view.logs().unwrap();
        let mut restarts = 0;
        while let Some(frame) = reader.read().unwrap() {
            // The string's number, the feed's, a count.
            if let Some(&[_, _, 1, ref count @ ..]) = frame.bytes().first_chunk::<11>() {
                restarts += u64::from_le_bytes(*count);
            }
        }
        assert_eq!(restarts, 2 * each);
    }

    #[test]
    fn a_frame_begins_with_the_address_of_its_string_and_holds_its_arguments() {
        let words = words();
        let segment = SegmentWriter::create(&words, &spec()).unwrap();
        segment.start();
        let view = SegmentView::attach(&words).unwrap();
        let mut log = WorkerLog::new(segment);
        // One feed; the other place is for one that may come.
        segment.feed(0).unwrap().set_identity(&FeedIdentity::default());
        log.start();
        let mut reader = view.logs().unwrap();
        let frame = reader.read().unwrap().unwrap();
        assert_eq!(frame.bytes().len(), 2 + 8 + 1);
        assert_eq!(frame.bytes()[2..], [9, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(frame.ts <= utc_ns() && utc_ns() - frame.ts < SECOND);
        let program = reader.program();
        let own = std::fs::metadata(std::env::current_exe().unwrap()).unwrap();
        assert_eq!((program.bytes, program.load_address % 4096), (own.len(), 0));
    }
}
