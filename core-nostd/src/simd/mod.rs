//! Kernels over columns, with the widest instructions that the processor has.
//!
//! Every function here is one call through the table that [`dispatch`](level) chose once, by
//! CPUID: AVX-512 (with IFMA or without), AVX2 or portable code. All give the same answer on any
//! input, bit for bit (any NaN being as good as any other): the portable code is the definition,
//! and the tests hold the others against it.
//!
//! * Integer sums are exact: they are wide enough not to overflow for slices of fewer than 2^32
//!   values.
//! * `f64` sums add element `i` to partial sum `i % 64`, in order, and then partial sum `j + 32`
//!   to `j`, `j + 16` to `j`, and so on: a fixed order, with an error that grows as n/64 rather
//!   than n. NaN and infinities behave as in any sum.
//! * `f64` minimum and maximum skip NaN; if all are NaN there is none. Of 0.0 and -0.0, which
//!   compare equal, either may be returned, but always the same one for the same input.
//!
//! What bounds them. Out of the cache all of them run at the speed of memory (masks with AVX-512
//! ask for it ahead: there is much to do for each line). In it the portable code is no straw man:
//! the compiler makes SSE2 of it where it can, so that the width alone gains at most 2 times with
//! AVX2 and 4 times with AVX-512:
//!
//! * Registers that lie across two cache lines take twice as long to load or store, so those that
//!   can begin at a line do (`lines`), whatever the column's alignment.
//! * Minimum, maximum of integers and masks, for which SSE2 has no instructions: 4 to 20 times.
//! * `f64` folds are two loads and two additions a cycle on both sides: the width.
//! * Integer sums take two additions, a shift (and with AVX2, for signed ones, a flip of the sign)
//!   a register; with AVX-512 these share two execution ports, so 16 `u32` take a cycle and a half. Tried
//!   with VNNI, which adds the upper bytes in one instruction in place of two: 1.35 times as fast in
//!   the cache, for a level of its own.
//! * Price times size is three multiplications that add, a shift and a widening load for 8 pairs
//!   with IFMA: 4 times. Without it, it is two multiplications, two additions and a widening load
//!   for 4 or 8 pairs if the sizes of a chunk are below 2^20; if not, twice that.
//! * Delta and its inverse rewrite their column: delta takes what a copy does; the way back three
//!   shuffles and four additions for 8 values, against a cycle a value of plain code.
//! * The lower bound is as many dependent loads as halvings, of several searches at a time. Tried with
//!   AVX-512: the last 16 to 64 values compared at once take as long, and sixteen gathered for each
//!   halving in sixteen 1.7 times as long.
//!
//! Packing of integers in blocks lives in [`packing`], self-describing blocks in [`block`], and
//! the Gorilla baseline in [`gorilla`].

mod bits;
mod dispatch;
mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod ifma;
#[cfg(target_arch = "x86_64")]
mod lines;

pub mod block;
pub mod gorilla;
pub mod packing;

#[cfg(all(test, not(loom)))]
mod tests;

#[doc(hidden)]
pub use dispatch::{Kernels, kernels_of};
pub use dispatch::{Level, level};

use dispatch::kernels;

/// A comparison with a pivot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// Equal to the pivot.
    Equal,
    /// Not equal to the pivot.
    NotEqual,
    /// Less than the pivot.
    Less,
    /// Less than or equal to the pivot.
    LessEqual,
    /// Greater than the pivot.
    Greater,
    /// Greater than or equal to the pivot.
    GreaterEqual,
}

/// What a window of a column comes to: a bar's worth of prices or sizes.
///
/// ```
/// use wiretape_core::simd::Aggregate;
///
/// let bar = Aggregate::of_i64(&[100, 103, 99, 101]).unwrap();
/// assert_eq!((bar.first, bar.max, bar.min, bar.last), (100, 103, 99, 101));
/// assert_eq!((bar.count, bar.sum), (4, 403));
/// assert_eq!(Aggregate::of_i64(&[]), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate<T, S> {
    /// The first value.
    pub first: T,
    /// The last value.
    pub last: T,
    /// The smallest value.
    pub min: T,
    /// The largest value.
    pub max: T,
    /// The sum of all values, exact.
    pub sum: S,
    /// How many there are.
    pub count: usize,
}

impl Aggregate<i64, i128> {
    /// The aggregate of `values`; `None` if there is none.
    pub fn of_i64(values: &[i64]) -> Option<Aggregate<i64, i128>> {
        Some(Aggregate {
            first: *values.first()?,
            last: *values.last()?,
            min: min_i64(values)?,
            max: max_i64(values)?,
            sum: sum_i64(values),
            count: values.len(),
        })
    }
}

impl Aggregate<u32, u64> {
    /// The aggregate of `values`; `None` if there is none.
    pub fn of_u32(values: &[u32]) -> Option<Aggregate<u32, u64>> {
        Some(Aggregate {
            first: *values.first()?,
            last: *values.last()?,
            min: min_u32(values)?,
            max: max_u32(values)?,
            sum: sum_u32(values),
            count: values.len(),
        })
    }
}

/// The exact sum; 0 for no values.
///
/// ```
/// assert_eq!(wiretape_core::simd::sum_i64(&[i64::MAX, i64::MAX, 1]), 2 * i64::MAX as i128 + 1);
/// ```
pub fn sum_i64(values: &[i64]) -> i128 {
    (kernels().sum_i64)(values)
}

/// The smallest value.
pub fn min_i64(values: &[i64]) -> Option<i64> {
    (!values.is_empty()).then(|| (kernels().min_i64)(values))
}

/// The largest value.
pub fn max_i64(values: &[i64]) -> Option<i64> {
    (!values.is_empty()).then(|| (kernels().max_i64)(values))
}

/// The exact sum; 0 for no values.
pub fn sum_u32(values: &[u32]) -> u64 {
    (kernels().sum_u32)(values)
}

/// The smallest value.
pub fn min_u32(values: &[u32]) -> Option<u32> {
    (!values.is_empty()).then(|| (kernels().min_u32)(values))
}

/// The largest value.
pub fn max_u32(values: &[u32]) -> Option<u32> {
    (!values.is_empty()).then(|| (kernels().max_u32)(values))
}

/// The sum, in the order of additions that the [module](self) describes; 0.0 for no values.
pub fn sum_f64(values: &[f64]) -> f64 {
    (kernels().sum_f64)(values)
}

/// The smallest value that is not NaN.
pub fn min_f64(values: &[f64]) -> Option<f64> {
    let min = (kernels().min_f64)(values);
    // Infinity is also what the kernel starts from.
    (min < f64::INFINITY || values.contains(&f64::INFINITY)).then_some(min)
}

/// The largest value that is not NaN.
pub fn max_f64(values: &[f64]) -> Option<f64> {
    let max = (kernels().max_f64)(values);
    (max > f64::NEG_INFINITY || values.contains(&f64::NEG_INFINITY)).then_some(max)
}

/// The exact sum of price times size, over as many pairs as the shorter slice has: the numerator
/// of a volume-weighted average price.
///
/// ```
/// use wiretape_core::simd;
///
/// let (prices, sizes) = ([100_500_000_000, 100_520_000_000], [300, 100]);
/// let vwap = simd::notional(&prices, &sizes) / i128::from(simd::sum_u32(&sizes));
/// assert_eq!(vwap, 100_505_000_000);
/// ```
pub fn notional(prices: &[i64], sizes: &[u32]) -> i128 {
    (kernels().notional)(prices, sizes)
}

/// Sets bit `i % 64` of `mask[i / 64]` to whether `values[i]` compares to `pivot`, and the bits
/// behind the last value to 0. Looks at no more values than `mask` has bits. Returns how many
/// compare.
///
/// ```
/// use wiretape_core::simd::{self, Compare};
///
/// let mut mask = [0u64; 1];
/// assert_eq!(simd::mask_i64(&[5, 7, 9, 7], Compare::GreaterEqual, 7, &mut mask), 3);
/// assert_eq!(mask, [0b1110]);
/// ```
pub fn mask_i64(values: &[i64], compare: Compare, pivot: i64, mask: &mut [u64]) -> usize {
    (kernels().mask_i64)(values, compare, pivot, mask)
}

/// As [`mask_i64`], for `u32`.
pub fn mask_u32(values: &[u32], compare: Compare, pivot: u32, mask: &mut [u64]) -> usize {
    (kernels().mask_u32)(values, compare, pivot, mask)
}

/// The index of the first value that is not less than `key`, or the length: the values must be in
/// ascending order, otherwise the answer is some index up to the length, perhaps another one on
/// another machine.
///
/// ```
/// let times = [10, 20, 20, 30];
/// assert_eq!(wiretape_core::simd::lower_bound_i64(&times, 20), 1);
/// ```
pub fn lower_bound_i64(sorted: &[i64], key: i64) -> usize {
    (kernels().lower_bound_i64)(sorted, key)
}

/// Replaces each value by its difference from the one before it, the first by its difference
/// from `before`; differences wrap. [`undelta`] is the inverse. Applied twice, it gives the delta
/// of delta.
///
/// ```
/// use wiretape_core::simd;
///
/// let mut times = [100, 110, 120, 131];
/// simd::delta(&mut times, 100);
/// assert_eq!(times, [0, 10, 10, 11]);
/// simd::undelta(&mut times, 100);
/// assert_eq!(times, [100, 110, 120, 131]);
/// ```
pub fn delta(values: &mut [i64], before: i64) {
    (kernels().delta)(values, before)
}

/// Replaces each value by the wrapping sum of `before` and all values up to it.
pub fn undelta(values: &mut [i64], before: i64) {
    (kernels().undelta)(values, before)
}

/// Maps integers of small magnitude to small unsigned ones: 0, -1, 1, -2 become 0, 1, 2, 3 (as in
/// Protocol Buffers).
pub fn zigzag(values: &mut [i64]) {
    (kernels().zigzag)(values)
}

/// The inverse of [`zigzag`].
pub fn unzigzag(values: &mut [i64]) {
    (kernels().unzigzag)(values)
}
