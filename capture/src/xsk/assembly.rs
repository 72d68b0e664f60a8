//! Puts packets together that the kernel hands over in several frames (`XDP_PKT_CONTD`): those of
//! interfaces whose MTU is larger than a frame.

use wiretape_core::frames::{PACKET_FRAMES_MAX, PACKET_MAX};

/// What one part made of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// More parts follow.
    Awaited,
    /// That was the last one: the packet is in [`Assembly::packet`].
    Whole,
    /// That was the last one of a packet that is longer than [`PACKET_MAX`], has more parts than
    /// [`PACKET_FRAMES_MAX`], or one that lay outside its frame.
    Dropped,
}

/// The parts taken so far.
pub(super) struct Assembly {
    bytes: Box<[u8]>,
    len: usize,
    parts: usize,
    inside: bool,
    spoilt: bool,
}

impl Assembly {
    pub fn new() -> Assembly {
        let bytes = vec![0; PACKET_MAX].into_boxed_slice();
        Assembly { bytes, len: 0, parts: 0, inside: false, spoilt: false }
    }

    /// Whether parts have been taken of a packet that is not whole.
    #[inline]
    pub fn is_inside(&self) -> bool {
        self.inside
    }

    /// Takes a part, `None` if it could not be had; `continued` says whether another one follows.
    pub fn take(&mut self, part: Option<&[u8]>, continued: bool) -> Part {
        if !self.inside {
            (self.len, self.parts, self.spoilt) = (0, 0, false);
        }
        self.inside = continued;
        self.parts = self.parts.saturating_add(1);
        let room = part.filter(|_| self.parts <= PACKET_FRAMES_MAX).and_then(|part| {
            let room = self.bytes.get_mut(self.len..self.len + part.len())?;
            Some((room, part))
        });
        match room {
            Some((room, part)) => {
                room.copy_from_slice(part);
                self.len += part.len();
            }
            None => self.spoilt = true,
        }
        match (continued, self.spoilt) {
            (true, _) => Part::Awaited,
            (false, true) => Part::Dropped,
            (false, false) => Part::Whole,
        }
    }

    /// The packet put together last.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_a_packet_and_a_spoilt_one_leaves_nothing_behind() {
        let mut assembly = Assembly::new();
        assert_eq!(assembly.take(Some(b"ab"), true), Part::Awaited);
        assert!(assembly.is_inside());
        assert_eq!(assembly.take(Some(b""), true), Part::Awaited);
        assert_eq!(assembly.take(Some(b"c"), false), Part::Whole);
        assert_eq!((assembly.packet(), assembly.is_inside()), (&b"abc"[..], false));

        assert_eq!(assembly.take(Some(b"ab"), true), Part::Awaited);
        assert_eq!(assembly.take(None, true), Part::Awaited);
        assert_eq!(assembly.take(Some(b"c"), false), Part::Dropped);

        let long = vec![7; PACKET_MAX - 1];
        assert_eq!(assembly.take(Some(&long), true), Part::Awaited);
        assert_eq!(assembly.take(Some(b"x"), false), Part::Whole);
        assert_eq!(assembly.packet().len(), PACKET_MAX);
        assert_eq!(assembly.take(Some(&long), true), Part::Awaited);
        assert_eq!(assembly.take(Some(b"xy"), true), Part::Awaited);
        assert_eq!(assembly.take(Some(b"z"), false), Part::Dropped);
        assert_eq!(assembly.take(Some(b"ab"), true), Part::Awaited);
        assert_eq!(assembly.take(Some(b"c"), false), Part::Whole);
        assert_eq!(assembly.packet(), b"abc");

        for (parts, outcome) in
            [(PACKET_FRAMES_MAX, Part::Whole), (PACKET_FRAMES_MAX + 1, Part::Dropped)]
        {
            for _ in 1..parts {
                assert_eq!(assembly.take(Some(b"x"), true), Part::Awaited);
            }
            assert_eq!(assembly.take(Some(b"x"), false), outcome, "{parts} parts");
        }
    }
}
