//! What a program needs where there is no operating-system library: a start, four system calls,
//! and the memory functions that the compiler takes for granted. x86-64 Linux.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

use core::arch::{asm, global_asm};
use core::sync::atomic::AtomicU64;

// The stack is aligned as the ABI wants it; nothing else is set up.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym start
);

unsafe extern "Rust" {
    /// Each program's own; returns its exit status.
    safe fn run() -> i32;
}

extern "C" fn start() -> ! {
    exit(run())
}

const READ: usize = 0;
const WRITE: usize = 1;
const MMAP: usize = 9;
const EXIT_GROUP: usize = 231;

/// # Safety
/// As the system call `number` with these arguments.
unsafe fn system_call(number: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the registers are those of the x86-64 Linux system call; the rest is the caller's
    // promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Ends the program.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: ends the process; no memory is involved.
        unsafe { system_call(EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Reads from standard input until `buffer` is full or there is no more; returns the bytes read.
pub fn read_fully(buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while let Some(left @ [_, ..]) = buffer.get_mut(filled..) {
        let arguments = [0, left.as_mut_ptr().addr(), left.len(), 0, 0, 0];
        // SAFETY: the kernel writes at most `left.len()` bytes to `left`.
        let count = unsafe { system_call(READ, arguments) };
        match usize::try_from(count) {
            Ok(count @ 1..) => filled = filled.wrapping_add(count),
            _ => break,
        }
    }
    filled
}

/// Writes to standard output.
pub fn write(bytes: &[u8]) {
    // SAFETY: the kernel reads `bytes`.
    unsafe { system_call(WRITE, [1, bytes.as_ptr().addr(), bytes.len(), 0, 0, 0]) };
}

/// Zeroed memory for the rest of the program's life; empty if the kernel has none.
pub fn memory(bytes: usize) -> &'static mut [u8] {
    const READ_WRITE: usize = 1 | 2;
    const PRIVATE_ANONYMOUS: usize = 2 | 0x20;
    let arguments = [0, bytes, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0];
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that is
    // in use.
    let address = unsafe { system_call(MMAP, arguments) };
    match usize::try_from(address) {
        // SAFETY: the mapping is `bytes` long, zeroed, nobody else's, and is never unmapped.
        Ok(address) => unsafe {
            core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(address), bytes)
        },
        Err(_) => &mut [],
    }
}

/// The same as words.
pub fn words(count: usize) -> &'static [AtomicU64] {
    let bytes = memory(count.saturating_mul(8));
    // SAFETY: a page is aligned for words, any bytes are words, and the slice was exclusive.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 8) }
}

// The compiler turns copies and comparisons into calls of these. They are in assembly, so that it
// cannot turn their bodies into calls of themselves.
global_asm!(
    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".globl memmove",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "mov r8, rdi",
    "sub r8, rsi",
    "cmp r8, rdx",
    "jb 2f",
    "rep movsb",
    "ret",
    "2:",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".globl memcmp",
    ".globl bcmp",
    "memcmp:",
    "bcmp:",
    "xor eax, eax",
    "mov rcx, rdx",
    "test rcx, rcx",
    "je 2f",
    "repe cmpsb",
    "je 2f",
    "movzx eax, byte ptr [rdi - 1]",
    "movzx ecx, byte ptr [rsi - 1]",
    "sub ecx, eax",
    "mov eax, ecx",
    "2:",
    "ret",
);
