//! Receive times: the clock that stamps them, and who keeps it.

use super::finding::{Finding, Verdict};
use super::interface::untold;
use super::machine::Machine;

const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
const DAEMONS: [&str; 6] = ["ptp4l", "phc2sys", "chronyd", "ntpd", "ntpsec", "systemd-timesyncd"];
/// A clock that may be further off makes times of two machines hard to compare.
const ERROR_US_MAX: i64 = 1_000;

/// All checks.
pub fn check(machine: &Machine) -> Vec<Finding> {
    vec![source(machine), counter(machine), kept(machine)]
}

fn source(machine: &Machine) -> Finding {
    let (name, should) = ("clock source", "tsc");
    let current = match machine.text(&format!("{CLOCK}/current_clocksource")) {
        Ok(current) => current,
        Err(error) => return Finding::unknown(name, error, should),
    };
    if current == "tsc" {
        return Finding::new(name, Verdict::Good, current, should);
    }
    let there = machine.text(&format!("{CLOCK}/available_clocksource")).unwrap_or_default();
    let finding = Finding::new(name, Verdict::Notable, current, should);
    match there.split_whitespace().any(|one| one == "tsc") {
        true => finding.mend(format!("echo tsc > {CLOCK}/current_clocksource")),
        // The kernel has found it wanting, or the machine is virtual.
        false => finding.mend("dmesg | grep -i tsc  # says why it is not trusted"),
    }
}

/// The worker stamps with the processor's counter.
fn counter(machine: &Machine) -> Finding {
    let (name, should) = ("time-stamp counter", "constant_tsc and nonstop_tsc");
    let table = match machine.text("/proc/cpuinfo") {
        Ok(table) => table,
        Err(error) => return Finding::unknown(name, error, should),
    };
    let Some(flags) = table.lines().find(|line| line.starts_with("flags")) else {
        return Finding::unknown(name, "this processor names no such flags", should);
    };
    let has = |flag: &&str| flags.split_whitespace().any(|one| one == *flag);
    let missing: Vec<&str> =
        ["constant_tsc", "nonstop_tsc"].into_iter().filter(|flag| !has(flag)).collect();
    match missing.is_empty() {
        true => Finding::new(name, Verdict::Good, should, should),
        false => {
            let is = format!("without {}: stamps drift with the frequency", missing.join(", "));
            Finding::new(name, Verdict::Bad, is, should)
        }
    }
}

fn kept(machine: &Machine) -> Finding {
    let (name, should) = ("time synchronisation", "kept by PTP or NTP within 1 ms");
    let daemons = machine.running(&DAEMONS);
    let by = match (daemons.is_empty(), machine.sees_processes()) {
        (false, _) => daemons.join(", "),
        (true, Ok(())) => "no daemon that is known here runs".to_owned(),
        (true, Err(_)) => "by whom is not to be seen".to_owned(),
    };
    let state = match machine.kernel.timekeeping() {
        Ok(state) => state,
        Err(error) => return Finding::unknown(name, untold(&error), should),
    };
    let is = match state.synchronized {
        true => format!("within {} us; {by}", state.error_us_max),
        false => format!("not kept; {by}"),
    };
    let verdict = match (state.synchronized, state.error_us_max) {
        (false, _) => Verdict::Bad,
        (true, error) if error > ERROR_US_MAX => Verdict::Notable,
        _ => Verdict::Good,
    };
    Finding::new(name, verdict, is, should)
        .mend("systemctl enable --now chronyd  # or ptp4l and phc2sys where the NIC has a clock")
}
