//! Gorilla compression (Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time Series
//! Database", VLDB 2015): the baseline that the other codecs are measured against.
//!
//! Times are stored as the delta of their delta, in 1, 9, 12, 16, 37 or 69 bits; the paper's
//! classes end at 32 bits, which is too few for nanoseconds, so there is one more. Values are
//! stored as the XOR with the one before, without its leading and trailing zeros. The streams
//! know no length: the caller keeps the number of values.

use super::bits::{BitReader, BitWriter};

/// Words that are enough for `count` times or values.
pub const fn words_max(count: usize) -> usize {
    // The longest code of a value has 2 + 5 + 6 + 64 bits.
    count.saturating_mul(77).div_ceil(64).saturating_add(1)
}

/// Classes of the delta of delta: bits of the prefix, the prefix (lowest bit first), bits that
/// follow.
const CLASSES: [(u32, u64, u32); 6] =
    [(1, 0b0, 0), (2, 0b01, 7), (3, 0b011, 9), (4, 0b0111, 12), (5, 0b01111, 32), (5, 0b11111, 64)];

/// Whether `value` is what `bits` bits can say in two's complement.
fn fits(value: i64, bits: u32) -> bool {
    match bits {
        0 => value == 0,
        _ => value << (64 - bits) >> (64 - bits) == value,
    }
}

/// Compresses times (any integers, smallest for equal steps). Returns the words used; `None` if
/// there are too few.
///
/// ```
/// use wiretape_core::simd::gorilla;
///
/// let times = [1_000, 2_000, 3_000, 4_001, 5_001];
/// let mut words = [0; gorilla::words_max(5)];
/// let used = gorilla::encode_times(&times, &mut words).unwrap();
/// let mut decoded = [0; 5];
/// assert_eq!(gorilla::decode_times(&words[..used], &mut decoded), Some(used));
/// assert_eq!(decoded, times);
/// ```
pub fn encode_times(times: &[i64], words: &mut [u64]) -> Option<usize> {
    let mut bits = BitWriter::new(words);
    let (mut before, mut delta) = (0i64, 0i64);
    for time in times {
        let change = time.wrapping_sub(before).wrapping_sub(delta);
        let class = CLASSES.iter().find(|class| fits(change, class.2))?;
        bits.put(class.1, class.0)?;
        bits.put(change as u64, class.2)?;
        (before, delta) = (*time, time.wrapping_sub(before));
    }
    bits.finish()
}

/// Fills `times` from a stream of at least as many. Returns the words read; `None` if the stream
/// ends early. Any other words are a valid stream of something.
pub fn decode_times(words: &[u64], times: &mut [i64]) -> Option<usize> {
    let mut bits = BitReader::new(words);
    let (mut before, mut delta) = (0i64, 0i64);
    for time in times {
        let mut width = 64;
        for class in &CLASSES[..5] {
            if bits.take(1)? == 0 {
                width = class.2;
                break;
            }
        }
        let change = match width {
            0 => 0,
            _ => (bits.take(width)? << (64 - width)) as i64 >> (64 - width),
        };
        delta = delta.wrapping_add(change);
        before = before.wrapping_add(delta);
        *time = before;
    }
    Some(bits.words_read())
}

/// Compresses values: the bits of an `f64` (`f64::to_bits`), or any 64-bit words. Returns the
/// words used; `None` if there are too few.
///
/// ```
/// use wiretape_core::simd::gorilla;
///
/// let values = [24.0_f64, 24.0, 23.5, 12.0].map(f64::to_bits);
/// let mut words = [0; gorilla::words_max(4)];
/// let used = gorilla::encode_values(&values, &mut words).unwrap();
/// let mut decoded = [0; 4];
/// assert_eq!(gorilla::decode_values(&words[..used], &mut decoded), Some(used));
/// assert_eq!(decoded, values);
/// ```
pub fn encode_values(values: &[u64], words: &mut [u64]) -> Option<usize> {
    let mut bits = BitWriter::new(words);
    let mut before = 0;
    // The window of meaningful bits that the decoder knows: leading zeros and length.
    let mut window: Option<(u32, u32)> = None;
    for value in values {
        let change = value ^ before;
        before = *value;
        if change == 0 {
            bits.put(0, 1)?;
            continue;
        }
        let (leading, trailing) = (change.leading_zeros().min(31), change.trailing_zeros());
        if let Some((known, length)) = window
            && leading >= known
            && trailing >= 64 - known - length
        {
            bits.put(0b01, 2)?;
            bits.put(change >> (64 - known - length), length)?;
        } else {
            let length = 64 - leading - trailing;
            bits.put(0b11, 2)?;
            bits.put(u64::from(leading), 5)?;
            bits.put(u64::from(length - 1), 6)?;
            bits.put(change >> trailing, length)?;
            window = Some((leading, length));
        }
    }
    bits.finish()
}

/// Fills `values` from a stream of at least as many. Returns the words read; `None` if the stream
/// ends early or cannot have been written by [`encode_values`].
pub fn decode_values(words: &[u64], values: &mut [u64]) -> Option<usize> {
    let mut bits = BitReader::new(words);
    let (mut before, mut window) = (0, None);
    for value in values {
        if bits.take(1)? != 0 {
            if bits.take(1)? != 0 {
                let leading = bits.take(5)? as u32;
                let length = bits.take(6)? as u32 + 1;
                window = Some((length, 64u32.checked_sub(leading + length)?));
            }
            let (length, trailing) = window?;
            before ^= bits.take(length)? << trailing;
        }
        *value = before;
    }
    Some(bits.words_read())
}
