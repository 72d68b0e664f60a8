//! `wiretape logs`.

use crate::failure::Failure;
use crate::instant::parse_zone;
use crate::source::Source;
use crate::terminal::{Tone, coloured, say, tinted};
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use serde_json::json;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use wiretape_core::segment::{LogProgram, SegmentView};
use wiretape_host::logs::{Level, LogStrings, Sentence, StringsError};
use wiretape_host::reader::{Liveness, Segment};
use wiretape_host::result::text::{self, TimeStyle};

/// Print what the worker has to say: gaps, restarts, malformed packets, and so on.
///
/// The worker writes numbers into its segment, and this command finds the sentences in the
/// program that wrote them: the running one, the wiretape-capture beside this command, or
/// --program. The last 1,024 messages are kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape logs
  wiretape logs --follow --level warn --tz America/New_York
  wiretape logs --segment itch-a --json | jq .text")]
pub struct LogsArguments {
    #[command(flatten)]
    source: Source,
    /// Go on with what comes, over restarts of capture.
    #[arg(long, short)]
    follow: bool,
    /// Leave out what is less grave.
    #[arg(long, value_enum, default_value_t = Least::Info)]
    level: Least,
    /// The program that wrote the segment.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Time zone of the times printed.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = parse_zone)]
    tz: TimeZone,
}

/// The least grave level that is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Least {
    /// Everything that is worth knowing.
    Info,
    /// What is not as it should be.
    Warn,
    /// What failed.
    Error,
}

impl Least {
    fn level(self) -> Level {
        match self {
            Least::Info => Level::Info,
            Least::Warn => Level::Warn,
            Least::Error => Level::Error,
        }
    }
}

/// How often a follower looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs the command.
pub fn run(arguments: &LogsArguments) -> Result<ExitCode, Failure> {
    let path = arguments.source.one()?;
    let mut segment = Segment::attach(&path)?;
    loop {
        print(arguments, &segment)?;
        if !arguments.follow {
            return Ok(ExitCode::SUCCESS);
        }
        // The run is over: wait for the next one.
        segment = loop {
            std::thread::sleep(LOOK_EVERY);
            if segment.is_replaced() {
                match Segment::attach(&path) {
                    Ok(next) => break next,
                    Err(error) if error.is_not_yet() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        };
    }
}

/// Prints the log of one run: what is there, or, following, all to its end.
fn print(arguments: &LogsArguments, segment: &Segment) -> Result<(), Failure> {
    let damaged = || Failure::Told(format!("{} is damaged", segment.path().display()));
    let view = segment.view().ok_or_else(damaged)?;
    let mut reader = view.logs().ok_or_else(damaged)?;
    let strings = strings(arguments, &reader.program(), view.header().pid())?;
    let mut out = stdout().lock();
    loop {
        let over = !arguments.follow
            || segment.is_replaced()
            || matches!(segment.liveness(), Liveness::Over(_));
        loop {
            match reader.read() {
                Ok(Some(frame)) => {
                    let sentence = Sentence::of(&frame, &strings, |feed| name_of(&view, feed));
                    print_one(&mut out, arguments, &sentence)?;
                }
                Ok(None) => break,
                Err(lost) => {
                    say(&format!("messages {} through {} are gone", lost.first, lost.end - 1))
                }
            }
        }
        out.flush()?;
        if over {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What the feed is called that the segment has in this place.
fn name_of(view: &SegmentView<'_>, feed: usize) -> Option<String> {
    let name = view.feed(feed)?.identity().name;
    (!name.is_empty()).then(|| name.as_str().to_owned())
}

fn print_one(
    out: &mut impl Write,
    arguments: &LogsArguments,
    sentence: &Sentence,
) -> Result<(), Failure> {
    if sentence.level < arguments.level.level() {
        return Ok(());
    }
    let mut at = String::new();
    text::time(sentence.ts as i64, &arguments.tz, TimeStyle::Offset, &mut at);
    let level = sentence.level.name();
    if arguments.json {
        let object = json!({"time": at, "level": level, "text": sentence.text});
        writeln!(out, "{object}")?;
    } else {
        let tone = match sentence.level {
            Level::Error => Tone::Bad,
            Level::Warn => Tone::Notable,
            Level::Info | Level::Debug => Tone::Good,
        };
        let level = tinted(&format!("{level:<5}"), tone, coloured());
        writeln!(out, "{at} {level} {}", sentence.text)?;
    }
    Ok(())
}

/// The strings of the program that wrote the log. One that was replaced since is told of.
fn strings(
    arguments: &LogsArguments,
    program: &LogProgram,
    pid: u32,
) -> Result<LogStrings, Failure> {
    let mut candidates = vec![PathBuf::from(format!("/proc/{pid}/exe"))];
    if let Some(beside) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        candidates.push(beside.join("wiretape-capture"));
    }
    candidates.push("/usr/bin/wiretape-capture".into());
    if let Some(named) = &arguments.program {
        candidates = vec![named.clone()];
    }
    let mut second_best = None;
    let mut reason: Option<StringsError> = None;
    for path in candidates {
        match LogStrings::read(&path, program) {
            Ok(strings) if strings.are_of(program) => return Ok(strings),
            Ok(strings) => {
                second_best.get_or_insert((path, strings));
            }
            Err(error) => reason = Some(error),
        }
    }
    match (second_best, reason) {
        (Some((path, strings)), _) => {
            let path = path.display();
            say(&format!("{path} is not the file that wrote this log: sentences may be wrong"));
            Ok(strings)
        }
        (None, Some(error)) => {
            Err(Failure::Told(format!("{error}; name the program with --program")))
        }
        (None, None) => Err(Failure::Told("there is no program to look into".to_owned())),
    }
}
