//! Kernels that begin with whole registers where a cache line does.
//!
//! A load or store of 64 bytes that is not aligned touches two lines and takes twice as long, one
//! of 32 bytes every other time; and columns are rarely aligned, since allocators promise 16 bytes.
//! So the values in front of the first line go one by one: at most 15, of columns long enough
//! for it to matter.

use super::portable;
use crate::prefetch::expect_read;

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;
/// Values from which on it is worth it: those in front cost as much as a few registers.
const LONG: usize = 128;

/// How far ahead of what is read lines are asked for: a page, at whose end the processor's own
/// prefetching stops.
const AHEAD: usize = 4096;

/// Asks for the lines that lie [`AHEAD`] bytes beyond `chunk`, but none beyond `column`, which
/// holds it. Worth it where there is so much to do for each line that those of a column that is in
/// no cache would not come as fast as memory can give them, and where it is other work than what
/// bounds the kernel: masks with AVX-512 read 1.4 times as fast from memory, and those of `i64` no
/// slower from the cache. Sums would as well, but for a quarter of their speed in the cache.
#[inline(always)]
pub(super) fn ask_ahead<T>(column: &[T], chunk: &[T]) {
    let end = column.as_ptr_range().end;
    for line in (0..size_of_val(chunk)).step_by(LINE) {
        expect_read(chunk.as_ptr().wrapping_byte_add(AHEAD + line).min(end).cast());
    }
}

/// How many values of a slice lie in front of the first line.
#[inline(always)]
fn before_line<T>(values: &[T]) -> usize {
    match values.len() < LONG {
        true => 0,
        false => values.as_ptr().align_offset(LINE).min(values.len()),
    }
}

/// The values in front of the first line, and the others.
#[inline(always)]
pub(super) fn split<T>(values: &[T]) -> (&[T], &[T]) {
    values.split_at(before_line(values))
}

/// As [`split`].
#[inline(always)]
pub(super) fn split_mut<T>(values: &mut [T]) -> (&mut [T], &mut [T]) {
    values.split_at_mut(before_line(values))
}

#[inline(always)]
pub(super) fn min_i64(values: &[i64]) -> i64 {
    let (front, values) = split(values);
    portable::min_i64(front).min(portable::min_i64(values))
}

#[inline(always)]
pub(super) fn max_i64(values: &[i64]) -> i64 {
    let (front, values) = split(values);
    portable::max_i64(front).max(portable::max_i64(values))
}

#[inline(always)]
pub(super) fn min_u32(values: &[u32]) -> u32 {
    let (front, values) = split(values);
    portable::min_u32(front).min(portable::min_u32(values))
}

#[inline(always)]
pub(super) fn max_u32(values: &[u32]) -> u32 {
    let (front, values) = split(values);
    portable::max_u32(front).max(portable::max_u32(values))
}

#[inline(always)]
pub(super) fn range(values: &[u64]) -> u64 {
    let (front, values) = split(values);
    portable::range(front) | portable::range(values)
}

#[inline(always)]
pub(super) fn delta(values: &mut [i64], before: i64) {
    let (front, values) = split_mut(values);
    let last = front.last().copied().unwrap_or(before);
    portable::delta(front, before);
    portable::delta(values, last);
}

#[inline(always)]
pub(super) fn zigzag(values: &mut [i64]) {
    let (front, values) = split_mut(values);
    portable::zigzag(front);
    portable::zigzag(values);
}

#[inline(always)]
pub(super) fn unzigzag(values: &mut [i64]) {
    let (front, values) = split_mut(values);
    portable::unzigzag(front);
    portable::unzigzag(values);
}

#[inline(always)]
pub(super) fn multiply_add(values: &mut [i64], factor: i64, summand: i64) {
    let (front, values) = split_mut(values);
    portable::multiply_add(front, factor, summand);
    portable::multiply_add(values, factor, summand);
}
