//! A digest of a tape, by which two runs over the same packets are compared.

use wiretape_core::event::Event;
use xxhash_rust::xxh3::Xxh3;
use zerocopy::IntoBytes;

/// XXH3-128 over the 56 bytes of each event without its receive time, in ring order.
#[derive(Clone, Default)]
pub struct Digest {
    hash: Xxh3,
    events: u64,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Digest {
    /// The digest of no event.
    pub fn new() -> Digest {
        Digest::default()
    }

    /// Takes events in.
    pub fn add(&mut self, events: &[Event]) {
        for event in events {
            self.hash.update(event.without_receive_time().as_bytes());
        }
        self.events += events.len() as u64;
    }

    /// Events taken in.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The digest as 32 hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_count_and_the_receive_time_does_not() {
        let event = |content: u64, received: u64| Event {
            // A status record: its receive time is the third word.
            words: [0x0000_0001_0002_120A, content, received, 0, 0, 0, 0],
        };
        let digest = |events: &[Event]| {
            let mut digest = Digest::new();
            digest.add(events);
            digest.hex()
        };
        let base = digest(&[event(1, 5), event(2, 6)]);
        assert_eq!(base, digest(&[event(1, 9), event(2, 10)]));
        assert_ne!(base, digest(&[event(2, 5), event(1, 6)]));
        assert_ne!(base, digest(&[event(1, 5)]));
        assert_eq!(base.len(), 32);
    }
}
