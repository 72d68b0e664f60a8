//! Packed words, blocks and columns of any content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretape_core::simd::block;
use wiretape_core::simd::packing::{BLOCK, pack, packed_words, unpack};

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<u64> =
        bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();

    // Any words, as a block: an error or values, and what was read was there.
    let mut values = [0i64; BLOCK];
    if let Ok((count, used)) = block::decode(&words, &mut values) {
        assert!(count <= BLOCK && used <= words.len());
    }

    // The same words as a column round-trip.
    let column: Vec<i64> = words.iter().take(BLOCK).map(|word| *word as i64).collect();
    let mut packed = vec![0; block::words_max(column.len())];
    let used = block::encode(&column, &mut packed).expect("words_max is enough");
    assert_eq!(block::decode(&packed[..used], &mut values), Ok((column.len(), used)));
    assert_eq!(values[..column.len()], column);

    // Any words are a packing: unpacked and packed again, they are the same where values lie.
    let [width, base, rest @ ..] = &words[..] else { return };
    let (width, base) = ((*width % 66) as u32, *base);
    let count = rest.len().min(BLOCK);
    let mut unpacked = vec![0; count];
    match unpack(rest, base, width, &mut unpacked) {
        Err(_) => assert!(width > 64 || packed_words(count, width) > rest.len()),
        Ok(used) => {
            let mut again = vec![0; used];
            assert_eq!(pack(&unpacked, base, width, &mut again), Ok(used));
            let mut twice = vec![0; count];
            assert_eq!(unpack(&again, base, width, &mut twice), Ok(used));
            assert_eq!(unpacked, twice);
        }
    }
});
