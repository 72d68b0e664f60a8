//! The queues that a worker receives from, each with its part of the ledger: what the XDP program
//! saw on it and what became of that, until the worker took it.

use super::counters::Counters;
use crate::sync::{AtomicU64, Ordering};

/// Queues that one worker can receive from.
pub const MAX_QUEUES: usize = 8;
/// Words of a queue's block.
pub const QUEUE_WORDS: usize = 64;

const INTERFACE: usize = 0;
const QUEUE: usize = 2;
const COUNTERS: usize = 8;

const _: () = assert!(super::counters::Counter::COUNT <= QUEUE_WORDS - COUNTERS);

/// Which queue it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueIdentity {
    /// Name of the interface, as Linux has it (at most 15 bytes).
    pub interface: heapless::String<16>,
    /// Number of the receive queue.
    pub queue: u32,
}

impl core::fmt::Display for QueueIdentity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} queue {}", self.interface, self.queue)
    }
}

/// Reads a queue's block, or writes it: single writer, the control thread.
#[derive(Clone, Copy, Debug)]
pub struct QueueBlock<'m> {
    words: &'m [AtomicU64; QUEUE_WORDS],
}

impl<'m> QueueBlock<'m> {
    pub(crate) fn new(words: &'m [AtomicU64]) -> Option<Self> {
        Some(QueueBlock { words: words.first_chunk()? })
    }

    fn get(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Which queue it is; `None` if the block is not used.
    pub fn identity(&self) -> Option<QueueIdentity> {
        let mut interface = heapless::String::new();
        for byte in (INTERFACE..QUEUE).flat_map(|index| self.get(index).to_le_bytes()) {
            let shown = match byte {
                0 => break,
                0x21..0x7F => char::from(byte),
                _ => '?',
            };
            // As long as the words.
            let _ = interface.push(shown);
        }
        let queue = self.get(QUEUE) as u32;
        (!interface.is_empty()).then_some(QueueIdentity { interface, queue })
    }

    /// Says which queue it is.
    pub fn set_identity(&self, identity: &QueueIdentity) {
        let mut bytes = identity.interface.bytes();
        for index in INTERFACE..QUEUE {
            let word = core::array::from_fn(|_| bytes.next().unwrap_or(0));
            self.set(index, u64::from_le_bytes(word));
        }
        self.set(QUEUE, identity.queue.into());
    }

    fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.words.get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// The queue's counters: those of the XDP program and of the socket, and the frames that
    /// the worker took or threw away. The others stay zero.
    pub fn counters(&self) -> Counters<'m> {
        Counters::new(self.words.get(COUNTERS..).unwrap_or(&[]))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::segment::Counter;
    use std::{string::ToString, vec::Vec};

    #[test]
    fn a_block_keeps_its_queue_and_counters() {
        let words: Vec<AtomicU64> = (0..QUEUE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let block = QueueBlock::new(&words).unwrap();
        assert_eq!(block.identity(), None);
        let identity = QueueIdentity { interface: "enp202s0f1np1.7".try_into().unwrap(), queue: 9 };
        block.set_identity(&identity);
        block.counters().set(Counter::InstrumentsFull, 7);
        assert_eq!(block.identity().unwrap().to_string(), "enp202s0f1np1.7 queue 9");
        assert_eq!(block.identity(), Some(identity));
        assert_eq!(block.counters().get(Counter::InstrumentsFull), 7);
        // Whatever stands there is shown without harm.
        words[0].store(u64::MAX, core::sync::atomic::Ordering::Relaxed);
        assert_eq!(block.identity().unwrap().interface.as_str(), "????????f1np1.7");
        assert!(QueueBlock::new(&words[1..]).is_none());
    }
}
