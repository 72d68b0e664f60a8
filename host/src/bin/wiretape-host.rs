//! `wiretape-host`: keeps the events of capture workers in columns and answers queries.

use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use wiretape_core::event_loop::{EventLoop, FixedMemory};
use wiretape_host::ingest::IngestSettings;
use wiretape_host::reader::DEFAULT_DIRECTORY;
use wiretape_host::serve::{Claim, Hosted, Limits, Segments, Service, default_socket_path};
use wiretape_host::stop_signals::{stop_on_signals, survive_file_limits};
use wiretape_host::store::Budget;

/// Keeps the events of capture workers in memory and answers queries over them.
///
/// Follows every segment of a directory (or those named), keeps market-by-order records, trades
/// and best bid/offer in columns, and answers `wiretape query` on a Unix socket. It reads only:
/// capture never waits for it. Stopped by SIGINT, SIGTERM or SIGHUP; after a kill it starts again without
/// cleaning up, and takes in what the rings still hold.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  wiretape-host
  wiretape-host --segment /dev/shm/wiretape/nasdaq.seg --memory 8GiB
  wiretape-host --directory /dev/shm/test --socket /tmp/host.sock
  wiretape-host --dbn xnas-20240508.mbo.dbn.zst      recorded days beside the live ones

Exit codes: 0 stopped on request, 1 failed, 2 wrong usage."
)]
struct Arguments {
    /// Segments to follow, there or not yet there [default: every *.seg of the directory].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    segment: Vec<PathBuf>,
    /// Directory whose segments are followed, also those that appear later.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY, conflicts_with = "segment")]
    directory: PathBuf,
    /// DBN files to take in (market-by-order, MBP-1, TBBO or trades, versions 1 to 3, plain or zstd):
    /// each is a tape of its own, by the name of the file up to its first dot; files that share that go
    /// by their whole names, and those that share these too by their paths. `wiretape query` has the
    /// tape of each row in the column "worker".
    #[arg(long, value_name = "FILE", num_args = 1..)]
    dbn: Vec<PathBuf>,
    /// Socket to answer on [default: $XDG_RUNTIME_DIR/wiretape/host.sock, or
    /// /run/wiretape/host.sock for root].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Memory that columns may take. When it is reached, the oldest chunks are dropped, and
    /// answers say which rows are gone.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = parse_bytes)]
    memory: usize,
    /// Rows that one answer may have.
    #[arg(long, value_name = "ROWS", default_value_t = 20_000_000)]
    rows_max: usize,
    /// Clients served at one time.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    clients_max: usize,
    /// Live orders that the book of each feed holds.
    #[arg(long, value_name = "COUNT", default_value_t = IngestSettings::default().book_orders)]
    book_orders: u32,
    /// Price levels that the book of each feed holds.
    #[arg(long, value_name = "COUNT", default_value_t = IngestSettings::default().book_levels)]
    book_levels: u32,
    /// Print a completion script for a shell.
    #[arg(long, value_name = "SHELL")]
    completions: Option<Shell>,
    /// Print the manual page: wiretape-host --man | man -l -
    #[arg(long)]
    man: bool,
}

/// What the main thread does beside taking clients in.
#[derive(Clone, Copy, Debug)]
enum Housekeeping {
    /// Look for segments that appeared.
    Look,
    /// Take clients in again after that failed.
    Accept,
}

/// Between two looks.
const LOOK_MS: u64 = 250;
/// After a client could not be taken in.
const ACCEPT_MS: u64 = 100;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => return tell_use(&told),
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the page or the script has read enough, as `| head` does.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Prints what was asked for instead of a run (help, the version), or what is wrong with the command
/// line.
fn tell_use(told: &clap::Error) -> ExitCode {
    match told.print().and_then(|()| io::stdout().flush()) {
        Err(error) if !told.use_stderr() && error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("cannot write: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(told.exit_code() as u8),
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(shell) = arguments.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "wiretape-host", &mut script);
        return Ok(std::io::stdout().write_all(&script)?);
    }
    if arguments.man {
        return Ok(clap_mangen::Man::new(Arguments::command()).render(&mut std::io::stdout())?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    survive_file_limits()?;
    for file in &arguments.dbn {
        // Its mistakes are the common ones: told before anything is made.
        wiretape_host::dbn::DbnFile::open(file)?;
    }
    let claim = Claim::new(&arguments.socket.unwrap_or_else(default_socket_path))?;
    let segments = match arguments.segment.is_empty() {
        true => Segments::Directory(arguments.directory),
        false => Segments::Paths(arguments.segment),
    };
    let settings = IngestSettings {
        book_orders: arguments.book_orders.max(1),
        book_levels: arguments.book_levels.max(1),
    };
    let budget = Arc::new(Budget::new(arguments.memory));
    let hosted = Arc::new(Hosted::new(segments, budget, settings, Arc::new(say)));
    hosted.take_dbn(&arguments.dbn)?;
    let limits = Limits { clients: arguments.clients_max.max(1), rows: arguments.rows_max };
    let service = Service::new(hosted.clone(), limits);
    let path = claim.listener().local_addr()?;
    let shown = path.as_pathname().map(|path| path.display().to_string()).unwrap_or_default();
    say(&format!("answering on {shown}"));
    let served = serve(&stop, &claim, &hosted, &service);
    hosted.stop();
    drop(claim);
    served?;
    say("stopped");
    Ok(())
}

fn serve(
    stop: &AtomicBool,
    claim: &Claim,
    hosted: &Hosted,
    service: &Service,
) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let now_ms = || begun.elapsed().as_millis() as u64;
    let mut memory = Box::new(FixedMemory::<Housekeeping, 16, 16>::new());
    let mut events = memory.event_loop(now_ms());
    events.post_later(0, Housekeeping::Look)?;
    let mut failed = String::new();
    let mut accepting = true;
    while !stop.load(Ordering::Relaxed) {
        while let Some(event) = events.next(now_ms()) {
            match event {
                Housekeeping::Look => {
                    look(hosted, &mut failed);
                    events.post_later(now_ms() + LOOK_MS, Housekeeping::Look)?;
                }
                Housekeeping::Accept => accepting = true,
            }
        }
        // While clients cannot be taken in, those that wait are no reason to get up.
        let mut listening = [PollFd::new(claim.listener(), PollFlags::IN)];
        let watched = if accepting { &mut listening[..] } else { &mut [] };
        match poll(watched, until_next(&mut events, now_ms()).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if accepting && let Err(error) = accept(claim, service) {
            // Out of descriptors, most likely: clients that leave give some back.
            say(&format!("cannot take a client in: {error}"));
            accepting = false;
            events.post_later(now_ms() + ACCEPT_MS, Housekeeping::Accept)?;
        }
    }
    Ok(())
}

/// The time until the loop has an event.
fn until_next(events: &mut EventLoop<'_, Housekeeping>, now_ms: u64) -> Option<Timespec> {
    let wait_ms = events.next_wake_ms(now_ms)?.saturating_sub(now_ms);
    Timespec::try_from(std::time::Duration::from_millis(wait_ms)).ok()
}

fn look(hosted: &Hosted, failed: &mut String) {
    match hosted.look() {
        Ok(new) => {
            for path in new {
                say(&format!("following {}", path.display()));
            }
        }
        Err(error) if error.to_string() != *failed => {
            say(&format!("cannot look for segments: {error}"));
            *failed = error.to_string();
        }
        Err(_) => {}
    }
}

/// Takes in whoever waits.
fn accept(claim: &Claim, service: &Service) -> io::Result<()> {
    loop {
        match claim.listener().accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                service.admit(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Says a sentence on standard error; a host whose standard error is gone works on.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "wiretape-host: {text}");
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        other => return Err(format!("unknown unit '{other}': write 512MiB or 8GiB")),
    };
    let count: usize = digits
        .trim()
        .parse()
        .map_err(|_| format!("'{text}' is not a size: write 512MiB or 8GiB"))?;
    count.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(|| "size out of range".to_owned())
}
