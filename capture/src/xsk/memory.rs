//! Shared mappings: the memory of a UMEM, and the kernel's rings.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr::NonNull;

const HUGE_PAGE: usize = 2 << 20;
const NAME: &CStr = c"wiretape-umem";

/// Whether the memory of a UMEM should sit on 2 MiB pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Ordinary pages.
    #[default]
    Off,
    /// Huge pages where the system has some reserved (`vm.nr_hugepages`), else ordinary ones.
    Try,
}

/// Why memory for a UMEM could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {len} bytes of packet memory: {source}")]
pub struct MemoryError {
    doing: &'static str,
    len: usize,
    source: io::Error,
}

/// A shared mapping that lasts until it is dropped.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
    file: Option<File>,
    huge: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread; nothing in it depends on which
// thread unmaps it.
unsafe impl Send for Memory {}

impl Memory {
    /// Memory of at least `len` bytes in a memory file, so that another process can map the same
    /// frames read-only. Huge pages fall back to ordinary ones.
    pub fn memfd(len: usize, huge: HugePages) -> Result<Memory, MemoryError> {
        if huge == HugePages::Try
            && let Ok(memory) = Memory::memfd_with(len.next_multiple_of(HUGE_PAGE), true)
        {
            return Ok(memory);
        }
        Memory::memfd_with(len, false)
    }

    fn memfd_with(len: usize, huge: bool) -> Result<Memory, MemoryError> {
        let fail = |doing| move |source| MemoryError { doing, len, source };
        let flags = libc::MFD_CLOEXEC | if huge { libc::MFD_HUGETLB } else { 0 };
        // SAFETY: the name is NUL-terminated; the call keeps no reference to it.
        let fd = unsafe { libc::memfd_create(NAME.as_ptr(), flags) };
        if fd < 0 {
            return Err(fail("create a memory file of")(io::Error::last_os_error()));
        }
        // SAFETY: `fd` is a new descriptor that nobody else owns.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(len as u64).map_err(fail("reserve"))?;
        let mut memory = Memory::map(fd, len, 0).map_err(fail("map"))?;
        memory.file = Some(file);
        memory.huge = huge;
        Ok(memory)
    }

    /// `len` bytes of `file` from `offset` (a multiple of the page size) on.
    pub fn of_file(file: &File, offset: usize, len: usize) -> Result<Memory, MemoryError> {
        Memory::map(file.as_raw_fd(), len, offset as i64).map_err(|source| MemoryError {
            doing: "map",
            len,
            source,
        })
    }

    /// Maps `len` bytes of `fd` from `offset` on, shared, readable and writable, all pages present.
    pub(super) fn map(fd: RawFd, len: usize, offset: i64) -> io::Result<Memory> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps no memory in use.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd,
                offset,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Memory { base, len, file: None, huge: false })
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length of the mapping in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it sits on huge pages.
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// The memory file behind it, to be handed to a process that wants to map the same frames.
    pub fn file(&self) -> Option<RawFd> {
        self.file.as_ref().map(AsRawFd::as_raw_fd)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what mmap returned, and whoever holds pointers into the
        // mapping (ring, UMEM) owns this value and is dropped with it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
