//! Asking for cache lines before they are needed. Hints: nothing is accessed, any address will do.

/// Asks for the cache line at `address`, to write to it.
#[inline(always)]
pub fn expect_write(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // SAFETY: a prefetch changes no memory, no register and no flag, and does not fault. The
    // intrinsic is no help: without a target feature it gives up the intent to write, which is
    // the point. Processors that lack the instruction run it as a no-op.
    unsafe {
        core::arch::asm!(
            "prefetchw [{}]",
            in(reg) address.addr(),
            options(nomem, nostack, preserves_flags)
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = address;
}

/// Asks for the cache line at `address`, to read it.
#[inline(always)]
pub fn expect_read(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch does not fault, whatever the address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = address;
}
