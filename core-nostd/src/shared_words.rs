//! Copies out of and into words that others may access at the same time: each word as by a relaxed
//! load or store.
//!
//! On x86-64 two are loaded at a time, and of batches two are stored at a time: who takes each word by
//! itself waits for its own instructions and not for the lines of the other processor's cache.

use crate::sync::{AtomicU64, Ordering};

/// The words' values.
#[inline(always)]
pub fn load<const N: usize>(words: &[AtomicU64; N]) -> [u64; N] {
    let mut values = [0; N];
    load_into(&mut values, words);
    values
}

/// Copies `words` into `values`, as far as both go.
#[inline(always)]
pub fn load_into(values: &mut [u64], words: &[AtomicU64]) {
    let both = values.len().min(words.len());
    let (values, words) = (values.get_mut(..both), words.get(..both));
    let (pairs, last) = values.unwrap_or(&mut []).as_chunks_mut::<2>();
    let (word_pairs, last_word) = words.unwrap_or(&[]).as_chunks::<2>();
    for (values, words) in pairs.iter_mut().zip(word_pairs) {
        *values = load_pair(words);
    }
    for (value, word) in last.iter_mut().zip(last_word) {
        *value = word.load(Ordering::Relaxed);
    }
}

/// Copies `values` into `words`, as far as both go: the last first.
///
/// Where a stamp in front of the words follows, the line is written in one direction throughout: an
/// EPYC takes a quarter longer for events of which it is not.
#[inline(always)]
pub fn store(words: &[AtomicU64], values: &[u64]) {
    for (word, value) in words.iter().zip(values).rev() {
        word.store(*value, Ordering::Relaxed);
    }
}

/// As [`store`], but two at a time: for values that are at hand in registers, or in memory for long.
#[inline(always)]
pub fn store_in_pairs(words: &[AtomicU64], values: &[u64]) {
    let both = values.len().min(words.len());
    let (values, words) = (values.get(..both), words.get(..both));
    let (first, pairs) = values.unwrap_or(&[]).as_rchunks::<2>();
    let (first_word, word_pairs) = words.unwrap_or(&[]).as_rchunks::<2>();
    for (values, words) in pairs.iter().zip(word_pairs).rev() {
        store_pair(words, values);
    }
    for (value, word) in first.iter().zip(first_word) {
        word.store(*value, Ordering::Relaxed);
    }
}

/// Copies `values`, which lie in memory, into `words`, as far as both go: the first first, for
/// batches of many lines.
///
/// What was only just computed is better left to [`store`]: words that were written singly and are
/// loaded as a pair have to wait for each other.
#[inline(always)]
pub fn store_all(words: &[AtomicU64], values: &[u64]) {
    let both = values.len().min(words.len());
    let (values, words) = (values.get(..both), words.get(..both));
    let (pairs, last) = values.unwrap_or(&[]).as_chunks::<2>();
    let (word_pairs, last_word) = words.unwrap_or(&[]).as_chunks::<2>();
    for (values, words) in pairs.iter().zip(word_pairs) {
        store_pair(words, values);
    }
    for (value, word) in last.iter().zip(last_word) {
        word.store(*value, Ordering::Relaxed);
    }
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
#[inline(always)]
fn store_pair(words: &[AtomicU64; 2], values: &[u64; 2]) {
    let pair: core::arch::x86_64::__m128i = bytemuck::cast(*values);
    // SAFETY: writes the 16 bytes of the reference, which atomics may be written through, by an
    // instruction that every x86-64 has. What another thread does with them meanwhile is no data race:
    // to the compiler this is not an access of its own, and the processor writes each aligned word
    // whole, as a relaxed store does.
    unsafe {
        core::arch::asm!(
            "movdqu [{words}], {pair}",
            pair = in(xmm_reg) pair,
            words = in(reg) words,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
#[inline(always)]
fn store_pair([first, second]: &[AtomicU64; 2], values: &[u64; 2]) {
    first.store(values[0], Ordering::Relaxed);
    second.store(values[1], Ordering::Relaxed);
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
#[inline(always)]
fn load_pair(words: &[AtomicU64; 2]) -> [u64; 2] {
    let pair: core::arch::x86_64::__m128i;
    // SAFETY: reads the 16 bytes of the reference, by an instruction that every x86-64 has. What
    // another thread stores meanwhile is no data race: to the compiler this is not an access of
    // its own, and the processor reads each aligned word whole, old or new, as a relaxed load does.
    unsafe {
        core::arch::asm!(
            "movdqu {pair}, [{words}]",
            pair = lateout(xmm_reg) pair,
            words = in(reg) words,
            options(nostack, preserves_flags, readonly)
        );
    }
    bytemuck::cast(pair)
}

#[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
#[inline(always)]
fn load_pair([first, second]: &[AtomicU64; 2]) -> [u64; 2] {
    [first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn as_much_is_copied_as_both_sides_have() {
        let words: Vec<AtomicU64> = (1..=9).map(AtomicU64::new).collect();
        for start in 0..9 {
            for of in start..=9 {
                for room in 0..=9 {
                    let mut values = [0; 9];
                    load_into(&mut values[..room], &words[start..of]);
                    let copied = room.min(of - start);
                    let expected = (start as u64 + 1..).take(copied);
                    assert!(values[..copied].iter().copied().eq(expected));
                    assert!(values[copied..].iter().all(|value| *value == 0));
                }
            }
        }
        assert_eq!(load(words.first_chunk::<7>().unwrap()), [1, 2, 3, 4, 5, 6, 7]);
        store(&words[1..4], &[20, 30, 40, 50]);
        store(&words[7..], &[80]);
        assert_eq!(load(words.first_chunk::<9>().unwrap()), [1, 20, 30, 40, 5, 6, 7, 80, 9]);
    }

    #[test]
    fn a_batch_fills_what_both_sides_have_and_nothing_else() {
        let values: Vec<u64> = (11..=19).collect();
        for start in 0..9 {
            for of in start..=9 {
                for room in 0..=9 {
                    let mut words: Vec<AtomicU64> = (1..=9).map(AtomicU64::new).collect();
                    store_all(&words[start..of], &values[..room]);
                    let end = start + room.min(of - start);
                    for (at, word) in words.iter_mut().enumerate() {
                        let new = (start..end).contains(&at).then(|| values[at - start]);
                        assert_eq!(*word.get_mut(), new.unwrap_or(at as u64 + 1));
                    }
                }
            }
        }
    }
}
