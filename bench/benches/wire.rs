//! Packets a second over a veth pair, as fast as the kernel's own generator sends them: the AF_XDP
//! socket alone (what xdpsock calls rxdrop), the whole way behind it to published events, and what
//! there is without XDP: an AF_PACKET ring (TPACKET_V3) and a UDP socket that is read with
//! recvmmsg, neither of which decodes anything here.
//!
//! Where packets are lost at the generator's full speed, it is slowed down until none is.
//!
//! Then what the worker costs beside its own processor, with the kernel asked: system calls (strace,
//! attached to its thread), allocations (counted by the allocator), page faults and switches (/proc).
//!
//! Needs root, for namespaces and BPF; says so and ends without it. The generator works on one
//! processor, the receiver on another: on a machine with two, everything else is in their way.
//!
//! cargo bench -p wiretape-bench --bench wire [-- --quick] [--markdown]

use std::ffi::CString;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use wiretape_capture::config::{Config, Overrides};
use wiretape_capture::pins::XskMap;
use wiretape_capture::run::{Notice, run};
use wiretape_capture::xsk::{BindMode, HugePages, Memory, Umem, XskOptions, XskSocket};

mod allocations;
mod veth;

use veth::{GROUP, SENDER, Wire, set_option};

/// Frames of packet memory; the ring has half as many entries.
const FRAMES: u32 = 1 << 16;
/// How long nothing may come before a receiver takes the run for over.
const QUIET: Duration = Duration::from_millis(200);

#[derive(Parser)]
struct Options {
    /// A tenth of the packets.
    #[arg(long)]
    quick: bool,
    /// Rows of a Markdown table.
    #[arg(long)]
    markdown: bool,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Receives until the sending is done and all is quiet; returns how many packets came.
type Receiver<'r> = &'r dyn Fn(&Signals) -> Result<u64>;

/// What sender and receiver tell each other.
#[derive(Default)]
struct Signals {
    /// The receiver stands.
    ready: AtomicBool,
    /// The sending is done.
    done: AtomicBool,
}

/// What one run sent and received.
struct Outcome {
    sent: u64,
    received: u64,
    seconds: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let Some(wire) = Wire::make()? else { return Ok(()) };
    if options.markdown {
        println!(
            "| packets | receiver | sent at most | of which lost | without loss | of rxdrop |"
        );
        println!("|---|---|---|---|---|---|");
    }
    // Many times as many packets as the ring has room for.
    let [small, full] = if options.quick { ["300k", "3M"] } else { ["3M", "12M"] };
    let small = format!("--messages {small} --max-payload 200 --pack-window 0us");
    let full = format!("--messages {full} --max-payload 1400 --pack-window 10ms");
    for (size, market) in [("small", &small), ("full", &full)] {
        let send = |pace: &str| send(&format!("{market} {pace}"));
        let mut alone = None;
        let receivers: [(&str, Receiver<'_>); 4] = [
            ("AF_XDP socket alone (rxdrop)", &|signals| rxdrop(&wire, signals)),
            ("AF_XDP, decode, book, publish", &|signals| whole_path(&wire, signals)),
            ("AF_PACKET, TPACKET_V3", &|signals| packet_ring(signals)),
            ("UDP socket, recvmmsg", &|signals| datagrams(signals)),
        ];
        for (name, receive) in receivers {
            wire.prepare(name.starts_with("AF_XDP"))?;
            let fastest = race(&|| send("--speed max"), receive)?;
            let rate = match fastest.lost() {
                0 => fastest.rate(),
                _ => without_loss(&fastest, &send, receive)?,
            };
            let base = *alone.get_or_insert(rate);
            let (offered, share) = (fastest.rate() / 1e6, rate / base);
            let (lost, rate) = (100.0 * fastest.lost() as f64 / fastest.sent as f64, rate / 1e6);
            match options.markdown {
                true => println!(
                    "| {size} | {name} | {offered:.2} M/s | {lost:.2} % | {rate:.2} M/s | {share:.2} |"
                ),
                false => println!(
                    "{size:<6} {name:<32} {offered:>6.2} M/s sent {lost:>6.2} % lost; {rate:>5.2} \
                     M/s without loss {share:>5.2} of rxdrop"
                ),
            }
        }
    }
    wire.prepare(true)?;
    let cost = Cost::measure(&wire, &format!("{small} --speed max"))?;
    println!("{}", if options.markdown { cost.markdown() } else { cost.text() });
    Ok(())
}

/// What a thread asked of the kernel and the allocator so far.
#[derive(Clone, Copy)]
struct Asked {
    allocations: u64,
    page_faults: u64,
    /// Given up by itself, and taken away.
    switches: [u64; 2],
}

impl Asked {
    fn by(thread: u32) -> Result<Asked> {
        let read = |name| {
            let path = format!("/proc/self/task/{thread}/{name}");
            std::fs::read_to_string(&path).with_context(|| path.clone())
        };
        let (stat, status) = (read("stat")?, read("status")?);
        // Behind the name, which is in parentheses: state is field 3, minor faults 10, major 12.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let field = |at: usize| fields.get(at - 3).and_then(|text| text.parse::<u64>().ok());
        let line = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok()
        };
        let switches = line("voluntary_ctxt_switches:").zip(line("nonvoluntary_ctxt_switches:"));
        let (given, taken) = switches.context("no switches in /proc")?;
        let faults = field(10).zip(field(12)).context("no page faults in /proc")?;
        Ok(Asked {
            allocations: allocations::of(thread),
            page_faults: faults.0 + faults.1,
            switches: [given, taken],
        })
    }

    fn since(self, before: Asked) -> Asked {
        let [given, taken] = self.switches;
        Asked {
            allocations: self.allocations - before.allocations,
            page_faults: self.page_faults - before.page_faults,
            switches: [given - before.switches[0], taken - before.switches[1]],
        }
    }
}

/// What the worker of the whole path asked for while packets came.
struct Cost {
    packets: u64,
    asked: Asked,
    /// System calls by name; `None` without strace.
    calls: Option<Vec<(String, u64)>>,
}

impl Cost {
    fn measure(wire: &Wire, arguments: &str) -> Result<Cost> {
        let found = Mutex::new(None);
        let watched = || {
            let worker = thread_named("worker")?;
            let strace = Strace::attach(worker)?;
            let before = Asked::by(worker)?;
            let sent = send(arguments)?;
            std::thread::sleep(QUIET / 2);
            let asked = Asked::by(worker)?.since(before);
            let calls = strace.map(Strace::finish).transpose()?;
            *found.lock().map_err(|_| anyhow::anyhow!("the sender died"))? = Some((asked, calls));
            Ok(sent)
        };
        let outcome = race(&watched, &|signals| whole_path(wire, signals))?;
        let found = found.into_inner().map_err(|_| anyhow::anyhow!("the sender died"))?;
        let (asked, calls) = found.context("nothing was sent")?;
        Ok(Cost { packets: outcome.received, asked, calls })
    }

    fn calls(&self) -> String {
        match &self.calls {
            None => "not counted: strace is not here".to_owned(),
            Some(calls) if calls.is_empty() => "0".to_owned(),
            Some(calls) => {
                let each = calls.iter().map(|(name, count)| format!("{count} {name}"));
                each.collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn text(&self) -> String {
        let Asked { allocations, page_faults, switches: [given, taken] } = self.asked;
        format!(
            "the worker, in {} packets: system calls {}; allocations {allocations}; page faults \
             {page_faults}; switches {given} of its own, {taken} others'",
            self.packets,
            self.calls()
        )
    }

    fn markdown(&self) -> String {
        let Asked { allocations, page_faults, switches: [given, taken] } = self.asked;
        format!(
            "\nWhat the worker asked for while {} small packets came:\n\n| system calls | \
             allocations | page faults | switches of its own | switches by others |\n\
             |---|---|---|---|---|\n| {} | {allocations} | {page_faults} | {given} | {taken} |",
            self.packets,
            self.calls()
        )
    }
}

/// The thread of this process that has this name.
fn thread_named(name: &str) -> Result<u32> {
    for entry in std::fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        if std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let id = path.file_name().and_then(|id| id.to_str()?.parse().ok());
            return id.context("a thread without a number");
        }
    }
    bail!("no thread is named {name}")
}

/// strace, attached to a thread.
struct Strace {
    process: Child,
    summary: tempfile::NamedTempFile,
}

impl Strace {
    /// `None` where there is no strace.
    fn attach(thread: u32) -> Result<Option<Strace>> {
        let summary = tempfile::NamedTempFile::new()?;
        let mut strace = Command::new("strace");
        strace.args(["-c", "-p", &thread.to_string(), "-o"]).arg(summary.path());
        let mut process = match strace.stderr(Stdio::piped()).spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            spawned => spawned.context("strace")?,
        };
        // It says so once it is attached.
        let mut said = String::new();
        let output = process.stderr.take().context("strace has no output")?;
        BufReader::new(output).read_line(&mut said)?;
        ensure!(said.contains("attached"), "strace: {said}");
        Ok(Some(Strace { process, summary }))
    }

    /// System calls by name, the most frequent first.
    fn finish(mut self) -> Result<Vec<(String, u64)>> {
        kill_process(Pid::from_child(&self.process), Signal::INT)?;
        self.process.wait()?;
        let text = std::fs::read_to_string(self.summary.path())?;
        // Share, seconds, microseconds a call, calls, perhaps errors, name.
        let calls = text.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (share, calls, name) = (words.first()?, words.get(3)?, words.last()?);
            share.parse::<f64>().ok()?;
            (*name != "total").then_some(((*name).to_owned(), calls.parse().ok()?))
        });
        Ok(calls.collect())
    }
}

impl Outcome {
    fn lost(&self) -> u64 {
        self.sent - self.received
    }

    /// Packets sent a second.
    fn rate(&self) -> f64 {
        self.sent as f64 / self.seconds
    }
}

/// The rate at which nothing is lost, packets a second: from what was received of too many down, a
/// tenth at a time.
fn without_loss(
    fastest: &Outcome,
    send: &(dyn Fn(&str) -> Result<(u64, f64)> + Sync),
    receive: Receiver<'_>,
) -> Result<f64> {
    let mut rate = fastest.received as f64 / fastest.seconds;
    for _ in 0..12 {
        rate *= 0.9;
        let outcome = race(&|| send(&format!("--rate {rate:.0}/s")), receive)?;
        if outcome.lost() == 0 {
            return Ok(outcome.rate());
        }
    }
    bail!("packets are lost at {rate:.0} a second too")
}

/// Sends while `receive` receives; it ends once the sending is done and all is quiet.
fn race(send: &(dyn Fn() -> Result<(u64, f64)> + Sync), receive: Receiver<'_>) -> Result<Outcome> {
    let signals = Signals::default();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !signals.ready.load(Ordering::Relaxed) {
                if signals.done.load(Ordering::Relaxed) {
                    bail!("the receiver did not start");
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let sent = send();
            signals.done.store(true, Ordering::Relaxed);
            sent
        });
        let received = receive(&signals);
        signals.done.store(true, Ordering::Relaxed);
        let sent = sending.join().map_err(|_| anyhow::anyhow!("the sender died"))?;
        let (received, (sent, seconds)) = (received?, sent?);
        ensure!(received <= sent, "{received} packets received, {sent} sent");
        Ok(Outcome { sent, received, seconds })
    })
}

/// Whether a receiver that has `received` so far is to go on.
struct Stillness<'s> {
    signals: &'s Signals,
    last: (u64, Instant),
}

impl Stillness<'_> {
    /// From now on the receiver stands.
    fn new(signals: &Signals) -> Stillness<'_> {
        signals.ready.store(true, Ordering::Relaxed);
        Stillness { signals, last: (0, Instant::now()) }
    }

    fn goes_on(&mut self, received: u64) -> bool {
        if received != self.last.0 {
            self.last = (received, Instant::now());
        }
        !self.signals.done.load(Ordering::Relaxed) || self.last.1.elapsed() < QUIET
    }
}

fn rxdrop(wire: &Wire, signals: &Signals) -> Result<u64> {
    let memory = Memory::memfd(FRAMES as usize * 2048, HugePages::Try)?;
    let options =
        XskOptions { interface: "rx0".into(), queue: 0, mode: BindMode::Auto, busy_poll: None };
    let mut socket = XskSocket::open(&options, Umem::new(memory, FRAMES, 2048)?)?;
    let map = XskMap::open(&wire.bpf().join("rx0/xsks"))?;
    map.insert(0, &socket)?;
    let (mut received, mut still) = (0, Stillness::new(signals));
    while still.goes_on(received) {
        for _ in 0..256 {
            let each = |frame: &[u8]| {
                std::hint::black_box(frame);
            };
            received += u64::from(socket.receive(each).frames);
        }
    }
    map.remove(0)?;
    Ok(received)
}

fn whole_path(wire: &Wire, signals: &Signals) -> Result<u64> {
    let text = format!(
        "[worker]\nname = \"wire\"\nsegment_dir = \"{}\"\nidle = \"spin\"\nconfine = \"none\"\n\
         unlink_on_exit = true\n\
         [source]\nkind = \"xdp\"\ninterface = \"rx0\"\npin_dir = \"{}\"\nframes = {FRAMES}\n\
         [[feed]]\nprotocol = \"itch50-moldudp64\"\ngroup = \"{GROUP}\"\ndate = 2026-03-02\n",
        wire.dir().display(),
        wire.bpf().display(),
    );
    let config = Config::parse("wire", &text, &Overrides::default())?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !signals.done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(QUIET);
            stop.store(true, Ordering::Relaxed);
        });
        let summary = run(&config, &stop, &mut |notice| {
            if let Notice::Started(_) = notice {
                signals.ready.store(true, Ordering::Relaxed);
            }
        });
        signals.done.store(true, Ordering::Relaxed);
        let summary = summary?;
        ensure!(summary.ledger.closes(), "the ledger does not close: {summary}");
        ensure!(summary.feeds[0].packets == summary.frames, "{summary}");
        Ok(summary.frames)
    })
}

/// A ring of blocks that the kernel fills: what most capture programs use.
fn packet_ring(signals: &Signals) -> Result<u64> {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: usize = 64;
    let protocol = i32::from((libc::ETH_P_IP as u16).to_be());
    // SAFETY: no memory is involved.
    let fd =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    ensure!(fd >= 0, "no packet socket: {}", io::Error::last_os_error());
    // SAFETY: `fd` is a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let version = libc::tpacket_versions::TPACKET_V3 as i32;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
    let request = libc::tpacket_req3 {
        tp_block_size: BLOCK as u32,
        tp_block_nr: BLOCKS as u32,
        tp_frame_size: 2048,
        tp_frame_nr: (BLOCK / 2048 * BLOCKS) as u32,
        tp_retire_blk_tov: 1,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let ring = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            BLOCK * BLOCKS,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            0,
        )
    };
    ensure!(ring != libc::MAP_FAILED, "no ring: {}", io::Error::last_os_error());
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol as u16;
    let name = CString::new("rx0")?;
    // SAFETY: the name is NUL-terminated.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
    let length = size_of_val(&address) as u32;
    // SAFETY: the address is valid for its length.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    ensure!(bound == 0, "cannot bind: {}", io::Error::last_os_error());
    let (mut received, mut block, mut still) = (0u64, 0, Stillness::new(signals));
    while still.goes_on(received) {
        for _ in 0..256 {
            // `struct tpacket_block_desc`: status and number of packets are its third and fourth
            // word. The status is a word of both sides: acquire and release hand the block over.
            // SAFETY: `block` is below the number of blocks, so the header lies in the mapping,
            // page-aligned; it is read and written as atomics only.
            let header = unsafe { ring.byte_add(block * BLOCK) }.cast::<[AtomicU32; 4]>();
            // SAFETY: as above.
            let [_, _, status, packets] = unsafe { &*header };
            if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            received += u64::from(packets.load(Ordering::Relaxed));
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            block = (block + 1) % BLOCKS;
        }
    }
    // SAFETY: the mapping made above, no longer used.
    unsafe { libc::munmap(ring, BLOCK * BLOCKS) };
    Ok(received)
}

/// Datagrams in batches of 64, polled without a pause.
fn datagrams(signals: &Signals) -> Result<u64> {
    const BATCH: usize = 64;
    let group: SocketAddrV4 = GROUP.parse()?;
    let socket = UdpSocket::bind(SocketAddrV4::new(*group.ip(), group.port()))?;
    socket.join_multicast_v4(group.ip(), &Ipv4Addr::new(10, 97, 0, 2))?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(64i32 << 20))?;
    let mut bytes = vec![[0u8; 2048]; BATCH];
    let mut parts: Vec<libc::iovec> = bytes
        .iter_mut()
        .map(|one| libc::iovec { iov_base: one.as_mut_ptr().cast(), iov_len: one.len() })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: all zeroes is a valid mmsghdr.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let (mut received, mut still) = (0u64, Stillness::new(signals));
    while still.goes_on(received) {
        // SAFETY: every message points to a buffer of its own, which outlives the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        received += u64::try_from(count).unwrap_or(0);
    }
    Ok(received)
}

/// Sends a market as fast as it goes; packets sent, and the seconds that took.
fn send(arguments: &str) -> Result<(u64, f64)> {
    let mut exchange = Command::new("ip");
    exchange.args(["netns", "exec", SENDER, env!("CARGO_BIN_EXE_wiretape-exchange")]);
    exchange.args(["--sim", "--seed", "1", "--symbols", "6", "--quiet"]);
    // All packets are built before the first is sent: building has no processor of its own.
    exchange.args(["--ahead", "2048"]);
    exchange
        .args(["--group", GROUP, "--live-frames", "--interface", "tx0"])
        .args(arguments.split(' '));
    let output = exchange.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("the generator failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.map(|value| value.replace(',', "")).with_context(|| format!("no {name}: {text}"))
    };
    Ok((field("packets")?.parse()?, field("elapsed")?.parse()?))
}
