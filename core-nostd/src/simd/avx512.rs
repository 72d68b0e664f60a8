//! The kernels with AVX-512.

use core::arch::x86_64::*;

use super::dispatch::compiled;
use super::packing::LANES;
use super::{Compare, lines, portable};

// Of these the compiler makes as good code as can be written by hand.
compiled! { "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt" => lines {
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

compiled! { "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt" => portable {
    fn lower_bound_i64(sorted: &[i64], key: i64) -> usize;
    fn pack(values: &[u64], base: u64, width: u32, packed: &mut [u64]);
}}

compiled! { "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt" => by_hand {
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

    /// The end of `portable::fold_lanes` without a partial row: the upper half of the lanes into
    /// the lower, in registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    fn halve(
        folds: [__m512d; F64_LANES / 8],
        vector: impl Fn(__m512d, __m512d) -> __m512d,
        scalar: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        let [a, b, c, d, e, f, g, h] = folds;
        let [a, b, c, d] = [vector(e, a), vector(f, b), vector(g, c), vector(h, d)];
        let [a, b] = [vector(c, a), vector(d, b)];
        let mut lanes = [0.0; 8];
        // SAFETY: `lanes` is 64 writable bytes, and the store asks for no alignment.
        unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), vector(b, a)) };
        let [a, b, c, d, e, f, g, h] = lanes;
        let [a, b, c, d] = [scalar(a, e), scalar(b, f), scalar(c, g), scalar(d, h)];
        scalar(scalar(a, c), scalar(b, d))
    }

    /// The folds with their 64 lanes turned up by `by`, at most 7.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    fn turned(mut folds: [__m512d; F64_LANES / 8], by: usize) -> [__m512d; F64_LANES / 8] {
        // Of sixteen lanes, a register's behind those of the one before it, the eight from here on.
        let first = _mm512_set1_epi64(8_i64.wrapping_sub(by as i64));
        let lanes = _mm512_add_epi64(first, _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
        let [.., mut before] = folds;
        for fold in &mut folds {
            (before, *fold) = (*fold, _mm512_permutex2var_pd(before, lanes, *fold));
        }
        folds
    }

    macro_rules! fold_f64 {
        ($name:ident, $start:expr, $vector:ident, $masked:ident, $scalar:ident) => {
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
            pub(super) fn $name(values: &[f64]) -> f64 {
                const REGISTERS: usize = F64_LANES / 8;
                let start: fn(&[f64]) -> f64 = $start;
                let mut folds = [_mm512_set1_pd(start(values)); REGISTERS];
                let (front, values) = lines::split(values);
                if !front.is_empty() {
                    // In the last lanes, until all are turned.
                    let mask = !0_u8 << (8_usize.saturating_sub(front.len()) & 7);
                    let from = front.as_ptr().wrapping_sub(8_usize.saturating_sub(front.len()));
                    // SAFETY: the load touches the values that the mask names: those of `front`.
                    let eight = unsafe { _mm512_maskz_loadu_pd(mask, from) };
                    folds[REGISTERS - 1] =
                        $masked(folds[REGISTERS - 1], mask, eight, folds[REGISTERS - 1]);
                }
                let (rows, rest) = values.as_chunks::<F64_LANES>();
                for row in rows {
                    for (fold, eight) in folds.iter_mut().zip(row.as_chunks::<8>().0) {
                        // SAFETY: `eight` is 64 readable bytes, and the load asks for no
                        // alignment.
                        let eight = unsafe { _mm512_loadu_pd(eight.as_ptr()) };
                        *fold = $vector(eight, *fold);
                    }
                }
                if !rest.is_empty() {
                    for (at, fold) in folds.iter_mut().enumerate() {
                        let left = rest.len().saturating_sub(8 * at).min(8);
                        let mask = !(!0_u32 << left) as u8;
                        let from = rest.as_ptr().wrapping_add(8 * at);
                        // SAFETY: the load touches the values that the mask names: those of
                        // `rest` from `8 * at` on.
                        let eight = unsafe { _mm512_maskz_loadu_pd(mask, from) };
                        *fold = $masked(*fold, mask, eight, *fold);
                    }
                }
                if !front.is_empty() {
                    folds = turned(folds, front.len());
                }
                halve(folds, |value, fold| $vector(value, fold), portable::$scalar)
            }
        };
    }
    fold_f64!(sum_f64, portable::f64_start, _mm512_add_pd, _mm512_mask_add_pd, add);
    // Like the portable code, these take the fold, their second operand, unless the first is
    // truly less or greater.
    fold_f64!(min_f64, |_| f64::INFINITY, _mm512_min_pd, _mm512_mask_min_pd, lesser);
    fold_f64!(max_f64, |_| f64::NEG_INFINITY, _mm512_max_pd, _mm512_mask_max_pd, greater);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn notional(prices: &[i64], sizes: &[u32]) -> i128 {
        let (front, prices) = lines::split(prices);
        let (front_sizes, sizes) = sizes.split_at(front.len().min(sizes.len()));
        let small = |prices: &[i64], sizes: &[u32]| notional_small(prices, sizes);
        portable::notional(front, front_sizes)
            .wrapping_add(portable::notional_in_chunks(prices, sizes, small))
    }

    /// The sums of both halves of the prices, the lower unsigned and the upper signed, times
    /// sizes that keep them within 64 bits. Multiplications look at lower halves only, so the
    /// upper ones are brought there by loading from four bytes further on: a shift would take a
    /// third of the cycles more.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    fn notional_small(prices: &[i64], sizes: &[u32]) -> i128 {
        let (price_rows, price_rest) = prices.as_chunks::<8>();
        let (size_rows, size_rest) = sizes.as_chunks::<8>();
        let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for (prices, sizes) in price_rows.iter().zip(size_rows) {
            let words: *const i32 = prices.as_ptr().cast();
            // SAFETY: `sizes` is 32 readable bytes, and the load asks for no alignment.
            let sizes = _mm512_cvtepu32_epi64(unsafe { _mm256_loadu_epi32(sizes.as_ptr().cast()) });
            // SAFETY: `prices` is 64 readable bytes, and the load asks for no alignment.
            let lower = unsafe { _mm512_loadu_epi32(words) };
            // SAFETY: of the 16 words from the second of `prices` on, the load touches 15.
            let upper = unsafe { _mm512_maskz_loadu_epi32(0x7FFF, words.wrapping_add(1)) };
            low = _mm512_add_epi64(low, _mm512_mul_epu32(lower, sizes));
            high = _mm512_add_epi64(high, _mm512_mul_epi32(upper, sizes));
        }
        let (low, high) = (_mm512_reduce_add_epi64(low) as u64, _mm512_reduce_add_epi64(high));
        let rest = portable::notional(price_rest, size_rest);
        (i128::from(high) << 32) + i128::from(low) + rest
    }

    /// 64 values as bits. From the last one on, each eight shifting those behind them: where each
    /// is shifted to its place the compiler makes 16-byte insertions of it, and masks take 1.6 times
    /// as long.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    fn bits_of(values: &[i64; 64], holds: impl Fn(__m512i) -> __mmask8) -> u64 {
        let mut word = 0;
        for eight in values.as_chunks::<8>().0.iter().rev() {
            // SAFETY: `eight` is 64 readable bytes, and the load asks for no alignment.
            let eight = unsafe { _mm512_loadu_epi64(eight.as_ptr()) };
            word = word << 8 | u64::from(holds(eight));
        }
        word
    }

    /// As the portable code, with two pairs of sums.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn sum_i64(values: &[i64]) -> i128 {
        let (front, values) = lines::split(values);
        let (rows, rest) = values.as_chunks::<16>();
        let zero = _mm512_setzero_si512();
        let [mut whole, mut high] = [[zero; 2]; 2];
        for row in rows {
            for (at, eight) in row.as_chunks::<8>().0.iter().enumerate() {
                // SAFETY: `eight` is 64 readable bytes, and the load asks for no alignment.
                let eight = unsafe { _mm512_loadu_epi64(eight.as_ptr()) };
                whole[at] = _mm512_add_epi64(whole[at], eight);
                high[at] = _mm512_add_epi64(high[at], _mm512_srai_epi64::<32>(eight));
            }
        }
        let whole = _mm512_reduce_add_epi64(_mm512_add_epi64(whole[0], whole[1]));
        let high = _mm512_reduce_add_epi64(_mm512_add_epi64(high[0], high[1]));
        let low = whole.wrapping_sub(high << 32) as u64;
        let ends = portable::sum_i64(front) + portable::sum_i64(rest);
        (i128::from(high) << 32) + i128::from(low) + ends
    }

    /// As the portable code, with two pairs of sums.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn sum_u32(values: &[u32]) -> u64 {
        let (front, values) = lines::split(values);
        let (rows, rest) = values.as_chunks::<32>();
        let zero = _mm512_setzero_si512();
        let [mut whole, mut high] = [[zero; 2]; 2];
        for row in rows {
            for (at, sixteen) in row.as_chunks::<16>().0.iter().enumerate() {
                // SAFETY: `sixteen` is 64 readable bytes, and the load asks for no alignment.
                let pairs = unsafe { _mm512_loadu_epi32(sixteen.as_ptr().cast()) };
                whole[at] = _mm512_add_epi64(whole[at], pairs);
                high[at] = _mm512_add_epi64(high[at], _mm512_srli_epi64::<32>(pairs));
            }
        }
        let whole = _mm512_reduce_add_epi64(_mm512_add_epi64(whole[0], whole[1])) as u64;
        let high = _mm512_reduce_add_epi64(_mm512_add_epi64(high[0], high[1])) as u64;
        let low = whole.wrapping_sub(high << 32);
        let ends = portable::sum_u32(front).wrapping_add(portable::sum_u32(rest));
        low.wrapping_add(high).wrapping_add(ends)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn unpack(packed: &[u64], base: u64, width: u32, values: &mut [u64]) {
        let (words, _) = packed.as_chunks::<LANES>();
        let (rows, rest) = values.as_chunks_mut::<LANES>();
        let Some(last) = words.len().checked_sub(1) else {
            return portable::unpack(packed, base, width, values);
        };
        let mask = _mm512_set1_epi64(portable::low_bits(width) as i64);
        let bases = _mm512_set1_epi64(base as i64);
        let mut bit = 0;
        for row in rows.iter_mut() {
            let (word, shift) = ((bit / 64) as usize, bit % 64);
            let (Some(low), Some(high)) = (words.get(word), words.get((word + 1).min(last))) else {
                return;
            };
            let right = _mm_cvtsi32_si128(shift as i32);
            // A shift by 64 leaves nothing.
            let left = _mm_cvtsi32_si128(64 - shift as i32);
            let halves = low.as_chunks::<8>().0.iter().zip(high.as_chunks::<8>().0);
            for (to, (low, high)) in row.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
                // SAFETY: `low` is 64 readable bytes, and the load asks for no alignment.
                let low = unsafe { _mm512_loadu_epi64(low.as_ptr().cast()) };
                // SAFETY: as above, for `high`.
                let high = unsafe { _mm512_loadu_epi64(high.as_ptr().cast()) };
                let bits =
                    _mm512_or_si512(_mm512_srl_epi64(low, right), _mm512_sll_epi64(high, left));
                let value = _mm512_add_epi64(_mm512_and_si512(bits, mask), bases);
                // SAFETY: `to` is 64 writable bytes, and the store asks for no alignment.
                unsafe { _mm512_storeu_epi64(to.as_mut_ptr().cast(), value) };
            }
            bit += width;
        }
        if !rest.is_empty() {
            portable::unpack_rest(words, base, width, bit, rest);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn mask_i64(
        values: &[i64],
        compare: Compare,
        pivot: i64,
        mask: &mut [u64],
    ) -> usize {
        let pivots = _mm512_set1_epi64(pivot);
        // The kind of comparison is part of the instruction, so each has its own loop.
        macro_rules! with {
            ($kind:ident, $operator:tt) => {{
                let bits = |chunk: &[i64; 64]| {
                    lines::ask_ahead(values, chunk);
                    bits_of(chunk, |eight| _mm512_cmp_epi64_mask::<$kind>(eight, pivots))
                };
                portable::masks(values, mask, bits, |value| value $operator pivot)
            }};
        }
        match compare {
            Compare::Equal => with!(_MM_CMPINT_EQ, ==),
            Compare::NotEqual => with!(_MM_CMPINT_NE, !=),
            Compare::Less => with!(_MM_CMPINT_LT, <),
            Compare::LessEqual => with!(_MM_CMPINT_LE, <=),
            Compare::Greater => with!(_MM_CMPINT_NLE, >),
            Compare::GreaterEqual => with!(_MM_CMPINT_NLT, >=),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn mask_u32(
        values: &[u32],
        compare: Compare,
        pivot: u32,
        mask: &mut [u64],
    ) -> usize {
        let pivots = _mm512_set1_epi32(pivot as i32);
        macro_rules! with {
            ($kind:ident, $operator:tt) => {{
                let bits = |chunk: &[u32; 64]| {
                    lines::ask_ahead(values, chunk);
                    let mut word = 0;
                    for (at, sixteen) in chunk.as_chunks::<16>().0.iter().enumerate() {
                        // SAFETY: `sixteen` is 64 readable bytes, and the load asks for no
                        // alignment.
                        let sixteen = unsafe { _mm512_loadu_epi32(sixteen.as_ptr().cast()) };
                        let found = _mm512_cmp_epu32_mask::<$kind>(sixteen, pivots);
                        word |= u64::from(found) << (16 * at);
                    }
                    word
                };
                portable::masks(values, mask, bits, |value| value $operator pivot)
            }};
        }
        match compare {
            Compare::Equal => with!(_MM_CMPINT_EQ, ==),
            Compare::NotEqual => with!(_MM_CMPINT_NE, !=),
            Compare::Less => with!(_MM_CMPINT_LT, <),
            Compare::LessEqual => with!(_MM_CMPINT_LE, <=),
            Compare::Greater => with!(_MM_CMPINT_NLE, >),
            Compare::GreaterEqual => with!(_MM_CMPINT_NLT, >=),
        }
    }

    /// The sums of the last two, four and eight deltas, each from the one before; and what such a
    /// sum adds to is the value eight places earlier, which is the register before. So nothing
    /// is carried from register to register but the register itself.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn undelta(values: &mut [i64], before: i64) {
        let (front, values) = lines::split_mut(values);
        portable::undelta(front, before);
        let before = front.last().copied().unwrap_or(before);
        let [mut ones, mut twos, mut fours] = [_mm512_setzero_si512(); 3];
        let mut sums = _mm512_set1_epi64(before);
        let (chunks, rest) = values.as_chunks_mut::<8>();
        for chunk in chunks {
            // SAFETY: `chunk` is 64 readable bytes, and the load asks for no alignment.
            let one = unsafe { _mm512_loadu_epi64(chunk.as_ptr()) };
            let two = _mm512_add_epi64(one, _mm512_alignr_epi64::<7>(one, ones));
            let four = _mm512_add_epi64(two, _mm512_alignr_epi64::<6>(two, twos));
            let eight = _mm512_add_epi64(four, _mm512_alignr_epi64::<4>(four, fours));
            sums = _mm512_add_epi64(sums, eight);
            (ones, twos, fours) = (one, two, four);
            // SAFETY: `chunk` is 64 writable bytes, and the store asks for no alignment.
            unsafe { _mm512_storeu_epi64(chunk.as_mut_ptr(), sums) };
        }
        let last = _mm256_extract_epi64::<3>(_mm512_extracti64x4_epi64::<1>(sums));
        portable::undelta(rest, last);
    }
}
