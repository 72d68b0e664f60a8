//! A small event loop: events posted by other threads, events posted for later, two priorities.
//!
//! ```text
//!  posters ──► urgent ─────────────────────────┐
//!  posters ──► later ──► timer wheel ── due ───┼──► next(now) ──► whoever runs the loop
//!  posters ──► normal ─────────────────────────┘
//! ```
//!
//! The loop owns no thread, reads no clock and never sleeps: [`EventLoop::next`] gives the next
//! event at the time that the caller names, [`EventLoop::next_wake_ms`] says until when there will
//! be none unless somebody posts one. How to sleep until then, and how posters end that sleep, is
//! the caller's choice.
//!
//! Urgent events go first, then timers that are due, then normal events; each in the order in
//! which they were posted or are due. Of 64 events, one is taken from the normal ones first and
//! one from the timers, so that no flood of urgent events shuts the others out.
//!
//! Nothing is dropped: a poster whose ring is full gets its event back.

use core::fmt;

use crate::ring::{
    CapacityError, Full,
    mpmc::{Cursors, SlotRing},
    slot::StampedSlot,
};
use crate::timer_wheel::{NoTimerLeft, TimerId, TimerNode, TimerWheel};

/// Which events go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Ahead of timers and normal events.
    Urgent,
    /// Behind them.
    Normal,
}

/// An event and the time to hand it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later<E> {
    /// Milliseconds of the loop's clock.
    pub deadline_ms: u64,
    /// What to hand out then.
    pub event: E,
}

/// Memory of one ring: its positions, and slots (a power of two).
pub type RingMemory<'m, T> = (&'m mut Cursors, &'m mut [StampedSlot<T>]);

/// Memory of a loop.
///
/// ```
/// use wiretape_core::event_loop::{EventLoop, Memory, Priority};
/// use wiretape_core::ring::{mpmc::Cursors, slot::StampedSlot};
/// use wiretape_core::timer_wheel::TimerNode;
///
/// let [mut urgent, mut normal, mut later] = [const { Cursors::new() }; 3];
/// let mut stop = [const { StampedSlot::new() }; 2];
/// let (mut work, mut waiting) = (
///     Vec::from_iter((0..256).map(|_| StampedSlot::new())),
///     Vec::from_iter((0..16).map(|_| StampedSlot::new())),
/// );
/// let mut timers = [const { TimerNode::new() }; 8];
/// let memory = Memory {
///     urgent: (&mut urgent, &mut stop),
///     normal: (&mut normal, &mut work),
///     later: (&mut later, &mut waiting),
///     timers: &mut timers,
/// };
/// let mut events = EventLoop::new(memory, 0)?;
/// events.poster().post(Priority::Normal, "book").unwrap();
/// assert_eq!(events.next(0), Some("book"));
/// # Ok::<(), wiretape_core::ring::CapacityError>(())
/// ```
pub struct Memory<'m, E> {
    /// For urgent events.
    pub urgent: RingMemory<'m, E>,
    /// For normal events.
    pub normal: RingMemory<'m, E>,
    /// For events on their way to the timers.
    pub later: RingMemory<'m, Later<E>>,
    /// For the timers.
    pub timers: &'m mut [TimerNode<E>],
}

/// Memory of a loop in one piece: rings of `SLOTS` events each (a power of two, at least 2), and
/// `TIMERS` timers. Keep it on the heap or in a static where it is large.
///
/// ```
/// use wiretape_core::event_loop::{FixedMemory, Priority};
///
/// let mut memory = FixedMemory::<u8, 8, 4>::new();
/// let mut events = memory.event_loop(0);
/// events.poster().post(Priority::Normal, 1).unwrap();
/// assert_eq!(events.next(0), Some(1));
/// ```
///
/// Other numbers of slots do not compile:
///
/// ```compile_fail,E0080
/// let mut memory = wiretape_core::event_loop::FixedMemory::<u8, 1, 4>::new();
/// memory.event_loop(0);
/// ```
// Loom's atomics are not made at compile time.
#[cfg(not(loom))]
pub struct FixedMemory<E, const SLOTS: usize, const TIMERS: usize> {
    cursors: [Cursors; 3],
    urgent: [StampedSlot<E>; SLOTS],
    normal: [StampedSlot<E>; SLOTS],
    later: [StampedSlot<Later<E>>; SLOTS],
    timers: [TimerNode<E>; TIMERS],
}

#[cfg(not(loom))]
impl<E: Copy + Send, const SLOTS: usize, const TIMERS: usize> FixedMemory<E, SLOTS, TIMERS> {
    /// Unused memory.
    pub const fn new() -> Self {
        const { assert!(SLOTS.is_power_of_two() && SLOTS >= 2, "rings have a power of two of slots") };
        FixedMemory {
            cursors: [const { Cursors::new() }; 3],
            urgent: [const { StampedSlot::new() }; SLOTS],
            normal: [const { StampedSlot::new() }; SLOTS],
            later: [const { StampedSlot::new() }; SLOTS],
            timers: [const { TimerNode::new() }; TIMERS],
        }
    }

    /// A loop without events in this memory, whose clock stands at `now_ms`.
    pub fn event_loop(&mut self, now_ms: u64) -> EventLoop<'_, E> {
        let [urgent, normal, later] = &mut self.cursors;
        let memory = Memory {
            urgent: (urgent, &mut self.urgent),
            normal: (normal, &mut self.normal),
            later: (later, &mut self.later),
            timers: &mut self.timers,
        };
        let Ok(events) = EventLoop::new(memory, now_ms) else {
            unreachable!("the number of slots was checked when this was compiled")
        };
        events
    }
}

#[cfg(not(loom))]
impl<E: Copy + Send, const SLOTS: usize, const TIMERS: usize> Default
    for FixedMemory<E, SLOTS, TIMERS>
{
    fn default() -> Self {
        FixedMemory::new()
    }
}

/// The way into a loop: copy it to whatever thread has something to post.
#[derive(Clone, Copy)]
pub struct Poster<'m, E> {
    urgent: SlotRing<'m, E>,
    normal: SlotRing<'m, E>,
    later: SlotRing<'m, Later<E>>,
}

impl<E: Copy + Send> Poster<'_, E> {
    /// Posts an event.
    ///
    /// # Errors
    /// [`Full`] with the event, while the ring of that priority is full.
    pub fn post(&self, priority: Priority, event: E) -> Result<(), Full<E>> {
        match priority {
            Priority::Urgent => self.urgent.push(event),
            Priority::Normal => self.normal.push(event),
        }
    }

    /// Posts an event that the loop hands out at `deadline_ms` of its clock, or as soon as it can
    /// if that is past.
    ///
    /// # Errors
    /// [`Full`] with the event, while too many are on their way to the timers; also because all
    /// timers are in use.
    pub fn post_later(&self, deadline_ms: u64, event: E) -> Result<(), Full<E>> {
        self.later.push(Later { deadline_ms, event }).map_err(|Full(later)| Full(later.event))
    }
}

/// The loop.
///
/// ```
/// use wiretape_core::event_loop::{FixedMemory, Priority};
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Control {
///     Heartbeat,
///     Rejoin(u16),
///     Stop,
/// }
///
/// let mut memory = FixedMemory::<Control, 16, 8>::new();
/// let mut events = memory.event_loop(1_000);
/// let poster = events.poster();
/// poster.post_later(1_500, Control::Heartbeat).unwrap();
/// poster.post(Priority::Normal, Control::Rejoin(3)).unwrap();
/// poster.post(Priority::Urgent, Control::Stop).unwrap();
/// assert_eq!(events.next(1_000), Some(Control::Stop));
/// assert_eq!(events.next(1_000), Some(Control::Rejoin(3)));
/// assert_eq!(events.next(1_000), None);
/// assert_eq!(events.next(1_500), Some(Control::Heartbeat));
/// ```
pub struct EventLoop<'m, E> {
    poster: Poster<'m, E>,
    wheel: TimerWheel<'m, E>,
    turn: u32,
}

/// One event of so many is taken from the normal ones first, and one from the timers.
const TURNS: u32 = 64;

/// Where an event comes from.
#[derive(Clone, Copy)]
enum Source {
    Urgent,
    Timers,
    Normal,
}

impl<'m, E: Copy + Send> EventLoop<'m, E> {
    /// A loop without events, whose clock stands at `now_ms`.
    ///
    /// # Errors
    /// [`CapacityError`] if a ring's slots are not a power of two of at least 2.
    pub fn new(memory: Memory<'m, E>, now_ms: u64) -> Result<EventLoop<'m, E>, CapacityError> {
        let Memory { urgent, normal, later, timers } = memory;
        let poster = Poster {
            urgent: SlotRing::new(urgent.0, urgent.1)?,
            normal: SlotRing::new(normal.0, normal.1)?,
            later: SlotRing::new(later.0, later.1)?,
        };
        Ok(EventLoop { poster, wheel: TimerWheel::new(timers, now_ms), turn: 1 })
    }

    /// The way in for other threads, and for this one.
    pub fn poster(&self) -> Poster<'m, E> {
        self.poster
    }

    /// The next event at `now_ms`; `None` if there is none.
    pub fn next(&mut self, now_ms: u64) -> Option<E> {
        self.accept_later();
        let order = match self.turn % TURNS {
            0 => [Source::Normal, Source::Timers, Source::Urgent],
            turn if turn == TURNS / 2 => [Source::Timers, Source::Normal, Source::Urgent],
            _ => [Source::Urgent, Source::Timers, Source::Normal],
        };
        // The first turn after a silence is an ordinary one.
        let event = order.into_iter().find_map(|source| self.take(source, now_ms));
        self.turn = if event.is_some() { self.turn.wrapping_add(1) } else { 1 };
        event
    }

    fn take(&mut self, source: Source, now_ms: u64) -> Option<E> {
        match source {
            Source::Urgent => self.poster.urgent.pop(),
            Source::Normal => self.poster.normal.pop(),
            Source::Timers => self.wheel.pop_due(now_ms).map(|fired| fired.item),
        }
    }

    /// Schedules an event from within the loop's own thread, without the way through a ring, and
    /// cancellable.
    ///
    /// # Errors
    /// [`NoTimerLeft`] with the event, while all timers are in use.
    pub fn post_later(&mut self, deadline_ms: u64, event: E) -> Result<TimerId, NoTimerLeft<E>> {
        self.wheel.schedule(deadline_ms, event)
    }

    /// Takes back what [`EventLoop::post_later`] scheduled; `None` if it was handed out already.
    pub fn cancel(&mut self, id: TimerId) -> Option<E> {
        self.wheel.cancel(id)
    }

    /// Until when there are no events unless one is posted: `now_ms` if there are some already,
    /// `None` without any timer. Perhaps a moment before the first timer is due
    /// ([`TimerWheel::next_wake_ms`]): `next` then gives none, and the next moment is later.
    pub fn next_wake_ms(&mut self, now_ms: u64) -> Option<u64> {
        self.accept_later();
        if !self.poster.urgent.is_empty() || !self.poster.normal.is_empty() {
            return Some(now_ms);
        }
        self.wheel.next_wake_ms().map(|wake_ms| wake_ms.max(now_ms))
    }

    /// Timers scheduled, those still on their way included.
    pub fn timers(&self) -> usize {
        self.wheel.len().saturating_add(self.poster.later.len())
    }

    /// Moves events on their way to the timers, as many as there is room for.
    fn accept_later(&mut self) {
        while self.wheel.len() < self.wheel.capacity() {
            let Some(Later { deadline_ms, event }) = self.poster.later.pop() else { return };
            if self.wheel.schedule(deadline_ms, event).is_err() {
                return;
            }
        }
    }
}

impl<E: Copy> fmt::Debug for Poster<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster")
            .field("urgent", &self.urgent)
            .field("normal", &self.normal)
            .field("later", &self.later)
            .finish()
    }
}

impl<E: Copy> fmt::Debug for EventLoop<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("poster", &self.poster)
            .field("wheel", &self.wheel)
            .finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Memory<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("timers", &self.timers.len()).finish_non_exhaustive()
    }
}

#[cfg(not(loom))]
impl<E, const SLOTS: usize, const TIMERS: usize> fmt::Debug for FixedMemory<E, SLOTS, TIMERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedMemory").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    #[test]
    fn a_flood_of_urgent_events_shuts_nobody_out() {
        let mut memory = FixedMemory::<u32, 128, 4>::new();
        let mut events = memory.event_loop(0);
        let poster = events.poster();
        assert_eq!(events.next(0), None);
        poster.post(Priority::Normal, 1).unwrap();
        poster.post_later(0, 2).unwrap();
        let mut urgent = 0;
        let mut waited = [None; 2];
        while waited.contains(&None) {
            let _ = poster.post(Priority::Urgent, 0);
            match events.next(0).unwrap() {
                0 => urgent += 1,
                other => waited[other as usize - 1] = Some(urgent),
            }
        }
        assert_eq!(waited, [Some(62), Some(31)]);
    }

    #[test]
    fn events_for_later_wait_for_a_timer_and_are_never_lost() {
        let mut memory = FixedMemory::<u32, 4, 2>::new();
        let mut events = memory.event_loop(0);
        let poster = events.poster();
        let mut posted = 0;
        // Two timers and four on their way.
        while poster.post_later(u64::from(10 - posted), posted).is_ok() {
            posted += 1;
            events.next(0);
        }
        assert_eq!((posted, events.timers()), (6, 6));
        assert_eq!(poster.post_later(7, 9), Err(Full(9)));
        assert_eq!(events.next_wake_ms(0), Some(9));
        let mut fired = Vec::new();
        while let Some(wake_ms) = events.next_wake_ms(fired.len() as u64) {
            fired.extend(core::iter::from_fn(|| events.next(wake_ms)));
        }
        fired.sort_unstable();
        assert_eq!(fired, [0, 1, 2, 3, 4, 5]);
        assert_eq!(events.timers(), 0);
    }

    #[test]
    fn what_the_loop_schedules_itself_can_be_taken_back() {
        let mut memory = FixedMemory::<u32, 2, 2>::new();
        let mut events = memory.event_loop(0);
        let id = events.post_later(5, 1).unwrap();
        events.post_later(6, 2).unwrap();
        assert_eq!(events.post_later(7, 3), Err(NoTimerLeft(3)));
        assert_eq!(events.cancel(id), Some(1));
        assert_eq!(events.next_wake_ms(0), Some(6));
        assert_eq!(events.next(100), Some(2));
        assert_eq!((events.next(100), events.next_wake_ms(100)), (None, None));
    }

    #[test]
    fn threads_post_and_every_event_comes_out_once() {
        const EVENTS: u32 = 20_000;
        let mut memory = FixedMemory::<u32, 64, 16>::new();
        let mut events = memory.event_loop(0);
        let poster = events.poster();
        let mut seen = vec![0_u32; 2 * EVENTS as usize];
        std::thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || {
                    for event in thread * EVENTS..(thread + 1) * EVENTS {
                        let post = || match event % 3 {
                            0 => poster.post(Priority::Urgent, event),
                            1 => poster.post(Priority::Normal, event),
                            _ => poster.post_later(u64::from(event), event),
                        };
                        while post().is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut left = seen.len();
            for now in 0.. {
                while let Some(event) = events.next(now) {
                    seen[event as usize] += 1;
                    left -= 1;
                }
                if left == 0 {
                    break;
                }
                if now % 64 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        assert!(seen.iter().all(|count| *count == 1));
    }
}
