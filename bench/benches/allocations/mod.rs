//! The system's allocator, with a count of what each thread asks of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Threads whose numbers are equal modulo this share a count.
const COUNTS: usize = 1 << 12;
static COUNT: [AtomicU64; COUNTS] = [const { AtomicU64::new(0) }; COUNTS];

thread_local! {
    /// The thread's number; 0 until it asks for memory.
    static THREAD: Cell<u32> = const { Cell::new(0) };
}

/// How often thread `thread` asked for memory.
pub fn of(thread: u32) -> u64 {
    COUNT[thread as usize % COUNTS].load(Ordering::Relaxed)
}

fn count() {
    // A thread that ends may have no cell any more; what it asks for then is not counted.
    let thread = THREAD.try_with(|cell| {
        if cell.get() == 0 {
            cell.set(rustix::thread::gettid().as_raw_nonzero().get() as u32);
        }
        cell.get()
    });
    if let Ok(thread) = thread {
        COUNT[thread as usize % COUNTS].fetch_add(1, Ordering::Relaxed);
    }
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what alloc asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what alloc_zeroed asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what realloc asks for.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what dealloc asks for.
        unsafe { System.dealloc(memory, layout) }
    }
}
