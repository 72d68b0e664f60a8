//! The processors that workers are pinned to: isolation, frequency, idle states.

use super::cpus::Cpus;
use super::finding::{Finding, Fix, Step, Verdict};
use super::machine::{Machine, Unread};
use super::worker::{Worker, cores};
use std::collections::BTreeSet;

const CPU: &str = "/sys/devices/system/cpu";
/// A state that takes longer than this to wake from is felt in the latency.
const WAKE_US_MAX: u32 = 2;

/// All checks. Without pinned workers, those that need to know their processors look at all.
pub fn check(machine: &Machine, workers: &[Worker]) -> Vec<Finding> {
    let pinned = cores(workers);
    let looked_at = match pinned.is_empty() {
        true => machine.cpus(&format!("{CPU}/online")).unwrap_or_default(),
        false => pinned.clone(),
    };
    let mut findings = vec![pinning(workers)];
    for (name, file, parameter) in [
        ("isolated processors", "isolated", "isolcpus"),
        ("processors without ticks", "nohz_full", "nohz_full"),
    ] {
        findings.push(set(machine, &pinned, name, file, parameter));
    }
    findings.push(governor(machine, &looked_at));
    findings.push(idle_states(machine, &looked_at));
    findings
}

fn pinning(workers: &[Worker]) -> Finding {
    let (name, should) = ("pinned workers", "each worker on a processor of its own");
    // One that receives from several interfaces is here for each.
    let names = |pinned| -> BTreeSet<&str> {
        let those = workers.iter().filter(|one| one.core.is_some() == pinned);
        those.map(|one| one.name.as_str()).collect()
    };
    let roam: Vec<&str> = names(false).into_iter().collect();
    let shared = names(true).len() - cores(workers).0.len();
    match (workers.is_empty(), roam.is_empty(), shared) {
        (true, ..) => Finding::unknown(name, "no worker is configured", should),
        (_, true, 0) => Finding::new(name, Verdict::Good, cores(workers).to_string(), should),
        (_, true, _) => Finding::new(name, Verdict::Bad, "two share a processor", should)
            .mend("editor /etc/wiretape/*.toml  # core = another one"),
        _ => Finding::new(name, Verdict::Notable, format!("not: {}", roam.join(", ")), should)
            .mend("editor /etc/wiretape/*.toml  # core = one of them"),
    }
}

fn set(machine: &Machine, pinned: &Cpus, name: &str, file: &str, parameter: &str) -> Finding {
    let should = match pinned.is_empty() {
        true => "those of the workers".to_owned(),
        false => format!("{pinned}, the workers'"),
    };
    match machine.cpus(&format!("{CPU}/{file}")) {
        Ok(set) if pinned.is_empty() => {
            Finding::unknown(name, format!("{set}; no worker is pinned"), should)
        }
        Ok(set) if set.holds(pinned) => Finding::new(name, Verdict::Good, set.to_string(), should),
        Ok(set) => Finding::new(name, Verdict::Notable, set.to_string(), should)
            .mend(machine.boot_with(&format!("{parameter}={pinned}"))),
        Err(error) => Finding::unknown(name, error, should),
    }
}

fn governor(machine: &Machine, cpus: &Cpus) -> Finding {
    let (name, should) = ("governor", "performance");
    let file = |cpu: &usize| format!("{CPU}/cpu{cpu}/cpufreq/scaling_governor");
    let mut found: Vec<(usize, String)> = Vec::new();
    for cpu in &cpus.0 {
        match machine.text(&file(cpu)) {
            Ok(governor) => found.push((*cpu, governor)),
            Err(Unread::Missing(_)) if !machine.has(&format!("{CPU}/cpu{cpu}/cpufreq")) => {
                let is = format!("processor {cpu} has no frequencies to choose, as a virtual one");
                return Finding::unknown(name, is, should);
            }
            Err(error) => return Finding::unknown(name, error, should),
        }
    }
    if found.is_empty() {
        return Finding::unknown(name, "the kernel names no processor", should);
    }
    let others: Vec<&(usize, String)> =
        found.iter().filter(|(_, governor)| governor != "performance").collect();
    if others.is_empty() {
        return Finding::new(name, Verdict::Good, should, should);
    }
    let text: Vec<String> =
        others.iter().map(|(cpu, governor)| format!("{governor} on {cpu}")).collect();
    let write = |(cpu, value): (&usize, &str)| Step::write(&file(cpu), value);
    Finding::new(name, Verdict::Notable, text.join(", "), should)
        .mend("cpupower frequency-set -g performance")
        .fix(Fix {
            steps: others.iter().map(|(cpu, _)| write((cpu, should))).collect(),
            undo: others.iter().map(|(cpu, before)| write((cpu, before))).collect(),
        })
}

/// The deepest idle state that a processor may enter.
fn idle_states(machine: &Machine, cpus: &Cpus) -> Finding {
    let name = "idle states (C-states)";
    let should = format!("none that takes more than {WAKE_US_MAX} us to wake from");
    let mut deepest: Option<(u32, String, usize)> = None;
    let mut any = false;
    for cpu in &cpus.0 {
        let folder = format!("{CPU}/cpu{cpu}/cpuidle");
        for state in machine.names(&folder) {
            let value = |file: &str| machine.value::<u32>(&format!("{folder}/{state}/{file}"));
            let Ok(latency) = value("latency") else { continue };
            any = true;
            if value("disable").is_ok_and(|off| off != 0) {
                continue;
            }
            if deepest.as_ref().is_none_or(|(most, ..)| latency > *most) {
                let state = machine.text(&format!("{folder}/{state}/name")).unwrap_or(state);
                deepest = Some((latency, state, *cpu));
            }
        }
    }
    if !any {
        return Finding::unknown(name, "the kernel manages none, as in a virtual machine", should);
    }
    match deepest {
        Some((latency, state, cpu)) if latency > WAKE_US_MAX => {
            let is = format!("{state} on processor {cpu}, {latency} us");
            Finding::new(name, Verdict::Notable, is, should)
                .mend(format!("cpupower idle-set -D {}", WAKE_US_MAX + 1))
        }
        Some((latency, state, _)) => {
            Finding::new(name, Verdict::Good, format!("{state}, {latency} us"), should)
        }
        None => Finding::new(name, Verdict::Good, "none", should),
    }
}
