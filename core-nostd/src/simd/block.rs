//! Self-describing blocks of integers: whichever of plain, delta or delta of delta is smallest,
//! packed at one width, with the few values that need more kept apart.
//!
//! The exceptions are those of patched frame of reference (Zukowski et al., "Super-Scalar RAM-CPU
//! Cache Compression", 2006; Lemire and Boytsov, 2012): one outlier does not widen the block.
//!
//! ```text
//! word 0        kind (8 bits), width (8), number of values (16), number of exceptions (16),
//!               width of the exceptions' high bits (8), 1 if scaled, else 0 (8)
//! word 1        base: added to each difference
//! if scaled     scale and origin: each value is the origin and a multiple of the scale (prices
//!               on a tick grid), and what follows are the multiples
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
            PackError::TooManyValues { found, expected } => {
                BlockError::TooManyValues { found, expected }
            }
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
    grid: Option<Grid>,
    kind: usize,
    base: i64,
    width: u32,
    exceptions: usize,
    high_width: u32,
    /// Words behind those of the header.
    body: usize,
}

impl Plan {
    /// The smallest way for `values`.
    fn best(values: &[i64], scratch: &mut [i64; BLOCK]) -> Plan {
        let mut best = Plan::of(0, values, (kernels().min_i64)(values));
        for kind in 0..KINDS.min(values.len()) {
            let differences = differences_of(values, kind, scratch);
            let least = (kernels().min_i64)(differences);
            // Where a few are far below the others, they can be the exceptions.
            for base in [least, 0].into_iter().take(if least < 0 { 2 } else { 1 }) {
                let plan = Plan::of(kind, differences, base);
                if plan.words() < best.words() {
                    best = plan;
                }
            }
        }
        best
    }

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
        let plain = Plan {
            grid: None,
            kind,
            base,
            width: widest,
            exceptions: 0,
            high_width: 0,
            body: packed_words(differences.len(), widest),
        };
        let (mut best, mut exceptions) = (plain, 0);
        for width in (0..widest).rev() {
            exceptions += usize::from(of_width.get(width as usize + 1).copied().unwrap_or(0));
            let high_width = widest - width;
            let patch = exceptions * (INDEX_BITS + high_width) as usize;
            let body = packed_words(differences.len(), width) + patch.div_ceil(64);
            if body < best.body {
                best = Plan { width, exceptions, high_width, body, ..plain };
            }
        }
        best
    }

    fn head(&self) -> usize {
        2 + self.kind + if self.grid.is_some() { 2 } else { 0 }
    }

    fn words(&self) -> usize {
        self.head() + self.body
    }

    /// Writes the block of `values`, which are the multiples if there is a grid.
    fn write(
        self,
        values: &[i64],
        scratch: &mut [i64; BLOCK],
        words: &mut [u64],
    ) -> Result<usize, BlockError> {
        let too_few = BlockError::TooFewWords { found: words.len(), expected: self.words() };
        let words = words.get_mut(..self.words()).ok_or(too_few)?;
        let (head, body) = words.split_at_mut_checked(self.head()).ok_or(too_few)?;
        let differences = &*differences_of(values, self.kind, scratch);
        self.write_head(values, head);
        let packed =
            packing::pack(bytemuck::cast_slice(differences), self.base as u64, self.width, body)?;
        let mut exceptions = BitWriter::new(body.get_mut(packed..).unwrap_or(&mut []));
        for (index, difference) in differences.iter().enumerate() {
            let offset = difference.wrapping_sub(self.base) as u64;
            let high = offset.checked_shr(self.width).unwrap_or(0);
            if high != 0 {
                exceptions.put(index as u64, INDEX_BITS).ok_or(too_few)?;
                exceptions.put(high, self.high_width).ok_or(too_few)?;
            }
        }
        exceptions.finish().ok_or(too_few)?;
        Ok(self.words())
    }

    fn write_head(&self, values: &[i64], head: &mut [u64]) {
        let header = self.kind as u64
            | u64::from(self.width) << 8
            | (values.len() as u64) << 16
            | (self.exceptions as u64) << 32
            | u64::from(self.high_width) << 48
            | u64::from(self.grid.is_some()) << 56;
        let grid = self.grid.map(|grid| [grid.scale, grid.origin as u64]);
        let first = values.first().copied().unwrap_or(0);
        let delta = values.get(1).copied().unwrap_or(0).wrapping_sub(first);
        let all = [header, self.base as u64]
            .into_iter()
            .chain(grid.into_iter().flatten())
            .chain([first as u64, delta as u64]);
        for (word, value) in head.iter_mut().zip(all) {
            *word = value;
        }
    }
}

/// Writes `values`, at most [`BLOCK`], to `words`; [`words_max`] are enough. Returns the words
/// used.
///
/// # Errors
/// [`BlockError`]: too many values, or too few words. Nothing was written.
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
    let plan = Plan::best(values, &mut scratch);
    let mut multiples = [0i64; BLOCK];
    if let Some(grid) = Grid::of(values)
        && let Some(multiples) = multiples.get_mut(..values.len())
    {
        grid.divide(values, multiples);
        let scaled = Plan { grid: Some(grid), ..Plan::best(multiples, &mut scratch) };
        if scaled.words() < plan.words() {
            return scaled.write(multiples, &mut scratch, words);
        }
    }
    plan.write(values, &mut scratch, words)
}

/// Numbers that all values are on.
#[derive(Clone, Copy)]
struct Grid {
    scale: u64,
    origin: i64,
}

impl Grid {
    /// The coarsest; `None` if there is none but all integers.
    fn of(values: &[i64]) -> Option<Grid> {
        let origin = (kernels().min_i64)(values);
        let mut scale = 0u64;
        for value in values {
            let (mut left, mut right) = (value.wrapping_sub(origin) as u64, scale);
            // Euclid's.
            while let Some(rest) = left.checked_rem(right) {
                (left, right) = (right, rest);
            }
            scale = left;
            if scale == 1 {
                return None;
            }
        }
        (scale > 1).then_some(Grid { scale, origin })
    }

    fn divide(self, values: &[i64], multiples: &mut [i64]) {
        for (multiple, value) in multiples.iter_mut().zip(values) {
            let above = value.wrapping_sub(self.origin) as u64;
            *multiple = above.checked_div(self.scale).unwrap_or(0) as i64;
        }
    }
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

/// Reads the block at the start of `words` into the start of `values`. Returns the values and the
/// words read.
///
/// # Errors
/// [`BlockError`]: no block, not all of it, or no room for its values, some of which may have been
/// written.
pub fn decode(words: &[u64], values: &mut [i64]) -> Result<(usize, usize), BlockError> {
    let head = Head::of(words)?;
    let Head { kind, base, width, count, exceptions, high_width, grid } = head;
    let too_short = |expected| BlockError::TooFewWords { found: words.len(), expected };
    let expected = values.len();
    let too_many = BlockError::TooManyValues { found: count, expected };
    let values = values.get_mut(..count).ok_or(too_many)?;
    let start = if grid.is_some() { 4 } else { 2 };
    let rest = words.get(start + kind..).ok_or(too_short(start + kind))?;
    let (firsts, differences) = values.split_at_mut(kind);
    let packed = packing::unpack(rest, base, width, bytemuck::cast_slice_mut(differences))?;
    let mut patch = BitReader::new(rest.get(packed..).unwrap_or(&[]));
    for _ in 0..exceptions {
        let index = patch.take(INDEX_BITS).ok_or(too_short(start + kind + packed + 1))?;
        let high = patch.take(high_width).ok_or(too_short(start + kind + packed + 1))?;
        let difference =
            differences.get_mut(index as usize).ok_or(BlockError::Exception { found: index })?;
        *difference = difference.wrapping_add((high << width) as i64);
    }
    for (first, word) in firsts.iter_mut().zip(words.iter().skip(start)) {
        *first = *word as i64;
    }
    // From the innermost difference outwards, each summed onto its first.
    for level in (0..kind).rev() {
        if let Some(rest) = values.get_mut(level..) {
            undelta(rest, 0);
        }
    }
    if let Some(grid) = grid {
        (kernels().multiply_add)(values, grid.scale as i64, grid.origin);
    }
    Ok((count, start + kind + packed + patch.words_read()))
}

/// The first words of a block, checked for what makes no sense.
struct Head {
    kind: usize,
    base: u64,
    width: u32,
    count: usize,
    exceptions: usize,
    high_width: u32,
    grid: Option<Grid>,
}

impl Head {
    fn of(words: &[u64]) -> Result<Head, BlockError> {
        let too_short = |expected| BlockError::TooFewWords { found: words.len(), expected };
        let [header, base, ..] = *words else { return Err(too_short(2)) };
        let [kind, width, _, _, _, _, high_width, scaled] = header.to_le_bytes();
        let grid = match (scaled, words) {
            (0, _) => None,
            (1, [_, _, scale, origin, ..]) => Some(Grid { scale: *scale, origin: *origin as i64 }),
            (1, _) => return Err(too_short(4)),
            _ => return Err(BlockError::Header { found: header }),
        };
        let head = Head {
            kind: kind.into(),
            base,
            width: width.into(),
            count: (header >> 16) as u16 as usize,
            exceptions: (header >> 32) as u16 as usize,
            high_width: high_width.into(),
            grid,
        };
        let sound = head.kind < KINDS
            && head.kind <= head.count
            && head.count <= BLOCK
            && head.exceptions <= head.count - head.kind
            && head.width + head.high_width <= 64
            && (head.exceptions == 0 || head.width < 64);
        if sound { Ok(head) } else { Err(BlockError::Header { found: header }) }
    }
}
