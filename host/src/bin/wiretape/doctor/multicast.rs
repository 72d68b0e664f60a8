//! Multicast: whether the groups are joined, and what can be known of the switch.

use super::finding::{Finding, Verdict};
use super::machine::Machine;
use super::worker::Worker;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// What `/proc/net/igmp` lists of one interface.
#[derive(Debug, Default, PartialEq, Eq)]
struct Membership {
    /// Version of IGMP that the kernel speaks there: `V3`, or that of the querier it heard.
    version: String,
    groups: BTreeSet<Ipv4Addr>,
}

/// All checks of one interface.
pub fn check(machine: &Machine, interface: &str, workers: &[Worker]) -> Vec<Finding> {
    let table = match machine.text("/proc/net/igmp") {
        Ok(table) => table,
        Err(error) => return vec![Finding::unknown("multicast", error, "joined")],
    };
    let membership = membership(&table, interface).unwrap_or_default();
    let mut findings = Vec::new();
    for worker in workers {
        findings.extend(worker.groups.iter().map(|group| joined(&membership, worker, *group)));
    }
    if findings.is_empty() {
        let is =
            format!("{} groups joined; which are wanted is not known", membership.groups.len());
        let should = "the groups of a configuration";
        findings.push(Finding::unknown("multicast", is, should));
    }
    findings.push(querier(machine, interface, &membership));
    findings
}

fn joined(membership: &Membership, worker: &Worker, group: Ipv4Addr) -> Finding {
    let (name, should) = (format!("multicast {group}"), "joined");
    if membership.groups.contains(&group) {
        return Finding::new(name, Verdict::Good, "joined", should);
    }
    let start = format!("systemctl start wiretape-capture@{}", worker.name);
    match worker.joins {
        true => Finding::new(name, Verdict::Bad, "not joined", should).mend(start),
        // A static route on the switch, or someone beside it, may do; nobody here knows.
        false => {
            let is = "not joined on this machine, as its configuration says (join = false)";
            Finding::new(name, Verdict::Notable, is, should)
        }
    }
}

/// A switch that snoops forgets a group that nobody asks for again; the one who asks is the querier.
fn querier(machine: &Machine, interface: &str, membership: &Membership) -> Finding {
    let (name, should) = ("igmp querier", "one in the VLAN, or no snooping");
    let bridge = format!("/sys/class/net/{interface}/master/bridge");
    if machine.text(&format!("{bridge}/multicast_snooping")).is_ok_and(|on| on == "0") {
        return Finding::new(name, Verdict::Good, "its bridge does not snoop", should);
    }
    if machine.text(&format!("{bridge}/multicast_querier")).is_ok_and(|on| on == "1") {
        return Finding::new(name, Verdict::Good, "its bridge is one", should);
    }
    let forced = ["all", interface].iter().any(|which| {
        let path = format!("/proc/sys/net/ipv4/conf/{which}/force_igmp_version");
        machine.value::<u32>(&path).is_ok_and(|version| version != 0)
    });
    match membership.version.as_str() {
        // Unless the kernel was told to, it speaks an older version only after hearing one. That
        // is as far as a host sees: the switch's own table stays its own.
        version @ ("V1" | "V2") if !forced => {
            let is =
                format!("one of {version} was heard; the switch's table cannot be read from here");
            Finding::new(name, Verdict::Good, is, should)
        }
        _ if forced => Finding::unknown(
            name,
            "cannot be known: force_igmp_version is set, so that its version says nothing",
            should,
        ),
        // Version 3 is what the kernel speaks also where nobody ever asked.
        _ => Finding::unknown(
            name,
            "cannot be known: the kernel keeps no record of version 3 queries, and the switch's \
             table cannot be read from here",
            should,
        )
        .mend(format!("timeout 130 tcpdump -c 1 -ni {interface} 'igmp and dst 224.0.0.1'")),
    }
}

/// Reads the table: a line for each interface, below it one for each of its groups.
fn membership(table: &str, interface: &str) -> Option<Membership> {
    let mut found: Option<Membership> = None;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(char::is_whitespace) {
            if let (Some(found), Some(group)) = (&mut found, fields.first()) {
                // The number is printed as the processor reads the address's bytes.
                let group = u32::from_str_radix(group, 16).ok();
                found.groups.extend(group.map(|group| Ipv4Addr::from(group.to_ne_bytes())));
            }
            continue;
        }
        if found.is_some() {
            break;
        }
        if fields.get(1) == Some(&interface) {
            let version = fields.last().copied().unwrap_or_default().to_owned();
            found = Some(Membership { version, groups: BTreeSet::new() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_groups_of_the_interface_count() {
        let hex = |group: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(group));
        let table = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             1\tlo        :     1      V3\n\t\t\t\t{all}     1 0:00000000\t\t0\n\
             4\teth1      :     2      V2\n\t\t\t\t{feed}     1 0:00000000\t\t0\n\
             \t\t\t\t{all}     1 0:00000000\t\t0\n\
             5\teth10     :     1      V3\n\t\t\t\t{other}     1 0:00000000\t\t0\n",
            all = hex([224, 0, 0, 1]),
            feed = hex([233, 54, 12, 111]),
            other = hex([239, 1, 1, 1]),
        );
        let eth1 = membership(&table, "eth1").unwrap();
        let expected = [[224, 0, 0, 1], [233, 54, 12, 111]].map(Ipv4Addr::from);
        assert_eq!(eth1.groups, BTreeSet::from(expected));
        assert_eq!(eth1.version, "V2");
        assert_eq!(membership(&table, "eth10").unwrap().groups.len(), 1);
        assert_eq!(membership(&table, "eth"), None);
    }
}
