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
    #[command(after_help = "\
Examples:
  source <(wiretape completions bash)
  wiretape completions zsh > ~/.zfunc/_wiretape
  wiretape completions fish > ~/.config/fish/completions/wiretape.fish")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff), or write one for each command: wiretape man | man -l -
    #[command(after_help = "\
Examples:
  wiretape man | man -l -
  wiretape man /usr/local/share/man/man1")]
    Man {
        /// Directory to write all pages to.
        dir: Option<std::path::PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn each(command: &clap::Command, name: &str, look: &mut dyn FnMut(&clap::Command, &str)) {
        look(command, name);
        for sub in command.get_subcommands() {
            each(sub, &format!("{name} {}", sub.get_name()), look);
        }
    }

    #[test]
    fn the_help_of_every_command_has_examples_that_are_taken() {
        let mut lines = 0;
        each(&Arguments::command(), "wiretape", &mut |command, name| {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.starts_with("Examples:\n"), "{name} --help has no examples");
            assert!(text.lines().all(|line| line.len() <= 100), "{name}: a line will be broken");
            let examples = text.lines().skip(1).take_while(|line| line.starts_with("  "));
            for example in examples.filter(|line| line.trim_start().starts_with(name)) {
                // What stands behind two blanks is a remark, behind these signs the shell's.
                let call = example.trim_start().split("  ").next().unwrap_or_default();
                let call = call.split(['|', '>']).next().unwrap_or_default();
                let taken = Arguments::try_parse_from(call.split_whitespace());
                assert!(taken.is_ok(), "{call}: {}", taken.unwrap_err());
                lines += 1;
            }
        });
        assert!(lines > 40, "only {lines} examples were found");
    }
}
