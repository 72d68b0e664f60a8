//! The command line of `wiretape-xdp`.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use wiretape_xdp::bpffs::DEFAULT_PIN_DIR;
use wiretape_xdp::{Group, ModeChoice};

/// Steers multicast groups from a network interface into AF_XDP sockets.
///
/// An XDP program looks at every packet of the interface. A packet to one of the groups is counted
/// and handed to the AF_XDP socket of its receive queue; without a socket, and for every other
/// packet, the kernel's stack goes on as if nothing were there. IPv4 over Ethernet, with up to two
/// VLAN tags. IPv4 fragments are counted, and left to the kernel.
#[derive(Debug, Parser)]
#[command(name = "wiretape-xdp", version, propagate_version = true)]
#[command(after_long_help = EXAMPLES)]
pub struct Cli {
    /// Directory of the pins, in a bpf file system.
    ///
    /// The usual one is mounted if it is not there. A directory elsewhere must be in a bpf file
    /// system already: mount -t bpf bpf DIR.
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,

    /// Show what libbpf and the verifier say.
    #[arg(short, long, global = true)]
    pub verbose: bool,

    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  wiretape-xdp load --interface eth1 --group 233.54.12.111:26477
  wiretape-xdp status
  wiretape-xdp group add --interface eth1 233.54.12.112:26477
  wiretape-xdp unload --interface eth1

Exit codes: 0 done (also where standard output takes no word of it: standard error has it then),
1 failed and nothing changed, 2 not understood.

In a network namespace: `ip netns exec` gives its command a /sys without the bpf file system. Enter
with nsenter --net=/run/netns/NAME, or mount a bpf file system elsewhere before and give --pin-dir.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach the program to an interface and pin it, or leave everything as it was.
    #[command(after_long_help = LOAD_EXAMPLES)]
    Load(LoadArgs),

    /// Show mode, program, groups and counters.
    ///
    /// At rest, seen = passed + fragments + malformed + matched, and matched = redirected +
    /// no-socket; where the driver is asked for receive times, it was for each that was redirected.
    /// `socket` says whether a receive queue has an AF_XDP socket; root is told, others see a
    /// question mark.
    #[command(after_help = "\
Examples:
  wiretape-xdp status
  wiretape-xdp status --interface eth1 --json | jq '.[].groups'")]
    Status(StatusArgs),

    /// Put this version's program in place of the running one.
    ///
    /// The exchange happens between two packets. Groups, counters and sockets stay.
    #[command(after_help = "\
Examples:
  wiretape-xdp replace --interface eth1")]
    Replace(ReplaceArgs),

    /// Detach the program and remove its pins.
    #[command(after_help = "\
Examples:
  wiretape-xdp unload --interface eth1")]
    Unload(InterfaceArg),

    /// List, add or remove groups while the program runs.
    #[command(
        subcommand,
        after_help = "\
Examples:
  wiretape-xdp group list --interface eth1
  wiretape-xdp group add --interface eth1 233.54.12.112:26477
  wiretape-xdp group remove --interface eth1 233.54.12.112:26477"
    )]
    Group(GroupCommand),

    /// Print a completion script for a shell.
    ///
    /// For bash: wiretape-xdp completions bash > /etc/bash_completion.d/wiretape-xdp
    #[command(after_help = "\
Examples:
  source <(wiretape-xdp completions bash)")]
    Completions {
        /// Which shell.
        shell: Shell,
    },

    /// Print the manual page (roff), or write one for each command: wiretape-xdp man | man -l -
    #[command(hide = true)]
    Man {
        /// Directory to write all pages to.
        dir: Option<PathBuf>,
    },
}

const LOAD_EXAMPLES: &str = "\
Examples:
  Two groups, in the driver:
    wiretape-xdp load --interface eth1 --group 233.54.12.111:26477 --group 233.49.196.111:26477
  A driver without native XDP:
    wiretape-xdp load --interface eth1 --group 239.1.1.1:5000 --mode generic
  Four queues, and the groups in the third, whose worker has its own processor:
    wiretape-xdp load --interface eth1 --queues 4 --to-queue 2 --group 239.1.1.1:5000
  Each packet with the time at which the NIC received it:
    wiretape-xdp load --interface eth1 --group 239.1.1.1:5000 --receive-stamps
  Capture as an ordinary user, member of the group wiretape:
    wiretape-xdp load --interface eth1 --group 239.1.1.1:5000 --pin-group wiretape";

#[derive(Debug, Args)]
pub struct InterfaceArg {
    /// Network interface, as `ip link` shows it.
    #[arg(short, long, value_name = "NAME")]
    pub interface: String,
}

#[derive(Debug, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    pub interface: InterfaceArg,

    /// Group to steer: IPv4 address and UDP port. May be repeated; `group add` adds more later.
    #[arg(short, long = "group", value_name = "ADDRESS:PORT")]
    pub groups: Vec<Group>,

    /// How to attach.
    ///
    /// Native is the default and never silently replaced by generic, which copies every packet and
    /// is several times slower: better a load that fails than a capture that is slow for a reason
    /// nobody was told.
    #[arg(long, value_enum, default_value_t = ModeArg::Native)]
    pub mode: ModeArg,

    /// User group, name or number, whose members may use the maps: capture then needs no BPF rights.
    #[arg(long, value_name = "GROUP")]
    pub pin_group: Option<String>,

    /// Have the card receive on this many queues (ethtool -L); `unload` puts back what it had.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub queues: Option<u32>,

    /// Have the card put these groups into one queue (ntuple rules, ethtool -N), for the worker
    /// that serves it; `unload` takes the rules away. Not every card can.
    #[arg(long, value_name = "QUEUE")]
    pub to_queue: Option<u32>,

    /// Have the driver asked when each packet of ours arrived, and that time of the NIC's clock put
    /// in front of it, for captures with receive_stamps = "nic".
    ///
    /// The driver has to have it (igc, ice, mlx5 and others do), native mode is a must, and kernel
    /// 6.3 or later. Most cards stamp only after they were told to: hwstamp_ctl -i NAME -r 1 (of
    /// linuxptp), or ptp4l does it. `status` counts packets that came without; `replace` keeps it.
    #[arg(long)]
    pub receive_stamps: bool,

    /// Load a program for frames of one buffer, for kernels before 5.18. It cannot attach where the
    /// MTU is larger than a page holds.
    #[arg(long)]
    pub no_frags: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ModeArg {
    /// In the driver, or fail
    Native,
    /// In the kernel behind the driver: every driver, slower
    Generic,
    /// Native, and generic where the driver refuses; says which it was
    Auto,
}

impl From<ModeArg> for ModeChoice {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Native => ModeChoice::Native,
            ModeArg::Generic => ModeChoice::Generic,
            ModeArg::Auto => ModeChoice::Auto,
        }
    }
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Network interface; all that are loaded if not given.
    #[arg(short, long, value_name = "NAME")]
    pub interface: Option<String>,

    /// Print an array of JSON objects.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ReplaceArgs {
    #[command(flatten)]
    pub interface: InterfaceArg,

    /// As for `load`.
    #[arg(long)]
    pub no_frags: bool,
}

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Show the groups.
    #[command(after_help = "\
Examples:
  wiretape-xdp group list --interface eth1")]
    List {
        #[command(flatten)]
        interface: InterfaceArg,

        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },

    /// Steer more groups from now on.
    #[command(after_help = "\
Examples:
  wiretape-xdp group add --interface eth1 233.54.12.112:26477 233.49.196.112:26477
  wiretape-xdp group add --interface eth1 --to-queue 3 233.54.12.112:26477")]
    Add {
        #[command(flatten)]
        change: GroupChange,

        /// Have the card put them into this queue (ntuple rules), those it steers already too.
        #[arg(long, value_name = "QUEUE")]
        to_queue: Option<u32>,
    },

    /// Leave groups to the kernel from now on.
    #[command(after_help = "\
Examples:
  wiretape-xdp group remove --interface eth1 233.54.12.112:26477")]
    Remove(GroupChange),
}

#[derive(Debug, Args)]
pub struct GroupChange {
    #[command(flatten)]
    pub interface: InterfaceArg,

    /// Groups: IPv4 address and UDP port.
    #[arg(value_name = "ADDRESS:PORT", required = true)]
    pub groups: Vec<Group>,
}

/// The completion script for `shell`.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wiretape-xdp", &mut script);
    let script = String::from_utf8_lossy(&script);
    // Version 4.6.11 takes the hyphen of our name for the border of a subcommand in one half of bash's
    // script, not in the other: nothing would be completed behind a subcommand.
    script.replace("wiretape__subcmd__xdp", "wiretape__xdp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_how_it_is_written() {
        fn look(command: &clap::Command) {
            for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
                let help = one.get_after_help().or_else(|| one.get_after_long_help());
                let help = help.map(ToString::to_string).unwrap_or_default();
                let name = one.get_name();
                assert!(help.contains("wiretape-xdp ") && help.contains(name), "{name}: {help}");
                look(one);
            }
        }
        look(&Cli::command());
    }

    #[test]
    fn bash_completes_what_stands_behind_each_command() {
        let script = completions(Shell::Bash);
        let states = script.lines().filter_map(|line| {
            line.trim().strip_prefix("cmd=\"").and_then(|line| line.strip_suffix('"'))
        });
        let states: Vec<&str> = states.filter(|state| !state.is_empty()).collect();
        assert!(states.contains(&"wiretape__xdp__subcmd__group__subcmd__add"), "{states:?}");
        for state in states {
            let label = format!(" {state})");
            assert!(script.lines().any(|line| line.ends_with(&label)), "nothing for {state}");
        }
    }

    #[test]
    fn what_is_no_group_is_a_usage_error() {
        let error = Cli::try_parse_from(["wiretape-xdp", "load", "-i", "x", "-g", "239.1.1.1"]);
        let error = error.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("as in 239.1.1.1:5000"), "{error}");
    }
}
