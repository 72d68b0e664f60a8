//! Packets that came before their turn, kept until it comes: whole, in order of their sequence
//! numbers, in memory claimed at the start.

use super::session::{Packet, PacketKind};
use crate::arena::{Arena, ArenaError};

/// A packet that waits. Its bytes lie in slot `slot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Held {
    /// Number of its first message, or of the next to come if it has none.
    pub first: u64,
    /// First number after it.
    pub end: u64,
    /// When it was received, UTC nanoseconds.
    pub received_ns: u64,
    slot: u32,
    len: u16,
    /// 0 data, 1 heartbeat, 2 end of session.
    kind: u8,
    /// The line that brought it.
    pub line: u8,
}

/// What became of a packet that should wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It waits.
    Kept,
    /// A packet that waits already has all of it.
    Known,
    /// There is no room: no slot is free, or it is longer than a slot.
    NoRoom,
}

/// The packets that wait.
///
/// ```
/// use wiretape_core::arena::Arena;
/// use wiretape_core::feed::reorder_window::{Hold, ReorderWindow};
/// use wiretape_core::feed::session::{Packet, PacketKind};
///
/// let mut memory = vec![0; 1 << 16];
/// let mut window = ReorderWindow::new(8, 1500, &mut Arena::new(&mut memory))?;
/// let packet = |seq| Packet {
///     session: *b"SESSION001",
///     seq,
///     count: 2,
///     kind: PacketKind::Data,
///     sent_ns: None,
///     fingerprint: 0,
/// };
/// assert_eq!(window.hold(&packet(7), b"seven", 0, 100), Hold::Kept);
/// assert_eq!(window.hold(&packet(5), b"five", 0, 101), Hold::Kept);
/// assert_eq!(window.hold(&packet(5), b"five", 0, 102), Hold::Known);
/// let held = window.pop().unwrap();
/// assert_eq!((held.first, held.end, window.payload(&held)), (5, 7, &b"five"[..]));
/// window.free(&held);
/// # Ok::<(), wiretape_core::arena::ArenaError>(())
/// ```
#[derive(Debug)]
pub struct ReorderWindow<'m> {
    /// A circle, sorted by (first, end) from `head` on.
    order: &'m mut [Held],
    head: usize,
    len: usize,
    /// Slots that hold nothing: the first `free_len`.
    free: &'m mut [u32],
    free_len: usize,
    bytes: &'m mut [u8],
    slot_bytes: usize,
}

impl<'m> ReorderWindow<'m> {
    /// Room for `packets` packets of up to `packet_bytes` bytes; none of either is a window that
    /// keeps nothing.
    pub fn new(packets: u32, packet_bytes: u16, arena: &mut Arena<'m>) -> Result<Self, ArenaError> {
        let (count, slot_bytes) = (packets as usize, usize::from(packet_bytes));
        let free = arena.alloc_slice("reorder window", count)?;
        for (slot, index) in free.iter_mut().zip(0..) {
            *slot = index;
        }
        Ok(ReorderWindow {
            order: arena.alloc_slice("reorder window", count)?,
            head: 0,
            len: 0,
            free,
            free_len: count,
            bytes: arena.alloc_slice("reorder window", count.saturating_mul(slot_bytes))?,
            slot_bytes,
        })
    }

    /// Packets that it has room for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.order.len()
    }

    /// Packets that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Place in the circle of the packet that is `index` from the front.
    #[inline]
    fn place(&self, index: usize) -> usize {
        let place = self.head.wrapping_add(index);
        if place >= self.order.len() { place.wrapping_sub(self.order.len()) } else { place }
    }

    #[inline]
    fn get(&self, index: usize) -> Option<Held> {
        if index >= self.len {
            return None;
        }
        self.order.get(self.place(index)).copied()
    }

    /// The packet with the lowest number.
    #[inline]
    pub fn front(&self) -> Option<Held> {
        self.get(0)
    }

    /// The packet with the highest number.
    #[inline]
    pub fn back(&self) -> Option<Held> {
        self.get(self.len.wrapping_sub(1))
    }

    /// All that wait, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Held> + '_ {
        (0..self.len).map_while(|index| self.get(index))
    }

    /// Lets a packet wait. From the back: packets that wait mostly come in order.
    pub fn hold(&mut self, packet: &Packet, payload: &[u8], line: u8, received_ns: u64) -> Hold {
        let kind = match packet.kind {
            PacketKind::Data => 0,
            PacketKind::Heartbeat => 1,
            PacketKind::EndOfSession => 2,
        };
        let first = packet.seq;
        let end = first.saturating_add(packet.count);
        let mut index = self.len;
        while let Some(before) = self.get(index.wrapping_sub(1)) {
            if (before.first, before.end) <= (first, end) {
                break;
            }
            index = index.wrapping_sub(1);
        }
        if self.has(first, end, kind, index) {
            return Hold::Known;
        }
        let Some(slot) = self.take_slot(payload) else { return Hold::NoRoom };
        // Make room in the circle: everything behind moves one place back.
        let mut at = self.len;
        while at > index {
            let moved = self.order.get(self.place(at.wrapping_sub(1))).copied();
            let to = self.place(at);
            if let (Some(to), Some(moved)) = (self.order.get_mut(to), moved) {
                *to = moved;
            }
            at = at.wrapping_sub(1);
        }
        let place = self.place(index);
        if let Some(entry) = self.order.get_mut(place) {
            let len = payload.len() as u16; // not longer than a slot
            *entry = Held { first, end, received_ns, slot, len, kind, line };
        }
        self.len = self.len.wrapping_add(1);
        Hold::Kept
    }

    /// Whether packets around place `index`, where `first..end` belongs, have all of it.
    fn has(&self, first: u64, end: u64, kind: u8, index: usize) -> bool {
        let before = self.get(index.wrapping_sub(1));
        if kind == 2 {
            // The end of a session says more than the numbers.
            return before.is_some_and(|held| held.kind == 2 && held.first == first);
        }
        if before.is_some_and(|held| held.end >= end) {
            return true;
        }
        // One that starts alike and is longer, or any that shows a heartbeat's number.
        self.get(index).is_some_and(|held| held.first == first)
    }

    fn take_slot(&mut self, payload: &[u8]) -> Option<u32> {
        if payload.len() > self.slot_bytes {
            return None;
        }
        let last = self.free_len.checked_sub(1)?;
        let slot = *self.free.get(last)?;
        let to = self.bytes.get_mut((slot as usize).wrapping_mul(self.slot_bytes)..)?;
        for (to, from) in to.iter_mut().zip(payload) {
            *to = *from;
        }
        self.free_len = last;
        Some(slot)
    }

    /// Takes the packet with the lowest number out. Its bytes stay until [`free`](Self::free).
    pub fn pop(&mut self) -> Option<Held> {
        let held = self.front()?;
        self.head = self.place(1);
        self.len = self.len.wrapping_sub(1);
        Some(held)
    }

    /// Takes the packet with the highest number out.
    pub fn pop_back(&mut self) -> Option<Held> {
        let held = self.back()?;
        self.len = self.len.wrapping_sub(1);
        Some(held)
    }

    /// The bytes of a packet that was taken out and not yet freed.
    pub fn payload(&self, held: &Held) -> &[u8] {
        let start = (held.slot as usize).wrapping_mul(self.slot_bytes);
        let bytes = self.bytes.get(start..).unwrap_or(&[]);
        bytes.get(..usize::from(held.len)).unwrap_or(&[])
    }

    /// Gives the room of a packet that was taken out back.
    pub fn free(&mut self, held: &Held) {
        if let Some(slot) = self.free.get_mut(self.free_len) {
            *slot = held.slot;
            self.free_len = self.free_len.wrapping_add(1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    fn packet(seq: u64, count: u64, kind: PacketKind) -> Packet {
        Packet { session: *b"AAAAAAAAAA", seq, count, kind, sent_ns: None, fingerprint: 0 }
    }

    fn data(seq: u64, count: u64) -> Packet {
        packet(seq, count, PacketKind::Data)
    }

    #[test]
    fn packets_come_out_in_order_over_many_turns_of_the_circle() {
        let mut memory = vec![0; 1 << 12];
        let mut window = ReorderWindow::new(5, 16, &mut Arena::new(&mut memory)).unwrap();
        let mut expected = Vec::new();
        for round in 0..40_u64 {
            let base = round * 10;
            for seq in [base + 8, base + 2, base + 6, base + 4] {
                let bytes = seq.to_le_bytes();
                assert_eq!(window.hold(&data(seq, 1), &bytes, 0, seq), Hold::Kept);
            }
            expected.extend([2, 4, 6, 8].map(|n| base + n));
            let mut seen = Vec::new();
            while let Some(held) = window.pop() {
                assert_eq!(window.payload(&held), held.first.to_le_bytes());
                seen.push(held.first);
                window.free(&held);
            }
            assert_eq!(seen, expected[expected.len() - 4..]);
        }
    }

    #[test]
    fn what_is_known_or_does_not_fit_is_told() {
        let mut memory = vec![0; 1 << 12];
        let mut window = ReorderWindow::new(3, 8, &mut Arena::new(&mut memory)).unwrap();
        assert_eq!(window.hold(&data(10, 5), b"x", 0, 0), Hold::Kept);
        assert_eq!(window.hold(&data(10, 5), b"x", 0, 0), Hold::Known);
        assert_eq!(window.hold(&data(10, 2), b"x", 0, 0), Hold::Known);
        assert_eq!(window.hold(&data(12, 3), b"x", 0, 0), Hold::Known);
        assert_eq!(window.hold(&data(12, 4), b"x", 0, 0), Hold::Kept);
        assert_eq!(window.hold(&packet(16, 0, PacketKind::Heartbeat), b"x", 0, 0), Hold::Known);
        assert_eq!(window.hold(&packet(16, 0, PacketKind::EndOfSession), b"x", 0, 0), Hold::Kept);
        assert_eq!(window.hold(&packet(16, 0, PacketKind::EndOfSession), b"x", 0, 0), Hold::Known);
        assert_eq!(window.hold(&data(30, 1), b"x", 0, 0), Hold::NoRoom);
        let held = window.pop().unwrap();
        window.free(&held);
        assert_eq!(window.hold(&data(30, 1), b"123456789", 0, 0), Hold::NoRoom);
        assert_eq!(window.hold(&data(30, 1), b"12345678", 0, 0), Hold::Kept);
        assert_eq!(window.iter().map(|held| held.first).collect::<Vec<_>>(), [12, 16, 30]);
    }
}
