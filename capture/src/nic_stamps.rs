//! Receive times of the NIC, which the XDP program writes in front of packets: read, brought to UTC,
//! and held against the system clock.
//!
//! The NIC's clock is taken to run on UTC or on TAI, as PTP's does; which of them needs no setting,
//! for they lie 37 s apart and a stamp has to be near the system clock. One that is near it in
//! neither reading is of a clock that nobody sets, and is refused: a wrong time is worse than a
//! coarse one.

use crate::clock::{WorkerClock, tai_ahead_ns};
use crate::xsk::{FRONT_WORDS, ReceiveTime};

/// First word of what stands in front of a packet (`STEER_STAMP_MAGIC` in `steer.h` of xdp-prog); the
/// second is the time, 0 if the driver had none.
pub const STAMP_MAGIC: u64 = u64::from_le_bytes(*b"WTSTAMP1");

/// Packets wait for the worker, so that a stamp may be that much older than the moment at which it
/// takes them. Less than a second: were a leap second to part TAI from UTC, what follows from the old
/// distance is refused and not published a second off.
const OLDER_NS_MAX: u64 = 900_000_000;
/// No packet comes from the future, but clocks that are kept by NTP alone differ that much.
const NEWER_NS_MAX: u64 = 100_000_000;

/// Packets by what their time was taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StampCounts {
    /// The NIC.
    pub stamped: u32,
    /// The system clock: the NIC gave no time.
    pub unstamped: u32,
    /// The system clock: the NIC's time was not near it.
    pub refused: u32,
}

/// Packets without one usable stamp after which that is told.
const TELL_AFTER: u64 = 100;

/// What is wrong where the NIC was asked and not one of its times could be used; `None` where some
/// could, or too few packets came to say. Numbers since the start, of one queue of `interface`.
pub fn complaint(interface: &str, stamped: u64, unstamped: u64, refused: u64) -> Option<String> {
    let packets = unstamped.saturating_add(refused);
    if stamped > 0 || packets < TELL_AFTER {
        return None;
    }
    let what = if refused > unstamped {
        "the NIC's clock is far from the system clock, on UTC and on TAI: keep it with ptp4l or \
         phc2sys"
            .to_owned()
    } else {
        format!(
            "the NIC of {interface} stamped none: have it do so with hwstamp_ctl -i {interface} -r 1"
        )
    };
    Some(format!("the first {packets} packets of {interface} have the host's time, since {what}"))
}

/// The NIC's times of one socket's packets.
#[derive(Debug)]
pub struct NicStamps {
    tai_ahead_ns: u64,
    /// When the batch at hand was taken, by the system clock.
    taken_ns: u64,
    counts: StampCounts,
}

impl NicStamps {
    /// Takes TAI to be as far ahead of UTC as the system says.
    pub fn new() -> NicStamps {
        NicStamps { tai_ahead_ns: tai_ahead_ns(), taken_ns: 0, counts: StampCounts::default() }
    }

    /// The same, to take the times of a batch's packets from.
    pub fn held_against<'a>(&'a mut self, clock: &'a mut WorkerClock) -> HeldStamps<'a> {
        HeldStamps { stamps: self, clock }
    }

    /// Starts a batch that is taken at `taken_ns` by the system clock, and counts anew.
    #[inline]
    fn begin_batch(&mut self, taken_ns: u64) {
        self.taken_ns = taken_ns;
        self.counts = StampCounts::default();
    }

    /// When a packet was received: the time in front of it, or else that of its batch.
    #[inline]
    fn of(&mut self, front: Option<[u64; FRONT_WORDS]>) -> u64 {
        let stamp = match front {
            Some([STAMP_MAGIC, stamp]) if stamp != 0 => stamp,
            _ => {
                self.counts.unstamped += 1;
                return self.taken_ns;
            }
        };
        match self.utc(stamp) {
            Some(utc) => {
                self.counts.stamped += 1;
                utc
            }
            None => {
                self.counts.refused += 1;
                self.taken_ns
            }
        }
    }

    /// What the times of the latest batch's packets were taken from.
    #[inline]
    pub fn counts(&self) -> StampCounts {
        self.counts
    }

    /// A stamp in UTC, if it can be one.
    #[inline]
    fn utc(&self, stamp: u64) -> Option<u64> {
        let near = |utc: u64| match self.taken_ns.checked_sub(utc) {
            Some(older) => older <= OLDER_NS_MAX,
            None => utc - self.taken_ns <= NEWER_NS_MAX,
        };
        [stamp, stamp.wrapping_sub(self.tai_ahead_ns)].into_iter().find(|utc| near(*utc))
    }
}

impl Default for NicStamps {
    fn default() -> NicStamps {
        NicStamps::new()
    }
}

/// The NIC's times, held against the clock that is read once a batch.
#[derive(Debug)]
pub struct HeldStamps<'a> {
    stamps: &'a mut NicStamps,
    clock: &'a mut WorkerClock,
}

impl ReceiveTime for HeldStamps<'_> {
    const LOOKS_IN_FRONT: bool = true;

    #[inline]
    fn begin_batch(&mut self) {
        self.stamps.begin_batch(self.clock.now());
    }

    #[inline]
    fn of(&mut self, front: Option<[u64; FRONT_WORDS]>) -> u64 {
        self.stamps.of(front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000_000_000;
    const TAI: u64 = 37_000_000_000;

    #[test]
    fn times_near_the_system_clock_are_taken_and_others_are_counted() {
        let mut stamps = NicStamps { tai_ahead_ns: TAI, ..NicStamps::new() };
        stamps.begin_batch(NOW);
        let mut of = |front| stamps.of(front);
        let at = |stamp| Some([STAMP_MAGIC, stamp]);
        // A wire's time, a packet that waited, a clock that is a little ahead; on UTC and on TAI.
        for utc in [NOW - 1_500, NOW - 850_000_000, NOW + 90_000_000] {
            assert_eq!(of(at(utc)), utc);
            assert_eq!(of(at(utc + TAI)), utc);
        }
        for none in [None, at(0), Some([0, NOW]), Some([STAMP_MAGIC ^ 1, NOW - 5])] {
            assert_eq!(of(none), NOW);
        }
        // A clock that started with the machine, one of another day, TAI after a leap second.
        let day = 86_400_000_000_000;
        for strange in [1, u64::MAX, NOW + day, NOW - day, NOW + TAI + 1_000_000_000 - 2_000] {
            assert_eq!(of(at(strange)), NOW, "{strange}");
        }
        let expected = StampCounts { stamped: 6, unstamped: 4, refused: 5 };
        assert_eq!(stamps.counts(), expected);
        stamps.begin_batch(NOW + 1);
        assert_eq!(stamps.counts(), StampCounts::default());
    }

    #[test]
    fn a_nic_of_which_no_time_can_be_used_is_told_of() {
        assert_eq!(complaint("eth1", 1, 5_000, 5_000), None);
        assert_eq!(complaint("eth1", 0, 99, 0), None);
        assert!(complaint("eth1", 0, 100, 0).unwrap().contains("hwstamp_ctl -i eth1 -r 1"));
        assert!(complaint("eth1", 0, 10, 90).unwrap().contains("far from the system clock"));
    }
}
