//! Memory for books as capture has it.

/// Books are looked up all over: with pages of 4 KiB the processor spends its time in page tables.
/// A refusal costs speed only.
pub fn ask_for_huge_pages(region: &mut [u8]) {
    const PAGE: usize = 4096;
    let skip = region.as_ptr().align_offset(PAGE);
    let Some(aligned) = region.get_mut(skip..) else { return };
    let length = aligned.len() / PAGE * PAGE;
    // SAFETY: `aligned` is memory of our own, exclusively borrowed, from a page boundary on for
    // `length` bytes; the advice changes how it is backed, never its contents.
    let refused =
        unsafe { libc::madvise(aligned.as_mut_ptr().cast(), length, libc::MADV_HUGEPAGE) };
    if refused != 0 {
        println!("no huge pages: {}", std::io::Error::last_os_error());
    }
}
