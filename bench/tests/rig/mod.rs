//! Two network namespaces, a veth pair between them, and Wiretape's own binaries in them. All of
//! it goes away with the [`Rig`], also when a test fails.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod published;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The interface in the capture namespace.
pub const FEED: &str = "feed0";
/// Its peer in the exchange namespace.
pub const WIRE: &str = "wire0";
/// In a split network, the end of the exchange's pair that lies between the two,
pub const UPSTREAM: &str = "up0";
/// and that of capture's.
pub const DOWNSTREAM: &str = "down0";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Namespaces, a work folder, and a folder for segments.
pub struct Rig {
    /// Files of the test.
    pub work: PathBuf,
    /// Segments of the test.
    pub segments: PathBuf,
    name: String,
    network: bool,
}

/// A capture file or data file of the project's shared data, if it is there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let shared = match std::env::var_os("WIRETAPE_SHARED") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    let path = shared.join("data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {name} is not in ../shared/data");
    None
}

/// One of the workspace's binaries, built beside this test.
pub fn binary(name: &str) -> PathBuf {
    let mut dir = std::env::current_exe().expect("path of the test");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join(name);
    assert!(path.exists(), "{path:?} is missing: run `cargo build --workspace --bins` first");
    path
}

impl Rig {
    /// A rig without network, for the pcap source.
    pub fn offline(test: &str) -> Rig {
        Rig::folders(test)
    }

    /// A rig with network; `None`, with the reason printed, where the rights are missing.
    pub fn network(test: &str) -> Option<Rig> {
        Rig::with_links(test, &[['x', 'c']])
    }

    /// The same with a third namespace between the two, where [`UPSTREAM`] leads to the exchange
    /// and [`DOWNSTREAM`] to capture. Nothing passes by itself.
    pub fn split_network(test: &str) -> Option<Rig> {
        Rig::with_links(test, &[['x', 'm'], ['m', 'c']])
    }

    fn with_links(test: &str, links: &[[char; 2]]) -> Option<Rig> {
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: needs root for network namespaces and XDP");
            return None;
        }
        let mut rig = Rig::folders(test);
        let (x, c) = (rig.namespace('x'), rig.namespace('c'));
        if !run("ip", &["netns", "add", &x]).status.success() {
            println!("skipped: this system cannot make network namespaces");
            return None;
        }
        rig.network = true;
        ok("ip", &["netns", "add", &c]);
        let middle = rig.namespace('m');
        if links.len() > 1 {
            ok("ip", &["netns", "add", &middle]);
        }
        let one = ["numtxqueues", "1", "numrxqueues", "1"];
        for [from, to] in links {
            let (from, from_dev) = if *from == 'x' { (&x, WIRE) } else { (&middle, DOWNSTREAM) };
            let (to, to_dev) = if *to == 'c' { (&c, FEED) } else { (&middle, UPSTREAM) };
            let near = ["link", "add", from_dev, "netns", from];
            let far = ["type", "veth", "peer", "name", to_dev, "netns", to];
            ok("ip", &[&near[..], &one[..], &far[..], &one[..]].concat());
            hold_back(from, from_dev);
        }
        for dev in [UPSTREAM, DOWNSTREAM].into_iter().filter(|_| links.len() > 1) {
            ok("ip", &["-n", &middle, "link", "set", dev, "up"]);
            ok("ip", &["netns", "exec", &middle, "ethtool", "-K", dev, "gro", "off"]);
        }
        for (ns, dev, address) in [(&x, WIRE, "10.77.0.1/24"), (&c, FEED, "10.77.0.2/24")] {
            ok("ip", &["-n", ns, "address", "add", address, "dev", dev]);
            ok("ip", &["-n", ns, "link", "set", "lo", "up"]);
            ok("ip", &["-n", ns, "link", "set", dev, "up"]);
            ok("ip", &["-n", ns, "route", "add", "224.0.0.0/4", "dev", dev]);
            // Checksums would stay unfinished on the sender, and packets be merged on the way.
            let ethtool = ["netns", "exec", ns, "ethtool", "-K", dev, "tx", "off", "gro", "off"];
            ok("ip", &ethtool);
        }
        let bpf = rig.pins();
        std::fs::create_dir(&bpf).expect("folder for the bpf file system");
        let mount = ["-t", "bpf", "bpf", bpf.to_str().expect("a path in UTF-8")];
        if !run("mount", &mount).status.success() {
            println!("skipped: this system cannot mount a bpf file system");
            return None;
        }
        Some(rig)
    }

    fn folders(test: &str) -> Rig {
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wt{}{serial}{test}", std::process::id());
        let work = std::env::temp_dir().join(&name);
        let segments = Path::new("/dev/shm").join(&name);
        for dir in [&work, &segments] {
            std::fs::create_dir_all(dir).expect("a folder of the test");
        }
        Rig { work, segments, name, network: false }
    }

    fn namespace(&self, end: char) -> String {
        format!("{}{end}", self.name)
    }

    /// Where the XDP program is pinned.
    pub fn pins(&self) -> PathBuf {
        self.work.join("bpf")
    }

    /// A command in the exchange's namespace.
    pub fn exchange(&self, name: &str) -> Command {
        self.inside('x', name)
    }

    /// A tool of the system in the exchange's namespace.
    pub fn exchange_tool(&self, name: &str) -> Command {
        self.tool('x', name)
    }

    /// Runs `body` in the exchange's namespace, on a thread of its own.
    #[allow(dead_code, reason = "not every test that shares this module needs it")]
    pub fn in_exchange<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.in_namespace('x', body)
    }

    /// The same in the namespace between the two.
    pub fn in_middle<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.in_namespace('m', body)
    }

    fn in_namespace<T: Send>(&self, end: char, body: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(end));
        let namespace = std::fs::File::open(path).expect("the namespace");
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    kind,
                )
                .expect("enter the namespace");
                body()
            });
            inside.join().expect("what ran in the namespace")
        })
    }

    /// A tool of the system in the namespace of capture.
    pub fn capture_tool(&self, name: &str) -> Command {
        self.tool('c', name)
    }

    fn tool(&self, end: char, name: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(end), name]);
        command
    }

    /// A command in the namespace of capture.
    pub fn capture(&self, name: &str) -> Command {
        self.inside('c', name)
    }

    fn inside(&self, end: char, name: &str) -> Command {
        if !self.network {
            return Command::new(binary(name));
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(end)]).arg(binary(name));
        command
    }

    /// Loads the XDP program for `groups`.
    pub fn load_xdp(&self, groups: &[&str]) {
        let mut load = self.capture("wiretape-xdp");
        load.args(["load", "--interface", FEED, "--pin-dir"]).arg(self.pins());
        for group in groups {
            load.args(["--group", group]);
        }
        succeed(&mut load);
    }

    /// Runs `ip` with these arguments, in the namespace of capture or in the exchange's.
    pub fn ip(&self, capture_side: bool, arguments: &str) -> String {
        let end = if capture_side { 'c' } else { 'x' };
        succeed(self.tool(end, "ip").args(arguments.split(' ')))
    }

    /// A second pair between the two namespaces, `wire1` and `feed1`, with `queues` queues each and
    /// the program loaded for `groups` on both pairs. It lasts as long as the process that holds
    /// its namespace.
    pub fn second_pair(&self, queues: u32, groups: &[&str]) -> Process {
        let each = format!("numtxqueues {queues} numrxqueues {queues}");
        self.ip(false, &format!("link add wire1 {each} type veth peer name feed1 {each}"));
        hold_back(&self.namespace('x'), "wire1");
        let capture_side = Process::start(self.capture_tool("sleep").arg("60"));
        // Until then it is still in the namespace that it came from.
        let comm = format!("/proc/{}/comm", capture_side.pid());
        wait_for("the namespace to be entered", || {
            std::fs::read_to_string(&comm).is_ok_and(|name| name.trim_end() == "sleep")
        });
        self.ip(false, &format!("link set feed1 netns /proc/{}/ns/net", capture_side.pid()));
        for (end, device, address) in
            [('x', "wire1", "10.79.0.1/24"), ('c', "feed1", "10.79.0.2/24")]
        {
            self.ip(end == 'c', &format!("address add {address} dev {device}"));
            self.ip(end == 'c', &format!("link set {device} up"));
            succeed(self.tool(end, "ethtool").args(["-K", device, "tx", "off", "gro", "off"]));
        }
        self.load_xdp(groups);
        let mut load = self.capture("wiretape-xdp");
        load.args(["load", "--interface", "feed1", "--pin-dir"]).arg(self.pins());
        for group in groups {
            load.args(["--group", group]);
        }
        succeed(&mut load);
        capture_side
    }

    /// The sender's card puts what processor 0 sends into queue 0, and what processor 1 sends into
    /// queue 1 of the second pair.
    pub fn spread_by_processor(&self) {
        let script = "cd /sys/class/net/wire1/queues && echo 1 > tx-0/xps_cpus && \
                      echo 2 > tx-1/xps_cpus";
        succeed(self.exchange_tool("sh").args(["-c", script]));
    }

    /// Writes a configuration file and returns its path.
    pub fn config(&self, name: &str, text: &str) -> PathBuf {
        let path = self.work.join(name);
        std::fs::write(&path, text).expect("write the configuration");
        path
    }

    /// Starts capture on a configuration and waits until its segment can be attached.
    pub fn start_capture(&self, config: &Path, worker: &str) -> Process {
        let mut command = self.capture("wiretape-capture");
        command.arg("--config").arg(config);
        let process = Process::start(&mut command);
        let segment = self.segment(worker);
        wait_for("the segment", || segment.exists());
        process
    }

    /// The path of a worker's segment.
    pub fn segment(&self, worker: &str) -> PathBuf {
        self.segments.join(format!("{worker}.seg"))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.network {
            let pins = self.pins();
            let mut unload = self.capture("wiretape-xdp");
            unload.args(["unload", "--interface", FEED, "--pin-dir"]).arg(&pins);
            let _ = unload.stdout(Stdio::null()).stderr(Stdio::null()).status();
            let _ = Command::new("umount").arg(&pins).stderr(Stdio::null()).status();
            for end in ['x', 'm', 'c'] {
                let _ = run("ip", &["netns", "del", &self.namespace(end)]);
            }
        }
        let _ = std::fs::remove_dir_all(&self.work);
        let _ = std::fs::remove_dir_all(&self.segments);
    }
}

/// A process that ends with the test.
pub struct Process {
    child: Option<Child>,
}

impl Process {
    /// Starts `command` with its output kept.
    pub fn start(command: &mut Command) -> Process {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the process");
        Process { child: Some(child) }
    }

    /// Its process id. (`ip netns exec` becomes the program that it starts.)
    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.id() as i32)
    }

    /// Fails the test if it has ended.
    pub fn expect_alive(&mut self) {
        let child = self.child.as_mut().expect("a running process");
        assert!(child.try_wait().expect("its state").is_none(), "the process ended");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill has no preconditions; the process is ours and not yet waited for.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Output {
        self.child.take().expect("a running process").wait_with_output().expect("its output")
    }

    /// Asks it to end, waits, and expects a clean exit.
    pub fn stop(self) -> String {
        self.signal(libc::SIGTERM);
        let output = self.wait();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    /// Kills it.
    pub fn kill(self) {
        self.signal(libc::SIGKILL);
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Both outputs of a process.
pub fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that must succeed and returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("start the command");
    assert!(output.status.success(), "{command:?} failed: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that must fail with a sentence, and returns the sentence.
pub fn fail(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("start the command");
    assert!(!output.status.success(), "{command:?} succeeded: {}", text(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `done`, at most two minutes.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Has what `dev` sends wait where its peer is late, and the sender after it. Without, a veth drops
/// what does not fit its 256 places, which 10 ms without a processor are enough for. Linux has veth
/// ask for the pause from 6.16 on; before, this changes nothing.
fn hold_back(namespace: &str, dev: &str) {
    let queue = ["qdisc", "add", "dev", dev, "root", "pfifo", "limit", "100000"];
    ok("tc", &[&["-n", namespace], &queue[..]].concat());
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).output().expect("start a system tool")
}

fn ok(program: &str, args: &[&str]) {
    let output = run(program, args);
    assert!(output.status.success(), "{program} {args:?} failed: {}", text(&output));
}
