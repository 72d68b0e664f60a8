//! `wiretape record`.

use crate::failure::Failure;
use crate::instant::parse_duration;
use crate::source::Source;
use crate::terminal::{counted, grouped, say};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use wiretape_host::record::{
    Compression, RecordNotice, RecordOptions, Recorded, RecordedQueue, Room, Rotation, WhenFull,
    record,
};
use wiretape_host::stop_signals::stop_on_signals;

/// Record the packets that a capture receives, as pcapng files.
///
/// The capture must share its frames (`retain_frames` in its source table). It is not slowed down and does
/// not know of the recorder; a recorder that falls behind by more than the frames kept misses
/// packets, says which, counts them, and writes the count into the file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape record --output /data/pcap
  wiretape record -s itch-a --output /data/pcap --rotate-every 1h --compress zstd --keep 48 --wait
  wiretape record --segment itch-a --output . --until-end --json

A file is DIR/WORKER-TIME.pcapng[.zst|.gz], and ends in .part until it is whole. Times are
nanoseconds in UTC. The first interfaces of a file are the queues of the worker (eth1 queue 0): they
have the packets that belong to no line, and at the end of each file the statistics of all their
packets: received by the XDP program, lost before the capture, shared by it, missed by the recorder,
recorded. Each line of a feed on a queue is an interface of its own behind them (itch:A).
Packets stand in the order of their receive times, those of each queue in the order they came.
A jumbo packet, which comes in several frames, is one packet here and in all counts.

Exit codes: 0 recorded whole, 1 failed, 2 wrong usage, 3 recorded with packets missed.")]
pub struct RecordArguments {
    #[command(flatten)]
    source: Source,
    /// Directory for the files.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Begin a new file before one grows beyond this (compression left aside).
    #[arg(long, value_name = "MIB", default_value_t = 1024,
          value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    rotate_mib: u64,
    /// Begin a new file at multiples of this time (10m, 1h) since midnight UTC.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    rotate_every: Option<u64>,
    /// Compress the files.
    #[arg(long, value_enum, default_value_t = Compress::None)]
    compress: Compress,
    /// Remove the oldest finished files of the worker beyond so many; the same for files that were
    /// left unfinished (.part), as by a recorder that was killed.
    #[arg(long, value_name = "FILES", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Memory for what waits for the disk.
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    buffer_mib: u32,
    /// When the disk is full, wait for room instead of ending; packets that the buffer cannot hold
    /// meanwhile are missed, and counted.
    #[arg(long)]
    wait_for_room: bool,
    /// Wait for a capture that does not run yet, which --segment names.
    #[arg(long, requires = "segment")]
    wait: bool,
    /// Stop when the capture run ends (or its writer has died), instead of following the next.
    #[arg(long)]
    until_end: bool,
    /// Say nothing but errors and what is missed.
    #[arg(long, short)]
    quiet: bool,
    /// Print what was recorded as a JSON object.
    #[arg(long)]
    json: bool,
}

/// How files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compress {
    /// Not at all.
    None,
    /// zstd, level 1.
    Zstd,
    /// gzip, level 1.
    Gzip,
}

/// Runs the command.
pub fn run(arguments: &RecordArguments) -> Result<ExitCode, Failure> {
    let segment = match (&arguments.source.segment, arguments.wait) {
        (Some(named), true) => Source::file_of(&arguments.source.directory, named),
        _ => arguments.source.one()?,
    };
    if arguments.rotate_every == Some(0) {
        return Err(Failure::Usage("--rotate-every takes a time, such as 1h".to_owned()));
    }
    let options = RecordOptions {
        segment,
        directory: arguments.output.clone(),
        rotation: Rotation {
            bytes: Some(arguments.rotate_mib << 20),
            every: arguments.rotate_every.map(Duration::from_nanos),
        },
        compression: match arguments.compress {
            Compress::None => Compression::None,
            Compress::Zstd => Compression::Zstd,
            Compress::Gzip => Compression::Gzip,
        },
        keep: arguments.keep.map(|keep| keep as usize),
        when_full: match arguments.wait_for_room {
            true => WhenFull::Wait(tell_room),
            false => WhenFull::End,
        },
        buffer: (arguments.buffer_mib as usize) << 20,
        wait: arguments.wait,
        until_end: arguments.until_end,
    };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    let progress = !arguments.quiet && stderr().is_terminal();
    let mut notice = |notice: RecordNotice| match notice {
        RecordNotice::Missed { queue, first, end } => {
            let (count, last) = (end.saturating_sub(first), end.saturating_sub(1));
            let count = counted(count, "packet");
            say(&format!("MISSED {count} of {queue}, {first} through {last}"));
        }
        RecordNotice::RunMissed { epoch } => {
            say(&format!("MISSED all of epoch {epoch}, and of any between it and the last"));
        }
        _ if arguments.quiet => {}
        RecordNotice::Began { epoch, queues } => {
            let begin = |(queue, first): &(_, u64)| format!("{queue} from packet {first} on");
            let queues: Vec<String> = queues.iter().map(begin).collect();
            say(&format!("epoch {epoch}: recording {}", queues.join(", ")));
        }
        RecordNotice::Ended { epoch } => say(&format!("epoch {epoch} ended")),
        RecordNotice::Progress(recorded) if progress => {
            let _ = write!(stderr(), "\r\x1b[K{}", sentence(&recorded));
        }
        RecordNotice::Progress(_) => {}
    };
    let recorded = record(&options, &stop, &mut notice)?;
    if progress {
        let _ = write!(stderr(), "\r\x1b[K");
    }
    let mut out = stdout().lock();
    if arguments.json {
        let queue = |one: &RecordedQueue| {
            json!({
                "interface": one.queue.interface.as_str(), "queue": one.queue.queue,
                "frames": one.frames, "missed": one.missed, "damaged": one.damaged,
            })
        };
        let queues: Vec<Value> = recorded.queues.iter().map(queue).collect();
        let object = json!({
            "frames": recorded.frames, "bytes": recorded.bytes, "missed": recorded.missed,
            "runs_missed": recorded.runs_missed, "damaged": recorded.damaged, "queues": queues, "files": recorded.files,
            "file_bytes": recorded.file_bytes, "last_file": recorded.last_file,
        });
        writeln!(out, "{object}")?;
    } else if !arguments.quiet {
        let (files, size) = (recorded.files, recorded.file_bytes >> 10);
        let files = counted(files, "file");
        write!(out, "{}; {files}, {} KiB", sentence(&recorded), grouped(size))?;
        match &recorded.last_file {
            Some(path) => writeln!(out, ", the last {}", path.display())?,
            None => writeln!(out)?,
        }
    }
    out.flush()?;
    let whole = recorded.missed == 0 && recorded.runs_missed == 0 && recorded.damaged == 0;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn tell_room(path: &Path, room: Room) {
    let path = path.display();
    say(&match room {
        Room::Gone => format!("no room left for {path}: waiting until there is some"),
        Room::Back => format!("there is room again: {path} goes on"),
    });
}

fn sentence(recorded: &Recorded) -> String {
    let (frames, missed) = (counted(recorded.frames, "packet"), grouped(recorded.missed));
    let damaged = match recorded.damaged {
        0 => String::new(),
        damaged => format!(", {damaged} damaged"),
    };
    let runs = match recorded.runs_missed {
        0 => String::new(),
        runs => format!(", and at least {}", counted(runs, "whole run")),
    };
    let bytes = counted(recorded.bytes, "byte");
    format!("{frames}, {bytes} recorded, {missed} missed{runs}{damaged}")
}
