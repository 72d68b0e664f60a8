//! The kernels in plain Rust: what the others are held against, and what `avx2` and `avx512`
//! compile again where the compiler makes good use of the wider registers by itself.

use super::Compare;
use super::packing::LANES;

const LOW: u64 = 0xFFFF_FFFF;

#[inline(always)]
pub(super) fn sum_i64(values: &[i64]) -> i128 {
    // Vectors have no carry. The upper halves are summed exactly, the whole values modulo 2^64;
    // the difference is the sum of the lower halves modulo 2^64, which is all of it.
    let (mut whole, mut high) = (0i64, 0i64);
    for value in values {
        whole = whole.wrapping_add(*value);
        high = high.wrapping_add(value >> 32);
    }
    let low = whole.wrapping_sub(high << 32) as u64;
    (i128::from(high) << 32) + i128::from(low)
}

#[inline(always)]
pub(super) fn min_i64(values: &[i64]) -> i64 {
    values.iter().fold(i64::MAX, |least, value| least.min(*value))
}

#[inline(always)]
pub(super) fn max_i64(values: &[i64]) -> i64 {
    values.iter().fold(i64::MIN, |most, value| most.max(*value))
}

#[inline(always)]
pub(super) fn sum_u32(values: &[u32]) -> u64 {
    // As for `sum_i64`, with pairs of values as the whole.
    let (pairs, rest) = values.as_chunks::<2>();
    let (mut whole, mut high) = (0u64, 0u64);
    for [low, upper] in pairs {
        let pair = u64::from(*low) | u64::from(*upper) << 32;
        whole = whole.wrapping_add(pair);
        high = high.wrapping_add(pair >> 32);
    }
    let low = whole.wrapping_sub(high << 32);
    low.wrapping_add(high).wrapping_add(rest.first().copied().unwrap_or(0).into())
}

#[inline(always)]
pub(super) fn min_u32(values: &[u32]) -> u32 {
    values.iter().fold(u32::MAX, |least, value| least.min(*value))
}

#[inline(always)]
pub(super) fn max_u32(values: &[u32]) -> u32 {
    values.iter().fold(0, |most, value| most.max(*value))
}

/// Partial results of floating-point folds.
pub(super) const F64_LANES: usize = 64;

/// Folds element `i` into lane `i % 64`, then the upper half of the lanes into the lower.
#[inline(always)]
fn fold_lanes(values: &[f64], start: f64, fold: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes = [start; F64_LANES];
    let (rows, rest) = values.as_chunks::<F64_LANES>();
    for row in rows {
        for (lane, value) in lanes.iter_mut().zip(row) {
            *lane = fold(*lane, *value);
        }
    }
    finish_lanes(&mut lanes, rest, fold)
}

/// The end of `fold_lanes`: the last, partial row, then the lanes.
#[inline(always)]
pub(super) fn finish_lanes(
    lanes: &mut [f64; F64_LANES],
    rest: &[f64],
    fold: impl Fn(f64, f64) -> f64,
) -> f64 {
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = fold(*lane, *value);
    }
    let mut half = F64_LANES / 2;
    while half > 0 {
        let (left, right) = lanes.split_at_mut(half);
        for (lane, other) in left.iter_mut().zip(right) {
            *lane = fold(*lane, *other);
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
pub(super) fn add(sum: f64, value: f64) -> f64 {
    sum + value
}

/// A comparison with NaN is false, so NaN is never taken.
#[inline(always)]
pub(super) fn lesser(least: f64, value: f64) -> f64 {
    if value < least { value } else { least }
}

#[inline(always)]
pub(super) fn greater(most: f64, value: f64) -> f64 {
    if value > most { value } else { most }
}

/// What a sum starts from: -0.0 adds nothing, even to -0.0. No values come to 0.0 all the same.
pub(super) fn f64_start(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { -0.0 }
}

#[inline(always)]
pub(super) fn sum_f64(values: &[f64]) -> f64 {
    fold_lanes(values, f64_start(values), add)
}

#[inline(always)]
pub(super) fn min_f64(values: &[f64]) -> f64 {
    fold_lanes(values, f64::INFINITY, lesser)
}

#[inline(always)]
pub(super) fn max_f64(values: &[f64]) -> f64 {
    fold_lanes(values, f64::NEG_INFINITY, greater)
}

#[inline(always)]
pub(super) fn notional(prices: &[i64], sizes: &[u32]) -> i128 {
    let pairs = prices.iter().zip(sizes);
    pairs.fold(0, |sum, (price, size)| {
        sum.wrapping_add(i128::from(*price).wrapping_mul(i128::from(*size)))
    })
}

/// The same without wide multiplication: what vectors can do.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn notional_in_columns(prices: &[i64], sizes: &[u32]) -> i128 {
    // The price, with its sign bit flipped, as two unsigned halves; the sums of their products
    // with the size, each modulo 2^64 and of its upper half, as for `sum_i64`; and 2^63 times the
    // sizes taken off again.
    let [mut low, mut low_high, mut high, mut high_high, mut size_sum] = [0u64; 5];
    for (price, size) in prices.iter().zip(sizes) {
        let (price, size) = (*price as u64 ^ 1 << 63, u64::from(*size));
        let (product, upper) = ((price & LOW).wrapping_mul(size), (price >> 32).wrapping_mul(size));
        low = low.wrapping_add(product);
        low_high = low_high.wrapping_add(product >> 32);
        high = high.wrapping_add(upper);
        high_high = high_high.wrapping_add(upper >> 32);
        size_sum = size_sum.wrapping_add(size);
    }
    let wide = |whole: u64, high: u64| {
        (u128::from(high) << 32).wrapping_add(whole.wrapping_sub(high << 32).into())
    };
    let sum = wide(low, low_high).wrapping_add(wide(high, high_high) << 32);
    sum.wrapping_sub(u128::from(size_sum) << 63) as i128
}

/// Pairs that `notional_in_chunks` takes at a time, and what their sizes must be below for the
/// quick way: 2^11 products of 2^32 and 2^20 are 2^63.
#[cfg(target_arch = "x86_64")]
const SMALL_CHUNK: usize = 1 << 11;
#[cfg(target_arch = "x86_64")]
const SMALL_SIZE: u32 = 1 << 20;

/// The same in chunks. `small` is given those whose sizes are all below 2^20, as they nearly
/// always are: the products of either half of their prices can be summed in 64 bits.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn notional_in_chunks(
    prices: &[i64],
    sizes: &[u32],
    small: impl Fn(&[i64], &[u32]) -> i128,
) -> i128 {
    // Pairs stay pairs if both slices end together.
    let pairs = prices.len().min(sizes.len());
    let (prices, sizes) = (prices.split_at(pairs).0, sizes.split_at(pairs).0);
    let chunks = prices.chunks(SMALL_CHUNK).zip(sizes.chunks(SMALL_CHUNK));
    chunks.fold(0, |sum, (prices, sizes)| {
        let all = sizes.iter().fold(0, |all, size| all | size);
        let chunk = match all < SMALL_SIZE {
            true => small(prices, sizes),
            false => notional_in_columns(prices, sizes),
        };
        sum.wrapping_add(chunk)
    })
}

/// Writes a mask of `compare` with whole words from `chunk_bits`, which turns 64 values into bits.
#[inline(always)]
pub(super) fn masks<T: Copy>(
    values: &[T],
    mask: &mut [u64],
    chunk_bits: impl Fn(&[T; 64]) -> u64,
    rest_bit: impl Fn(T) -> bool,
) -> usize {
    let (chunks, rest) = values.as_chunks::<64>();
    let mut words = mask.iter_mut();
    let mut count = 0;
    for (chunk, word) in chunks.iter().zip(&mut words) {
        *word = chunk_bits(chunk);
        count += word.count_ones() as usize;
    }
    let used = chunks.len();
    for (index, word) in mask.iter_mut().enumerate().skip(used) {
        *word = 0;
        if index == used {
            for (bit, value) in rest.iter().enumerate() {
                *word |= u64::from(rest_bit(*value)) << bit;
            }
            count += word.count_ones() as usize;
        }
    }
    count
}

macro_rules! portable_mask {
    ($name:ident, $type:ty) => {
        #[inline(always)]
        pub(super) fn $name(
            values: &[$type],
            compare: Compare,
            pivot: $type,
            mask: &mut [u64],
        ) -> usize {
            #[inline(always)]
            fn with(
                values: &[$type],
                mask: &mut [u64],
                holds: impl Fn($type) -> bool + Copy,
            ) -> usize {
                let bits = |chunk: &[$type; 64]| {
                    let mut word = 0;
                    for (bit, value) in chunk.iter().enumerate() {
                        word |= u64::from(holds(*value)) << bit;
                    }
                    word
                };
                masks(values, mask, bits, holds)
            }
            match compare {
                Compare::Equal => with(values, mask, |value| value == pivot),
                Compare::NotEqual => with(values, mask, |value| value != pivot),
                Compare::Less => with(values, mask, |value| value < pivot),
                Compare::LessEqual => with(values, mask, |value| value <= pivot),
                Compare::Greater => with(values, mask, |value| value > pivot),
                Compare::GreaterEqual => with(values, mask, |value| value >= pivot),
            }
        }
    };
}
portable_mask!(mask_i64, i64);
portable_mask!(mask_u32, u32);

#[inline(always)]
pub(super) fn lower_bound_i64(sorted: &[i64], key: i64) -> usize {
    sorted.partition_point(|value| *value < key)
}

#[inline(always)]
pub(super) fn delta(values: &mut [i64], before: i64) {
    let mut before = before;
    for value in values {
        (before, *value) = (*value, value.wrapping_sub(before));
    }
}

#[inline(always)]
pub(super) fn undelta(values: &mut [i64], before: i64) {
    let mut sum = before;
    for value in values {
        sum = sum.wrapping_add(*value);
        *value = sum;
    }
}

#[inline(always)]
pub(super) fn zigzag(values: &mut [i64]) {
    for value in values {
        *value = *value << 1 ^ *value >> 63;
    }
}

#[inline(always)]
pub(super) fn unzigzag(values: &mut [i64]) {
    for value in values {
        *value = (*value as u64 >> 1) as i64 ^ (*value & 1).wrapping_neg();
    }
}

#[inline(always)]
pub(super) fn multiply_add(values: &mut [i64], factor: i64, summand: i64) {
    for value in values {
        *value = value.wrapping_mul(factor).wrapping_add(summand);
    }
}

/// The bits in which any value differs from zero.
#[inline(always)]
pub(super) fn range(values: &[u64]) -> u64 {
    values.iter().fold(0, |all, value| all | value)
}

#[inline(always)]
pub(super) fn low_bits(width: u32) -> u64 {
    1u64.checked_shl(width).unwrap_or(0).wrapping_sub(1)
}

/// Packs rows of 16 values; `packed` holds exactly their words and `width` is at most 64.
#[inline(always)]
pub(super) fn pack(values: &[u64], base: u64, width: u32, packed: &mut [u64]) {
    packed.fill(0);
    let (words, _) = packed.as_chunks_mut::<LANES>();
    let (rows, rest) = values.as_chunks::<LANES>();
    let mut bit = 0;
    for row in rows {
        pack_row(row, base, width, words, bit);
        bit += width;
    }
    if !rest.is_empty() {
        let mut row = [base; LANES];
        for (to, from) in row.iter_mut().zip(rest) {
            *to = *from;
        }
        pack_row(&row, base, width, words, bit);
    }
}

#[inline(always)]
fn pack_row(row: &[u64; LANES], base: u64, width: u32, words: &mut [[u64; LANES]], bit: u32) {
    let (mask, word, shift) = (low_bits(width), (bit / 64) as usize, bit % 64);
    if let Some(word) = words.get_mut(word) {
        for (word, value) in word.iter_mut().zip(row) {
            *word |= (value.wrapping_sub(base) & mask) << shift;
        }
    }
    if shift + width > 64
        && let Some(word) = words.get_mut(word + 1)
    {
        for (word, value) in word.iter_mut().zip(row) {
            *word |= (value.wrapping_sub(base) & mask) >> 1 >> (63 - shift);
        }
    }
}

/// The inverse of `pack`: `packed` holds at least the words of `values`.
#[inline(always)]
pub(super) fn unpack(packed: &[u64], base: u64, width: u32, values: &mut [u64]) {
    let (words, _) = packed.as_chunks::<LANES>();
    if words.is_empty() {
        values.fill(base);
        return;
    }
    let (rows, rest) = values.as_chunks_mut::<LANES>();
    let mut bit = 0;
    for row in rows {
        unpack_row(words, base, width, bit, row);
        bit += width;
    }
    if !rest.is_empty() {
        unpack_rest(words, base, width, bit, rest);
    }
}

/// The last row, which is not whole.
pub(super) fn unpack_rest(
    words: &[[u64; LANES]],
    base: u64,
    width: u32,
    bit: u32,
    rest: &mut [u64],
) {
    let mut row = [base; LANES];
    unpack_row(words, base, width, bit, &mut row);
    for (to, from) in rest.iter_mut().zip(row) {
        *to = from;
    }
}

#[inline(always)]
fn unpack_row(words: &[[u64; LANES]], base: u64, width: u32, bit: u32, row: &mut [u64; LANES]) {
    let (mask, word, shift) = (low_bits(width), (bit / 64) as usize, bit % 64);
    // A value that does not reach into the next word gets bits of it above its width.
    let next = (word + 1).min(words.len().wrapping_sub(1));
    if let (Some(low), Some(high)) = (words.get(word), words.get(next)) {
        for (value, (low, high)) in row.iter_mut().zip(low.iter().zip(high)) {
            let bits = low >> shift | high << 1 << (63 - shift);
            *value = (bits & mask).wrapping_add(base);
        }
    }
}
