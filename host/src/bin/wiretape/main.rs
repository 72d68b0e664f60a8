//! `wiretape`: look at running captures, follow their events, ask the host.

mod arguments;
mod failure;
mod instant;
mod terminal;
mod source;
mod line;
mod tail;
mod digest;
mod status;
mod book;
mod segments;
mod worker_lock;
mod query;
mod dbn;
mod record;
mod doctor;
mod logs;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use failure::Failure;
use std::io::{self, Write};
use std::process::ExitCode;
use wiretape_host::stop_signals::survive_file_limits;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => return tell_use(&told),
    };
    match survive_file_limits().map_err(Failure::Signals).and_then(|()| run(arguments)) {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::say(&failure);
            failure.exit_code()
        }
    }
}

/// Prints what was asked for instead of a command (help, the version), or what is wrong with the
/// command line.
fn tell_use(told: &clap::Error) -> ExitCode {
    match told.print().and_then(|()| io::stdout().flush()) {
        Err(error) if !told.use_stderr() && error.kind() != io::ErrorKind::BrokenPipe => {
            terminal::say(&Failure::Io(error));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(told.exit_code() as u8),
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        Command::Tail(arguments) => tail::run(&arguments),
        Command::Digest(arguments) => digest::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Metrics(arguments) => status::metrics::run(&arguments),
        Command::Book(arguments) => book::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Segments(arguments) => segments::run(&arguments),
        Command::Dbn(arguments) => dbn::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Logs(arguments) => logs::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "wiretape", &mut script);
            io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { dir: Some(dir) } => {
            clap_mangen::generate_to(Arguments::command(), &dir).map_err(|error| {
                Failure::Told(format!("cannot write pages to {}: {error}", dir.display()))
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { dir: None } => {
            clap_mangen::Man::new(Arguments::command()).render(&mut io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
