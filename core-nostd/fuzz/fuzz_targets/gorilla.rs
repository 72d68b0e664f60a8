//! Gorilla streams and columns of any content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::simd::gorilla;

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<u64> =
        bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let count = words.len();
    let column: Vec<i64> = words.iter().map(|word| *word as i64).collect();

    // Any words as a stream of up to a value a bit.
    let (mut times, mut values) = (vec![0; 64 * count + 1], vec![0; 64 * count + 1]);
    assert_eq!(gorilla::decode_times(&words, &mut times), None, "more values than bits");
    assert_eq!(gorilla::decode_values(&words, &mut values), None, "more values than bits");

    let mut stream = vec![0; gorilla::words_max(count)];
    let used = gorilla::encode_times(&column, &mut stream).expect("words_max is enough");
    assert_eq!(gorilla::decode_times(&stream[..used], &mut times[..count]), Some(used));
    assert_eq!(times[..count], column);
    let used = gorilla::encode_values(&words, &mut stream).expect("words_max is enough");
    assert_eq!(gorilla::decode_values(&stream[..used], &mut values[..count]), Some(used));
    assert_eq!(values[..count], words);
});
