//! The kernels in plain Rust: what the others are held against, and what `avx2` and `avx512`
//! compile again where the compiler makes good use of the wider registers by itself.

use super::Compare;
use super::packing::LANES;

const LOW: u64 = 0xFFFF_FFFF;

#[inline(always)]
pub(super) fn sum_i64(values: &[i64]) -> i128 {
    // Halves are summed apart, because vectors have no carry. With the sign bit flipped they are
    // unsigned, which AVX2 can shift.
    let (mut low, mut high) = (0u64, 0u64);
    for value in values {
        let value = *value as u64 ^ 1 << 63;
        low = low.wrapping_add(value & LOW);
        high = high.wrapping_add(value >> 32);
    }
    let sum = (u128::from(high) << 32).wrapping_add(u128::from(low));
    sum.wrapping_sub((values.len() as u128) << 63) as i128
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
    values.iter().fold(0, |sum, value| sum.wrapping_add(u64::from(*value)))
}

#[inline(always)]
pub(super) fn min_u32(values: &[u32]) -> u32 {
    values.iter().fold(u32::MAX, |least, value| least.min(*value))
}

#[inline(always)]
pub(super) fn max_u32(values: &[u32]) -> u32 {
    values.iter().fold(0, |most, value| most.max(*value))
}

/// Folds element `i` into lane `i % 32`, then the upper half of the lanes into the lower.
#[inline(always)]
fn fold_lanes(values: &[f64], start: f64, fold: impl Fn(f64, f64) -> f64) -> f64 {
    const LANES: usize = 32;
    let mut lanes = [start; LANES];
    let (rows, rest) = values.as_chunks::<LANES>();
    for row in rows {
        for (lane, value) in lanes.iter_mut().zip(row) {
            *lane = fold(*lane, *value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = fold(*lane, *value);
    }
    let mut half = LANES / 2;
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
pub(super) fn sum_f64(values: &[f64]) -> f64 {
    // -0.0 is what adds nothing, even to -0.0; no values come to 0.0 all the same.
    if values.is_empty() { 0.0 } else { fold_lanes(values, -0.0, |sum, value| sum + value) }
}

#[inline(always)]
pub(super) fn min_f64(values: &[f64]) -> f64 {
    // A comparison with NaN is false, so NaN is never taken.
    fold_lanes(values, f64::INFINITY, |least, value| if value < least { value } else { least })
}

#[inline(always)]
pub(super) fn max_f64(values: &[f64]) -> f64 {
    fold_lanes(values, f64::NEG_INFINITY, |most, value| if value > most { value } else { most })
}

#[inline(always)]
pub(super) fn notional(prices: &[i64], sizes: &[u32]) -> i128 {
    // The price, with its sign bit flipped, as two unsigned halves; products of 32 by 32 bits,
    // summed in three columns of 32 bits; and 2^63 times the sizes taken off again.
    let (mut column, mut size_sum) = ([0u64; 3], 0u64);
    for (price, size) in prices.iter().zip(sizes) {
        let (price, size) = (*price as u64 ^ 1 << 63, u64::from(*size));
        let low = (price & LOW).wrapping_mul(size);
        let high = (price >> 32).wrapping_mul(size).wrapping_add(low >> 32);
        column[0] = column[0].wrapping_add(low & LOW);
        column[1] = column[1].wrapping_add(high & LOW);
        column[2] = column[2].wrapping_add(high >> 32);
        size_sum = size_sum.wrapping_add(size);
    }
    let sum = column.iter().rev().fold(0u128, |sum, part| (sum << 32).wrapping_add((*part).into()));
    sum.wrapping_sub(u128::from(size_sum) << 63) as i128
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

/// Below this many values, all are compared.
const COUNTED: usize = 32;

#[inline(always)]
pub(super) fn lower_bound_i64(sorted: &[i64], key: i64) -> usize {
    let (mut start, mut length) = (0, sorted.len());
    while length > COUNTED {
        let half = length / 2;
        // A conditional move, so that there is no branch to predict.
        let before = sorted.get(start + half - 1).is_some_and(|value| *value < key);
        start = core::hint::select_unpredictable(before, start + half, start);
        length -= half;
    }
    let rest = sorted.get(start..start + length).unwrap_or(&[]);
    start + rest.iter().map(|value| usize::from(*value < key)).sum::<usize>()
}

#[inline(always)]
pub(super) fn delta(values: &mut [i64], before: i64) {
    // From the back, in chunks, so that each value is still there when it is subtracted.
    const CHUNK: usize = 64;
    let mut end = values.len();
    while end > CHUNK {
        let start = end - CHUNK;
        let Some(chunk) = values.get_mut(start - 1..end) else { return };
        let Ok(chunk) = <&mut [i64; CHUNK + 1]>::try_from(chunk) else { return };
        let old = *chunk;
        for (at, value) in chunk.iter_mut().enumerate().skip(1) {
            *value = old[at].wrapping_sub(old[at - 1]);
        }
        end = start;
    }
    let mut before = before;
    for value in values.iter_mut().take(end) {
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

/// The bits in which any value differs from zero.
#[inline(always)]
pub(super) fn range(values: &[u64]) -> u64 {
    values.iter().fold(0, |all, value| all | value)
}

#[inline(always)]
fn low_bits(width: u32) -> u64 {
    1u64.checked_shl(width).unwrap_or(0).wrapping_sub(1)
}

/// Packs rows of 16 values; `packed` holds exactly their words and `width` is at most 64.
#[inline(always)]
pub(super) fn pack(values: &[u64], base: u64, width: u32, packed: &mut [u64]) {
    packed.fill(0);
    let mask = low_bits(width);
    let (words, _) = packed.as_chunks_mut::<LANES>();
    let mut bit = 0;
    let mut put = |row: &[u64; LANES]| {
        let (word, shift) = ((bit / 64) as usize, bit % 64);
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
        bit += width;
    };
    let (rows, rest) = values.as_chunks::<LANES>();
    rows.iter().for_each(&mut put);
    if !rest.is_empty() {
        let mut row = [base; LANES];
        for (to, from) in row.iter_mut().zip(rest) {
            *to = *from;
        }
        put(&row);
    }
}

/// The inverse of `pack`: `packed` holds at least the words of `values`.
#[inline(always)]
pub(super) fn unpack(packed: &[u64], base: u64, width: u32, values: &mut [u64]) {
    let mask = low_bits(width);
    let (words, _) = packed.as_chunks::<LANES>();
    let Some(last) = words.len().checked_sub(1) else {
        values.fill(base);
        return;
    };
    let mut bit = 0;
    let mut take = |row: &mut [u64; LANES]| {
        let (word, shift) = ((bit / 64) as usize, bit % 64);
        // A value that does not reach into the next word gets bits of it above its width.
        if let (Some(low), Some(high)) = (words.get(word), words.get((word + 1).min(last))) {
            for (value, (low, high)) in row.iter_mut().zip(low.iter().zip(high)) {
                let bits = low >> shift | high << 1 << (63 - shift);
                *value = (bits & mask).wrapping_add(base);
            }
        }
        bit += width;
    };
    let (rows, rest) = values.as_chunks_mut::<LANES>();
    rows.iter_mut().for_each(&mut take);
    if !rest.is_empty() {
        let mut row = [base; LANES];
        take(&mut row);
        for (to, from) in rest.iter_mut().zip(row) {
            *to = from;
        }
    }
}
