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

/// What to do. What a command is for is told where its arguments are: a word about it here would
/// take the place of all that is said there.
#[derive(Debug, Subcommand)]
pub enum Command {
    Tail(tail::TailArguments),
    Digest(digest::DigestArguments),
    Status(status::StatusArguments),
    Metrics(status::metrics::MetricsArguments),
    Book(book::BookArguments),
    Query(query::QueryArguments),
    Segments(segments::SegmentsArguments),
    Logs(logs::LogsArguments),
    Record(record::RecordArguments),
    Dbn(dbn::DbnArguments),
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
    fn the_help_of_a_command_has_all_that_is_said_of_it() {
        let told = |name: &str| {
            let command = Arguments::command();
            let mut command = command.find_subcommand(name).expect("a command").clone();
            command.render_long_help().to_string()
        };
        for (command, part) in [
            ("tail", "the exit code is then 3"),
            ("digest", "exits with 1"),
            ("status", "Exit code 1 if"),
            ("metrics", "all counters of all workers"),
            ("book", "no history"),
            ("query", "what it covers"),
            ("segments", "stays after its capture ended"),
            ("logs", "The last 1,024 messages"),
            ("record", "must share its frames"),
            ("dbn", "Files of versions 1 to 3"),
            ("doctor", "Nothing is changed without --fix"),
        ] {
            let help = told(command).split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(help.contains(part), "{command}: {help}");
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
