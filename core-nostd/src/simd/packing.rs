//! Frame-of-reference bit packing, in blocks of up to [`BLOCK`] values of any width from 0 to 64.
//!
//! Frame of reference: only the difference of each value from a base is stored (Goldstein,
//! Ramakrishnan and Shaft, "Compressing Relations and Indexes", 1998). The layout is vertical, as
//! in Lemire and Boytsov, "Decoding billions of integers per second through vectorization"
//! (2012), with 16 lanes of 64 bits, the arrangement of FastLanes (Afroozeh and Boncz, 2023):
//!
//! ```text
//!              lane 0        lane 1       ...    lane 15
//! row 0        value 0       value 1             value 15        each lane is a stream of bits,
//! row 1        value 16      value 17            value 31        lowest first; word k of lane l
//! ...                                                            is packed[16 * k + l]
//! ```
//!
//! All lanes shift by the same amount at the same time, so one loop serves every width and every
//! size of register. The last row may be short; its lanes are filled up with zero bits, so a
//! block takes a multiple of 16 words.

use super::dispatch::kernels;

/// Values of a whole block.
pub const BLOCK: usize = 1024;

/// Values that are packed side by side.
pub(super) const LANES: usize = 16;

/// Why nothing was packed or unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackError {
    /// A value has at most 64 bits.
    Width {
        /// The width asked for.
        found: u32,
    },
    /// The packed side is too short.
    TooFewWords {
        /// Words given.
        found: usize,
        /// Words needed.
        expected: usize,
    },
    /// A lane would have 2^32 bits or more.
    TooManyValues {
        /// Values given.
        found: usize,
        /// Values of that width that there can be.
        expected: usize,
    },
}

impl core::fmt::Display for PackError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            PackError::Width { found } => {
                write!(f, "packing integers: a width of {found} bits, at most 64 are possible")
            }
            PackError::TooFewWords { found, expected } => {
                write!(f, "packing integers: {found} packed words given, {expected} needed")
            }
            PackError::TooManyValues { found, expected } => {
                write!(
                    f,
                    "packing integers: {found} values at once, of this width there can be \
                     {expected}; pack them in blocks of {BLOCK}"
                )
            }
        }
    }
}

impl core::error::Error for PackError {}

/// Words that `count` values of `width` bits take.
pub const fn packed_words(count: usize, width: u32) -> usize {
    let bits = count.div_ceil(LANES).saturating_mul(width as usize);
    bits.div_ceil(64).saturating_mul(LANES)
}

/// Bits that the largest of `values` needs: 0 if all are zero.
pub fn width_of(values: &[u64]) -> u32 {
    64 - (kernels().range)(values).leading_zeros()
}

/// Packs `width` bits of the (wrapping) difference of each value from `base`; higher bits are
/// dropped. Returns the words written. More values than a [`BLOCK`] make longer lanes.
///
/// # Errors
/// [`PackError`]: a width above 64, fewer words than [`packed_words`], or lanes of 2^32 bits and more.
/// Nothing was written.
///
/// ```
/// use wiretape_core::simd::packing;
///
/// let times: Vec<u64> = (0..1024).map(|i| 1_700_000_000_000 + i * 3).collect();
/// let base = times[0];
/// let width = 64 - (times[1023] - base).leading_zeros();
/// let mut packed = vec![0; packing::packed_words(times.len(), width)];
/// assert_eq!(packing::pack(&times, base, width, &mut packed), Ok(12 * 16));
///
/// let mut unpacked = [0; 1024];
/// packing::unpack(&packed, base, width, &mut unpacked).unwrap();
/// assert_eq!(unpacked[..], times[..]);
/// ```
pub fn pack(values: &[u64], base: u64, width: u32, packed: &mut [u64]) -> Result<usize, PackError> {
    let expected = checked_words(values.len(), width)?;
    let found = packed.len();
    let packed = packed.get_mut(..expected).ok_or(PackError::TooFewWords { found, expected })?;
    (kernels().pack)(values, base, width, packed);
    Ok(expected)
}

/// Fills `values` from `packed`, adding `base` (wrapping) to each. Returns the words read. Any
/// words are a valid packing of something.
///
/// # Errors
/// As [`pack`].
pub fn unpack(
    packed: &[u64],
    base: u64,
    width: u32,
    values: &mut [u64],
) -> Result<usize, PackError> {
    let expected = checked_words(values.len(), width)?;
    let found = packed.len();
    let packed = packed.get(..expected).ok_or(PackError::TooFewWords { found, expected })?;
    (kernels().unpack)(packed, base, width, values);
    Ok(expected)
}

/// Bits of a lane are counted in 32 bits.
pub(super) fn checked_words(count: usize, width: u32) -> Result<usize, PackError> {
    if width > 64 {
        return Err(PackError::Width { found: width });
    }
    let rows = u32::MAX.checked_div(width).unwrap_or(u32::MAX) as usize;
    let expected = rows.saturating_mul(LANES);
    match count <= expected {
        true => Ok(packed_words(count, width)),
        false => Err(PackError::TooManyValues { found: count, expected }),
    }
}
