//! A latency histogram in fixed memory, written by one thread and read by any while it is written.
//!
//! The buckets are log-linear, as in Gil Tene's HdrHistogram: values below 32 have a bucket each,
//! and every power of two above is cut into 32 equal buckets. A value is therefore known to within
//! 1/32 of itself (3.125 %), and never under-reported: a quantile is the upper end of its bucket,
//! but not more than the exact maximum, which is kept apart. Values of 63/64 of 2^46 (19.2 hours in
//! nanoseconds) and more share the last bucket, and a quantile that falls there is the maximum.
//! Sum, minimum and maximum are exact (the sum modulo 2^64: 584 years of summed latency).
//!
//! The memory is [`Histogram::WORDS`] words that the caller hands over, private or shared. All
//! zeroes is the empty histogram, so fresh shared memory needs no setting up.
//!
//! ```text
//! word 0      1        2         3..8       8 ..
//!      sum    max      !min      reserved   one count for each bucket
//! ```
//!
//! Memory ordering: there is no read-modify-write, so a record costs a few plain loads and
//! stores. The count is stored last, with release, and a [`HistogramSnapshot`] copies the counts
//! first, with acquire: its sum, minimum and maximum cover every value that it counted, and may
//! be ahead by those recorded while it was taken. Its own count is what it copied, so quantiles
//! and count always agree.

use crate::sync::AtomicU64;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

/// Linear buckets for each power of two, as a power of two.
const SUB_BITS: u32 = 5;
const SUB_BUCKETS: usize = 1 << SUB_BITS;
/// Values need at most this many bits; larger ones are counted in the last bucket.
/// Loom explores few; the code is the same.
const VALUE_BITS: u32 = if cfg!(loom) { 6 } else { 46 };
const BUCKETS: usize = (VALUE_BITS - SUB_BITS + 1) as usize * SUB_BUCKETS;
const HEADER: usize = 8;
const WORDS: usize = HEADER + BUCKETS;

const SUM: usize = 0;
const MAX: usize = 1;
/// The complement of the minimum, so that zeroed memory means "no value yet".
const NOT_MIN: usize = 2;

/// The one writer of a histogram.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use wiretape_core::histogram::{Histogram, HistogramSnapshot};
///
/// let memory: Vec<AtomicU64> = (0..Histogram::WORDS).map(|_| AtomicU64::new(0)).collect();
/// let mut latency_ns = Histogram::attach(&memory).unwrap();
/// for ns in 1..=1_000 {
///     latency_ns.record(ns);
/// }
/// // Anyone who sees the memory, also in another process:
/// let seen = HistogramSnapshot::take(&memory).unwrap();
/// assert_eq!((seen.count(), seen.max()), (1_000, 1_000));
/// let p50 = seen.quantile(50, 100);
/// assert!((500..=516).contains(&p50), "{p50}");
/// ```
#[derive(Debug)]
pub struct Histogram<'m> {
    words: &'m [AtomicU64; WORDS],
}

impl<'m> Histogram<'m> {
    /// Words of memory that a histogram takes: 1,352, or 10,816 bytes.
    pub const WORDS: usize = WORDS;

    /// Becomes the writer of the histogram in the first [`Histogram::WORDS`] of `words`, which
    /// keeps what it holds; all zeroes is the empty one. `None` if there are too few words.
    ///
    /// The caller sees to it that there is one writer at a time. A second one does no harm to
    /// memory, but counts get lost.
    pub fn attach(words: &'m [AtomicU64]) -> Option<Histogram<'m>> {
        Some(Histogram { words: words.first_chunk()? })
    }

    /// Counts one value (nanoseconds by convention).
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Counts `value` as often as `times` says, at the cost of one: for a batch whose members
    /// share a time stamp.
    #[inline]
    pub fn record_many(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        let [sum, max, not_min, ..] = self.words;
        sum.store(sum.load(Relaxed).wrapping_add(value.wrapping_mul(times)), Relaxed);
        if value > max.load(Relaxed) {
            max.store(value, Relaxed);
        }
        if !value > not_min.load(Relaxed) {
            not_min.store(!value, Relaxed);
        }
        if let Some(bucket) = self.words.get(HEADER + bucket_of(value)) {
            // Partner: the acquire load in `HistogramSnapshot::copy`.
            bucket.store(bucket.load(Relaxed).wrapping_add(times), Release);
        }
    }

    /// Starts from nothing. A snapshot taken meanwhile holds some old counts and some new ones.
    pub fn clear(&mut self) {
        for word in self.words {
            word.store(0, Relaxed);
        }
    }

    /// What has been counted so far.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot::copy(self.words)
    }
}

/// The bucket that counts `value`.
#[inline]
fn bucket_of(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    // Below SUB_BUCKETS the shift is 0 and the bucket is the value itself.
    let shift = (63 - (value | (SUB_BUCKETS as u64 - 1)).leading_zeros()).saturating_sub(SUB_BITS);
    let group = (value >> (shift + SUB_BITS) != 0) as usize * (shift as usize + 1);
    group * SUB_BUCKETS + ((value >> shift) as usize & (SUB_BUCKETS - 1))
}

/// The largest value that `bucket` counts.
fn upper_end(bucket: usize) -> u64 {
    let (group, sub) = (bucket / SUB_BUCKETS, (bucket % SUB_BUCKETS) as u64);
    match group.checked_sub(1) {
        None => sub,
        Some(shift) => ((SUB_BUCKETS as u64 + sub + 1) << shift) - 1,
    }
}

/// A copy of a histogram (10 KB): quantiles are read off it, and several can be merged.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use wiretape_core::histogram::{Histogram, HistogramSnapshot};
///
/// let memory = || -> Vec<_> { (0..Histogram::WORDS).map(|_| AtomicU64::new(0)).collect() };
/// let workers = [memory(), memory()];
/// Histogram::attach(&workers[0]).unwrap().record_many(100, 99);
/// Histogram::attach(&workers[1]).unwrap().record(5_000);
/// let mut all = HistogramSnapshot::EMPTY;
/// workers.iter().for_each(|words| all.merge(&HistogramSnapshot::take(words).unwrap()));
/// assert_eq!((all.count(), all.min(), all.max()), (100, Some(100), 5_000));
/// assert!(all.p50() <= 103 && all.p9999() == 5_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    count: u64,
    sum: u64,
    max: u64,
    not_min: u64,
    buckets: [u64; BUCKETS],
}

impl HistogramSnapshot {
    /// The snapshot of nothing, to merge others into.
    pub const EMPTY: HistogramSnapshot =
        HistogramSnapshot { count: 0, sum: 0, max: 0, not_min: 0, buckets: [0; BUCKETS] };

    /// Copies the histogram in the first [`Histogram::WORDS`] of `words` while its writer goes
    /// on. `None` if there are too few words.
    pub fn take(words: &[AtomicU64]) -> Option<HistogramSnapshot> {
        words.first_chunk().map(HistogramSnapshot::copy)
    }

    fn copy(words: &[AtomicU64; WORDS]) -> HistogramSnapshot {
        let mut copy = HistogramSnapshot::EMPTY;
        for (count, word) in copy.buckets.iter_mut().zip(words.iter().skip(HEADER)) {
            *count = word.load(Acquire);
            copy.count = copy.count.wrapping_add(*count);
        }
        copy.sum = words[SUM].load(Relaxed);
        copy.max = words[MAX].load(Relaxed);
        copy.not_min = words[NOT_MIN].load(Relaxed);
        copy
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &HistogramSnapshot) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.wrapping_add(*theirs);
        }
        self.count = self.count.wrapping_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
        self.not_min = self.not_min.max(other.not_min);
    }

    /// Takes away the counts of `earlier`, a snapshot of the same histogram: what remains was
    /// recorded in between. Minimum and maximum stay those of the whole time.
    pub fn since(&self, earlier: &HistogramSnapshot) -> HistogramSnapshot {
        let mut rest = self.clone();
        rest.count = 0;
        for (mine, theirs) in rest.buckets.iter_mut().zip(&earlier.buckets) {
            *mine = mine.saturating_sub(*theirs);
            rest.count = rest.count.wrapping_add(*mine);
        }
        rest.sum = rest.sum.wrapping_sub(earlier.sum);
        rest
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their exact sum, modulo 2^64.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest, exactly; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The smallest, exactly; `None` if there is none.
    pub fn min(&self) -> Option<u64> {
        (self.count != 0).then_some(!self.not_min)
    }

    /// Their mean, rounded down; 0 if there is none.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// The value that `numerator` out of `denominator` values do not exceed: `quantile(50, 100)`
    /// is the median and `quantile(9_999, 10_000)` is p99.99. Too large by less than 1/32 of
    /// itself, or the maximum where it falls into the last bucket; never too small; 0 if nothing was
    /// counted.
    pub fn quantile(&self, numerator: u64, denominator: u64) -> u64 {
        let wanted = (u128::from(self.count) * u128::from(numerator))
            .div_ceil(u128::from(denominator.max(1)))
            .clamp(1, u128::from(self.count.max(1)));
        let mut seen = 0u128;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted {
                // The last bucket has no upper end of its own.
                let end = if bucket == BUCKETS - 1 { self.max } else { upper_end(bucket) };
                return end.min(self.max);
            }
        }
        0
    }

    /// Half of the values do not exceed this.
    pub fn p50(&self) -> u64 {
        self.quantile(1, 2)
    }

    /// 90 % of the values do not exceed this.
    pub fn p90(&self) -> u64 {
        self.quantile(9, 10)
    }

    /// 99 % of the values do not exceed this.
    pub fn p99(&self) -> u64 {
        self.quantile(99, 100)
    }

    /// 99.9 % of the values do not exceed this.
    pub fn p999(&self) -> u64 {
        self.quantile(999, 1_000)
    }

    /// 99.99 % of the values do not exceed this.
    pub fn p9999(&self) -> u64 {
        self.quantile(9_999, 10_000)
    }

    /// The buckets that hold something, as (largest value, count), in ascending order: what a
    /// Prometheus histogram or a chart is made of.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, count)| **count != 0);
        filled.map(|(bucket, count)| {
            (if bucket == BUCKETS - 1 { u64::MAX } else { upper_end(bucket) }, *count)
        })
    }
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        HistogramSnapshot::EMPTY
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn memory() -> Vec<AtomicU64> {
        (0..Histogram::WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn histogram_of(values: &[u64]) -> HistogramSnapshot {
        let memory = memory();
        let mut histogram = Histogram::attach(&memory).unwrap();
        values.iter().for_each(|value| histogram.record(*value));
        histogram.snapshot()
    }

    /// Values of every size, not mostly huge ones.
    fn latency() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift)
    }

    #[test]
    fn buckets_are_contiguous_and_as_narrow_as_promised() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let end = upper_end(bucket);
            assert_eq!((bucket_of(next), bucket_of(end)), (bucket, bucket));
            assert!((end - next) * SUB_BUCKETS as u64 <= next, "bucket {bucket} is too wide");
            next = end + 1;
        }
        assert_eq!(next, 1 << VALUE_BITS);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn too_little_memory_is_refused() {
        let memory = memory();
        assert!(Histogram::attach(&memory[1..]).is_none());
        assert!(HistogramSnapshot::take(&memory[1..]).is_none());
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        let empty = histogram_of(&[]);
        assert_eq!((empty.count(), empty.p50(), empty.max(), empty.min()), (0, 0, 0, None));
        assert_eq!(empty.mean(), 0);
    }

    #[test]
    fn a_writer_takes_up_where_another_left() {
        let memory = memory();
        Histogram::attach(&memory).unwrap().record_many(7, 3);
        let mut second = Histogram::attach(&memory).unwrap();
        second.record(9);
        let seen = second.snapshot();
        assert_eq!((seen.count(), seen.sum(), seen.min(), seen.max()), (4, 30, Some(7), 9));
        second.clear();
        assert_eq!(second.snapshot(), HistogramSnapshot::EMPTY);
    }

    #[test]
    fn snapshots_taken_while_it_is_written_are_consistent_with_themselves() {
        let memory = memory();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut histogram = Histogram::attach(&memory).unwrap();
                (0..200_000u64).for_each(|i| histogram.record(i % 1_000));
            });
            let mut before = HistogramSnapshot::EMPTY;
            while before.count() < 200_000 {
                let now = HistogramSnapshot::take(&memory).unwrap();
                assert!(now.count() >= before.count());
                assert!(now.p50() <= now.p99() && now.p99() <= now.p9999());
                assert!(now.p9999() <= now.max() && now.max() < 1_000);
                assert_eq!(now.since(&before).count(), now.count() - before.count());
                before = now;
            }
        });
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            mut values in proptest::collection::vec(latency(), 1..300), part in 0u64..=10_000,
        ) {
            let histogram = histogram_of(&values);
            values.sort_unstable();
            let rank = (values.len() as u64 * part).div_ceil(10_000).max(1);
            let exact = values[rank as usize - 1];
            let found = histogram.quantile(part, 10_000);
            if exact <= upper_end(BUCKETS - 2) {
                prop_assert!(found >= exact && found - exact <= exact / 32, "{exact} {found}");
            } else {
                prop_assert_eq!(found, *values.last().unwrap());
            }
            prop_assert_eq!(histogram.max(), *values.last().unwrap());
            prop_assert_eq!(histogram.min(), values.first().copied());
            prop_assert_eq!(histogram.count(), values.len() as u64);
            prop_assert_eq!(histogram.buckets().map(|(_, n)| n).sum::<u64>(), histogram.count());
        }

        #[test]
        fn merging_counts_what_one_histogram_would_have(
            left in proptest::collection::vec(latency(), 0..100),
            right in proptest::collection::vec(latency(), 0..100),
        ) {
            let mut merged = histogram_of(&left);
            merged.merge(&histogram_of(&right));
            let together: Vec<u64> = left.iter().chain(&right).copied().collect();
            prop_assert_eq!(&merged, &histogram_of(&together));
        }
    }
}
