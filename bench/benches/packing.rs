//! Packing of integers: unpacked values a second at each width, and bytes a value on real and
//! invented columns beside `pco` and Gorilla.
//!
//! The real columns are times, prices and sizes of the added orders of the Nasdaq day beside the
//! project; without it only the invented ones are measured.

#[path = "contest/mod.rs"]
mod contest;

use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use contest::{Contestant, Options, Run, contest};
use pco::DEFAULT_COMPRESSION_LEVEL;
use pco::standalone::{simple_compress, simple_decompress_into};
use wiretape_core::simd::packing::{BLOCK, pack, packed_words};
use wiretape_core::simd::{Kernels, Level, block, gorilla, kernels_of};

fn main() {
    let options = Options::parse();
    contest::pin(0);
    for width in [0, 1, 5, 8, 12, 20, 33, 47, 64] {
        unpack(&options, width);
    }
    for (name, column) in columns() {
        codecs(&options, &name, &column);
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): no codec finds a pattern in it.
fn numbers(count: usize) -> impl Iterator<Item = u64> {
    (1..=count as u64).map(|at| {
        let z = at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// One block unpacked again and again: values and words stay in the first-level cache.
fn unpack(options: &Options, width: u32) {
    let title = format!("unpack 1024 values of {width} bits");
    let values: Vec<u64> = numbers(BLOCK).collect();
    let mut packed = vec![0; packed_words(BLOCK, width)];
    pack(&values, 0, width, &mut packed).expect("sized for it");
    let passes = options.scaled(10_000);
    let packed = &packed[..];
    let run = |kernels: &'static Kernels| {
        move || {
            let mut values = [0; BLOCK];
            let start = Instant::now();
            for pass in 0..passes {
                (kernels.unpack)(black_box(packed), pass, width, &mut values);
                black_box(&mut values);
            }
            Run { took: start.elapsed(), check: values[100] }
        }
    };
    let mut contestants = Vec::new();
    for (name, level) in [("AVX-512", Level::Avx512), ("AVX2", Level::Avx2)] {
        contestants.extend(kernels_of(level).map(|k| Contestant::ours(name, run(k))));
    }
    let portable = kernels_of(Level::Portable).expect("always there");
    contestants.push(Contestant::peer("portable twin", run(portable)));
    contest(options, &title, passes * BLOCK as u64, contestants);
}

/// Columns of integers: what a store has to keep.
fn columns() -> Vec<(String, Vec<i64>)> {
    let ticks = numbers(200_000).scan(1_700_000_000_000_000_000, |time, n| {
        *time += (n >> 44) as i64;
        Some(*time)
    });
    let walk = numbers(200_000).scan(185_420_000_000, |price, n| {
        *price += (n % 3) as i64 * 10_000_000 - 10_000_000;
        Some(*price)
    });
    let mut columns = vec![
        ("invented times".into(), ticks.collect()),
        ("invented prices".into(), walk.collect()),
    ];
    match read_day() {
        Some(day) => columns.extend(day_columns(&day)),
        None => println!("skipped: the Nasdaq day is not beside the project"),
    }
    columns
}

fn read_day() -> Option<Vec<u8>> {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let file =
        std::fs::File::open(shared.join("data/itch/nasdaq-20120621-aapl-amzn.itch.gz")).ok()?;
    let mut day = Vec::new();
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut day).ok()?;
    Some(day)
}

/// Times (nanoseconds), prices (1e-9) and sizes of AAPL's added orders.
fn day_columns(mut day: &[u8]) -> Vec<(String, Vec<i64>)> {
    let (mut times, mut prices, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((length, rest)) = day.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(u16::from_be_bytes(*length).into());
        day = rest;
        if message[0] == b'A' && message[1..3] == [0, 13] {
            let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | i64::from(*byte));
            times.push(number(&message[5..11]));
            sizes.push(number(&message[20..24]));
            prices.push(number(&message[32..36]) * 100_000);
        }
    }
    [("AAPL add times", times), ("AAPL add prices", prices), ("AAPL add sizes", sizes)]
        .map(|(name, column)| (name.to_owned(), column))
        .into()
}

/// A codec: how a block is written and read back.
type Encode = fn(&[i64]) -> Vec<u8>;
type Decode = fn(&[u8], &mut [i64]);

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words_of(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

const CODECS: [(&str, Encode, Decode); 3] = [
    (
        "block",
        |values| {
            let mut words = vec![0; block::words_max(values.len())];
            let used = block::encode(values, &mut words).expect("sized for it");
            bytes_of(&words[..used])
        },
        |bytes, values| {
            block::decode(&words_of(bytes), values).expect("just written");
        },
    ),
    (
        "Gorilla, times",
        |values| {
            let mut words = vec![0; gorilla::words_max(values.len())];
            let used = gorilla::encode_times(values, &mut words).expect("sized for it");
            bytes_of(&words[..used])
        },
        |bytes, values| {
            gorilla::decode_times(&words_of(bytes), values).expect("just written");
        },
    ),
    (
        "pco",
        |values| {
            simple_compress(
                values,
                &pco::ChunkConfig::default().with_compression_level(DEFAULT_COMPRESSION_LEVEL),
            )
            .expect("integers")
        },
        |bytes, values| {
            simple_decompress_into(bytes, values).expect("just written");
        },
    ),
];

fn codecs(options: &Options, name: &str, column: &[i64]) {
    let title = format!("decode {name}, blocks of 1024");
    if !options.wants(&title) {
        return;
    }
    let blocks: Vec<&[i64]> =
        column.chunks_exact(BLOCK).take(if options.quick { 20 } else { 60 }).collect();
    let encoded: Vec<Vec<Vec<u8>>> =
        CODECS.iter().map(|codec| blocks.iter().map(|values| codec.1(values)).collect()).collect();
    let values = blocks.len() * BLOCK;
    let sizes: Vec<String> = CODECS
        .iter()
        .zip(&encoded)
        .map(|(codec, blocks)| {
            let bytes: usize = blocks.iter().map(Vec::len).sum();
            format!("{} {:.2}", codec.0, bytes as f64 / values as f64)
        })
        .collect();
    let contestants = CODECS.iter().zip(&encoded).map(|((codec, _, decode), encoded)| {
        let run = move || {
            let (mut out, mut check) = ([0; BLOCK], 0u64);
            let start = Instant::now();
            for bytes in encoded {
                decode(bytes, &mut out);
                check = check.wrapping_add(black_box(&out)[1023] as u64);
            }
            Run { took: start.elapsed(), check }
        };
        if *codec == "block" { Contestant::ours(codec, run) } else { Contestant::peer(codec, run) }
    });
    contest(options, &title, values as u64, contestants.collect());
    println!("\nbytes a value, {name}: {}", sizes.join(", "));
}
