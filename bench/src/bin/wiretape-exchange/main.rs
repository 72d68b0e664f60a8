//! `wiretape-exchange`: plays an exchange's packets.

mod cli;
mod feed;
mod summary;
mod units;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use wiretape_bench::exchange::ahead::Ahead;
use wiretape_bench::exchange::glimpse::WatchedSink;
use wiretape_bench::exchange::interface::Interface;
use wiretape_bench::exchange::pace::Pace;
use wiretape_bench::exchange::packet::BATCH_BYTES;
use wiretape_bench::exchange::player::{Play, Progress, Report, play};
use wiretape_bench::exchange::rerequest::{ArchivingSink, RerequestServer};
use wiretape_bench::exchange::sink::impaired::ImpairedSink;
use wiretape_bench::exchange::sink::live_frames::LiveFramesSink;
use wiretape_bench::exchange::sink::lossy::LossySink;
use wiretape_bench::exchange::sink::pcap_file::PcapFileSink;
use wiretape_bench::exchange::sink::udp::{UdpError, UdpOptions, UdpSink};
use wiretape_bench::exchange::sink::{Sink, SinkError};

use cli::{Cli, Command};
use summary::{InterfaceCounts, Summary, progress_line};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return tell_use(&told),
    };
    let done = match &cli.command {
        Some(command) => print(command),
        None => run(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("wiretape-exchange: {}", told(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Prints what was asked for instead of a run (help, the version), or what is wrong with the command
/// line.
fn tell_use(told: &clap::Error) -> ExitCode {
    match told.print().and_then(|()| io::stdout().flush()) {
        Err(error) if !told.use_stderr() && error.kind() != io::ErrorKind::BrokenPipe => {
            tell(&format!("wiretape-exchange: cannot write: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(told.exit_code() as u8),
    }
}

/// Says a sentence on standard error, whether or not anyone still listens there.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// An error and its causes in one sentence, each said once: some errors tell their cause already.
fn told(error: &anyhow::Error) -> String {
    let mut sentence = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

/// Whether whoever reads our output has read enough, as `| head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn print(command: &Command) -> Result<()> {
    let mut out = io::stdout().lock();
    match command {
        Command::Completions { shell } => out.write_all(cli::completions(*shell).as_bytes())?,
        Command::Man => clap_mangen::Man::new(Cli::command()).render(&mut out)?,
    }
    Ok(())
}

fn run(cli: &Cli) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot take signals")?;
    }
    // A file that may not grow any further (`ulimit -f`) is to be an error of the write, where the
    // signal for that would end the process without a word.
    let beyond = signal_hook::consts::SIGXFSZ;
    signal_hook::flag::register(beyond, Arc::default()).context("cannot take signals")?;
    // What libbpf has to say comes as an error, once.
    libbpf_rs::set_print(None);
    let interface = cli.sink.interface.as_deref().map(Interface::find).transpose()?;
    let source = feed::open(cli, interface.as_ref())?;
    let before = interface.as_ref().and_then(Interface::sent_and_dropped);

    let (report, mut remarks) = if let Some(path) = &cli.sink.write {
        let mut sink = PcapFileSink::create(path)?;
        play_into(cli, source, &mut sink, &stop)?
    } else if cli.sink.live_frames {
        let interface = interface.as_ref().context("--live-frames needs --interface")?;
        let mut sink = LiveFramesSink::open(interface)?;
        play_into(cli, source, &mut sink, &stop)?
    } else {
        let options = UdpOptions {
            source: cli.sink.source_ip,
            source_port: cli.sink.source_port.unwrap_or(0),
            ttl: cli.sink.ttl,
        };
        let mut sink = UdpSink::open(interface.as_ref(), &options)?;
        play_into(cli, source, &mut sink, &stop)?
    };

    remarks.extend(feed::assumed_day(cli));
    let after = interface.as_ref().and_then(Interface::sent_and_dropped);
    let counts = before.zip(after).filter(|_| cli.sink.write.is_none());
    let counts = counts.map(|(before, after)| InterfaceCounts {
        sent: after.0.wrapping_sub(before.0),
        dropped: after.1.wrapping_sub(before.1),
    });
    let summary = Summary::new(&report, counts, remarks);
    let mut out = io::stdout().lock();
    if cli.json {
        summary.write_json(&mut out)?
    } else {
        summary.write_text(&mut out)?
    }
    out.flush()?;
    Ok(())
}

fn play_into<S: Sink>(
    cli: &Cli,
    source: Box<dyn wiretape_bench::exchange::source::Source>,
    sink: &mut S,
    stop: &AtomicBool,
) -> Result<(Report, Vec<String>)> {
    let live = cli.sink.write.is_none();
    let pace = match feed::pace(cli) {
        // A file cannot be written faster than at once: its times stay the feed's.
        Pace::Max if !live => Pace::Recorded(1.0),
        pace => pace,
    };
    let server = cli.loss.rerequest.map(RerequestServer::start).transpose();
    let server = server.map_err(|source| UdpError::Setup {
        what: "answer re-requests on the address given".to_owned(),
        source,
    });
    let server = server.map_err(SinkError::from)?;
    let glimpse = feed::glimpse(cli)?;
    let mut impaired = ImpairedSink::new(sink, feed::impairments(cli), cli.sim.seed);
    let mut lossy = LossySink::new(&mut impaired, feed::losses(cli));
    let mut archiving = match &server {
        Some(server) => server.archiving(&mut lossy),
        None => ArchivingSink::passing(&mut lossy),
    };
    let mut sink = match &glimpse {
        Some(glimpse) => glimpse.watching(&mut archiving),
        None => WatchedSink::passing(&mut archiving),
    };
    let limit = ((cli.pace.ahead << 20) / BATCH_BYTES).max(2);
    let mut ahead = Ahead::start(source, limit);
    if live && !matches!(pace, Pace::Recorded(_)) {
        ahead.wait_full(stop);
    }
    let how = Play { pace, count: cli.pace.count, duration: cli.pace.duration, live };
    let mut last = Progress { sent: Default::default(), elapsed_ns: 0 };
    let mut on_progress = |now: Progress| {
        if !cli.quiet {
            tell(&progress_line(&now, &last).to_string());
        }
        last = now;
    };
    let report = play(&mut ahead, &mut sink, how, stop, &mut on_progress)?;
    let mut remarks = ahead.finish();
    if lossy.lost() > 0 {
        remarks.push(format!("{} packets were lost on purpose", lossy.lost()));
    }
    if server.is_some() || glimpse.is_some() {
        let end = Instant::now() + cli.loss.linger;
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    if let Some(server) = server {
        remarks.push(format!("{} re-requests were answered", server.answers()));
    }
    if let Some(glimpse) = glimpse {
        let (served, refused) = (glimpse.served(), glimpse.refused());
        remarks.push(format!("{served} snapshots were served, {refused} logins refused"));
    }
    Ok((report, remarks))
}
