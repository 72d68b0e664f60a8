//! The way of a packet, without the network: decode, then decode, book and publish, on one core.
//!
//! ```text
//! cargo bench -p wiretape-bench --bench path
//! cargo bench -p wiretape-bench --bench path -- --itch day.itch.gz
//! cargo bench -p wiretape-bench --bench path -- --pcap DEEP10.pcap.gz --protocol deep10-iextp
//! ```
//!
//! Whole frames lie in memory before the clock starts. Each pass starts with empty books, and
//! nothing is allocated while it runs. "decode" bounds the frame, checks the packet as a whole and
//! parses each message; "decode, book, publish" is what a capture worker does: session tracking,
//! counters, book, 56-byte events into the ring, best bid and offer into the market table. Without
//! an argument the input is the simulator's, once with a venue's instruments, whose books no cache
//! holds, and the real files where they are beside the project. A day of ITCH is also scaled up to
//! 5 million messages, with other locates and order references. Books lie on huge pages if the kernel
//! has some, as in capture.
//!
//! At last ITCH in packets of one message, each packet by itself: from the frame in memory to its
//! event in the ring, on a processor that waits for no other. (`--bench latency` has the same with
//! frames that another processor wrote a moment before.)

use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use wiretape_bench::exchange::framing::{MessageStream, MoldUdp64, Packer, Packing};
use wiretape_bench::exchange::packet::Batch;
use wiretape_bench::exchange::source::Source;
use wiretape_bench::exchange::source::itch_file::ItchFile;
use wiretape_bench::exchange::source::pcap_file::PcapFile;
use wiretape_bench::exchange::source::sim::SimItch;
use wiretape_bench::flow::FlowSpec;
use wiretape_core::arena::Arena;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::depth::DepthChoice;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::segment::{
    Counter, FeedCounter, FeedIdentity, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter,
};
use wiretape_core::wire::frame::{Datagram, Route};
use wiretape_core::wire::{deep10, iextp, itch50, moldudp64, tops16};

mod alone;
mod huge_pages;
mod scaled_day;

use alone::{Alone, quantiles};
use huge_pages::ask_for_huge_pages;
use scaled_day::{read_day, scaled};

const GROUP: [u8; 4] = [233, 54, 12, 111];
const PORT: u16 = 26477;
const INSTRUMENTS: usize = 1 << 14;

/// Measures the way from frame to event.
#[derive(Parser)]
struct Options {
    /// An ITCH 5.0 day file, plain or gzip.
    #[arg(long)]
    itch: Option<PathBuf>,
    /// A capture file; its feed is that of its first datagram.
    #[arg(long)]
    pcap: Option<PathBuf>,
    /// What the capture file speaks.
    #[arg(long, default_value = "deep10-iextp")]
    protocol: String,
    /// A fifth of the passes and a tenth of the simulated messages.
    #[arg(long)]
    quick: bool,
    /// Rows of a Markdown table.
    #[arg(long)]
    markdown: bool,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Frames in memory, and the feed that they carry.
struct Input {
    name: String,
    protocol: Protocol,
    group: [u8; 4],
    port: u16,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Packets of one message each.
    singles: bool,
    /// Orders that its books have room for.
    orders: u32,
}

/// Orders of a feed of some instruments.
const ORDERS: u32 = 1 << 19;
/// Orders of a venue.
const VENUE_ORDERS: u32 = 1 << 22;
/// Instruments of the venue.
const VENUE: usize = 8_000;
/// Passes over the venue, each of which takes a second or two.
const VENUE_PASSES: usize = 3;

impl Input {
    fn read(name: String, protocol: Protocol, source: &mut dyn Source) -> Result<Input> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let mut batch = Batch::new();
        loop {
            batch.clear();
            let more = source.fill(&mut batch)?;
            for packet in (0..batch.len()).filter_map(|i| batch.get(i)) {
                bytes.extend_from_slice(packet.frame);
                ends.push(bytes.len());
            }
            if !more {
                break;
            }
        }
        let first = bytes.get(..*ends.first().context("the input has no packet")?);
        let first = Datagram::from_frame(first.unwrap_or(&[])).context("the first packet")?;
        let (group, port) = (first.dst, first.dst_port);
        let (singles, orders) = (false, ORDERS);
        Ok(Input { name, protocol, group, port, bytes, ends, singles, orders })
    }

    fn singly(name: String, stream: impl MessageStream + 'static) -> Result<Input> {
        let mut source = packed(stream, AS_SENT_NS, 1);
        Ok(Input { singles: true, ..Input::read(name, Protocol::Itch50, &mut source)? })
    }

    /// Bytes that its books take, and something.
    fn book_bytes(&self) -> usize {
        const BYTES_PER_ORDER: usize = 512;
        (256 << 20) + self.orders as usize * BYTES_PER_ORDER
    }

    fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let passes = if options.quick { 2 } else { 10 };
    if options.markdown {
        println!("| input | step | packets/s | messages/s | events/s | ns a message |");
        println!("|---|---|---|---|---|---|");
    }
    let inputs = inputs(&options)?;
    for input in inputs.iter().filter(|input| !input.singles) {
        let passes = if input.orders == VENUE_ORDERS { passes.min(VENUE_PASSES) } else { passes };
        measure(input, passes, options.markdown)?;
    }
    if options.markdown {
        println!("\nPackets of one message, each by itself, from frame to event:\n");
        println!("| input | packets | p50 ns | p99 ns | p99.9 ns |\n|---|---|---|---|---|");
    }
    for input in inputs.iter().filter(|input| input.singles) {
        measure_alone(input, options.markdown)?;
    }
    Ok(())
}

fn inputs(options: &Options) -> Result<Vec<Input>> {
    if let Some(path) = &options.pcap {
        let protocol = Protocol::from_name(&options.protocol)
            .with_context(|| format!("no protocol is called {:?}", options.protocol))?;
        return Ok(vec![pcap(path, protocol)?]);
    }
    if let Some(path) = &options.itch {
        return itch(path);
    }
    let messages = if options.quick { 100_000 } else { 1_000_000 };
    let spec = FlowSpec { messages: Some(messages), ..FlowSpec::default() };
    let name = format!("simulator, seed {}, {} instruments", spec.seed, spec.symbols.len());
    let read = |name, window_ns| {
        let mut source = packed(SimItch::new(&spec, 0)?, window_ns, MESSAGES_MAX);
        Input::read(name, Protocol::Itch50, &mut source)
    };
    let mut inputs = vec![
        Input::singly(name.clone(), SimItch::new(&spec, 0)?)?,
        read(name.clone(), AS_SENT_NS)?,
        read(format!("{name}, full packets"), FULL_NS)?,
    ];
    let venue = FlowSpec {
        symbols: FlowSpec::invented_symbols(VENUE),
        messages: Some(10 * messages),
        messages_per_second: 1e6,
        ..FlowSpec::default()
    };
    let name = format!("a venue of {VENUE} instruments, 3.2 million orders");
    let mut source = packed(SimItch::new(&venue, 0)?, AS_SENT_NS, MESSAGES_MAX);
    let input = Input::read(name, Protocol::Itch50, &mut source)?;
    inputs.push(Input { orders: VENUE_ORDERS, ..input });
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let day = shared.join("itch/nasdaq-20120621-aapl-amzn.itch.gz");
    let deep = shared.join("iex/DEEP10.pcap.gz");
    if day.exists() && deep.exists() {
        inputs.extend(itch(&day)?);
        inputs.push(pcap(&deep, Protocol::Deep10)?);
    }
    let tops = shared.join("iex/TOPS16.pcapng.gz");
    if tops.exists() {
        inputs.push(pcap(&tops, Protocol::Tops16)?);
    }
    Ok(inputs)
}

/// Messages within this time of each other share a packet, as at a venue.
const AS_SENT_NS: u64 = 10_000;
/// Packets are as full as they get, as at a venue that is busy.
const FULL_NS: u64 = 1 << 40;
/// Messages of a packet that nothing but its bytes bounds.
const MESSAGES_MAX: u16 = u16::MAX - 1;

/// The day of the file, and the same scaled up, in packets as sent and in full ones.
fn itch(path: &Path) -> Result<Vec<Input>> {
    let name = file_name(path);
    let read = |name, path, window_ns| {
        let mut source = packed(ItchFile::open(path, 0)?, window_ns, MESSAGES_MAX);
        Input::read(name, Protocol::Itch50, &mut source)
    };
    let day = read_day(path)?.with_context(|| format!("no file {}", path.display()))?;
    let (copies, scaled) = scaled(&day)?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&scaled)?;
    Ok(vec![
        read(name.clone(), path, AS_SENT_NS)?,
        read(format!("{name}, full packets"), path, FULL_NS)?,
        read(format!("{name} x {copies}"), file.path(), AS_SENT_NS)?,
        read(format!("{name} x {copies}, full packets"), file.path(), FULL_NS)?,
        Input::singly(name, ItchFile::open(path, 0)?)?,
    ])
}

fn pcap(path: &Path, protocol: Protocol) -> Result<Input> {
    Input::read(file_name(path), protocol, &mut PcapFile::open(path, Vec::new())?)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn packed(stream: impl MessageStream + 'static, window_ns: u64, messages_max: u16) -> impl Source {
    let packing = Packing {
        payload_max: 1_400,
        messages_max,
        window_ns,
        heartbeat_ns: None,
        end_packets: 0,
        lead_packets: 0,
    };
    let route = Route::to_group([10, 0, 0, 1], GROUP, PORT, PORT);
    Packer::new(stream, MoldUdp64::new(*b"BENCH00001", 1), packing, vec![route])
}

/// What a pass over the input gave.
struct Pass {
    seconds: f64,
    messages: u64,
    events: u64,
}

fn measure(input: &Input, passes: usize, markdown: bool) -> Result<()> {
    let best = |pass: &dyn Fn() -> Result<Pass>| -> Result<Pass> {
        let mut best = pass()?;
        for _ in 1..passes {
            let next = pass()?;
            if next.seconds < best.seconds {
                best = next;
            }
        }
        Ok(best)
    };
    let packets = input.ends.len() as f64;
    if !markdown {
        let mean = input.bytes.len() / input.ends.len();
        println!("{}: {packets} packets of {mean} bytes on average", input.name);
    }
    let steps: [(&str, &dyn Fn() -> Result<Pass>); 3] = [
        ("decode", &|| Ok(decode(input))),
        ("decode, book, publish", &|| whole_path(input, false)),
        ("the same, depth and features of all", &|| whole_path(input, true)),
    ];
    for (step, pass) in steps {
        let pass = best(pass)?;
        let per_second = |count: f64| count / pass.seconds / 1e6;
        let (packets, messages) = (per_second(packets), per_second(pass.messages as f64));
        let (events, nanos) = (per_second(pass.events as f64), 1e3 / messages);
        if markdown {
            let name = &input.name;
            println!(
                "| {name} | {step} | {packets:.2} M | {messages:.2} M | {events:.2} M | {nanos:.1} |"
            );
        } else {
            println!(
                "  {step:<22} {packets:7.2} M packets/s {messages:7.2} M messages/s \
                 {events:7.2} M events/s {nanos:6.1} ns a message"
            );
        }
    }
    Ok(())
}

fn decode(input: &Input) -> Pass {
    let start = Instant::now();
    let (mut messages, mut check) = (0, 0u64);
    for frame in input.frames() {
        let Ok(datagram) = Datagram::from_frame(frame) else { continue };
        match input.protocol {
            Protocol::Itch50 => {
                let Ok(packet) = moldudp64::Packet::parse(datagram.payload) else { continue };
                for message in packet.messages().filter_map(|m| itch50::Message::parse(m).ok()) {
                    check = check.wrapping_add(message.head().timestamp.get());
                    messages += 1;
                }
            }
            Protocol::Deep10 => {
                let Ok(segment) = iextp::Segment::parse(datagram.payload) else { continue };
                for message in segment.messages().filter_map(|m| deep10::Message::parse(m).ok()) {
                    check = check.wrapping_add(u64::from(message.kind()));
                    messages += 1;
                }
            }
            Protocol::Tops16 => {
                let Ok(segment) = iextp::Segment::parse(datagram.payload) else { continue };
                for message in segment.messages().filter_map(|m| tops16::Message::parse(m).ok()) {
                    check = check.wrapping_add(u64::from(message.kind()));
                    messages += 1;
                }
            }
        }
    }
    black_box(check);
    Pass { seconds: start.elapsed().as_secs_f64(), messages, events: 0 }
}

/// Has the kernel back memory now, as capture does before its first packet.
fn touch(memory: &mut [u8]) {
    for page in memory.chunks_mut(4096) {
        // A value that the compiler does not know to be there already.
        page[0] = black_box(0);
    }
}

fn whole_path(input: &Input, depth: bool) -> Result<Pass> {
    let (seconds, messages, events) = with_worker(input, depth, |pipeline| {
        let start = Instant::now();
        for (frame, ts_recv) in input.frames().zip(TS_RECV..) {
            pipeline.on_frame(frame, ts_recv);
        }
        start.elapsed().as_secs_f64()
    })?;
    Ok(Pass { seconds, messages, events })
}

/// Receive times count up from here.
const TS_RECV: u64 = 1_000_000_000;

fn measure_alone(input: &Input, markdown: bool) -> Result<()> {
    let (mut times, messages, _) = with_worker(input, false, |pipeline| {
        let alone = Alone::new();
        let mut times = Vec::with_capacity(input.ends.len());
        for (frame, ts_recv) in input.frames().zip(TS_RECV..) {
            times.push(alone.time(|| pipeline.on_frame(black_box(frame), ts_recv)).1);
        }
        times
    })?;
    anyhow::ensure!(messages == times.len() as u64, "a packet holds more than one message");
    let (name, [p50, p99, p999]) = (&input.name, quantiles(&mut times));
    match markdown {
        true => println!("| {name} | {messages} | {p50} | {p99} | {p999} |"),
        false => println!(
            "{name}, {messages} packets of one message, each by itself: p50 {p50}  p99 {p99}  \
             p99.9 {p999} ns"
        ),
    }
    Ok(())
}

/// What `work` makes of a pipeline with empty books, and the messages and events that it counted.
fn with_worker<T>(
    input: &Input,
    depth: bool,
    work: impl FnOnce(&mut Pipeline<'_>) -> T,
) -> Result<(T, u64, u64)> {
    let depths = if depth { INSTRUMENTS } else { 0 };
    let spec = SegmentSpec {
        worker: "bench",
        epoch: 1,
        pid: 0,
        event_slots: 1 << 16,
        instruments: INSTRUMENTS,
        feeds: 1,
        depths,
    };
    let words = SegmentLayout::new(&spec)?.total_words;
    let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let mut books = vec![0u8; input.book_bytes()];
    ask_for_huge_pages(&mut books);
    touch(&mut books);
    let segment = SegmentWriter::create(&words, &spec)?;
    segment.start();
    let mut pipeline = Pipeline::new(segment);
    let feed = FeedSpec {
        identity: FeedIdentity {
            group: input.group,
            port: input.port,
            instruments: INSTRUMENTS as u32,
            ..FeedIdentity::default()
        },
        publisher_id: 0,
        orders: input.orders,
        levels: input.orders / 2,
        line_b: None,
        patience: Patience::NONE,
    };
    let mut arena = Arena::with_contents_as_found(&mut books);
    let index = pipeline.add_feed(input.protocol, &feed, &TradingDays::new([0]), &mut arena)?;
    if depth {
        pipeline.choose_depth(index, &DepthChoice::All, 0..depths as u32, &mut arena)?;
    }
    let result = work(&mut pipeline);
    let view = SegmentView::attach(&words)?;
    let taken = view.feed(0).context("the feed")?;
    anyhow::ensure!(taken.counter(FeedCounter::BookErrors) == 0, "the books refused messages");
    let messages = taken.counter(FeedCounter::Messages);
    Ok((result, messages, view.counters().get(Counter::Events)))
}
