//! Packet memory: a mapping cut into frames of equal size.

use wiretape_core::prefetch::expect_read;

use super::memory::Memory;

/// Bytes of a frame that the kernel keeps in front of a packet.
pub(super) const HEADROOM: u32 = 256;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Lines of a packet that are asked for before its descriptor is there: headers and a message.
const EXPECTED_LINES: usize = 2;

/// Why memory does not do as a UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UmemError {
    /// The kernel takes frames of 2048 bytes up to a page, powers of two.
    #[error("a frame of {0} bytes will not do: the kernel takes 2048 or 4096")]
    FrameSize(u32),
    /// Ring sizes are powers of two and the fill ring holds every frame.
    #[error(
        "{0} frames will not do: the number must be a power of two, at least 64 and at most {max}",
        max = Umem::FRAMES_MAX
    )]
    FrameCount(u32),
    /// The memory is too small for that many frames.
    #[error("{frames} frames of {frame_size} bytes do not fit the {len} bytes of memory handed in")]
    TooSmall {
        /// Frames asked for.
        frames: u32,
        /// Bytes of each.
        frame_size: u32,
        /// Bytes there are.
        len: usize,
    },
}

/// Words in front of a packet that are looked at.
pub const FRONT_WORDS: usize = 2;
const FRONT_BYTES: u64 = (FRONT_WORDS * size_of::<u64>()) as u64;

/// Packet memory and the geometry of its frames.
#[derive(Debug)]
pub struct Umem {
    memory: Memory,
    frames: u32,
    frame_size: u32,
}

impl Umem {
    /// More frames than any receive queue needs (2^20 frames of 4 KiB are 4 GiB).
    pub const FRAMES_MAX: u32 = 1 << 20;

    /// Cuts `memory` into `frames` frames of `frame_size` bytes.
    pub fn new(memory: Memory, frames: u32, frame_size: u32) -> Result<Umem, UmemError> {
        if !matches!(frame_size, 2048 | 4096) {
            return Err(UmemError::FrameSize(frame_size));
        }
        if !frames.is_power_of_two() || !(64..=Umem::FRAMES_MAX).contains(&frames) {
            return Err(UmemError::FrameCount(frames));
        }
        if frames as usize * frame_size as usize > memory.len() {
            return Err(UmemError::TooSmall { frames, frame_size, len: memory.len() });
        }
        Ok(Umem { memory, frames, frame_size })
    }

    /// Number of frames.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Bytes of a frame, the kernel's 256 bytes of headroom included.
    pub fn frame_size(&self) -> u32 {
        self.frame_size
    }

    /// The mapping.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Bytes that the kernel is told about.
    pub(super) fn len(&self) -> u64 {
        u64::from(self.frames) * u64::from(self.frame_size)
    }

    /// The address of the frame that `address` lies in.
    pub(super) fn frame_of(&self, address: u64) -> u64 {
        address & !u64::from(self.frame_size - 1)
    }

    /// The bytes of a descriptor, or `None` where it leaves its frame: what the kernel writes is
    /// an allegation until it is checked, like everything in shared memory.
    ///
    /// # Safety
    /// The frame is in user space's hands: it came out of the RX ring and is not back in the fill
    /// ring for as long as the slice lives.
    pub(super) unsafe fn bytes(&self, address: u64, len: u32) -> Option<&[u8]> {
        if address >= self.len() {
            return None;
        }
        let end = address.checked_add(u64::from(len))?;
        if end > self.frame_of(address) + u64::from(self.frame_size) {
            return None;
        }
        // SAFETY: the address was checked to lie inside the mapping.
        let start = unsafe { self.memory.base().add(address as usize) };
        // SAFETY: `len` bytes from there lie inside one frame of the mapping, which lives as long
        // as `self`; the caller vouches that the kernel does not write to this frame meanwhile.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), len as usize) })
    }

    /// Asks for the first lines of the packet that the kernel will have put, or has put, into the
    /// frame at `address`. A hint: nothing is read.
    #[inline]
    pub(super) fn expect(&self, address: u64) {
        let packet = self.memory.base().as_ptr().wrapping_add(address as usize);
        for line in 0..EXPECTED_LINES {
            expect_read(packet.wrapping_add(HEADROOM as usize + line * LINE));
        }
    }

    /// Asks for every line of the packet that a descriptor tells of. A hint: nothing is read.
    #[inline]
    pub(super) fn expect_packet(&self, address: u64, len: u32) {
        let packet = self.memory.base().as_ptr().wrapping_add(address as usize);
        for line in (0..len.min(self.frame_size) as usize).step_by(LINE) {
            expect_read(packet.wrapping_add(line));
        }
    }

    /// The words directly in front of the packet at `address`, or `None` where they would leave its
    /// frame. The first is cleared, so that it is not found again once the frame holds another packet,
    /// in front of which nobody wrote.
    ///
    /// # Safety
    /// As for [`bytes`](Umem::bytes), and nobody else reads these words.
    #[inline]
    pub(super) unsafe fn take_front(&self, address: u64) -> Option<[u64; FRONT_WORDS]> {
        let front = address.checked_sub(FRONT_BYTES)?;
        if address >= self.len() || front < self.frame_of(address) {
            return None;
        }
        // SAFETY: the words were checked to lie inside the mapping.
        let start = unsafe { self.memory.base().add(front as usize) };
        let words = start.cast::<[u64; FRONT_WORDS]>();
        // SAFETY: inside the mapping, which lives as long as `self`; any bits are valid; the caller
        // vouches that nobody writes to them meanwhile.
        let taken = unsafe { words.read_unaligned() };
        if taken[0] != 0 {
            // SAFETY: as above, and nobody reads them either.
            unsafe { start.cast::<u64>().write_unaligned(0) };
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::HugePages;
    use super::*;

    fn umem() -> Umem {
        Umem::new(Memory::memfd(64 * 2048, HugePages::Off).unwrap(), 64, 2048).unwrap()
    }

    #[test]
    fn a_descriptor_that_leaves_its_frame_is_refused() {
        let umem = umem();
        // SAFETY: no kernel writes to this memory.
        let len = |address, len| unsafe { umem.bytes(address, len) }.map(<[u8]>::len);
        assert_eq!(len(256, 1500), Some(1500));
        assert_eq!(len(256, 2048 - 256), Some(1792));
        assert_eq!(len(256, 2048 - 255), None);
        assert_eq!(len(63 * 2048, 2048), Some(2048));
        assert_eq!(len(64 * 2048, 0), None);
        assert_eq!(len(u64::MAX, 1), None);
        assert_eq!(len(u64::MAX - 2047, u32::MAX), None);
    }

    #[test]
    fn what_stands_in_front_of_a_packet_is_found_once_and_inside_its_frame() {
        let umem = umem();
        let at = 3 * 2048 + 258;
        let block = [0x5A5A_u64, 7].map(u64::to_ne_bytes).concat();
        // SAFETY: inside the mapping, of which nobody else knows.
        let front = unsafe { umem.memory().base().add(at - 16) };
        // SAFETY: 16 bytes from there are inside too.
        unsafe { front.copy_from_nonoverlapping(std::ptr::NonNull::from(&block[0]), 16) };
        // SAFETY: no kernel writes to this memory.
        let take = |address: usize| unsafe { umem.take_front(address as u64) };
        assert_eq!(take(at), Some([0x5A5A, 7]));
        assert_eq!(take(at), Some([0, 7]));
        assert_eq!(take(3 * 2048 + 16), Some([0, 0]));
        assert_eq!(take(3 * 2048 + 15), None, "that would be the frame before");
        assert_eq!(take(15), None);
        assert_eq!(take(64 * 2048), None);
        assert_eq!(take(usize::MAX), None);
    }

    #[test]
    fn geometry_that_the_kernel_would_refuse_is_named() {
        let memory = || Memory::memfd(64 * 2048, HugePages::Try).unwrap();
        assert_eq!(Umem::new(memory(), 64, 1024).unwrap_err(), UmemError::FrameSize(1024));
        assert_eq!(Umem::new(memory(), 100, 2048).unwrap_err(), UmemError::FrameCount(100));
        let too_small = Umem::new(memory(), 1 << 20, 4096).unwrap_err();
        assert!(too_small.to_string().contains("do not fit"), "{too_small}");
    }
}
