//! Self-describing blocks of integers: whichever of plain, delta or delta of delta is smallest,
//! packed at one width, with the few values that need more kept apart.
//!
//! The exceptions are those of patched frame of reference (Zukowski et al., "Super-Scalar RAM-CPU
//! Cache Compression", 2006; Lemire and Boytsov, 2012): one outlier does not widen the block.
//!
//! ```text
//! word 0        kind (8 bits), width (8), number of values (16), number of exceptions (16),
//!               width of the exceptions' high bits (8), zero (8)
//! word 1        base: added to each difference
//! kind words    first value; first delta (as many of these as the kind says)
//! packed        the low bits of the others, as in `packing`
//! exceptions    a stream of bits, lowest first: index (10 bits), high bits
//! ```
//!
//! A decoder of corrupt words returns an error or other values; it never reads outside.

use super::bits::{BitReader, BitWriter};
use super::dispatch::kernels;
use super::packing::{self, BLOCK, PackError, packed_words};
use super::{delta, undelta};

/// Why a block was not encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// A block has at most [`BLOCK`] values.
    TooManyValues {
        /// Values given, or named by the block.
        found: usize,
        /// Values that there is room for.
        expected: usize,
    },
    /// The packed side is too short: the output for this block, or the block itself.
    TooFewWords {
        /// Words given.
        found: usize,
        /// Words needed, as far as is known.
        expected: usize,
    },
    /// Word 0 is not that of a block.
    Header {
        /// Word 0.
        found: u64,
    },
    /// An exception names a value that the block does not have.
    Exception {
        /// The index named.
        found: u64,
    },
}

impl core::fmt::Display for BlockError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BlockError::TooManyValues { found, expected } => {
                write!(f, "packing a block: {found} values, room for {expected}")
            }
            BlockError::TooFewWords { found, expected } => {
                write!(f, "packing a block: {found} words given, {expected} needed")
            }
            BlockError::Header { found } => {
                write!(f, "unpacking a block: it does not begin with a header but {found:#018x}")
            }
            BlockError::Exception { found } => {
                write!(f, "unpacking a block: an exception at {found}, behind the last value")
            }
        }
    }
}

impl core::error::Error for BlockError {}

impl From<PackError> for BlockError {
    fn from(error: PackError) -> BlockError {
        match error {
            PackError::Width { found } => BlockError::Header { found: found.into() },
            PackError::TooFewWords { found, expected } => {
                BlockError::TooFewWords { found, expected }
            }
        }
    }
}

/// How often differences are taken: the kinds of block.
const KINDS: usize = 3;
/// Bits of an exception's index.
const INDEX_BITS: u32 = BLOCK.ilog2();

/// Words that are enough for a block of `count` values.
pub const fn words_max(count: usize) -> usize {
    packed_words(count, 64).saturating_add(2)
}

/// A way to write a block.
#[derive(Clone, Copy)]
struct Plan {
    kind: usize,
    base: i64,
    width: u32,
    exceptions: usize,
    high_width: u32,
    words: usize,
}

impl Plan {
    /// The smallest way for differences of one kind from `base`.
    fn of(kind: usize, differences: &[i64], base: i64) -> Plan {
        let mut of_width = [0u16; 65];
        for difference in differences {
            let bits = 64 - (difference.wrapping_sub(base) as u64).leading_zeros();
            if let Some(count) = of_width.get_mut(bits as usize) {
                *count += 1;
            }
        }
        let widest = of_width.iter().rposition(|count| *count != 0).unwrap_or(0) as u32;
        let mut best =
            Plan { kind, base, width: 0, exceptions: 0, high_width: 0, words: usize::MAX };
        let mut exceptions = 0;
        for width in (0..=widest).rev() {
            let high_width = if exceptions == 0 { 0 } else { widest - width };
            let patch = exceptions * (INDEX_BITS + high_width) as usize;
            let words = 2 + kind + packed_words(differences.len(), width) + patch.div_ceil(64);
            if words < best.words {
                best = Plan { kind, base, width, exceptions, high_width, words };
            }
            exceptions += usize::from(of_width.get(width as usize).copied().unwrap_or(0));
        }
        best
    }
}

/// Writes `values`, at most [`BLOCK`], to `words`; [`words_max`] are enough. Returns the words
/// used.
///
/// ```
/// use wiretape_core::simd::{block, packing::BLOCK};
///
/// let times: Vec<i64> = (0..BLOCK as i64).map(|i| 1_700_000_000 + i * 250 + i % 3).collect();
/// let mut words = vec![0; block::words_max(BLOCK)];
/// let used = block::encode(&times, &mut words).unwrap();
/// assert!(used * 8 < 600, "half a byte a value");
///
/// let mut decoded = vec![0; BLOCK];
/// assert_eq!(block::decode(&words[..used], &mut decoded), Ok((BLOCK, used)));
/// assert_eq!(decoded, times);
/// ```
pub fn encode(values: &[i64], words: &mut [u64]) -> Result<usize, BlockError> {
    if values.len() > BLOCK {
        return Err(BlockError::TooManyValues { found: values.len(), expected: BLOCK });
    }
    let mut scratch = [0i64; BLOCK];
    let mut best: Option<Plan> = None;
    for kind in 0..KINDS.min(values.len().max(1)) {
        let differences = differences_of(values, kind, &mut scratch);
        let least = (kernels().min_i64)(differences);
        // Where a few are far below the others, they can be the exceptions.
        for base in [least, 0].into_iter().take(if least < 0 { 2 } else { 1 }) {
            let plan = Plan::of(kind, differences, if differences.is_empty() { 0 } else { base });
            if best.is_none_or(|best| plan.words < best.words) {
                best = Some(plan);
            }
        }
    }
    let Some(plan) = best else { return Err(BlockError::Header { found: 0 }) };
    let found = words.len();
    let too_short = BlockError::TooFewWords { found, expected: plan.words };
    let words = words.get_mut(..plan.words).ok_or(too_short)?;
    write(values, plan, &mut scratch, words).ok_or(too_short)
}

/// The differences of `kind`: all but the first `kind` of what taking deltas so often gives.
fn differences_of<'s>(values: &[i64], kind: usize, scratch: &'s mut [i64; BLOCK]) -> &'s mut [i64] {
    let Some(differences) = scratch.get_mut(..values.len()) else { return &mut [] };
    differences.copy_from_slice(values);
    for taken in 0..kind {
        if let Some(rest) = differences.get_mut(taken..) {
            delta(rest, 0);
        }
    }
    differences.get_mut(kind..).unwrap_or(&mut [])
}

fn write(
    values: &[i64],
    plan: Plan,
    scratch: &mut [i64; BLOCK],
    words: &mut [u64],
) -> Option<usize> {
    let header = plan.kind as u64
        | u64::from(plan.width) << 8
        | (values.len() as u64) << 16
        | (plan.exceptions as u64) << 32
        | u64::from(plan.high_width) << 48;
    let (head, rest) = words.split_at_mut_checked(2 + plan.kind)?;
    let differences = &*differences_of(values, plan.kind, scratch);
    for (word, value) in head.iter_mut().zip([header, plan.base as u64]) {
        *word = value;
    }
    // The first value; the first delta.
    let mut first = values.first().copied();
    for word in head.iter_mut().skip(2) {
        *word = first? as u64;
        first = values.get(1).zip(first).map(|(second, first)| second.wrapping_sub(first));
    }
    let packed =
        packing::pack(bytemuck::cast_slice(differences), plan.base as u64, plan.width, rest)
            .ok()?;
    let mut exceptions = BitWriter::new(rest.get_mut(packed..)?);
    if plan.exceptions > 0 {
        for (index, difference) in differences.iter().enumerate() {
            let high = (difference.wrapping_sub(plan.base) as u64).checked_shr(plan.width)?;
            if high != 0 {
                exceptions.put(index as u64, INDEX_BITS)?;
                exceptions.put(high, plan.high_width)?;
            }
        }
    }
    Some(2 + plan.kind + packed + exceptions.finish()?)
}

/// Reads the block at the start of `words` into the start of `values`. Returns the values and the
/// words read.
pub fn decode(words: &[u64], values: &mut [i64]) -> Result<(usize, usize), BlockError> {
    let too_short = |expected| BlockError::TooFewWords { found: words.len(), expected };
    let [header, base, ..] = *words else { return Err(too_short(2)) };
    let [kind, width, ..] = header.to_le_bytes();
    let (kind, width) = (usize::from(kind), u32::from(width));
    let (count, exceptions) = ((header >> 16) as u16 as usize, (header >> 32) as u16 as usize);
    let high_width = (header >> 48) as u32;
    if kind >= KINDS
        || width > 64
        || count > BLOCK
        || count < kind
        || exceptions > count - kind
        || width + high_width > 64
        || (exceptions > 0 && width == 64)
    {
        return Err(BlockError::Header { found: header });
    }
    let expected = values.len();
    let too_many = BlockError::TooManyValues { found: count, expected };
    let values = values.get_mut(..count).ok_or(too_many)?;
    let rest = words.get(2 + kind..).ok_or(too_short(2 + kind))?;
    let (firsts, differences) = values.split_at_mut(kind);
    let packed = packing::unpack(rest, base, width, bytemuck::cast_slice_mut(differences))?;
    let mut patch = BitReader::new(rest.get(packed..).unwrap_or(&[]));
    for _ in 0..exceptions {
        let index = patch.take(INDEX_BITS).ok_or(too_short(2 + kind + packed + 1))?;
        let high = patch.take(high_width).ok_or(too_short(2 + kind + packed + 1))?;
        let difference =
            differences.get_mut(index as usize).ok_or(BlockError::Exception { found: index })?;
        *difference = difference.wrapping_add((high << width) as i64);
    }
    for (first, word) in firsts.iter_mut().zip(words.iter().skip(2)) {
        *first = *word as i64;
    }
    // From the innermost difference outwards, each summed onto its first.
    for level in (0..kind).rev() {
        if let Some(rest) = values.get_mut(level..) {
            undelta(rest, 0);
        }
    }
    Ok((count, 2 + kind + packed + patch.words_read()))
}
