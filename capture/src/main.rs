//! `wiretape-capture`: one worker, from its configuration to its summary.

mod stop_signals;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use wiretape_capture::config::{Config, ConfigText, DepthChoice, Overrides, SourceConfig};
use wiretape_capture::control::control_socket::{Answer, ControlSocket, ask};
use wiretape_capture::run::{Notice, Summary, run};
use wiretape_capture::source::pcap::CutRecord;
use wiretape_capture::source::survey::Survey;

use stop_signals::{stop_on_signals, survive_file_limits};

const EXAMPLES: &str = "\
Examples:
  wiretape-capture --config /etc/wiretape/itch-a.toml
      Run the worker that the file describes, until SIGINT, SIGTERM or SIGHUP.
  wiretape-capture --check --config /etc/wiretape/itch-a.toml
      Check the file and print what it means; nothing is started.
  wiretape-capture --reload --config /etc/wiretape/itch-a.toml
      Have the worker that runs take in feeds which the file has besides, and let go those that it
      no longer has. All else must be as it was, or nothing is changed. `wiretape-xdp group add`
      comes first for new groups; feed_slots, depth_slots and snapshot_feeds in [worker] make room
      for feeds to come.
  wiretape-capture --pcap DEEP10.pcap.gz --feed deep10-iextp@224.2.3.10:16648
      Decode a capture file into a segment, as fast as it goes.
  wiretape-capture --pcap DEEP10.pcap.gz --groups
      List the groups in a capture file, and the --feed that decodes each.
  wiretape-capture --interface eth1 --queue 2 \\
      --feed itch50-moldudp64@233.54.12.111:26477,233.49.196.111:26477
      Capture live, line A and line B; `wiretape-xdp load` must have been run on eth1 before.

Flags win over the file. Exit codes: 0 ended cleanly, 1 failed, 2 wrong usage or configuration.
A further signal, a second later or more, ends the process at once.";

/// Captures exchange feeds: frames in, decoded events out to shared memory.
///
/// One process is one worker: one core, one receive queue or several, one segment under /dev/shm
/// that any number of readers may follow (see `wiretape tail`).
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// Configuration file (TOML); docs/operating/capture.example.toml lists every key.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// Check the configuration, print what it means, and start nothing.
    #[arg(long)]
    check: bool,
    /// Have the running capture that the configuration names take feeds in and let feeds go, so
    /// that it has those of the configuration.
    #[arg(long, conflicts_with_all = ["check", "pcap"])]
    reload: bool,
    /// Print a completion script for a shell.
    #[arg(long, value_name = "SHELL")]
    completions: Option<Shell>,
    /// Print the manual page: wiretape-capture --man | man -l -
    #[arg(long)]
    man: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Name of the worker.
    #[arg(long)]
    name: Option<String>,
    /// Processor to pin the worker to.
    #[arg(long)]
    core: Option<usize>,
    /// Directory of the segment [default: /dev/shm/wiretape].
    #[arg(long, value_name = "DIR")]
    segment_dir: Option<PathBuf>,
    /// Slots of the event ring, a power of two [default: 1048576].
    #[arg(long, value_name = "N")]
    event_slots: Option<usize>,
    /// Instruments that the segment has room for [default: 16384 a feed].
    #[arg(long, value_name = "N")]
    instruments: Option<usize>,
    /// What to do while nothing comes: spin, yield or park [default: spin].
    #[arg(long)]
    idle: Option<String>,
    /// What to give up once everything is open: full (capabilities and system calls),
    /// capabilities or none [default: full].
    #[arg(long, value_name = "HOW")]
    confine: Option<String>,
    /// Remove the segment at a clean end.
    #[arg(long)]
    unlink_on_exit: bool,
    /// Take packets from a capture file (pcap or pcapng, plain, .gz or .zst); - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interface", "queue", "mode", "pin_dir"])]
    pcap: Option<PathBuf>,
    /// List the groups that the capture file has packets of, and what they speak; start nothing.
    #[arg(long, requires = "pcap", conflicts_with = "check")]
    groups: bool,
    /// How fast to play it: unlimited or recorded [default: unlimited].
    #[arg(long)]
    speed: Option<String>,
    /// Take packets from this interface, through AF_XDP.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Receive queue of the interface [default: 0].
    #[arg(long, value_name = "N")]
    queue: Option<u32>,
    /// auto, zero-copy or copy [default: auto].
    #[arg(long)]
    mode: Option<String>,
    /// Where wiretape-xdp pinned its maps [default: /sys/fs/bpf/wiretape].
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<PathBuf>,
    /// Decode this feed, with line B behind a comma if it has two lines; may be given several times.
    #[arg(long = "feed", value_name = "PROTOCOL@GROUP:PORT[,GROUP:PORT]")]
    feeds: Vec<String>,
    /// Trading date, where the packets' times do not tell it.
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
}

impl Cli {
    fn overrides(&self) -> Overrides {
        Overrides {
            name: self.name.clone(),
            core: self.core,
            segment_dir: self.segment_dir.clone(),
            event_slots: self.event_slots,
            instruments: self.instruments,
            idle: self.idle.clone(),
            confine: self.confine.clone(),
            unlink_on_exit: self.unlink_on_exit,
            pcap: self.pcap.clone(),
            speed: self.speed.clone(),
            interface: self.interface.clone(),
            queue: self.queue,
            mode: self.mode.clone(),
            pin_dir: self.pin_dir.clone(),
            feeds: self.feeds.clone(),
            date: self.date.clone(),
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return tell_use(&told),
    };
    if let Err(error) = survive_file_limits() {
        return fail(1, &format!("cannot handle signals: {error}"));
    }
    if cli.man || cli.completions.is_some() {
        return print_about(cli.completions);
    }
    if let (true, Some(path)) = (cli.groups, &cli.pcap) {
        return match Survey::read(path) {
            Ok(survey) => say_survey(&cli, &survey),
            Err(error) => {
                if error.found.packets > 0 {
                    say_survey(&cli, &error.found);
                }
                fail(1, &error.to_string())
            }
        };
    }
    let config = match Config::load(cli.config.as_deref(), &cli.overrides()) {
        Ok(config) => config,
        Err(error) if cli.feeds.is_empty() && cli.config.is_none() && cli.pcap.is_some() => {
            return fail(2, &format!("{error} (--groups lists those in the file)"));
        }
        Err(error) => return fail(2, &error.to_string()),
    };
    if cli.check {
        return say(&describe(&config));
    }
    if cli.reload {
        return reload(&cli, &config);
    }
    let (stop, prepared) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    if let Err(error) = stop_on_signals(&stop, &prepared) {
        return fail(1, &format!("cannot handle signals: {error}"));
    }
    let mut notice = |notice: Notice| match notice {
        Notice::Prepared => prepared.store(true, Ordering::SeqCst),
        Notice::Started(text) if cli.json => tell(&text),
        Notice::Started(text) => {
            let _ = say(&text);
        }
        Notice::Changed(text) if cli.json => tell(&text),
        Notice::Changed(text) => {
            let _ = say(&text);
        }
        Notice::Warning(text) => tell(&format!("wiretape-capture: warning: {text}")),
        Notice::BrokenOff(summary) if cli.json => {
            let _ = say(&json(&summary));
        }
        Notice::BrokenOff(summary) => {
            let _ = say(&summary.to_string());
        }
    };
    match run(&config, &stop, &mut notice) {
        Ok(summary) if cli.json => say(&json(&summary)),
        Ok(summary) => {
            let said = say(&summary.to_string());
            if let (true, SourceConfig::Pcap(pcap)) = (summary.other_groups > 0, &config.source) {
                let file = pcap.path.display();
                return say(&format!("`wiretape-capture --pcap {file} --groups` lists them"));
            }
            said
        }
        Err(error) => fail(1, &error.to_string()),
    }
}

/// Has the capture that runs change its feeds.
fn reload(cli: &Cli, config: &Config) -> ExitCode {
    let text = match ConfigText::read(cli.config.as_deref(), &cli.overrides()) {
        Ok(text) => text,
        Err(error) => return fail(2, &error.to_string()),
    };
    let path = ControlSocket::path(&config.worker.segment_dir, &config.worker.name);
    match ask(&path, &text) {
        Ok(answer) if cli.json => match serde_json::to_string(&answer) {
            Ok(text) if matches!(answer, Answer::Changed { .. }) => say(&text),
            Ok(text) => {
                say(&text);
                ExitCode::FAILURE
            }
            Err(error) => fail(1, &error.to_string()),
        },
        Ok(answer @ Answer::Changed { .. }) => say(&answer.to_string()),
        Ok(answer) => fail(1, &format!("nothing was changed: {answer}")),
        Err(error) => fail(1, &error.to_string()),
    }
}

/// The completion script of a shell, or the manual page.
fn print_about(shell: Option<Shell>) -> ExitCode {
    let mut text = Vec::new();
    match shell {
        Some(shell) => {
            clap_complete::generate(shell, &mut Cli::command(), "wiretape-capture", &mut text);
        }
        None => {
            if let Err(error) = clap_mangen::Man::new(Cli::command()).render(&mut text) {
                return fail(1, &format!("cannot write the manual page: {error}"));
            }
        }
    }
    say(String::from_utf8_lossy(&text).trim_end())
}

/// Prints what was asked for instead of a run (help, the version), or what is wrong with the command
/// line.
fn tell_use(told: &clap::Error) -> ExitCode {
    match told.print().and_then(|()| std::io::stdout().flush()) {
        Err(error) if !told.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(1, &format!("cannot write: {error}"))
        }
        _ => ExitCode::from(told.exit_code() as u8),
    }
}

/// Prints to stdout; a reader that went away is no failure of ours.
fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(1, &format!("cannot write: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn say_survey(cli: &Cli, survey: &Survey) -> ExitCode {
    say(&if cli.json { survey_json(survey) } else { survey.to_string() })
}

/// Says a sentence on standard error. Where nobody listens any more, or a disk is full, a capture
/// that runs goes on without.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn fail(code: u8, text: &str) -> ExitCode {
    tell(&format!("wiretape-capture: {text}"));
    ExitCode::from(code)
}

/// How many of what: "1 feed", "2 feeds".
fn counted(count: usize, of: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{count} {of}{many}")
}

fn describe(config: &Config) -> String {
    let worker = &config.worker;
    let core = worker.core.map_or("any core".to_owned(), |core| format!("core {core}"));
    let source = match &config.source {
        SourceConfig::Xdp(xdp) => {
            let kept = match xdp.retain_frames {
                0 => String::new(),
                kept => {
                    let each = if xdp.also.is_empty() { "" } else { " of each queue" };
                    format!(", {kept} of {} frames{each} kept for recorders", xdp.frames)
                }
            };
            let queues: Vec<String> =
                xdp.queues().map(|(one, queue)| format!("{one} queue {queue}")).collect();
            format!("xdp {}, pins in {}{kept}", queues.join(" and "), xdp.pin_dir.display())
        }
        SourceConfig::Pcap(pcap) => format!("pcap {}", pcap.path.display()),
    };
    let mut text = format!(
        "worker {} on {core}: {} event slots, room for {}, {} and the depth of {}, in {}\nsource \
         {source}",
        worker.name,
        worker.event_slots,
        counted(worker.feed_slots, "feed"),
        counted(worker.instruments, "instrument"),
        counted(worker.depth_slots, "instrument"),
        worker.segment_dir.display()
    );
    if worker.snapshot_feeds {
        text += "\nTCP connections are let through, to fetch snapshots";
    }
    for feed in &config.feeds {
        let date = feed.date.map_or(String::new(), |date| format!(", {date}"));
        text += &format!(
            "\nfeed {}: {} at {}, {}, {}, {}, {}{date}",
            feed.name,
            feed.protocol.name(),
            feed.groups().map(|group| group.to_string()).collect::<Vec<_>>().join(" and "),
            counted(feed.instruments, "instrument"),
            counted(feed.max_orders, "order"),
            counted(feed.max_levels, "level"),
            feed.time_zone
        );
        text += &match &feed.depth {
            None => String::new(),
            Some(DepthChoice::All) => "; depth of all instruments".to_owned(),
            Some(DepthChoice::Symbols(symbols)) => {
                format!("; depth of {}", counted(symbols.len(), "instrument"))
            }
        };
        text += &match &feed.recovery {
            Some(recovery) => format!(
                "; what is missing is waited for {} us, then asked for {} ms from {}",
                feed.reorder.as_micros(),
                recovery.patience.as_millis(),
                recovery.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
            None if feed.reorder_packets == 0 => "; what is missing is given up at once".to_owned(),
            None => format!("; what is missing is waited for {} us", feed.reorder.as_micros()),
        };
        if let Some(snapshot) = &feed.snapshot {
            let servers: Vec<_> = snapshot.servers.iter().map(ToString::to_string).collect();
            let losses = if snapshot.after_loss { "late and after losses" } else { "late" };
            text += &format!(
                "; joins {losses} by snapshots of {}, up to {} ms and {} MiB of packets waiting",
                servers.join(", "),
                snapshot.patience.as_millis(),
                snapshot.hold_bytes >> 20
            );
        }
    }
    text + "\nconfiguration is valid"
}

fn survey_json(survey: &Survey) -> String {
    let groups: Vec<_> = survey
        .groups
        .iter()
        .map(|seen| {
            serde_json::json!({
                "group": seen.group,
                "packets": seen.packets,
                "protocol": seen.protocol.map(|protocol| protocol.name()),
                "iex_messages": seen.iex_messages,
                "iex_channels": seen.iex_channels,
                "other_mold": seen.other_mold,
            })
        })
        .collect();
    let Survey { packets, others, snapped, foreign, cut, .. } = survey;
    serde_json::json!({
        "packets": packets,
        "others": others,
        "groups": groups,
        "snapped": snapped,
        "foreign": foreign.map_or(0, |foreign| foreign.packets),
        "cut": cut.map(cut_json),
    })
    .to_string()
}

fn json(summary: &Summary) -> String {
    let feeds: Vec<_> = summary
        .feeds
        .iter()
        .map(|feed| {
            serde_json::json!({
                "name": feed.name,
                "packets": feed.packets,
                "malformed": feed.malformed,
                "malformed_causes": feed
                    .malformed_causes
                    .iter()
                    .map(|(name, packets)| ((*name).to_owned(), (*packets).into()))
                    .collect::<serde_json::Map<_, _>>(),
                "messages": feed.messages,
                "events": feed.events,
                "gaps": feed.gaps,
                "lost_messages": feed.lost_messages,
                "restarts": feed.restarts,
                "unused": feed
                    .unused
                    .iter()
                    .map(|(counter, messages)| (counter.name().to_owned(), (*messages).into()))
                    .collect::<serde_json::Map<_, _>>(),
            })
        })
        .collect();
    let refused: serde_json::Map<_, _> =
        summary.refused().map(|(cause, frames)| (cause.replace(' ', "_"), frames.into())).collect();
    serde_json::json!({
        "epoch": summary.epoch,
        "segment": summary.segment,
        "frames": summary.frames,
        "events": summary.events,
        "overwritten": summary.overwritten,
        "other_groups": summary.other_groups,
        "feeds": feeds,
        "ledger": {
            "closed": summary.ledger.closes(),
            "redirected": summary.ledger.redirected,
            "lost": summary.ledger.lost(),
            "unserved": summary.unserved,
            "unaccounted_verdicts": summary.ledger.unaccounted_verdicts(),
            "unaccounted_arrivals": summary.ledger.unaccounted_arrivals(),
            "unaccounted_outcomes": summary.ledger.unaccounted_outcomes(),
        },
        "refused": refused,
        "beyond_instruments": summary.beyond_instruments,
        "snapped": summary.snapped,
        "untimed": summary.untimed,
        "foreign": summary.foreign.map_or(0, |foreign| foreign.packets),
        "cut": summary.cut.map(cut_json),
    })
    .to_string()
}

fn cut_json(cut: CutRecord) -> serde_json::Value {
    serde_json::json!({
        "position": cut.position,
        "packets_before": cut.packets_before,
        "present": cut.present,
        "needed": cut.needed,
    })
}
