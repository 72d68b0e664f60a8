//! Every kernel of every level against its portable twin, and the portable one against plain
//! iterator code.

use super::dispatch::{Kernels, kernels_of};
use super::packing::{BLOCK, pack, packed_words, unpack};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

const COMPARES: [Compare; 6] = [
    Compare::Equal,
    Compare::NotEqual,
    Compare::Less,
    Compare::LessEqual,
    Compare::Greater,
    Compare::GreaterEqual,
];

/// The portable kernels and the others that this machine has; those that it has not are said once.
fn levels() -> (&'static Kernels, Vec<&'static Kernels>) {
    static SAID: std::sync::Once = std::sync::Once::new();
    let all = [Level::Avx2, Level::Avx512, Level::Avx512Ifma];
    SAID.call_once(|| {
        for level in all.into_iter().filter(|level| kernels_of(*level).is_none()) {
            std::println!("skipped: kernels of {level:?}, which this machine does not have");
        }
    });
    let others = all.into_iter().filter_map(kernels_of);
    (kernels_of(Level::Portable).unwrap(), others.collect())
}

/// Integers with repeats, extremes and anything between.
fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3i64..4,
        (any::<i64>(), 0u32..64).prop_map(|(value, shift)| value >> shift),
        Just(i64::MIN),
        Just(i64::MAX),
    ]
}

/// Floats of every kind: NaN, infinities, subnormals, both zeros.
fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        -2.0..2.0f64,
        Just(0.0),
        Just(-0.0),
        any::<u64>().prop_map(f64::from_bits)
    ]
}

/// Bits that are equal for equal floats, with every NaN alike: which NaN a sum of several yields
/// is not defined in Rust.
fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

proptest! {
    /// Lengths 0 to 200 and, because slices start at 0 to 7, every alignment that 8-byte values
    /// can have within 64 bytes.
    #[test]
    fn i64_kernels_equal_their_twins(all in vec(integer(), 0..=207), pivot in integer()) {
        let (twin, levels) = levels();
        for start in 0..=all.len().min(7) {
            let values = &all[start..];
            for kernels in &levels {
                prop_assert_eq!((kernels.sum_i64)(values), (twin.sum_i64)(values));
                prop_assert_eq!((kernels.min_i64)(values), (twin.min_i64)(values));
                prop_assert_eq!((kernels.max_i64)(values), (twin.max_i64)(values));
                prop_assert!((kernels.lower_bound_i64)(values, pivot) <= values.len());
                let mut sorted = values.to_vec();
                sorted.sort_unstable();
                let found = (kernels.lower_bound_i64)(&sorted, pivot);
                prop_assert_eq!(found, (twin.lower_bound_i64)(&sorted, pivot));
                for compare in COMPARES {
                    let (mut left, mut right) = ([!0; 4], [!0; 4]);
                    let count = (kernels.mask_i64)(values, compare, pivot, &mut left);
                    prop_assert_eq!(count, (twin.mask_i64)(values, compare, pivot, &mut right));
                    prop_assert_eq!(left, right);
                }
            }
        }
    }

    #[test]
    fn u32_kernels_equal_their_twins(
        all in vec(prop_oneof![any::<u32>(), 0u32..4, Just(u32::MAX)], 0..=215),
        prices in vec(integer(), 0..=215), pivot in any::<u32>(),
    ) {
        let (twin, levels) = levels();
        for start in 0..=all.len().min(15) {
            let values = &all[start..];
            let pivot = values.first().copied().filter(|_| start % 2 == 0).unwrap_or(pivot);
            for kernels in &levels {
                prop_assert_eq!((kernels.sum_u32)(values), (twin.sum_u32)(values));
                prop_assert_eq!((kernels.min_u32)(values), (twin.min_u32)(values));
                prop_assert_eq!((kernels.max_u32)(values), (twin.max_u32)(values));
                let prices = &prices[start.min(prices.len())..];
                prop_assert_eq!((kernels.notional)(prices, values), (twin.notional)(prices, values));
                for compare in COMPARES {
                    let (mut left, mut right) = ([!0; 4], [!0; 4]);
                    let count = (kernels.mask_u32)(values, compare, pivot, &mut left);
                    prop_assert_eq!(count, (twin.mask_u32)(values, compare, pivot, &mut right));
                    prop_assert_eq!(left, right);
                }
            }
        }
    }

    #[test]
    fn f64_kernels_equal_their_twins(all in vec(float(), 0..=207)) {
        let (twin, levels) = levels();
        for start in 0..=all.len().min(7) {
            let values = &all[start..];
            for kernels in &levels {
                prop_assert_eq!(bits((kernels.sum_f64)(values)), bits((twin.sum_f64)(values)));
                prop_assert_eq!((kernels.min_f64)(values).to_bits(), (twin.min_f64)(values).to_bits());
                prop_assert_eq!((kernels.max_f64)(values).to_bits(), (twin.max_f64)(values).to_bits());
            }
        }
    }

    #[test]
    fn rewriting_kernels_equal_their_twins(all in vec(integer(), 0..=207), before in integer()) {
        let (twin, levels) = levels();
        let rewrite = |kernel: &dyn Fn(&mut [i64]), start: usize| {
            let mut values = all.clone();
            kernel(&mut values[start..]);
            values
        };
        for start in 0..=all.len().min(7) {
            for kernels in &levels {
                prop_assert_eq!(
                    rewrite(&|v| (kernels.delta)(v, before), start),
                    rewrite(&|v| (twin.delta)(v, before), start)
                );
                prop_assert_eq!(
                    rewrite(&|v| (kernels.undelta)(v, before), start),
                    rewrite(&|v| (twin.undelta)(v, before), start)
                );
                prop_assert_eq!(
                    rewrite(&|v| (kernels.multiply_add)(v, before, 9), start),
                    rewrite(&|v| (twin.multiply_add)(v, before, 9), start)
                );
                prop_assert_eq!(rewrite(&kernels.zigzag, start), rewrite(&twin.zigzag, start));
                prop_assert_eq!(rewrite(&kernels.unzigzag, start), rewrite(&twin.unzigzag, start));
            }
        }
    }

    #[test]
    fn packing_kernels_equal_their_twins(
        all in vec(any::<u64>(), 0..=207), base in any::<u64>(), width in 0u32..=64,
    ) {
        let (twin, levels) = levels();
        for start in 0..=all.len().min(7) {
            let values = &all[start..];
            let words = packed_words(values.len(), width);
            let (mut left, mut right) = (std::vec![!0; words], std::vec![!0; words]);
            let (mut out, mut twin_out) = (all.clone(), all.clone());
            for kernels in &levels {
                prop_assert_eq!((kernels.range)(values), (twin.range)(values));
                (kernels.pack)(values, base, width, &mut left);
                (twin.pack)(values, base, width, &mut right);
                prop_assert_eq!(&left, &right);
                (kernels.unpack)(&left, base, width, &mut out[start..]);
                (twin.unpack)(&left, base, width, &mut twin_out[start..]);
                prop_assert_eq!(&out, &twin_out);
            }
        }
    }

    #[test]
    fn small_sizes_come_to_the_same_notional(
        pairs in vec((integer(), 0u32..1 << 20), 0..=200), lots in 0u32..3, large in any::<u32>(),
    ) {
        // Several chunks: of small sizes only, and with one that is not.
        let times = if lots == 0 { 1 } else { 30 };
        let pairs = pairs.iter().cycle().take(pairs.len() * times);
        let (prices, mut sizes): (Vec<i64>, Vec<u32>) = pairs.copied().unzip();
        if lots == 2 && let Some(last) = sizes.last_mut() {
            *last = large;
        }
        let (twin, levels) = levels();
        for kernels in &levels {
            prop_assert_eq!((kernels.notional)(&prices, &sizes), (twin.notional)(&prices, &sizes));
        }
    }

    #[test]
    fn answers_are_those_of_plain_code(values in vec(integer(), 1..200), pivot in integer()) {
        let sum: i128 = values.iter().map(|value| i128::from(*value)).sum();
        let aggregate = Aggregate::of_i64(&values).unwrap();
        prop_assert_eq!(aggregate.sum, sum);
        prop_assert_eq!(Some(aggregate.min), values.iter().min().copied());
        prop_assert_eq!(Some(aggregate.max), values.iter().max().copied());
        let sizes: Vec<u32> = values.iter().map(|value| *value as u32).collect();
        let pairs = values.iter().zip(&sizes);
        let products: i128 = pairs.map(|(price, size)| i128::from(*price) * i128::from(*size)).sum();
        prop_assert_eq!(notional(&values, &sizes), products);
        let total: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
        prop_assert_eq!(Aggregate::of_u32(&sizes).unwrap().sum, total);
        let mut mask = [0u64; 4];
        let count = mask_i64(&values, Compare::Less, pivot, &mut mask);
        let bits: Vec<bool> = (0..256).map(|i| mask[i / 64] >> (i % 64) & 1 != 0).collect();
        let expected: Vec<bool> =
            (0..256).map(|i| values.get(i).is_some_and(|value| *value < pivot)).collect();
        prop_assert_eq!(bits, expected);
        prop_assert_eq!(count, values.iter().filter(|value| **value < pivot).count());
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let found = lower_bound_i64(&sorted, pivot);
        prop_assert_eq!(found, sorted.partition_point(|value| *value < pivot));
    }

    #[test]
    fn sums_of_long_columns_are_exact(
        len in 0usize..40_000, front in 0usize..32, value in prop_oneof![Just(u32::MAX), any::<u32>()],
        shift in 0u32..32,
    ) {
        let mut values = std::vec![value; len];
        values.extend((0..front as u32).map(|n| n.wrapping_mul(0x9E37_79B9) >> shift));
        values.rotate_right(front);
        let sum: u64 = values.iter().map(|value| u64::from(*value)).sum();
        let wide: Vec<i64> = values.iter().map(|value| i64::MAX - i64::from(*value)).collect();
        let wide_sum: i128 = wide.iter().map(|value| i128::from(*value)).sum();
        let (twin, levels) = levels();
        for kernels in levels.into_iter().chain([twin]) {
            for start in [0, front.min(values.len())] {
                let before: u64 = values[..start].iter().map(|value| u64::from(*value)).sum();
                prop_assert_eq!((kernels.sum_u32)(&values[start..]), sum - before);
            }
            prop_assert_eq!((kernels.sum_i64)(&wide), wide_sum);
        }
    }

    #[test]
    fn float_extremes_skip_nan(values in vec(float(), 0..100)) {
        let numbers = || values.iter().copied().filter(|value| !value.is_nan());
        prop_assert_eq!(min_f64(&values), numbers().reduce(f64::min));
        prop_assert_eq!(max_f64(&values), numbers().reduce(f64::max));
    }

    #[test]
    fn transforms_have_inverses(values in vec(integer(), 0..300), before in integer()) {
        let mut changed = values.clone();
        delta(&mut changed, before);
        undelta(&mut changed, before);
        prop_assert_eq!(&changed, &values);
        zigzag(&mut changed);
        unzigzag(&mut changed);
        prop_assert_eq!(&changed, &values);
    }

    #[test]
    fn packing_round_trips(
        values in vec(any::<u64>(), 0..=BLOCK), base in any::<u64>(), width in 0u32..=64,
    ) {
        let mask = if width == 64 { !0 } else { (1u64 << width) - 1 };
        let values: Vec<u64> = values.iter().map(|value| (value & mask).wrapping_add(base)).collect();
        let mut packed = std::vec![!0; packed_words(values.len(), width) + 1];
        let used = pack(&values, base, width, &mut packed).unwrap();
        prop_assert_eq!((used, packed[used]), (packed.len() - 1, !0));
        let mut unpacked = std::vec![0; values.len()];
        prop_assert_eq!(unpack(&packed, base, width, &mut unpacked), Ok(used));
        prop_assert_eq!(unpacked, values);
        prop_assert!(used == 0 || unpack(&packed[..used - 1], base, width, &mut [0; BLOCK]).is_err());
    }

    #[test]
    fn blocks_round_trip(
        mut values in vec(integer(), 0..=BLOCK), sums in 0usize..3, tick in 0i64..4,
    ) {
        values.iter_mut().for_each(|value| *value = value.wrapping_mul(10i64.pow(2 * tick as u32)));
        (0..sums).for_each(|_| undelta(&mut values, 0));
        let mut words = std::vec![0; block::words_max(values.len())];
        let used = block::encode(&values, &mut words).unwrap();
        let mut decoded = std::vec![0; values.len()];
        prop_assert_eq!(block::decode(&words[..used], &mut decoded), Ok((values.len(), used)));
        prop_assert_eq!(decoded, values);
        for short in 0..used {
            prop_assert!(block::decode(&words[..short], &mut [0; BLOCK]).is_err());
        }
    }

    #[test]
    fn corrupt_blocks_are_survived(mut words in vec(any::<u64>(), 0..80), header in any::<u32>()) {
        // A header that has a chance to be taken for one.
        if let Some(first) = words.first_mut() {
            let [kind, width, count, high] = header.to_le_bytes().map(u64::from);
            let fields = [(kind % 4, 0), (width % 66, 8), (count, 18), (count % 8, 32), (high % 66, 48)];
            *first = fields.iter().fold((kind / 64 % 3) << 56, |word, (value, shift)| word | value << shift);
        }
        let _ = block::decode(&words, &mut [0; 600]);
        let _ = gorilla::decode_values(&words, &mut [0; 600]);
        let _ = gorilla::decode_times(&words, &mut [0; 600]);
    }

    #[test]
    fn gorilla_round_trips(mut values in vec(integer(), 0..300), sums in 0usize..3) {
        (0..sums).for_each(|_| undelta(&mut values, 0));
        let mut words = std::vec![0; gorilla::words_max(values.len())];
        let used = gorilla::encode_times(&values, &mut words).unwrap();
        let mut decoded = std::vec![0; values.len()];
        prop_assert_eq!(gorilla::decode_times(&words[..used], &mut decoded), Some(used));
        prop_assert_eq!(&decoded, &values);
        let floats: Vec<u64> = values.iter().map(|value| (*value as f64).to_bits()).collect();
        let used = gorilla::encode_values(&floats, &mut words).unwrap();
        let mut decoded = std::vec![0; floats.len()];
        prop_assert_eq!(gorilla::decode_values(&words[..used], &mut decoded), Some(used));
        prop_assert_eq!(decoded, floats);
    }
}

#[test]
fn blocks_take_the_smallest_kind() {
    let kind_of = |values: &[i64]| {
        let mut words = [0; block::words_max(BLOCK)];
        let used = block::encode(values, &mut words).unwrap();
        (words[0] as u8, used)
    };
    let same = [7i64; BLOCK];
    assert_eq!(kind_of(&same), (0, 2));
    let steps: Vec<i64> = (0..1024).map(|i| i * 1_000).collect();
    assert_eq!(kind_of(&steps), (1, 3));
    let growing: Vec<i64> = (0..1024).map(|i| i * i).collect();
    assert_eq!(kind_of(&growing), (2, 4));
    // Prices on a grid of ticks take the bits of the ticks.
    let ticks: Vec<i64> = (0..1024).map(|i| 5_000_000_000 + i * 7 % 32 * 10_000_000).collect();
    assert_eq!(kind_of(&ticks), (0, 4 + packed_words(BLOCK, 5)));
    // One outlier: one word more, not a wider block.
    let mut outlier = same;
    outlier[500] = 1 << 40;
    assert_eq!(kind_of(&outlier), (0, 3));
}

#[test]
fn what_does_not_fit_is_refused() {
    assert_eq!(pack(&[1], 0, 65, &mut [0; 64]), Err(packing::PackError::Width { found: 65 }));
    let short = packing::PackError::TooFewWords { found: 15, expected: 16 };
    assert_eq!(pack(&[1], 0, 1, &mut [0; 15]), Err(short));
    assert_eq!(unpack(&[0; 15], 0, 1, &mut [0]), Err(short));
    let rows = u32::MAX as usize / 64;
    assert_eq!(packing::checked_words(16 * rows, 64), Ok(16 * rows));
    let too_many = packing::PackError::TooManyValues { found: 16 * rows + 1, expected: 16 * rows };
    assert_eq!(packing::checked_words(16 * rows + 1, 64), Err(too_many));
    let too_many = block::BlockError::TooManyValues { found: 1025, expected: 1024 };
    assert_eq!(block::encode(&[0; 1025], &mut [0; 2000]), Err(too_many));
}

#[test]
fn the_largest_chunks_do_not_overflow() {
    let (twin, levels) = levels();
    for price in [i64::MIN, i64::MAX, -1, 0xFFFF_FFFF, i64::MIN + 0xFFFF_FFFF, (1 << 52) - 1] {
        for size in [(1 << 20) - 1, 1 << 20, u32::MAX] {
            let (prices, sizes) = ([price; 5_000], [size; 5_000]);
            for kernels in &levels {
                assert_eq!((kernels.notional)(&prices, &sizes), (twin.notional)(&prices, &sizes));
            }
        }
    }
}
