//! The kernels of each level beside the portable twin and plain iterator code, in cache and out
//! of it, and the read bandwidth of one core measured in the same run.
//!
//! The portable twin is not a straw man: the compiler vectorises it with SSE2 where it can.

#[path = "contest/mod.rs"]
mod contest;

use std::hint::black_box;
use std::time::Instant;

use clap::Parser;
use contest::{Contestant, Options, Run, contest};
use wiretape_core::simd::{Compare, Kernels, Level, kernels_of};

/// Values that fit the first-level cache: 16 KiB of `i64`.
const IN_CACHE: usize = 2_048;
/// Bytes that no cache holds.
const OUT_OF_CACHE: usize = 1 << 29;

fn main() {
    let options = Options::parse();
    contest::pin(0);
    in_cache(&options, &of_levels(&[Level::Avx512, Level::Avx2, Level::Portable]));
    let all = [Level::Avx512Ifma, Level::Avx512, Level::Avx2, Level::Portable];
    out_of_cache(&options, &of_levels(&all));
}

/// Those of the levels that this machine has, the best first.
fn of_levels(wanted: &[Level]) -> Vec<(&'static str, &'static Kernels)> {
    let named = |level: &Level| {
        let name = match level {
            Level::Portable => "portable",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX-512",
            Level::Avx512Ifma => "AVX-512 IFMA",
        };
        Some((name, kernels_of(*level)?))
    };
    wanted.iter().filter_map(named).collect()
}

/// One kernel at every level, and plain code.
fn race<'a, T>(
    options: &Options,
    title: &str,
    levels: &[(&'a str, &'static Kernels)],
    values: &'a [T],
    kernel: impl Fn(&'static Kernels, &[T]) -> u64 + Copy + 'a,
    plain: impl Fn(&[T]) -> u64 + Copy + 'a,
) {
    let passes = if values.len() <= 4 * IN_CACHE { options.scaled(2_000) } else { 1 };
    let timed = move |work: &dyn Fn(&[T]) -> u64| {
        let start = Instant::now();
        let mut check = 0;
        for _ in 0..passes {
            check = black_box(work(black_box(values)));
        }
        Run { took: start.elapsed(), check }
    };
    let mut contestants = Vec::new();
    for (name, kernels) in levels {
        let run = move || timed(&|values| kernel(kernels, values));
        contestants.push(match *name {
            "portable" => Contestant::peer("portable twin", run),
            name => Contestant::ours(name, run),
        });
    }
    contestants.push(Contestant::peer("plain iterator", move || timed(&plain)));
    contest(options, title, passes * values.len() as u64, contestants);
}

fn numbers(count: usize) -> impl Iterator<Item = u64> {
    (0..count as u64).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23))
}

fn in_cache(options: &Options, levels: &[(&str, &'static Kernels)]) {
    let i64s: Vec<i64> = numbers(IN_CACHE).map(|n| n as i64 >> 8).collect();
    let u32s: Vec<u32> = numbers(2 * IN_CACHE).map(|n| n as u32).collect();
    let f64s: Vec<f64> = numbers(IN_CACHE).map(|n| (n >> 40) as f64).collect();
    let sizes = &u32s[..IN_CACHE];
    let small: Vec<u32> = sizes.iter().map(|size| size >> 12).collect();
    let small = &small[..];
    let fold = |sum: i128| sum as u64 ^ (sum >> 64) as u64;
    race(
        options,
        "sum of i64 (i128), in cache",
        levels,
        &i64s,
        |k, v| fold((k.sum_i64)(v)),
        |v| fold(v.iter().map(|x| i128::from(*x)).sum()),
    );
    race(
        options,
        "minimum of i64, in cache",
        levels,
        &i64s,
        |k, v| (k.min_i64)(v) as u64,
        |v| v.iter().copied().min().unwrap_or(0) as u64,
    );
    race(
        options,
        "maximum of i64, in cache",
        levels,
        &i64s,
        |k, v| (k.max_i64)(v) as u64,
        |v| v.iter().copied().max().unwrap_or(0) as u64,
    );
    race(
        options,
        "sum of u32 (u64), in cache",
        levels,
        &u32s,
        |k, v| (k.sum_u32)(v),
        |v| v.iter().map(|x| u64::from(*x)).sum(),
    );
    race(
        options,
        "maximum of u32, in cache",
        levels,
        &u32s,
        |k, v| (k.max_u32)(v).into(),
        |v| v.iter().copied().max().unwrap_or(0).into(),
    );
    // Whole numbers: every order of additions gives the same sum.
    race(
        options,
        "sum of f64, in cache",
        levels,
        &f64s,
        |k, v| (k.sum_f64)(v).to_bits(),
        |v| v.iter().sum::<f64>().to_bits(),
    );
    race(
        options,
        "minimum of f64, in cache",
        levels,
        &f64s,
        |k, v| (k.min_f64)(v).to_bits(),
        |v| v.iter().copied().fold(f64::INFINITY, f64::min).to_bits(),
    );
    // Only these are different with IFMA.
    let with_ifma = of_levels(&[Level::Avx512Ifma, Level::Avx512, Level::Avx2, Level::Portable]);
    for (title, sizes) in [
        ("price x size (i128), sizes below 2^20, in cache", small),
        ("price x size (i128), any sizes, in cache", sizes),
    ] {
        race(
            options,
            title,
            &with_ifma,
            &i64s,
            move |k, v| fold((k.notional)(v, sizes)),
            move |v| fold(v.iter().zip(sizes).map(|(p, s)| i128::from(*p) * i128::from(*s)).sum()),
        );
    }
    let pivot = i64s[7];
    race(
        options,
        "mask of i64 < pivot, in cache",
        levels,
        &i64s,
        move |k, v| {
            let mut mask = [0; IN_CACHE / 64];
            (k.mask_i64)(v, Compare::Less, pivot, &mut mask) as u64 ^ mask[11]
        },
        move |v| {
            let mut mask = [0u64; IN_CACHE / 64];
            for (at, value) in v.iter().enumerate() {
                mask[at / 64] |= u64::from(*value < pivot) << (at % 64);
            }
            mask.iter().map(|word| u64::from(word.count_ones())).sum::<u64>() ^ mask[11]
        },
    );
    let pivot = u32s[7];
    race(
        options,
        "mask of u32 < pivot, in cache",
        levels,
        &u32s,
        move |k, v| {
            let mut mask = [0; IN_CACHE / 32];
            (k.mask_u32)(v, Compare::Less, pivot, &mut mask) as u64 ^ mask[11]
        },
        move |v| {
            let mut mask = [0u64; IN_CACHE / 32];
            for (at, value) in v.iter().enumerate() {
                mask[at / 64] |= u64::from(*value < pivot) << (at % 64);
            }
            mask.iter().map(|word| u64::from(word.count_ones())).sum::<u64>() ^ mask[11]
        },
    );
    rewriting(options, levels, &i64s);
    searching(options, levels);
}

/// Kernels that change their input: each with its inverse, so that no copy is timed.
fn rewriting(options: &Options, levels: &[(&str, &'static Kernels)], i64s: &[i64]) {
    let there_and_back = |there: &dyn Fn(&mut [i64]), back: &dyn Fn(&mut [i64])| {
        let mut column = i64s.to_vec();
        let passes = options.scaled(2_000);
        let start = Instant::now();
        let mut check = 0;
        for _ in 0..passes {
            there(black_box(&mut column));
            check = black_box(&column)[77] as u64;
            back(black_box(&mut column));
        }
        let took = start.elapsed();
        assert_eq!(column, i64s, "the inverse is none");
        Run { took, check }
    };
    let mut delta = Vec::new();
    let mut zigzag = Vec::new();
    for &(name, kernels) in levels {
        let delta_run = move || {
            there_and_back(&|column| (kernels.delta)(column, 5), &|column| {
                (kernels.undelta)(column, 5);
            })
        };
        let zigzag_run = move || {
            there_and_back(&|column| (kernels.zigzag)(column), &|column| {
                (kernels.unzigzag)(column);
            })
        };
        if name == "portable" {
            delta.push(Contestant::peer("portable twin", delta_run));
            zigzag.push(Contestant::peer("portable twin", zigzag_run));
        } else {
            delta.push(Contestant::ours(name, delta_run));
            zigzag.push(Contestant::ours(name, zigzag_run));
        }
    }
    delta.push(Contestant::peer("plain iterator", move || {
        let there = |column: &mut [i64]| {
            let mut before = 5;
            for value in column {
                (before, *value) = (*value, value.wrapping_sub(before));
            }
        };
        let back = |column: &mut [i64]| {
            let mut sum = 5i64;
            for value in column {
                sum = sum.wrapping_add(*value);
                *value = sum;
            }
        };
        there_and_back(&there, &back)
    }));
    zigzag.push(Contestant::peer("plain iterator", move || {
        let there = |column: &mut [i64]| {
            column.iter_mut().for_each(|x| *x = (*x << 1) ^ (*x >> 63));
        };
        let back = |column: &mut [i64]| {
            column.iter_mut().for_each(|x| *x = (*x as u64 >> 1) as i64 ^ -(*x & 1));
        };
        there_and_back(&there, &back)
    }));
    let count = options.scaled(2_000) * i64s.len() as u64;
    contest(options, "delta and back, in cache", count, delta);
    contest(options, "zigzag and back, in cache", count, zigzag);
}

fn searching(options: &Options, levels: &[(&str, &'static Kernels)]) {
    let sorted: Vec<i64> = (0..4 * IN_CACHE as i64).map(|at| at * 10).collect();
    let probes: Vec<i64> = numbers(IN_CACHE).map(|n| (n % (40 * IN_CACHE as u64)) as i64).collect();
    let sorted = &sorted[..];
    race(
        options,
        "lower bound in 8192 i64, a search",
        levels,
        &probes,
        move |k, v| v.iter().map(|key| (k.lower_bound_i64)(sorted, *key) as u64).sum(),
        move |v| v.iter().map(|key| sorted.partition_point(|x| x < key) as u64).sum(),
    );
}

fn out_of_cache(options: &Options, levels: &[(&str, &'static Kernels)]) {
    let title = "out of cache";
    if options.filter.as_ref().is_some_and(|filter| !title.contains(filter.as_str())) {
        return;
    }
    let bytes = if options.quick { OUT_OF_CACHE / 8 } else { OUT_OF_CACHE };
    let i64s: Vec<i64> = numbers(bytes / 8).map(|n| n as i64 >> 8).collect();
    let best = levels[0].1;
    let sizes: Vec<u32> = i64s.iter().map(|n| *n as u32 >> 12).collect();
    let f64s: Vec<f64> = i64s[..bytes / 16].iter().map(|n| (n >> 40) as f64).collect();
    let mut mask = vec![0u64; i64s.len() / 64];
    let mut u32_mask = mask.clone();
    type Reader<'a> = (&'a str, usize, Box<dyn FnMut() -> u64 + 'a>);
    let mut readers: Vec<Reader<'_>> = vec![
        ("reading only (or of all words)", bytes, Box::new(|| read_all(&i64s))),
        ("sum of i64", bytes, Box::new(|| (best.sum_i64)(&i64s) as u64)),
        ("minimum of i64", bytes, Box::new(|| (best.min_i64)(&i64s) as u64)),
        ("sum of u32", bytes / 2, Box::new(|| (best.sum_u32)(&sizes))),
        ("maximum of u32", bytes / 2, Box::new(|| (best.max_u32)(&sizes).into())),
        ("sum of f64", bytes / 2, Box::new(|| (best.sum_f64)(&f64s).to_bits())),
        ("minimum of f64", bytes / 2, Box::new(|| (best.min_f64)(&f64s).to_bits())),
        ("price x size", bytes + bytes / 2, Box::new(|| (best.notional)(&i64s, &sizes) as u64)),
        (
            "mask of i64",
            bytes,
            Box::new(|| (best.mask_i64)(&i64s, Compare::Less, 0, &mut mask) as u64),
        ),
        (
            "mask of u32",
            bytes / 2,
            Box::new(|| (best.mask_u32)(&sizes, Compare::Less, 1 << 31, &mut u32_mask) as u64),
        ),
    ];
    let mut rates = vec![Vec::new(); readers.len()];
    for _ in 0..options.rounds().min(7) {
        for ((_, bytes, read), rates) in readers.iter_mut().zip(&mut rates) {
            let start = Instant::now();
            black_box(read());
            rates.push(*bytes as f64 / start.elapsed().as_nanos() as f64);
        }
    }
    let rates: Vec<f64> = rates.iter().map(|r| r.iter().copied().fold(0.0, f64::max)).collect();
    if options.markdown {
        println!("\n#### kernels out of cache ({} MiB), {}\n", bytes >> 20, levels[0].0);
        println!("| | GB/s | of the read bandwidth |\n|---|---:|---:|");
    } else {
        println!("\nkernels out of cache ({} MiB), {}", bytes >> 20, levels[0].0);
    }
    for ((name, ..), rate) in readers.iter().zip(&rates) {
        let part = 100.0 * rate / rates[0];
        if options.markdown {
            println!("| {name} | {rate:.1} | {part:.0} % |");
        } else {
            println!("{name:34}{rate:>10.1} GB/s{part:>8.0} %");
        }
    }
}

/// Nothing but loads, as wide as they come.
fn read_all(values: &[i64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn wide(values: &[i64]) -> u64 {
            values.iter().fold(0, |all, value| all | value) as u64
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the line above found AVX-512F.
            return unsafe { wide(values) };
        }
    }
    values.iter().fold(0, |all, value| all | value) as u64
}
