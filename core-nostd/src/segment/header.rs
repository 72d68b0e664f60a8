//! The segment's header: identity, state, heartbeat, and where the regions lie.

use super::layout::{
    HEADER_WORDS, LAYOUT_HASH, MAGIC, REGIONS, Region, SegmentLayout, SegmentSpec, VERSION,
};
use crate::ring::wake::WakeWord;
use crate::sync::{AtomicU64, Ordering};

/// No epoch: a value that no start of a capture process has.
pub const EPOCH_NONE: u64 = 0;

/// Life of the segment, as its writer (or its successor) states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// Being laid out; not to be read.
    Creating = 0,
    /// The worker runs.
    Running = 1,
    /// The worker takes in what was received before it was told to stop.
    Draining = 2,
    /// The worker ended cleanly; all that will ever be here is here.
    Ended = 3,
    /// A later capture process found this segment without a living writer and replaced it.
    Superseded = 4,
}

impl State {
    /// The state of a raw word; `None` if no version of this crate wrote it.
    pub const fn from_raw(raw: u64) -> Option<State> {
        match raw {
            0 => Some(State::Creating),
            1 => Some(State::Running),
            2 => Some(State::Draining),
            3 => Some(State::Ended),
            4 => Some(State::Superseded),
            _ => None,
        }
    }

    /// Whether events may still appear.
    pub const fn is_live(self) -> bool {
        matches!(self, State::Creating | State::Running | State::Draining)
    }

    /// The state's name, as status prints it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Creating => "creating",
            State::Running => "running",
            State::Draining => "draining",
            State::Ended => "ended",
            State::Superseded => "superseded",
        }
    }
}

// Word offsets. What the writer changes often lies on lines (pairs of lines) of its own.
mod word {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 1;
    pub const LAYOUT_HASH: usize = 2;
    pub const TOTAL_WORDS: usize = 3;
    pub const EPOCH: usize = 4;
    pub const PID: usize = 5;
    pub const STATE: usize = 6;
    pub const HEARTBEAT: usize = 7;
    pub const NAME: usize = 8;
    pub const SOURCE: usize = 12;
    pub const PREDECESSOR: usize = 28;
    pub const HEAD: usize = 32;
    pub const WAKE: usize = 48;
    pub const REGIONS: usize = 64;
}
const NAME_WORDS: usize = 4;
const SOURCE_WORDS: usize = 16;

/// The header's words.
#[derive(Clone, Copy, Debug)]
pub struct Header<'m> {
    words: &'m [AtomicU64; HEADER_WORDS],
}

impl<'m> Header<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Option<Self> {
        Some(Header { words: words.first_chunk()? })
    }

    #[inline]
    fn get(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    #[inline]
    fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.words.get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Fills everything in but the state, which stays [`State::Creating`].
    pub(super) fn initialise(&self, spec: &SegmentSpec<'_>, layout: &SegmentLayout) {
        self.set(word::STATE, State::Creating as u64);
        self.set(word::VERSION, u64::from(VERSION));
        self.set(word::LAYOUT_HASH, LAYOUT_HASH);
        self.set(word::TOTAL_WORDS, layout.total_words as u64);
        self.set(word::EPOCH, spec.epoch);
        self.set(word::PID, u64::from(spec.pid));
        self.set_text(word::NAME, NAME_WORDS, spec.worker);
        for (i, region) in layout.regions().iter().enumerate() {
            self.set(word::REGIONS + 2 * i, region.offset as u64);
            self.set(word::REGIONS + 2 * i + 1, region.words as u64);
        }
        if let Some(magic) = self.words.get(word::MAGIC) {
            // Pairs with the acquire load in `magic`.
            magic.store(MAGIC, Ordering::Release);
        }
    }

    /// The first word: who sees the magic sees version, hash and regions.
    pub(super) fn magic(&self) -> u64 {
        self.words.get(word::MAGIC).map_or(0, |magic| magic.load(Ordering::Acquire))
    }
    pub(super) fn version(&self) -> u64 {
        self.get(word::VERSION)
    }
    pub(super) fn layout_hash(&self) -> u64 {
        self.get(word::LAYOUT_HASH)
    }
    pub(super) fn layout(&self) -> SegmentLayout {
        let regions: [Region; REGIONS] = core::array::from_fn(|i| Region {
            offset: self.get(word::REGIONS + 2 * i) as usize,
            words: self.get(word::REGIONS + 2 * i + 1) as usize,
        });
        SegmentLayout::from_regions(regions, self.get(word::TOTAL_WORDS) as usize)
    }

    /// Epoch of the writing process.
    pub fn epoch(&self) -> u64 {
        self.get(word::EPOCH)
    }

    /// Epoch of the run whose segment this one took the place of; [`EPOCH_NONE`] if there was none
    /// that could be read. Who came from another run than that has missed one.
    pub fn predecessor(&self) -> u64 {
        self.get(word::PREDECESSOR)
    }

    /// Says whose place this segment takes, before it does.
    pub fn set_predecessor(&self, epoch: u64) {
        self.set(word::PREDECESSOR, epoch);
    }

    /// Process id of the writer.
    pub fn pid(&self) -> u32 {
        self.get(word::PID) as u32
    }

    /// The state (acquire: everything written before the change of state is visible).
    /// A word that no version wrote counts as [`State::Ended`].
    pub fn state(&self) -> State {
        let raw = match self.words.get(word::STATE) {
            Some(state) => state.load(Ordering::Acquire),
            None => 0,
        };
        State::from_raw(raw).unwrap_or(State::Ended)
    }

    /// Changes the state (release). For the writer, and for a successor that found the writer
    /// dead.
    pub fn set_state(&self, state: State) {
        if let Some(word) = self.words.get(word::STATE) {
            word.store(state as u64, Ordering::Release);
        }
    }

    /// When the writer's control thread last gave a sign of life: CLOCK_MONOTONIC nanoseconds.
    pub fn heartbeat_ns(&self) -> u64 {
        self.get(word::HEARTBEAT)
    }

    /// Gives a sign of life.
    pub fn set_heartbeat_ns(&self, monotonic_ns: u64) {
        self.set(word::HEARTBEAT, monotonic_ns);
    }

    /// The ring's committed position.
    pub(super) fn head(&self) -> Option<&'m AtomicU64> {
        self.words.get(word::HEAD)
    }

    /// The word that readers sleep on and that the writer's control thread wakes them by.
    pub fn wake_word(&self) -> WakeWord<'m> {
        WakeWord::new(&self.words[word::WAKE])
    }

    /// Name of the worker.
    pub fn worker(&self) -> heapless::String<32> {
        self.text(word::NAME, NAME_WORDS)
    }

    /// Where the packets come from, in the writer's own words ("xdp veth0 queue 0, native, copy").
    pub fn source(&self) -> heapless::String<128> {
        self.text(word::SOURCE, SOURCE_WORDS)
    }

    /// Says where the packets come from; longer texts are cut at 128 bytes.
    pub fn set_source(&self, text: &str) {
        self.set_text(word::SOURCE, SOURCE_WORDS, text);
    }

    fn set_text(&self, index: usize, words: usize, text: &str) {
        let mut chunks = text.as_bytes().chunks(8);
        for i in 0..words {
            let mut bytes = [0u8; 8];
            for (to, from) in bytes.iter_mut().zip(chunks.next().unwrap_or(&[])) {
                *to = *from;
            }
            self.set(index + i, u64::from_le_bytes(bytes));
        }
    }

    fn text<const N: usize>(&self, index: usize, words: usize) -> heapless::String<N> {
        let mut text = heapless::String::new();
        for i in 0..words {
            for byte in self.get(index + i).to_le_bytes() {
                if byte == 0 {
                    return text;
                }
                // A shared text is an allegation: only printable ASCII is let through.
                let shown = if (0x20..0x7F).contains(&byte) { char::from(byte) } else { '?' };
                if text.push(shown).is_err() {
                    return text;
                }
            }
        }
        text
    }
}
