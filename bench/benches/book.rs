//! Decoding a day of ITCH 5.0 and keeping its full order book: nanoseconds a message.
//!
//! ```text
//! cargo bench -p wiretape-bench --bench book
//! cargo bench -p wiretape-bench --bench book -- --day FILE --write scaled.itch
//! python3 bench/peers/replay_itch_book.py scaled.itch      # the peer, on the same bytes
//! ```
//!
//! The input is a day file (messages behind two-byte lengths), repeated with other locates and
//! order references until it has 5 million messages. Message k of all copies comes before message
//! k + 1 of any, as on a feed of many stocks, so that the books of all of them are in use at once;
//! references stay unique and rise through the day. Without an argument it is the real day of AAPL
//! and AMZN beside the project, of which there are then 16 copies: 32 instruments.
//!
//! Everything is in memory before the clock starts; nothing is allocated while it runs; no message
//! is skipped (those that do not concern the book are decoded). Each line is the best of its
//! passes, all in one process, one after the other on one thread.

use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use wiretape_core::arena::Arena;
use wiretape_core::book::{
    BookError, BookSpec, HashIndex, OrderBook, OrderIndex, PagedIndex, PagedSpec,
};
use wiretape_core::event::Side;
use wiretape_core::wire::itch50::Message;
use zerocopy::byteorder::big_endian::{U16, U64};

const MESSAGES_MIN: usize = 5_000_000;
const PASSES: usize = 7;

fn main() -> Result<()> {
    let (path, write) = arguments()?;
    let Some(day) = read_day(&path)? else {
        println!("skipped: {} is not there; name a day file with --day FILE", path.display());
        return Ok(());
    };
    let (feed, copies) = repeat(&day)?;
    if let Some(target) = write {
        std::fs::write(&target, &feed).with_context(|| format!("writing {}", target.display()))?;
    }
    let messages = messages(&feed).count();
    println!("input: {} x {copies}: {messages} messages, {} MB", path.display(), feed.len() >> 20);
    let spec = BookSpec { instruments: 1 << 16, orders: 1 << 20, levels: 1 << 18 };
    let paged = PagedSpec::for_orders(spec.orders, 1 << 32);
    let mut region = vec![0; 2 * spec.bytes() + HashIndex::bytes(spec.orders) + paged.bytes()];
    ask_for_huge_pages(&mut region);
    let mut arena = Arena::new(&mut region);
    let hash = HashIndex::new(&mut arena, spec.orders)?;
    let mut hashed = OrderBook::new(&mut arena, &spec, hash)?;
    let pages = PagedIndex::new(&mut arena, &paged)?;
    let mut direct = OrderBook::new(&mut arena, &spec, pages)?;

    let measure = |name: &str, pass: &mut dyn FnMut() -> u64| {
        let mut best = f64::MAX;
        let mut result = 0;
        for _ in 0..PASSES {
            let start = Instant::now();
            result = pass();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let nanos = best * 1e9 / messages as f64;
        println!("{name:<34} {nanos:6.2} ns/message {:7.2} M/s   {result:016x}", 1e3 / nanos);
    };
    measure("lengths only", &mut || frames(&feed).map(|frame| frame.len() as u64).sum());
    measure("decode", &mut || self::messages(&feed).map(|m| u64::from(m.kind())).sum());
    measure("decode, book by hash", &mut || replay(&mut hashed, &feed, false));
    measure("decode, book by page", &mut || replay(&mut direct, &feed, false));
    measure("decode, book by hash, best", &mut || replay(&mut hashed, &feed, true));
    measure("decode, book by page, best", &mut || replay(&mut direct, &feed, true));
    Ok(())
}

/// Books are looked up all over: with pages of 4 KiB the processor spends its time in page tables.
/// A refusal costs speed only.
fn ask_for_huge_pages(region: &mut [u8]) {
    const PAGE: usize = 4096;
    let skip = region.as_ptr().align_offset(PAGE);
    let Some(aligned) = region.get_mut(skip..) else { return };
    let length = aligned.len() / PAGE * PAGE;
    // SAFETY: `aligned` is memory of our own, exclusively borrowed, from a page boundary on for
    // `length` bytes; the advice changes how it is backed, never its contents.
    let refused =
        unsafe { libc::madvise(aligned.as_mut_ptr().cast(), length, libc::MADV_HUGEPAGE) };
    if refused != 0 {
        println!("no huge pages: {}", std::io::Error::last_os_error());
    }
}

/// The day file, and where to write the repeated one.
fn arguments() -> Result<(PathBuf, Option<PathBuf>)> {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let mut day = shared.join("data/itch/nasdaq-20120621-aapl-amzn.itch.gz");
    let mut write = None;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().map(PathBuf::from).context("a path is missing");
        match argument.to_str() {
            Some("--day") => day = value()?,
            Some("--write") => write = Some(value()?),
            // What cargo and `make` pass to any benchmark.
            Some("--bench" | "--quick" | "--markdown") => {}
            _ => bail!("{argument:?} is not --day FILE or --write FILE"),
        }
    }
    Ok((day, write))
}

fn read_day(path: &PathBuf) -> Result<Option<Vec<u8>>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("reading {}", path.display()))?,
    };
    if bytes.starts_with(&[0x1F, 0x8B]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain)?;
        return Ok(Some(plain));
    }
    Ok(Some(bytes))
}

/// The messages' bytes: each stands behind its length.
fn frames(mut feed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = feed.split_first_chunk::<2>()?;
        let (frame, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        feed = rest;
        Some(frame)
    })
}

fn messages(feed: &[u8]) -> impl Iterator<Item = Message<'_>> {
    frames(feed).filter_map(|frame| Message::parse(frame).ok())
}

/// The day often enough, with fresh locates and references. Returns the number of copies too.
fn repeat(day: &[u8]) -> Result<(Vec<u8>, usize)> {
    let count = messages(day).count();
    if count == 0 {
        bail!("the day file has no message");
    }
    let copies = MESSAGES_MIN.div_ceil(count);
    let locates = 1 + messages(day).map(|m| m.head().stock_locate.get()).max().unwrap_or(0);
    if usize::from(locates) * copies > 1 << 16 {
        bail!("{copies} copies of {locates} locates do not fit 16 bits");
    }
    let mut feed = Vec::with_capacity(copies * day.len());
    for frame in frames(day) {
        for copy in 0..copies {
            feed.extend_from_slice(&(frame.len() as u16).to_be_bytes());
            let start = feed.len();
            feed.extend_from_slice(frame);
            readdress(&mut feed[start..], copy as u64, copies as u64, locates);
        }
    }
    Ok((feed, copies))
}

/// Gives a message the locate and references of its copy.
fn readdress(message: &mut [u8], copy: u64, copies: u64, locates: u16) {
    let references: &[usize] = match message.first() {
        Some(b'A' | b'F' | b'E' | b'C' | b'X' | b'D') => &[11],
        Some(b'U') => &[11, 19],
        _ => &[],
    };
    for &at in references {
        let field = &mut message[at..at + 8];
        let reference = u64::from_be_bytes((&*field).try_into().unwrap_or_default());
        field.copy_from_slice(&U64::new(reference * copies + copy).to_bytes());
    }
    let locate = u16::from_be_bytes([message[1], message[2]]);
    if locate != 0 {
        message[1..3].copy_from_slice(&U16::new(locate + locates * copy as u16).to_bytes());
    }
}

/// Plays the feed into an empty book. Returns a hash of where it ended.
fn replay<I: OrderIndex>(book: &mut OrderBook<'_, I>, feed: &[u8], look: bool) -> u64 {
    let mut errors = 0;
    let mut sum = 0_u64;
    for message in messages(feed) {
        errors += u64::from(apply(book, &message).is_err());
        if look {
            let best = book.best(message.head().stock_locate.get().into());
            sum = sum.wrapping_add((best.ask_px ^ best.bid_px) as u64 ^ u64::from(best.bid_sz));
        }
    }
    let usage = black_box(&*book).usage();
    book.clear_all();
    (errors << 48) ^ (u64::from(usage.orders) << 24) ^ u64::from(usage.levels) ^ (sum >> 8)
}

#[inline]
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
