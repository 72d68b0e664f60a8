//! `wiretape dbn`.

use crate::failure::Failure;
use crate::instant::parse_zone;
use crate::terminal::{counted, grouped};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wiretape_core::book::Bbo;
use wiretape_core::event::UNDEF_PRICE;
use wiretape_host::dbn::{Census, Comparison, DbnFile, compare};
use wiretape_host::result::text::{self, TimeStyle};

/// Look into DBN files and check them against each other.
///
/// Files of versions 1 to 3, plain or zstd-compressed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape dbn info esm4.mbo.dbn.zst
  wiretape dbn compare esm4.mbo.dbn.zst esm4.mbp-1.dbn.zst")]
pub struct DbnArguments {
    #[command(subcommand)]
    action: Action,
    /// Print JSON, an object for each file.
    #[arg(long, global = true)]
    json: bool,
    /// Time zone of the times printed.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = parse_zone, global = true)]
    tz: TimeZone,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Version, schema, symbols, and how many records of each type and action.
    #[command(after_help = "\
Examples:
  wiretape dbn info *.dbn.zst
  wiretape tail --from oldest --dbn --until-end | wiretape dbn info -
  wiretape dbn info --json esm4.mbo.dbn.zst | jq .records")]
    Info {
        /// DBN files; - is standard input.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Plays an MBO file into the book and compares it with an MBP-1 file of the same instrument
    /// and time, at records flagged last. Exit code 1 if they differ or share no time.
    #[command(after_help = "\
Examples:
  wiretape dbn compare esm4.mbo.dbn.zst esm4.mbp-1.dbn.zst
  wiretape dbn compare --json esm4.mbo.dbn.zst esm4.mbp-1.dbn.zst | jq .differences")]
    Compare {
        /// The MBO file.
        mbo: PathBuf,
        /// The MBP-1 file.
        mbp1: PathBuf,
    },
}

/// Runs the command.
pub fn run(arguments: &DbnArguments) -> Result<ExitCode, Failure> {
    let mut out = stdout().lock();
    match &arguments.action {
        Action::Info { files } => {
            for path in files {
                let census = Census::take(open(path)?)?;
                info(&mut out, path, &census, arguments)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Compare { mbo, mbp1 } => {
            let found = compare(open(mbo)?, open(mbp1)?)?;
            print_comparison(&mut out, &found, arguments)?;
            let agree = found.differences == 0 && found.compared_mbo != 0;
            Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// The file, or standard input for `-`.
fn open(path: &Path) -> Result<DbnFile, Failure> {
    let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    Ok(DbnFile::open(path)?)
}

fn moment(time: u64, zone: &TimeZone) -> String {
    let mut out = String::new();
    text::time(time as i64, zone, TimeStyle::Offset, &mut out);
    out
}

fn info(
    out: &mut impl Write,
    path: &Path,
    census: &Census,
    arguments: &DbnArguments,
) -> Result<(), Failure> {
    let zone = &arguments.tz;
    let schema = census.schema.as_deref().unwrap_or("mixed");
    let span = census.span.map(|(from, to)| (moment(from, zone), moment(to, zone)));
    if arguments.json {
        let counts: Vec<Value> = census
            .counts
            .iter()
            .map(|((kind, action), count)| json!({"type": kind, "action": action, "count": count}))
            .collect();
        let object = json!({
            "path": path, "version": census.version, "dataset": census.dataset,
            "schema": census.schema, "symbols": census.symbols, "instruments": census.instruments,
            "records": census.records, "flagged_last": census.flagged_last, "counts": counts,
            "first": span.as_ref().map(|span| &span.0), "last": span.as_ref().map(|span| &span.1),
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    writeln!(out, "{}", path.display())?;
    writeln!(out, "  DBN version {}, {schema}, {}", census.version, census.dataset)?;
    let records = counted(census.records, "record");
    let instruments = counted(census.instruments, "instrument");
    let last = grouped(census.flagged_last);
    writeln!(out, "  {records} of {instruments}, {last} flagged last")?;
    if let Some((from, to)) = span {
        writeln!(out, "  received {from} to {to}")?;
    }
    let shown: Vec<&str> = census.symbols.iter().take(SHOWN_SYMBOLS).map(String::as_str).collect();
    let more = match census.symbols.len().saturating_sub(SHOWN_SYMBOLS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    writeln!(out, "  symbols {}{more}", shown.join(" "))?;
    for ((kind, action), count) in &census.counts {
        writeln!(out, "  {:>14} {kind} {action}", grouped(*count))?;
    }
    Ok(())
}

/// Symbols that are shown of a file with many.
const SHOWN_SYMBOLS: usize = 10;

fn print_comparison(
    out: &mut impl Write,
    found: &Comparison,
    arguments: &DbnArguments,
) -> Result<(), Failure> {
    let best = |bbo: &Bbo| {
        let price = |value: i64| match value {
            UNDEF_PRICE => "-".to_owned(),
            value => {
                let mut out = String::new();
                text::price(value, &mut out);
                out
            }
        };
        let (bid, ask) = (price(bbo.bid_px), price(bbo.ask_px));
        format!("{} ({}) x {bid} | {ask} x {} ({})", bbo.bid_sz, bbo.bid_ct, bbo.ask_sz, bbo.ask_ct)
    };
    let list = |shown: &[Bbo]| shown.iter().map(best).collect::<Vec<_>>();
    if arguments.json {
        let first: Vec<Value> = found
            .first
            .iter()
            .map(|one| {
                json!({
                    "instrument_id": one.instrument, "ts_recv": moment(one.ts_recv, &arguments.tz),
                    "book": list(&one.book), "mbp1": list(&one.mbp1),
                })
            })
            .collect();
        let object = json!({
            "instruments": found.instruments, "compared_mbo": found.compared_mbo,
            "compared_mbp1": found.compared_mbp1, "outside": found.outside,
            "differences": found.differences, "only_counts": found.only_counts, "first": first,
        });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    let (mbo, mbp1) = (grouped(found.compared_mbo), grouped(found.compared_mbp1));
    writeln!(out, "{mbo} MBO and {mbp1} MBP-1 records flagged last compared")?;
    writeln!(out, "  {}", counted(found.instruments as u64, "instrument"))?;
    writeln!(out, "  {} outside the time of MBP-1", counted(found.outside, "MBO record"))?;
    let (differ, counts) = (counted(found.differences, "difference"), grouped(found.only_counts));
    writeln!(out, "  {differ}, {counts} of them only in the number of orders")?;
    for one in &found.first {
        let at = moment(one.ts_recv, &arguments.tz);
        writeln!(out, "  instrument {} at {at}", one.instrument)?;
        for (name, shown) in [("book", &one.book), ("mbp-1", &one.mbp1)] {
            for line in list(shown) {
                writeln!(out, "    {name:<5} {line}")?;
            }
        }
    }
    if found.compared_mbo == 0 {
        writeln!(out, "  the files have no instrument and time in common")?;
    }
    Ok(())
}
