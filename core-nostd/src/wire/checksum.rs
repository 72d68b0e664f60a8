//! The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit
//! words.
//!
//! The sum does not depend on byte order except for a final swap, so that words are taken eight
//! bytes at a time in memory order.

/// A sum under way. Only the last piece added may have an odd number of bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    #[inline]
    pub const fn new() -> Sum {
        Sum(0)
    }

    /// The sum with `bytes` added; an odd last byte counts as if a zero followed.
    #[inline]
    pub fn with(self, bytes: &[u8]) -> Sum {
        let mut total = self.0;
        let (chunks, tail) = bytes.as_chunks::<4>();
        for chunk in chunks {
            total = total.wrapping_add(u64::from(u32::from_ne_bytes(*chunk)));
        }
        let mut last = [0u8; 4];
        for (target, source) in last.iter_mut().zip(tail) {
            *target = *source;
        }
        total = total.wrapping_add(u64::from(u32::from_ne_bytes(last)));
        // Folded once per piece: a piece of 64 KiB adds less than 2^47.
        Sum((total & 0xffff_ffff) + (total >> 32))
    }

    /// The checksum as a number, to be stored big-endian.
    #[inline]
    pub fn finish(self) -> u16 {
        let mut total = self.0;
        for _ in 0..4 {
            total = (total & 0xffff) + (total >> 16);
        }
        u16::from_be(!(total as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as written: word by word, folded at the end.
    fn plain(bytes: &[u8]) -> u16 {
        let mut total: u64 = bytes
            .chunks(2)
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
            .sum();
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().with(&bytes).finish(), !0xddf2);
    }

    proptest! {
        #[test]
        fn equals_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::new().with(&bytes).finish(), plain(&bytes));
        }

        #[test]
        fn pieces_add_up(words in proptest::collection::vec(any::<[u8; 2]>(), 0..100), cut: usize) {
            let bytes = words.concat();
            let cut = if words.is_empty() { 0 } else { cut % words.len() * 2 };
            let pieces = Sum::new().with(&bytes[..cut]).with(&bytes[cut..]);
            prop_assert_eq!(pieces.finish(), plain(&bytes));
        }
    }
}
