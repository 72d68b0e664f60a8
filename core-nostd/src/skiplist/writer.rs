//! The one writer: inserting, splitting, clearing.

use core::marker::PhantomData;

use super::node::{
    Before, LANE_LINES, LANE_SLOTS, LEAF_LINES, LEAF_SLOTS, LINE_WORDS, Lane, LaneOrder, Leaf,
    LeafOrder, LeafState, NONE,
};
use super::reader::SkipListReader;
use super::{
    AttachError, FIRST_LEAF, Full, HEADER_LINES, Header, Key, LANES_MAX, MAGIC, words_for_sorted,
};
use crate::sync::Ordering::{Relaxed, Release};
use crate::sync::{AtomicU64, fence};

/// How many leaves before the last an insert looks at before it searches from the top.
const STEPS_BACK: usize = 4;

/// The writer of a skip list.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use wiretape_core::skiplist::{self, SkipList};
///
/// let memory: Vec<AtomicU64> =
///     (0..skiplist::words_for(1_000)).map(|_| AtomicU64::new(0)).collect();
/// let mut ticks = SkipList::<i64>::create(&memory).unwrap();
/// for (time, row) in [(10, 0), (20, 1), (40, 2), (30, 3), (20, 4)] {
///     ticks.insert(time, row).unwrap();
/// }
/// let seen = ticks.reader(); // Copy and Send: for any number of other threads
/// let from_20: Vec<(i64, u64)> = seen.lower_bound(20).collect();
/// assert_eq!(from_20, [(20, 1), (20, 4), (30, 3), (40, 2)]);
/// assert_eq!(seen.floor(35), Some((30, 3)));
/// assert_eq!(seen.get(11), None);
/// ticks.clear();
/// assert!(seen.is_empty());
/// ```
#[derive(Debug)]
pub struct SkipList<'m, K> {
    words: &'m [AtomicU64],
    header: Header<'m>,
    len: u64,
    /// Lines that may be used, and those that are.
    lines: u32,
    used: u32,
    /// The last leaf and the key of the last entry.
    tail: u32,
    last: u64,
    finger: Finger,
    lanes: usize,
    top: u32,
    /// The last node of each lane.
    spine: [u32; LANES_MAX],
    key: PhantomData<fn(K)>,
}

/// A leaf, and which keys go there.
#[derive(Clone, Copy, Debug)]
struct Finger {
    leaf: u32,
    low: u64,
    /// The first key that goes to a later leaf.
    high: Option<u64>,
}

impl Finger {
    const NOWHERE: Finger = Finger { leaf: NONE, low: u64::MAX, high: Some(0) };

    fn covers(&self, key: u64) -> bool {
        self.low <= key && self.high.is_none_or(|high| key < high)
    }
}

/// The way down to a leaf: in each lane a node and the rank there, lowest lane first.
type Path = [(u32, usize); LANES_MAX];

impl<'m, K: Key> SkipList<'m, K> {
    /// Makes an empty list in `words`, which [`words_for`](super::words_for) can size. A list
    /// that is there already is cleared, and its readers notice.
    ///
    /// The caller sees to it that a list has one writer at a time.
    ///
    /// # Errors
    /// [`AttachError::TooSmall`] for less than the memory of one entry.
    pub fn create(words: &'m [AtomicU64]) -> Result<SkipList<'m, K>, AttachError> {
        let expected = words_for_sorted(1);
        let too_small = AttachError::TooSmall { found: words.len(), expected };
        if words.len() < expected {
            return Err(too_small);
        }
        let mut list = SkipList {
            words,
            header: Header::of(words).ok_or(too_small)?,
            len: 0,
            lines: u32::try_from(words.len() / LINE_WORDS).unwrap_or(u32::MAX),
            used: 0,
            tail: FIRST_LEAF,
            last: 0,
            finger: Finger::NOWHERE,
            lanes: 0,
            top: FIRST_LEAF,
            spine: [NONE; LANES_MAX],
            key: PhantomData,
        };
        list.clear();
        list.header.magic.store(MAGIC, Release);
        Ok(list)
    }

    /// A view for searching and iterating.
    pub fn reader(&self) -> SkipListReader<'m, K> {
        SkipListReader::new(self.words, self.header)
    }

    /// Entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Words that are in use.
    pub fn words_used(&self) -> usize {
        self.used as usize * LINE_WORDS
    }

    /// Removes all entries. Searches that run meanwhile start over, iterations end.
    pub fn clear(&mut self) {
        let generation = self.header.generation.load(Relaxed) | 1;
        self.header.generation.store(generation, Relaxed);
        // Partner: the acquire fences of the readers, before they look at the generation again.
        fence(Release);
        self.used = HEADER_LINES + LEAF_LINES;
        (self.lanes, self.spine, self.finger) = (0, [NONE; LANES_MAX], Finger::NOWHERE);
        (self.tail, self.last, self.len) = (FIRST_LEAF, 0, 0);
        if let Some(leaf) = Leaf::at(self.words, FIRST_LEAF) {
            leaf.wipe();
            leaf.set_previous(NONE);
            leaf.publish(LeafState::new(LeafOrder::ascending(0), NONE));
        }
        self.set_top(FIRST_LEAF);
        self.header.len.store(0, Relaxed);
        self.publish_lines();
        self.header.generation.store(generation.wrapping_add(1), Release);
    }

    /// Adds an entry, behind those that have the same key.
    ///
    /// # Errors
    /// [`Full`] if its memory is used up. The list is as it was.
    #[inline]
    pub fn insert(&mut self, key: K, value: u64) -> Result<(), Full> {
        let key = key.to_word();
        let full = Full { entries: self.len };
        if key >= self.last {
            let leaf = self.leaf(self.tail).ok_or(full)?;
            let state = leaf.state();
            if state.order().count() < LEAF_SLOTS {
                put(leaf, state, state.order().count(), key, value);
            } else {
                self.append_leaf(leaf, state, key, value).ok_or(full)?;
            }
            self.last = key;
        } else {
            self.insert_late(key, value).ok_or(full)?;
        }
        self.len += 1;
        self.header.len.store(self.len, Relaxed);
        Ok(())
    }

    /// Adds a leaf behind the last one, `leaf`, which is full.
    fn append_leaf(
        &mut self,
        leaf: Leaf<'m>,
        state: LeafState,
        key: u64,
        value: u64,
    ) -> Option<()> {
        self.check_room()?;
        let (line, right) = self.new_leaf()?;
        right.set(0, key, value);
        right.set_previous(self.tail);
        right.publish(LeafState::new(LeafOrder::ascending(1), NONE));
        leaf.publish(LeafState::new(state.order(), line));
        self.tail = line;
        // A finger on what was the last leaf ends where the new one begins.
        self.finger.high.get_or_insert(key);
        let mut path: Path = [(NONE, 0); LANES_MAX];
        for (step, node) in path.iter_mut().zip(self.spine).take(self.lanes) {
            *step = (node, self.lane(node)?.order().count().saturating_sub(1));
        }
        self.insert_above(&path, key, line)
    }

    /// Inserts before the last entry.
    fn insert_late(&mut self, key: u64, value: u64) -> Option<()> {
        let mut path = None;
        let line = match self.near(key) {
            Some(line) => line,
            None => {
                let (finger, way) = self.descend(key)?;
                path = Some(way);
                self.finger = finger;
                finger.leaf
            }
        };
        let leaf = self.leaf(line)?;
        let state = leaf.state();
        let rank = leaf.rank(state.order(), Before::up_to(key));
        if state.order().count() < LEAF_SLOTS {
            put(leaf, state, rank, key, value);
            return Some(());
        }
        self.check_room()?;
        let path = match path {
            Some(path) => path,
            None => self.descend(key)?.1,
        };
        self.finger = Finger::NOWHERE;
        let (low, right) = self.split_leaf(line, rank, key, value)?;
        self.insert_above(&path, low, right)
    }

    /// The leaf where `key` goes, if it is the last one used or one of the last in the list.
    fn near(&self, key: u64) -> Option<u32> {
        if self.finger.covers(key) {
            return Some(self.finger.leaf);
        }
        let mut line = self.tail;
        for _ in 0..STEPS_BACK {
            let leaf = self.leaf(line)?;
            if line == FIRST_LEAF || leaf.key(leaf.state().order().slot(0)) <= key {
                return Some(line);
            }
            line = leaf.previous();
        }
        None
    }

    /// The last leaf whose keys begin at or before `key`, and the way there.
    fn descend(&self, key: u64) -> Option<(Finger, Path)> {
        let mut path = [(NONE, 0); LANES_MAX];
        let mut finger = Finger { leaf: self.top, low: 0, high: None };
        for step in path.iter_mut().take(self.lanes).rev() {
            let lane = self.lane(finger.leaf)?;
            let order = lane.order();
            let rank = lane.last_before(order, Before::up_to(key));
            *step = (finger.leaf, rank);
            finger.low = lane.key(order.slot(rank));
            if rank + 1 < order.count() {
                finger.high = Some(lane.key(order.slot(rank + 1)));
            }
            finger.leaf = lane.below(order.slot(rank));
        }
        Some((finger, path))
    }

    /// Splits the full leaf at `line` around a new entry of `rank`. Returns the first key and the
    /// line of the new leaf to the right, which no lane knows yet.
    fn split_leaf(&mut self, line: u32, rank: usize, key: u64, value: u64) -> Option<(u64, u32)> {
        let leaf = self.leaf(line)?;
        let state = leaf.state();
        let (right_line, right) = self.new_leaf()?;
        let goes_right = rank >= LEAF_SLOTS.div_ceil(2);
        // A list that grows downwards would leave half-empty leaves behind.
        let keep = match goes_right {
            true => LEAF_SLOTS.div_ceil(2),
            false if rank == 0 => 0,
            false => LEAF_SLOTS.div_ceil(2) - 1,
        };
        let mut count = 0;
        for old in keep..=LEAF_SLOTS {
            if goes_right && old == rank {
                right.set(count, key, value);
                count += 1;
            }
            if old < LEAF_SLOTS {
                let slot = state.order().slot(old);
                right.set(count, leaf.key(slot), leaf.value(slot));
                count += 1;
            }
        }
        let next = state.next();
        right.set_previous(line);
        right.publish(LeafState::new(LeafOrder::ascending(count), next));
        match self.leaf(next) {
            Some(next) if state.next() != NONE => next.set_previous(right_line),
            _ => self.tail = right_line,
        }
        let kept = LeafState::new(state.order().with_count(keep), right_line);
        leaf.truncate(kept);
        if !goes_right {
            put(leaf, kept, rank, key, value);
        }
        Some((right.key(0), right_line))
    }

    /// Makes the new leaf at `below`, which begins with `low` and stands right of the one that
    /// `path` leads to, known to the lanes.
    fn insert_above(&mut self, path: &Path, mut low: u64, mut below: u32) -> Option<()> {
        for (index, (line, rank)) in path.iter().enumerate().take(self.lanes) {
            let lane = self.lane(*line)?;
            let order = lane.order();
            let rank = rank + 1;
            if order.count() < LANE_SLOTS {
                put_lane(lane, order, rank, low, below);
                return Some(());
            }
            (low, below) = self.split_lane(index, *line, rank, low, below)?;
        }
        self.grow(low, below)
    }

    /// Splits a full lane node around a new entry of `rank`; as `split_leaf`.
    fn split_lane(
        &mut self,
        index: usize,
        line: u32,
        rank: usize,
        low: u64,
        below: u32,
    ) -> Option<(u64, u32)> {
        let lane = self.lane(line)?;
        let order = lane.order();
        let (right_line, right) = self.new_lane()?;
        let last = self.spine.get_mut(index)?;
        let is_last = *last == line;
        if is_last {
            *last = right_line;
        }
        let half = LANE_SLOTS.div_ceil(2);
        let goes_right = rank >= half;
        // In-order growth leaves full nodes behind.
        let keep = match goes_right {
            true if is_last && rank == LANE_SLOTS => LANE_SLOTS,
            true => half,
            false => half - 1,
        };
        let mut count = 0;
        for old in keep..=LANE_SLOTS {
            if goes_right && old == rank {
                right.set(count, low, below);
                count += 1;
            }
            if old < LANE_SLOTS {
                let slot = order.slot(old);
                right.set(count, lane.key(slot), lane.below(slot));
                count += 1;
            }
        }
        right.link(lane.next());
        right.publish(LaneOrder::ascending(count));
        let kept = order.with_count(keep);
        lane.truncate(kept, right_line);
        if !goes_right {
            put_lane(lane, kept, rank, low, below);
        }
        Some((right.key(0), right_line))
    }

    /// Puts a lane on top, over the present top node and its new neighbour `below`.
    fn grow(&mut self, low: u64, below: u32) -> Option<()> {
        let (line, lane) = self.new_lane()?;
        lane.set(0, 0, self.top);
        lane.set(1, low, below);
        lane.publish(LaneOrder::ascending(2));
        *self.spine.get_mut(self.lanes)? = line;
        self.lanes += 1;
        self.set_top(line);
        Some(())
    }

    fn set_top(&mut self, line: u32) {
        self.top = line;
        // Partner: `Header::top`.
        self.header.top.store((self.lanes as u64) << 32 | u64::from(line), Release);
    }

    fn leaf(&self, line: u32) -> Option<Leaf<'m>> {
        Leaf::at(self.words, line)
    }

    fn lane(&self, line: u32) -> Option<Lane<'m>> {
        Lane::at(self.words, line)
    }

    /// Whether a leaf can be split, and with it a node of every lane and the top: asked before
    /// anything is changed.
    fn check_room(&self) -> Option<()> {
        let wanted = LEAF_LINES + (self.lanes as u32 + 1) * LANE_LINES;
        (self.lanes < LANES_MAX && self.lines - self.used >= wanted).then_some(())
    }

    fn new_leaf(&mut self) -> Option<(u32, Leaf<'m>)> {
        let line = self.claim(LEAF_LINES);
        let leaf = self.leaf(line)?;
        leaf.wipe();
        Some((line, leaf))
    }

    fn new_lane(&mut self) -> Option<(u32, Lane<'m>)> {
        let line = self.claim(LANE_LINES);
        let lane = self.lane(line)?;
        lane.wipe();
        Some((line, lane))
    }

    fn claim(&mut self, lines: u32) -> u32 {
        let line = self.used;
        self.used += lines;
        self.publish_lines();
        line
    }

    fn publish_lines(&self) {
        self.header.lines.store(u64::from(self.lines) << 32 | u64::from(self.used), Relaxed);
    }
}

/// Adds an entry to a leaf that has room.
#[inline(always)]
fn put(leaf: Leaf<'_>, state: LeafState, rank: usize, key: u64, value: u64) {
    let (order, slot) = state.order().insert(rank);
    leaf.set(slot, key, value);
    leaf.publish(LeafState::new(order, state.next()));
}

/// Adds an entry to a lane node that has room.
fn put_lane(lane: Lane<'_>, order: LaneOrder, rank: usize, low: u64, below: u32) {
    let (order, slot) = order.insert(rank);
    lane.set(slot, low, below);
    lane.publish(order);
}
