//! `wiretape tail`.

use crate::failure::Failure;
use crate::instant::parse_zone;
use crate::line;
use crate::source::Source;
use crate::terminal::say;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wiretape_core::event::{Event, NO_INSTRUMENT, SymbolMsg, rtype};
use wiretape_host::dbn::{
    DbnMetadata, DbnSchema, DbnVersion, DbnWriter, Tops, TopsMemory, dataset_of,
};
use wiretape_host::ingest::{feed_range, symbol_text};
use wiretape_host::reader::{EpochEnd, Followed, Follower, Segment, Start};
use wiretape_host::stop_signals::stop_on_signals;

/// Print events as they are published.
///
/// Follows the segment over restarts of capture. What the ring no longer held, because it was
/// faster than the output or had gone round before, is said on standard error, with the exact
/// range; the exit code is then 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape tail --instrument AAPL --instrument AMZN --tz America/New_York
  wiretape tail --from oldest --until-end --json | jq 'select(.type == \"gap\")'
  wiretape tail --from oldest --until-end --dbn --output day.dbn.zst
  wiretape tail --from oldest --dbn --schema mbp-1 --dbn-version 3 > best.dbn")]
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
    /// One JSON object a line; prices as text, exact.
    #[arg(long, conflicts_with = "dbn")]
    json: bool,
    /// A DBN file.
    #[arg(long)]
    dbn: bool,
    /// What the DBN file holds.
    #[arg(long, value_enum, default_value_t = Schema::Mixed, requires = "dbn")]
    schema: Schema,
    /// Version of DBN: 1, 2 or 3.
    #[arg(long, value_name = "N", default_value = "2", requires = "dbn",
          value_parser = clap::value_parser!(u8).range(1..=3))]
    dbn_version: u8,
    /// File to write to [default: standard output]; one that ends in .zst is compressed.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Time zone of the times printed.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = parse_zone)]
    tz: TimeZone,
}

/// What a DBN file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Schema {
    /// Market-by-order and status records.
    Mixed,
    /// Market-by-order records.
    Mbo,
    /// The best bid and offer whenever it changes, and trades.
    #[value(name = "mbp-1")]
    Mbp1,
    /// Trades.
    Trades,
}

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// The oldest event that the ring holds.
    Oldest,
    /// The next event.
    Now,
}

impl Schema {
    fn dbn(self) -> DbnSchema {
        match self {
            Schema::Mixed => DbnSchema::Mixed,
            Schema::Mbo => DbnSchema::Mbo,
            Schema::Mbp1 => DbnSchema::Mbp1,
            Schema::Trades => DbnSchema::Trades,
        }
    }
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
    let mut memory = match arguments.schema {
        Schema::Mbp1 => TopsMemory::new(),
        _ => TopsMemory::default(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    let mut tail = Tail {
        arguments,
        out: Some(BufWriter::with_capacity(1 << 16, Target::open(arguments)?)),
        dbn: None,
        tops: Some(memory.tops()),
        booked: Vec::new(),
        symbols: Symbols::read(follower.segment()),
        left: arguments.count.unwrap_or(u64::MAX),
        text: String::new(),
    };
    tail.check_instruments(&path)?;
    tail.book_feeds(feeds(follower.segment()), follower.position() == 1);
    let mut missed = false;
    while tail.left > 0 && !stop.load(Ordering::Relaxed) {
        match follower.poll()? {
            Followed::Began { epoch, first, missed: unseen } => {
                if let Some(run) = unseen {
                    say(&format!("MISSED all of epoch {run}, and of any between it and the last"));
                    missed = true;
                }
                if arguments.from == From::Oldest && first > 1 {
                    let before = first - 1;
                    say(&format!(
                        "epoch {epoch}: the ring holds events 1 through {before} no more"
                    ));
                    missed = true;
                }
                if arguments.schema == Schema::Mbp1 && feeds(follower.segment()) != tail.booked {
                    tail.finish()?;
                    let text = "the capture was started with other feeds: begin another file";
                    return Err(Failure::Told(text.to_owned()));
                }
                tail.symbols = Symbols::read(follower.segment());
            }
            Followed::Events { first, events, .. } if arguments.schema == Schema::Mbp1 => {
                // The batch is the follower's, and so is the segment, which knows of feeds that were
                // added since.
                let events = events.to_vec();
                tail.book_feeds(feeds(follower.segment()), true);
                tail.print(first, &events)?;
            }
            Followed::Events { first, events, .. } => tail.print(first, events)?,
            Followed::Lost { epoch, lapped } => {
                say(&format!("epoch {epoch}: {lapped}"));
                missed = true;
                // Names may have been told meanwhile.
                tail.symbols = Symbols::read(follower.segment());
                tail.book_feeds(feeds(follower.segment()), true);
                tail.lose()?;
            }
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
                tail.flush()?;
                follower.wait();
            }
        }
    }
    tail.finish()?;
    Ok(if missed { ExitCode::from(MISSED) } else { ExitCode::SUCCESS })
}

/// The exit code where events had been overwritten before they were read.
const MISSED: u8 = 3;

/// First instrument id and number of instruments of each feed.
fn feeds(segment: Option<&Segment>) -> Vec<(u32, u32)> {
    let Some((segment, view)) = segment.and_then(|one| Some((one, one.view()?))) else {
        return Vec::new();
    };
    (0..view.feeds().count()).map_while(|index| feed_range(segment, index)).collect()
}

/// Where the output goes.
enum Target {
    Stdout(StdoutLock<'static>),
    File(File),
    Zstd(zstd::Encoder<'static, File>),
}

impl Target {
    fn open(arguments: &TailArguments) -> Result<Target, Failure> {
        let Some(path) = &arguments.output else { return Ok(Target::Stdout(stdout().lock())) };
        let failed = |error| Failure::Told(format!("cannot create {}: {error}", path.display()));
        let file = File::create(path).map_err(failed)?;
        match path.extension().is_some_and(|extension| extension == "zst") {
            true => Ok(Target::Zstd(zstd::Encoder::new(file, 0).map_err(failed)?)),
            false => Ok(Target::File(file)),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Target::Zstd(encoder) => encoder.do_finish(),
            other => other.flush(),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Stdout(out) => out.write(bytes),
            Target::File(file) => file.write(bytes),
            Target::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Stdout(out) => out.flush(),
            Target::File(file) => file.flush(),
            Target::Zstd(encoder) => encoder.flush(),
        }
    }
}

struct Tail<'a> {
    arguments: &'a TailArguments,
    /// `None` once a DBN file is begun, which has it then.
    out: Option<BufWriter<Target>>,
    dbn: Option<DbnWriter<'a, BufWriter<Target>>>,
    /// The books of MBP-1, until the DBN file is begun.
    tops: Option<Tops<'a>>,
    /// First instrument id and number of instruments of each feed that has a book.
    booked: Vec<(u32, u32)>,
    symbols: Symbols,
    left: u64,
    text: String,
}

impl<'a> Tail<'a> {
    /// A symbol that is not there yet may still be announced: worth a word, not an error.
    fn check_instruments(&self, path: &std::path::Path) -> Result<(), Failure> {
        for symbol in &self.arguments.instrument {
            if !self.symbols.names.values().any(|name| name == symbol) {
                say(&format!("{symbol} is not announced in {} yet", path.display()));
            }
        }
        Ok(())
    }

    /// Makes the books of those of `feeds` that have none; see [`Tops::add_feed`].
    fn book_feeds(&mut self, feeds: Vec<(u32, u32)>, whole: bool) {
        let tops = match (&mut self.tops, &mut self.dbn) {
            (Some(tops), _) => tops,
            (None, Some(dbn)) => dbn.tops(),
            (None, None) => return,
        };
        for &(first, count) in feeds.iter().skip(self.booked.len()) {
            tops.add_feed(first, count, whole);
            self.booked.push((first, count));
        }
    }

    /// Takes note that events were lost, also where the DBN file is not begun yet.
    fn lose(&mut self) -> Result<(), Failure> {
        if let Some(tops) = &mut self.tops {
            tops.lose_all();
        }
        if let Some(dbn) = &mut self.dbn {
            self.left = self.left.saturating_sub(dbn.lost()?);
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
                let written = self.dbn(event)?.write(event)?;
                self.left = self.left.saturating_sub(written);
                continue;
            } else {
                self.text.clear();
                if self.arguments.json {
                    let object = line::as_json(event, sequence, symbol, &self.arguments.tz);
                    self.text = object.to_string();
                    self.text.push('\n');
                } else {
                    line::human(event, symbol, &self.arguments.tz, &mut self.text);
                }
                if let Some(out) = &mut self.out {
                    out.write_all(self.text.as_bytes())?;
                }
            }
            self.left -= 1;
        }
        Ok(())
    }

    /// The DBN file, begun with what `first` tells.
    fn dbn(&mut self, first: &Event) -> Result<&mut DbnWriter<'a, BufWriter<Target>>, Failure> {
        if let Some(out) = self.out.take() {
            let version = DbnVersion::new(self.arguments.dbn_version).unwrap_or_default();
            let (schema, tops) = (self.arguments.schema.dbn(), self.tops.take());
            let metadata = self.metadata(first);
            let tops = tops.unwrap_or_default();
            self.dbn = Some(DbnWriter::new(out, &metadata, schema, version, tops)?);
        }
        match &mut self.dbn {
            Some(dbn) => Ok(dbn),
            None => Err(Failure::Told("the DBN file could not be begun".to_owned())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match (&mut self.out, &mut self.dbn) {
            (Some(out), _) => out.flush(),
            (None, Some(dbn)) => dbn.get_mut().flush(),
            (None, None) => Ok(()),
        }
    }

    fn metadata(&self, first: &Event) -> DbnMetadata {
        let header = first.header();
        // Those whose records are left out would look as if they had not traded.
        let wanted = &self.arguments.instrument;
        let named = self.symbols.names.iter().map(|(id, name)| (*id, name.clone()));
        let mut symbols: Vec<(u32, String)> =
            named.filter(|(_, name)| wanted.is_empty() || wanted.contains(name)).collect();
        symbols.sort();
        let dataset = dataset_of(header.publisher_id).to_owned();
        DbnMetadata { dataset, start: header.ts_event, received: first.ts_recv(), symbols }
    }

    fn finish(mut self) -> Result<(), Failure> {
        if self.arguments.dbn {
            self.dbn(&Event::default())?;
        }
        if let Some(dbn) = &mut self.dbn {
            dbn.finish()?;
        }
        self.flush()?;
        match (self.out, &mut self.dbn) {
            (Some(mut out), _) => out.get_mut().finish()?,
            (None, Some(dbn)) => dbn.get_mut().get_mut().finish()?,
            (None, None) => {}
        }
        Ok(())
    }
}
