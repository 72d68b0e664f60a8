//! The socket layer and the pins on a real kernel: a veth pair in a network namespace of its own,
//! and an XDP program of seven instructions. Needs the rights to make namespaces and to load BPF
//! programs; skips with the reason without them.
//!
//! Namespaces belong to the test's thread, so everything goes with it, also after a panic.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use wiretape_capture::frames_file::FramesFile;
use wiretape_capture::pins::{CounterMap, PinError, XskMap};
use wiretape_capture::xsk::{
    BindMode, FRONT_WORDS, HugePages, Memory, OpenError, ReceiveTime, Received, Retention, Umem,
    XskOptions, XskSocket,
};
use wiretape_core::frames::{FramesReader, FramesSpec, Missed, PACKET_MAX};
use wiretape_core::segment::QueueIdentity;

/// Runs `test` on a thread with a network and a mount namespace of its own.
fn in_own_namespaces(test: fn(&Rig)) {
    let thread = std::thread::spawn(move || match Rig::new() {
        Ok(rig) => test(&rig),
        Err(reason) => println!("skipped: {reason}"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

struct Rig {
    sender: OwnedFd,
    /// bpf file system, mounted in this namespace only.
    pins: PathBuf,
    _mount_point: tempfile::TempDir,
    _link: OwnedFd,
}

impl Rig {
    fn new() -> Result<Rig, String> {
        // SAFETY: flags only; concerns the calling thread.
        check(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) })
            .map_err(|e| format!("no namespaces: {e}"))?;
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE)
            .and_then(|()| mount("bpf", dir.path(), "bpf", 0))
            .map_err(|e| format!("no bpf file system: {e}"))?;
        ip("link add va type veth peer name vb")?;
        // Without a link-local address the kernel sends nothing of its own, whose frames would be
        // counted with ours.
        ip("link set va addrgenmode none arp off up")?;
        ip("link set vb addrgenmode none arp off up")?;
        let create = |what| move |e: io::Error| format!("cannot create {what}: {e}");
        let xsks = bpf_map(17, 4, 4).map_err(create("an XSKMAP"))?;
        let counters = bpf_map(6, 128, 3).map_err(create("a per-CPU array"))?;
        let program = xdp_program(&xsks).map_err(create("an XDP program"))?;
        let link = bpf_link(&program, index_of("vb")).map_err(create("an XDP link"))?;
        pin(&xsks, &dir.path().join("xsks")).map_err(create("a pin"))?;
        pin(&counters, &dir.path().join("counters")).map_err(create("a pin"))?;
        pin(&program, &dir.path().join("prog")).map_err(create("a pin"))?;
        let sender = packet_socket(index_of("va")).map_err(create("a packet socket"))?;
        settle(&sender);
        Ok(Rig { sender, pins: dir.path().to_owned(), _mount_point: dir, _link: link })
    }

    fn options(&self, mode: BindMode) -> XskOptions {
        XskOptions { interface: "vb".into(), queue: 0, mode, busy_poll: None }
    }

    fn open(&self, frames: u32) -> (XskSocket, XskMap) {
        let socket = XskSocket::open(&self.options(BindMode::Auto), umem(frames)).unwrap();
        let map = XskMap::open(&self.pins.join("xsks")).unwrap();
        map.insert(0, &socket).unwrap();
        (socket, map)
    }

    /// As `open`, on packet memory that recorders read.
    fn open_retained<'m>(&self, file: &'m FramesFile, kept: u32) -> (XskSocket, Retention<'m>) {
        let umem = Umem::new(file.memory(0).unwrap(), 64, 2048).unwrap();
        let socket = XskSocket::open(&self.options(BindMode::Auto), umem).unwrap();
        XskMap::open(&self.pins.join("xsks")).unwrap().insert(0, &socket).unwrap();
        let writer = file.writer(0, &QueueIdentity::default()).unwrap();
        file.publish().unwrap();
        (socket, Retention::new(writer, 64, kept))
    }

    /// Sends frame number `n`, whose length and bytes follow from it.
    fn send(&self, n: u32) {
        self.send_bytes(&frame(n));
    }

    fn send_bytes(&self, frame: &[u8]) {
        let (fd, bytes) = (self.sender.as_raw_fd(), frame.as_ptr().cast());
        // SAFETY: the frame is readable for its length.
        let sent = unsafe { libc::send(fd, bytes, frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let path = CString::new(self.pins.to_str().unwrap()).unwrap();
        // SAFETY: the path is NUL-terminated.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

fn umem(frames: u32) -> Umem {
    let memory = Memory::memfd(frames as usize * 2048, HugePages::Try).unwrap();
    Umem::new(memory, frames, 2048).unwrap()
}

/// An Ethernet frame of an experimental type, so that the kernel has no use for it.
fn frame(n: u32) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xB5]);
    frame.extend(n.to_be_bytes());
    let len = 60 + (n as usize * 37) % 1440;
    frame.extend((frame.len()..len).map(|i| (i as u32 ^ n) as u8));
    frame
}

/// As `frame`, of up to 8,000 bytes; every eleventh is longer than a packet may be.
fn jumbo(n: u32) -> Vec<u8> {
    let mut frame = frame(n);
    let len = if n % 11 == 10 { PACKET_MAX + 90 } else { 60 + (n as usize * 977) % 7940 };
    let more = (frame.len()..len).map(|i| ((i as u32 * 5) ^ n) as u8);
    frame.truncate(len);
    frame.extend(more);
    frame
}

/// How many of these are not too long.
fn jumbo_is_used(numbers: std::ops::Range<u32>) -> u32 {
    numbers.filter(|n| n % 11 != 10).count() as u32
}

/// The number of one of our frames; `None` for what the kernel itself sends (IPv6 solicitations).
fn number(bytes: &[u8]) -> Option<u32> {
    let ours = bytes.get(12..14)? == [0x88, 0xB5];
    ours.then(|| u32::from_be_bytes(bytes[14..18].try_into().unwrap()))
}

/// Receives until `until` frames of ours are there or two seconds are over.
fn receive(socket: &mut XskSocket, until: usize) -> Vec<u32> {
    let (mut numbers, start) = (Vec::new(), Instant::now());
    while numbers.len() < until && start.elapsed() < Duration::from_secs(2) {
        let received = socket.receive(|bytes| {
            if let Some(n) = number(bytes) {
                assert_eq!(bytes, frame(n), "frame {n}");
                numbers.push(n);
            }
        });
        assert_eq!((received.oversize, received.invalid), (0, 0));
        if received == Received::default() {
            socket.wait(Duration::from_millis(10));
        }
    }
    numbers
}

#[test]
fn frames_arrive_whole_and_in_order_through_many_turns_of_the_rings() {
    in_own_namespaces(|rig| {
        let (mut socket, _map) = rig.open(64);
        assert!(!socket.granted().zero_copy, "veth has no zero-copy");
        let mut next = 0;
        for _ in 0..300 {
            let burst = next..next + 20;
            burst.clone().for_each(|n| rig.send(n));
            assert_eq!(receive(&mut socket, burst.len()), burst.clone().collect::<Vec<_>>());
            next = burst.end;
        }
        assert_eq!(socket.statistics().unwrap(), Default::default());
    });
}

#[test]
fn what_does_not_fit_is_counted_and_the_rest_arrives() {
    in_own_namespaces(|rig| {
        let (mut socket, _map) = rig.open(64);
        let watch = socket.statistics_handle().unwrap();
        (0..500).for_each(|n| rig.send(n));
        std::thread::sleep(Duration::from_millis(50));
        let before = receive(&mut socket, 32);
        let lost = watch.read().unwrap();
        assert_eq!(lost.rx_dropped + lost.rx_ring_full, 500 - before.len() as u64);
        assert_eq!(before, (0..before.len() as u32).collect::<Vec<_>>());
        (500..530).for_each(|n| rig.send(n));
        assert_eq!(receive(&mut socket, 30), (500..530).collect::<Vec<_>>());
    });
}

/// Writes down what it is asked, in order.
struct Asked<'a>(&'a mut Vec<&'static str>);

impl ReceiveTime for Asked<'_> {
    const LOOKS_IN_FRONT: bool = false;

    fn begin_batch(&mut self) {
        self.0.push("now");
    }

    fn of(&mut self, _: Option<[u64; FRONT_WORDS]>) -> u64 {
        self.0.push("packet");
        0
    }
}

/// A clock that is read before the look stamps what comes in between with a time at which it was not
/// there yet.
#[test]
fn the_clock_is_read_once_a_batch_when_packets_were_found() {
    in_own_namespaces(|rig| {
        let (mut socket, _map) = rig.open(64);
        let mut asked = Vec::new();
        assert_eq!(socket.receive_timed(Asked(&mut asked), None, |_, _| ()).frames, 0);
        assert_eq!(asked, [""; 0], "nothing is there");
        for _ in 0..3 {
            (0..2).for_each(|n| rig.send(n));
            let start = Instant::now();
            while asked.is_empty() && start.elapsed() < Duration::from_secs(2) {
                // Both: they are in the ring once the kernel's poll is over.
                std::thread::sleep(Duration::from_millis(10));
                socket.receive_timed(Asked(&mut asked), None, |_, _| ());
            }
            assert_eq!(std::mem::take(&mut asked), ["now", "packet", "packet"]);
        }
    });
}

/// What a recorder sees of a socket that keeps its latest 24 of 64 frames.
#[test]
fn kept_frames_are_read_by_others_until_newer_ones_take_their_place() {
    in_own_namespaces(|rig| {
        const KEPT: u64 = 24;
        let (_dir, file) = shared_frames();
        let (mut socket, mut retention) = rig.open_retained(&file, KEPT as u32);
        let words = file.words();
        let mut reader = FramesReader::attach(words, 0).unwrap();
        let (mut sent, mut read, mut missed) = (0, Vec::new(), 0);
        for round in 0..200 {
            (0..16).for_each(|n| rig.send(sent + n));
            sent += 16;
            let (mut handled, start) = (0, Instant::now());
            while handled < 16 && start.elapsed() < Duration::from_secs(2) {
                let each = |bytes: &[u8], at| {
                    assert_eq!(at, u64::from(sent));
                    handled += u32::from(number(bytes).is_some());
                };
                socket.receive_timed(u64::from(sent), Some(&mut retention), each);
            }
            assert_eq!(handled, 16);
            if round % 10 >= 7 {
                continue; // the reader pauses now and then
            }
            let mut bytes = [0; 2048];
            loop {
                match reader.read(&mut bytes) {
                    Ok(Some(packet)) => {
                        let n = number(&bytes[..packet.len]).unwrap();
                        assert_eq!(bytes[..packet.len], frame(n), "frame {n}");
                        assert_eq!((u64::from(n) + 1, 1), (packet.number, packet.frames));
                        read.push(n);
                    }
                    Ok(None) => break,
                    Err(Missed::Recycled { first, end }) => missed += end - first,
                    Err(damaged) => panic!("{damaged}"),
                }
            }
        }
        read.dedup();
        let seen = read.len() as u64 + missed;
        assert!(missed > 0 && read.len() > 1000, "{} read, {missed} missed", read.len());
        assert_eq!(seen, reader.next_packet() - 1);
        assert!(u64::from(sent) - seen <= 48, "the last rounds were not read");
        assert_eq!(socket.statistics().unwrap(), Default::default());
        let late = FramesReader::attach(words, 0).unwrap();
        assert_eq!(u64::from(sent) + 1 - late.next_packet(), KEPT);
    });
}

/// Packets of up to five frames, and longer ones that nobody can use in between.
#[test]
fn packets_of_several_frames_are_kept_and_read_as_one() {
    in_own_namespaces(|rig| {
        for device in ["va", "vb"] {
            ip(&format!("link set {device} mtu 20000")).unwrap();
        }
        let (_dir, file) = shared_frames();
        let (mut socket, mut retention) = rig.open_retained(&file, 24);
        assert!(socket.granted().multi_buffer, "this kernel has packets of several frames");
        let mut reader = FramesReader::attach(file.words(), 0).unwrap();
        let mut bytes = vec![0; PACKET_MAX];
        let (mut sent, mut used, mut read, mut missed, mut several) = (0, 0, 0, 0, 0);
        for round in 0..300 {
            for n in sent..sent + 4 {
                rig.send_bytes(&jumbo(n));
            }
            let (whole, longer) =
                (jumbo_is_used(sent..sent + 4), 4 - jumbo_is_used(sent..sent + 4));
            sent += 4;
            let (mut handled, mut oversize, start) = (Vec::new(), 0, Instant::now());
            while (handled.len() as u32, oversize) != (whole, longer) {
                assert!(start.elapsed() < Duration::from_secs(2), "{handled:?}, {oversize}");
                let each = |bytes: &[u8], _| {
                    let n = number(bytes).unwrap();
                    assert!(bytes == jumbo(n), "packet {n} as the worker sees it");
                    handled.push(n);
                };
                oversize +=
                    socket.receive_timed(u64::from(sent), Some(&mut retention), each).oversize;
            }
            used += u64::from(whole);
            if round % 10 >= 7 {
                continue; // the reader pauses now and then
            }
            loop {
                match reader.read(&mut bytes) {
                    Ok(Some(packet)) => {
                        let n = number(&bytes[..packet.len]).unwrap();
                        assert!(bytes[..packet.len] == jumbo(n), "packet {n} as a recorder does");
                        assert!(packet.frames >= packet.len.div_ceil(2048));
                        several += u32::from(packet.frames > 1);
                        read += 1;
                    }
                    Ok(None) => break,
                    Err(Missed::Recycled { first, end }) => missed += end - first,
                    Err(damaged) => panic!("{damaged}"),
                }
            }
            assert_eq!((read + missed, reader.next_packet()), (used, used + 1));
        }
        assert!(missed > 20 && read > 500 && several > 300, "{read} {several} {missed}");
        assert_eq!(socket.statistics().unwrap(), Default::default());
    });
}

fn shared_frames() -> (tempfile::TempDir, FramesFile) {
    let spec = FramesSpec { epoch: 1, queues: 1, frames: 64, frame_size: 2048 };
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = FramesFile::reserve(dir.path(), "w", spec).unwrap();
    (dir, file)
}

#[test]
fn a_queue_is_held_by_one_socket_and_free_again_after_it() {
    in_own_namespaces(|rig| {
        let (first, map) = rig.open(64);
        let error = XskSocket::open(&rig.options(BindMode::Auto), umem(64)).err().unwrap();
        assert!(error.to_string().contains("another AF_XDP socket holds"), "{error}");
        drop(first);
        let mut second = XskSocket::open(&rig.options(BindMode::Copy), umem(64)).unwrap();
        map.insert(0, &second).unwrap();
        rig.send(7);
        assert_eq!(receive(&mut second, 1), [7]);
        map.remove(0).unwrap();
        rig.send(8);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(second.receive(|_| panic!("came although it was removed")).frames, 0);
        map.remove(0).unwrap();
    });
}

#[test]
fn a_queue_that_becomes_free_late_is_waited_for() {
    in_own_namespaces(|rig| {
        let (first, _map) = rig.open(64);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(400));
                drop(first);
            });
            XskSocket::open(&rig.options(BindMode::Auto), umem(64)).unwrap();
        });
    });
}

#[test]
fn refusals_say_what_to_do() {
    in_own_namespaces(|rig| {
        let open = |options| XskSocket::open(&options, umem(64)).err().unwrap();
        let zero_copy = open(rig.options(BindMode::ZeroCopy));
        assert!(matches!(zero_copy, OpenError::Bind { .. }));
        assert!(zero_copy.to_string().contains("mode = \"auto\""), "{zero_copy}");
        let queue = open(XskOptions { queue: 99, ..rig.options(BindMode::Auto) });
        assert!(queue.to_string().contains("queue 99 of vb"), "{queue}");
        let interface = open(XskOptions { interface: "vx".into(), ..rig.options(BindMode::Auto) });
        assert!(interface.to_string().contains("lo, vb, va"), "{interface}");
    });
}

#[test]
fn pins_are_checked_before_they_are_used() {
    in_own_namespaces(|rig| {
        let counters = CounterMap::<16>::open(&rig.pins.join("counters")).unwrap();
        assert_eq!(counters.queues(), 4);
        assert_eq!(counters.read(0).unwrap(), [0; 16]);
        assert!(counters.read(9).unwrap_err().to_string().contains("for queue 9"));
        let wrong = CounterMap::<4>::open(&rig.pins.join("counters")).unwrap_err();
        assert!(matches!(wrong, PinError::Mismatch { value_size: 128, .. }), "{wrong}");
        let swapped = XskMap::open(&rig.pins.join("counters")).unwrap_err();
        assert!(swapped.to_string().contains("not an XSKMAP"), "{swapped}");
        let program = XskMap::open(&rig.pins.join("prog")).unwrap_err();
        assert!(program.to_string().contains("not an XSKMAP"), "{program}");
    });
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong) -> io::Result<()> {
    let text = |text: &str| CString::new(text).unwrap();
    let (source, target, kind) = (text(source), text(target.to_str().unwrap()), text(kind));
    let (source, target, kind) = (source.as_ptr(), target.as_ptr(), kind.as_ptr());
    // SAFETY: the texts are NUL-terminated and outlive the call; no data is passed.
    check(unsafe { libc::mount(source, target, kind, flags, std::ptr::null()) }).map(|_| ())
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|e| format!("cannot run ip: {e}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or(format!("ip {arguments}: {error}"))
}

fn index_of(interface: &str) -> u32 {
    let name = CString::new(interface).unwrap();
    // SAFETY: the name is NUL-terminated.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) })?;
    // SAFETY: a new descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    let len = size_of_val(&address) as u32;
    // SAFETY: the address is valid for its length.
    check(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
    Ok(socket)
}

/// Waits until the new pair carries frames.
fn settle(sender: &OwnedFd) {
    let start = Instant::now();
    let probe = frame(0);
    while start.elapsed() < Duration::from_secs(1) {
        // SAFETY: the frame is readable for its length.
        let sent = unsafe {
            libc::send(sender.as_raw_fd(), probe.as_ptr().cast(), probe.len(), libc::MSG_DONTWAIT)
        };
        if sent > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(20));
}

fn bpf<T>(command: i32, attribute: &mut T) -> io::Result<OwnedFd> {
    let attribute: *mut T = attribute;
    // SAFETY: each caller passes the attribute that its command reads, with live pointers.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) };
    let fd = check(fd as i32)?;
    // SAFETY: a new descriptor (BPF_OBJ_PIN returns 0 and is not called through here).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf_map(kind: u32, value_size: u32, name: u8) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct MapCreate {
        fields: [u32; 7],
        name: [u8; 16],
    }
    let mut text = [0; 16];
    text[0] = b'a' + name;
    let fields = [kind, 4, value_size, 4, 0, 0, 0];
    bpf(0, &mut MapCreate { fields, name: text })
}

/// `return bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS);`
fn xdp_program(map: &OwnedFd) -> io::Result<OwnedFd> {
    let instruction = |code: u8, registers: u8, offset: i16, immediate: i32| {
        let [o0, o1] = offset.to_ne_bytes();
        let [i0, i1, i2, i3] = immediate.to_ne_bytes();
        [code, registers, o0, o1, i0, i1, i2, i3]
    };
    let instructions = [
        instruction(0x61, 0x12, 16, 0),
        instruction(0x18, 0x11, 0, map.as_raw_fd()),
        instruction(0, 0, 0, 0),
        instruction(0xB7, 0x03, 0, 2),
        instruction(0x85, 0, 0, 51),
        instruction(0x95, 0, 0, 0),
    ];
    #[repr(C)]
    struct ProgramLoad {
        kind: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        rest: [u64; 4],
    }
    // Packets of several frames are for programs that say that they can have them.
    const BPF_F_XDP_HAS_FRAGS: u64 = 1 << 5;
    let mut load = ProgramLoad {
        kind: 6,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        rest: [0, 0, BPF_F_XDP_HAS_FRAGS << 32, 0],
    };
    bpf(5, &mut load)
}

fn bpf_link(program: &OwnedFd, index: u32) -> io::Result<OwnedFd> {
    const BPF_XDP: u32 = 37;
    const XDP_FLAGS_DRV_MODE: u32 = 4;
    bpf(28, &mut [program.as_raw_fd() as u32, index, BPF_XDP, XDP_FLAGS_DRV_MODE])
}

fn pin(object: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    let mut attribute = [path.as_ptr() as u64, object.as_raw_fd() as u64];
    let attribute: *mut [u64; 2] = &mut attribute;
    // SAFETY: BPF_OBJ_PIN reads the path and the descriptor; both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, 6, attribute, 16) } as i32).map(|_| ())
}
