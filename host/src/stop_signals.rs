//! Signals that ask a program to end, and those that insist.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::low_level;

/// Signals that come sooner after the first one belong to the same request: `timeout`, process groups
/// and supervisors send theirs twice.
const SAME_REQUEST_MS: u64 = 1_000;

/// Sets `stop` with the first signal, also with that of a terminal that is closed; one that comes a
/// second later or more ends the process at once, should the clean way hang.
///
/// # Errors
/// The system refuses a handler.
pub fn stop_on_signals(stop: &Arc<AtomicBool>) -> io::Result<()> {
    let first_ms = Arc::new(AtomicU64::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if signal == SIGHUP && hangups_are_ignored() {
            continue;
        }
        let (stop, first_ms) = (Arc::clone(stop), Arc::clone(&first_ms));
        let act = move || {
            let now = clock_gettime(ClockId::Monotonic);
            let now_ms = now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000 + 1;
            match first_ms.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => stop.store(true, Ordering::Relaxed),
                Err(first) if now_ms.saturating_sub(first) >= SAME_REQUEST_MS => low_level::exit(1),
                Err(_) => {}
            }
        };
        // SAFETY: the handler reads a clock, touches atomics and calls _exit, which all may be done
        // in a signal handler; it neither allocates nor panics.
        unsafe { low_level::register(signal, act) }?;
    }
    Ok(())
}

/// Has a write to a file that may not grow any further (`ulimit -f`) fail, where the signal for that
/// would end the process without a word.
///
/// # Errors
/// The system refuses a handler.
pub fn survive_file_limits() -> io::Result<()> {
    // What matters is that there is a handler; what it sets is looked at by nobody.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map(|_| ())
}

/// Whether this process was started to outlive its terminal, as by `nohup`.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}
