//! Packets a second over a veth pair, as fast as the kernel's own generator sends them: the AF_XDP
//! socket alone (what xdpsock calls rxdrop), the whole way behind it to published events, and what
//! there is without XDP: an AF_PACKET ring (TPACKET_V3) and a UDP socket that is read with
//! recvmmsg, neither of which decodes anything here.
//!
//! Needs root, for namespaces and BPF; says so and ends without it. The generator works on one
//! processor, the receiver on another: on a machine with two, everything else is in their way.
//!
//! cargo bench -p wiretape-bench --bench wire [-- --quick] [--markdown]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wiretape_capture::config::{Config, Overrides};
use wiretape_capture::pins::XskMap;
use wiretape_capture::run::{Notice, run};
use wiretape_capture::xsk::{BindMode, HugePages, Memory, Umem, XskOptions, XskSocket};
use wiretape_xdp::{Group, Load, ModeChoice, Steering};

const GROUP: &str = "239.54.12.111:26477";
const SENDER: &str = "wtb-wire-tx";
const RECEIVER: &str = "wtb-wire-rx";
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
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: network namespaces and BPF need root");
        return Ok(());
    }
    let wire = Wire::make()?;
    if options.markdown {
        println!("| packets | receiver | sent | received | lost | of rxdrop |");
        println!("|---|---|---|---|---|---|");
    }
    let messages = if options.quick { "300k" } else { "3M" };
    for (size, arguments) in
        [("small", ["--max-payload", "200"]), ("full", ["--max-payload", "1400"])]
    {
        let window = if size == "full" { "10ms" } else { "0us" };
        let market = ["--messages", messages, "--pack-window", window];
        let send = || wire.send(&[&market[..], &arguments[..]].concat());
        let mut alone = None;
        let receivers: [(&str, Receiver<'_>); 4] = [
            ("AF_XDP socket alone (rxdrop)", &|signals| rxdrop(&wire, signals)),
            ("AF_XDP, decode, book, publish", &|signals| whole_path(&wire, signals)),
            ("AF_PACKET, TPACKET_V3", &|signals| packet_ring(signals)),
            ("UDP socket, recvmmsg", &|signals| datagrams(signals)),
        ];
        for (name, receive) in receivers {
            wire.prepare(name.starts_with("AF_XDP"))?;
            let outcome = race(&send, receive)?;
            let rate = outcome.received as f64 / outcome.seconds / 1e6;
            let base = *alone.get_or_insert(rate);
            let offered = outcome.sent as f64 / outcome.seconds / 1e6;
            let lost = 100.0 * (outcome.sent - outcome.received) as f64 / outcome.sent as f64;
            let share = rate / base;
            match options.markdown {
                true => println!(
                    "| {size} | {name} | {offered:.2} M/s | {rate:.2} M/s | {lost:.2} % | {share:.2} |"
                ),
                false => println!(
                    "{size:<6} {name:<32} {offered:>6.2} M/s sent {rate:>6.2} M/s received \
                     {lost:>6.2} % lost {share:>5.2} of rxdrop"
                ),
            }
        }
    }
    Ok(())
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
        wire.dir.path().display(),
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
    set(&fd, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
    let request = libc::tpacket_req3 {
        tp_block_size: BLOCK as u32,
        tp_block_nr: BLOCKS as u32,
        tp_frame_size: 2048,
        tp_frame_nr: (BLOCK / 2048 * BLOCKS) as u32,
        tp_retire_blk_tov: 1,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    set(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
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
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(64i32 << 20))?;
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

fn set<T>(fd: &impl AsFd, level: i32, option: i32, value: &T) -> Result<()> {
    let length = size_of::<T>() as u32;
    let value: *const T = value;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the value is readable for its length.
    let set = unsafe { libc::setsockopt(fd, level, option, value.cast(), length) };
    ensure!(set == 0, "socket option {option}: {}", io::Error::last_os_error());
    Ok(())
}

/// Two namespaces and the pair between them; this thread is in the receiver's, with a bpf file
/// system of its own.
struct Wire {
    dir: tempfile::TempDir,
}

impl Wire {
    fn make() -> Result<Wire> {
        let wire = Wire { dir: tempfile::tempdir_in("/dev/shm")? };
        for name in [SENDER, RECEIVER] {
            ip(&format!("netns add {name}"))?;
        }
        let queues = "numtxqueues 1 numrxqueues 1";
        ip(&format!(
            "-n {SENDER} link add tx0 {queues} type veth peer name rx0 netns {RECEIVER} {queues}"
        ))?;
        for (name, device, host) in [(SENDER, "tx0", 1), (RECEIVER, "rx0", 2)] {
            ip(&format!("-n {name} address add 10.97.0.{host}/24 dev {device}"))?;
            ip(&format!("-n {name} link set {device} up"))?;
            ip(&format!("-n {name} route add 224.0.0.0/4 dev {device}"))?;
            let mut ethtool = Command::new("ip");
            ethtool.args(["netns", "exec", name, "ethtool", "-K", device, "tx", "off"]);
            ensure!(ethtool.output()?.status.success(), "ethtool failed on {device}");
        }
        let namespace = File::open(format!("/run/netns/{RECEIVER}"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        // SAFETY: flags only; concerns the calling thread.
        ensure!(unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0, "no mount namespace");
        std::fs::create_dir(wire.bpf())?;
        mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE)?;
        mount("bpf", &wire.bpf(), "bpf", 0)?;
        Ok(wire)
    }

    fn bpf(&self) -> std::path::PathBuf {
        self.dir.path().join("bpf")
    }

    /// Loads the XDP program, or takes it away; what the generator sends needs the receiver to poll
    /// (NAPI), which without XDP it does for GRO.
    fn prepare(&self, xdp: bool) -> Result<()> {
        let gro = if xdp { "off" } else { "on" };
        let steering = Steering::at(&self.bpf(), "rx0");
        if !xdp && self.bpf().join("rx0").exists() {
            steering.unload().context("unload")?;
        }
        let output = Command::new("ethtool").args(["-K", "rx0", "gro", gro]).output()?;
        ensure!(output.status.success(), "ethtool failed on rx0");
        if xdp && !self.bpf().join("rx0").exists() {
            let group: SocketAddrV4 = GROUP.parse()?;
            Load {
                interface: "rx0".to_owned(),
                groups: vec![Group::new(*group.ip(), group.port())?],
                mode: ModeChoice::Native,
                pin_dir: self.bpf(),
                user_group: None,
                multi_buffer: true,
            }
            .run()?;
        }
        Ok(())
    }

    /// Sends a market as fast as it goes; packets sent, and the seconds that took.
    fn send(&self, arguments: &[&str]) -> Result<(u64, f64)> {
        let mut exchange = Command::new("ip");
        exchange.args(["netns", "exec", SENDER, env!("CARGO_BIN_EXE_wiretape-exchange")]);
        exchange.args(["--sim", "--seed", "1", "--symbols", "6", "--quiet", "--speed", "max"]);
        exchange.args(["--group", GROUP, "--live-frames", "--interface", "tx0"]).args(arguments);
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
}

impl Drop for Wire {
    fn drop(&mut self) {
        let bpf = self.bpf();
        if bpf.join("rx0").exists() {
            let _ = Steering::at(&bpf, "rx0").unload();
        }
        if let Ok(path) = CString::new(bpf.to_string_lossy().as_bytes()) {
            // SAFETY: the path is NUL-terminated.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        for name in [SENDER, RECEIVER] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("ip")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {error}");
    Ok(())
}

fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong) -> Result<()> {
    let text = |text: &str| CString::new(text);
    let target = text(&target.to_string_lossy())?;
    let (source, kind) = (text(source)?, text(kind)?);
    let (source, kind) = (source.as_ptr(), kind.as_ptr());
    // SAFETY: the texts are NUL-terminated and outlive the call; no data is passed.
    let mounted = unsafe { libc::mount(source, target.as_ptr(), kind, flags, std::ptr::null()) };
    ensure!(mounted == 0, "cannot mount: {}", io::Error::last_os_error());
    Ok(())
}
