//! Packets are built ahead by a thread of their own, so that sending only sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::packet::Batch;
use super::source::{Source, SourceError};

/// How far the building thread is.
#[derive(Debug, Default)]
struct Building {
    batches: AtomicUsize,
    over: AtomicBool,
}

/// Batches of a source, built up to a limit ahead of the one who takes them.
pub struct Ahead {
    batches: Option<Receiver<Result<Batch, SourceError>>>,
    used: Sender<Batch>,
    building: Arc<Building>,
    limit: usize,
    thread: Option<JoinHandle<Vec<String>>>,
}

fn build(
    source: &mut dyn Source,
    batches: &SyncSender<Result<Batch, SourceError>>,
    used: &Receiver<Batch>,
    building: &Building,
) {
    loop {
        let mut batch = used.try_recv().unwrap_or_else(|_| Batch::new());
        batch.clear();
        let filled = source.fill(&mut batch);
        let more = matches!(filled, Ok(true));
        // The count goes up first: one that is full and blocked in `send` counts as built.
        building.batches.fetch_add(1, Ordering::Release);
        let sent = match filled {
            Ok(_) => batches.send(Ok(batch)),
            Err(error) => batches.send(Ok(batch)).and_then(|()| batches.send(Err(error))),
        };
        // A receiver that is gone wants no more.
        if !more || sent.is_err() {
            return;
        }
    }
}

impl Ahead {
    /// Starts building the packets of `source`, at most `limit` batches ahead.
    pub fn start(mut source: Box<dyn Source>, limit: usize) -> Ahead {
        let (to_player, batches) = sync_channel(limit.max(1));
        let (used, to_builder) = channel();
        let building = Arc::new(Building::default());
        let shared = Arc::clone(&building);
        let thread = std::thread::spawn(move || {
            build(&mut *source, &to_player, &to_builder, &shared);
            shared.over.store(true, Ordering::Release);
            source.remarks()
        });
        Ahead { batches: Some(batches), used, building, limit, thread: Some(thread) }
    }

    /// Waits until as many batches as allowed were built, the source is over, or `stop`.
    pub fn wait_full(&self, stop: &AtomicBool) {
        while self.building.batches.load(Ordering::Acquire) < self.limit
            && !self.building.over.load(Ordering::Acquire)
            && !stop.load(Ordering::Relaxed)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The next batch; `None` when the source is over.
    pub fn next_batch(&mut self) -> Option<Result<Batch, SourceError>> {
        self.batches.as_ref()?.recv().ok()
    }

    /// Hands a batch back, so that its memory is used again.
    pub fn give_back(&self, batch: Batch) {
        // The builder may be gone: then nobody needs it.
        let _ = self.used.send(batch);
    }

    /// Stops building; gives what the source has to remark.
    pub fn finish(mut self) -> Vec<String> {
        self.batches = None;
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}
