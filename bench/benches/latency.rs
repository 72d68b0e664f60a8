//! Wire to reader: from the sender's stamp, taken before it sends a packet, to the moment at which a
//! reader in another process sees the packet's event in shared memory. Over a veth pair, at 10, 50
//! and 90 % of the rate at which the sender can send. Two ways to the same pipeline (decode, book,
//! publish): capture's AF_XDP socket, polled, and a UDP socket, polled with recv.
//!
//! Each packet carries one message: an order is added, the next packet deletes it. Sender and reader
//! are one process, so that both times are of one clock, and the receiver is another. Where there
//! are three processors sender, receiver and reader have one each. Where there are two, sender and
//! reader share one: the reader looks whenever the next packet is not due, and what came while a
//! packet was being sent is seen after that, with either way alike.
//!
//! Beside it, from capture's own histogram, the part between the frame in packet memory and its event
//! in the ring. It begins when a look at the socket has found the frame: that the look itself waits for
//! the line of the kernel's index is not in it.
//!
//! Quantiles are taken of each round; the middle one is shown, since a virtual machine that stands
//! still for a moment would otherwise decide them. Histograms hold all rounds.
//!
//! Needs root, for namespaces and BPF; says so and ends without it.
//!
//! cargo bench -p wiretape-bench --bench latency [-- --quick] [--markdown]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use quanta::Clock;
use rustix::process::{Pid, Signal, getpid, kill_process, set_parent_process_death_signal};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_getaffinity, sched_setaffinity,
};
use signal_hook::consts::SIGTERM;
use wiretape_capture::config::{Config, Overrides};
use wiretape_capture::run::{Notice, run};
use wiretape_capture::segment_file::SegmentFile;
use wiretape_capture::worker::pin_to_core;
use wiretape_core::arena::Arena;
use wiretape_core::book::BookSpec;
use wiretape_core::feed::arbiter::Patience;
use wiretape_core::feed::channel::FeedSpec;
use wiretape_core::feed::trading_day::TradingDays;
use wiretape_core::histogram::Histogram;
use wiretape_core::pipeline::{Pipeline, Protocol};
use wiretape_core::ring::broadcast::Reader;
use wiretape_core::segment::{
    FeedIdentity, SegmentLayout, SegmentSpec, SegmentView, SegmentWriter,
};
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::itch50::{AddOrder, Head, OrderDelete, Price4};
use wiretape_core::wire::moldudp64::Builder;
use wiretape_host::reader::Segment;
use zerocopy::IntoBytes;

#[path = "latency/report.rs"]
mod report;
mod veth;

use report::{LOADS, Load, Report, Way};
use veth::{GROUP, SENDER, Wire};

/// Packets that the sender sends without a pause, to find its rate.
const FULL_SPEED: u64 = 100_000;
/// How long the last events may take.
const QUIET: Duration = Duration::from_millis(300);
const SESSION: [u8; 10] = *b"LATENCY001";

#[derive(Parser)]
struct Options {
    /// One short round.
    #[arg(long)]
    quick: bool,
    /// Markdown tables and histograms.
    #[arg(long)]
    markdown: bool,
    /// The reader has a thread of its own even if there are only two processors.
    #[arg(long)]
    apart: bool,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// What this program is for itself: a receiver.
    #[arg(long, hide = true, requires_all = ["dir", "core"])]
    receiver: Option<Way>,
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    #[arg(long, hide = true)]
    core: Option<usize>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let (Some(way), Some(dir), Some(core)) = (options.receiver, &options.dir, options.core) {
        return receive(way, dir, core);
    }
    let processors = processors()?;
    let [sender, receiver, rest @ ..] = &processors[..] else {
        println!("skipped: sender and receiver need a processor each");
        return Ok(());
    };
    let apart = match rest {
        [reader, ..] => Some(*reader),
        [] => options.apart.then_some(*sender),
    };
    let Some(wire) = Wire::make()? else { return Ok(()) };
    let rounds = if options.quick { 1 } else { 9 };
    let seconds = if options.quick { 0.2 } else { 0.5 };
    pin_to_core(*sender)?;

    let mut interval = 0.0_f64;
    let mut results: Vec<[Load; LOADS.len()]> = vec![Default::default(); 2];
    for round in 0..=rounds {
        for (way, results) in [Way::Xdp, Way::Udp].into_iter().zip(&mut results) {
            wire.prepare(way == Way::Xdp)?;
            let receiver = Receiver::start(way, wire.dir(), *receiver)?;
            let mut bench = Bench::new(&receiver.segment, apart)?;
            if round == 0 {
                // The slower of the two says what both can stand.
                interval = interval.max(bench.full_speed()?);
                continue;
            }
            for (load, result) in LOADS.iter().zip(results) {
                let interval = interval * 100.0 / f64::from(*load);
                let count = (seconds * 1e9 / interval) as u64;
                result.add(bench.at_rate(interval, count)?);
            }
        }
    }
    let report = Report { interval, results: &results, apart: apart.is_some() };
    match options.markdown {
        true => print!("{}", report.markdown()),
        false => print!("{}", report.text()),
    }
    Ok(())
}

/// The processors that this process may use.
fn processors() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Another process of this program, which receives.
struct Receiver {
    process: Child,
    segment: Segment,
}

impl Receiver {
    fn start(way: Way, dir: &Path, core: usize) -> Result<Receiver> {
        let way = way.to_possible_value().context("a way has a name")?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--receiver", way.get_name(), "--core", &core.to_string(), "--dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the receiver")?;
        let mut ready = String::new();
        let output = process.stdout.take().context("the receiver has no output")?;
        BufReader::new(output).read_line(&mut ready)?;
        if ready != "ready\n" {
            let _ = process.kill();
            bail!("the receiver ended: {}", process.wait()?);
        }
        let segment = Segment::attach(&dir.join("wire.seg"))?;
        Ok(Receiver { process, segment })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Sends, and sees what comes of it.
struct Bench<'s> {
    sender: Sender,
    reader: LatencyReader<'s>,
    view: SegmentView<'s>,
    /// The reader's processor, if it is a thread.
    apart: Option<usize>,
    clock: Clock,
}

impl<'s> Bench<'s> {
    fn new(segment: &'s Segment, apart: Option<usize>) -> Result<Bench<'s>> {
        let view = segment.view().context("the segment is damaged")?;
        let events = view.events();
        let clock = Clock::new();
        let reader = LatencyReader { events: events.reader_from_now(), clock: clock.clone() };
        Ok(Bench { sender: Sender::open()?, reader, view, apart, clock })
    }

    /// Nanoseconds from packet to packet when there is no pause.
    fn full_speed(&mut self) -> Result<f64> {
        let start = self.clock.raw();
        let load = self.at_rate(0.0, FULL_SPEED)?;
        let nanos = self.clock.delta_as_nanos(start, self.clock.raw());
        ensure!(load.lost == 0, "{} packets lost at full speed", load.lost);
        Ok(nanos as f64 / FULL_SPEED as f64)
    }

    /// Sends `count` packets `interval` ns apart.
    fn at_rate(&mut self, interval: f64, count: u64) -> Result<Load> {
        let memory: Vec<AtomicU64> = (0..Histogram::WORDS).map(|_| AtomicU64::new(0)).collect();
        let mut latency = Histogram::attach(&memory).context("the histogram's memory")?;
        let stamps: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let stamps = Stamps { first: self.sender.next, of: &stamps };
        let (done, clock) = (AtomicBool::new(false), &self.clock);
        let before = self.view.latency().context("the worker's histogram")?;
        let (sender, reader) = (&mut self.sender, &mut self.reader);
        let received = match self.apart {
            None => {
                let mut received = 0;
                send_all(sender, &stamps, interval, clock, &mut || {
                    received += reader.look(&stamps, &mut latency)?;
                    Ok(())
                })?;
                received + reader.wait(count - received, &stamps, &mut latency)?
            }
            Some(core) => std::thread::scope(|scope| {
                let reading = scope.spawn(|| {
                    pin_to_core(core)?;
                    let mut received = 0;
                    while !done.load(Ordering::Acquire) {
                        received += reader.look(&stamps, &mut latency)?;
                    }
                    Ok(received + reader.wait(count - received, &stamps, &mut latency)?)
                });
                let sent = send_all(sender, &stamps, interval, clock, &mut || Ok(()));
                done.store(true, Ordering::Release);
                let received: Result<u64> =
                    reading.join().map_err(|_| anyhow::anyhow!("the reader died"))?;
                sent.and(received)
            })?,
        };
        let worker = self.view.latency().context("the worker's histogram")?.since(&before);
        let latency_ns = vec![latency.snapshot()];
        Ok(Load { latency_ns, worker_ns: vec![worker], lost: count - received })
    }
}

/// When each packet was sent, by its sequence.
struct Stamps<'s> {
    first: u64,
    of: &'s [AtomicU64],
}

fn send_all(
    sender: &mut Sender,
    stamps: &Stamps<'_>,
    interval: f64,
    clock: &Clock,
    meanwhile: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let start = clock.raw();
    for (number, stamp) in stamps.of.iter().enumerate() {
        let due = (number as f64 * interval) as u64;
        loop {
            meanwhile()?;
            if clock.delta_as_nanos(start, clock.raw()) >= due {
                break;
            }
        }
        sender.prepare()?;
        // The ring's release and acquire order it before the reader's look.
        stamp.store(clock.raw(), Ordering::Relaxed);
        sender.send()?;
    }
    Ok(())
}

/// A reader that knows when what it reads was sent.
struct LatencyReader<'s> {
    events: Reader<'s>,
    clock: Clock,
}

impl LatencyReader<'_> {
    /// Takes what is there; how many packets' events that was.
    fn look(&mut self, stamps: &Stamps<'_>, latency: &mut Histogram<'_>) -> Result<u64> {
        let mut seen = 0;
        while let Some((_, event)) = self.events.next_event()? {
            let now = self.clock.raw();
            let Some(record) = event.mbo() else { continue };
            let number = u64::from(record.sequence).wrapping_sub(stamps.first);
            let Some(stamp) = stamps.of.get(number as usize) else { continue };
            latency.record(self.clock.delta_as_nanos(stamp.load(Ordering::Relaxed), now));
            seen += 1;
        }
        Ok(seen)
    }

    /// Waits for `missing` events, not too long; how many came.
    fn wait(
        &mut self,
        missing: u64,
        stamps: &Stamps<'_>,
        latency: &mut Histogram<'_>,
    ) -> Result<u64> {
        let (mut came, mut last) = (0, self.clock.raw());
        while came < missing {
            match self.look(stamps, latency)? {
                0 if self.clock.delta(last, self.clock.raw()) > QUIET => break,
                0 => std::hint::spin_loop(),
                seen => (came, last) = (came + seen, self.clock.raw()),
            }
        }
        Ok(came)
    }
}

/// A packet socket on the sender's end of the wire, behind no queueing discipline.
struct Sender {
    socket: OwnedFd,
    frame: [u8; 256],
    length: usize,
    next: u64,
}

impl Sender {
    fn open() -> Result<Sender> {
        // A thread of its own: the namespace is the thread's.
        let socket = std::thread::spawn(packet_socket).join();
        let socket = socket.map_err(|_| anyhow::anyhow!("the sender died"))??;
        Ok(Sender { socket, frame: [0; 256], length: 0, next: 1 })
    }

    /// Puts the next packet together.
    fn prepare(&mut self) -> Result<()> {
        let at = 34_200_000_000_000 + self.next;
        let order_ref = self.next.div_ceil(2).into();
        let (mut add, mut delete) = ([0; 36], [0; 19]);
        let message: &[u8] = if self.next % 2 == 1 {
            let head = Head::new(AddOrder::KIND, 1, 0, at);
            let (side, shares, stock) = (b'B', 100.into(), *b"LATENCY ");
            let order =
                AddOrder { head, order_ref, side, shares, stock, price: Price4::new(10_000) };
            add.copy_from_slice(order.as_bytes());
            &add
        } else {
            let head = Head::new(OrderDelete::KIND, 1, 0, at);
            delete.copy_from_slice(OrderDelete { head, order_ref }.as_bytes());
            &delete
        };
        let group: SocketAddrV4 = GROUP.parse()?;
        let route = Route::to_group([10, 97, 0, 1], group.ip().octets(), 40_000, group.port());
        let headers = route.header_len();
        let mut builder = Builder::new(&mut self.frame[headers..], SESSION, self.next)
            .context("a packet has room for its header")?;
        ensure!(builder.push(message), "a packet has room for a message");
        let payload = builder.finish().len();
        self.length = route.emit_around(self.next as u16, payload, &mut self.frame)?;
        self.next += 1;
        Ok(())
    }

    fn send(&self) -> Result<()> {
        let bytes = &self.frame[..self.length];
        // SAFETY: the bytes are readable for their length.
        let sent =
            unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        ensure!(sent == bytes.len() as isize, "cannot send: {}", io::Error::last_os_error());
        Ok(())
    }
}

fn packet_socket() -> Result<OwnedFd> {
    let namespace = File::open(format!("/run/netns/{SENDER}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    // SAFETY: no memory is involved. Protocol 0: nothing is received.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(fd >= 0, "no packet socket: {}", io::Error::last_os_error());
    // SAFETY: `fd` is a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let name = CString::new("tx0")?;
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // SAFETY: the name is NUL-terminated.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
    let length = size_of_val(&address) as u32;
    // SAFETY: the address is valid for its length.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    ensure!(bound == 0, "cannot bind: {}", io::Error::last_os_error());
    veth::set_option(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1i32)?;
    Ok(socket)
}

/// Receives until SIGTERM, in a process of its own.
fn receive(way: Way, dir: &Path, core: usize) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // The parent's processor is not this process's.
    let mut all = CpuSet::new();
    (0..std::thread::available_parallelism()?.get().max(core + 1)).for_each(|cpu| all.set(cpu));
    sched_setaffinity(Some(getpid()), &all)?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    match way {
        Way::Xdp => receive_by_capture(dir, core, &stop),
        Way::Udp => receive_datagrams(dir, core, &stop),
    }
}

fn ready() {
    println!("ready");
    let _ = io::stdout().flush();
}

fn receive_by_capture(dir: &Path, core: usize, stop: &AtomicBool) -> Result<()> {
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{0}\"\nidle = \"spin\"\nwake_ms = 0\ncore = {core}\n\
         unlink_on_exit = true\n\
         [source]\nkind = \"xdp\"\ninterface = \"rx0\"\npin_dir = \"{0}/bpf\"\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\ndate = 2026-03-02\n",
        dir.display(),
    );
    let config = Config::parse("latency", &text, &Overrides::default())?;
    let summary = run(&config, stop, &mut |notice| match notice {
        Notice::Prepared => {}
        Notice::Started(_) => ready(),
        Notice::Warning(text) | Notice::Changed(text) => eprintln!("{text}"),
        Notice::BrokenOff(summary) => eprintln!("{summary}"),
    })?;
    ensure!(summary.ledger.closes(), "the ledger does not close: {summary}");
    Ok(())
}

/// The same pipeline behind a UDP socket that is asked without a pause.
fn receive_datagrams(dir: &Path, core: usize, stop: &AtomicBool) -> Result<()> {
    pin_to_core(core)?;
    let group: SocketAddrV4 = GROUP.parse()?;
    let socket = UdpSocket::bind(group)?;
    socket.join_multicast_v4(group.ip(), &Ipv4Addr::new(10, 97, 0, 2))?;
    socket.set_nonblocking(true)?;
    veth::set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(64i32 << 20))?;

    let spec = SegmentSpec {
        worker: "wire",
        epoch: 1,
        pid: std::process::id(),
        event_slots: 1 << 20,
        instruments: 16_384,
        feeds: 1,
        depths: 0,
    };
    let layout = SegmentLayout::new(&spec)?;
    let mut file = SegmentFile::create(dir, spec.worker, layout.total_bytes())?;
    file.unlink_on_exit();
    let segment = SegmentWriter::create(file.words(), &spec)?;
    let (orders, levels) = (1 << 16, 1 << 16);
    let books = BookSpec { instruments: 16_384, orders, levels };
    let mut memory = vec![0; 2 * books.bytes() + (64 << 20)];
    let mut arena = Arena::new(&mut memory);
    let feed = FeedSpec {
        identity: FeedIdentity {
            name: "latency".try_into()?,
            protocol: Protocol::Itch50.name().try_into()?,
            group: group.ip().octets(),
            port: group.port(),
            first_instrument: 0,
            instruments: 16_384,
        },
        publisher_id: 2,
        orders,
        levels,
        line_b: None,
        patience: Patience::NONE,
    };
    let mut pipeline = Pipeline::new(segment);
    pipeline.add_feed(Protocol::Itch50, &feed, &TradingDays::new([0]), &mut arena)?;
    segment.start();
    file.publish()?;
    ready();

    // The pipeline wants the headers that the kernel took off.
    let route = Route::to_group([10, 97, 0, 1], group.ip().octets(), 40_000, group.port());
    let clock = Clock::new();
    let mut frame = [0; 2_048];
    let headers = route.header_len();
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut frame[headers..]) {
            Ok(payload) => {
                let length = route.emit_around(0, payload, &mut frame)?;
                pipeline.on_frame(&frame[..length], clock.raw());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error).context("the socket"),
        }
    }
    Ok(())
}
