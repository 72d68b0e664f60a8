//! The kernels with AVX-512.

use core::arch::x86_64::*;

use super::dispatch::compiled;
use super::{Compare, portable};

// Of these the compiler makes as good code as can be written by hand.
compiled! { "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt" => portable {
    fn sum_i64(values: &[i64]) -> i128;
    fn min_i64(values: &[i64]) -> i64;
    fn max_i64(values: &[i64]) -> i64;
    fn sum_u32(values: &[u32]) -> u64;
    fn min_u32(values: &[u32]) -> u32;
    fn max_u32(values: &[u32]) -> u32;
    fn sum_f64(values: &[f64]) -> f64;
    fn min_f64(values: &[f64]) -> f64;
    fn max_f64(values: &[f64]) -> f64;
    fn notional(prices: &[i64], sizes: &[u32]) -> i128;
    fn lower_bound_i64(sorted: &[i64], key: i64) -> usize;
    fn delta(values: &mut [i64], before: i64);
    fn zigzag(values: &mut [i64]);
    fn unzigzag(values: &mut [i64]);
    fn range(values: &[u64]) -> u64;
    fn pack(values: &[u64], base: u64, width: u32, packed: &mut [u64]);
    fn unpack(packed: &[u64], base: u64, width: u32, values: &mut [u64]);
}}

compiled! { "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt" => by_hand {
    fn mask_i64(values: &[i64], compare: Compare, pivot: i64, mask: &mut [u64]) -> usize;
    fn mask_u32(values: &[u32], compare: Compare, pivot: u32, mask: &mut [u64]) -> usize;
    fn undelta(values: &mut [i64], before: i64);
}}

mod by_hand {
    use super::*;

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
                    let mut word = 0;
                    for (at, eight) in chunk.as_chunks::<8>().0.iter().enumerate() {
                        // SAFETY: `eight` is 64 readable bytes, and the load asks for no
                        // alignment.
                        let eight = unsafe { _mm512_loadu_epi64(eight.as_ptr()) };
                        let found = _mm512_cmp_epi64_mask::<$kind>(eight, pivots);
                        word |= u64::from(found) << (8 * at);
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

    /// Sums within a register by shifting by one, two and four values; the carry from register to
    /// register is one addition and one permutation.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn undelta(values: &mut [i64], before: i64) {
        let zero = _mm512_setzero_si512();
        let last = _mm512_set1_epi64(7);
        let mut carry = _mm512_set1_epi64(before);
        let (chunks, rest) = values.as_chunks_mut::<8>();
        for chunk in chunks {
            // SAFETY: `chunk` is 64 readable bytes, and the load asks for no alignment.
            let deltas = unsafe { _mm512_loadu_epi64(chunk.as_ptr()) };
            let sums = _mm512_add_epi64(deltas, _mm512_alignr_epi64::<7>(deltas, zero));
            let sums = _mm512_add_epi64(sums, _mm512_alignr_epi64::<6>(sums, zero));
            let sums = _mm512_add_epi64(sums, _mm512_alignr_epi64::<4>(sums, zero));
            // The total of this register does not wait for the carry of the one before.
            let total = _mm512_permutexvar_epi64(last, sums);
            let sums = _mm512_add_epi64(sums, carry);
            carry = _mm512_add_epi64(carry, total);
            // SAFETY: `chunk` is 64 writable bytes, and the store asks for no alignment.
            unsafe { _mm512_storeu_epi64(chunk.as_mut_ptr(), sums) };
        }
        portable::undelta(rest, _mm_cvtsi128_si64(_mm512_castsi512_si128(carry)));
    }
}
