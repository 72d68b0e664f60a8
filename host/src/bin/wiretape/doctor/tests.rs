//! Machines laid out in a folder: a bad one, the same after `--fix`, a good one, and one that tells
//! nothing.

use super::finding::{Finding, Fix, Section, Step, Verdict};
use super::inquiry::{Attached, Channels, Coalescing, Inquiry, Link, Offload, Ring, Timekeeping};
use super::machine::Machine;
use super::worker::{Worker, parse};
use super::{count, examine, mend, print};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// What a made-up kernel answers; `None` answers nothing.
struct Answers {
    good: Option<bool>,
    /// Id of the XDP program.
    program: u32,
}

impl Answers {
    fn of<T>(&self, good: T, bad: T) -> io::Result<T> {
        match self.good {
            Some(true) => Ok(good),
            Some(false) => Ok(bad),
            None => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }
}

impl Inquiry for Answers {
    fn link(&self, _: &str) -> io::Result<Link> {
        let xdp = |mode| Link { kind: None, xdp: Some(Attached { mode, program: self.program }) };
        self.of(xdp("native"), xdp("generic"))
    }

    fn program_name(&self, id: u32) -> io::Result<String> {
        match id {
            7 => Ok("steer".to_owned()),
            _ => Ok("xdp_firewall".to_owned()),
        }
    }

    fn xdp_features(&self, _: &str) -> io::Result<u64> {
        self.of(0x7F, 0)
    }

    fn xdp_metadata(&self, _: &str) -> io::Result<u64> {
        self.of(7, 6)
    }

    fn channels(&self, _: &str) -> io::Result<Channels> {
        self.of(Channels { combined: 1, rx: 0 }, Channels { combined: 8, rx: 0 })
    }

    fn ring(&self, _: &str) -> io::Result<Ring> {
        self.of(Ring { rx: 4096, rx_max: 4096 }, Ring { rx: 256, rx_max: 4096 })
    }

    fn coalescing(&self, _: &str) -> io::Result<Coalescing> {
        let set = |rx_usecs, on| Coalescing { rx_usecs: Some(rx_usecs), adaptive_rx: Some(on) };
        self.of(set(0, false), set(50, true))
    }

    fn offloads(&self, _: &str) -> io::Result<BTreeMap<String, Offload>> {
        let offload = |name: &str, on| (name.to_owned(), Offload { on, fixed: false });
        let some =
            |on| ["rx-gro", "rx-lro", "rx-vlan-hw-parse"].map(|name| offload(name, on)).into();
        let mut all: BTreeMap<_, _> = some(false);
        all.extend([offload("rx-gro-hw", false)]);
        self.of(all, some(true))
    }

    fn timekeeping(&self) -> io::Result<Timekeeping> {
        let kept = |synchronized| Timekeeping { synchronized, error_us_max: 20 };
        self.of(kept(true), kept(false))
    }
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn worker() -> Worker {
    let text = "[worker]\nname = \"w\"\ncore = 3\n[source]\ninterface = \"eth1\"\n\
                receive_stamps = \"nic\"\n[[feed]]\ngroup = \"233.54.12.111:26477\"\n";
    parse("w", text).unwrap().remove(0)
}

fn lay_out(root: &Path, good: bool) {
    let pick = |yes, no| if good { yes } else { no };
    let cpu = "/sys/devices/system/cpu";
    let clock = "/sys/devices/system/clocksource/clocksource0";
    let igmp = match good {
        true => format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
             2\teth1 : 1 V2\n\t\t\t\t{:08X} 1 0:00000000\t\t0\n",
            u32::from_ne_bytes([233, 54, 12, 111])
        ),
        false => "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n".to_owned(),
    };
    let files = [
        ("/sys/class/net/eth1/operstate", pick("up", "down")),
        ("/sys/class/net/eth1/napi_defer_hard_irqs", pick("0", "2")),
        ("/sys/class/net/eth1/gro_flush_timeout", pick("0", "200000")),
        ("/sys/class/net/eth1/device/msi_irqs/41", ""),
        ("/proc/interrupts", "      CPU0\n 41:  7  IR-PCI-MSI  eth1-TxRx-0\n"),
        ("/proc/irq/41/effective_affinity_list", pick("0", "3")),
        ("/proc/net/igmp", &igmp),
        ("/proc/1/comm", pick("systemd", "irqbalance")),
        ("/proc/2/comm", "chronyd"),
        ("/proc/cpuinfo", pick("flags : tsc constant_tsc nonstop_tsc", "flags : tsc")),
        ("/proc/sys/kernel/osrelease", pick("6.12.9-amd64", "5.4.0-200")),
        ("/proc/sys/net/core/bpf_jit_enable", pick("1", "0")),
        ("/proc/sys/net/core/busy_poll", pick("0", "50")),
        ("/proc/sys/net/core/busy_read", pick("0", "50")),
        ("/proc/sys/vm/nr_hugepages", pick("64", "0")),
        (
            "/sys/kernel/mm/transparent_hugepage/enabled",
            pick("always [madvise] never", "always madvise [never]"),
        ),
        (&format!("{cpu}/online"), "0-3"),
        (&format!("{cpu}/isolated"), pick("3", "")),
        (&format!("{cpu}/nohz_full"), pick("3", "(null)")),
        (&format!("{cpu}/cpu3/cpufreq/scaling_governor"), pick("performance", "powersave")),
        (&format!("{cpu}/cpu3/cpuidle/state1/latency"), "1"),
        (&format!("{cpu}/cpu3/cpuidle/state2/latency"), "133"),
        (&format!("{cpu}/cpu3/cpuidle/state2/name"), "C6"),
        (&format!("{cpu}/cpu3/cpuidle/state2/disable"), pick("1", "0")),
        (&format!("{clock}/current_clocksource"), pick("tsc", "hpet")),
        (&format!("{clock}/available_clocksource"), "tsc hpet acpi_pm"),
    ];
    for (path, text) in files {
        put(root, path, text);
    }
    let driver = root.join("sys/class/net/eth1/device/driver");
    symlink("../../../bus/pci/drivers/ice", driver).unwrap();
}

fn machine(root: &Path, good: Option<bool>) -> (Machine, Vec<Section>) {
    let machine = Machine::new(root, Box::new(Answers { good, program: 7 }));
    let sections = examine(&machine, &["eth1".to_owned()], &[worker()]);
    (machine, sections)
}

fn find<'a>(sections: &'a [Section], name: &str) -> &'a Finding {
    let mut findings = sections.iter().flat_map(|section| &section.findings);
    findings.find(|finding| finding.name == name).unwrap_or_else(|| panic!("no check of {name}"))
}

#[test]
fn a_good_machine_needs_nothing() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path(), true);
    let (machine, sections) = machine(root.path(), Some(true));
    let others: Vec<&Finding> = sections
        .iter()
        .flat_map(|section| &section.findings)
        .filter(|finding| finding.verdict != Verdict::Good)
        .collect();
    assert_eq!(others, [] as [&Finding; 0]);
    let (state, mut out) = (tempfile::tempdir().unwrap(), Vec::new());
    assert_eq!(mend::fix(&machine, &sections, state.path(), &mut out).unwrap(), 0);
    assert!(String::from_utf8(out).unwrap().contains("nothing that --fix could do"));
    let mut out = Vec::new();
    print(&mut out, &sections, false).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("0 notable, 0 bad, 0 unknown"), "{text}");
}

#[test]
fn somebody_elses_xdp_program_is_not_taken_for_wiretapes() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path(), true);
    let kernel = Answers { good: Some(true), program: 8 };
    let machine = Machine::new(root.path(), Box::new(kernel));
    let sections = examine(&machine, &["eth1".to_owned()], &[worker()]);
    let found = find(&sections, "xdp");
    assert_eq!(found.verdict, Verdict::Notable);
    assert_eq!(found.is, "program 8 in native mode, not Wiretape's but 'xdp_firewall'");
}

#[test]
fn every_fault_of_a_bad_machine_is_found_with_what_mends_it() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path(), false);
    let (_, sections) = machine(root.path(), Some(false));
    use Verdict::{Bad, Notable};
    let expected = [
        ("operstate", Bad, "down", "ip link set dev eth1 up"),
        ("xdp-features", Notable, "generic only", ""),
        ("xdp", Notable, "program 7 in generic mode", "wiretape-xdp unload --interface eth1 && "),
        ("receive_stamps of w", Bad, "the driver tells none", "receive_stamps = \"host\""),
        ("receive queues", Bad, "8", "ethtool -L eth1 combined 1"),
        ("rx ring", Bad, "256", "ethtool -G eth1 rx 4096"),
        ("coalescing", Notable, "adaptive-rx on", "ethtool -C eth1 adaptive-rx off rx-usecs 0"),
        ("generic-receive-offload", Notable, "on", "ethtool -K eth1 gro off"),
        ("large-receive-offload", Bad, "on", "ethtool -K eth1 lro off"),
        ("rx-vlan-offload", Notable, "on", "ethtool -K eth1 rxvlan off"),
        ("interrupts", Bad, "41 on 3", "echo 0 > /proc/irq/$irq/smp_affinity_list"),
        ("napi_defer_hard_irqs", Notable, "2", "echo 0 > /sys/class/net/eth1"),
        ("multicast 233.54.12.111", Bad, "not joined", "systemctl start wiretape-capture@w"),
        ("isolated processors", Notable, "none", "isolcpus=3"),
        ("processors without ticks", Notable, "none", "nohz_full=3"),
        ("governor", Notable, "powersave on 3", "cpupower frequency-set -g performance"),
        ("idle states (C-states)", Notable, "C6 on processor 3, 133 us", "cpupower idle-set"),
        ("vm.nr_hugepages", Notable, "0", "sysctl -w vm.nr_hugepages=8"),
        ("transparent_hugepage", Notable, "never", "echo madvise"),
        ("clock source", Notable, "hpet", "echo tsc"),
        ("time-stamp counter", Bad, "without constant_tsc, nonstop_tsc", ""),
        ("time synchronisation", Bad, "not kept; chronyd", "chronyd"),
        ("kernel", Bad, "5.4.0-200", ""),
        ("net.core.bpf_jit_enable", Bad, "0", "sysctl -w net.core.bpf_jit_enable=1"),
        ("irqbalance", Bad, "running", "systemctl disable --now irqbalance"),
        ("net.core.busy_poll", Notable, "50 us", "sysctl -w net.core.busy_poll=0"),
    ];
    for (name, verdict, is, command) in expected {
        let found = find(&sections, name);
        assert_eq!(found.verdict, verdict, "{name}: {}", found.is);
        assert!(found.is.contains(is), "{name}: {}", found.is);
        let mend = found.mend.as_deref().unwrap_or_default();
        assert!(mend.contains(command), "{name}: {mend}");
    }
    assert_eq!(find(&sections, "rx-gro-hw").is, "this kernel lists no such feature");
    assert_eq!(count(&sections, Verdict::Unknown), 2, "besides that, the querier");
    // Everything but the driver, the pinning and the shallow states is amiss.
    let good: Vec<&str> = sections
        .iter()
        .flat_map(|section| &section.findings)
        .filter(|finding| finding.verdict == Verdict::Good)
        .map(|finding| finding.name.as_str())
        .collect();
    assert_eq!(good, ["driver", "pinned workers"]);
}

#[test]
fn what_is_safe_is_mended_on_record_and_taken_back() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lay_out(root.path(), false);
    // What ethtool would do to an interface is tried on a real one elsewhere.
    let (machine, mut sections) = machine(root.path(), Some(false));
    sections.iter_mut().for_each(|section| {
        section.findings.retain(|finding| {
            finding.mend.as_ref().is_none_or(|mend| !mend.starts_with("ethtool"))
        });
    });
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    let files = [
        ("proc/sys/net/core/bpf_jit_enable", "0", "1"),
        ("proc/sys/net/core/busy_poll", "50", "00"),
        ("proc/sys/vm/nr_hugepages", "0", "8"),
        ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave", "performance"),
        ("sys/class/net/eth1/napi_defer_hard_irqs", "2", "0"),
    ];
    let before: Vec<String> = files.iter().map(|(path, ..)| read(path)).collect();
    let mut out = Vec::new();
    assert_eq!(mend::fix(&machine, &sections, state.path(), &mut out).unwrap(), 0);
    for (path, _, after) in files {
        // A plain file keeps the tail of what it held; the kernel's do not.
        assert!(read(path).starts_with(&after[..1]), "{path}: {}", read(path));
    }
    let said = String::from_utf8(out).unwrap();
    assert!(said.contains("echo 8 > /proc/sys/vm/nr_hugepages"), "{said}");
    let record = state.path().join("undo.json");
    assert_eq!(fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);

    let mut out = Vec::new();
    assert_eq!(mend::undo(&machine, state.path(), &mut out).unwrap(), 0);
    for ((path, value, _), before) in files.iter().zip(&before) {
        let now = read(path);
        assert!(now.starts_with(value) && before == value, "{path}: {now}");
    }
    let mut out = Vec::new();
    mend::undo(&machine, state.path(), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("nothing is on record"));

    // A change that cannot be made is told, and leaves nothing to be taken back.
    fs::remove_file(root.path().join("proc/sys/vm/nr_hugepages")).unwrap();
    let mut out = Vec::new();
    assert_eq!(mend::fix(&machine, &sections, state.path(), &mut out).unwrap(), 1);
    let text = fs::read_to_string(&record).unwrap();
    assert!(!text.contains("nr_hugepages") && text.contains("bpf_jit_enable"), "{text}");
    fs::write(&record, "{").unwrap();
    let damaged = mend::undo(&machine, state.path(), &mut Vec::new()).unwrap_err().to_string();
    assert!(damaged.contains("is damaged"), "{damaged}");
}

#[test]
fn a_machine_that_tells_nothing_is_never_good() {
    let root = tempfile::tempdir().unwrap();
    let (_, sections) = machine(root.path(), None);
    let claims: Vec<&Finding> = sections
        .iter()
        .flat_map(|section| &section.findings)
        .filter(|finding| finding.verdict != Verdict::Unknown)
        .collect();
    // What the configuration tells is known all the same.
    assert_eq!(claims.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["pinned workers"]);
    assert!(sections.iter().flat_map(|one| &one.findings).all(|one| one.fix.is_none()));
}

/// Sections of one finding that `--fix` would mend by writing ones into files.
fn mended(paths: &[&str]) -> Vec<Section> {
    let fix = Fix {
        steps: paths.iter().map(|path| Step::write(path, "1")).collect(),
        undo: paths.iter().map(|path| Step::write(path, "0")).collect(),
    };
    let finding = Finding::new("thing", Verdict::Bad, "0", "1").fix(fix);
    vec![Section::new("things", vec![finding])]
}

#[test]
fn a_change_half_made_can_be_taken_back() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let machine = Machine::new(root.path(), Box::new(Answers { good: None, program: 7 }));
    let now = || fs::read_to_string(root.path().join("sys/a")).unwrap();
    put(root.path(), "/sys/a", "0");
    let (sections, mut out) = (mended(&["/sys/a", "/sys/none", "/sys/after"]), Vec::new());
    assert_eq!(mend::fix(&machine, &sections, state.path(), &mut out).unwrap(), 1);
    assert_eq!(now(), "1");
    let said = String::from_utf8(out).unwrap();
    assert!(said.contains("failed") && !said.contains("/sys/after"), "{said}");
    let mut out = Vec::new();
    assert_eq!(mend::undo(&machine, state.path(), &mut out).unwrap(), 0);
    assert_eq!(now(), "0");
    let said = String::from_utf8(out).unwrap();
    assert!(!said.contains("/sys/none"), "what was not done is not taken back: {said}");
}

#[test]
fn a_record_of_an_earlier_boot_or_that_others_can_write_changes_nothing() {
    let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let machine = Machine::new(root.path(), Box::new(Answers { good: None, program: 7 }));
    let now = || fs::read_to_string(root.path().join("sys/a")).unwrap();
    put(root.path(), "/sys/a", "0");
    put(root.path(), "/proc/sys/kernel/random/boot_id", "one");
    mend::fix(&machine, &mended(&["/sys/a"]), state.path(), &mut Vec::new()).unwrap();
    let record = state.path().join("undo.json");
    for (path, mode) in [(record.as_path(), 0o602), (state.path(), 0o770)] {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = mend::undo(&machine, state.path(), &mut Vec::new()).unwrap_err();
        assert!(refused.to_string().contains("others can write it"), "{refused}");
        fs::set_permissions(path, before).unwrap();
    }
    put(root.path(), "/proc/sys/kernel/random/boot_id", "two");
    let mut out = Vec::new();
    assert_eq!(mend::undo(&machine, state.path(), &mut out).unwrap(), 0);
    assert!(String::from_utf8(out).unwrap().contains("has booted since"));
    assert_eq!(now(), "1");
}

#[test]
fn what_hides_is_not_taken_for_absent() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path(), true);
    // As with hidepid: nothing but one's own processes.
    fs::remove_file(root.path().join("proc/1/comm")).unwrap();
    put(root.path(), "/proc/sys/net/ipv4/conf/all/force_igmp_version", "2");
    let (_, sections) = machine(root.path(), Some(true));
    for name in ["irqbalance", "igmp querier"] {
        assert_eq!(find(&sections, name).verdict, Verdict::Unknown, "{name}");
    }
}

#[test]
fn a_worker_of_several_queues_is_one_worker() {
    let root = tempfile::tempdir().unwrap();
    lay_out(root.path(), false);
    let of = |source: &str, good| {
        let text = format!("[worker]\ncore = 3\n[source]\ninterface = \"eth1\"\n{source}\n");
        let machine = Machine::new(root.path(), Box::new(Answers { good: Some(good), program: 7 }));
        examine(&machine, &["eth1".to_owned()], &parse("w", &text).unwrap())
    };
    let told = |sections: &[Section], name: &str| {
        let found = find(sections, name);
        (found.verdict, found.is.clone(), found.mend.clone().unwrap_or_default())
    };

    let two_ports = of("also = [\"eth2\", \"eth1:1\"]", false);
    assert_eq!(find(&two_ports, "pinned workers").verdict, Verdict::Good);
    let (verdict, is, mend) = told(&two_ports, "receive queues");
    assert_eq!((verdict, is.as_str()), (Verdict::Bad, "8"));
    assert_eq!(mend, "ethtool -L eth1 combined 2");
    // 16 MiB for each of the three queues.
    let (_, _, mend) = told(&two_ports, "vm.nr_hugepages");
    assert_eq!(mend, "sysctl -w vm.nr_hugepages=24");

    // What is advised must not take away the queue that is served.
    let (verdict, is, mend) = told(&of("queue = 3", false), "receive queues");
    assert_eq!((verdict, is.as_str()), (Verdict::Bad, "8"));
    assert!(mend.starts_with("editor"), "{mend}");
    let (verdict, is, mend) = told(&of("queue = 3", true), "receive queues");
    assert_eq!((verdict, is.as_str()), (Verdict::Bad, "1, and workers serve 3"));
    assert_eq!(mend, "ethtool -L eth1 combined 4");
}
