//! The network interface: driver, XDP, queues, rings, offloads.

use super::finding::{Finding, Fix, Verdict};
use super::inquiry::Offload;
use super::machine::Machine;
use super::worker::{Worker, cores};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Bits of `enum netdev_xdp_act`.
mod xdp_act {
    pub const BASIC: u64 = 1;
    pub const REDIRECT: u64 = 2;
    pub const XSK_ZEROCOPY: u64 = 8;
}

/// Of `enum netdev_xdp_rx_metadata`.
const XDP_METADATA_TIMESTAMP: u64 = 1;

/// A receive ring below this loses packets in the bursts of an opening.
const RING_MIN: u32 = 512;

/// All checks of this file.
pub fn check(machine: &Machine, interface: &str, workers: &[Worker]) -> Vec<Finding> {
    let mut findings = vec![
        link(machine, interface),
        driver(machine, interface),
        xdp_modes(machine, interface),
        xdp_program(machine, interface),
        queues(machine, interface, workers),
        ring(machine, interface),
        coalescing(machine, interface),
    ];
    findings.extend(offloads(machine, interface));
    findings.extend(node(machine, interface, workers));
    findings.extend(receive_stamps(machine, interface, workers));
    findings
}

fn link(machine: &Machine, interface: &str) -> Finding {
    let should = "up";
    match machine.text(&format!("/sys/class/net/{interface}/operstate")) {
        // Tunnels and the loopback interface have no state of their own.
        Ok(state) if state == "up" || state == "unknown" => {
            Finding::new("operstate", Verdict::Good, state, should)
        }
        Ok(state) => Finding::new("operstate", Verdict::Bad, state, should)
            .mend(format!("ip link set dev {interface} up")),
        Err(error) => Finding::unknown("operstate", error, should),
    }
}

fn driver(machine: &Machine, interface: &str) -> Finding {
    let (name, should) = ("driver", "that of a network card");
    if let Some(driver) = machine.link_name(&format!("/sys/class/net/{interface}/device/driver")) {
        return Finding::new(name, Verdict::Good, driver, should);
    }
    match machine.kernel.link(interface) {
        Ok(link) => match link.kind {
            Some(kind) => {
                let is = format!("{kind}, a virtual interface");
                Finding::new(name, Verdict::Notable, is, should)
            }
            None => Finding::unknown(name, "the kernel names none", should),
        },
        Err(error) => Finding::unknown(name, untold(&error), should),
    }
}

fn xdp_modes(machine: &Machine, interface: &str) -> Finding {
    let (name, should) = ("xdp-features", "native, with zero-copy");
    let features = match machine.kernel.xdp_features(interface) {
        Ok(features) => features,
        Err(error) => {
            return Finding::unknown(name, untold(&error), should).mend(format!(
                "wiretape-xdp load --interface {interface}  # says what was granted"
            ));
        }
    };
    let has = |bits| features & bits == bits;
    if !has(xdp_act::BASIC | xdp_act::REDIRECT) {
        let is = "generic only, which copies every packet";
        return Finding::new(name, Verdict::Notable, is, should);
    }
    match has(xdp_act::XSK_ZEROCOPY) {
        true => Finding::new(name, Verdict::Good, "native, with zero-copy", should),
        false => Finding::new(name, Verdict::Notable, "native, without zero-copy", should),
    }
}

/// The name of the program that wiretape-xdp loads (`steer.bpf.c`).
const STEER: &str = "steer";

fn xdp_program(machine: &Machine, interface: &str) -> Finding {
    let (name, should) = ("xdp", "Wiretape's program, in native mode");
    let load = format!("wiretape-xdp load --interface {interface}");
    match machine.kernel.link(interface) {
        Ok(link) => match link.xdp {
            Some(xdp) => {
                let is = format!("program {} in {} mode", xdp.program, xdp.mode);
                match (machine.kernel.program_name(xdp.program), xdp.mode) {
                    (Ok(whose), _) if whose != STEER => {
                        let is = format!("{is}, not Wiretape's but '{whose}'");
                        Finding::new(name, Verdict::Notable, is, should)
                            .mend(format!("bpftool net detach xdp dev {interface} && {load}"))
                    }
                    (Ok(_), "native") => Finding::new(name, Verdict::Good, is, should),
                    (Err(_), "native") => {
                        let is = format!("{is}; whose it is, the kernel tells root alone");
                        Finding::new(name, Verdict::Unknown, is, should)
                    }
                    _ => {
                        let unload =
                            format!("wiretape-xdp unload --interface {interface} && {load}");
                        Finding::new(name, Verdict::Notable, is, should).mend(unload)
                    }
                }
            }
            None => Finding::new(name, Verdict::Notable, "no program", should).mend(load),
        },
        Err(error) => Finding::unknown(name, untold(&error), should),
    }
}

/// Whether the driver tells programs when a packet came, where a worker is to have it from there.
fn receive_stamps(machine: &Machine, interface: &str, workers: &[Worker]) -> Option<Finding> {
    let worker = workers.iter().find(|worker| worker.nic_stamps)?;
    let name = format!("receive_stamps of {}", worker.name);
    let should = "a driver that tells XDP programs the NIC's receive times";
    Some(match machine.kernel.xdp_metadata(interface) {
        Ok(told) if told & XDP_METADATA_TIMESTAMP != 0 => {
            Finding::new(name, Verdict::Good, "nic, and the driver tells them", should)
        }
        Ok(_) => Finding::new(name, Verdict::Bad, "nic, and the driver tells none", should)
            .mend("receive_stamps = \"host\", and wiretape-xdp load without --receive-stamps"),
        Err(error) => Finding::unknown(name, untold(&error), should),
    })
}

fn queues(machine: &Machine, interface: &str, workers: &[Worker]) -> Finding {
    let name = "receive queues";
    let mut served: BTreeSet<u32> =
        workers.iter().flat_map(|worker| &worker.queues).copied().collect();
    if served.is_empty() {
        served.insert(0);
    }
    let fewest = served.last().map_or(1, |last| last.saturating_add(1));
    let list: Vec<String> = served.iter().map(u32::to_string).collect();
    let list = list.join(", ");
    // Those that are served are the first, and can be all.
    let first = fewest as usize == served.len();
    let should = match (first, fewest) {
        (true, 1) => "1, since one queue is served".to_owned(),
        (true, _) => format!("{fewest}, all of which workers serve"),
        _ => format!("at least {fewest}, and flow rules for what workers serve: {list}"),
    };
    let (count, kind) = match machine.kernel.channels(interface) {
        Ok(channels) if channels.combined > 0 => (channels.combined + channels.rx, "combined"),
        Ok(channels) if channels.rx > 0 => (channels.rx, "rx"),
        // The driver cannot change their number; the kernel knows how many there are.
        _ => {
            let queues = machine.names(&format!("/sys/class/net/{interface}/queues"));
            let count = queues.iter().filter(|queue| queue.starts_with("rx-")).count();
            (u32::try_from(count).unwrap_or(u32::MAX), "")
        }
    };
    if count == 0 {
        return Finding::unknown(name, "neither driver nor kernel tells", should);
    }
    let mend = |finding: Finding| match kind {
        "" => finding,
        kind => finding.mend(format!("ethtool -L {interface} {kind} {fewest}")),
    };
    if count < fewest {
        let is = format!("{count}, and workers serve {list}");
        return mend(Finding::new(name, Verdict::Bad, is, should));
    }
    if count as usize == served.len() {
        return Finding::new(name, Verdict::Good, count.to_string(), should);
    }
    let filters = machine
        .kernel
        .offloads(interface)
        .is_ok_and(|offloads| offloads.get("rx-ntuple-filter").is_some_and(|filter| filter.on));
    let finding = match filters {
        true => {
            let is = format!("{count}, and flow rules may steer the feeds");
            Finding::new(name, Verdict::Notable, is, should)
        }
        // What hashes to the others reaches no socket.
        false => Finding::new(name, Verdict::Bad, count.to_string(), should),
    };
    match first {
        true => mend(finding),
        // Fewer would take away the one that is served.
        false => finding
            .mend("editor /etc/wiretape/*.toml  # queue = 0, and in also all others if need be"),
    }
}

fn ring(machine: &Machine, interface: &str) -> Finding {
    let name = "rx ring";
    match machine.kernel.ring(interface) {
        Ok(ring) if ring.rx_max > 0 => {
            let verdict = match ring.rx {
                rx if rx >= ring.rx_max => Verdict::Good,
                rx if rx < RING_MIN => Verdict::Bad,
                _ => Verdict::Notable,
            };
            let should = format!("{}, the largest", ring.rx_max);
            Finding::new(name, verdict, ring.rx.to_string(), should)
                .mend(format!("ethtool -G {interface} rx {}", ring.rx_max))
                .fix(Fix::of_ethtool(
                    &["-G", interface, "rx"],
                    &ring.rx_max.to_string(),
                    &ring.rx.to_string(),
                ))
        }
        Ok(_) => Finding::unknown(name, "the driver has no ring to set", "the largest"),
        Err(error) => Finding::unknown(name, untold(&error), "the largest"),
    }
}

fn coalescing(machine: &Machine, interface: &str) -> Finding {
    let (name, should) = ("coalescing", "adaptive-rx off, rx-usecs 0");
    let set = match machine.kernel.coalescing(interface) {
        Ok(set) => set,
        Err(error) => return Finding::unknown(name, untold(&error), should),
    };
    let adaptive =
        set.adaptive_rx.map(|on| format!("adaptive-rx {}", if on { "on" } else { "off" }));
    let usecs = set.rx_usecs.map(|usecs| format!("rx-usecs {usecs}"));
    let is: Vec<String> = adaptive.into_iter().chain(usecs).collect();
    if is.is_empty() {
        return Finding::unknown(name, "the driver has none to set", should);
    }
    let held_back = set.adaptive_rx == Some(true) || set.rx_usecs.is_some_and(|usecs| usecs > 0);
    let verdict = if held_back { Verdict::Notable } else { Verdict::Good };
    let off = set.adaptive_rx.map_or("", |_| " adaptive-rx off");
    Finding::new(name, verdict, is.join(", "), should)
        .mend(format!("ethtool -C {interface}{off} rx-usecs 0"))
}

/// A feature that should be off.
struct Unwanted {
    /// As the kernel calls it.
    feature: &'static str,
    /// As `ethtool -k` shows it.
    name: &'static str,
    /// As `ethtool -K` takes it.
    key: &'static str,
    /// What it is where it is on.
    verdict: Verdict,
    /// What it does.
    effect: &'static str,
}

const UNWANTED: [Unwanted; 4] = [
    Unwanted {
        feature: "rx-gro",
        name: "generic-receive-offload",
        key: "gro",
        verdict: Verdict::Notable,
        effect: "merges and delays what generic XDP and the kernel see",
    },
    Unwanted {
        feature: "rx-lro",
        name: "large-receive-offload",
        key: "lro",
        verdict: Verdict::Bad,
        effect: "merges packets before XDP sees them",
    },
    Unwanted {
        feature: "rx-gro-hw",
        name: "rx-gro-hw",
        key: "rx-gro-hw",
        verdict: Verdict::Bad,
        effect: "merges packets before XDP sees them",
    },
    Unwanted {
        feature: "rx-vlan-hw-parse",
        name: "rx-vlan-offload",
        key: "rxvlan",
        verdict: Verdict::Notable,
        effect: "strips VLAN tags, which are then not counted",
    },
];

fn offloads(machine: &Machine, interface: &str) -> Vec<Finding> {
    let offloads = machine.kernel.offloads(interface);
    UNWANTED.iter().map(|unwanted| offload(&offloads, interface, unwanted)).collect()
}

fn offload(
    offloads: &io::Result<BTreeMap<String, Offload>>,
    interface: &str,
    unwanted: &Unwanted,
) -> Finding {
    let (name, should) = (unwanted.name, "off");
    let offload = match offloads {
        Ok(offloads) => match offloads.get(unwanted.feature) {
            Some(offload) => *offload,
            None => return Finding::unknown(name, "this kernel lists no such feature", should),
        },
        Err(error) => return Finding::unknown(name, untold(error), should),
    };
    match (offload.on, offload.fixed) {
        (false, _) => Finding::new(name, Verdict::Good, "off", should),
        (true, true) => {
            let is = format!("on, and the driver lets nobody change it: {}", unwanted.effect);
            Finding::new(name, unwanted.verdict, is, should)
        }
        (true, false) => {
            let is = format!("on: {}", unwanted.effect);
            Finding::new(name, unwanted.verdict, is, should)
                .mend(format!("ethtool -K {interface} {} off", unwanted.key))
                .fix(Fix::of_ethtool(&["-K", interface, unwanted.key], "off", "on"))
        }
    }
}

/// Whether NIC and workers are on one memory node; nothing to say where there is but one.
fn node(machine: &Machine, interface: &str, workers: &[Worker]) -> Option<Finding> {
    let of_card: i32 =
        machine.value(&format!("/sys/class/net/{interface}/device/numa_node")).ok()?;
    let cores = cores(workers);
    if of_card < 0 || cores.is_empty() {
        return None;
    }
    let near = machine.cpus(&format!("/sys/devices/system/node/node{of_card}/cpulist")).ok()?;
    let should = format!("workers on its processors {near}");
    let is = format!("node {of_card}, workers on {cores}");
    let verdict = if near.holds(&cores) { Verdict::Good } else { Verdict::Bad };
    let edit = "editor /etc/wiretape/*.toml  # core = one of them";
    Some(Finding::new("numa_node", verdict, is, should).mend(edit))
}

/// Why the kernel does not tell, for people.
pub fn untold(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::Unsupported => "the driver does not tell".to_owned(),
        io::ErrorKind::NotFound => "this kernel does not tell".to_owned(),
        _ => match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => "the driver does not tell".to_owned(),
            _ => format!("the kernel does not tell: {error}"),
        },
    }
}
