//! Two network namespaces with a veth pair between them: what goes into one end comes out of the
//! other, as on a wire.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wiretape_xdp::{Group, Load, ModeChoice, Steering};

/// The group and port that are steered.
pub const GROUP: &str = "239.54.12.111:26477";
/// The namespace of the sender, whose end is `tx0`.
pub const SENDER: &str = "wtb-wire-tx";
const RECEIVER: &str = "wtb-wire-rx";

/// Two namespaces and the pair between them; this thread is in the receiver's, with a bpf file
/// system of its own.
pub struct Wire {
    dir: tempfile::TempDir,
}

impl Wire {
    /// `None`, with the reason printed, for who may not make them.
    pub fn make() -> Result<Option<Wire>> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: network namespaces and BPF need root");
            return Ok(None);
        }
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
        Ok(Some(wire))
    }

    /// The folder for segments and pins.
    #[allow(dead_code, reason = "not every benchmark that shares this module needs it")]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn bpf(&self) -> std::path::PathBuf {
        self.dir.path().join("bpf")
    }

    /// Loads the XDP program, or takes it away; what the generator sends needs the receiver to poll
    /// (NAPI), which without XDP it does for GRO.
    pub fn prepare(&self, xdp: bool) -> Result<()> {
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
                card: Default::default(),
                multi_buffer: true,
                receive_stamps: false,
            }
            .run()?;
        }
        Ok(())
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

/// Sets a socket option.
pub fn set_option<T>(fd: &impl AsFd, level: i32, option: i32, value: &T) -> Result<()> {
    let length = size_of::<T>() as u32;
    let value: *const T = value;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the value is readable for its length.
    let set = unsafe { libc::setsockopt(fd, level, option, value.cast(), length) };
    ensure!(set == 0, "socket option {option}: {}", io::Error::last_os_error());
    Ok(())
}
