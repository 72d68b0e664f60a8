//! The XDP program and the capture together, on a veth pair: real packets through AF_XDP give the
//! events that the capture file gives, and the ledger closes, with losses and without.
//!
//! Namespaces belong to the test's thread, so that everything goes with it, also after a panic.

use std::ffi::CString;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wiretape_capture::config::{Config, Overrides};
use wiretape_capture::control::ledger::{STEER_COUNTERS, STEER_WORDS};
use wiretape_capture::run::{Notice, RunError, Summary, run};
use wiretape_capture::segment_file::MappedWords;
use wiretape_capture::source::pcap::Reader;
use wiretape_core::event::Event;
use wiretape_core::segment::{Counter, SegmentView, State};
use wiretape_xdp::{Counters, Group, Load, Loaded, ModeChoice, Steering};

const INTERFACE: &str = "vb";
const GROUP: &str = "224.2.3.10:16648";

fn deep10() -> Option<PathBuf> {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let path = shared.join("data/iex/DEEP10.pcap.gz");
    let there = path.exists();
    if !there {
        println!("skipped: {} is not there", path.display());
    }
    there.then_some(path)
}

#[test]
fn capture_reads_the_counters_that_the_program_writes() {
    assert_eq!(size_of::<Counters>(), STEER_WORDS * 8);
    let expected = [
        (offset_of!(Counters, seen), Counter::XdpSeen),
        (offset_of!(Counters, passed), Counter::XdpPassed),
        (offset_of!(Counters, matched), Counter::XdpMatched),
        (offset_of!(Counters, redirected), Counter::XdpRedirected),
        (offset_of!(Counters, no_socket), Counter::XdpNoSocket),
        (offset_of!(Counters, fragments), Counter::XdpFragments),
        (offset_of!(Counters, malformed), Counter::XdpMalformed),
        (offset_of!(Counters, vlan), Counter::XdpVlan),
    ];
    assert_eq!(STEER_COUNTERS.map(|(word, counter)| (word * 8, counter)), expected);
}

#[test]
fn deep10_through_af_xdp_gives_the_events_of_the_file() {
    let Some(path) = deep10() else { return };
    in_own_namespaces(move |rig| {
        let frames = frames_of(&path);
        assert_eq!(frames.len(), 121_314);
        let live = rig.capture("live", 4096, |rig, segment| {
            rig.send_paced(&frames, segment);
        });
        let (summary, live_events) = live;
        let feed = &summary.feeds[0];
        assert_eq!((summary.frames, feed.packets, feed.malformed), (121_314, 121_314, 0));
        assert_eq!((feed.messages, feed.restarts, feed.gaps), (391_999, 11, 0));
        assert_eq!(summary.ledger.redirected, Some(121_314));
        assert!(summary.ledger.closes() && summary.ledger.lost() == 0, "{summary}");

        let pcap = Overrides { pcap: Some(path.clone()), ..rig.overrides("file") };
        let (summary, file_events) = rig.run_to_the_end(&pcap);
        assert_eq!(summary.cut.map(|cut| cut.packets_before), Some(121_314));
        assert_eq!(live_events.len(), file_events.len());
        let differing = live_events
            .iter()
            .zip(&file_events)
            .position(|(live, file)| live.without_receive_time() != file.without_receive_time());
        assert_eq!(differing, None, "index of the first event that differs");
    });
}

/// As on a trunk: the same feed with one VLAN tag, with two, and without.
#[test]
fn tagged_frames_give_the_events_of_untagged_ones() {
    let Some(path) = deep10() else { return };
    in_own_namespaces(move |rig| {
        // With two tags, longer ones would not fit the MTU.
        let mut frames = frames_of(&path);
        frames.truncate(6_000);
        frames.retain(|frame| frame.len() <= 1_400);
        let (untagged, plain) = rig.capture("plain", 4096, |rig, segment| {
            rig.send_paced(&frames, segment);
        });
        let tagged: Vec<Vec<u8>> = frames
            .iter()
            .enumerate()
            .map(|(number, frame)| {
                let (addresses, rest) = frame.split_at(12);
                let tags: &[u8] = match number % 3 {
                    0 => &[],
                    1 => &[0x81, 0x00, 0x20, 0x64],
                    _ => &[0x88, 0xA8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x64],
                };
                [addresses, tags, rest].concat()
            })
            .collect();
        let (summary, tagged) =
            rig.capture("tagged", 4096, |rig, segment| rig.send_paced(&tagged, segment));
        assert!(summary.ledger.closes() && summary.ledger.lost() == 0, "{summary}");
        let feed = |summary: &Summary| (summary.feeds[0].gaps, summary.feeds[0].messages);
        assert_eq!(feed(&summary), feed(&untagged));
        assert_eq!(plain.len(), tagged.len());
        let same = |(one, other): (&Event, &Event)| {
            one.without_receive_time() == other.without_receive_time()
        };
        assert!(plain.iter().zip(&tagged).all(same), "the events differ");
    });
}

#[test]
fn what_is_lost_is_counted_and_the_ledger_closes() {
    let Some(path) = deep10() else { return };
    in_own_namespaces(move |rig| {
        let frames = frames_of(&path);
        let (summary, _) = rig.capture("lossy", 64, |rig, segment| {
            // Far more at once than 64 frames of memory hold, while the worker may be asleep.
            frames[..20_000].iter().for_each(|frame| rig.send(frame));
            // What is not ours goes to the kernel and moves no row of the ledger.
            let mut stranger = frames[0].clone();
            stranger[33] ^= 1;
            (0..100).for_each(|_| rig.send(&stranger));
            segment.wait_until_still();
        });
        let ledger = &summary.ledger;
        assert_eq!(ledger.redirected, Some(20_000));
        assert!(ledger.closes(), "{summary}");
        assert!(ledger.lost() > 0, "64 frames held a burst of 20,000: {summary}");
        assert_eq!(summary.frames + ledger.lost(), 20_000);
        assert!(summary.feeds[0].gaps > 0, "lost packets are gaps of the feed: {summary}");
    });
}

#[test]
fn a_capture_outlives_a_replaced_program_and_ends_with_an_unloaded_one() {
    let Some(path) = deep10() else { return };
    in_own_namespaces(move |rig| {
        let frames = &frames_of(&path)[..2_000];
        let steering = Steering::at(&rig.bpf(), INTERFACE);
        let (result, _) = rig.try_capture("replaced", 4096, |rig, segment| {
            rig.send_paced(&frames[..1_000], segment);
            steering.replace(true).unwrap();
            rig.send_paced(&frames[1_000..], segment);
            steering.unload().unwrap();
            segment.wait_for(State::Ended);
        });
        let error = result.unwrap_err().to_string();
        assert!(error.contains("XDP program of vb was unloaded"), "{error}");
        // The interface is as it was, and the same name can be used again.
        rig.load().unwrap();
        let (summary, _) =
            rig.capture("replaced", 4096, |rig, segment| rig.send_paced(frames, segment));
        assert!(summary.ledger.closes(), "{summary}");
    });
}

#[test]
fn a_capture_ends_when_its_interface_goes_away() {
    in_own_namespaces(|rig| {
        let (result, _) = rig.try_capture("gone", 64, |_, segment| {
            ip(&format!("link del {INTERFACE}")).unwrap();
            segment.wait_for(State::Ended);
        });
        let error = result.unwrap_err().to_string();
        assert!(error.contains("vb receives no more"), "{error}");
    });
}

/// The whole packets of a capture file.
fn frames_of(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(path).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next().unwrap() {
        frames.push(packet.data.to_vec());
    }
    frames
}

/// A running capture's segment, as a reader sees it.
struct Segment {
    map: MappedWords,
}

impl Segment {
    /// Waits until the capture runs.
    fn attach(path: &Path) -> Segment {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(10), "no segment after 10 s");
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path);
            if let Ok(file) = file {
                let bytes = file.metadata().unwrap().len() as usize;
                let segment = Segment { map: MappedWords::map(&file, bytes).unwrap() };
                if segment.view().header().state() == State::Running {
                    return segment;
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn view(&self) -> SegmentView<'_> {
        SegmentView::attach(self.map.words()).unwrap()
    }

    fn wait_for_frames(&self, frames: u64) {
        let start = Instant::now();
        while self.view().counters().get(Counter::Frames) < frames {
            let now = self.view().counters().get(Counter::Frames);
            assert!(start.elapsed() < Duration::from_secs(20), "{now} of {frames} frames");
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn wait_for(&self, state: State) {
        let start = Instant::now();
        while self.view().header().state() != state {
            assert!(start.elapsed() < Duration::from_secs(10), "never {}", state.name());
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn wait_until_still(&self) {
        let mut seen = u64::MAX;
        loop {
            thread::sleep(Duration::from_millis(250));
            let now = self.view().counters().get(Counter::XdpSeen);
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut reader = self.view().events().reader_from_oldest();
        let mut events = Vec::new();
        while let Some((_, event)) = reader.next_event().expect("the ring holds every event") {
            events.push(event);
        }
        events
    }
}

struct Rig {
    sender: OwnedFd,
    dir: tempfile::TempDir,
}

/// Runs `test` on a thread with a network and a mount namespace of its own.
fn in_own_namespaces(test: impl FnOnce(&Rig) + Send + 'static) {
    let thread = thread::spawn(move || match Rig::new() {
        Ok(rig) => test(&rig),
        Err(reason) => println!("skipped: {reason}"),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Rig {
    fn new() -> Result<Rig, String> {
        // SAFETY: flags only; concerns the calling thread.
        check(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) })
            .map_err(|e| format!("no namespaces: {e}"))?;
        let dir = tempfile::tempdir_in("/dev/shm").map_err(|e| e.to_string())?;
        let bpf = dir.path().join("bpf");
        std::fs::create_dir(&bpf).map_err(|e| e.to_string())?;
        mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE)
            .and_then(|()| mount("bpf", &bpf, "bpf", 0))
            .map_err(|e| format!("no bpf file system: {e}"))?;
        ip("link add va type veth peer name vb")?;
        // Nothing but the test's packets: no IPv6 that announces itself.
        for command in ["va addrgenmode none up", "vb addrgenmode none up"] {
            ip(&format!("link set {command}"))?;
        }
        let sender = packet_socket("va").map_err(|e| format!("no packet socket: {e}"))?;
        let rig = Rig { sender, dir };
        rig.load().map_err(|e| format!("no XDP program: {e}"))?;
        Ok(rig)
    }

    fn bpf(&self) -> PathBuf {
        self.dir.path().join("bpf")
    }

    fn load(&self) -> Result<Loaded, wiretape_xdp::Error> {
        let group = GROUP.parse::<std::net::SocketAddrV4>().unwrap();
        let load = Load {
            interface: INTERFACE.to_owned(),
            groups: vec![Group::new(*group.ip(), group.port()).unwrap()],
            mode: ModeChoice::Native,
            pin_dir: self.bpf(),
            user_group: None,
            card: Default::default(),
            multi_buffer: true,
            receive_stamps: false,
        };
        load.run()
    }

    /// Sends no more at a time than a veth takes in (256 packets) while nobody looks, and waits until
    /// all of it was taken.
    fn send_paced(&self, frames: &[Vec<u8>], segment: &Segment) {
        let mut sent = segment.view().counters().get(Counter::Frames);
        for chunk in frames.chunks(64) {
            chunk.iter().for_each(|frame| self.send(frame));
            sent += chunk.len() as u64;
            segment.wait_for_frames(sent.saturating_sub(128));
        }
        segment.wait_for_frames(sent);
    }

    fn send(&self, frame: &[u8]) {
        loop {
            let (fd, bytes) = (self.sender.as_raw_fd(), frame.as_ptr().cast());
            // SAFETY: the frame is readable for its length.
            let sent = unsafe { libc::send(fd, bytes, frame.len(), 0) };
            if sent == frame.len() as isize {
                return;
            }
            let error = io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error}");
            thread::yield_now();
        }
    }

    fn overrides(&self, name: &str) -> Overrides {
        Overrides {
            name: Some(name.to_owned()),
            segment_dir: Some(self.dir.path().to_owned()),
            event_slots: Some(1 << 19),
            idle: Some("park".to_owned()),
            // The test's own process has more to do.
            confine: Some("none".to_owned()),
            feeds: vec![format!("deep10-iextp@{GROUP}")],
            ..Overrides::default()
        }
    }

    /// Captures live while `feed` sends, stops, and returns what the capture says and all events.
    fn capture(
        &self,
        name: &str,
        umem_frames: u32,
        feed: impl FnOnce(&Rig, &Segment),
    ) -> (Summary, Vec<Event>) {
        let (result, events) = self.try_capture(name, umem_frames, feed);
        let summary = result.unwrap();
        assert_eq!(events.len() as u64, summary.events);
        (summary, events)
    }

    /// As `capture`, for captures that may fail.
    fn try_capture(
        &self,
        name: &str,
        umem_frames: u32,
        feed: impl FnOnce(&Rig, &Segment),
    ) -> (Result<Summary, RunError>, Vec<Event>) {
        let text = format!(
            "[source]\nkind = \"xdp\"\ninterface = \"{INTERFACE}\"\npin_dir = \"{}\"\n\
             frames = {umem_frames}\n",
            self.bpf().display()
        );
        let config = Config::parse("test", &text, &self.overrides(name)).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (notices, started) = std::sync::mpsc::channel();
            let handle = scope.spawn(|| {
                let tell = &mut move |notice| match notice {
                    Notice::Prepared => {}
                    notice => notices.send(notice).unwrap(),
                };
                run(&config, &stop, tell)
            });
            let segment = Segment::attach(&self.dir.path().join(format!("{name}.seg")));
            match started.recv_timeout(Duration::from_secs(5)) {
                Ok(Notice::Started(text)) => {
                    assert!(text.contains("vb queue 0, copy mode"), "{text}");
                    assert!(text.contains("1 group joined"), "{text}");
                }
                other => panic!("{other:?}"),
            }
            // Also when the feed panics: the scope would wait for the capture for ever.
            let fed =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| feed(self, &segment)));
            stop.store(true, Ordering::Relaxed);
            let result = handle.join().unwrap();
            if let Err(panic) = fed {
                std::panic::resume_unwind(panic);
            }
            assert_eq!(segment.view().header().state(), State::Ended);
            (result, segment.events())
        })
    }

    fn run_to_the_end(&self, overrides: &Overrides) -> (Summary, Vec<Event>) {
        let config = Config::load(None, overrides).unwrap();
        let summary = run(&config, &AtomicBool::new(false), &mut |_| {}).unwrap();
        let path = &summary.segment;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let bytes = file.metadata().unwrap().len() as usize;
        let segment = Segment { map: MappedWords::map(&file, bytes).unwrap() };
        let events = segment.events();
        (summary, events)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let path = CString::new(self.bpf().to_str().unwrap()).unwrap();
        // SAFETY: the path is NUL-terminated.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
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

fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let name = CString::new(interface).unwrap();
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) })?;
    // SAFETY: a new descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // SAFETY: the name is NUL-terminated.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
    let len = size_of_val(&address) as u32;
    // SAFETY: the address is valid for its length.
    check(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
    Ok(socket)
}
