//! The command line.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use wiretape_bench::exchange::pace::Pace;
use wiretape_bench::exchange::sink::impaired::Impairment;

use crate::units;

const EXAMPLES: &str = "\
Examples:
  A minute of an invented market, live, over multicast on a veth:
    wiretape-exchange --sim --start now --udp --interface veth0
  The same packets into a file that Wireshark opens:
    wiretape-exchange --sim --seed 7 --write seed7.pcap
  A Nasdaq day file, a hundred times faster than it was:
    wiretape-exchange --itch 01302019.NASDAQ_ITCH50.gz --speed 100x --udp --interface eth1
  A capture as it was recorded, to the groups that it was recorded from:
    wiretape-exchange --pcap DEEP10.pcap.gz --udp --interface eth1
  Load: five million messages as fast as one core sends them (root):
    wiretape-exchange --sim --messages 5M --speed max --live-frames --interface veth0
  Lines A and B at a fixed rate:
    wiretape-exchange --sim --rate 100k/s --udp --interface veth0 \\
        --group 239.54.12.111:26477 --line-b 239.54.12.112:26477
  Messages lost on both lines, and a server that sends them again to who asks:
    wiretape-exchange --sim --udp --interface veth0 --lose 100-120,500 \\
        --line-b 239.54.12.112:26477 --rerequest 10.0.0.1:26400
  A market that can be joined during the day, by GLIMPSE snapshots over TCP:
    wiretape-exchange --sim --start now --udp --interface veth0 --glimpse 10.0.0.1:26401

On a veth, switch off checksum offload so that UDP checksums are right on arrival:
  ethtool -K veth0 tx off
Live frames need an XDP program on the other end of the veth, or GRO:
  ethtool -K PEER gro on

Exit codes: 0 played, or stopped by Ctrl-C; 1 failed; 2 the command line is wrong.";

/// Play an exchange's packets: from a capture, from an ITCH day file, or from a simulated market.
#[derive(Debug, Parser)]
#[command(
    name = "wiretape-exchange",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    group = ArgGroup::new("source").required(true),
    group = ArgGroup::new("sink").required(true),
    group = ArgGroup::new("server").multiple(true),
)]
pub struct Cli {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub sim: SimArgs,
    #[command(flatten)]
    pub framing: FramingArgs,
    #[command(flatten)]
    pub sink: SinkArgs,
    #[command(flatten)]
    pub pace: PaceArgs,
    #[command(flatten)]
    pub loss: LossArgs,
    #[command(flatten)]
    pub glimpse: GlimpseArgs,
    /// Print the summary as JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// No progress line each second
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a completion script for a shell.
    ///
    /// For bash: wiretape-exchange completions bash > /etc/bash_completion.d/wiretape-exchange
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page: wiretape-exchange man | man -l -
    Man,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What to play (one of)")]
pub struct SourceArgs {
    /// A capture: pcap or pcapng, plain, gzip or zstd
    #[arg(long, value_name = "FILE", group = "source")]
    pub pcap: Option<PathBuf>,
    /// A Nasdaq ITCH 5.0 day file (messages behind two-byte lengths), plain, gzip or zstd, packed
    /// into MoldUDP64
    #[arg(long, value_name = "FILE", group = "source")]
    pub itch: Option<PathBuf>,
    /// A simulated market: the same seed gives the same packets everywhere
    #[arg(long, group = "source")]
    pub sim: bool,
}

/// What a simulated market speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Feed {
    /// TotalView-ITCH 5.0 in MoldUDP64: every order
    Itch,
    /// IEX DEEP 1.0 in IEX-TP: every price level
    Deep,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "The simulated market")]
pub struct SimArgs {
    /// Protocol of the feed
    #[arg(long, value_name = "FEED", default_value = "itch")]
    pub feed: Feed,
    /// Seed of all randomness
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Instruments: how many, or their symbols with commas in between
    #[arg(long, value_name = "N|LIST", default_value = "8")]
    pub symbols: String,
    /// Close the market after about this many messages
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub messages: Option<u64>,
    /// Close the market after this long; 60s, or as long as --messages takes
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub session_length: Option<Duration>,
    /// Messages per second of the market's own time, on average
    #[arg(long, value_name = "RATE", default_value = "10k/s", value_parser = units::rate)]
    pub flow_rate: f64,
    /// Orders that rest in each book, about
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub depth: u32,
    /// The opening, New York time; "now" opens two seconds after the first packet
    #[arg(long, value_name = "HH:MM:SS|now", default_value = "09:30:00")]
    pub start: String,
    /// The day, also of an ITCH file whose name does not tell it. Else 2026-03-02; with
    /// --start now, and for an ITCH file whose name has no date, today
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<jiff::civil::Date>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Packets (ITCH files and the simulated market)")]
pub struct FramingArgs {
    /// MoldUDP64 session; for DEEP, its digits are the session id
    #[arg(long, value_name = "ID", default_value = "WIRETAPE01", value_parser = units::session)]
    pub session: [u8; 10],
    /// Number of the first message; at most 2^63, so that those behind it do not begin at 0 again
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(..=1 << 63))]
    pub first_sequence: u64,
    /// Most bytes of a datagram
    #[arg(long, value_name = "BYTES", default_value_t = 1_400)]
    pub max_payload: usize,
    /// Most messages of a packet
    #[arg(long, value_name = "N", default_value_t = 65_534,
          value_parser = clap::value_parser!(u16).range(1..=65_534))]
    pub messages_per_packet: u16,
    /// Messages share a packet if they are this close in time
    #[arg(long, value_name = "TIME", default_value = "10us", value_parser = units::duration)]
    pub pack_window: Duration,
    /// Send no heartbeats while the feed is silent
    #[arg(long)]
    pub no_heartbeats: bool,
    /// Heartbeats before the first message, a millisecond of the feed's time apart
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub lead_in: u32,
    /// How often to tell the end of the session
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub end_packets: u32,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Where to send (one of --udp, --live-frames, --write)")]
pub struct SinkArgs {
    /// Through a UDP socket
    #[arg(long, group = "sink")]
    pub udp: bool,
    /// From inside the kernel: an XDP test run with live frames. A million packets a second and
    /// more, needs root (CAP_BPF, CAP_NET_ADMIN) and --interface
    #[arg(long, group = "sink", requires = "interface")]
    pub live_frames: bool,
    /// Into a pcap file, at once, with the times at which the packets would have been sent
    #[arg(long, value_name = "FILE", group = "sink")]
    pub write: Option<PathBuf>,
    /// Interface to send on
    #[arg(long, short, value_name = "NAME")]
    pub interface: Option<String>,
    /// Group and port. A capture keeps its own unless this is given; else 239.54.12.111:26477
    #[arg(long, short, value_name = "ADDR:PORT", value_parser = units::group)]
    pub group: Option<SocketAddrV4>,
    /// Send every packet a second time, to this group and port
    #[arg(long, value_name = "ADDR:PORT", value_parser = units::group)]
    pub line_b: Option<SocketAddrV4>,
    /// Source address; else the interface's, else 192.0.2.1
    #[arg(long, value_name = "ADDR")]
    pub source_ip: Option<Ipv4Addr>,
    /// Source port; else the destination's
    #[arg(long, value_name = "PORT")]
    pub source_port: Option<u16>,
    /// Hops that packets may take
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub ttl: u8,
    /// VLAN id of an 802.1Q tag (not over a UDP socket)
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(0..=4_095),
          conflicts_with = "udp")]
    pub vlan: Option<u16>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What goes wrong, and re-requests (MoldUDP64)")]
pub struct LossArgs {
    /// Lose the packets that carry these messages, on every line: 17,100-120
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = units::numbers)]
    pub lose: Vec<RangeInclusive<u64>>,
    /// The same on line A alone
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = units::numbers)]
    pub lose_a: Vec<RangeInclusive<u64>>,
    /// The same on line B alone
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = units::numbers,
          requires = "line_b")]
    pub lose_b: Vec<RangeInclusive<u64>>,
    /// Line A misbehaves, the same way for the same --seed:
    /// loss=4%,duplicate=1%,reorder=20%:8,delay=30 (by up to 8 packets, by 30 packets)
    #[arg(long, value_name = "HOW", value_parser = units::impairment)]
    pub impair_a: Option<Impairment>,
    /// The same for line B
    #[arg(long, value_name = "HOW", value_parser = units::impairment, requires = "line_b")]
    pub impair_b: Option<Impairment>,
    /// Answer re-requests on this address and port with what was sent, or lost on purpose
    #[arg(long, value_name = "ADDR:PORT", value_parser = units::server, group = "server")]
    pub rerequest: Option<SocketAddrV4>,
    /// How long to go on answering after the last packet
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::duration,
          requires = "server")]
    pub linger: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Snapshots (GLIMPSE 5.0 over SoupBinTCP; --itch and --sim)")]
pub struct GlimpseArgs {
    /// Serve on this address and port the market as it is at each login: stocks, their states,
    /// resting orders, and the number of the message with which the feed goes on
    #[arg(long, value_name = "ADDR:PORT", value_parser = units::server, group = "server")]
    pub glimpse: Option<SocketAddrV4>,
    /// Let only this user in; up to 6 and 10 characters
    #[arg(long, value_name = "USER:PASSWORD", value_parser = units::login, requires = "glimpse")]
    pub glimpse_login: Option<(String, String)>,
    /// Send a snapshot this slowly, in messages a second
    #[arg(long, value_name = "RATE", value_parser = units::rate, requires = "glimpse")]
    pub glimpse_rate: Option<f64>,
    /// Break each snapshot off after so many messages
    #[arg(long, value_name = "N", value_parser = units::count, requires = "glimpse")]
    pub glimpse_break: Option<u64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "How fast and how much")]
pub struct PaceArgs {
    /// "recorded" keeps the feed's own times, "10x" is ten times faster, "max" as fast as it goes
    #[arg(long, value_name = "SPEED", default_value = "recorded", value_parser = units::speed)]
    pub speed: Pace,
    /// So many packets a second, evenly
    #[arg(long, value_name = "RATE", value_parser = units::rate, conflicts_with = "speed")]
    pub rate: Option<f64>,
    /// Stop after so many packets
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub count: Option<u64>,
    /// Stop after so long
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// Memory for packets that are built ahead, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub ahead: usize,
}

/// The completion script for `shell`.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wiretape-exchange", &mut script);
    let script = String::from_utf8_lossy(&script);
    // Version 4.6.11 takes the hyphen of our name for the border of a subcommand in one half of bash's
    // script, not in the other: nothing would be completed behind a subcommand.
    script.replace("wiretape__subcmd__exchange", "wiretape__exchange")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bash_completes_what_stands_behind_each_command() {
        let script = completions(Shell::Bash);
        let states = script.lines().filter_map(|line| {
            line.trim().strip_prefix("cmd=\"").and_then(|line| line.strip_suffix('"'))
        });
        let states: Vec<&str> = states.filter(|state| !state.is_empty()).collect();
        assert!(states.contains(&"wiretape__exchange__subcmd__completions"), "{states:?}");
        for state in states {
            let label = format!(" {state})");
            assert!(script.lines().any(|line| line.ends_with(&label)), "nothing for {state}");
        }
    }

    #[test]
    fn every_example_of_the_help_parses() {
        let joined = EXAMPLES.replace("\\\n", " ");
        let examples = joined.lines().map(str::trim).filter(|l| l.starts_with("wiretape-exchange"));
        let parsed = examples.map(|line| {
            Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|e| panic!("{line}: {e}"))
        });
        assert_eq!(parsed.count(), 8);
    }

    #[test]
    fn one_source_and_one_sink_are_needed() {
        let fails = |line: &str| Cli::try_parse_from(line.split_whitespace()).is_err();
        assert!(fails("wiretape-exchange --sim"));
        assert!(fails("wiretape-exchange --udp"));
        assert!(fails("wiretape-exchange --sim --pcap f --udp"));
        assert!(fails("wiretape-exchange --sim --udp --write f"));
        assert!(fails("wiretape-exchange --sim --live-frames"));
        assert!(fails("wiretape-exchange --sim --udp --rate 5/s --speed 2x"));
        assert!(fails("wiretape-exchange --sim --udp --linger 1s"));
        assert!(fails("wiretape-exchange --sim --udp --glimpse-login a:b"));
        assert!(!fails("wiretape-exchange --sim --udp --glimpse 127.0.0.1:1 --linger 1s"));
        let both = "--rerequest 127.0.0.1:1 --glimpse 127.0.0.1:1 --glimpse-login a:b";
        assert!(!fails(&format!("wiretape-exchange --sim --udp {both}")));
        assert!(!fails("wiretape-exchange man"));
        assert!(!fails("wiretape-exchange completions bash"));
    }
}
