//! A message behind its 16-bit length, in either byte order: how MoldUDP64, IEX-TP and day files
//! string messages together.

/// The first block's message and what follows the block; `None` if the block is cut.
#[inline(always)]
pub(super) fn split(bytes: &[u8], decode: fn([u8; 2]) -> u16) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(decode(*length)))
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
