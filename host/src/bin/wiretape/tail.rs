//! `wiretape tail`.

use crate::failure::Failure;
use crate::instant::{day_numbers, parse_zone};
use crate::line;
use crate::source::Source;
use crate::terminal::say;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use wiretape_core::event::{Event, NO_INSTRUMENT, SymbolMsg, rtype};
use wiretape_host::dbn::{DbnMetadata, write_record};
use wiretape_host::ingest::symbol_text;
use wiretape_host::reader::{EpochEnd, Followed, Follower, Segment, Start};

/// Prints events as they are published.
///
/// Follows the segment over restarts of capture. What was lost because the ring was faster than
/// the output is said on standard error, with the exact range.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape tail --instrument AAPL --instrument AMZN --tz America/New_York
  wiretape tail --from oldest --until-end --json | jq 'select(.type == \"gap\")'
  wiretape tail --from oldest --until-end --dbn --output day.dbn")]
pub struct TailArguments {
    #[command(flatten)]
    source: Source,
    /// Only events of this symbol, and those of the whole feed; can be repeated.
    #[arg(long, short, value_name = "SYMBOL")]
    instrument: Vec<String>,
    /// Where to start.
    #[arg(long, value_enum, default_value_t = From::Now)]
    from: From,
    /// Stop after so many events.
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    /// Stop when the capture run ends (or its writer has died).
    #[arg(long)]
    until_end: bool,
    /// One JSON object a line.
    #[arg(long, conflicts_with = "dbn")]
    json: bool,
    /// A DBN file (version 2, market-by-order and status records).
    #[arg(long)]
    dbn: bool,
    /// File to write to [default: standard output].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Time zone of the times printed.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = parse_zone)]
    tz: TimeZone,
}

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// The oldest event that the ring holds.
    Oldest,
    /// The next event.
    Now,
}

impl From {
    /// As the reader library says it.
    pub fn start(self) -> Start {
        match self {
            From::Oldest => Start::Oldest,
            From::Now => Start::Now,
        }
    }
}

/// Symbols by instrument id, from the directory and from the events themselves.
#[derive(Debug, Default)]
struct Symbols {
    names: HashMap<u32, String>,
}

impl Symbols {
    fn read(segment: Option<&Segment>) -> Symbols {
        let mut names = HashMap::new();
        if let Some(view) = segment.and_then(Segment::view) {
            names.extend(view.symbols().iter().map(|(id, entry)| (id, entry.symbol().to_owned())));
        }
        Symbols { names }
    }

    fn learn(&mut self, event: &Event) {
        if event.rtype() == rtype::SYMBOL
            && let Some(record) = event.get::<SymbolMsg>()
        {
            self.names.insert(record.hd.instrument_id, symbol_text(&record.symbol));
        }
    }

    fn name(&self, id: u32) -> Option<&str> {
        if id == NO_INSTRUMENT {
            return Some("-");
        }
        self.names.get(&id).map(String::as_str)
    }
}

/// Runs the command.
pub fn run(arguments: &TailArguments) -> Result<ExitCode, Failure> {
    if arguments.dbn && arguments.output.is_none() && stdout().is_terminal() {
        return Err(Failure::Usage(
            "DBN is binary: send it to a file with --output or into a pipe".into(),
        ));
    }
    let path = arguments.source.one()?;
    let mut follower = Follower::new(&path, arguments.from.start())?;
    let out: Box<dyn Write> = match &arguments.output {
        Some(file) => Box::new(File::create(file).map_err(|error| {
            Failure::Told(format!("cannot create {}: {error}", file.display()))
        })?),
        None => Box::new(stdout().lock()),
    };
    let mut tail = Tail {
        arguments,
        out: BufWriter::with_capacity(1 << 16, out),
        symbols: Symbols::read(follower.segment()),
        left: arguments.count.unwrap_or(u64::MAX),
        text: String::new(),
        begun: false,
    };
    tail.check_instruments(&path)?;
    while tail.left > 0 {
        match follower.poll()? {
            Followed::Began { .. } => {
                tail.symbols = Symbols::read(follower.segment());
            }
            Followed::Events { first, events, .. } => tail.print(first, events)?,
            Followed::Lost { epoch, lapped } => say(&format!("epoch {epoch}: {lapped}")),
            Followed::Silent { age, .. } => {
                let seconds = age.as_secs();
                say(&format!("no sign of life from the writer for {seconds} s"));
                if arguments.until_end {
                    break;
                }
            }
            Followed::Resumed { .. } => say(&"the writer gives signs of life again"),
            Followed::Ended { epoch, end, through } => {
                let how = match end {
                    EpochEnd::Clean => "ended",
                    EpochEnd::Superseded => "was cut off: its writer died",
                    EpochEnd::Damaged => "cannot be read any further: its header is damaged",
                };
                say(&format!("epoch {epoch} {how}, last event {through}"));
                if arguments.until_end {
                    break;
                }
            }
            Followed::Idle => {
                tail.out.flush()?;
                follower.wait();
            }
        }
    }
    tail.finish()?;
    Ok(ExitCode::SUCCESS)
}

struct Tail<'a> {
    arguments: &'a TailArguments,
    out: BufWriter<Box<dyn Write>>,
    symbols: Symbols,
    left: u64,
    text: String,
    /// The metadata of a DBN file has been written.
    begun: bool,
}

impl Tail<'_> {
    /// A symbol that is not there yet may still be announced: worth a word, not an error.
    fn check_instruments(&self, path: &std::path::Path) -> Result<(), Failure> {
        for symbol in &self.arguments.instrument {
            if !self.symbols.names.values().any(|name| name == symbol) {
                say(&format!("{symbol} is not announced in {} yet", path.display()));
            }
        }
        Ok(())
    }

    fn print(&mut self, first: u64, events: &[Event]) -> Result<(), Failure> {
        for (sequence, event) in (first..).zip(events) {
            self.symbols.learn(event);
            let id = event.header().instrument_id;
            let number;
            let symbol = match self.symbols.name(id) {
                Some(name) => name,
                None => {
                    number = format!("#{id}");
                    &number
                }
            };
            let wanted = &self.arguments.instrument;
            if !wanted.is_empty() && id != NO_INSTRUMENT && !wanted.iter().any(|one| one == symbol)
            {
                continue;
            }
            if self.left == 0 {
                break;
            }
            if self.arguments.dbn {
                if !std::mem::replace(&mut self.begun, true) {
                    let metadata = self.metadata(event);
                    self.out.write_all(&metadata.encode())?;
                }
                if !write_record(&mut self.out, event)? {
                    continue;
                }
            } else {
                self.text.clear();
                if self.arguments.json {
                    let object = line::as_json(event, sequence, symbol, &self.arguments.tz);
                    self.text = object.to_string();
                    self.text.push('\n');
                } else {
                    line::human(event, symbol, &self.arguments.tz, &mut self.text);
                }
                self.out.write_all(self.text.as_bytes())?;
            }
            self.left -= 1;
        }
        Ok(())
    }

    fn metadata(&self, first: &Event) -> DbnMetadata {
        let header = first.header();
        let mut symbols: Vec<(u32, String)> =
            self.symbols.names.iter().map(|(id, name)| (*id, name.clone())).collect();
        symbols.sort();
        let dataset = match header.publisher_id {
            2 => "XNAS.ITCH",
            38 => "IEXG.DEEP",
            _ => "WIRETAPE",
        };
        DbnMetadata {
            dataset: dataset.to_owned(),
            start: header.ts_event,
            symbols,
            day: day_numbers(header.ts_event),
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        if self.arguments.dbn && !self.begun {
            self.out.write_all(&self.metadata(&Event::default()).encode())?;
        }
        self.out.flush()?;
        Ok(())
    }
}
