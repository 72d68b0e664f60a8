//! What the worker is told while it runs: to drain, and to take a feed in or let one go.
//!
//! The worker looks at one word once per poll. A change of the feeds lies beside it, behind a lock
//! that the worker tries only when the word says that there is something, and never waits for.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wiretape_core::pipeline::Feed;

const DRAIN: u8 = 1;
const CHANGE: u8 = 2;

/// How often whoever ordered a change looks whether it is done.
const LOOK: Duration = Duration::from_micros(200);

/// A change of the worker's feeds.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, moved twice; a box would be freed here"
)]
pub enum FeedChange<'m> {
    /// Take this one in.
    Attach(Feed<'m>),
    /// Let the one with this index go.
    Detach(usize),
}

/// The worker ended before it looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker ended before it changed its feeds")]
pub struct NotDone;

/// What the worker is to do; written by other threads.
#[derive(Debug, Default)]
pub struct Orders<'m> {
    word: AtomicU8,
    change: Mutex<Option<FeedChange<'m>>>,
    /// The feed that the worker let go, or could not take.
    returned: Mutex<Option<Feed<'m>>>,
}

/// The word as it was at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told(u8);

impl Told {
    /// Take in what was received, and end.
    #[inline]
    pub fn is_draining(self) -> bool {
        self.0 & DRAIN != 0
    }

    /// There is a change of the feeds.
    #[inline]
    pub fn is_change(self) -> bool {
        self.0 & CHANGE != 0
    }
}

impl<'m> Orders<'m> {
    /// Tells the worker to take in what has been received, and to end.
    pub fn drain(&self) {
        // Release: what was done before (the socket taken out of the map) comes first; partner
        // is the worker's acquire load.
        self.word.fetch_or(DRAIN, Ordering::Release);
    }

    /// What was told so far. For the worker: one load.
    #[inline]
    pub fn look(&self) -> Told {
        Told(self.word.load(Ordering::Acquire))
    }

    /// Has the worker change its feeds, and waits until it did. One caller at a time. Returns the
    /// feed that was let go, or that the worker could not take.
    ///
    /// # Errors
    /// [`NotDone`] once `stop` is set before the worker looked; the change is then void.
    pub fn change(
        &self,
        change: FeedChange<'m>,
        stop: &AtomicBool,
    ) -> Result<Option<Feed<'m>>, NotDone> {
        *lock(&self.change) = Some(change);
        // Release: the worker that sees the word finds the change.
        self.word.fetch_or(CHANGE, Ordering::Release);
        while self.look().is_change() {
            if stop.load(Ordering::Relaxed) && lock(&self.change).take().is_some() {
                self.word.fetch_and(!CHANGE, Ordering::Release);
                return Err(NotDone);
            }
            std::thread::sleep(LOOK);
        }
        Ok(lock(&self.returned).take())
    }

    /// The worker's side: does what it was told with `act`, which returns a feed that it does not
    /// keep. Waits for nobody.
    #[cold]
    pub fn carry_out(&self, act: impl FnOnce(FeedChange<'m>) -> Option<Feed<'m>>) {
        // Who gives the order holds a lock for a moment only, and not now, unless it takes it back.
        let Ok(mut change) = self.change.try_lock() else { return };
        let Some(change) = change.take() else { return };
        let feed = act(change);
        if let Ok(mut returned) = self.returned.try_lock() {
            *returned = feed;
        }
        // Release: whoever waits finds the feed.
        self.word.fetch_and(!CHANGE, Ordering::Release);
    }
}

/// What these locks guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_done_once_and_void_when_nobody_looks_any_more() {
        let (orders, stop) = (Orders::default(), AtomicBool::new(false));
        assert!(!orders.look().is_change());
        orders.carry_out(|_| panic!("there is nothing to be done"));
        std::thread::scope(|scope| {
            let asker = scope.spawn(|| orders.change(FeedChange::Detach(3), &stop));
            while !orders.look().is_change() {
                std::thread::yield_now();
            }
            let mut done = 0;
            while orders.look().is_change() {
                orders.carry_out(|change| {
                    assert!(matches!(change, FeedChange::Detach(3)));
                    done += 1;
                    None
                });
            }
            assert_eq!(done, 1);
            assert!(asker.join().unwrap().unwrap().is_none());
        });
        orders.drain();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(orders.change(FeedChange::Detach(1), &stop).unwrap_err(), NotDone);
        assert!(orders.look().is_draining() && !orders.look().is_change());
    }
}
