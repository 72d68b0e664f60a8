//! How a reader of the [broadcast ring](super::broadcast) waits, and how one that sleeps is woken.
//!
//! Spinning and yielding concern nobody else. A reader that parks sleeps on a word that lies beside
//! the ring, on Linux with `FUTEX_WAIT`, which takes a read-only mapping; so nobody can know whether
//! there is one. The writer does not wake: a system call an event would be too much. Another thread of
//! its process looks whether the ring has moved, about once a millisecond ([`Waker::tick`]).
//!
//! No wake-up is lost. A reader takes the word's count, then looks at the ring's head, and sleeps only
//! while the count is still the one it took. Who wakes counts up after the head has moved: a reader
//! that took the new count sees the new head, one that took the old count is woken or does not fall
//! asleep. That is how sleepers on a futex do it (Drepper, "Futexes are tricky", 2011), with the ring as
//! the state that they guard.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::sync::{Condvar, Mutex};
//! use std::time::Duration;
//! use wiretape_core::event::Event;
//! use wiretape_core::ring::broadcast::{Ring, Slot};
//! use wiretape_core::ring::wake::{Park, Unpark, Wait, WakeWord, Waker};
//!
//! /// For the threads of one process; between processes it is the futex system call.
//! #[derive(Default)]
//! struct Sleepers(Mutex<()>, Condvar);
//!
//! impl Park for Sleepers {
//!     fn yield_now(&self) {
//!         std::thread::yield_now();
//!     }
//!     fn park(&self, word: &AtomicU64, seen: u32, at_most: Duration) {
//!         let guard = self.0.lock().unwrap();
//!         if word.load(Ordering::Relaxed) as u32 == seen {
//!             drop(self.1.wait_timeout(guard, at_most).unwrap());
//!         }
//!     }
//! }
//!
//! impl Unpark for Sleepers {
//!     fn unpark_all(&self, _: &AtomicU64) {
//!         drop(self.0.lock().unwrap());
//!         self.1.notify_all();
//!     }
//! }
//!
//! let slots: Vec<Slot> = (0..16).map(|_| Slot::default()).collect();
//! let (head, word) = (AtomicU64::new(0), AtomicU64::new(0));
//! let ring = Ring::new(&slots, &head)?;
//! let (word, sleepers) = (WakeWord::new(&word), Sleepers::default());
//! let mut reader = ring.reader_from_now();
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let (mut writer, mut waker) = (ring.writer(), Waker::new(word, ring));
//!         writer.publish(&Event { words: [7; 7] });
//!         writer.commit();
//!         waker.tick(&sleepers);
//!     });
//!     let event = loop {
//!         match reader.next_event().expect("16 slots hold one event") {
//!             Some((_, event)) => break event,
//!             None => reader.wait(Wait::Park, word, Duration::from_secs(10), &sleepers),
//!         }
//!     };
//!     assert_eq!(event.words, [7; 7]);
//! });
//! # Ok::<(), wiretape_core::ring::broadcast::RingError>(())
//! ```

use core::time::Duration;

use super::broadcast::{Reader, Ring};
use crate::sync::{AtomicU64, Ordering, spin_loop};

/// How a reader waits that has found nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Not at all but for a pause instruction: lowest latency, one core.
    Spin,
    /// Lets other threads run.
    Yield,
    /// Sleeps until woken: no processor time, the latency of the [`Waker`]'s ticks.
    #[default]
    Park,
}

/// What a waiting reader asks of the operating system.
pub trait Park {
    /// Lets other threads run.
    fn yield_now(&self);

    /// Sleeps as long as the low half of `word` is `seen`, until [`Unpark::unpark_all`] or for
    /// `at_most`; may return earlier. That the half is compared and the sleep begun in one step,
    /// with none of the other side's between them, is what `FUTEX_WAIT` promises; its address is that of
    /// `word` (little-endian). Nothing is written to `word`.
    fn park(&self, word: &AtomicU64, seen: u32, at_most: Duration);
}

/// What waking readers asks of the operating system.
pub trait Unpark {
    /// Wakes all that sleep on `word` (`FUTEX_WAKE`).
    fn unpark_all(&self, word: &AtomicU64);
}

/// The word that readers sleep on: it counts the wake-ups, of which the low 32 bits matter.
#[derive(Clone, Copy, Debug)]
pub struct WakeWord<'m>(&'m AtomicU64);

impl<'m> WakeWord<'m> {
    /// The word in the writer's memory; 0 at first, though any number will do.
    pub fn new(word: &'m AtomicU64) -> WakeWord<'m> {
        WakeWord(word)
    }

    /// Wakes every reader that sleeps: events were committed, or there is something else that they
    /// should look at. Of anything but events a reader may just have seen nothing and be about to
    /// sleep; it does, for as long as its `at_most` says. For the writer's side: it writes to the word.
    pub fn wake_all(self, system: &impl Unpark) {
        // Release: pairs with the acquire load of `Reader::wait`; who sees this count sees what it
        // announces.
        self.0.fetch_add(1, Ordering::Release);
        system.unpark_all(self.0);
    }
}

/// Wakes readers when the ring has moved. For a thread beside the writer.
#[derive(Debug)]
pub struct Waker<'m> {
    word: WakeWord<'m>,
    ring: Ring<'m>,
    seen: u64,
}

impl<'m> Waker<'m> {
    /// Watches `ring`, whose readers sleep on `word`.
    pub fn new(word: WakeWord<'m>, ring: Ring<'m>) -> Waker<'m> {
        Waker { word, ring, seen: 0 }
    }

    /// Wakes the readers if events were committed since the last call. One call, as far apart as readers
    /// may sleep too long, is at most one system call.
    pub fn tick(&mut self, system: &impl Unpark) {
        let head = self.ring.head();
        if head != self.seen {
            self.seen = head;
            self.word.wake_all(system);
        }
    }
}

impl Reader<'_> {
    /// Waits a little for the next event: to be called when there was none, which is then looked for
    /// again. `at_most` bounds the sleep of [`Wait::Park`], for there are things that nobody
    /// announces, such as a writer that was killed.
    #[inline]
    pub fn wait(&self, how: Wait, word: WakeWord<'_>, at_most: Duration, system: &impl Park) {
        match how {
            Wait::Spin => spin_loop(),
            Wait::Yield => system.yield_now(),
            Wait::Park => {
                // Acquire: pairs with the release of `WakeWord::wake_all`. Events committed before
                // that are seen below; later ones change the count, and nobody falls asleep.
                let seen = word.0.load(Ordering::Acquire) as u32;
                if self.ring().head() < self.position() {
                    system.park(word.0, seen, at_most);
                }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::ring::broadcast::Slot;
    use core::cell::RefCell;
    use std::vec::Vec;

    /// Writes down what it is asked for.
    #[derive(Default)]
    struct Asked(RefCell<Vec<&'static str>>);

    impl Park for Asked {
        fn yield_now(&self) {
            self.0.borrow_mut().push("yield");
        }

        fn park(&self, word: &AtomicU64, seen: u32, at_most: Duration) {
            assert_eq!(word.load(Ordering::Relaxed) as u32, seen);
            assert_eq!(at_most, Duration::from_millis(5));
            self.0.borrow_mut().push("park");
        }
    }

    impl Unpark for Asked {
        fn unpark_all(&self, _: &AtomicU64) {
            self.0.borrow_mut().push("unpark");
        }
    }

    #[test]
    fn who_has_something_to_read_does_not_sleep_and_who_has_nothing_to_say_wakes_nobody() {
        let slots: Vec<Slot> = (0..4).map(|_| Slot::default()).collect();
        // A count whose low half is about to turn over.
        let (head, word) = (AtomicU64::new(0), AtomicU64::new(u64::from(u32::MAX)));
        let ring = Ring::new(&slots, &head).unwrap();
        let (word, asked) = (WakeWord::new(&word), Asked::default());
        let (mut writer, mut waker) = (ring.writer(), Waker::new(word, ring));
        let mut reader = ring.reader_from(1);
        let at_most = Duration::from_millis(5);
        for how in [Wait::Spin, Wait::Yield, Wait::Park] {
            reader.wait(how, word, at_most, &asked);
        }
        assert_eq!(asked.0.take(), ["yield", "park"]);
        waker.tick(&asked);
        writer.publish(&Event::default());
        waker.tick(&asked);
        assert!(asked.0.take().is_empty(), "nothing was committed");
        writer.commit();
        waker.tick(&asked);
        waker.tick(&asked);
        reader.wait(Wait::Park, word, at_most, &asked);
        assert_eq!(asked.0.take(), ["unpark"]);
        reader.next_event().unwrap().unwrap();
        reader.wait(Wait::Park, word, at_most, &asked);
        assert_eq!(asked.0.take(), ["park"]);
        // One that comes later announces what was committed before.
        Waker::new(word, ring).tick(&asked);
        assert_eq!(asked.0.take(), ["unpark"]);
    }
}
