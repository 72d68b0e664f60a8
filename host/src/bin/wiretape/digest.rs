//! `wiretape digest`.

use crate::failure::Failure;
use crate::source::Source;
use clap::Args;
use serde_json::json;
use std::io::{Write, stdout};
use std::process::ExitCode;
use wiretape_host::digest::Digest;
use wiretape_host::reader::{Followed, Follower, Start};

/// Hash all events without their receive times, so that two runs can be compared.
///
/// Two captures of the same packets (from the wire, from a pcap file, of another build) must give
/// the same digest. By default it takes what the ring holds now; with --until-end it waits for the
/// end of the capture run. A digest of a tape with lost ranges says so and exits with 1.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape digest
  wiretape digest --until-end --json")]
pub struct DigestArguments {
    #[command(flatten)]
    source: Source,
    /// Go on until the capture run ends (or its writer has died).
    #[arg(long)]
    until_end: bool,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &DigestArguments) -> Result<ExitCode, Failure> {
    let path = arguments.source.one()?;
    // From the first event ever: if the ring has passed it, that is a loss to be told.
    let mut follower = Follower::new(&path, Start::At(1))?;
    let view = follower.segment().and_then(|segment| segment.view());
    let head = view.map_or(0, |view| view.events().head());
    let mut digest = Digest::new();
    let mut lost: Vec<(u64, u64)> = Vec::new();
    let mut at_epoch = 0;
    let mut through = 0;
    while arguments.until_end || follower.position() <= head {
        match follower.poll()? {
            Followed::Began { epoch, .. } => at_epoch = epoch,
            Followed::Events { first, events, .. } => {
                // The ring may have grown since: stop at the head that was there.
                let wanted = match arguments.until_end {
                    true => events.len(),
                    false => events.len().min((head + 1 - first) as usize),
                };
                digest.add(&events[..wanted]);
                through = first + wanted as u64 - 1;
            }
            Followed::Lost { lapped, .. } => lost.push((lapped.first, lapped.end)),
            Followed::Silent { .. } | Followed::Ended { .. } => break,
            Followed::Resumed { .. } => {}
            Followed::Idle => follower.wait(),
        }
    }
    let mut out = stdout().lock();
    let (events, hex) = (digest.events(), digest.hex());
    if arguments.json {
        let object = json!({
            "digest": hex, "events": events, "epoch": at_epoch, "through": through,
            "lost": lost.iter().map(|(first, end)| json!({"first": first, "end": end}))
                .collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "{hex}  {events} events, epoch {at_epoch} through {through}")?;
        for (first, end) in &lost {
            writeln!(out, "LOST sequences {first} through {}", end - 1)?;
        }
    }
    out.flush()?;
    Ok(if lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
