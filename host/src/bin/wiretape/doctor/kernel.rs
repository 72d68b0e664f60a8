//! The kernel: its version, and settings that are for the whole machine.

use super::finding::{Finding, Fix, Verdict};
use super::interrupts;
use super::machine::Machine;

const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

/// All checks.
pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![version(machine), jit(machine), interrupts::balancer(machine)];
    findings.extend(interrupts::busy_poll(machine));
    findings
}

fn version(machine: &Machine) -> Finding {
    let (name, should) = ("kernel", "6.6 or later (packets of several frames); 5.11 at least");
    let release = match machine.text("/proc/sys/kernel/osrelease") {
        Ok(release) => release,
        Err(error) => return Finding::unknown(name, error, should),
    };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let found: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let verdict = match found {
        (0, _) => Verdict::Unknown,
        found if found < (5, 11) => Verdict::Bad,
        found if found < (6, 6) => Verdict::Notable,
        _ => Verdict::Good,
    };
    Finding::new(name, verdict, release, should)
}

fn jit(machine: &Machine) -> Finding {
    let (name, should) = ("net.core.bpf_jit_enable", "1");
    match machine.value::<u32>(JIT) {
        Ok(0) => Finding::new(name, Verdict::Bad, "0: every packet is interpreted", should)
            .mend(format!("sysctl -w {name}=1"))
            .fix(Fix::of_write(JIT, "1", "0")),
        Ok(on) => Finding::new(name, Verdict::Good, on.to_string(), should),
        // A kernel that always compiles has no such file.
        Err(error) => Finding::unknown(name, error, should),
    }
}
