//! `wiretape doctor`: is this machine fit to capture?
//!
//! Each check says how a thing is, how it should be, and the command that mends it. Checks read
//! files below a root and ask the kernel through [`inquiry`], so that tests lay out machines of
//! their own. What the machine does not tell is said to be unknown, never to be good.

mod cpus;
mod ethtool;
mod finding;
mod inquiry;
mod interface;
mod interrupts;
mod kernel;
mod machine;
mod memory;
mod mend;
mod multicast;
mod netlink;
mod processors;
mod time;
mod worker;

#[cfg(test)]
mod tests;

use crate::failure::Failure;
use crate::terminal::{Tone, coloured, tinted};
use clap::Args;
use finding::{Finding, Section, Verdict};
use inquiry::RunningKernel;
use machine::Machine;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use worker::Worker;

/// Examine this machine: is it fit to capture?
///
/// Network card, processors, memory, time, kernel. For each thing: how it is, how it should be, and
/// the command that mends it. Workers are taken from /etc/wiretape/*.toml, or from --config. Nothing
/// is changed without --fix.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape doctor                                    the interfaces of the configured workers
  wiretape doctor --interface eth1
  wiretape doctor --config /etc/wiretape/itch-a.toml --all
  sudo wiretape doctor --interface eth1 --fix        then: sudo wiretape doctor --undo

--fix does what can be taken back: offloads and ring of the interface (ethtool; many
drivers take the link down for a moment, so not while packets matter), huge pages (also
transparent), governor, deferred interrupts, busy polling of all sockets, the BPF compiler.
It leaves alone what needs a boot, moves interrupts, changes the number of queues or the
clock, stops a service or edits a configuration. No change outlives the next boot.

Exit codes: 0 nothing bad, 1 something bad, 2 wrong usage. With --fix or --undo: 0 all that it
does was done, whatever else is bad, 1 a change that failed.")]
pub struct DoctorArguments {
    /// Interface to examine; can be repeated.
    #[arg(long, short, value_name = "NAME")]
    interface: Vec<String>,
    /// Configuration of a worker; can be repeated [default: /etc/wiretape/*.toml].
    #[arg(long, short, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Also what is good.
    #[arg(long, short)]
    all: bool,
    /// Do what is safe, and keep a record of it.
    #[arg(long)]
    fix: bool,
    /// Take back what --fix did.
    #[arg(long, conflicts_with_all = ["fix", "interface", "config"])]
    undo: bool,
    /// Folder of the record.
    #[arg(long, value_name = "DIR", default_value = mend::STATE, hide = true)]
    state: PathBuf,
    /// One JSON object.
    #[arg(long, conflicts_with_all = ["fix", "undo"])]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &DoctorArguments) -> Result<ExitCode, Failure> {
    let machine = Machine::new("/", Box::new(RunningKernel));
    let mut out = stdout().lock();
    if arguments.undo {
        let failed = mend::undo(&machine, &arguments.state, &mut out)?;
        return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let workers = workers(&machine, arguments)?;
    let interfaces = interfaces(&machine, arguments, &workers)?;
    let sections = examine(&machine, &interfaces, &workers);
    match arguments.json {
        true => writeln!(out, "{}", json!({"interfaces": interfaces, "sections": sections}))?,
        false => print(&mut out, &sections, arguments.all)?,
    }
    if arguments.fix {
        let failed = mend::fix(&machine, &sections, &arguments.state, &mut out)?;
        return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let bad = count(&sections, Verdict::Bad) > 0;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn workers(machine: &Machine, arguments: &DoctorArguments) -> Result<Vec<Worker>, Failure> {
    if arguments.config.is_empty() {
        let (workers, unreadable) = worker::configured(machine);
        for (path, why) in unreadable {
            crate::terminal::say(&format!("left out {path}: {why}"));
        }
        return Ok(workers);
    }
    let mut workers = Vec::new();
    for path in &arguments.config {
        let wrong = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
        let text = text_of(path).map_err(|error| wrong(error.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        workers.extend(worker::parse(&name, &text).map_err(wrong)?);
    }
    Ok(workers)
}

/// The text of a configuration, unless it is longer than capture takes, as a device without an end.
fn text_of(path: &Path) -> io::Result<String> {
    const LONGEST: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > LONGEST {
        true => Err(io::Error::other(format!("it is longer than {} KiB", LONGEST >> 10))),
        false => Ok(text),
    }
}

fn interfaces(
    machine: &Machine,
    arguments: &DoctorArguments,
    workers: &[Worker],
) -> Result<Vec<String>, Failure> {
    let mut interfaces = arguments.interface.clone();
    if interfaces.is_empty() {
        interfaces = workers.iter().map(|worker| worker.interface.clone()).collect();
    }
    interfaces.sort();
    interfaces.dedup();
    // Asked of the kernel: files of /sys may belong to another network namespace.
    let here = interfaces_here(machine);
    let mut shown = machine.names("/sys/class/net");
    // Some modules keep files of their own there.
    shown.retain(|name| machine.has(&format!("/sys/class/net/{name}/ifindex")));
    let foreign = !here.is_empty() && here != shown;
    for interface in &interfaces {
        if inquiry::interface_index(interface).is_err() {
            let there = here.join(", ");
            let text = format!("there is no interface '{interface}' here (there are: {there})");
            return Err(Failure::Told(text));
        }
        if foreign && shown.contains(interface) {
            return Err(Failure::Told(format!(
                "/sys is of another network namespace, and its {interface} another interface: \
                 enter by `ip netns exec NAME wiretape doctor ...`, which mounts its own"
            )));
        }
    }
    Ok(interfaces)
}

/// The interfaces of this process's network namespace.
fn interfaces_here(machine: &Machine) -> Vec<String> {
    let text = machine.text("/proc/net/dev").unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split_once(':'));
    let mut names: Vec<String> = names.map(|(name, _)| name.trim().to_owned()).collect();
    names.sort();
    names
}

/// All findings about `interfaces` and the machine that `workers` run on.
fn examine(machine: &Machine, interfaces: &[String], workers: &[Worker]) -> Vec<Section> {
    let mut sections = Vec::new();
    for interface in interfaces {
        let mine: Vec<Worker> =
            workers.iter().filter(|worker| worker.interface == *interface).cloned().collect();
        let mut findings = interface::check(machine, interface, &mine);
        findings.extend(interrupts::check(machine, interface, &mine));
        findings.extend(multicast::check(machine, interface, &mine));
        findings.extend(mine.iter().filter_map(busy_polling));
        sections.push(Section::new(format!("interface {interface}"), findings));
    }
    sections.push(Section::new("processors", processors::check(machine, workers)));
    sections.push(Section::new("memory", memory::check(machine, workers)));
    sections.push(Section::new("time", time::check(machine)));
    sections.push(Section::new("kernel", kernel::check(machine)));
    sections
}

/// Busy polling is an administrator's right, which the unit does not give.
fn busy_polling(worker: &Worker) -> Option<Finding> {
    let right = "systemctl edit wiretape-capture@";
    worker.busy_polls.then(|| {
        Finding::new(
            format!("busy_poll_us of {}", worker.name),
            Verdict::Notable,
            "set: preferred busy polling takes CAP_NET_ADMIN, which the unit does not give as shipped",
            "0, or a unit with that right",
        )
        .mend(format!(
            "{right}{}  # [Service] AmbientCapabilities=CAP_NET_ADMIN and \
             CapabilityBoundingSet=CAP_NET_ADMIN",
            worker.name
        ))
    })
}

fn count(sections: &[Section], verdict: Verdict) -> usize {
    let findings = sections.iter().flat_map(|section| &section.findings);
    findings.filter(|finding| finding.verdict == verdict).count()
}

fn print(out: &mut impl Write, sections: &[Section], all: bool) -> std::io::Result<()> {
    let coloured = coloured();
    for section in sections {
        let shown: Vec<&Finding> = section
            .findings
            .iter()
            .filter(|finding| all || finding.verdict != Verdict::Good)
            .collect();
        let good = section.findings.len() - shown.len();
        let rest = if good > 0 { format!("  ({good} good)") } else { String::new() };
        let topic = tinted(&section.topic, Tone::Heading, coloured);
        writeln!(out, "{topic}{rest}")?;
        for finding in shown {
            let tone = match finding.verdict {
                Verdict::Good => Tone::Good,
                Verdict::Bad => Tone::Bad,
                Verdict::Notable | Verdict::Unknown => Tone::Notable,
            };
            let verdict = tinted(&format!("{:<8}", finding.verdict.name()), tone, coloured);
            writeln!(out, "  {verdict} {}: {}", finding.name, finding.is)?;
            if finding.verdict != Verdict::Good {
                writeln!(out, "           should be: {}", finding.should)?;
            }
            if let Some(mend) = &finding.mend {
                let safe = if finding.fix.is_some() { "  (--fix does this)" } else { "" };
                writeln!(out, "           mend: {mend}{safe}")?;
            }
        }
    }
    let of = |verdict| count(sections, verdict);
    writeln!(
        out,
        "{} good, {} notable, {} bad, {} unknown",
        of(Verdict::Good),
        of(Verdict::Notable),
        of(Verdict::Bad),
        of(Verdict::Unknown)
    )
}
