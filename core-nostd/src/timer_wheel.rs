//! Hierarchical timer wheel: schedule, cancel and fire in constant time, without allocation.
//!
//! Four wheels of 256 slots; a slot of the first is a millisecond, a slot of each other one a
//! turn of the wheel below it:
//!
//! ```text
//!  wheel   slot        turn           a timer due at `deadline` is here while
//!  0       1 ms        256 ms         deadline and now differ in their lowest byte only
//!  1       256 ms      65.5 s         ... in the second lowest byte at most
//!  2       65.5 s      4.7 hours      ... in the third
//!  3       4.7 hours   49.7 days      anything further
//! ```
//!
//! When the time enters a slot of an upper wheel, its timers move down; each timer moves three
//! times at most, or once more for every 49.7 days that it lies ahead; of turns that the time jumps
//! over it takes no notice. Occupied slots are marked
//! in a bitmap, so that time without timers costs nothing, however long. (Varghese and Lauck,
//! "Hashed and hierarchical timing wheels", SOSP 1987, scheme 7.)
//!
//! Timers fire in the order of their deadlines, those of the same millisecond in the order in
//! which they were scheduled. One whose deadline has passed fires at once, behind those that are
//! being fired already. Times are milliseconds of any clock that does not go back; the wheel reads
//! none, its caller says what time it is.

use core::fmt;

/// Slots of a wheel.
const SLOTS: usize = 256;
const WHEELS: usize = 4;
/// Bits of a time within a slot of the top wheel, and within its turn.
const TOP_SLOT_BITS: u32 = 8 * (WHEELS as u32 - 1);
const TURN_BITS: u32 = 8 * WHEELS as u32;
/// The list of timers that are due, behind those of the slots.
const DUE: u16 = (WHEELS * SLOTS) as u16;
/// The list of unused nodes.
const FREE: u16 = DUE + 1;
const LISTS: usize = FREE as usize + 1;
const NONE: u32 = u32::MAX;

/// Memory for one timer.
#[derive(Clone, Copy, Debug)]
pub struct TimerNode<T> {
    deadline_ms: u64,
    next: u32,
    previous: u32,
    generation: u32,
    list: u16,
    item: Option<T>,
}

impl<T> TimerNode<T> {
    /// An unused node.
    pub const fn new() -> TimerNode<T> {
        TimerNode {
            deadline_ms: 0,
            next: NONE,
            previous: NONE,
            generation: 0,
            list: FREE,
            item: None,
        }
    }
}

impl<T> Default for TimerNode<T> {
    fn default() -> TimerNode<T> {
        TimerNode::new()
    }
}

/// Names a scheduled timer. Once it has fired or was cancelled, the name is worth nothing, also
/// when its memory serves another timer, up to the 2^32nd after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    node: u32,
    generation: u32,
}

/// All nodes are in use; here is the item back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTimerLeft<T>(pub T);

impl<T> fmt::Display for NoTimerLeft<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot schedule a timer: every node is in use; hand over more memory")
    }
}

impl<T: fmt::Debug> core::error::Error for NoTimerLeft<T> {}

/// What fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired<T> {
    /// When it was to fire.
    pub deadline_ms: u64,
    /// What was scheduled.
    pub item: T,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NONE, last: NONE };

/// The wheel: 8 KiB, and a node for each timer from the caller's memory.
///
/// ```
/// use wiretape_core::timer_wheel::{TimerNode, TimerWheel};
///
/// let mut nodes = [const { TimerNode::new() }; 16];
/// let mut wheel = TimerWheel::new(&mut nodes, 1_000);
/// wheel.schedule(1_030, "late")?;
/// let heartbeat = wheel.schedule(1_010, "heartbeat")?;
/// wheel.schedule(1_020, "rejoin")?;
/// assert_eq!(wheel.next_wake_ms(), Some(1_010));
/// assert_eq!(wheel.cancel(heartbeat), Some("heartbeat"));
/// assert_eq!(wheel.pop_due(1_019), None);
/// assert_eq!(wheel.pop_due(1_025).map(|fired| fired.item), Some("rejoin"));
/// assert_eq!(wheel.pop_due(1_025), None);
/// # Ok::<(), wiretape_core::timer_wheel::NoTimerLeft<&str>>(())
/// ```
pub struct TimerWheel<'m, T> {
    nodes: &'m mut [TimerNode<T>],
    now_ms: u64,
    scheduled: usize,
    occupied: [[u64; SLOTS / 64]; WHEELS],
    lists: [List; LISTS],
}

impl<'m, T: Copy> TimerWheel<'m, T> {
    /// An empty wheel that stands at `now_ms` and has room for `nodes.len()` timers (2^32 - 1 at
    /// most).
    pub fn new(nodes: &'m mut [TimerNode<T>], now_ms: u64) -> TimerWheel<'m, T> {
        let count = nodes.len().min(NONE as usize);
        let (nodes, _) = nodes.split_at_mut(count);
        let occupied = [[0; SLOTS / 64]; WHEELS];
        let mut wheel = TimerWheel { nodes, now_ms, scheduled: 0, occupied, lists: [EMPTY; LISTS] };
        for node in 0..count as u32 {
            if let Some(slot) = wheel.nodes.get_mut(node as usize) {
                // A new generation: ids of an earlier wheel in this memory are worth nothing.
                slot.generation = slot.generation.wrapping_add(1);
                slot.item = None;
            }
            wheel.append(FREE, node);
        }
        wheel
    }

    /// Schedules `item` to fire at `deadline_ms`, at the next [`pop_due`](TimerWheel::pop_due) if
    /// that is not in the future.
    ///
    /// # Errors
    /// [`NoTimerLeft`] with the item, while all nodes are in use.
    pub fn schedule(&mut self, deadline_ms: u64, item: T) -> Result<TimerId, NoTimerLeft<T>> {
        let node = self.list(FREE).first;
        self.unlink(node);
        let Some(slot) = self.nodes.get_mut(node as usize) else { return Err(NoTimerLeft(item)) };
        slot.deadline_ms = deadline_ms;
        slot.item = Some(item);
        let generation = slot.generation;
        self.scheduled = self.scheduled.wrapping_add(1);
        self.append(self.list_for(deadline_ms), node);
        Ok(TimerId { node, generation })
    }

    /// Takes a timer out before it fires. `None` if it has fired or was cancelled already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let slot = self.nodes.get(id.node as usize)?;
        if slot.generation != id.generation || slot.list == FREE {
            return None;
        }
        self.unlink(id.node);
        self.release(id.node)
    }

    /// The next timer that is due at `now_ms`; call again until there is none. Timers that the
    /// caller schedules in between take their places in the order.
    ///
    /// A time before that of an earlier call counts as that one.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<Fired<T>> {
        loop {
            let node = self.list(DUE).first;
            if let Some(slot) = self.nodes.get(node as usize) {
                let deadline_ms = slot.deadline_ms;
                self.unlink(node);
                return self.release(node).map(|item| Fired { deadline_ms, item });
            }
            match self.next_wake_ms() {
                Some(wake_ms) if wake_ms <= now_ms => {
                    let same_turn = wake_ms >> TURN_BITS == self.now_ms >> TURN_BITS;
                    self.enter(if same_turn { wake_ms } else { self.behind_turns(now_ms) });
                }
                _ => {
                    self.now_ms = self.now_ms.max(now_ms);
                    return None;
                }
            }
        }
    }

    /// The start of the slot of the top wheel in which the first timer is due, or of `now_ms` if that is
    /// earlier: turns in between bring nothing, and a clock may have jumped over any number of them.
    #[cold]
    fn behind_turns(&self, now_ms: u64) -> u64 {
        let scheduled = self.nodes.iter().filter(|node| node.list != FREE);
        let first = scheduled.map(|node| node.deadline_ms).min().unwrap_or(now_ms);
        first.min(now_ms) >> TOP_SLOT_BITS << TOP_SLOT_BITS
    }

    /// When to look for due timers next: the deadline of the first timer if the time stands in the same
    /// 256 ms as it (a multiple of 256 begins each), else a moment before it. `None` without timers.
    ///
    /// ```
    /// # use wiretape_core::timer_wheel::{TimerNode, TimerWheel};
    /// let mut nodes = [const { TimerNode::new() }; 4];
    /// let mut wheel = TimerWheel::new(&mut nodes, 1_000);
    /// wheel.schedule(1_030, ()).unwrap();
    /// assert_eq!(wheel.next_wake_ms(), Some(1_024));
    /// assert_eq!(wheel.pop_due(1_024), None);
    /// assert_eq!(wheel.next_wake_ms(), Some(1_030));
    /// ```
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.list(DUE).first != NONE {
            return Some(self.now_ms);
        }
        (0..WHEELS).find_map(|wheel| {
            let shift = 8 * wheel as u32;
            let here = (self.now_ms >> shift) as u8;
            // The lower wheels hold only what is due in the current slot of this one.
            let turn = (self.now_ms >> shift) & !0xFF;
            let bits = self.occupied.get(wheel)?;
            let ahead = first_set(bits, usize::from(here).wrapping_add(1));
            // On the top wheel slots behind `here`, and `here` itself, belong to the next turn.
            let slot = match ahead {
                Some(slot) => turn.wrapping_add(slot as u64),
                None if wheel + 1 == WHEELS => {
                    turn.wrapping_add(SLOTS as u64).wrapping_add(first_set(bits, 0)? as u64)
                }
                None => return None,
            };
            Some(slot << shift)
        })
    }

    /// Timers scheduled and not fired.
    pub fn len(&self) -> usize {
        self.scheduled
    }

    /// Whether nothing is scheduled.
    pub fn is_empty(&self) -> bool {
        self.scheduled == 0
    }

    /// Timers that there is room for.
    pub fn capacity(&self) -> usize {
        self.nodes.len()
    }

    /// The time that the wheel stands at.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Moves the time to `wake_ms`, the start of an occupied slot, and that slot's timers down.
    fn enter(&mut self, wake_ms: u64) {
        self.now_ms = wake_ms;
        // From the top, since what comes down may come down again.
        for wheel in (0..WHEELS).rev() {
            let below = (1_u64 << (8 * wheel as u32)).wrapping_sub(1);
            if wake_ms & below != 0 {
                continue;
            }
            let list = list_of(wheel, wake_ms);
            let mut node = self.list(list).first;
            self.clear(list);
            while let Some(slot) = self.nodes.get(node as usize) {
                let (next, deadline_ms) = (slot.next, slot.deadline_ms);
                self.append(self.list_for(deadline_ms), node);
                node = next;
            }
        }
    }

    /// Where a timer of `deadline_ms` waits at the present time.
    fn list_for(&self, deadline_ms: u64) -> u16 {
        if deadline_ms <= self.now_ms {
            return DUE;
        }
        let differs = deadline_ms ^ self.now_ms;
        let highest_byte = (63 - differs.leading_zeros()) / 8;
        list_of((highest_byte as usize).min(WHEELS - 1), deadline_ms)
    }

    fn release(&mut self, node: u32) -> Option<T> {
        let slot = self.nodes.get_mut(node as usize)?;
        slot.generation = slot.generation.wrapping_add(1);
        let item = slot.item.take();
        self.scheduled = self.scheduled.wrapping_sub(1);
        self.append(FREE, node);
        item
    }

    fn list(&self, list: u16) -> List {
        self.lists.get(usize::from(list)).copied().unwrap_or(EMPTY)
    }

    /// Puts a node that is in no list at the end of one.
    fn append(&mut self, list: u16, node: u32) {
        let last = self.list(list).last;
        if let Some(slot) = self.nodes.get_mut(node as usize) {
            slot.list = list;
            slot.next = NONE;
            slot.previous = last;
        }
        match self.nodes.get_mut(last as usize) {
            Some(before) => before.next = node,
            None => {
                self.set_first(list, node);
                self.mark(list, true);
            }
        }
        self.set_last(list, node);
    }

    /// Takes a node out of its list; any other number does nothing.
    fn unlink(&mut self, node: u32) {
        let Some(slot) = self.nodes.get(node as usize) else { return };
        let (list, next, previous) = (slot.list, slot.next, slot.previous);
        match self.nodes.get_mut(previous as usize) {
            Some(before) => before.next = next,
            None => self.set_first(list, next),
        }
        match self.nodes.get_mut(next as usize) {
            Some(behind) => behind.previous = previous,
            None => self.set_last(list, previous),
        }
        if next == NONE && previous == NONE {
            self.mark(list, false);
        }
    }

    fn clear(&mut self, list: u16) {
        self.set_first(list, NONE);
        self.set_last(list, NONE);
        self.mark(list, false);
    }

    fn set_first(&mut self, list: u16, node: u32) {
        if let Some(list) = self.lists.get_mut(usize::from(list)) {
            list.first = node;
        }
    }

    fn set_last(&mut self, list: u16, node: u32) {
        if let Some(list) = self.lists.get_mut(usize::from(list)) {
            list.last = node;
        }
    }

    /// Notes whether a slot has timers.
    fn mark(&mut self, list: u16, occupied: bool) {
        let (wheel, slot) = (usize::from(list) / SLOTS, usize::from(list) % SLOTS);
        // The two lists that are no slots lie past the last wheel.
        if let Some(word) = self.occupied.get_mut(wheel).and_then(|bits| bits.get_mut(slot / 64)) {
            let bit = 1 << (slot % 64);
            *word = if occupied { *word | bit } else { *word & !bit };
        }
    }
}

impl<T> fmt::Debug for TimerWheel<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerWheel")
            .field("now_ms", &self.now_ms)
            .field("len", &self.scheduled)
            .finish_non_exhaustive()
    }
}

/// The list of the slot of `wheel` that `time_ms` falls into.
fn list_of(wheel: usize, time_ms: u64) -> u16 {
    let slot = (time_ms >> (8 * wheel as u32)) as u8;
    (wheel as u16) << 8 | u16::from(slot)
}

/// The first bit set from `from` on.
fn first_set(bits: &[u64; SLOTS / 64], from: usize) -> Option<usize> {
    let word = from / 64;
    let within = bits.get(word)? & (u64::MAX << (from % 64));
    if within != 0 {
        return Some((word * 64).wrapping_add(within.trailing_zeros() as usize));
    }
    let mut later = bits.iter().enumerate().skip(word + 1);
    later.find_map(|(word, bits)| {
        (*bits != 0).then(|| (word * 64).wrapping_add(bits.trailing_zeros() as usize))
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeMap, vec, vec::Vec};

    /// What the wheel is asked to do. Times are relative to the present one.
    #[derive(Clone, Debug)]
    enum Step {
        Schedule(i64),
        Cancel(prop::sample::Index),
        Advance(u64),
    }

    /// Near and far, on and beside the borders of the wheels.
    fn delay() -> impl Strategy<Value = u64> {
        let border = (0..6_u32, 0..3_u64, 1..4_u64)
            .prop_map(|(wheel, beside, turns)| (turns << (8 * wheel)).saturating_sub(beside));
        prop_oneof![4 => 0..300_u64, 2 => 0..100_000_u64, 2 => border, 1 => 0..(1_u64 << 36)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => delay().prop_map(|ahead| Step::Schedule(ahead as i64)),
            1 => (0..1000_i64).prop_map(|late| Step::Schedule(-late)),
            2 => any::<prop::sample::Index>().prop_map(Step::Cancel),
            3 => delay().prop_map(Step::Advance),
        ]
    }

    /// From one end of time to the other there are 2^32 turns of the top wheel: who walks them all does not
    /// come to the end of this test.
    #[test]
    fn a_clock_that_jumps_over_ages_is_followed_at_once() {
        let mut nodes = vec![TimerNode::new(); 4];
        let mut wheel = TimerWheel::new(&mut nodes, 5);
        let (middle, last) = (u64::MAX / 2, u64::MAX - 1);
        for deadline in [last, 1 << 33, middle, middle + 1] {
            wheel.schedule(deadline, deadline).unwrap();
        }
        let mut due = |now| -> Vec<u64> {
            core::iter::from_fn(|| wheel.pop_due(now)).map(|fired| fired.item).collect()
        };
        assert!(due((1 << 33) - 1).is_empty());
        assert_eq!(due(middle - 1), [1 << 33]);
        assert_eq!(due(middle), [middle]);
        assert_eq!(due(last - 1), [middle + 1]);
        assert_eq!(due(u64::MAX), [last]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn timers_fire_as_from_a_sorted_map(
            start in prop_oneof![0..1000_u64, any::<u64>().prop_map(|time| time >> 1)],
            steps in prop::collection::vec(step(), 0..150),
        ) {
            const NODES: usize = 40;
            let mut nodes = vec![TimerNode::new(); NODES];
            let mut wheel = TimerWheel::new(&mut nodes, start);
            let mut now = start;
            // What is late fires as if due at the moment when it was scheduled.
            let mut model: BTreeMap<(u64, usize), (u64, TimerId)> = BTreeMap::new();
            let mut ids: Vec<(TimerId, (u64, usize))> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Schedule(ahead) => {
                        let deadline = now.saturating_add_signed(ahead);
                        match wheel.schedule(deadline, number) {
                            Ok(id) => {
                                let key = (deadline.max(now), number);
                                model.insert(key, (deadline, id));
                                ids.push((id, key));
                            }
                            Err(back) => {
                                prop_assert_eq!(back, NoTimerLeft(number));
                                prop_assert_eq!(model.len(), NODES);
                            }
                        }
                    }
                    Step::Cancel(which) if !ids.is_empty() => {
                        let (id, key) = ids[which.index(ids.len())];
                        let expected = model.remove(&key).map(|_| key.1);
                        prop_assert_eq!(wheel.cancel(id), expected);
                        prop_assert_eq!(wheel.cancel(id), None);
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(time) => {
                        now = now.saturating_add(time);
                        while let Some(fired) = wheel.pop_due(now) {
                            let ((due, number), (deadline_ms, _)) = model.pop_first().unwrap();
                            prop_assert!(due <= now);
                            prop_assert_eq!(fired, Fired { deadline_ms, item: number });
                        }
                        prop_assert_eq!(wheel.now_ms(), now);
                        prop_assert!(model.first_key_value().is_none_or(|(key, _)| key.0 > now));
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let first = model.first_key_value().map(|(key, _)| key.0);
                let wake = wheel.next_wake_ms();
                prop_assert_eq!(wake.is_some(), first.is_some());
                if let (Some(wake), Some(first)) = (wake, first) {
                    prop_assert!(wake <= first);
                    prop_assert!(wake == first || first - now > 255 - (now & 255));
                    prop_assert!(wake > now || first <= now);
                }
            }
        }
    }

    #[test]
    fn what_is_scheduled_while_others_fire_takes_its_place() {
        let mut nodes = [TimerNode::new(); 4];
        let mut wheel = TimerWheel::new(&mut nodes, 0);
        wheel.schedule(10, 'a').unwrap();
        wheel.schedule(300, 'd').unwrap();
        let mut fired = Vec::new();
        while let Some(Fired { item, .. }) = wheel.pop_due(1000) {
            fired.push(item);
            if item == 'a' {
                wheel.schedule(20, 'c').unwrap();
                wheel.schedule(5, 'b').unwrap();
            }
        }
        assert_eq!(fired, ['a', 'b', 'c', 'd']);
    }

    #[test]
    fn an_id_does_not_outlive_its_timer_in_memory_used_again() {
        let mut nodes = [TimerNode::new(); 1];
        let mut wheel = TimerWheel::new(&mut nodes, 0);
        let first = wheel.schedule(10, 'a').unwrap();
        assert_eq!(wheel.schedule(10, 'b'), Err(NoTimerLeft('b')));
        assert_eq!(wheel.cancel(first), Some('a'));
        let second = wheel.schedule(10, 'b').unwrap();
        assert_eq!(wheel.cancel(first), None);
        let mut wheel = TimerWheel::new(&mut nodes, 0);
        wheel.schedule(10, 'c').unwrap();
        assert_eq!(wheel.cancel(second), None);
    }

    #[test]
    fn the_end_of_time_is_survived() {
        let mut nodes = [TimerNode::new(); 3];
        let mut wheel = TimerWheel::new(&mut nodes, u64::MAX - 1000);
        wheel.schedule(u64::MAX, 1).unwrap();
        wheel.schedule(u64::MAX - 1, 0).unwrap();
        assert_eq!(wheel.pop_due(u64::MAX).map(|fired| fired.item), Some(0));
        assert_eq!(wheel.pop_due(u64::MAX).map(|fired| fired.item), Some(1));
        wheel.schedule(0, 2).unwrap();
        assert_eq!(wheel.pop_due(0).map(|fired| fired.item), Some(2));
        assert_eq!(wheel.pop_due(0), None);
    }
}
