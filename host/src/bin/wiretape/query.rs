//! `wiretape query`.

use crate::failure::Failure;
use crate::instant::{Instant, day_of, parse_duration, parse_zone};
use crate::terminal::{Tone, grouped, tinted};
use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wiretape_host::query::{BarRule, Request, Scope, Window, Zone};
use wiretape_host::result::text::{self, TimeStyle};
use wiretape_host::result::{Format, Printer, coverage_of};
use wiretape_host::serve::{Asked, ask, client_socket_path};
use wiretape_host::store::{Axis, Coverage, Kind, WorkerState};

/// Ask the host: ranges, as-of joins, bars.
///
/// Each answer says what it covers: through which event, and what is missing inside it and why.
/// Tables show the columns that matter most, and which feed, worker or file a row is of where there
/// are several; --wide and the other formats show all.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape query range --kind quotes --instrument AAPL --from 09:30 --to 09:31
  wiretape query asof --instrument AAPL --tolerance 1s
  wiretape query bars --every 5m --tz America/New_York --instrument AAPL
  wiretape query bars --volume 10000 --format csv --output bars.csv
  wiretape query range --kind events --format arrow > events.arrow

Times: 09:30, 09:30:00.5 (of --date, or of the latest day in the store), 2012-06-21,
2012-06-21T09:30, 2012-06-21T09:30:00-04:00, or nanoseconds since 1970.")]
pub struct QueryArguments {
    #[command(subcommand)]
    question: Question,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Rows as they were published.
    #[command(after_help = "\
Examples:
  wiretape query range --instrument AAPL --from 09:30 --to 09:31 --tz America/New_York
  wiretape query range --kind quotes --instrument AAPL --limit 20
  wiretape query range --kind events --date 2012-06-21 --format arrow > events.arrow")]
    Range {
        /// Which rows.
        #[arg(long, value_enum, default_value_t = KindName::Trades)]
        kind: KindName,
        #[command(flatten)]
        what: What,
    },
    /// Each trade with the last quote before it.
    #[command(after_help = "\
Examples:
  wiretape query asof --instrument AAPL --tolerance 1s
  wiretape query asof --by receive --format csv --output joined.csv

The quote is the last one published before the trade, never one of the same time that came after.")]
    Asof {
        #[command(flatten)]
        what: What,
        /// Age up to which a quote counts, such as 1s or 500ms [default: any].
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        tolerance: Option<u64>,
    },
    /// Bars of trades by time, volume or count.
    #[command(after_help = "\
Examples:
  wiretape query bars --every 1m --instrument AAPL
  wiretape query bars --every 1d --tz America/New_York
  wiretape query bars --volume 10000 --format csv --output bars.csv
  wiretape query bars --trades 100 --instrument AAPL

A bar without a trade is left out. One that trades to come may still change has closed = false.")]
    Bars {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        rule: Rule,
        /// Also trades that the exchange marks as not printable.
        #[arg(long)]
        unprintable: bool,
    },
    /// What instruments the host holds.
    #[command(after_help = "\
Examples:
  wiretape query instruments
  wiretape query instruments --format json | jq -r .symbol")]
    Instruments,
    /// What is missing, loss by loss.
    #[command(after_help = "\
Examples:
  wiretape query coverage
  wiretape query coverage --format csv --output losses.csv")]
    Coverage,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Rule {
    /// A bar for each such time, counted anew from each midnight in --tz; 1d or more: whole days.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    every: Option<u64>,
    /// A bar whenever so much was traded.
    #[arg(long, value_name = "QUANTITY")]
    volume: Option<u64>,
    /// A bar for so many trades.
    #[arg(long, value_name = "COUNT")]
    trades: Option<u64>,
}

#[derive(Debug, Args)]
struct What {
    /// Only this symbol; can be repeated [default: all].
    #[arg(long, short, value_name = "SYMBOL")]
    instrument: Vec<String>,
    /// From this time on.
    #[arg(long, value_name = "TIME", value_parser = Instant::parse)]
    from: Option<Instant>,
    /// Up to this time, which is not included.
    #[arg(long, value_name = "TIME", value_parser = Instant::parse)]
    to: Option<Instant>,
    /// Only this day, and that of times without one [default: all; for times, the latest day in the
    /// store].
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<Date>,
    /// Which time to go by.
    #[arg(long, value_enum, default_value_t = By::Exchange)]
    by: By,
    /// Rows at most, the first in order.
    #[arg(long, short = 'n', value_name = "ROWS")]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
struct How {
    /// How to print the answer.
    #[arg(long, short, value_enum, default_value_t = FormatName::Table, global = true)]
    format: FormatName,
    /// File to write to [default: standard output].
    #[arg(long, short, value_name = "FILE", global = true)]
    output: Option<PathBuf>,
    /// All columns in a table.
    #[arg(long, global = true)]
    wide: bool,
    /// Say nothing about the coverage.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Time zone of times, read and printed (Arrow keeps UTC).
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = parse_zone, global = true)]
    tz: TimeZone,
    /// The host's socket [default: the user's, then /run/wiretape/host.sock].
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindName {
    /// Market-by-order records.
    Events,
    /// Trades.
    Trades,
    /// Best bid and offer, a row whenever it changed.
    Quotes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// The time the exchange put on the message.
    Exchange,
    /// The time the packet was received.
    Receive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// Aligned columns.
    Table,
    /// Comma-separated values.
    Csv,
    /// One JSON object a line; prices as text, exact.
    Json,
    /// Arrow IPC stream.
    Arrow,
}

/// Columns that a table leaves out unless asked for; feed and worker are shown where there are
/// several.
const NARROW: [&str; 10] = [
    "ts_recv",
    "quote_ts_recv",
    "epoch",
    "feed",
    "worker",
    "publisher_id",
    "channel_id",
    "ts_in_delta",
    "venue_sequence",
    "notional",
];

/// Runs the command.
pub fn run(arguments: &QueryArguments) -> Result<ExitCode, Failure> {
    let how = &arguments.how;
    if how.format == FormatName::Arrow && how.output.is_none() && stdout().is_terminal() {
        return Err(Failure::Usage(
            "Arrow IPC is binary: send it to a file with --output or into a pipe".into(),
        ));
    }
    let socket = how.socket.clone().unwrap_or_else(client_socket_path);
    let request = request(&arguments.question, how, &socket)?;
    let answer = ask(&socket, &request)?;
    let coverage = coverage_of(&answer.schema());
    print(answer, how)?;
    if let Some(coverage) = coverage.filter(|_| !how.quiet) {
        say_coverage(&coverage, how)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn request(question: &Question, how: &How, socket: &Path) -> Result<Request, Failure> {
    Ok(match question {
        Question::Range { kind, what } => {
            let kind = match kind {
                KindName::Events => Kind::Events,
                KindName::Trades => Kind::Trades,
                KindName::Quotes => Kind::Quotes,
            };
            Request::Range { kind, scope: scope(what, how, socket)? }
        }
        Question::Asof { what, tolerance } => {
            Request::Asof { scope: scope(what, how, socket)?, tolerance: *tolerance }
        }
        Question::Bars { what, rule, unprintable } => {
            let scope = scope(what, how, socket)?;
            let rule = match (rule.every, rule.volume, rule.trades) {
                (Some(width), ..) => {
                    let zone = Zone::new(how.tz.clone());
                    let zone = zone.map_err(|error| Failure::Usage(format!("--tz: {error}")))?;
                    BarRule::Day { width, zone }
                }
                (_, Some(volume), _) => BarRule::Volume(volume),
                (_, _, trades) => BarRule::Count(trades.unwrap_or(1)),
            };
            Request::Bars { scope, rule, unprintable: *unprintable }
        }
        Question::Instruments => Request::Instruments {},
        Question::Coverage => Request::Coverage {},
    })
}

fn scope(what: &What, how: &How, socket: &Path) -> Result<Scope, Failure> {
    let needs_day = |at: &Option<Instant>| matches!(at, Some(Instant::TimeOfDay(..)));
    let day = match what.date {
        Some(day) => Some(day),
        None if needs_day(&what.from) || needs_day(&what.to) => {
            latest(socket)?.and_then(|time| day_of(time, &how.tz))
        }
        None => None,
    };
    let resolve =
        |at: &Option<Instant>| at.as_ref().map(|at| at.resolve(&how.tz, || day)).transpose();
    let mut window = Window { from: resolve(&what.from)?, to: resolve(&what.to)? };
    // A day means that day, as far as no time says more.
    if let Some(date) = what.date {
        let midnight = |date: Date| {
            let midnight = Instant::Civil(date.at(0, 0, 0, 0), date.to_string());
            midnight.resolve(&how.tz, || None)
        };
        if window.from.is_none() {
            window.from = Some(midnight(date)?);
        }
        if window.to.is_none() {
            window.to = date.tomorrow().ok().map(midnight).transpose()?;
        }
    }
    let by = match what.by {
        By::Exchange => Axis::Exchange,
        By::Receive => Axis::Receive,
    };
    Ok(Scope { instruments: what.instrument.clone(), window, by, limit: what.limit })
}

/// The latest exchange time in the store.
fn latest(socket: &Path) -> Result<Option<u64>, Failure> {
    let answer = ask(socket, &Request::Instruments {})?;
    let coverage = coverage_of(&answer.schema()).unwrap_or_default();
    Ok(coverage.workers.iter().filter_map(|worker| worker.ts_event).max())
}

fn print(answer: Asked, how: &How) -> Result<(), Failure> {
    let out: Box<dyn Write> = match &how.output {
        Some(file) => Box::new(File::create(file).map_err(|error| {
            Failure::Told(format!("cannot create {}: {error}", file.display()))
        })?),
        None => Box::new(stdout().lock()),
    };
    let out = BufWriter::with_capacity(1 << 16, out);
    let format = match how.format {
        FormatName::Table => Format::Table,
        FormatName::Csv => Format::Csv,
        FormatName::Json => Format::Json,
        FormatName::Arrow => Format::Arrow,
    };
    let schema = answer.schema();
    let workers = coverage_of(&schema).unwrap_or_default().workers;
    let several = |name: &str| match name {
        "worker" => workers.len() > 1,
        "feed" => workers.iter().any(|worker| worker.feeds > 1),
        _ => false,
    };
    let shown: Vec<usize> = (0..schema.fields().len())
        .filter(|index| {
            let narrow = format == Format::Table && !how.wide;
            let name = schema.field(*index).name().as_str();
            !(narrow && NARROW.contains(&name)) || several(name)
        })
        .collect();
    let projected = schema.project(&shown).map_err(wiretape_host::serve::ClientError::from)?;
    let mut printer = Printer::new(format, projected.into(), how.tz.clone(), out)?;
    for batch in answer {
        let batch = batch.and_then(|batch| batch.project(&shown));
        printer.write(&batch.map_err(wiretape_host::serve::ClientError::from)?)?;
    }
    printer.finish()?;
    Ok(())
}

/// What the answer covers, on standard error, so that the answer itself stays clean.
fn say_coverage(coverage: &Coverage, how: &How) -> Result<(), Failure> {
    let complete = coverage.is_complete();
    // For scripts, silence means that nothing is missing.
    if complete && how.format != FormatName::Table {
        return Ok(());
    }
    let coloured = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut err = stderr().lock();
    for worker in &coverage.workers {
        let through = worker.through.map_or("nothing yet".to_owned(), |at| at.to_string());
        let mut at = String::new();
        if let Some(time) = worker.ts_event {
            at.push_str(", exchange time ");
            text::time(time as i64, &how.tz, TimeStyle::Plain, &mut at);
        }
        let state = match worker.state {
            WorkerState::Live => "live",
            WorkerState::Ended => "ended",
            WorkerState::Dead => "its writer died",
            WorkerState::Gone => "its segment cannot be read",
        };
        let verdict = match worker.lost.len() {
            0 => tinted("nothing lost", Tone::Good, coloured),
            lost => tinted(&format!("{lost} lost ranges"), Tone::Bad, coloured),
        };
        writeln!(err, "covers {} ({state}) through {through}{at}; {verdict}", worker.worker)?;
        for loss in worker.lost.iter().take(SHOWN_LOSSES) {
            let what = match (&loss.messages, &loss.rows) {
                (Some((first, end)), _) => {
                    let feed = loss.feed.as_ref().map_or(String::new(), |(feed, session)| {
                        format!(" of feed {feed} session {session}")
                    });
                    format!("messages {first} through {}{feed}", end.saturating_sub(1))
                }
                (None, Some(rows)) => {
                    let count = grouped(rows.rows);
                    let (kind, symbol, last) = (&rows.kind, &rows.symbol, loss.end - 1);
                    format!("{count} {kind} of {symbol} up to sequence {last}")
                }
                (None, None) if loss.first < loss.end => {
                    format!("sequences {} through {}", loss.first, loss.end - 1)
                }
                (None, None) => format!("after sequence {}", loss.first.saturating_sub(1)),
            };
            writeln!(err, "  lost: {what} ({})", loss.reason.as_str())?;
        }
        if worker.lost.len() > SHOWN_LOSSES {
            let more = worker.lost.len() - SHOWN_LOSSES;
            writeln!(err, "  and {more} more: `wiretape query coverage` lists them")?;
        }
    }
    Ok(())
}

/// Losses that are shown with an answer.
const SHOWN_LOSSES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        query: QueryArguments,
    }

    fn window(arguments: &str) -> (Option<u64>, Option<u64>) {
        let arguments = ["query", "range"].into_iter().chain(arguments.split_whitespace());
        let QueryArguments { question, how } = Command::parse_from(arguments).query;
        let Question::Range { what, .. } = question else { panic!("{question:?}") };
        let Window { from, to } = scope(&what, &how, Path::new("/nowhere")).unwrap().window;
        (from, to)
    }

    #[test]
    fn a_day_ends_where_no_time_says_so() {
        let (midnight, hour) = (1_340_236_800_000_000_000, 3_600_000_000_000);
        let (from, to) = (Some(midnight), Some(midnight + 24 * hour));
        assert_eq!(window("--date 2012-06-21"), (from, to));
        let nine = Some(midnight + 9 * hour);
        assert_eq!(window("--date 2012-06-21 --from 09:00"), (nine, to));
        assert_eq!(window("--date 2012-06-21 --to 09:00"), (from, nine));
        let new_york = window("--date 2012-06-21 --from 05:00 --tz America/New_York");
        assert_eq!(new_york, (nine, Some(midnight + 28 * hour)));
        assert_eq!(window("--from 2012-06-21T09:00"), (nine, None));
        assert_eq!(window("--from 0"), (Some(0), None));
    }
}
