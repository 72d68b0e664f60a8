//! Signals that ask a run to end, and those that insist.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::low_level;
use wiretape_capture::clock::monotonic_ns;

/// Signals that come sooner after the first one belong to the same request: `timeout`, process groups
/// and supervisors send theirs twice.
const SAME_REQUEST_NS: u64 = 1_000_000_000;

const TOO_EARLY: &[u8] = b"wiretape-capture: stopped before it had started\n";

/// Sets `stop` with the first signal, also with that of a terminal that is closed; one that comes
/// later than [`SAME_REQUEST_NS`] after it ends the process at once. So does the first as long as
/// `prepared` is not set: a start, which may touch memory for a minute, has nothing to put in order.
pub fn stop_on_signals(stop: &Arc<AtomicBool>, prepared: &Arc<AtomicBool>) -> io::Result<()> {
    let first_ns = Arc::new(AtomicU64::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if signal == SIGHUP && hangups_are_ignored() {
            continue;
        }
        let (stop, prepared) = (Arc::clone(stop), Arc::clone(prepared));
        let first_ns = Arc::clone(&first_ns);
        let act = move || {
            if !prepared.load(Ordering::SeqCst) {
                // SAFETY: the bytes are there for good; whether anyone takes them does not matter.
                unsafe { libc::write(2, TOO_EARLY.as_ptr().cast(), TOO_EARLY.len()) };
                low_level::exit(0);
            }
            let now = monotonic_ns().max(1);
            match first_ns.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => stop.store(true, Ordering::Relaxed),
                Err(first) if now.saturating_sub(first) >= SAME_REQUEST_NS => low_level::exit(1),
                Err(_) => {}
            }
        };
        // SAFETY: the handler reads a clock, touches atomics and calls write and _exit, which all may
        // be done in a signal handler; it neither allocates nor panics.
        unsafe { low_level::register(signal, act) }?;
    }
    Ok(())
}

/// Has a write to a file that may not grow any further (`ulimit -f`) fail, where the signal for that
/// would end the process without a word.
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
