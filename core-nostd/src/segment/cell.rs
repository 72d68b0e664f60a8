//! A sequence lock over a few words: one writer, readers that never block it.

use crate::shared_words;
use crate::sync::{AtomicU64, Ordering, fence, spin_loop};

/// Attempts of a reader before it gives a cell up as being written for ever.
const READ_ATTEMPTS: u32 = 10_000;
/// Attempts that are always made.
const READ_ATTEMPTS_MIN: u32 = 16;

/// How often a reader that goes through a whole table looks at a cell before it gives it up. A writer
/// dies in the middle of one; where many stay odd the memory is damaged, and a reader that took its
/// time for each would take minutes: after every one that is given up it looks half as often.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    attempts: u32,
}

impl Patience {
    /// That of a reader who has met no such cell yet.
    pub const NEW: Patience = Patience { attempts: READ_ATTEMPTS };
}

/// The words of one cell: a version (odd while it is being written), then `N` values.
///
/// The writer stores an odd version, a release fence, the words (relaxed), the next even version with
/// release. A reader loads the version with acquire, copies the words, and loads the version again behind an
/// acquire fence: unchanged and even, the copy is whole (Boehm, "Can seqlocks get along with
/// programming language memory models?", MSPC 2012).
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use wiretape_core::segment::Cell;
///
/// // In earnest these words are a mapped file, which readers map read-only.
/// let words: [AtomicU64; 3] = Default::default();
/// let bid = Cell::<2>::new(&words).expect("a version and two values");
/// assert_eq!(bid.read(), Ok(None), "never written");
/// std::thread::scope(|scope| {
///     scope.spawn(|| bid.write(&[1_000_500, 300]));
/// });
/// assert_eq!(bid.read(), Ok(Some([1_000_500, 300])));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cell<'m, const N: usize> {
    version: &'m AtomicU64,
    words: &'m [AtomicU64; N],
}

/// The cell stayed odd: its writer died while writing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellBusy;

impl core::fmt::Display for CellBusy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the writer stopped in the middle of this entry")
    }
}

impl core::error::Error for CellBusy {}

impl<'m, const N: usize> Cell<'m, N> {
    /// The cell at the start of `words`; `None` if they are too few.
    #[inline]
    pub fn new(words: &'m [AtomicU64]) -> Option<Self> {
        let (version, words) = words.split_first()?;
        Some(Cell { version, words: words.first_chunk::<N>()? })
    }

    /// Replaces the values. Single writer: the caller sees to it.
    #[inline]
    pub fn write(&self, values: &[u64; N]) {
        self.update(|words| shared_words::store(words, values));
    }

    /// Replaces those values that `change` stores; the others stay. Single writer: the caller sees to
    /// it.
    #[inline(always)]
    pub fn update(&self, change: impl FnOnce(&[AtomicU64; N])) {
        // A predecessor may have died with the version odd.
        let version = self.version.load(Ordering::Relaxed) & !1;
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        change(self.words);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// A consistent copy of the values, `None` if they were never written.
    #[inline]
    pub fn read(&self) -> Result<Option<[u64; N]>, CellBusy> {
        self.read_within(READ_ATTEMPTS)
    }

    /// The same, for who goes through a table.
    pub fn read_patiently(&self, patience: &mut Patience) -> Result<Option<[u64; N]>, CellBusy> {
        let values = self.read_within(patience.attempts);
        if values.is_err() {
            patience.attempts = (patience.attempts / 2).max(READ_ATTEMPTS_MIN);
        }
        values
    }

    #[inline]
    fn read_within(&self, attempts: u32) -> Result<Option<[u64; N]>, CellBusy> {
        for _ in 0..attempts {
            let before = self.version.load(Ordering::Acquire);
            if before == 0 {
                return Ok(None);
            }
            if before & 1 == 0 {
                let values = shared_words::load(self.words);
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == before {
                    return Ok(Some(values));
                }
            }
            spin_loop();
        }
        Err(CellBusy)
    }

    /// The writer's own copy of the values: no other thread writes, so no check is needed.
    #[inline]
    pub fn own(&self) -> [u64; N] {
        shared_words::load(self.words)
    }
}
