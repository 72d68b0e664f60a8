//! `wiretape status`.

mod http;
mod look;
pub mod metrics;
mod print;

use crate::failure::Failure;
use crate::source::Source;
use crate::terminal::{CLEAR, coloured};
use clap::Args;
use look::Look;
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;
use wiretape_host::reader::Segment;

/// Show workers, feeds, gaps, and whether the loss ledger closes.
///
/// The ledger sets what the XDP program redirected against what became of it. While packets are
/// in flight it can be off by those; once the source is still it closes, or something is wrong.
/// Exit code 1 if a ledger of a worker that has ended does not close.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape status
  wiretape status --watch
  wiretape status --json | jq '.workers[].ledger.closes'")]
pub struct StatusArguments {
    #[command(flatten)]
    source: Source,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
    /// Look again every second until interrupted.
    #[arg(long, short)]
    watch: bool,
    /// Time over which rates are measured, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    interval_ms: u64,
}

/// Runs the command.
pub fn run(arguments: &StatusArguments) -> Result<ExitCode, Failure> {
    let mut interval = Duration::from_millis(arguments.interval_ms.clamp(1, 60_000));
    loop {
        let (looks, failed) = look(arguments, interval)?;
        let mut out = stdout().lock();
        if arguments.json {
            let workers: Vec<_> = looks.iter().map(Look::as_json).collect();
            let failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
            let object = serde_json::json!({ "workers": workers, "unreadable": failed });
            writeln!(out, "{object}")?;
        } else {
            if arguments.watch && stdout().is_terminal() {
                write!(out, "{CLEAR}")?;
            }
            for look in &looks {
                print::print(&mut out, look, coloured())?;
            }
            for error in &failed {
                writeln!(out, "{error}")?;
            }
        }
        out.flush()?;
        if !arguments.watch {
            let open = looks.iter().any(|look| look.is_over() && !look.ledger.closes());
            let wrong = open || (looks.is_empty() && !failed.is_empty());
            return Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        // The next look takes the time itself, in which it measures the rates.
        interval = Duration::from_secs(1);
    }
}

type Looks = (Vec<Look>, Vec<wiretape_host::reader::AttachError>);

fn look(arguments: &StatusArguments, interval: Duration) -> Result<Looks, Failure> {
    let (mut segments, mut failed) = (Vec::new(), Vec::new());
    for path in arguments.source.all()? {
        match Segment::attach(&path) {
            Ok(segment) => segments.push(segment),
            Err(error) => failed.push(error),
        }
    }
    let before: Vec<Option<look::Totals>> = segments.iter().map(look::Totals::read).collect();
    std::thread::sleep(interval);
    let looks = segments.iter().zip(before);
    Ok((looks.filter_map(|(segment, before)| Look::take(segment, before)).collect(), failed))
}
