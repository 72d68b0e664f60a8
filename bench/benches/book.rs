//! Decoding a day of ITCH 5.0 and keeping its full order book: nanoseconds a message; the same as
//! DBN market-by-order records; and a whole venue, whose books no cache holds, by kind of message.
//!
//! ```text
//! cargo bench -p wiretape-bench --bench book
//! cargo bench -p wiretape-bench --bench book -- --day FILE --write scaled.itch
//! target/oracle/bin/python bench/peers/replay_itch_book.py scaled.itch 3    # a peer by itself
//! ```
//!
//! The input is a day file (messages behind two-byte lengths), repeated with other locates and
//! order references until it has 5 million messages. Message k of all copies comes before message
//! k + 1 of any, as on a feed of many stocks, so that the books of all of them are in use at once;
//! references stay unique and rise through the day. Without an argument it is the real day of AAPL
//! and AMZN beside the project, of which there are then 16 copies: 32 instruments.
//!
//! Peers: itchy (crates.io), which decodes only, in this process; itch-book (PyPI), decode and full
//! book, in a Python of its own if `make oracle` has installed it, fed the same bytes from memory. They
//! and ours take turns, on one processor; of each turn's passes the best one counts.
//!
//! The venue is an invented day ([`wiretape_bench::flow`]) of 8,000 instruments in each of which 400
//! orders or so rest. Of each message's way through the book (decoded before) the time is taken by
//! itself, less what taking it costs; nothing of the message before or behind it overlaps with it, so
//! that this is what a message alone takes and not a share of many.
//!
//! Everything is in memory before the clock starts; nothing is allocated while it runs; no message
//! is skipped (those that do not concern the book are decoded). Of what has no peer each line is the best
//! of its passes, all in one process, one after the other on one thread. A book is emptied between passes
//! while no clock runs, as the peer is given a new one.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use wiretape_bench::flow::{Flow, FlowSpec, itch};
use wiretape_core::arena::Arena;
use wiretape_core::book::{
    BookError, BookSpec, HashIndex, OrderBook, OrderIndex, PagedIndex, PagedSpec,
};
use wiretape_core::event::{MboMsg, RecordHeader, Side, action, flags};
use wiretape_core::wire::binaryfile::BinaryFile;
use wiretape_core::wire::itch50::Message;

mod alone;
#[path = "contest/mod.rs"]
mod contest;
mod huge_pages;
mod scaled_day;

use alone::{Alone, quantiles};
use contest::{Contestant, Run, contest};
use huge_pages::ask_for_huge_pages;
use scaled_day::{messages, read_day, scaled};

const PASSES: usize = 7;
/// Passes of a contestant's turn.
const PASSES_OF_A_TURN: usize = 3;

/// Instruments of the venue.
const VENUE: usize = 8_000;

fn main() -> Result<()> {
    let options = Options::parse();
    contest::pin(0);
    let (quick, markdown) = (options.contest.quick, options.contest.markdown);
    let path = options.day.unwrap_or_else(real_day);
    let Some(day) = read_day(&path)? else {
        println!("skipped: {} is not there; name a day file with --day FILE", path.display());
        return Ok(());
    };
    let (copies, feed) = scaled(&day)?;
    let folder = tempfile::tempdir().context("a folder for the day that the peer reads")?;
    let scaled = options.write.unwrap_or_else(|| folder.path().join("scaled.itch"));
    std::fs::write(&scaled, &feed).with_context(|| format!("writing {}", scaled.display()))?;
    let messages = messages(&feed).count();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    println!("Input: {name} x {copies}: {messages} messages, {} MB.", feed.len() >> 20);
    let spec = BookSpec { instruments: 1 << 16, orders: 1 << 20, levels: 1 << 18 };
    let paged = PagedSpec::for_orders(spec.orders, 1 << 32);
    let mut region = vec![0; 2 * spec.bytes() + HashIndex::bytes(spec.orders) + paged.bytes()];
    ask_for_huge_pages(&mut region);
    let mut arena = Arena::new(&mut region);
    let hash = HashIndex::new(&mut arena, spec.orders)?;
    let mut hashed = OrderBook::new(&mut arena, &spec, hash)?;
    let pages = PagedIndex::new(&mut arena, &paged)?;
    let mut direct = OrderBook::new(&mut arena, &spec, pages)?;

    let count = messages as u64;
    let decoders = vec![
        Contestant::ours("decode", || turn(|| timed(|| kinds(&feed)))),
        Contestant::peer("itchy", || turn(|| timed(|| itchy_pass(&feed)))),
    ];
    contest(&options.contest, "decode", count, decoders);
    let mut books = vec![
        Contestant::ours("book by page", || turn(|| replay(&mut direct, &feed, false))),
        Contestant::ours("book by hash", || turn(|| replay(&mut hashed, &feed, false))),
    ];
    match ItchBook::installed(&scaled, messages) {
        Some(peer) => books.push(Contestant::peer("itch-book", move || {
            peer.turn().unwrap_or_else(|error| panic!("{error:#}"))
        })),
        None => println!("itch-book is not here: `make oracle` installs it"),
    }
    contest(&options.contest, "decode and full book", count, books);

    if markdown {
        println!("\n| step | ns each | M/s |\n|---|---|---|");
    }
    let measure = |name: &str, count: usize, pass: &mut dyn FnMut() -> Run| {
        let passes = if quick { 2 } else { PASSES };
        let nanos = best_of(passes, pass).took.as_secs_f64() * 1e9 / count as f64;
        let rate = 1e3 / nanos;
        match markdown {
            true => println!("| {name} | {nanos:.2} | {rate:.1} |"),
            false => println!("{name:<34} {nanos:6.2} ns each {rate:7.2} M/s"),
        }
    };
    measure("lengths only", messages, &mut || {
        timed(|| BinaryFile::new(&feed).map(|message| message.len() as u64).sum())
    });
    measure("decode, book by page, best", messages, &mut || replay(&mut direct, &feed, true));
    measure("decode, book by hash, best", messages, &mut || replay(&mut hashed, &feed, true));
    let records = as_dbn(&mut direct, &feed)?;
    measure("DBN MBO records, book by page", records.len(), &mut || {
        apply_all(&mut direct, &records)
    });
    measure("DBN MBO records, book by hash", records.len(), &mut || {
        apply_all(&mut hashed, &records)
    });
    drop((records, feed));
    venue(quick, markdown)
}

/// The quickest of some passes, all of which give the same.
fn best_of(passes: usize, pass: &mut dyn FnMut() -> Run) -> Run {
    let mut best = Run { took: Duration::MAX, check: 0 };
    for _ in 0..passes {
        let Run { took, check } = pass();
        best = Run { took: best.took.min(took), check };
    }
    best
}

/// A pass all of which counts.
fn timed(pass: impl FnOnce() -> u64) -> Run {
    let start = Instant::now();
    let check = pass();
    Run { took: start.elapsed(), check }
}

/// A turn of a contestant.
fn turn(mut pass: impl FnMut() -> Run) -> Run {
    best_of(PASSES_OF_A_TURN, &mut pass)
}

/// Decodes the feed.
fn kinds(feed: &[u8]) -> u64 {
    messages(feed).map(|message| u64::from(message.kind())).sum()
}

/// Decodes the feed with itchy.
fn itchy_pass(feed: &[u8]) -> u64 {
    let tags = itchy::MessageStream::from_reader(feed).map(|message| match message {
        Ok(message) => u64::from(black_box(message).tag),
        Err(_) => 1 << 48,
    });
    tags.sum()
}

/// itch-book, in a Python of its own.
struct ItchBook {
    python: PathBuf,
    script: PathBuf,
    day: PathBuf,
    messages: usize,
}

impl ItchBook {
    /// It, to be fed the day; `None` if it is not installed.
    fn installed(day: &Path, messages: usize) -> Option<ItchBook> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../target/oracle/bin/python");
        let script = root.join("peers/replay_itch_book.py");
        python.exists().then(|| ItchBook { python, script, day: day.to_owned(), messages })
    }

    fn turn(&self) -> Result<Run> {
        let mut command = Command::new(&self.python);
        command.arg(&self.script).arg(&self.day).arg(PASSES_OF_A_TURN.to_string());
        let output = command.output().context("itch-book")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "itch-book: {}", String::from_utf8_lossy(&output.stderr));
        let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
        let [nanos, messages, live_orders] = numbers.context("what itch-book says")?[..] else {
            bail!("itch-book says {text:?}");
        };
        ensure!(
            messages == self.messages as u64,
            "itch-book saw {messages} messages, not {}",
            self.messages
        );
        Ok(Run { took: Duration::from_nanos(nanos), check: live_orders })
    }
}

/// The feed as the records that capture publishes for it.
fn as_dbn<I: OrderIndex>(book: &mut OrderBook<'_, I>, feed: &[u8]) -> Result<Vec<MboMsg>> {
    let mut records = Vec::new();
    for message in messages(feed) {
        let head = message.head();
        let mut record = MboMsg {
            hd: RecordHeader::new::<MboMsg>(2, head.stock_locate.get().into(), 0),
            order_id: 0,
            price: 0,
            size: 0,
            flags: flags::LAST,
            channel_id: 0,
            action: action::ADD,
            side: b'N',
            ts_recv: 0,
            ts_in_delta: 0,
            sequence: 0,
        };
        let resting = |id: u64| book.order(id).context("an order of the day is not there");
        let mut take_off = |id: u64, size: Option<u32>, fill: bool| -> Result<()> {
            let order = resting(id)?;
            let side = order.side as u8;
            let size = size.unwrap_or(order.size);
            let base = MboMsg { order_id: id, price: order.price, size, side, ..record };
            let before = MboMsg { flags: 0, ..base };
            if fill {
                let side = order.side.opposite() as u8;
                records.push(MboMsg { order_id: 0, action: action::TRADE, side, ..before });
                records.push(MboMsg { action: action::FILL, ..before });
            }
            records.push(MboMsg { action: action::CANCEL, ..base });
            Ok(())
        };
        match &message {
            Message::AddOrder(m) => {
                (record.order_id, record.side) = (m.order_ref.get(), dbn_side(m.side));
                (record.price, record.size) = (m.price.nanos(), m.shares.get());
                records.push(record);
            }
            Message::AddOrderMpid(m) => {
                (record.order_id, record.side) = (m.order_ref.get(), dbn_side(m.side));
                (record.price, record.size) = (m.price.nanos(), m.shares.get());
                records.push(record);
            }
            Message::OrderExecuted(m) => take_off(m.order_ref.get(), Some(m.shares.get()), true)?,
            Message::OrderExecutedWithPrice(m) => {
                take_off(m.order_ref.get(), Some(m.shares.get()), true)?;
            }
            Message::OrderCancel(m) => take_off(m.order_ref.get(), Some(m.cancelled.get()), false)?,
            Message::OrderDelete(m) => take_off(m.order_ref.get(), None, false)?,
            Message::OrderReplace(m) => {
                let side = resting(m.old_ref.get())?.side as u8;
                take_off(m.old_ref.get(), None, false)?;
                (record.order_id, record.side) = (m.new_ref.get(), side);
                (record.price, record.size) = (m.price.nanos(), m.shares.get());
                records.push(record);
            }
            _ => {}
        }
        let _ = apply(book, &message);
    }
    book.clear_all();
    Ok(records)
}

fn dbn_side(letter: u8) -> u8 {
    if letter == b'B' { b'B' } else { b'A' }
}

fn apply_all<I: OrderIndex>(book: &mut OrderBook<'_, I>, records: &[MboMsg]) -> Run {
    let start = Instant::now();
    let mut errors = 0u64;
    for record in records {
        errors += u64::from(book.apply(record).is_err());
    }
    assert_eq!(errors, 0, "the book refused records");
    let live = black_box(&*book).live_orders();
    let took = start.elapsed();
    book.clear_all();
    Run { took, check: live.into() }
}

/// Kinds of messages that change a book.
const KINDS: [&str; 5] = ["add", "execute", "cancel", "delete", "replace"];

fn kind_of(message: &Message<'_>) -> Option<usize> {
    Some(match message {
        Message::AddOrder(_) | Message::AddOrderMpid(_) => 0,
        Message::OrderExecuted(_) | Message::OrderExecutedWithPrice(_) => 1,
        Message::OrderCancel(_) => 2,
        Message::OrderDelete(_) => 3,
        Message::OrderReplace(_) => 4,
        _ => return None,
    })
}

/// Nanoseconds by kind, of a book that no cache holds.
fn venue(quick: bool, markdown: bool) -> Result<()> {
    let flow = FlowSpec {
        symbols: FlowSpec::invented_symbols(VENUE),
        messages: Some(if quick { 500_000 } else { 10_000_000 }),
        messages_per_second: 1e6,
        ..FlowSpec::default()
    };
    let (mut feed, mut message) = (Vec::new(), Vec::new());
    for step in Flow::new(&flow)? {
        // Symbols stand in messages that the book does not look at.
        itch::encode(&step, &[], &mut message);
        feed.extend_from_slice(&(message.len() as u16).to_be_bytes());
        feed.extend_from_slice(&message);
    }
    let spec = BookSpec { instruments: 1 << 16, orders: 8 << 20, levels: 4 << 20 };
    let paged = PagedSpec::for_orders(spec.orders, 1 << 32);
    let mut region = vec![0; spec.bytes() + paged.bytes()];
    ask_for_huge_pages(&mut region);
    let mut arena = Arena::new(&mut region);
    let pages = PagedIndex::new(&mut arena, &paged)?;
    let mut book = OrderBook::new(&mut arena, &spec, pages)?;
    let alone = Alone::new();
    let mut times: [Vec<u32>; KINDS.len()] = Default::default();
    let (mut errors, mut live) = (0u64, 0);
    for message in messages(&feed) {
        let Some(kind) = kind_of(&message) else { continue };
        let (outcome, nanos) = alone.time(|| black_box(apply(&mut book, black_box(&message))));
        times[kind].push(nanos);
        errors += u64::from(outcome.is_err());
        live = live.max(book.live_orders());
    }
    if errors > 0 {
        bail!("the venue's book refused {errors} messages");
    }
    let messages = times.iter().map(Vec::len).sum::<usize>();
    let about = format!("{messages} messages of {VENUE} instruments, {live} orders at most");
    match markdown {
        true => println!(
            "\nA venue: {about}.\n\n| message | count | p50 ns | p99 ns | p99.9 ns |\n|---|---|---|---|---|"
        ),
        false => println!("a venue: {about}"),
    }
    for (kind, times) in KINDS.iter().zip(&mut times) {
        let (count, [p50, p99, p999]) = (times.len(), quantiles(times));
        match markdown {
            true => println!("| {kind} | {count} | {p50} | {p99} | {p999} |"),
            false => {
                println!("{kind:<10} {count:>9}  p50 {p50:>5}  p99 {p99:>5}  p99.9 {p999:>6} ns")
            }
        }
    }
    Ok(())
}

/// What the command line says.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    contest: contest::Options,
    /// An ITCH 5.0 day file, plain or gzip.
    #[arg(long, value_name = "FILE")]
    day: Option<PathBuf>,
    /// Where to write the repeated one.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// The real day beside the project.
fn real_day() -> PathBuf {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    shared.join("data/itch/nasdaq-20120621-aapl-amzn.itch.gz")
}

/// Plays the feed into an empty book. Checks how many orders are left, or a sum over the best bids and
/// offers if those are looked at.
fn replay<I: OrderIndex>(book: &mut OrderBook<'_, I>, feed: &[u8], look: bool) -> Run {
    let start = Instant::now();
    let mut errors = 0;
    let mut sum = 0_u64;
    for bytes in BinaryFile::new(feed) {
        let Ok(message) = Message::parse(bytes) else { continue };
        errors += u64::from(apply(book, &message).is_err());
        if look {
            let best = book.best(message.head().stock_locate.get().into());
            sum = sum.wrapping_add((best.ask_px ^ best.bid_px) as u64 ^ u64::from(best.bid_sz));
        }
    }
    assert_eq!(errors, 0, "the book refused messages");
    let live = black_box(&*book).live_orders();
    let took = start.elapsed();
    // As the peer, whose session is made before the clock starts and given up after it.
    book.clear_all();
    Run { took, check: if look { sum } else { live.into() } }
}

// Into the loop, so that what was parsed is not written to memory to be read by a call.
#[inline(always)]
fn apply<I: OrderIndex>(book: &mut OrderBook<'_, I>, message: &Message) -> Result<(), BookError> {
    let side = |letter| if letter == b'B' { Side::Bid } else { Side::Ask };
    match message {
        Message::AddOrder(m) => {
            let locate = m.head.stock_locate.get().into();
            let (id, price) = (m.order_ref.get(), m.price.nanos());
            book.add(locate, id, side(m.side), price, m.shares.get()).map(drop)
        }
        Message::AddOrderMpid(m) => {
            let locate = m.head.stock_locate.get().into();
            let (id, price) = (m.order_ref.get(), m.price.nanos());
            book.add(locate, id, side(m.side), price, m.shares.get()).map(drop)
        }
        Message::OrderExecuted(m) => book.reduce(m.order_ref.get(), m.shares.get()).map(drop),
        Message::OrderExecutedWithPrice(m) => {
            book.reduce(m.order_ref.get(), m.shares.get()).map(drop)
        }
        Message::OrderCancel(m) => book.reduce(m.order_ref.get(), m.cancelled.get()).map(drop),
        Message::OrderDelete(m) => book.remove(m.order_ref.get()).map(drop),
        Message::OrderReplace(m) => {
            let (old, new) = (m.old_ref.get(), m.new_ref.get());
            book.replace(old, new, m.price.nanos(), m.shares.get())?.added.map(drop)
        }
        _ => Ok(()),
    }
}
