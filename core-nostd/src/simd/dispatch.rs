//! The one place where it is decided which code runs.

use super::{Compare, portable};

/// One kernel of each kind. A table is only handed out where its instructions exist.
#[doc(hidden)]
#[allow(missing_docs, reason = "the functions of `simd` with the same names say it")]
#[derive(Debug)]
pub struct Kernels {
    pub sum_i64: fn(&[i64]) -> i128,
    pub min_i64: fn(&[i64]) -> i64,
    pub max_i64: fn(&[i64]) -> i64,
    pub sum_u32: fn(&[u32]) -> u64,
    pub min_u32: fn(&[u32]) -> u32,
    pub max_u32: fn(&[u32]) -> u32,
    pub sum_f64: fn(&[f64]) -> f64,
    pub min_f64: fn(&[f64]) -> f64,
    pub max_f64: fn(&[f64]) -> f64,
    pub notional: fn(&[i64], &[u32]) -> i128,
    pub mask_i64: fn(&[i64], Compare, i64, &mut [u64]) -> usize,
    pub mask_u32: fn(&[u32], Compare, u32, &mut [u64]) -> usize,
    pub lower_bound_i64: fn(&[i64], i64) -> usize,
    pub delta: fn(&mut [i64], i64),
    pub undelta: fn(&mut [i64], i64),
    pub zigzag: fn(&mut [i64]),
    pub unzigzag: fn(&mut [i64]),
    pub multiply_add: fn(&mut [i64], i64, i64),
    pub range: fn(&[u64]) -> u64,
    pub pack: fn(&[u64], u64, u32, &mut [u64]),
    pub unpack: fn(&[u64], u64, u32, &mut [u64]),
}

/// The table of a module that has a function of the right name for each kernel.
macro_rules! table {
    ($module:ident) => {
        $crate::simd::dispatch::Kernels {
            sum_i64: $module::sum_i64,
            min_i64: $module::min_i64,
            max_i64: $module::max_i64,
            sum_u32: $module::sum_u32,
            min_u32: $module::min_u32,
            max_u32: $module::max_u32,
            sum_f64: $module::sum_f64,
            min_f64: $module::min_f64,
            max_f64: $module::max_f64,
            notional: $module::notional,
            mask_i64: $module::mask_i64,
            mask_u32: $module::mask_u32,
            lower_bound_i64: $module::lower_bound_i64,
            delta: $module::delta,
            undelta: $module::undelta,
            zigzag: $module::zigzag,
            unzigzag: $module::unzigzag,
            multiply_add: $module::multiply_add,
            range: $module::range,
            pack: $module::pack,
            unpack: $module::unpack,
        }
    };
}

/// Compiles kernels once more, for instructions that the target does not promise:
/// `compiled!("features" => path { fn name(args) -> result; ... })` makes a safe function for
/// each, which calls `path::name` inlined into a function with these features.
macro_rules! compiled {
    ($features:literal => $from:ident {
        $(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*
    }) => {$(
        pub(super) fn $name($($arg: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn with_features($($arg: $type),*) $(-> $result)? {
                $from::$name($($arg),*)
            }
            // SAFETY: `dispatch::kernels` hands these functions out only after CPUID and XGETBV
            // said that the processor and the system have the features.
            unsafe { with_features($($arg),*) }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
pub(super) use compiled;

static PORTABLE: Kernels = table!(portable);
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = {
    use super::avx2;
    table!(avx2)
};
#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = {
    use super::avx512;
    table!(avx512)
};
#[cfg(target_arch = "x86_64")]
static AVX512_IFMA: Kernels = {
    use super::{avx512, ifma};
    Kernels { notional: ifma::notional, ..table!(avx512) }
};

#[cfg(target_arch = "x86_64")]
cpufeatures::new!(has_avx2, "avx2", "bmi1", "bmi2", "popcnt");
#[cfg(target_arch = "x86_64")]
cpufeatures::new!(
    has_avx512, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "bmi1", "bmi2", "popcnt"
);
#[cfg(target_arch = "x86_64")]
cpufeatures::new!(has_ifma, "avx512ifma");

/// The instructions that kernels may use, in ascending order.
///
/// ```
/// use wiretape_core::simd::{Level, level};
///
/// let kernels = match level() {
///     Level::Portable => "portable code",
///     Level::Avx2 => "AVX2",
///     Level::Avx512 | Level::Avx512Ifma => "AVX-512",
/// };
/// println!("sums run on {kernels}");
/// assert!(level() >= Level::Portable);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Those of the compilation target.
    Portable,
    /// AVX2, BMI1, BMI2 and POPCNT.
    Avx2,
    /// AVX-512 F, BW, DQ and VL as well.
    Avx512,
    /// AVX-512 IFMA as well: Ice Lake, Zen 4 and what came after.
    Avx512Ifma,
}

/// What this processor and system have. Once given, the answer does not change.
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512::get() {
            return if has_ifma::get() { Level::Avx512Ifma } else { Level::Avx512 };
        }
        if has_avx2::get() {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// The kernels for `level()`.
#[inline]
pub(super) fn kernels() -> &'static Kernels {
    table_of(level())
}

/// The kernels for a given level, if this machine has it: for tests and benchmarks, which compare
/// the levels. What the public functions check is not checked here.
#[doc(hidden)]
pub fn kernels_of(wanted: Level) -> Option<&'static Kernels> {
    (wanted <= level()).then_some(table_of(wanted))
}

#[inline]
fn table_of(level: Level) -> &'static Kernels {
    match level {
        Level::Portable => &PORTABLE,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => &AVX2,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => &AVX512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Ifma => &AVX512_IFMA,
        #[cfg(not(target_arch = "x86_64"))]
        _ => &PORTABLE,
    }
}
