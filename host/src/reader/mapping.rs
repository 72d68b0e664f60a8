//! A read-only mapping of a segment file. All unsafe code of the host is here.

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;
use wiretape_core::ring::wake::Park;
use wiretape_core::sync::AtomicU64;

/// A file seen as 64-bit atomic words that this process can only read.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and all access goes through
// atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Opens a file of capture's folder to read it. A pipe in its place, whose opening would wait for
/// somebody who writes, is no reason to stand still.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

impl Mapping {
    /// Maps the whole words of `file`.
    ///
    /// A file that someone cuts while it is mapped raises SIGBUS when the missing part is read.
    /// Only its writer may write to it (mode 0640), and capture never cuts a segment.
    pub fn new(file: &File) -> io::Result<Mapping> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let words = length / size_of::<AtomicU64>();
        if words == 0 {
            return Ok(Mapping { base: NonNull::dangling(), words: 0 });
        }
        let (address, bytes) = (std::ptr::null_mut(), words * size_of::<AtomicU64>());
        // SAFETY: a new mapping at an address of the kernel's choice overlaps no memory in use.
        let base = unsafe { mmap(address, bytes, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Mapping { base, words })
    }

    /// The words. Loads only: a store would fault. (`core::sync::atomic`, "Atomic accesses to
    /// read-only memory": loads of at most the machine's word size are allowed.)
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY:
        // - the base is page-aligned (or dangling with length 0) and the words are mapped for as
        //   long as `self` lives;
        // - every bit pattern is a valid `AtomicU64`;
        // - other processes change them with atomic stores only, as `SegmentWriter` does.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.words > 0 {
            let bytes = self.words * size_of::<AtomicU64>();
            // SAFETY: what `mmap` returned, not unmapped before; slices of it borrow from `self`.
            let _ = unsafe { munmap(self.base.as_ptr().cast(), bytes) };
        }
    }
}

/// Sleep on words of mappings that may be read-only: `FUTEX_WAIT` works there.
#[derive(Clone, Copy, Debug)]
pub struct Futex;

impl Park for Futex {
    fn yield_now(&self) {
        std::thread::yield_now();
    }

    fn park(&self, word: &AtomicU64, seen: u32, at_most: Duration) {
        // Little-endian (asserted in core): the low half lies at the word's own address.
        let address: *const u32 = std::ptr::from_ref(word).cast();
        let at_most = libc::timespec {
            tv_sec: at_most.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(at_most.subsec_nanos() as i32),
        };
        let (wait, time) = (libc::FUTEX_WAIT, std::ptr::from_ref(&at_most));
        // SAFETY: `address` is valid, aligned and only read by the kernel; `at_most` lives through
        // the call. The futex is shared between processes, hence no FUTEX_PRIVATE_FLAG.
        unsafe { libc::syscall(libc::SYS_futex, address, wait, seen, time) };
    }
}
