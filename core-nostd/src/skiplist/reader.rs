//! Searching and iterating, by any number of threads while the writer goes on.

use core::marker::PhantomData;

use super::node::{Before, LEAF_SLOTS, LINE_WORDS, Lane, Leaf, NONE};
use super::{AttachError, HEADER_WORDS, Header, Key, MAGIC};
use super::{generation_of, is_generation};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::sync::{AtomicU64, fence};

/// A view of a skip list for searching and iterating; copies are free.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use wiretape_core::skiplist::{self, SkipList, SkipListReader};
///
/// // In earnest these words are a mapped file, which readers map read-only.
/// let memory: Vec<AtomicU64> =
///     (0..skiplist::words_for(100)).map(|_| AtomicU64::new(0)).collect();
/// let mut list = SkipList::<i64>::create(&memory)?;
/// let seen = SkipListReader::<i64>::attach(&memory)?;
/// [3, 1, 3, 2].into_iter().zip(0..).for_each(|(key, value)| list.insert(key, value).unwrap());
/// assert_eq!(seen.upper_bound(1).collect::<Vec<_>>(), [(2, 3), (3, 0), (3, 2)]);
/// assert_eq!((seen.get(3), seen.last()), (Some(0), Some((3, 2))));
/// # Ok::<(), skiplist::AttachError>(())
/// ```
#[derive(Debug)]
pub struct SkipListReader<'m, K> {
    words: &'m [AtomicU64],
    header: Header<'m>,
    key: PhantomData<fn() -> K>,
}

impl<K> Clone for SkipListReader<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for SkipListReader<'_, K> {}

/// An entry as it is stored: key and value.
type Entry = (u64, u64);

impl<'m, K: Key> SkipListReader<'m, K> {
    /// Looks at the list that a writer created in `words`, here or in another process. The key
    /// type is the caller's to remember: a list of the other one is not refused, and shows keys that
    /// are 2^63 off.
    ///
    /// # Errors
    /// [`AttachError`] if there is no list, or not all of it.
    pub fn attach(words: &'m [AtomicU64]) -> Result<SkipListReader<'m, K>, AttachError> {
        let too_small = |expected| AttachError::TooSmall { found: words.len(), expected };
        let header = Header::of(words).ok_or(too_small(HEADER_WORDS))?;
        let found = header.magic.load(Acquire);
        if found != MAGIC {
            return Err(AttachError::NotASkipList { found });
        }
        let expected = (header.lines.load(Relaxed) >> 32) as usize * LINE_WORDS;
        if words.len() < expected {
            return Err(too_small(expected));
        }
        Ok(SkipListReader::new(words, header))
    }

    pub(super) fn new(words: &'m [AtomicU64], header: Header<'m>) -> SkipListReader<'m, K> {
        SkipListReader { words, header, key: PhantomData }
    }

    /// Entries that were there a moment ago.
    pub fn len(&self) -> u64 {
        self.header.len.load(Relaxed)
    }

    /// Whether there was no entry a moment ago.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often the list was cleared, times two; odd while it is being cleared.
    pub fn generation(&self) -> u64 {
        generation_of(&self.header)
    }

    /// The value of the first entry with this key.
    #[inline]
    pub fn get(&self, key: K) -> Option<u64> {
        let wanted = key.to_word();
        let (found, value) = self.settled(|list| list.first_not(Before::below(wanted)))?;
        (found == wanted).then_some(value)
    }

    /// The first entry.
    pub fn first(&self) -> Option<(K, u64)> {
        self.settled(|list| list.first_not(Before::NONE)).map(entry_of)
    }

    /// The last entry.
    pub fn last(&self) -> Option<(K, u64)> {
        self.settled(|list| list.last_of(Before::ALL)).map(entry_of)
    }

    /// The last entry whose key is not larger than `key`: what was known as of that time.
    #[inline]
    pub fn floor(&self, key: K) -> Option<(K, u64)> {
        let wanted = key.to_word();
        self.settled(|list| list.last_of(Before::up_to(wanted))).map(entry_of)
    }

    /// All entries, in ascending order of their keys.
    pub fn iter(&self) -> Iter<'m, K> {
        self.iter_from(Before::NONE)
    }

    /// The entries from the first whose key is at least `key`.
    pub fn lower_bound(&self, key: K) -> Iter<'m, K> {
        let wanted = key.to_word();
        self.iter_from(Before::below(wanted))
    }

    /// The entries from the first whose key is larger than `key`.
    pub fn upper_bound(&self, key: K) -> Iter<'m, K> {
        let wanted = key.to_word();
        self.iter_from(Before::up_to(wanted))
    }

    fn iter_from(&self, before: Before) -> Iter<'m, K> {
        loop {
            let mut iter = Iter::new(*self);
            if !iter.generation.is_multiple_of(2) {
                return iter;
            }
            iter.next = self.descend(before).unwrap_or(NONE);
            // Lanes lag behind a split for a moment, so the next leaf may have to be looked at.
            while iter.rank >= iter.count && iter.load() {
                let copied = iter.keys.iter().take(iter.count);
                iter.rank = copied.take_while(|key| before.holds(**key)).count();
            }
            // A clear may have come between the search and the first leaf.
            fence(Acquire);
            if is_generation(&self.header, iter.generation) {
                return iter;
            }
        }
    }

    /// The answer of `search` within one generation of the list.
    #[inline(always)]
    fn settled(&self, search: impl Fn(&Self) -> Option<Entry>) -> Option<Entry> {
        loop {
            let generation = generation_of(&self.header);
            if !generation.is_multiple_of(2) {
                return None;
            }
            let found = search(self);
            // Partner: the release fence in `SkipList::clear`. Whatever the search read out of a
            // later generation, the change of generation is visible now.
            fence(Acquire);
            if is_generation(&self.header, generation) {
                return found;
            }
        }
    }

    /// The last leaf that begins before, or one to the left of it.
    #[inline(always)]
    fn descend(&self, before: Before) -> Option<u32> {
        let (lanes, mut line) = self.header.top();
        for _ in 0..lanes {
            let lane = Lane::at(self.words, line)?;
            line = loop {
                let next = lane.next();
                let order = lane.order();
                let below = lane.below(order.slot(lane.last_before(order, before)));
                if lane.is_intact(next) {
                    break below;
                }
            };
        }
        Some(line)
    }

    /// The first entry that is not before.
    #[inline(always)]
    fn first_not(&self, before: Before) -> Option<Entry> {
        let mut line = self.descend(before)?;
        // No list has more leaves than lines, whatever its memory holds.
        let mut left = self.words.len() / LINE_WORDS;
        while left > 0 {
            let leaf = Leaf::at(self.words, line)?;
            let state = leaf.state();
            let order = state.order();
            let rank = leaf.rank(order, before);
            let slot = order.slot(rank);
            let (key, value) = (leaf.key(slot), leaf.value(slot));
            if !leaf.is_intact(state) {
                continue;
            }
            if rank < order.count() {
                return Some((key, value));
            }
            line = state.next();
            if line == NONE {
                return None;
            }
            left -= 1;
        }
        None
    }

    /// The last entry that is before.
    #[inline(always)]
    fn last_of(&self, before: Before) -> Option<Entry> {
        let mut line = self.descend(before)?;
        let mut found = None;
        let mut left = self.words.len() / LINE_WORDS;
        while left > 0 {
            let leaf = Leaf::at(self.words, line)?;
            let state = leaf.state();
            let order = state.order();
            let count = leaf.rank(order, before);
            let slot = order.slot(count.saturating_sub(1));
            let (key, value) = (leaf.key(slot), leaf.value(slot));
            if !leaf.is_intact(state) {
                continue;
            }
            if count > 0 {
                found = Some((key, value));
            }
            // Lanes lag behind a split for a moment, so the next leaf may have to be looked at.
            line = state.next();
            if count < order.count() || line == NONE || (count == 0 && found.is_some()) {
                return found;
            }
            left -= 1;
        }
        found
    }
}

/// The entries of a list in ascending order, from where [`SkipListReader::lower_bound`] and its
/// kin begin. Leaves are copied one at a time, each in a state that it had.
#[derive(Clone, Debug)]
pub struct Iter<'m, K> {
    list: SkipListReader<'m, K>,
    generation: u64,
    keys: [u64; LEAF_SLOTS],
    values: [u64; LEAF_SLOTS],
    rank: usize,
    count: usize,
    next: u32,
    /// Leaves that there may still be: no list has more than lines, whatever its memory holds, so
    /// links that lead in a circle do not lead an iteration on for ever.
    left: usize,
    cleared: bool,
}

impl<'m, K: Key> Iter<'m, K> {
    fn new(list: SkipListReader<'m, K>) -> Iter<'m, K> {
        let generation = generation_of(&list.header);
        let (keys, values) = ([0; LEAF_SLOTS], [0; LEAF_SLOTS]);
        let left = list.words.len() / LINE_WORDS;
        Iter { list, generation, keys, values, rank: 0, count: 0, next: NONE, left, cleared: false }
    }

    /// Whether the iteration ended early because the list was cleared.
    pub fn cleared(&self) -> bool {
        self.cleared
    }

    /// Copies the next leaf, in a state that it had; false at the end.
    fn load(&mut self) -> bool {
        (self.rank, self.count) = (0, 0);
        let line = core::mem::replace(&mut self.next, NONE);
        if line == NONE || self.left == 0 {
            return false;
        }
        self.left -= 1;
        let Some(leaf) = Leaf::at(self.list.words, line) else { return false };
        loop {
            let state = leaf.state();
            let order = state.order();
            let entries = self.keys.iter_mut().zip(&mut self.values);
            for (rank, (key, value)) in entries.enumerate() {
                let slot = order.slot(rank);
                (*key, *value) = (leaf.key(slot), leaf.value(slot));
            }
            if leaf.is_intact(state) {
                (self.count, self.next) = (order.count(), state.next());
                break;
            }
        }
        self.cleared = !is_generation(&self.list.header, self.generation);
        if self.cleared {
            (self.count, self.next) = (0, NONE);
        }
        !self.cleared
    }
}

impl<K: Key> Iterator for Iter<'_, K> {
    type Item = (K, u64);

    #[inline]
    fn next(&mut self) -> Option<(K, u64)> {
        while self.rank >= self.count {
            if !self.load() {
                return None;
            }
        }
        let entry = (*self.keys.get(self.rank)?, *self.values.get(self.rank)?);
        self.rank += 1;
        Some(entry_of(entry))
    }
}

impl<K: Key> core::iter::FusedIterator for Iter<'_, K> {}

impl<'m, K: Key> IntoIterator for &SkipListReader<'m, K> {
    type Item = (K, u64);
    type IntoIter = Iter<'m, K>;

    fn into_iter(self) -> Iter<'m, K> {
        self.iter()
    }
}

fn entry_of<K: Key>((key, value): Entry) -> (K, u64) {
    (K::from_word(key), value)
}
