//! What the control thread does and when: core's event loop, a clock for it, and its sleep.
//!
//! Periodic events are timers; the worker's thread posts. Between two events the control thread
//! is parked until the next timer; whoever posts ends that.

use std::thread::Thread;
use std::time::Duration;

use wiretape_core::event_loop::{EventLoop, FixedMemory, Poster, Priority};
use wiretape_core::ring::Full;

use crate::clock::monotonic_ns;

/// What the control thread is told, or tells itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlEvent {
    /// The worker's thread is about to end.
    WorkerEnded,
    /// Look whether readers have to be woken.
    Wake,
    /// Send re-requests, and take in their answers.
    Recover,
    /// Give a sign of life, and carry the kernel's counters into the segment.
    Heartbeat,
    /// Hold the worker's clock against the system's.
    AlignClock,
}

/// Memory of the control thread's loop: 64 events of each kind waiting, 64 timers.
pub type ControlMemory = FixedMemory<ControlEvent, 64, 64>;

/// The control thread's events, in order.
pub struct ControlLoop<'m> {
    events: EventLoop<'m, ControlEvent>,
    /// How late, in milliseconds, a sleeping reader may be woken; 0: none is.
    wake_ms: u64,
}

impl<'m> ControlLoop<'m> {
    /// A loop without events, whose [`Wake`](ControlEvent::Wake) comes every `wake_ms`
    /// milliseconds; 0: never.
    pub fn new(memory: &'m mut ControlMemory, wake_ms: u64) -> ControlLoop<'m> {
        ControlLoop { events: memory.event_loop(now_ms()), wake_ms }
    }

    /// Milliseconds after which an event comes again, if it does.
    fn period_ms(&self, event: ControlEvent) -> Option<u64> {
        match event {
            ControlEvent::WorkerEnded => None,
            ControlEvent::Wake => (self.wake_ms > 0).then_some(self.wake_ms),
            ControlEvent::Recover => Some(1),
            // Whether somebody asked for a stop is looked at just as often.
            ControlEvent::Heartbeat => Some(100),
            ControlEvent::AlignClock => Some(1_000),
        }
    }

    /// The way in for another thread. Call this on the thread that calls
    /// [`next_event`](ControlLoop::next_event).
    pub fn poster(&self) -> ControlPoster<'m> {
        ControlPoster { poster: self.events.poster(), thread: std::thread::current() }
    }

    /// Hands `event` out once its period is over, and then again and again.
    pub fn repeat(&mut self, event: ControlEvent) {
        if let Some(period_ms) = self.period_ms(event) {
            let scheduled = self.events.post_later(now_ms().wrapping_add(period_ms), event);
            // There are fewer periodic events than timers, and the timer of one that has just
            // fired is free until other threads' events are let in, at the next `next`.
            debug_assert!(scheduled.is_ok(), "no timer left for {event:?}");
        }
    }

    /// The next event; sleeps until there is one.
    pub fn next_event(&mut self) -> ControlEvent {
        loop {
            let now_ms = now_ms();
            if let Some(event) = self.events.next(now_ms) {
                self.repeat(event);
                return event;
            }
            match self.events.next_wake_ms(now_ms) {
                Some(wake_ms) => std::thread::park_timeout(until(wake_ms)),
                None => std::thread::park(),
            }
        }
    }
}

/// Posts to the control thread from another one.
#[derive(Clone)]
pub struct ControlPoster<'m> {
    poster: Poster<'m, ControlEvent>,
    thread: Thread,
}

impl ControlPoster<'_> {
    /// Posts an event and wakes the control thread: a system call if it sleeps, so nothing for
    /// the hot loop.
    ///
    /// # Errors
    /// [`Full`] with the event, while 64 of that priority wait.
    pub fn post(&self, priority: Priority, event: ControlEvent) -> Result<(), Full<ControlEvent>> {
        self.poster.post(priority, event)?;
        self.thread.unpark();
        Ok(())
    }
}

/// The loop's clock.
fn now_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

fn until(wake_ms: u64) -> Duration {
    Duration::from_nanos(wake_ms.saturating_mul(1_000_000).saturating_sub(monotonic_ns()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periodic_events_come_again_and_what_is_posted_ends_the_sleep() {
        let mut memory = Box::new(ControlMemory::new());
        let mut control = ControlLoop::new(&mut memory, 2);
        control.repeat(ControlEvent::Wake);
        for _ in 0..3 {
            assert_eq!(control.next_event(), ControlEvent::Wake);
        }
        // Readers are never woken: the heartbeat alone comes.
        let mut memory = Box::new(ControlMemory::new());
        let mut control = ControlLoop::new(&mut memory, 0);
        control.repeat(ControlEvent::Wake);
        control.repeat(ControlEvent::Heartbeat);
        assert_eq!(control.next_event(), ControlEvent::Heartbeat);
        // No timer any more: only the other thread can end the sleep.
        let mut memory = Box::new(ControlMemory::new());
        let mut control = ControlLoop::new(&mut memory, 1);
        let poster = control.poster();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                poster.post(Priority::Urgent, ControlEvent::WorkerEnded)
            });
            assert_eq!(control.next_event(), ControlEvent::WorkerEnded);
        });
    }
}
