//! The kernels with AVX2.

use core::arch::x86_64::*;

use super::dispatch::compiled;
use super::packing::LANES;
use super::{Compare, lines, portable};

// Of these the compiler makes as good code as can be written by hand.
compiled! { "avx2,bmi1,bmi2,popcnt" => lines {
    fn min_i64(values: &[i64]) -> i64;
    fn max_i64(values: &[i64]) -> i64;
    fn min_u32(values: &[u32]) -> u32;
    fn max_u32(values: &[u32]) -> u32;
    fn delta(values: &mut [i64], before: i64);
    fn zigzag(values: &mut [i64]);
    fn multiply_add(values: &mut [i64], factor: i64, summand: i64);
    fn unzigzag(values: &mut [i64]);
    fn range(values: &[u64]) -> u64;
}}

compiled! { "avx2,bmi1,bmi2,popcnt" => portable {
    fn lower_bound_i64(sorted: &[i64], key: i64) -> usize;
    fn pack(values: &[u64], base: u64, width: u32, packed: &mut [u64]);
}}

compiled! { "avx2,bmi1,bmi2,popcnt" => by_hand {
    fn sum_i64(values: &[i64]) -> i128;
    fn sum_u32(values: &[u32]) -> u64;
    fn unpack(packed: &[u64], base: u64, width: u32, values: &mut [u64]);
    fn sum_f64(values: &[f64]) -> f64;
    fn min_f64(values: &[f64]) -> f64;
    fn max_f64(values: &[f64]) -> f64;
    fn notional(prices: &[i64], sizes: &[u32]) -> i128;
    fn mask_i64(values: &[i64], compare: Compare, pivot: i64, mask: &mut [u64]) -> usize;
    fn mask_u32(values: &[u32], compare: Compare, pivot: u32, mask: &mut [u64]) -> usize;
    fn undelta(values: &mut [i64], before: i64);
}}

mod by_hand {
    use super::*;
    use portable::F64_LANES;

    /// The wrapping sum of all lanes of both.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    fn lane_sum(sums: [__m256i; 2]) -> u64 {
        let sum = _mm256_add_epi64(sums[0], sums[1]);
        let mut lanes = [0u64; 4];
        // SAFETY: `lanes` is 32 writable bytes, and the store asks for no alignment.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
        lanes.into_iter().fold(0, u64::wrapping_add)
    }

    /// As the portable code, with two pairs of sums. There is no arithmetic shift of 64-bit
    /// lanes, so values have their sign bit flipped and what that adds is taken off again.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn sum_i64(values: &[i64]) -> i128 {
        let (front, values) = lines::split(values);
        let (rows, rest) = values.as_chunks::<8>();
        let (zero, sign) = (_mm256_setzero_si256(), _mm256_set1_epi64x(i64::MIN));
        let [mut whole, mut high] = [[zero; 2]; 2];
        for row in rows {
            for (at, four) in row.as_chunks::<4>().0.iter().enumerate() {
                // SAFETY: `four` is 32 readable bytes, and the load asks for no alignment.
                let four = unsafe { _mm256_loadu_si256(four.as_ptr().cast()) };
                let four = _mm256_xor_si256(four, sign);
                whole[at] = _mm256_add_epi64(whole[at], four);
                high[at] = _mm256_add_epi64(high[at], _mm256_srli_epi64::<32>(four));
            }
        }
        let (whole, high) = (lane_sum(whole), lane_sum(high));
        let low = whole.wrapping_sub(high << 32);
        let sum = (i128::from(high) << 32) + i128::from(low);
        let ends = portable::sum_i64(front) + portable::sum_i64(rest);
        sum - ((8 * rows.len() as i128) << 63) + ends
    }

    /// As the portable code, with two pairs of sums.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn sum_u32(values: &[u32]) -> u64 {
        let (front, values) = lines::split(values);
        let (rows, rest) = values.as_chunks::<16>();
        let [mut whole, mut high] = [[_mm256_setzero_si256(); 2]; 2];
        for row in rows {
            for (at, eight) in row.as_chunks::<8>().0.iter().enumerate() {
                // SAFETY: `eight` is 32 readable bytes, and the load asks for no alignment.
                let pairs = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
                whole[at] = _mm256_add_epi64(whole[at], pairs);
                high[at] = _mm256_add_epi64(high[at], _mm256_srli_epi64::<32>(pairs));
            }
        }
        let (whole, high) = (lane_sum(whole), lane_sum(high));
        let low = whole.wrapping_sub(high << 32);
        let ends = portable::sum_u32(front).wrapping_add(portable::sum_u32(rest));
        low.wrapping_add(high).wrapping_add(ends)
    }

    /// The end of `portable::fold_lanes` without a partial row: the upper half of the lanes into
    /// the lower, in registers.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    fn halve(
        mut folds: [__m256d; F64_LANES / 4],
        vector: impl Fn(__m256d, __m256d) -> __m256d,
        scalar: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        for half in [8, 4, 2, 1] {
            for at in 0..half {
                folds[at] = vector(folds[at + half], folds[at]);
            }
        }
        let mut lanes = [0.0; 4];
        // SAFETY: `lanes` is 32 writable bytes, and the store asks for no alignment.
        unsafe { _mm256_storeu_pd(lanes.as_mut_ptr(), folds[0]) };
        let [a, b, c, d] = lanes;
        scalar(scalar(a, c), scalar(b, d))
    }

    /// Rows of which the folds take first the left half, then the right: all lanes at once would
    /// take all sixteen registers and leave none to load into. 8 KiB stay in the cache meanwhile.
    const ROWS: usize = 16;

    macro_rules! fold_f64 {
        ($name:ident, $start:expr, $vector:ident, $scalar:ident) => {
            #[inline]
            #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
            pub(super) fn $name(values: &[f64]) -> f64 {
                const REGISTERS: usize = F64_LANES / 4;
                let start: fn(&[f64]) -> f64 = $start;
                let mut folds = [_mm256_set1_pd(start(values)); REGISTERS];
                let (rows, rest) = values.as_chunks::<F64_LANES>();
                for rows in rows.chunks(ROWS) {
                    for (half, kept) in
                        folds.as_chunks_mut::<{ REGISTERS / 2 }>().0.iter_mut().enumerate()
                    {
                        let mut folds = *kept;
                        for row in rows {
                            let (halves, _) = row.as_chunks::<{ F64_LANES / 2 }>();
                            let Some(row) = halves.get(half) else { continue };
                            for (fold, four) in folds.iter_mut().zip(row.as_chunks::<4>().0) {
                                // SAFETY: `four` is 32 readable bytes, and the load asks for no
                                // alignment.
                                let four = unsafe { _mm256_loadu_pd(four.as_ptr()) };
                                *fold = $vector(four, *fold);
                            }
                        }
                        *kept = folds;
                    }
                }
                if rest.is_empty() {
                    return halve(folds, |value, fold| $vector(value, fold), portable::$scalar);
                }
                let mut lanes = [0.0; F64_LANES];
                for (lanes, fold) in lanes.as_chunks_mut::<4>().0.iter_mut().zip(folds) {
                    // SAFETY: `lanes` is 32 writable bytes, and the store asks for no alignment.
                    unsafe { _mm256_storeu_pd(lanes.as_mut_ptr(), fold) };
                }
                portable::finish_lanes(&mut lanes, rest, portable::$scalar)
            }
        };
    }
    fold_f64!(sum_f64, portable::f64_start, _mm256_add_pd, add);
    // Like the portable code, these take the fold, their second operand, unless the first is
    // truly less or greater.
    fold_f64!(min_f64, |_| f64::INFINITY, _mm256_min_pd, lesser);
    fold_f64!(max_f64, |_| f64::NEG_INFINITY, _mm256_max_pd, greater);

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn notional(prices: &[i64], sizes: &[u32]) -> i128 {
        let (front, prices) = lines::split(prices);
        let (front_sizes, sizes) = sizes.split_at(front.len().min(sizes.len()));
        let small = |prices: &[i64], sizes: &[u32]| notional_small(prices, sizes);
        portable::notional(front, front_sizes)
            .wrapping_add(portable::notional_in_chunks(prices, sizes, small))
    }

    /// The sums of both halves of the prices, the lower unsigned and the upper signed, times
    /// sizes that keep them within 64 bits.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    fn notional_small(prices: &[i64], sizes: &[u32]) -> i128 {
        let (price_rows, price_rest) = prices.as_chunks::<4>();
        let (size_rows, size_rest) = sizes.as_chunks::<4>();
        let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (prices, sizes) in price_rows.iter().zip(size_rows) {
            // SAFETY: `sizes` is 16 readable bytes, and the load asks for no alignment.
            let sizes = unsafe { _mm_loadu_si128(sizes.as_ptr().cast()) };
            let sizes = _mm256_cvtepu32_epi64(sizes);
            // SAFETY: `prices` is 32 readable bytes, and the load asks for no alignment.
            let prices = unsafe { _mm256_loadu_si256(prices.as_ptr().cast()) };
            low = _mm256_add_epi64(low, _mm256_mul_epu32(prices, sizes));
            let upper = _mm256_srli_epi64::<32>(prices);
            high = _mm256_add_epi64(high, _mm256_mul_epi32(upper, sizes));
        }
        let [mut low_sums, mut high_sums] = [[0u64; 4]; 2];
        // SAFETY: `low_sums` is 32 writable bytes, and the store asks for no alignment.
        unsafe { _mm256_storeu_si256(low_sums.as_mut_ptr().cast(), low) };
        // SAFETY: as above, for `high_sums`.
        unsafe { _mm256_storeu_si256(high_sums.as_mut_ptr().cast(), high) };
        let low: u64 = low_sums.iter().sum();
        let high: i64 = high_sums.iter().map(|sum| *sum as i64).sum();
        let rest = portable::notional(price_rest, size_rest);
        (i128::from(high) << 32) + i128::from(low) + rest
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn unpack(packed: &[u64], base: u64, width: u32, values: &mut [u64]) {
        let (words, _) = packed.as_chunks::<LANES>();
        let (rows, rest) = values.as_chunks_mut::<LANES>();
        let Some(last) = words.len().checked_sub(1) else {
            return portable::unpack(packed, base, width, values);
        };
        let mask = _mm256_set1_epi64x(portable::low_bits(width) as i64);
        let bases = _mm256_set1_epi64x(base as i64);
        let mut bit = 0;
        for row in rows.iter_mut() {
            let (word, shift) = ((bit / 64) as usize, bit % 64);
            let (Some(low), Some(high)) = (words.get(word), words.get((word + 1).min(last))) else {
                return;
            };
            let right = _mm_cvtsi32_si128(shift as i32);
            // A shift by 64 leaves nothing.
            let left = _mm_cvtsi32_si128(64 - shift as i32);
            let quarters = low.as_chunks::<4>().0.iter().zip(high.as_chunks::<4>().0);
            for (to, (low, high)) in row.as_chunks_mut::<4>().0.iter_mut().zip(quarters) {
                // SAFETY: `low` is 32 readable bytes, and the load asks for no alignment.
                let low = unsafe { _mm256_loadu_si256(low.as_ptr().cast()) };
                // SAFETY: as above, for `high`.
                let high = unsafe { _mm256_loadu_si256(high.as_ptr().cast()) };
                let bits =
                    _mm256_or_si256(_mm256_srl_epi64(low, right), _mm256_sll_epi64(high, left));
                let value = _mm256_add_epi64(_mm256_and_si256(bits, mask), bases);
                // SAFETY: `to` is 32 writable bytes, and the store asks for no alignment.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), value) };
            }
            bit += width;
        }
        if !rest.is_empty() {
            portable::unpack_rest(words, base, width, bit, rest);
        }
    }

    /// Which of equal and greater make up a comparison, and whether it is their opposite.
    fn parts(compare: Compare) -> (bool, bool, bool) {
        match compare {
            Compare::Equal => (true, false, false),
            Compare::NotEqual => (true, false, true),
            Compare::Greater => (false, true, false),
            Compare::LessEqual => (false, true, true),
            Compare::GreaterEqual => (true, true, false),
            Compare::Less => (true, true, true),
        }
    }

    fn holds<T: Ord>(compare: Compare, value: T, pivot: T) -> bool {
        let (equal, greater, opposite) = parts(compare);
        (equal && value == pivot || greater && value > pivot) != opposite
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn mask_i64(
        values: &[i64],
        compare: Compare,
        pivot: i64,
        mask: &mut [u64],
    ) -> usize {
        let (equal, greater, opposite) = parts(compare);
        let pivots = _mm256_set1_epi64x(pivot);
        let all = |yes: bool| _mm256_set1_epi64x(-i64::from(yes));
        let (equal, greater, opposite) = (all(equal), all(greater), all(opposite));
        let bits = |chunk: &[i64; 64]| {
            let mut word = 0;
            for (at, four) in chunk.as_chunks::<4>().0.iter().enumerate() {
                // SAFETY: `four` is 32 readable bytes, and the load asks for no alignment.
                let four = unsafe { _mm256_loadu_si256(four.as_ptr().cast()) };
                let is_equal = _mm256_and_si256(_mm256_cmpeq_epi64(four, pivots), equal);
                let is_greater = _mm256_and_si256(_mm256_cmpgt_epi64(four, pivots), greater);
                let found = _mm256_xor_si256(_mm256_or_si256(is_equal, is_greater), opposite);
                let four = _mm256_movemask_pd(_mm256_castsi256_pd(found)) as u64;
                word |= four << (4 * at);
            }
            word
        };
        portable::masks(values, mask, bits, |value| holds(compare, value, pivot))
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn mask_u32(
        values: &[u32],
        compare: Compare,
        pivot: u32,
        mask: &mut [u64],
    ) -> usize {
        let (equal, greater, opposite) = parts(compare);
        // Comparisons are of signed values: both sides have their sign bit flipped.
        let sign = _mm256_set1_epi32(i32::MIN);
        let pivots = _mm256_xor_si256(_mm256_set1_epi32(pivot as i32), sign);
        let all = |yes: bool| _mm256_set1_epi32(-i32::from(yes));
        let (equal, greater, opposite) = (all(equal), all(greater), all(opposite));
        let bits = |chunk: &[u32; 64]| {
            let mut word = 0;
            for (at, eight) in chunk.as_chunks::<8>().0.iter().enumerate() {
                // SAFETY: `eight` is 32 readable bytes, and the load asks for no alignment.
                let eight = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
                let eight = _mm256_xor_si256(eight, sign);
                let is_equal = _mm256_and_si256(_mm256_cmpeq_epi32(eight, pivots), equal);
                let is_greater = _mm256_and_si256(_mm256_cmpgt_epi32(eight, pivots), greater);
                let found = _mm256_xor_si256(_mm256_or_si256(is_equal, is_greater), opposite);
                let eight = u64::from(_mm256_movemask_ps(_mm256_castsi256_ps(found)) as u32);
                word |= eight << (8 * at);
            }
            word
        };
        portable::masks(values, mask, bits, |value| holds(compare, value, pivot))
    }

    /// The sums of the last two and four deltas, each from the one before; and what such a sum
    /// adds to is the value four places earlier, which is the register before.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub(super) fn undelta(values: &mut [i64], before: i64) {
        let (front, values) = lines::split_mut(values);
        portable::undelta(front, before);
        let before = front.last().copied().unwrap_or(before);
        let [mut ones, mut twos] = [_mm256_setzero_si256(); 2];
        let mut sums = _mm256_set1_epi64x(before);
        let (chunks, rest) = values.as_chunks_mut::<4>();
        for chunk in chunks {
            // SAFETY: `chunk` is 32 readable bytes, and the load asks for no alignment.
            let one = unsafe { _mm256_loadu_si256(chunk.as_ptr().cast()) };
            // The upper half of the one before and the lower half of this one.
            let between = _mm256_permute2x128_si256::<0x21>(ones, one);
            let two = _mm256_add_epi64(one, _mm256_alignr_epi8::<8>(one, between));
            let four = _mm256_add_epi64(two, _mm256_permute2x128_si256::<0x21>(twos, two));
            sums = _mm256_add_epi64(sums, four);
            (ones, twos) = (one, two);
            // SAFETY: `chunk` is 32 writable bytes, and the store asks for no alignment.
            unsafe { _mm256_storeu_si256(chunk.as_mut_ptr().cast(), sums) };
        }
        portable::undelta(rest, _mm256_extract_epi64::<3>(sums));
    }
}
