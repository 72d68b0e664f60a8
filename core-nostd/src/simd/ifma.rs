//! Price times size with AVX-512 IFMA: multiplications of 52 bits that add to what is there.

use core::arch::x86_64::*;

use super::dispatch::compiled;
use super::{lines, portable};

compiled! { "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx2,bmi1,bmi2,popcnt" => by_hand {
    fn notional(prices: &[i64], sizes: &[u32]) -> i128;
}}

mod by_hand {
    use super::*;

    /// Pairs that are summed at a time, 256 a lane: the lower sums come to less than 2^60 a lane
    /// and 2^63 in all, the upper ones to less than 2^51 a lane, above or below zero.
    const CHUNK: usize = 1 << 11;

    #[inline]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx2,bmi1,bmi2,popcnt"
    )]
    pub(super) fn notional(prices: &[i64], sizes: &[u32]) -> i128 {
        // Pairs stay pairs if both slices begin and end together.
        let pairs = prices.len().min(sizes.len());
        let (front, prices) = lines::split(prices.split_at(pairs).0);
        let (front_sizes, sizes) = sizes.split_at(pairs).0.split_at(front.len());
        let chunks = prices.chunks(CHUNK).zip(sizes.chunks(CHUNK));
        let front = portable::notional(front, front_sizes);
        chunks.fold(front, |sum, (prices, sizes)| sum.wrapping_add(chunk(prices, sizes)))
    }

    /// A price is its lower 52 bits, unsigned, and its upper 12, signed. The products of the
    /// lower ones with the size have 84 bits, of which the lower 52 are summed, and the upper 32.
    /// To the upper ones, which are worth 2^52 too, go the products of the upper 12 bits. The
    /// multiplication takes those as unsigned numbers of 52 bits, so that this sum is right modulo
    /// 2^52; as a signed number of 52 bits it is right altogether, since it is small enough.
    ///
    /// There are two sums of each, in turns, since one multiplication waits four cycles for the
    /// one before.
    #[inline]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx2,bmi1,bmi2,popcnt"
    )]
    fn chunk(prices: &[i64], sizes: &[u32]) -> i128 {
        let zero = _mm512_setzero_si512();
        let [mut low, mut high, mut top] = [[zero; 2]; 3];
        let mut add = |at: usize, prices: __m512i, sizes: __m256i| {
            let (upper, sizes) = (_mm512_srai_epi64::<52>(prices), _mm512_cvtepu32_epi64(sizes));
            low[at] = _mm512_madd52lo_epu64(low[at], prices, sizes);
            high[at] = _mm512_madd52hi_epu64(high[at], prices, sizes);
            top[at] = _mm512_madd52lo_epu64(top[at], upper, sizes);
        };
        let (price_rows, price_rest) = prices.as_chunks::<16>();
        let (size_rows, size_rest) = sizes.as_chunks::<16>();
        for (prices, sizes) in price_rows.iter().zip(size_rows) {
            let pairs = prices.as_chunks::<8>().0.iter().zip(sizes.as_chunks::<8>().0);
            for (at, (prices, sizes)) in pairs.enumerate() {
                // SAFETY: `prices` is 64 readable bytes, and the load asks for no alignment.
                let prices = unsafe { _mm512_loadu_epi64(prices.as_ptr()) };
                // SAFETY: `sizes` is 32 readable bytes, and the load asks for no alignment.
                let sizes = unsafe { _mm256_loadu_epi32(sizes.as_ptr().cast()) };
                add(at, prices, sizes);
            }
        }
        for (at, (prices, sizes)) in price_rest.chunks(8).zip(size_rest.chunks(8)).enumerate() {
            let pairs = prices.len().min(sizes.len());
            let mask = !(!0_u32 << pairs) as u8;
            // SAFETY: the load touches the values that the mask names: `pairs` of `prices`.
            let prices = unsafe { _mm512_maskz_loadu_epi64(mask, prices.as_ptr()) };
            // SAFETY: as above, for `sizes`.
            let sizes = unsafe { _mm256_maskz_loadu_epi32(mask, sizes.as_ptr().cast()) };
            add(at, prices, sizes);
        }
        let low = _mm512_add_epi64(low[0], low[1]);
        let high = _mm512_add_epi64(high[0], high[1]);
        let high = _mm512_add_epi64(high, _mm512_add_epi64(top[0], top[1]));
        // Signed numbers of 52 bits, as ones of 64.
        let high = _mm512_srai_epi64::<12>(_mm512_slli_epi64::<12>(high));
        let (low, high) = (_mm512_reduce_add_epi64(low), _mm512_reduce_add_epi64(high));
        (i128::from(high) << 52) + i128::from(low)
    }
}
