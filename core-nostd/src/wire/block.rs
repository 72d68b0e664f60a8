//! A message behind its 16-bit length, in either byte order: how MoldUDP64, IEX-TP and day files
//! string messages together.

use crate::prefetch::expect_read;

/// Bytes of a cache line.
const LINE: usize = 64;

/// The first block's message and what follows the block; `None` if the block is cut.
#[inline(always)]
pub(super) fn split(bytes: &[u8], decode: fn([u8; 2]) -> u16) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(decode(*length)))
}

/// What follows the first `count` blocks; `None` if one of them is cut.
///
/// Asks for all lines at once. Where the next block stands is known from the length of the one
/// before, so that the walk would wait for one line after the other, each from memory or from the
/// core that wrote the packet.
#[inline(always)]
pub(super) fn skip(bytes: &[u8], count: u16, decode: fn([u8; 2]) -> u16) -> Option<&[u8]> {
    for line in (LINE..bytes.len()).step_by(LINE) {
        expect_read(bytes.as_ptr().wrapping_add(line));
    }
    let mut rest = bytes;
    for _ in 0..count {
        rest = split(rest, decode)?.1;
    }
    Some(rest)
}

/// Writes a block at `at` and returns where the next one goes; `None`, and no change, if the
/// message does not fit its length field or the buffer.
#[inline]
pub(super) fn put(
    buffer: &mut [u8],
    at: usize,
    message: &[u8],
    encode: fn(u16) -> [u8; 2],
) -> Option<usize> {
    let length = u16::try_from(message.len()).ok()?;
    let (field, rest) = buffer.get_mut(at..)?.split_first_chunk_mut()?;
    rest.get_mut(..message.len())?.copy_from_slice(message);
    *field = encode(length);
    Some(at + 2 + message.len())
}
