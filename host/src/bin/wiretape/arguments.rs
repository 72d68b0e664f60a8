//! The command line.

use crate::{book, dbn, digest, doctor, logs, query, record, segments, status, tail};
use clap::{Parser, Subcommand};

/// Look at running captures, follow their events, and ask the host.
///
/// Captures publish events into shared memory, one segment per worker. `tail`, `status`, `book`,
/// `digest` and `segments` read that directly and need nothing else; they cannot disturb capture.
/// `query` asks `wiretape-host`, which keeps the day in columns.
#[derive(Debug, Parser)]
#[command(
    name = "wiretape",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  wiretape status                              is everything received accounted for?
  wiretape tail --instrument AAPL              events as they come
  wiretape tail --from oldest --dbn > day.dbn  events as a DBN file
  wiretape logs --follow                       gaps, restarts, malformed packets
  wiretape book AAPL                           best bid and offer, last trade
  wiretape query bars --every 1m --instrument AAPL
  wiretape query asof --tolerance 1s --format arrow --output joined.arrow

Exit codes: 0 done, 1 failed, 2 wrong usage; record and tail: 3 with frames or events missed."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print events as they are published.
    Tail(tail::TailArguments),
    /// Hash all events without their receive times, so that two runs can be compared.
    Digest(digest::DigestArguments),
    /// Show workers, feeds, gaps, and whether the loss ledger closes.
    Status(status::StatusArguments),
    /// Print the counters for Prometheus, or serve them over HTTP.
    Metrics(status::metrics::MetricsArguments),
    /// Show best bid and offer and the last trade of instruments, as of now.
    Book(book::BookArguments),
    /// Ask the host: ranges, as-of joins, bars.
    Query(query::QueryArguments),
    /// List segments, or remove those that nobody writes any more.
    Segments(segments::SegmentsArguments),
    /// Print what the workers have to say.
    Logs(logs::LogsArguments),
    /// Record the packets of a capture as pcapng files.
    Record(record::RecordArguments),
    /// Look into DBN files and check them against each other.
    Dbn(dbn::DbnArguments),
    /// Examine this machine: is it fit to capture?
    Doctor(doctor::DoctorArguments),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff), or write one for each command: wiretape man | man -l -
    Man {
        /// Directory to write all pages to.
        dir: Option<std::path::PathBuf>,
    },
}
