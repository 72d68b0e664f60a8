//! A stream of bits over words, lowest bit first.

/// Writes bits until the words are full.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    words: &'a mut [u64],
    /// Words that are complete, and what the next one holds so far.
    full: usize,
    open: u64,
    open_bits: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(words: &'a mut [u64]) -> BitWriter<'a> {
        BitWriter { words, full: 0, open: 0, open_bits: 0 }
    }

    /// Appends the low `width` (at most 64) bits of `value`; `None` if there is no room.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u64, width: u32) -> Option<()> {
        let value = value & 1u64.checked_shl(width).unwrap_or(0).wrapping_sub(1);
        self.open |= value << self.open_bits;
        let bits = self.open_bits + width;
        if bits >= 64 {
            *self.words.get_mut(self.full)? = self.open;
            self.full += 1;
            self.open = value.checked_shr(64 - self.open_bits).unwrap_or(0);
        }
        self.open_bits = bits % 64;
        Some(())
    }

    /// Writes the last, partial word. Returns the words used.
    pub(super) fn finish(self) -> Option<usize> {
        if self.open_bits == 0 {
            return Some(self.full);
        }
        *self.words.get_mut(self.full)? = self.open;
        Some(self.full + 1)
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    words: &'a [u64],
    word: usize,
    bit: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(words: &'a [u64]) -> BitReader<'a> {
        BitReader { words, word: 0, bit: 0 }
    }

    /// The next `width` (at most 64) bits; `None` behind the end.
    #[inline(always)]
    pub(super) fn take(&mut self, width: u32) -> Option<u64> {
        if width == 0 {
            return Some(0);
        }
        let mut value = self.words.get(self.word)? >> self.bit;
        let bits = self.bit + width;
        if bits > 64 {
            value |= self.words.get(self.word + 1)? << (64 - self.bit);
        }
        self.word += (bits / 64) as usize;
        self.bit = bits % 64;
        Some(value & 1u64.checked_shl(width).unwrap_or(0).wrapping_sub(1))
    }

    /// Words that were begun.
    pub(super) fn words_read(&self) -> usize {
        self.word + usize::from(self.bit != 0)
    }
}
