//! The NIC's interrupts and who moves them, and how the kernel polls instead of them.

use super::cpus::Cpus;
use super::finding::{Finding, Fix, Verdict};
use super::machine::Machine;
use super::worker::{Worker, cores};

/// All checks of one interface.
pub fn check(machine: &Machine, interface: &str, workers: &[Worker]) -> Vec<Finding> {
    let busy_polls = workers.iter().any(|worker| worker.busy_polls);
    let mut findings = vec![affinity(machine, interface, workers, busy_polls)];
    findings.extend(deferral(machine, interface, busy_polls));
    findings
}

/// An interrupt and where it is delivered.
#[derive(Debug)]
struct Interrupt {
    number: u32,
    cpus: Cpus,
}

fn affinity(machine: &Machine, interface: &str, workers: &[Worker], busy_polls: bool) -> Finding {
    let name = "interrupts";
    let cores = cores(workers);
    let should = match (cores.is_empty(), busy_polls) {
        (true, _) => "each on one fixed processor".to_owned(),
        (false, true) => format!("on the workers' processors {cores}, since they poll busily"),
        (false, false) => format!("each on one processor, none of the workers' ({cores})"),
    };
    if let Err(error) = machine.text("/proc/interrupts") {
        return Finding::unknown(name, error, should);
    }
    let interrupts = interrupts(machine, interface);
    if interrupts.is_empty() {
        return Finding::unknown(name, "none of its own, as virtual interfaces have none", should);
    }
    let on: Vec<String> =
        interrupts.iter().take(4).map(|i| format!("{} on {}", i.number, i.cpus)).collect();
    let more = if interrupts.len() > 4 { ", ..." } else { "" };
    let is = format!("{}{more}", on.join(", "));
    let roams = interrupts.iter().any(|interrupt| interrupt.cpus.0.len() > 1);
    let meets = interrupts.iter().any(|interrupt| !interrupt.cpus.and(&cores).is_empty());
    let apart = interrupts.iter().any(|interrupt| !cores.holds(&interrupt.cpus));
    let verdict = match (cores.is_empty(), busy_polls) {
        (false, true) if apart => Verdict::Notable,
        (false, false) if meets => Verdict::Bad,
        (_, false) if roams => Verdict::Notable,
        _ => Verdict::Good,
    };
    let target = if busy_polls { cores.0.first().copied() } else { quiet(machine, &cores) };
    let finding = Finding::new(name, verdict, is, should);
    match target {
        Some(cpu) => {
            let numbers: Vec<String> =
                interrupts.iter().map(|interrupt| interrupt.number.to_string()).collect();
            let numbers = numbers.join(" ");
            finding.mend(format!(
                "for irq in {numbers}; do echo {cpu} > /proc/irq/$irq/smp_affinity_list; done"
            ))
        }
        None => finding,
    }
}

/// A processor for interrupts: no worker's, and if there is one, no worker's sibling.
fn quiet(machine: &Machine, cores: &Cpus) -> Option<usize> {
    let online = machine.cpus("/sys/devices/system/cpu/online").ok()?;
    let free = online.without(cores);
    let siblings = cores.0.iter().filter_map(|core| {
        machine
            .cpus(&format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"))
            .ok()
    });
    let siblings: Cpus = siblings.flat_map(|cpus| cpus.0).collect();
    let best = free.without(&siblings);
    best.0.first().or(free.0.first()).copied()
}

/// Interrupts of the receive queues; all of the NIC's where their names do not tell.
fn interrupts(machine: &Machine, interface: &str) -> Vec<Interrupt> {
    let device = format!("/sys/class/net/{interface}/device");
    // A virtio device's interrupts belong to the PCI device above it.
    let mut own = machine.names(&format!("{device}/msi_irqs"));
    if own.is_empty() {
        own = machine.names(&format!("{device}/../msi_irqs"));
    }
    let table = machine.text("/proc/interrupts").unwrap_or_default();
    let rows = table.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        Some((number.trim().parse::<u32>().ok()?, rest.split_whitespace().next_back()?))
    });
    let of_nic: Vec<(u32, &str)> = rows
        .filter(|(number, name)| match own.is_empty() {
            // `eth1-TxRx-0`, `ice-eth1-TxRx-0`
            true => name.split(['-', '.', '@', ':']).any(|part| part == interface),
            false => own.contains(&number.to_string()),
        })
        .collect();
    let receives = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["rx", "input", "comp"].iter().any(|word| name.contains(word))
    };
    let some_receive = of_nic.iter().any(|(_, name)| receives(name));
    let mut interrupts: Vec<Interrupt> = of_nic
        .into_iter()
        .filter(|(_, name)| !some_receive || receives(name))
        .filter_map(|(number, _)| {
            let file = |name| machine.cpus(&format!("/proc/irq/{number}/{name}")).ok();
            // Where it is allowed to go is less than where it goes.
            let effective = file("effective_affinity_list").filter(|cpus| !cpus.is_empty());
            Some(Interrupt { number, cpus: effective.or_else(|| file("smp_affinity_list"))? })
        })
        .collect();
    interrupts.sort_by_key(|interrupt| interrupt.number);
    interrupts
}

/// irqbalance moves interrupts while nobody looks.
pub fn balancer(machine: &Machine) -> Finding {
    let (name, should) = ("irqbalance", "not running");
    if let Err(error) = machine.sees_processes() {
        return Finding::unknown(name, error, should);
    }
    match machine.running(&["irqbalance"]).is_empty() {
        true => Finding::new(name, Verdict::Good, "not running", should),
        false => Finding::new(name, Verdict::Bad, "running: it moves interrupts", should)
            .mend("systemctl disable --now irqbalance"),
    }
}

/// What the kernel's manual of AF_XDP gives for preferred busy polling.
const DEFERRED: [(&str, u64); 2] = [("napi_defer_hard_irqs", 2), ("gro_flush_timeout", 200_000)];

/// With busy polling the kernel must hold interrupts back; without, packets would wait for a timer.
fn deferral(machine: &Machine, interface: &str, busy_polls: bool) -> [Finding; 2] {
    DEFERRED.map(|(name, deferred)| {
        let wanted = if busy_polls { deferred } else { 0 };
        let path = format!("/sys/class/net/{interface}/{name}");
        let why = if busy_polls { "a worker polls busily" } else { "no worker polls busily" };
        let should = format!("{wanted}, since {why}");
        match machine.value::<u64>(&path) {
            Ok(is) => {
                let verdict = match (busy_polls, is) {
                    (true, 0) => Verdict::Bad,
                    (false, 0) | (true, _) => Verdict::Good,
                    (false, _) => Verdict::Notable,
                };
                Finding::new(name, verdict, is.to_string(), should)
                    .mend(format!("echo {wanted} > {path}"))
                    .fix(Fix::of_write(&path, &wanted.to_string(), &is.to_string()))
            }
            Err(error) => Finding::unknown(name, error, should),
        }
    })
}

/// `net.core.busy_poll` and `busy_read` are for all sockets of the machine.
pub fn busy_poll(machine: &Machine) -> [Finding; 2] {
    ["busy_poll", "busy_read"].map(|key| {
        let name = format!("net.core.{key}");
        let should = "0, since workers ask for their own sockets";
        match machine.value::<u64>(&format!("/proc/sys/net/core/{key}")) {
            Ok(0) => Finding::new(name, Verdict::Good, "0", should),
            Ok(us) => {
                let command = format!("sysctl -w {name}=0");
                let path = format!("/proc/sys/net/core/{key}");
                Finding::new(name, Verdict::Notable, format!("{us} us, for every socket"), should)
                    .mend(command)
                    .fix(Fix::of_write(&path, "0", &us.to_string()))
            }
            Err(error) => Finding::unknown(name, error, should),
        }
    })
}
